"""A click model is trained, saved, loaded and asked about new rows; touched rows train as all rows do."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flips import silent
from full_disk import fails

from jaxembed import data, encoders, files, metrics, recipes, tables, train
from jaxembed.recipes import clicks

SCHEMA = data.Schema("y", categorical=("user", "item"), dense=("price",), multivalent=("tags",))
FAST = {"epochs": 3, "batch_size": 64, "rate": 3e-2, "network": {"layers": 1, "hidden": (8,)}}


def rows(count, seed):
    """Rows whose label depends on the user and on the price."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(40, size=(2, count))
    price = rng.normal(size=count)
    labels = rng.random(count) < 1 / (1 + np.exp(-(4 * (users % 2) - 2 + 2 * price)))
    tags = [" ".join(f"t{t}" for t in rng.integers(5, size=n)) for n in rng.integers(4, size=count)]
    found = {"user": [f"u{u}" for u in users], "item": [f"i{i}" for i in items], "price": price, "tags": tags}
    return found | {"y": labels.astype(int)}


@pytest.fixture(scope="module")
def table():
    return data.ctr_table(rows(1200, 0), SCHEMA, scaling="standardise", least=2)


@pytest.fixture(scope="module")
def fitted(table):
    return recipes.fit_clicks(table, members=2, **FAST)


def small_plan(table, **options):
    names = table["sizes"]
    features = [tables.Feature(n, vocabulary=8 if n == "tags" else None, size=names[n]) for n in names]
    return tables.plan(features, **{"rows": 40, "width": 8} | options)


def test_a_model_predicts_rows_it_never_saw(fitted):
    new = rows(400, 1)
    labels = new.pop("y")
    found = fitted.predict(new)
    assert found.shape == (400,) and found.dtype == np.float32 and ((found > 0) & (found < 1)).all()
    assert metrics.auc(labels, found) > 0.85
    assert fitted.epochs == (np.argmax(fitted.history, axis=0) + 1).tolist() and len(fitted.epochs) == 2


def test_a_loaded_model_predicts_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = recipes.load_clicks(tmp_path / "model")
    new = rows(50, 2)
    new["user"][0], new["tags"][1], new["price"][2] = "never seen", "new tags", np.nan
    np.testing.assert_array_equal(loaded.predict(new), fitted.predict(new))
    assert (loaded.plan, loaded.epochs, loaded.history) == (fitted.plan, fitted.epochs, fitted.history)
    fitted.save(tmp_path / "model")
    assert sorted(p.suffix for p in (tmp_path / "model").glob("[!.]*")) == [".json", ".npz"]


def test_a_file_of_rows_is_read_in_its_own_form(fitted, tmp_path):
    new = rows(20, 3)
    lines = ["\t".join(map(str, line)) for line in zip(*(new[n] for n in SCHEMA.columns[1:]), strict=True)]
    (tmp_path / "new.tsv").write_text("\n".join(["\t".join(SCHEMA.columns[1:]), *lines]) + "\n")
    schema = data.Schema(**{**vars(SCHEMA), "separator": "\t"})
    found = fitted.predict(tmp_path / "new.tsv", schema=schema)
    np.testing.assert_allclose(found, fitted.predict(new), atol=1e-6)
    assert len(fitted.predict(new, limit=7)) == 7


def test_unseen_values_count_as_rare_ones(fitted):
    one = {"user": ["x"], "item": ["y"], "price": [0.0], "tags": [""]}
    two = {"user": ["other"], "item": ["values"], "price": [0.0], "tags": ["that nobody saw"]}
    assert fitted.predict(one) == fitted.predict(two | {"tags": [""]})


def test_columns_that_lack_are_named(fitted):
    new = rows(5, 0)
    del new["item"]
    with pytest.raises(ValueError, match="column 'item' is missing"):
        fitted.predict(new)
    with pytest.raises(ValueError, match="source: holds no rows"):
        fitted.predict({name: [] for name in SCHEMA.columns[1:]})


@pytest.mark.parametrize(
    "model, options", [("deepfm", {"hidden": (8,)}), ("dlrm", {"bottom": (8,), "top": (8,)})]
)
def test_every_network_learns_and_is_saved(model, options, table, tmp_path):
    plan = small_plan(table)
    made = recipes.fit_clicks(table, plan, model=model, **FAST | {"network": options})
    new = rows(300, 4)
    assert metrics.auc(new["y"], made.predict(new)) > 0.75
    made.save(tmp_path)
    np.testing.assert_array_equal(recipes.load_clicks(tmp_path).predict(new), made.predict(new))


