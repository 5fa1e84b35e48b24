"""WordNet: the senses of English words with their definitions and examples."""

import collections
import pathlib
import re
import sys

import numpy as np

from jaxembed import files
from jaxembed.checks import check_whole

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
_SYSTEM = pathlib.Path("/usr/share/wordnet")  # Debian's package wordnet-base
_EXAMPLES = re.compile(r'[;:]\s*(?=")')
_QUOTED = re.compile(r'"([^"]*)(?:"|$)')
_KINDS = "@", "@i"  # pointers to what a sense is a kind or an instance of
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
    >>> print(sense["file"], sense["parents"])
    5 []

    Args:
        folder: that holds the files. None takes share/wordnet below ``sys.prefix``, where ``make data`` and
            ``python -m jaxembed.data.sources.fetch_wordnet`` put them, else Debian's /usr/share/wordnet.
        parts: which of noun, verb, adj and adv are read, in this order.

    Returns:
        List of dicts: "id", the number of the sense and the letter of its part of speech (numbers differ
        between versions of WordNet); "part"; "lemmas", list of str with spaces for underscores, at least one;
        "gloss", the definition; "examples", list of str; "file", the number of the lexicographer's file, a
        topic; "parents", list of the ids of the senses that it is a kind or an instance of.

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
    for number, line in files.lines(path, "fetch the file again"):
        if line.startswith("  ") or not line.strip():  # the licence
            continue
        try:
            yield _sense(line, part)
        except (ValueError, IndexError):
            raise ValueError(f"{path}, line {number}: no sense of WordNet; fetch the file again") from None


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
        "file": int(fields[1]),
        "parents": _parents(fields[4 + 2 * count :]),
        "part": part,
        "lemmas": lemmas,
        "gloss": definition.strip(" ;"),
        "examples": [example.strip() for example in quoted if example.strip()],
    }


def _parents(fields):
    """Ids of the senses above, from the count of pointers and four fields for each."""
    count = int(fields[0])
    pointers = [fields[1 + 4 * i : 5 + 4 * i] for i in range(count)]
    return [f"{int(place):08d}-{part}" for symbol, place, part, _ in pointers if symbol in _KINDS]


def wordnet_counts(folder=None):
    """WordNet's counts: how often each sense was met in texts whose words were tagged with senses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lines = "dog%1:05:00:: 02086723 1 42\\ndomestic_dog%1:05:00:: 02086723 1 1\\n"
    ...     _ = pathlib.Path(folder, "index.sense").write_text(lines)
    ...     print(wordnet_counts(folder))
    {'02086723-n': 43}

    Args:
        folder: that holds the file ``index.sense``; None as for :func:`wordnet`.

    Returns:
        {id of a sense: sum over its words}; senses that were not met are left out.

    Raises:
        FileNotFoundError: when the file is not there; the message says how to get it.
        ValueError: for a line that is not an entry; the message names file and line.

    References:
        The format is senseidx(5WN); the texts are those of S. Landes et al., SemCor.
    """
    places = [pathlib.Path(sys.prefix, "share", "wordnet"), _SYSTEM]
    paths = [p / "index.sense" for p in (places if folder is None else [pathlib.Path(folder)])]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"folder: no index.sense in {' and '.join(str(p.parent) for p in paths)}; `make data` or "
            "`python -m jaxembed.data.sources.fetch_wordnet` fetches it"
        )
    counts = {}
    for number, line in files.lines(path, "fetch the file again"):
        try:
            key, place, _, count = line.split()
            part = "nvars"[int(key.rpartition("%")[2][0]) - 1].replace("s", "a")
            if int(count):
                sense = f"{int(place):08d}-{part}"
                counts[sense] = counts.get(sense, 0) + int(count)
        except (ValueError, IndexError):
            raise ValueError(f"{path}, line {number}: no entry of senses; fetch the file again") from None
    return counts


