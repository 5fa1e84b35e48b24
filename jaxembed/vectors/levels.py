"""Codes of several bits per coordinate: odd integers, their bit planes, and products of them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, on_device
from jaxembed.checks import refuse_nan
from jaxembed.vectors.binary import pack_bits, unpack_bits

_MOST_LOOPS = 6  # levels up to 127 are int8
_EXACT = 1024  # products of int8 that a float32 sums exactly: 1024 * 128**2 = 2**24


def code_levels(codes, loops):
    """Levels: a lattice code as odd integers, which is how it is stored and compared.

    ``levels = 2**loops * codes``, odd and within ``+-(2**(loops + 1) - 1)``, for codes in steps of
    ``2**(1 - loops)`` as :func:`recurrent_codes` makes them.

    >>> print(code_levels(jnp.array([-1.5, -0.5, 0.5, 1.5]), 1))
    [-3 -1  1  3]

    Args:
        codes: [..., M] of :func:`recurrent_codes`.
        loops: that made them, 0 to 6. 0 means signs.

    Returns:
        int8 [..., M].

    Raises:
        ValueError: for loops out of range, and (not under jit) for codes off the lattice, of other loops.
    """
    top = _top(loops)
    codes = jnp.asarray(codes)
    levels = codes * 2**loops
    odd = jnp.all((jnp.abs(levels) <= top) & (levels % 2 == 1))
    if not isinstance(odd, jax.core.Tracer) and not odd:
        raise ValueError(f"codes: are not those of {loops} loops; pass what recurrent_codes returned")
    return levels.astype(jnp.int8)


def uniform_levels(x, loops, *, step):
    """Uniform quantiser: the nearest level of every coordinate, without any training.

    ``levels = clip(2 floor(x / step) + 1)``: equal cells of width ``step`` on both sides of 0, 2**(loops + 1)
    in all, and what lies outside goes to the last one. With loops 0 it is the sign, whatever the step. It is
    what recurrent binarisation does with one orthogonal map and its transpose.

    >>> print(uniform_levels(jnp.array([-9.0, -0.2, 0.3, 1.2]), 1, step=1.0))
    [-3 -1  1  3]

    Args:
        x: [..., M], any float dtype. Rotate and centre the vectors first where coordinates are not alike.
        loops: 0 to 6.
        step: width of a cell, a number or [M]. For normal coordinates of deviation 1 the error is least at
            0.996, 0.586 and 0.335 for 1, 2 and 3 loops.

    Returns:
        int8 [..., M], as :func:`code_levels` gives them.

    Raises:
        ValueError: for loops out of range, a step that is not above 0, or NaN (which passes under jit).

    References:
        J. Max, Quantizing for minimum distortion, doi:10.1109/TIT.1960.1057548, for the steps.
    """
    top = _top(loops)
    if not isinstance(step, jax.core.Tracer) and not np.all(np.asarray(step) > 0):
        raise ValueError(f"step: {step} is not above 0; pass the width of a cell")
    x = jnp.asarray(x)
    refuse_nan("x", x)
    cells = 2 * jnp.floor(x.astype(accumulator(x)) / step) + 1
    return jnp.clip(cells, -top, top).astype(jnp.int8)


def levels_to_bits(levels, loops):
    """Bit planes: packs levels into one row of bits for each loop, the sign first.

    Level v is number ``k = (v + 2**(loops + 1) - 1) / 2``; plane i holds bit ``loops - i`` of k. The first
    n + 1 planes are the code of n loops.

    >>> levels = jnp.array([[-3, -1, 1, 3, 3, 3, 3, 3]], jnp.int8)
    >>> print(levels_to_bits(levels, 1))
    [[[252]
      [250]]]

    Args:
        levels: int8 [..., M], M a multiple of 8.
        loops: 0 to 6.

    Returns:
        uint8 [..., loops + 1, M / 8], a NumPy array for a NumPy array.

    Raises:
        ValueError: for loops out of range, another number of coordinates, and (not under jit) levels of
            other loops.
    """
    top = _top(loops)
    xp = jnp if isinstance(levels, jax.Array) else np
    numbers = xp.asarray(levels).astype(np.int32) + top
    odd = xp.all((numbers >= 0) & (numbers <= 2 * top) & (numbers % 2 == 0))
    if not isinstance(odd, jax.core.Tracer) and not odd:
        raise ValueError(f"levels: are not those of {loops} loops; pass what code_levels returned for them")
    shifts = np.arange(loops, -1, -1, dtype=np.int32)[:, None]
    return pack_bits((numbers[..., None, :] >> (shifts + 1)) & 1)


def bits_to_levels(planes):
    """Bit planes, undone: the levels of packed planes, or of their first few.

    >>> planes = jnp.array([[[252], [250]]], jnp.uint8)
    >>> print(bits_to_levels(planes), bits_to_levels(planes[:, :1]))
    [[-3 -1  1  3  3  3  3  3]] [[-1 -1  1  1  1  1  1  1]]

    Args:
        planes: uint8 [..., L, W] of :func:`levels_to_bits`, L at most 7.

    Returns:
        int8 [..., 8 W].

    Raises:
        ValueError: for another dtype or too many planes.
    """
    loops = planes.shape[-2] - 1
    top, weights = _top(loops), 2 ** np.arange(loops, -1, -1)
    bits = unpack_bits(planes)
    xp = jnp if isinstance(bits, jax.Array) else np
    numbers = sum(bits[..., i, :].astype(np.int16) * int(w) for i, w in enumerate(weights))
    return (2 * numbers - top).astype(xp.int8)


def byte_products(x, y):
    """Integer products: all inner products of two sets of int8 vectors, exactly.

    The matrix units of GPUs and TPUs multiply int8 and add int32. CPUs have none, and XLA's integer product
    is slow there: the rows are widened to float32, which holds the sums of 1,024 products exactly.

    >>> print(byte_products(jnp.array([[1, -2]], jnp.int8), jnp.array([[3, 4], [127, 0]], jnp.int8)))
    [[ -5 127]]

    Args:
        x: int8 [B, D].
        y: int8 [N, D].

    Returns:
        int32 [B, N].

    Raises:
        ValueError: for other dtypes, or another width.
    """
    x, y = on_device("x", x), on_device("y", y)
    check_shape("x", x, (None, None))
    check_shape("y", y, (None, x.shape[1]))
    for name, values in (("x", x), ("y", y)):
        if values.dtype != jnp.int8:
            raise ValueError(f"{name}: {values.dtype}; pass int8")
    return jax.lax.platform_dependent(x, y, cpu=_widened, default=_integer)


def _integer(x, y):
    return jax.lax.dot_general(x, y, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)


def _widened(x, y):
    total = jnp.zeros((len(x), len(y)), jnp.int32)
    for start in range(0, x.shape[1], _EXACT):
        parts = (v[:, start : start + _EXACT].astype(jnp.float32) for v in (y, x))
        total = total + jnp.einsum("nd,bd->nb", *parts, precision="highest").T.astype(jnp.int32)
    return total


def level_scores(queries, documents, *, norms=None):
    """Symmetric score: the cosine of lattice codes by integer products of their levels.

    ``scores[b, n] = <q, d> / (|q| |d|)`` for the levels q and d. The factor ``2**loops`` cancels, so the
    number of loops is not needed. For signs it is ``1 - 2 hamming / M``.

    >>> levels = jnp.array([[3, 1], [-1, 3]], jnp.int8)
    >>> print(level_scores(levels, levels))
    [[1. 0.]
     [0. 1.]]

    Args:
        queries: int8 [B, M], of :func:`code_levels` or :func:`bits_to_levels`.
        documents: int8 [N, M].
        norms: optional [N], the lengths of the documents; None computes them.

    Returns:
        float32 [B, N]. ``scan_top_k(level_scores, queries, documents, k, chunk=8192)`` searches.

    Raises:
        ValueError: for other dtypes, or codes of another width.

    References:
        Y. Gan et al. (BEBR), arXiv:2302.08714. Its symmetric distance looks products up in registers; an
        integer product gives the same numbers.
    """
    queries, documents = on_device("queries", queries), on_device("documents", documents)
    _check_levels(queries, documents)
    norms = _lengths(documents) if norms is None else jnp.asarray(norms)
    check_shape("norms", norms, (len(documents),))
    scores = byte_products(queries, documents).astype(jnp.float32)
    lengths = _lengths(queries)[:, None] * norms[None]
    return jnp.where(lengths > 0, scores / jnp.where(lengths > 0, lengths, 1), 0)


def plane_scores(queries, planes):
    """Symmetric score of stored codes: the cosine of levels with codes that lie packed as bit planes.

    ``plane_scores(q, planes) = level_scores(q, bits_to_levels(planes))``: the bytes on the disk are the bits
    of the code, and what is compared is int8.

    >>> levels = jnp.array([[3, 1, 1, 1, -1, -1, 1, -3]], jnp.int8)
    >>> print(plane_scores(levels, levels_to_bits(levels, 1)).round(6))
    [[1.]]

    Args:
        queries: int8 [B, M].
        planes: uint8 [N, L, M / 8]. Fewer planes, ``planes[:, :n]``, are shorter codes.

    Returns:
        float32 [B, N]. ``scan_top_k(plane_scores, queries, planes, k)`` searches a column on the disk.

    Raises:
        ValueError: as :func:`level_scores` and :func:`bits_to_levels`.
    """
    return level_scores(queries, bits_to_levels(on_device("planes", planes)))


def level_tables(queries, loops):
    """Lookup tables of levels: the products of each query coordinate with every level.

    ``tables[b, m, k] = queries[b, m] * (2 k + 1 - 2**(loops + 1))``. ``product_scores(tables, numbers)``
    then sums one entry per coordinate, with ``numbers = (levels + 2**(loops + 1) - 1) // 2``. Queries may
    stay floats: only documents are coded then.

    >>> from jaxembed.vectors import product_scores
    >>> tables = level_tables(jnp.array([[3, -1]], jnp.int8), 1)
    >>> print(product_scores(tables, jnp.array([[3, 0]])))  # levels 3 and -3
    [[12.]]

    Args:
        queries: [B, M], levels or any floats.
        loops: of the documents' codes, 0 to 6.

    Returns:
        [B, M, 2**(loops + 1)] in at least float32.

    Raises:
        ValueError: for loops out of range, or NaN (which passes under jit).

    References:
        Y. Gan et al. (BEBR), arXiv:2302.08714.
    """
    top = _top(loops)
    queries = jnp.asarray(queries)
    refuse_nan("queries", queries)
    levels = jnp.arange(-top, top + 1, 2, dtype=accumulator(queries))
    return queries[..., None].astype(levels.dtype) * levels


def scalar_scores(queries, scalar_codes):
    """Asymmetric score: inner products of float queries with int8 codes, which are never stored as floats.

    ``scores[b, n] = sum_d queries[b, d] * scalar_codes[n, d]``. With ``queries * params["step"]`` of
    :func:`fit_scalar` this is the inner product with the decoded vectors.

    >>> print(scalar_scores(jnp.array([[0.5, 2.0]]), jnp.array([[2, -1], [127, 0]], jnp.int8)))
    [[-1.  63.5]]

    Args:
        queries: [B, D], any float dtype.
        scalar_codes: int8 [N, D], of :func:`encode_scalar`.

    Returns:
        [B, N] in at least float32. ``scan_top_k(scalar_scores, queries, codes, k, chunk=8192)`` searches.

    Raises:
        ValueError: for codes of another width, or NaN; under jit NaN makes the scores of its query NaN.
    """
    queries, scalar_codes = jnp.asarray(queries), on_device("scalar_codes", scalar_codes)
    check_shape("queries", queries, (None, None))
    check_shape("scalar_codes", scalar_codes, (None, queries.shape[1]))
    refuse_nan("queries", queries)
    dtype = accumulator(queries)
    rows, asked = scalar_codes.astype(dtype), queries.astype(dtype)
    return jnp.einsum("nd,bd->nb", rows, asked, precision="highest").T


def _top(loops):
    if not 0 <= loops <= _MOST_LOOPS:
        raise ValueError(f"loops: {loops} is outside 0..{_MOST_LOOPS}; levels are int8")
    return 2 ** (loops + 1) - 1


def _lengths(levels):
    return jnp.sqrt(jnp.sum(levels.astype(jnp.int32) ** 2, axis=1).astype(jnp.float32))


def _check_levels(queries, documents):
    check_shape("queries", queries, (None, None))
    if documents.ndim != 2 or documents.shape[1] != queries.shape[1]:
        raise ValueError(
            f"documents: {documents.shape} for queries of {queries.shape[1]} coordinates; "
            "make both codes with one head"
        )
