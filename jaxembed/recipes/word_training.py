"""Texts → vectors of words, by any of the classical models, or labels from them, in one call."""

import functools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from jaxembed import data, losses, train
from jaxembed.recipes import _label_steps as label_steps
from jaxembed.recipes import _word_steps as steps
from jaxembed.recipes._word_settings import CONTEXTS, PARAGRAPHS, SUPERVISED, settings_of
from jaxembed.recipes.word_models import Words, composed

LEAST = 1e-4  # learning rate at the end
SHARING = 16, 2, 16  # places that share noise words, such groups in a step, noise words of a group
PLACES = {"rules": [(r"embedding|bias", P("model", None))], "batch_rules": ((r"", P()),)}
STRETCH = 1 << 16
BATCH = 1024  # places of a step of the models of contexts


def train_words(
    texts,
    *,
    kind="skip_gram",
    labels=None,
    width=100,
    window=None,
    epochs=None,
    negatives=5,
    min_count=None,
    sample=1e-3,
    power=0.75,
    rate=None,
    ngrams=None,
    word_ngrams=1,
    buckets=200_000,
    objective=None,
    sharing=SHARING,
    tokenize=None,
    mesh=None,
    workdir=None,
    evaluate=None,
    seed=0,
    progress=True,
):
    """Word vectors: trains them on texts, by one of eight models; two more add vectors of texts, one labels.

    "skip_gram" and "cbow" run over stretches of text (:class:`~jaxembed.data.WindowBatches`), by SGD whose
    rate falls linearly. Noise words are shared by 16 places, weighted so that each place counts as many as
    its own draws would. "order", "lbl", "nnlm" and "cw" have noise words of their own and Adagrad, as in the
    comparison they come from. "glove" and "ppmi" work on counts of pairs; the sums of GloVe's Adagrad hold
    the rate, as in its program, and a batch sums the slopes of its cells. The paragraph vectors "pv_dbow"
    and "pv_dm" give each text a vector too, ``documents``, and ``infer`` gives one to other texts.
    "supervised" is fastText's classifier: the mean of the rows of a text tells its label, and ``classify``
    those of other texts. It runs SGD over one text after the other, in another order each epoch.

    >>> texts = ["the cat sat on the mat", "the dog sat on the rug"] * 200
    >>> words = train_words(texts, width=16, epochs=3, progress=False)
    >>> print(len(words), words.vector("cat").shape)
    7 (16,)

    Args:
        texts: iterable of str or of lists of words, read once. For files give ``data.text_lines(path)``. Or
            what :func:`~jaxembed.data.corpus` returns.
        kind: "skip_gram", "cbow", "order", "lbl", "nnlm", "cw", "glove", "ppmi", "pv_dbow" (the vector of a
            text predicts its words, whose own vectors are the output rows), "pv_dm" (the mean of it and
            the words around a place predicts the word there) or "supervised".
        labels: N str for "supervised", one for each text.
        width: D.
        window: words on each side; 5, for "glove" 15.
        epochs: times that the text, for "glove" the matrix of counts, is read; 5 and 25, for texts' vectors
            10.
        negatives: noise words of a pair, and log of the shift of "ppmi".
        min_count: least count of a word; 5, for "supervised" 1.
        sample: share of the text from which on a word is thinned out; not for counts.
        power: of the counts in the noise distribution, and of the column sums of "ppmi".
        rate: learning rate at the beginning; 0.025, for "cbow", "glove" and Adagrad 0.05, for "supervised"
            0.1, which falls to 0.
        ngrams: optional (shortest, longest): a word is the mean of its row and those of its n-grams, as in
            fastText, and unseen words have vectors. With "skip_gram", "cbow" and "supervised"; the latter two
            average all rows of all words, so that long words weigh more.
        word_ngrams: most words of an n-gram of words, for "supervised"; 1 for none.
        buckets: rows for n-grams. fastText has 2,000,000.
        objective: "negative_sampling", for "supervised" "softmax"; "hierarchical" for a Huffman tree with
            "skip_gram" and "supervised"; "hinge" with "cw", the ranking loss of its paper.
        sharing: (places that share noise words, such groups in a step, noise words of a group), of
            "skip_gram" and "cbow". Larger steps are faster and learn less from the same text. Fewer places
            than twice the window are not taken.
        tokenize: function str to list of str; ``data.words`` when None.
        mesh: from ``train.make_mesh``; one device when None. Axis "model" splits the rows of the tables.
        workdir: folder from which a stopped run resumes, or None.
        evaluate: optional function of :class:`Words`, asked after each epoch; the words of the epoch with the
            highest number are returned. Give it the validation set of the task that the words are for.
        seed: int of parameters, noise and windows.
        progress: show a bar when a person watches.

    Returns:
        :class:`~jaxembed.recipes.Words`.

    Raises:
        ValueError: for another kind or objective, settings outside their limits, or texts without a word
            that occurs ``min_count`` times.

    References:
        T. Mikolov et al., arXiv:1301.3781, 1310.4546; P. Bojanowski et al., arXiv:1607.04606; J. Pennington
        et al., doi:10.3115/v1/D14-1162; O. Levy et al., doi:10.1162/tacl_a_00134; S. Lai, arXiv:1611.05962;
        Q. Le and T. Mikolov, arXiv:1405.4053; A. Joulin et al., arXiv:1607.01759 (the classifier).
    """
    plain = {"kind": kind, "width": width, "negatives": negatives, "sample": sample, "power": power}
    plain |= {"buckets": buckets, "word_ngrams": word_ngrams, "seed": seed}
    usual = {"window": window, "rate": rate, "epochs": epochs, "objective": objective, "min_count": min_count}
    settings = settings_of(plain, usual, ngrams, sharing, labels)
    found = _read(texts, labels, settings, tokenize)
    if kind == "ppmi":
        return _factored(found, settings, evaluate)
    mesh = train.make_mesh(1) if mesh is None else mesh
    init, update, batches = _maker(kind, settings["objective"])(found, settings, mesh.shape["model"])
    run = functools.partial(
        train.fit,
        init=init,
        update=update,
        batches=batches,
        steps=settings["epochs"] * batches.epoch,
        key=seed,
        mesh=mesh,
        **PLACES,
        meta={"settings": settings, "words": len(found["words"]), "tokens": found["tokens"]},
        save_every=batches.epoch,
        progress=progress,
    )
    if evaluate is None:
        return _model(found, run(workdir=workdir).params, settings)
    return _best(run, evaluate, batches.epoch, workdir, found, settings)


