"""The pictures: IoU of every arm, and the masks of some arms over scenes."""

import numpy as np

from experiments.grounded_answers import networks
from experiments.grounded_answers.questions import RELATIONAL, SCENES, SEEN_SET, UNSEEN_SET
from jaxembed.data import toy_scenes

COUNT, SHOWN = 5, (networks.NONE, networks.IMAGE, networks.SOFTMAX, networks.SCALED)
SIDE = SCENES["size"]


def packed(arm, params, asked):
    """The masks of the first pictures, 8 pixels a byte, in hexadecimal digits."""
    found = networks.predicted(arm, params, asked["images"][:COUNT], asked["vectors"][:COUNT])
    return [np.packbits(mask).tobytes().hex() for mask in found]


def unpacked(digits):
    """A mask [S, S] of :func:`packed`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8)).astype(bool).reshape(SIDE, SIDE)


def bars(rows):
    """Draws the IoU of each arm on three kinds of questions."""

    def draw(axes):
        for i, test in enumerate((SEEN_SET, UNSEEN_SET, RELATIONAL)):
            places = np.arange(len(rows)) + 0.27 * (i - 1)
            axes.barh(
                places, [r[test] for r in rows], 0.25, xerr=[r[f"± {test}"] or 0 for r in rows], label=test
            )
        axes.set_yticks(range(len(rows)), [r["arm"] for r in rows])
        axes.invert_yaxis()
        axes.set(xlabel="mean IoU of the mask; bars: deviation over the seeds")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(fontsize=8)

    return draw


def masks(shown):
    """Draws some scenes with their question, and below them what each arm marks."""
    drawn = toy_scenes.scenes(shown["seed of scenes"], count=COUNT, **SCENES)

    def draw(axes):
        for n, text in enumerate(shown["texts"]):
            axes[0, n].imshow(drawn["images"][n])
            axes[0, n].set_title(text, fontsize=7)
            for row, arm in enumerate(SHOWN, 1):
                mask = unpacked(shown["masks"][arm][n])
                light = drawn["images"][n] // 2 + 100
                axes[row, n].imshow(np.where(mask[..., None], np.array([255, 0, 200], np.uint8), light))
                if n == 0:
                    axes[row, n].set_ylabel(arm, fontsize=8)
        for panel in axes.ravel():
            panel.set(xticks=[], yticks=[])

    return draw, (1 + len(SHOWN), COUNT)


def gates(factors):
    """Draws what the coarsest gate makes of each sort of object, for the 16 channels that vary most."""
    table = np.array(list(factors.values()))
    table = table[:, np.argsort(-table.std(axis=0), kind="stable")[:16]] * table.shape[1]

    def draw(axes):
        image = axes.imshow(
            np.log2(np.maximum(table, 2.0**-6)), aspect="auto", cmap="RdBu_r", vmin=-6, vmax=6
        )
        axes.set_yticks(range(len(factors)), list(factors), fontsize=7)
        axes.set(xlabel="channels of the coarsest map, the 16 that vary most")
        bar = axes.figure.colorbar(image, ax=axes)
        bar.set_label("factor times the number of channels, powers of 2")

    return draw


def figures(numbers):
    """Bars of all arms, masks over pictures, and the factors of a gate."""
    shown = numbers["pictures"]
    return {"": bars(numbers["arms"]), "masks": masks(shown), "gates": gates(shown["gates"])}
