"""Heads on encoders: a dense layer on a prefix."""

import jax
import numpy as np
import oracles_losses
import pytest
from layered_encoder import D, head_and_table

from jaxembed import encoders


@pytest.mark.parametrize("size", [1, 5, D])
def test_a_prefix_through_a_dense_layer_is_the_padded_input(size):
    head, _ = head_and_table()
    x = np.random.default_rng(0).normal(size=(4, 3, size)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (0, D - size)))
    value = encoders.prefix_dense(head["dense"], x)
    np.testing.assert_allclose(value, encoders.prefix_dense(head["dense"], padded), atol=1e-5)
    expected = x @ head["dense"]["kernel"][:size] + head["dense"]["bias"]
    np.testing.assert_allclose(value, expected, atol=1e-5)
    np.testing.assert_allclose(encoders.lift(head, x), oracles_losses.lift(head, x), atol=1e-4)


# Concepts


def test_a_concept_head_starts_at_its_directions_and_shares():
    directions = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    shares = np.array([0.5, 0.1, 0.0, 1.0])
    params = encoders.init_concepts(jax.random.key(0), 6, 4, directions=directions, shares=shares, scale=3.0)
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(params["kernel"], 3 * (directions / lengths).T, rtol=1e-5)
    empty = encoders.concept_vectors(encoders.prefix_dense(params, np.zeros((1, 6), np.float32)))
    np.testing.assert_allclose(empty[0], shares, atol=1e-5)  # of an item that says nothing
    plain = encoders.init_concepts(jax.random.key(0), 6, 400)
    assert np.all(np.asarray(plain["bias"]) == 0) and np.std(plain["kernel"]) == pytest.approx(
        10 / 6**0.5, rel=0.1
    )


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("softplus", lambda x: np.log1p(np.exp(x))),
        ("linear", lambda x: x),
    ],
)
@pytest.mark.parametrize("k", [None, 1, 3])
def test_kinds_of_axes_equal_their_formulas_and_at_most_k_are_left(kind, formula, k):
    logits = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    found = np.asarray(encoders.concept_vectors(logits, kind=kind, k=k))
    kept = np.argsort(np.argsort(-logits, axis=1), axis=1) < (k or 7)
    np.testing.assert_allclose(found, np.where(kept, formula(logits.astype(float)), 0), rtol=1e-4, atol=1e-6)
    assert ((found != 0).sum(axis=1) <= (k or 7)).all()
    assert kind == "linear" or (found >= 0).all()
    if k == 1:
        tied = encoders.concept_vectors(np.zeros((1, 3), np.float32), kind="sigmoid", k=1)
        assert np.asarray(tied).tolist() == [[0.5, 0, 0]]


def test_bad_concepts_get_one_line():
    for call, message in [
        (
            lambda: encoders.init_concepts(jax.random.key(0), 3, 0),
            "concepts: the list is empty; name at least",
        ),
        (
            lambda: encoders.concept_vectors(np.zeros((1, 3)), kind="relu"),
            "kind: 'relu'; choose one of sigmoid",
        ),
        (lambda: encoders.concept_vectors(np.zeros((1, 3)), k=4), "k: 4 is outside 1..3"),
        (lambda: encoders.concept_vectors(np.zeros((1, 0))), "logits: no concepts; name"),
        (
            lambda: encoders.init_concepts(jax.random.key(0), 3, 2, directions=np.ones((2, 4))),
            "directions: shape",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_one_block_asks_for_the_blocks_of_a_transformer():
    with pytest.raises(ValueError, match=r"params: hold \['head'\], and no blocks; pass those of a transf"):
        encoders.one_block({"head": np.ones(2)})
