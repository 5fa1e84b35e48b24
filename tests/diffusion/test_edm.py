import jax
import jax.numpy as jnp
import numpy as np
import oracles_diffusion as oracles
import pytest

from jaxembed import diffusion

KEY = jax.random.key(0)
START = jnp.full((1, 1), 80.0)
SIGMAS = diffusion.edm_sigmas()


def zero(params, x, level, condition, key):
    return jnp.zeros_like(x)


BEST = diffusion.precondition(zero)  # of data N(0, 1 / 4) the exact denoiser


def test_levels_are_the_known_ones():
    np.testing.assert_allclose(SIGMAS[:3], [80, 57.585985, 40.785574], rtol=1e-6)
    np.testing.assert_allclose(SIGMAS[-3:], [0.00752802, 0.002, 0], rtol=1e-6)
    assert SIGMAS.shape == (19,)


def test_preconditioning_is_its_formula():
    x, sigma = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32), np.array([0.1, 7.0], np.float32)

    def network(params, x, level, condition, key):
        return jnp.sin(x) + level[:, None] + condition

    found = diffusion.precondition(network, 0.4)(None, x, sigma, 2.0)
    for row, value, s in zip(found, x, sigma, strict=True):
        total = s**2 + 0.4**2
        raw = np.sin(value / np.sqrt(total)) + np.log(s) / 4 + 2
        np.testing.assert_allclose(row, 0.16 / total * value + s * 0.4 / np.sqrt(total) * raw, rtol=1e-5)


@pytest.mark.peers
def test_levels_and_preconditioning_are_those_of_diffusers():
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    peer = diffusers.EDMEulerScheduler()
    peer.set_timesteps(18)
    np.testing.assert_allclose(SIGMAS, peer.sigmas, rtol=1e-5)
    x, out = (np.random.default_rng(n).normal(size=(3, 2)).astype(np.float32) for n in (0, 1))
    for sigma in (0.1, 7.0):
        found = diffusion.precondition(lambda *given: out)(None, x, np.full(3, sigma))
        expected = peer.precondition_outputs(*(torch.tensor(v) for v in (x, out, sigma)))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_loss_of_a_network_of_zeros_is_1_at_every_level():
    batch = {"images": jax.random.normal(KEY, (200, 30, 30, 1)) / 2}
    found = diffusion.edm_loss(BEST)({}, batch, jax.random.key(1))
    np.testing.assert_allclose(found, 1, atol=6 * np.sqrt(2 / 900))
    assert abs(found.mean() - 1) < 0.015


@pytest.mark.parametrize(("steps", "end"), [(6, 0.853026), (18, 0.527625), (40, 0.504877)])
def test_heun_scales_gaussian_data_as_known(steps, end):
    """From x = 80; the exact end is 0.49999."""
    found = diffusion.sample_heun(BEST, {}, diffusion.edm_sigmas(steps), None, (1, 1), start=START)
    np.testing.assert_allclose(found, [[end]], rtol=2e-5)


def test_heun_reaches_the_mean_and_deviation_of_gaussian_data():
    def best(params, x, sigma, condition):
        share = oracles.SPREAD**2 / (oracles.SPREAD**2 + sigma[:, None] ** 2)
        return oracles.CENTRE + share * (x - oracles.CENTRE)

    for churn, atol in ((0.0, 0.012), (40.0, 0.02)):
        run = diffusion.sample_heun(best, {}, diffusion.edm_sigmas(60), KEY, (20000, 1), churn=churn)
        np.testing.assert_allclose((run.mean(), run.std()), (oracles.CENTRE, oracles.SPREAD), atol=atol)


@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
def test_a_denoiser_of_a_schedule_samples_by_noise_levels(prediction):
    table = diffusion.schedule()

    def best(params, x, t, condition=None, key=None):
        return oracles.gaussian(table["alphas_bar"][t][:, None], x, prediction)

    read = diffusion.sigma_denoiser(table, best, prediction=prediction)
    sigmas = diffusion.edm_sigmas(60, smallest=0.01, largest=150.0)
    asked = []
    spied = diffusion.sigma_denoiser(table, lambda p, x, t, c=None, key=None: asked.append(t) or x)
    levels = (table["noise"] / table["signal"])[jnp.array([0, 300, 999])]
    spied({}, jnp.zeros((3, 1)), levels * 1.001)
    assert asked[0].tolist() == [0, 300, 999]
    run = diffusion.sample_heun(read, {}, sigmas, KEY, (20000, 1))
    np.testing.assert_allclose((run.mean(), run.std()), (oracles.CENTRE, oracles.SPREAD), atol=0.015)


