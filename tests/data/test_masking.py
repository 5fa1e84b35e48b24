"""Words to hide: whole, nested, in the right number, and replaced as BERT does."""

import numpy as np
import pytest

from jaxembed import data


def rows(seed=0, count=40, length=30):
    """Word numbers [B, T] with words of 1..4 pieces, special tokens at both ends, and padding."""
    rng = np.random.default_rng(seed)
    groups, mask = np.full((count, length), -1), np.zeros((count, length), bool)
    for b in range(count):
        pieces = [w for w in range(20) for _ in range(rng.integers(1, 5))][: rng.integers(1, length - 2)]
        groups[b, 1 : 1 + len(pieces)] = pieces
        mask[b, : len(pieces) + 2] = True
    return groups, mask


def test_hidden_words_are_whole_nested_and_as_many_as_asked():
    groups, mask = rows()
    few, many = data.word_masks(np.random.default_rng(0), groups, mask)
    assert (few <= many).all()
    assert not many[groups < 0].any()
    for hidden, rate in ((few, 0.2), (many, 0.4)):
        for b in range(len(groups)):
            for word in set(groups[b]) - {-1}:
                assert len(set(hidden[b][groups[b] == word])) == 1
            count, most = max(1, round(rate * mask[b].sum())), (groups[b] >= 0).sum()
            assert min(count, most) <= hidden[b].sum() < count + 4
    assert len({tuple(row) for row in few}) > 30


def test_every_word_is_hidden_equally_often_and_draws_repeat():
    groups = np.tile(np.array([-1, *range(10), -1]), (4000, 1))
    mask = np.ones(groups.shape, bool)
    (hidden,) = data.word_masks(np.random.default_rng(0), groups, mask, rates=(0.25,))
    assert (hidden.sum(axis=1) == 3).all()
    np.testing.assert_allclose(hidden[:, 1:-1].mean(axis=0), 0.3, atol=0.03)
    (again,) = data.word_masks(np.random.default_rng(0), groups, mask, rates=(0.25,))
    np.testing.assert_array_equal(again, hidden)


def test_rows_without_words_hide_nothing_and_padding_does_not_count():
    groups = np.array([[-1, -1, -1], [0, 0, 3]])
    mask = np.array([[True, True, False], [True, True, False]])
    (hidden,) = data.word_masks(np.random.default_rng(0), groups, mask, rates=(1.0,))
    np.testing.assert_array_equal(hidden, [[False] * 3, [True, True, False]])


def test_replacements_have_the_shares_of_bert():
    rng = np.random.default_rng(0)
    ids = np.full((200, 500), 7, np.int32)
    where = rng.random(ids.shape) < 0.5
    out = data.hide(rng, ids, where, token=1, vocabulary=1000)
    assert out.dtype == ids.dtype
    assert (out[~where] == 7).all()
    shares = [np.mean(out[where] == 1), np.mean(out[where] == 7)]
    np.testing.assert_allclose(shares, [0.8, 0.1], atol=0.01)
    others = out[where & (out != 1) & (out != 7)]
    assert (others.min(), others.max()) == (0, 999)
    assert (ids == 7).all()


def test_wrong_masks_and_rates_raise():
    groups, mask = rows()
    for rates in ((0.4, 0.2), (0.0,), (1.2,)):
        with pytest.raises(ValueError, match="rates="):
            data.word_masks(np.random.default_rng(0), groups, mask, rates=rates)
    with pytest.raises(ValueError, match="mask: "):
        data.word_masks(np.random.default_rng(0), groups, mask[:, :3])
    with pytest.raises(ValueError, match="where: "):
        data.hide(np.random.default_rng(0), groups, mask[:2], token=1, vocabulary=9)


def test_a_masked_batch_hides_more_for_the_decoder_and_keeps_the_words():
    ids = np.random.default_rng(0).integers(5, 100, size=(20, 12)).astype(np.int32)
    mask = np.arange(12) < np.random.default_rng(1).integers(3, 13, size=(20, 1))
    groups = np.where(np.arange(12) > 0, np.arange(12), -1) * np.ones((20, 1), int)

    def made():
        return data.masked_batch(np.random.default_rng(2), ids, mask, groups, token=1, vocabulary=100)

    batch, again = made(), made()
    assert all(np.array_equal(batch[name], again[name]) for name in batch)
    assert (batch["where"] <= batch["decoder_where"]).all() and not batch["decoder_where"][:, 0].any()
    assert batch["where"].sum() < batch["decoder_where"].sum() and not batch["decoder_where"][~mask].any()
    np.testing.assert_array_equal(batch["words"], ids)
    for name, where in (("ids", "where"), ("decoder_ids", "decoder_where")):
        assert batch[name].dtype == ids.dtype and (batch[name] == ids)[~batch[where]].all()
        assert (batch[name] == 1)[batch[where]].mean() > 0.6
    with pytest.raises(ValueError, match="pass two"):
        data.masked_batch(np.random.default_rng(0), ids, mask, groups, token=1, vocabulary=9, rates=(0.2,))


def test_windows_begin_anywhere_and_keep_short_rows():
    rng, row = np.random.default_rng(0), list(range(10, 17))
    found = [data.random_window(rng, row, 4) for _ in range(200)]
    assert {window[0] for window in found} == {10, 11, 12, 13}
    assert all(window == list(range(window[0], window[0] + 4)) for window in found)
    assert data.random_window(rng, row, 7) == data.random_window(rng, row, 99) == row
    assert data.random_window(rng, [], 3) == []
    with pytest.raises(ValueError, match="length=0; give at least 1 token"):
        data.random_window(rng, row, 0)
