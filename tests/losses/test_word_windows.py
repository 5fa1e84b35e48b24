"""Windows of text: pairs, shared noise and gradients against loops over words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import losses

C, WINDOW, N, D, NEGATIVES = 6, 2, 3, 4, 5


def stretch(seed=0):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 8, C + 2 * WINDOW)
    lines = np.array([-1, 0, 0, 0, 1, 1, 1, 1, 2, -1])
    radius = rng.integers(1, WINDOW + 1, C)
    return words, lines, radius, rng.integers(0, 8, N)


def pairs_of(lines, radius):
    found = np.zeros((C, C + 2 * WINDOW), bool)
    for i in range(C):
        for j in range(C + 2 * WINDOW):
            place = i + WINDOW
            near = j != place and abs(j - place) <= radius[i]
            found[i, j] = near and lines[j] == lines[place] and lines[place] >= 0
    return found


def test_pairs_stay_in_their_line_and_window():
    _, lines, radius, _ = stretch()
    np.testing.assert_array_equal(
        losses.window_pairs(lines, jnp.asarray(radius), WINDOW), pairs_of(lines, radius)
    )


def test_noise_counts_as_often_as_own_draws_and_never_a_target():
    words, lines, radius, noise = stretch()
    pairs = pairs_of(lines, radius)
    found = losses.noise_weights(words, noise, jnp.asarray(pairs), NEGATIVES)
    for i in range(C):
        for n in range(N):
            hits = sum(pairs[i, j] and words[j] != noise[n] for j in range(len(words)))
            np.testing.assert_allclose(found[i, n], hits * NEGATIVES / N, rtol=1e-6)
    bow = losses.noise_weights(words, noise, jnp.asarray(pairs), NEGATIVES, kind="cbow")
    own = words[WINDOW:-WINDOW, None] != noise
    np.testing.assert_allclose(bow, (own & pairs.any(1, keepdims=True)) * NEGATIVES / N, rtol=1e-6)


@pytest.mark.parametrize("kind", ["skip_gram", "cbow"])
def test_loss_is_the_sum_of_negative_sampling_over_pairs(kind):
    words, lines, radius, noise = stretch()
    rng = np.random.default_rng(1)
    pairs, rows = pairs_of(lines, radius), [rng.normal(size=(C + 2 * WINDOW, D)) for _ in range(2)]
    weights = rng.random((C, N))
    drawn = rng.normal(size=(N, D))
    middle = slice(WINDOW, -WINDOW)
    cut = (rows[0], rows[1][middle]) if kind == "cbow" else (rows[0][middle], rows[1])
    found = losses.window_loss(*map(jnp.asarray, (*cut, drawn, pairs, weights)), kind=kind)
    soft = lambda x: np.log1p(np.exp(x))  # noqa: E731
    for i in range(C):
        near = np.flatnonzero(pairs[i])
        if kind == "cbow":
            x = rows[0][near].mean(0) if len(near) else np.zeros(D)
            true = soft(-x @ rows[1][i + WINDOW]) if len(near) else 0
        else:
            x = rows[0][i + WINDOW]
            true = sum(soft(-x @ rows[1][j]) for j in near)
        wanted = true + sum(weights[i, n] * soft(x @ drawn[n]) for n in range(N))
        np.testing.assert_allclose(found[i], wanted, rtol=2e-5)


def test_gradients_are_those_of_the_loss():
    words, lines, radius, noise = stretch()
    pairs = jnp.asarray(pairs_of(lines, radius))
    keys = jax.random.split(jax.random.key(0), 3)
    rows, outputs = (jax.random.normal(k, (C + 2 * WINDOW, D)) for k in keys[:2])
    drawn = jax.random.normal(keys[2], (N, D))
    middle = slice(WINDOW, -WINDOW)
    for kind, one, two in (("skip_gram", rows[middle], outputs), ("cbow", rows, outputs[middle])):
        weights = losses.noise_weights(words, noise, pairs, NEGATIVES, kind=kind)
        total = lambda *x, kind=kind, w=weights: losses.window_loss(*x, pairs, w, kind=kind).sum()  # noqa: E731
        wanted = list(jax.grad(total, argnums=(0, 1, 2))(one, two, drawn))
        found = losses.window_gradients(one, two, drawn, pairs, weights, kind=kind)
        if kind == "cbow":  # every word gets the gradient of the mean in full

            def scaled(rows, pairs=pairs, w=weights, rest=(two, drawn)):
                kept = pairs.astype(jnp.float32)
                mean = (kept / jnp.maximum(kept.sum(1, keepdims=True), 1)) @ jax.lax.stop_gradient(rows)
                sums = kept @ rows
                x = sums + jax.lax.stop_gradient(mean - sums)
                true = jnp.where(kept.any(1), jax.nn.softplus(-jnp.sum(x * rest[0], 1)), 0)
                return jnp.sum(true) + jnp.sum(w * jax.nn.softplus(x @ rest[1].T))

            wanted[0] = jax.grad(scaled)(one)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_a_word_of_many_rows_counts_as_often_in_the_mean_of_a_context():
    """fastText's CBOW: the mean is over all rows of all words, and each row takes its whole gradient."""
    words, lines, radius, noise = stretch()
    pairs, rng = pairs_of(lines, radius), np.random.default_rng(2)
    owners = np.repeat(np.arange(C + 2 * WINDOW), rng.integers(1, 5, C + 2 * WINDOW))
    rows = rng.normal(size=(len(owners), D)).astype(np.float32)
    sizes = np.bincount(owners)
    means = np.stack([rows[owners == j].mean(0) for j in range(len(sizes))])
    outputs, drawn = (rng.normal(size=(n, D)).astype(np.float32) for n in (C, N))
    weights = losses.noise_weights(words, noise, jnp.asarray(pairs), NEGATIVES, kind="cbow")
    rest = *map(jnp.asarray, (outputs, drawn, pairs)), weights
    found = losses.window_loss(jnp.asarray(means), *rest, kind="cbow", sizes=sizes)
    moved = losses.window_gradients(jnp.asarray(means), *rest, kind="cbow", sizes=sizes)[0]
    wanted, slopes = np.zeros(C), np.zeros_like(means)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    for i in range(C):
        near = [row for row, j in enumerate(owners) if pairs[i, j]]
        if near:
            x = rows[near].mean(0)
            own, others = x @ outputs[i], drawn @ x
            wanted[i] = np.log1p(np.exp(-own)) + np.asarray(weights[i]) @ np.log1p(np.exp(others))
            slope = (sigmoid(own) - 1) * outputs[i] + (np.asarray(weights[i]) * sigmoid(others)) @ drawn
            slopes[pairs[i]] += slope
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(moved, slopes, rtol=1e-4, atol=1e-5)
    plain = losses.window_loss(jnp.asarray(means), *rest, kind="cbow")
    even = losses.window_loss(jnp.asarray(means), *rest, kind="cbow", sizes=np.full(len(means), 3))
    np.testing.assert_allclose(even, plain, rtol=1e-6)
    assert np.abs(found - plain).max() > 1e-2
    with pytest.raises(ValueError, match="sizes: shape"):
        losses.window_loss(jnp.asarray(means), *rest, kind="cbow", sizes=sizes[1:])


