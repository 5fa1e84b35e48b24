"""Recurrent binarisation, against a loop in NumPy and its limits."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import vectors

RNG = np.random.default_rng(47)
X = RNG.standard_normal((12, 6)).astype(np.float32)
KEY = jax.random.key(5)


def network(layers, statistics, x, train):
    """A network of the paper's code on float64: (linear, batch norm, ReLU) and a linear layer."""
    for i in range(len(layers) - 1):
        layer, held = layers[f"hidden_{i}"], statistics[f"hidden_{i}"]
        x = x @ np.asarray(layer["kernel"], np.float64) + layer["bias"]
        mean, variance = (x.mean(0), x.var(0)) if train else (held["mean"], held["variance"])
        x = np.maximum((x - mean) / np.sqrt(variance + 1e-5) * layer["scale"] + layer["shift"], 0)
    return x @ np.asarray(layers["out"]["kernel"], np.float64) + layers["out"]["bias"]


def oracle(params, statistics, x, loops, train):
    f = x / np.linalg.norm(x, axis=1, keepdims=True)
    b = np.where(network(params["encode"], statistics["encode"], f, train) >= 0, 1.0, -1.0)
    for i in range(1, loops + 1):
        rebuilt = network(params[f"reconstruct_{i}"], statistics[f"reconstruct_{i}"], b, train)
        lengths = np.linalg.norm(rebuilt, axis=1, keepdims=True)
        residual = f - rebuilt / np.where(lengths > 0, lengths, 1)
        r = network(params[f"residual_{i}"], statistics[f"residual_{i}"], residual, train)
        b = b + 2.0**-i * np.where(r >= 0, 1.0, -1.0)
    return b


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("loops", "hidden", "blocks"), [(0, 5, 1), (2, 5, 2)])
def test_codes_equal_the_loop_and_stand_on_the_lattice(loops, hidden, blocks, train):
    params, statistics = vectors.init_recurrent(KEY, 6, 8, loops=loops, hidden=hidden, blocks=blocks)
    codes, kept = vectors.recurrent_codes(params, statistics, X, train=train)
    np.testing.assert_allclose(codes, oracle(params, statistics, X.astype(float), loops, train))
    levels = np.asarray(codes) * 2**loops
    assert (np.abs(levels) % 2 == 1).all() and np.abs(levels).max() <= 2 ** (loops + 1) - 1
    np.testing.assert_array_equal(vectors.code_levels(codes, loops), levels)
    chex.assert_trees_all_equal_shapes(kept, statistics)
    if not train:
        chex.assert_trees_all_equal(kept, statistics)
    for n in range(loops):  # every prefix is the code of fewer loops, one constant step away
        shorter, _ = vectors.recurrent_codes(params, statistics, X, train=train, loops=n)
        longer, _ = vectors.recurrent_codes(params, statistics, X, train=train, loops=n + 1)
        np.testing.assert_allclose(np.abs(longer - shorter), 2.0 ** -(n + 1))
    if loops:
        planes = vectors.levels_to_bits(vectors.code_levels(codes, loops), loops)
        short, _ = vectors.recurrent_codes(params, statistics, X, train=train, loops=0)
        np.testing.assert_array_equal(vectors.bits_to_levels(planes[:, :1]), short)


def test_one_shot_codes_are_signs_whose_cosine_is_hamming():
    params, statistics = vectors.init_recurrent(KEY, 6, 16, loops=0)
    codes, _ = vectors.recurrent_codes(params, statistics, X)
    assert set(np.unique(codes)) == {-1, 1}
    distances = np.asarray(vectors.hamming(*(vectors.pack_bits(codes),) * 2))
    cosines = np.asarray(codes) @ np.asarray(codes).T / 16
    np.testing.assert_allclose(cosines, 1 - 2 * distances / 16, atol=1e-6)


