"""Token sets into an index on disk, and queries into ranked documents, as one call each."""

import jax
import numpy as np
import oracles_search as oracles
import pytest

from jaxembed import data, recipes, search, vectors

SETS = data.toy.token_sets(1, documents=40, queries=6, width=8)
TOKENS = np.split(SETS["tokens"], SETS["offsets"][1:-1])
NAMES = [f"d{n}" for n in range(40)]
PARAMS = vectors.init_fde(jax.random.key(0), 8, repetitions=4, planes=2, projected=4)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return recipes.index_sets(folder, zip(NAMES, TOKENS, strict=True), PARAMS, dtype=np.float32)


def exact():
    """Chamfer scores [B, N] by loops."""
    return np.array([[oracles.chamfer(q, t) for t in TOKENS] for q in SETS["queries"]])


def test_every_candidate_scored_gives_the_exact_order(index):
    wanted = np.argsort(-exact(), axis=1, kind="stable")[:, :5]
    scores, ids = recipes.search_sets(index, SETS["queries"], SETS["mask"], 5, candidates=1000)
    assert ids.tolist() == [[NAMES[n] for n in row] for row in wanted]
    np.testing.assert_allclose(scores, np.take_along_axis(exact(), wanted, axis=1), rtol=1e-4)


def test_few_candidates_are_those_of_the_largest_inner_product(index):
    encoded = vectors.encode_queries(PARAMS, SETS["queries"], SETS["mask"])
    _, near = search.top_k(encoded, index.columns["fde"][:], 7)
    _, ids = recipes.search_sets(index, SETS["queries"], SETS["mask"], 7, candidates=7)
    assert [set(row) for row in ids] == [{NAMES[n] for n in row} for row in np.asarray(near)]


def test_another_score_and_its_form_are_taken(index):
    given = index, SETS["queries"], SETS["mask"], 3
    scores, ids = recipes.search_sets(*given)
    padded, same = recipes.search_sets(*given, flat=False)
    np.testing.assert_array_equal(ids, same)
    np.testing.assert_allclose(scores, padded, rtol=1e-5)

    def fewest(queries, documents, query_mask, document_mask):
        return -document_mask.sum(axis=1)[None].astype(np.float32)

    scores, _ = recipes.search_sets(*given, score=fewest, flat=False, candidates=40)
    assert (scores == -np.sort([len(t) for t in TOKENS])[:3]).all()


def test_params_are_drawn_for_the_first_document_and_a_killed_build_goes_on(tmp_path):
    def documents(first):
        return zip(range(first, 40), TOKENS[first:], strict=True)

    class Killed(Exception):
        pass

    def killed():
        yield from list(documents(0))[:25]
        raise Killed

    with pytest.raises(Killed):
        recipes.index_sets(tmp_path, killed(), shard_size=10)
    index = recipes.index_sets(tmp_path, documents, shard_size=10)
    wanted = vectors.init_fde(jax.random.key(0), 8)
    np.testing.assert_array_equal(index.params["planes"], wanted["planes"])
    assert index.columns["fde"].dtype == np.float16 and index.ids.tolist() == list(range(40))
    np.testing.assert_array_equal(
        recipes.index_sets(tmp_path, documents, shard_size=10).offsets, SETS["offsets"]
    )


def test_bad_input_is_named(index, tmp_path):
    asked, mask, find, build = SETS["queries"], SETS["mask"], recipes.search_sets, recipes.index_sets
    plain = search.build_documents(tmp_path / "plain", zip(NAMES, TOKENS, strict=True), _count)
    cases = [
        (lambda: find(plain, asked, mask, 3), "^index: columns vectors without encodings 'fde'"),
        (lambda: find(index, asked, mask, 41), r"^k: 41 is outside 1\.\.40"),
        (lambda: find(index, asked[..., :4], mask, 3), "^tokens: width 4, but params"),
        (lambda: build(tmp_path / "a", []), "^documents: none; give pairs"),
        (lambda: build(tmp_path / "b", [("x", np.ones(3))]), r"^documents: 'x' has tokens \(3,\)"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def _count(params, tokens, mask):
    return mask.sum(axis=1)
