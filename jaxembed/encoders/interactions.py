"""Pieces of models that read vectors of fields: MLPs, factorisation machines, dot products, cross networks.

The embeddings of the fields come from ``tables.lookup``, stacked to [B, F, D] or concatenated to [B, total].
Products run in the dtype of these vectors and accumulate in at least float32; parameters may have another
float dtype. Initialisers are functions ``(key, shape) -> array`` such as those of ``jax.nn.initializers``.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.encoders.mlp import XAVIER, ZEROS, product

CROSS = ("full", "low_rank", "mixture", "vector")


def fm_second_order(vectors):
    """Second-order interactions: sums the inner products of all pairs of fields in linear time.

    ``out[b] = sum_{i < j} <v_i, v_j> = sum_d ((sum_i v_i)^2 - sum_i v_i^2)[d] / 2``.

    >>> print(fm_second_order(jnp.array([[[1.0, 2.0], [3.0, 4.0], [1.0, 0.0]]])))
    [15.]

    Args:
        vectors: [B, F, D], one vector a field.

    Returns:
        [B] in at least float32.

    References:
        S. Rendle, Factorization Machines, ICDM 2010, doi:10.1109/ICDM.2010.127.
    """
    wide = fields_of(vectors)
    wide = wide.astype(accumulator(wide))
    return jnp.sum(jnp.sum(wide, axis=1) ** 2 - jnp.sum(wide**2, axis=1), axis=1) / 2


def dot_interaction(vectors, *, self_interaction=False):
    """Dot interaction: lists the inner products of all pairs of fields.

    ``out[b] = [<v_1, v_0>, <v_2, v_0>, <v_2, v_1>, <v_3, v_0>, ...]``: the strict lower triangle of the
    F x F products, row by row.

    >>> print(dot_interaction(jnp.array([[[1.0, 2.0], [3.0, 4.0], [1.0, 0.0]]])))
    [[11.  1.  3.]]

    Args:
        vectors: [B, F, D].
        self_interaction: True adds the diagonal, as the last product of each row.

    Returns:
        [B, F * (F - 1) / 2], or [B, F * (F + 1) / 2], in the dtype of ``vectors``.

    References:
        M. Naumov et al., DLRM, arXiv:1906.00091.
    """
    vectors = fields_of(vectors)
    products = jnp.einsum("bfd,bgd->bfg", vectors, vectors, preferred_element_type=accumulator(vectors))
    rows, columns = np.tril_indices(vectors.shape[1], 0 if self_interaction else -1)
    return products[:, rows, columns].astype(vectors.dtype)


def init_cross(key, width, *, layers, kind="full", rank=None, experts=4, kernel_init=XAVIER, bias_init=ZEROS):
    """Cross network: draws the layers of :func:`cross_network`.

    >>> params = init_cross(jax.random.key(0), 12, layers=3, kind="low_rank", rank=2)
    >>> print(params["down"].shape, params["up"].shape, params["bias"].shape)
    (3, 12, 2) (3, 2, 12) (3, 12)

    Args:
        key: random key; layer l draws from ``fold_in(key, l)``.
        width: D, of the input.
        layers: number of layers L.
        kind: "full", "low_rank", "mixture" of low-rank experts, or "vector" (the first version).
        rank: of "low_rank" and of each expert; default D // 4, at least 1.
        experts: number of experts K of "mixture".
        kernel_init: of every matrix, default N(0, 2 / (inputs + outputs)); others use a truncated normal of
            deviation .05, Glorot's uniform, or U(+-1 / sqrt(inputs)).
        bias_init: default zeros.

    Returns:
        {"bias": [L, D]} with, for "full", {"kernel": [L, D, D]}; for "vector", {"weight": [L, D]}; for
        "low_rank", {"down": [L, D, rank], "up": [L, rank, D]}; for "mixture", {"down": [L, K, D, rank],
        "core": [L, K, rank, rank], "up": [L, K, rank, D], "gates": {"kernel": [D, K]}}, the gates being
        shared by all layers.

    Raises:
        ValueError: for an unknown kind, or sizes below 1.
    """
    rank = max(1, width // 4) if rank is None else rank
    if kind not in CROSS:
        raise ValueError(f"kind={kind!r}; choose one of {CROSS}")
    if min(width, layers, rank, experts) < 1:
        raise ValueError(f"width={width}, layers={layers}, rank={rank}, experts={experts}; need at least 1")
    shapes = {"down": (width, rank), "core": (rank, rank), "up": (rank, width)}
    shapes = {"full": {"kernel": (width, width)}, "vector": {"weight": (width, 1)}}.get(kind, shapes)
    if kind == "low_rank":
        shapes.pop("core")
    copies = experts if kind == "mixture" else 1
    layer_key, gate_key = jax.random.split(key)

    def layer(key):
        draws = {"bias": bias_init(jax.random.fold_in(key, 0), (width,))}
        for i, (name, shape) in enumerate(shapes.items(), start=1):
            keys = jax.random.split(jax.random.fold_in(key, i), copies)
            drawn = jnp.stack([kernel_init(k, shape) for k in keys])
            draws[name] = drawn if kind == "mixture" else drawn[0]
        return draws | ({"weight": draws["weight"][:, 0]} if kind == "vector" else {})

    drawn = [layer(jax.random.fold_in(layer_key, i)) for i in range(layers)]
    params = jax.tree.map(lambda *x: jnp.stack(x), *drawn)
    if kind == "mixture":
        params["gates"] = {"kernel": kernel_init(gate_key, (width, experts))}
    return params


def cross_network(params, x0, *, activation=None, expert_activation=jnp.tanh, diagonal=0.0):
    """Cross network: multiplies the input with linear maps of itself, layer after layer.

    L layers give polynomials of degree L + 1.

    With x = x0 at first and g the activation, each layer takes::

        full:      x <- x0 * (g(W x + b) + s x) + x
        low_rank:  the same with W = U V^T
        mixture:   the same with sum_k p_k U_k h(C_k h(V_k^T x)) in place of W x, p = softmax(gates^T x)
        vector:    x <- x0 * (g(w^T x) + s x) + b + x

    >>> params = {"kernel": jnp.eye(2)[None], "bias": jnp.zeros((1, 2))}
    >>> print(cross_network(params, jnp.array([[2.0, 3.0]])))
    [[ 6. 12.]]

    Args:
        params: from :func:`init_cross`, whose names say the kind. The layers take rows from the left:
            ``kernel`` is W^T, ``down`` V, ``core`` C^T, ``up`` U^T.
        x0: [B, D].
        activation: g, default the identity.
        expert_activation: h, of "mixture" only.
        diagonal: s, not negative; it makes deep or low-precision networks more stable.

    Returns:
        [B, D] in the dtype of ``x0``; each layer's sums are at least float32.

    Raises:
        ValueError: for a shape other than [B, D].

    References:
        R. Wang et al., DCN V2, arXiv:2008.13535, and DCN, arXiv:1708.05123 ("vector"). The bias of "mixture"
        is the layer's, not the expert's.
    """
    x0 = jnp.asarray(x0)
    width = params["bias"].shape[1]
    if x0.ndim != 2 or x0.shape[1] != width:
        raise ValueError(f"x0: shape {x0.shape}; these params take [B, {width}]")
    dtype = accumulator(x0)
    gates = params.get("gates")

    def layer(x, p):
        inner, bias, outside = _linear(p, gates, x, expert_activation), p["bias"].astype(dtype), 0
        if "weight" in p:
            bias, outside = 0, bias
        inner = inner + bias if activation is None else activation(inner + bias)
        wide = x.astype(dtype)
        return (x0.astype(dtype) * (inner + diagonal * wide) + outside + wide).astype(x0.dtype), None

    stacked = {name: p for name, p in params.items() if name != "gates"}
    return jax.lax.scan(layer, x0, stacked, unroll=True)[0]  # few layers: a loop would only slow them


def _linear(p, gates, x, activation):
    """W x of one layer in at least float32: [B, D], or [B, 1] for "vector"."""
    if "weight" in p:
        return product(x, p["weight"][:, None])
    if "kernel" in p:
        return product(x, p["kernel"])
    if "core" not in p:
        return product(product(x, p["down"]).astype(x.dtype), p["up"])
    down, core, up = (p[name].astype(x.dtype) for name in ("down", "core", "up"))
    dtype = accumulator(x)
    share = jax.nn.softmax(product(x, gates["kernel"]), axis=-1)
    h = activation(jnp.einsum("bd,kdr->bkr", x, down, preferred_element_type=dtype))
    h = activation(jnp.einsum("bkr,krs->bks", h.astype(x.dtype), core, preferred_element_type=dtype))
    h = (h * share[..., None]).astype(x.dtype)
    return jnp.einsum("bkr,krd->bd", h, up, preferred_element_type=dtype)


def fields_of(vectors):
    """Returns vectors as an array and refuses what is not [B, F, D]."""
    vectors = jnp.asarray(vectors)
    if vectors.ndim != 3:
        raise ValueError(f"vectors: shape {vectors.shape}; stack the fields to [B, F, D]")
    return vectors
