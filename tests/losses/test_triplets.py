"""Triplets: mining against loops, a formula and a public package; laws of the losses, and what is refused."""

import itertools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from jax.sharding import PartitionSpec as P
from refusals import refused

from jaxembed import losses, train
from jaxembed.arrays import squared_distances, unit
from jaxembed.losses.triplets import RANDOM, RULES

GOLDEN = pathlib.Path(__file__).parents[1] / "support" / "golden" / "triplets.npz"
LABELS = np.array([0, 0, 1, 2, 1, 0, 3, 1, 0, 2, 0, 1])  # label 3 comes once
KEY = jax.random.key(0)


def drawn(seed=0, count=12, width=4):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def distances_of(x, y=None):
    x = oracles.unit(x)
    y = x if y is None else oracles.unit(y)
    return np.array([[np.sum((a - b) ** 2) for b in y] for a in x])


def candidates(distances, same, where, rule, margin, a, p):
    """Columns that a rule allows for a pair, from the definition."""
    negatives = [n for n in range(distances.shape[1]) if where[a, n] and not same[a, n]]
    own = distances[a, p]
    allowed = {
        "semi_hard": lambda d: own < d < own + margin,
        "margin_violating": lambda d: d < own + margin,
        "hardest": lambda d: True,
        "all": lambda d: True,
    }
    return negatives, [n for n in negatives if allowed[rule](distances[a, n])]


def problem(seed=0, rows=7, columns=40):
    """Distances with ties, many positives (more than are looked at together) and dropped pairs."""
    rng = np.random.default_rng(seed)
    distances = (rng.integers(0, 60, (rows, columns)) / 20).astype(np.float32)
    same, where = rng.random((rows, columns)) < 0.5, rng.random((rows, columns)) < 0.9
    same[0], same[1], where[2] = True, False, False  # no negative; no positive; nothing at all
    return distances, same, where


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_mined_negatives_are_those_of_the_definition(rule, fallback):
    distances, same, where = problem()
    mine = jax.jit(losses.mine_triplets, static_argnames=("rule", "fallback"))
    index, valid = mine(distances, same, rule=rule, margin=0.3, where=where, fallback=fallback, key=KEY)
    assert index.shape == valid.shape == same.shape and index.dtype == np.int32 and valid.dtype == bool
    fell = 0
    for a, p in np.ndindex(*same.shape):
        negatives, allowed = candidates(distances, same, where, rule, 0.3, a, p)
        pair = same[a, p] and where[a, p]
        assert valid[a, p] == (pair and bool(allowed or (fallback and negatives)))
        if not valid[a, p]:
            assert index[a, p] == 0
        elif not allowed:
            fell += 1
            assert index[a, p] == max(negatives, key=lambda n, a=a: (distances[a, n], -n))
        elif rule in RANDOM:
            assert index[a, p] in allowed
        else:
            assert index[a, p] == min(allowed, key=lambda n, a=a: (distances[a, n], n))
    assert valid.any() and (fell > 0) == (fallback and rule == "semi_hard" or fell > 0)


def test_rules_are_nested():
    distances, same, where = problem(1)
    valid = {r: losses.mine_triplets(distances, same, rule=r, where=where, key=KEY)[1] for r in RULES}
    assert not (valid["semi_hard"] & ~valid["margin_violating"]).any()
    assert not (valid["margin_violating"] & ~valid["all"]).any()
    assert valid["semi_hard"].sum() < valid["margin_violating"].sum() <= valid["all"].sum()


@pytest.mark.parametrize("rule", RANDOM)
def test_drawn_negatives_are_even_and_independent_of_one_another(rule):
    distances = jnp.tile(jnp.array([0.5, 0.5, 0.1, 0.6, 0.2, 0.9]), (4000, 1))
    same = jnp.tile(jnp.arange(6) < 2, (4000, 1))
    index, _ = losses.mine_triplets(distances, same, rule=rule, margin=0.2, key=KEY)
    allowed = [2, 3, 4] if rule == "margin_violating" else [2, 3, 4, 5]
    for column in (0, 1):
        shares = [float((index[:, column] == n).mean()) for n in allowed]
        np.testing.assert_allclose(shares, 1 / len(allowed), atol=0.03)
    together = float((index[:, 0] == index[:, 1]).mean())
    assert together == pytest.approx(1 / len(allowed), abs=0.03)


