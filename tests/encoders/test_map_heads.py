import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders

MAPS = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_adaptive_pool_is_its_loop(size):
    found = encoders.adaptive_pool(MAPS, size)
    for i in range(size):
        for j in range(size):
            rows = slice(i * 5 // size, int(np.ceil((i + 1) * 5 / size)))
            columns = slice(j * 7 // size, int(np.ceil((j + 1) * 7 / size)))
            expected = MAPS[:, rows, columns].mean(axis=(1, 2))
            np.testing.assert_allclose(found[:, i, j], expected, atol=1e-6)


def test_adaptive_pool_of_the_side_is_the_identity():
    np.testing.assert_allclose(encoders.adaptive_pool(MAPS[:, :, :5], 5), MAPS[:, :, :5], atol=1e-6)
    assert encoders.adaptive_pool(jnp.asarray(MAPS, jnp.bfloat16), 2).dtype == jnp.bfloat16


@pytest.mark.peers
def test_adaptive_pool_is_that_of_torch():
    torch = pytest.importorskip("torch")
    for size in (2, 3, 6):
        peer = torch.nn.AdaptiveAvgPool2d(size)(torch.tensor(MAPS.transpose(0, 3, 1, 2)))
        np.testing.assert_allclose(encoders.adaptive_pool(MAPS, size), peer.permute(0, 2, 3, 1), atol=1e-6)


def drawn(shape=(2, 3, 4)):
    """Parameters of a head, none of them zeros."""
    params = encoders.init_attention_head(jax.random.key(0), shape, 5, width=8, heads=2)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: np.asarray(x + 0.3 * rng.normal(size=x.shape), np.float32), params)


def layer_norm(layer, x, axes, epsilon=1e-5):
    x = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)
    return x * layer["scale"] + layer["bias"]


def oracle(params, maps):
    """The head by its definition in NumPy, two heads of width 4."""
    from scipy.special import erf, softmax

    x = layer_norm(params["norm_in"], maps, (1, 2, 3)).reshape(len(maps), -1, maps.shape[-1])
    x = x @ params["project"]["kernel"] + params["project"]["bias"]
    x = np.concatenate([np.tile(params["cls"], (len(maps), 1, 1)), x], axis=1)
    for n in range(2):
        block = jax.tree.map(lambda p, n=n: p[n], params["blocks"])
        y = layer_norm(block["attention_norm"], x, -1)
        q, k, v = (y @ block["attention"][name]["kernel"] for name in ("query", "key", "value"))
        mixed = []
        for h in (slice(0, 4), slice(4, 8)):
            mixed.append(softmax(q[..., h] @ k[..., h].swapaxes(1, 2) / 2, axis=-1) @ v[..., h])
        out = block["attention"]["out"]
        x = x + np.concatenate(mixed, axis=-1) @ out["kernel"] + out["bias"]
        y = layer_norm(block["mlp_norm"], x, -1) @ block["mlp_in"]["kernel"] + block["mlp_in"]["bias"]
        y = y * (1 + erf(y / np.sqrt(2))) / 2
        x = x + y @ block["mlp_out"]["kernel"] + block["mlp_out"]["bias"]
    return x[:, 0] @ params["out"]["kernel"] + params["out"]["bias"]


def test_attention_head_is_its_definition():
    maps = np.random.default_rng(2).normal(size=(3, 2, 3, 4)).astype(np.float32)
    params = drawn()
    found = encoders.attention_head(params, maps, heads=2)
    np.testing.assert_allclose(found, oracle(params, maps), atol=2e-4)
    shuffled = maps.reshape(3, 6, 4)[:, [3, 1, 5, 0, 2, 4]].reshape(3, 2, 3, 4)
    assert np.abs(found - encoders.attention_head(params, shuffled, heads=2)).max() > 1e-3
    even = params | {"norm_in": {"scale": np.ones((2, 3, 4)), "bias": np.zeros((2, 3, 4))}}
    same = [encoders.attention_head(even, x, heads=2) for x in (maps, shuffled)]
    np.testing.assert_allclose(*same, atol=1e-4)  # without places of its own in the norm, order says nothing


def test_a_fresh_class_token_is_zeros_and_maps_of_another_shape_are_refused():
    params = encoders.init_attention_head(jax.random.key(0), (2, 2, 3), 5, width=8, heads=2)
    np.testing.assert_array_equal(params["cls"], np.zeros(8))
    assert "bias" not in params["blocks"]["attention"]["query"]
    with pytest.raises(ValueError, match=r"maps: shape \(1, 3, 2, 3\); pass \[any, 2, 2, 3\]"):
        encoders.attention_head(params, np.zeros((1, 3, 2, 3)), heads=2)
    with pytest.raises(ValueError, match="size: 0; pass at least 1"):
        encoders.adaptive_pool(MAPS, 0)


