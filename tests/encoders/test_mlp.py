"""Laws of the interaction networks and of the click models made of them."""

import jax
import jax.flatten_util
import numpy as np
import oracles_ctr
import pytest
from field_cases import BIAS, X, wide

from jaxembed import encoders


@pytest.mark.parametrize("final", [False, True])
def test_mlp_equals_the_loops(final):
    params = encoders.init_mlp(jax.random.key(0), (6, 5, 4), bias_init=BIAS)
    found = encoders.mlp(params, X, final=final)
    np.testing.assert_allclose(found, oracles_ctr.mlp(wide(params), X, final), rtol=1e-5, atol=1e-6)
    assert (found.min() < 0) != final
    np.testing.assert_array_equal(encoders.mlp({}, X), X)
