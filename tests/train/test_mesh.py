"""Meshes that cannot be made."""

import pytest

from jaxembed import train


@pytest.mark.parametrize(("data", "model"), [(None, 3), (9, 1), (0, 1)])
def test_impossible_meshes(data, model):
    with pytest.raises(ValueError, match="devices"):
        train.make_mesh(data, model)
