"""Documents with token vectors on disk: the format, and opening it without loading it."""

import bisect
import contextlib
import copy
import functools
import hashlib
import json
import math
import re
import shutil

import numpy as np

from jaxembed import files
from jaxembed.search import _folders

FORMAT = "jaxembed-documents"
VERSION = 2
README = """\
This folder is an index of documents with token vectors, written by jaxembed.search.build_documents
and opened by jaxembed.search.open_documents. Format "jaxembed-documents", version 2.

index.json            The one file that says what belongs to the index. It is replaced in one step, so
                      whatever it names is complete; files and folders that it does not name are left
                      over from a killed writer and are removed by the next one.
    format, version   As above.
    built             False until the first build is finished.
    meta              The JSON value that was given at the build.
    width, dtype      Of the token vectors.
    columns           {name: {shape, dtype}} of one document's row.
    params            null, or the file of the parameters, its bytes and sha256, and of each array by
                      its path the dtype, shape and sha256.
    shards            Documents of the index, in their order. Each entry has the folder, the number of
                      documents and of tokens, and for each file its bytes, sha256, shape and dtype.
    pending           Shards of a build or an addition that is not finished; no reader sees them.
    checksum          The sha256 of index.json itself, as it was with an empty checksum. A folder of an
                      older jaxembed has none.
shard-*/ids.npy       [n], integers or strings, each once in the index.
shard-*/tokens.npy    [t, width], the tokens of all n documents, one document after the other.
shard-*/offsets.npy   int64 [n + 1]; document i has tokens offsets[i] to offsets[i + 1] - 1.
shard-*/column.NAME.npy   [n, ...], what the encoder made of each document.
params-*.npz          The parameters with which the columns were made; keys are paths, joined by "/".
.lock                 The lock of the writer. It holds the writer's process and machine while one works.

All .npy files are NumPy's format without pickled objects. Documents are numbered from 0 in the order
of the shards. Deleting documents rewrites the shards that hold them and renumbers what follows.
"""
AGAIN = "restore the file, or delete the folder and build the index again"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
KEYS = {"format", "version", "built", "meta", "width", "dtype", "columns", "params", "shards", "pending"}
SHARD = re.compile(r"shard-[0-9a-f]{32}")
PARAMS = re.compile(r"params-[0-9a-f]{32}\.npz")


