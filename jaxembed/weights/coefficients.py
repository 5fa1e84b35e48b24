"""Fitting of merging coefficients: where among task vectors a merged model should be, by gradient descent."""

import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed.arrays import FLAT
from jaxembed.weights._groups import grouped
from jaxembed.weights._rules import gram, mixed, plus, products_of, weights_of
from jaxembed.weights.merge import check_same, checked_coefficients, scalar_of


def fit_coefficients(
    loss_fn,
    start,
    vectors,
    batches,
    *,
    tx=None,
    steps=200,
    rule="slerp",
    granularity="model",
    stacked=r"^blocks/",
    init=None,
    limit=2.0,
    greedy=True,
    key=0,
):
    """Self Positioning: fits the coefficients of :func:`merge` on a small probe set; the weights are frozen.

    Step t follows the gradient of ``loss_fn(merge(start, vectors, c), batches[t % M])`` by c alone, the
    inner products of the model's gradient with its task vectors. After each pass through the batches, and
    after the last step, the mean loss of all of them is taken; the coefficients of the lowest are returned.
    Each one is ``low + (high - low) sigmoid(u)``, so it cannot leave its bounds.

    With ``greedy`` two vectors are fitted at a time: the first two, then what they gave and the third, and so
    on. That is the chain of the paper. Its order matters: sort the vectors by their norm, or try two orders.

    >>> start, vectors = {"w": jnp.zeros(2)}, [{"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 1.0])}]
    >>> def loss_fn(params, batch, key):
    ...     return jnp.sum((params["w"] - batch) ** 2), {}
    >>> probe = [jnp.array([0.9, 1.2])]
    >>> found, history = fit_coefficients(loss_fn, start, vectors, probe)
    >>> print(f"{found['scale'][0]:.1f} {history[0]['loss']:.2f} {history[-1]['loss']:.2f}")
    1.5 0.28 0.00

    Args:
        loss_fn: ``(params, batch, key) -> scalar`` or ``-> (scalar, {name: scalar})``, as for ``train.fit``.
        start: tree of float arrays of any shape.
        vectors: T trees of :func:`task_vector`, at least two.
        batches: list of M probe batches, trees of arrays. Give each task as many, or the bias that
            merging removes comes back; take none from a test set.
        tx: optax transformation of the u; default ``optax.adam(0.05)``.
        steps: of each fit.
        rule: "slerp", or "linear" with one free number for each vector.
        granularity: "model", or "layer" or "tensor" for coefficients [G, ...] of their own.
        stacked: as of :func:`merge`.
        init: optional first coefficients, as of :func:`merge`; default 1 / T, or position 0.5 and scale 1.
            Not with ``greedy`` and more than two vectors.
        limit: bound of scales (0..limit) and of linear coefficients (-limit..limit), which on few probe
            batches would grow without one.
        greedy: False fits all coefficients at once.
        key: int seed or random key; step t gets ``fold_in(key, t)``.

    Returns:
        coefficients: as :func:`merge` takes them, [T] or {"position": [T-1], "scale": [T-1]}, with G rows
            where there are groups.
        history: list of {"fit", "step", "loss", "coefficients"}, one for each evaluation; the first of each
            fit is where it began. What a fit returns is never worse on the probe than that.

    Raises:
        ValueError: for a rule that cannot be fitted, no batches, too few vectors, a task vector that
            is zero, vectors between which slerp cannot turn, an ``init`` outside the bounds, or a loss that
            is not finite. A coefficient that reaches ``limit`` gives a warning.

    References:
        M. Li et al. (Self Positioning), arXiv:2410.15035. The bounds, the return of the best, and all steps
        at once are ours; the abstract names the search, not its parameters.
    """
    vectors = list(vectors)
    _check(rule, start, vectors, batches, steps, limit, init, greedy)
    groups = grouped(start, granularity, stacked)
    tx, key = (
        _default_rule() if tx is None else tx,
        jax.random.key(key) if isinstance(key, int | np.integer) else key,
    )
    products = np.asarray(_whole_gram(vectors))
    _check_vectors(products, rule)
    run = functools.partial(
        _descended, _programs(loss_fn, tx, rule, groups, float(limit)), tx, rule, groups, limit, start
    )
    if not greedy or len(vectors) < 3:
        found, history = run(vectors, batches, steps, init, key, 0)
    else:
        found, history = _chained(run, rule, groups, start, vectors, batches, steps, key)
    return (found if len(groups.names) > 1 else jax.tree.map(lambda x: x[0], found)), history


def _chained(run, rule, groups, start, vectors, batches, steps, key):
    """Pairs of what was found and the next vector; returns the coefficients of the whole chain."""
    held, found, history = vectors[0], None, []
    nothing = jax.tree.map(jnp.zeros_like, held)
    for k, vector in enumerate(vectors[1:]):
        pair, rows = run([held, vector], batches, steps, None, jax.random.fold_in(key, k), k)
        history += rows
        if rule == "slerp":
            found = (
                pair if found is None else jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), found, pair)
            )
        else:
            found = pair if found is None else jnp.concatenate([found * pair[:, :1], pair[:, 1:]], axis=1)
        held = _moved(nothing, [held, vector], pair, groups, rule)
    return found, history


@functools.partial(jax.jit, static_argnames=("groups", "rule"))
def _moved(nothing, vectors, given, groups, rule):
    leaves = _leaves(vectors)
    return plus(nothing, mixed(groups, leaves, weights_of(rule, products_of(rule, groups, leaves), given)))


