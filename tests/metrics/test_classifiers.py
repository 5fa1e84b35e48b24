"""Logistic regression has the least loss and scikit-learn's weights; folds share out classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import metrics

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(90, 4)) * [1, 3, 0.1, 1] + [0, 2, 1, 0]).astype(np.float32)
LABELS = np.argmax(X[:, :3] + RNG.normal(size=(90, 3)), axis=1)


def test_macro_f1_counts_small_classes_as_much_as_large_ones():
    assert metrics.macro_f1([0, 0, 0, 1], [0, 0, 0, 0]) == pytest.approx((6 / 7 + 0) / 2)
    assert metrics.macro_f1(["a", "b"], ["b", "a"]) == 0
    assert metrics.macro_f1([3, 3], [3, 3]) == 1


def test_folds_share_out_every_class():
    labels = np.repeat([0, 1, 2], [50, 23, 4])
    parts = metrics.stratified_folds(labels, folds=5, seed=1)
    counts = np.array([[np.sum((parts == f) & (labels == c)) for f in range(5)] for c in range(3)])
    assert (np.ptp(counts, axis=1) <= 1).all() and np.ptp(counts.sum(axis=0)) <= 1
    np.testing.assert_array_equal(parts, metrics.stratified_folds(labels, folds=5, seed=1))
    assert not np.array_equal(parts, metrics.stratified_folds(labels, folds=5, seed=2))


def loss(params, x, c):
    logits = x.astype(np.float64) @ params["kernel"] + params["bias"]
    rows = jax.nn.logsumexp(jnp.asarray(logits), axis=1) - logits[np.arange(len(x)), LABELS[: len(x)]]
    return float(rows.sum() + np.sum(np.square(params["kernel"])) / (2 * c))


@pytest.mark.parametrize("c", [0.1, 30.0])
def test_no_small_move_has_a_smaller_loss(c):
    with jax.enable_x64(True):
        found = metrics.fit_logistic(X.astype(np.float64), LABELS, 3, c=c, tolerance=1e-9)
        params = {name: np.asarray(x) for name, x in found.items()}
        least = loss(params, X, c)
        for name, x in params.items():
            for move in RNG.normal(size=(8, *x.shape)):
                assert loss(params | {name: x + 0.01 * move}, X, c) > least


def test_rows_that_do_not_count_may_hold_anything():
    where = np.arange(90) < 70
    spoiled = np.where(where[:, None], X, np.nan)
    short = metrics.fit_logistic(X[:70], LABELS[:70], 3)
    long = metrics.fit_logistic(spoiled, LABELS, 3, where=where)
    np.testing.assert_allclose(long["kernel"], short["kernel"], atol=1e-3)
    under = jax.jit(lambda x, y, w: metrics.fit_logistic(x, y, 3, where=w))(spoiled, LABELS, where)
    np.testing.assert_allclose(under["kernel"], long["kernel"], atol=1e-4)


@pytest.mark.parametrize("c", [0.1, 100.0])
def test_weights_are_those_of_scikit_learn(c):
    linear = pytest.importorskip("sklearn.linear_model")
    peer = linear.LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(X.astype(np.float64), LABELS)
    with jax.enable_x64(True):
        ours = metrics.fit_logistic(X.astype(np.float64), LABELS, 3, c=c, steps=500, tolerance=1e-8)
    np.testing.assert_allclose(ours["kernel"].T, peer.coef_, atol=1e-4)
    bias = np.asarray(ours["bias"])
    np.testing.assert_allclose(bias - bias.mean(), peer.intercept_, atol=1e-4)


def test_a_probe_reads_what_is_there_and_nothing_of_the_test_fold():
    labels = np.repeat(["a", "b"], 40)
    clear = np.where(labels == "a", 1.0, -1.0)[:, None] * np.ones((1, 3)) + 0.1 * RNG.normal(size=(80, 3))
    assert metrics.cross_validate(clear, labels)["f1"] == [1.0] * 5
    noise = RNG.normal(size=(80, 60))  # a basis or a mean of all rows would tell nothing either
    shares = [metrics.cross_validate(noise, labels, seed=s, size=20)["accuracy"] for s in range(4)]
    assert 0.35 < np.mean(shares) < 0.65


def test_full_size_changes_little_and_a_small_one_keeps_the_strongest_directions():
    plain = metrics.cross_validate(X, LABELS, c=1e4)["accuracy"]
    np.testing.assert_allclose(metrics.cross_validate(X, LABELS, c=1e4, size=4)["accuracy"], plain, atol=0.06)
    weak = X * np.array([1, 1, 1, 100], np.float32)  # the strongest direction says nothing
    assert np.mean(metrics.cross_validate(weak, LABELS, size=1)["accuracy"]) < np.mean(plain) - 0.1
    scaled = metrics.cross_validate(weak, LABELS, standardise=True)["accuracy"]
    np.testing.assert_allclose(scaled, metrics.cross_validate(X, LABELS, standardise=True)["accuracy"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: metrics.macro_f1([], []), "labels: none"),
        (lambda: metrics.macro_f1([1], [1, 2]), r"told: shape \(2,\)"),
        (lambda: metrics.stratified_folds([1, 2], folds=3), r"folds: 3 is outside 2\.\.2"),
        (lambda: metrics.fit_logistic(X, LABELS, 1), "with 1 classes"),
        (lambda: metrics.fit_logistic(X[:0], LABELS[:0], 2), r"vectors: shape \(0, 4\)"),
        (lambda: metrics.fit_logistic(X * np.nan, LABELS, 3), "vectors: row 0 is not finite"),
        (lambda: metrics.fit_logistic(X, LABELS, 2), r"labels: pass numbers of 0\.\.1"),
        (lambda: metrics.fit_logistic(X, LABELS[:3], 3), r"labels: shape \(3,\)"),
        (lambda: metrics.cross_validate(X, LABELS * 0), "labels: 1 class; pass at least two"),
        (lambda: metrics.cross_validate(X, LABELS, size=5), r"size: 5 is outside 1\.\.4"),
    ],
)
def test_bad_input_is_one_clear_line(call, said):
    with pytest.raises(ValueError, match=said) as found:
        call()
    assert "\n" not in str(found.value)
