"""The experiment on open vocabularies: boxes, teacher, probabilities, detections, claims; a small run."""

import jax
import numpy as np
import oracles_regions
import pytest

from experiments.open_detection import __main__ as story
from experiments.open_detection import boxes, measures, networks, pictures
from experiments.open_detection.__main__ import ENSEMBLE, IMAGE, NARROW, SUPERVISED, TEXT, Config, vild
from experiments.shared import results, text_models
from jaxembed import encoders, losses

DRAWN = boxes.scenes(5, 12)


def encode_texts(texts):
    return np.stack([np.random.default_rng(sum(map(ord, t)) * 7 + len(t)).normal(size=384) for t in texts])


def test_every_shape_and_every_colour_has_labels_and_novel_classes():
    table = boxes.IS_BASE.reshape(6, 6)
    assert table.sum() == 24
    assert (table.sum(axis=0) == 4).all() and (table.sum(axis=1) == 4).all()
    assert len(set(boxes.NAMES)) == 36 and boxes.NAMES[6 * 3 + 1] == "green star"


def test_labelled_boxes_lie_on_base_objects_and_background_beside_them():
    given = boxes.training_boxes(0, DRAWN)
    for n in range(len(DRAWN["images"])):
        known = DRAWN["classes"][n] >= 0
        base = known & boxes.IS_BASE[DRAWN["classes"][n]]
        fields = (given[k][n] for k in ("boxes", "labels", "labels_all", "distilled", "distilled_base"))
        for box, label, every, distilled, narrow in zip(*fields, strict=True):
            overlaps = [oracles_regions.overlap(box, other) for other in DRAWN["boxes"][n]]
            if label > 0:
                assert label == every and max(overlaps) >= 0.6
                assert DRAWN["classes"][n, int(np.argmax(overlaps))] == label - 1 and boxes.IS_BASE[label - 1]
            elif label == 0:
                assert all(o < 0.3 for o, b in zip(overlaps, base, strict=True) if b) and box.any()
            if every == 0:
                assert max(overlaps) < 0.3
            assert distilled == (max(overlaps) >= 0.6)
            assert narrow <= distilled
        on_novel = known & ~base
        assert (given["distilled"][n] & ~given["distilled_base"][n]).sum() == boxes.COPIES * on_novel.sum()


def test_jittered_boxes_stay_near_and_grounds_stay_away():
    tested = boxes.tested(5, 12)
    near, off = tested["asked"][2][:, :-6], tested["asked"][1]
    there = np.tile(DRAWN["where"], (1, 3))
    for n, k in np.argwhere(there):
        assert oracles_regions.overlap(near[n, k], DRAWN["boxes"][n, k % 4]) >= 0.6 - 1e-6
    assert not near[~there].any()
    best = boxes.overlaps(off, DRAWN["boxes"])
    assert (best[off.any(axis=-1)] < 0.3).all()
    np.testing.assert_allclose(boxes.enlarged(np.array([[2.0, 4, 6, 8]]), 1.5), [[1, 3, 7, 9]])


def test_the_teacher_sums_its_crops_and_a_student_that_equals_it_names_as_it_does():
    params = {"image": networks.TEACHER.init(jax.random.key(0))}
    alone = networks.teacher_vectors(params, DRAWN["images"], DRAWN["boxes"], (1.0,))
    both = networks.teacher_vectors(params, DRAWN["images"], DRAWN["boxes"], (1.0, 1.5))
    larger = networks.teacher_vectors(params, DRAWN["images"], DRAWN["boxes"], (1.5,))
    mean = alone + larger
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean, axis=-1, keepdims=True), atol=1e-5)
    table = np.random.default_rng(0).normal(size=(36, networks.WIDTH))
    student = 3 * both.reshape(-1, networks.WIDTH)
    assert np.asarray(losses.vector_distance(student, teacher=both.reshape(student.shape))).max() < 1e-5
    ours = networks.class_probabilities(student, table, None, 0.01)
    theirs = networks.class_probabilities(both.reshape(student.shape), table, None, 0.01)
    np.testing.assert_array_equal(ours.argmax(axis=-1), theirs.argmax(axis=-1))


