"""Does a detector that imitates an image encoder name objects that nobody labelled?

    python -m experiments.open_detection                    # scenes of 36 classes, 12 without a label
    python -m experiments.open_detection --masked drop      # novel classes left out of the training softmax
    python -m experiments.open_detection --crops 1.0        # the teacher sees each box once, not enlarged

Paper: ViLD (arXiv:2104.13921). `make data` brings the encoder of the class names, all-MiniLM-L6-v2. Boxes are
proposals: nothing here learns to place them. About 5 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib

import numpy as np
from jax.sharding import PartitionSpec as P

from experiments.open_detection import boxes, measures, networks
from experiments.open_detection.pictures import figures
from experiments.shared import flags, inputs, results, text_models
from experiments.shared.results import Claim, Result
from jaxembed import data, train
from jaxembed.arrays import unit


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains detectors whose classifier is a frozen table of text vectors."""

    scenes: int = 1200  # trained on; the teacher has as many others
    test: int = 300  # other scenes
    weights: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0)  # of the distance to the teacher, for ViLD
    weight: float = 0.5  # that of the ensemble and of the comparisons
    masked: str = "zero"  # novel classes in the training softmax: "zero" as in the paper's code, or "drop"
    temperature: float = 0.01
    ensemble: float = 2 / 3  # the exponent of the trusted side
    crops: tuple[float, ...] = (
        1.0,
        1.5,
    )  # how much larger than a box the teacher sees; from memory
    detections: int = 10  # of a picture, the best ones
    steps: int = 400
    batch_size: int = 16
    learning_rate: float = 3e-3  # falls to 0 as a cosine
    teacher_steps: int = 300
    teacher_rate: float = 3e-3
    seeds: int = 5
    validate: bool = False  # test on other scenes; the settings above were chosen there
    model: pathlib.Path | None = None  # folder of a sentence encoder; None takes that of `make data`
    quick: bool = False  # one seed, 60 steps, 200 scenes
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"scenes": (2, 10**6), "test": (2, 10**6), "weights": (0, 1e3), "weight": (0, 1e3)}
        limits |= {"temperature": (1e-4, 10), "ensemble": (0, 1), "crops": (0.5, 3), "detections": (1, 100)}
        limits |= {"steps": (1, 10**7), "teacher_steps": (1, 10**7), "batch_size": (1, 10**5)}
        limits |= {"learning_rate": (1e-9, 10), "teacher_rate": (1e-9, 10), "seeds": (1, 100)}
        flags.check(self, limits)
        if self.masked not in ("zero", "drop"):
            raise ValueError(f"--masked {self.masked}: choose zero or drop")


QUICK = {"seeds": 1, "steps": 60, "teacher_steps": 60, "scenes": 200, "test": 60, "weights": (0.5,)}
TEACHER, SUPERVISED, TEXT, IMAGE = "teacher on crops", "labels of all classes", "ViLD-text", "ViLD-image"
ENSEMBLE, SLOW, NARROW = "ViLD-ensemble", "ViLD-text + teacher on crops", "ViLD, base boxes only"
EXPANDED = "ViLD, 6 shapes x 6 colours"
BOX_RULES = ((r"^table", P()), (r"", P("data")))


def vild(weight):
    """The name of the arm with one head and a weight."""
    return f"ViLD, w = {weight:g}"


def arms(cfg):
    """{name: (kind, weight, boxes that are distilled)} of what is trained."""
    found = {SUPERVISED: ("all", 0.0, "distilled"), TEXT: ("text", 0.0, "distilled")}
    found |= {IMAGE: ("image", 1.0, "distilled")}
    found |= {vild(w): ("text", w, "distilled") for w in dict.fromkeys((*cfg.weights, cfg.weight))}
    found |= {ENSEMBLE: ("double", cfg.weight, "distilled")}
    return found | {NARROW: ("text", cfg.weight, "distilled_base")}


def train_detector(cfg, arm, given, teacher, table, seed):
    """The parameters of one detector."""
    kind, weight, distilled = arms(cfg)[arm]
    records = {name: given[name] for name in ("images", "boxes")} | {"teacher": teacher}
    records["labels"] = given["labels_all" if kind == "all" else "labels"]
    records["where"] = given[distilled]
    options = (kind, weight, cfg.masked, cfg.temperature, cfg.learning_rate, cfg.steps)
    batches = data.batches(records, cfg.batch_size, make=lambda batch: batch | {"table": table}, seed=seed)
    return train.fit(
        init=functools.partial(networks.init, double=kind == "double"),
        update=networks.update_of(*options),
        batches=batches,
        steps=cfg.steps,
        key=seed,
        mesh=train.make_mesh(1),
        batch_rules=BOX_RULES,
    ).params


