"""How fast are the statistics of convolution kernels, beside the same formulas in NumPy and in torch?

    python -m experiments.benchmarks.kernels               # 1 million kernels of 3 x 3
    python -m experiments.benchmarks.kernels --layers 2 --rounds 2

About 1 minute on 2 CPU cores. "quality" is sparsity, variance entropy, that of the live kernels, and
orthogonality, layer by layer, for layers of 256 x 256 kernels. NumPy and torch compute them as the authors
publish them, with singular values of all kernels; "by covariance" gives them our route through a 9 x 9
matrix. "drift" is the divergence of two halves of the kernels: scaling, principal components and
histograms. A run stops where the numbers differ. Arms take turns in one process.

"mining" finds pairs of channels in pictures of 48 x 48, the net's pass included; the patch miner, ours too,
runs the same net on 64 patches of each. "pruned step" is a training step of a net with batch norm that has
a share of the filters of every layer, beside its multiply-accumulates.

Papers: CNN Filter DB, arXiv:2203.15331; Beta-Rank, arXiv:2304.07461; PatternNet, arXiv:1703.06339.
"""

import dataclasses
import importlib.util
import pathlib

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import kernel_arms, timing
from experiments.shared import flags, results
from jaxembed import weights

TORCH = importlib.util.find_spec("torch") is not None
CHANNELS = 256
NAMES = ("sparsity", "entropy", "live entropy", "orthogonality")


@dataclasses.dataclass(frozen=True)
class Config:
    """Times statistics of kernels."""

    layers: int = 16  # of 256 x 256 kernels each: 1,048,576
    pictures: int = 300  # whose patterns are mined; 0 leaves mining and pruned nets out
    rounds: int = 5
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        flags.check(self, {"layers": (2, 1000), "pictures": (0, 10**5), "rounds": (1, 1000)})


def make_kernels(cfg):
    """Layers of smooth kernels, a tenth of them dead: [3, 3, 256, 256] each."""
    rng = np.random.default_rng(0)
    mix = np.exp(-np.abs(np.subtract.outer(np.arange(9), np.arange(9))) / 2)
    found = []
    for _ in range(cfg.layers):
        columns = mix @ rng.normal(size=(9, CHANNELS * CHANNELS))
        columns[:, rng.random(columns.shape[1]) < 0.1] *= 1e-4
        found.append(columns.astype(np.float32).reshape(3, 3, CHANNELS, CHANNELS))
    return found


# Quality


def ours_quality(layers):
    found = [weights.layer_quality(layer) for layer in layers]
    return jnp.stack([jnp.stack([row[name] for name in NAMES]) for row in found])


def entropy_of(values):
    shares = values / values.sum()
    return -(shares * np.log10(shares)).sum()


def numpy_quality(layers, covariance):
    """The published formulas on [out, in, 3, 3]."""

    def entropy(rows):
        if covariance:
            return entropy_of(np.linalg.eigvalsh(np.cov(rows.T)))
        return entropy_of(np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False, compute_uv=False) ** 2)

    found = []
    for layer in layers:
        rows = layer.reshape(-1, 9)
        dead = (np.abs(rows) < 0.01 * np.abs(rows).max()).all(axis=1)
        filters = layer.reshape(len(layer), -1)
        filters = filters / np.linalg.norm(filters, axis=1, keepdims=True)
        gaps = np.abs(filters @ filters.T - np.eye(len(filters), dtype=np.float32)).sum()
        score = 1 - gaps / (len(filters) * (len(filters) - 1))
        found.append([dead.mean(), entropy(rows), entropy(rows[~dead]), score])
    return np.array(found)


def torch_quality(layers, covariance):
    """The published formulas on [out, in, 3, 3] in torch."""
    import torch

    def entropy(rows):
        if covariance:
            values = torch.linalg.eigvalsh(torch.cov(rows.T))
        else:
            values = torch.linalg.svdvals(rows - rows.mean(dim=0)) ** 2
        shares = values / values.sum()
        return -(shares * torch.log10(shares)).sum()

    found = []
    for layer in layers:
        rows = layer.reshape(-1, 9)
        dead = (rows.abs() < 0.01 * rows.abs().max()).all(dim=1)
        filters = layer.reshape(len(layer), -1)
        filters = filters / filters.norm(dim=1, keepdim=True)
        gaps = (filters @ filters.T - torch.eye(len(filters))).abs().sum()
        score = 1 - gaps / (len(filters) * (len(filters) - 1))
        found.append(torch.stack([dead.float().mean(), entropy(rows), entropy(rows[~dead]), score]))
    return torch.stack(found).numpy()


# Drift


def numpy_drift(first, second):
    """The published formulas, with NumPy's histograms."""
    scaled = [x / np.abs(x).max(axis=1, keepdims=True) for x in (first, second)]
    rows = np.concatenate(scaled)
    mean = rows.mean(axis=0)
    values, directions = np.linalg.eigh(np.cov(rows.T))
    found = [(x - mean) @ directions for x in scaled]
    bounds = min(x.min() for x in found), max(x.max() for x in found)
    total = 0.0
    for i, share in enumerate(values / values.sum()):
        p, q = (np.histogram(x[:, i], 70, bounds, density=True)[0] for x in found)
        p, q = (np.where(x == 0, np.finfo(np.float32).eps, x) for x in (p, q))
        p, q = p / p.sum(), q / q.sum()
        total += share * np.sum((p - q) * np.log(p / q))
    return float(total)


