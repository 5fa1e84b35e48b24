"""The pictures: base against novel classes for every arm, and detections over scenes."""

import itertools

from experiments.open_detection import boxes
from experiments.open_detection.measures import COUNT


def scatter(rows):
    """Draws for each arm how many base and how many novel objects are named."""

    def draw(axes):
        for row, marker in zip(rows, itertools.cycle("o^vDPX*<>"), strict=False):
            swept = row["arm"].startswith("ViLD, w")
            errors = {f"{side}err": row[f"± {name}"] or 0 for side, name in (("x", "base"), ("y", "novel"))}
            marker = "s" if swept else marker
            axes.errorbar(
                row["base"], row["novel"], **errors, marker=marker, ls="", capsize=2, label=row["arm"]
            )
        line = [row for row in rows if row["arm"].startswith("ViLD, w")]
        axes.plot(*([row[k] for row in line] for k in ("base", "novel")), lw=0.8, color="grey")
        axes.set(xlabel="share of base objects named", ylabel="share of novel objects named")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))

    return draw


def over_scenes(shown):
    """Draws the sure detections over some test scenes, a row for each arm; novel classes are dashed."""
    drawn = boxes.scenes(shown["seed of scenes"], COUNT)

    def draw(axes):
        axes[0, 0].figure.set_size_inches(3 * COUNT + 0.6, 3.2 * len(shown["found"]))
        for row, (arm, found) in zip(axes, shown["found"].items(), strict=True):
            for n, panel in enumerate(row):
                panel.imshow(drawn["images"][n], extent=(0, boxes.SIZE, boxes.SIZE, 0))
                panel.set(xticks=[], yticks=[], xlim=(0, boxes.SIZE), ylim=(boxes.SIZE, 0))
                listed = zip(*(found[k] for k in ("images", "boxes", "classes", "scores")), strict=True)
                for image, box, c, score in listed:
                    if image == n and score >= 0.3:
                        _outline(panel, box, int(c), score)
            row[0].set_ylabel(arm, fontsize=9)

    return draw, (len(shown["found"]), COUNT)


def _outline(panel, box, number, score):
    x, y, right, low = box
    style = "-" if boxes.IS_BASE[number] else "--"
    panel.plot([x, right, right, x, x], [y, y, low, low, y], style, color="white", lw=1.5)
    panel.plot([x, right, right, x, x], [y, y, low, low, y], style, color="black", lw=0.7)
    ground = {"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.8}
    panel.text(x, y - 1, f"{boxes.NAMES[number]} {score:.2f}", fontsize=6, bbox=ground)


def figures(numbers):
    """Base against novel classes, and boxes over pictures."""
    return {"": scatter(numbers["arms"]), "detections": over_scenes(numbers["pictures"])}
