"""The experiment on binary codes: ties, bags, what claims read from tables, on small numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.binary_codes import __main__ as story
from experiments.binary_codes import answers, bits, heads, newsgroups
from experiments.shared import results


def test_recall_is_expected_over_orders_of_ties():
    queries = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])
    documents = jnp.array([[1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]])  # the first two codes are the same
    # Cosines are [1, 1, 0], [0, 0, -1] and [0, 0, 1]: a tie of two, a tie of two, and no tie.
    assert float(heads.recall(queries, documents, 1)) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert float(heads.recall(queries, documents, 2)) == 1


def test_bits_of_rows():
    assert [heads.bits_of(name) for name in heads.PREFIXES] == [64, 128, 192]
    assert {heads.bits_of(name) for name in (heads.HASH, heads.TWO, heads.LONG, heads.UNTRAINED)} == {256}
    assert all(size * (loops + 1) == 256 for size, loops in heads.HEADS.values())


def test_bags_hold_the_most_frequent_words_and_pad_with_nothing():
    bag = newsgroups.bags(["a b a c", "x", "b b"], {"a": 5, "b": 2, "c": 7}, 2)
    assert bag["words"].tolist() == [[5, 2], [0, 0], [2, 0]]
    assert bag["weights"].tolist() == [[2, 1], [0, 0], [2, 0]]


def test_groups_that_train_are_not_searched(monkeypatch):
    posts = {"texts": [f"w{i}" for i in range(40)], "labels": [f"group {i % 4}" for i in range(40)]}
    asked = {"texts": [f"w{i}" for i in range(40, 80)], "labels": posts["labels"]}
    monkeypatch.setattr(newsgroups.data, "newsgroups", lambda part: posts if part == "train" else asked)
    monkeypatch.setattr(newsgroups, "STOP", 0)
    monkeypatch.setattr(newsgroups, "bags", lambda texts, number, length: {"texts": texts})
    for validate in (False, True):
        cfg = story.flags.changed(story.Config(), queries=8, posts=15, posts_tested=12, validate=validate)
        trained, tested, labels = newsgroups.read(cfg, slice(2), slice(2, None))
        numbers = [[int(text[1:]) for text in side["texts"]] for side in (trained, tested)]
        assert {i % 4 for i in numbers[0]} == {0, 1} and {i % 4 for i in numbers[1]} == {2, 3}
        assert [i % 4 - 2 for i in numbers[1]] == labels.tolist() and not set(numbers[0]) & set(numbers[1])
        assert (max(numbers[1]) < 40) == validate and len(numbers[0]) <= 15


def test_no_query_finds_itself_and_groups_are_relevant():
    class Config:
        queries = 2

    labels = np.array([0, 1, 0, 1])
    scores = np.array([[9, 1, 5, 2], [3, 9, 2, 1]])  # the first finds its group first, the second last
    found = newsgroups.ranked(Config, scores, labels)
    assert found["nDCG@10"] == pytest.approx((1 + 1 / np.log2(4)) / 2)
    assert found["MAP"] == pytest.approx((1 + 1 / 3) / 2)


def test_shared_neighbours_are_counted_whatever_their_order():
    assert bits.shared(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 9]])) == 0.75


def test_claims_read_the_rows_that_they_name():
    runs = [{"A": {"Recall@10": 0.5 + s / 100}, "B": {"Recall@10": 0.4 + s / 100}} for s in range(5)]
    table = {"heads": story.table(runs, head=str, bits=lambda k: 64)}
    assert table["heads"][0]["Recall@10"] == pytest.approx(0.52) and table["heads"][1]["bits"] == 64
    above = answers.above("heads", "Recall@10", {"head": "A"}, {"head": "B"}, margin=0.05)
    assert above(table).verdict == results.REPRODUCED and above({}) is None
    below = answers.above("heads", "Recall@10", {"head": "B"}, {"head": "A"}, denied=True)
    assert below(table).verdict == results.REPRODUCED


def paragraphs(levels):
    runs = [
        {(arm, width): {"nDCG@10": level + s / 100, "MAP": 0} for (arm, width), level in levels.items()}
        for s in range(3)
    ]
    return {"paragraphs": story.table(runs, arm=lambda k: k[0], bits=lambda k: k[1])}


def test_two_standard_errors_are_asked_at_every_width():
    levels = {(newsgroups.BINARY, 32): 0.4, (newsgroups.BINARY, 128): 0.5}
    levels |= {(newsgroups.PLANES, 32): 0.2, (newsgroups.PLANES, 128): 0.495}
    table = paragraphs(levels)
    ours, planes = {"arm": newsgroups.BINARY}, {"arm": newsgroups.PLANES}
    apart = answers.errors_apart("paragraphs", ours, planes)
    assert apart(table).verdict == results.NOT  # 0.005 at 128 bits is within two errors
    assert answers.errors_apart("paragraphs", ours, planes, allowed=True)(table).verdict == results.REPRODUCED
    longer = answers.errors_apart("paragraphs", ours | {"bits": 128}, ours | {"bits": 32})
    assert longer(table).verdict == results.REPRODUCED
    assert apart({}) is None


def test_bad_flags_are_named():
    with pytest.raises(ValueError, match="--batch-size 1024: above --pairs-trained 500"):
        story.Config(pairs_trained=500)
    with pytest.raises(ValueError, match="--queries"):
        story.Config(queries=2000)
