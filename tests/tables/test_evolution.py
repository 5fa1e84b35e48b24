"""Evolutionary search: it finds what a score hides, and returns what it scored."""

import jax
import numpy as np
import pytest

from jaxembed import tables


def test_it_finds_the_target_of_a_small_grid_and_the_best_never_falls():
    wanted = np.array([3, 0, 5, 1])
    scored = []

    def fitness(candidates):
        scored.append(candidates.copy())
        return -np.abs(candidates - wanted).sum(axis=1)

    best, history = tables.evolve(jax.random.key(0), fitness, 4, 6)
    assert best.tolist() == wanted.tolist() and history[-1] == 0
    assert (np.diff(history) >= 0).all() and len(history) == 30
    assert all(s.shape == (20, 4) and s.min() >= 0 and s.max() <= 5 for s in scored)


def test_what_is_returned_is_what_was_scored_even_by_a_score_that_writes():
    """The public code changes the best candidate after it was scored."""
    known = {}

    def fitness(candidates):
        found = np.random.default_rng(candidates.sum()).normal(size=len(candidates))
        known.update({tuple(c): f for c, f in zip(candidates.tolist(), found, strict=True)})
        candidates[:] = 0
        return found

    def honest(candidates):
        return fitness(candidates.copy())

    best, history = tables.evolve(jax.random.key(1), honest, 5, 4, generations=8)
    assert known[tuple(best.tolist())] == history[-1] == max(known.values())


def test_without_mutation_and_crossing_nothing_changes():
    first, seen = np.arange(30).reshape(10, 3) % 7, []

    def fitness(candidates):
        seen.append({tuple(c) for c in candidates.tolist()})
        return candidates.sum(axis=1)

    tables.evolve(jax.random.key(0), fitness, 3, 7, crossed=0, chance=0.0, generations=5, first=first)
    assert all(s == seen[0] for s in seen)


def test_crossing_cuts_between_fields_and_pairs_are_distinct():
    """With two parents that share no choice, a crossed child is the head of one and the tail of the other."""
    first, seen = np.array([[1] * 6, [2] * 6]), []

    def fitness(candidates):
        seen.append(candidates.copy())
        return np.zeros(len(candidates))

    options = {"parents": 2, "mutated": 0, "crossed": 2, "generations": 2, "first": first}
    kinds = set()
    for seed in range(30):
        seen.clear()
        tables.evolve(jax.random.key(seed), fitness, 6, 9, **options)
        for child in seen[1].tolist():
            changes = np.flatnonzero(np.diff(child))
            assert len(changes) == 1 and set(child) == {1, 2}
            kinds.add(int(changes[0]))
    assert kinds == {0, 1, 2, 3, 4}  # every cut between fields, none outside


def test_every_choice_can_be_drawn_and_one_field_is_enough():
    seen = set()

    def fitness(candidates):
        seen.update(candidates.ravel().tolist())
        return candidates[:, 0]

    best, _ = tables.evolve(jax.random.key(0), fitness, 1, 5, chance=1.0)
    assert seen == {0, 1, 2, 3, 4} and best.tolist() == [4]


def test_nan_is_the_worst():
    best, _ = tables.evolve(jax.random.key(0), lambda c: np.where(c[:, 0] > 0, np.nan, -1.0), 2, 3)
    assert best[0] == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fields": 0}, "fields=0; give at least 1"),
        ({"generations": 0}, "generations=0; give at least 1"),
        ({"mutated": 0, "crossed": 0}, "mutated=0, crossed=0: give at least one child"),
        ({"chance": 1.5}, "chance=1.5; give a probability"),
        ({"first": [[9, 9]]}, "first: holds 9 to 9; a choice is 0 to 3"),
        ({"first": [[1]]}, r"first: shape \(1, 1\); give at most 20 candidates of 2 choices"),
        ({"fitness": lambda c: c}, r"fitness: shape \(20, 2\) for 20 candidates"),
    ],
)
def test_bad_input_is_named(options, told):
    given = {"fitness": lambda c: c.sum(axis=1), "fields": 2, "choices": 4} | options
    with pytest.raises(ValueError, match=told):
        tables.evolve(jax.random.key(0), **given)
