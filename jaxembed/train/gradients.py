"""What one step does: gradient updates, and small pieces that change them."""

import dataclasses
import functools
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed.arrays import NONFINITE, accumulator, first_nonfinite, wide
from jaxembed.train.mesh import path_of


@functools.lru_cache(maxsize=64)
def gradient_update(loss_fn, tx, accumulate=1, shared=r"^rows/"):
    """Gradient update: the gradient of a loss, turned into a step by an optax rule.

    With ``accumulate=n`` the batch is cut into n strided parts, which are differentiated one after the other
    at an nth of the memory. For a loss that is a mean of independent examples, the mean of the gradients is
    that of the whole batch. In-batch negatives see their part alone.

    Parameters of fewer than 32 bits keep their dtype. Sums of gradients and what ``tx`` remembers are held in
    float32, and so is each step until it is added.

    The metric "nonfinite" is the place of the first parameter whose gradient is not finite, or -1; ``fit``
    stops by it.

    Args:
        loss_fn: ``(params, batch, key) -> (scalar, {name: scalar})``, or with ``extra`` as fourth argument
            ``-> (scalar, ({name: scalar}, extra))``.
        tx: optax transformation.
        accumulate: number of parts, divides the batch.
        shared: regex of the paths in the batch that every part gets whole: other leaves point into
            them. The default names the distinct rows of tables.

    Returns:
        ``(init(params) -> opt_state, step(state, batch, key) -> (state, metrics))``, the same object for the
        same arguments, so that a second fit compiles nothing.

    Raises:
        ValueError: in a step, for a loss that returns something else, or a batch that ``accumulate`` does
            not divide.
    """

    def evaluated(params, batch, key, extra):
        if extra is None:
            loss, metrics = _returned(loss_fn(params, batch, key), extra)
        else:
            loss, (metrics, extra) = _returned(loss_fn(params, batch, key, extra), extra)
        return loss, ({"loss": loss, **metrics}, extra)

    differentiate = jax.grad(evaluated, has_aux=True)

    def step(state, batch, key):
        if accumulate == 1:
            gradient, (metrics, extra) = differentiate(state.params, batch, key, state.extra)
        else:
            gradient, metrics, extra = _accumulated(differentiate, accumulate, shared, state, batch, key)
        metrics = {**metrics, NONFINITE: first_nonfinite(gradient)}
        updates, opt_state = tx.update(wide(gradient), state.opt_state, wide(state.params))
        params = optax.apply_updates(state.params, updates)
        return dataclasses.replace(state, params=params, opt_state=opt_state, extra=extra), metrics

    return lambda params: tx.init(wide(params)), step


def _returned(found, extra):
    """What loss_fn returned, if it has the form that the update reads."""
    form = "(scalar, {name: scalar})" if extra is None else "(scalar, ({name: scalar}, extra))"
    rest = found[1] if _pair(found) else None
    if not isinstance(rest if extra is None else rest[0] if _pair(rest) else None, Mapping):
        raise ValueError(f"loss_fn: returned {_described(found)}; return {form}")
    if np.shape(found[0]) != ():
        raise ValueError(f"loss_fn: the loss has shape {np.shape(found[0])}; return a scalar, as its mean")
    return found


def _pair(x):
    return isinstance(x, tuple | list) and len(x) == 2


def _described(x):
    if isinstance(x, tuple | list):
        return f"({', '.join(map(_described, x))})"
    if isinstance(x, jax.Array | np.ndarray | np.generic | float | int):
        return f"an array of shape {np.shape(x)}" if np.shape(x) else "a scalar"
    return f"a {type(x).__name__}"


def _accumulated(differentiate, parts, shared, state, batch, key):
    whole = jax.tree.map_with_path(lambda path, x: x if re.search(shared, path_of(path)) else None, batch)

    def strided(path, x):
        if re.search(shared, path_of(path)):
            return None
        if x.ndim == 0 or x.shape[0] % parts:
            raise ValueError(f"accumulate={parts} does not divide {path_of(path)} of shape {x.shape}")
        return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)

    def body(carry, scanned):
        total, extra = carry
        part, index = scanned
        part = jax.tree.map(
            lambda cut, x: x if cut is None else cut, part, whole, is_leaf=lambda x: x is None
        )
        gradient, (metrics, extra) = differentiate(state.params, part, jax.random.fold_in(key, index), extra)
        return (jax.tree.map(lambda a, g: a + g / parts, total, wide(gradient)), extra), metrics

    zero = jax.tree.map(jnp.zeros_like, wide(state.params))
    parts_of_batch = jax.tree.map_with_path(strided, batch)
    (gradient, extra), metrics = jax.lax.scan(body, (zero, state.extra), (parts_of_batch, jnp.arange(parts)))
    means = jax.tree.map(lambda m: jnp.mean(m, axis=0, dtype=accumulator(m)), metrics)
    return gradient, means, extra


