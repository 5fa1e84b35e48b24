"""Plans: which rows of which table every feature may read."""

import dataclasses
import functools
import hashlib

import numpy as np

COMBINE = ("mean", "sum", "max", "none")
SCHEMES = ("hash", "mixed_radix", "exact")
MERGE = ("concat", "sum", "weighted", "product")
IMPORTANCE = "/importance"  # ends the keys of the codes that read importances


@dataclasses.dataclass(frozen=True)
class Feature:
    """Categorical feature: its name and how many rows a value reads.

    Args:
        name: key of the feature in batches, codes and vectors.
        chunks: how many rows a value reads; ``plan(merge=)`` says how they become its vector.
        vocabulary: None reads the shared table. A number gives the feature exact rows of its own for ids
            0..vocabulary-1, as fits tiny features.
        combine: "mean", "sum" or "max" over the values of a multi-valent feature; "none" keeps one vector
            for each value, [B, n, D], as attention over a history wants.
        size: number of distinct values. The schemes "mixed_radix" and "exact" take ids 0..size-1; "hash"
            takes any id below 2**32 and reads the size only with ``plan(multiplexed=False)``, which splits
            the rows in proportion to it.
    """

    name: str
    chunks: int = 1
    vocabulary: int | None = None
    combine: str = "mean"
    size: int = 1

    def __post_init__(self):
        if not self.name or "/" in self.name:
            raise ValueError(f"Feature {self.name!r}: give a name without /, which divides paths")
        if self.chunks < 1 or self.size < 1 or (self.vocabulary is not None and self.vocabulary < 1):
            raise ValueError(f"Feature {self.name!r}: chunks, size and vocabulary must be at least 1")
        if self.combine not in COMBINE:
            raise ValueError(f"Feature {self.name!r}: combine={self.combine!r}; choose one of {COMBINE}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Plan of the tables, made by :func:`plan`; ``dataclasses.asdict`` of it is JSON."""

    features: tuple[Feature, ...]
    rows: int
    width: int
    tables: int = 1
    multiplexed: bool = True
    scheme: str = "hash"
    seed: int = 0
    merge: str = "concat"
    span: int = 1
    signed: bool = False
    importance_rows: int | None = None

    def __getitem__(self, name):
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"{name!r} is not a feature of the plan; it has {[f.name for f in self.features]}")

    @property
    def height(self):
        """Rows of the shared table: those of all its parts, one after the other."""
        return self.tables * self.rows

    @property
    def shared(self):
        """The features that read the shared table."""
        return tuple(f for f in self.features if f.vocabulary is None)

    @property
    def importance_keys(self):
        """The keys of codes that read importances: none without merge="weighted"."""
        return tuple(f.name + IMPORTANCE for f in self.shared) if self.merge == "weighted" else ()

    def reads(self, feature):
        """Returns how many rows a value of a feature reads: the last axis of its codes."""
        return feature.chunks * self.span if feature.vocabulary is None or self.merge == "concat" else 1


