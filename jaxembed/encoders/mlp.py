"""Multilayer perceptrons as pure functions."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator

XAVIER = jax.nn.initializers.variance_scaling(1.0, "fan_avg", "normal")


ZEROS = jax.nn.initializers.zeros


def init_mlp(key, sizes, *, kernel_init=XAVIER, bias_init=ZEROS):
    """Multilayer perceptron: draws the layers of :func:`mlp`.

    >>> params = init_mlp(jax.random.key(0), (3, 8, 1))
    >>> print(params["layer_1"]["kernel"].shape, params["layer_1"]["bias"].shape)
    (8, 1) (1,)

    Args:
        key: random key; layer i draws from ``fold_in(key, i)``.
        sizes: widths of the input and of every layer's output.
        kernel_init: default N(0, 2 / (inputs + outputs)), Xavier's.
        bias_init: default zeros.

    Returns:
        {"layer_0": {"kernel": [sizes[0], sizes[1]], "bias": [sizes[1]]}, "layer_1": ...}.
    """
    params = {}
    for i, shape in enumerate(zip(sizes, sizes[1:], strict=False)):
        kernel_key, bias_key = jax.random.split(jax.random.fold_in(key, i))
        params[f"layer_{i}"] = {
            "kernel": kernel_init(kernel_key, shape),
            "bias": bias_init(bias_key, shape[1:]),
        }
    return params


def mlp(params, x, *, activation=jax.nn.relu, final=False, dropout=0.0, key=None):
    """Multilayer perceptron: dense layers with an activation, and dropout if a key is given, between them.

    ``x <- activation(x kernel + bias)``.

    >>> params = {"layer_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.array([0.0, -9.0])}}
    >>> print(mlp(params, jnp.array([[1.0, 2.0]])), mlp(params, jnp.array([[1.0, 2.0]]), final=True))
    [[ 3. -6.]] [[3. 0.]]

    Args:
        params: from :func:`init_mlp`; {} returns x.
        x: [..., sizes[0]].
        activation: function of arrays.
        final: True puts activation and dropout after the last layer too.
        dropout: share of the activations that become 0; the others are divided by ``1 - dropout``.
        key: random key; None means no dropout.

    Returns:
        [..., sizes[-1]] in the dtype of ``x``.

    Raises:
        ValueError: for another width than the params take.
    """
    x = jnp.asarray(x)
    for i in range(len(params)):
        wide = dense_layer(params[f"layer_{i}"], x, f"layer_{i}")
        if final or i + 1 < len(params):
            wide = activation(wide)
            if key is not None and dropout:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - dropout, wide.shape)
                wide = jnp.where(kept, wide / (1 - dropout), 0)
        x = wide.astype(x.dtype)
    return x


def product(x, kernel):
    """x kernel for x [..., n] and kernel [n, m]: [..., m] in at least float32."""
    return jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=accumulator(x))


def dense_layer(layer, x, name):
    """x kernel + bias for x [..., n]: [..., m] in at least float32; errors call the layer by its name."""
    if x.shape[-1] != layer["kernel"].shape[0]:
        raise ValueError(f"{name}: takes width {layer['kernel'].shape[0]}, but its input has shape {x.shape}")
    return product(x, layer["kernel"]) + layer["bias"].astype(accumulator(x))
