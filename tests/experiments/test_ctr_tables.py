"""The experiment on tables of clicks runs on a small file of one's own and refuses bad flags in one line."""

import dataclasses
import json
import pathlib
import types

import jax
import numpy as np
import pytest

from experiments.ctr_tables import __main__ as ctr_tables
from experiments.ctr_tables import click_flags, gains, readers
from experiments.ctr_tables.__main__ import Config
from experiments.shared import flags, results
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


RESULTS = pathlib.Path(ctr_tables.__file__).parent / "results"


def run(**options):
    cfg = Config(**SMALL | options)
    found = ctr_tables.run(cfg)
    return results.finish(
        "ctr_tables", flags.run_name(cfg), cfg, found, ctr_tables.CLAIMS, ctr_tables.figures, 1
    )


@pytest.mark.experiment
def test_a_run_prints_and_saves_every_arm(clicks, tmp_path, capsys):
    path = run(table=clicks, results=tmp_path, chunks=(2,), angles=False)
    assert path.name.startswith("own_clicks_")
    saved = json.loads(path.read_text())
    collisionless, alone, shared = rows = saved["tables"]["test AUC"]
    assert (saved["seeds"], saved["config"]["cross"]) == (2, 1) and saved["claims"][0]["verdict"] is None
    printed = capsys.readouterr().out
    assert (alone["tables"], shared["tables"]) == ("per feature, 2 chunks", "unified, 2 chunks")
    assert all(row["tables"] in printed for row in rows)
    assert collisionless["AUC"] > 0.95 and len(shared["AUCs"]) == 2
    history = np.array(shared["validation"])  # [epochs, seeds]
    assert history.shape == (3, 2) and shared["epochs"] == (history.argmax(axis=0) + 1).tolist()
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
        plan = ctr_tables.make_plan(sizes, 100, tiny=10, multiplexed=shared, **options)
        params = jax.eval_shape(lambda key, plan=plan: tables.init_tables(key, plan), jax.random.key(0))
        found[name] = tables.bytes_of(plan)
        assert sum(leaf.size * 4 for leaf in jax.tree.leaves(params)) == found[name]
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
        "results",
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
        (
            {"table": clicks, "categorical": ("shop",)},
            "^--categorical shop: is not a column of .*; the columns are",
        ),
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
            "--counts: has no meaning with --scaling",
        ),
        ({"table": clicks, "predict": clicks}, "--predict: needs --workdir"),
        (
            {"table": clicks, "predict": clicks, "workdir": tmp_path},
            "has no meaning with --predict",
        ),
    ]:
        with pytest.raises((ValueError, OSError), match=message) as error:
            run(results=tmp_path, **options)
        assert "\n" not in str(error.value)
    for options, message in [
        ({"data": "criteo"}, "--data criteo needs --path"),
        ({"path": clicks}, "--data movielens_100k takes no --path; give --table"),
        ({"workdir": tmp_path}, "--workdir: keeps a model of --table"),
        ({"predict": clicks, "workdir": tmp_path}, "^--workdir: .*model.json: missing; train again with"),
        ({"categorical": ("user",)}, "^--categorical: describes a table of your own; name its file with --t"),
        ({"counts": ("price",)}, "^--counts: describes a table of your own"),
        ({"dense": ("price",), "least": 3}, "^--dense, --least: describes a table of your own"),
    ]:
        with pytest.raises((ValueError, OSError), match=message):
            ctr_tables.run(Config(**options, results=tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "yy", "categorical": ()}, "--label yy: is not a column of .*clicks.csv; did you mean 'y'"),
        ({"dense": ("prize",)}, "--dense prize: is not a column of .*; did you mean 'price'"),
        ({"categorical": ("usr", "item")}, "--categorical usr: is not a column of .*; did you mean 'user'"),
        ({"time": "when"}, r"--time when: is not a column of .*; the columns are \['user', 'item'"),
    ],
)
def test_a_column_that_is_missing_is_named_with_its_flag(clicks, options, message):
    cfg = Config(**SMALL | {"table": clicks} | options)
    with pytest.raises(ValueError, match="^" + message) as error:
        click_flags.read(cfg)
    assert "\n" not in str(error.value)