def test_running_statistics_are_those_of_torch():
    torch = pytest.importorskip("torch")
    params, statistics = vectors.init_recurrent(KEY, 6, 4, loops=0, hidden=5)
    _, kept = vectors.recurrent_codes(params, statistics, X, train=True)
    layer = torch.nn.BatchNorm1d(5)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    layer(torch.from_numpy(unit @ np.asarray(params["encode"]["hidden_0"]["kernel"])))
    found = kept["encode"]["hidden_0"]
    np.testing.assert_allclose(found["mean"], layer.running_mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["variance"], layer.running_var, rtol=1e-5)


def orthogonal(loops):
    """Identity-like heads: W and T turn by Q, R turns the code back."""
    q = jnp.asarray(np.linalg.qr(RNG.standard_normal((8, 8)))[0], jnp.float32)
    params, statistics = vectors.init_recurrent(KEY, 8, 8, loops=loops)
    for name in params:
        kernel = q.T if name.startswith("reconstruct") else q
        params[name] = {"out": {"kernel": kernel, "bias": jnp.zeros(8)}}
    return q, params, statistics


def test_turned_by_one_map_and_back_the_first_bits_are_those_of_the_uniform_quantiser():
    q, params, statistics = orthogonal(1)
    x = RNG.standard_normal((50, 8)).astype(np.float32)
    f = x / np.linalg.norm(x, axis=1, keepdims=True)
    codes, _ = vectors.recurrent_codes(params, statistics, x)
    turned = f @ np.asarray(q)
    # The code of one bit, turned back and scaled to length 1, has coordinates of 1 / sqrt(8).
    wanted = vectors.uniform_levels(turned, 1, step=8**-0.5)
    np.testing.assert_array_equal(vectors.code_levels(codes, 1), wanted)


def test_every_bit_takes_three_quarters_of_the_squared_error():
    x = RNG.uniform(-1, 1, (2000, 4)).astype(np.float32)
    errors = []
    for loops in range(5):
        step = 2.0**-loops
        levels = np.asarray(vectors.uniform_levels(x, loops, step=step))
        errors.append(np.mean((x - levels * step / 2) ** 2))
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 4, rtol=0.1)


def test_all_networks_learn_and_the_statistics_have_no_gradient():
    params, statistics = vectors.init_recurrent(KEY, 6, 8, loops=2, hidden=5)

    def loss(params, statistics):
        codes, kept = vectors.recurrent_codes(params, statistics, X, train=True)
        return jnp.sum(codes**3) + sum(jnp.sum(x) for x in jax.tree.leaves(kept))

    gradient, of_statistics = jax.jit(jax.grad(loss, (0, 1)))(params, statistics)
    chex.assert_tree_all_finite(gradient)
    for name in params:
        assert max(np.abs(g).max() for g in jax.tree.leaves(gradient[name])) > 0, name
    assert all((g == 0).all() for g in jax.tree.leaves(of_statistics))


def test_floats_pass_where_nothing_is_binarised():
    params, statistics = vectors.init_recurrent(KEY, 6, 8, loops=0, hidden=5)
    codes, _ = vectors.recurrent_codes(params, statistics, X, binarise=lambda x: x)
    f = X.astype(float) / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(codes, network(params["encode"], statistics["encode"], f, False), atol=1e-5)


def test_bad_heads_are_named():
    params, statistics = vectors.init_recurrent(KEY, 6, 8)
    refused("loops: 2 is outside 0..1", lambda: vectors.recurrent_codes(params, statistics, X, loops=2))
    refused("x: shape", lambda: vectors.recurrent_codes(params, statistics, X[:, :5]))
    refused("x: NaN has no code", lambda: vectors.recurrent_codes(params, statistics, X * jnp.nan))
    refused("loops: 9 is outside", lambda: vectors.init_recurrent(KEY, 6, 8, loops=9))
    refused("size: 0 is below 1", lambda: vectors.init_recurrent(KEY, 6, 0))
