"""Two streams of batches: some parameters learn on one, the others on the second."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import optax

from jaxembed.arrays import NONFINITE, first_nonfinite, wide
from jaxembed.train.mesh import path_of


@functools.lru_cache(maxsize=64)
def bilevel_update(loss_fn, tx, upper, upper_tx, streams=("train", "validation")):
    """Bilevel update, first order: architecture learns on validation rows, weights on training rows.

    One step moves all parameters but those of ``upper`` by the gradient on ``batch["train"]``. Then it moves
    those of ``upper`` by the gradient on ``batch["validation"]`` at the new weights, as if the weights did
    not depend on them. AutoDim's logits and AutoSrh's gates are trained so.

    >>> loss_fn = lambda params, batch, key: ((params["w"] * params["gate"] - batch) ** 2, {})
    >>> init, step = bilevel_update(loss_fn, optax.sgd(0.25), r"^gate", optax.sgd(0.25))

    Args:
        loss_fn: ``(params, batch of one stream, key) -> (scalar, {name: scalar})``. A method's noise differs
            between the two.
        tx: optax transformation of the parameters that ``upper`` does not match.
        upper: regex, searched in paths such as "table/gates/alpha".
        upper_tx: optax transformation of those that it matches.
        streams: the keys of the batch for the two.

    Returns:
        ``(init(params) -> opt_state, step(state, batch, key) -> (state, metrics))`` for ``train.fit``. The
        metrics of the second stream begin with its name and "/". "nonfinite" is the place of the first
        gradient that is not finite, or -1.

    Raises:
        ValueError: when called, for a regex that matches no parameter or all of them, or a batch without one
            of the streams.

    References:
        H. Liu et al., DARTS, arXiv:1806.09055 (first order).
    """

    def labels(params):
        found = jax.tree.map_with_path(
            lambda path, _: "upper" if re.search(upper, path_of(path)) else "lower", params
        )
        if len(set(jax.tree.leaves(found))) < 2:
            raise ValueError(f"upper={upper!r} matches no parameter or all; give a regex of some paths")
        return found

    def fault(gradient, label):
        """The place of the first gradient of these parameters that is not finite, or -1."""
        own = jax.tree.map(lambda g, x: g if x == label else jnp.zeros(()), gradient, labels(gradient))
        return first_nonfinite(own)

    def masked(tx, label):
        other = "lower" if label == "upper" else "upper"
        return optax.partition({label: tx, other: optax.set_to_zero()}, labels)

    lower_tx, upper_tx_ = masked(tx, "lower"), masked(upper_tx, "upper")

    def evaluated(params, batch, key):
        loss, metrics = loss_fn(params, batch, key)
        return loss, {"loss": loss, **metrics}

    def moved(tx, label, params, opt_state, batch, key):
        gradient, metrics = jax.grad(evaluated, has_aux=True)(params, batch, key)
        updates, opt_state = tx.update(wide(gradient), opt_state, wide(params))
        return optax.apply_updates(params, updates), opt_state, metrics, fault(gradient, label)

    def init(params):
        return {"lower": lower_tx.init(wide(params)), "upper": upper_tx_.init(wide(params))}

    def step(state, batch, key):
        missing = [name for name in streams if name not in batch]
        if missing:
            raise ValueError(f"batch: has no {missing}; give a batch for each of {streams}")
        keys = jax.random.split(key)
        before, (first, second) = state.opt_state, (batch[name] for name in streams)
        params, lower, metrics, bad = moved(lower_tx, "lower", state.params, before["lower"], first, keys[0])
        params, above, more, worse = moved(upper_tx_, "upper", params, before["upper"], second, keys[1])
        metrics |= {f"{streams[1]}/{name}": x for name, x in more.items()}
        metrics[NONFINITE] = jnp.where(bad == -1, worse, bad)
        opt_state = {"lower": lower, "upper": above}
        return dataclasses.replace(state, params=params, opt_state=opt_state), metrics

    return init, step
