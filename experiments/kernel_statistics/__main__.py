"""What do the kernels of trained networks tell: which layers are dead, repeat one another, or look untrained?

    python -m experiments.kernel_statistics                        # published nets, and small ones by width
    python -m experiments.kernel_statistics --model file.safetensors   # your own network: .npz, .pt, .pkl too

With a file it prints a row for each convolution, says which layers are degenerate, and draws their quality by
depth. Names of PyTorch, Flax and Keras are known. A file of PyTorch before 1.6 is read without running it.

Paper: CNN Filter DB (arXiv:2203.15331). `make data` brings SqueezeNet, MobileNetV2 and EfficientNet-lite0.
About 3 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import numpy as np

from experiments.kernel_statistics import networks, small
from experiments.kernel_statistics.pictures import figures, matrix_of, patterns_of
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from jaxembed import weights

ENOUGH = 64  # kernels of a layer from which a verdict of "random" is asked


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures the kernels of published nets, of small nets by width, and of a network of your own."""

    model: pathlib.Path | None = None  # file of a network: .safetensors, .npz, .pt, .pth, .bin, .pkl
    threshold: float = 0.01  # share of a layer's largest weight below which a kernel is dead
    widths: tuple[int, ...] = (8, 32, 128)  # of the small nets, the same in their three convolutions
    steps: int = 600
    batch_size: int = 128
    rate: float = 3e-3  # of AdamW
    decay: float = 1e-2
    seeds: int = 5
    quick: bool = False  # one seed, narrow nets, few steps
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"threshold": (0, 1), "widths": (2, 1024), "steps": (1, 10**6), "batch_size": (1, 1024)}
        flags.check(self, limits | {"rate": (1e-9, 10), "decay": (0, 10), "seeds": (1, 100)})
        flags.exclude(self, "model", ("widths", "steps", "batch_size", "rate", "decay", "seeds"))


QUICK = {"seeds": 1, "widths": (8, 16), "steps": 60}


def described(quality):
    """Layers as rows, in the order of depth."""
    rows = []
    for i, path in enumerate(networks.by_depth(quality)):
        row = dict(quality[path])
        shape = row.pop("shape")
        shown = {"layer": path, "depth": (i + 1) / len(quality), "kernel": " x ".join(map(str, shape))}
        rows.append(shown | {name: x for name, x in row.items() if name not in ("alike", "random")})
    return rows


def summary(name, layers):
    """One row for each size of kernel of a network."""
    rows = []
    for size in sorted({row["kernel"].rsplit(" x ", 2)[0] for row in layers}):
        some = [row for row in layers if row["kernel"].rsplit(" x ", 2)[0] == size]
        row = {"network": name, "size": size, "layers": len(some), "kernels": sum(r["kernels"] for r in some)}
        dead = sum(r["sparsity"] * r["kernels"] for r in some) / row["kernels"]
        row |= {"dead kernels": dead, "orthogonality": float(np.median([r["orthogonality"] for r in some]))}
        if size != "1 x 1":
            row["entropy"] = float(np.median([r["entropy"] for r in some]))
            row["lowest to random"] = min(r["to random"] for r in some)
        faults = [r["degenerate"] for r in some]
        rows.append(row | {fault: faults.count(fault) for fault in ("dead", "alike", "random")})
    return rows


def published(cfg):
    """Layers of the published nets, and how many of each net drawn anew are called random."""
    tables = {"published": [], "drawn anew": []}
    layers = {}
    for name, params in networks.published().items():
        layers[name] = described(weights.model_quality(params, threshold=cfg.threshold))
        tables["published"] += summary(name, layers[name])
        drawn = weights.model_quality(networks.drawn_anew(params), 3).values()
        asked = [row["degenerate"] == "random" for row in drawn if row["kernels"] >= ENOUGH]
        row = {"network": name, "layers": len(asked), "called random": float(np.mean(asked))}
        tables["drawn anew"].append(row)
    return tables, layers


