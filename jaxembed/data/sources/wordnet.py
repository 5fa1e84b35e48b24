"""WordNet: the senses of English words with their definitions and examples."""

import pathlib
import re
import sys

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
_SYSTEM = pathlib.Path("/usr/share/wordnet")  # Debian's package wordnet-base
_EXAMPLES = re.compile(r'[;:]\s*(?=")')
_QUOTED = re.compile(r'"([^"]*)(?:"|$)')
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may be used


def wordnet(folder=None, *, parts=tuple(PARTS)):
    """WordNet: reads senses (synsets), the words that share a meaning, its definition and examples.

    The files are ``data.noun``, ``data.verb``, ``data.adj`` and ``data.adv``. A gloss there is a definition,
    then, after a semicolon or colon, examples in double quotes. Quotes elsewhere belong to the definition.
    What follows a closing quote (an author, say) is left out.

    >>> import tempfile
    >>> line = '02086723 05 n 02 dog 0 domestic_dog 0 000 | a kind of canine; "the dog barked"'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "data.noun").write_text(line)
    ...     (sense,) = wordnet(folder, parts=["noun"])
    >>> print(sense["id"], sense["lemmas"], sense["gloss"], sense["examples"])
    02086723-n ['dog', 'domestic dog'] a kind of canine ['the dog barked']

    Args:
        folder: that holds the files. None takes share/wordnet below ``sys.prefix``, where ``make data`` and
            ``python -m jaxembed.data.sources.fetch_wordnet`` put them, else Debian's /usr/share/wordnet.
        parts: which of noun, verb, adj and adv are read, in this order.

    Returns:
        List of dicts: "id", the number of the sense and the letter of its part of speech (numbers differ
        between versions of WordNet); "part"; "lemmas", list of str with spaces for underscores, at least one;
        "gloss", the definition; "examples", list of str.

    Raises:
        FileNotFoundError: when the files are not there; the message says how to get them.
        ValueError: for an unknown part, or a line that is not a sense; the message names file and line.

    References:
        C. Fellbaum, WordNet: An Electronic Lexical Database, MIT Press 1998; the format is wndb(5WN).
    """
    parts = list(parts)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"parts: {unknown[0]!r} is none of {', '.join(PARTS)}")
    return [record for part, path in _paths(folder, parts).items() for record in _senses(path, part)]


def _paths(folder, parts):
    places = [pathlib.Path(sys.prefix, "share", "wordnet"), _SYSTEM]
    places = places if folder is None else [pathlib.Path(folder)]
    for place in places:
        paths = {part: place / f"data.{part}" for part in parts}
        if all(path.is_file() for path in paths.values()):
            return paths
    names = " and ".join(map(str, places))
    raise FileNotFoundError(
        f"folder: no WordNet files (data.noun, ...) in {names}; `make data` or "
        "`python -m jaxembed.data.sources.fetch_wordnet` fetches them"
    )


def _senses(path, part):
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.startswith("  ") or not line.strip():  # the licence
                continue
            try:
                yield _sense(line, part)
            except (ValueError, IndexError):
                raise ValueError(
                    f"{path}, line {number}: no sense of WordNet; fetch the file again"
                ) from None


def _sense(line, part):
    head, gloss = line.split(" | ", 1)
    fields = head.split()
    count = int(fields[3], 16)
    lemmas = [_MARKER.sub("", word).replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
    if not len(lemmas) == count > 0:
        raise ValueError
    definition, *rest = _EXAMPLES.split(gloss.strip(), maxsplit=1)
    quoted = _QUOTED.findall(rest[0]) if rest else []
    return {
        "id": f"{int(fields[0]):08d}-{PARTS[part]}",
        "part": part,
        "lemmas": lemmas,
        "gloss": definition.strip(" ;"),
        "examples": [example.strip() for example in quoted if example.strip()],
    }
