"""What vectors of words are worth: similarity of pairs and of senses, analogies, and choices of synonyms."""

import numpy as np

from jaxembed.arrays import check_shape, host
from jaxembed.checks import check_whole
from jaxembed.metrics.tasks import pearson, spearman

MISSING = ("skip", "mean", "zero")
RULES = ("add", "multiply")
_SMALL = 1e-3  # of 3CosMul: keeps a cosine of -1 from dividing by 0


def word_rows(words, *, fold=False):
    """Rows of words: the row number of each word of a table; of equal words the first counts.

    >>> print(word_rows(["Cat", "dog", "cat"], fold=True))
    {'cat': 0, 'dog': 1}

    Args:
        words: sequence of V str, or a dict {str: row}, which comes back.
        fold: whether capitals are made small.

    Returns:
        {str: int}.
    """
    if isinstance(words, dict):
        return words
    rows = {}
    for row, word in enumerate(words):
        rows.setdefault(word.lower() if fold else word, row)
    return rows


def _directions(vectors, words, fold):
    """Unit rows in float32, {word: row}, and which rows are numbers."""
    vectors, rows = host("vectors", vectors), word_rows(words, fold=fold)
    check_shape("vectors", vectors, (None, None))
    if not isinstance(words, dict):
        check_shape("words", np.empty(len(words)), (len(vectors),))
    vectors = vectors.astype(np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    vectors = np.where(finite[:, None], vectors, 0)
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    vectors = vectors / np.where(largest > 0, largest, 1)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1), rows, finite


def word_similarity(vectors, words, pairs, scores, *, missing="skip", fold=False):
    """Word similarity: do cosines of words rise with what people say of the pairs?

    Spearman's and Pearson's correlation of the cosines with the scores.

    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> pairs = [("cat", "dog"), ("cat", "car"), ("cat", "yak")]
    >>> found = word_similarity(vectors, ["cat", "dog", "car"], pairs, [9.0, 2.0, 5.0])
    >>> print({name: round(x, 3) for name, x in found.items()})
    {'spearman': 1.0, 'pearson': 1.0, 'pairs': 2, 'missing': 1}

    Args:
        vectors: [V, D].
        words: sequence of V str, or {str: row}.
        pairs: sequence of N (str, str), for example of ``data.word_pairs``.
        scores: [N], higher is more alike.
        missing: what happens to a pair with a word that the table lacks, or whose vector holds NaN: "skip"
            leaves the pair out, "mean" takes the mean vector of the table for the word, "zero" gives the
            pair cosine 0. The three protocols are all in use; say which one a number comes from.
        fold: whether words are compared in small letters.

    Returns:
        Dict of ``spearman`` and ``pearson``, NaN where nothing varies; ``pairs``, how many counted; and
        ``missing``, the number of pairs with a missing word.

    Raises:
        ValueError: for shapes that do not fit, an unknown rule, scores that are not numbers, or when fewer
            than two pairs are left.

    References:
        L. Finkelstein et al., WordSim-353, 2002; F. Hill et al., SimLex-999, arXiv:1408.3456.
    """
    if missing not in MISSING:
        raise ValueError(f"missing={missing!r}; choose one of {', '.join(MISSING)}")
    unit, rows, finite = _directions(vectors, words, fold)
    scores = host("scores", scores).astype(np.float64)
    check_shape("scores", scores, (len(pairs),))
    if not np.isfinite(scores).all():
        raise ValueError("scores: hold NaN or infinite numbers; leave those pairs out")
    places = np.array([[rows.get(w.lower() if fold else w, -1) for w in pair] for pair in pairs], np.int64)
    places = places.reshape(-1, 2)
    known = (places >= 0) & finite[places]
    both = known.all(axis=1)
    mean = unit[finite].mean(axis=0) if missing == "mean" and finite.any() else np.zeros(unit.shape[1])
    sides = [np.where(known[:, i, None], unit[places[:, i]], mean) for i in (0, 1)]
    lengths = np.linalg.norm(sides, axis=2).prod(axis=0)
    cosines = np.sum(sides[0] * sides[1], axis=1) / np.where(lengths > 0, lengths, 1)
    kept = both if missing == "skip" else np.ones(len(both), bool)
    if kept.sum() < 2:
        raise ValueError(f"pairs: {kept.sum()} of {len(pairs)} have both words; a correlation needs two")
    cosines, scores = cosines[kept].astype(np.float64), scores[kept]
    found = {"spearman": spearman(cosines, scores), "pearson": pearson(cosines, scores)}
    return found | {"pairs": int(kept.sum()), "missing": int((~both).sum())}


