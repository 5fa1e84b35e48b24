"""Recognition by alignment logits on made features: what arms may change, precision of the detector."""

import jax.numpy as jnp
import numpy as np

from experiments.concept_recognition import __main__ as story
from experiments.concept_recognition import answers, frozen

RNG = np.random.default_rng(0)


class Made(story.World):
    """Features that are the names' directions and noise, in place of images and encoders."""

    def __init__(self):
        states = RNG.normal(size=(10, 3, 12)).astype(np.float32)
        self.names = frozen.Names(jnp.asarray(states), np.ones((10, 3), bool), jnp.asarray(states / 2))
        self.mask, self.text, self.unseen = np.ones((10, 3), bool), {}, np.array([2, 6])
        self.through = lambda params, rows, mask: 2 * rows
        self.known = np.setdiff1d(np.arange(10), self.unseen)
        self.labels = np.tile(np.arange(10), 8)
        centres = RNG.normal(size=(10, 12)) * 3
        self.features = (centres[self.labels] + RNG.normal(size=(80, 12))).astype(np.float32)
        self.asked, self.truth = self.features, self.labels
        self.aligner = {"mean": jnp.zeros(12), "kernel": jnp.eye(12)}
        self.concepts = story.unit(self.names.states)


WORLD, CFG = Made(), story.Config(steps=60)


def test_each_arm_changes_what_it_searches_and_nothing_else():
    plain = WORLD.aligner["kernel"], WORLD.concepts
    for arm, rate in ((answers.PROMPT, 0.05), (answers.CONES, 0.05), (answers.ALIGNER, 0.02)):
        aligner, concepts = story.searched(CFG, WORLD, arm, 4, rate, 0)
        np.testing.assert_array_equal(concepts[WORLD.known], plain[1][WORLD.known])
        if arm == answers.ALIGNER:
            np.testing.assert_array_equal(concepts, plain[1])
            assert np.abs(aligner["kernel"] - plain[0]).max() > 1e-3
        else:
            np.testing.assert_array_equal(aligner["kernel"], plain[0])
            assert np.abs(concepts[WORLD.unseen] - plain[1][WORLD.unseen]).max() > 1e-2
            np.testing.assert_allclose(np.linalg.norm(concepts, axis=-1), 1, rtol=1e-5)


def test_a_search_of_the_outputs_learns_the_unseen_classes():
    hand = story.measured(CFG, WORLD, (WORLD.aligner, WORLD.concepts), 0)
    found = story.searched(CFG, WORLD, answers.CONES, 4, 0.05, 0)
    learned = story.measured(CFG, WORLD, found, 0)
    assert learned["unseen"] > hand["unseen"] + 0.2 and learned["cells"] > hand["cells"]


def test_shots_are_of_the_unseen_classes_alone():
    x, labels = WORLD.shots(3, 1)
    assert x.shape == (6, 12) and labels.tolist() == [2] * 3 + [6] * 3


def test_a_detector_that_knows_every_cell_has_precision_1_and_its_reverse_little():
    truth = np.arange(200) % 10
    scores = (truth[:, None] == np.array([3, 8])).astype(float)
    assert frozen.cell_precision(scores, truth, [3, 8], 5, 0) == 1
    assert frozen.cell_precision(-scores, truth, [3, 8], 5, 0) < 0.15


def test_the_pairs_of_the_validation_are_not_among_those_of_the_test():
    pairs = [frozenset(p) for p in story.PAIRS]
    assert not {*pairs[5:]} & {*pairs[:5]} and len({*pairs}) == len(pairs)
