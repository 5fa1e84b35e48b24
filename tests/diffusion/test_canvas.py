import jax
import jax.numpy as jnp
import numpy as np
import oracles_diffusion as oracles
import pytest

from jaxembed import diffusion, vectors

TABLE, KEY = diffusion.schedule(), jax.random.key(0)
RNG = np.random.default_rng(0)
CANVAS = RNG.normal(size=(10, 13, 2)).astype(np.float32)
ORIGINS = diffusion.window_origins((10, 13), 4, 3)


def test_windows_cover_the_canvas_and_the_last_ones_end_with_it():
    assert ORIGINS[:, 0].max() == 6 and ORIGINS[:, 1].max() == 9
    for size, window, stride in (((10, 13), 4, 3), ((8, 8), 8, 2), ((9, 9), 4, 4), ((12, 8), 4, 1)):
        origins = diffusion.window_origins(size, window, stride)
        seen = np.zeros(size, int)
        for i, j in origins:
            seen[i : i + window, j : j + window] += 1
        assert seen.min() >= 1 and len({tuple(o) for o in origins}) == len(origins)
    assert len(diffusion.window_origins((256, 256), 64, 16)) == 169


def test_a_window_is_a_slice_and_windows_put_back_are_the_canvas():
    found = np.asarray(diffusion.gather_windows(CANVAS, ORIGINS, 4))
    for window, (i, j) in zip(found, ORIGINS, strict=True):
        np.testing.assert_array_equal(window, CANVAS[i : i + 4, j : j + 4])
    for weights in (None, diffusion.window_weights(4), RNG.uniform(0.1, 1, (len(ORIGINS), 4, 4))):
        back = diffusion.scatter_mean(found, ORIGINS, (10, 13), weights=weights)
        np.testing.assert_allclose(back, CANVAS, atol=1e-5)


def test_the_mean_of_windows_is_the_least_squares_canvas():
    windows = RNG.normal(size=(len(ORIGINS), 4, 4, 1)).astype(np.float32)
    weights = RNG.uniform(0.1, 1, (4, 4)).astype(np.float32)
    total, count = np.zeros((10, 13, 1)), np.zeros((10, 13, 1))
    for window, (i, j) in zip(windows, ORIGINS, strict=True):
        total[i : i + 4, j : j + 4] += weights[..., None] * window
        count[i : i + 4, j : j + 4] += weights[..., None]
    found = diffusion.scatter_mean(windows, ORIGINS, (10, 13), weights=weights)
    np.testing.assert_allclose(found, total / count, atol=1e-5)

    def misfit(canvas):
        gap = diffusion.gather_windows(canvas, ORIGINS, 4) - windows
        return jnp.sum(weights[..., None] * gap**2)

    np.testing.assert_allclose(jax.grad(misfit)(found), np.zeros_like(found), atol=1e-4)
    np.testing.assert_array_equal(diffusion.scatter_mean(windows[:1], ORIGINS[:1], (10, 13))[5:], 0)


def test_conditions_are_those_of_the_grid_at_its_cells_and_between_them_on_the_arc():
    grid = RNG.normal(size=(2, 3, 5)).astype(np.float32)
    cells = np.array([(8 * i, 8 * j) for i in range(2) for j in range(3)])
    found = diffusion.interpolate_grid(grid, cells, 8).reshape(2, 3, 5)
    np.testing.assert_allclose(found, grid, atol=1e-5)  # row-major: the grid is not square
    right = diffusion.interpolate_grid(grid, np.array([[0, 2], [2, 0], [4, 6], [12, 20]]), 8)
    np.testing.assert_allclose(right[0], vectors.slerp(grid[0, 0], grid[0, 1], 0.25), atol=1e-5)
    np.testing.assert_allclose(right[1], vectors.slerp(grid[0, 0], grid[1, 0], 0.25), atol=1e-5)
    rows = [vectors.slerp(grid[i, 0], grid[i, 1], 0.75) for i in range(2)]
    np.testing.assert_allclose(right[2], vectors.slerp(*rows, 0.5), atol=1e-5)
    np.testing.assert_allclose(right[3], grid[1, 2], atol=1e-5)  # nothing lies outwards of the last cell
    even = diffusion.interpolate_grid(np.ones((3, 3, 2)), ORIGINS, 4)
    np.testing.assert_allclose(even, 1, atol=1e-6)


def best(params, x, t, condition=None):
    return oracles.gaussian(TABLE["alphas_bar"][t][:, None, None, None], x, "noise")


def curved(params, x, t, condition=None):
    shift = 0 if condition is None else condition[:, None, None]
    return jnp.tanh(x * (1 + t[:, None, None, None] / 500)) + shift


def sampled(denoise, shape=(10, 13, 1), **options):
    options = {"window": 4, "stride": 2, "steps": 8} | options
    return diffusion.sample_canvas(denoise, {}, TABLE, KEY, shape, **options)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_one_window_is_ordinary_sampling(eta):
    start = RNG.normal(size=(4, 4, 1)).astype(np.float32)
    found = sampled(curved, (4, 4, 1), start=start, eta=eta)
    plain = diffusion.sample(curved, {}, TABLE, KEY, (1, 4, 4, 1), start=start[None], steps=8, eta=eta)
    np.testing.assert_allclose(found, plain[0], rtol=2e-4, atol=1e-4)


