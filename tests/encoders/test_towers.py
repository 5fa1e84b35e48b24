"""Towers over shared tables: formula, hidden and missing features, gradients, and the laws of two views."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders, losses, tables

FEATURES = [tables.Feature("item", chunks=2), tables.Feature("tags"), tables.Feature("user")]
PLAN = tables.plan([*FEATURES, tables.Feature("year", vocabulary=5)], rows=40, width=4)
SIDES = {"query": ("user",), "item": ("item", "tags", "year")}
PARAMS = encoders.init_towers(jax.random.key(0), PLAN, SIDES, dense={"item": 2}, hidden=(8,), width=6)
B = 5
RNG = np.random.default_rng(0)
IDS = {"item": np.arange(B), "tags": RNG.integers(30, size=(B, 3)), "year": np.arange(B) % 5}
TAGS = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 1]], bool)
DENSE = RNG.normal(size=(B, 2)).astype(np.float32)


def batch(tags=TAGS, rows=slice(None)):
    codes = tables.codes(PLAN, IDS, only=SIDES["item"])
    masks = {"tags": tags, "item": np.ones(B, bool), "year": np.array([1, 1, 1, 0, 1], bool)}
    return jax.tree.map(lambda x: x[rows], {"codes": codes, "masks": masks, "dense": DENSE})


def items(params, hidden=None, **options):
    return encoders.encode_tower(params, batch(**options), plan=PLAN, side="item", hidden=hidden)


def slow(params, hidden):
    """One item after the other, from the formula."""
    codes, out = tables.codes(PLAN, IDS, only=SIDES["item"]), []
    table, side = np.asarray(params["table"]["embedding"]), params["item"]
    year = np.asarray(params["exact"]["year"]["embedding"])
    for b in range(B):
        found = {"item": np.concatenate([table[c] for c in codes["item"][b]])}
        tags = [table[codes["tags"][b, i, 0]] for i in range(3) if TAGS[b, i]]
        found["tags"] = np.mean(tags, axis=0) if tags else None
        found["year"] = year[IDS["year"][b]] if b != 3 else None
        x = [DENSE[b]]
        for i, name in enumerate(sorted(found)):
            gone = found[name] is None or hidden[i]
            x.append(np.asarray(side["default"][name]) if gone else found[name])
        x = np.concatenate(x)
        layers = [side["mlp"][f"layer_{n}"] for n in range(2)]
        x = np.maximum(x @ layers[0]["kernel"] + layers[0]["bias"], 0)
        x = x @ layers[1]["kernel"] + layers[1]["bias"]
        out.append(x / np.linalg.norm(x))
    return np.array(out)


def with_defaults(params):
    """Defaults that are not zero, as after training."""
    default = {n: jnp.full_like(x, 0.3 + i) for i, (n, x) in enumerate(params["item"]["default"].items())}
    return params | {"item": params["item"] | {"default": default}}


@pytest.mark.parametrize("hidden", [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)])
def test_a_tower_is_its_formula(hidden):
    params, hidden = with_defaults(PARAMS), np.array(hidden, bool)
    found = items(params, hidden)
    np.testing.assert_allclose(found, slow(params, hidden), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.jit(items)(params, hidden), found, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_each_item_may_hide_its_own_features():
    params = with_defaults(PARAMS)
    hidden = RNG.random((B, 3)) < 0.5
    found = items(params, hidden)
    for b in range(B):
        np.testing.assert_allclose(found[b], items(params, hidden[b])[b], rtol=1e-5, atol=1e-6)


def test_dropping_all_values_is_hiding_the_feature():
    params = with_defaults(PARAMS)
    kept = encoders.drop_values(jax.random.key(0), TAGS, 1.0)
    np.testing.assert_array_equal(
        items(params, tags=np.asarray(kept)), items(params, np.array([0, 1, 0], bool))
    )


def test_hidden_features_get_no_gradient_and_their_defaults_do():
    hidden = np.array([1, 0, 1], bool)  # item and year

    def loss(params):
        return (items(params, hidden) * jnp.arange(6.0)).sum()

    gradient = jax.grad(loss)(PARAMS)
    assert not np.abs(gradient["exact"]["year"]["embedding"]).any()
    shown = np.unique(tables.codes(PLAN, IDS, only=["tags"])["tags"][TAGS])
    moved = np.flatnonzero(np.abs(gradient["table"]["embedding"]).max(axis=1))
    assert set(moved) <= set(shown.tolist()) and len(moved)
    defaults = {name: np.abs(x).max() > 0 for name, x in gradient["item"]["default"].items()}
    assert defaults == {"item": True, "year": True, "tags": True}  # the third item has no tags
    assert not any(np.abs(x).any() for x in jax.tree.leaves(gradient["query"]))


def two_batches(alpha):
    """Main loss of pairs and alpha times the loss of two views, as a function of the parameters."""

    def total(params):
        codes = tables.codes(PLAN, {"user": np.arange(B)}, only=["user"])
        queries = encoders.encode_tower(params, {"codes": codes}, plan=PLAN, side="query")
        loss = losses.sampled_softmax(queries, items(params), temperature=0.2).mean()
        hidden = np.array([1, 0, 1], bool)
        views = items(params, hidden), items(params, ~hidden)
        return loss + alpha * losses.info_nce(*views).mean()

    return jax.grad(total)(PARAMS)


def test_the_second_loss_leaves_what_only_queries_read():
    without, beside = two_batches(0.0), two_batches(0.7)
    chex.assert_trees_all_equal(beside["query"], without["query"])
    users = np.unique(tables.codes(PLAN, {"user": np.arange(B)}, only=["user"])["user"])
    own = np.setdiff1d(
        users, [c for n in ("item", "tags") for c in tables.codes(PLAN, IDS, only=[n])[n].ravel()]
    )
    assert len(own)
    table = [np.asarray(g["table"]["embedding"]) for g in (without, beside)]
    np.testing.assert_array_equal(table[0][own], table[1][own])
    assert np.abs(table[0] - table[1]).max() > 1e-4  # rows that both batches share do change


def test_a_history_reads_the_rows_of_items():
    """A feature of both sides: the query tower pools the very rows that items have."""
    sides = {"query": ("item",), "item": ("item",)}
    params = encoders.init_towers(jax.random.key(0), PLAN, sides, width=4)
    codes = tables.codes(PLAN, {"item": np.array([[1, 2]])}, only=["item"])

    def loss(params):
        mask = {"item": jnp.array([[True, False]])}
        return encoders.encode_tower(params, {"codes": codes, "masks": mask}, plan=PLAN, side="query")[0, 0]

    moved = np.flatnonzero(np.abs(jax.grad(loss)(params)["table"]["embedding"]).max(axis=1))
    assert set(moved) == set(codes["item"][0, 0].tolist())


@pytest.mark.parametrize(
    "plan",
    [
        tables.plan([tables.Feature("a", chunks=2)], rows=20, width=4, merge="sum"),
        tables.plan([tables.Feature("a", chunks=3)], rows=20, width=4, span=2),
        tables.plan(
            [tables.Feature("a", chunks=2), tables.Feature("b", vocabulary=3)], rows=20, width=4, merge="sum"
        ),
    ],
)
def test_every_plan_gives_the_widths_that_a_tower_takes(plan):
    names = [f.name for f in plan.features]
    params = encoders.init_towers(jax.random.key(0), plan, {"item": names}, width=3)
    codes = tables.codes(plan, {name: np.arange(3) for name in names})
    assert encoders.encode_tower(params, {"codes": codes}, plan=plan, side="item").shape == (3, 3)


def test_mistakes_are_named():
    make = functools.partial(encoders.init_towers, jax.random.key(0))
    with pytest.raises(ValueError, match="'film' is not a feature of the plan"):
        make(PLAN, {"item": ["film"]})
    with pytest.raises(ValueError, match="combine='none'"):
        make(tables.plan([tables.Feature("a", combine="none")], rows=9, width=2), {"item": ["a"]})
    with pytest.raises(ValueError, match="no feature and no number"):
        encoders.init_tower(jax.random.key(0), {})
    vectors = {"year": jnp.ones((2, 4))}
    with pytest.raises(ValueError, match=r"vectors: features \['year'\]; the tower reads"):
        encoders.tower(PARAMS["item"], vectors)
    with pytest.raises(ValueError, match="hidden: shape"):
        items(PARAMS, np.array([True]))
