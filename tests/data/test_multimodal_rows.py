"""Rows of pictures and texts become batches, parts of a batch are of one source, and bad rows are named."""

import numpy as np
import pytest

from jaxembed import data


def tokenize(text):
    return [3 + int(word) for word in text.split()]


def batch(*rows, length=6, **options):
    return data.multimodal_batch(list(rows), tokenize, length=length, **options)


def test_patches_equal_a_loop_over_rectangles():
    images = np.random.default_rng(0).normal(size=(2, 4, 6, 3))
    found = data.image_patches(images, (2, 3))
    assert found.shape == (2, 4, 18)
    for b in range(2):
        for i in range(2):
            for j in range(2):
                wanted = images[b, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].ravel()
                np.testing.assert_array_equal(found[b, 2 * i + j], wanted)
    with pytest.raises(ValueError, match="size: 3 x 3 does not divide"):
        data.image_patches(images, 3)


def test_rows_hold_picture_instruction_text_and_end():
    picture = np.ones((2, 3))
    found = batch({"patches": picture, "instruction": "0", "text": "1 2 3 4"}, {"text": "5"})
    assert found["ids"].tolist() == [[1, 1, 3, 4, 5, 2], [8, 2, 0, 0, 0, 0]]  # the text is cut, not the end
    assert found["mask"].sum(axis=1).tolist() == [6, 2]
    assert found["patch_mask"].tolist() == [[True, True], [False, False]]
    assert not found["patches"][1].any() and found["patches"].dtype == np.float32
    left = batch({"text": "5"}, padding="left")
    assert left["ids"].tolist() == [[0, 0, 0, 0, 8, 2]] and left["mask"].sum() == 2
    assert set(left) == {"ids", "mask"}
    assert batch({"text": "5"}, patches=(2, 3))["patches"].shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("rows", "options", "match"),
    [
        ([{"text": "1"}, {"text": ""}], {}, "row 1 has no picture, no instruction and no text"),
        (
            [{"instruction": "1 2 3 4 5 6"}],
            {},
            "length=6: row 0 has 0 patches and 6 tokens .* give 7 or more",
        ),
        ([{"instruction": "1 2 3 4 5", "text": "6"}], {}, "which leave no place; give 7 or more"),
        ([{"patches": np.ones((6, 1))}], {}, "length=6: row 0 has 6 patches and 0 tokens"),
        ([{"patches": np.ones((2, 3))}, {"patches": np.ones((3, 3))}], {}, r"patches of row 1 are \(3, 3\)"),
        ([{"patches": np.ones(3)}], {}, r"patches of row 0 are \(3,\)"),
        ([{"text": "1"}, {"patches": np.full((2, 3), np.nan)}], {}, "patches of row 1 are not finite"),
        ([{"text": "-2"}], {}, "a text of row 0 holds the placeholder 1"),
        ([{"text": "1"}], {"padding": "both"}, "padding='both'; pass 'right' or 'left'"),
    ],
)
def test_bad_rows_get_one_line(rows, options, match):
    with pytest.raises(ValueError, match=match) as caught:
        batch(*rows, **options)
    assert "\n" not in str(caught.value)


def test_a_caption_of_one_token_is_a_row():
    assert batch({"text": "4"}, length=2)["ids"].tolist() == [[7, 2]]


def test_instructions_are_written_as_the_paper_writes_them():
    assert data.format_instruction("Ask", "this", image=True) == "<image> Ask: this"
    assert data.format_instruction("Ask", image=True, placeholder="[I]") == "[I] Ask"
    assert data.format_instruction("", image=True) == "<image>"
    for given, name in ((("see <image>", "x"), "instruction"), (("see", "an <image>"), "text")):
        with pytest.raises(ValueError, match=f"^{name}: .* holds the placeholder '<image>'"):
            data.format_instruction(*given, image=True)
    with pytest.raises(ValueError, match="no instruction, no text and no picture"):
        data.format_instruction("")


SOURCES = np.repeat([0, 1, 2], [13, 8, 5])


def homogeneous(**options):
    options = {"process": 0, "processes": 1} | options
    return data.homogeneous_batches(SOURCES, 8, 4, **options)


def test_every_part_is_of_one_source_and_an_epoch_repeats_nothing():
    ds = homogeneous()
    assert len({tuple(ds[t]["rows"]) for t in range(6)}) == 6
    for epoch in range(2):
        rows = np.concatenate([ds[3 * epoch + t]["rows"] for t in range(3)])
        parts = SOURCES[rows].reshape(-1, 4)
        assert (parts == parts[:, :1]).all() and len(set(rows.tolist())) == 24
        assert np.bincount(parts[:, 0]).tolist() == [3, 2, 1]
    np.testing.assert_array_equal(ds[4]["rows"], homogeneous()[4]["rows"])
    assert (ds[0]["rows"] != homogeneous(seed=1)[0]["rows"]).any()


def test_processes_share_the_parts_of_a_batch():
    whole = homogeneous(make=lambda rows: {"sources": SOURCES[rows], "rows": rows})
    halves = [homogeneous(process=p, processes=2)[2]["rows"] for p in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), whole[2]["rows"])


@pytest.mark.parametrize(
    ("size", "part", "options", "match"),
    [
        (8, 3, {}, "part=3: does not divide size=8"),
        (8, 0, {}, "part=0: does not divide size=8"),
        (8, 4, {"processes": 3}, "does not divide size=8 among 3 processes"),
        (40, 4, {}, "size=40: the sources have 6 parts of 4 rows"),
        (8, 4, {"seed": -1}, "non-negative|expected"),
    ],
)
def test_bad_sizes_of_parts_get_one_line(size, part, options, match):
    with pytest.raises(ValueError, match=match):
        data.homogeneous_batches(SOURCES, size, part, **({"process": 0, "processes": 1} | options))
