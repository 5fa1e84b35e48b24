"""Generated data on which a method can be seen to work, or not, in seconds."""

import numpy as np

from jaxembed.arrays import unit

_WORDS, _TOPICS, _WORDS_OF_TOPIC, _ASKED = 3000, 100, 60, 8


def token_sets(seed, *, shift=1.0, documents=2000, queries=200, width=64):
    """Late-interaction toy data: sets of unit token vectors that share a common direction.

    There are 3,000 random unit vectors, the words, and 100 topics of 60 words each. A document has 8 to 24
    tokens, three of five from the words of its topic, and a token is ``unit(word + 0.35 noise + shift m)``
    with one unit vector m for all. A query is 8 tokens of one document, each ``unit(token + 0.6 noise)``.
    Noise has length 1. A ``shift`` of 0, 1 and 2 gives two tokens a mean cosine of about 0, 0.47 and 0.78:
    those of many trained encoders crowd in the same way.

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
