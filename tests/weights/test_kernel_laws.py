"""Laws of all statistics of kernels and all banks: compiled, sharded, in other orders, in half precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxembed import train, weights

RNG = np.random.default_rng(0)
KERNEL = jnp.asarray(RNG.normal(size=(3, 3, 4, 16)) + 0.2, jnp.float32)
PATCHES = jnp.asarray(RNG.normal(size=(300, 9)) @ RNG.normal(size=(9, 9)), jnp.float32)
KEY = jax.random.key(0)
STATISTICS = {
    "sparsity": lambda w: weights.kernel_sparsity(w, threshold=0.5)[0],
    "entropy": lambda w: weights.variance_entropy(weights.kernel_rows(w)),
    "orthogonality": weights.filter_orthogonality,
    "quality": lambda w: jnp.stack([*weights.layer_quality(w).values()]),
    "shares": lambda w: weights.fit_kernel_basis(weights.scaled_rows(weights.kernel_rows(w)))["shares"],
}
BANKS = {
    "pca": lambda x: weights.pca_filters(x, 4),
    "k-means": lambda x: weights.kmeans_filters(KEY, x, 4, steps=5),
    "sparse": lambda x: weights.sparse_filters(KEY, x, 4, steps=10),
    "oja": lambda x: weights.oja_filters(KEY, x, 4, steps=20),
    "map": lambda x: weights.som_filters(KEY, x, (2, 2), steps=50),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_are_the_same_compiled_sharded_and_for_other_orders_of_channels(name):
    run = jax.jit(STATISTICS[name])
    found = np.asarray(run(KERNEL), np.float64)
    np.testing.assert_allclose(STATISTICS[name](KERNEL), found, atol=1e-5)
    spread = jax.device_put(KERNEL, NamedSharding(train.make_mesh(4, 2), P(None, None, "model", "data")))
    np.testing.assert_allclose(run(spread), found, atol=1e-5)
    moved = KERNEL[:, :, RNG.permutation(4)][..., RNG.permutation(16)]
    np.testing.assert_allclose(run(moved), found, atol=1e-5)
    np.testing.assert_allclose(run(-3 * KERNEL), found, atol=1e-5)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_of_half_precision_are_summed_in_full(name):
    half = KERNEL.astype(jnp.bfloat16)
    expected = STATISTICS[name](half.astype(jnp.float32))
    np.testing.assert_allclose(STATISTICS[name](half), expected, atol=1e-5)


@pytest.mark.parametrize("name", BANKS)
def test_banks_are_a_function_of_key_and_patches(name):
    found = BANKS[name](PATCHES)
    assert found.shape == (4, 9) and found.dtype == jnp.float32 and bool(jnp.isfinite(found).all())
    np.testing.assert_array_equal(BANKS[name](PATCHES), found)
    compiled = jax.jit(BANKS[name])(PATCHES)
    np.testing.assert_allclose(compiled, found, atol=1e-3)
    assert BANKS[name](PATCHES.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("name", BANKS)
def test_flat_patches_give_finite_filters(name):
    assert bool(jnp.isfinite(BANKS[name](jnp.zeros((20, 9)))).all())
