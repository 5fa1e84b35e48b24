"""ResNet-56 of CIFAR and VGG-16 with batch norm as plain trees, by widths, to compare counts with."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Net(NamedTuple):
    """``init(widths) -> params`` and ``logits(params, images)``."""

    init: object
    logits: object


def conv(read, width):
    return {"kernel": jnp.ones((3, 3, read, width)), "scale": jnp.ones(width), "shift": jnp.ones(width)}


def dense(read, classes):
    return {"kernel": jnp.ones((read, classes)), "bias": jnp.ones(classes)}


def run(layer, x, stride=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    pads = ((1, 1), (1, 1))
    x = jax.lax.conv_general_dilated(x, layer["kernel"], (stride, stride), pads, dimension_numbers=numbers)
    return x * layer["scale"] + layer["shift"]


def head(layer, x):
    return jnp.mean(x, axis=(1, 2)) @ layer["kernel"] + layer["bias"]


def pruned_resnet_widths(rates, blocks=9):
    """Widths of the stem, and for each block of the middle and of the result."""
    stem = int(16 * (1 - rates[0]))
    found = [stem]
    for stage, width in enumerate((16, 32, 64)):
        out = width if stage == 2 else int(width * (1 - rates[1 + stage]))
        for block in range(blocks):
            found.append((int(width * (1 - rates[3 + stage * blocks + block])), out))
    return found


def resnet(classes, blocks=9):
    """Residual blocks whose shortcuts have no parameters: channels that lack are zeros, others are cut."""

    def init(widths):
        read, layers = widths[0], {"stem": conv(3, widths[0])}
        for i, (middle, out) in enumerate(widths[1:]):
            layers[f"block_{i}"] = {"first": conv(read, middle), "second": conv(middle, out)}
            read = out
        return layers | {"dense": dense(read, classes)}

    def logits(params, x):
        x = jax.nn.relu(run(params["stem"], x))
        for i in range(3 * blocks):
            layer, stride = params[f"block_{i}"], 2 if i in (blocks, 2 * blocks) else 1
            y = run(layer["second"], jax.nn.relu(run(layer["first"], x, stride)))
            lack = y.shape[-1] - x.shape[-1]
            short = jnp.pad(x[:, ::stride, ::stride, : y.shape[-1]], ((0, 0),) * 3 + ((0, max(0, lack)),))
            x = jax.nn.relu(y + short)
        return head(params["dense"], x)

    return Net(init, logits)


def vgg(classes):
    """13 convolutions with bias; the last one is followed by a norm of its own and a dense layer."""
    halved = (1, 3, 6, 9)

    def init(widths):
        layers, read = {}, 3
        for i, width in enumerate(widths):
            layers[f"conv_{i}"] = conv(read, width) | {"bias": jnp.ones(width)}
            read = width
        layers["hidden"] = dense(read, 512) | {"scale": jnp.ones(512), "shift": jnp.ones(512)}
        return layers | {"dense": dense(512, classes)}

    def logits(params, x):
        for i in range(13):
            x = jax.nn.relu(run(params[f"conv_{i}"], x))
            if i in halved:
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = jax.nn.relu(head(params["hidden"], x))
        return x @ params["dense"]["kernel"] + params["dense"]["bias"]

    return Net(init, logits)
