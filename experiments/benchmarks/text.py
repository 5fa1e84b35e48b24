"""How fast does a text encoder encode and train compared with sentence-transformers, on the same weights?

    python -m experiments.benchmarks.text         # compares with sentence-transformers where it is installed
    python -m experiments.benchmarks.text --rounds 2 --memory-batch 0
    python -m experiments.benchmarks.text --sts path/to/stsb    # and Spearman's correlation on its test pairs

10 minutes on 2 CPU cores. all-MiniLM-L6-v2 in float32, the same texts, tokenizer and limits on both sides.
"long" are functions of the installed packages with docstring and code, cut at 256 tokens. "short" are first
sentences, "one by one" 32 of them in a call each. Encoding is timed from strings to NumPy vectors; a run
stops where the vectors of both differ. Training steps take 64 pairs of 64 tokens each, without dropout,
with AdamW: in-batch negatives, five matryoshka sizes, and five sizes at all layers. Arms take turns in one
process.

"products" are the matrix products that the encoder contains, at the padded sizes that it runs; a step has
three times those of its forward pass. "FLOPs" are of the compiled step, as a multiple of those of one loss.
"temporary MB" is what the compiled step needs beside its arguments, plain and ``cached`` in chunks of 64
pairs.

Paper: GradCache, arXiv:2101.06983.
"""

import dataclasses
import functools
import importlib.util
import logging
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import timing
from experiments.shared import flags, inputs, results, text_models
from jaxembed import data, losses, ragged, train

PEER = "sentence-transformers"
TORCH = importlib.util.find_spec("sentence_transformers") is not None


@dataclasses.dataclass(frozen=True)
class Config:
    """Times encoding and training of a text encoder, and counts what training needs."""

    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    sts: pathlib.Path | None = None  # folder with stsb-en-test.csv
    texts: int = 256
    batch_size: int = 32  # texts of one call
    pairs: int = 64  # of a training step
    length: int = 64  # tokens of a text in training
    sizes: tuple[int, ...] = (32, 64, 128, 256, 384)
    memory_batch: int = 4096  # pairs for which memory is read off the program; 0 leaves it out
    cached_batch: int = 512  # pairs of a cached step that is run; 0 leaves it out
    rounds: int = 7
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        limits = {"texts": (1, 10**6), "batch_size": (1, 4096), "pairs": (2, 4096), "length": (4, 512)}
        limits |= {"rounds": (1, 1000), "memory_batch": (0, 10**6), "cached_batch": (0, 10**6)}
        flags.check(self, limits | {"sizes": (1, 10**5)})


def read_texts(count):
    """({"long", "short"}): functions with docstring and code, and first sentences."""
    records = data.docstrings()
    chosen = np.random.default_rng(0).permutation(len(records))[:count]
    some = [records[i] for i in chosen]
    return {
        "long": [" ".join(r[n] for n in ("name", "signature", "docstring", "code")) for r in some],
        "short": [r["query"] for r in some],
    }


# Encoding


def shapes_of(encoder, texts, batch_size):
    """The padded shapes [rows, T] that ``encode_texts`` runs for some texts."""
    lengths = sorted((len(e.ids) for e in encoder.tokenizer.encode_batch(texts)), reverse=True)
    rows = min(batch_size, 1 << max(0, len(texts) - 1).bit_length())
    tops = lengths[::rows]
    return [(rows, min(ragged.bucket(top), encoder.max_length)) for top in tops]


def products(encoder, shapes):
    """A function that does the matrix products of the encoder for batches of some shapes [rows, T]."""
    block = jax.tree.map(lambda x: x[0], encoder.params["blocks"])
    kernels = [x for x in jax.tree.leaves(block) if x.ndim == 2]
    heads = encoder.folder.config.get("num_attention_heads") or encoder.folder.config["n_heads"]
    width = len(encoder.params["table"]["embedding"].T)  # of the states; the vectors may have another one

    @functools.partial(jax.jit, static_argnames="shape")
    def run(xs, shape):
        rows, length = shape

        def one(total, _):  # what feeds the next round keeps every product alive
            outs = [(xs[k.shape[0]] + total) @ k for k in kernels]
            q = xs[width].reshape(rows, length, heads, -1) + outs[0][0, 0]
            mixed = jnp.einsum("bths,bshd->bthd", jnp.einsum("bthd,bshd->bths", q, q), q)
            return sum(o[0, 0] for o in outs) + mixed[0, 0, 0, 0], None

        return jax.lax.scan(one, jnp.float32(0), None, length=encoder.depth)[0]

    rng = np.random.default_rng(0)
    wide = {width, *(k.shape[0] for k in kernels)}
    inputs = {
        s: {w: jnp.asarray(rng.normal(size=(s[0] * s[1], w)).astype(np.float32) * 1e-3) for w in wide}
        for s in set(shapes)
    }
    return lambda: [run(inputs[s], s) for s in shapes]


