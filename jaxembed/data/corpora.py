"""Running text → word numbers in a file, and batches of windows that are a pure function of the step."""

import collections
import os
import pathlib
import tempfile

import numpy as np

from jaxembed import files
from jaxembed.data.text import words as split_words

END = -1  # stands between two texts of a corpus
REMEDY = "save the file as UTF-8 with one text in each line"
FLUSH = 1 << 20  # words that wait in memory before they are written


def text_lines(source):
    """Lines of text: streams the lines of a file, of several, or of all .txt and .txt.gz files of a folder.

    >>> _ = pathlib.Path("plays.txt").write_text("to be\\nor not\\n")
    >>> list(text_lines("plays.txt"))
    ['to be', 'or not']

    Args:
        source: path, or a list of paths. Files are UTF-8; a name that ends in .gz is unpacked.

    Returns:
        Iterator of str.

    Raises:
        FileNotFoundError: for a missing file, or a folder without text files.
        ValueError: for bytes that are not UTF-8; file and line are named.
    """
    for path in [source] if isinstance(source, str | os.PathLike) else source:
        path = pathlib.Path(path)
        inside = [*path.rglob("*.txt"), *path.rglob("*.txt.gz")]
        found = sorted(inside) if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f"{path}: holds no .txt or .txt.gz file; give a folder of texts")
        for file in found:
            for _, line in files.lines(file, REMEDY, longest=1 << 30):
                yield line


def corpus(texts, *, min_count=5, words=None, tokenize=None, folder=None):
    """Corpus: reads texts once, and keeps them as word numbers in a file that is mapped into memory.

    Words that occur less than ``min_count`` times are dropped from the texts, so that their neighbours move
    together. The numbers fall with the count; equal counts stay in the order of their first appearance. The
    file has no name, and goes when the array does.

    >>> found = corpus(["a cat", "a dog", "a cat"], min_count=2)
    >>> print(found["words"], found["counts"], found["ids"])
    ['a', 'cat'] [3 2] [ 0  1 -1  0 -1  0  1 -1]

    Args:
        texts: iterable of str, or of lists of words, read once. For files give ``text_lines(path)``.
        min_count: least count of a word.
        words: optional list of words, in place of those that are found; all others are dropped.
        tokenize: function str to list of str, :func:`~jaxembed.data.words` when None. Texts that are lists
            already are taken as they are.
        folder: of the file; the system's temporary folder when None.

    Returns:
        {"words": V str, "counts": int64 [V], "ids": int32 [N] with -1 behind each text, "tokens": number of
        words before any was dropped, "rare": how many of them were dropped}.

    Raises:
        ValueError: for one text in place of several, texts without a word, or none that occurs often enough.
        TypeError: for a text that is neither str nor a list of words.
    """
    if isinstance(texts, str | bytes | os.PathLike):
        raise ValueError(
            f"texts: {str(texts)[:40]!r} is one text; put it into a list, or give text_lines(path)"
        )
    tokenize = split_words if tokenize is None else tokenize
    known = {} if words is None else {word: i for i, word in enumerate(words)}
    with tempfile.TemporaryFile(dir=folder) as first:
        counts = _numbered(texts, known, tokenize, first, grow=words is None)
        tokens = int(counts.sum())
        if not tokens:
            raise ValueError("texts: hold no word; check the files, or pass another tokenize")
        kept = _kept(known, counts, min_count if words is None else 0, tokens)
        order = kept[np.argsort(-counts[kept], kind="stable")] if words is None else kept
        ids = _renumbered(first, order, len(counts), folder)
    names = list(known)
    dropped = tokens - int(counts[order].sum())
    found = {"words": [names[i] for i in order], "counts": counts[order], "ids": ids}
    return found | {"tokens": tokens, "rare": dropped}


def _numbered(texts, known, tokenize, file, grow):
    """Writes the provisional number of every word; returns the counts. A word that is not known is V."""
    counts, waiting = collections.Counter(), []

    def flush():
        numbers = np.array(waiting, np.int32)
        counts.update(dict(enumerate(np.bincount(numbers[numbers != END]).tolist())))
        numbers.tofile(file)
        waiting.clear()

    unknown = None if grow else len(known)
    for text in texts:
        row = tokenize(text) if isinstance(text, str) else text
        if not isinstance(row, list | tuple):
            raise TypeError(f"texts: {type(text).__name__} is neither a text nor a list of words")
        if grow:
            waiting.extend([known.setdefault(word, len(known)) for word in row])
        else:
            waiting.extend([known.get(word, unknown) for word in row])
        waiting.append(END)
        if len(waiting) >= FLUSH:
            flush()
    flush()
    file.flush()
    size = len(known) + (not grow)
    return np.array([counts.get(i, 0) for i in range(size)], np.int64)


