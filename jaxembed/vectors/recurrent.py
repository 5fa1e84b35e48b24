"""Recurrent binarisation: a small network that turns a frozen vector into a few bits per coordinate."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, unit
from jaxembed.checks import refuse_nan
from jaxembed.vectors.binary import straight_through_sign

_EPSILON = 1e-5  # added to variances


def init_recurrent(key, width, size, *, loops=1, hidden=0, blocks=1):
    """Recurrent binarisation: draws the networks of :func:`recurrent_codes`.

    ``encode`` maps width to size. Every loop i has ``reconstruct_i``, size to width, and ``residual_i``,
    width to size. Each is a linear layer, or ``blocks`` times (linear, batch norm, ReLU) and a linear layer.
    Weights are Xavier-normal and biases 0.

    >>> params, statistics = init_recurrent(jax.random.key(0), 6, 8, loops=1, hidden=4)
    >>> print(sorted(params), params["encode"]["out"]["kernel"].shape, sorted(statistics))
    ['encode', 'reconstruct_1', 'residual_1'] (4, 8) ['encode', 'reconstruct_1', 'residual_1']

    Args:
        key: random key.
        width: D of the vectors.
        size: M, coordinates of the code; its bits are ``M * (loops + 1)``.
        loops: 0 to 6; 0 is one-shot hashing.
        hidden: width of the hidden layers; 0 makes every network one linear layer.
        blocks: hidden layers.

    Returns:
        (params, statistics): nested dicts. ``statistics`` holds the running mean and variance of every batch
        norm; it has no gradient and travels beside the params (``extra`` of the train state).

    Raises:
        ValueError: for a size out of range.

    References:
        Y. Gan et al. (BEBR), arXiv:2302.08714, with the layers of its released code.
    """
    limits = {"width": (width, 1), "size": (size, 1), "hidden": (hidden, 0), "blocks": (blocks, 1)}
    for name, (value, least) in limits.items():
        if value < least:
            raise ValueError(f"{name}: {value} is below {least}; pass a larger number")
    if not 0 <= loops <= 6:
        raise ValueError(f"loops: {loops} is outside 0..6; levels are int8")
    shapes = {"encode": (width, size)}
    for i in range(1, loops + 1):
        shapes |= {f"reconstruct_{i}": (size, width), f"residual_{i}": (width, size)}
    params, statistics = {}, {}
    for number, (name, (inputs, outputs)) in enumerate(shapes.items()):
        sizes = (inputs, *(hidden,) * (blocks if hidden else 0), outputs)
        params[name], statistics[name] = _init_network(jax.random.fold_in(key, number), sizes)
    return params, statistics


def recurrent_codes(
    params, statistics, x, *, train=False, momentum=0.9, binarise=straight_through_sign, loops=None
):
    """Recurrent binarisation: codes a vector, rebuilds it from the code, and codes what is missing.

    With f the unit vector, W, R and T the networks and s the sign:
    ``b_0 = s(W(f))``; for i = 1..loops: ``f_i = unit(R_i(b_{i-1}))``,
    ``b_i = b_{i-1} + 2**-i * s(T_i(f - f_i))``. The residual is taken among the vectors, not among the codes,
    and R reads the whole code so far. Each coordinate has one of ``2**(loops + 1)`` equally spaced values.

    >>> params, statistics = init_recurrent(jax.random.key(0), 3, 8)
    >>> codes, _ = recurrent_codes(params, statistics, jnp.array([[0.6, 0.8, 0.0]]))
    >>> print(jnp.unique(jnp.abs(codes)).tolist() in ([0.5], [1.5], [0.5, 1.5]), codes.shape)
    True (1, 8)

    Args:
        params, statistics: of :func:`init_recurrent`.
        x: [B, D], any float dtype; normalised inside.
        train: True normalises by the statistics of the batch, which should hold a few hundred rows.
        momentum: share of the running statistics that a batch leaves as it is.
        binarise: function of arrays. ``lambda x: x`` makes the float head that a comparison needs.
        loops: optional number of loops that are run, at most those of the params.

    Returns:
        (codes [B, M] in at least float32, statistics). The codes are not normalised: compare cosines.
        :func:`code_levels` makes them integers.

    Raises:
        ValueError: for vectors of another width, more loops than the params have, or NaN (which passes under
            jit).

    References:
        Y. Gan et al. (BEBR), arXiv:2302.08714, and its released code.
    """
    x, held = jnp.asarray(x), (len(params) - 1) // 2
    first = params["encode"]
    check_shape("x", x, (None, first.get("hidden_0", first["out"])["kernel"].shape[0]))
    loops = held if loops is None else loops
    if not 0 <= loops <= held:
        raise ValueError(f"loops: {loops} is outside 0..{held}; the params have no more")
    refuse_nan("x", x)
    x, kept = unit(x.astype(accumulator(x))), dict(statistics)

    def run(name, values):
        out, kept[name] = _network(params[name], statistics[name], values, train, momentum)
        return out

    codes = binarise(run("encode", x))
    for i in range(1, loops + 1):
        rebuilt = unit(run(f"reconstruct_{i}", codes))
        codes = codes + 2.0**-i * binarise(run(f"residual_{i}", x - rebuilt))
    return codes, kept


def _init_network(key, sizes):
    layers, statistics = {}, {}
    draw = jax.nn.initializers.glorot_normal()
    for i, shape in enumerate(zip(sizes, sizes[1:], strict=False)):
        last = i + 2 == len(sizes)
        layer = {"kernel": draw(jax.random.fold_in(key, i), shape), "bias": jnp.zeros(shape[1])}
        name = "out" if last else f"hidden_{i}"
        layers[name] = layer if last else layer | {"scale": jnp.ones(shape[1]), "shift": jnp.zeros(shape[1])}
        if not last:
            statistics[name] = {"mean": jnp.zeros(shape[1]), "variance": jnp.ones(shape[1])}
    return layers, statistics


def _network(layers, statistics, x, train, momentum):
    kept = {}
    for i in range(len(layers) - 1):
        layer, name = layers[f"hidden_{i}"], f"hidden_{i}"
        x = x @ layer["kernel"].astype(x.dtype) + layer["bias"].astype(x.dtype)
        x, kept[name] = _batch_norm(layer, statistics[name], x, train, momentum)
        x = jax.nn.relu(x)
    return x @ layers["out"]["kernel"].astype(x.dtype) + layers["out"]["bias"].astype(x.dtype), kept


def _batch_norm(layer, statistics, x, train, momentum):
    """Scales columns by the statistics of the batch, or the running ones, which get the unbiased variance."""
    mean, variance = statistics["mean"], statistics["variance"]
    if train:
        mean, variance = jnp.mean(x, axis=0), jnp.var(x, axis=0)
        unbiased = variance * len(x) / max(len(x) - 1, 1)
        statistics = jax.lax.stop_gradient(
            {
                "mean": momentum * statistics["mean"] + (1 - momentum) * mean,
                "variance": momentum * statistics["variance"] + (1 - momentum) * unbiased,
            }
        )
    scaled = (x - mean) * jax.lax.rsqrt(variance + _EPSILON)
    return scaled * layer["scale"] + layer["shift"], statistics
