"""Vectors of fields -> one logit per example: DeepFM, DLRM and deep & cross networks.

Each model is a pair of functions, ``init_x(key, ...) -> params`` and ``x(params, vectors, dense) -> logits``,
made of the pieces in ``interactions``. Logits are at least float32.
"""

import math

import jax
import jax.numpy as jnp

from jaxembed.encoders.interactions import (
    cross_network,
    dot_interaction,
    fields_of,
    fm_second_order,
    init_cross,
)
from jaxembed.encoders.mlp import XAVIER, ZEROS, dense_layer, init_mlp, mlp, product


def init_deepfm(key, fields, width, *, dense=0, hidden=(400, 400, 400), kernel_init=XAVIER, bias_init=ZEROS):
    """DeepFM: draws the parameters of :func:`deepfm`.

    >>> params = init_deepfm(jax.random.key(0), 5, 8, hidden=(16,))
    >>> print(sorted(params), params["mlp"]["layer_0"]["kernel"].shape)
    ['fm', 'head', 'mlp'] (40, 16)

    Args:
        key: random key.
        fields: F, the number of vectors.
        width: D, the width of each.
        dense: number of dense features.
        hidden: widths of the hidden layers.
        kernel_init, bias_init: as in :func:`init_mlp`.

    Returns:
        {"fm": {"bias": [1], "kernel": [dense, 1]}, "mlp": ..., "head": {"kernel": [hidden[-1], 1], "bias":
        [1]}}; "fm" has no kernel without dense features.
    """
    fm_key, mlp_key, head_key = jax.random.split(key, 3)
    fm_params = {"bias": bias_init(fm_key, (1,))}
    if dense:
        fm_params["kernel"] = kernel_init(fm_key, (dense, 1))
    sizes, make = (fields * width + dense, *hidden), {"kernel_init": kernel_init, "bias_init": bias_init}
    return {
        "fm": fm_params,
        "mlp": init_mlp(mlp_key, sizes, **make),
        "head": _head(head_key, sizes[-1], make),
    }


def fm(params, vectors, dense=None, *, linear=None):
    """Factorization machine: a bias, a weight per value, and inner products of pairs of fields.

    ``logit = w0 + sum_f linear[f] + dense kernel + fm_second_order(vectors)``.

    >>> vectors = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
    >>> print(fm({"bias": jnp.array([0.5])}, vectors, linear=jnp.array([[1.0, -2.0]])))
    [10.5]

    Args:
        params: {"bias": [1]}, and {"kernel": [n, 1]} for dense features: ``init_deepfm(...)["fm"]``.
        vectors: [B, F, D].
        dense: optional [B, n].
        linear: optional [B, F], the weight of each field's value: an embedding of width 1.

    Returns:
        [B], logits in at least float32.

    References:
        S. Rendle, Factorization Machines, ICDM 2010, doi:10.1109/ICDM.2010.127.
    """
    logits = fm_second_order(vectors)
    logits = logits + params["bias"].astype(logits.dtype)
    if linear is not None:
        logits = logits + jnp.sum(jnp.asarray(linear), axis=1, dtype=logits.dtype)
    if dense is not None:
        logits = logits + product(jnp.asarray(dense), params["kernel"])[:, 0]
    return logits


def deepfm(params, vectors, dense=None, *, linear=None, activation=jax.nn.relu, dropout=0.0, key=None):
    """DeepFM: adds a factorisation machine and an MLP that read the same vectors.

    ``logit = fm(vectors, dense, linear) + head(mlp(concat(vectors, dense)))``.

    >>> params = init_deepfm(jax.random.key(0), 5, 8, dense=3)
    >>> print(deepfm(params, jnp.ones((2, 5, 8)), jnp.ones((2, 3))).shape)
    (2,)

    Args:
        params: from :func:`init_deepfm`.
        vectors: [B, F, D].
        dense: [B, n], for params made with ``dense=n``.
        linear: optional [B, F], the weight of each field's value: an embedding of width 1.
        activation, dropout, key: as in :func:`mlp`.

    Returns:
        [B], logits in at least float32.

    References:
        H. Guo et al., DeepFM, arXiv:1703.04247.
    """
    x = mlp(
        params["mlp"], _concat(vectors, dense), activation=activation, final=True, dropout=dropout, key=key
    )
    return fm(params["fm"], vectors, dense, linear=linear) + dense_layer(params["head"], x, "head")[:, 0]


def _dlrm_bias(key, shape):
    return jax.random.normal(key, shape) * shape[-1] ** -0.5


