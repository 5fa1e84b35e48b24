"""The encoders room: transformers, attention, bags of words, and a family of poolings under the same laws."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxembed import arrays, encoders

B, T, D, LAYERS, HEADS = 4, 5, 8, 3, 2
MASK = np.array(
    [
        [True, True, True, True, True],
        [True, True, False, False, False],
        [False, True, False, True, False],
        [False, False, False, False, False],
    ]
)
OPTIONS = {"width": D, "layers": LAYERS, "heads": HEADS, "mlp_width": 12, "positions": 6}


def init_embed(key):
    return {"table": {"embedding": jax.random.normal(key, (10, D))}}


def embed(params, batch):
    tokens = params["table"]["embedding"][batch["ids"]]
    return jnp.where(batch["mask"][..., None], tokens, batch.get("padding", 0.0)), batch["mask"]


def example(**more):
    ids = np.random.default_rng(0).integers(0, 10, (B, T)).astype(np.int32)
    return {"ids": ids, "mask": MASK, **more}


@functools.cache
def parameters():
    """Parameters away from their start: norms of one and biases of zero would hide an exchange."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(encoders.transformer(init_embed, embed, **OPTIONS).init, jax.random.key(0))
    centres = jax.tree.map_with_path(lambda path, _: float(path[-1].key == "scale"), shapes)
    return jax.tree.map(
        lambda s, c: jnp.asarray(c + rng.normal(size=s.shape) * 0.4, jnp.float32), shapes, centres
    )


@functools.cache
def built(**options):
    """The encoder, its parameters and its jitted ``hidden``."""
    encoder = encoders.transformer(init_embed, embed, **OPTIONS | options)
    params = {k: v for k, v in parameters().items() if k != "position" or options.get("positions", 6)}
    return encoder, params, jax.jit(encoder.hidden, static_argnames=("layers", "each"))


@functools.cache
def full_run():
    _, params, run = built()
    return run(params, example())


def readout(out):
    return jnp.sum(jnp.sin(out["tokens"])) + jnp.sum(jnp.sin(out["layers"]))


@functools.cache
def gradient():
    _, _, run = built()
    return jax.jit(jax.value_and_grad(lambda params, batch: readout(run(params, batch))))


# Arrays


def test_unit_masked_mean_and_inner_equal_their_oracles():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(B, T, D)).astype(np.float32), rng.normal(size=(3, D)).astype(np.float32)
    x[0, 0] = 0
    np.testing.assert_allclose(arrays.unit(x), oracles.unit(x), atol=1e-6)
    np.testing.assert_allclose(arrays.masked_mean(x, MASK), oracles.masked_mean(x, MASK), atol=1e-6)
    np.testing.assert_allclose(arrays.inner(x[0], y), oracles.inner(x[0], y), atol=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1e-8, 1.0, 1e8, 1e30])
def test_unit_has_length_one_at_any_size(size):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, D)).astype(np.float32)) * size
    np.testing.assert_allclose(jnp.linalg.norm(arrays.unit(x), axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(arrays.unit(arrays.unit(x)), arrays.unit(x), atol=1e-6)
    across = jax.grad(lambda v: jnp.sum(arrays.unit(v) * jnp.arange(D)))(x) * x
    np.testing.assert_allclose(across.sum(-1), 0, atol=1e-4)  # a longer vector has the same direction


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_unit_along_any_axis(axis):
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    expected = np.moveaxis(oracles.unit(np.moveaxis(x, axis, -1)), -1, axis)
    np.testing.assert_allclose(arrays.unit(x, axis=axis), expected, atol=1e-6)


def test_numerical_gradients_of_the_arrays_in_float64():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 3, 4)), rng.normal(size=(2, 4))
    mask = np.array([[True, False, True]])
    functions = [
        lambda v: jnp.sum(y[0] * jnp.sin(arrays.unit(v))),
        lambda v: jnp.sum(y * jnp.sin(arrays.masked_mean(v, mask))),
        lambda v: jnp.sum(jnp.sin(arrays.inner(v, y))),
    ]
    with jax.enable_x64(True):
        for f in functions:
            numerical = oracles.numerical_gradient(jax.jit(f), x)
            np.testing.assert_allclose(jax.grad(f)(jnp.asarray(x)), numerical, atol=1e-8)


