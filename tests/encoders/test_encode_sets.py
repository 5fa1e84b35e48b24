"""Token vectors of texts as one array and the places where each text begins."""

import dataclasses

import numpy as np
import pytest
from models import TEXTS, write_dense, write_model

from jaxembed.encoders import pretrained


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return pretrained.load(write_model(tmp_path_factory.mktemp("models") / "bert"))


def states(encoder, texts, **options):
    """The unit states of each text's tokens, by one batch."""
    batch = encoder.tokenize(texts, **options)
    tokens, mask = (np.asarray(x) for x in encoder.encode_tokens(encoder.params, batch))
    rows = [t[m] for t, m in zip(tokens, batch.get("pool_mask", mask), strict=True)]
    return [x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows]


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_sets_are_the_unit_states_in_the_order_of_the_texts(encoder, batch_size):
    wanted = states(encoder, TEXTS)
    tokens, offsets = encoder.encode_sets(TEXTS, batch_size=batch_size)
    assert tokens.dtype == np.float32 and offsets.dtype == np.int64
    assert offsets.tolist() == np.cumsum([0, *map(len, wanted)]).tolist()
    np.testing.assert_allclose(tokens, np.concatenate(wanted), atol=1e-5)


def test_texts_are_cut_and_special_tokens_stay(encoder):
    tokens, offsets = encoder.encode_sets(["w5 w6 w7 w8", "w9"], length=4)
    assert np.diff(offsets).tolist() == [4, 3]
    np.testing.assert_allclose(tokens[:4], states(encoder, ["w5 w6"])[0], atol=1e-5)
    with pytest.raises(ValueError, match="^length=2: leaves no place next to 2 special tokens"):
        encoder.encode_sets(["w5"], length=2)
    with pytest.raises(ValueError, match="^length=99 is above max_length=48; load with a larger one"):
        encoder.encode_sets(["w5"], length=99)


def test_few_shapes_are_compiled(encoder):
    shapes = []

    def recording(params, batch):
        shapes.append(batch["ids"].shape)
        return encoder.encode_tokens(params, batch)

    given = dataclasses.replace(encoder, encode_tokens=recording)
    given.encode_sets(["w5 " * n for n in range(20)], batch_size=8, length=16)
    assert shapes == [(8, 16), (8, 16), (8, 8)]


def test_a_prompt_that_the_pooling_skips_is_in_no_set(tmp_path):
    prompts = {"config_sentence_transformers.json": {"prompts": {"query": "w5 w6 "}}}
    kept = pretrained.load(write_model(tmp_path / "kept", **prompts))
    pooling = {"pooling_mode_mean_tokens": True, "word_embedding_dimension": 16, "include_prompt": False}
    left = pretrained.load(write_model(tmp_path / "left", **prompts, **{"1_Pooling/config.json": pooling}))
    for encoder, count in ((kept, 5), (left, 2)):
        tokens, offsets = encoder.encode_sets(["w7"], prompt_name="query")
        assert offsets.tolist() == [0, count]
        np.testing.assert_allclose(tokens, states(encoder, ["w7"], prompt_name="query")[0], atol=1e-5)
    with pytest.raises(ValueError, match="^prompt_name='other' is unknown"):
        kept.encode_sets(["w7"], prompt_name="other")


def test_no_texts_empty_texts_and_what_is_not_a_list(encoder, tmp_path):
    tokens, offsets = encoder.encode_sets([])
    assert tokens.shape == (0, 16) and offsets.tolist() == [0]
    assert encoder.encode_sets(["", "w5"])[1].tolist() == [0, 2, 5]
    bare = pretrained.load(write_model(tmp_path / "bare", special=False))
    assert bare.encode_sets(["", "w5"])[1].tolist() == [0, 0, 1]
    for bad, message in (("one text", "texts is one str"), (["a", 3], r"texts\[1\] is int")):
        with pytest.raises(ValueError, match=message):
            encoder.encode_sets(bad)
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        encoder.encode_sets(["a"], batch_size=0)


def test_sets_have_the_width_of_the_blocks_where_vectors_have_another(tmp_path):
    encoder = pretrained.load(write_dense(tmp_path / "dense"))
    assert encoder.encode_texts(["w5"]).shape == (1, 3)
    assert encoder.encode_sets(["w5"])[0].shape == (3, 16)
