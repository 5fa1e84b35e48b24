"""Pairs of texts: hard negatives are never the query's own documents, examples keep to their classes."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import data


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, jnp.bfloat16, np.int32])
def test_a_zero_document_and_the_own_one_in_any_dtype(dtype):
    queries, documents = np.array([[1, 0]], dtype), np.array([[1, 0], [0, 0], [0, 1]], dtype)
    assert data.hard_negatives(queries, documents, [0], count=2).tolist() == [[1, 2]]


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_do_not_matter(size):
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(4, 3)), rng.normal(size=(9, 3))
    expected = data.hard_negatives(queries, documents, np.arange(4), count=3)
    scaled = ((size * x).astype(np.float32) for x in (queries, documents))
    np.testing.assert_array_equal(data.hard_negatives(*scaled, np.arange(4), count=3), expected)


DOCUMENTS = np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0], [-1.0, 0.0]])
SEVERAL = {
    "array": np.array([[0, 2], [3, -1]]),
    "ragged": [[0, 2], [3]],
    "mixed": [[2, 0], 3],
    "twice": [[0, 2, 0], np.array([3])],
}


@pytest.mark.parametrize("form", SEVERAL)
def test_several_positives_are_no_negatives(form):
    """The least similar positive of query 0 has cosine .707; only what lies below .67 is clearly less."""
    queries = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = data.hard_negatives(queries, DOCUMENTS, SEVERAL[form], count=3)
    assert found.tolist() == [[3, 4, 1], [2, 1, 0]]


def test_every_place_but_the_own_ones_can_be_asked_for():
    rng = np.random.default_rng(0)
    queries, documents = (
        rng.normal(size=(30, 4)).astype(np.float16),
        rng.normal(size=(9, 4)).astype(np.float16),
    )
    positives = [rng.choice(9, rng.integers(1, 5), replace=False).tolist() for _ in range(30)]
    for row, own in zip(
        data.hard_negatives(queries, documents, positives, count=5, block=7), positives, strict=True
    ):
        assert not set(row) & set(own) and len(set(row)) == 5


def test_a_query_on_two_rows_has_the_positives_of_both():
    queries = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    found = data.hard_negatives(queries, DOCUMENTS, [0, 3, 1], count=3)
    assert not set(found[0]) & {0, 1} and not set(found[2]) & {0, 1}
    assert found[1].tolist() == data.hard_negatives(queries[1:2], DOCUMENTS, [3], count=3)[0].tolist()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"positives": [0]}, "positives: 1 for 2 queries; pass"),
        ({"positives": [[0], []]}, r"positives\[1\]: \[\]; pass places in 0..4, at least one"),
        ({"positives": [[0], [-1]]}, r"positives\[1\]: \[\]; pass"),
        ({"positives": [0, 5]}, r"positives\[1\]: \[5\]; pass"),
        ({"positives": [0, -2]}, r"positives\[1\]: \[-2\]; pass"),
        ({"positives": [0, 1.5]}, r"positives\[1\]: float64 \(1,\); pass"),
        (
            {"positives": [[0, 1, 2], [3]], "count": 3},
            "count=3: query 0 has only 2 documents that are not its own",
        ),
        ({"queries": np.full((2, 2), np.nan)}, "queries: hold NaN"),
        ({"documents": np.full((9, 2), np.inf)}, "documents: hold NaN or an infinity"),
        ({"documents": np.ones((9, 3))}, "documents: width 3, but queries have 2"),
        ({"queries": np.ones(2)}, r"queries: shape \(2,\); pass"),
    ],
)
def test_wrong_arguments_get_one_line(change, match):
    given = {"queries": np.eye(2), "documents": DOCUMENTS, "positives": [0, 1], "count": 2}
    with pytest.raises(ValueError, match=match) as caught:
        data.hard_negatives(**given | change)
    assert "\n" not in str(caught.value)


# Parts


def test_parts_of_pairs_hold_every_pair_once_and_columns_stay_together():
    pairs = {"first": [f"q{i}" for i in range(48)], "second": [f"d{i}" for i in range(48)]}
    pairs["scores"] = np.arange(48, dtype=np.float32)
    parts = data.split_pairs(pairs)
    assert [len(parts[name]["first"]) for name in ("train", "dev", "test")] == [40, 4, 4]
    assert sorted(x for part in parts.values() for x in part["first"]) == sorted(pairs["first"])
    for part in parts.values():
        numbers = part["scores"].astype(int)
        assert part["first"] == [f"q{i}" for i in numbers] and part["second"] == [f"d{i}" for i in numbers]
    order = np.random.default_rng(0).permutation(48)
    assert parts["dev"]["scores"].tolist() == order[:4].tolist()
    assert data.split_pairs(pairs, seed=1)["dev"]["first"] != parts["dev"]["first"]


def test_every_part_of_pairs_has_one():
    def pairs(count):
        return {"first": ["a"] * count, "second": ["b"] * count}

    assert [len(part["first"]) for part in data.split_pairs(pairs(10)).values()] == [8, 1, 1]
    assert [len(part["first"]) for part in data.split_pairs(pairs(10), share=0.3).values()] == [4, 3, 3]
    for given, options, message in (
        (pairs(9), {}, "pairs: 9 are too few for a share of 0.1"),
        (pairs(50), {"share": 0.5}, "share: 0.5 is outside"),
        (pairs(50), {"share": 0}, "share: 0 is outside"),
        (pairs(50) | {"second": ["b"]}, {}, "pairs: columns of "),
    ):
        with pytest.raises(ValueError, match=message):
            data.split_pairs(given, **options)


@pytest.mark.parametrize("labels", [list("aabbbc") + ["c"] * 4, [3, 1, 3, 1]])
def test_example_pairs_keep_to_the_classes_and_reach_every_text(labels):
    labels, partners, others = np.array(labels), {}, {}
    for seed in range(60):
        positives, negatives = data.example_pairs(labels, seed=(1, seed), negatives=3)
        assert positives.shape == (len(labels),) and negatives.shape == (len(labels), 3)
        assert (labels[positives] == labels).all() and (positives != np.arange(len(labels))).all()
        assert (labels[negatives] != labels[:, None]).all()
        for i, (p, n) in enumerate(zip(positives, negatives, strict=True)):
            partners.setdefault(i, set()).add(int(p))
            others.setdefault(i, set()).update(n.tolist())
    for i, label in enumerate(labels):
        assert partners[i] == set(np.flatnonzero(labels == label)) - {i}
        assert others[i] == set(np.flatnonzero(labels != label))
    again = data.example_pairs(labels, seed=(1, 59), negatives=3)
    np.testing.assert_array_equal(again[0], positives)


@pytest.mark.parametrize("labels", [["a", "a"], ["a", "a", "b"]])
def test_classes_without_pairs_are_refused(labels):
    with pytest.raises(ValueError, match="at least two classes are needed, each with at least two texts"):
        data.example_pairs(labels, seed=0)


@pytest.mark.parametrize("share", [0.95, 0.5, 1.0])
def test_hard_negatives_equal_a_loop(share):
    rng = np.random.default_rng(3)
    queries, documents = rng.normal(size=(12, 3)), rng.normal(size=(20, 3))
    positives = rng.permutation(20)[:12]
    found = data.hard_negatives(queries, documents, positives, count=4, share=share, block=5)
    cosines = [[q @ d / np.linalg.norm(q) / np.linalg.norm(d) for d in documents] for q in queries]
    for row, own, scores in zip(found, positives, cosines, strict=True):
        limit = scores[own] - abs(scores[own]) * (1 - share)
        rest = [j for j in range(20) if j != own]
        allowed = sorted((j for j in rest if scores[j] <= limit), key=lambda j: -scores[j])
        easy = sorted((j for j in rest if scores[j] > limit), key=lambda j: scores[j])
        assert row.tolist() == (allowed + easy)[:4]
    with pytest.raises(ValueError, match="count=20 negatives need more than 20 documents"):
        data.hard_negatives(queries, documents, positives, count=20)


def test_inverse_cloze_cuts_one_span():
    words = [f"w{i}" for i in range(40)]
    starts = set()
    for seed in range(50):
        span, rest = data.inverse_cloze(words, seed=(seed, 1))
        start = words.index(span[0])
        starts.add(start)
        assert words[:start] + span + words[start + len(span) :] == words
        assert rest == words[:start] + words[start + len(span) :]
        assert 5 <= len(span) <= 13
        assert (span, rest) == data.inverse_cloze(words, seed=(seed, 1))
    assert len(starts) > 15
    assert data.inverse_cloze(words[:13], seed=0) == (None, words[:13])
    with pytest.raises(ValueError, match="shortest=3, longest=2"):
        data.inverse_cloze(words, seed=0, shortest=3, longest=2)


def test_aspect_pairs_are_all_that_share_a_label():
    rng = np.random.default_rng(0)
    sets = [set(rng.integers(0, 12, rng.integers(0, 4)).tolist()) for _ in range(60)]
    wanted = [[i, j] for i in range(60) for j in range(i + 1, 60) if sets[i] & sets[j]]
    assert data.aspect_pairs(sets, most=None).tolist() == wanted
    counts = {label: sum(label in s for s in sets) for label in range(12)}
    kept = {label for label, count in counts.items() if count < 8}
    assert 0 < len(kept) < 12
    wanted = [[i, j] for i in range(60) for j in range(i + 1, 60) if sets[i] & sets[j] & kept]
    assert data.aspect_pairs([list(s) * 2 for s in sets], most=8).tolist() == wanted
    with pytest.raises(ValueError, match="label_sets: no two documents share a label that is left"):
        data.aspect_pairs([["a"], ["b"], []])
    with pytest.raises(ValueError, match=r"label_sets\[1\]: 'parsing' is a text; pass a list of labels"):
        data.aspect_pairs([["tagging"], "parsing"])  # not of its letters


LABELS = ["b", "a", "c", "b", "a", "b", "c", "a"]


def test_texts_meet_the_texts_of_their_labels_and_all_others_in_turn():
    seen = set()
    for seed in range(40):
        names, positives, negatives = data.label_text_pairs(LABELS, seed=seed, negatives=2)
        assert names == ["a", "b", "c"] and negatives.shape == (8, 2)
        assert [names[i] for i in positives] == LABELS
        assert (negatives != positives[:, None]).all()
        seen |= {(i, names[j]) for i, row in enumerate(negatives) for j in row}
    assert len(seen) == 8 * 2  # every text, both other labels
    again = data.label_text_pairs(LABELS, seed=39, negatives=2)[2]
    np.testing.assert_array_equal(negatives, again)
    with pytest.raises(ValueError, match="at least two classes"):
        data.label_text_pairs(["a", "a"], seed=0)


def test_labelled_texts_become_triplets_of_either_kind():
    labelled = {"texts": [f"text {i}" for i in range(8)], "labels": LABELS}
    of = dict(zip(labelled["texts"], LABELS, strict=True))
    made = data.labelled_pairs(labelled, seed=3)
    assert made["first"] == labelled["texts"]
    for first, second, other in zip(*made.values(), strict=True):
        assert of[second] == of[first] != of[other] and second != first
    named = {name: f"about {name}" for name in "abc"}
    made = data.labelled_pairs(labelled, seed=3, kind="labels", names=named)
    for first, second, other in zip(*made.values(), strict=True):
        assert second == named[of[first]] and other in named.values() and other != second
    with pytest.raises(ValueError, match="names: holds no text for label 'b'"):
        data.labelled_pairs(labelled, seed=3, kind="labels", names={"a": "about a"})
    with pytest.raises(ValueError, match="kind='names'"):
        data.labelled_pairs(labelled, seed=3, kind="names")


def test_similar_texts_of_graded_pairs_ask_for_each_other():
    pairs = {"first": list("abc"), "second": list("xyz"), "scores": np.array([4.0, 3.9, 5.0])}
    made = data.graded_pairs(pairs)
    assert made == {"first": ["a", "c", "x", "z"], "second": ["x", "z", "a", "c"]}
    with pytest.raises(ValueError, match="least=6: no pair has such a score"):
        data.graded_pairs(pairs, least=6)
    with pytest.raises(ValueError, match="pairs: hold no scores"):
        data.graded_pairs({"first": ["a"], "second": ["b"]})
