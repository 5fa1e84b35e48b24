"""A checkpoint that is damaged or finds no room: whatever orbax raises and logs becomes one line."""

import contextlib
import gc
import inspect
import logging
import os
import re
import sys
import time
import warnings

from jaxembed import files
from jaxembed.train.checksums import opened


class Damaged(Exception):
    """Why a checkpoint cannot be used, in one line."""


def undamaged(read):
    """Calls a reader; whatever it raises, the checkpoint is damaged: orbax raises errors of all kinds.

    Args:
        read: function without arguments.

    Returns:
        What it returns.

    Raises:
        Damaged: for every exception.
    """
    with quiet():
        try:
            return read()
        except Exception as error:
            reason = reason_of(error)[:300]
        settled()
    raise Damaged(reason)


def reason_of(error):
    """Why an error came, in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def quiet():
    """Drops what orbax logs of files that it cannot read, in many lines; our own error tells it in one."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with _unawaited(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


@contextlib.contextmanager
def _unawaited():
    """Drops what reads and writes say that orbax left when another one failed."""
    hook = sys.unraisablehook

    def ours(lost):
        closed = isinstance(lost.exc_value, RuntimeError) and "loop is closed" in str(lost.exc_value)
        if not (closed or inspect.iscoroutine(lost.object)):
            hook(lost)

    try:
        sys.unraisablehook = ours
        yield
    finally:
        sys.unraisablehook = hook


def of_disk(error):
    """The error of the system behind what orbax raised of a file that it could not write, or None.

    >>> print(of_disk(ValueError("OUT_OF_RANGE: Error writing local file [os_error_code='28']")))
    [Errno 28] No space left on device

    Args:
        error: exception.
    """
    told = re.search(r"os_error_code='(\d+)'", str(error))
    number = int(told[1]) if told else error.errno if isinstance(error, OSError) else None
    return None if number is None else OSError(number, os.strerror(number))


@contextlib.contextmanager
def without_orbax():
    """Drops the pages that threads of orbax log of a save that failed; the save itself raises the error."""
    logger = logging.getLogger("absl")

    def kept(record):
        return record.levelno < logging.ERROR or "orbax" not in record.pathname

    logger.addFilter(kept)
    try:
        with _unawaited():
            yield
    finally:
        logger.removeFilter(kept)


def settled():
    """Waits a little for reads and writes of orbax that nobody awaits, after one that failed."""
    time.sleep(0.2)
    gc.collect()


def unopened(folder, error, *, move):
    """Moves checkpoints away that keep orbax from opening the others, which reads what each says of itself.

    Args:
        folder: of the checkpoints.
        error: what orbax raised.
        move: False only tells.

    Raises:
        ValueError: where none may be moved, or no other one is left.
    """
    reason = reason_of(error)[:300]
    steps = [path for path in sorted(folder.iterdir()) if path.name.isdigit()]
    bad = [path for path in steps if not _opens(path)]
    if not move or not bad or len(bad) == len(steps):
        wrong = bad[0] if bad else folder
        raise ValueError(f"{wrong}: damaged ({reason}); move it elsewhere, or train again") from None
    for path in bad:
        target = folder.parent / "damaged" / path.name
        while target.exists():
            target = files.beside(target, "_")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        warnings.warn(f"{path}: damaged ({reason}); it was moved to damaged/", stacklevel=6)


def _opens(folder):
    try:
        opened(folder)
    except (ValueError, OSError):
        return False
    return True


def uncounted():
    """Lets orbax save without the counters of tensorstore, which it logs and tensorstore 0.1.86 never frees.

    45 kB would stay in memory with each save. An orbax without that function is left as it is.
    """
    with contextlib.suppress(ImportError):
        from orbax.checkpoint._src.serialization import tensorstore_utils

        if hasattr(tensorstore_utils, "get_tensorstore_raw_bytes"):
            tensorstore_utils.get_tensorstore_raw_bytes = lambda *_: 0
