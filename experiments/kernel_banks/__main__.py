"""Which filters should a convolution begin with, and are filters that nobody trained good enough?

    python -m experiments.kernel_banks                   # digits of 8 x 8
    python -m experiments.kernel_banks --data fashion    # clothes of 28 x 28
    python -m experiments.kernel_banks --parts frozen    # one of: frozen, start, shifts, deep
    python -m experiments.kernel_banks --validate        # on the validation set; settings were chosen there

Paper: On filter design in deep convolutional neural network (arXiv:2410.21644), a survey. scikit-learn has
the digits; `python -m jaxembed.data.sources.fetch_pictures fashion-mnist` brings the clothes. About 5 minutes
on 2 CPU cores.
"""

import dataclasses
import pathlib
from typing import Literal

import numpy as np

from experiments.kernel_banks import banks, deep, frozen
from experiments.kernel_banks.banks import ALIGNED, DRAWN, FITTED, PCA, WHITE
from experiments.kernel_banks.pictures import figures
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from jaxembed import data

PARTS = ("frozen", "start", "shifts", "deep")


@dataclasses.dataclass(frozen=True)
class Config:
    """Compares banks of filters of one layer, frozen and as a start, and scales of a deep net."""

    parts: tuple[Literal["frozen", "start", "shifts", "deep"], ...] = PARTS
    data: Literal["digits", "fashion"] = "digits"
    labels: tuple[int, ...] = (50, 200, 1000)  # pictures with labels
    filters: int = 16
    patches: int = 4000  # that filters are fitted to
    steps: int = 200  # of training from each bank
    rate: float = 0.1  # of SGD there
    depth: int = 20  # of the deep net
    deep_steps: int = 400
    deep_rate: float = 0.03
    seeds: int = 10
    deep_seeds: int = 5
    validate: bool = False
    quick: bool = False  # one seed, few steps
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"labels": (10, 1000), "filters": (2, 256), "patches": (256, 10**6), "steps": (1, 10**5)}
        limits |= {"rate": (1e-6, 10), "depth": (2, 200), "deep_steps": (1, 10**5), "deep_rate": (1e-6, 10)}
        flags.check(self, limits | {"seeds": (1, 100), "deep_seeds": (1, 100)})


QUICK = {"seeds": 1, "deep_seeds": 1, "steps": 40, "deep_steps": 20, "labels": (50, 1000), "patches": 1000}


def table(found, names, key):
    """{(arm, setting): values} as rows, with a column for each part of the key."""
    rows = []
    for arm, values in found.items():
        mean, deviation = results.spread(values)
        row = dict(zip(names, arm if isinstance(arm, tuple) else (arm,), strict=True))
        rows.append(row | {key: mean, f"± {key}": deviation, "runs": list(map(float, values))})
    return rows


def runs(t, title, *arm):
    """The numbers of the seeds of one row, or None where the run has none."""
    for row in t.get(title, ()):
        if list(row.values())[: len(arm)] == list(arm):
            return np.array(row["runs"])
    return None


def gains(labels):
    """Accuracy of banks above random filters, [S, banks], at the fewest or at the most labels."""

    def read(t, arms):
        asked = sorted({row["labels"] for row in t.get("frozen", ())})
        if not asked:
            return None
        count = asked[labels]
        return np.stack([runs(t, "frozen", a, count) - runs(t, "frozen", DRAWN, count) for a in arms], axis=1)

    return read


FEW, MANY = gains(0), gains(-1)


def asked(differences, **options):
    """The answer to paired differences, None where the run has not measured them."""

    def ours(t):
        found = differences(t)
        return None if found is None else results.paired(found, **options)

    return ours


def shrinking(t):
    few, many = FEW(t, FITTED), MANY(t, FITTED)
    return None if few is None else (few - many).mean(axis=1)


def sooner(t):
    random = runs(t, "start", DRAWN)
    return None if random is None else np.stack([random - runs(t, "start", a) for a in (PCA, WHITE)], axis=1)


def fewer_copies(t):
    plain = runs(t, "shifts", WHITE)
    return None if plain is None else plain - runs(t, "shifts", ALIGNED)


def trains(t):
    """Whether every deep net of every seed does what the survey says of its start."""
    if "deep" not in t:
        return None
    small = runs(t, "deep", deep.SMALL) < deep.LEARNT
    others = [runs(t, "deep", arm) >= deep.LEARNT for arm in (deep.HE, deep.ORTHOGONAL, deep.LSUV)]
    return results.share(np.concatenate([small, *others]))


SOURCE = "2410.21644"
CLAIMS = (
    Claim(
        SOURCE,
        "Frozen, filters from DCT, PCA and whitened k-means are a point above random ones with fewest labels",
        asked(lambda t: FEW(t, FITTED), margin=0.01),
    ),
    Claim(SOURCE, "Their gain shrinks with the number of labels", asked(shrinking)),
    Claim(SOURCE, "Trained on, PCA and k-means reach 90 % of the training set in fewer steps", asked(sooner)),
    Claim(
        SOURCE,
        "Convolutional k-means learns fewer shifted copies of a filter than k-means",
        asked(fewer_copies),
    ),
    Claim(
        SOURCE,
        "A net of 20 layers does not train from N(0, 0.01^2), and does from He's, orthogonal and LSUV starts",
        trains,
    ),
)


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.installed("matplotlib")
    data.fashion_mnist("test") if cfg.data == "fashion" else data.digits()


def run(cfg):
    """Banks frozen and as a start by labels, shifted copies, and a deep net by its start."""
    tables, details, task = {}, {}, banks.task_of(cfg.data, cfg.validate)
    if "frozen" in cfg.parts:
        flags.stage("frozen banks")
        tables["frozen"] = table(frozen.accuracies(cfg, task), ("bank", "labels"), "accuracy")
        details["banks"] = banks.shown(cfg)
    if "start" in cfg.parts:
        flags.stage("trains from each bank")
        steps, accuracy = frozen.trained(cfg, task)
        tables["start"] = table(steps, ("bank",), "steps to 90 %")
        for row in tables["start"]:
            row["accuracy"], row["± accuracy"] = results.spread(accuracy[row["bank"]])
    if "shifts" in cfg.parts:
        flags.stage("counts shifted copies")
        means, shares = banks.copies(cfg)
        tables["shifts"] = table(means, ("bank",), "similarity of shifted filters")
        for row in tables["shifts"]:
            row["pairs above 0.8"] = float(np.mean(shares[row["bank"]]))
    if "deep" in cfg.parts:
        flags.stage(f"trains nets of {cfg.depth} layers")
        tables["deep"] = table(deep.accuracies(cfg), ("start",), "accuracy")
    return Result(tables, details)


if __name__ == "__main__":
    results.main("kernel_banks", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
