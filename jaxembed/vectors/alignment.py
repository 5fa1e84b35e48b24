"""Two spaces of words brought together from a few known pairs: Procrustes in rounds."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape, exact_product, on_device
from jaxembed.checks import refuse_nan
from jaxembed.vectors.spaces import csls, procrustes


def refined_procrustes(x, y, pairs, *, rounds=5, k=10):
    """Procrustes with refinement: turns one space onto another from a few pairs, which grow into many.

    The first turn is :func:`procrustes` of the known pairs. Each round then takes as pairs all x and y that
    are each other's nearest by :func:`csls` after the turn, and turns anew by those. A small dictionary
    becomes one of most words this way.

    >>> y, noise = jax.random.normal(jax.random.key(0), (2, 100, 12))
    >>> x, pairs = (y + 0.3 * noise)[:, ::-1], [[i, i] for i in range(8)]
    >>> found = [refined_procrustes(x, y, pairs, rounds=rounds)["nearest"] for rounds in (0, 5)]
    >>> print([bool(jnp.sum(nearest == jnp.arange(100)) > 90) for nearest in found])
    [False, True]

    Args:
        x: [N, D]. Vectors are taken as they are. Usual are rows of length 1 without their common mean.
        y: [M, D].
        pairs: int [S, 2], rows of x and y that belong together.
        rounds: at least 0; 0 is the turn of the known pairs alone.
        k: neighbours of csls, at most min(N, M). Memory is N * M: pass the most frequent words, and turn all
            others by the kernel.

    Returns:
        Dict: ``kernel`` [D, D] in at least float32, orthogonal, ``x @ kernel`` is x in the space of y;
        ``nearest`` int32 [N], the nearest row of y by csls after the turn; ``mutual`` bool [N], whether x is
        the nearest of that row in turn.

    Raises:
        ValueError: for shapes that do not fit, vectors with NaN, fewer than 0 rounds, k outside 1..min(N, M),
            or pairs outside the rows.

    References:
        A. Conneau et al., "Word Translation Without Parallel Data", arXiv:1710.04087, section 2.2; with known
        pairs in place of their adversarial start, M. Artetxe et al., ACL 2017, aclanthology.org/P17-1042.
    """
    x, y = on_device("x", x), on_device("y", y)
    check_shape("x", x, (None, None))
    check_shape("y", y, (None, x.shape[1]))
    refuse_nan("x", x)
    refuse_nan("y", y)
    pairs = _known(pairs, len(x), len(y))
    if rounds < 0:
        raise ValueError(f"rounds: {rounds} is below 0; pass 0 or more")

    def dictionary(kernel):
        scores = csls(exact_product(x.astype(kernel.dtype), kernel), y, k=k)
        nearest = jnp.argmax(scores, axis=1)
        return nearest, jnp.argmax(scores, axis=0)[nearest] == jnp.arange(len(x))

    def step(_, kernel):
        nearest, mutual = dictionary(kernel)
        return procrustes(x, y[nearest], where=mutual)

    kernel = procrustes(x[pairs[:, 0]], y[pairs[:, 1]])
    kernel = jax.lax.fori_loop(0, rounds, step, kernel)
    nearest, mutual = dictionary(kernel)
    return {"kernel": kernel, "nearest": nearest, "mutual": mutual}


def _known(pairs, rows, columns):
    if isinstance(pairs, jax.core.Tracer):
        return pairs
    pairs = np.asarray(pairs)
    check_shape("pairs", pairs, (None, 2))
    if not len(pairs) or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError("pairs: no whole numbers; pass at least one row of x with its row of y")
    if pairs.min() < 0 or (pairs >= (rows, columns)).any():
        raise ValueError(f"pairs: outside 0..{rows - 1} of x or 0..{columns - 1} of y; mend them")
    return jnp.asarray(pairs)
