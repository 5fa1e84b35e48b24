"""Token states of prompts as matrices: their spectrum, and DECOR, which takes an undesired prompt out."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, exact_product, on_device, unit
from jaxembed.vectors import project_out, row_space
from jaxembed.vectors.subspace import refuse_whole


def rows_of(name, states, where):
    """Rows [M, D] in at least float32 with zeros where ``where`` [M] is False; None keeps all of them."""
    states = on_device(name, states)
    check_shape(name, states, (None, None))
    states = states.astype(accumulator(states))
    if where is None:
        return states
    check_shape("where", where, states.shape[:1])
    if not isinstance(where, jax.core.Tracer) and not np.any(where):
        raise ValueError(f"where: marks no row of {name}; its prompt has no known word, so pass another")
    return jnp.where(jnp.asarray(where, bool)[:, None], states, 0)


def decor(states, undesired, *, where=None, strength=1.0, rank=None, energy=None, tolerance=1e-4):
    """DECOR: takes out of a prompt's token states what the tokens of an undesired prompt span.

    ``states - strength * states P``, with P the projector onto the row space of ``undesired``. Rows are not
    centred. It edits the states that a denoiser reads as its condition; the null condition stays as it is.

    >>> states = jnp.array([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]])
    >>> print(decor(states, jnp.array([[0.0, 0.0, 5.0]]), strength=0.5))
    [[1.  2.  1.5]
     [0.  1.  0.5]]

    Args:
        states: [..., T, D], those of a text encoder for the prompt. Every row is projected, padding too.
        undesired: [M, D], states of the undesired prompt by the same encoder.
        where: optional bool [M], its word tokens. Rows of special tokens and padding hold what all prompts
            share, so leave them out.
        strength: 0 changes nothing, 1 takes everything out; may be traced.
        rank: optional number of directions, as in :func:`~jaxembed.vectors.row_space`.
        energy: likewise.
        tolerance: likewise; directions weaker than this share of the strongest stay.

    Returns:
        [..., T, D] in at least float32. No gradient runs through the projector.

    Raises:
        ValueError: for shapes that do not fit, a ``where`` without any row, or an undesired prompt that spans
            the whole space.

    References:
        arXiv:2412.09169. Which rows are undesired, the cut of the rank and projecting the padding are
        choices: the paper's code is not public.
    """
    rows = rows_of("undesired", undesired, where)
    basis, _ = row_space(rows, rank=rank, energy=energy, tolerance=tolerance)
    refuse_whole("undesired", basis)
    return project_out(states, jax.lax.stop_gradient(basis), strength=strength)


def prompt_spectrum(states, *, where=None):
    """Spectrum of a prompt: the singular values and directions of its token states, which are not centred.

    ``states = U diag(values) directions``. Many rows of padding that are nearly parallel make the first value
    large: ``values[0]**2`` is at least the sum of their squared parts along any one direction.

    >>> values, directions = prompt_spectrum(jnp.array([[3.0, 0.0, 0.0], [0.0, 0.0, 2.0]]))
    >>> print(values, abs(directions[1]))
    [3. 2.] [0. 0. 1.]

    Args:
        states: [T, D].
        where: optional bool [T]. False leaves a row out.

    Returns:
        ``values`` [r], falling, and ``directions`` [r, D], r = min(T, D). The signs of directions are open.

    Raises:
        ValueError: for shapes that do not fit, or a ``where`` without any row.

    References:
        arXiv:2412.09169.
    """
    _, values, directions = jnp.linalg.svd(rows_of("states", states, where), full_matrices=False)
    return values, directions


def rank_part(states, rank, *, drop=False):
    """Low-rank part of a prompt: what its strongest directions hold, or what they leave.

    ``sum over i < rank of values[i] u[i] directions[i]``, or the states less that with ``drop``.

    >>> states = jnp.array([[3.0, 0.0], [0.0, 2.0]])
    >>> print(rank_part(states, 1).astype("float16") + 0)
    [[3. 0.]
     [0. 0.]]

    Args:
        states: [T, D].
        rank: number of directions, 0 to min(T, D).
        drop: True returns the rest.

    Returns:
        [T, D] in at least float32.

    Raises:
        ValueError: for another shape, or a rank outside 0..min(T, D).

    References:
        arXiv:2412.09169, whose analysis generates images from both parts.
    """
    states = rows_of("states", states, None)
    most = min(states.shape)
    if not 0 <= rank <= most:
        raise ValueError(f"rank: {rank} is outside 0..{most}; the states have {most} directions")
    _, directions = prompt_spectrum(states)
    rest = project_out(states, directions[:rank])
    return rest if drop else states - rest


def row_alignment(directions, states, where):
    """Alignment of directions with rows: the mean absolute cosine with each of a set of token states.

    ``alignment[i] = mean over t of |cos(directions[i], states[t])|``. It tells which singular directions
    belong to padding and which to words.

    >>> print(row_alignment(jnp.eye(2), jnp.array([[0.0, -2.0], [3.0, 4.0]]), jnp.array([True, True])))
    [0.3 0.9]

    Args:
        directions: [r, D], of :func:`prompt_spectrum`.
        states: [T, D].
        where: bool [T], the rows that are averaged: padding, say, or words.

    Returns:
        [r] in 0..1. A row of zeros has the cosine 0.

    Raises:
        ValueError: for shapes that do not fit, or a ``where`` without any row.

    References:
        arXiv:2412.09169.
    """
    rows = rows_of("states", states, where)
    check_shape("directions", directions, (None, rows.shape[1]))
    cosines = jnp.abs(exact_product(unit(jnp.asarray(directions)), unit(rows).T))
    count = jnp.maximum(jnp.sum(jnp.asarray(where, bool)), 1)
    return jnp.sum(cosines, axis=1) / count
