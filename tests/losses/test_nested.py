"""Losses over layers and sizes, samplers and grids, cached encoders, and pre-training by masked words."""

import collections
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_losses
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxembed import encoders, losses, train

B, T, D, L, WORDS = 16, 6, 16, 3, 20
QUICK = {"xla_backend_optimization_level": 0}  # compiling is most of the time here


@functools.cache
def encoder(width=D, layers=L, dropout=0.0):
    def init_embed(key):
        return {"table": {"embedding": jax.random.normal(key, (WORDS, width))}}

    def embed(params, batch):
        return params["table"]["embedding"][batch["ids"]], batch["mask"]

    return encoders.transformer(
        init_embed, embed, width=width, layers=layers, heads=2, mlp_width=2 * width, dropout=dropout
    )


def encode(params, batch, key=None):
    """Queries and documents at once: ids [B, 2, T] -> [B, 2, D]."""
    flat = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), batch)
    return encoder().hidden(params, flat, key)["layers"][:, -1].reshape(-1, 2, D)


@functools.cache
def params():
    return encoder().init(jax.random.key(0))


def make_batch(rows=B, length=T):
    rng = np.random.default_rng(0)
    mask = np.arange(length) < rng.integers(1, length + 1, (rows, 2, 1))
    return {"ids": rng.integers(0, WORDS, (rows, 2, length)).astype(np.int32), "mask": mask}


def halves(batch):
    return [jax.tree.map(lambda x, i=i: x[:, i], batch) for i in (0, 1)]


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


# Samplers and fixed grids


def test_the_grids_of_papers():
    grid, weights = losses.espresso_grid(4, 64, size=16)
    assert grid == ((1, 16), (2, 16), (3, 16), (4, 16), (4, 64))
    expected = [1 / 3, 1 / (1 + np.log(2)) / 3, 1 / (1 + np.log(3)) / 3, 1, 1]
    np.testing.assert_allclose(weights, expected)
    assert losses.espresso_grid(1, 8, size=4) == (((1, 4), (1, 8)), (1.0, 1.0))
    assert losses.diagonal_grid((1, 2, 4, 6), (32, 64, 128, 384)) == ((1, 32), (2, 64), (4, 128), (6, 384))
    np.testing.assert_allclose(losses.layer_weights("linear", 4), [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(losses.layer_weights("log", 3), [1, 1 / (1 + np.log(2)), 1 / (1 + np.log(3))])
    assert losses.layer_weights("uniform", 2) == (1, 1)
    assert losses.layer_weights(lambda n: n**2, 3) == (1, 4, 9)


def draws(sample, count=400):
    return np.asarray(jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(1), count)))


def test_sampled_weights_draw_every_part_equally_often():
    found = draws(lambda key: losses.sampled_weights(key, 6, picks=2, always=(5, 1)))
    assert set(np.unique(found)) == {0, 1}
    assert (found.sum(axis=1) == 4).all()
    assert (found[:, [1, 5]] == 1).all()
    np.testing.assert_allclose(found[:, [0, 2, 3, 4]].mean(axis=0), 0.5, atol=0.1)
    assert (draws(lambda key: losses.sampled_weights(key, 3, picks=3), 4) == 1).all()


def test_two_dimensional_weights_are_the_four_terms_of_one_draw():
    grid = losses.full_grid((1, 2, 4), (2, 4, 8))
    found = draws(lambda key: losses.two_dimensional_weights(key, grid, weighting="linear"))
    seen = collections.Counter()
    for row in found:
        kept = {pair: float(w) for pair, w in zip(grid, row, strict=True) if w}
        (n,) = {n for n, _ in kept} - {4}
        (size,) = {size for _, size in kept} - {8}
        assert kept == {(4, 8): 1, (4, size): 1, (n, 8): 1 / n, (n, size): 1 / n}
        seen[n, size] += 1
    assert set(seen) == {(n, size) for n in (1, 2) for size in (2, 4)}
    assert min(seen.values()) > 70
    expected = [1 / n / 2 if n < 4 else 1 for n, _ in grid] * np.array([0.5, 0.5, 1] * 3)
    np.testing.assert_allclose(found.mean(axis=0), expected, atol=0.08)


