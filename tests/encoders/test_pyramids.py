"""Pyramids of maps: gates at every scale, merging from coarse to fine, masks; laws and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders
from jaxembed.encoders.conv_layers import batch_norm, group_norm
from jaxembed.encoders.pyramids import resized

RNG = np.random.default_rng(0)
CHANNELS, SIZES = (4, 8, 6), (8, 4, 2)
MAPS = tuple(RNG.normal(size=(2, n, n, c)).astype(np.float32) for n, c in zip(SIZES, CHANNELS, strict=True))
VECTORS = RNG.normal(size=(2, 5)).astype(np.float32)


def enlarged(plane, size):
    """Bilinear values of [h, w, C] at a larger size: pixels are areas, the border goes on."""
    out = np.zeros((size, size, plane.shape[2]))
    places = np.clip((np.arange(size) + 0.5) * len(plane) / size - 0.5, 0, len(plane) - 1)
    for i, y in enumerate(places):
        for j, x in enumerate(places):
            top, left = int(y), int(x)
            down, right = min(top + 1, len(plane) - 1), min(left + 1, len(plane) - 1)
            upper = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
            lower = plane[down, left] * (1 - x + left) + plane[down, right] * (x - left)
            out[i, j] = upper * (1 - y + top) + lower * (y - top)
    return out


@pytest.mark.parametrize("size", [2, 3, 4, 8, 9])
def test_maps_are_enlarged_as_the_oracle_does(size):
    expected = np.stack([enlarged(x.astype(float), size) for x in MAPS[2]])
    np.testing.assert_allclose(resized(jnp.asarray(MAPS[2]), (size, size)), expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_merging_is_the_loop_of_the_paper(norm):
    drawn = encoders.init_merge(jax.random.key(0), CHANNELS, norm=norm)
    params, state = drawn if norm == "batch" else (drawn, None)
    wanted = MAPS[-1]
    for i in (2, 1):
        layer = params[f"stage_{i}"]
        low = wanted @ np.asarray(layer["kernel"])
        if norm == "batch":
            low, _ = batch_norm(layer["norm"], state[f"stage_{i}"], jnp.asarray(low), train=True)
        else:
            low = group_norm(layer["norm"], jnp.asarray(low))
        low = np.stack([enlarged(x, SIZES[i - 1]) for x in np.asarray(low, float)])
        wanted = np.maximum(low + MAPS[i - 1], 0).astype(np.float32)
    found = encoders.merge_pyramid(params, MAPS, state=state, train=norm == "batch")
    found, new = found if norm == "batch" else (found, None)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    if norm == "batch":
        assert (np.asarray(new["stage_1"]["variance"]) != 1).all()
        again = encoders.merge_pyramid(params, MAPS, state=new)
        assert again.shape == found.shape and not np.allclose(again, found)


def test_a_finer_map_enters_at_its_own_scale():
    params = encoders.init_merge(jax.random.key(0), CHANNELS)
    tiny = (MAPS[0] / 640, *MAPS[1:])
    full, small = (np.asarray(encoders.merge_pyramid(params, m)) for m in (MAPS, tiny))
    without = np.asarray(encoders.merge_pyramid(params, (0 * MAPS[0], *MAPS[1:])))
    assert np.abs(small - without).max() < np.abs(full - without).max() / 100


@pytest.mark.parametrize("scales", ["all", "last"])
def test_every_scale_has_a_gate_of_its_own(scales):
    params = encoders.init_conditioned(jax.random.key(0), 5, CHANNELS, scales=scales)
    out = encoders.condition_maps(params, MAPS, VECTORS)
    gated = range(3) if scales == "all" else (2,)
    assert list(params) == [f"stage_{i}" for i in gated]
    for i, (x, y) in enumerate(zip(MAPS, out, strict=True)):
        if i in gated:
            x = encoders.modulate(x, encoders.gate(params[f"stage_{i}"], VECTORS))
        np.testing.assert_allclose(y, x, rtol=1e-6)


def test_sentences_swap_their_gates_only():
    params = encoders.init_conditioned(jax.random.key(0), 5, CHANNELS)
    turned = encoders.condition_maps(params, MAPS, VECTORS[::-1])
    alone = encoders.condition_maps(params, tuple(x[::-1] for x in MAPS), VECTORS)
    for x, y in zip(turned, alone, strict=True):
        np.testing.assert_allclose(x, y[::-1], rtol=1e-5, atol=1e-7)


def test_residuals_and_means_of_the_picture_are_options():
    params = encoders.init_conditioned(jax.random.key(0), 5, CHANNELS, image=True)
    assert params["stage_1"]["mlp"]["layer_0"]["kernel"].shape == (13, 52)
    plain = encoders.condition_maps(params, MAPS, VECTORS, image=True)
    both = encoders.condition_maps(params, MAPS, VECTORS, image=True, residual=True)
    for x, y, z in zip(MAPS, plain, both, strict=True):
        np.testing.assert_allclose(z, x + y, rtol=1e-5, atol=1e-6)
    other = encoders.condition_maps(params, tuple(x + 1 for x in MAPS), VECTORS, image=True)
    assert not np.allclose(other[0] / (MAPS[0] + 1), plain[0] / MAPS[0], rtol=1e-3)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_text_encoder_gets_no_gradient_unless_it_is_asked_for(frozen):
    params = encoders.init_conditioned(jax.random.key(0), 5, CHANNELS)
    slope = jax.grad(
        lambda v: sum(jnp.sum(x**2) for x in encoders.condition_maps(params, MAPS, v, frozen=frozen))
    )
    assert np.asarray(slope(jnp.asarray(VECTORS))).any() != frozen


def test_a_mask_head_is_a_linear_map_enlarged():
    params = encoders.init_mask_head(jax.random.key(0), 4, 2)
    out = encoders.mask_head(params, MAPS[0], (16, 24))
    assert out.shape == (2, 16, 24, 2)
    same = encoders.mask_head(params, MAPS[0], (8, 8))
    np.testing.assert_allclose(same, MAPS[0] @ np.asarray(params["kernel"]), rtol=1e-4, atol=1e-6)
    noisy = encoders.mask_head(params, np.ones((2, 8, 8, 4), np.float32), (8, 8), key=jax.random.key(1))
    sums = np.asarray(params["kernel"])
    possible = {round(float(2 * sums[list(kept), 0].sum()), 3) for kept in _subsets(4)}
    assert {round(float(x), 3) for x in noisy[..., 0].ravel()} <= possible


def _subsets(count):
    return [[i for i in range(count) if number >> i & 1] for number in range(2**count)]


def test_instance_norm_is_per_picture_and_per_channel():
    images = MAPS[0] * 3 + 5
    out = np.asarray(encoders.instance_norm(images))
    np.testing.assert_allclose(out.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=(1, 2)), 1, atol=1e-3)
    np.testing.assert_allclose(encoders.instance_norm(images[:1]), out[:1], rtol=1e-5, atol=1e-5)
    assert not np.asarray(encoders.instance_norm(np.full((1, 3, 3, 2), 7.0, np.float32))).any()


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (16, 12)])
def test_enlarging_equals_torch(size):
    torch = pytest.importorskip("torch")
    expected = torch.nn.functional.interpolate(
        torch.tensor(MAPS[1]).permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False
    )
    ours = resized(jnp.asarray(MAPS[1]), size)
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: encoders.merge_pyramid(p, MAPS[::-1]), "maps: sizes .*; pass the finest first"),
        (lambda p: encoders.merge_pyramid(p, MAPS[:2]), "maps: 2 of them for params of 3"),
        (lambda p: encoders.merge_pyramid(p, MAPS, train=True), "state: None; pass the statistics"),
        (lambda p: encoders.init_merge(jax.random.key(0), CHANNELS, norm="layer"), "norm: 'layer'"),
        (
            lambda p: encoders.init_conditioned(jax.random.key(0), 5, CHANNELS, scales="two"),
            "scales: 'two'; choose",
        ),
        (
            lambda p: encoders.mask_head(encoders.init_mask_head(jax.random.key(0), 3), MAPS[0], (8, 8)),
            "maps: shape",
        ),
        (lambda p: encoders.instance_norm(MAPS[0][0]), "images: shape"),
    ],
)
def test_wrong_arguments_of_pyramids_raise_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(encoders.init_merge(jax.random.key(0), CHANNELS))
    assert "\n" not in str(error.value)


def test_instance_norm_of_bytes_is_that_of_floats():
    images = RNG.integers(0, 256, (2, 5, 5, 3), np.uint8)
    found = encoders.instance_norm(images)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, encoders.instance_norm(images / np.float32(255)), rtol=1e-6, atol=1e-6)


def test_a_dropout_of_everything_is_refused():
    params = encoders.init_mask_head(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="dropout: 1.0"):
        encoders.mask_head(params, jnp.ones((1, 2, 2, 2)), (2, 2), dropout=1.0)
