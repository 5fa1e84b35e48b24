"""Values and gradients of losses equal those of public packages."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_families import PUBLIC

GOLDEN = pathlib.Path(__file__).parents[1] / "support" / "golden" / "losses.npz"


@pytest.mark.parametrize("name", PUBLIC)
def test_values_and_gradients_equal_public_packages(name):
    with np.load(GOLDEN, allow_pickle=False) as loaded:
        file = dict(loaded)
    loss, inputs = PUBLIC[name]
    run = jax.jit(jax.value_and_grad(lambda v: jnp.mean(loss(*v, file))))
    value, gradients = run([file[key] for key in inputs])
    np.testing.assert_allclose(value, file[name], rtol=2e-5)
    for key, gradient in zip(inputs, gradients, strict=True):
        np.testing.assert_allclose(gradient, file[f"{name}_gradient_{key}"], rtol=1e-3, atol=1e-5)
