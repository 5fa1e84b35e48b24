"""Pairs of sentences: from files of one's own, of STS-B, SICK and STS12 to STS16, and AllNLI through TFDS."""

import pathlib
import re

import numpy as np

from jaxembed.data.rows import decoded, delimited
from jaxembed.data.sources.tfds import tfds

# What people call columns of texts, also joined, as in doc_text; a first line of two such names is a header.
_PART = (
    r"(abstract|anchor|answer|article|body|candidate|caption|claim|comment|completion|content|context|definition"
    r"|description|doc|document|evidence|first|gloss|headline|hyp|hypothes[ei]s|id|input|instruction|left|lemma"
    r"|message|name|original|output|paragraph|paraphrase|passage|phrase|pos|positive|post|premise|prompt|quer(y|ie)"
    r"|question|ref|reference|reply|response|right|second|sent|sentence|source|src|summar(y|ie)|target|term|text"
    r"|tgt|title|trg|utterance|word)s?"
)
_NAME = re.compile(rf"({_PART}[_-]?)+([\W\d_]*|[ _-]?[ab])", re.IGNORECASE)
_SHORT = re.compile(r"q (a|d|p)|([qst])_?1 \2_?2", re.IGNORECASE)
_LARGEST = float(np.finfo(np.float32).max)
_ENTAILMENT, _CONTRADICTION = 0, 2  # labels of SNLI and MultiNLI in TFDS; 1 is neutral, -1 is undecided


def sentence_pairs(path, *, columns=None, header=None, separator=None, encoding="utf-8"):
    """Sentence pairs: reads two texts from each line of a file, with or without a score.

    Files ending in .csv are read as comma separated with quotes, all others as tab separated without. The
    first two columns are the texts. A third column may hold scores (numbers, as in STS-B) or negatives
    (texts). It does so in every line, or it is missing in every line.

    A header is recognised and left out, in two cases. Its third column is not a number where all others are
    numbers. Or it names two columns of texts, such as query and document, sentence1 and sentence2, question
    and answer, prompt and completion, source_text and target_text.

    >>> _ = pathlib.Path("pairs.tsv").write_text("a dog\\tthe dog\\t4.5\\na dog\\ta car\\t0\\n")
    >>> pairs = sentence_pairs("pairs.tsv")
    >>> print(pairs["first"], pairs["second"], pairs["scores"].tolist())
    ['a dog', 'a dog'] ['the dog', 'a car'] [4.5, 0.0]

    Args:
        path: of the file.
        columns: optional two or three columns, by name or by number from 0, where the file has more or in
            another order. For STS-B of GLUE ("sentence1", "sentence2", "score"); for a score in front (1, 2,
            0); for STS-B's own sts-train.csv (5, 6, 4), with a tab as the separator.
        header: optional bool, whether the first line is a header where the rule above fails.
        separator: optional character between columns; a tab means columns without quotes.
        encoding: by Python's name.

    Returns:
        Dict: "first" and "second", lists of N str, and, where the file has a third column, "scores", float32
        [N], or "negatives", a list of N str.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for a file without pairs, an unknown column, bytes that are not ``encoding``, or numbers
            in place of first texts. Also for a line with an empty text or another number of columns than the
            first. The message has the file and the line.
    """
    path = pathlib.Path(path)
    separator = separator or ("," if path.suffix == ".csv" else "\t")
    lines = delimited(path, separator, quoted=separator != "\t", encoding=encoding)
    top = lines[0][1] if lines else []
    if columns is not None:
        header = True if any(isinstance(c, str) for c in columns) else header
        lines = _chosen(path, lines, columns)
    if lines and (_header([row for _, row in lines]) if header is None else header):
        lines = lines[1:]
    if not lines:
        raise ValueError(f"{path}: holds no pairs; write two texts per line, separated by a tab")
    _check(path, lines, top, columns)
    pairs = {"first": [row[0] for _, row in lines], "second": [row[1] for _, row in lines]}
    return pairs | (_third(path, lines) if len(lines[0][1]) == 3 else {})


def _third(path, lines):
    """Scores, where the third column holds any, else negatives."""
    numbers = [_number(row[2]) for _, row in lines]
    if None not in numbers:
        return {"scores": np.asarray(numbers, np.float32)}
    if any(n is not None for n in numbers):
        number = next(n for (n, _), x in zip(lines, numbers, strict=True) if x is None)
        raise ValueError(f"{path}, line {number}: the score is not a finite number; mend it")
    return {"negatives": [row[2] for _, row in lines]}


