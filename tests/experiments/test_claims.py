"""Every part of an experiment runs as many seeds as were asked for."""

import numpy as np

from experiments import matryoshka, starbucks
from experiments.common import masked_words, nested


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
