"""OptEmbed's story: measures beside a truth that is known, and answers of few and of many seeds."""

import numpy as np
import pytest

from experiments.opt_embed import __main__ as story
from experiments.opt_embed import measures
from experiments.shared import results
from jaxembed import data

CLICKS = data.toy.planted_clicks(0, rows=60, values=10)


def seed(kept_useful=0.9, widths=(8, 8, 3, 3, 2, 2, 1, 1), auc=0.8):
    """The numbers of a seed in which noise loses half of its rows."""
    useful = np.concatenate([*CLICKS["useful"].values()])
    kept = np.where(useful, np.arange(80) % 10 < 10 * kept_useful, np.arange(80) % 10 < 5)
    found = {"full table": {"AUC": 0.8, "share": 1.0}}
    for arm in story.ARMS:
        w = np.full(8, 16) if arm == "rows" else np.array(widths)
        k = np.ones(80, bool) if arm == "widths" else kept
        found[arm] = measures.of_masks(CLICKS, k, w, 16) | {"AUC": auc}
    return found


def test_masks_are_measured_against_the_truth():
    found = seed()["both"]
    useful = np.concatenate([*CLICKS["useful"].values()])
    assert found["spearman"] > 0.9 and found["ranks"] == [8, 8, 2, 2, 1, 1, 0, 0]
    assert found["kept"][1] == pytest.approx(0.9) and found["kept"][6] == pytest.approx(0.5)
    assert found["useful kept"] > found["useless kept"] and useful.sum() == 40
    counts = np.array(found["kept"]) * 10
    assert found["share"] == pytest.approx((counts * found["widths"]).sum() / (16 * 80))


def test_claims_follow_from_the_seeds():
    seeds = [seed(auc=0.8 + 0.0001 * s) for s in range(5)]
    numbers = results.Result({"arms": measures.arms(seeds, story.ARMS)}, {"by seed": seeds})
    assert {r["verdict"] for r in results.answered(story.CLAIMS, numbers)} == {results.REPRODUCED}
    poor = [seed(0.4, widths=(1, 1, 2, 2, 8, 8, 16, 16), auc=0.7 + 0.0001 * s) for s in range(5)]
    answered = results.answered(story.CLAIMS, results.Result({}, {"by seed": poor}))
    assert [r["verdict"] for r in answered].count(results.NOT) >= 3
    few = results.answered(story.CLAIMS, results.Result({}, {"by seed": seeds[:2]}))
    assert [r["verdict"] for r in few].count(None) == 5


@pytest.mark.slow
@pytest.mark.experiment
def test_a_small_run_has_all_arms():
    found = story.run(story.Config(rows=6000, values=30, epochs=1, seeds=1, generations=2))
    assert [row["table"] for row in found.tables["arms"]] == ["full table", *story.ARMS.values()]
    assert len(found.tables["fields"]) == 8


def test_bad_flags_are_named():
    with pytest.raises(ValueError, match="--rows 10: choose"):
        story.Config(rows=10)
