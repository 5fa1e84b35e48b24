"""Pair gates: a pair of classes, or of images, says in which coordinates its members are compared."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, on_device
from jaxembed.encoders.mlp import dense_layer, init_mlp

KINDS = ("mean", "product")
NORMS = ("layer", "batch")


def init_pair_gate(key, classes, width, *, inputs=512, hidden=1024):
    """Pair gate: draws the class table and the two layers of :func:`pair_gate`.

    >>> params = init_pair_gate(jax.random.key(0), 10, 32, inputs=16, hidden=64)
    >>> print(params["table"]["embedding"].shape, params["mlp"]["layer_1"]["kernel"].shape)
    (10, 16) (64, 32)

    Args:
        key: random key.
        classes: the number C of classes; None leaves the table out, for gates of pairs of vectors.
        width: the number K of coordinates that are gated.
        inputs: the width I of a class vector.
        hidden: the width H between the layers.

    Returns:
        ``table/embedding`` [C, I], ``mlp/layer_0`` and ``mlp/layer_1`` with ``kernel`` and ``bias``, and
        ``norm_0`` [I] and ``norm_1`` [H] with ``scale`` and ``bias``.
    """
    table_key, mlp_key = jax.random.split(key)
    norms = {
        f"norm_{i}": {"scale": jnp.ones(n), "bias": jnp.zeros(n)} for i, n in enumerate((inputs, hidden))
    }
    params = {"mlp": init_mlp(mlp_key, (inputs, hidden, width))} | norms
    if classes is not None:
        params["table"] = {"embedding": jax.random.normal(table_key, (classes, inputs))}
    return params


def pair_gate(params, first, second, *, kind="mean", norm="layer", logits=False):
    """Pair gate: opens the coordinates in which two classes are alike; the order of the two does not matter.

    ``gate = sigmoid(layer_1(relu(norm(layer_0(norm(relu(e)))))))`` with e the mean of the two class vectors.
    The kind "product" multiplies the gates of each class paired with itself.

    >>> params = init_pair_gate(jax.random.key(0), 10, 4, inputs=8, hidden=8)
    >>> gates = pair_gate(params, jnp.array([0, 7]), jnp.array([7, 0]))
    >>> print(gates.shape, jnp.array_equal(gates[0], gates[1]))
    (2, 4) True

    Args:
        params: of :func:`init_pair_gate`.
        first: int [B], classes in 0..C-1; or [B, I], vectors of one image each, which need no table.
        second: as ``first``, the other side of each pair.
        kind: "mean" or "product".
        norm: "layer" normalises each pair by itself. "batch" takes mean and variance over the pairs of this
            call, as the authors' code does in training; no running means are kept.
        logits: True returns what the sigmoid takes, for :func:`gumbel_gate` and :func:`stochastic_gate`; for
            "mean" alone.

    Returns:
        [B, K] within 0..1, in at least float32. A class outside 0..C-1 gives NaN.

    Raises:
        ValueError: for shapes that differ, an unknown kind or norm, or logits of a product.

    References:
        "Rethinking Positive Pairs in Contrastive Learning", arXiv:2410.18200. Its gate of two images is
        the one that vectors give here.
    """
    first, second = on_device("first", first), on_device("second", second)
    for name, value, known in (("kind", kind, KINDS), ("norm", norm, NORMS)):
        if value not in known:
            raise ValueError(f"{name}: {value!r} is unknown; choose one of {', '.join(known)}")
    if second.shape != first.shape or first.ndim not in (1, 2):
        raise ValueError(f"second: {second.shape} with first {first.shape}; pass two of [B] or two of [B, I]")
    if logits and kind == "product":
        raise ValueError('logits: a product of gates has none; choose kind="mean"')
    first, second = (_vectors(params, x) for x in (first, second))
    if kind == "product":
        return jax.nn.sigmoid(_logits(params, first, norm)) * jax.nn.sigmoid(_logits(params, second, norm))
    found = _logits(params, (first + second) / 2, norm)
    return found if logits else jax.nn.sigmoid(found)


def _vectors(params, x):
    if x.ndim == 2:
        return x.astype(accumulator(x))
    if "table" not in params:
        raise ValueError(
            "params: hold no table of classes; give init_pair_gate their number, or pass vectors"
        )
    table = params["table"]["embedding"]
    known = (x >= 0) & (x < len(table))
    return jnp.where(known[:, None], table[jnp.where(known, x, 0)], jnp.nan).astype(accumulator(table))


def _logits(params, x, norm):
    for i in range(2):
        x = _normalised(params[f"norm_{i}"], jax.nn.relu(x), 0 if norm == "batch" else 1)
        x = dense_layer(params["mlp"][f"layer_{i}"], x, f"mlp/layer_{i}")
    return x


def _normalised(params, x, axis):
    x = x - jnp.mean(x, axis=axis, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=axis, keepdims=True) + 1e-5)
    return x * params["scale"] + params["bias"]


def gumbel_gate(key, logits, *, temperature=1.0):
    """Gumbel-sigmoid gate: draws a gate near 0 or 1 that opens with the chance sigmoid(logit).

    ``gate = sigmoid((logits + log u - log(1 - u)) / temperature)`` with u drawn evenly from 0..1. It is above
    1/2 with the chance ``sigmoid(logits)`` at any temperature, and differentiable.

    >>> gates = gumbel_gate(jax.random.key(0), jnp.array([-50.0, 50.0]), temperature=0.1)
    >>> print(gates)
    [0. 1.]

    Args:
        key: random key.
        logits: [...], as :func:`pair_gate` gives them.
        temperature: positive number; near 0 the gates are near 0 and 1.

    Returns:
        [...] within 0..1, in at least float32.

    References:
        E. Jang et al., arXiv:1611.01144; C. Maddison et al., arXiv:1611.00712.
    """
    logits = jnp.asarray(logits)
    logits = logits.astype(accumulator(logits))
    return jax.nn.sigmoid((logits + jax.random.logistic(key, logits.shape, logits.dtype)) / temperature)


def stochastic_gate(key, means, *, deviation=0.5):
    """Stochastic gate: a mean with normal noise, cut to 0..1, and the chance that it is open.

    ``gate = clip(means + deviation * noise + 1/2, 0, 1)`` and ``open = Phi((means + 1/2) / deviation)``, the
    chance that the gate is above 0. The mean of ``open``, times a small number, is the L0 penalty.

    >>> gate, chance = stochastic_gate(None, jnp.array([-0.5, 0.0, 0.5]))
    >>> print(gate, chance.astype("float16"))
    [0.  0.5 1. ] [0.5    0.8413 0.977 ]

    Args:
        key: random key; None means no noise.
        means: [...], as the logits of :func:`pair_gate`.
        deviation: positive number.

    Returns:
        (gate, open), both [...] within 0..1, in at least float32.

    References:
        Y. Yamada et al., arXiv:1810.04247.
    """
    means = jnp.asarray(means)
    centre = means.astype(accumulator(means)) + 0.5
    noise = 0 if key is None else deviation * jax.random.normal(key, centre.shape, centre.dtype)
    return jnp.clip(centre + noise, 0, 1), jax.scipy.stats.norm.cdf(centre / deviation)
