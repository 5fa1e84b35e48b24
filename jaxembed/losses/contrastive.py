"""Losses that ask a vector to find its own among others."""

import chex
import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, inner, unit

BLOCKS = ("qd", "qq", "dd")


def softmax_loss(scores, *, positives=None, where=None, temperature=1.0):
    """Asks each row of scores to put its probability on its positive columns.

    ``loss[i] = mean over p in positives[i] of -log softmax_j(scores[i, j] / temperature)[p]``, the softmax
    taken over the pairs that count. With one positive this is the cross-entropy. It is computed as
    ``log(1 + sum_{j != p} exp(s_j - s_p))``, which keeps its digits when it is tiny.

    >>> print(softmax_loss(jnp.array([[0.0, 0.0], [5.0, 5.0]])).round(3))
    [0.693 0.693]

    Args:
        scores: [B, M], higher is better.
        positives: int [B], the column that is positive for each row (default: row i has column i), or
            bool [B, M], several positives a row. A row without positives has loss 0; a score of -inf
            (an empty document) counts neither as positive nor as negative.
        where: optional bool [B, M]. False drops a pair from the softmax; positives are always kept.
            Dropped scores may hold anything.
        temperature: positive number that divides the scores; may be traced.

    Returns:
        [B], one loss per row, in at least float32.

    Raises:
        ValueError: where ``positives`` is left out and there are fewer columns than rows.

    References:
        A. van den Oord et al., arXiv:1807.03748; several positives as L_out of P. Khosla et al.,
        arXiv:2004.11362.
    """
    scores = jnp.asarray(scores)
    chex.assert_rank(scores, 2)
    rows, columns = scores.shape
    if positives is None:
        if columns < rows:
            raise ValueError(f"positives: needed, because {rows} rows have only {columns} columns")
        positives = jnp.arange(rows)
    positives = jnp.asarray(positives)
    if positives.dtype != bool:
        chex.assert_shape(positives, (rows,))
        positives = positives[:, None] == jnp.arange(columns)
    chex.assert_shape(positives, scores.shape)
    if where is None:
        kept = jnp.ones(scores.shape, bool)
    else:
        chex.assert_shape(where, scores.shape)
        kept = where | positives
    finite = scores != -jnp.inf  # a document without tokens: never a negative, and no positive either
    positives, kept = positives & finite, kept & finite
    count = jnp.sum(positives, axis=1)
    scores = jnp.where(kept, scores, 0).astype(accumulator(scores)) / temperature
    reference = jnp.sum(jnp.where(positives, scores, 0), axis=1) / jnp.maximum(count, 1)
    gaps = scores - reference[:, None]
    top = jnp.max(jnp.where(kept, gaps, 0), axis=1, initial=0.0)
    top = jax.lax.stop_gradient(top)[:, None]
    negatives = jnp.where(kept & ~positives, jnp.exp(jnp.where(kept, gaps - top, 0)), 0)
    own = jnp.where(positives, jnp.expm1(jnp.where(positives, gaps - top, 0)), 0)
    total = jnp.sum(negatives + own, axis=1) + (count - 1)
    return jnp.where(count > 0, top[:, 0] + jnp.log1p(jnp.where(count > 0, total, 0)), 0)


def info_nce(queries, documents, *, positives=None, where=None, temperature=0.05, blocks=("qd",)):
    """Asks each query to pick its own document out of all documents.

    ``loss[i] = -log softmax_j(cos(queries[i], candidates[j]) / temperature)[i]``

    The candidates are the documents ("qd"); "qq" adds the other queries and "dd" scores the row's own
    document against the other documents of the batch. A weighted sum of both directions is the loss of
    (queries, documents) plus that of (documents, queries).

    >>> vectors = jnp.eye(3)
    >>> print(info_nce(vectors, vectors, temperature=1.0).round(3))
    [0.551 0.551 0.551]

    Args:
        queries: [B, D]; normalised inside.
        documents: [N, D], finite (fill padding with zeros), normalised inside. Without
            ``positives``, row i answers query i (N >= B) and every other row is a negative: hard
            negatives stand after the first B rows.
        positives: as in :func:`softmax_loss`, among the documents: int [B] or bool [B, N].
        where: optional bool [B, M]. False drops a pair from the softmax, which is how duplicates and
            suspected false negatives are hidden. Positives are never dropped.
        temperature: positive number that divides the cosines; may be traced.
        blocks: subset of ("qd", "qq", "dd"). The M columns stand in that order: N columns of "qd", then
            B of "qq" (queries with queries), then B of "dd" (the first B documents with one another),
            self pairs dropped. "qd" holds the positives and is required.

    Returns:
        [B], one loss per query, in at least float32.

    References:
        A. van den Oord et al., arXiv:1807.03748; the blocks as in Z. Li et al. (GTE), arXiv:2308.03281.
    """
    chex.assert_rank([queries, documents], 2)
    chex.assert_equal_shape([queries, documents], dims=1)
    rows, columns = len(queries), len(documents)
    scores, kept = _blocks(unit(queries), unit(documents), blocks)
    if where is not None:
        chex.assert_shape(where, scores.shape)
        kept = kept & where
    if positives is not None and jnp.asarray(positives).dtype == bool:
        chex.assert_shape(positives, (rows, columns))
        positives = jnp.pad(positives, ((0, 0), (0, scores.shape[1] - columns)))
    elif positives is None and columns < rows:
        raise ValueError(f"documents: {columns} rows for {rows} queries; give positives or a row per query")
    return softmax_loss(scores, positives=positives, where=kept, temperature=temperature)


def _blocks(queries, documents, blocks):
    """Scores [B, M] of the blocks in order and bool [B, M] that is False for self pairs."""
    if "qd" not in blocks or not set(blocks) <= set(BLOCKS):
        raise ValueError(f'blocks={blocks!r}: a subset of {BLOCKS} with "qd" among them')
    rows = len(queries)
    if "dd" in blocks and len(documents) < rows:
        raise ValueError(f'documents: block "dd" needs a document per query, got {len(documents)} for {rows}')
    own = documents[:rows]
    pairs = {"qd": (queries, documents), "qq": (queries, queries), "dd": (own, own)}
    chosen = [name for name in BLOCKS if name in blocks]
    scores = jnp.concatenate([inner(*pairs[name]) for name in chosen], axis=1)
    others = [
        jnp.ones((rows, len(documents)), bool) if name == "qd" else ~jnp.eye(rows, dtype=bool)
        for name in chosen
    ]
    return scores, jnp.concatenate(others, axis=1)


def duplicate_mask(keys, other=None):
    """Marks the pairs of a batch that are not duplicates of one another.

    ``mask[i, j] = (keys[i] != other[j]) or i == j``: two rows with one key are positives of each other
    in truth, so neither may be the other's negative.

    >>> print(duplicate_mask(jnp.array([7, 8, 7])))
    [[ True  True False]
     [ True  True  True]
     [False  True  True]]

    Args:
        keys: int [B], for example hashes of the texts.
        other: int [N], default ``keys``.

    Returns:
        bool [B, N] for ``where=``; True = the pair counts.
    """
    other = keys if other is None else other
    chex.assert_rank([keys, other], 1)
    diagonal = jnp.arange(len(keys))[:, None] == jnp.arange(len(other))
    return (keys[:, None] != other) | diagonal
