"""Stages: parts of a model that are trained in turn."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxembed.train.mesh import path_of


class StagedState(NamedTuple):
    """The number of steps done, and the state of each stage's rule."""

    count: jax.Array
    inner: tuple


def staged(stages, *, repeat=False):
    """Alternating schedule: stages of steps, each of which trains the parameters of some paths.

    Step t belongs to the first stage whose steps, with those of the stages before it, exceed t. Parameters of
    other paths get updates of zero there, and the rules of other stages wait with their states as they are.

    >>> tx = staged([(1, "^mlp", optax.sgd(1.0)), (1, "", optax.sgd(0.5))])
    >>> params = {"head": jnp.zeros(1), "mlp": jnp.zeros(1)}
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...     updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    ...     print(updates["head"] + 0, updates["mlp"])
    [0.] [-1.]
    [-0.5] [-0.5]

    Args:
        stages: sequence of (steps, regex of the paths that are trained, optax transformation); "" trains all.
        repeat: True begins again after the last stage; False stays in it.

    Returns:
        optax transformation, for ``train.gradient_update``. Under ``jit`` a step runs one rule alone.

    Raises:
        ValueError: for no stage, or one without a step; and when initialised, for a regex without a match.

    References:
        Y.-F. Zhang et al. (SliME), arXiv:2406.08487, train adapter, compression and the whole in turn.
    """
    stages = [(int(steps), pattern, tx) for steps, pattern, tx in stages]
    if not stages or min(steps for steps, _, _ in stages) < 1:
        raise ValueError("stages: none, or one without a step; give each at least one step")
    total = sum(steps for steps, _, _ in stages)

    def trained(tree, pattern):
        return jax.tree.map_with_path(
            lambda path, x: x if re.search(pattern, path_of(path)) else jnp.zeros_like(x), tree
        )

    def init(params):
        paths = [path_of(path) for path, _ in jax.tree.leaves_with_path(params)]
        for _, pattern, _ in stages:
            if not any(re.search(pattern, path) for path in paths):
                raise ValueError(f"stages: {pattern!r} matches no parameter; paths begin {paths[:5]}")
        return StagedState(jnp.int32(0), tuple(tx.init(params) for _, _, tx in stages))

    def update(gradients, state, params=None):
        def one(i):
            _, pattern, tx = stages[i]

            def run(inner):
                found, new = tx.update(trained(gradients, pattern), inner[i], params)
                return trained(found, pattern), (*inner[:i], new, *inner[i + 1 :])

            return run

        at = state.count % total if repeat else jnp.minimum(state.count, total - 1)
        ends = jnp.cumsum(jnp.array([steps for steps, _, _ in stages]))
        stage = jnp.sum(at >= ends)
        updates, inner = jax.lax.switch(stage, [one(i) for i in range(len(stages))], state.inner)
        return updates, StagedState(state.count + 1, inner)

    return optax.GradientTransformation(init, update)
