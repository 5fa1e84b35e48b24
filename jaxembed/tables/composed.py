"""Methods of methods: one for each feature, fine-tuning of what is deployed, rows that a batch touches."""

import functools

import jax
import jax.numpy as jnp

from jaxembed.tables.methods import VALUES, Method
from jaxembed.tables.updates import distinct


def per_feature(methods):
    """A method for each feature: features share nothing, and each may be stored in a way of its own.

    >>> import numpy as np
    >>> from jaxembed.tables import full_table, hash_table, storage_bytes
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


def fine_tuned(method, params):
    """Fine-tuning: a method whose codes, indices and masks stay as they were deployed, while floats train.

    Blocks that are shared, centres that are named by codes and entries that are left after pruning can be
    trained on under the same codes. ``init`` gives the floats of ``params``, whatever the key.

    >>> from jaxembed.tables import deeplight
    >>> m = deeplight(3, 2, keep=2)
    >>> deployed = m.deploy({"table": {"embedding": jnp.array([[0.0, 3.0], [1.0, 2.0], [0.5, 0.0]])}})
    >>> tuned = fine_tuned(m, deployed)
    >>> print(tuned.init(jax.random.key(0)))
    {'sparse': {'values': Array([3., 2.], dtype=float32)}}

    Args:
        method: :class:`~jaxembed.tables.Method`.
        params: of its ``deploy``.

    Returns:
        :class:`~jaxembed.tables.Method`; its ``deploy`` gives params of ``method`` again. It reads no listed
        rows, so that gradients are as large as the floats that are stored.

    Raises:
        ValueError: for params without floats.
    """
    floats, rest = _split(params)
    if not floats:
        raise ValueError("params: hold no floats that could be trained; give what method.deploy returned")

    def joined(floats):
        return _joined(floats, rest)

    return Method(
        init=lambda key: jax.tree.map(jnp.asarray, floats),
        vectors=lambda params, ids, key=None: method.vectors(joined(params), ids, key),
        penalty=lambda params: jnp.zeros(()),
        bytes=lambda params: method.bytes(joined(params)),
        deploy=joined,
        settings={"method": "fine_tuned", "of": method.settings},
    )


def _split(tree):
    """Nested dicts of the floats and of all other arrays of nested dicts."""
    floats, rest = {}, {}
    for name, node in tree.items():
        if isinstance(node, dict):
            parts = _split(node)
        else:
            parts = (node, None) if jnp.issubdtype(node.dtype, jnp.floating) else (None, node)
        for kept, part in zip((floats, rest), parts, strict=True):
            if part is not None and not (isinstance(part, dict) and not part):
                kept[name] = part
    return floats, rest


def _joined(floats, rest):
    found = dict(rest)
    for name, node in floats.items():
        found[name] = _joined(node, rest.get(name, {})) if isinstance(node, dict) else node
    return found


def check_params(method, params):
    """Refuses arrays that are not those of a method: restored with other settings, cut short or not finite.

    >>> from jaxembed.tables import full_table
    >>> m = full_table(100, 4)
    >>> check_params(m, m.init(jax.random.key(0)))

    Args:
        method: :class:`~jaxembed.tables.Method`.
        params: nested dict of arrays [N, ...], in training or deployed, as they were read from a file.

    Raises:
        ValueError: with the first path whose array is missing, or has another shape or dtype. Also for NaN
            and infinity.
    """
    given = _by_path(params)
    forms = [_by_path(jax.eval_shape(f, jax.random.key(0))) for f in (method.init, _deployed_of(method))]
    wanted = max(forms, key=lambda form: len(set(form) & set(given)) - len(set(form) ^ set(given)))
    name = method.settings["method"]
    for path in sorted(set(wanted) | set(given)):
        have, need = (_described(form.get(path)) for form in (given, wanted))
        if have != need:
            raise ValueError(
                f"params: {path!r} is {have}, in {name} here {need}; make it with the settings of training"
            )
    for path, array in given.items():
        if jnp.issubdtype(array.dtype, jnp.floating) and not bool(jnp.all(jnp.isfinite(array))):
            raise ValueError(f"params: {path!r} holds NaN or infinite numbers; restore an earlier step")


def _described(x):
    return "missing" if x is None else f"{x.dtype} {list(x.shape)}"


def _deployed_of(method):
    return lambda key: method.deploy(method.init(key))


def _by_path(tree):
    return {"/".join(k.key for k in path): x for path, x in jax.tree.leaves_with_path(tree)}


def touched_rows(method, ids, masks, size, *, part=None):
    """Touched rows of a batch: what it reads of every table of a method, and codes that point into the lists.

    The two keys of a batch for :func:`~jaxembed.tables.row_update`; the loss then calls
    ``method.read(params, batch["codes"])``.

    >>> import numpy as np
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
    return {path: x.shape[0] for path, x in _shapes(method.init).items() if x.ndim}


@functools.lru_cache(maxsize=64)
def _shapes(init):
    return _by_path(jax.eval_shape(init, jax.random.key(0)))
