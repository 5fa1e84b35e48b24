"""Can a sentence that weighs the channels of an image encoder show where in a picture its answer is?

    python -m experiments.grounded_answers                  # scenes of shapes, questions through MiniLM
    python -m experiments.grounded_answers --answers        # the answer is encoded behind the question
    python -m experiments.grounded_answers --model folder   # another sentence encoder of width 384

Paper: Sentence Attention Blocks for Answer Grounding (arXiv:2309.11593). `make data` brings the sentence
encoder, all-MiniLM-L6-v2, which stays frozen. About 5 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib

import numpy as np

from experiments.grounded_answers import networks, pictures, questions
from experiments.grounded_answers.networks import ACTIVATIONS, ARMS, IMAGE, NONE, SOFTMAX
from experiments.grounded_answers.pictures import figures
from experiments.grounded_answers.questions import RELATIONAL, SEEN_SET, UNSEEN_SET
from experiments.shared import flags, inputs, results
from experiments.shared.results import Claim, Result
from jaxembed import data, encoders, train

RELATED = "text, softmax, trained on relations"
READING = (networks.CONCAT, networks.SIGMOID, networks.FILM)  # other ways to bring the sentence in
SHRINK = (networks.SIGMOID, SOFTMAX, networks.SCALED)  # whose maps are measured before and after the gate
TESTS = (SEEN_SET, UNSEEN_SET, RELATIONAL)


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains the same network with several gates and looks how well each finds the object meant."""

    scenes: int = 2000  # trained on, with a question each
    test: int = 500  # other scenes
    steps: int = 450
    batch_size: int = 16
    learning_rate: float = 4e-3  # falls to 0 as a cosine
    dropout: float = 0.5  # before the mask
    dice: float = 1.0  # weight of the Dice loss beside cross-entropy; the paper's loss is not published
    answers: bool = False  # encodes question and answer; which of the two the paper encodes is not published
    seeds: int = 5
    validate: bool = False  # test on other scenes; the settings above were chosen there
    model: pathlib.Path | None = None  # folder of a sentence encoder; None takes that of `make data`
    quick: bool = False  # one seed, 20 steps, 200 scenes
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"scenes": (2, 10**6), "test": (2, 10**6), "steps": (1, 10**7), "batch_size": (1, 10**5)}
        limits |= {"learning_rate": (1e-9, 10), "dropout": (0, 0.99), "dice": (0, 100), "seeds": (1, 100)}
        flags.check(self, limits)


QUICK = {"seeds": 1, "steps": 20, "scenes": 200, "test": 100}


def trained(cfg, arm, given, seed):
    """Parameters of an arm after training."""
    kind, batches = (SOFTMAX, given["related"]) if arm == RELATED else (arm, given["train"])
    update = networks.update_of(kind, cfg.learning_rate, cfg.steps, cfg.dropout, cfg.dice)
    options = {"steps": cfg.steps, "key": seed, "mesh": train.make_mesh(1)}
    batches = data.batches(batches, cfg.batch_size, seed=seed)
    init = functools.partial(networks.init, kind)
    return kind, train.fit(init=init, update=update, batches=batches, **options).params


def measured(cfg, arm, given, vectors, seed):
    """Trains an arm; its IoUs, its spreads, the overlap of its channels, and for seed 0 what is drawn."""
    kind, params = trained(cfg, arm, given, seed)
    found = {"iou": {name: networks.mean_iou(kind, params, given[name]) for name in TESTS}}
    found["spreads"] = networks.spreads(kind, params, given[SEEN_SET])
    gates = params["gates"].values() if kind in ACTIVATIONS and arm != RELATED else ()
    gates = [functools.partial(encoders.gate, p, activation=ACTIVATIONS[kind]) for p in gates]
    found["overlaps"] = [questions.overlaps(gate, vectors) for gate in gates]
    if seed == 0:
        found["masks"] = pictures.packed(kind, params, given[SEEN_SET])
        found["gates"] = questions.factors_of(gates[-1], vectors) if arm == SOFTMAX else None
    return found


