"""Can any two classes be pulled together, if a gate chooses the coordinates in which they are compared?

    python -m experiments.arbitrary_pairs
    python -m experiments.arbitrary_pairs --validate    # on training digits that are held out

Paper: Rethinking Positive Pairs in Contrastive Learning (arXiv:2410.18200). Handwritten digits, which
scikit-learn carries, and classes made of attributes. About 2 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib
from typing import NamedTuple

import jax
import numpy as np

from experiments.arbitrary_pairs import attributes, pairs_of_digits
from experiments.shared import flags, inputs, plots, results
from experiments.shared.results import Claim, Result
from jaxembed import encoders


class Arm(NamedTuple):
    """How positives are chosen: a mode of ``losses.sample_partners``, or None for cross-entropy."""

    mode: str | None
    gate: bool = False
    momentum: bool = False


GATED, SUPERVISED, OPEN = "any pair, gate", "own class, no gate", "any pair, no gate"
CROSS_ENTROPY, MOMENTUM = "cross-entropy", "any pair, gate, momentum keys"
ARMS = {
    GATED: Arm("arbitrary", gate=True),
    SUPERVISED: Arm("identical"),
    OPEN: Arm("arbitrary"),
    CROSS_ENTROPY: Arm(None),
    MOMENTUM: Arm("arbitrary", gate=True, momentum=True),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains encoders of digits on pairs of any classes beside pairs of one class."""

    epochs: int = 60
    batch_size: int = 250
    learning_rate: float = 1e-3
    temperature: float = 0.1
    momentum: float = 0.99  # of the encoder of the keys, in its arm
    noise: float = 0.1  # standard deviation of the noise on training digits
    attribute_steps: int = 600  # of the gates of attributes
    seeds: int = 5
    validate: bool = False  # test on 360 of the training digits
    quick: bool = False  # one seed, few steps
    workdir: pathlib.Path = pathlib.Path("runs/arbitrary_pairs")
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"epochs": (1, 10**6), "batch_size": (2, 1077), "learning_rate": (1e-9, 10)}
        limits |= {"temperature": (1e-3, 100), "momentum": (0, 0.99999), "noise": (0, 10), "seeds": (1, 100)}
        flags.check(self, limits | {"attribute_steps": (1, 10**7)})


QUICK = {"seeds": 1, "epochs": 5, "attribute_steps": 50}


def compare(cfg):
    """One row for each arm, with the numbers of each seed as "runs", and the gates of the first seed."""
    images, labels, count = pairs_of_digits.read(cfg.seeds, cfg.validate)
    some, seen = pairs_of_digits.only_seen(images, labels, count)
    rows, gates = [], None
    for name, arm in ARMS.items():
        params = pairs_of_digits.fit(arm, cfg, images, labels, count, 10)
        runs = pairs_of_digits.measure(arm, params, images, labels, count)
        fewer = pairs_of_digits.fit(arm, cfg, some, seen, len(some), pairs_of_digits.SEEN)
        for run, found in zip(runs, pairs_of_digits.transferred(fewer, images, labels, count), strict=True):
            run["probe of new classes"] = found
        row = {"arm": name}
        for key in [k for k in runs[0] if k != "spectrum"]:
            row[key], row[f"± {key}"] = results.spread([run[key] for run in runs])
        rows.append(row | {"runs": runs})
        if name == GATED:
            gates = gates_of(jax.tree.map(lambda x: x[0], params["gate"]))
        print(f"{name}: probe {row['probe']:.4f}, pair AUC {row['pair AUC']:.4f}", flush=True)
    return rows, gates


def gates_of(params):
    """The gates of all 55 pairs of digits, [[gate of 32 numbers]], in the order (0, 0), (0, 1), ..."""
    return np.asarray(encoders.pair_gate(params, *np.triu_indices(10))).round(3).tolist()


