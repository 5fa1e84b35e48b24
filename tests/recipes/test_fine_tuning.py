"""Fine-tuning learns what the pairs say, resumes to the same bits, and refuses what cannot work."""

import functools

import jax
import numpy as np
import pytest
from models import write_model

from jaxembed import encoders, losses, metrics, recipes, train


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return encoders.pretrained.load(write_model(tmp_path_factory.mktemp("models") / "bert"))


def pairs(count=32):
    """Word n belongs to word n + 1; both stand in the vocabulary of the small model."""
    return {
        "first": [f"w{n % 9 + 5}" for n in range(count)],
        "second": [f"w{n % 9 + 6} w3" for n in range(count)],
    }


def ranks(encoder):
    first, second = [f"w{n + 5}" for n in range(9)], [f"w{n + 6} w3" for n in range(9)]
    return metrics.partner_ranks(encoder.encode_texts(first), encoder.encode_texts(second))


SMALL = {"batch_size": 8, "length": 8, "mesh": train.make_mesh(1)}


def test_partners_come_first_after_training(encoder):
    tuned = recipes.fine_tune(encoder, pairs(), steps=60, rate=3e-3, **SMALL)
    assert (1 / ranks(tuned)).mean() > (1 / ranks(encoder)).mean() + 0.2
    assert tuned.width == encoder.width


def leaves(encoder):
    return [np.asarray(x) for x in jax.tree.leaves(encoder.params)]


def test_a_stopped_run_goes_on_to_the_same_bits(encoder, tmp_path):
    options = {"steps": 6, "rate": 1e-3, **SMALL}
    whole = recipes.fine_tune(encoder, pairs(), **options)

    class Stopped(Exception):
        pass

    def stop(tuned):
        raise Stopped

    with pytest.raises(Stopped):
        recipes.fine_tune(
            encoder, pairs(), workdir=tmp_path / "run", evaluate=stop, evaluate_every=3, **options
        )
    again = recipes.fine_tune(encoder, pairs(), workdir=tmp_path / "run", **options)
    for a, b in zip(leaves(whole), leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sizes_guide_negatives_scores_and_frozen_parts(encoder):
    texts = pairs(16)
    triplets = list(zip(texts["first"], texts["second"], reversed(texts["first"]), strict=True))
    tuned = recipes.fine_tune(
        encoder, triplets, sizes=(4, 16), guide=encoder, steps=2, frozen="^table/", **SMALL
    )
    for path, before in jax.tree.leaves_with_path(encoder.params):
        after = functools.reduce(lambda tree, key: tree[key.key], path, tuned.params)
        assert np.array_equal(before, after) == ("table" in jax.tree_util.keystr(path))
    graded = texts | {"scores": np.linspace(0, 5, 16)}
    scored = recipes.fine_tune(encoder, graded, steps=2, rate=1e-3, **SMALL)
    assert any(not np.array_equal(a, b) for a, b in zip(leaves(scored), leaves(encoder), strict=True))


def test_own_loss_and_evaluation(encoder, tmp_path):
    seen = []

    def loss(first, second, *, where):
        seen.append((first.shape, second.shape, where.shape))
        return losses.info_nce(first, second, where=where)

    options = {"loss": loss, "steps": 2, "workdir": tmp_path / "run", **SMALL}
    recipes.fine_tune(encoder, pairs(), evaluate=lambda e: {"MRR": float((1 / ranks(e)).mean())}, **options)
    assert seen[0] == ((8, 16), (8, 16), (8, 8))
    (row,) = [r for r in train.read_metrics(tmp_path / "run") if "MRR" in r]
    assert 0 < row["MRR"] <= 1


def test_equal_texts_are_not_negatives(encoder):
    masks = []

    def loss(first, second, *, where):
        masks.append(where)
        return losses.info_nce(first, second, where=where)

    same = {"first": ["w5"] * 8, "second": ["w6"] * 8}
    with jax.disable_jit():
        recipes.fine_tune(encoder, same, loss=loss, steps=1, **SMALL)
    np.testing.assert_array_equal(np.asarray(masks[0]), np.eye(8, dtype=bool))


@pytest.mark.parametrize(
    ("given", "options", "match"),
    [
        ([("a",)], {}, r"pairs: pass rows \(first, second\)"),
        ([], {}, "pairs: pass rows"),
        ([("a", "b")], {"batch_size": 2}, "batch_size: 2 is outside 1..1, the number of pairs"),
        (
            {"first": ["a"], "second": ["b"], "scores": [1.0], "negatives": ["c"]},
            {},
            "pairs: scores cannot be",
        ),
        ([("a", "b")], {"sizes": (99,)}, "sizes: 99 is above the encoder's width 16"),
    ],
)
def test_bad_arguments_get_one_line(encoder, given, options, match):
    with pytest.raises(ValueError, match=match) as caught:
        recipes.fine_tune(encoder, given, **{"batch_size": 1, "length": 8} | options)
    assert "\n" not in str(caught.value)
