"""Losses that make a student agree with a teacher: its scores, its margins or its features."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, unit
from jaxembed.checks import check_temperature


def score_kl(scores, *, teacher, where=None, temperature=1.0, stop_teacher=True):
    """Score distillation: asks the student to spread its probability over candidates as the teacher does.

    ``loss[i] = KL(p || q) = sum_j p[j] (log p[j] - log q[j])`` with ``p = softmax(teacher[i] / temperature)``
    and ``q = softmax(scores[i] / temperature)`` over the pairs that count. No factor temperature**2 is
    applied: multiply where gradients shall keep their size.

    >>> scores, teacher = jnp.array([[0.0, 0.0]]), jnp.log(jnp.array([[0.75, 0.25]]))
    >>> print(score_kl(scores, teacher=teacher).round(4))
    [0.1308]

    Args:
        scores: [B, M], the student's; higher is better.
        teacher: [B, M], the teacher's scores of the same pairs, before any temperature. A pair that it
            scores -inf has probability 0 and adds 0.
        where: optional bool [B, M]. False drops a pair from both softmaxes; it may hold anything.
        temperature: positive number that divides both; may be traced.
        stop_teacher: True sends no gradient to the teacher.

    Returns:
        [B], at least 0, in at least float32; 0 for a row of which nothing counts.

    References:
        G. Hinton et al., arXiv:1503.02531.
    """
    scores, teacher = jnp.asarray(scores), jnp.asarray(teacher)
    if scores.ndim != 2 or scores.shape != teacher.shape:
        raise ValueError(f"teacher: {teacher.shape} for scores {scores.shape}; pass both as [B, M]")
    where = jnp.ones(scores.shape, bool) if where is None else jnp.asarray(where, bool)
    check_shape("where", where, scores.shape)
    check_temperature(temperature)
    if stop_teacher:
        teacher = jax.lax.stop_gradient(teacher)
    wide = accumulator(scores, teacher)
    student, teacher = (_log_softmax(x.astype(wide), where, temperature) for x in (scores, teacher))
    possible = where & (teacher != -jnp.inf)
    gaps = jnp.where(possible, teacher, 0) - jnp.where(possible, student, 0)
    return jnp.sum(jnp.where(possible, jnp.exp(teacher) * gaps, 0), axis=1)


def vector_kl(vectors, *, teacher, temperature=1.0, stop_teacher=True):
    """KL alignment of vectors: asks a vector for the profile that the teacher's has over its coordinates.

    ``loss[i] = KL(softmax(teacher[i] / temperature) || softmax(vectors[i] / temperature))``, the softmaxes
    taken over the D coordinates. Pass vectors before normalisation: the softmax of unit vectors is nearly
    uniform. It aligns shallow layers with the last one:

        over_layers(lambda v: vector_kl(v, teacher=last[:, : v.shape[1]], temperature=0.3), grid)(layers)

    >>> vectors = jnp.array([[0.0, 0.0]])
    >>> print(vector_kl(vectors, teacher=jnp.log(jnp.array([[0.75, 0.25]]))).round(4))
    [0.1308]

    Args:
        vectors: [B, D], the student's.
        teacher: [B, D]; the loss is 0 where it differs from ``vectors`` by a constant only.
        temperature: positive number that divides both; may be traced.
        stop_teacher: True sends no gradient to the teacher. The code of AnglE and that of Starbucks for
            similarity leave the teacher free; False gives theirs.

    Returns:
        [B], at least 0, in at least float32. The mean over B is torch's "batchmean".

    References:
        X. Li et al., 2D Matryoshka Sentence Embeddings, arXiv:2402.14776; S. Zhuang et al., Starbucks,
        arXiv:2410.13230.
    """
    return score_kl(vectors, teacher=teacher, temperature=temperature, stop_teacher=stop_teacher)


def token_kl(tokens, *, teacher, mask, temperature=1.0, stop_teacher=True):
    """Token-level distillation: asks every token's state for the profile of the teacher's state of it.

    ``loss[b] = mean over t with mask[b, t] of vector_kl(tokens[b, t], teacher=teacher[b, t])``

    >>> tokens, teacher = jnp.zeros((1, 2, 2)), jnp.log(jnp.array([[[0.75, 0.25], [0.9, 0.1]]]))
    >>> print(token_kl(tokens, teacher=teacher, mask=jnp.array([[True, False]])).round(4))
    [0.1308]

    Args:
        tokens: [B, T, D], the student's, of :func:`~jaxembed.encoders.transformer` for example.
        teacher: [B, T, D], of the same tokens: the last layer's, or those of another encoder of this width
            that has the same tokenizer.
        mask: bool [B, T], True = real token. Padding may hold anything.
        temperature: positive number that divides both; may be traced.
        stop_teacher: True sends no gradient to the teacher.

    Returns:
        [B], at least 0, in at least float32; 0 for a row without tokens.

    Raises:
        ValueError: for shapes that differ.

    References:
        X. Li et al., 2D Matryoshka Sentence Embeddings, arXiv:2402.14776: the code of AnglE adds it to the KL
        of pooled vectors where another, frozen encoder teaches.
    """
    tokens, teacher = jnp.asarray(tokens), jnp.asarray(teacher)
    check_shape("tokens", tokens, (None,) * 3)
    check_shape("teacher", teacher, tokens.shape)
    check_shape("mask", mask, tokens.shape[:2])
    mask = jnp.asarray(mask, bool)
    flat = [jnp.where(mask[..., None], x, 0).reshape(-1, x.shape[-1]) for x in (tokens, teacher)]
    options = {"temperature": temperature, "stop_teacher": stop_teacher}
    each = vector_kl(flat[0], teacher=flat[1], **options).reshape(mask.shape)
    return jnp.sum(jnp.where(mask, each, 0), axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1)


def vector_distance(vectors, *, teacher, where=None, kind="l1", normalise=True):
    """Embedding distillation: asks a vector to be the teacher's.

    ``loss[i] = sum_d |u[i, d] - t[i, d]|`` ("l1"), ``sum_d (u[i, d] - t[i, d])**2`` ("l2") or
    ``1 - cos(u[i], t[i])`` ("cosine"), with u and t the rows of both at length 1. The sum is over
    coordinates: a mean over D would ask for D times the weight beside another loss.

    >>> vectors, teacher = jnp.array([[2.0, 0.0], [5.0, 5.0]]), jnp.array([[0.0, 3.0], [0.0, 0.0]])
    >>> print(vector_distance(vectors, teacher=teacher, where=jnp.array([True, False])))
    [2. 0.]

    The mean over the rows that count is ``loss.sum() / jnp.maximum(where.sum(), 1)``, the loss of ViLD-image.

    Args:
        vectors: [N, D], the student's.
        teacher: [N, D]; it gets no gradient.
        where: optional bool [N]. False, for padding or a box that was cropped away, gives 0; it may hold
            anything.
        kind: "l1", "l2" or "cosine".
        normalise: False takes the vectors of "l1" and "l2" as they are.

    Returns:
        [N], at least 0, in at least float32. Of unit vectors "l1" is at most ``2 sqrt(D)``.

    Raises:
        ValueError: for an unknown kind, or shapes that differ.

    References:
        X. Gu et al., ViLD, arXiv:2104.13921.
    """
    if kind not in ("l1", "l2", "cosine"):
        raise ValueError(f"kind: {kind!r}; choose 'l1', 'l2' or 'cosine'")
    vectors, teacher = jnp.asarray(vectors), jax.lax.stop_gradient(jnp.asarray(teacher))
    check_shape("vectors", vectors, (None, None))
    check_shape("teacher", teacher, vectors.shape)
    where = jnp.ones(len(vectors), bool) if where is None else jnp.asarray(where, bool)
    check_shape("where", where, (len(vectors),))
    wide = accumulator(vectors, teacher)
    both = (jnp.where(where[:, None], x, 0).astype(wide) for x in (vectors, teacher))
    student, teacher = (unit(x) if normalise or kind == "cosine" else x for x in both)
    if kind == "cosine":
        return jnp.where(where, 1 - jnp.sum(student * teacher, axis=1), 0)
    gaps = student - teacher
    return jnp.sum(jnp.abs(gaps) if kind == "l1" else gaps**2, axis=1)


def margin_mse(queries, documents, negatives, *, teacher, where=None):
    """Margin MSE: asks that a document beats each negative by the margin that the teacher sees.

    ``loss[i] = mean_k ((q.d - q.n[k]) - (teacher[i, 0] - teacher[i, 1 + k]))**2`` over the negatives k that
    count, with inner products of the vectors as they are: normalise them first for cosines.

    >>> queries, documents, negatives = jnp.ones((1, 2)), jnp.ones((1, 2)), jnp.zeros((1, 1, 2))
    >>> print(margin_mse(queries, documents, negatives, teacher=jnp.array([[3.0, 2.0]])))
    [1.]

    Args:
        queries: [B, D].
        documents: [B, D], row i answers query i.
        negatives: [B, K, D], the negatives of each query.
        teacher: [B, 1 + K], the teacher's scores of the document and then of the negatives. It gets no
            gradient.
        where: optional bool [B, K]. False leaves a negative out; it may hold anything.

    Returns:
        [B], in at least float32; 0 where no negative counts.

    References:
        S. Hofstätter et al., arXiv:2010.02666.
    """
    check_shape("queries", queries, (None, None))
    check_shape("negatives", negatives, (None, None, None))
    rows, size = np.shape(negatives)[:2]
    for name, array, shape in (
        ("documents", documents, np.shape(queries)),
        ("negatives", negatives, (rows, size, np.shape(queries)[-1])),
        ("teacher", teacher, (len(queries), 1 + size)),
    ):
        if np.shape(array) != shape:
            raise ValueError(f"{name}: {np.shape(array)}; the queries and negatives ask for {shape}")
    where = jnp.ones((rows, size), bool) if where is None else jnp.asarray(where, bool)
    check_shape("where", where, (rows, size))
    queries, documents = jnp.asarray(queries), jnp.asarray(documents)
    negatives = jnp.where(where[..., None], jnp.asarray(negatives), 0)
    products = {"precision": "highest", "preferred_element_type": accumulator(queries, documents, negatives)}
    own = jnp.einsum("bd,bd->b", queries, documents, **products)
    others = jnp.einsum("bd,bkd->bk", queries, negatives, **products)
    teacher = jax.lax.stop_gradient(jnp.asarray(teacher))
    teacher = teacher.astype(accumulator(teacher))
    gaps = (own[:, None] - others) - (teacher[:, :1] - teacher[:, 1:])
    squares = jnp.where(where, jnp.where(where, gaps, 0) ** 2, 0)
    return jnp.sum(squares, axis=1) / jnp.maximum(jnp.sum(where, axis=1), 1)


def compression_target(vectors, size):
    """ESE compression target: the short vectors that the first coordinates are to become.

    ``target = vectors @ (U[:, :size] * S[:size])`` with ``U S V' = softmax(vectors' vectors / sqrt(D))``, a
    softmax over the rows of a [D, D] matrix. That matrix says which coordinates go together in the batch. No
    gradient flows back. The sign of each column of U makes its largest entry positive.

    >>> print(compression_target(jnp.array([[1.0, 0.0], [0.0, 0.0]]), 1).shape)
    (2, 1)

    Args:
        vectors: [..., B, D], pooled and not normalised, for example [L, B, D] for L layers. All leading axes
            share one call of LAPACK: on a CPU several at once can wait for one another for ever.
        size: how many coordinates are kept, at most D.

    Returns:
        [..., B, size], in at least float32.

    Raises:
        ValueError: for a size outside 1..D.

    References:
        X. Li et al., ESE: Espresso Sentence Embeddings, arXiv:2402.14776v2.
    """
    return compression_targets([vectors], size)[0]


def compression_targets(vectors, size):
    """The targets of :func:`compression_target` for several arrays [..., B, D], by one call of LAPACK."""
    vectors = [jax.lax.stop_gradient(jnp.asarray(x)) for x in vectors]
    together = []
    for x in vectors:
        check_shape("vectors", x, (None,) * max(2, x.ndim))
        if not 1 <= size <= x.shape[-1]:
            raise ValueError(f"size: {size} is outside 1..{x.shape[-1]}, the width of the vectors")
        x = x.astype(accumulator(x))
        gram = jnp.einsum("...bd,...be->...de", x, x, precision="highest") / jnp.sqrt(x.shape[-1])
        together.append(jax.nn.softmax(gram, axis=-1))
    left, values, _ = jnp.linalg.svd(jnp.stack(together))
    largest = jnp.take_along_axis(left, jnp.argmax(jnp.abs(left), axis=-2, keepdims=True), axis=-2)
    bases = (left * jnp.where(largest < 0, -1, 1) * values[..., None, :])[..., :size]
    return [
        jnp.einsum("...bd,...dk->...bk", x.astype(basis.dtype), basis, precision="highest")
        for x, basis in zip(vectors, bases, strict=True)
    ]


def compression_loss(vectors, *, target, temperature=1.0):
    """ESE compression loss: pulls short vectors to a target, by value and by profile.

    ``loss[i] = mean_k (vectors[i, k] - target[i, k])**2 + temperature * vector_kl(vectors, target)[i]``

    >>> vectors = jnp.array([[1.0, 0.0]])
    >>> print(compression_loss(vectors, target=vectors), compression_loss(vectors, target=vectors + 1))
    [0.] [1.]

    Args:
        vectors: [B, K], the first K coordinates of a layer's vectors.
        target: [B, K] of :func:`compression_target`; it gets no gradient.
        temperature: factor of the second term; its softmaxes are taken at temperature 1.

    Returns:
        [B], in at least float32.

    References:
        As for :func:`compression_target`.
    """
    divergence = vector_kl(vectors, teacher=target)
    vectors, target = jnp.asarray(vectors), jax.lax.stop_gradient(jnp.asarray(target))
    gaps = vectors.astype(divergence.dtype) - target.astype(divergence.dtype)
    return jnp.mean(gaps**2, axis=1) + temperature * divergence


def _log_softmax(x, where, temperature):
    """Over the last axis and the pairs that count; 0 for the others, and in rows without any."""
    x = jnp.where(where, x, 0) / temperature
    top = jax.lax.stop_gradient(jnp.max(jnp.where(where, x, -jnp.inf), axis=1, keepdims=True))
    gaps = jnp.where(where, x - jnp.where(jnp.isfinite(top), top, 0), 0)
    total = jnp.sum(jnp.where(where, jnp.exp(gaps), 0), axis=1, keepdims=True)
    return jnp.where(where, gaps - jnp.log(jnp.where(total > 0, total, 1)), 0)
