"""Logs of who took which item, catalogues of items and users, and splits that leave later events out."""

import dataclasses
import types

import numpy as np

from jaxembed import files
from jaxembed.data.click_tables import _check, _ids, chunks_of, joined, padded, part_of
from jaxembed.data.scaling import fit_scaling, scale_columns


def interactions(
    source, schema, *, user="user", item="item", scaling="standardise", limit=None, block=1 << 24
):
    """Interactions: reads a log, one row for each time that somebody took an item.

    With a label, rows whose label is 0 are left out: an item that was shown and not taken does not
    count as a negative.
    All other columns of the schema describe the query of a row: its hour, its device, the words searched.

    >>> log = {"user": ["ann", "bob", "ann"], "item": ["tea", "tea", "jam"], "day": [1, 2, 3]}
    >>> from jaxembed.data import Schema
    >>> found = interactions(log, Schema(None, categorical=("user", "item"), time="day"))
    >>> print(found["users"], found["items"], found["names"])
    [0 1 0] [1 1 0] {'user': ['ann', 'bob'], 'item': ['jam', 'tea']}

    Args:
        source: a file or a table in memory, as for ``ctr_table``.
        schema: ``data.Schema`` with the columns of users and items among ``categorical``, and where there are
            some a label, a time, and features of the query.
        user: the column of users; None where rows belong to nobody, so that queries are features alone.
        item: the column of items.
        scaling: of dense columns, as in ``ctr_table``, fitted on all rows.
        limit: optional number of rows after which reading stops.
        block: bytes of text that are read at once.

    Returns:
        ``data.records.Interactions``.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for a column that the schema or the file lacks, an empty cell of a user or an item,
            no rows, and what ``ctr_table`` refuses.
    """
    _check_keys(schema, [name for name in (user, item) if name is not None])
    known = {name: {} for name in schema.features}
    chunks = chunks_of(source, schema, limit, block)
    with files.named(source):
        parts = [part_of(chunk, schema, known, None, {}, gaps=True) for chunk in chunks]
        if schema.label is not None:
            kept = joined(parts, "labels") == 1
            if not kept.any():
                raise ValueError(f"label {schema.label!r}: no row is 1; check threshold= and positive=")
        columns = _columns(parts, schema, known, 1)
    time = None if schema.time is None else joined(parts, "time")
    if schema.label is not None:
        columns, time = _rows_of(columns, kept), time if time is None else time[kept]
    rules = fit_scaling(columns["dense"], schema.dense, kind=scaling, fill=None)
    columns["dense"] = scale_columns(columns["dense"], rules)
    keys = {"user": user, "item": item}
    names, numbers = {}, {"user": None, "item": None}
    with files.named(source):
        for side, key in keys.items():
            if key is not None:
                numbers[side], names[side] = _numbered(
                    columns["ids"].pop(key), columns["vocabularies"].pop(key), key
                )
                columns["sizes"].pop(key)
    found = {"users": numbers["user"], "items": numbers["item"], "time": time, "names": names}
    reading = {"schema": schema, "user": user, "item": item}
    return found | columns | {"scaling": rules, "reading": reading}


