"""The quickstart from a published text encoder, which reads functions as plain text."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import functions, report, retrieval, text_models
from jaxembed import data, encoders, losses, search, train

SETTINGS = {
    "steps": 30,
    "batch_size": 64,
    "learning_rate": 2e-5,
    "length": 64,
}  # where no flag says otherwise


def page(record):
    return " ".join(record[n] for n in ("name", "signature", "docstring", "code"))


def pair(record, i, number):
    """(asked, found, key): a training record's first sentence, or a span of a docstring, and the rest."""
    if record["split"] == "train" and number == 0:
        return record["query"], page(record), record["query"]
    span, rest = data.inverse_cloze(record["docstring"].split(), seed=(i, number))
    if span:
        return " ".join(span), page(record | {"docstring": " ".join(rest)}), record["id"]
    return f"{record['name']} {record['signature']}", f"{record['docstring']} {record['code']}", record["id"]


def make_batches(cfg, encoder, records):
    def make(rows):
        chosen = [pair(records[n // 2], n // 2, n % 2) for n in map(int, rows)]
        asked, found, keys = map(list, zip(*chosen, strict=True))
        both = text_models.tokens(encoder, [*asked, *found], cfg.length)
        return both | {"keys": np.tile(data.hashed(keys).astype(np.int32), 2)}

    return data.batches(np.arange(2 * len(records)), cfg.batch_size, make=make, seed=cfg.seed)


def make_loss(cfg, encoder, sizes):
    def loss_fn(params, batch, key):
        vectors = encoder.encode(params, {n: batch[n] for n in ("ids", "mask")})
        half = len(vectors) // 2
        keep = losses.duplicate_mask(batch["keys"][:half])
        loss = functools.partial(losses.info_nce, where=keep, temperature=cfg.temperature)
        return jnp.mean(losses.matryoshka(loss, sizes)(vectors[:half], vectors[half:])) / len(sizes), {}

    return loss_fn


def embed(encoder, records, path):
    """Unit vectors of all functions, float16 [N, D], in one resumable file."""

    def encode(pages):
        return encoder.encode_texts(list(pages), batch_size=64)

    pages = [page(r) for r in records]
    return search.embed(encode, pages, path=path, batch_size=512, dtype=np.float16, progress=True)


def run(cfg, defaults):
    """Trains, indexes and compares as the quickstart does; ``defaults`` has the settings without flags."""
    began, name = time.perf_counter(), report.named("quickstart", cfg)
    unset = {n: v for n, v in SETTINGS.items() if getattr(cfg, n) == getattr(defaults, n)}
    cfg = dataclasses.replace(cfg, **unset | {"token_batch": 0})
    start = text_models.load(cfg.encoder, "encoder", max_length=cfg.length)
    records = functions.read(cfg)
    text, meta = functions.read_text(records), functions.describe(dataclasses.asdict(cfg), records)
    folder = cfg.workdir / functions.name_of(meta)
    sizes = (*(s for s in cfg.sizes if s < start.width), start.width)
    state = train.fit(
        init=lambda key: jax.tree.map(jnp.copy, start.params),
        loss_fn=make_loss(cfg, start, sizes),
        tx=optax.adamw(optax.linear_schedule(cfg.learning_rate, 0, cfg.steps)),
        batches=make_batches(cfg, start, records),
        steps=cfg.steps,
        key=cfg.seed,
        mesh=train.make_mesh(),
        workdir=folder,
        meta=meta,
        profile=cfg.profile,
    )
    trained = dataclasses.replace(start, params=jax.device_get(state.params))
    if not (folder / "encoder").exists():
        trained.save(folder / "encoder")
    chosen, judgments = retrieval.first_sentences(
        records, functions.held_out(cfg.held), cfg.test_queries, cfg.seed
    )
    measure = functools.partial(retrieval.measure, count=len(chosen), judgments=judgments)
    words = [data.words(q, limit=64) for q in chosen], [sum(f.values(), []) for f in text.fields]
    plain, size = retrieval.bm25(*words)
    rows = [measure("BM25", plain, size=size)]
    for arm, encoder in (("as published", start), ("trained", trained)):
        report.stage(f"embeds {len(records):,} functions with the encoder {arm}")
        pages = embed(encoder, records, folder / f"{arm.replace(' ', '-')}.npy")
        asked = encoder.encode_texts(chosen, batch_size=64)
        finds = {n: retrieval.cosine(asked, pages, n) for n in sizes}
        rows += [measure(f"{arm}, prefix {n}", find, size=2 * n) for n, find in finds.items()]
    fused = retrieval.fused(plain, finds[start.width])
    rows.append(measure("trained, fused with BM25", fused, size=2 * start.width + size))
    functions.save_index(cfg.workdir, folder.name, records, text, pages, {"length": cfg.length})
    print(report.table(rows))
    numbers = {"functions": len(records), "seconds": round(time.perf_counter() - began), "rows": rows}
    report.save(name, numbers | {"config": meta["config"]}, None, cfg.results)


def vector(run, model, query):
    """The vector of a question by the encoder of a saved run, [1, D], or None where a run has none."""
    if not (run / "encoder").exists():
        return None
    return encoders.pretrained.load(run / "encoder", max_length=model["length"]).encode_texts([query])
