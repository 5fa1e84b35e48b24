"""Do dictionary definitions, classified to vectors of their entries, make a sentence encoder better?

    python -m experiments.definitions                          # WordNet
    python -m experiments.definitions --sts path/to/stsb       # and STS-B's test pairs
    python -m experiments.definitions --compare sentences      # pretrained pooler, prompt, SimCSE
    python -m experiments.definitions --pairs entries.tsv --model folder    # your own dictionary

Papers: DefSent (arXiv:2105.04339), DefSent+ (arXiv:2405.16153), SimCSE (arXiv:2104.08821). `make data` brings
WordNet and the encoder.
About 5 minutes on 2 CPU cores; with --seeds 5, 8 minutes, the claims get intervals and verdicts.
"""

import dataclasses
import functools
import pathlib
from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax

from experiments.definitions import dictionaries, sentences
from experiments.definitions.sentences import ONE, POOLER, PROMPT, RAW, RAW_PROMPT, SIMCSE
from experiments.definitions.training import even, fit, open_encoder, progressive, start, whiten, with_blocks
from experiments.shared import flags, inputs, plots, results, text_models
from experiments.shared.results import Claim, Result
from jaxembed import losses, metrics, train, vectors


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains the first blocks of a text encoder on definitions against frozen vectors of entries."""

    compare: Literal["tables", "sentences"] = "tables"  # vectors of entries, or ways to read a sentence
    pairs: pathlib.Path | None = None  # a file of your own: entry, tab, definition; one definition a line
    words: int = 2000  # entries of WordNet that are drawn anew for each seed
    test: int = 500  # held-out senses whose examples look for their definitions
    steps: int = 100  # of a stage
    batch_size: int = 32
    learning_rate: float = 1e-4
    simcse_rate: float = 3e-5  # SimCSE's, as published
    scale: float = 5.0  # multiplies the products with entries, whose mean length is made 1
    length: int = 16  # tokens of a definition in training
    blocks: int | None = None  # first blocks of the model that are kept; None: 2 on WordNet, else all
    seeds: int = 3
    validate: bool = False  # test on other senses and definitions; the settings above were chosen there
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    sts: pathlib.Path | None = None  # folder with stsb-en-test.csv
    paper: bool = False  # all of WordNet and all blocks, with the settings of PAPER
    quick: bool = False  # one seed, 20 steps, 300 entries
    workdir: pathlib.Path = pathlib.Path("runs/definitions")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"words": (10, 10**7), "test": (2, 10**6), "steps": (1, 10**7), "batch_size": (1, 10**6)}
        limits |= {"length": (3, 512), "seeds": (1, 100), "scale": (1e-6, 1e6), "blocks": (1, 1000)}
        flags.check(self, limits | {"learning_rate": (1e-9, 10), "simcse_rate": (1e-9, 10)})
        flags.exclude(self, "pairs", ("words", "test", "paper", "compare"))


QUICK = {"seeds": 1, "steps": 20, "words": 300, "test": 100}
PAPER = {"words": 10**7, "steps": 6000, "learning_rate": 2e-5, "length": 141, "seeds": 1}
DEFSENT, WHITE = "DefSent", "DefSent+, one stage, whitened"
TWO, ON = "DefSent+, two stages", "DefSent+, two stages, continued"


def make_update(cfg, encoder, activation=jnp.tanh):
    """The step of every stage; what is frozen travels as ``extra``, so that all stages share a program."""

    def loss_fn(params, batch, key, frozen):
        table, rest = frozen
        states = encoder.encode(rest | {"blocks": params["blocks"]}, batch["text"])
        sentence = activation(states @ params["pooler"]["kernel"] + params["pooler"]["bias"])
        loss = losses.frozen_softmax(sentence, table, positives=batch["entry"], temperature=1 / cfg.scale)
        return loss.mean(), ({}, frozen)

    decay = optax.linear_schedule(cfg.learning_rate, 0, cfg.steps)
    return train.gradient_update(loss_fn, optax.chain(optax.clip_by_global_norm(1), optax.adamw(decay)))


def train_arms(cfg, encoder, update, trained, names, seed):
    """{arm: parameters} and {table: its isotropy} of one draw of entries."""
    begin, first = start(encoder), []
    numbers, texts = np.array([n for n, _ in trained]), [text for _, text in trained]

    def entries(params):
        return vectors.entry_means(with_blocks(encoder, params).encode_texts(texts), numbers, len(names))

    def run(params, table, pairs=trained):
        flags.stage(f"seed {seed}: trains {cfg.steps} steps on {len(pairs):,} definitions")
        return fit(cfg, encoder, update, params, table, pairs, seed)

    def stage(params, table):
        first.append((run(params, table), table))
        return first[-1][0]

    vocabulary = encoder.tokenizer.get_vocab()
    single = [(vocabulary[names[n]], text) for n, text in trained if names[n] in vocabulary]
    words = encoder.params["table"]["embedding"]
    found = {RAW: begin}
    if len(single) >= cfg.batch_size:
        found[DEFSENT] = run(begin, words, single)
    found[TWO] = progressive(begin, entries, stage, [lambda t: t, lambda t: t])
    (found[ONE], raw), (_, better) = first
    found[WHITE] = progressive(begin, lambda _: raw, run, [whiten])
    found[ON] = run(found[ONE], better)
    tables = {"word vectors": words, "entries, raw": raw, "entries, stage 1": better}
    tables |= {"entries, stage 2": entries(found[TWO]), "entries, whitened": whiten(raw)}
    share = {"entries of one token": float(np.mean([name in vocabulary for name in names]))}
    share["entries of several words"] = float(np.mean([" " in name for name in names]))
    even_tables = {n: metrics.isotropy(even(t)) for n, t in tables.items()}
    return found, {n: {k: float(v) for k, v in scores.items()} for n, scores in even_tables.items()}, share


def one_draw(cfg, encoder, updates, seed, score):
    """Numbers by arm, isotropy by table and what was drawn, of one seed; and the parameters by arm."""
    entries, examples = dictionaries.dictionary(cfg, seed)
    trained, held = dictionaries.split(cfg, entries, seed)
    if cfg.compare == "sentences":
        readers = sentences.train_arms(cfg, encoder, updates, trained, len(entries), seed)
        found, tables, share = readers, {}, {}
    else:
        given = updates(jnp.tanh), trained, list(entries), seed
        found, tables, share = train_arms(cfg, encoder, *given)
        readers = {arm: with_blocks(encoder, params) for arm, params in found.items()}
    numbers = {}
    for arm, reader in readers.items():
        given = trained, held, examples, len(entries), score
        numbers[arm] = dictionaries.evaluate(reader, *given)
        print(f"seed {seed}, {arm}: {numbers[arm]}", flush=True)
    share |= {"entries": len(entries), "definitions": len(trained), "held out": len(held)}
    return {"numbers": numbers, "isotropy": tables, "data": share}, found


def summary(draws):
    """One row for each arm: means over the seeds, and how many seeds are above raw."""
    rows = []
    for arm in draws[0]["numbers"]:
        row = {"arm": arm}
        having = [d["numbers"] for d in draws if arm in d["numbers"]]
        for name in having[0][arm]:
            above = [numbers[arm][name] > numbers[RAW][name] for numbers in having]
            row[name], row[f"± {name}"] = results.spread([numbers[arm][name] for numbers in having])
            row[f"{name} above raw"] = f"{sum(above)}/{len(above)}"
        rows.append(row)
    return rows


def gap(t, measure, above, below):
    """The answer to a claim about a measure of two arms; None where one of them was not trained."""
    draws = [d["numbers"] for d in t["draws"]]
    both = [n for n in draws if {above, below} <= n.keys() and measure in n[above]]
    return results.paired([n[above][measure] - n[below][measure] for n in both]) if both else None


def rise(t):
    """The answer to the claim about the IsoScore of the entries; None where no tables are compared."""
    if not t["draws"][0]["isotropy"]:
        return None
    stages = [f"entries, {n}" for n in ("raw", "stage 1", "stage 2")]
    return results.paired(np.diff([[d["isotropy"][n]["isoscore"] for n in stages] for d in t["draws"]]))


PLUS, DROPPED = "2405.16153", "2104.08821"
CLAIMS = (
    *(
        Claim(paper, f"{measure}: {sentence}", functools.partial(gap, measure=measure, above=a, below=b))
        for measure in ("entry MRR", "example MRR", "STS-B")
        for sentence, a, b, paper in (
            ("DefSent is above the raw encoder", DEFSENT, RAW, PLUS),
            ("DefSent+ is above DefSent", ONE, DEFSENT, PLUS),
            ("whitened entries are better than raw ones", WHITE, ONE, PLUS),
            ("a second stage adds", TWO, ONE, PLUS),
            ("starting again is better than going on", TWO, ON, PLUS),
            ("a pretrained pooler is better than a layer that starts as the identity", POOLER, ONE, PLUS),
            ("after training a prompt is better than the mean", PROMPT, ONE, PLUS),
            ("before training a prompt is better than the mean", RAW_PROMPT, RAW, PLUS),
            ("SimCSE is above the raw encoder", SIMCSE, RAW, DROPPED),
            ("DefSent+ is above SimCSE on the same definitions", ONE, SIMCSE, PLUS),
        )
    ),
    Claim(PLUS, "The IsoScore of the entries rises with the stages", rise),
)


def figures(numbers):
    """Bars of what each arm gains over the raw encoder, in points."""
    raw, *arms = numbers["arms"]
    names = [n for n in raw if n != "arm" and "±" not in n and "above" not in n]

    def draw(axes):
        for i, name in enumerate(names):
            place = np.arange(len(arms)) + i * 0.8 / len(names)
            height = [100 * (r[name] - raw[name]) for r in arms]
            error = [100 * (r[f"± {name}"] or 0) for r in arms]
            axes.barh(place, height, 0.8 / len(names), xerr=error, label=name, capsize=2)
        axes.set(yticks=np.arange(len(arms)) + 0.3, yticklabels=[r["arm"] for r in arms])
        axes.invert_yaxis()
        axes.axvline(0, color="black", lw=0.8)
        axes.set(xlabel="points above the untrained encoder")
        axes.set(title="Definitions as training data; lines: deviation over the seeds")
        plots.legend(axes, handlelength=2)

    return {"": draw} if names else {}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets(*([] if cfg.pairs else ["wordnet"]))
    inputs.sts(cfg.sts, "test")


def run(cfg):
    """Every arm for every draw of entries; with a user's dictionary the encoder of two stages is saved."""
    whole, encoder = open_encoder(cfg)
    updates = functools.lru_cache(functools.partial(make_update, cfg, encoder))
    score = text_models.similarity(cfg.sts) if cfg.sts else None
    draws = []
    for seed in range(cfg.seeds):
        numbers, found = one_draw(cfg, encoder, updates, seed, score)
        draws.append(numbers)
    if cfg.pairs is not None:
        text_models.save_trained(with_blocks(whole, found[TWO]), cfg.workdir, f"the encoder of {TWO!r}")
    isotropy = [{"table": n} | scores for n, scores in draws[0]["isotropy"].items()]
    tables = {"arms": summary(draws)} | ({"isotropy, first seed": isotropy} if isotropy else {})
    return Result(tables, {"draws": draws})


if __name__ == "__main__":
    results.main("definitions", Config, run, CLAIMS, figures=figures, quick=QUICK, paper=PAPER, check=look)
