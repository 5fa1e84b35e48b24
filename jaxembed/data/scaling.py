"""Columns of numbers → numbers of one size: fitted on some rows, applied to any."""

import numbers

import numpy as np

SCALINGS = ("standardise", "log", "none")


def log_counts(values, shift=1.0):
    """Log counts: ``log(max(values + shift, 1))``, and 0 where a value is missing.

    >>> print(log_counts(np.array([-5.0, 0.0, 1.0, np.nan])).round(3))
    [0.    0.    0.693 0.   ]

    Args:
        values: float [...]; NaN marks missing ones.
        shift: added to the values.

    Returns:
        float [...].

    References:
        R. Wang et al., DCN V2, arXiv:2008.13535, with shift 4 for the second count of Criteo.
    """
    values = np.asarray(values)
    return np.where(np.isnan(values), 0, np.log(np.fmax(values + shift, 1)))


def fit_scaling(values, names, *, kind="standardise", fill=None):
    """Standardisation: finds the rule that brings each column to mean 0 and standard deviation 1.

    ``scaled = (x - shift) / scale``, with shift the mean and scale the standard deviation of the values that
    are there (1 if that is 0). x is the number itself; for "log" it is ``log(max(number + 1, 1))``. "none"
    has shift 0 and scale 1. Missing numbers become ``fill`` before all that.

    >>> values = np.array([[1.0, 0.0], [3.0, np.nan]])
    >>> rules = fit_scaling(values, ("price", "visits"), kind={"visits": "log"})
    >>> print(rules["price"])
    {'kind': 'standardise', 'fill': 2.0, 'shift': 2.0, 'scale': 1.0}

    Args:
        values: float [N, n], of the training rows; NaN marks missing ones.
        names: n names of columns.
        kind: "standardise", "log" or "none", of all columns or as {column: kind}; a column that is not named
            there is standardised.
        fill: what replaces a missing number, of all columns or as {column: number}. None, and a column that
            is not named, takes the mean, for "log" the number whose logarithm is the mean logarithm.

    Returns:
        {column: {"kind", "fill", "shift", "scale"}}, JSON-able, for :func:`scale_columns`.

    Raises:
        ValueError: for an unknown kind or column, or a fill that is not finite.
    """
    kinds, fills = _by_column("scaling", kind, names), _by_column("fill", fill, names)
    rules = {}
    for name, column in zip(names, np.asarray(values, np.float64).T, strict=True):
        form, given = kinds.get(name, "standardise"), fills.get(name)
        if form not in SCALINGS:
            raise ValueError(f"scaling: {name!r} has {form!r}; choose one of {SCALINGS}")
        if given is not None and not (isinstance(given, numbers.Real) and np.isfinite(given)):
            raise ValueError(f"fill: {name!r} has {given!r}; give a finite number, or None for the mean")
        known = column[~np.isnan(column)]
        known = log_counts(known) if form == "log" else known
        shift, scale = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        if given is None:
            given = float(np.expm1(shift)) if form == "log" else shift
        scale = scale if scale > 1e-12 * abs(shift) and scale > 0 else 1.0  # a constant column becomes 0
        if form == "none":
            shift, scale = 0.0, 1.0
        rules[name] = {"kind": form, "fill": float(given), "shift": shift, "scale": scale}
    return rules


def _by_column(what, value, names):
    """{column: value} of an argument that is one value for all columns or a dict."""
    if not isinstance(value, dict):
        return dict.fromkeys(names, value)
    unknown = sorted(set(value) - set(names))
    if unknown:
        raise ValueError(f"{what}: {unknown} are not among the dense columns {list(names)}")
    return value


def scale_columns(values, rules):
    """Standardisation, applied: scales any rows by the rules of :func:`fit_scaling`.

    >>> rules = fit_scaling(np.array([[1.0], [3.0]]), ("price",))
    >>> print(scale_columns(np.array([[3.0], [np.nan], [9.0]]), rules).ravel())
    [1. 0. 7.]

    Args:
        values: float [N, n]; NaN marks missing numbers.
        rules: of n columns, in their order.

    Returns:
        float32 [N, n], finite.

    Raises:
        ValueError: for a number that is too large for float32 when it is scaled, by the name of its column.
    """
    scaled = np.empty(np.shape(values), np.float32)
    for i, (name, rule) in enumerate(rules.items()):
        column = np.where(np.isnan(values[:, i]), rule["fill"], values[:, i])
        column = log_counts(column) if rule["kind"] == "log" else column
        with np.errstate(over="ignore"):
            scaled[:, i] = (column - rule["shift"]) / rule["scale"]
        if len(bad := column[~np.isfinite(scaled[:, i])]):
            raise ValueError(f"dense {name!r} holds {bad[0]}, which is too large; take its logarithm")
    return scaled
