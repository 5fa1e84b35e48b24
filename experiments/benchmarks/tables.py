"""Training steps of embedding tables, side by side with PyTorch, FBGEMM and a dense rule.

    python -m experiments.benchmarks.tables      # needs torch; fbgemm-gpu-cpu is compared when it loads
    python -m experiments.benchmarks.tables --heights 100000 --rounds 2

One step reads 4,096 x 26 rows of width 16 and applies a rule to their gradient, a fixed cotangent, so that
only the table is timed. The same Zipf values are mapped injectively into every number of rows. All arms run
in one process, in blocks that take turns; "ms" is the median, "least ms" the fastest step, which other work
on the machine disturbs least. "extra" is how much the peak of resident memory grows while an arm takes a
step. The list of distinct rows is made on the host, in training by a thread beside the step.

On 2 CPU cores, 21,405 of 106,496 reads distinct: Adagrad takes 5.0 / 6.0 / 6.7 ms at 1e5 / 1e6 / 1e7 rows,
torch's sparse Adagrad 3.3 / 3.0 / 2.7 times as long, the dense rule 69 times at 1e7; an earlier run had 4.8 /
5.1 / 6.1 ms and 3.3 / 3.7 / 3.0 times. DCN-V2 reaches .86 of torch's samples/s: of 22 ms more a step,
16 are XLA's matrix products, which take 1.2 times as long as torch's on a CPU ("products alone").
"""

import concurrent.futures
import ctypes
import dataclasses
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import report
from jaxembed import tables, train

PATH = "table/embedding"


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


# Arms: (cfg, height, rows, cotangent) -> a function that runs one step and waits for it


def with_update(make_update, local):
    """An arm of ours from ``loss_fn -> update``, on listed rows or on the whole table."""

    def arm(cfg, height, rows, cotangent):
        def loss_fn(params, batch, key):
            vectors = tables.rows_of(params["table"]["embedding"], batch["codes"])
            return jnp.vdot(vectors, batch["cotangent"]), {}

        batch = {"codes": rows, "cotangent": cotangent}
        if local:
            listed, codes = tables.distinct({"all": rows}, None, height, cfg.size)
            batch |= {"codes": codes["all"], "rows": {PATH: listed}}
        return stepper({"table": {"embedding": zeros(height, cfg.width)}}, batch, *make_update(loss_fn))

    return arm


def stepper(params, batch, init, step):
    """Jits a step with a donated state and returns the function that takes it."""
    held = [train.TrainState(jnp.int32(0), params, init(params))]
    batch, key, jitted = jax.device_put(batch), jax.random.key(0), jax.jit(step, donate_argnums=0)

    def once():
        held[0], metrics = jitted(held[0], batch, key)
        jax.block_until_ready((held[0], metrics))

    return once


def zeros(height, width):
    return jnp.full((height, width), 0.01, jnp.float32)


def by_rows(rule):
    return with_update(lambda loss_fn: tables.row_update(loss_fn, optax.identity(), {PATH: rule}), True)


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

        return once

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
        return lambda: bag(ids, starts).backward(given)

    return arm


