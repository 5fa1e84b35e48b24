"""Codes equal their loops on host and device, spread evenly, and keep to their tables."""

import collections
import dataclasses
import json

import chex
import jax
import numpy as np
import oracles_tables as oracles
import pytest
from table_cases import FEATURES, PLAN, example, numbered

from jaxembed import tables
from jaxembed.tables import Feature
from jaxembed.tables.plans import places

# Codes


def test_codes_equal_the_oracle():
    batch, _, _ = example()
    chex.assert_trees_all_equal(tables.codes(PLAN, batch), oracles.hash_codes(PLAN, batch))


@pytest.mark.parametrize("value", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_extreme_ids_hash_as_python_ints_do(value):
    p = tables.plan([Feature("a", chunks=2)], rows=2**30, width=1)
    batch = {"a": np.array([value], np.uint32)}
    chex.assert_trees_all_equal(tables.codes(p, batch), oracles.hash_codes(p, batch))


@pytest.mark.parametrize("rows", [4, 5, 7, 40])
def test_spans_wrap_within_the_rows_of_their_feature_even_twice(rows):
    features = [Feature("a", size=1), Feature("b", chunks=2, size=9)]
    p = tables.plan(features, rows=rows, width=1, span=4, signed=True, multiplexed=False)
    batch = {name: np.arange(60, dtype=np.int32) for name in ("a", "b")}
    found = tables.codes(p, batch)
    chex.assert_trees_all_equal(jax.jit(lambda b: tables.codes(p, b))(batch), found)
    for name, place in places(p).items():
        for value, codes in enumerate(found[name]):
            for read, code in enumerate(codes):
                hashed = oracles.fmix32(value ^ oracles.salt(p.seed, name, read // 4)) + read % 4
                row = place.starts[read // 4] + hashed % place.open_rows
                flipped = oracles.fmix32(value ^ oracles.salt(p.seed, name, f"{read}/sign")) >> 31
                assert code == (-2 - row if flipped else row)


@pytest.mark.parametrize("multiplexed", [True, False])
@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_host_codes_are_numpy_and_equal_jit_bit_for_bit(multiplexed, dtype):
    p = dataclasses.replace(PLAN, multiplexed=multiplexed)
    batch = jax.tree.map(lambda x: (x % 1000).astype(dtype), example()[0])
    host = tables.codes(p, batch)
    device = jax.jit(lambda b: tables.codes(p, b))(batch)
    for name, value in host.items():
        assert type(value) is np.ndarray
        assert value.dtype == device[name].dtype == np.int32
        np.testing.assert_array_equal(value, device[name])


def test_every_code_of_a_hashed_feature_lies_in_the_table_of_its_turn():
    names = [f"f{i}" for i in range(5)]
    p = tables.plan([Feature(n, chunks=2) for n in names], rows=7, width=1, tables=3)
    codes = tables.codes(p, {n: np.arange(200) for n in names})
    for i, name in enumerate(names):
        for c in range(2):
            assert set(np.unique(codes[name][:, c] // 7)) == {(2 * i + c) % 3}
            assert len(np.unique(codes[name][:, c])) == 7


def test_a_vocabulary_takes_no_turn_in_the_round_robin():
    some = [Feature("a"), Feature("tiny", vocabulary=2), Feature("b")]
    p = tables.plan(some, rows=9, width=1, tables=2)
    codes = tables.codes(p, {"a": np.arange(99), "b": np.arange(99), "tiny": np.arange(2)})
    assert codes["a"].max() < 9 <= codes["b"].min()
    np.testing.assert_array_equal(codes["tiny"][:, 0], [0, 1])


def test_a_feature_added_last_leaves_all_earlier_codes():
    batch, _, _ = example()
    longer = tables.plan([*FEATURES, Feature("new", chunks=2)], rows=16, width=3, tables=3, seed=5)
    after = tables.codes(longer, batch | {"new": batch["user"]})
    before = tables.codes(PLAN, batch)
    chex.assert_trees_all_equal({name: after[name] for name in before}, before)


def test_the_seed_changes_the_codes():
    batch, _, _ = example()
    other = tables.codes(dataclasses.replace(PLAN, seed=6), batch)
    assert (other["mean"] != tables.codes(PLAN, batch)["mean"]).mean() > 0.5


# Claims that can be counted


def test_colliding_pairs_and_the_share_within_a_feature():
    sizes, rows, draws = (40, 120, 240), 200, 200
    names = [f"f{i}" for i in range(3)]
    total = sum(sizes)
    batch = {n: np.arange(s) for n, s in zip(names, sizes, strict=True)}
    pairs = within = 0
    for seed in range(draws):
        p = tables.plan([Feature(n) for n in names], rows=rows, width=1, seed=seed)
        counts = [np.bincount(c[:, 0], minlength=rows) for c in tables.codes(p, batch).values()]
        pairs += sum(m * (m - 1) // 2 for m in np.sum(counts, axis=0))
        within += sum(m * (m - 1) // 2 for count in counts for m in count)
    expected = total * (total - 1) / (2 * rows)
    share = sum(s * (s - 1) for s in sizes) / (total * (total - 1))
    assert pairs / draws == pytest.approx(expected, rel=0.01)
    assert within / draws == pytest.approx(expected * share, rel=0.01)


@pytest.mark.parametrize(("rows", "published"), [(13_653, 8_452), (6_826, 5_836)])
def test_occupied_rows(rows, published):
    vocabularies = (3706, 6040, 2, 7, 21, 3401)  # 13,177 values in all
    names, p = numbered(6, rows=rows, width=1)
    codes = tables.codes(p, {n: np.arange(v) for n, v in zip(names, vocabularies, strict=True)})
    occupied = len(np.unique(np.concatenate(list(codes.values()))))
    expected = rows * (1 - (1 - 1 / rows) ** 13_177)
    assert expected == pytest.approx(published, abs=1)
    assert occupied == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("chunk", [0, 1])
def test_one_id_in_two_features_has_independent_codes(chunk):
    p = tables.plan([Feature("f0", chunks=2), Feature("f1", chunks=2)], rows=8, width=1)
    codes = tables.codes(p, {n: np.arange(20_000) for n in ("f0", "f1")})
    joint = np.zeros((8, 8))
    np.add.at(joint, (codes["f0"][:, 0], codes["f1"][:, chunk]), 1)
    expected = joint.sum(1)[:, None] * joint.sum(0) / joint.sum()
    statistic = ((joint - expected) ** 2 / expected).sum()
    assert 20 < statistic < 85  # 49 degrees of freedom: both tails below 0.1 %
    uniform = joint.sum() / 64
    assert ((joint - uniform) ** 2 / uniform).sum() < 104  # 63 degrees of freedom, 0.1 %


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_two_values_agree_in_all_chunks_with_probability_rows_to_the_minus_chunks(chunks):
    p = tables.plan([Feature("a", chunks=chunks)], rows=10, width=1)
    codes = tables.codes(p, {"a": np.arange(3000)})["a"]
    counts = collections.Counter(map(tuple, codes.tolist()))
    agreeing = sum(m * (m - 1) / 2 for m in counts.values())
    expected = 3000 * 2999 / 2 * 10.0**-chunks
    assert abs(agreeing - expected) < 5 * expected**0.5


def test_nearby_ids_do_not_stay_near():
    p = tables.plan([Feature("a")], rows=1000, width=1)
    codes = tables.codes(p, {"a": np.arange(5000)})["a"][:, 0]
    steps = np.diff(codes) % 1000
    assert len(np.unique(steps)) > 900


@pytest.mark.parametrize("multiplexed", [True, False])
def test_a_plan_survives_json(multiplexed):
    p = dataclasses.replace(PLAN, multiplexed=multiplexed)
    again = tables.plan(**json.loads(json.dumps(dataclasses.asdict(p))))
    assert again == p
    assert hash(again) == hash(p)


@pytest.mark.parametrize("sizes", [(1000, 1, 1), (1, 1, 1000), (1, 1, 1), (3, 2, 5), (10**6, 10**6, 1)])
@pytest.mark.parametrize("rows", [3, 5, 100])
def test_separate_features_have_disjoint_ranges_and_a_row_each(sizes, rows):
    some = [Feature(f"f{i}", size=s, chunks=2) for i, s in enumerate(sizes)]
    p = tables.plan(some, rows=rows, width=1, tables=2, multiplexed=False)
    codes = tables.codes(p, {f.name: np.arange(3000) for f in some})
    for c in range(2):
        seen = [set(np.unique(codes[f.name][:, c])) for f in some]
        assert all(seen)
        assert sum(map(len, seen)) == len(set.union(*seen)) <= rows
        assert {int(code) // rows for code in set.union(*seen)} == {c}
    if sizes == (3, 2, 5) and rows == 100:
        assert [len(np.unique(codes[f.name][:, 0])) for f in some] == [30, 20, 50]


BAD_PLANS = {
    "half a row": ([Feature("a")], {"rows": 4.5}, "rows=4.5; give an int"),
    "no seed": ([Feature("a")], {"seed": None}, "seed=None; give an int"),
    "bool": ([Feature("a")], {"tables": True}, "tables=True; give an int"),
    "twice": ([Feature("a"), Feature("a")], {}, r"\['a'\] named twice"),
    "scheme": ([Feature("a")], {"scheme": "other"}, "scheme='other'"),
    "rows": ([Feature("a")], {"rows": 0}, "rows=0"),
    "many rows": ([Feature("a")], {"rows": 2**30, "tables": 2}, "tables=2"),
    "rows per feature": (
        [Feature("a"), Feature("b")],
        {"rows": 1, "multiplexed": False},
        "less than one row for each",
    ),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_bad_plans_raise(case):
    some, options, message = BAD_PLANS[case]
    with pytest.raises(ValueError, match=message):
        tables.plan(some, **{"rows": 4, "width": 2} | options)


@pytest.mark.parametrize("options", [{"chunks": 0}, {"size": 0}, {"vocabulary": 0}, {"combine": "median"}])
def test_bad_features_raise_by_name(options):
    with pytest.raises(ValueError, match="'a'"):
        Feature("a", **options)


@pytest.mark.parametrize("name", ["", "user/country"])
def test_names_that_would_break_a_path_are_refused(name):
    with pytest.raises(ValueError, match="give a name without /"):
        Feature(name)


def test_a_batch_of_some_features_has_their_codes_alone():
    p = tables.plan([Feature("a", chunks=2), Feature("b"), Feature("c", vocabulary=4)], rows=50, width=2)
    ids = {name: np.arange(4) for name in "abc"}
    found = tables.codes(p, {"b": ids["b"], "c": ids["c"]}, only=("c", "b"))
    assert list(found) == ["c", "b"]
    for name, rows in found.items():
        np.testing.assert_array_equal(rows, tables.codes(p, ids)[name])
    with pytest.raises(KeyError, match="'d' is not a feature of the plan"):
        tables.codes(p, ids, only=("d",))
