"""Values that share rows as the data say: limits, an oracle, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import tables
from jaxembed.tables import remapped

COUNTS = np.random.default_rng(0).integers(0, 9, 70)


def test_frequent_values_have_own_rows_and_rare_ones_take_turns():
    method = tables.adapt_emb(70, 4, counts=COUNTS, rows=6, top=0.2)
    codes = method.codes(np.arange(70))["table/embedding"]["values"].ravel()
    frequent = sorted(np.argsort(-COUNTS, kind="stable")[:14])
    rare = np.setdiff1d(np.arange(70), frequent)
    np.testing.assert_array_equal(codes[frequent], np.arange(14))
    np.testing.assert_array_equal(codes[rare], 14 + np.arange(56) % 6)
    params = method.deploy(method.init(jax.random.key(0)))
    np.testing.assert_array_equal(
        method.vectors(params, jnp.arange(70)), np.asarray(params["table"]["embedding"])[codes]
    )


def test_where_all_values_are_frequent_it_is_a_full_table_and_where_none_is_a_table_of_turns():
    full = tables.adapt_emb(70, 4, counts=COUNTS, rows=1, top=1.0)
    np.testing.assert_array_equal(
        full.codes(np.arange(70))["table/embedding"]["values"].ravel(), np.arange(70)
    )
    none = tables.adapt_emb(70, 4, counts=COUNTS, rows=9, top=0.0)
    codes = none.codes(np.arange(70))["table/embedding"]["values"].ravel()
    np.testing.assert_array_equal(codes, np.arange(70) % 9)


def test_the_map_takes_a_quarter_of_a_byte_for_each_value():
    method = tables.adapt_emb(6400, 4, counts=np.arange(6400), rows=100, top=0.01)
    assert tables.storage_bytes(method) == (64 + 100) * 16 + 6400 // 4
    assert tables.training_bytes(method) == tables.storage_bytes(method)


def farthest_first(rows, keep):
    """The choice by loops."""
    apart = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    kept = [int(np.argmin((rows**2).sum(axis=1)))]
    while len(kept) < keep:
        least = [-1 if i in kept else min(apart[i, k] for k in kept) for i in range(len(rows))]
        kept.append(int(np.argmax(least)))
    nearest = [int(np.argmin([apart[i, k] for k in kept])) for i in range(len(rows))]
    return kept, nearest


@pytest.mark.parametrize("keep", [1, 4, 9])
def test_blocks_are_chosen_farthest_first(keep):
    rows = np.random.default_rng(keep).normal(size=(9, 3)).astype(np.float32)
    kept, nearest = farthest_first(rows, keep)
    found = remapped.farthest(jnp.asarray(rows), keep)
    np.testing.assert_array_equal(found[0], kept)
    np.testing.assert_array_equal(found[1], nearest)


def test_equal_blocks_are_stored_once_without_a_loss():
    rows = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    table = rows[[0, 1, 0, 2, 1, 1]].reshape(-1, 5)
    method = tables.dedup(24, 5, block=4, keep=3)
    params = method.deploy({"table": {"embedding": jnp.asarray(table)}})
    np.testing.assert_array_equal(method.vectors(params, np.arange(24)), table)
    assert method.bytes(params) == 12 * 5 * 4 + 6


def test_more_blocks_lose_less():
    method = [tables.dedup(64, 4, block=2, keep=keep) for keep in (4, 16, 31, 32)]
    params = method[0].init(jax.random.key(0))
    table = params["table"]["embedding"]
    lost = [float(jnp.sum((m.vectors(m.deploy(params), np.arange(64)) - table) ** 2)) for m in method]
    assert lost[0] > lost[1] > lost[2] > lost[3] == 0


def test_settings_out_of_range_are_refused():
    refused("keep=9", lambda: tables.dedup(20, 4, block=4, keep=9))
    refused("keep", lambda: tables.dedup(20, 4, block=4, keep=0))
    refused("rows", lambda: tables.adapt_emb(20, 4, counts=np.ones(20), rows=0))
    refused("counts", lambda: tables.adapt_emb(20, 4, counts=np.ones(19), rows=2))
    refused("top=2", lambda: tables.adapt_emb(20, 4, counts=np.ones(20), rows=2, top=2))
