import jax
import jax.numpy as jnp
import numpy as np
import oracles_diffusion as oracles
import pytest

from jaxembed import diffusion

SCHEDULES = ("linear", "scaled_linear", "ldm_linear", "cosine")
TABLE = diffusion.schedule()
BARS = oracles.alphas_bar(oracles.betas("linear", 1000))
PREDICTIONS = ("noise", "x0", "v")
RNG = np.random.default_rng(0)
X, NOISE = (RNG.normal(size=(4, 3, 2, 1)).astype(np.float32) for _ in range(2))
T = np.array([0, 10, 500, 999])


ENDS = {"linear": 4.0358e-5, "scaled_linear": 4.660e-3, "ldm_linear": 1.423e-4, "cosine": 2.429e-9}


@pytest.mark.parametrize(("name", "last"), ENDS.items())
def test_schedules_end_where_the_published_ones_end(name, last):
    np.testing.assert_allclose(diffusion.schedule(name)["alphas_bar"][-1], last, rtol=3e-4)


def test_schedules_pass_through_known_values():
    """After 500 of 1000 steps, which is entry 499."""
    np.testing.assert_allclose(TABLE["alphas_bar"][499], 0.078587, rtol=1e-5)
    np.testing.assert_allclose(diffusion.schedule("cosine")["alphas_bar"][499], 0.493844, rtol=1e-5)
    assert np.argmax(TABLE["noise"] > TABLE["signal"]) == 259
    np.testing.assert_allclose(TABLE["betas"][jnp.array([0, -1])], [1e-4, 0.02], rtol=1e-6)


@pytest.mark.parametrize("steps", [25, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_tables_are_those_of_the_formulas(name, steps):
    betas = oracles.betas(name, steps)
    bars = oracles.alphas_bar(betas)[:-1]
    expected = {"betas": betas, "alphas_bar": bars, "log_alphas_bar": np.log(bars)}
    expected |= {"signal": np.sqrt(bars), "noise": np.sqrt(1 - bars)}
    found = diffusion.schedule(name, steps)
    assert found.keys() == expected.keys()
    for key, table in found.items():
        assert table.dtype == np.float32
        np.testing.assert_allclose(table, expected[key], rtol=1e-6, err_msg=key)


def test_ends_and_bounds_of_a_schedule_can_be_chosen():
    short = diffusion.schedule("linear", 4, first=0.1, last=0.4)["betas"]
    np.testing.assert_allclose(short, [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert diffusion.schedule("cosine", 10, largest=0.5)["betas"].max() == 0.5
    np.testing.assert_allclose(diffusion.schedule_of([0.5, 0.5])["alphas_bar"], [0.5, 0.25])


def test_noised_images_are_the_sum_of_signal_and_noise():
    bars = BARS[T].reshape(4, 1, 1, 1)
    expected = np.sqrt(bars) * X + np.sqrt(1 - bars) * NOISE
    np.testing.assert_allclose(diffusion.noised(TABLE, X, T, NOISE), expected, atol=1e-6)


@pytest.mark.parametrize("source", PREDICTIONS)
@pytest.mark.parametrize("target", PREDICTIONS)
def test_predictions_of_one_image_are_the_same_image(source, target):
    t = np.array([20, 100, 500, 700])
    x_t = diffusion.noised(TABLE, X, t, NOISE)
    a, s = (np.sqrt(b).reshape(4, 1, 1, 1) for b in (BARS[t], 1 - BARS[t]))
    true = {"noise": NOISE, "x0": X, "v": a * NOISE - s * X}
    found = diffusion.convert(TABLE, x_t, t, true[source], source, target)
    np.testing.assert_allclose(found, true[target], atol=2e-5)
    back = diffusion.convert(TABLE, x_t, t, found, target, source)
    np.testing.assert_allclose(back, true[source], atol=1e-4)


def test_v_and_the_noisy_image_are_a_rotation():
    x_t = diffusion.noised(TABLE, X, T, NOISE)
    v = diffusion.convert(TABLE, x_t, T, NOISE, "noise", "v")
    np.testing.assert_allclose((v**2 + x_t**2)[:3], (X**2 + NOISE**2)[:3], rtol=1e-4, atol=1e-5)


def test_traced_steps_outside_the_schedule_are_clipped_to_it():
    found = jax.jit(diffusion.noised)(TABLE, X, np.array([-5, 0, 1000, 2**30]), NOISE)
    np.testing.assert_allclose(
        found, diffusion.noised(TABLE, X, np.array([0, 0, 999, 999]), NOISE), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: diffusion.schedule("sqrt"),
            "name='sqrt'; choose one of linear, scaled_linear, ldm_linear, cosine",
        ),
        (lambda: diffusion.schedule(steps=1), "steps: 1; a schedule has at least 2"),
        (lambda: diffusion.schedule(steps=2.0), "steps: 2.0 is not an integer; pass one"),
        (
            lambda: diffusion.schedule(steps=10),
            r"first, last: betas from 0.01 to 2 for 10 steps; pass numbers in \(0, 1\)",
        ),
        (
            lambda: diffusion.schedule("cosine", first=0.1),
            'first, last: "cosine" has none; pass offset or largest',
        ),
        (lambda: diffusion.schedule_of([0.1]), "betas: 1 of them; a schedule has at least 2"),
        (lambda: diffusion.schedule_of([0.1, np.nan]), "betas: from nan to nan; pass numbers"),
        (
            lambda: diffusion.noised(TABLE, X, T + 1, NOISE),
            r"t: 1000 is outside 0..999; a schedule of 1000 steps",
        ),
        (lambda: diffusion.noised(TABLE, X, T - 1, NOISE), r"t: -1 is outside 0..999"),
        (lambda: diffusion.noised(TABLE, X, T / 2, NOISE), "t: float.*; pass integers"),
        (lambda: diffusion.noised(TABLE, X, T[:1], NOISE), r"t: shape \(1,\); pass \[4\]"),
        (
            lambda: diffusion.noised(TABLE, X, T, NOISE[:1]),
            r"noise: shape \(1, 3, 2, 1\); pass \[4, 3, 2, 1\]",
        ),
        (
            lambda: diffusion.convert(TABLE, X, T, X, "eps", "x0"),
            "prediction='eps'; choose one of noise, x0, v",
        ),
        (lambda: diffusion.convert(TABLE, X, T, X[:2], "v", "x0"), r"out: shape \(2, 3, 2, 1\); pass"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
