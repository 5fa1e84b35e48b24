"""Generated data have the properties that their docstrings state."""

import numpy as np
import pytest

from jaxembed import data


@pytest.mark.parametrize("shift, wanted", [(0, 0.0), (1, 0.47), (2, 0.78)])
def test_tokens_are_unit_vectors_with_the_stated_mean_cosine(shift, wanted):
    sets = data.toy.token_sets(3, shift=shift, documents=300, queries=50)
    tokens, offsets = sets["tokens"], sets["offsets"]
    assert tokens.dtype == sets["queries"].dtype == np.float32
    assert sets["queries"].shape == (50, 8, 64) and sets["mask"].shape == (50, 8) and sets["mask"].all()
    np.testing.assert_allclose(np.linalg.norm(tokens, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(sets["queries"], axis=2), 1, rtol=1e-5)
    assert set(np.diff(offsets)) <= set(range(8, 25)) and offsets[-1] == len(tokens)
    total = np.sum(tokens.sum(axis=0) ** 2)
    assert (total - len(tokens)) / (len(tokens) * (len(tokens) - 1)) == pytest.approx(wanted, abs=0.02)


def test_a_query_is_nearest_to_tokens_of_its_own_document():
    sets = data.toy.token_sets(0, shift=0, documents=100, queries=20)
    assert len(set(sets["sources"])) == 20
    owners = np.repeat(np.arange(100), np.diff(sets["offsets"]))
    nearest = owners[np.argmax(sets["queries"] @ sets["tokens"].T, axis=2)]
    assert (nearest == sets["sources"][:, None]).mean() > 0.9


def test_a_seed_draws_the_same_sets_again_and_another_one_others():
    one, two, other = (data.toy.token_sets(seed, documents=20, queries=5, width=4) for seed in (7, 7, 8))
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name])
    assert not np.array_equal(one["queries"], other["queries"])


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"documents": 0}, "^documents: 0 is below 1"),
        ({"queries": 0}, "^queries: 0 is below 1"),
        ({"width": 0}, "^width: 0 is below 1"),
        ({"documents": 3, "queries": 4}, "^queries: 4 of 3 documents"),
    ],
)
def test_bad_sizes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        data.toy.token_sets(0, **sizes)
