"""Paragraph vectors against a log-linear model in NumPy, and their limits."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import losses, vectors

RNG = np.random.default_rng(61)
N, V, M = 4, 9, 3
WORDS = RNG.integers(0, V, (N, 5))
WEIGHTS = RNG.integers(0, 4, (N, 5)).astype(np.float32)
WEIGHTS[3] = 0  # a document without words
ROUND = vectors.binary_bottleneck


@functools.cache
def params_of(**options):
    return losses.init_paragraphs(jax.random.key(1), N, V, M, **options)


def log_linear(hidden, output, words, weights):
    scores = np.asarray(hidden, float) @ np.asarray(output["kernel"], float).T + output["bias"]
    found = []
    for s, ids, w in zip(scores, words, weights, strict=True):
        surprise = np.log(np.exp(s).sum()) - s[ids]
        found.append((w * surprise).sum() / max(w.sum(), 1e-9))
    return found


@pytest.mark.parametrize("bottleneck", [None, ROUND])
def test_dbow_is_a_log_linear_model_of_the_bottleneck(bottleneck):
    params, order = params_of(), np.array([2, 0, 1, 3])
    a = np.asarray(params["documents"])[order]
    loss = losses.pv_dbow_loss(params, order, WORDS, weights=WEIGHTS, bottleneck=bottleneck)
    hidden = a if bottleneck is None else (a > 0).astype(float)
    np.testing.assert_allclose(loss, log_linear(hidden, params["output"], WORDS, WEIGHTS), rtol=1e-5)
    assert loss[3] == 0


def test_without_rounding_the_gradient_is_that_of_the_plain_model():
    params = params_of()
    a, u = (np.asarray(x, float) for x in (params["documents"], params["output"]["kernel"]))
    p = np.exp(a @ u.T)
    p /= p.sum(axis=1, keepdims=True)
    gradient = jax.grad(lambda p: losses.pv_dbow_loss(p, np.arange(N), WORDS).sum())(params)
    counts = np.stack([np.bincount(w, minlength=V) / 5 for w in WORDS])
    np.testing.assert_allclose(gradient["documents"], (p - counts) @ u, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(gradient["output"]["kernel"], (p - counts).T @ a, rtol=1e-3, atol=1e-5)


def test_real_binary_with_an_identity_is_binary():
    plain = params_of()
    project = {"kernel": jnp.eye(M), "bias": jnp.zeros(M)}
    both = [
        losses.pv_dbow_loss(p, np.arange(N), WORDS, bottleneck=ROUND)
        for p in (plain, plain | {"project": project})
    ]
    np.testing.assert_allclose(*both, rtol=1e-6)
    real = params_of(real=7)
    hidden = losses.paragraph_hidden(real, np.array([1]), bottleneck=ROUND)
    wanted = real["documents"][1] @ real["project"]["kernel"] + real["project"]["bias"] > 0
    np.testing.assert_array_equal(hidden[0], wanted)


@pytest.mark.parametrize("combine", ["concat", "sum"])
def test_dm_joins_the_rounded_document_with_the_mean_of_the_context(combine):
    width = M if combine == "sum" else 2
    params = params_of(word_width=width, combine=combine)
    contexts, targets = RNG.integers(0, V, (N, 4)), RNG.integers(0, V, N)
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]], bool)
    options = {"mask": mask, "combine": combine, "bottleneck": ROUND}
    loss = losses.pv_dm_loss(params, np.arange(N), contexts, targets, **options)
    e = np.asarray(params["words"], float)
    around = [
        e[c[m]].mean(axis=0) if m.any() else np.zeros(width) for c, m in zip(contexts, mask, strict=True)
    ]
    z = (np.asarray(params["documents"]) > 0).astype(float)
    hidden = z + around if combine == "sum" else np.concatenate([z, around], axis=1)
    wanted = log_linear(hidden, params["output"], targets[:, None], np.ones((N, 1)))
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    gradient = jax.grad(lambda p: losses.pv_dm_loss(p, np.arange(N), contexts, targets, **options).sum())(
        params
    )
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradient))
    chex.assert_tree_all_finite(gradient)


def test_the_sampled_softmax_subtracts_what_is_expected_and_drops_the_word_itself():
    params, numbers = params_of(), np.arange(N)
    q = np.arange(1, V + 1) / sum(range(1, V + 1))
    drawn = RNG.integers(0, V, 6)
    found = losses.pv_dbow_loss(params, numbers, WORDS, samples=(jnp.asarray(drawn), jnp.log(q)))
    a, u = (np.asarray(x, float) for x in (params["documents"], params["output"]["kernel"]))
    scores = a @ u.T - np.log(6 * q)
    wanted = [
        np.mean([np.log(np.exp(s[w]) + sum(np.exp(s[d]) for d in drawn if d != w)) - s[w] for w in words])
        for s, words in zip(scores, WORDS, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    # Every other word drawn once, all alike: this is the full softmax.
    rest = np.delete(np.arange(V), WORDS[0, 0])
    even = (jnp.asarray(rest), jnp.log(jnp.full(V, 1 / len(rest))))
    sampled = losses.pv_dbow_loss(params, numbers[:1], WORDS[:1, :1], samples=even)
    np.testing.assert_allclose(sampled, losses.pv_dbow_loss(params, numbers[:1], WORDS[:1, :1]), rtol=1e-5)


def test_inference_reaches_one_loss_from_any_start_and_moves_nothing_else():
    params = params_of()

    def loss(p, numbers):
        return losses.pv_dbow_loss(p, numbers, WORDS[:2])

    runs = [
        losses.infer_documents(loss, params, 2, steps=600, rate=0.1, key=key)
        for key in (None, jax.random.key(8))
    ]
    found = [loss(params | {"documents": rows}, jnp.arange(2)) for rows in runs]
    np.testing.assert_allclose(*found, atol=2e-3)
    assert (found[0] < loss(params, jnp.arange(2))).all()
    rounded = losses.infer_documents(
        lambda p, n: losses.pv_dbow_loss(p, n, WORDS[:2], bottleneck=ROUND), params, 2, steps=3
    )
    assert rounded.shape == (2, M) and np.abs(rounded).max() > 0


def test_bad_documents_are_named():
    params = params_of()
    refused(
        "combine: 'add' is unknown", lambda: losses.init_paragraphs(jax.random.key(0), 2, 3, 4, combine="add")
    )
    refused(
        "word_width: 3 is not 4",
        lambda: losses.init_paragraphs(jax.random.key(0), 2, 3, 4, word_width=3, combine="sum"),
    )
    refused("words: shape", lambda: losses.pv_dbow_loss(params, np.arange(2), WORDS))
    refused("weights: shape", lambda: losses.pv_dbow_loss(params, np.arange(N), WORDS, weights=WEIGHTS[:2]))
    refused("params: hold no words", lambda: losses.pv_dm_loss(params, np.arange(N), WORDS, WORDS[:, 0]))
    refused("documents: 0 is below 1", lambda: losses.infer_documents(None, params, 0))
