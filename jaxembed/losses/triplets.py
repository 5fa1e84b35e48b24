"""Triplet losses: an anchor is nearer to a vector of its own label than to one of another, by a margin."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, host, on_device, squared_distances, unit
from jaxembed.losses.supervised import label_pairs

RULES = ("semi_hard", "hardest", "margin_violating", "all")
RANDOM = RULES[2:]
_SLOTS = 16  # positives of a row that are looked at together
_ELEMENTS = 2**21  # comparisons that are held at a time


def triplet_loss(anchors, positives, negatives, *, margin=0.2, where=None):
    """Triplet loss: asks that each anchor is nearer to its positive than to its negative by a margin.

    ``loss[i] = max(0, |anchors[i] - positives[i]|**2 - |anchors[i] - negatives[i]|**2 + margin)``. The
    distances are squared and nothing is normalised: pass unit vectors, or the loss falls by shrinking them.

    >>> anchors, positives, negatives = jnp.eye(3)[:1], jnp.eye(3)[:1], jnp.array([[0.8, 0.6, 0.0]])
    >>> print(triplet_loss(anchors, positives, negatives, margin=1.0).round(3))
    [0.6]

    Args:
        anchors: [B, D].
        positives: [B, D], row i belongs to anchor i.
        negatives: [B, D], row i does not belong to anchor i.
        margin: number, in units of squared distance; may be traced.
        where: optional bool [B]. False leaves a triplet out; it may hold anything.

    Returns:
        [B], in at least float32; 0 for a triplet that is left out. The paper sums them.

    Raises:
        ValueError: for shapes that differ.

    References:
        F. Schroff et al., FaceNet, arXiv:1503.03832.
    """
    given = {"anchors": anchors, "positives": positives, "negatives": negatives}
    given = {name: on_device(name, x) for name, x in given.items()}
    check_shape("anchors", given["anchors"], (None, None))
    for name in ("positives", "negatives"):
        check_shape(name, given[name], given["anchors"].shape)
    if where is not None:
        check_shape("where", where, given["anchors"].shape[:1])
        given = {name: jnp.where(jnp.asarray(where, bool)[:, None], x, 0) for name, x in given.items()}
    anchor, positive, negative = (x.astype(accumulator(x)) for x in given.values())
    near, far = (jnp.sum((anchor - x) ** 2, axis=1) for x in (positive, negative))
    loss = jax.nn.relu(near - far + margin)
    return loss if where is None else jnp.where(where, loss, 0)


def mine_triplets(distances, same, *, rule="semi_hard", margin=0.2, where=None, fallback=False, key=None):
    """Triplet mining: picks a negative for every pair of an anchor and a positive.

    Row a is an anchor, column p one of its positives, column n one of its negatives. With d the distances,
    the candidates and the choice among them are

    - ``semi_hard``: ``d[a, p] < d[a, n] < d[a, p] + margin``; the nearest one;
    - ``hardest``: all negatives; the nearest one, whatever the positive;
    - ``margin_violating``: ``d[a, n] < d[a, p] + margin``; one drawn evenly;
    - ``all``: all negatives; one drawn evenly.

    Equal distances go to the lowest column. Choosing sends no gradient. Memory is a few arrays of [B, N]:
    candidates are compared for a few positives at a time, so time grows with B * N * most positives of a row.

    >>> distances = jnp.array([[0.0, 0.5, 0.4, 0.6, 2.0]])
    >>> same, where = jnp.array([[True, True, False, False, False]]), jnp.arange(5)[None] > 0
    >>> for rule in ("semi_hard", "hardest"):
    ...     index, valid = mine_triplets(distances, same, rule=rule, where=where)
    ...     print(index[0, 1], valid[0].astype(int))
    3 [0 1 0 0 0]
    2 [0 1 0 0 0]

    Args:
        distances: [B, N], of each anchor to each candidate; lower is nearer.
        same: bool [B, N], True where anchor and column belong together.
        rule: one of the four above.
        margin: number, in units of the distances; may be traced.
        where: optional bool [B, N]. False takes a pair out as positive and as negative: an anchor with itself
            (``label_pairs`` has that mask), or with its duplicate.
        fallback: True takes the farthest negative where the rule has no candidate.
        key: random key, needed by the two rules that draw.

    Returns:
        ``index`` int32 [B, N]: entry [a, p] is the column of the negative. ``valid`` bool [B, N]: True where
        p is a positive of a and a negative was found; elsewhere ``index`` is 0.

    Raises:
        ValueError: for an unknown rule, a missing key or shapes that differ.

    References:
        F. Schroff et al., FaceNet, arXiv:1503.03832, which does not say what happens without a candidate.
        The fallback is that of TensorFlow Addons. "margin_violating" is the rule of O. Parkhi et al., Deep
        Face Recognition, BMVC 2015.
    """
    index, valid, _ = _mined(distances, same, rule, margin, where, fallback, key)
    return index, valid


def _mined(distances, same, rule, margin, where, fallback, key):
    """The index, which entries are valid, and which of them the rule itself found."""
    distances, same = jax.lax.stop_gradient(on_device("distances", distances)), jnp.asarray(same, bool)
    check_shape("distances", distances, (None, None))
    check_shape("same", same, distances.shape)
    if rule not in RULES:
        raise ValueError(f"rule: {rule!r} is unknown; choose one of {', '.join(RULES)}")
    if rule in RANDOM and key is None:
        raise ValueError(f"key: rule {rule!r} draws negatives; pass a random key")
    kept = jnp.ones(same.shape, bool) if where is None else jnp.asarray(where, bool)
    check_shape("where", kept, same.shape)
    if not distances.size:
        return jnp.zeros(same.shape, jnp.int32), kept & same, kept & same
    distances, positives, negatives = distances.astype(accumulator(distances)), same & kept, ~same & kept
    away = jnp.where(negatives, distances, jnp.inf)
    if rule == "hardest":
        index = jnp.argmin(away, axis=1, keepdims=True).astype(jnp.int32)
        found = jnp.isfinite(jnp.min(away, axis=1, keepdims=True))
    else:
        index, found = _per_positive(distances, away, positives, rule, margin, key)
    found = positives & found
    valid = found
    if fallback:
        far = jnp.where(negatives, distances, -jnp.inf)
        farthest = jnp.argmax(far, axis=1, keepdims=True).astype(jnp.int32)
        index = jnp.where(found, index, farthest)
        valid = positives & jnp.any(negatives, axis=1, keepdims=True)
    return jnp.where(valid, index, 0), valid, found


def _per_positive(distances, away, positives, rule, margin, key):
    """Index and found [B, N] of the rules that look at the positive; ``away`` is inf but for negatives."""
    rows, columns = distances.shape
    ranks = jnp.cumsum(positives, axis=1, dtype=jnp.int32)
    noise = jax.random.bits(key, distances.shape, jnp.uint32) if rule in RANDOM else None
    batch = max(1, min(rows, _ELEMENTS // (_SLOTS * columns)))

    def some(chunk, written):
        slots = chunk * _SLOTS + jnp.arange(_SLOTS, dtype=jnp.int32)
        places = jax.vmap(lambda r: jnp.searchsorted(r, slots + 1))(
            ranks
        )  # N where a row has fewer positives
        own = jnp.take_along_axis(distances, jnp.minimum(places, columns - 1), axis=1)

        def pick(row):
            order = _order(*row, slots, rule, margin)
            least = jnp.min(order, axis=1, keepdims=True)  # two plain minima are faster than one argmin
            numbers = jnp.where(order == least, jnp.arange(columns, dtype=jnp.int32), columns - 1)
            return jnp.min(numbers, axis=1), least[:, 0] < jnp.inf

        picked = jax.lax.map(pick, (away, own, noise), batch_size=batch)
        line = jnp.arange(rows)[:, None]
        return [x.at[line, places].set(y, mode="drop") for x, y in zip(written, picked, strict=True)]

    empty = [jnp.zeros(distances.shape, jnp.int32), jnp.zeros(distances.shape, bool)]
    chunks = (jnp.max(ranks[:, -1]) + _SLOTS - 1) // _SLOTS  # known when it runs; no shape depends on it
    return jax.lax.fori_loop(0, chunks, some, empty)


def _order(away, own, noise, slots, rule, margin):
    """Numbers [S, N] of one anchor: the least is chosen, inf is no candidate."""
    own = own[:, None]
    candidate = away < (jnp.inf if rule == "all" else own + margin)
    if rule == "semi_hard":
        return jnp.where(candidate & (away > own), away, jnp.inf)
    # An odd factor permutes the numbers of 32 bits: every slot has draws of its own from one row of noise.
    factors = 2 * (slots.astype(jnp.uint32) * jnp.uint32(2654435769)) + jnp.uint32(1)
    drawn = (noise * factors[:, None] >> 8).astype(away.dtype)
    return jnp.where(candidate, drawn, jnp.inf)


def batch_triplet_loss(
    vectors,
    labels,
    *,
    rule="semi_hard",
    margin=0.2,
    negatives=None,
    fixed=None,
    where=None,
    fallback=True,
    average="pairs",
    key=None,
):
    """Triplet loss with online mining: every pair of equal labels in a batch meets a negative of the batch.

    ``loss = mean over pairs (a, p) of max(0, d[a, p] - d[a, n(a, p)] + margin)`` with the squared distances d
    of unit vectors, in 0..4, and the negatives n of :func:`mine_triplets`. All ordered pairs count: (a, p)
    and (p, a).

    >>> vectors = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> loss, told = batch_triplet_loss(vectors, jnp.array([0, 0, 1]), rule="hardest")
    >>> print(loss.round(3), {name: round(float(x), 3) for name, x in told.items()})
    1.6 {'active': 1.0, 'loss_of_active': 1.6, 'without': 0.0}

    Args:
        vectors: [B, D]; normalised inside. On a mesh this is the global batch, so every device's rows are
            mined.
        labels: [B], whole numbers; on the host they may be texts. A label that comes once is a negative only.
        rule: as in :func:`mine_triplets`.
        margin: number, in units of squared distance; may be traced.
        negatives: optional [M, D], further vectors of labels that the batch does not hold.
        fixed: optional bool [B], rows without a gradient. A triplet of three such rows does not count.
        where: optional bool [B, B + M]. False takes a pair out, for example a duplicate image.
        fallback: as in :func:`mine_triplets`.
        average: "pairs" divides by all pairs, so the loss fades as triplets are solved. "active" divides by
            the triplets with a loss above 0.
        key: random key for the rules that draw.

    Returns:
        A scalar in at least float32, 0 for a batch without pairs, and a dict of scalars. ``active`` is the
        share of pairs with a loss above 0. ``without`` is the share for which the rule has no candidate.
        ``loss_of_active`` is the mean over the active ones.

    Raises:
        ValueError: for an unknown rule or average, a missing key or shapes that differ.

    References:
        F. Schroff et al., FaceNet, arXiv:1503.03832. With the defaults this is TripletSemiHardLoss of
        TensorFlow Addons on squared distances.
    """
    if average not in ("pairs", "active"):
        raise ValueError(f'average: {average!r} is unknown; choose "pairs" or "active"')
    vectors = on_device("vectors", vectors)
    check_shape("vectors", vectors, (None, None))
    check_shape("labels", labels, vectors.shape[:1])
    columns = vectors = unit(vectors.astype(accumulator(vectors)))
    more = 0 if negatives is None else len(negatives)
    pairs = {
        name: jnp.pad(x, ((0, 0), (0, more)), constant_values=name == "where")
        for name, x in label_pairs(labels).items()
    }
    kept = pairs["where"]
    if negatives is not None:
        check_shape("negatives", negatives, (None, vectors.shape[1]))
        columns = jnp.concatenate([vectors, unit(jnp.asarray(negatives).astype(vectors.dtype))])
    if where is not None:
        check_shape("where", where, kept.shape)
        kept = kept & jnp.asarray(where, bool)
    distances = squared_distances(vectors, columns)
    mined = _mined(distances, pairs["positives"], rule, margin, kept, fallback, key)
    return _averaged(distances, pairs["positives"] & kept, *mined, fixed, margin, average)


def _averaged(distances, asked, index, valid, found, fixed, margin, average):
    """The mean loss of mined triplets, and what is told of them."""
    if fixed is not None:
        check_shape("fixed", fixed, distances.shape[:1])
        still = jnp.pad(jnp.asarray(fixed, bool), (0, distances.shape[1] - len(distances)))
        dropped = valid & still[: len(distances), None] & still & still[index]
        asked, valid = asked & ~dropped, valid & ~dropped
    chosen = jnp.take_along_axis(distances, index, axis=1)
    each = jnp.where(valid, jax.nn.relu(distances - chosen + margin), 0)
    total, active = jnp.sum(each), jnp.sum(each > 0)
    count = jnp.maximum(jnp.sum(asked), 1).astype(each.dtype)
    of_active = total / jnp.maximum(active, 1)
    told = {"active": active / count, "without": jnp.sum(asked & ~found) / count, "loss_of_active": of_active}
    return (total / count if average == "pairs" else of_active), jax.lax.stop_gradient(told)


def cross_version_triplet_loss(vectors, frozen, labels, **options):
    """Harmonic triplet loss: trains vectors that also match those of an older, frozen encoder.

    ``batch_triplet_loss`` of both versions of every image together. Anchors, positives and negatives come
    from either version; the two versions of one image are positives of each other. Triplets of three frozen
    vectors have no gradient and do not count. A gallery of old vectors then answers new queries.

    >>> new, old = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([[0.0, 1.0], [1.0, 0.0]])
    >>> loss, told = cross_version_triplet_loss(new, old, jnp.array([0, 1]), rule="hardest")
    >>> print(loss.round(3))
    2.2

    Args:
        vectors: [B, D], of the encoder that is trained.
        frozen: [B, D], row i is the same image in the old encoder.
        labels: [B].
        **options: of :func:`batch_triplet_loss`; ``where`` is [2 B, 2 B + M], the new rows first.

    Returns:
        A scalar and a dict, as :func:`batch_triplet_loss` has them.

    References:
        F. Schroff et al., FaceNet, arXiv:1503.03832, appendix on harmonic embeddings. It gives no weights of
        the kinds of triplets: all count alike.
    """
    vectors, frozen = on_device("vectors", vectors), on_device("frozen", frozen)
    check_shape("vectors", vectors, (None, None))
    check_shape("frozen", frozen, vectors.shape)
    both = jnp.concatenate([vectors, jax.lax.stop_gradient(frozen).astype(vectors.dtype)])
    labels = labels if isinstance(labels, jax.Array) else host("labels", labels)
    labels = (jnp if isinstance(labels, jax.Array) else np).concatenate([labels, labels])
    return batch_triplet_loss(both, labels, fixed=jnp.arange(len(both)) >= len(vectors), **options)
