"""How documents become shards of an index on disk: groups of one length, their columns, their checks."""

import itertools
import uuid

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import files
from jaxembed.ragged import bucket, pad
from jaxembed.search import _document_format as store


def check_sizes(batch_size, shard_size):
    """Refuses sizes below 1."""
    for name, size in (("batch_size", batch_size), ("shard_size", shard_size)):
        if size < 1:
            raise ValueError(f"{name}: {size} is below 1; pass a positive integer")


def float_dtype(dtype):
    """The float dtype of NumPy that a name means, in this machine's byte order; others are refused."""
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"dtype: {np.dtype(dtype)} is not a float of NumPy; pass float16 or float32")
    return files.native_dtype(dtype, "dtype")


def extend(folder, manifest, documents, encode, batch_size, shard_size, least=1):
    """Writes documents as pending shards, and makes them part of the index when all are written."""
    store.clean(folder, manifest)
    params = store.load_params(folder, manifest["params"])
    params = params if params is None else jax.device_put(params)
    taken = set(known_ids(folder, manifest["shards"] + manifest["pending"]))
    source = _rest(folder, manifest, documents)
    while group := list(itertools.islice(source, shard_size)):
        checked = [_document(*pair, manifest, taken) for pair in map(_pair, group)]
        arrays = _encoded(encode, params, checked, batch_size)
        _check_columns(manifest, arrays)
        manifest["pending"] = [*manifest["pending"], write_shard(folder, arrays)]
        store.write_manifest(folder, manifest)
    if len(manifest["pending"]) < least:
        raise ValueError("documents: empty; pass at least one document")
    manifest |= {"shards": manifest["shards"] + manifest["pending"], "pending": [], "built": True}
    store.write_manifest(folder, manifest)


def _rest(folder, manifest, documents):
    """Returns the documents after those that are pending, after comparing those."""
    count = sum(shard["documents"] for shard in manifest["pending"])
    if documents is None:
        raise ValueError("documents: None; pass an iterable of (id, tokens [T, D])")
    if callable(documents):
        return iter(documents(count))
    source, again = iter(documents), "pass the same documents again, or restart=True"
    for place, old in enumerate(_held(folder, manifest["pending"])):
        _compare(next(source, None), old, place, f"unfinished index holds {count}", again)
    return source


def _pair(record):
    try:
        name, tokens = record
    except (TypeError, ValueError):
        raise ValueError("documents: an item is not a pair; pass (id, tokens [T, D])") from None
    return name, tokens


def _document(name, tokens, manifest, taken):
    """Returns (id, tokens as they are stored) after every check; what it accepts is taken."""
    name = name.item() if isinstance(name, np.generic) else name
    kind = type(name)
    if kind not in (int, str) or (kind is str and (not name or name.endswith("\0"))):
        raise ValueError(f"documents: the id {name!r} is neither an integer nor a string; pass one of them")
    if kind is int and not -(2**63) <= name < 2**63:
        raise ValueError(f"documents: the id {name} is not an int64; subtract 2**63, or pass it as a string")
    if taken and kind is not type(next(iter(taken))):
        raise ValueError(f"documents: the id {name!r} is of another kind than the others; use one kind")
    if name in taken:
        raise ValueError(f"documents: the id {name!r} comes twice; give every document its own")
    stored = _stored(name, tokens, manifest["width"], manifest["dtype"])
    manifest["width"] = stored.shape[1]
    taken.add(name)
    return name, stored


def _stored(name, tokens, width, dtype):
    """Tokens of a document in the dtype of an index, after every check; a width of None is any."""
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or tokens.shape[1] < 1 or width not in (None, tokens.shape[1]):
        wanted = "D" if width is None else width
        raise ValueError(f"documents: tokens of {name!r} are {tokens.shape}; pass [T, {wanted}]")
    if not any(jnp.issubdtype(tokens.dtype, real) for real in (jnp.floating, jnp.integer)):
        raise ValueError(f"documents: tokens of {name!r} are {tokens.dtype}; pass floats")
    with np.errstate(over="ignore", invalid="ignore"):
        stored = tokens.astype(dtype)
    if not np.isfinite(stored).all():
        raise ValueError(
            f"documents: tokens of {name!r} are not finite as {stored.dtype}; mend or leave out that document"
        )
    return stored


def _encoded(encode, params, group, batch_size):
    """Returns the arrays of one shard; documents of like length are encoded together."""
    ids, tokens = zip(*group, strict=True)
    lengths = np.array([len(t) for t in tokens])
    order = np.argsort(lengths, kind="stable")
    columns, waiting = {}, None
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = pad(
            [tokens[i] for i in places],
            bucket(int(lengths[places].max())),
            count=batch_size,
            dtype=np.float32,
        )
        found = encode(params, *batch)  # runs while the batch before is copied to the host
        if waiting is not None:
            _collect(columns, *waiting, ids, batch_size)
        waiting = found, places
    _collect(columns, *waiting, ids, batch_size)
    ids = np.array(ids, None if isinstance(ids[0], str) else np.int64)
    arrays = {"ids.npy": ids, "tokens.npy": np.concatenate(tokens)}
    files.native_dtype(arrays["ids.npy"].dtype, "documents: ids")
    arrays["offsets.npy"] = _offsets(lengths)
    return arrays | {f"column.{name}.npy": x for name, x in columns.items()}


