"""Tasks over handwritten digits: questions about a picture, and searches for another picture."""

import functools

import numpy as np

from jaxembed import data

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HOLES = np.array([1, 0, 0, 0, 1, 0, 1, 0, 2, 1])
ANSWERS = (*NAMES, "odd", "even", "large", "small", "none", "single", "double")  # of all questions: 17
PICTURE = "show the picture"  # the instruction of a target that is a picture
QUESTIONS = {  # {instruction: number of the answer to each digit}
    "name the same digit": np.arange(10),
    "name the digit before": (np.arange(10) - 1) % 10,
    "odd or even": np.where(np.arange(10) % 2, 10, 11),
    "large or small": np.where(np.arange(10) > 4, 12, 13),
    "count the holes": 14 + HOLES,
}
SEARCHES = {  # {instruction: the digit that is looked for}
    "find the same digit": np.arange(10),
    "find the digit after": (np.arange(10) + 1) % 10,
}
HELD_OUT = {"find the digit before": (np.arange(10) - 1) % 10}
TRAINED = [*QUESTIONS, *SEARCHES]
WORDS = sorted({w for text in (*TRAINED, *HELD_OUT, *ANSWERS, PICTURE) for w in text.split()})
VOCABULARY = 3 + len(WORDS)  # padding, the placeholder and the end come first
LENGTH = 13  # 8 rows of pixels, an instruction and the end


def tokenize(text):
    """Numbers of the words of a text."""
    return [3 + WORDS.index(word) for word in text.split()]


def splits(validate):
    """(training pictures, pictures that are asked about), each {"patches" [N, 8, 8], "labels" [N]}."""
    digits = data.digits()
    patches = data.image_patches(digits["images"], (1, 8))
    order = np.random.default_rng(0).permutation(len(patches))
    held = order[1000:1300] if validate else order[1300:]
    return tuple(
        {"patches": patches[rows], "labels": digits["labels"][rows]} for rows in (order[:1000], held)
    )


batch_of = functools.partial(data.multimodal_batch, tokenize=tokenize, length=LENGTH, patches=(8, 8))


def query(pictures, row, asked):
    return {"patches": pictures["patches"][row], "instruction": asked}


def target(pictures, row):
    return {"patches": pictures["patches"][row], "instruction": PICTURE}


def training_rows(pictures, seed):
    """Every picture with every task: row numbers, tasks, and the number of what is right.

    Answers are numbered from 0, the digits that are looked for from 17.
    """
    rows, tasks = np.meshgrid(np.arange(len(pictures["labels"])), np.arange(len(TRAINED)), indexing="ij")
    rights = np.array([*QUESTIONS.values(), *(len(ANSWERS) + x for x in SEARCHES.values())])
    found = {"rows": rows.ravel(), "tasks": tasks.ravel()}
    return found | {"right": rights[found["tasks"], pictures["labels"][found["rows"]]]}


def batches(pictures, size, seed, part=None):
    """Batches of queries and targets; with ``part``, parts of so many rows are of one task each."""
    table = training_rows(pictures, seed)
    known = [np.flatnonzero(pictures["labels"] == digit) for digit in range(10)]

    def make(chosen):
        rng = np.random.default_rng((seed, *chosen[:4].tolist()))
        queries, targets = [], []
        for row, task, right in zip(*(table[n][chosen] for n in ("rows", "tasks", "right")), strict=True):
            queries.append(query(pictures, row, TRAINED[task]))
            if right < len(ANSWERS):
                targets.append({"text": ANSWERS[right]})
            else:
                others = known[right - len(ANSWERS)]
                targets.append(target(pictures, rng.choice(others[others != row])))
        sides = {"query": batch_of(queries), "target": batch_of(targets)}
        return sides | {"right": table["right"][chosen].astype(np.int32)}

    if part is None:
        return data.batches(np.arange(len(table["rows"])), size, make=make, seed=seed)
    return data.homogeneous_batches(table["tasks"], size, part, make=make, seed=seed)


def questions(pictures, seed=0):
    """What is asked of held-out pictures: {instruction: (query rows, candidates, what is right)}.

    Candidates of a question are the answers of all questions. Those of a search are ten pictures, one of each
    digit, drawn anew for each query: [N, 10] row numbers, the right one at the digit that is looked for.
    """
    rng, labels = np.random.default_rng(seed), pictures["labels"]
    known = [np.flatnonzero(labels == digit) for digit in range(10)]
    found = {}
    for asked, right in QUESTIONS.items():
        found[asked] = (None, right[labels])
    for asked, right in {**SEARCHES, **HELD_OUT}.items():
        lists = np.stack([[rng.choice(rows[rows != i]) for rows in known] for i in range(len(labels))])
        found[asked] = (lists, right[labels])
    return found


def precision(vectors, answers, pictures, candidates, right):
    """Share of queries whose nearest candidate is right; ties share."""
    from jaxembed import metrics

    vectors, answers, pictures = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, answers, pictures)
    )
    scores = (
        vectors @ answers.T if candidates is None else np.einsum("nd,nkd->nk", vectors, pictures[candidates])
    )
    gains = np.arange(scores.shape[1]) == right[:, None]
    return float(metrics.tied_gains(scores, gains)[:, 0].mean())
