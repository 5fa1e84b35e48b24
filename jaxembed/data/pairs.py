"""Who is positive with whom: pairs from single texts, labels or a teacher, and their parts."""

import numpy as np


def inverse_cloze(words, *, seed, shortest=5, longest=13):
    """Inverse cloze task: cuts a span out of a text, which then has to find the rest.

    >>> span, rest = inverse_cloze(list("abcdefgh"), seed=0, shortest=2, longest=3)
    >>> print("".join(span), "".join(rest))
    def abcgh

    Args:
        words: list of n str.
        seed: int or tuple of ints; the same seed cuts the same span.
        shortest: least length of the span.
        longest: greatest length of the span.

    Returns:
        (span, rest), two lists whose words together are ``words``; (None, words) for a text that is not
        longer than ``longest``.

    References:
        K. Lee et al. (the inverse cloze task), arXiv:1906.00300.
    """
    if not 1 <= shortest <= longest:
        raise ValueError(f"shortest={shortest}, longest={longest}: need 1 <= shortest <= longest")
    if len(words) <= longest:
        return None, words
    rng = np.random.default_rng(seed)
    size = int(rng.integers(shortest, longest + 1))
    start = int(rng.integers(0, len(words) - size + 1))
    return words[start : start + size], words[:start] + words[start + size :]


def example_pairs(labels, *, seed, negatives=1):
    """Example-based pairs: joins each labelled text with one of its class and with texts of others.

    >>> positives, negatives = example_pairs(["a", "b", "a", "b"], seed=0)
    >>> print(positives, negatives.shape)
    [2 3 0 1] (4, 1)

    Args:
        labels: [N], numbers or str; at least two classes, each with at least two texts.
        seed: int or tuple of ints.
        negatives: how many texts h of other classes each text gets, drawn with replacement, so that larger
            classes come more often.

    Returns:
        positives int [N] and negatives int [N, h], places among the labels.

    Raises:
        ValueError: for a single class, or a class with one text.

    References:
        C. Lee et al. (NV-Embed), arXiv:2405.17428, example-based pairs.
    """
    _, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if len(counts) < 2 or counts.min() < 2:
        raise ValueError("labels: at least two classes are needed, each with at least two texts")
    rng = np.random.default_rng(seed)
    order = np.argsort(classes, kind="stable")  # the texts class by class
    place, start = np.argsort(order), (np.cumsum(counts) - counts)[classes]
    own, count = place - start, counts[classes]
    other = (own + 1 + (rng.random(len(classes)) * (count - 1)).astype(int)) % count
    outside = (rng.random((len(classes), negatives)) * (len(classes) - count)[:, None]).astype(int)
    outside = np.where(outside >= start[:, None], outside + count[:, None], outside)
    return order[start + other], order[outside]


def label_text_pairs(labels, *, seed, negatives=1):
    """Label-based pairs: joins each labelled text with the text of its label, and with those of others.

    >>> names, positives, negatives = label_text_pairs(["b", "a", "b"], seed=0)
    >>> print(names, positives, negatives.tolist())
    ['a', 'b'] [1 0 1] [[0], [1], [0]]

    Args:
        labels: [N], numbers or str, at least two classes.
        seed: int or tuple of ints.
        negatives: how many other labels h each text gets, drawn with replacement.

    Returns:
        (C labels, sorted; positives int [N]; negatives int [N, h]), places among the C labels.

    Raises:
        ValueError: for a single class.

    References:
        C. Lee et al. (NV-Embed), arXiv:2405.17428: for two classes, and as the weaker choice for more.
    """
    names, classes = np.unique(np.asarray(labels), return_inverse=True)
    if len(names) < 2:
        raise ValueError("labels: at least two classes are needed")
    shift = np.random.default_rng(seed).integers(1, len(names), size=(len(classes), negatives))
    return names.tolist(), classes, (classes[:, None] + shift) % len(names)


