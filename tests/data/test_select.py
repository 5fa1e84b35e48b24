"""Selection: np.argpartition, a slow oracle, DataComp's rule; streams within their stated error; cosines."""

import importlib
import itertools

import ml_dtypes
import numpy as np
import pytest
from refusals import refused
from sklearn.metrics.pairwise import paired_cosine_distances

from jaxembed.data import filter_report, pair_scores, score_pairs, select, streaming_threshold

module = importlib.import_module("jaxembed.data.select")  # the function of that name hides it
RNG = np.random.default_rng(0)
DRAWN = {
    "floats": RNG.standard_normal(997),
    "float32": RNG.standard_normal(1000).astype(np.float32),
    "ties": RNG.integers(4, size=500),
    "constant": np.ones(64),
    "infinite": np.where(RNG.random(200) < 0.3, -np.inf, RNG.standard_normal(200)),
    "bytes": RNG.integers(256, size=300).astype(np.uint8),
    "bfloat16": RNG.standard_normal(300).astype(ml_dtypes.bfloat16),
}


def slow(scores, keep, largest=True):
    """Row by row: the best scores, equal ones from the lowest row on."""
    sign = -1.0 if largest else 1.0
    order = sorted(range(len(scores)), key=lambda row: (sign * float(scores[row]), row))
    return sorted(order[:keep])


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("largest", [True, False])
def test_it_keeps_the_rows_of_a_sort(name, largest):
    scores = DRAWN[name]
    for keep in (1, 2, 17, len(scores) // 2, len(scores) - 1, len(scores)):
        assert select(scores, keep, largest=largest).tolist() == slow(scores, keep, largest)


@pytest.mark.parametrize("keep", [1, 100, 996])
def test_without_ties_it_is_argpartition(keep):
    scores = DRAWN["floats"]
    found = np.sort(np.argpartition(-scores, keep - 1)[:keep])
    np.testing.assert_array_equal(select(scores, keep), found)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 500, 996, 997, 5000])
@pytest.mark.parametrize("keep", [1, 200, 997])
def test_each_batch_keeps_its_share_and_all_together_the_budget(batch_size, keep):
    scores, expected, before = DRAWN["floats"], [], 0
    for start in range(0, 997, batch_size):
        part = scores[start : start + batch_size]
        upto = keep * (start + len(part)) // 997
        expected += [start + row for row in slow(part, upto - before)]
        before = upto
    found = select(scores, keep, mode="batchwise", batch_size=batch_size)
    assert found.tolist() == expected and len(found) == keep
    if batch_size >= 997:
        np.testing.assert_array_equal(found, select(scores, keep))


def test_selections_nest_and_do_not_depend_on_the_scale_of_scores():
    scores = DRAWN["floats"]
    chosen = [set(select(scores, share)) for share in (0.1, 0.35, 0.8, 1.0)]
    assert all(small < large for small, large in itertools.pairwise(chosen)) and len(chosen[-1]) == 997
    np.testing.assert_array_equal(select(scores, 0.2), select(np.exp(3 * scores), 0.2))
    assert set(select(scores, 100)) == set(range(997)) - set(select(scores, 897, largest=False))


def test_a_share_is_rounded_down_and_datacomp_keeps_one_row_more():
    assert len(select(np.arange(100.0), 0.29)) == 29  # 0.29 * 100 is 28.999999999999996
    assert len(select(np.arange(99.0), 1 / 16)) == 99 // 16
    scores = DRAWN["floats"]
    threshold = np.sort(scores)[::-1][int(0.3 * len(scores))]
    kept = np.flatnonzero(scores >= threshold)
    assert len(kept) == len(select(scores, 0.3)) + 1
    assert set(select(scores, 0.3)) < set(kept)


