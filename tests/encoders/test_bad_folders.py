"""Folders in shards and other dtypes; damaged, unknown or incomplete ones get one line."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import TEXTS, golden, modules, write_dense, write_model

from jaxembed import encoders
from jaxembed.encoders import pretrained
from jaxembed.encoders.pretrained import tensors
from jaxembed.encoders.pretrained.families import describe

# Files


def test_shards_and_other_dtypes(folder, encoder, tmp_path):
    weights = dict(tensors.read_tensors(folder))
    names = sorted(weights)
    path = write_model(tmp_path / "sharded", tensors_too=False)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for part, chosen in parts.items():
        tensors.write_safetensors(path / part, {f"bert.{n}": weights[n].astype(jnp.bfloat16) for n in chosen})
    index = {"weight_map": {n: part for part, chosen in parts.items() for n in chosen}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = pretrained.load(path)
    chex.assert_trees_all_close(loaded.params, encoder.params, atol=1e-2)
    half = pretrained.load(path, param_dtype=jnp.bfloat16, dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(half.params)} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(half.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=0.05)
    (path / "model-2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-2.safetensors: missing"):
        pretrained.load(path)


def cut(name):
    def damage(path):
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: len(content) // 2])

    return damage


def remove(name):
    return lambda path: (path / name).unlink()


def change(name, **values):
    def damage(path):
        (path / name).write_text(json.dumps(json.loads((path / name).read_text()) | values))

    return damage


def drop(name, key):
    def damage(path):
        kept = {k: v for k, v in json.loads((path / name).read_text()).items() if k != key}
        (path / name).write_text(json.dumps(kept))

    return damage


def write(name, value):
    return lambda path: (path / name).write_text(json.dumps(value))


def header(**entry):
    """Puts a changed header before the tensors; ``entry`` replaces what it says of one tensor."""

    def damage(path):
        file = path / "model.safetensors"
        content = file.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        found = json.loads(content[8:end])
        name = next(k for k in found if k != "__metadata__")
        found[name] = {k: v for k, v in (found[name] | entry).items() if v is not None}
        text = json.dumps(found if entry else []).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])

    return damage


def dense(**changed):
    def damage(path):
        weights = {k: np.array(v) for k, v in tensors.read_tensors(path / "2_Dense").items()} | changed
        weights = {k: v for k, v in weights.items() if v is not None}
        tensors.write_safetensors(path / "2_Dense" / "model.safetensors", weights)

    return damage


def index(value):
    def damage(path):
        (path / "model.safetensors").unlink()
        (path / "model.safetensors.index.json").write_text(json.dumps(value))

    return damage


def pickled(path):
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


BAD = {
    "no config": (remove("config.json"), "config.json: missing"),
    "half a config": (cut("config.json"), "config.json: damaged or cut short"),
    "no weights": (remove("model.safetensors"), "model.safetensors: missing"),
    "half the weights": (cut("model.safetensors"), r"model.safetensors: \d+ bytes, expected \d+"),
    "no header": (lambda p: (p / "model.safetensors").write_bytes(b"123"), "damaged or cut short"),
    "no tokenizer": (remove("tokenizer.json"), "tokenizer.json: missing"),
    "half a tokenizer": (cut("tokenizer.json"), "tokenizer.json: damaged or cut short"),
    "no pooling": (remove("1_Pooling/config.json"), "1_Pooling/config.json: missing"),
    "half the modules": (cut("modules.json"), "modules.json: damaged or cut short"),
    "pickles": (pickled, r"holds pickles only \(pytorch_model.bin\)"),
    "epsilon below 0": (change("config.json", layer_norm_eps=-1), "layer_norm_eps is -1, outside 0 to 1"),
    "epsilon of NaN": (change("config.json", layer_norm_eps=float("nan")), "layer_norm_eps is nan, outside"),
    "huge width": (change("config.json", hidden_size=10**12), "hidden_size is 1000000000000, above 1048576"),
    "huge number": (
        change("config.json", vocab_size=10**400),
        "vocab_size is .*, above 2147483647",
    ),
    "nested": (
        lambda p: (p / "config.json").write_text('{"a":' * 10**5),
        "config.json: damaged or cut short .*recursion",
    ),
    "ids of a tokenizer": (
        lambda p: (p / "tokenizer.json").write_text(
            (p / "tokenizer.json").read_text().replace('"w29": 29', '"w29": 4294967295')
        ),
        "tokenizer.json: an id is above 2147483647",
    ),
    "architecture": (
        change("config.json", model_type="t5"),
        "model_type 't5' is unknown; known: bert, roberta",
    ),
    "activation": (change("config.json", hidden_act="mish"), "activation 'mish' is unknown; known: gelu"),
    "width": (change("config.json", hidden_size=20), r"config.json asks for \(20"),
    "depth": (change("config.json", num_hidden_layers=3), "no tensor encoder.layer.2"),
    "pooling": (change("1_Pooling/config.json", pooling_mode="sum"), "pooling 'sum' is unknown; known: cls"),
    "positions": (change("config.json", position_embedding_type="relative_key"), "must be 'absolute'"),
    "half a tokenizer's settings": (
        lambda p: (p / "tokenizer_config.json").write_text('{"model_max'),
        "tokenizer_config.json: damaged or cut short",
    ),
    "no activation": (drop("2_Dense/config.json", "activation_function"), "'activation_function' is missing"),
    "no width": (
        drop("2_Dense/config.json", "out_features"),
        "2_Dense/config.json: 'out_features' is missing",
    ),
    "other width": (
        change("2_Dense/config.json", out_features=4),
        r"2_Dense: tensor linear.weight is \(16, 3",
    ),
    "no kernel": (dense(**{"linear.weight": None}), "2_Dense: the checkpoint has no tensor linear.weight"),
    "no bias": (dense(**{"linear.bias": None}), "2_Dense: the checkpoint has no tensor linear.bias"),
    "odd bias": (
        dense(**{"linear.bias": np.zeros(2)}),
        r"tensor linear.bias is \(2,\), config.json asks for",
    ),
    "no map": (index({"metadata": {}}), "model.safetensors.index.json: 'weight_map' is missing"),
    "odd map": (index({"weight_map": {"a": 3}}), "model.safetensors.index.json: 3 is not a text"),
    "shard outside": (index({"weight_map": {"a": "../b.safetensors"}}), "is not a path inside the folder"),
    "list of tensors": (header(), r"model.safetensors: \[\] is not an object"),
    "no offsets": (header(data_offsets=None), "'data_offsets' is missing"),
    "odd offsets": (header(data_offsets=[-4, "x"]), "its header is damaged"),
    "odd dtype": (header(dtype=7), "dtype: 7 is not a text"),
    "module without type": (modules(type=None), "modules.json: 'type' is missing"),
    "module without path": (modules(path=None), "modules.json: 'path' is missing"),
    "module above": (
        modules(path="../esc/1_Pooling"),
        "modules.json: '../esc/1_Pooling' is not a path inside",
    ),
    "module elsewhere": (
        modules(path="/tmp/1_Pooling"),
        "modules.json: '/tmp/1_Pooling' is not a path inside",
    ),
    "module at the top": (modules(path=""), "modules.json: '' is not a path inside"),
    "modules null": (write("modules.json", None), "modules.json: null is not a list"),
    "modules in words": (
        write("modules.json", ["Transformer"]),
        'modules.json: "Transformer" is not an object',
    ),
    "config null": (write("config.json", None), "config.json: null is not an object"),
    "pooling list": (write("1_Pooling/config.json", []), r"1_Pooling/config.json: \[\] is not an object"),
    "pooling number": (change("1_Pooling/config.json", pooling_mode=3), "pooling_mode: 3 is not a list"),
    "no poolings": (change("1_Pooling/config.json", pooling_mode=[]), "pooling '' is unknown"),
    "settings": (write("sentence_bert_config.json", 3), "sentence_bert_config.json: 3 is not an object"),
    "cut": (
        write("config_sentence_transformers.json", {"truncate_dim": 0}),
        "truncate_dim 0 is below 1",
    ),
    "prompt": (
        write("config_sentence_transformers.json", {"prompts": {"q": 3}}),
        "transformers.json: q: 3 is not a text",
    ),
    "null width": (change("config.json", hidden_size=None), "hidden_size: null is not an integer"),
    "width in words": (change("config.json", hidden_size="16"), 'hidden_size: "16" is not an integer'),
    "null epsilon": (change("config.json", layer_norm_eps=None), "layer_norm_eps: null is not a number"),
    "null activation": (change("config.json", hidden_act=None), "activation None is unknown"),
    "no layers": (change("config.json", num_hidden_layers=0), "num_hidden_layers is 0, below 1"),
    "no positions": (drop("config.json", "max_position_embeddings"), "'max_position_embeddings' is missing"),
    "short texts": (
        write("sentence_bert_config.json", {"max_seq_length": 1}),
        "max_length=1: leaves no place",
    ),
    "negative": (
        write("sentence_bert_config.json", {"max_seq_length": -5}),
        "max_length=-5: leaves no place",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_raise_one_line(case, tmp_path):
    damage, message = BAD[case]
    path = write_dense(tmp_path / "model")
    damage(path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        pretrained.load(path)
    assert "\n" not in str(caught.value)


def test_missing_keys_unknown_modules_and_lengths(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    with pytest.raises(ValueError, match="config.json: 'hidden_size' is missing; a bert needs it"):
        describe(config)
    with pytest.raises(ValueError, match="module LSTM is unknown; known: Pooling, Dense, Normalize"):
        pretrained.load(write_model(tmp_path / "a", modules=("Pooling", "LSTM")))
    with pytest.raises(ValueError, match="max_length=100: the model has 48 positions"):
        pretrained.load(folder, max_length=100)
    for length in (2, 0, -5):
        with pytest.raises(ValueError, match=f"max_length={length}: leaves no place next to 2 special"):
            pretrained.load(folder, max_length=length)
    assert pretrained.load(folder, max_length=3).tokenize(["w5 w6"])["ids"].tolist() == [[2, 5, 3]]
    with pytest.raises(ValueError, match="rope_type 'yarn' is unknown; known: default, linear, llama3"):
        encoders.rotary_frequencies(4, scaling={"rope_type": "yarn"})


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "modernbert", "distilbert"])
@pytest.mark.parametrize("value", [None, "x", [], {}])
def test_no_value_of_a_config_raises_more_than_one_line(name, value, tmp_path):
    config = json.loads(str(golden(name)["config"]))
    for key in config:
        try:
            describe(config | {key: value})
        except ValueError as error:
            assert str(error).startswith("config.json: ")
            assert "\n" not in str(error)


def test_batches_longer_than_the_positions_raise(encoder):
    batch = {"ids": np.full((1, 49), 5), "mask": np.ones((1, 49), bool)}
    with pytest.raises(ValueError, match="49 tokens, the model has 48 positions"):
        encoder.encode(encoder.params, batch)


def test_saving_never_overwrites(encoder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="is not empty"):
        encoder.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
