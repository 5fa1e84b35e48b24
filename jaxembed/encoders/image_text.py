"""Image and text towers: pictures and captions become vectors of one space."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

LEAST = 0.01  # CLIP's multiplier is at most 100


class ImageText(NamedTuple):
    """Encoders of pictures and of texts into one space, as three functions.

    ``init(key) -> params``; ``encode_images(params, images, key=None) -> [B, D]``; ``encode_texts(params,
    batch, key=None) -> [B, D]``. Vectors are not normalised.
    """

    init: Callable
    encode_images: Callable
    encode_texts: Callable


def init_scale(*, temperature=0.07, bias=-10.0):
    """Learnable scale: draws the temperature and the bias that CLIP's and SigLIP's losses learn.

    >>> print(init_scale(temperature=1.0))
    {'log_temperature': Array(0., dtype=float32), 'bias': Array(-10., dtype=float32)}

    Args:
        temperature: positive number at the start; CLIP takes 0.07, SigLIP 0.1.
        bias: of SigLIP at the start.

    Returns:
        {"log_temperature": [], "bias": []}.
    """
    return {"log_temperature": jnp.log(jnp.float32(temperature)), "bias": jnp.float32(bias)}


def learned_temperature(scale):
    """Learnable scale: the temperature, never below 0.01, as CLIP clips it.

    >>> print(learned_temperature({"log_temperature": jnp.float32(-9.0)}))
    0.01

    Args:
        scale: of :func:`init_scale`.

    Returns:
        Number [], for ``losses.info_nce(temperature=)`` or ``losses.sigmoid_loss(temperature=)``.

    References:
        A. Radford et al. (CLIP), arXiv:2103.00020; X. Zhai et al. (SigLIP), arXiv:2303.15343.
    """
    return jnp.exp(jnp.maximum(scale["log_temperature"], jnp.log(LEAST)))


def dual_encoder(image, text, *, maps=None, temperature=0.07, bias=-10.0):
    """Dual encoder: a tower of pictures and a tower of texts, each with a linear map into one space.

    >>> tower = lambda key: {"w": jax.random.normal(key, (4, 6))}, lambda params, x, key=None: x @ params["w"]
    >>> model = dual_encoder(tower, tower, maps=(6, 6, 3))
    >>> params = model.init(jax.random.key(0))
    >>> print(sorted(params), model.encode_images(params, jnp.ones((2, 4))).shape)
    ['image', 'image_map', 'scale', 'text', 'text_map'] (2, 3)

    Args:
        image: tower of pictures: ``(init, encode)`` with ``init(key) -> params`` and ``encode(params, images,
            key=None) -> [B, D']``; or what has such fields (``encoders.convnet``); or what has ``params`` in
            place of ``init`` (``encoders.ImageEncoder``), which start as they are.
        text: tower of texts likewise, such as one of ``encoders.pretrained.load``.
        maps: optional (width of the image tower, of the text tower, D): linear maps into D. None takes the
            vectors of the towers as they are; both have the width D then.
        temperature, bias: of :func:`init_scale`.

    Returns:
        :class:`ImageText`; its params are "image", "text", "scale", and with maps "image_map" and "text_map"
        {"kernel" [D', D]}.

    Raises:
        ValueError: when drawn, for a tower that has statistics of batches beside its parameters.

    References:
        A. Radford et al. (CLIP), arXiv:2103.00020.
    """
    towers = {"image": _functions(image), "text": _functions(text)}

    def init(key):
        params = {"scale": init_scale(temperature=temperature, bias=bias)}
        for i, (name, (draw, _)) in enumerate(towers.items()):
            drawn, mapped = jax.random.split(jax.random.fold_in(key, i))
            params[name] = draw(drawn)
            if isinstance(params[name], tuple):
                raise ValueError(f'{name}: has statistics of batches; build it with norm="group"')
            if maps is not None:
                shape = (maps[i], maps[2])
                kernel = jax.random.normal(mapped, shape) * maps[i] ** -0.5
                params[f"{name}_map"] = {"kernel": kernel}
        return params

    def encoded(name):
        def encode(params, x, key=None):
            vectors = towers[name][1](params[name], x, key)
            return vectors if maps is None else vectors @ params[f"{name}_map"]["kernel"]

        return encode

    return ImageText(init, encoded("image"), encoded("text"))


def _functions(tower):
    """(init, encode) of a tower."""
    if hasattr(tower, "params"):
        return lambda key: jax.tree.map(jnp.array, tower.params), tower.encode
    return (tower.init, tower.encode) if hasattr(tower, "encode") else tuple(tower)


def shared_encoder(model, patches, *, placeholder=1, end=2, temperature=0.07, bias=-10.0):
    """Shared trunk: one transformer reads the patches of a picture, and the tokens of a text.

    A picture is a row of placeholders and the end; a text is a row of its tokens and the end, as
    ``data.multimodal_batch`` makes it.

    >>> from jaxembed.encoders.multimodal import multimodal
    >>> model = multimodal(10, 4, patches=2, length=6, width=8, layers=1, heads=2)
    >>> shared = shared_encoder(model, lambda images: images.reshape(len(images), 2, 4))
    >>> params = shared.init(jax.random.key(0))
    >>> print(sorted(params), shared.encode_images(params, jnp.ones((3, 2, 4, 1))).shape)
    ['scale', 'trunk'] (3, 8)

    Args:
        model: of :func:`multimodal`.
        patches: ``images [B, H, W, C] -> [B, P, F]``, such as ``data.image_patches`` at one size.
        placeholder, end: ids of those tokens.
        temperature, bias: of :func:`init_scale`.

    Returns:
        :class:`ImageText`; its params are "trunk" and "scale".

    References:
        H. You et al. (MS-CLIP), arXiv:2207.12661: most of the parameters serve both sides.
    """

    def init(key):
        return {"trunk": model.init(key), "scale": init_scale(temperature=temperature, bias=bias)}

    def encode_images(params, images, key=None):
        cut = patches(images)
        count, most = cut.shape[:2]
        ids = jnp.full((count, most + 1), placeholder, jnp.int32).at[:, -1].set(end)
        batch = {"ids": ids, "mask": jnp.ones(ids.shape, bool), "patches": cut}
        return model.encode(params["trunk"], batch, key)

    def encode_texts(params, batch, key=None):
        return model.encode(params["trunk"], batch, key)

    return ImageText(init, encode_images, encode_texts)
