"""Experiments on layers and prefixes: recipes against sums written out, and small runs of each part."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import write_model

from experiments import definitions, false_negatives, matryoshka, starbucks
from experiments.common import masked_words, nested, nested_texts, plots, prefix_heads, report, text_models
from jaxembed import data, encoders, losses, train


@pytest.fixture(scope="module")
def layers():
    return jax.random.normal(jax.random.key(0), (5, 4, 8))  # 3 blocks of width 8


def square(vectors):
    return jnp.sum(vectors**2, axis=1)


def no_pull(last):
    return lambda vectors: jnp.zeros(len(vectors))


# Recipes


def test_objective_is_the_sum_over_the_pairs(layers):
    recipe = nested.Recipe(((1, 2), (3, 8)), lambda key: (0.5, 2.0))
    found = nested.objective(recipe, square, no_pull, jax.random.key(0), layers)
    wanted = 0.5 * (layers[:, 1, :2] ** 2).sum(1) + 2 * (layers[:, 3] ** 2).sum(1)
    np.testing.assert_allclose(found, wanted.mean(), rtol=1e-6)


def test_pull_is_the_divergence_from_the_last_layer_and_does_not_move_it(layers):
    recipe = nested.Recipe(((3, 8),), lambda key: (0.0,), ((1, 2), (2, 8)))

    def total(x):
        return nested.objective(recipe, square, nested.pull_features, jax.random.key(0), x)

    def divergence(a, b):
        p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (a, b))
        return (p * np.log(p / q)).sum(axis=1)

    x = np.asarray(layers, np.float64)
    wanted = divergence(x[:, 3, :2], x[:, 1, :2]) + divergence(x[:, 3], x[:, 2])
    gradient = jax.grad(total)(layers)
    np.testing.assert_allclose(total(layers), wanted.mean(), rtol=1e-5)
    assert not gradient[:, 3].any() and gradient[:, 1, :2].all() and not gradient[:, 1, 2:].any()


def test_the_sampled_recipe_pulls_the_layer_that_it_trains():
    recipe = nested.sampled(4, (2, 8), weighting="linear")
    seen = set()
    for n in range(20):
        key = jax.random.key(n)
        weights = dict(zip(recipe.grid, np.asarray(recipe.weights(key)).tolist(), strict=True))
        pulled = dict(zip(recipe.pulled, np.asarray(recipe.pulled_weights(key)).tolist(), strict=True))
        (layer,) = {layer for layer, _ in weights if layer < 4 and weights[layer, 8]}
        assert weights[layer, 8] == weights[layer, 2] == pytest.approx(1 / layer)
        assert weights[4, 8] == weights[4, 2] == 1 and pulled[layer, 8] == 1 == pulled[4, 8]
        assert sum(pulled.values()) == 2
        seen.add(layer)
    assert seen == {1, 2, 3}


def test_pull_scores_is_zero_for_copies_and_ignores_the_length(layers):
    last = layers[:, 3]
    pull = nested.pull_scores()(last)
    np.testing.assert_allclose(pull(3 * last), 0, atol=1e-5)
    assert (pull(layers[:, 1]) > 0).all()


# Digits


def test_digits_of_each_seed_are_all_digits_in_an_order_of_their_own():
    images, labels = nested.digits(2)
    assert images.shape == (1797, 2, 8, 8) and images.min() >= 0 and images.max() == 1
    assert np.bincount(labels[:, 0]).tolist() == np.bincount(labels[:, 1]).tolist()
    assert (labels[:, 0] != labels[:, 1]).any()


def test_nearest_is_the_accuracy_of_a_loop():
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(1310, 1, 2, 3)).astype(np.float32), rng.integers(3, size=(1310, 1))
    hits = 0
    for row in range(1297, 1310):
        a, b = vectors[row, 0, 1, :2], vectors[:1297, 0, 1, :2]
        best = np.argmax(b @ a / np.linalg.norm(b, axis=1))
        hits += labels[best, 0] == labels[row, 0]
    assert nested.nearest(vectors, labels, [(1, 2)])[0, 0] == pytest.approx(hits / 13)


def test_components_of_full_size_keep_every_score():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1300, 2, 6)).astype(np.float32)
    head = {"kernel": rng.normal(size=(2, 6, 10)), "bias": rng.normal(size=(2, 10))}
    turned, found = prefix_heads.components(z, head, 6)
    for s in range(2):
        wanted = z[:, s] @ head["kernel"][s] + head["bias"][s]
        np.testing.assert_allclose(found[:, s] @ turned["kernel"][s] + turned["bias"][s], wanted, atol=1e-4)
    assert prefix_heads.components(z, head, 2)[1].shape == (1300, 2, 2)


def test_networks_with_heads_learn_every_prefix():
    images, labels = nested.digits(1)
    for name, heads in (("own_heads", {"2": 2, "8": 8}), ("one_head", {"all": 8})):
        loss = lambda h, z, y, name=name: getattr(prefix_heads, name)(h, z, y, sizes=(2, 8))  # noqa: E731
        made, z = prefix_heads.fit_network(images, labels, 8, loss, heads, 150)
        short = made["2"] if "2" in made else prefix_heads.cut(made["all"], 2)
        assert prefix_heads.accuracies(short, z[..., :2], labels)["head"][0] > 0.3
        assert prefix_heads.accuracies(made.get("8", made.get("all")), z, labels)["head"][0] > 0.8


def test_summary_says_what_holds():
    cells = ((1, 2), (1, 4), (2, 2), (2, 4))
    found = {"plain": np.array([[0.1, 0.2, 0.5, 0.9]] * 5), "nest": np.array([[0.3, 0.4, 0.5, 0.88]] * 5)}
    made = matryoshka.summary("X", found, cells, "plain", "nest", gain=0.1, loss=0.03)
    assert list(made["criteria"].values()) == [True, True] and made["seeds"] == 5
    assert made["table"][0]["layers before the last"] == pytest.approx(0.15)
    worse = matryoshka.summary("X", found, cells, "plain", "nest", gain=0.3, loss=0.01)
    assert list(worse["criteria"].values()) == [False, False]
    few = {arm: x[:3] for arm, x in found.items()}
    made = matryoshka.summary("X", few, cells, "plain", "nest", gain=0.1, loss=0.03)
    assert not made["criteria"] and [row["seeds"] for row in made["claims"]] == [3, 3]
    assert [row["mean"] for row in made["claims"]] == [pytest.approx(0.2), pytest.approx(-0.02)]


# Pre-training on glosses


@pytest.fixture
def wordnet(monkeypatch):
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(30, size=8)) for _ in range(80)]
    monkeypatch.setattr(data, "wordnet", lambda: [{"gloss": text} for text in texts])


def test_glosses_hide_less_for_the_encoder_and_no_rare_word(wordnet):
    batch = masked_words.glosses(60, 20)
    assert batch["ids"].max() == 19 and (batch["ids"][:, 0] == masked_words.FIRST).all()
    rows = np.arange(40)
    hidden = masked_words.hidden_words(batch, rows, 20)
    again = masked_words.hidden_words(batch, rows, 20)
    assert all(np.array_equal(hidden[n], again[n]) for n in hidden)
    assert (hidden["where"] <= hidden["decoder_where"]).all() and hidden["where"].any()
    assert (hidden["words"][hidden["decoder_where"]] > masked_words.OTHER).all()
    assert (hidden["ids"] == hidden["words"])[~hidden["where"]].all()


@pytest.mark.experiment
def test_pretraining_on_masked_words_is_nested_and_measured(wordnet):
    batch, grid = masked_words.glosses(80, 20), ((1, 8), (4, 64))
    options = {"vocabulary": 20, "steps": 3, "size": 16, "seed": 0}
    params = masked_words.fit(batch, np.arange(64), grid, nested=True, **options)
    found = masked_words.measure(params, batch, np.arange(64, 80), grid, 20)
    assert found.shape == (3, 2) and np.isfinite(found).all() and (found < 3 * math.log(20)).all()


# Text


def write_pairs(path, graded):
    """48 pairs of texts in the words of the toy model; partners share two of three words."""
    words = [f"w{i}" for i in range(5, 29)]
    lines = [(f"{w} {words[n]} {words[n - 1]}", f"{words[n]} {words[n - 1]}") for n, w in enumerate(words)]
    lines += [(f"{w} {words[n - 2]}", f"{words[n - 2]} w29 {w}") for n, w in enumerate(words)]
    path.write_text("\n".join("\t".join([*p, str(i % 5)] if graded else p) for i, p in enumerate(lines)))
    return path


def test_pairs_are_split_once_and_small_files_are_refused(tmp_path):
    path = write_pairs(tmp_path / "pairs.tsv", graded=True)
    parts = nested_texts.read_pairs(pairs=path)
    assert [len(parts[n]["first"]) for n in ("train", "dev", "test")] == [40, 4, 4]
    assert len({x for p in parts.values() for x in p["first"]}) == 48
    assert len(parts["dev"]["scores"]) == 4
    (tmp_path / "few.tsv").write_text("a\tb\n")
    with pytest.raises(ValueError, match="few.tsv: 1 pairs; at least 40"):
        nested_texts.read_pairs(pairs=tmp_path / "few.tsv")
    with pytest.raises(ValueError, match="--paper: needs --sts"):
        nested_texts.read_pairs(paper=True)


def test_all_nli_takes_premises_with_both_kinds_of_hypotheses(monkeypatch):
    sets = {"snli": [("p", 0, "follows"), ("p", 2, "contradicts"), ("q", 0, "alone"), ("r", 1, "neither")]}
    sets["multi_nli"] = [("m", 2, "no"), ("m", 0, "yes"), ("m", 0, "second")]
    names = ("premise", "label", "hypothesis")
    monkeypatch.setattr(data, "tfds", lambda n, _: [dict(zip(names, row, strict=True)) for row in sets[n]])
    wanted = {"first": ["p", "m"], "second": ["follows", "yes"], "negatives": ["contradicts", "no"]}
    assert nested_texts.all_nli() == wanted


@pytest.mark.experiment
@pytest.mark.parametrize(
    ("experiment", "graded"), [(matryoshka, False), (starbucks, True)], ids=["matryoshka", "starbucks"]
)
def test_own_pairs_train_and_the_encoder_is_saved(experiment, graded, tmp_path, capsys):
    path, model = write_pairs(tmp_path / "pairs.tsv", graded), write_model(tmp_path / "toy")
    toy = encoders.pretrained.load(model)
    depth = len(toy.params["blocks"]["mlp_in"]["kernel"])
    options = {"pairs": path, "model": model, "seeds": 1, "steps": 3, "batch_size": 8, "length": 7}
    options |= {"sizes": (4, toy.width), "workdir": tmp_path, "results": tmp_path, "rates": (1e-2, 1e-3)}
    options |= {"layers": (1, depth)} if experiment is starbucks else {}
    experiment.main(experiment.Config(**options))
    name = experiment.__name__.split(".")[-1]
    saved = json.loads(next(tmp_path.glob(f"{name}_own*.json")).read_text())
    grids = saved["text"]["grids"]
    assert set(grids) == {"untrained", "2DMSE", "SRL" if experiment is starbucks else "last layer"}
    assert all(len(grid) == len(saved["text"]["cells"]) for grid in grids.values())
    assert set(saved["text"]["rates"].values()) <= {1e-2, 1e-3}
    assert all(set(dev) == {"0.01", "0.001"} for dev in saved["text"]["dev"].values())
    assert all(row["seeds"] == 1 for row in saved["text"]["claims"]) and not saved["criteria"]
    assert next(tmp_path.glob(f"{name}_own*.png")).stat().st_size > 5_000
    (folder,) = tmp_path.glob("encoder-*")
    before, after = (encoders.pretrained.load(f).encode_texts(["w5 w6 w7"]) for f in (model, folder))
    assert str(folder) in capsys.readouterr().out and (before * after).sum() < 1 - 1e-6


# Runs and flags


@pytest.mark.experiment
def test_digits_by_layer_are_scored_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(matryoshka, "FEW", (2, 4))
    monkeypatch.setattr(matryoshka, "DIGITS", {"width": 4, "batch": 64, "rate": 1e-2})
    monkeypatch.setattr(matryoshka, "ESE", 2)
    monkeypatch.setattr(matryoshka, "recipes", small_recipes)
    matryoshka.main(matryoshka.Config(parts=("layers",), quick=True, results=tmp_path))
    saved = json.loads(next(tmp_path.glob("matryoshka_layers_quick*.json")).read_text())
    assert set(saved["layers"]["grids"]) == {"last layer", "2DMSE"} and len(saved["layers"]["claims"]) == 2
    assert all(0 <= x <= 1 for grid in saved["layers"]["grids"].values() for x in grid)
    assert next(tmp_path.glob("matryoshka_layers_quick*.png")).stat().st_size > 5_000


def small_recipes(layers, sizes):
    return {
        "last layer": nested.one_pair(layers, max(sizes)),
        "2DMSE": nested.sampled(layers, sizes),
    }


def test_bad_flags_are_refused_by_name(tmp_path):
    here = tmp_path / "x"
    for experiment, flags, message in (
        (matryoshka, {"seeds": 0}, "--seeds 0: choose 1 to 100"),
        (matryoshka, {"rates": ()}, "--rates: is empty"),
        (matryoshka, {"rates": (-1.0,)}, "--rates -1.0: choose 1e-09 to 10"),
        (matryoshka, {"rates": (math.nan,)}, "--rates nan: choose"),
        (matryoshka, {"parts": ()}, "--parts: is empty"),
        (matryoshka, {"pairs": here, "sts": here}, "--sts: has no meaning beside --pairs"),
        (starbucks, {"pairs": here, "paper": True}, "--paper: has no meaning beside --pairs"),
        (starbucks, {"layers": (0, 1, 2, 3)}, "--layers 0"),
        (starbucks, {"layers": (1, 2)}, "sizes: 4 for 2 layers"),
        (starbucks, {"glosses": 10}, "--glosses 10: choose 1,000"),
    ):
        with pytest.raises(ValueError, match=message):
            experiment.Config(**flags)
    model, pairs = write_model(tmp_path / "toy"), write_pairs(tmp_path / "pairs.tsv", graded=False)
    for experiment, flags, message in (
        (matryoshka, {"sizes": (4, 1000)}, "--sizes 1000: the encoder has width"),
        (starbucks, {"layers": (1, 50), "sizes": (4, 8)}, "--layers 50: the encoder has"),
        (starbucks, {"layers": (1, 2), "sizes": (4, 1000)}, "--sizes 1000: the encoder has"),
        (matryoshka, {"rates": (1e9,), "steps": 3, "sizes": (4,)}, "--rates 1000000000.0: "),
    ):
        with pytest.raises(ValueError, match=message):
            experiment.main(experiment.Config(model=model, pairs=pairs, results=tmp_path, **flags))


def test_a_rate_at_which_training_diverges_is_not_chosen(tmp_path, capsys):
    encoder = encoders.pretrained.load(write_model(tmp_path / "toy"))
    parts = nested_texts.read_pairs(pairs=write_pairs(tmp_path / "pairs.tsv", graded=True))
    batch = {n: nested_texts.arrays(encoder, pairs, 7) for n, pairs in parts.items()}
    recipe, targets = nested.one_pair(1, encoder.width), [(1, encoder.width)]
    options = {"seeds": 1, "steps": 2, "size": 8}
    with pytest.raises(ValueError, match="--rates inf: training diverges; choose smaller"):
        nested_texts.choose(encoder, recipe, batch, (math.inf,), targets, **options)
    _, best, dev = nested_texts.choose(encoder, recipe, batch, (math.inf, 1e-3), targets, **options)
    assert best == 1e-3 and not dev and "at rate inf training diverges" in capsys.readouterr().out


def test_equal_texts_are_no_negatives_of_one_another():
    keys = text_models.keys(["a", "b", "a", "d"], ["w", "x", "y", "x"], ["z", "x", "w", "q"])
    first, hard = np.split(
        np.asarray(losses.duplicate_mask(*text_models.sides(keys), blocks=("qd",))), 2, axis=1
    )
    assert np.argwhere(~first).tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]
    assert np.argwhere(~hard).tolist() == [[0, 2], [1, 1], [3, 1]]
    blocks = np.asarray(losses.duplicate_mask(*text_models.sides(keys[:, :2]), blocks=("qd", "qq", "dd")))
    np.testing.assert_array_equal(blocks, np.tile(first, (1, 3)))


def test_repeated_texts_of_a_batch_do_not_count(tmp_path):
    encoder = encoders.pretrained.load(write_model(tmp_path / "toy"))
    pairs = {"first": ["w5 w6", "w7 w8"], "second": ["w9 w10", "w9 w10"]}
    tx, step = nested_texts.make_update(encoder, nested.one_pair(2, encoder.width), 1e-3, 4)

    def loss(pairs):
        batch = nested_texts.arrays(encoder, pairs, 7)
        state = train.TrainState(jnp.int32(0), encoder.params, tx(encoder.params))
        return float(step(state, batch, jax.random.key(0))[1]["loss"])

    assert loss(pairs) == 0 and loss(pairs | {"second": ["w9 w10", "w9 w11"]}) > 0
    assert loss(pairs | {"negatives": ["w9 w10", "w9 w10"]}) == 0


@pytest.mark.parametrize("experiment", [matryoshka, starbucks, false_negatives, definitions])
def test_own_pairs_go_with_quick(experiment, tmp_path):
    cfg = experiment.Config(pairs=tmp_path / "x.tsv", quick=True)
    assert report.preset(cfg, quick=experiment.QUICK).seeds == 1
    assert report.named("x", cfg) == "x_own_x_quick"


def test_presets_leave_groups_of_flags_alone():
    cfg = starbucks.Config(paper=True, layers=(1, 2, 4, 12))
    assert report.preset(cfg, [("layers", "sizes")], paper=starbucks.PAPER).sizes == starbucks.Config().sizes


def test_flags_keep_their_values_beside_presets():
    config = matryoshka.Config(paper=True, steps=100)
    chosen = report.preset(config, quick=matryoshka.QUICK, paper=matryoshka.PAPER)
    assert (chosen.steps, chosen.batch_size, chosen.parts) == (100, 128, ("text",))
    with pytest.raises(ValueError, match="--quick --paper: choose one"):
        report.preset(matryoshka.Config(paper=True, quick=True), quick={}, paper={})
    assert report.named("matryoshka", config) == "matryoshka_paper_steps-100"
    assert report.named("x", matryoshka.Config(parts=("text",), model=pathlib.Path("a/b"))) == "x_b_text"
    assert report.named("x", matryoshka.Config(parts=("text",), sts=pathlib.Path("a"))) == "x_text_sts"
    with pytest.raises(ValueError, match="--sts: only the text part reads it"):
        starbucks.Config(sts=pathlib.Path("a"))


def test_save_draws_several_panels(tmp_path):
    def draw(axes):
        assert axes.shape == (1, 2)
        plots.heat_map(axes[0, 0], "t", np.eye(2), (1, 2), (4, 8), 0, 1)

    written = report.save("x", {"a": 1}, draw, tmp_path, (1, 2))
    assert written[1].stat().st_size > 3_000
    assert losses.full_grid((1,), (4,)) == ((1, 4),)