def run(cfg):
    """Digits by every arm, then gates of attributes."""
    rows, gates = compare(cfg)
    flags.stage(f"trains gates of attributes: {cfg.attribute_steps} steps")
    known = attributes.measure(cfg)
    learned = []
    for name, values in known.items():
        mean, deviation = results.spread(values)
        learned.append({"gates": name, "AUC": mean, "± AUC": deviation, "runs": values})
    return Result({"digits": rows, "attributes": learned}, {"gates of digits": gates})


def gap(t, key, one, other):
    """Differences of two arms over seeds."""
    runs = {row["arm"]: np.array([run[key] for run in row["runs"]]) for row in t["digits"]}
    return runs[one] - runs[other]


def wins(t, key):
    """Whether the gated arm is above the supervised one in at least four of five seeds."""
    differences = gap(t, key, GATED, SUPERVISED)
    if len(differences) < results.LEAST:
        return results.Answer(float(differences.mean()), None, None)
    return results.holds((differences > 0).mean() >= 0.8, differences.mean(), differences.std(ddof=1))


PAPER_ID = "2410.18200"
CLAIMS = (
    Claim(
        PAPER_ID,
        "A probe of an encoder trained on any pairs with a gate is at most 1 point below pairs of one class",
        lambda t: results.paired(gap(t, "probe", GATED, SUPERVISED), margin=-0.01),
    ),
    Claim(
        PAPER_ID,
        "Its states have a higher effective rank than with pairs of one class, in four of five seeds",
        lambda t: wins(t, "rank of h"),
    ),
    Claim(
        PAPER_ID,
        "Its projections have a higher effective rank than with pairs of one class, in four of five seeds",
        lambda t: wins(t, "rank of z"),
    ),
    Claim(
        PAPER_ID,
        "Without the gate, pairs of classes are told from third classes with an AUC lower by 10 points",
        lambda t: results.paired(gap(t, "pair AUC", GATED, OPEN), margin=0.1),
    ),
    Claim(
        PAPER_ID,
        "A probe of classes that training did not see is above that of pairs of one class",
        lambda t: results.paired(gap(t, "probe of new classes", GATED, SUPERVISED)),
    ),
    Claim(
        PAPER_ID,
        "Gates open the attributes that two classes share, with an AUC above 0.8 for pairs that were trained",
        lambda t: results.paired(np.array(t["attributes"][1]["runs"]), margin=0.8),
    ),
)


def figures(numbers):
    """Spectra of the projections, gates of all pairs of digits, and how alike these gates are."""

    def draw(axes):
        spectra, gates, alike = axes[0]
        axes[0, 0].figure.set_size_inches(15, 5)
        for row in numbers["digits"]:
            values = np.mean([run["spectrum"] for run in row["runs"]], axis=0)
            spectra.semilogy(1 + np.arange(len(values)), np.maximum(values, 1e-6), label=row["arm"])
        spectra.set(xlabel="direction", ylabel="variance of the projections", title="spectra")
        spectra.grid(alpha=0.3)
        plots.legend(spectra, loc="lower left")
        values = np.array(numbers["gates of digits"])
        order = np.argsort(-values.mean(axis=0))
        image = gates.imshow(values[:, order], aspect="auto", vmin=0, vmax=1, cmap="viridis")
        first, second = np.triu_indices(10)
        gates.set_yticks(np.arange(0, 55, 4), [f"{first[i]}, {second[i]}" for i in range(0, 55, 4)])
        gates.set(xlabel="coordinate, most open first", ylabel="pair of digits", title="gates")
        gates.figure.colorbar(image, ax=gates)
        table = np.zeros((10, 10))
        table[first, second] = table[second, first] = values.sum(axis=1)
        shown = alike.imshow(table, cmap="magma")
        alike.set(xlabel="digit", ylabel="digit", title="open coordinates of a pair")
        alike.set_xticks(range(10)), alike.set_yticks(range(10))
        alike.figure.colorbar(shown, ax=alike)

    return {"": (draw, (1, 3))}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.installed("sklearn")


if __name__ == "__main__":
    results.main("arbitrary_pairs", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