ADAGRAD = optax.adagrad(0.01)
OURS = "jaxembed Adagrad"
ARMS = {
    OURS: by_rows(ADAGRAD),
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
    import torch

    ours, theirs = zeros(height, cfg.width), torch.full((height, cfg.width), 0.01)
    codes, ids, read = jnp.asarray(rows), torch.tensor(rows), jax.jit(tables.rows_of)
    return {
        "lookup jaxembed": lambda: read(ours, codes).block_until_ready(),
        "lookup torch": lambda: torch.nn.functional.embedding(ids, theirs),
    }


# Measuring


def take_turns(steps, cfg):
    """{arm: (median, least) milliseconds}; each arm runs a block of steps, then the next one does."""
    seconds = {name: [] for name in steps}
    for _ in range(cfg.rounds):
        for name, once in steps.items():
            for _ in range(cfg.block):
                began = time.perf_counter()
                once()
                seconds[name].append(time.perf_counter() - began)
    return {name: (1e3 * float(np.median(s)), 1e3 * min(s)) for name, s in seconds.items()}


def peak_growth(run):
    """Bytes by which resident memory at its peak exceeds what it was before; None where Linux is not."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier step freed is not hidden growth
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        run()
        return max(0, resident("VmHWM") - before)
    except (OSError, AttributeError):
        run()
        return None


def resident(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def measure(cfg, height):
    """Rows of the report for tables of one height."""
    rows, cotangent = draw(cfg, height)
    steps, extra, rest = {}, {}, []
    for name, arm in ARMS.items():
        try:
            steps[name] = arm(cfg, height, rows, cotangent)
        except (ImportError, OSError) as error:
            rest.append({"arm": name, "rows": height, "note": f"not loaded: {str(error)[:60]}"})
            continue
        steps[name]()  # compiles, makes the state
        extra[name] = peak_growth(steps[name])
    reads = lookups(cfg, height, rows)
    host = {"host: distinct rows": lambda: tables.distinct({"all": rows}, None, height, cfg.size)}
    times = take_turns(steps | reads | host, cfg)
    table_bytes = 4 * height * cfg.width
    for name, (median, least) in times.items():
        row = {"arm": name, "rows": height, "ms": median, "least ms": least}
        if name in steps:
            row["times ours"] = median / times[OURS][0]
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
    init, step = tables.row_update(loss_fn, tx, {PATH: ADAGRAD})
    params = jax.tree.map(jnp.copy, dense) | {"table": {"embedding": zeros(height, cfg.width)}}
    held, jitted = [train.TrainState(jnp.int32(0), params, init(params))], jax.jit(step, donate_argnums=0)
    pool, key = concurrent.futures.ThreadPoolExecutor(1), jax.random.key(0)

    def prepare():
        listed, codes = tables.distinct({"all": rows}, None, height, cfg.size)
        return {"codes": codes["all"], "rows": {PATH: listed}, "labels": labels}

    waiting = [pool.submit(prepare)]

    def whole():
        batch = waiting.pop().result()
        waiting.append(pool.submit(prepare))
        held[0], _ = jitted(held[0], batch, key)
        jax.block_until_ready(held[0])

    fixed = {"vectors": np.full((len(rows), width), 0.01, np.float32), "labels": labels}
    update = train.gradient_update(lambda p, b, key: loss_of(p, b["vectors"], b), tx)
    return {"DCN-V2 jaxembed": whole, "DCN-V2 jaxembed, dense part": stepper(dense, fixed, *update)}


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
    import torch

    sizes = [cfg.fields * cfg.width] * (cfg.cross_layers + 1) + list(cfg.hidden)
    rng = np.random.default_rng(2)
    made = [
        [rng.normal(size=s).astype(np.float32) for s in ((cfg.batch_size, n), (n, m), (cfg.batch_size, m))]
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]

    def products(layers):
        return [(x @ w, g @ w.T, x.T @ g) for x, w, g in layers]

    ours, theirs = jax.device_put(made), [[torch.tensor(a) for a in layer] for layer in made]
    jitted = jax.jit(products)
    return {
        "DCN-V2 jaxembed, products alone": lambda: jax.block_until_ready(jitted(ours)),
        "DCN-V2 torch, products alone": lambda: products(theirs),
    }


def measure_model(cfg):
    """Rows of the report for the DCN-V2; its table part is the whole less the dense part."""
    rows, _ = draw(cfg, cfg.model_rows)
    labels = np.random.default_rng(1).integers(0, 2, len(rows)).astype(np.float32)
    steps = our_model(cfg, rows, labels) | torch_model(cfg, rows, labels) | products_alone(cfg)
    for once in steps.values():
        once()
    times, found = take_turns(steps, cfg), []
    for name, (median, least) in times.items():
        row = {"arm": name, "rows": cfg.model_rows, "ms": median, "least ms": least}
        found.append(row if "alone" in name else row | {"samples/s": 1e3 * len(rows) / median})
        if name + ", dense part" in times:
            rest = [a - b for a, b in zip((median, least), times[name + ", dense part"], strict=True)]
            found.append(row | {"arm": name + ", table part", "ms": rest[0], "least ms": rest[1]})
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
    axes.legend(fontsize=8)


def main(cfg):
    if cfg.values > min(cfg.heights):
        raise ValueError(f"values={cfg.values} is more than the smallest height, {min(cfg.heights)}")
    try:
        import torch
    except ImportError:
        raise ValueError("this benchmark compares with torch; pip install 'jaxembed[peers]'") from None
    torch.sparse.check_sparse_tensor_invariants.disable()
    found = [row for height in cfg.heights for row in measure(cfg, height)]
    if cfg.model_rows:
        found += measure_model(cfg)
    columns = ["arm", "rows", "ms", "least ms", "times ours", "extra MB", "extra / table"]
    columns += ["M ids/s", "samples/s", "note"]
    print(report.table(found, [c for c in columns if any(c in r for r in found)]))
    settings = {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in dataclasses.asdict(cfg).items()}
    distinct = len(np.unique(draw(cfg, cfg.heights[0])[0]))
    numbers = {"torch": torch.__version__, "distinct": distinct, "config": settings, "rows": found}
    picture = functools.partial(draw_times, found, cfg.heights)
    report.save("benchmark_tables", numbers, picture, folder=cfg.results)


if __name__ == "__main__":
    report.run(main, Config)
