"""Folders of published encoders: names of other years, where texts are cut, heads, digests."""

import dataclasses
import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_disk import fails
from models import FAST, LONG, SIDES, TEXTS, golden, heads, rewrite, tokenizer_file, write_dense, write_model

from experiments.length_collapse import passages
from jaxembed import files
from jaxembed.encoders import pretrained
from jaxembed.encoders.pretrained import folders, tensors
from jaxembed.encoders.pretrained.batches import vectors_of_texts
from jaxembed.encoders.pretrained.families import FAMILIES, describe


def with_gamma(name):
    module, _, leaf = name.rpartition(".")
    if not module.lower().endswith("norm"):
        return name
    return f"{module}.{ {'weight': 'gamma', 'bias': 'beta'}[leaf] }"


# Names of other years


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("wrapper", ["", "base", "module.base", "0.auto_model."])
def test_old_names_of_tensors_give_the_same_parameters(name, wrapper, tmp_path):
    expected = pretrained.load(write_model(tmp_path / "new", name)).params
    base = FAMILIES[name].base if "base" in wrapper else ""
    wrapper = wrapper.replace("base", base)
    path = rewrite(write_model(tmp_path / "old", name), lambda n: with_gamma(wrapper + n))
    assert any(n.endswith("gamma") for n in tensors.read_tensors(path))
    loaded = pretrained.load(path)
    chex.assert_trees_all_equal(loaded.params, expected)
    assert not loaded.heads
    loaded.save(tmp_path / "saved")
    names = {base + k.removeprefix("tensor.") for k in golden(name) if k.startswith("tensor.")}
    assert set(tensors.read_tensors(tmp_path / "saved")) == names


def test_a_folder_on_a_full_disk_is_absent(encoder, tmp_path):
    fails(tmp_path, lambda: encoder.save(tmp_path / "mine"), [0, 100, 5000])
    encoder.save(tmp_path / "mine")
    chex.assert_trees_all_equal(pretrained.load(tmp_path / "mine").params, encoder.params)


