"""The experiment on identities: who trains and who is verified, measures, claims, pictures, bad flags."""

import json

import jax
import numpy as np
import optax
import pytest

from experiments.face_metric import __main__ as story
from experiments.face_metric import identities, versions
from experiments.face_metric.__main__ import Config
from experiments.shared import results
from jaxembed import metrics

YES, NO = results.REPRODUCED, results.NOT


def tiny(**options):
    return Config(**{"seeds": 2, "identities": 3, "each": 4} | options)


def test_digits_that_train_are_not_verified_and_validation_reads_no_test_digit():
    task = identities.read(tiny())
    for known, asked in zip(task.known, task.asked, strict=True):
        assert set(task.labels[known]) == set(range(6)) and set(task.labels[asked]) == set(range(6, 10))
        assert len(known) + len(asked) == 1797
    held = identities.read(tiny(validate=True))
    for known, asked in zip(held.known, held.asked, strict=True):
        assert len(set(held.labels[known])) == 4 and len(set(held.labels[asked])) == 2
        assert not set(held.labels[known]) & set(held.labels[asked])
        assert held.labels[np.concatenate([known, asked])].max() < 6
    assert set(held.labels[held.asked[0]]) != set(held.labels[held.asked[1]])


def test_other_sets_split_their_identities_by_seed():
    labels = np.repeat(np.arange(30), 2)
    parts = [story.identities.split(tiny(), labels, np.random.default_rng(s)) for s in (0, 0, 1)]
    assert len(parts[0][0]) == 21 and len(parts[0][1]) == 9
    np.testing.assert_array_equal(parts[0][1], parts[1][1])
    assert set(parts[0][1]) != set(parts[2][1])


def test_a_batch_holds_the_frozen_vectors_of_its_pictures():
    task = identities.read(tiny())
    frozen = np.arange(1797.0)[:, None]
    batch = identities.batches(task, 1, frozen)[3]
    rows = batch["frozen"][:, 0].astype(int)
    np.testing.assert_array_equal(task.labels[rows], batch["labels"])
    np.testing.assert_array_equal(task.images[rows], batch["images"])
    assert len(set(batch["labels"])) == 3 and len(rows) == 12


def test_training_pulls_identities_together_and_a_second_version_starts_with_a_new_last_layer():
    task = identities.read(tiny())
    net = identities.net(task, 32, 4)
    loss = identities.mined_loss(net.encode, "semi_hard", 0.2)
    update = identities.make_update(task, loss, optax.adagrad(0.05))
    params = identities.fit(task, 1, net.init, update, 30)
    rows, found = task.known[1], []
    for each in (net.init(jax.random.key(5)), params):
        x = identities.vectors(task, net.encode, each)
        assert x.shape == (1797, 4)
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-4)
        found.append(metrics.neighbour_recall(x[rows], task.labels[rows]))
    assert found[1] > found[0]
    new = versions.renewed(net, params)
    np.testing.assert_array_equal(new["layer_0"]["kernel"], params["layer_0"]["kernel"])
    assert np.abs(new["layer_1"]["kernel"] - params["layer_1"]["kernel"]).max() > 0.01


def test_val_between_versions_leaves_out_a_picture_with_itself():
    x = np.eye(4)[[0, 0, 1, 1]].astype(np.float32)
    labels = np.array([0, 0, 1, 1])
    assert identities.val_between(x, x, labels, 0.2) == 1
    assert identities.val_between(x, x[[2, 2, 0, 0]], labels, 0.2) == 0


def test_folds_hold_as_many_pairs_of_each_kind():
    same = np.random.default_rng(0).random(5000) < 0.2
    chosen = identities.drawn_pairs(same, np.random.default_rng(1))
    assert len(set(chosen)) == len(chosen)
    per = len(chosen) // 20
    assert all(fold.sum() == per for fold in same[chosen].reshape(10, -1))


def rule_rows(semi, random, pixels=0.1, fallen=(0.5, 0.5)):
    """Rows of the rules for five seeds."""

    def row(rule, rate, val, spread=0.9):
        return {
            "rule": rule,
            "rate": rate,
            "runs": [{"VAL": val + s / 100, "mean D": spread} for s in range(5)],
        }

    slow = [row(r, 0.1, v) for r, v in zip(story.RULES, (semi, 0.2, 0.2, random), strict=True)]
    fast = [row(r, 1.0, 0.1, f) for r, f in zip(story.FAST, fallen, strict=True)]
    return [row("pixels", None, pixels), *slow, *fast]


