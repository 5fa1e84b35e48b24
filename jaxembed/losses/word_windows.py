"""Word vectors, a stretch of text at a time: all pairs of its windows, and noise words that it shares."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape

WINDOW_KINDS = ("skip_gram", "cbow")


def window_pairs(lines, radius, window):
    """Pairs of a stretch of text: which of the words around a place are its context.

    Word j is a context of place i when it stands at most ``radius[i]`` places away in the same line.

    >>> print(window_pairs(jnp.array([-1, 0, 0, 1]), jnp.array([1, 1]), 1).astype(int))
    [[0 0 1 0]
     [0 1 0 0]]

    Args:
        lines: int [C + 2 window], the line of each word; -1 is padding. The C places are the middle ones.
        radius: int [C].
        window: largest radius.

    Returns:
        bool [C, C + 2 window].
    """
    places = len(lines) - 2 * window
    apart = jnp.arange(len(lines)) - jnp.arange(places)[:, None] - window
    near = (jnp.abs(apart) <= radius[:, None]) & (apart != 0)
    own = lines[window : window + places, None]
    return near & (lines == own) & (own >= 0)


def noise_weights(words, noise, pairs, negatives, *, kind="skip_gram"):
    """Weights of shared noise words: each place counts them as often as its own draws would.

    A pair draws ``negatives`` noise words, and a draw of its own target does not count. N shared words stand
    for these draws, each with weight ``negatives / N`` for every pair: the same gradient in expectation.

    >>> pairs = jnp.array([[True, False, True]])
    >>> print(noise_weights(jnp.array([7, 8, 9]), jnp.array([9, 5]), pairs, 4))
    [[2. 4.]]

    Args:
        words: int [P], the words of the stretch.
        noise: int [N].
        pairs: bool [C, P] of :func:`window_pairs`.
        negatives: noise words of a pair, of a place for "cbow".
        kind: "skip_gram", where targets are the words around, or "cbow", where they are the C middle ones.

    Returns:
        float32 [C, N].
    """
    pairs = pairs.astype(jnp.float32)
    if kind == "cbow":
        window = (pairs.shape[1] - pairs.shape[0]) // 2
        own = words[window : window + len(pairs), None] != noise
        kept = own & (jnp.sum(pairs, axis=1, keepdims=True) > 0)
    else:
        same = (words[:, None] == noise).astype(jnp.float32)
        kept = jnp.sum(pairs, axis=1, keepdims=True) - pairs @ same
    return kept * (negatives / len(noise))


def window_loss(inputs, outputs, noise, pairs, weights, *, kind="skip_gram", sizes=None):
    """Negative sampling of a stretch of text: all its pairs, against noise words that they share.

    "skip_gram": ``loss[i] = sum over j of pairs[i, j] softplus(-x[i] . outputs[j]) + sum over n of
    weights[i, n] softplus(x[i] . noise[n])`` with x the input row of place i. "cbow": x[i] is the mean input
    row of the pairs of i, and the true word is that of place i itself. Both are products of small matrices.

    >>> rows = jnp.zeros((3, 2))
    >>> pairs = window_pairs(jnp.array([0, 0, 0]), jnp.array([1]), 1)
    >>> print(window_loss(rows[:1], rows, rows[:1], pairs, jnp.ones((1, 1))).round(3))
    [2.079]

    Args:
        inputs: input rows, [C, D] of the places; for "cbow" [P, D] of all words of the stretch.
        outputs: output rows, [P, D] of all words; for "cbow" [C, D] of the places.
        noise: [N, D], output rows of the shared noise words.
        pairs: bool [C, P] of :func:`window_pairs`.
        weights: [C, N] of :func:`noise_weights`.
        kind: "skip_gram" or "cbow".
        sizes: optional [P] for "cbow", of how many rows each input row is the mean itself, such as a word of
            its n-grams. It counts that often in the mean over the context, as in fastText.

    Returns:
        [C]; 0 for a place without context.

    Raises:
        ValueError: for another kind, or shapes that do not fit.

    References:
        T. Mikolov et al., arXiv:1310.4546. Sharing noise words within a stretch: S. Ji et al.,
        arXiv:1604.04661, which shares them within a window. N-grams: P. Bojanowski et al., arXiv:1607.04606.
    """
    if kind not in WINDOW_KINDS:
        raise ValueError(f"kind={kind!r}: choose one of {WINDOW_KINDS}")
    chosen, around = (outputs, inputs) if kind == "cbow" else (inputs, outputs)
    check_shape("pairs", pairs, (len(chosen), len(around)))
    check_shape("weights", weights, (len(chosen), len(noise)))
    kept = pairs.astype(accumulator(inputs))
    if kind == "cbow":
        x, real = _means(inputs, kept, sizes)
        true = jnp.where(real[:, 0], jax.nn.softplus(-jnp.sum(x * outputs, axis=1)), 0)
    else:
        x = inputs
        true = jnp.sum(kept * jax.nn.softplus(-(x @ outputs.T)), axis=1)
    return true + jnp.sum(weights * jax.nn.softplus(x @ noise.T), axis=1)


def _means(inputs, kept, sizes):
    """The mean row [C, D] of the context of each place, and whether it has one, bool [C, 1]."""
    if sizes is not None:
        check_shape("sizes", sizes, inputs.shape[:1])
        kept = kept * jnp.asarray(sizes, kept.dtype)
    total = jnp.sum(kept, axis=1, keepdims=True)
    return (kept / jnp.maximum(total, 1)) @ inputs, total > 0


def window_gradients(inputs, outputs, noise, pairs, weights, *, kind="skip_gram", sizes=None, limit=None):
    """Gradients of the sum of :func:`window_loss`, in the order of its rows, without the losses.

    "cbow" gives every word around the full gradient of the mean, as the official trainers do: it is not
    divided by their number. Nor is it divided by ``sizes``: each row of a word takes all of it.

    >>> rows = jnp.ones((3, 2))
    >>> pairs = window_pairs(jnp.array([0, 0, 0]), jnp.array([1]), 1)
    >>> print(window_gradients(rows[:1], rows, rows[:1], pairs, jnp.zeros((1, 1)))[0].round(3))
    [[-0.238 -0.238]]

    Args:
        inputs, outputs, noise, pairs, weights, kind, sizes: as in :func:`window_loss`.
        limit: optional number. A pair whose score is not within it has no gradient, which keeps a small
            vocabulary from growing without bounds; gensim's trainer has 6.

    Returns:
        Gradients of ``inputs``, ``outputs`` and ``noise``, in their shapes.
    """
    kept = pairs.astype(accumulator(inputs))
    if kind == "skip_gram":
        rows = jnp.concatenate([outputs, noise])
        true = jnp.concatenate([kept, jnp.zeros_like(weights)], axis=1)
        scale = jnp.concatenate([kept, weights], axis=1)
        scores = inputs @ rows.T
        slopes = _within(scores, limit, scale * jax.nn.sigmoid(scores) - true)
        found = slopes.T @ inputs
        return slopes @ rows, found[: len(outputs)], found[len(outputs) :]
    x, real = _means(inputs, kept, sizes)
    own, drawn = jnp.sum(x * outputs, axis=1, keepdims=True), x @ noise.T
    slope = _within(own, limit, jnp.where(real, jax.nn.sigmoid(own) - 1, 0))
    slopes = _within(drawn, limit, weights * jax.nn.sigmoid(drawn))
    return kept.T @ (slope * outputs + slopes @ noise), slope * x, slopes.T @ x


def tree_window_gradients(inputs, nodes, pairs, codes, mask, *, limit=None):
    """Gradients of hierarchical softmax of a stretch of text: all its pairs as products of small matrices.

    Of ``sum over i, j with pairs[i, j] of hierarchical_softmax(inputs[i])[word j]``, without the losses.

    >>> pairs = window_pairs(jnp.array([0, 0, 0]), jnp.array([1]), 1)
    >>> codes, mask = jnp.zeros((3, 2), int), jnp.ones((3, 2), bool)
    >>> print(tree_window_gradients(jnp.ones((1, 4)), jnp.zeros((3, 2, 4)), pairs, codes, mask)[1][:, 0, 0])
    [-0.5 -0.  -0.5]

    Args:
        inputs: [C, D], input rows of the places.
        nodes: [P, L, D], the inner nodes on the ways to all words of the stretch.
        pairs: bool [C, P] of :func:`window_pairs`.
        codes, mask: [P, L], the rows of :func:`huffman` of the words.
        limit: as in :func:`window_gradients`, of the score of a node.

    Returns:
        Gradients of ``inputs`` and ``nodes``, in their shapes.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        T. Mikolov et al., arXiv:1301.3781.
    """
    check_shape("nodes", nodes, (None, None, inputs.shape[1]))
    check_shape("pairs", pairs, (len(inputs), len(nodes)))
    check_shape("codes", codes, nodes.shape[:2])
    check_shape("mask", mask, nodes.shape[:2])
    rows, dtype = nodes.reshape(-1, nodes.shape[2]), accumulator(inputs)
    kept = (pairs[:, :, None] & jnp.asarray(mask, bool)).reshape(len(pairs), -1).astype(dtype)
    scores = inputs @ rows.T
    slopes = _within(scores, limit, kept * (jax.nn.sigmoid(scores) - 1 + jnp.asarray(codes).reshape(-1)))
    return slopes @ rows, (slopes.T @ inputs).reshape(nodes.shape)


def _within(scores, limit, slopes):
    return slopes if limit is None else jnp.where(jnp.abs(scores) < limit, slopes, 0)