def plan(
    features,
    *,
    rows,
    width,
    tables=1,
    multiplexed=True,
    scheme="hash",
    seed=0,
    merge="concat",
    span=1,
    signed=False,
    importance_rows=None,
):
    """Unified embedding plan: which rows of which table every chunk of every feature may read.

    There are ``tables`` arrays of shape [rows, width], joined into one. Chunks take the tables in turn, in
    the order in which features are declared. Every chunk of every feature hashes with a salt of its own. So
    the number of parameters, ``tables * rows * width``, does not depend on the number of features. A feature
    added last leaves the codes of all others as they were. A plan belongs to the tables trained with it. Give
    ``dataclasses.asdict`` of it to ``train.fit`` as ``meta``: a checkpoint of another plan is then refused.

    Known schemes, for vectors of width D:

    =====================  ==========================================================================
    hashing trick          chunks 1, width D
    multi-hash             chunks K, width D, merge="sum"; a hash embedding has merge="weighted"
    HashedNet              chunks D, width 1
    ROBE-Z                 chunks D/Z, width 1, span=Z, signed=True or False
    compositional (PQ)     chunks K, width D/K, tables=K
    quotient-remainder     chunks K, width D, scheme="mixed_radix", merge="product"
    collisionless          chunks 1, width D, scheme="exact"
    =====================  ==========================================================================

    >>> p = plan([Feature("user", chunks=2), Feature("gender", vocabulary=2)], rows=100, width=8)
    >>> p == plan(**dataclasses.asdict(p))
    True

    Args:
        features: :class:`Feature` objects (or dicts of their fields), names distinct.
        rows: rows of one table.
        width: width of one row.
        tables: number of equal tables.
        multiplexed: False gives each feature of the shared table a range of rows of its own in every table:
            the usual table per feature. The range is proportional to ``Feature.size`` and at least one row.
        scheme: "hash", "mixed_radix" or "exact". "mixed_radix" writes an id as one digit per chunk, so that
            no two ids share all rows. "exact" gives every id rows of its own. The last two number the values
            of all features through, by ``Feature.size``.
        seed: varies all salts.
        merge: what the chunks of one value become: "concat", "sum", "weighted" (a sum whose weights, the
            importances, are learned and read by a hash of their own) or "product". A feature with a
            vocabulary reads ``chunks * span`` rows and concatenates them with "concat", else one row.
        span: how many rows are read from each hashed row on; a chunk is then ``span * width`` wide. After the
            last row that the feature may read comes its first.
        signed: True flips the sign of what is read by one more hashed bit for each code.
        importance_rows: rows of importances with merge="weighted", default ``rows``.

    Returns:
        A :class:`Plan`; hashable, comparable and JSON-able.

    Raises:
        ValueError: for repeated names, sizes below 1, or more than 2**31 - 1 rows in all. Also for options
            that do not go together, or rows that cannot hold the features.

    References:
        B. Coleman et al., Unified Embedding, arXiv:2305.12102; K. Weinberger et al., arXiv:0902.2206
        (hashing trick); D. Svenstrup et al., arXiv:1709.03933 (hash embeddings); W. Chen et al.,
        arXiv:1504.04788 (HashedNet); A. Desai et al., arXiv:2108.02191 (ROBE); H.-J. M. Shi et al.,
        arXiv:1909.02107 (quotient-remainder).
    """
    features = tuple(f if isinstance(f, Feature) else Feature(**f) for f in features)
    numbers = {"rows": rows, "width": width, "tables": tables, "seed": seed, "span": span}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"{name}={value!r}; give an int")
    rows, width, tables, seed, span = (int(value) for value in numbers.values())
    if merge == "weighted" and importance_rows is None:
        importance_rows = rows
    made = Plan(
        features, rows, width, tables, multiplexed, scheme, seed, merge, span, signed, importance_rows
    )
    _check_names(made)
    _check_options(made)
    places(made)
    return made


def _check_names(plan):
    names = [f.name for f in plan.features]
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        raise ValueError(f"features: {repeated} named twice; give every feature its own name")


