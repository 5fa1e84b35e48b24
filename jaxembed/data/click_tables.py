"""Tables of clicks → arrays of labels, ids and numbers, with splits and the vocabularies of training rows."""

import dataclasses
import os

import numpy as np

from jaxembed import files
from jaxembed.data.cells import arrow, bags, floats, strings, times
from jaxembed.data.scaling import fit_scaling, scale_columns
from jaxembed.data.table_files import blocks, demand, limited, tables
from jaxembed.data.text import hashed as hash_strings
from jaxembed.ragged import set_batch

SPLITS = ("random", "time", "tail")


@dataclasses.dataclass(frozen=True)
class Schema:
    """Schema: which columns of a table hold the label, the categories, the numbers and the time.

    >>> Schema(label="rating", categorical=("user", "item"), threshold=3, dropped=(3,)).columns
    ('rating', 'user', 'item')

    Args:
        label: the column that is to be predicted; None describes rows without it.
        categorical: columns with one value per row. One that is missing (an empty cell, null, NaN) is the
            value "", a value like any other. Numbers are compared by their decimal text, whole numbers
            without a point. So 7, 7.0 and "7" are one value, whatever the dtype of a chunk.
        dense: columns of numbers.
        multivalent: columns whose cells hold any number of values: lists, or text with ``joint``s between.
        time: a column of numbers or ISO 8601 times that orders the rows; None is the order of the file.
        threshold: the label is 1 where the column exceeds it; None takes a column of 0 and 1 as it is.
        dropped: values of the label column whose rows are left out; None among them means empty cells.
        positive: the text of a label that is 1, where labels are texts; every other text is 0.
        names: names of all columns of a text file without a header; with None the first line has them.
        separator: character between the cells of a text file.
        joint: character between the values of a multi-valent cell.
        quote: what surrounds cells that contain the separator; None if nothing does.
        strip: True takes spaces off both ends of the cells and names of a text file.
    """

    label: str | None
    categorical: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    multivalent: tuple[str, ...] = ()
    time: str | None = None
    threshold: float | None = None
    dropped: tuple[float | str | None, ...] = ()
    names: tuple[str, ...] | None = None
    separator: str = ","
    joint: str = " "
    quote: str | None = '"'
    positive: str | None = None
    strip: bool = False

    def __post_init__(self):
        for name in ("categorical", "dense", "multivalent", "dropped", "names"):
            if isinstance(value := getattr(self, name), str):
                raise ValueError(f"Schema: {name}={value!r} is one text; pass a tuple, as ({value!r},)")
        read = [self.label, *self.features, *self.dense]
        if repeated := sorted({name for name in read if read.count(name) > 1}):
            raise ValueError(f"Schema: columns {repeated} named twice; give every column one part")
        if not self.features:
            raise ValueError("Schema: no categorical and no multivalent column; name at least one")
        if self.positive is not None and self.threshold is not None:
            raise ValueError("Schema: positive= is for texts, threshold= for numbers; give one of them")

    @property
    def features(self):
        """Names of the columns that become ids."""
        return (*self.categorical, *self.multivalent)

    @property
    def columns(self):
        """Names of the columns that are read."""
        found = (self.label, *self.features, *self.dense, self.time)
        return tuple(name for name in dict.fromkeys(found) if name is not None)


