"""Sizes and arrays that properties are tested on."""

import jax
import jax.numpy as jnp
import numpy as np

ANY = object()  # a result whose shape depends on more than the sizes


class Drawn:
    """Sizes and a source of arrays; what is drawn is finite, of one dtype and one magnitude.

    ``empty`` is the name of a size that is 0. Rows where ``kept`` is False are left out of the result; their
    content is ``filling`` times what it was.
    """

    def __init__(self, seed, dtype="float32", scale=1.0, empty=None, keep=0.7, filling=1.0):
        self.rng = np.random.default_rng(seed)
        self.dtype, self.scale, self.keep, self.filling = dtype, scale, keep, filling
        sizes = {"B": 3, "N": 5, "T": 4, "D": 8, "K": 2, "V": 6} | ({empty: 0} if empty else {})
        self.B, self.N, self.T, self.D, self.K, self.V = sizes.values()
        self.L = 3
        self.key = jax.random.key(0)

    def x(self, *shape, where=None):
        drawn = np.clip(self.rng.normal(size=shape) * self.scale, -3e38, 3e38).astype(np.float32)
        if where is not None:
            drawn = np.where(
                np.asarray(where).reshape(where.shape + (1,) * (len(shape) - where.ndim)), drawn, self.filling
            )
        return jnp.asarray(drawn, self.dtype)

    def share(self, *shape):
        return self.rng.random(shape).astype(np.float32)

    def ints(self, high, *shape):
        return self.rng.integers(0, max(high, 1), shape).astype(np.int32)

    def bools(self, *shape):
        return self.rng.random(shape) < self.keep

    def q(self):
        return self.x(self.B, self.D)

    def d(self):
        return self.x(self.N, self.D)

    def pairs(self):
        return self.x(self.B, self.D), self.x(self.B, self.D)

    def sets(self):
        """Queries and documents with their masks; masked tokens hold the filling."""
        q, d = self.bools(self.B, self.T), self.bools(self.N, self.T)
        return self.x(self.B, self.T, self.D, where=q), self.x(self.N, self.T, self.D, where=d), q, d

    def tokens(self):
        mask = self.bools(self.B, self.T)
        return self.x(self.B, self.T, self.D, where=mask), mask

    def rows(self):
        """Vectors [N, D] and the mask of those that count."""
        where = self.bools(self.N)
        return self.x(self.N, self.D, where=where), where
