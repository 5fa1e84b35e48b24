"""Merging: models that were trained from one start become one model, by arithmetic on their parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.weights._groups import grouped, shapes_of
from jaxembed.weights._rules import fisher, mixed, plus, products_of, ties, weights_of, wide

RULES = ("linear", "slerp", "ties", "fisher")


def task_vector(params, start):
    """Task vector: what training added to the parameters, ``params - start``.

    >>> start, trained = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([1.5, 1.0])}
    >>> print(task_vector(trained, start)["w"])
    [ 0.5 -1. ]

    Args:
        params: tree of float arrays of any shape, trained from ``start``.
        start: tree of the same paths and shapes.

    Returns:
        Tree like ``start`` in at least float32: narrower types would lose small steps.

    Raises:
        ValueError: for trees whose names or shapes differ, and leaves that are not floats.

    References:
        G. Ilharco et al., Editing Models with Task Arithmetic, arXiv:2212.04089.
    """
    check_same("params", params, "start", start)
    return _difference(params, start)


@jax.jit
def _difference(params, start):
    leaves, form = jax.tree.flatten(start)
    found = [wide(x) - wide(y) for x, y in zip(jax.tree.leaves(params), leaves, strict=True)]
    return jax.tree.unflatten(form, found)


def merge(
    start,
    vectors,
    coefficients,
    *,
    rule="linear",
    granularity="model",
    stacked=r"^blocks/",
    density=0.2,
    reduce="mean",
    fishers=None,
    normalise=True,
    donate=False,
):
    """Model merging: adds a combination of task vectors to the parameters that all models started from.

    - "linear" (task arithmetic): ``start + sum_t c[t] v[t]``; c = 1 / T is the average of the models.
    - "slerp": a chain that begins with v[0]. Step k turns what it has, x, towards the next vector y:
      ``x <- scale[k] (sin((1 - p[k]) a) x + sin(p[k] a) y) / sin(a)``, a the angle between x and y.
      Where they are collinear (their cosine beyond 0.9995) or one is zero, it is ``(1 - p) x + p y``.
    - "ties": each ``c[t] v[t]`` keeps its largest magnitudes, the share ``density``. The sign of their sum is
      elected for each coordinate, for a sum of zero the sign that most coordinates have. Of the values with
      that sign the mean, or the sum, is added to ``start``.
    - "fisher": ``start + sum_t c[t] f[t] v[t] / sum_t c[t] f[t]`` for each coordinate, f the diagonals of
      :func:`fisher_diagonal`, each divided by its root mean square, plus 1e-6.

    >>> start = {"w": jnp.zeros(2)}
    >>> vectors = [{"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 1.0])}]
    >>> print(merge(start, vectors, 0.5)["w"], merge(start, vectors, [0.5], rule="slerp")["w"].round(3))
    [0.5 0.5] [0.707 0.707]

    Args:
        start: tree of float arrays of any shape.
        vectors: T trees of :func:`task_vector`.
        coefficients: of "linear", "ties" and "fisher" a number for all, [T], or [G, T] with a row for each
            group. Of "slerp" {"position": [T-1] or [G, T-1], "scale": the same}, or positions alone, whose
            scale is 1. Positions are within 0..1. "linear" and "slerp" can be differentiated by them.
        rule: "linear", "slerp", "ties" or "fisher".
        granularity: what angles, shares and norms are taken of: the whole "model", each "layer" or each
            "tensor". :func:`group_names` lists the G groups.
        stacked: regex of the paths of arrays with a leading axis of layers, each row of which is a layer or a
            tensor of its own; "" for none.
        density: share of the numbers of a group that "ties" keeps of each vector, at least one. Equal
            magnitudes are kept together.
        reduce: "mean" or "sum", of "ties".
        fishers: T trees of :func:`fisher_diagonal`, of "fisher".
        normalise: False takes ``f + 1e-6`` as they are.
        donate: True writes the result into the memory of ``start``, whose arrays cannot be read afterwards.

    Returns:
        Tree like ``start``, in its dtypes and shardings. Sums are in at least float32.

    Raises:
        ValueError: for trees whose names or shapes differ from ``start``, coefficients that do not fit or are
            not finite, positions outside 0..1, and unknown or missing options.

    References:
        linear: G. Ilharco et al., arXiv:2212.04089. ties: P. Yadav et al., arXiv:2306.01708. fisher: M.
        Matena and C. Raffel, arXiv:2111.09832. slerp of task vectors: M. Li et al., arXiv:2410.15035.
        FusionBench adds 1e-6 to f before it divides, and its "ties" keeps one value more.
    """
    vectors = list(vectors)
    _check_options(rule, reduce, density, fishers, len(vectors))
    for name, trees in {"vectors": vectors, "fishers": fishers or []}.items():
        for t, tree in enumerate(trees):
            check_same(f"{name}[{t}]", tree, "start", start)
    groups = grouped(start, granularity, stacked)
    given = checked_coefficients(coefficients, rule, len(vectors), len(groups.names))
    fishers = None if fishers is None else list(fishers)
    run = _merged_in_place if donate else _merged
    local = in_one_memory([start, *vectors])
    return run(start, vectors, given, fishers, groups, rule, float(density), reduce, normalise, local)


def group_names(params, *, granularity="layer", stacked=r"^blocks/"):
    """Names the groups of parameters that have coefficients of their own, in the order of their rows.

    A layer is everything below one name of the top, and each row of the arrays that are stacked.

    >>> params = {"blocks": {"kernel": jnp.zeros((2, 3, 3))}, "table": {"embedding": jnp.zeros((5, 3))}}
    >>> print(group_names(params), group_names(params, granularity="tensor"))
    ['blocks/0', 'blocks/1', 'table'] ['blocks/0/kernel', 'blocks/1/kernel', 'table/embedding']

    Args:
        params: tree of arrays of any shape; stacked ones are [L, ...].
        granularity: "model", "layer" or "tensor".
        stacked: as of :func:`merge`.

    Returns:
        List of G names.

    Raises:
        ValueError: for an unknown granularity.
    """
    return list(grouped(params, granularity, stacked).names)


def fisher_diagonal(loss_fn, params, batches, *, key=0):
    """Fisher diagonal: the mean over batches of the squared gradient of a loss, for rule "fisher".

    A contrastive loss has no gradient of one example, so its batches should be small.

    >>> def loss_fn(params, batch, key):
    ...     return jnp.sum(params["w"] * batch), {}
    >>> batches = [jnp.array([1.0, 0.0]), jnp.array([3.0, 2.0])]
    >>> print(fisher_diagonal(loss_fn, {"w": jnp.zeros(2)}, batches)["w"])
    [5. 2.]

    Args:
        loss_fn: ``(params, batch, key) -> scalar`` or ``-> (scalar, {name: scalar})``, as for ``train.fit``.
        params: tree of float arrays of any shape.
        batches: list of batches, trees of arrays.
        key: int seed or random key; batch t gets ``fold_in(key, t)``.

    Returns:
        Tree like ``params`` in at least float32.

    Raises:
        ValueError: without batches.
    """
    if not len(batches):
        raise ValueError("batches: there are none; pass at least one")
    key = jax.random.key(key) if isinstance(key, int | np.integer) else key
    squares, total = _squares(loss_fn), None
    for t, batch in enumerate(batches):
        found = squares(params, batch, jax.random.fold_in(key, t))
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    return jax.tree.map(lambda x: x / len(batches), total)


@functools.lru_cache(maxsize=32)
def _squares(loss_fn):
    gradient = jax.grad(lambda *given: scalar_of(loss_fn(*given)))
    return jax.jit(lambda *given: jax.tree.map(lambda g: wide(g) ** 2, gradient(*given)))


def scalar_of(found):
    """The scalar [] of what a loss_fn returned."""
    loss = found[0] if isinstance(found, tuple | list) else found
    if np.shape(loss) != ():
        raise ValueError(f"loss_fn: the loss has shape {np.shape(loss)}; return a scalar, as its mean")
    return loss


def _by_rule(start, vectors, given, fishers, groups, rule, density, reduce, normalise, local):
    leaves = [jax.tree.leaves(v) for v in vectors]
    if rule == "ties":
        added = ties(groups, leaves, given, density, reduce)
    elif rule == "fisher":
        added = fisher(groups, leaves, [jax.tree.leaves(f) for f in fishers], given, normalise)
    else:
        added = mixed(groups, leaves, weights_of(rule, products_of(rule, groups, leaves, local), given))
    return plus(start, added)


STATIC = ("groups", "rule", "density", "reduce", "normalise", "local")
_merged = jax.jit(_by_rule, static_argnames=STATIC)
_merged_in_place = jax.jit(_by_rule, static_argnames=STATIC, donate_argnames="start")


def in_one_memory(tree):
    """Whether all leaves [...] of a tree are in the memory of one CPU, which traced ones may not be."""
    leaves = jax.tree.leaves(tree)
    if not all(map(known, leaves)):
        return False
    devices = {device for x in leaves if isinstance(x, jax.Array) for device in x.devices()}
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


# Checks


def check_same(name, tree, other, reference):
    """Refuses a tree whose leaves [...] differ from a reference in path or shape, or are not floats."""
    found, wanted = shapes_of(tree), shapes_of(reference)
    if found.keys() != wanted.keys():
        more, less = (
            next(iter(sorted(a.keys() - b.keys())), None) for a, b in ((found, wanted), (wanted, found))
        )
        has = " and ".join(f"{who} alone has {path!r}" for who, path in ((name, more), (other, less)) if path)
        raise ValueError(f"{name}: other names than {other}: {has}; merge models of one architecture")
    for path, shape in found.items():
        if shape != wanted[path]:
            both = f"{path!r} has shape {shape}, in {other} {wanted[path]}"
            raise ValueError(f"{name}: {both}; merge models of one architecture")
    for path, leaf in zip(found, jax.tree.leaves(tree), strict=True):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{name}: {path!r} is {jnp.result_type(leaf)}; leave out what is not a float")


def _check_options(rule, reduce, density, fishers, count):
    if rule not in RULES:
        raise ValueError(f"rule={rule!r}: choose one of {', '.join(RULES)}")
    if count < (2 if rule == "slerp" else 1):
        raise ValueError(f"vectors: {count}; {rule} needs at least {2 if rule == 'slerp' else 1}")
    if reduce not in ("mean", "sum"):
        raise ValueError(f"reduce={reduce!r}: choose mean or sum")
    if not 0 < density <= 1:
        raise ValueError(f"density={density}: choose a share above 0 and at most 1")
    if (fishers is not None) != (rule == "fisher"):
        raise ValueError('fishers: pass them with rule="fisher" and with no other rule')
    if fishers is not None and len(fishers) != count:
        raise ValueError(f"fishers: {len(fishers)} for {count} vectors; pass one for each")


def checked_coefficients(coefficients, rule, count, groups):
    """Coefficients as [G, T], or {"position", "scale"} of [G, T-1] each; refuses what does not fit."""
    if rule != "slerp":
        given = _broadcast("coefficients", coefficients, count, groups)
        if rule == "fisher" and known(given) and not (np.all(given >= 0) and np.all(np.sum(given, 1) > 0)):
            raise ValueError("coefficients: fisher needs numbers of at least 0 that are not all 0")
        return given
    if not isinstance(coefficients, dict):
        coefficients = {"position": coefficients, "scale": 1.0}
    if coefficients.keys() != {"position", "scale"}:
        raise ValueError(f'coefficients: {sorted(coefficients)}; slerp takes "position" and "scale"')
    given = {name: _broadcast(name, coefficients[name], count - 1, groups) for name in ("position", "scale")}
    position = given["position"]
    if known(position) and not np.all((position >= 0) & (position <= 1)):
        raise ValueError(f"position: {np.asarray(position).tolist()} leaves 0..1; scale is what lengthens")
    return given


def known(x):
    """Whether an array [...] has values that can be read, which a traced one has not."""
    return not isinstance(x, jax.core.Tracer)


def _broadcast(name, values, count, groups):
    given = jnp.asarray(values, accumulator(jnp.asarray(values)))
    if given.shape not in ((), (count,), (groups, count)):
        raise ValueError(f"{name}: shape {given.shape}; pass a number, [{count}] or [{groups}, {count}]")
    if known(given) and not np.all(np.isfinite(given)):
        raise ValueError(f"{name}: {np.asarray(given).tolist()} is not finite; pass finite numbers")
    return jnp.broadcast_to(given, (groups, count))
