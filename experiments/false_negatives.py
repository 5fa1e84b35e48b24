"""Does a guide model that hides suspected false negatives help contrastive training?

    python -m experiments.false_negatives                          # WordNet, false negatives planted
    python -m experiments.false_negatives --sts path/to/stsb       # and STS-B's test pairs
    python -m experiments.false_negatives --model folder --pairs pairs.tsv    # fine-tune on your own pairs

HEADER
"""

import dataclasses
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import glosses, report, text_models
from jaxembed import data, encoders, losses, train
from jaxembed.arrays import masked_mean


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a small encoder beside several rules for who counts as a negative."""

    rates: tuple[float, ...] = (0.0, 0.25, 0.5)  # shares of a batch that repeat a sense of the batch
    senses: int = 3000  # trained on, each with two pairs of texts
    test: int = 1000  # senses that are searched
    steps: int = 300
    batch_size: int = 64
    learning_rate: float | None = None  # None: 3e-3 for the small encoder, 2e-5 for a model with --pairs
    temperature: float = 0.05
    width: int = 128  # of the small encoder
    length: int = 32  # tokens of a text
    seeds: int = 3
    validate: bool = False  # test on other senses; the rates above were chosen there
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    guide: pathlib.Path | None = None  # None: the model as it is
    margin: float = 0.0  # of the guide, with --pairs
    pairs: pathlib.Path | None = None  # a file of your own: two texts per line, or three with a negative
    paper: bool = False  # SNLI and MultiNLI through TFDS in place of a file, with the settings of PAPER
    sts: pathlib.Path | None = None  # folder with stsb-en-test.csv
    quick: bool = False  # one seed, 60 steps, 600 senses
    workdir: pathlib.Path = pathlib.Path("runs/false_negatives")
    results: pathlib.Path = report.RESULTS

    def __post_init__(self):
        limits = {"senses": (1, 10**6), "test": (2, 10**6), "steps": (1, 10**7), "batch_size": (2, 10**6)}
        limits |= {"temperature": (1e-3, 100), "width": (1, 10**4), "length": (3, 512), "seeds": (1, 100)}
        report.check(self, limits)
        if not all(0 <= rate <= 0.5 for rate in self.rates):
            raise ValueError("--rates: choose 0 to .5; a sense has two pairs, so at most half are repeats")


QUICK = {"seeds": 1, "steps": 60, "senses": 600, "test": 200}
PAPER = {"batch_size": 1024, "steps": 2000, "temperature": 0.01, "learning_rate": 2e-5, "length": 128}
BLOCKS = ("qd", "qq", "dd")
PLAIN, BARE, TRUTH, RANDOM = "InfoNCE", "all blocks", "all blocks, true senses", "all blocks, random guide"
GUIDED, WIDER = "all blocks, guided", "all blocks, guided, margin .05"
ARMS = {PLAIN: None, BARE: None, GUIDED: 0.0, WIDER: 0.05, RANDOM: 0.0, TRUTH: "truth"}


def make_loss(encode, arm, temperature, margin=None):
    """The loss of an arm: the same blocks everywhere, other pairs left out."""
    blocks, rule = ("qd",) if arm == PLAIN else BLOCKS, ARMS[arm] if margin is None else margin

    def loss_fn(params, batch, key):
        sides = [encode(params, batch[side]) for side in ("query", "document")]
        where = None
        if rule == "truth":
            where = jnp.tile(losses.duplicate_mask(batch["sense"]), (1, len(blocks)))
        elif rule is not None:
            where = losses.guided_mask(*batch["guide"].values(), margin=rule, blocks=blocks)
        return losses.info_nce(*sides, where=where, temperature=temperature, blocks=blocks).mean(), {}

    return loss_fn


def wordnet(cfg):
    """Two pairs for each of many senses, as (queries, documents), and one pair for each held-out sense.

    The first pair of a sense is (definition, first example), the second (definition without 30 % of its
    words, second example).
    """
    senses = [s for s in data.wordnet() if len(s["examples"]) > 1 and len(s["gloss"].split()) > 2]
    most = cfg.senses + 2 * cfg.test
    if len(senses) < most:
        raise ValueError(f"--senses {cfg.senses}: with --test {cfg.test}, at most {len(senses)} senses fit")
    rng = np.random.default_rng(0)
    chosen = [senses[i] for i in rng.permutation(len(senses))[:most]]
    trained, rest = chosen[: cfg.senses], chosen[cfg.senses :]
    held = rest[: cfg.test] if cfg.validate else rest[cfg.test :]
    pairs = [(s["gloss"], s["examples"][0]) for s in held]
    queries = [text for s in trained for text in (s["gloss"], glosses.shorten(s["gloss"], rng))]
    documents = [text for s in trained for text in s["examples"][:2]]
    return (queries, documents), tuple(map(list, zip(*pairs, strict=True)))


def planted(rows, repeats):
    """Numbers of pairs for a batch: one of every sense, then the other one of the first ``repeats``."""
    first = 2 * rows + np.arange(len(rows)) % 2
    return np.concatenate([first, first[:repeats] ^ 1])


def student(encoder, width, known):
    """The small encoder: the mean of word vectors plus a network of it, as (init, encode).

    The word vectors start as random projections of the model's.
    """
    words = encoder.params["table"]["embedding"][known]

    def init(key):
        turn, below = jax.random.split(key)
        table = words @ jax.random.normal(turn, (words.shape[1], width)) * width**-0.5
        return {"table": {"embedding": table}, "mlp": encoders.init_mlp(below, (width, 2 * width, width))}

    def encode(params, batch):
        mean = masked_mean(params["table"]["embedding"][batch["ids"]], batch["mask"])
        return mean + encoders.mlp(params["mlp"], mean)

    return init, encode


def prepare(cfg):
    """Everything that arms share: tokens, guides, the small encoder, how it is scored."""
    (queries, documents), held = wordnet(cfg)
    encoder = encoders.pretrained.load(text_models.find_model(cfg.model))
    read = functools.partial(text_models.tokens, encoder, length=cfg.length)
    sides = {"query": read(queries), "document": read(documents)}
    known = np.unique(np.concatenate([x["ids"][x["mask"]] for x in [*sides.values(), *map(read, held)]]))
    place = np.full(len(encoder.params["table"]["embedding"]), -1, np.int32)
    place[known] = np.arange(len(known))

    def small(batch):  # words that no text here holds are left out
        ids = place[batch["ids"]]
        return {"ids": np.maximum(ids, 0), "mask": batch["mask"] & (ids >= 0)}

    guide = encoders.pretrained.load(cfg.guide) if cfg.guide else encoder
    real = {"query": guide.encode_texts(queries), "document": guide.encode_texts(documents)}
    rng = np.random.default_rng(1)
    noise = {side: rng.normal(size=x.shape).astype(np.float32) for side, x in real.items()}
    init, encode = student(encoder, cfg.width, known)
    score = glosses.similarity(cfg.sts) if cfg.sts else None
    run, asked = jax.jit(encode), [small(read(side)) for side in held]

    def evaluate(params):
        found = glosses.places(*(run(params, side) for side in asked))
        numbers = {"top-1": float(np.mean(found == 1)), "MRR": float(np.mean(1 / found))}
        if score:
            numbers["STS-B"] = score(lambda texts: np.asarray(run(params, small(read(texts)))))
        return numbers

    sides = {side: small(x) for side, x in sides.items()}
    return {"sides": sides, "guides": (real, noise), "init": init, "encode": encode, "evaluate": evaluate}


def batches_of(cfg, task, rate, seed, noise=False):
    """Batches with planted false negatives; the guide's vectors travel with the texts."""
    repeats = round(rate * cfg.batch_size)

    def make(rows):
        pairs = planted(rows, repeats)
        batch = {side: text_models.take(x, pairs) for side, x in task["sides"].items()}
        guide = text_models.take(task["guides"][noise], pairs)
        return batch | {"guide": guide, "sense": (pairs // 2).astype(np.int32)}

    return data.batches(np.arange(cfg.senses), cfg.batch_size - repeats, make=make, seed=seed)


def mask_quality(cfg, task, rate, margin, noise=False, count=50):
    """Precision and recall of what a guide hides against what shares a sense, over all blocks."""
    hidden = true = both = 0
    source = batches_of(cfg, task, rate, 0, noise)
    for step in range(count):
        batch = source[step]
        guided = np.asarray(losses.guided_mask(*batch["guide"].values(), margin=margin, blocks=BLOCKS))
        own = np.tile(np.eye(cfg.batch_size, dtype=bool), (1, len(BLOCKS)))
        same = np.tile(batch["sense"][:, None] == batch["sense"], (1, len(BLOCKS))) & ~own
        drop = ~guided & ~own
        hidden, true, both = hidden + drop.sum(), true + same.sum(), both + (drop & same).sum()
    total = count * len(BLOCKS) * cfg.batch_size * (cfg.batch_size - 1)
    precision, recall = (float(both / x) if x else None for x in (hidden, true))
    return {"precision": precision, "recall": recall, "hidden": float(hidden / total)}


def compare(cfg, task):
    """One row for each rate and arm."""
    tx, rows = optax.adam(cfg.learning_rate), []
    update = {a: train.gradient_update(make_loss(task["encode"], a, cfg.temperature), tx) for a in ARMS}
    for rate in cfg.rates:
        for arm, rule in ARMS.items():
            runs = []
            for seed in range(cfg.seeds):
                given = {"batches": batches_of(cfg, task, rate, seed, arm == RANDOM), "key": seed}
                state = train.fit(init=task["init"], update=update[arm], steps=cfg.steps, **given)
                runs.append(task["evaluate"](state.params))
            row = {"arm": arm, "rate": rate}
            for name in runs[0]:
                row[name], row[f"± {name}"] = glosses.spread([r[name] for r in runs])
            if isinstance(rule, float):
                row |= mask_quality(cfg, task, rate, rule, arm == RANDOM)
            rows.append(row | {"runs": runs})
            print(f"{arm} at {rate}: {row['top-1']:.4f}", flush=True)
    return rows


def tops(rows, arm, rate):
    """Top-1 of every seed."""
    return np.array([r["top-1"] for row in rows if (row["arm"], row["rate"]) == (arm, rate) for r in row["runs"]])


def gains(rows, rates):
    """What hiding gains over the same blocks, and the share of the true senses' gain that a guide gets."""
    found = []
    for rate in rates:
        bare = tops(rows, BARE, rate)
        gain = {arm: tops(rows, arm, rate) - bare for arm in (GUIDED, WIDER, RANDOM, TRUTH)}
        row = {"rate": rate} | {f"gain, {arm.split(', ', 1)[1]}": float(g.mean()) for arm, g in gain.items()}
        best = gain[TRUTH].mean()
        row["share of true senses"] = float(gain[GUIDED].mean() / best) if rate and best > 0 else None
        found.append(row | {"seeds won": int((gain[GUIDED] > 0).sum())})
    return found


def criteria(rows, rates):
    """What counts as reproduced: {sentence: bool}."""
    low, high = min(rates), max(rates)
    gain = [(tops(rows, GUIDED, rate) - tops(rows, BARE, rate)) for rate in sorted(rates)]
    noise = [(tops(rows, RANDOM, rate) - tops(rows, BARE, rate)) for rate in sorted(rates)]
    within = [2 * g.std(ddof=1) / len(g) ** 0.5 if len(g) > 1 else 0.0 for g in (*gain, *noise)]
    return {
        f"guided is not below unguided at {low:g}, within two standard errors": bool(
            gain[0].mean() >= -within[0]
        ),
        f"guided is above unguided at {high:g} on every seed": bool((gain[-1] > 0).all()),
        "the gain grows with the rate": bool((np.diff([g.mean() for g in gain]) > 0).all()),
        "a random guide is not above unguided, within two standard errors": all(
            n.mean() <= w for n, w in zip(noise, within[len(gain) :], strict=True)
        ),
    }
