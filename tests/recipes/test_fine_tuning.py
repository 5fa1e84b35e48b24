"""Fine-tuning learns what the pairs say, resumes to the same bits, and refuses what cannot work."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from models import write_model
from tokenizers import Tokenizer, models, pre_tokenizers

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


def test_a_guide_with_a_tokenizer_of_its_own_reads_the_same_texts(plain):
    """The guide cuts words into letters and knows none of the student's ids; what it hides is unchanged."""
    words = Tokenizer(models.WordLevel({f"{x}": i for i, x in enumerate("?w0123456789")}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    words.enable_truncation(9)
    letters = {"table": {"embedding": np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)}}
    changed = {"tokenizer": words, "width": 3, "max_length": 9}
    guide = dataclasses.replace(plain, params=plain.params | letters, **changed)
    texts = {"first": ["w5", "w16", "w7", "w28"], "second": ["w6 w5", "w17", "w5 w9", "w16"]}
    order, _, _, where = given_to_loss(plain, texts, guide=guide)
    sides = [[x[i] for i in order] for x in texts.values()]
    wanted = losses.guided_mask(*map(guide.encode_texts, sides))
    np.testing.assert_array_equal(where, np.asarray(wanted))
    assert 4 < where.sum() < where.size
    assert guide.tokenize(["w16"])["ids"][0, :3].tolist() == [1, 3, 8]
    assert plain.tokenize(["w16"])["ids"][0, :3].tolist() == [2, 16, 3]


def test_violators_are_what_the_encoder_itself_ranks_too_high(plain):
    texts = pairs(8)
    _, first, second, where = given_to_loss(plain, texts)
    wanted = where & np.asarray(losses.violator_mask(first, second))
    kept = given_to_loss(plain, texts, violators=True)[3]  # one seed, one order
    np.testing.assert_array_equal(kept, wanted)
    assert kept.sum() < where.sum()


def test_pairs_whose_switch_is_off_keep_their_own_negative_alone(plain):
    texts = pairs(8) | {"negatives": [f"w{n + 15}" for n in range(8)]}
    switch = np.arange(8) % 2 == 0
    order, _, _, where = given_to_loss(plain, texts, in_batch=switch)
    whole = given_to_loss(plain, texts)[3]
    own = np.tile(np.eye(8, dtype=bool), 2)
    np.testing.assert_array_equal(where, np.where(switch[order][:, None], whole, own))
    np.testing.assert_array_equal(given_to_loss(plain, texts, in_batch=False)[3], own)


def test_each_text_is_read_with_its_prompt(plain):
    texts = pairs(4) | {"second": [f"w{n + 6}" for n in range(4)]}
    asked = ["w20 ", "w21 ", "", "w20 "]
    _, first, second, _ = given_to_loss(plain, texts, prompts={"first": asked, "second": "w22 "})
    wanted = plain.encode_texts([p + t for p, t in zip(asked, texts["first"], strict=True)])
    np.testing.assert_allclose(np.sort(first, axis=0), np.sort(wanted, axis=0), atol=1e-6)
    wanted = plain.encode_texts([f"w22 {t}" for t in texts["second"]])
    np.testing.assert_allclose(np.sort(second, axis=0), np.sort(wanted, axis=0), atol=1e-6)
    told = encoders.with_prompts(plain, {}, pooled=False)
    batch = fine_tuning._tokens(told, ["w5", "w6"], ["w20 ", ""], 6)
    np.testing.assert_array_equal(batch["pool_mask"], [[0, 0, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]])
    np.testing.assert_array_equal(batch["mask"], [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]])


def test_a_decoder_learns_by_adapters_of_low_rank(tmp_path):
    decoder = encoders.pretrained.load(write_model(tmp_path / "llama", "llama", special=False), causal=False)
    seen = []
    run = RUN | {"rate": 3e-2, "evaluate": lambda tuned: seen.append(tuned) or {}}
    tuned = recipes.fine_tune(decoder, pairs(), rank=2, head=True, **run)
    assert (1 / ranks(tuned)).mean() > (1 / ranks(decoder)).mean() + 0.2
    np.testing.assert_array_equal(leaves(seen[-1])[0], leaves(tuned)[0])
    changes = jax.tree.map(lambda a, b: np.asarray(a - b), tuned.params, decoder.params)
    for path, change in jax.tree.leaves_with_path(changes):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.startswith("blocks/") and name.endswith("kernel"):
            assert all(np.linalg.matrix_rank(x, tol=1e-5) == 2 for x in change), name
        else:
            assert not change.any(), name


