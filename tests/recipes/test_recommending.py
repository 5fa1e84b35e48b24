"""Two towers are trained, asked, given new items, saved and loaded; both losses are what they should be."""

import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed import data, encoders, losses, recipes, search, tables, train
from jaxembed.recipes import _tower_steps as steps_of

GENRES = ("war", "fun", "art", "sea")
SCHEMA = data.Schema(None, ("item", "genre", "maker"), multivalent=("tags",))
FAST = {
    "batch_size": 64,
    "epochs": 8,
    "rate": 0.01,
    "hidden": (16,),
    "width": 8,
    "history": 4,
    "k": 5,
    "mesh": train.make_mesh(1),
}


def films(count, seed=0, first=0):
    rng = np.random.default_rng(seed)
    genre = rng.integers(4, size=count)
    tags = [" ".join(sorted({f"t{4 * g + t}" for t in rng.integers(4, size=2)})) for g in genre]
    names = [f"film{first + i}" for i in range(count)]
    return {
        "item": names,
        "genre": [GENRES[g] for g in genre],
        "maker": (genre * 5 + rng.integers(5, size=count)).tolist(),
        "tags": tags,
    }


FILMS = films(60)
USERS = {"user": [f"u{i}" for i in range(40)], "city": [f"c{i % 3}" for i in range(40)]}


def events(count=1200, seed=1):
    """Each user likes one genre."""
    rng = np.random.default_rng(seed)
    of = {g: [n for n, x in zip(FILMS["item"], FILMS["genre"], strict=True) if x == g] for g in GENRES}
    users = rng.integers(40, size=count)
    taken = [of[GENRES[u % 4]] if rng.random() < 0.9 else FILMS["item"][:-5] for u in users]
    items = [names[rng.integers(len(names))] for names in taken]
    last = set(FILMS["item"][-5:])  # five films that nobody took
    kept = [i for i, name in enumerate(items) if name not in last]
    log = {"user": [f"u{users[i]}" for i in kept], "item": [items[i] for i in kept], "time": kept}
    return data.interactions(log, data.Schema(None, ("user", "item"), time="time"))


LOG = events()
ITEMS = data.catalogue(FILMS, SCHEMA)
OF_USERS = data.catalogue(USERS, data.Schema(None, ("user", "city")), key="user")
SPLITS = data.leave_last_out(LOG["users"], LOG["time"])


SIZES = ITEMS["sizes"] | OF_USERS["sizes"]
PLAN = tables.plan(
    [tables.Feature(n, chunks=2, vocabulary=s if s < 10 else None) for n, s in SIZES.items()],
    rows=100,
    width=4,
)


@functools.cache
def fitted(**options):
    return recipes.train_towers(LOG, ITEMS, OF_USERS, splits=SPLITS, plan=PLAN, **FAST | options)


def liked(model, names):
    """Share of recommended films that are of the genre that a user likes."""
    genre = dict(zip(FILMS["item"], FILMS["genre"], strict=True)) | {"new": "sea"}
    users = [f"u{i}" for i in range(40)]
    return np.mean(
        [genre[n] == GENRES[int(u[1:]) % 4] for u, row in zip(users, names, strict=True) for n in row]
    )


@pytest.mark.parametrize(
    "options", [{}, {"masks": "random", "frequency": "streaming"}, {"weight": 0.0, "hide": 0.2, "history": 0}]
)
def test_users_get_what_they_like_and_have_not_taken(options):
    model = fitted(**options)
    users = [f"u{i}" for i in range(40)]
    scores, names = model.recommend(users, 3)
    assert scores.shape == names.shape == (40, 3) and (np.diff(scores, axis=1) <= 0).all()
    assert liked(model, names) > 0.6
    known = np.concatenate([SPLITS["train"], SPLITS["validation"]])
    taken = {(LOG["names"]["user"][LOG["users"][r]], LOG["names"]["item"][LOG["items"][r]]) for r in known}
    assert not any((u, n) in taken for u, row in zip(users, names, strict=True) for n in row)
    assert any(
        (u, n) in taken
        for u, row in zip(users, model.recommend(users, 3, seen=True)[1], strict=True)
        for n in row
    )
    assert len(model.recalls) == FAST["epochs"] and max(model.recalls) > 0.2
    one = model.recommend(users[7:8], 3)
    assert one[1].tolist() == names[7:8].tolist()


