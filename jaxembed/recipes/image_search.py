"""Pictures in, hits out: a folder embedded, and searched by pictures."""

import concurrent.futures
import functools
import hashlib
import os

import jax
import numpy as np

from jaxembed import data
from jaxembed import search as ranks
from jaxembed.arrays import unit


def embed_images(
    encoder,
    folder,
    *,
    size=None,
    path=None,
    batch_size=32,
    bad="skip",
    dtype=np.float32,
    verify=False,
    progress=True,
):
    """Embeds the pictures below a folder, one vector each; files are decoded while the encoder works.

    ``index = recipes.embed_images(encoders.mobilenet_v2(), "pictures", path="pictures.npy")``

    Args:
        encoder: ``encoders.ImageEncoder``, such as ``encoders.mobilenet_v2()`` or the result of
            ``recipes.fine_tune_images``.
        folder: of pictures; those in a folder of their own below it have its name as label.
        size: side to which pictures are brought, or (height, width); None takes ``encoder.size``.
        path: optional .npy file; the vectors are memory-mapped then, and a run that was stopped goes on
            there. A file of other pictures or of another encoder is refused.
        batch_size: pictures per call of the encoder.
        bad: "skip" gives a file that cannot be read the vector 0 and lists it; "refuse" raises.
        dtype: of the vectors.
        verify: True reads a finished file of vectors and compares its checksum.
        progress: show a bar when a person watches.

    Returns:
        Dict: "vectors" [N, D], "paths" list of N, "labels" int32 [N] with their "names", "skipped" {path:
        message}, and the "size" of the pictures.

    Raises:
        FileNotFoundError: when the folder is not there.
        ValueError: for a folder without pictures, or a net without weights; with ``bad="refuse"`` for a file
            that cannot be read.
    """
    _check_encoder(encoder)
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size}; pass at least 1")
    files = data.image_files(folder, bad=bad)
    paths, side = files["paths"], size or encoder.size
    reader = _Reader(paths, side, bad, encoder.channels, batch_size)
    encode = _jitted(encoder.encode)

    def vectors_of(pictures):
        found = np.asarray(encode(encoder.params, np.stack([x for x, _ in pictures])))
        return np.where(np.array([kept for _, kept in pictures])[:, None], found, 0)

    options = {"batch_size": min(batch_size, len(paths)), "dtype": dtype, "progress": progress}
    with reader:
        if path is None:
            parts = range(0, len(paths), options["batch_size"])
            vectors = np.concatenate([_padded(vectors_of, reader, at, options["batch_size"]) for at in parts])
            vectors = vectors.astype(dtype)
        else:
            meta = {"encoder": _digest(encoder), "pictures": _names(paths), "size": str(side)}
            vectors = ranks.embed(vectors_of, reader, path=path, meta=meta, verify=verify, **options)
    empty = np.flatnonzero(~np.asarray(vectors).any(axis=1))
    faults = {paths[row]: _fault(paths[row], side) for row in empty}
    skipped = files["skipped"] | {place: fault for place, fault in faults.items() if fault}
    return files | {"vectors": vectors, "skipped": skipped, "size": side}


