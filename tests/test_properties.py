"""Public functions on drawn arrays: shapes, dtypes, masks, empty axes, huge values, ids of 64 bits."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import property_cases as cases
import property_lists as lists
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property_drawn import ANY, Drawn

from jaxembed import arrays, ragged

PROFILE = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
NAMES = [(room, name) for room, functions in cases.ROOMS.items() for name in functions]


def called(room, name, **drawn):
    """(leaves of the result, shape that it must have), or the text of the ValueError that refused."""
    try:
        result, shape = cases.ROOMS[room][name](Drawn(**drawn))
    except ValueError as error:
        assert "\n" not in str(error) and str(error), name
        return None, str(error)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result)], shape


def held(leaves, shape):
    if shape is not ANY:
        assert [leaf.shape for leaf in leaves] == [shape]
    assert all(leaf.dtype != object for leaf in leaves)


MASKED = [(room, name) for room, name in NAMES if name in lists.MASKED]
SEEDS = st.integers(0, 2**32 - 1)


def numbers(leaves):
    return [leaf.astype(np.float64) for leaf in leaves]


@pytest.mark.parametrize(("room", "name"), NAMES)
@settings(max_examples=2, **PROFILE)
@given(
    seed=SEEDS,
    dtype=st.sampled_from(["float32", "bfloat16"]),
    scale=st.sampled_from([1.0, 1e4, 0.0]),
    keep=st.sampled_from([0.7, 1.0, 0.0]),
)
def test_results_have_their_shape_and_are_numbers(room, name, seed, dtype, scale, keep):
    leaves, shape = called(room, name, seed=seed, dtype=dtype, scale=scale, keep=keep)
    if leaves is None:
        assert name in lists.MAY_REFUSE, shape
        return
    held(leaves, shape)
    assert name in lists.MAY_BE_NAN or not any(np.isnan(x).any() for x in numbers(leaves)), leaves


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_huge_values_give_no_nan(room, name):
    """Values whose squares overflow where a function normalises, and large ones elsewhere."""
    leaves, shape = called(room, name, seed=0, scale=1e17 if name in lists.PRODUCTS else 1e25, keep=1.0)
    if leaves is not None:
        held(leaves, shape)
        wrong = any(np.isnan(x).any() for x in numbers(leaves))
        assert not wrong or name in lists.MAY_BE_NAN, leaves


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_empty_axes_give_empty_results_or_one_line(room, name):
    for empty in cases.axes_of(room, name):
        leaves, shape = called(room, name, seed=0, empty=empty)
        if leaves is not None:
            held(leaves, shape)
            wrong = any(np.isnan(x).any() for x in numbers(leaves))
            assert not wrong or name in lists.MAY_BE_NAN, leaves


@pytest.mark.parametrize(("room", "name"), MASKED)
@settings(max_examples=2, **PROFILE)
@given(seed=SEEDS, filling=st.sampled_from([float("nan"), float("inf"), 1e30]))
def test_what_a_mask_hides_never_matters(room, name, seed, filling):
    plain, _ = called(room, name, seed=seed)
    other, _ = called(room, name, seed=seed, filling=filling)
    assert plain is not None and len(plain) == len(other)
    for a, b in zip(plain, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_public_function_is_drawn_or_says_why_not():
    for room, functions in cases.ROOMS.items():
        public = {n for n in importlib.import_module(f"jaxembed.{room}").__all__}
        named = functions.keys() | lists.ELSEWHERE[room].keys()
        assert public == named, public ^ named
        assert not functions.keys() & lists.ELSEWHERE[room].keys()


# Ids of 64 bits


@pytest.mark.parametrize("name", lists.BY_IDS)
@settings(max_examples=4, **PROFILE)
@given(seed=SEEDS, start=st.sampled_from([0, 2**31, 2**40, 2**63, 2**64 - 64]))
def test_ids_of_64_bits_give_what_small_ones_give(name, seed, start):
    """Ids that differ stay apart, or one line says that they cannot be held."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 5, 6)
    large = (small.astype(np.uint64) + np.uint64(start)).astype(np.uint64)
    large = large if start >= 2**63 else large.astype(np.int64)
    function = lists.BY_IDS[name]
    expected = function(Drawn(seed), small)
    try:
        found = function(Drawn(seed), large)
    except ValueError as error:
        assert start and "\n" not in str(error) and "; " in str(error)
        assert name in lists.REFUSES_LARGE_IDS, error
        return
    np.testing.assert_array_equal(np.asarray(expected, np.float64), np.asarray(found, np.float64))


# Sets of different lengths


@settings(max_examples=25, **PROFILE)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6), width=st.integers(0, 3), seed=SEEDS)
def test_ragged_sets_come_back(lengths, width, seed):
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *lengths])
    tokens = rng.normal(size=(offsets[-1], width)).astype(np.float32)
    padded, mask = ragged.set_batch(tokens, offsets, 0, len(lengths))
    assert padded.shape == (len(lengths), max(lengths), width)
    np.testing.assert_array_equal(mask.sum(1), lengths)
    np.testing.assert_array_equal(padded[mask], tokens)
    again, same = ragged.pad([tokens[a:b] for a, b in itertools.pairwise(offsets)], dtype=np.float32)
    np.testing.assert_array_equal(same, mask)
    assert width == 0 or np.array_equal(again, padded)
    counted = ragged.map_sets(lambda x, m: m.sum(1), tokens, offsets, batch_size=2)
    np.testing.assert_array_equal(counted, lengths)
    assert all(ragged.bucket(n) >= n for n in lengths)


@settings(max_examples=25, **PROFILE)
@given(st.lists(st.one_of(st.integers(-(2**64), 2**65), st.integers(-3, 3)), max_size=6))
def test_integers_stay_what_they_are_or_are_refused(items):
    try:
        found = arrays.host("ids", items)
    except ValueError as error:
        assert "\n" not in str(error) and min(items) < 0 <= max(items) or max(map(abs, items)) >= 2**63
        return
    assert [int(x) for x in found] == items
    try:
        held = arrays.on_device("ids", items)
    except ValueError as error:
        assert "does not fit" in str(error) and max(map(abs, items)) >= 2**31
        return
    assert [int(x) for x in held] == items


@settings(max_examples=6, **PROFILE)
@given(
    seed=SEEDS, scale=st.sampled_from([0.0, 1e-38, 1.0, 1e38]), dtype=st.sampled_from(["float32", "bfloat16"])
)
def test_unit_vectors_have_length_1_or_0(seed, scale, dtype):
    x = Drawn(seed, dtype, scale).d()
    lengths = jnp.linalg.norm(arrays.unit(x).astype(jnp.float32), axis=1)
    zero = np.asarray(jnp.all(x == 0, axis=1))
    np.testing.assert_allclose(lengths, np.where(zero, 0, 1), atol=1e-2 if dtype == "bfloat16" else 1e-6)