class Rows:
    """The rows of one file of every shard, as one array that is read where it is indexed."""

    def __init__(self, folder, shards, name, shape, dtype):
        self._folder, self._name, self._cut = folder, name, slice(None)
        sizes = [shard["files"][name]["shape"][0] for shard in shards]
        self._shards, self._stops = shards, np.cumsum(sizes).tolist()
        self.shape, self.dtype = (self._stops[-1], *shape), np.dtype(dtype)
        self.ndim = len(self.shape)

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)

    def __getitem__(self, places):
        if isinstance(places, tuple):
            return self._first(places)
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            return self._range(start, max(start, stop))
        places = np.asarray(places)
        if places.dtype == bool:
            if places.shape != (len(self),):
                raise IndexError(f"places: {places.shape} bools for {len(self)} rows; pass one per row")
            places = np.flatnonzero(places)
        if places.size and not np.issubdtype(places.dtype, np.integer):
            raise IndexError(f"places: {places.dtype}; pass integers, bools or a slice")
        places = places.astype(np.int64)
        flat = np.where(places < 0, places + len(self), places).reshape(-1)
        if flat.size and not (flat.min() >= 0 and flat.max() < len(self)):
            raise IndexError(f"places: outside 0..{len(self) - 1}")
        out = np.empty((flat.size, *self.shape[1:]), self.dtype)
        owners = np.searchsorted(self._stops, flat, side="right")
        for shard in np.unique(owners):
            mine = owners == shard
            out[mine] = self._array(shard)[flat[mine] - self._start(shard)]
        return out.reshape((*places.shape, *self.shape[1:]))[()]

    def _first(self, places):
        """Returns rows[:, :n], which stay on the disk; any other tuple belongs to rows that are read."""
        slices = len(places) == 2 and self.ndim > 1 and all(isinstance(p, slice) for p in places)
        if not slices or places[0] != slice(None) or places[1].start or places[1].step not in (None, 1):
            raise IndexError(f"places: {places}; pass [:, :n], or read rows first, as rows[places][...]")
        rows, size = copy.copy(self), len(range(self.shape[1])[places[1]])
        rows._cut, rows.shape = slice(size), (len(self), size, *self.shape[2:])
        return rows

    @property
    def version(self):
        """A name of exactly these rows, which changes when documents are added or deleted."""
        named = [self._name, str(self.shape[1:]), *(shard["folder"] for shard in self._shards)]
        return hashlib.sha256(" ".join(named).encode()).hexdigest()

    def _range(self, start, stop):
        parts, shard = [], bisect.bisect_right(self._stops, start)
        while start < stop:
            begin, end = self._start(shard), min(stop, self._stops[shard])
            if end > start:
                parts.append(self._array(shard)[start - begin : end - begin])
            start, shard = max(start, end), shard + 1
        if not parts:
            return np.empty((0, *self.shape[1:]), self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _start(self, shard):
        return self._stops[shard - 1] if shard else 0

    def _array(self, shard):
        try:
            found = shard_array(self._folder, self._shards[shard], self._name)
        except FileNotFoundError:
            if self._shards[shard]["folder"] in _named(self._folder):
                raise
            raise _folders.changed(self._folder) from None
        return found[:, self._cut] if self.ndim > 1 else found


def _named(folder):
    """Shards of the index as it is now; none where it is gone or another form."""
    with contextlib.suppress(OSError, ValueError):
        return [shard["folder"] for shard in read_manifest(folder)[1]["shards"]]
    return []


def shard_array(folder, shard, name):
    """Opens one file of a shard; the last few opened ones are kept.

    Args:
        folder: of the index.
        shard: its entry in the manifest.
        name: of the file.
    """
    entry = shard["files"][name]
    return _open(folder / shard["folder"] / name, tuple(entry["shape"]), entry["dtype"])


@functools.lru_cache(maxsize=64)
def _open(path, shape, dtype):
    if 0 in shape:  # an empty file cannot be mapped
        return np.zeros(shape, dtype)
    return files.open_array(path, shape, dtype, AGAIN)


def leaves(params, path=""):
    """Returns {path: array} of a nested dict of arrays; None means nothing.

    Args:
        params: nested dict with string keys, or None.
        path: in front of every path.
    """
    if params is None and not path:
        return {}
    if not isinstance(params, dict):
        if params is None or isinstance(params, list | tuple) or not path:
            raise ValueError(
                f"params: {path or 'the value'} is {type(params).__name__}; pass a dict of arrays"
            )
        try:
            array = np.asarray(params)
        except TypeError:
            raise ValueError(
                f"params: {path!r} is not a plain array; of a key pass jax.random.key_data"
            ) from None
        files.native_dtype(array.dtype, f"params[{path!r}]")
        return {path: array}
    if not params and path:
        raise ValueError(f"params: {path!r} is empty; leave it out")
    found = {}
    for key in sorted(params):
        if not isinstance(key, str) or "/" in key:
            raise ValueError(f"params: the key {key!r} is not a path; use strings without /")
        found |= leaves(params[key], f"{path}/{key}" if path else key)
    return found


def fingerprints(params):
    """Returns {path: dtype, shape and sha256 of the bytes} of a nested dict of arrays, as text.

    Args:
        params: nested dict of arrays, or None.
    """
    found = {}
    for path, x in leaves(params).items():
        found[path] = (
            f"{x.dtype.str} {x.shape} {hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()}"
        )
    return found


def check_same(manifest, params, meta):
    """Refuses params or meta, where they are given, that are not those of the build.

    Args:
        manifest: of the index.
        params: nested dict of arrays or None.
        meta: JSON value or None.
    """
    stored = {} if manifest["params"] is None else manifest["params"]["leaves"]
    given = {"params": (params, stored, fingerprints), "meta": (meta, manifest["meta"], plain_json)}
    for name, (value, old, form) in given.items():
        if value is not None and form(value) != old:
            text = files.difference(old, form(value), name)
            raise ValueError(f"{name}: {text}; use those of the build, which the index holds, or build again")


def plain_json(value):
    """Returns a JSON value as a file gives it back: tuples become lists.

    Args:
        value: JSON value.
    """
    return json.loads(json.dumps(value))


def load_params(folder, entry):
    """Reads the parameters of an index, or returns None.

    Args:
        folder: of the index.
        entry: of the parameters in the manifest.
    """
    if entry is None:
        return None
    files.check_size(folder / entry["file"], entry["bytes"], AGAIN)
    files.check_digest(folder / entry["file"], entry["sha256"], AGAIN)
    params = {}
    with np.load(folder / entry["file"], allow_pickle=False) as file:
        for path in file.files:
            *parents, last = path.split("/")
            inner = params
            for key in parents:
                inner = inner.setdefault(key, {})
            inner[last] = file[path]
    return params


def read_manifest(folder):
    """Reads and checks index.json; returns the folder as a path, and the manifest.

    Args:
        folder: of the index.
    """
    folder = files.local_path(folder, "folder")
    path, remedy = folder / "index.json", "delete the folder and build the index again"
    manifest = files.read_json(path, remedy, sealed=True)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path}: is not an index of build_documents; choose another folder")
    if manifest.get("version") != VERSION:
        raise ValueError(f"{path}: has version {manifest.get('version')}, expected {VERSION}; {remedy}")
    try:
        complete = _complete(manifest)
    except (AttributeError, KeyError, TypeError, ValueError):
        complete = False
    if not complete:
        raise ValueError(f"{path}: is incomplete; {remedy}")
    return folder, manifest


