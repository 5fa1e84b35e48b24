"""Fine-tuning learns what the pairs say, resumes to the same bits, and refuses what cannot work."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from models import write_model

from jaxembed import encoders, losses, metrics, recipes, train
from jaxembed.arrays import masked_mean
from jaxembed.recipes import fine_tuning

SMALL = {"batch_size": 8, "length": 4, "mesh": train.make_mesh(1)}
RUN = {"steps": 40, "rate": 3e-3, **SMALL}  # one setting, so that tests share its compiled step


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return encoders.pretrained.load(write_model(tmp_path_factory.mktemp("models") / "bert")).first(1)


@pytest.fixture(scope="module")
def tuned(encoder):
    return recipes.fine_tune(encoder, pairs(), **RUN)


def pairs(count=32):
    """Word n belongs to word n + 1; both are in the vocabulary of the small model."""
    return {
        "first": [f"w{n % 9 + 5}" for n in range(count)],
        "second": [f"w{n % 9 + 6} w3" for n in range(count)],
    }


def ranks(encoder):
    first, second = [f"w{n + 5}" for n in range(9)], [f"w{n + 6} w3" for n in range(9)]
    return metrics.partner_ranks(encoder.encode_texts(first), encoder.encode_texts(second))


def leaves(encoder):
    return [np.asarray(x) for x in jax.tree.leaves(encoder.params)]


def test_partners_come_first_after_training(encoder, tuned):
    assert (1 / ranks(tuned)).mean() > (1 / ranks(encoder)).mean() + 0.2
    assert tuned.width == encoder.width


def test_a_stopped_run_goes_on_to_the_same_bits(encoder, tuned, tmp_path):
    class Stopped(Exception):
        pass

    def stop(tuned):
        raise Stopped

    options = {"workdir": tmp_path / "run", **RUN}
    with pytest.raises(Stopped):
        recipes.fine_tune(encoder, pairs(), evaluate=stop, evaluate_every=3, **options)
    seen = []

    def evaluate(tuned):
        seen.append(tuned)
        return {"MRR": float((1 / ranks(tuned)).mean())}

    again = recipes.fine_tune(encoder, pairs(), evaluate=evaluate, **options)
    for a, b in zip(leaves(tuned), leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    (row,) = [r for r in train.read_metrics(tmp_path / "run") if "MRR" in r]
    assert row["step"] == RUN["steps"] and row["MRR"] == (1 / ranks(tuned)).mean() and len(seen) == 1


def mean_of_words(params, batch, key=None):
    """In place of the network, where only what goes into the loss is asked: it compiles at once."""
    return masked_mean(params["table"]["embedding"][batch["ids"]], batch["mask"])


@pytest.fixture(scope="module")
def plain(encoder):
    encode = lambda params, batch, key=None, **_: mean_of_words(params, batch)  # noqa: E731
    params = {"table": encoder.params["table"], "blocks": {"unused": np.ones((1, 2), np.float32)}}
    return dataclasses.replace(encoder, encode=encode, params=params)


def test_a_head_trains_along_and_is_not_kept(plain):
    seen = []
    options = {"steps": 3, "rate": 1e-2, **SMALL, "evaluate": lambda e: seen.append(e.params) or {}}
    tuned = recipes.fine_tune(plain, pairs(), head=True, **options)
    assert jax.tree.structure(tuned.params) == jax.tree.structure(plain.params)
    assert jax.tree.structure(seen[-1]) == jax.tree.structure(plain.params)
    bare = recipes.fine_tune(plain, pairs(), **options)
    assert np.abs(tuned.params["table"]["embedding"] - bare.params["table"]["embedding"]).max() > 1e-4


def test_the_head_is_a_dense_layer_with_tanh(plain):
    params = fine_tuning._start(plain, True)(jax.random.key(0))
    batch = plain.tokenize(["w5 w6", "w7"], length=4)
    layer = params[fine_tuning.HEAD]["layer_0"]
    wanted = np.tanh(mean_of_words(params, batch) @ layer["kernel"] + layer["bias"])
    headed = fine_tuning._headed(mean_of_words)
    np.testing.assert_allclose(headed(params, batch), wanted, rtol=1e-5)
    assert fine_tuning._headed(mean_of_words) is headed


@pytest.mark.slow
def test_texts_without_partners_train_by_dropout_alone(encoder, tmp_path):
    """SimCSE without labels: each text finds itself although other units are dropped."""
    encoder.save(tmp_path / "model")
    noisy = encoders.pretrained.load(tmp_path / "model", dropout=0.3)
    texts = [f"w{n % 9 + 5} w{n // 9 + 5}" for n in range(32)]

    def loss(encoder):
        batch, params = encoder.tokenize(texts, length=6), encoder.params
        views = [noisy.encode(params, batch, jax.random.key(k)) for k in (1, 2)]
        assert np.abs(views[0] - views[1]).max() > 1e-3
        return float(losses.info_nce(*views).mean())

    tuned = recipes.fine_tune(noisy, {"first": texts, "second": texts}, head=True, **RUN)
    assert loss(tuned) < 0.8 * loss(noisy)


def test_equal_calls_share_their_compiled_step(plain):
    traced = []

    def counting(params, batch, key=None):
        traced.append(1)
        return mean_of_words(params, batch)

    other = dataclasses.replace(plain, encode=counting)
    one, two = (recipes.fine_tune(other, pairs(), steps=1, seed=seed, **SMALL) for seed in (0, 1))
    assert len(traced) == 2  # once for each side of a pair
    table = [np.asarray(x.params["table"]["embedding"]) for x in (plain, one, two)]
    assert all((a != b).any() for a, b in itertools.combinations(table, 2))  # one step learns


def test_negatives_sizes_and_frozen_parts(plain):
    texts = pairs(16)
    triplets = list(zip(texts["first"], texts["second"], reversed(texts["first"]), strict=True))
    tuned = recipes.fine_tune(plain, triplets, sizes=[4, 16], steps=2, frozen="^blocks/", **SMALL)
    np.testing.assert_array_equal(tuned.params["blocks"]["unused"], plain.params["blocks"]["unused"])
    assert (tuned.params["table"]["embedding"] != plain.params["table"]["embedding"]).any()


def given_to_loss(encoder, given, **options):
    """The arguments of the loss in a step on all pairs, in their order."""
    seen = []

    def loss(first, second, **rest):
        jax.debug.callback(lambda *x: seen.append(x), first, second, *rest.values())
        assert list(rest) == ["targets" if "scores" in given else "where"]
        return losses.info_nce(first, second)

    run = {"steps": 1, "batch_size": len(given["first"]), "length": 4, "mesh": train.make_mesh(1)}
    recipes.fine_tune(encoder, given, loss=loss, **run, **options)
    jax.effects_barrier()
    first, second, rest = map(np.asarray, seen[0])
    order = [int(np.abs(encoder.encode_texts(given["first"]) - row).sum(axis=1).argmin()) for row in first]
    return order, first, second, rest


def test_the_guide_hides_over_the_blocks_what_is_above_the_positive(plain):
    texts = {
        "first": ["w5", "w6", "w7", "w8"],
        "second": ["w6 w5", "w7", "w5 w9", "w6"],
        "negatives": ["w5", "w9", "w7", "w9"],
    }
    rng = np.random.default_rng(0)
    table = {"table": {"embedding": rng.normal(size=(30, 16)).astype(np.float32)}}
    guide = dataclasses.replace(plain, params=plain.params | table)
    blocks = ("qd", "qq", "dd")
    order, _, _, where = given_to_loss(plain, texts, guide=guide, margin=0.1, blocks=blocks)
    chosen = {name: [x[i] for i in order] for name, x in texts.items()}
    first, rest = chosen["first"], chosen["second"] + chosen["negatives"]
    seen = guide.encode_texts(first), guide.encode_texts(rest)
    keys = {text: n for n, text in enumerate(set(first + rest))}
    wanted = losses.guided_mask(*seen, margin=0.1, blocks=blocks) & losses.duplicate_mask(
        np.array([keys[x] for x in first]), np.array([keys[x] for x in rest]), blocks=blocks
    )
    assert where.shape == (4, 8 + 4 + 8) and 0 < where.sum() < where.size
    np.testing.assert_array_equal(where, np.asarray(wanted))


def test_equal_texts_are_not_negatives(plain):
    same = {"first": ["w5"] * 8, "second": ["w6"] * 8}
    _, first, second, where = given_to_loss(plain, same)
    assert first.shape == second.shape == (8, 16)
    np.testing.assert_array_equal(where, np.eye(8, dtype=bool))


def test_scores_are_the_targets(plain):
    graded = pairs(8) | {"scores": np.linspace(0, 5, 8)}
    order, _, _, targets = given_to_loss(plain, graded)
    np.testing.assert_allclose(targets, graded["scores"][order], rtol=1e-6)
    tuned = recipes.fine_tune(plain, graded, steps=2, **SMALL)
    assert (tuned.params["table"]["embedding"] != plain.params["table"]["embedding"]).any()


SCORED = {"first": ["a"], "second": ["b"], "scores": [1.0]}


@pytest.mark.parametrize(
    ("given", "options", "match"),
    [
        ([("a",)], {}, r"pairs: pass rows \(first, second\)"),
        ([], {}, "pairs: pass rows"),
        ([("a", "b")], {"batch_size": 2}, "batch_size: 2 is outside 1..1, the number of pairs"),
        (SCORED | {"negatives": ["c"]}, {}, "pairs: scores cannot be combined with"),
        (SCORED, {"blocks": ("qd", "qq")}, "pairs: scores cannot be combined with"),
        ([("a", "b")], {"blocks": ("qd", "xx")}, r"blocks=\('qd', 'xx'\): a subset of"),
        ([("a", "b")], {"blocks": ("qq",)}, r"blocks=\('qq',\): a subset of"),
        ([("a", "b")], {"sizes": (99,)}, "sizes: 99 is above the encoder's width 16"),
    ],
)
def test_bad_arguments_get_one_line(encoder, given, options, match):
    with pytest.raises(ValueError, match=match) as caught:
        recipes.fine_tune(encoder, given, **{"batch_size": 1, "length": 8} | options)
    assert "\n" not in str(caught.value)
