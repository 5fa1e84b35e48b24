"""OptEmbed: limits of the supernet, the masked table beside its ragged rows, searches under a budget."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed import tables, train

SIZES, D = {"user": 40, "film": 25, "sex": 2}, 8
N, F = 67, 3
IDS = {"user": np.array([0, 3, 39, 3]), "film": np.array([24, 0, 7, 7]), "sex": np.array([0, 1, 1, 0])}


def drawn(**options):
    method = tables.supernet(SIZES, D, **options)
    return method, method.init(jax.random.key(0))


def oracle(params, ids, widths=None, order=1):
    """Vectors by the formula, one id at a time."""
    table, found = np.asarray(params["table"]["embedding"]), {}
    starts = dict(zip(SIZES, np.cumsum([0, *SIZES.values()]), strict=False))
    for f, name in enumerate(SIZES):
        found[name] = np.zeros((len(ids[name]), D), np.float32)
        for b, value in enumerate(ids[name]):
            row, number = table[starts[name] + value], starts[name] + value
            t = params["threshold"][f] if len(params["threshold"]) == F else params["threshold"][number]
            kept = np.linalg.norm(row, ord=order) > t
            if kept:
                found[name][b] = row
            elif "fallback" in params:
                found[name][b] = params["fallback"][f]
            if widths is not None:
                found[name][b, widths[f] :] = 0
    return found


def same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize(
    ("per", "fallback", "order"), [*itertools.product(("field", "value"), (False, True), (1, 2))]
)
def test_the_supernet_reads_what_the_formula_says(per, fallback, order):
    method, params = drawn(per=per, fallback=fallback, order=order)
    shape = params["threshold"].shape
    scale = 0.6 if order == 1 else 0.25
    params["threshold"] = scale * (1 + jax.random.uniform(jax.random.key(1), shape))
    if fallback:
        params["fallback"] = jax.random.normal(jax.random.key(2), (F, D))
    found = method.vectors(params, IDS)
    expected = oracle(params, IDS, order=order)
    assert any((expected[n] == 0).all(axis=1).any() or fallback for n in SIZES)
    same(found, expected)
    same(jax.jit(method.vectors)(params, IDS), expected)


def test_without_thresholds_it_is_a_full_table_gradients_included():
    method, params = drawn()
    params["threshold"] = jnp.full(F, -jnp.inf)
    full = tables.full_table(SIZES, D)
    weights = jax.random.normal(jax.random.key(3), (4, F * D))

    def loss(method, params):
        found = method.vectors(params, IDS)
        return jnp.sum(weights * jnp.concatenate([found[n] for n in SIZES], axis=1))

    mine = jax.grad(lambda table: loss(method, params | {"table": table}))(params["table"])
    other = jax.grad(lambda p: loss(full, p))({"table": params["table"]})["table"]
    same(method.vectors(params, IDS), full.vectors(params, IDS))
    np.testing.assert_allclose(mine["embedding"], other["embedding"], rtol=1e-6)


def test_above_all_norms_nothing_is_read_and_nothing_trains():
    method, params = drawn()
    params["threshold"] = jnp.full(F, jnp.inf)
    gradient = jax.grad(lambda p: sum(v.sum() for v in method.vectors(p, IDS).values()))(params)
    assert all((v == 0).all() for v in method.vectors(params, IDS).values())
    assert (gradient["table"]["embedding"] == 0).all()
    with pytest.raises(ValueError, match="params: no row is above its threshold; lower the weight"):
        method.deploy(params)


def test_a_key_draws_a_width_for_each_id():
    method, params = drawn()
    ids = {"user": np.zeros(500, int)}
    found = np.asarray(method.vectors(params, ids, jax.random.key(1))["user"])
    whole = np.asarray(method.vectors(params, ids)["user"])
    widths = (found != 0).sum(axis=1)
    assert set(widths) == set(range(1, D + 1))
    np.testing.assert_array_equal(found, np.where(np.arange(D) < widths[:, None], whole, 0))


def test_training_moves_thresholds_up_by_sgd_and_leaves_unread_rows():
    method = tables.supernet(SIZES, D, weight=0.5)

    def loss_fn(params, batch, key):
        found = method.read(params, batch["codes"], key)
        loss = sum(jnp.mean((v - 0.2) ** 2) for v in found.values())
        return loss + method.penalty(params), {}

    tx = train.by_path([("threshold", optax.sgd(0.1))], optax.adam(0.01))
    update = tables.row_update(loss_fn, tx, {"table/embedding": optax.adagrad(0.1)})
    batch = tables.touched_rows(method, IDS, None, 16)
    assert set(batch["rows"]) == {"table/embedding"}
    start = method.init(jax.random.key(0))
    options = {"batches": [batch] * 5, "steps": 5, "mesh": train.make_mesh(1), "progress": False}
    state = train.fit(init=lambda key: jax.tree.map(jnp.array, start), update=update, **options)
    assert (state.params["threshold"] > 0.1).all()
    moved = (state.params["table"]["embedding"] != start["table"]["embedding"]).any(axis=1)
    assert set(np.flatnonzero(moved)) == {*IDS["user"], *(40 + IDS["film"]), *(65 + IDS["sex"])}


def masked(fallback=False, seed=0):
    rng = np.random.default_rng(seed)
    kept, widths = rng.random(N) < 0.6, rng.integers(1, D + 1, F)
    method = tables.masked_table(SIZES, D, kept=kept, widths=widths, fallback=fallback)
    params = method.init(jax.random.key(seed))
    if fallback:
        params["fallback"] = jax.random.normal(jax.random.key(9), (F, D))
    return method, params, kept, widths


def every_id():
    return {name: np.arange(size) for name, size in SIZES.items()}


@pytest.mark.parametrize(("fallback", "seed"), [*itertools.product((False, True), range(3))])
def test_ragged_rows_give_the_bits_of_the_masked_table_for_every_id(fallback, seed):
    method, params, kept, widths = masked(fallback, seed)
    ids, deployed = every_id(), method.deploy(params)
    found = method.vectors(params, ids)
    same(method.vectors(deployed, ids), found)
    same(jax.jit(method.vectors)(deployed, ids), found)
    expected = params | {"threshold": jnp.where(jnp.asarray(kept), -1.0, 1e9)}
    same(found, oracle(expected, ids, widths))
    values = list(SIZES.values())
    count = tables.kept_numbers(kept, widths, values)
    assert count == sum(int(found[n].astype(bool).sum()) for n in SIZES) or fallback
    assert deployed["values"].shape == (count + D,)
    extra = 4 * F * D if fallback else 0
    assert method.bytes(deployed) == tables.ragged_bytes(count, values, D) + extra
    assert method.bytes(deployed) == sum(x.nbytes for x in jax.tree.leaves(deployed))
    assert method.bytes(params) == 4 * N * D + extra + sum(
        x.nbytes for x in jax.tree.leaves(deployed["index"])
    )


@pytest.mark.parametrize("fallback", [False, True])
def test_bad_ids_read_zeros_under_jit(fallback):
    method, params, _, _ = masked(fallback)
    ids = {"user": jnp.array([-1, 40, 3]), "sex": jnp.array([2, -5, 1])}
    for given in (params, method.deploy(params)):
        found = jax.jit(method.vectors)(given, ids)
        assert (found["user"][:2] == 0).all() and (found["sex"][:2] == 0).all()


def test_a_supernet_deploys_the_rows_above_their_thresholds():
    method, params = drawn(fallback=True)
    params |= {"threshold": jnp.array([0.7, 0.8, 0.0]), "fallback": jnp.ones((F, D))}
    deployed, ids = method.deploy(params), every_id()
    same(method.vectors(deployed, ids), method.vectors(params, ids))
    assert method.bytes(deployed) < method.bytes(params)
    with pytest.raises(ValueError, match="params: traced; deploy after training"):
        jax.eval_shape(method.deploy, params)


def test_kept_rows_takes_the_farthest_above_their_thresholds():
    _, params = drawn()
    params["threshold"] = jnp.array([0.6, 0.7, 0.9])
    margins = np.asarray(tables.row_margins(params["table"]["embedding"], params["threshold"], (40, 25, 2)))
    np.testing.assert_array_equal(tables.kept_rows(params, SIZES), margins > 0)
    few = tables.kept_rows(params, SIZES, most=5)
    assert few.sum() == 5 and margins[few].min() >= margins[~few].max()


def test_a_search_finds_widths_that_a_score_rewards():
    _, params = drawn()
    starts, target = np.cumsum([0, *SIZES.values()]), [6, 1, 3]

    def score(table):
        """The first coordinates of each field earn, the others cost."""
        used = jnp.abs(table) > 0
        parts = [used[a:b].mean(axis=0) for a, b in itertools.pairwise(starts)]
        return sum(p[:t].sum() - p[t:].sum() for p, t in zip(parts, target, strict=True))

    kept, widths = tables.search_masks(jax.random.key(0), params, SIZES, score)
    assert widths.tolist() == target and kept.all()


@pytest.mark.parametrize("budget", [250, 500, 1500])
def test_a_search_stays_within_its_budget_and_fills_it(budget):
    _, params = drawn()
    score = lambda table: jnp.sum(jnp.abs(table))  # noqa: E731
    kept, widths = tables.search_masks(jax.random.key(0), params, SIZES, score, budget=budget)
    method = tables.masked_table(SIZES, D, kept=kept, widths=widths)
    size = tables.storage_bytes(method)
    assert budget - 4 * D <= size <= budget


def test_weight_makes_tables_smaller():
    _, params = drawn()
    score = lambda table: jnp.mean(jnp.abs(table))  # noqa: E731
    sizes = []
    for weight in (0.0, 10.0):
        kept, widths = tables.search_masks(jax.random.key(0), params, SIZES, score, weight=weight)
        sizes.append(tables.kept_numbers(kept, widths, list(SIZES.values())))
    assert sizes[1] < sizes[0]


def test_a_vocabulary_of_one_value_works():
    method = tables.masked_table(1, 4, kept=[True], widths=[3])
    params = method.init(jax.random.key(0))
    found = method.vectors(method.deploy(params), np.array([0]))
    np.testing.assert_array_equal(found[0, :3], params["table"]["embedding"][0, :3])
    assert found[0, 3] == 0


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: tables.supernet(SIZES, D, per="row"), "per='row'; choose field or value"),
        (lambda: tables.supernet(SIZES, D, order=0), "order=0; choose 1 or 2"),
        (lambda: tables.supernet(SIZES, D, weight=-1.0), "weight=-1.0; give a number of at least 0"),
        (lambda: tables.masked_table(3, 4, kept=[False] * 3, widths=[2]), "kept: none of 3 rows; lower"),
        (lambda: tables.masked_table(3, 4, kept=[True] * 2, widths=[2]), r"kept: shape \(2,\) for 3 rows"),
        (
            lambda: tables.masked_table(3, 4, kept=[True] * 3, widths=[5]),
            r"widths: \[5\]; give each of 1",
        ),
        (
            lambda: tables.masked_table(3, 4, kept=[True] * 3, widths=[0]),
            r"widths: \[0\]; give each of 1",
        ),
        (
            lambda: tables.search_masks(jax.random.key(0), drawn()[1], SIZES, jnp.sum, budget=60),
            "budget=60: the index of the rows alone",
        ),
    ],
)
def test_bad_input_is_named(call, told):
    with pytest.raises(ValueError, match=told):
        call()
