"""The experiment on tables of clicks runs on a small file of one's own and refuses bad flags in one line."""

import json
import pathlib

import jax
import numpy as np
import pytest

from experiments import ctr_tables
from experiments.common import clicks as common
from experiments.ctr_tables import Config
from jaxembed import tables

SMALL = {"label": "y", "categorical": ("user", "item"), "dense": ("price",), "seeds": 2, "epochs": 3}
SMALL |= {"budgets": (0.3,), "batch_size": 64, "hidden": (8,), "tiny": 10, "width": 16, "learning_rate": 3e-2}


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """A file in which half of the users click on all, and half on nothing."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(40, size=(2, 1600))
    lines = [f"u{u},i{i},{rng.normal():.3f},{u % 2}" for u, i in zip(users, items, strict=True)]
    path = tmp_path_factory.mktemp("clicks") / "clicks.csv"
    path.write_text("\n".join(["user,item,price,y", *lines]))
    return path


def run(**options):
    ctr_tables.main(Config(**SMALL | options))


@pytest.mark.experiment
def test_a_run_prints_and_saves_every_arm(clicks, tmp_path, capsys):
    run(table=clicks, results=tmp_path, chunks=(2,), angles=False)
    saved = json.loads((tmp_path / "ctr_tables_own.json").read_text())
    collisionless, alone, shared = saved["table"]
    printed = capsys.readouterr().out
    assert (alone["tables"], shared["tables"]) == ("per feature, 2 chunks", "unified, 2 chunks")
    assert all(row["tables"] in printed for row in saved["table"])
    assert collisionless["AUC"] > 0.95 and len(shared["AUCs"]) == 2
    history = np.array(shared["history"])  # [epochs, validation and test, seeds]
    assert history.shape == (3, 2, 2) and shared["epochs"] == (history[:, 0].argmax(axis=0) + 1).tolist()
    assert shared["AUCs"] == [history[e - 1, 1, seed] for seed, e in enumerate(shared["epochs"])]
    assert alone["bytes"] == shared["bytes"] < 0.5 * collisionless["bytes"]
    gain = np.mean(np.subtract(shared["AUCs"], alone["AUCs"]))
    assert shared["gain"] == pytest.approx(gain) and alone["gain"] is None
    assert (tmp_path / "ctr_tables_own.png").stat().st_size > 10_000


@pytest.mark.parametrize("shared", [True, False])
def test_all_schemes_take_the_same_bytes(shared):
    cfg = Config(**{**ctr_tables.SMALL, "compare": "schemes"})
    sizes = {"user": 300, "item": 200, "gender": 3}
    found = {}
    for name, options in ctr_tables.schemes(cfg).items():
        plans = ctr_tables.make_plans(cfg, sizes, 100, tiny=10, multiplexed=shared, **options)
        assert [plan.seed for plan in plans] == [0, 1, 2, 3, 4]
        init, logits = ctr_tables.build(cfg, plans, ctr_tables.dcn(cfg, 3 * 16))
        batch = {"ids": {n: np.zeros(7, np.int32) for n in sizes}, "masks": {}, "dense": np.zeros((7, 0))}
        assert jax.eval_shape(logits, jax.eval_shape(init, jax.random.key(0)), batch).shape == (5, 7)
        found[name] = tables.bytes_of(plans[0])
    assert len(found) == 6
    assert max(found.values()) <= 1.02 * min(found.values())


@pytest.mark.parametrize("name", ctr_tables.SETTINGS)
def test_settings_are_complete(name):
    cfg = Config(data=name, **ctr_tables.SETTINGS[name])
    optional = {"path", "table", "threshold", "time", "limit", "rows"}
    assert not [key for key, value in vars(cfg).items() if value is None and key not in optional]
    assert all(cfg.width % chunks == 0 for chunks in cfg.chunks)


@pytest.mark.experiment
def test_bad_flags_are_refused_in_one_line(clicks, tmp_path):
    for options, message in [
        ({"table": clicks, "chunks": (1, 3)}, "--width 16: choose a multiple of 3"),
        ({"table": clicks, "width": 12, "compare": "schemes"}, "--width 12: choose a multiple of 8"),
        ({"table": clicks, "chunks": (0,)}, "--chunks 0: choose 1 to"),
        ({"table": clicks, "seeds": 0}, "--seeds 0: choose 1 to"),
        ({"table": clicks, "epochs": 0}, "--epochs 0: choose 1 to"),
        ({"table": clicks, "batch_size": 0}, "--batch-size 0: choose 1 to"),
        ({"table": clicks, "limit": 5}, "--label y: the (train|validation|test) rows need both classes"),
        ({"table": clicks, "categorical": ("shop",)}, "column 'shop' is missing; the columns are"),
        ({"table": clicks, "label": "price", "dense": ()}, "label 'price' holds"),
        ({"table": pathlib.Path("nowhere.csv")}, "nowhere.csv: no such file"),
    ]:
        with pytest.raises((ValueError, OSError), match=message) as error:
            run(results=tmp_path, **options)
        assert "\n" not in str(error.value)
    for options, message in [
        ({"data": "criteo"}, "--data criteo needs --path"),
        ({"path": clicks}, "--data movielens_100k takes no --path; give --table"),
        ({"categorical": ("user",)}, "--label, --threshold, --categorical, .* they describe --table"),
    ]:
        with pytest.raises(ValueError, match=message):
            ctr_tables.main(Config(**options, results=tmp_path))


def test_all_columns_without_a_flag_of_their_own_are_categorical(clicks):
    cfg = Config(**SMALL | {"table": clicks, "categorical": ()})
    assert list(common.read(cfg)["sizes"]) == ["user", "item"]
