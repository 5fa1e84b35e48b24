"""Labels -> which rows of a batch are positives of one another."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import check_shape, host


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
