"""Vectors of words with what one does with them: neighbours, analogies, vectors of unseen words, files."""

import dataclasses
import functools
import pathlib

import numpy as np

from jaxembed import data, files, search
from jaxembed.recipes import _label_steps
from jaxembed.recipes._texts import infer_texts
from jaxembed.recipes.click_models import read_model, read_params, write_params

FORMAT = 1
REDUCED = 100_000  # rows whose directions fastText's reducer keeps
KEYS = ("words", "sizes", "buckets", "kept", "labels", "settings")
REMEDY = "save the words again"


@dataclasses.dataclass(frozen=True)
class Words:
    """Words and their vectors; :func:`~jaxembed.recipes.train_words` and :func:`load_words` make them.

    With rows of n-grams, as fastText has them, every word has a vector. Others are unknown.

    Args:
        words: V distinct str.
        vectors: float32 [V, D].
        counts: optional int64 [V].
        rows: optional float32 [V + buckets, D], rows of words and n-grams whose means the vectors are.
        output: optional float32 [V, D], what the words were predicted by; of a classifier [L, D], the rows of
            its labels, or [L - 1, D] of the nodes of a tree.
        documents: optional float32 [N, D], vectors of the texts that a model of paragraphs was trained on.
        sizes: (shortest, longest) n-gram.
        buckets: number of rows for n-grams.
        kept: optional {bucket: row behind the words}, where a quantised model keeps some of them.
        labels: optional list of L str, of a classifier.
        settings: dict of how they were trained.
    """

    words: list
    vectors: np.ndarray
    counts: np.ndarray | None = None
    rows: np.ndarray | None = None
    output: np.ndarray | None = None
    documents: np.ndarray | None = None
    sizes: tuple = (0, 0)
    buckets: int = 0
    kept: dict | None = None
    labels: list | None = None
    settings: dict = dataclasses.field(default_factory=dict)

    def __len__(self):
        return len(self.words)

    def __contains__(self, word):
        return word in self._index

    @functools.cached_property
    def _index(self):
        return {word: i for i, word in enumerate(self.words)}

    @functools.cached_property
    def _unit(self):
        norms = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return (self.vectors / np.maximum(norms, 1e-12)).astype(np.float32)

    def vector(self, word):
        """The vector of a word, of an unseen one the mean of the rows of its n-grams.

        Args:
            word: str.

        Returns:
            float32 [D].

        Raises:
            KeyError: for a word that is not known, where there are no n-grams or it has none.
        """
        if word in self._index:
            return self.vectors[self._index[word]]
        rows = self._ngram_rows(word)
        if not len(rows):
            raise KeyError(f"word: {word!r} is none of {len(self.words)} words; train with ngrams=(3, 6)")
        return self.rows[rows].mean(axis=0)

    def _ngram_rows(self, word):
        if self.rows is None or not self.buckets:
            return []
        ids, mask = data.fasttext_ids([word], 0, sizes=self.sizes, buckets=self.buckets)
        found = ids[mask].tolist()
        if self.kept is not None:
            found = [self.kept[i] for i in found if i in self.kept]
        return [len(self.words) + i for i in found]

    def similarity(self, one, two):
        """The cosine of two words.

        Args:
            one, two: str.

        Returns:
            float.
        """
        a, b = self.vector(one), self.vector(two)
        return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))

    def nearest(self, query, k=10):
        """The words whose vectors have the largest cosine with that of a word.

        Args:
            query: str, which is not among the answers; or a vector [D].
            k: how many.

        Returns:
            list of (word, cosine), the largest first; shorter than ``k`` for few words.

        Raises:
            KeyError: for a word without a vector.
        """
        word = isinstance(query, str)
        return self._answers(self.vector(query) if word else np.asarray(query), k, [query] if word else [])

    def analogy(self, a, b, c, k=10):
        """What is to c as b is to a: the words nearest to ``b - a + c``, of unit vectors (3CosAdd).

        Args:
            a, b, c: str, which are not among the answers: "man", "king", "woman".
            k: how many.

        Returns:
            list of (word, cosine).

        Raises:
            KeyError: for a word without a vector.

        References:
            T. Mikolov et al., NAACL 2013; the rule as O. Levy and Y. Goldberg, CoNLL 2014, write it.
        """
        one, two, three = (v / max(np.linalg.norm(v), 1e-12) for v in map(self.vector, (a, b, c)))
        return self._answers(two - one + three, k, [a, b, c])

    def infer(self, texts, *, tokenize=None, steps=100, rate=0.1, seed=0):
        """Vectors of other texts, by a model of paragraphs: fits them alone, and nothing else moves.

        Evaluate these: vectors of the texts of the training were fitted together with the words.

        Args:
            texts: list of N str, or of lists of words.
            tokenize: as it was for the training.
            steps, rate: of Adam.
            seed: int of the noise words, which all texts share.

        Returns:
            float32 [N, D]; zeros for a text without a known word.

        Raises:
            ValueError: for another model than those of ``train_words(kind="pv_dbow")`` or "pv_dm".
        """
        given = {"tokenize": tokenize, "steps": steps, "rate": rate, "seed": seed}
        return infer_texts(self, texts, **given)

    def classify(self, texts, k=1, *, tokenize=None):
        """The likeliest labels of texts, by a model of ``train_words(kind="supervised")`` or fastText's own.

        Args:
            texts: list of N str, or of lists of words.
            k: how many labels of each text, at least 1.
            tokenize: as it was for the training; None splits a model of a file at white space, as fastText.

        Returns:
            N lists of (label, probability), the likeliest first; an empty list for a text without a row.

        Raises:
            ValueError: for words without labels, a ``k`` below 1, or a file of fastText whose loss is neither
                softmax nor one against all.

        References:
            A. Joulin et al., arXiv:1607.01759.
        """
        return _label_steps.classify(self, texts, k, tokenize)

    def text_vectors(self, texts, *, tokenize=None):
        """fastText's vectors of texts: the mean of the unit vectors of their words.

        Words without a vector, or with one of zeros, are left out. A classifier gives what it tells labels
        from: the mean of all rows of a text, with those of n-grams of words.

        Args:
            texts, tokenize: as in :meth:`classify`.

        Returns:
            float32 [N, D]; zeros for a text without a known word.
        """
        return _label_steps.text_vectors(self, texts, tokenize)

    def reduced(self, width):
        """The words with fewer coordinates, by fastText's own reducer, which keeps the directions of rows.

        ``rows @ U`` with U the strongest directions of the first 100,000 rows around their mean. The rows
        themselves are not centred; output rows go the same way.

        Args:
            width: of the result, at most D.

        Returns:
            :class:`Words` of that width.

        Raises:
            ValueError: for a width outside 1..D.

        References:
            ``reduce_model`` of fastText's official code, whose directions are in no order; here the strongest
            are kept.
        """
        rows = self.vectors if self.rows is None else self.rows
        if not 1 <= width <= rows.shape[1]:
            raise ValueError(f"width={width}: give 1 to {rows.shape[1]}, the width of the words")
        some = rows[:REDUCED].astype(np.float64)
        some -= some.mean(axis=0)
        basis = np.linalg.eigh(some.T @ some)[1][:, ::-1][:, :width]
        named = {name: getattr(self, name) for name in ("rows", "vectors", "output", "documents")}
        found = {name: None if x is None else (x @ basis).astype(np.float32) for name, x in named.items()}
        settings = self.settings | ({"width": width} if "width" in self.settings else {})
        return dataclasses.replace(self, **found, settings=settings)

    def _answers(self, vector, k, hidden):
        vector = vector / max(np.linalg.norm(vector), 1e-12)
        most = min(len(self.words), k + len(hidden))
        scores, ids = search.top_k(vector[None].astype(np.float32), self._unit, most)
        pairs = zip(np.asarray(ids)[0].tolist(), np.asarray(scores)[0].tolist(), strict=True)
        return [(self.words[i], s) for i, s in pairs if self.words[i] not in hidden][:k]

    def save(self, folder):
        """Writes everything into a folder, for :func:`load_words`. A model in it is replaced in one step.

        ``data.write_word_vectors`` and ``data.write_fasttext`` write files for other programs.

        Args:
            folder: path, made if it is missing.
        """
        folder = files.local_path(folder, "folder")
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {n: getattr(self, n) for n in ("vectors", "counts", "rows", "output", "documents")}
        kept = None if self.kept is None else sorted(self.kept.items())
        saved = {"format": FORMAT, "words": self.words, "sizes": list(self.sizes), "buckets": self.buckets}
        saved |= {"kept": kept, "settings": self.settings}
        saved |= {} if self.labels is None else {"labels": self.labels}
        write_params(folder, {n: x for n, x in arrays.items() if x is not None}, "words.json", saved)


