"""What the tables say of the paper's claims, and the pictures."""

import numpy as np

from experiments.shared import results
from experiments.shared.results import Claim

PAPER = "2307.08702"


def runs(t, table, key, name, column):
    """Numbers of every seed of one row."""
    rows = [row["runs"] for row in t[table] if row[key] == name]
    return np.array(rows[0][column])


def above(t, other, margin):
    few = t["shown"]["few"]
    ours, theirs = (runs(t, "probes", "features", name, few) for name in ("diffusion", other))
    return results.paired(ours - theirs, margin=margin)


def middle(t):
    """Whether the best block of the best step lies behind the encoder and before the last block."""
    blocks, grid = t["shown"]["blocks"], np.array(t["shown"]["grid"])
    best = int(np.unravel_index(grid.argmax(), grid.shape)[1])
    return results.holds(not blocks[best].startswith("input") and best < len(blocks) - 1, best + 1)


def chance(t):
    """How far the best probe of the last step is above chance."""
    gap = np.array(t["shown"]["grid"])[-1].max() - 0.1
    return results.holds(gap <= 0.1, gap)


def little_noise(t):
    """Whether accuracy is best at a step whose noise is below the signal, the first half of the steps."""
    values = [row["validation"] for row in t["steps"]]
    best = t["steps"][int(np.argmax(values))]["step"]
    return results.holds(best <= 259, best)  # signal and noise are equal at step 259


def head(t, column, ours="attention", other="linear", margin=-0.005):
    if not {ours, other} <= {row["head"] for row in t["heads"]}:
        return None
    one, two = (runs(t, "heads", "head", name, column) for name in (ours, other))
    return results.paired(one - two, margin=margin)


ALL = (
    Claim(PAPER, "The best block lies in the middle or the decoder, before the last one", middle),
    Claim(PAPER, "The best step has less noise than signal", little_noise),
    Claim(PAPER, "At the last step probes of no block are more than 10 points above chance", chance),
    Claim(
        PAPER,
        "With few labels, diffusion features tell 3 points more than the GAN's encoder",
        lambda t: above(t, "GAN's encoder", 0.03),
    ),
    Claim(
        PAPER,
        "An attention head tells no less than a linear head, all labels",
        lambda t: head(t, "all labels"),
    ),
    Claim(
        PAPER,
        "Fusing blocks and steps (DifFormer) tells more than an attention head of one block, all labels",
        lambda t: head(t, "all labels", "DifFormer", "attention", 0.0),
    ),
    Claim(
        PAPER,
        "Feedback of the decoder (DifFeed) tells more than a linear head of one pass, all labels",
        lambda t: head(t, "all labels", "DifFeed", "linear", 0.0),
    ),
    Claim(
        "",
        "With few labels, they tell 5 points more than the untrained network",
        lambda t: above(t, "untrained", 0.05),
    ),
    Claim("", "With few labels, they tell more than pixels", lambda t: above(t, "pixels", 0.0)),
    Claim(
        "",
        "With few labels, they tell more than a denoising autoencoder of equal size",
        lambda t: above(t, "denoising autoencoder", 0.0),
    ),
)


def asked(claim):
    """A claim that a run on validation images does not ask."""
    return claim._replace(ours=lambda t: claim.ours(t) if "probes" in t else None)


CLAIMS = tuple(map(asked, ALL))


def figures(t):
    """Accuracy by step and block, CKA of blocks, samples beside real digits; none of a run on validation."""
    if "shown" not in t:
        return {}
    shown = t["shown"]

    def draw(axes):
        grid, cka, drawn, real = axes[0]
        grid.figure.set_size_inches(14, 4.2)
        grid.imshow(shown["grid"], cmap="viridis", vmin=0.1, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(np.array(shown["grid"])):
            colour = "black" if value > 0.6 else "white"
            grid.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=colour)
        grid.set_yticks(range(len(t["steps"])), [row["step"] for row in t["steps"]], fontsize=7)
        grid.set(title="probe, % by step and block", ylabel="step")
        cka.imshow(shown["cka"], cmap="YlOrBr_r", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(np.array(shown["cka"])):
            cka.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7)
        cka.set_title("CKA of blocks, %")
        for panel in (grid, cka):
            panel.set_xticks(range(len(shown["blocks"])), shown["blocks"], rotation=90, fontsize=7)
        cka.set_yticks(range(len(shown["blocks"])), range(1, len(shown["blocks"]) + 1), fontsize=7)
        for panel, name in ((drawn, "drawn"), (real, "real")):
            images = np.pad(np.array(shown[name]), ((0, 0), (1, 0), (1, 0)), constant_values=60)
            images = images.reshape(8, 5, 9, 9).transpose(0, 2, 1, 3).reshape(72, 45)
            panel.imshow(images, cmap="gray_r", vmin=0, vmax=255)
            panel.set(title=name, xticks=[], yticks=[])

    return {"": (draw, (1, 4))}
