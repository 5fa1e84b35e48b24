"""Overlap of masks and boxes, suppression, average precision: loops, torchvision, pycocotools, bad input."""

import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import oracles_regions
import pytest

from jaxembed import metrics


def drawn_boxes(rng, count, size=40.0):
    corner, side = rng.uniform(0, size, (count, 2)), rng.uniform(4, 20, (count, 2))
    return np.concatenate([corner, corner + side], axis=1)


# Overlap


def test_iou_of_masks_is_a_ratio_of_counts():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 6, 5, 7)) < 0.4
    first[0] = second[0] = first[1] = False
    found = np.asarray(metrics.iou(first, second))
    for b in range(6):
        covered = (first[b] | second[b]).sum()
        assert found[b] == pytest.approx((first[b] & second[b]).sum() / covered if covered else 1)
    assert found[0] == 1 and found[1] == 0
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(found, metrics.iou(second, first))
    np.testing.assert_array_equal(found, jax.jit(metrics.iou)(first, second))


@pytest.mark.parametrize("device", [False, True])
def test_iou_of_boxes_equals_the_oracle(device):
    boxes = drawn_boxes(np.random.default_rng(0), 9)
    boxes[1] = [5, 5, 5, 9]  # no area
    boxes[2] = [9, 9, 5, 5]  # turned round
    first, second = boxes[:5], boxes[2:]
    expected = [[oracles_regions.overlap(a, b) for b in second] for a in first]
    given = [jnp.asarray(x) for x in (first, second)] if device else (first, second)
    found = metrics.box_iou(*given)
    assert found.dtype == (np.float32 if device else np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics.box_iou(first[3:], first[3:]).diagonal(), 1)
    boxes[4, 0] = np.nan
    assert not np.asarray(metrics.box_iou(boxes, boxes))[4].any()
    assert metrics.box_iou(np.zeros((0, 4)), boxes).shape == (0, 9)


# Suppression


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_nms_equals_the_oracle(seed, limit):
    rng = np.random.default_rng(seed)
    boxes, scores = drawn_boxes(rng, 50).astype(np.float32), rng.integers(0, 20, 50) / 20
    classes, where = rng.integers(0, 2, 50), rng.random(50) < 0.8
    expected = oracles_regions.nms(boxes, scores, limit, classes, where)
    found = jax.jit(lambda *x: metrics.nms(x[0], x[1], limit=limit, classes=x[2], where=x[3]))
    index, kept = found(boxes, scores.astype(np.float32), classes, where)
    assert np.asarray(index)[kept].tolist() == expected
    assert not np.asarray(index)[~np.asarray(kept)].any()
    few, some = metrics.nms(boxes, scores, limit=limit, classes=classes, where=where, most=5)
    assert np.asarray(few)[some].tolist() == expected[:5] and few.shape == (5,)


def test_nms_runs_over_pictures_and_leaves_out_what_does_not_count():
    rng = np.random.default_rng(0)
    boxes, scores = drawn_boxes(rng, 60).astype(np.float32).reshape(3, 20, 4), rng.random((3, 20))
    boxes[0, 3, 1], scores[0, 4] = np.nan, np.nan
    index, kept = jax.vmap(metrics.nms)(boxes, scores)
    for b in range(3):
        where = ~np.isnan(boxes[b]).any(axis=1) & ~np.isnan(scores[b])
        alone = oracles_regions.nms(boxes[b], np.nan_to_num(scores[b]), 0.5, np.zeros(20), where)
        assert np.asarray(index[b])[np.asarray(kept[b])].tolist() == alone
    index, kept = metrics.nms(boxes[0], scores[0], where=np.zeros(20, bool))
    assert not np.asarray(kept).any() and not np.asarray(index).any()
    assert metrics.nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))[0].shape == (0,)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", [0.3, 0.5, 0.7])
def test_nms_and_box_iou_equal_torchvision(limit):
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    rng = np.random.default_rng(1)
    boxes, scores = drawn_boxes(rng, 300).astype(np.float32), rng.random(300).astype(np.float32)
    classes = rng.integers(0, 3, 300)
    given = torch.tensor(boxes), torch.tensor(scores)
    index, kept = metrics.nms(boxes, scores, limit=limit)
    assert np.asarray(index)[kept].tolist() == ops.nms(*given, limit).tolist()
    index, kept = metrics.nms(boxes, scores, limit=limit, classes=classes)
    assert np.asarray(index)[kept].tolist() == ops.batched_nms(*given, torch.tensor(classes), limit).tolist()
    expected = ops.box_iou(given[0], given[0][:50]).numpy()
    np.testing.assert_allclose(metrics.box_iou(jnp.asarray(boxes), boxes[:50]), expected, atol=1e-6)


