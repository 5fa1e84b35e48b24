"""The training loop."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxembed import extras
from jaxembed.train.checkpoint import Checkpoints
from jaxembed.train.gradients import gradient_update
from jaxembed.train.log import MetricLog, patience_left, score
from jaxembed.train.mesh import make_mesh, path_shardings, place_batch
from jaxembed.train.workdir import folder_of, is_local

BATCH_RULES = ((r"^rows/", P()), (r"", P("data")))  # distinct table rows are replicated, the rest is split


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


def fit(
    *,
    init,
    batches,
    steps,
    loss_fn=None,
    tx=None,
    update=None,
    key=0,
    mesh=None,
    rules=(),
    batch_rules=BATCH_RULES,
    workdir=None,
    meta=None,
    evaluate=None,
    log_every=50,
    evaluate_every=None,
    save_every=None,
    keep=2,
    best=None,
    patience=None,
    progress=True,
    tensorboard=False,
    profile=None,
):
    """Training loop: a number of steps, sharded over a mesh, resumed where it was stopped.

    Step t reads ``batches[t]`` and the key ``fold_in(key, t)``, so a run that stops and resumes gives the
    same bits as one that never stopped. The step is compiled once for each (update, shardings), with the
    state donated and placed by ``rules``. Ctrl-C (and SIGTERM) ends the run after the current step, saves,
    and raises KeyboardInterrupt.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> def loss_fn(params, batch, key):
    ...     return jnp.mean((params["mean"] - batch["x"]) ** 2), {}
    >>> given = {"init": lambda key: {"mean": jnp.zeros(())}, "loss_fn": loss_fn, "tx": optax.sgd(0.25)}
    >>> state = fit(**given, batches=[{"x": np.full(8, 3.0, np.float32)}] * 20, steps=20)
    >>> print(int(state.step), f"{state.params['mean']:.3f}")
    20 3.000

    Args:
        init: ``key -> params`` (nested dict of arrays) or ``key -> (params, extra)``.
        batches: anything with ``[t]`` for every step t: this process's rows of the global batch of step t, a
            dict of arrays. Integers fit 32 bits unless ``jax_enable_x64`` is on.
        steps: total number of steps; a resumed run does the rest.
        loss_fn: ``(params, batch, key[, extra]) -> (scalar, {name: scalar})``, with extra ``-> (scalar,
            ({name: scalar}, extra))``. Needed without ``update``.
        tx: optax transformation, with ``loss_fn``.
        update: ``(init(params) -> opt_state, step(state, batch, key) -> (state, metrics))`` in place of
            ``loss_fn`` and ``tx``.
        key: int seed or random key.
        mesh: from :func:`make_mesh`; default all devices along "data".
        rules: sequence of (regex on path, PartitionSpec) for parameters and optimiser state.
        batch_rules: the same for batches.
        workdir: folder for checkpoints and metrics.jsonl, or None to keep nothing. "gs://...", "s3://..." and
            "az://..." are folders in a bucket, which need gcsfs and google-cloud-storage, s3fs, or adlfs.
        meta: JSON value that describes the run (plan, config); a workdir with another one is refused.
        evaluate: ``state -> {name: float}``, called every ``evaluate_every`` steps and after the last.
        log_every: steps between log rows, each the mean over its steps.
        evaluate_every: steps between evaluations; default only after the last step.
        save_every: steps between checkpoints; the last step is always saved.
        keep: number of latest checkpoints kept, and the best.
        best: name of the number from ``evaluate`` by which the best checkpoint is kept ("-name": lower is
            better); load it with ``restore_params(workdir, best=best)``.
        patience: stop after so many evaluations without improvement of ``best``.
        progress: show a bar when a person watches.
        tensorboard: write TensorBoard events to ``workdir/tensorboard`` (extra ``tensorboard``).
        profile: number of steps, after the first three, to trace into ``workdir/profile``.

    Returns:
        :class:`TrainState` after the last step.

    Raises:
        ValueError: for arguments that contradict one another, batches without ``[t]`` or too few of them, or
            a batch that the mesh does not divide. Also for a loss that returns something else, and a workdir
            that cannot be written or holds another experiment or other dtypes.
    """
    _check(loss_fn, tx, update, batches, evaluate, best, patience)
    _check_places(workdir, profile, tensorboard)
    update = gradient_update(loss_fn, tx) if update is None else update
    mesh = make_mesh() if mesh is None else mesh
    key = jax.random.key(key) if isinstance(key, int | np.integer) else key
    init_key, step_key = jax.random.split(key)
    make_state, abstract = _prepared(init, update, mesh, tuple(map(tuple, rules)))
    every = _Every(log_every, evaluate_every, save_every)
    with contextlib.ExitStack() as stack:
        saved = Checkpoints(workdir, keep=keep, best=best, meta=meta) if workdir else None
        if saved:
            stack.callback(saved.close)
        resumed = saved is not None and saved.latest is not None
        state = saved.restore(abstract) if resumed else make_state(init_key)
        compiled = _compiled(update, *_hashable(jax.tree.map(lambda leaf: leaf.sharding, abstract)))
        log = MetricLog(workdir, int(state.step), write=jax.process_index() == 0, tensorboard=tensorboard)
        stack.callback(log.close)
        loop = _Loop(compiled, step_key, mesh, log, saved, evaluate, every, best, patience)
        with _tracer(profile, workdir) as trace, _bar(int(state.step), steps, progress) as bar:
            return loop.run(state, batches, steps, tuple(map(tuple, batch_rules)), bar, trace)


def _check(loss_fn, tx, update, batches, evaluate, best, patience):
    """Refuses arguments of :func:`fit` that contradict one another."""
    if (update is None) == (loss_fn is None) or (loss_fn is None) != (tx is None):
        raise ValueError("give loss_fn and tx, or update")
    if patience is not None and (best is None or evaluate is None):
        raise ValueError("patience: name the number to watch with best=, and give evaluate=")
    if not hasattr(batches, "__getitem__"):
        kind = type(batches).__name__
        raise ValueError(f"batches: a {kind} has no [t]; pass a list, or an object whose [t] makes batch t")


def _check_places(workdir, profile, tensorboard):
    """Refuses what :func:`fit` could not write."""
    if profile and workdir is None:
        raise ValueError("profile: needs a workdir to write to")
    if workdir and (profile or tensorboard) and not is_local(folder_of(workdir)):
        raise ValueError(f"workdir={str(workdir)!r}: profile and tensorboard write to the local disk only")


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
    _, abstract = _prepared(init, update, mesh, tuple(map(tuple, rules)))
    step = _compiled(update, *_hashable(jax.tree.map(lambda leaf: leaf.sharding, abstract)))
    with jax.set_mesh(mesh):
        placed = place_batch(batch, mesh, tuple(map(tuple, batch_rules)))
        return step.lower(abstract, placed, jax.random.key(0)).compile()


@functools.lru_cache(maxsize=32)
def _prepared(init, update, mesh, rules):
    """Returns the jitted ``key -> TrainState`` and the abstract state with its shardings."""

    def make_state(key):
        made = init(key)
        params, extra = made if isinstance(made, tuple) else (made, None)
        return TrainState(jnp.int32(0), params, update[0](params), extra)

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
    return jax.jit(make_state, out_shardings=shardings), abstract


def _hashable(shardings):
    leaves, structure = jax.tree.flatten(shardings)
    return tuple(leaves), structure


@functools.lru_cache(maxsize=32)
def _compiled(update, leaves, structure):
    """Jits one step; the cache makes a second fit of the same update compile nothing."""

    def step(state, batch, key):
        done, metrics = update[1](state, batch, jax.random.fold_in(key, state.step))
        for name, value in metrics.items():
            if jnp.shape(value) != ():
                raise ValueError(f"metric {name!r} has shape {jnp.shape(value)}; return its mean, a scalar")
        return dataclasses.replace(done, step=state.step + 1), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(jax.tree.unflatten(structure, leaves), None))


class _Every(NamedTuple):
    """How many steps are between two of a kind; None: only after the last step."""

    log: int
    evaluate: int | None
    save: int | None


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The arguments of :func:`fit` that every step needs, and the loop over the steps."""

    compiled: object
    key: jax.Array
    mesh: jax.sharding.Mesh
    log: MetricLog
    saved: Checkpoints | None
    evaluate: object
    every: _Every
    best: str | None
    patience: int | None

    def run(self, state, batches, steps, batch_rules, bar, trace):
        """Runs the steps that are left and returns the last state."""
        first, window, began = int(state.step), [], time.perf_counter()
        with _ahead(batches, first, steps) as next_batch, _signals() as stopped, jax.set_mesh(self.mesh):
            for done in range(first + 1, steps + 1):
                if self._exhausted():
                    break
                batch = place_batch(next_batch(done - 1), self.mesh, batch_rules)
                state, metrics = self.compiled(state, batch, self.key)
                trace(done - first, metrics)
                if len(window) > 1:
                    jax.block_until_ready(window[-2])  # at most two steps in flight
                window.append(metrics)
                bar.update()
                last = done == steps
                if last or stopped or done % self.every.log == 0:
                    self._write(done, window, began, bar)
                    window, began = [], time.perf_counter()
                paused = time.perf_counter()
                numbers = self._evaluated(done, state, last)
                began += time.perf_counter() - paused
                self._save(done, state, numbers, last or stopped)
                if stopped:
                    kept = f"; run again to resume from {self.saved.folder}" if self.saved else ""
                    raise KeyboardInterrupt(f"stopped after step {done}{kept}")
        return state

    def _write(self, done, window, began, bar):
        """Logs the means of the steps since the last row."""
        seconds = (time.perf_counter() - began) / len(window)
        means = jax.tree.map(lambda *m: np.mean(np.asarray(m, np.float64)), *jax.device_get(window))
        self.log.add(done, "train", {**means, "seconds_per_step": seconds})
        bar.set_postfix(loss=f"{means.get('loss', np.nan):.4g}", refresh=False)

    def _evaluated(self, done, state, last):
        """The numbers of an evaluation that is due, or None."""
        if not self.evaluate or not (last or _due(done, self.every.evaluate)):
            return None
        numbers = self.log.add(done, "evaluate", self.evaluate(state))
        if self.best is not None and numbers is not None:
            score(numbers, self.best)  # raises for a number that evaluate does not return
        return numbers

    def _save(self, done, state, numbers, last):
        """Saves when it is due, at the end, and wherever a best one could be."""
        ranked = self.best is not None and numbers is not None
        if self.saved and (last or ranked or _due(done, self.every.save)):
            self.saved.save(done, state, numbers)

    def _exhausted(self):
        return self.patience is not None and patience_left(self.log.rows, self.best, self.patience) <= 0