def _chosen(path, lines, columns):
    """The chosen cells of every line; names are looked up in the first line, which stays."""
    top = lines[0][1] if lines else []
    if len(columns) not in (2, 3):
        raise ValueError(f"columns: {columns}; pass two columns of texts, and a third of scores or negatives")
    for name in columns:
        if isinstance(name, str) and top.count(name) != 1:
            raise ValueError(f"columns: {name!r} is not one of {top} in {path}; pass names of its header")
    places = [top.index(c) if isinstance(c, str) else c for c in columns]
    if min(places) < 0:
        raise ValueError(f"columns: {min(places)} is below 0; count the columns from 0")
    for number, row in lines:
        if len(row) <= max(places):
            raise ValueError(
                f"{path}, line {number}: {len(row)} columns, expected {max(places) + 1} or more; mend it"
            )
    return [(number, [row[place] for place in places]) for number, row in lines]


def _check(path, lines, top, columns):
    count = len(lines[0][1])
    for number, row in lines:
        if len(row) != count or not 2 <= count <= 3:
            expected = count if 2 <= count <= 3 else "2 or 3"
            hint = f"; choose by columns= among {top}"[:120] if count > 3 else "; mend the line"
            raise ValueError(f"{path}, line {number}: {len(row)} columns, expected {expected}{hint}")
        if not row[0].strip() or not row[1].strip():
            raise ValueError(f"{path}, line {number}: an empty text; drop the line")
    if columns is None and all(_number(row[0]) is not None for _, row in lines):
        raise ValueError(
            f"{path}: the first column holds numbers, not texts; choose by columns=, as (1, 2, 0)"
        )


def _header(rows):
    first = rows[0]
    if len(first) > 1:
        names = [cell.strip() for cell in first[:2]]
        if all(map(_NAME.fullmatch, names)) or _SHORT.fullmatch(" ".join(names)):
            return True
    scored = len(rows) > 1 and all(len(r) == 3 and _number(r[2]) is not None for r in rows[1:])
    return scored and len(first) == 3 and _number(first[2]) is None


def _number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None


def sick(path, split=None, *, encoding="utf-8"):
    """SICK: reads pairs of sentences with how related they are, from 1 to 5, and what follows from what.

    A table between tabs with a header: SICK.txt, or SICK_train.txt, SICK_trial.txt and
    SICK_test_annotated.txt of SemEval 2014. Columns are found by their names.

    >>> names = ["pair_ID", "sentence_A", "sentence_B", "relatedness_score", "entailment_judgment"]
    >>> lines = ["\\t".join(names), "1\\ta\\tb\\t4.5\\tNEUTRAL"]
    >>> _ = pathlib.Path("sick.txt").write_text("\\n".join(lines))
    >>> sick("sick.txt")
    {'first': ['a'], 'second': ['b'], 'scores': array([4.5], dtype=float32), 'labels': ['NEUTRAL']}

    Args:
        path: of the file.
        split: optional "train", "trial" or "test", for SICK.txt, which holds all of them.
        encoding: by Python's name.

    Returns:
        {"first": list of N str, "second": list of N str, "scores": float32 [N], "labels": list of N str:
        ENTAILMENT, NEUTRAL or CONTRADICTION}.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for a column that is missing, a score that is not a number or a split without pairs.

    References:
        M. Marelli et al., LREC 2014.
    """
    lines = delimited(path, "\t", quoted=False, encoding=encoding)
    top = lines[0][1] if lines else []
    entailment = "entailment_label" if "entailment_label" in top else "entailment_judgment"
    names = ["sentence_A", "sentence_B", "relatedness_score", entailment]
    names += ["SemEval_set"] if split is not None else []
    missing = [name for name in names if name not in top]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing in {top}; pass a file of SICK")
    short = next((number for number, row in lines if len(row) < len(top)), None)
    if short is not None:
        raise ValueError(f"{path}, line {short}: fewer columns than the header; mend the line")
    rows = [(number, [row[top.index(name)] for name in names]) for number, row in lines[1:]]
    if split is not None:
        rows = [(number, row) for number, row in rows if row[4].lower() == split]
    if not rows:
        raise ValueError(
            f'{path} holds no pairs of split={split!r}; pass "train", "trial" or "test", or None'
        )
    scores = [_score(path, number, row[2]) for number, row in rows]
    first, second, _, labels, *_ = map(list, zip(*(row for _, row in rows), strict=True))
    return {"first": first, "second": second, "scores": np.array(scores, np.float32), "labels": labels}


