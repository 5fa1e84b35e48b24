"""Numbers of layers and sizes: spreads over seeds, claims about them, and a picture of all pairs."""

import functools

import numpy as np

from experiments.shared import results


def spreads(columns):
    """The part of a row that holds means and spreads: {column: one number per seed}."""
    row = {}
    for column, values in columns.items():
        row[column], row[f"± {column}"] = results.spread(values)
    return row


def digit_differences(found):
    """What SRL gains over 2DMSE and over separate models, {claim: one number or list per seed}."""
    gain = found["SRL"] - found["2DMSE"]
    return {
        "on the list": gain.mean(axis=1),
        "smallest": [[one - other for one in g[:2] for other in g[2:]] for g in gain],
        "separate": (found["SRL"] - found["separate"]).mean(axis=1),
    }


def by_seed(found):
    """{arm: [S, P]} -> {arm: the mean over pairs of each seed}."""
    return {name: values.mean(axis=1).tolist() for name, values in found.items()}


def above(part, name, margin=0.0):
    """Whether differences of a part are above a margin; None where the run did not measure them."""

    def ours(numbers):
        found = numbers.get(part, {}).get("differences", {}).get(name)
        return None if found is None else results.paired(found, margin=margin)

    return ours


def within(part, name, distance):
    """Whether distances of a part, which it holds as negative numbers, are below one."""

    def ours(numbers):
        answer = above(part, name, -distance)(numbers)
        return answer and answer._replace(value=-answer.value)

    return ours


def figures(numbers):
    """{"": (draw, panels)}: heat maps of each part {"cells", "grids": {arm: one number per pair}}, or {}."""
    parts = {n: found for n, found in numbers.items() if isinstance(found, dict) and "grids" in found}
    if not parts:
        return {}
    panels = (len(parts), max(len(found["grids"]) for found in parts.values()))
    return {"": (functools.partial(_draw, parts=parts, config=numbers["config"]), panels)}


def heat_map(axes, title, values, layers, sizes, low, high):
    """Draws numbers [layers, sizes], the deepest layer on top, each in its cell; returns the image."""
    image = axes.imshow(values, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="viridis")
    for i, j in np.ndindex(np.shape(values)):
        ink = "black" if values[i][j] > (low + high) / 2 else "white"
        axes.text(j, i, f"{values[i][j]:.2f}", ha="center", va="center", color=ink, fontsize=6)
    axes.set_xticks(range(len(sizes)), sizes, fontsize=7)
    axes.set_yticks(range(len(layers)), layers, fontsize=7)
    axes.set_xlabel("first numbers of the vector", fontsize=8)
    axes.set_ylabel("layer", fontsize=8)
    axes.set_title(title, fontsize=9)
    return image


def _metric(part, config):
    if part != "text":
        return "accuracy by the nearest neighbour"
    if config["pairs"] is not None:
        return "Spearman, or Recall@10 without grades"
    return "Recall@10" if config["sts"] is None else "Spearman on STS-B"


def _draw(axes, parts, config):
    figure = axes[0, 0].figure
    figure.clear()  # rows have panels of their own width
    for row, (part, found) in zip(np.ravel(figure.subfigures(len(parts), 1)), parts.items(), strict=True):
        values = np.array(list(found["grids"].values()))
        layers, sizes = (sorted(set(numbers)) for numbers in zip(*found["cells"], strict=True))
        panels = row.subplots(1, len(values), squeeze=False)[0]
        for panel, (arm, grid) in zip(panels, found["grids"].items(), strict=True):
            shaped = np.reshape(grid, (len(layers), len(sizes)))
            image = heat_map(panel, f"{part}: {arm}", shaped, layers, sizes, values.min(), values.max())
        bar = row.colorbar(image, ax=panels, pad=0.01, fraction=0.05, aspect=16)
        bar.set_label(_metric(part, config), fontsize=8)
        bar.ax.tick_params(labelsize=7)
