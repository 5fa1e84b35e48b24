"""The experiment on filters of pairs: pools with known answers, towers in closed form, claims."""

import numpy as np
import pytest

from experiments.data_filtering import __main__ as story
from experiments.data_filtering import worlds
from experiments.data_filtering.__main__ import CLEAN, RANDOM, TEMPLATES, Config
from experiments.data_mixtures import digits as drawn
from experiments.shared import flags, results


def small(**changed):
    return flags.changed(Config(), **{"pool": 2000, "filter_pairs": 500, "bad": (0.0, 0.8)} | changed)


def test_a_pool_holds_as_many_bad_pairs_as_it_says_and_they_share_the_boilerplate():
    world = worlds.latents(small(), 0)
    assert (~world["pool"]["good"]).sum() == 1600
    assert world["filters"]["0% bad"]["good"].all()
    towers = worlds.linear_towers(world["test"]["first"], world["test"]["second"], 24, 1e-2)
    first, second = (
        tower(world["pool"][side]) for tower, side in zip(towers, ("first", "second"), strict=True)
    )
    cosines = np.sum(first * second, axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    good = world["pool"]["good"]
    assert cosines[good].mean() > cosines[~good].mean() + 0.4


def test_linear_towers_are_the_whitened_singular_vectors():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)).astype(np.float32)
    y = (x @ rng.normal(size=(6, 5)) + rng.normal(size=(200, 5))).astype(np.float32)
    first, second = worlds.linear_towers(x, y, 3, 0.0)
    found = first(x) @ second(y).T
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)

    def whiten(z):
        values, turns = np.linalg.eigh(z.T @ z / len(z))
        return turns @ np.diag(values**-0.5) @ turns.T

    u, s, v = np.linalg.svd(whiten(x) @ (x.T @ y / len(x)) @ whiten(y))
    kernel = whiten(x) @ (u[:, :3] * s[:3]) @ v[:3] @ whiten(y)
    np.testing.assert_allclose(found, x @ kernel @ y.T, atol=2e-3)


def test_captions_of_digits_say_what_is_shown():
    world = worlds.digits(small(pool=300), 0)
    pool = world["pool"]
    said = pool["second"][:, :10].argmax(axis=1)
    styles = pool["second"][:, 10:].argmax(axis=1)
    true = pool["place"] == said * len(drawn.STYLES) + styles
    np.testing.assert_array_equal(pool["good"], true)
    assert 0.15 < true.mean() < 0.3  # some of the shuffled captions are right by chance
    assert not world["filters"][TEMPLATES]["second"][:, 10:].any()


def test_bad_captions_of_pictures_are_of_the_same_source():
    rng = np.random.default_rng(0)
    read = {"first": np.arange(4000.0)[:, None], "second": np.arange(4000.0)[:, None]}
    read |= {
        "labels": rng.integers(-1, 3, 4000),
        "source": rng.integers(0, 3, 4000),
        "words": np.zeros((3, 1)),
    }
    pool = worlds.pictures(small(clean=100), 0, read)["pool"]
    shown, said = (pool[side][:, 0].astype(int) for side in ("first", "second"))
    np.testing.assert_array_equal(shown == said, pool["good"])
    np.testing.assert_array_equal(read["source"][shown], read["source"][said])
    assert abs(pool["good"].mean() - 0.2) < 0.01
    assert len(set(said)) == len(said)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["latents", "digits"])
def test_clean_pairs_filter_better_than_chance(name):
    cfg = small(data=name, clean=200, steps=100)
    rows = story.one_seed(cfg, getattr(worlds, name)(cfg, 0), 0)
    found = {row["filter"]: row for row in rows}
    assert found[CLEAN]["precision"] > found[RANDOM]["precision"] + 0.3
    assert found[CLEAN]["R@1"] > found[RANDOM]["R@1"]
    assert found["80% bad"]["precision"] < found["0% bad"]["precision"]


def row(name, **numbers):
    return {"filter": name, "runs": [{n: x + 0.001 * i for n, x in numbers.items()} for i in range(5)]}


def test_the_better_classifier_may_be_the_worse_filter():
    rows = [
        row(TEMPLATES, **{"own zero-shot": 0.9, "precision": 0.5, "R@1": 0.5}),
        row(CLEAN, **{"own zero-shot": 0.8, "precision": 0.7, "R@1": 0.6}),
        row("0% bad", **{"own zero-shot": 0.9, "precision": 0.9}),
        row("80% bad", **{"own zero-shot": 0.6, "precision": 0.2}),
    ]
    assert story.best_is_not_best({"filters": rows}).verdict == results.REPRODUCED
    assert story.faster({"filters": rows}).verdict == results.REPRODUCED
    assert story.over(CLEAN, "absent", ("precision",))({"filters": rows}) is None
    rows[0] = row(TEMPLATES, **{"own zero-shot": 0.7, "precision": 0.5, "R@1": 0.5})
    assert story.best_is_not_best({"filters": rows}).verdict == results.NOT
