"""Training steps of embedding tables, side by side with PyTorch, FBGEMM and a dense rule.

    python -m experiments.benchmarks.tables      # torch and fbgemm-gpu-cpu are compared where they load
    python -m experiments.benchmarks.tables --heights 100000 --rounds 2

One step reads 4,096 x 26 rows of width 16 and applies a rule to their gradient, a fixed cotangent, so that
only the table is timed. The same Zipf values are mapped injectively into every number of rows. All arms run
in one process, in blocks that take turns; "ms" is the median, "least ms" the fastest step, which other work
on the machine disturbs least. The list of distinct rows, which torch makes inside its step, is made on the
host: "list made first" does it before each step, "list made beside" in a thread while the step before runs,
as training does. "extra" is memory beside table, state and batch: what the compiled program asks for, or, if
more, how much the peak of resident memory grows while an arm takes a step (all there is to see of a peer;
memory that the process has already counts as free, so it is a lower bound).

On 2 CPU cores, 21,405 of 106,496 reads distinct, Adagrad at 1e5 / 1e6 / 1e7 rows: 4.5 / 4.8 / 5.9 ms with the
list at hand, 6.1 / 6.8 / 7.4 with it made beside, 7.7 / 8.6 / 9.7 with it made first; torch's sparse Adagrad
15.2 / 17.1 / 27.5 ms (fastest 13.2 / 13.4 / 14.5), fbgemm 7.6 / 9.0 / 13.3. The step at 1e7 rows takes 1.33
times that at 1e5 (1.21 with the list made beside) and .03 of the table as extra memory; the dense rule is as
fast at 1e5 and takes 88 times as long at 1e7. A lookup alone is slower than torch's: 150 / 128 / 74 M ids/s
against 195 / 165 / 116. DCN-V2 reaches .84 of torch's samples/s, 23 ms more a step; XLA's matrix products on
a CPU take 24 ms more than torch's ("products alone").
"""

import concurrent.futures
import dataclasses
import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import plots, report, timing
from jaxembed import tables, train

PATH = "table/embedding"
TORCH = importlib.util.find_spec("torch") is not None


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
    results: pathlib.Path = report.RESULTS


def draw(cfg, height):
    """One batch of rows, int32 [batch_size, fields], and the cotangent of what they read."""
    rng = np.random.default_rng(cfg.seed)
    share = 1 / np.arange(1, cfg.values + 1) ** cfg.zipf
    drawn = rng.choice(cfg.values, (cfg.batch_size, cfg.fields), p=share / share.sum())
    cotangent = rng.normal(size=(*drawn.shape, cfg.width)).astype(np.float32)
    rows = rng.choice(height, cfg.values, replace=False)
    return rows[drawn].astype(np.int32), cotangent


# Arms: (cfg, height, rows, cotangent) -> (function that runs one step and waits for it, extra bytes or None)


def with_update(make_update, local, host=None):
    """An arm of ours from ``loss_fn -> update``, on listed rows or on the whole table.

    ``host`` "first" lists the distinct rows before every step, "beside" in a thread; None once for all.
    """

    def arm(cfg, height, rows, cotangent):
        def loss_fn(params, batch, key):
            vectors = tables.rows_of(params["table"]["embedding"], batch["codes"])
            return jnp.vdot(vectors, batch["cotangent"]), {}

        def listed():
            found, codes = tables.distinct({"all": rows}, None, height, cfg.size)
            return {"codes": codes["all"], "rows": {PATH: found}}

        fixed = jax.device_put({"cotangent": cotangent, "codes": rows} | (listed() if local else {}))
        params = {"table": {"embedding": zeros(height, cfg.width)}}
        step, extra = stepper(params, fixed, *make_update(loss_fn))
        if host is None:
            return lambda: step(fixed), extra
        if host == "first":
            return lambda: step(fixed | listed()), extra
        return beside(listed, lambda found: step(fixed | found)), extra

    return arm


def stepper(params, batch, init, step):
    """Compiles a step with a donated state: (function that takes it on a batch, bytes that it needs)."""
    held = [train.TrainState(jnp.int32(0), params, init(params))]
    key = jax.random.key(0)
    compiled = jax.jit(step, donate_argnums=0).lower(held[0], batch, key).compile()

    def once(batch):
        held[0], metrics = compiled(held[0], batch, key)
        jax.block_until_ready((held[0], metrics))

    return once, timing.program_bytes(compiled)


