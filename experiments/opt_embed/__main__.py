"""Does OptEmbed find which rows of a table matter, and how wide each field must be?

    python -m experiments.opt_embed                # clicks whose useful values and ranks are planted
    python -m experiments.opt_embed --seeds 10

Paper: OptEmbed (arXiv:2208.04482). About 5 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
import optax

from experiments.opt_embed import measures
from experiments.shared import flags, results
from jaxembed import data, metrics, recipes, tables, train

WIDTH = 16
FIRST_SEED = 10  # the settings were chosen on seeds 0 and 1


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a supernet, searches, and trains what is left anew; rows alone and widths alone beside both."""

    rows: int = 60_000  # of clicks; two thirds are trained on
    values: int = 500  # of each of eight fields
    epochs: int = 4  # of every training
    rate: float = 1e-2
    decay: float = 3e-4  # L2, in all arms
    raised: float = 1.0  # by how much the penalty alone raises a threshold, in first norms of a row
    weight: float = 0.02  # of the size in the search, against AUC
    generations: int = 15
    seeds: int = 5
    quick: bool = False  # one seed, 6,000 rows
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"rows": (6000, 10**7), "values": (10, 10**5), "epochs": (1, 1000), "seeds": (1, 100)}
        limits |= {"rate": (1e-6, 1), "decay": (0, 1), "weight": (0, 10), "generations": (1, 1000)}
        flags.check(self, limits | {"raised": (0, 100)})


QUICK = {"rows": 6000, "seeds": 1, "epochs": 2, "generations": 5}
ARMS = {"both": "rows and widths", "rows": "rows alone", "widths": "widths alone"}


def uniform(key, shape):
    return jax.random.uniform(key, shape, minval=-0.05, maxval=0.05)


def decayed(cfg, loss_fn, rate):
    """Adam with L2 inside, for all that is not a supernet."""
    return train.gradient_update(loss_fn, optax.chain(optax.add_decayed_weights(cfg.decay), optax.adam(rate)))


def fit(cfg, clicks, method, seed, update):
    options = {"seeds": np.array([seed]), "rates": np.array([cfg.rate]), "epochs": cfg.epochs}
    params = recipes.fit_click_methods(clicks, method, update=update, **options)
    return jax.tree.map(lambda x: x[0], params)


def tested(cfg, clicks, method, seed):
    """Test AUC of a method that is trained from the start."""
    params = fit(cfg, clicks, method, seed, functools.partial(decayed, cfg))
    rows, columns = clicks["splits"]["test"], clicks["columns"]
    ids = {name: x[rows] for name, x in columns["ids"].items()}
    found = jax.jit(functools.partial(recipes.click_logits, method))(params, ids)
    return float(metrics.auc(columns["labels"][rows], np.asarray(found)))


def supernet(cfg, clicks, seed):
    """A trained supernet: {"table", "network"}."""
    steps = cfg.epochs * (len(clicks["splits"]["train"]) // 1024)
    weight = cfg.raised * 0.025 * WIDTH / (0.1 * steps)  # 0.1 is the rate of the thresholds
    net = tables.supernet(clicks["sizes"], WIDTH, weight=weight, initialiser=uniform)
    return fit(cfg, clicks, net, seed, functools.partial(recipes.supernet_update, decay=cfg.decay))


def one_seed(cfg, seed):
    """The numbers of the full table and of all arms."""
    clicks = data.toy.planted_clicks(seed, rows=cfg.rows, values=cfg.values)
    sizes = clicks["sizes"]
    full = tables.full_table(sizes, WIDTH, initialiser=uniform)
    found = {"full table": {"AUC": tested(cfg, clicks, full, seed), "share": 1.0}}
    params = supernet(cfg, clicks, seed)
    score = recipes.masked_auc(clicks, params["network"])
    open_ = params["table"] | {"threshold": params["table"]["threshold"] - np.inf}
    for arm in ARMS:
        mine = open_ if arm == "widths" else params["table"]
        kept, widths = tables.kept_rows(mine, sizes), np.full(len(sizes), WIDTH)
        if arm != "rows":
            options = {"weight": cfg.weight, "generations": cfg.generations}
            kept, widths = tables.search_masks(jax.random.key(seed), mine, sizes, score, **options)
        method = tables.masked_table(sizes, WIDTH, kept=kept, widths=widths, initialiser=uniform)
        found[arm] = measures.of_masks(clicks, kept, widths, WIDTH)
        found[arm]["AUC"] = tested(cfg, clicks, method, seed)
    return found


def run(cfg):
    seeds = []
    for seed in range(FIRST_SEED, FIRST_SEED + cfg.seeds):
        flags.stage(f"seed {seed}")
        seeds.append(one_seed(cfg, seed))
    tables_ = {"arms": measures.arms(seeds, {"full table": "full table"} | ARMS)}
    return results.Result(tables_ | {"fields": measures.fields(seeds)}, {"by seed": seeds})


PAPER = "2208.04482"
CLAIMS = (
    results.Claim(
        PAPER,
        "More rows stay of fields that tell something than of noise (difference of shares)",
        measures.paired_of(measures.informative),
    ),
    results.Claim(
        PAPER,
        "More rows stay of values that tell something than of others (difference of shares)",
        measures.paired_of(lambda s: s["both"]["useful kept"] - s["both"]["useless kept"]),
    ),
    results.Claim(
        PAPER,
        "Searched widths follow the planted ranks (Spearman correlation above 0.5)",
        measures.paired_of(lambda s: s["both"]["spearman"], margin=0.5),
    ),
    results.Claim(PAPER, "At most half of the numbers stay (largest share of a seed)", measures.at_most_half),
    results.Claim(
        PAPER,
        "The small table is at most 0.003 of AUC below the full one (difference)",
        measures.paired_of(lambda s: s["both"]["AUC"] - s["full table"]["AUC"], margin=-0.003),
    ),
    results.Claim(
        PAPER,
        "Rows alone and widths alone each leave more numbers than both (difference to the smaller)",
        measures.paired_of(measures.saved),
    ),
)


def figures(numbers):
    return {"": (functools.partial(measures.draw, numbers=numbers), (1, 2))}


if __name__ == "__main__":
    results.main("opt_embed", Config, run, CLAIMS, figures=figures, quick=QUICK)
