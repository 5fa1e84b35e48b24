"""Maps of several scales under a sentence: gate each, merge them from coarse to fine, read a mask."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape
from jaxembed.encoders.conv_layers import batch_norm, group_norm
from jaxembed.encoders.gates import gate, init_gate, modulate, squeeze
from jaxembed.encoders.mlp import XAVIER, product

NORMS = ("group", "batch")


def instance_norm(images, *, epsilon=1e-5):
    """Instance norm: makes the mean 0 and the variance 1 of each channel of each picture.

    It takes the place of a mean and deviation of some data set; use one of the two, never both.

    >>> print(instance_norm(jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)).ravel().round(3))
    [-1.  1.]

    Args:
        images: [B, H, W, C], floats, or uint8 that is divided by 255.
        epsilon: added to the variance.

    Returns:
        [B, H, W, C] in the dtype of ``images``, float32 of uint8. A channel of one value becomes 0.

    References:
        D. Ulyanov et al., arXiv:1607.08022. The network of arXiv:2309.11593 takes running averages when it
        does not train; here the statistics are always those of the picture.
    """
    images = jnp.asarray(images)
    images = images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
    check_shape("images", images, (None,) * 4)
    wide = images.astype(accumulator(images))
    wide = wide - jnp.mean(wide, axis=(1, 2), keepdims=True)
    spread = jnp.mean(wide**2, axis=(1, 2), keepdims=True)
    return (wide * jax.lax.rsqrt(spread + epsilon)).astype(images.dtype)


def init_conditioned(key, width, channels, *, scales="all", image=False, expansion=4.0, norm=True):
    """Gates of a pyramid: draws one gate for every scale, each with weights of its own.

    >>> params = init_conditioned(jax.random.key(0), 8, (4, 6), scales="last")
    >>> print(list(params), params["stage_1"]["mlp"]["layer_1"]["kernel"].shape)
    ['stage_1'] (32, 6)

    Args:
        key: random key; scale i draws from ``fold_in(key, i)``.
        width: D of the vectors.
        channels: of the maps, finest first.
        scales: "all", or "last" for a gate on the coarsest map only.
        image: True widens the input by the means of the map's channels.
        expansion: as in :func:`init_gate`.
        norm: as in :func:`init_gate`.

    Returns:
        {"stage_i": params of :func:`init_gate`}, only of gated scales.

    Raises:
        ValueError: for other scales.
    """
    if scales not in ("all", "last"):
        raise ValueError(f"scales: {scales!r}; choose 'all' or 'last'")
    first = 0 if scales == "all" else len(channels) - 1
    return {
        f"stage_{i}": init_gate(
            jax.random.fold_in(key, i),
            width + (channels[i] if image else 0),
            channels[i],
            expansion=expansion,
            norm=norm,
        )
        for i in range(first, len(channels))
    }


def condition_maps(params, maps, vectors, *, activation="softmax", residual=False, image=False, frozen=True):
    """Sentence attention on a pyramid: a vector weighs the channels of every scale.

    ``out_i = modulate(maps_i, gate_i(vectors))``. As released, the vector alone makes the factors and they
    are a softmax, so channels shrink about C times (see :func:`gate`); "scaled_softmax" undoes it.

    >>> params = init_conditioned(jax.random.key(0), 3, (2, 4))
    >>> maps = jnp.ones((1, 4, 4, 2)), jnp.ones((1, 2, 2, 4))
    >>> print([m.sum().round(3) for m in condition_maps(params, maps, jnp.ones((1, 3)))])
    [Array(16., dtype=float32), Array(4., dtype=float32)]

    Args:
        params: of :func:`init_conditioned`; a scale that it lacks stays as it is.
        maps: sequence of [B, h_i, w_i, C_i], finest first.
        vectors: [B, D], one sentence for each picture. What the paper's network encodes, the question or
            the question and the answer, is not in its released file: join the texts as you like.
        activation: of :func:`gate`.
        residual: True adds the map itself: ``maps_i + modulate(maps_i, gate)``.
        image: as in :func:`init_conditioned`.
        frozen: True sends no gradient to the vectors.

    Returns:
        Tuple of maps of the same shapes.

    References:
        S. Khoshsirat and C. Kambhamettu, arXiv:2309.11593.
    """
    vectors = jax.lax.stop_gradient(jnp.asarray(vectors)) if frozen else jnp.asarray(vectors)
    found = []
    for i, x in enumerate(maps):
        if f"stage_{i}" in params:
            given = jnp.concatenate([vectors, squeeze(x)], axis=1) if image else vectors
            scale = gate(params[f"stage_{i}"], given, activation=activation)
            x = modulate(x, 1 + scale if residual else scale)
        found.append(x)
    return tuple(found)


def init_merge(key, channels, *, norm="group"):
    """Merged pyramid: draws the parameters of :func:`merge_pyramid`.

    >>> params = init_merge(jax.random.key(0), (4, 8))
    >>> print(params["stage_1"]["kernel"].shape)
    (8, 4)

    Args:
        key: random key; scale i draws from ``fold_in(key, i)``.
        channels: of the maps, finest first.
        norm: "group", or "batch" as the paper has it.

    Returns:
        {"stage_i": {"kernel": [C_i, C_(i-1)], "norm": {"scale", "bias"}}} for i from 1. With "batch" a pair
        of it and the running statistics, the ``state``.

    Raises:
        ValueError: for another norm.
    """
    if norm not in NORMS:
        raise ValueError(f"norm: {norm!r}; choose one of {', '.join(map(repr, NORMS))}")
    params, state = {}, {}
    for i in range(1, len(channels)):
        size = channels[i - 1]
        kernel = XAVIER(jax.random.fold_in(key, i), (channels[i], size))
        params[f"stage_{i}"] = {
            "kernel": kernel,
            "norm": {"scale": jnp.ones(size), "bias": jnp.zeros(size)},
        }
        state[f"stage_{i}"] = {"mean": jnp.zeros(size), "variance": jnp.ones(size)}
    return (params, state) if norm == "batch" else params


def merge_pyramid(params, maps, *, state=None, train=False):
    """Merged pyramid: adds coarse maps to finer ones, from the coarsest down.

    ``maps[i-1] <- relu(resize(norm(maps[i] kernel_i)) + maps[i-1])`` for i from the last to 1. Only the
    coarse path is normalised; the finer map enters as it is, however small a gate made it.

    >>> params = init_merge(jax.random.key(0), (4, 8))
    >>> print(merge_pyramid(params, (jnp.ones((1, 6, 6, 4)), jnp.ones((1, 3, 3, 8)))).shape)
    (1, 6, 6, 4)

    Args:
        params: of :func:`init_merge`.
        maps: sequence of [B, h_i, w_i, C_i], finest first. Maps are resized bilinearly, pixels as areas
            (``align_corners=False`` elsewhere).
        state: running statistics of batch norm. None means group norm, which a small batch does not disturb;
            the paper has batch norm.
        train: True takes the moments of the batch; with a state only.

    Returns:
        [B, h_0, w_0, C_0] in the dtype of the finest map; with ``train`` a pair of it and the new state.

    Raises:
        ValueError: for maps in another order or of another number, or ``train`` without a state.

    References:
        S. Khoshsirat and C. Kambhamettu, arXiv:2309.11593, as released.
    """
    maps = tuple(jnp.asarray(x) for x in maps)
    if len(maps) != len(params) + 1:
        raise ValueError(
            f"maps: {len(maps)} of them for params of {len(params) + 1}; pass one for each scale"
        )
    if train and state is None:
        raise ValueError("state: None; pass the statistics that init_merge(norm='batch') returned")
    sizes = [x.shape[1:3] for x in maps]
    if any(
        a < b
        for fine, coarse in zip(sizes, sizes[1:], strict=False)
        for a, b in zip(fine, coarse, strict=True)
    ):
        raise ValueError(f"maps: sizes {sizes}; pass the finest first")
    x, new = maps[-1], {}
    for i in range(len(maps) - 1, 0, -1):
        layer, fine = params[f"stage_{i}"], maps[i - 1]
        low = product(x, layer["kernel"])
        if state is None:
            low = group_norm(layer["norm"], low)
        else:
            low, new[f"stage_{i}"] = batch_norm(layer["norm"], state[f"stage_{i}"], low, train=train)
        x = jax.nn.relu(resized(low, fine.shape[1:3]) + fine).astype(fine.dtype)
    return (x, new) if train else x


def init_mask_head(key, channels, classes=1):
    """Mask head: draws the parameters of :func:`mask_head`.

    >>> print(init_mask_head(jax.random.key(0), 8, 2)["kernel"].shape)
    (8, 2)

    Args:
        key: random key.
        channels: C of the maps.
        classes: 1 for one logit of "evidence", 2 for evidence and background.

    Returns:
        {"kernel": [C, classes], "bias": [classes]}.
    """
    return {"kernel": XAVIER(key, (channels, classes)), "bias": jnp.zeros(classes)}


def mask_head(params, maps, size, *, dropout=0.5, key=None):
    """Mask head: a logit for each class at each pixel, resized to the picture.

    >>> params = init_mask_head(jax.random.key(0), 4)
    >>> print(mask_head(params, jnp.ones((2, 6, 6, 4)), (24, 24)).shape)
    (2, 24, 24, 1)

    Args:
        params: of :func:`init_mask_head`.
        maps: [B, h, w, C], such as those of :func:`merge_pyramid`.
        size: (H, W) of the picture.
        dropout: share of the values that become 0 where a key is given; the rest is divided by
            ``1 - dropout``.
        key: random key; None means no dropout.

    Returns:
        [B, H, W, classes] in at least float32.

    Raises:
        ValueError: for maps of another width, or a dropout outside 0..1 or of 1.

    References:
        S. Khoshsirat and C. Kambhamettu, arXiv:2309.11593, as released.
    """
    x = jnp.asarray(maps)
    check_shape("maps", x, (None, None, None, params["kernel"].shape[0]))
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: {dropout}; pass a share from 0, below 1")
    if key is not None and dropout:
        x = jnp.where(jax.random.bernoulli(key, 1 - dropout, x.shape), x / (1 - dropout), 0).astype(x.dtype)
    return resized(product(x, params["kernel"]) + params["bias"], size)


def resized(x, size):
    """Bilinear resizing of [B, h, w, C] to (H, W), pixels as areas."""
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear", antialias=False)
