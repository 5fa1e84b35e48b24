"""Search in two grains: exact limits, the mix by hand, files on disk, bad input."""

import jax
import numpy as np
import pytest

from jaxembed import recipes, vectors

RNG = np.random.default_rng(0)
N, D = 80, 8
DOCUMENTS = RNG.normal(size=(N, D)).astype(np.float32)
QUERIES = RNG.normal(size=(5, D)).astype(np.float32)
DENSE = RNG.normal(size=(N, 3)).astype(np.float32)
ASKED = RNG.normal(size=(5, 3)).astype(np.float32)
PARAMS = vectors.fit_product(jax.random.key(0), DOCUMENTS, group=2, centres=8)
CODES = np.asarray(vectors.encode_product(PARAMS, DOCUMENTS))
COARSE = QUERIES @ np.asarray(vectors.decode_product(PARAMS, CODES)).T


def by_hand(candidates, mix, k):
    """Sorts candidates by the sum of both scores."""
    ids = []
    for q in range(5):
        kept = np.argsort(-COARSE[q], kind="stable")[:candidates]
        scores = DENSE[kept] @ ASKED[q] + mix * COARSE[q, kept]
        ids.append(kept[np.argsort(-scores, kind="stable")][:k])
    return np.array(ids)


@pytest.mark.parametrize("candidates", [4, 30, 1000])
@pytest.mark.parametrize("mix", [0.0, 0.3, 2.0])
def test_candidates_come_from_codes_and_the_order_from_both(candidates, mix, tmp_path):
    np.save(tmp_path / "dense.npy", DENSE)
    held = np.load(tmp_path / "dense.npy", mmap_mode="r")
    options = {"dense_queries": ASKED, "candidates": candidates, "mix": mix}
    scores, ids = recipes.bigranular_search(PARAMS, CODES, held, QUERIES, 4, **options)
    np.testing.assert_array_equal(ids, by_hand(candidates, mix, 4))
    wanted = np.take_along_axis(ASKED @ DENSE.T + mix * COARSE, ids, axis=1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_all_candidates_and_no_mix_are_the_exact_search():
    _, ids = recipes.bigranular_search(PARAMS, CODES, DOCUMENTS, QUERIES, N, mix=0.0)
    np.testing.assert_array_equal(ids, np.argsort(-(QUERIES @ DOCUMENTS.T), axis=1, kind="stable"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": CODES[:, :3]}, r"product_codes: \(80, 3\), but the code book has 4 parts"),
        ({"codes": CODES + 8}, "product_codes: number 15 of 8 centres; pass the code book's own"),
        ({"codes": CODES[:9]}, "product_codes: 9 rows for 80 documents"),
        ({"k": 81}, "k: 81 is outside 1..80, the number of candidates"),
        ({"queries": QUERIES * np.nan}, "queries: row 0 is not finite; embed it again"),
        ({"dense_queries": ASKED[:2]}, "dense_queries: 2 rows for 5 queries"),
        (
            {"queries": QUERIES[:, :6], "dense_queries": QUERIES},
            "queries: .*, but the codebooks take width 8",
        ),
    ],
)
def test_bad_arguments_get_one_line(change, message):
    given = {"codes": CODES, "queries": QUERIES, "k": 3} | change
    with pytest.raises(ValueError, match=message) as error:
        recipes.bigranular_search(
            PARAMS,
            given["codes"],
            DOCUMENTS,
            given["queries"],
            given["k"],
            dense_queries=given.get("dense_queries"),
        )
    assert "\n" not in str(error.value)
