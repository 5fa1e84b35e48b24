"""Prompts of two nouns: splits, rows that are edited, claims on made numbers."""

import numpy as np

from experiments.prompt_projection import __main__ as story
from experiments.prompt_projection import customised, prompts

RNG = np.random.default_rng(0)


def test_a_split_gives_each_second_noun_as_many_partners_and_no_pair_twice():
    known, asked = story.split(np.random.default_rng(3), 7)
    assert known.shape == asked.shape == (7, 3, 2)
    pairs = [tuple(p) for part in (known, asked) for p in part.reshape(-1, 2)]
    assert len(set(pairs)) == 42
    np.testing.assert_array_equal(known[..., 1], np.repeat(np.arange(7)[:, None], 3, axis=1))


def made():
    states = RNG.normal(size=(6, 4, 8)).astype(np.float32)
    nouns = np.stack([np.arange(6), np.repeat([0, 1], 3)], axis=1)
    return prompts.Prompts(states, np.ones((6, 4), bool), np.array([1, 2, 3, 0, 1, 2]), nouns)


def test_each_prompt_loses_what_the_undesired_prompt_of_its_own_noun_spans():
    some, rows = made(), RNG.normal(size=(2, 3, 8)).astype(np.float32)
    where = np.array([[True, True, False], [True, False, False]])
    found = prompts.edited(some, rows, where, 1.0).states
    assert np.abs(found[:3] @ rows[0, :2].T).max() < 1e-5 and np.abs(found[3:] @ rows[1, 0]).max() < 1e-5
    assert np.abs(found[:3] @ rows[0, 2]).max() > 0.1
    only = prompts.at_row(some, found).states
    every = np.arange(6)
    np.testing.assert_array_equal(only[every, some.row], found[every, some.row])
    kept = np.arange(4) != some.row[:, None]
    np.testing.assert_array_equal(only[kept], some.states[kept])
    assert not prompts.at_row(some).states[every, some.row].any()


def test_articles():
    assert [prompts.article(w) for w in ("owl", "bed")] == ["an owl", "a bed"]


def test_every_strength_is_a_step_of_the_dial():
    arms = [story.NONE, "DECOR 0.5", "DECOR 1", f"DECOR 1, {story.NOUN}"]
    values = dict(zip(arms, (0.9, 0.6, 0.1, 0.3), strict=True))
    rows = [{"arm": a, "undesired probability": v} for a, v in values.items()]
    np.testing.assert_allclose(story.steps({"rows": rows, "strengths": [1.0, 0.5]}), [[0.3, 0.5]])


def customised_rows(points):
    """Five seeds of arms at {arm: (asked digit, style)}."""
    keys = ("asked digit", "style")
    return [
        {"arm": arm, "seed": s, "leaked digit": 0.3}
        | dict(zip(keys, np.array(point) + 0.001 * s, strict=True))
        for arm, point in points.items()
        for s in range(5)
    ]


def test_a_strength_must_gain_digits_and_keep_the_style():
    points = {customised.PLAIN: (0.4, 0.8), "DECOR 0.5": (0.6, 0.79), "DECOR 1": (0.9, 0.2)}
    points |= {f"{customised.PLAIN}, scale {s:g}": (0.5, 0.4) for s in customised.SCALES}
    points |= {f"DECOR {s}{customised.ENDS}": (0.3, 0.1) for s in ("0.5", "1")}
    table = {"customised": customised_rows(points), "strengths": [0.5, 1.0]}
    assert customised.better(table).verdict == "reproduced"
    assert customised.better(table, customised.ENDS).verdict == "not reproduced"
    assert customised.front(table).verdict == "reproduced"  # (0.6, 0.79) beats (0.5, 0.4)
    assert customised.better({"strengths": [1.0]}) is None


def test_adapters_see_four_drawings_of_the_leaking_digit_in_one_style():
    cfg = story.Config(lora_steps=9)
    batches, others = customised.few(cfg, 0)
    assert batches.shape == (9, 8, 8, 8, 1) and (batches[:, :, 1::2] == -1).all()
    assert len(np.unique(batches.reshape(72, -1), axis=0)) == 4
    learned = {x.tobytes() for x in batches.reshape(-1, 8, 8, 1)}
    assert len(others) > 50 and not any(x.tobytes() in learned for x in others)


def test_rates_are_compared_on_drawings_that_no_adapter_learns(monkeypatch):
    cfg, seen = story.Config(seeds=2, rates=(0.003, 0.01), validate=True, lora_steps=3), []

    def learn(params, batches, key, rate):
        seen.append({x.tobytes() for x in batches.reshape(-1, 8, 8, 1)})
        return rate

    def loss(adapters, params, images, key):
        assert not any(x.tobytes() in seen[-1] for x in images)
        return np.full(len(images), abs(adapters - 0.01))

    monkeypatch.setattr(customised, "adapted", lambda cfg, model: (learn, loss))
    monkeypatch.setattr(customised.recipes, "drawing_model", lambda *given, **options: story)
    monkeypatch.setattr(story, "params", None, raising=False)
    found = story.run(cfg)
    assert [row["rate"] for row in found.tables["rates"]] == ["0.003", "0.01"]
    assert [len(row["runs"]) for row in found.tables["rates"]] == [2, 2] and len(seen) == 4
    assert found.tables["rates"][1]["held-out"] == 0
    assert story.figures(found.tables) == {} and not any(c.ours(found.tables) for c in story.CLAIMS)
