"""Traces of functions: how many multiplications they take, what every convolution reads and gives."""

import math

import jax
import jax.numpy as jnp

from jaxembed.weights._groups import path_of

PLAIN = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint")  # calls of a program
CALLS = (*PLAIN, "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where they keep it
COPIES = ("convert_element_type", "copy", "copy_p", "sharding_constraint")


def count_macs(function, *arguments, per_output=0):
    """Multiply-accumulates: how many the convolutions and matrix products of a function take.

    It reads the program and computes nothing. A convolution has h' w' kh kw in out of them for each picture,
    padding included; norms, sums and activations are free.

    >>> kernel, x = jnp.ones((3, 3, 4, 8)), jnp.ones((1, 16, 16, 4))
    >>> run = lambda x: jax.lax.conv_general_dilated(
    ...     x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ... )
    >>> print(count_macs(run, x), 16 * 16 * 9 * 4 * 8)
    73728 73728

    Args:
        function: of the arguments; all loops in it have a fixed length.
        arguments: trees of arrays of any shape [...], or of their ``jax.ShapeDtypeStruct``.
        per_output: operations added for each number that a convolution gives. With 4 the count is that of
            the package thop, which counts a batch norm after each of them.

    Returns:
        int. Of a ``cond`` the largest branch counts, whichever is taken.

    Raises:
        ValueError: for a while loop, whose length the program does not tell.
    """
    return _macs(jax.make_jaxpr(function)(*arguments).jaxpr, per_output)


def count_parameters(params):
    """Counts the numbers of a tree.

    >>> print(count_parameters({"kernel": jnp.ones((3, 3, 1, 8)), "bias": jnp.ones(8)}))
    80

    Args:
        params: tree of arrays of any shape [...], or of their ``jax.ShapeDtypeStruct``.

    Returns:
        int.
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _inner(params):
    """The programs inside of the parameters of an operation."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner


def _macs(jaxpr, per_output):
    total = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "while":
            raise ValueError("function: a while loop has no fixed length; count one step, or use a scan")
        if name == "conv_general_dilated":
            kernel, size = eqn.invars[1].aval.shape, math.prod(eqn.outvars[0].aval.shape)
            filters = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
            total += size * (math.prod(kernel) // filters + per_output)
        elif name == "dot_general":
            (axes, _), _ = eqn.params["dimension_numbers"]
            summed = math.prod(eqn.invars[0].aval.shape[axis] for axis in axes)
            total += summed * math.prod(eqn.outvars[0].aval.shape)
        else:
            counts = [_macs(inner, per_output) for inner in _inner(eqn.params)]
            times = eqn.params["length"] if name == "scan" else 1
            total += times * (max(counts) if name == "cond" else sum(counts))
    return total


def convolution_taps(function, params, *arguments):
    """Taps on convolutions: what each one reads and gives while a function runs.

    A convolution counts whose kernel is an array of ``params``. Nets need not be prepared for it.

    >>> params = {"first": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)}
    >>> def run(params, x):
    ...     x = jax.lax.conv_general_dilated(
    ...         x, params["first"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ...     )
    ...     return jax.nn.relu(x + params["bias"])
    >>> taps = convolution_taps(run, params, jnp.ones((1, 4, 4, 1)))
    >>> print({path: (t["inputs"].shape, t["outputs"].shape, t["stride"]) for path, t in taps.items()})
    {'first': ((1, 4, 4, 1), (1, 2, 2, 2), (2, 2))}

    Args:
        function: ``function(params, *arguments)``. It may be jitted; convolutions inside of loops are not
            seen.
        params: tree of arrays of any shape.
        arguments: trees of arrays of any shape.

    Returns:
        {path: {"kernel": [kh, kw, in, out], "inputs": [N, h, w, C], "outputs": [N, h', w', out], "stride":
        (int, int), "padding": ((int, int), (int, int)), "dilation": (int, int)}}, in this
        order of axes whatever the function uses: arguments of :func:`activation_spread`. A kernel that is
        used again has its first use here.

    Raises:
        ValueError: where no convolution reads an array of ``params``.
    """
    closed = jax.make_jaxpr(function)(params, *arguments)
    paths = [path_of(path) for path, _ in jax.tree.leaves_with_path(params)]
    leaves = jax.tree.leaves((params, *arguments))
    found = {}
    _run(closed.jaxpr, closed.consts, leaves, paths + [None] * (len(leaves) - len(paths)), found)
    if not found:
        raise ValueError("function: no convolution reads an array of params; pass the tree with its kernels")
    return found


def _run(jaxpr, consts, arguments, sources, found):
    """Evaluates a program; ``sources`` are the paths of arguments that are parameters, else None."""
    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, arguments, strict=True))
    origin = {var: path for var, path in zip(jaxpr.invars, sources, strict=True) if path is not None}

    def read(var):
        return var.val if hasattr(var, "val") else values[var]

    def source(var):
        return None if hasattr(var, "val") else origin.get(var)

    for eqn in jaxpr.eqns:
        name, given = eqn.primitive.name, [read(var) for var in eqn.invars]
        inner = next((eqn.params[key] for key in INNER if key in eqn.params), None)
        if name in CALLS and inner is not None:
            bare, constants = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
            results = _run(bare, constants, given, [source(var) for var in eqn.invars], found)
        else:
            results = eqn.primitive.bind(*given, **eqn.params)
            results = results if eqn.primitive.multiple_results else [results]
        if name == "conv_general_dilated" and source(eqn.invars[1]) not in (None, *found):
            found[source(eqn.invars[1])] = _tap(eqn.params, *given, results[0])
        if name in COPIES and source(eqn.invars[0]) is not None:
            origin[eqn.outvars[0]] = source(eqn.invars[0])
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(var) for var in jaxpr.outvars]


def _tap(options, inputs, kernel, outputs):
    """The arrays of one convolution with channels last, and how it moves."""
    numbers = options["dimension_numbers"]
    last = [(*spec[:1], *spec[2:], spec[1]) for spec in (numbers.lhs_spec, numbers.out_spec)]
    filters, read, *sides = numbers.rhs_spec
    return {
        "kernel": jnp.transpose(kernel, (*sides, read, filters)),
        "inputs": jnp.transpose(inputs, last[0]),
        "outputs": jnp.transpose(outputs, last[1]),
        "stride": tuple(options["window_strides"]),
        "padding": tuple(tuple(pair) for pair in options["padding"]),
        "dilation": tuple(options["rhs_dilation"]),
    }