def test_adapters_with_magnitudes_are_written_and_added_again(encoder, tmp_path):
    run = RUN | {"steps": 5, "rate": 3e-2, "rank": 2}
    tuned = recipes.fine_tune(encoder, pairs(), magnitudes=True, adapters=tmp_path / "dora", **run)
    again = recipes.with_adapters(encoder, tmp_path / "dora")
    for a, b in zip(leaves(tuned), leaves(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    found, scale = encoders.read_adapters(tmp_path / "dora", encoder)
    kernel = np.asarray(encoder.params["blocks"]["mlp_in"]["kernel"])
    adapter = found["blocks"]["mlp_in"]["kernel"]
    assert scale == fine_tuning.SCALE and adapter["up"].any()
    assert (adapter["magnitude"] != np.linalg.norm(kernel, axis=1)).all()
    with pytest.raises(FileExistsError, match="adapters: .* is not empty"):
        recipes.fine_tune(encoder, pairs(), adapters=tmp_path / "dora", **run)


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
        (SCORED, {"in_batch": False}, "pairs: scores have no negatives"),
        (SCORED, {"violators": True}, "pairs: scores have no negatives"),
        ([("a", "b")], {"rank": 2, "frozen": "^table/"}, "rank: adapters leave all other parameters"),
        ([("a", "b")], {"rank": 99}, "rank=99 is outside 1.."),
        ([("a", "b")], {"magnitudes": True}, "rank: None trains everything"),
        ([("a", "b")], {"adapters": "folder"}, "rank: None trains everything"),
        ([("a", "b")], {"prompts": {"third": "c"}}, "prompts: 'third' is not among the texts of the pairs"),
        ([("a", "b")], {"prompts": {"first": ["c", "d"]}}, r"prompts\['first'\]: 2 for 1 pairs"),
        ([("a", "b")], {"sizes": (99,)}, "sizes: 99 is above the encoder's width 16"),
    ],
)
def test_bad_arguments_get_one_line(encoder, given, options, match):
    with pytest.raises(ValueError, match=match) as caught:
        recipes.fine_tune(encoder, given, **{"batch_size": 1, "length": 8} | options)
    assert "\n" not in str(caught.value)


# Objectives over layers


def last_layer(encoder):
    return functools.partial(losses.layer_objective, grid=((encoder.depth, encoder.width),))


LAYERED = {"steps": 4, "rate": 1e-3, **SMALL}


def test_the_last_layer_alone_trains_as_without_layers(encoder):
    plain = recipes.fine_tune(encoder, pairs(), **LAYERED)
    layered = recipes.fine_tune(encoder, pairs(), layers=last_layer(encoder), **LAYERED)
    texts = [f"w{n} w{n + 1}" for n in range(5, 20)]
    before, one, other = (e.encode_texts(texts) for e in (encoder, plain, layered))
    # Rescaling to sqrt(D) rounds otherwise, and Adam makes steps of the sign of a gradient near 0.
    assert np.abs(one - other).mean() < 0.1 * np.abs(one - before).mean()


def test_layers_train_what_the_objective_says(encoder):
    seen = []

    def layers(loss):
        def objective(key, first, second, **options):
            seen.append((first.shape, second.shape, sorted(options)))
            length = np.sqrt(first.shape[-1])
            return loss(first[:, 1], second[:, 1], **options).mean() + (norms(first) - length).max() ** 2

        return objective

    def norms(x):
        return (x**2).sum(axis=-1) ** 0.5

    hard = pairs() | {"negatives": ["w20"] * 32}
    tuned = recipes.fine_tune(encoder, hard, layers=layers, **LAYERED)
    depth, width = encoder.depth, encoder.width
    assert seen[0] == ((8, depth + 1, width), (16, depth + 1, width), ["where"])
    assert any((a != b).any() for a, b in zip(leaves(tuned), leaves(encoder), strict=True))
    scored = {"first": pairs()["first"], "second": pairs()["second"], "scores": np.arange(32.0)}
    recipes.fine_tune(encoder, scored, layers=layers, **LAYERED)
    assert seen[-1] == ((8, depth + 1, width), (8, depth + 1, width), ["targets"])


def test_a_schedule_takes_the_place_of_the_rate(encoder):
    still = recipes.fine_tune(encoder, pairs(), **LAYERED | {"rate": lambda step: 0.0})
    assert all(np.array_equal(a, b) for a, b in zip(leaves(still), leaves(encoder), strict=True))


@pytest.mark.parametrize("also", [{"sizes": (4,)}, {"head": True}, {"violators": True}])
def test_layers_are_refused_beside_what_they_replace(encoder, also):
    with pytest.raises(ValueError, match="layers: names its own sizes.*leave sizes, head and violators out"):
        recipes.fine_tune(encoder, pairs(), layers=last_layer(encoder), **LAYERED | also)
