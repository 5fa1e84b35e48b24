"""Checkpoints: asynchronous, atomic, restorable on any number of devices."""

import contextlib
import dataclasses
import json
import shutil
import warnings

import jax
import numpy as np

from jaxembed import files
from jaxembed.extras import brings
from jaxembed.train.checksums import described, difference, opened, record_of
from jaxembed.train.damage import Damaged, of_disk, quiet, reason_of, settled, uncounted, undamaged, unopened
from jaxembed.train.log import score
from jaxembed.train.workdir import compare_meta, folder_of


class _EveryAsked:
    """Save policy that never skips: fit decides when to save (orbax's default skips while one is running)."""

    def should_save(self, step, previous_steps, *, context):
        return True


class _Kept:
    """Preservation policy: the latest ones, the best, and those whose numbers cannot be read."""

    def __init__(self, keep, best, numbers):
        self.keep, self.best, self.numbers = keep, best, numbers

    def should_preserve(self, checkpoints, *, context):
        steps = sorted(c.step for c in checkpoints)
        kept = set(steps[-self.keep :])
        if self.best is not None:
            name = self.best.removeprefix("-")
            known = {s: self.numbers[s] for s in steps if name in (self.numbers.get(s) or ())}
            kept |= {_best_of(known, self.best)} | {s for s in steps if s not in self.numbers}
        return [c.step in kept for c in checkpoints]


