"""Tables of clicks: values, labels, layouts, splits, batches, bad input, and known data sets."""

import collections
import functools
import math
import re

import jax
import numpy as np
import pytest
from click_files import GOOD, PLAIN, SCHEMA, equal, make_records, text_of, write

from jaxembed import data, tables
from jaxembed.data.click_tables import Schema, ctr_table


def slow(records, splits, least=1, most=None):
    """{feature: codes per record} by counting in Python, as the docstring of ``ctr_table`` defines them."""
    found = {}
    for name in SCHEMA.features:
        cells = [[r[name]] if name != "tags" else r[name].split() for r in records]
        counts = collections.Counter(v for i in splits["train"] for v in cells[i])
        kept = [v for v in sorted(counts, key=lambda v: (-counts[v], v)) if counts[v] >= least][:most]
        found[name] = [[kept.index(v) + 1 if v in kept else 0 for v in row] for row in cells]
    return found


# Values


@pytest.mark.parametrize("split", ["random", "time", "tail"])
@pytest.mark.parametrize("options", [{}, {"least": 3}, {"most": 2}, {"least": 2, "most": 5}], ids=str)
def test_codes_are_counted_on_the_training_rows(tmp_path, split, options):
    records = make_records(300)
    table = ctr_table(write(tmp_path / "t.csv", text_of(records)), SCHEMA, split=split, **options)
    columns, expected = table["columns"], slow(records, table["splits"], **options)
    assert columns["labels"].dtype == np.float32
    assert columns["labels"].tolist() == [r["clicked"] for r in records]
    np.testing.assert_allclose(columns["dense"], [[r["price"], r["age"]] for r in records], rtol=1e-6)
    assert columns["dense"].dtype == np.float32 and list(columns["masks"]) == ["tags"]
    for name in ("city", "shop"):
        assert columns["ids"][name].dtype == np.int32
        assert columns["ids"][name].tolist() == [row[0] for row in expected[name]]
    for ids, mask, row in zip(
        columns["ids"]["tags"], columns["masks"]["tags"], expected["tags"], strict=True
    ):
        assert ids[mask].tolist() == row and not ids[~mask].any()
        assert mask.tolist() == [k < len(row) for k in range(3)]
    for name in SCHEMA.features:
        highest = max(max(row, default=0) for row in expected[name])
        assert table["sizes"][name] == highest + 1 == len(table["vocabularies"][name]) + 1
    outside = {v for i in table["splits"]["test"] for v in [records[i]["shop"]]}
    outside -= {records[i]["shop"] for i in table["splits"]["train"]}
    assert outside and not outside & set(table["vocabularies"]["shop"])
    assert table["time"].tolist() == [r["when"] for r in records]


def test_vocabularies_name_their_codes(tmp_path):
    records = make_records(200)
    table = ctr_table(write(tmp_path / "t.csv", text_of(records)), SCHEMA)
    for name in ("city", "shop"):
        words = ["?", *table["vocabularies"][name]]
        for record, code in zip(records, table["columns"]["ids"][name], strict=True):
            assert words[code] == record[name] or (code == 0 and record[name] not in words)
    assert "" in table["vocabularies"]["city"] and "a,b" in table["vocabularies"]["city"]


def test_hashed_features_have_no_vocabulary(tmp_path):
    records = make_records(100)
    path = write(tmp_path / "t.csv", text_of(records))
    table = ctr_table(path, SCHEMA, hashed=("shop", "tags"))
    ids, mask = table["columns"]["ids"], table["columns"]["masks"]["tags"]
    assert ids["shop"].dtype == ids["tags"].dtype == np.uint32
    assert ids["shop"].tolist() == data.hashed([r["shop"] for r in records]).tolist()
    assert ids["tags"][mask].tolist() == data.hashed([t for r in records for t in r["tags"].split()]).tolist()
    assert list(table["vocabularies"]) == ["city"]
    assert table["sizes"]["shop"] == len({records[i]["shop"] for i in table["splits"]["train"]})
    equal(ids["city"], ctr_table(path, SCHEMA)["columns"]["ids"]["city"])


def test_long_cells_are_cut(tmp_path):
    records = make_records(50)
    records[7]["tags"] = " ".join(f"x{i}" for i in range(1000)) + "  y "
    path = write(tmp_path / "t.csv", text_of(records))
    assert ctr_table(path, SCHEMA)["columns"]["ids"]["tags"].shape == (50, 1001)
    table = ctr_table(path, SCHEMA, longest=2, fractions=(1, 0, 0))
    assert table["columns"]["masks"]["tags"].sum(axis=1).tolist() == [
        min(2, len(r["tags"].split())) for r in records
    ]
    assert {"x0", "x1"} <= set(table["vocabularies"]["tags"]) and "x2" not in table["vocabularies"]["tags"]


def test_bags_that_are_all_empty():
    chunk = {"y": [0, 1], "tags": ["", "  "]}
    table = ctr_table([chunk], Schema(label="y", multivalent=("tags",)), fractions=(1, 0, 0))
    assert table["columns"]["ids"]["tags"].tolist() == [[0], [0]]
    assert not table["columns"]["masks"]["tags"].any() and table["sizes"] == {"tags": 1}


