"""The index codes of published tables, each per feature and multiplexed, and the numbers about tables."""

import dataclasses
import itertools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles_tables as oracles
import pytest

from jaxembed import tables, train
from jaxembed.tables import Feature

D = 8
SCHEMES = {  # arguments of plan beside features, rows and multiplexed; and the chunks of every feature
    "hashing trick": (1, {"width": D}),
    "multi-hash": (2, {"width": D, "merge": "sum"}),
    "hash embedding": (2, {"width": D, "merge": "weighted", "importance_rows": 11}),
    "HashedNet": (D, {"width": 1}),
    "ROBE-4": (D // 4, {"width": 1, "span": 4}),
    "signed ROBE-4": (D // 4, {"width": 1, "span": 4, "signed": True}),
    "compositional": (2, {"width": D // 2, "tables": 2}),
    "quotient-remainder": (2, {"width": D, "scheme": "mixed_radix", "merge": "product"}),
    "three digits": (3, {"width": D, "scheme": "mixed_radix", "merge": "sum"}),
    "collisionless": (1, {"width": D, "scheme": "exact"}),
    "collisionless in two tables": (2, {"width": D // 2, "scheme": "exact", "tables": 2}),
}
SIZES = {"user": 30, "item": 12, "zip": 8}


def scheme(name, multiplexed=True, rows=52, **options):
    chunks, arguments = SCHEMES[name]
    features = [Feature(n, chunks=chunks, size=s) for n, s in SIZES.items()]
    features.insert(1, Feature("gender", vocabulary=3, chunks=chunks))
    return tables.plan(features, rows=rows, multiplexed=multiplexed, **{"seed": 4} | arguments | options)


def every_id():
    return {n: np.arange(12) % s for n, s in (SIZES | {"gender": 3}).items()}


@pytest.fixture(
    params=[pytest.param(c, id="-".join(map(str, c))) for c in itertools.product(SCHEMES, (True, False))]
)
def planned(request):
    return scheme(*request.param)


def test_codes_and_vectors_equal_the_oracle(planned):
    codes = tables.codes(planned, every_id())
    chex.assert_trees_all_equal(codes, oracles.scheme_codes(planned, every_id()))
    params = tables.init_tables(jax.random.key(0), planned)
    vectors = tables.lookup(planned, params, codes)
    chex.assert_trees_all_close(vectors, oracles.scheme_vectors(planned, params, codes), atol=1e-6)
    widths = {n: v.shape[1] for n, v in vectors.items() if n != "gender"}
    assert set(widths.values()) == {D}


def test_codes_under_jit_are_the_same_bits(planned):
    batch = jax.tree.map(lambda x: x.astype(np.int32), every_id())
    host = tables.codes(planned, batch)
    assert all(type(c) is np.ndarray and c.dtype == np.int32 for c in host.values())
    chex.assert_trees_all_equal(jax.jit(lambda b: tables.codes(planned, b))(batch), host)


def test_bytes_are_those_of_the_parameters(planned):
    params = jax.eval_shape(lambda key: tables.init_tables(key, planned), jax.random.key(0))
    assert tables.bytes_of(planned) == sum(4 * leaf.size for leaf in jax.tree.leaves(params))


def test_a_plan_of_any_scheme_survives_json(planned):
    assert tables.plan(**json.loads(json.dumps(dataclasses.asdict(planned)))) == planned


def test_bags_pool_what_single_values_read(planned):
    params = tables.init_tables(jax.random.key(1), planned)
    batch = every_id()
    single = tables.lookup(planned, params, tables.codes(planned, batch))
    bags = tables.codes(planned, {n: v.reshape(4, 3) for n, v in batch.items()})
    masks = {n: np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]], bool) for n in batch}
    pooled = tables.lookup(planned, params, bags, masks)
    for name, value in pooled.items():
        kept = np.where(masks[name][..., None], np.asarray(single[name]).reshape(4, 3, -1), 0)
        expected = kept.sum(1) / np.maximum(masks[name].sum(1), 1)[:, None]
        np.testing.assert_allclose(value, expected, atol=1e-6)
        assert not np.asarray(value)[3].any()  # an all-padding bag is zeros


def test_bad_ids_of_any_scheme_read_zeros_under_jit(planned):
    params = tables.init_tables(jax.random.key(0), planned)
    names = list(every_id())
    bad = {n: jnp.array([-1, -(2**31)]) for n in names}

    @jax.jit
    def read(params, batch):
        return tables.lookup(planned, params, tables.codes(planned, batch))

    assert not any(np.asarray(v).any() for v in read(params, bad).values())
    limited = {n: jnp.array([s, 2**31 - 1]) for n, s in (SIZES | {"gender": 3}).items()}
    found = read(params, limited)
    assert not np.asarray(found["gender"]).any()
    assert all(np.asarray(found[n]).any() == (planned.scheme == "hash") for n in SIZES)


@pytest.mark.parametrize("name", SCHEMES)
def test_per_feature_ranges_are_disjoint(name):
    p = scheme(name, multiplexed=False)
    batch = {n: np.arange(s) for n, s in SIZES.items()} | {"gender": np.arange(3)}
    codes = {n: c for n, c in tables.codes(p, batch).items() if n in SIZES}
    seen = [set(np.where(c < -1, -2 - c, c).ravel().tolist()) for c in codes.values()]
    assert sum(map(len, seen)) == len(set.union(*seen))


# Mixed radix and exact


@pytest.mark.parametrize("multiplexed", [True, False])
@pytest.mark.parametrize("chunks", [1, 2, 3])
@pytest.mark.parametrize("rows", [26, 28, 60])
def test_no_two_values_share_all_digits(multiplexed, chunks, rows):
    sizes = (7, 4, 3)
    features = [Feature(f"f{i}", chunks=chunks, size=s) for i, s in enumerate(sizes)]
    options = {"rows": rows, "width": 2, "scheme": "mixed_radix", "multiplexed": multiplexed}
    p = tables.plan(features, **options)
    codes = tables.codes(p, {f.name: np.arange(f.size) for f in features})
    rows_of_values = np.concatenate(list(codes.values()))
    assert rows_of_values.min() >= 0
    assert rows_of_values.max() < rows
    assert len({tuple(r) for r in rows_of_values.tolist()}) == sum(sizes)
    digits = [set(rows_of_values[:, c].tolist()) for c in range(chunks)]
    if multiplexed:
        assert sum(map(len, digits)) == len(set.union(*digits))  # every digit has rows of its own


def test_quotient_and_remainder_by_hand():
    p = tables.plan([Feature("a", chunks=2, size=100)], rows=25, width=1, scheme="mixed_radix")
    codes = tables.codes(p, {"a": np.array([0, 1, 5, 99])})["a"]
    np.testing.assert_array_equal(codes, [[0, 5], [1, 5], [0, 6], [4, 24]])  # radix 5, then 20 quotients


@pytest.mark.parametrize("rows", [19, 2])
def test_digits_that_do_not_fit_name_the_rows_that_do(rows):
    options = {"width": 1, "scheme": "mixed_radix"}
    with pytest.raises(ValueError, match="cannot number 100 values; 20 rows for them suffice"):
        tables.plan([Feature("a", chunks=2, size=100)], rows=rows, **options)
    tables.plan([Feature("a", chunks=2, size=100)], rows=20, **options)


@pytest.mark.parametrize("rows", range(3, 12))
def test_the_radix_is_the_smallest_that_fits(rows):
    best = max((rows - 2 * r) * r * r for r in range(1, rows))
    fitting = {"width": 1, "scheme": "mixed_radix", "rows": rows}
    p = tables.plan([Feature("a", chunks=3, size=best)], **fitting)
    ids = {"a": np.arange(best)}
    chex.assert_trees_all_equal(tables.codes(p, ids), oracles.scheme_codes(p, ids))
    assert len(np.unique(tables.codes(p, ids)["a"], axis=0)) == best
    with pytest.raises(ValueError, match="cannot number"):
        tables.plan([Feature("a", chunks=3, size=best + 1)], **fitting)


@pytest.mark.parametrize("chunks", [2, 3])
@pytest.mark.parametrize("width", [1, 16])
def test_a_product_starts_with_the_variance_of_a_plain_row(chunks, width):
    features = [Feature("a", chunks=chunks, size=4096)]
    options = {"rows": 3 * 8192, "width": width}
    p = tables.plan(features, scheme="mixed_radix", merge="product", **options)
    q = tables.plan([Feature("a")], **options)
    ids = {"a": np.arange(4096)}
    product, plain = (
        np.asarray(tables.lookup(r, tables.init_tables(jax.random.key(0), r), tables.codes(r, ids))["a"])
        for r in (dataclasses.replace(p, scheme="hash"), q)
    )
    assert product.std() == pytest.approx(plain.std(), rel=0.1)


def test_importances_start_with_variance_one_over_chunks():
    p = tables.plan([Feature("a", chunks=4)], rows=20_000, width=2, merge="weighted")
    importance = np.asarray(tables.init_tables(jax.random.key(0), p)["table"]["importance"])
    assert importance.shape == (20_000, 4)
    assert importance.std() == pytest.approx(0.5, rel=0.01)


def test_exact_rows_are_embeddings_one_behind_the_other():
    p = scheme("collisionless", rows=50)
    batch = {n: np.arange(s) for n, s in SIZES.items()} | {"gender": np.arange(3)}
    codes = tables.codes(p, batch)
    rows = np.concatenate([codes[n][:, 0] for n in SIZES])
    np.testing.assert_array_equal(rows, np.arange(50))
    with pytest.raises(ValueError, match="rows=49: scheme='exact' needs rows=50"):
        scheme("collisionless", rows=49)


def test_disjoint_ranges_are_tables_of_their_own():
    p = scheme("hashing trick", multiplexed=False, rows=50)
    params = tables.init_tables(jax.random.key(0), p)
    vectors = tables.lookup(p, params, tables.codes(p, every_id()))
    first = 0
    for name, size in SIZES.items():
        alone = tables.plan([Feature(name)], rows=size, width=D, seed=4)
        own = {"table": {"embedding": params["table"]["embedding"][first : first + size]}, "exact": {}}
        ids = {name: every_id()[name]}
        np.testing.assert_array_equal(
            tables.lookup(alone, own, tables.codes(alone, ids))[name], vectors[name]
        )
        first += size


# Spans and signs


def test_a_span_wraps_at_the_end_of_the_rows():
    p = tables.plan([Feature("a", chunks=2)], rows=10, width=1, span=4)
    codes = tables.codes(p, {"a": np.arange(300)})["a"].reshape(300, 2, 4)
    assert set(codes[..., 0].ravel().tolist()) == set(range(10))
    np.testing.assert_array_equal(codes, (codes[..., :1] + np.arange(4)) % 10)


def test_a_span_of_one_is_the_scheme_without():
    p = scheme("HashedNet")
    batch = every_id()
    robe = {n: c[:, ::4] for n, c in tables.codes(scheme("ROBE-4"), batch).items()}
    plain = {n: c[:, :2] for n, c in tables.codes(p, batch).items()}
    chex.assert_trees_all_equal({n: robe[n] for n in SIZES}, {n: plain[n] for n in SIZES})


def test_signs_are_even_and_independent_of_rows():
    p = tables.plan([Feature("a", chunks=2)], rows=4, width=1, signed=True)
    codes = tables.codes(p, {"a": np.arange(40_000)})["a"]
    flipped = codes < -1
    rows = np.where(flipped, -2 - codes, codes)
    np.testing.assert_allclose(flipped.mean(0), 0.5, atol=0.01)
    for row in range(4):
        assert flipped[:, 0][rows[:, 0] == row].mean() == pytest.approx(0.5, abs=0.02)
    assert (flipped[:, 0] == flipped[:, 1]).mean() == pytest.approx(0.5, abs=0.01)


def test_signed_hashes_estimate_inner_products_without_bias():
    rng = np.random.default_rng(0)
    x, y, ids = rng.normal(size=30), rng.normal(size=30), {"a": np.arange(30)}
    estimates = []
    for seed in range(3000):
        p = tables.plan([Feature("a")], rows=16, width=1, signed=True, seed=seed)
        codes = tables.codes(p, ids)["a"][:, 0]
        rows, signs = np.where(codes < -1, -2 - codes, codes), np.where(codes < -1, -1, 1)
        project = np.zeros((2, 16))
        np.add.at(project[0], rows, signs * x)
        np.add.at(project[1], rows, signs * y)
        estimates.append(project[0] @ project[1])
    crossed = (x @ x) * (y @ y) - np.sum(x**2 * y**2) + (x @ y) ** 2 - np.sum(x**2 * y**2)
    assert np.var(estimates) == pytest.approx(crossed / 16, rel=0.15)
    assert np.mean(estimates) == pytest.approx(x @ y, abs=4 * np.sqrt(crossed / 16 / 3000))


def test_the_gradient_of_a_flipped_row_is_flipped():
    table = jnp.arange(6.0).reshape(3, 2)
    codes = jnp.array([2, -4, -2, -1, 7, -9])
    gradient = jax.grad(lambda t: jnp.sum(tables.rows_of(t, codes) * jnp.arange(1.0, 7.0)[:, None]))(table)
    np.testing.assert_array_equal(gradient, [[-3, -3], [0, 0], [1 - 2, 1 - 2]])


# Bad input


BAD = {
    "merge": ({"merge": "other"}, "merge='other'; choose one of"),
    "span": ({"span": 0}, "span=0: need"),
    "long span": ({"span": 99}, "span=99: need 1 <= span <= rows, which is 60"),
    "signed digits": ({"scheme": "exact", "signed": True}, "span and signed need scheme='hash'"),
    "importance": ({"importance_rows": 5}, "importance_rows=5: at least 1, and only with"),
    "no importance": ({"importance_rows": 0, "merge": "weighted"}, "importance_rows=0"),
    "unequal chunks": ({"merge": "product"}, "need the same chunks for all features"),
    "tables": ({"scheme": "mixed_radix", "tables": 2, "chunks": 1}, "tables=2: .* needs tables=1"),
    "few": (
        {"merge": "weighted", "importance_rows": 1, "multiplexed": False, "chunks": 1},
        "importance_rows=1 is",
    ),
    "many": ({"scheme": "exact", "size": 2**31}, "sizes add up to"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_raise_one_line(case):
    options, message = BAD[case]
    options = dict(options)
    chunks, size = options.pop("chunks", 2), options.pop("size", 1)
    features = [Feature("a", chunks=chunks, size=size), Feature("b")]
    with pytest.raises(ValueError, match=message) as caught:
        tables.plan(features, **{"rows": 60, "width": 2} | options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["collisionless", "quotient-remainder"])
def test_ids_above_the_size_raise_on_the_host(name):
    with pytest.raises(ValueError, match="'item' holds id 12; ids are 0 to 11"):
        tables.codes(scheme(name), every_id() | {"item": np.array([12])})


@pytest.mark.parametrize("ids", [[-1], [3]])
def test_ids_in_a_jax_array_raise_outside_jit(ids):
    p = tables.plan([Feature("a", vocabulary=3)], rows=4, width=2)
    with pytest.raises(ValueError, match=f"'a' holds id {ids[0]}; ids are 0 to 2"):
        tables.codes(p, {"a": jnp.array(ids)})
    with pytest.raises(ValueError, match="dtype float32; give integer ids"):
        tables.codes(p, {"a": jnp.ones(2)})
    assert int(jax.jit(lambda i: tables.codes(p, {"a": i}))(jnp.array(ids))["a"][0, 0]) == -1


def test_importances_must_be_among_the_codes():
    p = scheme("hash embedding")
    codes = tables.codes(p, every_id())
    del codes["user/importance"]
    with pytest.raises(ValueError, match="'user/importance' is missing"):
        tables.lookup(p, tables.init_tables(jax.random.key(0), p), codes)


@pytest.mark.parametrize("change", [{"seed": 1}, {"rows": 64}, {"span": 2}])
def test_a_run_of_another_plan_is_refused_by_name(tmp_path, change):
    p = tables.plan([Feature("a")], rows=32, width=2)

    def fit(plan):
        import optax

        train.fit(
            init=lambda key: tables.init_tables(key, plan),
            loss_fn=lambda params, batch, key: (jnp.sum(params["table"]["embedding"]), {}),
            tx=optax.sgd(0.1),
            batches=[{"x": np.zeros(8)}],
            steps=1,
            workdir=tmp_path,
            meta={"plan": dataclasses.asdict(plan)},
            progress=False,
        )

    fit(p)
    (name,) = change
    with pytest.raises(ValueError, match=f"holds another experiment: .*{name}"):
        fit(dataclasses.replace(p, **change))