# Attention


@pytest.mark.parametrize("kind", ["none", "keys", "pairs"])
def test_attention_equals_the_oracle(kind):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(B, 3, HEADS, 4)).astype(np.float32)
    k, v = rng.normal(size=(2, B, T, HEADS, 4)).astype(np.float32)
    mask = {"none": None, "keys": MASK, "pairs": rng.random((B, 3, T)) < 0.5}[kind]
    if kind == "pairs":
        mask[0, 1] = False
    expected = oracles.dot_product_attention(q, k, v, mask)
    np.testing.assert_allclose(encoders.dot_product_attention(q, k, v, mask), expected, atol=1e-5)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_attention_is_finite_at_extreme_scores_and_without_keys(size):
    x = size * jax.random.normal(jax.random.key(0), (B, T, HEADS, 4))

    def total(x):
        out = encoders.dot_product_attention(x, x, x, MASK)
        return jnp.sum(out), out

    gradient, out = jax.grad(total, has_aux=True)(x)
    chex.assert_tree_all_finite((gradient, out))
    assert not out[3].any()
    assert not gradient[3].any()


def test_numerical_gradients_of_attention_in_float64():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(2, 3, 2, 2)), np.array([[True, False, True], [False, False, False]])
    with jax.enable_x64(True):

        @jax.jit
        def total(x):
            return jnp.sum(jnp.sin(encoders.dot_product_attention(x, jnp.cos(x), x**2, mask)))

        analytic = jax.grad(total)(jnp.asarray(x))
        np.testing.assert_allclose(analytic, oracles.numerical_gradient(total, x), atol=1e-8)


# Transformer


@pytest.mark.parametrize("positions", [0, 6])
def test_transformer_equals_the_oracle(positions):
    encoder, params, run = built(positions=positions)
    assert jax.tree.structure(jax.eval_shape(encoder.init, jax.random.key(0))) == jax.tree.structure(params)
    out = run(params, example())
    tokens = np.asarray(params["table"]["embedding"])[example()["ids"]]
    wide = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    expected_tokens, expected_layers = oracles.hidden(wide, tokens, MASK, HEADS)
    np.testing.assert_allclose(out["tokens"], expected_tokens, atol=2e-4)
    np.testing.assert_allclose(out["layers"], expected_layers, atol=2e-4)
    np.testing.assert_array_equal(out["mask"], MASK)


def test_one_block_equals_the_oracle():
    _, params, _ = built()
    x = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
    first = jax.tree.map(lambda p: p[0], params["blocks"])
    out = encoders.Block(HEADS, 12).apply({"params": first}, x, MASK)
    wide = jax.tree.map(lambda p: np.asarray(p, np.float64), first)
    expected = oracles.block(wide, x.astype(np.float64), MASK, HEADS)
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_parameters_carry_a_leading_axis_of_blocks_and_readable_paths():
    encoder = encoders.transformer(init_embed, embed, **OPTIONS, dtype=jnp.bfloat16)
    params = jax.jit(encoder.init)(jax.random.key(0))
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(params)
    }
    assert paths["blocks/attention/query/kernel"] == (LAYERS, D, D)
    assert paths["blocks/mlp_in/kernel"] == (LAYERS, D, 12)
    assert paths["position/embedding"] == (6, D)
    assert {leading for path, (leading, *_) in paths.items() if path.startswith("blocks/")} == {LAYERS}
    kernel = params["blocks"]["mlp_in"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1])
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}


def test_jit_equals_eager():
    encoder, params, _ = built()
    chex.assert_trees_all_close(full_run(), encoder.hidden(params, example()), atol=1e-5)


def test_permuting_the_batch_permutes_the_result():
    _, params, run = built()
    order = np.array([2, 3, 0, 1])
    moved = run(params, {k: v[order] for k, v in example().items()})
    chex.assert_trees_all_close(moved, jax.tree.map(lambda x: x[order], full_run()), atol=1e-5)


