"""The experiment on tables of clicks runs on a small file of one's own and refuses bad flags in one line."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from experiments import ctr_tables
from experiments.common import clicks as common
from experiments.common import report
from experiments.ctr_tables import Config
from jaxembed import data, metrics, tables

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
    (path,) = tmp_path.glob("ctr_tables_own_clicks_*.json")
    saved = json.loads(path.read_text())
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
    assert path.with_suffix(".png").stat().st_size > 10_000


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
    optional = {
        "path",
        "table",
        "threshold",
        "time",
        "limit",
        "rows",
        "positive",
        "fill",
        "workdir",
        "predict",
    }
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
        (
            {"table": clicks, "tiny": 128},
            "--tiny 128: no field above --tiny, .* nothing to share",
        ),
        ({"table": clicks, "positive": "1", "threshold": 0}, "--positive, --threshold: one is for texts"),
        (
            {"table": clicks, "positive": "yes"},
            r"label 'y': no row holds --positive 'yes'; it holds \['0', '1'\]",
        ),
        (
            {"table": clicks, "label": "user", "categorical": ("item",)},
            "column 'user': invalid .* takes --positive",
        ),
        ({"table": clicks, "counts": ("item",)}, "--counts item: name columns of --dense price"),
        (
            {"table": clicks, "counts": ("price",), "scaling": "none"},
            "--counts: has no meaning beside --scaling",
        ),
        ({"table": clicks, "predict": clicks}, "--predict: needs --workdir"),
        (
            {"table": clicks, "predict": clicks, "workdir": tmp_path},
            "has no meaning beside --predict",
        ),
    ]:
        with pytest.raises((ValueError, OSError), match=message) as error:
            run(results=tmp_path, **options)
        assert "\n" not in str(error.value)
    for options, message in [
        ({"data": "criteo"}, "--data criteo needs --path"),
        ({"path": clicks}, "--data movielens_100k takes no --path; give --table"),
        ({"workdir": tmp_path}, "--workdir: keeps a model of --table"),
        ({"predict": clicks, "workdir": tmp_path}, "model.json: missing; train again with --workdir"),
        ({"categorical": ("user",)}, "--label, --threshold, --categorical, .* they describe --table"),
    ]:
        with pytest.raises((ValueError, OSError), match=message):
            ctr_tables.main(Config(**options, results=tmp_path))


def test_all_columns_without_a_flag_of_their_own_are_categorical(clicks):
    cfg = Config(**SMALL | {"table": clicks, "categorical": ()})
    assert list(common.read(cfg)["sizes"]) == ["user", "item"]


NAMES = "user, item, price, visits, y"


def rows_of_made_clicks(count, seed):
    """Rows with spaces and gaps, whose labels depend on the user and on two numbers of other sizes."""
    rng, lines = np.random.default_rng(seed), []
    for _ in range(count):
        user, item, (price, visits) = rng.integers(40), rng.integers(40), rng.normal(size=2)
        clicked = rng.random() < 1 / (1 + np.exp(-(4 * (user % 2) - 2 + 2 * price + 2 * visits)))
        number = "" if rng.random() < 0.05 else f"{5e4 + 2e4 * price:.1f}"
        lines.append(f"u{user}, i{item}, {number}, {np.exp(8 + visits):.0f}, {'yes' if clicked else 'no'}")
    return lines


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for name, seed in (("train", 0), ("new", 1)):
        lines = [NAMES, *rows_of_made_clicks(1600, seed)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    bare = [line.rpartition(",")[0] for line in (folder / "new.csv").read_text().splitlines()]
    (folder / "bare.csv").write_text("\n".join(bare) + "\nnever seen, i1, , 5\n")
    return folder


TEXT = {"label": "y", "positive": "yes", "strip": True, "categorical": (), "dense": ("price", "visits")}
TEXT |= {"counts": ("visits",), "chunks": (2,), "angles": False, "epochs": 5}


@pytest.mark.experiment
def test_a_saved_model_predicts_new_rows_without_labels(made, tmp_path, capsys):
    run(table=made / "train.csv", workdir=tmp_path / "model", results=tmp_path, **TEXT)
    ctr_tables.main(Config(workdir=tmp_path / "model", predict=made / "bare.csv"))
    assert "predictions_bare.csv: 1601 rows" in capsys.readouterr().out
    lines = (tmp_path / "model" / "predictions_bare.csv").read_text().split()
    found = np.array(lines[1:], float)
    labels = np.array([line.endswith("yes") for line in (made / "new.csv").read_text().splitlines()[1:]])
    assert lines[0] == "probability" and len(found) == 1601
    assert metrics.auc(labels, found[:1600]) > 0.85 and ((found > 0) & (found < 1)).all()
    assert abs(found[:1600].mean() - labels.mean()) < 0.1
    (path,) = tmp_path.glob("ctr_tables_own_*.json")
    assert json.loads(path.read_text())["config"]["positive"] == "yes"


@pytest.mark.experiment
def test_the_saved_parameters_are_those_after_the_best_epoch(made, tmp_path):
    cfg = Config(**{**ctr_tables.SMALL, **SMALL, **TEXT, "workdir": tmp_path, "table": made / "train.csv"})
    table = common.read(cfg)
    plans = ctr_tables.make_plans(cfg, table["sizes"], 40, tiny=cfg.tiny, width=cfg.width)
    network = ctr_tables.dcn(cfg, len(table["sizes"]) * cfg.width + 2)
    found = ctr_tables.fit(cfg, table, plans, network, cfg.epochs)
    _, logits = ctr_tables.build(cfg, plans, network)
    test = table["splits"]["test"]
    scores = logits(found["best"], data.take(table["columns"], test))
    aucs = [metrics.auc(table["columns"]["labels"][test], s) for s in scores]
    np.testing.assert_allclose(aucs, found["AUCs"], atol=1e-6)


@pytest.mark.experiment
def test_numbers_of_any_size_are_learned_from(made, tmp_path):
    cfg = Config(**{**ctr_tables.SMALL, **SMALL, **TEXT, "table": made / "train.csv"})
    found = {}
    for scaling, counts in (("standardise", ("visits",)), ("none", ())):
        cfg = dataclasses.replace(cfg, scaling=scaling, counts=counts)
        table = common.read(cfg)
        plans = ctr_tables.make_plans(cfg, table["sizes"], 100, tiny=100, width=cfg.width)
        network = ctr_tables.dcn(cfg, len(table["sizes"]) * cfg.width + 2)
        found[scaling] = ctr_tables.fit(cfg, table, plans, network, 4)["AUCs"].mean()
    assert found["standardise"] > found["none"] + 0.05


def test_least_makes_rare_values_one_with_those_never_seen(tmp_path):
    path = tmp_path / "t.csv"
    lines = [f"u{i % 20},{(i // 20) % 2}" for i in range(400)]
    path.write_text("\n".join(["user,y", "once,1", *lines]) + "\n")
    cfg = Config(table=path, label="y", tiny=10)
    assert common.read(cfg)["sizes"] == {"user": 21}
    assert common.read(dataclasses.replace(cfg, least=1))["sizes"]["user"] in (21, 22)


def test_the_picture_has_a_dot_and_an_interval_for_each_arm():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name in ("ctr_tables", "ctr_tables_flights", "ctr_tables_schemes"):
        numbers = json.loads((report.RESULTS / f"{name}.json").read_text())
        figure, axes = pyplot.subplots()
        ctr_tables.picture(numbers)(axes)
        points = [p for c in axes.collections for p in c.get_offsets() if len(c.get_offsets()) > 1]
        means = [row["AUC"] for row in numbers["table"][1:]]
        assert sorted(float(x) for x, _ in points) == pytest.approx(sorted(means))
        assert len({round(float(y), 3) for _, y in points}) == len(means)  # no dot hides another
        assert axes.get_xlabel().startswith("test AUC") and len(axes.get_yticklabels()) > 3
        pyplot.close(figure)
