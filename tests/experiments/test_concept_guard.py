"""Detection scores, the choice of alpha, and prompts of drawings."""

import numpy as np

from experiments.concept_guard import __main__ as story
from experiments.concept_guard import images, words


def test_precision_and_recall_count_words_of_all_prompts():
    truth = np.array([[False, True, False], [True, False, False]])
    found = np.array([[False, True, True], [False, True, False]])
    assert words.scores(found, truth) == (1 / 3, 1 / 2)
    assert words.scores(np.zeros_like(truth), truth) == (0.0, 0.0)


def test_alpha_is_chosen_by_the_f1_of_the_same_seed_and_basis_on_validation():
    rows = [
        {"seed": s, "part": part, "basis": basis, "alpha": alpha, "precision": p, "recall": 0.8}
        for s in (0, 1)
        for basis in (words.PHRASES, words.CENTRED)
        for part in ("validation", "test")
        for alpha, p in ((0.01, 0.3), (0.05, 0.6 if (part, s) == ("validation", 1) else 0.2))
    ]
    found = words.chosen(rows, 1, words.CENTRED)
    assert [r["alpha"] for r in found] == [0.01, 0.05] and {r["part"] for r in found} == {"test"}
    assert {r["seed"] for r in found} == {1} and found[1]["F1"] == 2 * 0.2 * 0.8 / (0.2 + 0.8)
    assert [r["alpha"] for r in words.chosen(rows, 0, words.PHRASES)] == [0.01, 0.01]


def test_prompts_name_the_erased_digit_by_its_word_by_its_aliases_or_name_others():
    digits, styles, kinds, prompts = images.asked()
    assert len(set(prompts)) == len(prompts) == 11 * 7 and np.mean(digits == images.ERASED) == 3 / 11
    assert not any("seven" in prompt for prompt in prompts)  # the model never saw it
    words = [set(p.split()) for p in prompts]
    named, indirect = (np.array([bool(w & set(x)) for w in words]) for x in ([images.WORD], images.ALIASES))
    np.testing.assert_array_equal(named, kinds == images.NAMED)
    np.testing.assert_array_equal(indirect, kinds == images.INDIRECT)
    np.testing.assert_array_equal(digits != images.ERASED, kinds == images.OTHER)
    counts = [sum(alias in w for w in words) for alias in images.ALIASES]
    assert counts == [7] * 2
    assert all(images.STYLES[s] in p for s, p in zip(styles, prompts, strict=True))


def test_each_image_is_drawn_from_its_own_prompt_in_blocks_of_one_size():
    states, places = np.arange(77.0)[:, None], np.repeat(np.arange(77), 3)
    calls = []

    def run(params, key, states, filtered, last, null):
        calls.append(len(states))
        return np.stack([states[:, 0], filtered[:, 0], last], axis=1)

    drawn = images.pictures(run, None, (states, 2 * states, 5, None), places, 0)
    np.testing.assert_array_equal(drawn, np.stack([places, 2 * places, np.full(231, 5)], axis=1))
    assert calls == [images.BLOCK] * 2


def test_the_claim_about_other_digits_reads_more_than_1500_drawings_of_an_arm():
    cfg = story.Config()
    assert np.sum(images.asked()[2] == images.OTHER) * cfg.repeats * cfg.seeds >= 1500
