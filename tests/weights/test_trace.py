"""Traces: counts against formulas and published networks, taps against a net's own layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_nets import pruned_resnet_widths, resnet, vgg
from refusals import refused

from jaxembed import encoders, weights


def test_products_and_loops_are_counted():
    a, b = jnp.ones((3, 5, 7)), jnp.ones((3, 7, 2))
    assert weights.count_macs(jnp.matmul, a, b) == 3 * 5 * 7 * 2
    square = jnp.ones((4, 4))
    looped = lambda x: jax.lax.scan(lambda c, _: (jax.jit(jnp.matmul)(c, x), None), x, length=6)[0]  # noqa: E731
    assert weights.count_macs(looped, square) == 6 * 64
    branched = lambda x: jax.lax.cond(x[0, 0] > 0, lambda: x @ x, lambda: x @ x @ x)  # noqa: E731
    assert weights.count_macs(branched, square) == 2 * 64
    assert weights.count_macs(jax.grad(lambda x: jnp.sum(jnp.sin(x @ square))), square) == 2 * 64
    endless = lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x)  # noqa: E731
    refused("while loop", lambda: weights.count_macs(endless, square))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions_are_counted_in_any_order_of_axes(groups):
    x, kernel = jnp.ones((2, 4, 9, 9)), jnp.ones((8, 4 // groups, 3, 3))
    run = lambda x: jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", feature_group_count=groups)  # noqa: E731
    assert weights.count_macs(run, x) == 2 * 16 * 9 * (4 // groups) * 8
    assert weights.count_macs(run, x, per_output=4) == 2 * 16 * 8 * (9 * (4 // groups) + 4)


def count(widths, net, side, **options):
    params = jax.eval_shape(lambda: net.init(widths))
    picture = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return weights.count_macs(net.logits, params, picture, **options), weights.count_parameters(params)


def test_the_numbers_of_published_networks_are_met():
    whole = pruned_resnet_widths([0.0] * 30)
    assert count(whole, resnet(10), 32) == (125_485_696, 853_018)
    macs, _ = count(whole, resnet(3), 256, per_output=4)
    assert macs + (64 * 64 + 1) * 64 == 8_167_620_864  # with the mean over places, as thop counts it
    macs, parameters = count(pruned_resnet_widths([0.0] + [0.18] * 29), resnet(3), 256, per_output=4)
    assert (macs + (64 * 64 + 1) * 64, parameters) == (5_838_995_712, 659_702)
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512]
    rates = [0.65] * 7 + [0.8] * 5
    kept = [int(w * (1 - r)) for w, r in zip(widths, rates, strict=True)]
    macs, parameters = count([*kept, 512], vgg(10), 32, per_output=4)
    assert (macs + 4 * 512, parameters) == (30_712_000, 1_408_243)  # with the norm after the dense layer


def test_taps_are_what_the_layers_of_a_net_read_and_give():
    net = encoders.convnet([4, [encoders.residual(6, stride=2)]], norm="batch", inputs=2, width=3)
    params, state = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (5, 8, 8, 2))
    plain = lambda params, x: net.encode(params, x, state=state)  # noqa: E731
    for encode in (plain, jax.jit(plain)):
        taps = weights.convolution_taps(encode, params, x)
        assert list(taps) == [
            "stages/stage_0/kernel",
            "stages/stage_1/block_0/first/kernel",
            "stages/stage_1/block_0/second/kernel",
            "stages/stage_1/block_0/shortcut/kernel",
        ]
        first = taps["stages/stage_1/block_0/first/kernel"]
        np.testing.assert_allclose(first["inputs"], net.maps(params, x, state=state)[0], atol=1e-6)
        for tap in taps.values():
            given = {"stride": tap["stride"][0], "padding": tap["padding"]}
            y = encoders.convolve(tap["kernel"], tap["inputs"], **given)
            np.testing.assert_allclose(y, tap["outputs"], atol=1e-5)
    refused("no convolution", lambda: weights.convolution_taps(lambda p, x: x, params, x))


def test_taps_turn_axes_of_other_orders_and_see_through_casts():
    kernel = jax.random.normal(jax.random.key(0), (3, 2, 3, 5))  # [out, in, h, w]
    x = jax.random.normal(jax.random.key(1), (4, 2, 8, 8))

    def run(params, x):
        y = jax.lax.conv_general_dilated(x, params["weight"].astype(jnp.float32), (1, 2), "VALID")
        return jax.nn.relu(jax.nn.gelu(y))

    tap = weights.convolution_taps(run, {"weight": kernel.astype(jnp.bfloat16)}, x)["weight"]
    assert tap["kernel"].shape == (3, 5, 2, 3) and tap["stride"] == (1, 2)
    np.testing.assert_allclose(tap["kernel"], kernel.transpose(2, 3, 1, 0).astype(jnp.bfloat16))
    np.testing.assert_allclose(tap["inputs"], x.transpose(0, 2, 3, 1))
    assert tap["outputs"].shape == (4, 6, 2, 3)
