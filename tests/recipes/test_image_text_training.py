"""Towers of pictures and captions: both losses find the pairs, devices do not matter, bad pairs are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders, metrics, recipes, train, weights
from jaxembed.arrays import masked_mean

WORDS = [f"thing{n}" for n in range(8)]
ONE = train.make_mesh(1)
RUN = {"steps": 60, "batch_size": 16, "rate": 0.03, "mesh": ONE}


def image_tower():
    def init(key):
        return {"kernel": jax.random.normal(key, (16, 8)) * 0.1}

    return init, lambda params, x, key=None: jnp.reshape(x, (len(x), 16)) @ params["kernel"]


def text_tower():
    def init(key):
        return {"table": jax.random.normal(key, (9, 8)) * 0.1}

    def encode(params, batch, key=None):
        return masked_mean(params["table"][batch["ids"]], batch["mask"])

    return init, encode


TOWERS = encoders.dual_encoder(image_tower(), text_tower())


def tokenize(texts):
    ids = np.zeros((len(texts), 3), np.int32)
    for i, text in enumerate(texts):
        known = [1 + WORDS.index(word) for word in text.split() if word in WORDS][:3]
        ids[i, : len(known)] = known
    return {"ids": ids, "mask": ids > 0}


def pairs(count=64, seed=0):
    """Pictures of two things each, and their names: thing n is a pattern of its own."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(9).normal(size=(8, 4, 4, 1))
    both = np.stack([rng.permutation(8)[:2] for _ in range(count)])
    images = patterns[both].sum(axis=1) + 0.1 * rng.normal(size=(count, 4, 4, 1))
    return {"images": images.astype(np.float32), "texts": [f"{WORDS[a]} {WORDS[b]}" for a, b in both]}


@pytest.fixture(scope="module")
def model():
    return recipes.train_image_text(TOWERS, tokenize, pairs(), **RUN)


def ranks(model):
    held = pairs(20, seed=1)
    held = {text: image for text, image in zip(held["texts"], held["images"], strict=True)}
    return metrics.partner_ranks(model.encode_images(np.stack([*held.values()])), model.encode_texts([*held]))


def test_pictures_find_their_captions(model):
    assert (1 / ranks(model)).mean() > 0.7
    assert np.exp(float(model.params["scale"]["log_temperature"])) != pytest.approx(0.07)
    assert float(model.params["scale"]["bias"]) == -10  # CLIP's loss does not read it


def test_sigmoid_loss_learns_its_bias_too():
    model = recipes.train_image_text(TOWERS, tokenize, pairs(), loss="siglip", **RUN)
    assert (1 / ranks(model)).mean() > 0.7
    assert float(model.params["scale"]["bias"]) != -10


def test_zero_shot_names_what_is_shown(model):
    patterns = np.random.default_rng(9).normal(size=(8, 4, 4, 1)).astype(np.float32)
    scores = model.zero_shot(patterns, WORDS, ["a {}", "the {} ."])
    assert scores.shape == (8, 8) and (scores.argmax(axis=1) == np.arange(8)).mean() > 0.8
    synonyms = model.zero_shot(patterns, [[w, "thing"] for w in WORDS])
    assert synonyms.shape == (8, 8)


def test_batches_of_the_model_do_not_change_vectors(model):
    images = pairs(37)["images"]
    np.testing.assert_allclose(
        model.encode_images(images), model._replace(batch_size=5).encode_images(images), atol=1e-6
    )


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_the_batch_is_global_over_devices(loss):
    """Eight devices give the parameters of one: negatives come from all of them."""
    short = RUN | {"steps": 3, "loss": loss}
    one, many = (
        recipes.train_image_text(TOWERS, tokenize, pairs(), **short | {"mesh": mesh})
        for mesh in (ONE, train.make_mesh(8))
    )
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_chunks_give_the_steps_of_the_whole_batch():
    short = RUN | {"steps": 3}
    one, cut = (recipes.train_image_text(TOWERS, tokenize, pairs(), chunks=n, **short) for n in (1, 4))
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(cut.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_model_between_two(model):
    tuned = recipes.train_image_text(
        TOWERS, tokenize, pairs(seed=3), start=model.params, frozen="^text/", **RUN | {"steps": 5}
    )
    np.testing.assert_array_equal(tuned.params["text"]["table"], model.params["text"]["table"])
    change = weights.task_vector(tuned.params, model.params)
    for share, wanted in ((0.0, model), (1.0, tuned)):
        found = weights.merge(model.params, [change], share)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted.params), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    half = model._replace(params=weights.merge(model.params, [change], 0.5))
    assert (1 / ranks(half)).mean() > 0.6


PAIRS = pairs(16)


@pytest.mark.parametrize(
    ("given", "options", "match"),
    [
        ({"images": PAIRS["images"]}, {}, "pairs: without texts; a pair is a picture and its text"),
        ({"texts": ["a"]}, {}, "pairs: without images"),
        (PAIRS | {"texts": PAIRS["texts"][1:]}, {}, r"images \(16, 4, 4, 1\) for 15 texts"),
        (PAIRS | {"texts": [*PAIRS["texts"][:-1], " "]}, {}, "text 15 is ' ', not a caption"),
        (PAIRS | {"texts": [*PAIRS["texts"][:-1], None]}, {}, "text 15 is 'None', not a caption"),
        (PAIRS | {"images": PAIRS["images"] * np.nan}, {}, "image 0 is not finite; leave that pair out"),
        (PAIRS, {"loss": "softmax"}, "loss='softmax'; pass one of clip, siglip"),
        (PAIRS, {"batch_size": 17}, "batch_size: 17 is outside 2..16, the number of pairs"),
    ],
)
def test_bad_pairs_get_one_line(given, options, match):
    with pytest.raises(ValueError, match=match) as caught:
        recipes.train_image_text(TOWERS, tokenize, given, **{"batch_size": 8} | options)
    assert "\n" not in str(caught.value)
