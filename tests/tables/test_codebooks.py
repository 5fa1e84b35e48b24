"""Product codes that are learned: limits without a loss, gradients, agreement with faiss, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import tables

COUNTS = np.random.default_rng(0).integers(0, 9, 40)


def params_of(table, keys, **others):
    return {"table": {"embedding": jnp.asarray(table)}, "centres": {"keys": jnp.asarray(keys)} | others}


def test_centres_that_are_the_rows_lose_nothing():
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    keys = rows.reshape(6, 2, 2).transpose(1, 0, 2)
    method = tables.dpq(6, 4, parts=2, centres=6)
    params = params_of(rows, keys)
    np.testing.assert_array_equal(method.vectors(params, np.arange(6)), rows)
    assert float(method.penalty(params)) == 0
    np.testing.assert_array_equal(method.vectors(method.deploy(params), np.arange(6)), rows)


def test_a_row_has_the_gradient_of_what_was_read_and_centres_that_of_the_penalty():
    method = tables.dpq(6, 4, parts=2, centres=3)
    params = method.init(jax.random.key(0))
    upstream = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    slope = jax.grad(lambda p: jnp.sum(method.vectors(p, np.arange(6)) * upstream))(params)
    np.testing.assert_allclose(slope["table"]["embedding"], upstream, rtol=1e-6)
    np.testing.assert_array_equal(slope["centres"]["keys"], 0)
    slope = jax.grad(method.penalty)(params)
    np.testing.assert_array_equal(slope["table"]["embedding"], 0)
    rows = np.asarray(params["table"]["embedding"]).reshape(6, 2, 2).transpose(1, 0, 2)
    keys, expected = np.asarray(params["centres"]["keys"]), np.zeros((2, 3, 2))
    for part in range(2):
        for row in rows[part]:
            k = np.argmin(((keys[part] - row) ** 2).sum(1))
            expected[part, k] += 2 * (keys[part, k] - row) / (6 * 4)
    np.testing.assert_allclose(slope["centres"]["keys"], expected, rtol=1e-4, atol=1e-6)


def test_rows_of_padding_do_not_pull_centres():
    method = tables.dpq(6, 4, parts=2, centres=3)
    params = method.init(jax.random.key(0))
    padded = jnp.concatenate([params["table"]["embedding"], jnp.zeros((3, 4))])
    both = [
        method.penalty(params | {"table": {"embedding": t}}) for t in (params["table"]["embedding"], padded)
    ]
    assert float(both[0]) == pytest.approx(float(both[1]))


def test_softmax_codes_read_the_value_of_the_largest_product_and_train_everything():
    method = tables.dpq(6, 4, parts=2, centres=3, mode="sx")
    params = method.init(jax.random.key(0))
    rows = np.asarray(params["table"]["embedding"]).reshape(6, 2, 2)
    keys, values = (np.asarray(params["centres"][n]) for n in ("keys", "values"))
    best = np.einsum("msg,skg->msk", rows, keys).argmax(-1)
    expected = np.stack([values[s, best[:, s]] for s in range(2)], axis=1).reshape(6, 4)
    np.testing.assert_allclose(method.vectors(params, np.arange(6)), expected, rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda p: jnp.sum(method.vectors(p, np.arange(6)) ** 2))(params)
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(slope))


def test_rare_values_use_the_first_centres_and_fewer_bits():
    method = tables.mgqe(40, 4, counts=COUNTS, parts=2, centres=16, rare=3, top=0.25)
    params = method.init(jax.random.key(0))
    params["centres"]["keys"] = params["centres"]["keys"].at[:, :3].add(5.0)  # far from every row
    found = np.asarray(method.vectors(params, np.arange(40))).reshape(40, 2, 2)
    frequent = np.zeros(40, bool)
    frequent[np.argsort(-COUNTS, kind="stable")[:10]] = True
    first = np.asarray(params["centres"]["keys"])[:, :3]
    of_first = [any(np.array_equal(row[s], c) for c in first[s]) for row in found for s in range(2)]
    np.testing.assert_array_equal(np.reshape(of_first, (40, 2)), np.repeat(~frequent[:, None], 2, 1))
    deployed = method.deploy(params)
    np.testing.assert_array_equal(
        np.asarray(method.vectors(deployed, np.arange(40))).reshape(40, 2, 2), found
    )
    assert deployed["codes"]["group_0"].nbytes == 10
    assert deployed["codes"]["group_1"].nbytes == 30


def test_bytes_of_codes_are_their_closed_form():
    n, d, s, k = 1000, 16, 4, 256
    method = tables.mgqe(n, d, counts=np.arange(n), parts=s, centres=k, rare=64, top=0.1)
    bits = 100 * s * 8 + 900 * s * 6
    assert tables.storage_bytes(method) == 4 * k * d + bits // 8 + 8 * -(-n // 32)
    assert tables.training_bytes(method) == 4 * (n * d + k * d) + 8 * -(-n // 32)


@pytest.mark.peers
def test_codes_are_those_of_faiss():
    faiss = pytest.importorskip("faiss")
    method = tables.dpq(200, 8, parts=4, centres=16)
    params = method.init(jax.random.key(0))
    peer = faiss.ProductQuantizer(8, 4, 4)
    keys = np.ascontiguousarray(params["centres"]["keys"], np.float32)
    faiss.copy_array_to_vector(keys.ravel(), peer.centroids)
    rows = np.ascontiguousarray(params["table"]["embedding"], np.float32)
    theirs = peer.decode(peer.compute_codes(rows))
    np.testing.assert_array_equal(method.vectors(method.deploy(params), np.arange(200)), theirs)


def test_settings_out_of_range_are_refused():
    refused("parts=3", lambda: tables.dpq(10, 4, parts=3))
    refused("parts", lambda: tables.dpq(10, 4, parts=0))
    refused("centres=65537", lambda: tables.dpq(10, 4, parts=2, centres=65537))
    refused("mode", lambda: tables.dpq(10, 4, parts=2, mode="other"))
    refused("rare", lambda: tables.mgqe(10, 4, counts=np.ones(10), rare=0))
    refused("counts", lambda: tables.mgqe(10, 4, counts=np.ones(9)))
