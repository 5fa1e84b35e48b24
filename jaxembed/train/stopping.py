"""Why a run stops before its end: signals, on which all processes agree, and numbers that are not finite."""

import atexit
import collections
import contextlib
import io
import signal
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxembed.arrays import NONFINITE
from jaxembed.train.mesh import path_of
from jaxembed.train.step import STOP


class Received(list):
    """Numbers of the signals that this process received; ``told`` is the one of any process, or 0."""

    told = 0


@contextlib.contextmanager
def signals():
    """Collects SIGINT and SIGTERM in a :class:`Received`; a second one acts as usual.

    Where another process told of a signal, this process's own may come later, and asks for what is done
    already: the first one after the end is let pass.
    """
    received = Received()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number, frame):
        received.append(int(number))
        signal.signal(number, previous[number])

    def late(number, frame):
        signal.signal(number, previous[number])

    try:
        for number in previous:
            signal.signal(number, note)
        yield received
    finally:
        for number, handler in previous.items():
            expected = number == received.told and number not in received
            signal.signal(number, late if expected else handler)
            if expected:
                atexit.register(_ignore, number, late)


def _ignore(number, handler):
    """Lets a signal pass that is still expected when the interpreter ends, which drops handlers first."""
    if signal.getsignal(number) is handler:
        signal.signal(number, signal.SIG_IGN)


class Agreement:
    """The signal by which a run stops: in one process the one received, in several the one of any process.

    Several processes see signals in different steps, and one that stopped alone would leave the others
    waiting. So each step carries what its process has received, and returns the largest of all. Every process
    reads that number of the same step, two steps later.

    Args:
        received: the :class:`Received` that :func:`signals` fills.
        mesh: of the run.
    """

    def __init__(self, received, mesh):
        self.received, self.alone = received, jax.process_count() == 1
        self._sharding = NamedSharding(mesh, P(mesh.axis_names))
        self._own = sum(d.process_index == jax.process_index() for d in mesh.devices.flat)

    def sent(self):
        """What this process adds to a step: None in one process."""
        if self.alone:
            return None
        value = np.full(self._own, max(self.received, default=0), np.int32)
        return jax.make_array_from_process_local_data(self._sharding, value)

    def signal(self, metrics):
        """Number of the signal after which to stop, or 0; ``metrics`` are of the last step that is done."""
        if self.alone:
            return self.received[0] if self.received else 0
        number = int(metrics[STOP]) if metrics else 0
        self.received.told = number or self.received.told
        return number


class Flight:
    """The steps that were started and not looked at: at most two, so that the host is never far ahead.

    Args:
        agreement: :class:`Agreement`.
        refuse: ``(step, metrics, params, batch)``, called for a step that is not finite.
        skip: let so many steps in a row pass as ``SKIPS`` says.
    """

    SKIPS = 10

    def __init__(self, agreement, refuse, *, skip):
        self.agreement, self._refuse, self._skip = agreement, refuse, skip
        self._steps, self._skipped = collections.deque(), 0

    def add(self, step, metrics, params, batches):
        """Adds a step that was started; returns the number of the signal after which to stop, or 0."""
        self._steps.append((step, metrics))
        return self._look(params, batches) if len(self._steps) > 2 else self.agreement.signal(None)

    def land(self, params, batches):
        """Looks at all steps that were started, before their state is read; returns as :meth:`add` does."""
        return max((self._look(params, batches) for _ in range(len(self._steps))), default=0)

    def _look(self, params, batches):
        step, metrics = self._steps.popleft()
        good = int(metrics[NONFINITE]) == -1
        self._skipped = 0 if good else self._skipped + 1
        if not good and not (self._skip and self._skipped <= self.SKIPS):
            self._refuse(step, metrics, params, batches[step - 1])
        return self.agreement.signal(metrics)


def stop(number, done, folder):
    """Raises KeyboardInterrupt after SIGINT, and SystemExit with code 143 after SIGTERM."""
    kept = f"; run again to resume from {folder}" if folder else ""
    message = f"stopped after step {done}{kept}"
    if number == signal.SIGTERM:
        print(message, file=sys.stderr)
        raise SystemExit(128 + number)
    raise KeyboardInterrupt(message)


class Finite:
    """Refuses to save parameters that an update made NaN or infinite from finite gradients.

    Args:
        params: those that the run begins with; an array that is not finite there is left alone.
    """

    def __init__(self, params):
        self._known = nonfinite_leaves(params)

    def check(self, step, params, last_good):
        """Raises FloatingPointError with the path of the first such array."""
        bad = nonfinite_leaves(params) - self._known
        if bad:
            path = path_of(jax.tree.leaves_with_path(params)[min(bad)][0])
            good = "no checkpoint is kept" if last_good is None else f"checkpoint {last_good} is kept"
            raise FloatingPointError(
                f"step {step}: parameter {path} is not finite after it, although its gradient is, so it is "
                f"not saved; {good}; lower the rate"
            )


def nonfinite_leaves(params):
    """The places of the arrays of a tree that hold NaN or an infinity, as a set."""
    return set(np.flatnonzero(np.asarray(_nonfinite(jax.tree.leaves(params)))).tolist())


@jax.jit
def _nonfinite(leaves):
    floats = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    bad = [~jnp.all(jnp.isfinite(x)) if f else jnp.array(False) for x, f in zip(leaves, floats, strict=True)]
    return jnp.stack(bad) if bad else jnp.zeros(0, bool)


def report(step, metrics, params, batch, folder, last_good):
    """Saves the batch of a step whose numbers are not finite, and raises the error that tells of it.

    Args:
        step: number of the step.
        metrics: of the step.
        params: the parameters, for their names.
        batch: this process's rows of the batch.
        folder: of the run, or None.
        last_good: step of the last checkpoint, or None.
    """
    place, loss = int(metrics[NONFINITE]), float(metrics.get("loss", np.nan))
    names = [path_of(path) for path, _ in jax.tree.leaves_with_path(params)]
    what = f"the gradient of {names[place]} is not finite" if place >= 0 else "every known gradient is finite"
    kept = ""
    if folder is not None:
        path = folder / f"nonfinite_{step}_{jax.process_index()}.npz"
        arrays = {path_of(p): np.asarray(x) for p, x in jax.tree.leaves_with_path(batch)}
        buffer = io.BytesIO()
        np.savez(buffer, **{k: v for k, v in arrays.items() if v.dtype.kind not in "OUS"})
        good = "no checkpoint is kept" if last_good is None else f"checkpoint {last_good} is kept"
        kept = f"; {good}, the batch is in {path.name}"
        try:
            path.write_bytes(buffer.getvalue())
        except OSError as error:
            kept = f"; {good}, the batch could not be written to {path.name} ({error.strerror})"
            with contextlib.suppress(OSError):
                path.unlink()
    raise FloatingPointError(
        f"step {step}: loss {loss:.6g}, {what}{kept}; see train.replay, lower the rate, or pass "
        'nonfinite="skip"'
    )
