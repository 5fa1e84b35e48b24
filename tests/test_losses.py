"""The losses room: every loss obeys the same laws, and the closed forms of the contrastive losses hold."""

import functools
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from jax.sharding import PartitionSpec as P

from jaxembed import losses, train

BLOCKS = [("qd", *rest) for n in range(3) for rest in itertools.combinations(("qq", "dd"), n)]
B, N, D = 5, 8, 6


def scores_loss(queries, documents, **options):
    """softmax_loss behind the signature of a loss on vectors."""
    return losses.softmax_loss(queries @ documents.T, **{"temperature": 0.5} | options)


def nested(loss):
    return losses.matryoshka(loss, sizes=(2, 4, D), weights=(0.5, 1.0, 2.0))


def with_blocks(blocks):
    return functools.partial(losses.info_nce, blocks=blocks)


FAMILY = {"softmax_loss": (scores_loss, None)}
FAMILY |= {"info_nce " + "+".join(blocks): (with_blocks(blocks), blocks) for blocks in BLOCKS}
NESTED = ("softmax_loss", "info_nce qd", "info_nce qd+qq+dd")
FAMILY |= {"nested " + name: (nested(FAMILY[name][0]), FAMILY[name][1]) for name in NESTED}
COSINE = [name for name, (_, blocks) in FAMILY.items() if blocks]


def columns(blocks):
    return N + B * (len(blocks or ("qd",)) - 1)


def vectors(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, D)).astype(np.float32), rng.normal(size=(N, D)).astype(np.float32)


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


