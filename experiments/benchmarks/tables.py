"""How fast do embedding tables train compared with PyTorch, FBGEMM and a dense rule?

    python -m experiments.benchmarks.tables      # torch and fbgemm-gpu-cpu are compared where they load
    python -m experiments.benchmarks.tables --heights 100000 --rounds 2

About 10 minutes on 2 CPU cores. One step reads 4,096 x 26 rows of width 16 and applies a rule to their
gradient, a fixed cotangent, so that only the table is timed. The same Zipf values are mapped injectively
into every number of rows. All arms run in one process, in blocks that take turns. "ms" is the median.
"least ms" is the fastest step, which other work on the machine disturbs least.

The list of distinct rows, which torch makes inside its step, is made on the host. "list made first" makes
it before each step, "list made beside" in a thread while the step before runs, as training does. "extra" is
memory beside table, state and batch: what the compiled program asks for or, if more, how much the peak of
resident memory grows in a step. Of a peer only the latter can be seen, which is a lower bound. The DCN-V2
has cross and hidden layers around the table; "products alone" are the matrix products that it contains.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import table_arms, timing
from experiments.benchmarks.table_arms import ADAGRAD, ARMS, DENSE, OURS, PATH, PEERS, draw, stepper, zeros
from experiments.shared import flags, plots, results
from jaxembed import tables, train

STEPS = "training steps"


@dataclasses.dataclass(frozen=True)
class Config:
    """Times steps of embedding tables of several heights, their lookups, and a DCN-V2 around one of them."""

    heights: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)  # rows of the table
    batch_size: int = 4096
    fields: int = 26
    width: int = 16
    values: int = 100_000  # distinct values in the stream, at most the smallest height
    zipf: float = 1.05  # exponent of their frequencies
    size: int = 24_576  # length of the list of distinct rows
    rounds: int = 7  # turns of every arm
    block: int = 5  # steps in each turn
    model_rows: int = 1_000_000  # rows of the table of the DCN-V2; 0 leaves it out
    cross_layers: int = 3
    hidden: tuple[int, ...] = (512, 512)
    seed: int = 0
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file


# Measuring


def measure(cfg, height):
    """Rows of the report for tables of one height."""
    flags.stage(f"tables of {height:,} rows")
    rows, cotangent = draw(cfg, height)
    steps, extra, rest = {}, {}, []
    for name, arm in ARMS.items():
        try:
            steps[name], needed = arm(cfg, height, rows, cotangent)
        except (ImportError, OSError) as error:
            rest.append({"arm": name, "rows": height, "note": f"not loaded: {str(error)[:60]}"})
            continue
        jax.block_until_ready(steps[name]())  # compiles, makes the state
        grown = timing.peak_growth(steps[name])
        extra[name] = max((b for b in (needed, grown) if b is not None), default=None)
    reads = table_arms.lookups(cfg, height, rows)
    host = {"host: distinct rows": lambda: tables.distinct({"all": rows}, None, height, cfg.size)}
    times = timing.in_turns(steps | reads | host, cfg.rounds, cfg.block)
    table_bytes = 4 * height * cfg.width
    for name, time in times.items():
        median, least = 1e3 * time["median"], 1e3 * time["least"]
        row = {"arm": name, "rows": height, "ms": median, "least ms": least}
        if name in steps:
            row["times ours"] = time["median"] / times[OURS]["median"]
        if name in extra and extra[name] is not None:
            row |= {"extra MB": extra[name] / 1e6, "extra / table": extra[name] / table_bytes}
        if name in reads:
            row["M ids/s"] = rows.size / median / 1e3
        rest.append(row)
    return rest


# DCN-V2 around a table: cross layers, then hidden layers


def our_model(cfg, rows, labels):
    """{part: function that runs one step}: the whole model with its host part, and the dense part alone."""
    from jaxembed import encoders

    width, height = cfg.fields * cfg.width, cfg.model_rows

    def logits(params, vectors):
        x = encoders.cross_network(params["cross"], vectors)
        return encoders.mlp(params["mlp"], x)[:, 0]

    def loss_of(params, vectors, batch):
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits(params, vectors), batch["labels"])), {}

    def loss_fn(params, batch, key):
        vectors = tables.rows_of(params["table"]["embedding"], batch["codes"])
        return loss_of(params, vectors.reshape(len(vectors), -1), batch)

    keys = jax.random.split(jax.random.key(cfg.seed))
    dense = {
        "cross": encoders.init_cross(keys[0], width, layers=cfg.cross_layers),
        "mlp": encoders.init_mlp(keys[1], (width, *cfg.hidden, 1)),
    }
    tx = optax.adam(1e-3)

    def prepare():
        listed, codes = tables.distinct({"all": rows}, None, height, cfg.size)
        return {"codes": codes["all"], "rows": {PATH: listed}, "labels": labels}

    params = jax.tree.map(jnp.copy, dense) | {"table": {"embedding": zeros(height, cfg.width)}}
    whole, _ = stepper(params, prepare(), *tables.row_update(loss_fn, tx, {PATH: ADAGRAD}))
    fixed = {"vectors": np.full((len(rows), width), 0.01, np.float32), "labels": labels}
    fixed = jax.device_put(fixed)
    update = train.gradient_update(lambda p, b, key: loss_of(p, b["vectors"], b), tx)
    alone, _ = stepper(dense, fixed, *update)
    return {
        "DCN-V2 jaxembed": table_arms.beside(prepare, whole),
        "DCN-V2 jaxembed, dense part": lambda: alone(fixed),
    }


def torch_model(cfg, rows, labels, compiled=False):
    """The same in torch, its dense part through ``torch.compile`` where ``compiled``."""
    import torch

    width = cfg.fields * cfg.width
    crosses = torch.nn.ModuleList([torch.nn.Linear(width, width) for _ in range(cfg.cross_layers)])
    layers, last = [], width
    for size in cfg.hidden:
        layers, last = [*layers, torch.nn.Linear(last, size), torch.nn.ReLU()], size
    top = torch.nn.Sequential(*layers, torch.nn.Linear(last, 1))
    bag = torch.nn.Embedding(cfg.model_rows, cfg.width, sparse=True)
    dense = torch.optim.Adam([*crosses.parameters(), *top.parameters()], lr=1e-3)
    rule = torch.optim.Adagrad(bag.parameters(), lr=0.01)
    ids, labels, loss = torch.tensor(rows), torch.tensor(labels), torch.nn.BCEWithLogitsLoss()

    def dense_loss(x0):
        x = x0
        for cross in crosses:
            x = x0 * cross(x) + x
        return loss(top(x)[:, 0], labels)

    dense_loss = torch.compile(dense_loss) if compiled else dense_loss

    def whole():
        dense.zero_grad()
        rule.zero_grad()
        dense_loss(bag(ids).reshape(len(ids), -1)).backward()
        dense.step()
        rule.step()

    fixed = torch.full((len(rows), width), 0.01)

    def alone():
        dense.zero_grad()
        dense_loss(fixed).backward()
        dense.step()

    return {"DCN-V2 torch": whole, "DCN-V2 torch, dense part": alone}


def products_alone(cfg):
    """The floor of the dense part: the three matrix products of every wide layer, in both libraries."""
    sizes = [cfg.fields * cfg.width] * (cfg.cross_layers + 1) + list(cfg.hidden)
    rng = np.random.default_rng(2)
    made = [
        [rng.normal(size=s).astype(np.float32) for s in ((cfg.batch_size, n), (n, m), (cfg.batch_size, m))]
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]

    def products(layers):
        return [(x @ w, g @ w.T, x.T @ g) for x, w, g in layers]

    ours, jitted = jax.device_put(made), jax.jit(products)
    found = {"DCN-V2 jaxembed, products alone": lambda: jax.block_until_ready(jitted(ours))}
    if table_arms.TORCH:
        import torch

        theirs = [[torch.tensor(a) for a in layer] for layer in made]
        found["DCN-V2 torch, products alone"] = lambda: products(theirs)
    return found


def measure_model(cfg):
    """Rows of the report for the DCN-V2; its table part is the whole less the dense part."""
    flags.stage(f"DCN-V2 around a table of {cfg.model_rows:,} rows")
    rows, _ = draw(cfg, cfg.model_rows)
    labels = np.random.default_rng(1).integers(0, 2, len(rows)).astype(np.float32)
    steps = our_model(cfg, rows, labels) | products_alone(cfg)
    steps |= torch_model(cfg, rows, labels) if table_arms.TORCH else {}
    times, found = timing.in_turns(steps, cfg.rounds, cfg.block), []
    for name, time in times.items():
        median, least = 1e3 * time["median"], 1e3 * time["least"]
        row = {"arm": name, "rows": cfg.model_rows, "ms": median, "least ms": least}
        found.append(row if "alone" in name else row | {"samples/s": 1e3 * len(rows) / median})
        if name + ", dense part" in times:
            dense = times[name + ", dense part"]
            rest = {"ms": median - 1e3 * dense["median"], "least ms": least - 1e3 * dense["least"]}
            found.append(row | {"arm": name + ", table part"} | rest)
    return found


# Reporting


def draw_times(found, heights, axes):
    """Step time against rows, one line for each rule."""
    for name in ARMS:
        line = [r["ms"] for h in heights for r in found if r["arm"] == name and r["rows"] == h and "ms" in r]
        if len(line) == len(heights):
            axes.plot(heights, line, "o-" if name.startswith("jaxembed") else "s--", label=name)
    axes.set(xscale="log", yscale="log", xlabel="rows of the table", ylabel="ms per step")
    axes.set_title("Training step of a table, 4,096 x 26 rows of width 16 each")
    axes.grid(alpha=0.3)
    plots.legend(axes, loc="best")


def figures(numbers):
    steps, heights = numbers[STEPS], numbers["config"]["heights"]
    return {"": functools.partial(draw_times, steps, heights)}


def by_title(rows):
    """Rows as tables of their own: {title: rows}."""
    found = {}
    for row in rows:
        model = "DCN-V2" if row["arm"].startswith("DCN-V2") else "lookups and the list of rows"
        found.setdefault(STEPS if row["arm"] in ARMS else model, []).append(row)
    return found


def summary(cfg, rows):
    """Our numbers and those of others, at the middle height; of the dense rule at the least height too."""
    known = {(row["arm"], row["rows"]): row for row in rows if "ms" in row}
    height, least = timing.middle(cfg.heights), min(cfg.heights)
    beside, first = f"{OURS}, list made beside", f"{OURS}, list made first"
    compared = [("Adagrad step", name, beside, name, height, "ms") for name in PEERS]
    compared += [("Adagrad step, list made first", PEERS[0], first, PEERS[0], height, "ms")]
    compared += [("Adagrad step", DENSE, beside, DENSE, h, "ms") for h in sorted({least, height})]
    compared += [("lookup", "torch", "lookup jaxembed", "lookup torch", height, "M ids/s")]
    compared += [("DCN-V2 step", "torch", "DCN-V2 jaxembed", "DCN-V2 torch", cfg.model_rows, "samples/s")]
    return [
        timing.compared(
            f"{task}, {h:,} rows, {unit}", peer, *(known[n, h][unit] for n in pair), rate=unit != "ms"
        )
        for task, peer, *pair, h, unit in compared
        if all((name, h) in known for name in pair)
    ]


def look(cfg):
    flags.at_most(cfg, "values", min(cfg.heights), "every value needs a row in each of --heights")


def run(cfg):
    version = None
    if table_arms.TORCH:
        import torch

        torch.sparse.check_sparse_tensor_invariants.disable()
        version = torch.__version__
    else:
        print("torch is not installed; pip install 'jaxembed[peers]' to compare with it", flush=True)
    rows = [row for height in cfg.heights for row in measure(cfg, height)]
    rows += measure_model(cfg) if cfg.model_rows else []
    details = {"distinct": len(np.unique(draw(cfg, cfg.heights[0])[0])), "torch": version}
    return results.Result({"summary": summary(cfg, rows)} | by_title(rows), details)


if __name__ == "__main__":
    results.main("benchmarks.tables", Config, run, figures=figures, check=look)