# Average precision


def drawn_detections(seed, images=12, classes=3):
    """Objects, and detections some of which lie on them, with equal scores among them."""
    rng = np.random.default_rng(seed)
    count = 40
    truths = {"images": rng.integers(1, images, count), "classes": rng.integers(1, classes + 1, count)}
    truths["boxes"] = drawn_boxes(rng, count)
    near = rng.integers(0, count, 90)
    moved = truths["boxes"][near] + rng.normal(scale=1.5, size=(90, 4))
    found = {name: np.concatenate([truths[name][near], truths[name][:15]]) for name in ("images", "classes")}
    found["boxes"] = np.concatenate([moved, drawn_boxes(rng, 15)])
    found["scores"] = rng.integers(0, 40, 105) / 40
    keep = (found["boxes"][:, 2:] > found["boxes"][:, :2] + 1).all(axis=1)
    return {name: x[keep] for name, x in found.items()}, truths


@pytest.mark.parametrize("most", [2, 100])
@pytest.mark.parametrize("seed", range(3))
def test_average_precision_equals_the_oracle(seed, most):
    found, truths = drawn_detections(seed)
    given = metrics.box_average_precision(found, truths, limits=[0.5, 0.75], most=most)
    for column, limit in enumerate((0.5, 0.75)):
        expected = oracles_regions.average_precision(found, truths, limit, most)
        assert given["classes"].tolist() == list(expected)
        np.testing.assert_allclose(given["precision"][:, column], list(expected.values()), rtol=1e-12)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_pycocotools(seed):
    coco, cocoeval = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
    found, truths = drawn_detections(seed)

    def rows(listed):
        sides = np.concatenate(
            [listed["boxes"][:, :2], listed["boxes"][:, 2:] - listed["boxes"][:, :2]], axis=1
        )
        for i, box in enumerate(sides):
            row = {"id": i + 1, "bbox": box.tolist(), "area": float(box[2] * box[3]), "iscrowd": 0}
            row |= {"image_id": int(listed["images"][i]), "category_id": int(listed["classes"][i])}
            yield row | ({"score": float(listed["scores"][i])} if "scores" in listed else {})

    with contextlib.redirect_stdout(io.StringIO()):
        known = coco.COCO()
        known.dataset = {
            "images": [{"id": i} for i in range(1, 12)],
            "categories": [{"id": c} for c in range(1, 4)],
            "annotations": list(rows(truths)),
        }
        known.createIndex()
        measured = cocoeval.COCOeval(known, known.loadRes(list(rows(found))), "bbox")
        measured.evaluate()
        measured.accumulate()
    expected = measured.eval["precision"][:, :, :, 0, 2].mean(axis=1).T  # [classes, limits]
    np.testing.assert_allclose(metrics.box_average_precision(found, truths)["precision"], expected, atol=1e-9)


def test_perfect_missing_and_late_detections_have_their_closed_forms():
    _, truths = drawn_detections(0)
    perfect = metrics.box_average_precision(truths | {"scores": np.ones(40)}, truths)
    np.testing.assert_allclose(perfect["precision"], 1)
    none = {"images": [], "classes": [], "boxes": [], "scores": []}
    assert not metrics.box_average_precision(none, truths)["precision"].any()
    one = {"images": [0], "classes": [0], "boxes": [[0, 0, 2, 2]]}
    twice = {"images": [0, 0], "classes": [0, 0], "boxes": [[9, 9, 10, 10], [0, 0, 2, 2]]}
    late = metrics.box_average_precision(twice | {"scores": [0.9, 0.1]}, one)
    np.testing.assert_allclose(late["precision"], 0.5)
    same = {"images": [0, 0], "classes": [0, 0], "boxes": [[0, 0, 2, 2]] * 2, "scores": [0.9, 0.1]}
    np.testing.assert_allclose(metrics.box_average_precision(same, one)["precision"], 1)  # the repeat is last


def test_order_of_rows_and_other_classes_do_not_matter():
    found, truths = drawn_detections(1)
    found["scores"] = np.random.default_rng(0).random(len(found["scores"]))  # no ties
    expected = metrics.box_average_precision(found, truths)
    turn = np.random.default_rng(2).permutation(len(found["scores"]))
    turned = {name: x[turn] for name, x in found.items()}
    np.testing.assert_allclose(
        metrics.box_average_precision(turned, truths)["precision"], expected["precision"]
    )
    more = {name: np.concatenate([x, x[:3]]) for name, x in found.items()}
    more["classes"][-3:] = 99
    np.testing.assert_array_equal(
        metrics.box_average_precision(more, truths)["precision"], expected["precision"]
    )


