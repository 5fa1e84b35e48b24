"""The experiment on banks of filters: scales, features, ridge, shifted copies, deep nets, claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.kernel_banks import __main__ as story
from experiments.kernel_banks import banks, deep, frozen
from experiments.kernel_banks.__main__ import Config
from experiments.kernel_banks.banks import ALIGNED, BANKS, DRAWN, FITTED, LDA, PCA, WHITE

CFG = Config(patches=600, filters=8, labels=(50,))
TASK = banks.task_of("digits", False)


@pytest.mark.parametrize("name", [DRAWN, PCA, LDA, WHITE, ALIGNED])
def test_every_bank_has_outputs_of_variance_1(name):
    kernel, bias = banks.bank_of(CFG, name, 0, 50)
    assert kernel.shape == (3, 3, 1, 8) and bias.shape == (8,)
    assert float(jnp.std(banks.maps(kernel, bias, TASK.known["images"][:500]))) == pytest.approx(1, abs=1e-3)
    other, _ = banks.bank_of(CFG, name, 1, 50)
    assert float(jnp.abs(other - kernel).max()) > 1e-3 or name == PCA


def test_sets_of_pictures_do_not_overlap():
    seen = [{x.tobytes() for x in part["images"]} for part in (TASK.known, TASK.held)]
    validation = {x.tobytes() for x in banks.task_of("digits", True).held["images"]}
    assert len(TASK.held["labels"]) == 400 and len(validation) == 200
    assert not seen[0] & seen[1] and not validation & (seen[0] | seen[1])
    first, more = (banks.labelled(TASK, 2, n)["images"] for n in (50, 200))
    np.testing.assert_array_equal(first, more[:50])


def test_features_are_means_over_places():
    kernel = np.zeros((3, 3, 1, 2), np.float32)
    kernel[1, 1, 0] = 1, -1
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    found = np.asarray(frozen.features(kernel, np.zeros(2, np.float32), images)).reshape(2, 4, 4, 2)
    corner = images[1, 2:4, 6:8, 0]
    np.testing.assert_allclose(found[1, 1, 3], [np.maximum(s * corner, 0).mean() for s in (1, -1)], rtol=1e-5)


def test_ridge_is_that_of_the_normal_equations():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 6)), rng.integers(10, size=40)
    found = np.asarray(frozen.ridge(x, labels, 0.5))
    centred, y = x - x.mean(axis=0), np.eye(10)[labels]
    penalty = 0.5 * np.mean(np.sum(centred**2, axis=1))
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(6), centred.T @ (y - y.mean(axis=0)))
    np.testing.assert_allclose(found[:-1], expected, atol=1e-4)
    np.testing.assert_allclose(found[-1], y.mean(axis=0) - x.mean(axis=0) @ expected, atol=1e-4)


def test_shifted_copies_are_similar():
    one = np.zeros((5, 5))
    one[1:4, 2] = 1, -2, 1
    turned = one.T
    shifted = np.roll(one, 1, axis=1)
    assert banks.similarity(np.stack([one, shifted]), 5)[0] == pytest.approx(1, abs=1e-6)
    mean, share = banks.similarity(np.stack([one, turned, shifted]), 5)
    assert mean < 0.9 and share == pytest.approx(1 / 3)


def test_a_deep_net_has_its_layers_and_lsuv_its_variance():
    cfg = Config(depth=6)
    images = jnp.asarray(TASK.known["images"][:64])
    params = deep.start_of(cfg, deep.LSUV, 0, images)
    found = deep.outputs(6, images, params)
    assert [x.shape[1] for x in found] == [8] * 4 + [4] * 2
    np.testing.assert_allclose([float(jnp.var(x)) for x in found], 1, atol=0.11)
    last = deep.net_of(6).maps(params, images)[-1]
    np.testing.assert_allclose(last, jax.nn.relu(found[-1]), atol=1e-5)  # one net, written twice


def rows_of(values):
    names = ("bank", "labels") if isinstance(next(iter(values)), tuple) else ("bank",)
    return story.table(values, names, "accuracy")


def test_claims_read_their_numbers():
    wave = 0.001 * np.arange(10)
    few = {name: 0.8 + 0.03 * (name in FITTED) + wave for name in BANKS}
    many = {name: 0.95 + 0.004 * (name in FITTED) + wave for name in BANKS}
    table = {(n, 50): few[n] for n in BANKS} | {(n, 1000): many[n] for n in BANKS}
    start = {name: 40.0 - 15 * (name in (PCA, WHITE)) + 0 * wave for name in BANKS}
    tables = {"frozen": rows_of(table), "start": rows_of(start)}
    tables["shifts"] = rows_of({WHITE: 0.5 + wave, ALIGNED: 0.6 + wave})
    ends = {
        deep.SMALL: [0.1] * 5,
        deep.HE: [0.9] * 5,
        deep.ORTHOGONAL: [0.9] * 5,
        deep.LSUV: [0.9] * 4 + [0.2],
    }
    tables["deep"] = story.table(ends, ("start",), "accuracy")
    answers = [claim.ours(tables) for claim in story.CLAIMS]
    verdicts = [answer.verdict for answer in answers]
    assert verdicts == ["reproduced", "reproduced", "reproduced", "not reproduced", "partly"]
    assert answers[0].value == pytest.approx(0.03) and answers[2].value == pytest.approx(15)
    assert [claim.ours({}) for claim in story.CLAIMS] == [None] * 5
