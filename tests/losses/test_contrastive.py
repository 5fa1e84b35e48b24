"""The losses room: every loss obeys the same laws, and the closed forms of the contrastive losses hold."""

import functools
import itertools
import math
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import oracles_losses
import pytest
from jax.sharding import PartitionSpec as P

from jaxembed import losses, train

GOLDEN = pathlib.Path(__file__).parents[1] / "support" / "golden" / "losses.npz"

BLOCKS = [("qd", *rest) for n in range(4) for rest in itertools.combinations(("qq", "dd", "dq"), n)]
B, N, D = 5, 8, 6


def scores_loss(queries, documents, **options):
    """softmax_loss behind the signature of a loss on vectors."""
    return losses.softmax_loss(queries @ documents.T, **{"temperature": 0.5} | options)


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
FAMILY |= {"info_nce " + "+".join(blocks): (with_blocks(blocks), blocks) for blocks in BLOCKS}
NESTED = ("softmax_loss", "info_nce qd", "info_nce qd+qq+dd", "info_nce qd+qq+dd+dq")
FAMILY |= {"nested " + name: (nested(FAMILY[name][0]), FAMILY[name][1]) for name in NESTED}
FAMILY |= {f"layered {name}": (layered(FAMILY[name][0]), FAMILY[name][1]) for name in ("info_nce qd",)}
COSINE = [name for name, (_, blocks) in FAMILY.items() if blocks]
SOFTMAX = [name for name in FAMILY if name != "sigmoid_loss"]  # without negatives their loss is 0


def columns(blocks, queries=B, documents=N):
    return sum({"qd": documents, "dd": documents}.get(block, queries) for block in blocks or ("qd",))


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
    candidates = sum({"qd": 4, "qq": 3, "dd": 3, "dq": 4}[block] for block in blocks)
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
    ("change", "message"),
    [
        ({"blocks": ("qq",)}, "a subset of"),
        ({"blocks": ("qd", "xx")}, "a subset of"),
        ({"documents": np.ones((3, D), np.float32)}, "documents: 3 rows for 5 queries"),
        (
            {"documents": np.ones((3, D), np.float32), "blocks": ("qd", "dd")},
            '"dd" needs a document per query',
        ),
        (
            {"documents": np.ones((N, D + 1), np.float32)},
            r"documents: shape \(8, 7\); pass \[any, 6\]",
        ),
        ({"where": np.ones((B, N + 1), bool)}, r"where: shape \(5, 9\); pass \[5, 8\]"),
        ({"where": np.ones((B, N), bool), "blocks": ("qd", "qq")}, r"where: .* pass \[5, 13\]"),
        ({"positives": np.ones((B, N + 1), bool)}, r"positives: shape \(5, 9\); pass"),
        ({"positives": np.arange(B + 1)}, r"positives: shape \(6,\); pass \[5\]"),
        ({"queries": np.ones(D, np.float32)}, r"queries: shape \(6,\); pass \[any, any\]"),
    ],
)
def test_wrong_arguments_of_info_nce_raise(change, message):
    q, d = vectors()
    arguments = {"queries": q, "documents": d} | change
    with pytest.raises(ValueError, match=message):
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


# Losses on rows that belong together: graded pairs, teachers, tables

TARGETS = np.array([0.0, 1.0, 0.4, 0.4, 0.9, 0.1], np.float32)
ROWS = len(TARGETS)


def negatives_of(x, y):
    return jnp.stack([x * 0.5 + y, jnp.flip(y, axis=1)], axis=1)


def teacher_scores(x):
    return jnp.sin(3 * jax.lax.stop_gradient(x[:, :3]))


