"""Recurrent networks and RCNN equal their loops and torch, ignore padding on both sides, and train."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxembed import encoders

B, T, E, H = 4, 6, 3, 5
KINDS = ("tanh", "gru", "lstm")
LENGTHS = np.array([6, 4, 1, 0])
RIGHT = np.arange(T) < LENGTHS[:, None]  # padding after the text
TOKENS = np.random.default_rng(0).normal(size=(B, T, E)).astype(np.float32)


def shaken(params, seed=1):
    """Params with noise, so that no bias and no start is 0."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + 0.3 * rng.normal(size=p.shape).astype(np.float32), params)


@functools.cache
def network(kind, layers=1, bidirectional=False):
    return shaken(
        encoders.init_rnn(jax.random.key(0), E, H, kind=kind, layers=layers, bidirectional=bidirectional)
    )


@functools.cache
def rcnn_params(kind="tanh"):
    return shaken(encoders.init_rcnn(jax.random.key(2), E, context=4, width=H, kind=kind))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(params, x, h, c, kind):
    """One step of the formula for one token [E]: (h, c)."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    a = x @ p["input"]["kernel"] + p["input"]["bias"]
    s = h @ p["state"]["kernel"] + p["state"]["bias"]
    if kind == "tanh":
        return np.tanh(a + s), c
    if kind == "lstm":
        i, f, g, o = np.split(a + s, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (ar, az, an), (sr, sz, sn) = np.split(a, 3), np.split(s, 3)
    z = sigmoid(az + sz)
    return (1 - z) * np.tanh(an + sigmoid(ar + sr) * sn) + z * h, c


def run_cell(params, text, kind, before=False):
    """States of the tokens of one text [n, E], first to last."""
    width = params["state"]["kernel"].shape[0]
    h, c, out = np.asarray(params.get("start", np.zeros(width)), np.float64), np.zeros(width), []
    for x in text:
        new, c = cell(params, x, h, c, kind)
        out.append(h if before else new)
        h = new
    return np.array(out).reshape(len(text), width)


def run_network(params, text, kind):
    for layer in params.values():
        parts = [run_cell(layer["forward"], text, kind)]
        if "backward" in layer:
            parts.append(run_cell(layer["backward"], text[::-1], kind)[::-1])
        text = np.concatenate(parts, axis=1)
    return text


def run_rcnn(params, text, kind):
    left = run_cell(params["left"], text, kind, before=True)
    right = run_cell(params["right"], text[::-1], kind, before=True)[::-1]
    x = np.concatenate([left, text, right], axis=1)
    y = np.tanh(x @ np.asarray(params["dense"]["kernel"]) + np.asarray(params["dense"]["bias"]))
    return y.max(axis=0)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_equal_their_loops_under_jit_too(kind, layers, bidirectional):
    params = network(kind, layers, bidirectional)
    out = jax.jit(functools.partial(encoders.rnn, kind=kind))(params, TOKENS, RIGHT)
    for b, n in enumerate(LENGTHS):
        np.testing.assert_allclose(out[b, :n], run_network(params, TOKENS[b, :n], kind), atol=1e-5)
        np.testing.assert_array_equal(out[b, n:], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_rcnn_equals_its_loops_and_a_text_without_tokens_gives_zeros(kind):
    out = encoders.rcnn(rcnn_params(kind), TOKENS, RIGHT, kind=kind)
    for b, n in enumerate(LENGTHS[:3]):
        np.testing.assert_allclose(out[b], run_rcnn(rcnn_params(kind), TOKENS[b, :n], kind), atol=1e-5)
    np.testing.assert_array_equal(out[3], 0)


def padded_left(x):
    """The texts of TOKENS, their padding before them and two places more."""
    out = np.full((B, T + 2, *x.shape[2:]), np.nan, np.float32)
    for b, n in enumerate(LENGTHS):
        out[b, T + 2 - n :] = x[b, :n]
    return out


LEFT = np.arange(T + 2) >= T + 2 - LENGTHS[:, None]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_the_left_holding_anything_changes_nothing(kind):
    for params in (network(kind, 2, True), network(kind)):
        right = encoders.rnn(params, TOKENS, RIGHT, kind=kind)
        left = encoders.rnn(params, padded_left(TOKENS), LEFT, kind=kind)
        for b, n in enumerate(LENGTHS):
            np.testing.assert_allclose(left[b, T + 2 - n :], right[b, :n], atol=1e-6)
    np.testing.assert_allclose(
        encoders.rcnn(rcnn_params(kind), padded_left(TOKENS), LEFT, kind=kind),
        encoders.rcnn(rcnn_params(kind), TOKENS, RIGHT, kind=kind),
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_differences_and_padding_has_none(kind):
    both = {"rnn": network(kind, 1, True), "rcnn": rcnn_params(kind)}

    @jax.jit
    def total(params, tokens):
        states = encoders.rnn(params["rnn"], tokens, RIGHT, kind=kind)
        text = encoders.rcnn(params["rcnn"], tokens, RIGHT, kind=kind)
        return jnp.sum(jnp.sin(states)) + jnp.sum(jnp.sin(text))

    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (both, TOKENS))
        check_grads(total, wide, order=1, modes=["rev"], atol=1e-5, rtol=1e-5)
    spoiled = np.where(RIGHT[..., None], TOKENS, np.nan)
    params, tokens = jax.grad(total, argnums=(0, 1))(both, spoiled)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(params))
    np.testing.assert_array_equal(tokens[~RIGHT], 0)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(params))


def swapped(params):
    """RCNN's params for texts read from the end: left and right change places."""
    kernel = params["dense"]["kernel"]
    left, token, right = kernel[:4], kernel[4 : 4 + E], kernel[4 + E :]
    dense = {"kernel": jnp.concatenate([right, token, left]), "bias": params["dense"]["bias"]}
    return {"left": params["right"], "right": params["left"], "dense": dense}


