"""The training loop."""

import concurrent.futures
import contextlib
import dataclasses
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxembed import extras, files
from jaxembed.arrays import NONFINITE
from jaxembed.checks import check_whole
from jaxembed.train.checkpoint import Checkpoints
from jaxembed.train.damage import without_orbax
from jaxembed.train.gradients import gradient_update
from jaxembed.train.log import MetricLog, patience_left, score
from jaxembed.train.mesh import make_mesh, place_batch
from jaxembed.train.peers import peers
from jaxembed.train.step import BATCH_RULES, STOP, compiled, hashable, prepared
from jaxembed.train.stopping import Agreement, Finite, Flight, report, signals, stop
from jaxembed.train.workdir import folder_of, is_local


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
    nonfinite="stop",
):
    """Training loop: a number of steps, sharded over a mesh, resumed where it was stopped.

    Step t reads ``batches[t]`` and the key ``fold_in(key, t)``, so a run that stops and resumes gives the
    same bits as one that never stopped. The step is compiled once for each (update, shardings), with the
    state donated and placed by ``rules``. Ctrl-C ends the run after the current step, saves, and raises
    KeyboardInterrupt; SIGTERM does the same and raises SystemExit(143). Several processes agree on the step
    after which they stop; when one of them dies, the others end with one line and exit code 75. A step whose
    loss or gradient is not finite ends the run, and is never saved. Nor are parameters that an update made
    infinite.

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
        keep: number of latest checkpoints kept, at least 1, and the best.
        best: name of the number from ``evaluate`` by which the best checkpoint is kept ("-name": lower is
            better); load it with ``restore_params(workdir, best=best)``.
        patience: stop after so many evaluations without improvement of ``best``.
        progress: show a bar when a person watches.
        tensorboard: write TensorBoard events to ``workdir/tensorboard`` (extra ``tensorboard``).
        profile: number of steps, after the first three, to trace into ``workdir/profile``.
        nonfinite: "stop" raises FloatingPointError at a step whose loss or gradient is not finite, within two
            steps after it. Its batch goes to ``workdir/nonfinite_<step>_<process>.npz``; :func:`replay` does
            the step again. "skip" leaves the state as it was before such a step, counts it as "skipped" in
            the log, and gives up after ten in a row. It reads the whole state once more in each step.

    Returns:
        :class:`TrainState` after the last step.

    Raises:
        ValueError: for arguments that contradict one another, batches without ``[t]`` or too few of them, or
            a batch that the mesh does not divide. Also for a loss that returns something else, and a workdir
            that cannot be written or holds another experiment or other dtypes.
        BlockingIOError: for a workdir in which another run is under way.
        OSError: for a disk without room; the run goes on from its last checkpoint when there is some.
        FloatingPointError: see ``nonfinite``.
    """
    if nonfinite not in ("stop", "skip"):
        raise ValueError(f"nonfinite={nonfinite!r}; choose 'stop' or 'skip'")
    _check(steps, loss_fn, tx, update, batches, evaluate, best, patience)
    _check_places(workdir, profile, tensorboard)
    update = gradient_update(loss_fn, tx) if update is None else update
    mesh = make_mesh() if mesh is None else mesh
    key = jax.random.key(key) if isinstance(key, int | np.integer) else key
    init_key, step_key = jax.random.split(key)
    make_state, abstract = prepared(init, update, mesh, tuple(map(tuple, rules)))
    every = _Every(log_every, evaluate_every, save_every)
    with peers(workdir) as others, contextlib.ExitStack() as stack:
        saved = _opened(stack, workdir, abstract, keep=keep, best=best, meta=meta)
        resumed = saved is not None and saved.latest is not None
        state = saved.restore(abstract) if resumed else make_state(init_key)
        program = compiled(
            update, *hashable(jax.tree.map(lambda leaf: leaf.sharding, abstract)), skip=nonfinite == "skip"
        )
        log = MetricLog(workdir, int(state.step), write=jax.process_index() == 0, tensorboard=tensorboard)
        stack.callback(log.close)
        stack.push(others.settle)
        loop = _Loop(program, step_key, mesh, log, saved, evaluate, every, best, patience, nonfinite)
        finite = Finite(state.params) if saved else None
        with _tracer(profile, workdir) as trace, _bar(int(state.step), steps, progress) as bar:
            return loop.run(state, batches, steps, tuple(map(tuple, batch_rules)), bar, trace, finite)


