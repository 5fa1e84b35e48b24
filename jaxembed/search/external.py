"""Vectors into the approximate indexes of faiss and usearch, and search through them, where installed."""

import importlib

import jax.numpy as jnp
import numpy as np

from jaxembed import files
from jaxembed.search import _export_files as export
from jaxembed.search._export_files import cause

_USEARCH = {"f32": np.float32, "f16": np.float16, "bf16": jnp.bfloat16}
_FAISS = {"fp16": np.float16, "bf16": jnp.bfloat16}  # parts of a description that narrow the rows


def build_faiss(rows, path, factory="HNSW32", *, sample=100_000, chunk=16_384, **options):
    """faiss index: writes rows for search by inner product; row n gets the number n.

    Beside it ``path.rows.json`` says which rows they were: adding or deleting documents renumbers rows, so
    give ``open_faiss`` the rows too. It holds size and checksum of the file, so move both together.
    ``factory`` is faiss's own description: "Flat" (exact), "HNSW32" (a graph), "IVF256,Flat" (lists),
    "PQ1280x8" (product quantisation), "OPQ64,IVF256,PQ64x8" and so on.

    Args:
        rows: [N, D]. What is on the disk, as a column of ``open_documents``, is read chunk by chunk;
            faiss itself keeps its index in memory.
        path: the file, replaced in one step. One process writes it at a time; a second one is refused.
        factory: str.
        sample: rows that are evenly drawn for training, where the index needs any.
        chunk: rows that are added at a time.
        options: parameters of the build by faiss's names, for example ``efConstruction=200``.

    Returns:
        The path.

    Raises:
        ImportError: when faiss is not installed.
        ValueError: when rows are not [N, D], or too few to train on. For a row that is not finite in the form
            of the index, or whose product with itself overflows. When faiss does not know the description or
            an option.
        BlockingIOError: when another process writes the file; names it.

    References:
        M. Douze et al., arXiv:2401.08281.
    """
    faiss = _library("faiss", "faiss-cpu")
    if not isinstance(factory, str):
        raise ValueError(f"factory: {factory!r} is not a text; pass faiss's description, such as 'HNSW32'")
    _check_rows(rows, path, chunk)
    with export.building(path):
        index = _trained(faiss, rows, factory, sample, options)
        form = _form(factory)
        for start in range(0, len(rows), chunk):
            part = _held("rows", rows[start : start + chunk], range(start, len(rows)), form)
            try:
                index.add(part)
            except RuntimeError as error:
                raise ValueError(
                    f"factory: {factory!r} takes no rows ({cause(error)}); row n has the number n, so leave "
                    "IDMap out"
                ) from None
        return export.replace(path, lambda new: _written(faiss, faiss.write_index, index, new), rows)


def _written(faiss, write, index, name):
    """Writes an index of faiss, and returns its size."""
    size = 0

    def put(data):
        nonlocal size
        size += len(data)
        return file.write(data)

    with open(name, "wb") as file:
        write(index, faiss.PyCallbackIOWriter(put))
    return size


def _trained(faiss, rows, factory, sample, options):
    """An index of faiss without rows, trained where it needs that."""
    count, width = rows.shape
    try:
        index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
        _set_faiss(faiss, index, options)
    except RuntimeError as error:
        given = f"{factory!r} {options}" if options else repr(factory)
        raise ValueError(f"factory: faiss refuses {given} ({cause(error)}); see its index factory") from None
    if not index.is_trained:
        places = _evenly(count, sample)
        drawn = _held("rows", rows[places], places, _form(factory))
        try:
            index.train(drawn)
        except RuntimeError as error:
            raise ValueError(
                f"factory: {factory!r} cannot be trained on {len(places)} rows ({cause(error)}); "
                "use fewer centres or lists, or more rows"
            ) from None
    return index


def _form(factory):
    """The form in which an index of faiss holds its rows."""
    return next((form for name, form in _FAISS.items() if name in factory.lower()), np.float32)


def open_faiss(path, *, rows=None, **options):
    """faiss index, opened as a search function.

    Args:
        path: a file of ``build_faiss``.
        rows: optional, those that were exported, for example ``index.columns["fde"]``. When documents
            were added or deleted since, the file is refused, because its numbers are void.
        options: parameters of the search by faiss's names, for example ``nprobe=16`` or ``efSearch=64``.

    Returns:
        A function (queries [B, D], k) to scores float32 [B, k] and ids int32 [B, k], as ``top_k``
        returns them; a place for which nothing was found holds -1 and -inf.

    Raises:
        ImportError: when faiss is not installed.
        FileNotFoundError: when the file or the one that describes it is missing.
        ValueError: when it is damaged or of other rows, or faiss does not know an option.
    """
    faiss = _library("faiss", "faiss-cpu")
    index = export.opened(path, faiss.read_index, rows)
    try:
        _set_faiss(faiss, index, options)
    except RuntimeError as error:
        raise ValueError(f"options: faiss refuses {options} ({cause(error)}); see its parameters") from None

    def search(queries, k):
        queries = _check_search(queries, k, index.ntotal, index.d)
        scores, ids = index.search(queries, k)
        return np.where(ids < 0, -np.inf, scores).astype(np.float32), ids.astype(np.int32)

    return search


