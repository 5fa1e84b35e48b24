"""Packed binary codes laid out by columns, once, for many searches."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import on_device

BLOCK = 64  # neighbouring codes of which only the nearest is looked at first
PIECE_BYTES = 2**20  # codes that are compared at a time: they stay in the cache
GATHERED_BYTES = 2**22  # codes of the best blocks that are looked at again at a time
MISSING = 2**28  # above every distance
UNROLLED = 64  # words of a code up to which their sum is written out


class CodeColumns(NamedTuple):
    """Binary codes by columns: word v of code n is ``words[n // M, v, n % 64, n % M // 64]``, M = 64 B.

    Args:
        words: uint32 [pieces, V, 64, B]; the last code fills what is left over.
        count: N, the number of codes.
        width: W, the bytes of a code.
    """

    words: jax.Array
    count: int
    width: int


def code_columns(codes):
    """Lays packed codes out by columns, as :func:`hamming_top_k` reads them fastest.

    Neighbouring codes then lie side by side, one word of each, and a processor compares many of them at once.
    It takes as many bytes as the codes, each filled up to whole words of 4 bytes.

    >>> columns = code_columns(np.arange(200, dtype=np.uint8)[:, None])
    >>> print(columns.words.shape, columns.count, columns.width)
    (1, 1, 64, 4) 200 1

    Args:
        codes: uint8 [N, W], packed by ``vectors.pack_bits`` or ``vectors.sign_codes``; a memory-mapped array
            is read once.

    Returns:
        :class:`CodeColumns` on the device.

    Raises:
        ValueError: for another dtype or shape, or no codes.
    """
    if len(np.shape(codes)) != 2 or codes.dtype != np.uint8 or 0 in codes.shape:
        raise ValueError(
            f"codes: {getattr(codes, 'dtype', type(codes).__name__)} {np.shape(codes)}; "
            "pass uint8 [N, W] of vectors.pack_bits, N and W at least 1"
        )
    count, width = codes.shape
    blocks = min(max(1, PIECE_BYTES // (BLOCK * 4 * -(-width // 4))), -(-count // BLOCK))
    piece = BLOCK * blocks
    missing = -count % piece
    rows = jnp.pad(on_device("codes", codes), ((0, missing), (0, 0)), mode="edge" if missing else "constant")
    return CodeColumns(_laid_out(rows, blocks), count, width)


@functools.partial(jax.jit, static_argnames="blocks")
def _laid_out(rows, blocks):
    words = words_of(rows)
    return words.reshape(-1, blocks, BLOCK, words.shape[1]).transpose(0, 3, 2, 1)


def words_of(codes):
    """Packed codes [n, W] as words of 32 bits [n, V]; missing bytes are 0."""
    if codes.dtype != jnp.uint8:
        return codes
    codes = jnp.pad(codes, ((0, 0), (0, -codes.shape[1] % 4)))
    return jax.lax.bitcast_convert_type(codes.reshape(len(codes), codes.shape[1] // 4, 4), jnp.uint32)


@functools.partial(jax.jit, static_argnames=("count", "k"))
def nearest_columns(queries, words, count, k):
    """The k nearest of codes by columns: distances int32 [B, k], rising, and places int32 [B, k]."""
    queries, (pieces, _, _, blocks) = words_of(queries), words.shape
    some = min(k, -(-count // BLOCK))

    best = jax.lax.map(functools.partial(least_of_all, queries), words)
    best = jnp.swapaxes(best, 0, 1).reshape(len(queries), pieces * blocks)
    best = best[:, : -(-count // BLOCK)]
    _, found = jax.lax.top_k(-best.astype(jnp.float32), some)
    found = jnp.sort(found, axis=1)  # places rise, so that ties go to the lowest

    def again(query_and_blocks):
        query, found = query_and_blocks
        held = words[found // blocks, :, :, found % blocks]  # [some, V, 64]
        bits = jnp.sum(jax.lax.population_count(query[:, None] ^ held), axis=1, dtype=jnp.int32)
        places = found[:, None] * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)
        bits = jnp.where(places < count, bits, MISSING).reshape(-1)
        scores, order = jax.lax.top_k(-bits.astype(jnp.float32), k)
        return -scores.astype(jnp.int32), places.reshape(-1)[order]

    size = max(1, GATHERED_BYTES // (some * BLOCK * 4 * words.shape[1]))
    return jax.lax.map(again, (queries, found), batch_size=max(1, min(size, len(queries))))


def least_of_all(queries, *given):
    """:func:`least_of` of each of the queries [B, V]: int32 [B, blocks]; on CPUs one query after another."""

    def by_query(queries, *given):
        return jax.lax.map(lambda query: least_of(query, *given), queries)

    together = jax.vmap(least_of, (0, *[None] * len(given)))
    return jax.lax.platform_dependent(queries, *given, cpu=by_query, default=together)


def least_of(query, words, offset=0):
    """The least distance of one query [V] to each block of words [V, 64, blocks]; offsets are added."""
    if len(words) > UNROLLED:
        bits = jnp.sum(jax.lax.population_count(query[:, None, None] ^ words), axis=0, dtype=jnp.int32)
    else:
        bits = sum(jax.lax.population_count(q ^ w) for q, w in zip(query, words, strict=True))
    return jnp.min(offset + bits.astype(jnp.int32), axis=0)
