"""Files of word vectors: round trips, gensim's and fastText's own files, and one line for each damage."""

import gzip
import json
import pathlib
import pickle

import numpy as np
import pytest

from jaxembed import data

WORDS = ["cat", "été", "नमस्ते", "dog"]
VECTORS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
GOLDEN = pathlib.Path(__file__).parents[1] / "support/golden"


@pytest.mark.parametrize("name", ["a.vec", "a.bin", "a.txt", "a.npy"])
def test_what_is_written_comes_back(tmp_path, name):
    kind = {"a.vec": "word2vec", "a.bin": "word2vec_binary", "a.txt": "glove", "a.npy": "npy"}[name]
    data.write_word_vectors(tmp_path / name, WORDS, VECTORS, format=kind)
    beside = {"words": tmp_path / "a.npy.words"} if kind == "npy" else {}
    for asked in (None, kind):
        found = data.read_word_vectors(tmp_path / name, format=asked, **beside)
        assert found["words"] == WORDS and found["vectors"].dtype == np.float32
        np.testing.assert_array_equal(found["vectors"], VECTORS)


def test_packed_files_and_words_with_spaces(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"New York 1 2\ncat 3 4\n"))
    with pytest.raises(ValueError, match="a.txt.gz, line 1"):  # D is unknown before the second line
        data.read_word_vectors(tmp_path / "a.txt.gz")
    (tmp_path / "a.vec.gz").write_bytes(gzip.compress(b"2 2\nNew York 1 2\ncat 3 4 \n"))
    assert data.read_word_vectors(tmp_path / "a.vec.gz")["words"] == ["New York", "cat"]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_gensim_reads_ours_and_we_read_gensims(tmp_path):
    KeyedVectors = pytest.importorskip("gensim.models").KeyedVectors
    for binary in (False, True):
        kind = "word2vec_binary" if binary else "word2vec"
        path = tmp_path / ("a.bin" if binary else "a.vec")
        data.write_word_vectors(path, WORDS, VECTORS, format=kind)
        theirs = KeyedVectors.load_word2vec_format(str(path), binary=binary)
        assert theirs.index_to_key == WORDS
        np.testing.assert_array_equal(theirs.vectors, VECTORS)
        theirs.save_word2vec_format(str(path), binary=binary, fvocab=str(tmp_path / "words"))
        np.testing.assert_allclose(data.read_word_vectors(path)["vectors"], VECTORS, rtol=1e-6)
    data.write_word_vectors(tmp_path / "g.txt", WORDS, VECTORS, format="glove")
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / "g.txt"), no_header=True)
    np.testing.assert_array_equal(theirs.vectors, VECTORS)
    np.save(tmp_path / "kv.npy", theirs.vectors)
    found = data.read_word_vectors(tmp_path / "kv.npy", words=tmp_path / "words")
    assert found["words"] == WORDS
    np.testing.assert_array_equal(found["vectors"], VECTORS)


