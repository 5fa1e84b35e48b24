"""Losses by class labels: which rows of a batch are positives of one another, softmax over some classes."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import check_shape, host
from jaxembed.losses.contrastive import softmax_loss


def label_pairs(labels):
    """Supervised contrastive pairs: rows of equal labels are positives of one another.

    ``positives[i, j] = labels[i] == labels[j] and i != j``. No row is compared with itself.

    >>> pairs = label_pairs(jnp.array([7, 8, 7]))
    >>> print(pairs["positives"].astype(int)[0], pairs["where"].astype(int)[0])
    [0 0 1] [0 1 1]
    >>> from jaxembed.losses import info_nce
    >>> print(info_nce(jnp.eye(3), jnp.eye(3), temperature=1.0, **pairs).round(3))
    [0.693 0.    0.693]

    Args:
        labels: [B], whole numbers; on the host they may have 64 bits or be texts.

    Returns:
        {"positives": bool [B, B], "where": bool [B, B]}, options of :func:`info_nce` of vectors with
        themselves and of :func:`softmax_loss`. A row whose label comes once has no positive and the loss 0.

    Raises:
        ValueError: for labels of another shape.

    References:
        P. Khosla et al., Supervised Contrastive Learning, arXiv:2004.11362.
    """
    labels = labels if isinstance(labels, jax.Array) else host("labels", labels)
    check_shape("labels", labels, (None,))
    others = ~jnp.eye(len(labels), dtype=bool)
    return {"positives": jnp.asarray(labels[:, None] == labels) & others, "where": others}


def class_loss(logits, labels, *, classes=None, masked="drop"):
    """Softmax cross-entropy over classes, of which some are masked in training.

    ``loss[n] = -log softmax(logits[n])[labels[n]]``. A masked class is left out of the softmax ("drop"), or
    keeps the logit 0 ("zero"), as in the code of ViLD. With R masked classes and Z the sum of exponentials
    of the others, "zero" is larger by ``log(1 + R / Z)``.

    >>> logits, labels, classes = jnp.zeros((1, 3)), jnp.array([0]), jnp.array([True, True, False])
    >>> print(class_loss(logits, labels, classes=classes).astype("float16"))
    [0.6934]
    >>> print(class_loss(logits, labels, classes=classes, masked="zero").astype("float16"))
    [1.099]

    Args:
        logits: [N, C], such as those of ``encoders.cosine_logits`` with background first.
        labels: int [N] in 0..C-1, of classes that are not masked. Another number gives the loss 0.
        classes: optional bool [C]; False masks a class, for all rows.
        masked: "drop" or "zero".

    Returns:
        [N], in at least float32.

    Raises:
        ValueError: for another word, or shapes that do not fit.

    References:
        X. Gu et al., ViLD, arXiv:2104.13921; the zeros are its code's.
    """
    if masked not in ("drop", "zero"):
        raise ValueError(f"masked: {masked!r}; choose 'drop' or 'zero'")
    logits = jnp.asarray(logits)
    check_shape("logits", logits, (None, None))
    if classes is None:
        return softmax_loss(logits, positives=labels)
    check_shape("classes", classes, logits.shape[1:])
    where = jnp.broadcast_to(jnp.asarray(classes, bool), logits.shape)
    if masked == "drop":
        return softmax_loss(logits, positives=labels, where=where)
    return softmax_loss(jnp.where(where, logits, 0), positives=labels)
