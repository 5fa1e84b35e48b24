"""What experiments may claim of few seeds: intervals of paired differences and of shares."""

import json

import numpy as np
import pytest
from scipy import stats

from experiments import matryoshka, starbucks
from experiments.common import masked_words, nested, paired
from experiments.common.report import RESULTS


def test_the_interval_is_that_of_a_paired_t_test():
    one, two = np.random.default_rng(0).normal(size=(2, 7))
    wanted = stats.ttest_rel(one, two).confidence_interval(0.9)
    mean, low, high = paired.interval(one - two, level=0.9)
    np.testing.assert_allclose((low, high), (wanted.low, wanted.high), rtol=1e-12)
    assert mean == pytest.approx((one - two).mean())
    with pytest.raises(ValueError, match="differences: 1 of them"):
        paired.interval([0.1])


def test_the_interval_of_a_share_is_wilsons():
    for hits, count in ((92, 168), (0, 20), (20, 20)):
        wanted = stats.binomtest(hits, count).proportion_ci(method="wilson")
        np.testing.assert_allclose(paired.share(hits, count), (hits / count, *wanted), atol=1e-12)


def test_equal_arms_rarely_pass():
    """Two of three seeds are won by chance half of the time, an interval above 0 in one of forty."""
    draws = np.random.default_rng(0).normal(size=(2000, 5))
    held = np.mean([paired.claim("x", row)["holds"] for row in draws])
    assert 0.015 < held < 0.035
    assert np.mean((draws[:, :3] > 0).sum(axis=1) >= 2) > 0.45


def test_a_claim_needs_five_seeds_and_every_column():
    few, many = np.array([0.2, 0.3, 0.2, 0.3]), np.array([0.2, 0.3, 0.2, 0.3, 0.25])
    row = paired.claim("x", few)
    assert (row["holds"], row["low"], row["high"], row["seeds"]) == (None, None, None, 4)
    assert row["mean"] == pytest.approx(0.25) and row["each"] == few.tolist()
    assert paired.claim("x", many)["holds"] and not paired.claim("x", many, margin=0.24)["holds"]
    both = np.stack([many, many - 0.3], axis=1)
    row = paired.claim("x", both)
    assert not row["holds"] and row["mean"] == pytest.approx(-0.05)
    assert paired.claim("x", both, margin=-0.2)["holds"]


def test_a_denied_claim_holds_where_nothing_is_above():
    many = np.array([0.2, 0.3, 0.2, 0.3, 0.25])
    assert paired.claim("x", np.zeros(5), denied=True)["holds"]
    assert not paired.claim("x", many, denied=True)["holds"]
    row = paired.claim("x", np.stack([many - 0.3, many], axis=1), denied=True)
    assert not row["holds"] and row["mean"] == pytest.approx(0.25)
    assert not paired.claim("x", np.full(5, np.nan), denied=True)["holds"]


def test_what_was_claimed_is_printed_and_verdicts_are_gathered(capsys):
    told = paired.told([paired.claim("a", [1.0] * 5), paired.claim("b", [1.0] * 3)])
    assert told["criteria"] == {"a": True} and len(told["claims"]) == 2
    printed = capsys.readouterr().out
    assert "claim" in printed and "low" in printed and not paired.told([])["claims"]


def test_every_part_runs_as_many_seeds_as_were_asked_for(monkeypatch):
    """At most 3 of them ran in some parts, beside a config that said 5."""
    rng, seen = np.random.default_rng(0), []
    monkeypatch.setattr(masked_words, "glosses", lambda *size: {"ids": np.zeros((600, 4), np.int32)})
    monkeypatch.setattr(masked_words, "fit", lambda *given, **options: seen.append(options["seed"]))
    monkeypatch.setattr(masked_words, "measure", lambda *given: rng.normal(size=(3, 4)))
    made = starbucks.glosses(starbucks.Config(seeds=5))
    assert seen == [0, 1, 2, 3, 4] * 2 and len(made["criteria"]) == 3
    assert [row["seeds"] for row in made["claims"]] == [5, 5, 5]

    def fit(recipe, images, labels, **options):
        seen.append(images.shape[1])

    monkeypatch.setattr(nested, "fit_digits", fit)
    monkeypatch.setattr(nested, "nearest", lambda *given: rng.normal(size=(seen[-1], len(given[-1]))))
    for asked, ran in ((None, 3), (4, 4)):
        made = matryoshka.by_layer(matryoshka.Config(seeds=asked))
        assert made["seeds"] == seen[-1] == ran


def test_results_have_verdicts_where_enough_seeds_ran():
    found = []
    for path in sorted(RESULTS.glob("*.json")):
        saved = json.loads(path.read_text())
        parts = [saved, *(x for x in saved.values() if isinstance(x, dict))]
        claims = [row for part in parts for row in part.get("claims", [])]
        enough = {row["claim"]: row["holds"] for row in claims if row["seeds"] >= paired.LEAST}
        assert not claims or saved["criteria"] == enough, path.name
        found += [path.stem] * bool(claims)
    assert {"starbucks", "matryoshka", "definitions", "false_negatives"} <= set(found)
