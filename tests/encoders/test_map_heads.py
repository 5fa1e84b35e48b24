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
