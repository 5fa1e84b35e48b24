"""Writes the numbers of public packages that test_interactions.py and test_clicks.py compare ours with.

Run ``KERAS_BACKEND=jax python tests/support/golden_ctr.py`` after
``pip install jax keras-rs scikit-learn torch`` and
``pip install --no-deps fuxictr``, whose layers are read from their files because the package itself imports
far more. It overwrites two files in tests/support/golden.
"""

import importlib.metadata
import importlib.util
import pathlib

import keras
import keras_rs
import numpy as np
import torch
from sklearn import calibration, metrics

FOLDER = pathlib.Path(__file__).parent / "golden"


def write(name, packages, **arrays):
    versions = [f"{p}=={importlib.metadata.version(p)}" for p in packages]
    arrays = {k: v.detach().numpy() if isinstance(v, torch.Tensor) else v for k, v in arrays.items()}
    np.savez_compressed(FOLDER / f"{name}.npz", versions=np.array(versions), **arrays)


def fuxictr(module):
    """One file of fuxictr's layers of interactions, as a module."""
    file = importlib.metadata.distribution("fuxictr").locate_file("fuxictr/pytorch/layers/interactions")
    spec = importlib.util.spec_from_file_location(module, f"{file}/{module}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def interactions():
    """Outputs of layers, their gradients and their weights; x is [5, 6], vectors are [5, 4, 3]."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    vectors = rng.normal(size=(5, 4, 3)).astype(np.float32)
    x = rng.normal(size=(5, 6)).astype(np.float32)
    pairs = fuxictr("inner_product").InnerProductInteraction(4, output="product_sum")
    saved = {"vectors": vectors, "x": x, "fm": pairs(torch.tensor(vectors))[:, 0]}
    for name, options in {"dot": {}, "dot_self": {"self_interaction": True}}.items():
        layer = keras_rs.layers.DotInteraction(**options)
        saved[name] = np.asarray(layer([vectors[:, f] for f in range(4)]))

    networks = fuxictr("cross_net")
    layers = {
        "vector": networks.CrossNet(6, 2),
        "full": networks.CrossNetV2(6, 3),
        "mixture": networks.CrossNetMix(6, layer_num=2, low_rank=3, num_experts=4),
    }
    for kind, layer in layers.items():
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape) / 2)
        given = torch.tensor(x, requires_grad=True)
        out = layer(given)
        saved[kind] = out
        saved[f"{kind}_gradient"] = torch.autograd.grad(out.sin().sum(), given)[0]
        saved |= {f"{kind}.{path}": value for path, value in layer.state_dict().items()}

    layer = keras_rs.layers.FeatureCross(
        projection_dim=2, diag_scale=0.3, pre_activation="tanh", bias_initializer=keras.initializers.Ones()
    )
    once = layer(x)
    saved |= {"low_rank": np.asarray(once), "low_rank_twice": np.asarray(layer(x, once))}
    saved |= {f"low_rank.{i}": np.asarray(w) for i, w in enumerate(layer.weights)}
    write("interactions", ["fuxictr", "keras-rs", "torch"], **saved)


def clicks():
    """Metrics of 300 examples whose scores tie often, in 20 groups, some of one class only."""
    rng = np.random.default_rng(1)
    n = 300
    groups = rng.integers(0, 20, n)
    labels = (rng.random(n) < np.where(groups < 4, 0, 0.4)).astype(np.int32)
    p = np.round(np.clip(0.3 + 0.3 * labels + 0.3 * rng.normal(size=n), 0, 1), 2)
    weights = rng.random(n)
    sized = [
        (np.sum(groups == g), metrics.roc_auc_score(labels[groups == g], p[groups == g]))
        for g in range(20)
        if len(set(labels[groups == g])) == 2
    ]
    clipped = np.clip(p, 1e-7, 1 - 1e-7)
    true, predicted = calibration.calibration_curve(labels, p, n_bins=7)
    counts = np.bincount(np.minimum((p * 7).astype(int), 6), minlength=7)
    write(
        "clicks",
        ["scikit-learn"],
        labels=labels,
        probabilities=p,
        weights=weights,
        groups=groups,
        auc=metrics.roc_auc_score(labels, p),
        auc_weighted=metrics.roc_auc_score(labels, p, sample_weight=weights),
        grouped_auc=np.average([a for _, a in sized], weights=[size for size, _ in sized]),
        log_loss=metrics.log_loss(labels, clipped),
        log_loss_weighted=metrics.log_loss(labels, clipped, sample_weight=weights),
        base=metrics.log_loss(labels, np.full(n, labels.mean())),
        expected_calibration_error=np.average(np.abs(true - predicted), weights=counts[counts > 0]),
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    interactions()
    clicks()
