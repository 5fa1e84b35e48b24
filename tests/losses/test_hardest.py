"""Hard negatives of a batch and backward compatibility, against loops and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import losses

RNG = np.random.default_rng(59)
Q, D = RNG.standard_normal((5, 4)).astype(np.float32), RNG.standard_normal((8, 4)).astype(np.float32)


def oracle(queries, documents, count, allowed, temperature):
    found = []
    for i, q in enumerate(queries):
        cosines = [float(q @ d / np.linalg.norm(q) / np.linalg.norm(d)) for d in documents]
        others = sorted((c for j, c in enumerate(cosines) if j != i and allowed[i, j]), reverse=True)
        logits = np.array([cosines[i], *others[:count]]) / temperature
        found.append(np.log(np.exp(logits - logits[0]).sum()))
    return found


@pytest.mark.parametrize("count", [1, 3, 7, 50])
def test_each_query_meets_its_hardest_negatives_alone(count):
    allowed = RNG.random((5, 8)) < 0.7
    for where in (None, allowed):
        loss = losses.hardest(losses.info_nce, count)(Q, D, where=where, temperature=0.3)
        wanted = oracle(Q, D, count, np.ones((5, 8), bool) if where is None else where, 0.3)
        np.testing.assert_allclose(loss, wanted, rtol=1e-4, atol=1e-6)


def test_all_negatives_are_the_loss_itself_and_both_directions_choose_their_own():
    hard = losses.hardest(losses.info_nce, 7)
    np.testing.assert_allclose(hard(Q, D), losses.info_nce(Q, D), rtol=1e-6)
    both = losses.symmetric(losses.hardest(losses.info_nce, 2))(Q, D[:5])
    one = losses.hardest(losses.info_nce, 2)
    np.testing.assert_allclose(both, (one(Q, D[:5]) + one(D[:5], Q)) / 2, rtol=1e-6)


def test_rows_of_one_id_are_never_negatives_of_one_another():
    ids = jnp.array([1, 2, 1, 3, 4])
    where = losses.duplicate_mask(ids)
    hard = losses.hardest(losses.info_nce, 4)
    gradient = jax.grad(lambda d: hard(Q, d, where=where)[0])(jnp.asarray(D[:5]))
    assert np.abs(gradient[2]).max() == 0 and np.abs(gradient[1]).max() > 0


def test_a_compatible_loss_is_the_loss_of_new_and_of_frozen_old_documents():
    old = RNG.standard_normal(D.shape).astype(np.float32)
    loss = losses.compatible(losses.info_nce, weight=0.5)
    found = loss(Q, D, old, temperature=0.2)
    parts = [losses.info_nce(Q, x, temperature=0.2) for x in (D, old)]
    np.testing.assert_allclose(found, parts[0] + 0.5 * parts[1], rtol=1e-6)
    same = losses.compatible(losses.info_nce)(Q, D, D)
    np.testing.assert_allclose(same, 2 * losses.info_nce(Q, D), rtol=1e-6)
    gradient = jax.grad(lambda old: loss(Q, D, old).sum())(jnp.asarray(old))
    assert (gradient == 0).all()
    both = losses.compatible(losses.symmetric(losses.info_nce))(Q, D[:5], old[:5])
    np.testing.assert_allclose(
        both, sum(losses.symmetric(losses.info_nce)(Q, x[:5]) for x in (D, old)), rtol=1e-6
    )


def test_bad_pairs_are_named():
    refused("count: 0 is below 1", lambda: losses.hardest(losses.info_nce, 0))
    refused("documents: 3 rows for 5", lambda: losses.hardest(losses.info_nce, 1)(Q, D[:3]))
    refused("old: shape", lambda: losses.compatible(losses.info_nce)(Q, D, D[:, :3]))
