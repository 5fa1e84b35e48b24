"""The quickstart from a published text encoder, which reads functions as plain text."""

import functools

import numpy as np

from experiments.quickstart import answers, function_words, searches
from experiments.shared import flags, results, text_models
from jaxembed import data, encoders, recipes

SETTINGS = {"steps": 30, "batch_size": 64, "learning_rate": 2e-5, "length": 64}  # without flags


def page(record):
    return " ".join(record[n] for n in ("name", "signature", "docstring", "code"))


def pair(record, i, number):
    """(asked, found): a training record's first sentence, or a span of a docstring, and the rest."""
    if record["split"] == "train" and number == 0:
        return record["query"], page(record)
    span, rest = data.inverse_cloze(record["docstring"].split(), seed=(i, number))
    if span:
        return " ".join(span), page(record | {"docstring": " ".join(rest)})
    return f"{record['name']} {record['signature']}", f"{record['docstring']} {record['code']}"


def run(cfg, defaults):
    """Trains, indexes and compares as the quickstart does; ``defaults`` has the settings without flags."""
    unset = {n: v for n, v in SETTINGS.items() if getattr(cfg, n) == getattr(defaults, n)}
    cfg = flags.changed(cfg, **unset | {"token_batch": 0})
    start = text_models.load(cfg.encoder, "encoder", max_length=cfg.length)
    records, text, _, folder = function_words.read(cfg)
    sizes = (*(s for s in cfg.sizes if s < start.width), start.width)
    options = {name: getattr(cfg, name) for name in ("steps", "batch_size", "length", "temperature", "seed")}
    options |= {"rate": cfg.learning_rate, "warmup": 0, "workdir": folder}
    pairs = [pair(record, i, number) for i, record in enumerate(records) for number in range(2)]
    trained = recipes.fine_tune(start, pairs, sizes=sizes, **options)
    if not (folder / "encoder").exists():
        trained.save(folder / "encoder")
    rows, pages = compare(cfg, folder, records, text, {"as published": start, "trained": trained}, sizes)
    answers.save_index(cfg.workdir, folder.name, records, text, pages, {"length": cfg.length})
    closing = answers.answers(cfg, lambda question: trained.encode_texts([question]))
    return results.Result({"searches": rows}, {"functions": len(records)}, cfg, closing)


def compare(cfg, folder, records, text, encoders_of, sizes):
    """A row for every way to search, and the vectors of all functions by the last encoder."""
    kinds = function_words.held_out(cfg.held)
    chosen, judgments = data.first_sentences(records, kinds, cfg.test_queries, seed=cfg.seed)
    measure = functools.partial(searches.measure, count=len(chosen), judgments=judgments)
    words = [data.words(q, limit=64) for q in chosen], [sum(f.values(), []) for f in text.fields]
    plain, size = searches.bm25(*words)
    rows = [measure("BM25", plain, size=size)]
    for arm, encoder in encoders_of.items():
        flags.stage(f"embeds {len(records):,} functions with the encoder {arm}")
        path = folder / f"{arm.replace(' ', '-')}.npy"
        pages = recipes.embed_texts(encoder, map(page, records), path=path, dtype=np.float16)
        asked = encoder.encode_texts(chosen, batch_size=64)
        finds = {n: searches.cosine(asked, pages, n) for n in sizes}
        rows += [measure(f"{arm}, prefix {n}", find, size=2 * n) for n, find in finds.items()]
    fused, width = searches.fused(plain, finds[sizes[-1]]), sizes[-1]
    return [*rows, measure("trained, fused with BM25", fused, size=2 * width + size)], pages


def vector(run, model, query):
    """The vector of a question by the encoder of a saved run, [1, D], or None where a run has none."""
    if not (run / "encoder").exists():
        return None
    return encoders.pretrained.load(run / "encoder", max_length=model["length"]).encode_texts([query])
