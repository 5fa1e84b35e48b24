import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import oracles_diffusion as oracles
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxembed import diffusion, train

TABLE = diffusion.schedule()
BARS = oracles.alphas_bar(oracles.betas("linear", 1000))
PREDICTIONS = ("noise", "x0", "v")
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, OUT, Z = (RNG.normal(size=(4, 3, 2, 1)).astype(np.float32) for _ in range(3))
T, BEFORE = np.array([999, 500, 20, 0]), np.array([979, 499, 0, -1])


def best(prediction="noise"):
    """The exact denoiser of Gaussian data."""

    def denoise(params, x, t, condition=None, key=None):
        return oracles.gaussian(TABLE["alphas_bar"][t][:, None], x, prediction)

    return denoise


def each(oracle, *arrays, **options):
    """An oracle of one row, for all rows."""
    rows = zip(X.astype(np.float64), T, BEFORE, *arrays, strict=True)
    return np.stack([oracle(BARS, *row, **options) for row in rows])


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_steps_are_those_of_the_formula(prediction, eta):
    options = {"prediction": prediction, "eta": eta}
    found = diffusion.ddim_step(TABLE, X, T, BEFORE, OUT, Z, **options)
    expected = each(oracles.ddim, OUT, Z, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.peers
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_steps_are_those_of_diffusers(prediction):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    named = {"noise": "epsilon", "x0": "sample", "v": "v_prediction"}[prediction]
    options = {"prediction_type": named, "clip_sample": False}
    peers = {
        diffusion.ddim_step: diffusers.DDIMScheduler(**options),
        diffusion.ddpm_step: diffusers.DDPMScheduler(**options),
    }
    for step, peer in peers.items():
        peer.set_timesteps(50)
        for t in (980, 500, 20, 0):
            there = _quiet(torch, peer, OUT, t)
            given = (X, np.full(4, t), np.full(4, t - 20 if t else -1), OUT, np.zeros_like(X))
            found = step(TABLE, *given, prediction=prediction)
            np.testing.assert_allclose(found, np.asarray(there), rtol=1e-4, atol=1e-5)


def _quiet(torch, peer, out, t):
    """What a scheduler of diffusers makes of X, with zeros for the noise that it draws."""
    with pytest.MonkeyPatch.context() as patch:
        module = importlib.import_module(type(peer).__module__)
        patch.setattr(module, "randn_tensor", lambda shape, **options: torch.zeros(shape))
        return peer.step(torch.tensor(out), torch.tensor(t), torch.tensor(X)).prev_sample


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_steps_draw_from_the_posterior_of_bayes_rule(variance):
    means, variances = zip(
        *[oracles.posterior(BARS, *row) for row in zip(X, T, BEFORE, OUT, strict=True)], strict=True
    )
    if variance == "large":
        variances = 1 - BARS[T] / BARS[BEFORE]
        variances[-1] = 0
    expected = np.stack(means) + np.sqrt(np.reshape(variances, (4, 1, 1, 1))) * Z
    found = diffusion.ddpm_step(TABLE, X, T, BEFORE, OUT, Z, prediction="x0", variance=variance)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_ddim_with_eta_1_is_ddpm():
    options = {"prediction": "v"}
    ddim = diffusion.ddim_step(TABLE, X, T, BEFORE, OUT, Z, eta=1.0, **options)
    np.testing.assert_allclose(
        ddim, diffusion.ddpm_step(TABLE, X, T, BEFORE, OUT, Z, **options), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("step", [diffusion.ddim_step, diffusion.ddpm_step])
def test_clipping_bounds_the_image_and_the_noise_follows(step):
    clipped = step(TABLE, X, T, BEFORE, 9 * OUT, 0 * Z, prediction="x0", clip=1.0)
    expected = step(TABLE, X, T, BEFORE, np.clip(9 * OUT, -1, 1), 0 * Z, prediction="x0")
    np.testing.assert_allclose(clipped, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(clipped[-1]).max() == 1


def test_spacings_are_the_published_ones():
    assert diffusion.timesteps(1000, 10).tolist() == [*range(900, -1, -100)]
    assert diffusion.timesteps(1000, 50, "trailing").tolist() == [*range(999, 0, -20)]
    assert diffusion.timesteps(10, 4, "linspace").tolist() == [9, 6, 3, 0]
    assert diffusion.timesteps(10, 3, "trailing").tolist() == [9, 6, 2]
    for spacing in ("leading", "trailing", "linspace"):
        assert diffusion.timesteps(30, 30, spacing).tolist() == [*range(29, -1, -1)]


def sampled(rows, denoise=None, **options):
    return diffusion.sample(denoise or best(), {}, TABLE, KEY, (rows, 1), **options)


@pytest.mark.parametrize(
    ("steps", "gain"), [(10, 0.374128), (50, 0.472439), (250, 0.494286), (1000, 0.498495)]
)
def test_ddim_scales_gaussian_data_as_known(steps, gain):
    """Of data N(0, 1 / 4) from x = 1; the limit of many steps is 1 / 2."""

    def denoise(params, x, t, condition):
        bar = TABLE["alphas_bar"][t][:, None]
        return jnp.sqrt(1 - bar) * x / (bar / 4 + 1 - bar)

    found = diffusion.sample(denoise, {}, TABLE, None, (1, 1), steps=steps, start=jnp.ones((1, 1)))
    np.testing.assert_allclose(found, [[gain]], atol=2e-5)


def moments(x):
    return np.mean(x), np.std(x)


def test_ddim_reaches_the_mean_and_deviation_of_gaussian_data():
    start = jax.random.normal(KEY, (20000, 1))
    start = (start - start.mean()) / start.std()
    found = sampled(20000, start=start, steps=500, spacing="trailing")
    np.testing.assert_allclose(moments(found), (oracles.CENTRE, oracles.SPREAD), atol=0.01)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_has_the_moments_of_its_recursion(variance):
    """The steps are affine in x: mean and variance follow in closed form, and reach those of the data."""
    visited = [*range(990, -1, -10), -1]
    mean, spread = 0.0, 1.0
    for t, p in zip(visited[:-1], visited[1:], strict=True):

        def step(x, t=t, p=p):
            return oracles.posterior(BARS, x, t, p, oracles.gaussian(BARS[t], x, "x0"))

        (zero, small), (one, _) = step(0.0), step(1.0)
        added = small if variance == "small" or p == -1 else 1 - BARS[t] / BARS[p]
        mean, spread = zero + (one - zero) * mean, (one - zero) ** 2 * spread + added
    found = sampled(40000, steps=100, sampler="ddpm", variance=variance)
    assert abs(found.mean() - mean) < 5 * np.sqrt(spread / 40000)
    assert abs(found.std() - np.sqrt(spread)) < 5 * np.sqrt(spread / 80000)
    np.testing.assert_allclose((mean, np.sqrt(spread)), (oracles.CENTRE, oracles.SPREAD), atol=0.04)
    assert (np.sqrt(spread) < oracles.SPREAD) == (variance == "small")  # the true variance lies between


def test_ddim_without_noise_is_deterministic_and_the_predictions_agree():
    start = np.linspace(-2, 2, 8, dtype=np.float32)[:, None]
    one, *others = (sampled(8, best(p), start=start, prediction=p) for p in PREDICTIONS)
    again = diffusion.sample(best(), {}, TABLE, jax.random.key(9), (8, 1), start=start)
    np.testing.assert_array_equal(one, again)
    for other in others:
        np.testing.assert_allclose(other, one, atol=2e-5)
    noisy = sampled(8, start=start, eta=1.0)
    assert np.abs(noisy - one).max() > 0.05
    small = sampled(8, start=start, eta=1e-5)
    np.testing.assert_allclose(small, one, atol=1e-3)


def curved(params, x, t, condition, key=None):
    """A prediction of v that is not affine in x and depends on everything."""
    return jnp.tanh(params * x + condition["row"]) * (1 + t[:, None] / 1000)


def looped(condition_at, start, visited):
    x = np.asarray(start, np.float64)
    for number, (t, p) in enumerate(zip(visited, [*visited[1:], -1], strict=True)):
        out = np.tanh(0.7 * x + condition_at(number)) * (1 + t / 1000)
        x = oracles.ddim(BARS, x, t, p, out, 0, "v")
    return x


def test_the_scan_is_the_loop_and_conditions_may_change_at_a_step():
    row, later = np.array([[0.5], [-1.0]], np.float32), np.array([[2.0], [0.0]], np.float32)
    start = np.array([[0.3], [-1.2]], np.float32)
    run = functools.partial(
        diffusion.sample, curved, 0.7, TABLE, None, (2, 1), start=start, prediction="v", steps=12
    )
    visited = [*range(11 * 83, -1, -83)]
    still = run(condition={"row": row})
    np.testing.assert_allclose(still, looped(lambda n: row, start, visited), atol=1e-5)
    expected = looped(lambda n: row if n < 4 else later, start, visited)
    assert np.abs(expected - still).max() > 0.01

    def switch(number, condition):
        return {"row": jnp.where(number < 4, condition["row"], condition["later"])}

    both = {"row": row, "later": later}
    np.testing.assert_allclose(run(condition=both, at_step=switch), expected, atol=1e-5)
    np.testing.assert_allclose(run(condition=lambda n: switch(n, both)), expected, atol=1e-5)


def test_the_network_is_traced_once_for_any_number_of_steps():
    counts = []

    def denoise(params, x, t, condition):
        counts.append(x.shape)
        return params * x

    def run(params, steps):
        return diffusion.sample(denoise, params, TABLE, KEY, (2, 1), steps=steps, eta=1.0)

    lengths = [len(str(jax.make_jaxpr(functools.partial(run, steps=s))(0.5))) for s in (5, 500)]
    assert len(counts) == 2 and abs(lengths[1] - lengths[0]) < 0.1 * lengths[0] + 4000
    slope = jax.grad(lambda p: run(p, 5).sum())(0.5)
    assert np.isfinite(slope) and slope != 0


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_images_split_over_devices_are_the_same_and_stay_where_they_are(sampler):
    mesh = train.make_mesh(8, 1)
    rows = NamedSharding(mesh, P("data"))
    condition = RNG.normal(size=(16, 4)).astype(np.float32)
    start = RNG.normal(size=(16, 4)).astype(np.float32)
    denoise = diffusion.guided(lambda p, x, t, c, key=None: jnp.tanh(p * x + c), 2.0, np.zeros(4, np.float32))

    def run(params, condition, start):
        options = {"sampler": sampler, "steps": 5, "prediction": "v", "start": start}
        return diffusion.sample(denoise, params, TABLE, KEY, (16, 4), condition=condition, **options)

    lone = jax.jit(run)(0.5, condition, start)
    given = jax.device_put((condition, start), rows)
    compiled = jax.jit(run, out_shardings=rows).lower(0.5, *given).compile()
    np.testing.assert_allclose(compiled(0.5, *given), lone, atol=1e-5)
    moved = ("all-gather", "all-to-all", "all-reduce", "collective-permute")
    assert not any(word in compiled.as_text() for word in moved)


def test_a_start_of_float64_or_bfloat16_keeps_its_dtype():
    start = jnp.ones((2, 1), jnp.bfloat16)
    assert sampled(2, start=start, steps=3).dtype == jnp.bfloat16
    ones = sampled(2, start=jnp.ones((2, 1), jnp.int32), steps=3)
    np.testing.assert_array_equal(ones, sampled(2, start=jnp.ones((2, 1)), steps=3))
    with jax.enable_x64(True):
        assert sampled(2, start=jnp.ones((2, 1)), steps=3).dtype == jnp.float64


RUN = functools.partial(sampled, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RUN(steps=0), r"steps: 0 of a schedule of 1000; pass 1..1000"),
        (lambda: RUN(steps=1001), r"steps: 1001 of a schedule of 1000; pass 1..1000"),
        (
            lambda: RUN(steps=1),
            'steps: 1 with spacing "leading" visits step 0 alone; pass spacing="trailing"',
        ),
        (lambda: RUN(steps=2.0), "steps: 2.0 is not an integer"),
        (lambda: RUN(spacing="even"), "spacing='even'; choose one of leading, trailing, linspace"),
        (lambda: RUN(sampler="plms"), "sampler='plms'; choose one of ddim, ddpm"),
        (lambda: RUN(sampler="ddpm", eta=1.0), "eta: belongs to ddim"),
        (lambda: RUN(sampler="ddpm", variance="learned"), "variance='learned'; choose one of small, large"),
        (lambda: RUN(prediction="eps"), "prediction='eps'; choose one of noise, x0, v"),
        (lambda: RUN(eta=1.5), r"eta: 1.5 is outside \[0, 1\]"),
        (lambda: RUN(clip=-1.0), "clip: -1.0 is not above 0; pass a positive number, or None"),
        (lambda: RUN(start=jnp.ones((2, 2))), r"start: shape \(2, 2\); pass \[2, 1\]"),
        (lambda: RUN(condition=jnp.ones((3, 4))), r"condition: shape \(3, 4\) for 2 images; pass"),
        (lambda: RUN(condition=lambda n: jnp.ones(())), r"condition: shape \(\) for 2 images"),
        (lambda: RUN(lambda *a: a[1][:1]), r"out: shape \(1, 1\); pass \[2, 1\]"),
        (lambda: diffusion.sample(best(), {}, TABLE, None, (2, 1)), "key: needed, because noise is drawn"),
        (lambda: diffusion.ddim_step(TABLE, X, T + 1, BEFORE, OUT), "t: 1000 is outside 0..999"),
        (lambda: diffusion.ddim_step(TABLE, X, T, BEFORE - 1, OUT), "previous: -2 is outside -1..999"),
        (lambda: diffusion.ddim_step(TABLE, X, T, BEFORE, OUT, eta=1.0), "noise: needed with eta=1.0"),
        (lambda: diffusion.ddpm_step(TABLE, X, T, BEFORE, OUT, Z[:1]), "noise: shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