def ctr_table(
    source,
    schema,
    *,
    split="random",
    fractions=(0.8, 0.1, 0.1),
    seed=0,
    least=1,
    most=None,
    hashed=(),
    longest=None,
    transform=None,
    scaling=None,
    fill=None,
    limit=None,
    block=1 << 24,
):
    """Click table: reads labels, ids and numbers of a table into arrays and splits its rows.

    The values of a feature that occur at least ``least`` times in the training rows get the ids 1, 2, ... The
    most frequent comes first; ties follow the order of the strings. Every other value gets id 0, also those
    that only validation and test rows hold. So ids are 0 to ``size - 1``.

    "random" deals the rows out by ``seed``; "time" cuts them in the order of time, earliest first; "tail"
    cuts the training rows off in that order and deals the later ones out by ``seed``.

    Files are read block by block with pyarrow. What stays in memory is
    4 bytes per cell and the distinct values of the features that are not hashed.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("city,clicked,price\\nrome,1,2.5\\noslo,0,1\\nrome,0,3\\nbonn,1,4\\n")
    ...     file.flush()
    ...     schema = Schema(label="clicked", categorical=("city",), dense=("price",))
    ...     table = ctr_table(file.name, schema, split="time", fractions=(0.75, 0, 0.25))
    >>> print(table["columns"]["ids"]["city"], table["sizes"], table["splits"]["test"])
    [1 2 1 0] {'city': 3} [3]

    Args:
        source: a text file, also compressed (.gz) or alone in a .zip; a .parquet file; or a table in memory:
            {column: array [n]}, a DataFrame or a pyarrow.Table, or an iterable of such chunks.
        schema: :class:`Schema`.
        split: "random", "time" or "tail".
        fractions: of the train, validation and test rows; they sum to 1.
        seed: int >= 0 of the random splits.
        least: values rarer than this in the training rows get id 0.
        most: optional number of values of a feature that get an id, the most frequent.
        hashed: features that get ``text.hashed`` of their values in place of ids of a vocabulary.
        longest: optional number of values of a multi-valent cell that are kept, the first.
        transform: optional {dense column: function float64 [n] -> [n]}; empty cells come as NaN.
        scaling: how dense columns are brought to mean 0 and deviation 1, fitted on the training rows after
            ``transform``: "standardise", "log" (for counts: the logarithm first) or "none", of all columns or
            as {column: kind}. None leaves the numbers as they are and refuses missing ones.
        fill: with ``scaling``, what replaces a missing number, of all columns or as {column: number}; None
            is the mean of the training rows.
        limit: optional number of rows after which reading stops.
        block: bytes of text that are read at once.

    Returns:
        A dict of seven parts, for N rows in the order of the file. ``columns``: {"labels": float32 [N] of 0
        and 1, "ids": {feature: int32 [N], [N, K] if multi-valent, uint32 if hashed}, "masks": {multi-valent
        feature: bool [N, K]}, "dense": float32 [N, dense columns]}. ``splits``: {"train", "validation",
        "test": int64 [n]}, row numbers, by time for "time". ``sizes``: {feature: number of ids; of
        different training values if hashed}. ``vocabularies``: {feature: list of str, id k at k - 1}.
        ``time``: float64 [N], microseconds since 1970 for ISO times, or None. ``scaling``: the rules of
        ``scaling.fit_scaling``, {} without. ``reading``: {"schema", "hashed", "longest", "transform"} as
        given; ``click_rows(source, vocabularies=..., scaling=..., **table["reading"])`` reads further rows.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for a missing or repeated column, a headerless file with another number of columns, or a
            malformed or cut file. For a column of mixed kinds, or a category that is a whole float too large
            to be exact (2**53 in float64). For no rows, an empty label that is not dropped, a label that is
            neither 0 nor 1, or a ``positive`` that no row holds. For a dense value that is not finite after
            ``transform`` (``scaling`` takes NaN). For an unknown split or bad fractions.
    """
    transform = transform or {}
    _check(schema, split, fractions, least, most, hashed, longest, transform, limit)
    if schema.label is None:
        raise ValueError("Schema: label=None; name the column that is to be learned, or use click_rows")
    if fill is not None and scaling is None:
        raise ValueError("fill: has no meaning without scaling=; give scaling='none' for numbers as they are")
    known = {name: {} for name in schema.features if name not in hashed}
    with files.named(source):
        parts = [
            part_of(chunk, schema, known, longest, transform, gaps=scaling is not None)
            for chunk in chunks_of(source, schema, limit, block)
        ]
        labels = _labels_of(parts, schema, source)
    time = None if schema.time is None else joined(parts, "time")
    splits = _splits(split, fractions, seed, len(labels), time)
    train = np.zeros(len(labels), bool)
    train[splits["train"]] = True
    columns, sizes, vocabularies = _ids(parts, schema, train, known, least, most)
    dense, rules = joined(parts, "dense"), {}
    if scaling is not None:
        rules = fit_scaling(dense[train], schema.dense, kind=scaling, fill=fill)
        dense = scale_columns(dense, rules)
    reading = {"schema": schema, "hashed": tuple(hashed), "longest": longest, "transform": transform}
    columns, time = {"labels": labels, **columns, "dense": dense}, {"time": time}
    found = {"columns": columns, "splits": splits, "sizes": sizes, "vocabularies": vocabularies}
    return found | time | {"scaling": rules, "reading": reading}


