"""The sweep of compressed tables: every method trains in a cell; what is said follows from the numbers."""

import json

import numpy as np
import pytest

from experiments.shared import results
from experiments.table_compression import __main__ as story
from experiments.table_compression import answers, arms, cells, training
from jaxembed import data, tables

BUDGETS = (0.5, 0.1)
CELL = {"data": "planted", "limit": None, "epochs": 1, "seeds": 1}


@pytest.fixture
def small(monkeypatch):
    """A task of 60 values a field in place of the data sets."""
    task = training.Task(data.toy.planted_clicks(0, rows=3000, values=60), 250, 2)
    monkeypatch.setattr(training, "task", lambda *given: task)
    arms._supernet.cache_clear()
    yield task
    arms._supernet.cache_clear()


def computed(name, budget):
    return cells.compute(CELL | {"method": name, "budget": budget})


def check(found, budget, full):
    assert found["bytes"] <= 1.01 * budget * full and 0.4 < found["AUCs"][0] < 1
    assert set(found["rates"]) == {str(rate) for rate in training.RATES}
    assert found["rate"] == max(training.RATES, key=lambda rate: found["rates"][str(rate)])
    assert found["training bytes"] > found["bytes"] / 2 and min(found["lookup µs"]) > 0
    json.dumps(found, allow_nan=False)


@pytest.mark.experiment
@pytest.mark.parametrize("name", ["hash", "OptEmbed"])
def test_a_cell_trains_chooses_stores_and_measures(small, name):
    found, full = computed(name, 0.5), 4 * training.WIDTH * sum(small.sizes.values())
    assert found["asked"] == full // 2
    check(found, 0.5, full)


@pytest.mark.slow
@pytest.mark.experiment
@pytest.mark.parametrize("name", [m for m in arms.METHODS if m not in ("hash", "OptEmbed", "MDE")])
def test_every_method_has_a_cell(small, name):
    found, full = computed(name, 0.5), 4 * training.WIDTH * sum(small.sizes.values())
    assert found["asked"] == full // 2
    check(found, 0.5, full)


@pytest.mark.parametrize("name", [m for m in arms.METHODS if m not in ("OptEmbed", "AutoDim")])
def test_every_method_fits_its_budget_or_names_its_floor(small, name):
    full = 4 * training.WIDTH * sum(small.sizes.values())
    sizes = []
    for budget in (0.5, 0.02):
        try:
            sizes.append(tables.storage_bytes(arms.make(small, name, round(budget * full))))
            assert sizes[-1] <= 1.01 * budget * full
        except ValueError as error:
            assert "bytes=" in str(error) and ("at least" in str(error) or "give as many" in str(error))
    assert sizes or name == "MDE"  # which gives fields of equal size equal widths


def test_a_method_that_does_not_fit_says_why(small):
    found = computed("INT8", 0.1)
    assert found["said"] == "does not fit" and "integer_table takes" in found["floor"]
    row = answers.row_of(CELL | {"method": "INT8", "budget": 0.1}, found)
    assert row["AUC"] is None and row["floor"] == found["floor"]


# What is said of the numbers


def row(method, budget, auc, **more):
    found = {"table": "toy", "method": method, "budget": budget, "bytes": 100, "AUC": auc, "± AUC": 0.001}
    found |= {"rate": 0.1, "training s": 1.0, "training bytes": 300, "lookup / gather": 1.0, "asked": 100}
    return found | {"AUCs": [auc] * 3, "validation": [auc] * 3} | more


ROWS = [
    row("full table", None, 0.80, bytes=1000),
    row("hash", 0.5, 0.76),
    row("ROBE", 0.5, 0.785, **{"lookup / gather": 2.5}),
    row("OptEmbed", 0.5, 0.81, **{"training bytes": 3000, "training s": 3.0}),
    row("INT16", 0.5, 0.7995),
    row("hash", 0.1, 0.70),
    row("ROBE", 0.1, 0.74),
    row("CompoEmb", 0.1, None),
]


def needs(budget):
    return {r["need"]: r for r in answers.recommended(ROWS) if r["budget"] == budget}