def test_without_positions_the_order_of_tokens_does_not_matter():
    _, params, run = built(positions=0)
    order = np.array([3, 1, 4, 0, 2])
    moved = run(params, {k: v[:, order] for k, v in example().items()})
    expected = run(params, example())
    np.testing.assert_allclose(moved["tokens"], expected["tokens"][:, order], atol=1e-5)
    np.testing.assert_allclose(moved["layers"], expected["layers"], atol=1e-5)
    assert (
        np.abs(
            full_run()["layers"]
            - built()[2](built()[1], {k: v[:, order] for k, v in example().items()})["layers"]
        ).max()
        > 1e-2
    )


@pytest.mark.parametrize("junk", [np.nan, np.inf, 1e30])
def test_padding_never_leaks_into_values_or_gradients(junk):
    _, params, _ = built()
    clean = gradient()(params, example(padding=np.float32(0)))
    spoiled = gradient()(params, example(padding=np.float32(junk)))
    chex.assert_tree_all_finite(clean)
    chex.assert_trees_all_equal(spoiled, clean)


def test_padded_positions_and_longer_padding_change_nothing():
    _, params, run = built()
    batch = example()
    longer = {"ids": np.pad(batch["ids"], ((0, 0), (0, 1))), "mask": np.pad(MASK, ((0, 0), (0, 1)))}
    out = run(params, longer)
    np.testing.assert_allclose(out["tokens"][:, :T], full_run()["tokens"], atol=1e-5)
    np.testing.assert_allclose(out["layers"], full_run()["layers"], atol=1e-5)
    assert not out["tokens"][:, T].any()
    assert not np.asarray(full_run()["tokens"])[~MASK].any()


def test_a_row_of_padding_alone_is_zero_and_sends_no_gradient():
    _, params, run = built()
    batch = {k: v[3:] for k, v in example().items()}
    out = run(params, batch)
    assert not out["tokens"].any()
    assert not out["layers"].any()
    value = jax.grad(lambda p: readout(run(p, batch)))(params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(value))


@pytest.mark.parametrize("n", range(LAYERS + 1))
def test_running_n_layers_gives_row_n_of_the_full_run(n):
    _, params, run = built()
    out = run(params, example(), layers=n)
    assert out["layers"].shape == (B, n + 1, D)
    np.testing.assert_allclose(out["layers"], full_run()["layers"][:, : n + 1], atol=1e-5)
    pooled = encoders.mean_pool(out["tokens"], out["mask"])
    np.testing.assert_allclose(pooled, full_run()["layers"][:, n], atol=1e-5)


@pytest.mark.parametrize("n", range(LAYERS + 1))
def test_a_term_on_layer_n_trains_blocks_up_to_n_alone(n):
    _, params, run = built()
    value = jax.grad(lambda p: jnp.sum(jnp.sin(run(p, example())["layers"][:, n])))(params)
    kernel = np.asarray(value["blocks"]["mlp_in"]["kernel"])
    assert not kernel[n:].any()
    assert all(np.abs(kernel[i]).max() > 1e-5 for i in range(n))
    assert value["table"]["embedding"].any()
    assert value["norm"]["scale"].any()


def test_an_encoder_without_blocks_is_a_normalised_bag():
    encoder, params, _ = built(layers=0)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0))
    assert {leaf.shape[0] for leaf in jax.tree.leaves(shapes["blocks"])} == {0}
    params = {**params, "blocks": jax.tree.map(lambda p: p[:0], params["blocks"])}
    out = encoder.hidden(params, example())
    assert out["layers"].shape == (B, 1, D)
    np.testing.assert_allclose(out["layers"], full_run()["layers"][:, :1], atol=1e-5)


def test_own_pooling_inside_the_scan():
    _, params, run = built()

    def largest(states, mask):
        return jnp.max(jnp.where(mask[..., None], states, -10.0), axis=1)[:, :2]

    out = run(params, example(), each=largest)
    assert out["layers"].shape == (B, LAYERS + 1, 2)
    expected = np.where(MASK[..., None], full_run()["tokens"], -10).max(axis=1)[:, :2]
    np.testing.assert_allclose(out["layers"][:, -1], expected, atol=1e-5)


