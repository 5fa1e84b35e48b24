"""Gates: vectors that say how much each channel of feature maps counts."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape
from jaxembed.encoders.mlp import init_mlp, mlp
from jaxembed.layers import layer_norm

ACTIVATIONS = {
    "softmax": jax.nn.softmax,
    "scaled_softmax": lambda x: jax.nn.softmax(x) * x.shape[-1],
    "sigmoid": jax.nn.sigmoid,
    "tanh": lambda x: 1 + jnp.tanh(x),
    "none": lambda x: x,
}


def init_gate(key, width, channels, *, expansion=4.0, norm=True):
    """Channel gate: draws the parameters of :func:`gate`.

    With the norm, a width of 384 and 32 channels it has 643,616 numbers:

    >>> params = init_gate(jax.random.key(0), 384, 32)
    >>> print(sum(x.size for x in jax.tree.leaves(params)))
    643616

    Args:
        key: random key.
        width: D of the vectors.
        channels: C of the maps, 2 C for :func:`film`.
        expansion: width of the hidden layer divided by D. Sentence attention widens 4 times,
            squeeze-and-excitation narrows to 1 / 16; 0 leaves the hidden layer out.
        norm: whether a layer norm follows the hidden layer, before its ReLU.

    Returns:
        ``mlp`` of :func:`init_mlp`, and ``norm`` (``scale`` and ``bias`` [hidden]) where there is one.

    Raises:
        ValueError: for a negative expansion, or a width or number of channels below 1.
    """
    if width < 1 or channels < 1 or expansion < 0:
        raise ValueError(f"{width=}, {channels=}, {expansion=}: pass sizes from 1 and a factor from 0")
    hidden = [max(1, round(expansion * width))] if expansion else []
    params = {"mlp": init_mlp(key, (width, *hidden, channels))}
    if norm and hidden:
        params["norm"] = {"scale": jnp.ones(hidden), "bias": jnp.zeros(hidden)}
    return params


def gate(params, vectors, *, activation="softmax"):
    """Channel gate: turns a vector into a factor for each channel of feature maps.

    ``gate(v) = activation(W2 relu(norm(W1 v + b1)) + b2)``. The default is the sentence attention block: v is
    a sentence vector, the norm a layer norm, and the softmax over channels makes them compete. Its factors
    average 1 / C and nothing undoes that, so maps of 640 channels shrink about 640 times at the start. No
    picture enters it. :func:`modulate` applies the factors; a residual is ``modulate(maps, 1 + gate(...))``.

    >>> params = init_gate(jax.random.key(0), 3, 4)
    >>> print(jnp.sum(gate(params, jnp.ones((2, 3))), axis=1).round(3))
    [1. 1.]

    Args:
        params: of :func:`init_gate`.
        vectors: [B, D], such as sentence vectors (of unit length or not, but always alike), means over maps,
            or both side by side.
        activation: "softmax", the paper's; "scaled_softmax", times C; "sigmoid", as squeeze-and-excitation;
            "tanh", 1 + tanh; "none".

    Returns:
        [B, C] in at least float32.

    Raises:
        ValueError: for an unknown activation, or vectors of another width.

    References:
        S. Khoshsirat and C. Kambhamettu, arXiv:2309.11593, as released: softmax, layer norm, expansion 4.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: {activation!r}; choose one of {', '.join(map(repr, ACTIVATIONS))}")
    vectors = jnp.asarray(vectors)
    check_shape("vectors", vectors, (None, None))
    vectors = vectors.astype(accumulator(vectors))

    def hidden(x):
        return jax.nn.relu(layer_norm(params["norm"], x) if "norm" in params else x)

    return ACTIVATIONS[activation](mlp(params["mlp"], vectors, activation=hidden))


def film(params, vectors):
    """FiLM: turns a vector into a factor and an addend for each channel of feature maps.

    ``scale, shift = 1 + g[:, :C], g[:, C:]`` with ``g = gate(params, vectors, activation="none")``: maps stay
    as they are where g is 0. ``modulate(maps, *film(params, vectors))`` applies both.

    >>> params = init_gate(jax.random.key(0), 3, 2 * 4, expansion=0)
    >>> scale, shift = film(params, jnp.zeros((2, 3)))
    >>> print(scale[0], shift[0])
    [1. 1. 1. 1.] [0. 0. 0. 0.]

    Args:
        params: of :func:`init_gate` with 2 C channels; ``expansion=0`` is the paper's single layer.
        vectors: [B, D].

    Returns:
        (scale [B, C], shift [B, C]) in at least float32.

    Raises:
        ValueError: for params with an odd number of channels.

    References:
        E. Perez et al., FiLM, arXiv:1709.07871.
    """
    both = gate(params, vectors, activation="none")
    if both.shape[1] % 2:
        raise ValueError(f"params: {both.shape[1]} channels; draw 2 C of them, for factors and addends")
    scale, shift = jnp.split(both, 2, axis=1)
    return 1 + scale, shift


def squeeze(maps):
    """Squeeze: the mean of each channel over the picture.

    >>> print(squeeze(jnp.arange(8.0).reshape(1, 2, 2, 2)))
    [[3. 4.]]

    Args:
        maps: [B, h, w, C].

    Returns:
        [B, C] in at least float32.
    """
    maps = jnp.asarray(maps)
    check_shape("maps", maps, (None,) * 4)
    return jnp.mean(maps, axis=(1, 2), dtype=accumulator(maps))


def squeeze_excitation(params, maps):
    """Squeeze-and-excitation: a factor for each channel from the means of all channels.

    ``scale = sigmoid(W2 relu(W1 squeeze(maps) + b1) + b2)``: the picture gates itself.

    >>> params = init_gate(jax.random.key(0), 32, 32, expansion=1 / 16, norm=False)
    >>> print(squeeze_excitation(params, jnp.ones((2, 4, 4, 32))).shape)
    (2, 32)

    Args:
        params: of :func:`init_gate` with ``expansion=1 / 16, norm=False`` for the paper's block.
        maps: [B, h, w, C].

    Returns:
        [B, C] within 0..1, in at least float32, for :func:`modulate`.

    References:
        J. Hu et al., Squeeze-and-Excitation Networks, arXiv:1709.01507.
    """
    return gate(params, squeeze(maps), activation="sigmoid")


def modulate(maps, scale, shift=0):
    """Feature-wise modulation: multiplies each channel of feature maps by a factor and adds a number.

    ``out[b, y, x, c] = maps[b, y, x, c] * scale[b, c] + shift[b, c]``, the same at every place. Sentence
    attention, squeeze-and-excitation and FiLM are this function; they differ in what makes the factors:
    :func:`gate`, :func:`squeeze_excitation`, :func:`film`.

    >>> maps = jnp.ones((1, 1, 2, 2))
    >>> print(modulate(maps, jnp.array([[2.0, 3.0]]), jnp.array([[0.0, 1.0]])))
    [[[[2. 4.]
       [2. 4.]]]]

    Args:
        maps: [B, h, w, C].
        scale: [B, C].
        shift: [B, C], or a number.

    Returns:
        [B, h, w, C] in the dtype of ``maps``.

    Raises:
        ValueError: for factors of another shape.
    """
    maps, scale, shift = jnp.asarray(maps), jnp.asarray(scale), jnp.asarray(shift)
    check_shape("maps", maps, (None,) * 4)
    check_shape("scale", scale, (maps.shape[0], maps.shape[3]))
    if shift.ndim:
        check_shape("shift", shift, scale.shape)
        shift = shift[:, None, None]
    return (maps * scale[:, None, None] + shift).astype(maps.dtype)
