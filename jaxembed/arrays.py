"""Small functions on arrays that two rooms need."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.checks import check_integers


def accumulator(*arrays):
    """Accumulation dtype: the one in which norms, softmaxes and sums of these arrays are computed.

    At least float32, and float64 when an input is float64.

    >>> print(accumulator(jnp.zeros(2, jnp.bfloat16)))
    float32

    Args:
        arrays: arrays of any shape [...].

    Returns:
        A NumPy dtype.
    """
    return jnp.result_type(jnp.float32, *(jax.dtypes.canonicalize_dtype(a.dtype) for a in arrays))


def wide(tree):
    """Casts the floats of a tree to the dtype of their accumulator; other leaves stay as they are.

    >>> print(wide({"w": jnp.ones(2, jnp.bfloat16)})["w"].dtype)
    float32

    Args:
        tree: tree of arrays of any shape.

    Returns:
        The tree.
    """

    def widened(x):
        narrow = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(x, accumulator(x)) if narrow else x

    return jax.tree.map(widened, tree)


NONFINITE = "nonfinite"  # the metric by which an update names the first gradient that is not finite


def first_nonfinite(tree):
    """First array of a tree that holds NaN or an infinity.

    >>> print(first_nonfinite({"a": jnp.ones(2), "b": jnp.array([1.0, jnp.nan])}))
    1

    Args:
        tree: tree of arrays of any shape.

    Returns:
        int32 scalar: its place among the leaves, or -1 when all numbers are finite.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        return jnp.int32(-1)
    floats = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    bad = jnp.stack(
        [~jnp.all(jnp.isfinite(x)) if f else jnp.array(False) for x, f in zip(leaves, floats, strict=True)]
    )
    return jnp.where(jnp.any(bad), jnp.argmax(bad), -1).astype(jnp.int32)


def _any_nonfinite(x):
    return ~jnp.all(jnp.isfinite(x)) if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.array(False)


def check_shape(name, array, shape):
    """Refuses an array of another shape.

    >>> check_shape("queries", jnp.zeros((3, 2)), (None, 2))

    Args:
        name: of the argument, for the error.
        array: what was given.
        shape: the shape that it must have; None means any length.

    Raises:
        ValueError: with both shapes.
    """
    found = array.shape if hasattr(array, "shape") else host(name, array).shape
    if len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name}: shape {found}; pass [{wanted}]")


def host(name, x):
    """Returns what is given as a NumPy array; integers of any size stay integers.

    NumPy by itself makes floats of a list that holds 7 and 2**63 + 1, which merges neighbours.

    >>> print(host("ids", [7, 2**63 + 1]))
    [                  7 9223372036854775809]

    Args:
        name: of the argument, for the error.
        x: array or (nested) list.

    Raises:
        ValueError: for rows of different lengths, or integers that no type of 64 bits holds together.
    """
    try:
        array = np.asarray(x)
    except ValueError:
        raise ValueError(f"{name}: rows of different lengths; pass an array, padded where needed") from None
    if isinstance(x, np.ndarray) or array.dtype.kind not in "fO" or not array.size:
        return array
    items = np.asarray(x, dtype=object)
    if not all(isinstance(item, int | np.integer) for item in items.flat):
        return array
    low, high = int(min(items.flat)), int(max(items.flat))
    if low < -(2**63) or high >= 2**64 or (low < 0 and high >= 2**63):
        raise ValueError(f"{name}: no type of 64 bits holds both {low} and {high}; number them from 0")
    return items.astype(np.uint64 if low >= 0 else np.int64)


def on_device(name, x):
    """Hands an array to JAX; refuses an integer that JAX would wrap to another one.

    >>> print(on_device("ids", np.array([7, 8])))
    [7 8]

    Args:
        name: of the argument, for the error.
        x: array or (nested) list; a JAX array passes as it is.

    Returns:
        A ``jax.Array``, or ``x`` where it is traced.

    Raises:
        ValueError: for an integer beyond the 32 bits that JAX keeps without ``jax_enable_x64``.
    """
    if isinstance(x, jax.Array):
        return x
    if isinstance(x, list | tuple) and any(isinstance(item, jax.Array) for item in jax.tree.leaves(x)):
        return jnp.asarray(x)
    array = host(name, x)
    check_integers(name, array)
    return jnp.asarray(array)


