"""Which input of a frozen text-to-image model learns a concept best: a word, one by layer and time, states?

    python -m experiments.concept_search
    python -m experiments.concept_search --quick     # few steps, one seed

Papers: NeTI (arXiv:2305.15391) and ConES (arXiv:2305.18993), beside textual inversion and its extended form.
The model is trained once without the digit seven, into --workdir, and then read. About 5 minutes on 2 CPU
cores beside that.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.concept_search import searching
from experiments.concept_search.methods import (
    BOUND,
    FREQUENCIES,
    HIDDEN,
    NETI,
    ONE,
    PLAIN,
    REST,
    TI,
    XTI,
    methods,
)
from experiments.concept_search.pictures import CUT, LEARNED, figures
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from jaxembed import diffusion
from jaxembed.data import toy_drawings


@dataclasses.dataclass(frozen=True)
class Config:
    """Learns the digit seven from a few images by searches of several inputs."""

    workdir: pathlib.Path = pathlib.Path("runs/drawings-without-seven")  # of the text-to-image model
    base_steps: int = 1500  # of its training
    images: int = 5  # that a seed learns from
    steps: int = 300  # of a search
    batch_size: int = 8
    rate: float = 0.03  # of tokens and states
    mapper_rate: float = 0.003  # of NeTI's network
    keep: int = 6  # snapshots of a search whose held-out loss is taken
    truncations: tuple[int, ...] = (2, 8, 32)  # hidden units of NeTI that are left, beside all
    draws: int = 4  # times and noises of each held-out image
    sampling: int = 25  # steps of drawing an image
    scale: float = 2.0  # of guidance
    repeats: int = 9  # drawings of each prompt
    seeds: int = 5
    quick: bool = False  # 20 steps, one truncation, one drawing, one seed
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"images": (1, 100), "steps": (2, 10**5), "batch_size": (1, 512), "keep": (1, 100)}
        limits |= {"truncations": (0, HIDDEN), "draws": (1, 100), "sampling": (2, 1000), "scale": (0, 20)}
        flags.check(self, limits | {"repeats": (1, 100), "seeds": (1, 50), "base_steps": (1, 10**6)})


QUICK = {"steps": 20, "keep": 2, "truncations": (8,), "draws": 1, "repeats": 1, "sampling": 5, "seeds": 1}
COST = "one step of a search"


def arms(cfg, found_by):
    """All arms: the searches, and NeTI cut to fewer units; {name: (method, found of all seeds, history)}."""
    made, (method, found, _) = dict(found_by), found_by[NETI]
    for keep in cfg.truncations:
        cut = method._replace(given=method.given | {"keep": jnp.int32(keep)})
        made[f"{NETI}, {keep} units"] = (cut, found, None)
    return made


def searched(cfg, model, known, ids):
    """{arm: (method, found of all seeds, history)}; arms of one kind share a compiled program."""
    batches = jnp.stack([searching.batches(cfg, seed) for seed in range(cfg.seeds)])
    keys = jax.vmap(jax.random.key)(jnp.arange(cfg.seeds))
    keep = max(k for k in range(1, min(cfg.keep, cfg.steps) + 1) if cfg.steps % k == 0)
    programs, found_by = {}, {}
    for name, method in known.items():
        flags.stage(f"searches {cfg.seeds} times {cfg.steps} steps: {name}")
        if method.kind not in programs:
            programs[method.kind] = searching.program(model, method, ids, keep)
        found_by[name] = (method, *programs[method.kind](model.params, batches, keys, method.given))
    return found_by


def measured(cfg, model, found_by):
    """(rows of arm and seed, {arm: [seeds, keep] held-out losses}, gallery)."""
    held = searching.Held(model, cfg.draws)
    run, rows, curves, gallery = searching.sampler(model, cfg.sampling, cfg.scale), [], {}, {}
    compiled = {}
    for name, (method, found, history) in arms(cfg, found_by).items():
        flags.stage(f"held-out losses and drawings: {name}")
        contexts = compiled.setdefault(method.kind, searching.contexts_of(method))
        curves[name] = []
        for seed in range(cfg.seeds):
            one = jax.tree.map(lambda x, s=seed: x[s], found)
            if history is not None:
                kept = jax.tree.map(lambda x, s=seed: x[s], history["found"])
                count = len(jax.tree.leaves(kept)[0])
                each = [jax.tree.map(lambda x, i=i: x[i], kept) for i in range(count)]
                curves[name].append([held.of(contexts, model, f, method.given) for f in each])
            plain, every = searching.drawn(cfg, model, run, contexts, one, method.given, seed)
            row = {"arm": name, "seed": seed, "held-out": held.of(contexts, model, one, method.given)}
            rows.append(row | searching.judged(cfg, plain, every))
            if seed == 0:
                shown = np.concatenate([plain[:7], every[:: cfg.repeats]])
                gallery[name] = np.round(shown[..., 0], 2).tolist()
    return rows, {name: x for name, x in curves.items() if x}, gallery, held


def summed(rows):
    """One row for each arm: means over seeds and their standard deviations."""
    table = []
    for name in dict.fromkeys(r["arm"] for r in rows):
        row = {"arm": name}
        for key in ("held-out", "digit", "style"):
            row[key], row[f"± {key}"] = results.spread([r[key] for r in rows if r["arm"] == name])
        table.append(row)
    return table


def run(cfg):
    """Searches, held-out losses, drawings, and what a step costs."""
    model = searching.base(cfg)
    frequencies = diffusion.draw_frequencies(jax.random.key(5), FREQUENCIES, (0.03, 2.0))
    known = methods(model, searching.PROMPT, frequencies, (cfg.rate, cfg.mapper_rate))
    ids = jnp.asarray(model.ids([searching.PROMPT]))
    found_by = searched(cfg, model, known, ids)
    rows, curves, gallery, held = measured(cfg, model, found_by)
    batch = searching.batches(cfg, 0)[0]
    costs = {name: searching.step_flops(model, known[name], ids, batch) for name in (TI, XTI, NETI, REST)}
    cost = [{"arm": n, "share of textual inversion's operations": x / costs[TI]} for n, x in costs.items()]
    start = known[REST].start
    begun = held.of(searching.contexts_of(known[REST]), model, start, known[REST].given)
    words = [w for w in toy_drawings.DIGIT_WORDS if w != searching.PLACEHOLDER]
    others = {w: held.error(model.params, {"tokens": _word(model, w, len(held.x))}) for w in words}
    best = min(others, key=others.get)
    references = [{"before a search": begun, f"best other word, {best}": float(others[best])}]
    tables = {LEARNED: [r for r in summed(rows) if "units" not in r["arm"]], CUT: cut_rows(rows)}
    tables |= {COST: cost, "held-out loss of": references}
    details = {"rows": rows, "curves": curves, "gallery": gallery, "costs": costs}
    return Result(tables, details)


def _word(model, word, count):
    states = model.encode(model.params, model.ids([f"a plain drawing of {word}"]))
    return jnp.broadcast_to(states, (count, *states.shape[1:]))


def cut_rows(rows):
    """The truncations of NeTI, all units last."""
    found = [r for r in summed(rows) if r["arm"].startswith(f"{NETI}, ") and "units" in r["arm"]]
    return [*found, next(r for r in summed(rows) if r["arm"] == NETI)]


def column(t, arm, key="held-out"):
    return np.array([r[key] for r in t["rows"] if r["arm"] == arm])


def cuts(t, key):
    """[S, n]: differences of a number between neighbouring truncations of NeTI, from few units to all."""
    names = [row["arm"] for row in t[CUT]]
    return np.diff(np.stack([column(t, name, key) for name in names], axis=1), axis=1)


def halfway(t):
    """[S]: how far NeTI is below the final loss of textual inversion after half of its steps."""
    curve = np.array(t["curves"][NETI])
    return column(t, TI) - curve[:, max(curve.shape[1] // 2 - 1, 0)]


NETI_PAPER, CONES = "2305.15391", "2305.18993"
CLAIMS = (
    Claim(
        NETI_PAPER,
        "Tokens by layer fit the concept better than one token: a lower held-out loss",
        lambda t: results.paired(column(t, TI) - column(t, XTI)),
    ),
    Claim(
        NETI_PAPER,
        "Tokens by time and layer (NeTI) fit it better than tokens by layer",
        lambda t: results.paired(column(t, XTI) - column(t, NETI)),
    ),
    Claim(
        NETI_PAPER,
        "NeTI is below the final loss of textual inversion after half of the steps",
        lambda t: results.paired(halfway(t)),
    ),
    Claim(
        NETI_PAPER,
        "The textual bypass lowers the held-out loss of NeTI",
        lambda t: results.paired(column(t, PLAIN) - column(t, NETI)),
    ),
    Claim(
        NETI_PAPER,
        "More hidden units are more faithful: each step from few to all lowers the held-out loss",
        lambda t: results.paired(-cuts(t, "held-out")),
    ),
    Claim(
        NETI_PAPER,
        "Fewer hidden units are easier to edit: each step from all to few draws more asked styles",
        lambda t: results.paired(-cuts(t, "style")),
    ),
    Claim(
        CONES,
        "States found without the text encoder (the slot's row and later) fit better than an inverted token",
        lambda t: results.paired(column(t, TI) - column(t, REST)),
    ),
    Claim(
        CONES,
        "Drawings from these states are judged to be the concept as often, 2 points less at most",
        lambda t: results.paired(column(t, REST, "digit") - column(t, TI, "digit"), margin=-0.02),
    ),
    Claim(
        CONES,
        "A step takes at most 70 % of the operations of a step of textual inversion",
        lambda t: results.holds(t["costs"][REST] <= 0.7 * t["costs"][TI], t["costs"][REST] / t["costs"][TI]),
    ),
    Claim(
        "",
        "The slot's row alone does not beat an inverted token: later rows hold the concept too",
        lambda t: results.paired(column(t, TI) - column(t, ONE), denied=True),
    ),
    Claim(
        "",
        "An inverted token keeps more of the asked styles than found states do",
        lambda t: results.paired(column(t, TI, "style") - column(t, REST, "style")),
    ),
    Claim(
        "",
        "Bounding the norms of found states keeps more of the asked styles",
        lambda t: results.paired(column(t, BOUND, "style") - column(t, REST, "style")),
    ),
)


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.installed("sklearn")


if __name__ == "__main__":
    results.main("concept_search", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
