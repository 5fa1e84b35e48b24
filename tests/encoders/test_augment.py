"""Augmentation: each change against slow code, ranges, keys, dtypes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders

IMAGES = np.random.default_rng(0).random((6, 9, 7, 3)).astype(np.float32)
KEY = jax.random.key(0)
OPTIONS = {
    "shift": {"shift": 2},
    "flip": {"flip": True},
    "crop": {"crop": (0.3, 1.0)},
    "rotate": {"rotate": 20.0},
    "brightness": {"brightness": 0.3},
    "contrast": {"contrast": 0.5},
    "grey": {"grey": 0.5},
    "noise": {"noise": 0.1},
    "erase": {"erase": 0.5},
}
OPTIONS["all"] = {name: value for option in list(OPTIONS.values()) for name, value in option.items()}


@functools.cache
def compiled(**options):
    return jax.jit(functools.partial(encoders.augment, **options))


def augment(key, images, **options):
    return compiled(**options)(key, images)


def many(count=400, image=IMAGES[:1], **options):
    """One picture, changed many times."""
    return np.asarray(augment(KEY, np.repeat(image, count, axis=0), **options))


def test_without_options_nothing_changes():
    np.testing.assert_array_equal(augment(KEY, IMAGES), IMAGES)


@pytest.mark.parametrize("name", OPTIONS)
def test_pictures_change_and_keep_their_shape(name):
    out = augment(KEY, IMAGES, **OPTIONS[name])
    assert out.shape == IMAGES.shape and out.dtype == np.float32
    assert np.abs(np.asarray(out) - IMAGES).max() > 1e-3


def test_jit_keeps_values():
    eager = encoders.augment(KEY, IMAGES, **OPTIONS["all"])
    np.testing.assert_allclose(eager, augment(KEY, IMAGES, **OPTIONS["all"]), atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_picture_does_not_depend_on_its_neighbours(name):
    whole = augment(KEY, IMAGES, **OPTIONS[name])
    others = np.concatenate([IMAGES[:2], IMAGES[:4]])
    np.testing.assert_allclose(augment(KEY, others, **OPTIONS[name])[:2], whole[:2], atol=1e-6)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(6))
    backwards = augment(keys[::-1], IMAGES[::-1], **OPTIONS[name])
    np.testing.assert_allclose(backwards[::-1], whole, atol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_equal_pictures_are_changed_differently_and_again_alike(name):
    same = np.repeat(IMAGES[:1], 6, axis=0)
    first = np.asarray(augment(jax.random.key(3), same, **OPTIONS[name]))
    assert len(np.unique(first.reshape(6, -1), axis=0)) > 1
    np.testing.assert_array_equal(first, augment(jax.random.key(3), same, **OPTIONS[name]))


@pytest.mark.parametrize("name", ["shift", "all"])
def test_bytes_stay_bytes(name):
    coded = (IMAGES * 255).astype(np.uint8)
    out = augment(KEY, coded, **OPTIONS[name])
    assert out.dtype == jnp.uint8
    floats = np.asarray(augment(KEY, coded.astype(np.float32) / 255, **OPTIONS[name]))
    assert np.abs(np.clip(floats, 0, 1) * 255 - np.asarray(out, np.float32)).max() < 0.6


def test_shifts_are_all_the_shifts():
    image = IMAGES[0]
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
    expected = {padded[i : i + 9, j : j + 7].tobytes() for i in range(5) for j in range(5)}
    assert {x.tobytes() for x in many(shift=2)} == expected


def test_half_of_the_pictures_are_mirrored():
    mirrored = np.array([np.array_equal(x, IMAGES[0][:, ::-1]) for x in many(flip=True)])
    same = np.array([np.array_equal(x, IMAGES[0]) for x in many(flip=True)])
    assert (mirrored ^ same).all()
    assert 0.42 < mirrored.mean() < 0.58


def test_a_crop_of_the_whole_picture_is_at_most_a_little_squeezed():
    ramp = np.broadcast_to(np.linspace(0, 1, 16)[None, None, :, None], (1, 16, 16, 1)).astype(np.float32)
    out = many(200, ramp, crop=(1.0, 1.0))[..., 0]
    steps = np.diff(out[:, 8], axis=1)[:, 4:-4]
    assert steps.min() > 0  # never mirrored
    assert steps.max() < 1.001 / 15
    assert steps.min() > np.sqrt(3 / 4) / 15 - 1e-3


def test_a_crop_shows_a_part_of_the_area_asked_for():
    rows = np.linspace(0, 1, 64, dtype=np.float32)
    image = np.stack(np.meshgrid(rows, rows, indexing="ij"), axis=-1)[None]
    out = many(300, image, crop=(0.25, 0.25))
    sides = out[:, -1, -1] - out[:, 0, 0]
    np.testing.assert_allclose(sides[:, 0] * sides[:, 1], 0.25, rtol=0.03)
    ratio = sides[:, 0] / sides[:, 1]
    assert ratio.min() > 0.74 and ratio.max() < 1.35 and ratio.std() > 0.05
    starts = out[:, 0, 0]
    assert starts.min() < 0.03 and starts.max() > 0.4


def test_a_turn_by_zero_and_a_turn_of_the_centre():
    x = np.zeros((1, 9, 9, 1), np.float32)
    x[0, 4, 4] = 1
    out = many(50, x, rotate=90.0)
    np.testing.assert_allclose(out[:, 4, 4, 0], 1, atol=1e-5)
    line = np.zeros((1, 9, 9, 1), np.float32)
    line[0, 4] = 1
    turned = many(200, line, rotate=30.0)[..., 0]
    column = turned[:, :, 8].argmax(axis=1) - 4  # where the line meets the right border
    assert abs(column).max() == 2  # 4 tan(30 degrees) is 2.3
    assert column.min() < 0 < column.max()


def test_brightness_contrast_and_grey():
    bright = many(brightness=0.2) - IMAGES[0]
    assert np.ptp(bright, axis=(1, 2, 3)).max() < 1e-5
    assert bright.min() >= -0.2 - 1e-6 and bright.max() <= 0.2 + 1e-6 and bright.std() > 0.1
    contrast = many(contrast=0.5)
    np.testing.assert_allclose(contrast.mean((1, 2, 3)), IMAGES[0].mean(), atol=1e-5)
    factors = contrast.std((1, 2, 3)) / IMAGES[0].std()
    assert 0.5 <= factors.min() < 0.6 and 1.4 < factors.max() <= 1.5
    plain = np.ptp(many(grey=0.3), axis=-1).max((1, 2)) < 1e-6
    assert 0.22 < plain.mean() < 0.38


def test_noise_has_its_standard_deviation():
    noise = many(noise=0.1) - IMAGES[0]
    assert abs(noise.std() - 0.1) < 0.002 and abs(noise.mean()) < 0.002


def test_a_square_is_erased_everywhere_in_turn():
    out = many(1000, np.ones((1, 9, 7, 1), np.float32), erase=0.5)[..., 0]
    assert ((out == 0).sum((1, 2)) == 16).all()  # 4 x 4 of 9 x 7
    assert (out.min(0) == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": 8}, "shift: 8 is outside of 0 to 7"),
        ({"crop": (0.0, 1.0)}, "crop: "),
        ({"crop": (0.9, 0.5)}, "crop: "),
        ({"noise": -1}, "noise: -1"),
        ({"grey": 2}, "grey: 2"),
    ],
)
def test_other_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        augment(KEY, IMAGES, **options)


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES.astype(np.int32)])
def test_other_pictures_are_refused(images):
    with pytest.raises(ValueError, match="images: "):
        augment(KEY, images)


def test_a_shift_is_a_whole_number():
    with pytest.raises(ValueError, match="shift: 0.1; pass a whole number"):
        encoders.augment(KEY, IMAGES, shift=0.1)


def test_raw_keys_are_keys():
    for key in (KEY, jax.random.split(KEY, 6)):
        raw = jax.random.key_data(key)
        found, expected = (encoders.augment(k, IMAGES, shift=2, noise=0.1) for k in (raw, key))
        np.testing.assert_array_equal(found, expected)
