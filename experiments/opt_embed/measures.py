"""What is measured of masks beside the truth, as tables, answers and a picture."""

import numpy as np

from experiments.shared import results
from jaxembed import metrics, tables


def of_masks(clicks, kept, widths, width):
    """Numbers of one arm: shares that stay, of all and by usefulness, and how widths follow ranks."""
    sizes, useful = list(clicks["sizes"].values()), np.concatenate([*clicks["useful"].values()])
    by_field = [float(part.mean()) for part in np.split(kept, np.cumsum(sizes)[:-1])]
    found = {"share": tables.kept_numbers(kept, widths, sizes) / (width * sum(sizes)), "kept": by_field}
    found |= {"useful kept": float(kept[useful].mean()), "useless kept": float(kept[~useful].mean())}
    found |= {"widths": widths.tolist(), "ranks": clicks["ranks"].tolist()}
    return found | {"spearman": float(metrics.spearman(widths, clicks["ranks"])) if np.ptp(widths) else 0.0}


def arms(seeds, titles):
    """A row for each arm, with means over the seeds."""
    rows = []
    for name, title in titles.items():
        row = {"table": title}
        for key in ("AUC", "share", "useful kept", "useless kept", "spearman"):
            values = [s[name][key] for s in seeds if key in s[name]]
            row[key], row[f"± {key}"] = results.spread(values) if values else (None, None)
        rows.append(row)
    return rows


def fields(seeds):
    """A row for each field: its planted rank, and what both masks leave of it."""
    rows = []
    for f, rank in enumerate(seeds[0]["both"]["ranks"]):
        row = {"field": f"f{f}", "planted rank": rank}
        for key, title in (("widths", "width"), ("kept", "rows kept")):
            row[title], row[f"± {title}"] = results.spread([s["both"][key][f] for s in seeds])
        rows.append(row)
    return rows


def paired_of(measure, margin=0.0):
    """What answers whether a number of each seed is above a margin."""

    def ours(t):
        return results.paired([measure(s) for s in t["by seed"]], margin=margin)

    return ours


def informative(seed):
    """Mean share of rows kept in fields with a rank, less that in fields of noise."""
    kept, ranks = np.array(seed["both"]["kept"]), np.array(seed["both"]["ranks"])
    return kept[ranks > 0].mean() - kept[ranks == 0].mean()


def saved(seed):
    """The share that both masks leave, below that of the better one alone."""
    return min(seed["rows"]["share"], seed["widths"]["share"]) - seed["both"]["share"]


def at_most_half(t):
    largest = max(s["both"]["share"] for s in t["by seed"])
    return results.holds(largest <= 0.5, largest)


def draw(axes, numbers):
    """Left: the width that a search gives each field, by planted rank. Right: AUC lost over what is left."""
    left, right = axes.ravel()
    ranks = sorted({row["planted rank"] for row in numbers["fields"]})
    for f, row in enumerate(numbers["fields"]):
        place, colour = ranks.index(row["planted rank"]) + 0.24 * (f % 2 - 0.5), f"C{f // 2}"
        left.errorbar(place, row["width"], row["± width"] or 0, fmt="o", color=colour, capsize=2)
        left.annotate(row["field"], (place, row["width"]), (4, 4), textcoords="offset points", fontsize=8)
    left.set_xticks(range(len(ranks)), [f"{rank}" if rank else "0, noise" for rank in ranks])
    left.set(xlabel="planted rank of a field", ylabel="searched width, of 16", title="Widths follow ranks")
    seeds = numbers["by seed"]
    for i, row in enumerate(numbers["arms"]):
        arm = list(seeds[0])[i]
        losses = [s[arm]["AUC"] - s["full table"]["AUC"] for s in seeds]
        mean, spread = results.spread(losses)
        right.errorbar(
            row["share"], mean, spread or 0, row["± share"] or 0, fmt="o", color=f"C{i}", capsize=2
        )
        up = -12 if i % 2 else 6
        side = (
            {"ha": "right", "xytext": (-6, up)} if row["share"] > 0.6 else {"ha": "left", "xytext": (6, up)}
        )
        right.annotate(row["table"], (row["share"], mean), textcoords="offset points", fontsize=8, **side)
    right.axhline(0, color="0.5", ls="--")
    right.set(xlabel="share of the numbers that stay", ylabel="test AUC - full table's", title="What is lost")
    right.set_xlim(0, 1.1)
    for panel in (left, right):
        panel.grid(alpha=0.3)
