"""Distinct rows of a batch: loops, masks, padding, and what is refused."""

import chex
import jax
import numpy as np
import oracles_tables as oracles
import pytest
from trained_tables import PATH, SIZE, V, example, listed

from jaxembed import tables
from jaxembed.tables import Feature


@pytest.mark.parametrize("merge", ["concat", "weighted"])
def test_touched_is_codes_and_distinct_in_one(merge):
    features = [Feature("user", chunks=2), Feature("tags", chunks=2), Feature("gender", vocabulary=3)]
    plan = tables.plan(features, rows=50, width=4, tables=2, merge=merge)
    rng = np.random.default_rng(0)
    ids = {"user": rng.integers(9, size=8), "tags": rng.integers(9, size=(8, 3)), "other": np.zeros(8)}
    ids["gender"], masks = rng.integers(3, size=8), {"tags": rng.random((8, 3)) < 0.5}
    found = tables.touched(plan, ids, masks, 40, part=0)
    heights = {"table/embedding": plan.height, "table/importance": 50}
    assert plan.height == 100 and set(found["rows"]) == set(list(heights)[: 1 + (merge == "weighted")])
    codes = tables.codes(plan, ids)
    groups = tables.by_table(plan, codes)
    for path, rows in found["rows"].items():
        listed, local = tables.distinct(groups[path], masks, heights[path], 40, part=0)
        np.testing.assert_array_equal(rows, listed)
        for name, array in local.items():
            np.testing.assert_array_equal(found["codes"][name], array)
    np.testing.assert_array_equal(found["codes"]["gender"], codes["gender"])
    assert set(found["codes"]) == set(codes)
    with pytest.raises(ValueError, match="^size=3: the batch touches"):
        tables.touched(plan, ids, masks, 3)
    with pytest.raises(ValueError, match="feature 'tags' is missing"):
        tables.touched(plan, {"user": ids["user"]}, None, 40)


# Distinct rows


@pytest.mark.parametrize("part", [0, 2])
@pytest.mark.parametrize("masked", [True, False])
def test_distinct_equals_the_oracle(part, masked):
    batch = example(3)
    codes, masks = batch["codes"], batch["masks"] if masked else None
    codes["user"][2:4, 1] = -1
    assert any((c < -1).any() for c in codes.values())
    rows, local = tables.distinct(codes, masks, V, SIZE, part=part)
    expected_rows, expected = oracles.distinct(codes, masks, V, SIZE, part)
    np.testing.assert_array_equal(rows, expected_rows)
    chex.assert_trees_all_equal(local, expected)
    assert rows.dtype == np.int32
    assert {c.dtype for c in local.values()} == {np.dtype(np.int32)}
    assert (np.diff(rows) > 0).all()


def test_local_codes_read_what_global_codes_read():
    batch = example(0)
    table = jax.random.normal(jax.random.key(0), (V, 4))
    local = listed(batch)
    small = tables.rows_of(table, local["rows"][PATH])
    for name, codes in batch["codes"].items():
        kept = batch["masks"].get(name, np.ones(codes.shape[:-1], bool))
        ours = np.asarray(tables.rows_of(small, local["codes"][name]))
        np.testing.assert_array_equal(ours[kept], np.asarray(tables.rows_of(table, codes))[kept])
        assert not ours[~kept].any()


@pytest.mark.parametrize("codes", [{}, {"a": np.zeros((0, 2), np.int32)}, {"a": np.full((3, 1), -1)}])
def test_a_batch_without_rows_is_all_padding(codes):
    rows, local = tables.distinct(codes, None, 10, 3)
    np.testing.assert_array_equal(rows, [10, 11, 12])
    assert all((c == 2).all() for c in local.values())


def test_the_mask_of_a_feature_holds_for_its_importances():
    p = tables.plan([Feature("a", chunks=2)], rows=50, width=2, merge="weighted")
    codes = tables.by_table(p, tables.codes(p, {"a": np.arange(6).reshape(2, 3)}))
    assert sorted(codes) == ["table/embedding", "table/importance"]
    masks = {"a": np.array([[True, True, False], [False, False, False]])}
    rows, local = tables.distinct(codes["table/importance"], masks, 50, 4)
    assert (rows < 50).sum() == 2
    np.testing.assert_array_equal(local["a/importance"][..., 0] == 3, ~masks["a"])


@pytest.mark.parametrize("junk", [-1, 10**9, -(2**31)])
def test_padding_of_a_list_may_hold_any_code(junk):
    batch = example(1)
    junk = {n: np.where(m[..., None], batch["codes"][n], junk) for n, m in batch["masks"].items()}
    rows, local = tables.distinct(batch["codes"] | junk, batch["masks"], V, SIZE)
    expected = listed(batch)
    np.testing.assert_array_equal(rows, expected["rows"][PATH])
    for name, codes in expected["codes"].items():
        kept = batch["masks"].get(name, np.ones(codes.shape[:-1], bool))
        np.testing.assert_array_equal(local[name][kept], codes[kept])


def test_a_mask_holds_for_the_feature_of_its_name_alone():
    codes = {"user": np.array([[1]]), "user_importance": np.array([[2]])}
    rows, local = tables.distinct(codes, {"user": np.array([False]), "other": np.ones(9, bool)}, 9, 3)
    np.testing.assert_array_equal(rows, [2, 9, 10])
    assert local["user"] == 2 and local["user_importance"] == 0


BAD_LISTS = {
    "small": (([[1], [2], [3]], None, 9, 3), "size=3: the batch touches 3 rows; give at least 4"),
    "outside": (([[9]], None, 9, 3), "codes: 9 is outside a table of 9 rows"),
    "no size": (([[1]], None, 9, 0), "size=0: need at least 1"),
    "too many": (([[1]], None, 2**31 - 5, 9), "below 2\\*\\*31"),
    "floats": (([[1.0]], None, 9, 3), "codes: 'a' has dtype float64; give what tables.codes returns"),
    "mask": (([[1]], {"a": np.ones((2,), bool)}, 9, 3), r"masks: 'a' has shape \(2,\); need \(1,\)"),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_lists_raise_one_line(case):
    (codes, *rest), message = BAD_LISTS[case]
    with pytest.raises(ValueError, match=message) as caught:
        tables.distinct({"a": np.array(codes)}, *rest)
    assert "\n" not in str(caught.value)
