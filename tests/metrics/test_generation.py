import jax
import numpy as np
import pytest
import scipy.linalg

from jaxembed import metrics

RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=(60, 5)) @ RNG.normal(size=(5, 5)) + 1
SECOND = RNG.normal(size=(40, 5)) @ RNG.normal(size=(5, 5))


def oracle(first, second):
    """The formula with scipy's root of a matrix, in float64."""
    covs = [np.cov(x.T, bias=True) for x in (first, second)]
    root = scipy.linalg.sqrtm(covs[0] @ covs[1]).real
    gap = first.mean(0) - second.mean(0)
    return gap @ gap + np.trace(covs[0] + covs[1] - 2 * root)


def test_frechet_distance_is_its_formula():
    found = metrics.frechet_distance(FIRST, SECOND)
    np.testing.assert_allclose(found, oracle(FIRST, SECOND), rtol=1e-4)
    np.testing.assert_allclose(jax.jit(metrics.frechet_distance)(SECOND, FIRST), found, rtol=1e-4)
    assert abs(metrics.frechet_distance(FIRST, FIRST[::-1])) < 1e-3


def test_frechet_distance_on_principal_axes_is_that_of_the_projections():
    axes = np.linalg.svd(FIRST - FIRST.mean(0))[2][:3].T
    found = metrics.frechet_distance(FIRST, SECOND, size=3)
    np.testing.assert_allclose(found, oracle(FIRST @ axes, SECOND @ axes), rtol=1e-4)
    whole = metrics.frechet_distance(FIRST, SECOND, size=5)
    np.testing.assert_allclose(whole, metrics.frechet_distance(FIRST, SECOND), rtol=1e-4)


def test_frechet_distance_knows_moves_turns_and_scales():
    turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    found = metrics.frechet_distance(FIRST, SECOND)
    np.testing.assert_allclose(metrics.frechet_distance(FIRST @ turn, SECOND @ turn), found, rtol=1e-3)
    np.testing.assert_allclose(metrics.frechet_distance(3 * FIRST, 3 * SECOND), 9 * found, rtol=1e-3)
    np.testing.assert_allclose(metrics.frechet_distance(FIRST, FIRST + 2), 5 * 4, rtol=1e-3)
    flat = np.zeros((4, 5))
    np.testing.assert_allclose(metrics.frechet_distance(flat, flat), 0)


def test_crop_frechet_compares_crops_of_the_window_wherever_they_are():
    rng = np.random.default_rng(3)
    stripes = np.broadcast_to(np.sign(np.sin(np.arange(40) / 2))[:, None, None], (6, 40, 40, 1))
    same, turned = stripes[:2, 3:35], stripes.transpose(0, 2, 1, 3)
    near, far = (float(metrics.crop_frechet(stripes, x, 6, count=600)) for x in (same, turned))
    assert near < 0.1 * far
    seen = []
    metrics.crop_frechet(same, turned, 5, encode=lambda x: seen.append(x) or x[:, 0, :, 0], count=30)
    assert [x.shape for x in seen] == [(30, 5, 5, 1)] * 2
    image = rng.normal(size=(1, 7, 8, 2))
    seen.clear()
    metrics.crop_frechet(image, image, 7, encode=lambda x: seen.append(x) or x.reshape(len(x), -1)[:, :3])
    for crop in seen[0][:20]:
        assert any((crop == image[0, :, j : j + 7]).all() for j in (0, 1))


def test_the_front_is_that_of_the_loop():
    points = RNG.integers(0, 5, size=(40, 3)).astype(float)
    expected = [
        not any((other >= point).all() and (other > point).any() for other in points) for point in points
    ]
    np.testing.assert_array_equal(metrics.pareto_front(points), expected)
    np.testing.assert_array_equal(jax.jit(metrics.pareto_front)(points), expected)
    assert metrics.pareto_front([[1.0, np.nan], [0.0, 0.0]]).tolist() == [False, True]
    with pytest.raises(ValueError, match=r"points: shape \(3,\); pass \[any, any\]"):
        metrics.pareto_front(np.zeros(3))


def test_a_judge_tells_a_sign_that_no_plane_tells():
    images = RNG.normal(size=(200, 2, 2, 1)) * 0.2 + np.repeat([1, -1], 100)[:, None, None, None]
    images[::2] *= 0.2
    judge = metrics.fit_judge(images, np.arange(200) % 2)
    assert (judge(images) == np.arange(200) % 2).mean() > 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.frechet_distance(FIRST, SECOND[:, :4]), r"second: shape \(40, 4\); pass \[any, 5\]"),
        (lambda: metrics.frechet_distance(FIRST, SECOND[:1]), "60 and 1 vectors; pass at least two"),
        (lambda: metrics.frechet_distance(FIRST, SECOND, size=6), r"size: 6 is outside 1..5"),
        (
            lambda: metrics.crop_frechet(np.zeros((2, 8, 8, 1)), np.zeros((2, 9, 7, 1)), 8),
            "window: 8 is outside 1..7, the shortest side",
        ),
        (
            lambda: metrics.crop_frechet(np.zeros((2, 8, 8, 1)), np.zeros((2, 9, 7, 3)), 4),
            r"second: shape \(2, 9, 7, 3\); pass \[any, any, any, 1\]",
        ),
        (lambda: metrics.fit_judge(FIRST, np.zeros(60)), "labels: one class; pass at least two"),
        (lambda: metrics.fit_judge(FIRST, np.zeros(59)), r"labels: shape \(59,\); pass \[60\]"),
        (lambda: metrics.fit_judge(np.inf * FIRST, np.zeros(60)), "vectors: shape .*; pass finite numbers"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
