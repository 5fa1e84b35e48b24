"""Interactions of fields equal loops and public packages."""

import functools
import pathlib

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles_ctr
import pytest
from field_cases import BIAS, CROSS, RNG, VECTORS, X, drawn, wide

from jaxembed import encoders

FILE = np.load(
    pathlib.Path(__file__).parents[1] / "support" / "golden" / "interactions.npz", allow_pickle=False
)


@functools.cache
def cross_params(kind, layers=3):
    return encoders.init_cross(jax.random.key(1), 6, layers=layers, kind=kind, bias_init=BIAS, **CROSS[kind])


# Pieces


def test_the_factorisation_machine_is_the_sum_over_pairs():
    found = encoders.fm_second_order(VECTORS)
    np.testing.assert_allclose(found, oracles_ctr.fm_second_order(VECTORS), rtol=1e-5)
    np.testing.assert_allclose(found, encoders.dot_interaction(VECTORS).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(encoders.fm_second_order(VECTORS[:, :1]), 0, atol=1e-6)


@pytest.mark.parametrize("own", [False, True])
def test_dot_products_stand_row_by_row(own):
    found = encoders.dot_interaction(VECTORS, self_interaction=own)
    np.testing.assert_allclose(found, oracles_ctr.dot_interaction(VECTORS, own), rtol=1e-5, atol=1e-6)
    more = np.concatenate([VECTORS, VECTORS[:, :1]], axis=1)
    longer = encoders.dot_interaction(more, self_interaction=own)
    np.testing.assert_allclose(longer[:, : found.shape[1]], found)  # a field added last changes no place


@pytest.mark.parametrize("diagonal", [0.0, 0.7])
@pytest.mark.parametrize("activation", [None, jnp.tanh])
@pytest.mark.parametrize("kind", CROSS)
def test_cross_networks_equal_the_loops(kind, activation, diagonal):
    params = cross_params(kind)
    found = encoders.cross_network(params, X, activation=activation, diagonal=diagonal)
    loops = {"diagonal": diagonal} | ({} if activation is None else {"activation": np.tanh})
    wanted = oracles_ctr.cross_network(wide(params), X.astype(np.float64), **loops)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", CROSS)
def test_zero_weights_leave_the_input_as_it_is(kind):
    zero = jax.tree.map(jnp.zeros_like, cross_params(kind))
    np.testing.assert_array_equal(encoders.cross_network(zero, X), X)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["full", "vector", "low_rank"])
def test_layers_make_a_polynomial_of_one_degree_more(kind, layers):
    """Along a line through the origin, differences of order degree + 1 vanish and those below do not."""
    params = wide(cross_params(kind, layers))
    with jax.enable_x64(True):
        steps = np.arange(layers + 3) - (layers + 2) / 2
        points = steps[:, None] * X[0].astype(np.float64)
        values = np.asarray(jax.jit(encoders.cross_network)(params, points))
    degree = layers + 1
    assert np.abs(np.diff(values, n=degree, axis=0)).max() > 1e-5
    np.testing.assert_allclose(np.diff(values, n=degree + 1, axis=0), 0, atol=1e-8)


def test_low_rank_of_full_rank_is_full():
    params = encoders.init_cross(jax.random.key(2), 6, layers=2, kind="low_rank", rank=6, bias_init=BIAS)
    full = {"kernel": params["down"] @ params["up"], "bias": params["bias"]}
    np.testing.assert_allclose(
        encoders.cross_network(params, X, diagonal=0.1),
        encoders.cross_network(full, X, diagonal=0.1),
        rtol=1e-4,
        atol=1e-5,
    )
    q = np.linalg.qr(RNG.normal(size=(6, 6)))[0].astype(np.float32)
    wanted = {"kernel": cross_params("full")["kernel"], "bias": cross_params("full")["bias"]}
    split = {"down": wanted["kernel"] @ q, "up": jnp.tile(q.T, (3, 1, 1)), "bias": wanted["bias"]}
    np.testing.assert_allclose(
        encoders.cross_network(split, X), encoders.cross_network(wanted, X), rtol=1e-4, atol=1e-4
    )


