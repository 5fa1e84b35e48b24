"""FastText's n-grams and hash against published values, a slow loop and gensim."""

import numpy as np
import pytest

from jaxembed import data

KNOWN = {"foo": 2851307223, "a": 3826002220, "<wh": 1048167652, "whe": 888420941, "her": 4105473420}
KNOWN |= {"ere": 2073529033, "re>": 2062867498, "é": 1023043777, "नम": 4147327411, "": 2166136261}
WORDS = ["where", "banana", "a", "試し", "नमस्ते", "é", "", "x" * 40, "naïve-λ"]


def test_hash_has_the_published_values():
    assert data.fasttext_hash(list(KNOWN)).tolist() == list(KNOWN.values())
    assert data.fasttext_hash([w.encode() for w in KNOWN]).tolist() == list(KNOWN.values())
    assert data.fasttext_hash([]).shape == (0,)


def test_hash_is_the_loop_over_signed_bytes():
    for text in WORDS:
        h = 2166136261
        for byte in text.encode():
            h = ((h ^ (byte - 256 if byte > 127 else byte)) * 16777619) % 2**32
        assert data.fasttext_hash([text])[0] == h


def test_ngrams_of_the_card():
    assert sorted(data.fasttext_ngrams("test", (3, 5))) == sorted(
        ["<te", "tes", "est", "st>", "<tes", "test", "est>", "<test", "test>"]
    )
    assert data.fasttext_ngrams("試し", (3, 4)) == ["<試し", "<試し>", "試し>"]
    assert len(data.fasttext_ngrams("where")) == 14
    assert data.fasttext_ngrams("ab", (1, 1)) == ["a", "b"]  # not the marks alone
    assert data.fasttext_ngrams("</s>") == data.fasttext_ngrams("word", (0, 0)) == []
    assert data.fasttext_ngrams("banana", (3, 3)).count("ana") == 2


def test_ids_point_behind_the_words():
    ids, mask = data.fasttext_ids(["where", "ab"], 7, sizes=(3, 4), buckets=50)
    for row, kept, word in zip(ids, mask, ["where", "ab"], strict=True):
        grams = data.fasttext_ngrams(word, (3, 4))
        assert row[kept].tolist() == (7 + data.fasttext_hash(grams) % 50).tolist()
        assert not row[~kept].any()
    ids, mask = data.fasttext_ids(["where"], 7, buckets=0)
    assert not mask.any()
    assert data.fasttext_ids([])[0].shape == (0, 1)


TEXTS = [["a", "नम", "cat", "where"], [], ["where"], ["a", "a", "é", "</s>"]]


def rows_of_text(text, known, sizes, longest, buckets, kept=None):
    """The rows of one text by the loops of the official code."""
    found = []

    def pushed(bucket):
        row = bucket if kept is None else kept.get(bucket)
        return [] if row is None else [len(known) + row]

    for word in text:
        found += [known.index(word)] if word in known else []
        for gram in data.fasttext_ngrams(word, sizes):
            found += pushed(int(data.fasttext_hash([gram])[0]) % buckets)
    hashes = [int(h) - (h >= 2**31) * 2**32 for h in data.fasttext_hash(text).tolist()]
    for i, h in enumerate(hashes):
        for j in range(i + 1, min(len(hashes), i + longest)):
            h = (h * 116049371 + hashes[j]) % 2**64
            found += pushed(h % buckets)
    return found


@pytest.mark.parametrize("sizes", [(0, 0), (2, 3)])
@pytest.mark.parametrize("longest", [1, 2, 4])
@pytest.mark.parametrize("kept", [None, {3: 0, 7: 1, 12: 2}])
def test_rows_of_texts_are_those_of_the_loop(sizes, longest, kept):
    known = ["cat", "a", "</s>"]
    options = {"sizes": sizes, "longest": longest, "buckets": 17, "kept": kept}
    ids, offsets = data.fasttext_text_ids(TEXTS, known, **options)
    assert len(offsets) == 5 and offsets[0] == 0 and offsets[-1] == len(ids)
    for n, text in enumerate(TEXTS):
        wanted = rows_of_text(text, known, sizes, longest, 17, kept)
        assert sorted(ids[offsets[n] : offsets[n + 1]]) == sorted(wanted)
    again, _ = data.fasttext_text_ids(TEXTS, {w: i for i, w in enumerate(known)}, **options)
    np.testing.assert_array_equal(again, ids)


def test_no_texts_and_no_buckets_have_no_rows():
    ids, offsets = data.fasttext_text_ids([], ["a"], longest=2)
    assert len(ids) == 0 and offsets.tolist() == [0]
    assert data.fasttext_text_ids([["a", "b"]], ["a"], longest=2, buckets=0)[0].tolist() == [0]


@pytest.mark.peers
@pytest.mark.parametrize("sizes", [(3, 6), (2, 3), (1, 2)])
def test_gensim_agrees(sizes):
    gensim = pytest.importorskip("gensim.models.fasttext")
    for word in WORDS[:-2]:
        mine = 7 + data.fasttext_hash(data.fasttext_ngrams(word, sizes)) % 1000
        theirs = 7 + np.array(gensim.ft_ngram_hashes(word, *sizes, 1000), int)
        if sizes[0] > 1:  # gensim keeps the marks as n-grams of one character
            assert sorted(mine) == sorted(theirs)
        assert set(mine) <= set(theirs)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: data.fasttext_hash("one"), "texts: 'one' is one text"),
        (lambda: data.fasttext_ids("one"), "words: 'one' is one text"),
        (lambda: data.fasttext_ngrams("one", (4, 3)), "sizes=\\(4, 3\\)"),
        (lambda: data.fasttext_ngrams("one", (0, 3)), "sizes=\\(0, 3\\)"),
        (lambda: data.fasttext_ids(["one"], buckets=-1), "buckets=-1"),
        (lambda: data.fasttext_text_ids(["one"], ["one"]), "lists: hold a text that is not split"),
        (lambda: data.fasttext_text_ids([["one"]], ["one"], longest=0), "longest=0: give at least 1"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
