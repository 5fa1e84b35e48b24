"""Convolution kernels of a tree of parameters, as one kind of array: [kh, kw, in, out]."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.weights._groups import path_of

LAYOUTS = (None, "HWIO", "OIHW")
MOST = 64  # side of a kernel; wider arrays of four axes are kernels of attention, stacked by layer
NAMES = {  # how the last word of a path ends: the axes of its array
    "HWIO": re.compile(r"(kernel|weights)(:0)?$|(^|[/.])w$"),
    "OIHW": re.compile(r"weight$"),
}


def kernels(params, size=None, *, layout=None):
    """Convolution kernels: finds them in a tree of parameters and gives all of them one order of axes.

    The last word of a path tells the order. "kernel", "weights" and "w" are HWIO (Flax, Keras, Haiku, our
    nets), "weight" is OIHW (torch, Equinox). Arrays of other names are left out unless ``layout`` is given.

    >>> flax = {"conv": {"kernel": jnp.ones((3, 3, 1, 8)), "bias": jnp.zeros(8)}}
    >>> torch = {"conv.weight": np.ones((8, 1, 3, 3)), "fc.weight": np.ones((10, 8))}
    >>> print({path: w.shape for path, w in (kernels(flax) | kernels(torch)).items()})
    {'conv/kernel': (3, 3, 1, 8), 'conv.weight': (3, 3, 1, 8)}

    Of a depthwise convolution ``in`` is 1, and of one with G groups it is the inputs of one group: an array
    does not tell how many groups there are. Transposed convolutions of torch have their inputs first; their
    ``in`` and ``out`` change places here.

    Args:
        params: tree of arrays of any shape: nested dicts of Flax or of our readers, or a torch state dict
            whose tensors are arrays (``{name: x.numpy() for name, x in model.state_dict().items()}``).
        size: side of the kernels to keep, or (height, width); None keeps all.
        layout: None, or "HWIO" or "OIHW", the order of every float array of four axes, whatever its name.

    Returns:
        {path: [kh, kw, in, out]} in the order of the tree, in the dtype and the kind of its arrays. It is
        empty where nothing matches. Arrays with a side above 64 are not kernels of convolutions.

    Raises:
        ValueError: for a leaf that is not an array, an unknown layout, or a size that is not positive.
    """
    sides = None if size is None else _sides(size)
    found = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = path_of(path)
        order = _layout_of(name, leaf, layout)
        if order is not None:
            kernel = leaf if order == "HWIO" else leaf.transpose(2, 3, 1, 0)
            if sides in (None, tuple(kernel.shape[:2])):
                found[name] = kernel
    return found


def with_kernels(params, kernels, *, layout=None):
    """Puts kernels in the places that :func:`kernels` found them in, each in the order of axes it had there.

    >>> torch = {"conv.weight": np.zeros((8, 1, 3, 5)), "conv.bias": np.zeros(8)}
    >>> print(with_kernels(torch, {"conv.weight": np.ones((3, 5, 1, 8))})["conv.weight"].shape)
    (8, 1, 3, 5)

    Args:
        params: tree of arrays of any shape.
        kernels: {path: [kh, kw, in, out]}, for some or all of the paths of :func:`kernels`.
        layout: as :func:`kernels` has it.

    Returns:
        Tree like ``params``, in its dtypes.

    Raises:
        ValueError: for a path that is not that of a kernel, or a kernel of another shape.
    """
    places = _paths(params, layout)
    for name, kernel in kernels.items():
        if name not in places:
            raise ValueError(f"kernels: {name!r} is not among the params; pass paths of kernels(params)")
        if tuple(kernel.shape) != places[name]:
            raise ValueError(f"kernels: {name!r} is {kernel.shape}; the params have {places[name]}")

    def placed(path, leaf):
        name = path_of(path)
        if name not in kernels:
            return leaf
        order = _layout_of(name, leaf, layout)
        kernel = kernels[name] if order == "HWIO" else kernels[name].transpose(3, 2, 0, 1)
        return kernel.astype(leaf.dtype)

    return jax.tree.map_with_path(placed, params)


def kernel_rows(kernel):
    """Slices of a kernel: a row of kh * kw numbers for each pair of an input and an output channel.

    ``rows[i * out + o, y * kw + x] = kernel[y, x, i, o]``

    >>> print(kernel_rows(jnp.arange(4.0).reshape(1, 2, 1, 2)))
    [[0. 2.]
     [1. 3.]]

    Args:
        kernel: [kh, kw, in, out].

    Returns:
        [in * out, kh * kw].
    """
    kh, kw, inputs, outputs = check_kernel(kernel).shape
    return kernel.reshape(kh * kw, inputs * outputs).T


def _layout_of(name, leaf, layout=None):
    """The order of axes of a leaf, "HWIO" or "OIHW"; None where it is not the kernel of a convolution."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout: {layout!r}; pass None, 'HWIO' or 'OIHW'")
    if not hasattr(leaf, "transpose") or not hasattr(leaf, "astype"):
        kind = type(leaf).__name__
        if isinstance(leaf, int | float | complex | np.generic):
            return None
        raise ValueError(f"params: {name!r} is a {kind}, not an array; pass x.numpy() of torch's tensors")
    if leaf.ndim != 4 or not jnp.issubdtype(leaf.dtype, jnp.floating) or not leaf.size:
        return None
    order = layout or next((o for o, pattern in NAMES.items() if pattern.search(name)), None)
    sides = leaf.shape[:2] if order == "HWIO" else leaf.shape[2:]
    return order if max(sides) <= MOST else None


def check_kernel(kernel):
    """The kernel, where it is [kh, kw, in, out]; refuses other arrays."""
    if getattr(kernel, "ndim", None) != 4:
        raise ValueError(f"kernel: shape {np.shape(kernel)}; pass [kh, kw, in, out], see weights.kernels")
    return kernel


def _paths(params, layout):
    return {name: tuple(kernel.shape) for name, kernel in kernels(params, layout=layout).items()}


def _sides(size):
    """(height, width) of a side or of both."""
    sides = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(sides) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in sides):
        raise ValueError(f"size: {size!r}; pass a side such as 3, or (height, width)")
    return tuple(map(int, sides))
