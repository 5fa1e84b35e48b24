"""Documents with token vectors onto disk: built shard by shard, added and deleted, each in one step."""

import contextlib
import dataclasses
import functools
import uuid

import numpy as np

from jaxembed import files
from jaxembed.search import _document_format as store
from jaxembed.search import _document_writing as writing
from jaxembed.search import _folders


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
    """Document index: writes documents, their token vectors and what an encoder makes of them to disk.

    Documents are taken one after the other and written in shards of ``shard_size``; memory holds one
    shard. A shard counts when ``index.json`` names it, which happens in one step after its files are
    on the disk. A killed build goes on after the last counted shard when it is called again with the
    same documents; ids and tokens of an iterable are compared. A finished index of the same params, meta,
    dtype, ids and tokens is returned without a call of ``encode``; others are refused. Functions cannot be
    compared: name another ``encode`` in ``meta``, and it is refused too. The folder holds a README on the
    files.

    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> def total(params, tokens, mask):
    ...     return {"sum": jnp.where(mask[..., None], tokens, 0).sum(axis=1) * params["scale"]}
    >>> texts = [("a", np.ones((2, 3))), ("b", np.full((1, 3), 5.0))]
    >>> index = build_documents(tempfile.mkdtemp(), texts, total, params={"scale": np.float32(2)})
    >>> print(index.columns["sum"][:].tolist(), index.params)
    [[4.0, 4.0, 4.0], [10.0, 10.0, 10.0]] {'scale': array(2., dtype=float32)}

    Args:
        folder: made where it does not exist. One process writes it at a time; a second one is refused.
        documents: iterable of (id, tokens [T, D]), or a function from a number n to the iterable that begins
            with document n. The function spares a continued build the documents that it has, and a finished
            one all but the first and the last; those in between are not compared. Ids are integers or
            strings, each once. T differs between documents and may be 0. None takes a finished index as it
            is.
        encode: function (params, tokens [batch_size, T, D], mask [batch_size, T]) to an array [batch_size,
            ...] or a dict of them by name. A single array is named "vectors". Tokens come in float32 as they
            are stored. T is the length of the longest document of the batch, rounded up to one of few sizes.
            A last batch is filled with empty documents. So a jitted function compiles a few times.
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
        ValueError: for tokens that are not finite or of another width, an id that comes twice, or no
            documents. Also for a folder of other params, meta, dtype or documents, or one that holds other
            files. Document and cause are named.
        BlockingIOError: when another process writes the folder; names it.
    """
    path, wanted = files.local_path(folder, "folder"), writing.float_dtype(dtype)
    writing.check_sizes(batch_size, shard_size)
    with _building(path) as manifest:
        if manifest is None or (restart and not manifest["built"]):
            manifest = _begin(path, params, meta)
        elif restart:
            raise ValueError(
                f"restart: {path} holds a finished index; delete the folder, or choose another one"
            )
        store.check_same(manifest, {} if params is None else params, None)
        _check_meta(manifest, meta)
        if manifest["dtype"] not in (None, wanted):
            raise ValueError(
                f"dtype: {files.difference(manifest['dtype'], wanted, 'dtype')}; pass that of the build"
                + ("" if manifest["built"] else ", or restart=True")
            )
        if not manifest["built"]:
            if not manifest["pending"]:
                manifest |= {"dtype": wanted, "width": None, "columns": {}}
            writing.extend(path, manifest, documents, encode, batch_size, shard_size)
        elif documents is not None:
            writing.check_documents(path, manifest, documents)
        return open_documents(path)


@contextlib.contextmanager
def _building(path):
    """Gives the manifest of an index, or None, under the lock of its folder where it is unfinished."""

    def read():
        return store.read_manifest(path)[1] if (path / "index.json").exists() else None

    manifest = read()
    if manifest is not None and manifest["built"]:
        yield manifest
        return
    path.mkdir(parents=True, exist_ok=True)
    if manifest is None:
        _check_ours(path)
    with files.held(path, "a build"), store.cleaned(path):
        yield read()


