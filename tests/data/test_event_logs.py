"""Logs and catalogues are read by schema, joined by names, and split so that later events stay out."""

import numpy as np
import pytest

from jaxembed import data

LOG = {"user": ["u2", "u1", "u2", "u3", "u1", "u1"], "item": ["b", "a", "a", "c", "b", "c"]}
LOG |= {
    "day": [4, 1, 2, 3, 5, 6],
    "rating": [5, 1, 4, 4, 3, 5],
    "words": ["red tea", "", "tea", "jam", "tea", "red"],
}
LOG |= {"price": [1.0, 2.0, None, 4.0, 5.0, 6.0]}
KEYS = ("user", "item")
ITEMS = {
    "item": ["a", "b", "c"],
    "year": [1990, 1991, 1990],
    "genres": ["war", "war fun", ""],
    "cost": [1.0, 3.0, 2.0],
}
CATALOGUE = data.Schema(None, ("item", "year"), dense=("cost",), multivalent=("genres",))


def test_a_log_is_read_by_its_schema(tmp_path):
    schema = data.Schema(None, KEYS, time="day", multivalent=("words",), dense=("price",))
    found = data.interactions(LOG, schema)
    assert found["names"] == {"user": ["u1", "u2", "u3"], "item": ["a", "b", "c"]}
    assert found["users"].tolist() == [1, 0, 1, 2, 0, 0] and found["items"].tolist() == [1, 0, 0, 2, 1, 2]
    assert found["time"].tolist() == LOG["day"] and found["sizes"] == {"words": 4}
    assert [found["vocabularies"]["words"][i - 1] for i in found["ids"]["words"][0]] == ["red", "tea"]
    assert found["masks"]["words"].sum(axis=1).tolist() == [2, 0, 1, 1, 1, 1]
    prices = np.array([1.0, 2.0, 3.6, 4.0, 5.0, 6.0])  # a missing one is the mean
    known = np.array([1.0, 2.0, 4.0, 5.0, 6.0])
    np.testing.assert_allclose(found["dense"][:, 0], (prices - 3.6) / known.std(), rtol=1e-5)
    lines = [",".join(map(str, row)) for row in zip(LOG["user"], LOG["item"], LOG["day"], strict=True)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,day", *lines]) + "\n")
    again = data.interactions(tmp_path / "log.csv", data.Schema(None, KEYS, time="day"))
    np.testing.assert_array_equal(again["items"], found["items"])
    assert again["names"] == found["names"] and again["dense"].shape == (6, 0)


def test_rows_that_are_no_positives_are_left_out():
    schema = data.Schema("rating", KEYS, time="day", threshold=3, multivalent=("words",))
    found = data.interactions(LOG, schema)
    assert found["items"].tolist() == [1, 0, 2, 2] and found["time"].tolist() == [4, 2, 3, 6]
    assert found["names"]["user"] == ["u1", "u2", "u3"] and len(found["ids"]["words"]) == 4


def test_queries_may_belong_to_nobody():
    found = data.interactions(LOG, data.Schema(None, ("item",), multivalent=("words",)), user=None)
    assert found["users"] is None and "user" not in found["names"]


def test_a_catalogue_has_a_row_for_each_item_and_new_rows_are_read_alike():
    found = data.catalogue(ITEMS, CATALOGUE)
    assert found["names"] == ["a", "b", "c"] and found["ids"]["item"].tolist() == [1, 2, 3]
    assert found["ids"]["year"].tolist() == [1, 2, 1] and found["sizes"] == {
        "item": 4,
        "year": 3,
        "genres": 3,
    }
    assert found["masks"]["genres"].tolist() == [[True, False], [True, True], [False, False]]
    np.testing.assert_allclose(found["dense"].mean(), 0, atol=1e-6)
    rare = data.catalogue(ITEMS, CATALOGUE, least=2)
    assert rare["ids"]["year"].tolist() == [1, 0, 1] and rare["ids"]["item"].tolist() == [1, 2, 3]
    new = {"item": ["d"], "year": [2001], "genres": ["fun odd war"], "cost": [3.0]}
    more = data.more_rows(found, new)
    assert more["names"] == ["d"] and more["ids"]["item"].tolist() == [0] == more["ids"]["year"].tolist()
    words = found["vocabularies"]["genres"]
    expected = [words.index("fun") + 1, 0, words.index("war") + 1]
    assert more["ids"]["genres"][0].tolist() == expected
    np.testing.assert_allclose(more["dense"][0], found["dense"][1])


def test_names_find_their_rows():
    found = data.catalogue(ITEMS, CATALOGUE)
    assert data.catalogue_rows(["c", "a"], found).tolist() == [2, 0]
    assert data.catalogue_rows(["x", "a"], found, missing="mark").tolist() == [-1, 0]
    with pytest.raises(ValueError, match="item 'x' and 1 more of 3 are not in the catalogue"):
        data.catalogue_rows(["x", "a", "y"], found)


def changed(source, **columns):
    return source | columns


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: data.catalogue(changed(ITEMS, item=["a", "b", "a"]), CATALOGUE),
            "item 'a' is in rows 1 and 3",
        ),
        (
            lambda: data.catalogue(changed(ITEMS, item=["a", "", "c"]), CATALOGUE),
            "'item': a row has an empty cell",
        ),
        (lambda: data.catalogue({n: [] for n in ITEMS}, CATALOGUE), "holds no rows"),
        (lambda: data.catalogue(ITEMS, CATALOGUE, key="film"), "'film' is not among categorical"),
        (lambda: data.catalogue(ITEMS, data.Schema("year", ("item",))), "no label and no time"),
        (
            lambda: data.more_rows(data.catalogue(ITEMS, CATALOGUE), ITEMS),
            "item 'a' is in the catalogue already",
        ),
        (
            lambda: data.more_rows(data.catalogue(ITEMS, CATALOGUE), changed(ITEMS, item=["d", "e", "d"])),
            "item 'd' is in rows 1 and 3",
        ),
        (
            lambda: data.more_rows(data.catalogue(ITEMS, CATALOGUE), {n: [] for n in ITEMS}),
            "holds no rows",
        ),
        (lambda: data.interactions(LOG, data.Schema(None, ("user",))), "'item' is not among categorical"),
        (lambda: data.interactions(changed(LOG, user=[None] * 6), data.Schema(None, KEYS)), "empty cell"),
        (lambda: data.interactions({n: [] for n in LOG}, data.Schema(None, KEYS)), "holds no rows"),
        (
            lambda: data.interactions(LOG, data.Schema("rating", KEYS, threshold=9)),
            "no row is 1; check threshold=",
        ),
        (lambda: data.interactions({"user": ["u"]}, data.Schema(None, KEYS)), "column 'item' is missing"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Splits


def random_log(seed, count=400, users=30):
    rng = np.random.default_rng(seed)
    return rng.integers(users, size=count), rng.integers(20, size=count), rng.integers(100, size=count)


@pytest.mark.parametrize("timed", [True, False])
def test_the_last_event_of_each_user_tests(timed):
    users, _, time = random_log(0, count=90)
    time = time if timed else None
    rows = data.leave_last_out(users, time)
    every = np.concatenate(list(rows.values()))
    assert sorted(every) == list(range(90))
    for user in range(30):
        own = [r for r in range(90) if users[r] == user]
        own.sort(key=lambda r: (time[r], r) if timed else r)
        split = own if len(own) < 3 else own[:-2]
        assert sorted(r for r in rows["train"] if users[r] == user) == sorted(split)
        assert [r for r in rows["test"] if users[r] == user] == (own[-1:] if len(own) >= 3 else [])
        assert [r for r in rows["validation"] if users[r] == user] == (own[-2:-1] if len(own) >= 3 else [])


def test_users_with_one_event_only_train():
    rows = data.leave_last_out(np.array([0, 1, 1, 1, 2]))
    assert rows["train"].tolist() == [0, 1, 4] and rows["test"].tolist() == [3]
    with pytest.raises(ValueError, match="the most active has 1 events; leave-last-out needs 3"):
        data.leave_last_out(np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="least=2"):
        data.leave_last_out(np.array([0, 0, 0]), least=2)
    with pytest.raises(ValueError, match=r"users: <U3 of shape \(2,\); give int \[N\]"):
        data.leave_last_out(["ann", "bob"])


@pytest.mark.parametrize("seed", range(3))
def test_no_event_that_trains_is_as_late_as_one_that_tests(seed):
    _, _, time = random_log(seed)
    rows = data.split_in_time(time)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(400))
    assert time[rows["train"]].max() < time[rows["validation"]].min()
    assert time[rows["validation"]].max() < time[rows["test"]].min()
    assert 0.7 < len(rows["train"]) / 400 <= 0.8


