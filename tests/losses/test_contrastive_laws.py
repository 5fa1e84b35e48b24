"""Laws that every contrastive loss obeys: shapes, permutations, masks, extremes, shards, gradients."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.sharding import PartitionSpec as P
from loss_families import BLOCKS, B, D, N, columns, scores_loss, vectors

from jaxembed import losses, train


def nested(loss):
    return losses.matryoshka(loss, sizes=(2, 4, D), weights=(0.5, 1.0, 2.0))


def with_blocks(blocks):
    return functools.partial(losses.info_nce, blocks=blocks)


def layered(loss):
    """over_layers behind the signature of a loss on vectors: layers are turned and halved copies."""
    over = losses.over_layers(loss, [(1, 2), (2, D)], (0.5, 2.0))

    def run(*vectors, **options):
        stacks = (
            jnp.stack([jnp.full_like(x, jnp.nan), x[:, ::-1], x / 2], axis=1)
            for x in map(jnp.asarray, vectors)
        )
        return over(*stacks, **options)

    return run


FAMILY = {"softmax_loss": (scores_loss, None), "sigmoid_loss": (losses.sigmoid_loss, ("qd",))}
FAMILY["softmax_loss each alone"] = (functools.partial(scores_loss, compete=False), None)
FAMILY |= {"info_nce " + "+".join(blocks): (with_blocks(blocks), blocks) for blocks in BLOCKS}
FAMILY["sampled_softmax"] = (losses.sampled_softmax, ("qd",))
NESTED = ("softmax_loss", "info_nce qd", "info_nce qd+qq+dd", "info_nce qd+qq+dd+dq")
FAMILY |= {"nested " + name: (nested(FAMILY[name][0]), FAMILY[name][1]) for name in NESTED}
FAMILY |= {f"layered {name}": (layered(FAMILY[name][0]), FAMILY[name][1]) for name in ("info_nce qd",)}
COSINE = [name for name, (_, blocks) in FAMILY.items() if blocks]
SOFTMAX = [name for name in FAMILY if name != "sigmoid_loss"]  # without negatives their loss is 0


@functools.cache
def compiled(name):
    """(queries, documents, where) -> (loss [B], gradients of its sum)."""
    loss, _ = FAMILY[name]

    def total(q, d, where):
        value = loss(q, d, where=where)
        return jnp.sum(value), value

    def run(q, d, where):
        gradients, value = jax.grad(total, argnums=(0, 1), has_aux=True)(q, d, where)
        return value, gradients

    return jax.jit(run)


def all_pairs(name):
    return np.ones((B, columns(FAMILY[name][1])), bool)


# Laws that every loss obeys


@pytest.mark.parametrize("name", FAMILY)
def test_one_loss_per_row_and_jit_equals_eager(name):
    q, d = vectors()
    eager = FAMILY[name][0](jnp.asarray(q), jnp.asarray(d))
    assert eager.shape == (B,)
    assert eager.dtype == np.float32
    np.testing.assert_allclose(compiled(name)(q, d, all_pairs(name))[0], eager, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAMILY)
def test_permuting_rows_permutes_the_losses(name):
    q, d = vectors()
    order = np.array([3, 0, 4, 1, 2])
    value, (dq, dd) = compiled(name)(q, d, all_pairs(name))
    moved = np.concatenate([d[order], d[B:][::-1]])
    value2, (dq2, dd2) = compiled(name)(q[order], moved, all_pairs(name))
    np.testing.assert_allclose(value2, value[order], atol=1e-5)
    np.testing.assert_allclose(dq2, dq[order], atol=1e-4)
    np.testing.assert_allclose(dd2, np.concatenate([dd[order], dd[B:][::-1]]), atol=1e-4)


@pytest.mark.parametrize("name", FAMILY)
def test_dropping_the_pairs_of_a_document_removes_the_document(name):
    q, d = vectors()
    where = all_pairs(name)
    where[:, N - 1] = False
    if "dd" in (FAMILY[name][1] or ()):
        where[:, N + B * ("qq" in FAMILY[name][1]) + N - 1] = False
    spoiled = np.concatenate([d[:-1], np.full((1, D), 7.0, np.float32)])
    value, (dq, dd) = compiled(name)(q, spoiled, where)
    loss, _ = FAMILY[name]
    expected = loss(jnp.asarray(q), jnp.asarray(d[:-1]))
    np.testing.assert_allclose(value, expected, atol=1e-5)
    assert not np.asarray(dd)[-1].any()
    assert np.asarray(dq).any()
    spoiled[-1] = np.nan
    np.testing.assert_allclose(compiled(name)(q, spoiled, where)[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("size", [1e4, -1e4, 1e-20, 0.0])
def test_finite_at_extreme_values_and_zero_vectors(name, size):
    q, d = vectors()
    where = all_pairs(name)
    chex.assert_tree_all_finite(compiled(name)(size * q, d, where))
    chex.assert_tree_all_finite(compiled(name)(np.float32(size) * np.sign(q), np.sign(d) * 1e4, where))
    d[1] = q[2] = 0
    chex.assert_tree_all_finite(compiled(name)(q, d, where))


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_row_without_negatives_has_loss_zero_and_no_gradient(name):
    q, d = vectors()
    where = all_pairs(name)
    where[2] = False
    value, (dq, _) = compiled(name)(q, d, where)
    assert value[2] == 0
    assert (np.asarray(value)[[0, 1, 3, 4]] > 0).all()
    # Rows 0, 1, 3 and 4 still use query 2 as a candidate where queries are candidates.
    if not {"qq", "dq"} & set(FAMILY[name][1] or ()):
        np.testing.assert_allclose(dq[2], 0, atol=1e-6)
    value, gradients = compiled(name)(q, d, np.zeros_like(where))
    assert not value.any()
    chex.assert_trees_all_close(gradients, jax.tree.map(jnp.zeros_like, gradients), atol=1e-6)


@pytest.mark.parametrize("name", FAMILY)
def test_positives_survive_any_mask(name):
    q, d = vectors()
    where = all_pairs(name)
    where[np.arange(B), np.arange(B)] = False
    chex.assert_trees_all_equal(compiled(name)(q, d, where), compiled(name)(q, d, all_pairs(name)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_dropped_scores_may_hold_anything(bad):
    rng = np.random.default_rng(0)
    scores, where = rng.normal(size=(4, 6)).astype(np.float32), rng.random((4, 6)) < 0.5
    where |= np.eye(4, 6, dtype=bool)

    @jax.jit
    def run(scores):
        return jax.value_and_grad(lambda s: jnp.sum(losses.softmax_loss(s, where=where)))(scores)

    clean = run(scores)
    chex.assert_tree_all_finite(clean)
    chex.assert_trees_all_equal(run(np.where(where, scores, bad).astype(np.float32)), clean)
    assert not np.asarray(clean[1])[~where].any()


@pytest.mark.parametrize("name", FAMILY)
def test_sharded_equals_unsharded(name):
    rng = np.random.default_rng(0)
    q, d = rng.normal(size=(8, D)).astype(np.float32), rng.normal(size=(16, D)).astype(np.float32)
    where = rng.random((8, columns(FAMILY[name][1], 8, 16))) < 0.8
    expected = compiled(name)(q, d, where)
    placed = jax.device_put((q, d, where), jax.sharding.NamedSharding(train.make_mesh(2, 4), P("data")))
    result = jax.tree.map(np.asarray, compiled(name)(*placed))
    chex.assert_trees_all_close(result, expected, atol=2e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_bfloat16_vectors_accumulate_in_float32(name):
    q, d = (jnp.asarray(v, jnp.bfloat16) for v in vectors())
    loss, _ = FAMILY[name]
    if "softmax" in name:
        wide = loss  # its scores are bfloat16 already
        value = losses.softmax_loss(q @ d.T)
        expected = losses.softmax_loss((q @ d.T).astype(jnp.float32))
        np.testing.assert_array_equal(value, expected)
    else:
        value, wide = loss(q, d), loss(q.astype(jnp.float32), d.astype(jnp.float32))
        np.testing.assert_allclose(value, wide, atol=1e-5)  # unit vectors are float32
    assert value.dtype == np.float32


@pytest.mark.parametrize("name", [*(n for n in FAMILY if "nested" not in n), "nested info_nce qd"])
def test_gradients_equal_numerical_ones_in_float64(name):
    rng = np.random.default_rng(0)
    q, d = rng.normal(size=(3, D)), rng.normal(size=(4, D))
    where = rng.random((3, columns(FAMILY[name][1], 3, 4))) < 0.8
    weights = np.array([1.0, 2.0, 3.0])
    with jax.enable_x64(True):

        @jax.jit
        def total(q, d):
            return jnp.sum(weights * FAMILY[name][0](q, d, where=where, temperature=0.3))

        analytic = jax.grad(total, argnums=(0, 1))(jnp.asarray(q), jnp.asarray(d))
        assert analytic[0].dtype == np.float64
        numerical = oracles.numerical_gradient(lambda x: total(x, d), q)
        np.testing.assert_allclose(analytic[0], numerical, atol=1e-7)
        numerical = oracles.numerical_gradient(lambda x: total(q, x), d)
        np.testing.assert_allclose(analytic[1], numerical, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in COSINE if "ed info" not in name])
def test_cosine_losses_ignore_rotation_and_positive_scaling(name):
    q, d = vectors()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))
    expected = compiled(name)(q, d, all_pairs(name))[0]
    turned = compiled(name)(
        (q @ rotation).astype(np.float32), (d @ rotation).astype(np.float32), all_pairs(name)
    )
    np.testing.assert_allclose(turned[0], expected, atol=5e-5)


@pytest.mark.parametrize("name", COSINE)
def test_cosine_losses_ignore_the_length_of_each_row(name):
    q, d = vectors()
    rng = np.random.default_rng(1)
    expected = compiled(name)(q, d, all_pairs(name))[0]
    lengths = [10.0 ** rng.uniform(-9, 9, (n, 1)) for n in (B, N)]
    scaled = compiled(name)(
        *((v * s).astype(np.float32) for v, s in zip((q, d), lengths, strict=True)), all_pairs(name)
    )
    np.testing.assert_allclose(scaled[0], expected, atol=5e-5)
