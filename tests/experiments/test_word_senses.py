"""The experiment on word senses: pseudo-words, contexts, batches, claims."""

import numpy as np
import pytest

from experiments.shared import results
from experiments.word_senses import __main__ as story
from experiments.word_senses import pseudo

IDS = np.random.default_rng(0).integers(-1, 30, 20_000).astype(np.int32)


def test_merged_pairs_keep_what_stood_there():
    nouns = np.arange(30) < 20
    merged, pairs, hidden = pseudo.merge(IDS, nouns, 4, 0, low=100, high=10**6)
    assert pairs.shape == (4, 2) and len(set(pairs.flat)) == 8 and nouns[pairs].all()
    for first, second in pairs:
        assert (merged[second == IDS] == first).all() and not (merged == second).any()
        np.testing.assert_array_equal(hidden[first == IDS], 0)
        np.testing.assert_array_equal(hidden[second == IDS], 1)
    others = ~np.isin(IDS, pairs)
    np.testing.assert_array_equal(merged[others], IDS[others])
    assert (hidden[others] == -1).all()
    with pytest.raises(ValueError, match="--pairs 11: only 20 nouns"):
        pseudo.merge(IDS, nouns, 11, 0, low=100, high=10**6)


def test_windows_leave_out_the_middle_and_what_is_no_word():
    ids = np.array([5, 6, -1, 7, 8], np.int32)
    found, mask = pseudo.windows(ids, np.array([0, 3]), 2)
    np.testing.assert_array_equal(np.where(mask, found, -1), [[-1, -1, 6, -1], [6, -1, 8, -1]])


def test_batches_go_through_all_places_and_cool_down():
    places = np.flatnonzero(IDS >= 0)[:1000]
    noise = np.log(np.arange(1, 31) / 465)
    batches = pseudo.Batches(IDS, places, 100, noise, reach=2, negatives=400, seed=0, cooling=5)
    epoch = [batches[t] for t in range(10)]
    words = np.sort(np.concatenate([b["words"] for b in epoch]))
    np.testing.assert_array_equal(words, np.sort(IDS[places]))
    np.testing.assert_allclose([b["temperature"][0] for b in epoch[:7]], [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5])
    np.testing.assert_array_equal(batches[3]["words"], epoch[3]["words"])
    assert (batches[13]["words"] != epoch[3]["words"]).any()
    drawn = np.bincount(np.concatenate([b["samples"] for b in epoch]), minlength=30) / 4000
    np.testing.assert_allclose(drawn, np.exp(noise), atol=0.012)


def test_claims_read_the_runs():
    runs = [{story.FULL: 0.3, story.COLD: 0.1, story.GROUPS: 0.2, story.HARD: 0.35, story.SOFT: 0.3}] * 5
    runs = [run | {story.EACH: 0.2} for run in runs]
    runs = [run | {story.RANDOM: 0.001 * i} for i, run in enumerate(runs)]
    entropies = [{story.FIRST: 0.6, story.FULL: 0.1 + 0.01 * i} for i in range(5)]
    rows = results.answered(story.CLAIMS, results.Result({}, {"runs": runs, "entropies": entropies}))
    verdicts = [row["verdict"] for row in rows]
    assert verdicts[0] == verdicts[-1] == results.REPRODUCED and verdicts[3] == results.NOT


def test_labelled_contexts_of_ones_own_stand_before_the_corpus(tmp_path):
    path = tmp_path / "own.csv"
    rows = ["text,label", "Fish on the line,line.cord", "a line of code line,line.text", "one sense,one.x"]
    path.write_text("\n".join(rows))
    ids, words, hidden, asked, names = pseudo.own(path, np.array([1, 0, -1], np.int32), ["fish", "the"])
    assert [words[i] for i in ids[:4]] == ["fish", "on", "the", "line"] and ids[-3:].tolist() == [1, 0, -1]
    assert [words[i] for i in asked] == ["line"] and names == [["cord", "text"]]
    at = np.flatnonzero(hidden >= 0)
    assert hidden[at].tolist() == [0, 1] and (ids[at] == asked[0]).all() and len(hidden) == len(ids)
    path.write_text("text,label\na cat,line.cord")
    with pytest.raises(ValueError, match="own.csv, text 1: label 'line.cord' is not word.sense"):
        pseudo.own(path, ids, words)
    path.write_text("text,label\na line,line.cord")
    with pytest.raises(ValueError, match="no word has two senses; give contexts of both"):
        pseudo.own(path, ids, words)
