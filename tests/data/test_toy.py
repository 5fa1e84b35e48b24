"""Generated data with known answers: what the labels say, sizes, seeds, bad arguments."""

import numpy as np
import pytest

from jaxembed import data
from jaxembed.data import toy


def test_a_text_holds_one_key_which_is_its_label():
    batch = toy.needles(0, count=3000)
    ids, labels = batch["ids"], batch["labels"]
    keys = ids < 20
    assert ids.shape == (3000, 32) and (keys.sum(axis=1) == 1).all() and (ids[keys] == labels).all()
    assert set(ids.flat) == set(range(520))
    for found, size in ((labels, 20), (keys.argmax(axis=1), 32)):  # labels and places are all alike
        np.testing.assert_allclose(np.bincount(found, minlength=size), 3000 / size, rtol=0.4)


def test_the_label_says_whether_the_first_letter_is_the_last():
    batch = toy.both_ends(0, count=3000)
    ids, labels = batch["ids"], batch["labels"]
    np.testing.assert_array_equal(labels, ids[:, 0] == ids[:, -1])
    assert ids.shape == (3000, 12) and set(ids.flat) == set(range(8))
    assert labels.mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(np.bincount(ids[:, -1]), 3000 / 8, rtol=0.2)  # either end alone says nothing
    assert np.corrcoef(ids[:, -1], labels)[0, 1] == pytest.approx(0, abs=0.05)


def test_two_letters_far_apart_are_in_the_order_of_the_label():
    batch = toy.far_order(0, count=3000, gap=4)
    first, second = (np.argmax(batch["ids"] == letter, axis=1) for letter in (0, 1))
    np.testing.assert_array_equal(batch["labels"], first < second)
    assert all((np.sum(batch["ids"] == letter, axis=1) == 1).all() for letter in (0, 1))
    assert set(abs(first - second)) == set(range(4, 9))
    assert batch["labels"].mean() == pytest.approx(0.5, abs=0.03)


SIZES = {
    toy.needles: {"count": 5, "length": 6, "keys": 3, "noise": 4},
    toy.both_ends: {"count": 5, "length": 6, "letters": 3},
    toy.far_order: {"count": 5, "length": 6, "letters": 3, "gap": 5},
}


@pytest.mark.parametrize("draw", SIZES, ids=lambda draw: draw.__name__)
def test_a_seed_draws_the_same_and_a_generator_goes_on(draw):
    one, again, other = (draw(seed, **SIZES[draw]) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one["ids"], again["ids"])
    assert not np.array_equal(one["ids"], other["ids"])
    rng = np.random.default_rng(3)
    first, second = (draw(rng, **SIZES[draw]) for _ in range(2))
    np.testing.assert_array_equal(first["ids"], one["ids"])
    assert not np.array_equal(second["ids"], one["ids"])
    assert one["ids"].shape == (5, 6) and {x.dtype for x in one.values()} == {np.dtype(np.int32)}


@pytest.mark.parametrize("draw, name", [(draw, name) for draw, sizes in SIZES.items() for name in sizes])
def test_sizes_have_a_least(draw, name):
    least = {"length": 2, "letters": 2} if draw is toy.both_ends else {"length": 6, "letters": 3}
    least = least.get(name, 1) if draw is not toy.needles else 1
    draw(0, **SIZES[draw] | {name: least})
    with pytest.raises(ValueError, match=f"^{name}: {least - 1} is below {least}; pass a larger integer"):
        draw(0, **SIZES[draw] | {name: least - 1})


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


def test_relevance_scores_follow_their_formula_and_no_threshold_on_them_is_good():
    drawn = toy.relevance_scores(3, queries=400, candidates=50, width=8)
    labels, z = drawn["labels"], drawn["latent"]
    assert labels.sum(axis=1).min() == 1 and labels.sum(axis=1).max() == 10
    np.testing.assert_allclose([z[labels].mean(), z[~labels].mean()], [1.5, -1.5], atol=0.1)
    np.testing.assert_allclose(np.linalg.norm(drawn["queries"], axis=1), 1, rtol=1e-5)
    fits = [
        np.polyfit(a, b, 1) for a, b in zip(z, drawn["scores"], strict=True)
    ]  # spread and centre of a query
    spread, centre = np.transpose(fits)
    assert 0.03 * np.exp(-0.7) <= spread.min() < 0.02 < 0.05 < spread.max() <= 0.03 * np.exp(0.7) + 1e-6
    assert centre.min() + 1e-6 >= 0.35 and centre.max() <= 0.65 + 1e-6 and centre.std() > 0.05
    with pytest.raises(ValueError, match="candidates: 9 is below 10"):
        toy.relevance_scores(0, candidates=9)


def test_documents_hold_as_many_keywords_of_their_labels_as_asked():
    drawn = toy.aspect_documents(1, documents=200, labels=5, tokens=(3, 1, 6), noise=20)
    ids, labels = drawn["ids"], drawn["labels"]
    assert ids.shape == (200, 30) and drawn["vocabulary"] == 1090 and ids.max() < 1090
    own = (ids - 1000) // 6  # number of the label that a keyword belongs to, below 0 for noise
    for aspect, count in enumerate((3, 1, 6)):
        np.testing.assert_array_equal((own == (5 * aspect + labels[:, [aspect]])).sum(axis=1), count)
    assert ((ids < 1000).sum(axis=1) == 20).all()
    np.testing.assert_allclose(np.bincount(labels[:, 1]), 40, atol=20)
    with pytest.raises(ValueError, match="noise: -1 is below 0"):
        toy.aspect_documents(0, noise=-1)


def test_planted_clicks_are_what_their_truth_says():
    table = toy.planted_clicks(3, rows=60_000, values=12)
    ids, labels = table["columns"]["ids"], table["columns"]["labels"]
    assert [len(rows) for rows in table["splits"].values()] == [40_000, 10_000, 10_000]
    assert np.array_equal(np.concatenate([*table["splits"].values()]), np.arange(60_000))
    assert table["sizes"] == dict.fromkeys(ids, 12)
    spreads = {}
    for name, x in ids.items():
        counts = np.bincount(x, minlength=12)
        assert counts[0] > 2 * counts[3] > 2 * counts[11] > 0  # Zipf
        means = np.bincount(x, labels, 12) / counts
        noise = np.sqrt(0.25 / counts)
        spreads[name] = np.abs(means - labels.mean()) / noise
    useful = table["useful"]
    assert np.mean([s[useful[n]] for n, s in spreads.items() if useful[n].all()]) > 4
    assert np.max(spreads["f6"]) < 4 and np.max(spreads["f7"]) < 4


def test_planted_clicks_come_again_with_their_seed():
    first, again, other = (toy.planted_clicks(s, rows=600)["columns"]["labels"] for s in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    with pytest.raises(ValueError, match="rows: 5 is below 6"):
        toy.planted_clicks(0, rows=5)
    with pytest.raises(ValueError, match="values: 1 is below 2"):
        toy.planted_clicks(0, values=1)
