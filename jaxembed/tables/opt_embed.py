"""OptEmbed as methods: the supernet that finds rows and widths, and the table that is trained with them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import prefix_mask
from jaxembed.tables.compact import rank
from jaxembed.tables.evolution import evolve
from jaxembed.tables.factorized import TABLE
from jaxembed.tables.lookup import rows_of
from jaxembed.tables.methods import at_once, row_method, values_of
from jaxembed.tables.ragged_rows import check_kept, compact_rows, ragged_bytes, ragged_index, ragged_lookup
from jaxembed.tables.row_masks import (
    fields_of_rows,
    row_margins,
    row_mask,
    sample_widths,
    threshold_penalty,
)

FAR = 10.0  # what a candidate loses for each time that it is over the budget
ROWS = "rows of the whole table"  # not a parameter: its codes stay global where a batch has a list of rows


def supernet(sizes, width, *, weight=3e-4, order=1, per="field", fallback=False, initialiser=None):
    """OptEmbed, first stage: a table whose rows have a threshold each field learns, under random widths.

    ``vector = [|row| > threshold of its field] * (first k coordinates of the row)``. With a key k is drawn
    evenly from 1 to D for each id; without one it is D. The gradient of the step is a surrogate, which trains
    rows and thresholds; the penalty ``weight * sum exp(-threshold)`` pushes thresholds up.
    Train the thresholds by plain SGD with a rate of their own and without decay, all else by Adam.
    :func:`~jaxembed.tables.kept_rows` then names the rows, :func:`~jaxembed.tables.evolve` finds the widths,
    and :func:`masked_table` is trained with both.

    What rows and thresholds do to one another depends on the norms: those of the default have a norm of
    ``0.4 D sqrt(6 / (N + D))`` or so. Rate times weight times steps should move a threshold by half of that.

    >>> m = supernet({"user": 6, "film": 4}, 8)
    >>> params = m.init(jax.random.key(0))
    >>> print(params["threshold"], m.vectors(params, {"film": np.array([0, 3])})["film"].shape)
    [0. 0.] (2, 8)

    Args:
        sizes: number of values, or {feature: number of values}; see :class:`~jaxembed.tables.Method`.
        width: width D of the vectors.
        weight: of the penalty.
        order: 1 or 2, of the norm.
        per: "field" or "value": what has a threshold of its own.
        fallback: True gives a pruned row a learned vector of its field in place of zeros.
        initialiser: ``(key, shape) -> array``; default uniform within ``sqrt(6 / (N + D))`` (Xavier).

    Returns:
        :class:`~jaxembed.tables.Method` with params {"table": {"embedding": [N, D]}, "threshold": [F] or
        [N]}, and "fallback" [F, D] with one. It trains with :func:`~jaxembed.tables.row_update`, which leaves
        rows alone that no batch touches; decay of the whole table would push them below the threshold. Its
        ``deploy`` stores the rows above their thresholds, D wide. It runs on the host after training: which
        rows these are is not known before.

    Raises:
        ValueError: for sizes or a width below 1, another order or ``per``, a weight below 0, or a deploy that
            keeps no row.

    References:
        F. Lyu et al., OptEmbed, arXiv:2208.04482.
    """
    values = values_of(sizes)
    if per not in ("field", "value"):
        raise ValueError(f"per={per!r}; choose field or value")
    if order not in (1, 2):
        raise ValueError(f"order={order}; choose 1 or 2")
    if not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight={weight}; give a number of at least 0")
    fields = tuple(values.sizes.values())
    draw = initialiser or _xavier
    count = len(fields) if per == "field" else values.total

    def init(key):
        params = {"table": {"embedding": draw(key, (values.total, width))}, "threshold": jnp.zeros(count)}
        return params | ({"fallback": jnp.zeros((len(fields), width))} if fallback else {})

    def read(params, codes, key):
        def vectors(pairs):
            rows, place, numbers = _rows(params, pairs, fields)
            threshold = params["threshold"][place if per == "field" else numbers]
            found = _replaced(rows, row_mask(rows, threshold, order=order), params, place)
            return (
                found if key is None else found * prefix_mask(sample_widths(key, place.shape, width), width)
            )

        return at_once(_deployed(params, fields, width) or vectors, _pairs(codes))

    def deploy(params):
        if "index" in params:
            return params
        table = params["table"]["embedding"]
        if isinstance(table, jax.core.Tracer):
            raise ValueError("params: traced; deploy after training, since the rows it keeps follow from it")
        kept = kept_rows(params, sizes, order=order)
        return compact_rows(table, kept, [width] * len(fields), fields, fallback=params.get("fallback"))

    settings = {"method": "supernet", "width": width, "weight": weight, "order": order, "per": per}
    return row_method(
        settings | {"sizes": dict(values.sizes), "fallback": fallback},
        values,
        init,
        _codes,
        read,
        deploy=deploy,
        penalty=lambda params: threshold_penalty(params["threshold"], weight),
    )


def kept_rows(params, sizes, *, most=None, order=1):
    """Kept rows: those of a trained supernet whose norm is above their threshold.

    >>> params = {"table": {"embedding": jnp.array([[0.5], [0.1], [0.3]])}, "threshold": jnp.array([0.2])}
    >>> print(kept_rows(params, 3), kept_rows(params, 3, most=1))
    [ True False  True] [ True False False]

    Args:
        params: of :func:`supernet`.
        sizes: as there.
        most: optional number of rows: of more rows those stay that are farthest above their threshold. That
            is a budget of our own; the paper has none.
        order: as there.

    Returns:
        bool [N], NumPy.

    Raises:
        ValueError: where no row is kept.
    """
    fields = tuple(values_of(sizes).sizes.values())
    margins = np.asarray(row_margins(params["table"]["embedding"], params["threshold"], fields, order=order))
    kept = margins > 0
    if most is not None and kept.sum() > most:
        kept = np.zeros(len(kept), bool)
        kept[np.argsort(-margins, kind="stable")[:most]] = True
    if not kept.any():
        raise ValueError("params: no row is above its threshold; lower the weight of the penalty")
    return kept


def search_masks(key, params, sizes, score, *, budget=None, weight=0.0, order=1, **options):
    """OptEmbed, second stage: an evolutionary search for the width of each field of a trained supernet.

    A candidate's score is that of the masked table, less ``weight`` times the share of its numbers that stay.
    With a budget, a candidate also says how many rows stay at most, those farthest above their thresholds
    first; one that takes more bytes scores below all that take fewer. In the end as many rows stay as fit.
    The paper's search has neither term and so does not look for small tables: leave both out for that.

    >>> params = supernet(4, 2).init(jax.random.key(0))
    >>> kept, widths = search_masks(jax.random.key(1), params, 4, lambda table: -jnp.abs(table[:, 1]).sum())
    >>> print(kept, widths)
    [ True  True  True  True] [1]

    Args:
        key: random key.
        params: of :func:`supernet`, trained.
        sizes: as there.
        score: ``masked table [N, D] -> scalar``, higher is better, traceable: the AUC of some validation rows
            whose network is frozen, for example.
        budget: optional number of bytes of the deployed table.
        weight: of the size.
        order: as in :func:`supernet`.
        options: of :func:`~jaxembed.tables.evolve`, such as ``generations``.

    Returns:
        (kept bool [N], widths int32 [F]), NumPy, for :func:`masked_table`.

    Raises:
        ValueError: where no row is above its threshold, or for a budget that not even one number fits.

    References:
        arXiv:2208.04482.
    """
    fields, table = tuple(values_of(sizes).sizes.values()), params["table"]["embedding"]
    width, extra = table.shape[1], budget is not None
    margins = row_margins(table, params["threshold"], fields, order=order)
    above, ranks = kept_rows(params, sizes, order=order), jnp.argsort(jnp.argsort(-margins))
    most = (budget - ragged_bytes(0, fields, width)) // 4 if extra else None
    if extra and most < 1:
        least = ragged_bytes(1, fields, width)
        raise ValueError(
            f"budget={budget}: the index of the rows alone takes more bytes; give {least} or more"
        )

    def scored(candidate):
        share = ((candidate[-1] + 1) / width) ** 2 if extra else 1.0
        kept = jnp.asarray(above) & (ranks < share * len(table))
        widths = jnp.repeat(candidate[: len(fields)] + 1, np.array(fields), total_repeat_length=len(table))
        count = jnp.sum(kept * widths)
        found = score(table * kept[:, None] * prefix_mask(widths, width)) - weight * count / table.size
        return found - FAR * jnp.maximum(count / most - 1, 0) if extra else found

    fitness = jax.jit(lambda candidates: jax.lax.map(scored, candidates))
    ends = np.repeat([[width - 1], [0]], len(fields) + extra, axis=1)
    best, _ = evolve(key, fitness, len(fields) + extra, width, **{"first": ends} | options)
    widths = best[: len(fields)] + 1
    if not extra:
        return above, widths
    by_margin = np.argsort(np.asarray(ranks))
    costs = (np.repeat(widths, fields) * above)[by_margin]
    kept = np.zeros(len(table), bool)
    kept[by_margin[: np.searchsorted(np.cumsum(costs), most, side="right")]] = True
    return kept & above, widths


def masked_table(sizes, width, *, kept, widths, fallback=False, initialiser=None):
    """OptEmbed, last stage: a table with given rows and a given width for each field, trained anew.

    ``vector = [row is kept] * (first widths[f] coordinates of the row)``. ``deploy`` drops what is masked:
    the bits of its vectors are those of the masked table.

    >>> m = masked_table({"user": 3, "film": 2}, 4, kept=[True, False, True, True, True], widths=[1, 3])
    >>> params = m.init(jax.random.key(0))
    >>> print(m.vectors(params, {"user": np.array([1])})["user"], m.deploy(params)["values"].shape)
    [[0. 0. 0. 0.]] (12,)

    Args:
        sizes, width, fallback, initialiser: as in :func:`supernet`.
        kept: bool [N], :func:`kept_rows` for example.
        widths: int [F], the width of each field, 1 to D.

    Returns:
        :class:`~jaxembed.tables.Method` with params {"table": {"embedding": [N, D]}}; it trains with
        :func:`~jaxembed.tables.row_update`. The paper's code begins with the first parameters of the supernet
        or with new ones; that of arXiv:2311.15578 with the trained ones.

    Raises:
        ValueError: for rows or widths that the table cannot have, or none that is kept.

    References:
        arXiv:2208.04482.
    """
    values = values_of(sizes)
    fields = tuple(values.sizes.values())
    kept, widths = np.asarray(kept, bool), np.asarray(widths, np.int32)
    check_kept(jax.ShapeDtypeStruct((values.total, width), jnp.float32), kept, widths, fields)
    index = ragged_index(kept, widths, fields)
    draw = initialiser or _xavier

    def init(key):
        params = {"table": {"embedding": draw(key, (values.total, width))}}
        return params | ({"fallback": jnp.zeros((len(fields), width))} if fallback else {})

    def read(params, codes, key):
        def vectors(pairs):
            rows, place, numbers = _rows(params, pairs, fields)
            stays, _ = rank(index, numbers)
            found = _replaced(rows, stays.astype(rows.dtype), params, place)
            inside = jnp.arange(width) < jnp.asarray(index["widths"]).at[place].get(mode="clip")[:, None]
            return jnp.where(inside & (stays[:, None] | fallback), found, 0)

        return at_once(_deployed(params, fields, width) or vectors, _pairs(codes))

    def deploy(params):
        if "index" in params:
            return params
        table = params["table"]["embedding"]
        return compact_rows(table, kept, widths, fields, fallback=params.get("fallback"))

    settings = {"method": "masked_table", "width": width, "widths": widths.tolist(), "fallback": fallback}
    return row_method(
        settings | {"sizes": dict(values.sizes), "kept": int(kept.sum())},
        values,
        init,
        _codes,
        read,
        deploy=deploy,
        held=index,
    )


def _xavier(key, shape):
    bound = (6 / sum(shape)) ** 0.5
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _codes(numbers, index):
    rows = {name: x[..., None] for name, x in numbers.items()}
    return {TABLE: rows, ROWS: rows}


def _pairs(codes):
    """{feature: int [..., 2]}: the row to read in the table there is, and its row of the whole table."""
    both = {name: (jnp.asarray(c), jnp.asarray(codes[ROWS][name])) for name, c in codes[TABLE].items()}
    return {name: jnp.concatenate(pair, axis=-1) for name, pair in both.items()}


def _rows(params, pairs, fields):
    """Rows [M, D] of pairs [M, 2], and the field and the row number of each; F and N of bad ids."""
    total, numbers = sum(fields), pairs[:, 1]
    numbers = jnp.where(numbers < 0, total, numbers)  # a negative index would count from the end
    place = jnp.where(numbers < total, fields_of_rows(numbers, fields), len(fields))
    return rows_of(params["table"]["embedding"], pairs[:, 0], signed=False), place, numbers


def _replaced(rows, mask, params, place):
    """Rows under a mask [M], with the fallback of their field where there is one."""
    found = rows * mask[:, None]
    if "fallback" not in params:
        return found
    missing = jnp.where(place < len(params["fallback"]), 1 - mask, 0)
    return found + missing[:, None] * params["fallback"].at[place].get(mode="clip")


def _deployed(params, fields, width):
    """What reads deployed params, or None for those of training."""
    if "index" not in params:
        return None
    return lambda pairs: ragged_lookup(params, pairs[:, 1], fields, width)
