"""A trained table → the same table in fewer bytes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import tables, vectors
from jaxembed.tables.budgets import check_bytes

KINDS = ("integers", "product", "sparse", "blocks")
SAMPLE = 40  # rows of the table for each centre, from which centres are fitted
BLOCK = 4  # rows of a block


def compress_table(params, plan, *, bytes, kinds=KINDS, seed=0):
    """Compresses a trained table after training, without data: the form that loses least within a budget.

    The rows of the shared table are stored as integers of 16 or 8 bits with a step for each row, as product
    codes, as their largest entries, or as blocks of which similar ones are one. Of all forms that the bytes
    allow, that of the smallest squared error of the rows is taken. Features with rows of their own, and
    importances, stay as they are; their bytes count.

    >>> plan = tables.plan([tables.Feature("user", chunks=2)], rows=500, width=8)
    >>> params = tables.init_tables(jax.random.key(0), plan)
    >>> method, small = compress_table(params, plan, bytes=tables.bytes_of(plan) * 0.4)
    >>> print(method.settings["rows"]["method"], method.bytes(small))
    alpt 6000
    >>> print(method.vectors(small, {"user": np.array([3, 4])})["user"].shape)
    (2, 16)

    Args:
        params: {"table": {"embedding": [V, width]}, ...} of one trained model, as
            :func:`~jaxembed.tables.init_tables` draws them; further parameters are left out.
        plan: :class:`~jaxembed.tables.Plan` of the table.
        bytes: those that all tables may take together, at most.
        kinds: forms that may be taken, some of "integers", "product", "sparse" and "blocks".
        seed: of the centres of product codes.

    Returns:
        (:class:`~jaxembed.tables.Method`, its params): ``method.vectors(params, {feature: ids})`` reads them,
        one vector for each id; ``method.settings["error"]`` is the mean squared error of an entry over their
        mean square. ``tables.fine_tuned(method, params)`` trains what is left.

    Raises:
        ValueError: for a table that is not that of the plan or not finite, an unknown kind, or bytes below
            what every form takes; it names those.

    References:
        H. Zhang et al., arXiv:2311.15578, for post-training forms under one budget.
    """
    check_bytes(bytes)
    table = _checked(params, plan, kinds)
    kept = {"table": {n: x for n, x in params["table"].items() if n != "embedding"}, "exact": params["exact"]}
    rest = tables.storage_bytes(tables.plan_method(plan)) - 4 * plan.height * plan.width
    found, floors = None, []
    for make, fit in _forms(table, kinds, bytes - rest, floors, seed):
        small = fit(make)
        error = float(_error(make, small, table))
        if found is None or error < found[0]:
            found = error, make, small
    if found is None:
        least = f"{min(floors) + rest} bytes" if floors else "more"
        raise ValueError(f"bytes={bytes}: these forms take at least {least} here; give as many or more")
    error, rows, small = found
    method = tables.plan_method(plan, rows=rows)
    kept["table"]["embedding"] = small
    return method._replace(settings=method.settings | {"error": error}), kept


def _checked(params, plan, kinds):
    unknown = [kinds] if isinstance(kinds, str) else sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        raise ValueError(f"kinds={kinds!r}: are not all known; choose some of {KINDS}")
    missing = [n for n in ("table", "exact") if n not in params]
    if missing:
        raise ValueError(f"params: have no {missing}; give the tables that the plan was trained with")
    table = jnp.asarray(params["table"]["embedding"], jnp.float32)
    if table.shape != (plan.height, plan.width):
        raise ValueError(
            f"params: the table is {list(table.shape)}, the plan's {[plan.height, plan.width]}; give its plan"
        )
    if not bool(jnp.all(jnp.isfinite(table))):
        raise ValueError("params: the table holds NaN or infinite numbers; restore an earlier step")
    return table


def _error(method, params, table):
    found = method.vectors(params, np.arange(len(table)))
    return jnp.mean((found - table) ** 2) / jnp.maximum(jnp.mean(table**2), 1e-30)


def _forms(table, kinds, bytes, floors, seed):
    """(method, method -> its deployed params) of every form that the bytes allow; else its floor is noted."""
    n, d = table.shape

    def trained(method):
        return method.deploy({"table": {"embedding": table}})

    if "integers" in kinds:
        for bits in (16, 8):
            method = tables.alpt(n, d, bits=bits)
            floors.append(tables.storage_bytes(method))
            if floors[-1] <= bytes:
                yield method, lambda m: _rounded(table, m.settings["bits"])
                break
    if "product" in kinds:
        for parts in (p for p in range(1, d + 1) if d % p == 0 and d // p <= 8):

            def make(centres, parts=parts):
                return tables.dpq(n, d, parts=parts, centres=centres)

            most = min(256, n)
            method = _most(make, bytes, most, floors)
            if method is not None:
                yield method, lambda m: m.deploy(_centred(table, m, seed))
    if "sparse" in kinds:
        method = _most(lambda keep: tables.deeplight(n, d, keep=keep), bytes, n * d, floors)
        if method is not None:
            yield method, trained
    if "blocks" in kinds:
        make = lambda keep: tables.dedup(n, d, keep=keep, block=BLOCK)  # noqa: E731
        method = _most(make, bytes, -(-n // BLOCK), floors)
        if method is not None:
            yield method, trained


def _most(make, bytes, high, floors):
    """The method of the largest setting up to ``high`` that the bytes allow, or None."""
    floors.append(tables.storage_bytes(make(1)))
    if floors[-1] > bytes:
        return None
    low = 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tables.storage_bytes(make(middle)) <= bytes else (low, middle - 1)
    return make(low)


def _rounded(table, bits):
    """Rows as the nearest multiples of a step of their own."""
    kind = {8: jnp.int8, 16: jnp.int16}[bits]
    step = jnp.max(jnp.abs(table), axis=1, keepdims=True) / jnp.iinfo(kind).max
    step = jnp.where(step > 0, step, 1)
    integers = tables.round_to_step(None, table, step, kind)
    return {"table": {"embedding": integers}, "step": {"embedding": step}}


def _centred(table, method, seed):
    """Centres of k-means over a sample of the rows."""
    parts, centres = method.settings["parts"], method.settings["centres"]
    size = min(len(table), SAMPLE * centres)
    rows = np.random.default_rng(seed).choice(len(table), size, replace=False)
    group = table.shape[1] // parts
    books = vectors.fit_product(jax.random.key(seed), table[np.sort(rows)], group=group, centres=centres)
    return {"table": {"embedding": table}, "centres": {"keys": books["codebooks"]}}
