"""Do vectors of several senses find the two words behind a pseudo-word, and what does each part of them add?

    python -m experiments.word_senses             # 20 Newsgroups with 20 pseudo-words
    python -m experiments.word_senses --quick     # one seed, a shorter text
    python -m experiments.word_senses --contexts labelled.csv    # contexts of your own, text,line.cord

Paper: Disambiguated skip-gram (aclanthology.org/D18-1174), part of a dissertation whose other part is binary
paragraph vectors (arXiv:1611.01116); the hard case is MSSG (arXiv:1504.06654). `make data` brings the texts
and WordNet. About 3 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
import optax

from experiments.shared import flags, inputs, plots, results
from experiments.shared.results import Claim, Result
from experiments.word_senses import pseudo
from jaxembed import losses, metrics, train


@dataclasses.dataclass(frozen=True)
class Config:
    """Merges pairs of nouns into one token each, and induces which of the two stood there."""

    tokens: int = 600_000  # of the corpus
    least: int = 60  # a word that comes less often is left out
    pairs: int = 20  # pseudo-words of a seed, each two nouns drawn at random
    senses: int = 2
    width: int = 50
    reach: int = 5  # words of the context on either side
    batch_size: int = 512
    epochs: int = 5  # of the second stage, over the places of pseudo-words
    learning_rate: float = 0.01
    entropy_weight: float = -0.1  # of the first stage; below 0 rewards an even use of the senses
    negatives: int = 64
    seeds: int = 5
    first_seed: int = 0  # of the pseudo-words; settings were chosen on those from 100 on
    contexts: pathlib.Path | None = None  # labelled contexts in place of pseudo-words, .csv or .tsv
    quick: bool = False  # one seed, 150,000 tokens
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"tokens": (10_000, 10**8), "least": (1, 10**6), "pairs": (1, 1000), "senses": (2, 20)}
        limits |= {"width": (2, 1000), "reach": (1, 5), "batch_size": (2, 10**5), "epochs": (1, 1000)}
        limits |= {"learning_rate": (1e-9, 10), "negatives": (1, 10**4), "seeds": (1, 100)}
        flags.check(self, limits | {"first_seed": (0, 10**6)})


QUICK = {"seeds": 1, "tokens": 150_000, "least": 30}
FULL, HARD, SOFT, COLD = "both stages", "MSSG", "no draws", "no first stage"
EACH = "a draw for each word"
FIRST, GROUPS, RANDOM = "first stage only", "k-means of contexts", "random"


@functools.cache
def updates(cfg):
    """What each stage trains, compiled once for all seeds."""
    tx = optax.adam(cfg.learning_rate)

    def sampled(batch):
        return batch["samples"], batch["noise"]

    def loss_of(draws, entropy_weight):
        def loss_fn(params, batch, key):
            given = {"mask": batch["mask"], "entropy_weight": entropy_weight, "samples": sampled(batch)}
            given |= {"key": jax.random.fold_in(key, 1), "draws": draws} if draws else {}
            heat = batch["temperature"][0]  # of all rows
            loss = losses.sense_loss(params, batch["words"], batch["contexts"], temperature=heat, **given)
            return loss.mean(), {}

        return loss_fn

    def hard(params, batch, key, centres):
        words, contexts, mask = (batch[name] for name in ("words", "contexts", "mask"))
        choice, centres = losses.nearest_sense(params, centres, words, contexts, mask=mask)
        given = {"mask": mask, "choice": choice, "samples": sampled(batch)}
        return losses.sense_loss(params, words, contexts, **given).mean(), ({}, centres)

    stages = {"first": (None, cfg.entropy_weight), "drawn": ("place", 0.0), "each": ("word", 0.0)}
    stages["soft"] = None, 0.0
    made = {name: train.gradient_update(loss_of(*how), tx) for name, how in stages.items()}
    return made | {"hard": train.gradient_update(hard, tx)}


def fitted(cfg, corpus, seed, update, start, places, epochs, cooling=0):
    """Params after epochs over some places, from ``start``, which may come with centres."""
    given = {"reach": cfg.reach, "negatives": cfg.negatives, "seed": seed, "cooling": cooling}
    batches = pseudo.Batches(corpus["ids"], places, cfg.batch_size, corpus["noise"], **given)
    given = {"update": updates(cfg)[update], "batches": batches, "steps": epochs * batches.steps}
    return train.fit(init=lambda key: start, key=seed, **given)


def trained(cfg, corpus, seed):
    """The params of every arm. All share one first stage, but for those that do without."""
    shape = len(corpus["words"]), cfg.senses, cfg.width
    fit = functools.partial(fitted, cfg, corpus, seed)
    every, own = corpus["places"], np.flatnonzero(corpus["hidden"] >= 0)
    shared = fit("first", losses.init_senses(jax.random.key(seed), *shape, shared=True), every, 1).params
    start = losses.own_classifiers(shared)
    batch = min(cfg.batch_size, len(own))
    later = {"places": own, "epochs": cfg.epochs, "cooling": len(own) // batch * max(1, cfg.epochs // 3)}
    cold = fit("drawn", losses.init_senses(jax.random.key(seed), *shape), every, 1).params
    centres = losses.init_sense_centres(*shape)
    hard = fit("hard", (losses.init_senses(jax.random.key(seed), *shape), centres), every, 1)
    hard = fit("hard", (hard.params, hard.extra), own, cfg.epochs)
    return {
        FIRST: start,
        FULL: fit("drawn", start, **later).params,
        EACH: fit("each", start, **later).params,
        SOFT: fit("soft", start, own, cfg.epochs).params,
        COLD: fit("drawn", cold, **later).params,
        HARD: hard.params,
    }


def measured(cfg, corpus, seed):
    """ARI of each pseudo-word in each arm, the entropy of the choice, the senses kept, and what is drawn."""
    params, rng = trained(cfg, corpus, seed), np.random.default_rng(seed)
    at = np.flatnonzero(corpus["hidden"] >= 0)
    (contexts, mask), words = pseudo.windows(corpus["ids"], at, cfg.reach), corpus["ids"][at]
    places = [np.flatnonzero(words == word) for word in corpus["asked"]]
    truth, entropy = corpus["hidden"][at], {}
    told = {arm: np.asarray(losses.induce_sense(p, words, contexts, mask=mask)) for arm, p in params.items()}
    x = np.asarray(losses.context_vectors(params[FULL], contexts, mask))
    told[GROUPS] = np.concatenate([pseudo.groups(x[rows], cfg.senses, seed) for rows in places])
    told[GROUPS] = told[GROUPS][np.argsort(np.concatenate(places))]
    told[RANDOM] = rng.integers(0, cfg.senses, len(at))
    found = {arm: [metrics.adjusted_rand(truth[r], t[r]) for r in places] for arm, t in told.items()}
    for arm in (FIRST, FULL):
        logits = losses.sense_logits(params[arm], words, contexts, mask=mask)
        entropy[arm] = float(jax.scipy.special.entr(jax.nn.softmax(logits)).sum(axis=1).mean())
    priors = losses.sense_priors(params[FULL], [{"words": words, "contexts": contexts, "mask": mask}])
    kept = float(np.asarray(losses.prune_senses(priors))[corpus["asked"]].sum(axis=1).mean())
    best = int(np.argmax(found[FULL]))
    rows = rng.permutation(places[best])[:150]
    shown = {"words": corpus["names"][best], "ARI": float(found[FULL][best])}
    shown |= {"truth": truth[rows].tolist(), "told": told[FULL][rows].tolist()}
    return found, entropy, kept, shown | {"points": pseudo.flat(x[rows]).round(4).tolist()}


def run(cfg):
    """Every arm on the pseudo-words of each seed."""
    whole, runs, entropies, kept, shown = pseudo.corpus(cfg.tokens, cfg.least), [], [], [], None
    for seed in range(cfg.first_seed, cfg.first_seed + cfg.seeds):
        found, entropy, left, drawn = measured(cfg, pseudo.prepared(cfg, seed, whole), seed)
        runs.append({arm: float(np.mean(values)) for arm, values in found.items()})
        entropies.append(entropy)
        kept.append(left)
        shown = shown or drawn
        print({arm: round(value, 3) for arm, value in runs[-1].items()}, flush=True)
    rows = []
    for arm in runs[0]:
        mean, deviation = results.spread([run[arm] for run in runs])
        rows.append({"arm": arm, "ARI": mean, "± ARI": deviation})
    rows.sort(key=lambda row: -row["ARI"])
    entropy = []
    for arm in entropies[0]:
        mean, deviation = results.spread([e[arm] for e in entropies])
        entropy.append({"after": arm, "entropy": mean, "± entropy": deviation})
    entropy[-1]["senses kept"] = float(np.mean(kept))
    return Result({"arms": rows, "entropy": entropy}, {"runs": runs, "entropies": entropies, "shown": shown})


def above(arm, other):
    """Asks whether one arm's ARI is above that of another."""
    return lambda t: results.paired([run[arm] - run[other] for run in t["runs"]])


