"""Functions of Python packages as weighted bags of words: what an encoder reads and an index holds."""

import dataclasses
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import inputs, report, retrieval
from jaxembed import data, search
from jaxembed.arrays import unit

FIELDS = {
    "name": (2.0, 16),
    "signature": (1.0, 32),
    "docstring": (1.0, 160),
    "code": (0.7, 160),
}  # weight, words
DEPENDS = {"token_width": "sizes", "tokens": "length"}  # a setting: the one that limits it
DEPENDS |= {"token_batch": "batch_size", "batch_size": "token_batch"}


@dataclasses.dataclass(frozen=True)
class Text:
    """Records as bags of words, weighed by field, place and hashed document frequency."""

    fields: list
    counts: np.ndarray

    def query(self, sentence):
        return dict.fromkeys(data.words(sentence, limit=64), 1.0)

    def pair(self, i, number, sentence):
        """Returns (query, document) as bags: the sentence and the function when ``number`` is None.

        Otherwise a pair cut from the record's text, without its first sentence: a span of the docstring finds
        the rest of the function, or name and signature find docstring and code.
        """
        fields = self.fields[i]
        if number is None:
            return self.query(sentence), bag_of(fields)
        span, rest = data.inverse_cloze(fields["docstring"], seed=(i, number))
        if span and (i + number) % 3:
            return dict.fromkeys(span, 1.0), bag_of(fields | {"docstring": rest})
        parts = [{n: fields[n] for n in names} for names in (("name", "signature"), ("docstring", "code"))]
        return bag_of(parts[0]), bag_of(parts[1])

    def pack(self, bags, length):
        """Lays bags out for one process: positions point into the words of these bags alone."""
        if jax.process_count() > 1:
            raise ValueError(
                f"{jax.process_count()} processes found; run this experiment in one, with all devices"
            )

        def scale(words):
            return data.idf(self.counts, len(self.fields), data.hashed(words)) - 0.9

        words, positions, weights = data.pack(bags, length=length, scale=scale)
        rows = -(-max(len(words), 6 * len(bags)) // 2048) * 2048  # few shapes, so few compilations
        ids, masks = data.subword_ids(words, limit=8, rows=rows)
        return {"words": {"ids": ids, "masks": masks}, "positions": positions, "weights": weights}


def bag_of(fields):
    return data.bag([(words, FIELDS[name][0]) for name, words in fields.items()], power=0.5, decay=0.02)


def check(cfg):
    """Refuses flags of the quickstart that have no meaning together."""
    report.exclude(cfg, "corpus", ("holdout",))
    if cfg.alone and cfg.corpus is None and cfg.query is None:
        raise ValueError("--alone: has no meaning without --corpus; name a folder")


def read(cfg):
    """Records of the quickstart: the functions of its corpus, and of the installed packages unless alone."""
    inputs.installed("bm25s")
    report.stage("reads functions")
    folders = [cfg.corpus] if cfg.corpus else []
    try:
        packages = () if cfg.alone else None
        records = data.docstrings(packages, folders=folders, holdout=[cfg.held], progress=True)
    except ValueError as error:
        raise ValueError(f"--corpus {cfg.corpus}: {error}" if cfg.corpus else f"--{error}") from error
    report.stage(f"trains {cfg.steps} steps on {len(records):,} functions")
    return records


def read_text(records):
    fields = [{n: data.words(r[n], limit=limit) for n, (_, limit) in FIELDS.items()} for r in records]
    return Text(fields, data.document_frequency(map(bag_of, fields))[0])


def make_batches(text, records, size, length, seed):
    """Half of each batch: first sentences of training records; half: pairs cut from any record's text.

    A corpus without training records gives text pairs alone.
    """
    cut = [(i, number) for number in range(2) for i in range(len(records))]
    asked = [(i, None) for i, r in enumerate(records) if r["split"] == "train"] or cut
    order = np.random.default_rng(seed).permutation(len(asked))
    pairs = [(asked[order[n % len(asked)]], c) for n, c in enumerate(cut)]

    def make(chosen):
        chosen = [first for first, _ in chosen] + [second for _, second in chosen]
        left, right = map(list, zip(*(text.pair(i, n, records[i]["query"]) for i, n in chosen), strict=True))
        batch, count = text.pack(left + right, length), len(chosen)
        keys = [records[i]["query" if n is None else "id"] for i, n in chosen]
        halves = {"left": slice(None, count), "right": slice(count, None)}
        split = {side: {n: batch[n][s] for n in ("positions", "weights")} for side, s in halves.items()}
        return split | {"words": batch["words"], "keys": data.hashed(keys).astype(np.int32)}

    return data.batches(pairs, size // 2, make=make, seed=seed)


def held_out(held):
    """Two kinds of test queries: of a held-out package, and of held-out files of the other packages."""
    return {
        held: lambda r: r["split"] == "test" and r["package"] == held,
        "files": lambda r: r["split"] == "test" and r["package"] != held,
    }


def sample(records, size, seed):
    """Chooses all functions of the validation split and, up to a size, others: numbers in rising order."""
    others = np.random.default_rng(seed).permutation(len(records))
    first = [i for i, r in enumerate(records) if r["split"] == "validation"]
    return sorted(dict.fromkeys([*first, *map(int, others)][: max(size, len(first))]))


def validation(text, records, encode, length, seed):
    """Returns evaluate(state) for ``train.fit``: first sentences of validation files among 4,096 functions.

    No training pair holds these sentences, and no test query is one of them.
    """
    some = sample(records, 4096, seed)
    kinds = {"validation": lambda r: r["split"] == "validation"}
    chosen, judgments = retrieval.first_sentences([records[i] for i in some], kinds, 500, seed)
    pages = [bag_of(text.fields[i]) for i in some]

    def evaluate(state):
        found = [encode(state.params, pages[i : i + 512], length)[0] for i in range(0, len(pages), 512)]
        asked = encode(state.params, [text.query(q) for q in chosen], 64)[0]
        find = retrieval.cosine(np.asarray(asked), np.concatenate(found), asked.shape[1])
        row = retrieval.measure("pooled", find, len(chosen), judgments, size=0)
        return {n.split("@")[0].lower(): v for n, v in row.items() if n.endswith("validation")}

    return evaluate if judgments else None


def save_index(workdir, run, records, text, vectors, model):
    """Saves what a query needs: unit vectors, places of the functions, word counts, settings of the model."""
    places = [{k: r[k] for k in ("id", "file", "line", "query")} for r in records]
    np.save(workdir / run / "counts.npy", text.counts)
    meta = {"model": model, "documents": len(records), "run": run}
    vectors = np.asarray(unit(jnp.asarray(vectors, jnp.float32)))
    search.save_index(workdir / "index", vectors, np.arange(len(records)), places, meta)


def load_index(workdir):
    """Opens what :func:`save_index` wrote: (index, folder of the run, text for queries)."""
    if not (workdir / "index" / "index.json").exists():
        raise ValueError(f"--workdir {workdir}: holds no index; run the quickstart without --query first")
    index = search.load_index(workdir / "index")
    run = workdir / index.meta["run"]
    return index, run, Text(range(index.meta["documents"]), np.load(run / "counts.npy"))


def show(index, vector, count=10):
    """Prints the functions of a saved index whose vectors are nearest to a vector [1, D]."""
    scores, ids = search.top_k(unit(jnp.asarray(vector)), index.vectors, min(count, len(index.ids)))
    for score, i in zip(scores[0], ids[0], strict=True):
        found = index.metadata[int(i)]
        print(f"{score:.3f}  {found['id']}  {found['file']}:{found['line']}\n       {found['query']}")


def describe(config, records):
    """What a run depends on, as JSON: names its folder, and a checkpoint of another run is refused."""
    ignored = ("query", "workdir", "results", "profile", "test_queries", "model_devices")
    config = {k: str(v) for k, v in config.items() if k not in ignored}
    corpus = json.dumps([sorted(r.items()) for r in records]).encode()
    return {"config": config, "corpus": hashlib.sha256(corpus).hexdigest()[:16]}


def name_of(meta):
    """Names a run by all that it depends on."""
    return hashlib.sha256(json.dumps(meta).encode()).hexdigest()[:12]
