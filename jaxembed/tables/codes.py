"""ids -> row numbers: which rows of a table a feature's value reads."""

import dataclasses
import functools
import hashlib

import jax.numpy as jnp
import numpy as np

from jaxembed.hashing import mix

COMBINE = ("mean", "sum", "max")
SCHEMES = ("hash",)


@dataclasses.dataclass(frozen=True)
class Feature:
    """Names one categorical feature and says how many rows it reads.

    Args:
        name: key of the feature in batches, codes and vectors.
        chunks: how many rows a value reads; their concatenation is its vector.
        vocabulary: None hashes any id below 2**32 into the shared table. A number gives the feature
            exact rows of its own for ids 0..vocabulary-1, as fits tiny features.
        combine: "mean", "sum" or "max" over the values of a multi-valent feature.
        size: expected number of distinct values; read only by ``plan(multiplexed=False)``, which
            splits the rows in proportion to it.
    """

    name: str
    chunks: int = 1
    vocabulary: int | None = None
    combine: str = "mean"
    size: int = 1

    def __post_init__(self):
        if self.chunks < 1 or self.size < 1 or (self.vocabulary is not None and self.vocabulary < 1):
            raise ValueError(f"Feature {self.name!r}: chunks, size and vocabulary must be at least 1")
        if self.combine not in COMBINE:
            raise ValueError(f"Feature {self.name!r}: combine={self.combine!r}; choose one of {COMBINE}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Static description of the tables, made by :func:`plan`; ``dataclasses.asdict`` of it is JSON."""

    features: tuple[Feature, ...]
    rows: int
    width: int
    tables: int = 1
    multiplexed: bool = True
    scheme: str = "hash"
    seed: int = 0

    def __getitem__(self, name):
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"{name!r} is no feature of the plan; it has {[f.name for f in self.features]}")


def plan(features, *, rows, width, tables=1, multiplexed=True, scheme="hash", seed=0):
    """Plans which rows of which table every chunk of every feature may read.

    ``tables`` arrays of shape [rows, width] lie one behind the other. Chunks take the tables in turn, in
    the order in which features are declared (round robin), and every chunk of every feature hashes with
    a salt of its own, so the number of parameters, ``tables * rows * width``, does not depend on the
    number of features. A feature added last leaves the codes of all others as they were.

    >>> p = plan([Feature("user", chunks=2), Feature("gender", vocabulary=2)], rows=100, width=8)
    >>> p == plan(**dataclasses.asdict(p))
    True

    Args:
        features: :class:`Feature` objects (or dicts of their fields), names distinct.
        rows: rows of one table.
        width: width of one chunk; a feature's vector is ``chunks * width`` wide.
        tables: number of equal tables.
        multiplexed: False gives each hashed feature a range of rows of its own in every table,
            proportional to ``Feature.size`` and at least one row (the per-feature baseline).
        scheme: "hash", the only index code so far.
        seed: varies all salts.

    Returns:
        A :class:`Plan`; hashable, comparable and JSON-able.

    Raises:
        ValueError: for repeated names, sizes below 1, more than 2**31 - 1 rows in all, an unknown scheme.

    References:
        B. Coleman et al., Unified Embedding, arXiv:2305.12102.
    """
    features = tuple(f if isinstance(f, Feature) else Feature(**f) for f in features)
    names = [f.name for f in features]
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        raise ValueError(f"features: {repeated} named twice; give every feature its own name")
    if scheme not in SCHEMES:
        raise ValueError(f"scheme={scheme!r}; choose one of {SCHEMES}")
    if min(rows, width, tables) < 1 or rows * tables >= 2**31:
        raise ValueError(
            f"rows={rows}, width={width}, tables={tables}: at least 1 each, rows * tables < 2**31"
        )
    made = Plan(features, rows, width, tables, multiplexed, scheme, seed)
    if not multiplexed and sum(f.vocabulary is None for f in features) > rows:
        raise ValueError(f"rows={rows} is less than one row for each hashed feature; raise rows")
    return made


