"""Losses over sizes and layers: sums of their parts, what they train, what they cost."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_losses
import pytest
from layered_encoder import QUICK, D, L, encoder, halves, make_batch, params
from loss_families import BLOCKS, scores_loss, vectors
from loss_families import D as WIDTH

from jaxembed import losses


def stacks(seed=0, rows=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, rows, L + 1, D)).astype(np.float32)


# Layers and sizes


GRID = [(1, 2), (3, D), (2, 5), (3, 4)]


def test_over_layers_equals_the_oracle_and_never_reads_the_embeddings():
    q, d = stacks()
    q[:, 0] = d[:, 0] = np.nan
    weights = (0.5, 1.0, 2.0, 0.1)
    nested = losses.over_layers(losses.info_nce, GRID, weights)
    value = jax.jit(lambda q, d: nested(q, d, temperature=0.3))(q, d)
    expected = oracles_losses.over_layers(oracles.info_nce, GRID, weights, q, d, temperature=0.3)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    turned = losses.over_layers(losses.info_nce, GRID[::-1], weights[::-1])(q, d, temperature=0.3)
    np.testing.assert_allclose(turned, value, rtol=1e-5)


def test_grids_contain_the_plain_loss_and_matryoshka():
    q, d = stacks()
    last = q[:, -1], d[:, -1]
    value = losses.over_layers(losses.info_nce, [(L, D)])(q, d)
    np.testing.assert_array_equal(value, losses.info_nce(*last))
    sizes, weights = (2, 4, D), (1.0, 0.5, 2.0)
    value = losses.over_layers(losses.info_nce, losses.full_grid([L], sizes), weights)(q, d)
    np.testing.assert_allclose(value, losses.matryoshka(losses.info_nce, sizes, weights)(*last), rtol=1e-6)


def test_a_scalar_loss_and_more_arguments_go_over_layers():
    q, d = stacks()
    targets = np.arange(5)
    value = losses.over_layers(losses.cosent, [(1, 4), (L, D)], (2.0, 1.0))(q, d, targets=targets)
    first = losses.cosent(q[:, 1, :4], d[:, 1, :4], targets=targets)
    np.testing.assert_allclose(value, 2 * first + losses.cosent(q[:, L], d[:, L], targets=targets), rtol=1e-6)
    negatives = np.stack([q[::-1], d[::-1]], axis=1)  # [B, K, L+1, D]
    value = losses.over_layers(losses.margin_mse, [(2, 3)])(q, d, negatives, teacher=np.zeros((5, 3)))
    expected = losses.margin_mse(*(x[..., 2, :3] for x in (q, d, negatives)), teacher=np.zeros((5, 3)))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_a_layer_trains_the_blocks_up_to_it_and_the_teacher_is_left_alone():
    batch = halves(make_batch())

    def total(params, weights, align):
        q, d = (encoder().hidden(params, b)["layers"] for b in batch)
        grid = [(n, 4) for n in range(1, L + 1)]
        task = losses.over_layers(losses.info_nce, grid, weights)(q, d)

        def to_last(v):
            return losses.vector_kl(v, teacher=q[:, -1, : v.shape[1]], temperature=0.3)

        return jnp.sum(task) + jnp.sum(losses.over_layers(to_last, grid, align)(q))

    gradient = jax.jit(jax.grad(total), compiler_options=QUICK)
    zero = np.zeros(L, np.float32)
    for n in range(1, L + 1):
        one = np.eye(L, dtype=np.float32)[n - 1]
        for weights in ((one, zero), (zero, one)):
            kernel = np.asarray(gradient(params(), *weights)["blocks"]["mlp_in"]["kernel"])
            trained = np.abs(kernel).max(axis=(1, 2)) > 1e-5
            taught = weights[1] is one and n == L  # the last layer agrees with itself
            np.testing.assert_array_equal(trained, np.zeros(L, bool) if taught else np.arange(L) < n)


def test_traced_weights_of_a_grid_do_not_recompile():
    q, d = stacks()
    grid = losses.full_grid(range(1, L + 1), (4, D))
    parts = np.stack([losses.over_layers(losses.info_nce, [pair])(q, d) for pair in grid])

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(key):
        weights = losses.two_dimensional_weights(key, grid)
        return losses.over_layers(losses.info_nce, grid, weights)(q, d), weights

    chex.clear_trace_counter()
    for key in jax.random.split(jax.random.key(0), 3):
        value, weights = run(key)
        np.testing.assert_allclose(value, np.asarray(weights) @ parts, rtol=1e-5)


def test_wrong_grids_raise_one_line():
    q, d = stacks()
    for grid, message in (([], "at least one pair"), ([(0, 4)], "at least 1"), ([(1, 0)], "at least 1")):
        with pytest.raises(ValueError, match=message):
            losses.over_layers(losses.info_nce, grid)
    with pytest.raises(ValueError, match="weights: 1 for 2 pairs"):
        losses.over_layers(losses.info_nce, [(1, 2), (2, 2)], [1.0])
    for grid in ([(L + 1, 2)], [(1, 2), (1, D + 1)]):
        with pytest.raises(ValueError, match=rf"is beyond the {L} layers of width {D}"):
            losses.over_layers(losses.info_nce, grid)(q, d)
    with pytest.raises(ValueError, match="layers stacked on axis -2"):
        losses.over_layers(losses.info_nce, [(1, 2)])(q[:, 0], d[:, 0])


# What nesting costs


@pytest.mark.usefixtures("optimized")
def test_nested_sizes_and_layers_cost_few_operations():
    width, layers = 64, 2
    model = encoder(width, layers)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    batch = halves(make_batch(16, 32))

    def operations(loss):
        def total(params):
            return jnp.mean(loss(*(model.hidden(params, b)["layers"] for b in batch)))

        return jax.jit(jax.value_and_grad(total)).lower(shapes).cost_analysis()["flops"]

    def last(loss):
        return lambda q, d: loss(q[:, -1], d[:, -1])

    # The scan over blocks is counted once, not once per block, so the true shares are smaller still.
    plain = operations(last(losses.info_nce))
    sizes = (8, 16, 32, 48, width)
    assert 1 < operations(last(losses.matryoshka(losses.info_nce, sizes))) / plain < 1.03
    grid = losses.full_grid(range(1, layers + 1), sizes)
    assert 1 < operations(losses.over_layers(losses.info_nce, grid)) / plain < 1.05


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_matryoshka_equals_the_oracle(blocks):
    q, d = vectors()
    options = {"blocks": blocks, "temperature": 0.3}
    expected = oracles.matryoshka(oracles.info_nce, (1, 3, WIDTH), (0.5, 1, 2), q, d, **options)
    loss = losses.matryoshka(losses.info_nce, (1, 3, WIDTH), (0.5, 1, 2))
    np.testing.assert_allclose(loss(q, d, **options), expected, rtol=1e-5, atol=1e-5)


# Matryoshka


def test_matryoshka_is_additive_in_sizes_and_linear_in_weights():
    q, d = vectors()
    parts = [losses.info_nce(q[:, :m], d[:, :m]) for m in (2, 4, WIDTH)]
    both = losses.matryoshka(losses.info_nce, (2, 4, WIDTH), (1.0, 3.0, 0.5))(q, d)
    np.testing.assert_allclose(both, parts[0] + 3 * parts[1] + 0.5 * parts[2], rtol=1e-6)
    turned = losses.matryoshka(losses.info_nce, (WIDTH, 4, 2), (0.5, 3.0, 1.0))(q, d)
    np.testing.assert_allclose(turned, both, rtol=1e-6)
    plain = losses.matryoshka(losses.info_nce, (2, 4, WIDTH))(q, d)
    np.testing.assert_allclose(plain, sum(parts), rtol=1e-6)


def test_the_full_size_alone_is_the_loss_itself():
    q, d = vectors()
    np.testing.assert_array_equal(losses.matryoshka(losses.info_nce, (WIDTH,))(q, d), losses.info_nce(q, d))


@pytest.mark.parametrize("size", [1, 3, WIDTH])
def test_coordinates_beyond_a_size_get_no_gradient(size):
    q, d = map(jnp.asarray, vectors())
    loss = losses.matryoshka(losses.info_nce, (size,))
    gradients = jax.jit(jax.grad(lambda q, d: jnp.sum(loss(q, d)), argnums=(0, 1)))(q, d)
    for gradient in gradients:
        assert not gradient[:, size:].any()
        assert size == 1 or gradient[:, :size].any()


def test_truncation_before_or_after_normalisation_is_one_loss():
    q, d = vectors()
    loss = losses.matryoshka(losses.info_nce, (3,))
    after = loss(oracles.unit(q).astype(np.float32), oracles.unit(d).astype(np.float32))
    np.testing.assert_allclose(loss(q, d), after, atol=1e-5)


def test_sampled_weights_do_not_recompile():
    q, d = vectors()
    sizes = (2, 4, WIDTH)
    parts = np.stack([losses.info_nce(q[:, :m], d[:, :m]) for m in sizes])

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(weights):
        return losses.matryoshka(losses.info_nce, sizes, weights)(q, d)

    chex.clear_trace_counter()
    for weights in np.eye(3, dtype=np.float32):
        np.testing.assert_allclose(run(weights), weights @ parts, rtol=1e-5, atol=1e-6)


# Errors


def test_bad_sizes_and_weights_raise():
    q, d = vectors()
    for sizes in ((), (0, 2), (-1,)):
        with pytest.raises(ValueError, match="sizes="):
            losses.matryoshka(losses.info_nce, sizes)
    with pytest.raises(ValueError, match="weights: 1 for 2 sizes"):
        losses.matryoshka(losses.info_nce, (1, 2), (1.0,))
    with pytest.raises(ValueError, match="sizes: 7 is above the width 6"):
        losses.matryoshka(losses.info_nce, (7,))(q, d)
    with pytest.raises(ValueError, match="sizes: 4 is above the width 3"):
        losses.matryoshka(scores_loss, (4,))(q[:, :3], d)
