"""Vectors of several aspects as one, and fixed vectors that are moved by pairs."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import FLAT, accumulator, check_shape, slerp_weights, unit
from jaxembed.checks import refuse_nan


def combine_aspects(vectors, weights=None):
    """Combined aspects: one vector of a document, whose inner products are weighted sums of cosines.

    ``combined = concatenate over a of sqrt(weights[a]) unit(vectors[a])``, for queries and documents alike:
    ``<combined q, combined d> = sum_a weights[a] cos(q[a], d[a])``.

    >>> q, d = jnp.array([[[1.0, 0.0], [3.0, 4.0]]]), jnp.array([[[2.0, 0.0], [0.0, 1.0]]])
    >>> weights = jnp.array([0.25, 0.5])
    >>> print(jnp.sum(combine_aspects(q, weights) * combine_aspects(d, weights)).astype("float16"))
    0.65

    Args:
        vectors: [..., A, D]; normalised inside.
        weights: [A], at least 0; may be traced. Default 1 for each.

    Returns:
        [..., A * D], of integers in float32. A weight of 1 beside zeros is the search in one aspect.

    Raises:
        ValueError: for vectors or weights of another shape, or outside of jit NaN or negative weights; under
            jit NaN makes its own row NaN.
    """
    vectors = jnp.asarray(vectors)
    if vectors.ndim < 2:
        raise ValueError(f"vectors: shape {vectors.shape}; pass [..., A, D]")
    refuse_nan("vectors", vectors)
    vectors = unit(vectors)
    weights = jnp.ones(vectors.shape[-2]) if weights is None else jnp.asarray(weights)
    check_shape("weights", weights, (vectors.shape[-2],))
    wrong = jnp.any(~(weights >= 0))
    if not isinstance(wrong, jax.core.Tracer) and wrong:
        raise ValueError("weights: hold a negative number or NaN; pass weights from 0 on")
    scaled = vectors * jnp.sqrt(weights).astype(vectors.dtype)[:, None]
    return scaled.reshape(*vectors.shape[:-2], vectors.shape[-2] * vectors.shape[-1])


def init_retrofit(key, width, *, hidden=(512,)):
    """Retrofitting: draws the network that moves fixed vectors; at the start it moves none.

    >>> params = init_retrofit(jax.random.key(0), 4, hidden=(8,))
    >>> print(params["layer_1"]["kernel"].shape, float(jnp.abs(params["layer_1"]["kernel"]).max()))
    (8, 4) 0.0

    Args:
        key: random key; layer i draws from ``fold_in(key, i)``.
        width: D.
        hidden: widths of the hidden layers.

    Returns:
        {"layer_0": {"kernel", "bias"}, ...}; the last layer is zeros.
    """
    sizes, params = (width, *hidden, width), {}
    for i, (n, m) in enumerate(zip(sizes, sizes[1:], strict=False)):
        last = i == len(hidden)
        draw = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        kernel = jnp.zeros((n, m)) if last else draw(jax.random.fold_in(key, i), (n, m))
        params[f"layer_{i}"] = {"kernel": kernel, "bias": jnp.zeros(m)}
    return params


def retrofit(params, x):
    """Explicit retrofitting: moves fixed vectors by a network, also those that no pair names.

    ``retrofit(x) = x + mlp(x)`` with ReLU between the layers.

    >>> x = jnp.array([[1.0, 2.0]])
    >>> print(retrofit(init_retrofit(jax.random.key(0), 2, hidden=(4,)), x))
    [[1. 2.]]

    Args:
        params: of :func:`init_retrofit`.
        x: [N, D].

    Returns:
        [N, D] in at least float32.

    Raises:
        ValueError: for vectors of another width, or NaN; under jit NaN makes its own row NaN.

    References:
        G. Glavas and I. Vulic, Explicit Retrofitting, ACL 2018, as M. Ostendorff et al., arXiv:2203.14541,
        use it. The residual network and the loss, ``losses.retrofit_loss``, are a design of our own.
    """
    x = jnp.asarray(x)
    check_shape("x", x, (None, len(params["layer_0"]["kernel"])))
    refuse_nan("x", x)
    x = h = x.astype(accumulator(x))
    for i in range(len(params)):
        layer = params[f"layer_{i}"]
        h = jnp.matmul(h, layer["kernel"], preferred_element_type=x.dtype) + layer["bias"]
        h = jax.nn.relu(h) if i + 1 < len(params) else h
    return x + h


def slerp(first, second, position, *, flat=FLAT):
    """Spherical linear interpolation: goes from one vector to another along an arc.

    ``sin((1 - p) w) / sin(w) first + sin(p w) / sin(w) second`` with w the angle between the two and p the
    position. Unit vectors stay unit vectors, which a straight line shortens. Lengths are not changed first.

    >>> print(slerp(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), 0.5).round(3))
    [0.707 0.707]

    Args:
        first: [..., D].
        second: [..., D].
        position: number or [...], 0 at ``first`` and 1 at ``second``.
        flat: absolute cosine beyond which the straight line is taken, as for a zero vector.

    Returns:
        [..., D] in the dtype of the vectors, of integers in float32.

    Raises:
        ValueError: for vectors of different widths.

    References:
        K. Shoemake, Animating rotation with quaternion curves, 1985.
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    if first.shape[-1:] != second.shape[-1:] or not first.ndim:
        raise ValueError(f"second: shape {second.shape} for {first.shape}; pass vectors of one width")
    kind = accumulator(first, second)
    a, b = first.astype(kind), second.astype(kind)
    products = (jnp.sum(x * y, axis=-1) for x, y in ((a, a), (a, b), (b, b)))
    kept, turned = slerp_weights(*products, jnp.asarray(position, kind), flat=flat)
    found = kept[..., None] * a + turned[..., None] * b
    given = jnp.result_type(first, second)
    return found.astype(given if jnp.issubdtype(given, jnp.floating) else kind)
