"""Classes as rows of a table: invariances, the ensemble, prompts, expansion, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxembed import encoders, losses

RNG = np.random.default_rng(0)
VECTORS, TABLE = (RNG.normal(size=(n, 8)).astype(np.float32) for n in (5, 4))
BACKGROUND = RNG.normal(size=8).astype(np.float32) * 0.01
FIRST, SECOND = (RNG.dirichlet(np.ones(4), size=5).astype(np.float32) for _ in range(2))
BASE = np.array([True, True, False, False])


def test_logits_are_cosines_divided_by_the_temperature():
    table = np.concatenate([BACKGROUND[None], TABLE])
    expected = oracles.inner(oracles.unit(VECTORS), oracles.unit(table)) / 0.01
    found = encoders.cosine_logits(VECTORS, TABLE, background=BACKGROUND)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    plain = encoders.cosine_logits(VECTORS, TABLE)
    np.testing.assert_allclose(plain, found[:, 1:], rtol=1e-5, atol=1e-4)
    jitted = jax.jit(encoders.cosine_logits)(VECTORS, TABLE, background=BACKGROUND)
    np.testing.assert_allclose(jitted, found, rtol=1e-5, atol=1e-4)


def test_lengths_do_not_matter():
    found = encoders.cosine_logits(VECTORS, TABLE, background=BACKGROUND)
    stretch = np.array([1e-3, 2, 5, 100], np.float32)[:, None]
    longer = encoders.cosine_logits(7 * VECTORS, stretch * TABLE, background=30 * BACKGROUND)
    np.testing.assert_allclose(longer, found, rtol=1e-4, atol=1e-3)


def test_a_zero_vector_has_no_cosine_and_no_slope():
    tiny = VECTORS.copy()
    tiny[0], tiny[1] = 0, 1e-10
    found = encoders.cosine_logits(tiny, TABLE)
    assert not np.asarray(found)[:2].any() and np.asarray(found)[2:].all()
    slope = jax.grad(lambda v: encoders.cosine_logits(v, TABLE).sum())(jnp.asarray(tiny))
    assert not np.asarray(slope)[:2].any() and np.isfinite(np.asarray(slope)).all()


def test_the_table_is_frozen_and_the_background_is_not():
    def total(table, background, frozen):
        logits = encoders.cosine_logits(VECTORS, table, background=background, frozen=frozen)
        return losses.class_loss(logits, np.arange(5) % 5).sum()

    table, background = map(jnp.asarray, (TABLE, BACKGROUND))
    slopes = jax.grad(total, argnums=(0, 1))(table, background, True)
    assert not np.asarray(slopes[0]).any() and np.asarray(slopes[1]).any()
    assert np.asarray(jax.grad(total)(table, background, False)).any()


def test_a_new_class_changes_no_logit_of_others_and_takes_from_their_probability():
    more = np.concatenate([TABLE, RNG.normal(size=(2, 8)).astype(np.float32)])
    before, after = (encoders.cosine_logits(VECTORS, t, background=BACKGROUND) for t in (TABLE, more))
    np.testing.assert_allclose(after[:, :5], before, rtol=1e-5, atol=1e-4)
    assert (np.asarray(jax.nn.softmax(after)[:, :5] <= jax.nn.softmax(before))).all()


def test_narrow_vectors_are_compared_in_float32():
    narrow = jnp.asarray(VECTORS, jnp.bfloat16), jnp.asarray(TABLE, jnp.bfloat16)
    found = encoders.cosine_logits(*narrow)
    assert found.dtype == np.float32
    expected = encoders.cosine_logits(*(x.astype(jnp.float32) for x in narrow))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_without_a_text_loss_the_class_is_the_nearest_text():
    teacher = VECTORS[[0, 3]]
    logits = encoders.cosine_logits(3 * teacher, TABLE)
    nearest = (oracles.unit(teacher) @ oracles.unit(TABLE).T).argmax(axis=1)
    np.testing.assert_array_equal(np.asarray(logits).argmax(axis=1), nearest)


def test_the_ensemble_trusts_one_side_for_known_classes():
    one = np.asarray(encoders.geometric_ensemble(FIRST, SECOND, BASE, weight=1))
    np.testing.assert_allclose(one, np.where(BASE, FIRST, SECOND), rtol=1e-6)
    half = encoders.geometric_ensemble(FIRST, SECOND, BASE, weight=0.5)
    np.testing.assert_allclose(half, np.sqrt(FIRST * SECOND), rtol=1e-5)
    swapped = encoders.geometric_ensemble(FIRST, SECOND, ~BASE, weight=0.3)
    np.testing.assert_allclose(
        swapped, encoders.geometric_ensemble(FIRST, SECOND, BASE, weight=0.7), rtol=1e-5
    )
    same = encoders.geometric_ensemble(FIRST, FIRST, BASE)
    np.testing.assert_allclose(same, FIRST, rtol=1e-5)
    all_base = encoders.geometric_ensemble(FIRST, SECOND, np.ones(4, bool), weight=1)
    np.testing.assert_allclose(all_base, FIRST, rtol=1e-6)


def test_the_default_is_the_cube_root_of_the_code():
    third = np.where(BASE, FIRST, SECOND)
    expected = np.cbrt(FIRST * SECOND * third)
    np.testing.assert_allclose(encoders.geometric_ensemble(FIRST, SECOND, BASE), expected, rtol=1e-5)
    assert encoders.geometric_ensemble(np.zeros((1, 4)), SECOND[:1], BASE).sum() == 0


def test_expansion_multiplies_independent_probabilities():
    found = encoders.systematic_expansion(VECTORS[:, :3], VECTORS[:, 3:])
    assert found.shape == (5, 3, 5)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=2), jax.nn.softmax(VECTORS[:, :3]), rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), jax.nn.softmax(VECTORS[:, 3:]), rtol=1e-5)


def encode_texts(texts):
    """Vectors that tell texts apart: counts of some letters."""
    return np.array([[text.count(c) + 0.1 for c in "acdeghno"] for text in texts], np.float32)


def test_prompts_are_averaged_as_unit_vectors_with_their_synonyms():
    templates, names = ("a {}", "one {} on a road"), ["cat", ("dog", "hound")]
    found = encoders.prompt_ensemble(encode_texts, names, templates)
    for row, group in zip(found, (["cat"], ["dog", "hound"]), strict=True):
        texts = [t.replace("{}", n) for n in group for t in templates]
        mean = oracles.unit(encode_texts(texts)).mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-5)
    single = encoders.prompt_ensemble(encode_texts, ["cat"], "a {}")
    np.testing.assert_allclose(single, oracles.unit(encode_texts(["a cat"])), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encoders.cosine_logits(VECTORS, TABLE[:, :3]), "table: shape"),
        (lambda: encoders.cosine_logits(VECTORS[0], TABLE), "vectors: shape"),
        (lambda: encoders.cosine_logits(VECTORS, TABLE, background=TABLE), "background: shape"),
        (lambda: encoders.cosine_logits(VECTORS, TABLE, temperature=0), "temperature: 0 is not above 0"),
        (lambda: encoders.geometric_ensemble(FIRST, SECOND[:, :2], BASE), "second: shape"),
        (lambda: encoders.geometric_ensemble(FIRST, SECOND, BASE[:2]), "is_base: shape"),
        (lambda: encoders.systematic_expansion(VECTORS, VECTORS[:2]), "attributes: shape"),
        (lambda: encoders.prompt_ensemble(encode_texts, [], "a {}"), "names: a class without a name"),
        (lambda: encoders.prompt_ensemble(encode_texts, ["cat", []], "a {}"), "names: a class without"),
        (lambda: encoders.prompt_ensemble(encode_texts, ["cat"], []), "templates: each has to hold"),
        (lambda: encoders.prompt_ensemble(encode_texts, ["cat"], ["a"]), "templates: each has to hold"),
    ],
)
def test_wrong_arguments_of_vocabularies_raise_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