def _evenly(count, sample):
    """Places of at most ``sample`` of ``count`` rows, evenly drawn, for training."""
    return np.unique(np.linspace(0, count - 1, min(sample, count)).astype(np.int64))


def build_faiss_binary(codes, path, factory="BFlat", *, sample=100_000, chunk=65_536, **options):
    """faiss binary index: writes packed codes for search by Hamming distance; code n gets the number n.

    Beside it ``path.rows.json`` says which codes they were, as for ``build_faiss``. ``factory`` is faiss's
    own description: "BFlat" (exact), "BHNSW32" (a graph), "BIVF256" (lists).

    Args:
        codes: uint8 [N, W] of ``vectors.pack_bits``. What is on the disk is read chunk by chunk.
        path: the file, replaced in one step. One process writes it at a time; a second one is refused.
        factory: str.
        sample: codes that are evenly drawn for training, where the index needs any.
        chunk: codes that are added at a time.
        options: attributes of the index by faiss's names, for example ``nprobe=8``.

    Returns:
        The path.

    Raises:
        ImportError: when faiss is not installed.
        ValueError: for codes that are not uint8 [N, W], a description or an option that faiss does not know,
            or too few codes to train on.
        BlockingIOError: when another process writes the file; names it.

    References:
        M. Douze et al., arXiv:2401.08281.
    """
    faiss = _library("faiss", "faiss-cpu")
    count, width = _check_rows(codes, path, chunk)
    if np.dtype(codes.dtype) != np.uint8:
        raise ValueError(f"codes: {codes.dtype}; pass uint8 of vectors.pack_bits")
    with export.building(path):
        try:
            index = faiss.index_binary_factory(8 * width, factory)
            _set_attributes(index, options)
            if not index.is_trained:
                index.train(np.ascontiguousarray(codes[_evenly(count, sample)]))
            for start in range(0, count, chunk):
                index.add(np.ascontiguousarray(codes[start : start + chunk]))
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"factory: faiss refuses {factory!r} ({cause(error)}); see its factory"
            ) from None
        return export.replace(path, lambda new: _written(faiss, faiss.write_index_binary, index, new), codes)


def open_faiss_binary(path, *, codes=None, **options):
    """faiss binary index, opened as a search function.

    Args:
        path: a file of ``build_faiss_binary``.
        codes: optional, those that were exported; a file of others is refused, as ``open_faiss`` does it.
        options: attributes of the index by faiss's names, for example ``nprobe=8``.

    Returns:
        A function (queries uint8 [B, W], k) to distances int32 [B, k] and ids int32 [B, k], as
        ``hamming_top_k`` returns them, though among equal distances in an order of faiss. A place for which
        nothing was found holds -1 and the largest int32.

    Raises:
        ImportError: when faiss is not installed.
        FileNotFoundError: when the file or the one that describes it is missing.
        ValueError: when it is damaged or of other codes, or faiss does not know an option.
    """
    faiss = _library("faiss", "faiss-cpu")
    index = export.opened(path, faiss.read_index_binary, codes)
    _set_attributes(index, options)

    def search(queries, k):
        queries = np.ascontiguousarray(queries)
        if queries.dtype != np.uint8 or queries.ndim != 2 or 8 * queries.shape[1] != index.d:
            raise ValueError(
                f"queries: {queries.dtype} {queries.shape}, but the index has codes of {index.d} bits; "
                "make both with one head"
            )
        if not 1 <= k <= index.ntotal:
            raise ValueError(f"k: {k} is outside 1..{index.ntotal}, the number of codes; pass such a k")
        distances, ids = index.search(queries, k)
        missing = np.iinfo(np.int32).max
        return np.where(ids < 0, missing, distances).astype(np.int32), ids.astype(np.int32)

    return search


