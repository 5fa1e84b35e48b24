"""Masked words, autoencoders and tables that stay: values, gradients, what reaches what."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles_losses
import pytest
from jax.sharding import PartitionSpec as P
from layered_encoder import WORDS, D, L, T, head_and_table
from loss_families import ROWS, rows
from loss_families import D as WIDTH

from jaxembed import encoders, losses, train


def lifted(head):
    return functools.partial(encoders.lift, head)


def word_batch(rows=5):
    rng = np.random.default_rng(1)
    where = rng.random((rows, T)) < 0.5
    where[1] = False
    where[0] = True
    return {"words": rng.integers(0, WORDS, (rows, T)), "where": where}


@pytest.mark.parametrize("most", [None, 2, T])
@pytest.mark.parametrize("size", [3, D])
def test_masked_words_loss_equals_the_oracle(size, most):
    (head, table), batch = head_and_table(), word_batch()
    states = np.random.default_rng(0).normal(size=(5, T, size)).astype(np.float32)
    expected = oracles_losses.masked_words_loss(head, states, table, most=most, **batch)
    states[~batch["where"]] = np.nan  # such states are never read
    loss = jax.jit(
        lambda s: losses.masked_words_loss(lifted(head), s, table, bias=head["bias"], most=most, **batch)
    )
    value = loss(states)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert value[1] == 0
    gradient = np.asarray(jax.jit(jax.grad(lambda s: jnp.sum(loss(s))))(jnp.asarray(states)))
    assert np.isfinite(gradient).all()
    assert not gradient[~batch["where"]].any()


@pytest.mark.parametrize("most", [None, 2])
def test_words_count_alike_where_they_are_averaged_together(most):
    (head, table), batch = head_and_table(), word_batch()
    states = np.random.default_rng(0).normal(size=(5, T, D)).astype(np.float32)
    given = {"bias": head["bias"], "most": most, **batch}
    value = losses.masked_words_loss(lifted(head), states, table, average="words", **given)
    rows = oracles_losses.masked_words_loss(head, states, table, most=most, **batch)
    counts = np.minimum(batch["where"].sum(axis=1), most or T)
    np.testing.assert_allclose(np.mean(value), np.sum(rows * counts) / counts.sum(), rtol=1e-4)
    assert value[1] == 0
    nothing = {**given, "where": np.zeros((5, T), bool)}
    assert not np.asarray(
        losses.masked_words_loss(lifted(head), states, table, average="words", **nothing)
    ).any()
    with pytest.raises(ValueError, match="average='tokens': choose rows or words"):
        losses.masked_words_loss(lifted(head), states, table, average="tokens", **given)


def autoencoder(decode, states, **options):
    (head, table), batch = head_and_table(), word_batch()
    batch |= {"decoder_where": batch["where"] | (np.arange(T) == 2)}
    return losses.masked_autoencoder(
        lifted(head), states, table, decode, bias=head["bias"], **batch, **options
    )


def test_the_autoencoder_is_the_mean_of_its_parts():
    states = np.random.default_rng(0).normal(size=(5, L + 1, T, D)).astype(np.float32)
    tokens = np.random.default_rng(2).normal(size=(5, T, D)).astype(np.float32)

    def decode(vector):
        return jnp.cumsum(encoders.with_first(tokens, vector), axis=1)

    grid = [(1, 4), (L, D)]
    value = jax.jit(lambda s: autoencoder(decode, s, grid=grid, most=3))(states)
    (head, table), batch = head_and_table(), word_batch()
    total, where = 0, batch["where"]
    for n, size in grid:
        h = states[:, n, :, :size]
        total += oracles_losses.masked_words_loss(head, h, table, batch["words"], where, 3)
        out = np.concatenate([oracles_losses.lift(head, h[:, 0])[:, None], tokens[:, 1:]], 1).cumsum(1)
        decoder_where = where | (np.arange(T) == 2)
        total += oracles_losses.masked_words_loss(head, out, table, batch["words"], decoder_where, 3)
    np.testing.assert_allclose(value, total / 4, rtol=1e-4)


def test_the_decoder_reaches_the_encoder_through_place_zero_only():
    states = jnp.asarray(np.random.default_rng(0).normal(size=(5, L + 1, T, D)).astype(np.float32))
    fixed = jnp.zeros((5, T, D))

    def total(states, decode):
        return jnp.sum(autoencoder(decode, states, grid=[(2, 4)]))

    gradient = jax.jit(jax.grad(total), static_argnums=1)
    with_vector = gradient(states, lambda v: jnp.cumsum(encoders.with_first(fixed, v), axis=1))
    without = gradient(states, lambda v: fixed)
    through = np.array(with_vector - without)
    assert np.abs(through[:, 2, 0, :4]).max() > 1e-4
    through[:, 2, 0, :4] = 0
    assert np.abs(through).max() < 1e-6


def test_wrong_arguments_of_the_pre_training_raise():
    (head, table), batch = head_and_table(), word_batch()
    states = np.zeros((5, L + 1, T, D), np.float32)
    for grid in ([(0, 4)], [(L + 1, 4)], [(1, D + 1)]):
        with pytest.raises(ValueError, match="is beyond the layers 1..3 of width 16"):
            autoencoder(lambda v: states[:, 0], states, grid=grid)
    with pytest.raises(ValueError, match="most: 7 is outside 1..6"):
        losses.masked_words_loss(lifted(head), states[:, 0], table, bias=head["bias"], most=7, **batch)
    with pytest.raises(ValueError, match="lead with"):
        losses.masked_words_loss(lifted(head), states[:4, 0], table, bias=head["bias"], **batch)
    with pytest.raises(ValueError, match="x: width 17 is above the 16 rows"):
        encoders.prefix_dense(head["dense"], np.zeros((2, D + 1)))


@pytest.mark.parametrize("masked", [False, True])
def test_frozen_softmax_equals_the_oracle(masked):
    rng = np.random.default_rng(0)
    x, _ = rows()
    table, bias, positives = rng.normal(size=(11, WIDTH)), rng.normal(size=11), rng.integers(0, 11, ROWS)
    options = {"positives": positives, "temperature": 0.6, "bias": bias}
    options["where"] = rng.random((ROWS, 11)) < 0.5 if masked else None
    value = losses.frozen_softmax(x, table, **options)
    np.testing.assert_allclose(value, oracles_losses.frozen_softmax(x, table, **options), rtol=1e-4)


def test_a_table_gets_no_gradient_and_a_common_shift_changes_nothing():
    rng = np.random.default_rng(0)
    x, _ = rows()
    table, positives = rng.normal(size=(11, WIDTH)).astype(np.float32), rng.integers(0, 11, ROWS)

    def total(table, bias):
        return jnp.sum(losses.frozen_softmax(x, table, positives=positives, bias=bias))

    slopes = jax.grad(total, argnums=(0, 1))(jnp.asarray(table), jnp.zeros(11))
    assert not any(np.asarray(s).any() for s in slopes)
    shifted = total(table + rng.normal(size=WIDTH), jnp.full(11, 2.0))
    np.testing.assert_allclose(shifted, total(table, None), rtol=1e-5)
    v = jnp.array([[0.3, -1.0]])
    value = losses.frozen_softmax(v, jnp.array([[2.0, 1.0], [-2.0, -1.0]]), positives=jnp.array([0]))
    np.testing.assert_allclose(value, math.log1p(math.exp(-2 * (0.6 - 1.0))), rtol=1e-6)


def test_a_table_sharded_by_rows_gives_the_same_loss_and_is_not_gathered(optimized):
    rng = np.random.default_rng(0)
    x, table = rng.normal(size=(4, 16)).astype(np.float32), rng.normal(size=(256, 16)).astype(np.float32)
    positives = rng.integers(0, 256, 4)
    run = jax.jit(jax.value_and_grad(lambda x, t: jnp.sum(losses.frozen_softmax(x, t, positives=positives))))
    expected = run(x, table)
    mesh = train.make_mesh(1, 8)
    placed = jax.device_put(table, jax.sharding.NamedSharding(mesh, P("model")))
    x = jax.device_put(x, jax.sharding.NamedSharding(mesh, P()))
    chex.assert_trees_all_close(jax.tree.map(np.asarray, run(x, placed)), expected, rtol=1e-5, atol=1e-5)
    assert "all-gather" not in run.lower(x, placed).compile().as_text()


def test_masked_autoencoding_asks_for_a_grid():
    states, table, where = np.zeros((1, 2, 3, 4)), np.ones((5, 4)), np.ones((1, 3), bool)
    given = {"words": np.zeros((1, 3), int), "where": where, "decoder_where": where, "grid": ()}
    with pytest.raises(ValueError, match="grid: is empty; pass at least one pair"):
        losses.masked_autoencoder(lambda x: x, states, table, lambda v: states[:, 0], **given)
