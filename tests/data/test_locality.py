"""Batches from one neighbourhood: each walk follows edges, no query comes twice, and a slow walk agrees."""

import numpy as np
import pytest

from jaxembed import data

Q, DOCUMENTS, R = 60, 90, 12
RNG = np.random.default_rng(0)
RANKED = np.stack([RNG.permutation(DOCUMENTS)[:R] for _ in range(Q)])
GRAPH = data.proximity_graph(RANKED, query_window=(0, 6), document_window=(4, 12))
OWN = RNG.integers(0, DOCUMENTS, Q)
WALKS = [("depth", 1, 1), ("breadth", 1, 1), ("depth", 3, 2), ("breadth", 2, 2)]


def leads(document):
    return {q for q in range(Q) if document in RANKED[q, 4:12]}


def test_the_graph_has_the_edges_of_both_windows():
    np.testing.assert_array_equal(GRAPH["documents"], RANKED[:, :6])
    for d in range(len(GRAPH["starts"]) - 1):
        assert set(GRAPH["queries"][GRAPH["starts"][d] : GRAPH["starts"][d + 1]]) == leads(d)
    padded = np.where(np.arange(R) < 8, RANKED, -1)
    graph = data.proximity_graph(padded, query_window=(0, 12), document_window=(0, 12))
    assert len(graph["queries"]) == 8 * Q


@pytest.mark.parametrize(("order", "restarts", "negatives"), WALKS)
def test_a_walk_follows_its_edges_in_its_order(order, restarts, negatives):
    """The queue of the paper, by hand: the chosen negatives are taken from the batch, the rest is checked."""
    found = data.locality_batches(
        GRAPH, OWN, 12, seed=3, order=order, restarts=restarts, negatives=negatives, count=DOCUMENTS
    )
    used = set()
    for rows, documents, restart in zip(
        *(found[n] for n in ("queries", "documents", "restart")), strict=True
    ):
        queue = []
        for i, (query, own) in enumerate(zip(rows.tolist(), documents.tolist(), strict=True)):
            begins = i % -(-12 // restarts) == 0
            queue = [q for q in queue if q not in used]
            assert restart[i] == (begins or not queue)
            if not restart[i]:
                assert query == (queue[-1] if order == "depth" else queue[0])
                earlier = documents[:i, 1:].reshape(-1)
                assert any(d in RANKED[query, 4:12] for d in earlier)  # it shares a document
            assert query not in used and own[0] == OWN[query]
            used.add(query)
            assert all(d in RANKED[query, :6] for d in own[1:])
            for d in own[1:]:
                queue += (
                    [int(q) for q in GRAPH["queries"][GRAPH["starts"][d] : GRAPH["starts"][d + 1]]]
                    if d + 1 < len(GRAPH["starts"])
                    else []
                )
        inside = documents[:, 1:].reshape(-1)
        assert len(set(inside.tolist())) == len(inside)  # no negative twice
    assert len(used) == Q // 12 * 12


def test_an_epoch_depends_on_its_seed_alone():
    first, again, other = (data.locality_batches(GRAPH, OWN, 12, seed=s) for s in ((0, 1), (0, 1), (0, 2)))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert (first["queries"] != other["queries"]).any()


def test_without_edges_batches_are_random():
    graph = data.proximity_graph(RANKED, query_window=(0, 0), document_window=(0, 0))
    found = data.locality_batches(graph, OWN, 10, seed=0, count=DOCUMENTS)
    assert found["restart"].all() and sorted(found["queries"].reshape(-1)) == list(range(Q))
    order = np.concatenate(
        [
            data.locality_batches(graph, OWN, 10, seed=s, count=DOCUMENTS)["queries"].reshape(-1)
            for s in range(50)
        ]
    )
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.1
    negatives = found["documents"][..., 1]
    assert len(np.unique(negatives)) > 30 and not (negatives == found["documents"][..., 0]).any()


def test_one_of_several_documents_is_drawn_and_a_short_window_is_filled():
    lists = [[1, 2, 3] for _ in range(Q)]
    found = data.locality_batches(GRAPH, lists, 20, seed=0, negatives=3, count=200)
    assert set(found["documents"][..., 0].reshape(-1)) == {1, 2, 3}
    narrow = data.proximity_graph(RANKED, query_window=(0, 1), document_window=(0, 2))
    found = data.locality_batches(narrow, OWN, 20, seed=0, negatives=3, count=200)
    assert (found["documents"][..., 1:] >= DOCUMENTS).any()  # random documents


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "random"}, "order: 'random'; choose depth or breadth"),
        ({"size": 61}, "size: 61 is outside 1..60"),
        ({"restarts": 11}, "restarts: 11 is outside 1..10"),
        ({"negatives": -1}, "negatives: -1 is below 0"),
        ({"count": 15}, "size: 10 needs 20 documents, of 15"),
        ({"positives": OWN[:5]}, "positives: 5 for 60 queries"),
        ({"positives": [[]] * Q}, r"positives\[0\]: is empty; leave out queries that nothing answers"),
        ({"positives": OWN - 90}, "positives: hold something that is not a document's number"),
    ],
)
def test_bad_arguments_get_one_line(options, message):
    given = {"positives": OWN, "size": 10, "seed": 0} | options
    with pytest.raises(ValueError, match=message) as error:
        data.locality_batches(GRAPH, given.pop("positives"), given.pop("size"), **given)
    assert "\n" not in str(error.value)


def test_ranks_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"document_window: \(0, 20\) is outside the 12 ranks of ranked"):
        data.proximity_graph(RANKED, query_window=(0, 6), document_window=(0, 20))
    with pytest.raises(ValueError, match="ranked: float64 .*; pass integers"):
        data.proximity_graph(RANKED / 2)