def load_words(path, **options):
    """Words: opens what ``Words.save`` wrote, a model of fastText, or a file of word vectors.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Words(["cat", "dog", "car"], np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)).save(folder)
    ...     print(load_words(folder).nearest("cat", 1))
    [('dog', 0.800000011920929)]

    Args:
        path: a folder; or a file, of which the first bytes tell whether it is fastText's.
        **options: of ``data.read_word_vectors`` for other files.

    Returns:
        :class:`Words`.

    Raises:
        FileNotFoundError: when nothing is there.
        ValueError: for damaged files.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return _saved(path)
    if not options and path.suffix in (".bin", ".ftz"):
        with files.reading(path, REMEDY), open(path, "rb") as file:
            first = file.read(4)
        if path.suffix == ".ftz" or first == data.word_files.FASTTEXT.to_bytes(4, "little"):
            return _fasttext(data.read_fasttext(path))
    found = data.read_word_vectors(path, **options)
    return Words(found["words"], found["vectors"])


def _saved(folder):
    path = folder / "words.json"
    saved = read_model(path, FORMAT, KEYS)
    kinds = {"words": list, "sizes": list, "buckets": int, "settings": dict, "params": str}
    found = {name: files.field(saved, name, kind, str(path), REMEDY) for name, kind in kinds.items()}
    arrays = read_params(folder / files.inside(found.pop("params"), str(path)))
    arrays.pop("exact", None)
    kept, found["labels"] = saved.get("kept"), saved.get("labels")
    with files.reading(path, REMEDY):
        found["kept"] = None if kept is None else {int(a): int(b) for a, b in kept}
        found["sizes"] = tuple(map(int, found["sizes"]))
        wrong = _wrong(arrays, **found)
    if wrong:
        raise ValueError(f"{path}: {wrong}; {REMEDY}")
    return Words(**found, **arrays)


LONGEST = 1024  # letters of an n-gram
AXES = {"vectors": 2, "counts": 1, "rows": 2, "output": 2, "documents": 2}


def _wrong(arrays, *, words, sizes, buckets, kept, labels, settings):
    """What of a saved model does not fit together, or None."""
    for name, x in arrays.items():
        kind = "iu" if name == "counts" else "f"
        if not isinstance(x, np.ndarray) or x.ndim != AXES.get(name) or x.dtype.kind not in kind:
            return f"{name} is not an array of such a model"
    if "vectors" not in arrays or len(arrays["vectors"]) != len(words):
        return f"{len(words)} words without as many vectors"
    if len({x.shape[1] for x in arrays.values() if x.ndim == 2}) > 1:
        return "vectors of several widths"
    if not all(isinstance(word, str) for word in words) or len(arrays.get("counts", words)) != len(words):
        return "words that are not texts, or without as many counts"
    if labels is not None and not _told(arrays, labels, settings.get("label_counts")):
        return "labels that are not texts, or without as many rows and counts"
    most = buckets if kept is None else max(kept.values(), default=-1) + 1
    none = not buckets or (labels is not None and tuple(sizes) == (0, 0))  # or n-grams of words alone
    whole = len(sizes) == 2 and (none or 1 <= sizes[0] <= sizes[1] <= LONGEST)
    if not whole or buckets < 0 or min((kept or {0: 0}).values()) < 0:
        return "sizes or buckets of no n-grams"
    if "rows" in arrays and len(arrays["rows"]) < len(words) + most:
        return f"{len(arrays['rows'])} rows for {len(words)} words and {most} buckets"
    return None


def _told(arrays, labels, counts):
    """Whether labels are texts with counts that the output rows of a classifier tell."""
    rows = len(arrays["output"]) if "output" in arrays else -1
    lists = [(labels, str), (counts, int)]
    whole = all(isinstance(x, list) and all(isinstance(y, kind) for y in x) for x, kind in lists)
    return whole and len(counts) == len(labels) and rows > 0 and rows in (len(labels), len(labels) - 1)


def _fasttext(found):
    names = ("words", "counts", "rows", "output", "sizes", "buckets", "kept", "settings")
    found["settings"]["label_counts"] = found["label_counts"].tolist()
    labels = found["labels"] if found["settings"]["model"] == "supervised" else []  # others count them alone
    given = {name: found[name] for name in names}
    model = Words(vectors=found["rows"][: len(found["words"])], labels=labels or None, **given)
    return dataclasses.replace(model, vectors=composed(model))


def composed(model):
    """The vectors of the words of a model with n-grams: means of their rows.

    Args:
        model: :class:`Words` with ``rows``.

    Returns:
        float32 [V, D].
    """
    count = len(model.words)
    if not model.buckets:
        return np.asarray(model.rows[:count])
    return _label_steps.text_means(model, [[word] for word in model.words])[0]
