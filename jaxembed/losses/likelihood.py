"""Losses that ask for the probability of a word or an entry, against vectors that are given."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, inner, on_device
from jaxembed.losses.contrastive import softmax_loss


def frozen_softmax(vectors, table, *, positives, bias=None, where=None, temperature=1.0):
    """DefSent loss: asks each vector to pick its entry out of a table of entries that stays as it is.

    ``loss[b] = -log softmax_n((vectors[b] . table[n] + bias[n]) / temperature)[positives[b]]``. Nothing is
    normalised, and the table and bias get no gradient.

    >>> table = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    >>> print(frozen_softmax(jnp.array([[0.5, 7.0]]), table, positives=jnp.array([0])).astype("float16"))
    [0.3132]

    Args:
        vectors: [B, D].
        table: [N, D]: word embeddings (DefSent) or vectors of dictionary entries (DefSent+, see
            ``vectors.entry_means``). Rows may be sharded over devices.
        positives: int [B] in 0..N-1, the entry of each vector. A row with another number,
            however large, has loss 0.
        bias: optional [N].
        where: optional bool [B, N]. False drops an entry from the softmax; positives are kept.
        temperature: positive number that divides the products; may be traced.

    Returns:
        [B], in at least float32.

    Raises:
        ValueError: when the widths differ.

    References:
        H. Tsukagoshi et al., DefSent, arXiv:2105.04339; X. Liu, DefSent+, arXiv:2405.16153.
    """
    vectors, table = jnp.asarray(vectors), jax.lax.stop_gradient(jnp.asarray(table))
    check_shape("vectors", vectors, (None, None))
    check_shape("table", table, (None, None))
    if vectors.shape[1] != table.shape[1]:
        raise ValueError(f"table: width {table.shape[1]}, but the vectors have {vectors.shape[1]}")
    scores = inner(vectors, table)
    if bias is not None:
        check_shape("bias", bias, table.shape[:1])
        scores = scores + jax.lax.stop_gradient(jnp.asarray(bias))
    return softmax_loss(scores, positives=positives, where=where, temperature=temperature)


def masked_words_loss(lift, states, table, *, words, where, bias=None, most=None, average="rows"):
    """Masked language model loss: asks the states at masked places which words were there.

    ``loss[b] = mean over t with where[b, t] of -log softmax(scores[b, t])[words[b, t]]`` with
    ``scores[b, t, v] = lift(states[b, t]) . table[v] + bias[v]``.

    Scores of words are computed at ``most`` places a row only, because [B, T, V] of them would fill the
    memory.

    >>> def lift(states):
    ...     return states
    >>> table = jnp.zeros((3, 4))
    >>> where = jnp.array([[False, True]])
    >>> words = jnp.array([[0, 2]])
    >>> print(masked_words_loss(lift, jnp.ones((1, 2, 4)), table, words=words, where=where).round(4))
    [1.0986]

    Args:
        lift: ``states [N, d] -> [N, D]``, a transform before the word vectors, such as
            ``functools.partial(encoders.lift, params)``.
        states: [B, T, d], d at most D. What is at other places does not matter.
        table: [V, D], the word vectors; they are trained along.
        words: int [B, T] in 0..V-1, the words before masking.
        where: bool [B, T], True at masked places.
        bias: optional [V], added to the scores.
        most: how many places a row are scored, the first ones; default T. Later places are left out.
        average: "rows" takes the mean of each row, so that all rows count alike. "words" divides the sum of
            each row by the mean number of masked places, so that the mean over B is the mean over all masked
            places of the batch: each word counts alike, as in most code of masked language models.

    Returns:
        [B], in at least float32; 0 for a row without masked places.

    Raises:
        ValueError: for shapes that do not fit, ``most`` outside 1..T, or an unknown average.

    References:
        J. Devlin et al., BERT, arXiv:1810.04805.
    """
    words = on_device("words", words)
    rows, length = np.shape(where)
    most = length if most is None else most
    if np.shape(words) != (rows, length) or np.shape(states)[:2] != (rows, length):
        raise ValueError(f"words {np.shape(words)}, states {np.shape(states)}: lead with {(rows, length)}")
    if not 1 <= most <= length:
        raise ValueError(f"most: {most} is outside 1..{length}, the places of a row")
    if average not in ("rows", "words"):
        raise ValueError(f"average={average!r}: choose rows or words")
    _, places = jax.lax.top_k(jnp.asarray(where).astype(jnp.int32), most)  # masked places come first
    where, words = (jnp.take_along_axis(jnp.asarray(x), places, axis=1) for x in (where, words))
    states = jnp.take_along_axis(jnp.asarray(states), places[..., None], axis=1)
    states = jnp.where(where[..., None], states, 0).reshape(rows * most, states.shape[-1])
    scores = inner(lift(states), table)
    if bias is not None:
        scores = scores + bias
    each = softmax_loss(scores, positives=words.reshape(-1)).reshape(rows, most)
    counts = jnp.sum(where, axis=1).astype(each.dtype)
    counts = jnp.maximum(counts, 1) if average == "rows" else jnp.maximum(jnp.sum(counts), 1) / rows
    return jnp.sum(jnp.where(where, each, 0), axis=1) / counts


def masked_autoencoder(
    lift, states, table, decode, *, grid, words, where, decoder_where, bias=None, most=None, average="rows"
):
    """Masked autoencoding: trains by words, from the states and from one vector through a weak decoder.

    For each pair (n, size) of the grid, with h the first ``size`` coordinates of the output of block n,

        words_of_states = masked_words_loss(h, where)
        words_of_vector = masked_words_loss(decode(lift(h[:, 0])), decoder_where)

    and ``loss = mean over pairs of (words_of_states + words_of_vector) / 2``: the vector at place 0 has to
    hold what a decoder needs that sees few words. Masking the encoder less than the decoder (20 % and
    40 %, one mask inside the other) is Starbucks' choice.

    >>> words, hidden = jnp.array([[0, 3]]), jnp.array([[False, True]])
    >>> given = {"grid": ((1, 4),), "words": words, "where": hidden, "decoder_where": hidden}
    >>> blank = jnp.zeros((1, 2, 2, 4))  # knows nothing: log 4 nats for four words
    >>> print(masked_autoencoder(lambda x: x, blank, jnp.eye(4), lambda v: blank[:, 1], **given).round(3))
    [1.386]

    Args:
        lift: ``states [N, d] -> [N, D]``, a transform before the word vectors, such as
            ``functools.partial(encoders.lift, params)``.
        states: [B, L+1, T, D], row n the states after block n; ``each=lambda tokens, mask: tokens`` makes an
            encoder export them.
        table: [V, D], the word vectors.
        decode: ``[B, D] -> [B, T, D]``: embeds the decoder's masked words, puts the vector at place 0
            (``encoders.with_first``) and runs one block.
        grid: pairs (n, size), n in 1..L.
        words: int [B, T], the words before masking.
        where: bool [B, T], places masked for the encoder.
        decoder_where: bool [B, T], places masked for the decoder.
        bias: optional [V], added to the scores of words.
        most, average: as in :func:`masked_words_loss`.

    Returns:
        [B], in at least float32.

    Raises:
        ValueError: for a layer or size that the states do not have.

    References:
        S. Zhuang et al., Starbucks (SMAE), arXiv:2410.13230; S. Xiao et al., RetroMAE, arXiv:2205.12035.
    """
    states = jnp.asarray(states)
    check_shape("states", states, (None,) * 4)
    depth, width = states.shape[1] - 1, states.shape[3]
    if not len(grid):
        raise ValueError("grid: is empty; pass at least one pair (layer, size)")
    total, options = 0, {"words": words, "bias": bias, "most": most, "average": average}
    for n, size in grid:
        if not 1 <= n <= depth or not 1 <= size <= width:
            raise ValueError(f"grid: {(n, size)} is beyond the layers 1..{depth} of width {width}")
        h = states[:, n, :, :size]
        total += masked_words_loss(lift, h, table, where=where, **options)
        total += masked_words_loss(lift, decode(lift(h[:, 0])), table, where=decoder_where, **options)
    return total / (2 * len(grid))


def sequence_loss(logits, ids, mask=None, *, average=True):
    """Language model loss: asks each place of a text which token comes next.

    ``loss[b] = mean over t of -log softmax(logits[b, t])[ids[b, t+1]]``, where both tokens are real. The last
    place predicts nothing, and nothing predicts the first token.

    >>> logits = jnp.zeros((1, 3, 4))
    >>> print(sequence_loss(logits, jnp.array([[1, 2, 3]])).round(3))
    [1.386]

    Args:
        logits: [B, T, V] of a causal model. What is at padding, and at the last place, does not matter.
        ids: int [B, T] in 0..V-1.
        mask: bool [B, T], True = a real token; padding may be on either side. None: all are real.
        average: True divides by the number of predicted tokens, never by the padded length. False sums.

    Returns:
        [B], nats in at least float32; 0 for a text that has no predicted token.

    Raises:
        ValueError: for shapes that differ.

    References:
        Y. Bengio et al., A Neural Probabilistic Language Model, JMLR 3 (2003).
    """
    logits, ids = jnp.asarray(logits), on_device("ids", ids)
    check_shape("logits", logits, (None, None, None))
    check_shape("ids", ids, logits.shape[:2])
    mask = jnp.ones(ids.shape, bool) if mask is None else jnp.asarray(mask).astype(bool)
    check_shape("mask", mask, ids.shape)
    real = mask[:, :-1] & mask[:, 1:]
    scores, targets = logits[:, :-1].astype(accumulator(logits)), jnp.where(real, ids[:, 1:], 0)
    scores = jnp.where(real[..., None], scores, 0)
    own = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
    total = jnp.sum(jnp.where(real, jax.nn.logsumexp(scores, axis=-1) - own, 0), axis=1)
    return total / jnp.maximum(jnp.sum(real, axis=1), 1) if average else total
