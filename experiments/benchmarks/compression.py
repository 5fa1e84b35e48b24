"""How fast are compressed tables read, and how much memory does training them take, beside a full table?

    python -m experiments.benchmarks.compression
    python -m experiments.benchmarks.compression --values 100000 --rounds 2

About 5 minutes on 2 CPU cores. Every method is set to a quarter of the bytes of the full table where its
own setting allows that; codes, tensor train and deep hash take fewer bytes, as they are used. OptEmbed
keeps the most frequent values, half as wide. One lookup reads 4,096 x 26 values that follow Zipf's law, in
the form that is served (codes, sparse rows, integers). The full table is larger than the caches of most
processors. Every lookup reads other ids than the one before, as in use: with the same ids again all their
rows would lie in a cache, which they do not when a batch arrives.

Each lookup stands beside one of the full table, a plain gather, so that a busy machine slows both. "times
gather" is the median of the ratios of such pairs, between its quartiles "low" and "high". "CPU times
gather" is that of the processor times, which other work on the machine disturbs least: it is what the
picture shows and what is held against the limit. The row of the full table, a gather beside a gather, says
how far to trust a column. Some numbers of one value say what a ratio can be at best. "operations" are those
that the compiled program counts. "places" are how many places of memory it reads, neighbours that one slice
reads being one. "bytes" are what it reads and writes; "floor" divides them by those of a gather: the ratio
of a lookup that only moves its bytes. Where the operations are more than 50 times those of a gather,
arithmetic dominates; elsewhere the limit is 3 gathers.

Training takes the step that suits the method: rows that a batch touches where it lists them, integers by
stochastic rounding, all parameters by Adagrad otherwise. AutoDim and OptEmbed train their supernets.
"whole" is what the compiled step needs, batch included; "extra" is its part beside parameters, state and
batch.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import timing
from experiments.shared import flags, results
from jaxembed import tables, train

FULL = "full table"
ARITHMETIC = 50  # times the operations of a gather: the time is that of products and hashes
LIMIT = 3  # times a gather, for all others
PAIRS = 7  # of a lookup and a gather, in each round


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the measurements."""

    values: int = 1_000_000  # rows of the full table
    width: int = 16
    batch_size: int = 4096
    fields: int = 26
    zipf: float = 1.05  # exponent of the frequencies
    share: float = 0.25  # of the bytes of the full table
    sets: int = 16  # batches of ids that the lookups take in turn
    rounds: int = 9  # of PAIRS lookups of every method
    seed: int = 0
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        flags.check(
            self, {"values": (1000, 10**8), "width": (1, 256), "sets": (2, 1000), "rounds": (1, 1000)}
        )


def draw(cfg):
    """Ids int32 [sets, batch_size, fields] and how often each value occurs in a longer stream."""
    rng = np.random.default_rng(cfg.seed)
    share = 1 / np.arange(1, cfg.values + 1) ** cfg.zipf
    share = rng.permutation(share / share.sum())
    ids = rng.choice(cfg.values, (cfg.sets, cfg.batch_size, cfg.fields), p=share)
    return ids.astype(np.int32), share * 1e7


