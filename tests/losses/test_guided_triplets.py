"""Guided triplets: loops from the rule, by hand, limits, gradients, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_families import B, D, N, vectors
from oracles import unit

from jaxembed import losses


def guides(seed=3, width=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, width)).astype(np.float32), rng.normal(size=(N, width)).astype(np.float32)


def oracle(q, d, gq, gd, margin, guide_margin, pick):
    """For each query: its candidates one by one, sorted by the guide, measured by the encoder."""
    q, d, gq, gd = (unit(x.astype(np.float64)) for x in (q, d, gq, gd))
    out = []
    for i in range(len(q)):
        limit = gq[i] @ gd[i] - guide_margin
        near, far = [q[i] @ d[i]], []
        for j in range(len(d)):
            if j != i:
                (near if gq[i] @ gd[j] > limit else far).append(q[i] @ d[j])
        for j in range(len(q)):
            if j != i:
                (near if gq[i] @ gq[j] > limit else far).append(q[i] @ q[j])
        if not far:
            out.append(0.0)
            continue
        p, n = (min(near), max(far)) if pick == "hard" else (np.mean(near), np.mean(far))
        out.append(max(0.0, margin + (1 - p) - (1 - n)))
    return np.array(out)


@pytest.mark.parametrize("pick", ["hard", "soft"])
@pytest.mark.parametrize("guide_margin", [0.0, 0.4, -0.5, 3.0])
def test_the_loss_equals_the_oracle_eager_and_under_jit(pick, guide_margin):
    q, d, (gq, gd) = *vectors(), guides()
    wanted = oracle(q, d, gq, gd, 0.3, guide_margin, pick)
    assert guide_margin == 3.0 or wanted.any()
    given = {"margin": 0.3, "guide_margin": guide_margin, "pick": pick}
    run = jax.jit(lambda *x: losses.guided_triplet_loss(*x, **given))
    for loss in (run, lambda *x: losses.guided_triplet_loss(*x, **given)):
        np.testing.assert_allclose(loss(q, d, gq, gd), wanted, atol=1e-6)


def test_a_guide_that_finds_only_the_own_document_gives_the_usual_triplet_with_the_hardest_negative():
    q, d = vectors()
    gq, gd = np.eye(N, dtype=np.float32)[:B], np.eye(N, dtype=np.float32)
    cosines = unit(q) @ unit(np.concatenate([d, q])).T
    own = cosines[np.arange(B), np.arange(B)]
    cosines[np.arange(B), np.arange(B)] = cosines[np.arange(B), N + np.arange(B)] = -9
    wanted = np.maximum(0, 0.2 + cosines.max(axis=1) - own)
    np.testing.assert_allclose(losses.guided_triplet_loss(q, d, gq, gd), wanted, atol=1e-6)


def test_a_guide_that_leaves_no_negative_gives_no_loss_and_no_gradient():
    q, d = vectors()
    guide = np.ones((N, 2), np.float32)
    run = lambda x, g: jnp.sum(losses.guided_triplet_loss(x, d, g[:B], g, guide_margin=0.5))  # noqa: E731
    value, slopes = jax.value_and_grad(run, argnums=(0, 1))(jnp.asarray(q), jnp.asarray(guide))
    assert value == 0 and not any(np.asarray(x).any() for x in slopes)
    value, slopes = jax.value_and_grad(run, argnums=(0, 1))(jnp.asarray(q), jnp.asarray(guides()[1]))
    assert np.asarray(slopes[0]).any() and not np.asarray(slopes[1]).any()


def test_bad_arguments_are_named():
    q, d, (gq, gd) = *vectors(), guides()
    for given, message in (
        ((q, d, gq, gd[:-1]), "document_guide: 7 rows for 8"),
        ((q, d, gq[:-1], gd), "query_guide: 4 rows for 5"),
        ((q, d[:3], gq, gd[:3]), "document_guide: 3 rows for 5 queries"),
        ((q, d[:, : D - 1], gq, gd), "documents: shape"),
    ):
        with pytest.raises(ValueError, match=message):
            losses.guided_triplet_loss(*given)
    with pytest.raises(ValueError, match="pick='mean'"):
        losses.guided_triplet_loss(q, d, gq, gd, pick="mean")
