"""Vectors of records, written to disk as they come, batch by batch."""

import hashlib
import io
import json
import os

import jax
import numpy as np

from jaxembed import extras, files

_AGAIN = "delete it and embed again"


def embed(
    encode,
    records,
    *,
    path,
    batch_size=256,
    width=None,
    dtype=np.float32,
    meta=None,
    verify=False,
    progress=False,
):
    """Embedding to disk: encodes records batch by batch into one file, and goes on after any interruption.

    Row n of the file is the vector of ``records[n]``. Rows are appended to ``path + ".partial"`` and
    counted in ``path + ".json"`` after they are on the disk; at the end the file is renamed to
    ``path``. A call that finds counted rows goes on after them, so a killed run loses at most one
    batch and writes no row twice. It compares their checksum first. A finished file with the same ``meta``
    is returned at once.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/vectors.npy"
    >>> print(embed(lambda batch: np.array(batch)[:, None] * 0.5, [1, 2, 3], path=path, batch_size=2))
    [[0.5]
     [1. ]
     [1.5]]

    Args:
        encode: function from a batch of records to its vectors [batch_size, D]. Every batch has
            ``batch_size`` records: the last is filled with copies of the last record, whose vectors
            are dropped, so a jitted function compiles once.
        records: anything with a length and items. An array [N, ...] and a dict of such arrays are cut into
            arrays [batch_size, ...]. Any other sequence gives lists of ``batch_size`` items.
        path: the file, in NumPy's npy format. One process writes it at a time; a second one is refused.
        batch_size: records per call of ``encode``. It may differ between a run and its continuation.
        width: optional D that the vectors are checked against.
        dtype: the dtype of the file, one that NumPy knows by itself (so not bfloat16).
        meta: optional JSON value that says what made the vectors, for example the model's name. A file
            written with another one is refused.
        verify: True reads a finished file and compares its checksum; False compares its size and header.
        progress: True shows a bar on a terminal.

    Returns:
        A read-only memory-mapped array [N, D].

    Raises:
        ValueError: for no records, or where ``encode`` returns another shape or numbers that are not finite
            in ``dtype``. Also where the files at ``path`` belong to another call or are damaged, and with
            ``verify`` for a file that an older jaxembed wrote without a checksum.
        BlockingIOError: when another process writes the file; names it.
    """
    path, meta = files.local_path(path, "path"), json.loads(json.dumps(meta))
    count = len(next(iter(records.values()))) if isinstance(records, dict) else len(records)
    if count < 1:
        raise ValueError("records: empty; pass at least one record")
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} is below 1; pass a positive integer")
    wanted = {"rows": count, "width": width, "dtype": files.native_dtype(dtype, "dtype"), "meta": meta}
    if path.exists():
        return _finished(path, _resume(path, wanted), verify)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.held(path, "an embedding"):
        state = _resume(path, wanted)
        if path.exists():  # written while we came
            return _finished(path, state, verify)
        _write(encode, records, path, state, batch_size, progress)
        return _finished(path, state, verify=False)


def _write(encode, records, path, state, batch_size, progress):
    """Encodes the records that are not counted yet, and gives the file its name."""
    partial, count, dtype = files.beside(path, ".partial"), state["rows"], np.dtype(state["dtype"])
    written = _digest_of_rows(partial, state)
    starts = range(state["done"], count, batch_size)
    with extras.bar(count, watched=progress, initial=state["done"], desc="embed") as bar:
        for start in starts:
            stop = min(start + batch_size, count)
            batch = _batch(records, np.minimum(np.arange(start, start + batch_size), count - 1))
            vectors = np.asarray(encode(batch))
            _check_vectors(vectors, batch_size, state["width"])
            if state["width"] is None:
                state["width"] = vectors.shape[1]
            _append(partial, _stored(vectors[: stop - start], dtype, start), state, written)
            state |= {"done": stop, "sha256": written.hexdigest()}
            files.write_json(files.beside(path, ".json"), state, sealed=True)
            bar.update(stop - start)
    os.replace(partial, path)
    files.sync_folder(path.parent)


def _finished(path, state, verify):
    """Opens the whole file."""
    array = files.open_array(path, (state["rows"], state["width"]), state["dtype"], _AGAIN)
    if verify and "sha256" not in state:
        raise ValueError(f"{path}: was written without a checksum; {_AGAIN}, or leave verify out")
    if verify:
        files.check_digest(path, state["sha256"], _AGAIN)
    return array