def test_ids_name_the_rows_that_are_kept():
    names = np.array(["a", "b", "c"])
    assert select([0.1, 0.3, 0.2], 2, ids=names).tolist() == ["b", "c"]
    assert select([0.1, 0.3, 0.2], 1, ids=[5, 2**63 + 1, 2**63 + 2]).tolist() == [2**63 + 1]


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("budget: 0 rows; pass at least 1", lambda: select([1.0, 2.0], 0)),
        ("budget: 3 keeps 3 of 2 rows", lambda: select([1.0, 2.0], 3)),
        ("budget: 0.4 keeps 0 of 2 rows", lambda: select([1.0, 2.0], 0.4)),
        (r"budget: the share 1.5 is not in \(0, 1\]", lambda: select([1.0, 2.0], 1.5)),
        (r"budget: the share nan is not in", lambda: select([1.0, 2.0], float("nan"))),
        ("budget: True is not an integer", lambda: select([1.0, 2.0], True)),
        ("budget: 1 keeps 1 of 0 rows", lambda: select([], 1)),
        ("scores: 2 of 4 are NaN, the first in row 1", lambda: select([1.0, np.nan, np.nan, 0.0], 1)),
        (r"scores: shape \(1, 2\)", lambda: select([[1.0, 2.0]], 1)),
        ("ids: 'b' occurs more than once", lambda: select([1.0, 2.0, 3.0], 1, ids=["a", "b", "b"])),
        (r"ids: shape \(1,\)", lambda: select([1.0, 2.0], 1, ids=[3])),
        ("mode='best'; choose one of", lambda: select([1.0, 2.0], 1, mode="best")),
        ("batch_size: None is not an integer", lambda: select([1.0, 2.0], 1, mode="batchwise")),
        ("batch_size: 0; pass at least 1", lambda: select([1.0], 1, mode="batchwise", batch_size=0)),
        ("memory: 3 numbers; pass an even number", lambda: streaming_threshold([[1.0]], 1, memory=3)),
        ("budget: 0 rows", lambda: streaming_threshold([[1.0]], 0)),
        ("budget: 9 keeps 9 of 1 rows", lambda: streaming_threshold([[1.0]], 9)),
        ("budget: 1 keeps 1 of 0 rows", lambda: streaming_threshold([], 1)),
        ("scores: 1 of 1 are NaN, the first in row 1", lambda: streaming_threshold([[1.0], [np.nan]], 1)),
        ("chunk: 0 rows", lambda: pair_scores([[1.0]], [[1.0]], chunk=0)),
        ("second: shape", lambda: pair_scores([[1.0]], [[1.0], [2.0]])),
        ("second: row 1 has no direction", lambda: pair_scores(np.ones((2, 1)), [[1.0], [0.0]], chunk=1)),
        ("first: row 0 has no direction", lambda: pair_scores([[np.nan, 1.0]], [[1.0, 1.0]])),
        ("first: row 1 has no direction", lambda: pair_scores([[1.0], [np.inf]], np.ones((2, 1)))),
        ("clean: is not made of 0 and 1", lambda: filter_report([1.0, 2.0], [0, 2], 1)),
        ("clean: .* has no 1", lambda: filter_report([1.0, 2.0], [0, 0], 1)),
        (r"clean: shape \(1,\)", lambda: filter_report([1.0, 2.0], [1], 1)),
    ],
)
def test_bad_input_is_one_clear_line(match, call):
    refused(match, call)


# Streams

