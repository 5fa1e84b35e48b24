"""Vectors on disk: a corpus embedded in resumable steps, and an index that opens without loading."""

import dataclasses
import functools
import json
import re
import shutil
import uuid
from collections.abc import Sequence

import numpy as np

from jaxembed import files
from jaxembed.arrays import host
from jaxembed.search import _folders

_FORMAT = "jaxembed-index"
_VERSION = 1
_KEYS = {"format", "version", "single", "meta", "arrays", "metadata", "metadata_sha256", "generation"}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_GENERATION = re.compile(r"generation-[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True)
class Index:
    """Holds what ``load_index`` opened; nothing large is in memory until it is read.

    Attributes:
        vectors: memory-mapped array [N, ...] or a dict of them, as it was saved.
        ids: array [N].
        metadata: sequence of N JSON values, each read from the disk when it is asked for, or None.
        meta: the JSON value that was saved with the index.
    """

    vectors: object
    ids: np.ndarray
    metadata: Sequence | None
    meta: object


def save_index(folder, vectors, ids, metadata=None, meta=None):
    """Vector index: writes vectors, ids and metadata into one folder, or replaces those in it.

    The files are written to a new folder inside ``folder``; then ``index.json``, which names it and holds
    the checksums of its files and its own, is replaced in one step. A reader sees the old index or the
    new one, and a writer that is killed leaves the old one as it was.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp() + "/index"
    >>> save_index(folder, np.eye(2), ["a", "b"], [{"title": "A"}, {"title": "B"}], {"model": "m1"})
    >>> index = load_index(folder)
    >>> print(index.vectors[1], index.ids[1], index.metadata[1], index.meta)
    [0. 1.] b {'title': 'B'} {'model': 'm1'}

    Args:
        folder: made where it does not exist. One process writes it at a time; a second one is refused.
        vectors: array [N, ...] or a dict from names to such arrays, of dtypes that NumPy knows by itself (so
            not bfloat16). Memory-mapped arrays are copied without being loaded whole.
        ids: N integers of up to 64 bits, or N strings, none of which ends in NUL.
        metadata: optional sequence of N JSON values.
        meta: optional JSON value, for example the model that made the vectors.

    Raises:
        ValueError: when the lengths differ, or a dtype, an id or a name cannot be stored. Also when
            ``folder`` is not on the local disk or holds an ``index.json`` of something else.
        BlockingIOError: when another process writes the folder; names it.
    """
    folder, single = files.local_path(folder, "folder"), not isinstance(vectors, dict)
    ids = _ids(ids)
    vectors = {name: _storable(name, x) for name, x in ({"vectors": vectors} if single else vectors).items()}
    for name, x in vectors.items():
        if x.ndim < 1 or len(x) != len(ids) or x.size == 0:
            raise ValueError(f"vectors: {name} is {x.shape} for {len(ids)} ids; pass [N, ...] with N > 0")
    arrays = {f"vectors.{name}.npy": x for name, x in vectors.items()} | {"ids.npy": _storable("ids", ids)}
    if metadata is not None and len(metadata) != len(ids):
        raise ValueError(f"metadata: {len(metadata)} entries for {len(ids)} ids; pass one for each")
    header = {"format": _FORMAT, "version": _VERSION, "single": single, "meta": meta}
    json.dumps(header)
    _check_owned(folder / "index.json")
    folder.mkdir(parents=True, exist_ok=True)
    with files.held(folder, "a save"):
        _check_owned(folder / "index.json")
        data = folder / f"generation-{uuid.uuid4().hex}"
        data.mkdir()
        with files.cleared(data):
            header |= _write(data, arrays, metadata) | {"generation": data.name}
        try:
            files.write_json(folder / "index.json", header, sealed=True)
        except Exception:  # raised before it names the folder
            shutil.rmtree(data, ignore_errors=True)
            raise
        for old in folder.iterdir():
            if _GENERATION.fullmatch(old.name) and old.name != data.name:
                shutil.rmtree(old, ignore_errors=True)


def _write(data, arrays, metadata):
    """Writes the files of a generation; returns what the header says of them."""
    said = {"arrays": {}}
    if metadata is not None:
        path = data / "metadata.jsonl"
        said["metadata"], arrays["offsets.npy"] = _write_lines(path, metadata)
        said["metadata_sha256"] = files.digest(path)
    for name, x in arrays.items():
        files.write_array(data / name, x)
        said["arrays"][name] = {"shape": x.shape, "dtype": x.dtype.str, "sha256": files.digest(data / name)}
    files.sync_folder(data)
    return said


def load_index(folder, *, verify=False):
    """Vector index, opened without reading its vectors.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp() + "/index"
    >>> save_index(folder, {"pooled": np.ones((3, 4)), "tokens": np.ones((3, 5, 4))}, [7, 8, 9])
    >>> index = load_index(folder)
    >>> print(index.ids, {name: x.shape for name, x in index.vectors.items()})
    [7 8 9] {'pooled': (3, 4), 'tokens': (3, 5, 4)}

    Args:
        folder: the folder of the index.
        verify: True reads every file and compares its checksum. False compares the checksums of header, ids
            and offsets of the metadata, and the sizes of vectors and metadata.

    Returns:
        An ``Index`` whose arrays are read-only and memory-mapped. Nothing in the files is executed. It stays
        what it is when the index is saved anew.

    Raises:
        FileNotFoundError: when the folder holds no index or one of its files is missing.
        ValueError: when a file is damaged, cut short or of another format. With ``verify`` also for an index
            that an older jaxembed saved without checksums.
    """
    folder = files.local_path(folder, "folder")
    return _folders.steady(
        lambda: _read_header(folder), functools.partial(_opened, folder, verify=verify), folder
    )


_AGAIN = "save the index again with save_index"


def _opened(folder, header, verify):
    data = folder / header["generation"]
    arrays = {
        name: files.open_array(data / name, tuple(x["shape"]), x["dtype"], _AGAIN)
        for name, x in header["arrays"].items()
    }
    lines = data / "metadata.jsonl"
    if "metadata" in header:
        files.check_size(lines, header["metadata"], _AGAIN)
        _folders.check_offsets(data / "offsets.npy", arrays["offsets.npy"], header["metadata"], _AGAIN)
    _folders.check_texts(data / "ids.npy", arrays["ids.npy"], _AGAIN)
    sums = {data / name: x.get("sha256") for name, x in header["arrays"].items()}
    sums |= {lines: header.get("metadata_sha256")} if "metadata" in header else {}
    for path, sha256 in sums.items():
        if sha256 is None and verify:
            raise ValueError(f"{path}: was saved without a checksum; {_AGAIN}, or leave verify out")
        if sha256 is not None and (verify or path.name in ("ids.npy", "offsets.npy")):
            files.check_digest(path, sha256, _AGAIN)
    ids, offsets = arrays.pop("ids.npy"), arrays.pop("offsets.npy", None)
    metadata = None if offsets is None else _Lines(lines, offsets)
    vectors = {name.removeprefix("vectors.").removesuffix(".npy"): x for name, x in arrays.items()}
    return Index(vectors["vectors"] if header["single"] else vectors, ids, metadata, header["meta"])


class _Lines(Sequence):
    """A file of JSON lines, read one line at a time."""

    def __init__(self, path, offsets):
        self._path, self._offsets = path, offsets
        self._bytes = np.memmap(path, np.uint8, "r")  # outlives the file

    def __len__(self):
        return len(self._offsets) - 1

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start, stop = int(self._offsets[index]), int(self._offsets[index + 1])
        try:
            return json.loads(self._bytes[start:stop].tobytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self._path}: entry {index} is damaged ({error}); {_AGAIN}") from None


def _storable(name, x):
    if not _NAME.fullmatch(name):
        raise ValueError(f"vectors: the name {name!r} is not a file name; use letters, digits, _ . and -")
    x = x if isinstance(x, np.ndarray) else np.asarray(x)
    files.native_dtype(x.dtype, name)
    return x


def _ids(ids):
    """Ids as an array of integers or strings, none of them changed."""
    array = host("ids", ids)
    if array.dtype.kind in "OU" and not isinstance(ids, np.ndarray) or array.dtype.kind == "O":
        other = [item for item in ids if not isinstance(item, str)]
        if other:
            raise ValueError(f"ids: {other[0]!r} is among strings; pass N integers or N strings")
        ended = [item for item in ids if item.endswith("\0")]
        if ended:
            raise ValueError(f"ids: {ended[0]!r} ends in NUL, which NumPy's strings drop; choose another id")
        array = array.astype(str)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iuU"):
        raise ValueError(f"ids: {array.dtype} of shape {array.shape}; pass N integers or N strings")
    return array


def _check_owned(path):
    """Refuses to replace an index.json that save_index did not write."""
    if path.exists():
        remedy = "delete it or choose another folder"
        header = files.read_json(path, remedy)
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise ValueError(f"{path}: is not a jaxembed index; {remedy}")


def _read_header(folder):
    path, remedy = folder / "index.json", "delete it and save the index again with save_index"
    header = files.read_json(path, remedy, sealed=True)
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"{path}: is not a jaxembed index; {remedy}")
    if header.get("version") != _VERSION:
        raise ValueError(f"{path}: has version {header.get('version')}, expected {_VERSION}; {remedy}")
    try:
        complete = _complete(header)
    except (AttributeError, KeyError, TypeError, IndexError):
        complete = False
    if not complete:
        raise ValueError(f"{path}: is incomplete; {remedy}")
    return header


