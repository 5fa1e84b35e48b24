"""Devices in a mesh, and rules on paths that say where each array lives."""

import functools
import re

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxembed.checks import check_integers


def make_mesh(data=None, model=1):
    """Device mesh: arranges all devices along the axes "data" and "model".

    >>> make_mesh(data=1).shape["model"]
    1

    Args:
        data: devices along which batches are split; default all devices divided by ``model``.
        model: devices along which parameters are split.

    Returns:
        A ``jax.sharding.Mesh`` with Auto axes over the first data * model devices.

    Raises:
        ValueError: when data * model is more than the devices there are, or does not divide them.
    """
    count = jax.device_count()
    if data is None:
        if model < 1 or count % model:
            raise ValueError(f"model={model} does not divide the {count} devices")
        data = count // model
    if min(data, model) < 1 or data * model > count:
        raise ValueError(f"data={data}, model={model}: need {data * model} devices, there are {count}")
    devices = jax.devices()[: data * model]
    return jax.make_mesh((data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=devices)


def path_of(path):
    """Writes a tree path as "blocks/attention/query/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def path_shardings(tree, mesh, rules, *, params=None):
    """Shardings by path: gives every array that of the first rule whose regex is found in its path.

    Arrays that no rule names are replicated, and so are arrays with fewer axes than the rule's spec (scalars
    of an optimiser, say). With ``params``, a path that ends in the path of a parameter is matched by that
    path alone. So optimiser states are where their parameters are.

    >>> tree = {"table": {"embedding": np.zeros((8, 2))}, "bias": np.zeros(2)}
    >>> specs = path_shardings(tree, make_mesh(data=1), [(r"table/", P("model", None))])
    >>> print(tuple(specs["table"]["embedding"].spec), tuple(specs["bias"].spec))
    ('model', None) ()

    Args:
        tree: tree of arrays or ``jax.ShapeDtypeStruct`` of any shape.
        mesh: mesh that holds the axes named by the rules.
        rules: sequence of (regex, PartitionSpec).
        params: optional tree of the parameters to which ``tree`` is the optimiser state.

    Returns:
        A tree of ``NamedSharding`` like ``tree``.

    Raises:
        ValueError: when an axis of an array is not divisible by the devices that its rule names.
    """

    known = {path_of(path) for path, _ in jax.tree.leaves_with_path(params)}

    def place(path, leaf):
        name = path_of(path)
        ends = (name[start + 1 :] for start, letter in enumerate(name) if letter == "/")
        judged = next((end for end in ends if end in known), name)
        for pattern, spec in rules:
            if re.search(pattern, judged):
                if len(spec) > np.ndim(leaf):
                    break
                _check(name, np.shape(leaf), mesh, spec)
                return NamedSharding(mesh, spec)
        return NamedSharding(mesh, P())

    return jax.tree.map_with_path(place, tree)


def _check(name, shape, mesh, spec):
    for size, axes in zip(shape, spec, strict=False):
        axes = () if axes is None else axes if isinstance(axes, tuple) else (axes,)
        devices = int(np.prod([mesh.shape[a] for a in axes]))
        if size % devices:
            raise ValueError(
                f"{name}: {size} rows are not divisible by the {devices} devices of mesh axis "
                f"{'/'.join(axes)}; pad to a multiple of {devices} or use a smaller mesh (make_mesh)"
            )


def place_batch(batch, mesh, rules):
    """Batch placement: puts this process's rows of a batch on the mesh, by the same kind of rules.

    The global array is that of all processes, one after the other. Where the sharding puts the rows of a
    process on its own devices, nothing is moved. Otherwise the devices exchange the rows: for a list that is
    replicated, or an axis of the mesh that does not follow the processes.

    Args:
        batch: tree of NumPy arrays [B / processes, ...] of the same shape in every process. Scalars are the
            same in every process.
        mesh: mesh.
        rules: sequence of (regex, PartitionSpec).

    Returns:
        The tree as global ``jax.Array`` [B, ...].

    Raises:
        ValueError: for rows that the devices do not divide, and what is not an array of numbers, such as
            texts. Also for a number of the host beyond the 32 bits that JAX keeps without
            ``jax_enable_x64``.
    """
    processes = jax.process_count()
    for path, leaf in jax.tree.leaves_with_path(batch):
        if not isinstance(leaf, jax.Array):
            _check_numbers(f"batches: {path_of(path)}", leaf)

    def whole(leaf):
        shape = np.shape(leaf)
        return jax.ShapeDtypeStruct(
            (shape[0] * processes, *shape[1:]) if shape else (), np.asarray(leaf).dtype
        )

    try:
        shardings = path_shardings(jax.tree.map(whole, batch), mesh, rules)
    except ValueError as error:
        raise ValueError(f"batches: {error}") from None
    if processes == 1:
        return jax.device_put(batch, shardings)
    return jax.tree.map(_joined, batch, shardings)


def _check_numbers(name, leaf):
    """Refuses what is not an array of numbers, and a finite number that JAX would wrap or make infinite."""
    try:
        array = np.asarray(leaf)
    except ValueError:
        raise ValueError(f"{name}: is ragged; pad it to an array") from None
    if isinstance(leaf, str | bytes) or array.dtype.kind in "USOMm":
        kind = "texts" if array.dtype.kind in "US" else f"{array.dtype}"
        raise ValueError(
            f"{name}: holds {kind}, not numbers; leave it out of the batch, or make numbers of it"
        )
    check_integers(name, array)
    if array.dtype.kind not in "fc" or jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype:
        return
    narrow = jax.dtypes.canonicalize_dtype(array.dtype)
    with np.errstate(over="ignore"):
        lost = np.isfinite(array) & ~np.isfinite(array.astype(narrow))
    if lost.any():
        raise ValueError(
            f"{name}: {array[lost].flat[0]} is beyond {narrow}; scale the numbers, or set jax_enable_x64"
        )


def _joined(local, sharding):
    """The global array of what every process holds, first axis joined in the order of the processes."""
    local = np.asarray(local)
    if local.ndim == 0:
        return jax.make_array_from_process_local_data(sharding, local, ())
    shape = (local.shape[0] * jax.process_count(), *local.shape[1:])
    if _follows_processes(sharding, shape):
        return jax.make_array_from_process_local_data(sharding, local, shape)
    array = jax.make_array_from_process_local_data(_by_process(sharding), local, shape)
    return jax.device_put(array, sharding)


@functools.lru_cache(maxsize=256)
def _follows_processes(sharding, shape):
    """Tells whether every device holds whole rows of its own process alone."""
    rows = shape[0] // jax.process_count()

    def own(device, index):
        first, last, _ = index[0].indices(shape[0])
        whole = all(i.indices(n) == (0, n, 1) for i, n in zip(index[1:], shape[1:], strict=True))
        return whole and device.process_index * rows <= first and last <= (device.process_index + 1) * rows

    return all(own(device, index) for device, index in sharding.devices_indices_map(shape).items())


@functools.lru_cache(maxsize=16)
def _by_process(sharding):
    """The sharding that gives every process its own rows, each of its devices all of them."""
    devices = sorted(sharding.device_set, key=lambda d: (d.process_index, d.id))
    grid = np.asarray(devices).reshape(jax.process_count(), -1)
    return NamedSharding(jax.sharding.Mesh(grid, ("process", "device")), P("process"))
