"""How fast are scans of binary and int8 codes, and product quantisation, compared with faiss?

    python -m experiments.benchmarks.codes
    python -m experiments.benchmarks.codes --rows 100000 --rounds 3

4 minutes on 2 cores. Compared is faiss-cpu; a row whose package is not installed is left out. Every
row of a group is timed in turn, again and again, so that a busy machine slows all of them equally. Both find
the same rows, which is checked before anything is timed. Binary codes are laid out by columns once, as faiss
takes them into its index once; "packed codes" are those that no one has laid out.

Medians are shown. "times ours" is the time of a row divided by that of the first row of its group: above 1
ours is faster. "floor" is the time of a plain copy of the bytes that a scan has to read once.

"choices" codes vectors of a text encoder, definitions of WordNet, in every way: bytes of a vector, the share
of the exact neighbours that are found, and queries a second, 256 at a time.

Int8 rows meet float queries on both sides; faiss scales each coordinate by itself. XLA has no fast product of
int8 on a CPU, so rows are widened to floats in the cache: for one query that is most of the time. Product
codes are made by comparing many rows with one centre after the other, in registers. They are scanned by
summing table entries, of which one look-up reads those of 16 queries side by side: a single query gets one
number for a look-up, and 256 queries go through the codes 16 times.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import locality, timing
from experiments.shared import flags, inputs, results, text_models
from jaxembed import data, search, vectors
from jaxembed.arrays import unit


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the measurements."""

    rows: int = 1_000_000
    bits: int = 256
    width: int = 256  # of int8 rows and of what product quantisation codes
    product_rows: int = 100_000
    texts: int = 10_000  # definitions whose vectors are coded in every way
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    queries: tuple[int, ...] = (1, 16, 256)
    k: int = 10
    rounds: int = 5
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        flags.check(self, {"rows": (1000, 10**8), "product_rows": (1000, 10**8), "k": (1, 100)})
        flags.check(self, {"bits": (8, 2040), "width": (8, 4096)}, multiples={"bits": 8, "width": 8})
        flags.check(self, {"texts": (256, 80_000), "queries": (1, 10**5), "rounds": (1, 1000)})


OURS, FAISS = "jaxembed", "faiss"
PACKED = "jaxembed, packed codes"  # which are laid out by columns anew in every search
BLOCK = {"block": 2, "warm": 1}  # threads of the other package may still spin
ASKED = 256  # definitions that are queries
CHUNK = 8192  # int8 rows that are widened at a time: they stay in the cache


def rows_of(group, calls, cfg, things, floor=None):
    """Rows of one group; ``calls`` is {method: function}, ours first."""
    times = timing.in_turns(calls, cfg.rounds, **BLOCK)
    ours, found = times[OURS], []
    for name, t in times.items():
        row = {"group": group, "method": name, "ms": 1e3 * t["median"], "per second": things / t["median"]}
        ratios = {"times ours": t["median"] / ours["median"], "CPU times ours": t["cpu"] / ours["cpu"]}
        found.append(row | ratios | {"floor ms": floor})
    return found


def copy_ms(array):
    """Milliseconds of a plain copy of an array: what reading and writing it once takes."""
    return 1e3 * timing.in_turns({"copy": lambda: array.copy()}, 3)["copy"]["least"]