def test_the_oldest_bert_gives_the_vectors_of_the_same_file_today(folder, encoder, tmp_path):
    path = rewrite(write_model(tmp_path / "old"), lambda n: with_gamma(f"bert.{n}"))
    np.testing.assert_array_equal(pretrained.load(path).encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    config = json.loads((path / "config.json").read_text())
    config = {k: v for k, v in config.items() if k not in ("model_type", "layer_norm_eps")}
    (path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    modules = json.loads((path / "modules.json").read_text())
    modules[0]["type"] = "sentence_transformers.models.BERT"
    (path / "modules.json").write_text(json.dumps(modules))
    loaded = pretrained.load(path)
    np.testing.assert_array_equal(loaded.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    loaded.save(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["model_type"] == "bert"
    assert "Transformer" in (tmp_path / "new" / "modules.json").read_text()
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="config.json: model_type is missing; write one there: bert, roberta"
    ):
        pretrained.load(path)


def test_other_old_settings_are_read(tmp_path):
    settings = {"sentence_xlm-roberta_config.json": {"max_seq_length": 5, "do_lower_case": True}}
    loaded = pretrained.load(write_model(tmp_path / "a", "xlm-roberta", **settings))
    assert loaded.tokenize(["W9 w5 w6 w7 w8"])["ids"][0, :6].tolist() == [2, 9, 5, 6, 3]
    config = json.loads(str(golden("distilbert")["config"]))
    names = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
    names |= {"hidden_dim": "intermediate_size", "activation": "hidden_act"}
    same = describe({names.get(k, k): v for k, v in config.items()})[1:]
    assert same == describe(config)[1:]
    for new, old in {"gelu": "gelu_python", "gelu_new": "gelu_python_tanh"}.items():
        config = json.loads(str(golden("bert")["config"]))
        assert describe(config | {"hidden_act": old})[2] == describe(config | {"hidden_act": new})[2]


# Where texts are cut, and what stands around them


@pytest.mark.parametrize("case", SIDES)
def test_texts_are_cut_on_the_side_of_the_folder(case, tmp_path):
    config, file, kept = SIDES[case]
    path = write_model(tmp_path / "a", **{"tokenizer_config.json": FAST | {"model_max_length": 5} | config})
    tokenizer_file(**file)(path)
    loaded = pretrained.load(path)
    assert loaded.tokenize([LONG])["ids"][0].tolist() == [2, *kept, 3]
    loaded.save(tmp_path / "b")
    again = pretrained.load(tmp_path / "b")
    assert again.tokenize([LONG, "w5"])["ids"].tolist() == [[2, *kept, 3], [2, 5, 3, 0, 0]]
    np.testing.assert_array_equal(again.encode_texts([LONG]), loaded.encode_texts([LONG]))
    four = [2, *(kept[-2:] if kept[0] == 8 else kept[:2]), 3]
    assert loaded.tokenize([LONG], length=4)["ids"][0].tolist() == four
    assert passages.pieces(loaded, [LONG], 6)[0][0] == LONG
    assert loaded.tokenize([LONG])["ids"][0].tolist() == [2, *kept, 3]


def test_an_unknown_side_raises(tmp_path):
    path = write_model(tmp_path / "a", **{"tokenizer_config.json": {"truncation_side": "middle"}})
    with pytest.raises(ValueError, match="truncation_side 'middle' is unknown; known: left, right"):
        pretrained.load(path)


def test_a_prompt_that_is_cut_away_is_not_skipped_twice(tmp_path):
    more = {"1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": False}}
    more["tokenizer_config.json"] = {"truncation_side": "left", "model_max_length": 5}
    loaded = pretrained.load(write_model(tmp_path / "a", **more))
    texts = ["w7", "w7 w8", "w7 w8 w9", "w7 w8 w9 w10"]
    batch = loaded.tokenize(texts, prompt="w5 w6 ")
    words = [[5, 6, 7], [6, 7, 8], [7, 8, 9], [8, 9, 10]]
    assert batch["ids"].tolist() == [[2, *row, 3] for row in words]
    pooled = [sum(row) for row in batch["pool_mask"].tolist()]
    assert pooled == [2, 3, 4, 4]
    assert batch["pool_mask"][:, -1].all()
    shorter = loaded.tokenize(texts, prompt="w5 w6 ", length=4)
    assert shorter["pool_mask"].sum(axis=1).tolist() == [2, 3, 3, 3]
    vectors = loaded.encode_texts(texts, prompt="w5 w6 ", batch_size=2)
    np.testing.assert_allclose(vectors, loaded.encode(loaded.params, batch), atol=1e-5)


@pytest.mark.parametrize(("key", "place"), [("add_eos_token", "after"), ("add_bos_token", "before")])
def test_special_tokens_that_the_tokenizer_does_not_add_are_told(key, place, tmp_path):
    more = {"tokenizer_config.json": {key: True, "eos_token": "[SEP]", "bos_token": "[CLS]"}}
    more["1_Pooling/config.json"] = {"pooling_mode": "lasttoken"}
    with pytest.warns(UserWarning, match=f"{key} is true, but tokenizer.json adds no token {place} a text"):
        loaded = pretrained.load(write_model(tmp_path / "a", "llama", special=False, **more))
    batch = loaded.tokenize(["w5 w6"])
    assert batch["ids"][0][batch["mask"][0]].tolist() == [5, 6]
    tokens, _ = loaded.encode_tokens(loaded.params, batch)
    last = np.asarray(tokens)[0, 1]
    np.testing.assert_allclose(loaded.encode_texts(["w5 w6"])[0], last / np.linalg.norm(last), atol=1e-5)
    pretrained.load(write_model(tmp_path / "b", "llama", **more))  # has both: no warning
    more["tokenizer_config.json"][key] = False
    pretrained.load(write_model(tmp_path / "c", "llama", special=False, **more))


HALF = "w5 \ud83d w6"


def test_half_a_character_is_named(encoder):
    message = r"holds a lone surrogate, '\\ud83d' at place 3, which is half a character"
    for call in (encoder.encode_texts, encoder.tokenize):
        with pytest.raises(ValueError, match=r"^texts\[2\] " + message):
            call(["w5", "\U0001f600 é", HALF])
        with pytest.raises(ValueError, match="^prompt " + message):
            call(["w5"], prompt=HALF)
        with pytest.raises(ValueError, match="prompt is int; give str"):
            call(["w5"], prompt=3)
    with pytest.raises(ValueError, match=r"^texts\[0\] "):
        vectors_of_texts(None, None, [HALF], 1, 8, 4)
    assert encoder.encode_texts([HALF.encode("utf-8", "replace").decode()]).shape == (1, 16)


# One length


def test_batches_of_one_length_are_compiled_once(encoder):
    rng = np.random.default_rng(0)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, batch):
        return jax.grad(lambda p: jnp.sum(jnp.sin(encoder.encode(p, batch))))(params)["table"]["embedding"]

    for _ in range(20):
        texts = [" ".join(f"w{i}" for i in rng.integers(5, 30, rng.integers(1, 40))) for _ in range(4)]
        batch = encoder.tokenize(texts, length=24)
        assert batch["ids"].shape == batch["mask"].shape == (4, 24)
        cut = [" ".join(t.split()[:22]) for t in texts]
        chex.assert_trees_all_equal(batch, encoder.tokenize(cut, length=24))
        step(encoder.params, batch)
    short = encoder.encode(encoder.params, encoder.tokenize(["w5 w6"], length=24))
    np.testing.assert_allclose(short, encoder.encode_texts(["w5 w6"]), atol=1e-5)
    assert encoder.tokenize([], length=24)["ids"].shape == (0, 24)


def test_one_length_beside_a_prompt_and_lengths_out_of_range(encoder, tmp_path):
    more = {"1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": False}}
    loaded = pretrained.load(write_model(tmp_path / "a", **more))
    batch = loaded.tokenize(["w7 w8 w9"], prompt="w5 w6 ", length=6)
    assert batch["ids"].tolist() == [[2, 5, 6, 7, 8, 3]]
    assert batch["pool_mask"].tolist() == [[False, False, False, True, True, True]]
    with pytest.raises(
        ValueError, match="length=2: leaves no place next to 2 special tokens; give at least 3"
    ):
        encoder.tokenize(["w5"], length=2)
    with pytest.raises(ValueError, match="length=49 is above max_length=48"):
        encoder.tokenize(["w5"], length=49)


