"""Ragged arrays: length buckets, padding, sets in batches, memory maps, and what is refused."""

import numpy as np
import pytest

from jaxembed import ragged

RNG = np.random.default_rng(0)


def test_buckets_are_the_least_of_their_grid_that_hold_a_length():
    grid = list(range(8, 65, 8))
    while grid[-1] < 5000:
        grid += [grid[-1] + grid[-1] * step // 4 for step in (1, 2, 3, 4)]
    for length in range(4097):
        found = ragged.bucket(length)
        assert found == min(g for g in grid if g >= length)
        assert 8 <= found < length + max(8, length / 4) or length == 0


def test_pad():
    array, mask = ragged.pad([[1, 2, 3], [], np.array([4])], value=9)
    assert array.tolist() == [[1, 2, 3], [9, 9, 9], [4, 9, 9]] and array.dtype == np.int32
    assert mask.tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert ragged.pad([], 4)[0].shape == (0, 4) and ragged.pad([])[0].shape == (0, 0)
    assert ragged.pad([[0.5, np.nan]], 3, dtype=np.float32)[0].dtype == np.float32
    assert ragged.pad([np.array([2**32 - 1], np.uint32)], dtype=np.uint32)[0].item() == 2**32 - 1


@pytest.mark.parametrize("tail", [(), (3,)])
@pytest.mark.parametrize("length, count", [(None, None), (2, 7), (9, 5)])
def test_padding_equals_a_loop(tail, length, count):
    rows = [RNG.normal(size=(n, *tail)).astype(np.float32) for n in (3, 0, 6, 1)]
    array, mask = ragged.pad(rows, length, count=count, value=-1, dtype=np.float32)
    assert array.shape == (count or 4, length or 6, *tail)
    for b, t in np.ndindex(array.shape[:2]):
        real = b < 4 and t < len(rows[b])
        assert mask[b, t] == real
        np.testing.assert_array_equal(array[b, t], rows[b][t] if real else np.full(tail, -1))


def test_a_set_without_rows_fits_every_width():
    array, mask = ragged.pad([[], [[1, 2]]])
    assert array.tolist() == [[[0, 0]], [[1, 2]]] and mask.tolist() == [[False], [True]]


@pytest.mark.parametrize("bad", [[0.5], [np.nan], np.array([2**31]), np.array([2**32 - 1], np.uint32)])
def test_numbers_that_the_dtype_does_not_hold_are_refused(bad):
    with pytest.raises(ValueError, match=r"sequences\[0\] does not fit dtype=int32; pass another dtype"):
        ragged.pad([bad])


@pytest.mark.parametrize(
    "sequences, options, message",
    [
        ([[[[1]]]], {}, r"sequences\[0\] has shape \(1, 1, 1\); pass \[T\], or \[T, D\]"),
        ([[[1, 2]], [[1]]], {}, r"sequences\[1\] has shape \(1, 1\); pass \[T\], or \[T, D\] of one width"),
        ([[1], [[1]]], {}, r"sequences\[1\] has shape"),
        ([[1], [2]], {"count": 1}, "count: 1 is below the 2 sequences; pass a larger one"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(sequences, options, message):
    with pytest.raises(ValueError, match=message) as error:
        ragged.pad(sequences, **options)
    assert "\n" not in str(error.value)


# Sets


def sets(tail=(2,), lengths=(3, 0, 4, 1, 2)):
    """Rows of five sets, the second of them empty, and their offsets."""
    tokens = 1 + np.arange(sum(lengths) * int(np.prod(tail)), dtype=np.float32).reshape(-1, *tail)
    return tokens, np.concatenate([[0], np.cumsum(lengths)])


@pytest.mark.parametrize("tail", [(), (2,), (2, 3)])
@pytest.mark.parametrize("start, stop", [(0, 5), (1, 3), (4, 5), (2, 2), (1, 2)])
def test_a_batch_of_sets_equals_a_loop(tail, start, stop):
    tokens, offsets = sets(tail)
    array, mask = ragged.set_batch(tokens, offsets, start, stop, count=6, length=5, dtype=np.float64)
    assert array.shape == (6, 5, *tail) and array.dtype == np.float64
    for b, t in np.ndindex(6, 5):
        real = b < stop - start and t < np.diff(offsets)[start + b]
        assert mask[b, t] == real
        np.testing.assert_array_equal(array[b, t], tokens[offsets[start + b] + t] if real else np.zeros(tail))
    short, seen = ragged.set_batch(tokens, offsets, start, stop)
    longest = np.diff(offsets)[start:stop].max(initial=0)
    assert short.shape == (stop - start, longest, *tail) and short.dtype == np.float32
    np.testing.assert_array_equal(short, array[: stop - start, :longest])
    np.testing.assert_array_equal(seen, mask[: stop - start, :longest])


class Read(np.ndarray):
    """An array that notes how many rows are asked for at once."""

    asked = []

    def __getitem__(self, rows):
        self.asked.append(rows)
        return super().__getitem__(rows)


def test_only_the_rows_of_a_batch_are_read():
    tokens, offsets = sets()
    Read.asked = []
    ragged.map_sets(lambda x, mask: x.sum(axis=(1, 2)), tokens.view(Read), offsets, batch_size=2)
    assert Read.asked == [slice(0, 3), slice(3, 8), slice(8, 10)]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_mapping_sets_equals_a_loop_in_one_shape(batch_size):
    tokens, offsets = sets()
    shapes = set()

    def function(x, mask):
        shapes.add((x.shape, x.dtype, mask.shape))
        assert not x[~mask].any()
        return np.concatenate([x.sum(axis=1), mask.sum(axis=1, keepdims=True)], axis=1)

    found = ragged.map_sets(function, tokens.astype(np.float16), offsets, batch_size=batch_size)
    wanted = [[*tokens[a:b].sum(axis=0), b - a] for a, b in zip(offsets, offsets[1:], strict=False)]
    np.testing.assert_array_equal(found, wanted)
    assert shapes == {((batch_size, 4, 2), np.dtype(np.float32), (batch_size, 4))}


def test_sets_of_a_memory_map_are_those_of_the_array(tmp_path):
    tokens, offsets = sets()
    for name, x in (("tokens", tokens.astype(np.float16)), ("offsets", offsets)):
        np.save(tmp_path / f"{name}.npy", x)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("tokens", "offsets")]
    assert all(isinstance(x, np.memmap) for x in mapped)
    for one, two in zip(
        ragged.set_batch(*mapped, 1, 4), ragged.set_batch(tokens, offsets, 1, 4), strict=True
    ):
        np.testing.assert_array_equal(one, two)
        assert not isinstance(one, np.memmap)
    maps = [ragged.map_sets(lambda x, mask: x.sum(axis=1), *x, batch_size=2) for x in (mapped, sets())]
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, o: ragged.set_batch(x, o, 0, 2, length=2), "length: 2 is below the 3 rows of a set"),
        (lambda x, o: ragged.set_batch(x, o, 0, 3, count=2), "count: 2 is below the 3 sets; pass a larger"),
        (lambda x, o: ragged.set_batch(x, o, 3, 6), "start, stop: 3..6 is outside 0..5, the number of sets"),
        (lambda x, o: ragged.set_batch(x, o, -1, 2), "start, stop: -1..2 is outside 0..5"),
        (lambda x, o: ragged.set_batch(x, o, 3, 2), "start, stop: 3..2 is outside 0..5"),
        (lambda x, o: ragged.set_batch(x, o[::-1], 0, 2), "offsets: fall, or leave the 10 rows of tokens"),
        (lambda x, o: ragged.set_batch(x[:6], o, 0, 3), "offsets: fall, or leave the 6 rows of tokens"),
        (lambda x, o: ragged.map_sets(len, x[:6], o), "offsets: fall, or leave the 6 rows of tokens"),
        (lambda x, o: ragged.map_sets(len, x, o[:1]), "0 sets in batches of 128: pass at least one of each"),
        (lambda x, o: ragged.map_sets(len, x, o, batch_size=0), "5 sets in batches of 0: pass at least one"),
    ],
)
def test_sets_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(*sets())
    assert "\n" not in str(error.value)