def one_seed(cfg, given, tested, texts, seed):
    """{arm: numbers} of one seed, and detections of a few pictures."""
    teacher = networks.train_teacher(cfg, boxes.scenes(10, cfg.scenes), texts["classes"], seed)
    named = {name: np.asarray(unit(x @ np.asarray(teacher["text"]))) for name, x in texts.items()}
    table, shown, found = named["classes"], {}, {}
    look = functools.partial(networks.teacher_vectors, teacher, factors=cfg.crops)
    seen = look(given["images"], given["boxes"])
    crops = [
        networks.class_probabilities(look(tested["images"], b), table, None, cfg.temperature)
        for b in tested["asked"]
    ]
    found[TEACHER] = measures.measured(tested, crops, cfg.detections)[0]
    for arm, (kind, _, _) in arms(cfg).items():
        params = train_detector(cfg, arm, given, seen, table, seed)
        ask = functools.partial(networks.probabilities, params, tested["images"], kind=kind)
        answers = [ask(b, table, temperature=cfg.temperature, weight=cfg.ensemble) for b in tested["asked"]]
        found[arm], shown[arm] = measures.measured(tested, answers, cfg.detections)
        if arm == TEXT:
            mixed = [networks.mixed(t, c, cfg.ensemble) for t, c in zip(answers, crops, strict=True)]
            found[SLOW] = measures.measured(tested, mixed, cfg.detections)[0]
        if arm == vild(cfg.weight):
            parts = named["shapes"], named["colours"]
            ask = functools.partial(networks.expanded, params, tested["images"], temperature=cfg.temperature)
            answers = [ask(b, parts) for b in tested["asked"]]
            found[EXPANDED] = measures.measured(tested, answers, cfg.detections)[0]
    return found, {arm: x for arm, x in shown.items() if arm in (TEXT, vild(cfg.weight))}


def tabled(runs):
    """Rows of all arms from {arm: numbers} of every seed."""
    rows = []
    for arm in runs[0]:
        row = {"arm": arm}
        for name in runs[0][arm]:
            row[name], row[f"± {name}"] = results.spread([run[arm][name] for run in runs])
        rows.append(row | {"runs": [run[arm] for run in runs]})
    return rows


def numbers(t, arm, name):
    """A number of an arm, [seeds]; None where the run has no such arm."""
    found = [row["runs"] for row in t["arms"] if row["arm"] == arm]
    return np.array([run[name] for run in found[0]]) if found else None


def chosen(t):
    return vild(t["compared weight"])


def difference(t, one, other, name):
    return numbers(t, one, name) - numbers(t, other, name)


def trend(t):
    """How novel classes rise and base classes fall from the least weight to the largest: [seeds, 2]."""
    weights = sorted({float(r["arm"].split("= ")[1]) for r in t["arms"] if r["arm"].startswith("ViLD, w")})
    if len(weights) < 2:
        return None
    most, least = vild(weights[-1]), vild(weights[0])
    up, down = difference(t, most, least, "novel"), difference(t, least, most, "base")
    return results.paired(np.stack([up, down], axis=1))


VILD = "2104.13921"
CLAIMS = (
    Claim(
        VILD,
        "Distillation names 5 points more of the novel objects than labels of base classes alone",
        lambda t: results.paired(difference(t, chosen(t), TEXT, "novel"), margin=0.05),
        0.06,
    ),
    Claim(
        VILD,
        "It names no more of the base objects",
        lambda t: results.paired(difference(t, chosen(t), TEXT, "base"), denied=True),
        -0.024,
    ),
    Claim(
        VILD,
        "Without any label, distillation alone names novel objects more often than chance",
        lambda t: results.paired(numbers(t, IMAGE, "novel"), margin=1 / 36),
    ),
    Claim(
        VILD,
        "The ensemble of two heads is within 1 point of ViLD-text on base objects",
        lambda t: results.paired(difference(t, ENSEMBLE, TEXT, "base"), margin=-0.01),
    ),
    Claim(
        VILD,
        "The ensemble is within 1 point of ViLD on novel objects",
        lambda t: results.paired(difference(t, ENSEMBLE, chosen(t), "novel"), margin=-0.01),
    ),
    Claim(VILD, "A larger weight of the distance names more novel and fewer base objects", trend),
    Claim(
        "",
        "Distilled on boxes of base objects only, novel objects gain less than half as much",
        lambda t: results.paired(
            difference(t, chosen(t), TEXT, "novel") / 2 - difference(t, NARROW, TEXT, "novel")
        ),
    ),
)


def look(cfg):
    """Refuses a run whose encoder is missing."""
    if cfg.model is None:
        inputs.installed(inputs.PACKAGE)


def run(cfg):
    """Every detector of every seed on the same scenes."""
    flags.at_most(cfg, "batch_size", cfg.scenes, f"there are only {cfg.scenes} scenes")
    flags.stage("draws scenes and boxes, and reads the class names")
    texts = networks.texts_of(text_models.load(cfg.model).encode_texts)
    given = boxes.training_boxes(0, boxes.scenes(11, cfg.scenes))
    scenes = 12 if cfg.validate else 13
    tested = boxes.tested(scenes, cfg.test)
    flags.stage("trains teacher and detectors, seed by seed")
    runs, shown = [], None
    for seed in range(cfg.seeds):
        found, kept = one_seed(cfg, given, tested, texts, seed)
        runs.append(found)
        shown = shown or kept
        novel = [found[arm]["novel"] for arm in (TEXT, vild(cfg.weight))]
        print(f"seed {seed}: novel {novel[0]:.3f} without and {novel[1]:.3f} with the teacher", flush=True)
    more = {"compared weight": cfg.weight, "pictures": {"seed of scenes": scenes, "found": shown}}
    return Result({"arms": tabled(runs)}, more)


if __name__ == "__main__":
    results.main("open_detection", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
