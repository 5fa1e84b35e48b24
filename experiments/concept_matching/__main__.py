"""Can the coordinates of a matching model carry the names of concepts without a loss?

    python -m experiments.concept_matching        # definitions of WordNet's nouns, concepts above them

Paper: SESA (arXiv:1708.03246), of which the abstract is public: losses, activation and similarity are our own
design. `make data` brings WordNet and all-MiniLM-L6-v2. About 4 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import optax

from experiments.concept_matching import senses
from experiments.concept_matching.measures import ESA, aligned, judge, unlearned
from experiments.shared import flags, inputs, results, text_models
from experiments.shared.results import Claim, Result
from jaxembed import data, encoders, losses, train, vectors


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains linear heads on frozen vectors, by related pairs and by lists of concepts."""

    items: int = 8000  # definitions
    concepts: int = 400  # senses above them
    pairs: tuple[int, ...] = (3000, 500)  # related pairs that are trained on
    listed: float = 0.3  # share of the items that list their concepts
    weight: float = 1.0  # of the concept loss
    unlabelled: float = 0.1  # weight of concepts that an item does not list
    steps: int = 300
    batch_size: int = 128
    rate: float = 1e-3
    temperature: float = 0.05
    tested: int = 1000  # queries, each with a related document and 20 others
    seeds: int = 5
    validate: bool = False  # test on other items
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    quick: bool = False  # one seed, one number of pairs, 60 steps, 2,000 items
    workdir: pathlib.Path = pathlib.Path("runs/concept_matching")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"items": (500, 10**6), "concepts": (5, 5000), "pairs": (8, 10**6), "listed": (0.01, 1)}
        limits |= {"weight": (0, 1000), "unlabelled": (0, 1), "steps": (1, 10**6), "batch_size": (2, 10**5)}
        limits |= {"rate": (1e-9, 1), "temperature": (1e-3, 100), "tested": (10, 10**5), "seeds": (1, 100)}
        flags.check(self, limits)


QUICK = {"seeds": 1, "pairs": (500,), "steps": 60, "items": 2000, "tested": 200}
SESA, FEWER, CLASSIFIER = "SESA", "SESA, a tenth of the concept loss", "concept classifier"
LATENT, LINEAR = "latent, sigmoid axes", "latent, linear axes"
ARMS = {  # (kind of axes, weight of relevance, weight of concepts as a share of --weight)
    SESA: ("sigmoid", 1.0, 1.0),
    FEWER: ("sigmoid", 1.0, 0.1),
    CLASSIFIER: ("sigmoid", 0.0, 1.0),
    LATENT: ("sigmoid", 1.0, 0.0),
    LINEAR: ("linear", 1.0, 0.0),
}


def explicit(params, x, kind):
    return encoders.concept_vectors(encoders.prefix_dense(params, x), kind=kind)


@functools.cache
def update(kind, relevance, concepts, unlabelled, temperature, rate):
    """A step of SESA: relevance of pairs in the explicit space, plus the concept loss of items that list."""

    def loss_fn(params, batch, key):
        sides = [explicit(params, batch[side], kind) for side in ("first", "second")]
        scores = vectors.explicit_similarity(*sides)
        ranked = jnp.mean(losses.softmax_loss(scores, temperature=temperature))
        logits = encoders.prefix_dense(params, batch["item"])
        listed = jnp.mean(losses.concept_loss(logits, batch["listed"], unlabelled=unlabelled))
        return relevance * ranked + concepts * listed, {}

    return train.gradient_update(loss_fn, optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)))


def fit(cfg, task, arm, pairs, listing, seed):
    """The head of an arm; latent axes start at random, named ones at the concepts."""
    kind, relevance, concepts = ARMS[arm]
    x, has, size = task["vectors"], task["has"], cfg.batch_size

    def make(places):
        rng = np.random.default_rng((seed, int(places[0])))
        first, second = pairs[rng.integers(len(pairs), size=size)].T
        items = listing[rng.integers(len(listing), size=size)]
        batch = {"first": x[first], "second": x[second], "item": x[items]}
        return batch | {"listed": has[items].astype(np.float32)}

    given = {"width": x.shape[1], "concepts": len(task["concepts"])}
    if concepts:
        given |= {"directions": task["concepts"], "shares": has[listing].mean(axis=0)}
    step = update(kind, relevance, cfg.weight * concepts, cfg.unlabelled, cfg.temperature, cfg.rate)
    return train.fit(
        init=lambda key: encoders.init_concepts(key, **given),
        update=step,
        batches=data.batches(np.arange(cfg.steps), 1, make=make, shuffle=False),
        steps=cfg.steps,
        key=seed,
        mesh=train.make_mesh(1),
        progress=False,
    ).params


