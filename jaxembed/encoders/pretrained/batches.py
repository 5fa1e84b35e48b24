"""Lists of texts through a tokenizer and a compiled function: buckets of lengths, batches, order."""

import warnings

import numpy as np

from jaxembed import extras
from jaxembed.files import read_json
from jaxembed.ragged import bucket, pad

WINDOW = 64  # batches that are tokenized together


def check_extra():
    """Refuses to go on without the package that reads tokenizers."""
    with extras.brings("encoders"):
        import tokenizers  # noqa: F401


def open_tokenizer(path, max_length, settings):
    """Reads a tokenizer.json; the lengths that it says are replaced, and padding is left out.

    Args:
        path: pathlib path of the file.
        max_length: tokens at which a text is cut, special ones counted.
        settings: dict. "truncation_side", "left" or "right", says where; default: as the file says. A true
            "do_lower_case" lowers the text first, where the file does not say so. A true "add_bos_token"
            or "add_eos_token" that the file does not bear out gives a warning.

    Returns:
        ``tokenizers.Tokenizer``.

    Raises:
        ValueError: for a damaged file, an unknown side or a length without place for a word.
    """
    from tokenizers import Tokenizer, normalizers

    remedy = "save the tokenizer in its fast form, which writes this file"
    read_json(path, remedy)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except BaseException as error:  # the library raises nothing more special, and panics in other classes
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ValueError(f"{path}: {' '.join(str(error).split())}; {remedy}") from None
    if max(tokenizer.get_vocab().values(), default=0) >= 2**31:
        raise ValueError(f"{path}: an id is above {2**31 - 1}; {remedy}")
    side = settings.get("truncation_side") or (tokenizer.truncation or {}).get("direction", "right")
    if side not in ("left", "right"):
        raise ValueError(f"tokenizer_config.json: truncation_side {side!r} is unknown; known: left, right")
    tokenizer.no_padding()
    check_length(tokenizer, max_length, "max_length")
    tokenizer.enable_truncation(max_length, direction=side)
    if settings.get("do_lower_case"):
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    _warn_of_ends(tokenizer, settings)
    return tokenizer


def check_length(tokenizer, length, name):
    """Refuses a number of tokens that leaves no place next to the special ones.

    Args:
        tokenizer: ``tokenizers.Tokenizer``.
        length: int.
        name: of the argument, for the error.
    """
    special = tokenizer.num_special_tokens_to_add(False)
    if length <= special:
        raise ValueError(
            f"{name}={length}: leaves no place next to {special} special tokens; give at least {special + 1}"
        )


def special_ends(tokenizer):
    """Counts the special tokens that a tokenizer puts before and after a text.

    Args:
        tokenizer: ``tokenizers.Tokenizer``.

    Returns:
        (int, int).
    """
    mask = np.array(tokenizer.encode("a").special_tokens_mask, bool)
    if mask.all():  # the word is unknown and left out
        return len(mask), 0
    return int(np.argmin(mask)), int(np.argmin(mask[::-1]))


def _warn_of_ends(tokenizer, settings):
    for key, count, place, told in (
        ("add_bos_token", special_ends(tokenizer)[0], "before", "first"),
        ("add_eos_token", special_ends(tokenizer)[1], "after", "last"),
    ):
        if settings.get(key) is True and not count:
            warnings.warn(
                f"tokenizer_config.json: {key} is true, but tokenizer.json adds no token {place} a text and "
                f"is followed: the {told} token that is pooled is of the text; where the model was trained "
                "otherwise, write that token into the post_processor of tokenizer.json",
                stacklevel=4,
            )


def cut_rows(rows, length, ends, side):
    """Cuts rows of token ids to a length; special tokens at the ends stay.

    >>> print(cut_rows([[2, 5, 6, 7, 3]], 4, (1, 1), "left"))
    [[2, 6, 7, 3]]

    Args:
        rows: lists of int.
        length: largest length, above the number of special tokens.
        ends: (special tokens before, special tokens after) each text.
        side: "left" drops the first tokens of the text, "right" the last ones.

    Returns:
        Lists of int.
    """
    first, last = ends

    def cut(row):
        more = len(row) - length
        if more <= 0:
            return row
        start = first if side == "left" else len(row) - last - more
        return row[:start] + row[start + more :]

    return [cut(row) for row in rows]


