"""One step of training: the state that it changes, its program, and the same step again."""

import dataclasses
import functools

import jax
import jax.extend.core as jax_core
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxembed.arrays import NONFINITE
from jaxembed.train.checkpoint import restore_before
from jaxembed.train.gradients import gradient_update
from jaxembed.train.mesh import make_mesh, path_shardings, place_batch

BATCH_RULES = ((r"^rows/", P()), (r"", P("data")))  # distinct table rows are replicated, the rest is split
STOP = "stop"  # the metric by which the processes of a run agree on the step after which they stop


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step changes.

    Args:
        step: int32 scalar, number of steps done.
        params: nested dict of arrays.
        opt_state: state of the update.
        extra: what the loss carries from step to step (queues, statistics), or None.
    """

    step: jax.Array
    params: dict
    opt_state: object
    extra: object = None


def compile_step(init, update, batch, *, mesh=None, rules=(), batch_rules=BATCH_RULES):
    """Compiled step: the one that :func:`fit` would run, to read its program, cost or memory.

    >>> import optax
    >>> update = gradient_update(lambda p, batch, key: (jnp.sum(p["w"] * batch["x"]), {}), optax.sgd(0.1))
    >>> batch = {"x": np.ones(8, np.float32)}
    >>> step = compile_step(lambda key: {"w": jnp.ones(8)}, update, batch, mesh=make_mesh(1))
    >>> "all-gather" in step.as_text()
    False

    Args:
        init: as in :func:`fit`.
        update: ``(init, step)``, for example of :func:`gradient_update`.
        batch: this process's rows of one batch, a dict of arrays.
        mesh: as in :func:`fit`.
        rules: as in :func:`fit`.
        batch_rules: as in :func:`fit`.

    Returns:
        ``jax.stages.Compiled``: ``as_text()``, ``cost_analysis()``, ``memory_analysis()``.
    """
    mesh = make_mesh() if mesh is None else mesh
    _, abstract = prepared(init, update, mesh, tuple(map(tuple, rules)))
    step = compiled(update, *hashable(jax.tree.map(lambda leaf: leaf.sharding, abstract)))
    with jax.set_mesh(mesh):
        placed = place_batch(batch, mesh, tuple(map(tuple, batch_rules)))
        return step.lower(abstract, placed, jax.random.key(0)).compile()


@functools.lru_cache(maxsize=32)
def prepared(init, update, mesh, rules):
    """Returns the compiled ``key -> TrainState`` and the abstract state with its shardings."""

    def make_state(key):
        made = init(key)
        params, extra = made if isinstance(made, tuple) else (made, None)
        state = TrainState(jnp.int32(0), params, update[0](params), extra)
        return jax.tree.map(jnp.copy, state)  # steps donate it, and arrays of init stay the caller's

    shapes = jax.eval_shape(make_state, jax.random.key(0))
    placed = {
        name: path_shardings(
            getattr(shapes, name), mesh, rules, params=shapes.params if name == "opt_state" else None
        )
        for name in ("step", "params", "opt_state", "extra")
    }
    shardings = TrainState(**placed)
    abstract = jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shardings
    )
    return _lifted(make_state, shardings), abstract


def _lifted(function, shardings):
    """Compiles a function of one array; arrays that it closes over are arguments of its program.

    As constants, published weights would be in memory several times while the program compiles, and once
    more for as long as it is cached. "lower" of what is returned is that of ``jax.jit``.
    """

    @functools.cache
    def program(kind):
        traced = jax.make_jaxpr(function)(kind)

        @functools.partial(jax.jit, out_shardings=shardings)
        def run(constants, x):
            flat = jax_core.jaxpr_as_fun(jax_core.ClosedJaxpr(traced.jaxpr, constants))(x)
            return jax.tree.unflatten(jax.tree.structure(shardings), flat)

        return run, traced.consts

    def call(x):
        run, constants = program(jax.typeof(x))
        return run([_on_host(c) for c in constants], x)

    def lower(x):
        run, constants = program(jax.typeof(x))
        return run.lower(constants, x)

    call.lower = lower
    return call


def _on_host(x):
    """An array that every device may read, as constants of a program are."""
    if not isinstance(x, jax.Array) or not x.is_fully_addressable:
        return x
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(np.asarray(jax.random.key_data(x)), impl=jax.random.key_impl(x))
    return np.asarray(x)


def hashable(shardings):
    """Leaves and structure of a tree, as :func:`compiled` takes them."""
    leaves, structure = jax.tree.flatten(shardings)
    return tuple(leaves), structure


@functools.lru_cache(maxsize=32)
def compiled(update, leaves, structure, skip=False):
    """Jits one step; the cache makes a second fit of the same update compile nothing.

    Among the metrics that the step returns, "nonfinite" is -1 for a good step, the place of the first
    parameter whose gradient is not finite, or else -2 where the loss alone is not finite. With ``skip`` such
    a step leaves the state as it was. ``stop`` holds a number of each device; the largest becomes a metric.
    """

    def step(state, batch, key, stop=None):
        done, metrics = update[1](state, batch, jax.random.fold_in(key, state.step))
        for name, value in metrics.items():
            if jnp.shape(value) != ():
                raise ValueError(f"metric {name!r} has shape {jnp.shape(value)}; return its mean, a scalar")
        metrics = {**metrics, NONFINITE: _fault(metrics)}
        if skip:
            good = metrics[NONFINITE] == -1
            done = jax.tree.map(lambda new, old: jnp.where(good, new, old), done, state)
        if stop is not None:
            metrics[STOP] = jnp.max(stop)
        return dataclasses.replace(done, step=state.step + 1), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(jax.tree.unflatten(structure, leaves), None))


def _fault(metrics):
    gradient = jnp.int32(metrics.get(NONFINITE, -1))
    fine = jnp.isfinite(metrics["loss"]) if "loss" in metrics else True
    return jnp.where((gradient == -1) & ~jnp.asarray(fine), -2, gradient)


def replay(
    workdir, step, *, init, batches, loss_fn=None, tx=None, update=None, key=0, mesh=None, rules=(),
    batch_rules=BATCH_RULES, meta=None, nonfinite="stop",
):  # fmt: skip
    """Replay: does one step of a run again, bit for bit, to look at it.

    Starts from the last checkpoint before the step, or from the first parameters. Nothing is written.

    >>> import optax
    >>> run = {"init": lambda key: {"w": jnp.ones(())}, "tx": optax.sgd(0.5), "mesh": make_mesh(1)}
    >>> run["loss_fn"] = lambda params, batch, key: (jnp.sqrt(params["w"] - batch["x"]), {})
    >>> before, after, metrics = replay(None, 2, **run, batches=[{"x": np.float32(x)} for x in (0, 2)])
    >>> print(before.params["w"], after.params["w"], metrics["loss"])
    0.75 nan nan

    Args:
        workdir: folder of the run, or None to start from the first parameters.
        step: number of the step, the first is 1.
        init, batches, loss_fn, tx, update, key, mesh, rules, batch_rules, meta, nonfinite: as in :func:`fit`,
            and as the run had them. "stop" does a step whose numbers are not finite, "skip" leaves its state.

    Returns:
        (:class:`TrainState` before the step, after it, {name: scalar}).

    Raises:
        FileNotFoundError: for a workdir without a run.
        ValueError: for a step below 1, and what :func:`fit` refuses of these arguments.
    """
    if step < 1:
        raise ValueError(f"step={step}: the first step is 1")
    if nonfinite not in ("stop", "skip"):
        raise ValueError(f"nonfinite={nonfinite!r}; choose 'stop' or 'skip'")
    update = gradient_update(loss_fn, tx) if update is None else update
    mesh = make_mesh() if mesh is None else mesh
    key = jax.random.key(key) if isinstance(key, int | np.integer) else key
    init_key, step_key = jax.random.split(key)
    make_state, abstract = prepared(init, update, mesh, tuple(map(tuple, rules)))
    placed = hashable(jax.tree.map(lambda leaf: leaf.sharding, abstract))
    program = compiled(update, *placed, skip=nonfinite == "skip")
    state = restore_before(workdir, step, abstract, meta) if workdir else None
    state = make_state(init_key) if state is None else state
    with jax.set_mesh(mesh):
        for t in range(int(state.step), step):
            before = jax.tree.map(jnp.copy, state) if t == step - 1 else None
            batch = place_batch(batches[t], mesh, tuple(map(tuple, batch_rules)))
            state, metrics = program(state, batch, step_key)
    return before, state, metrics
