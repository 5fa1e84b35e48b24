"""Methods whose features have widths of their own: mixed dimensions, AutoDim, and what a search found."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.checks import check_whole
from jaxembed.tables.composed import per_feature
from jaxembed.tables.factorized import read_rows
from jaxembed.tables.lookup import rows_of
from jaxembed.tables.methods import plain_settings, row_method, single, values_of

EPSILON = 1e-5  # of the variance, as in batch norm
WIDE, NARROW = "wide/embedding", "narrow/embedding"


def narrow_table(size, width, *, inner, initialiser=None):
    """Narrow table: rows of fewer numbers than the vectors, and a matrix that widens them.

    ``e = E[x] P`` with E [size, inner] and P [inner, width]; no matrix where ``inner`` is the width. A
    fraction is allowed: with 2.25 the first quarter of the values has 3 numbers and the others have 2, which
    the first two rows of P widen.

    >>> from jaxembed.tables import storage_bytes
    >>> m = narrow_table(100, 8, inner=2.25)
    >>> print(m.vectors(m.init(jax.random.key(0)), jnp.array([3, 40])).shape, storage_bytes(m))
    (2, 8) 996

    Args:
        size: number of values of one feature.
        width: width D of the vectors.
        inner: number in [1, width].
        initialiser: of E; the default has deviation 1/sqrt(width), as a full table has. P is drawn
            orthogonal, so that vectors are as long as rows.

    Returns:
        :class:`~jaxembed.tables.Method` of one vocabulary; it trains with
        :func:`~jaxembed.tables.row_update`, P by a dense rule.

    Raises:
        ValueError: for a size below 1 or an inner width out of range.
    """
    values = values_of(size)
    check_whole(1, width=width)
    if not 1 <= inner <= width:
        raise ValueError(f"inner={inner}: is outside 1..{width}; give a width that the vectors have room for")
    low = math.floor(inner)
    wide = min(values.total, round((inner - low) * values.total))  # values that have one number more
    widths = {WIDE: (wide, low + 1), NARROW: (values.total - wide, low)}
    widths = {path: shape for path, shape in widths.items() if shape[0]}
    most = max(columns for _, columns in widths.values())
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)

    def init(key):
        keys = dict(zip((WIDE, NARROW, "project"), jax.random.split(key, 3), strict=True))
        params = {path.partition("/")[0]: {"embedding": draw(keys[path], s)} for path, s in widths.items()}
        if most < width or len(widths) > 1:
            kernel = jax.nn.initializers.orthogonal()(keys["project"], (most, width))
            params["project"] = {"kernel": kernel}
        return params

    def codes(numbers, index):
        found = {}
        for path in widths:
            first, last = (0, wide) if path == WIDE else (wide, values.total)
            found[path] = {n: _inside(x, first, last)[..., None] for n, x in numbers.items()}
        return found

    def read(params, codes, key):
        found = {}
        for path, part in codes.items():
            table = params[path.partition("/")[0]]["embedding"]
            for name, rows in read_rows(table, part).items():
                rows = jnp.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, most - rows.shape[-1])])
                found[name] = rows + found[name] if name in found else rows
        if "project" not in params:
            return found
        return {n: jnp.matmul(x, params["project"]["kernel"], precision="highest") for n, x in found.items()}

    settings = plain_settings("narrow_table", size, width) | {"inner": float(inner)}
    return row_method(settings, values, init, codes, read)


def _inside(numbers, first, last):
    """Rows of a part of the values, -1 where a number is not among them."""
    xp = jnp if isinstance(numbers, jax.Array) else np
    return xp.where((numbers >= first) & (numbers < last), numbers - first, -1)


def narrow_tables(sizes, width, *, inner, initialiser=None):
    """Narrow tables: a width for every feature, as a search or a rule found them.

    >>> from jaxembed.tables import storage_bytes
    >>> print(storage_bytes(narrow_tables({"user": 100, "film": 50}, 8, inner={"user": 2, "film": 8})))
    2464

    Args:
        sizes: {feature: number of values}.
        width: width D of the vectors.
        inner: {feature: number in [1, width]}; numbers outside are clipped to it, so that widths may be
            scaled to a budget: ``within(lambda c: narrow_tables(..., inner={f: c * w ...}), bytes, low=0.0,
            high=16.0)``.
        initialiser: as in :func:`narrow_table`.

    Returns:
        :class:`~jaxembed.tables.Method`.

    Raises:
        ValueError: for a feature without a width.
    """
    values = values_of(sizes)
    missing = sorted(set(values.sizes) - set(inner))
    if missing:
        raise ValueError(f"inner: {missing} have no width; give one for every feature")
    methods = {
        name: narrow_table(size, width, inner=min(max(inner[name], 1), width), initialiser=initialiser)
        for name, size in values.sizes.items()
    }
    return single(per_feature(methods)) if values.single else per_feature(methods)


def mixed_dimensions(sizes, width, *, alpha, powers=False, initialiser=None):
    """MDE (mixed dimensions): the more values a feature has, the narrower its rows.

    ``d_f = width (min n / n_f)**alpha``, at least 1, then a matrix to the full width (:func:`narrow_table`).
    The smallest feature keeps the full width; with alpha 0 all do.

    >>> m = mixed_dimensions({"user": 1024, "gender": 4}, 16, alpha=0.25)
    >>> print({name: part["inner"] for name, part in m.settings["features"].items()})
    {'user': 4.0, 'gender': 16.0}

    Args:
        sizes: {feature: number of values}.
        width: width D of the vectors.
        alpha: number in [0, 1].
        powers: True rounds every width to a power of two, as the paper does; budgets are then met only by
            chance. False lets a part of a feature's values have one number more than the others.
        initialiser: as in :func:`narrow_table`.

    Returns:
        :class:`~jaxembed.tables.Method`; it trains as :func:`narrow_table` does.

    Raises:
        ValueError: for an alpha out of range.

    References:
        A. Ginart et al., arXiv:1909.11810.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha}: is outside 0..1; give a number between them")
    values = values_of(sizes)
    least, inner = min(values.sizes.values()), {}
    for name, size in values.sizes.items():
        d = max(1.0, width * (least / size) ** alpha)
        inner[name] = min(width, 2 ** round(math.log2(d))) if powers else d
    method = narrow_tables(sizes, width, inner=inner, initialiser=initialiser)
    return method._replace(settings=method.settings | {"method": "mixed_dimensions", "alpha": float(alpha)})


