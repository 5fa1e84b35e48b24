"""Eight simulated CPU devices, set before JAX is first used; no network in any test."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TFDS_DATA_DIR", "/nonexistent")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
# Compiling takes most of the suite's time, and every law compares programs compiled alike.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def optimized():
    """Compiles as users do, for tests that read programs."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