def step_of(kind, weight, masked="zero"):
    """(loss, gradient by parameter) of the first step of a detector."""
    given = boxes.training_boxes(0, DRAWN)
    shape = (*given["boxes"].shape[:2], networks.WIDTH)
    teacher = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    batch = {name: given[name] for name in ("images", "boxes", "labels")}
    batch |= {"teacher": teacher, "where": given["distilled"]}
    batch["table"] = np.random.default_rng(2).normal(size=(36, networks.WIDTH)).astype(np.float32)
    params = networks.init(jax.random.key(0), kind == "double")
    loss = networks.loss_of(kind, weight, masked, 0.01)
    return jax.jit(jax.value_and_grad(lambda p: loss(p, batch, None)[0]))(params)


def test_weights_and_kinds_of_the_loss():
    text, without = step_of("text", 0.0)
    image, alone = step_of("image", 1.0)
    both, _ = step_of("text", 0.5)
    np.testing.assert_allclose(both, text + 0.5 * image, rtol=1e-5)
    assert not np.asarray(alone["background"]).any() and np.asarray(without["background"]).any()
    double, slopes = step_of("double", 0.0)
    np.testing.assert_allclose(double, text, rtol=1e-5)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(slopes["image_head"]))
    dropped, _ = step_of("text", 0.0, "drop")
    assert dropped < text or np.isclose(dropped, text, rtol=1e-6)


def test_probabilities_have_background_where_there_is_one():
    table = np.random.default_rng(0).normal(size=(36, networks.WIDTH)).astype(np.float32)
    given = {"temperature": 0.1, "weight": 2 / 3}
    params = networks.init(jax.random.key(0), True)
    ask = [DRAWN["images"], DRAWN["boxes"], table]
    kinds = ("text", "image", "double")
    text, image, both = (networks.probabilities(params, *ask, kind=kind, **given) for kind in kinds)
    assert text.shape == (12, 4, 37)
    np.testing.assert_allclose(text.sum(axis=-1), 1, rtol=1e-4)
    np.testing.assert_allclose(image[..., 1:].sum(axis=-1), 1, rtol=1e-4)
    assert not image[..., 0].any() and text[..., 0].all()
    second = networks.probabilities(params | {"head": params["image_head"]}, *ask, kind="image", **given)
    np.testing.assert_allclose(both, networks.mixed(text, second, 2 / 3), rtol=1e-5)
    expected = np.cbrt(text * second * np.where(np.append(True, boxes.IS_BASE), text, second))
    np.testing.assert_allclose(both[..., 1:], expected[..., 1:], rtol=1e-3, atol=1e-6)
    parts = table[:6], table[6:12]
    grown = networks.expanded(params, *ask[:2], parts, temperature=0.1)
    np.testing.assert_allclose(grown.sum(axis=-1), 1, rtol=1e-4)


def test_detections_keep_the_best_and_true_boxes_are_perfect():
    tested = boxes.tested(5, 12)
    there = tested["classes"] >= 0
    truth = np.zeros((12, 4, 37))
    truth[there, tested["classes"][there] + 1] = 1
    off = np.zeros((12, 6, 37))
    off[..., 0] = 1
    asked = (tested["boxes"], tested["asked"][1], tested["boxes"])
    numbers, kept = measures.measured(tested | {"asked": asked}, (truth, off, truth), 10)
    assert {numbers[name] for name in ("base", "novel", "background", "AP50", "AP50 novel")} == {1.0}
    assert max(kept["images"]) < measures.COUNT
    scores = np.random.default_rng(0).random((2, 3, 5)).astype(np.float32)
    apart = np.array([[[0, 0, 4, 4], [10, 10, 14, 14], [0, 0, 0, 0]]] * 2, np.float32)
    found = measures.detections(apart, scores, 4)
    assert len(found["scores"]) == 8 and found["boxes"].any(axis=1).all()
    best = np.sort(scores[0, :2].ravel())[::-1][:4]
    np.testing.assert_allclose(found["scores"][found["images"] == 0], best)


