"""Words trained from texts: every model learns a planted language; steps are the formulas; files."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import data, files, losses, metrics, recipes, tables, train
from jaxembed.recipes import _word_settings as usual
from jaxembed.recipes import _word_steps as steps
from jaxembed.recipes import word_training as recipe

TOPICS = (
    ["cat", "dog", "cow", "pig", "hen"],
    ["oak", "elm", "ash", "fir", "yew"],
    ["red", "blue", "gold", "pink", "grey"],
)


def planted(texts=600, seed=0):
    """Texts of one topic each, with words that all topics share."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(texts):
        own = TOPICS[rng.integers(3)]
        rows.append(
            [rng.choice(own) if rng.random() < 0.7 else rng.choice(["the", "a", "of"]) for _ in range(12)]
        )
    return rows


def purity(words):
    """The share of words whose nearest one is of their topic."""
    hits = [words.nearest(w, 20) for topic in TOPICS for w in topic]
    firsts = [next(n for n, _ in found if any(n in t for t in TOPICS)) for found in hits]
    asked = [(w, topic) for topic in TOPICS for w in topic]
    return np.mean([n in topic for n, (_, topic) in zip(firsts, asked, strict=True)])


FAST = {"width": 12, "window": 3, "sample": 0, "progress": False}
MODELS = {
    "skip_gram": {"epochs": 20},
    "cbow": {"epochs": 20},
    "order": {"epochs": 10},
    "lbl": {"epochs": 10},
    "nnlm": {"epochs": 20, "rate": 0.2},
    "cw": {"epochs": 60, "rate": 0.2},
    "glove": {"epochs": 40},
    "ppmi": {"negatives": 1, "width": 4},
    "pv_dbow": {"epochs": 30},
    "pv_dm": {"epochs": 30},
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_puts_words_of_a_topic_together(kind):
    found = recipes.train_words(planted(), kind=kind, **FAST | MODELS[kind])
    assert purity(found) >= 0.9
    assert found.counts.sum() == 600 * 12 and np.isfinite(found.vectors).all()


OTHERS = {"objective": "hierarchical"}, {"kind": "cw", "objective": "hinge"}
OTHERS += tuple({"kind": kind, "ngrams": (2, 4), "buckets": 400} for kind in usual.WINDOWED)


@pytest.mark.parametrize("options", OTHERS)
def test_other_objectives_learn_too(options):
    assert purity(recipes.train_words(planted(), **FAST | {"epochs": 20} | options)) >= 0.9


def small(kind, ngrams=None):
    """A corpus, settings and one step of a stretch."""
    corpus = data.corpus(planted(20), min_count=1)
    settings = {"kind": kind, "width": 5, "window": 2, "negatives": 3, "sample": 0, "power": 0.75, "seed": 0}
    return corpus, settings | {
        "sharing": (16, 2, 16),
        "ngrams": ngrams,
        "buckets": 40,
        "epochs": 1,
        "rate": 0.1,
    }


def random_like(params):
    return jax.tree.map(lambda x: np.asarray(jax.random.normal(jax.random.key(1), x.shape)), params)


@pytest.mark.parametrize("kind, ngrams", [(k, n) for k in usual.WINDOWED for n in (None, (2, 3))])
def test_a_stretch_is_the_loop_of_its_formula(kind, ngrams, monkeypatch):
    monkeypatch.setattr(recipe, "STRETCH", 120)
    corpus, settings = small(kind, ngrams)
    init, (_, step), batches = recipe._windows(corpus, settings)
    params = jax.tree.map(
        lambda x: np.asarray(jax.random.normal(jax.random.key(1), x.shape)), init(jax.random.key(0))
    )
    batch, group, window = batches[1], 16, 2
    found, metrics = jax.jit(step)(train.TrainState(jnp.int32(0), params, ()), batch, None)
    assert metrics["nonfinite"] == -1
    E, V = (params[n]["embedding"].astype(np.float64) for n in ("input", "output"))
    rows = [[w] for w in range(len(corpus["words"]))]
    if ngrams:
        flat, starts = recipe.word_pieces(corpus["words"], settings)
        rows = [flat[a:b] for a, b in zip(starts, starts[1:], strict=False)]
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    words, lines = batch["words"], batch["lines"]
    for u in range(batch["steps"]):
        dE, dV = np.zeros_like(E), np.zeros_like(V)
        rate = batch["rates"][0] + (batch["rates"][1] - batch["rates"][0]) * u / batch["steps"]
        for g in range(2):
            noise = batch["noise"][2 * u + g]
            for i in range(u * 32 + g * 16, u * 32 + g * 16 + group):
                near = [
                    j for j in range(i, i + 2 * window + 1)
                    if j != i + window and abs(j - i - window) <= batch["radius"][i]
                    and lines[j] == lines[i + window] >= 0
                ]  # fmt: skip
                c = words[i + window]
                if kind == "cbow":
                    if not near:
                        continue
                    x = np.mean([E[row] for j in near for row in rows[words[j]]], axis=0)
                    pairs = [(c, 1.0, 1.0)] + [(n, 0.0, 3 / 16) for n in noise if n != c]
                else:
                    x = E[rows[c]].mean(axis=0)
                    pairs = [(words[j], 1.0, 1.0) for j in near]
                    pairs += [(n, 0.0, 3 / 16) for j in near for n in noise if n != words[j]]
                dx = np.zeros(5)
                for target, label, weight in pairs:
                    score = x @ V[target]
                    slope = weight * (sigmoid(score) - label) * (abs(score) < steps.LIMIT)
                    dx += slope * V[target]
                    dV[target] += slope * x
                for row in [r for j in near for r in rows[words[j]]] if kind == "cbow" else rows[c]:
                    dE[row] += dx
        E, V = E - rate * dE, V - rate * dV
    np.testing.assert_allclose(found.params["input"]["embedding"], E, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(found.params["output"]["embedding"], V, rtol=2e-4, atol=2e-5)


def test_a_step_of_a_stretch_is_a_row_update_with_sgd(monkeypatch):
    import optax

    monkeypatch.setattr(recipe, "STRETCH", 24)
    corpus, settings = small("skip_gram")
    init, (_, step), batches = recipe._windows(corpus, settings)
    params = jax.tree.map(lambda x: x / 3, random_like(init(jax.random.key(0))))  # scores within the limit
    batch = batches[0]
    assert batch["steps"] == 1
    batch["rates"] = np.float32([0.1, 0.1])
    found, _ = jax.jit(step)(train.TrainState(jnp.int32(0), params, ()), batch, None)
    heights = dict.fromkeys(("input/embedding", "output/embedding"), len(corpus["words"]))
    lists = steps.listed({"input/embedding": {"c": batch["words"]}}, None, heights)
    more = steps.listed({"output/embedding": {"o": batch["words"], "n": batch["noise"]}}, None, heights)
    other = (
        lists
        | more
        | {"rows": lists["rows"] | more["rows"]}
        | {n: batch[n] for n in ("words", "lines", "radius")}
    )
    other["noise"] = batch["noise"]

    def loss_fn(params, b, key):
        total = 0.0
        for g in range(2):
            at, cut = slice(g * 16, g * 16 + 16), slice(g * 16, g * 16 + 20)
            pairs = losses.window_pairs(b["lines"][cut], b["radius"][at], 2)
            weights = losses.noise_weights(b["words"][cut], b["noise"][g], pairs, 3)
            E, V = (params[n]["embedding"] for n in ("input", "output"))
            total += losses.window_loss(
                E[b["c"][cut][2:-2]], V[b["o"][cut]], V[b["n"][g]], pairs, weights
            ).sum()
        return total, {}

    start, update = tables.row_update(loss_fn, optax.sgd(0.1), dict.fromkeys(other["rows"], optax.sgd(0.1)))
    wanted, _ = jax.jit(update)(
        train.TrainState(jnp.int32(0), params, start(params)), other, jax.random.key(0)
    )
    for one, two in zip(jax.tree.leaves(found.params), jax.tree.leaves(wanted.params), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["skip_gram", "nnlm", "glove"])
def test_tables_split_in_rows_give_the_same_words(kind):
    options = FAST | {"kind": kind, "epochs": 2}
    one, two = (recipes.train_words(planted(60), mesh=m, **options) for m in (None, train.make_mesh(1, 8)))
    np.testing.assert_allclose(one.vectors, two.vectors, rtol=1e-3, atol=1e-5)


def test_a_stopped_run_resumes_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "STRETCH", 256)
    whole = recipes.train_words(planted(60), epochs=4, **FAST)
    corpus, fit = data.corpus(planted(60), min_count=5), train.fit

    def stopped(**options):
        return fit(**options | {"steps": options["steps"] // 2})

    monkeypatch.setattr(train, "fit", stopped)
    recipes.train_words(corpus, epochs=4, workdir=tmp_path, **FAST)
    monkeypatch.setattr(train, "fit", fit)
    resumed = recipes.train_words(corpus, epochs=4, workdir=tmp_path, **FAST)
    np.testing.assert_array_equal(resumed.vectors, whole.vectors)


@pytest.mark.parametrize("kind", usual.WINDOWED)
def test_without_ngrams_fasttext_is_the_model_itself(kind):
    plain = recipes.train_words(planted(60), kind=kind, epochs=2, **FAST)
    same = recipes.train_words(planted(60), kind=kind, epochs=2, ngrams=(0, 0), buckets=0, **FAST)
    np.testing.assert_allclose(plain.vectors, same.vectors, rtol=1e-4, atol=1e-6)


def test_unseen_words_are_the_means_of_their_ngrams():
    found = recipes.train_words(planted(60), epochs=2, ngrams=(2, 4), buckets=50, **FAST)
    ids, mask = data.fasttext_ids(["catty", "cat"], len(found), sizes=(2, 4), buckets=50)
    np.testing.assert_allclose(found.vector("catty"), found.rows[ids[0][mask[0]]].mean(0), rtol=1e-5)
    known = [found.words.index("cat"), *ids[1][mask[1]]]
    np.testing.assert_allclose(found.vector("cat"), found.rows[known].mean(0), rtol=1e-5)
    one = recipes.train_words(planted(60), epochs=1, ngrams=(2, 4), buckets=1, **FAST)
    np.testing.assert_allclose(one.vector("catty"), one.vector("zebra"), rtol=1e-5)  # one shared row


def topic_of(text):
    return next(i for i, topic in enumerate(TOPICS) if set(text) & set(topic))


@pytest.mark.parametrize("kind", usual.PARAGRAPHS)
def test_texts_have_vectors_and_so_do_unseen_ones(kind, tmp_path):
    texts = planted(200)
    found = recipes.train_words(texts, kind=kind, **FAST | MODELS[kind])
    assert found.documents.shape == (200, 12) and found.vectors.shape == (len(found), 12)
    asked = planted(40, seed=1)
    rows = found.infer([*asked, ["unknown"], []], steps=30)
    assert rows.shape == (42, 12) and not rows[40:].any()
    truth, told = [topic_of(t) for t in texts], [topic_of(t) for t in asked]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found.documents, rows[:40])]
    assert metrics.nearest_accuracy(unit[0], truth, unit[0], truth) > 0.9
    assert metrics.nearest_accuracy(unit[1], told, unit[1], told) > 0.9
    np.testing.assert_allclose(found.infer(asked[:3], steps=30), rows[:3], rtol=1e-3, atol=1e-4)
    found.save(tmp_path)
    np.testing.assert_array_equal(recipes.load_words(tmp_path).infer(asked[:3], steps=30), rows[:3])


def test_every_place_is_paired_with_its_own_text():
    corpus = data.corpus([["a", "b"], ["zz"], ["b", "a", "a"]] * 20, min_count=25)
    heights = {"input/embedding": 70, "output/embedding": 2}
    batches = steps.Contexts(corpus, "pv_dbow", 2, 3, 24, heights, documents=4, sample=0)
    seen = []
    for t in range(batches.epoch):
        batch = batches[t]
        texts = batch["rows"]["input/embedding"][batch["contexts"][:, 0]] - 4
        words = batch["rows"]["output/embedding"][batch["targets"][:, 0]]
        real = batch["mask"][:, 0]
        seen += zip(texts[real].tolist(), words[real].tolist(), strict=True)
    wanted = np.cumsum(np.asarray(corpus["ids"]) == -1)
    assert seen == [(int(n), int(w)) for n, w in zip(wanted, corpus["ids"], strict=True) if w >= 0]


def test_words_without_texts_infer_nothing():
    with pytest.raises(ValueError, match='train them with kind="pv_dbow"'):
        words_of().infer(["cat"])


def words_of():
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    return recipes.Words(["cat", "dog", "car", "été"], vectors, counts=np.array([4, 3, 2, 1]))


def test_neighbours_and_analogies_by_hand():
    words = words_of()
    assert [w for w, _ in words.nearest("cat")] == ["dog", "car", "été"]
    assert words.nearest(np.array([0.0, 5.0]), 1) == [("car", pytest.approx(1.0))]
    assert words.similarity("cat", "dog") == pytest.approx(0.8)
    assert words.analogy("dog", "cat", "car", 1)[0][0] == "été"
    assert "cat" in words and "zebra" not in words and len(words) == 4
    with pytest.raises(KeyError, match="'zebra' is none of 4 words; train with ngrams"):
        words.nearest("zebra")


@pytest.mark.peers
def test_neighbours_and_analogies_are_gensims():
    KeyedVectors = pytest.importorskip("gensim.models").KeyedVectors
    rng = np.random.default_rng(0)
    names, vectors = [f"w{i}" for i in range(50)], rng.normal(size=(50, 8)).astype(np.float32)
    theirs, ours = KeyedVectors(8), recipes.Words(names, vectors)
    theirs.add_vectors(names, vectors)
    for one, two in (
        (ours.nearest("w3", 5), theirs.most_similar("w3", topn=5)),
        (ours.analogy("w1", "w2", "w3", 5), theirs.most_similar(["w2", "w3"], ["w1"], topn=5)),
    ):
        assert [w for w, _ in one] == [w for w, _ in two]
        np.testing.assert_allclose([s for _, s in one], [s for _, s in two], rtol=1e-2)


def test_words_are_saved_and_loaded(tmp_path):
    trained = recipes.train_words(planted(60), epochs=1, ngrams=(2, 4), buckets=50, **FAST)
    for number, words in enumerate((words_of(), trained)):
        words.save(tmp_path / str(number))
        found = recipes.load_words(tmp_path / str(number))
        for field in dataclasses.fields(words):
            one, two = getattr(words, field.name), getattr(found, field.name)
            assert np.array_equal(one, two) if hasattr(one, "shape") else one == two, field.name
    np.testing.assert_allclose(found.vector("unseen"), trained.vector("unseen"))


def test_files_of_other_programs_become_words(tmp_path):
    words = words_of()
    data.write_word_vectors(tmp_path / "a.vec", words.words, words.vectors)
    data.write_word_vectors(tmp_path / "a.bin", words.words, words.vectors, format="word2vec_binary")
    for name in ("a.vec", "a.bin"):
        assert recipes.load_words(tmp_path / name).nearest("cat", 1)[0][0] == "dog"
    trained = recipes.train_words(planted(60), epochs=1, ngrams=(2, 4), buckets=50, **FAST)
    options = {"sizes": trained.sizes, "buckets": trained.buckets}
    data.write_fasttext(
        tmp_path / "f.bin", trained.words, trained.counts, trained.rows, trained.output, **options
    )
    found = recipes.load_words(tmp_path / "f.bin")
    for word in ("cat", "unseen"):
        np.testing.assert_allclose(found.vector(word), trained.vector(word), rtol=1e-5, atol=1e-7)


def test_damaged_folders_are_named(tmp_path):
    words_of().save(tmp_path)
    text = (tmp_path / "words.json").read_text(encoding="utf-8")
    (tmp_path / "words.json").write_text(text.replace("dog", "dig"), encoding="utf-8")
    with pytest.raises(ValueError, match="words.json: the checksum differs; "):
        recipes.load_words(tmp_path)
    with pytest.raises(FileNotFoundError, match="none"):
        recipes.load_words(tmp_path / "none.vec")


@pytest.mark.parametrize(
    "options, said",
    [
        ({"kind": "bow"}, "kind='bow': choose one of"),
        ({"kind": "nnlm", "ngrams": (3, 6)}, "ngrams=\\(3, 6\\): take kind='skip_gram' or 'cbow'"),
        (
            {"kind": "glove", "objective": "hierarchical"},
            "objective='hierarchical': kind='glove'",
        ),
        ({"objective": "softmax"}, "objective='softmax'"),
        ({"width": 0}, "width=0; give an int of at least 1"),
        ({"kind": "ppmi", "width": 50}, "width=50: is not below the 18 words"),
        ({"ngrams": (5, 3)}, "sizes=\\(5, 3\\)"),
        ({"ngrams": 3}, "ngrams=3: give \\(shortest, longest\\)"),
        ({"ngrams": (0.5, 3)}, "ngrams\\[0\\]=0.5; give an int"),
        ({"sharing": (16, 2)}, "sharing=\\(16, 2\\): give three numbers"),
        ({"window": 0}, "window=0; give an int of at least 1"),
        ({"epochs": 0}, "epochs=0; give an int of at least 1"),
        ({"buckets": -1}, "buckets=-1; give an int of at least 0"),
        ({"rate": float("nan")}, "rate=nan: give a number of at least 0"),
        ({"sample": -1.0}, "sample=-1.0: give a number of at least 0"),
    ],
)
def test_settings_outside_their_limits_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        recipes.train_words(planted(60), progress=False, **options)


@pytest.mark.parametrize(
    "texts, said",
    [
        ([], "texts: hold no word"),
        (["once upon a time"], "none of 4 words occurs 5 times, the commonest 1 times in 4 words"),
        ("one text", "'one text' is one text"),
    ],
)
def test_texts_without_enough_words_are_named(texts, said):
    with pytest.raises(ValueError, match=said):
        recipes.train_words(texts)


def test_a_judge_that_gives_nan_is_named():
    with pytest.raises(ValueError, match="evaluate: gave NaN; return a number"):
        recipes.train_words(planted(60), evaluate=lambda words: np.nan, **FAST)


@pytest.mark.parametrize("kept", [False, True])
def test_the_words_of_the_best_epoch_are_returned(kept, tmp_path):
    each, best = [], 2
    options = FAST | {"epochs": 4, "workdir": tmp_path if kept else None}

    def evaluate(words):
        each.append(words.vectors)
        return -abs(len(each) - best)

    found = recipes.train_words(planted(60), evaluate=evaluate, **options)
    assert len(each) == 4 and len({x.tobytes() for x in each}) == 4
    np.testing.assert_array_equal(found.vectors, each[best - 1])
    if kept:  # a run that is over gives them again
        again = recipes.train_words(planted(60), evaluate=evaluate, **options)
        np.testing.assert_array_equal(again.vectors, found.vectors)
    with pytest.raises(ValueError, match="evaluate: kind='ppmi' is counted once"):
        recipes.train_words(planted(60), kind="ppmi", width=2, evaluate=len)


def test_the_loop_of_steps_compiles_once():
    assert functools.partial(steps.window_update, "cbow", 16, 2, 3, 5)() is steps.window_update(
        "cbow", 16, 2, 3, 5
    )


def test_glove_takes_the_steps_of_its_program_cell_by_cell():
    """The loop of glove.c: the rate is within the sums, which a step uses before they grow."""
    rng, rate = np.random.default_rng(0), 0.05
    params = jax.tree.map(np.array, losses.init_glove(jax.random.key(0), 5, 3))
    sums = jax.tree.map(np.ones_like, params)
    cells = [(i, j, float(rng.integers(1, 300))) for i in range(5) for j in range(5) if i != j] * 3
    init, step = steps.glove_update(rate, 100.0, 0.75)
    start = jax.tree.map(jnp.asarray, params)
    state = train.TrainState(step=0, params=start, opt_state=init(start), extra=None)
    for i, j, count in cells:
        one, two = params["input"], params["output"]
        apart = one["embedding"][i] @ two["embedding"][j] + one["bias"][i] + two["bias"][j] - np.log(count)
        apart = apart * min(1, count / 100) ** 0.75
        slopes = [("input", i, two["embedding"][j]), ("output", j, one["embedding"][i])]
        slopes = [(s, row, np.clip(apart * x, -100, 100) * rate) for s, row, x in slopes]
        for side, row, d in slopes:
            for name, change in (("embedding", d), ("bias", rate * apart)):
                params[side][name][row] -= change / np.sqrt(sums[side][name][row])
                sums[side][name][row] += change**2
        batch = {"input": np.array([0], np.int32), "output": np.array([0], np.int32)}
        rows = {f"input/{n}": np.array([i, 6], np.int32) for n in ("embedding", "bias")}
        rows |= {f"output/{n}": np.array([j, 6], np.int32) for n in ("embedding", "bias")}
        state, _ = step(state, batch | {"counts": np.array([count], np.float32), "rows": rows}, None)
    for side in params:
        for name, wanted in params[side].items():
            np.testing.assert_allclose(state.params[side][name], wanted, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"words": [1, 2, 3, 4]},
        {"words": ["cat"]},
        {"kept": [1]},
        {"kept": "1"},
        {"kept": [[0, -5]]},
        {"sizes": [[]]},
        {"sizes": [1]},
        {"buckets": -1},
        {"buckets": 10**12, "sizes": [3, 6]},
        {"buckets": 1, "sizes": [-(10**12), 4]},
        {"buckets": 1, "sizes": [1, 10**12]},
        {"params": "../params.npz"},
    ],
)
def test_a_saved_model_that_does_not_fit_together_is_refused_in_one_line(change, tmp_path):
    words = words_of()
    dataclasses.replace(words, rows=np.tile(words.vectors, (2, 1))).save(tmp_path)
    saved = json.loads((tmp_path / "words.json").read_text(encoding="utf-8"))
    saved.pop("checksum")
    files.write_json(tmp_path / "words.json", saved | change, sealed=True)
    with pytest.raises(ValueError, match=r"words.json: .*; (save|do not use)") as told:
        recipes.load_words(tmp_path)
    assert "\n" not in str(told.value)
