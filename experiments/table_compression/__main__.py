"""Which way to shrink a table of embeddings costs the least, at equal bytes?

    python -m experiments.table_compression                    # all methods, four budgets, two tables
    python -m experiments.table_compression --processes 8      # the same; start it again where it was killed
    python -m experiments.table_compression --tables flights --methods hash ROBE OptEmbed

Papers: Experimental Analysis of Large-scale Learnable Vector Storage Compression (arXiv:2311.15578), OptEmbed
(arXiv:2208.04482). `make data` brings the data. About 30 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib
from typing import Literal

from experiments.shared import flags, results
from experiments.table_compression import answers, arms, cells, drawing
from jaxembed import train

DATA = ("movielens_100k", "flights")
METHODS = ("full table", *arms.METHODS)


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains one network on compressed tables of every kind and size."""

    tables: tuple[Literal["movielens_100k", "flights"], ...] = DATA
    methods: tuple[str, ...] = METHODS
    budgets: tuple[float, ...] = (0.5, 0.25, 0.1, 0.03)  # shares of the bytes of the full table
    limit: int | None = 100_000  # rows that are read of each table, at most
    epochs: int | None = None  # of every training; None: 4 of MovieLens, 3 of flights
    seeds: int = 3
    processes: int = 2  # that share the cells of the sweep
    quick: bool = False  # few methods, one budget, one seed, few rows
    workdir: pathlib.Path = pathlib.Path("runs/table_compression")  # cells there are not computed again
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"budgets": (1e-4, 1), "limit": (1000, 10**9), "epochs": (1, 1000), "seeds": (1, 100)}
        flags.check(self, limits | {"processes": (1, 256)})
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown:
            raise ValueError(f"--methods {' '.join(unknown)}: choose among {', '.join(METHODS)}")


QUICK = {"methods": ("full table", "hash", "CompoEmb", "OptEmbed"), "budgets": (0.1,), "limit": 8000}
QUICK |= {"epochs": 2, "seeds": 1, "processes": 1}


def grid(cfg):
    """The cells of the sweep."""
    found = []
    for data in cfg.tables:
        for method in cfg.methods:
            for budget in cfg.budgets if method != "full table" else (None,):
                cell = {"data": data, "method": method, "budget": budget}
                found.append(cell | {"limit": cfg.limit, "epochs": cfg.epochs, "seeds": cfg.seeds})
    return found


def run(cfg):
    asked = grid(cfg)
    flags.stage(f"{len(asked)} cells")
    done = train.sweep(asked, cells.compute, cfg.workdir, processes=cfg.processes, say=tell)
    rows = [answers.row_of(cell, numbers) for cell, numbers in zip(asked, done, strict=True)]
    found = {"recommended": answers.advised(rows)}
    found |= {f"AUC, {name}": answers.at_budgets(rows, name) for name in cfg.tables}
    adapted = [c for c, row in zip(asked, rows, strict=True) if c["method"] == "AdaptEmb" and row["bytes"]]
    found["own rows of AdaptEmb"] = [arms.own_rows(cell) for cell in adapted]
    details = {"recommendations": answers.recommended(rows), "seconds": answers.seconds(done, cfg.processes)}
    return results.Result({name: table for name, table in found.items() if table}, {"AUC": rows} | details)


def tell(cell, numbers):
    share = f" at {cell['budget']:g}" if cell["budget"] else ""
    flags.stage(f"{cell['data']}, {cell['method']}{share}: {numbers['said']}")


PAPER, OPT, OWN = "2311.15578", "2208.04482", ""
CLAIMS = (
    results.Claim(
        PAPER, "No method is the best everywhere (winners over tables and budgets)", answers.winners
    ),
    results.Claim(
        PAPER,
        "Hashed or merged rows are within a point of the best (share of tables and budgets)",
        answers.sharing,
    ),
    *(
        results.Claim(
            OWN,
            f"{name} costs at most {loss} of AUC (difference to the full table, on the worst)",
            answers.over_full(name, margin=-loss),
        )
        for name, loss in (("INT16", 0.002), ("INT8", 0.005))
    ),
    results.Claim(
        OWN,
        "At a tenth and below, ROBE and CompoEmb are more than a point above hashed rows (share)",
        answers.above(("ROBE", "CompoEmb"), "hash", 0.01, most=0.1),
    ),
    results.Claim(
        OWN,
        "AdaptEmb is above hashed rows (share of tables and budgets)",
        answers.above(("AdaptEmb",), "hash", 0.0),
    ),
    results.Claim(
        OWN,
        "At a tenth of the bytes, pruned entries with their places are not above hashed rows (share)",
        answers.above(("hash",), "DeepLight", 0.0, least=0.1, most=0.1),
    ),
    results.Claim(
        OPT,
        "OptEmbed at half the bytes is above the full table (difference, on the worst)",
        answers.over_full("OptEmbed", 0.5),
    ),
)


def figures(numbers):
    """A picture for each table of clicks."""
    names = dict.fromkeys(row["table"] for row in numbers.get("AUC", ()))
    return {name: functools.partial(drawing.draw, numbers=numbers, name=name) for name in names}


if __name__ == "__main__":
    results.main("table_compression", Config, run, CLAIMS, figures=figures, quick=QUICK)
