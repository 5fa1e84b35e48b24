"""The corrected batch softmax, spreading out, and frequencies of a stream."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxembed import losses

RNG = np.random.default_rng(0)
Q, X = RNG.normal(size=(2, 6, 4)).astype(np.float32)
IDS = np.array([3, 5, 3, 8, 5, 1])
LOG_Q = np.log(RNG.random(6)).astype(np.float32)


def slow(queries, items, ids, log_q, temperature, positives=None):
    """Row by row: -log of the softmax of corrected cosines, without other rows of the item that is right."""
    out = []
    for i, q in enumerate(queries):
        own = i if positives is None else positives[i]
        logits = {
            j: float(q @ x / np.linalg.norm(q) / np.linalg.norm(x)) / temperature - float(log_q[j])
            for j, x in enumerate(items)
            if j == own or ids[j] != ids[own]
        }
        out.append(math.log(sum(math.exp(s) for s in logits.values())) - logits[own])
    return np.array(out)


def test_the_corrected_softmax_is_its_formula():
    found = losses.sampled_softmax(Q, X, ids=IDS, log_q=LOG_Q, temperature=0.3)
    np.testing.assert_allclose(found, slow(Q, X, IDS, LOG_Q, 0.3), rtol=1e-4)
    places = np.array([4, 4, 0])
    found = losses.sampled_softmax(Q[:3], X, ids=IDS, log_q=LOG_Q, positives=places, temperature=0.3)
    np.testing.assert_allclose(found, slow(Q[:3], X, IDS, LOG_Q, 0.3, places), rtol=1e-4)


def test_without_options_it_is_info_nce_and_the_cross_entropy():
    found = losses.sampled_softmax(Q, X, temperature=0.2)
    np.testing.assert_allclose(found, losses.info_nce(Q, X, temperature=0.2), rtol=1e-5)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (Q, X)]
    logits = jnp.asarray(unit[0] @ unit[1].T / 0.2)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(6))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    plain = losses.sampled_softmax(Q, X, temperature=0.2, cosine=False)
    np.testing.assert_allclose(plain, losses.softmax_loss(Q @ X.T / 0.2), rtol=1e-5)


@pytest.mark.peers
def test_it_is_the_cross_entropy_of_torch():
    torch = pytest.importorskip("torch")
    unit = [torch.nn.functional.normalize(torch.tensor(x)) for x in (Q, X)]
    expected = torch.nn.functional.cross_entropy(
        unit[0] @ unit[1].T / 0.2, torch.arange(6), reduction="none"
    ).numpy()
    np.testing.assert_allclose(losses.sampled_softmax(Q, X, temperature=0.2), expected, rtol=1e-4)


def test_a_uniform_probability_changes_nothing():
    """All logits are shifted alike."""
    plain = losses.sampled_softmax(Q, X)
    np.testing.assert_allclose(losses.sampled_softmax(Q, X, log_q=np.full(6, -7.0)), plain, rtol=1e-4)
    assert np.abs(losses.sampled_softmax(Q, X, log_q=LOG_Q) - plain).max() > 0.1


def test_accidental_hits_are_no_negatives():
    same = np.array([1, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(losses.sampled_softmax(Q, X, ids=same), 0, atol=1e-6)
    where = np.eye(6, dtype=bool)
    where[0, 3] = True
    found = losses.sampled_softmax(Q, X, ids=IDS, where=where)
    assert found[0] > 0 and np.allclose(found[1:], 0, atol=1e-6)


def test_rows_permuted_together_permute_the_loss():
    order = RNG.permutation(6)
    plain = losses.sampled_softmax(Q, X, ids=IDS, log_q=LOG_Q)
    found = losses.sampled_softmax(Q[order], X[order], ids=IDS[order], log_q=LOG_Q[order])
    np.testing.assert_allclose(found, plain[order], rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_two_views_that_are_alike_and_orthonormal_have_a_closed_form(temperature):
    count, e = 5, math.exp(1 / temperature)
    eye = np.eye(count, dtype=np.float32)
    expected = -math.log(e / (e + count - 1))
    for found in (
        losses.info_nce(eye, eye, temperature=temperature),
        losses.spread_out(eye, temperature=temperature),
        losses.sampled_softmax(eye, eye, temperature=temperature),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_equal_items_and_a_great_temperature_give_the_logarithm_of_their_number():
    ones = np.ones((5, 3), np.float32)
    np.testing.assert_allclose(losses.sampled_softmax(ones, ones), math.log(5), rtol=1e-5)
    np.testing.assert_allclose(losses.spread_out(ones), math.log(5), rtol=1e-5)
    np.testing.assert_allclose(losses.sampled_softmax(Q, X, temperature=1e5), math.log(6), rtol=1e-4)


def test_spreading_out_is_the_loss_of_two_views_without_masks_and_its_gradient_turns():
    np.testing.assert_allclose(losses.spread_out(X), losses.info_nce(X, X, temperature=0.1), rtol=1e-6)
    gradient = jax.grad(lambda x: losses.spread_out(x).sum())(X)
    np.testing.assert_allclose(np.sum(gradient * X, axis=1), 0, atol=1e-4)  # a cosine knows no length
    assert np.abs(gradient).max() > 0.1


def test_squares_are_the_mean_over_other_rows():
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    products = (unit @ unit.T) ** 2
    expected = [np.mean([products[i, j] for j in range(6) if IDS[j] != IDS[i]]) for i in range(6)]
    np.testing.assert_allclose(losses.spread_out(X, ids=IDS, kind="squares"), expected, rtol=1e-5)
    lonely = losses.spread_out(X, where=np.zeros((6, 6), bool), kind="squares")
    np.testing.assert_array_equal(lonely, 0)


def test_moments_are_those_of_random_directions():
    """The formula of GlobalOrthogonalRegularizationLoss: cosines of two rows, over B (B - 1)."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    off = (unit @ unit.T)[~np.eye(6, dtype=bool)]
    wanted = off.mean() ** 2 + max(0.0, (off**2).mean() - 1 / 4)
    np.testing.assert_allclose(losses.spread_out(X, kind="moments"), np.full(6, wanted), rtol=1e-5)
    equal, eye = np.ones((3, 4), np.float32), np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(losses.spread_out(equal, kind="moments"), 1 + 1 - 1 / 4, rtol=1e-6)
    np.testing.assert_array_equal(losses.spread_out(eye, kind="moments"), 0)


