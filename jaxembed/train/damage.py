"""Reading a checkpoint that may be damaged: whatever its readers raise and log becomes one line."""

import contextlib
import gc
import inspect
import logging
import sys
import time
import warnings


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
        time.sleep(0.2)  # other reads of orbax, which nobody awaits, end meanwhile
        gc.collect()
    raise Damaged(reason)


def reason_of(error):
    """Why an error came, in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def quiet():
    """Drops what orbax logs of files that it cannot read, in many lines; our own error tells it in one."""
    loggers, hook = [logging.getLogger(name) for name in ("absl", "asyncio")], sys.unraisablehook
    before = [logger.disabled for logger in loggers]

    def ours(lost):
        closed = isinstance(lost.exc_value, RuntimeError) and "loop is closed" in str(lost.exc_value)
        if not (closed or inspect.iscoroutine(lost.object)):
            hook(lost)

    try:
        sys.unraisablehook = ours
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        sys.unraisablehook = hook
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