PAIRS = {  # name: (loss of (first, second, rows that count or None), scalar)
    "cosent": (lambda x, y, keep: losses.cosent(x, y, targets=TARGETS, where=keep), True),
    "angle": (lambda x, y, keep: losses.angle(x, y, targets=TARGETS, where=keep), True),
    "ranking_loss": (lambda x, y, keep: losses.ranking_loss(x[:, 0], targets=TARGETS, where=keep), True),
    "cosine_loss": (lambda x, y, keep: losses.cosine_loss(x, y, targets=TARGETS, where=keep), False),
    "margin_mse": (
        lambda x, y, keep: losses.margin_mse(
            x, y, negatives_of(x, y), teacher=TARGETS[:, None] + np.eye(6, 3)
        ),
        False,
    ),
    "score_kl": (lambda x, y, keep: losses.score_kl(x, teacher=y, stop_teacher=False), False),
    "vector_kl": (lambda x, y, keep: losses.vector_kl(x, teacher=y, temperature=0.3), False),
    "compression_loss": (lambda x, y, keep: losses.compression_loss(x, target=y), False),
    "frozen_softmax": (
        lambda x, y, keep: losses.frozen_softmax(x, np.eye(9, D), positives=(8 * TARGETS).astype(np.int32)),
        False,
    ),
}
PAIRS["nested cosent"] = (
    lambda x, y, keep: losses.matryoshka(losses.cosent, (2, D))(x, y, targets=TARGETS, where=keep),
    True,
)
ROWWISE = [name for name, (_, scalar) in PAIRS.items() if not scalar]
SCALAR = [name for name, (_, scalar) in PAIRS.items() if scalar]


def rows(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(ROWS, D)).astype(np.float32), rng.normal(size=(ROWS, D)).astype(np.float32)


@functools.cache
def compiled_pairs(name):
    """(first, second, keep) -> (loss, gradients of its sum)."""

    def total(x, y, keep):
        value = PAIRS[name][0](x, y, keep)
        return jnp.sum(value), value

    def run(x, y, keep):
        gradients, value = jax.grad(total, argnums=(0, 1), has_aux=True)(x, y, keep)
        return value, gradients

    return jax.jit(run)


EVERY = np.ones(ROWS, bool)


@pytest.mark.parametrize("name", PAIRS)
def test_pair_losses_have_their_shape_and_jit_equals_eager(name):
    x, y = rows()
    loss, scalar = PAIRS[name]
    eager = loss(jnp.asarray(x), jnp.asarray(y), EVERY)
    assert eager.shape == (() if scalar else (ROWS,))
    assert eager.dtype == np.float32
    assert (np.asarray(eager) > 0).all()
    np.testing.assert_allclose(compiled_pairs(name)(x, y, EVERY)[0], eager, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss(x, y, None), eager, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("size", [1e4, 1e-20, 0.0])
def test_pair_losses_are_finite_at_extreme_values_and_zero_vectors(name, size):
    x, y = rows()
    chex.assert_tree_all_finite(compiled_pairs(name)(np.float32(size) * x, y, EVERY))
    chex.assert_tree_all_finite(compiled_pairs(name)(x, np.float32(-size) * y, EVERY))
    chex.assert_tree_all_finite(compiled_pairs(name)(np.float32(size) * np.sign(x), -1e4 * np.sign(x), EVERY))


@pytest.mark.parametrize("name", PAIRS)
def test_bfloat16_pairs_accumulate_in_float32(name):
    x, y = (jnp.asarray(v, jnp.bfloat16) for v in rows())
    value = PAIRS[name][0](x, y, None)
    assert value.dtype == np.float32
    expected = PAIRS[name][0](x.astype(jnp.float32), y.astype(jnp.float32), None)
    # A computation in bfloat16 would be off by several per cent; the inputs are the same numbers.
    np.testing.assert_allclose(value, expected, rtol=0.02 if name == "margin_mse" else 1e-3, atol=1e-3)


@pytest.mark.parametrize("name", PAIRS)
def test_pair_losses_have_numerical_gradients_in_float64(name):
    x, y = (v.astype(np.float64) for v in rows())
    stopped = {"vector_kl": 1, "compression_loss": 1, "frozen_softmax": 1, "ranking_loss": 1}
    with jax.enable_x64(True):

        @jax.jit
        def total(x, y):
            return jnp.sum(PAIRS[name][0](x, y, EVERY) * jnp.cos(jnp.arange(1.0)))

        analytic = jax.grad(total, argnums=(0, 1))(jnp.asarray(x), jnp.asarray(y))
        assert analytic[0].dtype == np.float64
        numerical = oracles.numerical_gradient(lambda v: total(v, y), x)
        np.testing.assert_allclose(analytic[0], numerical, rtol=1e-5, atol=1e-6)
        if name in stopped:
            assert not np.asarray(analytic[1]).any()
        else:
            numerical = oracles.numerical_gradient(lambda v: total(x, v), y)
            np.testing.assert_allclose(analytic[1], numerical, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*SCALAR, "cosine_loss"])
