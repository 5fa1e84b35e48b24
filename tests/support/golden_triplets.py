"""Writes golden/triplets.npz, what pytorch-metric-learning says of triplets in a batch.

Run ``python tests/support/golden_triplets.py`` with the package pytorch-metric-learning installed beside
torch. The file keeps the inputs, the mined triplets, the value and the gradient of the peer, and versions.
"""

import importlib.metadata
import pathlib

import numpy as np
import torch
from pytorch_metric_learning import distances, losses, miners, reducers

FOLDER = pathlib.Path(__file__).parent / "golden"


def triplets(rng, count=24, width=5, margin=0.2):
    """All semi-hard triplets of a batch, those that violate the margin, and the mean of their losses."""
    vectors = torch.tensor(rng.normal(size=(count, width)).astype(np.float32), requires_grad=True)
    labels = torch.tensor(rng.integers(0, 5, count))
    squared = distances.LpDistance(power=2)  # of unit vectors
    saved = {"vectors": vectors.detach().numpy(), "labels": labels.numpy()}
    for name, kind in (("semi_hard", "semihard"), ("margin_violating", "all")):
        miner = miners.TripletMarginMiner(margin, type_of_triplets=kind, distance=squared)
        found = miner(vectors, labels)
        saved[name] = torch.stack(found, dim=1).numpy()
        peer = losses.TripletMarginLoss(margin, distance=squared, reducer=reducers.MeanReducer())
        value = peer(vectors, labels, found)
        saved[f"{name}_loss"] = value.detach().numpy()
        saved[f"{name}_gradient"] = torch.autograd.grad(value, vectors)[0].numpy()
    return saved


if __name__ == "__main__":
    packages = ("pytorch-metric-learning", "torch")
    versions = [f"{p}=={importlib.metadata.version(p)}" for p in packages]
    saved = triplets(np.random.default_rng(3))
    np.savez_compressed(FOLDER / "triplets.npz", versions=np.array(versions), **saved)