def test_dropout_follows_the_key():
    _, params, run = built(dropout=0.5)
    a, again = (run(params, example(), jax.random.key(1)) for _ in range(2))
    other, quiet = run(params, example(), jax.random.key(2)), run(params, example())
    chex.assert_trees_all_equal(a, again)
    assert np.abs(a["tokens"] - other["tokens"]).max() > 1e-2
    assert np.abs(a["tokens"] - quiet["tokens"]).max() > 1e-2
    chex.assert_trees_all_close(quiet, full_run(), atol=1e-5)
    np.testing.assert_allclose(a["layers"][:, 0], quiet["layers"][:, 0], atol=1e-5)
    shallow = run(params, example(), jax.random.key(1), layers=2)
    np.testing.assert_allclose(shallow["layers"], a["layers"][:, :3], atol=1e-5)


def test_blocks_drop_different_units():
    _, params, run = built(dropout=0.5)
    blocks = jax.tree.map(jnp.zeros_like, params["blocks"])
    blocks["mlp_out"]["bias"] = blocks["mlp_out"]["bias"] + 1  # now a block adds its dropout mask alone
    params = {**params, "blocks": blocks}
    states = run(params, example(), jax.random.key(0), each=_raw)["layers"]
    steps = np.diff(np.asarray(states), axis=1)[:3]
    assert (np.sign(steps[:, 0]) != np.sign(steps[:, 1])).any()


def _raw(states, mask):
    return jnp.sum(jnp.where(mask[..., None], states, 0), axis=1)


def test_bfloat16_products_keep_float32_parameters_and_states():
    _, params, _ = built()
    run = built(dtype=jnp.bfloat16)[2]
    out = run(params, example())
    assert out["tokens"].dtype == out["layers"].dtype == jnp.float32
    np.testing.assert_allclose(out["layers"], full_run()["layers"], atol=0.15)
    assert np.abs(out["layers"] - full_run()["layers"]).max() > 1e-6


def test_pooled_is_the_pooling_of_the_tokens():
    encoder, params, _ = built()
    for layers in (None, 1):
        vectors = encoders.pooled(encoder.hidden, encoders.mean_pool, layers=layers)(params, example())
        expected = full_run()["layers"][:, LAYERS if layers is None else layers]
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    last = encoders.pooled(encoder.hidden, encoders.last_pool)(params, example())
    np.testing.assert_allclose(last, oracles.last_pool(full_run()["tokens"], MASK), atol=1e-5)