def topic_words(senses, counts, file, *, share=0.9):
    """Words of a topic: the nouns, say, that are nearly always met in senses of one lexicographer's file.

    >>> senses = [{"id": "1-n", "file": 5, "lemmas": ["dog"]}, {"id": "2-n", "file": 18, "lemmas": ["dog"]}]
    >>> print(topic_words(senses, {"1-n": 42, "2-n": 1}, 5), topic_words(senses, {"1-n": 3, "2-n": 2}, 5))
    ['dog'] []

    Args:
        senses: list of dicts of :func:`wordnet`, all in which the words may be met.
        counts: {id: how often the sense was met} of :func:`wordnet_counts`.
        file: number of a lexicographer's file: 5 holds animals, 6 artefacts, 13 food.
        share: least share of the times that a word was met.

    Returns:
        List of str, the commonest first: single words in small letters that were met at least once.
    """
    total, mine = collections.Counter(), collections.Counter()
    for sense in senses:
        met = counts.get(sense["id"], 0)
        for word in sense["lemmas"]:
            total[word] += met
            mine[word] += met * (sense["file"] == file)
    plain = (w for w, met in mine.most_common() if met and met >= share * total[w])
    return [w for w in plain if w.isalpha() and w.islower()]


def synonym_choices(senses, words, *, count=500, others=3, near=50, seed=0):
    """Synonym questions made from WordNet: a word, a synonym of it, and other words that are as frequent.

    The asked word and its synonym share a sense. The other choices are drawn from the words whose places in
    the list are nearest to the synonym's, and share no sense with the asked word. So how frequent a word is
    does not tell the answer, and a table without knowledge is right in one of ``others + 1``.

    >>> senses = [{"lemmas": ["big", "large"]}, {"lemmas": ["red"]}, {"lemmas": ["old"]}]
    >>> found = synonym_choices(senses, ["big", "red", "large", "old"], others=2)
    >>> print(found["questions"], [sorted(c) for c in found["choices"]])
    ['big', 'large'] [['large', 'old', 'red'], ['big', 'old', 'red']]

    Args:
        senses: list of dicts of :func:`wordnet`.
        words: list of distinct str, sorted by frequency, which may be asked and offered.
        count: most questions. A word is asked once; which ones, is drawn where there are more.
        others: wrong choices of a question.
        near: places before and after the synonym from which they are drawn.
        seed: of the draws.

    Returns:
        As :func:`word_choices`, in the order of ``words``; the answer's place among the choices is drawn.

    Raises:
        ValueError: when no question can be made, for a repeated word, or for numbers that are not whole or
            below 1.
    """
    check_whole(1, count=count, others=others, near=near)
    words = list(words)
    rng, place = np.random.default_rng(seed), {word: i for i, word in enumerate(words)}
    if len(place) < len(words):
        raise ValueError(f"words: {len(words) - len(place)} are repeated; leave them out")
    alike = collections.defaultdict(set)
    for sense in senses:
        known = {word for word in sense["lemmas"] if word in place}
        for word in known:
            alike[word] |= known - {word}
    asked = [word for word in words if alike[word]]
    if len(asked) > count:
        asked = [asked[i] for i in sorted(rng.choice(len(asked), count, replace=False))]
    found = {"questions": [], "choices": [], "answers": []}
    for word in asked:
        own = sorted(alike[word])
        right = own[rng.integers(len(own))]
        at, apart = place[right], {word, *own}
        free = [w for w in words[max(0, at - near) : at + near + 1] if w not in apart]
        if len(free) < others:
            continue
        choices = [free[i] for i in rng.choice(len(free), others, replace=False)]
        answer = int(rng.integers(others + 1))
        found["questions"].append(word)
        found["choices"].append([*choices[:answer], right, *choices[answer:]])
        found["answers"].append(answer)
    if not found["questions"]:
        raise ValueError("words: give no question; pass more words, or a larger near")
    return found | {"answers": np.array(found["answers"])}