def test_rcnn_of_a_reversed_text_with_swapped_sides_is_the_same():
    out = encoders.rcnn(rcnn_params(), TOKENS, RIGHT)
    turned = encoders.rcnn(swapped(rcnn_params()), TOKENS[:, ::-1], RIGHT[:, ::-1])
    np.testing.assert_allclose(turned, out, atol=1e-6)
    same = encoders.rcnn(rcnn_params(), TOKENS[:, ::-1], RIGHT[:, ::-1])
    assert np.abs(same - out)[:2].max() > 0.01  # the order matters otherwise


def test_rcnn_without_recurrence_is_a_max_pool_of_words():
    params = rcnn_params()
    cut = {s: jax.tree.map(jnp.zeros_like, params[s]) for s in ("left", "right")} | {"dense": params["dense"]}
    order = np.random.default_rng(3).permutation(T)
    whole = np.ones((B, T), bool)
    np.testing.assert_allclose(
        encoders.rcnn(cut, TOKENS[:, order], whole), encoders.rcnn(cut, TOKENS, whole), atol=1e-6
    )


def test_the_last_states_of_both_directions_have_read_everything():
    params = network("gru", 1, True)
    out = encoders.end_pool(encoders.rnn(params, TOKENS, RIGHT, kind="gru"), RIGHT)
    for b, n in enumerate(LENGTHS[:3]):
        states = run_network(params, TOKENS[b, :n], "gru")
        np.testing.assert_allclose(out[b], np.concatenate([states[-1, :H], states[0, H:]]), atol=1e-5)
    np.testing.assert_array_equal(out[3], 0)
    left = encoders.end_pool(encoders.rnn(params, padded_left(TOKENS), LEFT, kind="gru"), LEFT)
    np.testing.assert_allclose(left, out, atol=1e-6)


