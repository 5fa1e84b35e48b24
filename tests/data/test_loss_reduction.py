"""Loss reduction: limits, the Neyman-Pearson test of two known models, and the costs of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed.data import conditional_loss_reduction, filter_report, rho_rows, select, selection_cost

RNG = np.random.default_rng(0)
PRIOR, TUNED = RNG.random(300) + 2, RNG.random(300) + 1


def test_equal_models_give_zeros_and_swapped_ones_the_reverse_order():
    np.testing.assert_array_equal(conditional_loss_reduction(PRIOR, PRIOR), 0)
    found = conditional_loss_reduction(PRIOR, TUNED)
    np.testing.assert_array_equal(found, -conditional_loss_reduction(TUNED, PRIOR))
    best = select(found, 50)
    np.testing.assert_array_equal(best, select(conditional_loss_reduction(PRIOR + 3, TUNED), 50))
    smallest = np.argsort(TUNED - PRIOR)[:50]  # which the paper keeps
    np.testing.assert_array_equal(best, np.sort(smallest))


def test_conditional_only_keeps_what_the_tuned_prior_finds_easiest():
    found = conditional_loss_reduction(None, TUNED)
    np.testing.assert_array_equal(found, -TUNED)


def test_losses_of_tokens_are_averaged_over_real_ones():
    marginal, conditional = RNG.random((2, 20, 6))
    lengths = RNG.integers(1, 7, size=20)
    mask = np.arange(6) < lengths[:, None]
    expected = [np.mean((m - c)[:n]) for m, c, n in zip(marginal, conditional, lengths, strict=True)]
    marginal[~mask] = np.nan  # padding is never read
    np.testing.assert_allclose(
        conditional_loss_reduction(marginal, conditional, mask=mask), expected, atol=1e-12
    )


def test_two_known_models_are_told_apart_by_their_likelihood_ratio():
    """Words of two known distributions: no rule that looks at a text alone is more precise at a budget."""
    common, target = np.array([0.5, 0.3, 0.1, 0.1]), np.array([0.2, 0.2, 0.3, 0.3])
    clean = RNG.random(4000) < 0.3
    texts = np.where(clean[:, None], RNG.choice(4, (4000, 5), p=target), RNG.choice(4, (4000, 5), p=common))
    scores = conditional_loss_reduction(
        -np.log(common)[texts], -np.log(target)[texts], mask=np.ones(texts.shape, bool)
    )
    counts = np.stack([(texts == word).sum(axis=1) for word in range(4)], axis=1)
    np.testing.assert_allclose(scores, counts @ np.log(target / common) / 5, atol=1e-12)
    ours = filter_report(scores, clean, 0.3)["precision"]
    alone = filter_report(conditional_loss_reduction(None, -np.log(target)[texts].mean(axis=1)), clean, 0.3)
    length = filter_report(counts[:, 3], clean, 0.3)
    assert ours > max(alone["precision"], length["precision"]) - 1e-9 and ours > 0.7
    # Gibbs: under the true model of the common texts no other model has the lower mean loss.
    assert scores[~clean].mean() < 0 < scores[clean].mean()


@pytest.mark.parametrize("keep", [1, 7, 32])
def test_rho_is_the_batchwise_selection_inside_a_jitted_step(keep):
    losses, conditional = jnp.asarray(PRIOR[:32]), jnp.asarray(TUNED[:32])
    found = jax.jit(rho_rows, static_argnums=2)(losses, conditional, keep)
    scores = np.float32(PRIOR[:32]) - np.float32(TUNED[:32])
    assert sorted(found.tolist()) == select(scores, keep).tolist()
    assert found.tolist() == np.argsort(-scores, kind="stable")[:keep].tolist()


def test_rho_keeps_nan_last_and_takes_ties_from_the_lowest_row():
    assert rho_rows(jnp.array([jnp.nan, 1.0, 1.0, 2.0]), jnp.zeros(4), 4).tolist() == [3, 1, 2, 0]


def test_rho_trains_on_what_it_selects():
    def loss(scale, x):
        losses = (scale * x) ** 2
        return losses[rho_rows(losses, jnp.zeros(3), 1)].sum()

    assert float(jax.grad(loss)(1.0, jnp.array([1.0, 3.0, 2.0]))) == 18.0  # of the row 3.0 alone


def test_costs_are_those_of_the_paper():
    books = selection_cost("color", kept=1.5, tau=16, prior=3.1, ratio=5.5)
    tasks = selection_cost("color", kept=3, tau=16, prior=3.1, ratio=5.5)
    assert round(books["total"]) == 82 and round(tasks["total"], 1) == 154.8
    assert selection_cost("random", kept=25, ratio=5.5)["total"] == 412.5
    rho, with_prior = (selection_cost(m, kept=3, tau=16, prior=3.1, ratio=5.5) for m in ("rho", "rho_prior"))
    assert rho == {"prior": 0, "serial": 54, "parallel": 48, "training": 49.5, "total": 151.5}
    assert with_prior["total"] - rho["total"] == pytest.approx(9.3)
    alone = selection_cost("conditional", kept=3, tau=16, prior=3.1, ratio=5.5)
    assert tasks["total"] - alone["total"] == pytest.approx(48) and alone["serial"] == 0


@pytest.mark.parametrize(
    ("match", "call"),
    [
        (
            "mask: row 1 predicts no token; leave out texts of fewer than two tokens",
            lambda: conditional_loss_reduction(
                np.ones((2, 3)), np.ones((2, 3)), mask=np.arange(3) < [[2], [0]]
            ),
        ),
        (
            "conditional: 1 of 2 are NaN, the first in row 0",
            lambda: conditional_loss_reduction([1, 2], [np.nan, 1]),
        ),
        ("marginal: 1 of 2 are NaN", lambda: conditional_loss_reduction([1, np.nan], [1, 1])),
        ("marginal: shape", lambda: conditional_loss_reduction([1.0], [1.0, 2.0])),
        ("conditional: shape", lambda: conditional_loss_reduction(np.ones((2, 3)), np.ones((2, 3)))),
        ("conditional: shape", lambda: conditional_loss_reduction(None, [1.0], mask=[[True]])),
        ("keep: 0 rows", lambda: rho_rows(jnp.ones(2), jnp.ones(2), 0)),
        ("keep: 3 keeps 3 of 2 rows", lambda: rho_rows(jnp.ones(2), jnp.ones(2), 3)),
        ("conditional: shape", lambda: rho_rows(jnp.ones(2), jnp.ones(3), 1)),
        ("method='dsir'; choose one of", lambda: selection_cost("dsir", kept=1)),
        ("kept: out of range; pass", lambda: selection_cost("color", kept=0)),
        ("tau: out of range; pass", lambda: selection_cost("color", kept=1, tau=0.5)),
    ],
)
def test_bad_input_is_one_clear_line(match, call):
    if "shape" in match:
        with pytest.raises(ValueError, match=match):
            call()
    else:
        refused(match, call)
