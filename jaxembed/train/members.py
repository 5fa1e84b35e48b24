"""Small models trained side by side, on data that are on the device: an epoch is one program."""

import jax
import jax.numpy as jnp

from jaxembed.train.step import TrainState


def fit_members(*, init, update, batches, steps, epochs, keys, given=(), after=None):
    """Members: trains models of one shape side by side, each with a key and settings of its own.

    A whole epoch is one compiled loop (``lax.scan``) over all members (``vmap``), so that a step of a small
    model costs no trip to the host. Seeds and rates that are compared are members of one program. Step t of
    epoch e reads ``batches(fold_in(key, e))(t)`` and the key ``fold_in(fold_in(key, e), t)``.

    >>> import optax
    >>> from jaxembed.train import gradient_update
    >>> def update(rate):
    ...     return gradient_update(lambda p, batch, key: ((p["mean"] - batch) ** 2, {}), optax.sgd(rate))
    >>> state = fit_members(
    ...     init=lambda key, rate: {"mean": jnp.zeros(())}, update=update, steps=10, epochs=2,
    ...     batches=lambda key: lambda t: 3.0, keys=jax.random.split(jax.random.key(0), 2),
    ...     given=(jnp.array([0.0, 0.25]),),
    ... )
    >>> print(state.params["mean"].astype("float16"), state.step)
    [0. 3.] [20 20]

    Args:
        init: ``(key, *own) -> params`` or ``(params, extra)``, where ``own`` are a member's parts of
            ``given``.
        update: ``(*own) -> (init(params) -> opt_state, step(state, batch, key) -> (state, metrics))``, as
            :func:`fit` takes it; rates may be traced.
        batches: ``key -> (place -> batch)``, the batches of one epoch; traced.
        steps: of an epoch.
        epochs: how many.
        keys: random keys [M].
        given: arrays, or trees of arrays, with a leading axis [M].
        after: optional ``(number of epochs done, state)``, called after each of them.

    Returns:
        :class:`TrainState` whose leaves have a leading axis [M].

    Raises:
        ValueError: for no member, or parts of ``given`` of another length.
    """
    lengths = {len(keys), *(len(leaf) for leaf in jax.tree.leaves(given))}
    if len(lengths) > 1 or not len(keys):
        raise ValueError(f"given: lengths {sorted(lengths)}; give one part for each of {len(keys)} members")

    def begin(key, *own):
        made = init(jax.random.fold_in(key, 0), *own)
        params, extra = made if isinstance(made, tuple) else (made, None)
        return TrainState(jnp.int32(0), params, update(*own)[0](params), extra)

    def epoch(number, state, key, *own):
        key = jax.random.fold_in(key, number)
        batch_at, advance = batches(key), update(*own)[1]

        def step(state, place):
            done, _ = advance(state, batch_at(place), jax.random.fold_in(key, place))
            return TrainState(state.step + 1, done.params, done.opt_state, done.extra), None

        return jax.lax.scan(step, state, jnp.arange(steps))[0]

    state = jax.jit(jax.vmap(begin))(keys, *given)
    run = jax.jit(jax.vmap(epoch, (None, 0, 0, *(0 for _ in given))), donate_argnums=1)
    for number in range(1, epochs + 1):
        state = jax.block_until_ready(run(jnp.int32(number), state, keys, *given))
        if after is not None:
            after(number, state)
    return state
