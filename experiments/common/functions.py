"""Functions of Python packages as weighted bags of words: what an encoder reads and an index holds."""

import dataclasses
import hashlib
import json

import numpy as np

from jaxembed import data

FIELDS = {
    "name": (2.0, 16),
    "signature": (1.0, 32),
    "docstring": (1.0, 160),
    "code": (0.7, 160),
}  # weight, words


@dataclasses.dataclass(frozen=True)
class Text:
    """Records as bags of words, weighed by field, place and hashed document frequency."""

    fields: list
    counts: np.ndarray

    def query(self, sentence):
        return dict.fromkeys(data.words(sentence, limit=64), 1.0)

    def pair(self, kind, i, number, sentence):
        """Returns (query, document) as bags.

        A text pair never holds the first sentence: a span of the docstring finds the rest of the function, or
        name and signature find docstring and code.
        """
        fields = self.fields[i]
        if kind == "query":
            return self.query(sentence), bag_of(fields)
        span, rest = data.inverse_cloze(fields["docstring"], seed=(i, number))
        if span and (i + number) % 3:
            return dict.fromkeys(span, 1.0), bag_of(fields | {"docstring": rest})
        parts = [{n: fields[n] for n in names} for names in (("name", "signature"), ("docstring", "code"))]
        return bag_of(parts[0]), bag_of(parts[1])

    def pack(self, bags, length):
        def scale(words):
            return data.idf(self.counts, len(self.fields), data.hashed(words)) - 0.9

        words, positions, weights = data.pack(bags, length=length, scale=scale)
        rows = -(-max(len(words), 6 * len(bags)) // 2048) * 2048  # few shapes, so few compilations
        ids, masks = data.features(words, limit=8, rows=rows)
        return {"words": {"ids": ids, "masks": masks}, "positions": positions, "weights": weights}


def bag_of(fields):
    return data.bag([(words, FIELDS[name][0]) for name, words in fields.items()], power=0.5, decay=0.02)


def read_text(records):
    fields = [{n: data.words(r[n], limit=limit) for n, (_, limit) in FIELDS.items()} for r in records]
    return Text(fields, data.document_frequency(map(bag_of, fields))[0])


def make_batches(text, records, size, length, seed):
    """First sentences of training records (about a third) and two pairs cut from each record's text."""
    pairs = [("query", i, 0) for i, r in enumerate(records) if r["split"] == "train"]
    pairs += [("text", i, n) for n in range(2) for i in range(len(records))]

    def make(chosen):
        sides = zip(*(text.pair(*p, records[p[1]]["query"]) for p in chosen), strict=True)
        left, right = map(list, sides)
        batch, count = text.pack(left + right, length), len(chosen)
        keys = [records[i]["query" if kind == "query" else "id"] for kind, i, _ in chosen]
        halves = {"left": slice(None, count), "right": slice(count, None)}
        split = {side: {n: batch[n][s] for n in ("positions", "weights")} for side, s in halves.items()}
        return split | {"words": batch["words"], "keys": data.hashed(keys).astype(np.int32)}

    return data.batches(pairs, size, make=make, seed=seed)


def describe(config, records):
    """What a run depends on, as JSON: names its folder, and a checkpoint of another run is refused."""
    ignored = ("query", "workdir", "results", "profile", "test_queries", "model_devices")
    config = {k: str(v) for k, v in config.items() if k not in ignored}
    corpus = json.dumps([sorted(r.items()) for r in records]).encode()
    return {"config": config, "corpus": hashlib.sha256(corpus).hexdigest()[:16]}