def test_rows_that_do_not_count_are_removed_and_may_hold_anything(name):
    x, y = rows()
    keep = np.array([True, True, False, True, False, True])
    value, gradients = compiled_pairs(name)(x, y, keep)
    spoiled, other = x.copy(), y.copy()
    spoiled[~keep], other[~keep] = np.nan, np.inf
    again, spoiled_gradients = compiled_pairs(name)(spoiled, other, keep)
    np.testing.assert_allclose(again, value, rtol=1e-6)
    chex.assert_trees_all_close(spoiled_gradients, gradients, atol=1e-6)
    assert not np.asarray(gradients[0])[~keep].any()
    if hasattr(losses, name) and name != "ranking_loss":
        alone = getattr(losses, name)(x[keep], y[keep], targets=TARGETS[keep])
        np.testing.assert_allclose(value if value.ndim == 0 else value[keep], alone, rtol=1e-5)
    value, gradients = compiled_pairs(name)(x, y, np.zeros(ROWS, bool))
    assert not np.asarray(value).any()
    assert not any(np.asarray(g).any() for g in gradients)


@pytest.mark.parametrize("name", ["cosent", "angle"])  # the rows of other losses do not meet
def test_sharded_pairs_equal_unsharded_ones(name):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 8, D)).astype(np.float32)
    targets = rng.integers(0, 4, 8)
    loss = jax.jit(
        jax.value_and_grad(lambda x, y: getattr(losses, name)(x, y, targets=targets), argnums=(0, 1))
    )
    expected = loss(x, y)
    placed = jax.device_put((x, y), jax.sharding.NamedSharding(train.make_mesh(8, 1), P("data")))
    chex.assert_trees_all_close(jax.tree.map(np.asarray, loss(*placed)), expected, atol=2e-5)


# Oracles of these losses


def test_scores_of_pairs_equal_the_oracle():
    for width in (D, D + 1, 1):
        x, y = np.random.default_rng(width).normal(size=(2, ROWS, width)).astype(np.float32)
        x[2] = 0
        for name in ("cosine", "angle"):
            expected = [getattr(oracles_losses, name)(*pair) for pair in zip(x, y, strict=True)]
            np.testing.assert_allclose(getattr(losses, f"{name}_scores")(x, y), expected, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 2.0])