def one_seed(cfg, task, seed):
    """{(arm, pairs): numbers}."""
    rows, made = task["train"], {}
    asked, shown = senses.candidates(task, task["test"], cfg.tested)
    listing = np.random.default_rng((seed, 2)).permutation(rows)[: max(8, round(cfg.listed * len(rows)))]
    related = senses.related(task, rows, max(cfg.pairs), (seed, 3))
    for arm, (kind, relevance, concepts) in ARMS.items():
        for count in cfg.pairs if relevance else (0,):
            params = fit(cfg, task, arm, related[: count or 8], listing, seed)
            found = np.asarray(explicit(params, jnp.asarray(task["vectors"]), kind))
            found = found if concepts else aligned(found, task)
            made[arm, count] = judge(task, found, asked, shown, task["test"])
    for arm, found in unlearned(task).items():
        made[arm, 0] = judge(task, found, asked, shown, task["test"])
    return made


def of(t, arm, count, name="MRR"):
    """The numbers of an arm over the seeds, [S]."""
    (row,) = [r for r in t["arms"] if (r["arm"], r["pairs"]) == (arm, count)]
    return np.array([run[name] for run in row["runs"]])


def above(arm, other, name="MRR", margin=0.0, most=True):
    """The answer to a claim that an arm is above another one, with most pairs or with fewest."""

    def ours(t):
        counts = [r["pairs"] for r in t["arms"] if r["arm"] == SESA]
        count = max(counts) if most else min(counts)
        places = [count if ARMS.get(a, (0, 0))[1] else 0 for a in (arm, other)]
        return results.paired(of(t, arm, places[0], name) - of(t, other, places[1], name), margin=margin)

    return ours


def widening(t):
    counts = sorted({r["pairs"] for r in t["arms"] if r["arm"] == SESA})
    gaps = [of(t, SESA, n) - of(t, LATENT, n) for n in (counts[0], counts[-1])]
    return results.paired(gaps[0] - gaps[1]) if len(counts) > 1 else None


PAPER_ID = "1708.03246"
CLAIMS = (
    Claim(
        PAPER_ID,
        "With most pairs, MRR of SESA is at most 0.03 below latent sigmoid axes",
        above(SESA, LATENT, margin=-0.03),
    ),
    Claim(
        PAPER_ID,
        "With fewest pairs, MRR of SESA is above latent sigmoid axes",
        above(SESA, LATENT, most=False),
    ),
    Claim(
        PAPER_ID,
        "The gap of SESA to latent axes grows as pairs become fewer",
        widening,
    ),
    Claim(
        PAPER_ID,
        "MRR of SESA is 0.05 above that of classic ESA",
        above(SESA, ESA, margin=0.05),
    ),
    Claim(
        PAPER_ID,
        "MRR of SESA is above that of a concept classifier without pairs",
        above(SESA, CLASSIFIER),
    ),
    Claim(
        PAPER_ID,
        "Explanations of SESA name more shared concepts than latent axes in their best order",
        above(SESA, LATENT, "precision@5"),
    ),
    Claim(
        PAPER_ID,
        "Explanations of SESA name more shared concepts than those of classic ESA",
        above(SESA, ESA, "precision@5"),
    ),
)


def figures(numbers):
    """MRR and precision of explanations of every arm."""
    rows = numbers.get("arms")
    if not rows:
        return {}

    def draw(axes):
        axes[0, 0].figure.set_size_inches(11, 5)
        names = [r["arm"] + (f", {r['pairs']:,} pairs" if r["pairs"] else "") for r in rows][::-1]
        for panel, name in zip(axes[0], ("MRR", "precision@5"), strict=True):
            values = [r[name] for r in rows][::-1]
            panel.barh(names, values, xerr=[r[f"± {name}"] or 0 for r in rows][::-1])
            panel.set(xlabel={"MRR": "MRR among 21"}.get(name, "shared concepts among the five named"))
        axes[0, 1].set_yticklabels([])

    return {"": (draw, (1, 2))}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets("wordnet")
    inputs.installed("sklearn")
    text_models.load(cfg.model)


def run(cfg):
    """Every arm of every seed on the same items."""
    task = senses.read(cfg)
    runs = []
    for seed in range(cfg.seeds):
        flags.stage(f"trains, seed {seed}")
        runs.append(one_seed(cfg, task, seed))
    rows = []
    for arm, count in runs[0]:
        some = [run[arm, count] for run in runs]
        row = {"arm": arm, "pairs": count}
        for name in some[0]:
            row[name], row[f"± {name}"] = results.spread([x[name] for x in some])
        rows.append(row | {"runs": some})
    return Result({"arms": rows}, {"items": len(task["texts"]), "concepts": task["names"]})


if __name__ == "__main__":
    results.main("concept_matching", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