def labelled_pairs(labelled, *, seed, kind="examples", names=None):
    """Pairs of classification data: makes triplets of labelled texts, which a loss on pairs can learn.

    The second text is another of the class, and the negative one of another class ("examples"); or they are
    the texts of the labels ("labels"), as suits two classes. Train on them without in-batch negatives: a
    class comes more than once in a batch.

    >>> made = labelled_pairs({"texts": ["fine", "poor"], "labels": [1, 0]}, kind="labels", seed=0,
    ...     names={0: "a bad review", 1: "a good review"})
    >>> print(made["first"], made["second"], made["negatives"])
    ['fine', 'poor'] ['a good review', 'a bad review'] ['a bad review', 'a good review']

    Args:
        labelled: ``data.records.Labelled``: {"texts": N str, "labels": [N]}.
        seed: int or tuple of ints.
        kind: "examples" or "labels".
        names: optional {label: its text}, for "labels"; default: the label as it is.

    Returns:
        ``data.records.Pairs`` of N rows, with "negatives", in the order of the texts.

    Raises:
        ValueError: for an unknown kind, a label without a name, or classes as :func:`example_pairs` and
            :func:`label_text_pairs` refuse them.

    References:
        C. Lee et al. (NV-Embed), arXiv:2405.17428, with seven negatives a row; here it is one.
    """
    texts, labels = list(labelled["texts"]), list(labelled["labels"])
    if kind == "examples":
        positives, others = example_pairs(labels, seed=seed)
        second = texts
    elif kind == "labels":
        known, positives, others = label_text_pairs(labels, seed=seed)
        missing = [] if names is None else [label for label in known if label not in names]
        if missing:
            raise ValueError(f"names: holds no text for label {missing[0]!r}; name every label")
        second = [str(label) if names is None else names[label] for label in known]
    else:
        raise ValueError(f'kind={kind!r}: pass "examples" or "labels"')
    chosen = {"second": positives, "negatives": others[:, 0]}
    return {"first": texts} | {name: [second[i] for i in rows] for name, rows in chosen.items()}


def graded_pairs(pairs, *, least=4.0):
    """Pairs of graded texts: keeps the similar ones, each in both directions, for a loss without grades.

    >>> made = graded_pairs({"first": ["a", "b"], "second": ["c", "d"], "scores": [4.5, 1.0]})
    >>> print(made)
    {'first': ['a', 'c'], 'second': ['c', 'a']}

    Args:
        pairs: ``data.records.Pairs`` with "scores".
        least: number, in the units of the scores. 4 of 5 is that of NV-Embed for STS.

    Returns:
        ``data.records.Pairs`` without scores: all kept pairs, then all of them turned. Their negatives are
        mined (:func:`hard_negatives`).

    Raises:
        ValueError: for pairs without scores, or where none is kept.

    References:
        C. Lee et al. (NV-Embed), arXiv:2405.17428.
    """
    if pairs.get("scores") is None:
        raise ValueError("pairs: hold no scores; give graded pairs")
    kept = np.flatnonzero(np.asarray(pairs["scores"]) >= least)
    if not len(kept):
        raise ValueError(f"least={least}: no pair has such a score; lower it")
    first, second = ([pairs[side][i] for i in kept] for side in ("first", "second"))
    return {"first": first + second, "second": second + first}