def test_splits_in_time_name_their_mistakes():
    with pytest.raises(ValueError, match="name the column of times"):
        data.split_in_time(None)
    with pytest.raises(ValueError, match="fractions=\\(0.5, 0.1, 0.1\\)"):
        data.split_in_time([1, 2], fractions=(0.5, 0.1, 0.1))
    with pytest.raises(ValueError, match="leave none of 3 events to train on"):
        data.split_in_time([1, 1, 1])


@pytest.mark.parametrize("length", [1, 4, 500])
def test_a_history_holds_what_came_before(length):
    users, items, time = random_log(1)
    found, mask = data.histories(users, items, time, length=length)
    for row in range(0, 400, 7):
        before = [r for r in range(400) if users[r] == users[row] and (time[r], r) < (time[row], row)]
        before.sort(key=lambda r: (time[r], r), reverse=True)
        expected = [items[r] for r in before[:length]]
        assert found[row][mask[row]].tolist() == expected and mask[row].sum() == len(expected)
        assert not found[row][~mask[row]].any()


def test_rows_of_a_catalogue_are_drawn_alike_or_as_the_log_has_them():
    drawn = np.concatenate([data.uniform_rows(40, 10, seed=(0, t)) for t in range(800)])
    np.testing.assert_allclose(np.bincount(drawn) / 200, 1, atol=0.3)
    assert all(len(set(x)) == 10 for x in drawn.reshape(-1, 10).tolist())
    np.testing.assert_array_equal(
        data.uniform_rows(40, 10, seed=(3, 4)), data.uniform_rows(40, 10, seed=(3, 4))
    )
    weights = np.array([0.0, 1.0, 3.0, 0.0])
    drawn = np.bincount(data.uniform_rows(4, 4000, seed=1, weights=weights), minlength=4)
    assert drawn[0] == drawn[3] == 0 and abs(drawn[2] / 4000 - 0.75) < 0.03
    with pytest.raises(ValueError, match="size: 5 rows of 4"):
        data.uniform_rows(4, 5, seed=0)
    with pytest.raises(ValueError, match="weights"):
        data.uniform_rows(4, 2, seed=0, weights=np.zeros(4))


def test_movielens_is_read_with_what_is_known_of_films_and_users():
    pytest.importorskip("importlib.util").find_spec("recbole") or pytest.skip("recbole is not installed")
    found = data.movielens_interactions()
    log = found["interactions"]
    assert len(log["items"]) == 100_000 and len(log["names"]["user"]) == 943
    film = found["titles"].index("Toy Story")
    genres = found["items"]["ids"]["genres"][film][found["items"]["masks"]["genres"][film]]
    listed = [found["items"]["vocabularies"]["genres"][i - 1] for i in genres]
    assert found["items"]["names"][film] == "1" and sorted(listed) == ["Animation", "Children's", "Comedy"]
    assert found["items"]["vocabularies"]["year"][found["items"]["ids"]["year"][film] - 1] == "1995"
    rows = data.catalogue_rows(log["names"]["item"], found["items"])[log["items"]]
    assert np.bincount(rows)[film] == 452  # ratings of this film
    assert (np.bincount(rows) <= 5).sum() == 384
    good = data.movielens_interactions(least_rating=4)["interactions"]
    assert len(good["items"]) == 55_375
