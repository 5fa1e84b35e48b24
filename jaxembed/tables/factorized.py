"""Methods whose values share parameters by fixed maps: hashes, digits, products of small factors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.checks import check_whole
from jaxembed.tables.codes import by_table, rows_and_flips
from jaxembed.tables.codes import codes as plan_codes
from jaxembed.tables.lookup import init_tables, lookup, row_and_sign, rows_of, signs
from jaxembed.tables.methods import (
    Method,
    at_once,
    counted_bytes,
    plain_settings,
    row_method,
    single,
    values_of,
)
from jaxembed.tables.plans import Feature, plan

TABLE = "table/embedding"


def full_table(sizes, width, *, initialiser=None):
    """Full table: a row for every value, what every method is compared with.

    >>> m = full_table(3, 2, initialiser=lambda key, shape: jnp.arange(6.0).reshape(shape))
    >>> print(m.vectors(m.init(jax.random.key(0)), np.array([2, 0])))
    [[4. 5.]
     [0. 1.]]

    Args:
        sizes: number of values, or {feature: number of values}; see :class:`~jaxembed.tables.Method`.
        width: width D of the vectors.
        initialiser: ``(key, shape) -> array``; default normal of deviation 1/sqrt(width), truncated at two.

    Returns:
        :class:`~jaxembed.tables.Method`; it trains with :func:`~jaxembed.tables.row_update`.

    Raises:
        ValueError: for sizes or a width below 1.
    """
    values = values_of(sizes)
    check_whole(1, width=width)
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)
    return row_method(
        plain_settings("full_table", sizes, width),
        values,
        lambda key: {"table": {"embedding": draw(key, (values.total, width))}},
        own_rows,
        lambda params, codes, key: read_rows(params["table"]["embedding"], codes[TABLE]),
    )


def own_rows(numbers, index=None):
    """Codes {path: {feature: [..., 1]}} of a table with a row for every value; numbers {feature: [...]}."""
    return {TABLE: {n: x[..., None] for n, x in numbers.items()}}


def read_rows(table, codes):
    """Vectors {feature: [..., D]} of codes {feature: [..., 1]}, by one gather."""
    table = jnp.asarray(table)
    return at_once(lambda rows: rows_of(table, rows[:, 0], signed=False), codes)


def plan_method(plan, *, rows=None, initialiser=None):
    """Plan as a method: tables of :func:`~jaxembed.tables.plan`, multiplexed or per feature.

    ``vectors(params, ids) = lookup(plan, params, codes(plan, ids))``, one vector for each id.

    >>> from jaxembed.tables import storage_bytes
    >>> m = plan_method(plan([Feature("user", chunks=2)], rows=100, width=8))
    >>> found = m.vectors(m.init(jax.random.key(0)), {"user": np.array([3, 4])})
    >>> print(found["user"].shape, storage_bytes(m))
    (2, 16) 3200

    Args:
        plan: :class:`~jaxembed.tables.Plan`; how its features combine their values does not matter here.
        rows: optional :class:`~jaxembed.tables.Method` of one vocabulary of ``plan.height`` values and width
            ``plan.width`` that stores the rows of the shared table; its params are "table/embedding". None
            stores them as an array.
        initialiser: as in :func:`~jaxembed.tables.init_tables`.

    Returns:
        :class:`~jaxembed.tables.Method`; without ``rows`` it trains with
        :func:`~jaxembed.tables.row_update`, importances included.

    Raises:
        ValueError: for a method of other rows than those of the plan.
    """
    shape = plan.height, plan.width
    if rows is not None and (rows.settings.get("sizes"), rows.settings.get("width")) != shape:
        raise ValueError(
            f"rows: are not those of the plan; give a method of {plan.height} values and width {plan.width}"
        )

    def read(params, codes, key=None):
        given = {n: c for group in codes.values() for n, c in group.items()}
        flat = {n: c.reshape(-1, c.shape[-1]) for n, c in given.items()}
        found = lookup(plan, params, flat, gather=rows_of if rows is None else _gather_of(rows))
        return {n: v.reshape(*given[n].shape[:-1], v.shape[-1]) for n, v in found.items()}

    def vectors(params, ids, key=None):
        if rows is None and _reads_signs(plan, params, ids):
            table = params["table"]["embedding"]
            return {name: _signed(plan, plan[name], table, x) for name, x in ids.items()}
        return read(params, _codes_of(plan, ids))

    def with_rows(params, function):
        if rows is None:
            return params
        return params | {"table": params["table"] | {"embedding": function(params["table"]["embedding"])}}

    def init(key):
        params = init_tables(key, plan, initialiser=initialiser)
        return with_rows(params, lambda _: rows.init(jax.random.fold_in(key, 1)))

    if rows is None:
        rest = {"penalty": lambda params: jnp.zeros(()), "bytes": counted_bytes}
    else:
        rest = {"penalty": lambda params: rows.penalty(params["table"]["embedding"])}
        rest["bytes"] = lambda params: (
            counted_bytes(with_rows(params, lambda _: ())) + rows.bytes(params["table"]["embedding"])
        )
    settings = {"method": "plan", "plan": dataclasses.asdict(plan)}
    return Method(
        init=init,
        vectors=vectors,
        deploy=lambda params: with_rows(params, rows and rows.deploy),
        settings=settings if rows is None else settings | {"rows": rows.settings},
        codes=(lambda ids: _codes_of(plan, ids)) if rows is None else None,
        read=read if rows is None else None,
        **rest,
    )


def _reads_signs(plan, params, ids):
    """Whether :func:`_signed` gives the vectors of ids: of ids on the device, in a whole table of float32."""
    shared = {f.name for f in plan.shared}
    if not plan.signed or plan.scheme != "hash" or plan.merge != "concat" or not set(ids) <= shared:
        return False
    table = jnp.asarray(params["table"]["embedding"])
    on_device = all(isinstance(x, jax.Array) for x in ids.values())
    return on_device and table.shape[0] == plan.height and table.dtype == accumulator(table)


def _signed(plan, feature, table, ids):
    """Vectors [..., D] of ids [...]: the bits that their codes give, without making codes."""
    rows, flipped, bad = rows_and_flips(plan, feature, ids)
    vectors = jnp.asarray(table).at[rows].get(mode="promise_in_bounds")
    vectors = vectors * signs(flipped, table.dtype)[..., None]
    return jnp.where(bad[..., None], 0, vectors.reshape(*ids.shape, -1))


def _codes_of(plan, ids):
    """{path: {feature: codes [..., reads]}} of ids of any shape."""
    known = [f.name for f in plan.features]
    unknown = sorted(set(ids) - set(known))
    if unknown:
        raise ValueError(f"ids: {unknown} are not features; choose among {known}")
    shapes = {name: np.shape(x) for name, x in ids.items()}
    flat = {name: x.reshape(-1) for name, x in _arrays(ids).items()}
    found = by_table(plan, plan_codes(plan, flat, only=list(ids)))
    return {
        path: {n: c.reshape(*shapes[n.partition("/")[0]], c.shape[-1]) for n, c in group.items()}
        for path, group in found.items()
    }


def _gather_of(method):
    """A gather from the params of a method in place of a table; importances are arrays as ever."""

    def gather(table, codes):
        if not isinstance(table, dict):
            return rows_of(table, codes)
        row, flipped = row_and_sign(jnp.asarray(codes))
        vectors = jnp.where((row < 0)[..., None], 0, method.vectors(table, jnp.maximum(row, 0)))
        return vectors * signs(flipped, vectors.dtype)[..., None]

    return gather


def _arrays(ids):
    return {name: x if isinstance(x, jax.Array) else np.asarray(x) for name, x in ids.items()}


def hash_table(sizes, width, *, rows, multiplexed=True, seed=0, initialiser=None):
    """Hashing trick: each value reads one row of a smaller table.

    ``e = E[mix(x XOR salt) mod rows]``. A plan of one chunk (:func:`plan_method`).

    >>> m = hash_table(1000, 4, rows=10)
    >>> print(m.vectors(m.init(jax.random.key(0)), np.array([7, 8, 9])).shape)
    (3, 4)

    Args:
        sizes: as in :func:`full_table`.
        width: width D of the vectors.
        rows: rows of the table, of all features together.
        multiplexed: False gives every feature a range of rows of its own, in proportion to its size.
        seed: varies the hash.
        initialiser: as in :func:`full_table`.

    Returns:
        :class:`~jaxembed.tables.Method`; it trains with :func:`~jaxembed.tables.row_update`.

    Raises:
        ValueError: for sizes below 1 and what :func:`~jaxembed.tables.plan` refuses.

    References:
        K. Weinberger et al., arXiv:0902.2206. The code of arXiv:2311.15578 takes ids modulo ``rows`` without
        mixing them.
    """
    options = {"rows": rows, "width": width, "multiplexed": multiplexed, "seed": seed}
    return _planned("hash_table", sizes, 1, options, initialiser)


def quotient_remainder(sizes, width, *, rows, multiplexed=True, merge="product", initialiser=None):
    """CompoEmb (quotient-remainder): the vector is the product of the rows of two digits of an id.

    ``e = R[x mod c] * Q[x div c]``, and no two values share both rows. ``c`` is the smallest for which
    ``rows`` suffice: ``c + ceil(N / c) <= rows``.

    >>> m = quotient_remainder(100, 4, rows=20)
    >>> print(m.codes(np.array([0, 1, 10]))["table/embedding"]["values"])
    [[ 0 10]
     [ 1 10]
     [ 0 11]]

    Args:
        sizes: as in :func:`full_table`.
        width: width D of the vectors.
        rows: rows of both factors of all features together, at least about ``2 sqrt(N)``.
        multiplexed: True numbers the values of all features through; False gives every feature factors of its
            own.
        merge: "product" or "sum" of the two rows.
        initialiser: as in :func:`~jaxembed.tables.init_tables`, which draws factors so that their product has
            the variance of a plain row.

    Returns:
        :class:`~jaxembed.tables.Method`; it trains with :func:`~jaxembed.tables.row_update`.

    Raises:
        ValueError: for too few rows and what :func:`~jaxembed.tables.plan` refuses.

    References:
        H.-J. M. Shi et al., arXiv:1909.02107.
    """
    options = {"rows": rows, "width": width, "multiplexed": multiplexed, "scheme": "mixed_radix"}
    return _planned("quotient_remainder", sizes, 2, options | {"merge": merge}, initialiser)


def robe(sizes, width, *, slots, block=None, multiplexed=True, signed=True, seed=0, initialiser=None):
    """ROBE: each vector is read from blocks that overlap in one array.

    Block c of value x is ``block`` neighbours of the array, from a hashed slot on; after the last slot comes
    the first. With ``signed`` one more hashed bit flips the sign of each entry.

    >>> m = robe(1000, 4, slots=10)
    >>> print(m.vectors(m.init(jax.random.key(0)), np.array([7, 8, 9])).shape)
    (3, 4)

    Args:
        sizes: as in :func:`full_table`.
        width: width D of the vectors.
        slots: numbers in the array, of all features together.
        block: length Z of a block, divides the width; None reads one block of D. 1 is HashedNet.
        multiplexed: False gives every feature a part of the array of its own, in proportion to its size.
        signed: False flips no sign.
        seed: varies the hashes.
        initialiser: as in :func:`full_table`; default normal of deviation 1/sqrt(width).

    Returns:
        :class:`~jaxembed.tables.Method`. It trains with :func:`~jaxembed.tables.row_update`, whose lists then
        hold up to D slots for each value; for arrays of a few megabytes a dense rule is as fast.

    Raises:
        ValueError: for a block that does not divide the width and what :func:`~jaxembed.tables.plan` refuses.

    References:
        A. Desai et al., arXiv:2108.02191; W. Chen et al., arXiv:1504.04788 (HashedNet). The salts are those
        of a plan in place of the authors' linear hash.
    """
    check_whole(1, width=width, slots=slots)
    block = width if block is None else block
    if block < 1 or width % block:
        raise ValueError(f"block={block} does not divide width={width}; choose a divisor")
    if slots < block:
        raise ValueError(f"slots={slots}: a block reads {block} of them; give as many or more")
    options = {"rows": slots, "width": 1, "span": block, "signed": signed, "seed": seed}
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)
    return _planned("robe", sizes, width // block, options | {"multiplexed": multiplexed}, draw)


def _planned(name, sizes, chunks, options, initialiser):
    """The method of a plan in which all features have the same number of chunks."""
    values = values_of(sizes)
    features = [Feature(feature, chunks=chunks, size=size) for feature, size in values.sizes.items()]
    method = plan_method(plan(features, **options), initialiser=initialiser)
    method = method._replace(settings=method.settings | {"method": name})
    return method if not values.single else single(method)
