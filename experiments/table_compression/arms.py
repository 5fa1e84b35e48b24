"""The methods of the comparison: how each is made for a budget, and what its training needs beside Adam."""

import functools

import jax
import numpy as np
import optax

from experiments.table_compression import training
from experiments.table_compression.training import WIDTH
from jaxembed import recipes, tables, train

TABLE = "table/table/embedding"
GENERATIONS = 15  # of OptEmbed's search
LEFT = 0.01  # share of the entries to be pruned that still stand after four fifths of the steps
SHARED = ("hash", "CompoEmb", "ROBE", "TT-Rec", "DHE", "AdaptEmb", "MGQE", "DPQ", "Dedup")
OWN = ("INT16", "INT8", "ALPT", "MDE", "AutoDim", "OptEmbed", "DeepLight", "AutoSrh", "PEP")
METHODS = (*SHARED, *OWN)
TUNED = ("Dedup", "PEP", "AutoSrh")  # what is stored differs from what was trained, and is trained on


def task_of(cell):
    return training.task(cell["data"], cell["limit"], cell["epochs"])


def make(task, name, budget):
    """The method of a name at a budget in bytes; ValueError where it does not fit."""
    sizes, counts, draw = task.sizes, task.counts, {"initialiser": training.uniform}
    entries = WIDTH * sum(sizes.values())
    by_knob = {
        "hash": lambda n: tables.hash_table(sizes, WIDTH, rows=n, **draw),
        "CompoEmb": lambda n: tables.quotient_remainder(sizes, WIDTH, rows=n, initialiser=training.factors),
        "ROBE": lambda n: tables.robe(sizes, WIDTH, slots=n, block=8, **draw),
        "TT-Rec": lambda n: tables.tensor_train(sizes, WIDTH, rank=n),
        "DHE": lambda n: tables.dhe(sizes, WIDTH, hidden=n, hashes=32, layers=2),
        "AdaptEmb": lambda n: tables.adapt_emb(
            sizes, WIDTH, counts=counts, rows=n, top=budget / 8 / entries, **draw
        ),
        "Dedup": lambda n: tables.dedup(sizes, WIDTH, keep=n, block=4, **draw),
        "DPQ": lambda n: tables.dpq(sizes, WIDTH, parts=_parts(budget, sizes), centres=n, **draw),
        "MGQE": lambda n: tables.mgqe(
            sizes, WIDTH, counts=counts, parts=_parts(budget, sizes), centres=n, rare=max(1, n // 4), **draw
        ),
        "DeepLight": lambda n: tables.deeplight(sizes, WIDTH, keep=n, **draw),
        "PEP": lambda n: tables.pep(sizes, WIDTH, keep=n, start=-6.0, **draw),
        "AutoSrh": lambda n: tables.autosrh(sizes, WIDTH, keep=n, counts=counts, **draw),
    }
    if name in by_knob:
        high = {"Dedup": -(-sum(sizes.values()) // 4), "CompoEmb": sum(sizes.values())}
        high |= dict.fromkeys(("DeepLight", "PEP", "AutoSrh"), entries) | dict.fromkeys(("DPQ", "MGQE"), 256)
        return fitted(by_knob[name], budget, high.get(name))
    if name == "MDE":
        return tables.within(
            lambda a: tables.mixed_dimensions(sizes, WIDTH, alpha=a, **draw), budget, low=0.0, high=1.0
        )
    whole = {
        "full table": lambda: tables.full_table(sizes, WIDTH, **draw),
        "INT16": lambda: tables.integer_table(sizes, WIDTH, bits=16, step=0.0005, **draw),
        "INT8": lambda: tables.integer_table(sizes, WIDTH, bits=8, **draw),
        "ALPT": lambda: tables.alpt(sizes, WIDTH, bits=8, **draw),
    }
    return no_larger(whole[name](), budget)


def _parts(budget, sizes):
    """Parts of a product code, as many as a third of the budget has bytes for each value: 1 to 4."""
    return int(2 ** np.clip(np.floor(np.log2(budget / 3 / sum(sizes.values()))), 0, 2))


def own_rows(cell):
    """Whose values have rows of their own in AdaptEmb at a budget, as a row of the report."""
    task = task_of(cell)
    counts, method = task.counts, make(task, "AdaptEmb", round(cell["budget"] * task.bytes))
    codes = method.codes({n: np.arange(size) for n, size in task.sizes.items()})[TABLE.partition("/")[2]]
    own = 1 + max(int(c.max()) for c in codes.values()) - method.settings["rows"]  # the shared rows are last
    found = {n: c[:, 0] < own for n, c in codes.items()}
    reads = sum(counts[n][x].sum() for n, x in found.items()) / sum(x.sum() for x in counts.values())
    names = ", ".join(f"{x.sum():,} of {n}" for n, x in found.items() if x.any())
    row = {"table": cell["data"], "budget": cell["budget"], "own rows": own}
    return row | {"share of all reads": reads, "values of": names}


def no_larger(method, budget):
    """A method without a knob, where it fits; a hundredth more is no more."""
    size = tables.storage_bytes(method)
    if size > 1.01 * budget:
        raise ValueError(f"bytes={budget}: {method.settings['method']} takes {size} bytes; give as many")
    return method


def fitted(make, budget, high=None):
    """The method of a budget; where sizes are far apart, the largest that fits."""
    try:
        return tables.within(make, budget, high=high)
    except ValueError as error:
        if "next sizes" not in str(error) and "at most" not in str(error):
            raise
        if "at most" in str(error):
            return make(high)
    low, high = 1, high or 2**16
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tables.storage_bytes(make(middle)) <= budget else (low, middle)
    return make(low)


def updates(task, name, method):
    """What trains a method: ``(loss_fn, rate) -> update``."""

    def integers(loss_fn, rate):
        step = method.settings["step"] if name != "ALPT" else None
        return tables.integer_update(loss_fn, optax.adam(rate), {TABLE: optax.adam(rate)}, step=step)

    def pruned(loss_fn, rate):
        schedule = {"base": LEFT, "over": max(1, int(0.8 * task.steps))}
        adam = train.gradient_update(loss_fn, optax.adam(rate))
        return tables.pruned_update(adam, TABLE, keep=method.settings["keep"], **schedule)

    known = dict.fromkeys(("INT8", "INT16", "ALPT"), integers) | {"DeepLight": pruned}
    known |= {"AutoSrh": functools.partial(_two_levels, "alpha", tables.autosrh_rule())}
    return known.get(name)


def trained(cell, budget):
    """Trains a method at every rate and seed; what ``cells.measured`` takes, of the best rate."""
    task, name, seeds = task_of(cell), cell["method"], cell["seeds"]
    if name in ("OptEmbed", "AutoDim"):
        return searched(cell, task, budget)
    method = make(task, name, budget)
    each, rates = training.members(seeds)
    params, seconds = training.fit(task, method, each, rates, update=updates(task, name, method))
    size = memory(method, params)
    deployed = params | {"table": deploy(method, params["table"])}
    if name in TUNED:
        deployed, more = training.fit(task, method, each, rates, start=deployed)
        seconds += more
    return chosen(task, method, deployed, rates) | {"seconds": seconds, "training_bytes": size}


def deploy(method, params):
    """Deployed params of all members."""
    return jax.vmap(method.deploy)(params)


def chosen(task, method, params, rates):
    """The members of the best rate, each with its method, and the AUC of each rate on validation rows."""
    best, means = training.best_rate(task, method, params, rates)
    return {"stored": [(method, training.member(params, m)) for m in best], "rate": means}


def memory(method, params):
    """Bytes in training of one member: parameters, and the two moments of Adam for each number."""
    table = training.member(params["table"], 0)
    return method.bytes(table) + 8 * sum(x.size for x in jax.tree.leaves(table))


def searched(cell, task, budget):
    """A supernet of each seed says what to keep; within the budget that is then trained anew."""
    name, (each, _) = cell["method"], training.members(cell["seeds"])
    given = cell["data"], cell["limit"], cell["epochs"], name, cell["seeds"]
    net, best, means, params, seconds = _supernet(*given)
    stored, tried = [], np.array(list(means))
    for m in best:
        mine = training.member(params, m)
        method = (_masked if name == "OptEmbed" else _narrowed)(task, mine, budget, each[m])
        again, more = training.fit(task, method, each[[m]].repeat(len(tried)), tried)
        deployed = again | {"table": deploy(method, again["table"])}
        stored, seconds = stored + chosen(task, method, deployed, tried)["stored"], seconds + more / len(best)
    return {"stored": stored, "rate": means, "seconds": seconds, "training_bytes": memory(net, params)}


@functools.lru_cache(maxsize=4)
def _supernet(data, limit, epochs, name, seeds):
    """The trained supernet, which no budget changes: the budgets of a process share it."""
    task, (each, rates) = training.task(data, limit, epochs), training.members(seeds)
    if name == "OptEmbed":
        net, update = supernet(task), recipes.supernet_update
    else:
        net = tables.autodim(task.sizes, WIDTH, initialiser=training.uniform)
        update = functools.partial(_two_levels, "logits", optax.sgd(1.0))
    params, seconds = training.fit(task, net, each, rates, update=update)
    return net, *training.best_rate(task, net, params, rates), params, seconds


def supernet(task):
    """OptEmbed's first stage; its penalty alone moves a threshold by the first norm of a row."""
    weight = 0.025 * WIDTH / (0.1 * task.steps)  # of recipes.supernet_update's rate
    return tables.supernet(task.sizes, WIDTH, weight=weight, initialiser=training.uniform)


def _two_levels(upper, rule, loss_fn, rate):
    return train.bilevel_update(loss_fn, optax.adam(rate), upper, rule)


def _masked(task, params, budget, seed):
    """OptEmbed's rows and widths within a budget."""
    score = recipes.masked_auc(task.table, params["network"])
    options = {"budget": budget, "generations": GENERATIONS}
    kept, widths = tables.search_masks(jax.random.key(seed), params["table"], task.sizes, score, **options)
    return tables.masked_table(task.sizes, WIDTH, kept=kept, widths=widths, initialiser=training.uniform)


def _narrowed(task, params, budget, seed):
    """AutoDim's widths, which no budget steers, scaled to one."""
    found = tables.autodim_widths(params["table"])

    def scaled(scale):
        inner = {n: float(np.clip(w * scale, 1, WIDTH)) for n, w in found.items()}
        return tables.narrow_tables(task.sizes, WIDTH, inner=inner, initialiser=training.uniform)

    return tables.within(scaled, budget, low=1 / WIDTH, high=float(WIDTH))