def _complete(header):
    """Whether a header says all that belongs to an index, and nothing that does not fit."""
    arrays, count = header["arrays"], header["arrays"]["ids.npy"]["shape"][0]
    lengths = {name: x["shape"][0] for name, x in arrays.items()}
    complete = header.keys() <= _KEYS and "meta" in header and isinstance(header["single"], bool)
    complete &= all(_NAME.fullmatch(name) and isinstance(x["dtype"], str) for name, x in arrays.items())
    complete &= all(type(n) is int for x in arrays.values() for n in x["shape"])
    complete &= bool(_GENERATION.fullmatch(header["generation"]))
    complete &= ("offsets.npy" in arrays) == ("metadata" in header)
    complete &= lengths.pop("offsets.npy", count + 1) == count + 1 and set(lengths.values()) == {count}
    complete &= all(name.startswith("vectors.") for name in lengths.keys() - {"ids.npy"}) and len(lengths) > 1
    return complete and (not header["single"] or "vectors.vectors.npy" in arrays)


def _write_lines(path, values):
    """Writes JSON lines; returns the size of the file and where each line begins."""
    offsets = [0]
    with files.written(path) as file:
        for value in values:
            offsets.append(offsets[-1] + file.write(json.dumps(value).encode() + b"\n"))
    return offsets[-1], np.array(offsets, np.int64)
