"""Token sets with padding, and drawn encodings of them."""

import functools

import jax
import numpy as np

from jaxembed import vectors

RNG = np.random.default_rng(7)


def unit_tokens(*shape):
    x = RNG.standard_normal(shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def random_mask(batch, size):
    """Masks with holes; row 0 is full, row 1 has one token, the last row is empty."""
    mask = RNG.random((batch, size)) < 0.6
    mask[0], mask[1], mask[-1] = True, np.arange(size) == size - 1, False
    return mask


TOKENS, MASK = unit_tokens(5, 7, 12), random_mask(5, 7)


@functools.cache
def draw(projection="rademacher", planes=3, repetitions=4, **options):
    return vectors.init_fde(
        jax.random.key(1),
        12,
        repetitions=repetitions,
        planes=planes,
        projected=4,
        projection=projection,
        **options,
    )


def identity(planes=3, repetitions=4):
    return draw("identity", planes, repetitions)


def estimates(params, documents=TOKENS, mask=MASK, **options):
    query = vectors.encode_queries(params, TOKENS, MASK)
    document = vectors.encode_documents(params, documents, mask, **options)
    return np.asarray(vectors.estimate_chamfer(params, query, document))
