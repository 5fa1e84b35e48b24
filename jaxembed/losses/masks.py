"""Masks of pairs that are not negatives: by a guide model, and by equal texts."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import check_shape, host, on_device
from jaxembed.losses.contrastive import BLOCKS, blocks_of, check_sides, directions


def guided_mask(query_guide, document_guide, *, margin=0.0, kind="absolute", blocks=("qd",)):
    """GISTEmbed mask: marks the pairs that a guide model does not take for false negatives.

    With t[i] the guide's cosine of query i and its own document, a pair of row i has a limit. It is
    ``t[i] - margin`` ("absolute") or ``t[i] - abs(t[i]) * margin`` ("relative"). A pair whose guide cosine is
    strictly above it is dropped. Margin 0 is the rule of GISTEmbed. "relative" with 0.05 is the
    positive-aware rule of NV-Retriever, which keeps negatives below 95 % of the positive; "absolute" is its
    rule with a fixed gap. The older relative rule, ``t[i] (1 - margin)``, is left out: both agree where t[i]
    is not negative.

    >>> queries = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> documents = jnp.array([[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]])
    >>> print(guided_mask(queries, documents))
    [[ True  True False]
     [ True  True  True]]

    A document that equals the positive is not above it, so an exact duplicate is kept as a negative. Hide
    it with :func:`duplicate_mask` as well, here the third document, whose text is that of the first:

    >>> documents = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> texts = jnp.array([7, 8, 7])
    >>> print(guided_mask(queries, documents) & duplicate_mask(texts[:2], texts))
    [[ True  True False]
     [ True  True  True]]

    Args:
        query_guide: [B, G], finite, the queries as the guide sees them; normalised inside.
        document_guide: [N, G], finite, N >= B; row i answers query i.
        margin: number by which a negative has to stay below the positive; may be traced.
        kind: "absolute" or "relative".
        blocks: as in :func:`info_nce`. The pairs of all blocks are compared with the same t.

    Returns:
        bool [B, M] for ``where=``; True = the pair counts. Each query's own document is always kept, in
        "dq" too; the pairs that :func:`info_nce` drops from "qq" and "dd" never.

    Raises:
        ValueError: for an unknown kind or block, or fewer documents than queries.

    References:
        A. Solatorio (GISTEmbed), arXiv:2402.16829, where a self pair of "qq" or "dd" falls under the
        rule as well and so stays if t is 1. A hard negative of the row may be dropped too. All rows of a
        batch are to be of one task (``data.homogeneous_batches``), which is not checked. G. Moreira et al.
        (NV-Retriever), arXiv:2407.15831.
    """
    if kind not in ("absolute", "relative"):
        raise ValueError(f'kind={kind!r}: pass "absolute" or "relative"')
    names = "query_guide", "document_guide"
    scores, others, own, threshold = _compared(query_guide, document_guide, blocks, names)
    threshold = threshold - margin * (1 if kind == "absolute" else jnp.abs(threshold))
    if "dq" in blocks:  # the last block, where the own pair comes once more
        rows, total = scores.shape
        own = own | (jnp.arange(rows)[:, None] == jnp.arange(total) - (total - rows))
    return (others & (scores <= threshold)) | own


def violator_mask(queries, documents, *, margin=0.0, blocks=("qd",)):
    """Violator mask: marks the negatives that the encoder itself does not yet rank below the positive.

    A pair counts where ``cos >= t[i] - margin``, t[i] the cosine of query i and its own document. It is the
    mode "hard" of GISTEmbed: ``guided_mask(guide...) & violator_mask(queries, documents)``.

    >>> queries = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> documents = jnp.array([[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]])
    >>> print(violator_mask(queries, documents))
    [[ True False  True]
     [False  True False]]

    Args:
        queries: [B, D], as the encoder that is trained sees them; normalised inside. No gradient flows.
        documents: [N, D], N >= B; row i answers query i.
        margin: number by which a negative has to stay below the positive to be left out; may be traced.
        blocks: as in :func:`info_nce`.

    Returns:
        bool [B, M] for ``where=``. A row may keep no negative; its loss is then 0, without gradient.

    Raises:
        ValueError: for an unknown block, or fewer documents than queries.

    References:
        A. Solatorio (GISTEmbed), arXiv:2402.16829, its code.
    """
    scores, others, own, threshold = _compared(queries, documents, blocks, ("queries", "documents"))
    return (others & (scores >= threshold - margin)) | own


def _compared(queries, documents, blocks, names):
    """Cosines [B, M] of the blocks, which are not self pairs, which are own, and those of the own [B, 1]."""
    check_sides(queries, documents, names)
    rows, columns = len(queries), len(documents)
    if columns < rows:
        raise ValueError(f"{names[1]}: {columns} rows for {rows} queries; row i has to answer query i")
    queries, documents = (jax.lax.stop_gradient(directions(x)) for x in (queries, documents))
    scores, others = blocks_of(queries, documents, blocks)
    own = jnp.arange(rows)[:, None] == jnp.arange(scores.shape[1])
    return scores, others, own, jnp.sum(jnp.where(own, scores, 0), axis=1, keepdims=True)


def duplicate_mask(keys, other=None, *, blocks=None):
    """Duplicate mask: marks the pairs of a batch that are not duplicates of one another.

    ``mask[i, j] = (keys[i] != other[j]) or i == j``: two rows with one key are positives of each other
    in truth, so neither may be the other's negative.

    With ``blocks``, row i is a pair of texts, query ``keys[i]`` and document ``other[i]``. Another pair j
    counts where the queries differ, the documents differ, and document j is not query i. A hard negative
    counts where it is not document i.

    >>> print(duplicate_mask(jnp.array([7, 8, 7])))
    [[ True  True False]
     [ True  True  True]
     [False  True  True]]
    >>> print(duplicate_mask(jnp.array([1, 2]), jnp.array([3, 3, 4, 3]), blocks=("qd",)))
    [[ True False  True False]
     [False  True  True False]]

    Args:
        keys: int [B], for example hashes of the texts. Keys of the host may have 64 bits where ``other``
            is of the host too.
        other: int [N], default ``keys``. With ``blocks``: of the documents, hard negatives after the first B.
        blocks: optional, as in :func:`info_nce`.

    Returns:
        bool [B, N], with ``blocks`` bool [B, M], for ``where=``; True = the pair counts.

    Raises:
        ValueError: for other shapes, or a key that JAX cannot hold mixed with keys that it holds.
    """
    given = {"keys": keys, "other": keys if other is None else other}
    read = on_device if any(isinstance(x, jax.Array) for x in given.values()) else host
    keys, other = (read(name, x) for name, x in given.items())
    check_shape("keys", keys, (None,))
    check_shape("other", other, (None,))
    if blocks is None:
        return _different(keys, other)
    rows = len(keys)
    if len(other) < rows:
        raise ValueError(f"other: {len(other)} documents for {rows} queries; row i has to answer query i")
    own, hard = other[:rows], other[rows:]
    pairs = _different(keys, keys) & _different(own, own) & _different(keys, own)
    documents = jnp.concatenate([pairs, own[:, None] != hard], axis=1)
    parts = {"qd": documents, "qq": pairs, "dd": documents, "dq": pairs}
    return jnp.concatenate([parts[name] for name in BLOCKS if name in blocks], axis=1)


def _different(keys, other):
    diagonal = jnp.arange(len(keys))[:, None] == jnp.arange(len(other))
    return (keys[:, None] != other) | diagonal
