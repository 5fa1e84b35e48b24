"""Kernels of convolutions: found in every tree, in one order of axes, and put back."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import encoders, weights

RNG = np.random.default_rng(0)


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="plain")(x)
        x = nn.Conv(4, (3, 3), feature_group_count=4, name="depthwise")(x)
        x = nn.Conv(6, (3, 3), feature_group_count=2, name="grouped")(x)
        return nn.Dense(2, name="head")(nn.Conv(5, (1, 1), name="point")(x).mean((1, 2)))


def test_kernels_of_flax():
    params = Small().init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))["params"]
    shapes = {path: w.shape for path, w in weights.kernels(params).items()}
    assert shapes == {
        "depthwise/kernel": (3, 3, 1, 4),
        "grouped/kernel": (3, 3, 2, 6),
        "plain/kernel": (3, 3, 3, 4),
        "point/kernel": (1, 1, 6, 5),
    }
    assert list(weights.kernels(params, 1)) == ["point/kernel"]
    assert list(weights.kernels(params, (3, 3))) == ["depthwise/kernel", "grouped/kernel", "plain/kernel"]


def test_kernels_of_our_nets():
    net = encoders.convnet([8, encoders.residual(16, stride=2)], width=4)
    params = net.init(jax.random.key(0))
    found = weights.kernels(params)
    assert list(found) == [
        "stages/stage_0/kernel",
        "stages/stage_1/first/kernel",
        "stages/stage_1/second/kernel",
        "stages/stage_1/shortcut/kernel",
    ]
    assert found["stages/stage_0/kernel"] is params["stages"]["stage_0"]["kernel"]


def test_kernels_of_a_torch_state_dict_do_what_torch_does():
    kernel, x = RNG.normal(size=(5, 3, 3, 3)), RNG.normal(size=(2, 8, 8, 3))
    state = {"features.0.weight": kernel, "features.0.bias": np.zeros(5), "fc.weight": np.ones((4, 5))}
    found = weights.kernels(state)
    assert list(found) == ["features.0.weight"]
    ours = encoders.convolve(jnp.asarray(found["features.0.weight"]), jnp.asarray(x))
    padded, place = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (1, 4, 6, 2)
    b, y, z, o = place
    by_hand = sum(
        kernel[o, c, i, j] * padded[b, y + i, z + j, c] for c in range(3) for i in range(3) for j in range(3)
    )
    assert float(ours[place]) == pytest.approx(by_hand, rel=1e-5)


def test_names_tell_the_order_of_axes():
    array = np.zeros((2, 3, 4, 5), np.float16)
    names = (
        "kernel",
        "a/kernel",
        "a.weight",
        "weight",
        "weights",
        "kernel:0",
        "depthwise_kernel",
        "a/w",
        "new",
    )
    found = {name: weights.kernels({name: array}) for name in names}
    shapes = {name: next(iter(x.values())).shape if x else None for name, x in found.items()}
    hwio, oihw = (2, 3, 4, 5), (4, 5, 3, 2)
    assert shapes == dict.fromkeys(names, hwio) | {"a.weight": oihw, "weight": oihw, "new": None}
    assert weights.kernels({"new": array}, layout="OIHW")["new"].shape == oihw
    assert weights.kernels({"weight": array}, layout="HWIO")["weight"].shape == hwio


def test_what_is_not_a_kernel_is_left_out():
    tree = {
        "stacked": {"kernel": jnp.zeros((2, 128, 4, 32))},  # of attention, by layer
        "ids": {"kernel": np.zeros((3, 3, 2, 2), np.int8)},
        "empty": {"kernel": np.zeros((3, 3, 0, 2), np.float32)},
        "dense": {"kernel": np.zeros((3, 2))},
        "step": 3,
        "list": [np.zeros((1, 2))],
    }
    assert weights.kernels(tree) == {} and weights.kernels({}) == {}


def test_kernels_are_put_back_where_they_were():
    tree = {
        "conv": {"kernel": RNG.normal(size=(3, 3, 2, 4)).astype(np.float32), "bias": np.ones(4)},
        "torch": [{"weight": RNG.normal(size=(4, 2, 5, 3)).astype(np.float16)}],
    }
    found = weights.kernels(tree)
    chex.assert_trees_all_equal(weights.with_kernels(tree, found), tree)
    doubled = weights.with_kernels(tree, {"torch/0/weight": 2 * found["torch/0/weight"].astype(np.float32)})
    np.testing.assert_array_equal(doubled["torch"][0]["weight"], 2 * tree["torch"][0]["weight"])
    assert doubled["torch"][0]["weight"].dtype == np.float16
    assert doubled["conv"]["kernel"] is tree["conv"]["kernel"]


def test_kernels_inside_jit():
    params = {"conv.weight": jnp.asarray(RNG.normal(size=(4, 2, 3, 3)), jnp.float32)}

    @jax.jit
    def halved(params):
        return weights.with_kernels(params, {n: w / 2 for n, w in weights.kernels(params).items()})

    chex.assert_trees_all_close(halved(params), jax.tree.map(lambda x: x / 2, params))


def test_rows_are_slices():
    kernel = RNG.normal(size=(2, 3, 4, 5))
    rows = weights.kernel_rows(kernel)
    assert rows.shape == (20, 6)
    for i, o in np.ndindex(4, 5):
        np.testing.assert_array_equal(rows[i * 5 + o], kernel[:, :, i, o].ravel())


class Tensor:
    """Stands for what is not an array."""


def test_bad_input_is_refused_in_one_line():
    kernel = {"kernel": np.zeros((3, 3, 1, 2))}
    refused(r"params: 'a' is a Tensor.*pass x.numpy\(\)", lambda: weights.kernels({"a": Tensor()}))
    refused(r"size: 0; pass a side", lambda: weights.kernels(kernel, 0))
    refused(r"size: \(3, 3, 3\)", lambda: weights.kernels(kernel, (3, 3, 3)))
    refused(r"layout: 'NCHW'", lambda: weights.kernels(kernel, layout="NCHW"))
    refused(r"kernels: 'other' is not", lambda: weights.with_kernels(kernel, {"other": kernel["kernel"]}))
    refused(r"'kernel' is \(1, 1", lambda: weights.with_kernels(kernel, {"kernel": np.zeros((1, 1, 1, 2))}))
    refused(r"kernel: shape \(3, 3\)", lambda: weights.kernel_rows(np.zeros((3, 3))))
