"""Generated scenes: objects are where they are said to be, and questions fit one object."""

import numpy as np
import pytest

from jaxembed.data import toy_scenes

SIDES = ((9, 11), (15, 18))
DRAWN = toy_scenes.scenes(3, count=40, size=48, objects=(3, 5), shapes=3, colours=4, sides=SIDES)


def test_the_same_seed_draws_the_same_scenes():
    again = toy_scenes.scenes(3, count=40, size=48, objects=(3, 5), shapes=3, colours=4, sides=SIDES)
    other = toy_scenes.scenes(4, count=40, size=48, objects=(3, 5), shapes=3, colours=4, sides=SIDES)
    for name in DRAWN:
        np.testing.assert_array_equal(again[name], DRAWN[name])
    assert (other["images"] != DRAWN["images"]).any()


def test_boxes_hold_the_pixels_of_their_objects_and_no_object_touches_another():
    for n, k in np.argwhere(DRAWN["where"]):
        rows, columns = np.nonzero(DRAWN["owner"][n] == k + 1)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert DRAWN["boxes"][n, k].tolist() == box
        low, high = SIDES[DRAWN["kind"][n, k]]
        assert low - 1 <= max(box[2] - box[0], box[3] - box[1]) <= high
        around = DRAWN["owner"][n, max(0, rows.min() - 1) : rows.max() + 2]
        around = around[:, max(0, columns.min() - 1) : columns.max() + 2]
        assert set(np.unique(around)) <= {0, k + 1}
    assert not DRAWN["boxes"][~DRAWN["where"]].any()
    assert (DRAWN["owner"].max(axis=(1, 2)) == DRAWN["where"].sum(axis=1)).all()
    counts = DRAWN["where"].sum(axis=1)
    assert counts.min() >= 3 and counts.max() == 5


def test_objects_have_their_colours_and_differ():
    for n, kept in enumerate(DRAWN["where"].sum(axis=1)):
        sorts = {tuple(DRAWN[x][n, k] for x in ("shape", "colour", "kind")) for k in range(kept)}
        assert len(sorts) == kept
        for k in range(kept):
            mean = DRAWN["images"][n][DRAWN["owner"][n] == k + 1].mean(axis=0)
            known = np.array(list(toy_scenes.COLOURS.values()), float)
            known, mean = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (known, mean))
            assert (known @ mean).argmax() == DRAWN["colour"][n, k]


def test_every_shape_fills_its_box_and_has_an_area_of_its_own():
    areas = {name: toy_scenes._shape(name, 41).mean() for name in toy_scenes.SHAPES}
    assert all(0.2 < area <= 1 for area in areas.values()) and len({round(a, 2) for a in areas.values()}) == 6
    assert areas["circle"] == pytest.approx(np.pi / 4, abs=0.01)
    assert areas["triangle"] == pytest.approx(0.5, abs=0.02)


def fits(n, k, text):
    """Whether object k is what a text speaks of, read from its words."""
    words = text.replace("?", " ").replace(",", " ").split()
    said = {name for name in (*toy_scenes.SHAPES, *toy_scenes.COLOURS, *toy_scenes.SIZES) if name in words}
    own = {
        toy_scenes.SHAPES[DRAWN["shape"][n, k]],
        list(toy_scenes.COLOURS)[DRAWN["colour"][n, k]],
        toy_scenes.SIZES[DRAWN["kind"][n, k]],
    }
    return len(said) >= 2 and said <= own


def test_a_question_fits_exactly_one_object_and_the_answer_adds_to_it():
    asked = toy_scenes.questions(0, DRAWN)
    assert len(set(asked["texts"])) > 30 and len(toy_scenes.TEMPLATES) >= 20
    for n, text in enumerate(asked["texts"]):
        fitting = [k for k in range(DRAWN["where"][n].sum()) if fits(n, k, text)]
        assert fitting == [asked["target"][n]]
        named = any(size in text for size in toy_scenes.SIZES)
        assert asked["answers"][n] == (
            "yes" if named else toy_scenes.SIZES[DRAWN["kind"][n, asked["target"][n]]]
        )


def test_a_relation_has_one_answer_beside_the_object_it_names():
    asked = toy_scenes.relational_questions(0, DRAWN)
    middles = (DRAWN["boxes"][..., :2] + DRAWN["boxes"][..., 2:]) / 2
    for n, text in enumerate(asked["texts"]):
        kept, named, target = DRAWN["where"][n].sum(), asked["named"][n], asked["target"][n]
        assert fits(n, named, text)
        axis, sign = next(v for t, v in toy_scenes.RELATIONS.items() if text.startswith(t.split(" the ")[0]))
        beyond = [k for k in range(kept) if sign * (middles[n, k, axis] - middles[n, named, axis]) > 0]
        assert target in beyond or middles[n, target, axis] == middles[n, named, axis]
        assert set(beyond) <= {target}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toy_scenes.scenes(0, count=0), "count=0, objects"),
        (lambda: toy_scenes.scenes(0, count=1, objects=(3, 2)), "objects=.3, 2.: draw at least"),
        (lambda: toy_scenes.scenes(0, count=1, shapes=7), "shapes=7, colours=6: choose"),
        (lambda: toy_scenes.scenes(0, count=1, sides=((2, 5),)), "sides=.*: choose 3 to 64"),
        (lambda: toy_scenes.scenes(0, count=1, shapes=1, colours=1, objects=(2, 2)), "as many sorts as 2"),
        (lambda: toy_scenes.scenes(0, count=1, size=22, objects=(4, 4)), "4 of them do not fit in 22"),
        (lambda: toy_scenes.questions(0, DRAWN, templates=()), "templates: none"),
        (
            lambda: toy_scenes.relational_questions(0, toy_scenes.scenes(0, count=2, objects=(1, 1))),
            "drawn: a scene has one object",
        ),
    ],
)
def test_scenes_that_cannot_be_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