def _best(run, evaluate, every, workdir, found, settings):
    """The words after the epoch that ``evaluate`` gives the highest number."""

    def judged(state):
        score = float(evaluate(_model(found, state.params, settings)))
        if score != score:
            raise ValueError("evaluate: gave NaN; return a number, the higher the better")
        return {"score": score}

    with tempfile.TemporaryDirectory() as spare:
        folder = spare if workdir is None else workdir
        run(workdir=folder, evaluate=judged, evaluate_every=every, best="score")
        return _model(found, train.restore_params(folder, best="score"), settings)


def _read(texts, labels, settings, tokenize):
    """The words of the texts as numbers; for a classifier with the rows and labels of the texts."""
    reads = {"min_count": settings["min_count"], "tokenize": tokenize}
    if settings["kind"] == SUPERVISED:
        return label_steps.labelled_corpus(texts, labels, settings, **reads)
    return texts if isinstance(texts, dict) else data.corpus(texts, **reads)


def _maker(kind, objective):
    """What makes ``(init, update, batches)`` of a kind: a function of the corpus, settings and parts."""
    make = {"glove": _glove, SUPERVISED: _labelled}
    make |= dict.fromkeys(CONTEXTS, _contexts) | dict.fromkeys(PARAGRAPHS, _paragraphs)
    return make.get(kind, _tree if objective == "hierarchical" else _windows)