def _check_options(plan):
    for name, known in (("scheme", SCHEMES), ("merge", MERGE)):
        if getattr(plan, name) not in known:
            raise ValueError(f"{name}={getattr(plan, name)!r}; choose one of {known}")
    rows, width, tables, span = plan.rows, plan.width, plan.tables, plan.span
    if min(rows, width, tables) < 1 or rows * tables >= 2**31:
        raise ValueError(
            f"rows={rows}, width={width}, tables={tables}: at least 1 each, rows * tables < 2**31"
        )
    if span < 1 or span > rows:
        raise ValueError(f"span={span}: need 1 <= span <= rows, which is {rows}")
    if plan.scheme != "hash" and (span > 1 or plan.signed):
        raise ValueError(f"scheme={plan.scheme!r}: span and signed need scheme='hash'")
    if plan.importance_rows is not None and (plan.merge != "weighted" or plan.importance_rows < 1):
        raise ValueError(
            f"importance_rows={plan.importance_rows}: at least 1, and only with merge='weighted'"
        )
    equal = plan.scheme == "mixed_radix" or plan.merge in ("weighted", "product")
    if equal and len({f.chunks for f in plan.shared}) > 1:
        raise ValueError(
            f"features: scheme={plan.scheme!r}, merge={plan.merge!r} need the same chunks for all features"
        )
    if plan.scheme == "mixed_radix" and tables > 1:
        raise ValueError(f"tables={tables}: scheme='mixed_radix' needs tables=1; raise rows instead")
    values = sum(f.size for f in plan.shared)
    if plan.scheme != "hash" and values >= 2**31:
        raise ValueError(f"features: sizes add up to {values}; scheme={plan.scheme!r} takes less than 2**31")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one feature of the shared table reads.

    Args:
        salts: uint32 [chunks], of the hash of each chunk.
        starts: int32 [chunks], first row of each chunk in the stacked table.
        open_rows: rows that the hash of a chunk may reach from its start on.
        signs: uint32 [reads], salts of the sign of each read; empty when the plan is not signed.
        offset: number of the feature's first value (mixed radix).
        radix: of all digits but the last (mixed radix).
        importance: (salt, first row, number of rows) of the importances.
    """

    salts: np.ndarray
    starts: np.ndarray
    open_rows: int
    signs: np.ndarray
    offset: int
    radix: int
    importance: tuple


@functools.lru_cache(maxsize=256)
def places(plan):
    """Returns {feature: :class:`Place`} for the features in the shared table [tables * rows, width]."""
    shared, own = plan.shared, not plan.multiplexed
    ranges = _ranges(shared, plan.rows, own and plan.scheme != "exact", "rows")
    importances = _ranges(shared, plan.importance_rows or 0, own, "importance_rows")
    exact = _exact_starts(plan) if plan.scheme == "exact" else {}
    number, offset, found = 0, 0, {}
    for f in shared:
        first, open_rows = ranges[f.name]
        starts, radix = np.arange(number, number + f.chunks) % plan.tables * plan.rows + first, 1
        if plan.scheme == "mixed_radix":
            values = f.size if own else sum(other.size for other in shared)
            radix = _radix(values, open_rows, f.chunks)
            starts = first + radix * np.arange(f.chunks)
        found[f.name] = Place(
            _salts(plan, f, range(f.chunks)),
            np.asarray(exact.get(f.name, starts)).astype(np.int32),
            open_rows,
            _salts(plan, f, [f"{c}/sign" for c in range(plan.reads(f) if plan.signed else 0)]),
            0 if own else offset,
            radix,
            (_salts(plan, f, ["importance"])[0], *importances[f.name]),
        )
        number, offset = number + f.chunks, offset + f.size
    return found


def _salts(plan, feature, names):
    texts = [f"{plan.seed}/{feature.name}/{name}" for name in names]
    digests = [hashlib.blake2b(text.encode(), digest_size=4).digest() for text in texts]
    return np.array([int.from_bytes(d, "big") for d in digests], np.uint32)


def _ranges(features, rows, own, name):
    """{feature: (first row, number of rows)}: all rows, or a part of its own for each feature."""
    if not own or rows == 0:
        return {f.name: (0, rows) for f in features}
    if len(features) > rows:
        raise ValueError(f"{name}={rows} is less than one row for each hashed feature; raise {name}")
    total, used, ranges = sum(f.size for f in features), 0, {}
    for i, f in enumerate(features):
        spare = len(features) - i - 1  # rows kept back so that every later feature gets one
        open_rows = max(1, min(round(rows * f.size / total), rows - used - spare))
        ranges[f.name] = (used, open_rows)
        used += open_rows
    return ranges


def _exact_starts(plan):
    """First rows of chunks: number k over all features is in table k mod tables, after what is there."""
    used, starts, number = [0] * plan.tables, {}, 0
    for f in plan.shared:
        starts[f.name] = []
        for _ in range(f.chunks):
            table, number = number % plan.tables, number + 1
            starts[f.name].append(table * plan.rows + used[table])
            used[table] += f.size
    if max(used) > plan.rows:
        raise ValueError(f"rows={plan.rows}: scheme='exact' needs rows={max(used)} for these features")
    return starts


def _radix(values, rows, digits):
    """Smallest r such that digits - 1 digits below r and one below rows - (digits - 1) r name each value."""

    def holds(r):
        return r > 0 and (rows - (digits - 1) * r) * r ** (digits - 1) >= values

    low, high = 1, rows // digits  # up to here the product grows; the best r may be the next one
    if not holds(high):
        if holds(high + 1):
            return high + 1
        root = max(1, round(values ** (1 / digits)) - 1)
        need = next(r for r in range(root, values + 1) if r**digits >= values) * digits
        raise ValueError(
            f"rows: {digits} digits over {rows} rows cannot number {values} values; {need} rows for them "
            "suffice, or more chunks"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