def verdicts(**tables):
    return [x["verdict"] for x in results.answered(story.CLAIMS, results.Result(tables, {"chance": 0.01}))]


def test_claims_read_the_tables_they_are_about():
    assert verdicts(rules=rule_rows(0.5, 0.4)) == [YES, NO, YES]
    assert verdicts(rules=rule_rows(0.5, 0.49, 0.5, (0.5, 0.01))) == [NO, YES, NO]
    assert verdicts(rules=rule_rows(0.5, 0.4, fallen=(0.01, 0.01))) == [YES, NO, YES]
    numbers = ((4, 0.1), (16, 0.5), (64, 0.501))
    sizes = [{"size": n, "runs": [{"VAL": v + s / 100} for s in range(5)]} for n, v in numbers]
    assert verdicts(sizes=sizes) == [YES]
    sizes[-1]["runs"] = [{"VAL": 0.6 + s / 100} for s in range(5)]
    assert verdicts(sizes=sizes) == [NO]
    one = {"accuracy": 0.9, "accuracy of codes": 0.9}
    assert verdicts(**{"8 bits": [{"runs": [one, one]}]}) == [YES]
    assert verdicts(**{"8 bits": [{"runs": [one, one | {"accuracy of codes": 0.89}]}]}) == [NO]
    made = {"v1, v1": 0.3, "v1, v2": 0.4, "v2, v2": 0.5, "v1, v2 trained alone": 0.01}
    rows = [{"versions": n, "runs": [{"VAL": v}] * 5} for n, v in made.items()]
    assert verdicts(versions=rows) == [YES, YES, YES]
    rows[1]["runs"], rows[3]["runs"] = [{"VAL": 0.2}] * 5, [{"VAL": 0.2}] * 5
    assert verdicts(versions=rows) == [NO, NO, NO]


def test_bad_flags_are_refused_in_one_line(tmp_path):
    for options, message in [
        ({"rate": 0.0}, "--rate 0.0: choose 1e-09 to 10"),
        ({"far": 2.0}, "--far 2.0: choose"),
        ({"sizes": ()}, "--sizes: is empty; give at least one"),
        ({"images": tmp_path, "data": "emoji"}, "--data: has no meaning with --images"),
        ({"omniglot": tmp_path, "images": tmp_path}, "--omniglot: has no meaning with --images"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            Config(**options)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no pictures"):
        identities.read(Config(images=tmp_path))
    with pytest.raises(ValueError, match="identities: 7 asked for, 6 of 6 labels have 4 records; lower"):
        identities.batches(identities.read(tiny(identities=7)), 0)


def test_own_pictures_and_omniglot_are_read(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for place in [f"{a}/character{c:02}" for a in ("Greek", "Latin") for c in range(5)]:
        (tmp_path / place).mkdir(parents=True)
        for n in range(2):
            Image.fromarray(rng.integers(0, 255, (9, 9), dtype=np.uint8)).save(tmp_path / place / f"{n}.png")
    task = identities.read(Config(omniglot=tmp_path, seeds=1, side=12))
    assert task.images.shape == (20, 12, 12, 1) and task.images.max() <= 1 and task.shift
    assert len(set(task.labels)) == 10
    task = identities.read(Config(images=tmp_path, seeds=1, side=12))
    assert len(set(task.labels)) == 2
    net = identities.net(task, 32, 4)
    assert net.encode(net.init(jax.random.key(0)), task.images).shape == (20, 4)


def test_kept_pictures_show_every_part():
    from matplotlib import pyplot

    saved = json.loads(results.path_of("face_metric", "default").read_text())
    found = story.figures(results.numbers_of(saved))
    assert set(found) == {"", "triplets"}
    draw, panels = found[""]
    figure, axes = pyplot.subplots(*panels, squeeze=False)
    draw(axes)
    assert [x.get_title() for x in axes[0]] == list(story.PARTS)
    draw, panels = found["triplets"]
    other, axes = pyplot.subplots(*panels, squeeze=False)
    draw(axes)
    assert axes[0, 0].get_title().startswith("anchor")
    pyplot.close(figure), pyplot.close(other)