def test_the_scan_is_the_loop_and_conditions_may_change_at_a_step():
    start = np.array([[60.0], [-20.0]], np.float32)

    def denoise(params, x, sigma, condition):
        return jnp.tanh(x / (1 + sigma[:, None])) * condition

    def loop(x, sigma):
        return np.tanh(x / (1 + sigma)) * np.where(sigma <= SIGMAS[6], 0.2, 1.0)

    ones = jnp.ones((2, 1))
    options = {"start": start, "condition": ones}
    plain = diffusion.sample_heun(denoise, {}, SIGMAS, None, (2, 1), **options)
    expected = oracles.heun(lambda x, s: np.tanh(x / (1 + s)), SIGMAS.astype(np.float64), start)
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-5)
    euler = diffusion.sample_heun(denoise, {}, SIGMAS, None, (2, 1), correct=False, **options)
    x = start.astype(np.float64)
    for sigma, then in zip(SIGMAS[:-1].astype(np.float64), SIGMAS[1:], strict=True):
        x = x + (then - sigma) * (x - np.tanh(x / (1 + sigma))) / sigma
    np.testing.assert_allclose(euler, x, rtol=1e-4, atol=1e-5)
    last = len(SIGMAS) - 2
    switched = diffusion.sample_heun(
        denoise,
        {},
        SIGMAS,
        None,
        (2, 1),
        at_step=lambda number, given: jnp.where(number == last, 0.0, 1.0) * given,
        **options,
    )
    np.testing.assert_allclose(switched, 0, atol=1e-6)  # the last step goes to what the denoiser says there
    assert np.abs(plain).min() > 0.01


def test_the_network_runs_twice_a_step_but_for_the_last():
    found = []

    def denoise(params, x, sigma, condition):
        jax.debug.callback(lambda s: found.append(float(s)), sigma[0])
        return 0 * x

    diffusion.sample_heun(denoise, {}, SIGMAS[-4:], None, (1, 1), start=START).block_until_ready()
    jax.effects_barrier()
    assert sorted(found) == sorted(float(SIGMAS[i]) for i in (-4, -3, -3, -2, -2))


@pytest.mark.parametrize(("given", "kept"), [("bfloat16", "bfloat16"), ("int32", "float32")])
def test_a_start_keeps_its_floating_dtype(given, kept):
    start = START.astype(given)
    for options in ({}, {"churn": 5.0}, {"correct": False}):
        found = diffusion.sample_heun(BEST, {}, SIGMAS, KEY, (1, 1), start=start, **options)
        assert found.dtype == kept and np.isfinite(found.astype("float32")).all()


def run(**options):
    return diffusion.sample_heun(BEST, {}, **({"sigmas": SIGMAS, "key": KEY, "shape": (2, 1)} | options))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diffusion.edm_sigmas(1), "steps: 1; a schedule has at least 2"),
        (lambda: diffusion.edm_sigmas(smallest=0.0), "smallest: 0.0 and largest 80.0; pass 0 < smallest"),
        (lambda: run(sigmas=SIGMAS[:-1]), "sigmas: do not fall to 0 at the end; pass those of edm_sigmas"),
        (lambda: run(sigmas=SIGMAS[::-1]), "sigmas: do not fall to 0"),
        (lambda: run(churn=-1.0), "churn: -1.0 is below 0; pass 0 to draw no noise, or more"),
        (lambda: diffusion.edm_sigmas(rho=0), "rho: 0 is not above 0; pass a positive number"),
        (lambda: run(key=None), "key: needed, because noise is drawn"),
        (lambda: run(key=None, start=START, shape=(1, 1), churn=1.0), "key: needed, because noise is drawn"),
        (lambda: run(start=START), r"start: shape \(1, 1\); pass \[2, 1\]"),
        (lambda: run(condition=jnp.ones((3, 4))), r"condition: shape \(3, 4\) for 2 images; pass \[2, ...\]"),
        (lambda: diffusion.edm_loss(BEST, drop=-1), "drop: -1 is not a share"),
        (
            lambda: diffusion.edm_loss(BEST)({}, {"images": START, "condition": START}, KEY),
            "null: drop=0.1 needs a null condition",
        ),
        (lambda: BEST({}, START, jnp.ones(2)), r"sigma: shape \(2,\); pass \[1\]"),
        (lambda: diffusion.sigma_denoiser({}, zero, prediction="e"), "prediction='e'; choose one of noise"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