def _labels_of(parts, schema, source):
    """The labels of all parts, of which there must be some, and some that are 1 where labels are texts."""
    labels = joined(parts, "labels")
    if not len(labels):
        place = f"{source}" if isinstance(source, str | os.PathLike) else "source: the table"
        raise ValueError(f"{place} holds no rows; check the file, dropped= and limit=")
    if schema.positive is not None and not labels.any():
        texts = sorted({text for part in parts for text in part["texts"]})[:5]
        raise ValueError(
            f"label {schema.label!r}: no row holds positive={schema.positive!r}; it holds {texts}, name one"
        )
    return labels


def chunks_of(source, schema, limit, block):
    """Iterates over the chunks {column: values [n]} of a file or of a table in memory."""
    if isinstance(source, str | os.PathLike):
        numbers = (schema.label if schema.positive is None else None, *schema.dense)
        options = {name: getattr(schema, name) for name in ("names", "separator", "quote", "strip")}
        return blocks(source, schema.columns, numbers=numbers, limit=limit, block=block, **options)
    return limited(tables(source, schema.columns), limit)


def take(columns, rows):
    """Row selection: cuts the batch of some rows out of the columns of a table.

    With ``batches`` it makes ``ds[t]`` one array access per column:
    ``batches(table["splits"]["train"], 512, make=functools.partial(take, table["columns"]))``.

    >>> print(take({"labels": np.array([0.0, 1.0]), "ids": {"city": np.array([7, 9])}}, [1, 1]))
    {'labels': array([1., 1.]), 'ids': {'city': array([9, 9])}}

    Args:
        columns: nested dict of arrays [N, ...].
        rows: int [B].

    Returns:
        The same dict with arrays [B, ...].
    """
    rows = np.asarray(rows)
    return {name: take(x, rows) if isinstance(x, dict) else x[rows] for name, x in columns.items()}


def _check(schema, split, fractions, least, most, hashed, longest, transform, limit):
    if split not in SPLITS:
        raise ValueError(f"split={split!r}; choose one of {SPLITS}")
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions={fractions}: give three numbers from 0 to 1 that sum to 1")
    counts = {"least": least, "most": most, "longest": longest, "limit": limit}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    for given, all_names, what in (
        (hashed, schema.features, "hashed"),
        (transform, schema.dense, "transform"),
    ):
        if isinstance(given, str) or set(given) - set(all_names):
            raise ValueError(f"{what}={given!r}: name columns among {list(all_names)}")


def part_of(chunk, schema, known, longest, transform, gaps=False):
    """The arrays of one chunk; ids of values in the order in which they were met.

    Args:
        chunk: {column: values [n]}.
        schema: Schema.
        known: {feature: dict of the numbers of its values}, to which new values are added; of a Mapping that
            is not a dict, new values are 0. Features without one are hashed.
        longest, transform: as for ``ctr_table``.
        gaps: True lets missing numbers pass, as NaN of float64.
    """
    demand(schema.columns, chunk)
    chunk = {name: arrow(chunk[name], name) for name in schema.columns}
    if len({len(column) for column in chunk.values()}) > 1:
        raise ValueError(
            f"columns differ in length: { {n: len(c) for n, c in chunk.items()} }; cut them to one length"
        )
    part = {}
    if schema.label is not None:
        part["labels"], part["texts"], keep = _labels(chunk[schema.label], schema)
        if not keep.all():
            chunk = {name: column.filter(arrow(keep, schema.label)) for name, column in chunk.items()}
    count = len(next(iter(chunk.values())))
    part["dense"] = _dense(chunk, schema.dense, transform, count, gaps)
    if schema.time is not None:
        part["time"] = times(chunk[schema.time], schema.time)
    for name in schema.categorical:
        part["ids", name] = _numbered(strings(chunk[name], name), known.get(name))
    for name in schema.multivalent:
        values, part["lengths", name] = bags(chunk[name], name, schema.joint, longest)
        part["ids", name] = _numbered(values, known.get(name))
    return part


def _labels(column, schema):
    """Labels float32 of the rows that stay, some of their texts if they are texts, and which rows stay."""
    if schema.positive is None:
        values = _numbers(column, schema.label)
        missing = np.isnan(values)
    else:
        values = np.array(strings(column, schema.label).to_pylist(), object)
        missing = values == ""
    keep = np.ones(len(values), bool)
    for value in schema.dropped:
        keep &= ~missing if value is None else values != value
    values, missing = values[keep], missing[keep]
    if missing.any():
        raise ValueError(f"label {schema.label!r} has empty cells; put None into dropped= to leave them out")
    if schema.positive is not None:
        return (values == schema.positive).astype(np.float32), sorted(set(values))[:5], keep
    if schema.threshold is not None:
        return (values > schema.threshold).astype(np.float32), [], keep
    bad = values[(values != 0) & (values != 1)]
    if len(bad):
        raise ValueError(f"label {schema.label!r} holds {bad[0]:g}, not 0 or 1; set threshold= or dropped=")
    return values.astype(np.float32), [], keep