def test_ranking_loss_equals_the_oracle(temperature, masked):
    scores = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    keep = np.array([True, True, False, True, True, False]) if masked else None
    expected = oracles_losses.ranking_loss(scores, TARGETS, keep, temperature)
    value = losses.ranking_loss(scores, targets=TARGETS, where=keep, temperature=temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_teacher_losses_equal_the_oracle(masked):
    rng = np.random.default_rng(0)
    x, y = rows()
    keep = rng.random((ROWS, D)) < 0.6 if masked else None
    value = losses.score_kl(x, teacher=y, where=keep, temperature=0.7)
    np.testing.assert_allclose(value, oracles_losses.kl(x, y, keep, 0.7), rtol=1e-4, atol=1e-6)
    negatives, teacher = rng.normal(size=(ROWS, 3, D)).astype(np.float32), rng.normal(size=(ROWS, 4))
    keep = rng.random((ROWS, 3)) < 0.6 if masked else None
    value = losses.margin_mse(x, y, negatives, teacher=teacher, where=keep)
    expected = oracles_losses.margin_mse(x, y, negatives, teacher, keep)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_frozen_softmax_equals_the_oracle(masked):
    rng = np.random.default_rng(0)
    x, _ = rows()
    table, bias, positives = rng.normal(size=(11, D)), rng.normal(size=11), rng.integers(0, 11, ROWS)
    options = {"positives": positives, "temperature": 0.6, "bias": bias}
    options["where"] = rng.random((ROWS, 11)) < 0.5 if masked else None
    value = losses.frozen_softmax(x, table, **options)
    np.testing.assert_allclose(value, oracles_losses.frozen_softmax(x, table, **options), rtol=1e-4)


@pytest.mark.parametrize("positives", [None, np.array([4, 0, 7, 7, 1]), POSITIVES["bool"]], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_sigmoid_loss_equals_the_oracle(masked, positives):
    q, d = vectors()
    where = np.random.default_rng(2).random((B, N)) < 0.6 if masked else None
    options = {"positives": positives, "where": where, "temperature": 0.2, "bias": -3.0}
    value = losses.sigmoid_loss(q, d, **options)
    np.testing.assert_allclose(value, oracles_losses.sigmoid_loss(q, d, **options), rtol=1e-4)


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("margin", [0.0, 0.3, -0.2])
def test_guided_mask_equals_the_oracle(margin, kind, blocks):
    q, d = vectors()
    mask = losses.guided_mask(q, d, margin=margin, kind=kind, blocks=blocks)
    np.testing.assert_array_equal(mask, oracles_losses.guided_mask(q, d, margin, kind, blocks))
    assert mask.dtype == bool
    assert mask.shape == (B, columns(blocks))
    losses.info_nce(q, d, where=mask, blocks=blocks)  # the shapes fit


@pytest.mark.parametrize("size", [1, 3, D])
def test_compression_target_equals_the_oracle_and_sends_no_gradient(size):
    x, _ = rows()
    value = losses.compression_target(x, size)
    np.testing.assert_allclose(value, oracles_losses.compression_target(x, size), rtol=1e-3, atol=1e-4)
    gradient = jax.grad(lambda v: jnp.sum(losses.compression_target(v, size) ** 2))(jnp.asarray(x))
    assert not np.asarray(gradient).any()


# Their closed forms and laws


def test_two_pairs_have_the_closed_form_of_cosent():
    for c1, c0 in ((0.9, 0.1), (-0.5, 0.7)):
        value = losses.ranking_loss(jnp.array([c1, c0]), targets=jnp.array([1, 0]))
        np.testing.assert_allclose(value, math.log1p(math.exp(20 * (c0 - c1))), rtol=1e-5)


def test_equal_targets_have_loss_exactly_zero_and_only_order_matters():
    x, y = rows()
    assert losses.cosent(x, y, targets=np.full(ROWS, 0.3)) == 0
    expected = losses.cosent(x, y, targets=TARGETS)
    assert losses.cosent(x, y, targets=np.exp(5 * TARGETS)) == expected


def test_opposite_rows_have_the_angle_score_one():
    x, _ = rows()
    scale = np.array([[1], [-1], [7], [-0.1], [1e-9], [1e9]], np.float32)
    np.testing.assert_allclose(losses.angle_scores(x, x * scale), 1, atol=1e-5)


@pytest.mark.parametrize("bias", [-10.0, 0.0])
def test_orthogonal_pairs_have_the_closed_form_of_the_sigmoid_loss(bias):
    q, d = jnp.eye(8)[:4], jnp.eye(8)[4:]
    expected = math.log1p(math.exp(-bias)) + 3 * math.log1p(math.exp(bias))
    np.testing.assert_allclose(losses.sigmoid_loss(q, d, bias=bias), expected, rtol=1e-6)


def test_scale_and_bias_of_the_sigmoid_loss_are_learned():
    q, d = vectors()

    def total(params):
        value = losses.sigmoid_loss(q, d, temperature=jnp.exp(params["log"]), bias=params["bias"])
        return jnp.mean(value)

    params = {"log": jnp.log(0.1), "bias": jnp.float32(-10.0)}
    slope = jax.jit(jax.grad(total))(params)
    for name in params:
        up, down = ({**params, name: params[name] + step} for step in (1e-2, -1e-2))
        np.testing.assert_allclose(slope[name], (total(up) - total(down)) / 2e-2, rtol=1e-2)


def test_kl_is_zero_for_vectors_that_differ_by_a_constant():
    x, y = rows()
    np.testing.assert_allclose(losses.vector_kl(x, teacher=x + 3), 0, atol=1e-5)
    assert (np.asarray(losses.vector_kl(x, teacher=y)) > 1e-3).all()
    gradient = jax.grad(lambda v: jnp.sum(losses.vector_kl(v, teacher=v)))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("loss", [losses.vector_kl, losses.score_kl])
def test_the_teacher_is_stopped_or_free(loss):
    x, y = map(jnp.asarray, rows())
    for stop in (True, False):
        slope = jax.grad(lambda t, stop=stop: jnp.sum(loss(x, teacher=t, stop_teacher=stop)))(y)
        assert bool(np.asarray(slope).any()) != stop


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_dropped_scores_of_students_and_teachers_may_hold_anything(bad):
    x, y = rows()
    keep = np.random.default_rng(0).random((ROWS, D)) < 0.6
    keep[2] = False
    run = jax.jit(
        jax.value_and_grad(
            lambda x, y: jnp.sum(losses.score_kl(x, teacher=y, where=keep, stop_teacher=False)),
            argnums=(0, 1),
        )
    )
    clean = run(x, y)
    spoiled = run(*(np.where(keep, v, bad).astype(np.float32) for v in (x, y)))
    chex.assert_trees_all_equal(spoiled, clean)
    assert not np.asarray(clean[1][0])[2].any()
    negatives = np.stack([x, y], axis=1)
    run = jax.jit(
        jax.value_and_grad(
            lambda n: jnp.sum(losses.margin_mse(x, y, n, teacher=np.zeros((ROWS, 3)), where=keep[:, :2]))
        )
    )
    clean = run(negatives)
    chex.assert_trees_all_equal(run(np.where(keep[:, :2, None], negatives, bad).astype(np.float32)), clean)
    assert not np.asarray(clean[1])[2].any()


@pytest.mark.parametrize("free", [False, True])
def test_a_teacher_may_rule_candidates_out(free):
    """A teacher's score of -inf is probability 0: log(3 / 2) for a student that knows nothing."""
    teacher = jnp.array([[0.0, 0.0, -jnp.inf], [-jnp.inf, -jnp.inf, -jnp.inf], [1.0, 2.0, 3.0]])

    @jax.jit
    def run(scores, teacher):
        total = lambda s, t: jnp.sum(losses.score_kl(s, teacher=t, stop_teacher=not free))  # noqa: E731
        return losses.score_kl(scores, teacher=teacher), jax.grad(total, argnums=(0, 1))(scores, teacher)

    value, (gradient, other) = run(jnp.zeros((3, 3)), teacher)
    np.testing.assert_allclose(value[0], 0.4055, atol=5e-5)
    assert value[1] == 0
    np.testing.assert_allclose(gradient[0], [-1 / 6, -1 / 6, 1 / 3], atol=1e-6)
    chex.assert_tree_all_finite((gradient, other))
    np.testing.assert_allclose(losses.vector_kl(jnp.zeros((1, 3)), teacher=teacher[:1]), value[:1])


def test_a_table_gets_no_gradient_and_a_common_shift_changes_nothing():
    rng = np.random.default_rng(0)
    x, _ = rows()
    table, positives = rng.normal(size=(11, D)).astype(np.float32), rng.integers(0, 11, ROWS)

    def total(table, bias):
        return jnp.sum(losses.frozen_softmax(x, table, positives=positives, bias=bias))

    slopes = jax.grad(total, argnums=(0, 1))(jnp.asarray(table), jnp.zeros(11))
    assert not any(np.asarray(s).any() for s in slopes)
    shifted = total(table + rng.normal(size=D), jnp.full(11, 2.0))
    np.testing.assert_allclose(shifted, total(table, None), rtol=1e-5)
    v = jnp.array([[0.3, -1.0]])
    value = losses.frozen_softmax(v, jnp.array([[2.0, 1.0], [-2.0, -1.0]]), positives=jnp.array([0]))
    np.testing.assert_allclose(value, math.log1p(math.exp(-2 * (0.6 - 1.0))), rtol=1e-6)


def test_a_table_sharded_by_rows_gives_the_same_loss_and_is_not_gathered(optimized):
    rng = np.random.default_rng(0)
    x, table = rng.normal(size=(4, 16)).astype(np.float32), rng.normal(size=(256, 16)).astype(np.float32)
    positives = rng.integers(0, 256, 4)
    run = jax.jit(jax.value_and_grad(lambda x, t: jnp.sum(losses.frozen_softmax(x, t, positives=positives))))
    expected = run(x, table)
    mesh = train.make_mesh(1, 8)
    placed = jax.device_put(table, jax.sharding.NamedSharding(mesh, P("model")))
    x = jax.device_put(x, jax.sharding.NamedSharding(mesh, P()))
    chex.assert_trees_all_close(jax.tree.map(np.asarray, run(x, placed)), expected, rtol=1e-5, atol=1e-5)
    assert "all-gather" not in run.lower(x, placed).compile().as_text()


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_a_larger_margin_drops_more_and_lowers_the_loss(kind):
    q, d = vectors()
    blocks = ("qd", "qq", "dd")
    masks = [np.asarray(losses.guided_mask(q, d, margin=m, kind=kind, blocks=blocks)) for m in (0, 0.2, 5)]
    values = [np.asarray(losses.info_nce(q, d, where=m, blocks=blocks)) for m in masks]
    for before, after in ((0, 1), (1, 2)):
        assert (masks[after] <= masks[before]).all()
        assert (values[after] <= values[before] + 1e-6).all()
    if kind == "absolute":
        assert masks[2].sum() == B
        assert not values[2].any()


def test_a_guide_that_sees_no_difference_drops_self_pairs_only():
    same = np.ones((4, 3), np.float32)
    mask = losses.guided_mask(same, same, blocks=("qd", "qq"))
    np.testing.assert_array_equal(mask, np.concatenate([np.ones((4, 4), bool), ~np.eye(4, dtype=bool)], 1))


def test_a_guide_is_seen_through_its_cosines_and_gets_no_gradient():
    q, d = vectors()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))
    scales = np.random.default_rng(2).uniform(0.1, 10, (N, 1))
    expected = losses.guided_mask(q, d, blocks=("qd", "dd"))
    turned = losses.guided_mask(q @ rotation, scales * (d @ rotation), blocks=("qd", "dd"))
    np.testing.assert_array_equal(turned, expected)

    def total(guide):
        return jnp.sum(losses.info_nce(q, d, where=losses.guided_mask(guide, d)))

    assert not np.asarray(jax.grad(total)(jnp.asarray(q))).any()


