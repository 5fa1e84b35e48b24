"""Losses on pairs: their laws, loops from the formulas, closed forms, and what is refused."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_losses
import pytest
from jax.sharding import PartitionSpec as P
from loss_families import ROWS, TARGETS, D, rows

from jaxembed import losses, train


def negatives_of(x, y):
    return jnp.stack([x * 0.5 + y, jnp.flip(y, axis=1)], axis=1)


PAIRS = {  # name: (loss of (first, second, rows that count or None), scalar)
    "cosent": (lambda x, y, keep: losses.cosent(x, y, targets=TARGETS, where=keep), True),
    "angle": (lambda x, y, keep: losses.angle(x, y, targets=TARGETS, where=keep), True),
    "angle_objective": (
        lambda x, y, keep: losses.angle_objective(x, y, targets=TARGETS, where=keep, positive=0.5),
        True,
    ),
    "angle_objective, triplets": (
        lambda x, y, keep: losses.angle_objective(
            x, y, negatives=negatives_of(x, y)[:, 0], targets=TARGETS, where=keep
        ),
        True,
    ),
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
CLASSES = np.arange(D) < 4  # of the losses over classes; the last two are masked
for kind in ("l1", "l2", "cosine"):
    PAIRS[f"vector_distance {kind}"] = (
        lambda x, y, keep, kind=kind: losses.vector_distance(x, teacher=y, where=keep, kind=kind),
        False,
    )
for masked in ("drop", "zero"):
    PAIRS[f"class_loss {masked}"] = (
        lambda x, y, keep, masked=masked: losses.class_loss(
            x, np.arange(ROWS) % 4, classes=CLASSES, masked=masked
        ),
        False,
    )
PAIRS["nested cosent"] = (
    lambda x, y, keep: losses.matryoshka(losses.cosent, (2, D))(x, y, targets=TARGETS, where=keep),
    True,
)
SCALAR = [name for name, (_, scalar) in PAIRS.items() if scalar]


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
    stopped = {"vector_kl", "compression_loss", "frozen_softmax", "ranking_loss"}
    stopped |= {other for other in PAIRS if other.startswith(("vector_distance", "class_loss"))}
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


@pytest.mark.parametrize("name", [*SCALAR, "cosine_loss", "vector_distance l1", "vector_distance cosine"])
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
    if hasattr(losses, name) and name not in ("ranking_loss", "angle_objective"):
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


def test_the_objective_of_angle_is_its_three_terms():
    """A loop over the formula of InfoNCE within the batch; the other two terms have oracles above."""
    x, y = rows()
    texts = np.concatenate([x, y]).astype(np.float64)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    count, terms = len(x), []
    for i in range(2 * count):
        partner = (i + count) % (2 * count)
        logits = {j: texts[i] @ texts[j] / 0.1 for j in range(2 * count) if j != i}
        loss = np.log(sum(math.exp(s) for s in logits.values())) - logits[partner]
        terms.append(loss if TARGETS[i % count] >= 0.5 else 0.0)
    parts = losses.cosent(x, y, targets=TARGETS), np.mean(terms), losses.angle(x, y, targets=TARGETS)
    options = {"targets": TARGETS, "positive": 0.5, "temperatures": (0.05, 0.1, 0.05)}
    for k in range(3):
        weights = tuple(float(k == n) for n in range(3))
        np.testing.assert_allclose(
            losses.angle_objective(x, y, weights=weights, **options), parts[k], rtol=1e-5
        )
    value = losses.angle_objective(x, y, weights=(1.0, 2.0, 0.5), **options)
    np.testing.assert_allclose(value, parts[0] + 2 * parts[1] + 0.5 * parts[2], rtol=1e-5)


def test_the_objective_of_angle_takes_hard_negatives():
    x, y = rows()
    hard = np.asarray(negatives_of(jnp.asarray(x), jnp.asarray(y)))[:, 0]
    options = {"targets": TARGETS, "negatives": hard, "temperatures": (0.05, 0.1, 0.05)}
    within = losses.angle_objective(x, y, weights=(0.0, 1.0, 0.0), **options)
    plain, both = (losses.info_nce(x, d, temperature=0.1) for d in (y, np.concatenate([y, hard])))
    np.testing.assert_allclose(within, (plain.mean() + both.mean()) / 2, rtol=1e-5)
    ranked = losses.angle_objective(x, y, weights=(1.0, 0.0, 0.0), **options)
    graded = np.repeat([1.0, 0.0], len(x))
    expected = losses.cosent(np.concatenate([x, x]), np.concatenate([y, hard]), targets=graded)
    np.testing.assert_allclose(ranked, expected, rtol=1e-5)


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
        (lambda x, y: losses.vector_distance(x, teacher=y[:3]), "teacher: shape"),
        (lambda x, y: losses.vector_distance(x, teacher=y, kind="l3"), "kind: 'l3'"),
        (lambda x, y: losses.vector_distance(x, teacher=y, where=EVERY[:3]), "where: shape"),
        (lambda x, y: losses.class_loss(x, np.arange(ROWS), classes=EVERY[:3]), "classes: shape"),
        (lambda x, y: losses.class_loss(x, np.arange(ROWS), masked="half"), "masked: 'half'"),
        (lambda x, y: losses.class_loss(x, np.arange(3)), "positives: shape"),
        (
            lambda x, y: losses.angle_objective(x, y, targets=EVERY, weights=(1.0, 1.0)),
            "weights: 2; pass three",
        ),
        (
            lambda x, y: losses.angle_objective(x, y, targets=EVERY, temperatures=(1.0,)),
            "temperatures: 1; pass",
        ),
        (lambda x, y: losses.symmetric(losses.info_nce)(x, y[:3]), "documents: "),
        (lambda x, y: losses.symmetric(losses.info_nce)(x, y, where=np.ones((2, 2), bool)), "where: "),
    ],
)
def test_wrong_arguments_of_pair_losses_raise_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(*map(jnp.asarray, rows()))
    assert "\n" not in str(caught.value)