def test_dropout_between_layers_keeps_the_mean_and_needs_a_key():
    params = network("gru", 2)
    plain = encoders.rnn(params, TOKENS, RIGHT, kind="gru", dropout=0.5)
    np.testing.assert_array_equal(plain, encoders.rnn(params, TOKENS, RIGHT, kind="gru"))
    dropped = encoders.rnn(params, TOKENS, RIGHT, kind="gru", dropout=0.5, key=jax.random.key(0))
    assert np.abs(dropped - plain).max() > 0.01
    one = network("gru")  # nothing stands between the layers of one
    np.testing.assert_array_equal(
        encoders.rnn(one, TOKENS, RIGHT, kind="gru", dropout=0.5, key=jax.random.key(0)),
        encoders.rnn(one, TOKENS, RIGHT, kind="gru"),
    )


def test_half_precision_stays_and_large_values_stay_finite():
    params = network("lstm", 2, True)
    out = encoders.rnn(params, jnp.asarray(1e4 * TOKENS, jnp.bfloat16), RIGHT)
    assert out.dtype == jnp.bfloat16 and np.isfinite(np.asarray(out, np.float32)).all()
    narrow = encoders.rcnn(rcnn_params(), jnp.asarray(TOKENS, jnp.bfloat16), RIGHT)
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(narrow, np.float32), encoders.rcnn(rcnn_params(), TOKENS, RIGHT), atol=0.05
    )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: encoders.init_rnn(jax.random.key(0), 3, 4, kind="sru"), "kind: 'sru'; pass one of"),
        (lambda: encoders.init_rnn(jax.random.key(0), 3, 0), "width: 0 is below 1"),
        (lambda: encoders.init_rnn(jax.random.key(0), 3, 4, layers=0), "layers: 0 is below 1"),
        (lambda: encoders.init_rcnn(jax.random.key(0), 3, context=0), "context: 0 is below 1"),
        (lambda: encoders.rnn(network("gru"), TOKENS, RIGHT), "params: 3 gates of width 5, but kind='lstm'"),
        (lambda: encoders.rnn(network("lstm"), TOKENS[..., :2], RIGHT), "tokens: takes width 3"),
        (lambda: encoders.rnn(network("lstm"), TOKENS, RIGHT[:, :2]), r"mask: shape \(4, 2\)"),
        (lambda: encoders.rcnn(rcnn_params(), TOKENS[0], RIGHT), r"tokens: shape \(6, 3\)"),
    ],
)
def test_bad_input_is_one_clear_line(call, said):
    with pytest.raises(ValueError, match=said) as found:
        call()
    assert "\n" not in str(found.value)


@pytest.mark.peers
@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_agree_with_torch_on_the_same_weights(kind):
    torch = pytest.importorskip("torch")
    params = network(kind, 2, True)
    peer = {"tanh": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[kind]
    net = peer(E, H, num_layers=2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for i, side in [(i, s) for i in range(2) for s in ("forward", "backward")]:
            suffix, own = f"l{i}{'_reverse' * (side == 'backward')}", params[f"layer_{i}"][side]
            for name, short in (("input", "ih"), ("state", "hh")):
                getattr(net, f"weight_{short}_{suffix}").copy_(torch.tensor(np.array(own[name]["kernel"]).T))
                getattr(net, f"bias_{short}_{suffix}").copy_(torch.tensor(np.array(own[name]["bias"])))
    lengths = LENGTHS[:3]
    tokens = torch.tensor(TOKENS[:3], requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(tokens, torch.tensor(lengths), batch_first=True)
    out, _ = torch.nn.utils.rnn.pad_packed_sequence(net(packed)[0], batch_first=True)
    torch.sin(out).sum().backward()

    def total(params, tokens):
        states = encoders.rnn(params, tokens, RIGHT[:3], kind=kind)
        return jnp.sum(jnp.sin(states)), states

    (ours, by_token), states = jax.grad(total, argnums=(0, 1), has_aux=True)(params, TOKENS[:3])
    np.testing.assert_allclose(states, out.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(by_token, tokens.grad.numpy(), atol=1e-5)
    for name, short in (("input", "ih"), ("state", "hh")):
        theirs = getattr(net, f"weight_{short}_l1_reverse").grad.numpy().T
        np.testing.assert_allclose(ours["layer_1"]["backward"][name]["kernel"], theirs, atol=1e-4)