EMPTY = {"images": [], "classes": [], "boxes": []}
ONE = {"images": [0], "classes": [0], "boxes": [[0, 0, 2, 2]], "scores": [0.5]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.iou(np.ones((2, 3)), np.ones((2, 3), bool)), "predicted: float64"),
        (lambda: metrics.iou(np.ones(3, bool), np.ones(3, bool)), "predicted: bool"),
        (lambda: metrics.iou(np.ones((2, 3), bool), np.ones((2, 4), bool)), "true: shape"),
        (lambda: metrics.box_iou(np.zeros((3, 3)), np.zeros((3, 4))), "first: shape"),
        (lambda: metrics.nms(np.zeros((3, 4)), np.zeros(2)), "scores: shape"),
        (lambda: metrics.nms(np.zeros((3, 4)), np.zeros(3), most=4), "most: 4 is outside 1..3"),
        (lambda: metrics.nms(np.zeros((3, 4)), np.zeros(3), classes=np.zeros(2, int)), "classes: shape"),
        (lambda: metrics.box_average_precision(ONE, EMPTY), "truths: no object; there is nothing to detect"),
        (lambda: metrics.box_average_precision(EMPTY, ONE), "detections: lacks 'scores'"),
        (lambda: metrics.box_average_precision(ONE | {"scores": [np.nan]}, ONE), "scores'.*: holds NaN"),
        (lambda: metrics.box_average_precision(ONE | {"classes": [0.5]}, ONE), "classes'.*: float64"),
        (lambda: metrics.box_average_precision(ONE | {"scores": [0.5, 1]}, ONE), "scores'.*: shape"),
        (lambda: metrics.box_average_precision(ONE | {"boxes": [[0, 0, 1]]}, ONE), "boxes'.*: shape"),
    ],
)
def test_wrong_arguments_of_detections_raise_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bfloat16])
def test_scores_of_whole_numbers_are_ordered(dtype):
    boxes = jnp.array([[0.0, 0, 2, 2], [0, 0, 2, 2], [5, 5, 6, 6]])
    index, kept = metrics.nms(boxes, jnp.array([10, 200, 0], dtype))
    assert index.tolist() == [1, 2, 0] and kept.tolist() == [True, True, False]


def test_no_masks_have_no_overlap():
    none = np.zeros((0, 3, 3), bool)
    assert metrics.iou(none, none).shape == (0,)


@pytest.mark.parametrize("options", [{"limits": [50]}, {"limits": [0.0]}, {"limits": [np.nan]}, {"most": 0}])
def test_limits_and_most_outside_their_range_are_refused(options):
    truths = {"images": [0], "classes": [7], "boxes": [[0, 0, 2, 2]]}
    with pytest.raises(ValueError, match="limits: "):
        metrics.box_average_precision(truths | {"scores": [0.9]}, truths, **options)


@pytest.mark.parametrize("limit", [0.2, 0.5])
@pytest.mark.parametrize("budget", [1, 3, 50])
def test_recall_of_proposals_is_that_of_loops(budget, limit):
    rng = np.random.default_rng(0)
    boxes = np.stack([drawn_boxes(rng, 12, 15.0) for _ in range(9)])
    scores, truths = rng.normal(size=(9, 12)), np.stack([drawn_boxes(rng, 3, 15.0) for _ in range(9)])
    scores[0, 0], scores[1, :], where = np.nan, -np.inf, rng.random((9, 3)) < 0.7
    hits = []
    for n, k in np.argwhere(where):
        usable = [i for i in np.argsort(-np.nan_to_num(scores[n], nan=-np.inf), kind="stable")[:budget]]
        usable = [i for i in usable if scores[n, i] > -np.inf]
        hits.append(any(oracles_regions.overlap(boxes[n, i], truths[n, k]) >= limit for i in usable))
    found = metrics.proposal_recall(boxes, scores, truths, budget=budget, limit=limit, where=where)
    assert found == pytest.approx(np.mean(hits)) and 0 <= found <= 0.9
    for options in ({"budget": 0}, {"limit": 0.0}, {"where": np.zeros((9, 3), bool)}):
        with pytest.raises(ValueError, match="pass one of each"):
            metrics.proposal_recall(boxes, scores, truths, **{"budget": 1} | options)
