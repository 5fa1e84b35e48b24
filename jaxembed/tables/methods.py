"""Methods: one contract for every way to store a table in fewer bytes."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.tables.updates import distinct


class Method(NamedTuple):
    """Compression method: a way to store vectors of values, as functions of its parameters.

    ``ids`` are integers [...] where the method was made for one vocabulary (``sizes`` an int), and {feature:
    integers [...]} where it was made for several (``sizes`` a dict). The vectors then are [..., D], or
    {feature: [..., D]}: one vector for each id, not pooled. Ids are checked as
    :func:`~jaxembed.tables.codes` does.

    Args:
        init: ``key -> params``, what is trained.
        vectors: ``(params, ids, key=None) -> vectors``; params of training or deployed. A key draws the noise
            of training where the method has some.
        penalty: ``params -> scalar``, added to the loss; 0 where the method has none.
        bytes: ``params -> int``: those of the arrays, in training or deployed. Arrays that the method holds
            in training beside the params (a map of frequent values, say) count. Shapes will do.
        deploy: ``params -> params``, what is stored and served. Its vectors are those of training without a
            key, unless the method's docstring says otherwise.
        settings: JSON-able dict with "method": give it to ``train.fit`` as ``meta``.
        codes: ``ids -> {path: {feature: codes [..., reads]}}``, which rows of which parameters are read; on
            the host for NumPy. None where a method reads no rows.
        read: ``(params, codes, key=None) -> vectors``, with codes that may point into a list of rows
            (:func:`touched_rows`). ``vectors(params, ids)`` is ``read(params, codes(ids))``.
    """

    init: Callable
    vectors: Callable
    penalty: Callable
    bytes: Callable
    deploy: Callable
    settings: dict
    codes: Callable | None = None
    read: Callable | None = None


VALUES = "values"  # names the one feature of a method of a single vocabulary, in codes


class Values(NamedTuple):
    """The values of all features, numbered through: those of feature f begin at ``starts[f]``.

    Args:
        sizes: {feature: number of values}.
        starts: {feature: number of its first value}.
        total: number of all values.
        single: True where ``sizes`` was an int; its one feature is "values".
    """

    sizes: dict
    starts: dict
    total: int
    single: bool

    def named(self, ids):
        """{feature: ids}, whichever form they came in."""
        return {VALUES: ids} if self.single else ids

    def unnamed(self, found):
        """What the caller gets: of a single vocabulary the array itself."""
        return found[VALUES] if self.single else found


def values_of(sizes):
    """Numbers the values of all features through.

    >>> print(values_of({"user": 3, "film": 5}).starts)
    {'user': 0, 'film': 3}

    Args:
        sizes: int, or {feature: int}, each at least 1.

    Returns:
        :class:`Values`.

    Raises:
        ValueError: for no feature, a size below 1, or 2**31 values and more.
    """
    single = not isinstance(sizes, Mapping)
    sizes = {VALUES: sizes} if single else dict(sizes)
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"sizes: feature {name!r} has {size!r} values; give an int of at least 1")
    sizes = {name: int(size) for name, size in sizes.items()}
    total = sum(sizes.values())
    if not sizes or total >= 2**31:
        raise ValueError(f"sizes: {len(sizes)} features with {total} values; give 1 to 2**31 - 1 values")
    starts = np.cumsum([0, *sizes.values()]).tolist()
    return Values(sizes, dict(zip(sizes, starts, strict=False)), total, single)


def numbers_of(values, ids):
    """Ids of features as numbers of values, 0 to N - 1.

    >>> print(numbers_of(values_of({"user": 3, "film": 5}), {"film": np.array([4])}))
    {'film': array([7], dtype=int32)}

    Args:
        values: :class:`Values`.
        ids: {feature: integers [...]}, or integers [...] of a single vocabulary. Features may be left out.

    Returns:
        {feature: int32 [...]}; NumPy for NumPy. Under jit a bad id has number -1, which reads zeros.

    Raises:
        ValueError: for an unknown feature, a dtype that is not integer, or an id outside its vocabulary.
    """
    found = {}
    for name, given in values.named(ids).items():
        if name not in values.sizes:
            raise ValueError(f"ids: {name!r} is not a feature; choose among {sorted(values.sizes)}")
        xp = jnp if isinstance(given, jax.Array) else np
        given, size, what = xp.asarray(given), values.sizes[name], f"feature {name!r}"
        if not xp.issubdtype(given.dtype, xp.integer):
            raise ValueError(f"ids: {what} has dtype {given.dtype}; give integers")
        bad = (given < 0) | (given >= size)
        if not isinstance(given, jax.core.Tracer) and (xp is np or given.is_fully_addressable):
            wrong = np.asarray(given)[np.asarray(bad)]
            if wrong.size:
                raise ValueError(f"ids: {what} holds id {wrong[0]}; ids are 0 to {size - 1}")
        number = given.astype(np.int32) + np.int32(values.starts[name])
        found[name] = number if xp is np else jnp.where(bad, -1, number)
    return found


def at_once(function, codes):
    """Applies a function of rows to the codes of all features together: one gather in place of many.

    >>> found = at_once(lambda rows: 2.0 * rows, {"a": np.array([[1], [2]]), "b": np.array([[5]])})
    >>> print(found["a"].ravel(), found["b"].ravel())
    [2. 4.] [10.]

    Args:
        function: ``integers [M, reads] -> [M, D]``.
        codes: {feature: integers [..., reads]}, reads equal for all features.

    Returns:
        {feature: [..., D]}.
    """
    flat = [jnp.asarray(c).reshape(-1, c.shape[-1]) for c in codes.values()]
    if not flat:
        return {}
    found = function(jnp.concatenate(flat) if len(flat) > 1 else flat[0])
    parts = jnp.split(found, np.cumsum([len(c) for c in flat])[:-1]) if len(flat) > 1 else [found]
    return {
        name: part.reshape(*c.shape[:-1], found.shape[-1])
        for (name, c), part in zip(codes.items(), parts, strict=True)
    }


def counted_bytes(params):
    """Memory: the bytes of all arrays of a tree.

    >>> counted_bytes({"table": jnp.zeros((5, 4)), "codes": jnp.zeros(3, jnp.uint8)})
    83

    Args:
        params: tree of arrays [...], or of their shapes.

    Returns:
        int.
    """
    return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(params))


def storage_bytes(method):
    """Memory of a method as it is stored and served, before anything is trained.

    >>> from jaxembed.tables import full_table
    >>> storage_bytes(full_table(100, 16))
    6400

    Args:
        method: :class:`Method`.

    Returns:
        int, that of ``method.bytes(method.deploy(params))``.
    """
    return method.bytes(jax.eval_shape(lambda key: method.deploy(method.init(key)), jax.random.key(0)))


def training_bytes(method):
    """Memory of the parameters of a method in training, without gradients and state of the optimiser.

    >>> from jaxembed.tables import full_table
    >>> training_bytes(full_table(100, 16))
    6400

    Args:
        method: :class:`Method`.

    Returns:
        int, that of ``method.bytes(params)``.
    """
    return method.bytes(jax.eval_shape(method.init, jax.random.key(0)))


def row_method(settings, values, init, codes, read, *, deploy=None, penalty=None, held=0):
    """Puts a :class:`Method` together whose vectors are made of rows.

    Args:
        settings: dict with "method".
        values: :class:`Values`.
        init: ``key -> params``.
        codes: ``{feature: numbers [...]} -> {path: {feature: codes [..., reads]}}``.
        read: ``(params, those codes, key) -> {feature: [..., D]}``.
        deploy: ``params -> params``; None keeps them.
        penalty: ``params -> scalar``; None means 0.
        held: bytes that training holds beside the params; deployed params carry them as leaves, and then
            have the key "index".
    """

    def codes_of(ids):
        return codes(numbers_of(values, ids))

    def read_named(params, found, key=None):
        return values.unnamed(read(params, found, key))

    return Method(
        init=init,
        vectors=lambda params, ids, key=None: read_named(params, codes_of(ids), key),
        penalty=penalty or (lambda params: jnp.zeros(())),
        bytes=lambda params: counted_bytes(params) + (0 if "index" in params else held),
        deploy=deploy or (lambda params: params),
        settings=settings,
        codes=codes_of,
        read=read_named,
    )


def single(method):
    """The method of one vocabulary, of a method whose only feature is called "values"."""
    return method._replace(
        vectors=lambda params, ids, key=None: method.vectors(params, {VALUES: ids}, key)[VALUES],
        codes=lambda ids: method.codes({VALUES: ids}),
        read=lambda params, codes, key=None: method.read(params, codes, key)[VALUES],
    )


def per_feature(methods):
    """A method for each feature: features share nothing, and each may be stored in a way of its own.

    >>> from jaxembed.tables import full_table, hash_table
    >>> m = per_feature({"user": hash_table(1000, 4, rows=10), "gender": full_table(3, 4)})
    >>> found = m.vectors(m.init(jax.random.key(0)), {"user": np.array([7, 8]), "gender": np.array([0, 2])})
    >>> print(found["user"].shape, storage_bytes(m))
    (2, 4) 208

    Args:
        methods: {feature: :class:`Method` of one vocabulary}.

    Returns:
        :class:`Method` of all features, whose params are {feature: params}.

    Raises:
        ValueError: for no feature.
    """
    if not methods:
        raise ValueError("methods: is empty; give {feature: Method}")
    methods = dict(methods)

    def init(key):
        return {n: m.init(jax.random.fold_in(key, i)) for i, (n, m) in enumerate(methods.items())}

    def each(name):
        return lambda params: {n: getattr(m, name)(params[n]) for n, m in methods.items()}

    def codes(ids):
        _check_names(ids, methods)
        found = {n: methods[n].codes(x) for n, x in ids.items()}
        return {f"{n}/{path}": _renamed(g, VALUES, n) for n, p in found.items() for path, g in p.items()}

    def read(params, codes, key=None):
        found = {}
        for name in dict.fromkeys(path.partition("/")[0] for path in codes):
            own = {p.removeprefix(name + "/"): g for p, g in codes.items() if p.startswith(name + "/")}
            own = {path: _renamed(group, name, VALUES) for path, group in own.items()}
            found[name] = methods[name].read(params[name], own, _folded(key, methods, name))
        return found

    def vectors(params, ids, key=None):
        _check_names(ids, methods)
        return {n: methods[n].vectors(params[n], x, _folded(key, methods, n)) for n, x in ids.items()}

    rows = all(m.codes is not None for m in methods.values())
    return Method(
        init=init,
        vectors=vectors,
        penalty=lambda params: sum(m.penalty(params[n]) for n, m in methods.items()),
        bytes=lambda params: sum(m.bytes(params[n]) for n, m in methods.items()),
        deploy=each("deploy"),
        settings={"method": "per_feature", "features": {n: m.settings for n, m in methods.items()}},
        codes=codes if rows else None,
        read=read if rows else None,
    )


def _renamed(group, old, new):
    return {new + name.removeprefix(old): codes for name, codes in group.items()}


def _folded(key, methods, name):
    return None if key is None else jax.random.fold_in(key, list(methods).index(name))


def _check_names(ids, known):
    unknown = sorted(set(ids) - set(known))
    if unknown:
        raise ValueError(f"ids: {unknown} are not features; choose among {sorted(known)}")


def touched_rows(method, ids, masks, size, *, part=None):
    """Touched rows of a batch: what it reads of every table of a method, and codes that point into the lists.

    The two keys of a batch for :func:`~jaxembed.tables.row_update`; the loss then calls
    ``method.read(params, batch["codes"])``.

    >>> from jaxembed.tables import full_table
    >>> m = full_table({"user": 100}, 4)
    >>> batch = touched_rows(m, {"user": np.array([17, 5, 17])}, None, 4)
    >>> print(batch["rows"]["table/embedding"], batch["codes"]["table/embedding"]["user"].ravel())
    [  5  17 100 101] [1 0 1]

    Args:
        method: :class:`Method` with ``codes``.
        ids: as the method takes them, NumPy.
        masks: {feature: bool, in the shape of its ids}, True = real value, or None.
        size: length of each list, the same in every step and process.
        part: as in :func:`~jaxembed.tables.distinct`.

    Returns:
        {"codes": {path: {feature: int32 [..., reads]}}, "rows": {path: int32 [size]}}.

    Raises:
        ValueError: for a method that reads no rows, and what :func:`~jaxembed.tables.distinct` refuses.
    """
    if method.codes is None:
        raise ValueError(f"method: {method.settings['method']!r} reads no rows; train its arrays as they are")
    found, rows = method.codes(ids), {}
    heights = _heights(method)
    for path, group in found.items():
        if path in heights:
            rows[path], found[path] = distinct(group, masks, heights[path], size, part=part)
    return {"codes": found, "rows": rows}


def _heights(method):
    """{path of a parameter: number of its rows}."""
    shapes = _shapes(method.init)
    return {"/".join(k.key for k in path): x.shape[0] for path, x in shapes if x.ndim}


@functools.lru_cache(maxsize=64)
def _shapes(init):
    return jax.tree.leaves_with_path(jax.eval_shape(init, jax.random.key(0)))
