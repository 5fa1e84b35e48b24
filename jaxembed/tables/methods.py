"""Methods: one contract for every way to store a table in fewer bytes."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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
    """Numbers the values of all features through: they are the rows of one table [N, D].

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
            known = np.asarray(given)  # a constant under jit has a value, but what JAX makes of it has none
            wrong = known[(known < 0) | (known >= size)]
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

    A full table [N, D] of float32 takes 4 N D bytes:

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

    A full table [N, D] of float32 takes 4 N D bytes:

    >>> from jaxembed.tables import full_table
    >>> training_bytes(full_table(100, 16))
    6400

    Args:
        method: :class:`Method`.

    Returns:
        int, that of ``method.bytes(params)``.
    """
    return method.bytes(jax.eval_shape(method.init, jax.random.key(0)))


def row_method(settings, values, init, codes, read, *, deploy=None, penalty=None, held=None):
    """Puts a :class:`Method` together whose vectors are made of rows.

    Args:
        settings: dict with "method".
        values: :class:`Values`.
        init: ``key -> params``.
        codes: ``({feature: numbers [...]}, index) -> {path: {feature: codes [..., reads]}}``.
        read: ``(params, those codes, key) -> {feature: [..., D]}``.
        deploy: ``params -> params``; None keeps them.
        penalty: ``params -> scalar``; None means 0.
        held: tree of NumPy arrays, the index of ``codes``. Training holds it beside the params, deployed
            params hold it as "index".
    """

    def codes_of(ids, params):
        return codes(numbers_of(values, ids), params.get("index", held))

    def read_named(params, found, key=None):
        return values.unnamed(read(params, found, key))

    def deployed(params):
        index = {} if held is None else {"index": params.get("index", jax.tree.map(jnp.asarray, held))}
        return (deploy(params) if deploy else params) | index

    return Method(
        init=init,
        vectors=lambda params, ids, key=None: read_named(params, codes_of(ids, params), key),
        penalty=penalty or (lambda params: jnp.zeros(())),
        bytes=lambda params: counted_bytes(params) + (0 if "index" in params else counted_bytes(held)),
        deploy=deployed,
        settings=settings,
        codes=lambda ids: codes_of(ids, {}),
        read=read_named,
    )


def single(method):
    """The method of one vocabulary, of a method whose only feature is called "values".

    Args:
        method: :class:`Method` of {"values": [...]}.

    Returns:
        :class:`Method` of ids [...].
    """
    return method._replace(
        vectors=lambda params, ids, key=None: method.vectors(params, {VALUES: ids}, key)[VALUES],
        codes=lambda ids: method.codes({VALUES: ids}),
        read=lambda params, codes, key=None: method.read(params, codes, key)[VALUES],
    )


def plain_settings(name, sizes, width):
    """Settings that all methods of vectors [..., D] have: name, sizes and width, as JSON values."""
    sizes = {n: int(s) for n, s in sizes.items()} if isinstance(sizes, Mapping) else int(sizes)
    return {"method": name, "sizes": sizes, "width": int(width)}
