"""A search engine over the Python packages installed on this machine, from docstrings to ranked answers.

    python -m experiments.quickstart                                      # train, index, compare
    python -m experiments.quickstart --query "pad a sequence of arrays"   # ask the saved index
    python -m experiments.quickstart --corpus path/to/your/code           # the same for your own tree
    python -m experiments.quickstart --encoder folder                     # starts from a published encoder

Papers: Unified Embedding (arXiv:2305.12102), Matryoshka (arXiv:2205.13147), MUVERA (arXiv:2405.19504).

About 3 minutes on 2 CPU cores. Trained on the indexed text of all functions, never on test queries; settings
compared on validation files. Recall@10 of sentences of held-out scipy / files: BM25 .65 / .67, untrained .60
/ .61, prefix 256 .71 / .77, prefix 64 .50 / .56, fused with BM25 .74 / .79, Chamfer on words .64 / .58,
FDE (20, 5, 16) .63 / .60. The transformer, trained so briefly, costs quality: Chamfer behind it .33 / .39.
"""

import dataclasses
import functools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from experiments.common import checkpoint, functions, plots, report, retrieval
from jaxembed import encoders, losses, search, tables, train, vectors

RULES = ((r"^table/", P("model", None)),)
FDES = ((3, 8), (4, 8), (5, 16))  # (planes, projected) at 20 repetitions


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a text encoder on (first sentence, function), indexes every function and compares searches."""

    query: str | None = None  # ask the saved index instead of training
    corpus: pathlib.Path | None = None  # index your Python files in this folder; its sentences are the test
    alone: bool = False  # with corpus: train on it alone, not on the installed packages too
    holdout: str = "scipy"  # without corpus: the package whose first sentences are test queries only
    encoder: pathlib.Path | None = None  # folder of a text encoder to start from, in place of hashed words
    steps: int = 120
    batch_size: int = 512
    token_batch: int = 128  # rows of the batch that train the token vectors; 0 trains none
    learning_rate: float = 1e-2
    rows: int = 32_768  # rows of the one hashed table
    sizes: tuple[int, ...] = (16, 32, 64, 128, 256)  # matryoshka prefixes; the last is the width
    token_width: int = 64
    layers: int = 1  # transformer blocks over the tokens
    length: int = 96  # heaviest words that stand for a function
    tokens: int = 32  # how many of them become token vectors
    query_tokens: int = 16
    temperature: float = 0.05
    test_queries: int = 1000  # at most, of each of the two kinds
    seed: int = 0
    model_devices: int = 1  # devices along which the table is split
    workdir: pathlib.Path = pathlib.Path("runs/quickstart")
    results: pathlib.Path = report.RESULTS
    profile: int | None = None  # number of steps to trace into the workdir

    def __post_init__(self):
        width = self.sizes[-1]
        limits = {"token_batch": (0, self.batch_size), "tokens": (1, self.length), "query_tokens": (1, 64)}
        limits |= {"token_width": (4, width), "layers": (1, 24), "steps": (1, 10**6), "rows": (1, 2**30)}
        multiples = {"batch_size": 2 * max(1, self.token_batch), "token_width": 4}
        report.check(self, limits, multiples, functions.DEPENDS)
        if list(self.sizes) != sorted(set(self.sizes)) or width % 2:
            raise ValueError(f"--sizes {self.sizes}: give rising widths, the last one even")
        functions.check(self)

    @property
    def held(self):
        return self.corpus.resolve().name if self.corpus else self.holdout


def build(cfg):
    """Returns init, words (a vector per distinct word) and tokens (a transformer on their prefixes)."""
    features = [tables.Feature(n, chunks=2) for n in ("word", "3gram", "4gram", "5gram")]
    plan = tables.plan(features, rows=cfg.rows, width=cfg.sizes[-1] // 2, seed=cfg.seed)

    def words(params, batch):
        rows = tables.codes(plan, batch["words"]["ids"])
        return sum(tables.lookup(plan, params, rows, batch["words"]["masks"]).values())

    def embed(params, side):
        return side["vectors"][side["positions"], : cfg.token_width], side["weights"] > 0

    blocks = encoders.transformer(
        lambda key: tables.init_tables(key, plan), embed, width=cfg.token_width, layers=cfg.layers, heads=4
    )

    def tokens(params, side, layers=None):
        out = blocks.hidden(params, side, layers=layers)
        return encoders.multi_vector(out["tokens"], out["mask"]), out["mask"]

    return blocks.init, words, tokens


def pooled(side):
    return encoders.weighted_bag(side["vectors"], side["positions"], side["weights"])


def cut(side, count, stride=1):
    return {"vectors": side["vectors"]} | {n: side[n][::stride, :count] for n in ("positions", "weights")}


def make_loss(cfg, words, tokens):
    def loss_fn(params, batch, key):
        known = words(params, batch)
        left, right = (batch[side] | {"vectors": known} for side in ("left", "right"))
        keep, (q, d) = losses.duplicate_mask(batch["keys"]), (pooled(left), pooled(right))
        info_nce = functools.partial(losses.info_nce, where=keep, temperature=cfg.temperature)
        nested = losses.matryoshka(info_nce, cfg.sizes)
        loss = jnp.mean(nested(q, d) + nested(d, q)) / (2 * len(cfg.sizes))
        if not cfg.token_batch:
            return loss, {}
        stride = cfg.batch_size // cfg.token_batch
        parts = cut(left, cfg.query_tokens, stride), cut(right, cfg.tokens, stride)
        token = jnp.mean(token_loss(params, *parts, keep[::stride, ::stride], key))
        return loss + token, {"pooled": loss, "token": token}

    def token_loss(params, left, right, keep, key):
        """Through the FDEs themselves, with planes drawn anew at every step."""
        fde = vectors.init_fde(key, cfg.token_width, repetitions=8, planes=3, projected=16)
        (q, q_mask), (d, d_mask) = tokens(params, left), tokens(params, right)
        scores = vectors.encode_queries(fde, retrieval.weighed(q, left["weights"]), q_mask)
        scores = scores @ vectors.encode_documents(fde, d, d_mask).T / 8
        return losses.softmax_loss(scores, where=keep, temperature=cfg.temperature)

    return loss_fn


def make_encode(cfg, text, words, tokens, mesh):
    """Returns encode(params, bags, length, count, layers) -> pooled [B, D], tokens [B, count, d], weights."""

    @functools.partial(jax.jit, static_argnames=("count", "layers"))
    def run(params, batch, count, layers):
        side = batch | {"vectors": words(params, batch)}
        first = cut(side, count)
        return pooled(side), tokens(params, first, layers)[0], first["weights"]

    def encode(params, bags, length, count=1, layers=0):
        full = [*bags, *[{}] * (-len(bags) % mesh.shape["data"])]
        batch = train.place_batch(text.pack(full, length), mesh, ((r"", P("data")),))
        return jax.tree.map(lambda x: x[: len(bags)], run(params, batch, count, layers))

    return encode


def embed_corpus(cfg, folder, text, encode, params, layers=0):
    """Pooled and token vectors of every function, in one resumable file: [N, D], [N, T, d]."""

    def flat(fields):
        bags = [functions.bag_of(f) for f in fields]
        vector, token, _ = encode(params, bags, cfg.length, cfg.tokens, layers)
        return np.concatenate([vector, np.reshape(token, (len(fields), -1))], axis=1)

    path = folder / f"vectors-{layers}.npy"
    rows = search.embed(flat, text.fields, path=path, batch_size=512, dtype=np.float16, progress=True)
    width = cfg.sizes[-1]
    return rows[:, :width], rows[:, width:].reshape(len(rows), cfg.tokens, cfg.token_width)


def compare(cfg, folder, records, text, encode, trained, untrained, mesh):
    """Every way to search, on the same queries and the same functions: one row each."""
    kinds = functions.held_out(cfg.held)
    chosen, judgments = retrieval.first_sentences(records, kinds, cfg.test_queries, cfg.seed)
    bags, width = [text.query(q) for q in chosen], cfg.sizes[-1]
    asked = {n: jax.device_get(encode(trained, bags, 64, cfg.query_tokens, n)) for n in {0, cfg.layers}}
    found = {n: embed_corpus(cfg, folder, text, encode, trained, n) for n in asked}
    blank = embed_corpus(cfg, folder / "untrained", text, encode, untrained)[0]
    measure = functools.partial(retrieval.measure, count=len(chosen), judgments=judgments)
    cosine = functools.partial(retrieval.cosine, mesh=mesh)
    plain, size = retrieval.bm25([list(b) for b in bags], [sum(f.values(), []) for f in text.fields])
    start = cosine(jax.device_get(encode(untrained, bags, 64)[0]), blank, width)
    rows = [measure("BM25", plain, size=size), measure(f"untrained {width}", start, size=2 * width)]
    prefixes = {n: cosine(asked[0][0], found[0][0], n) for n in cfg.sizes}
    rows += [measure(f"prefix {n}", find, size=2 * n) for n, find in prefixes.items()]
    fused = retrieval.fused(plain, prefixes[width])
    rows.append(measure("prefix fused with BM25", fused, size=2 * width + size))
    token_bytes = 2 * cfg.tokens * cfg.token_width
    sets = {n: (retrieval.weighed(*asked[n][1:]), jnp.asarray(found[n][1], jnp.float32)) for n in asked}
    for n, both in sets.items():
        rows.append(measure(f"Chamfer, {n} blocks", retrieval.chamfer(*both, mesh=mesh), size=token_bytes))
        second = retrieval.reranked(prefixes[width], *both)
        rows.append(measure(f"prefix, then Chamfer, {n} blocks", second, size=token_bytes + 2 * width))
    for planes, projected in FDES:
        key, path = jax.random.key(cfg.seed), folder / f"fde-{planes}-{projected}.npy"
        params = vectors.init_fde(key, cfg.token_width, planes=planes, projected=projected)
        find, size = retrieval.fde(params, sets[0][0], found[0][1], path, mesh=mesh)
        rows.append(measure(f"FDE (20, {planes}, {projected})", find, size=size))
    second, last = retrieval.reranked(find, *sets[0]), rows[-1]["method"]
    return [*rows, measure(f"{last}, then Chamfer", second, size=size + token_bytes)]


def ask(cfg):
    """Answers from the saved index: the pooled vectors alone, one matrix product."""
    index, run, text = functions.load_index(cfg.workdir)
    if not text.query(cfg.query):
        raise ValueError(f"--query {cfg.query!r} holds no word; ask with letters or digits")
    vector = checkpoint.vector(run, index.meta["model"], cfg.query)
    if vector is None:
        _, words, tokens = build(dataclasses.replace(cfg, **index.meta["model"]))
        encode = make_encode(cfg, text, words, tokens, train.make_mesh(1))
        vector = encode(train.restore_params(run), [text.query(cfg.query)], 64)[0]
    functions.show(index, vector)


def main(cfg):
    if cfg.query is not None or cfg.encoder is not None:
        return ask(cfg) if cfg.query is not None else checkpoint.run(cfg, Config)
    began = time.perf_counter()
    records = functions.read(cfg)
    text, meta = functions.read_text(records), functions.describe(dataclasses.asdict(cfg), records)
    folder = cfg.workdir / functions.name_of(meta)
    (init, words, tokens), mesh = build(cfg), train.make_mesh(model=cfg.model_devices)
    encode = make_encode(cfg, text, words, tokens, mesh)
    fast, slow = (optax.adam(optax.linear_schedule(r * cfg.learning_rate, 0, cfg.steps)) for r in (1, 0.1))
    state = train.fit(
        init=init,
        loss_fn=make_loss(cfg, words, tokens),
        tx=train.by_path([(r"^table/", fast)], slow),
        batches=functions.make_batches(text, records, cfg.batch_size, cfg.length, cfg.seed),
        steps=cfg.steps,
        key=cfg.seed,
        mesh=mesh,
        rules=RULES,
        workdir=folder,
        meta=meta,
        evaluate=functions.validation(text, records, encode, cfg.length, cfg.seed),
        evaluate_every=40,
        profile=cfg.profile,
    )
    seconds = {"read and train": round(time.perf_counter() - began)}
    model = {k: getattr(cfg, k) for k in ("rows", "sizes", "token_width", "layers", "seed")}
    pages = embed_corpus(cfg, folder, text, encode, state.params)[0]
    functions.save_index(cfg.workdir, folder.name, records, text, pages, model)
    report.stage("compares the ways to search")
    untrained = jax.jit(init)(jax.random.key(cfg.seed))
    rows = compare(cfg, folder, records, text, encode, state.params, untrained, mesh)
    seconds["all"] = round(time.perf_counter() - began)
    print(report.table(rows))
    numbers = {"functions": len(records), "seconds": seconds, "config": meta["config"], "rows": rows}
    numbers["validation"] = train.read_metrics(folder)[-1]
    report.save(report.named("quickstart", cfg), numbers, plots.of_rows(numbers), cfg.results)


if __name__ == "__main__":
    report.run(main, Config)