def init_dlrm(
    key,
    fields,
    width,
    *,
    dense=0,
    bottom=(512, 256, 64),
    top=(512, 256),
    kernel_init=XAVIER,
    bias_init=_dlrm_bias,
):
    """DLRM: draws the parameters of :func:`dlrm`; the defaults are those for the Criteo Kaggle data.

    >>> params = init_dlrm(jax.random.key(0), 26, 16, dense=13)
    >>> print(params["top"]["layer_0"]["kernel"].shape)
    (367, 512)

    Args:
        key: random key.
        fields: F, the number of vectors.
        width: D, the width of each.
        dense: number n of dense features; with 0 the bottom MLP is left out.
        bottom: hidden widths of the MLP from the dense features to D.
        top: hidden widths of the MLP from the products to the logit.
        kernel_init: default N(0, 2 / (inputs + outputs)).
        bias_init: default N(0, 1 / outputs).

    Returns:
        {"bottom": ..., "top": ..., "head": {"kernel": [top[-1], 1], "bias": [1]}}.
    """
    bottom_key, top_key, head_key = jax.random.split(key, 3)
    make = {"kernel_init": kernel_init, "bias_init": bias_init}
    nodes = fields + bool(dense)
    sizes = (nodes * (nodes - 1) // 2 + width * bool(dense), *top)
    params = {"top": init_mlp(top_key, sizes, **make), "head": _head(head_key, sizes[-1], make)}
    return params | ({"bottom": init_mlp(bottom_key, (dense, *bottom, width), **make)} if dense else {})


def dlrm(params, vectors, dense=None, *, activation=jax.nn.relu, dropout=0.0, key=None):
    """DLRM: scores from the inner products between fields, the dense features being one more field.

    ``d = bottom(dense); logit = head(top(concat(d, dot_interaction([d, v_1 .. v_F]))))``.

    >>> params = init_dlrm(jax.random.key(0), 5, 8, dense=3)
    >>> print(dlrm(params, jnp.ones((2, 5, 8)), jnp.ones((2, 3))).shape)
    (2,)

    Args:
        params: from :func:`init_dlrm`.
        vectors: [B, F, D].
        dense: [B, n], for params made with ``dense=n``.
        activation, dropout, key: as in :func:`mlp`; dropout acts on the top MLP.

    Returns:
        [B], logits in at least float32.

    References:
        M. Naumov et al., DLRM, arXiv:1906.00091.
    """
    vectors = fields_of(vectors)
    if ("bottom" in params) != (dense is not None):
        raise ValueError(f"dense: {'missing' if dense is None else 'given'}, unlike in init_dlrm")
    parts = []
    if dense is not None:
        parts = [mlp(params["bottom"], jnp.asarray(dense, vectors.dtype), activation=activation, final=True)]
        vectors = jnp.concatenate([parts[0][:, None], vectors], axis=1)
    x = jnp.concatenate([*parts, dot_interaction(vectors)], axis=1)
    x = mlp(params["top"], x, activation=activation, final=True, dropout=dropout, key=key)
    return dense_layer(params["head"], x, "head")[:, 0]


def init_dcn(
    key,
    width,
    *,
    layers=3,
    kind="full",
    rank=None,
    experts=4,
    hidden=(500, 500, 500),
    parallel=False,
    kernel_init=XAVIER,
    bias_init=ZEROS,
):
    """DCN: draws the parameters of :func:`dcn`.

    >>> params = init_dcn(jax.random.key(0), 26 * 16 + 13, kind="low_rank", parallel=True)
    >>> print(params["cross"]["down"].shape, params["head"]["kernel"].shape)
    (3, 429, 107) (929, 1)

    Args:
        key: random key.
        width: summed width of all vectors and dense features.
        layers, kind, rank, experts: the cross network, as in :func:`init_cross`.
        hidden: widths of the MLP's layers; () leaves the cross network alone.
        parallel: False feeds the MLP with the cross network's output; True feeds it with the input and
            concatenates both outputs.
        kernel_init, bias_init: as in :func:`init_mlp`.

    Returns:
        {"cross": ..., "mlp": ..., "head": {"kernel": [H, 1], "bias": [1]}}, where H is the width of the MLP's
        output, in parallel that of both outputs.
    """
    cross_key, mlp_key, head_key = jax.random.split(key, 3)
    make = {"kernel_init": kernel_init, "bias_init": bias_init}
    sizes = (width, *hidden)
    return {
        "cross": init_cross(cross_key, width, layers=layers, kind=kind, rank=rank, experts=experts, **make),
        "mlp": init_mlp(mlp_key, sizes, **make),
        "head": _head(head_key, sizes[-1] + width * (parallel and bool(hidden)), make),
    }


def dcn(params, vectors, dense=None, *, cross=cross_network, activation=jax.nn.relu, dropout=0.0, key=None):
    """DCN: scores with a cross network and an MLP, one after the other or side by side.

    ``stacked: logit = head(mlp(cross(x0)))``, ``parallel: logit = head(concat(cross(x0), mlp(x0)))``, where
    x0 is all vectors and dense features, concatenated. The width of the head says which.

    >>> params = init_dcn(jax.random.key(0), 43)
    >>> print(dcn(params, jnp.ones((2, 5, 8)), jnp.ones((2, 3))).shape)
    (2,)

    Args:
        params: from :func:`init_dcn`.
        vectors: [B, F, D], or [B, total] where widths differ.
        dense: optional [B, n].
        cross: :func:`cross_network`, or a ``functools.partial`` of it with other options.
        activation, dropout, key: as in :func:`mlp`.

    Returns:
        [B], logits in at least float32.

    References:
        R. Wang et al., DCN V2, arXiv:2008.13535.
    """
    x0 = _concat(vectors, dense)
    crossed = cross(params["cross"], x0)
    layers = params["mlp"]
    parallel = layers and params["head"]["kernel"].shape[0] > layers[f"layer_{len(layers) - 1}"]["bias"].size
    x = mlp(layers, x0 if parallel else crossed, activation=activation, final=True, dropout=dropout, key=key)
    x = jnp.concatenate([crossed, x], axis=1) if parallel else x
    return dense_layer(params["head"], x, "head")[:, 0]


def _head(key, width, make):
    return init_mlp(key, (width, 1), **make)["layer_0"]


def _concat(vectors, dense):
    x = jnp.asarray(vectors)
    x = x.reshape(x.shape[0], math.prod(x.shape[1:]))
    return x if dense is None else jnp.concatenate([x, jnp.asarray(dense, x.dtype)], axis=1)
