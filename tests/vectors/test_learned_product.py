"""Product quantisation that trains: its value is the nearest centre, its gradient takes the stated paths."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_search
import pytest
from jax.scipy.special import logsumexp

from jaxembed import losses, vectors
from jaxembed.arrays import straight_through

RNG = np.random.default_rng(0)
N, D, M, C = 12, 6, 3, 4
X = RNG.normal(size=(N, D)).astype(np.float32)
BOOKS = RNG.normal(size=(M, C, D // M)).astype(np.float32)
ROTATION = np.linalg.qr(RNG.normal(size=(D, D)))[0].astype(np.float32)
PARAMS = {"plain": {"codebooks": BOOKS}, "rotated": {"codebooks": BOOKS, "rotation": ROTATION}}


def shares(params, x, temperature=1.0):
    """Softmax of negative squared distances by loops."""
    z = x @ params["rotation"] if "rotation" in params else x
    out = np.zeros((len(x), M, C))
    for b, m in np.ndindex(len(x), M):
        part = z[b, 2 * m : 2 * m + 2].astype(float)
        weights = np.exp([-np.sum((part - centre) ** 2) / temperature for centre in params["codebooks"][m]])
        out[b, m] = weights / weights.sum()
    return out


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_shares_equal_loops(name, temperature):
    found = vectors.soft_product(PARAMS[name], X, temperature=temperature)
    np.testing.assert_allclose(found, shares(PARAMS[name], X, temperature), rtol=1e-4, atol=1e-6)
    assert (np.asarray(found).argmax(axis=2) == np.asarray(vectors.encode_product(PARAMS[name], X))).all()


@pytest.mark.parametrize("name", PARAMS)
def test_the_value_is_that_of_the_decoded_codes(name):
    params = PARAMS[name]
    found = vectors.quantise_product(params, X)
    codes = vectors.encode_product(params, X)
    np.testing.assert_allclose(found, vectors.decode_product(params, codes), rtol=1e-5, atol=1e-6)
    if name == "plain":
        nearest = [oracles_search.product_code(BOOKS, x) for x in X]
        np.testing.assert_array_equal(codes, nearest)
    tables = vectors.product_tables(params, X[:4])
    np.testing.assert_allclose(
        vectors.product_scores(tables, codes), oracles.inner(X[:4], np.asarray(found)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.peers
def test_the_value_is_that_of_faiss():
    faiss = pytest.importorskip("faiss")
    rows = RNG.normal(size=(400, D)).astype(np.float32)
    theirs = faiss.ProductQuantizer(D, M, 4)
    theirs.train(rows)
    books = faiss.vector_to_array(theirs.centroids).reshape(M, 16, D // M)
    decoded = theirs.decode(theirs.compute_codes(rows))
    np.testing.assert_allclose(vectors.quantise_product({"codebooks": books}, rows), decoded, rtol=1e-5)


def by_hand(params, x, stop):
    """The definition with one-hot codes; ``stop`` cuts the path through the shares."""
    soft = vectors.soft_product(params, x)
    soft = jax.lax.stop_gradient(soft) if stop else soft
    hard = jax.nn.one_hot(jnp.argmax(soft, axis=2), C)
    parts = jnp.einsum("bmc,mcg->bmg", straight_through(hard, soft), params["codebooks"])
    return parts.reshape(len(x), D)


def loss_of(quantise):
    def loss(books, x):
        return jnp.sum(losses.dot_nce(X, quantise({"codebooks": books}, x)))

    return jax.grad(loss, (0, 1))


def test_gradients_take_both_paths_and_the_encoder_learns_by_shares_alone():
    found = loss_of(vectors.quantise_product)(BOOKS, X)
    for ours, theirs in zip(found, loss_of(lambda p, x: by_hand(p, x, False))(BOOKS, X), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    by_value, none = loss_of(lambda p, x: by_hand(p, x, True))(BOOKS, X)
    assert np.all(np.asarray(none) == 0) and np.abs(found[1]).max() > 0.01
    chosen = np.asarray(jax.nn.one_hot(vectors.encode_product({"codebooks": BOOKS}, X), C)).any(axis=0)
    assert not chosen.all()  # some centre is nobody's nearest
    moved = np.abs(np.asarray(by_value)).max(axis=2) > 0
    np.testing.assert_array_equal(moved, chosen)  # by value: selected centres alone
    assert (np.abs(np.asarray(found[0])).max(axis=2) > 0).all()  # through the shares: all of them


def test_nothing_flows_into_the_rotation():
    def loss(rotation):
        return jnp.sum(vectors.quantise_product({"codebooks": BOOKS, "rotation": rotation}, X) ** 2)

    assert np.all(np.asarray(jax.grad(loss)(jnp.asarray(ROTATION))) == 0)


def test_with_a_centre_for_every_vector_both_parts_of_the_loss_coincide():
    z = X @ ROTATION
    params = {"codebooks": z.reshape(N, M, D // M).swapaxes(0, 1), "rotation": ROTATION}
    queries = RNG.normal(size=(N, D)).astype(np.float32)
    plain = losses.dot_nce(queries, X)
    both = losses.quantised(losses.dot_nce, lambda d: vectors.quantise_product(params, d))(queries, X)
    np.testing.assert_allclose(both, 2 * plain, rtol=1e-4)
    scores = queries @ X.T
    np.testing.assert_allclose(plain, logsumexp(scores, axis=1) - np.diagonal(scores), rtol=1e-4, atol=1e-5)


def test_reconstruction_alone_moves_centres_to_the_means_of_their_vectors():
    """With frozen vectors and a nearly hard assignment the gradient is that of Lloyd's error."""
    params = {"codebooks": jnp.asarray(BOOKS)}

    def loss(books):
        coded = vectors.quantise_product({"codebooks": books}, X, temperature=1e-4)
        return jnp.sum((X - coded) ** 2)

    codes = np.asarray(vectors.encode_product(params, X))
    slope = np.asarray(jax.grad(loss)(params["codebooks"]))
    for m, c in np.ndindex(M, C):
        own = X[codes[:, m] == c, 2 * m : 2 * m + 2]
        np.testing.assert_allclose(slope[m, c], 2 * np.sum(BOOKS[m, c] - own, axis=0), rtol=1e-3, atol=1e-3)


def test_bad_arguments_get_one_line():
    with pytest.raises(ValueError, match=r"x: \(12, 5\), but the codebooks take width 6"):
        vectors.quantise_product(PARAMS["plain"], X[:, :5])
    with pytest.raises(ValueError, match="temperature: 0 is not above 0"):
        vectors.soft_product(PARAMS["plain"], X, temperature=0)
