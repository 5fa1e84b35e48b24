"""Does projecting a prompt's token states off an undesired prompt take its content out, and nothing else?

    python -m experiments.prompt_projection
    python -m experiments.prompt_projection --quick      # fewer nouns, two seeds
    python -m experiments.prompt_projection --validate   # rates of the adapters, on other drawings
    python -m experiments.prompt_projection --model folder   # another text encoder

Words are read on a published text encoder. Images: a small text-to-image model learns a style from four
drawings of one digit by LoRA, and DECOR takes that digit out of the prompts of others.

Paper: DECOR (arXiv:2412.09169). `make data` brings all-MiniLM-L6-v2 and WordNet. The small model, shared with
drawings, concept_search and concept_guard, is trained once, into --workdir, and then read. About 5 minutes on
2 CPU cores beside that.
"""

import dataclasses
import pathlib
from typing import Literal

import numpy as np

from experiments.prompt_projection import customised, prompts
from experiments.prompt_projection.pictures import figures
from experiments.prompt_projection.prompts import ALL, NONE, NOUN, READ, ROW, SPECTRUM, TEMPLATED, WORDS, ZERO
from experiments.shared import flags, inputs, results, text_models
from experiments.shared.results import Claim, Result


@dataclasses.dataclass(frozen=True)
class Config:
    """Reads both nouns of prompts before and after one of them was projected out."""

    parts: tuple[Literal["words", "images"], ...] = ("words", "images")
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    nouns: int = 20  # of each kind, drawn anew for each seed
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)  # 1 among them
    padded: int = 64  # tokens of the prompts whose spectrum is measured
    workdir: pathlib.Path = pathlib.Path("runs/drawings")  # of the text-to-image model
    steps: int = 1500  # of its training
    lora_steps: int = 300  # of the adapters of its cross-attention
    lora_batch: int = 8
    lora_rate: float = 0.0003
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)  # that --validate compares
    guidance: float = 2.0
    sampling: int = 25  # steps of drawing an image
    repeats: int = 7  # drawings of each digit, arm and seed
    seeds: int = 5
    validate: bool = False  # compares rates of LoRA on drawings of the training part that it does not learn
    quick: bool = False  # 10 nouns, two drawings, two seeds
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"nouns": (4, 90), "strengths": (0.01, 1), "padded": (16, 256), "seeds": (1, 100)}
        limits |= {
            "steps": (1, 10**6),
            "lora_steps": (1, 10**5),
            "lora_batch": (1, 512),
            "lora_rate": (1e-6, 1),
            "rates": (1e-6, 1),
        }
        flags.check(self, limits | {"guidance": (0, 20), "sampling": (2, 1000), "repeats": (1, 100)})
        if 1.0 not in self.strengths:
            raise ValueError("--strengths: 1 is missing; the claims ask for it")


QUICK = {"nouns": 10, "repeats": 2, "lora_steps": 50, "sampling": 10, "seeds": 2}


