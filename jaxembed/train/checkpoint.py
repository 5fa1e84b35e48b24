"""Checkpoints: asynchronous, atomic, restorable on any number of devices."""

import dataclasses
import json

import jax

from jaxembed import files
from jaxembed.extras import brings
from jaxembed.train.log import score
from jaxembed.train.mesh import path_of
from jaxembed.train.workdir import folder_of, is_local


class _EveryAsked:
    """Save policy that never skips: fit decides when to save (orbax's default skips while one is running)."""

    def should_save(self, step, previous_steps, *, context):
        return True


class Checkpoints:
    """The checkpoints of one run in ``workdir/checkpoints``.

    Each holds the parameters as a checkpointable of their own and the rest of the state apart from them.

    Args:
        workdir: folder of the run; made when missing. It may be in a bucket, see :func:`folder_of`.
        keep: number of latest checkpoints that are kept.
        best: name of the number whose best checkpoint is kept too ("-name": lower is better), or None.
        meta: JSON value that describes the run; must equal the stored one.

    Raises:
        ValueError: when the folder cannot be written or holds a run with another ``meta``.
    """

    def __init__(self, workdir, *, keep=2, best=None, meta=None):
        with brings("train"):
            from orbax.checkpoint import v1 as ocp
        self.folder = folder_of(workdir)
        self._meta = json.loads(json.dumps(meta))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".writable-{jax.process_index()}"
            probe.touch()
            probe.unlink()
        except Exception as error:  # clients of buckets raise errors of their own
            raise ValueError(
                f"workdir={str(workdir)!r} cannot be written ({_reason(error)}); name another"
            ) from None
        self._compare_meta()
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)]
        if best is not None:
            kept.append(
                policies.BestN(
                    get_metric_fn=lambda m: score(m, best), n=1, keep_checkpoints_without_metrics=False
                )
            )
        try:
            self._inner = ocp.training.Checkpointer(
                self.folder / "checkpoints",
                save_decision_policy=_EveryAsked(),
                preservation_policy=policies.AnyPreservationPolicy(kept),
            )
        except ImportError as error:
            raise ValueError(f"workdir={str(workdir)!r}: {error}; install it for checkpoints there") from None

    def _compare_meta(self):
        path = self.folder / "meta.json"
        if path.exists():
            stored = files.read_json(path, "delete the workdir or name another")
            if stored != self._meta:
                raise ValueError(
                    f"workdir={str(self.folder)!r} holds another experiment: "
                    f"{files.difference(stored, self._meta)}; name another workdir or delete this one"
                )
        elif jax.process_index() == 0:
            if is_local(path):
                files.write_json(path, self._meta)
            else:
                path.write_text(json.dumps(self._meta, indent=1))

    @property
    def latest(self):
        """Step of the newest complete checkpoint, or None."""
        found = self._inner.latest
        return None if found is None else found.step

    def save(self, step, state, numbers=None):
        """Starts to save a state; waits only for an earlier save that is still running."""
        rest = {"step": state.step, "opt_state": state.opt_state, "extra": state.extra}
        self._inner.save_checkpointables_async(
            step,
            {"params": state.params, "rest": {k: v for k, v in rest.items() if v is not None}},
            metrics=numbers or None,
            custom_metadata={"meta": self._meta},
            overwrite=step == self.latest,
        )

    def restore(self, state):
        """Loads the newest checkpoint into the shapes and shardings of an abstract state."""
        step = self.latest
        wanted = {"step": state.step, "opt_state": state.opt_state, "extra": state.extra}
        wanted = {k: v for k, v in wanted.items() if v is not None}
        stored = self._inner.checkpointables_metadata(step).metadata
        _compare_shapes(self.folder, stored["params"], state.params)
        _compare_dtypes(self.folder, "parameter ", stored["params"], state.params)
        _compare_dtypes(self.folder, "", stored["rest"], wanted)
        try:
            loaded = self._inner.load_checkpointables(step, {"params": state.params, "rest": wanted})
        except Exception as error:
            raise ValueError(
                f"workdir={str(self.folder)!r}: checkpoint {step} is damaged or of another optimiser; "
                "name another workdir or delete this one"
            ) from error
        return dataclasses.replace(state, params=loaded["params"], **loaded["rest"])

    def close(self):
        """Waits for running saves."""
        self._inner.close()


def _reason(error):
    """Why an error came, in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def _leaves(tree):
    leaves = jax.tree.leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {path_of(path): leaf for path, leaf in leaves if hasattr(leaf, "shape")}


def _compare_shapes(folder, stored, params):
    """Refuses parameters of other names or shapes."""
    stored, wanted = ({k: tuple(x.shape) for k, x in _leaves(tree).items()} for tree in (stored, params))
    for name in sorted(set(stored) | set(wanted)):
        if stored.get(name) != wanted.get(name):
            raise ValueError(
                f"workdir={str(folder)!r} holds another model: parameter {name} has shape "
                f"{stored.get(name, 'none')} there and {wanted.get(name, 'none')} here; name another workdir"
            )


def _compare_dtypes(folder, what, stored, wanted):
    """Refuses arrays of another dtype, to which the stored numbers would be rounded."""
    stored, wanted = _leaves(stored), _leaves(wanted)
    for name in sorted(set(stored) & set(wanted)):
        if stored[name].dtype != wanted[name].dtype:
            raise ValueError(
                f"workdir={str(folder)!r} holds {what}{name} as {stored[name].dtype}, here it is "
                f"{wanted[name].dtype}; keep the dtype or name another workdir"
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
        ValueError: for a bucket that cannot be read.
    """
    with brings("train"):
        from orbax.checkpoint import v1 as ocp
    folder = folder_of(workdir) / "checkpoints"
    try:
        found = folder.is_dir()
    except Exception as error:  # clients of buckets raise errors of their own
        raise ValueError(f"workdir={str(workdir)!r} cannot be read ({_reason(error)}); mend that") from None
    if not found:
        raise FileNotFoundError(f"workdir={str(workdir)!r} holds no checkpoint; train first")
    try:
        opened = ocp.training.Checkpointer(folder)
    except ImportError as error:
        raise ValueError(f"workdir={str(workdir)!r}: {error}; install it for checkpoints there") from None
    with opened as found:
        kept = {c.step: c.metrics for c in found.checkpoints}
        if best is not None:
            kept = {s: m for s, m in kept.items() if m}
            step = max(kept, key=lambda s: score(kept[s], best), default=None)
        elif step is None:
            step = max(kept, default=None)
        if step not in kept:
            raise FileNotFoundError(f"workdir={str(workdir)!r} holds checkpoints {sorted(kept)}, not {step}")
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(
            lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding),
            found.checkpointables_metadata(step).metadata["params"],
            is_leaf=lambda x: hasattr(x, "shape"),
        )
        return found.load_checkpointables(step, {"params": abstract})["params"]