RNG = np.random.default_rng(4)
SHAPES = {4: (2, 2, 3), 6: (4, 1, 5)}


def of_step():
    """Maps of both blocks at one step."""
    return {n: RNG.normal(size=(3, *shape)).astype(np.float32) for n, shape in SHAPES.items()}


def fusion(shapes, steps):
    """Parameters of a fusion head, none of them zeros."""
    params = encoders.init_fusion_head(jax.random.key(1), shapes, steps, 5, width=8, heads=2)
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: np.asarray(x + 0.3 * rng.normal(size=x.shape), np.float32), params)


def test_a_fusion_head_of_one_block_and_step_is_the_attention_head():
    params, maps = drawn(), RNG.normal(size=(3, 2, 3, 4)).astype(np.float32)
    fused = {name: params[name] for name in ("cls", "blocks", "out")}
    fused["inputs"] = {"block_7": {name: params[name] for name in ("norm_in", "project")}}
    found = encoders.fusion_head(fused, [{7: maps}], heads=2)
    np.testing.assert_allclose(found, encoders.attention_head(params, maps, heads=2), atol=1e-5)


def test_blocks_read_each_other_within_a_step_and_steps_add_up():
    params, one, two = fusion(SHAPES, 2), of_step(), of_step()
    both = encoders.fusion_head(params, [one, two], heads=2)
    changed = encoders.fusion_head(params, [one, two | {6: 2 + one[6][::-1]}], heads=2)
    assert np.abs(both - changed).max() > 1e-3
    halves = [
        params | {"out": {"kernel": params["out"]["kernel"][rows], "bias": params["out"]["bias"] / 2}}
        for rows in (slice(0, 8), slice(8, 16))
    ]
    parts = [encoders.fusion_head(p, [m], heads=2) for p, m in zip(halves, (one, two), strict=True)]
    np.testing.assert_allclose(both, parts[0] + parts[1], atol=1e-5)  # class tokens are joined, then read
    alone = encoders.fusion_head(halves[0], [one], heads=2)
    apart = encoders.fusion_head(halves[0], [one | {6: two[6]}], heads=2)
    assert np.abs(alone - apart).max() > 1e-3


def test_feedback_is_its_formula_and_goes_to_the_mirrored_block():
    params = encoders.init_feedback(jax.random.key(0), {6: (5, 3), 8: (2, 4)})
    maps = {n: RNG.normal(size=(2, 4, 4, c)).astype(np.float32) for n, c in ((6, 5), (8, 2), (9, 7))}
    found = encoders.feedback(params, maps, 9)
    assert set(found) == {4, 2} and found[2].shape == (2, 4, 4, 4)
    x = maps[6] @ np.asarray(params["block_6"]["kernel"])
    x = layer_norm({"scale": 1, "bias": 0}, x, (1, 2, 3))  # three channels are one group
    np.testing.assert_allclose(found[4], np.maximum(x, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: encoders.fusion_head(fusion(SHAPES, 2), [of_step()]),
            r"maps: blocks \[\[4, 6\]\] of 1 steps; pass \[4, 6\] of 2 steps",
        ),
        (
            lambda: encoders.fusion_head(fusion({4: (2, 2, 4)}, 1), [{4: of_step()[4]}]),
            r"maps of block 4: shape \(3, 2, 2, 3\); pass \[3, 2, 2, 4\]",
        ),
        (
            lambda: encoders.fusion_head(
                fusion(SHAPES, 2), [of_step(), {n: x[:1] for n, x in of_step().items()}]
            ),
            r"maps of block 4: shape \(1, 2, 2, 3\); pass \[3, 2, 2, 3\]",
        ),
        (
            lambda: encoders.feedback(encoders.init_feedback(jax.random.key(0), {6: (5, 3)}), {}, 9),
            "maps: lack block 6; pass the blocks of the parameters",
        ),
        (
            lambda: encoders.feedback(
                encoders.init_feedback(jax.random.key(0), {6: (5, 3)}), {6: np.ones((1, 2, 2, 4))}, 9
            ),
            r"maps of block 6: shape \(1, 2, 2, 4\); pass \[any, any, any, 5\]",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
