"""Reranking, retrieval and candidates of single vectors equal the loops."""

import jax
import numpy as np
import oracles_search as oracles
import pytest
from document_cases import DOCUMENTS, EXACT, FLAT, LENGTHS, MASK, OFFSETS, QUERIES, ranked, refused

from jaxembed import search, vectors

RNG = np.random.default_rng(31)


def rerank(places, k=None, *, tokens=FLAT, mask=MASK):
    return search.rerank(QUERIES, mask, places, k, **EXACT | {"tokens": tokens})


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("chunk", [2, 64])
def test_reranking_equals_the_loops(chunk, flat):
    places = np.array([RNG.permutation(23)[:12] for _ in range(3)])
    places[1, 4:] = -1
    places[0, 3] = places[0, 2]
    queries = np.where(MASK[..., None], QUERIES, np.nan)  # padding never matters
    for k in (1, 6, None):
        options = EXACT | {"chunk": chunk}
        if flat:
            options |= {"score": vectors.chamfer_flat, "flat": True}
        scores, found = search.rerank(queries, MASK, places, k, **options)
        assert scores.shape == found.shape == (3, k or 12)
        for b in range(3):
            own, values = ranked(b, places[b].tolist(), k or 12)
            assert found[b].tolist() == own + [-1] * ((k or 12) - len(own))
            np.testing.assert_allclose(scores[b, : len(own)], values, rtol=1e-5, atol=1e-5)
            assert (scores[b, len(own) :] == -np.inf).all()


def test_retrieval_with_every_candidate_is_exact_and_carving_changes_only_the_score(tmp_path):
    key = jax.random.key(0)
    params = {"fde": vectors.init_fde(key, 4, repetitions=3, planes=2, projected=4)}

    def fde(params, tokens, mask):
        return {"fde": vectors.encode_documents(params["fde"], tokens, mask)}

    index = search.build_documents(tmp_path, DOCUMENTS, fde, params=params, batch_size=8)
    seen = []

    def first(queries, mask, size):
        seen.append((queries, mask))
        encoded = vectors.encode_queries(index.params["fde"], queries, mask)
        return search.top_k(encoded, index.columns["fde"], size)[1]

    def halve(queries, mask):
        return queries, mask & (np.arange(5) < 2)

    arguments = (first, QUERIES, MASK, 5)
    given = {"score": vectors.chamfer, "tokens": index.tokens, "offsets": index.offsets}
    scores, places = search.retrieve(*arguments, **given, candidates=1000)
    same, ids = search.retrieve(*arguments, **given, candidates=1000, ids=index.ids)
    np.testing.assert_array_equal(same, scores)
    np.testing.assert_array_equal(ids, index.ids[places])
    for b in range(3):
        assert places[b].tolist() == ranked(b, range(23), 5)[0]
    few_scores, few = search.retrieve(*arguments, **given, candidates=8)
    candidates = first(QUERIES, MASK, 8)
    for b in range(3):
        assert few[b].tolist() == ranked(b, candidates[b].tolist(), 5)[0]
    carved, kept = search.retrieve(*arguments, **given, candidates=1000, carve=halve)
    np.testing.assert_array_equal(seen[-1][1], MASK)
    wanted = search.rerank(*halve(QUERIES, MASK), np.tile(np.arange(23), (3, 1)), 5, **EXACT)
    np.testing.assert_array_equal(kept, wanted[1])
    np.testing.assert_allclose(carved, wanted[0])
    refused("^k: 24 is outside 1..23", lambda: search.retrieve(*arguments[:-1], 24, **given, candidates=1000))
    refused("^k: 9 is outside 1..8", lambda: search.retrieve(*arguments[:-1], 9, **given, candidates=8))
    pair = (lambda *asked: (None, first(*asked)), *arguments[1:])
    refused("^first: returns 2 values; return the places", lambda: search.retrieve(*pair, **given))


def test_documents_are_named_by_their_ids_and_missing_ones_by_none():
    places = np.array([[2, 0, -1], [3, -1, -1], [0, 4, 2]])
    names = np.array([f"document {n}" for n in range(23)])
    scores, found = search.rerank(QUERIES, MASK, places, **EXACT)
    _, named = search.rerank(QUERIES, MASK, places, **EXACT, ids=names)
    _, numbered = search.rerank(QUERIES, MASK, places, **EXACT, ids=7 + np.arange(23))
    missing = np.array([[False, False, True], [False, True, True], [False] * 3])
    np.testing.assert_array_equal(found < 0, missing)
    np.testing.assert_array_equal(scores == -np.inf, missing)
    assert named.tolist() == [["" if n < 0 else f"document {n}" for n in row] for row in found]
    np.testing.assert_array_equal(numbered, np.where(found < 0, -1, found + 7))
    bad = {r"^ids: \(3,\) for 23 documents": names[:3], "^ids: are float64; pass": np.arange(23.0)}
    for message, ids in bad.items():
        refused(message, lambda ids=ids: search.rerank(QUERIES, MASK, places, **EXACT, ids=ids))


@pytest.mark.parametrize("deduplicate", [True, False])
@pytest.mark.parametrize(("size", "neighbours"), [(10, None), (60, 7), (3, 2)])
def test_single_vector_candidates_equal_the_loops(size, neighbours, deduplicate):
    queries = np.where(MASK[..., None], QUERIES, np.nan)
    found = search.single_vector_candidates(
        FLAT, OFFSETS, queries, MASK, size, neighbours=neighbours, deduplicate=deduplicate
    )
    owners = np.repeat(np.arange(23), LENGTHS)
    for b in range(3):
        wanted = oracles.interleaved(QUERIES[b][MASK[b]], FLAT, owners, neighbours or size, deduplicate)[
            :size
        ]
        assert found[b].tolist() == wanted + [-1] * (size - len(wanted))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: rerank([[23]] * 3), "places"),
        (lambda: rerank([[0]] * 2), "places"),
        (lambda: rerank([[0, 1]] * 3, 3), "k"),
        (lambda: rerank([[0]] * 3, tokens=FLAT[:, :3]), "tokens"),
        (lambda: rerank([[0]] * 3, tokens=FLAT[:9]), "offsets"),
        (lambda: rerank([[0]] * 3, mask=MASK[:, :4]), "queries"),
        (lambda: search.rerank(QUERIES, MASK, [[0]] * 3, **EXACT, chunk=0), "chunk"),
        (lambda: search.single_vector_candidates(FLAT, OFFSETS, QUERIES, MASK, 0), "size"),
        (lambda: search.single_vector_candidates(FLAT, OFFSETS, QUERIES, MASK, 3, neighbours=999), "k"),
    ],
)
def test_pipeline_errors_name_the_argument(call, name):
    refused(f"^{name}: ", call)