def test_symmetric_transposes_its_masks():
    q, d = vectors()
    d = d[:B]
    where = np.random.default_rng(0).random((B, B)) < 0.5
    value = losses.symmetric(losses.info_nce)(q, d, where=where, positives=np.eye(B, dtype=bool))
    expected = (oracles.info_nce(q, d, where=where) + oracles.info_nce(d, q, where=where.T)) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(losses.symmetric(losses.info_nce)(d, q, where=where.T), expected, rtol=1e-5)


def test_symmetric_takes_hard_negatives_and_masks():
    """Documents after the first B are negatives of the queries and have none to find themselves."""
    q, d = vectors()
    rng = np.random.default_rng(0)
    where, positives = rng.random((B, N)) < 0.5, np.eye(B, N, dtype=bool)
    value = losses.symmetric(losses.info_nce)(q, d, where=where, positives=positives)
    turned = oracles.info_nce(d[:B], q, where=where[:, :B].T)
    np.testing.assert_allclose(value, (oracles.info_nce(q, d, where=where) + turned) / 2, rtol=1e-5)
    layers = jnp.stack([d, d], axis=1)  # and vectors of more axes, as of over_layers
    both = losses.symmetric(losses.over_layers(losses.info_nce, [(1, D)]))
    expected = losses.symmetric(losses.info_nce)(q, d)
    np.testing.assert_allclose(both(jnp.stack([q, q], axis=1), layers), expected, rtol=1e-5)