def hard_negatives(queries, documents, positives, *, count, share=0.95, block=1024):
    """Hard negative mining: finds documents near a query that are clearly less similar than its own.

    A document j may be a negative of query i where ``cos(i, j) <= s - |s| (1 - share)`` with
    ``s = cos(i, positives[i])``; the ``count`` most similar of these are taken. Where fewer are left, the
    least similar documents fill the row.

    >>> queries = np.array([[1.0, 0.0]])
    >>> documents = np.array([[0.8, 0.6], [0.79, 0.61], [0.6, 0.8], [0.0, 1.0]])
    >>> print(hard_negatives(queries, documents, [0], count=1))
    [[2]]
    >>> print(hard_negatives(queries, documents, [[0, 2]], count=1))
    [[3]]

    Args:
        queries: [N, D], vectors of a teacher, finite; normalised inside.
        documents: [M, D], finite.
        positives: int [N], the document of each query, or for each query a list of documents, as int [N, P]
            or ragged; -1 is padding. With several, s is the least of their similarities. Equal rows of
            ``queries`` are one query: the positives of each are negatives of none.
        count: h.
        share: of the similarity of the query's own document, above which a document is left out.
        block: queries that are compared at once.

    Returns:
        int [N, h], places among the documents, the most similar first; never one of the query's own.

    Raises:
        ValueError: for shapes that do not fit, vectors that are not finite, or positives that are missing or
            outside the documents. Also where fewer than ``count`` documents are not the query's own.

    References:
        G. Moreira et al. (NV-Retriever), arXiv:2407.15831, the rule with a percentage of the positive.
    """
    queries, documents = _directions("queries", queries), _directions("documents", documents)
    if queries.shape[1] != documents.shape[1]:
        raise ValueError(f"documents: width {documents.shape[1]}, but queries have {queries.shape[1]}")
    if len(documents) <= count:
        raise ValueError(f"count={count} negatives need more than {len(documents)} documents")
    own = _own(positives, len(queries), len(documents))
    same = np.unique(queries, axis=0, return_inverse=True)[1].reshape(-1)
    joined = [set() for _ in range(len(queries))]
    for group, places in zip(same, own, strict=True):
        joined[group].update(places)
    found = np.empty((len(queries), count), np.int64)
    for i, group in enumerate(same):
        if len(documents) - len(joined[group]) < count:
            left = len(documents) - len(joined[group])
            raise ValueError(f"count={count}: query {i} has only {left} documents that are not its own")
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ documents.T
        for i, row in enumerate(scores, start):
            limit = row[own[i]].min()
            limit = limit - np.abs(limit) * (1 - share)
            best = np.where(row <= limit, row, -5 - row)  # after all others, the least similar first
            best[list(joined[same[i]])] = -np.inf
            found[i] = np.argsort(-best, kind="stable")[:count]
    return found


