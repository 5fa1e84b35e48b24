"""The cache of compiled programs that conftest sets up: it is used, and a torn entry fails no test."""

import os
import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture
def empty(tmp_path):
    """A cache of this test alone."""
    before = jax.config.jax_compilation_cache_dir
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", before)


def run():
    return jax.jit(lambda x: jnp.cumsum(x) * 3 - 1)(jnp.arange(5.0)).tolist()


def test_programs_are_kept_and_children_keep_them_too():
    assert pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).is_dir()
    assert jax.config.jax_compilation_cache_dir == os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0


@pytest.mark.parametrize("left", [0, 1, 50, 500])
def test_an_entry_that_is_half_written_is_compiled_again(empty, left):
    expected = run()
    entries = [*empty.glob("*-cache")]
    assert entries
    for path in entries:
        path.write_bytes(path.read_bytes()[:left])
    jax.clear_caches()
    assert run() == expected
