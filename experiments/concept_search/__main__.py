"""Which input of a frozen text-to-image model learns a concept best: a word, one by layer and time, states?

    python -m experiments.concept_search
    python -m experiments.concept_search --validate  # chooses the rates, on other images and seeds
    python -m experiments.concept_search --quick     # few steps, one seed

Papers: NeTI (arXiv:2305.15391) and ConES (arXiv:2305.18993), beside textual inversion and its extended form.
The model, shared with drawings, concept_guard and prompt_projection, is trained once without the digit seven,
into --workdir, and then read. About 5 minutes on 2 CPU cores beside that.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.concept_search import costs, searching
from experiments.concept_search.answers import CLAIMS, reached
from experiments.concept_search.methods import FREQUENCIES, HIDDEN, NETI, REST, TI, XTI, methods
from experiments.concept_search.pictures import CUT, LEARNED, figures
from experiments.shared import flags, inputs, results
from experiments.shared.results import Result
from jaxembed import diffusion, recipes
from jaxembed.data import toy_drawings


@dataclasses.dataclass(frozen=True)
class Config:
    """Learns the digit seven from a few images by searches of several inputs."""

    workdir: pathlib.Path = pathlib.Path("runs/drawings")  # of the text-to-image model
    base_steps: int = 1500  # of its training
    images: int = 5  # that a seed learns from
    steps: int = 300  # of a search
    batch_size: int = 8
    rate: float = 0.3  # of one token
    layer_rate: float = 0.3  # of tokens by layer
    mapper_rate: float = 0.003  # of NeTI's network
    states_rate: float = 0.1  # of states
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)  # that --validate compares
    keep: int = 20  # snapshots of a search whose held-out loss is taken
    truncations: tuple[int, ...] = (2, 8, 32)  # hidden units of NeTI that are left, beside all
    draws: int = 4  # times and noises of each held-out image
    sampling: int = 25  # steps of drawing an image
    scale: float = 2.0  # of guidance
    repeats: int = 9  # drawings of each prompt
    seeds: int = 5
    validate: bool = False  # compares rates on training images of the concept that no search sees
    quick: bool = False  # 20 steps, one truncation, one drawing, one seed
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"images": (1, 100), "steps": (2, 10**5), "batch_size": (1, 512), "keep": (1, 100)}
        limits |= {"truncations": (0, HIDDEN), "draws": (1, 100), "sampling": (2, 1000), "scale": (0, 20)}
        limits |= {name: (1e-6, 10) for name in ("rate", "layer_rate", "mapper_rate", "states_rate", "rates")}
        flags.check(self, limits | {"repeats": (1, 100), "seeds": (1, 50), "base_steps": (1, 10**6)})


QUICK = {"steps": 20, "keep": 2, "truncations": (8,), "draws": 1, "repeats": 1, "sampling": 5, "seeds": 1}
COST, FIRST = "one step of a search", "ConES is at the final loss of textual inversion after"


def arms(cfg, found_by):
    """All arms: the searches, and NeTI cut to fewer units; {name: (method, found of all seeds, history)}."""
    made, (method, found, _) = dict(found_by), found_by[NETI]
    for keep in cfg.truncations:
        cut = method._replace(given=method.given | {"keep": jnp.int32(keep)})
        made[f"{NETI}, {keep} units"] = (cut, found, None)
    return made


def kept(cfg):
    """The number of snapshots: the largest divisor of the steps that is not above ``keep``."""
    return max(k for k in range(1, min(cfg.keep, cfg.steps) + 1) if cfg.steps % k == 0)


def searched(cfg, model, known, ids):
    """{arm: (method, found of all seeds, history)}; arms of one kind share a compiled program."""
    batches = jnp.stack([searching.batches(cfg, seed) for seed in range(cfg.seeds)])
    keys = jax.vmap(jax.random.key)(jnp.arange(cfg.seeds))
    programs, found_by = {}, {}
    for name, method in known.items():
        flags.stage(f"searches {cfg.seeds} times {cfg.steps} steps: {name}")
        if method.kind not in programs:
            programs[method.kind] = searching.program(model, method, ids, kept(cfg))
        given = (model.params, batches, keys, searching.given_of(model, method), method.rate)
        found_by[name] = (method, *programs[method.kind](*given))
    return found_by


def measured(cfg, model, found_by):
    """(rows of arm and seed, {arm: [seeds, keep] held-out losses}, gallery)."""
    held = searching.Held(model, searching.plain_sevens("test"), cfg.draws)
    run, rows, curves, gallery = searching.sampler(model, cfg.sampling, cfg.scale), [], {}, {}
    compiled = {}
    for name, (method, found, history) in arms(cfg, found_by).items():
        flags.stage(f"held-out losses and drawings: {name}")
        contexts = compiled.setdefault(method.kind, searching.contexts_of(method))
        curves[name] = []
        for seed in range(cfg.seeds):
            one = jax.tree.map(lambda x, s=seed: x[s], found)
            if history is not None:
                each = jax.tree.map(lambda x, s=seed: x[s], history["found"])
                each = [jax.tree.map(lambda x, i=i, each=each: x[i], each) for i in range(kept(cfg))]
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


def validated(cfg, model, known, ids):
    """Rows of each kind of search and rate: held-out losses on training images that no search sees.

    Yields a Result after each rate, with all rows until then.
    """
    sevens, seeds = searching.plain_sevens("train"), np.arange(100, 100 + cfg.seeds)
    half = len(sevens) // 2
    held = searching.Held(model, sevens[half:], cfg.draws)
    batches = jnp.stack([searching.batches(cfg, seed, sevens[:half]) for seed in seeds])
    keys, rows = jax.vmap(jax.random.key)(jnp.asarray(seeds)), []
    for name in (TI, XTI, NETI, REST):
        method = known[name]
        program, contexts = searching.program(model, method, ids, kept(cfg)), searching.contexts_of(method)
        given = searching.given_of(model, method)
        for rate in cfg.rates:
            flags.stage(f"validation: {name} at rate {rate:g}")
            found, _ = program(model.params, batches, keys, given, rate)
            each = [jax.tree.map(lambda x, n=n, found=found: x[n], found) for n in range(cfg.seeds)]
            values = [held.of(contexts, model, one, method.given) for one in each]
            row = {"arm": name, "rate": f"{rate:g}"}
            row["held-out"], row["± held-out"] = results.spread(values)
            rows.append(row | {"runs": values})
            yield Result({"rates": rows})


def run(cfg):
    """Searches, held-out losses, drawings, and what a step costs; or the rates on validation images."""
    model = recipes.drawing_model(cfg.workdir, steps=cfg.base_steps)
    frequencies = diffusion.draw_frequencies(jax.random.key(5), FREQUENCIES, (0.03, 2.0))
    rates = (cfg.rate, cfg.layer_rate, cfg.mapper_rate, cfg.states_rate)
    known = methods(model, searching.PROMPT, frequencies, rates)
    ids = jnp.asarray(model.ids([searching.PROMPT]))
    if cfg.validate:
        return validated(cfg, model, known, ids)
    found_by = searched(cfg, model, known, ids)
    rows, curves, gallery, held = measured(cfg, model, found_by)
    batch = searching.batches(cfg, 0)[0]
    flops = {name: searching.step_flops(model, known[name], ids, batch) for name in (TI, XTI, NETI, REST)}
    cost = [{"arm": n, "share of textual inversion's operations": x / flops[TI]} for n, x in flops.items()]
    flags.stage("costs of a step with two text encoders")
    beside = costs.compared(batch)
    early = reached({"rows": rows, "curves": curves})
    ahead = {f"of its {key}": early.mean() * beside[0][key] for key in ("operations", "time")}
    start = known[REST].start
    begun = held.of(searching.contexts_of(known[REST]), model, start, known[REST].given)
    words = [w for w in toy_drawings.DIGIT_WORDS if w != searching.PLACEHOLDER]
    others = {w: held.error(model.params, {"tokens": _word(model, w, len(held.x))}) for w in words}
    best = min(others, key=others.get)
    references = [{"before a search": begun, f"best other word, {best}": float(others[best])}]
    tables = {LEARNED: [r for r in summed(rows) if "units" not in r["arm"]], CUT: cut_rows(rows)}
    tables |= {COST: cost, costs.BESIDE: beside, "held-out loss of": references}
    tables[FIRST] = [{"share of the steps": early.mean()} | ahead]
    return Result(tables, {"rows": rows, "curves": curves, "gallery": gallery})


def _word(model, word, count):
    states = model.encode(model.params, model.ids([f"a plain drawing of {word}"]))
    return jnp.broadcast_to(states, (count, *states.shape[1:]))


def cut_rows(rows):
    """The truncations of NeTI, all units last."""
    found = [r for r in summed(rows) if r["arm"].startswith(f"{NETI}, ") and "units" in r["arm"]]
    return [*found, next(r for r in summed(rows) if r["arm"] == NETI)]


if __name__ == "__main__":
    look = lambda cfg: inputs.installed("sklearn")  # noqa: E731
    results.main("concept_search", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
