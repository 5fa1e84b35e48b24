"""Paragraph vectors: vectors of documents that predict their words, through bits or without a bottleneck."""

import jax
import jax.numpy as jnp
import optax

from jaxembed.arrays import accumulator, check_shape, inner, masked_mean, on_device


def init_paragraphs(key, documents, vocabulary, size, *, real=None, word_width=None, combine="concat"):
    """Paragraph vectors: draws the params of :func:`pv_dbow_loss` and :func:`pv_dm_loss`.

    >>> params = init_paragraphs(jax.random.key(0), 5, 100, 32, real=300)
    >>> print(params["documents"].shape, params["project"]["kernel"].shape, params["output"]["kernel"].shape)
    (5, 300) (300, 32) (100, 32)

    Args:
        key: random key.
        documents: N.
        vocabulary: V, the number of words, with frequent pairs of words among them where wanted.
        size: M, the width of the vectors or the number of bits.
        real: optional width R above M. Documents then have R floats, from which one shared projection makes
            the M activations (Real-Binary): floats to rank by, bits to look up.
        word_width: for :func:`pv_dm_loss`, the width of the context's word vectors; None has none.
        combine: "concat" or "sum", as it will be given to :func:`pv_dm_loss`.

    Returns:
        ``documents`` [N, M or R]; ``output`` with ``kernel`` [V, M, plus the words' width for "concat"] and
        ``bias`` [V]; with ``real`` also ``project``; with ``word_width`` also ``words`` [V, word_width].

    Raises:
        ValueError: for "sum" with words of another width than M.
    """
    names = ("documents", "output", "project", "words")
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    _check_combine(combine, size, word_width)
    width = size + (word_width if word_width and combine == "concat" else 0)

    def draw(name, *shape):
        return jax.random.normal(keys[name], shape) * shape[-1] ** -0.5

    params = {"documents": draw("documents", documents, real or size)}
    params["output"] = {"kernel": draw("output", vocabulary, width), "bias": jnp.zeros(vocabulary)}
    if real:
        params["project"] = {"kernel": draw("project", size, real).T, "bias": jnp.zeros(size)}
    if word_width:
        params["words"] = draw("words", vocabulary, word_width)
    return params


def paragraph_hidden(params, documents, *, bottleneck=None):
    """Document vectors as the words see them: projected where there is a projection, then the bottleneck.

    >>> params = {"documents": jnp.array([[-2.0, 3.0]])}
    >>> print(paragraph_hidden(params, jnp.array([0]), bottleneck=lambda a: (a > 0) * 1.0))
    [[0. 1.]]

    Args:
        params: of :func:`init_paragraphs`.
        documents: int [B], rows of ``params["documents"]``.
        bottleneck: optional function [B, M] to [B, M], for example ``vectors.binary_bottleneck``.

    Returns:
        [B, M].
    """
    hidden = params["documents"][on_device("documents", documents)]
    if "project" in params:
        hidden = hidden @ params["project"]["kernel"] + params["project"]["bias"]
    return hidden if bottleneck is None else bottleneck(hidden)


def pv_dbow_loss(params, documents, words, *, weights=None, bottleneck=None, samples=None):
    """PV-DBOW: the vector of a document predicts the words of the document, in whatever order.

    ``loss[b] = mean over t of -log softmax(U z[b] + c)[words[b, t]]`` with z the vector of document b behind
    the bottleneck. With ``vectors.binary_bottleneck`` this is Binary PV-DBOW, with a projection among the
    params Real-Binary PV-DBOW.

    >>> output = {"kernel": jnp.ones((4, 2)), "bias": jnp.zeros(4)}
    >>> params = {"documents": jnp.zeros((3, 2)), "output": output}
    >>> print(pv_dbow_loss(params, jnp.array([0, 2]), jnp.array([[1, 3], [0, 0]])).round(3))
    [1.386 1.386]

    Args:
        params: of :func:`init_paragraphs`.
        documents: int [B].
        words: int [B, T], words of each document; frequent pairs of words are words too. Padding may hold
            any word.
        weights: optional [B, T], 0 for padding; else how often the word stands there.
        bottleneck: as in :func:`paragraph_hidden`.
        samples: optional (ids int [S], log_q [V]): the softmax is taken over the word and S drawn words, with
            log_q the log probability of the draw. For large V.

    Returns:
        [B]; 0 for a document without words.

    Raises:
        ValueError: for shapes that differ.

    References:
        Q. Le and T. Mikolov, arXiv:1405.4053; K. Grzegorczyk and M. Kurdziel, arXiv:1611.01116.
    """
    words = on_device("words", words)
    check_shape("words", words, (len(documents), None))
    weights = jnp.ones(words.shape) if weights is None else jnp.asarray(weights)
    check_shape("weights", weights, words.shape)
    hidden = paragraph_hidden(params, documents, bottleneck=bottleneck)
    return _likelihood(params["output"], hidden, words, weights, samples)


