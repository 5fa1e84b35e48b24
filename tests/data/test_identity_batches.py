"""Batches of P identities with K pictures each, and identities that sets have in common."""

import numpy as np
import pytest

from jaxembed import data

COUNTS = [1, 2, 3, 5, 8, 13]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(6) * 10, COUNTS))
RECORDS = {"labels": LABELS, "rows": np.arange(len(LABELS)), "names": ["a", "b"]}
ALONE = {"process": 0, "processes": 1}


def test_a_batch_has_each_identity_as_often_as_asked():
    ds = data.identity_batches(RECORDS, 2, 3, **ALONE)
    for step in range(20):
        batch = ds[step]
        assert sorted(batch) == ["labels", "rows"]
        np.testing.assert_array_equal(batch["labels"], LABELS[batch["rows"]])
        groups = batch["labels"].reshape(2, 3)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0])) == 2
        assert len(set(batch["rows"].tolist())) == 6


def test_every_identity_that_is_large_enough_has_its_turn_in_an_epoch():
    ds = data.identity_batches(RECORDS, 2, 3, **ALONE)
    for epoch in range(5):
        seen = np.concatenate([ds[2 * epoch + i]["labels"] for i in range(2)])
        assert sorted(set(seen.tolist())) == [20, 30, 40, 50]


def test_a_batch_depends_on_seed_and_step_alone():
    first, again, other = (data.identity_batches(RECORDS, 2, 2, seed=s, **ALONE) for s in (3, 3, 4))
    backwards = {step: again[step]["rows"].tolist() for step in reversed(range(9))}
    assert [first[step]["rows"].tolist() for step in range(9)] == [backwards[step] for step in range(9)]
    assert any(first[step]["rows"].tolist() != other[step]["rows"].tolist() for step in range(3))


def test_extra_records_are_new_ones_of_any_label():
    ds = data.identity_batches(RECORDS, 2, 3, extra=7, **ALONE)
    seen = set()
    for step in range(60):
        rows = ds[step]["rows"]
        assert len(rows) == len(set(rows.tolist())) == 13
        seen |= set(rows[6:].tolist())
    assert seen == set(range(len(LABELS)))


def test_processes_share_a_batch():
    options = {"extra": 4, "seed": 1}
    whole = data.identity_batches(RECORDS, 4, 2, **options, **ALONE)
    parts = [data.identity_batches(RECORDS, 4, 2, **options, process=p, processes=2) for p in range(2)]
    for step in range(4):
        rows = [part[step]["rows"] for part in parts]
        assert [len(r) for r in rows] == [6, 6]
        identities = np.concatenate([r[:4] for r in rows])
        np.testing.assert_array_equal(
            np.concatenate([identities, *(r[4:] for r in rows)]), whole[step]["rows"]
        )


def test_make_gets_the_batch():
    ds = data.identity_batches(RECORDS, 1, 2, make=lambda batch: batch["labels"] + 1, **ALONE)
    assert (ds[0] % 10 == 1).all()


REFUSED = {
    "a class of one image": ((6, 2), {}, "5 of 6 labels have 2 records; lower identities or each"),
    "no such number": ((1, 99), {}, "0 of 6 labels have 99 records"),
    "none": ((0, 2), {}, "identities: 0"),
    "too many extra": ((1, 2), {"extra": 31}, "extra: 31 of 32 records beside 2"),
    "processes": ((3, 2), {"process": 0, "processes": 2}, "do not divide among 2"),
    "seed": ((1, 2), {"seed": -1}, "non-negative"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_gives_no_batch_is_refused(case):
    sizes, options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        data.identity_batches(RECORDS, *sizes, **(ALONE | options))


def pictures(value, names, labels):
    images = np.full((len(labels), 2, 2, 1), value, np.uint8)
    return {"images": images, "labels": np.array(labels, np.int32), "names": names}


def test_common_identities_are_those_that_all_sources_name():
    first = pictures(1, ["cat", "dog", "owl"], [2, 0, 1, 1])
    second = pictures(2, ["owl", "eel", "dog"], [0, 1, 2])
    both = data.common_identities(first, second)
    assert both["names"] == ["dog", "owl"]
    assert both["labels"].tolist() == [1, 0, 0, 1, 0]
    assert both["sources"].tolist() == [0, 0, 0, 1, 1]
    assert both["images"][:, 0, 0, 0].tolist() == [1, 1, 1, 2, 2]


def test_sources_without_a_common_name_or_size_are_refused():
    first = pictures(1, ["cat"], [0])
    with pytest.raises(ValueError, match="no name is common"):
        data.common_identities(first, pictures(1, ["dog"], [0]))
    larger = first | {"images": np.zeros((1, 3, 3, 1), np.uint8)}
    with pytest.raises(ValueError, match="read all of them at one size"):
        data.common_identities(first, larger)
