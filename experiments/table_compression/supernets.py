"""What trains OptEmbed's supernet on a task, and what scores its candidates."""

import jax.numpy as jnp
import numpy as np
import optax

from experiments.table_compression import training
from experiments.table_compression.training import WIDTH
from jaxembed import encoders, metrics, tables, train

THRESHOLD_RATE = 0.1  # of plain SGD
FIRST_NORM = 0.025 * WIDTH  # of a row as it is drawn
DECAY = 3e-4  # L2, within the grid of the paper
SAMPLE = 4096  # validation rows that score a candidate
GENERATIONS = 15


def supernet(task):
    """The first stage's method; its penalty alone moves a threshold by the first norm of a row."""
    steps = task.epochs * (len(task.parts["train"][1]) // task.batch_size)
    weight = FIRST_NORM / (THRESHOLD_RATE * steps)
    return tables.supernet(task.sizes, WIDTH, weight=weight, initialiser=training.uniform)


def decayed(loss_fn, rate):
    """Adam with L2 inside, as in the paper: rows that matter little shrink below their threshold."""
    return train.gradient_update(loss_fn, optax.chain(optax.add_decayed_weights(DECAY), optax.adam(rate)))


def update(loss_fn, rate):
    """The same, and plain SGD for the thresholds."""
    rest = optax.chain(optax.add_decayed_weights(DECAY), optax.adam(rate))
    return train.gradient_update(loss_fn, train.by_path([("threshold", optax.sgd(THRESHOLD_RATE))], rest))


def score(task, network):
    """``masked table -> AUC`` of some validation rows, with a frozen network."""
    ids, labels = task.parts["validation"]
    starts = dict(zip(task.sizes, np.cumsum([0, *task.sizes.values()]), strict=False))
    rows = jnp.stack([jnp.asarray(ids[n][:SAMPLE]) + starts[n] for n in sorted(ids)], axis=1)
    labels = jnp.asarray(labels[:SAMPLE])
    return lambda table: metrics.auc(labels, encoders.dcn(network, table[rows].reshape(len(rows), -1)))