def _numbers(column, name):
    try:
        return floats(column, name)
    except ValueError as error:
        raise ValueError(f"{error}; a label of texts takes positive=, the text that counts as 1") from None


def _dense(chunk, names, transform, count, gaps):
    """[count, len(names)]: float32, all finite; with gaps float64, where NaN may be too."""
    array = np.empty((count, len(names)), np.float64 if gaps else np.float32)
    for i, name in enumerate(names):
        values = floats(chunk[name], name)
        if name in transform:
            values = np.asarray(transform[name](values))
        if values.shape != (count,):
            raise ValueError(
                f"transform of {name!r} returns shape {values.shape}, not {(count,)}; keep the rows"
            )
        with np.errstate(over="ignore"):
            array[:, i] = values
        bad = array[~np.isfinite(array[:, i]), i]
        bad = bad[~np.isnan(bad)] if gaps else bad
        if len(bad):
            raise ValueError(f"dense {name!r} holds {bad[0]}; fill it by transform={{{name!r}: ...}}")
    return array


def _numbered(column, known):
    """Numbers of strings: their place in the dict ``known``, which grows, or without one their hash."""
    encoded = column.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if known is None:
        numbers = hash_strings(values)
    elif isinstance(known, dict):
        numbers = np.array([known.setdefault(value, len(known)) for value in values], np.int32)
    else:
        numbers = np.array([known.get(value, 0) for value in values], np.int32)
    return numbers[encoded.indices.to_numpy()]


def joined(parts, key):
    """One array of what all parts hold under a key; the parts let go of it."""
    arrays = [part.pop(key) for part in parts]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)


def padded(values, lengths):
    """The values of bags of some lengths, padded with 0, and the mask of what is real: [N, K] both."""
    most, offsets = max(1, lengths.max(initial=0)), np.concatenate([[0], np.cumsum(lengths)])
    return set_batch(values, offsets, 0, len(lengths), length=most)


def _splits(kind, fractions, seed, count, time):
    in_file = time is None or kind == "random"
    order = np.arange(count) if in_file else np.argsort(time, kind="stable")
    cuts = [round(count * fractions[0]), round(count * (fractions[0] + fractions[1]))]
    if kind != "time":
        start = cuts[0] if kind == "tail" else 0
        order[start:] = np.random.default_rng(seed).permutation(order[start:])
    if not cuts[0]:
        raise ValueError(f"fractions={tuple(fractions)} leave none of {count} rows to train on")
    return dict(zip(("train", "validation", "test"), np.split(order, cuts), strict=True))


def _ids(parts, schema, train, known, least, most):
    """Columns "ids" and "masks", sizes and vocabularies; ``train`` bool [N] marks the training rows."""
    columns, sizes, vocabularies = {"ids": {}, "masks": {}}, {}, {}
    for name in schema.features:
        values, counted = joined(parts, ("ids", name)), train
        lengths = None
        if name in schema.multivalent:
            lengths = joined(parts, ("lengths", name))
            counted = np.repeat(train, lengths)
        if name in known:
            codes, vocabularies[name] = _vocabulary(known.pop(name), values[counted], least, most)
            values, sizes[name] = codes[values], len(vocabularies[name]) + 1
        else:
            sizes[name] = max(1, len(np.unique(values[counted])))
        if lengths is not None:
            values, columns["masks"][name] = padded(values, lengths)
        columns["ids"][name] = values
    return columns, sizes, vocabularies


def _vocabulary(known, counted, least, most):
    """Codes int32 [len(known)] of the numbers in ``known``, and the strings that have one above 0."""
    counts = np.bincount(counted, minlength=len(known)).tolist()
    ranked = sorted(
        (-count, string, k)
        for (string, k), count in zip(known.items(), counts, strict=True)
        if count >= least
    )
    kept = ranked[:most]
    codes = np.zeros(max(1, len(known)), np.int32)
    codes[np.array([k for _, _, k in kept], int)] = np.arange(1, len(kept) + 1)
    return codes, [string for _, string, _ in kept]
