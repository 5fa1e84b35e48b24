"""Texts → word ids → ids with hidden words, for pre-training by masked words."""

import collections

import numpy as np

from jaxembed import ragged
from jaxembed.data.text import words

MASK_WORD, FIRST_WORD, RARE_WORD = 1, 2, 3  # ids below those of words; 0 is padding


def word_ids(texts, vocabulary, *, length):
    """Word ids: gives the commonest words of some texts a number each, and all others one together.

    Id 0 is padding, 1 is for hidden words (``MASK_WORD``), 2 begins every text and stands for the whole of it
    (``FIRST_WORD``), 3 is any rarer word (``RARE_WORD``).

    >>> batch = word_ids(["a cat", "a dog and a cat"], 6, length=5)
    >>> print(batch["ids"].tolist(), batch["mask"].sum())
    [[2, 4, 5, 0, 0], [2, 4, 3, 3, 4]] 8

    Args:
        texts: N strings, cut into :func:`words`.
        vocabulary: number V of ids, at least 5.
        length: tokens T of a text, the first one among them, at least 2.

    Returns:
        {"ids": int32 [N, T] in 0..V-1, "mask": bool [N, T]}. Equal counts go to the word met first.

    Raises:
        ValueError: for no texts, or a vocabulary or length that holds no word.
    """
    texts = list(texts)
    if not texts or vocabulary < RARE_WORD + 2 or length < 2:
        raise ValueError(
            f"texts: {len(texts)}, vocabulary={vocabulary}, length={length}; give at least 1, 5 and 2 of them"
        )
    rows = [words(text, limit=length - 1) for text in texts]
    counts = collections.Counter(word for row in rows for word in row)
    common = counts.most_common(vocabulary - RARE_WORD - 1)
    numbers = {word: RARE_WORD + 1 + n for n, (word, _) in enumerate(common)}
    ids, mask = ragged.pad([[FIRST_WORD, *(numbers.get(w, RARE_WORD) for w in row)] for row in rows], length)
    return {"ids": ids, "mask": mask}


def word_masks(generator, groups, mask, *, rates=(0.2, 0.4)):
    """Whole-word masking: chooses words to hide, each choice inside the next.

    The words of a row are shuffled once. For each rate, words are taken in that order until at least
    ``max(1, round(rate * length))`` tokens are hidden, the length counting all real tokens, special ones
    too. So a smaller rate hides a subset of what a larger one hides, and at most one word too much.

    >>> groups = np.array([[-1, 0, 1, 1, 2, -1]])  # [CLS] one two-piece word one [SEP]
    >>> few, many = word_masks(np.random.default_rng(1), groups, groups >= -1, rates=(0.2, 0.5))
    >>> print(few.astype(int), many.astype(int))
    [[0 1 0 0 0 0]] [[0 1 1 1 0 0]]

    Args:
        generator: a ``numpy.random.Generator``.
        groups: int [B, T], the number of the word that a token belongs to; negative for special tokens
            and padding, which are never hidden.
        mask: bool [B, T], True for real tokens.
        rates: shares of the tokens, in rising order.

    Returns:
        Tuple of one bool [B, T] per rate, True where a token is hidden. A row without words hides nothing.

    Raises:
        ValueError: for rates outside 0..1 or that fall, or shapes that differ.

    References:
        S. Zhuang et al., Starbucks (SMAE), arXiv:2410.13230: 20 % for the encoder, 40 % for the decoder.
    """
    groups, mask = np.asarray(groups), np.asarray(mask).astype(bool)
    if groups.shape != mask.shape or groups.ndim != 2:
        raise ValueError(f"mask: {mask.shape} for groups {groups.shape}; pass both as [B, T]")
    if not all(0 < rate <= 1 for rate in rates) or list(rates) != sorted(rates):
        raise ValueError(f"rates={tuple(rates)}: shares above 0 and at most 1, in rising order")
    chosen = tuple(np.zeros(groups.shape, bool) for _ in rates)
    for b, row in enumerate(np.where(mask, groups, -1)):
        words, sizes = np.unique(row[row >= 0], return_counts=True)
        order = generator.permutation(len(words))
        before = np.cumsum(sizes[order]) - sizes[order]  # tokens hidden before each word
        for hidden, rate in zip(chosen, rates, strict=True):
            count = max(1, round(rate * int(mask[b].sum())))
            hidden[b] = np.isin(row, words[order[before < count]])
    return chosen


