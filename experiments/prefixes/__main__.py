"""Are prefixes of one vector as good as networks that were trained for each size alone?

    python -m experiments.prefixes
    python -m experiments.prefixes --validate   # tries rates on validation images

One network learns with heads on its prefixes (MRL), or with one head of which a prefix reads the first rows
(MRL-E); beside them a network for each size, the first numbers of a plain network, and its principal
components. Search reads few numbers of every document, then more of the best.

Papers: Matryoshka Representation Learning (arXiv:2205.13147). The first command takes 2 minutes on 2
CPU cores, the second 8.
"""

import dataclasses
import functools
import itertools
import pathlib

import numpy as np

from experiments.nesting import digits
from experiments.nesting.grid_results import above, spreads
from experiments.prefixes import heads, searches
from experiments.shared import flags, inputs, plots, results

TITLE = "Prefixes on digits: accuracy"
SEARCH = "Search of digits by prefixes: accuracy of the nearest neighbour, and bytes read for a query"


@dataclasses.dataclass(frozen=True)
class Config:
    """Compares prefixes of one network with separate networks."""

    seeds: int = 5  # claims need 5
    steps: int = 400
    validate: bool = False  # try all rates on other images
    quick: bool = False  # one seed, few sizes and steps
    results: pathlib.Path | None = None

    def __post_init__(self):
        flags.check(self, {"seeds": (1, 100), "steps": (1, 10**6)})


QUICK = {"seeds": 1, "steps": 20}
SIZES, FEW = (2, 4, 8, 16, 32, 64), (4, 16, 64)  # all, and with --quick
WIDTH = SIZES[-1]
TRIED = (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)
RATES = {"MRL": 3.2e-2, "MRL-E": 3.2e-2, "alone": 3.2e-2}  # the best of TRIED on validation images


def trained(cfg, images, labels, sizes):
    """Accuracies {(arm, size): {"head", "1-NN": [S]}} of three arms, and {arm: (heads, vectors)}.

    With validate each arm is trained at every rate, and its name says which.
    """
    fit = functools.partial(heads.fit_network, images, labels, steps=cfg.steps)
    found, networks = {}, {}
    for label, arm, rate in digits.runs(RATES, cfg.validate, TRIED):
        flags.stage(f"digits, {label}")
        own = {str(m): m for m in sizes} if arm == "MRL" else {"all": WIDTH}
        nested = None if arm == "alone" else fit(WIDTH, own, sizes=sizes, rate=rate)
        for m in sizes:
            networks[arm] = made, z = nested or fit(m, {"all": m}, sizes=(m,), rate=rate)
            head = made[str(m)] if arm == "MRL" else heads.cut(made["all"], m)
            found[label, m] = heads.accuracies(head, z[..., :m], labels)
    return found, networks  # of "alone" the network of the full size


def rows_of(found, sizes):
    """Rows of arms: accuracy at each size, and the mean over sizes."""
    rows = []
    for arm, by in itertools.product(dict.fromkeys(arm for arm, _ in found), ("head", "1-NN")):
        each = {str(m): found[arm, m][by] for m in sizes}
        rows.append({"arm": arm, "by": by} | spreads(each))
        rows[-1]["mean"] = float(np.mean([*each.values()]))
    return rows


def look(cfg):
    """Refuses a run without the digits."""
    inputs.installed("sklearn")


def run(cfg):
    images, labels = digits.read(cfg.seeds, cfg.validate)
    sizes = FEW if cfg.quick else SIZES
    found, networks = trained(cfg, images, labels, sizes)
    if cfg.validate:
        return results.Result({TITLE: rows_of(found, sizes)})
    head, plain = networks["alone"][0]["all"], networks["alone"][1]
    for m in sizes:
        found["cut", m] = heads.accuracies(heads.cut(head, m), plain[..., :m], labels)
        turned, z = heads.components(plain, head, m)
        found["PCA", m] = heads.accuracies(turned, z, labels)
    gaps = {}
    for by in ("head", "1-NN"):
        for other, some in (("alone", sizes), ("cut", sizes[:2])):
            gap = [found["MRL", m][by] - found[other, m][by] for m in some]
            gaps[f"MRL - {other}, {by}"] = np.stack(gap, axis=1).tolist()
    searched = searches.measure({"MRL": networks["MRL"][1], "plain network": plain}, labels)
    tables = {TITLE: rows_of(found, sizes), SEARCH: searched}
    return results.Result(tables, {"prefixes": {"differences": gaps}})


def figures(numbers):
    """Accuracy against the size, by the heads and by the nearest neighbour: a line for each arm."""
    if numbers["config"]["validate"]:
        return {}  # too many lines
    return {"": (functools.partial(_draw, rows=numbers[TITLE]), (1, 2))}


def _draw(axes, rows):
    for panel, by in zip(axes[0], ("head", "1-NN"), strict=True):
        for row in [r for r in rows if r["by"] == by]:
            sizes = [int(n) for n in row if n.isdigit()]
            panel.plot(sizes, [row[str(m)] for m in sizes], marker=".", label=row["arm"])
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, sizes)
        panel.set_xlabel("first numbers of the vector", fontsize=8)
        panel.set_ylabel("accuracy", fontsize=8)
        panel.set_title({"head": "by a linear head", "1-NN": "by the nearest neighbour"}[by], fontsize=9)
        panel.tick_params(labelsize=7)
    plots.legend(axes[0, 0], loc="lower right", fontsize=7)


BELOW = "prefixes of one network are at most 2 points below separate networks at every size"
CUT = "the two shortest prefixes are 10 points above those of a plain network"
CLAIMS = tuple(
    results.Claim(
        "2205.13147",
        f"On digits {sentence}, by {by}",
        above("prefixes", f"MRL - {other}, {name}", margin),
    )
    for name, by in (("head", "its heads"), ("1-NN", "the nearest neighbour"))
    for sentence, other, margin in ((BELOW, "alone", -0.02), (CUT, "cut", 0.1))
)


if __name__ == "__main__":
    options = {"figures": figures, "quick": QUICK, "check": look}
    results.main("prefixes", Config, run, CLAIMS, **options)
