"""The family nesting: digits and glosses, runs of each part, claims, names and kept results."""

import json
import math
import pathlib

import jax
import numpy as np
import pytest
from models import write_model
from stories import ran

from experiments.nesting import digits, grid_results, matryoshka, starbucks
from experiments.shared import flags, inputs, results
from jaxembed import data, losses, recipes

STORIES = {"matryoshka": matryoshka, "starbucks": starbucks}
KEPT = pathlib.Path(matryoshka.__file__).parent / "results"


def kept(name):
    return json.loads((KEPT / f"{name}.json").read_text())


# Arms


def test_arms_without_a_pull_are_losses_over_layers_and_all_layers_pull_the_shallow_ones():
    layers = jax.random.normal(jax.random.key(0), (5, 4, 8))

    def square(vectors):
        return (vectors**2).sum(axis=1)

    made = {name: arm(square)(jax.random.key(1), layers) for name, arm in matryoshka.arms(3, (2, 8)).items()}
    np.testing.assert_allclose(made["last layer"], square(layers[:, 3]).mean(), rtol=1e-6)
    both = square(layers[:, 3]).mean() + square(layers[:, 3, :2]).mean()
    np.testing.assert_allclose(made["1-D MRL"], both, rtol=1e-6)
    wanted = sum(square(layers[:, n, :d]).mean() for n in (1, 2, 3) for d in (2, 8))
    pull = losses.vector_kl_to_last(layers[:, 3])
    wanted += sum(pull(layers[:, n]).mean() for n in (1, 2)) / 2
    np.testing.assert_allclose(made["all layers"], wanted, rtol=1e-5)
    second, found = sum(square(layers[:, 2, :d]).mean() for d in (2, 8)), set()
    for seed in range(8):  # layer 1 is drawn, of weight 1 either way, or layer 2, of weight 1/2
        plain, halved = (
            matryoshka.arms(3, (2, 8))[name](square)(jax.random.key(seed), layers)
            for name in ("2DMSE", "2DMSE, weights 1/n")
        )
        found.add(round(float((plain - halved) / second), 3))
    assert found == {0.0, 0.5}
    assert matryoshka.arms(1, (2, 8))["all layers"](square)(None, layers[:, :2]) > 0


# Digits


def test_digits_of_each_seed_are_all_digits_in_an_order_of_their_own():
    images, labels = digits.read(2)
    assert images.shape == (1797, 2, 8, 8) and images.min() >= 0 and images.max() == 1
    assert np.bincount(labels[:, 0]).tolist() == np.bincount(labels[:, 1]).tolist()
    assert (labels[:, 0] != labels[:, 1]).any()
    before, _ = digits.read(2, validate=True)
    np.testing.assert_array_equal(before, images[: 1797 - 500])  # the test images are not among them
    assert digits.runs({"a": 1e-2}, False) == [("a", "a", 1e-2)]
    assert digits.runs({"a": 1e-2}, True)[0] == ("a, rate 0.001", "a", 1e-3)


def test_settings_are_chosen_by_arms_at_every_rate(monkeypatch):
    rng, seen = np.random.default_rng(0), []
    monkeypatch.setattr(
        digits, "fit", lambda arm, images, labels, **rest: seen.append((len(images), rest["rate"]))
    )
    monkeypatch.setattr(digits, "nearest", lambda *given: rng.normal(size=(2, len(given[-1]))))
    rows, details = matryoshka.by_layer(matryoshka.Config(seeds=2, validate=True))
    assert {x for x in seen} == {(1297, rate) for rate in digits.RATES} and not details["differences"]
    assert [row["arm"] for row in rows[:3]] == [f"last layer, rate {rate:g}" for rate in digits.RATES]
    rows, differences, _ = starbucks.by_digits(starbucks.Config(seeds=2, validate=True))
    assert differences == {} and len(rows) == 5 * len(digits.RATES)
    chosen = matryoshka.RATES | starbucks.DIGIT_RATES
    assert set(chosen.values()) <= set(digits.RATES)


def test_nearest_is_the_accuracy_of_a_loop():
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(520, 1, 2, 3)).astype(np.float32), rng.integers(3, size=(520, 1))
    hits = 0
    for row in range(20, 520):
        a, b = vectors[row, 0, 1, :2], vectors[:20, 0, 1, :2]
        best = np.argmax(b @ a / np.linalg.norm(b, axis=1))
        hits += labels[best, 0] == labels[row, 0]
    assert digits.nearest(vectors, labels, [(1, 2)])[0, 0] == pytest.approx(hits / 500)