def test_all_four_blocks_are_the_loss_of_gte():
    rng = np.random.default_rng(1)
    q, d = rng.normal(size=(16, 24)), rng.normal(size=(16, 24))
    value = losses.info_nce(q, d, blocks=("qd", "qq", "dd", "dq"))
    np.testing.assert_allclose(value.mean(), 9.298, atol=5e-4)
    np.testing.assert_allclose(losses.info_nce(q, d, blocks=("qd", "qq", "dd")).mean(), 8.923, atol=5e-4)


# Numbers of sentence-transformers and torch

GISTS = {  # as tests/golden_losses.py
    "gist": {"blocks": ("qd", "qq", "dd")},
    "gist_pairs": {},
    "gist_absolute": {"blocks": ("qd", "qq", "dd"), "margin": 0.1},
    "gist_relative": {"blocks": ("qd", "qq", "dd"), "margin": 0.1, "kind": "relative"},
}


def gist(options):
    def loss(q, d, f):
        mask = losses.guided_mask(f["guide"][: len(q)], f["guide"][len(q) :], **options)
        if "blocks" in options:  # there the hard negatives are compared with the queries alone
            hard = len(d) - len(q)
            mask = mask.at[:, mask.shape[1] - hard :].set(False)
        return losses.info_nce(q, d, where=mask, blocks=options.get("blocks", ("qd",)))

    return loss, ("gist_queries", "gist_documents")


def cosent_of(name):
    return lambda x, y, f: getattr(losses, name)(x, y, targets=f["targets"])


def scores_of(q, d, n):
    return jnp.einsum("bd,bkd->bk", q, jnp.concatenate([d[:, None], n], axis=1), precision="highest")


