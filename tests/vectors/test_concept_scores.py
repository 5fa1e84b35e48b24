"""Scores in a space with names: contributions, sets, deletion, permutation, sparse lists, classic ESA."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from jaxembed import encoders, losses, vectors

RNG = np.random.default_rng(0)
B, N, K = 4, 6, 8
A = RNG.random((B, K)).astype(np.float32)
D = RNG.random((N, K)).astype(np.float32)
W = RNG.random(K).astype(np.float32)
KEPT = vectors.top_concepts(D, 2)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("weights", [None, W], ids=["even", "weighted"])
def test_contributions_sum_to_the_score_and_none_is_negative(normalise, weights):
    options = {"weights": weights, "normalise": normalise}
    scores = vectors.explicit_similarity(A, D, **options)
    first, second = (oracles.unit(x) if normalise else x for x in (A, D))
    wanted = [
        [sum(a[c] * d[c] * (1 if weights is None else weights[c]) for c in range(K)) for d in second]
        for a in first
    ]
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)
    concepts, parts = vectors.explain(A, D[:B], top=K, **options)
    np.testing.assert_allclose(np.sum(parts, axis=1), np.diagonal(scores), rtol=1e-5)
    assert (np.asarray(parts) >= 0).all() and (np.diff(parts, axis=1) <= 0).all()
    assert all(sorted(row) == list(range(K)) for row in np.asarray(concepts).tolist())
    few, some = vectors.explain(A[0], D[0], top=3, **options)
    np.testing.assert_array_equal(few, concepts[0, :3])
    np.testing.assert_allclose(some, parts[0, :3], rtol=1e-6)


def test_a_concept_that_is_deleted_takes_exactly_its_contribution():
    whole = vectors.explicit_similarity(A, D, weights=W, normalise=False)
    for c in range(K):
        less = vectors.explicit_similarity(A, D, weights=np.where(np.arange(K) == c, 0, W), normalise=False)
        np.testing.assert_allclose(whole - less, np.outer(A[:, c], D[:, c]) * W[c], rtol=1e-4, atol=1e-6)


def test_sets_score_their_intersection_and_ochiai():
    first, second = (
        (RNG.random((B, K)) < 0.4).astype(np.float32),
        (RNG.random((N, K)) < 0.4).astype(np.float32),
    )
    first[0] = 0  # a set without concepts
    sets = [set(np.flatnonzero(x)) for x in first], [set(np.flatnonzero(x)) for x in second]
    sizes = np.array([[len(a & b) for b in sets[1]] for a in sets[0]])
    np.testing.assert_allclose(vectors.explicit_similarity(first, second, normalise=False), sizes)
    ochiai = [[len(a & b) / max(1, (len(a) * len(b)) ** 0.5) for b in sets[1]] for a in sets[0]]
    np.testing.assert_allclose(vectors.explicit_similarity(first, second), ochiai, rtol=1e-5)


def test_an_order_of_axes_means_nothing_to_scores_and_something_to_labels():
    order, labels = RNG.permutation(K), (RNG.random((B, K)) < 0.5).astype(np.float32)
    plain = vectors.explicit_similarity(A, D)
    np.testing.assert_allclose(vectors.explicit_similarity(A[:, order], D[:, order]), plain, rtol=1e-5)
    logits = RNG.normal(size=(B, K)).astype(np.float32)
    turned = losses.concept_loss(logits[:, order], labels)
    assert np.abs(turned - losses.concept_loss(logits, labels)).max() > 0.01


def test_the_expected_overlap_of_independent_concepts_is_the_score():
    drawn = RNG.random((2, 20000, K)) < np.stack([A[0], D[0]])[:, None]
    counted = (drawn[0] & drawn[1]).sum(axis=1).mean()
    assert vectors.explicit_similarity(A[:1], D[:1], normalise=False)[0, 0] == pytest.approx(
        counted, rel=0.03
    )


def test_the_gradient_is_zero_where_the_partner_lacks_the_concept():
    logits = jnp.asarray(RNG.normal(size=K), jnp.float32)
    partner = jnp.where(jnp.arange(K) % 2, D[0], 0)

    def score(logits):
        own = encoders.concept_vectors(logits[None])
        return vectors.explicit_similarity(own, partner[None], weights=W, normalise=False)[0, 0]

    slope = jax.grad(score)(logits)
    s = 1 / (1 + np.exp(-np.asarray(logits)))
    np.testing.assert_allclose(slope, partner * W * s * (1 - s), rtol=1e-4, atol=1e-7)
    assert (np.asarray(slope)[::2] == 0).all()


@pytest.mark.parametrize("k", [1, 3, K])
def test_sparse_lists_score_as_the_dense_vectors(k):
    concepts, values = vectors.top_concepts(D, k)
    dense = np.where(np.argsort(np.argsort(-D, axis=1, kind="stable"), axis=1) < k, D, 0)
    found = vectors.sparse_similarity(A, concepts, values)
    np.testing.assert_allclose(found, vectors.explicit_similarity(A, dense, normalise=False), rtol=1e-5)


def test_classic_esa_is_the_product_of_tf_idf():
    texts = ["a small dog barks", "cats sleep", "nothing alike here"]
    concepts = ["the dog is an animal that barks", "the cat sleeps", "cats and dogs sleep"]
    reader = TfidfVectorizer().fit(texts + concepts)
    x, c = (reader.transform(t).toarray() for t in (texts, concepts))
    found = np.asarray(vectors.esa_vectors(x, c))
    np.testing.assert_allclose(found, x @ c.T, rtol=1e-5, atol=1e-7)
    assert (found[2] == 0).all()  # an empty vector scores 0, not NaN
    assert np.asarray(vectors.explicit_similarity(found, found))[2].tolist() == [0, 0, 0]
    head = {"kernel": c.T.astype(np.float32), "bias": np.zeros(3, np.float32)}
    frozen = encoders.concept_vectors(encoders.prefix_dense(head, x.astype(np.float32)), kind="linear")
    np.testing.assert_allclose(frozen, found, rtol=1e-5, atol=1e-7)  # the limit of the learned head


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vectors.explicit_similarity(A[:, :0], D[:, :0]), "first: no concepts; pass at least one"),
        (lambda: vectors.explicit_similarity(A, D[:, :5]), "second: 5 concepts, but first has 8"),
        (lambda: vectors.explicit_similarity(A, D, weights=W[:3]), r"weights: shape \(3,\); pass \[8\]"),
        (lambda: vectors.explain(A, D), r"second: shape \(6, 8\); pass \[4, 8\]"),
        (lambda: vectors.explain(A, A, top=9), "top: 9 is outside 1..8, the number of concepts"),
        (lambda: vectors.explicit_similarity(A * np.nan, D), "first: NaN has no code and no score; mend"),
        (lambda: vectors.explicit_similarity(A, D, weights=W * np.nan), "weights: NaN has no"),
        (lambda: vectors.explain(A, A * np.nan), "second: NaN has no code and no score; mend"),
        (lambda: vectors.top_concepts(A[:, :0], 1), "vectors: no concepts; pass at least one"),
        (lambda: vectors.top_concepts(A * np.nan, 2), "vectors: NaN has no code and no score; mend"),
        (lambda: vectors.sparse_similarity(A * np.nan, *KEPT), "queries: NaN has no code and no score; mend"),
        (lambda: vectors.sparse_similarity(A, KEPT[0], KEPT[1] * np.nan), "values: NaN has no code"),
        (lambda: vectors.sparse_similarity(A[0], *KEPT), r"queries: shape \(8,\); pass \[any, any\]"),
        (
            lambda: vectors.sparse_similarity(A, KEPT[0], KEPT[1][:3]),
            r"values: shape \(3, 2\); pass \[6, 2\]",
        ),
        (lambda: vectors.top_concepts(A, 9), "k: 9 is outside 1..8, the number of concepts"),
        (
            lambda: vectors.sparse_similarity(A, np.array([[8]]), np.ones((1, 1))),
            r"concepts: a number outside 0..7",
        ),
        (lambda: vectors.esa_vectors(A * np.nan, A), "texts: NaN has no code and no score; mend"),
        (lambda: vectors.esa_vectors(A, A * np.nan), "concept_texts: NaN has no code and no score; mend"),
        (lambda: vectors.esa_vectors(A, A[:0]), "concept_texts: the list is empty"),
        (lambda: vectors.esa_vectors(A, A[:, :3]), r"concept_texts: shape \(4, 3\); pass \[any, 8\]"),
    ],
)
def test_bad_arguments_get_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_under_jit_nan_shows_in_the_scores_of_its_row_alone():
    broken, known = jnp.asarray(A).at[0, 3].set(jnp.nan), jnp.asarray(D)
    scores = np.asarray(jax.jit(lambda x: vectors.explicit_similarity(x, known))(broken))
    np.testing.assert_array_equal(np.isnan(scores), np.arange(B)[:, None] == np.zeros(N)[None])
    _, parts = jax.jit(lambda x: vectors.explain(x, A, normalise=False, top=1))(broken)
    np.testing.assert_array_equal(np.isnan(parts)[:, 0], np.arange(B) == 0)


def test_under_jit_nan_is_the_largest_entry_and_the_score_of_those_who_read_it():
    broken = jnp.asarray(D).at[0, 3].set(jnp.nan)
    concepts, values = jax.jit(lambda x: vectors.top_concepts(x, 2))(broken)
    assert concepts[0, 0] == 3 and np.isnan(values).sum() == 1
    scores = jax.jit(vectors.sparse_similarity)(A, concepts, values)
    np.testing.assert_array_equal(np.isnan(scores), np.arange(N)[None] == np.zeros(B)[:, None])


def test_kept_entries_may_be_constants_under_jit():
    found = jax.jit(lambda: vectors.sparse_similarity(A, *KEPT))()
    np.testing.assert_allclose(found, vectors.sparse_similarity(A, *KEPT), rtol=1e-6)
