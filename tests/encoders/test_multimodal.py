"""Patches stand at their placeholders, padding and later tokens say nothing, and mismatches are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import data, encoders

SIZES = {"patches": 3, "length": 8, "width": 16, "layers": 2, "heads": 2}
RNG = np.random.default_rng(0)


def tokenize(text):
    return [3 + int(word) for word in text.split()]


def rows():
    pictures = RNG.normal(size=(3, 3, 4)).astype(np.float32)
    return [
        {"patches": pictures[0], "instruction": "1 2", "text": "3"},
        {"text": "4 5"},
        {"patches": pictures[1], "instruction": "6"},
        {"patches": pictures[2]},
    ]


def batch_of(given, **options):
    return data.multimodal_batch(given, tokenize, length=8, patches=(3, 4), **options)


@pytest.fixture(scope="module", params=[True, False], ids=["causal", "both ways"])
def model(request):
    model = encoders.multimodal(20, 4, causal=request.param, **SIZES)
    return model, model.init(jax.random.key(0)), jax.jit(model.encode), request.param


def test_patches_are_placed_as_a_loop_places_them():
    tokens, patches = RNG.normal(size=(4, 6, 2)), RNG.normal(size=(4, 3, 2))
    where = RNG.random((4, 6)) < 0.5
    where[0], where[1] = False, True  # none, and more places than patches
    wanted = tokens.copy()
    for b in range(4):
        k = 0
        for t in range(6):
            if where[b, t]:
                wanted[b, t] = patches[b, k] if k < 3 else 0
                k += 1
    np.testing.assert_allclose(encoders.place_patches(tokens, where, patches), wanted, atol=1e-6)
    np.testing.assert_array_equal(
        encoders.place_patches(jnp.ones((1, 2, 1)), jnp.array([[True, False]]), jnp.ones((1, 0, 1)))[0, :, 0],
        [0, 1],
    )


def test_padding_on_either_side_gives_one_vector(model):
    _, params, encode, _ = model
    given = rows()
    right, left = (encode(params, batch_of(given, padding=side)) for side in ("right", "left"))
    np.testing.assert_allclose(right, left, atol=1e-5)


def test_content_of_padding_and_of_absent_pictures_says_nothing(model):
    _, params, encode, _ = model
    batch = batch_of(rows())
    ids = np.where(batch["mask"], batch["ids"], 1)  # placeholders in the padding
    patches = np.where(batch["patch_mask"][..., None], batch["patches"], 7)
    np.testing.assert_allclose(
        encode(params, batch), encode(params, batch | {"ids": ids, "patches": patches}), atol=1e-5
    )


def test_tokens_see_what_came_before_and_later_ones_only_where_not_causal(model):
    whole, params, _, causal = model
    batch = batch_of(rows())
    first = whole.hidden(params, batch)["tokens"][0]
    changed = batch["ids"].copy()
    changed[0, 4] = 15  # the second token of the instruction
    moved = np.abs(np.asarray(whole.hidden(params, batch | {"ids": changed})["tokens"][0] - first)).max(
        axis=1
    )
    assert (moved[4:7] > 1e-5).all() and (moved[:4].max() < 1e-6) == causal
    patches = batch["patches"].copy()
    patches[0, 0] += 1
    moved = np.abs(
        np.asarray(
            whole.hidden(params, batch | {"patches": patches})["tokens"]
            - whole.hidden(params, batch)["tokens"]
        )
    )
    assert (moved[0, :7].max(axis=1) > 1e-6).all() and moved[1:].max() < 1e-6


def test_order_of_patches_counts_and_texts_need_no_pictures(model):
    _, params, encode, _ = model
    batch = batch_of(rows())
    turned = encode(params, batch | {"patches": batch["patches"][:, ::-1]})
    moved = np.abs(np.asarray(turned - encode(params, batch))).max(axis=1)
    assert moved[1] < 1e-6 and (moved[[0, 2, 3]] > 1e-4).all()
    words = {name: batch[name][1:2] for name in ("ids", "mask")}
    np.testing.assert_allclose(encode(params, words)[0], encode(params, batch)[1], atol=1e-5)


def test_gradients_reach_the_patches_of_rows_that_have_some():
    model = encoders.multimodal(20, 4, **SIZES)
    params, batch = model.init(jax.random.key(0)), batch_of(rows())

    def total(patches):
        return jnp.sum(model.encode(params, batch | {"patches": patches}) ** 3)

    found = np.abs(np.asarray(jax.grad(total)(batch["patches"]))).max(axis=(1, 2))
    assert found[1] == 0 and (found[[0, 2, 3]] > 0).all()


def test_mismatches_and_long_rows_get_one_line(model):
    whole, params, _, _ = model
    batch = batch_of(rows())
    encoders.check_placeholders(batch)
    broken = batch["ids"].copy()
    broken[2, 0] = 9
    with pytest.raises(ValueError, match="ids: row 2 has 2 placeholders for 3 patches; write one for each"):
        encoders.check_placeholders(batch | {"ids": broken})
    with pytest.raises(ValueError, match="ids: row 0 has 3 placeholders for 0 patches"):
        encoders.check_placeholders({name: batch[name] for name in ("ids", "mask")})
    with pytest.raises(ValueError, match="length=8 is below the 9 tokens of a row"):
        whole.encode(params, {"ids": np.ones((1, 9), int), "mask": np.ones((1, 9), bool)})
    with pytest.raises(ValueError, match="patches=3 is below the 4 of the batch"):
        whole.encode(params, batch | {"patches": np.zeros((4, 4, 4))})
    with pytest.raises(ValueError, match="where"):
        encoders.place_patches(jnp.ones((1, 2, 1)), jnp.ones((1, 3), bool), jnp.ones((1, 1, 1)))
