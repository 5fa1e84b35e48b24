"""Drawn scenes with known answers: names with a topic, by which they are seen together, and a visual kind."""

import numpy as np

from jaxembed import data, vectors

TOPICS, KINDS, WIDTH, CROPS, EACH = 10, 15, 256, 20, 5
WORDS = 200  # of captions, each at home in one topic


def scenes(seed, *, names=300, pictures=5000, leak=0.2):
    """Pictures of 5 names of one topic (a tenth from others), as many caption words, a feature of each name.

    A crop of a name is its kind's prototype, an offset of its own, ``leak`` times what its topic looks
    like, and noise; the feature is the mean of 20 crops. With leak 0 the picture of a name says nothing of
    its topic.
    """
    rng = np.random.default_rng(seed)
    topic, kind = rng.integers(0, TOPICS, names), rng.integers(0, KINDS, names)
    word_topic = rng.integers(0, TOPICS, WORDS)
    of = rng.integers(0, TOPICS, pictures)
    shown = [_some(rng, topic, z, names) for z in of]
    said = [_some(rng, word_topic, z, WORDS) for z in of]
    look = rng.normal(size=(TOPICS, WIDTH))
    feature = (
        rng.normal(size=(KINDS, WIDTH))[kind] + 0.3 * rng.normal(size=(names, WIDTH)) + leak * look[topic]
    )
    feature += 0.5 * rng.normal(size=(CROPS, names, WIDTH)).mean(axis=0)
    found = {"topic": topic, "kind": kind, "feature": feature.astype(np.float32)}
    return found | {"shown": shown, "said": said, "names": names}


def _some(rng, topic, z, count):
    own = np.flatnonzero(topic == z)
    away = rng.random(EACH) < 0.1
    return np.where(away | (len(own) == 0), rng.integers(0, count, EACH), rng.choice(own, EACH)).tolist()


def text_spaces(drawn, width):
    """Vectors of the names from what they are seen with, and from the words of the captions."""
    together = data.colocation(drawn["shown"], drawn["names"])
    spoken = data.colocation(drawn["said"], WORDS, others=drawn["shown"], other_size=drawn["names"])
    first = vectors.spectral_embedding(vectors.ppmi(together), width)[0]
    second = vectors.spectral_embedding(vectors.ppmi(spoken), min(width, WORDS))[1]
    return first, second


class Batches:
    """Names drawn with replacement, with their feature and text vector."""

    def __init__(self, feature, text, rows, size, seed):
        self.given, self.size, self.seed = (feature, text, rows), size, seed

    def __getitem__(self, t):
        feature, text, rows = self.given
        name = np.random.default_rng([self.seed, t]).choice(rows, self.size)
        return {"feature": feature[name], "text": text[name], "name": name.astype(np.int32)}
