"""Eight simulated CPU devices, set before JAX is first used; no network in any test.

Compiled programs are kept between runs, workers and the processes that tests start: in the folder that the
environment names, else below the user's cache folder, for each version of JAX its own.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TFDS_DATA_DIR", "/nonexistent")
# An entry of the cache that another process has not finished is compiled again; children say nothing of it.
os.environ.setdefault("PYTHONWARNINGS", "ignore:Error reading persistent compilation cache entry")

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
CACHE = CACHE / "jaxembed-tests" / jax.__version__
MOST = 2**31  # bytes; a folder that grew beyond is emptied, since nothing in it tells what is still used
RESIDENT = 3 * 2**30  # bytes of one worker
# Compiling takes most of the suite's time, and every law compares programs compiled alike. The slow tier runs
# some laws once more with JAXEMBED_OPTIMIZED=1, on programs as users compile them.
SIMPLE = os.environ.get("JAXEMBED_OPTIMIZED") != "1"
# JAX 0.10 has older emitters of fused loops, which compile in half the time; newer versions refuse the flag.
EMITTERS = "--xla_cpu_use_fusion_emitters=false" if SIMPLE and jax.__version_info__[:2] == (0, 10) else ""


def _keep_programs():
    """Sets the cache for this process, which has read its environment, and for those that it starts."""
    values = {
        "jax_compilation_cache_dir": str(CACHE),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    for name, value in values.items():
        if name.upper() not in os.environ:
            os.environ[name.upper()] = str(value)
            jax.config.update(name, value)


def _writable():
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(CACHE, os.W_OK)


os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {EMITTERS}".strip()  # read at the first array
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", SIMPLE)
if _writable():
    _keep_programs()


def pytest_sessionstart(session):
    """Empties a cache that has grown too large, before any worker reads it."""
    if not hasattr(session.config, "workerinput") and CACHE.is_dir():
        entries = [(x.path, x.stat().st_size) for x in os.scandir(CACHE)]
        if sum(size for _, size in entries) > MOST:
            for path, _ in entries:
                pathlib.Path(path).unlink(missing_ok=True)


@pytest.fixture(scope="module", autouse=True)
def _little_memory():
    """Lets compiled programs go after a file when they fill the memory; the cache on the disk keeps them."""
    yield
    try:
        resident = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return
    if resident > RESIDENT:
        jax.clear_caches()


@pytest.fixture
def optimized():
    """Compiles as users do, for tests that read programs."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", SIMPLE)


@pytest.fixture
def as_users():
    """For tests of what the emitters make: the quick tests skip them, and the slow tier runs them."""
    if EMITTERS:
        pytest.skip("asks for the emitters that users have; runs with JAXEMBED_OPTIMIZED=1")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Folder that holds the unpacked wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "jaxembed", source / "jaxembed", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(source)]
    subprocess.run(command, check=True, cwd=folder)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as opened:
        opened.extractall(folder / "unpacked")
    return folder / "unpacked"