def test_recommendations_follow_from_the_numbers():
    half = needs(0.5)
    assert half["stored bytes alone"]["method"] == "OptEmbed" and half["stored bytes alone"]["as good"] == []
    assert half["bytes in training too"]["method"] == "INT16"
    assert half["lookup at most twice a gather"]["method"] == "OptEmbed"
    assert half["training at most twice as long"]["method"] == "INT16"
    assert half["ids not known beforehand"]["method"] == "ROBE"
    assert half["stored bytes alone"]["full AUC"] == 0.80
    assert needs(0.1)["stored bytes alone"]["method"] == "ROBE"


def test_recommendations_choose_by_validation_rows_and_name_what_is_as_good():
    rows = [row("hash", 0.5, 0.75), row("ROBE", 0.5, 0.751, validation=[0.7]), row("MDE", 0.5, 0.6)]
    (told, *_) = answers.recommended(rows)
    assert told["method"] == "hash" and told["as good"] == ["ROBE"]
    rows += [row(f"m{i}", 0.5, 0.75, validation=[0.6]) for i in range(4)]
    shown = answers.advised(rows)[0]
    assert shown == {"table": "toy", "need": "stored bytes alone"} | {
        "0.5 of the bytes": "hash 0.7500 (also ROBE, m0, m1, 2 more)"
    }


def test_seconds_are_those_of_all_cells_or_unknown():
    found = [{"CPU seconds": 30.0}, {"floor": "too few bytes"}, {"CPU seconds": 12.0}]
    assert answers.seconds(found, 2) == 21
    assert answers.seconds([*found, {"wall seconds": 3}], 2) is None


def test_aucs_have_a_row_for_each_method_and_a_column_for_each_budget():
    found = answers.at_budgets(ROWS, "toy")
    assert [r["method"] for r in found] == ["full table", "ROBE", "OptEmbed", "INT16", "hash"]
    assert found[0]["0.1 of the bytes"] == "0.8000 ± 0.0010" and found[2]["0.1 of the bytes"] is None


def test_own_rows_say_whose_values_are_frequent(small):
    found = arms.own_rows(CELL | {"method": "AdaptEmb", "budget": 0.5})
    method = arms.make(small, "AdaptEmb", small.bytes // 2)
    assert found["own rows"] == np.ceil(method.settings["top"] * sum(small.sizes.values()))
    owners = [int(part.split()[0]) for part in found["values of"].split(", ")]
    assert sum(owners) == found["own rows"] and 0.25 < found["share of all reads"] < 1


def test_claims_follow_from_the_numbers():
    said = {r["sentence"]: r for r in results.answered(story.CLAIMS, results.Result({"AUC": ROWS}))}
    (winners,) = [r for s, r in said.items() if s.startswith("No method")]
    assert (winners["ours"], winners["verdict"]) == (2, results.REPRODUCED)
    (int16,) = [r for s, r in said.items() if s.startswith("INT16")]
    assert int16["ours"] == pytest.approx(-0.0005) and int16["verdict"] is None  # three seeds
    (elements,) = [r for s, r in said.items() if s.startswith("At a tenth and below")]
    assert elements["ours"] == 1.0
    (over,) = [r for s, r in said.items() if s.startswith("OptEmbed at half")]
    assert over["ours"] == pytest.approx(0.01)
    assert not any(s.startswith("INT8") for s in said)  # this run did not ask
    assert results.answered(story.CLAIMS, results.Result({"AUC": []})) == []


def test_a_picture_has_a_line_for_each_method():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    story.figures({"AUC": ROWS})["toy"](axes)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["ROBE", "OptEmbed", "INT16", "hash"]  # best first, by the mean over budgets
    assert "full table, 1 kB" in [text.get_text() for text in axes.get_legend().get_texts()]
    pyplot.close(figure)


def test_the_grid_has_a_cell_for_every_method_and_budget():
    asked = story.grid(story.Config(tables=("flights",), methods=("full table", "hash"), budgets=BUDGETS))
    assert [(c["method"], c["budget"]) for c in asked] == [("full table", None), ("hash", 0.5), ("hash", 0.1)]


def test_bad_flags_are_named():
    with pytest.raises(ValueError, match="--methods magic: choose among full table, hash"):
        story.Config(methods=("magic",))
    with pytest.raises(ValueError, match="--budgets 2: choose"):
        story.Config(budgets=(2,))


def test_members_hold_every_rate_with_every_seed():
    seeds, rates = training.members(3)
    assert len({*zip(seeds.tolist(), rates.tolist(), strict=True)}) == 3 * len(training.RATES)
    assert np.array_equal(seeds, np.sort(seeds))
