"""FastText's classifier: steps against a loop, order of words, its own program both ways; texts' vectors."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import data, losses, recipes, train
from jaxembed.recipes import _label_steps as steps
from jaxembed.recipes import word_training as recipe

PETS, TREES = ["cat", "dog", "cow", "pig", "hen"], ["oak", "elm", "ash", "fir", "yew"]


def planted(count=60, seed=0):
    """Texts of pets and trees with common words, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(["tree"] * (count // 3) + ["pet"] * (count - count // 3))
    own = {"pet": PETS, "tree": TREES}
    texts = [[*rng.choice(own[name], 3), *rng.choice(["the", "a"], 2)] for name in labels]
    return [" ".join(rng.permutation(words)) for words in texts], labels.tolist()


def trained(**options):
    texts, labels = planted()
    options = {"kind": "supervised", "labels": labels, "width": 6, "buckets": 300, "rate": 0.5} | options
    return recipes.train_words(texts, progress=False, **options)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def settings(objective="softmax", **options):
    base = {"ngrams": None, "word_ngrams": 1, "buckets": 40, "width": 5, "epochs": 2, "rate": 0.5, "seed": 0}
    return base | {"objective": objective} | options


@pytest.mark.parametrize("objective", ["softmax", "hierarchical"])
@pytest.mark.parametrize("options", [{}, {"ngrams": (2, 3), "word_ngrams": 3}])
def test_training_is_the_loop_over_texts(objective, options, monkeypatch):
    monkeypatch.setattr(steps, "TEXTS", 7)
    asked = settings(objective, **options)
    texts, labels = planted(18)
    labels = [name if i % 3 else "other" for i, name in enumerate(labels)]
    corpus = steps.labelled_corpus(texts, labels, asked, min_count=1, tokenize=None)
    init, (_, step), batches = recipe._labelled(corpus, asked)
    start = jax.tree.map(lambda x: np.random.default_rng(1).normal(size=x.shape), init(jax.random.key(0)))
    start = jax.tree.map(np.float32, start)
    state = train.TrainState(jnp.int32(0), start, ())
    E, V = (start[n]["embedding"].astype(np.float64) for n in ("input", "output"))
    rows, offsets = corpus["rows"]
    codes, points, inside = losses.huffman(corpus["label_counts"])
    for t in range(4):
        state, metrics = jax.jit(step)(state, batches[t], None)
        order, total = np.random.default_rng((0, t // 3)).permutation(18)[t % 3 * 7 :][:7], 0.0
        for at, n in enumerate(order):
            own, label = rows[offsets[n] : offsets[n + 1]], corpus["labels"][n]
            rate = 0.5 * (1 - (t + at / len(order)) / 6)
            x = E[own].mean(axis=0)
            if objective == "softmax":
                p = np.exp(V @ x) / np.exp(V @ x).sum()
                total -= np.log(p[label])
                slopes = p - (np.arange(len(V)) == label)
            else:
                slopes, way = np.zeros(len(V)), inside[label]
                for bit, node in zip(codes[label][way], points[label][way], strict=True):
                    slopes[node] = sigmoid(V[node] @ x) - (1 - bit)
                    total -= np.log(sigmoid((1 - 2.0 * bit) * (V[node] @ x)))
            dx = slopes @ V
            V -= rate * slopes[:, None] * x
            np.subtract.at(E, own, rate * dx / len(own))
        np.testing.assert_allclose(metrics["loss"], total / len(order), rtol=1e-4)
    np.testing.assert_allclose(state.params["input"]["embedding"], E, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(state.params["output"]["embedding"], V, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("options", [{}, {"objective": "hierarchical"}, {"ngrams": (2, 4)}])
def test_labels_of_other_texts_are_told(options):
    found = trained(**options, epochs=20)
    texts, labels = planted(30, seed=1)
    told = found.classify(texts, k=2)
    assert [row[0][0] for row in told] == labels
    np.testing.assert_allclose([sum(p for _, p in row) for row in told], 1, rtol=1e-5)
    assert found.labels == ["pet", "tree"] and found.settings["label_counts"] == [40, 20]
    assert found.vectors.shape == (len(found), 6)
    assert found.classify([]) == []


def test_ngrams_of_words_tell_their_order():
    rng = np.random.default_rng(0)
    pairs = [rng.permutation(["hot", "cold"]).tolist() for _ in range(80)]
    labels = [a for a, _ in pairs]
    found = {}
    for longest in (1, 2):
        options = {"kind": "supervised", "labels": labels, "width": 8, "word_ngrams": longest, "buckets": 99}
        words = recipes.train_words(pairs, epochs=20, rate=0.5, progress=False, **options)
        found[longest] = np.mean(
            [row[0][0] == a for row, a in zip(words.classify(pairs), labels, strict=True)]
        )
    assert found[2] == 1.0 and found[1] < 0.7


def test_tables_split_in_rows_give_the_same_labels():
    one, two = (trained(epochs=1, word_ngrams=2, mesh=m) for m in (None, train.make_mesh(1, 8)))
    np.testing.assert_allclose(one.rows, two.rows, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(one.output, two.output, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"objective": "hierarchical", "word_ngrams": 2}])
def test_a_classifier_is_saved_and_loaded(options, tmp_path):
    found = trained(**options)
    found.save(tmp_path)
    texts = planted(6, seed=2)[0]
    assert recipes.load_words(tmp_path).classify(texts, 2) == found.classify(texts, 2)
    for labels in (["pet"] * 5, [1, 2], ["pet"], "ab"):
        dataclasses.replace(found, labels=labels).save(tmp_path)
        with pytest.raises(ValueError, match="labels that are not texts, or without as many rows and counts"):
            recipes.load_words(tmp_path)


def test_a_text_without_a_row_has_no_label():
    found = trained(epochs=1)
    words = [w for w in found.words if w != "</s>"]
    rows = [found.words.index(w) for w in words]
    bare = dataclasses.replace(found, words=words, vectors=found.vectors[rows], counts=None)
    assert bare.classify(["zebra", "cat"])[0] == [] and not bare.text_vectors(["zebra"]).any()


def written(path, words):
    """A classifier in fastText's format."""
    rows = words.vectors if words.rows is None else words.rows
    chosen = {
        "sizes": words.sizes,
        "buckets": words.buckets,
        "labels": [f"__label__{x}" for x in words.labels],
    }
    chosen["settings"] = {"word_ngrams": words.settings["word_ngrams"]}
    counts = words.settings["label_counts"]
    data.write_fasttext(path, words.words, words.counts, rows, words.output, label_counts=counts, **chosen)


UNSEEN = ["the cat and a zebra", "elm", "zebra zebra", "été oak"]


@pytest.mark.peers
@pytest.mark.parametrize("options", [{}, {"word_ngrams": 3}, {"ngrams": (2, 3), "word_ngrams": 2}])
def test_fasttext_itself_tells_the_labels_that_are_told_here(options, tmp_path):
    fasttext = pytest.importorskip("fasttext")
    words = trained(**options, epochs=20)
    written(tmp_path / "a.bin", words)
    theirs, again = fasttext.load_model(str(tmp_path / "a.bin")), recipes.load_words(tmp_path / "a.bin")
    given = {"tokenize": str.split}
    np.testing.assert_allclose(again.text_vectors(UNSEEN), words.text_vectors(UNSEEN, **given), atol=1e-6)
    for text, row, own in zip(
        UNSEEN, words.classify(UNSEEN, 2, **given), again.classify(UNSEEN, 2), strict=True
    ):
        asked = theirs.f.predict(text + "\n", 2, 0.0, "strict")
        assert [name for _, name in asked] == [name for name, _ in own] == [f"__label__{x}" for x, _ in row]
        np.testing.assert_allclose([p for _, p in row], [p for p, _ in asked], atol=1e-4)
    vectors = np.stack([theirs.get_sentence_vector(text) for text in UNSEEN])
    np.testing.assert_allclose(words.text_vectors(UNSEEN, **given), vectors, rtol=1e-4, atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("loss", ["softmax", "ova", "hs"])
def test_a_classifier_of_fasttext_tells_the_same_labels_here(loss, tmp_path):
    fasttext = pytest.importorskip("fasttext")
    texts, labels = planted()
    lines = [f"__label__{name} {text}\n" for text, name in zip(texts, labels, strict=True)]
    (tmp_path / "a.txt").write_text("".join(lines), encoding="utf-8")
    options = {
        "dim": 6,
        "epoch": 20,
        "lr": 0.5,
        "wordNgrams": 2,
        "minn": 2,
        "maxn": 3,
        "bucket": 500,
        "thread": 1,
    }
    theirs = fasttext.train_supervised(str(tmp_path / "a.txt"), loss=loss, verbose=0, **options)
    theirs.save_model(str(tmp_path / "a.bin"))
    found = recipes.load_words(tmp_path / "a.bin")
    if loss == "hs":
        with pytest.raises(ValueError, match="loss 'hierarchical' is not read"):
            found.classify(UNSEEN)
        return
    for text, row in zip(UNSEEN, found.classify(UNSEEN, 2), strict=True):
        asked = theirs.f.predict(text + "\n", 2, 0.0, "strict")
        assert [name for _, name in asked] == [name for name, _ in row]
        np.testing.assert_allclose([p for _, p in row], [p for p, _ in asked], atol=1e-2)  # it has a table
    vectors = np.stack([theirs.get_sentence_vector(text) for text in UNSEEN])
    np.testing.assert_allclose(found.text_vectors(UNSEEN), vectors, rtol=1e-4, atol=1e-6)


@pytest.mark.peers
def test_vectors_of_texts_are_those_of_fasttext(tmp_path):
    fasttext = pytest.importorskip("fasttext")
    texts = planted()[0]
    words = recipes.train_words(texts, width=6, ngrams=(2, 4), buckets=200, sample=0, progress=False)
    options = {"sizes": words.sizes, "buckets": words.buckets}
    data.write_fasttext(tmp_path / "a.bin", words.words, words.counts, words.rows, words.output, **options)
    theirs = fasttext.load_model(str(tmp_path / "a.bin"))
    vectors = np.stack([theirs.get_sentence_vector(text) for text in UNSEEN])
    found = words.text_vectors(UNSEEN, tokenize=str.split)
    np.testing.assert_allclose(found, vectors, rtol=1e-4, atol=1e-5)
    assert words.text_vectors([]).shape == (0, 6)


def test_a_text_vector_is_the_mean_of_unit_vectors_of_known_words():
    words = recipes.Words(["a", "b", "c"], np.array([[3, 0], [0, 0.5], [0, 0]], np.float32))
    found = words.text_vectors(["a b c d", "d", ["a", "a", "b"]])
    np.testing.assert_allclose(found, [[0.5, 0.5], [0, 0], [2 / 3, 1 / 3]], rtol=1e-6)


def test_reduced_words_keep_the_strongest_directions_of_rows():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(50, 6)) * [5, 4, 3, 1, 0.5, 0.1] + 2).astype(np.float32)
    words = recipes.Words(
        [f"w{i}" for i in range(50)], rows, output=rng.normal(size=(50, 6)).astype(np.float32)
    )
    whole = words.reduced(6)
    np.testing.assert_allclose(whole.vectors @ whole.output.T, rows @ words.output.T, rtol=1e-3, atol=1e-3)
    found = words.reduced(2)
    variances = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    np.testing.assert_allclose(found.vectors.var(axis=0, ddof=1), variances[:2], rtol=1e-4)
    assert np.abs(found.vectors.mean(axis=0)).max() > 1  # the rows are not centred
    assert found.vectors.dtype == np.float32 and found.output.shape == (50, 2)
    for width in (0, 7):
        with pytest.raises(ValueError, match=f"width={width}: give 1 to 6"):
            words.reduced(width)


def test_vectors_of_a_reduced_model_are_means_of_its_reduced_rows():
    words = recipes.train_words(planted()[0], width=6, ngrams=(2, 4), buckets=60, progress=False).reduced(3)
    rows = words._ngram_rows("catty")
    np.testing.assert_allclose(words.vector("catty"), words.rows[rows].mean(axis=0), rtol=1e-5)
    own = [words.words.index("cat"), *words._ngram_rows("cat")]
    np.testing.assert_allclose(words.vector("cat"), words.rows[own].mean(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.peers
def test_reduced_rows_are_those_of_fasttexts_reducer():
    util = pytest.importorskip("fasttext.util.util")
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(80, 4)) @ rng.normal(size=(4, 4)) + 1).astype(np.float32)
    words = recipes.Words([f"w{i}" for i in range(80)], rows)
    theirs = np.asarray(util._reduce_matrix(rows, 4, None)[0])  # in no order, so that all are asked for
    ours = words.reduced(4).vectors
    one, two = (np.sort(np.abs(x).sum(axis=0)) for x in (ours, theirs))
    np.testing.assert_allclose(one, two, rtol=1e-3)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"labels": None}, "labels: kind='supervised' takes one for each text"),
        ({"kind": "skip_gram"}, "labels: kind='skip_gram' takes none"),
        ({"kind": "cbow", "labels": None, "word_ngrams": 2}, "word_ngrams=2: take kind='supervised'"),
        ({"labels": ["a"]}, "labels: 1 for 60 texts"),
        ({"labels": ["a"] * 60}, "labels: 1 different ones"),
        ({"objective": "hinge"}, "objective='hinge': kind='supervised'"),
        ({"word_ngrams": 0}, "word_ngrams=0; give an int of at least 1"),
        ({"min_count": 1000}, "none of 13 words occurs 1000 times"),
    ],
)
def test_settings_that_do_not_fit_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        trained(**options)