@functools.lru_cache(maxsize=64)
def ema(update, decay, into=None):
    """Exponential moving average: keeps one of the parameters, with any update.

    ``average <- decay * average + (1 - decay) * params`` after each step, starting at the first parameters.
    The average of narrower parameters is held in float32, where small steps are not lost. A loss that reads
    the average has a momentum encoder, as MoCo has: its keys come from ``batch[into]``, without a gradient.

    Args:
        update: ``(init, step)``.
        decay: number in [0, 1), or a function of the step that gives one, such as an optax schedule.
        into: optional name of the batch under which the loss finds the average of the steps before. With
            ``gradient_update(..., accumulate=n)`` let ``shared`` match it.

    Returns:
        ``(init, step)`` whose optimiser state is {"inner": state of ``update``, "ema": params}.

    Raises:
        ValueError: for a decay out of range, or a batch that has ``into`` already.

    References:
        K. He et al. (MoCo), arXiv:1911.05722.
    """
    if not callable(decay) and not 0 <= decay < 1:
        raise ValueError(f"decay={decay}: need 0 <= decay < 1")
    inner_init, inner_step = update

    def init(params):
        return {"inner": inner_init(params), "ema": jax.tree.map(jnp.copy, wide(params))}

    def step(state, batch, key):
        if into is not None:
            if into in batch:
                raise ValueError(f"into={into!r}: the batch holds that already; choose another name")
            batch = {**batch, into: state.opt_state["ema"]}
        inner, metrics = inner_step(
            dataclasses.replace(state, opt_state=state.opt_state["inner"]), batch, key
        )
        kept = decay(state.step) if callable(decay) else decay
        average = optax.incremental_update(wide(inner.params), state.opt_state["ema"], 1 - kept)
        return dataclasses.replace(inner, opt_state={"inner": inner.opt_state, "ema": average}), metrics

    return init, step


def by_path(rules, tx):
    """Rules by path: an optax rule of its own for parameters whose path contains a regex.

    >>> tx = by_path([(r"^table/", optax.sgd(10.0))], optax.sgd(1.0))
    >>> params = {"table": {"embedding": jnp.ones(2)}, "head": jnp.ones(2)}
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> print(updates["table"]["embedding"], updates["head"])
    [-10. -10.] [-1. -1.]

    Args:
        rules: sequence of (regex, optax transformation); the first regex found in a path such as
            "blocks/attention/query/kernel" decides.
        tx: optax transformation of all other parameters.

    Returns:
        An optax transformation. Initialising it raises ValueError when a regex decides for no parameter.
    """
    rules = tuple(rules)

    def labels(params):
        def label(path, _):
            found = (i for i, (pattern, _) in enumerate(rules) if re.search(pattern, path_of(path)))
            return str(next(found, "other"))

        named = jax.tree.map_with_path(label, params)
        for i, (pattern, _) in enumerate(rules):
            if str(i) not in jax.tree.leaves(named):
                paths = [path_of(path) for path, _ in jax.tree.leaves_with_path(params)]
                raise ValueError(f"pattern={pattern!r} matches no parameter; paths begin {paths[:5]}")
        return named

    return optax.partition({str(i): rule for i, (_, rule) in enumerate(rules)} | {"other": tx}, labels)


def frozen(tx, pattern):
    """Frozen parameters: those whose path contains a regex stay as they are.

    Their gradient is never used, so the compiler removes its computation.

    >>> tx = frozen(optax.sgd(1.0), r"^table/")
    >>> params = {"table": {"embedding": jnp.ones(2)}, "head": jnp.ones(2)}
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> print(updates["table"]["embedding"], updates["head"])
    [0. 0.] [-1. -1.]

    Args:
        tx: optax transformation of the other parameters.
        pattern: regex, searched in paths such as "blocks/attention/query/kernel".

    Returns:
        An optax transformation. Initialising it raises ValueError when no path matches.
    """
    return by_path([(pattern, optax.set_to_zero())], tx)


def warm_start(init, donor):
    """Warm start: begins with given arrays wherever a donor has one of the same path.

    Args:
        init: ``key -> params`` or ``key -> (params, extra)``.
        donor: nested dict of arrays, any part of the params; for example from :func:`restore_params`. They
            are cast to the dtypes of the params.

    Returns:
        An ``init`` of the same form.

    Raises:
        ValueError: when called, for a donor path that the params lack or a shape that differs.
    """
    given = {path_of(path): leaf for path, leaf in jax.tree.leaves_with_path(donor)}

    def started(key):
        made = init(key)
        params, rest = (made[0], made[1:]) if isinstance(made, tuple) else (made, None)
        paths = {path_of(path) for path, _ in jax.tree.leaves_with_path(params)}
        if set(given) - paths:
            raise ValueError(f"donor: {sorted(set(given) - paths)[:3]} not among the params")

        def choose(path, leaf):
            if path_of(path) not in given:
                return leaf
            value = given[path_of(path)]
            if np.shape(value) != leaf.shape:
                raise ValueError(f"donor: {path_of(path)} has shape {np.shape(value)}; need {leaf.shape}")
            return jnp.asarray(value, leaf.dtype)

        params = jax.tree.map_with_path(choose, params)
        return params if rest is None else (params, *rest)

    return started