def addons(x, labels, margin):
    """TripletSemiHardLoss of TensorFlow Addons on squared distances, as its documentation defines it."""
    d, total, count = distances_of(x), 0.0, 0
    for a, p in itertools.permutations(range(len(x)), 2):
        if labels[a] != labels[p]:
            continue
        others = [d[a, n] for n in range(len(x)) if labels[n] != labels[a]]
        outside = [v for v in others if v > d[a, p]]
        total += max(0.0, margin + d[a, p] - (min(outside) if outside else max(others)))
        count += 1
    return total / count


@pytest.mark.parametrize("margin", [0.2, 1.0, 3.0])
def test_the_default_is_the_semi_hard_loss_of_tensorflow_addons(margin):
    x = drawn(1)
    loss, _ = losses.batch_triplet_loss(x, LABELS, margin=margin)
    assert loss == pytest.approx(addons(x, LABELS, margin), rel=1e-5)


def by_pair(triplets):
    found = {}
    for a, p, n in triplets.tolist():
        found.setdefault((a, p), set()).add(n)
    return found


@pytest.mark.parametrize("rule", ["semi_hard", "margin_violating"])
def test_triplets_values_and_gradients_equal_pytorch_metric_learning(rule):
    with np.load(GOLDEN, allow_pickle=False) as file:
        file = dict(file)
    x, labels, theirs = file["vectors"], file["labels"], by_pair(file[rule])
    pairs = losses.label_pairs(labels)
    distances = squared_distances(unit(x), unit(x))
    index, valid = losses.mine_triplets(
        distances, pairs["positives"], rule=rule, where=pairs["where"], key=KEY
    )
    assert {(int(a), int(p)) for a, p in np.argwhere(valid)} == theirs.keys()
    assert all(int(index[pair]) in allowed for pair, allowed in theirs.items())
    a, p, n = file[rule].T

    def mean(x):
        x = unit(x)
        return losses.triplet_loss(x[a], x[p], x[n]).mean()

    value, gradient = jax.value_and_grad(mean)(x)
    np.testing.assert_allclose(value, file[f"{rule}_loss"], rtol=1e-5)
    np.testing.assert_allclose(gradient, file[f"{rule}_gradient"], rtol=1e-4, atol=1e-6)


# The loss of a triplet


