"""Bitmaps with ranks, packed numbers, sparse rows: against plain arrays, at their edges, beside scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed.tables import compact


@pytest.mark.parametrize("size", [1, 31, 32, 33, 200])
def test_ranks_count_the_members_before(size):
    member = np.random.default_rng(size).random(size) < 0.4
    index = compact.rank_bits(jnp.asarray(member))
    numbers = np.arange(size)
    before = np.cumsum(member) - member
    for given in (index, jax.tree.map(np.asarray, index)):
        for ids in (numbers, jnp.asarray(numbers)):
            inside, found = compact.rank(given, ids)
            np.testing.assert_array_equal(inside, member)
            np.testing.assert_array_equal(found, before)


def test_a_bitmap_takes_a_quarter_of_a_byte_for_each_number():
    index = compact.rank_bits(jnp.zeros(3200, bool))
    assert sum(x.nbytes for x in index.values()) == 800


@pytest.mark.parametrize("bits", [1, 3, 6, 8, 11, 16])
def test_packed_numbers_come_back_and_take_their_bits(bits):
    numbers = np.random.default_rng(bits).integers(0, 2**bits, (101, 5))
    packed = compact.pack(jnp.asarray(numbers), bits)
    assert packed.dtype == jnp.uint8 and packed.shape == (101, -(-5 * bits // 8))
    order = np.random.default_rng(0).permutation(101)
    np.testing.assert_array_equal(compact.unpack(packed, jnp.asarray(order), 5, bits), numbers[order])


@pytest.mark.parametrize("width", [1, 5, 16, 33, 70])
@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
def test_sparse_rows_hold_the_largest_entries(width, share):
    table = np.random.default_rng(width).normal(size=(12, width)).astype(np.float32)
    keep = max(1, round(share * table.size))
    stored = compact.sparse_rows(jnp.asarray(table), keep)
    least = np.sort(np.abs(table).ravel())[-keep]
    expected = np.where(np.abs(table) >= least, table, 0)
    np.testing.assert_array_equal(compact.read_sparse(stored, jnp.arange(12), width), expected)
    np.testing.assert_array_equal(compact.read_sparse(stored, jnp.array([-1, 3]), width)[0], 0)
    assert sum(x.nbytes for x in jax.tree.leaves(stored)) == compact.sparse_bytes(12, width, keep)


def test_few_entries_leave_rows_out_of_the_bitmap():
    assert "rows" in compact.sparse_rows(jnp.ones((100, 16)), 20)
    assert "rows" not in compact.sparse_rows(jnp.ones((100, 16)), 200)


def test_a_bitmap_of_16_columns_is_smaller_than_csr_and_coo():
    height = 1000
    for keep in (10, 300, 2000, 9000):
        csr, coo = 5 * keep + 4 * (height + 1), 9 * keep
        assert compact.sparse_bytes(height, 16, keep) < min(csr, coo) + height // 4 + 8


def test_values_stand_as_in_the_csr_rows_of_scipy():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    table = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    stored = compact.sparse_rows(jnp.asarray(table), 30)
    peer = scipy_sparse.csr_matrix(np.asarray(compact.read_sparse(stored, jnp.arange(12), 5)))
    np.testing.assert_array_equal(stored["values"], peer.data)


def test_equal_entries_are_kept_from_the_lowest_place_and_a_gradient_reaches_them():
    stored = compact.sparse_rows(jnp.ones((4, 3)), 5)
    np.testing.assert_array_equal(
        np.asarray(compact.read_sparse(stored, jnp.arange(4), 3)).sum(1), [3, 2, 0, 0]
    )

    def total(values):
        return jnp.sum(compact.read_sparse(stored | {"values": values}, jnp.array([1, 1, 0]), 3))

    np.testing.assert_array_equal(jax.grad(total)(stored["values"]), [1, 1, 1, 2, 2])


def test_counts_that_do_not_fit_are_refused():
    sizes = {"a": 3}
    refused("missing", lambda: compact.most_frequent({}, sizes, 0.1))
    refused("shape", lambda: compact.most_frequent({"a": [1, 2]}, sizes, 0.1))
    refused("not finite", lambda: compact.most_frequent({"a": [1, 2, np.nan]}, sizes, 0.1))
    refused("not finite", lambda: compact.most_frequent({"a": [1, 2, -1]}, sizes, 0.1))
    refused("top=1.5", lambda: compact.most_frequent({"a": [1, 2, 3]}, sizes, 1.5))
