"""Sparse coding of rows, which filters of images and vectors of words share."""

import functools

import jax
import jax.numpy as jnp

from jaxembed.arrays import exact_product, unit


def shrunk_codes(x, dictionary, *, penalty=0.1, steps=50, nonnegative=False):
    """Sparse coding by ISTA: writes each row as a sum of few entries of a dictionary.

    ``z <- soft(z + (x - z D) D' / L, penalty / L)`` with L the largest eigenvalue of ``D D'``, from z = 0:
    it lowers ``|x - z D|^2 / 2 + penalty |z|_1`` in every step. Non-negative codes are cut at 0 instead.

    >>> print(shrunk_codes(jnp.array([[1.0, -0.5]]), jnp.eye(2), nonnegative=True))
    [[0.9 0. ]]

    Args:
        x: [N, D].
        dictionary: [K, D].
        penalty: of the sizes of the codes; may be traced.
        steps: of the iteration.
        nonnegative: whether codes are at least 0.

    Returns:
        [N, K].

    References:
        I. Daubechies et al., An iterative thresholding algorithm, 2004.
    """
    gram = exact_product(dictionary, dictionary.T)
    rate = 1 / jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], jnp.finfo(gram.dtype).tiny)
    target = exact_product(x, dictionary.T)

    def step(_, codes):
        moved = codes + rate * (target - exact_product(codes, gram))
        if nonnegative:
            return jnp.maximum(moved - rate * penalty, 0)
        return jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - rate * penalty, 0)

    return jax.lax.fori_loop(0, steps, step, jnp.zeros_like(target))


@functools.partial(jax.jit, static_argnames=("count", "steps", "batch_size", "nonnegative"))
def dictionary_of(key, x, count, penalty, rate, steps, batch_size, nonnegative=False):
    """Online dictionary learning: a dictionary of which few entries describe each row.

    Each step codes a batch with :func:`shrunk_codes`, moves the dictionary along the residuals, ``D <- D +
    rate z'(x - z D) / mean use``, and scales each row to length 1. An entry that no row uses is drawn anew.

    >>> found = dictionary_of(jax.random.key(0), jnp.eye(2), 2, 0.1, 0.5, 2, 2)
    >>> print(found.shape)
    (2, 2)

    Args:
        key: random key; the first entries are rows that it draws, and so are the batches.
        x: [N, D].
        count: K, at most N.
        penalty: of the sizes of the codes.
        rate: of the steps.
        steps: batches.
        batch_size: rows of a batch.
        nonnegative: whether codes are at least 0.

    Returns:
        [K, D], rows of length 1.

    References:
        B. Olshausen and D. Field, Nature 1996; J. Mairal et al., Online dictionary learning, 2009.
    """
    start = unit(x[jax.random.choice(key, len(x), (count,), replace=False)])

    def step(carry, t):
        entries, used = carry
        batch_key, new_key = jax.random.split(jax.random.fold_in(key, t))
        batch = x[jax.random.randint(batch_key, (batch_size,), 0, len(x))]
        codes = shrunk_codes(batch, entries, penalty=penalty, nonnegative=nonnegative)
        use = jnp.mean(codes**2, axis=0)
        used = 0.9 * used + 0.1 * use
        gradient = exact_product(codes.T, batch - exact_product(codes, entries)) / batch_size
        entries = unit(entries + rate * gradient / jnp.maximum(used, 1e-6)[:, None])
        new = unit(x[jax.random.randint(new_key, (count,), 0, len(x))])
        lost = used < 1e-8
        return (jnp.where(lost[:, None], new, entries), jnp.where(lost, 1.0, used)), None

    (entries, _), _ = jax.lax.scan(step, (start, jnp.ones(count, x.dtype)), jnp.arange(steps))
    return entries