def torch_drift(first, second):
    """The published formulas in torch."""
    import torch

    scaled = [x / x.abs().amax(dim=1, keepdim=True) for x in (first, second)]
    rows = torch.cat(scaled)
    values, directions = torch.linalg.eigh(torch.cov(rows.T))
    found = [(x - rows.mean(dim=0)) @ directions for x in scaled]
    low, high = min(float(x.min()) for x in found), max(float(x.max()) for x in found)
    total = 0.0
    for i, share in enumerate(values / values.sum()):
        p, q = (torch.histc(x[:, i].contiguous(), 70, low, high) for x in found)
        p, q = (x / x.sum() * (70 / (high - low)) for x in (p, q))
        p, q = (torch.where(x == 0, torch.finfo(torch.float32).eps, x) for x in (p, q))
        p, q = p / p.sum(), q / q.sum()
        total += float(share * ((p - q) * torch.log(p / q)).sum())
    return total


def compared(what, calls, rounds, count, tolerance):
    """Rows of one comparison; the first arm is ours, and the others must find what it finds."""
    ours, *others = (np.asarray(call(), np.float64) for call in calls.values())
    for name, theirs in zip(list(calls)[1:], others, strict=True):
        if not np.allclose(ours, theirs, atol=tolerance, rtol=tolerance):
            raise RuntimeError(f"{what}: {name} finds {theirs.ravel()[:4]}, ours is {ours.ravel()[:4]}")
    times = timing.in_turns(calls, rounds)
    mine = next(iter(times.values()))
    return [
        {"what": what, "arm": arm, "ms": 1e3 * t["median"], "least ms": 1e3 * t["least"]}
        | {"M kernels per second": count / t["median"] / 1e6, "times ours": t["median"] / mine["median"]}
        for arm, t in times.items()
    ]


def statistics(cfg):
    """Rows of quality and drift."""
    layers = make_kernels(cfg)
    count = cfg.layers * CHANNELS * CHANNELS
    on_device = [jnp.asarray(layer) for layer in layers]
    flipped = [np.ascontiguousarray(layer.transpose(3, 2, 0, 1)) for layer in layers]
    rows = np.concatenate([layer.reshape(9, -1).T for layer in layers])
    halves = rows[: count // 2], rows[count // 2 :] * np.linspace(1, 2, 9, dtype=np.float32)
    held = [jnp.asarray(x) for x in halves]
    quality = {
        "jaxembed": lambda: ours_quality(on_device),
        "NumPy": lambda: numpy_quality(flipped, False),
        "NumPy, by covariance": lambda: numpy_quality(flipped, True),
    }
    drift = {
        "jaxembed": lambda: weights.drift_matrix({"first": held[0], "second": held[1]})[0, 1],
        "NumPy": lambda: numpy_drift(*halves),
    }
    if TORCH:
        import torch

        tensors, pair = [torch.tensor(x) for x in flipped], [torch.tensor(x) for x in halves]
        quality["torch"] = lambda: torch_quality(tensors, False)
        quality["torch, by covariance"] = lambda: torch_quality(tensors, True)
        drift["torch"] = lambda: torch_drift(*pair)
    flags.stage(f"times the quality of {count:,} kernels")
    found = compared("quality", quality, cfg.rounds, count, 1e-3)
    flags.stage("times drift")
    return found + compared("drift", drift, cfg.rounds, count, 0.02)


def by_title(rows):
    """Rows as tables of their own: {title: rows}."""
    found = {}
    for row in rows:
        found.setdefault(row["what"], []).append(row)
    return found


def summary(cfg, rows):
    """Our kernels per second beside those of NumPy and torch, and mining beside the patch miner."""
    rates = {(row["what"], row["arm"]): row.get("M kernels per second") for row in rows}
    found = [
        timing.compared(f"kernels, {what}, M per second", peer, rates[what, "jaxembed"], rate, rate=True)
        for (what, peer), rate in rates.items()
        if peer in ("NumPy", "torch")
    ]
    mined = [row["pictures per second"] for row in rows if row["what"] == "mining"]
    if mined:
        title = "patterns, mining, pictures per second"
        found.append(timing.compared(title, "patch miner", *mined, rate=True))
    return found


def run(cfg):
    if not TORCH:
        print("torch is not installed; pip install 'jaxembed[peers]' to compare", flush=True)
    rows = statistics(cfg)
    if cfg.pictures:
        flags.stage("times mining and pruned nets")
        rows += kernel_arms.mining(cfg.pictures, cfg.rounds) + kernel_arms.pruned_steps(64, cfg.rounds)
    return results.Result({"summary": summary(cfg, rows)} | by_title(rows))


if __name__ == "__main__":
    results.main("benchmarks.kernels", Config, run)
