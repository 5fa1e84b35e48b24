"""The arms that both parts compare: merges with fixed coefficients, and coefficients fitted on a probe."""

import jax
import numpy as np
import optax

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
    """{arm: (params, coefficients, loss on the probe)} of the merges whose coefficients are fitted."""
    ordered, found = by_norm(vectors), {}
    runs = {POSITIONED: (ordered, {"rule": "slerp"}), REVERSED: (ordered[::-1], {"rule": "slerp"})}
    runs[LINEAR] = (vectors, {"rule": "linear", "greedy": False})
    for arm, (chosen, options) in runs.items():
        if arm == REVERSED and len(vectors) == 2:  # two vectors span the same plane in any order
            continue
        given, history = weights.fit_coefficients(loss_fn, start, chosen, probe, steps=steps, **options)
        params = weights.merge(start, chosen, given, rule=options["rule"])
        found[arm] = params, given, min(row["loss"] for row in history if row["fit"] == history[-1]["fit"])
    return found


def probe_losses(loss_fn, models, probe):
    """{arm: mean loss on the probe}."""
    value = jax.jit(lambda params, batch: loss_fn(params, batch, None)[0])
    return {arm: float(np.mean([value(p, b) for b in probe])) for arm, p in models.items()}
