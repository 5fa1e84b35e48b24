"""Vectors of records, written to disk as they come, batch by batch."""

import io
import json
import os

import jax
import numpy as np

from jaxembed import extras, files

_AGAIN = "delete it and embed again"


def embed(encode, records, *, path, batch_size=256, width=None, dtype=np.float32, meta=None, progress=False):
    """Embedding to disk: encodes records batch by batch into one file, and goes on after any interruption.

    Row n of the file is the vector of ``records[n]``. Rows are appended to ``path + ".partial"`` and
    counted in ``path + ".json"`` after they are on the disk; at the end the file is renamed to
    ``path``. A call that finds counted rows goes on after them, so a killed run loses at most one
    batch and writes no row twice. A finished file with the same ``meta`` is returned at once.

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
        path: the file, in NumPy's npy format. One process writes it at a time.
        batch_size: records per call of ``encode``. It may differ between a run and its continuation.
        width: optional D that the vectors are checked against.
        dtype: the dtype of the file, one that NumPy knows by itself (so not bfloat16).
        meta: optional JSON value that says what made the vectors, for example the model's name. A file
            written with another one is refused.
        progress: True shows a bar on a terminal.

    Returns:
        A read-only memory-mapped array [N, D].

    Raises:
        ValueError: for no records, or where ``encode`` returns another shape or numbers that are not finite
            in ``dtype``. Also where the files at ``path`` belong to another call or are damaged.
    """
    path, meta = files.local_path(path, "path"), json.loads(json.dumps(meta))
    count = len(next(iter(records.values()))) if isinstance(records, dict) else len(records)
    if count < 1:
        raise ValueError("records: empty; pass at least one record")
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size} is below 1; pass a positive integer")
    wanted = {"rows": count, "width": width, "dtype": files.native_dtype(dtype, "dtype"), "meta": meta}
    partial, state = _resume(path, wanted)
    if path.exists():
        return files.open_array(path, (count, state["width"]), state["dtype"], _AGAIN)
    starts = range(state["done"], count, batch_size)
    with extras.bar(count, watched=progress, initial=state["done"], desc="embed") as bar:
        for start in starts:
            stop = min(start + batch_size, count)
            batch = _batch(records, np.minimum(np.arange(start, start + batch_size), count - 1))
            vectors = np.asarray(encode(batch))
            _check_vectors(vectors, batch_size, state["width"])
            if state["width"] is None:
                state["width"] = vectors.shape[1]
            _append(partial, _stored(vectors[: stop - start], dtype, start), state)
            state["done"] = stop
            files.write_json(files.beside(path, ".json"), state)
            bar.update(stop - start)
    os.replace(partial, path)
    files.sync_folder(path.parent)
    return files.open_array(path, (count, state["width"]), state["dtype"], _AGAIN)


def _resume(path, wanted):
    """Returns the partial file and the state from which `embed` goes on."""
    partial, record = files.beside(path, ".partial"), files.beside(path, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (path.exists() or (partial.exists() and record.exists())):
        state = wanted | {"done": 0}
        # The count goes back to 0 before a new file begins, so an old count never meets a new file.
        files.write_json(record, state)
        return partial, state
    remedy = f"delete {path.name} and {record.name}, or choose another path"
    state = files.read_json(record, remedy)
    if not isinstance(state, dict) or not {"done", *wanted} <= state.keys():
        raise ValueError(f"{record}: is not a record of embed; {remedy}")
    for name, value in wanted.items():
        unknown = name == "width" and None in (value, state[name])
        if not unknown and state[name] != value:
            raise ValueError(f"{path}: {files.difference(state[name], value, name)}; {remedy}")
    state["width"] = state["width"] or wanted["width"]
    if not path.exists() and state["done"]:
        size = len(_npy_header(state)) + _row_bytes(state) * state["done"]
        files.check_size(partial, size, _AGAIN, exact=False)
    return partial, state


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


def _append(partial, vectors, state):
    """Writes rows after those that are counted; what a killed run left after them is cut off."""
    header = _npy_header(state)
    end = len(header) + _row_bytes(state) * state["done"]
    with open(partial, "r+b" if state["done"] else "wb") as file:
        if not state["done"]:
            file.write(header)
        file.truncate(end)
        file.seek(end)
        file.write(np.ascontiguousarray(vectors).tobytes())
        file.flush()
        os.fsync(file.fileno())


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
