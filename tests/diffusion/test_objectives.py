import jax
import jax.numpy as jnp
import numpy as np
import oracles_diffusion as oracles
import pytest

from jaxembed import diffusion

TABLE = diffusion.schedule()
BARS = oracles.alphas_bar(oracles.betas("linear", 1000))[:-1]
PREDICTIONS = ("noise", "x0", "v")
KEY = jax.random.key(0)


def best(prediction):
    """The exact denoiser of Gaussian data."""
    return lambda params, x, t, condition, key: oracles.gaussian(
        TABLE["alphas_bar"][t][:, None], x, prediction
    )


def images(rows):
    draws = jax.random.normal(jax.random.key(1), (rows, 1))
    return {"images": oracles.CENTRE + oracles.SPREAD * draws}


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_of_the_exact_denoiser_is_the_variance_that_is_left(prediction):
    found = np.asarray(
        diffusion.denoising_loss(TABLE, best(prediction), prediction=prediction)({}, images(40000), KEY)
    )
    left = {"noise": BARS, "x0": 1 - BARS, "v": 1}[prediction]
    expected = np.mean(left * oracles.SPREAD**2 / (BARS * oracles.SPREAD**2 + 1 - BARS))
    assert abs(found.mean() - expected) < 4 * found.std() / 200
    assert found.std() / 200 < 0.02 * expected


@pytest.mark.parametrize("weighting", ["min_snr", "p2", lambda snr: snr**-0.5])
def test_weighted_losses_of_three_predictions_agree(weighting):
    found = [
        diffusion.denoising_loss(TABLE, best(p), prediction=p, weighting=weighting)({}, images(500), KEY)
        for p in PREDICTIONS
    ]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=5e-3, atol=1e-5)


def test_weights_are_those_of_the_formulas():
    t = np.arange(1000)
    snr = BARS / (1 - BARS)
    for prediction, form in (("noise", 1 / snr), ("x0", 1), ("v", 1 / (snr + 1))):
        found = diffusion.denoising_weights(TABLE, t, "min_snr", prediction)
        np.testing.assert_allclose(found, np.minimum(snr, 5) * form, rtol=1e-5)
    np.testing.assert_allclose(diffusion.denoising_weights(TABLE, t, "p2"), 1 / (1 + snr), rtol=1e-5)
    np.testing.assert_array_equal(diffusion.denoising_weights(TABLE, t, None, "v"), np.ones(1000))


def test_a_network_of_zeros_loses_what_it_should_have_said():
    def zero(params, x, t, condition, key):
        return jnp.zeros_like(x)

    batch = {"images": jax.random.normal(KEY, (64, 8, 8, 1))}
    x0 = diffusion.denoising_loss(TABLE, zero, prediction="x0")({}, batch, KEY)
    np.testing.assert_allclose(x0, jnp.mean(batch["images"] ** 2, axis=(1, 2, 3)), rtol=1e-5)
    noise = diffusion.denoising_loss(TABLE, zero)({}, batch, KEY)
    assert noise.shape == (64,) and abs(noise.mean() - 1) < 0.1


def seen(drop, null, condition, params=None):
    """What the network is given as its condition."""
    found = []

    def denoise(params, x, t, condition, key):
        found.append(condition)
        return x

    loss = diffusion.denoising_loss(TABLE, denoise, drop=drop, null=null)
    loss(params, {"images": jnp.zeros((len(jax.tree.leaves(condition)[0]), 2)), "condition": condition}, KEY)
    return found[0]


def test_conditions_are_dropped_for_each_example():
    condition = {"tokens": jnp.ones((2000, 3, 2)), "mask": jnp.ones((2000, 3), bool)}
    null = {"tokens": jnp.full((3, 2), 7.0), "mask": jnp.array([True, False, False])}
    found = seen(0.1, null, condition)
    gone = np.asarray(found["tokens"] == 7).all(axis=(1, 2))
    assert 0.07 < gone.mean() < 0.13
    np.testing.assert_array_equal(found["tokens"][~gone], condition["tokens"][~gone])
    np.testing.assert_array_equal(np.asarray(found["mask"]).sum(1), np.where(gone, 1, 3))
    np.testing.assert_array_equal(seen(0, None, jnp.arange(5)), np.arange(5))
    np.testing.assert_array_equal(seen(1.0, 9, jnp.arange(5)), np.full(5, 9))
    learned = seen(1.0, lambda params: params["null"], jnp.ones((4, 2)), {"null": jnp.array([3.0, 4.0])})
    np.testing.assert_array_equal(learned, [[3, 4]] * 4)


def test_a_network_learns_the_exact_denoiser():
    """The gradient of the loss vanishes at the exact denoiser, and not beside it."""

    def denoise(params, x, t, condition, key):
        return params * best("v")(params, x, t, condition, key)

    loss = diffusion.denoising_loss(TABLE, denoise, prediction="v")
    slope = jax.jit(jax.grad(lambda p: loss(p, images(40000), KEY).mean()))
    assert abs(slope(1.0)) < 0.02 < 0.1 < slope(1.5)


LOSS = diffusion.denoising_loss(TABLE, lambda params, x, t, condition, key: x)
PICTURES, ROWS = jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: diffusion.denoising_loss(TABLE, None, prediction="e"),
            "prediction='e'; choose one of noise, x0, v",
        ),
        (
            lambda: diffusion.denoising_loss(TABLE, None, drop=2),
            r"drop: 2 is not a share; pass a number in \[0, 1\]",
        ),
        (lambda: LOSS({}, {"images": PICTURES.astype(jnp.uint8)}, KEY), "images: uint8 .*; pass floats"),
        (
            lambda: LOSS({}, {"images": PICTURES, "condition": ROWS}, KEY),
            "null: drop=0.1 needs a null condition; pass null, or drop=0 without guidance",
        ),
        (lambda: seen(0.1, jnp.zeros(4), ROWS), r"null: shape \(4,\) for conditions \(2, 3\); pass \(3,\)"),
        (lambda: seen(0.1, {"a": 0}, ROWS), "null: another tree than the condition"),
        (
            lambda: diffusion.denoising_weights(TABLE, np.array([3]), "snr"),
            "weighting='snr'; choose None, min_snr",
        ),
        (lambda: diffusion.denoising_weights(TABLE, np.array([1000])), "t: 1000 is outside 0..999"),
        (
            lambda: diffusion.denoising_loss(TABLE, lambda *a: a[1][:1])({}, {"images": PICTURES}, KEY),
            r"the result of denoise: shape \(1, 4, 4, 1\); pass \[2, 4, 4, 1\]",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
