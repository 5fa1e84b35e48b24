"""Documents with token vectors onto disk: built shard by shard, added and deleted, each in one step."""

import itertools
import uuid

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import files
from jaxembed.search import documents as store
from jaxembed.search.padding import padded, rounded


def build_documents(
    folder,
    documents,
    encode,
    *,
    params=None,
    meta=None,
    batch_size=64,
    shard_size=1024,
    dtype=np.float16,
    restart=False,
):
    """Writes documents, their token vectors and what an encoder makes of them, as an index on disk.

    Documents are taken one after the other and written in shards of ``shard_size``; memory holds one
    shard. A shard counts when ``index.json`` names it, which happens in one step after its files are
    on the disk. A killed build goes on behind the last counted shard when it is called again with the
    same documents; ids of an iterable are compared. A finished index of the same params, meta, dtype and
    ids is returned without encoding; others are refused. The folder holds a README on the files.

    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> def total(params, tokens, mask):
    ...     return {"sum": jnp.where(mask[..., None], tokens, 0).sum(axis=1) * params["scale"]}
    >>> texts = [("a", np.ones((2, 3))), ("b", np.full((1, 3), 5.0))]
    >>> index = build_documents(tempfile.mkdtemp(), texts, total, params={"scale": np.float32(2)})
    >>> print(index.columns["sum"][:].tolist(), index.params)
    [[4.0, 4.0, 4.0], [10.0, 10.0, 10.0]] {'scale': array(2., dtype=float32)}

    Args:
        folder: made where it does not exist. One process writes it at a time.
        documents: iterable of (id, tokens [T, D]), or a function from a number n to the iterable that
            begins with document n, which spares a continued build the documents that it has, a finished one
            all but the first and the last. Ids are integers or strings, each once. T differs between
            documents and may be 0. None takes a finished index as it is.
        encode: function (params, tokens [batch_size, T, D], mask [batch_size, T]) to an array
            [batch_size, ...] or a dict of them by name; an array is named "vectors". Tokens come in
            float32 as they are stored. T is the length of the longest document of the batch, rounded
            up to one of few sizes, and a last batch is filled with empty documents, so a jitted
            function compiles a few times.
        params: optional nested dict of arrays for ``encode``, stored with the index.
        meta: optional JSON value, for example the name of the model that made the tokens.
        batch_size: documents per call of ``encode``.
        shard_size: documents per shard; a killed build loses at most the work on one. ``index.json``
            has a kilobyte per shard and is written anew with each: take 65,536 for millions.
        dtype: float dtype of the tokens on disk.
        restart: True drops what an unfinished build has written, and its params and meta. A finished
            index is never dropped.

    Returns:
        What ``open_documents(folder)`` returns.

    Raises:
        ValueError: for tokens that are not finite or of another width, an id that comes twice, no
            documents, a folder of other params, meta, dtype or documents, or one that holds other files;
            document and cause are named.
    """
    path, wanted = files.local_path(folder, "folder"), _float_dtype(dtype)
    _check_sizes(batch_size, shard_size)
    manifest = store.read_manifest(path)[1] if (path / "index.json").exists() else None
    if manifest is None or (restart and not manifest["built"]):
        manifest = _begin(path, params, meta)
    elif restart:
        raise ValueError(f"restart: {path} holds a finished index; delete the folder, or choose another one")
    store.check_same(manifest, {} if params is None else params, None)
    _check_meta(manifest, meta)
    if manifest["dtype"] not in (None, wanted):
        raise ValueError(
            f"dtype: {files.difference(manifest['dtype'], wanted, 'dtype')}; pass that of the build"
            + ("" if manifest["built"] else ", or restart=True")
        )
    if manifest["built"]:
        if documents is not None:
            _check_documents(path, manifest, documents)
        return store.open_documents(path)
    if not manifest["pending"]:
        manifest |= {"dtype": wanted, "width": None, "columns": {}}
    return _extend(path, manifest, documents, encode, batch_size, shard_size)


