"""Texts are embedded once and found again: exact cosines, ranks fused with words, bad input in one line."""

import numpy as np
import pytest
from models import write_model

from jaxembed import encoders, recipes

TEXTS = ["w5 w6", "w7 w8 w9", "w10", "w5 w7", "w11 w12"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return encoders.pretrained.load(write_model(tmp_path_factory.mktemp("models") / "bert"))


def cosines(encoder, queries):
    first, second = (np.asarray(encoder.encode_texts(x), np.float64) for x in (queries, TEXTS))
    lengths = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    return first @ second.T / lengths


def test_hits_are_the_nearest_texts_with_their_cosines(encoder):
    queries = ["w7 w8", "w12"]
    expected = cosines(encoder, queries)
    vectors = 3 * recipes.embed_texts(encoder, TEXTS)  # of any length
    for found in (
        recipes.search(encoder, TEXTS, queries, k=3),
        recipes.search(encoder, TEXTS, queries, vectors=vectors, k=3),
    ):
        for hits, row in zip(found, expected, strict=True):
            assert [hit["row"] for hit in hits] == np.argsort(-row, kind="stable")[:3].tolist()
            assert [hit["text"] for hit in hits] == [TEXTS[hit["row"]] for hit in hits]
            np.testing.assert_allclose([hit["score"] for hit in hits], np.sort(row)[::-1][:3], atol=1e-5)


def test_fused_scores_are_those_of_reciprocal_ranks(encoder):
    (hits,) = recipes.search(encoder, TEXTS, ["w11 w12"], k=5, fused=True)
    by_vector = np.argsort(-cosines(encoder, ["w11 w12"])[0], kind="stable").tolist()
    best = hits[0]
    assert best["row"] == 4  # the only text with these words, and the text itself
    assert best["score"] == pytest.approx(1 / (61 + by_vector.index(4)) + 1 / 61, rel=1e-5)


def test_a_file_is_used_again_and_belongs_to_its_texts_and_encoder(encoder, tmp_path):
    path = tmp_path / "vectors.npy"
    found = recipes.embed_texts(encoder, TEXTS, path=path, dtype=np.float16, progress=False)
    assert found.dtype == np.float16 and isinstance(found, np.memmap)
    np.testing.assert_allclose(found, recipes.embed_texts(encoder, TEXTS), atol=1e-3)
    written = path.stat().st_mtime_ns
    recipes.embed_texts(encoder, TEXTS, path=path, dtype=np.float16)
    assert path.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="texts"):
        recipes.embed_texts(encoder, TEXTS[::-1], path=path, dtype=np.float16)


@pytest.mark.parametrize(
    ("queries", "options", "match"),
    [
        ("w5", {}, "queries: is one text; pass a list"),
        (["w5"], {"k": 6}, "k: 6 is outside 1..5, the number of texts"),
        (["w5"], {"k": 0}, "k: 0 is outside 1..5"),
        (["w5"], {"vectors": np.ones((4, 16))}, "vectors: 4 rows for 5 texts"),
    ],
)
def test_bad_arguments_get_one_line(encoder, queries, options, match):
    with pytest.raises(ValueError, match=match) as caught:
        recipes.search(encoder, TEXTS, queries, **options)
    assert "\n" not in str(caught.value)
