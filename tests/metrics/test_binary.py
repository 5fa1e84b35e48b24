"""Laws of the metrics of clicks, on the host and on devices."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import oracles_ctr as oracles
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxembed import metrics

FILE = np.load(pathlib.Path(__file__).parents[1] / "support" / "golden" / "clicks.npz", allow_pickle=False)
RNG = np.random.default_rng(5)
N = 60
LABELS = RNG.integers(0, 2, N)
P = np.round(RNG.random(N), 1).astype(np.float32)  # few distinct values, so most pairs tie; 0 and 1 are there
GROUPS = RNG.integers(0, 9, N)
WEIGHTS = RNG.random(N).astype(np.float32)
WEIGHTS[:5] = 0
EXACT = 1e-10  # in float64
METRICS = {
    "auc": metrics.auc,
    "grouped_auc": functools.partial(metrics.grouped_auc, groups=GROUPS),
    "log_loss": metrics.log_loss,
    "normalised_entropy": metrics.normalised_entropy,
    "calibration": metrics.calibration,
    "expected_calibration_error": metrics.expected_calibration_error,
}
ON_PROBABILITIES = ("log_loss", "normalised_entropy", "calibration", "expected_calibration_error")
ORACLES = {
    "auc": oracles.auc,
    "grouped_auc": functools.partial(oracles.grouped_auc, groups=GROUPS),
    "log_loss": oracles.log_loss,
    "normalised_entropy": lambda y, p: oracles.log_loss(y, p) / oracles.entropy(np.mean(y)),
    "calibration": lambda y, p: np.sum(p, dtype=float) / np.sum(y),
    "expected_calibration_error": functools.partial(oracles.expected_calibration_error, bins=10),
}


@functools.cache
def jitted(name):
    return jax.jit(METRICS[name])


def device(*arrays):
    return tuple(jnp.asarray(a) for a in arrays)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_equal_the_loops_on_the_host_and_on_devices(name):
    wanted = ORACLES[name](LABELS, P)
    host = METRICS[name](LABELS, P)
    assert isinstance(host, np.float64)
    np.testing.assert_allclose(host, wanted, rtol=EXACT)
    for run in (METRICS[name], jitted(name)):
        found = run(*device(LABELS, P))
        assert isinstance(found, jax.Array) and found.dtype == jnp.float32 and found.shape == ()
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for labels in (LABELS.astype(bool), LABELS.astype(np.float32), LABELS.tolist()):
        np.testing.assert_allclose(METRICS[name](labels, P), wanted, rtol=EXACT)


@pytest.mark.parametrize("name", METRICS)
def test_x64_makes_device_metrics_float64(name):
    with jax.enable_x64(True):
        found = METRICS[name](*device(LABELS, P.astype(np.float64)))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, ORACLES[name](LABELS, P.astype(np.float64)), rtol=EXACT)


@pytest.mark.parametrize("host", [True, False])
def test_metrics_equal_scikit_learn(host):
    given = [FILE[k] if host else jnp.asarray(FILE[k], jnp.float32) for k in ("labels", "probabilities")]
    weights = FILE["weights"] if host else jnp.asarray(FILE["weights"], jnp.float32)
    rtol = EXACT if host else 2e-6
    for name, weight in (("auc", None), ("log_loss", None), ("auc", weights), ("log_loss", weights)):
        found = METRICS[name](*given, weights=weight)
        np.testing.assert_allclose(found, FILE[name if weight is None else f"{name}_weighted"], rtol=rtol)
    groups = FILE["groups"] if host else jnp.asarray(FILE["groups"], jnp.int32)
    np.testing.assert_allclose(metrics.grouped_auc(*given, groups), FILE["grouped_auc"], rtol=rtol)
    ratio = metrics.normalised_entropy(*given)
    np.testing.assert_allclose(ratio, FILE["log_loss"] / FILE["base"], rtol=rtol)
    error = metrics.expected_calibration_error(*given, bins=7)
    np.testing.assert_allclose(error, FILE["expected_calibration_error"], rtol=rtol)


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("name", METRICS)
def test_where_is_removing(name, host):
    where = RNG.random(N) < 0.6
    labels, p = np.where(where, LABELS, 7), np.where(where, P, np.nan).astype(np.float32)
    removed = {} if name != "grouped_auc" else {"groups": GROUPS[where]}
    wanted = METRICS[name](LABELS[where], P[where], **removed)
    given = (labels, p) if host else device(labels, p)
    run = METRICS[name] if host else jitted(name)
    np.testing.assert_allclose(run(*given, where=where), wanted, rtol=EXACT if host else 2e-6)


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("name", [n for n in METRICS if n != "grouped_auc"])
def test_weights_count_as_copies(name, host):
    copies = np.random.default_rng(0).integers(0, 4, N)
    place = (lambda *x: x) if host else device  # float32 puts numbers at the border of a bin elsewhere
    wanted = METRICS[name](*place(np.repeat(LABELS, copies), np.repeat(P, copies)))
    given = place(LABELS, P)
    found = METRICS[name](*given, weights=copies.astype(np.float32))
    np.testing.assert_allclose(found, wanted, rtol=EXACT if host else 2e-6)


def test_weighted_auc_equals_the_loops():
    wanted = oracles.auc(LABELS, P, WEIGHTS.astype(np.float64))
    np.testing.assert_allclose(metrics.auc(LABELS, P, weights=WEIGHTS), wanted, rtol=EXACT)
    np.testing.assert_allclose(metrics.auc(*device(LABELS, P), weights=WEIGHTS), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_order_does_not_matter(name):
    order = RNG.permutation(N)
    moved = {} if name != "grouped_auc" else {"groups": GROUPS[order]}
    found = METRICS[name](LABELS[order], P[order], **moved)
    np.testing.assert_allclose(found, METRICS[name](LABELS, P), rtol=EXACT)


# AUC


@pytest.mark.parametrize("host", [True, False])
def test_auc_in_simple_cases(host):
    labels = np.array([0, 0, 1, 1, 1])
    for scores, wanted in (
        ([1, 2, 3, 4, 5], 1),
        ([5, 4, 3, 2, 1], 0),
        ([7, 7, 7, 7, 7], 0.5),
        ([1, 2, 2, 3, 0], (1 + 0.5 + 2) / 6),
        ([-np.inf, 0.0, -0.0, np.inf, np.inf], (1.5 + 2 + 2) / 6),
        ([-1e4, 1e4, 1e4, -1e4, 1e4], (1.5 + 0.5 + 1.5) / 6),
    ):
        given = np.asarray(scores, np.float32)
        np.testing.assert_allclose(
            metrics.auc(labels, given if host else jnp.asarray(given)), wanted, rtol=1e-6
        )


@pytest.mark.parametrize("host", [True, False])
def test_rising_maps_change_nothing_and_a_falling_one_mirrors(host):
    labels = LABELS if host else jnp.asarray(LABELS)
    value = metrics.auc(labels, P)
    for rising in (np.exp, np.cbrt, lambda p: 8 * p - 3, lambda p: (10 * p).round().astype(np.int32)):
        np.testing.assert_array_equal(metrics.auc(labels, rising(P)), value)
    np.testing.assert_allclose(metrics.auc(labels, -P), 1 - value, rtol=1e-6)
    np.testing.assert_allclose(metrics.auc(1 - labels, P), 1 - value, rtol=1e-6)


@pytest.mark.parametrize("host", [True, False])
def test_one_group_is_the_auc_and_groups_do_not_see_each_other(host):
    labels, p = (LABELS, P) if host else device(LABELS, P)
    value = metrics.auc(labels, p)
    np.testing.assert_allclose(metrics.grouped_auc(labels, p, np.full(N, -3)), value, rtol=1e-6)
    shifted = metrics.grouped_auc(labels, p + 10 * GROUPS.astype(np.float32), GROUPS)
    np.testing.assert_allclose(shifted, metrics.grouped_auc(labels, p, GROUPS), rtol=1e-3)
    alone = metrics.grouped_auc(labels, p, np.arange(N))
    assert np.isnan(alone)


@pytest.mark.parametrize("host", [True, False])
def test_one_class_or_no_example_gives_nan(host):
    ones, none = np.ones(4), np.zeros(0)
    for labels, p in ((ones, P[:4]), (0 * ones, P[:4]), (none, none)):
        given = (labels, p) if host else device(labels.astype(np.float32), p.astype(np.float32))
        assert np.isnan(metrics.auc(*given))
        assert np.isnan(metrics.grouped_auc(*given, np.zeros(len(p), np.int32)))
        assert np.isnan(metrics.normalised_entropy(*given))
        assert np.isnan(metrics.auc_from_bins(metrics.auc_bins(*given))).all()
        assert np.isnan(metrics.log_loss(*given)) == (len(p) == 0)
        assert np.isnan(metrics.calibration(*given)) == (not labels.any())


def test_many_examples_keep_their_digits_in_float32():
    rng = np.random.default_rng(0)
    n = 100_000
    labels, groups = rng.random(n) < 0.03, rng.integers(0, n // 50, n).astype(np.int32)
    p = (1 / (1 + np.exp(3.5 - rng.normal(size=n) - labels))).astype(np.float32)
    given, options = device(labels, p), {"weights": rng.random(n).astype(np.float32)}
    for call, more in (
        (metrics.auc, {}),
        (metrics.auc, options),
        (metrics.grouped_auc, {"groups": groups}),
        (metrics.log_loss, options),
    ):
        found = jax.jit(call)(*given, **more)
        np.testing.assert_allclose(found, call(labels, p, **more), rtol=1e-6)


@pytest.mark.slow
def test_ten_million_examples_in_float32():
    """Scores in rising order, so that the pairs can be counted without sorting."""
    n = 10_000_000
    labels = np.random.default_rng(0).random(n) < np.linspace(0, 0.1, n)
    below = np.cumsum(~labels)[labels]
    wanted = below.sum() / (len(below) * (n - len(below)))
    scores = np.arange(n, dtype=np.float32) / 2**23
    np.testing.assert_allclose(metrics.auc(*device(labels, scores)), wanted, rtol=1e-6)


# Bins


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("bins", [1, 4, 1024])
def test_bins_bound_their_error(bins, host):
    p = RNG.random(N).astype(np.float32)
    exact = metrics.auc(LABELS, p)
    counts = metrics.auc_bins(*((LABELS, p) if host else device(LABELS, p)), bins=bins)
    assert counts.shape == (2, bins) and counts.sum() == N and counts[1].sum() == LABELS.sum()
    value, error = metrics.auc_from_bins(counts)
    assert abs(value - exact) <= error + 1e-6
    if bins == 1:
        np.testing.assert_allclose((value, error), 0.5, rtol=1e-6)
    np.testing.assert_allclose(value, metrics.auc(LABELS, np.floor(p * bins)), rtol=1e-6)


def test_the_bound_is_reached():
    """All pairs of one bin in order, or all against it: half of them is what the value misses."""
    for first, wanted in ((0.1, 1), (0.4, 0)):
        labels, p = np.array([0, 1, 1]), np.array([first, 0.2, 0.3])
        value, error = metrics.auc_from_bins(metrics.auc_bins(labels, p, bins=2))
        assert (value, error) == (0.5, 0.5) and metrics.auc(labels, p) == wanted


def test_counts_add_up_over_batches_and_devices():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    labels, p = LABELS[:56], P[:56]
    whole = metrics.auc_bins(labels, p, bins=16)
    parts = sum(metrics.auc_bins(labels[i : i + 8], p[i : i + 8], bins=16) for i in range(0, 56, 8))
    np.testing.assert_array_equal(parts, whole)
    run = jax.jit(functools.partial(metrics.auc_bins, bins=16))
    np.testing.assert_array_equal(run(*jax.device_put((labels, p), sharding)), whole)
    each = jax.shard_map(
        lambda y, s: jax.lax.psum(metrics.auc_bins(y, s, bins=16), "data"),
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec(),
    )
    np.testing.assert_array_equal(jax.jit(each)(*jax.device_put((labels, p), sharding)), whole)


def test_scores_outside_the_range_fall_in_the_last_bins_and_where_leaves_out():
    scores = np.array([-np.inf, -20, 0, 20, np.inf, np.nan])
    labels = np.array([0, 1, 1, 0, 1, 3])
    where = labels < 2
    for given in ((labels, scores), device(labels, scores.astype(np.float32))):
        counts = metrics.auc_bins(*given, bins=4, low=-10, high=10, where=where)
        np.testing.assert_array_equal(counts, [[1, 0, 0, 1], [1, 0, 1, 1]])
    run = jax.jit(functools.partial(metrics.auc_bins, bins=4, low=-10, high=10))
    np.testing.assert_array_equal(run(*device(labels, scores.astype(np.float32))), counts)


# Probabilities


@pytest.mark.parametrize("host", [True, False])
def test_log_loss_keeps_its_digits_at_both_ends(host):
    small = 1e-6
    labels, p = np.array([0, 1, 1, 0]), np.array([small, 1 - 2**-20, 0, 1])
    each = [-np.log1p(-small), -np.log1p(-(2.0**-20)), -np.log(1e-7), -np.log(1e-7)]
    for i in range(4):
        given = (labels[i : i + 1], p[i : i + 1])
        given = given if host else device(given[0], given[1].astype(np.float32))
        np.testing.assert_allclose(metrics.log_loss(*given), each[i], rtol=1e-6)
    np.testing.assert_allclose(metrics.log_loss([1], [0.0], clip=1e-3), -np.log(1e-3))


def test_the_share_of_positives_has_normalised_entropy_one_and_is_calibrated():
    constant = np.full(N, LABELS.mean())
    np.testing.assert_allclose(metrics.normalised_entropy(LABELS, constant), 1)
    np.testing.assert_allclose(metrics.calibration(LABELS, constant), 1)
    np.testing.assert_allclose(metrics.expected_calibration_error(LABELS, constant), 0, atol=1e-12)
    np.testing.assert_allclose(metrics.calibration(LABELS, constant / 2), 0.5)
    assert metrics.normalised_entropy(LABELS, 0.2 + 0.6 * LABELS) < 1


# Bad input


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("name", [*METRICS, "auc_bins"])
def test_bad_values_raise_or_give_nan_under_jit(name, host):
    call = METRICS.get(name, metrics.auc_bins)
    cases = [("labels", np.where(np.arange(N) == 3, 2, LABELS), P)]
    cases += [("scores|probabilities", LABELS, np.where(np.arange(N) == 3, np.nan, P).astype(np.float32))]
    if name in ON_PROBABILITIES:
        cases += [("probabilities", LABELS, P * 2), ("probabilities", LABELS, P - 0.5)]
    for text, labels, p in cases:
        given = (labels, p) if host else device(labels, p)
        with pytest.raises(ValueError, match=f"^({text}): ") as error:
            call(*given)
        assert "\n" not in str(error.value)
        if name in METRICS:
            assert np.isnan(jitted(name)(*device(labels, p)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: metrics.auc(LABELS, P[:-1]), "scores: shape"),
        (lambda: metrics.auc(LABELS[None], P[None]), "scores: shape"),
        (lambda: metrics.auc(LABELS, P, where=np.ones(3, bool)), "where: shape"),
        (lambda: metrics.log_loss(LABELS, P, weights=np.ones(3)), "weights: shape"),
        (lambda: metrics.auc(LABELS, P, weights=-WEIGHTS), "weights: negative"),
        (lambda: metrics.auc(*device(LABELS, P), weights=WEIGHTS * np.nan), "weights: negative"),
        (lambda: metrics.grouped_auc(LABELS, P, GROUPS[:3]), "groups: "),
        (lambda: metrics.grouped_auc(LABELS, P, GROUPS / 2), "groups: "),
        (lambda: metrics.auc_bins(LABELS, P, bins=0), "bins=0"),
        (lambda: metrics.auc_bins(LABELS, P, low=1), "bins=4096, low=1"),
        (lambda: metrics.auc_from_bins(np.zeros((3, 4))), "counts: shape"),
        (lambda: metrics.expected_calibration_error(LABELS, P, bins=0), "bins=0"),
    ],
)
def test_errors_name_the_argument(call, text):
    with pytest.raises(ValueError, match=f"^{text}") as error:
        call()
    assert "\n" not in str(error.value)
