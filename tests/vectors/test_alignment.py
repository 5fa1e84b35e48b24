"""Procrustes in rounds: loops in NumPy, few planted pairs, bad input."""

import jax
import numpy as np
import pytest
from refusals import refused
from scipy.linalg import orthogonal_procrustes

from jaxembed import vectors

RNG = np.random.default_rng(0)
D, N = 12, 120
TURN = np.linalg.qr(RNG.normal(size=(D, D)))[0]
Y = RNG.normal(size=(N + 30, D)) * np.linspace(2, 0.5, D)
X = (Y[:N] + 0.15 * RNG.normal(size=(N, D))) @ TURN.T
PAIRS = np.stack([np.arange(15), np.arange(15)], axis=1)


def scores(x, y, k):
    cosines = (x / np.linalg.norm(x, axis=1)[:, None]) @ (y / np.linalg.norm(y, axis=1)[:, None]).T
    near = [np.sort(c, axis=1)[:, -k:].mean(axis=1) for c in (cosines, cosines.T)]
    return 2 * cosines - near[0][:, None] - near[1]


def loops(x, y, pairs, rounds, k):
    kernel = orthogonal_procrustes(x[pairs[:, 0]], y[pairs[:, 1]])[0]
    for last in [False] * rounds + [True]:
        found = scores(x @ kernel, y, k)
        there, back = found.argmax(axis=1), found.argmax(axis=0)
        mutual = [i for i in range(len(x)) if back[there[i]] == i]
        if not last:
            kernel = orthogonal_procrustes(x[mutual], y[there[mutual]])[0]
    return kernel, there, mutual


@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_rounds_are_the_loops(rounds):
    run = jax.jit(lambda x, y, pairs: vectors.refined_procrustes(x, y, pairs, rounds=rounds, k=5))
    kernel, nearest, mutual = loops(X, Y, PAIRS, rounds, 5)
    for found in (run(X, Y, PAIRS), vectors.refined_procrustes(X, Y, PAIRS, rounds=rounds, k=5)):
        np.testing.assert_allclose(found["kernel"], kernel, atol=2e-4)
        np.testing.assert_array_equal(found["nearest"], nearest)
        np.testing.assert_array_equal(np.flatnonzero(found["mutual"]), mutual)


def test_few_pairs_grow_into_a_dictionary_of_all():
    def right(pairs, rounds):
        found = vectors.refined_procrustes(X, Y, pairs, rounds=rounds)
        return float(np.mean(found["nearest"] == np.arange(N))), np.abs(found["kernel"] - TURN).max()

    alone, refined = right(PAIRS[:10], 0), right(PAIRS[:10], 10)
    assert alone[0] < 0.9 and refined[0] > 0.95
    assert alone[1] > 0.3 > 0.1 > refined[1]


def test_the_kernel_is_orthogonal_and_no_pair_need_be_in_order():
    order = RNG.permutation(N)
    moved = np.argsort(order)[:15]
    found = vectors.refined_procrustes(X[order], Y, np.stack([moved, np.arange(15)], axis=1))
    kernel = np.asarray(found["kernel"])
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(D), atol=1e-5)
    usual = vectors.refined_procrustes(X, Y, PAIRS)
    np.testing.assert_allclose(kernel, usual["kernel"], atol=1e-4)
    np.testing.assert_array_equal(found["nearest"], np.asarray(usual["nearest"])[order])


def test_bad_input_is_one_line():
    def call(pairs=PAIRS, x=X, **options):
        return lambda: vectors.refined_procrustes(x, Y, pairs, **options)

    refused("pairs: no whole numbers", call(np.zeros((0, 2), int)))
    refused("pairs: no whole numbers", call(PAIRS + 0.5))
    refused("pairs: outside 0..119 of x or 0..149 of y", call([[120, 0]]))
    refused("pairs: outside", call([[0, -1]]))
    refused("pairs", call([1, 2]))
    refused("rounds: -1 is below 0", call(rounds=-1))
    refused("y", call(x=X[:, :4]))
    refused("k: 200 is outside 1..120", call(k=200))
    refused("^x: .*NaN", call(x=np.where(np.arange(len(X))[:, None] == 3, np.nan, X)))
