"""Contrastive losses in subspaces: a gate chooses the coordinates in which a pair is compared."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, inner, on_device
from jaxembed.losses.contrastive import softmax_loss
from jaxembed.losses.supervised import partner_pairs


def gated_cosine(queries, keys, gate):
    """Gated cosine: compares each query with every key in the coordinates that the query's gate opens.

    ``scores[i, j] = cos(gate[i] * queries[i], gate[i] * keys[j])``, computed by two matrix products with the
    squared gate: ``sum_d g**2 q k / sqrt(sum_d g**2 q**2 * sum_d g**2 k**2)``. No array [B, N, D] is made.

    >>> queries, keys = jnp.array([[1.0, 5.0]]), jnp.array([[2.0, -3.0], [-1.0, 9.0]])
    >>> print(gated_cosine(queries, keys, jnp.array([[1.0, 0.0]])))
    [[ 1. -1.]]

    Args:
        queries: [B, D].
        keys: [N, D].
        gate: [B, D], at least 0. Its length does not matter; ones give the plain cosine.

    Returns:
        [B, N] in at least float32, within -1..1; 0 where the gate leaves nothing of one side,
        NaN where a side holds NaN.

    Raises:
        ValueError: for shapes that differ.

    References:
        "Rethinking Positive Pairs in Contrastive Learning", arXiv:2410.18200.
    """
    given = {"queries": queries, "keys": keys, "gate": gate}
    queries, keys, gate = (on_device(name, x) for name, x in given.items())
    check_shape("queries", queries, (None, None))
    check_shape("keys", keys, (None, queries.shape[1]))
    check_shape("gate", gate, queries.shape)
    wide = accumulator(queries, keys, gate)
    queries, keys, gate = (_shrunk(x.astype(wide)) for x in (queries, keys, gate))
    squares = gate**2
    own = jnp.sum(squares * queries**2, axis=1, keepdims=True)
    others = inner(squares, keys**2)
    none = (own == 0) | (others == 0)  # False for NaN, which stays
    lengths = jnp.sqrt(jnp.where(none, 1, own)) * jnp.sqrt(jnp.where(none, 1, others))
    return jnp.where(none, 0, jnp.clip(inner(squares * queries, keys) / lengths, -1, 1))


def _shrunk(x):
    """Rows divided by their largest absolute number, which cosines do not notice; squares stay finite."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=1, keepdims=True, initial=0))
    return x / jnp.where(largest > 0, largest, 1)


def arbitrary_pair_loss(
    queries, keys, gate, *, labels, partners, key_labels=None, where=None, temperature=0.1
):
    """Arbitrary-pair loss: pulls samples of two classes together, whichever they are, in a gated subspace.

    ``loss = mean over pairs (i, j) of log(1 + sum_k exp((s[i, k] - s[i, j]) / temperature))`` with s of
    :func:`gated_cosine`. Positives j of row i are all keys of its partner class. Negatives k are the keys of
    third classes: neither the row's own class nor the partner's. No positive meets another positive.

    >>> vectors, labels = jnp.eye(3), jnp.array([0, 1, 2])
    >>> partners, ones = jnp.array([1, 0, 2]), jnp.ones((3, 3))
    >>> loss = arbitrary_pair_loss(vectors, vectors, ones, labels=labels, partners=partners, temperature=1.0)
    >>> print(loss.round(3))
    0.693

    Args:
        queries: [B, K].
        keys: [N, K], of the whole batch, of another view or of a momentum encoder.
        gate: [B, K], of each row's pair of classes, as from ``encoders.pair_gate``.
        labels: int [B], the classes of the rows.
        partners: int [B], as from :func:`sample_partners`.
        key_labels: int [N], the classes of the keys. None: the keys are the rows, without a row itself.
        where: optional bool [B, N]. False takes a pair out as positive and as negative.
        temperature: positive number that divides the cosines; may be traced.

    Returns:
        A scalar in at least float32; 0 where no row has a positive, and where no row has a negative.

    Raises:
        ValueError: for shapes that differ.

    References:
        "Rethinking Positive Pairs in Contrastive Learning", arXiv:2410.18200. Its code shifts the scores of a
        row by their mean, which changes nothing but rounding.
    """
    scores = gated_cosine(queries, keys, gate)
    if key_labels is None and scores.shape[0] != scores.shape[1]:
        raise ValueError(f"key_labels: needed for {scores.shape[1]} keys of {scores.shape[0]} rows; pass [N]")
    pairs = partner_pairs(labels, partners, key_labels)
    check_shape("key_labels", pairs["where"], scores.shape)
    if where is not None:
        check_shape("where", where, scores.shape)
        pairs = {name: x & jnp.asarray(where, bool) for name, x in pairs.items()}
    each = softmax_loss(scores, temperature=temperature, compete=False, **pairs)
    counts = jnp.sum(pairs["positives"], axis=1).astype(each.dtype)
    return jnp.sum(counts * each) / jnp.maximum(jnp.sum(counts), 1)