def narrow_ids(**ids):
    """Returns ids as arrays of JAX's integers; ids that these cannot hold are numbered anew on the host.

    Equality and order stay as they were; a negative id, which is padding, may become -1.

    >>> (first, second), known = narrow_ids(ids=np.array([2**40, 7, -1]), judged_ids=np.array([7]))
    >>> print(first, second, known)
    [ 1  0 -1] [0] [            7 1099511627776]

    Args:
        ids: arrays of integers of any shape, by the name of the argument.

    Returns:
        (list of integer arrays, known): ``known`` is uint64, number n stands for ``known[n]``; None where
        the ids are what they were.

    Raises:
        ValueError: for what is not an integer, and under jit for integers that do not fit.
    """
    given = {name: x if isinstance(x, jax.Array) else host(name, x) for name, x in ids.items()}
    for name, x in given.items():
        if x.size and not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(f"{name}: {x.dtype}; pass integers")
    kind = jax.dtypes.canonicalize_dtype(np.int64)
    traced = any(isinstance(x, jax.core.Tracer) for x in given.values())
    if traced or all(_fits(x, kind) for x in given.values()):
        return [_as_kind(name, x, kind) for name, x in given.items()], None
    given = {name: np.asarray(x) for name, x in given.items()}
    known = np.unique(np.concatenate([x[x >= 0].astype(np.uint64) for x in given.values()]))
    numbers = (np.searchsorted(known, np.where(x < 0, 0, x).astype(np.uint64)) for x in given.values())
    return [
        jnp.asarray(np.where(x < 0, -1, n).astype(np.int32))
        for x, n in zip(given.values(), numbers, strict=True)
    ], known


def _as_kind(name, x, kind):
    if isinstance(x, jax.core.Tracer) and x.size and not np.can_cast(x.dtype, kind):
        raise ValueError(f"{name}: {x.dtype} under jit; pass {kind}")
    return on_device(name, x).astype(kind)


def _fits(x, kind):
    """Tells whether an integer dtype holds every number of an array of integers."""
    if np.can_cast(x.dtype, kind) or not x.size:
        return True
    x = np.asarray(x)
    return np.iinfo(kind).min <= int(x.min()) and int(x.max()) <= np.iinfo(kind).max


def unit(x, *, axis=-1):
    """Unit vectors: scales vectors to length 1; a zero vector stays zero and has zero gradient.

    ``unit(x) = x / sqrt(sum(x**2))``. The vector is divided by its largest absolute coordinate first,
    so that squares neither overflow nor vanish.

    >>> print(unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    [[0.6 0.8]
     [0.  0. ]]

    Args:
        x: [..., D], any dtype.
        axis: the axis of the coordinates.

    Returns:
        [..., D] in the dtype of ``x``, of integers in float32; the norm is accumulated in at least float32.
    """
    x = jnp.asarray(x)
    wide = x.astype(accumulator(x))
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(wide), axis=axis, keepdims=True))
    zero = largest == 0
    step = jnp.where(largest > 2.0**100, 2.0**-30, 1).astype(wide.dtype)  # the inverse of 1e38 would vanish
    scaled = (wide * step) / jnp.where(zero, 1, largest * step)
    norm = jnp.sqrt(jnp.where(zero, 1, jnp.sum(scaled**2, axis=axis, keepdims=True)))
    return jnp.where(zero, 0, scaled / norm).astype(
        x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else wide.dtype
    )


def inner(x, y):
    """Inner products: all of two sets of vectors, in full float32 precision.

    ``inner(x, y)[..., i, j] = sum_d x[..., i, d] y[..., j, d]``. Accelerators that multiply float32
    in lower precision by default are asked for the exact product.

    >>> print(inner(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0], [5.0, 6.0]])))
    [[11. 17.]]

    Args:
        x: [..., N, D].
        y: [..., M, D].

    Returns:
        [..., N, M] in at least float32.
    """
    return jnp.einsum(
        "...nd,...md->...nm", x, y, precision="highest", preferred_element_type=accumulator(x, y)
    )


def squared_distances(x, y):
    """Squared Euclidean distances: all of two sets of vectors.

    ``distances[i, j] = |x[i]|**2 + |y[j]|**2 - 2 <x[i], y[j]>``, at least 0; 2 - 2 cos for unit vectors.
    Distances far below the squared lengths have few digits.

    >>> print(squared_distances(jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 0.0], [3.0, 3.0]])))
    [[25.  1.]]

    Args:
        x: [..., N, D].
        y: [..., M, D].

    Returns:
        [..., N, M] in at least float32.
    """
    x, y = (v.astype(accumulator(v)) for v in map(jnp.asarray, (x, y)))
    lengths = jnp.sum(x**2, axis=-1)[..., :, None] + jnp.sum(y**2, axis=-1)[..., None, :]
    return jnp.maximum(lengths - 2 * inner(x, y), 0)


@jax.custom_jvp
def straight_through(hard, soft):
    """Straight-through estimator: has the value of one array and the gradient of another.

    ``straight_through(hard, soft) = hard``, and its derivative is that of ``soft``: a rounding trains as if
    it were not there.

    >>> print(jax.value_and_grad(lambda x: straight_through(jnp.round(x), 3 * x))(0.7))
    (Array(1., dtype=float32, weak_type=True), Array(3., dtype=float32, weak_type=True))

    Args:
        hard: [...], the values; nothing flows back through them.
        soft: [...] of the same shape and dtype.

    Returns:
        [...], exactly ``hard``.

    References:
        Y. Bengio et al., arXiv:1308.3432.
    """
    return hard


