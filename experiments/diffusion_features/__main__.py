"""Are the activations of a diffusion model that saw no label good features of images?

    python -m experiments.diffusion_features             # digits
    python -m experiments.diffusion_features --quick     # fewer steps, one seed
    python -m experiments.diffusion_features --validate  # widths of the heads, on validation images

A small U-Net learns to undo noise on the training images. Its activations at one step and one block go to a
linear probe with few labels. Step, block and pooling are chosen on validation images; the test is read once.
Beside it: pixels, principal axes, the untrained U-Net, a denoising autoencoder of equal size, and the encoder
of a GAN.

Paper: Diffusion Models Beat GANs on Image Classification (arXiv:2307.08702). About 5 minutes on 2 CPU cores.
"""

import dataclasses
import pathlib

import jax
import numpy as np

from experiments.diffusion_features import heads, networks
from experiments.diffusion_features.answers import CLAIMS, figures
from experiments.diffusion_features.networks import corrupted
from experiments.shared import flags, inputs, results
from experiments.shared.results import Result
from jaxembed import data, metrics


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains networks without labels and probes their features."""

    base: int = 16  # channels of the U-Net
    steps: int = 1500
    gan_steps: int = 6000
    batch_size: int = 64
    learning_rate: float = 2e-3
    times: tuple[int, ...] = (5, 20, 50, 100, 200, 400, 800)
    pools: tuple[int, ...] = (1, 2, 4)
    labels: tuple[int, ...] = (10, 50)  # of each class; all of them come last
    autoencoder: int = 100  # step of the autoencoder's noise
    attention: int = 64  # width of the attention head
    former: int = 32  # of the DifFormer
    widths: tuple[int, ...] = (32, 64)  # that --validate compares
    head_steps: int = 300  # with all labels; half of them train the DifFeed, whose network runs in each
    few_steps: int = 100  # of attention head and DifFormer with few labels: each image is seen 64 times
    fused: tuple[int, ...] = (20, 50, 100)  # steps that the DifFormer reads
    grid_seeds: int = 2  # of the choice on validation images
    seeds: int = 5  # of labels, noise and heads; each network is trained once
    quick: bool = False  # 60 steps, one seed, fewer times
    validate: bool = False  # compares widths of the heads on validation images
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"base": (8, 256), "steps": (1, 10**6), "gan_steps": (1, 10**6), "batch_size": (1, 10**4)}
        limits |= {"learning_rate": (1e-9, 1), "times": (0, 999), "pools": (1, 8), "labels": (1, 100)}
        limits |= {name: (4, 1024) for name in ("attention", "former", "widths")}
        limits |= {name: (2, 10**5) for name in ("head_steps", "few_steps")}
        limits |= {name: (0, 999) for name in ("autoencoder", "fused")}
        limits |= {"grid_seeds": (1, 100), "seeds": (1, 100)}
        flags.check(self, limits, {"base": 8, "attention": 4, "former": 4, "widths": 4})


QUICK = {"steps": 60, "gan_steps": 100, "head_steps": 40, "few_steps": 20, "times": (20, 100, 800)}
QUICK |= {"seeds": 1, "grid_seeds": 1}
DIFFUSION, UNTRAINED, AUTOENCODER, GAN = "diffusion", "untrained", "denoising autoencoder", "GAN's encoder"


def split():
    """(training, validation, test) row numbers of the digits and the images in -1..1 with labels."""
    found = data.digits()
    parts = metrics.stratified_folds(found["labels"], folds=10, seed=0)
    rows = [np.flatnonzero(np.isin(parts, which)) for which in (range(2, 9), (9,), (0, 1))]
    return rows, found["images"] * 2 - 1, found["labels"]


def few(rows, labels, count, seed):
    """``count`` rows of each class, or all of them for None."""
    order = np.random.default_rng(seed).permutation(rows)
    if count is None:
        return order
    return np.concatenate([order[labels[order] == c][:count] for c in range(10)])


def grid(cfg, params, images, labels, rows):
    """Validation accuracy [seeds, times, blocks] of probes on few labels, pooled to 2 x 2 places."""
    found = []
    for seed in range(cfg.grid_seeds):
        known, line = few(rows[0], labels, cfg.labels[0], seed), []
        for t in cfg.times:
            maps = networks.maps(cfg, params, images, t, seed)
            vectors = {n: networks.flat(m, min(2, m.shape[1])) for n, m in maps.items()}
            line.append([probe(x, labels, known, rows[1]) for x in vectors.values()])
        found.append(line)
    return np.array(found)


def probe(vectors, labels, known, asked):
    return metrics.linear_probe(vectors[known], labels[known], vectors[asked], labels[asked])


def chosen(cfg, params, images, labels, rows):
    """((t, block, pool) that is best on validation images, the grid)."""
    values = grid(cfg, params, images, labels, rows)
    t, block = np.unravel_index(values.mean(axis=0).argmax(), values.shape[1:])
    t, block = cfg.times[t], int(block) + 1
    scores = []
    for pool in cfg.pools:
        line = []
        for seed in range(cfg.grid_seeds):
            vectors = networks.flat(networks.maps(cfg, params, images, t, seed)[block], pool)
            line.append(probe(vectors, labels, few(rows[0], labels, cfg.labels[0], seed), rows[1]))
        scores.append(np.mean(line))
    return (t, block, cfg.pools[int(np.argmax(scores))]), values


def tests(cfg, features, images, labels, rows):
    """{column: [seeds]} of the test: ``features(images, seed) -> vectors``, with few and all labels."""
    found = {}
    broken = {kind: corrupted(images[rows[2]], kind) for kind in ("moved", "hidden")}
    for seed in range(cfg.seeds):
        vectors = features(images, seed)
        for count in cfg.labels:
            known = few(rows[0], labels, count, seed)
            found.setdefault(f"{count} labels", []).append(probe(vectors, labels, known, rows[2]))
        asked = {heads.ALL: vectors[rows[2]]} | {k: features(x, seed) for k, x in broken.items()}
        known = few(rows[0], labels, None, seed)
        mean, deviation = vectors[known].mean(axis=0), vectors[known].std(axis=0) + 1e-6
        params = metrics.fit_logistic((vectors[known] - mean) / deviation, labels[known], 10)
        for name, x in asked.items():
            told = ((x - mean) / deviation @ np.asarray(params["kernel"]) + params["bias"]).argmax(axis=1)
            found.setdefault(name, []).append(float((told == labels[rows[2]]).mean()))
    return found


def arms(cfg, images, labels, rows):
    """Arms as functions (images, seed) -> vectors, their choices and grids, params of the diffusion model."""
    known = images[rows[0]]
    nets = {DIFFUSION: networks.fitted(cfg, known, 0)}
    flags.stage("diffusion model is trained")
    nets[AUTOENCODER] = networks.fitted(cfg, known, 0, cfg.autoencoder)
    nets[UNTRAINED] = networks.network(cfg.base).init(jax.random.key(5))
    flags.stage("denoising autoencoder is trained")
    choices, grids, found = {}, {}, {}
    for name, params in nets.items():
        choices[name], grids[name] = chosen(cfg, params, images, labels, rows)
        t, block, pool = choices[name]

        def read(x, seed, params=params, t=t, block=block, pool=pool):
            return networks.flat(networks.maps(cfg, params, x, t, seed)[block], pool)

        found[name] = read
        flags.stage(f"{name}: step {t}, block {block}, pooled to {pool}")
    gans = networks.bigans(cfg, known, cfg.seeds)
    mean = known.reshape(len(known), -1).mean(axis=0)
    axes = np.linalg.svd(known.reshape(len(known), -1) - mean, full_matrices=False)[2][:32].T
    found[GAN] = lambda x, seed: gans[seed](x)
    found["pixels"] = lambda x, seed: x.reshape(len(x), -1)
    found["32 principal axes"] = lambda x, seed: (x.reshape(len(x), -1) - mean) @ axes
    return found, choices, grids, nets[DIFFUSION]


def of_heads(cfg, params, choice, images, labels, rows, asked):
    """Rows of all heads on the images ``asked``, with few and all labels."""
    counts, runs = {f"{cfg.labels[0]} labels": cfg.labels[0], heads.ALL: None}, []
    for seed in range(cfg.seeds):
        known = {name: few(rows, labels, count, seed) for name, count in counts.items()}
        runs.append(heads.accuracies(cfg, params, choice, images, labels, known, asked, seed))
        flags.stage(f"heads of seed {seed} are trained")
    return [tabled({"head": h}, {n: [run[h][n] for run in runs] for n in counts}) for h in runs[0]]


def validated(cfg, images, labels, rows):
    """The accuracy on validation images of heads of several widths, on the diffusion model's features."""
    params = networks.fitted(cfg, images[rows[0]], 0)
    choice, _ = chosen(cfg, params, images, labels, rows)
    found = []
    for width in cfg.widths:
        flags.stage(f"validation: heads of width {width}")
        one = dataclasses.replace(cfg, attention=width, former=width)
        lines = of_heads(one, params, choice, images, labels, rows[0], rows[1])
        found += [{"width": width} | line for line in lines if line["head"] in heads.WIDE]
    return Result({"widths": found})