def _check(steps, loss_fn, tx, update, batches, evaluate, best, patience):
    """Refuses arguments of :func:`fit` that contradict one another."""
    check_whole(0, steps=steps)
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


def _opened(stack, workdir, abstract, **options):
    """The checkpoints of a workdir that is locked for this run, or None; a stack of contexts closes both."""
    if not workdir:
        return None
    stack.enter_context(_held(workdir))
    stack.enter_context(without_orbax())
    saved = Checkpoints(workdir, **options)
    stack.callback(saved.close)
    saved.check(abstract)
    return saved


def _held(workdir):
    """A workdir has one run; its first process holds the lock. Buckets have none."""
    folder = folder_of(workdir)
    if jax.process_index() or not is_local(folder):
        return contextlib.nullcontext()
    with contextlib.suppress(OSError):  # Checkpoints tells what is wrong with it
        folder.mkdir(parents=True, exist_ok=True)
        return files.held(folder, "a run")
    return contextlib.nullcontext()


class _Every(NamedTuple):
    """How many steps are between two of a kind; None: only after the last step."""

    log: int
    evaluate: int | None
    save: int | None


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The arguments of :func:`fit` that every step needs, and the loop over the steps."""

    program: object
    key: jax.Array
    mesh: jax.sharding.Mesh
    log: MetricLog
    saved: Checkpoints | None
    evaluate: object
    every: _Every
    best: str | None
    patience: int | None
    nonfinite: str

    def run(self, state, batches, steps, batch_rules, bar, trace, finite):
        """Runs the steps that are left and returns the last state."""
        first, window, began = int(state.step), [], time.perf_counter()
        with _ahead(batches, first, steps) as next_batch, signals() as received, jax.set_mesh(self.mesh):
            flight = Flight(Agreement(received, self.mesh), self._refuse, skip=self.nonfinite == "skip")
            for done in range(first + 1, steps + 1):
                if self._exhausted():
                    break
                batch = place_batch(next_batch(done - 1), self.mesh, batch_rules)
                state, metrics = self.program(state, batch, self.key, flight.agreement.sent())
                trace(done - first, metrics)
                window.append(metrics)
                bar.update()
                stopped = flight.add(done, metrics, state.params, batches)
                if stopped or done == steps or self._pauses(done):
                    stopped = max(stopped, flight.land(state.params, batches))
                last = done == steps or bool(stopped)
                if last or done % self.every.log == 0:
                    self._write(done, window, began, bar)
                    window, began = [], time.perf_counter()
                paused = time.perf_counter()
                numbers = self._evaluated(done, state, done == steps)
                began += time.perf_counter() - paused
                self._save(done, state, numbers, last, finite)
                if stopped:
                    stop(stopped, done, self.saved and self.saved.folder)
        return state

    def _pauses(self, done):
        """Whether the state of this step is read before the next one begins."""
        return any(_due(done, every) for every in self.every)

    def _refuse(self, step, metrics, params, batch):
        folder, last_good = None, None
        if self.saved:
            folder, last_good = self.saved.folder, self.saved.latest
        report(step, metrics, params, batch, folder, last_good)

    def _write(self, done, window, began, bar):
        """Logs the means of the steps since the last row."""
        seconds = (time.perf_counter() - began) / len(window)
        rows = [{k: float(v) for k, v in m.items() if k != STOP} for m in jax.device_get(window)]
        good = [row for row in rows if row.pop(NONFINITE) == -1]
        means = {name: np.mean([row[name] for row in good]) for name in (good[0] if good else ())}
        skipped = {"skipped": len(rows) - len(good)} if len(good) < len(rows) else {}
        self.log.add(done, "train", {**means, **skipped, "seconds_per_step": seconds})
        bar.set_postfix(loss=f"{means.get('loss', np.nan):.4g}", refresh=False)

    def _evaluated(self, done, state, last):
        """The numbers of an evaluation that is due, or None."""
        if not self.evaluate or not (last or _due(done, self.every.evaluate)):
            return None
        numbers = self.log.add(done, "evaluate", self.evaluate(state))
        if self.best is not None and numbers is not None:
            score(numbers, self.best)  # raises for a number that evaluate does not return
        return numbers

    def _save(self, done, state, numbers, last, finite):
        """Saves when it is due, at the end, and wherever a best one could be."""
        ranked = self.best is not None and numbers is not None
        if self.saved and (last or ranked or _due(done, self.every.save)):
            finite.check(done, state.params, self.saved.latest)
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