def test_the_same_key_draws_the_same_layer_for_tasks_and_alignment():
    grid, align = losses.full_grid((1, 2, 3, 4), (2, 4, 8)), losses.full_grid((1, 2, 3, 4), (8,))
    for key in jax.random.split(jax.random.key(3), 8):
        task = np.asarray(losses.two_dimensional_weights(key, grid)).reshape(4, 3)
        np.testing.assert_array_equal(losses.two_dimensional_weights(key, align), task[:, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key: losses.sampled_weights(key, 3, picks=4), "picks: 4 is outside 0..3"),
        (lambda key: losses.sampled_weights(key, 3, always=(3,)), "always="),
        (lambda key: losses.two_dimensional_weights(key, [(1, 2), (2, 4)]), "each pair"),
        (lambda key: losses.layer_weights("square", 3), "weighting='square'"),
        (lambda key: losses.diagonal_grid((1, 2), (4,)), "sizes: 1 for 2 layers"),
        (lambda key: losses.diagonal_grid((2, 1), (4, 8)), "layers="),
        (lambda key: losses.espresso_grid(3, 8, size=8), "below the width 8"),
    ],
)
def test_wrong_arguments_of_grids_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call(jax.random.key(0))


# Cached encoders


@functools.cache
def big_batch(chunks):
    """(params, batch, key) -> (loss, gradient) with vectors of all chunks in one softmax; None is plain."""
    wrapped = encode if chunks is None else losses.cached(encode, chunks)

    def total(params, batch, key):
        vectors = wrapped(params, batch, key)
        return jnp.mean(losses.info_nce(vectors[:, 0], vectors[:, 1]))

    return jax.jit(jax.value_and_grad(total))


@pytest.mark.parametrize("chunks", [1, 4, B])
def test_a_cached_gradient_is_that_of_the_whole_batch(chunks):
    batch = make_batch()
    value, gradient = big_batch(None)(params(), batch, None)
    cached_value, cached_gradient = big_batch(chunks)(params(), batch, None)
    np.testing.assert_allclose(cached_value, value, rtol=1e-6)
    flat, cached_flat = (
        np.concatenate([np.ravel(g) for g in jax.tree.leaves(x)]) for x in (gradient, cached_gradient)
    )
    assert np.linalg.norm(cached_flat - flat) < 1e-5 * np.linalg.norm(flat)


def test_each_chunk_draws_its_own_noise_and_the_same_in_both_passes():
    noisy = encoder(dropout=0.3)

    def encode(params, batch, key=None):
        return noisy.hidden(params, batch, key)["layers"][:, -1]

    batch, key = halves(make_batch())[0], jax.random.key(4)

    def total(params, chunks):
        if chunks:
            return jnp.sum(losses.cached(encode, chunks)(params, batch, key) ** 3)
        parts = [jax.tree.map(lambda x, c=c: x[c::4], batch) for c in range(4)]
        return sum(jnp.sum(encode(params, p, jax.random.fold_in(key, c)) ** 3) for c, p in enumerate(parts))

    found = jax.jit(jax.value_and_grad(lambda p: total(p, 4)), compiler_options=QUICK)(params())
    expected = jax.jit(jax.value_and_grad(lambda p: total(p, None)), compiler_options=QUICK)(params())
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


def test_rows_keep_their_order_and_trees_go_through():
    batch = {"x": jnp.arange(12.0)[:, None], "more": {"y": jnp.arange(12)}}

    def encode(params, batch, key=None):
        return {"double": params * batch["x"], "same": batch["more"]["y"]}

    found = losses.cached(encode, 3)(2.0, batch)
    np.testing.assert_array_equal(found["double"], 2 * batch["x"])
    np.testing.assert_array_equal(found["same"], batch["more"]["y"])


