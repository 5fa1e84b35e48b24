"""Losses of items that carry sets of labels: which pairs count, which concepts are there, what is moved."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, inner, unit


def shared_label_mask(first, second=None):
    """Label overlap mask: hides pairs that share a label, so neither is a negative of the other.

    ``keep[i, j] = no label is in both first[i] and second[j]``.

    >>> print(shared_label_mask(jnp.array([[1, 0], [1, 1], [0, 1]])))
    [[False False  True]
     [False False False]
     [ True False False]]

    Args:
        first: [B, L], 1 where row i has the label.
        second: [N, L]; default ``first``.

    Returns:
        bool [B, N] for ``where=`` of :func:`info_nce`, which keeps every row's own positive.

    Raises:
        ValueError: for other shapes.

    References:
        M. Ostendorff et al., arXiv:2203.14541, train without it.
    """
    first = jnp.asarray(first)
    second = first if second is None else jnp.asarray(second)
    check_shape("first", first, (None, None))
    check_shape("second", second, (None, first.shape[1]))
    return inner(first.astype(jnp.float32), second.astype(jnp.float32)) == 0


def retrofit_loss(moved, partners, original, *, margin=0.3, preserve=0.1, where=None):
    """Attract loss of retrofitting: a moved vector comes nearer to its partner than to any other.

    ``loss[i] = max(0, margin - cos(moved[i], partners[i]) + max_{j != i} cos(moved[i], partners[j])) +
    preserve * |moved[i] - original[i]|**2``. The nearest other partner of the batch is the negative.

    >>> x = jnp.eye(2)
    >>> print(retrofit_loss(x, x[::-1], x, margin=0.5))
    [1.5 1.5]

    Args:
        moved: [B, D], of ``vectors.retrofit``.
        partners: [B, D], moved vectors that belong to them.
        original: [B, D], the fixed vectors of ``moved``.
        margin: number, by which the partner has to be nearer.
        preserve: weight of the distance from the fixed vectors.
        where: optional bool [B, B]; False is not a negative.

    Returns:
        [B], in at least float32.

    References:
        A design of our own, after G. Glavas and I. Vulic, ACL 2018.
    """
    moved, partners, original = (jnp.asarray(x) for x in (moved, partners, original))
    check_shape("partners", partners, moved.shape)
    check_shape("original", original, moved.shape)
    cosines = inner(unit(moved.astype(accumulator(moved))), unit(partners.astype(accumulator(partners))))
    others = ~jnp.eye(len(moved), dtype=bool)
    others = others if where is None else others & jnp.asarray(where, bool)
    nearest = jnp.max(jnp.where(others, cosines, -jnp.inf), axis=1, initial=-jnp.inf)
    attract = jnp.maximum(margin - jnp.diagonal(cosines) + nearest, 0)
    return attract + preserve * jnp.sum((moved - original) ** 2, axis=1)


def concept_loss(logits, labels, *, unlabelled=0.1, where=None):
    """Concept loss: multi-label cross-entropy in which a label that is not listed counts little.

    ``loss[i] = mean over c of -labels log sigmoid(l) - unlabelled (1 - labels) log(1 - sigmoid(l))``. Lists
    of concepts are seldom complete: what is missing is unknown rather than wrong. Where short explanations
    matter, add the mean of the explicit vectors, times a small weight.

    >>> print(concept_loss(jnp.zeros((1, 2)), jnp.array([[1, 0]]), unlabelled=0.5).astype("float16"))
    [0.52]

    Args:
        logits: [B, K]; or [B, S], those of S sampled concepts, where K is large.
        labels: of the same shape, 1 where the item lists the concept.
        unlabelled: weight of the zeros; 1 takes them for negatives.
        where: optional bool [B]: items that list any concepts at all; the others have loss 0.

    Returns:
        [B], in at least float32.

    Raises:
        ValueError: for labels of another shape, or no concepts.

    References:
        For SESA, D. Bogdanova and M. Yazdani, arXiv:1708.03246. The loss is a design of our own.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    check_shape("logits", logits, (None, None))
    check_shape("labels", labels, logits.shape)
    if not logits.shape[1]:
        raise ValueError("logits: no concepts; pass at least one column")
    x = logits.astype(accumulator(logits))
    each = jnp.where(labels > 0, jax.nn.softplus(-x), unlabelled * jax.nn.softplus(x))
    loss = jnp.mean(each, axis=1)
    return loss if where is None else jnp.where(where, loss, 0)