def text_batch(ids, rows, length, skipped=0):
    """Packs token ids into one batch.

    >>> print(text_batch([[7, 8]], 2, 3)["ids"].tolist())
    [[7, 8, 0], [0, 0, 0]]

    Args:
        ids: lists of int, at most ``rows``.
        rows: rows of the batch; those beyond ``ids`` are empty.
        length: T.
        skipped: first tokens that the pooling does not read, an int or one for each of ``ids``.

    Returns:
        {"ids": int32 [rows, T], "mask": bool [rows, T]}, and "pool_mask" unless ``skipped`` is 0.
    """
    packed, mask = pad(ids, length, count=rows)
    batch = {"ids": packed, "mask": mask}
    if np.ndim(skipped) == 0 and skipped == 0:
        return batch
    starts = np.zeros(rows, np.int64)
    starts[: len(ids)] = skipped
    return batch | {"pool_mask": mask & (np.arange(length) >= starts[:, None])}


def check_texts(texts):
    """Returns a list of texts as it is; refuses one str, what is not str, and half a character.

    Args:
        texts: list of str.
    """
    if isinstance(texts, str):
        raise ValueError("texts is one str; give a list of them")
    for i, text in enumerate(texts := list(texts)):
        check_text(text, f"texts[{i}]")
    return texts


def check_text(text, name):
    """Returns a str as it is; refuses another type, and a lone surrogate, which no tokenizer can read.

    Args:
        text: str.
        name: for the error.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} is {type(text).__name__}; give str")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name} holds a lone surrogate, {text[error.start]!r} at place {error.start}, which is half "
                "a character; decode with errors='replace'"
            ) from None
    return text


def vectors_of_texts(run, tokenize, texts, batch_size, max_length, width, progress=False):
    """Runs a function on texts in batches of few shapes and returns its rows in the order of the texts.

    Args:
        run: ``batch -> [B, D]``, a batch as :func:`text_batch` makes it.
        tokenize: ``texts -> (lists of int, skipped first tokens as for text_batch)``.
        texts: list of str.
        batch_size: rows of a batch.
        max_length: largest length.
        width: D.
        progress: True shows a bar on a terminal.

    Returns:
        float32 NumPy array [n, D].
    """
    texts = check_texts(texts)
    out = np.zeros((len(texts), width), np.float32)
    for chosen, vectors in _results(run, tokenize, texts, batch_size, max_length, progress):
        out[chosen] = np.asarray(vectors, np.float32)[: len(chosen)]
    return out


def sets_of_texts(run, tokenize, texts, batch_size, max_length, width, progress=False):
    """Runs a function on texts as :func:`vectors_of_texts` does and returns the rows of their tokens.

    Args:
        run: ``batch -> (rows [B, T, D], mask [B, T])``.
        tokenize, texts, batch_size, max_length, width, progress: as for :func:`vectors_of_texts`.

    Returns:
        float32 NumPy array [S, D] of the rows under the mask, one text after the other, and int64 [n + 1]:
        where each text begins.
    """
    texts = check_texts(texts)
    sets = [np.zeros((0, width), np.float32)] * len(texts)
    for chosen, (rows, mask) in _results(run, tokenize, texts, batch_size, max_length, progress):
        rows, mask = np.asarray(rows, np.float32), np.asarray(mask)
        for row, place in enumerate(chosen):
            sets[place] = rows[row][mask[row]]
    offsets = np.cumsum([0, *map(len, sets)], dtype=np.int64)
    return np.concatenate([np.zeros((0, width), np.float32), *sets]), offsets


def _results(run, tokenize, texts, batch_size, max_length, progress):
    """Yields (places of texts, what ``run`` returns for their batch); the longest texts come first."""
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    rows = min(batch_size, 1 << max(0, len(texts) - 1).bit_length())
    by_size = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    waiting = []
    with extras.bar(len(texts), watched=progress, desc="encode") as bar:
        for chosen, batch in _batches(tokenize, texts, by_size, rows, max_length):
            waiting.append((chosen, run(batch)))
            if len(waiting) > 1:  # the next batch is prepared while this one runs
                yield waiting[0]
                bar.update(len(waiting.pop(0)[0]))
        yield from waiting
        bar.update(sum(len(chosen) for chosen, _ in waiting))


def _batches(tokenize, texts, order, rows, max_length):
    for start in range(0, len(order), WINDOW * rows):
        window = order[start : start + WINDOW * rows]
        ids, skipped = tokenize([texts[i] for i in window])
        by_length = sorted(range(len(window)), key=lambda i: -len(ids[i]))
        for first in range(0, len(window), rows):
            part = by_length[first : first + rows]
            length = min(bucket(len(ids[part[0]])), max_length)
            starts = skipped if np.ndim(skipped) == 0 else skipped[part]
            yield [window[i] for i in part], text_batch([ids[i] for i in part], rows, length, starts)
