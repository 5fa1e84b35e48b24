"""A folder of documents, queries and judgments in the layout of BEIR."""

import json
import pathlib

from jaxembed import files

_REMEDY = "save it as UTF-8, or fetch the file again"


def beir(folder):
    """BEIR folder: reads documents, queries and judgments of a retrieval set.

    ``corpus.jsonl`` holds objects with ``_id``, ``title`` and ``text``; ``queries.jsonl`` those with ``_id``
    and ``text``. ``qrels/SPLIT.tsv`` holds query id, document id and integer gain (1 or 1.0), separated by
    tabs. A first line whose gain is not a number is a header. Each file may be compressed and then ends in
    ``.gz``. Where both forms are there, the plain one is read. No line may have more than 64 MB. Other names
    in ``qrels``, and those that begin with a dot, are not read. The text of a document is its title, a space
    and its text. Judgments may name documents that the corpus lacks.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     os.mkdir(f"{folder}/qrels")
    ...     for name, line in {
    ...         "corpus.jsonl": '{"_id": "d1", "title": "Wings", "text": "lift air"}',
    ...         "queries.jsonl": '{"_id": "q1", "text": "what lifts"}',
    ...         "qrels/test.tsv": "query-id\\tcorpus-id\\tscore\\nq1\\td1\\t2",
    ...     }.items():
    ...         with open(f"{folder}/{name}", "w") as file:
    ...             _ = file.write(line)
    ...     print(beir(folder))
    {'documents': {'d1': 'Wings lift air'}, 'queries': {'q1': 'what lifts'}, 'judgments': {'test': {'q1': {'d1': 2}}}}

    Args:
        folder: path of the folder.

    Returns:
        ``{"documents": {id: text}, "queries": {id: text}, "judgments": {split: {query id: {document id:
        gain}}}}``; ids are str, gains int.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when a line is malformed, or repeats an id with another text or a judgment with another
            gain; the message names file and line.

    References:
        N. Thakur et al., arXiv:2104.08663.
    """  # noqa: E501
    folder = pathlib.Path(folder)
    judged = {}
    for suffix in (".tsv.gz", ".tsv"):  # the plain file wins
        found = [p for p in folder.glob(f"qrels/*{suffix}") if p.is_file() and not p.name.startswith(".")]
        judged |= {path.name.removesuffix(suffix): path for path in found}
    if not judged:
        raise FileNotFoundError(f"folder: {str(folder / 'qrels')!r} has no .tsv file; check the path")
    return {
        "documents": _texts(_existing(folder, "corpus.jsonl")),
        "queries": _texts(_existing(folder, "queries.jsonl")),
        "judgments": {split: _judgments(path) for split, path in sorted(judged.items())},
    }


def _existing(folder, name):
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"folder: {str(folder)!r} has neither {name} nor {name}.gz; check the path")


def _lines(path):
    """Yields (line number, line) of the lines that are not blank."""
    for number, line in files.lines(path, _REMEDY):
        if line.strip():
            yield number, line


def _texts(path):
    texts = {}
    for number, line in _lines(path):
        try:
            entry = json.loads(line)
            name, parts = _name(entry["_id"]), (entry.get("title") or "", entry["text"] or "")
            text = " ".join(parts).strip()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with _id (a text or an integer) and text; "
                "mend the line"
            ) from None
        if texts.setdefault(name, text) != text:
            raise ValueError(f"{path}, line {number}: _id {name!r} has another text before; keep one line")
    if not texts:
        raise ValueError(f"{path}: holds no texts; fetch the file again")
    return texts


def _name(value):
    """An id as str; only texts and integers are ids."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"_id: {value!r}")
    return str(value)


def _judgments(path):
    judged = {}
    for number, line in _lines(path):
        fields = line.split("\t")
        gain = _number(fields[-1])
        if number == 1 and len(fields) == 3 and gain is None:
            continue  # the header
        if len(fields) != 3 or gain is None or not gain.is_integer():
            raise ValueError(
                f"{path}, line {number}: expected query id, document id and integer gain between tabs; "
                "mend the line"
            )
        query, document, _ = fields
        if judged.setdefault(query, {}).setdefault(document, int(gain)) != int(gain):
            raise ValueError(
                f"{path}, line {number}: {document!r} has another gain for {query!r} before; keep one line"
            )
    return judged


def _number(text):
    try:
        return float(text)
    except ValueError:
        return None
