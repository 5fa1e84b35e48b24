import jax
import jax.numpy as jnp
import numpy as np
import published_unets
import pytest

from jaxembed import diffusion, encoders

TABLE, KEY = diffusion.schedule(), jax.random.key(0)
NET = encoders.unet(8, (1, 2))
PARAMS = published_unets.drawn(NET)
X = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)


def found(t, key=KEY, x=X, numbers=(2, 6), params=PARAMS, **options):
    return diffusion.diffusion_features(NET.features, params, x, t, key, TABLE, numbers, **options)


def test_features_are_the_maps_of_noisy_images():
    t = np.array([5, 90, 700])
    noise = jax.random.normal(KEY, X.shape)
    expected = NET.features(PARAMS, diffusion.noised(TABLE, X, t, noise), t, (2, 6))
    mine = found(t)
    for n in (2, 6):
        np.testing.assert_allclose(mine[n], expected[n], atol=1e-5)
    np.testing.assert_allclose(found(90)[2], found(np.full(3, 90))[2], atol=1e-6)


def test_noise_matters_more_the_later_the_step_and_averages_away():
    keys = jax.random.split(jax.random.key(1), 6)
    spreads = [float(jnp.stack([found(t, key)[6] for key in keys]).std(axis=0).mean()) for t in (0, 100, 600)]
    assert spreads[0] < 0.3 * spreads[1] < 0.3 * spreads[2]
    averaged = jnp.stack([found(100, key, draws=8)[6] for key in keys]).std(axis=0).mean()
    assert averaged < 0.6 * spreads[1]


def test_a_step_that_is_known_may_be_used_in_a_traced_function():
    t = jnp.full(3, 5)
    inside = jax.jit(lambda x: diffusion.noised(TABLE, x, t, x))(X)
    np.testing.assert_allclose(inside, diffusion.noised(TABLE, X, t, X), atol=1e-6)


def test_nothing_flows_back():
    slopes = jax.grad(lambda p, x: jnp.sum(found(5, x=x, params=p)[6] ** 2), argnums=(0, 1))(PARAMS, X)
    for leaf in jax.tree.leaves(slopes):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))


def test_features_of_low_precision_are_float32():
    assert found(5, x=jnp.asarray(X, jnp.bfloat16))[6].dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: found(1000), "t: 1000 is outside 0..999; a schedule of 1000 steps"),
        (lambda: found(5, draws=0), "draws: 0; pass at least 1"),
        (lambda: found(5, x=np.zeros((3, 8, 8, 1), np.uint8)), "x: uint8; pass floats"),
        (lambda: found(5, numbers=(99,)), r"numbers: \[99\]; pass some of the blocks"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