def sts(folder, *, encoding="utf-8"):
    """STS12 to STS16: reads the pairs of all sets of one year with their scores from 0 to 5.

    For each set the folder holds ``STS.input.NAME.txt`` with two texts per line between tabs, and
    ``STS.gs.NAME.txt`` with the score of each line. In 2016 the names begin with ``STS2016.``. Further
    columns are left out, so are lines whose score is empty, and the set ALL where others are there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "STS.input.news.txt").write_text("a\\tb\\nc\\td\\n")
    ...     _ = pathlib.Path(folder, "STS.gs.news.txt").write_text("4.2\\n\\n")
    ...     print(sts(folder))
    {'first': ['a'], 'second': ['b'], 'scores': array([4.2], dtype=float32), 'sets': ['news']}

    Args:
        folder: of one year, as SemEval or SentEval hands it out.
        encoding: by Python's name.

    Returns:
        {"first": list of N str, "second": list of N str, "scores": float32 [N], "sets": list of N str, the
        name of the set of each pair}. Over all pairs at once ``metrics.evaluate_similarity`` gives the number
        that is usually reported.

    Raises:
        FileNotFoundError: when the folder has no sets, or a set has no scores.
        ValueError: for a line without two texts, a score that is not a number, or files of other lengths.

    References:
        E. Agirre et al., SemEval 2012 to 2016; the count over all pairs: T. Gao et al., arXiv:2104.08821.
    """
    inputs = {
        re.split(r"\.input\.", p.name)[1][:-4]: p for p in pathlib.Path(folder).glob("STS*.input.*.txt")
    }
    if not inputs:
        raise FileNotFoundError(f"folder: {str(folder)!r} has no STS.input.NAME.txt; check the path")
    found = {"first": [], "second": [], "scores": [], "sets": []}
    for name in sorted(inputs.keys() - {"ALL"}) or ["ALL"]:
        scores = inputs[name].with_name(inputs[name].name.replace(".input.", ".gs."))
        if not scores.is_file():
            raise FileNotFoundError(f"{scores}: missing; it holds the scores of {inputs[name].name}")
        texts, grades = (_plain_lines(path, encoding) for path in (inputs[name], scores))
        if len(texts) != len(grades):
            raise ValueError(f"{scores}: {len(grades)} lines for {len(texts)} pairs; fetch both files again")
        for number, (line, grade) in enumerate(zip(texts, grades, strict=True), start=1):
            if not grade.strip():
                continue
            cells = line.split("\t")
            if len(cells) < 2 or not cells[0].strip() or not cells[1].strip():
                raise ValueError(f"{inputs[name]}, line {number}: expected two texts between tabs; mend it")
            row = (cells[0], cells[1], _score(scores, number, grade), name)
            for column, value in zip(found.values(), row, strict=True):
                column.append(value)
    return found | {"scores": np.array(found["scores"], np.float32)}


def all_nli(**options):
    """AllNLI: reads triplets of a premise, what it entails and what contradicts it, from SNLI and MultiNLI.

    A premise counts when it has both kinds of hypotheses; of several of a kind the first one is taken.

    ``pairs = data.all_nli(download=True)`` prepares both sets the first time.

    Args:
        **options: of ``data.tfds``, which opens both: ``data_dir`` and ``download``.

    Returns:
        {"first": premises, "second": what follows from them, "negatives": what contradicts them}, lists of N
        str, as ``data.records.Pairs``.

    Raises:
        ValueError: when a set is not prepared for random access, or no premise has both kinds.

    References:
        S. Bowman et al. (SNLI), arXiv:1508.05326; A. Williams et al. (MultiNLI), arXiv:1704.05426.
    """
    found = {}
    for name in ("snli", "multi_nli"):
        for record in tfds(name, "train", **options):
            if record["label"] in (_ENTAILMENT, _CONTRADICTION):
                kinds = found.setdefault(record["premise"], {})
                kinds.setdefault(int(record["label"]), record["hypothesis"])
    rows = [(p, h[_ENTAILMENT], h[_CONTRADICTION]) for p, h in found.items() if len(h) == 2]
    if not rows:
        raise ValueError("snli and multi_nli: no premise has both kinds of hypotheses; prepare them again")
    return dict(zip(("first", "second", "negatives"), map(list, zip(*rows, strict=True)), strict=True))


def _plain_lines(path, encoding):
    lines = [line.removesuffix("\r") for line in decoded(path, encoding).split("\n")]
    return lines[:-1] if not lines[-1] else lines


def _score(path, number, text):
    value = _number(text)
    if value is None:
        raise ValueError(f"{path}, line {number}: {text[:40]!r} is not a finite number; mend the score")
    return value