def test_digits_by_layer_are_scored_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(matryoshka, "FEW", (2, 4))
    monkeypatch.setattr(matryoshka, "DIGITS", {"width": 4, "batch": 64})
    saved = ran(matryoshka, tmp_path, grid_results.figures, parts=("layers",), quick=True)
    assert set(saved["details"]["layers"]["grids"]) == {"last layer", "2DMSE"} and len(saved["claims"]) == 2
    assert all(0 <= x <= 1 for grid in saved["details"]["layers"]["grids"].values() for x in grid)
    assert (tmp_path / "matryoshka_layers_quick.png").stat().st_size > 5_000


# Claims


def test_summary_tells_what_layers_gain():
    cells = ((1, 2), (1, 4), (2, 2), (2, 4))
    found = {
        "last layer": np.array([[0.1, 0.2, 0.5, 0.9]] * 5),
        "2DMSE": np.array([[0.3, 0.4, 0.5, 0.88]] * 5),
    }
    rows, differences = matryoshka.summary(found, cells)
    assert rows[0]["layers before the last"] == pytest.approx(0.15) and rows[1]["± full"] < 1e-12
    np.testing.assert_allclose(differences["layers before the last"], 0.2)
    np.testing.assert_allclose(differences["full"], -0.02)
    rows, _ = matryoshka.summary({arm: x[:1] for arm, x in found.items()}, cells)
    assert rows[0]["± full"] is None


@pytest.mark.parametrize("gain, loss, verdicts", [(0.2, -0.02, [True, True]), (0.04, -0.04, [False, False])])
def test_claims_read_the_differences_of_their_part(gain, loss, verdicts):
    differences = {"layers before the last": [gain] * 5, "full": [loss] * 5}
    found = results.answered(matryoshka.CLAIMS, results.Result({}, {"layers": {"differences": differences}}))
    assert [row["verdict"] == results.REPRODUCED for row in found] == verdicts
    assert all("digits" in row["sentence"] for row in found)
    few = {name: values[:3] for name, values in differences.items()}
    found = results.answered(matryoshka.CLAIMS, results.Result({}, {"layers": {"differences": few}}))
    assert [row["verdict"] for row in found] == [None, None]
    assert [row["ours"] for row in found] == [pytest.approx(gain), pytest.approx(loss)]


def test_every_part_runs_as_many_seeds_as_were_asked_for(monkeypatch):
    rng, seen = np.random.default_rng(0), []
    monkeypatch.setattr(data, "wordnet", lambda: [{"gloss": f"word {i}"} for i in range(600)])
    monkeypatch.setattr(recipes, "pre_train", lambda *given, **options: seen.append(options["seed"]))
    monkeypatch.setattr(recipes, "masked_word_losses", lambda *given, **options: rng.normal(size=(3, 4)))
    rows, differences, _ = starbucks.by_glosses(starbucks.Config(seeds=5))
    assert seen == [0, 1, 2, 3, 4] * 2 and {len(x) for x in differences.values()} == {5}
    assert rows[-1]["arm"] == "chance" and rows[-1]["mean"] == math.log(2000)

    monkeypatch.setattr(digits, "fit", lambda arm, images, labels, **options: seen.append(images.shape[1]))
    monkeypatch.setattr(digits, "nearest", lambda *given: rng.normal(size=(seen[-1], len(given[-1]))))
    for asked, run in (({}, 5), ({"seeds": 4}, 4)):
        _, details = matryoshka.by_layer(matryoshka.Config(**asked))
        assert details["seeds"] == seen[-1] == run == len(details["differences"]["full"])
    _, differences, _ = starbucks.by_digits(starbucks.Config(seeds=4))
    assert np.shape(differences["smallest"]) == (4, 8) and np.shape(differences["separate"]) == (4,)


# Names, flags and kept results


@pytest.mark.parametrize("name", STORIES)
def test_kept_results_have_the_name_of_their_settings(name):
    story = STORIES[name]
    usual = {"parts": ("text",), "sts": pathlib.Path("stsb")} | story.RUNS["text_sts"]
    for given, label, stem in (({}, "default", name), (usual, "text_sts", f"{name}_text_sts")):
        assert flags.run_name(story.Config(**given), story.RUNS) == label
        assert results.path_of(f"nesting.{name}", label) == KEPT / f"{stem}.json"
        saved = kept(stem)
        assert (saved["experiment"], saved["run"]) == (f"nesting.{name}", label)
        config = {n: tuple(x) if isinstance(x, list) else x for n, x in saved["config"].items()}
        config["sts"] = config["sts"] and pathlib.Path(config["sts"])
        assert flags.run_name(story.Config(**config), story.RUNS) == label
    for given in ({"seeds": 1}, {"parts": ("text",), "sts": pathlib.Path("stsb"), "seeds": 7}):
        made = flags.run_name(story.Config(**given), story.RUNS)
        assert not results.path_of(f"nesting.{name}", made).exists() and len(made) < 130


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.json")), ids=lambda p: p.stem)
def test_kept_verdicts_are_those_of_the_claims(path):
    saved = kept(path.stem)
    story = STORIES[path.stem.partition("_")[0]]
    found = results.answered(story.CLAIMS, results.Result(saved["tables"], saved["details"]))
    assert found == saved["claims"] and found
    assert set(saved["tables"]) == {story.TITLES[part] for part in saved["details"]}