@pytest.mark.parametrize("merge", ["concat", "weighted", "product"])
def test_touched_rows_train_a_model_too(merge, table):
    plan = small_plan(table, merge=merge)
    made = recipes.fit_clicks(table, plan, row_rate=0.1, **FAST)
    new = rows(300, 4)
    assert metrics.auc(new["y"], made.predict(new)) > 0.8
    assert made.params["table"]["embedding"].shape == (1, 40, 8)


def test_touched_rows_give_the_steps_of_the_whole_table(table):
    """SGD on the rows of a batch is SGD on the table: the recipe's codes and lists are the right ones."""
    plan, rows_of_batch = small_plan(table), table["splits"]["train"][:64]
    batch = data.take(table["columns"], rows_of_batch)
    shape = sum(f.chunks * plan.width for f in plan.features) + 1

    def init(key):
        return tables.init_tables(key, plan) | {"network": encoders.init_dcn(key, shape, layers=1, hidden=())}

    def loss_fn(params, batch, key):
        found = tables.lookup(plan, params, batch["codes"], batch["masks"])
        x = jnp.concatenate([*found.values()], axis=1)
        logits = encoders.dcn(params["network"], x, batch["dense"])
        return optax.sigmoid_binary_cross_entropy(logits, batch["labels"]).mean(), {}

    sgd, rest = optax.sgd(1.0), {"masks": batch["masks"], "dense": batch["dense"], "labels": batch["labels"]}
    whole = rest | {"codes": tables.codes(plan, batch["ids"])}
    touched = rest | tables.touched(plan, batch["ids"], batch["masks"], plan.height + 1)
    mesh = train.make_mesh(1)
    one = train.fit(init=init, loss_fn=loss_fn, tx=sgd, batches=[whole], steps=1, mesh=mesh).params
    update = tables.row_update(loss_fn, sgd, {"table/embedding": sgd})
    two = train.fit(init=init, update=update, batches=[touched], steps=1, mesh=mesh).params
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_members_are_models_of_their_own(table, fitted):
    one = fitted.scores(table["columns"], table["splits"]["test"])
    assert one.shape == (2, len(table["splits"]["test"])) and np.abs(one[0] - one[1]).max() > 0.01


def test_the_kept_parameters_are_those_after_the_best_epoch(table, fitted):
    labels = table["columns"]["labels"][table["splits"]["validation"]]
    found = fitted.scores(table["columns"], table["splits"]["validation"])
    aucs = [float(metrics.auc(labels, s)) for s in found]
    np.testing.assert_allclose(aucs, np.max(fitted.history, axis=0), atol=1e-6)


def test_a_stopped_run_resumes_to_the_same_model(table, tmp_path):
    whole = recipes.fit_clicks(table, workdir=tmp_path / "whole", **FAST)
    recipes.fit_clicks(table, workdir=tmp_path / "parts", **FAST | {"epochs": 1})
    parts = recipes.fit_clicks(table, workdir=tmp_path / "parts", **FAST)
    assert parts.history == whole.history and parts.epochs == whole.epochs
    jax.tree.map(np.testing.assert_array_equal, parts.params, whole.params)
    again = recipes.fit_clicks(table, workdir=tmp_path / "parts", **FAST)
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    with pytest.raises(ValueError, match="rate"):
        recipes.fit_clicks(table, workdir=tmp_path / "parts", **FAST | {"rate": 0.5})


@pytest.mark.parametrize("row_rate", [None, 0.1])
def test_meshes_give_the_same_model(table, row_rate):
    plan = small_plan(table)
    found = [
        recipes.fit_clicks(table, plan, mesh=mesh, row_rate=row_rate, **FAST).predict(rows(50, 5))
        for mesh in (train.make_mesh(1), train.make_mesh(4, 2))
    ]
    np.testing.assert_allclose(*found, atol=1e-3)


def test_a_table_that_is_whole_in_training_has_the_last_parameters():
    table = data.ctr_table(rows(60, 0), SCHEMA, fractions=(1, 0, 0), scaling="standardise")
    made = recipes.fit_clicks(table, **FAST | {"batch_size": 7})
    assert made.history == [] and made.epochs == [3]
    assert made.predict(rows(5, 1)).shape == (5,)