@pytest.mark.peers
def test_moments_are_those_of_sentence_transformers():
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    loss = theirs.GlobalOrthogonalRegularizationLoss(None)
    found = loss.compute_loss_from_embeddings([torch.tensor(X)], None)
    total = sum(float(x) for x in found.values()) if isinstance(found, dict) else float(found)
    np.testing.assert_allclose(losses.spread_out(X, kind="moments").mean(), total, rtol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "squares", "moments"])
def test_extreme_vectors_stay_finite(kind):
    for x in (1e4 * X, np.zeros_like(X), -1e-8 * X):
        value, gradient = jax.value_and_grad(lambda x: losses.spread_out(x, kind=kind).sum())(jnp.asarray(x))
        chex.assert_tree_all_finite((value, gradient))
        chex.assert_tree_all_finite(losses.sampled_softmax(x, x, log_q=1e4 * LOG_Q, ids=IDS))


# Frequencies


def test_a_stream_of_known_frequencies_is_estimated():
    rng = np.random.default_rng(1)
    chance = np.array([1.0, 0.5, 0.2, 0.1])
    held = [np.resize(np.flatnonzero(rng.random(4) < chance), 4) for _ in range(4000)]

    def step(state, ids):
        state = losses.update_frequency(state, ids)
        return state, losses.log_frequency(state, jnp.arange(4))

    _, found = jax.lax.scan(step, losses.init_frequency(4, gap=10.0), jnp.asarray(np.stack(held)))
    np.testing.assert_allclose(found[2000:].mean(axis=0), np.log(chance), atol=0.1)


def test_one_update_is_the_formula():
    state = losses.init_frequency(5, gap=20.0)
    state = losses.update_frequency(state, np.array([1, 1, 4]), rate=0.25)
    state = losses.update_frequency(state, np.array([4]), rate=0.25)
    first = 0.75 * 20 + 0.25 * 1
    assert state["gap"][0].tolist() == [20, first, 20, 20, 0.75 * first + 0.25 * 1]
    assert state["last"][0].tolist() == [0, 1, 0, 0, 2] and state["step"] == 2
    np.testing.assert_allclose(losses.log_frequency(state, np.array([1, 0])), -np.log([first, 20]), rtol=1e-6)


def test_several_hashes_take_the_longest_gap():
    """Items of few slots collide, which shortens gaps; few of them collide in every hash."""
    rng = np.random.default_rng(2)
    chance = np.r_[np.full(64, 0.9 / 64), np.full(576, 0.1 / 576)]
    held = jnp.asarray(np.stack([rng.choice(640, 16, replace=False, p=chance) for _ in range(1500)]))
    estimates = {}
    for hashes in (1, 4):
        state = losses.init_frequency(64, hashes=hashes, gap=50.0)
        state, _ = jax.lax.scan(lambda s, ids: (losses.update_frequency(s, ids), None), state, held)
        estimates[hashes] = np.asarray(losses.log_frequency(state, np.arange(640)))
    assert (estimates[4] <= estimates[1]).mean() > 0.6
    truth = np.log(np.r_[np.full(64, 16 * 0.9 / 64), np.full(576, 16 * 0.1 / 576)])
    assert np.abs(estimates[4] - truth).mean() < np.abs(estimates[1] - truth).mean()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.sampled_softmax(Q, X[:3]), "items: 3 rows for 6 queries"),
        (lambda: losses.sampled_softmax(Q, X[:, :2]), "items: shape"),
        (lambda: losses.sampled_softmax(Q, X, log_q=LOG_Q[:2]), "log_q: shape"),
        (lambda: losses.sampled_softmax(Q, X, log_q=LOG_Q * np.nan), "log_q: NaN has no code and no score"),
        (lambda: losses.sampled_softmax(Q, X, ids=IDS[:2]), "ids: shape"),
        (lambda: losses.sampled_softmax(Q, X, temperature=0.0), "temperature"),
        (lambda: losses.spread_out(X, kind="cubes"), "kind='cubes'"),
        (lambda: losses.spread_out(X, ids=IDS[:2]), "ids: shape"),
        (lambda: losses.init_frequency(0), "size=0"),
        (lambda: losses.init_frequency(4, gap=0.0), "gap=0.0"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", losses.sampled.SPREADS)
def test_spread_out_refuses_nan_outside_of_jit(kind):
    broken = jnp.eye(3).at[0, 0].set(jnp.nan)
    refused("vectors: NaN has no", lambda: losses.spread_out(broken, kind=kind))
    assert jnp.isnan(jax.jit(lambda x: losses.spread_out(x, kind=kind))(broken)).any()


def test_counts_of_a_stream_refuse_what_is_no_item():
    state = losses.init_frequency(4)
    for call in (losses.log_frequency, losses.update_frequency):
        refused("ids: hold a negative number; number items", lambda c=call: c(state, jnp.array([1, -1])))
        refused("ids: float32; pass integers", lambda c=call: c(state, jnp.array([1.5])))
        jax.jit(lambda ids, c=call: c(state, ids))(jnp.array([-1]))
