"""The arms that both parts compare: merges with fixed coefficients, and coefficients fitted on a probe."""

import functools

import jax
import numpy as np
import optax

from experiments.shared import results
from jaxembed import weights

START, PROPORTIONAL, UNIFORM = "start", "joint, in proportion", "joint, equally often"
AVERAGE, TIES, SLERP, FISHER = "average", "TIES", "slerp at 0.5", "Fisher"
FIXED, BEST = "fixed merge, chosen on the probe", "fixed merge, best on the test"
POSITIONED, REVERSED, LINEAR = "Self Positioning", "Self Positioning, reversed order", "linear, fitted"
LAMBDAS = (0.1, 0.3, 0.5, 1.0)
ARITHMETIC = tuple(f"sum x {scale:g}" for scale in LAMBDAS)
MERGES = (AVERAGE, *ARITHMETIC, TIES, SLERP, FISHER)
JOINT = (PROPORTIONAL, UNIFORM)


def by_norm(vectors):
    """Task vectors in the order of their length."""
    return sorted(vectors, key=lambda v: float(optax.tree.norm(v)))


def fixed(start, vectors, fishers):
    """{arm: params} of every merge whose coefficients are not fitted."""
    chain = np.full(len(vectors) - 1, 0.5)
    found = {AVERAGE: weights.merge(start, vectors, 1 / len(vectors))}
    found |= {n: weights.merge(start, vectors, x) for n, x in zip(ARITHMETIC, LAMBDAS, strict=True)}
    return found | {
        TIES: weights.merge(start, vectors, 1.0, rule="ties"),
        SLERP: weights.merge(start, by_norm(vectors), chain, rule="slerp"),
        FISHER: weights.merge(start, vectors, 1.0, rule="fisher", fishers=fishers),
    }


def fitted(start, vectors, loss_fn, probe, steps):
    """{arm: params} of the merges whose coefficients are fitted."""
    ordered, found = by_norm(vectors), {}
    runs = {POSITIONED: (ordered, {"rule": "slerp"}), REVERSED: (ordered[::-1], {"rule": "slerp"})}
    runs[LINEAR] = (vectors, {"rule": "linear", "greedy": False})
    for arm, (chosen, options) in runs.items():
        if arm == REVERSED and len(vectors) == 2:  # two vectors span the same plane in any order
            continue
        given, _ = weights.fit_coefficients(loss_fn, start, chosen, probe, steps=steps, **options)
        found[arm] = weights.merge(start, chosen, given, rule=options["rule"])
    return found


@functools.lru_cache(maxsize=2)
def value_of(loss_fn):
    """The compiled loss; the same object for the same loss."""
    return jax.jit(lambda params, batch: loss_fn(params, batch, None)[0])


def probe_losses(loss_fn, models, probe):
    """{arm: mean loss on the probe}."""
    value = value_of(loss_fn)
    return {arm: float(np.mean([value(p, b) for b in probe])) for arm, p in models.items()}


def compared(cfg, tasks, evaluate, start, alone, joint, loss_fn, probe, fishers):
    """{arm: (numbers of evaluate, loss on the probe, gradients beyond those of single tasks)} of a seed."""
    vectors = [weights.task_vector(model, start) for model in alone]
    merges = fixed(start, vectors, fishers)
    models = {START: start} | {f"{t} alone": m for t, m in zip(tasks, alone, strict=True)}
    models |= joint | merges | fitted(start, vectors, loss_fn, probe, cfg.fit)
    lost = probe_losses(loss_fn, models, probe)
    counts = dict.fromkeys(JOINT, len(tasks) * cfg.steps) | {LINEAR: cfg.fit}
    counts[FISHER] = 4 * len(tasks)
    counts |= dict.fromkeys((POSITIONED, REVERSED), (len(tasks) - 1) * cfg.fit)
    found = {arm: (evaluate(params), lost[arm], counts.get(arm, 0)) for arm, params in models.items()}
    chosen = min(merges, key=lost.get)
    best = max(merges, key=lambda arm: np.mean(next(iter(found[arm][0].values()))))
    return found | {FIXED: found[chosen], BEST: found[best]}


def rows_of(found, tasks):
    """A row for each arm from what :func:`compared` gave for each seed."""
    rows = []
    for arm in found[0]:
        seen = [one[arm] for one in found]
        row = {"arm": arm}
        for name in seen[0][0]:
            each = np.array([numbers[name] for numbers, *_ in seen])  # [S, tasks]
            kinds = {name: each.mean(axis=1)} | (
                {f"worst {name}": each.min(axis=1)} if name != "mean" else {}
            )
            for label, values in kinds.items():
                row[label], row[f"± {label}"] = results.spread(values)
        row |= dict(
            zip(tasks, map(float, np.mean([next(iter(x[0].values())) for x in seen], axis=0)), strict=True)
        )
        row["probe loss"], row["extra gradients"] = float(np.mean([x[1] for x in seen])), seen[0][2]
        rows.append(row | {"runs": [numbers for numbers, *_ in seen]})
    return rows
