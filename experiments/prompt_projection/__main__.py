"""Does projecting a prompt's token states off an undesired prompt take its content out, and nothing else?

    python -m experiments.prompt_projection
    python -m experiments.prompt_projection --quick      # fewer nouns, two seeds
    python -m experiments.prompt_projection --model folder   # another text encoder

Paper: DECOR (arXiv:2412.09169). `make data` brings all-MiniLM-L6-v2 and WordNet. About 3 minutes on 2 CPU
cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.prompt_projection import prompts
from experiments.shared import flags, inputs, plots, results, text_models
from experiments.shared.results import Claim, Result


@dataclasses.dataclass(frozen=True)
class Config:
    """Reads both nouns of prompts before and after one of them was projected out."""

    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    nouns: int = 20  # of each kind, drawn anew for each seed
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)  # 1 among them
    padded: int = 64  # tokens of the prompts whose spectrum is measured
    seeds: int = 5
    quick: bool = False  # 10 nouns, two seeds
    results: pathlib.Path | None = None

    def __post_init__(self):
        flags.check(self, {"nouns": (4, 90), "strengths": (0.01, 1), "padded": (16, 256), "seeds": (1, 100)})
        if 1.0 not in self.strengths:
            raise ValueError("--strengths: 1 is missing; the claims ask for it")


QUICK = {"nouns": 10, "seeds": 2}
NONE, ZERO, ROW, WORDS = "the prompt as it is", "the noun's row set to 0", "DECOR on that row", "DECOR"
NOUN, ALL, TEMPLATED = (
    "noun's row undesired",
    "special tokens undesired too",
    "noun in five prompts undesired",
)


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


def run(cfg):
    """All arms of all seeds."""
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
    arms = []
    for arm in dict.fromkeys(r["arm"] for r in rows):
        mine, row = [r for r in rows if r["arm"] == arm], {"arm": arm}
        for key in ("undesired", "other", "undesired probability", "other probability"):
            row[key], row[f"± {key}"] = results.spread([r[key] for r in mine])
        arms.append(row)
    spectrum = []
    for i in range(len(extras[0]["spectrum"]["energy"])):
        row = {"direction": i + 1}
        for key in ("energy", "padding", "words"):
            row[key], row[f"± {key}"] = results.spread([e["spectrum"][key][i] for e in extras])
        spectrum.append(row)
    tables = {"how often a probe names each noun": arms, "singular directions of padded prompts": spectrum}
    return Result(tables, {"rows": rows, "extras": extras, "strengths": list(cfg.strengths)})


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
CLAIMS = (
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


def figures(numbers):
    """Both nouns against the strength, the other arms, and the directions of padded prompts."""

    def draw(axes):
        axes[0, 0].figure.set_size_inches(14, 4.2)
        left, middle, right = axes[0]
        arms = {row["arm"]: row for row in numbers["how often a probe names each noun"]}
        strengths = numbers["config"]["strengths"]
        swept = [arms[NONE], *(arms[f"{WORDS} {s:g}"] for s in strengths)]
        for key in ("undesired", "other"):
            bars = [row[f"± {key}"] or 0 for row in swept]
            left.errorbar([0, *strengths], [row[key] for row in swept], bars, marker="o", label=f"{key} noun")
        left.set(xlabel="strength of the projection", ylabel="named by a linear probe", ylim=(0, 1.05))
        plots.legend(left, loc="lower left")
        for i, key in enumerate(("undesired", "other")):
            places = np.arange(len(arms)) + 0.35 * (i - 0.5)
            middle.barh(places, [row[key] for row in arms.values()], 0.33, label=f"{key} noun")
        middle.set(yticks=range(len(arms)), xlabel="named by a linear probe")
        middle.set_yticklabels(list(arms), fontsize=8)
        middle.invert_yaxis()
        rows = numbers["singular directions of padded prompts"]
        numbered = [r["direction"] for r in rows]
        for key in ("padding", "words"):
            right.plot(
                [r["direction"] for r in rows], [r[key] for r in rows], "o-", label=f"|cosine| with {key}"
            )
        right.bar(numbered, [r["energy"] for r in rows], 0.5, alpha=0.3, label="energy")
        right.set(xlabel="singular direction of a padded prompt", ylim=(0, 1.05))
        plots.legend(right, loc="upper right")

    return {"": (draw, (1, 3))}


def look(cfg):
    """Refuses a run whose data are missing."""
    text_models.find_model(cfg.model)
    inputs.sets("wordnet")


if __name__ == "__main__":
    results.main("prompt_projection", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
