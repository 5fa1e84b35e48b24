"""Product quantisation that trains: soft assignments to centres, with the nearest centre as their value."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import straight_through
from jaxembed.checks import check_temperature
from jaxembed.vectors.product import _parts, encode_product


def soft_product(params, x, *, temperature=1.0):
    """Soft product codes: how much each vector belongs to each centre of each part.

    ``soft[b, m] = softmax_c(-|x[b] part m - codebooks[m, c]|**2 / temperature)``; x is multiplied by the
    rotation first where there is one. Vectors of length 1 need a temperature far below 1: their squared
    distances differ by little, and the softmax is nearly even.

    >>> params = {"codebooks": jnp.array([[[0.0], [2.0]]])}
    >>> print(soft_product(params, jnp.array([[1.0], [2.0]]))[:, 0].astype("float16"))
    [[0.5     0.5    ]
     [0.01799 0.982  ]]

    Args:
        params: the arrays of ``fit_product``; nothing flows back into the rotation.
        x: [B, D], any float dtype.
        temperature: positive number that divides the squared distances; may be traced.

    Returns:
        [B, M, C] in at least float32.

    Raises:
        ValueError: when the width of x is not M * G, or for a temperature that is not positive.

    References:
        S. Xiao et al. (BiDR), arXiv:2201.05409, with temperature 1 and vectors that are not normalised.
    """
    check_temperature(temperature)
    params = _frozen(params)
    parts, books = _parts(params, x, "x"), params["codebooks"]
    books = books.astype(parts.dtype)
    products = jnp.einsum("bmg,mcg->bmc", parts, books, precision="highest")
    lengths = jnp.sum(parts**2, axis=2)[..., None] + jnp.sum(books**2, axis=2)
    return jax.nn.softmax((2 * products - lengths) / temperature, axis=2)


def quantise_product(params, x, *, temperature=1.0):
    """Contrastive product quantisation: replaces vectors by their decoded codes, and passes gradients on.

    The value is ``decode_product(params, encode_product(params, x))``, also where the rotation is not none.
    The gradient is that of ``soft_product`` in the place of the chosen centres (straight-through): a centre
    learns by value where it was chosen and by its share in every assignment; x learns by the shares alone.
    The rotation stays as it is.

    >>> params = {"codebooks": jnp.array([[[0.0], [2.0]]])}
    >>> value, slope = jax.value_and_grad(lambda x: quantise_product(params, x)[0, 0])(jnp.array([[1.5]]))
    >>> print(value, slope.astype("float16"))
    2.0 [[0.84]]

    Args:
        params: the arrays of ``fit_product``; train ``codebooks`` like any other parameter. A learned index
            is ``encode_product`` with the trained codebooks and the same rotation.
        x: [B, D], any float dtype.
        temperature: of the shares, as in :func:`soft_product`.

    Returns:
        [B, D] in the space of x, in at least float32. Inner products with a query that is not quantised are
        those of ``product_scores``. Memory is B * M * C.

    Raises:
        ValueError: as :func:`soft_product`.

    References:
        S. Xiao et al. (BiDR), arXiv:2201.05409. Its code returns the rotated vector and, in its optional
        reconstruction loss, compares it with x before the rotation; here both are in the space of x.
    """
    params = _frozen(params)
    soft = soft_product(params, x, temperature=temperature)
    chosen = jax.lax.stop_gradient(encode_product(params, x))
    hard = jax.nn.one_hot(chosen, soft.shape[2], dtype=soft.dtype)
    books = params["codebooks"].astype(soft.dtype)
    parts = jnp.einsum("bmc,mcg->bmg", straight_through(hard, soft), books, precision="highest")
    joined = parts.reshape(len(parts), parts.shape[1] * parts.shape[2])
    if params.get("rotation") is None:
        return joined
    return jnp.matmul(joined, params["rotation"].T.astype(joined.dtype), precision="highest")


def _frozen(params):
    rotation = params.get("rotation")
    return params if rotation is None else params | {"rotation": jax.lax.stop_gradient(rotation)}
