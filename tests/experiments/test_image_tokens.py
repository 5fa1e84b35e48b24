"""Scenes show what their questions ask for, and rules keep what they say."""

import jax
import numpy as np
import pytest

from experiments.image_tokens import reader, scenes


@pytest.fixture(scope="module")
def batch():
    return scenes.Batches(scenes.splits(True)[0], 12, 0)[5]


def test_the_asked_tile_has_the_colour_of_the_question_and_the_digit_of_the_answer(batch):
    for i in range(12):
        words = [scenes.WORDS[n] for n in batch["words"][i] if n]
        (colour,) = [word for word in words if word in scenes.COLOURS]
        tile = batch["tile"][i]
        assert list(scenes.COLOURS).index(colour) == batch["colours"][i, tile]
        assert batch["answer"][i] == batch["digits"][i, tile]
        assert len(set(batch["colours"][i].tolist())) == scenes.SIDE**2
        pixels = batch["local"][i, tile].reshape(-1, 3)
        brightest = pixels.max(axis=0)
        np.testing.assert_allclose(brightest, np.array(scenes.COLOURS[colour]) / 255, atol=0.05)
        np.testing.assert_allclose(
            batch["global"][i, tile].reshape(-1, 3).mean(axis=0), pixels.mean(axis=0), atol=1e-5
        )


def test_batches_are_drawn_from_seed_and_step(batch):
    digits = scenes.splits(True)[0]
    np.testing.assert_array_equal(scenes.Batches(digits, 12, 0)[5]["local"], batch["local"])
    assert (scenes.Batches(digits, 12, 1)[5]["answer"] != batch["answer"]).any()


def test_rules_keep_their_share():
    rng = np.random.default_rng(0)
    local, words = rng.normal(size=(3, 36, 8)), rng.normal(size=(3, 6, 8))
    mask = np.arange(6) < 4 * np.ones((3, 1))
    key = jax.random.key(0)
    assert reader.kept_tokens(("all",), local, words, mask, key).all()
    some = reader.kept_tokens(("share", 0.25), local, words, mask, key)
    assert some.sum(axis=1).tolist() == [9, 9, 9]
    few, more = (reader.kept_tokens(("router", "sum", 0.9, t), local, words, mask, key) for t in (0.05, 1.0))
    assert (few.sum(axis=1) < more.sum(axis=1)).all()
