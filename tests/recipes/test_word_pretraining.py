"""Pre-training by masked words: ids of texts, what is hidden, what is learned, what is refused."""

import math

import jax
import numpy as np
import pytest

from jaxembed import data, losses, recipes

GRID = ((1, 4), (2, 8))


@pytest.fixture(scope="module")
def batch():
    """Texts that repeat one word each, so that a word can be read off its neighbours."""
    return data.word_ids([" ".join([f"w{'abcdef'[i % 6]}"] * 7) for i in range(96)], 20, length=8)


@pytest.fixture(scope="module")
def model():
    return recipes.masked_word_model(20, width=8, layers=2, heads=2, length=8)


def hidden(model, batch, rows):
    from jaxembed.recipes import word_pretraining

    return word_pretraining._hidden(model, batch, rows)


def test_words_are_hidden_by_their_rows_and_rare_ones_stay():
    texts = [" ".join(f"x{c}" for c in "abcdefgh"[i % 5 :]) for i in range(40)]
    batch, model = data.word_ids(texts, 7, length=9), recipes.masked_word_model(7, length=9)
    assert batch["ids"].max() == 6 and (batch["ids"] == data.RARE_WORD).any()
    first, again = (hidden(model, batch, np.arange(40)) for _ in range(2))
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert (first["where"] <= first["decoder_where"]).all() and first["where"].any()
    assert (first["words"][first["decoder_where"]] > data.RARE_WORD).all()
    assert (first["ids"] == first["words"])[~first["where"]].all()


def test_pretraining_learns_every_pair_and_plain_training_the_last_alone(model, batch):
    train, held = np.arange(64), np.arange(64, 96)
    options = {"grid": GRID, "rows": train, "steps": 60, "batch_size": 32, "rate": 3e-2}
    found = {}
    for nested in (True, False):
        params = recipes.pre_train(model, batch, nested=nested, **options)
        found[nested] = recipes.masked_word_losses(model, params, batch, GRID, rows=held)
        assert found[nested].shape == (3, 2) and np.isfinite(found[nested]).all()
    assert found[True][0].max() < 0.7 * math.log(20)
    assert found[False][0, 1] < 0.7 * math.log(20) and found[False][0, 0] > found[True][0, 0]


def test_the_losses_are_those_of_the_objective(model, batch):
    """The mean of words from states and from vectors is SMAE's loss, where every text hides a word."""
    params = model.init(jax.random.key(0))
    rows = np.arange(32)
    found = recipes.masked_word_losses(model, params, batch, GRID, rows=rows)
    one = hidden(model, batch, rows)
    from jaxembed.recipes import word_pretraining

    lift, table, bias = word_pretraining._words(params)
    given = {n: one[n] for n in ("words", "where", "decoder_where")} | {"grid": GRID, "bias": bias}
    states = model.states(params, one)
    wanted = losses.masked_autoencoder(lift, states, table, model.decode(params, one), **given)
    assert found[:2].mean() == pytest.approx(float(wanted.mean()), rel=1e-5)


def test_the_decoder_starts_as_the_first_block_and_is_its_own(model, batch):
    params = model.init(jax.random.key(0))
    first = jax.tree.map(lambda x: x[0], params["encoder"]["blocks"])
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params["decoder"], first)))
    one = hidden(model, batch, np.arange(4))
    loss = lambda p: model.decode(p, one)(np.ones((4, 8), np.float32)).sum()  # noqa: E731
    grads = jax.grad(loss)(params)
    assert any(np.abs(x).max() > 0 for x in jax.tree.leaves(grads["decoder"]))
    assert not any(np.abs(x).max() > 0 for x in jax.tree.leaves(grads["encoder"]["blocks"]))


def test_bad_input_is_refused_by_name(model, batch):
    good = {"grid": GRID, "steps": 1}
    for given, message in (
        ({"steps": 0}, "steps=0, batch_size=64: at least 1"),
        ({"batch_size": 97}, "batch_size=97: at least 1, and at most 96"),
        ({"rows": np.array([], int)}, "rows: 0; give at least one"),
        ({"rows": np.array([96])}, r"rows: 1; give at least one, each in 0\.\.95"),
    ):
        with pytest.raises(ValueError, match=message):
            recipes.pre_train(model, batch, **good | given)
    for changed, message in (
        ({"ids": batch["ids"][:, :5]}, r"batch: ids \(96, 5\) and mask \(96, 8\); give both as \[N, 8\]"),
        ({"ids": batch["ids"] + 20}, r"batch: ids 22 to 29; the vocabulary of the model is 0\.\.19"),
    ):
        with pytest.raises(ValueError, match=message):
            recipes.pre_train(model, batch | changed, **good)
        with pytest.raises(ValueError, match=message):
            recipes.masked_word_losses(model, {}, batch | changed, GRID)
    with pytest.raises(ValueError, match=r"grid: \(3, 8\) is beyond the layers 1..2 of width 8"):
        recipes.pre_train(model, batch, grid=((3, 8),), steps=1)
    with pytest.raises(ValueError, match="heads: 3 do not divide the width 8"):
        recipes.masked_word_model(20, width=8, heads=3)
    with pytest.raises(ValueError, match="layers: 0 is below 1"):
        recipes.masked_word_model(20, layers=0)
    for given in (([], 20, 8), (["a"], 4, 8), (["a"], 20, 1)):
        with pytest.raises(ValueError, match="give at least 1, 5 and 2 of them"):
            data.word_ids(given[0], given[1], length=given[2])