def encoding(cfg, encoder, texts, peer):
    rows = []
    for kind, some in texts.items():
        shapes = shapes_of(encoder, some, cfg.batch_size)
        calls = {
            "jaxembed": lambda some=some: encoder.encode_texts(some, batch_size=cfg.batch_size),
            "products": products(encoder, shapes),
        }
        if peer is not None:
            calls[PEER] = lambda some=some: peer.encode(some, batch_size=cfg.batch_size)
            theirs = calls[PEER]()
            apart = 1 - np.sum(calls["jaxembed"]() * theirs, axis=1)
            if apart.max() > 1e-4:
                raise RuntimeError(f"the vectors differ: cosine {1 - apart.max():.6f}")
        times = timing.in_turns(calls, cfg.rounds)
        rows += lines(f"encode {kind}", times, len(some))
    some = texts["short"][:32]
    calls = {"jaxembed": lambda: [encoder.encode_texts([t]) for t in some]}
    if peer is not None:
        calls[PEER] = lambda: [peer.encode([t]) for t in some]
    return rows + lines("encode short, one by one", timing.in_turns(calls, cfg.rounds), len(some))


def lines(what, times, count):
    """Rows of the report: medians, texts per second, and how many times as long as ours a call takes."""
    ours = times["jaxembed"]
    return [
        {
            "what": what,
            "arm": name,
            "ms": 1e3 * t["median"],
            "least ms": 1e3 * t["least"],
            "texts/s": count / t["median"],
            "times ours": t["median"] / ours["median"],
            "least times ours": t["least"] / ours["least"],
            "CPU times ours": t["cpu"] / ours["cpu"],
        }
        for name, t in times.items()
    ]


def similarity(folder, encoders_of_texts):
    """Spearman's correlation on the test pairs of STS-B: one row for each {name: encode_texts}."""
    score = text_models.similarity(folder)
    return [{"what": "STS-B", "arm": name, "Spearman": score(f)} for name, f in encoders_of_texts.items()]


# Training


def losses_of(cfg, layers):
    """{name: (loss of pairs, whether it reads all layers)}."""
    loss = functools.partial(losses.info_nce, temperature=0.05)
    grid = losses.full_grid(range(1, layers + 1), cfg.sizes)
    return {
        "one loss": (loss, False),
        "five sizes": (losses.matryoshka(loss, cfg.sizes), False),
        "layers x sizes": (losses.over_layers(loss, grid), True),
    }


def update_of(encoder, loss, deep, chunks=1):
    """The update of a training step on pairs; ``chunks`` above 1 encodes chunk after chunk."""
    encode = encoder.encode_layers if deep else encoder.encode
    encode = losses.cached(encode, chunks) if chunks > 1 else encode

    def loss_fn(params, batch, key):
        vectors = encode(params, batch)
        half = len(vectors) // 2
        return jnp.mean(loss(vectors[:half], vectors[half:])), {}

    return train.gradient_update(loss_fn, optax.adamw(2e-5))


def make_batch(cfg, encoder, texts, pairs):
    """Queries, then documents, all at one length."""
    sides = [np.resize(texts[side], pairs).tolist() for side in ("short", "long")]
    return encoder.tokenize([*sides[0], *sides[1]], length=cfg.length)


def compiled_step(encoder, update, batch):
    """The compiled step, and the state that it starts from."""
    params = jax.tree.map(jnp.copy, encoder.params)
    state = train.TrainState(jnp.int32(0), params, update[0](params))
    step = jax.jit(update[1], donate_argnums=0)
    return step.lower(state, batch, jax.random.key(0)).compile(), state


def stepper(compiled, state, batch):
    held, key = [state], jax.random.key(0)

    def once():
        held[0], metrics = compiled(held[0], batch, key)
        return metrics

    return once


