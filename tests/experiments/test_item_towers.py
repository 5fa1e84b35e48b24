"""Item towers: the logs hold what they say, differences are paired, and files of a user are compared too."""

import json

import numpy as np
import pytest
from stories import ran

from experiments.item_towers import __main__ as story
from experiments.item_towers import logs, measure
from experiments.shared import flags, results
from jaxembed import data, recipes

SMALL = story.Config(pairs=600, test=60, rare=3)


def counts_of(log):
    """Training pairs of every item of the log."""
    return np.bincount(
        log["interactions"]["items"][log["train"]], minlength=len(log["interactions"]["names"]["item"])
    )


@pytest.fixture(scope="module")
def nouns():
    try:
        data.wordnet_counts()
        data.wordnet(parts=("adv",))
    except FileNotFoundError:
        pytest.skip("needs WordNet of `make data`")
    return logs.wordnet(SMALL, 0)


def test_pairs_of_senses_are_siblings_and_tests_are_none_that_train(nouns):
    senses = {s["id"]: s for s in data.wordnet(parts=["noun"])}
    log, items = nouns["interactions"], nouns["items"]
    vocabulary, asked = log["vocabularies"]["words"], log["ids"]["words"]
    pairs = [
        (tuple(ids[mask]), item)
        for ids, mask, item in zip(asked, log["masks"]["words"], log["items"], strict=True)
    ]
    train = {pairs[r] for r in nouns["train"]}
    assert len(nouns["train"]) == 600 and len(nouns["test"]) == 60 and len(nouns["flat"]) == 90
    assert not any(pairs[r] in train for part in ("validation", "test", "flat") for r in nouns[part])
    siblings = {}
    for i in items["names"]:
        siblings.setdefault(senses[i]["parents"][0], []).append(i)
    for r in nouns["flat"][:20]:
        target = log["names"]["item"][log["items"][r]]
        words = {vocabulary[i - 1] for i in pairs[r][0]}
        known = [set(logs.words_of(senses[i])) for i in siblings[senses[target]["parents"][0]] if i != target]
        assert words in known
    counts = counts_of(nouns)[log["items"][nouns["flat"]]]
    assert (counts[:60] >= 1).all() and (counts[:60] <= 3).all() and (counts[60:] == 0).all()
    information = data.mutual_information(items["ids"], items["masks"], kind="adjusted")
    names = sorted(items["ids"])
    told = {n: x for n, x in zip(names, information[names.index("parent")], strict=True)}
    assert told["grandparent"] > 1 and told["topic"] > 1 and told["item"] < 0.01 and told["letter"] < 0.5


def test_generated_items_have_correlated_features_and_users_a_taste():
    log = logs.synthetic(SMALL, 0, count=300, users=50)
    items = log["items"]
    names = sorted(items["ids"])
    information = data.mutual_information(items["ids"], items["masks"], kind="adjusted")
    told = dict(zip(names, information[names.index("group")], strict=True))
    assert told["leaf"] > 1 and told["brand"] > 0.1 and told["colour"] < 0.1 and told["item"] < 0.01
    counts = counts_of(log)[log["interactions"]["items"][log["flat"]]]
    assert (counts <= 3).all() and (counts == 0).sum() == 30 and (counts > 0).sum() == 60
    first = logs.synthetic(SMALL, 0, count=300, users=50)["interactions"]
    np.testing.assert_array_equal(first["items"], log["interactions"]["items"])
    assert (logs.synthetic(SMALL, 1, count=300, users=50)["interactions"]["items"] != first["items"]).any()


def test_films_that_test_leave_one_rating_each():
    try:
        log = logs.movielens(story.Config(test=500), 0)
    except FileNotFoundError:
        pytest.skip("needs recbole of `make data`")
    parts = [log[part] for part in ("train", "validation", "test", "flat")]
    assert sorted(np.concatenate(parts)) == list(range(100_000)) and len(log["test"]) == 500
    for part in ("validation", "flat"):
        held = log["interactions"]["items"][log[part]]
        assert len(set(held)) == len(held) > 1000


# Differences


def table(**recalls):
    """Rows of arms whose runs are the given (all, rare) recalls."""
    return measure.rows({arm: [{"all": a, "rare": r} for a, r in found] for arm, found in recalls.items()})