def hide(generator, ids, where, *, token, vocabulary):
    """Masked language modelling: replaces hidden tokens, 80 % by the mask token and 10 % by random ids.

    The other 10 % stay as they are.

    >>> ids, where = np.array([[5, 6, 7]]), np.array([[False, True, False]])
    >>> print(hide(np.random.default_rng(0), ids, where, token=1, vocabulary=100))
    [[5 1 7]]

    Args:
        generator: a ``numpy.random.Generator``; give encoder and decoder draws of their own.
        ids: int [B, T].
        where: bool [B, T] of :func:`word_masks`.
        token: the id of the mask token.
        vocabulary: number of ids; random ids come from 0..vocabulary-1.

    Returns:
        int [B, T] in the dtype of ``ids``, which is left as it is.

    References:
        J. Devlin et al., BERT, arXiv:1810.04805.
    """
    ids = np.asarray(ids)
    if ids.shape != np.shape(where):
        raise ValueError(f"where: {np.shape(where)} for ids {ids.shape}; pass one flag per token")
    lot = generator.random(ids.shape)
    other = generator.integers(0, vocabulary, ids.shape, dtype=ids.dtype)
    return np.where(where & (lot < 0.8), token, np.where(where & (lot < 0.9), other, ids)).astype(ids.dtype)


def masked_batch(generator, ids, mask, groups, *, token, vocabulary, rates=(0.2, 0.4)):
    """Masked-word batch: hides few words for an encoder and more, those among them, for a decoder.

    :func:`word_masks` chooses the words and :func:`hide` replaces them, with draws of its own for each. The
    arrays are what ``losses.masked_words_loss`` and ``losses.masked_autoencoder`` ask for.

    >>> ids = np.array([[2, 5, 6, 7, 8, 9]])
    >>> groups = np.array([[-1, 0, 1, 2, 3, 4]])
    >>> batch = masked_batch(np.random.default_rng(0), ids, ids > 0, groups, token=1, vocabulary=100)
    >>> print(batch["where"].sum(), batch["decoder_where"].sum(), batch["words"].tolist() == ids.tolist())
    1 2 True

    Args:
        generator: a ``numpy.random.Generator``. One that is made from the rows of the batch makes the batch
            a function of its rows.
        ids: int [B, T], the words.
        mask: bool [B, T], True for real tokens.
        groups: int [B, T], the number of the word that a token belongs to, as in :func:`word_masks`.
        token: the id of the mask token.
        vocabulary: number of ids.
        rates: shares of the tokens that are hidden for the encoder and for the decoder, in rising order.

    Returns:
        {"words": int [B, T], the ids before masking, "mask", "ids" and "decoder_ids": int [B, T] after
        masking, "where" and "decoder_where": bool [B, T], True at hidden places}.

    Raises:
        ValueError: for shapes that differ, other than two rates, or rates outside 0..1 or that fall.

    References:
        S. Zhuang et al., Starbucks (SMAE), arXiv:2410.13230.
    """
    if len(rates) != 2:
        raise ValueError(f"rates={tuple(rates)}: pass two, one of the encoder and one of the decoder")
    few, many = word_masks(generator, groups, mask, rates=rates)
    batch = {"words": np.asarray(ids), "mask": np.asarray(mask), "where": few, "decoder_where": many}
    batch["ids"] = hide(generator, ids, few, token=token, vocabulary=vocabulary)
    return batch | {"decoder_ids": hide(generator, ids, many, token=token, vocabulary=vocabulary)}


def random_window(generator, ids, length):
    """Random window: cuts a long row of token ids to a stretch that begins anywhere with equal chances.

    >>> print(random_window(np.random.default_rng(0), [5, 6, 7, 8, 9], 3))
    [7, 8, 9]

    Args:
        generator: a ``numpy.random.Generator``.
        ids: list of int, without the special tokens at its ends.
        length: largest number of tokens.

    Returns:
        List of int; a row that is not longer stays whole.

    Raises:
        ValueError: for a length below 1.

    References:
        S. Zhuang et al., Starbucks (SMAE), arXiv:2410.13230, with 512 tokens.
    """
    if length < 1:
        raise ValueError(f"length={length}; give at least 1 token")
    start = int(generator.integers(0, max(1, len(ids) - length + 1)))
    return list(ids[start : start + length])
