"""The networks that are looked at: published ones, the same drawn anew, and a file of the user."""

import functools
import re

import jax
import numpy as np

from jaxembed import encoders, weights
from jaxembed.encoders.pretrained.pickled import read_pickled
from jaxembed.encoders.pretrained.tensors import read_safetensors

PUBLISHED = {
    "SqueezeNet": encoders.squeezenet,
    "MobileNetV2": encoders.mobilenet_v2,
    "EfficientNet-lite0": encoders.efficientnet_lite0,
}
FIRST, LAST = ("stem", "conv1"), ("head", "conv10", "classifier")
PICKLES = (".pt", ".pth", ".bin", ".pkl")
FAULTS = {
    "dead": "dead: all its kernels are near 0",
    "alike": "low in diversity: its kernels repeat one another",
    "random": "as diverse as random kernels: it may be untrained or wider than needed",
}


@functools.cache
def published():
    """{name: params} of the networks whose weights packages carry."""
    return {name: load().params for name, load in PUBLISHED.items()}


def installed():
    """Refuses a run without their packages, with the command that brings them."""
    published()


def drawn_anew(params):
    """The same networks with kernels from He's initialiser."""
    return weights.redraw_kernels(jax.random.key(0), params, jax.nn.initializers.he_normal())


def look(path):
    """Refuses a path that is not a file of weights."""
    if not path.is_file():
        kind = "no such folder or file" if not path.exists() else "a folder"
        raise ValueError(f"--model: {path}: {kind}; pass a file such as model.safetensors")
    if path.suffix not in (".safetensors", ".npz", *PICKLES):
        known = ", ".join((".safetensors", ".npz", *PICKLES))
        raise ValueError(f"--model: {path}: its name ends with {path.suffix!r}; pass one of {known}")


def read(path):
    """The arrays of a file of weights; nothing in it is run."""
    look(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if path.read_bytes()[:2] == b"PK":
        raise ValueError(
            f"--model: {path}: in PyTorch's format since 1.6; save the state dict as safetensors"
        )
    return read_pickled(path)


def by_depth(paths):
    """Paths from the first layer to the last: names that begin or end a net, numbers by their value."""

    def place(path):
        top = re.split(r"[/.]", path)[0]
        ends = -1 if top in FIRST else 1 if top in LAST else 0
        return ends, [
            (not part.isdigit(), int(part) if part.isdigit() else 0, part)
            for part in re.findall(r"\d+|\D+", path)
        ]

    return sorted(paths, key=place)
