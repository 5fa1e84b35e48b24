"""Safetensors files: every dtype, layouts that are refused, quantised weights, the package safetensors."""

import json

import chex
import ml_dtypes
import numpy as np
import pytest
from models import rewrite, write_model

from jaxembed.encoders import pretrained
from jaxembed.encoders.pretrained import tensors


def raw(path, content, **entries):
    text = json.dumps(entries).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


def entry(dtype, shape, *offsets):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


FLOAT = np.arange(3, dtype=np.float32).tobytes()
LAYOUTS = {
    "overlap": ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, "b begins .* it overlaps"),
    "twice": ({"a": entry("F32", [3], 0, 12), "b": entry("F32", [3], 0, 12)}, "b begins .* it overlaps"),
    "inside": ({"a": entry("F32", [3], 0, 12), "b": entry("F32", [0], 4, 4)}, "b begins .* it overlaps"),
    "gap": ({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, "b begins .* it leaves a gap"),
    "late": ({"a": entry("F32", [2], 4, 12)}, "a begins .* it leaves a gap"),
    "backwards": ({"a": entry("F32", [3], 0, 12), "b": entry("F32", [1], 12, 8)}, "b has -4 bytes"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_tensors_that_share_bytes_are_refused(case, tmp_path):
    entries, message = LAYOUTS[case]
    path = raw(tmp_path / "model.safetensors", FLOAT, **entries)
    with pytest.raises(ValueError, match=message) as caught:
        tensors.read_safetensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.peers
@pytest.mark.parametrize("case", LAYOUTS)
def test_the_package_safetensors_refuses_the_same(case, tmp_path):
    library = pytest.importorskip("safetensors")
    path = raw(tmp_path / "model.safetensors", FLOAT, **LAYOUTS[case][0])
    with pytest.raises(library.SafetensorError):
        library.safe_open(path, "np").keys()


def test_tensors_in_any_order_and_empty_ones_are_read(tmp_path):
    entries = {"b": entry("F32", [1], 8, 12), "e": entry("F32", [0, 4], 8, 8), "a": entry("F32", [2], 0, 8)}
    found = tensors.read_safetensors(raw(tmp_path / "a", FLOAT, **entries))
    assert {k: v.tolist() for k, v in found.items()} == {"a": [0, 1], "b": [2], "e": []}
    text = b'{"a":' + json.dumps(entry("F32", [3], 0, 12)).encode()
    text += b',"a":' + json.dumps(entry("I32", [3], 0, 12)).encode() + b"}"
    (tmp_path / "b").write_bytes(len(text).to_bytes(8, "little") + text + FLOAT)
    with pytest.raises(ValueError, match="its header is damaged"):
        tensors.read_safetensors(tmp_path / "b")


def every_dtype():
    values = np.array([[0, 1, 2], [3, 4, 8]])
    return {name: values.astype(dtype) for name, dtype in tensors.DTYPES.items()}


def test_every_dtype_of_the_format_is_read_and_written(tmp_path):
    assert {"F8_E4M3", "F8_E5M2", "U16", "U32", "U64"} <= tensors.DTYPES.keys()
    expected = every_dtype()
    tensors.write_safetensors(tmp_path / "a", expected)
    found = tensors.read_safetensors(tmp_path / "a")
    for name, x in expected.items():
        assert found[name].dtype == x.dtype
        assert found[name].tobytes() == x.tobytes()
    bits = np.array([0x38, 0x40, 0xB8], np.uint8)  # 1, 2 and -1 in four bits of exponent
    eight = tensors.read_safetensors(
        raw(tmp_path / "b", bits.tobytes(), a=entry("F8_E4M3", [3], 0, 3), z=entry("U16", [0], 3, 3))
    )["a"]
    assert eight.astype(np.float32).tolist() == [1, 2, -1]
    with pytest.raises(ValueError, match="a has dtype F4; known: F64"):
        tensors.read_safetensors(raw(tmp_path / "c", b"1", a=entry("F4", [2], 0, 1)))
    with pytest.raises(ValueError, match="tensor a has dtype <U1, which the format does not name"):
        tensors.write_safetensors(tmp_path / "d", {"a": np.array("x")})


def test_weights_of_8_bits_are_floats_and_quantised_ones_are_refused(tmp_path):
    name = "encoder.layer.0.output.dense.weight"
    path = write_model(tmp_path / "a")
    weight = np.array(tensors.read_tensors(path)[name])
    eight = weight.astype(ml_dtypes.float8_e4m3fn)
    loaded = pretrained.load(rewrite(path, str, **{name: eight}))
    kernel = loaded.params["blocks"]["mlp_out"]["kernel"][0]
    np.testing.assert_array_equal(kernel, eight.astype(np.float32).T)
    rewrite(path, str, **{f"{name}_scale": np.ones(1, np.float32)})
    with pytest.raises(
        ValueError, match=f"tensor {name} has a scale, {name}_scale; load the weights as they"
    ):
        pretrained.load(path)
    path = rewrite(write_model(tmp_path / "b"), str, **{name: weight.astype(np.int8)})
    with pytest.raises(
        ValueError, match=f"tensor {name} holds int8, not floats; load the weights as they were"
    ):
        pretrained.load(path)
    path = write_model(tmp_path / "c", config={"quantization_config": {"quant_method": "fp8"}})
    with pytest.raises(ValueError, match="config.json: quantization_config is not supported"):
        pretrained.load(path)


@pytest.mark.peers
def test_the_package_safetensors_reads_and_writes_the_same(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    expected = {k: v for k, v in every_dtype().items() if not k.startswith(("F8", "BF"))}
    tensors.write_safetensors(tmp_path / "a", expected)
    chex.assert_trees_all_equal(library.load_file(tmp_path / "a"), expected)
    library.save_file(expected, tmp_path / "b")
    chex.assert_trees_all_equal(dict(tensors.read_safetensors(tmp_path / "b")), expected)
    tensors.write_safetensors(tmp_path / "c", every_dtype())
    opened = pytest.importorskip("safetensors").safe_open(tmp_path / "c", "np")
    assert set(opened.keys()) == set(tensors.DTYPES)
