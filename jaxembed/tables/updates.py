"""Row-sparse training: a step that reads and writes only the rows that a batch touches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed.arrays import NONFINITE, first_nonfinite, wide
from jaxembed.tables.codes import by_table, codes
from jaxembed.tables.lookup import row_and_sign
from jaxembed.tables.plans import IMPORTANCE
from jaxembed.tables.rounding import stochastic_round

ROUNDING = ("nearest", "stochastic")


def distinct(codes, masks, rows, size, *, part=None):
    """Distinct rows: lists those that a batch reads, and makes its codes point into that list.

    Runs on the host, in the input pipeline. ``batch["rows"][path]`` then holds the list and
    :func:`row_update` trains the table of that path. The last slot of the list is always padding; masked
    values and the code -1 point to it.

    >>> codes = {"user": np.array([[7], [3]]), "tags": np.array([[[3], [9]], [[7], [0]]])}
    >>> rows, local = distinct(codes, {"tags": np.array([[True, False], [True, False]])}, 100, 4)
    >>> print(rows, local["user"].ravel(), local["tags"].ravel())
    [  3   7 100 101] [1 0] [0 3 1 3]

    Args:
        codes: {feature: int [B, reads] or [B, n, reads]} of one table, NumPy, from
            :func:`~jaxembed.tables.codes` (see :func:`~jaxembed.tables.by_table`).
        masks: {feature: bool [B] or [B, n]}, True = real value, or None. The mask of a feature holds for its
            importances too; masks of features that read other tables are not used.
        rows: V, the number of rows of the table.
        size: length of the list, the same in every step and process.
        part: number of this list when several are joined, each ``size`` long, one for each process;
            ``jax.process_index()`` when None.

    Returns:
        (rows int32 [size], sorted and padded with V, V + 1, ...; {feature: int32 codes of the same shape that
        point into it, from ``part * size`` on}). The sign of a code stays.

    Raises:
        ValueError: for a row outside the table, codes that are not integers, a mask of another
            shape, or more than ``size - 1`` distinct rows.
    """
    masks, arrays = masks or {}, {name: np.asarray(c) for name, c in codes.items()}
    part = jax.process_index() if part is None else part
    _check(arrays)
    if size < 1 or rows + size >= 2**31 or (part + 1) * size >= 2**31:
        raise ValueError(f"size={size}: need at least 1, and rows + size below 2**31")
    flat, flipped = row_and_sign(
        np.concatenate([np.zeros(0, np.int32), *(a.ravel() for a in arrays.values())])
    )
    kept = flat >= 0
    if masks:
        kept &= np.concatenate([_kept(name, a, masks).ravel() for name, a in arrays.items()])
    outside = kept & (flat >= rows)
    if outside.any():
        raise ValueError(f"codes: {flat[outside][0]} is outside a table of {rows} rows")
    found, slots = _ranks(flat, kept)
    if len(found) > size - 1:
        raise ValueError(f"size={size}: the batch touches {len(found)} rows; give at least {len(found) + 1}")
    slots[~kept] = size - 1
    slots += part * size
    slots = np.where(flipped, -2 - slots, slots) if flipped.any() else slots
    listed = np.arange(rows - len(found), rows - len(found) + size, dtype=np.int32)
    listed[: len(found)] = found
    ends = np.cumsum([a.size for a in arrays.values()])
    return listed, {
        name: slots[end - a.size : end].reshape(a.shape)
        for (name, a), end in zip(arrays.items(), ends, strict=True)
    }


def _check(codes):
    for name, array in codes.items():
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"codes: {name!r} has dtype {array.dtype}; give what tables.codes returns")


def _kept(name, codes, masks):
    """The mask of a feature, or of the feature that importances belong to, for each of its codes."""
    mask = masks.get(name.removesuffix(IMPORTANCE))
    if mask is None:
        return np.ones(codes.shape, bool)
    if np.shape(mask) != codes.shape[:-1]:
        raise ValueError(f"masks: {name!r} has shape {np.shape(mask)}; need {codes.shape[:-1]}")
    return np.broadcast_to(np.asarray(mask, bool)[..., None], codes.shape)


def _ranks(rows, kept):
    """Sorted distinct kept rows, and int32 rank of each row among them (any rank where not kept).

    One sort of numbers that hold the row in the upper and the position in the lower half.
    """
    pairs = rows.astype(np.int64) << 32
    pairs |= np.arange(len(rows))
    pairs = pairs[kept] if not kept.all() else pairs
    pairs.sort()
    rows_sorted, positions = (pairs >> 32).astype(np.int32), pairs.astype(np.int32)
    first = np.ones(len(pairs), bool)
    np.not_equal(rows_sorted[1:], rows_sorted[:-1], out=first[1:])
    ranks = np.zeros(len(rows), np.int32)
    ranks[positions] = np.cumsum(first, dtype=np.int32) - 1
    return rows_sorted[first], ranks


def touched(plan, ids, masks, size, *, part=None):
    """Touched rows of a batch: what it reads of the shared table, and codes that point into that list.

    The two keys of a batch for :func:`row_update`: :func:`~jaxembed.tables.codes`, then :func:`distinct` for
    the shared table and, with merge="weighted", for the importances. Features with a vocabulary keep the
    codes of their own small tables.

    >>> from jaxembed.tables import Feature, plan
    >>> p = plan([Feature("user"), Feature("gender", vocabulary=2)], rows=100, width=8)
    >>> batch = touched(p, {"user": np.array([17, 5, 17]), "gender": np.array([0, 1, 0])}, None, 4)
    >>> print(batch["rows"]["table/embedding"], batch["codes"]["user"].ravel())
    [ 17  23 100 101] [0 1 0]

    Args:
        plan: :class:`~jaxembed.tables.Plan`.
        ids: {feature: integer ids [B] or [B, n]}, NumPy; further keys are ignored.
        masks: {feature: bool [B] or [B, n]}, True = real value, or None.
        size: length of each list, the same in every step and process.
        part: as in :func:`distinct`.

    Returns:
        {"codes": {feature: int32 [B, reads] or [B, n, reads]}, "rows": {path of a table: int32 [size]}}.

    Raises:
        ValueError: for what ``codes`` and :func:`distinct` refuse, too small a ``size`` among it.
    """
    local, rows = codes(plan, ids), {}
    heights = {"table/embedding": plan.height, "table/importance": plan.importance_rows}
    for path, group in by_table(plan, local).items():
        if path in heights:
            rows[path], group = distinct(group, masks, heights[path], size, part=part)
            local |= group
    return {"codes": local, "rows": rows}


def row_update(loss_fn, tx, rules, *, parts=None, rounding="nearest"):
    """Row-sparse update: trains tables by the rows that a batch touches, for ``train.fit``.

    The step gathers the rows listed in ``batch["rows"][path]``, of the table and of every array of its
    optimiser state with as many rows. It differentiates the loss with respect to those rows and to all other
    parameters. Then it applies the rule and scatters the rows back into the donated buffers. The loss sees a
    table of the listed rows alone, into which the codes of the batch point (:func:`distinct`). So a row that
    occurs several times gets the sum of its gradients in one step. Time and memory beyond the table itself do
    not depend on V.

    SGD gives the bits of the dense rule (on one device), Adagrad and row-wise Adagrad its numbers to float
    rounding. Momentum, Adam and weight decay are lazy: a row moves and decays only in steps that touch it.
    Adam uses the global step count, as ``torch.optim.SparseAdam`` does. Clipping in ``tx`` covers the other
    parameters only. Give ``fit`` the plan as ``meta``. Codes of another plan would train other rows of the
    same table, and only ``meta`` lets a checkpoint refuse it.

    A table of low precision, bfloat16 say, is updated in float32, and so are the arrays of its state. Only
    what is written back is rounded. Rounded to the nearest, a step below half of the last digit is lost each
    time. Rounded stochastically, it moves the row in so many of the steps that the mean is right.

    >>> loss_fn = lambda params, batch, key: (jnp.sum(params["table"]["embedding"][batch["codes"]]), {})
    >>> init, step = row_update(loss_fn, optax.adam(1e-3), {"table/embedding": optax.adagrad(0.1)})
    >>> state = init({"table": {"embedding": jnp.ones((5, 2))}, "head": jnp.ones(3)})
    >>> print(*(leaf.shape for leaf in jax.tree.leaves(state["rows"])))
    (5, 2)

    Args:
        loss_fn: ``(params, batch, key) -> (scalar, {name: scalar})``, or with ``extra`` as fourth argument
            ``-> (scalar, ({name: scalar}, extra))``.
        tx: optax transformation of all parameters that ``rules`` does not name.
        rules: {path of a table [V, D], such as "table/embedding": optax transformation}.
        parts: how many lists ``batch["rows"][path]`` holds one after the other, [parts * size]; equal rows
            of different lists are merged. Default: the number of processes.
        rounding: "nearest" or "stochastic", of the rows of low-precision tables
            (:func:`~jaxembed.tables.stochastic_round` with a key made of the step's). Other tables are not
            rounded.

    Returns:
        ``(init(params) -> opt_state, step(state, batch, key) -> (state, metrics))``, the same object for the
        same arguments. The optimiser state is {"dense": state of ``tx``, "rows": one state for each path}.

    Raises:
        ValueError: for another rounding. When called, for a path that the params or ``batch["rows"]`` lack,
            or a rule that adds up gradients over steps (``optax.MultiSteps``, ``optax.apply_every``).

    References:
        M. Naumov et al., DLRM, arXiv:1906.00091.
    """
    if rounding not in ROUNDING:
        raise ValueError(f"rounding={rounding!r}; choose one of {ROUNDING}")
    return _row_update(loss_fn, tx, tuple(rules.items()), parts, rounding == "stochastic")


@functools.lru_cache(maxsize=64)
def _row_update(loss_fn, tx, rules, parts, stochastic):
    paths = [path for path, _ in rules]

    def init(params):
        tables = {path: _leaf(params, path) for path in paths}
        states = [rule.init(_nest(path, tables[path].astype(_wide(tables[path])))) for path, rule in rules]
        for path, state in zip(paths, states, strict=True):
            _refuse_accumulation(path, state)
        return {"dense": tx.init(wide(_replaced(params, dict.fromkeys(paths)))), "rows": states}

    def evaluated(trained, batch, key, extra):
        dense, small = trained
        params = _replaced(dense, small)
        if extra is None:
            loss, metrics = loss_fn(params, batch, key)
        else:
            loss, (metrics, extra) = loss_fn(params, batch, key, extra)
        return loss, ({"loss": loss, **metrics}, extra)

    def step(state, batch, key):
        tables = {path: _leaf(state.params, path) for path in paths}
        listed = {path: _listed(batch, path) for path in paths}
        small = {path: _read(tables[path], listed[path]) for path in paths}
        dense = _replaced(state.params, dict.fromkeys(paths))
        gradient, (metrics, extra) = jax.grad(evaluated, has_aux=True)(
            (dense, small), batch, key, state.extra
        )
        metrics = {**metrics, NONFINITE: first_nonfinite(_replaced(*gradient))}
        updates, dense_state = tx.update(wide(gradient[0]), state.opt_state["dense"], wide(dense))
        params, states = optax.apply_updates(dense, updates), []
        for (path, rule), rule_state in zip(rules, state.opt_state["rows"], strict=True):
            rows, g = _merged(listed[path], gradient[1][path], tables[path].shape[0], parts)
            noise = jax.random.fold_in(jax.random.fold_in(key, ROUNDS), len(states)) if stochastic else None
            table, rule_state = _step_rows(rule, path, tables[path], rule_state, rows, g, noise)
            params, states = _replaced(params, {path: table}), [*states, rule_state]
        opt_state = {"dense": dense_state, "rows": states}
        return dataclasses.replace(state, params=params, opt_state=opt_state, extra=extra), metrics

    return init, step


def _refuse_accumulation(path, state):
    """A sum of gradients of several steps would reach the rows of the last of them alone."""
    kinds = optax.MultiStepsState, optax.ApplyEvery
    for leaf in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kinds)):
        if isinstance(leaf, kinds):
            raise ValueError(f"rules: {path!r} adds up gradients over steps; give one step a larger batch")


SORTED = {"unique_indices": True, "indices_are_sorted": True}
ROUNDS = 0x726F756E  # tells the key of the rounding from those that the loss folds


def _read(array, rows):
    return array.at[rows].get(mode="fill", fill_value=0)


def _step_rows(rule, path, table, state, rows, gradient, key):
    """Applies a rule to the listed rows of a table and of its state; a key rounds by chance."""
    wide = _wide(table)

    def tall(leaf):
        return leaf.ndim > 0 and leaf.shape[0] == table.shape[0]

    def write(array, new):
        return array.at[rows].set(new.astype(array.dtype), mode="drop", **SORTED)

    small = _read(table, rows).astype(wide)
    small_state = jax.tree.map(lambda s: _read(s, rows) if tall(s) else s, state)
    updates, new = rule.update(_nest(path, gradient.astype(wide)), small_state, _nest(path, small))
    state = jax.tree.map(lambda s, n: write(s, n) if tall(s) else n, state, new)
    moved = optax.apply_updates(small, _leaf(updates, path))
    return write(table, moved if key is None else stochastic_round(key, moved, table.dtype)), state


def _merged(rows, gradient, height, parts):
    """Sorts the rows of several lists and adds the gradients of equal ones; one list is sorted already."""
    parts = jax.process_count() if parts is None else parts
    if len(rows) % parts:
        raise ValueError(f"batch: 'rows' holds {len(rows)} rows, which {parts} lists of one size do not make")
    if parts == 1:
        return rows, gradient
    gradient = gradient.astype(_wide(gradient))
    order = jnp.argsort(rows)
    ordered = rows[order]
    first = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    slots = jnp.cumsum(first) - 1
    summed = jax.ops.segment_sum(gradient[order], slots, len(rows), indices_are_sorted=True)
    padding = height + jnp.arange(len(rows), dtype=rows.dtype) + len(rows)
    return padding.at[slots].set(ordered, indices_are_sorted=True), summed


def _listed(batch, path):
    rows = batch.get("rows", {}).get(path)
    if rows is None:
        raise ValueError(f"batch: 'rows' has no {path!r}; put there what tables.distinct returns first")
    return rows


def _leaf(tree, path):
    """The array at a path such as "table/embedding"."""
    for name in path.split("/"):
        if not isinstance(tree, dict) or name not in tree:
            raise ValueError(f"rules: {path!r} is not a parameter")
        tree = tree[name]
    return tree


def _nest(path, leaf):
    for name in reversed(path.split("/")):
        leaf = {name: leaf}
    return leaf


def _replaced(tree, leaves):
    """A copy of nested dicts with other values at some paths."""
    for path, leaf in leaves.items():
        name, _, rest = path.partition("/")
        tree = {**tree, name: _replaced(tree[name], {rest: leaf}) if rest else leaf}
    return tree


def rowwise_adagrad(learning_rate, *, initial=0.0, eps=1e-10):
    """Row-wise Adagrad: keeps one number for each row in place of one for each entry.

    ``a[r] <- a[r] + mean_j g[r, j]**2``, then ``w[r] <- w[r] - learning_rate * g[r] / (sqrt(a[r]) + eps)``.

    >>> tx = rowwise_adagrad(0.1)
    >>> table = jnp.ones((2, 3))
    >>> updates, state = tx.update(jnp.array([[3.0, 1.0, 0.5], [1.0, 1.0, 1.0]]), tx.init(table), table)
    >>> print(updates.round(3))
    [[-0.162 -0.054 -0.027]
     [-0.1   -0.1   -0.1  ]]
    >>> print(state[0].round(3).ravel())
    [3.417 1.   ]

    Args:
        learning_rate: float or optax schedule.
        initial: first value of ``a``.
        eps: added to the root.

    Returns:
        An optax transformation; parameters [V, ...] have a state of [V, 1, ...] in at least float32.

    References:
        D. Mudigere et al., arXiv:2104.05158; initial and eps are those of the DLRM code.
    """

    def start(leaf):
        return jnp.full((*leaf.shape[:1], *(1 for _ in leaf.shape[1:])), initial, _wide(leaf))

    def init(params):
        return jax.tree.map(start, params)

    def update(gradient, state, params=None):
        del params

        def add(total, g):
            axes = tuple(range(1, g.ndim))
            return total + jnp.mean(jnp.square(g.astype(total.dtype)), axis=axes, keepdims=True)

        state = jax.tree.map(add, state, gradient)
        scaled = jax.tree.map(lambda g, a: (g / (jnp.sqrt(a) + eps)).astype(g.dtype), gradient, state)
        return scaled, state

    return optax.chain(
        optax.GradientTransformation(init, update), optax.scale_by_learning_rate(learning_rate)
    )


def _wide(leaf):
    return jnp.promote_types(leaf.dtype, jnp.float32)
