"""Scenes with a question each, and the sentence vectors of the questions, computed once."""

import itertools

import numpy as np

from experiments.shared import text_models
from jaxembed.data import toy_scenes

SCENES = {"size": 48, "objects": (3, 5), "shapes": 3, "colours": 4, "sides": ((9, 11), (15, 18))}
HELD = 4  # templates that are not trained on
SEEN, UNSEEN = toy_scenes.TEMPLATES[:-HELD], toy_scenes.TEMPLATES[-HELD:]
SEEN_SET, UNSEEN_SET, RELATIONAL = "seen templates", "held-out templates", "relations"


class Vectors:
    """Sentence vectors by text; a text is read once, and the encoder stays as it is."""

    def __init__(self, encoder):
        self.encoder, self.rows, self.known = encoder, {}, np.zeros((0, 0), np.float32)

    def __call__(self, texts):
        """float32 [N, 384] of unit length."""
        new = [text for text in dict.fromkeys(texts) if text not in self.rows]
        if new:
            found = np.asarray(self.encoder.encode_texts(new), np.float32)
            self.known = np.concatenate([self.known, found]) if len(self.known) else found
            self.rows |= {text: len(self.rows) + i for i, text in enumerate(new)}
        return self.known[[self.rows[text] for text in texts]]


def vectors_of(model):
    """The vectors of an encoder's folder, by default that of `make data`."""
    return Vectors(text_models.load(model))


def asked(vectors, drawn, questions, answers=False):
    """What a network reads and has to find: pictures, sentence vectors, masks of the object meant."""
    texts = questions["texts"]
    if answers and "answers" in questions:
        texts = [f"{q} {a}" for q, a in zip(texts, questions["answers"], strict=True)]
    masks = drawn["owner"] == (questions["target"] + 1)[:, None, None]
    return {"images": drawn["images"], "vectors": vectors(texts), "masks": masks}


def prepare(cfg, vectors):
    """Training data, and tests by name: seen and held-out templates, relations."""
    drawn = toy_scenes.scenes(1, count=cfg.scenes, **SCENES)
    tested = toy_scenes.scenes(2 if cfg.validate else 3, count=cfg.test, **SCENES)
    one = {"templates": SEEN}
    given = {
        "train": asked(vectors, drawn, toy_scenes.questions(1, drawn, **one), cfg.answers),
        SEEN_SET: asked(vectors, tested, toy_scenes.questions(2, tested, **one), cfg.answers),
        UNSEEN_SET: asked(vectors, tested, toy_scenes.questions(2, tested, templates=UNSEEN), cfg.answers),
        RELATIONAL: asked(vectors, tested, toy_scenes.relational_questions(2, tested)),
    }
    given["related"] = asked(vectors, drawn, toy_scenes.relational_questions(1, drawn))
    return given, toy_scenes.questions(2, tested, **one)


def objects():
    """All sorts of objects in words, as {(size, colour, shape): text}."""
    parts = toy_scenes.SIZES, list(toy_scenes.COLOURS)[:4], toy_scenes.SHAPES[:3]
    return {names: " ".join(names) for names in itertools.product(*parts)}


def factors_of(gate, vectors):
    """What a gate makes of each sort of object, "where is the ..." asked: {object: C factors}."""
    sorts = sorted(objects().items(), key=lambda sort: sort[0][1])  # by colour
    found = np.asarray(gate(vectors([SEEN[0].format(text) for _, text in sorts])), float)
    return {text: np.round(row, 5).tolist() for (_, text), row in zip(sorts, found, strict=True)}


def overlaps(scales, vectors, top=5):
    """Mean Jaccard index of the strongest channels of two colours, and of two ways to ask.

    ``scales(vectors [N, 384]) -> [N, C]`` are the factors of a gate.
    """
    sorts = objects()
    texts = [template.format(text) for template in SEEN for text in sorts.values()]
    factors = np.asarray(scales(vectors(texts))).reshape(len(SEEN), len(sorts), -1)
    chosen = np.zeros(factors.shape, bool)
    np.put_along_axis(chosen, np.argsort(-factors, axis=-1)[..., :top], True, axis=-1)

    def jaccard(a, b):
        return float(np.mean((a & b).sum(axis=-1) / (a | b).sum(axis=-1)))

    names = list(sorts)
    coloured = [
        jaccard(chosen[:, i], chosen[:, j])
        for i, j in itertools.combinations(range(len(names)), 2)
        if names[i][::2] == names[j][::2]
    ]
    worded = [jaccard(chosen[i], chosen[j]) for i, j in itertools.combinations(range(len(SEEN)), 2)]
    return float(np.mean(coloured)), float(np.mean(worded))
