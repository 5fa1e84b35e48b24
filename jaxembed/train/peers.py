"""The other processes of a run: when one dies, this one ends with a line instead of waiting for ever."""

import contextlib
import itertools
import json
import os
import re
import sys
import threading
import time

import jax

CODE = 75  # EX_TEMPFAIL: the same command, started again, goes on
LIVES, ENDED, FAILED, LOST = "lives", "ended", "failed", "lost"
_RUNS = itertools.count()


class Peers:
    """What the processes of a run tell one another while it lasts: that they live, and how they ended.

    A process that waits in the device for another one cannot be told that the other died. So a thread of each
    process counts up in the store of ``jax.distributed``, and reads what the others count. When one is silent
    for too long, or failed, this process prints one line and ends with exit code 75. It is a context.

    Args:
        client: of the store, with ``key_value_set`` and ``key_value_dir_get``. None, in a run of one process,
            does nothing.
        process: number of this process.
        folder: of the run, for the line.
        end: called with the line; default ends the process.
    """

    EVERY = 2.0  # seconds between two looks
    SILENT = 60.0  # seconds without a sign after which a process is taken for dead
    BROKEN = 15.0  # the same, where this process had an error of the device in the meantime
    GRACE = 20.0  # seconds for this process to see by itself why another one failed

    def __init__(self, client, process, folder=None, *, end=None):
        self._client, self._process, self._folder = client, process, folder
        self._end = self._leave if end is None else end
        self._place, self._count = f"jaxembed/run-{next(_RUNS)}", 0
        self._seen = {}  # {process: (what it said, when that was new)}
        self._most, self._over = self.SILENT, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)

    def __enter__(self):
        if self._client is not None:
            self._say(LIVES)
            self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        if self._client is None:
            return
        self._over.set()
        self._thread.join()
        fine = kind is None or issubclass(kind, SystemExit | KeyboardInterrupt)
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # without a store JAX ends the process
            self._say(ENDED) if fine else self._say(FAILED, f"{kind.__name__}: {error}".splitlines()[0])

    def settle(self, kind, error, trace):
        """Before what is open is closed: did an error of the device come of a lost process? Then this ends.

        Returns once all others gave a sign after it. An exit callback of ``contextlib.ExitStack``.
        """
        if self._client is None or not _of_device(error):
            return
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._look()
        began, self._most = time.monotonic(), min(self.BROKEN, self.SILENT)
        while self._thread.is_alive() and time.monotonic() - began < self.SILENT + self.GRACE:
            seen = self._seen.values()
            if all(s[0] == ENDED or (s[0] == LIVES and since > began) for s, since in seen):
                return
            time.sleep(self.EVERY / 4)

    def _say(self, state, why=""):
        self._count += 1
        text = json.dumps([state, why[:200], self._count])
        self._client.key_value_set(f"{self._place}/{self._process}", text, allow_overwrite=True)

    def _watch(self):
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            while not self._over.wait(self.EVERY):
                self._say(LIVES)
                self._look()
                why = self._lost(time.monotonic())
                if why:
                    self._say(LOST, why)
                    at = f"; run again to resume from {self._folder}" if self._folder else "; run again"
                    self._end(f"{why}, so process {self._process} ends{at}")
                    return

    def _look(self):
        now, seen = time.monotonic(), dict(self._seen)
        for key, text in self._client.key_value_dir_get(self._place):
            process, said = int(key.rpartition("/")[2]), json.loads(text)
            if process != self._process and seen.get(process, (None,))[0] != said:
                seen[process] = said, now
        self._seen = seen

    def _lost(self, now):
        """Why this run cannot go on, or None."""
        for process, ((state, why, _), since) in sorted(self._seen.items()):
            if state == LOST:
                return why
            if state == LIVES and now - since > self._most:
                return f"process {process} gave no sign for {now - since:.0f} seconds"
            if state == FAILED and now - since > self.GRACE:
                return f"process {process} failed ({why})"
        return None

    def _leave(self, line):
        print(f"error: {line}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        if self._process == 0:  # it holds the store, from which the others learn the same
            time.sleep(3 * self.EVERY)
        os._exit(CODE)  # the main thread waits in the device


def _of_device(error):
    """Whether an error may come of another process. Those of the device begin with a code: "UNKNOWN: ..."."""
    coded = isinstance(error, Exception) and re.match(r"[A-Z]+(_[A-Z]+)*: ", str(error))
    return bool(coded) or isinstance(error, RuntimeError | TimeoutError)


def peers(folder):
    """The :class:`Peers` of a run that begins in this process."""
    from jax._src import distributed  # JAX has no public name for the store of its processes

    client = distributed.global_state.client if jax.process_count() > 1 else None
    return Peers(client, jax.process_index(), folder)