def test_vector_is_full_with_equal_columns_and_the_bias_outside():
    params = cross_params("vector", 1)
    full = {"kernel": jnp.tile(params["weight"][:, :, None], (1, 1, 6)), "bias": jnp.zeros((1, 6))}
    inside = encoders.cross_network(full, X) + params["bias"][0]
    np.testing.assert_allclose(encoders.cross_network(params, X), inside, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("experts", [1, 3])
def test_equal_linear_experts_are_one_low_rank_layer(experts):
    low = cross_params("low_rank")
    repeat = lambda x: jnp.tile(x[:, None], (1, experts, 1, 1))  # noqa: E731
    mixture = {
        "down": repeat(low["down"]),
        "core": jnp.tile(jnp.eye(2), (3, experts, 1, 1)),
        "up": repeat(low["up"]),
        "bias": low["bias"],
        "gates": {"kernel": jnp.asarray(RNG.normal(size=(6, experts)), jnp.float32)},
    }
    found = encoders.cross_network(mixture, X, expert_activation=lambda x: x)
    np.testing.assert_allclose(found, encoders.cross_network(low, X), rtol=1e-4, atol=1e-4)


def test_a_gate_that_is_sure_picks_its_expert():
    params = cross_params("mixture", 1)
    sure = params | {"gates": {"kernel": jnp.zeros((6, 3)).at[0, 1].set(100)}}
    only = {k: v[:, 1:2] for k, v in params.items() if k in ("down", "core", "up")}
    only |= {"bias": params["bias"], "gates": {"kernel": jnp.zeros((6, 1))}}
    x = X.copy()
    x[:, 0] = 1
    np.testing.assert_allclose(encoders.cross_network(sure, x), encoders.cross_network(only, x), rtol=1e-5)


@pytest.mark.parametrize("kind", CROSS)
def test_fewer_layers_are_a_prefix(kind):
    short, long = cross_params(kind, 1), cross_params(kind, 3)
    for name in set(short) - {"gates"}:
        np.testing.assert_array_equal(short[name][0], long[name][0])
        assert not np.array_equal(long[name][0], long[name][1])
    if kind == "mixture":
        np.testing.assert_array_equal(short["gates"]["kernel"], long["gates"]["kernel"])
        assert not np.array_equal(long["down"][0, 0], long["down"][0, 1])


# Public packages


def stacked(path, count):
    return np.stack([FILE[path.format(i)] for i in range(count)])


def fuxictr(kind):
    if kind == "vector":
        path = "vector.cross_net.{}."
        return {"weight": stacked(path + "weight.weight", 2)[:, 0], "bias": stacked(path + "bias", 2)}
    if kind == "full":
        path = "full.cross_layers.{}."
        return {"kernel": np.swapaxes(stacked(path + "weight", 3), 1, 2), "bias": stacked(path + "bias", 3)}
    return {
        "down": stacked("mixture.V_list.{}", 2),
        "core": np.swapaxes(stacked("mixture.C_list.{}", 2), 2, 3),
        "up": np.swapaxes(stacked("mixture.U_list.{}", 2), 2, 3),
        "bias": stacked("mixture.bias.{}", 2)[..., 0],
        "gates": {"kernel": stacked("mixture.gating.{}.weight", 4)[:, 0].T},
    }


@pytest.mark.parametrize("kind", ["vector", "full", "mixture"])
def test_cross_networks_and_their_gradients_equal_fuxictr(kind):
    params = jax.tree.map(jnp.asarray, fuxictr(kind))
    found = encoders.cross_network(params, FILE["x"])
    np.testing.assert_allclose(found, FILE[kind], rtol=1e-4, atol=1e-4)
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(encoders.cross_network(params, x))))(jnp.asarray(FILE["x"]))
    np.testing.assert_allclose(gradient, FILE[f"{kind}_gradient"], rtol=1e-3, atol=2e-3)


