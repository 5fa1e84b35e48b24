"""ids -> row numbers: which rows of a table a feature's value reads."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.hashing import mix
from jaxembed.tables.plans import IMPORTANCE, places


def codes(plan, batch, *, only=None):
    """Codes: turns ids into the row numbers that they read.

    Chunk c of feature t reads row ``start[t, c] + mix(id XOR salt[t, c]) mod rows``, where start picks the
    table; with a span the rows after it too. Under "mixed_radix" chunk c reads ``start[c] + (id / r**c mod
    r)`` with a remainder only up to the last chunk, under "exact" ``start[t, c] + id``. A feature with a
    vocabulary reads rows ``id * chunks + c`` of its own table. A read whose sign is flipped has the code
    ``-2 - row``.

    >>> from jaxembed.tables import Feature, plan
    >>> p = plan([Feature("user", chunks=2)], rows=100, width=8, tables=2)
    >>> print(codes(p, {"user": np.array([17, 18])})["user"])
    [[ 17 179]
     [ 92 189]]

    Args:
        plan: :class:`~jaxembed.tables.Plan`.
        batch: {feature: integer ids [B] or [B, n]}; further keys are ignored. Strings and 64-bit ids are
            hashed to 32 bits beforehand (``data.hashed``). A feature takes either plain ids or hashed ones,
            in training and in use: 7 and its hash read different rows.
        only: optional names of the features that are read, those of one tower say; None reads all.

    Returns:
        {feature: int32 [B, chunks * span] or [B, n, chunks * span]}, row numbers in the stacked table
        [tables * rows, width]. With merge="weighted" also {feature + "/importance": int32 [B(, n), 1]}.
        NumPy in gives NumPy out, and the same bits come out under jit.

    Raises:
        ValueError: for a missing feature, a dtype that is not integer, an id that is negative or too large.
            Under jit the values are unknown: a bad id gets code -1, which reads zeros.

    References:
        arXiv:2305.12102; the mixer is MurmurHash3's, in place of the authors' 64-bit SipHash.
    """
    known, result = places(plan), {}
    for feature in plan.features if only is None else map(plan.__getitem__, only):
        ids, bad = _checked(plan, feature, batch)
        place = known.get(feature.name)
        found = {feature.name: _rows(plan, feature, place, ids)}
        if plan.merge == "weighted" and place is not None:
            salt, first, count = place.importance
            hashed = mix(ids.astype(np.uint32) ^ salt) % np.uint32(count)
            found[feature.name + IMPORTANCE] = (hashed.astype(np.int32) + np.int32(first))[..., None]
        host = isinstance(ids, np.ndarray)
        result |= {n: r if host else jnp.where(bad[..., None], -1, r) for n, r in found.items()}
    return result


def _checked(plan, feature, batch):
    """The ids of one feature, and which of them are bad; raises where the values are known."""
    if feature.name not in batch:
        raise ValueError(f"batch: feature {feature.name!r} is missing; the batch has {sorted(batch)}")
    ids = batch[feature.name]
    xp = jnp if isinstance(ids, jnp.ndarray) else np
    ids = xp.asarray(ids)
    if not xp.issubdtype(ids.dtype, xp.integer):
        raise ValueError(f"batch: feature {feature.name!r} has dtype {ids.dtype}; give integer ids")
    limit = feature.size if plan.scheme != "hash" else 2**32
    limit = limit if feature.vocabulary is None else feature.vocabulary
    bad = (ids < 0) | (ids >= limit) if limit <= xp.iinfo(ids.dtype).max else ids < 0
    if not isinstance(ids, jax.core.Tracer) and (xp is np or ids.is_fully_addressable):
        known = np.asarray(ids)
        wrong = known[(known < 0) | (known >= limit)]
        if wrong.size:
            raise ValueError(f"batch: feature {feature.name!r} holds id {wrong[0]}; ids are 0 to {limit - 1}")
    return ids, bad


def rows_and_flips(plan, feature, ids):
    """What the codes of ids of a feature say, for a plan with signs: rows, flips, and which ids are bad.

    >>> from jaxembed.tables import Feature, plan
    >>> p = plan([Feature("user", chunks=2)], rows=100, width=8, signed=True)
    >>> rows, flipped, bad = rows_and_flips(p, p["user"], np.array([3]))
    >>> print(codes(p, {"user": np.array([3])})["user"], rows, flipped, bad)
    [[-94  49]] [[92 49]] [[ True False]] [False]

    Args:
        plan: :class:`~jaxembed.tables.Plan` with ``signed=True``.
        feature: one that reads the shared table.
        ids: int [...], as :func:`codes` takes them.

    Returns:
        (int32 [..., reads], bool [..., reads], bool [...]).
    """
    ids, bad = _checked(plan, feature, {feature.name: ids})
    place = places(plan)[feature.name]
    return _hashed(plan, place, ids), _flipped(place, ids), bad


def _rows(plan, feature, place, ids):
    """Row numbers [..., reads] of ids [...] of one feature, whose place in the shared table is given."""
    if place is None:
        reads = plan.reads(feature)
        return ids.astype(np.int32)[..., None] * reads + np.arange(reads, dtype=np.int32)
    if plan.scheme == "exact":
        return ids.astype(np.int32)[..., None] + place.starts
    if plan.scheme == "mixed_radix":
        return _digits(ids.astype(np.int32) + np.int32(place.offset), place.radix, place.starts)
    rows = _hashed(plan, place, ids)
    if plan.signed:
        xp = np if isinstance(rows, np.ndarray) else jnp
        rows = xp.where(_flipped(place, ids), -2 - rows, rows)
    return rows


def _hashed(plan, place, ids):
    """Hashed rows [..., reads] of ids [...], without signs."""
    hashed = mix(ids.astype(np.uint32)[..., None] ^ place.salts) % np.uint32(place.open_rows)
    if plan.span == 1:
        return place.starts + hashed.astype(np.int32)
    steps = np.arange(plan.span, dtype=np.uint32)
    hashed = _wrapped(hashed[..., None] + steps, place.open_rows, plan.span)
    rows = place.starts[:, None] + hashed.astype(np.int32)
    return rows.reshape(*rows.shape[:-2], -1)


def _flipped(place, ids):
    """The hashed signs [..., reads] of ids [...]: True is minus."""
    return mix(ids.astype(np.uint32)[..., None] ^ place.signs) >> np.uint32(31) == 1


def _wrapped(rows, count, span):
    """Rows modulo a count, less than a span beyond it: a comparison is faster than a division."""
    count = np.uint32(count)
    if count < span:
        return rows % count
    xp = np if isinstance(rows, np.ndarray) else jnp
    return xp.where(rows >= count, rows - count, rows)


def _digits(ids, radix, starts):
    digits = []
    for c, start in enumerate(starts):
        last = c == len(starts) - 1
        digits.append(start + (ids if last else ids % np.int32(radix)))
        ids = ids // np.int32(radix)
    xp = np if isinstance(ids, np.ndarray) else jnp
    return xp.stack(digits, axis=-1)


def by_table(plan, codes):
    """Codes by table: groups them by the array that they read, for :func:`~jaxembed.tables.distinct`.

    >>> from jaxembed.tables import Feature, plan
    >>> p = plan([Feature("user"), Feature("gender", vocabulary=2)], rows=100, width=8)
    >>> ids = {"user": np.array([3, 4]), "gender": np.array([0, 1])}
    >>> print({path: sorted(part) for path, part in by_table(p, codes(p, ids)).items()})
    {'table/embedding': ['user'], 'exact/gender/embedding': ['gender']}

    Args:
        plan: :class:`~jaxembed.tables.Plan`.
        codes: {feature: int [B(, n), reads]} from :func:`codes`.

    Returns:
        {path of a parameter: {feature: codes}}.
    """
    groups = {}
    for name, rows in codes.items():
        if name in plan.importance_keys:
            path = "table/importance"
        else:
            path = "table/embedding" if plan[name].vocabulary is None else f"exact/{name}/embedding"
        groups.setdefault(path, {})[name] = rows
    return groups
