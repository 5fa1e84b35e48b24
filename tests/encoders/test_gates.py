"""Gates and what they do to maps: the invariants of sentence attention, FiLM and squeeze-and-excitation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles_regions
import pytest

from jaxembed import encoders

WIDTH, CHANNELS = 6, 5
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(3, WIDTH)).astype(np.float32)
MAPS = RNG.normal(size=(3, 4, 7, CHANNELS)).astype(np.float32)
ACTIVATIONS = ("softmax", "scaled_softmax", "sigmoid", "tanh", "none")
SHAPES = {"paper": {}, "narrow": {"expansion": 0.5, "norm": False}, "linear": {"expansion": 0}}


def drawn(channels=CHANNELS, **options):
    """Params with nothing at 0 or 1."""
    params = encoders.init_gate(jax.random.key(1), WIDTH, channels, **options)
    keys = iter(jax.random.split(jax.random.key(2), 9))
    return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(next(keys), x.shape), params)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_gate_equals_the_oracle_and_jit_equals_eager(activation, shape):
    params = drawn(**SHAPES[shape])
    eager = encoders.gate(params, VECTORS, activation=activation)
    expected = oracles_regions.gate(params, VECTORS, activation)
    np.testing.assert_allclose(eager, expected, rtol=1e-4, atol=1e-5)
    jitted = jax.jit(encoders.gate, static_argnames="activation")(params, VECTORS, activation=activation)
    np.testing.assert_allclose(jitted, eager, rtol=1e-5, atol=1e-6)


def test_a_softmax_gate_shares_one_among_the_channels():
    scale = np.asarray(encoders.gate(drawn(), 50 * VECTORS))
    assert (scale >= 0).all()
    np.testing.assert_allclose(scale.sum(axis=1), 1, rtol=1e-5)


def test_a_gate_without_a_last_layer_divides_by_the_number_of_channels():
    params = encoders.init_gate(jax.random.key(0), WIDTH, 4)
    params["mlp"]["layer_1"] = jax.tree.map(jnp.zeros_like, params["mlp"]["layer_1"])
    maps = MAPS[..., :4]
    out = encoders.modulate(maps, encoders.gate(params, VECTORS))
    np.testing.assert_array_equal(out, maps / 4)
    same = encoders.modulate(maps, encoders.gate(params, VECTORS, activation="scaled_softmax"))
    np.testing.assert_array_equal(same, maps)


def test_a_gate_is_constant_over_places():
    scale, shift = encoders.gate(drawn(), VECTORS), encoders.gate(drawn(), -VECTORS)
    out = encoders.modulate(MAPS, scale, shift)
    cut = encoders.modulate(MAPS[:, 1:3, 2:6], scale, shift)
    np.testing.assert_array_equal(cut, out[:, 1:3, 2:6])
    rolled = encoders.modulate(np.roll(MAPS, 2, axis=2), scale, shift)
    np.testing.assert_array_equal(rolled, np.roll(out, 2, axis=2))


def test_the_sentence_alone_makes_the_gate():
    params = drawn()
    same = encoders.gate(params, np.repeat(VECTORS[:1], 3, axis=0))
    np.testing.assert_allclose(same, np.repeat(same[:1], 3, axis=0), rtol=1e-6)
    swapped = encoders.gate(params, VECTORS[[1, 0, 2]])
    np.testing.assert_allclose(swapped, encoders.gate(params, VECTORS)[jnp.array([1, 0, 2])], rtol=1e-5)


def test_a_sure_gate_keeps_one_channel():
    params = drawn()
    bias = params["mlp"]["layer_1"]["bias"].at[3].set(1e4)
    params["mlp"]["layer_1"]["bias"] = bias
    out = encoders.modulate(MAPS, encoders.gate(params, VECTORS))
    np.testing.assert_allclose(out[..., 3], MAPS[..., 3], rtol=1e-6)
    assert not np.asarray(out)[..., [0, 1, 2, 4]].any()


def test_the_number_of_parameters_is_that_of_the_formula():
    for channels, wanted in ((640, 1_578_112), (32, 643_616)):
        shapes = jax.eval_shape(lambda c=channels: encoders.init_gate(jax.random.key(0), 384, c))
        count = sum(x.size for x in jax.tree.leaves(shapes))
        assert count == wanted == 384 * 1536 + 1536 + 2 * 1536 + 1536 * channels + channels


def test_the_slope_of_a_gated_channel_is_that_of_the_softmax():
    maps, logits = jnp.asarray(MAPS[0, 0, 0]), jnp.asarray(VECTORS[0, :CHANNELS])
    slope = jax.jacobian(
        lambda z: encoders.modulate(maps[None, None, None], jax.nn.softmax(z)[None])[0, 0, 0]
    )
    scale = np.asarray(jax.nn.softmax(logits))
    expected = np.asarray(maps * scale)[:, None] * (np.eye(CHANNELS) - scale)
    np.testing.assert_allclose(slope(logits), expected, atol=1e-6)


def test_permuted_channels_give_permuted_maps():
    params, turn = drawn(), np.array([3, 0, 4, 1, 2])
    turned = dict(params, mlp=dict(params["mlp"]))
    turned["mlp"]["layer_1"] = jax.tree.map(lambda x: x[..., turn], params["mlp"]["layer_1"])
    out = encoders.modulate(MAPS, encoders.gate(params, VECTORS))
    again = encoders.modulate(MAPS[..., turn], encoders.gate(turned, VECTORS))
    np.testing.assert_allclose(again, out[..., turn], rtol=1e-5)


def test_squeeze_excitation_is_the_formula_of_its_paper():
    params = encoders.init_gate(jax.random.key(0), 32, 32, expansion=1 / 16, norm=False)
    maps = RNG.normal(size=(2, 3, 5, 32)).astype(np.float32)
    first, second = (jax.tree.map(np.asarray, params["mlp"][f"layer_{i}"]) for i in range(2))
    assert first["kernel"].shape == (32, 2)
    hidden = np.maximum(maps.mean(axis=(1, 2)) @ first["kernel"] + first["bias"], 0)
    expected = 1 / (1 + np.exp(-(hidden @ second["kernel"] + second["bias"])))
    scale = encoders.squeeze_excitation(params, maps)
    np.testing.assert_allclose(scale, expected, rtol=1e-5)
    assert (np.asarray(scale) > 0).all() and (np.asarray(scale) < 1).all()


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_squeeze_excitation_equals_torchvision():
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    params = encoders.init_gate(jax.random.key(0), 32, 32, expansion=1 / 16, norm=False)
    peer = ops.SqueezeExcitation(32, 2)
    for layer, name in ((peer.fc1, "layer_0"), (peer.fc2, "layer_1")):
        kernel, bias = (np.asarray(params["mlp"][name][x]) for x in ("kernel", "bias"))
        layer.weight.data = torch.tensor(kernel.T[:, :, None, None])
        layer.bias.data = torch.tensor(bias)
    maps = RNG.normal(size=(2, 3, 5, 32)).astype(np.float32)
    with torch.no_grad():
        expected = peer(torch.tensor(maps).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    ours = encoders.modulate(maps, encoders.squeeze_excitation(params, maps))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_film_scales_and_shifts_by_the_halves_of_its_output():
    params = drawn(2 * CHANNELS, expansion=0)
    scale, shift = encoders.film(params, VECTORS)
    both = oracles_regions.gate(params, VECTORS, "none")
    np.testing.assert_allclose(scale, 1 + both[:, :CHANNELS], rtol=1e-5, atol=1e-6)
    out = encoders.modulate(MAPS, scale, shift)
    expected = MAPS * np.asarray(scale)[:, None, None] + both[:, None, None, CHANNELS:]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    nothing = jax.tree.map(jnp.zeros_like, params)
    np.testing.assert_array_equal(encoders.modulate(MAPS, *encoders.film(nothing, VECTORS)), MAPS)


def test_a_residual_is_one_more():
    scale = encoders.gate(drawn(), VECTORS)
    both = MAPS + np.asarray(encoders.modulate(MAPS, scale))
    np.testing.assert_allclose(encoders.modulate(MAPS, 1 + scale), both, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
def test_gates_and_slopes_are_finite_at_extreme_values(activation, size):
    def total(params, vectors, maps):
        return jnp.sum(encoders.modulate(maps, encoders.gate(params, vectors, activation=activation)))

    found = jax.value_and_grad(total, argnums=(0, 1, 2))(drawn(), size * VECTORS, jnp.asarray(MAPS))
    chex.assert_tree_all_finite(found)


def test_narrow_maps_keep_their_dtype_and_gates_are_wide():
    scale = encoders.gate(drawn(), jnp.asarray(VECTORS, jnp.bfloat16))
    assert scale.dtype == np.float32
    assert encoders.modulate(jnp.asarray(MAPS, jnp.bfloat16), scale).dtype == jnp.bfloat16
    assert encoders.squeeze(jnp.asarray(MAPS, jnp.bfloat16)).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: encoders.gate(p, VECTORS, activation="softplus"), "activation: 'softplus'; choose one of"),
        (lambda p: encoders.gate(p, VECTORS[:, :4]), "takes width 6"),
        (lambda p: encoders.gate(p, VECTORS[0]), "vectors: shape"),
        (lambda p: encoders.modulate(MAPS, np.ones((3, 4))), r"scale: shape \(3, 4\)"),
        (lambda p: encoders.modulate(MAPS, np.ones((3, 5)), np.ones((1, 5))), r"shift: shape \(1, 5\)"),
        (lambda p: encoders.modulate(MAPS[0], np.ones((3, 5))), "maps: shape"),
        (lambda p: encoders.squeeze(MAPS[0]), "maps: shape"),
        (lambda p: encoders.film(p, VECTORS), "params: 5 channels; draw 2 C"),
        (lambda p: encoders.init_gate(jax.random.key(0), 0, 4), "width=0, channels=4"),
        (lambda p: encoders.init_gate(jax.random.key(0), 4, 4, expansion=-1), "expansion=-1: pass"),
    ],
)
def test_wrong_arguments_of_gates_raise_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(encoders.init_gate(jax.random.key(0), WIDTH, CHANNELS))
    assert "\n" not in str(error.value)
