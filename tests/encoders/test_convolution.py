"""Convolutional nets: layers against slow loops, blocks, maps, pooling, batch norm's statistics, NN2."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders, train

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 6, 4)).astype(np.float32)
IMAGES = RNG.random((4, 12, 9, 3)).astype(np.float32)


def slow_convolution(kernel, x, stride):
    """Sums of products at every place, with half a kernel of zeros around."""
    size, _, _, outputs = kernel.shape
    edge = size // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    height, width = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    out = np.zeros((len(x), height, width, outputs))
    for b, i, j, c in np.ndindex(out.shape):
        window = padded[b, i * stride : i * stride + size, j * stride : j * stride + size]
        out[b, i, j, c] = (window * kernel[..., c]).sum()
    return out


def slow_windows(x, window, stride, reduce):
    edge = window // 2
    out = np.zeros((len(x), -(-x.shape[1] // stride), -(-x.shape[2] // stride), x.shape[3]))
    for b, i, j, c in np.ndindex(out.shape):
        rows = slice(max(0, i * stride - edge), i * stride + window - edge)
        columns = slice(max(0, j * stride - edge), j * stride + window - edge)
        out[b, i, j, c] = reduce(x[b, rows, columns, c])
    return out


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_convolution_is_the_sum_of_its_products(size, stride):
    kernel = RNG.normal(size=(size, size, 4, 3)).astype(np.float32)
    out = encoders.convolve(kernel, X, stride=stride)
    np.testing.assert_allclose(out, slow_convolution(kernel, X, stride), atol=2e-5)


def test_a_depthwise_convolution_keeps_channels_apart():
    kernel = RNG.normal(size=(3, 3, 1, 4)).astype(np.float32)
    out = encoders.convolve(kernel, X, groups=4)
    for c in range(4):
        one = slow_convolution(kernel[..., c : c + 1], X[..., c : c + 1], 1)
        np.testing.assert_allclose(out[..., c : c + 1], one, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("function", "reduce"), [("max_windows", np.max), ("l2_pool", lambda w: np.sqrt((w**2).sum()))]
)
def test_windows_are_pooled(function, reduce, stride):
    out = getattr(encoders, function)(jnp.asarray(X), window=3, stride=stride)
    np.testing.assert_allclose(out, slow_windows(X, 3, stride, reduce), rtol=1e-5)


def test_the_l2_pool_of_zeros_has_a_gradient_of_zero():
    gradient = jax.grad(lambda x: encoders.l2_pool(x).sum())(jnp.zeros((1, 4, 4, 1)))
    assert not np.any(gradient)


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (16, 2), (24, 3), (20, 2), (7, 1), (512, 32)])
def test_group_norm_makes_groups_normal(channels, groups):
    x = RNG.normal(2, 3, size=(2, 3, 3, channels)).astype(np.float32)
    params = {"scale": np.full(channels, 2.0, np.float32), "bias": np.ones(channels, np.float32)}
    out = np.asarray(encoders.group_norm(params, jnp.asarray(x))).reshape(2, 9, groups, -1)
    np.testing.assert_allclose(out.mean((1, 3)), 1, atol=1e-4)
    np.testing.assert_allclose(out.std((1, 3)), 2, rtol=1e-3)


def test_response_norm_divides_by_the_neighbours():
    out = encoders.response_norm(jnp.asarray(X), window=3, rate=0.5, bias=2.0)
    squares = np.pad(X**2, ((0, 0), (0, 0), (0, 0), (1, 1)))
    sums = squares[..., :-2] + squares[..., 1:-1] + squares[..., 2:]
    np.testing.assert_allclose(out, X / (2 + 0.5 / 3 * sums) ** 0.75, rtol=1e-5)


def blocks():
    return {
        "plain": [8, 16],
        "residual": [encoders.residual(8), encoders.residual(16, stride=2)],
        "inception": [
            8,
            encoders.inception(4, (4, 8), (2, 4), ("l2", 4)),
            [encoders.conv(8), encoders.conv(8)],
        ],
        "pooled": [[encoders.conv(8), encoders.layer("max", stride=2)], encoders.layer("response")],
    }


@pytest.mark.parametrize("norm", ["group", "batch", None])
@pytest.mark.parametrize("kind", blocks())
def test_every_net_has_maps_vectors_and_gradients(kind, norm):
    stages = blocks()[kind]
    net = encoders.convnet(stages, norm=norm, width=5)
    params, state = made(net, norm)
    maps = net.maps(params, IMAGES, **state)
    assert len(maps) == len(stages)
    vectors = net.encode(params, IMAGES, **state)
    dense = params["dense"]
    mean = np.asarray(maps[-1]).mean((1, 2))
    np.testing.assert_allclose(vectors, mean @ dense["kernel"] + dense["bias"], rtol=2e-4, atol=1e-5)
    gradients = jax.grad(lambda p: jnp.square(net.encode(p, IMAGES, **state)).sum())(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    assert np.abs(jax.tree.leaves(gradients["stages"]["stage_0"])[0]).max() > 0


def made(net, norm):
    """Params, and the keyword of the state."""
    found = net.init(jax.random.key(0))
    return (found[0], {"state": found[1]}) if norm == "batch" else (found, {})


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_pictures_of_a_batch_do_not_see_one_another_outside_of_training(norm):
    net = encoders.convnet([8, encoders.residual(16, stride=2)], norm=norm)
    params, state = made(net, norm)
    vectors = jax.jit(net.encode)(params, IMAGES, **state)
    np.testing.assert_allclose(vectors[::-1], net.encode(params, IMAGES[::-1], **state), atol=1e-6)
    np.testing.assert_allclose(vectors[1:2], net.encode(params, IMAGES[1:2], **state), atol=1e-6)


def test_a_stride_halves_maps_and_the_first_stage_keeps_the_size():
    net = encoders.convnet([4, 4, 4], inputs=1)
    maps = net.maps(net.init(jax.random.key(0)), jnp.zeros((1, 9, 6, 1)))
    assert [m.shape[1:3] for m in maps] == [(9, 6), (5, 3), (3, 2)]


def test_batch_norm_learns_its_statistics():
    """Trained on one batch again and again, the running statistics become those of the batch."""
    net = encoders.convnet([6, 8], norm="batch", kernel=1)
    params, state = net.init(jax.random.key(0))
    step = jax.jit(lambda state: net.encode(params, IMAGES, state=state, train=True))
    for _ in range(200):
        vectors, state = step(state)
    places = IMAGES.shape[0] * IMAGES.shape[1] * IMAGES.shape[2]
    first = np.asarray(IMAGES) @ np.asarray(params["stages"]["stage_0"]["kernel"])[0, 0]
    found = state["stage_0"]
    np.testing.assert_allclose(found["mean"], first.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["variance"], first.var((0, 1, 2)) * places / (places - 1), rtol=1e-4)
    np.testing.assert_allclose(net.encode(params, IMAGES, state=state), vectors, rtol=0.05, atol=0.02)


def test_batch_norm_in_training_depends_on_the_batch_and_group_norm_does_not():
    net = encoders.convnet([8], norm="batch")
    params, state = net.init(jax.random.key(0))
    whole, _ = net.encode(params, IMAGES, state=state, train=True)
    half, _ = net.encode(params, IMAGES[:2], state=state, train=True)
    assert np.abs(whole[:2] - half).max() > 1e-3


@pytest.mark.parametrize(
    ("pool", "expected"),
    [("max", lambda m: m.max((1, 2))), ("l2", lambda m: np.sqrt((m**2).sum((1, 2))))],
)
def test_places_are_pooled(pool, expected):
    net = encoders.convnet([8], pool=pool)
    params = net.init(jax.random.key(0))
    maps = np.asarray(net.maps(params, IMAGES)[-1])
    np.testing.assert_allclose(net.encode(params, IMAGES), expected(maps), rtol=1e-5)


def test_bytes_are_floats_of_0_to_1():
    net = encoders.convnet([4])
    params = net.init(jax.random.key(0))
    coded = (IMAGES * 255).astype(np.uint8)
    floats = coded.astype(np.float32) / 255
    np.testing.assert_allclose(net.encode(params, coded), net.encode(params, floats), rtol=1e-5)


def test_dropout_needs_a_key():
    net = encoders.convnet([64], dropout=0.5)
    params = net.init(jax.random.key(0))
    kept = net.encode(params, IMAGES)
    dropped = net.encode(params, IMAGES, jax.random.key(1))
    zeros = np.asarray(dropped) == 0
    assert 0.3 < zeros.mean() < 0.7
    np.testing.assert_allclose(dropped[~zeros], 2 * np.asarray(kept)[~zeros], rtol=1e-6)


def test_half_precision_stays_half():
    net = encoders.convnet([8, encoders.residual(8)], width=4)
    params = net.init(jax.random.key(0))
    half = net.encode(params, IMAGES.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), net.encode(params, IMAGES), atol=0.1)


def test_nn2_has_the_maps_of_the_paper():
    net = encoders.convnet(encoders.nn2(), norm=None, width=128)
    params = jax.eval_shape(net.init, jax.random.key(0))
    maps = jax.eval_shape(net.maps, params, jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    assert [m.shape[1:] for m in maps] == [
        (112, 112, 64),
        (56, 56, 192),
        (28, 28, 320),
        (14, 14, 640),
        (7, 7, 1024),
    ]
    assert 7.4e6 < sum(x.size for x in jax.tree.leaves(params)) < 7.6e6  # the paper says 7.5 million


REFUSED = {
    "no stages": (lambda: encoders.convnet([]), "stages: none"),
    "norm": (lambda: encoders.convnet([4], norm="layer"), "norm: 'layer'"),
    "pool": (lambda: encoders.convnet([4], pool="sum"), "pool: 'sum'"),
    "layer": (lambda: encoders.layer("sum"), "name: 'sum'"),
    "even kernel": (lambda: encoders.convnet([4], kernel=4), "kernel: 4"),
    "inception": (lambda: encoders.inception(8, stride=2), "one: 8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_net_is_refused(case):
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 1), np.float32), r"images: shape \(2, 8, 8, 1\); pass \[B, H, W, 3\]"),
        (np.zeros((8, 8, 3), np.float32), "images: shape"),
        (np.zeros((2, 8, 8, 3), np.int32), "images: int32"),
    ],
)
def test_other_pictures_are_refused(images, message):
    net = encoders.convnet([4])
    with pytest.raises(ValueError, match=message):
        net.encode(net.init(jax.random.key(0)), images)


def test_batch_norm_asks_for_its_state():
    net = encoders.convnet([4], norm="batch")
    with pytest.raises(ValueError, match="state: None with batch norm"):
        net.encode(net.init(jax.random.key(0))[0], IMAGES)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_batch_on_eight_devices_is_the_batch_on_one(norm):
    """Values, gradients and the statistics of batch norm, which are those of the whole batch."""
    net = encoders.convnet([8, encoders.residual(16, stride=2)], norm=norm, width=4)
    params, state = made(net, norm)
    images = np.concatenate([IMAGES, IMAGES[::-1] * 0.5])

    @jax.jit
    def step(params, images):
        def loss(params):
            out = net.encode(params, images, **state, train=True)
            vectors, new = out if norm == "batch" else (out, {})
            return jnp.square(vectors).sum(), (vectors, new)

        gradients, found = jax.grad(loss, has_aux=True)(params)
        return gradients, found

    mesh = train.make_mesh(8)
    split = jax.device_put(images, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    jax.tree.map(
        lambda one, many: np.testing.assert_allclose(one, many, rtol=1e-3, atol=1e-4),
        step(params, images),
        step(params, split),
    )


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_a_dropout_that_leaves_nothing_is_refused(dropout):
    with pytest.raises(ValueError, match="dropout: "):
        encoders.convnet([4], dropout=dropout)
