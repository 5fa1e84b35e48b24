"""Training of integer tables: a step moves the numbers that integers stand for, and rounds them by chance."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed.arrays import wide
from jaxembed.tables.factorized import TABLE
from jaxembed.tables.quantized import STEP, round_learned, round_to_step
from jaxembed.tables.updates import SORTED, _leaf, _nest, _replaced

NOISE = 0x696E7438  # tells the key of the rounding from those that the loss folds


def integer_update(loss_fn, tx, rules, *, step=None, step_rule=None):
    """Integer training: steps on the numbers that integers stand for, which are then rounded by chance.

    The listed rows (``batch["rows"][path]``, or all rows without a list) become floats, the optax rule moves
    them, and they are rounded to multiples of their step. A row whose new numbers are not finite stays as it
    was. With learned steps (:func:`alpt`) the loss is computed once more, on the moved rows rounded as
    :func:`round_learned` does. Its gradient to the steps, divided by ``sqrt(rows * D * (2**(bits - 1) -
    1))``, moves the steps, and the rows are rounded to the new ones.

    >>> loss_fn = lambda params, batch, key: (jnp.sum(params["table"]["embedding"]), {})
    >>> init, step = integer_update(loss_fn, optax.sgd(0.1), {"table/embedding": optax.sgd(0.1)}, step=0.01)
    >>> opt_state = init({"table": {"embedding": jnp.zeros((5, 2), jnp.int8)}})

    Args:
        loss_fn: ``(params, batch, key) -> (scalar, {name: scalar})``. It reads the rows through
            ``method.read`` with the codes of :func:`~jaxembed.tables.touched_rows`, or through
            ``method.vectors`` where the batch lists no rows.
        tx: optax transformation of all other parameters.
        rules: {path of an integer table: optax transformation}. What the rule remembers is held in float32,
            for every row: SGD and :func:`~jaxembed.tables.rowwise_adagrad` remember little.
        step: distance of neighbouring numbers, that of :func:`integer_table`; None learns steps, which are
            the parameter "step/embedding" beside "table/embedding".
        step_rule: optax transformation of the learned steps, default Adam with rate 2e-5.

    Returns:
        ``(init(params) -> opt_state, step(state, batch, key) -> (state, metrics))`` for ``train.fit``, in one
        process.

    Raises:
        ValueError: for a step that is not above 0; when called, for a path whose array does not hold
            integers, or several processes.

    References:
        S. Li et al., ALPT, arXiv:2212.05735; S. Gupta et al., arXiv:1502.02551.
    """
    if step is not None and not (np.isfinite(step) and step > 0):
        raise ValueError(f"step={step}; give a number above 0, or None for learned steps")
    step_rule = None if step is not None else step_rule or _step_rule()
    return _integer_update(loss_fn, tx, tuple(rules.items()), step, step_rule)


@functools.cache
def _step_rule():
    return optax.adam(2e-5)


@functools.lru_cache(maxsize=64)
def _integer_update(loss_fn, tx, rules, fixed, step_rule):
    steps_of = {path: path.removesuffix(TABLE) + STEP for path, _ in rules}
    hidden = dict.fromkeys(steps_of) | ({} if fixed else dict.fromkeys(steps_of.values()))

    def init(params):
        states = []
        for path, rule in rules:
            table = _leaf(params, path)
            if not jnp.issubdtype(table.dtype, jnp.integer):
                raise ValueError(f"rules: {path!r} holds {table.dtype}; give the path of an integer table")
            state = {"rows": rule.init(_nest(path, table.astype(jnp.float32)))}
            states.append(state if fixed else state | {"step": step_rule.init(_leaf(params, steps_of[path]))})
        return {"dense": tx.init(wide(_replaced(params, hidden))), "rows": states}

    def evaluated(trained, batch, key):
        dense, small = trained
        loss, metrics = loss_fn(_replaced(dense, small), batch, key)
        return loss, {"loss": loss, **metrics}

    def step(state, batch, key):
        if jax.process_count() > 1:
            raise ValueError(f"{jax.process_count()} processes found; integer_update runs in one of them")
        tables = {path: _leaf(state.params, path) for path in steps_of}
        listed = {path: batch.get("rows", {}).get(path) for path in steps_of}
        dense, params = _replaced(state.params, hidden), state.params
        steps = {p: fixed or _taken(_leaf(params, steps_of[p]), rows, 1) for p, rows in listed.items()}
        small = {p: _taken(tables[p], rows, 0).astype(jnp.float32) * steps[p] for p, rows in listed.items()}
        gradient, metrics = jax.grad(evaluated, has_aux=True)((dense, small), batch, key)
        updates, dense_state = tx.update(wide(gradient[0]), state.opt_state["dense"], wide(dense))
        dense = optax.apply_updates(dense, updates)
        given = rules, state.opt_state["rows"], listed, gradient[1], small, tables
        moved, states = _moved(*given)

        def rounded(steps):
            found = {path: round_learned(moved[path], steps[path], tables[path].dtype) for path in moved}
            return evaluated((dense, found), batch, key)[0]

        written, slopes = {}, None if fixed else jax.grad(rounded)(steps)
        for i, (path, table) in enumerate(tables.items()):
            rows = listed[path]
            if not fixed:
                given = states[i]["step"], rows, slopes[path], steps[path], table
                steps[path], states[i]["step"] = _stepped(step_rule, *given)
                written[steps_of[path]] = _put(_leaf(params, steps_of[path]), rows, steps[path])
            noise = jax.random.fold_in(jax.random.fold_in(key, NOISE), i)
            written[path] = _rounded(noise, table, rows, moved[path], steps[path])
        opt_state = {"dense": dense_state, "rows": states}
        return dataclasses.replace(state, params=_replaced(dense, written), opt_state=opt_state), metrics

    return init, step


def _moved(rules, states, listed, gradients, small, tables):
    """Listed rows after a step of their rules, as numbers, and the states of these."""
    moved, new = {}, []
    for (path, rule), old in zip(rules, states, strict=True):
        given = listed[path], _nest(path, gradients[path]), _nest(path, small[path]), tables[path]
        change, rows_state = _ruled(rule, old["rows"], *given)
        moved[path], new = small[path] + _leaf(change, path), [*new, old | {"rows": rows_state}]
    return moved, new


def _stepped(rule, state, rows, slopes, steps, table):
    """Learned steps after a step of their own, which leaves them above 0, and the state of their rule."""
    scaled = slopes / (steps.size * table.shape[1] * jnp.iinfo(table.dtype).max) ** 0.5
    change, state = _ruled(rule, state, rows, scaled, steps, table)
    return jnp.maximum(steps + change, steps / 1000), state


def _rounded(key, table, rows, moved, steps):
    """The integer table with its listed rows rounded; rows that are not finite stay."""
    finite = jnp.all(jnp.isfinite(moved), axis=1, keepdims=True)
    new = round_to_step(key, moved, steps, table.dtype)
    return _put(table, rows, jnp.where(finite, new, _taken(table, rows, 0)))


def _taken(array, rows, fill):
    """Listed rows of an array, or all of it."""
    return array if rows is None else array.at[rows].get(mode="fill", fill_value=fill)


def _put(array, rows, new):
    new = new.astype(array.dtype)
    return new if rows is None else array.at[rows].set(new, mode="drop", **SORTED)


def _ruled(rule, state, rows, gradient, values, table):
    """The updates of a rule for listed rows, and its state with the rows of these changed."""

    def tall(leaf):
        return leaf.ndim > 0 and leaf.shape[0] == table.shape[0]

    small = jax.tree.map(lambda s: _taken(s, rows, 0) if tall(s) else s, state)
    updates, new = rule.update(gradient, small, values)
    return updates, jax.tree.map(lambda s, n: _put(s, rows, n) if tall(s) else n, state, new)
