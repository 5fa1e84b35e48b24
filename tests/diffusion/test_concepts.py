"""Searched concepts: closed forms on frozen models, chains through an encoder, rows, logits, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxembed import diffusion, weights
from jaxembed.encoders import unet

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(12, 4)).astype(np.float32)
LABELS = RNG.normal(size=12).astype(np.float32)
ENCODER = RNG.normal(size=(3, 4)).astype(np.float32)  # f_T: tokens of width 3 to rows of width 4
STEPS = {"at": np.zeros((400, 1), np.float32)}


def squared(rows, frozen, batch, key):
    """A frozen linear classifier of one concept row, with a squared loss for each example."""
    return (frozen["features"] @ rows[0] - frozen["labels"]) ** 2


FROZEN = {"features": FEATURES, "labels": LABELS}


def searched(loss_fn, start, frozen=FROZEN, rate=0.05, **options):
    return diffusion.search_embeddings(loss_fn, start, frozen, STEPS, tx=optax.adam(rate), key=0, **options)


def test_a_convex_search_reaches_least_squares_and_a_search_through_an_encoder_cannot_be_better():
    best = np.linalg.lstsq(FEATURES, LABELS, rcond=None)[0]
    found, history = jax.jit(lambda frozen: searched(squared, np.zeros((1, 4)), frozen))(FROZEN)
    np.testing.assert_allclose(found[0], best, atol=1e-3)
    least = np.mean((FEATURES @ best - LABELS) ** 2)
    np.testing.assert_allclose(history["loss"][-1], least, rtol=1e-4)
    through = lambda v, *given: squared(v @ ENCODER, *given)  # noqa: E731
    narrow, told = searched(through, np.zeros((1, 3)))
    best_v = np.linalg.lstsq(FEATURES @ ENCODER.T, LABELS, rcond=None)[0]
    np.testing.assert_allclose(narrow[0], best_v, atol=1e-3)
    assert least <= told["loss"][-1]
    # dL/dV = dL/dH J^T
    both = [jax.grad(lambda x: squared(x, FROZEN, None, None).mean())(narrow @ ENCODER) @ ENCODER.T]
    both.append(jax.grad(lambda v: through(v, FROZEN, None, None).mean())(narrow))
    np.testing.assert_allclose(*both, atol=1e-5)


def test_it_begins_at_the_loss_of_the_prompt_and_counts_steps_as_a_loop_does():
    start, tx = RNG.normal(size=(1, 4)).astype(np.float32), optax.sgd(0.01)

    def noisy(rows, frozen, batch, key):
        return squared(rows + 0.1 * jax.random.normal(key, rows.shape), frozen, batch, key) + batch

    batches = RNG.normal(size=(6, 12)).astype(np.float32)
    key = jax.random.key(7)
    found, history = diffusion.search_embeddings(noisy, start, FROZEN, batches, tx=tx, key=key, keep=3)
    rows, losses, kept = jnp.asarray(start), [], []
    for t, batch in enumerate(batches):
        inner = jax.random.fold_in(key, t)
        loss, slope = jax.value_and_grad(lambda r, b=batch, k=inner: noisy(r, FROZEN, b, k).mean())(rows)
        rows = rows - 0.01 * slope
        losses, kept = [*losses, loss], [*kept, rows]
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(history["found"], kept[1::2], rtol=1e-5)
    np.testing.assert_array_equal(found, history["found"][-1])
    again, _ = diffusion.search_embeddings(noisy, start, FROZEN, batches, tx=tx, key=7)
    np.testing.assert_allclose(again, found, rtol=1e-6)


def test_an_orthogonal_encoder_turns_the_path_and_no_more():
    turn = np.linalg.qr(RNG.normal(size=(4, 4)))[0].astype(np.float32)
    given = {"tx": optax.sgd(0.05), "key": 0}
    through = lambda v, *rest: squared(v @ turn, *rest)  # noqa: E731
    found, _ = diffusion.search_embeddings(squared, np.ones((1, 4)) @ turn, FROZEN, STEPS, **given)
    inner, _ = diffusion.search_embeddings(through, np.ones((1, 4)), FROZEN, STEPS, **given)
    np.testing.assert_allclose(inner @ turn, found, atol=1e-4)


def test_many_concepts_search_at_once_and_a_projection_holds_after_each_step():
    starts = RNG.normal(size=(3, 1, 4)).astype(np.float32)
    ball = functools.partial(diffusion.match_norms, reference=jnp.full((1, 4), 0.1), longest=True)

    def one(start):
        return searched(squared, start, project=ball, keep=4)

    found, history = jax.vmap(one)(starts)
    np.testing.assert_allclose(found[1], one(starts[1])[0], atol=1e-5)
    assert (np.linalg.norm(history["found"], axis=-1) <= 0.2 + 1e-5).all()
    free = np.linalg.norm(np.linalg.lstsq(FEATURES, LABELS, rcond=None)[0])
    assert free > 0.2  # so the ball is felt


def test_a_search_of_a_denoisers_context_has_no_encoder_in_it_and_low_rank_adapters_customise_the_denoiser():
    net = unet(4, (1,), context=3, heads=1, groups=2)
    params = net.init(jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    table = diffusion.schedule("cosine", 10)
    loss = diffusion.denoising_loss(table, net.denoise, prediction="v", drop=0.0)
    images = RNG.normal(size=(30, 4, 4, 4, 1)).astype(np.float32) * 0.1 + 0.8

    def context_loss(rows, frozen, batch, key):
        tokens = diffusion.insert_rows(jnp.zeros((4, 5, 3)), rows, jnp.array([1, 2]))
        return loss(frozen, {"images": batch, "condition": {"tokens": tokens}}, key)

    def search(frozen):
        return diffusion.search_embeddings(
            context_loss, jnp.zeros((2, 3)), frozen, images, tx=optax.adam(0.3), key=0
        )

    found, history = jax.jit(search)(params)
    first, last = np.split(np.asarray(history["loss"]), [10])[0].mean(), history["loss"][-10:].mean()
    assert np.isfinite(found).all() and np.abs(found).max() > 0.5 and last < first
    adapters = weights.init_low_rank(jax.random.key(1), params, r"cross.*kernel", 1)
    tokens = {"tokens": jnp.ones((4, 5, 3))}
    arguments = images[0], jnp.array([1, 3, 5, 7]), tokens
    plain = net.denoise(params, *arguments)
    np.testing.assert_allclose(net.denoise(weights.low_rank(params, adapters), *arguments), plain, rtol=1e-5)

    def adapted_loss(adapters, frozen, batch, key):
        condition = {"tokens": jnp.ones((4, 5, 3))}
        return loss(weights.low_rank(frozen, adapters), {"images": batch, "condition": condition}, key)

    start = {"tx": optax.adam(0.03), "key": 0}
    changed, _ = diffusion.search_embeddings(adapted_loss, adapters, params, images[:5], **start)
    moved = net.denoise(weights.low_rank(params, changed), *arguments)
    assert np.abs(moved - plain).max() > 1e-4


# Rows


def test_rows_go_to_their_slots():
    states, rows = (
        RNG.normal(size=(2, 5, 3)).astype(np.float32),
        RNG.normal(size=(2, 2, 3)).astype(np.float32),
    )
    slots = np.array([[3, 0], [1, 2]])
    expected = states.copy()
    for b in range(2):
        expected[b, slots[b]] = rows[b]
    np.testing.assert_allclose(jax.jit(diffusion.insert_rows)(states, rows, slots), expected, rtol=1e-6)
    shared = diffusion.insert_rows(states, rows[0], np.array([4, 1]))
    np.testing.assert_allclose(shared[1, [4, 1]], rows[0], rtol=1e-6)
    slope = jax.jit(jax.grad(lambda s: diffusion.insert_rows(s, rows, slots).sum()))(states)
    assert slope[0, 3].sum() == 0 and slope[0, 1].sum() == 3


def test_drawn_rows_have_the_moments_of_the_outputs():
    outputs = RNG.normal(size=(40, 3)) @ RNG.normal(size=(3, 3)) + np.array([1.0, -2.0, 3.0])
    rows = np.asarray(diffusion.draw_rows(jax.random.key(0), outputs.astype(np.float32), 20_000))
    np.testing.assert_allclose(rows.mean(axis=0), outputs.mean(axis=0), atol=0.06)
    np.testing.assert_allclose(np.cov(rows.T), np.cov(outputs.T), atol=0.2)


def test_norms_are_matched_or_bounded():
    x, reference = (
        RNG.normal(size=(2, 4, 5)).astype(np.float32),
        np.linspace(0.1, 9, 4)[:, None] * np.eye(4, 5),
    )
    found = diffusion.match_norms(x, reference)
    np.testing.assert_allclose(
        np.linalg.norm(found, axis=-1), np.tile(np.linspace(0.1, 9, 4), (2, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(
        found / np.linalg.norm(found, axis=-1, keepdims=True),
        x / np.linalg.norm(x, axis=-1, keepdims=True),
        atol=1e-6,
    )
    bounded = diffusion.match_norms(x, reference, longest=True)
    np.testing.assert_allclose(
        np.linalg.norm(bounded, axis=-1),
        np.minimum(np.linalg.norm(x, axis=-1), np.linspace(0.1, 9, 4)),
        rtol=1e-5,
    )
    slope = jax.grad(lambda x: diffusion.match_norms(x, jnp.ones((1, 5))).sum())(jnp.zeros((2, 5)))
    assert np.isfinite(slope).all()


# Recognition


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_alignment_logits_are_their_loops(pool):
    regions, concepts = (
        RNG.normal(size=(6, 4)).astype(np.float32),
        RNG.normal(size=(3, 2, 4)).astype(np.float32),
    )
    where = np.array([[True, True], [False, True], [False, False]])
    expected = np.full((6, 3), -np.inf)
    for r, k in np.ndindex(6, 2):
        expected[r, k] = (
            getattr(np, pool)([regions[r] @ c for c, w in zip(concepts[k], where[k], strict=True) if w]) / 0.5
        )
    padded = np.where(where[..., None], concepts, np.nan)
    found = jax.jit(lambda *x: diffusion.alignment_logits(*x, where=where, pool=pool, temperature=0.5))(
        regions, padded
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_with_whitened_features_and_a_squared_loss_the_concept_is_the_difference_of_the_class_means():
    x = RNG.normal(size=(400, 4)) + np.where(np.arange(400)[:, None] < 200, 1, -1) * np.array(
        [1.0, 0.5, 0.0, 0.0]
    )
    x = x - x.mean(axis=0)
    within = np.cov(
        (x - np.where(np.arange(400)[:, None] < 200, x[:200].mean(axis=0), x[200:].mean(axis=0))).T
    )
    white = (x @ np.linalg.inv(np.linalg.cholesky(within)).T).astype(np.float32)
    signs = np.where(np.arange(400) < 200, 1.0, -1.0).astype(np.float32)

    def loss(rows, frozen, batch, key):
        return (diffusion.alignment_logits(frozen, rows[None])[:, 0] - signs) ** 2

    found, _ = diffusion.search_embeddings(loss, np.zeros((1, 4)), white, STEPS, tx=optax.adam(0.02), key=0)
    means = white[:200].mean(axis=0) - white[200:].mean(axis=0)
    cosine = found[0] @ means / np.linalg.norm(found) / np.linalg.norm(means)
    assert cosine > 0.9999


# Bad input


def test_bad_input_is_named():
    refused(
        "batches: leading lengths .'0'.",
        lambda: diffusion.search_embeddings(
            squared, np.zeros((1, 4)), FROZEN, np.zeros((0, 1)), tx=optax.sgd(1), key=0
        ),
    )
    two = {"a": np.zeros(3), "b": np.zeros(4)}
    refused(
        "batches: leading lengths .'3', '4'.",
        lambda: diffusion.search_embeddings(squared, np.zeros((1, 4)), FROZEN, two, tx=optax.sgd(1), key=0),
    )
    refused("keep: 3 does not divide 400 steps", lambda: searched(squared, np.zeros((1, 4)), keep=3))
    states = np.zeros((5, 3))
    refused(
        r"rows: \(1, 2\) and slots \(1,\) for states \(5, 3\)",
        lambda: diffusion.insert_rows(states, np.zeros((1, 2)), np.array([0])),
    )
    refused(
        "slots: outside 0..4, the places of the 5 tokens",
        lambda: diffusion.insert_rows(states, np.zeros((1, 3)), np.array([5])),
    )
    refused(
        "outputs: 1 row; a covariance", lambda: diffusion.draw_rows(jax.random.key(0), np.zeros((1, 3)), 2)
    )
    refused(r"reference: shape \(1, 2\); pass", lambda: diffusion.match_norms(states, np.zeros((1, 2))))
    refused(
        "pool='sum'; choose one of max, mean",
        lambda: diffusion.alignment_logits(states, states[None], pool="sum"),
    )
    refused(
        r"concepts: shape \(5, 3\); pass \[any, any, 3\]", lambda: diffusion.alignment_logits(states, states)
    )