def methods(cfg, counts):
    """{name: Method} at the share of the bytes."""
    n, d = cfg.values, cfg.width
    size = cfg.share * 4 * n * d
    block = max(1, n // 100)
    within = functools.partial(tables.within, bytes=size)
    return {
        FULL: tables.full_table(n, d),
        "hash": within(lambda k: tables.hash_table(n, d, rows=k)),
        "quotient-remainder": within(lambda k: tables.quotient_remainder(n, d, rows=k)),
        "ROBE": within(lambda k: tables.robe(n, d, slots=k)),
        "tensor train": tables.tensor_train(n, d, rank=16),
        "deep hash": tables.dhe(n, d, hidden=32, hashes=64, layers=2),
        "AdaptEmb": within(lambda k: tables.adapt_emb(n, d, counts=counts, rows=k)),
        "Dedup": tables.dedup(n, d, block=block, keep=max(1, round(cfg.share * -(-n // block)))),
        "MGQE": tables.mgqe(n, d, counts=counts, parts=4),
        "DPQ": tables.dpq(n, d, parts=8, centres=32),
        "INT8": tables.integer_table(n, d),
        "INT16": tables.integer_table(n, d, bits=16),
        "ALPT": tables.alpt(n, d),
        "mixed dimensions": tables.narrow_table(n, d, inner=max(1.0, cfg.share * d)),
        "AutoDim": tables.autodim(n, d, widths=sorted({max(1, round(cfg.share * d)), -(-d // 2), d})),
        "OptEmbed": within(functools.partial(kept_first, np.argsort(-counts), d), high=n),
        "DeepLight": within(lambda k: tables.deeplight(n, d, keep=k)),
        "PEP": within(lambda k: tables.pep(n, d, keep=k)),
        "AutoSrh": within(lambda k: tables.autosrh(n, d, keep=k, counts=counts)),
        "pruned to 1 in 32": tables.deeplight(n, d, keep=max(1, n * d // 32)),
    }


def kept_first(order, width, rows):
    """OptEmbed's table with the first rows of an order, half as wide."""
    kept = np.zeros(len(order), bool)
    kept[order[:rows]] = True
    return tables.masked_table(len(order), width, kept=kept, widths=[-(-width // 2)])


# Lookups


def look_up(cfg, made, ids):
    """Rows of the report: time, bytes, places and operations of the served form of every method."""
    calls, found, inputs = {}, [], [jnp.asarray(batch.ravel()) for batch in ids]
    for name, method in made.items():
        flags.stage(f"{name}: served form")
        served = jax.jit(method.init)(jax.random.key(cfg.seed))
        served = method.deploy(served) if name == "AutoDim" else jax.jit(method.deploy)(served)
        read = jax.jit(method.vectors).lower(served, inputs[0]).compile()
        places, size = timing.reads(method.vectors, served, inputs[0])
        count, cost = len(inputs[0]), read.cost_analysis() or {}
        row = {"method": name, "MB": method.bytes(served) / 1e6}
        row |= {"operations": cost.get("flops", 0) / count, "places": places / count}
        moved = size / count + 4 * cfg.width
        found.append(row | {"bytes": moved, "floor": moved / (8 * cfg.width)})
        calls[name] = functools.partial(read, served)
    flags.stage("lookups in pairs")
    times = timing.in_pairs(calls[FULL], calls, inputs, PAIRS * cfg.rounds)
    for row in found:
        time = times[row["method"]]
        row |= {"ms": 1e3 * time["median"], "times gather": time["ratio"]}
        row |= {"low": time["low"], "high": time["high"], "CPU times gather": time["cpu"]}
    return found


def arithmetic(rows):
    """The methods whose operations are many times those of a gather."""
    gather = next(row["operations"] for row in rows if row["method"] == FULL)
    return [row["method"] for row in rows if row["operations"] > ARITHMETIC * gather]


def limits(rows):
    """Rows of the report: the slowest lookups of each kind, beside the limit."""
    heavy, found = arithmetic(rows), []
    for kind, limit in (("memory", LIMIT), ("arithmetic", None)):
        own = [r for r in rows if (r["method"] in heavy) == (kind == "arithmetic") and r["method"] != FULL]
        slowest = max(own, key=lambda row: row["CPU times gather"], default=None)
        if slowest is not None:
            row = {"what dominates": kind, "methods": len(own), "slowest": slowest["method"]}
            row |= {name: slowest[name] for name in ("CPU times gather", "times gather")}
            found.append(row | {"limit": limit})
    return found


# Memory in training


def update_of(method, rows):
    """The step that suits a method: ``(init, step)``."""
    settings = method.settings["method"]

    def loss_fn(params, batch, key):
        if "codes" in batch:
            found = method.read(params, batch["codes"], key)
        else:
            found = method.vectors(params, batch["ids"], key)
        return jnp.vdot(found, batch["cotangent"]) + method.penalty(params), {}

    rules = {path: tables.rowwise_adagrad(0.01) for path in rows}
    if settings in ("integer_table", "alpt"):
        rules = {path: rule for path, rule in rules.items() if path.startswith("table/")}
        step = None if settings == "alpt" else method.settings["step"]
        return tables.integer_update(loss_fn, optax.sgd(0.01), rules, step=step)
    if rows:
        return tables.row_update(loss_fn, optax.sgd(0.01), rules)
    return train.gradient_update(loss_fn, optax.adagrad(0.01))


def memory(cfg, made, ids):
    """Rows of the report: bytes of a training step of every method."""
    found, shape = [], (*ids.shape, cfg.width)
    cotangent = jnp.ones(shape)
    for name, method in (made | {"OptEmbed": tables.supernet(cfg.values, cfg.width)}).items():
        flags.stage(f"{name}: training step")
        few = method.codes is not None and name not in ("tensor train", "ROBE")
        batch = {"cotangent": cotangent, "ids": jnp.asarray(ids)}
        if few:
            batch |= tables.touched_rows(method, ids, None, ids.size + 1)
        init, step = update_of(method, batch.get("rows", {}))
        params = jax.eval_shape(method.init, jax.random.key(0))
        state = jax.eval_shape(init, params)

        def run(params, opt_state, batch, step=step):
            state = train.TrainState(jnp.int32(0), params, opt_state, None)
            state, _ = step(state, batch, jax.random.key(0))
            return state.params, state.opt_state

        compiled = jax.jit(run, donate_argnums=(0, 1)).lower(params, state, batch).compile()
        sizes = {"parameters MB": tables.training_bytes(method), "state MB": _bytes(state)}
        sizes["extra MB"] = timing.program_bytes(compiled)
        sizes["whole MB"] = compiled.memory_analysis().argument_size_in_bytes + sizes["extra MB"]
        row = {"method": name, "step": "listed rows" if few else "all parameters"}
        found.append(row | {column: size / 1e6 for column, size in sizes.items()})
    return found


def _bytes(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


# Reporting


def draw_lookups(rows, axes):
    ordered = sorted(rows, key=lambda row: row["CPU times gather"])
    names = [row["method"] for row in ordered]
    heavy = arithmetic(rows)
    colours = ["C1" if name in heavy else "C0" for name in names]
    bars = axes.barh(names, [row["CPU times gather"] for row in ordered], color=colours)
    axes.axvline(LIMIT, color="0.5", linestyle=":", zorder=0)
    axes.bar_label(bars, fmt="%.1f", padding=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.set(xlabel="processor time of a lookup, in lookups of a full table", xscale="log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(f"Reading compressed tables (orange: arithmetic dominates; dotted: {LIMIT} lookups)")
    axes.margins(x=0.15)


def figures(numbers):
    return {"": functools.partial(draw_lookups, numbers["lookups"])}


def run(cfg):
    ids, counts = draw(cfg)
    made = methods(cfg, counts)
    found = look_up(cfg, made, ids)
    tables_of = {"lookups": found, "limits": limits(found)}
    tables_of["memory in training"] = memory(cfg, made, ids[0])
    return results.Result(tables_of, {"distinct": len(np.unique(ids[0]))})


if __name__ == "__main__":
    results.main("benchmarks.compression", Config, run, figures=figures)