def peer_steps(cfg, folder, texts, layers):
    """{name: function that takes one step in torch}."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers import losses as theirs

    def step(make_loss):
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        model.max_seq_length = cfg.length
        loss = make_loss(model).eval()  # no dropout
        rule = torch.optim.AdamW(loss.parameters(), lr=2e-5, weight_decay=1e-4)
        sides = [np.resize(texts[side], cfg.pairs).tolist() for side in ("short", "long")]
        tokenized = [
            model.tokenizer(
                s, padding="max_length", truncation=True, max_length=cfg.length, return_tensors="pt"
            )
            for s in sides
        ]

        def once():
            rule.zero_grad()
            loss([dict(t) for t in tokenized], None).backward()
            rule.step()

        return once

    def plain(model):
        return theirs.MultipleNegativesRankingLoss(model)

    sizes = list(cfg.sizes)
    return {
        "one loss": step(plain),
        "five sizes": step(lambda m: theirs.MatryoshkaLoss(m, plain(m), sizes)),
        "layers x sizes": step(
            lambda m: theirs.Matryoshka2dLoss(
                m, plain(m), sizes, n_layers_per_step=-1, n_dims_per_step=-1, kl_div_weight=0
            )
        ),
    }


def three(call):
    return [call() for _ in range(3)]


def training(cfg, encoder, texts, folder):
    layers = encoder.depth
    batch = jax.device_put(make_batch(cfg, encoder, texts, cfg.pairs))
    theirs = peer_steps(cfg, folder, texts, layers) if TORCH else {}
    rows, flops = [], None
    for name, (loss, deep) in losses_of(cfg, layers).items():
        compiled, state = compiled_step(encoder, update_of(encoder, loss, deep), batch)
        counted = compiled.cost_analysis()["flops"]
        flops = flops or counted
        forward = products(encoder, [(2 * cfg.pairs, cfg.length)])
        calls = {
            "jaxembed": stepper(compiled, state, batch),
            "products": functools.partial(three, forward),
        }
        if name in theirs:
            calls[PEER] = theirs[name]
        found = lines(f"train {name}", timing.in_turns(calls, cfg.rounds), 2 * cfg.pairs)
        found[0] |= {"FLOPs": counted / flops}
        rows += found
    return rows


def memory(cfg, encoder, texts):
    """Temporary bytes of the compiled step at two batches, plain and cached; the smaller batch is run."""
    loss, rows = functools.partial(losses.info_nce, temperature=0.05), []
    for pairs in (cfg.cached_batch, cfg.memory_batch):
        if not pairs:
            continue
        batch = make_batch(cfg, encoder, texts, pairs)
        for name, chunks in (("plain", 1), ("cached", max(2, pairs // cfg.pairs))):
            compiled, state = compiled_step(encoder, update_of(encoder, loss, False, chunks), batch)
            row = {"what": f"memory, {pairs:,} pairs", "arm": name}
            row["temporary MB"] = timing.program_bytes(compiled) / 1e6
            if pairs == cfg.cached_batch:
                times = timing.in_turns({"jaxembed": stepper(compiled, state, batch)}, 1)
                row["ms"] = 1e3 * times["jaxembed"]["median"]
            rows.append(row)
    return rows


def by_title(rows):
    """Rows as tables of their own: {title: rows}."""
    titles = {"encode": "encoding", "train": "training", "memory": "memory of a training step"}
    found = {}
    for row in rows:
        title = titles.get(row["what"].partition(",")[0].partition(" ")[0], "similarity")
        found.setdefault(title, []).append(row)
    return found


def summary(rows):
    """Our texts per second beside those of sentence-transformers."""
    rates = {(row["what"], row["arm"]): row.get("texts/s") for row in rows}
    return [
        timing.compared(f"text encoder, {what}, texts/s", PEER, rates[what, "jaxembed"], rate, rate=True)
        for (what, arm), rate in rates.items()
        if arm == PEER and rate is not None
    ]


def look(cfg):
    inputs.sts(cfg.sts, "test")
    encoder = text_models.load(cfg.model)
    flags.at_most(cfg, "sizes", encoder.width, f"the encoder has width {encoder.width}")


def run(cfg):
    folder, encoder = text_models.find_model(cfg.model), text_models.load(cfg.model)
    texts, peer = read_texts(cfg.texts), None
    if TORCH:
        import torch
        from sentence_transformers import SentenceTransformer

        logging.disable(logging.WARNING)
        torch.set_num_threads(max(torch.get_num_threads(), 1))
        peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    else:
        print("sentence-transformers is not installed; pip install 'jaxembed[peers]' to compare", flush=True)
    flags.stage("times encoding")
    rows = encoding(cfg, encoder, texts, peer)
    flags.stage("times training")
    rows += training(cfg, encoder, texts, folder)
    flags.stage("reads the memory of steps")
    rows += memory(cfg, encoder, texts)
    if cfg.sts is not None:
        peers = {} if peer is None else {PEER: peer.encode}
        rows += similarity(cfg.sts, {"jaxembed": encoder.encode_texts} | peers)
    return results.Result({"summary": summary(rows)} | by_title(rows))


if __name__ == "__main__":
    results.main("benchmarks.text", Config, run, check=look)