# Labels and numbers


@pytest.mark.parametrize(
    "rule, expected",
    [
        ({"threshold": 3, "dropped": (3, None)}, [0, 1, 1, 0]),
        ({"threshold": 2.5, "dropped": (None,)}, [0, 1, 1, 1, 0]),
        ({"dropped": (3, 4, 5, 2, None)}, [1]),
    ],
    ids=str,
)
def test_the_rule_makes_the_labels(tmp_path, rule, expected):
    path = write(tmp_path / "t.csv", b"y,c\n1,a\n4,b\n,c\n5,d\n3,e\n2,f\n")
    table = ctr_table(path, Schema(label="y", categorical=("c",), **rule), fractions=(1, 0, 0))
    assert table["columns"]["labels"].tolist() == expected
    assert "c" not in table["vocabularies"]["c"]


def test_transforms_meet_empty_cells_as_nan(tmp_path):
    path = write(tmp_path / "t.csv", b"y,c,a,b\n0,x,-7,2\n1,y,,2.5\n1,y,0,3\n0,z,9,NaN\n")
    schema = Schema(label="y", categorical=("c",), dense=("b", "a"))
    fill = {"a": functools.partial(data.log_counts, shift=4), "b": lambda x: np.nan_to_num(x, nan=-1)}
    dense = ctr_table(path, schema, transform=fill)["columns"]["dense"]
    np.testing.assert_allclose(dense[:, 0], [2, 2.5, 3, -1])
    np.testing.assert_allclose(dense[:, 1], [0, 0, math.log(4), math.log(13)], rtol=1e-6)
    with pytest.raises(ValueError, match="dense 'a' holds nan; fill it by transform="):
        ctr_table(path, schema, transform={"b": fill["b"]})
    with pytest.raises(ValueError, match="dense 'b' holds -inf"):
        ctr_table(path, schema, transform={"a": fill["a"], "b": lambda x: np.full(len(x), -1e99)})


# Splits


@pytest.mark.parametrize("split", ["random", "time", "tail"])
@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (6 / 7, 1 / 14, 1 / 14), (0.5, 0, 0.5), (1, 0, 0)])
@pytest.mark.parametrize("timed", [True, False])
def test_splits_are_disjoint_and_complete(split, fractions, timed):
    records = make_records(140)
    chunk = {name: [r[name] for r in records] for name in records[0]}
    schema = Schema(label="clicked", categorical=("city",), time="when" if timed else None)
    run = functools.partial(ctr_table, [chunk], schema, split=split, fractions=fractions)
    found = run()["splits"]
    assert list(found) == ["train", "validation", "test"]
    assert sorted(np.concatenate(list(found.values()))) == list(range(140))
    assert [len(rows) for rows in found.values()] == [round(140 * f) for f in fractions]
    equal(found, run()["splits"])
    order = np.argsort(chunk["when"]) if timed else np.arange(140)
    train, rest = order[: len(found["train"])], order[len(found["train"]) :]
    if split == "time":
        assert np.concatenate(list(found.values())).tolist() == order.tolist()
    elif split == "tail":
        assert found["train"].tolist() == train.tolist()
        assert len(rest) < 3 or found["test"].tolist() != rest[-len(found["test"]) :].tolist()
    if split != "time" and fractions[0] < 1:
        assert any(run(seed=s)["splits"]["test"].tolist() != found["test"].tolist() for s in (1, 2, 3))


# Batches


def batched(table, size, **options):
    make = functools.partial(data.take, table["columns"])
    return data.batches(
        table["splits"]["train"], size, make=make, **{"process": 0, "processes": 1, **options}
    )


def small_table(count=200):
    records = make_records(count)
    return ctr_table([{name: [r[name] for r in records] for name in records[0]}], SCHEMA)


def test_batches_are_rows_of_the_columns_and_resume():
    table = small_table()
    table["columns"]["row"] = np.arange(200)
    ds, again = batched(table, 30), batched(table, 30)
    steps = [ds[t] for t in range(12)]
    equal(again[11], steps[11])
    for batch in steps:
        equal(batch, data.take(table["columns"], batch["row"]))
    for epoch in (steps[:5], steps[5:10]):
        rows = np.concatenate([batch["row"] for batch in epoch])
        assert len(set(rows)) == 150 and set(rows) <= set(table["splits"]["train"])
    assert any((a["row"] != b["row"]).any() for a, b in zip(steps[:5], steps[5:10], strict=True))
    assert (batched(table, 30, seed=1)[0]["row"] != steps[0]["row"]).any()
    ahead = iter(ds.to_iter_dataset())
    for step in steps[:7]:
        equal(next(ahead), step)


@pytest.mark.parametrize("processes", [2, 3, 6])
@pytest.mark.parametrize("shuffle", [True, False])
def test_parts_of_all_processes_make_the_batch(processes, shuffle):
    table = small_table()
    whole = batched(table, 12, shuffle=shuffle)
    parts = [batched(table, 12, shuffle=shuffle, process=p, processes=processes) for p in range(processes)]
    for t in (0, 1, 13, 500):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *(part[t] for part in parts))
        assert joined["labels"].shape == (12,)
        equal(joined, whole[t])