def search_images(encoder, index, queries, *, k=10, size=None):
    """Finds the pictures of an index that are nearest to each query, with their cosines.

    ``recipes.search_images(encoder, index, ["photo.jpg"], k=5)`` gives, for each query, k hits such as
    ``{"row": 7, "score": 0.61, "path": ...}``. Files that were skipped are never hits.

    Args:
        encoder: that made the index.
        index: of :func:`embed_images`.
        queries: list of B pictures: paths, bytes of files, or uint8 arrays [H, W, C].
        k: hits per query, at most the number of pictures that were read.
        size: as in :func:`embed_images`; None takes that of the index.

    Returns:
        A list of B lists of k hits, best first.

    Raises:
        ValueError: for one query in place of a list, a query that cannot be read, k outside its range, or an
            index with vectors that are not finite.
    """
    _check_encoder(encoder)
    single = isinstance(queries, str | bytes | os.PathLike) or getattr(queries, "ndim", 4) != 4
    if single or not len(queries):
        raise ValueError("queries: not a list of pictures; pass one with at least one")
    rows = np.array([row for row, place in enumerate(index["paths"]) if place not in index["skipped"]], int)
    if not 1 <= k <= len(rows):
        raise ValueError(f"k: {k} is outside 1..{len(rows)}, the number of pictures")
    options = {"size": size or index.get("size") or encoder.size, "channels": encoder.channels}
    pictures = [_picture(query, options) for query in queries]
    asked = unit(_jitted(encoder.encode)(encoder.params, np.stack(pictures)))
    known = np.asarray(index["vectors"], np.float32)[rows]
    broken = rows[~np.isfinite(known).all(axis=1)]
    if len(broken):
        raise ValueError(f"index: the vector of {index['paths'][broken[0]]} is not finite; embed it again")
    known = unit(known)
    scores, found = ranks.top_k(asked, known, k)
    return [
        [
            {"row": int(rows[n]), "score": float(s), "path": index["paths"][rows[n]]}
            for s, n in zip(*one, strict=True)
        ]
        for one in zip(np.asarray(scores), np.asarray(found), strict=True)
    ]


def _check_encoder(encoder):
    if not hasattr(encoder, "params"):
        raise ValueError("encoder: has no weights; pass what recipes.fine_tune_images makes of it")


def _picture(query, options):
    if isinstance(query, np.ndarray | jax.Array):
        return data.fit_image(query, **options)
    if not isinstance(query, str | bytes | os.PathLike):
        raise ValueError(f"queries: holds a {type(query).__name__}; pass paths, bytes or uint8 arrays")
    return data.read_image(query, **options)


class _Reader:
    """The pictures of some files, decoded in threads a few batches ahead of the one that is read."""

    def __init__(self, paths, size, bad, channels, batch_size):
        self._paths, self._ahead, self._waiting, self._next = paths, 3 * batch_size, {}, 0
        self._options = {"bad": bad, "workers": 1, "channels": channels}
        self._side = (size, size) if isinstance(size, int) else tuple(size)

    def __enter__(self):
        self._pool = concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        return self

    def __exit__(self, *error):
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __len__(self):
        return len(self._paths)

    def _read(self, row):
        images, faults = data.read_images([self._paths[row]], self._side, **self._options)
        return images[0], not faults

    def __getitem__(self, row):
        for place in range(max(row, self._next), min(row + self._ahead, len(self))):
            self._waiting[place] = self._pool.submit(self._read, place)
            self._next = place + 1
        waiting = self._waiting.pop(row, None)
        self._last = (row, waiting.result()) if waiting else self._last
        return self._last[1] if self._last[0] == row else self._read(row)


def _padded(vectors_of, records, start, size):
    """Vectors of one batch; the last is filled up so that the encoder is compiled once."""
    stop = min(start + size, len(records))
    pictures = [records[row] for row in range(start, stop)]
    return vectors_of(pictures + pictures[-1:] * (size - len(pictures)))[: stop - start]


@functools.lru_cache(maxsize=16)
def _jitted(encode):
    return jax.jit(encode)


def _digest(encoder):
    """Names an encoder by its weights and statistics."""
    digest = hashlib.sha256()
    state = getattr(encoder.encode, "keywords", {}).get("state")  # of batch norm
    for path, leaf in jax.tree.leaves_with_path((encoder.params, state)):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _names(paths):
    """Names the files by their paths, sizes and times."""
    known = []
    for path in paths:
        try:
            known.append((str(path), path.stat().st_size, path.stat().st_mtime_ns))
        except OSError:  # a link that leads nowhere
            known.append((str(path), None, None))
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _fault(path, side):
    """Why a file cannot be read, or None."""
    try:
        data.read_image(path, side)
    except (ValueError, OSError) as error:
        return str(error)
    return None
