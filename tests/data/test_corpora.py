"""A corpus in a file: vocabulary, subsampling, windows of a step, co-occurrence, bad texts."""

import collections
import gzip
import tracemalloc

import numpy as np
import pytest

from jaxembed import data

TEXTS = ["the cat sat on the mat", "the dog sat", "", "a cat and a dog and the cat", "once"]
ONE = {"ids": np.array([0, -1]), "words": ["a"], "counts": np.array([1])}


def test_ids_are_the_words_without_the_rare_ones():
    found = data.corpus(TEXTS, min_count=2)
    counts = collections.Counter(w for t in TEXTS for w in t.split())
    assert found["counts"].tolist() == [counts[w] for w in found["words"]]
    assert (np.diff(found["counts"]) <= 0).all()
    texts, row = [], []
    for i in found["ids"]:
        row, texts = ([], [*texts, row]) if i == -1 else ([*row, found["words"][i]], texts)
    assert texts == [[w for w in t.split() if counts[w] >= 2] for t in TEXTS]
    assert found["tokens"] == 18 and found["rare"] == 18 - found["counts"].sum()


def test_a_generator_of_word_lists_and_a_given_vocabulary():
    found = data.corpus((t.split() for t in TEXTS), words=["cat", "dog", "bird"])
    assert found["words"] == ["cat", "dog", "bird"] and found["counts"].tolist() == [3, 2, 0]
    assert found["ids"].tolist() == [0, -1, 1, -1, -1, 0, 1, 0, -1, -1]


def test_parts_that_are_written_apart_are_one_corpus(monkeypatch):
    whole = data.corpus(TEXTS, min_count=1)["ids"].tolist()
    monkeypatch.setattr("jaxembed.data.corpora.FLUSH", 3)
    assert data.corpus(TEXTS, min_count=1)["ids"].tolist() == whole


