"""Folders of published encoders give the same in sentence-transformers and transformers (extra ``peers``)."""

import functools
import json

import numpy as np
import pytest
from models import FAST, LONG, SIDES, heads, rewrite, tokenizer_file, write_model
from tokenizers import Tokenizer, processors

from jaxembed.encoders import pretrained


@functools.cache
def peer():
    return pytest.importorskip("sentence_transformers").SentenceTransformer


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", SIDES)
def test_the_side_of_cutting_equals_sentence_transformers(case, tmp_path):
    config, file, _ = SIDES[case]
    more = {"tokenizer_config.json": FAST | {"model_max_length": 5} | config, "dtype": np.float32}
    path = write_model(tmp_path / "a", **more)
    tokenizer_file(**file)(path)
    loaded = pretrained.load(path)
    loaded.save(tmp_path / "b")
    for place in (path, tmp_path / "b"):
        model = peer()(str(place), device="cpu", local_files_only=True)
        np.testing.assert_allclose(loaded.encode_texts([LONG]), model.encode([LONG]), atol=1e-4)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("template", [True, False])
def test_special_tokens_equal_sentence_transformers(template, tmp_path):
    config = FAST | {"add_eos_token": True, "eos_token": "[SEP]", "bos_token": "[CLS]"}
    more = {"tokenizer_config.json": config, "dtype": np.float32}
    more["1_Pooling/config.json"] = {"pooling_mode": "lasttoken", "embedding_dimension": 16}
    path = write_model(tmp_path / "a", special=template, **more)
    if not template:
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", 2)])
        tokenizer.save(str(path / "tokenizer.json"))
    model = peer()(str(path), device="cpu", local_files_only=True)
    np.testing.assert_allclose(pretrained.load(path).encode_texts([LONG]), model.encode([LONG]), atol=1e-4)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_heads_that_were_kept_are_read_by_transformers(tmp_path):
    library = pytest.importorskip("transformers")
    path = rewrite(write_model(tmp_path / "a", dtype=np.float32), lambda n: f"bert.{n}", **heads())
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    pretrained.load(path).save(tmp_path / "b")
    one, two = (library.BertForMaskedLM.from_pretrained(tmp_path / n, dtype="float32") for n in "ab")
    for name in ("cls.predictions.bias", "cls.predictions.transform.LayerNorm.weight"):
        np.testing.assert_array_equal(*(m.state_dict()[name].numpy() for m in (one, two)))
    assert one.state_dict()["cls.predictions.bias"].abs().max() > 0.1