def add_documents(folder, documents, encode, *, batch_size=64, shard_size=1024, restart=False):
    """Document index, additions: adds documents after those of an index; readers see all or none.

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
        folder: the folder of the index. One process writes it at a time; a second one is refused.
        documents: as for ``build_documents``.
        encode: the function of the build; columns of other names, shapes or dtypes are refused.
        batch_size: documents per call of ``encode``.
        shard_size: documents per shard.
        restart: True drops what an unfinished addition has written. With no documents that is all.

    Returns:
        What ``open_documents(folder)`` returns.

    Raises:
        ValueError: as ``build_documents``, and for an id that the index holds already.
        BlockingIOError: when another process writes the folder; names it.
    """
    writing.check_sizes(batch_size, shard_size)
    with _changing(folder, "an addition") as (folder, manifest):
        if restart and manifest["pending"]:
            manifest |= {"pending": []}
            store.write_manifest(folder, manifest)  # before the files go that it named
        least = 0 if restart else 1
        writing.extend(folder, manifest, documents, encode, batch_size, shard_size, least=least)
        return open_documents(folder)


@contextlib.contextmanager
def _changing(folder, what):
    """Gives the path and the manifest of a finished index under the lock of its folder."""
    folder = store.read_manifest(folder)[0]  # a folder that holds no index gets no lock
    with files.held(folder, what), store.cleaned(folder):
        manifest = store.read_manifest(folder)[1]
        if not manifest["built"]:
            raise ValueError(f"{folder}: the build is unfinished; call build_documents again to go on")
        yield folder, manifest


def delete_documents(folder, ids):
    """Document index, deletions: removes documents in one step.

    The shards that hold them are written anew without them, so their content is gone from the disk. A
    deletion costs as much as writing those shards. Documents after them move up: numbers of documents that
    were found before are void, ids are not. What was exported by ``build_faiss`` or ``build_usearch`` is
    void, and who has the index open must open it again.

    >>> import tempfile
    >>> texts = [(n, np.full((1, 2), n)) for n in (7, 8, 9)]
    >>> folder = tempfile.mkdtemp()
    >>> index = build_documents(folder, texts, lambda params, tokens, mask: tokens.mean(axis=1))
    >>> print(delete_documents(folder, [8]).ids)
    [7 9]

    Args:
        folder: the folder of the index. One process writes it at a time; a second one is refused.
        ids: of the documents that go: one, or any iterable of them.

    Returns:
        What ``open_documents(folder)`` returns.

    Raises:
        ValueError: for an id that the index does not hold, when no document would stay, or while an
            addition is unfinished. Also for a shard that is damaged, which is never written anew.
        BlockingIOError: when another process writes the folder; names it.
    """
    ids = ids.tolist() if isinstance(ids, np.ndarray | np.generic) else ids
    gone = {ids} if isinstance(ids, str | int) else set(ids)
    with _changing(folder, "a deletion") as (folder, manifest):
        if manifest["pending"]:
            raise ValueError(f"{folder}: an addition is unfinished; finish it first")
        held = [writing.known_ids(folder, [shard]) for shard in manifest["shards"]]
        for name in gone.difference(*held):
            raise ValueError(f"ids: {name!r} is not in the index; pass ids that it holds")
        if len(gone) == sum(map(len, held)):
            raise ValueError("ids: no document would stay; delete the folder instead")
        store.clean(folder, manifest)
        shards = list(_without(folder, manifest["shards"], held, gone))
        store.write_manifest(folder, manifest | {"shards": shards})
        store.clean(folder, manifest | {"shards": shards})
        return open_documents(folder)


def _without(folder, shards, held, gone):
    """Yields the shards without some documents; those that held any are written anew."""
    for shard, names in zip(shards, held, strict=True):
        keep = [i for i, name in enumerate(names) if name not in gone]
        if len(keep) == len(names):
            yield shard
        elif keep:
            yield writing.write_shard(folder, writing.kept(folder, shard, np.array(keep)))


def _begin(folder, params, meta):
    """Writes README, the file of parameters and an index of nothing."""
    _check_ours(folder)
    manifest = {"format": store.FORMAT, "version": store.VERSION, "built": False}
    manifest |= {"meta": store.plain_json(meta), "width": None, "dtype": None, "columns": {}}
    manifest |= {"params": None, "shards": [], "pending": []}
    if params is not None:
        name = f"params-{uuid.uuid4().hex}.npz"
        with files.written(folder / name) as file:
            np.savez(file, **store.leaves(params))
        entry = {"file": name, "bytes": (folder / name).stat().st_size}
        entry |= {"sha256": files.digest(folder / name), "leaves": store.fingerprints(params)}
        manifest["params"] = entry
    with files.written(folder / "README.txt") as file:
        file.write(store.README.encode())
    store.write_manifest(folder, manifest)
    return manifest


