"""Do two masked views of items help two towers to find the items that a log hardly holds?

    python -m experiments.item_towers                     # WordNet: senses of nouns, correlated features
    python -m experiments.item_towers --data synthetic    # generated items, two latents behind eight features
    python -m experiments.item_towers --data movielens    # MovieLens-100K: films with two features and an id
    python -m experiments.item_towers --interactions log.csv --items items.csv --multivalent genres

Paper: Self-supervised Learning for Large-scale Item Recommendations (arXiv:2007.12865). `make data` brings
WordNet and MovieLens. About 3 minutes each on 2 CPU cores.
"""

import dataclasses
import pathlib
from typing import Literal

import numpy as np

from experiments.item_towers import logs, measure
from experiments.shared import flags, results
from jaxembed import data, recipes


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains two towers with several second losses, each stopped by itself; asks for rare and new items."""

    data: Literal["wordnet", "synthetic", "movielens"] = "wordnet"
    interactions: pathlib.Path | None = None  # a log of your own: who took which item, a row for each time
    items: pathlib.Path | None = None  # its catalogue: one row for each item
    user: str = "user"  # columns of your own log
    item: str = "item"  # and of the catalogue
    time: str | None = None  # None: the order of the file
    multivalent: tuple[str, ...] = ()  # columns of the catalogue whose cells hold several values
    joint: str = " "  # between these values
    dense: tuple[str, ...] = ()  # columns of numbers
    pairs: int = 20_000  # (query, item) pairs that are drawn to train on
    test: int = 5000  # pairs of the test as the log is, as many for rare items, half as many for new ones
    rare: int = 3  # an item with at most so many training pairs is rare
    history: int = 10  # earlier items in the query of a user
    weight: float = 0.3  # alpha, of the second loss
    drop: float = 0.1  # share of the values of bags that a view drops
    hide: float = 0.1  # share of features that "feature dropout" hides
    temperature: float = 0.1
    frequency: Literal["none", "counts", "streaming"] = "none"  # of the correction; the paper has none
    epochs: int | None = None  # None: 12, of MovieLens 5
    patience: int = 2  # epochs without a better recall on the validation pairs
    batch_size: int = 512
    rate: float = 3e-3  # of Adam
    row_rate: float = 0.5  # of Adagrad, for the rows of the table
    k: int = 50  # places that are searched
    seeds: int = 5  # of the pairs, of the parameters and of the masks
    validate: bool = False  # measure the validation pairs; the rates and weights above were chosen there
    quick: bool = False  # one seed, three epochs of few pairs
    workdir: pathlib.Path | None = None  # folder for the model that is best on the validation pairs
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"pairs": (100, 10**7), "test": (10, 10**6), "rare": (1, 10**4), "history": (0, 1000)}
        limits |= {"weight": (0, 1000), "drop": (0, 1), "hide": (0, 1), "temperature": (1e-3, 100)}
        limits |= {"epochs": (1, 10**4), "patience": (1, 10**4), "batch_size": (8, 10**6), "k": (1, 10**4)}
        limits |= {"rate": (1e-9, 10), "row_rate": (1e-9, 100), "seeds": (1, 100)}
        flags.check(self, limits)
        described = ("items", "user", "time", "multivalent", "dense")
        alone = [flags.flag(n) for n in described if getattr(self, n) != getattr(Config, n)]
        if self.interactions is None and alone:
            raise ValueError(f"{', '.join(alone)}: describes a log of your own; name it with --interactions")
        if self.items is None and (self.multivalent or self.dense):
            raise ValueError("--multivalent, --dense: name columns of --items; give that file")
        flags.exclude(self, "interactions", ("data", "pairs", "test"))


QUICK = {"seeds": 1, "epochs": 3, "pairs": 8000, "test": 1000}
NONE, DROPOUT, SPREAD = "none", "feature dropout", "spread-out"
RANDOM, CORRELATED, AS_LOG = "random masks", "correlated masks", "correlated masks, items as in the log"
ARMS = {
    NONE: {"weight": 0.0},
    DROPOUT: {"weight": 0.0, "hide": True},
    SPREAD: {"masks": None, "drop": 0.0},
    RANDOM: {"masks": "random"},
    CORRELATED: {"masks": "correlated"},
    AS_LOG: {"masks": "correlated", "sampling": "log"},
}


def train(cfg, log, arm, seed):
    """The towers of an arm."""
    options = {"weight": cfg.weight, "drop": cfg.drop} | ARMS[arm]
    options["hide"] = cfg.hide if options.get("hide") else 0.0
    many = 5 if cfg.interactions is None and cfg.data == "movielens" else 12
    return recipes.train_towers(
        log["interactions"],
        log["items"],
        log["users"],
        splits=log,
        history=cfg.history if log["interactions"]["users"] is not None else 0,
        temperature=cfg.temperature,
        frequency=None if cfg.frequency == "none" else cfg.frequency,
        epochs=cfg.epochs or many,
        patience=cfg.patience,
        batch_size=cfg.batch_size,
        rate=cfg.rate,
        row_rate=cfg.row_rate,
        k=cfg.k,
        seed=seed,
        **options,
    )


def compare(cfg):
    """One row for each arm, with the recalls of each seed as "runs", and the counts of the test pairs."""
    make = logs.own if cfg.interactions is not None else logs.LOGS[cfg.data]
    runs, counts, best = {}, {}, (-1.0, None)
    for seed in range(cfg.seeds):
        flags.stage(f"draws log {seed + 1} of {cfg.seeds}")
        log = make(cfg, seed)
        few = log["items"] is None or len(log["items"]["ids"]) < 4  # too few features to be correlated
        for arm in [name for name in ARMS if not (few and ARMS[name].get("masks") == "correlated")]:
            model = train(cfg, log, arm, seed)
            found, counts = measure.recalls(model, log, cfg.k, cfg.rare, cfg.validate)
            runs.setdefault(arm, []).append(found | {"epochs": int(np.argmax(model.recalls)) + 1})
            print(f"{arm}: " + ", ".join(f"{n} {x:.3f}" for n, x in found.items()), flush=True)
            best = max(best, (max(model.recalls), (arm, model)), key=lambda pair: pair[0])
    if cfg.workdir is not None:
        arm, model = best[1]
        model.save(cfg.workdir)
        print(f"wrote {cfg.workdir / 'model.json'}: {arm}, the best on the validation rows", flush=True)
    return measure.rows(runs), counts


def run(cfg):
    rows, counts = compare(cfg)
    gains = measure.gains(rows, NONE) if cfg.seeds > 1 else []
    return results.Result({"recall": rows} | ({"gain over none": gains} if gains else {}), {"pairs": counts})


SSL = "2007.12865"


def asked(first, second, slices, *, minus=None, **options):
    """Answers whether an arm is above another on some slices, or gains more there than on another slice."""

    def ours(t):
        found = measure.difference(t["recall"], first, second, slices, minus)
        return None if found is None else results.paired(found, **options)

    return ours


CLAIMS = (
    results.Claim(
        SSL,
        "Two views with correlated masks find more of the rare items than no second loss",
        asked(CORRELATED, NONE, ("rare",)),
    ),
    results.Claim(
        SSL,
        "They gain more on rare items than on pairs as the log has them",
        asked(CORRELATED, NONE, ("rare",), minus="all"),
    ),
    results.Claim(
        SSL,
        "They find more of the rare items than feature dropout",
        asked(CORRELATED, DROPOUT, ("rare",)),
    ),
    results.Claim(
        SSL,
        "They find more of the rare items than spreading items out",
        asked(CORRELATED, SPREAD, ("rare",)),
    ),
    results.Claim(
        SSL,
        "Correlated masks find more of the rare items than random ones",
        asked(CORRELATED, RANDOM, ("rare",)),
    ),
    results.Claim(
        SSL,
        "Random masks find more of the rare items than no second loss",
        asked(RANDOM, NONE, ("rare",)),
    ),
    results.Claim(
        SSL,
        "Items drawn uniformly for the second loss find more of the rare ones than items drawn as in the log",
        asked(CORRELATED, AS_LOG, ("rare",)),
    ),
    results.Claim(
        "",
        "Items drawn uniformly for the second loss find more of the items that no training pair holds",
        asked(CORRELATED, AS_LOG, ("new",)),
    ),
)


def figures(numbers):
    """What each arm gains over none, on pairs as the log has them, on rare and on new items."""
    return {"": measure.picture(numbers)} if "gain over none" in numbers else {}


def look(cfg):
    """Refuses a run whose data are missing."""
    if cfg.interactions is not None:
        return
    if cfg.data == "wordnet":
        data.wordnet(parts=("adv",))
        data.wordnet_counts()
    elif cfg.data == "movielens":
        data.package_file("recbole", "dataset_example/ml-100k")


if __name__ == "__main__":
    results.main("item_towers", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