def split(rng, count):
    """Pairs of nouns [V, V / 2, 2] that probes are fitted on, and as many that are asked."""
    firsts = np.stack([rng.permutation(count) for _ in range(count)])
    pairs = np.stack([firsts, np.broadcast_to(np.arange(count)[:, None], firsts.shape)], axis=-1)
    return pairs[:, : count // 2], pairs[:, count // 2 : 2 * (count // 2)]


def one_seed(cfg, encoder, lists, seed):
    """Rows of one draw of nouns: what probes read in each arm, and the spectrum of padded prompts."""
    rng = np.random.default_rng(seed)
    words = [[str(w) for w in rng.choice(known, cfg.nouns, replace=False)] for known in lists]
    known, asked = split(rng, cfg.nouns)
    train = prompts.made(encoder, known, words, prompts.TEMPLATES)
    test = prompts.made(encoder, asked, words, prompts.TEMPLATES[:1])
    fitted = [prompts.probe(train, side, cfg.nouns) for side in (0, 1)]
    rows, kinds = prompts.undesired(encoder, words[1])
    full = prompts.edited(test, rows, kinds["words"], 1.0)
    arms = {NONE: test, ZERO: prompts.at_row(test), ROW: prompts.at_row(test, full.states)}
    arms |= {f"{WORDS} {s:g}": prompts.edited(test, rows, kinds["words"], s) for s in cfg.strengths}
    arms |= {f"{WORDS} 1, {NOUN}": prompts.edited(test, rows, kinds["noun"], 1.0)}
    arms |= {f"{WORDS} 1, {ALL}": prompts.edited(test, rows, kinds["all"], 1.0)}
    others = [t.format("a thing", "{}") for t in prompts.TEMPLATES]
    many, places = prompts.undesired(encoder, words[1], others)
    arms |= {f"{WORDS} 1, {TEMPLATED}": prompts.edited(test, many, places["noun"], 1.0)}
    found = []
    for arm, changed in arms.items():
        row = {"seed": seed, "arm": arm}
        for side, name in enumerate(("other", "undesired")):
            row[name], row[f"{name} probability"] = prompts.asked(fitted[side], changed, side)
        found.append(row)
    again = prompts.edited(train, rows, kinds["words"], 1.0)
    new = prompts.asked(prompts.probe(again, 1, cfg.nouns), full, 1)[0]
    return found, {"refitted": new, "spectrum": prompts.spectra(encoder, words, test, cfg.padded)}


def means(rows, key, names):
    """One row for each value of ``key``: means over seeds and their standard deviations."""
    table = []
    for value in dict.fromkeys(r[key] for r in rows):
        row = {key: value}
        for name in names:
            row[name], row[f"± {name}"] = results.spread([r[name] for r in rows if r[key] == value])
        table.append(row)
    return table


def read(cfg):
    """What probes read in all arms and seeds, and the spectra: (rows, extras)."""
    encoder = text_models.load(cfg.model)
    lists = prompts.nouns(encoder)
    short = min(map(len, lists))
    flags.at_most(cfg, "nouns", short, f"WordNet has {short} animals that are one token of the encoder")
    flags.at_most(cfg, "padded", encoder.max_length, f"the encoder reads {encoder.max_length} tokens")
    rows, extras = [], []
    for seed in range(cfg.seeds):
        flags.stage(f"seed {seed}: {cfg.nouns} nouns of each kind, {len(prompts.TEMPLATES)} templates")
        found, more = one_seed(cfg, encoder, lists, seed)
        rows, extras = rows + found, [*extras, more]
    return rows, extras


def run(cfg):
    """The parts that are asked for, or the rates on validation drawings."""
    if cfg.validate:
        return Result({"rates": customised.validated(cfg)})
    tables, details = {}, {"strengths": list(cfg.strengths)}
    if "words" in cfg.parts:
        rows, extras = read(cfg)
        tables[READ] = means(
            rows, "arm", ("undesired", "other", "undesired probability", "other probability")
        )
        spectra = [
            {"direction": i + 1} | {key: e["spectrum"][key][i] for key in ("energy", "padding", "words")}
            for e in extras
            for i in range(len(e["spectrum"]["energy"]))
        ]
        tables[SPECTRUM] = means(spectra, "direction", ("energy", "padding", "words"))
        details |= {"rows": rows, "extras": extras}
    if "images" in cfg.parts:
        details["customised"], details["gallery"] = customised.drawn(cfg)
        tables["drawings of other digits after LoRA"] = means(details["customised"], "arm", customised.KEYS)
    return Result(tables, details)


def column(t, arm, key="undesired"):
    """[S]: a number of an arm by seed."""
    return np.array([r[key] for r in t["rows"] if r["arm"] == arm])


def steps(t):
    """[S, n]: what each further strength takes off the probability of the undesired noun."""
    arms = [NONE, *(f"{WORDS} {strength:g}" for strength in sorted(t["strengths"]))]
    return -np.diff(np.stack([column(t, arm, "undesired probability") for arm in arms], axis=1), axis=1)


def first(t, side):
    return np.array([e["spectrum"][side][0] for e in t["extras"]])


DECOR, ONE = "2412.09169", f"{WORDS} 1"
WORD_CLAIMS = (
    Claim(
        DECOR,
        "At strength 1 a probe names the undesired noun less often, by 40 points or more",
        lambda t: results.paired(column(t, NONE) - column(t, ONE), margin=0.4),
    ),
    Claim(
        DECOR,
        "At strength 1 a probe names the other noun as often, 10 points less at most",
        lambda t: results.paired(column(t, ONE, "other") - column(t, NONE, "other"), margin=-0.1),
    ),
    Claim(
        DECOR,
        "Without the undesired noun's own row a probe still names it, and more often than after DECOR",
        lambda t: results.paired(column(t, ZERO) - column(t, ONE)),
    ),
    Claim(
        DECOR,
        "The strength is a dial: each further step lowers the probability of the undesired noun",
        lambda t: results.paired(steps(t)),
    ),
    Claim(
        DECOR,
        "The first singular direction of a padded prompt is nearer to the padding than to the words",
        lambda t: results.paired(first(t, "padding") - first(t, "words")),
    ),
    Claim(
        "",
        "The noun is hidden from the old probe, not gone: one that is fitted anew names it in most prompts",
        lambda t: results.paired(np.array([e["refitted"] for e in t["extras"]]) - 0.5),
    ),
)


def asked(claim):
    """A claim about words, which a run of images alone does not ask."""
    return claim._replace(ours=lambda t: claim.ours(t) if "rows" in t else None)


CLAIMS = (*map(asked, WORD_CLAIMS), *customised.CLAIMS)


def look(cfg):
    """Refuses a run whose data are missing."""
    if "words" in cfg.parts:
        text_models.find_model(cfg.model)
        inputs.sets("wordnet")
    if "images" in cfg.parts:
        inputs.installed("sklearn")


if __name__ == "__main__":
    results.main("prompt_projection", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