def _check_ours(folder):
    foreign = sorted(p.name for p in folder.iterdir() if not store.is_ours(p))
    if foreign:
        raise ValueError(
            f"{folder}: holds {foreign[0]!r}, which is not part of an index; choose another folder"
        )


def _check_meta(manifest, meta):
    meta = store.plain_json(meta)
    if meta != manifest["meta"]:
        text = files.difference(manifest["meta"], meta)
        raise ValueError(f"meta: {text}; pass that of the build, or choose another folder")


@dataclasses.dataclass(frozen=True)
class Documents:
    """Holds what ``open_documents`` opened; tokens and columns stay on the disk until they are read.

    Attributes:
        ids: array [N] of integers or strings.
        columns: {name: rows [N, ...]}. Rows have a shape, a dtype and a length, and take an integer, a slice,
            or an array of integers or of N bools; ``top_k`` and ``scan_top_k`` take them as they are.
            ``rows[:, :n]`` are the first n numbers of every row, still on the disk. So one index is searched
            in fewer repetitions of an encoding (``vectors.truncate_fde``).
        tokens: rows [S, D], the tokens of all documents, one document after the other.
        offsets: int64 [N + 1]. Document n has ``tokens[offsets[n] : offsets[n + 1]]``.
        params: nested dict of arrays with which the columns were made, or None.
        meta: the JSON value that was given at the build.
    """

    ids: np.ndarray
    columns: dict
    tokens: object
    offsets: np.ndarray
    params: object
    meta: object


def open_documents(folder, *, params=None, meta=None, verify=False):
    """Document index, opened: reads neither tokens nor columns until they are asked for.

    >>> import tempfile
    >>> from jaxembed.search import build_documents
    >>> folder = tempfile.mkdtemp() + "/index"
    >>> texts = [("a", np.ones((2, 3))), ("b", np.zeros((0, 3)))]
    >>> built = build_documents(folder, texts, lambda params, tokens, mask: tokens.sum(axis=1))
    >>> index = open_documents(folder)
    >>> print(index.ids, index.offsets, index.columns["vectors"][:2].tolist())
    ['a' 'b'] [0 2 2] [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]

    Args:
        folder: the folder of the index.
        params: optional nested dict of arrays. When it differs from the one of the build, the index is
            refused by the name of the array. This is a check only: the index holds its own.
        meta: optional JSON value, compared with the one of the build in the same way.
        verify: True reads every file and compares its checksum. False compares the checksums of the manifest,
            ids, offsets and params, and the sizes of tokens and columns.

    Returns:
        A ``Documents``. Nothing in the files is executed. Beside a writer it
        opens the index as it was before or after the change.

    Raises:
        FileNotFoundError: when the folder holds no index or one of its files is missing. Reading rows raises
            it too, when documents were deleted since the index was opened.
        ValueError: when a file is damaged, the build is unfinished, or params or meta differ.
    """
    folder = files.local_path(folder, "folder")

    def opened(manifest):
        store.check_same(manifest, params, meta)
        if not manifest["built"]:
            raise ValueError(f"{folder}: the build is unfinished; call build_documents again to go on")
        return _opened(folder, manifest, verify)

    return _folders.steady(lambda: store.read_manifest(folder)[1], opened, folder)


def _opened(folder, manifest, verify):
    """The documents that a manifest names, after a look at every file."""
    shards, starts = manifest["shards"], [np.zeros(1, np.int64)]
    for shard in shards:
        store.check_shard(folder, shard, verify=verify)
        starts.append(starts[-1][-1] + store.shard_array(folder, shard, "offsets.npy")[1:])
    rows = functools.partial(store.Rows, folder, shards)
    columns = {name: rows(f"column.{name}.npy", **c) for name, c in manifest["columns"].items()}
    return Documents(
        np.concatenate([store.shard_array(folder, shard, "ids.npy") for shard in shards]),
        columns,
        rows("tokens.npy", [manifest["width"]], manifest["dtype"]),
        np.concatenate(starts),
        store.load_params(folder, manifest["params"]),
        manifest["meta"],
    )
