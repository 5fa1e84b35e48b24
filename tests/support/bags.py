"""Bags of words of a few documents, and the same as a matrix."""

import numpy as np

N, U, V, K = 30, 9, 12, 3
RNG = np.random.default_rng(0)
IDS = np.stack([RNG.permutation(V)[:U] for _ in range(N)])
COUNTS = RNG.poisson(1.5, (N, U)).astype(np.float32)
COUNTS[4] = 0  # a document without words
DENSE = np.zeros((N, V))
np.add.at(DENSE, (np.arange(N)[:, None], IDS), COUNTS)
SPOILED = np.where(COUNTS > 0, IDS, -7)  # padding holds any id
