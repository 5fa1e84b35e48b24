"""Does a guide model that hides suspected false negatives help contrastive training?

    python -m experiments.false_negatives                          # WordNet, false negatives planted
    python -m experiments.false_negatives --sts path/to/stsb       # and STS-B's test pairs
    python -m experiments.false_negatives --compare modes --rates 0 0.5    # violators alone, triplets
    python -m experiments.false_negatives --compare batches --rates 0    # batches of 16 to 256 pairs
    python -m experiments.false_negatives --model folder --pairs pairs.tsv    # fine-tune on your own pairs
    python -m experiments.false_negatives --model folder --paper   # on SNLI and MultiNLI, prepared with TFDS

Paper: GISTEmbed (arXiv:2402.16829). `make data` brings WordNet and the guide, all-MiniLM-L6-v2.
About 4 minutes on 2 CPU cores.
"""

import dataclasses
import itertools
import pathlib
from typing import Literal

import numpy as np

from experiments.false_negatives import planted, rules
from experiments.false_negatives.planted import BLOCKS
from experiments.false_negatives.rules import BARE, GUIDED, HARD, RANDOM, TRIPLETS, gain, gains
from experiments.shared import flags, inputs, plots, results, text_models
from experiments.shared.results import Claim, Result
from jaxembed import data, metrics, recipes, train


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a small encoder beside several rules for who counts as a negative."""

    compare: Literal["guides", "modes", "batches"] = "guides"  # who is hidden; modes of a guide; batch sizes
    rates: tuple[float, ...] = (0.0, 0.25, 0.5)  # shares of a batch that repeat a sense of the batch
    senses: int = 3000  # trained on, each with two pairs of texts
    test: int = 1000  # senses that are searched
    steps: int = 300
    batch_size: int = 64
    learning_rate: float | None = None  # None: 3e-4 for the small encoder, 2e-5 for a model with --pairs
    temperature: float = 0.05
    width: int = 128  # of the small encoder
    length: int = 32  # tokens of a text
    seeds: int = 5
    validate: bool = False  # test on other senses; the rates above were chosen there
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    guide: pathlib.Path | None = None  # None: the model as it is
    margin: float = 0.0  # of the guide, with --pairs
    pairs: pathlib.Path | None = None  # a file of your own: two texts per line, or three with a negative
    paper: bool = False  # SNLI and MultiNLI through TFDS in place of a file, with the settings of PAPER
    sts: pathlib.Path | None = None  # folder with stsb-en-test.csv
    quick: bool = False  # one seed, 60 steps, 600 senses
    workdir: pathlib.Path = pathlib.Path("runs/false_negatives")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"senses": (1, 10**6), "test": (2, 10**6), "steps": (1, 10**7), "batch_size": (2, 10**6)}
        limits |= {"temperature": (1e-3, 100), "width": (1, 10**4), "length": (3, 512), "seeds": (1, 100)}
        limits |= {"learning_rate": (1e-9, 10), "margin": (-2, 2)}
        flags.check(self, limits | {"rates": (0, 0.5)})  # a sense has two pairs: at most half are repeats
        for own in ("pairs", "paper"):
            flags.exclude(self, own, ("compare", "rates", "senses", "seeds", "width", "validate", "sts"))
        flags.exclude(self, "pairs", ("paper",))
        if self.margin and self.pairs is None and not self.paper:
            raise ValueError("--margin: has no meaning without --pairs or --paper; the arms have their own")


QUICK = {"seeds": 1, "steps": 60, "senses": 600, "test": 200}
RUNS = {
    "modes": {"rates": (0.0, 0.5)},
    "batches": {"rates": (0.0,)},
}  # usual settings that are not the defaults
PAPER = {"batch_size": 1024, "steps": 2000, "temperature": 0.01, "learning_rate": 2e-5, "length": 128}


def compare(cfg, task):
    """One row for each rate and arm, with the numbers of each seed as "runs"."""
    rows, update = [], rules.updates(cfg, task["encode"])
    for rate, (arm, rule) in itertools.product(cfg.rates, rules.ARMS[cfg.compare].items()):
        runs, own = [], rules.settings(cfg, arm)
        for seed in range(cfg.seeds):
            given = {"batches": planted.batches_of(own, task, rate, seed, arm == RANDOM), "key": seed}
            given["mesh"] = text_models.mesh_for(own.batch_size)
            state = train.fit(init=task["init"], update=update[arm], steps=own.steps, **given)
            runs.append(task["evaluate"](state.params))
        row = {"arm": arm, "rate": rate}
        for name in runs[0]:
            row[name], row[f"± {name}"] = results.spread([r[name] for r in runs])
        if isinstance(rule, float):
            row |= planted.mask_quality(cfg, task, rate, rule, arm == RANDOM)
        rows.append(row | {"runs": runs})
        print(f"{arm} at {rate}: {row['top-1']:.4f}", flush=True)
    return rows


def asked(arm, differences, over=BARE, **options):
    """The answer to a claim about the gain of an arm, [seeds, rates]; None without it or with few rates."""

    def ours(t):
        if not {arm, over} <= {row["arm"] for row in t.get("arms", ())}:
            return None
        found = differences(gain(t["arms"], arm, over))
        return results.paired(found, **options) if found.size else None

    return ours


GIST = "2402.16829"
CLAIMS = (
    Claim(
        GIST,
        "Where fewest senses repeat, the loss without a guide is not above the guided one",
        asked(GUIDED, lambda x: -x[:, 0], denied=True),
    ),
    Claim(
        GIST,
        "Where most senses repeat, the guided loss is above the one without a guide",
        asked(GUIDED, lambda x: x[:, -1]),
    ),
    Claim(
        GIST,
        "The gain of the guide grows with the share of repeated senses",
        asked(GUIDED, lambda x: np.diff(x, axis=1)),
    ),
    Claim(
        GIST,
        "Negatives that the encoder ranks too high are better alone than with the others, at every share",
        asked(HARD, lambda x: x, over=GUIDED),
    ),
    Claim(
        GIST,
        "Guided triplets beside the guided loss are better than the loss alone, at every share",
        asked(TRIPLETS, lambda x: x, over=GUIDED),
    ),
    Claim(
        "",
        "At equal numbers of pairs, batches of 256 are better than batches of 16",
        asked(rules.MANY, lambda x: x, over=rules.FEW),
    ),
    Claim(
        "",
        "A temperature of 1 is worse than the usual one",
        asked(rules.USUAL, lambda x: x, over=rules.BLUNT),
    ),
    Claim(
        "",
        "A random guide is not above none, whatever share of the senses repeats",
        asked(RANDOM, lambda x: x, denied=True),
    ),
)


def figures(numbers):
    """Each number against the rate, a line for each arm; STS-B has a panel of its own."""
    rows = numbers.get("arms")
    if not rows:
        return {}
    shown = {"top-1": "top-1 among held-out senses", "STS-B": "Spearman on STS-B's test pairs"}
    shown = {key: label for key, label in shown.items() if key in rows[0]}

    def draw(axes):
        axes[0, 0].figure.set_size_inches(5 * len(shown) + 3, 5)
        for panel, (key, label) in zip(axes[0], shown.items(), strict=True):
            for arm in dict.fromkeys(row["arm"] for row in rows):
                style = rules.LINES.get(arm, "-")
                lines = [[r[k] or 0 for r in rows if r["arm"] == arm] for k in ("rate", key, f"± {key}")]
                panel.errorbar(*lines, label=arm, capsize=3, marker="o", ls=style)
            panel.set(xlabel="share of each batch that repeats a sense", ylabel=label)
            panel.grid(alpha=0.3)
        axes[0, 0].figure.suptitle(
            "False negatives, with and without a guide; bars: deviation over the seeds"
        )
        plots.legend(axes[0, -1])

    return {"": (draw, (1, len(shown)))}


def own_pairs(cfg):
    """Fine-tunes a model on pairs with and without the guide; the guided one is saved."""
    pairs = data.all_nli() if cfg.paper else data.sentence_pairs(cfg.pairs)
    if "scores" in pairs:
        raise ValueError(
            f"--pairs {cfg.pairs}: the third column holds scores; leave pairs that belong together"
        )
    flags.enough_pairs(cfg, len(pairs["first"]), 3)  # one is held out, and two make a batch
    order = np.random.default_rng(0).permutation(len(pairs["first"]))
    held, kept = np.split(order, [min(cfg.test, -(-len(order) // 10))])
    flags.at_most(cfg, "batch_size", len(kept), f"there are only {len(kept)} pairs to train on")
    held, kept = ({n: [x[i] for i in rows] for n, x in pairs.items()} for rows in (held, kept))
    encoder = text_models.load(cfg.model)
    guide = text_models.load(cfg.guide, "guide") if cfg.guide else encoder
    flags.at_most(cfg, "length", encoder.max_length, f"the encoder reads {encoder.max_length} tokens")
    masks = np.stack([encoder.tokenize(x, length=cfg.length)["mask"] for x in kept.values()])
    text_models.print_reading(masks, len(kept["first"]), cfg.steps * cfg.batch_size)

    def row(arm, encoder):
        found = metrics.partner_ranks(*(encoder.encode_texts(held[side]) for side in ("first", "second")))
        return {"arm": arm, "top-1": float(np.mean(found == 1)), "MRR": float(np.mean(1 / found))}

    rows, given = [row("before", encoder)], {"steps": cfg.steps, "batch_size": cfg.batch_size}
    given |= {"length": cfg.length, "temperature": cfg.temperature, "rate": cfg.learning_rate or 2e-5}
    for arm, rule in ((BARE, {}), (GUIDED, {"guide": guide, "margin": cfg.margin})):
        flags.stage(f"trains {cfg.steps} steps: {arm}")
        tuned = recipes.fine_tune(encoder, kept, blocks=BLOCKS, **given, **rule)
        rows.append(row(arm, tuned))
    text_models.save_trained(tuned, cfg.workdir, "the guided encoder")
    counts = {"pairs": len(kept["first"]), "held out": len(held["first"]), "seeds": 1}
    return Result({"own pairs": rows}, counts)


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets(*([] if cfg.pairs is not None or cfg.paper else ["wordnet"]))
    inputs.sts(cfg.sts, "test")


def run(cfg):
    """Every arm at every rate of planted false negatives, or a model on pairs of a user."""
    if cfg.pairs is not None or cfg.paper:
        return own_pairs(cfg)
    rows = compare(cfg, planted.prepare(cfg))
    hidden = {} if cfg.compare == "batches" else {"gains": gains(rows)}
    return Result({"arms": rows} | hidden)


if __name__ == "__main__":
    results.main(
        "false_negatives",
        Config,
        run,
        CLAIMS,
        figures=figures,
        quick=QUICK,
        paper=PAPER,
        check=look,
        runs=RUNS,
    )
