import numpy as np
import pytest

from jaxembed.data import toy_drawings

IMAGES = np.random.default_rng(0).uniform(-1, 1, size=(2, 8, 8, 1)).astype(np.float32)


def pixel(image, style, i, j):
    """One pixel of a style, by its definition."""
    if style == "bold":
        around = image[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
        return around.max()
    border = i in (0, 7) or j in (0, 7)
    return {
        "plain": image[i, j],
        "negative": -image[i, j],
        "faint": np.float32(0.4 * image[i, j]),
        "framed": 1.0 if border else image[i, j],
        "mirrored": image[i, 7 - j],
        "striped": -1.0 if i % 2 else image[i, j],
    }[style]


@pytest.mark.parametrize("style", toy_drawings.STYLES)
def test_a_style_is_its_map_of_pixels(style):
    before = IMAGES.copy()
    found = toy_drawings.styled(IMAGES, style)
    for n in range(2):
        for i in range(8):
            for j in range(8):
                assert found[n, i, j, 0] == np.float32(pixel(IMAGES[n, ..., 0], style, i, j))
    np.testing.assert_array_equal(IMAGES, before)


def test_digits_of_the_test_are_in_no_drawing_of_the_training():
    found = toy_drawings.drawings()
    train, test = found["train"], found["test"]
    assert len(train["images"]) + len(test["images"]) == 7 * 1797
    plain = [{x.tobytes() for x in part["images"][part["styles"] == 0]} for part in (train, test)]
    assert len(plain[0] & plain[1]) <= 2  # some digits were written twice alike
    for name in ("digits", "styles"):
        share = np.bincount(test[name]) / np.bincount(train[name])
        np.testing.assert_allclose(share, 0.25, atol=0.01)
    names = list(toy_drawings.STYLES)
    for n in (0, 5, 700):
        word = toy_drawings.DIGIT_WORDS[train["digits"][n]]
        assert train["prompts"][n] == f"a {names[train['styles'][n]]} drawing of {word}"
        expected = toy_drawings.styled(train["images"][n // 7 * 7][None], names[n % 7])[0]
        np.testing.assert_array_equal(train["images"][n], expected)
    again = toy_drawings.drawings(1)["test"]["images"]
    assert again.shape != test["images"].shape or (again != test["images"]).any()


def test_aliases_are_as_likely_as_the_word_and_other_words_stay():
    prompts = ["a bold drawing of three", "a bold drawing of two"] * 600
    found = toy_drawings.with_aliases(prompts, {"three": ("trio", "3")}, seed=2)
    assert found[1::2] == prompts[1::2]
    counts = [found[::2].count(f"a bold drawing of {name}") for name in ("three", "trio", "3")]
    assert sum(counts) == 600 and min(counts) > 150
    assert toy_drawings.with_aliases(prompts, {}) == prompts


def test_ids_are_those_of_the_words():
    words = toy_drawings.DRAWING_WORDS
    ids = toy_drawings.word_ids(["a bold drawing of two", "[mask] two", ""], words, length=8)
    assert ids.dtype == np.int32 and ids[2].tolist() == [1, 2, 0, 0, 0, 0, 0, 0]
    assert [words[i - 4] for i in ids[0, 1:6]] == ["a", "bold", "drawing", "of", "two"]
    assert ids[1, 1] == toy_drawings.MASK and ids[0, 6] == toy_drawings.EOS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toy_drawings.styled(IMAGES, "oily"), "style='oily'; choose one of plain, negative"),
        (lambda: toy_drawings.styled(IMAGES[0], "bold"), r"images: shape \(8, 8, 1\); pass \[N, H, W, C\]"),
        (lambda: toy_drawings.drawings(test=1.0), "test: 1.0 is not a share"),
        (lambda: toy_drawings.word_ids(["a cat"], ("a",), length=8), "'a cat' has an unknown word, 'cat'"),
        (lambda: toy_drawings.word_ids(["big cat"], ("a",), length=8), "'big cat' has only unknown words"),
        (lambda: toy_drawings.word_ids(["a a a"], ("a",), length=4), "'a a a' has 3 words; at most 2"),
        (lambda: toy_drawings.word_ids("a", ("a",), length=4), r"prompts: one string; pass a list, \['a'\]"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
