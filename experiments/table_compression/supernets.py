"""OptEmbed's three stages on a task: supernet, search, training anew."""

import jax
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
    """The first stage's method; its penalty alone moves a threshold by half of the first norm."""
    steps = task.epochs * (len(task.parts["train"][1]) // task.batch_size)
    weight = FIRST_NORM / 2 / (THRESHOLD_RATE * steps)
    return tables.supernet(task.sizes, WIDTH, weight=weight, initialiser=training.uniform)


def decayed(loss_fn, rate):
    """Adam with L2 inside, as in the paper: rows that matter little shrink below their threshold."""
    return train.gradient_update(loss_fn, optax.chain(optax.add_decayed_weights(DECAY), optax.adam(rate)))


def of_supernet(loss_fn, rate):
    """The same, and plain SGD for the thresholds."""
    rest = optax.chain(optax.add_decayed_weights(DECAY), optax.adam(rate))
    rules = [("threshold", optax.sgd(THRESHOLD_RATE))]
    return train.gradient_update(loss_fn, train.by_path(rules, rest))


def searched(task, params, *, key, size_weight=0.0, budget=None, generations=GENERATIONS):
    """Kept rows bool [N] and widths int [F] of a trained supernet, by an evolutionary search.

    The score is the AUC of validation rows, less ``size_weight`` times the share of the numbers that stay.
    With a budget in bytes a further choice says how many rows stay at most, those farthest above their
    thresholds first, and what is too large scores below all that fits. Both are our own terms: the paper's
    search looks at the AUC alone.
    """
    sizes, fields = tuple(task.sizes.values()), len(task.sizes)
    table = params["table"]["table"]["embedding"]
    margins = tables.row_margins(table, params["table"]["threshold"], sizes)
    order = jnp.argsort(jnp.argsort(-margins))
    names, (ids, labels) = list(task.sizes), task.parts["validation"]
    starts = np.cumsum([0, *sizes[:-1]])
    rows = jnp.stack([jnp.asarray(ids[n][:SAMPLE]) for n in names], axis=1) + starts
    labels, of_row = jnp.asarray(labels[:SAMPLE]), np.repeat(np.arange(fields), sizes)
    most = None if budget is None else (budget - stored(task, 0)) / 4

    def score(candidate):
        widths = candidate[:fields] + 1
        share = ((candidate[-1] + 1) / WIDTH) ** 2 if budget is not None else 1.0
        kept = (margins > 0) & (order < share * len(table))
        vectors = table[rows] * kept[rows][..., None] * tables.prefix_mask(widths, WIDTH)
        found = encoders.dcn(params["network"], vectors.reshape(len(rows), -1))
        count = jnp.sum(kept * widths[of_row])
        value = metrics.auc(labels, found) - size_weight * count / (len(table) * WIDTH)
        return value if most is None else value - 10.0 * jnp.maximum(count / most - 1, 0)

    fitness = jax.jit(lambda candidates: jax.lax.map(score, candidates))
    first = [[WIDTH - 1] * (fields + (budget is not None)), [0] * (fields + (budget is not None))]
    best, _ = tables.evolve(key, fitness, len(first[0]), WIDTH, generations=generations, first=first)
    widths = best[:fields] + 1
    kept = np.asarray(margins > 0)
    if budget is not None:
        kept &= np.asarray(order) < filled(task, kept, np.asarray(order), widths, most)
    return kept, widths


def filled(task, kept, order, widths, most):
    """The largest number of rows, farthest above their thresholds first, whose numbers fit."""
    costs = np.repeat(widths, list(task.sizes.values())) * kept
    return int(np.searchsorted(np.cumsum(costs[np.argsort(order)]), most, side="right"))


def stored(task, numbers):
    """Bytes of ragged rows with so many numbers: they, a bitmap with ranks, two integers a field, a row."""
    rows = sum(task.sizes.values())
    return 4 * numbers + 8 * -(-rows // 32) + 8 * len(task.sizes) + 4 * WIDTH
