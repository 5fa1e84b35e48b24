"""Softmax over the items of a batch, corrected for how often they come; spread-out; counts of a stream."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, inner, on_device, unit
from jaxembed.checks import check_temperature, refuse_nan
from jaxembed.hashing import mix
from jaxembed.losses.contrastive import info_nce, softmax_loss
from jaxembed.losses.masks import duplicate_mask

SPREADS = ("softmax", "squares", "moments")


def sampled_softmax(
    queries, items, *, ids=None, log_q=None, where=None, positives=None, temperature=0.1, cosine=True
):
    """Batch softmax: asks each query to pick its own item out of a batch that popular items crowd.

    ``loss[i] = softmax_loss(scores - log_q)[i]`` with ``scores = cos(queries[i], items[j]) / temperature``.
    A batch drawn from a log holds item j with probability q[j]. Without the correction, the softmax
    pushes popular items down because they come so often as negatives: scores tend to ``log p(j | i) / q[j]``.
    With it they tend to ``log p(j | i)``, in which popular items are ahead. Searching takes the scores alone.

    >>> vectors = jnp.eye(2)
    >>> print(sampled_softmax(vectors, vectors, temperature=1.0).astype("float16"))
    [0.3132 0.3132]
    >>> log_q = jnp.log(jnp.array([0.5, 0.1]))
    >>> print(sampled_softmax(vectors, vectors, temperature=1.0, log_q=log_q).astype("float16"))
    [1.044 0.071]

    Args:
        queries: [B, D].
        items: [N, D]. Without ``positives``, row i answers query i (N >= B); all others are negatives.
        ids: optional int [N], which item a row is. Another row with the id of the query's own item, an
            accidental hit, does not count.
        log_q: optional [N], the logarithm of the probability that a batch holds the item: of its share of
            the log, or of :func:`log_frequency`. A constant added to all changes nothing.
        where: optional bool [B, N]. False drops a pair; positives are always kept.
        positives: optional int [B], places among the items; with it ``ids`` are compared with those there.
        temperature: positive number that divides the scores; may be traced. Cosines ask for one far below 1.
        cosine: False takes inner products, without normalising.

    Returns:
        [B], one loss per query, in at least float32.

    Raises:
        ValueError: for shapes that do not fit, or fewer items than queries without ``positives``.

    References:
        X. Yi et al., doi:10.1145/3298689.3346996 (the correction); T. Yao et al., arXiv:2007.12865, whose
        main loss is this one without ``log_q`` and ``ids``, after public write-ups of the paper.
    """
    queries, items = on_device("queries", queries), on_device("items", items)
    check_shape("queries", queries, (None, None))
    check_shape("items", items, (None, queries.shape[1]))
    check_temperature(temperature)
    rows, columns = len(queries), len(items)
    if positives is None and columns < rows:
        raise ValueError(f"items: {columns} rows for {rows} queries; give positives or a row per query")
    if cosine:
        queries, items = (unit(x.astype(accumulator(x))) for x in (queries, items))
    scores = inner(queries, items) / temperature
    if log_q is not None:
        check_shape("log_q", log_q, (columns,))
        refuse_nan("log_q", jnp.asarray(log_q))
        scores = scores - jnp.asarray(log_q)
    if ids is not None:
        ids = on_device("ids", ids)
        check_shape("ids", ids, (columns,))
        kept = ids[jnp.arange(rows) if positives is None else jnp.asarray(positives)][:, None] != ids
        where = kept if where is None else kept & jnp.asarray(where, bool)
    return softmax_loss(scores, positives=positives, where=where)


def spread_out(vectors, *, ids=None, where=None, kind="softmax", temperature=0.1):
    """Spread-out regulariser: pushes the vectors of a batch away from one another.

    "softmax" is the contrastive loss of two views where nothing is hidden:
    ``loss[i] = -log(e / (e + sum_{j != i} exp(cos(i, j) / temperature)))`` with ``e = exp(1 / temperature)``.
    "squares": ``loss[i]`` is the mean over j != i of ``cos(i, j)**2``.
    "moments" is the classic one, which asks for the moments of random directions: ``m**2 + max(0, s - 1 /
    D)``, with m the mean of all cosines of two rows and s the mean of their squares.

    >>> vectors = jnp.eye(2)
    >>> print(spread_out(vectors, temperature=1.0).astype("float16"), spread_out(vectors, kind="squares"))
    [0.3132 0.3132] [0. 0.]

    Args:
        vectors: [B, D], normalised inside.
        ids: optional int [B], which item a row is; rows of one item do not push each other.
        where: optional bool [B, B]; False drops a pair.
        kind: "softmax", "squares" or "moments".
        temperature: positive number that divides the cosines of "softmax"; may be traced.

    Returns:
        [B], in at least float32; 0 where no other row counts. "moments" is one number of the batch, B times.

    Raises:
        ValueError: for another kind, shapes that do not fit, or NaN; under jit NaN makes the loss NaN of
            every row that is pushed from it.

    References:
        T. Yao et al., arXiv:2007.12865 ("softmax"); X. Zhang et al., arXiv:1708.06320 ("moments"), as
        GlobalOrthogonalRegularizationLoss of sentence-transformers has it.
    """
    if kind not in SPREADS:
        raise ValueError(f"kind={kind!r}: choose one of {SPREADS}")
    vectors = on_device("vectors", vectors)
    check_shape("vectors", vectors, (None, None))
    refuse_nan("vectors", vectors)
    rows = len(vectors)
    kept = jnp.ones((rows, rows), bool) if where is None else jnp.asarray(where, bool)
    check_shape("where", kept, (rows, rows))
    if ids is not None:
        check_shape("ids", ids, (rows,))
        kept = kept & duplicate_mask(ids)
    if kind == "softmax":
        return info_nce(vectors, vectors, where=kept, temperature=temperature)
    directions = unit(vectors.astype(accumulator(vectors)))
    kept = kept & ~jnp.eye(rows, dtype=bool)
    cosines = jnp.where(kept, inner(directions, directions), 0)
    squares, counts = jnp.sum(cosines**2, axis=1), jnp.sum(kept, axis=1)
    if kind == "squares":
        return squares / jnp.maximum(counts, 1).astype(squares.dtype)
    pairs = jnp.maximum(jnp.sum(counts), 1).astype(squares.dtype)
    second = jax.nn.relu(jnp.sum(squares) / pairs - 1 / vectors.shape[1])
    return jnp.broadcast_to((jnp.sum(cosines) / pairs) ** 2 + second, (rows,))


def init_frequency(size, *, hashes=1, gap=100.0):
    """Streaming frequency estimate: the state before anything has come.

    >>> state = init_frequency(4)
    >>> print(state["gap"], state["last"], state["step"])
    [[100. 100. 100. 100.]] [[0 0 0 0]] 0

    Args:
        size: number of slots. With one hash, id i has slot ``i % size``: ids below ``size`` never collide.
        hashes: number of hashes; several let fewer slots serve many ids.
        gap: steps between two batches that hold an item, before it has come.

    Returns:
        {"gap": float32 [hashes, size], "last": int32 [hashes, size], "step": int32 scalar}.

    Raises:
        ValueError: for a size or number of hashes below 1, or a gap below 1.
    """
    if min(size, hashes) < 1 or not gap >= 1:
        raise ValueError(f"size={size}, hashes={hashes}, gap={gap}: give at least 1 each")
    shape = hashes, size
    return {
        "gap": jnp.full(shape, gap, jnp.float32),
        "last": jnp.zeros(shape, jnp.int32),
        "step": jnp.int32(0),
    }


def update_frequency(state, ids, *, rate=0.01):
    """Streaming frequency estimate: takes in the items of one batch.

    At step t, for every slot of an item of the batch: ``gap <- (1 - rate) gap + rate (t - last)``, then
    ``last <- t``. A pure function, so the state can travel as ``extra`` of ``train.fit``.

    >>> state = init_frequency(4)
    >>> for _ in range(1000):
    ...     state = update_frequency(state, jnp.array([2, 2]))
    >>> print(log_frequency(state, jnp.array([2, 3])).round(1))
    [-0.  -4.6]

    Args:
        state: of :func:`init_frequency`.
        ids: int [N], at least 0; an item that comes twice counts once.
        rate: weight of the newest gap, within 0..1; may be traced.

    Returns:
        The new state.

    References:
        X. Yi et al., doi:10.1145/3298689.3346996, algorithm 2 and its version with several hashes, here from
        memory of the paper. Its arrays A and B are "last" and "gap"; it does not say how B begins.
    """
    step = state["step"] + 1
    slots = _slots(state, ids)
    row = jnp.arange(len(slots))[:, None]
    since = (step - state["last"][row, slots]).astype(jnp.float32)
    gap = (1 - rate) * state["gap"][row, slots] + rate * since
    return {
        "gap": state["gap"].at[row, slots].set(gap),
        "last": state["last"].at[row, slots].set(step),
        "step": step,
    }


def log_frequency(state, ids):
    """Streaming frequency estimate: the logarithm of the probability that a batch holds each item.

    ``log_q = -log(max over hashes of gap)``: a collision only shortens a gap, so the longest is the best.

    >>> print(log_frequency(init_frequency(4, gap=10.0), jnp.array([0, 9])).round(2))
    [-2.3 -2.3]

    Args:
        state: of :func:`init_frequency` or :func:`update_frequency`.
        ids: int [N], at least 0.

    Returns:
        float32 [N], at most 0, for ``sampled_softmax(log_q=)``.

    Raises:
        ValueError: for ids that are not integers, or negative; under jit a negative id shares a slot with
            another one.
    """
    slots = _slots(state, ids)
    gaps = state["gap"][jnp.arange(len(slots))[:, None], slots]
    return -jnp.log(jnp.maximum(jnp.max(gaps, axis=0), 1))


def _slots(state, ids):
    """The slot of every id in every array, int32 [hashes, N]; the first hash is the id itself."""
    ids = on_device("ids", ids)
    check_shape("ids", ids, (None,))
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"ids: {ids.dtype}; pass integers, as sampled_softmax gets them")
    negative = jnp.any(ids < 0)
    if not isinstance(negative, jax.core.Tracer) and negative:
        raise ValueError("ids: hold a negative number; number items from 0, or hash their names")
    hashes, size = state["gap"].shape
    salts = np.arange(hashes, dtype=np.uint32) * np.uint32(0x9E3779B9)
    mixed = mix(ids.astype(jnp.uint32)[None] ^ salts[1:, None])
    every = jnp.concatenate([ids.astype(jnp.uint32)[None], mixed])
    return (every % np.uint32(size)).astype(jnp.int32)