def _kept(known, counts, min_count, tokens):
    kept = np.flatnonzero(counts[: len(known)] >= min_count)
    if counts[kept].any():
        return kept
    if not min_count:
        raise ValueError(f"words: none of {len(known)} occurs in {tokens} words of text; give words of these")
    raise ValueError(
        f"texts: none of {len(known)} words occurs {min_count} times, the commonest {counts.max()} times in "
        f"{tokens} words; lower min_count"
    )


def _renumbered(first, order, size, folder):
    """A mapped file of the final numbers, without the words that are dropped."""
    numbers = np.full(size + 1, -2, np.int32)
    numbers[order], numbers[END] = np.arange(len(order)), END
    first.seek(0)
    with tempfile.TemporaryFile(dir=folder) as file:
        length = 0
        while len(part := np.fromfile(first, np.int32, FLUSH)):
            part = numbers[part]
            part = part[part != -2]
            part.tofile(file)
            length += len(part)
        file.flush()
        return np.memmap(file, np.int32, "r", shape=(length,))


def word_bags(texts, words, *, most=None):
    """Bags of words: the numbers of the known words of each text, and how often they come.

    What ``encoders.tfidf``, ``encoders.fit_lsa`` and ``encoders.lda`` read.

    >>> ids, counts = word_bags([["a", "b", "a"], ["c"]], ["a", "b"])
    >>> print(ids.tolist(), counts.tolist())
    [[0, 1], [0, 0]] [[2.0, 1.0], [0.0, 0.0]]

    Args:
        texts: N lists of words.
        words: V str, such as those of :func:`corpus`; others are left out.
        most: optional number of different words that a text keeps, its commonest ones, of equal ones the
            first of the table.

    Returns:
        ids int32 [N, U] and counts float32 [N, U], padded with 0; U is the most words of a text, at least 1.

    Raises:
        ValueError: for a text that is not a list of words.
    """
    rows, found = {word: i for i, word in enumerate(words)}, []
    for text in texts:
        if isinstance(text, str | bytes):
            raise ValueError(f"texts: {text[:40]!r} is not a list of words; split it")
        numbers, counts = np.unique([rows[w] for w in text if w in rows], return_counts=True)
        kept = np.argsort(-counts, kind="stable")[:most]
        found.append((numbers[kept], counts[kept]))
    size = max([1, *(len(numbers) for numbers, _ in found)])
    ids, amounts = np.zeros((len(found), size), np.int32), np.zeros((len(found), size), np.float32)
    for row, (numbers, counts) in enumerate(found):
        ids[row, : len(numbers)], amounts[row, : len(numbers)] = numbers, counts
    return ids, amounts


def keep_probabilities(counts, sample=1e-3):
    """Subsampling: the probability with which an occurrence of a word is read, low for frequent words.

    ``p = min(1, (sqrt(n / t) + 1) t / n)`` with ``t = sample * sum(counts)``: 1 up to 2.618 t occurrences.

    >>> print(keep_probabilities(np.array([9000, 900, 100]), 0.01).round(3))
    [0.117 0.444 1.   ]

    Args:
        counts: [V].
        sample: share of the text from which on a word is thinned out; 0 keeps everything.

    Returns:
        float64 [V].

    References:
        T. Mikolov et al., arXiv:1310.4546; the formula is that of its released code.
    """
    counts = np.asarray(counts, np.float64)
    if not sample:
        return np.ones(len(counts))
    share = sample * counts.sum() / np.maximum(counts, 1)
    return np.minimum(1, np.sqrt(share) + share)


