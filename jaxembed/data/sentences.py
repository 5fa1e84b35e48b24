"""Pairs of sentences from text files."""

import csv
import pathlib

import numpy as np


def sentence_pairs(path):
    """Reads pairs of texts, with or without a score, from a file with one pair per line.

    Files ending in .csv are read as comma separated with quotes, all others as tab separated without. The
    first two columns are the texts. A third column holds numbers (how alike the two are, as in STS-B) in
    every line, or it is missing in every line, or it holds texts (negatives). A first line whose third
    column is no number where all others are, or whose columns are named sentence1 and sentence2, is a header
    and left out.

    >>> _ = pathlib.Path("pairs.tsv").write_text("a dog\\tthe dog\\t4.5\\na dog\\ta car\\t0\\n")
    >>> pairs = sentence_pairs("pairs.tsv")
    >>> print(pairs["first"], pairs["second"], pairs["scores"].tolist())
    ['a dog', 'a dog'] ['the dog', 'a car'] [4.5, 0.0]

    Args:
        path: of the file, UTF-8.

    Returns:
        Dict: "first" and "second", lists of N str, and, where the file has a third column, "scores", float32
        [N], or "negatives", a list of N str.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a file without pairs, or a line with an empty text or another number of columns than
            the first; the message holds the line's number.
    """
    path = pathlib.Path(path)
    comma = path.suffix == ".csv"
    kind = {"delimiter": ","} if comma else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True, **kind)
        try:
            lines = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if lines and _header(lines):
        lines = lines[1:]
    if not lines:
        raise ValueError(f"{path} holds no pairs; write two texts per line, separated by a tab")
    columns = len(lines[0][1])
    for number, row in lines:
        if len(row) != columns or not 2 <= columns <= 3:
            expected = columns if 2 <= columns <= 3 else "2 or 3"
            raise ValueError(f"{path}, line {number}: {len(row)} columns, expected {expected}")
        if not row[0].strip() or not row[1].strip():
            raise ValueError(f"{path}, line {number}: an empty text; drop the line")
    pairs = {"first": [row[0] for _, row in lines], "second": [row[1] for _, row in lines]}
    if columns == 3:
        numbers = [_number(row[2]) for _, row in lines]
        if None not in numbers:
            return pairs | {"scores": np.asarray(numbers, np.float32)}
        if any(n is not None for n in numbers):
            number = next(n for (n, _), x in zip(lines, numbers, strict=True) if x is None)
            raise ValueError(f"{path}, line {number}: the score is no finite number")
        pairs["negatives"] = [row[2] for _, row in lines]
    return pairs


def _header(lines):
    first = lines[0][1]
    if [c.strip().lower() for c in first[:2]] == ["sentence1", "sentence2"]:
        return True
    scored = len(lines) > 1 and all(len(r) == 3 and _number(r[2]) is not None for _, r in lines[1:])
    return scored and len(first) == 3 and _number(first[2]) is None


def _number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
