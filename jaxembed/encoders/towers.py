"""Two towers: features of a query, and of an item, become vectors whose cosine is their score."""

import jax
import jax.numpy as jnp

from jaxembed import tables
from jaxembed.arrays import accumulator, check_shape, unit
from jaxembed.encoders.mlp import init_mlp, mlp


def init_tower(key, widths, *, dense=0, hidden=(64,), width=32):
    """Tower: draws the parameters of :func:`tower`.

    >>> params = init_tower(jax.random.key(0), {"genre": 8, "year": 4}, dense=1, hidden=(16,), width=6)
    >>> print(params["mlp"]["layer_0"]["kernel"].shape, params["default"]["genre"].shape)
    (13, 16) (8,)

    Args:
        key: random key.
        widths: {feature: width D_f of its vector}.
        dense: number of numbers beside them.
        hidden: widths of the hidden layers; () is one linear layer.
        width: D, of the vectors that come out.

    Returns:
        {"mlp": as ``init_mlp``, "default": {feature: zeros [D_f]}}: what a hidden or missing feature reads.

    Raises:
        ValueError: without features and numbers.
    """
    total = sum(widths.values()) + dense
    if total < 1:
        raise ValueError("widths: no feature and no number; give a tower something to read")
    default = {name: jnp.zeros(size) for name, size in widths.items()}
    return {"default": default, "mlp": init_mlp(key, (total, *hidden, width))}


def tower(params, vectors, *, dense=None, shown=None, hidden=None):
    """Tower: vectors of features → one unit vector; a hidden or missing feature reads its default.

    ``unit(mlp([dense, v_1, ..., v_k]))``, features in the sorted order of their names. There is no
    normalisation over the batch, which would mix the statistics of masked and unmasked batches.

    >>> params = init_tower(jax.random.key(0), {"genre": 2, "year": 2}, hidden=(), width=3)
    >>> vectors = {"genre": jnp.ones((1, 2)), "year": jnp.ones((1, 2))}
    >>> hidden = tower(params, vectors, hidden=jnp.array([True, False]))
    >>> print(jnp.allclose(hidden, tower(params, vectors | {"genre": jnp.zeros((1, 2))})))
    True

    Args:
        params: of :func:`init_tower`. ``default`` is trained like any other parameter; the paper says
            "default embedding" alone. To keep it zero, as LibRecommender does, freeze it in ``tx``.
        vectors: {feature: [B, D_f]}, for example of ``tables.lookup``.
        dense: optional [B, n], numbers brought to about -3..3.
        shown: optional {feature: bool [B]}, False where the feature is missing.
        hidden: optional bool [k], the features in sorted order, for example of :func:`random_mask`; or
            bool [B, k]. Hidden features get no gradient, their defaults do.

    Returns:
        [B, D], of length 1 or zero.

    Raises:
        ValueError: for other features than the params have, or shapes that do not fit.

    References:
        T. Yao et al., arXiv:2007.12865: two views share the tower and its tables.
    """
    names = sorted(params["default"])
    if sorted(vectors) != names:
        raise ValueError(f"vectors: features {sorted(vectors)}; the tower reads {names}")
    shown, inputs = shown or {}, []
    if hidden is not None:
        hidden = jnp.asarray(hidden, bool)
        check_shape("hidden", hidden, (None,) * (hidden.ndim - 1) + (len(names),))
    if dense is not None and dense.shape[-1]:
        inputs.append(jnp.asarray(dense))
    for i, name in enumerate(names):
        kept = jnp.asarray(shown.get(name, True))
        kept = kept if hidden is None else kept & ~hidden[..., i]
        inputs.append(jnp.where(kept[..., None], vectors[name], params["default"][name]))
    x = jnp.concatenate([x.astype(accumulator(x)) for x in inputs], axis=1)
    return unit(mlp(params["mlp"], x))


def init_towers(key, plan, sides, *, dense=None, hidden=(64,), width=32, initialiser=None):
    """Two-tower model: draws tables that both towers share, and the towers.

    >>> plan = tables.plan([tables.Feature("user"), tables.Feature("film")], rows=50, width=8)
    >>> params = init_towers(jax.random.key(0), plan, {"query": ["user"], "item": ["film"]})
    >>> print(sorted(params), sorted(params["item"]))
    ['exact', 'item', 'query', 'table'] ['default', 'mlp']

    Args:
        key: random key.
        plan: :class:`~jaxembed.tables.Plan` of all features; none has combine="none".
        sides: {name of a tower: names of its features}. A feature may be in both, "item" as the history of
            a query say: both towers then read the same rows.
        dense: optional {name of a tower: number of its numbers}.
        hidden: widths of the hidden layers of both.
        width: D.
        initialiser: of the tables, as in ``tables.init_tables``; default a normal distribution of 0.05.

    Returns:
        {"table", "exact"} of ``tables.init_tables`` and one :func:`init_tower` for each side.

    Raises:
        ValueError: for a feature that the plan lacks, or one that is not pooled.
    """
    initialiser = initialiser or jax.nn.initializers.normal(0.05)
    params = tables.init_tables(jax.random.fold_in(key, 0), plan, initialiser=initialiser)
    for i, (side, names) in enumerate(sides.items(), start=1):
        widths = {name: _width(plan, name) for name in names}
        count = (dense or {}).get(side, 0)
        drawn = jax.random.fold_in(key, i)
        params[side] = init_tower(drawn, widths, dense=count, hidden=hidden, width=width)
    return params


def _width(plan, name):
    """Width of the vector of a feature."""
    try:
        feature = plan[name]
    except KeyError as error:
        raise ValueError(f"sides: {error.args[0]}") from None
    if feature.combine == "none":
        raise ValueError(f"sides: feature {name!r} has combine='none'; choose mean, sum or max")
    span = plan.span if plan.merge == "concat" or feature.vocabulary is None else 1
    return (feature.chunks if plan.merge == "concat" else 1) * span * plan.width


def encode_tower(params, batch, *, plan, side, hidden=None):
    """Two-tower model: rows of the tables → the unit vectors of one side.

    >>> plan = tables.plan([tables.Feature("user"), tables.Feature("film")], rows=50, width=8)
    >>> params = init_towers(jax.random.key(0), plan, {"query": ["user"], "item": ["film"]}, width=4)
    >>> batch = {"codes": tables.codes(plan, {"user": jnp.array([7]), "film": jnp.array([3])})}
    >>> films = {"codes": {"film": batch["codes"]["film"]}}
    >>> print(encode_tower(params, films, plan=plan, side="item").shape)
    (1, 4)

    Args:
        params: of :func:`init_towers`; a table may hold only the rows that a batch touches.
        batch: {"codes": {feature: int [B, reads] or [B, n, reads]}}, and where there are some "masks"
            {feature: bool [B] or [B, n]} and "dense" [B, count]. A feature of a row without a real value is
            missing.
        plan: of the tables.
        side: name of the tower.
        hidden: as in :func:`tower`.

    Returns:
        [B, D].

    Raises:
        ValueError: for what ``tables.lookup`` and :func:`tower` refuse.
    """
    masks = batch.get("masks", {})
    found = tables.lookup(plan, params, batch["codes"], masks)
    shown = {name: mask if mask.ndim == 1 else jnp.any(mask, axis=1) for name, mask in masks.items()}
    return tower(params[side], found, dense=batch.get("dense"), shown=shown, hidden=hidden)