def add_documents(folder, documents, encode, *, batch_size=64, shard_size=1024, restart=False):
    """Adds documents behind those of an index; readers see all of them or none.

    ``encode`` is called with the params that the index holds. A killed addition goes on when it is
    called again with the same documents; until it is finished the index is as it was.

    >>> import tempfile
    >>> def mean(params, tokens, mask):
    ...     return tokens.mean(axis=1)
    >>> folder = tempfile.mkdtemp()
    >>> index = build_documents(folder, [("a", np.ones((1, 2)))], mean, batch_size=1)
    >>> print(add_documents(folder, [("b", np.ones((1, 2)))], mean, batch_size=1).ids)
    ['a' 'b']

    Args:
        folder: the folder of the index. One process writes it at a time.
        documents: as for ``build_documents``.
        encode: the function of the build; columns of other names, shapes or dtypes are refused.
        batch_size: documents per call of ``encode``.
        shard_size: documents per shard.
        restart: True drops what an unfinished addition has written. With no documents that is all.

    Returns:
        What ``open_documents(folder)`` returns.

    Raises:
        ValueError: as ``build_documents``, and for an id that the index holds already.
    """
    folder, manifest = store.read_manifest(folder)
    if not manifest["built"]:
        raise ValueError(f"{folder}: the build is unfinished; call build_documents again to go on")
    _check_sizes(batch_size, shard_size)
    if restart and manifest["pending"]:
        manifest |= {"pending": []}
        files.write_json(folder / "index.json", manifest)  # before the files go that it named
    return _extend(folder, manifest, documents, encode, batch_size, shard_size, least=0 if restart else 1)


def delete_documents(folder, ids):
    """Removes documents from an index, in one step.

    The shards that hold them are written anew without them, so their content is gone from the disk
    and what a deletion costs is the size of those shards. Documents behind them move up: numbers of
    documents that were found before are void, ids are not. What was exported by ``build_faiss`` or
    ``build_usearch`` is void, and who has the index open must open it again.

    >>> import tempfile
    >>> texts = [(n, np.full((1, 2), n)) for n in (7, 8, 9)]
    >>> folder = tempfile.mkdtemp()
    >>> index = build_documents(folder, texts, lambda params, tokens, mask: tokens.mean(axis=1))
    >>> print(delete_documents(folder, [8]).ids)
    [7 9]

    Args:
        folder: the folder of the index. One process writes it at a time.
        ids: of the documents that go: one, or any iterable of them.

    Returns:
        What ``open_documents(folder)`` returns.

    Raises:
        ValueError: for an id that the index does not hold, when no document would stay, or while an
            addition is unfinished.
    """
    folder, manifest = store.read_manifest(folder)
    if manifest["pending"] or not manifest["built"]:
        raise ValueError(f"{folder}: a build or an addition is unfinished; finish it first")
    ids = ids.tolist() if isinstance(ids, np.ndarray | np.generic) else ids
    gone, shards = {ids} if isinstance(ids, str | int) else set(ids), []
    held = [_ids(folder, [shard]) for shard in manifest["shards"]]
    for name in gone.difference(*held):
        raise ValueError(f"ids: {name!r} is not in the index; pass ids that it holds")
    if len(gone) == sum(map(len, held)):
        raise ValueError("ids: no document would stay; delete the folder instead")
    store.clean(folder, manifest)
    for shard, names in zip(manifest["shards"], held, strict=True):
        keep = [i for i, name in enumerate(names) if name not in gone]
        if len(keep) == len(names):
            shards.append(shard)
        elif keep:
            shards.append(_write_shard(folder, _kept(folder, shard, np.array(keep))))
    files.write_json(folder / "index.json", manifest | {"shards": shards})
    store.clean(folder, manifest | {"shards": shards})
    return store.open_documents(folder)