def autodim(sizes, width, *, widths=None, temperature=1.0, initialiser=None):
    """AutoDim: trains tables of several widths side by side, and logits that choose one for each feature.

    ``e = sum_w p[w] norm(E_w[x] K_w)``, and p is the softmax of ``(log softmax(logits) + Gumbel noise) /
    temperature``. Without a key p is 1 for the largest logit: that is what ``deploy`` stores. ``norm`` takes
    off the mean and divides by the deviation of each coordinate, over all values of the feature.

    Train the logits on other rows than the tables (``train.bilevel_update``). Then
    :func:`autodim_widths` gives the widths for :func:`narrow_tables`, which are trained anew.

    >>> m = autodim({"user": 10}, 4)
    >>> params = m.init(jax.random.key(0))
    >>> print(sorted(params["user"]), autodim_widths(params))
    ['logits', 'width_2', 'width_4'] {'user': 2}

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        widths: those that are tried; None takes 2, 4, ... up to the width.
        temperature: of the softmax. The paper lowers it from 1 to 0.01 in training; here it is fixed.
        initialiser: of the tables, as in :func:`~jaxembed.tables.full_table`.

    Returns:
        :class:`~jaxembed.tables.Method`. In training it is larger than a full table. It reads no listed rows:
        the moments of a table change with every row. What it takes when stored is known after training:
        ``deploy`` is not for jit.

    Raises:
        ValueError: for widths out of range, or a temperature that is not above 0.

    References:
        X. Zhao et al., arXiv:2006.14827. There the moments are those of the batch, and running means serve.
    """
    values = values_of(sizes)
    check_whole(1, width=width)
    widths = _checked_widths(widths, width, temperature)
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)

    def start(key, size):
        params = {"logits": jnp.zeros(len(widths))}
        for w, part in zip(widths, jax.random.split(key, len(widths)), strict=True):
            kernel = jax.nn.initializers.orthogonal()(jax.random.fold_in(part, 0), (w, width))
            params[f"width_{w}"] = {
                "embedding": draw(jax.random.fold_in(part, 1), (size, w)),
                "kernel": kernel,
            }
        return params

    def init(key):
        parts = jax.random.split(key, len(values.sizes))
        return {n: start(k, size) for k, (n, size) in zip(parts, values.sizes.items(), strict=True)}

    def codes(numbers, index):
        ends = {n: values.starts[n] + size for n, size in values.sizes.items()}
        return {"": {n: _inside(x, values.starts[n], ends[n])[..., None] for n, x in numbers.items()}}

    def one(part, rows, key):
        if "logits" not in part:  # deployed
            found = rows_of(part["embedding"], rows, signed=False) @ part["kernel"] + part["bias"]
            return jnp.where(rows[..., None] < 0, 0, found)
        log_share = jax.nn.log_softmax(part["logits"])
        if key is None:
            shares = jax.nn.one_hot(jnp.argmax(log_share), len(widths))
        else:
            noise = jax.random.gumbel(key, log_share.shape)
            shares = jax.nn.softmax((log_share + noise) / temperature)
        layers = [_folded(part[f"width_{w}"]) for w in widths]
        return sum(s * one(layer, rows, None) for s, layer in zip(shares, layers, strict=True))

    def read(params, codes, key):
        keys = {n: None if key is None else jax.random.fold_in(key, i) for i, n in enumerate(values.sizes)}
        return {n: one(params[n], jnp.asarray(c[..., 0]), keys[n]) for n, c in codes[""].items()}

    def deploy(params):
        if all("logits" not in part for part in params.values()):
            return params
        chosen = autodim_widths(params)
        return {n: _folded(params[n][f"width_{w}"]) for n, w in chosen.items()}

    settings = plain_settings("autodim", sizes, width) | {"widths": list(widths)}
    method = row_method(settings, values, init, codes, read, deploy=deploy)
    return method._replace(codes=None, read=None)


