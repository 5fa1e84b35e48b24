"""The experiment on drawings: what is asked, what is measured of a sample, and what the claims read."""

import numpy as np

from experiments.drawings import __main__ as story
from experiments.drawings.__main__ import Config
from jaxembed.data import toy_drawings


def test_every_prompt_is_asked_as_often_and_names_its_digit_and_style():
    digits, styles, prompts = story.asked(2)
    assert len(prompts) == 126 and len(set(prompts)) == 63
    assert set(digits) == {*range(10)} - {7}
    names = list(toy_drawings.STYLES)
    for n in (0, 1, 77, 125):
        assert prompts[n] == f"a {names[styles[n]]} drawing of {toy_drawings.DIGIT_WORDS[digits[n]]}"
    assert digits[::2].tolist() == digits[1::2].tolist()


def test_a_sample_is_measured_by_judges_spread_and_distance():
    digits, styles, _ = story.asked(2)
    images = np.random.default_rng(0).normal(size=(126, 8, 8, 1)).astype(np.float32)
    images[1::2] = images[::2]  # both samples of a prompt are alike
    wrong = np.where(digits == 3, 4, digits)
    judge = {"digits": lambda x: wrong, "styles": lambda x: styles}
    found = story.judged(Config(), images, digits, styles, judge, images)
    assert found["digit"] == 8 / 9 and found["weakest digit"] == 0 and found["style"] == 1
    assert found["spread"] == 0 and abs(found["Frechet distance"]) < 1e-3


def test_claims_read_the_first_and_last_guidance_and_the_training():
    def runs(digit, spread):
        return [{"digit": digit + 0.001 * n, "spread": spread} for n in range(5)]

    rows = [
        {"scale": s, "runs": runs(d, p)} for s, d, p in ((1.0, 0.8, 0.2), (2.0, 0.95, 0.15), (3.0, 0.98, 0.1))
    ]
    tables = {
        "guidance": rows,
        "training": [{"Frechet distance": d} for d in (2.0, 1.0)],
        "scales": [1.0, 2.0, 3.0],
    }
    assert [claim.ours(tables).verdict for claim in story.CLAIMS] == ["reproduced"] * 4
    worse = tables | {"guidance": rows[::-1], "scales": [3.0, 2.0, 1.0], "training": tables["training"][::-1]}
    assert [c.ours(worse).verdict for c in story.CLAIMS] == [
        *["not reproduced"] * 2,
        "reproduced",
        "not reproduced",
    ]
