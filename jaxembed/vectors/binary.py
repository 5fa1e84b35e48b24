"""Binary codes: signs and rounded sigmoids that train, eight bits to a byte, and Hamming distances."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, on_device, straight_through
from jaxembed.checks import refuse_nan

_BITS = 8  # of a byte


def straight_through_sign(x, *, clip=1.0):
    """Straight-through sign: the sign of every coordinate, with the gradient of a clipped identity.

    The value is 1 where ``x >= 0`` and -1 elsewhere. The gradient is 1 where ``|x| <= clip`` and 0 elsewhere,
    so a coordinate that is far from changing its bit rests.

    >>> x = jnp.array([-2.0, -0.5, 0.0, 0.5])
    >>> print(straight_through_sign(x), jax.grad(lambda x: straight_through_sign(x).sum())(x))
    [-1. -1.  1.  1.] [0. 1. 1. 1.]

    Args:
        x: [...], any float dtype. NaN becomes -1.
        clip: number at least 0; ``jnp.inf`` lets every gradient pass.

    Returns:
        [...] of -1 and 1 in the dtype of ``x``.

    References:
        Y. Bengio et al., arXiv:1308.3432; with a clip as in M. Courbariaux et al., arXiv:1602.02830, and in
        the code of Y. Gan et al. (BEBR), arXiv:2302.08714. There the sign of 0 is 0, which is not a code.
    """
    x = jnp.asarray(x)
    hard = jnp.where(x >= 0, 1, -1).astype(x.dtype)
    return straight_through(hard, jnp.where(jnp.abs(x) <= clip, x, jax.lax.stop_gradient(x)))


def binary_bottleneck(x, *, mode="round", key=None, deviation=4.0):
    """Rounded sigmoid: squeezes activations to 0 or 1, which a gradient passes as if they were not rounded.

    With ``h = sigmoid(x)`` the result is ``round(h)`` with the gradient of h for "round" (0 where h is 0.5),
    ``sigmoid(x + deviation * noise)`` for "noise" and h for "none". "noise" needs no rounding while it
    trains: what survives it is far from the middle. Its codes are those of "round".

    >>> x = jnp.array([-1.0, 2.0])
    >>> print(binary_bottleneck(x), jax.grad(lambda x: binary_bottleneck(x).sum())(x).astype("float16"))
    [0. 1.] [0.1967 0.105 ]

    Args:
        x: [...], any float dtype.
        mode: "round", "noise" or "none".
        key: random key of the noise.
        deviation: standard deviation of the noise.

    Returns:
        [...] in the dtype of ``x``.

    Raises:
        ValueError: for an unknown mode, or noise without a key.

    References:
        A. Krizhevsky and G. Hinton, ESANN 2011, for "round"; R. Salakhutdinov and G. Hinton, Semantic
        Hashing, doi:10.1016/j.ijar.2008.11.006, for "noise"; K. Grzegorczyk and M. Kurdziel,
        arXiv:1611.01116.
    """
    if mode not in ("round", "noise", "none"):
        raise ValueError(f'mode: {mode!r} is unknown; choose "round", "noise" or "none"')
    x = jnp.asarray(x)
    if mode == "noise":
        if key is None:
            raise ValueError("key: None; the noise needs a random key")
        x = x + deviation * jax.random.normal(key, x.shape, x.dtype)
    soft = jax.nn.sigmoid(x)
    return straight_through((x > 0).astype(x.dtype), soft) if mode == "round" else soft


def pack_bits(bits):
    """Bit packing: writes eight coordinates into one byte.

    Bit j of byte i is coordinate 8 i + j, the lowest bit first, as faiss and ``numpy.packbits`` with
    ``bitorder="little"`` have it. A coordinate is set where it is above 0, so codes of 0 and 1, of -1 and 1,
    and bools are packed alike.

    >>> print(pack_bits(jnp.array([[1.0, -1, -1, -1, -1, -1, -1, -1], [1, 1, -1, -1, -1, -1, -1, 1]])))
    [[  1]
     [131]]

    Args:
        bits: [..., M], M a multiple of 8. A NumPy array is packed on the host.

    Returns:
        uint8 [..., M / 8], a NumPy array for a NumPy array.

    Raises:
        ValueError: for another number of coordinates, or NaN (which passes under jit).
    """
    on_host = not isinstance(bits, jax.Array)
    bits = np.asarray(bits) if on_host else bits
    if bits.ndim < 1 or bits.shape[-1] % _BITS or not bits.shape[-1]:
        raise ValueError(f"bits: shape {bits.shape}; pass [..., M] with M a multiple of 8, or fill up with 0")
    refuse_nan("bits", bits)
    if on_host:
        return np.packbits(bits > 0, axis=-1, bitorder="little")
    return jnp.packbits(bits > 0, axis=-1, bitorder="little")


def unpack_bits(packed):
    """Bit packing, undone: the coordinates of bytes as 0 and 1.

    >>> print(unpack_bits(jnp.array([[131]], jnp.uint8)))
    [[1 1 0 0 0 0 0 1]]

    Args:
        packed: uint8 [..., W], of :func:`pack_bits`.

    Returns:
        uint8 [..., 8 W], a NumPy array for a NumPy array.

    Raises:
        ValueError: for another dtype.
    """
    packed = packed if isinstance(packed, jax.Array) else np.asarray(packed)
    if packed.dtype != np.uint8:
        raise ValueError(f"packed: {packed.dtype}; pass the uint8 of pack_bits")
    xp = jnp if isinstance(packed, jax.Array) else np
    if not packed.size:  # which JAX cannot unpack
        return xp.zeros((*packed.shape[:-1], 8 * packed.shape[-1]), xp.uint8)
    return xp.unpackbits(packed, axis=-1, bitorder="little")


def hamming(queries, codes):
    """Hamming distance: in how many bits packed codes differ, all of two sets.

    ``distances[b, n] = popcount(queries[b] XOR codes[n])``. For signs s of M coordinates it is
    ``(M - <s, t>) / 2``. :func:`jaxembed.search.hamming_top_k` finds the nearest of many.

    >>> print(hamming(jnp.array([[0], [255]], jnp.uint8), jnp.array([[131], [0]], jnp.uint8)))
    [[3 0]
     [5 8]]

    Args:
        queries: uint8 [B, W], of :func:`pack_bits`, or other unsigned integers.
        codes: [N, W], of the same dtype.

    Returns:
        int32 [B, N].

    Raises:
        ValueError: for codes of another width or dtype: they were made by another head.
    """
    queries, codes = on_device("queries", queries), on_device("codes", codes)
    check_codes(queries, codes)
    return jnp.sum(jax.lax.population_count(queries[:, None] ^ codes[None]), axis=2, dtype=jnp.int32)


def check_codes(queries, codes):
    """Refuses packed codes that cannot be compared.

    >>> check_codes(np.zeros((1, 2), np.uint8), np.zeros((5, 2), np.uint8))

    Args:
        queries: [B, W].
        codes: [N, W].

    Raises:
        ValueError: for other shapes, dtypes that are not the same unsigned integers, or another width.
    """
    for name, x in (("queries", queries), ("codes", codes)):
        if len(x.shape) != 2 or np.dtype(x.dtype).kind != "u":
            raise ValueError(f"{name}: {x.dtype} {tuple(x.shape)}; pass [.., W] of pack_bits, uint8")
    if queries.shape[1] != codes.shape[1] or queries.dtype != codes.dtype:
        bits = [x.shape[1] * np.dtype(x.dtype).itemsize * _BITS for x in (queries, codes)]
        raise ValueError(
            f"queries: {bits[0]} bits of {queries.dtype}, but the codes have {bits[1]} of {codes.dtype}; "
            "make both with one head"
        )


def sign_codes(x):
    """Sign codes: packs the signs of vectors, one bit per coordinate, and nothing is trained.

    ``sign_codes(x) = pack_bits(x >= 0)``. Rotate or centre the vectors first where their coordinates are not
    alike; with Gaussian projections this is locality-sensitive hashing of cosines.

    >>> print(sign_codes(jnp.array([[0.5, -1.0, 0.0, -2.0, -3.0, -1.0, -1.0, 4.0]])))
    [[133]]

    Args:
        x: [..., M], M a multiple of 8.

    Returns:
        uint8 [..., M / 8].

    Raises:
        ValueError: as :func:`pack_bits`, for NaN too.

    References:
        M. Charikar, Similarity estimation techniques from rounding algorithms, doi:10.1145/509907.509965.
    """
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    refuse_nan("x", x)
    return pack_bits(x >= 0)


def random_hyperplanes(key, width, bits, dtype=jnp.float32):
    """Random hyperplanes: Gaussian directions whose signs hash the angle between vectors.

    Two vectors at an angle a differ in a bit with probability a / pi.

    >>> planes = random_hyperplanes(jax.random.key(0), 3, 8)
    >>> print(sign_codes(jnp.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]) @ planes).shape)
    (2, 1)

    Args:
        key: random key.
        width: of the vectors.
        bits: how many.
        dtype: of the directions.

    Returns:
        [width, bits].

    References:
        M. Charikar, doi:10.1145/509907.509965.
    """
    return jax.random.normal(key, (width, bits), accumulator(jnp.zeros((), dtype))).astype(dtype)
