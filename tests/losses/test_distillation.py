"""Teachers and students: loops from the formulas, what gets a gradient, what may hold anything."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles_losses
import pytest
from loss_families import ROWS, D, rows

from jaxembed import losses


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


def test_token_kl_is_the_mean_over_real_tokens():
    rng = np.random.default_rng(0)
    tokens, teacher = rng.normal(size=(2, 4, 5, D)).astype(np.float32)
    mask = rng.random((4, 5)) < 0.6
    mask[1] = False
    rows = zip(tokens, teacher, mask, strict=True)
    wanted = [np.mean(oracles_losses.kl(x[m], y[m], temperature=0.5)) if m.any() else 0.0 for x, y, m in rows]
    tokens[~mask], teacher[~mask] = np.nan, np.inf  # padding is never read

    def loss(tokens, teacher, **options):
        return losses.token_kl(tokens, teacher=teacher, mask=mask, temperature=0.5, **options)

    np.testing.assert_allclose(jax.jit(loss)(tokens, teacher), wanted, rtol=1e-4, atol=1e-6)
    total = jax.grad(lambda x, y: jnp.sum(loss(x, y)), (0, 1))
    student, teaching = total(jnp.asarray(tokens), jnp.asarray(teacher))
    assert np.isfinite(student).all() and student[mask].any() and not student[~mask].any()
    assert not np.asarray(teaching).any()
    for shape in ((4, 5, D + 1), (4, 6, D)):
        with pytest.raises(ValueError, match="teacher"):
            losses.token_kl(jnp.zeros((4, 5, D)), teacher=jnp.zeros(shape), mask=mask)


@pytest.mark.parametrize("size", [1, 3, D])
def test_compression_target_equals_the_oracle_and_sends_no_gradient(size):
    x, _ = rows()
    value = losses.compression_target(x, size)
    np.testing.assert_allclose(value, oracles_losses.compression_target(x, size), rtol=1e-3, atol=1e-4)
    gradient = jax.grad(lambda v: jnp.sum(losses.compression_target(v, size) ** 2))(jnp.asarray(x))
    assert not np.asarray(gradient).any()


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


# Embedding distillation


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("kind", ["l1", "l2", "cosine"])
def test_vector_distance_equals_the_oracle(kind, normalise):
    x, y = rows()
    keep = np.arange(ROWS) != 2
    value = losses.vector_distance(x, teacher=y, where=keep, kind=kind, normalise=normalise)
    expected = oracles_losses.vector_distance(x, y, keep, kind, normalise)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_vector_distance_is_zero_for_copies_and_below_its_bound():
    x, y = rows()
    np.testing.assert_allclose(losses.vector_distance(x, teacher=3 * x), 0, atol=1e-6)
    assert (np.asarray(losses.vector_distance(x, teacher=y)) > 0.1).all()
    wave = np.array([[1, -1] * 8], np.float32)
    np.testing.assert_allclose(losses.vector_distance(wave, teacher=-wave), 2 * 16**0.5, rtol=1e-6)
    vectors = np.random.default_rng(0).normal(size=(2, 500, 16)).astype(np.float32)
    assert (np.asarray(losses.vector_distance(vectors[0], teacher=vectors[1])) <= 8).all()


def test_padding_rows_leave_the_mean_over_valid_boxes_as_it_is():
    x, y = rows()
    valid = np.ones(ROWS, bool)

    def mean(x, y, valid):
        return losses.vector_distance(x, teacher=y, where=valid).sum() / max(valid.sum(), 1)

    padded = np.concatenate([x, np.zeros((3, D), np.float32)])
    anything = np.concatenate([y, np.full((3, D), np.nan, np.float32)])
    assert mean(padded, anything, np.append(valid, [False] * 3)) == mean(x, y, valid)
    assert mean(x, y, ~valid) == 0
    slope = jax.grad(lambda t: mean(x, t, valid))(jnp.asarray(y))
    assert not np.asarray(slope).any()
