"""Properties of public functions on drawn arrays: shapes, dtypes, masks, empty axes, huge values, 64-bit ids."""

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import property_cases as cases
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PROFILE = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
NAMES = [(room, name) for room, functions in cases.ROOMS.items() for name in functions]


def called(room, name, **drawn):
    """(leaves of the result, shape that it must have), or the text of the ValueError that refused."""
    try:
        result, shape = cases.ROOMS[room][name](cases.Drawn(**drawn))
    except ValueError as error:
        assert "\n" not in str(error) and str(error), name
        return None, str(error)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result)], shape


def held(leaves, shape):
    if shape is not cases.ANY:
        assert [leaf.shape for leaf in leaves] == [shape]
    assert all(leaf.dtype != object for leaf in leaves)


@pytest.mark.parametrize(("room", "name"), NAMES)
@settings(max_examples=4, **PROFILE)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    scale=st.sampled_from([1.0, 1e4, 0.0]),
    keep=st.sampled_from([0.7, 1.0, 0.0]),
)
def test_shapes_and_finite_numbers(room, name, seed, dtype, scale, keep):
    leaves, shape = called(room, name, seed=seed, dtype=dtype, scale=scale, keep=keep)
    if leaves is None:
        return
    held(leaves, shape)
    for leaf in leaves:
        if name not in cases.MAY_BE_NAN:
            assert not np.isnan(leaf.astype(np.float64)).any(), leaf
