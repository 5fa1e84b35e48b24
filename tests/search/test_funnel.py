"""Search by prefixes: a loop from the definition, its limits, files that are read in parts, bad arguments."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import search

RNG = np.random.default_rng(0)
DOCUMENTS, QUERIES = RNG.normal(size=(60, 16)), RNG.normal(size=(5, 16))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def oracle(query, sizes, keep, normalise):
    """The ids that are left after every size, one query at a time."""
    ids = list(range(len(DOCUMENTS)))
    for size, most in zip(sizes, keep, strict=True):
        q, d = query[:size], DOCUMENTS[:, :size]
        scores = (unit(d) @ unit(q)) if normalise else d @ q
        ids = sorted(ids, key=lambda i: (-scores[i], i))[:most]
    return ids, scores[ids]


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(
    ("sizes", "shortlists"), [((2, 16), (20,)), ((2, 4, 8, 16), (40, 20, 10)), ((4,), ())]
)
def test_the_funnel_equals_a_loop_over_its_stages(sizes, shortlists, normalise):
    scores, ids = search.funnel(
        QUERIES, DOCUMENTS, 6, sizes=sizes, shortlists=shortlists, normalise=normalise
    )
    for query, row, found in zip(QUERIES, np.asarray(ids), np.asarray(scores), strict=True):
        expected, values = oracle(query, sizes, (*shortlists, 6), normalise)
        np.testing.assert_array_equal(row, expected)
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)


def test_a_shortlist_of_all_documents_is_the_exact_search():
    scores, ids = search.funnel(QUERIES, DOCUMENTS, 7, sizes=(1, 16), shortlists=(60,), normalise=False)
    expected = search.top_k(QUERIES.astype(np.float32), DOCUMENTS.astype(np.float32), 7)
    np.testing.assert_array_equal(ids, expected[1])
    np.testing.assert_allclose(scores, expected[0], rtol=1e-5)


def test_equal_documents_come_in_the_order_of_their_ids():
    ids = search.funnel(np.ones((1, 4)), np.ones((9, 4)), 3, sizes=(2, 3, 4), shortlists=(8, 5))[1]
    assert ids.tolist() == [[0, 1, 2]]


def test_documents_on_disk_give_the_same_as_in_memory(tmp_path):
    np.save(tmp_path / "documents.npy", DOCUMENTS.astype(np.float16))
    mapped, given = (
        np.load(tmp_path / "documents.npy", mmap_mode="r"),
        {"sizes": (2, 16), "shortlists": (20,)},
    )
    expected = search.funnel(QUERIES, jnp.asarray(np.asarray(mapped)), 6, **given)
    found = search.funnel(QUERIES, mapped, 6, **given)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": ()}, "sizes: "),
        ({"sizes": (8, 4)}, "sizes: "),
        ({"sizes": (2, 17)}, r"sizes: .* in 1\.\.16"),
        ({"shortlists": ()}, "shortlists: 0 for 2 sizes"),
        ({"shortlists": (61,)}, "shortlists: "),
        ({"shortlists": (3,)}, "shortlists: "),
        ({"k": 0}, "shortlists: .* k=0"),
        ({"sizes": (2.0, 16)}, "sizes: 2.0 is not an integer; pass one"),
        ({"shortlists": (20.5,)}, "shortlists: 20.5 is not an integer"),
        ({"queries": QUERIES[:, :3]}, "documents: "),
    ],
)
def test_sizes_and_shortlists_out_of_order_are_refused(change, message):
    given = {"queries": QUERIES, "documents": DOCUMENTS, "k": 4, "sizes": (2, 16), "shortlists": (20,)}
    with pytest.raises(ValueError, match=message) as caught:
        search.funnel(**given | change)
    assert "\n" not in str(caught.value)


def test_nan_counts_as_the_lowest_score_at_every_stage():
    """The first prefix has no NaN: the document is handed on, and the longer prefix ranks it last."""
    spoiled = DOCUMENTS[:6].copy()
    spoiled[2, 10] = np.nan
    scores, ids = search.funnel(np.ones_like(spoiled[:1]), spoiled, 6, sizes=(2, 16), shortlists=(6,))
    assert np.asarray(ids)[0, -1] == 2 and np.asarray(scores)[0, -1] == -np.inf
    assert np.isfinite(np.asarray(scores)[0, :-1]).all()