def test_recommending_is_the_exact_search_without_what_was_taken():
    model, users = fitted(), ["u3", "u3", "u8"]
    scores, names = model.recommend(users, len(FILMS["item"]))
    all_scores, all_names = model.recommend(users, len(FILMS["item"]), seen=True)
    for b, user in enumerate(users):
        row = OF_USERS["names"].index(user)
        starts, taken = model._taken
        gone = {ITEMS["names"][i] for i in taken[starts[row] : starts[row + 1]]}
        kept = [(s, n) for s, n in zip(all_scores[b], all_names[b], strict=True) if n not in gone]
        assert names[b][: len(kept)].tolist() == [n for _, n in kept]
        np.testing.assert_allclose(scores[b][: len(kept)], [s for s, _ in kept], rtol=1e-5)
        assert set(names[b][len(kept) :]) <= {""} and (scores[b][len(kept) :] == -np.inf).all()
    assert names[0].tolist() == names[1].tolist()
    # Scores are cosines alone, whatever corrects the loss; a query holds the events before it.
    row = int(SPLITS["test"][0])
    user, cosines = LOG["names"]["user"][LOG["users"][row]], model.query_vectors([row]) @ model.item_vectors.T
    found = model.recommend([user], 60, seen=True)[0]
    np.testing.assert_allclose(found[0], np.sort(np.asarray(cosines[0]))[::-1], rtol=1e-4, atol=1e-5)