def test_pictures_name_what_they_show(tmp_path):
    from matplotlib import pyplot

    for stem, metrics in (
        ("matryoshka_text_sts", ["Spearman on STS-B"]),
        ("matryoshka", ["accuracy by the nearest neighbour", "Recall@10"]),
    ):
        draw, panels = grid_results.figures(results.numbers_of(kept(stem)))[""]
        figure, axes = pyplot.subplots(*panels, squeeze=False, layout="constrained")
        draw(axes)
        pyplot.close(figure)
        heat = [a for a in figure.axes if a.images]
        assert all((a.get_xlabel(), a.get_ylabel()) == ("first numbers of the vector", "layer") for a in heat)
        assert [a.get_ylabel() for a in figure.axes if a not in heat] == metrics
    assert grid_results.figures({"config": {}, "glosses": {"differences": {}}}) == {}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_presets_leave_what_was_given(story, tmp_path):
    cfg = story.Config(pairs=tmp_path / "x.tsv", quick=True)
    assert flags.preset(cfg, quick=story.QUICK).seeds == 1 and flags.run_name(cfg) == "own_x_quick"
    chosen = flags.preset(story.Config(paper=True, steps=100), quick=story.QUICK, paper=story.PAPER)
    assert (chosen.steps, chosen.batch_size, chosen.parts) == (100, 128, ("text",))
    with pytest.raises(ValueError, match="--quick --paper: choose one"):
        flags.preset(story.Config(quick=True, paper=True), quick=story.QUICK, paper=story.PAPER)


def test_layers_and_sizes_are_set_together():
    cfg = starbucks.Config(paper=True, layers=(1, 2, 4, 12))
    assert flags.preset(cfg, [("layers", "sizes")], paper=starbucks.PAPER).sizes == starbucks.Config().sizes


def test_bad_flags_are_refused_by_name(tmp_path):
    here = tmp_path / "x"
    for story, given, message in (
        (matryoshka, {"seeds": 0}, "--seeds 0: choose 1 to 100"),
        (matryoshka, {"rates": ()}, "--rates: is empty"),
        (matryoshka, {"rates": (-1.0,)}, "--rates -1.0: choose 1e-09 to 10"),
        (matryoshka, {"rates": (math.nan,)}, "--rates nan: choose"),
        (matryoshka, {"parts": ()}, "--parts: is empty"),
        (matryoshka, {"pairs": here, "sts": here}, "--sts: has no meaning with --pairs"),
        (matryoshka, {"sts": here, "parts": ("layers",)}, "--sts: only the text part reads it"),
        (starbucks, {"pairs": here, "paper": True}, "--paper: has no meaning with --pairs"),
        (starbucks, {"layers": (0, 1, 2, 3)}, "--layers 0"),
        (starbucks, {"layers": (1, 2)}, "sizes: 4 for 2 layers"),
        (starbucks, {"glosses": 10}, "--glosses 10: choose 1,000"),
    ):
        with pytest.raises(ValueError, match=message):
            story.Config(**given)


def test_the_model_is_looked_at_before_the_work(tmp_path):
    model = write_model(tmp_path / "toy")
    for story, given, message in (
        (matryoshka, {"sizes": (4, 1000)}, "^--sizes 1000: the encoder has width"),
        (matryoshka, {"sizes": (4,), "length": 512}, "^--length 512: the encoder reads"),
        (matryoshka, {"paper": True}, "^--paper: needs --sts"),
        (starbucks, {"layers": (1, 50), "sizes": (4, 8)}, "^--layers 50: the encoder has"),
        (starbucks, {"layers": (1, 2), "sizes": (4, 1000)}, "^--sizes 1000: the encoder has"),
        (matryoshka, {"sts": tmp_path}, "--sts .*: holds no stsb-en-train.csv"),
    ):
        with pytest.raises(ValueError, match=message):
            story.look(story.Config(**{"parts": ("text",), "model": model, "length": 7} | given))
    for story, parts in ((matryoshka, matryoshka.PARTS), (starbucks, ("digits", "text"))):
        with pytest.raises(FileNotFoundError, match="^--model: no model: no such folder"):
            story.look(story.Config(model=pathlib.Path("no model"), parts=parts))


def test_wordnet_is_asked_for_where_glosses_are_read(monkeypatch):
    asked = []
    monkeypatch.setattr(inputs, "sets", lambda *names: asked.append(names))
    starbucks.look(starbucks.Config())
    starbucks.look(starbucks.Config(parts=("digits",)))
    assert asked == [("wordnet",), ()]