SOURCE = "1611.01116"
CLAIMS = (
    Claim(SOURCE, "Induced senses agree with the hidden words more than random ones do", above(FULL, RANDOM)),
    Claim(SOURCE, "Without the first stage the senses agree less", above(FULL, COLD)),
    Claim("", "The senses agree more than k-means groups of the same contexts", above(FULL, GROUPS)),
    Claim("", "The senses agree more than those of MSSG, which chooses hard", above(FULL, HARD)),
    Claim(SOURCE, "Draws of the Gumbel-softmax are above plain softmax weights", above(FULL, SOFT)),
    Claim(SOURCE, "So are draws for each word of a context, as the paper has them", above(EACH, SOFT)),
    Claim(
        SOURCE,
        "The entropy of the choice falls from the first stage to the second",
        lambda t: results.paired([e[FIRST] - e[FULL] for e in t["entropies"]]),
    ),
)


def figures(numbers):
    """ARI of the arms, and the contexts of one pseudo-word: the truth beside what is told."""

    def draw(axes):
        axes[0, 0].figure.set_size_inches(13, 4.2)
        rows = numbers["arms"][::-1]
        axes[0, 0].barh(
            [r["arm"] for r in rows], [r["ARI"] for r in rows], xerr=[r["± ARI"] or 0 for r in rows]
        )
        axes[0, 0].set(xlabel="adjusted Rand index; bars: deviation over seeds", title="pseudo-words")
        shown = numbers["shown"]
        points, told = np.array(shown["points"]), np.array(shown["told"])
        if set(shown["told"]) <= {0, 1} and np.mean(told == shown["truth"]) < 0.5:
            shown = shown | {"told": (1 - told).tolist()}  # the colours of the words; senses have no order
        titles = {"truth": "the word that stood there", "told": f"the induced sense (ARI {shown['ARI']:.2f})"}
        for panel, (kind, title) in zip(axes[0, 1:], titles.items(), strict=True):
            labels = shown["words"] if kind == "truth" else None
            for value in sorted(set(shown[kind])):
                own = np.array(shown[kind]) == value
                name = labels[value] if labels else f"sense {value + 1}"
                panel.scatter(*points[own].T, s=14, label=name, marker="ox^sv"[value % 5])
            panel.set(title=title, xticks=[], yticks=[], xlabel="first direction of contexts")
            plots.legend(panel, loc="best")
        axes[0, 1].set(ylabel="second direction")

    return {"": (draw, (1, 3))}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.installed("sklearn")
    inputs.sets("newsgroups", "wordnet")


if __name__ == "__main__":
    results.main("word_senses", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