def test_an_active_triplet_has_the_gradients_of_the_formula():
    a, p, n = drawn(2, 3)[:, None]
    gradients = jax.grad(lambda *x: losses.triplet_loss(*x, margin=9.0).sum(), argnums=(0, 1, 2))(a, p, n)
    for found, wanted in zip(gradients, (2 * (n - p), 2 * (p - a), 2 * (a - n)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(sum(gradients), 0, atol=1e-5)
    far = jax.grad(lambda x: losses.triplet_loss(x, x, x + 3).sum())(a)
    assert not np.asarray(far).any()


def test_optax_has_unsquared_distances_and_agrees_when_they_are_replaced():
    a, p, n = np.split(drawn(20), 3)
    ours = losses.triplet_loss(a, p, n)
    assert np.abs(optax.losses.triplet_margin_loss(a, p, n, margin=0.2) - ours).max() > 0.1
    near, far = (np.sum((a - x) ** 2, axis=1, keepdims=True) for x in (p, n))  # on a line, squared already
    theirs = optax.losses.triplet_margin_loss(np.zeros_like(near), near, far, margin=0.2, eps=0.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_triplets_that_do_not_count_may_hold_anything():
    a, p, n = np.split(drawn(3), 3)
    keep = np.array([True, False, True, False])
    run = jax.value_and_grad(lambda x: losses.triplet_loss(x, p, n, margin=5.0, where=keep).sum())
    value, gradient = run(a)
    spoiled, same = run(np.where(keep[:, None], a, np.nan).astype(np.float32))
    assert spoiled == value > 0
    np.testing.assert_array_equal(same, gradient)
    assert not np.asarray(gradient)[~keep].any()
    alone = losses.triplet_loss(a[keep], p[keep], n[keep], margin=5.0)
    np.testing.assert_allclose(alone, losses.triplet_loss(a, p, n, margin=5.0, where=keep)[keep])


def test_distances_of_unit_vectors():
    x, y = oracles.unit(drawn(4, 400, 8)), oracles.unit(drawn(5, 400, 8))
    found = np.asarray(squared_distances(x.astype(np.float32), y.astype(np.float32)))
    np.testing.assert_allclose(found, 2 - 2 * x @ y.T, atol=1e-5)
    assert found.min() >= 0 and found.max() <= 4 + 1e-5
    assert found.mean() == pytest.approx(2, abs=0.02)  # random directions
    gradient = jax.grad(lambda v: squared_distances(v, v).sum())(jnp.ones((3, 2)))
    chex.assert_tree_all_finite(gradient)


# The loss of a batch


compiled = jax.jit(losses.batch_triplet_loss, static_argnames=("rule", "fallback", "average"))


def loss_of(x, labels=LABELS, **options):
    loss, told = compiled(x, labels, **{"key": KEY} | options)
    return float(loss), {name: float(value) for name, value in told.items()}


def numbers(*arguments, **options):
    loss, told = loss_of(*arguments, **options)
    return [loss, *told.values()]


@pytest.mark.parametrize("rule", RULES)
def test_constant_vectors_lose_exactly_the_margin_and_separated_ones_nothing(rule):
    loss, told = loss_of(np.ones((12, 4), np.float32), rule=rule, margin=0.3)
    assert loss == pytest.approx(0.3, rel=1e-5) and told["active"] == 1
    assert told["without"] == (rule == "semi_hard")  # no negative is farther than the positive
    loss, told = loss_of(np.eye(4, dtype=np.float32)[LABELS], rule=rule)
    assert loss == told["active"] == told["loss_of_active"] == 0


def test_the_loss_is_zero_only_where_every_triplet_keeps_the_margin():
    x = np.eye(4, dtype=np.float32)[LABELS] + 0.02 * drawn(6)
    d, same = distances_of(x), LABELS[:, None] == LABELS
    gap = d[~same].min() - d[same].max()
    assert loss_of(x, rule="hardest", margin=gap * 0.99)[0] == 0
    per_anchor = min(d[a][~same[a]].min() - d[a][same[a]].max() for a in range(12) if same[a].sum() > 1)
    assert loss_of(x, rule="hardest", margin=per_anchor * 1.01)[0] > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_hardest_rule_has_the_largest_loss(seed):
    found = {rule: loss_of(drawn(seed), rule=rule)[0] for rule in RULES}
    assert max(found, key=found.get) == "hardest"


def test_both_averages_and_what_is_told():
    x = drawn(7)
    d, same = distances_of(x), LABELS[:, None] == LABELS
    each = []
    for a, p in itertools.permutations(range(12), 2):
        if same[a, p]:
            _, allowed = candidates(d, same, np.ones_like(same), "semi_hard", 0.2, a, p)
            each.append(0.2 + d[a, p] - min(d[a, n] for n in allowed) if allowed else None)
    some = [v for v in each if v is not None]
    loss, told = loss_of(x, fallback=False)
    assert loss == pytest.approx(sum(some) / len(each), rel=1e-4)
    assert told["loss_of_active"] == pytest.approx(np.mean(some), rel=1e-4)
    assert told["active"] == pytest.approx(len(some) / len(each)) and 0 < told["active"] < 1
    assert told["without"] == pytest.approx(1 - told["active"])
    assert loss_of(x, fallback=False, average="active")[0] == pytest.approx(told["loss_of_active"])


@pytest.mark.parametrize("rule", ["semi_hard", "hardest"])
def test_rotations_and_permutations_change_nothing(rule):
    x, order = drawn(8), np.random.default_rng(0).permutation(12)
    rotation = np.linalg.qr(drawn(9, 4))[0]
    expected = numbers(x, rule=rule)
    assert numbers(x @ rotation, rule=rule) == pytest.approx(expected, rel=1e-4)
    assert numbers(x[order], LABELS[order], rule=rule) == pytest.approx(expected, rel=1e-4)
    assert numbers(x * np.arange(1, 13, dtype=np.float32)[:, None], rule=rule) == pytest.approx(expected)
    distances, pairs = squared_distances(unit(x), unit(x)), losses.label_pairs(LABELS)
    index, valid = losses.mine_triplets(distances, pairs["positives"], rule=rule, where=pairs["where"])
    moved, kept = losses.mine_triplets(
        distances[order][:, order], pairs["positives"][order][:, order], rule=rule, where=pairs["where"]
    )
    np.testing.assert_array_equal(kept, valid[order][:, order])
    np.testing.assert_array_equal(np.where(kept, order[moved], 0), np.where(kept, index[order][:, order], 0))


def test_further_negatives_are_negatives_of_every_row():
    x, more = drawn(10), drawn(11, 5)
    whole = np.concatenate([x, more])
    labels = np.concatenate([LABELS, 10 + np.arange(5)])  # labels that come once
    for rule in ("semi_hard", "hardest"):
        assert numbers(x, negatives=more, rule=rule) == pytest.approx(numbers(whole, labels, rule=rule))


def test_duplicates_are_masked():
    x = drawn(12)
    x[5] = x[2]  # one image under two labels: the nearest negative of both
    where = losses.duplicate_mask(np.where(np.arange(12) == 5, 2, np.arange(12)))
    assert loss_of(x, rule="hardest", where=where)[0] < loss_of(x, rule="hardest")[0]


def test_a_batch_without_pairs_or_without_negatives_has_loss_zero():
    run = jax.value_and_grad(lambda x, y: losses.batch_triplet_loss(x, y)[0])
    for labels in (np.arange(12), np.zeros(12, int)):
        value, gradient = run(drawn(13), labels)
        assert value == 0 and not np.asarray(gradient).any()
    assert losses.batch_triplet_loss(jnp.zeros((0, 3)), jnp.zeros(0, int))[0] == 0


@pytest.mark.parametrize("size", [1e4, 1e-20, 0.0])
@pytest.mark.parametrize("rule", RULES)
def test_extreme_and_equal_vectors_have_finite_gradients(rule, size):
    run = jax.jit(jax.value_and_grad(lambda x: losses.batch_triplet_loss(x, LABELS, rule=rule, key=KEY)[0]))
    chex.assert_tree_all_finite(run(np.float32(size) * drawn(14)))
    chex.assert_tree_all_finite(run(np.float32(size) * np.ones((12, 4), np.float32)))


def test_no_gradient_flows_through_the_choice_and_what_flows_is_right():
    with jax.enable_x64(True):
        x = jnp.asarray(drawn(15), jnp.float64)
        total = jax.jit(lambda x: losses.batch_triplet_loss(x, LABELS)[0])
        analytic = jax.grad(total)(x)
        assert analytic.dtype == np.float64
        np.testing.assert_allclose(analytic, oracles.numerical_gradient(total, np.asarray(x)), atol=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_sharded_equals_unsharded(rule):
    x, labels = drawn(16, 16), np.arange(16) % 3
    run = jax.jit(jax.value_and_grad(lambda x, y: losses.batch_triplet_loss(x, y, rule=rule, key=KEY)[0]))
    expected = run(x, labels)
    placed = jax.device_put((x, labels), jax.sharding.NamedSharding(train.make_mesh(8, 1), P("data")))
    chex.assert_trees_all_close(jax.tree.map(np.asarray, run(*placed)), expected, atol=2e-5)


def test_vmap_mines_each_batch():
    x = np.stack([drawn(s) for s in range(3)])
    run = jax.vmap(lambda x: losses.batch_triplet_loss(x, jnp.asarray(LABELS))[0])
    np.testing.assert_allclose(run(x), [loss_of(v)[0] for v in x], rtol=1e-5)


def test_bfloat16_vectors_accumulate_in_float32():
    x = jnp.asarray(drawn(17), jnp.bfloat16)
    loss, _ = losses.batch_triplet_loss(x, LABELS)
    assert loss.dtype == np.float32
    assert loss == losses.batch_triplet_loss(x.astype(jnp.float32), LABELS)[0]


def test_memory_stays_that_of_the_pairs(optimized):
    """A batch of 300 would need 108 MB for all triplets."""
    run = jax.jit(jax.grad(lambda x, y: losses.batch_triplet_loss(x, y)[0]))
    compiled = run.lower(jnp.zeros((300, 8)), jnp.arange(300) % 9).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 24e6


# Two versions of an encoder


def cross(new, old, labels, margin):
    """The semi-hard loss over both versions, but for triplets of three old vectors."""
    d, labels = distances_of(np.concatenate([new, old])), np.concatenate([labels, labels])
    total, count, rows = 0.0, 0, len(labels)
    for a, p in itertools.permutations(range(rows), 2):
        if labels[a] != labels[p]:
            continue
        others = [n for n in range(rows) if labels[n] != labels[a]]
        outside = [n for n in others if d[a, p] < d[a, n] < d[a, p] + margin]
        n = min(outside, key=lambda n: (d[a, n], n)) if outside else max(others, key=lambda n: (d[a, n], -n))
        if min(a, p, n) < len(new):
            total, count = total + max(0.0, margin + d[a, p] - d[a, n]), count + 1
    return total / count


def test_the_harmonic_loss_equals_a_loop_and_old_vectors_get_no_gradient():
    new, old = drawn(18), drawn(19)
    run = jax.value_and_grad(lambda n, o: losses.cross_version_triplet_loss(n, o, LABELS)[0], argnums=(0, 1))
    value, (gradient, frozen) = run(new, old)
    assert value == pytest.approx(cross(new, old, LABELS, 0.2), rel=1e-4)
    assert np.asarray(gradient).any() and not np.asarray(frozen).any()


def test_only_frozen_rows_have_no_loss():
    x = np.ones((12, 4), np.float32)
    loss, told = losses.batch_triplet_loss(x, LABELS, fixed=np.ones(12, bool))
    assert loss == 0 and told["active"] == 0
    one = np.arange(12) != 0
    assert losses.batch_triplet_loss(x, LABELS, fixed=one)[0] == pytest.approx(0.2, rel=1e-5)


# Wrong arguments


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: losses.mine_triplets(x, x > 0, rule="hard"),
            "rule: 'hard' is unknown; choose one of semi",
        ),
        (lambda x: losses.mine_triplets(x, x > 0, rule="all"), "key: rule 'all' draws negatives; pass a"),
        (lambda x: losses.mine_triplets(x, x[0] > 0), r"same: shape \(4,\); pass \[12, 4\]"),
        (lambda x: losses.mine_triplets(x, x > 0, where=x[:2] > 0), r"where: shape \(2, 4\); pass"),
        (lambda x: losses.triplet_loss(x, x[:2], x), r"positives: shape \(2, 4\); pass \[12, 4\]"),
        (lambda x: losses.triplet_loss(x, x, x[:, :2]), r"negatives: shape \(12, 2\); pass"),
        (lambda x: losses.batch_triplet_loss(x, LABELS[:3]), r"labels: shape \(3,\); pass \[12\]"),
        (
            lambda x: losses.batch_triplet_loss(x, LABELS, average="sum"),
            'average: .sum. is unknown; choose "',
        ),
        (
            lambda x: losses.batch_triplet_loss(x, LABELS, negatives=x[:, :2]),
            r"negatives: shape \(12, 2\); pa",
        ),
        (
            lambda x: losses.batch_triplet_loss(x, LABELS, where=x > 0),
            r"where: shape \(12, 4\); pass \[12, 12",
        ),
        (lambda x: losses.batch_triplet_loss(x, LABELS, fixed=x > 0), r"fixed: shape \(12, 4\); pass \[12\]"),
        (lambda x: losses.cross_version_triplet_loss(x, x[:, :2], LABELS), r"frozen: shape \(12, 2\); pass"),
    ],
)
def test_wrong_arguments_get_one_line(call, message):
    refused(message, lambda: call(drawn()))
