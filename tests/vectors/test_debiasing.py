"""Soft debiasing: the objective as written, the solution by plain descent, limits of the weight."""

import numpy as np
import pytest
from refusals import refused

from jaxembed import metrics, vectors

RNG = np.random.default_rng(0)
LEAN = np.eye(6)[0] * RNG.normal(size=(90, 1)) * 1.5
TABLE = RNG.normal(size=(90, 6)) * np.array([1, 2, 1, 1, 0.5, 1]) + LEAN
WORDS = TABLE / np.linalg.norm(TABLE, axis=1, keepdims=True)
NEUTRAL = np.arange(90) < 70
BASIS = np.linalg.qr(RNG.normal(size=(6, 2)))[0].T


def objective(x, weight, reduction="mean"):
    """As it is written, with the V x V matrix."""
    kept = (WORDS @ (x - np.eye(6)) @ WORDS.T) ** 2
    lean = (WORDS[NEUTRAL] @ x @ BASIS.T) ** 2
    return kept.mean() + weight * lean.mean() if reduction == "mean" else kept.sum() + weight * lean.sum()


@pytest.mark.parametrize(("reduction", "weight"), [("mean", 0.2), ("mean", 5.0), ("sum", 10.0)])
def test_the_map_is_the_minimum_of_the_objective_as_written(reduction, weight):
    found = vectors.soft_debias(TABLE, BASIS, neutral=NEUTRAL, weight=weight, reduction=reduction)
    x = found.kernel.astype(np.float64) @ found.kernel
    assert found.objective == pytest.approx(objective(x, weight, reduction), rel=1e-4)
    assert np.linalg.eigvalsh(x).min() > -1e-6
    for _ in range(40):  # a convex problem: no step from a minimum lowers it
        step = RNG.normal(size=(6, 6)) * 10.0 ** RNG.uniform(-3, 0)
        moved = found.kernel + step
        assert objective(moved.T @ moved, weight, reduction) >= found.objective * (1 - 1e-6)


def test_plain_descent_on_the_map_comes_to_the_same_inner_products():
    t = np.eye(6)
    c, m, p = (v.T @ v for v in (WORDS, WORDS[NEUTRAL], BASIS))
    for _ in range(8000):
        x = t.T @ t
        lean = m @ x @ p
        slope = c @ (x - np.eye(6)) @ c / 90**2 + 0.2 * (lean + lean.T) / 2 / (70 * 2)
        t = t - 2 * t @ slope
    found = vectors.soft_debias(TABLE, BASIS, neutral=NEUTRAL, weight=0.2)
    np.testing.assert_allclose(found.kernel @ found.kernel, t.T @ t, atol=2e-4)


def test_no_weight_keeps_inner_products_and_a_large_one_ends_the_bias():
    same = vectors.soft_debias(TABLE, BASIS, neutral=NEUTRAL, weight=0)
    np.testing.assert_allclose(same.kernel, np.eye(6), atol=1e-6)
    biases = []
    for weight in (0.0, 0.2, 2.0, 1e4):
        kernel = vectors.soft_debias(TABLE, BASIS, neutral=NEUTRAL, weight=weight).kernel
        moved = WORDS @ kernel
        biases.append(float(metrics.direct_bias(moved[NEUTRAL], BASIS)))
    assert biases == sorted(biases, reverse=True) and biases[-1] < 0.1 * biases[0]


def test_where_the_cone_binds_projected_steps_reach_the_minimum_inside():
    """A large bias and few words, so that the minimum without the cone has a negative eigenvalue."""
    from jaxembed.vectors import debiasing

    words = WORDS[:7]
    given = (words, BASIS[:1], np.ones(7, bool), 50.0, "sum")
    moments, bias, scales = debiasing._moments(*given)
    outer = BASIS[:1].T @ BASIS[:1]
    start = np.diag([-3.0, 0, 0, 0, 0, 0])
    change, _ = debiasing._projected(start, moments, bias, outer, scales, 20_000)
    free, _ = debiasing._conjugate(moments, bias, outer, scales, 500)
    assert np.linalg.eigvalsh(np.eye(6) + change).min() > -1e-9
    if np.linalg.eigvalsh(np.eye(6) + free).min() >= 0:
        value = debiasing._value(free, moments, bias, outer, scales)
        assert debiasing._value(change, moments, bias, outer, scales) == pytest.approx(value, rel=1e-2)


def test_bad_input_gets_one_line():
    refused("weight: -1 is below 0", lambda: vectors.soft_debias(TABLE, BASIS, neutral=NEUTRAL, weight=-1))
    refused("no word is neutral", lambda: vectors.soft_debias(TABLE, BASIS, neutral=np.zeros(90, bool)))
    broken = np.where(np.arange(90)[:, None] == 3, np.nan, TABLE)
    refused("vectors: hold NaN", lambda: vectors.soft_debias(broken, BASIS, neutral=NEUTRAL))
    refused("reduction='norm'", lambda: vectors.soft_debias(TABLE, BASIS, neutral=NEUTRAL, reduction="norm"))
    refused("vectors: are all zero", lambda: vectors.soft_debias(TABLE * 0, BASIS, neutral=NEUTRAL))
    refused("neutral: shape", lambda: vectors.soft_debias(TABLE, BASIS, neutral=NEUTRAL[:5]))