def test_a_loaded_model_recommends_the_same(tmp_path):
    model = fitted()
    model.save(tmp_path / "model")
    loaded = recipes.load_towers(tmp_path / "model")
    users = [f"u{i}" for i in range(40)]
    for found, expected in zip(loaded.recommend(users, 4), model.recommend(users, 4), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(loaded.item_vectors, model.item_vectors)
    assert (loaded.plan, loaded.recalls) == (model.plan, model.recalls)
    with pytest.raises(ValueError, match="a loaded model has no log"):
        loaded.query_vectors([0])
    model.save(tmp_path / "model")
    assert sorted(p.suffix for p in (tmp_path / "model").glob("[!.]*")) == [".json", ".npz"]
    loaded.save(tmp_path / "again")
    again = recipes.load_towers(tmp_path / "again").recommend(users, 4)
    np.testing.assert_array_equal(again[1], model.recommend(users, 4)[1])


def test_new_items_are_found_by_their_features():
    model = fitted()
    assert (model.counts[-5:] == 0).all() and (model.items["ids"]["item"][-5:] == 0).all()
    new = {"item": ["new"], "genre": ["sea"], "maker": [3 * 5 + 1], "tags": ["t13 t14"]}
    larger = model.with_items(new)
    assert len(larger.items["names"]) == 61 and len(model.items["names"]) == 60
    np.testing.assert_array_equal(larger.item_vectors[:60], model.item_vectors)
    rank = [row.tolist().index("new") for row in larger.recommend([f"u{i}" for i in range(40)], 61)[1]]
    sea = [r for u, r in enumerate(rank) if u % 4 == 3]
    rest = [r for u, r in enumerate(rank) if u % 4 != 3]
    assert np.mean(sea) + 5 < np.mean(rest)
    with pytest.raises(ValueError, match="item 'film3' is in the catalogue already"):
        model.with_items(films(1, first=3))
    with pytest.raises(ValueError, match="column 'maker' is missing"):
        model.with_items({n: x for n, x in new.items() if n != "maker"})


def test_queries_may_be_features_alone(tmp_path):
    rng = np.random.default_rng(2)
    genre = rng.integers(4, size=600)
    own = {
        g: [n for n, x in zip(FILMS["item"], FILMS["genre"], strict=True) if x == GENRES[g]] for g in range(4)
    }
    log = {
        "item": [own[g][rng.integers(len(own[g]))] for g in genre],
        "asked": [f"w{g} w{rng.integers(9)}" for g in genre],
    }
    schema = data.Schema(None, ("item",), multivalent=("asked",))
    found = data.interactions(log, schema, user=None)
    model = recipes.train_towers(found, ITEMS, **FAST | {"history": 0})
    assert model.recalls == []
    names = model.recommend(context={"asked": ["w1", "w3 w3"]}, k=5)[1]
    right = [[FILMS["genre"][FILMS["item"].index(n)] for n in row] for row in names]
    assert np.mean([g == "fun" for g in right[0]]) > 0.5 and np.mean([g == "sea" for g in right[1]]) > 0.5
    model.save(tmp_path)
    again = recipes.load_towers(tmp_path).recommend(context={"asked": ["w1", "w3 w3"]}, k=5)[1]
    assert again.tolist() == names.tolist()
    with pytest.raises(ValueError, match=r"context: give the columns \['asked'\]"):
        model.recommend()
    with pytest.raises(ValueError, match="the log has none; give a context"):
        model.recommend(["u1"])


# The step


def parts(seed=0, weight=0.5, **options):
    """A model before training, its step, and the columns of one batch."""
    model = recipes.TowerModel.untrained(LOG, ITEMS, OF_USERS, SPLITS, history=0)
    given = {"masks": "correlated", "information": np.eye(4).tobytes(), "drop": 0.2, "hide": 0.0}
    given |= {"frequency": "counts", "temperature": 0.1, "rates": (0.01, 0.1)} | options
    step = steps_of.Step(plan=PLAN, weight=weight, **given)
    rows = SPLITS["train"][:16]
    items = model.events["items"][rows]
    item = data.take(model.item_columns, items) | {"id": items, "log_q": np.log(np.full(16, 0.1, np.float32))}
    drawn = np.arange(8, dtype=np.int32)
    views = data.take(model.item_columns, drawn) | {"id": drawn}
    columns = {"query": model.queries(rows), "item": item} | ({"views": views} if weight else {})
    sides, dense = model.sides()
    init = functools.partial(encoders.init_towers, plan=PLAN, sides=dict(sides), dense=dict(dense), width=8)
    return step, columns, init(jax.random.key(seed))


def test_rows_of_both_batches_train_as_the_whole_table_does():
    """SGD on the rows that pairs and views touch is SGD on the table."""
    step, columns, params = parts(drop=0.0)
    most = steps_of.most_rows(step.plan, columns)
    batch = steps_of.batch_of(step.plan, columns, most)
    loss_fn = functools.partial(steps_of.loss_fn, step)
    sgd = optax.sgd(0.1)
    init, update = tables.row_update(loss_fn, sgd, {steps_of.PATH: sgd})
    key = jax.random.key(3)
    state, _ = update(train.TrainState(jnp.int32(0), params, init(params)), batch, key)
    whole = {
        part: {n: x for n, x in found.items() if n != "ids"}
        | {"codes": tables.codes(step.plan, found["ids"], only=found["ids"])}
        for part, found in columns.items()
    }
    gradient = jax.grad(lambda p: loss_fn(p, whole, key)[0])(params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    chex.assert_trees_all_close(state.params, expected, rtol=1e-4, atol=1e-6)
    moved = np.flatnonzero(
        np.abs(state.params["table"]["embedding"] - params["table"]["embedding"]).max(axis=1)
    )
    listed = batch["rows"][steps_of.PATH]
    assert set(moved) <= set(listed.tolist()) and len(moved) < step.plan.height


def test_the_loss_is_that_of_its_parts():
    step, columns, params = parts(masks="random", drop=0.0)
    batch = steps_of.batch_of(step.plan, columns, steps_of.most_rows(step.plan, columns))
    small = params | {
        "table": {
            "embedding": params["table"]["embedding"][
                jnp.minimum(batch["rows"][steps_of.PATH], step.plan.height - 1)
            ]
        }
    }
    key = jax.random.key(5)
    loss, found = steps_of.loss_fn(step, small, batch, key)
    encode = functools.partial(encoders.encode_tower, small, plan=step.plan)
    items = encode(batch["item"], side="item")
    main = losses.sampled_softmax(
        encode(batch["query"], side="query"), items, ids=batch["item"]["id"], log_q=batch["item"]["log_q"]
    )
    hidden = steps_of.hidden_of(step, jax.random.split(jax.random.split(key)[1], 3)[0], 4)
    np.testing.assert_array_equal(hidden[0], ~hidden[1])
    views = [encode(batch["views"], side="item", hidden=h) for h in hidden]
    second = losses.info_nce(*views, temperature=0.1)
    np.testing.assert_allclose(found["main"], main.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["views"], second.mean(), rtol=1e-5)
    np.testing.assert_allclose(loss, main.mean() + 0.5 * second.mean(), rtol=1e-5)


def test_without_weight_it_is_the_plain_model_bit_by_bit():
    """The masks and rates of a second loss that is left out change nothing."""
    first = fitted(weight=0.0, hide=0.2, history=0, epochs=2)
    second = fitted(weight=0.0, hide=0.2, history=0, epochs=2, masks="random", drop=0.7, sampling="log")
    chex.assert_trees_all_equal(first.params, second.params)


def test_without_masks_and_dropout_items_spread_out():
    step, columns, params = parts(masks=None, drop=0.0)
    batch = steps_of.batch_of(step.plan, columns, steps_of.most_rows(step.plan, columns))
    table = params["table"]["embedding"][jnp.minimum(batch["rows"][steps_of.PATH], step.plan.height - 1)]
    encode = functools.partial(
        encoders.encode_tower, params | {"table": {"embedding": table}}, plan=step.plan
    )
    found = steps_of.view_loss(step, encode, batch["views"], jax.random.key(0), 4)
    np.testing.assert_allclose(found, losses.spread_out(encode(batch["views"], side="item")), rtol=1e-5)


def test_a_new_seed_compiles_nothing():
    fitted(epochs=1)
    counted = []

    class Counts:
        def __call__(self, name, *_, **__):
            counted.append(name)

    count = Counts()
    jax.monitoring.register_event_duration_secs_listener(count)
    fitted(epochs=1, seed=7)
    compiled = [name for name in counted if "backend_compile" in name]
    assert not compiled


def test_a_stopped_run_goes_on_bit_by_bit(tmp_path):
    options = {"masks": "random", "frequency": "streaming"}
    whole = fitted(epochs=3, **options)
    fitted.__wrapped__(epochs=1, workdir=tmp_path, **options)
    resumed = fitted.__wrapped__(epochs=3, workdir=tmp_path, **options)
    chex.assert_trees_all_equal(resumed.params, whole.params)
    assert resumed.recalls == whole.recalls


@pytest.mark.slow
def test_many_devices_train_as_one():
    one = fitted(epochs=1)
    many = fitted(epochs=1, mesh=train.make_mesh(4, 2))
    chex.assert_trees_all_close(one.params, many.params, rtol=2e-3, atol=2e-3)


# Bad input


def named(log, **columns):
    return data.catalogue(columns, data.Schema(None, tuple(columns)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: recipes.train_towers(LOG, named(LOG, item=["film0"]), **FAST),
            "more of .* are not in the catalogue",
        ),
        (lambda: recipes.train_towers(LOG, OF_USERS, **FAST), "its key is 'user', the log has 'item'"),
        (
            lambda: recipes.train_towers(LOG, ITEMS, splits={"train": [], "validation": [1]}, **FAST),
            "some to train on",
        ),
        (lambda: recipes.train_towers(LOG, ITEMS, splits={"train": [10**6]}, **FAST), "splits"),
        (lambda: recipes.train_towers(LOG, ITEMS, masks="none", **FAST), "masks='none'"),
        (lambda: recipes.train_towers(LOG, ITEMS, sampling="flat", **FAST), "sampling='flat'"),
        (lambda: recipes.train_towers(LOG, ITEMS, frequency="log", **FAST), "frequency='log'"),
        (lambda: recipes.train_towers(LOG, ITEMS, weight=-1.0, **FAST), "weight=-1.0"),
        (lambda: recipes.train_towers(LOG, ITEMS, drop=2.0, **FAST), "drop=2.0"),
        (lambda: recipes.train_towers(LOG, ITEMS, **FAST | {"epochs": 0}), "epochs=0"),
        (
            lambda: recipes.train_towers(LOG, ITEMS, information=np.eye(3), **FAST),
            "the items have 4 features",
        ),
        (lambda: fitted().recommend(["u1", "nobody"], 3), "user 'nobody' and 0 more of 2"),
        (lambda: fitted().recommend("u1", 3), "give a list"),
        (lambda: fitted().recommend([], 3), "give a list"),
        (lambda: fitted().recommend(["u1"], 99), "k: 99 is outside 1..60"),
        (lambda: fitted().recommend(["u1"], 3, context={"a": [1]}), "have no features"),
        (lambda: recipes.load_towers("nowhere"), "nowhere"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        call()


def test_features_of_one_name_on_both_sides_are_refused():
    users = data.catalogue(USERS | {"genre": ["war"] * 40}, data.Schema(None, ("user", "genre")), key="user")
    with pytest.raises(ValueError, match=r"features \['genre'\] are in two of log, items and users"):
        recipes.train_towers(LOG, ITEMS, users, **FAST)
    log = {"item": ["film0", "film1"]}
    with pytest.raises(ValueError, match="no user and no feature describes a query"):
        recipes.train_towers(
            data.interactions(log, data.Schema(None, ("item",)), user=None), ITEMS, **FAST | {"history": 0}
        )


@pytest.mark.slow
def test_features_that_are_constant_or_copies_train(tmp_path):
    """Mutual information of 0, and a ratio without a bound, are numbers like any other."""
    constant = FILMS | {"maker": [1] * 60, "copy": FILMS["genre"]}
    items = data.catalogue(
        constant, data.Schema(None, ("item", "genre", "maker", "copy"), multivalent=("tags",))
    )
    model = recipes.train_towers(LOG, items, **FAST | {"epochs": 2})
    chex.assert_tree_all_finite(model.params)


def test_damaged_files_are_noticed(tmp_path):
    fitted().save(tmp_path)
    path = tmp_path / "model.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"history": 2}))
    with pytest.raises(ValueError, match="the checksum differs; save the model again"):
        recipes.load_towers(tmp_path)
    del saved["checksum"]  # as an older version wrote it
    for broken, message in (
        ({n: x for n, x in saved.items() if n != "plan"}, "'plan' is missing; save the model again"),
        (saved | {"format": 9}, "format 9"),
        (saved | {"plan": saved["plan"] | {"rows": "many"}}, "rows='many'"),
        (saved | {"params": "params-0.npz"}, "missing"),
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            recipes.load_towers(tmp_path)


def test_the_search_leaves_out_what_it_is_told():
    rng = np.random.default_rng(0)
    queries, documents = (
        rng.normal(size=(5, 4)).astype(np.float32),
        rng.normal(size=(40, 4)).astype(np.float32),
    )
    without = np.where(rng.random((5, 12)) < 0.8, rng.integers(40, size=(5, 12)), -1)
    scores = queries @ documents.T
    for b, row in enumerate(without):
        scores[b, row[row >= 0]] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :8]
    for options in ({}, {"chunk": 9}, {"mesh": train.make_mesh(8), "chunk": 3}):
        for given in (documents, jnp.asarray(documents)):
            found, ids = search.top_k(queries, given, 8, without=without, **options)
            np.testing.assert_array_equal(ids, expected)
            np.testing.assert_allclose(found, np.take_along_axis(scores, expected, 1), rtol=1e-5)
    found, ids = search.top_k(queries[:1], documents, 3, without=np.arange(39)[None])
    assert ids[0, 0] == 39 and (found[0, 1:] == -np.inf).all()
    with pytest.raises(ValueError, match="without: shape"):
        search.top_k(queries, documents, 3, without=without[:2])
    with pytest.raises(ValueError, match="without: float"):
        search.top_k(queries, documents, 3, without=np.ones((5, 2)))
