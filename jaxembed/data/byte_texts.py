"""Texts as bytes: the ids that a byte-level language model reads."""

import numpy as np

BYTES = 257  # ids of a byte-level model: the 256 bytes, then the begin
BEGIN = 256


def byte_batch(texts, length):
    """Byte tokens: each text as the numbers of its bytes in UTF-8, after a begin.

    The begin, 256, lets a language model predict the first byte too.

    >>> batch = byte_batch(["ab", b"c"], 4)
    >>> print(batch["ids"].tolist())
    [[256, 97, 98, 0], [256, 99, 0, 0]]

    Args:
        texts: sequence of B str or bytes.
        length: T, at least 2. Texts of more than T - 1 bytes are cut, perhaps inside a character.

    Returns:
        {"ids": int32 [B, T] in 0..256, "mask": bool [B, T]}, as ``losses.sequence_loss`` takes them.

    Raises:
        ValueError: for one str in place of a sequence, a text that is neither str nor bytes, a short length.
    """
    from jaxembed.checks import check_whole  # JAX, which importing this room does not bring

    if isinstance(texts, str | bytes):
        raise ValueError("texts: is one text; give a list of them")
    check_whole(length=length)
    if length < 2:
        raise ValueError(f"length: {length}; pass at least 2, the begin and a byte")
    ids = np.zeros((len(texts), length), np.int32)
    mask = np.zeros((len(texts), length), bool)
    ids[:, 0], mask[:, 0] = BEGIN, True
    for row, text in enumerate(texts):
        if not isinstance(text, str | bytes):
            raise ValueError(f"texts[{row}]: is {type(text).__name__}; give str or bytes")
        text = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        found = np.frombuffer(text[: length - 1], np.uint8)
        ids[row, 1 : 1 + len(found)], mask[row, 1 : 1 + len(found)] = found, True
    return {"ids": ids, "mask": mask}
