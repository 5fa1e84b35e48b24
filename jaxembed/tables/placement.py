"""Where the rows of a table lie: by row, table by table or by column, as rules for ``train.fit``."""

import jax
import optax
from jax.sharding import PartitionSpec as P

from jaxembed.tables.lookup import rows_of
from jaxembed.tables.sharded import mesh_axes, sharded_rows

KINDS = ("rows", "tables", "columns", "replicated")


def placement(plan, mesh, kind="rows", *, axis="model", batch_axis="data"):
    """Table placement: says how the shared table of a plan is split, and which gather reads it so.

    - "rows": every device holds a block of rows. Hashed rows spread evenly, hot ones too.
    - "tables": every device holds whole tables of the stack of K. It is the same split where the devices
      divide K.
    - "columns": every device holds some coordinates of all rows. Nothing is exchanged to read them; the
      vectors are split along their width, and what reads them gathers.
    - "replicated": every device holds all, as suits tiny tables. Exact tables of a plan always are.

    >>> from jaxembed.tables import Feature, plan
    >>> p = plan([Feature("user", chunks=2)], rows=8, width=4, tables=2)
    >>> mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    >>> rules, gather = placement(p, mesh, "columns")
    >>> print([(pattern, tuple(spec)) for pattern, spec in rules], gather is rows_of)
    [('(^|/)table/embedding', (None, 'model'))] True

    Args:
        plan: :class:`~jaxembed.tables.Plan`.
        mesh: ``jax.sharding.Mesh``; "columns" needs Auto axes.
        kind: one of the four.
        axis: mesh axis over which the table is split, or a tuple of axes.
        batch_axis: mesh axis over which the batch is split.

    Returns:
        (rules, gather): rules for ``train.fit(rules=)`` and ``train.path_shardings``, which place optimiser
        states too, and the function for ``lookup(gather=)``.

    Raises:
        ValueError: for an unknown kind, or rows, tables or columns that the devices do not divide.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; choose one of {', '.join(KINDS)}")
    axes, devices = mesh_axes("axis", axis, mesh), 1
    for name in axes:
        devices *= mesh.shape[name]
    size = {"rows": plan.height, "tables": plan.tables, "columns": plan.width}.get(kind, devices)
    if size % devices:
        raise ValueError(
            f"plan: {size} {kind} are not divisible by the {devices} devices of mesh axis {', '.join(axes)}"
        )
    names = axis if isinstance(axis, str) else axes
    spec = {"columns": P(None, names), "replicated": P()}.get(kind, P(names, None))
    split = kind in ("rows", "tables")
    gather = sharded_rows(mesh, axis, batch_axis=batch_axis) if split else rows_of
    return [(r"(^|/)table/embedding", spec)], gather


def assigned():
    """Assignment in the place of an optimiser: takes the gradient of a table for its new value.

    The seam for lookups whose backward pass applies the optimiser itself, as that of a SparseCore does: its
    ``custom_vjp`` puts the new table where the gradient of the table belongs. This transformation turns it
    into the update that ``optax.apply_updates`` then adds, up to the rounding of one subtraction and one sum.

    >>> import jax.numpy as jnp
    >>> tx = assigned()
    >>> table, new = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([5.0, 2.0])}
    >>> updates, _ = tx.update(new, tx.init(table), table)
    >>> print(optax.apply_updates(table, updates)["w"])
    [5. 2.]

    Returns:
        ``optax.GradientTransformation`` without a state; give it the tables alone, by ``optax.partition``.

    Raises:
        ValueError: when called without params, or with those of another tree.
    """

    def update(new, state, params=None):
        if params is None:
            raise ValueError("params: assigned() needs them; call update(gradients, state, params)")
        if jax.tree.structure(new) != jax.tree.structure(params):
            raise ValueError("gradients: another tree than params; give assigned() the tables alone")
        return optax.tree.sub(new, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
