"""How fast are two models merged, compared with copying one?

    python -m experiments.benchmarks.merging
    python -m experiments.benchmarks.merging --millions 10 --rounds 3

1 minute on 2 CPU cores. A model of a hundred million parameters in float32, as a text encoder has them: a
table, and kernels stacked by layer. The peer is NumPy's copy of the same bytes, into memory that is there
already ("memcpy") and into new memory ("memcpy, new memory"). "in place" writes the result into the memory of
the start, which a merge without it has to find first. Arms take turns in one process. The summary compares
the least time of each, because new memory is slow to come now and then.

Paper: Self Positioning, arXiv:2410.15035.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing
from experiments.shared import flags, results
from jaxembed import weights

COPY, NEW = "memcpy", "memcpy, new memory"
RULES = {"linear": 0.5, "slerp": {"position": 0.5, "scale": 1.0}, "ties": 1.0, "fisher": 1.0}


@dataclasses.dataclass(frozen=True)
class Config:
    """Times merging of a pair of models by every rule."""

    millions: float = 100  # parameters of a model, about
    layers: int = 12
    rounds: int = 7
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        flags.check(self, {"millions": (0.1, 10**5), "layers": (1, 1000), "rounds": (1, 1000)})


def model(cfg, seed):
    """A table with a fifth of the parameters; the rest are kernels [L, width, n width]."""
    width = max(8, round((0.8e6 * cfg.millions / cfg.layers / 12) ** 0.5))
    rng, rows = np.random.default_rng(seed), round(0.2e6 * cfg.millions / width)

    def drawn(*shape):
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    kernels = {"attention": (width, 4 * width), "mlp_in": (width, 4 * width), "mlp_out": (4 * width, width)}
    blocks = {name: {"kernel": drawn(cfg.layers, *shape)} for name, shape in kernels.items()}
    return {"table": {"embedding": drawn(rows, width)}, "blocks": blocks}


def in_place(start, vectors, coefficients, **options):
    """A function that merges again and again into the memory of its last result."""
    held = [jax.tree.map(jnp.copy, start)]

    def once():
        held[0] = weights.merge(held[0], vectors, coefficients, donate=True, **options)
        return held[0]

    return once


def calls(start, vectors):
    """{arm: function without arguments}."""
    source = [np.asarray(x) for x in jax.tree.leaves(start)]
    target = [np.empty_like(x) for x in source]

    def copied():
        for x, y in zip(target, source, strict=True):
            np.copyto(x, y)

    found = {COPY: copied, NEW: lambda: [x.copy() for x in source] and None}
    found["task vector"] = lambda: weights.task_vector(vectors[0], start)
    for rule, coefficients in RULES.items():
        options = {"rule": rule} | ({"fishers": vectors} if rule == "fisher" else {})
        found[rule] = lambda c=coefficients, o=options: weights.merge(start, vectors, c, **o)
        if rule in ("linear", "slerp"):
            found[f"{rule}, in place"] = in_place(start, vectors, coefficients, **options)
    return found


def by_title(rows):
    """Rows as tables of their own: {title: rows}."""
    return {"merging": rows}


def summary(cfg, rows):
    """A pair merged beside one copy: in place, and into new memory."""
    least, peers = {row["arm"]: row["least ms"] for row in rows}, {"": NEW, ", in place": COPY}
    return [
        timing.compared(
            f"merge two models of {cfg.millions:g}M by {rule}{where}, ms",
            peer,
            least[rule + where],
            least[peer],
            rate=False,
        )
        for where, peer in peers.items()
        for rule in ("linear", "slerp")
    ]


def run(cfg):
    """Times of each arm, and a pair merged beside one copy."""
    start, *vectors = (model(cfg, seed) for seed in range(3))
    times = timing.in_turns(calls(start, vectors), cfg.rounds)
    copy = times[COPY]["least"]
    rows = [
        {
            "arm": arm,
            "ms": 1e3 * t["median"],
            "least ms": 1e3 * t["least"],
            "times memcpy": t["least"] / copy,
        }
        for arm, t in times.items()
    ]
    return results.Result({"summary": summary(cfg, rows)} | by_title(rows))


if __name__ == "__main__":
    results.main("benchmarks.merging", Config, run)