def two_dimensional(weighting):
    """The library's layers count the embeddings as a layer; its KL is summed over layers, times 0.3."""

    def loss(q, d, f):
        q, d = (jnp.pad(x, ((0, 0), (1, 0), (0, 0))) for x in (q, d))
        count = q.shape[1] - 1
        sizes = tuple(f["sizes"].tolist())
        shallow = [w / (count - 1) for w in losses.layer_weights(weighting, count)[:-1]]
        weights = np.outer([*shallow, 1.0], f["weights"]).ravel()
        task = losses.over_layers(losses.info_nce, losses.full_grid(range(1, count + 1), sizes), weights)
        grid = losses.full_grid(range(1, count), sizes[:1])
        align = [
            losses.over_layers(lambda v, x=x: losses.vector_kl(v, teacher=x[:, -1], temperature=0.3), grid)(x)
            for x in (q, d)
        ]
        return task(q, d) + 0.3 * (align[0] + align[1]) / 2

    return loss, ("query_layers", "document_layers")


def last_layer(q, d, f):
    sizes = tuple(f["sizes"].tolist())
    return losses.matryoshka(losses.info_nce, sizes, f["weights"])(q[:, -1], d[:, -1])


PUBLIC = {name: gist(options) for name, options in GISTS.items()}
PUBLIC |= {name: (cosent_of(name), ("first", "second")) for name in ("cosent", "angle")}
PUBLIC |= {
    "cosine": (cosent_of("cosine_loss"), ("first", "second")),
    "margin_mse": (
        lambda q, d, n, f: losses.margin_mse(q, d, n, teacher=f["teacher_scores"]),
        ("queries", "documents", "negatives"),
    ),
    "score_kl": (  # times temperature**2 there
        lambda q, d, n, f: (
            4 * losses.score_kl(scores_of(q, d, n), teacher=f["teacher_softmax"], temperature=2)
        ),
        ("queries", "documents", "negatives"),
    ),
    "vector_kl": (lambda x, f: losses.vector_kl(x, teacher=f["teacher"], temperature=0.3), ("student",)),
    "sigmoid": (
        lambda q, d, f: losses.sigmoid_loss(q, d, temperature=0.1, bias=-2.5),
        ("sigmoid_queries", "sigmoid_documents"),
    ),
    "frozen_softmax": (
        lambda x, f: losses.frozen_softmax(x, f["table"], positives=f["labels"], bias=f["bias"]),
        ("vectors",),
    ),
    "matryoshka": (last_layer, ("query_layers", "document_layers")),
}
PUBLIC["symmetric"] = (
    lambda q, d, f: losses.symmetric(losses.info_nce)(q, d),
    ("block_queries", "block_documents"),
)
for blocks in (("qd", "dq"), ("qd", "dd"), ("qd", "qq", "dd", "dq")):  # as tests/golden_losses.py
    for case, rows_each in (("pairs", 1), ("hard", 3)):
        PUBLIC[f"blocks_{'_'.join(blocks)}_{case}"] = (
            lambda q, d, f, b=blocks, n=rows_each: losses.info_nce(q, d[: n * len(q)], blocks=b),
            ("block_queries", "block_documents"),
        )
PUBLIC |= {f"matryoshka_2d_{w}": two_dimensional(w) for w in ("uniform", "log", "linear")}


@pytest.mark.parametrize("name", PUBLIC)
def test_values_and_gradients_equal_public_packages(name):
    with np.load(GOLDEN, allow_pickle=False) as loaded:
        file = dict(loaded)
    loss, inputs = PUBLIC[name]
    run = jax.jit(jax.value_and_grad(lambda v: jnp.mean(loss(*v, file))))
    value, gradients = run([file[key] for key in inputs])
    np.testing.assert_allclose(value, file[name], rtol=2e-5)
    for key, gradient in zip(inputs, gradients, strict=True):
        np.testing.assert_allclose(gradient, file[f"{name}_gradient_{key}"], rtol=1e-3, atol=1e-5)