def test_transforms_are_given_again(tmp_path):
    read = {"transform": {"price": np.abs}}
    table = data.ctr_table(rows(100, 0), SCHEMA, **read)
    made = recipes.fit_clicks(table, **FAST | {"epochs": 1})
    made.save(tmp_path)
    new = rows(5, 1)
    np.testing.assert_array_equal(recipes.load_clicks(tmp_path, **read).predict(new), made.predict(new))
    with pytest.raises(ValueError, match=r"^transform: has \[\]; give a function for each of \['price'\]"):
        recipes.load_clicks(tmp_path)


def refused(message, function, *arguments, **options):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)


def test_bad_input_is_refused_in_one_line(table, fitted, tmp_path):
    fit, plan = recipes.fit_clicks, small_plan(table)
    refused(r"^table: has no \['splits'", fit, {"columns": {}, "sizes": {}})
    refused("^epochs=0; give an int of at least 1", fit, table, epochs=0)
    refused("^batch_size=True; give an int", fit, table, batch_size=True)
    refused("^rate=-1; give a number above 0", fit, table, rate=-1)
    refused("^decay=-1; give a number of at least 0", fit, table, decay=-1)
    refused("^members=2: row_rate trains one model", fit, table, members=2, row_rate=0.1)
    refused(r"^model='mlp'; choose one of \['dcn'", fit, table, model="mlp")
    refused(
        r"^network: \['wide'\] are not options of model='dcn'; choose among \['layers'",
        fit,
        table,
        network={"wide": 1},
    )
    refused("^network: has no meaning", fit, table, model=(print, print), network={"hidden": ()})
    other = tables.plan([tables.Feature("shop")], rows=8, width=4)
    refused("^plan: feature 'shop' is not a column of the table", fit, table, other)
    few = tables.plan([tables.Feature("user", vocabulary=3)], rows=8, width=4)
    refused("^plan: feature 'user' takes 3 ids, the table has 41", fit, table, few)
    none = tables.plan([tables.Feature("tags", combine="none")], rows=8, width=4)
    refused("^plan: feature 'tags' has combine='none'", fit, table, none)
    mixed = tables.plan([tables.Feature("user", chunks=2), tables.Feature("item")], rows=8, width=4)
    refused("^plan: model='dlrm' needs vectors of one width", fit, table, mixed, model="dlrm")
    hashed = data.ctr_table(rows(60, 0), SCHEMA, hashed=("user",))
    refused("^plan: feature 'user' has hashed ids", fit, hashed, small_plan(hashed, scheme="exact", rows=500))
    single = data.ctr_table({**rows(60, 0), "y": np.ones(60)}, SCHEMA)
    refused("^table: all 48 training labels are 1; give rows of both", fit, single)
    refused("^mesh: 8 devices for batches of 4 rows", fit, table, plan, batch_size=4, mesh=train.make_mesh(8))
    refused("model.json: missing; save the model again", recipes.load_clicks, tmp_path)
    own = recipes.fit_clicks(table, plan, model=pair(), **FAST | {"epochs": 1, "network": None})
    assert own.predict(rows(3, 0)).shape == (3,)
    refused("^model: is a pair of functions", own.save, tmp_path / "own")


def pair():
    """A network of one's own: one vector reads every feature."""
    return (
        lambda key: {"reader": jax.random.normal(key, (8,))},
        lambda params, found, dense: sum(x @ params["reader"] for x in found.values()),
    )


def test_damaged_models_are_refused_in_one_line(fitted, tmp_path):
    def damaged(name, change):
        folder = tmp_path / name
        fitted.save(folder)
        change(folder)
        return folder

    def edit(**values):
        def change(folder):
            saved = json.loads((folder / "model.json").read_text())
            (folder / "model.json").write_text(json.dumps(saved | values))
            refused("the checksum differs", recipes.load_clicks, folder)
            del saved["checksum"]  # as an older version wrote it
            (folder / "model.json").write_text(json.dumps(saved | values))

        return change

    def cut(folder):
        (path,) = folder.glob("*.npz")
        path.write_bytes(path.read_bytes()[:-100])

    def remove(folder):
        next(folder.glob("*.npz")).unlink()

    for name, change, message in (
        ("cut", cut, "damaged or cut short; save the model again"),
        ("removed", remove, "params-.*npz: missing; save"),
        ("format", edit(format=9), "format 9, expected 1; save"),
        ("plan", edit(plan={"rows": 3}), "model.json: .*save the model again"),
        ("members", edit(epochs=[1]), "epochs: 1 members, not those of params"),
        ("key", edit(chdcksum=""), "'chdcksum' is unknown"),
        ("path", edit(params="../x.npz"), "is not a path inside the folder"),
        ("kind", edit(vocabularies=[]), "vocabularies: .* is not an object"),
        ("text", lambda folder: (folder / "model.json").write_text("{"), "damaged or cut short"),
    ):
        refused(message, recipes.load_clicks, damaged(name, change))


