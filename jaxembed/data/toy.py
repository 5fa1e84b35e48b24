"""Generated data on which a method can be seen to work, or not, in seconds."""

import numpy as np

_WORDS, _TOPICS, _WORDS_OF_TOPIC, _ASKED = 3000, 100, 60, 8


def token_sets(seed, *, shift=1.0, documents=2000, queries=200, width=64):
    """Late-interaction toy data: sets of unit token vectors that share a common direction.

    There are 3,000 random unit vectors, the words, and 100 topics of 60 words each. A document has 8 to 24
    tokens, three of five from the words of its topic. A token is ``unit(word + 0.35 noise + shift m)`` with
    one unit vector m for all. A query is 8 tokens of one document, each ``unit(token + 0.6 noise)``. Noise
    has length 1. A ``shift`` of 0, 1 and 2 gives two tokens a mean cosine of about 0, 0.47 and 0.78. Tokens
    of many trained encoders crowd in the same way.

    >>> sets = token_sets(0, documents=100, queries=5, width=16)
    >>> print(sets["queries"].shape, sets["tokens"].shape[0] == sets["offsets"][-1])
    (5, 8, 16) True

    Args:
        seed: int; the same one draws the same sets.
        shift: length of the common direction.
        documents: the number N of documents.
        queries: the number B of queries, at most N: each is drawn from a document of its own.
        width: D.

    Returns:
        Dict of NumPy arrays: ``tokens`` float32 [S, D] of all documents, one document after the other;
        ``offsets`` int [N + 1], document n has ``tokens[offsets[n] : offsets[n + 1]]``; ``queries`` float32
        [B, 8, D]; ``mask`` bool [B, 8], all True; ``sources`` int [B], the document of each query.

    Raises:
        ValueError: for a size below 1, or more queries than documents.
    """
    for name, size in (("documents", documents), ("queries", queries), ("width", width)):
        if size < 1:
            raise ValueError(f"{name}: {size} is below 1; pass a positive integer")
    if queries > documents:
        raise ValueError(f"queries: {queries} of {documents} documents; pass at most that many")
    from jaxembed.arrays import unit  # JAX, which a light import of the room does not bring

    rng = np.random.default_rng(seed)

    def directions(*shape):
        x = rng.normal(size=(*shape, width))
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    words, common = directions(_WORDS), directions()
    topics = rng.integers(_WORDS, size=(_TOPICS, _WORDS_OF_TOPIC))
    lengths = rng.integers(8, 25, size=documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    topic = np.repeat(rng.integers(_TOPICS, size=documents), lengths)
    own = topics[topic, rng.integers(_WORDS_OF_TOPIC, size=len(topic))]
    chosen = np.where(rng.random(len(topic)) < 0.6, own, rng.integers(_WORDS, size=len(topic)))
    tokens = np.asarray(unit(words[chosen] + 0.35 * directions(len(topic)) + shift * common), np.float32)
    sources = rng.permutation(documents)[:queries]
    rows = np.stack([offsets[s] + rng.permutation(lengths[s])[:_ASKED] for s in sources])
    asked = np.asarray(unit(tokens[rows] + 0.6 * directions(*rows.shape)), np.float32)
    mask = np.ones(rows.shape, bool)
    return {"tokens": tokens, "offsets": offsets, "queries": asked, "mask": mask, "sources": sources}


def needles(seed, *, count=128, length=32, keys=20, noise=500):
    """Needle-in-noise toy data: one token of a text is its label, all others are noise.

    Ids below ``keys`` are keys, the next ``noise`` ids are noise. A text holds one key at a random place, and
    its id is the label. A mean over the tokens hardly shows it.

    >>> batch = needles(0, count=2, length=4, keys=3, noise=5)
    >>> print(batch["ids"].tolist(), batch["labels"].tolist())
    [[7, 6, 0, 4], [4, 3, 3, 2]] [0, 2]

    Args:
        seed: int, or a NumPy ``Generator`` that every call draws from anew.
        count: B texts.
        length: T tokens of each.
        keys: number of labels, each as likely as the others.
        noise: number of other tokens.

    Returns:
        {"ids": int32 [B, T], "labels": int32 [B]}.

    Raises:
        ValueError: for a size below 1.
    """
    _check_sizes(count=count, length=length, keys=keys, noise=noise)
    rng = np.random.default_rng(seed)
    ids = keys + rng.integers(noise, size=(count, length))
    labels = rng.integers(keys, size=count)
    ids[np.arange(count), rng.integers(length, size=count)] = labels
    return {"ids": ids.astype(np.int32), "labels": labels.astype(np.int32)}


def both_ends(seed, *, count=128, length=12, letters=8):
    """First-equals-last toy data: the label says whether a text ends with the letter it began with.

    Half of the texts do, on average. An encoder whose tokens read only what is before them knows the answer
    at the last token alone.

    >>> batch = both_ends(0, count=2, length=4, letters=5)
    >>> print(batch["ids"].tolist(), batch["labels"].tolist())
    [[4, 3, 2, 2], [1, 0, 0, 1]] [0, 1]

    Args:
        seed: int, or a NumPy ``Generator`` that every call draws from anew.
        count: B texts.
        length: T letters of each, at least 2.
        letters: number of letters, at least 2, each as likely as the others.

    Returns:
        {"ids": int32 [B, T], "labels": int32 [B], 1 where the first letter is the last}.

    Raises:
        ValueError: for no texts, or fewer than two letters or places.
    """
    _check_sizes(count=count)
    _check_sizes(2, length=length, letters=letters)
    rng = np.random.default_rng(seed)
    ids = rng.integers(letters, size=(count, length))
    labels = rng.integers(2, size=count)
    ids[:, -1] = (ids[:, 0] + (1 - labels) * rng.integers(1, letters, size=count)) % letters
    return {"ids": ids.astype(np.int32), "labels": labels.astype(np.int32)}


def far_order(seed, *, count=128, length=20, gap=4, letters=8):
    """Order toy data: two letters stand far apart in each text, and the label says which one comes first.

    A window shorter than the gap sees at most one of them. It knows the label only where one is at an end.

    >>> batch = far_order(0, count=2, length=6, gap=3, letters=5)
    >>> print(batch["ids"].tolist(), batch["labels"].tolist())
    [[0, 3, 3, 2, 2, 1], [0, 2, 2, 4, 3, 1]] [1, 1]

    Args:
        seed: int, or a NumPy ``Generator`` that every call draws from anew.
        count: B texts.
        length: T letters of each, above ``gap``.
        gap: the least distance of the two letters; the largest is twice that, where there is room.
        letters: number of letters, at least 3; letters 0 and 1 are the two, each there once.

    Returns:
        {"ids": int32 [B, T], "labels": int32 [B], 1 where letter 0 comes before letter 1}.

    Raises:
        ValueError: for no texts, fewer than three letters, or a gap that the length has no room for.
    """
    _check_sizes(count=count, gap=gap)
    _check_sizes(3, letters=letters)
    _check_sizes(gap + 1, length=length)
    rng = np.random.default_rng(seed)
    ids = rng.integers(2, letters, size=(count, length))
    labels = rng.integers(2, size=count)
    apart = rng.integers(gap, min(2 * gap, length - 1) + 1, size=count)
    first = rng.integers(0, length - apart)
    rows = np.arange(count)
    ids[rows, first], ids[rows, first + apart] = 1 - labels, labels
    return {"ids": ids.astype(np.int32), "labels": labels.astype(np.int32)}


def relevance_scores(seed, *, queries=2000, candidates=50, width=32):
    """Retrieval toy data: scores whose centre and spread depend on the query, so that one threshold fails.

    A query q is a unit vector. Its scores are ``clip(c + s z, -1, 1)`` with ``c = 0.5 + 0.15 tanh(3 <w1,
    q>)`` and ``s = 0.03 exp(0.7 tanh(3 <w2, q>))``. From 1 to 10 of its candidates are relevant: for them z
    is drawn from N(1.5, 1), for the others from N(-1.5, 1). w1 and w2 are drawn from N(0, 1), once for all.

    >>> drawn = relevance_scores(0, queries=3, candidates=20)
    >>> print(drawn["queries"].shape, drawn["scores"].shape, drawn["labels"].sum(axis=1).max() <= 10)
    (3, 32) (3, 20) True

    Args:
        seed: int; the same one draws the same data.
        queries: the number B.
        candidates: the number K of scores of each query, at least 10.
        width: D.

    Returns:
        Dict of NumPy arrays: ``queries`` float32 [B, D]; ``scores`` float32 [B, K]; ``labels`` bool [B, K];
        ``latent`` float32 [B, K], the z that no method sees.

    Raises:
        ValueError: for a size below its least.
    """
    _check_sizes(queries=queries, width=width)
    _check_sizes(10, candidates=candidates)
    rng = np.random.default_rng(seed)
    centre, spread = rng.normal(size=(2, width))
    q = rng.normal(size=(queries, width))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    labels = np.arange(candidates) < rng.integers(1, 11, size=(queries, 1))
    z = rng.normal(size=labels.shape) + np.where(labels, 1.5, -1.5)
    c, s = 0.5 + 0.15 * np.tanh(3 * q @ centre), 0.03 * np.exp(0.7 * np.tanh(3 * q @ spread))
    scores = np.clip(c[:, None] + s[:, None] * z, -1, 1)
    return {
        "queries": q.astype(np.float32),
        "scores": scores.astype(np.float32),
        "labels": labels,
        "latent": z.astype(np.float32),
    }


def aspect_documents(seed, *, documents=3000, labels=12, tokens=(3, 1, 6), noise=30):
    """Documents with a label in each aspect, of which some aspects fill more of the text than others.

    Each aspect has ``labels`` labels of six keywords. A document draws one label in each aspect and
    ``tokens[a]`` of its keywords, with replacement, beside ``noise`` of 1,000 words that mean nothing. So a
    vector of all its words says much about one aspect and little about another.

    >>> drawn = aspect_documents(0, documents=4)
    >>> print(drawn["ids"].shape, drawn["labels"].shape, drawn["vocabulary"])
    (4, 40) (4, 3) 1216

    Args:
        seed: int; the same one draws the same documents.
        documents: the number N.
        labels: of each aspect.
        tokens: keywords of each of the A aspects in a document.
        noise: other words in a document.

    Returns:
        Dict: ``ids`` int32 [N, T], words in random order; ``labels`` int32 [N, A]; ``vocabulary``, the number
        of words.

    Raises:
        ValueError: for a size below 1.
    """
    _check_sizes(documents=documents, labels=labels, aspects=len(tokens))
    _check_sizes(0, noise=noise, tokens=min(tokens))
    rng, keywords = np.random.default_rng(seed), 6
    drawn = rng.integers(labels, size=(documents, len(tokens)))
    parts = [rng.integers(1000, size=(documents, noise))]
    for aspect, count in enumerate(tokens):
        first = 1000 + keywords * (labels * aspect + drawn[:, aspect])
        parts.append(first[:, None] + rng.integers(keywords, size=(documents, count)))
    ids = rng.permuted(np.concatenate(parts, axis=1), axis=1)
    vocabulary = 1000 + keywords * labels * len(tokens)
    return {"ids": ids.astype(np.int32), "labels": drawn.astype(np.int32), "vocabulary": vocabulary}


def planted_clicks(seed, *, rows=60_000, values=500):
    """Toy clicks: eight features of which it is known which values tell something, and how much.

    Values follow Zipf's law of exponent 1.2, the most frequent first. Features meet in pairs, (f0, f1), (f2,
    f3) and (f4, f5), by inner products of 8, 2 and 1 normal coordinates, times 0.7; f6 and f7 are noise. Each
    useful value also adds a normal number of deviation 0.5. The rarer half of the values of f0, f2, f4 and f5
    has no effect at all.

    >>> table = planted_clicks(0, rows=600, values=20)
    >>> print(table["ranks"], table["useful"]["f0"].sum(), table["useful"]["f6"].sum())
    [8 8 2 2 1 1 0 0] 10 0

    Args:
        seed: int; the same one draws the same clicks.
        rows: how many; four of six are training rows, one each are validation and test rows.
        values: of each feature.

    Returns:
        A dict as of ``data.ctr_table`` with "columns", "splits" and "sizes", and what is planted: "ranks" int
        [8] and "useful" {feature: bool [values]}.

    Raises:
        ValueError: for fewer than 6 rows, or a value or none.

    References:
        The setting is ours, for what F. Lyu et al. (OptEmbed), arXiv:2208.04482, look for.
    """
    _check_sizes(6, rows=rows)
    _check_sizes(2, values=values)
    rng, ranks = np.random.default_rng(seed), np.array([8, 8, 2, 2, 1, 1, 0, 0])
    chances = 1 / np.arange(1, values + 1) ** 1.2
    ids = rng.choice(values, size=(rows, 8), p=chances / chances.sum()).astype(np.int32)
    useful = np.repeat(ranks[:, None] > 0, values, axis=1)
    useful[[0, 2, 4, 5], values // 2 :] = False
    alone = 0.5 * rng.normal(size=(8, values)) * useful
    logit = sum(alone[f, ids[:, f]] for f in range(8))
    for f in (0, 2, 4):
        both = rng.normal(size=(2, values, ranks[f])) * useful[f : f + 2, :, None]
        logit = logit + 0.7 * (both[0, ids[:, f]] * both[1, ids[:, f + 1]]).sum(axis=1)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    names, ends = [f"f{f}" for f in range(8)], [4 * rows // 6, 5 * rows // 6]
    columns = {"labels": labels, "ids": {name: ids[:, f] for f, name in enumerate(names)}}
    parts = ("train", "validation", "test")
    return {
        "columns": columns,
        "splits": dict(zip(parts, np.split(np.arange(rows), ends), strict=True)),
        "sizes": dict.fromkeys(names, values),
        "ranks": ranks,
        "useful": dict(zip(names, useful, strict=True)),
    }


def _check_sizes(least=1, **sizes):
    for name, size in sizes.items():
        if size < least:
            raise ValueError(f"{name}: {size} is below {least}; pass a larger integer")