def catalogue(source, schema, *, key="item", least=1, longest=None, scaling="standardise", limit=None):
    """Catalogue: reads a table that describes each item, or each user, in one row.

    The key is a feature like the others, the id of the item. Ids of values are as in ``ctr_table``: 1, 2,
    ..., the most frequent first, and 0 for values that occur less than ``least`` times.

    >>> films = {"item": ["a", "b"], "year": [1995, 1995], "genres": ["war", "war comedy"]}
    >>> from jaxembed.data import Schema
    >>> schema = Schema(None, categorical=("item", "year"), multivalent=("genres",))
    >>> found = catalogue(films, schema)
    >>> print(found["names"], found["ids"]["year"], found["ids"]["genres"].tolist())
    ['a', 'b'] [1 1] [[1, 0], [1, 2]]

    Args:
        source: a file or a table in memory, as for ``ctr_table``.
        schema: ``data.Schema`` whose ``label`` and ``time`` are None.
        key: the column that names a row, among ``schema.categorical``.
        least: values of other columns that are in fewer rows get id 0.
        longest: optional number of values of a multi-valent cell that are kept, the first.
        scaling: of dense columns, as in ``ctr_table``.
        limit: optional number of rows after which reading stops.

    Returns:
        ``data.records.Catalogue``.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for a key that is not a column, is empty, or comes twice; the message names the rows. For
            no rows and what ``ctr_table`` refuses.
    """
    _check(schema, "random", (1, 0, 0), least, None, (), longest, {}, limit)
    if schema.label is not None or schema.time is not None:
        raise ValueError("schema: a catalogue has no label and no time; leave them None")
    _check_keys(schema, [key])
    known = {name: {} for name in schema.features}
    chunks = chunks_of(source, schema, limit, 1 << 24)
    with files.named(source):
        parts = [part_of(chunk, schema, known, longest, {}, gaps=True) for chunk in chunks]
        columns = _columns(parts, schema, known, least, key)
        numbers, names = _numbered(columns["ids"][key], columns["vocabularies"][key], key)
        order = [names[n] for n in numbers]
        _check_once(numbers, names, key)
    columns["ids"][key] = np.arange(1, len(order) + 1, dtype=np.int32)  # in the order of the rows
    columns["vocabularies"][key] = order
    rules = fit_scaling(columns["dense"], schema.dense, kind=scaling, fill=None)
    columns["dense"] = scale_columns(columns["dense"], rules)
    reading = {"schema": schema, "key": key, "longest": longest}
    return {"names": order} | columns | {"scaling": rules, "reading": reading}


def more_rows(found, source, *, limit=None):
    """New rows of a catalogue: reads items that came later, by the vocabularies of those that were there.

    The key gets id 0, as a value does that no row had: what is known of a new item are its features.

    >>> films = {"item": ["a", "b"], "year": [1995, 1997]}
    >>> from jaxembed.data import Schema
    >>> found = catalogue(films, Schema(None, categorical=("item", "year")))
    >>> new = more_rows(found, {"item": ["c"], "year": [1997]})
    >>> print(new["names"], new["ids"])
    ['c'] {'item': array([0], dtype=int32), 'year': array([2], dtype=int32)}

    Args:
        found: of :func:`catalogue`.
        source: a file or table with the same columns.
        limit: optional number of rows.

    Returns:
        ``data.records.Catalogue`` of the new rows.

    Raises:
        ValueError: for a key that is empty, comes twice, or is in the catalogue already.
    """
    reading, key = found["reading"], found["reading"]["key"]
    schema = reading["schema"]
    known = {
        name: {} if name == key else types.MappingProxyType({v: k for k, v in enumerate(listed, start=1)})
        for name, listed in found["vocabularies"].items()
    }
    chunks = chunks_of(source, schema, limit, 1 << 24)
    with files.named(source):
        parts = [part_of(c, schema, known, reading["longest"], {}, gaps=True) for c in chunks]
        numbers, names = joined(parts, ("ids", key)), list(known[key])
        if not len(numbers):
            raise ValueError("source: holds no rows; check the file and limit=")
        _check_empty(names, key)
        _check_once(numbers, names, key)
        old = sorted(set(names) & set(found["names"]))
        if old:
            raise ValueError(f"{key} {old[0]!r} is in the catalogue already; leave it out of the new rows")
    columns = {"ids": {key: np.zeros(len(names), np.int32)}, "masks": {}}
    for name in [n for n in schema.features if n != key]:
        values = joined(parts, ("ids", name))
        if name in schema.multivalent:
            values, columns["masks"][name] = padded(values, joined(parts, ("lengths", name)))
        columns["ids"][name] = values
    columns["dense"] = scale_columns(joined(parts, "dense"), found["scaling"])
    kept = {name: found[name] for name in ("sizes", "vocabularies", "scaling", "reading")}
    return {"names": [names[n] for n in numbers]} | columns | kept


