"""Poolings, dense layers and layers of a folder, and training that is saved."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import TEXTS, write_dense, write_model
from text_folders import SEVERAL

from jaxembed.encoders import pretrained
from jaxembed.encoders.pretrained import tensors
from jaxembed.encoders.pretrained.text_model import POOLINGS, token_embedding


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
    dropped = loaded.encode_tokens(loaded.params, batch, jax.random.key(0), layers=0)[0][batch["mask"]]
    assert 0.3 < (dropped == 0).mean() < 0.7  # the embeddings drop too, as in BERT
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, loaded.params, gradient)
    trained = dataclasses.replace(loaded, params=moved)
    trained.save(tmp_path / "trained")
    again = pretrained.load(tmp_path / "trained")
    np.testing.assert_array_equal(again.encode_texts(TEXTS), trained.encode_texts(TEXTS))
    assert np.abs(again.encode_texts(TEXTS) - loaded.encode_texts(TEXTS)).max() > 1e-3


@pytest.mark.parametrize("compiled", [True, False])
def test_gradients_of_a_token_that_comes_often_are_added_in_float32(compiled):
    """A sum in bfloat16 would stop at 256."""
    form = {"vocabulary": 5, "positions": 64, "offset": 0, "types": 2}
    init_embed, embed = token_embedding(form, 2)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), init_embed(jax.random.key(0)))
    batch = {"ids": jnp.ones((64, 64), int).at[:, 0].set(-7), "mask": jnp.ones((64, 64), bool)}

    def total(params):
        return embed(params, batch)[0].sum()

    gradients = (jax.jit if compiled else lambda f: f)(jax.grad(total))(params)
    found = {name: np.asarray(leaf["embedding"], np.float32)[:, 0] for name, leaf in gradients.items()}
    assert found["table"].tolist() == [0, 4032, 0, 0, 0]
    assert found["type"].tolist() == [4096, 0]
    np.testing.assert_array_equal(found["position"], 64)
    assert all(leaf["embedding"].dtype == jnp.bfloat16 for leaf in gradients.values())