def own(cfg):
    """The layers of a user's network, and which of them are degenerate."""
    params = networks.read(cfg.model)
    layers = described(weights.model_quality(params, threshold=cfg.threshold))
    bad = [f"{row['layer']} is {networks.FAULTS[row['degenerate']]}" for row in layers if row["degenerate"]]
    told = f"{len(bad)} of {len(layers)} layers are degenerate" + "".join(f"\n  {line}" for line in bad)
    few = sum(row["kernels"] < 16 or row["kernel"].startswith("1 x 1 x") for row in layers)
    told += f"\n{few} layers of 1 x 1 or with fewer than 16 kernels are judged by their dead kernels alone"
    details = {"layers": {cfg.model.stem: layers}, "seeds": 1}
    details |= patterns_of({cfg.model.stem: params})
    return Result({"summary": summary(cfg.model.stem, layers), "layers": layers}, details, closing=told)


def over_widths(name):
    """The last layer's number of each seed, [S, widths]."""

    def read(t):
        rows = [r for r in t.get("by width", ()) if r["layer"] == "last"]
        return np.array([r["runs"][name] for r in rows]).T if rows else None

    return read


def trained_below(t):
    """Whether each layer of each seed is below random entropy after training, up to width 32."""
    rows = [r for r in t.get("by width", ()) if r["width"] <= 32 and r["kernels"] >= ENOUGH]
    return results.share(np.array([r["runs"]["to random"] for r in rows]) < 1) if rows else None


def nearer(pair):
    """Whether a pair of nets drifts less than a third as far as a trained net from its start."""

    def ours(t):
        if "drift" not in t:
            return None
        runs = {row["between"]: np.array(row["runs"]) for row in t["drift"]}
        if len(runs[pair]) < 2:
            return None
        return results.paired(runs[small.START] / runs[pair] - 3)

    return ours


SOURCE = "2203.15331"
CLAIMS = (
    Claim(
        SOURCE,
        "Published networks have degenerate layers",
        lambda t: (
            t.get("published")
            and results.holds(sum(r["dead"] + r["alike"] + r["random"] for r in t["published"]) > 0)
        ),
    ),
    Claim(
        SOURCE,
        "Drawn anew, all their layers of 64 kernels of 3 x 3 and more are called random",
        lambda t: t.get("drawn anew") and results.share([r["called random"] == 1 for r in t["drawn anew"]]),
    ),
    Claim(
        SOURCE, "Training takes layers below random entropy, in nets up to 32 channels wide", trained_below
    ),
    Claim(
        SOURCE,
        "The wider a net is, the nearer its last layer stays to random",
        lambda t: (
            (x := over_widths("to random")(t)) is not None and results.paired(np.diff(x, axis=1)) or None
        ),
    ),
    Claim(
        SOURCE,
        "Two trained nets are three times nearer to one another than to their start",
        nearer(small.TWO),
    ),
    Claim(SOURCE, "So are nets trained on digits and on pieces of photographs", nearer(small.TASKS)),
)


def look(cfg):
    """Refuses a run whose files are missing."""
    inputs.installed("matplotlib")
    if cfg.model is not None:
        networks.look(cfg.model)
    else:
        networks.installed()


def run(cfg):
    """Published nets, small nets by width, and drift between them; or a network of a user."""
    if cfg.model is not None:
        return own(cfg)
    flags.stage("measures the published nets")
    tables, layers = published(cfg)
    flags.stage("trains small nets by width")
    nets = small.train_all(cfg)
    tables["by width"] = small.by_width(cfg, nets)
    flags.stage("compares populations")
    tables["drift"] = small.drift(cfg, nets)
    populations = networks.published() | small.populations(cfg, nets)
    details = {"layers": layers} | patterns_of(populations) | matrix_of(populations)
    return Result(tables, details)


if __name__ == "__main__":
    results.main("kernel_statistics", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