# First coordinates


@pytest.mark.parametrize("kinds", [("Pooling",), ("Pooling", "Normalize")])
def test_vectors_are_cut_and_normalised_again(kinds, tmp_path):
    loaded = pretrained.load(write_model(tmp_path / "a", modules=kinds))
    whole, cut = loaded.encode_texts(TEXTS), loaded.encode_texts(TEXTS, truncate_dim=5)
    expected = whole[:, :5]
    if kinds[-1] == "Normalize":
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert cut.shape == (6, 5)
    np.testing.assert_allclose(cut, expected, atol=1e-6)
    batch = loaded.tokenize(TEXTS)
    np.testing.assert_allclose(loaded.encode(loaded.params, batch, truncate_dim=5), expected, atol=1e-5)
    layers = loaded.encode_layers(loaded.params, batch, truncate_dim=5)
    np.testing.assert_allclose(layers[:, -1], expected, atol=1e-5)
    np.testing.assert_allclose(loaded.encode_texts(TEXTS, truncate_dim=16), whole, atol=1e-6)
    assert loaded.encode_texts([], truncate_dim=5).shape == (0, 5)
    for wrong in (0, 17, -1, 5.0):
        for texts in (TEXTS, []):
            with pytest.raises(ValueError, match=f"truncate_dim={wrong} is not an integer in 1..16"):
                loaded.encode_texts(texts, truncate_dim=wrong)
        with pytest.raises(ValueError, match=f"truncate_dim={wrong} is not an integer in 1..16"):
            loaded.encode(loaded.params, batch, truncate_dim=wrong)


# Tensors beside the encoder


