"""Functions of Python packages as weighted bags of words: read, packed into batches, held out."""

import dataclasses
import hashlib
import json

import jax
import numpy as np

from experiments.quickstart import searches
from experiments.shared import flags, inputs
from jaxembed import data

FIELDS = {"name": (2.0, 16), "signature": (1.0, 32)}  # weight, words
FIELDS |= {"docstring": (1.0, 160), "code": (0.7, 160)}
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
        """(query, document) as bags: the sentence and the function, or with a number parts of it."""
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
            raise ValueError(f"{jax.process_count()} processes found; run in one, with all devices")

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
    flags.exclude(cfg, "corpus", ("holdout",))
    flags.exclude(cfg, "encoder", ("profile",))
    if cfg.alone and cfg.corpus is None and cfg.query is None:
        raise ValueError("--alone: has no meaning without --corpus; name a folder")


def read(cfg):
    """The functions of a run: (records, their :class:`Text`, what the run depends on, its folder)."""
    inputs.installed("bm25s")
    flags.stage("reads functions")
    folders = [cfg.corpus] if cfg.corpus else []
    try:
        packages = () if cfg.alone else None
        records = data.docstrings(packages, folders=folders, holdout=[cfg.held], progress=True)
    except ValueError as error:
        raise ValueError(f"--corpus {cfg.corpus}: {error}" if cfg.corpus else f"--{error}") from error
    flags.stage(f"trains {cfg.steps} steps on {len(records):,} functions")
    meta = describe(dataclasses.asdict(cfg), records)
    digest = hashlib.sha256(json.dumps(meta).encode()).hexdigest()[:12]
    return records, read_text(records), meta, cfg.workdir / digest


def read_text(records):
    fields = [{n: data.words(r[n], limit=limit) for n, (_, limit) in FIELDS.items()} for r in records]
    return Text(fields, data.document_frequency(map(bag_of, fields))[0])


def make_batches(text, records, size, length, seed):
    """Half of each batch: first sentences of training records, if any; half: pairs cut from any text."""
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
    test = {held: lambda r: r["package"] == held, "files": lambda r: r["package"] != held}
    return {name: lambda r, of=of: r["split"] == "test" and of(r) for name, of in test.items()}


def validation(text, records, encode, length, seed):
    """evaluate(state) for ``train.fit``: untrained sentences of validation files, among 4,096 functions."""
    others = np.random.default_rng(seed).permutation(len(records))
    first = [i for i, r in enumerate(records) if r["split"] == "validation"]
    some = sorted(dict.fromkeys([*first, *map(int, others)][: max(4096, len(first))]))
    kinds = {"validation": lambda r: r["split"] == "validation"}
    chosen, judgments = data.first_sentences([records[i] for i in some], kinds, 500, seed=seed)
    pages = [bag_of(text.fields[i]) for i in some]

    def evaluate(state):
        found = [encode(state.params, pages[i : i + 512], length)[0] for i in range(0, len(pages), 512)]
        asked = encode(state.params, [text.query(q) for q in chosen], 64)[0]
        find = searches.cosine(np.asarray(asked), np.concatenate(found), asked.shape[1])
        row = searches.measure("pooled", find, len(chosen), judgments, size=0)
        return {n.split("@")[0].lower(): v for n, v in row.items() if n.endswith("validation")}

    return evaluate if judgments else None


def describe(config, records):
    """What a run depends on, as JSON: names its folder, and a checkpoint of another run is refused."""
    ignored = ("query", "workdir", "results", "profile", "test_queries", "model_devices")
    config = {k: str(v) for k, v in config.items() if k not in ignored}
    corpus = json.dumps([sorted(r.items()) for r in records]).encode()
    return {"config": config, "corpus": hashlib.sha256(corpus).hexdigest()[:16]}
