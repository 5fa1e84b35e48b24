"""Sums of table entries that codes name: the scores of product codes."""

import jax
import jax.numpy as jnp

_PARTS = 8  # parts whose entries are summed in one step
_TOGETHER = 16  # queries whose entries lie side by side: 64 bytes


def clipped(codes, centres):
    """Codes as int32 within 0..centres - 1."""
    return jnp.clip(codes.astype(jnp.int32), 0, centres - 1)


def sum_entries(tables, codes):
    """``sum_m tables[b, m, codes[n, m]]``, [B, N], for tables [B, M, C] and integers [N, M]."""
    if len(tables) <= _TOGETHER:
        return _summed(tables, codes)
    steps = -(-len(tables) // _TOGETHER)
    padded = jnp.pad(tables, ((0, steps * _TOGETHER - len(tables)), (0, 0), (0, 0)))
    padded = padded.reshape(steps, _TOGETHER, *tables.shape[1:])
    found = jax.lax.map(lambda some: _summed(some, codes), padded)
    return found.reshape(-1, len(codes))[: len(tables)]


def _summed(tables, codes):
    """The same for a few queries; one look-up reads the entries of all of them."""
    parts, centres = tables.shape[1:]
    entries = tables.reshape(len(tables), parts * centres).T

    def add(first, count, total):
        for part in range(count):
            column = jax.lax.dynamic_index_in_dim(codes, first + part, axis=1, keepdims=False)
            places = clipped(column, centres) + (first + part) * centres
            total = total + entries.at[places].get(mode="promise_in_bounds")
        return total

    whole, start = parts // _PARTS, jnp.zeros((len(codes), len(tables)), tables.dtype)
    total = jax.lax.fori_loop(0, whole, lambda i, total: add(i * _PARTS, _PARTS, total), start)
    return add(whole * _PARTS, parts % _PARTS, total).T