def test_a_saved_model_is_whole_or_as_it_was(fitted, tmp_path):
    fitted.save(tmp_path)
    fails(tmp_path, lambda: fitted.save(tmp_path), [0, 100, 4000])
    for path in sorted(tmp_path.glob("[!.]*")):
        assert not silent(path, lambda: recipes.load_clicks(tmp_path), count=40)
    with files.held(tmp_path, "a save"), pytest.raises(BlockingIOError, match="written by a save of process"):
        fitted.save(tmp_path)
    fitted.save(tmp_path)
    recipes.load_clicks(tmp_path)


def test_small_tables_have_no_shared_rows_to_touch(tmp_path):
    table = data.ctr_table({"c": ["a", "b"] * 40, "y": [1, 0] * 40}, data.Schema("y", ("c",)))
    drawn = {"kernel_init": jax.nn.initializers.normal(0.1)} | FAST["network"]
    made = recipes.fit_clicks(table, row_rate=0.1, workdir=tmp_path / "run", **FAST | {"network": drawn})
    found = made.predict({"c": ["a", "b", "never seen"]})
    assert found[0] > found[1]
    assert made.scores(table["columns"], []).shape == (1, 0)
    made.save(tmp_path / "model")
    again = recipes.load_clicks(tmp_path / "model").predict({"c": ["a", "b", "x"]})
    np.testing.assert_array_equal(again, found)


def test_hashed_features_are_read_as_they_were():
    table = data.ctr_table(rows(400, 0), SCHEMA, hashed=("user", "tags"), longest=2, scaling="standardise")
    for row_rate in (None, 0.1):
        made = recipes.fit_clicks(table, row_rate=row_rate, **FAST)
        assert made.predict(rows(9, 1)).shape == (9,)
        one = made.scores(table["columns"], [0, 1])
        np.testing.assert_allclose(one, made.scores(table["columns"])[:, :2], rtol=1e-5)


# Patience


def test_members_within_patience_see_what_each_would_have_seen_alone():
    history = [[0.5, 0.5, 0.5], [0.6, 0.4, 0.5], [0.5, 0.3, 0.6], [0.6, 0.9, 0.7], [0.9, 0.9, 0.8]]
    seen, going = clicks.within_patience(history, 2)
    assert going.tolist() == [False, False, True]
    ends = [4, 3, 5]  # epochs that a run of this member alone would have had
    for s, end in enumerate(ends):
        alone = train.log.patience_left(
            [{"step": e, "kind": "evaluate", "auc": row[s]} for e, row in enumerate(history[:end])], "auc", 2
        )
        assert (alone <= 0) == (not going[s])
        assert np.isfinite(seen[:end, s]).all() and not np.isfinite(seen[end:, s]).any()
    assert np.argmax(seen, axis=0).tolist() == [1, 0, 4]
    assert clicks.within_patience(history, None)[1].all()


def test_patience_ends_the_run_and_keeps_the_best_epoch(table):
    """At a rate that soon overfits, the run is short, and its model that of the whole run's same epoch."""
    wild = FAST | {"rate": 0.3, "epochs": 12, "members": 2}
    short = recipes.fit_clicks(table, patience=1, **wild)
    assert len(short.history) < 12
    seen, going = clicks.within_patience(short.history, 1)
    assert not going.any() and short.epochs == (np.argmax(seen, axis=0) + 1).tolist()
    whole = recipes.fit_clicks(table, **wild | {"epochs": len(short.history)})
    np.testing.assert_allclose(whole.history, short.history, rtol=1e-6)
    with pytest.raises(ValueError, match="patience=0; give an int of at least 1"):
        recipes.fit_clicks(table, patience=0, **FAST)
