"""The nearest of the centres of a code book, by the way that a processor does fastest."""

import jax
import jax.numpy as jnp

_ROWS = 2048  # rows that are compared with the centres by one matrix product
_LANES = 16_384  # rows that are compared with one centre after the other
_FEW = 512  # rows from which that is worth it
_WIDE = 16  # width from which matrix products are faster
_TERMS = 64  # products that are written out in one step


def nearest_centre(x, centres):
    """Returns the lowest number of a nearest centre, int32 [N], for rows [N, G] and centres [C, G]."""
    x, centres = jax.lax.stop_gradient((x, centres))
    origin = jnp.mean(centres, axis=0, keepdims=True)  # distances keep their digits far from zero
    x, centres = x - origin, centres - origin
    half = jnp.sum(centres**2, axis=1) / 2
    if len(x) < _FEW or x.shape[1] >= _WIDE:
        return _by_product(x, centres, half)
    return jax.lax.platform_dependent(x, centres, half, cpu=_one_by_one, default=_by_product)


def _by_product(x, centres, half):
    """All distances of some rows at a time: what matrix units are made for."""
    order = jnp.arange(len(centres), dtype=jnp.int32)[:, None]

    def some(rows):
        distances = half[:, None] - jnp.einsum("cg,ng->cn", centres, rows, precision="highest")
        # Two plain minima are faster than one argmin.
        least = distances == jnp.min(distances, axis=0, keepdims=True)
        return jnp.min(jnp.where(least, order, len(centres) - 1), axis=0)

    return _in_pieces(some, x, _ROWS)


def _one_by_one(x, centres, half):
    """One centre after the other against many rows, which lie side by side: distances stay in registers."""
    step = max(1, _TERMS // x.shape[1])
    short = -len(centres) % step
    centres = jnp.pad(centres, ((0, short), (0, 0)))
    half = jnp.pad(half, (0, short), constant_values=jnp.inf)

    def some(rows):
        columns = rows.T

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

    return _in_pieces(some, x, _LANES)


def _in_pieces(function, x, size):
    """``function(x)``, some rows at a time."""
    steps = -(-len(x) // size)
    if steps == 1:
        return function(x)
    padded = jnp.pad(x, ((0, steps * size - len(x)), (0, 0)))
    return jax.lax.map(function, padded.reshape(steps, size, x.shape[1])).reshape(-1)[: len(x)]