ORDERS = {
    "random": RNG.standard_normal(5000),
    "rising": np.arange(5000.0),
    "falling": np.arange(5000.0)[::-1],
    "sawtooth": np.arange(5000.0) * 7919 % 5000,
    "ties": RNG.integers(6, size=5000).astype(float),
    "constant": np.zeros(5000),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("memory", [2, 64, 250])
def test_a_stream_keeps_its_stated_error(order, largest, memory):
    scores = ORDERS[order]
    sign = 1 if largest else -1
    for budget in (1, 700, 2500, 4999, 5000):
        chunks = (scores[i : i + 37] for i in range(0, 5000, 37))
        threshold, error = streaming_threshold(chunks, budget, largest=largest, memory=memory)
        assert np.count_nonzero(sign * scores >= sign * threshold) >= budget - error
        assert np.count_nonzero(sign * scores > sign * threshold) <= budget + error
        assert threshold in scores
        if memory == 250:
            assert error == 5 * 1 + 3 * 2 + 1 * 4 + 1 * 8  # half of 10, 5, 2 and 1 merges


@pytest.mark.parametrize("share", [0.001, 0.15, 1.0])
def test_a_pool_that_fits_has_no_error_however_it_is_cut(share):
    scores = ORDERS["random"].astype(np.float32)
    expected = np.sort(scores)[::-1][int(share * 5000) - 1]
    for cut in (1, 999, 5000):
        chunks = [scores[i : i + cut] for i in range(0, 5000, cut)]
        assert streaming_threshold(chunks, share) == (expected, 0)
    found = np.flatnonzero(scores >= expected)
    np.testing.assert_array_equal(found, select(scores, share))


def test_the_error_does_not_depend_on_the_cut_and_shrinks_with_memory():
    scores = ORDERS["random"]
    errors = [streaming_threshold(np.split(scores, 50), 0.1, memory=m)[1] for m in (16, 64, 256, 1024)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 8 * errors[-1]
    whole = streaming_threshold([scores], 0.1, memory=64)
    assert whole == streaming_threshold(np.split(scores, 50), 0.1, memory=64)


def test_a_stream_does_not_keep_a_view_of_what_it_was_given():
    buffer = np.zeros(4)

    def reused():
        for start in range(0, 16, 4):
            buffer[:] = np.arange(start, start + 4)
            yield buffer

    assert streaming_threshold(reused(), 4) == (12.0, 0)


# Pairs

X, Y = (RNG.standard_normal((50, 8)) for _ in range(2))


@pytest.fixture(params=["numkong", "NumPy"])
def products(request, monkeypatch):
    """With what reads a chunk once, and without it."""
    if request.param == "NumPy":
        monkeypatch.setattr(module, "_angular", lambda: None)
    else:
        pytest.importorskip("numkong")


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("chunk", [1, 7, 50, 999])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_scores_are_the_cosines_of_scikit_learn(chunk, kind):
    x, y = X.astype(kind), Y.astype(kind)
    found = pair_scores(x, y, chunk=chunk)
    expected = 1 - paired_cosine_distances(x.astype(np.float64), y.astype(np.float64))
    assert found.dtype == (np.float64 if kind == np.float64 else np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-12 if kind == np.float64 else 1e-6)


@pytest.mark.usefixtures("products")
def test_the_length_of_vectors_does_not_count_even_beyond_float32_squares():
    x, y = X.astype(np.float32), Y.astype(np.float32)
    for left, right in ((4.0, 1.0), (1e-25, 1.0), (1e-19, 1e-19), (1.0, 1e25), (1e-25, 1e25)):
        found = pair_scores(x * np.float32(left), y * np.float32(right), chunk=7)
        np.testing.assert_allclose(found, pair_scores(x, y), atol=1e-6)
    some = np.where(np.arange(len(x))[:, None] % 3, x, x * np.float32(1e-25))  # a few of a chunk
    np.testing.assert_allclose(pair_scores(some, y, chunk=7), pair_scores(x, y), atol=1e-6)


def test_memory_mapped_vectors_are_read_by_chunks(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("first.npy", "second.npy")]
    for path, vectors in zip(paths, (X, Y), strict=True):
        np.save(path, vectors)
    x, y = (np.load(path, mmap_mode="r") for path in paths)
    longest, vecdot = [], np.vecdot
    monkeypatch.setattr(np, "vecdot", lambda *z, **k: longest.append(len(z[0])) or vecdot(*z, **k))
    found = pair_scores(x, y, chunk=8)
    assert max(longest) == 8
    np.testing.assert_array_equal(found, pair_scores(X, Y, chunk=8))


def test_a_filtering_network_scores_batch_by_batch():
    read = []

    def batches():
        for start in range(0, 50, 10):
            read.append(start)
            yield {"image": X[start : start + 10], "text": Y[start : start + 10]}

    scores = score_pairs(lambda batch: (batch["image"], batch["text"]), batches())
    np.testing.assert_array_equal(next(scores), pair_scores(X[:10], Y[:10]))
    assert read == [0]
    threshold, _ = streaming_threshold(score_pairs(lambda b: (b["image"], b["text"]), batches()), 0.2)
    whole = pair_scores(X, Y)
    np.testing.assert_array_equal(np.flatnonzero(whole >= threshold), select(whole, 0.2))


def test_a_perfect_filter_and_a_random_one():
    clean = RNG.random(20_000) < 0.2
    for share in (0.05, 0.2, 0.5):
        perfect = filter_report(clean + RNG.random(20_000) / 2, clean, share)
        assert perfect["precision"] == perfect["best"] == min(1, clean.mean() / share)
        assert perfect["recall"] == pytest.approx(min(1, share / clean.mean()))
        blind = filter_report(RNG.random(20_000), clean, share)
        assert abs(blind["precision"] - clean.mean()) < 4 * np.sqrt(0.16 / (20_000 * share))
        assert blind["kept"] == int(share * 20_000) and blind["clean"] == clean.mean()


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("bad", [0, np.nan, np.inf])
def test_of_many_bad_pairs_the_first_one_is_named(bad):
    x = np.ones((64, 4), np.float32)
    x[[9, 33, 50]] = bad
    for chunk in (1, 4, 64):
        for sides in ((np.ones_like(x), x), (x, np.ones_like(x))):
            name = "second" if sides[1] is x else "first"
            with pytest.raises(ValueError, match=f"{name}: row 9 has no direction"):
                pair_scores(*sides, chunk=chunk)
        with pytest.raises(ValueError, match="first: row 9 has no direction"):
            pair_scores(x, x, chunk=chunk)


@pytest.mark.usefixtures("products")
def test_equal_opposite_and_orthogonal_pairs_have_their_exact_score():
    x = X.astype(np.float32)
    np.testing.assert_allclose(pair_scores(x, x), np.ones(len(x)), atol=1e-6)
    np.testing.assert_allclose(pair_scores(x, -x), -np.ones(len(x)), atol=1e-6)
    ones = np.eye(8, dtype=np.float32)
    np.testing.assert_array_equal(pair_scores(ones, np.roll(ones, 1, axis=0), chunk=3), np.zeros(8))


@pytest.mark.usefixtures("products")
def test_rows_with_strides_and_transposed_sides_are_read():
    x, y = X.astype(np.float32), Y.astype(np.float32)
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    found = pair_scores(wide, np.asfortranarray(y), chunk=7)
    np.testing.assert_allclose(found, pair_scores(x, y), atol=1e-6)