def test_another_kind_is_refused():
    rows = jnp.zeros((3, 2))
    pairs = losses.window_pairs(jnp.array([0, 0, 0]), jnp.array([1]), 1)
    with pytest.raises(ValueError, match="kind='glove': choose one of"):
        losses.window_loss(rows[:1], rows, rows[:1], pairs, jnp.ones((1, 1)), kind="glove")
    with pytest.raises(ValueError, match="weights: shape"):
        losses.window_loss(rows[:1], rows, rows[:1], pairs, jnp.ones((1, 2)))


def test_gradients_of_a_tree_are_those_of_hierarchical_softmax():
    rng = np.random.default_rng(0)
    words, lines, radius, _ = stretch()
    pairs = pairs_of(lines, radius)
    codes, points, mask = (x[words] for x in losses.huffman([9, 5, 4, 3, 3, 2, 1, 1]))
    x, table = rng.normal(size=(C, D)).astype(np.float32), rng.normal(size=(7, D)).astype(np.float32)
    places, others = np.nonzero(pairs)

    def total(x, table):
        return losses.hierarchical_softmax(
            x[places], table, codes[others], points[others], mask[others]
        ).sum()

    wanted = jax.grad(total, argnums=(0, 1))(x, table)
    one, two = losses.tree_window_gradients(x, table[points], jnp.asarray(pairs), codes, mask)
    np.testing.assert_allclose(one, wanted[0], rtol=1e-4, atol=1e-5)
    summed = np.zeros_like(table)
    np.add.at(summed, points, np.asarray(two))
    np.testing.assert_allclose(summed, wanted[1], rtol=1e-4, atol=1e-5)
    far = losses.tree_window_gradients(100 * x, table[points], jnp.asarray(pairs), codes, mask, limit=1e-3)
    assert not any(g.any() for g in far)
    with pytest.raises(ValueError, match="codes"):
        losses.tree_window_gradients(x, table[points], pairs, codes[:, :1], mask)
