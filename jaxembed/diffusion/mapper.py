"""NeTI: a small network that gives a concept its token for each time and layer of a denoiser."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, on_device, prefix_mask
from jaxembed.layers import affine, layer_norm


def draw_frequencies(key, count, deviations):
    """Frequencies of Fourier features, drawn once and frozen: axis a from N(0, deviations[a]**2).

    >>> print(draw_frequencies(jax.random.key(0), 1024, (0.03, 2.0)).shape)
    (1024, 2)

    Args:
        key: random key.
        count: F.
        deviations: [A], one for each axis of the coordinates. The paper has 0.03 for steps 0..999 and 2 for
            layers 0..15. An axis with 0 is ignored: times then make no difference, or layers.

    Returns:
        float32 [F, A].
    """
    deviations = jnp.asarray(deviations, jnp.float32)
    return jax.random.normal(key, (count, len(deviations))) * deviations


def fourier_features(frequencies, coordinates):
    """Fourier features: sines and cosines of coordinates, as a unit vector.

    ``[sin(f x), cos(f x)] / sqrt(F)``. Of many frequencies from N(0, s[a]**2) the inner product of two is
    near ``exp(-sum over a of s[a]**2 (x[a] - y[a])**2 / 2)``.

    >>> frequencies = jnp.array([[0.0, 1.0], [0.0, 0.0]])
    >>> print(fourier_features(frequencies, jnp.array([[500.0, jnp.pi / 2]])).round(2) + 0)
    [[0.71 0.   0.   0.71]]

    Args:
        frequencies: [F, A] of :func:`draw_frequencies`.
        coordinates: [..., A], a step and the number of a layer, say, not scaled.

    Returns:
        [..., 2 F] of length 1, in at least float32.

    Raises:
        ValueError: for coordinates of another width.

    References:
        Y. Alaluf et al. (NeTI), arXiv:2305.15391; A. Rahimi and B. Recht's random features.
    """
    frequencies, coordinates = on_device("frequencies", frequencies), on_device("coordinates", coordinates)
    check_shape("frequencies", frequencies, (None, None))
    check_shape("coordinates", coordinates, (*[None] * (coordinates.ndim - 1), frequencies.shape[1]))
    wide = accumulator(frequencies, coordinates)
    angles = jnp.matmul(coordinates.astype(wide), frequencies.astype(wide).T, precision="highest")
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1) * len(frequencies) ** -0.5


def init_mapper(key, anchors, width, *, hidden=128, bypass=True):
    """NeTI mapper: draws the network whose first layer measures similarity to anchors.

    >>> anchors = fourier_features(draw_frequencies(jax.random.key(0), 64, (0.03, 2.0)), jnp.ones((20, 2)))
    >>> params = init_mapper(jax.random.key(1), anchors, 8)
    >>> print({name: layer["kernel"].shape for name, layer in params.items()})
    {'anchors': (128, 20), 'first': (20, 128), 'second': (128, 128), 'token': (128, 8), 'bypass': (128, 8)}

    Args:
        key: random key.
        anchors: [N, 2 F], features of N coordinates; row i becomes column i of the first kernel.
        width: D of a token.
        hidden: width of both hidden layers.
        bypass: True adds the layer of the textual bypass.

    Returns:
        Nested dict: "anchors", "first", "second", "token" and "bypass" with "kernel" and "bias", and "norm"
        in the two hidden layers. Other kernels, and biases, are uniform within ``1 / sqrt(inputs)`` of 0.

    References:
        Y. Alaluf et al. (NeTI), arXiv:2305.15391.
    """
    anchors = on_device("anchors", anchors)
    check_shape("anchors", anchors, (None, None))
    sizes = {"anchors": anchors.shape[::-1], "first": (len(anchors), hidden), "second": (hidden, hidden)}
    sizes |= {name: (hidden, width) for name in ("token", "bypass")[: 1 + bypass]}
    params = {}
    for i, (name, (inputs, outputs)) in enumerate(sizes.items()):
        keys = jax.random.split(jax.random.fold_in(key, i))
        bound = inputs**-0.5
        kernel = jax.random.uniform(keys[0], (inputs, outputs), minval=-bound, maxval=bound)
        bias = jax.random.uniform(keys[1], (outputs,), minval=-bound, maxval=bound)
        params[name] = {"kernel": kernel, "bias": bias}
    params["anchors"]["kernel"] = anchors.T.astype(accumulator(anchors))
    for name in ("first", "second"):
        params[name]["norm"] = {"scale": jnp.ones(hidden), "bias": jnp.zeros(hidden)}
    return params


def map_tokens(params, features, *, norm=1.0, keep=None, key=None, drop=0.5):
    """NeTI mapper: the token of a concept at a time and a layer, and what bypasses the text encoder.

    ``h`` is two layers, each with layer norm and leaky ReLU, on the similarities to the anchors. Linear maps
    of it give token and bypass, which are scaled as one vector y: ``norm y / |y|``.

    >>> anchors = fourier_features(draw_frequencies(jax.random.key(0), 64, (0.03, 2.0)), jnp.ones((20, 2)))
    >>> params = init_mapper(jax.random.key(1), anchors, 8)
    >>> token, bypass = map_tokens(params, anchors[:3], norm=2.0)
    >>> print(token.shape, jnp.sum(token**2 + bypass**2, axis=1).round(3))
    (3, 8) [4. 4. 4.]

    Args:
        params: of :func:`init_mapper`.
        features: [..., 2 F] of :func:`fourier_features`.
        norm: length of the output; that of the word for what the concept is a kind of. May be traced.
        keep: optional int, or int [...]: how many first hidden units count. Few of them give a concept that
            is easier to edit, many a more faithful one.
        key: random key in training, for :func:`nested_dropout`; None drops nothing.
        drop: how often it drops units.

    Returns:
        ``token`` [..., D] and ``bypass`` [..., D], None without one.

    Raises:
        ValueError: for features of another width.

    References:
        Y. Alaluf et al. (NeTI), arXiv:2305.15391.
    """
    features = on_device("features", features)
    kernel = params["anchors"]["kernel"]
    check_shape("features", features, (*[None] * (features.ndim - 1), len(kernel)))
    x = affine(params["anchors"], features)
    for name in ("first", "second"):
        x = layer_norm(params[name]["norm"], affine(params[name], x))
        x = jnp.where(x > 0, x, 0.01 * x)
    if keep is not None:
        x = x * prefix_mask(keep, x.shape[-1])
    x = x if key is None else nested_dropout(key, x, drop=drop)
    token = affine(params["token"], x)
    bypass = affine(params["bypass"], x) if "bypass" in params else None
    squares = sum(jnp.sum(y**2, axis=-1, keepdims=True) for y in (token, bypass) if y is not None)
    scale = norm / jnp.sqrt(jnp.where(squares > 0, squares, 1))
    return token * scale, None if bypass is None else bypass * scale


def nested_dropout(key, x, *, drop=0.5):
    """Nested dropout: keeps a random number of first units, so that these hold what matters most.

    With the probability ``drop`` a row keeps its first k of H units, k uniform in 0..H-1; others are zeros.

    >>> print(nested_dropout(jax.random.key(2), jnp.ones((2, 4)), drop=1.0))
    [[1. 1. 1. 0.]
     [1. 0. 0. 0.]]

    Args:
        key: random key.
        x: [..., H].
        drop: how often a row loses units.

    Returns:
        [..., H]. Kept units are not scaled up.

    References:
        O. Rippel et al., arXiv:1402.0915. NeTI draws whether to drop once for a batch, here for each row.
    """
    x = on_device("x", x)
    coin, count = jax.random.split(key)
    rows, width = x.shape[:-1], x.shape[-1]
    kept = jax.random.randint(count, rows, 0, width)
    kept = jnp.where(jax.random.bernoulli(coin, drop, rows), kept, width)
    return x * prefix_mask(kept, width).astype(x.dtype)


def bypass_states(states, bypass, slots, *, weight=0.2):
    """Textual bypass: adds a learned direction to a text encoder's states at the slot of a concept.

    ``E + weight |E| v / |v|`` at the slots. E are the states before the final layer norm. The result gives
    cross-attention its values, the plain states its keys; both go through that norm.

    >>> states = jnp.array([[3.0, 4.0], [1.0, 1.0]])
    >>> print(bypass_states(states, jnp.array([0.0, 9.0]), jnp.array([True, False])))
    [[3. 5.]
     [1. 1.]]

    Args:
        states: [..., T, D].
        bypass: [..., D] of :func:`map_tokens`; only its direction counts.
        slots: bool [..., T] or [T].
        weight: the length of what is added, beside that of the state.

    Returns:
        [..., T, D] in at least float32. A bypass of zeros changes nothing.

    Raises:
        ValueError: for a bypass or slots of another width.

    References:
        Y. Alaluf et al. (NeTI), arXiv:2305.15391.
    """
    states, bypass = on_device("states", states), on_device("bypass", bypass)
    check_shape("bypass", bypass, (*[None] * (bypass.ndim - 1), states.shape[-1]))
    slots = jnp.asarray(slots, bool)
    check_shape("slots", slots, (*[None] * (slots.ndim - 1), states.shape[-2]))
    states = states.astype(accumulator(states, bypass))
    bypass = bypass.astype(states.dtype)[..., None, :]
    squares = jnp.sum(bypass**2, axis=-1, keepdims=True)
    direction = bypass / jnp.sqrt(jnp.where(squares > 0, squares, 1))
    lengths = jnp.sqrt(jnp.sum(states**2, axis=-1, keepdims=True))
    return states + jnp.where(slots[..., None], weight * lengths * direction, 0)
