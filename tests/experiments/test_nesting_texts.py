"""The text part of the family nesting: pairs, batches, training over layers, choices by dev pairs."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import write_model
from stories import ran

from experiments.nesting import grid_results, matryoshka, starbucks, texts
from jaxembed import data, encoders, losses, train


def write_pairs(path, graded):
    """48 pairs of texts in the words of the toy model; partners share two of three words."""
    words = [f"w{i}" for i in range(5, 29)]
    lines = [(f"{w} {words[n]} {words[n - 1]}", f"{words[n]} {words[n - 1]}") for n, w in enumerate(words)]
    lines += [(f"{w} {words[n - 2]}", f"{words[n - 2]} w29 {w}") for n, w in enumerate(words)]
    path.write_text("\n".join("\t".join([*p, str(i % 5)] if graded else p) for i, p in enumerate(lines)))
    return path


def plain(encoder):
    """The arm that trains the last layer in full."""
    return functools.partial(losses.layer_objective, grid=((encoder.depth, encoder.width),))


def test_pairs_are_split_once_and_small_files_are_refused(tmp_path):
    path = write_pairs(tmp_path / "pairs.tsv", graded=True)
    parts = texts.read_pairs(pairs=path)
    assert [len(parts[n]["first"]) for n in ("train", "dev", "test")] == [40, 4, 4]
    assert len({x for p in parts.values() for x in p["first"]}) == 48
    assert len(parts["dev"]["scores"]) == 4
    (tmp_path / "few.tsv").write_text("a\tb\n")
    with pytest.raises(ValueError, match="--pairs .*few.tsv: 1 pairs; at least 40"):
        texts.read_pairs(pairs=tmp_path / "few.tsv")
    with pytest.raises(ValueError, match="--paper: needs --sts"):
        texts.read_pairs(paper=True)
    with pytest.raises(ValueError, match="--sts --pairs: choose one"):
        texts.read_pairs(sts=tmp_path, pairs=path)


def test_docstrings_are_pairs_of_which_each_text_comes_once(monkeypatch):
    records = [
        {"query": f"q{i % 90}", "docstring": f"a b c d e{i % 80}", "split": split}
        for split in ("train", "validation", "test")
        for i in range(100)
    ] + [{"query": "short", "docstring": "too short", "split": "train"}]
    monkeypatch.setattr(data, "docstrings", lambda progress: records)
    parts = texts.read_pairs(quick=True)
    assert [len(parts[n]["first"]) for n in ("train", "dev", "test")] == [80, 60, 60]
    assert all(len(set(column)) == len(column) for part in parts.values() for column in part.values())


@pytest.mark.experiment
@pytest.mark.parametrize(
    ("story", "graded"), [(matryoshka, False), (starbucks, True)], ids=["matryoshka", "starbucks"]
)
def test_own_pairs_train_and_the_encoder_is_saved(story, graded, tmp_path, capsys):
    name = story.__name__.rpartition(".")[2]
    path, model = write_pairs(tmp_path / "pairs.tsv", graded), write_model(tmp_path / "toy")
    toy = encoders.pretrained.load(model)
    given = {"pairs": path, "model": model, "seeds": 1, "steps": 3, "batch_size": 8, "length": 7}
    given |= {"sizes": (4, toy.width), "workdir": tmp_path, "rates": (1e-2, 1e-3)}
    given |= {"layers": (1, toy.depth)} if story is starbucks else {}
    saved = ran(story, tmp_path, grid_results.figures, **given)
    details = saved["details"]["text"]
    assert set(details["grids"]) == {"untrained", "2DMSE", "SRL" if story is starbucks else "last layer"}
    assert all(len(grid) == len(details["cells"]) for grid in details["grids"].values())
    assert set(details["rates"].values()) <= {1e-2, 1e-3}
    assert all(set(dev) == {"0.01", "0.001"} for dev in details["dev"].values())
    assert saved["claims"] and {row["verdict"] for row in saved["claims"]} == {None}
    assert saved["experiment"] == f"nesting.{name}" and saved["run"].startswith("own_pairs")
    assert next(tmp_path.glob(f"{name}_own*.png")).stat().st_size > 5_000
    (folder,) = tmp_path.glob("encoder-*")
    before, after = (encoders.pretrained.load(f).encode_texts(["w5 w6 w7"]) for f in (model, folder))
    assert str(folder) in capsys.readouterr().out and (before * after).sum() < 1 - 1e-6


def test_a_rate_at_which_training_diverges_is_not_chosen(tmp_path, capsys):
    encoder = encoders.pretrained.load(write_model(tmp_path / "toy"))
    parts = texts.read_pairs(pairs=write_pairs(tmp_path / "pairs.tsv", graded=True))
    batch = {n: texts.arrays(encoder, pairs, 7) for n, pairs in parts.items()}
    given, targets = (encoder, plain(encoder), batch), [(1, encoder.width)]
    options = {"seeds": 1, "steps": 2, "size": 8}
    with pytest.raises(ValueError, match="--rates inf: training diverges; choose smaller"):
        texts.choose(*given, (math.inf,), targets, **options)
    _, best, dev = texts.choose(*given, (math.inf, 1e-3), targets, **options)
    assert best == 1e-3 and not dev and "at rate inf training diverges" in capsys.readouterr().out


def test_equal_texts_are_not_negatives_of_one_another():
    keys = np.array([[ord(x) for x in row] for row in ("awz", "bxx", "ayw", "dxq")])
    first, hard = np.split(np.asarray(texts.distinct_pairs(keys)), 2, axis=1)
    assert np.argwhere(~first).tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]
    assert np.argwhere(~hard).tolist() == [[0, 2], [1, 1], [3, 1]]
    blocks = np.asarray(texts.distinct_pairs(keys[:, :2], ("qd", "qq", "dd")))
    np.testing.assert_array_equal(blocks, np.tile(first, (1, 3)))


def loss_of(encoder, arm, pairs):
    """The loss of one step on pairs."""
    tx, step = texts.make_update(encoder, arm, 1e-3, 4)
    batch = texts.arrays(encoder, pairs, 7)
    state = train.TrainState(jnp.int32(0), encoder.params, tx(encoder.params))
    return float(step(state, batch, jax.random.key(0))[1]["loss"])


def test_repeated_texts_of_a_batch_do_not_count(tmp_path):
    encoder = encoders.pretrained.load(write_model(tmp_path / "toy"))
    loss = functools.partial(loss_of, encoder, plain(encoder))
    pairs = {"first": ["w5 w6", "w7 w8"], "second": ["w9 w10", "w9 w10"]}
    assert loss(pairs) == 0 and loss(pairs | {"second": ["w9 w10", "w9 w11"]}) > 0
    assert loss(pairs | {"negatives": ["w9 w10", "w9 w10"]}) == 0


def test_hard_negatives_train_with_every_arm(tmp_path):
    """The pull towards the last layer met arrays of different lengths, and --paper stopped there."""
    encoder = encoders.pretrained.load(write_model(tmp_path / "toy"))
    pairs = {"first": ["w5 w6", "w7 w8"], "second": ["w9 w10", "w11"], "negatives": ["w12", "w13 w14"]}
    grid = ((1, 4), (encoder.depth, encoder.width))
    for arm in (
        functools.partial(losses.two_dimensional, layers=encoder.depth, sizes=(4, encoder.width)),
        functools.partial(losses.starbucks, grid=grid, pull=losses.vector_kl_to_last),
    ):
        assert 0 < loss_of(encoder, arm, pairs) < 100


def test_a_pair_is_worth_its_recall_or_spearman(tmp_path):
    encoder = encoders.pretrained.load(write_model(tmp_path / "toy"))
    cells = [(1, 4), (encoder.depth, encoder.width)]
    for graded in (False, True):
        pairs = data.sentence_pairs(write_pairs(tmp_path / "pairs.tsv", graded))
        batch = texts.arrays(encoder, pairs, 7)
        found = texts.scores(encoder, batch, cells, size=20)
        for value, (n, size) in zip(found, cells, strict=True):
            vectors = texts.layer_vectors(encoder, encoder.params, batch)[:, :, n, :size]
            first, second = (
                np.asarray(v / jnp.linalg.norm(v, axis=1, keepdims=True)) for v in vectors.swapaxes(0, 1)
            )
            if graded:
                ranks = [np.argsort(np.argsort(x)) for x in ((first * second).sum(1), pairs["scores"])]
                assert abs(value - np.corrcoef(*ranks)[0, 1]) < 0.15  # without ties of the grades
            else:
                ahead = (first @ second.T >= (first * second).sum(1)[:, None] - 1e-6).sum(axis=1)
                assert value == pytest.approx((ahead <= 10).mean(), abs=0.05)
