"""The experiment on features of a diffusion model: splits, broken images, choices, networks."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.diffusion_features import __main__ as story
from experiments.diffusion_features import heads, networks
from experiments.diffusion_features.__main__ import Config


def test_parts_share_no_image_and_classes_are_even():
    rows, images, labels = story.split()
    assert sum(map(len, rows)) == len(images) == len(np.unique(np.concatenate(rows)))
    assert images.min() == -1 and images.max() == 1
    share = np.bincount(labels[rows[2]]) / np.bincount(labels)
    np.testing.assert_allclose(share, 0.2, atol=0.02)
    known = story.few(rows[0], labels, 10, 0)
    assert np.bincount(labels[known]).tolist() == [10] * 10 and set(known) <= set(rows[0])
    assert set(story.few(rows[0], labels, None, 0)) == set(rows[0])


def test_broken_images_are_moved_by_a_pixel_or_lose_nine():
    images = np.random.default_rng(0).uniform(-0.5, 1, (20, 8, 8, 1)).astype(np.float32)
    for before, after in zip(images, story.corrupted(images, "moved"), strict=True):
        moves = [np.roll(before, m, axis=a) for a in (0, 1) for m in (1, -1)]
        kept = after != -1
        assert any((m[kept] == after[kept]).all() for m in moves) and kept.sum() == 56
    lost = story.corrupted(images, "hidden") != images
    assert (lost.sum(axis=(1, 2, 3)) == 9).all()


def test_the_best_step_and_block_of_the_validation_are_chosen(monkeypatch):
    cfg = Config(times=(5, 20), pools=(1, 4), grid_seeds=1)
    labels = np.tile(np.arange(10), 30)
    images, rows = np.zeros((300, 8, 8, 1), np.float32), (np.arange(200), np.arange(200, 300), None)
    rng = np.random.default_rng(0)
    telling = np.zeros((300, 4, 4, 10), np.float32)
    telling[np.arange(300), labels % 4, labels // 4, 0] = 1  # only places tell the class

    def maps(cfg, params, images, t, seed):
        noise = rng.normal(size=(2, 300, 4, 4, 10)).astype(np.float32)
        return {1: noise[0], 2: noise[1], 3: telling + 0.01 * noise[0] if t == 20 else noise[0]}

    monkeypatch.setattr(networks, "maps", maps)
    choice, grid = story.chosen(cfg, None, images, labels, rows)
    assert choice == (20, 3, 4) and grid.shape == (1, 2, 3)


def test_networks_train_and_their_maps_differ_by_step():
    cfg = dataclasses.replace(Config(base=8, steps=2, gan_steps=3), batch_size=16)
    images = np.random.default_rng(0).uniform(-1, 1, (32, 8, 8, 1)).astype(np.float32)
    params = networks.fitted(cfg, images, 0)
    first, second = (networks.maps(cfg, params, images, t, 0) for t in (5, 500))
    assert first.keys() == second.keys() == set(range(1, 10))
    assert first[7].shape == (32, 8, 8, 16) and np.abs(first[7] - second[7]).max() > 1e-3
    one, other = (encode(images) for encode in networks.bigans(cfg, images, 2))
    assert one.shape == (32, networks.LATENT) and np.abs(one - other).max() > 1e-3


def test_every_head_learns_maps_that_tell_the_class():
    cfg = Config(base=8, attention=8, former=8, head_steps=200)
    labels, rows = np.tile(np.arange(10), 6), np.arange(60)
    telling = np.zeros((60, 4, 4, 10), np.float32)
    telling[np.arange(60), :, :, labels] = 1
    maps = telling + 0.1 * np.random.default_rng(0).normal(size=telling.shape).astype(np.float32)
    for kind in (heads.LINEAR, heads.ATTENTION):
        assert heads.accuracy(cfg, kind, maps, labels, rows, rows, 200, 0) > 0.7
    steps = [{3: maps[:, :2, :2], 5: 0 * maps}, {3: 0 * maps[:, :2, :2], 5: maps}]
    assert heads.accuracy(cfg, heads.FORMER, steps, labels, rows, rows, 200, 0) > 0.8


def test_feedback_reaches_the_head_and_a_dif_former_reads_all_its_steps():
    cfg = Config(base=8, attention=8, former=8)
    rng, labels = np.random.default_rng(0), np.tile([0, 1], 30)
    images = (rng.uniform(-1, 0, (60, 8, 8, 1)) + labels[:, None, None, None]).astype(np.float32)
    params = networks.network(8).init(jax.random.key(0))
    rows = np.arange(60)
    given = (cfg, params, images, labels, rows, rows, (5, 6, 2), 40, 0)
    assert heads.feedback_accuracy(*given) > 0.8
    read = heads.several(cfg, params, images, 6, 0)
    assert len(read) == len(cfg.fused) and [set(step) for step in read] == [{5, 6, 8}] * 3
    assert read[0][8].shape == (60, 4, 4, 8)


def test_widths_of_the_heads_are_compared_on_validation_images(monkeypatch):
    cfg = Config(base=8, steps=2, head_steps=2, few_steps=2, widths=(4, 8), seeds=2, batch_size=16)
    labels = np.tile(np.arange(10), 12)
    images = np.random.default_rng(0).uniform(-1, 1, (120, 8, 8, 1)).astype(np.float32)
    rows, asked = (np.arange(80), np.arange(80, 120), None), []
    monkeypatch.setattr(story, "chosen", lambda *given: ((50, 6, 2), None))
    monkeypatch.setattr(heads, "feedback_accuracy", lambda *given: asked.append(given[5]) or 0.5)
    found = story.validated(cfg, images, labels, rows)
    assert [(r["width"], r["head"]) for r in found.tables["widths"]] == [
        (w, kind) for w in cfg.widths for kind in heads.WIDE
    ]
    assert all(len(r["runs"]["all labels"]) == 2 for r in found.tables["widths"])
    assert all((x == rows[1]).all() for x in asked) and len(asked) == 8
    assert story.figures(found.tables) == {} and not any(c.ours(found.tables) for c in story.CLAIMS)
    with pytest.raises(ValueError, match="--widths 63: choose a multiple of 4"):
        Config(widths=(32, 63))
