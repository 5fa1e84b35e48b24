"""The nearest of the centres of a code book, by the way that a processor does fastest."""

import jax
import jax.numpy as jnp

_ROWS = 2048  # rows that are compared with the centres by one matrix product
_LANES = 16_384  # rows that are compared with one centre after the other
WIDE = 16  # width from which matrix products are faster
_TERMS = 32  # products that are written out in one step


def nearest_centre(columns, centres):
    """The lowest number of a nearest centre, int32 [N], of rows as columns [G, N], for centres [C, G]."""
    columns, centres = jax.lax.stop_gradient((columns, centres))
    origin = jnp.mean(centres, axis=0)  # distances keep their digits far from zero
    columns, centres = columns - origin[:, None], centres - origin
    half = jnp.sum(centres**2, axis=1) / 2
    if len(columns) >= WIDE:
        return _by_product(columns, centres, half)
    return jax.lax.platform_dependent(columns, centres, half, cpu=_one_by_one, default=_by_product)


def _by_product(columns, centres, half):
    """All distances of some rows at a time: what matrix units are made for."""
    order = jnp.arange(len(centres), dtype=jnp.int32)[:, None]

    def some(columns):
        distances = half[:, None] - jnp.matmul(centres, columns, precision="highest")
        # Two plain minima are faster than one argmin.
        least = distances == jnp.min(distances, axis=0, keepdims=True)
        return jnp.min(jnp.where(least, order, len(centres) - 1), axis=0)

    return _in_pieces(some, columns, _ROWS)


def _one_by_one(columns, centres, half):
    """One centre after the other against many rows, which lie side by side: distances stay in registers."""
    step = max(1, _TERMS // len(columns))
    short = -len(centres) % step
    centres = jnp.pad(centres, ((0, short), (0, 0)))
    half = jnp.pad(half, (0, short), constant_values=jnp.inf)

    def some(columns):
        def closer(i, best):
            for number in range(step):
                place = i * step + number
                distance = half[place] - sum(c * x for c, x in zip(centres[place], columns, strict=True))
                # Distance and number are one complex array. As two arrays, XLA would compute distances twice.
                found = jax.lax.complex(distance, jnp.full_like(distance, place))
                best = jnp.where(distance < best.real, found, best)
            return best

        nothing = jax.lax.complex(jnp.full_like(columns[0], jnp.inf), jnp.zeros_like(columns[0]))
        best = jax.lax.fori_loop(0, len(centres) // step, closer, nothing)
        return best.imag.astype(jnp.int32)

    return _in_pieces(some, columns, _LANES)


def _in_pieces(function, columns, size):
    """``function(columns)``, some columns at a time."""
    count = columns.shape[1]
    steps = -(-count // size)
    if steps == 1:
        return function(columns)
    columns = jnp.pad(columns, ((0, 0), (0, steps * size - count)))

    def one(step):
        return function(jax.lax.dynamic_slice_in_dim(columns, step * size, size, axis=1))

    return jax.lax.map(one, jnp.arange(steps)).reshape(-1)[:count]