def _collect(columns, found, places, ids, batch_size):
    """Copies what the encoder returned for one batch into the columns of the shard."""
    found = found if isinstance(found, dict) else {"vectors": found}
    for name, values in found.items():
        values = np.asarray(values)
        if not store.NAME.fullmatch(name) or values.shape[:1] != (batch_size,):
            raise ValueError(
                f"encode: returned {name!r} of shape {values.shape}; "
                f"return [{batch_size}, ...] under a name of letters, digits, _ . and -"
            )
        if files.native_dtype(values.dtype, f"encode: {name!r}")[1] == "U":
            raise ValueError(f"encode: {name!r} holds strings; return numbers")
        values = values[: len(places)]
        finite = np.isfinite(values).reshape(len(places), -1).all(axis=1)
        if not finite.all():
            bad = ids[places[np.argmin(finite)]]
            raise ValueError(f"encode: {name!r} of {bad!r} is not finite; mend the encoder")
        shape = (len(ids), *values.shape[1:])
        columns.setdefault(name, np.empty(shape, values.dtype))[places] = values


def _check_columns(manifest, arrays):
    columns = {}
    for name, x in arrays.items():
        if name.startswith("column."):
            shown = {"shape": list(x.shape[1:]), "dtype": x.dtype.str}
            columns[name.removeprefix("column.").removesuffix(".npy")] = shown
    if (manifest["shards"] or manifest["pending"]) and manifest["columns"] != columns:
        text = files.difference(manifest["columns"], columns, "columns")
        raise ValueError(f"encode: {text}; pass the encoder of the build")
    manifest["columns"] = columns


def write_shard(folder, arrays):
    """Writes the files of one shard and returns its entry; it counts once the manifest names it."""
    data = folder / f"shard-{uuid.uuid4().hex}"
    data.mkdir()
    entries = {}
    with files.cleared(data):
        for name, x in arrays.items():
            files.write_array(data / name, x)
            entry = {"bytes": (data / name).stat().st_size, "sha256": files.digest(data / name)}
            entries[name] = entry | {"shape": list(x.shape), "dtype": x.dtype.str}
    files.sync_folder(data)
    files.sync_folder(folder)
    counts = {"documents": len(arrays["ids.npy"]), "tokens": len(arrays["tokens.npy"])}
    return {"folder": data.name, **counts, "files": entries}


def kept(folder, shard, keep):
    """Returns the arrays of a shard with only some of its documents, after its checksums were compared."""
    store.check_shard(folder, shard, verify=True)
    arrays = {name: store.shard_array(folder, shard, name) for name in shard["files"]}
    offsets = arrays["offsets.npy"]
    rows = [np.arange(offsets[i], offsets[i + 1]) for i in keep]
    taken = {name: x[keep] for name, x in arrays.items() if name not in ("tokens.npy", "offsets.npy")}
    taken["tokens.npy"] = arrays["tokens.npy"][np.concatenate(rows).astype(np.int64)]
    return taken | {"offsets.npy": _offsets(np.diff(offsets)[keep])}


def _offsets(lengths):
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def known_ids(folder, shards):
    """Returns the ids of documents in shards, in their order, after their checksums were compared."""
    for shard in shards:
        store.check_shard(folder, shard, verify=False, names=["ids.npy"])
    return [i for shard in shards for i in store.shard_array(folder, shard, "ids.npy").tolist()]


def _held(folder, shards):
    """Yields (id, tokens) of the documents in shards, in their order."""
    for shard in shards:
        store.check_shard(folder, shard, verify=False)
        ids, tokens, offsets = (
            store.shard_array(folder, shard, f"{name}.npy") for name in ("ids", "tokens", "offsets")
        )
        for name, start, stop in zip(ids.tolist(), offsets[:-1], offsets[1:], strict=True):
            yield name, tokens[start:stop]


def check_documents(folder, manifest, documents):
    """Refuses documents that are not those of a finished index, by their ids and stored tokens."""
    shards, start = manifest["shards"], 0
    held, count = _held(folder, shards), sum(shard["documents"] for shard in shards)
    state, new = f"finished index holds {count}", "delete the folder, or change it by add_documents"
    if callable(documents):
        _compare(next(iter(documents(0)), None), next(held), 0, state, new)
        start = count - 1
        documents, held = documents(start), [list(_held(folder, shards[-1:]))[-1]]
    most = "at most " * bool(start)  # those before the last were not asked for
    for place, (record, old) in enumerate(itertools.zip_longest(documents, held), start=start):
        _compare(record, old, place, state, new, most)


def _compare(record, old, place, state, remedy, most=""):
    """Refuses a document that is not the one that an index holds in its place; None is none."""
    if record is None:
        raise ValueError(f"documents: fewer documents: the {state}, {most}{place} were given; {remedy}")
    name, tokens = _pair(record)
    if old is None:
        raise ValueError(f"documents: more documents: the {state}, and {name!r} comes after them; {remedy}")
    state = state.split(" holds")[0]
    if name != old[0]:
        raise ValueError(f"documents: number {place} is {name!r}, but the {state} has {old[0]!r}; {remedy}")
    new = _stored(name, tokens, old[1].shape[1], old[1].dtype)
    other = f"{len(new)} tokens, but {len(old[1])}" if len(new) != len(old[1]) else "other tokens than"
    if not np.array_equal(new, old[1]):
        raise ValueError(f"documents: number {place}, {name!r}, has {other} in the {state}; {remedy}")