def catalogue_rows(names, found, *, missing="raise"):
    """Catalogue rows: the row of each name in a catalogue.

    >>> from jaxembed.data import Schema
    >>> films = catalogue({"item": ["b", "a"]}, Schema(None, categorical=("item",)))
    >>> print(catalogue_rows(["a", "b", "x"], films, missing="mark"))
    [ 1  0 -1]

    Args:
        names: list of N str, such as ``interactions(...)["names"]["item"]``.
        found: of :func:`catalogue`.
        missing: "raise" or "mark", which gives a name that the catalogue lacks row -1.

    Returns:
        int32 [N].

    Raises:
        ValueError: for a name that the catalogue lacks, with the first and how many there are. "mark" tells
            which to leave out.
    """
    places = {name: row for row, name in enumerate(found["names"])}
    rows = np.array([places.get(name, -1) for name in names], np.int32)
    lost = np.flatnonzero(rows < 0)
    if missing == "raise" and len(lost):
        key = found["reading"]["key"]
        raise ValueError(
            f"{key} {names[lost[0]]!r} and {len(lost) - 1} more of {len(names)} are not in the catalogue; "
            "add their rows, or leave them out"
        )
    return rows


def leave_last_out(users, time=None, *, least=3):
    """Leave-last-out split: the last event of each user tests, the one before chooses, the others train.

    A user with fewer than ``least`` events stays in the training rows whole. Events of one time keep the
    order of the log. A model that trains on one user's later events sees what another's test comes after:
    :func:`split_in_time` does not have this leak.

    >>> users, time = np.array([0, 0, 0, 1, 0]), np.array([5, 1, 2, 3, 4])
    >>> print({part: rows.tolist() for part, rows in leave_last_out(users, time).items()})
    {'train': [1, 2, 3], 'validation': [4], 'test': [0]}

    Args:
        users: int [N].
        time: optional [N]; None is the order of the log.
        least: number of events, at least 3.

    Returns:
        {"train", "validation", "test": int row numbers, rising}.

    Raises:
        ValueError: where no user has so many events, ``least`` is below 3, or users are not numbers of rows.
    """
    users = np.asarray(users)
    if users.ndim != 1 or not np.issubdtype(users.dtype, np.integer):
        raise ValueError(f'users: {users.dtype} of shape {users.shape}; give int [N], such as log["users"]')
    if least < 3:
        raise ValueError(f"least={least}: one event each trains, chooses and tests; give at least 3")
    order = _by_user(users, time)
    sizes = np.bincount(users)
    left = np.cumsum(sizes)[users[order]] - 1 - np.arange(len(users))  # events of the user that come after
    split = sizes[users[order]] >= least
    if not split.any():
        raise ValueError(
            f"users: the most active has {sizes.max(initial=0)} events; leave-last-out needs {least}, "
            "take split_in_time or more of the log"
        )
    rows = {"train": order[~split | (left > 1)], "validation": order[split & (left == 1)]}
    return {part: np.sort(x) for part, x in (rows | {"test": order[split & (left == 0)]}).items()}


def split_in_time(time, *, fractions=(0.8, 0.1, 0.1)):
    """Temporal split: what came first trains, what came next chooses, what came last tests.

    Events of one time stay in one part: where a cut would divide them, it moves to the first of them.

    >>> parts = split_in_time([3, 1, 2, 3], fractions=(0.5, 0, 0.5))
    >>> print({part: rows.tolist() for part, rows in parts.items()})
    {'train': [1, 2], 'validation': [], 'test': [0, 3]}

    Args:
        time: [N].
        fractions: of the train, validation and test rows; they sum to 1.

    Returns:
        {"train", "validation", "test": int row numbers in the order of time}.

    Raises:
        ValueError: for no time, other fractions, or none left to train on.
    """
    if time is None:
        raise ValueError("time: is None; name the column of times in the schema")
    time = np.asarray(time)
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions={tuple(fractions)}: give three numbers from 0 to 1 that sum to 1")
    order, ranked = np.argsort(time, kind="stable"), np.sort(time)
    cuts = [round(len(time) * share) for share in (fractions[0], fractions[0] + fractions[1])]
    cuts = [cut if cut == len(time) else int(np.searchsorted(ranked, ranked[cut])) for cut in cuts]
    if not cuts[0]:
        raise ValueError(f"fractions={tuple(fractions)} leave none of {len(time)} events to train on")
    return dict(zip(("train", "validation", "test"), np.split(order, cuts), strict=True))