def memory(chunks, rows):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (params(), make_batch(rows)))
    return big_batch(chunks).lower(*shapes, None).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.usefixtures("optimized")
def test_the_memory_of_a_cached_step_does_not_grow_with_the_batch():
    small, large = 64, 256
    cached, plain = (
        [memory(c(rows), rows) for rows in (small, large)] for c in (lambda r: r // 16, lambda r: None)
    )
    growth, plain_growth = cached[1] - cached[0], plain[1] - plain[0]
    # What grows: a few copies of the vectors and the inputs, and the scores of all pairs.
    vectors, inputs, scores = (
        2 * (large - small) * D * 4,
        2 * (large - small) * T * 5,
        (large**2 - small**2) * 4,
    )
    assert growth < 6 * vectors + 4 * inputs + 6 * scores
    assert plain_growth > 192 * L * T * D * 4 * 2
    assert cached[1] < plain[1] / 2


@pytest.mark.usefixtures("optimized")
def test_a_sharded_cached_step_is_the_unsharded_one_and_leaves_its_inputs_in_place():
    batch = make_batch(32)
    expected = big_batch(4)(params(), batch, None)
    mesh = train.make_mesh(8, 1)
    placed = jax.device_put(batch, NamedSharding(mesh, P("data")))
    everywhere = jax.device_put(params(), NamedSharding(mesh, P()))
    found = jax.tree.map(np.asarray, big_batch(4)(everywhere, placed, None))
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)

    def lone(params, batch):  # no loss that lets vectors of different devices meet
        return jnp.sum(losses.cached(encode, 4)(params, batch) ** 2)

    program = jax.jit(jax.grad(lone)).lower(everywhere, placed).compile().as_text()
    assert "all-gather" not in program
    assert "all-to-all" not in program
    assert "all-reduce" in program  # the gradients of the parameters


@pytest.mark.parametrize(
    ("chunks", "batch", "message"),
    [
        (3, {"x": np.ones((8, 2))}, "chunks: 3 does not divide the batch of 8 rows"),
        (2, {"x": np.ones((8, 2)), "y": np.ones(4)}, "batch: leaves lead with"),
        (2, {"x": np.ones((8, 2)), "y": np.ones(())}, "batch: leaves lead with"),
        (0, None, "chunks: 0"),
    ],
)
def test_wrong_chunks_and_batches_raise(chunks, batch, message):
    with pytest.raises(ValueError, match=message):
        losses.cached(lambda p, b, k: b["x"], chunks)(None, batch)


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


# Pre-training by masked words


def head_and_table(seed=0):
    rng = np.random.default_rng(seed)
    head = encoders.init_word_head(jax.random.key(seed), D, WORDS)
    head = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), head)
    return head, rng.normal(size=(WORDS, D)).astype(np.float32)


def lifted(head):
    return functools.partial(encoders.lift, head)


def word_batch(rows=5):
    rng = np.random.default_rng(1)
    where = rng.random((rows, T)) < 0.5
    where[1] = False
    where[0] = True
    return {"words": rng.integers(0, WORDS, (rows, T)), "where": where}


@pytest.mark.parametrize("size", [1, 5, D])
def test_a_prefix_through_a_dense_layer_is_the_padded_input(size):
    head, _ = head_and_table()
    x = np.random.default_rng(0).normal(size=(4, 3, size)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (0, D - size)))
    value = encoders.prefix_dense(head["dense"], x)
    np.testing.assert_allclose(value, encoders.prefix_dense(head["dense"], padded), atol=1e-5)
    expected = x @ head["dense"]["kernel"][:size] + head["dense"]["bias"]
    np.testing.assert_allclose(value, expected, atol=1e-5)
    np.testing.assert_allclose(encoders.lift(head, x), oracles_losses.lift(head, x), atol=1e-4)


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
