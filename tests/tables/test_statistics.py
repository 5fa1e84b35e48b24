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