def hamming(cfg, faiss):
    """Binary codes: distances of packed bits."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (cfg.rows, cfg.bits // 8), dtype=np.uint8)
    placed, floor, found, index = jnp.asarray(codes), copy_ms(codes), [], None
    columns = search.code_columns(codes)
    if faiss:
        index = faiss.IndexBinaryFlat(cfg.bits)
        index.add(codes)
    for size in cfg.queries:
        asked = rng.integers(0, 256, (size, cfg.bits // 8), dtype=np.uint8)
        scan = functools.partial(search.hamming_top_k, jnp.asarray(asked), k=cfg.k)
        calls = {OURS: functools.partial(scan, columns), PACKED: functools.partial(scan, placed)}
        if index is not None:
            calls[FAISS] = functools.partial(index.search, asked, cfg.k)
            np.testing.assert_array_equal(calls[OURS]()[0], calls[FAISS]()[0])
        found += rows_of(f"{cfg.rows:,} x {cfg.bits} bits, {size} at a time", calls, cfg, size, floor)
    return found


def integers(cfg, faiss):
    """Int8 codes: inner products of float queries with rows of small integers."""
    rng = np.random.default_rng(1)
    floats = rng.standard_normal((cfg.rows, cfg.width), dtype=np.float32)
    params = vectors.fit_scalar(floats[:10_000])
    codes = np.concatenate([np.asarray(vectors.encode_scalar(params, x)) for x in np.array_split(floats, 64)])
    placed, floor, found, index = jnp.asarray(codes), copy_ms(codes), [], None
    if faiss:
        kind = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexScalarQuantizer(cfg.width, kind, faiss.METRIC_INNER_PRODUCT)
        index.train(floats[:10_000])
        index.add(floats)
    del floats
    for size in cfg.queries:
        asked = rng.standard_normal((size, cfg.width), dtype=np.float32)
        scaled = jnp.asarray(asked) * params["step"]
        scan = functools.partial(search.scan_top_k, vectors.scalar_scores, chunk=CHUNK)
        calls = {OURS: functools.partial(scan, scaled, placed, cfg.k)}
        if index is not None:
            calls[FAISS] = functools.partial(index.search, asked, cfg.k)
            alike = [
                set(a) & set(b) for a, b in zip(np.asarray(calls[OURS]()[1]), calls[FAISS]()[1], strict=True)
            ]
            if np.mean([len(x) for x in alike]) < 0.8 * cfg.k:
                raise RuntimeError("int8 codes find other rows than faiss")
        found += rows_of(f"{cfg.rows:,} x {cfg.width} int8, {size} at a time", calls, cfg, size, floor)
    return found


def product(cfg, faiss):
    """Product codes: making them, and scans by tables of products."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((cfg.product_rows, cfg.width), dtype=np.float32)
    books = vectors.fit_product(jax.random.key(0), rows[:10_000], iterations=2)
    some, found, index = rows[:16_384], [], None
    calls = {OURS: functools.partial(vectors.encode_product, books, some)}
    codes = np.asarray(vectors.encode_product(books, rows))
    if faiss:
        index = faiss.IndexPQ(cfg.width, cfg.width // 8, 8, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.asarray(books["codebooks"], np.float32).ravel(), index.pq.centroids)
        index.is_trained = True
        faiss.copy_array_to_vector(codes.ravel(), index.codes)
        index.ntotal = len(codes)
        calls[FAISS] = functools.partial(index.sa_encode, some)
        if np.mean(calls[FAISS]() == codes[: len(some)]) < 0.999:
            raise RuntimeError("product codes are other than those of faiss")
    found += rows_of("make product codes", calls, cfg, len(some))
    placed = jnp.asarray(codes)
    for size in cfg.queries:
        asked = rng.standard_normal((size, cfg.width), dtype=np.float32)

        def by_tables(asked=asked):
            tables = vectors.product_tables(books, asked)
            return search.scan_top_k(vectors.product_scores, tables, placed, cfg.k)

        calls = {OURS: by_tables}
        if index is not None:
            calls[FAISS] = functools.partial(index.search, asked, cfg.k)
            if np.mean(np.asarray(by_tables()[1]) == calls[FAISS]()[1]) < 0.99:
                raise RuntimeError("product codes find other rows than faiss")
        found += rows_of(f"{len(codes):,} product codes, {size} at a time", calls, cfg, size)
    return found


def choices(cfg):
    """What a vector of a text encoder may cost: bytes, exact neighbours found, queries a second."""
    encoder = text_models.load(cfg.model)
    senses = data.wordnet()
    chosen = np.random.default_rng(3).permutation(len(senses))[: cfg.texts + ASKED]
    encoded = np.asarray(unit(encoder.encode_texts([senses[i]["gloss"] for i in chosen])))
    asked, rows = jnp.asarray(encoded[:ASKED]), jnp.asarray(encoded[ASKED:])
    turned, about = turning(rows)
    scan = functools.partial(search.scan_top_k, k=cfg.k, chunk=CHUNK)
    scale, books = vectors.fit_scalar(rows), vectors.fit_product(jax.random.key(0), rows, iterations=5)
    small, product_codes = vectors.encode_scalar(scale, rows), vectors.encode_product(books, rows)
    signs, ask_signs = vectors.sign_codes(turned(rows)), vectors.sign_codes(turned(asked))
    calls = {
        "float32": (4, lambda: search.top_k(asked, rows, cfg.k)),
        "int8": (1, lambda: scan(vectors.scalar_scores, asked * scale["step"], small)),
        "product codes": (
            1 / 8,
            lambda: search.scan_top_k(
                vectors.product_scores, vectors.product_tables(books, asked), product_codes, cfg.k
            ),
        ),
        "signs": (1 / 8, lambda: search.hamming_top_k(ask_signs, signs, cfg.k)),
        "signs, then floats of 100": (
            4 + 1 / 8,
            lambda: reranked(ask_signs, signs, asked, encoded[ASKED:], cfg.k),
        ),
    }
    for bits, step in ((4, 0.335), (2, 0.996)):
        q, d = (vectors.uniform_levels(turned(x), bits - 1, step=step * about) for x in (asked, rows))
        planes = vectors.levels_to_bits(d, bits - 1)
        calls[f"{bits} bits"] = (bits / 8, lambda q=q, d=planes: scan(vectors.plane_scores, q, d))
    exact = np.asarray(calls["float32"][1]()[1])
    times = timing.in_turns({name: call for name, (_, call) in calls.items()}, cfg.rounds)
    found = []
    for name, (size, call) in sorted(calls.items(), key=lambda item: -item[1][0]):
        shared = [len(set(a) & set(b)) for a, b in zip(exact, np.asarray(call()[1]), strict=True)]
        row = {
            "code": name,
            "bytes": round(size * rows.shape[1]),
            f"recall@{cfg.k}": float(np.mean(shared) / cfg.k),
        }
        found.append(row | {"queries per second": ASKED / times[name]["median"]})
    return found


def turning(rows):
    """A rotation around the mean that makes coordinates alike, and the deviation that they then have."""
    turn, mean = jax.random.orthogonal(jax.random.key(1), rows.shape[1]), jnp.mean(rows, axis=0)
    return lambda x: (x - mean) @ turn, float(jnp.std((rows - mean) @ turn))


def reranked(codes, known, asked, rows, k):
    """Candidates by their signs, ranked by their floats on the host."""
    places = search.hamming_top_k(codes, known, 100)[1]
    return search.rerank_vectors(asked, places, rows, k)


def summary(cfg, rows):
    """Our rates beside those of faiss."""
    found = []
    for group in dict.fromkeys(row["group"] for row in rows if "group" in row):
        rates = {row["method"]: row["per second"] for row in rows if row.get("group") == group}
        if FAISS in rates:
            found.append(timing.compared(f"{group}, /s", FAISS, rates[OURS], rates[FAISS], rate=True))
    return found


def run(cfg):
    faiss, tables = timing.optional("faiss"), {}
    for name, part in (("binary codes", hamming), ("int8 codes", integers), ("product codes", product)):
        flags.stage(f"times {name}")
        tables[name] = part(cfg, faiss)
    compared = summary(cfg, [r for rows in tables.values() for r in rows])
    flags.stage("times locality batches")
    tables["locality batches"] = locality.rows(min(50_000, max(2000, cfg.rows // 20)), rounds=cfg.rounds)
    flags.stage("compares what a vector may cost")
    return results.Result({"summary": compared} | tables | {"choices": choices(cfg)})


def look(cfg):
    inputs.sets("wordnet")
    text_models.load(cfg.model)


if __name__ == "__main__":
    results.main("benchmarks.codes", Config, run, check=look)