def _directions(name, vectors):
    """Rows of length 1 in at least float32; a zero row stays zero."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise ValueError(f"{name}: shape {vectors.shape}; pass [rows, D]")
    vectors = vectors.astype(np.result_type(np.float32, vectors.dtype))
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name}: hold NaN or an infinity; look for broken vectors")
    largest = np.max(np.abs(vectors), axis=1, keepdims=True, initial=0)
    vectors = vectors / np.where(largest > 0, largest, 1)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 0.5)


def _own(positives, queries, documents):
    """The documents of each query as a list of arrays."""
    if len(positives) != queries:
        raise ValueError(
            f"positives: {len(positives)} for {queries} queries; pass a document or a list for each"
        )
    own = []
    for i, given in enumerate(positives):
        places = np.atleast_1d(np.asarray(given))
        if places.ndim != 1 or (places.size and places.dtype.kind not in "iu"):
            raise ValueError(
                f"positives[{i}]: {places.dtype} {places.shape}; pass a document or a list of them"
            )
        places = np.unique(places[places != -1]).astype(np.int64)
        if not len(places) or places[0] < 0 or places[-1] >= documents:
            raise ValueError(
                f"positives[{i}]: {places.tolist()}; pass places in 0..{documents - 1}, at least one"
            )
        own.append(places)
    return own


def uniform_rows(count, size, *, seed, weights=None):
    """Uniform batch of rows: draws rows of a catalogue, each as likely as any other.

    >>> print(uniform_rows(10, 4, seed=(0, 3)))
    [9 7 3 8]

    Args:
        count: M, the number of rows.
        size: number of rows that are drawn, without replacement; at most M.
        seed: int or tuple of ints, (seed, step) for the batch of a step.
        weights: optional [M], at least 0. Rows are then drawn in proportion to them and with replacement, so
            that one may come twice: counts of a log make the batch of a log.

    Returns:
        int [size].

    Raises:
        ValueError: for more rows than there are, or weights that do not fit.
    """
    rng = np.random.default_rng(seed)
    if weights is None:
        if not 0 < size <= count:
            raise ValueError(f"size: {size} rows of {count}; draw at least 1 and at most all of them")
        return rng.choice(count, size, replace=False)
    weights = np.asarray(weights, np.float64)
    if weights.shape != (count,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(f"weights: {weights.shape}; give one number for each of {count} rows, some above 0")
    return np.searchsorted(np.cumsum(weights), rng.random(size) * weights.sum(), side="right").clip(
        max=count - 1
    )


def split_pairs(pairs, *, share=0.1, seed=0):
    """Splits pairs at random into three parts: to train on, to choose by and to test on.

    >>> parts = split_pairs({"first": list("abcdefghij"), "second": list("ABCDEFGHIJ")}, share=0.2)
    >>> print({name: "".join(part["first"]) for name, part in parts.items()})
    {'train': 'dfjaib', 'dev': 'eg', 'test': 'ch'}

    Args:
        pairs: ``data.records.Pairs``, or another dict of sequences of N entries, such as those that
            ``data.sentence_pairs`` reads.
        share: of the N pairs that "dev" gets, and that "test" gets, rounded down.
        seed: of the order; the same seed gives the same parts.

    Returns:
        {"train", "dev", "test"}, each with the keys of ``pairs``, lists in the order of the draw; scores stay
        arrays.

    Raises:
        ValueError: for a share outside 0..0.5, columns of different lengths, or too few pairs for a part.
    """
    counts = {name: len(column) for name, column in pairs.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"pairs: columns of {counts} entries; give all columns the same length")
    if not 0 < share < 0.5:
        raise ValueError(f"share: {share} is outside 0..0.5; dev and test each get that share")
    count = next(iter(counts.values()))
    held = int(count * share + 1e-9)
    if held < 1:
        raise ValueError(f"pairs: {count} are too few for a share of {share}; one part would be empty")
    order = np.random.default_rng(seed).permutation(count)
    rows = {"train": order[2 * held :], "dev": order[:held], "test": order[held : 2 * held]}
    return {part: {name: _taken(x, places) for name, x in pairs.items()} for part, places in rows.items()}


def _taken(column, places):
    """Entries of a list as a list, of an array as an array."""
    return column[places] if isinstance(column, np.ndarray) else [column[i] for i in places]


def aspect_pairs(label_sets, *, most=100):
    """Aspect pairs: joins documents that share at least one label.

    Labels that ``most`` documents or more carry are left out first: they are too general. Documents without
    a label that is left are in no pair.

    >>> print(aspect_pairs([["parsing"], ["parsing", "tagging"], [], ["tagging"]]).tolist())
    [[0, 1], [1, 3]]

    Args:
        label_sets: for each document the labels of one aspect, a list that may be empty. For the control that
            merges aspects, join their lists.
        most: number of documents from which on a label is left out; None keeps all.

    Returns:
        int64 [P, 2], the smaller number first, each pair once, sorted.

    Raises:
        ValueError: where no two documents share a label, and for a text in the place of a list of labels.

    References:
        M. Ostendorff et al., arXiv:2203.14541. Its code counts within each split, so call this for each.
    """
    members = {}
    for i, labels in enumerate(label_sets):
        if isinstance(labels, str | bytes):
            raise ValueError(f"label_sets[{i}]: {labels!r} is a text; pass a list of labels")
        for label in set(labels):
            members.setdefault(label, []).append(i)
    count, found = len(label_sets), []
    for rows in members.values():
        if len(rows) > 1 and (most is None or len(rows) < most):
            rows = np.array(rows)
            first, second = np.triu_indices(len(rows), 1)
            found.append(rows[first] * count + rows[second])
    if not found:
        raise ValueError(
            "label_sets: no two documents share a label that is left; check the aspect, or raise most"
        )
    pairs = np.unique(np.concatenate(found))
    return np.stack([pairs // count, pairs % count], axis=1)