@straight_through.defjvp
def _straight_through(primals, tangents):
    return primals[0], tangents[1]


def masked_mean(x, mask):
    """Averages the rows that a mask keeps; an empty set gives zeros.

    ``masked_mean(x, mask)[b] = sum_t mask[b, t] x[b, t] / max(1, sum_t mask[b, t])``. What stands in
    masked rows never matters, not even NaN.

    >>> x = jnp.array([[[1.0], [3.0], [jnp.nan]]])
    >>> print(masked_mean(x, jnp.array([[True, True, False]])))
    [[2.]]

    Args:
        x: [..., T, D].
        mask: bool [..., T].

    Returns:
        [..., D] in the dtype of ``x``.
    """
    x = jnp.asarray(x)
    total = jnp.sum(jnp.where(mask[..., None], x, 0), axis=-2, dtype=accumulator(x))
    count = jnp.maximum(jnp.sum(mask, axis=-1), 1)[..., None]
    return (total / count.astype(total.dtype)).astype(x.dtype)


def prefix_mask(widths, width):
    """Prefix mask: keeps the first coordinates of a vector, as a shorter vector would have them.

    ``mask[..., j] = [j < widths]``. The inner product of masked vectors is that of the prefixes, so one batch
    may hold vectors of many widths.

    >>> print(prefix_mask(jnp.array([1, 3]), 4))
    [[1. 0. 0. 0.]
     [1. 1. 1. 0.]]

    Args:
        widths: int [...], the number of coordinates that stay: 0 to D.
        width: D, an int.

    Returns:
        float32 [..., D] of 0 and 1.

    References:
        A. Kusupati et al., arXiv:2205.13147; arXiv:2208.04482.
    """
    return (jnp.arange(width) < jnp.asarray(widths)[..., None]).astype(jnp.float32)


def rows_where(vectors, where):
    """Checks vectors [N, D] and a mask [N]; rows that do not count become 0, in the dtype of sums."""
    vectors = jnp.asarray(vectors)
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError(f"vectors: shape {vectors.shape}; pass [N, D] with at least one row")
    where = jnp.ones(len(vectors), bool) if where is None else jnp.asarray(where)
    check_shape("where", where, (len(vectors),))
    return jnp.where(where[:, None], vectors, 0).astype(accumulator(vectors)), where


def exact_product(x, y):
    """The product of matrices [N, D] and [D, M] at the highest precision that the device has."""
    return jnp.matmul(x, y, precision="highest")


def mean_row(vectors, where):
    """The mean [D] of the rows of [N, D] that count, where the others are 0 already."""
    return jnp.sum(vectors, axis=0) / jnp.maximum(jnp.sum(where), 1).astype(vectors.dtype)


def spectrum(vectors, where):
    """Eigenvalues [D], falling and at least 0, and eigenvectors [D, D] of ``vectors' vectors / N``."""
    vectors = jnp.where(where[:, None], vectors, 0)
    moments = exact_product(vectors.T, vectors) / jnp.maximum(jnp.sum(where), 1).astype(vectors.dtype)
    values, directions = jnp.linalg.eigh(moments)
    return jnp.maximum(values[::-1], 0), directions[:, ::-1]


FLAT = 0.9995  # cosine beyond which slerp takes the straight line


def slerp_weights(aa, ab, bb, position, *, flat=FLAT):
    """What slerp multiplies both vectors with, by their inner products; safe to differentiate everywhere.

    >>> print([round(float(w), 3) for w in slerp_weights(1.0, 0.0, 1.0, 0.5)])
    [0.707, 0.707]

    Args:
        aa, ab, bb: [...], inner products of the two vectors.
        position: [...], 0 at the first vector and 1 at the second.
        flat: absolute cosine beyond which the weights are ``1 - position`` and ``position``.

    Returns:
        (weights of the first, weights of the second), [...].
    """
    aa, ab, bb = map(jnp.asarray, (aa, ab, bb))
    real = (aa > 0) & (bb > 0)
    lengths = jnp.sqrt(jnp.where(real, aa, 1)) * jnp.sqrt(jnp.where(real, bb, 1))
    cosine = jnp.where(real, ab, 1) / lengths
    straight = ~real | (jnp.abs(cosine) > flat)
    angle = jnp.arccos(jnp.where(straight, 0, cosine))
    kept, turned = (jnp.sin(share * angle) / jnp.sin(angle) for share in (1 - position, position))
    return jnp.where(straight, 1 - position, kept), jnp.where(straight, position, turned)