def test_batches_keep_the_remainder_and_the_order():
    table = small_table()
    ds = batched(table, 64, shuffle=False, drop_remainder=False)
    rows = np.concatenate([ds[t]["labels"] for t in range(3)])
    assert [len(ds[t]["labels"]) for t in range(4)] == [64, 64, 32, 64]
    assert rows.tolist() == table["columns"]["labels"][table["splits"]["train"]].tolist()
    with pytest.raises(ValueError, match="make: records is an array"):
        data.batches(np.arange(3), 1)
    with pytest.raises(ValueError, match="non-negative"):
        batched(table, 3, seed=-1)


def test_sizes_make_a_plan_that_takes_every_batch():
    table = small_table()
    features = [tables.Feature("city", vocabulary=table["sizes"]["city"])]
    features += [tables.Feature(n, size=table["sizes"][n]) for n in ("shop", "tags")]
    plan = tables.plan(features, rows=50, width=4)
    params = tables.init_tables(jax.random.key(0), plan)
    batch = batched(table, 32)[0]
    found = tables.lookup(plan, params, tables.codes(plan, batch["ids"]), masks=batch["masks"])
    assert {name: x.shape for name, x in found.items()} == dict.fromkeys(("city", "shop", "tags"), (32, 4))


@pytest.mark.parametrize(
    "content, schema, options, message",
    [
        (b"", {}, {}, "Empty CSV file"),
        (b"y,c,d\n", {}, {}, "holds no rows"),
        (GOOD, {"threshold": 0, "dropped": (0, 1)}, {}, "holds no rows"),
        (GOOD, {"categorical": ("city",)}, {}, "column 'city' is missing; the columns are ['y', 'c', 'd']"),
        (b"y,c,d,c\n1,a,2,b\n", {}, {}, "column 'c' is there twice"),
        (GOOD, {"label": "d"}, {}, "Schema: columns ['d'] named twice"),
        (GOOD, {"categorical": ()}, {}, "Schema: no categorical and no multivalent column"),
        (b"y,c,d\n2,a,1\n", {}, {}, "label 'y' holds 2, not 0 or 1; set threshold="),
        (b"y,c,d\n,a,1\n", {}, {}, "label 'y' has empty cells; put None into dropped="),
        (b"y,c,d\nyes,a,1\n", {}, {}, "invalid value 'yes'"),
        (b"y,c,d\n1,a,NaN\n", {}, {}, "dense 'd' holds nan"),
        (b"y,c,d\n1,a,inf\n", {}, {}, "dense 'd' holds inf"),
        (b"y,c,d\n1,a,few\n", {}, {}, "invalid value 'few'"),
        (b"y,c,d\n1,\xff\xfe,1\n", {}, {}, "t.csv: is not UTF-8 but perhaps latin-1; save it"),
        (b"y,c,d\n1,a,1\n1,a\n", {}, {}, "Expected 3 columns, got 2"),
        (GOOD, {"names": ("y", "c", "d", "e")}, {}, "Expected 4 columns, got 3"),
        (GOOD, {"names": ("y", "c")}, {}, "Expected 2 columns, got 3"),
        (GOOD, {"names": ("y", "c", "e")}, {}, "column 'd' is missing; the columns are ['y', 'c', 'e']"),
        (GOOD, {"time": "c"}, {}, "time 'c' must hold a number or an ISO 8601 time in every row"),
        (b"y,c,d,t\n1,a,1,2\n1,a,1,\n", {"time": "t"}, {}, "time 't' must hold"),
        (GOOD, {}, {"split": "chronological"}, "split='chronological'; choose one of"),
        (GOOD, {}, {"fractions": (0.5, 0.5)}, "fractions=(0.5, 0.5): give three numbers"),
        (GOOD, {}, {"fractions": (0.8, 0.1, 0.2)}, "that sum to 1"),
        (GOOD, {}, {"fractions": (1.5, -0.5, 0)}, "give three numbers from 0 to 1"),
        (GOOD, {}, {"fractions": (0, 0.5, 0.5)}, "leave none of 3 rows to train on"),
        (GOOD, {}, {"least": 0}, "least=0 must be at least 1"),
        (GOOD, {}, {"most": 0}, "most=0 must be at least 1"),
        (GOOD, {}, {"limit": 0}, "limit=0 must be at least 1"),
        (GOOD, {}, {"longest": 0}, "longest=0 must be at least 1"),
        (GOOD, {}, {"hashed": ("d",)}, "hashed=('d',): name columns among ['c']"),
        (GOOD, {}, {"hashed": "c"}, "hashed='c': name columns among ['c']"),
        (GOOD, {}, {"transform": {"c": abs}}, "name columns among ['d']"),
        (GOOD, {}, {"transform": {"d": lambda x: x[:1]}}, "transform of 'd' returns shape (1,), not (3,)"),
    ],
)
def test_bad_input_is_one_line(tmp_path, content, schema, options, message):
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        ctr_table(path, Schema(**{**PLAIN, **schema}), **options)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
