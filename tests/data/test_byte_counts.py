"""The language model that counts: its formula, its sums, bad input."""

import jax
import numpy as np
import pytest

from jaxembed import data
from jaxembed.data.byte_counts import ORDERS


def pieces(text, count, length=16, seed=0):
    """Pieces of a text that is repeated, each from another place."""
    content = np.resize(np.frombuffer(text, np.uint8), 4096)
    starts = np.random.default_rng(seed).integers(0, 4096 - length, count)
    return np.stack([content[s : s + length] for s in starts])


TEXT = pieces(b"the cat sat on the mat and the dog ran to the cat again ", 8)
CODE = pieces(b"def f(x): return [x for x in range(10) if x % 2 == 0]; ", 8)


def slow_loss(train, piece, smoothing):
    """Nats per byte from the formula, with counts in dicts."""
    seen, before = {}, {}
    for row in train:
        for t in range(len(row)):
            for k in range(min(t, ORDERS - 1) + 1):
                context = bytes(row[t - k : t])
                before[context] = before.get(context, 0) + 1
                string = bytes(row[t - k : t + 1])
                seen[k, string] = seen.get((k, string), 0) + 1
    total = 0
    for t in range(len(piece)):
        p = 1 / 256
        for k in range(min(t, ORDERS - 1) + 1):
            context, string = bytes(piece[t - k : t]), bytes(piece[t - k : t + 1])
            p = (seen.get((k, string), 0) + smoothing * p) / (before.get(context, 0) + smoothing)
        total -= np.log(p)
    return total / len(piece)


def test_losses_are_those_of_the_formula():
    test = np.concatenate([TEXT[6:], CODE[:2]])
    strings = data.byte_strings(TEXT[:6])
    model = data.count_strings(strings, data.string_places(strings, TEXT[:6]))
    found = data.byte_losses(model, data.string_places(strings, test), np.arange(4), smoothing=2.0)
    np.testing.assert_allclose(found, [slow_loss(TEXT[:6], x, 2.0) for x in test], rtol=1e-4)


def test_probabilities_of_a_next_byte_sum_to_one():
    strings = data.byte_strings(TEXT)
    model = data.count_strings(strings, data.string_places(strings, TEXT))
    ends = np.repeat(TEXT[:1, :8], 256, axis=0)
    ends[:, -1] = np.arange(256)
    totals = data.byte_losses(model, data.string_places(strings, ends), np.arange(256)) * 8
    ends[:, -1] = ends[0, 0]
    shared = data.byte_losses(model, data.string_places(strings, ends[:, :7]), np.arange(1)) * 7
    np.testing.assert_allclose(np.exp(shared - totals).sum(), 1, rtol=1e-4)


def test_counts_add_up_as_if_trained_on_both():
    every = np.concatenate([TEXT, CODE])
    strings = data.byte_strings(every)
    places = data.string_places(strings, every)
    parts = [data.count_strings(strings, places, r) for r in (slice(0, 8), slice(8, 16))]
    both = jax.tree.map(lambda x, y: x + y, *parts)
    jax.tree.map(np.testing.assert_array_equal, both, data.count_strings(strings, places))


def test_a_model_of_no_texts_costs_all_of_a_byte():
    strings = data.byte_strings(TEXT)
    places = data.string_places(strings, CODE)
    model = data.count_strings(strings, places, slice(0, 0))
    np.testing.assert_allclose(data.byte_losses(model, places, np.arange(8)), np.log(256), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: data.byte_strings(TEXT.astype(int)), "pieces: int64"),
        (lambda: data.byte_strings(TEXT[0]), "pieces: uint8"),
        (lambda: data.byte_strings(TEXT[:, :4]), r"length from 5"),
        (lambda: data.byte_losses({}, [], np.arange(1), smoothing=0.0), "smoothing: 0.0"),
    ],
)
def test_bad_input_is_one_clear_line(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
