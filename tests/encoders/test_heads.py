"""Heads on encoders: a dense layer on a prefix."""

import numpy as np
import oracles_losses
import pytest
from layered_encoder import D, head_and_table

from jaxembed import encoders


@pytest.mark.parametrize("size", [1, 5, D])
def test_a_prefix_through_a_dense_layer_is_the_padded_input(size):
    head, _ = head_and_table()
    x = np.random.default_rng(0).normal(size=(4, 3, size)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (0, D - size)))
    value = encoders.prefix_dense(head["dense"], x)
    np.testing.assert_allclose(value, encoders.prefix_dense(head["dense"], padded), atol=1e-5)
    expected = x @ head["dense"]["kernel"][:size] + head["dense"]["bias"]
    np.testing.assert_allclose(value, expected, atol=1e-5)
    np.testing.assert_allclose(encoders.lift(head, x), oracles_losses.lift(head, x), atol=1e-4)