def test_tensors_beside_the_encoder_are_given_and_written_back(encoder, tmp_path):
    path = rewrite(write_model(tmp_path / "a"), lambda n: f"bert.{n}", **heads())
    loaded = pretrained.load(path)
    expected = {k.replace("gamma", "weight"): v for k, v in heads().items()}
    chex.assert_trees_all_equal(dict(sorted(loaded.heads.items())), dict(sorted(expected.items())))
    np.testing.assert_array_equal(loaded.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    assert encoder.heads == {}
    moved = dataclasses.replace(loaded, params=jax.tree.map(lambda x: x + 1, loaded.params))
    moved.save(tmp_path / "b")
    found = tensors.read_tensors(tmp_path / "b")
    assert len(found) == len(tensors.read_tensors(path))
    for name, x in expected.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)
    again = pretrained.load(tmp_path / "b")
    chex.assert_trees_all_equal(again.params, moved.params)
    chex.assert_trees_all_equal(dict(again.heads), dict(loaded.heads))
    trained = dataclasses.replace(again, heads=again.heads | {"cls.predictions.bias": jnp.ones(30)})
    trained.save(tmp_path / "c")
    assert (tensors.read_tensors(tmp_path / "c")["cls.predictions.bias"] == 1).all()
    own = "bert.embeddings.LayerNorm.bias"
    with pytest.raises(ValueError, match=f"heads: {own} is a tensor of the encoder; leave it out"):
        dataclasses.replace(again, heads={own: np.zeros(16)}).save(tmp_path / "d")


# A digest


def test_a_digest_tells_encoders_apart(folder, encoder, tmp_path):
    encoder.save(tmp_path / "same")
    assert pretrained.load(tmp_path / "same").digest() == encoder.digest() == pretrained.load(folder).digest()
    moved = dataclasses.replace(
        encoder, params=jax.tree.map(lambda x: x.at[..., -1].multiply(1.0001), encoder.params)
    )
    prompt = {"config_sentence_transformers.json": {"prompts": {"q": "w5 "}, "default_prompt_name": "q"}}
    left = {"tokenizer_config.json": {"truncation_side": "left"}}
    others = [
        moved,
        pretrained.load(folder, pooling="cls"),
        pretrained.load(folder, max_length=6),
        pretrained.load(folder, dtype=jnp.bfloat16),
        pretrained.load(folder, param_dtype=jnp.bfloat16),
        *(pretrained.load(write_model(tmp_path / str(i), **more)) for i, more in enumerate((prompt, left))),
        pretrained.load(write_model(tmp_path / "bare", modules=("Pooling",))),
        pretrained.load(write_dense(tmp_path / "dense")),
    ]
    digests = [e.digest() for e in (encoder, *others)]
    assert len(set(digests)) == len(digests)
    assert all(len(d) == 40 and int(d, 16) for d in digests)
    for other in (lambda *_, **__: 0, functools.wraps(encoder.encode)(lambda *_: 0)):
        with pytest.raises(ValueError, match="encode was replaced by a function that no digest describes"):
            dataclasses.replace(encoder, encode=other).digest()


@pytest.mark.parametrize("there", [False, True])
def test_of_two_savers_at_once_one_is_told_and_nothing_is_mixed(there, tmp_path, monkeypatch):
    first = pretrained.load(write_model(tmp_path / "model", "bert"))
    second = dataclasses.replace(first, params=jax.tree.map(lambda x: x + 1, first.params))
    folder, real, told = tmp_path / "new" / "saved", folders.write_safetensors, []
    if there:
        folder.mkdir(parents=True)

    def write(*given):
        """Lets the second saver come while the first is in the middle."""
        if not told:
            with pytest.raises(
                BlockingIOError, match="saved: is being written by a save of process"
            ) as error:
                second.save(folder)
            told.append(error)
        real(*given)

    monkeypatch.setattr(folders, "write_safetensors", write)
    first.save(folder)
    assert told and pretrained.load(folder).digest() == first.digest()
    with pytest.raises(FileExistsError, match="is not empty; give a new folder"):
        second.save(folder)
    assert {p.name for p in folder.parent.iterdir()} == {"saved", ".saved.lock"}


def test_what_a_killed_saver_left_blocks_nobody(tmp_path):
    encoder = pretrained.load(write_model(tmp_path / "model", "bert"))
    left = tmp_path / "saved.new"
    left.mkdir()
    (left / "stranger.bin").write_bytes(b"half")
    (tmp_path / ".saved.lock").write_text("{}")
    with files.held(tmp_path, "an index"):  # the lock of the folder above is another one
        encoder.save(tmp_path / "saved")
    assert pretrained.load(tmp_path / "saved").digest() == encoder.digest()
    assert not left.exists() and not (tmp_path / "saved" / "stranger.bin").exists()
