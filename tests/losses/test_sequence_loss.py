"""The loss of language models: values, padding on either side, gradients, agreement with torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import losses


def batch(rows=4, length=6, vocabulary=5, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, length, vocabulary)).astype(np.float32) * 3
    sizes = rng.integers(2, length + 1, rows)
    mask = np.arange(length) < sizes[:, None]
    return logits, rng.integers(0, vocabulary, (rows, length)), mask


def slow(logits, ids, mask):
    """The sum and the number of predicted tokens of each row, from the formula."""
    totals = []
    for row, own, real in zip(np.float64(logits), ids, mask, strict=True):
        costs = [
            -np.log(np.exp(row[t])[own[t + 1]] / np.exp(row[t]).sum())
            for t in range(len(own) - 1)
            if real[t] and real[t + 1]
        ]
        totals.append((sum(costs), len(costs)))
    return np.array(totals).T


@pytest.mark.parametrize("side", ["right", "left"])
def test_it_is_the_mean_cross_entropy_of_the_next_tokens(side):
    logits, ids, mask = batch()
    mask = mask if side == "right" else mask[:, ::-1]
    total, count = slow(logits, ids, mask)
    found = jax.jit(losses.sequence_loss)(logits, ids, mask)
    np.testing.assert_allclose(found, total / count, rtol=1e-5)
    np.testing.assert_allclose(losses.sequence_loss(logits, ids, mask, average=False), total, rtol=1e-5)


def test_mean_and_sum_order_texts_alike_only_where_lengths_are_equal():
    logits, ids, mask = batch(rows=30)
    means, sums = (np.asarray(losses.sequence_loss(logits, ids, average=a)) for a in (True, False))
    np.testing.assert_allclose(means * (ids.shape[1] - 1), sums, rtol=1e-5)
    means, sums = (np.asarray(losses.sequence_loss(logits, ids, mask, average=a)) for a in (True, False))
    assert np.argsort(means).tolist() != np.argsort(sums).tolist()


def test_padding_neither_counts_nor_gets_a_gradient():
    logits, ids, mask = batch()
    dirty, other = logits.copy(), ids.copy()
    dirty[~mask], other[~mask] = np.nan, 99
    dirty[:, -1] = np.inf  # the last place predicts nothing
    expected = losses.sequence_loss(logits, ids, mask)
    np.testing.assert_array_equal(losses.sequence_loss(dirty, other, mask), expected)
    gradient = jax.grad(lambda x: jnp.sum(losses.sequence_loss(x, other, mask)))(jnp.asarray(dirty))
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[~mask].any()


def test_a_text_without_a_predicted_token_costs_nothing():
    logits, ids, mask = batch(rows=2)
    mask[0] = np.arange(mask.shape[1]) == 2
    assert losses.sequence_loss(logits, ids, mask)[0] == 0


def test_huge_logits_stay_finite():
    logits, ids, _ = batch()
    assert np.isfinite(losses.sequence_loss(logits * 1e4, ids)).all()


def test_it_is_the_cross_entropy_of_torch():
    torch = pytest.importorskip("torch")
    logits, ids, _ = batch()
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits[:, :-1]).transpose(1, 2), torch.tensor(ids[:, 1:]), reduction="none"
    ).mean(dim=1)
    np.testing.assert_allclose(losses.sequence_loss(logits, ids), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda logits, ids, mask: (logits[0], ids, mask), "logits"),
        (lambda logits, ids, mask: (logits, ids[:, 1:], mask), "ids"),
        (lambda logits, ids, mask: (logits, ids, mask[:2]), "mask"),
    ],
)
def test_shapes_that_differ_are_refused(change, match):
    with pytest.raises(ValueError, match=match) as caught:
        losses.sequence_loss(*change(*batch()))
    assert "\n" not in str(caught.value)
