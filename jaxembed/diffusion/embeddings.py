"""Embeddings as conditions of a denoiser, and diffusion models that draw embeddings.

The room encoders is imported in the functions that use it, so that this room imports without flax.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape, unit


def init_embedding_tokens(key, sizes, width):
    """Embedding condition: draws the parameters of :func:`embedding_tokens`.

    Args:
        key: random key.
        sizes: {name: D} of the embeddings, in the order of their tokens.
        width: of the tokens.

    Returns:
        {name: {"layer_0": {"kernel": [D, width], "bias": [width]}}}.
    """
    from jaxembed.encoders import init_mlp

    keys = jax.random.split(key, len(sizes))
    return {name: init_mlp(k, (size, width)) for k, (name, size) in zip(keys, sizes.items(), strict=True)}


def embedding_tokens(params, z, *, normalise=True):
    """Embedding condition: one token for each embedding, which cross-attention reads.

    ``token = unit(z) kernel + bias``. An embedding of zeros stays zeros, so its token is the bias: zeros are
    the null condition of guidance, and what is missing.

    >>> params = init_embedding_tokens(jax.random.key(0), {"patch": 3, "region": 2}, 4)
    >>> z = {"patch": jnp.ones((5, 3)), "region": jnp.zeros((5, 2))}
    >>> tokens = embedding_tokens(params, z)
    >>> print(tokens.shape, tokens[0, 1])
    (5, 2, 4) [0. 0. 0. 0.]

    Args:
        params: of :func:`init_embedding_tokens`.
        z: {name: [B, D]}; an array where there is one name.
        normalise: whether embeddings are brought to length 1 first.

    Returns:
        [B, n, width], in the order of the names in ``params``.

    Raises:
        ValueError: for other names, or an embedding of another width.

    References:
        A. Graikos et al., arXiv:2312.07330.
    """
    from jaxembed.encoders import mlp

    z = z if isinstance(z, dict) else {next(iter(params)): z}
    if set(z) != set(params):
        raise ValueError(f"z: names {sorted(z)}; pass {sorted(params)}")
    tokens = []
    for name, layers in params.items():
        x = jnp.asarray(z[name])
        check_shape(name, x, (None, layers["layer_0"]["kernel"].shape[0]))
        tokens.append(mlp(layers, unit(x) if normalise else x))
    return jnp.stack(tokens, axis=1)


def init_embedding_prior(key, shape, condition=0, *, width=256, layers=3):
    """Embedding prior: draws the parameters of :func:`embedding_prior`.

    Args:
        key: random key.
        shape: of what is drawn without the batch, (D,) for embeddings and (gh, gw, D) for grids of them.
        condition: width of the condition; 0 for none.
        width: of the hidden layers, even.
        layers: hidden layers.

    Returns:
        {"in", "time", "body", "out"} of :func:`~jaxembed.encoders.init_mlp`; "out", [width, gh gw D], starts
        as zeros.
    """
    from jaxembed.encoders import init_mlp

    size, keys = math.prod(shape), jax.random.split(key, 4)
    return {
        "in": init_mlp(keys[0], (size + condition, width)),
        "time": init_mlp(keys[1], (width, width, width)),
        "body": {
            f"block_{n}": init_mlp(k, (width, width, width))
            for n, k in enumerate(jax.random.split(keys[2], layers))
        },
        "out": jax.tree.map(jnp.zeros_like, init_mlp(keys[3], (width, size))),
    }


def embedding_prior(params, x, t, condition=None, key=None):
    """Embedding prior: a denoiser of embeddings, or of grids of them, for the functions of this room.

    A residual network: ``h <- h + W2 silu(W1 (h + time))``, over all numbers of an example at once.
    ``denoising_loss(schedule, embedding_prior, prediction="x0")`` trains it and ``sample`` draws from it.

    >>> params = init_embedding_prior(jax.random.key(0), (2, 2, 3), 5, width=8)
    >>> x = jnp.ones((4, 2, 2, 3))
    >>> print(embedding_prior(params, x, jnp.zeros(4), jnp.ones((4, 5))).shape)
    (4, 2, 2, 3)

    Args:
        params: of :func:`init_embedding_prior`.
        x: [B, *shape], noisy, of about unit variance when clean.
        t: [B], steps.
        condition: [B, condition], such as the vector of a text, or None.
        key: not used.

    Returns:
        [B, *shape].

    Raises:
        ValueError: for an x or a condition of another width.

    References:
        A. Graikos et al., arXiv:2312.07330, whose network is not released: this one is our choice.
    """
    from jaxembed.encoders import mlp, timestep_embedding

    flat = jnp.reshape(x, (len(x), -1))
    given = flat if condition is None else jnp.concatenate([flat, condition], axis=1)
    width = params["in"]["layer_0"]["bias"].shape[0]
    time = mlp(params["time"], timestep_embedding(t, width), activation=jax.nn.silu)
    h = mlp(params["in"], given)
    for layers in params["body"].values():
        h = h + mlp(layers, h + time.astype(h.dtype), activation=jax.nn.silu)
    return mlp(params["out"], h).reshape(np.shape(x))
