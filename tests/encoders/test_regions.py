"""RoIAlign: loops over points, torchvision, boxes that lie outside, are empty or hold NaN."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles_regions
import pytest
from jax.sharding import PartitionSpec as P

from jaxembed import encoders, train

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(2, 7, 9, 3)).astype(np.float32)
BOXES = np.array(
    [
        [[2, 3, 20, 22], [0, 0, 36, 28], [30.5, 20.2, 44, 40], [-12, -9, 7, 5]],
        [[5, 5, 5.4, 5.3], [10, 10, 10, 10], [-90, -90, -50, -40], [1.3, 2.7, 35.1, 9.9]],
    ],
    np.float32,
)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "samples"), [(1, 1), (2, 3), (3, 2)])
def test_roi_align_equals_the_oracle(size, samples, aligned):
    options = {"scale": 0.25, "samples": samples, "aligned": aligned}
    expected = oracles_regions.roi_align(MAPS, BOXES, size, 0.25, samples, aligned)
    eager = encoders.roi_align(MAPS, BOXES, size, **options)
    np.testing.assert_allclose(eager, expected, atol=1e-5)
    jitted = jax.jit(lambda m, b: encoders.roi_align(m, b, size, **options))
    np.testing.assert_allclose(jitted(MAPS, BOXES), eager, atol=1e-6)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_roi_align_equals_torchvision_with_its_gradient(aligned, samples):
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    planes = torch.tensor(MAPS).permute(0, 3, 1, 2).requires_grad_(True)
    given = {"sampling_ratio": samples, "spatial_scale": 0.25, "aligned": aligned}
    expected = ops.roi_align(planes, [torch.tensor(x) for x in BOXES], (3, 4), **given)
    weights = RNG.normal(size=(2, 4, 3, 4, 3)).astype(np.float32)
    (expected * torch.tensor(weights).reshape(8, 3, 4, 3).permute(0, 3, 1, 2)).sum().backward()

    def ours(maps):
        return encoders.roi_align(maps, BOXES, (3, 4), scale=0.25, samples=samples, aligned=aligned)

    wanted = expected.permute(0, 2, 3, 1).detach().numpy().reshape(2, 4, 3, 4, 3)
    np.testing.assert_allclose(ours(MAPS), wanted, atol=1e-5)
    slope = jax.grad(lambda m: jnp.sum(ours(m) * weights))(jnp.asarray(MAPS))
    np.testing.assert_allclose(slope, planes.grad.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_the_whole_picture_at_its_own_size_is_the_map():
    maps = MAPS[:, :, :7]
    boxes = np.tile(np.array([0, 0, 7, 7], np.float32), (2, 1, 1))
    np.testing.assert_allclose(encoders.roi_align(maps, boxes, 7, samples=1)[:, 0], maps, atol=1e-5)


def test_a_flat_map_gives_a_flat_region_and_a_slope_its_middle():
    flat = jnp.full((2, 7, 9, 1), 3.0)
    inside = np.array([[[4, 4, 30, 20], [0, 0, 36, 28]]] * 2, np.float32)
    np.testing.assert_allclose(encoders.roi_align(flat, inside, 4, scale=0.25), 3, rtol=1e-6)
    across = jnp.tile(jnp.arange(9.0)[None, None, :, None], (2, 7, 1, 1))
    found = encoders.roi_align(across, inside[:, :1], 1, scale=0.25)[:, 0, 0, 0, 0]
    np.testing.assert_allclose(found, (4 + 30) / 2 / 4 - 0.5, rtol=1e-6)


def test_boxes_outside_empty_or_nan_have_the_documented_values():
    bad = BOXES.copy()
    bad[0, 0, 2] = np.nan
    out = np.asarray(encoders.roi_align(MAPS, bad, 3, scale=0.25))
    assert not out[0, 0].any() and not out[1, 2].any()
    np.testing.assert_allclose(out[1, 1], np.broadcast_to(out[1, 1, :1, :1], (3, 3, 3)), atol=1e-6)  # empty
    where = np.array([[True, False, True, True]] * 2)
    masked = np.asarray(encoders.roi_align(MAPS, bad, 3, scale=0.25, where=where))
    assert not masked[:, 1].any()
    np.testing.assert_array_equal(masked[where], out[where])
    none = encoders.roi_align(MAPS, np.zeros((2, 0, 4), np.float32), 3)
    assert none.shape == (2, 0, 3, 3, 3)


def test_slopes_reach_maps_and_not_boxes_and_stay_finite():
    bad = jnp.asarray(BOXES).at[0, 0, 2].set(jnp.nan)
    weights = jnp.asarray(RNG.normal(size=(2, 4, 3, 3, 3)), jnp.float32)

    def total(maps, boxes):
        return jnp.sum(encoders.roi_align(maps, boxes, 3, scale=0.25) * weights)

    maps, boxes = jax.grad(total, argnums=(0, 1))(jnp.asarray(MAPS), bad)
    chex.assert_tree_all_finite((maps, boxes))
    assert np.asarray(maps).any() and not np.asarray(boxes).any()


def test_boxes_are_read_one_by_one():
    turn = np.array([2, 0, 3, 1])
    out = encoders.roi_align(MAPS, BOXES, 2, scale=0.25)
    np.testing.assert_allclose(
        encoders.roi_align(MAPS, BOXES[:, turn], 2, scale=0.25), out[:, turn], atol=1e-6
    )
    one = jax.vmap(lambda m, b: encoders.roi_align(m[None], b[None], 2, scale=0.25)[0])
    np.testing.assert_allclose(one(MAPS, BOXES), out, atol=1e-6)
    assert encoders.roi_align(MAPS.astype(jnp.bfloat16), BOXES, 2).dtype == jnp.bfloat16


def test_sharded_regions_equal_unsharded_ones():
    maps, boxes = np.tile(MAPS, (4, 1, 1, 1)), np.tile(BOXES, (4, 1, 1))
    params = encoders.init_gate(jax.random.key(0), 3, 3)

    @jax.jit
    def run(maps, boxes):
        gated = encoders.modulate(maps, encoders.gate(params, encoders.squeeze(maps)))
        return encoders.roi_align(gated, boxes, 2, scale=0.25)

    expected = run(maps, boxes)
    placed = jax.device_put((maps, boxes), jax.sharding.NamedSharding(train.make_mesh(8, 1), P("data")))
    np.testing.assert_allclose(run(*placed), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encoders.roi_align(MAPS[0], BOXES, 2), "maps: shape"),
        (lambda: encoders.roi_align(MAPS, BOXES[0], 2), "boxes: shape"),
        (lambda: encoders.roi_align(MAPS, BOXES[:1], 2), "boxes: shape"),
        (lambda: encoders.roi_align(MAPS, BOXES, 0), "size=0, samples=2: pass numbers from 1"),
        (lambda: encoders.roi_align(MAPS, BOXES, 2, samples=-1), "samples=-1: pass"),
        (lambda: encoders.roi_align(MAPS, BOXES, 2, where=np.ones((2, 3), bool)), "where: shape"),
    ],
)
def test_wrong_arguments_of_regions_raise_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_regions_of_bytes_are_not_cut_to_bytes():
    maps, boxes = jnp.full((1, 9, 9, 1), 255, jnp.uint8), jnp.array([[[0.3, 0.7, 7.1, 8.3]]])
    found = encoders.roi_align(maps, boxes, 7, samples=3)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, 255, rtol=1e-5)


def test_a_box_left_out_is_zero_beside_nan_and_empty_maps_are_refused():
    maps, boxes = jnp.full((1, 4, 4, 1), jnp.nan), jnp.zeros((1, 1, 4))
    assert not encoders.roi_align(maps, boxes, 1, where=jnp.zeros((1, 1), bool)).any()
    with pytest.raises(ValueError, match="maps: 0 x 4 places"):
        encoders.roi_align(maps[:, :0], boxes, 1)
