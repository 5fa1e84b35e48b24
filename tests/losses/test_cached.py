"""Cached encoders: the gradient of the whole batch in the memory of a chunk."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from layered_encoder import QUICK, B, D, L, T, encoder, halves, make_batch, params

from jaxembed import losses, train


def encode(params, batch, key=None):
    """Queries and documents at once: ids [B, 2, T] -> [B, 2, D]."""
    flat = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), batch)
    return encoder().hidden(params, flat, key)["layers"][:, -1].reshape(-1, 2, D)


# Cached encoders


@functools.cache
def big_batch(chunks):
    """(params, batch, key) -> (loss, gradient) with vectors of all chunks in one softmax; None is plain."""
    wrapped = encode if chunks is None else losses.cached(encode, chunks)

    def total(params, batch, key):
        vectors = wrapped(params, batch, key)
        return jnp.mean(losses.info_nce(vectors[:, 0], vectors[:, 1]))

    return jax.jit(jax.value_and_grad(total))


@pytest.mark.parametrize("chunks", [1, 4, B])
def test_a_cached_gradient_is_that_of_the_whole_batch(chunks):
    batch = make_batch()
    value, gradient = big_batch(None)(params(), batch, None)
    cached_value, cached_gradient = big_batch(chunks)(params(), batch, None)
    np.testing.assert_allclose(cached_value, value, rtol=1e-6)
    flat, cached_flat = (
        np.concatenate([np.ravel(g) for g in jax.tree.leaves(x)]) for x in (gradient, cached_gradient)
    )
    assert np.linalg.norm(cached_flat - flat) < 1e-5 * np.linalg.norm(flat)


def test_each_chunk_draws_its_own_noise_and_the_same_in_both_passes():
    noisy = encoder(dropout=0.3)

    def encode(params, batch, key=None):
        return noisy.hidden(params, batch, key)["layers"][:, -1]

    batch, key = halves(make_batch())[0], jax.random.key(4)

    def total(params, chunks):
        if chunks:
            return jnp.sum(losses.cached(encode, chunks)(params, batch, key) ** 3)
        parts = [jax.tree.map(lambda x, c=c: x[c::4], batch) for c in range(4)]
        return sum(jnp.sum(encode(params, p, jax.random.fold_in(key, c)) ** 3) for c, p in enumerate(parts))

    found = jax.jit(jax.value_and_grad(lambda p: total(p, 4)), compiler_options=QUICK)(params())
    expected = jax.jit(jax.value_and_grad(lambda p: total(p, None)), compiler_options=QUICK)(params())
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


def test_rows_keep_their_order_and_trees_go_through():
    batch = {"x": jnp.arange(12.0)[:, None], "more": {"y": jnp.arange(12)}}

    def encode(params, batch, key=None):
        return {"double": params * batch["x"], "same": batch["more"]["y"]}

    found = losses.cached(encode, 3)(2.0, batch)
    np.testing.assert_array_equal(found["double"], 2 * batch["x"])
    np.testing.assert_array_equal(found["same"], batch["more"]["y"])


def memory(chunks, rows):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (params(), make_batch(rows)))
    return big_batch(chunks).lower(*shapes, None).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.usefixtures("optimized")
def test_the_memory_of_a_cached_step_does_not_grow_with_the_batch():
    small, large = 64, 256
    cached, plain = (
        [memory(c(rows), rows) for rows in (small, large)] for c in (lambda r: r // 16, lambda r: None)
    )
    growth, plain_growth = cached[1] - cached[0], plain[1] - plain[0]
    # What grows: a few copies of the vectors and the inputs, and the scores of all pairs.
    vectors, inputs, scores = (
        2 * (large - small) * D * 4,
        2 * (large - small) * T * 5,
        (large**2 - small**2) * 4,
    )
    assert growth < 6 * vectors + 4 * inputs + 6 * scores
    assert plain_growth > 192 * L * T * D * 4 * 2
    assert cached[1] < plain[1] / 2


@pytest.mark.usefixtures("optimized")
def test_a_sharded_cached_step_is_the_unsharded_one_and_leaves_its_inputs_in_place():
    batch = make_batch(32)
    expected = big_batch(4)(params(), batch, None)
    mesh = train.make_mesh(8, 1)
    placed = jax.device_put(batch, NamedSharding(mesh, P("data")))
    everywhere = jax.device_put(params(), NamedSharding(mesh, P()))
    found = jax.tree.map(np.asarray, big_batch(4)(everywhere, placed, None))
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)

    def lone(params, batch):  # no loss that lets vectors of different devices meet
        return jnp.sum(losses.cached(encode, 4)(params, batch) ** 2)

    program = jax.jit(jax.grad(lone)).lower(everywhere, placed).compile().as_text()
    assert "all-gather" not in program
    assert "all-to-all" not in program
    assert "all-reduce" in program  # the gradients of the parameters


@pytest.mark.parametrize(
    ("chunks", "batch", "message"),
    [
        (3, {"x": np.ones((8, 2))}, "chunks: 3 does not divide the batch of 8 rows"),
        (2, {"x": np.ones((8, 2)), "y": np.ones(4)}, "batch: leaves lead with"),
        (2, {"x": np.ones((8, 2)), "y": np.ones(())}, "batch: leaves lead with"),
        (0, None, "chunks: 0"),
    ],
)
def test_wrong_chunks_and_batches_raise(chunks, batch, message):
    with pytest.raises(ValueError, match=message):
        losses.cached(lambda p, b, k: b["x"], chunks)(None, batch)