def build_usearch(rows, path, *, dtype="f32", connectivity=16, expansion=128, chunk=16_384):
    """usearch graph: writes rows for search by inner product; row n gets the number n.

    Beside it ``path.rows.json`` says which rows they were, as for ``build_faiss``.

    Args:
        rows: [N, D]. What is on the disk is read chunk by chunk.
        path: the file, replaced in one step. One process writes it at a time; a second one is refused.
        dtype: how usearch stores coordinates: "f32", "f16" or "bf16". Its "i8" scales
            every vector to one length, which an inner product does not survive, and is refused.
        connectivity: edges of a node.
        expansion: nodes that are looked at when a row is added.
        chunk: rows that are added at a time.

    Returns:
        The path.

    Raises:
        ImportError: when usearch is not installed.
        ValueError: when rows are not [N, D], or for another dtype. For a row that is not finite in ``dtype``,
            becomes zero in it, or whose product with itself overflows.
        BlockingIOError: when another process writes the file; names it.
    """
    usearch = _library("usearch.index", "usearch")
    count, width = _check_rows(rows, path, chunk)
    if dtype not in _USEARCH:
        raise ValueError(f"dtype: {dtype!r} is unknown or loses lengths; choose one of {', '.join(_USEARCH)}")
    index = usearch.Index(
        ndim=width, metric="ip", dtype=dtype, connectivity=connectivity, expansion_add=expansion
    )
    with export.building(path):
        for start in range(0, count, chunk):
            part = _held("rows", rows[start : start + chunk], range(start, count), _USEARCH[dtype])
            index.add(np.arange(start, start + len(part), dtype=np.uint64), part)
        return export.replace(path, lambda new: index.save(new) or index.serialized_length, rows)


def open_usearch(path, *, rows=None, expansion=64, verify=True):
    """usearch graph, opened as a search function without keeping it in memory.

    Args:
        path: a file of ``build_usearch``.
        rows: as for ``open_faiss``.
        expansion: nodes that a search looks at; more find more.
        verify: True reads the file once and compares its checksum. False compares its size only, and a
            damaged file can then end the process, because usearch does not look.

    Returns:
        A function (queries [B, D], k) to scores float32 [B, k] and ids int32 [B, k], as ``top_k``
        returns them; a place for which nothing was found holds -1 and -inf.

    Raises:
        ImportError: when usearch is not installed.
        FileNotFoundError: when the file or the one that describes it is missing.
        ValueError: when it is damaged or of other rows.
    """
    usearch = _library("usearch.index", "usearch")
    index = export.opened(path, lambda name: usearch.Index.restore(name, view=True), rows, verify=verify)
    index.expansion_search = expansion
    form = _USEARCH[index.dtype.name.lower()]

    def search(queries, k):
        queries = _check_search(queries, k, len(index), index.ndim, form)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int32)
        for b, query in enumerate(queries):
            found = index.search(query, k)
            # usearch returns 1 - inner product, and fewer than k where its search ends early.
            scores[b, : len(found)], ids[b, : len(found)] = 1 - found.distances, found.keys
        return scores, ids

    return search


def _library(name, package):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f"{name.split('.')[0]} is not installed; run pip install {package}") from None


def _check_rows(rows, path, chunk):
    if len(rows.shape) != 2 or not rows.shape[0] or not rows.shape[1]:
        raise ValueError(f"rows: {tuple(rows.shape)}; pass [N, D] with N > 0")
    if chunk < 1:
        raise ValueError(f"chunk: {chunk} is below 1; pass a positive integer")
    folder = files.local_path(path, "path").parent
    if not folder.is_dir():
        raise ValueError(f"path: the folder {folder} does not exist; make it first")
    return rows.shape


def _held(name, rows, numbers, form):
    """Rows as float32, after a look at what they are as ``form``, in which they are stored or compared."""
    given = np.asarray(rows)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        wide = np.ascontiguousarray(given, np.float32)
        stored = wide.astype(form)
        causes = {
            "is not finite": ~np.isfinite(stored).all(axis=1),
            "overflows in products": ~np.isfinite(np.einsum("nd,nd->n", wide, wide)),
            "becomes zero": given.any(axis=1) & ~stored.any(axis=1),
        }
    for why, bad in causes.items():
        if bad.any():
            number, remedy = (
                numbers[int(np.argmax(bad))],
                "mend it, scale all rows by one factor, or choose a wider form",
            )
            raise ValueError(f"{name}: number {number} {why} as {np.dtype(form)}; {remedy}")
    return wide


def _set_faiss(faiss, index, options):
    for name, value in options.items():
        if not isinstance(value, int | float | np.number):
            raise ValueError(f"options: {name}={value!r} is not a number; see faiss's parameters")
        faiss.ParameterSpace().set_index_parameter(index, name, float(value))


def _set_attributes(index, options):
    """Sets numbers of a binary index, for which faiss has no parameter space."""
    for name, value in options.items():
        if name.startswith("_") or not isinstance(getattr(index, name, None), int | float):
            raise ValueError(f"options: faiss's {type(index).__name__} has no {name}; see its attributes")
        setattr(index, name, value)


def _check_search(queries, k, count, width, form=np.float32):
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.shape[1] != width:
        raise ValueError(f"queries: {queries.shape}, but the index has width {width}; pass [B, {width}]")
    if not 1 <= k <= count:
        raise ValueError(f"k: {k} is outside 1..{count}, the number of rows; pass a k in that range")
    return _held("queries", queries, range(len(queries)), form)