@functools.lru_cache(maxsize=256)
def _layout(plan):
    """{feature: (salts uint32 [chunks], starts int32 [chunks], rows open to the hash)} of hashed features."""
    hashed = [f for f in plan.features if f.vocabulary is None]
    total = sum(f.size for f in hashed)
    layout, chunk_number, used = {}, 0, 0
    for i, f in enumerate(hashed):
        if plan.multiplexed:
            offset, open_rows = 0, plan.rows
        else:
            spare = len(hashed) - i - 1  # rows kept back so that every later feature gets one
            offset = used
            open_rows = max(1, min(round(plan.rows * f.size / total), plan.rows - used - spare))
            used += open_rows
        salts = [
            int.from_bytes(
                hashlib.blake2b(f"{plan.seed}/{f.name}/{c}".encode(), digest_size=4).digest(), "big"
            )
            for c in range(f.chunks)
        ]
        turn = np.arange(chunk_number, chunk_number + f.chunks) % plan.tables
        chunk_number += f.chunks
        starts = (turn * plan.rows + offset).astype(np.int32)
        layout[f.name] = (np.array(salts, np.uint32), starts, np.uint32(open_rows))
    return layout


def codes(plan, batch):
    """Turns ids into the row numbers that they read.

    Chunk c of feature t reads row ``start[t, c] + mix(id XOR salt[t, c]) mod rows``, where start picks the
    table. A feature with a vocabulary reads rows ``id * chunks + c`` of its own table.

    >>> p = plan([Feature("user", chunks=2)], rows=100, width=8, tables=2)
    >>> print(codes(p, {"user": np.array([17, 18])})["user"])
    [[ 17 179]
     [ 92 189]]

    Args:
        plan: :class:`Plan`.
        batch: {feature: integer ids [B] or [B, n]}; further keys are ignored. Strings and 64-bit ids are
            hashed to 32 bits beforehand (``data.text.hashed``).

    Returns:
        {feature: int32 [B, chunks] or [B, n, chunks]}, row numbers in the stacked table [tables * rows,
        width]. NumPy in gives NumPy out, and the same bits come out under jit.

    Raises:
        ValueError: on the host, for a missing feature, a dtype that is not integer, an id that is negative
            or too large. Under jit the values are unknown: a bad id gets code -1, which reads zeros.

    References:
        arXiv:2305.12102; the mixer is MurmurHash3's, in place of the authors' 64-bit SipHash.
    """
    layout, result = _layout(plan), {}
    for feature in plan.features:
        if feature.name not in batch:
            raise ValueError(f"batch: feature {feature.name!r} is missing; the batch has {sorted(batch)}")
        ids = batch[feature.name]
        xp = jnp if isinstance(ids, jnp.ndarray) else np
        ids = xp.asarray(ids)
        if not xp.issubdtype(ids.dtype, xp.integer):
            raise ValueError(f"batch: feature {feature.name!r} has dtype {ids.dtype}; give integer ids")
        limit = 2**32 if feature.vocabulary is None else feature.vocabulary
        bad = (ids < 0) | (ids >= limit) if limit <= xp.iinfo(ids.dtype).max else ids < 0
        if xp is np and bad.any():
            worst = ids[bad].flat[0]
            raise ValueError(f"batch: feature {feature.name!r} holds id {worst}; ids are 0 to {limit - 1}")
        if feature.vocabulary is None:
            salts, starts, open_rows = layout[feature.name]
            hashed = mix(ids.astype(np.uint32)[..., None] ^ salts) % open_rows
            rows = starts + hashed.astype(np.int32)
        else:
            rows = ids.astype(np.int32)[..., None] * feature.chunks + np.arange(
                feature.chunks, dtype=np.int32
            )
        result[feature.name] = rows if xp is np else xp.where(bad[..., None], -1, rows)
    return result