def compare(cfg, given, vectors):
    """Rows of the arms, of their scales and of their channels, and what is drawn of seed 0."""
    rows, scales, channels, shown = [], [], [], {"masks": {}}
    for arm in (*ARMS, RELATED):
        seeds = [measured(cfg, arm, given, vectors, seed) for seed in range(cfg.seeds)]
        shown["masks"][arm] = seeds[0]["masks"]
        shown |= {"gates": seeds[0]["gates"]} if seeds[0]["gates"] else {}
        row = {"arm": arm}
        for name in TESTS:
            row[name], row[f"± {name}"] = results.spread([found["iou"][name] for found in seeds])
        rows.append(row | {"runs": [found["iou"] for found in seeds]})
        spreads = np.mean([found["spreads"] for found in seeds], axis=0)
        for i, (before, after) in enumerate(spreads if arm in SHRINK else ()):
            scales.append({"arm": arm, "scale": i + 1, "before the gate": before, "after": after})
        overlaps = [found["overlaps"] for found in seeds]
        for i, (colours, wordings) in enumerate(np.mean(overlaps, axis=0) if overlaps[0] else ()):
            where = 3 if arm == networks.LAST else i + 1
            found = {"two colours": colours, "two wordings": wordings}
            channels.append({"arm": arm, "scale": where} | found | {"runs": [o[i] for o in overlaps]})
        print(f"{arm}: {rows[-1][SEEN_SET]:.3f}", flush=True)
    return rows, scales, channels, shown


def gain(rows, arm, other, test=SEEN_SET, other_test=None):
    """IoU of an arm above that of another, or on another test: [seeds]."""
    by_arm = {row["arm"]: row["runs"] for row in rows}
    pairs = zip(by_arm[arm], by_arm[other], strict=True)
    return np.array([one[test] - two[other_test or test] for one, two in pairs])


def strongest(t):
    """Colours share few of the strongest channels and wordings many, at the coarsest scale, in each seed."""
    runs = next(r["runs"] for r in t["channels"] if r["arm"] == SOFTMAX and r["scale"] == 3)
    return results.share([x for colours, wordings in runs for x in (colours < 0.7, wordings > 0.8)])


PAPER = "2309.11593"
CLAIMS = (
    Claim(
        PAPER,
        "The sentence gate finds the object meant by 0.20 IoU more than the same network without text",
        lambda t: results.paired(gain(t["arms"], SOFTMAX, NONE), margin=0.2),
    ),
    Claim(
        PAPER,
        "It finds it by 0.15 IoU more than squeeze-and-excitation, where the picture gates itself",
        lambda t: results.paired(gain(t["arms"], SOFTMAX, IMAGE), margin=0.15),
    ),
    Claim(
        PAPER,
        "It reaches more IoU than text beside the last map, a sigmoid gate and FiLM",
        lambda t: results.paired(np.stack([gain(t["arms"], SOFTMAX, other) for other in READING], axis=1)),
    ),
    Claim(
        PAPER,
        "Wordings that were never trained on cost it less than 0.05 IoU",
        lambda t: results.paired(gain(t["arms"], SOFTMAX, SOFTMAX, UNSEEN_SET, SEEN_SET), margin=-0.05),
    ),
    Claim(
        PAPER,
        "Of the 5 strongest channels, two colours share fewer than 0.7 and two wordings more than 0.8",
        strongest,
    ),
    Claim(
        "",
        "Trained on questions about what is beside an object, the gate is not above a network without text",
        lambda t: results.paired(gain(t["arms"], RELATED, NONE, RELATIONAL, RELATIONAL), denied=True),
    ),
)


def look(cfg):
    """Refuses a run whose encoder is missing."""
    if cfg.model is None:
        inputs.installed(inputs.PACKAGE)


def run(cfg):
    """Every arm on the same scenes and questions."""
    flags.at_most(cfg, "batch_size", cfg.scenes, f"there are only {cfg.scenes} scenes")
    flags.stage("draws scenes, and the sentence encoder reads the questions")
    vectors = questions.vectors_of(cfg.model)
    given, asked = questions.prepare(cfg, vectors)
    width = given["train"]["vectors"].shape[1]
    if width != networks.WIDTH:
        raise ValueError(f"--model: vectors of width {width}; the gates here read {networks.WIDTH}")
    flags.stage("trains the networks, arm by arm")
    rows, scales, channels, shown = compare(cfg, given, vectors)
    shown |= {"texts": asked["texts"][: pictures.COUNT], "seed of scenes": 2 if cfg.validate else 3}
    return Result({"arms": rows, "channels": channels, "scales": scales}, {"pictures": shown})


if __name__ == "__main__":
    results.main("grounded_answers", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
