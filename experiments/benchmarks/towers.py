"""How fast do two towers train compared with PyTorch, and does recommending stream at the rate of the search?

    python -m experiments.benchmarks.towers      # torch is compared where it is installed
    python -m experiments.benchmarks.towers --users 1000 --items 100000 --rounds 2

1 minute on 2 CPU cores. One step reads a batch of users with their last items, as many items with
an id, a maker and a bag of tags, and two masked views of as many other items. The shared table learns by
Adagrad on the rows that are touched, the networks by Adam. "table part" is the step less the same step
on fixed vectors. Both libraries run in one process, in blocks that take turns; "ms" is the median. The
list of distinct rows is made in a thread while the step before runs, as training does; torch finds them
inside its step.

Recommending leaves out what each user has taken. It is timed against the plain search of as many places.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import table_arms, timing
from experiments.shared import flags, results
from jaxembed import data, encoders, losses, recipes, search, tables, train
from jaxembed.recipes import _tower_steps as steps_of

OURS = "jaxembed"


@dataclasses.dataclass(frozen=True)
class Config:
    """Times a training step of two towers, and recommending from a large catalogue."""

    rows: int = 1_000_000  # of the table
    batch_size: int = 1024  # pairs of a step, and items of the second loss
    values: int = 200_000  # distinct users and items
    bag: int = 8  # tags of an item, and items of a history
    chunk: int = 16  # width of a row; every feature reads one
    hidden: int = 128
    width: int = 32
    users: int = 10_000  # that are recommended to
    items: int = 1_000_000  # in the catalogue
    taken: int = 50  # items that a user has taken, on average
    k: int = 10
    rounds: int = 5  # turns of every arm
    block: int = 3  # steps in each turn
    seed: int = 0
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file


# Training


def columns(cfg):
    """The ids and masks of one batch: queries, items of pairs, and items of two views."""
    rng = np.random.default_rng(cfg.seed)
    share = 1 / np.arange(1, cfg.values + 1)

    def ids(*shape):
        return rng.choice(cfg.values, shape, p=share / share.sum()).astype(np.int32)

    def part(**found):
        masks = {name: np.ones(x.shape, bool) for name, x in found.items()}
        return {"ids": found, "masks": masks, "dense": np.zeros((cfg.batch_size, 0), np.float32)}

    size, bag = cfg.batch_size, (cfg.batch_size, cfg.bag)
    item = part(item=ids(size), maker=ids(size), tags=ids(*bag))
    views = part(item=rng.integers(cfg.values, size=size), maker=ids(size), tags=ids(*bag))
    query = part(user=ids(size), item=ids(*bag))
    item |= {"id": item["ids"]["item"], "log_q": np.log(share[item["ids"]["item"]]).astype(np.float32)}
    return {"query": query, "item": item, "views": views | {"id": views["ids"]["item"].astype(np.int32)}}


def ours(cfg, parts):
    """{part: function that runs one step}."""
    features = [tables.Feature(name) for name in ("user", "item", "maker", "tags")]
    plan = tables.plan(features, rows=cfg.rows, width=cfg.chunk)
    step = steps_of.Step(plan, "random", None, 0.3, 0.1, 0.0, 0.0, "counts", (1e-3, 0.1))
    sides = {"query": ("user", "item"), "item": ("item", "maker", "tags")}
    options = {"hidden": (cfg.hidden,), "width": cfg.width}
    params = encoders.init_towers(jax.random.key(0), plan, sides, **options)
    most = min(cfg.rows + 1, steps_of.most_rows(plan, parts))

    def prepare():
        return steps_of.batch_of(plan, parts, most)

    copy = jax.tree.map(jnp.copy, params)
    whole, _ = table_arms.stepper(copy, prepare(), *steps_of.update(step))
    dense = {name: params[name] for name in sides}
    fixed = {
        side: {n: jnp.full((cfg.batch_size, cfg.chunk), 0.1) for n in names} for side, names in sides.items()
    }

    def loss_fn(params, batch, key):
        queries = encoders.tower(params["query"], batch["query"])
        items = encoders.tower(params["item"], batch["item"])
        hidden = encoders.random_mask(key, 3)
        views = [encoders.tower(params["item"], batch["item"], hidden=h) for h in (hidden, ~hidden)]
        ids = jnp.arange(cfg.batch_size)
        main = losses.sampled_softmax(queries, items, ids=ids, log_q=jnp.zeros(cfg.batch_size))
        where = losses.duplicate_mask(ids)
        return main.mean() + 0.3 * losses.info_nce(*views, where=where, temperature=0.1).mean(), {}

    alone, _ = table_arms.stepper(dense, fixed, *train.gradient_update(loss_fn, optax.adam(1e-3)))
    return {OURS: table_arms.beside(prepare, whole), f"{OURS}, dense part": lambda: alone(fixed)}


def theirs(cfg, parts):
    """The same in torch: one sparse table with its own rows for each feature, two networks, both losses."""
    import torch

    rows = tables.plan([tables.Feature(n) for n in ("user", "item", "maker", "tags")], rows=cfg.rows, width=1)
    read = {
        part: {
            n: torch.tensor(x[..., 0]).long() for n, x in tables.codes(rows, c["ids"], only=c["ids"]).items()
        }
        for part, c in parts.items()
    }
    ids = {part: torch.tensor(parts[part]["id"]) for part in ("item", "views")}
    log_q = torch.tensor(parts["item"]["log_q"])
    bag = torch.nn.Embedding(cfg.rows, cfg.chunk, sparse=True)
    torch.nn.init.normal_(bag.weight, std=0.05)
    sizes = {"query": 2 * cfg.chunk, "item": 3 * cfg.chunk}
    nets = {
        side: torch.nn.Sequential(
            torch.nn.Linear(n, cfg.hidden), torch.nn.ReLU(), torch.nn.Linear(cfg.hidden, cfg.width)
        )
        for side, n in sizes.items()
    }
    default = torch.nn.ParameterList([torch.zeros(cfg.chunk) for _ in range(3)])
    dense = [p for net in nets.values() for p in net.parameters()]
    adam = torch.optim.Adam([*dense, *default.parameters()], lr=1e-3)
    adagrad = torch.optim.Adagrad(bag.parameters(), lr=0.1)
    normal, cross = torch.nn.functional.normalize, torch.nn.functional.cross_entropy
    target = torch.arange(cfg.batch_size)

    def vectors(part):
        found = [bag(x) for _, x in sorted(read[part].items())]
        return [x.mean(dim=1) if x.ndim == 3 else x for x in found]

    def item_tower(found, hidden=None):
        if hidden is not None:
            found = [default[i].expand_as(x) if hidden[i] else x for i, x in enumerate(found)]
        return normal(nets["item"](torch.cat(found, dim=1)))

    def loss_of(query, item, views):
        scores = normal(nets["query"](torch.cat(query, dim=1))) @ item_tower(item).T / 0.1 - log_q
        same = (ids["item"][:, None] == ids["item"]) & (target[:, None] != target)
        main = cross(scores.masked_fill(same, -torch.inf), target)
        hidden = torch.randperm(3) < 1
        scores = item_tower(views, hidden) @ item_tower(views, ~hidden).T / 0.1
        same = (ids["views"][:, None] == ids["views"]) & (target[:, None] != target)
        return main + 0.3 * cross(scores.masked_fill(same, -torch.inf), target)

    def whole():
        adam.zero_grad()
        adagrad.zero_grad()
        loss_of(*map(vectors, ("query", "item", "views"))).backward()
        adam.step()
        adagrad.step()

    fixed = [torch.full((cfg.batch_size, cfg.chunk), 0.1)] * 3

    def alone():
        adam.zero_grad()
        loss_of(fixed[:2], fixed, fixed).backward()
        adam.step()

    return {"torch": whole, "torch, dense part": alone}


def measure_steps(cfg):
    """Rows of the report for the training step."""
    flags.stage(f"steps of {cfg.batch_size:,} pairs, a table of {cfg.rows:,} rows")
    parts, found = columns(cfg), []
    calls = ours(cfg, parts) | (theirs(cfg, parts) if table_arms.TORCH else {})
    times = timing.in_turns(calls, cfg.rounds, cfg.block)
    for name, time in times.items():
        row = {"arm": name, "ms": 1e3 * time["median"], "least ms": 1e3 * time["least"]}
        found.append(row)
        if f"{name}, dense part" in times:
            rest = times[f"{name}, dense part"]
            parts_of = {
                "ms": row["ms"] - 1e3 * rest["median"],
                "least ms": row["least ms"] - 1e3 * rest["least"],
            }
            found.append({"arm": f"{name}, table part"} | parts_of)
    return found


# Recommending


def model_of(cfg):
    """Two untrained towers over users and a large catalogue: their speed is that of trained ones."""
    rng = np.random.default_rng(cfg.seed)
    count = cfg.users * cfg.taken
    log = {"user": rng.integers(cfg.users, size=count), "item": rng.integers(cfg.items, size=count)}
    items = data.catalogue({"item": np.arange(cfg.items)}, data.Schema(None, ("item",)))
    users = data.catalogue({"user": np.arange(cfg.users)}, data.Schema(None, ("user",)), key="user")
    log = data.interactions(log, data.Schema(None, ("user", "item")))
    model = recipes.TowerModel.untrained(log, items, users, None, history=0)
    plan = steps_of.default_plan(model.sizes())
    sides, dense = model.sides()
    params = encoders.init_towers(jax.random.key(0), plan, dict(sides), dense=dict(dense), width=cfg.width)
    return dataclasses.replace(model, plan=plan, params=jax.tree.map(np.asarray, params))


def measure_recommending(cfg):
    """Rows of the report for recommending: users per second, by towers and by the plain search."""
    flags.stage(f"recommends to {cfg.users:,} users from {cfg.items:,} items")
    model = model_of(cfg)
    names = model.users["names"]
    block = recipes.tower_models.BLOCK
    queries = jax.random.normal(jax.random.key(1), (min(block, cfg.users), cfg.width))
    known = model.item_vectors
    plain = {
        f"search of {k} places": lambda k=k: search.top_k(queries, known, k)
        for k in (cfg.k, cfg.k + cfg.taken)
    }
    calls = {"recommend": lambda: model.recommend(names, cfg.k)} | plain
    times = timing.in_turns(calls, max(1, cfg.rounds // 4))
    found = []
    for name, time in times.items():
        count = cfg.users if name == "recommend" else len(queries)
        found.append(
            {"arm": name, "users": count, "seconds": time["median"], "users/s": count / time["median"]}
        )
    return found


def by_title(rows):
    """Rows as tables of their own: {title: rows}."""
    found = {}
    for row in rows:
        found.setdefault("recommending" if "users" in row else "training step", []).append(row)
    return found


def summary(cfg, rows):
    """A step beside that of torch, and recommending beside the plain search."""
    known = {row["arm"]: row.get("ms", row.get("users/s")) for row in rows}
    found = [
        timing.compared(
            f"training step{part}, ms", "torch", known[f"{OURS}{part}"], known[f"torch{part}"], rate=False
        )
        for part in ("", ", table part", ", dense part")
        if f"torch{part}" in known
    ]
    searches = [name for name in known if name.startswith("search of")]
    return found + [
        timing.compared("recommend, users/s", f"our {name}", known["recommend"], known[name], rate=True)
        for name in searches
    ]


def run(cfg):
    if not table_arms.TORCH:
        print("torch is not installed; pip install 'jaxembed[peers]' to compare with it", flush=True)
    rows = [*measure_steps(cfg), *measure_recommending(cfg)]
    return results.Result({"summary": summary(cfg, rows)} | by_title(rows))


if __name__ == "__main__":
    results.main("benchmarks.towers", Config, run)