def test_low_rank_with_diagonal_and_activation_equals_keras_rs():
    names = {"down": FILE["low_rank.0"], "up": FILE["low_rank.1"], "bias": FILE["low_rank.2"]}
    for layers, wanted in ((1, "low_rank"), (2, None)):
        params = {k: jnp.tile(v, (layers, *[1] * v.ndim)) for k, v in names.items()}
        found = encoders.cross_network(params, FILE["x"], activation=jnp.tanh, diagonal=0.3)
        np.testing.assert_allclose(found, FILE[wanted or "low_rank_twice"], rtol=1e-4, atol=1e-5)


def test_products_of_fields_equal_keras_rs_and_fuxictr():
    vectors = FILE["vectors"]
    np.testing.assert_allclose(encoders.dot_interaction(vectors), FILE["dot"], rtol=1e-5, atol=1e-6)
    own = encoders.dot_interaction(vectors, self_interaction=True)
    np.testing.assert_allclose(own, FILE["dot_self"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoders.fm_second_order(vectors), FILE["fm"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_pieces_keep_the_dtype_of_their_input(dtype):
    def dtype_of(f, x):
        return jax.eval_shape(f, jnp.asarray(x, dtype)).dtype

    layers = {"layer_0": {"kernel": np.zeros((6, 2), np.float32), "bias": np.zeros(2, np.float32)}}
    assert dtype_of(encoders.dot_interaction, VECTORS) == dtype
    assert dtype_of(encoders.fm_second_order, VECTORS) == jnp.float32
    assert dtype_of(functools.partial(encoders.mlp, layers), X) == dtype
    for kind in CROSS:
        assert dtype_of(functools.partial(encoders.cross_network, cross_params(kind)), X) == dtype


def test_low_precision_sums_are_accumulated_in_float32():
    """4096 products of 1: a bfloat16 sum would stop growing at 256."""
    ones = jnp.ones((1, 2, 4096), jnp.bfloat16)
    np.testing.assert_array_equal(encoders.dot_interaction(ones), [[4096]])
    np.testing.assert_array_equal(encoders.fm_second_order(ones), [4096])
    layer = {"kernel": jnp.ones((4096, 1), jnp.bfloat16), "bias": jnp.zeros(1)}
    np.testing.assert_array_equal(encoders.mlp({"layer_0": layer}, ones[:, 0]), [[4096]])
    cross = {"weight": jnp.ones((1, 4096)), "bias": jnp.zeros((1, 4096))}
    found = encoders.cross_network(cross, ones[:, 0]).astype(jnp.float32)
    np.testing.assert_allclose(found, 4097, rtol=2**-8)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: encoders.init_cross(jax.random.key(0), 4, layers=1, kind="deep"), "kind='deep'"),
        (lambda: encoders.init_cross(jax.random.key(0), 4, layers=0), "width=4, layers=0"),
        (lambda: encoders.cross_network(cross_params("full"), X[:, :5]), "x0: shape"),
        (lambda: encoders.cross_network(cross_params("full"), X[0]), "x0: shape"),
        (lambda: encoders.fm_second_order(X), "vectors: shape"),
        (lambda: encoders.dot_interaction(X), "vectors: shape"),
        (lambda: encoders.mlp(encoders.init_mlp(jax.random.key(0), (5, 1)), X), "layer_0: takes width 5"),
        (lambda: encoders.dlrm(drawn("dlrm"), VECTORS), "dense: missing"),
        (lambda: encoders.deepfm(drawn("deepfm"), VECTORS), "layer_0: takes width"),
        (lambda: encoders.dcn(drawn("dcn full"), VECTORS), "x0: shape"),
    ],
)
def test_errors_name_the_argument(call, text):
    with pytest.raises(ValueError, match=f"^{text}") as error:
        call()
    assert "\n" not in str(error.value)