def _descended(programs, tx, rule, groups, limit, start, vectors, batches, steps, init, key, fit):
    """One fit: ([G, ...] coefficients, history)."""
    step, value, products_of = programs
    products = products_of(vectors)
    first = _first(rule, init, len(vectors), len(groups.names))
    hidden = _hidden(first, rule, limit)
    state, best, history = tx.init(hidden), None, []
    keys = [jax.random.fold_in(key, steps + m) for m in range(len(batches))]
    for t in range(steps + 1):
        if t % len(batches) == 0 or t == steps:
            losses = [
                value(hidden, products, start, vectors, *given) for given in zip(batches, keys, strict=True)
            ]
            loss = float(np.mean(jax.device_get(losses)))
            if not math.isfinite(loss):
                raise ValueError(
                    f"loss_fn: the loss is {loss} at step {t}; look at the batches, or lower limit"
                )
            given = jax.device_get(_shown(hidden, rule, limit))
            history.append({"fit": fit, "step": t, "loss": loss, "coefficients": given})
            best = history[-1] if best is None or loss < best["loss"] else best
        if t < steps:
            batch = batches[t % len(batches)]
            hidden, state = step(hidden, state, products, start, vectors, batch, jax.random.fold_in(key, t))
    _warn_of_limits(best["coefficients"], limit)
    return jax.tree.map(jnp.asarray, best["coefficients"]), history


@functools.lru_cache(maxsize=32)
def _programs(loss_fn, tx, rule, groups, limit):
    """Compiled (step, value, products); a second fit with the same arguments compiles nothing."""

    def value(hidden, products, start, vectors, batch, key):
        weights = weights_of(rule, products, _shown(hidden, rule, limit))
        return scalar_of(loss_fn(plus(start, mixed(groups, _leaves(vectors), weights)), batch, key))

    def step(hidden, state, *given):
        updates, state = tx.update(jax.grad(value)(hidden, *given), state, hidden)
        return optax.apply_updates(hidden, updates), state

    def products(vectors):
        return products_of(rule, groups, _leaves(vectors))

    return jax.jit(step), jax.jit(value), jax.jit(products)


@functools.cache
def _default_rule():
    return optax.adam(0.05)


@jax.jit
def _whole_gram(vectors):
    return gram(grouped(vectors[0], "model", ""), _leaves(vectors))[0]


def _leaves(vectors):
    return [jax.tree.leaves(v) for v in vectors]


# Coefficients within bounds


def _bounds(rule, limit):
    """(low, high), for each kind of coefficient of a rule."""
    return {"position": (0, 1), "scale": (0, limit)} if rule == "slerp" else (-limit, limit)


def _first(rule, init, count, groups):
    if init is None:
        init = 1 / count if rule == "linear" else {"position": 0.5, "scale": 1.0}
    return checked_coefficients(init, rule, count, groups)


def _each(function, values, rule, limit):
    bounds = _bounds(rule, limit)
    if rule == "linear":
        return function(values, *bounds)
    return {name: function(values[name], *bounds[name]) for name in bounds}


def _hidden(values, rule, limit):
    """The u of coefficients; what touches a bound begins a little inside."""

    def inverse(x, low, high):
        if bool(jnp.any((x < low) | (x > high))):
            raise ValueError(f"init: {np.asarray(x).tolist()} leaves {low}..{high}; raise limit")
        share = jnp.clip((x - low) / (high - low), 1e-4, 1 - 1e-4)
        return jnp.log(share) - jnp.log1p(-share)

    return _each(inverse, values, rule, limit)


def _shown(hidden, rule, limit):
    return _each(lambda u, low, high: low + (high - low) * jax.nn.sigmoid(u), hidden, rule, limit)


# Checks


def _check(rule, start, vectors, batches, steps, limit, init, greedy):
    if rule not in ("linear", "slerp"):
        raise ValueError(f"rule={rule!r}: only linear and slerp can be fitted; choose one of them")
    if len(vectors) < (2 if rule == "slerp" else 1):
        raise ValueError(f"vectors: {len(vectors)}; {rule} needs at least {2 if rule == 'slerp' else 1}")
    for t, vector in enumerate(vectors):
        check_same(f"vectors[{t}]", vector, "start", start)
    if not len(batches):
        raise ValueError("batches: there are none; pass a list of probe batches")
    if steps < 1:
        raise ValueError(f"steps={steps}: take at least one")
    if not 0 < limit < math.inf:
        raise ValueError(f"limit={limit}: choose a finite number above 0")
    if init is not None and greedy and len(vectors) > 2:
        raise ValueError("init: a greedy chain begins each fit anew; leave it out, or set greedy=False")


def _check_vectors(products, rule):
    """Refuses vectors of length 0 and, for slerp, a pair without a plane."""
    lengths = np.sqrt(np.diagonal(products))
    for t, length in enumerate(lengths):
        if not math.isfinite(length):
            raise ValueError(f"vectors[{t}]: holds a number that is not finite; look at its model")
        if length == 0:
            raise ValueError(f"vectors[{t}]: is zero, its model is the start; leave it out")
    cosines = products / np.outer(lengths, lengths)
    for i, j in zip(*np.triu_indices(len(lengths), 1), strict=True):
        if rule == "slerp" and abs(cosines[i, j]) > FLAT:
            raise ValueError(
                f"vectors: {i} and {j} are collinear (cosine {cosines[i, j]:.4f}), slerp cannot turn between "
                'them; leave one out, or take rule="linear"'
            )


def _warn_of_limits(found, limit):
    for name, values in (found if isinstance(found, dict) else {"coefficients": found}).items():
        reached = np.abs(values) > 0.99 * limit
        if name != "position" and reached.any():
            remedy = "take more probe batches, fewer steps or another limit"
            warnings.warn(
                f"{name}: {values[reached][0]:.2f} is at the limit {limit:g}; {remedy}", stacklevel=4
            )