def tabled(row, columns):
    """A row with means and deviations, and the runs behind them."""
    for name, values in columns.items():
        row[name], row[f"± {name}"] = results.spread(values)
    return row | {"runs": columns}


def similarity(cfg, params, choice, images, rows):
    """CKA of all pairs of blocks at the chosen step, on the test images."""
    maps = networks.maps(cfg, params, images[rows[2]], choice[0], 0)
    vectors = [m.reshape(len(m), -1) for m in maps.values()]
    return [[float(metrics.linear_cka(a, b)) for b in vectors] for a in vectors]


def run(cfg):
    rows, images, labels = split()
    if cfg.validate:
        return validated(cfg, images, labels, rows)
    features, choices, grids, params = arms(cfg, images, labels, rows)
    choice = choices[DIFFUSION]
    probes = []
    for name, read in features.items():
        at = dict(zip(("step", "block", "pool"), choices.get(name, (None,) * 3), strict=True))
        probes.append(tabled({"features": name} | at, tests(cfg, read, images, labels, rows)))
    flags.stage("features are probed")
    by_time = [
        tabled({"step": t}, {"validation": grids[DIFFUSION][:, n, choice[1] - 1].tolist()})
        for n, t in enumerate(cfg.times)
    ]
    drawn = networks.samples(cfg, params, 40)
    shown = {
        "grid": grids[DIFFUSION].mean(axis=0).tolist(),
        "runs": grids[DIFFUSION].tolist(),
        "cka": similarity(cfg, params, choice, images, rows),
        "drawn": np.rint(127.5 * (drawn[..., 0] + 1)).astype(int).tolist(),
        "real": np.rint(127.5 * (images[rows[2][:40], ..., 0] + 1)).astype(int).tolist(),
        "blocks": list(networks.network(cfg.base).blocks),
        "few": f"{cfg.labels[0]} labels",
    }
    tables = {
        "probes": probes,
        "heads": of_heads(cfg, params, choice, images, labels, rows[0], rows[2]),
        "steps": by_time,
    }
    return Result(tables, {"shown": shown})


if __name__ == "__main__":
    look = lambda cfg: inputs.installed("sklearn")  # noqa: E731
    results.main("diffusion_features", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
