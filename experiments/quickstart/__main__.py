"""How well does a search engine that learns from the docstrings on this machine find Python functions?

    python -m experiments.quickstart                                      # train, index, compare, answer
    python -m experiments.quickstart --query "pad a sequence of arrays"   # ask the saved index
    python -m experiments.quickstart --corpus path/to/your/code           # the same for your own tree
    python -m experiments.quickstart --encoder folder                     # starts from a published encoder

Papers: Unified Embedding (arXiv:2305.12102), Matryoshka (arXiv:2205.13147), MUVERA (arXiv:2405.19504).

About 3 minutes on 2 CPU cores, 7 with --encoder. It ends with three questions and their answers. Trained on
the indexed text of all functions, never on test queries; settings were compared on validation files.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import optax

from experiments.quickstart import answers, function_words, published_encoder, searches, word_encoder
from experiments.shared import flags, results
from jaxembed import data, train, vectors

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
    results: pathlib.Path | None = None
    profile: int | None = None  # number of steps to trace into the workdir

    def __post_init__(self):
        width = self.sizes[-1]
        limits = {"token_batch": (0, self.batch_size), "tokens": (1, self.length), "query_tokens": (1, 64)}
        limits |= {"token_width": (4, width), "layers": (1, 24), "steps": (1, 10**6), "rows": (1, 2**30)}
        multiples = {"batch_size": 2 * max(1, self.token_batch), "token_width": 4}
        flags.check(self, limits, multiples, function_words.DEPENDS)
        if list(self.sizes) != sorted(set(self.sizes)) or width % 2:
            raise ValueError(f"--sizes {self.sizes}: give rising widths, the last one even")
        function_words.check(self)

    @property
    def held(self):
        return self.corpus.resolve().name if self.corpus else self.holdout


def compare(cfg, folder, records, text, encode, trained, untrained, mesh):
    """Every way to search, on the same queries and the same functions: one row each."""
    kinds = function_words.held_out(cfg.held)
    chosen, judgments = data.first_sentences(records, kinds, cfg.test_queries, seed=cfg.seed)
    bags, width = [text.query(q) for q in chosen], cfg.sizes[-1]
    asked = {n: jax.device_get(encode(trained, bags, 64, cfg.query_tokens, n)) for n in {0, cfg.layers}}
    found = {n: word_encoder.embed_corpus(cfg, folder, text, encode, trained, n) for n in asked}
    blank = word_encoder.embed_corpus(cfg, folder / "untrained", text, encode, untrained)[0]
    measure = functools.partial(searches.measure, count=len(chosen), judgments=judgments)
    cosine = functools.partial(searches.cosine, mesh=mesh)
    plain, size = searches.bm25([list(b) for b in bags], [sum(f.values(), []) for f in text.fields])
    start = cosine(jax.device_get(encode(untrained, bags, 64)[0]), blank, width)
    rows = [measure("BM25", plain, size=size), measure(f"untrained {width}", start, size=2 * width)]
    prefixes = {n: cosine(asked[0][0], found[0][0], n) for n in cfg.sizes}
    rows += [measure(f"prefix {n}", find, size=2 * n) for n, find in prefixes.items()]
    fused = searches.fused(plain, prefixes[width])
    rows.append(measure("prefix fused with BM25", fused, size=2 * width + size))
    token_bytes = 2 * cfg.tokens * cfg.token_width
    sets = {n: (searches.weighed(*asked[n][1:]), jnp.asarray(found[n][1], jnp.float32)) for n in asked}
    for n, both in sets.items():
        rows.append(measure(f"Chamfer, {n} blocks", searches.chamfer(*both, mesh=mesh), size=token_bytes))
        second = searches.reranked(prefixes[width], *both)
        rows.append(measure(f"prefix, then Chamfer, {n} blocks", second, size=token_bytes + 2 * width))
    for planes, projected in FDES:
        key, path = jax.random.key(cfg.seed), folder / f"fde-{planes}-{projected}.npy"
        params = vectors.init_fde(key, cfg.token_width, planes=planes, projected=projected)
        find, size = searches.fde(params, sets[0][0], found[0][1], path, mesh=mesh)
        rows.append(measure(f"FDE (20, {planes}, {projected})", find, size=size))
    second, last = searches.reranked(find, *sets[0]), rows[-1]["method"]
    return [*rows, measure(f"{last}, then Chamfer", second, size=size + token_bytes)]


def ask(cfg):
    """Answers from the saved index: the pooled vectors alone, one matrix product."""
    index, folder, text = answers.load_index(cfg.workdir)
    if not text.query(cfg.query):
        raise ValueError(f"--query {cfg.query!r} holds no word; ask with letters or digits")
    vector = published_encoder.vector(folder, index.meta["model"], cfg.query)
    if vector is None:
        _, words, tokens = word_encoder.build(dataclasses.replace(cfg, **index.meta["model"]))
        encode = word_encoder.make_encode(cfg, text, words, tokens, train.make_mesh(1))
        vector = encode(train.restore_params(folder), [text.query(cfg.query)], 64)[0]
    print(answers.nearest(index, vector))


def run(cfg):
    if cfg.query is not None or cfg.encoder is not None:
        return ask(cfg) if cfg.query is not None else published_encoder.run(cfg, Config)
    records, text, meta, folder = function_words.read(cfg)
    (init, words, tokens), mesh = word_encoder.build(cfg), train.make_mesh(model=cfg.model_devices)
    encode = word_encoder.make_encode(cfg, text, words, tokens, mesh)
    fast, slow = (optax.adam(optax.linear_schedule(r * cfg.learning_rate, 0, cfg.steps)) for r in (1, 0.1))
    state = train.fit(
        init=init,
        loss_fn=word_encoder.make_loss(cfg, words, tokens),
        tx=train.by_path([(r"^table/", fast)], slow),
        batches=function_words.make_batches(text, records, cfg.batch_size, cfg.length, cfg.seed),
        steps=cfg.steps,
        key=cfg.seed,
        mesh=mesh,
        rules=word_encoder.RULES,
        workdir=folder,
        meta=meta,
        evaluate=function_words.validation(text, records, encode, cfg.length, cfg.seed),
        evaluate_every=40,
        profile=cfg.profile,
    )
    model = {k: getattr(cfg, k) for k in ("rows", "sizes", "token_width", "layers", "seed")}
    pages = word_encoder.embed_corpus(cfg, folder, text, encode, state.params)[0]
    answers.save_index(cfg.workdir, folder.name, records, text, pages, model)
    flags.stage("compares the ways to search")
    rows = compare(
        cfg, folder, records, text, encode, state.params, jax.jit(init)(jax.random.key(cfg.seed)), mesh
    )
    closing = answers.answers(cfg, lambda q: encode(state.params, [text.query(q)], 64)[0])
    details = {"functions": len(records), "validation": train.read_metrics(folder)[-1]}
    return results.Result({"searches": rows}, details, closing=closing)


CLAIMS = (
    results.Claim(
        "2205.13147",
        "The first half of a vector finds nearly what all of it finds (share of its Recall@10)",
        searches.ratio("prefix 128", "prefix 256"),
    ),
    results.Claim(
        "2405.19504",
        "Inner products of fixed dimensional encodings find what Chamfer scores find (share of Recall@10)",
        searches.ratio("FDE (20, 5, 16)", "Chamfer, 0 blocks"),
    ),
    results.Claim(
        "",
        "Words and trained vectors, fused, find more than words (Recall@10 as a multiple of BM25's)",
        searches.ratio("prefix fused with BM25", "BM25"),
    ),
)


def figures(numbers):
    return {"": functools.partial(searches.draw, rows=numbers["searches"])}


if __name__ == "__main__":
    results.main("quickstart", Config, run, CLAIMS, figures=figures)
