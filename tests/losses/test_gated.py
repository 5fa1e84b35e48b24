"""Gated similarities, partner classes, and losses in which positives do not compete; limits and bad input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_losses
import pytest
from jax.sharding import PartitionSpec as P
from refusals import refused

from jaxembed import losses, train

B, N, D, C = 6, 9, 4, 4
LABELS, KEYS = np.array([0, 1, 2, 3, 0, 1]), np.array([0, 1, 2, 3, 0, 1, 2, 3, 0])
PARTNERS = np.array([1, 1, 3, 0, 2, 0])


def problem(seed=0, queries=B, keys=N):
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(queries, D)), rng.normal(size=(keys, D))
    return [x.astype(np.float32) for x in (q, k, rng.random((queries, D)))]


# Similarities behind gates


def test_gated_cosines_equal_a_loop():
    q, k, g = problem()
    q[1], k[2], g[3], g[4, :3] = 0, 0, 0, 0
    wanted = [[oracles_losses.cosine(g[i] * q[i], g[i] * k[j]) for j in range(N)] for i in range(B)]
    np.testing.assert_allclose(jax.jit(losses.gated_cosine)(q, k, g), wanted, atol=1e-5)


def test_open_gates_are_the_cosine_and_gates_of_0_and_1_choose_coordinates():
    q, k, g = problem(1)
    plain = oracles.inner(oracles.unit(q), oracles.unit(k))
    np.testing.assert_allclose(losses.gated_cosine(q, k, np.ones_like(g)), plain, atol=1e-6)
    chosen = np.array([True, False, True, True])
    gate = np.broadcast_to(chosen, g.shape).astype(np.float32)
    inside = oracles.inner(oracles.unit(q[:, chosen]), oracles.unit(k[:, chosen]))
    np.testing.assert_allclose(losses.gated_cosine(q, k, gate), inside, atol=1e-6)


def test_the_length_of_a_gate_does_not_matter():
    q, k, g = problem(2)
    scale = np.array([1e-25, 1e-3, 1, 7, 1e5, 1e25], np.float32)[:, None]
    np.testing.assert_allclose(losses.gated_cosine(q, k, g * scale), losses.gated_cosine(q, k, g), atol=1e-5)


def test_no_array_of_all_triples_is_made(optimized):
    """[B, N, D] would be 268 MB."""
    shapes = [jnp.zeros(shape) for shape in ((512, 256), (512, 256), (512, 256))]
    run = jax.jit(jax.grad(lambda q, k, g: losses.gated_cosine(q, k, g).sum(), argnums=(0, 1, 2)))
    assert run.lower(*shapes).compile().memory_analysis().temp_size_in_bytes < 2e7


# Positives that do not compete


def alone(scores, positives, where, temperature):
    """Each positive against the negatives, a mean over the positives of a row."""
    out = np.zeros(len(scores))
    for i, row in enumerate(scores.astype(np.float64) / temperature):
        own = [j for j in range(len(row)) if positives[i, j]]
        others = [np.exp(row[j]) for j in range(len(row)) if where[i, j] and not positives[i, j]]
        out[i] = np.mean([np.log1p(sum(others) / np.exp(row[j])) for j in own]) if own else 0
    return out


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_positives_that_do_not_compete_equal_a_loop(temperature):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(B, N)).astype(np.float32)
    positives, where = rng.random((B, N)) < 0.4, rng.random((B, N)) < 0.7
    positives[1], where[2] = False, False
    options = {"positives": positives, "where": where, "temperature": temperature}
    found = losses.softmax_loss(scores, compete=False, **options)
    np.testing.assert_allclose(found, alone(scores, positives, where, temperature), rtol=1e-5, atol=1e-6)
    assert found[1] == 0 and found[2] == 0  # no positive; no negative
    assert (np.asarray(found) <= np.asarray(losses.softmax_loss(scores, **options)) + 1e-6).all()
    spoiled = np.where(positives | where, scores, np.nan).astype(np.float32)
    run = jax.value_and_grad(lambda s: losses.softmax_loss(s, compete=False, **options).sum())
    chex.assert_trees_all_equal(run(spoiled), run(scores))


def test_one_positive_is_the_cross_entropy():
    scores = np.random.default_rng(1).normal(size=(B, B)).astype(np.float32)
    np.testing.assert_allclose(
        losses.softmax_loss(scores, compete=False), losses.softmax_loss(scores), rtol=1e-5
    )


@pytest.mark.parametrize("size", [1e4, 1e-20, 0.0])
def test_extreme_scores_are_finite(size):
    scores = np.float32(size) * np.random.default_rng(2).normal(size=(B, N)).astype(np.float32)
    pairs = losses.partner_pairs(LABELS, PARTNERS, KEYS)
    run = jax.value_and_grad(lambda s: losses.softmax_loss(s, compete=False, **pairs).sum())
    chex.assert_tree_all_finite(run(scores))
    chex.assert_tree_all_finite(run(np.full((B, N), -np.inf, np.float32))[0])


# Partners


def test_partners_have_the_classes_of_their_mode():
    labels = jnp.arange(4000) % C
    key = jax.random.key(3)
    assert (losses.sample_partners(key, labels, C, mode="identical") == labels).all()
    arbitrary = losses.sample_partners(key, labels, C)
    np.testing.assert_array_equal(jnp.sort(arbitrary), jnp.sort(labels))
    assert float((arbitrary == labels).mean()) == pytest.approx(1 / C, abs=0.03)
    distinct = jax.jit(lambda k, y: losses.sample_partners(k, y, C, mode="distinct"))(key, labels)
    gaps = np.bincount(np.asarray((distinct - labels) % C), minlength=C) / 4000
    np.testing.assert_allclose(gaps, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.03)
    assert distinct.dtype == arbitrary.dtype == np.int32


def test_weights_draw_partners_by_their_shares():
    distance = np.abs(np.arange(C)[:, None] - np.arange(C))
    labels = jnp.full(8000, 1)
    for power in (0, 2, 40):
        weights = 1 / (1.0 + distance) ** power
        found = losses.sample_partners(jax.random.key(4), labels, C, weights=weights)
        shares = np.bincount(np.asarray(found), minlength=C) / 8000
        np.testing.assert_allclose(shares, weights[1] / weights[1].sum(), atol=0.02)


def test_pairs_of_partners_are_those_of_the_definition():
    pairs = losses.partner_pairs(LABELS, PARTNERS, KEYS)
    for i, j in np.ndindex(B, N):
        positive = KEYS[j] == PARTNERS[i]
        negative = KEYS[j] != LABELS[i] and not positive
        assert pairs["positives"][i, j] == positive and pairs["where"][i, j] == (positive or negative)
    own = losses.partner_pairs(LABELS, LABELS)
    assert not np.diagonal(own["positives"]).any() and not np.diagonal(own["where"]).any()
    assert np.diagonal(losses.partner_pairs(LABELS, LABELS, LABELS)["positives"]).all()


# The loss of arbitrary pairs


def loss_of(q, k, g, labels=LABELS, partners=PARTNERS, keys=KEYS, **options):
    named = {"labels": labels, "partners": partners, "key_labels": keys}
    return losses.arbitrary_pair_loss(q, k, g, **named, **options)


def by_hand(q, k, g, temperature):
    total, count = 0.0, 0
    for i in range(len(q)):
        s = [oracles_losses.cosine(g[i] * q[i], g[i] * x) / temperature for x in k]
        others = sum(np.exp(s[j]) for j in range(len(k)) if KEYS[j] not in (LABELS[i], PARTNERS[i]))
        for j in range(len(k)):
            if KEYS[j] == PARTNERS[i]:
                total, count = total + np.log(np.exp(s[j]) + others) - s[j], count + 1
    return total / count


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_equals_a_loop(temperature):
    q, k, g = problem(3)
    assert loss_of(q, k, g, temperature=temperature) == pytest.approx(by_hand(q, k, g, temperature), rel=1e-5)


def test_identical_partners_and_open_gates_are_the_supervised_loss_without_competing_positives():
    q, k, g = problem(4)
    found = loss_of(q, k, np.ones_like(g), partners=LABELS)
    positives = LABELS[:, None] == KEYS
    scores = oracles.inner(oracles.unit(q), oracles.unit(k)).astype(np.float32)
    each = alone(scores, positives, np.ones_like(positives), 0.1)
    assert found == pytest.approx(np.average(each, weights=positives.sum(axis=1)), rel=1e-4)


def test_equal_scores_have_the_closed_form():
    ones = np.ones((B, D), np.float32)
    pairs = losses.partner_pairs(LABELS, PARTNERS, KEYS)
    positives, negatives = pairs["positives"].sum(axis=1), (pairs["where"] & ~pairs["positives"]).sum(axis=1)
    expected = np.average(np.log1p(negatives), weights=positives)
    assert loss_of(ones, np.ones((N, D), np.float32), ones) == pytest.approx(expected, rel=1e-5)


def test_a_constant_on_the_scores_of_a_row_changes_nothing():
    scores = np.random.default_rng(5).normal(size=(B, N)).astype(np.float32)
    pairs = losses.partner_pairs(LABELS, PARTNERS, KEYS)
    run = jax.value_and_grad(lambda s: losses.softmax_loss(s, compete=False, **pairs).sum())
    shift = np.arange(B, dtype=np.float32)[:, None] * 8
    chex.assert_trees_all_close(run(scores + shift), run(scores), rtol=1e-4, atol=1e-5)


def test_the_order_of_keys_does_not_matter_and_the_own_class_gets_no_gradient():
    q, k, g = problem(6)
    order = np.random.default_rng(0).permutation(N)
    assert loss_of(q, k[order], g, keys=KEYS[order]) == pytest.approx(float(loss_of(q, k, g)), rel=1e-5)
    only = losses.partner_pairs(LABELS[:1], PARTNERS[:1], KEYS)
    gradient = jax.grad(
        lambda k: losses.softmax_loss(losses.gated_cosine(q[:1], k, g[:1]), compete=False, **only).sum()
    )(k)
    assert not np.asarray(gradient)[LABELS[0] == KEYS].any()
    assert np.asarray(gradient)[LABELS[0] != KEYS].any(axis=1).all()


def test_two_classes_and_distinct_partners_have_no_negative_and_the_loss_zero():
    q, _, g = problem(7)
    labels = np.array([0, 1, 0, 1, 1, 0])
    run = jax.value_and_grad(
        lambda q: losses.arbitrary_pair_loss(q, q, g, labels=labels, partners=1 - labels)
    )
    value, gradient = run(q)
    assert value == 0 and not np.asarray(gradient).any()


def test_without_a_key_of_the_partner_the_loss_is_zero():
    q, k, g = problem(8)
    value, gradient = jax.value_and_grad(lambda q: loss_of(q, k, g, partners=np.full(B, 9)))(q)
    assert value == 0 and not np.asarray(gradient).any()


def test_pairs_that_are_left_out_count_neither_way():
    q, k, g = problem(9)
    where = np.arange(N) < 5
    expected = loss_of(q, k[:5], g, keys=KEYS[:5])
    spoiled = np.where(where[:, None], k, 3).astype(np.float32)
    assert loss_of(q, spoiled, g, where=np.tile(where, (B, 1))) == pytest.approx(float(expected), rel=1e-5)


def test_gradients_equal_numerical_ones_in_float64():
    with jax.enable_x64(True):
        q, k, g = (jnp.asarray(x, jnp.float64) for x in problem(10))
        for place in range(3):
            given = [q, k, g]

            def total(x, given=given, place=place):
                return loss_of(*given[:place], x, *given[place + 1 :], temperature=0.5)

            analytic = jax.grad(total)(given[place])
            numerical = oracles.numerical_gradient(jax.jit(total), np.asarray(given[place]))
            np.testing.assert_allclose(analytic, numerical, atol=1e-7)


@pytest.mark.parametrize("size", [1e4, 1e-20, 0.0])
def test_extreme_and_zero_vectors_are_finite(size):
    q, k, g = problem(11)
    run = jax.value_and_grad(loss_of, argnums=(0, 1, 2))
    chex.assert_tree_all_finite(run(np.float32(size) * q, k, g))
    chex.assert_tree_all_finite(run(q, np.float32(size) * k, g))
    chex.assert_tree_all_finite(run(q, k, np.float32(size) * g))


def test_sharded_keys_keep_their_labels():
    q, k, g = problem(12, 8, 16)
    labels, partners, keys = np.arange(8) % C, (np.arange(8) * 3 + 1) % C, np.arange(16) // 3 % C
    run = jax.jit(jax.value_and_grad(loss_of, argnums=(0, 1, 2)))
    expected = run(q, k, g, labels, partners, keys)
    placed = jax.device_put(
        (q, k, g, labels, partners, keys), jax.sharding.NamedSharding(train.make_mesh(8, 1), P("data"))
    )
    chex.assert_trees_all_close(jax.tree.map(np.asarray, run(*placed)), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q, k, g: losses.gated_cosine(q, k[:, :2], g), r"keys: shape \(9, 2\); pass \[any, 4\]"),
        (lambda q, k, g: losses.gated_cosine(q, k, g[:2]), r"gate: shape \(2, 4\); pass \[6, 4\]"),
        (lambda q, k, g: loss_of(q, k, g, keys=KEYS[:3]), r"key_labels: shape \(6, 3\); pass"),
        (lambda q, k, g: loss_of(q, k, g, keys=None), r"key_labels: needed for 9 keys of 6 rows; pass"),
        (lambda q, k, g: loss_of(q, k, g, partners=PARTNERS[:2]), r"partners: shape \(2,\); pass \[6\]"),
        (lambda q, k, g: loss_of(q, k, g, where=q > 0), r"where: shape \(6, 4\); pass \[6, 9\]"),
        (
            lambda q, k, g: losses.sample_partners(jax.random.key(0), LABELS, C, mode="same"),
            "mode: 'same' is unknown; choose one of",
        ),
        (
            lambda q, k, g: losses.sample_partners(jax.random.key(0), LABELS * 0, 1, mode="distinct"),
            "classes: 1 class has no distinct partner; give at least 2",
        ),
        (
            lambda q, k, g: losses.sample_partners(jax.random.key(0), LABELS, C, weights=np.zeros((C, C))),
            "weights: a row is negative or sums to 0; give",
        ),
        (
            lambda q, k, g: losses.sample_partners(jax.random.key(0), LABELS, C, weights=np.ones((2, 2))),
            r"weights: shape \(2, 2\); pass \[4, 4\]",
        ),
    ],
)
def test_wrong_arguments_get_one_line(call, message):
    refused(message, lambda: call(*problem()))


def test_nan_stays_and_nearly_closed_coordinates_still_compare():
    broken = jnp.array([[jnp.nan, 1.0], [0.0, 1.0]])
    for given in ((broken, jnp.eye(2), jnp.ones((2, 2))), (jnp.ones((2, 2)), jnp.eye(2), broken)):
        found = losses.gated_cosine(*given)
        assert jnp.isnan(found[0]).all() and not jnp.isnan(found[1]).any()
    one = jnp.array([[0.0, 1.0]])
    np.testing.assert_allclose(losses.gated_cosine(one, one, jnp.array([[1.0, 1e-10]])), 1, rtol=1e-6)
