"""Scores of layers and sizes: loops say the same, an encoder cut there too, and bad input is refused."""

import numpy as np
import pytest
from models import write_model
from scipy import stats

from jaxembed import encoders, recipes


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return encoders.pretrained.load(write_model(tmp_path_factory.mktemp("models") / "bert"))


def pairs(scored):
    words = [f"w{i}" for i in range(5, 29)]
    found = {"first": [f"{w} {words[n - 1]}" for n, w in enumerate(words)]}
    found["second"] = [f"{words[n - 1]} w29" for n in range(len(words))]
    return found | ({"scores": np.arange(24) % 5} if scored else {})


@pytest.mark.parametrize("scored", [False, True])
def test_a_pair_is_worth_what_the_encoder_cut_there_is_worth(encoder, scored):
    grid = [(1, 4), (encoder.depth, 8), (encoder.depth, encoder.width)]
    given = pairs(scored)
    found = recipes.score_layers(encoder, given, grid, k=3, length=7, batch_size=5)
    for value, (n, size) in zip(found, grid, strict=True):
        lean = encoder.first(n)
        first, second = (lean.encode_texts(given[side])[:, :size] for side in ("first", "second"))
        first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
        if scored:
            wanted = stats.spearmanr((first * second).sum(1), given["scores"]).statistic
        else:
            ahead = (first @ second.T > (first * second).sum(1)[:, None] + 1e-6).sum(axis=1)
            wanted = (ahead < 3).mean()
        assert value == pytest.approx(wanted, abs=1 / 24 + 1e-6 if not scored else 1e-4)


def test_bad_input_is_refused_by_name(encoder):
    given = pairs(True)
    for changed, grid, message in (
        ({}, [(9, 4)], r"grid: \(9, 4\) is outside blocks 0\.\."),
        ({}, [(1, 0)], r"grid: \(1, 0\) is outside"),
        ({}, [(1, encoder.width + 1)], r"and sizes 1\.\."),
        ({}, [], "grid=.*give at least one pair"),
        ({"first": []}, [(1, 4)], "pairs: 0 first texts"),
        ({"scores": [1]}, [(1, 4)], "pairs: 24 first texts and .*'scores': 1"),
        ({"second": ["w5"]}, [(1, 4)], "'second': 1"),
    ):
        with pytest.raises(ValueError, match=message):
            recipes.score_layers(encoder, given | changed, grid)
    with pytest.raises(ValueError, match="k=0"):
        recipes.score_layers(encoder, given, [(1, 4)], k=0)