BAD = {
    "positions": ({"positions": 4}, {}, "positions=4 is below the 5 tokens"),
    "heads": ({"heads": 3}, {}, "heads=3 does not divide the width 8"),
    "width": ({"width": 6}, {}, "width=6, but embed gives tokens of width 8"),
    "layers": ({}, {"layers": LAYERS + 1}, "layers=4: the encoder has blocks 1..3"),
    "negative layers": ({}, {"layers": -1}, "layers=-1"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_settings_raise_one_line(case):
    options, run, message = BAD[case]
    encoder = encoders.transformer(init_embed, embed, **OPTIONS | options)
    with pytest.raises(ValueError, match=message) as caught:
        jax.eval_shape(lambda key: encoder.hidden(encoder.init(key), example(), **run), jax.random.key(0))
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_shape_raises():
    encoder = encoders.transformer(init_embed, lambda p, b: (embed(p, b)[0], b["mask"][:, 1:]), **OPTIONS)
    with pytest.raises(ValueError, match=r"tokens \(4, 5, 8\) and mask \(4, 4\) differ"):
        jax.eval_shape(lambda key: encoder.hidden(encoder.init(key), example()), jax.random.key(0))


# Poolings


QUERY = np.random.default_rng(7).normal(size=(2, D)).astype(np.float32)
KERNEL = np.random.default_rng(8).normal(size=(D, 3)).astype(np.float32)
LATENTS = jax.tree.map(
    lambda p: p + 0.3 * np.random.default_rng(9).normal(size=p.shape).astype(np.float32),
    encoders.init_latent_attention(jax.random.key(0), D, latents=3, heads=2, head_width=4),
)
POOLINGS = {
    "mean_pool": (encoders.mean_pool, oracles.masked_mean),
    "cls_pool": (encoders.cls_pool, oracles.cls_pool),
    "last_pool": (encoders.last_pool, oracles.last_pool),
    "attention_pool": (
        lambda t, m: encoders.attention_pool({"query": QUERY}, t, m),
        lambda t, m: oracles.attention_pool(QUERY, t, m),
    ),
    "multi_vector": (encoders.multi_vector, oracles.multi_vector),
    "multi_vector with kernel": (
        lambda t, m: encoders.multi_vector(t, m, KERNEL),
        lambda t, m: oracles.multi_vector(t, m, KERNEL),
    ),
    "masked_mean": (arrays.masked_mean, oracles.masked_mean),
    "max_pool": (
        encoders.max_pool,
        lambda t, m: np.where(m.any(1)[:, None], np.where(m[..., None], t, -np.inf).max(1), 0),
    ),
    "weighted_mean_pool": (
        encoders.weighted_mean_pool,
        lambda t, m: np.stack([_weighted(x, k) for x, k in zip(t, m, strict=True)]),
    ),
    "latent_attention_pool": (
        lambda t, m: encoders.latent_attention_pool(LATENTS, t, m, heads=2),
        lambda t, m: oracles.latent_attention_pool(LATENTS, t, m, heads=2),
    ),
}


def _weighted(x, keep):
    weights = np.arange(1, len(x) + 1) * keep
    return np.average(x, axis=0, weights=weights) if keep.any() else np.zeros(x.shape[1])


def tokens(seed=0):
    return np.random.default_rng(seed).normal(size=(B, T, D)).astype(np.float32)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_equal_their_oracles_and_jit(name):
    pool, oracle = POOLINGS[name]
    out = pool(jnp.asarray(tokens()), jnp.asarray(MASK))
    np.testing.assert_allclose(out, oracle(tokens(), MASK), atol=1e-5)
    np.testing.assert_allclose(jax.jit(pool)(tokens(), MASK), out, atol=1e-6)


@pytest.mark.parametrize("junk", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_ignore_padding_in_values_and_gradients(name, junk):
    pool, _ = POOLINGS[name]
    spoiled = np.where(MASK[..., None], tokens(), np.float32(junk))

    @jax.jit
    def run(x):
        def total(x):
            out = pool(x, MASK)
            return jnp.sum(jnp.sin(out)), out

        return jax.grad(total, has_aux=True)(x)

    clean, result = run(tokens()), run(spoiled)
    chex.assert_tree_all_finite(clean)
    chex.assert_trees_all_equal(result, clean)
    gradient, out = clean
    assert not out[3].any()
    assert not np.asarray(gradient)[~MASK].any()
    assert np.asarray(gradient)[MASK].any()


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_are_finite_at_extreme_values_and_permute_with_the_batch(name):
    pool, _ = POOLINGS[name]
    run = jax.jit(jax.value_and_grad(lambda x, m: jnp.sum(pool(x, m))))
    for size in (1e4, -1e4, 0):
        chex.assert_tree_all_finite(run(np.float32(size) * tokens(), MASK))
    order = np.array([3, 1, 0, 2])
    out, moved = pool(tokens(), MASK), pool(tokens()[order], MASK[order])
    np.testing.assert_allclose(moved, np.asarray(out)[order], atol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_keep_the_dtype(name):
    pool, _ = POOLINGS[name]
    expected = jnp.float32 if "kernel" in name else jnp.bfloat16  # the kernel is float32
    assert pool(jnp.asarray(tokens(), jnp.bfloat16), jnp.asarray(MASK)).dtype == expected


def test_a_zero_query_pools_as_the_mean():
    params = {"query": jnp.zeros((3, D))}
    out = encoders.attention_pool(params, tokens(), MASK)
    np.testing.assert_allclose(out, oracles.masked_mean(tokens(), MASK), atol=1e-6)
    drawn = encoders.init_attention_pool(jax.random.key(0), 4000, heads=3)["query"]
    assert drawn.shape == (3, 4000)
    assert float(drawn.std()) == pytest.approx(4000**-0.5, rel=0.03)


def test_tokens_become_unit_vectors():
    lengths = np.linalg.norm(encoders.multi_vector(tokens(), MASK, KERNEL), axis=-1)
    np.testing.assert_allclose(lengths, MASK.astype(float), atol=1e-6)


# Bags of words


def test_weighted_bag_equals_the_oracle_and_ignores_padding():
    rng = np.random.default_rng(0)
    words = rng.normal(size=(6, D)).astype(np.float32)
    positions = rng.integers(0, 6, (B, T)).astype(np.int32)
    weights = np.where(MASK, rng.normal(size=(B, T)), 0).astype(np.float32)
    expected = oracles.weighted_bag(words, positions, weights)
    run = jax.jit(jax.value_and_grad(lambda w, p, x: jnp.sum(jnp.sin(encoders.weighted_bag(w, p, x)))))
    clean = run(words, positions, weights)
    for junk in (-1, 6, 10**9):
        spoiled = np.where(MASK, positions, junk).astype(np.int32)
        np.testing.assert_allclose(encoders.weighted_bag(words, spoiled, weights), expected, atol=1e-6)
        chex.assert_trees_all_close(run(words, spoiled, weights), clean, atol=1e-6)
    assert not encoders.weighted_bag(words, positions, weights)[3].any()
    half = encoders.weighted_bag(words.astype(jnp.bfloat16), positions, weights)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), expected, atol=0.05)


# Masks, temperature, positions and variants of the block


def test_shared_key_heads_bias_and_temperature_equal_the_oracle():
    rng = np.random.default_rng(0)
    q = rng.normal(size=(B, T, 4, 3)).astype(np.float32)
    k, v = rng.normal(size=(2, B, T, 2, 3)).astype(np.float32)
    bias, temperature = rng.normal(size=(4, T, T)), np.array([0.5, 1.0, 2.0, 3.0])
    out = encoders.dot_product_attention(q, k, v, MASK, bias=bias, temperature=temperature)
    for head in range(4):
        wide = np.concatenate([q[:, :, head] / 3**0.5, np.broadcast_to(np.eye(T), (B, T, T))], axis=-1)
        keys = np.concatenate([k[:, :, head // 2], np.broadcast_to(bias[head].T, (B, T, T))], axis=-1)
        values = np.concatenate([v[:, :, head // 2], np.zeros((B, T, T))], axis=-1)
        scale = (3 + T) ** 0.5 / temperature[head]
        expected = oracles.dot_product_attention(
            scale * wide[:, :, None], keys[:, :, None], values[:, :, None], MASK
        )
        np.testing.assert_allclose(out[:, :, head], expected[:, :, 0, :3], atol=1e-5)
    with pytest.raises(ValueError, match="keys have 3 heads, which do not divide the 4 heads"):
        encoders.dot_product_attention(q, np.zeros((B, T, 3, 3)), np.zeros((B, T, 3, 3)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 0, 2])
@pytest.mark.parametrize("prefix", [None, [0, 2, 5, 1]])
def test_masks_follow_their_definition(causal, window, prefix):
    if prefix is not None and not causal:
        return
    out = encoders.attention_mask(jnp.asarray(MASK), causal=causal, window=window, prefix=prefix)
    out = np.broadcast_to(out if out.ndim == 3 else out[:, None], (B, T, T))
    for b, t, s in np.ndindex(B, T, T):
        seen = MASK[b, s] and (window is None or abs(t - s) <= window)
        if causal:
            seen = seen and (s <= t or (prefix is not None and s < prefix[b]))
        assert out[b, t, s] == seen


def test_temperatures_of_one_change_nothing_and_large_ones_average_the_values():
    encoder, params, run = built()
    for ones in (1.0, np.ones(LAYERS), np.ones((LAYERS, HEADS))):
        out = jax.jit(encoder.hidden)(params, example(), temperature=ones)
        chex.assert_trees_all_close(out, full_run(), atol=1e-5)
    x = np.random.default_rng(0).normal(size=(B, T, HEADS, 4)).astype(np.float32)
    flat = encoders.dot_product_attention(x, x, x, MASK, temperature=1e8)
    expected = oracles.masked_mean(x.reshape(B, T, -1), MASK).reshape(B, 1, HEADS, 4)
    np.testing.assert_allclose(flat, np.repeat(expected, T, axis=1), atol=1e-5)
    sharp = encoders.dot_product_attention(x, x, x, MASK, temperature=1e-6)
    nearest = np.argmax(np.where(MASK[0], np.einsum("thd,shd->hts", x[0], x[0]), -np.inf), axis=-1)
    np.testing.assert_allclose(sharp[0, :, 0], x[0, nearest[0], 0], atol=1e-5)
    with pytest.raises(ValueError, match=r"temperature \(2,\): give a float, \[L\] or \[L, H\] with L=3"):
        encoder.hidden(params, example(), temperature=np.ones(2))


def test_the_temperature_of_a_layer_acts_from_that_layer_on_and_divides_the_queries():
    encoder, params, _ = built()
    out = jax.jit(encoder.hidden)(params, example(), temperature=np.array([1.0, 0.5, 1.0]))
    np.testing.assert_allclose(out["layers"][:, :2], full_run()["layers"][:, :2], atol=1e-5)
    query = params["blocks"]["attention"]["query"]
    doubled = jax.tree.map(lambda p: p * np.array([1, 2, 1.0]).reshape(-1, *[1] * (p.ndim - 1)), query)
    blocks = {**params["blocks"], "attention": {**params["blocks"]["attention"], "query": doubled}}
    expected = jax.jit(encoder.hidden)({**params, "blocks": blocks}, example())
    chex.assert_trees_all_close(out, expected, atol=1e-4)
    assert np.abs(out["layers"] - full_run()["layers"]).max() > 1e-3


@pytest.mark.parametrize("options", [{"causal": True}, {"window": 1}, {"window": (None, 1, 0)}], ids=str)
def test_hidden_tokens_have_no_influence(options):
    _, params, run = built(**options)
    batch = {"ids": example()["ids"], "mask": np.ones((B, T), bool)}
    changed = batch | {"ids": np.concatenate([batch["ids"][:, :-1], 9 - batch["ids"][:, -1:]], axis=1)}
    before, after = (np.asarray(run(params, b)["tokens"]) for b in (batch, changed))
    free = {"{'causal': True}": T - 1, "{'window': 1}": T - 1 - LAYERS}.get(str(options), 0)
    np.testing.assert_allclose(after[:, :free], before[:, :free], atol=1e-6)
    assert np.abs(after - before)[:, -1].max() > 1e-2
    full = built()[2](params, batch)["tokens"]
    assert np.abs(full - before).max() > 1e-3
    if "causal" in options:
        everything = run(params, batch | {"prefix": np.full(B, T, np.int32)})
        np.testing.assert_allclose(everything["tokens"], full, atol=1e-5)


def test_rotations_depend_on_distances_alone_and_keep_lengths():
    frequencies = encoders.rotary_frequencies(4, 100.0)
    x = np.broadcast_to(np.random.default_rng(0).normal(size=(2, 1, 1, 4)), (2, 9, 1, 4)).astype(np.float32)
    turned = np.asarray(encoders.rotate(x, frequencies))[:, :, 0]
    products = np.einsum("td,sd->ts", *turned)
    for away in range(1, 5):
        np.testing.assert_allclose(np.diagonal(products, away), products[0, away], atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), np.linalg.norm(x[:, :, 0], axis=-1), rtol=1e-5
    )
    first = x[0, 0, 0, 0] + 1j * x[0, 0, 0, 2]
    np.testing.assert_allclose(turned[0, 3, 0], (first * np.exp(3j * frequencies[0])).real, atol=1e-5)
    halved = encoders.rotary_frequencies(4, 100.0, {"rope_type": "linear", "factor": 2.0})
    np.testing.assert_allclose(halved, frequencies / 2)


def test_shallow_inference_and_checkpoints_cost_what_they_should(optimized):
    encoder = encoders.transformer(init_embed, embed, **OPTIONS, unroll=LAYERS)
    params, batch = parameters(), example()

    def flops(**options):
        run = jax.jit(functools.partial(encoder.hidden, **options))
        return run.lower(params, batch).compile().cost_analysis()["flops"]

    none, one, full = flops(layers=0), flops(layers=1), flops()
    assert one - none < 1.2 * (full - none) / LAYERS
    scanned = jax.make_jaxpr(functools.partial(built()[0].hidden, layers=1))(params, batch)
    assert [e.params["length"] for e in scanned.eqns if e.primitive.name == "scan"] == [1]


def test_a_checkpoint_policy_changes_no_gradient():
    policy = jax.checkpoint_policies.nothing_saveable
    _, params, run = built(checkpoint=policy)
    value = jax.jit(jax.grad(lambda p: readout(run(p, example()))))(params)
    _, expected = gradient()(params, example())
    chex.assert_trees_all_close(value, expected, rtol=1e-4, atol=1e-4)
    jaxpr = str(jax.make_jaxpr(lambda p: built(checkpoint=policy)[0].hidden(p, example()))(params))
    assert "remat" in jaxpr or "checkpoint" in jaxpr


VARIANTS = {
    "order": ({"order": "middle"}, "order='middle' is unknown; known: pre, post"),
    "norm": ({"norm": "batch"}, "norm='batch' is unknown; known: layer, rms"),
    "activation": ({"activation": "mish"}, "activation='mish' is unknown; known: gelu"),
    "biases": ({"biases": ("mlp", "all")}, "known are qkv, out, mlp, norm"),
    "window": ({"window": (1, 2)}, "window has 2 entries for layers=3"),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_unknown_variants_of_a_block_raise(case):
    options, message = VARIANTS[case]
    with pytest.raises(ValueError, match=message):
        encoder = encoders.transformer(init_embed, embed, **OPTIONS | options)
        jax.eval_shape(encoder.init, jax.random.key(0))


# Latent attention


def latents(seed=0, heads=2):
    """Parameters away from their start, and the pooling with its number of heads."""
    params = encoders.init_latent_attention(jax.random.key(0), D, latents=3, heads=heads, head_width=4)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda p: jnp.asarray(p + 0.3 * rng.normal(size=p.shape), jnp.float32), params)
    return params, functools.partial(encoders.latent_attention_pool, heads=heads)


def test_latent_attention_starts_as_the_mean():
    params = encoders.init_latent_attention(jax.random.key(0), D, latents=3, heads=2)
    assert params["query"]["kernel"].shape == (D, 2 * D)
    out = encoders.latent_attention_pool(params, tokens(), MASK, heads=2)
    np.testing.assert_allclose(out, oracles.masked_mean(tokens(), MASK), atol=1e-6)


def test_latent_attention_is_a_map_of_single_tokens_and_of_a_set_of_latents():
    params, pool = latents()
    out = pool(params, tokens(), MASK)
    each = np.stack(
        [
            np.stack(
                [pool(params, tokens()[b : b + 1, t : t + 1], np.ones((1, 1), bool))[0] for t in range(T)]
            )
            for b in range(2)
        ]
    )
    np.testing.assert_allclose(out[:2], oracles.masked_mean(each, MASK[:2]), atol=1e-5)
    turned = {**params, "latents": {"embedding": params["latents"]["embedding"][::-1]}}
    np.testing.assert_allclose(pool(turned, tokens(), MASK), out, atol=1e-5)
    assert np.abs(out[:3] - oracles.masked_mean(tokens(), MASK)[:3]).max() > 0.1
    with pytest.raises(ValueError, match="heads=3 does not divide the inner width 8"):
        encoders.latent_attention_pool(params, tokens(), MASK, heads=3)


def test_gradients_of_a_distance_bucket_are_added_in_float32():
    """128 tokens have 8,128 pairs on either side; a sum in bfloat16 would stop growing long before."""
    encoder = encoders.transformer(init_embed, embed, width=D, layers=1, heads=HEADS, distances=4)
    params = encoder.init(jax.random.key(0))
    batch = {"ids": jnp.zeros((1, 128), int), "mask": jnp.ones((1, 128), bool)}

    def on_the_diagonal(table):
        out = encoder.hidden(
            params | {"distance": {"embedding": table}}, batch, attention=lambda weights, _: weights
        )
        return jnp.log(jnp.diagonal(out["attention"], axis1=-2, axis2=-1)).sum()

    table = jnp.zeros((4, HEADS))
    exact, found = (jax.grad(on_the_diagonal)(table.astype(dtype)) for dtype in (jnp.float32, jnp.bfloat16))
    assert np.abs(exact).max() > 30
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=0.01, atol=0.1)
