"""Methods that store codes of centres: DPQ and MGQE."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, squared_distances, straight_through
from jaxembed.checks import check_whole
from jaxembed.tables.compact import decoded, most_frequent, pack, rank, rank_bits, unpack
from jaxembed.tables.factorized import TABLE, own_rows, read_rows
from jaxembed.tables.methods import at_once, plain_settings, row_method, values_of

MODES = ("vq", "sx")
PIECE = 2**14  # rows that are compared with the centres at a time


def dpq(sizes, width, *, parts=8, centres=32, mode="vq", initialiser=None):
    """DPQ (differentiable product quantisation): a code for each part of a vector, and centres for the codes.

    "vq": part s of a row reads the nearest of the centres of part s. The row gets the gradient of what was
    read (straight-through), and the penalty draws centres to rows. "sx": it reads ``values[s, k]`` for the
    largest product with a centre, and everything has the gradient of a softmax over the products.

    >>> from jaxembed.tables import storage_bytes, training_bytes
    >>> m = dpq(1000, 16, parts=4, centres=16)
    >>> print(training_bytes(m), storage_bytes(m))
    65024 3024

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        parts: S, divides the width.
        centres: K of every part, at most 65,536; codes take ``ceil(log2 K)`` bits, those of a value
            whole bytes.
        mode: "vq" or "sx".
        initialiser: of rows and centres, as in :func:`~jaxembed.tables.full_table`.

    Returns:
        :class:`~jaxembed.tables.Method`. Training holds the full table. It trains with
        :func:`~jaxembed.tables.row_update`; the penalty is then that of the listed rows, and rows that are
        all 0, as padding is, do not count. Deployed vectors are the trained ones.

    Raises:
        ValueError: for parts that do not divide the width, or another mode.

    References:
        T. Chen et al., arXiv:1908.09756. It normalises the scores of each centre over the batch; here the
        code is the nearest centre, so that it depends on the value alone.
    """
    settings = plain_settings("dpq", sizes, width) | {"centres": int(centres), "mode": mode}
    return _coded(settings, sizes, width, parts, (centres,), None, mode, initialiser)


def mgqe(sizes, width, *, counts, parts=4, centres=256, rare=64, top=0.1, initialiser=None):
    """MGQE: product codes of which rare values may use only the first centres.

    As :func:`dpq` with mode "vq". The ``top`` share of the values with the largest counts chooses among all
    ``centres``, all others among the first ``rare`` of them, in fewer bits.

    >>> from jaxembed.tables import storage_bytes
    >>> storage_bytes(mgqe(1000, 16, counts=np.arange(1000), parts=4, centres=256, rare=64))
    19740

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        counts: numbers [size], or {feature: numbers [size]}: how often each value occurs in training.
        parts: S, divides the width.
        centres: K for frequent values, at most 65,536.
        rare: centres for rare ones, at most K; more are cut to K.
        top: share of the values that are frequent.
        initialiser: as in :func:`dpq`.

    Returns:
        :class:`~jaxembed.tables.Method`. Training holds the full table. It lists no rows: the penalty is over
        all values, since a list does not say which of its rows are rare. A bitmap tells frequent from rare.

    Raises:
        ValueError: for parts that do not divide the width, or counts that do not fit.

    References:
        W.-C. Kang et al., arXiv:2002.08530; the deviation is that of :func:`dpq`.
    """
    values = values_of(sizes)
    check_whole(1, rare=rare)
    member = most_frequent(values.named(counts), values.sizes, top)
    settings = plain_settings("mgqe", sizes, width) | {"centres": int(centres), "rare": int(rare), "top": top}
    books = (centres, min(rare, centres))
    method = _coded(settings, sizes, width, parts, books, member, "vq", initialiser)
    return method._replace(codes=None, read=None)


def _coded(settings, sizes, width, parts, books, member, mode, initialiser):
    """The method of product codes; ``books`` are the centres of frequent values and of rare ones."""
    values = values_of(sizes)
    _check(width, parts, books, mode)
    bits = [max(1, math.ceil(math.log2(k))) for k in books]
    held = None if member is None else jax.tree.map(np.asarray, jax.jit(rank_bits)(member))
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)

    def codes(numbers, index):
        found = own_rows(numbers)
        if index is not None:
            found["place"] = {n: _place(index, x)[..., None] for n, x in numbers.items()}
        return found

    def read(params, codes, key):
        return at_once(lambda found: vectors(params, found[:, 0], found[:, -1]), _pairs(codes))

    def vectors(params, rows, place):
        if "table" in params:
            q = read_rows(params["table"]["embedding"], {"": rows[:, None]})[""]
            most = books[0] if member is None else jnp.where(place >= 0, books[0], books[-1])
            return jnp.where(rows[:, None] < 0, 0, _quantised(params["centres"], q, mode, most))
        found = _unpacked(params["codes"], rows, place, parts, bits)
        return jnp.where(rows[:, None] < 0, 0, _centres(params["centres"]["values"], found))

    def whole():
        """How many centres each of all values may use."""
        return books[0] if member is None else jnp.where(member, books[0], books[-1])

    def penalty(params):
        if mode == "sx":
            return jnp.zeros(())
        return _distance(
            params["centres"]["keys"], jax.lax.stop_gradient(params["table"]["embedding"]), whole()
        )

    def deploy(params):
        return params if "codes" in params else _stored(params, member, whole(), mode, bits)

    def init(key):
        return _drawn(key, draw, (values.total, width), (parts, books[0], width // parts), mode)

    return row_method(
        settings | {"parts": int(parts)}, values, init, codes, read, deploy=deploy, penalty=penalty, held=held
    )


def _pairs(codes):
    """{feature: int [..., 1 or 2]}: the row of each id, and its place among its kind where there are two."""
    if "place" not in codes:
        return codes[TABLE]
    pairs = {n: (rows, codes["place"][n]) for n, rows in codes[TABLE].items()}
    return {n: jnp.concatenate([jnp.asarray(x) for x in pair], -1) for n, pair in pairs.items()}


def _stored(params, member, most, mode, bits):
    """Deployed params: the centres, and packed codes of all values, or of frequent and of rare ones."""
    table, centres = params["table"]["embedding"], params["centres"]
    found = _nearest(centres["keys"], table, most) if mode == "vq" else _largest(centres["keys"], table)
    groups = [found] if member is None else [found[np.flatnonzero(m)] for m in (member, ~member)]
    packed = {f"group_{i}": pack(*pair) for i, pair in enumerate(zip(groups, bits, strict=True))}
    return {"centres": {"values": centres["keys" if mode == "vq" else "values"]}, "codes": packed}


def _drawn(key, draw, table, shape, mode):
    """First params: rows of a shape, and centres [S, K, G] of another."""
    keys = jax.random.split(key, 3)
    names = ("keys", "values") if mode == "sx" else ("keys",)
    flat = (shape[0] * shape[1], shape[2])
    centres = {name: draw(k, flat).reshape(shape) for name, k in zip(names, keys[1:], strict=False)}
    return {"table": {"embedding": draw(keys[0], table)}, "centres": centres}


def _distance(centres, rows, most):
    """Mean squared distance of rows to their centres; rows of zeros do not count."""
    error = jnp.mean((_centres(centres, _nearest(centres, rows, most)) - rows) ** 2, axis=1)
    counts = jnp.any(rows != 0, axis=1)
    return jnp.sum(jnp.where(counts, error, 0)) / jnp.maximum(jnp.sum(counts), 1)


def _check(width, parts, books, mode):
    check_whole(1, width=width, parts=parts, centres=books[0])
    if width % parts:
        raise ValueError(f"parts={parts} do not divide width={width}; choose a divisor")
    if books[0] > 2**16:
        raise ValueError(f"centres={books[0]}; give at most 65536")
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}; choose one of {MODES}")


def _place(index, numbers):
    """k for the frequent value of rank k, -1 - k for the rare value of rank k."""
    inside, before = rank(index, numbers)
    xp = jnp if isinstance(before, jax.Array) else np
    return xp.where(inside, before, before - numbers - 1).astype(np.int32)


def _split(centres, rows):
    """Rows [M, D] as parts [S, M, G]."""
    parts, _, group = centres.shape
    return jnp.swapaxes(rows.reshape(len(rows), parts, group), 0, 1)


def _nearest(centres, rows, most):
    """Codes int32 [M, S]: the nearest of the first ``most`` centres of each part, PIECE rows at a time."""

    def piece(pair):
        x, most = pair
        distances = jax.vmap(squared_distances)(_split(centres, x), centres)
        open_ = jnp.arange(centres.shape[1]) < most[:, None]
        return jnp.argmin(jnp.where(open_, distances, jnp.inf), axis=2).T.astype(jnp.int32)

    most = jnp.broadcast_to(most, rows.shape[:1])
    if len(rows) <= PIECE:
        return piece((rows, most))
    cut = [
        jnp.pad(x, [(0, -len(rows) % PIECE)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, PIECE, *x.shape[1:])
        for x in (rows, most)
    ]
    return jax.lax.map(piece, tuple(cut)).reshape(-1, centres.shape[0])[: len(rows)]


def _products(centres, rows):
    parts = _split(centres, rows).astype(accumulator(rows))
    return jnp.einsum("smg,skg->msk", parts, centres, precision="highest")


def _largest(centres, rows):
    return jnp.argmax(_products(centres, rows), axis=-1).astype(jnp.int32)


def _centres(centres, codes):
    """The centres [M, D] that codes [M, S] name."""
    parts, count, group = centres.shape
    flat = centres.reshape(parts * count, group)
    return flat[codes + count * jnp.arange(parts)].reshape(len(codes), parts * group)


def _quantised(centres, q, mode, most):
    if mode == "vq":
        codes = jax.lax.stop_gradient(_nearest(centres["keys"], q, most))
        return straight_through(jax.lax.stop_gradient(_centres(centres["keys"], codes)), q)
    soft = jax.nn.softmax(_products(centres["keys"], q), axis=-1)
    hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype)
    found = jnp.einsum("msk,skg->msg", straight_through(hard, soft), centres["values"], precision="highest")
    return found.reshape(q.shape)


def _unpacked(packed, rows, place, parts, bits):
    """Codes int32 [M, S] of values, from one group or from that of the frequent or the rare ones."""

    def at(group, places):
        return unpack(packed[f"group_{group}"], jnp.maximum(places, 0), parts, bits[group])

    if len(bits) == 1:
        return decoded(lambda rows: at(0, rows), rows)
    return decoded(lambda place: jnp.where(place[:, None] >= 0, at(0, place), at(1, -1 - place)), place)
