"""The transformer equals its loops; padding, order, layers, dropout, checkpoints and what is refused."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from small_transformer import (
    HEADS,
    LAYERS,
    MASK,
    OPTIONS,
    B,
    D,
    T,
    built,
    embed,
    example,
    full_run,
    init_embed,
    parameters,
)

from jaxembed import encoders


def readout(out):
    return jnp.sum(jnp.sin(out["tokens"])) + jnp.sum(jnp.sin(out["layers"]))


@functools.cache
def gradient():
    _, _, run = built()
    return jax.jit(jax.value_and_grad(lambda params, batch: readout(run(params, batch))))


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


def test_the_input_of_the_first_block_is_dropped_where_bert_drops_it():
    _, params, run = built(input_dropout=0.25, final_norm=False)
    key = jax.random.key(3)
    noisy, quiet = (np.asarray(run(params, example(), k, layers=0)["tokens"])[MASK] for k in (key, None))
    kept = noisy != 0
    np.testing.assert_allclose(noisy[kept], quiet[kept] / 0.75, rtol=1e-5)
    assert 0.6 < kept.mean() < 0.9


def test_attention_dropout_follows_the_key():
    _, params, run = built(attention_dropout=0.5)
    a, again, other = (run(params, example(), jax.random.key(k))["tokens"] for k in (1, 1, 2))
    chex.assert_trees_all_equal(a, again)
    assert np.abs(a - other).max() > 1e-3 and np.isfinite(a).all()
    chex.assert_trees_all_close(run(params, example()), full_run(), atol=1e-5)


def test_one_block_is_that_of_the_stack():
    encoder, params, run = built(final_norm=False)
    block = encoders.Block(HEADS, 12)
    states = run(params, example(), each=lambda tokens, mask: tokens)["layers"]
    for n in (0, LAYERS - 1):
        found = block.apply({"params": encoders.one_block(params, n)}, states[:, n], MASK)
        np.testing.assert_allclose(found[:3], states[:3, n + 1], atol=1e-5)
    with pytest.raises(ValueError, match="number=3 is outside 0..2"):
        encoders.one_block(params, LAYERS)


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