def beside(prepare, step):
    """The step on what a thread prepares while the step before it runs."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    waiting = [pool.submit(prepare)]

    def once():
        found = waiting.pop().result()
        waiting.append(pool.submit(prepare))
        step(found)

    return once


def zeros(height, width):
    return jnp.full((height, width), 0.01, jnp.float32)


def by_rows(rule, host=None):
    return with_update(lambda loss_fn: tables.row_update(loss_fn, optax.identity(), {PATH: rule}), True, host)


def torch_arm(name):
    def arm(cfg, height, rows, cotangent):
        import torch

        bag = torch.nn.EmbeddingBag(height, cfg.width, mode="sum", sparse=True)
        rule = getattr(torch.optim, name)(bag.parameters(), lr=0.01)
        ids, starts = torch.tensor(rows.ravel()), torch.arange(rows.size, dtype=torch.int32)
        given = torch.tensor(cotangent.reshape(-1, cfg.width))

        def once():
            rule.zero_grad()
            bag(ids, starts).backward(given)
            rule.step()

        return once, None

    return arm


def fbgemm_arm(name):
    def arm(cfg, height, rows, cotangent):
        import torch
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        place = (height, cfg.width, EmbeddingLocation.HOST, ComputeDevice.CPU)
        bag = SplitTableBatchedEmbeddingBagsCodegen(
            [place], optimizer=getattr(EmbOptimType, name), learning_rate=0.01, eps=1e-7
        )
        ids, starts = torch.tensor(rows.ravel()).long(), torch.arange(rows.size + 1)
        given = torch.tensor(cotangent.reshape(-1, cfg.width))
        return lambda: bag(ids, starts).backward(given), None

    return arm


ADAGRAD = optax.adagrad(0.01)
OURS = "jaxembed Adagrad"
ARMS = {
    OURS: by_rows(ADAGRAD),
    "jaxembed Adagrad, list made first": by_rows(ADAGRAD, "first"),
    "jaxembed Adagrad, list made beside": by_rows(ADAGRAD, "beside"),
    "jaxembed row-wise Adagrad": by_rows(tables.rowwise_adagrad(0.01)),
    "jaxembed lazy Adam": by_rows(optax.adam(0.01)),
    "optax Adagrad, dense": with_update(lambda loss_fn: train.gradient_update(loss_fn, ADAGRAD), False),
    "torch sparse Adagrad": torch_arm("Adagrad"),
    "torch SparseAdam": torch_arm("SparseAdam"),
    "fbgemm Adagrad": fbgemm_arm("EXACT_ADAGRAD"),
    "fbgemm row-wise Adagrad": fbgemm_arm("EXACT_ROWWISE_ADAGRAD"),
}


def lookups(cfg, height, rows):
    """{framework: function that reads the batch once}."""
    ours, codes, read = zeros(height, cfg.width), jnp.asarray(rows), jax.jit(tables.rows_of)
    found = {"lookup jaxembed": lambda: read(ours, codes).block_until_ready()}
    if TORCH:
        import torch

        theirs, ids = torch.full((height, cfg.width), 0.01), torch.tensor(rows)
        found["lookup torch"] = lambda: torch.nn.functional.embedding(ids, theirs)
    return found


# Measuring


def measure(cfg, height):
    """Rows of the report for tables of one height."""
    report.stage(f"tables of {height:,} rows")
    rows, cotangent = draw(cfg, height)
    steps, extra, rest = {}, {}, []
    for name, arm in ARMS.items():
        try:
            steps[name], needed = arm(cfg, height, rows, cotangent)
        except (ImportError, OSError) as error:
            rest.append({"arm": name, "rows": height, "note": f"not loaded: {str(error)[:60]}"})
            continue
        steps[name]()  # compiles, makes the state
        grown = timing.peak_growth(steps[name])
        extra[name] = max((b for b in (needed, grown) if b is not None), default=None)
    reads = lookups(cfg, height, rows)
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
        "DCN-V2 jaxembed": beside(prepare, whole),
        "DCN-V2 jaxembed, dense part": lambda: alone(fixed),
    }


def torch_model(cfg, rows, labels):
    """The same in torch."""
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

    def backward(x0):
        x = x0
        for cross in crosses:
            x = x0 * cross(x) + x
        loss(top(x)[:, 0], labels).backward()

    def whole():
        dense.zero_grad()
        rule.zero_grad()
        backward(bag(ids).reshape(len(ids), -1))
        dense.step()
        rule.step()

    fixed = torch.full((len(rows), width), 0.01)

    def alone():
        dense.zero_grad()
        backward(fixed)
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
    if TORCH:
        import torch

        theirs = [[torch.tensor(a) for a in layer] for layer in made]
        found["DCN-V2 torch, products alone"] = lambda: products(theirs)
    return found


def measure_model(cfg):
    """Rows of the report for the DCN-V2; its table part is the whole less the dense part."""
    report.stage(f"DCN-V2 around a table of {cfg.model_rows:,} rows")
    rows, _ = draw(cfg, cfg.model_rows)
    labels = np.random.default_rng(1).integers(0, 2, len(rows)).astype(np.float32)
    steps = our_model(cfg, rows, labels) | products_alone(cfg)
    steps |= torch_model(cfg, rows, labels) if TORCH else {}
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


def picture(numbers):
    return functools.partial(draw_times, numbers["rows"], numbers["config"]["heights"])


def main(cfg):
    name = report.named("benchmark_tables", cfg)
    report.at_most(cfg, "values", min(cfg.heights), "every value needs a row in each of --heights")
    if TORCH:
        import torch

        torch.sparse.check_sparse_tensor_invariants.disable()
    else:
        print("torch is not installed; pip install 'jaxembed[peers]' to compare with it", flush=True)
    found = [row for height in cfg.heights for row in measure(cfg, height)]
    if cfg.model_rows:
        found += measure_model(cfg)
    columns = ["arm", "rows", "ms", "least ms", "times ours", "extra MB", "extra / table"]
    columns += ["M ids/s", "samples/s", "note"]
    print(report.table(found, [c for c in columns if any(c in r for r in found)]))
    numbers = {"distinct": len(np.unique(draw(cfg, cfg.heights[0])[0])), "config": report.settings(cfg)}
    numbers |= {"torch": torch.__version__ if TORCH else None, "rows": found}
    report.save(name, numbers, picture(numbers), folder=cfg.results)


if __name__ == "__main__":
    report.run(main, Config)