def _begin(folder, params, meta):
    """Makes the folder, its README, the file of parameters and an index of nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    foreign = sorted(p.name for p in folder.iterdir() if not store.is_ours(p))
    if foreign:
        raise ValueError(
            f"{folder}: holds {foreign[0]!r}, which is no part of an index; choose another folder"
        )
    manifest = {"format": store.FORMAT, "version": store.VERSION, "built": False}
    manifest |= {"meta": store.plain_json(meta), "width": None, "dtype": None, "columns": {}}
    manifest |= {"params": None, "shards": [], "pending": []}
    if params is not None:
        name = f"params-{uuid.uuid4().hex}.npz"
        with files.written(folder / name) as file:
            np.savez(file, **store.leaves(params))
        entry = {"file": name, "bytes": (folder / name).stat().st_size}
        entry |= {"sha256": store.digest(folder / name), "leaves": store.fingerprints(params)}
        manifest["params"] = entry
    with files.written(folder / "README.txt") as file:
        file.write(store.README.encode())
    files.write_json(folder / "index.json", manifest)
    return manifest


def _check_meta(manifest, meta):
    meta = store.plain_json(meta)
    if meta != manifest["meta"]:
        text = files.difference(manifest["meta"], meta)
        raise ValueError(f"meta: {text}; pass that of the build, or choose another folder")


def _check_sizes(batch_size, shard_size):
    for name, size in (("batch_size", batch_size), ("shard_size", shard_size)):
        if size < 1:
            raise ValueError(f"{name}: {size} is below 1; pass a positive integer")


def _float_dtype(dtype):
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"dtype: {np.dtype(dtype)} is no float of NumPy; pass float16 or float32")
    return files.native_dtype(dtype, "dtype")


def _extend(folder, manifest, documents, encode, batch_size, shard_size, least=1):
    """Writes documents as pending shards, and makes them part of the index when all are written."""
    store.clean(folder, manifest)
    params = store.load_params(folder, manifest["params"])
    params = params if params is None else jax.device_put(params)
    taken = set(_ids(folder, manifest["shards"] + manifest["pending"]))
    source = _rest(folder, manifest, documents)
    while group := list(itertools.islice(source, shard_size)):
        checked = [_document(*pair, manifest, taken) for pair in map(_pair, group)]
        arrays = _encoded(encode, params, checked, batch_size)
        _check_columns(manifest, arrays)
        manifest["pending"] = [*manifest["pending"], _write_shard(folder, arrays)]
        files.write_json(folder / "index.json", manifest)
    if len(manifest["pending"]) < least:
        raise ValueError("documents: empty; pass at least one document")
    manifest |= {"shards": manifest["shards"] + manifest["pending"], "pending": [], "built": True}
    files.write_json(folder / "index.json", manifest)
    return store.open_documents(folder)


def _ids(folder, shards):
    """Returns the ids of documents in shards, in their order."""
    return [i for shard in shards for i in store.shard_array(folder, shard, "ids.npy").tolist()]


def _rest(folder, manifest, documents):
    """Returns the documents behind those that are pending, after comparing ids."""
    held = _ids(folder, manifest["pending"])
    if documents is None:
        raise ValueError("documents: None; pass an iterable of (id, tokens [T, D])")
    if callable(documents):
        return iter(documents(len(held)))
    source, again = iter(documents), "pass the same documents again, or restart=True"
    for place, old in enumerate(held):
        _compare(next(source, None), old, place, "unfinished", again)
    return source


def _check_documents(folder, manifest, documents):
    """Refuses documents that are not those of a finished index, by their ids."""
    held, start, new = _ids(folder, manifest["shards"]), 0, "delete the folder, or change it by add_documents"
    if callable(documents):
        _compare(next(iter(documents(0)), None), held[0], 0, "finished", new)
        start = len(held) - 1
        documents, held = documents(start), held[start:]
    for place, (record, old) in enumerate(itertools.zip_longest(documents, held), start=start):
        _compare(record, old, place, "finished", new)


def _compare(record, old, place, state, remedy):
    """Refuses a document whose id is not the one that an index holds in its place; None is none."""
    new = None if record is None else _pair(record)[0]
    if new != old:
        raise ValueError(f"documents: number {place} is {new!r}, but the {state} index has {old!r}; {remedy}")


def _pair(record):
    try:
        name, tokens = record
    except (TypeError, ValueError):
        raise ValueError("documents: an item is no pair; pass (id, tokens [T, D])") from None
    return name, tokens


def _document(name, tokens, manifest, taken):
    """Returns (id, tokens as they are stored) after every check; what it accepts is taken."""
    name = name.item() if isinstance(name, np.generic) else name
    kind = type(name)
    if kind not in (int, str) or (kind is str and (not name or name.endswith("\0"))):
        raise ValueError(f"documents: the id {name!r} is neither an integer nor a string; pass one of them")
    if kind is int and not -(2**63) <= name < 2**63:
        raise ValueError(f"documents: the id {name} is no int64; subtract 2**63, or pass it as a string")
    if taken and kind is not type(next(iter(taken))):
        raise ValueError(f"documents: the id {name!r} is of another kind than the others; use one kind")
    if name in taken:
        raise ValueError(f"documents: the id {name!r} comes twice; give every document its own")
    tokens = np.asarray(tokens)
    width = manifest["width"]
    if tokens.ndim != 2 or tokens.shape[1] < 1 or width not in (None, tokens.shape[1]):
        wanted = "D" if width is None else width
        raise ValueError(f"documents: tokens of {name!r} are {tokens.shape}; pass [T, {wanted}]")
    if not any(jnp.issubdtype(tokens.dtype, real) for real in (jnp.floating, jnp.integer)):
        raise ValueError(f"documents: tokens of {name!r} are {tokens.dtype}; pass floats")
    with np.errstate(over="ignore", invalid="ignore"):
        stored = tokens.astype(manifest["dtype"])
    if not np.isfinite(stored).all():
        raise ValueError(
            f"documents: tokens of {name!r} are not finite as {stored.dtype}; mend or leave out that document"
        )
    manifest["width"] = stored.shape[1]
    taken.add(name)
    return name, stored


def _encoded(encode, params, group, batch_size):
    """Returns the arrays of one shard; documents of like length are encoded together."""
    ids, tokens = zip(*group, strict=True)
    lengths = np.array([len(t) for t in tokens])
    order = np.argsort(lengths, kind="stable")
    columns, waiting = {}, None
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = padded([tokens[i] for i in places], batch_size, rounded(lengths[places].max()))
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


def _write_shard(folder, arrays):
    """Writes the files of one shard and returns its entry; it counts once the manifest names it."""
    data = folder / f"shard-{uuid.uuid4().hex}"
    data.mkdir()
    entries = {}
    for name, x in arrays.items():
        with files.written(data / name) as file:
            np.save(file, x, allow_pickle=False)
        entry = {"bytes": (data / name).stat().st_size, "sha256": store.digest(data / name)}
        entries[name] = entry | {"shape": list(x.shape), "dtype": x.dtype.str}
    files.sync_folder(data)
    files.sync_folder(folder)
    counts = {"documents": len(arrays["ids.npy"]), "tokens": len(arrays["tokens.npy"])}
    return {"folder": data.name, **counts, "files": entries}


def _kept(folder, shard, keep):
    """Returns the arrays of a shard with only some of its documents."""
    arrays = {name: store.shard_array(folder, shard, name) for name in shard["files"]}
    offsets = arrays["offsets.npy"]
    rows = [np.arange(offsets[i], offsets[i + 1]) for i in keep]
    taken = {name: x[keep] for name, x in arrays.items() if name not in ("tokens.npy", "offsets.npy")}
    taken["tokens.npy"] = arrays["tokens.npy"][np.concatenate(rows).astype(np.int64)]
    return taken | {"offsets.npy": _offsets(np.diff(offsets)[keep])}


def _offsets(lengths):
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