class Checkpoints:
    """The checkpoints of one run in ``workdir/checkpoints``.

    Each holds the parameters as a checkpointable of their own and the rest of the state apart from them, and
    a record with a checksum of every array, which is compared when it is restored.

    Args:
        workdir: folder of the run; made when missing. It may be in a bucket, see :func:`folder_of`.
        keep: number of latest checkpoints that are kept.
        best: name of the number whose best checkpoint is kept too ("-name": lower is better), or None.
        meta: JSON value that describes the run; must equal the stored one.
        clear: removes what killed saves left; False beside a run that may be saving, which only reads.

    Raises:
        ValueError: when the folder cannot be written or holds a run with another ``meta``, and for ``keep``
            below 1.
    """

    def __init__(self, workdir, *, keep=2, best=None, meta=None, clear=True):
        if keep < 1:
            raise ValueError(f"keep={keep}: a run resumes from its latest checkpoint; keep at least 1")
        self.folder = folder_of(workdir)
        self._clear = clear
        self._workdir, self._meta = str(workdir), json.loads(json.dumps(meta))
        try:
            if clear:
                self.folder.mkdir(parents=True, exist_ok=True)
                probe = self.folder / f".writable-{jax.process_index()}"
                probe.touch()
                probe.unlink()
        except Exception as error:  # clients of buckets raise errors of their own
            raise ValueError(
                f"workdir={str(workdir)!r} cannot be written ({reason_of(error)}); name another"
            ) from None
        compare_meta(self.folder, self._meta, write=clear and jax.process_index() == 0)
        self._numbers, self._saving, self._inner, self._full = {}, None, None, False
        self._policy = _Kept(keep, best, self._numbers)
        self._open()

    def _open(self):
        with brings("train"):
            from orbax.checkpoint import v1 as ocp
        uncounted()
        if self._inner is not None:
            self._inner.close()
        folder = self.folder / "checkpoints"
        try:
            with quiet():
                self._inner = ocp.training.Checkpointer(
                    folder,
                    save_decision_policy=_EveryAsked(),
                    preservation_policy=self._policy,
                    cleanup_tmp_directories=self._clear,
                )
        except ImportError as error:
            raise ValueError(
                f"workdir={self._workdir!r}: {error}; install it for checkpoints there"
            ) from None
        except Exception as error:
            unopened(folder, error, move=self._clear and jax.process_count() == 1)
            return self._open()
        self._numbers.clear()
        for step in self._steps():
            with contextlib.suppress(Exception):  # its numbers stay unknown
                self._numbers[step] = _numbers(folder / str(step))

    def _steps(self):
        return [c.step for c in self._inner.checkpoints]

    def check(self, state):
        """Refuses an abstract state that a checkpoint cannot hold."""
        for path, (shape, _) in described({"params": state.params, **_rest(state)}).items():
            if 0 in shape:
                raise ValueError(
                    f"workdir={str(self.folder)!r}: {path} has shape {tuple(shape)}, and checkpoints hold no "
                    "empty arrays; leave it out"
                )

    @property
    def latest(self):
        """Step of the newest complete checkpoint, or None."""
        return max(self._steps(), default=None)

    def save(self, step, state, numbers=None):
        """Starts to save a state; waits only for an earlier save that is still running."""
        self._wait()
        rest = _rest(state)
        self._numbers[step] = numbers
        record = {"meta": self._meta, **record_of({"params": state.params, **rest}, numbers)}
        with self._room_for(step):
            saving = self._inner.save_checkpointables_async(
                step,
                {"params": state.params, "rest": rest},
                metrics=numbers or None,
                custom_metadata=record,
                overwrite=step == self.latest,
            )
        self._saving = step, saving

    def _wait(self):
        """Ends the running save, and with it the thread and the files that it holds."""
        begun, self._saving = self._saving, None
        if begun is not None:
            with self._room_for(begun[0]):
                begun[1].result()

    @contextlib.contextmanager
    def _room_for(self, step):
        """A save for which the disk has no room ends in one line that names it, and leaves nothing."""
        try:
            yield
        except Exception as error:
            cause = of_disk(error)
            if cause is None:
                raise
            self._full, folder = True, self.folder / "checkpoints"
            settled()
            for left in folder.glob(f"{step}.*"):
                shutil.rmtree(left, ignore_errors=True)
            raise files.unwritten(folder / str(step), cause) from None

    def restore(self, state):
        """Loads the newest good checkpoint into the shapes and shardings of an abstract state.

        A damaged one is moved to ``workdir/damaged`` with a warning, and the one before it is loaded.
        """
        while True:
            step = self.latest
            try:
                loaded, damage = self._loaded(step, state), None
            except Damaged as error:
                loaded, damage = None, str(error)
            if _everywhere(damage is None):
                return loaded
            self._set_aside(step, damage or "another process cannot read it")

    def _loaded(self, step, state):
        folder = self.folder / "checkpoints" / str(step)
        wanted = {"params": state.params, "rest": _rest(state)}
        record, stored = undamaged(lambda: self._stored(folder, step))
        asked = {name: described(tree) for name, tree in wanted.items()}
        if record is None:  # such a version says of random keys what they consist of
            keys = {k for k, (_, kind) in asked["rest"].items() if kind.startswith("key<")}
            stored["rest"] = {k: v for k, v in stored["rest"].items() if k not in keys}
        _compare_shapes(self.folder, stored["params"], asked["params"])
        _compare_dtypes(self.folder, "parameter ", stored["params"], asked["params"])
        _compare_dtypes(self.folder, "", stored["rest"], asked["rest"])
        if record is not None and stored["rest"] != asked["rest"]:
            raise ValueError(
                f"workdir={str(self.folder)!r}: checkpoint {step} is of another optimiser; "
                "name another workdir or delete this one"
            )
        loaded = undamaged(lambda: self._inner.load_checkpointables(step, wanted))
        state = dataclasses.replace(state, params=loaded["params"], **loaded["rest"])
        found = record and difference(record, {"params": state.params, **_rest(state)})
        if found:
            raise Damaged(found)
        return state

    def _stored(self, folder, step):
        """The record of a checkpoint, or None, and {path: [shape, dtype]} of its arrays."""
        record = opened(folder)
        return record, _described(self._inner, step) if record is None else _split(record["arrays"])

    def _set_aside(self, step, damage):
        """Moves a damaged checkpoint out of the way, unless no other is left."""
        name = f"workdir={str(self.folder)!r}: checkpoint {step} is damaged ({damage})"
        before = [s for s in self._steps() if s < step]
        if not before:
            raise ValueError(f"{name} and no earlier one is left; name another workdir or delete this one")
        if jax.process_index() == 0:
            target = self.folder / "damaged" / str(step)
            while target.exists():
                target = files.beside(target, "_")
            target.parent.mkdir(exist_ok=True)
            (self.folder / "checkpoints" / str(step)).rename(target)
        _everywhere(True)
        self._open()
        warnings.warn(f"{name}; it was moved to damaged/, and checkpoint {before[-1]} is used", stacklevel=5)

    def close(self):
        """Waits for running saves."""
        try:
            self._wait()
        finally:
            with contextlib.suppress(Exception) if self._full else contextlib.nullcontext():
                self._inner.close()  # which raises once more what a save has raised


def _everywhere(fine):
    """Whether all processes are fine; waits for them."""
    if jax.process_count() == 1:
        return fine
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.array(fine))))


def _rest(state):
    rest = {"step": state.step, "opt_state": state.opt_state, "extra": state.extra}
    return {k: v for k, v in rest.items() if v is not None}


def _numbers(folder):
    """The numbers that a checkpoint was saved with, or None when it had none."""
    record = opened(folder)
    if record is not None:
        return record["numbers"]
    path = folder / "metrics" / "metrics"  # of a version that wrote no record
    return files.read_json(path, "train again") if path.exists() else None


def _best_of(numbers, best):
    return max(numbers, key=lambda s: score(numbers[s], best), default=None)


def _split(arrays):
    """What the record says of the parameters and of the rest."""
    said = {name: [shape, dtype] for name, (shape, dtype, _) in arrays.items()}
    params = {k.removeprefix("params/"): v for k, v in said.items() if k.startswith("params/")}
    return {"params": params, "rest": {k: v for k, v in said.items() if not k.startswith("params/")}}


def _described(inner, step):
    stored = inner.checkpointables_metadata(step).metadata
    return {name: described(stored[name]) for name in ("params", "rest")}


