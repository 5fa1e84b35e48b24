"""A process that trains or writes until it is stopped: ``python -m experiments.reliability.worker``."""

import json
import sys
import time

import numpy as np

ROWS, WIDTH = 512, 16


class Batches:
    """Batch t of a small table model: this process's rows, a little later than those of the others."""

    def __init__(self, process=0, count=1, pause=0.0):
        self.process, self.count, self.pause = process, count, pause

    def __getitem__(self, t):
        time.sleep(self.pause * (1 + (t + self.process) % 2))
        rng = np.random.default_rng(t)
        batch = {"ids": rng.integers(ROWS, size=16), "targets": rng.random((16, 3), np.float32)}
        share = 16 // self.count
        return {k: v[self.process * share : (self.process + 1) * share] for k, v in batch.items()}


def trained(steps, batches, **options):
    """Trains the table model; the same steps give the same bits."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxembed import train

    def init(key):
        table, head = jax.random.split(key)
        return {"table": jax.random.normal(table, (ROWS, WIDTH)), "head": jax.random.normal(head, (WIDTH, 3))}

    def loss_fn(params, batch, key):
        x = params["table"][batch["ids"]]
        x = x + 0.1 * jax.random.normal(key, x.shape)
        return jnp.mean((x @ params["head"] - batch["targets"]) ** 2), {}

    return train.fit(
        init=init,
        loss_fn=loss_fn,
        tx=optax.adam(1e-2),
        batches=batches,
        steps=steps,
        progress=False,
        **options,
    )


def train_until_stopped(process, count, port, folder, pause):
    """One process of a run that saves every third step."""
    import jax

    if count > 1:
        jax.config.update("jax_num_cpu_devices", 1)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", num_processes=count, process_id=process)
    trained(10**6, Batches(process, count, pause), workdir=folder, save_every=3)


def add(folder, name, tries):
    """Adds documents one by one, and prints the ids of those that it was told are in."""
    from jaxembed import search

    for n in range(tries):
        document = [(f"{name}-{n}", np.full((2, 8), n, np.float32))]
        for _ in range(3_000):
            try:
                search.add_documents(folder, document, lambda params, tokens, mask: tokens.sum(axis=1))
            except BlockingIOError:
                time.sleep(0.02)
            else:
                print(json.dumps(document[0][0]), flush=True)
                break


if __name__ == "__main__":
    kind, *given = sys.argv[1:]
    if kind == "train":
        process, count, port, folder, pause = given
        train_until_stopped(int(process), int(count), port, folder, float(pause))
    else:
        add(given[0], given[1], int(given[2]))