def _resume(path, wanted):
    """Returns the state from which `embed` goes on."""
    partial, record = files.beside(path, ".partial"), files.beside(path, ".json")
    if not (path.exists() or (partial.exists() and record.exists())):
        state = wanted | {"done": 0}
        # The count goes back to 0 before a new file begins, so an old count never meets a new file.
        files.write_json(record, state, sealed=True)
        return state
    remedy = f"delete {path.name} and {record.name}, or choose another path"
    state = files.read_json(record, remedy, sealed=True)
    keys = {"done", *wanted}
    if not isinstance(state, dict) or not keys <= state.keys() <= keys | {"sha256"}:
        raise ValueError(f"{record}: is not a record of embed; {remedy}")
    for name, value in wanted.items():
        unknown = name == "width" and None in (value, state[name])
        if not unknown and state[name] != value:
            raise ValueError(f"{path}: {files.difference(state[name], value, name)}; {remedy}")
    state["width"] = state["width"] or wanted["width"]
    done, width = state["done"], state["width"]
    if type(done) is not int or not 0 <= done <= state["rows"] or (done and type(width) is not int):
        raise ValueError(f"{record}: {done} of {state['rows']} rows of width {width}; {remedy}")
    if not path.exists() and done:
        size = len(_npy_header(state)) + _row_bytes(state) * done
        files.check_size(partial, size, _AGAIN, exact=False)
    return state


def _digest_of_rows(partial, state):
    """The running sha256 of header and counted rows, which must be what was written."""
    found = hashlib.sha256()
    if state["done"]:
        left = len(_npy_header(state)) + _row_bytes(state) * state["done"]
        with open(partial, "rb") as file:
            while left and (part := file.read(min(left, 1 << 20))):
                found.update(part)
                left -= len(part)
        if state.get("sha256", found.hexdigest()) != found.hexdigest():
            raise ValueError(f"{partial}: the checksum differs; {_AGAIN}")
    return found


def _batch(records, places):
    if isinstance(records, dict):
        return {name: x[places] for name, x in records.items()}
    if isinstance(records, np.ndarray | jax.Array):
        return records[places]
    return [records[int(i)] for i in places]


def _check_vectors(vectors, rows, width):
    if vectors.ndim != 2 or len(vectors) != rows or (width is not None and vectors.shape[1] != width):
        raise ValueError(
            f"encode: returned {vectors.shape} for a batch of {rows} records; "
            f"return [{rows}, {'D' if width is None else width}]"
        )


def _stored(vectors, dtype, start):
    """Vectors in the dtype of the file; what it does not hold is refused by the number of the record."""
    with np.errstate(over="ignore", invalid="ignore"):
        stored = vectors.astype(dtype)
    held = np.isfinite(stored) if stored.dtype.kind in "fc" else stored == vectors
    if not held.all():
        bad = start + int(np.argmin(held.all(axis=1)))
        raise ValueError(
            f"encode: the vector of record {bad} is not finite or does not fit in {stored.dtype}; "
            "mend the encoder, or pass a wider dtype"
        )
    return stored


def _append(partial, vectors, state, written):
    """Writes rows after those that are counted; what a killed run left after them is cut off."""
    header, rows = _npy_header(state), np.ascontiguousarray(vectors).tobytes()
    end = len(header) + _row_bytes(state) * state["done"]
    with open(partial, "r+b" if state["done"] else "wb", buffering=0) as file:
        try:
            if not state["done"]:
                _write_all(file, header)
            file.truncate(end)
            file.seek(end)
            _write_all(file, rows)
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(end if state["done"] else 0)
            raise files.unwritten(partial, error) from None
    written.update(rows if state["done"] else header + rows)


def _write_all(file, data):
    """Writes every byte to a file without a buffer, so that nothing is left to write after an error."""
    data = memoryview(data)
    while data:
        data = data[file.write(data) :]


def _npy_header(state):
    """Returns the first bytes of an npy file of the final shape."""
    file = io.BytesIO()
    shape = (state["rows"], state["width"])
    np.lib.format.write_array_header_1_0(
        file, {"descr": state["dtype"], "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def _row_bytes(state):
    return state["width"] * np.dtype(state["dtype"]).itemsize
