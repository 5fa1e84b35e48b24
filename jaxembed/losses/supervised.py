"""Losses by class labels: which rows of a batch are positives of one another, softmax over some classes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, host, on_device
from jaxembed.losses.contrastive import softmax_loss

MODES = ("arbitrary", "identical", "distinct")


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


def sample_partners(key, labels, classes, *, mode="arbitrary", weights=None):
    """Partner classes: draws for each row the class in which its positives are looked for.

    - ``arbitrary``: the labels of the batch in a random order, so any two classes may meet;
    - ``identical``: the row's own class;
    - ``distinct``: one of the other classes, evenly.

    With ``weights`` the class is drawn with a chance proportional to ``weights[labels[i]]``. The inverse of 1
    plus a distance of classes, to some power, draws near ones more often.

    >>> labels = jnp.array([0, 1, 2, 2])
    >>> print(sample_partners(jax.random.key(0), labels, 3, mode="identical"))
    [0 1 2 2]
    >>> print(jnp.any(sample_partners(jax.random.key(0), labels, 3, mode="distinct") == labels))
    False

    Args:
        key: random key.
        labels: int [B] in 0..classes-1.
        classes: the number C of classes, at least 2 for "distinct".
        mode: one of the three above.
        weights: optional [C, C], not negative, a positive number in every row. It stands in the place of
            ``mode``.

    Returns:
        int32 [B].

    Raises:
        ValueError: for an unknown mode, too few classes, or weights of another shape or without a sum.

    References:
        "Rethinking Positive Pairs in Contrastive Learning", arXiv:2410.18200. The distances there are those
        of WordNet.
    """
    labels = on_device("labels", labels).astype(jnp.int32)
    check_shape("labels", labels, (None,))
    if weights is not None:
        check_shape("weights", weights, (classes, classes))
        if isinstance(weights, np.ndarray) and not ((weights >= 0).all() and (weights.sum(axis=1) > 0).all()):
            raise ValueError("weights: a row is negative or sums to 0; give every class some partner")
        return jax.random.categorical(key, jnp.log(jnp.asarray(weights))[labels]).astype(jnp.int32)
    if mode not in MODES:
        raise ValueError(f"mode: {mode!r} is unknown; choose one of {', '.join(MODES)}")
    if mode == "identical":
        return labels
    if mode == "arbitrary":
        return jax.random.permutation(key, labels)
    if classes < 2:
        raise ValueError(f"classes: {classes} class has no distinct partner; give at least 2")
    return (labels + jax.random.randint(key, labels.shape, 1, classes)) % classes


def partner_pairs(labels, partners, key_labels=None):
    """Pairs of partner classes: a row's positives are the keys of its partner class.

    ``positives[i, j] = key_labels[j] == partners[i]``. Keys of the row's own class are not its negatives
    either: ``where[i, j] = positives[i, j] or key_labels[j] != labels[i]``.

    >>> pairs = partner_pairs(jnp.array([0, 1]), jnp.array([1, 1]), jnp.array([0, 1, 2]))
    >>> print(pairs["positives"].astype(int).tolist(), pairs["where"].astype(int).tolist())
    [[0, 1, 0], [0, 1, 0]] [[0, 1, 1], [1, 1, 1]]

    Args:
        labels: int [B], the classes of the rows.
        partners: int [B], as from :func:`sample_partners`.
        key_labels: int [N], the classes of the keys. None: the keys are the rows themselves, and no row is a
            key of itself.

    Returns:
        {"positives": bool [B, N], "where": bool [B, N]}, options of :func:`softmax_loss`. A row whose partner
        class has no key has no positive and the loss 0.

    Raises:
        ValueError: for shapes that differ.

    References:
        "Rethinking Positive Pairs in Contrastive Learning", arXiv:2410.18200. There a row with one view is a
        key of itself; pass its labels as ``key_labels`` to have it so.
    """
    labels, partners = on_device("labels", labels), on_device("partners", partners)
    check_shape("labels", labels, (None,))
    check_shape("partners", partners, labels.shape)
    keys = labels if key_labels is None else on_device("key_labels", key_labels)
    check_shape("key_labels", keys, (None,))
    positives, where = partners[:, None] == keys, labels[:, None] != keys
    if key_labels is None:
        others = ~jnp.eye(len(labels), dtype=bool)
        positives, where = positives & others, where & others
    return {"positives": positives, "where": positives | where}


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


def one_vs_rest_loss(logits, labels, *, positive_weight=None):
    """One-vs-rest loss: a binary cross-entropy for each class, so that classes need not compete.

    ``loss[n] = -sum over c of w y log s + (1 - y) log(1 - s)`` with ``s = sigmoid(logits[n, c])`` and y 1 for
    the row's classes. The weight w makes up for the classes that a row is not of.

    >>> print(one_vs_rest_loss(jnp.zeros((1, 3)), jnp.array([1])).astype("float16"))
    [2.773]
    >>> print(one_vs_rest_loss(jnp.zeros((1, 3)), jnp.array([[True, True, False]])).astype("float16"))
    [2.08]

    Args:
        logits: [N, C].
        labels: int [N], a class of each row; or bool [N, C], any number of them.
        positive_weight: float; None is C - 1 for one class per row, and 1 otherwise.

    Returns:
        [N], in at least float32.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        The loss with which PatternNet, arXiv:1703.06339, is said to tune its channels; we know the paper by
        its abstract, and the weight is our choice.
    """
    logits = jnp.asarray(logits)
    check_shape("logits", logits, (None, None))
    labels = on_device("labels", labels)
    several = labels.ndim == 2
    check_shape("labels", labels, logits.shape if several else logits.shape[:1])
    classes = logits.shape[1]
    own = labels.astype(bool) if several else jnp.arange(classes) == labels[:, None]
    weight = (1.0 if several else classes - 1.0) if positive_weight is None else positive_weight
    wide = logits.astype(accumulator(logits))
    each = jnp.where(own, weight * jax.nn.softplus(-wide), jax.nn.softplus(wide))
    return jnp.sum(each, axis=1)