@pytest.mark.parametrize("name", FAMILY)
def test_a_row_without_negatives_has_loss_zero_and_no_gradient(name):
    q, d = vectors()
    where = all_pairs(name)
    where[2] = False
    value, (dq, _) = compiled(name)(q, d, where)
    assert value[2] == 0
    assert (np.asarray(value)[[0, 1, 3, 4]] > 0).all()
    # Rows 0, 1, 3 and 4 still use query 2 as a candidate when queries meet queries.
    if "qq" not in (FAMILY[name][1] or ()):
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
    where = rng.random((8, 16 + columns(FAMILY[name][1]) // B * 8 - 8)) < 0.8
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
        np.testing.assert_allclose(value, wide, atol=0.5)  # unit vectors keep 8 bits; 1/temperature is 20
    assert value.dtype == np.float32


@pytest.mark.parametrize("name", [*(n for n in FAMILY if "nested" not in n), "nested info_nce qd"])
def test_gradients_equal_numerical_ones_in_float64(name):
    rng = np.random.default_rng(0)
    q, d = rng.normal(size=(3, D)), rng.normal(size=(4, D))
    extra = 3 * (len(FAMILY[name][1] or ("qd",)) - 1)
    where = rng.random((3, 4 + extra)) < 0.8
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


@pytest.mark.parametrize("name", [name for name in COSINE if "nested" not in name])
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


def test_numpy_float64_vectors_are_taken_as_float32():
    q, d = vectors()
    expected = losses.info_nce(q, d)
    np.testing.assert_allclose(
        losses.info_nce(q.astype(np.float64), d.astype(np.float64)), expected, atol=1e-6
    )
    np.testing.assert_allclose(losses.softmax_loss(np.eye(3)), losses.softmax_loss(jnp.eye(3)), atol=1e-6)


# Oracles


POSITIVES = {
    "none": None,
    "numbers": np.array([4, 0, 7, 7, 1]),
    "bool": np.random.default_rng(3).random((B, N)) < 0.3,
    "one row empty": np.eye(B, N, dtype=bool) & (np.arange(B) != 2)[:, None],
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", POSITIVES)
def test_softmax_loss_equals_the_oracle(kind, masked):
    rng = np.random.default_rng(0)
    scores = (3 * rng.normal(size=(B, N))).astype(np.float32)
    where = rng.random((B, N)) < 0.6 if masked else None
    options = {"positives": POSITIVES[kind], "where": where, "temperature": 0.7}
    value = losses.softmax_loss(scores, **options)
    np.testing.assert_allclose(value, oracles.softmax_loss(scores, **options), rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda s: jnp.sum(losses.softmax_loss(s, **options)))(jnp.asarray(scores))
    np.testing.assert_allclose(np.asarray(gradient).sum(axis=1), 0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", POSITIVES)
@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_info_nce_equals_the_oracle(blocks, kind, masked):
    q, d = vectors()
    where = np.random.default_rng(2).random((B, columns(blocks))) < 0.6 if masked else None
    options = {"positives": POSITIVES[kind], "where": where, "blocks": blocks, "temperature": 0.2}
    expected = oracles.info_nce(q, d, **options)
    np.testing.assert_allclose(losses.info_nce(q, d, **options), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_matryoshka_equals_the_oracle(blocks):
    q, d = vectors()
    options = {"blocks": blocks, "temperature": 0.3}
    expected = oracles.matryoshka(oracles.info_nce, (1, 3, D), (0.5, 1, 2), q, d, **options)
    loss = losses.matryoshka(losses.info_nce, (1, 3, D), (0.5, 1, 2))
    np.testing.assert_allclose(loss(q, d, **options), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("other", [None, np.array([1, 2, 1, 5, 9, 2])])
def test_duplicate_mask_equals_the_oracle(other):
    keys = np.array([1, 2, 1, 3, 3])
    mask = losses.duplicate_mask(keys, other)
    np.testing.assert_array_equal(mask, oracles.duplicate_mask(keys, other))
    assert mask.dtype == bool


# Closed forms


@pytest.mark.parametrize(("rows", "scale"), [(2, 1.0), (3, 20.0), (6, 5.0)])
def test_orthonormal_vectors(rows, scale):
    eye = jnp.eye(6)[:rows]
    value = losses.info_nce(eye, eye, temperature=1 / scale)
    np.testing.assert_allclose(value, math.log1p((rows - 1) * math.exp(-scale)), rtol=1e-5)


def test_a_tiny_loss_keeps_its_digits_in_float32():
    eye = jnp.eye(2)
    np.testing.assert_allclose(losses.info_nce(eye, eye, temperature=0.05), 2.0612e-9, rtol=1e-3)
    gradient = jax.grad(lambda s: losses.softmax_loss(s)[0])(20 * eye)
    np.testing.assert_allclose(gradient[0, 1], 2.0612e-9, rtol=1e-3)


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_equal_vectors(blocks):
    same = jnp.ones((4, 3))
    candidates = 4 + 3 * (len(blocks) - 1)
    np.testing.assert_allclose(losses.info_nce(same, same, blocks=blocks), math.log(candidates), rtol=1e-6)


def test_gradient_of_the_scores_is_softmax_minus_one_hot():
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32))
    gradient = jax.grad(lambda s: jnp.sum(losses.softmax_loss(s)))(scores)
    np.testing.assert_allclose(gradient, jax.nn.softmax(scores) - np.eye(4, 7), atol=1e-6)


def test_a_high_temperature_gives_the_log_of_the_number_of_candidates():
    q, d = vectors()

    def total(q):
        value = losses.info_nce(q, d, temperature=1e7)
        return jnp.sum(value), value

    gradient, value = jax.grad(total, has_aux=True)(jnp.asarray(q))
    np.testing.assert_allclose(value, math.log(N), rtol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_both_directions_are_the_sum_of_two_calls():
    q, d = vectors()
    both = losses.info_nce(q, d[:B]) + losses.info_nce(d[:B], q)
    turned = losses.info_nce(d[:B], q) + losses.info_nce(q, d[:B])
    np.testing.assert_allclose(both, turned, rtol=1e-6)
    cosines = oracles.inner(oracles.unit(q), oracles.unit(d[:B])) / 0.05
    expected = oracles.softmax_loss(cosines) + oracles.softmax_loss(cosines.T)
    np.testing.assert_allclose(both, expected, rtol=1e-5)


def test_temperature_may_be_traced_and_learned():
    q, d = vectors()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(temperature):
        return jax.value_and_grad(lambda t: jnp.mean(losses.info_nce(q, d, temperature=t)))(temperature)

    chex.clear_trace_counter()
    values = [run(jnp.float32(t))[0] for t in (0.1, 1.0)]
    expected = [oracles.info_nce(q, d, temperature=t).mean() for t in (0.1, 1.0)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    slope = (
        oracles.info_nce(q, d, temperature=0.5001).mean() - oracles.info_nce(q, d, temperature=0.4999).mean()
    ) / 2e-4
    np.testing.assert_allclose(run(jnp.float32(0.5))[1], slope, rtol=1e-3)


def test_two_views_of_every_row_are_the_ntxent_of_optax():
    q, _ = vectors()
    views = np.concatenate([q, vectors(1)[0]])
    labels = np.tile(np.arange(B), 2)
    expected = optax.losses.ntxent(jnp.asarray(views), jnp.asarray(labels), temperature=0.1)
    cosines = jnp.asarray(oracles.inner(oracles.unit(views), oracles.unit(views)), jnp.float32)
    partner = (np.arange(2 * B) + B) % (2 * B)
    value = losses.softmax_loss(cosines, positives=partner, where=~np.eye(2 * B, dtype=bool), temperature=0.1)
    np.testing.assert_allclose(jnp.mean(value), expected, rtol=1e-4)


# Matryoshka


def test_matryoshka_is_additive_in_sizes_and_linear_in_weights():
    q, d = vectors()
    parts = [losses.info_nce(q[:, :m], d[:, :m]) for m in (2, 4, D)]
    both = losses.matryoshka(losses.info_nce, (2, 4, D), (1.0, 3.0, 0.5))(q, d)
    np.testing.assert_allclose(both, parts[0] + 3 * parts[1] + 0.5 * parts[2], rtol=1e-6)
    turned = losses.matryoshka(losses.info_nce, (D, 4, 2), (0.5, 3.0, 1.0))(q, d)
    np.testing.assert_allclose(turned, both, rtol=1e-6)
    plain = losses.matryoshka(losses.info_nce, (2, 4, D))(q, d)
    np.testing.assert_allclose(plain, sum(parts), rtol=1e-6)


def test_the_full_size_alone_is_the_loss_itself():
    q, d = vectors()
    np.testing.assert_array_equal(losses.matryoshka(losses.info_nce, (D,))(q, d), losses.info_nce(q, d))


@pytest.mark.parametrize("size", [1, 3, D])
def test_coordinates_beyond_a_size_get_no_gradient(size):
    q, d = map(jnp.asarray, vectors())
    loss = losses.matryoshka(losses.info_nce, (size,))
    gradients = jax.jit(jax.grad(lambda q, d: jnp.sum(loss(q, d)), argnums=(0, 1)))(q, d)
    for gradient in gradients:
        assert not gradient[:, size:].any()
        assert size == 1 or gradient[:, :size].any()


def test_truncation_before_or_after_normalisation_is_one_loss():
    q, d = vectors()
    loss = losses.matryoshka(losses.info_nce, (3,))
    after = loss(oracles.unit(q).astype(np.float32), oracles.unit(d).astype(np.float32))
    np.testing.assert_allclose(loss(q, d), after, atol=1e-5)


def test_sampled_weights_do_not_recompile():
    q, d = vectors()
    sizes = (2, 4, D)
    parts = np.stack([losses.info_nce(q[:, :m], d[:, :m]) for m in sizes])

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(weights):
        return losses.matryoshka(losses.info_nce, sizes, weights)(q, d)

    chex.clear_trace_counter()
    for weights in np.eye(3, dtype=np.float32):
        np.testing.assert_allclose(run(weights), weights @ parts, rtol=1e-5, atol=1e-6)


# Errors


def test_bad_sizes_and_weights_raise():
    q, d = vectors()
    for sizes in ((), (0, 2), (-1,)):
        with pytest.raises(ValueError, match="sizes="):
            losses.matryoshka(losses.info_nce, sizes)
    with pytest.raises(ValueError, match="weights: 1 for 2 sizes"):
        losses.matryoshka(losses.info_nce, (1, 2), (1.0,))
    with pytest.raises(ValueError, match="sizes: 7 is above the width 6"):
        losses.matryoshka(losses.info_nce, (7,))(q, d)
    with pytest.raises(ValueError, match="sizes: 4 is above the width 3"):
        losses.matryoshka(scores_loss, (4,))(q[:, :3], d)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"blocks": ("qq",)}, ValueError, "a subset of"),
        ({"blocks": ("qd", "xx")}, ValueError, "a subset of"),
        ({"documents": np.ones((3, D), np.float32)}, ValueError, "documents: 3 rows for 5 queries"),
        (
            {"documents": np.ones((3, D), np.float32), "blocks": ("qd", "dd")},
            ValueError,
            '"dd" needs a document per query',
        ),
        ({"documents": np.ones((N, D + 1), np.float32)}, AssertionError, "assert_"),
        ({"where": np.ones((B, N + 1), bool)}, AssertionError, "assert_"),
        ({"where": np.ones((B, N), bool), "blocks": ("qd", "qq")}, AssertionError, "assert_"),
        ({"positives": np.ones((B, N + 1), bool)}, AssertionError, "assert_"),
        ({"positives": np.arange(B + 1)}, AssertionError, "assert_"),
        ({"queries": np.ones(D, np.float32)}, AssertionError, "assert_"),
    ],
)
def test_wrong_arguments_of_info_nce_raise(change, error, message):
    q, d = vectors()
    arguments = {"queries": q, "documents": d} | change
    with pytest.raises(error, match=message):
        losses.info_nce(**arguments)


def test_fewer_columns_than_rows_need_positives():
    with pytest.raises(ValueError, match="positives: needed, because 3 rows have only 2 columns"):
        losses.softmax_loss(jnp.zeros((3, 2)))
    value = losses.softmax_loss(jnp.zeros((3, 2)), positives=jnp.array([0, 1, 1]))
    np.testing.assert_allclose(value, math.log(2), rtol=1e-6)


def test_an_empty_document_is_no_candidate_and_sends_no_nan():
    scores = jnp.array([[1.0, -jnp.inf], [0.0, -jnp.inf]])
    np.testing.assert_array_equal(losses.softmax_loss(scores), [0, 0])
    slope = jax.grad(lambda t: losses.softmax_loss(scores, temperature=t).sum())(0.5)
    assert np.isfinite(slope)