def _folded(layer):
    """A layer whose vectors have mean 0 and deviation 1 over all values of the feature."""
    table, kernel = layer["embedding"], layer["kernel"]
    wide = table.astype(accumulator(table))
    mean = jnp.mean(wide, axis=0)
    cov = (wide - mean).T @ (wide - mean) / len(wide)
    scaled = kernel / jnp.sqrt(jnp.einsum("id,ij,jd->d", kernel, cov, kernel) + EPSILON)
    return {"embedding": table, "kernel": scaled, "bias": -mean @ scaled}


def autodim_widths(params):
    """AutoDim, the choice: the width of the largest logit of every feature.

    Args:
        params: of :func:`autodim` in training; "logits" [W] of each feature.

    Returns:
        {feature: int}; of a single vocabulary the feature is "values".

    Raises:
        ValueError: under jit.
    """

    if any(isinstance(part["logits"], jax.core.Tracer) for part in params.values()):
        raise ValueError("params: are traced; the widths are known after training, call this outside of jit")

    def widest(part):
        widths = sorted(int(name.removeprefix("width_")) for name in part if name.startswith("width_"))
        return widths[int(np.argmax(np.asarray(part["logits"])))]

    return {name: widest(part) for name, part in params.items()}


def _checked_widths(widths, width, temperature):
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}; give a number above 0")
    if widths is None:
        widths = [2**i for i in range(1, width.bit_length()) if 2**i <= width] or [width]
    widths = tuple(sorted(int(w) for w in widths))
    if not widths or widths[0] < 1 or widths[-1] > width or len(set(widths)) < len(widths):
        raise ValueError(f"widths={widths}: need distinct ints from 1 to width={width}; leave the others out")
    return widths
