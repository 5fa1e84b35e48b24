"""Readers of text files in the layouts that people have, on small files of each layout."""

import sys

import numpy as np
import pytest

from jaxembed import data


def write(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return path


def refused(match, call):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


# Pairs of one's own

HEADERS = [
    ("query", "document"),
    ("Query", "Passage"),
    ("sentence1", "sentence2"),
    ("sentence_A", "sentence_B"),
    ("text 1", "text 2"),
    ("anchor", "positive"),
    ("questions", "answers"),
    ("queries", "Documents"),
    ("premise", "hypothesis"),
    ("title", "body"),
    ("word", "definition"),
    ("query_text", "doc_text"),
    ("queryText", "docText"),
    ("first_sentence", "second_sentence"),
    ("title", "abstract"),
    ("input", "output"),
    ("Input-Text", "Output-Text"),
    ("prompt", "completion"),
    ("instruction", "response"),
    ("src", "tgt"),
    ("source", "target"),
    ("q", "d"),
    ("Q", "A"),
    ("q1", "q2"),
    ("text_a", "text_b"),
    ("claim", "evidence"),
    ("original", "paraphrase"),
    ("article", "summaries"),
]


@pytest.mark.parametrize("names", HEADERS)
@pytest.mark.parametrize("third", [None, "negative", "score"])
def test_a_row_of_names_is_a_header(tmp_path, names, third):
    rows = [names, ("a", "b"), ("c", "d")]
    cells = {None: ["", "", ""], "negative": ["negative", "x", "y"], "score": ["score", "1", "2"]}[third]
    lines = ["\t".join(filter(None, [*row, cell])) for row, cell in zip(rows, cells, strict=True)]
    path = write(tmp_path / "p.tsv", "\n".join(lines) + "\n")
    assert data.sentence_pairs(path)["first"] == ["a", "c"]
    assert data.sentence_pairs(path, header=True)["first"] == ["a", "c"]
    if third != "score":
        assert data.sentence_pairs(path, header=False)["first"] == [names[0], "a", "c"]


@pytest.mark.parametrize(
    "first",
    [
        *("a query\tdocument", "query\ta document", "documentary\tquery", "abc\ttext", "a\tb", "q\tr"),
        *("q1\td2", "s1\ts3", "text book\ttitle", "query document\ttext"),
    ],
)
def test_a_row_of_texts_is_no_header(tmp_path, first):
    path = write(tmp_path / "p.tsv", first + "\na\tb\n")
    assert len(data.sentence_pairs(path)["first"]) == 2
    assert data.sentence_pairs(path, header=True)["first"] == ["a"]


def test_parts_leave_the_header_out(tmp_path):
    path = write(tmp_path / "p.tsv", "query\tdocument\n" + "".join(f"q{i}\td{i}\n" for i in range(50)))
    parts = data.split_pairs(data.sentence_pairs(path))
    assert sorted(x for part in parts.values() for x in part["first"]) == sorted(f"q{i}" for i in range(50))


READERS = {
    "pairs": data.sentence_pairs,
    "sick": data.sick,
    "table": data.labelled_table,
    "lines": data.labelled_lines,
    "orange": data.labelled_texts,
}


@pytest.mark.parametrize("name", READERS)
def test_a_latin_1_file_is_named_in_one_line(tmp_path, name):
    path = write(tmp_path / "p.txt", "text\tlabel\na\tcafé\n", "latin-1")
    refused(
        r"p.txt, line 2: is not utf-8 but perhaps latin-1; save the file as UTF-8",
        lambda: READERS[name](path),
    )


@pytest.mark.parametrize("encoding", ["latinx", "base64", 5])
def test_an_unknown_encoding_is_named(tmp_path, encoding):
    path = write(tmp_path / "p.tsv", "a\tb\n")
    refused(f"^encoding: {encoding!r} is unknown; pass", lambda: data.sentence_pairs(path, encoding=encoding))


def test_an_encoding_is_read(tmp_path):
    path = write(tmp_path / "p.tsv", "café\tthé\n", "latin-1")
    assert data.sentence_pairs(path, encoding="latin-1")["first"] == ["café"]
    assert data.sentence_pairs(write(path, "café\tthé\n", "utf-16"), encoding="utf-16")["second"] == ["thé"]


GLUE = ("sentence1", "sentence2", "score")
GRADED = [
    ("score in front", "4.5\ta\tb\n0\tc\td\n", {"columns": (1, 2, 0)}),
    ("score last", "a\tb\t4.5\nc\td\t0\n", {}),
    ("glue", "n\tsentence1\tsentence2\tscore\n0\ta\tb\t4.5\n1\tc\td\t0\n", {"columns": GLUE}),
    ("own names", "s\tleft\tright\n4.5\ta\tb\n0\tc\td\n", {"columns": ("left", "right", "s")}),
    ("sts-b", "news\tx\t2012\t1\t4.5\ta\tb\nforum\tx\t2013\t2\t0\tc\td\tlicence\n", {"columns": (5, 6, 4)}),
    ("commas", 'n,a,b,4.5\nn,c,d,0\n', {"columns": (1, 2, 3), "separator": ","}),
    ("header by its score", "score\tx\ty\n4.5\ta\tb\n0\tc\td\n", {"columns": (1, 2, 0)}),
]  # fmt: skip


@pytest.mark.parametrize("content, options", [g[1:] for g in GRADED], ids=[g[0] for g in GRADED])
def test_graded_pairs_in_any_order_of_columns(tmp_path, content, options):
    pairs = data.sentence_pairs(write(tmp_path / "p.tsv", content), **options)
    assert pairs["first"] == ["a", "c"] and pairs["second"] == ["b", "d"]
    assert pairs["scores"].tolist() == [4.5, 0]


def test_columns_that_are_not_there_are_named(tmp_path):
    path = write(tmp_path / "p.tsv", "4.5\ta\tb\n0\tc\td\n")
    read = data.sentence_pairs
    refused("first column holds numbers, not texts; choose by columns=", lambda: read(path))
    refused("columns: 'text' is not one of", lambda: read(path, columns=("text", "a")))
    refused("line 1: 3 columns, expected 5 or more", lambda: read(path, columns=(1, 4)))
    refused(r"columns: \(1,\); pass two", lambda: read(path, columns=(1,)))
    refused("columns: -1 is below 0", lambda: read(path, columns=(1, -1)))
    write(path, "a\tb\t1\tx\n")
    refused(r"line 1: 4 columns, expected 2 or 3; choose by columns= among", lambda: read(path))


# SICK

SICK = (
    "pair_ID\tsentence_A\tsentence_B\tentailment_label\trelatedness_score\tentailment_AB\tSemEval_set\n"
    '1\tA "kid" runs\tA boy runs\tNEUTRAL\t4.5\tA_neutral_B\tTRAIN\n'
    "2\tA dog barks\tNo dog barks\tCONTRADICTION\t3.6\tA_contradicts_B\tTEST\n"
)
SEMEVAL = (
    "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\r\n7\ta\tb\t1.5\tENTAILMENT\r\n"
)


def test_sick(tmp_path):
    path = write(tmp_path / "SICK.txt", SICK)
    both = data.sick(path)
    assert both["first"] == ['A "kid" runs', "A dog barks"]
    assert both["second"] == ["A boy runs", "No dog barks"]
    assert both["labels"] == ["NEUTRAL", "CONTRADICTION"]
    np.testing.assert_array_equal(both["scores"], np.array([4.5, 3.6], np.float32))
    assert data.sick(path, "test")["first"] == ["A dog barks"]
    found = data.sick(write(tmp_path / "SICK_train.txt", SEMEVAL))
    assert found["scores"].tolist() == [1.5] and found["labels"] == ["ENTAILMENT"]
    refused("no pairs of split='trial'", lambda: data.sick(path, "trial"))
    refused("column 'SemEval_set' is missing", lambda: data.sick(tmp_path / "SICK_train.txt", "train"))
    refused("line 2: 'x' is not a finite number", lambda: data.sick(write(path, SICK.replace("4.5", "x"))))
    refused("line 4: fewer columns", lambda: data.sick(write(path, SICK + "3\ta\n")))
    refused("column 'sentence_A' is missing", lambda: data.sick(write(path, "")))


# STS12 to STS16


def sts_folder(folder, prefix="STS"):
    write(folder / f"{prefix}.input.news.txt", 'a "x\tb\tsource\n c\td\n\u2028e\tf\n')
    write(folder / f"{prefix}.gs.news.txt", "5\n\n0.25\n")
    write(folder / f"{prefix}.input.forum.en.txt", "g\th\r\n")
    write(folder / f"{prefix}.gs.forum.en.txt", "3.000")  # no line break at the end
    write(folder / f"{prefix}.input.ALL.txt", "never\tread\n")
    return folder


@pytest.mark.parametrize("prefix", ["STS", "STS2016"])
def test_sts(tmp_path, prefix):
    found = data.sts(sts_folder(tmp_path, prefix))
    assert found["sets"] == ["forum.en", "news", "news"]
    assert found["first"] == ["g", 'a "x', "\u2028e"] and found["second"] == ["h", "b", "f"]
    assert found["scores"].dtype == np.float32 and found["scores"].tolist() == [3, 5, 0.25]


def test_sts_of_other_shapes_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no STS.input.NAME.txt"):
        data.sts(tmp_path)
    sts_folder(tmp_path)
    write(tmp_path / "STS.gs.news.txt", "5\n1\n")
    refused("STS.gs.news.txt: 2 lines for 3 pairs", lambda: data.sts(tmp_path))
    write(tmp_path / "STS.gs.news.txt", "5\n1\nhigh\n")
    refused("STS.gs.news.txt, line 3: 'high' is not a finite number", lambda: data.sts(tmp_path))
    write(tmp_path / "STS.input.news.txt", "a\tb\nc d\ne\tf\n")
    refused("STS.input.news.txt, line 2: expected two texts", lambda: data.sts(tmp_path))
    (tmp_path / "STS.gs.forum.en.txt").unlink()
    with pytest.raises(FileNotFoundError, match="STS.gs.forum.en.txt: missing"):
        data.sts(tmp_path)


# Labels

BANKING = 'text,category\n"I am ""still"" waiting,\non my card?",card_arrival\nWhat now,top_up\n'
TABLES = {
    "banking77": ("t.csv", BANKING, {}),
    "glue": ("t.tsv", 'label\tsentence\ncard_arrival\tI am "still" waiting,\ntop_up\tWhat now\n', {}),
    "chosen": (
        "t.csv",
        "a,b,label,c\nx,I,1,card_arrival\n,What now,2,top_up\n",
        {"text": "b", "label": "c"},
    ),
    "numbers": ("t.csv", "card_arrival,I\ntop_up,What now\n", {"text": 1, "label": 0, "header": False}),
    "separator": ("t.txt", "Text|Label\nI|card_arrival\nWhat now|top_up\n", {"separator": "|"}),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_texts_and_labels(tmp_path, name):
    file, content, options = TABLES[name]
    found = data.labelled_table(write(tmp_path / file, content), **options)
    assert found["labels"] == ["card_arrival", "top_up"]
    expected = {"banking77": 'I am "still" waiting,\non my card?', "glue": 'I am "still" waiting,'}
    assert found["texts"] == [expected.get(name, "I"), "What now"]


def test_tables_that_are_none_are_named(tmp_path):
    read = data.labelled_table
    path = write(tmp_path / "t.csv", "a,b\nx,y\n")
    refused(r"no column of texts; pass text= one of \['a', 'b'\]", lambda: read(path))
    refused("no column of labels; pass label=", lambda: read(path, text="a", label="c"))
    refused(r"pass text= one of \[0, 1\]", lambda: read(path, header=False))
    refused("holds no rows", lambda: read(write(path, "text,label\n")))
    refused("no column of texts", lambda: read(write(path, "")))
    refused("line 3: 1 columns, expected 2", lambda: read(write(path, "text,label\na,b\nc\n")))
    refused("line 2: an empty text or label", lambda: read(write(path, "text,label\na, \n")))
    refused("line 2: unexpected end of data", lambda: read(write(path, 'text,label\na,"b\n')))


@pytest.mark.parametrize(
    "content, options, labels",
    [
        ("1 it purrs\n\n0 it does\tnot \r\n", {}, ["1", "0"]),
        ("1\tit purrs\n0\tit does\tnot", {"separator": "\t"}, ["1", "0"]),
        ("__label__1 it purrs\n__label__0 it does\tnot\n", {}, ["1", "0"]),
        ("DESC:def it purrs\nNUM:x it does\tnot\n", {"encoding": "latin-1"}, ["DESC:def", "NUM:x"]),
        ("so so ||| it purrs\nb ||| it does\tnot\n", {"separator": " ||| "}, ["so so", "b"]),
    ],
)
def test_lines_of_label_and_text(tmp_path, content, options, labels):
    found = data.labelled_lines(write(tmp_path / "t.txt", content), **options)
    assert found == {"texts": ["it purrs", "it does\tnot"], "labels": labels}


def test_lines_that_lack_a_text_or_a_label_are_named(tmp_path):
    read = lambda content: data.labelled_lines(write(tmp_path / "t.txt", content))  # noqa: E731
    refused("line 2: 1 columns, expected 2", lambda: read("1 a\n0\n"))
    refused("line 1: two labels; keep one", lambda: read("__label__a __label__b x\n"))
    refused("holds no rows", lambda: read("\n"))


# AllNLI


def nli(monkeypatch, **sets):
    """Takes the place of TFDS: records of (premise, label, hypothesis); returns the options it was given."""
    names, options = ("premise", "label", "hypothesis"), []

    def opened(name, split, **given):
        options.append((name, split, given))
        return [dict(zip(names, row, strict=True)) for row in sets[name]]

    monkeypatch.setattr(sys.modules["jaxembed.data.sources.sentence_pairs"], "tfds", opened)
    return options


def test_all_nli_takes_premises_with_both_kinds_of_hypotheses(monkeypatch):
    snli = [
        ("p", 0, "follows"),
        ("p", 2, "contradicts"),
        ("q", 0, "alone"),
        ("r", 1, "neither"),
        ("r", -1, "?"),
    ]
    given = nli(monkeypatch, snli=snli, multi_nli=[("m", 2, "no"), ("m", 0, "yes"), ("m", 0, "second")])
    wanted = {"first": ["p", "m"], "second": ["follows", "yes"], "negatives": ["contradicts", "no"]}
    assert data.all_nli(data_dir="x") == wanted
    assert given == [(name, "train", {"data_dir": "x"}) for name in ("snli", "multi_nli")]
    nli(monkeypatch, snli=[("q", 0, "alone")], multi_nli=[])
    refused("snli and multi_nli: no premise has both kinds", data.all_nli)


PAIRS = {
    "two columns": (
        "a.tsv",
        'a "dog"\tthe dog\nb\tc\n',
        {"first": ['a "dog"', "b"], "second": ["the dog", "c"]},
    ),
    "scores": ("a.tsv", "a\tb\t1.5\nc\td\t0\n", {"scores": [1.5, 0]}),
    "header by its score": ("a.tsv", "one\ttwo\tscore\na\tb\t1\n", {"first": ["a"], "scores": [1]}),
    "header by its names": ("a.tsv", "sentence1\tsentence2\na\tb\n", {"first": ["a"]}),
    "quoted commas": ("a.csv", '"a, b",c,5\n', {"first": ["a, b"], "scores": [5]}),
    "negatives": ("a.tsv", "a\tb\tc\nd\te\t1\n".replace("\t1\n", "\tf\n"), {"negatives": ["c", "f"]}),
    "byte order mark": ("a.tsv", "\ufeffa\tb\n", {"first": ["a"]}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_sentence_pairs_are_read(name, tmp_path):
    file, content, expected = PAIRS[name]
    (tmp_path / file).write_text(content, encoding="utf-8")
    pairs = data.sentence_pairs(tmp_path / file)
    for key, value in expected.items():
        assert list(pairs[key]) == value
    assert len(pairs["first"]) == len(pairs["second"])


BAD_PAIRS = {
    "a\n": "line 1: 1 columns, expected 2 or 3",
    "a\tb\n\nc\td\t1\n": "line 3: 3 columns, expected 2",
    "a\tb\nc\t \n": "line 2: an empty text",
    "": "holds no pairs",
    "a\tb\t1\nc\td\tnan\n": "line 2: the score is not a finite number",
}


@pytest.mark.parametrize("content", BAD_PAIRS)
def test_bad_pairs_are_refused_with_their_line(content, tmp_path):
    (tmp_path / "a.tsv").write_text(content)
    with pytest.raises(ValueError, match=BAD_PAIRS[content]):
        data.sentence_pairs(tmp_path / "a.tsv")