def pv_dm_loss(
    params, documents, contexts, targets, *, mask=None, combine="concat", bottleneck=None, samples=None
):
    """PV-DM: the vector of a document and the words around a place predict the word of that place.

    ``loss[b] = -log softmax(U combine(z[b], mean of E[contexts[b]]) + c)[targets[b]]``. Only the document's
    part goes through the bottleneck.

    >>> params = init_paragraphs(jax.random.key(0), 3, 4, 2, word_width=5)
    >>> print(pv_dm_loss(params, jnp.array([0]), jnp.array([[1, 2]]), jnp.array([3])).shape)
    (1,)

    Args:
        params: of :func:`init_paragraphs` with ``word_width``.
        documents: int [B].
        contexts: int [B, C], the words around the target, without it.
        targets: int [B].
        mask: optional bool [B, C]. False marks padding. No context at all is a mean of 0.
        combine: "concat" or "sum". The paper's text could not be read: both are kept.
        bottleneck, samples: as in :func:`pv_dbow_loss`.

    Returns:
        [B].

    Raises:
        ValueError: for shapes that differ, an unknown ``combine``, or params without words.

    References:
        Q. Le and T. Mikolov, arXiv:1405.4053; K. Grzegorczyk and M. Kurdziel, arXiv:1611.01116.
    """
    if "words" not in params:
        raise ValueError("params: hold no words; give init_paragraphs a word_width")
    contexts, targets = on_device("contexts", contexts), on_device("targets", targets)
    check_shape("contexts", contexts, (len(documents), None))
    check_shape("targets", targets, (len(documents),))
    mask = jnp.ones(contexts.shape, bool) if mask is None else jnp.asarray(mask, bool)
    check_shape("mask", mask, contexts.shape)
    hidden = paragraph_hidden(params, documents, bottleneck=bottleneck)
    around = masked_mean(params["words"][contexts], mask)
    _check_combine(combine, hidden.shape[1], around.shape[1])
    joined = hidden + around if combine == "sum" else jnp.concatenate([hidden, around], axis=1)
    return _likelihood(params["output"], joined, targets[:, None], jnp.ones((len(targets), 1)), samples)


def infer_documents(loss, params, documents, *, steps=100, rate=0.1, key=None):
    """Inference: fits vectors of unseen documents to their words; everything else stays as it was trained.

    Runs Adam on new rows of ``params["documents"]`` alone. Evaluate these rows: those of the training
    documents were fitted together with the words and look better than they are.

    >>> params = init_paragraphs(jax.random.key(0), 5, 10, 4)
    >>> words = jnp.array([[1, 2, 3], [7, 8, 9]])
    >>> rows = infer_documents(lambda p, n: pv_dbow_loss(p, n, words), params, 2, steps=20)
    >>> print(rows.shape)
    (2, 4)

    Args:
        loss: function (params, numbers int [N]) to [N], for example :func:`pv_dbow_loss` with the words of
            the N documents.
        params: trained params; their documents are not looked at.
        documents: N, how many.
        steps: of Adam.
        rate: learning rate.
        key: optional random key of the first rows; None starts them at 0, in the middle of every bit.

    Returns:
        [N, M or R], rows for ``params | {"documents": rows}``, in at least float32.

    Raises:
        ValueError: for fewer than one document.
    """
    if documents < 1:
        raise ValueError(f"documents: {documents} is below 1; pass the number of documents")
    width, tx = params["documents"].shape[1], optax.adam(rate)
    shape, dtype = (documents, width), accumulator(params["documents"])
    rows = jnp.zeros(shape, dtype) if key is None else jax.random.normal(key, shape, dtype) * width**-0.5
    numbers = jnp.arange(documents)

    def step(_, state):
        rows, memory = state
        gradient = jax.grad(lambda rows: jnp.sum(loss(params | {"documents": rows}, numbers)))(rows)
        updates, memory = tx.update(gradient, memory)
        return optax.apply_updates(rows, updates), memory

    return jax.lax.fori_loop(0, steps, step, (rows, tx.init(rows)))[0]


def _likelihood(output, hidden, words, weights, samples):
    """The mean of -log p(word) over the weighted words [B, T] of each row of hidden [B, M]."""
    kernel, bias = output["kernel"], output["bias"]
    dtype = accumulator(hidden)
    safe = jnp.where(weights > 0, words, 0)
    if samples is None:
        scores = inner(hidden, kernel) + bias
        own, total = jnp.take_along_axis(scores, safe, axis=1), jax.nn.logsumexp(scores, axis=1)[:, None]
    else:
        ids, log_q = samples
        ids, count = on_device("samples", ids), len(ids)
        expected = log_q + jnp.log(count)
        own = jnp.einsum("bm,btm->bt", hidden, kernel[safe], precision="highest") + (bias - expected)[safe]
        drawn = inner(hidden, kernel[ids]) + (bias - expected)[ids]
        drawn = jnp.where(ids == safe[..., None], -jnp.inf, drawn[:, None])  # not the word itself
        total = jnp.logaddexp(own, jax.nn.logsumexp(drawn, axis=2))
    loss = jnp.sum(jnp.where(weights > 0, weights * (total - own), 0), axis=1, dtype=dtype)
    return loss / jnp.maximum(jnp.sum(weights, axis=1), 1e-9)


def _check_combine(combine, size, word_width):
    if combine not in ("concat", "sum"):
        raise ValueError(f'combine: {combine!r} is unknown; choose "concat" or "sum"')
    if combine == "sum" and word_width not in (None, size):
        raise ValueError(f"word_width: {word_width} is not {size}, the size; a sum needs one width")