def word_analogies(vectors, words, questions, *, rule="add", most=None, fold=False, batch=512):
    """Word analogies: a is to b as c is to whom? The share of questions whose answer is nearest.

    Of all words but a, b and c, the answer x has the largest

    - "add" (3CosAdd): ``cos(x, b) - cos(x, a) + cos(x, c)``;
    - "multiply" (3CosMul): ``p(x, b) p(x, c) / (p(x, a) + 0.001)`` with ``p = (1 + cos) / 2``.

    >>> vectors = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    >>> words = ["man", "king", "woman", "queen"]
    >>> print(word_analogies(vectors, words, [tuple(words)]))
    {'accuracy': 1.0, 'questions': 1, 'missing': 0}

    Args:
        vectors: [V, D], normalised inside. Memory is batch * V.
        words: sequence of V str, or {str: row}.
        questions: sequence of (a, b, c, d), for example of ``data.word_questions``.
        rule: "add" or "multiply".
        most: optional number of first words of the table that may answer; a question with a later word
            counts as missing. Tables sorted by frequency are often cut at 30,000 or 300,000.
        fold: whether words are compared in small letters.
        batch: questions that are scored at once.

    Returns:
        Dict of ``accuracy`` over the questions that counted; their number ``questions``; ``missing``, those
        with a word that the table lacks or whose vector holds NaN.

    Raises:
        ValueError: for shapes that do not fit, an unknown rule, a question that is not of four words, or
            when no question has all its words.

    References:
        T. Mikolov et al., arXiv:1301.3781; O. Levy and Y. Goldberg, CoNLL 2014, aclanthology.org/W14-1618.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r}; choose one of {', '.join(RULES)}")
    unit, rows, finite = _directions(vectors, words, fold)
    count = len(unit) if most is None else min(most, len(unit))
    short = [q for q in questions if len(q) != 4]
    if short:
        raise ValueError(f"questions: {short[0]!r} is not of four words; pass (a, b, c, d)")
    asked = [[rows.get(w.lower() if fold else w, -1) for w in q] for q in questions]
    asked = np.array(asked, np.int64).reshape(-1, 4)
    usable = finite & (np.arange(len(finite)) < count)
    asked = asked[((asked >= 0) & usable[asked]).all(axis=1)]
    if not len(asked):
        raise ValueError(f"questions: none of {len(questions)} has all its words in the table; check them")
    right, table = 0, unit[:count]
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        scores = _analogy_scores(table, part, rule)
        scores[:, ~finite[:count]] = -np.inf
        np.put_along_axis(scores, part[:, :3], -np.inf, axis=1)
        right += int(np.sum(scores.argmax(axis=1) == part[:, 3]))
    return {
        "accuracy": right / len(asked),
        "questions": len(asked),
        "missing": len(questions) - len(asked),
    }


def _analogy_scores(table, part, rule):
    """Scores [B, V] of all words for each question."""
    a, b, c = (table[part[:, i]] for i in range(3))
    if rule == "add":
        return (b - a + c) @ table.T
    near = [(1 + x @ table.T) / 2 for x in (a, b, c)]
    return near[1] * near[2] / (near[0] + _SMALL)


def choice_accuracy(vectors, words, questions, choices, answers, *, fold=False):
    """Synonym choice: of the words offered, is the one with the largest cosine to the asked word the answer?

    The accuracy over multiple-choice questions, as in the TOEFL test.

    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.5]])
    >>> words = ["big", "large", "red", "old"]
    >>> choices = [["red", "large", "old"], ["red", "sky"]]
    >>> print(choice_accuracy(vectors, words, ["big", "big"], choices, [1, 0]))
    {'accuracy': 1.0, 'questions': 1, 'missing': 1}

    Args:
        vectors: [V, D], normalised inside.
        words: sequence of V str, or {str: row}.
        questions: sequence of N str, the asked words, for example of ``data.word_choices``.
        choices: sequence of N sequences of str, at least two each.
        answers: int [N], the place of the answer among the choices.
        fold: whether words are compared in small letters.

    Returns:
        Dict of ``accuracy`` over the questions that counted, where an answer whose cosine n choices share
        counts 1 / n; their number ``questions``; ``missing``, those with a word that the table lacks or whose
        vector holds NaN.

    Raises:
        ValueError: for lengths that do not fit, fewer than two choices, an answer that is not among them, or
            when no question has all its words.

    References:
        T. Landauer and S. Dumais, Psychological Review 1997, doi:10.1037/0033-295X.104.2.211.
    """
    if not len(questions) == len(choices) == len(answers):
        raise ValueError(
            f"questions, choices, answers: lengths {len(questions)}, {len(choices)} and {len(answers)}; "
            "pass one of each for every question"
        )
    unit, rows, finite = _directions(vectors, words, fold)
    right = counted = 0
    for asked, offered, answer in zip(questions, choices, answers, strict=True):
        check_whole(**{f"answers, for {asked!r}": answer})
        if not 0 <= answer < len(offered) or len(offered) < 2:
            raise ValueError(f"answers: {answer} of {len(offered)} choices for {asked!r}; mend the question")
        places = [rows.get(w.lower() if fold else w, -1) for w in (asked, *offered)]
        if min(places) < 0 or not finite[places].all():
            continue
        counted += 1
        cosines = unit[places[1:]] @ unit[places[0]]
        best = cosines == cosines.max()
        right += float(best[answer] / best.sum())
    if not counted:
        raise ValueError(f"questions: none of {len(questions)} has all its words in the table; check them")
    return {"accuracy": right / counted, "questions": counted, "missing": len(questions) - counted}


def gain_ratio(score, chance, best):
    """Performance gain ratio: which share of the best gain over random vectors a model has.

    ``(score - chance) / (best - chance)``: 0 for what random vectors reach, 1 for the best model. So tasks
    with scores of other sizes can be put side by side.

    >>> print(gain_ratio(np.array([0.2, 0.5, 0.6]), 0.2, 0.6))
    [0.   0.75 1.  ]

    Args:
        score: number or array of scores.
        chance: score of random vectors, which broadcasts with ``score``.
        best: largest score of all models on the task, which broadcasts with ``score``.

    Returns:
        float64 number or array; NaN where the best model gains nothing.

    References:
        S. Lai et al., How to Generate a Good Word Embedding?, arXiv:1507.05523.
    """
    gain, most = (np.asarray(x, np.float64) - np.asarray(chance, np.float64) for x in (score, best))
    return np.where(most > 0, gain / np.where(most > 0, most, 1), np.nan)[()]


def sense_similarity(first, second, *, first_weights=None, second_weights=None, rule="average"):
    """Similarity of words of several senses: from the cosines of all pairs of their senses.

    With ``s = (1 + cos) / 2`` of sense i of one word and sense j of the other,

    - "average" (avgSim): ``sum over i, j of q[i] r[j] s[i, j]``. With the weights that a context gives the
      senses it is avgSimC;
    - "local" (localSim): s of the two senses with the largest weights, the first of equal ones.

    >>> one, two = np.eye(2)[None], np.array([[[1.0, 0.0], [-1.0, 0.0]]])
    >>> print(sense_similarity(one, two), sense_similarity(one, two, second_weights=[[0, 1]], rule="local"))
    [0.5] [0.]

    Args:
        first, second: [B, K, D], the sense vectors of B words each; K may differ.
        first_weights, second_weights: optional [B, K] from 0 on, such as ``losses.sense_priors`` of the
            words, a mask of ``losses.prune_senses``, or probabilities in a context. Rows are scaled to
            sum to 1; None weighs all senses alike.
        rule: "average" or "local".

    Returns:
        float32 [B] in 0..1.

    Raises:
        ValueError: for shapes that do not fit, an unknown rule, numbers that are not finite, or a row
            without a weight above 0.

    References:
        J. Reisinger and R. Mooney, NAACL 2010, aclanthology.org/N10-1013; with (1 + cos) / 2 as K.
        Grzegorczyk and M. Kurdziel, EMNLP 2018, aclanthology.org/D18-1174, have it.
    """
    if rule not in ("average", "local"):
        raise ValueError(f'rule={rule!r}; choose "average" or "local"')
    first, second = host("first", first), host("second", second)
    check_shape("first", first, (None, None, None))
    check_shape("second", second, (len(first), None, first.shape[2]))
    sides = []
    for name, x, weights in (("first", first, first_weights), ("second", second, second_weights)):
        weights = np.ones(x.shape[:2]) if weights is None else host(f"{name}_weights", weights)
        check_shape(f"{name}_weights", weights, x.shape[:2])
        weights = np.asarray(weights, np.float64)
        total = weights.sum(axis=1, keepdims=True)
        if not (np.isfinite(x).all() and (weights >= 0).all() and np.isfinite(total).all() and total.all()):
            raise ValueError(
                f"{name}: senses must be finite, and weights from 0 on with one above; mend the rows"
            )
        x = x.astype(np.float64)
        x = x / np.maximum(np.abs(x).max(axis=2, keepdims=True, initial=0), 1e-300)
        length = np.linalg.norm(x, axis=2, keepdims=True)
        sides.append((x / np.where(length > 0, length, 1), weights / total))
    (x, q), (y, r) = sides
    near = (1 + np.einsum("bid,bjd->bij", x, y)) / 2
    if rule == "local":
        found = near[np.arange(len(near)), q.argmax(axis=1), r.argmax(axis=1)]
    else:
        found = np.einsum("bij,bi,bj->b", near, q, r)
    return found.astype(np.float32)