def write_manifest(folder, manifest):
    """Replaces index.json in one step.

    Args:
        folder: of the index.
        manifest: dict.
    """
    files.write_json(folder / "index.json", manifest, sealed=True)


def _complete(manifest):
    """Whether a manifest names every file as it must be."""
    shards, columns = manifest["shards"] + manifest["pending"], manifest["columns"]
    complete = manifest.keys() == KEYS and all(NAME.fullmatch(name) for name in columns)
    complete &= all(SHARD.fullmatch(s["folder"]) is not None for s in shards)
    complete &= all(_fits(manifest, s, s["documents"], s["tokens"]) for s in shards)
    if (params := manifest["params"]) is not None:
        complete &= bool(PARAMS.fullmatch(params["file"])) and isinstance(params["bytes"], int)
        complete &= isinstance(params["sha256"], str) and isinstance(params["leaves"], dict)
    return complete and bool(manifest["shards"]) == manifest["built"]


def _fits(manifest, shard, documents, tokens):
    """Whether the files of a shard have the shapes, dtypes and bytes that belong together."""
    wanted = {"ids.npy": ([documents], None), "offsets.npy": ([documents + 1], np.dtype(np.int64).str)}
    wanted["tokens.npy"] = [tokens, manifest["width"]], manifest["dtype"]
    for name, column in manifest["columns"].items():
        wanted[f"column.{name}.npy"] = [documents, *column["shape"]], column["dtype"]
    fits = shard["files"].keys() == wanted.keys() and documents > 0
    for name, (shape, dtype) in wanted.items():
        entry = shard["files"][name]
        size = math.prod(shape) * np.dtype(entry["dtype"]).itemsize
        fits &= all(type(n) is int and n >= 0 for n in [*shape, entry["bytes"]])
        fits &= entry["shape"] == shape and dtype in (None, entry["dtype"])
        fits &= 0 < entry["bytes"] - size <= 10_000 and isinstance(entry["sha256"], str)
    return bool(fits)


def check_shard(folder, shard, *, verify, names=None):
    """Refuses a shard whose files have other sizes, or other ids and offsets than were written.

    Args:
        folder: of the index.
        shard: its entry in the manifest.
        verify: True compares the checksums of all these files.
        names: of the files; None takes all.
    """
    data = folder / shard["folder"]
    for name in names or shard["files"]:
        entry = shard["files"][name]
        files.check_size(data / name, entry["bytes"], AGAIN)
        if verify or name in ("ids.npy", "offsets.npy"):
            files.check_digest(data / name, entry["sha256"], AGAIN)
        array = shard_array(folder, shard, name) if name in ("ids.npy", "offsets.npy") else None
        if name == "ids.npy":
            _folders.check_texts(data / name, array, AGAIN)
        elif name == "offsets.npy":
            _folders.check_offsets(data / name, array, shard["tokens"], AGAIN)


def is_ours(path):
    """Whether a file or folder in the folder of an index is part of it, left over from it, or hidden.

    Args:
        path: pathlib path.
    """
    name = path.name.removesuffix(".new")
    if name.startswith("."):  # of the system
        return True
    if name == "README.txt":
        text, begin = path.read_bytes(), README.encode()[:120]  # the rest differs between versions
        return text[:120] == begin[: len(text)]  # a killed writer leaves a part
    return name == "index.json" or bool(SHARD.fullmatch(name) or PARAMS.fullmatch(name))


def clean(folder, manifest):
    """Removes shards and parameters that the manifest does not name, and lets go of their maps.

    Args:
        folder: of the index.
        manifest: that on the disk.
    """
    _open.cache_clear()
    named = {shard["folder"] for shard in manifest["shards"] + manifest["pending"]}
    for path in folder.iterdir():
        if SHARD.fullmatch(path.name) and path.name not in named:
            shutil.rmtree(path, ignore_errors=True)
        elif PARAMS.fullmatch(path.name) and path.name != (manifest["params"] or {}).get("file"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def cleaned(folder):
    """Removes what an unfinished block wrote and the manifest does not name.

    Args:
        folder: of the index, whose lock is held.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            begun = (folder / "index.json").exists()
            nothing = {"shards": [], "pending": [], "params": None}
            clean(folder, read_manifest(folder)[1] if begun else nothing)
        raise