def _compare_shapes(folder, stored, wanted):
    """Refuses parameters of other names or shapes."""
    stored, wanted = ({k: tuple(shape) for k, (shape, _) in x.items()} for x in (stored, wanted))
    for name in sorted(set(stored) | set(wanted)):
        if stored.get(name) != wanted.get(name):
            raise ValueError(
                f"workdir={str(folder)!r} holds another model: parameter {name} has shape "
                f"{stored.get(name, 'none')} there and {wanted.get(name, 'none')} here; name another workdir"
            )


def _compare_dtypes(folder, what, stored, wanted):
    """Refuses arrays of another dtype, to which the stored numbers would be rounded."""
    for name in sorted(set(stored) & set(wanted)):
        if stored[name][1] != wanted[name][1]:
            raise ValueError(
                f"workdir={str(folder)!r} holds {what}{name} as {stored[name][1]}, here it is "
                f"{wanted[name][1]}; keep the dtype or name another workdir"
            )


def restore_params(workdir, *, step=None, best=None):
    """Checkpoint: loads the parameters alone, on the first device.

    Args:
        workdir: folder of the run.
        step: step of the checkpoint; default the newest.
        best: name of the number whose best checkpoint is loaded instead ("-name": lower is better).

    Returns:
        Nested dict of ``jax.Array``.

    Raises:
        FileNotFoundError: when the checkpoint is missing.
        ValueError: for a bucket that cannot be read, or a checkpoint that is damaged. Without ``step`` and
            ``best`` a damaged one is passed over with a warning.
    """
    with brings("train"):
        from orbax.checkpoint import v1 as ocp
    folder = folder_of(workdir) / "checkpoints"
    try:
        found = folder.is_dir()
    except Exception as error:  # clients of buckets raise errors of their own
        raise ValueError(f"workdir={str(workdir)!r} cannot be read ({reason_of(error)}); mend that") from None
    if not found:
        raise FileNotFoundError(f"workdir={str(workdir)!r} holds no checkpoint; train first")
    try:
        with quiet():
            checkpointer = ocp.training.Checkpointer(folder)
    except ImportError as error:
        raise ValueError(f"workdir={str(workdir)!r}: {error}; install it for checkpoints there") from None
    except Exception as error:
        unopened(folder, error, move=False)
    with checkpointer as found:
        steps = sorted(c.step for c in found.checkpoints)
        if best is not None:
            step = _best_of(_known(folder, steps), best)
        wanted = steps[::-1] if step is None and best is None else [step]
        if not steps or wanted[0] not in steps:
            raise FileNotFoundError(f"workdir={str(workdir)!r} holds checkpoints {steps}, not {step}")
        for step in wanted:
            try:
                return _read(found, folder, step)
            except Damaged as error:
                damage = f"workdir={str(workdir)!r}: checkpoint {step} is damaged ({error})"
            if step == wanted[-1]:
                others = f", there are {steps}" if len(steps) > 1 else ""
                raise ValueError(f"{damage}; name another with step={others}, or train again") from None
            warnings.warn(f"{damage}; an earlier one is read", stacklevel=2)


def restore_before(workdir, step, state, meta):
    """Loads the last checkpoint before a step into the form of an abstract state, or returns None."""
    if not (folder_of(workdir) / "checkpoints").is_dir():
        raise FileNotFoundError(f"workdir={str(workdir)!r} holds no run; pass its folder, or None")
    saved = Checkpoints(workdir, meta=meta, clear=False)
    try:
        for earlier in sorted((s for s in saved._steps() if s < step), reverse=True):
            try:
                return saved._loaded(earlier, state)
            except Damaged as error:
                damage = f"workdir={str(workdir)!r}: checkpoint {earlier} is damaged ({error})"
            warnings.warn(f"{damage}; the one before it is read, or the first parameters", stacklevel=3)
        return None
    finally:
        saved.close()


def _known(folder, steps):
    """The numbers of the checkpoints that have some."""
    numbers = {}
    for step in steps:
        try:
            numbers[step] = _numbers(folder / str(step))
        except Exception as error:
            raise ValueError(
                f"{folder / str(step)}: which checkpoint is best is unknown, as the numbers of this one are "
                f"damaged ({reason_of(error)}); name one with step="
            ) from None
    return {s: n for s, n in numbers.items() if n}


def _read(found, folder, step):
    """The parameters of one checkpoint on the first device, compared with its record."""
    record, params = undamaged(lambda: _record_and_params(found, folder, step))
    wrong = record and difference(record, {"params": params})
    if wrong:
        raise Damaged(wrong)
    return params


def _record_and_params(found, folder, step):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    record = opened(folder / str(step))
    abstract = jax.tree.map(
        lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding),
        found.checkpointables_metadata(step).metadata["params"],
        is_leaf=lambda x: hasattr(x, "shape"),
    )
    if record is not None and _split(record["arrays"])["params"] != described(abstract):
        raise ValueError("its arrays are not those that were saved")
    return record, found.load_checkpointables(step, {"params": abstract})["params"]