def written(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.vec", "3 2\ncat 1 2\ndog 3 4\n", "the first line says 3 vectors, 2 follow"),
        ("a.vec", "1 2\ncat 1 2\ndog 3 4\n", "the first line says 1 vectors, 2 follow"),
        ("a.vec", "2 3\ncat 1 2\ndog 3 4\n", "line 2: 2 numbers behind the word, expected 3"),
        ("a.vec", "999999999 300\ncat 1 2\n", "too many for the file"),
        ("a.vec", "0 2\n", 'is not "V D"'),
        ("a.vec", "2 2\ncat 1 2\ncat 3 4\n", "'cat' is vector 1 and again 2; pass repeated='first'"),
        ("a.vec", "2 2\ncat 1 x\ndog 3 4\n", "line 2: could not convert string to float: .*'x'"),
        ("a.vec", "2 2\ncat 1 nan\ndog 3 4\n", "line 2: holds a number that is not finite"),
        ("a.txt", "cat 1 2\ndog 3\n", "line 2: 1 numbers behind the word, expected 2"),
        ("a.txt", "cat\n", "line 1: 0 numbers"),
        ("a.txt", "", "is empty"),
        ("a.txt", "caf\xe9 1 2\n".encode("latin-1"), "line 1: is not UTF-8 but perhaps latin-1"),
        ("a.txt", "cat " + "1 " * 5_000_000, "line 1: is longer than 1048576 bytes"),
        ("a.bin", b"2 2\ncat " + bytes(8) + b"\ndog " + bytes(5), "cut short in vector 2 of 2"),
        ("a.bin", b"2 2\ncat " + bytes(8), "vector 2: cut short"),
        ("a.bin", b"1 2\ncat " + bytes(8) + b"\ndog " + bytes(8), "says 1 vectors, more follow"),
        ("a.bin", b"99999999 99\ncat ", "too many for the file"),
        ("a.bin", b"1 1\ncat \0\0\xc0\x7f\n", "vector 1: holds a number that is not finite"),
        ("a.bin", b"cat 1 2\n", 'is not "V D"'),
        ("a.bin", (793712314).to_bytes(4, "little") + bytes(80), "is a model of fastText; read it by"),
    ],
)  # fmt: skip
def test_damage_is_one_line_that_names_the_file(tmp_path, name, content, said):
    with pytest.raises(ValueError, match=said) as caught:
        data.read_word_vectors(written(tmp_path, name, content))
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_repeated_word_keeps_its_first_vector_when_asked(tmp_path):
    path = written(tmp_path, "a.vec", "3 1\ncat 1\ncat 2\ndog 3\n")
    found = data.read_word_vectors(path, repeated="first")
    assert found["words"] == ["cat", "dog"] and found["vectors"].ravel().tolist() == [1, 3]


def test_a_pair_needs_its_words_and_no_pickle_is_read(tmp_path):
    np.save(tmp_path / "a.npy", VECTORS)
    with pytest.raises(ValueError, match="words: .*a.npy holds vectors alone"):
        data.read_word_vectors(tmp_path / "a.npy")
    words = written(tmp_path, "a.words", "one\n")
    with pytest.raises(ValueError, match="a.words: 1 words for 4 vectors"):
        data.read_word_vectors(tmp_path / "a.npy", words=words)
    np.save(tmp_path / "p.npy", np.array([["x", 1]], object), allow_pickle=True)
    with pytest.raises(ValueError, match="p.npy"):
        data.read_word_vectors(tmp_path / "p.npy", words=words)
    (tmp_path / "kv.kv").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="kv.kv: is a pickle, which is not read; write the vectors by"):
        data.read_word_vectors(tmp_path / "kv.kv")
    with pytest.raises(FileNotFoundError, match="none.vec: missing"):
        data.read_word_vectors(tmp_path / "none.vec")


@pytest.mark.parametrize(
    "words, vectors, said",
    [
        (["a b"], [[1.0]], "'a b' is empty or holds a space"),
        (["a", "a"], [[1.0], [2.0]], "'a' comes twice"),
        (["a"], [[np.inf]], "vectors: hold a number that is not finite"),
        (["a"], [[1.0], [2.0]], "vectors: shape"),
    ],
)
def test_what_a_file_cannot_hold_is_not_written(tmp_path, words, vectors, said):
    with pytest.raises(ValueError, match=said):
        data.write_word_vectors(tmp_path / "a.vec", words, vectors)
    with pytest.raises(ValueError, match="format='pickle': choose one of"):
        data.write_word_vectors(tmp_path / "a.vec", ["a"], [[1.0]], format="pickle")
    assert not list(tmp_path.iterdir())


# Models of fastText


def model(buckets=20):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(len(WORDS) + buckets, 3)).astype(np.float32)
    return {"rows": rows, "output": VECTORS, "sizes": (2, 3), "buckets": buckets}


def vector(found, word):
    """The vector of a word by the rule of fastText: a loop over its n-grams."""
    known, rows = found["words"], []
    if word in known:
        rows.append(known.index(word))
    for gram in data.fasttext_ngrams(word, found["sizes"]):
        bucket = int(data.fasttext_hash([gram])[0]) % found["buckets"]
        if found["kept"] is None:
            rows.append(len(known) + bucket)
        elif bucket in found["kept"]:
            rows.append(len(known) + found["kept"][bucket])
    return found["rows"][rows].mean(0)


