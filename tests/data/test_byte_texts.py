"""Texts as bytes."""

import numpy as np
import pytest

from jaxembed import data


def test_bytes_come_back_and_texts_are_cut():
    texts = ["naïve", b"\xff\x00", "", "a" * 20]
    batch = data.byte_batch(texts, 8)
    assert batch["ids"].dtype == np.int32
    assert (batch["ids"][:, 0] == 256).all()
    for text, ids, mask in zip(texts, batch["ids"], batch["mask"], strict=True):
        content = text.encode() if isinstance(text, str) else text
        assert bytes(ids[mask][1:].tolist()) == content[:7]
    assert not batch["ids"][~batch["mask"]].any()
    assert data.byte_batch([], 4)["ids"].shape == (0, 4)


def test_bytes_that_are_no_text_survive():
    text = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert data.byte_batch([text], 8)["ids"][0, 4] == 0xE9


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: data.byte_batch("a text", 8), "texts: is one text"),
        (lambda: data.byte_batch(["a", 3], 8), r"texts\[1\]: is int"),
        (lambda: data.byte_batch(["a"], 1), "length: 1; pass at least 2"),
        (lambda: data.byte_batch(["a"], 2.5), "length"),
    ],
)
def test_bad_input_is_one_clear_line(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
