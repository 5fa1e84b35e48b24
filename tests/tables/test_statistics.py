"""Collisions, angles and overlaps of readers: by hand, against pairs, at their limits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import tables
from jaxembed.tables import Feature

# Numbers about tables


def test_collisions_by_hand_and_against_pairs():
    rng = np.random.default_rng(0)
    codes, owners = rng.integers(-9, 9, 60), rng.integers(0, 4, 60)
    rows = np.where(codes < -1, -2 - codes, codes)
    intra = inter = 0
    for i, j in itertools.combinations(range(60), 2):
        if rows[i] == rows[j] >= 0:
            intra, inter = intra + (owners[i] == owners[j]), inter + (owners[i] != owners[j])
    found = tables.collision_stats(codes, owners)
    assert found == {"intra_pairs": intra, "inter_pairs": inter, "occupied": len(set(rows[rows >= 0]))}


def test_collisions_of_sharing_and_of_separate_tables():
    sizes, total, rows, draws = (120, 240, 40), 400, 400, 100
    owners = np.repeat(np.arange(3), sizes)
    found = {True: np.zeros(2), False: np.zeros(2)}
    for seed, shared in itertools.product(range(draws), (True, False)):
        features = [Feature(f"f{i}", size=s) for i, s in enumerate(sizes)]
        p = tables.plan(features, rows=rows, width=1, seed=seed, multiplexed=shared)
        codes = tables.codes(p, {f.name: np.arange(f.size) for f in features})
        stats = tables.collision_stats(np.concatenate([c[:, 0] for c in codes.values()]), owners)
        found[shared] += np.array([stats["intra_pairs"], stats["inter_pairs"]]) / draws
    pairs = total * (total - 1) / (2 * rows)
    share = sum(s * (s - 1) for s in sizes) / (total * (total - 1))
    np.testing.assert_allclose(found[True], [pairs * share, pairs * (1 - share)], rtol=0.03)
    np.testing.assert_allclose(found[False], [sum((s - 1) / 2 for s in sizes), 0], rtol=0.03)


def test_angles_and_overlaps():
    rng = np.random.default_rng(0)
    readers = rng.normal(size=(4, 6))
    readers[3] = -2 * readers[0]
    lengths = np.linalg.norm(readers, axis=1)
    expected = np.degrees(np.arccos(np.clip(readers @ readers.T / np.outer(lengths, lengths), -1, 1)))
    angles = tables.reader_angles(readers.astype(np.float32))
    np.testing.assert_allclose(angles, expected, atol=2e-3)
    np.testing.assert_array_equal(np.diag(angles), 0)
    assert float(tables.reader_angles(np.array([[1.0, 0], [0, 0]]))[0, 1]) == pytest.approx(90)
    first, second = rng.normal(size=(2, 6)), rng.normal(size=(3, 6))
    norms = np.sqrt((first**2).sum() * (second**2).sum())
    expected = np.sqrt(sum((a @ b) ** 2 for a in first for b in second)) / norms
    assert float(tables.reader_overlap(first, second)) == pytest.approx(expected, rel=1e-5)
    assert float(tables.reader_overlap(first, 0 * second)) == 0
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert float(tables.reader_overlap(basis[:2], basis[2:])) == pytest.approx(0, abs=1e-6)


def test_orthogonal_readers_do_not_feel_collisions_between_features():
    p = tables.plan([Feature("u"), Feature("v")], rows=3, width=2)
    rng = np.random.default_rng(0)
    ids = {"u": rng.integers(0, 9, 30), "v": rng.integers(0, 9, 30)}
    codes, readers = tables.codes(p, ids), {"u": np.array([1.0, 2.0]), "v": np.array([-2.0, 1.0])}
    residual = rng.normal(size=30)
    with jax.enable_x64(True):
        table = jnp.asarray(rng.normal(size=(3, 2)))

        def read(name, table):
            part = tables.lookup(p, {"table": {"embedding": table}}, {name: codes[name]})
            return part[name] @ readers[name]

        step = jax.grad(lambda t: jnp.sum(residual * read("v", t)))(table)
        assert np.abs(step).max() > 0.1
        np.testing.assert_allclose(read("u", table - step), read("u", table), atol=1e-12)


# The analysis with readers that do not learn


def test_the_parts_of_a_gradient_are_those_of_the_single_layer_model():
    """Autodiff in float64 gives the sum; each part alone is what a loop over pairs of values gives."""
    rng = np.random.default_rng(0)
    ids = {name: rng.integers(0, 6, 40) for name in "uvw"}
    p = tables.plan([Feature(name) for name in ids], rows=7, width=3)
    codes = tables.codes(p, ids)
    readers = {name: rng.normal(size=3) for name in ids}
    labels = rng.integers(0, 2, 40)
    with jax.enable_x64(True):
        table = jnp.asarray(rng.normal(size=(7, 3)))

        def logits(table):
            vectors = tables.lookup(p, {"table": {"embedding": table}}, codes)
            return sum(vectors[name] @ readers[name] for name in ids)

        def loss(table):
            z = logits(table)
            return jnp.sum(jnp.logaddexp(0, z) - labels * z)

        gradient = np.asarray(jax.grad(loss)(table))
        residuals = np.asarray(jax.nn.sigmoid(logits(table)) - labels)
    found = tables.gradient_parts(readers, codes, ids, residuals)
    intra = inter = 0
    for name, part in found.items():
        whole = part["true"] + part["intra"] + part["inter"]
        np.testing.assert_allclose(whole, gradient[part["rows"]], atol=1e-12)
        for value, row, a, b in zip(*(part[k] for k in ("values", "rows", "intra", "inter")), strict=True):
            same = other = np.zeros(3)
            for b_name in ids:
                for i in range(40):
                    if codes[b_name][i, 0] == row and (b_name, ids[b_name][i]) != (name, value):
                        term = readers[b_name] * residuals[i]
                        same, other = (same + term, other) if b_name == name else (same, other + term)
            np.testing.assert_allclose(a, same, atol=1e-12)
            np.testing.assert_allclose(b, other, atol=1e-12)
            intra, inter = intra + np.abs(a).sum(), inter + np.abs(b).sum()
    assert intra > 0.1 and inter > 0.1
    with pytest.raises(ValueError, match="readers, codes, ids: features"):
        tables.gradient_parts(readers, codes, {"u": ids["u"]}, residuals)
    with pytest.raises(ValueError, match="codes: 'u' has shape"):
        tables.gradient_parts({"u": readers["u"]}, {"u": codes["u"][:, 0]}, {"u": ids["u"]}, residuals)
    for place, name in enumerate(("readers", "codes", "ids")):
        given = [readers, codes, ids]
        given[place] = given[place]["u"]
        with pytest.raises(ValueError, match=f"{name}: ndarray is not a dict; pass {{feature: array}}"):
            tables.gradient_parts(*given, residuals)


def test_norms_are_of_the_rows_that_are_read():
    table = np.diag([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(tables.row_norms(table), [1, 2, 3, 4])
    np.testing.assert_array_equal(tables.row_norms(table, np.array([[3, -1], [-3, 99]])), [2, 4])


@pytest.mark.parametrize("shared", [True, False])
def test_the_variance_of_a_hashed_product_is_that_of_the_formula(shared):
    """Signed tables of one column are random projections; 1,500 draws of the hash."""
    sizes, rng = (5, 9, 3), np.random.default_rng(0)
    owners = np.repeat(np.arange(3), sizes)
    x, y = rng.normal(size=(2, 17))
    features = [Feature(f"f{t}", size=size) for t, size in enumerate(sizes)]
    estimates = []
    for seed in range(1500):
        p = tables.plan(features, rows=20, width=1, seed=seed, signed=True, multiplexed=shared)
        codes = tables.codes(p, {f.name: np.arange(f.size) for f in features})
        flat = np.concatenate([c[:, 0] for c in codes.values()])
        rows, sign = np.where(flat < -1, -2 - flat, flat), np.where(flat < -1, -1, 1)
        sketch = [np.bincount(rows, weights=sign * v, minlength=p.height) for v in (x, y)]
        estimates.append(sketch[0] @ sketch[1])
    assert np.mean(estimates) == pytest.approx(x @ y, abs=4 * np.std(estimates) / 1500**0.5)
    if shared:
        expected = tables.projection_variance(x, y, 20)
    else:
        split = [6, 11, 3]  # of the 20 rows, in proportion to the values
        expected = tables.projection_variance(x, y, split, feature_of=owners)
    assert np.var(estimates) == pytest.approx(expected, rel=0.15)
    loops = sum(
        (x[i] ** 2 * y[j] ** 2 + x[i] * y[i] * x[j] * y[j]) / 20
        for i in range(17)
        for j in range(17)
        if i != j
    )
    assert tables.projection_variance(x, y, 20) == pytest.approx(loops)


def test_variances_need_rows_and_vectors_that_fit():
    x = np.ones(3)
    for given, message in (
        ((x, x[:2], 4), "first, second: shapes"),
        ((x, x, 0), "rows: 0.0; give at least 1"),
        ((x, x, [4, 4]), "first, second: shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            tables.projection_variance(*given)
    with pytest.raises(ValueError, match="rows: "):
        tables.projection_variance(x, x, [4], feature_of=[0, 0, 1])


def test_readers_and_rows_that_do_not_fit_are_refused():
    x = np.ones((3, 4))
    for call, message in (
        (lambda: tables.reader_angles(x[0]), "readers: shape"),
        (lambda: tables.reader_overlap(x, x[:, :2]), r"second: shape \(3, 2\)"),
        (lambda: tables.reader_overlap(x[0], x), "first: shape"),
        (lambda: tables.row_norms(x[0]), "table: shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert tables.row_norms(x, np.array([], int)).shape == (0,)