def test_lines_of_files_of_a_folder_and_packed(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.txt.gz").write_bytes(gzip.compress(b"drei\n"))
    assert sorted(data.text_lines(tmp_path)) == ["drei", "one", "two"]
    assert list(data.text_lines([tmp_path / "a.txt", tmp_path / "a.txt"])) == ["one", "two"] * 2


def test_a_line_of_ten_megabytes_is_read_whole(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 2_000_000, encoding="utf-8")
    found = data.corpus(data.text_lines(tmp_path / "a.txt"), tokenize=str.split)
    assert found["counts"].tolist() == [2_000_000]


def test_another_encoding_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("fine\nthé\n".encode("latin-1"))
    with pytest.raises(ValueError, match="a.txt, line 2: is not UTF-8 but perhaps latin-1; save the file"):
        data.corpus(data.text_lines(tmp_path / "a.txt"))
    with pytest.raises(FileNotFoundError, match="holds no .txt"):
        list(data.text_lines(tmp_path / "none" if (tmp_path / "none").mkdir() else tmp_path / "none"))


@pytest.mark.parametrize(
    "call, error, said",
    [
        (lambda: data.corpus([]), ValueError, "texts: hold no word"),
        (lambda: data.corpus(["", "..."]), ValueError, "texts: hold no word"),
        (lambda: data.corpus(["a b c"]), ValueError, "none of 3 words occurs 5 times, the commonest 1"),
        (lambda: data.corpus("a text"), ValueError, "'a text' is one text; put it into a list"),
        (lambda: data.corpus([b"a"]), TypeError, "texts: bytes is neither"),
        (lambda: data.corpus(["a b"], words=["c"]), ValueError, "words: none of 1 occurs in 2 words"),
        (lambda: data.WindowBatches(ONE, group=8), ValueError, "group=8: is below 10"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_subsampling_begins_at_the_golden_ratio_squared():
    counts = np.array([10**6, 2619, 2618, 1])
    keep = data.keep_probabilities(counts, 1000 / counts.sum())
    assert keep[1] < 1 and (keep[2:] == 1).all()
    np.testing.assert_allclose(keep[0], (np.sqrt(1000) + 1) * 1000 / 10**6)
    assert (data.keep_probabilities(counts, 0) == 1).all()
    np.testing.assert_allclose(data.noise_probabilities([1, 1, 2], 1), [0.25, 0.25, 0.5])
    ranked = data.noise_probabilities([9, 5, 5, 1], kind="log_uniform")
    wanted = [(np.log(r + 2) - np.log(r + 1)) / np.log(5) for r in range(4)]
    np.testing.assert_allclose(ranked, wanted)
    assert ranked.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="counts: rise somewhere; sort the words"):
        data.noise_probabilities([1, 2], kind="log_uniform")
    with pytest.raises(ValueError, match="kind='zipf': pass"):
        data.noise_probabilities([1, 2], kind="zipf")


@pytest.mark.peers
def test_subsampling_is_gensims():
    word2vec = pytest.importorskip("gensim.models").Word2Vec
    counts = {"a": 9000, "b": 900, "c": 100}
    model = word2vec(min_count=1, sample=0.01)
    model.build_vocab_from_freq(counts)
    theirs = np.array([model.wv.get_vecattr(w, "sample_int") for w in counts]) / 2**32
    np.testing.assert_allclose(data.keep_probabilities(list(counts.values()), 0.01), theirs, rtol=1e-5)


def test_batches_are_a_function_of_seed_and_step():
    found = data.corpus(TEXTS * 30, min_count=1)

    def make(seed):
        return data.WindowBatches(found, size=64, window=2, group=4, groups=2, sample=0.01, seed=seed)

    one, two, other = make(3), make(3), make(4)
    steps = range(2 * one.epoch + 1)
    forward, backward = [one[t] for t in steps], [two[t] for t in reversed(steps)][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert all(np.array_equal(a[n], b[n]) for n in a)
        assert {n: x.shape for n, x in a.items()} == {n: x.shape for n, x in forward[0].items()}
    assert any(not np.array_equal(a["radius"], other[t]["radius"]) for t, a in enumerate(forward))
    assert not np.array_equal(one[0]["words"], one[one.epoch]["words"])  # another epoch keeps other words


def test_without_subsampling_all_words_come_in_order():
    found = data.corpus(TEXTS * 30, min_count=1)
    batches = data.WindowBatches(found, size=50, window=2, group=4, groups=2, sample=0)
    words = np.concatenate(
        [b["words"][2 : 2 + b["read"]] for b in (batches[t] for t in range(batches.epoch))]
    )
    assert words.tolist() == [i for i in found["ids"] if i >= 0]
    first = batches[0]
    assert (first["lines"][:2] == -1).all() and (first["lines"][2 + first["read"] :] == -1).all()
    assert first["steps"] == -(-first["read"] // 8)
    assert set(first["radius"].tolist()) == {1, 2}


def test_noise_words_come_as_often_as_they_should():
    found = data.corpus(["a a a a b b c"] * 3000, min_count=1)
    batches = data.WindowBatches(found, size=1 << 14, window=2, group=4, groups=1, sample=0, power=0.5)
    drawn = np.concatenate(
        [b["noise"][: b["steps"]].ravel() for b in (batches[t] for t in range(batches.epoch))]
    )
    share = np.bincount(drawn, minlength=3) / len(drawn)
    np.testing.assert_allclose(share, data.noise_probabilities([4, 2, 1], 0.5), atol=0.01)


def test_memory_does_not_grow_with_the_text(monkeypatch):
    """Of numbers of words only those that wait to be written are held, however long the text is."""
    monkeypatch.setattr("jaxembed.data.corpora.FLUSH", 1000)

    def peak(count):
        tracemalloc.start()
        found = data.corpus((["one", "two", "three", "two"] for _ in range(count)), min_count=1)
        data.WindowBatches(found, size=1000, window=2, group=4, groups=1)[3]
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(100)  # what is imported late
    assert peak(50_000) < 1.5 * peak(5_000)


def test_bags_hold_the_known_words_of_a_text_and_the_commonest_ones():
    ids, counts = data.word_bags([["a", "b", "a", "x"], ["x"], ["c", "b", "b"]], ["a", "b", "c"])
    dense = np.zeros((3, 3))
    np.add.at(dense, (np.arange(3)[:, None], ids), counts)
    np.testing.assert_array_equal(dense, [[2, 1, 0], [0, 0, 0], [0, 2, 1]])
    ids, counts = data.word_bags([["a", "b", "b", "c", "c", "c"]], ["a", "b", "c"], most=2)
    assert ids.tolist() == [[2, 1]] and counts.tolist() == [[3, 2]]
    assert data.word_bags([], ["a"])[0].shape == (0, 1)
    with pytest.raises(ValueError, match="texts: 'a b' is not a list of words; split it"):
        data.word_bags(["a b"], ["a"])
