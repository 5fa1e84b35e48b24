"""What a checkpoint should hold: a checksum of every array, made where the array lives."""

import hashlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import files
from jaxembed.hashing import mix
from jaxembed.train.mesh import path_of


def checksums(tree):
    """Checksums: one 32-bit number for each array of a tree, whatever devices hold it.

    The sum of a scramble of every entry's bits and place, modulo 2**32. One changed entry always changes it.
    Other changes go unseen once in 2**32. It reads the arrays once, on their devices, and copies one number.

    >>> print(checksums({"w": jnp.arange(3.0)}), checksums({"w": jnp.arange(3.0)[::-1]}))
    {'w': 4237568830} {'w': 4146302821}

    Args:
        tree: nested dict (or other tree) of ``jax.Array``.

    Returns:
        {path: int}.
    """
    leaves = {path_of(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
    if not leaves:
        return {}
    sums = np.asarray(_sums(tuple(leaves.values())))
    return {name: int(value) for name, value in zip(leaves, sums, strict=True)}


@jax.jit
def _sums(leaves):
    return jnp.stack([_sum(x) for x in leaves])


def _sum(x):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag])
    words = _words(x)
    place, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for axis in reversed(range(words.ndim)):
        step = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * np.uint32(stride % 2**32)
        place, stride = place + step, stride * words.shape[axis]
    return jnp.sum(mix(words ^ mix(place + np.uint32(1))), dtype=jnp.uint32)


def _words(x):
    """The bits of an array as uint32, with a last axis of their own where an entry has 64."""
    bits = jax.dtypes.itemsize_bits(x.dtype)
    if x.dtype == jnp.bool_ or bits < 8:
        return x.astype(jnp.int32).astype(jnp.uint32)
    if bits > 32:
        return jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{bits}")).astype(jnp.uint32)


def record_of(state, numbers):
    """Record of a checkpoint: shape, dtype and checksum of every array, and the numbers of its evaluation.

    Args:
        state: dict of trees of ``jax.Array``.
        numbers: {name: float}, or None.

    Returns:
        JSON value with a seal, which :func:`opened` checks.
    """
    found = checksums(state)
    shapes = described(state)
    numbers = numbers and {k: v if math.isfinite(v) else repr(v) for k, v in numbers.items()}
    record = {"arrays": {k: [*shapes[k], found[k]] for k in found}, "numbers": numbers}
    return {"record": record, "seal": _seal(record)}


def described(tree):
    """{path: (shape, dtype as text)} of a tree of arrays or of what describes arrays."""
    leaves = jax.tree.leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {path_of(p): [list(x.shape), str(x.dtype)] for p, x in leaves if hasattr(x, "shape")}


def _seal(record):
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def opened(folder):
    """Reads the record of a checkpoint.

    Args:
        folder: of the checkpoint.

    Returns:
        {"arrays": {path: [shape, dtype, checksum]}, "numbers": {name: float} or None}, or None for a
        checkpoint of a version that wrote no record.

    Raises:
        ValueError: for a record that is damaged.
    """
    remedy = "use another checkpoint"
    path = folder / "_CHECKPOINT_METADATA"
    held = files.field(files.read_json(path, remedy), "custom_metadata", dict, str(path), remedy)
    if set(held) == {"meta"}:
        return None
    if set(held) != {"meta", "record", "seal"} or held["seal"] != _seal(held["record"]):
        raise ValueError(f"{path}: damaged, its seal is broken; {remedy}")
    record = held["record"]
    if record["numbers"]:
        record["numbers"] = {k: float(v) for k, v in record["numbers"].items()}
    return record


def difference(record, state):
    """Names the first array of a state that is not as its record says, or returns None.

    Args:
        record: from :func:`opened`.
        state: dict of trees of ``jax.Array``, any part of the state that was recorded.
    """
    for name, found in checksums(state).items():
        if found != record["arrays"][name][2]:
            return f"the numbers of {name} are not those that were saved"
    return None