def test_a_model_that_is_written_comes_back(tmp_path):
    data.write_fasttext(tmp_path / "a.bin", WORDS, [4, 3, 2, 1], **model())
    found = data.read_fasttext(tmp_path / "a.bin")
    assert found["words"] == WORDS and found["counts"].tolist() == [4, 3, 2, 1] and found["kept"] is None
    assert found["sizes"] == (2, 3) and found["settings"]["model"] == "skip_gram"
    for name in ("rows", "output"):
        np.testing.assert_array_equal(found[name], model()[name])


@pytest.mark.peers
def test_gensim_loads_our_model_with_the_same_vectors(tmp_path):
    load = pytest.importorskip("gensim.models.fasttext").load_facebook_vectors
    data.write_fasttext(tmp_path / "a.bin", WORDS, [4, 3, 2, 1], **model())
    theirs, found = load(str(tmp_path / "a.bin")), data.read_fasttext(tmp_path / "a.bin")
    for word in [*WORDS, "unseen", "試し"]:
        np.testing.assert_allclose(theirs[word], vector(found, word), rtol=1e-5, atol=1e-6)


@pytest.mark.peers
def test_fasttext_itself_loads_our_model_with_the_same_vectors(tmp_path):
    fasttext = pytest.importorskip("fasttext")
    data.write_fasttext(tmp_path / "a.bin", WORDS, [4, 3, 2, 1], **model())
    theirs, found = fasttext.load_model(str(tmp_path / "a.bin")), data.read_fasttext(tmp_path / "a.bin")
    assert theirs.get_words() == WORDS
    for word in [*WORDS, "unseen", "試し"]:
        np.testing.assert_allclose(theirs.get_word_vector(word), vector(found, word), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["quantised", "pruned"])
def test_quantised_models_have_the_vectors_that_fasttext_gives(name):
    found = data.read_fasttext(GOLDEN / f"fasttext_{name}.ftz")
    assert found["labels"] == ["__label__b", "__label__a"] or found["labels"] == ["__label__a", "__label__b"]
    assert (found["kept"] is None) == (name == "quantised")
    wanted = json.loads((GOLDEN / "fasttext.json").read_text(encoding="utf-8"))[name]
    assert set(found["words"]) <= set(wanted)
    for word, numbers in wanted.items():
        np.testing.assert_allclose(vector(found, word), numbers, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cut", [0, 3, 60, 100, 200, -1])
def test_a_model_that_is_cut_short_is_refused(tmp_path, cut):
    data.write_fasttext(tmp_path / "a.bin", WORDS, [4, 3, 2, 1], **model())
    content = (tmp_path / "a.bin").read_bytes()
    path = written(tmp_path, "b.bin", content[:cut])
    with pytest.raises(ValueError, match="b.bin: damaged or cut short"):
        data.read_fasttext(path)


def test_other_files_and_versions_are_refused(tmp_path):
    data.write_fasttext(tmp_path / "a.bin", WORDS, [4, 3, 2, 1], **model())
    content = (tmp_path / "a.bin").read_bytes()
    for changed, said in (
        (b"2 2\n" + content, "is not a model of fastText"),
        (content[:4] + b"\x0d" + content[5:], "has version 13, expected 11 or 12"),
        (content + b"x", "1 bytes too many"),
    ):
        with pytest.raises(ValueError, match=said):
            data.read_fasttext(written(tmp_path, "b.bin", changed))
    with pytest.raises(ValueError, match="holds a space or NUL"):
        data.write_fasttext(tmp_path / "c.bin", ["a b", *WORDS[1:]], [4, 3, 2, 1], **model())
    for given, said in (
        ({"labels": ["x"], "label_counts": [1]}, "output: shape"),
        ({"labels": [*WORDS], "label_counts": [1] * len(WORDS)}, "words, labels: one comes twice"),
        ({"settings": {"loss": "hinge"}}, "settings: loss 'hinge' is none of"),
        ({"settings": {"model": "bow"}}, "settings: model 'bow' is none of"),
    ):
        with pytest.raises(ValueError, match=said):
            data.write_fasttext(tmp_path / "c.bin", WORDS, [4, 3, 2, 1], **model() | given)
    assert not (tmp_path / "c.bin").exists()