# Wrong arguments of these losses


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: losses.cosent(x, y[:3], targets=TARGETS), "second: "),
        (lambda x, y: losses.cosent(x, y, targets=TARGETS[:3]), "targets: "),
        (lambda x, y: losses.angle_scores(x, y[:, :3]), "second: "),
        (lambda x, y: losses.score_kl(x, teacher=y[:, :2]), "teacher: "),
        (lambda x, y: losses.margin_mse(x, y, negatives_of(x, y), teacher=y), "teacher: "),
        (lambda x, y: losses.margin_mse(x, y[:, :2], negatives_of(x, y), teacher=y[:, :3]), "documents: "),
        (lambda x, y: losses.frozen_softmax(x, y[:, :2], positives=jnp.zeros(6, int)), "table: width 2"),
        (lambda x, y: losses.compression_target(x, D + 1), "size: 7 is outside"),
        (lambda x, y: losses.guided_mask(x, y[:3]), "document_guide: 3 rows"),
        (lambda x, y: losses.guided_mask(x, y, kind="other"), "kind="),
        (lambda x, y: losses.cosine_loss(x, y, targets=TARGETS[:3]), "targets: "),
        (lambda x, y: losses.cosine_loss(x, y, targets=TARGETS, where=EVERY[:3]), "where: shape"),
        (lambda x, y: losses.cosent(x, y, targets=TARGETS, where=EVERY[:3]), "where: shape"),
        (lambda x, y: losses.ranking_loss(x, targets=TARGETS), "scores: shape"),
        (lambda x, y: losses.ranking_loss(x[:, 0], targets=TARGETS, where=EVERY[:3]), "where: shape"),
        (lambda x, y: losses.score_kl(x, teacher=y, where=EVERY), "where: shape"),
        (lambda x, y: losses.margin_mse(x[0], y, y, teacher=y), "queries: shape"),
        (lambda x, y: losses.margin_mse(x, y, y, teacher=y), "negatives: shape"),
        (
            lambda x, y: losses.margin_mse(x, y, negatives_of(x, y), teacher=y[:, :3], where=EVERY),
            "where: shape",
        ),
        (lambda x, y: losses.compression_target(x[0], 1), "vectors: shape"),
        (lambda x, y: losses.frozen_softmax(x[0], y, positives=jnp.zeros(6, int)), "vectors: shape"),
        (lambda x, y: losses.frozen_softmax(x, y[0], positives=jnp.zeros(6, int)), "table: shape"),
        (lambda x, y: losses.frozen_softmax(x, y, positives=jnp.zeros(6, int), bias=y), "bias: shape"),
        (lambda x, y: losses.sigmoid_loss(x, y[:, :3]), "documents: shape"),
        (lambda x, y: losses.guided_mask(x, y[:, :3]), "document_guide: shape"),
        (lambda x, y: losses.duplicate_mask(x), "keys: shape"),
        (lambda x, y: losses.duplicate_mask(x[0], y), "other: shape"),
        (
            lambda x, y: losses.masked_autoencoder(
                {}, x, y, None, grid=[], words=x, where=x, decoder_where=x
            ),
            "states: shape",
        ),
        (lambda x, y: losses.symmetric(losses.info_nce)(x, y[:3]), "documents: "),
        (lambda x, y: losses.symmetric(losses.info_nce)(x, y, where=np.ones((2, 2), bool)), "where: "),
    ],
)
def test_wrong_arguments_of_pair_losses_raise_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(*map(jnp.asarray, rows()))
    assert "\n" not in str(caught.value)


TEMPERED = {
    "softmax_loss": lambda x, y, t: losses.softmax_loss(x @ y.T, temperature=t),
    "info_nce": lambda x, y, t: losses.info_nce(x, y, temperature=t),
    "sigmoid_loss": lambda x, y, t: losses.sigmoid_loss(x, y, temperature=t),
    "ranking_loss": lambda x, y, t: losses.ranking_loss(x[:, 0], targets=TARGETS, temperature=t),
    "cosent": lambda x, y, t: losses.cosent(x, y, targets=TARGETS, temperature=t),
    "angle": lambda x, y, t: losses.angle(x, y, targets=TARGETS, temperature=t),
    "score_kl": lambda x, y, t: losses.score_kl(x, teacher=y, temperature=t),
    "vector_kl": lambda x, y, t: losses.vector_kl(x, teacher=y, temperature=t),
    "frozen_softmax": lambda x, y, t: losses.frozen_softmax(
        x, y, positives=np.zeros(ROWS, int), temperature=t
    ),
}


@pytest.mark.parametrize("name", TEMPERED)
def test_temperatures_are_above_zero(name):
    x, y = map(jnp.asarray, rows())
    for wrong in (0, 0.0, -1, math.nan, np.float32(0), np.zeros(1)):
        with pytest.raises(ValueError, match=r"temperature: \S+ is not above 0; pass a positive number$"):
            TEMPERED[name](x, y, wrong)
    np.testing.assert_allclose(
        jax.jit(functools.partial(TEMPERED[name], x, y))(0.5), TEMPERED[name](x, y, 0.5), rtol=1e-5, atol=1e-6
    )
