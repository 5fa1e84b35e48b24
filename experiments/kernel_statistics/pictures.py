"""Pictures: quality of layers by depth, bases of kernels, and how far populations are apart."""

import numpy as np

from experiments.kernel_statistics import small
from experiments.shared import plots
from jaxembed import weights

SHOWN = 9  # kernels of each network
MARKS = {"3 x 3": "o", "5 x 5": "s", "1 x 1": "x"}


def patterns_of(networks):
    """The PCA basis of the 3 x 3 kernels of each network, and some of its kernels."""
    bases, samples = {}, {}
    for name, params in networks.items():
        if not weights.kernels(params, 3):
            continue
        rows = np.asarray(weights.scaled_rows(small.rows_of(params)))
        basis = weights.fit_kernel_basis(rows)
        bases[name] = {n: np.asarray(basis[n]).round(4).tolist() for n in ("components", "shares")}
        chosen = np.random.default_rng(0).choice(len(rows), min(SHOWN, len(rows)), replace=False)
        samples[name] = rows[chosen].round(4).tolist()
    return {"bases": bases, "samples": samples}


def matrix_of(networks):
    """The drift of all pairs of networks."""
    rows = {name: small.rows_of(params) for name, params in networks.items()}
    return {
        "drift of networks": {"names": list(rows), "matrix": weights.drift_matrix(rows).round(4).tolist()}
    }


def figures(numbers):
    """{suffix: (draw, panels)} of a run."""
    found = {}
    if numbers.get("layers"):
        by_network = numbers["layers"] if isinstance(numbers["layers"], dict) else None
        by_network = by_network or {"layers": numbers["layers"]}
        found[""] = lambda axes: depth(axes, by_network), (2, len(by_network))
    if numbers.get("bases"):
        found["kernels"] = lambda axes: grids(axes, numbers), (len(numbers["bases"]), 2)
    if "drift of networks" in numbers:
        found["drift"] = lambda axes: heat(axes, numbers["drift of networks"])
    return found


def depth(axes, layers):
    """Entropy beside that of random kernels, and dead kernels, against depth."""
    axes[0, 0].figure.set_size_inches(4.2 * max(2, len(layers)), 6)
    for column, (name, rows) in enumerate(layers.items()):
        for size, mark in MARKS.items():
            some = [r for r in rows if r["kernel"].startswith(f"{size} x")]
            x = [r["depth"] for r in some]
            if size != "1 x 1":
                shown = [min(r["to random"] or 0, 1.3) for r in some]  # of very few kernels it is larger
                axes[0, column].plot(x, shown, mark, ms=5, label=size, alpha=0.8)
            axes[1, column].plot(x, [r["sparsity"] for r in some], mark, ms=5, label=size, alpha=0.8)
        axes[0, column].axhline(1, color="grey", ls="--", lw=1)
        axes[0, column].set(title=name, ylim=(0, 1.35))
        axes[1, column].set(xlabel="depth, share of the layers", ylim=(-0.03, 1.03))
        for row in (0, 1):
            axes[row, column].grid(alpha=0.3)
    axes[0, 0].set_ylabel("entropy / that of random kernels")
    axes[1, 0].set_ylabel("share of dead kernels")
    plots.legend(axes[1, -1], loc="upper right")


def grids(axes, numbers):
    """Left the directions of most variance of each network, right some of its kernels."""
    bases, samples = numbers["bases"], numbers["samples"]
    axes[0, 0].figure.set_size_inches(11, 0.72 * len(bases) + 0.5)
    axes[0, 0].figure.get_layout_engine().set(wspace=0.06)
    for row, name in enumerate(bases):
        tiles = np.array(bases[name]["components"])
        _tiled(axes[row, 0], tiles, [f"{100 * share:.0f} %" for share in bases[name]["shares"]])
        _tiled(axes[row, 1], np.array(samples[name]), None)
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    axes[0, 0].set_title("principal components, share of the variance", fontsize=9)
    axes[0, 1].set_title("kernels, each scaled by its largest weight", fontsize=9)


def _tiled(panel, tiles, words):
    """Kernels side by side with gaps, each in its own range around 0."""
    side = int(np.sqrt(tiles.shape[1]))
    canvas = np.full((side, SHOWN * (side + 1) - 1), np.nan)
    for i, tile in enumerate(tiles[:SHOWN]):
        most = np.abs(tile).max() or 1
        canvas[:, i * (side + 1) : i * (side + 1) + side] = tile.reshape(side, side) / most
    panel.imshow(canvas, cmap="RdBu_r", vmin=-1, vmax=1)
    panel.set(xticks=[], yticks=[])
    for edge in panel.spines.values():
        edge.set_visible(False)
    if words:
        places = [i * (side + 1) + (side - 1) / 2 for i in range(len(words))]
        panel.set_xticks(places, words, fontsize=7)
        panel.tick_params(length=0)


def heat(axes, drift):
    """The matrix of drift with its numbers."""
    names, matrix = drift["names"], np.array(drift["matrix"])
    axes.figure.set_size_inches(7.5, 6)
    axes.imshow(matrix, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    for i, j in np.ndindex(matrix.shape):
        light = "black" if matrix[i, j] > 0.6 * matrix.max() else "white"
        axes.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center", fontsize=8, color=light)
    axes.set_title("weighted symmetric KL divergence of 3 x 3 kernels", fontsize=10)