def test_a_denoiser_that_is_exact_draws_the_canvas_of_ordinary_sampling():
    start = RNG.normal(size=(10, 13, 1)).astype(np.float32)
    found = sampled(best, start=start, steps=20)
    plain = diffusion.sample(best, {}, TABLE, None, (1, 10, 13, 1), start=start[None], steps=20)
    np.testing.assert_allclose(found, plain[0], rtol=1e-3, atol=1e-3)


def test_steps_are_those_of_a_loop_that_fuses_x0_or_the_noise():
    """Both fusions are the same, because each is affine in the other."""
    start = RNG.normal(size=(6, 6, 1)).astype(np.float32)
    origins = diffusion.window_origins((6, 6), 4, 2)
    condition = RNG.normal(size=(len(origins), 1)).astype(np.float32)
    found = sampled(curved, (6, 6, 1), start=start, condition=condition, steps=3)
    visited, bars = diffusion.timesteps(1000, 3), oracles.alphas_bar(oracles.betas("linear", 1000))
    x = start.astype(np.float64)
    for t, p in zip(visited, np.append(visited[1:], -1), strict=True):
        windows = np.stack([x[i : i + 4, j : j + 4] for i, j in origins])
        out = np.tanh(windows * (1 + t / 500)) + condition[:, None, None]
        total, count = np.zeros((6, 6, 1)), np.zeros((6, 6, 1))
        for e, (i, j) in zip(out, origins, strict=True):
            total[i : i + 4, j : j + 4] += e
            count[i : i + 4, j : j + 4] += 1
        x = oracles.ddim(bars, x, t, p, total / count, 0)
    np.testing.assert_allclose(found, x, rtol=2e-3, atol=2e-3)


def test_the_variance_of_a_single_step_is_that_of_its_beta():
    t, p = jnp.array([500]), jnp.array([480])
    eta = diffusion.canvas._single(TABLE, t, p, np.zeros((1, 1, 1, 1)))
    beta, bars = TABLE["betas"][500], TABLE["alphas_bar"]
    sigma = eta * jnp.sqrt((1 - bars[480]) / (1 - bars[500]) * (1 - bars[500] / bars[480]))
    np.testing.assert_allclose(sigma**2, beta * (1 - bars[480]) / (1 - bars[500]), rtol=1e-4)
    found, still, whole = (sampled(curved, eta=e) for e in ("single", 0.0, 1.0))
    assert 0 < np.abs(found - still).mean() < np.abs(whole - still).mean()


def test_windows_a_few_at_a_time_or_on_eight_devices_are_all_windows_at_once():
    shape = (10, 11, 1)
    condition = RNG.normal(size=(len(diffusion.window_origins(shape[:2], 4, 2)), 1)).astype(np.float32)
    assert len(condition) % 8  # windows are added for the last devices
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    plain = sampled(curved, shape, condition=condition)
    np.testing.assert_allclose(sampled(curved, shape, condition=condition, at_once=3), plain, atol=1e-4)
    np.testing.assert_allclose(sampled(curved, shape, condition=condition, mesh=mesh), plain, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diffusion.window_origins((8, 8), 9, 2), "window: 9 is larger than the canvas of 8 x 8"),
        (lambda: diffusion.window_origins((8, 8), 4, 5), "stride: 5 is outside 1..4"),
        (lambda: diffusion.window_origins((8, 8), 4, 0), "stride: 0 is outside 1..4"),
        (lambda: sampled(curved, (3, 8, 1)), "window: 4 is larger than the canvas of 3 x 8"),
        (lambda: sampled(curved, condition=np.ones((3, 1))), r"condition: shape \(3, 1\) for 24 windows"),
        (lambda: sampled(curved, prediction="e"), "prediction='e'; choose one of noise, x0, v"),
        (lambda: sampled(curved, at_once=0), "at_once: 0; pass at least 1"),
        (lambda: diffusion.interpolate_grid(np.ones((2, 2)), ORIGINS, 4), r"grid: shape \(2, 2\)"),
        (lambda: diffusion.interpolate_grid(np.ones((2, 2, 2)), ORIGINS, 0), "cell: 0; pass at least 1"),
        (lambda: diffusion.scatter_mean(np.ones((1, 4, 4, 1)), ORIGINS, (10, 13)), "origins: shape"),
        (
            lambda: diffusion.scatter_mean(np.ones((1, 4, 4, 1)), np.array([[3, 0]]), (6, 9)),
            "origins: windows of 4 leave the canvas of 6 x 9; pass window_origins",
        ),
        (
            lambda: diffusion.gather_windows(np.ones((6, 6, 1)), np.array([[0, 0]]), 8),
            "origins: windows of 8 leave the canvas of 6 x 6",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
