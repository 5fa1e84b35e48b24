"""Classifiers of documents in the experiment on word vectors: groups, numbered texts, and what they learn."""

import numpy as np
import pytest

from experiments.word_vectors import documents
from experiments.word_vectors.documents import CNN, MEAN, RCNN


def test_newsgroups_fall_into_the_four_groups_of_the_paper():
    names = ["comp.graphics", "talk.politics.guns", "rec.autos", "soc.religion.christian", "sci.med"]
    assert [documents.group(name) for name in names] == [0, 1, 2, 3, None]
    assert documents.group("talk.religion.misc") == 3 and documents.group("alt.atheism") is None


def test_texts_keep_their_known_words_in_order():
    found = documents.numbered([["b", "x", "a", "b"], ["x"]], np.array([1, 0]), ["a", "b"], 2)
    np.testing.assert_array_equal(found["ids"], [[2, 1], [0, 0]])
    np.testing.assert_array_equal(found["mask"], [[True, True], [False, False]])


@pytest.fixture(scope="module")
def texts():
    """Texts whose label is which of two words they hold, and one without any word."""
    rng = np.random.default_rng(0)
    parts = {}
    for part in ("train", "validation", "test"):
        labels = rng.integers(2, size=64).astype(np.int32)
        ids = rng.integers(3, 12, size=(64, 6)).astype(np.int32)
        ids[np.arange(64), rng.integers(6, size=64)] = 1 + labels
        ids[0] = 0
        parts[part] = {"ids": ids, "mask": ids > 0, "labels": labels}
    return parts | {"words": [f"w{i}" for i in range(11)]}


@pytest.mark.slow
def test_every_classifier_learns_and_its_row_has_all_seeds(texts):
    rates = {MEAN: 0.05, CNN: 0.01, RCNN: 0.01}
    rows = documents.compare(texts, seeds=2, steps=60, batch_size=32, part="validation", rates=rates)
    assert [row["classifier"] for row in rows] == [MEAN, CNN, RCNN]
    for row in rows:
        assert len(row["runs"]) == 2 and row["accuracy"] > 0.8 and row["macro-F1"] > 0.8