def _due(step, every):
    return bool(every) and step % every == 0


@contextlib.contextmanager
def _ahead(batches, first, steps, depth=2):
    """Reads the next batches in a thread while the device works."""
    if first < steps and isinstance(batches, Sequence) and len(batches) < steps:
        raise ValueError(f"batches: {len(batches)} for {steps} steps; pass one for each step")
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        waiting = {t: pool.submit(batches.__getitem__, t) for t in range(first, min(first + depth, steps))}

        def take(t):
            try:
                batch = waiting.pop(t).result()
            except (IndexError, KeyError) as error:
                if isinstance(error, KeyError) and error.args != (t,):
                    raise
                raise ValueError(
                    f"batches: none at [{t}], of {steps} steps ({error}); pass one each"
                ) from error
            if t + depth < steps:
                waiting[t + depth] = pool.submit(batches.__getitem__, t + depth)
            return batch

        try:
            yield take
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _signals():
    """Collects SIGINT and SIGTERM in a list; a second one acts as usual."""
    received = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number, frame):
        received.append(number)
        signal.signal(number, previous[number])

    try:
        for number in previous:
            signal.signal(number, note)
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _bar(first, steps, progress):
    watched = progress and jax.process_index() == 0
    return extras.bar(steps, watched=watched, initial=first, unit="step", dynamic_ncols=True)


@contextlib.contextmanager
def _tracer(count, workdir):
    """Yields a function that is called after each step and traces ``count`` steps after the first three.

    A run that ends earlier, for whatever reason, leaves the trace of the steps that it did.
    """
    running, waiting = False, None

    def stop():
        nonlocal running
        jax.block_until_ready(waiting)
        jax.profiler.stop_trace()
        running = False

    def after(steps, metrics):
        nonlocal running, waiting
        waiting = metrics
        if count and steps == 3:
            jax.profiler.start_trace(os.path.join(workdir, "profile"))
            running = True
        elif running and steps == 3 + count:
            stop()

    try:
        yield after
    finally:
        if running:
            stop()
