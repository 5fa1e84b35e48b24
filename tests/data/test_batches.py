"""Batches: permutations, resuming, parts of processes, columns, and an import that is light."""

import re
import subprocess
import sys

import numpy as np
import pytest
from written_files import one

from jaxembed import data
from jaxembed.data import batches

# Batches


def rows_of(n):
    return [{"id": i, "deep": {"x": np.full(2, i, np.float32)}, "name": f"r{i}"} for i in range(n)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_remainder", [True, False])
def test_each_epoch_is_a_permutation(shuffle, drop_remainder):
    ds = one(rows_of(10), 4, shuffle=shuffle, drop_remainder=drop_remainder)
    per_epoch = 2 if drop_remainder else 3
    epochs = [[i for t in range(per_epoch) for i in ds[e * per_epoch + t]["id"].tolist()] for e in range(4)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == (8 if drop_remainder else 10)
    assert (len({tuple(e) for e in epochs}) > 1) == shuffle
    assert ds[10**9]["id"].shape == (4,)


def test_a_step_is_a_function_of_seed_and_step():
    ds = one(rows_of(50), 8, seed=3)
    late = ds[17]["id"].tolist()
    again = one(rows_of(50), 8, seed=3)
    forward = [again[t]["id"].tolist() for t in range(20)]
    assert forward[17] == late == ds[17]["id"].tolist()
    other = [one(rows_of(50), 8, seed=4)[t]["id"].tolist() for t in range(20)]
    assert not {tuple(b) for b in other} & {tuple(b) for b in forward}
    first = ds[0]
    assert first["deep"]["x"].tolist() == [[i, i] for i in first["id"]]
    assert first["name"].tolist() == [f"r{i}" for i in first["id"]]


@pytest.mark.parametrize("processes", [1, 2, 3, 6, 12])
def test_parts_of_all_processes_make_the_batch(processes):
    whole = one(rows_of(31), 12)
    parts = [batches(rows_of(31), 12, process=p, processes=processes) for p in range(processes)]
    for t in (0, 1, 2, 5, 1000):
        joined = np.concatenate([part[t]["id"] for part in parts])
        assert joined.tolist() == whole[t]["id"].tolist()


def test_a_process_reads_its_own_rows_only():
    class Watched(list):
        read = []

        def __getitem__(self, i):
            self.read.append(i)
            return super().__getitem__(i)

    records = Watched(rows_of(20))
    batch = batches(records, 8, process=1, processes=4)[3]
    assert records.read == batch["id"].tolist()


def test_batches_default_process_make_and_prefetch():
    ds = batches(rows_of(6), 3, make=len)
    assert ds[0] == 3
    ahead = iter(batches(rows_of(6), 3).to_iter_dataset())
    steps = [next(ahead)["id"].tolist() for _ in range(5)]
    assert steps == [one(rows_of(6), 3)[t]["id"].tolist() for t in range(5)]


@pytest.mark.parametrize(
    "n, size, options, message",
    [
        (0, 1, {}, "records is empty"),
        (3, 4, {}, "size=4 exceeds the 3 records; lower size or pass drop_remainder=False"),
        (3, 0, {}, "size must be at least 1"),
        (9, 6, {"processes": 4}, "size=6 does not divide among 4 processes"),
        (9, 6, {"process": 2, "processes": 2}, "process=2 must be in 0..1"),
        (9, 4, {"processes": 2, "drop_remainder": False}, "the last 1 records do not divide"),
        (9, 4, {"seed": -1}, "non-negative"),
    ],
)
def test_batches_bad_arguments(n, size, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        batches(rows_of(n), size, **{"process": 0, "processes": 1, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_dict_of_arrays_is_cut_by_rows(shuffle):
    columns = {"x": np.arange(10), "deep": {"y": [[i, -i] for i in range(10)]}}
    ds = one(columns, 4, shuffle=shuffle, seed=5)
    rows = one(np.arange(10), 4, shuffle=shuffle, seed=5, make=lambda rows: {"rows": rows})
    for t in range(5):
        expected = rows[t]["rows"]
        assert ds[t]["x"].tolist() == expected.tolist()
        assert ds[t]["deep"]["y"].tolist() == [[i, -i] for i in expected]
    assert one(columns, 4, shuffle=False, make=lambda batch: {"z": batch["x"] + 1})[0]["z"].tolist() == [
        1,
        2,
        3,
        4,
    ]
    parts = [batches(columns, 4, process=p, processes=2, seed=5)[3]["x"] for p in range(2)]
    assert np.concatenate(parts).tolist() == one(columns, 4, seed=5)[3]["x"].tolist()


class Frame:
    """What looks like a DataFrame."""

    columns = ("x",)


@pytest.mark.parametrize(
    "records, message",
    [
        ({"x": np.arange(8), "y": np.arange(7)}, "records: the arrays differ in length, {'x': 8, 'y': 7}"),
        ({"x": [1, 2], "deep": {"y": 3}}, "records: 'deep/y' is int; pass a dict of arrays"),
        ({"x": [[1, 2], [3]]}, "records: 'x' is ragged; pad it"),
        ({}, "records is empty"),
        (Frame(), "records: Frame has columns, not records; pass {column: NumPy array [N]}"),
    ],
)
def test_columns_that_are_no_records_are_named(records, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        one(records, 1)


@pytest.mark.parametrize(
    "records, message",
    [
        ([{"x": [1]}, {"x": [1, 2]}], "leaf 'x' is ragged"),
        ([{"a": {"x": [1]}}, {"a": {"x": 1}}], "leaf 'a/x' is ragged"),
        ([{"x": 1}, {"y": 1}], "records differ in the leaves below 'the top'"),
        ([{"a": {"x": 1}}, {"a": {}}], "records differ in the leaves below 'a'"),
        ([1, 2], "records hold int, not dicts"),
    ],
)
def test_ragged_records_are_named(records, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        one(records, 2, shuffle=False)[0]


# Imports


def test_the_room_is_light():
    program = (
        "import sys; from jaxembed import data; from jaxembed.data import text; text.words('a');"
        "heavy = {'grain', 'tensorflow_datasets', 'flax', 'orbax', 'jax', 'tensorflow'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(data.__all__) <= set(dir(data))