def _height(rows, parts):
    """Rows of a table that a mesh splits evenly; those behind the last word are never read."""
    return -(-rows // parts) * parts


def _drawn(key, rows, width):
    return {"embedding": jax.random.uniform(key, (rows, width), minval=-1.0, maxval=1.0) / width}


def _windows(corpus, settings, parts=1):
    """Skip-gram and CBOW, with n-grams or without."""
    group, groups, shared = settings["sharing"]
    group = max(group, 2 * settings["window"])
    options = {n: settings[n] for n in ("window", "sample", "power", "seed")}
    windows = data.WindowBatches(corpus, size=STRETCH, group=group, groups=groups, shared=shared, **options)
    rows, pieces = len(corpus["words"]), None
    if settings["ngrams"]:
        rows, pieces = rows + settings["buckets"], word_pieces(corpus["words"], settings)
    given = windows, settings["epochs"], settings["rate"], LEAST, pieces
    batches = steps.Windows(*given, around=settings["kind"] == "cbow")

    def init(key):
        output = jnp.zeros((_height(len(corpus["words"]), parts), settings["width"]))
        inputs = _drawn(key, _height(rows, parts), settings["width"])
        return {"input": inputs, "output": {"embedding": output}}

    shape = group, groups, settings["window"], settings["negatives"], pieces is not None
    return init, steps.window_update(settings["kind"], *shape), batches


def word_pieces(words, settings):
    """The rows of every word one after the other, and where those of each word begin.

    Args:
        words: V str.
        settings: with "ngrams" and "buckets".

    Returns:
        (int32 [P], int64 [V + 1]).
    """
    lists, buckets = [[word] for word in words], settings["buckets"]
    return data.fasttext_text_ids(lists, words, sizes=settings["ngrams"], buckets=buckets)


def _adagrad(settings):
    return _rule(settings["rate"])


@functools.lru_cache(maxsize=32)
def _rule(rate):
    return optax.adagrad(rate, initial_accumulator_value=1e-8)


def _contexts(corpus, settings, parts=1):
    """Order, LBL, NNLM and C&W, with noise words for each place."""
    kind, window = settings["kind"], settings["window"]
    options = {n: settings[n] for n in ("sample", "power", "seed")}
    height = _height(len(corpus["words"]), parts)
    heights = {"input/embedding": height, "output/embedding": height}
    batches = steps.Contexts(corpus, kind, window, settings["negatives"], BATCH, heights, **options)
    init = functools.partial(
        losses.init_word_scores,
        kind=kind,
        vocabulary=height,
        width=settings["width"],
        window=window,
    )
    update = steps.context_update(kind, _adagrad(settings), settings["objective"] == "hinge")
    return init, update, batches


def _texts(corpus):
    """How many texts a corpus has."""
    return sum(np.count_nonzero(ids == data.corpora.END) for ids in steps.stretches(corpus["ids"], STRETCH))


def _paragraphs(corpus, settings, parts=1):
    """Paragraph vectors: the rows of the texts, for "pv_dm" behind those of the words, predict words."""
    kind, words = settings["kind"], _height(len(corpus["words"]), parts)
    first = words if kind == "pv_dm" else 0
    height = _height(first + _texts(corpus), parts)
    heights = {"input/embedding": height, "output/embedding": words}
    options = {n: settings[n] for n in ("sample", "power", "seed")} | {"documents": first}
    given = settings["window"], settings["negatives"], BATCH, heights
    batches = steps.Contexts(corpus, kind, *given, **options)

    def init(key):
        output = {"embedding": jnp.zeros((words, settings["width"]))}
        return {"input": _drawn(key, height, settings["width"]), "output": output}

    return init, steps.context_update(kind, _adagrad(settings)), batches


def _tree(corpus, settings, parts=1):
    """Skip-gram with hierarchical softmax; nodes behind the last one are never read."""
    count, width = _height(len(corpus["words"]), parts), settings["width"]
    tree = dict(
        zip(("codes", "points", "inside"), losses.huffman(np.maximum(corpus["counts"], 1)), strict=True)
    )
    group, groups, _ = settings["sharing"]
    group = max(group, 2 * settings["window"])
    options = {n: settings[n] for n in ("window", "sample", "seed")}
    windows = data.WindowBatches(corpus, size=STRETCH, group=group, groups=groups, shared=1, **options)
    batches = steps.Windows(windows, settings["epochs"], settings["rate"], LEAST, tree=tree)

    def init(key):
        return {"input": _drawn(key, count, width), "nodes": {"embedding": jnp.zeros((count, width))}}

    return init, steps.tree_update(group, groups, settings["window"]), batches


def _glove(corpus, settings, parts=1):
    cells = data.cooccurrence(corpus, window=settings["window"])
    count = _height(len(corpus["words"]), parts)
    batches = steps.Cells(*cells, count, 4 * BATCH, settings["seed"])
    init = functools.partial(losses.init_glove, vocabulary=count, width=settings["width"])
    return init, steps.glove_update(settings["rate"], 100.0, 0.75), batches


def _labelled(corpus, settings, parts=1):
    """fastText's classifier: softmax over labels, or a tree of them."""
    hierarchical, count = settings["objective"] == "hierarchical", len(corpus["names"])
    tree = label_steps.label_tree(corpus["label_counts"]) if hierarchical else None
    batches = label_steps.Labelled(corpus, settings["epochs"], settings["rate"], settings["seed"], tree)
    rows = _height(len(corpus["words"]) + _extra(settings), parts)

    def init(key):
        output = jnp.zeros((_height(count, parts), settings["width"]))
        return {"input": _drawn(key, rows, settings["width"]), "output": {"embedding": output}}

    return init, label_steps.label_update(count), batches


def _extra(settings):
    """Rows of n-grams behind those of the words."""
    return settings["buckets"] if settings["ngrams"] or settings["word_ngrams"] > 1 else 0


def _factored(corpus, settings, evaluate):
    """PPMI and its singular vectors, weighted by the root of the singular values."""
    if evaluate is not None:
        raise ValueError("evaluate: kind='ppmi' is counted once, without epochs; leave it out")
    from scipy import sparse
    from scipy.sparse import linalg

    count, width = len(corpus["words"]), settings["width"]
    cells = data.cooccurrence(corpus, window=settings["window"], weights="linear")
    rows, columns, values = data.positive_pmi(
        *cells, count, smoothing=settings["power"], shift=float(settings["negatives"])
    )
    if width >= count:
        raise ValueError(f"width={width}: is not below the {count} words; lower it")
    matrix = sparse.csr_matrix((values, (rows, columns)), (count, count))
    start = np.random.default_rng(settings["seed"]).normal(size=count)
    left, sizes, _ = linalg.svds(matrix, width, v0=start)
    order = np.argsort(-sizes)
    vectors = (left[:, order] * np.sqrt(sizes[order])).astype(np.float32)
    return Words(corpus["words"], vectors, counts=corpus["counts"], settings=settings)


def _model(corpus, params, settings):
    """The words with what was trained."""
    arrays, words = jax.tree.map(np.asarray, params), corpus["words"]
    if settings["kind"] in PARAGRAPHS:
        return _with_texts(corpus, arrays, settings)
    extra = _extra(settings)
    rows = arrays["input"]["embedding"][: len(words) + extra]
    if settings["kind"] == SUPERVISED:
        return _with_labels(corpus, rows, arrays["output"]["embedding"], settings)
    output = arrays["output"]["embedding"][: len(words)] if "output" in arrays else None
    options = {"counts": corpus["counts"], "settings": settings}
    if settings["kind"] == "glove":
        return Words(words, rows + output, **options)
    if output is not None and output.shape[1] == rows.shape[1]:
        options["output"] = output
    if not settings["ngrams"]:
        return Words(words, rows, **options)
    return _composed(words, rows, options)


def _composed(words, rows, options):
    """The words whose vectors are the means of their rows."""
    settings = options["settings"]
    sizes = tuple(settings["ngrams"] or (0, 0))
    options |= {"rows": rows, "sizes": sizes, "buckets": settings["buckets"]}
    return Words(words, composed(Words(words, rows[: len(words)], **options)), **options)


def _with_labels(corpus, rows, output, settings):
    """The words with the labels that they tell."""
    count = len(corpus["names"]) - (settings["objective"] == "hierarchical")
    settings = settings | {"label_counts": corpus["label_counts"]}
    options = {"counts": corpus["counts"], "settings": settings, "labels": corpus["names"]}
    options["output"] = output[:count]
    if not _extra(settings):
        return Words(corpus["words"], rows, **options)
    return _composed(corpus["words"], rows, options)


def _with_texts(corpus, arrays, settings):
    """The words with the vectors of the texts."""
    words, rows = corpus["words"], arrays["input"]["embedding"]
    output = arrays["output"]["embedding"]
    first = len(output) if settings["kind"] == "pv_dm" else 0
    own = rows[: len(words)] if first else output[: len(words)]
    options = {"counts": corpus["counts"], "settings": settings, "output": output[: len(words)]}
    return Words(words, own, documents=rows[first : first + _texts(corpus)], **options)
