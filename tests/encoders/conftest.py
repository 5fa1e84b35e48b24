"""A small published encoder on the disk, and loaded."""

import pytest
from models import write_model

from jaxembed.encoders import pretrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def encoder(folder):
    return pretrained.load(folder)