def test_other_input_is_named():
    corpus = data.corpus(planted()[0])
    with pytest.raises(ValueError, match="texts: are numbers of words already"):
        recipes.train_words(corpus, kind="supervised", labels=["a", "b"])
    with pytest.raises(ValueError, match="texts: 'a cat' is one text"):
        trained(epochs=1).classify("a cat")
    with pytest.raises(ValueError, match="k=0; give an int of at least 1"):
        trained(epochs=1).classify(["a cat"], k=0)
    for given, said in (
        ({"labels": ["a", 1]}, r"labels\[1\]: '1' is not a str"),
        ({"texts": [b"a cat", "b"]}, "is neither a text nor a list of words"),
        ({"texts": [["a", 1], "b"]}, "is neither a text nor a list of words"),
    ):
        texts = {"texts": ["a", "b"], "labels": ["a", "b"]} | given
        with pytest.raises(TypeError, match=said):
            recipes.train_words(**texts, kind="supervised", progress=False)
    words = recipes.Words(["a"], np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match='words: hold no labels; train them with kind="supervised"'):
        words.classify(["a"])


@pytest.mark.peers
@pytest.mark.parametrize("name", ["quantised", "pruned"])
def test_quantised_classifiers_tell_the_same_labels_here(name):
    path = pathlib.Path(__file__).parents[1] / f"support/golden/fasttext_{name}.ftz"
    theirs, found = pytest.importorskip("fasttext").load_model(str(path)), recipes.load_words(path)
    texts = [" ".join(found.words[:3]), found.words[-1], "zebra", "dog apple dog"]
    for text, row in zip(texts, found.classify(texts, 2), strict=True):
        asked = theirs.f.predict(text + "\n", 2, 0.0, "strict")
        assert [label for _, label in asked] == [label for label, _ in row]
        np.testing.assert_allclose([p for _, p in row], [p for p, _ in asked], atol=1e-4)
    vectors = np.stack([theirs.get_sentence_vector(text) for text in texts])
    np.testing.assert_allclose(found.text_vectors(texts), vectors, rtol=1e-3, atol=1e-6)
