"""The arms of the benchmark of tables: one training step or one lookup, ours and those of other packages."""

import concurrent.futures
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import timing
from jaxembed import tables, train

PATH = "table/embedding"
TORCH = importlib.util.find_spec("torch") is not None


def draw(cfg, height):
    """One batch of rows, int32 [batch_size, fields], and the cotangent of what they read."""
    rng = np.random.default_rng(cfg.seed)
    share = 1 / np.arange(1, cfg.values + 1) ** cfg.zipf
    drawn = rng.choice(cfg.values, (cfg.batch_size, cfg.fields), p=share / share.sum())
    cotangent = rng.normal(size=(*drawn.shape, cfg.width)).astype(np.float32)
    rows = rng.choice(height, cfg.values, replace=False)
    return rows[drawn].astype(np.int32), cotangent


# Arms: (cfg, height, rows, cotangent) -> (function that runs one step, extra bytes or None). What is timed is
# the step until the JAX arrays that it returns are there.


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
        return held[0], metrics

    return once, timing.program_bytes(compiled)


def beside(prepare, step):
    """The step on what a thread prepares while the step before it runs; ``timing.done`` waits for both."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    waiting = [pool.submit(prepare)]

    def once():
        found = waiting.pop().result()
        waiting.append(pool.submit(prepare))
        return step(found), waiting[0]

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
OURS, DENSE = "jaxembed Adagrad", "optax Adagrad, dense"
PEERS = "torch sparse Adagrad", "fbgemm Adagrad"
ARMS = {
    OURS: by_rows(ADAGRAD),
    "jaxembed Adagrad, list made first": by_rows(ADAGRAD, "first"),
    "jaxembed Adagrad, list made beside": by_rows(ADAGRAD, "beside"),
    "jaxembed row-wise Adagrad": by_rows(tables.rowwise_adagrad(0.01)),
    "jaxembed lazy Adam": by_rows(optax.adam(0.01)),
    DENSE: with_update(lambda loss_fn: train.gradient_update(loss_fn, ADAGRAD), False),
    PEERS[0]: torch_arm("Adagrad"),
    "torch SparseAdam": torch_arm("SparseAdam"),
    PEERS[1]: fbgemm_arm("EXACT_ADAGRAD"),
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