def made(numbers):
    """Tables of five seeds from {arm: (base, novel)}."""
    rows = [
        {"arm": arm, "runs": [{"base": b + s / 10**4, "novel": n + s / 10**4} for s in range(5)]}
        for arm, (b, n) in numbers.items()
    ]
    return {"arms": rows, "compared weight": 0.5}


def verdicts(tables):
    return [row["verdict"] for row in results.answered(story.CLAIMS, results.Result({}, tables))]


def test_claims_are_those_of_the_table():
    yes, no = results.REPRODUCED, results.NOT
    good = {TEXT: (0.9, 0.6), IMAGE: (0.7, 0.6), ENSEMBLE: (0.9, 0.75), NARROW: (0.8, 0.62)}
    good |= {vild(0.1): (0.9, 0.65), vild(0.5): (0.85, 0.7), vild(2.0): (0.8, 0.8)}
    assert verdicts(made(good)) == [yes] * 7
    for place, change in (
        (0, {vild(0.5): (0.85, 0.64)}),
        (1, {vild(0.5): (0.95, 0.7)}),
        (2, {IMAGE: (0.7, 0.02)}),
        (3, {ENSEMBLE: (0.88, 0.75)}),
        (4, {ENSEMBLE: (0.9, 0.68)}),
        (5, {vild(2.0): (0.95, 0.8)}),
        (6, {NARROW: (0.8, 0.66)}),
    ):
        assert verdicts(made(good | change))[place] == no
    one = {arm: x for arm, x in good.items() if arm not in (vild(0.1), vild(2.0))}
    assert len(verdicts(made(one))) == 6  # one weight has no trend


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps 0: choose 1 to"),
        ({"masked": "half"}, "--masked half: choose zero or drop"),
        ({"weights": ()}, "--weights: is empty; give at least one"),
        ({"crops": (0.1,)}, "--crops 0.1: choose 0.5 to 3"),
        ({"scenes": 8}, "--batch-size 16: there are only 8 scenes; choose at most 8"),
    ],
)
def test_bad_flags_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        story.run(Config(**options))
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.experiment
def test_a_small_run_has_every_arm_and_its_pictures(monkeypatch):
    from matplotlib import pyplot

    encoder = type("Encoder", (), {"encode_texts": staticmethod(encode_texts)})
    monkeypatch.setattr(text_models, "load", lambda model: encoder)
    small = {"scenes": 70, "test": 12, "steps": 2, "teacher_steps": 2, "batch_size": 8, "seeds": 1}
    found = story.run(Config(weights=(0.5, 1.0), **small))
    names = [row["arm"] for row in found.tables["arms"]]
    assert {story.TEACHER, SUPERVISED, TEXT, story.SLOW, IMAGE, ENSEMBLE, NARROW, story.EXPANDED} < set(names)
    assert [name for name in names if name.startswith("ViLD, w")] == [vild(0.5), vild(1.0)]
    numbers = {**found.details, **found.tables}
    draw, panels = pictures.figures(numbers)["detections"]
    figure, axes = pyplot.subplots(*panels, squeeze=False)
    draw(axes)
    assert [panel.get_ylabel() for panel in axes[:, 0]] == [TEXT, vild(0.5)]
    single, axis = pyplot.subplots()
    pictures.figures(numbers)[""](axis)
    assert len(axis.get_legend().get_texts()) == len(names)
    pyplot.close(figure), pyplot.close(single)


def test_class_names_are_read_through_prompts():
    texts = networks.texts_of(encode_texts)
    assert {name: x.shape for name, x in texts.items()} == {
        "classes": (36, 384),
        "shapes": (6, 384),
        "colours": (6, 384),
    }
    expected = encoders.prompt_ensemble(encode_texts, ["red star"], networks.PROMPTS)[0]
    np.testing.assert_allclose(
        texts["classes"][boxes.NAMES.index("red star")], expected, rtol=1e-5, atol=1e-6
    )