ROWS = table(a=[(0.5, 0.2), (0.6, 0.4)], b=[(0.4, 0.3), (0.4, 0.1)])


def test_differences_are_paired_by_seed():
    assert measure.difference(ROWS, "a", "b", ("rare",)).round(6).tolist() == [[-0.1], [0.3]]
    assert measure.difference(ROWS, "a", "b", ("rare",), "all").round(6).tolist() == [[-0.2], [0.1]]
    assert measure.difference(ROWS, "a", "b", ("new",)) is None
    assert measure.difference(ROWS, "a", "c", ("rare",)) is None
    (gain,) = measure.gains(ROWS, "b")
    assert gain["second loss"] == "a" and round(gain["all"], 6) == 0.15 and gain["± rare"] > 1


def test_claims_are_asked_where_their_arms_ran():
    base = [(0.5, 0.2), (0.5, 0.3), (0.5, 0.2), (0.5, 0.3), (0.5, 0.2)]
    above = [(a + 0.01, r + 0.05 + 0.001 * i) for i, (a, r) in enumerate(base)]
    rows = table(**{story.NONE: base, story.RANDOM: above})
    (answer,) = results.answered(story.CLAIMS, results.Result({"recall": rows}))
    assert answer["sentence"].startswith("Random masks") and answer["verdict"] == results.REPRODUCED
    rows = table(**{story.NONE: base, story.CORRELATED: above})
    first, second = results.answered(story.CLAIMS, results.Result({"recall": rows}))
    assert (first["verdict"], second["verdict"]) == (results.REPRODUCED,) * 2
    assert round(second["ours"], 4) == 0.042


# Runs


def own_files(folder):
    rng = np.random.default_rng(0)
    users, items = rng.integers(20, size=(2, 400))
    lines = [f"{u},{i},{t}" for t, (u, i) in enumerate(zip(users, items, strict=True))]
    (folder / "log.csv").write_text("\n".join(["who,what,when", *lines]) + "\n")
    films = [f"{i},{i % 4},{1990 + i % 3},a{i % 2}|b{i % 5},{i * 0.5}" for i in range(20)]
    (folder / "films.csv").write_text("\n".join(["what,kind,year,tags,cost", *films]) + "\n")
    given = {"interactions": folder / "log.csv", "items": folder / "films.csv", "user": "who", "item": "what"}
    return given | {"time": "when", "multivalent": ("tags",), "joint": "|", "dense": ("cost",)}


@pytest.mark.slow
@pytest.mark.experiment
def test_files_of_a_user_are_compared_and_the_best_model_is_kept(tmp_path):
    given = own_files(tmp_path) | {"epochs": 1, "seeds": 2, "batch_size": 64, "workdir": tmp_path / "model"}
    given |= {"results": tmp_path}
    cfg = story.Config(**given, k=5)
    found = story.run(cfg)
    assert [row["second loss"] for row in found.tables["recall"]] == list(story.ARMS)
    assert len(found.tables["gain over none"]) == len(story.ARMS) - 1
    assert flags.run_name(cfg).startswith("own_log_own_films")
    model = recipes.load_towers(tmp_path / "model")
    assert model.recommend(["3"], 3, seen=True)[1].shape == (1, 3)
    path = results.finish("item_towers", "own", cfg, found, story.CLAIMS, story.figures, 1)
    assert path.with_suffix(".png").stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.experiment
def test_a_short_run_of_generated_items_saves_a_picture(tmp_path):
    short = {"data": "synthetic", "pairs": 600, "test": 60, "epochs": 1, "seeds": 2}
    saved = ran(story, tmp_path, story.figures, **short)
    assert (
        json.dumps(saved["tables"]["recall"]).count("rare")
        and next(tmp_path.glob("*.png")).stat().st_size > 5000
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"user": "who"}, "--user: describes a log of your own"),
        ({"interactions": story.pathlib.Path("a.csv"), "multivalent": ("x",)}, "give that file"),
        ({"interactions": story.pathlib.Path("a.csv"), "pairs": 500}, "--pairs: has no meaning with"),
        ({"seeds": 0}, "--seeds 0: choose 1 to 100"),
        ({"temperature": 0.0}, "--temperature 0.0"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        story.Config(**given)
