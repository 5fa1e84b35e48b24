"""Eight simulated CPU devices, set before JAX is first used; no network in any test.

Compiled programs are kept between runs, workers and the processes that tests start: in the folder that the
environment names, else below the user's cache folder, for each version of JAX its own.
"""

import importlib.metadata
import os
import pathlib

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
CACHE = CACHE / "jaxembed-tests" / importlib.metadata.version("jax")
MOST = 2**31  # bytes; a folder that grew beyond is emptied, since nothing in it tells what is still used


def _keep_compiled_programs():
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            CACHE.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")


_keep_compiled_programs()
# An entry that another process has not finished is compiled again; a child's stderr says nothing about it.
os.environ.setdefault("PYTHONWARNINGS", "ignore:Error reading persistent compilation cache entry")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TFDS_DATA_DIR", "/nonexistent")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
# Compiling takes most of the suite's time, and every law compares programs compiled alike. The slow tier sets
# this to 0 once, so that the laws also hold for programs as users compile them.
SIMPLE = os.environ.get("JAXEMBED_OPTIMIZED") != "1"
jax.config.update("jax_disable_most_optimizations", SIMPLE)


def pytest_sessionstart(session):
    """Empties a cache that has grown too large, before any worker reads it."""
    if not hasattr(session.config, "workerinput") and CACHE.is_dir():
        entries = [(x.path, x.stat().st_size) for x in os.scandir(CACHE)]
        if sum(size for _, size in entries) > MOST:
            for path, _ in entries:
                pathlib.Path(path).unlink(missing_ok=True)


@pytest.fixture
def optimized():
    """Compiles as users do, for tests that read programs."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", SIMPLE)