def histories(users, items, time=None, *, length=10):
    """Histories: the items that a user took before each event, the latest first.

    >>> found, mask = histories(np.array([0, 1, 0, 0]), np.array([5, 6, 7, 8]), length=2)
    >>> print(found.tolist(), mask.astype(int).tolist())
    [[0, 0], [0, 0], [5, 0], [7, 5]] [[0, 0], [0, 0], [1, 0], [1, 1]]

    Args:
        users: int [N].
        items: int [N].
        time: optional [N]; None is the order of the log. Events of one time keep that order.
        length: L, the number of items that are kept.

    Returns:
        int32 [N, L], padded with 0, and bool [N, L], True = real item.
    """
    users, items = np.asarray(users), np.asarray(items)
    order = _by_user(users, time)
    ranked, taken = users[order], items[order]
    found, mask = np.zeros((len(users), length), np.int32), np.zeros((len(users), length), bool)
    for back in range(1, min(length, len(users) - 1) + 1):
        same = ranked[back:] == ranked[:-back]
        rows = order[back:][same]
        found[rows, back - 1], mask[rows, back - 1] = taken[:-back][same], True
    return found, mask


def _by_user(users, time):
    """Row numbers user by user, each in the order of time."""
    return np.lexsort((users,)) if time is None else np.lexsort((np.asarray(time), users))


def _columns(parts, schema, known, least, key=None):
    """The columns of all rows as a dict, with an id for each value of the key."""
    dense = joined(parts, "dense")
    if not len(dense):
        raise ValueError("source: holds no rows; check the file, dropped= and limit=")
    every = np.ones(len(dense), bool)
    rest = [name for name in schema.features if name != key]
    columns, sizes, vocabularies = {"ids": {}, "masks": {}}, {}, {}
    for names, count in (([key] if key else [], 1), (rest, least)):
        if names:
            part = dataclasses.replace(
                schema,
                categorical=tuple(n for n in schema.categorical if n in names),
                multivalent=tuple(n for n in schema.multivalent if n in names),
            )
            found, more, listed = _ids(parts, part, every, known, count, None)
            columns = {what: columns[what] | found[what] for what in columns}
            sizes, vocabularies = sizes | more, vocabularies | listed
    return columns | {"dense": dense, "sizes": sizes, "vocabularies": vocabularies}


def _rows_of(columns, kept):
    """Some rows of every array of the columns."""
    found = {what: {n: x[kept] for n, x in columns[what].items()} for what in ("ids", "masks")}
    return columns | found | {"dense": columns["dense"][kept]}


def _numbered(ids, vocabulary, key):
    """Numbers from 0 in the order of the sorted names that occur, and these names."""
    occur = np.unique(ids)
    names = sorted(vocabulary[i - 1] for i in occur)
    _check_empty(names, key)
    places = {name: n for n, name in enumerate(names)}
    numbers = np.array([places.get(name, 0) for name in ["", *vocabulary]], np.int32)
    return numbers[ids], names


def _check_empty(names, key):
    if "" in names:
        raise ValueError(f"{key!r}: a row has an empty cell; name every {key}, or leave the row out")


def _check_once(numbers, names, key):
    """Refuses a catalogue in which a name comes twice."""
    first, counts = np.unique(numbers, return_counts=True)
    if (counts > 1).any():
        twice = first[counts > 1]
        rows = np.flatnonzero(numbers == twice[0])[:2] + 1
        raise ValueError(
            f"{key} {names[twice[0]]!r} is in rows {rows[0]} and {rows[1]}, and {len(twice) - 1} more come "
            "twice; keep one row for each"
        )


def _check_keys(schema, keys):
    for key in keys:
        if key not in schema.categorical:
            raise ValueError(
                f"schema: {key!r} is not among categorical={list(schema.categorical)}; put it there"
            )
