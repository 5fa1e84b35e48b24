"""Rotations and buckets of distances."""

import numpy as np
from models import golden

from jaxembed import encoders


def test_rotations_depend_on_distances_alone_and_keep_lengths():
    frequencies = encoders.rotary_frequencies(4, 100.0)
    x = np.broadcast_to(np.random.default_rng(0).normal(size=(2, 1, 1, 4)), (2, 9, 1, 4)).astype(np.float32)
    turned = np.asarray(encoders.rotate(x, frequencies))[:, :, 0]
    products = np.einsum("td,sd->ts", *turned)
    for away in range(1, 5):
        np.testing.assert_allclose(np.diagonal(products, away), products[0, away], atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), np.linalg.norm(x[:, :, 0], axis=-1), rtol=1e-5
    )
    first = x[0, 0, 0, 0] + 1j * x[0, 0, 0, 2]
    np.testing.assert_allclose(turned[0, 3, 0], (first * np.exp(3j * frequencies[0])).real, atol=1e-5)
    halved = encoders.rotary_frequencies(4, 100.0, {"rope_type": "linear", "factor": 2.0})
    np.testing.assert_allclose(halved, frequencies / 2)


# Parts that golden_text.py wrote alone


def test_buckets_of_distances_equal_transformers():
    ours = encoders.distance_buckets(300)
    np.testing.assert_array_equal(ours[0], golden("distance_buckets")["first"])
    np.testing.assert_array_equal(ours[-1], golden("distance_buckets")["last"])