class NoModel:
    """A model that only reads new rows."""

    reading = {"schema": data.Schema(label="y", categorical=("user",), dense=("price",)), "hashed": ("user",)}

    def predict(self, source, schema):
        return data.click_rows(source, schema, {}, hashed=("user",))["dense"][:, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user,price\nu1,cheap\n", "column 'price': invalid value 'cheap', not a number; "),
        ("user,price\n", "holds no rows; mend the file$"),
        ("user\nu1\n", "column 'price' is missing; "),
    ],
)
def test_rows_that_cannot_be_predicted_name_flag_and_file(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(click_flags.recipes, "load_clicks", lambda folder: NoModel())
    (tmp_path / "new.csv").write_text(content)
    cfg = Config(workdir=tmp_path, predict=tmp_path / "new.csv")
    with pytest.raises(ValueError, match=f"^--predict {tmp_path / 'new.csv'}: {message}") as error:
        ctr_tables.run(cfg)
    assert "\n" not in str(error.value)


def test_all_columns_without_a_flag_of_their_own_are_categorical(clicks):
    cfg = Config(**SMALL | {"table": clicks, "categorical": ()})
    assert list(click_flags.read(cfg)["sizes"]) == ["user", "item"]


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
    path = run(table=made / "train.csv", workdir=tmp_path / "model", results=tmp_path, **TEXT)
    ctr_tables.run(Config(workdir=tmp_path / "model", predict=made / "bare.csv"))
    assert "predictions_bare.csv: 1601 rows" in capsys.readouterr().out
    lines = (tmp_path / "model" / "predictions_bare.csv").read_text().split()
    found = np.array(lines[1:], float)
    labels = np.array([line.endswith("yes") for line in (made / "new.csv").read_text().splitlines()[1:]])
    assert lines[0] == "probability" and len(found) == 1601
    assert metrics.auc(labels, found[:1600]) > 0.85 and ((found > 0) & (found < 1)).all()
    assert abs(found[:1600].mean() - labels.mean()) < 0.1
    assert json.loads(path.read_text())["config"]["positive"] == "yes"


@pytest.mark.experiment
def test_numbers_of_any_size_are_learned_from(made, tmp_path):
    cfg = Config(**{**ctr_tables.SMALL, **SMALL, **TEXT, "table": made / "train.csv"})
    found = {}
    for scaling, counts in (("standardise", ("visits",)), ("none", ())):
        cfg = dataclasses.replace(cfg, scaling=scaling, counts=counts)
        table = click_flags.read(cfg)
        plan = ctr_tables.make_plan(table["sizes"], 100, tiny=100, width=cfg.width)
        model, _ = ctr_tables.fit(cfg, table, plan, 4, network={"layers": 1, "hidden": (8,)})
        found[scaling] = ctr_tables.row_of("arm", 1, table, model, 0.0)["AUC"]
    assert found["standardise"] > found["none"] + 0.05


def test_least_makes_rare_values_one_with_those_never_seen(tmp_path):
    path = tmp_path / "t.csv"
    lines = [f"u{i % 20},{(i // 20) % 2}" for i in range(400)]
    path.write_text("\n".join(["user,y", "once,1", *lines]) + "\n")
    cfg = Config(table=path, label="y", tiny=10)
    assert click_flags.read(cfg)["sizes"] == {"user": 21}
    assert click_flags.read(dataclasses.replace(cfg, least=1))["sizes"]["user"] in (21, 22)


def test_the_picture_has_a_dot_and_an_interval_for_each_arm():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name in ("default", "flights", "schemes"):
        numbers = results.numbers_of(json.loads((RESULTS / f"{name}.json").read_text()))
        figure, axes = pyplot.subplots()
        ctr_tables.figures(numbers)[""](axes)
        points = [p for c in axes.collections for p in c.get_offsets() if len(c.get_offsets()) > 1]
        means = [row["AUC"] for row in numbers["test AUC"][1:]]
        assert sorted(float(x) for x, _ in points) == pytest.approx(sorted(means))
        assert len({round(float(y), 3) for _, y in points}) == len(means)  # no dot hides another
        assert axes.get_xlabel().startswith("test AUC") and len(axes.get_yticklabels()) > 3
        pyplot.close(figure)


def test_kept_verdicts_follow_from_the_kept_numbers():
    for path in RESULTS.glob("*.json"):
        saved = json.loads(path.read_text())
        again = results.answered(ctr_tables.CLAIMS, results.Result(saved["tables"], saved["details"]))
        assert json.loads(json.dumps(again)) == saved["claims"]
        assert flags.run_name(Config(**kept_flags(saved)), ctr_tables.RUNS) == saved["run"] == path.stem
    verdicts = {p.stem: json.loads(p.read_text())["claims"][0]["verdict"] for p in RESULTS.glob("*.json")}
    assert verdicts == {"default": "partly", "schemes": "partly", "flights": "not reproduced"}


def kept_flags(saved):
    """The flags of a kept run's command that are values."""
    words = saved["command"].split()[3:]
    given = {}
    for word in words:
        if word.startswith("--"):
            name = word[2:]
            given[name] = ()
        else:
            given[name] = (*given[name], float(word) if word[0].isdigit() else word)
    return {n: x if n == "budgets" else x[0] for n, x in given.items()}


def test_gains_are_those_of_the_same_scheme_budget_and_seed():
    def row(name, budget, *aucs):
        return {"tables": name, "budget": budget, "AUCs": aucs}

    rows = [row("collisionless", None, 0.9, 0.9), row("per feature, a", 1, 0.5, 0.6)]
    rows += [
        row("unified, a", 1, 0.6, 0.8),
        row("per feature, b", 1, 0.5, 0.5),
        row("unified, b", 1, 0.4, 0.4),
    ]
    t = {"test AUC": rows}
    np.testing.assert_allclose(gains.gains(t), [[0.1, -0.1], [0.2, -0.1]])
    np.testing.assert_allclose(gains.gains(t, ("a",)), [[0.1], [0.2]])
    assert gains.gains(t, ("c",)) is None and gains.second_chunk(t) is None and gains.turning(t) is None
    turned = {"reader angles": [{"mean angle": 10.0}, {"mean angle": 9.0}, {"mean angle": 30.0}]}
    assert gains.turning(turned) == (20.0, None, results.NOT)
    grown = {
        "readers": [{"mean angle": 1.0, "squares": [1.0, 2.0]}, {"mean angle": 2.0, "squares": [2.0, 8.0]}]
    }
    assert gains.growing(grown) == (3.0, None, results.REPRODUCED) and gains.growing(t) is None
    assert gains.turning(grown) == (1.0, None, results.REPRODUCED)
    grown["readers"][1]["squares"] = [2.0, 1.0]
    assert gains.growing(grown).verdict == results.NOT


def test_readers_that_are_frozen_stay_equal_and_rows_are_measured_by_member():
    rng = np.random.default_rng(0)
    rows = {n: [f"{n}{i}" for i in rng.integers(9, size=300)] for n in ("a", "b")}
    table = data.ctr_table(rows | {"y": rng.integers(0, 2, 300)}, data.Schema("y", categorical=("a", "b")))
    cfg = types.SimpleNamespace(width=4, batch_size=64, learning_rate=1e-2, decay=0.0, seeds=2, epochs=3)

    def make_plan(budget):
        features = [tables.Feature(n, size=size) for n, size in table["sizes"].items()]
        return tables.plan(features, rows=max(1, round(budget * 12)), width=4)

    found = readers.measure(cfg, table, make_plan, (1, 0.25))
    assert [row["budget"] for row in found] == [2, 1, 0.25]
    assert all(len(row["squares"]) == 2 and 0 <= row["mean angle"] <= 180 for row in found)
    assert all(np.mean(row["squares"]) == row["mean square of rows, frozen readers"] for row in found)
    init, apply = readers.single_layer(4, 2, True)
    params, given = init(jax.random.key(0)), {n: np.ones((3, 4), np.float32) for n in "ab"}
    assert not np.asarray(jax.grad(lambda p: apply(p, given, None).sum())(params)["readers"]).any()
    plan = make_plan(1)
    table_of = np.eye(12)[:, :4] * 2.0
    first, second = readers.squares_of(plan, [table_of, table_of], table["sizes"])
    assert first <= 4 and second <= 4
