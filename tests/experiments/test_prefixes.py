"""The story prefixes: networks with heads on prefixes, searches by prefixes, rates, kept results."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from stories import ran

from experiments.nesting import digits
from experiments.prefixes import __main__ as prefixes
from experiments.prefixes import heads, searches
from experiments.shared import results


def test_components_of_full_size_keep_every_score():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1300, 2, 6)).astype(np.float32)
    head = {"kernel": rng.normal(size=(2, 6, 10)), "bias": rng.normal(size=(2, 10))}
    turned, found = heads.components(z, head, 6)
    for s in range(2):
        wanted = z[:, s] @ head["kernel"][s] + head["bias"][s]
        np.testing.assert_allclose(found[:, s] @ turned["kernel"][s] + turned["bias"][s], wanted, atol=1e-4)
    assert heads.components(z, head, 2)[1].shape == (1300, 2, 2)


def test_networks_with_heads_learn_every_prefix():
    images, labels = digits.read(1)
    for own in ({"2": 2, "8": 8}, {"all": 8}):
        made, z = heads.fit_network(images, labels, 8, own, sizes=(2, 8), steps=150, rate=2e-3)
        short = made["2"] if "2" in made else heads.cut(made["all"], 2)
        assert heads.accuracies(short, z[..., :2], labels)["head"][0] > 0.3
        assert heads.accuracies(made.get("8", made.get("all")), z, labels)["head"][0] > 0.8


def test_searches_by_prefixes_find_and_read_what_loops_say():
    images, labels = digits.read(2)
    vectors = np.random.default_rng(0).normal(size=(1797, 2, 64)).astype(np.float32)
    vectors[..., :16] += 3 * images.reshape(1797, 2, 64)[..., ::4]
    rows = {row["search"]: row for row in searches.measure({"a": vectors}, labels)}
    assert list(rows) == list(searches.PLANS)
    layers = vectors[:, :, None]
    for name, size in (("full vectors", 64), ("prefix alone", 8)):
        wanted = digits.nearest(layers, labels, [(0, size)]).mean()
        assert rows[name]["accuracy"] == pytest.approx(wanted, abs=2e-3)
    assert rows["full vectors"]["10 nearest by full vectors"] == 1
    low, high = (rows[n]["10 nearest by full vectors"] for n in ("prefix alone", "adaptive"))
    assert low < high < 1
    assert [row["bytes read"] for row in rows.values()] == [
        4 * 1297 * 64,
        4 * 1297 * 8,
        4 * (1297 * 8 + 50 * 64),
        4 * (1297 * 4 + 200 * 8 + 100 * 16 + 50 * 64),
    ]


def test_rates_are_tried_without_a_search_and_without_test_images(tmp_path, monkeypatch):
    seen = []

    def fit(images, labels, width, own, *, sizes, steps, rate):
        seen.append((len(images), rate))
        z = np.zeros((len(images), 1, width), np.float32)
        made = {n: {"kernel": np.zeros((1, size, 10)), "bias": np.zeros((1, 10))} for n, size in own.items()}
        return made, z

    monkeypatch.setattr(heads, "fit_network", fit)
    cfg = prefixes.Config(seeds=1, steps=2, validate=True)
    result = prefixes.run(dataclasses.replace(cfg, quick=True))
    assert set(seen) == {(1297, rate) for rate in prefixes.TRIED} and list(result.tables) == [prefixes.TITLE]
    arms = {row["arm"] for row in result.tables[prefixes.TITLE]}
    assert arms == {f"{arm}, rate {rate:g}" for arm in prefixes.RATES for rate in prefixes.TRIED}
    seen.clear()
    saved = ran(prefixes, tmp_path, prefixes.figures, seeds=1, steps=2, quick=True)
    assert {n for n, _ in seen} == {1797} and set(saved["tables"]) == {prefixes.TITLE, prefixes.SEARCH}
    assert next(tmp_path.glob("*.png")).stat().st_size > 5_000 and len(saved["claims"]) == 4


KEPT = pathlib.Path(prefixes.__file__).parent / "results"


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.json")), ids=lambda p: p.stem)
def test_kept_numbers_are_of_the_rates_of_today(path):
    saved = json.loads(path.read_text())
    arms = {row["arm"] for row in saved["tables"][prefixes.TITLE]}
    if saved["config"]["validate"]:
        assert arms == {f"{arm}, rate {rate:g}" for arm in prefixes.RATES for rate in prefixes.TRIED}
    else:
        assert arms == {*prefixes.RATES, "cut", "PCA"} and len(saved["claims"]) == len(prefixes.CLAIMS)


def test_rates_are_the_best_of_the_kept_validation_and_not_at_its_ends():
    (rows,) = json.loads((KEPT / "validate.json").read_text())["tables"].values()
    for arm, rate in prefixes.RATES.items():
        mean = {r: sum(x["mean"] for x in rows if x["arm"] == f"{arm}, rate {r:g}") for r in prefixes.TRIED}
        assert max(mean, key=mean.get) == rate
        assert min(prefixes.TRIED) < rate < max(prefixes.TRIED)


def test_claims_ask_every_size():
    gaps = {
        f"MRL - {other}, {by}": [[0.0, -0.01]] * 5 for other in ("alone", "cut") for by in ("head", "1-NN")
    }
    found = results.answered(prefixes.CLAIMS, results.Result({}, {"prefixes": {"differences": gaps}}))
    assert [row["verdict"] for row in found] == [results.REPRODUCED, results.NOT] * 2


@pytest.mark.parametrize("given, flag", [({"seeds": 0}, "--seeds 0"), ({"steps": 0}, "--steps 0")])
def test_bad_flags_are_refused_by_name(given, flag):
    with pytest.raises(ValueError, match=flag):
        prefixes.Config(**given)
