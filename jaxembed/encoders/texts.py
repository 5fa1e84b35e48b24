"""Lists of texts through a tokenizer and a compiled function: buckets of lengths, batches, order."""

import numpy as np
from tqdm import tqdm

from jaxembed.files import read_json

WINDOW = 64  # batches that are tokenized together


def open_tokenizer(path, max_length, lowercase=False):
    """Reads a tokenizer.json; its own truncation and padding are replaced.

    Args:
        path: pathlib path of the file.
        max_length: tokens at which a text is cut, special ones counted.
        lowercase: True lowers the text first, where the file does not say so.

    Returns:
        ``tokenizers.Tokenizer``.
    """
    from tokenizers import Tokenizer, normalizers

    remedy = "save the tokenizer in its fast form, which writes this file"
    read_json(path, remedy)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"{path}: {' '.join(str(error).split())}; {remedy}") from None
    tokenizer.no_padding()
    special = tokenizer.num_special_tokens_to_add(False)
    if max_length <= special:
        raise ValueError(
            f"max_length={max_length}: leaves no place beside {special} special tokens; "
            f"give at least {special + 1}"
        )
    tokenizer.enable_truncation(max_length)
    if lowercase:
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    return tokenizer


def length_bucket(length):
    """Rounds a length up: multiples of 8 up to 64, then four steps per doubling.

    >>> print([length_bucket(n) for n in (1, 9, 64, 65, 130)])
    [8, 16, 64, 80, 160]

    Args:
        length: int >= 0.

    Returns:
        int.
    """
    step = max(8, 1 << max(0, (max(length, 1) - 1).bit_length() - 3))
    return max(step, -(-length // step) * step)


def pad(ids, rows, length, skipped=0):
    """Packs token ids into one batch.

    >>> print(pad([[7, 8]], 2, 3)["ids"].tolist())
    [[7, 8, 0], [0, 0, 0]]

    Args:
        ids: lists of int, at most ``rows``.
        rows: rows of the batch; those beyond ``ids`` are empty.
        length: T.
        skipped: first tokens that the pooling does not read.

    Returns:
        {"ids": int32 [rows, T], "mask": bool [rows, T]}, and "pool_mask" where ``skipped`` > 0.
    """
    lengths = np.zeros(rows, np.int64)
    lengths[: len(ids)] = [len(row) for row in ids]
    mask = np.arange(length) < lengths[:, None]
    packed = np.zeros((rows, length), np.int32)
    packed[mask] = np.concatenate([np.asarray(row, np.int32) for row in ids] or [np.zeros(0, np.int32)])
    batch = {"ids": packed, "mask": mask}
    return batch | {"pool_mask": mask & (np.arange(length) >= skipped)} if skipped else batch


def check_texts(texts):
    """Returns a list of texts as it is; refuses one str and what is not str.

    Args:
        texts: list of str.
    """
    if isinstance(texts, str):
        raise ValueError("texts is one str; give a list of them")
    for i, text in enumerate(texts := list(texts)):
        if not isinstance(text, str):
            raise ValueError(f"texts[{i}] is {type(text).__name__}; give str")
    return texts


def vectors_of_texts(run, tokenize, texts, batch_size, max_length, width, progress=False):
    """Runs a function on texts in batches of few shapes and returns its rows in the order of the texts.

    Args:
        run: ``batch -> [B, D]``, a batch as :func:`pad` makes it.
        tokenize: ``texts -> (lists of int, number of skipped first tokens)``.
        texts: list of str.
        batch_size: rows of a batch.
        max_length: largest length.
        width: D.
        progress: True shows a bar on a terminal.

    Returns:
        float32 NumPy array [n, D].
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    texts = check_texts(texts)
    out = np.zeros((len(texts), width), np.float32)
    rows = min(batch_size, 1 << max(0, len(texts) - 1).bit_length())
    by_size = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    waiting = []
    disable = None if progress else True  # None: hidden unless a person watches
    with tqdm(total=len(texts), disable=disable, desc="encode") as bar:
        for chosen, batch in _batches(tokenize, texts, by_size, rows, max_length):
            waiting.append((chosen, run(batch)))
            if len(waiting) > 1:  # the next batch is prepared while this one runs
                _store(out, *waiting.pop(0), bar)
        for pair in waiting:
            _store(out, *pair, bar)
    return out


def _batches(tokenize, texts, order, rows, max_length):
    for start in range(0, len(order), WINDOW * rows):
        window = order[start : start + WINDOW * rows]
        ids, skipped = tokenize([texts[i] for i in window])
        by_length = sorted(range(len(window)), key=lambda i: -len(ids[i]))
        for first in range(0, len(window), rows):
            part = by_length[first : first + rows]
            length = min(length_bucket(len(ids[part[0]])), max_length)
            yield [window[i] for i in part], pad([ids[i] for i in part], rows, length, skipped)


def _store(out, chosen, vectors, bar):
    out[chosen] = np.asarray(vectors, np.float32)[: len(chosen)]
    bar.update(len(chosen))