def noise_probabilities(counts, power=0.75, *, kind="power"):
    """Noise distribution: with which probability each word is drawn as a negative.

    "power": ``counts**power``, normalised. "log_uniform": ``log((r + 2) / (r + 1)) / log(V + 1)`` of the word
    of rank r, which is Zipf's law; words stand in falling order of their counts.

    >>> print(noise_probabilities(np.array([16, 1])).round(3))
    [0.889 0.111]

    Args:
        counts: [V].
        power: 0.75 in word2vec, 0.5 in fastText; 1 draws words as often as they occur.
        kind: "power" or "log_uniform", the sampler of disambiguated skip-gram and of TensorFlow.

    Returns:
        float64 [V] that sums to 1. Its logarithm is the ``log_q`` of sampled softmax losses.

    Raises:
        ValueError: for another kind, or counts that rise where ranks are asked for.

    References:
        T. Mikolov et al., arXiv:1310.4546; P. Bojanowski et al., arXiv:1607.04606.
    """
    if kind not in ("power", "log_uniform"):
        raise ValueError(f'kind={kind!r}: pass "power" or "log_uniform"')
    if kind == "log_uniform":
        if np.any(np.diff(np.asarray(counts)) > 0):
            raise ValueError("counts: rise somewhere; sort the words by falling count, as data.corpus does")
        return np.diff(np.log(np.arange(1, len(counts) + 2))) / np.log(len(counts) + 1)
    raised = np.asarray(counts, np.float64) ** power
    return raised / raised.sum()


class WindowBatches:
    """Windows of a corpus: ``batches[t]`` is a stretch of text with its noise words, a function of (seed, t).

    An epoch has ``ceil(N / size)`` stretches of ``size`` numbers. Of each stretch the frequent words are
    thinned out first, so that windows reach further, and noise words are drawn: ``shared`` for each group of
    ``group`` places. A window does not reach across the ends of a stretch.

    >>> found = corpus(["a b c d"] * 50, min_count=1)
    >>> batches = WindowBatches(found, size=100, window=2, group=4, groups=2, sample=0)
    >>> batch = batches[0]
    >>> print(batches.epoch, batch["words"].shape, batch["noise"].shape, int(batch["steps"]))
    3 (108,) (26, 16) 10

    Args:
        corpus: of :func:`corpus`.
        size: numbers of a stretch.
        window: largest radius; each place draws its own, from 1.
        group: C, places that share noise words; at least 2 ``window``.
        groups: groups of one step.
        shared: N, noise words of a group.
        sample, power: of :func:`keep_probabilities` and :func:`noise_probabilities`.
        keep: optional [V] in place of :func:`keep_probabilities`.
        seed: int.

    Raises:
        ValueError: for a group below twice the window.
    """

    def __init__(
        self, corpus, *, size=1 << 16, window=5, group=16, groups=4, shared=16, sample=1e-3, power=0.75,
        keep=None, seed=0,
    ):  # fmt: skip
        if group < 2 * window:
            raise ValueError(f"group={group}: is below {2 * window}, twice the window; raise it")
        self.ids, self.size, self.window, self.seed = corpus["ids"], size, window, seed
        self.group, self.groups, self.shared = group, groups, shared
        keep = keep_probabilities(corpus["counts"], sample) if keep is None else keep
        self.keep = np.asarray(keep, np.float32)
        self.ends = np.cumsum(noise_probabilities(corpus["counts"], power))
        self.epoch = -(-len(self.ids) // size)

    def __getitem__(self, t):
        """{"words", "lines": int32 [M + 2 window], "radius": [M], "noise": [M / C, N], "steps", "read"}."""
        epoch, place = divmod(int(t), self.epoch)
        rng = np.random.default_rng((self.seed, epoch, place))
        part = np.asarray(self.ids[place * self.size : (place + 1) * self.size])
        lines, real = np.cumsum(part == END, dtype=np.int32), part != END
        part, lines = part[real], lines[real]
        kept = rng.random(len(part), np.float32) < self.keep[part]
        part, lines = part[kept], lines[kept]
        step = self.group * self.groups
        steps, most = -(-len(part) // step), -(-self.size // step) * step
        found = {"words": np.zeros(most + 2 * self.window, np.int32)}
        found["lines"] = np.full(most + 2 * self.window, -1, np.int32)
        inside = slice(self.window, self.window + len(part))
        found["words"][inside], found["lines"][inside] = part, lines
        found["radius"] = rng.integers(1, self.window, most, np.int32, endpoint=True)
        noise = np.zeros((most // self.group, self.shared), np.int32)
        drawn = rng.random((steps * self.groups, self.shared), np.float32)
        noise[: len(drawn)] = np.searchsorted(self.ends, drawn, side="right").clip(0, len(self.ends) - 1)
        return found | {"noise": noise, "steps": np.int32(steps), "read": np.int32(len(part))}
