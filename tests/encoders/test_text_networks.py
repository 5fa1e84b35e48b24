"""Classical networks over word vectors: convolution over text, and each kind as an ``encode``."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed import encoders, losses
from jaxembed.data import toy

B, T, E = 4, 6, 3
LENGTHS = np.array([6, 4, 1, 0])
MASK = np.arange(T) < LENGTHS[:, None]
TOKENS = np.random.default_rng(0).normal(size=(B, T, E)).astype(np.float32)
KINDS = {
    "mean": {},
    "cnn": {"sizes": (2, 3), "filters": 5},
    "rcnn": {"context": 4, "width": 5},
    "lstm": {"width": 5},
    "gru": {"width": 5, "bidirectional": True},
}


@functools.cache
def filters():
    params = encoders.init_text_cnn(jax.random.key(0), E, sizes=(4, 2), filters=5)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + 0.3 * rng.normal(size=p.shape).astype(np.float32), params)


def convolved(params, text):
    """The largest rectified answer of each filter to the windows of one text [n, E] that hold a word."""
    out = []
    for size in sorted(int(name.split("_")[1]) for name in params):
        kernel, bias = (np.asarray(params[f"window_{size}"][k], np.float64) for k in ("kernel", "bias"))
        zeros = np.zeros((size - 1, text.shape[1]))
        long = np.concatenate([zeros, text, zeros])
        windows = [long[i : i + size] for i in range(len(text) + size - 1)]
        out.append(np.max([np.maximum(np.einsum("ie,ief->f", w, kernel) + bias, 0) for w in windows], axis=0))
    return np.concatenate(out)


def test_convolution_equals_its_loops_with_padding_of_anything_on_either_side():
    out = jax.jit(encoders.text_cnn)(filters(), TOKENS, MASK)
    for b, n in enumerate(LENGTHS[:3]):
        np.testing.assert_allclose(out[b], convolved(filters(), TOKENS[b, :n]), atol=1e-5)
    np.testing.assert_array_equal(out[3], 0)
    moved, mask = np.full((B, T + 3, E), np.nan, np.float32), np.zeros((B, T + 3), bool)
    for b, n in enumerate(LENGTHS):
        moved[b, 2 : 2 + n], mask[b, 2 : 2 + n] = TOKENS[b, :n], True
    np.testing.assert_allclose(encoders.text_cnn(filters(), moved, mask), out, atol=1e-6)


def test_one_word_windows_are_a_max_pool_of_a_dense_layer():
    params = encoders.init_text_cnn(jax.random.key(0), E, sizes=(1,), filters=4)
    out = encoders.text_cnn(params, TOKENS, np.ones((B, T), bool))
    np.testing.assert_allclose(
        out, np.maximum(TOKENS @ np.asarray(params["window_1"]["kernel"][0]), 0).max(axis=1), atol=1e-5
    )


def network(kind, inputs=E, words=9, dropout=0.0):
    def init_embed(key):
        return {"table": {"embedding": jax.random.normal(key, (words, inputs))}}

    def embed(params, batch):
        return params["table"]["embedding"][batch["ids"]], batch["mask"]

    return encoders.text_network(
        init_embed, embed, kind=kind, inputs=inputs, dropout=dropout, **dict(KINDS[kind])
    )


BATCH = {"ids": np.random.default_rng(2).integers(0, 9, (B, T)), "mask": MASK}


@pytest.mark.parametrize("kind", KINDS)
def test_an_encode_ignores_padding_and_an_empty_text_gives_zeros(kind):
    net = network(kind)
    params = net.init(jax.random.key(0))
    out = jax.jit(net.encode)(params, BATCH)
    other = {"ids": np.where(MASK, BATCH["ids"], 7), "mask": MASK}
    np.testing.assert_allclose(net.encode(params, other), out, atol=1e-6)
    np.testing.assert_array_equal(out[3], 0)
    longer = {"ids": np.pad(BATCH["ids"], ((0, 0), (2, 3))), "mask": np.pad(MASK, ((0, 0), (2, 3)))}
    np.testing.assert_allclose(net.encode(params, longer), out, atol=1e-6)
    order = [2, 0, 3, 1]
    turned = net.encode(params, {name: x[order] for name, x in BATCH.items()})
    np.testing.assert_allclose(turned, out[np.array(order)], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_an_encode_gets_a_finite_gradient(kind):
    net = network(kind)

    def loss(params):
        return jnp.sum(jnp.sin(net.encode(params, BATCH)))

    gradients = jax.grad(loss)(net.init(jax.random.key(0)))
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))


def test_dropout_acts_where_a_key_is_given():
    net, plain = network("mean", dropout=0.5), network("mean")
    params = net.init(jax.random.key(0))
    np.testing.assert_array_equal(net.encode(params, BATCH), plain.encode(params, BATCH))
    dropped = net.encode(params, BATCH, jax.random.key(1))
    twice = 2 * plain.encode(params, BATCH)
    assert np.array_equal(dropped, np.where(dropped == 0, 0, twice))
    assert 0 < np.sum(dropped[:3] == 0) < dropped[:3].size


def fitted(kind, steps=400):
    """Accuracy on unseen texts whose label says which of two letters, far apart, comes first."""
    sets = [toy.far_order(seed, count=2048) for seed in (0, 1)]
    net = encoders.text_network(
        lambda key: {},
        lambda params, batch: (jax.nn.one_hot(batch["ids"], 8), batch["mask"]),
        kind=kind,
        inputs=8,
        **{"rcnn": {"context": 16, "width": 32}, "cnn": {"sizes": (2, 3), "filters": 32}}[kind],
    )
    batches = [{"ids": s["ids"], "mask": np.ones_like(s["ids"], bool)} for s in sets]
    params = net.init(jax.random.key(0))
    width = {"rcnn": 32, "cnn": 64}[kind]
    params |= {"head": encoders.init_mlp(jax.random.key(1), (width, 2))}
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))

    def logits(params, batch):
        return encoders.mlp(params["head"], net.encode(params, batch))

    def loss(params, rows):
        batch = {name: jnp.asarray(x)[rows] for name, x in batches[0].items()}
        labels = jnp.asarray(sets[0]["labels"])[rows]
        return losses.softmax_loss(logits(params, batch), positives=labels).mean()

    @jax.jit
    def step(params, state, key):
        rows = jax.random.randint(key, (128,), 0, 2048)
        updates, state = tx.update(jax.grad(loss)(params, rows), state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for number in range(steps):
        params, state = step(params, state, jax.random.key(number))
    return np.mean(np.argmax(logits(params, batches[1]), axis=1) == sets[1]["labels"])


@pytest.mark.slow
def test_only_contexts_see_what_stands_far_apart():
    assert fitted("rcnn") > 0.95 > 0.7 > fitted("cnn")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: encoders.init_text_cnn(jax.random.key(0), 3, sizes=()), r"sizes: \(\)"),
        (lambda: encoders.init_text_cnn(jax.random.key(0), 3, sizes=(3, 3)), r"sizes: \(3, 3\)"),
        (lambda: encoders.init_text_cnn(jax.random.key(0), 3, filters=0), "of 0 filters"),
        (
            lambda: encoders.text_cnn(filters(), TOKENS[..., :2], MASK),
            "tokens: width 2, but window_2 takes 3",
        ),
        (lambda: encoders.text_cnn(filters(), TOKENS, MASK[:2]), "mask: shape"),
        (lambda: encoders.text_network(None, None, kind="sum", inputs=3), "kind: 'sum'; pass 'mean'"),
        (lambda: network("mean", dropout=1.0), "dropout: 1.0; pass a share"),
    ],
)
def test_bad_input_is_one_clear_line(call, said):
    with pytest.raises(ValueError, match=said) as found:
        call()
    assert "\n" not in str(found.value)
