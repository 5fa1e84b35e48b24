"""Saved folders give the same vectors in sentence-transformers (extra ``peers``)."""

import numpy as np
import pytest
from models import FAST, TEXTS, write_dense, write_model
from text_folders import CASES, DECODERS, SEVERAL, WINDOWS

from jaxembed.encoders import pretrained

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
