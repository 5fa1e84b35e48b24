"""Evolutionary search: the best of many choices, one for each field, by a score that needs no gradient."""

import jax
import jax.numpy as jnp
import numpy as np


def evolve(
    key,
    fitness,
    fields,
    choices,
    *,
    parents=10,
    mutated=10,
    crossed=10,
    generations=30,
    chance=0.1,
    first=None,
):
    """Evolutionary search: scores candidates, and breeds the next ones from the best.

    A candidate is one choice for each field. Each generation is scored; its ``parents`` best breed the next
    one. A mutated child is a parent whose choices are each drawn anew with a chance. A crossed child has the
    first choices of one parent and the others of another; the cut is drawn between two fields. The best
    candidate ever scored is returned, as it was scored.

    >>> wanted = np.array([3, 0, 2])
    >>> best, history = evolve(jax.random.key(0), lambda c: -np.abs(c - wanted).sum(axis=1), 3, 4)
    >>> print(best, history[-1])
    [3 0 2] 0.0

    Args:
        key: random key.
        fitness: ``int32 [P, F] -> [P]``, higher is better; runs on the host and may call compiled functions.
            NaN counts as the worst. It says alone what is sought: a budget belongs into it.
        fields: F, the length of a candidate.
        choices: C; a choice is 0 to C - 1.
        parents: candidates of a generation that breed.
        mutated: children that are mutated.
        crossed: children that are crossed; none with one field.
        generations: how many are scored.
        chance: probability that a choice of a mutated child is drawn anew.
        first: optional int [M, F], candidates of the first generation, M at most ``mutated + crossed``. The
            others are drawn evenly.

    Returns:
        (best int32 [F], history float64 [generations]: the best score so far, which never falls).

    Raises:
        ValueError: for counts out of range, a first candidate of another shape, or a fitness that is not [P].

    References:
        F. Lyu et al., OptEmbed, arXiv:2208.04482. The public code mutates parents in place, so that its best
        may not be what was scored, and draws the cut among coordinates in place of fields; neither is so
        here. Pairs are of distinct parents, and every choice can be drawn.
    """
    size = mutated + crossed
    _check(fields, choices, parents, mutated, crossed, generations, chance)
    first_key, key = jax.random.split(key)
    population = np.asarray(jax.random.randint(first_key, (size, fields), 0, choices), np.int32)
    if first is not None:
        population = np.concatenate([_given(first, size, fields, choices), population])[:size]
    best, top, history = None, -np.inf, []
    breed = jax.jit(_children, static_argnums=(2, 3, 4))
    for generation in range(generations):
        scores = _scores(fitness, population)
        order = np.argsort(-scores, kind="stable")
        if best is None or scores[order[0]] > top:
            best, top = population[order[0]].copy(), scores[order[0]]
        history.append(float(top))
        chosen = population[order[: min(parents, size)]]
        step = jax.random.fold_in(key, generation)
        population = np.asarray(breed(step, chosen, choices, mutated, crossed, chance), np.int32)
    return best, np.array(history)


def _children(key, parents, choices, mutated, crossed, chance):
    """The next generation int [mutated + crossed, F], bred from parents [M, F]."""
    count, fields = parents.shape
    where_key, draw_key, pair_key, cut_key = jax.random.split(key, 4)
    copies = jnp.tile(parents, (-(-mutated // count) if mutated else 1, 1))[:mutated]
    drawn = jax.random.randint(draw_key, copies.shape, 0, choices)
    children = jnp.where(jax.random.bernoulli(where_key, chance, copies.shape), drawn, copies)
    if not crossed:
        return children
    if fields == 1 or count == 1:
        return jnp.concatenate([children, jnp.tile(parents, (-(-crossed // count), 1))[:crossed]])
    keys = jax.random.split(pair_key, crossed)
    pairs = jax.vmap(lambda k: jax.random.choice(k, count, (2,), replace=False))(keys)
    cuts = jax.random.randint(cut_key, (crossed, 1), 1, fields)
    mixed = jnp.where(jnp.arange(fields) < cuts, parents[pairs[:, 0]], parents[pairs[:, 1]])
    return jnp.concatenate([children, mixed])


def _scores(fitness, population):
    scores = np.asarray(fitness(population), np.float64)
    if scores.shape != (len(population),):
        raise ValueError(
            f"fitness: shape {scores.shape} for {len(population)} candidates; return one number each"
        )
    return np.where(np.isnan(scores), -np.inf, scores)


def _given(first, size, fields, choices):
    first = np.asarray(first)
    if first.ndim != 2 or first.shape[1] != fields or len(first) > size:
        raise ValueError(f"first: shape {first.shape}; give at most {size} candidates of {fields} choices")
    if first.size and (first.min() < 0 or first.max() >= choices):
        raise ValueError(f"first: holds {first.min()} to {first.max()}; a choice is 0 to {choices - 1}")
    return first.astype(np.int32)


def _check(fields, choices, parents, mutated, crossed, generations, chance):
    numbers = {"fields": fields, "choices": choices, "parents": parents, "generations": generations}
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name}={value}; give at least 1")
    if min(mutated, crossed) < 0 or mutated + crossed < 1:
        raise ValueError(f"mutated={mutated}, crossed={crossed}: give at least one child, none below 0")
    if not 0 <= chance <= 1:
        raise ValueError(f"chance={chance}; give a probability")
