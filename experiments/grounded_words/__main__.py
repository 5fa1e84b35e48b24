"""Are vectors of words better when counts of what is seen together and pictures are combined?

    python -m experiments.grounded_words                              # drawn scenes, and WordNet's texts
    python -m experiments.grounded_words --path captions_val2017.json # COCO's captions in WordNet's place
    python -m experiments.grounded_words --quick                      # one seed, fewer words

Paper: IMAGINATOR (arXiv:2305.10438). `make data` brings WordNet and the judged pairs of words. About 4
minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.grounded_words import captions, projector, scenes
from experiments.shared import flags, inputs, plots, results
from experiments.shared.results import Claim, Result
from jaxembed import arrays, metrics, vectors


@dataclasses.dataclass(frozen=True)
class Config:
    """Learns names from scenes and pictures, and words from texts, beside simpler ways."""

    path: pathlib.Path | None = None  # COCO's captions; None takes WordNet's definitions and examples
    names: int = 300  # of the drawn scenes, a fifth held out
    pictures: int = 5000
    width: int = 64  # of the text spaces
    hidden: int = 512  # of the projector
    dropout: float = 0.5
    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 2e-4
    margin: float = 0.1  # in units of squared distance, summed over the coordinates
    ridge: float = 1.0  # of CCA, in units of the mean variance
    words: int = 3000  # commonest words of the texts
    seeds: int = 5
    first_seed: int = 0
    quick: bool = False  # one seed, 200 steps, 1,000 words
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"names": (50, 10**5), "pictures": (10, 10**7), "width": (2, 1000), "steps": (1, 10**7)}
        limits |= {
            "batch_size": (2, 10**5),
            "learning_rate": (1e-9, 10),
            "margin": (0, 4),
            "dropout": (0, 0.95),
        }
        limits |= {"hidden": (1, 10**5), "words": (300, 20_000), "seeds": (1, 100), "ridge": (0, 10**6)}
        flags.check(self, limits | {"first_seed": (0, 10**6)})


QUICK = {"seeds": 1, "steps": 200, "words": 1000}
LEAK, NONE = 0.2, 0.0  # how much of a topic shows in pictures
PROJECTOR, CCA, PLS = projector.PAPER, "CCA", "PLS"
TEXT, IMAGE, JOINT = "text", "image", "combined"


def retrieval(cfg, updates, seed, leak):
    """Recall@10 of the text vectors of names never seen, for each way to map pictures; and all vectors."""
    drawn = scenes.scenes(seed, names=cfg.names, pictures=cfg.pictures, leak=leak)
    first, second = scenes.text_spaces(drawn, cfg.width)
    text, feature = np.asarray(arrays.unit(first)), np.asarray(arrays.unit(drawn["feature"]))
    rows = np.random.default_rng(seed).permutation(cfg.names)
    held, kept = np.split(rows, [cfg.names // 5])
    made = {
        way: projector.fitted(cfg, way, update, feature, text, kept, seed) for way, update in updates.items()
    }
    told = {way: (image[held], text[held]) for way, image in made.items()}
    for name, kind in ((CCA, "cca"), (PLS, "pls")):
        size = min(len(kept), cfg.width) // 2
        found = vectors.canonical(feature[kept], text[kept], size=size, kind=kind, ridge=cfg.ridge)
        sides = ((found["x"], feature), (found["y"], text))
        told[name] = tuple(vectors.standardise(side, x[held]) for side, x in sides)
    ranks = {name: metrics.partner_ranks(*both) for name, both in told.items()}
    recall = {name: float(np.mean(r <= 10)) for name, r in ranks.items()}
    return recall, {
        "drawn": drawn,
        "kept": kept,
        "held": held,
        "spaces": (first, second, feature, made[PROJECTOR]),
    }


def kinds(cfg, found):
    """How well the 5 nearest names tell the topic and the visual kind of held-out names, by space."""
    first, second, feature, image = found["spaces"]
    kept, held, drawn = found["kept"], found["held"], found["drawn"]
    where = np.isin(np.arange(cfg.names), kept)
    visual = vectors.spectral_embedding(feature - feature[kept].mean(axis=0), cfg.width, power=1.0)[0]
    made = {
        TEXT: first,
        IMAGE: feature,
        JOINT: vectors.combine_spaces([first, second, image], [3, 3, 2], align="pls", where=where),
        "combined, features": vectors.combine_spaces([first, second, visual], [1, 1, 2], align="procrustes"),
    }
    rows = {}
    for name, x in made.items():
        x = np.asarray(arrays.unit(x))
        rows[name] = {
            label: metrics.nearest_accuracy(x[kept], drawn[label][kept], x[held], drawn[label][held], k=5)
            for label in ("topic", "kind")
        }
    return rows


def spoken(cfg):
    """Words of texts by PPMI, by raw counts and by skip-gram, on bootstrap samples of the texts."""
    flags.stage("counts words of texts")
    sets, words = captions.numbered(captions.texts(cfg.path), cfg.words)
    runs = []
    for seed in range(cfg.first_seed, cfg.first_seed + cfg.seeds):
        some = np.random.default_rng(seed).integers(0, len(sets), len(sets))
        made = captions.spaces([sets[i] for i in some], len(words), cfg.width, seed)
        runs.append({name: captions.quality(table, words, seed) for name, table in made.items()})
    return runs


def averaged(runs, first):
    """Rows of means and deviations of ``[{name: {measure: number}}]``."""
    rows = []
    for name in runs[0]:
        row = {first: name}
        for measure in runs[0][name]:
            row[measure], row[f"± {measure}"] = results.spread([run[name][measure] for run in runs])
        rows.append(row)
    return rows


def run(cfg):
    """Retrieval of unseen names, what combined vectors tell, and words of texts."""
    updates = projector.updates(cfg)
    recalls, told = [], []
    for seed in range(cfg.first_seed, cfg.first_seed + cfg.seeds):
        with_topic, found = retrieval(cfg, updates, seed, LEAK)
        without, _ = retrieval(cfg, updates, seed, NONE)
        pairs = {name: (recall, without[name]) for name, recall in with_topic.items()}
        columns = "recall@10", "no topic in pictures"
        recalls.append({name: dict(zip(columns, both, strict=True)) for name, both in pairs.items()})
        told.append(kinds(cfg, found))
        print(f"seed {seed}: {recalls[-1]} {told[-1]}", flush=True)
    texts = spoken(cfg)
    tables = {"unseen names": averaged(recalls, "map"), "what vectors tell": averaged(told, "space")}
    tables["words of texts"] = averaged(texts, "counts")
    return Result(tables, {"recalls": recalls, "told": told, "texts": texts, "chance": 10 / (cfg.names // 5)})


def joint(t):
    """Asks whether the combined vectors are within 0.03 of the better single space on both labels."""
    lost = [
        [run[JOINT][label] - max(run[TEXT][label], run[IMAGE][label]) for label in ("topic", "kind")]
        for run in t["told"]
    ]
    return results.paired(lost, margin=-0.03)


def recall(name, column, **options):
    """Asks whether the recall of a map is above chance."""
    return lambda t: results.paired([run[name][column] - t["chance"] for run in t["recalls"]], **options)


SOURCE = "2305.10438"
CLAIMS = (
    Claim(
        SOURCE, "A projector of some names finds unseen names above chance", recall(PROJECTOR, "recall@10")
    ),
    Claim(
        "",
        "Where pictures show nothing of the topic, it is not above chance",
        recall(PROJECTOR, "no topic in pictures", denied=True),
    ),
    Claim(
        "",
        "The projector finds more than CCA does",
        lambda t: results.paired([r[PROJECTOR]["recall@10"] - r[CCA]["recall@10"] for r in t["recalls"]]),
    ),
    Claim(SOURCE, "Combined vectors tell topic and kind within 0.03 of the better single space", joint),
    Claim(
        SOURCE,
        "PPMI vectors are above those of raw counts, by judged pairs and by the purity of classes",
        lambda t: results.paired(
            [[r["PPMI"][m] - r["raw counts"][m] for m in ("wordsim353", "purity")] for r in t["texts"]]
        ),
    ),
)


def figures(numbers):
    """Recall of unseen names, and what each space tells of them."""

    def bars(panel, rows, first, measures, title):
        for i, measure in enumerate(measures):
            places = np.arange(len(rows)) + 0.38 * (i - 0.5)
            error = [row[f"± {measure}"] or 0 for row in rows]
            panel.bar(places, [row[measure] for row in rows], 0.36, yerr=error, label=measure, capsize=3)
        panel.set(xticks=range(len(rows)), title=title, ylim=(0, 1.25))
        panel.set_xticklabels([row[first].replace(" ", "\n") for row in rows], fontsize=8)
        plots.legend(panel, loc="upper right")

    def draw(axes):
        axes[0, 0].figure.set_size_inches(13, 4.2)
        one, two, three = axes[0]
        measures = ["recall@10", "no topic in pictures"]
        bars(one, numbers["unseen names"], "map", measures, "recall@10 of unseen names; line: chance")
        one.axhline(numbers["chance"], color="gray", ls="--")
        bars(two, numbers["what vectors tell"], "space", ["topic", "kind"], "told by the 5 nearest names")
        bars(three, numbers["words of texts"], "counts", ["wordsim353", "purity"], "words of texts")

    return {"": (draw, (1, 3))}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.installed("sklearn")
    inputs.sets(*([] if cfg.path else ["wordnet"]))
    captions.data.word_pairs("wordsim353")


if __name__ == "__main__":
    results.main("grounded_words", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
