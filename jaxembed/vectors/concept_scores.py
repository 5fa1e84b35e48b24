"""Vectors whose coordinates have names: scores that are sums over concepts, and what made a score."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, inner, on_device, unit
from jaxembed.checks import refuse_nan


def explicit_similarity(first, second, *, weights=None, normalise=True):
    """Explicit similarity: the sum over named concepts of what two items have in common.

    ``score[i, j] = sum_c first[i, c] second[j, c] weights[c]``, of unit vectors with ``normalise``. Of sets,
    with entries 0 and 1, it is the size of their intersection; with ``normalise`` the cosine of sets.

    >>> jobs, people = jnp.array([[1.0, 1.0, 0.0]]), jnp.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    >>> print(explicit_similarity(jobs, people, normalise=False))
    [[1. 2.]]

    Args:
        first: [B, K], of ``encoders.concept_vectors``, a set of concepts as 0 and 1, or the larger of both
            where an item lists concepts.
        second: [N, K].
        weights: optional [K], at least 0: rare concepts may count more.
        normalise: divide both vectors by their lengths; an empty one scores 0.

    Returns:
        [B, N] in at least float32.

    Raises:
        ValueError: for other shapes, no concepts, or NaN; under jit NaN makes the scores of its row NaN.

    References:
        D. Bogdanova and M. Yazdani (SESA), arXiv:1708.03246; weights and normalisation are of our own design.
    """
    first, second = _pair(first, second, normalise)
    return inner(first * _weights(weights, first), second)


def explain(first, second, *, weights=None, normalise=True, top=5):
    """Explanation of a score: the concepts that contributed most to it.

    ``contribution[c] = first[c] second[c] weights[c]``; their sum over all concepts is the score of
    :func:`explicit_similarity`. Without a concept the score is lower by its contribution, exactly so without
    ``normalise``. Where entries may be negative, so may contributions: the largest come first all the same.

    >>> first, second = jnp.array([0.5, 0.0, 1.0]), jnp.array([1.0, 1.0, 1.0])
    >>> concepts, parts = explain(first, second, normalise=False, top=2)
    >>> print(concepts, parts)
    [2 0] [1.  0.5]

    Args:
        first: [..., K].
        second: [..., K], row by row.
        weights, normalise: as in :func:`explicit_similarity`.
        top: number of concepts r, at most K.

    Returns:
        ``concepts`` int32 [..., r], the largest contribution first, and ``contributions`` [..., r]. Their sum
        divided by the score tells how complete the explanation is.

    Raises:
        ValueError: for shapes that differ, no concepts, ``top`` out of range, or NaN; under jit NaN counts as
            the largest contribution.
    """
    first, second = _pair(first, second, normalise)
    check_shape("second", second, first.shape)
    if not 1 <= top <= first.shape[-1]:
        raise ValueError(f"top: {top} is outside 1..{first.shape[-1]}, the number of concepts")
    parts, concepts = jax.lax.top_k(first * second * _weights(weights, first), top)
    return concepts, parts


def top_concepts(vectors, k):
    """Sparse explicit vectors: the k largest entries of each, as an inverted index stores them.

    >>> print(*top_concepts(jnp.array([[0.1, 0.0, 0.9]]), 2))
    [[2 0]] [[0.9 0.1]]

    Args:
        vectors: [N, K].
        k: entries that are kept, at most K.

    Returns:
        ``concepts`` int32 [N, k] and ``values`` [N, k].

    Raises:
        ValueError: for no concepts, a k out of range, or NaN; under jit NaN counts as the largest entry.
    """
    vectors = jnp.asarray(vectors)
    check_shape("vectors", vectors, (None, None))
    if not vectors.shape[1]:
        raise ValueError("vectors: no concepts; pass at least one coordinate")
    if not 1 <= k <= vectors.shape[1]:
        raise ValueError(f"k: {k} is outside 1..{vectors.shape[1]}, the number of concepts")
    refuse_nan("vectors", vectors)
    values, concepts = jax.lax.top_k(vectors, k)
    return concepts, values


def sparse_similarity(queries, concepts, values):
    """Explicit similarity with sparse vectors: reads only the entries that were kept.

    ``score[b, n] = sum_s queries[b, concepts[n, s]] values[n, s]``, which is the dense score of the vectors
    with all other entries 0.

    >>> print(sparse_similarity(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[2, 0]]), jnp.array([[0.5, 1.0]])))
    [[2.5]]

    Args:
        queries: [B, K], times the weights of concepts where there are some.
        concepts: int [N, k] of :func:`top_concepts`.
        values: [N, k].

    Returns:
        [B, N] in at least float32, a score function for ``search.scan_top_k``.

    Raises:
        ValueError: for shapes that do not fit, a concept that the queries lack, or NaN; under jit such a
            concept counts nothing, and NaN makes NaN of the scores that read it.
    """
    queries, concepts, values = jnp.asarray(queries), on_device("concepts", concepts), jnp.asarray(values)
    check_shape("queries", queries, (None, None))
    check_shape("concepts", concepts, (None, None))
    check_shape("values", values, concepts.shape)
    refuse_nan("queries", queries)
    refuse_nan("values", values)
    known = (concepts >= 0) & (concepts < queries.shape[1])
    if not isinstance(known, jax.core.Tracer) and not known.all():
        raise ValueError(
            f"concepts: a number outside 0..{queries.shape[1] - 1}; pass what top_concepts returned"
        )
    values = jnp.where(known, values, 0)
    wide = queries.astype(accumulator(queries))
    return jax.lax.map(lambda q: jnp.sum(q[concepts] * values, axis=1), wide)


def esa_vectors(texts, concept_texts):
    """Explicit semantic analysis: describes a text by its word overlap with the text of every concept.

    ``esa[b, c] = <texts[b], concept_texts[c]>`` of tf-idf vectors. Nothing is learned. A text without a word
    in common with any concept has a vector of zeros.

    >>> print(esa_vectors(jnp.array([[1.0, 0.0]]), jnp.array([[2.0, 1.0], [0.0, 3.0]])))
    [[2. 0.]]

    Args:
        texts: [B, V], tf-idf of the words of each text.
        concept_texts: [K, V], the same of the texts of the concepts.

    Returns:
        [B, K] in at least float32.

    Raises:
        ValueError: for other widths, no concepts, or NaN; under jit NaN makes the entries of its row NaN.

    References:
        E. Gabrilovich and S. Markovitch, IJCAI 2007.
    """
    texts, concept_texts = jnp.asarray(texts), jnp.asarray(concept_texts)
    check_shape("texts", texts, (None, None))
    check_shape("concept_texts", concept_texts, (None, texts.shape[1]))
    if not len(concept_texts):
        raise ValueError("concept_texts: the list is empty; pass the text of at least one concept")
    refuse_nan("texts", texts)
    refuse_nan("concept_texts", concept_texts)
    return inner(texts, concept_texts)


def _pair(first, second, normalise):
    first, second = jnp.asarray(first), jnp.asarray(second)
    if not first.shape[-1]:
        raise ValueError("first: no concepts; pass at least one coordinate")
    if second.shape[-1] != first.shape[-1]:
        raise ValueError(
            f"second: {second.shape[-1]} concepts, but first has {first.shape[-1]}; pass the same list"
        )
    refuse_nan("first", first)
    refuse_nan("second", second)
    first, second = (x.astype(accumulator(x)) for x in (first, second))
    return (unit(first), unit(second)) if normalise else (first, second)


def _weights(weights, first):
    if weights is None:
        return jnp.ones((), first.dtype)
    weights = jnp.asarray(weights, first.dtype)
    check_shape("weights", weights, first.shape[-1:])
    refuse_nan("weights", weights)
    return weights
