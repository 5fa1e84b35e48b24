"""The paper's single-layer model: one vector reads each feature. Its angles, and how rows grow under it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import metrics, recipes, tables

EPOCHS, FIRST = 10, 2  # most epochs, of which the last counts; the first budget, in shares of `rows`


@functools.lru_cache
def single_layer(width, count, frozen):
    """(init, apply) of the model: readers are equal at first, and learn unless they are frozen."""

    def init(key):
        return {"readers": jnp.tile(jax.random.normal(key, (1, width)) * width**-0.5, (count, 1))}

    def apply(params, found, dense):
        vectors = jax.lax.stop_gradient(params["readers"]) if frozen else params["readers"]
        return jnp.einsum("tbd,td->b", jnp.stack([*found.values()]), vectors)

    return init, apply


def squares_of(plan, members, sizes):
    """The mean square of the rows that some value reads, for each member: its plan has the seed after."""
    found = []
    for number, learned in enumerate(members):
        own = dataclasses.replace(plan, seed=plan.seed + number)
        codes = tables.codes(own, {name: np.arange(size) for name, size in sizes.items()})
        known = np.concatenate([c[:, 0] for c in codes.values()])
        found.append(float(np.mean(tables.row_norms(learned, known) ** 2)))
    return found


def measure(cfg, table, make_plan, budgets):
    """A row for each budget: the angle between readers, the lengths of rows, the test AUC.

    Args:
        cfg: settings of the story.
        table: what ``data.ctr_table`` returns.
        make_plan: ``budget -> plan`` with all features in the one table, one chunk each.
        budgets: shares of the rows.
    """
    rows, count = [], len(table["sizes"])
    pairs = np.triu_indices(count, 1)
    whole = table | {"splits": table["splits"] | {"validation": np.zeros(0, int)}}
    test = table["splits"]["test"]
    labels = table["columns"]["labels"][test]
    options = {"epochs": min(EPOCHS, cfg.epochs), "batch_size": cfg.batch_size}
    options |= {"rate": cfg.learning_rate, "decay": cfg.decay}
    for budget in (FIRST, *budgets):
        plan = make_plan(budget)
        row, lengths = {"budget": budget}, {}
        for name, frozen in (("", False), (", frozen readers", True)):
            given = {"model": single_layer(cfg.width, count, frozen), "members": cfg.seeds} | options
            model = recipes.fit_clicks(whole, plan, **given)
            learned = model.params
            if not frozen:
                angles = [np.asarray(tables.reader_angles(r))[pairs] for r in learned["network"]["readers"]]
                row["mean angle"] = float(np.mean(angles))
            squares = squares_of(plan, learned["table"]["embedding"], table["sizes"])
            row[f"mean square of rows{name}"] = float(np.mean(squares))
            aucs = [metrics.auc(labels, scores) for scores in model.scores(table["columns"], test)]
            row[f"AUC{name}"] = float(np.mean(aucs))
            lengths[name] = squares
        rows.append(row | {"squares": lengths[", frozen readers"]})
    return rows
