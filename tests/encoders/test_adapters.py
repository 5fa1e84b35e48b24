"""Adapters in PEFT's layout: what PEFT wrote is read, ours have its names, bad files are named."""

import json
import pathlib

import chex
import jax
import numpy as np
import pytest
from models import golden, write_model

from jaxembed import encoders, weights
from jaxembed.encoders.pretrained import tensors

GOLDEN = pathlib.Path(__file__).parents[1] / "support" / "golden" / "adapters"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.npz"))
KERNELS = "^blocks/.*kernel$"


def written(name, folder):
    """(the folder that PEFT wrote, the hidden states that torch gave with it)."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        file = dict(file)
    folder.mkdir()
    (folder / "adapter_config.json").write_text(str(file["config"]))
    found = {k.removeprefix("tensor."): v for k, v in file.items() if k.startswith("tensor.")}
    tensors.write_safetensors(folder / "adapter_model.safetensors", found)
    return folder, file["states"]


def loaded(name, folder):
    return encoders.pretrained.load(write_model(folder / name, name))


def states(encoder, adapters, scale, name):
    file = golden(name)
    params = weights.low_rank(encoder.params, adapters, scale)
    tokens, _ = encoder.encode_tokens(params, {"ids": file["ids"], "mask": file["mask"]})
    return np.asarray(tokens)[file["mask"]]


@pytest.mark.parametrize("name", NAMES)
def test_adapters_of_peft_give_the_states_of_torch(name, tmp_path):
    encoder, (folder, wanted) = loaded(name, tmp_path), written(name, tmp_path / "adapters")
    adapters, scale = encoders.read_adapters(folder, encoder)
    found, file = states(encoder, adapters, scale, name), golden(name)
    np.testing.assert_allclose(found, wanted[file["mask"]], atol=1e-4)
    assert np.abs(found - file["out"][file["mask"]]).max() > 1e-2


@pytest.mark.parametrize("magnitudes", [False, True])
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_written_adapters_are_read_again(name, magnitudes, tmp_path):
    encoder = loaded(name, tmp_path)
    made = weights.init_low_rank(jax.random.key(0), encoder.params, KERNELS, 2, magnitudes=magnitudes)
    made = jax.tree.map(lambda x: x + np.random.default_rng(0).normal(size=x.shape).astype("f4"), made)
    encoders.write_adapters(tmp_path / "adapters", encoder, made, 1.5)
    found, scale = encoders.read_adapters(tmp_path / "adapters", encoder)
    assert scale == 1.5
    ours, theirs = (weights.low_rank(encoder.params, x, 1.5) for x in (made, found))
    chex.assert_trees_all_close(ours, theirs, atol=1e-5)


def test_written_names_are_those_of_peft(tmp_path):
    """The names, shapes and settings of the file that PEFT wrote for the same linear maps."""
    encoder, (folder, _) = loaded("llama", tmp_path), written("llama", tmp_path / "theirs")
    adapters, scale = encoders.read_adapters(folder, encoder)
    encoders.write_adapters(tmp_path / "ours", encoder, adapters, scale)
    ours, theirs = (
        tensors.read_safetensors(path / "adapter_model.safetensors") for path in (tmp_path / "ours", folder)
    )
    chex.assert_trees_all_equal(dict(ours), {name: np.asarray(x, np.float32) for name, x in theirs.items()})
    ours, theirs = (
        json.loads((path / "adapter_config.json").read_text()) for path in (tmp_path / "ours", folder)
    )
    for key in ("peft_type", "task_type", "r", "lora_alpha", "use_dora", "bias"):
        assert ours[key] == theirs[key], key


def test_a_checkpoint_with_a_prefix_is_read_too(tmp_path):
    encoder, (folder, _) = loaded("bert", tmp_path), written("bert", tmp_path / "adapters")
    wanted = encoders.read_adapters(folder, encoder)
    path = folder / "adapter_model.safetensors"
    found = {
        k.replace("model.encoder", "model.bert.encoder"): np.array(v)
        for k, v in tensors.read_safetensors(path).items()
    }
    tensors.write_safetensors(path, found)
    chex.assert_trees_all_equal(encoders.read_adapters(folder, encoder), wanted)


def changed(**more):
    def change(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | more))

    return change


def renamed(old, new, cut=np.s_[:]):
    def change(folder):
        path = folder / "adapter_model.safetensors"
        found = {k.replace(old, new): np.array(v)[cut] for k, v in tensors.read_safetensors(path).items()}
        tensors.write_safetensors(path, found)

    return change


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (changed(peft_type="LOHA"), "peft_type is 'LOHA'; LORA alone is read"),
        (changed(bias="all"), "bias or modules_to_save; adapters of kernels alone"),
        (changed(modules_to_save=["head"]), "bias or modules_to_save; adapters of kernels alone"),
        (changed(fan_in_fan_out=True), "fan_in_fan_out is not supported"),
        (changed(lora_alpha=0), "lora_alpha is 0, not above 0"),
        (changed(lora_alpha="8"), 'lora_alpha: "8" is not a number'),
        (changed(alpha_pattern=[1]), "alpha_pattern: .* is not an object"),
        (renamed("query", "question"), "question is not a linear map of this encoder's blocks"),
        (renamed("layer.1", "layer.7"), "layer.7.* is not a linear map of this encoder's blocks"),
        (renamed("lora_A", "lora_C"), "is not of LoRA or DoRA on a linear map"),
        (renamed("", "", np.s_[:1]), "has tensors that do not fit one another"),
        (renamed("", "", np.s_[:, :2]), "'blocks/attention/query' is of another shape in this encoder"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"12"), "damaged or cut short"),
    ],
)
def test_bad_folders_get_one_line(damage, match, tmp_path):
    encoder, (folder, _) = loaded("bert", tmp_path), written("bert", tmp_path / "adapters")
    damage(folder)
    with pytest.raises(ValueError, match=match) as caught:
        encoders.read_adapters(folder, encoder)
    assert "\n" not in str(caught.value)


def test_adapters_of_another_model_and_missing_files(tmp_path):
    folder, _ = written("bert", tmp_path / "adapters")
    other = loaded("llama", tmp_path)
    with pytest.raises(ValueError, match="is not a linear map of this encoder's blocks"):
        encoders.read_adapters(folder, other)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="adapter_model.safetensors: missing"):
        encoders.read_adapters(folder, other)


def test_what_is_not_a_kernel_of_the_blocks_is_not_written(tmp_path):
    encoder = loaded("bert", tmp_path)
    made = weights.init_low_rank(jax.random.key(0), encoder.params, "^table/embedding$", 2)
    with pytest.raises(ValueError, match="'table/embedding' is not a kernel of the blocks"):
        encoders.write_adapters(tmp_path / "adapters", encoder, made)
    assert not (tmp_path / "adapters").exists()
