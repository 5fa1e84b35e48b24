"""Every family of published encoders gives the numbers of transformers."""

import json

import chex
import numpy as np
import pytest
from models import golden, write_model
from text_folders import CASES, DECODERS, WINDOWS

from jaxembed.encoders import pretrained
from jaxembed.encoders.pretrained import tensors
from jaxembed.encoders.pretrained.families import FAMILIES


@pytest.mark.parametrize(("name", "causal"), CASES)
def test_tokens_equal_transformers(name, causal, tmp_path):
    file, decoder = golden(name), name in DECODERS
    loaded = pretrained.load(write_model(tmp_path / name, name), causal=causal if decoder else None)
    batch = {"ids": file["ids"], "mask": file["mask"]}
    tokens, mask = loaded.encode_tokens(loaded.params, batch)
    expected = file["out" if causal else "bidirectional"]
    np.testing.assert_allclose(np.asarray(tokens)[mask], expected[mask], atol=1e-4)
    assert not np.asarray(tokens)[~file["mask"]].any()
    if decoder and not causal:
        assert np.abs(expected - file["out"])[file["mask"]].max() > 0.1


@pytest.mark.parametrize("name", WINDOWS)
def test_a_decoder_without_windows_is_saved_without_them(name, tmp_path):
    path = write_model(tmp_path / "a", name, config=WINDOWS[name])
    loaded = pretrained.load(path, causal=False)
    loaded.save(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert (config["is_causal"], config["sliding_window"]) == (False, None)
    if name == "qwen2":
        assert (config["use_sliding_window"], config["layer_types"]) == (False, ["full_attention"] * 2)
    pretrained.load(path).save(tmp_path / "c")
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    assert config.items() >= WINDOWS[name].items()


@pytest.mark.parametrize("name", FAMILIES)
def test_tensors_survive_saving(name, tmp_path):
    loaded = pretrained.load(write_model(tmp_path / "a", name))
    loaded.save(tmp_path / "b")
    found = tensors.read_tensors(tmp_path / "b")
    expected = {k.removeprefix("tensor."): v for k, v in golden(name).items() if k.startswith("tensor.")}
    assert found.keys() == expected.keys()
    chex.assert_trees_all_equal(dict(found), {k: v.astype(np.float32) for k, v in expected.items()})
    again = pretrained.load(tmp_path / "b")
    chex.assert_trees_all_equal(again.params, loaded.params)
    assert (again.max_length, again.pooling) == (loaded.max_length, loaded.pooling)


def test_blocks_are_stacked_under_readable_paths(encoder):
    assert encoder.params["blocks"]["attention"]["query"]["kernel"].shape == (2, 16, 16)
    assert encoder.params["table"]["embedding"].shape == (30, 16)
