"""How fast are the encodings, Chamfer and exact search compared with the packages that people use for them?

    python -m experiments.benchmarks.multivector
    python -m experiments.benchmarks.multivector --documents 100000 --queries 1 16     # needs 13 GB of memory

3 minutes on 2 quiet cores. Compared are fastembed, muvfde, torch and faiss-cpu; a row whose package is not
installed is left out. Every row of a group is timed in turn, again and again, so that a busy machine slows
all of them equally. Short calls take three turns at a time, after one that is not counted: threads of the
package before them may still spin.

Medians are shown. "times ours" is the time of a row divided by that of the first row of its group: above 1
ours is faster. "CPU times ours" is the same for processor time, which other work on the machine disturbs
less. "matrix product" is the one product that encoding contains. Documents of ragged lengths are given to
torch in two ways: padded for einsum, and as they are for scatter_reduce. "search.rerank" reads them from
the host, as a search does.
"""

import dataclasses
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing
from experiments.shared import flags, results
from jaxembed import data, search, vectors
from jaxembed.arrays import inner


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the measurements."""

    repetitions: int = 20
    planes: int = 5
    projected: int = 16
    width: int = 128
    tokens: tuple[int, ...] = (32, 128, 512)
    batch: int = 8192  # tokens of one call of ours
    peer_sets: int = 8  # sets that fastembed and muvfde, which take one at a time, encode per round
    candidates: int = 1000
    documents: tuple[int, ...] = (20_000,)
    queries: tuple[int, ...] = (1, 16, 256)
    length: int = 10_240
    k: int = 100
    built: int = 4000  # documents of the index on disk
    rounds: int = 9
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file


SHORT = {"block": 3, "warm": 1}  # how calls of a few milliseconds take turns
OURS = "jaxembed"


def run(cfg):
    rows = []
    for part in (encoding, reranking, building, searching):
        flags.stage(f"times {part.__name__}")
        rows += part(cfg)
    return results.Result({"summary": summary(cfg, rows)} | by_title(rows))


def by_title(rows):
    """Rows as tables of their own: {title: rows}."""

    def title(group):
        starts = {"encode": "encoding", "Chamfer": "Chamfer", "index": "index on disk"}
        codes = "product codes" if "product codes" in group else "exact search"
        return next((name for start, name in starts.items() if group.startswith(start)), codes)

    found = {}
    for row in rows:
        found.setdefault(title(row["group"]), []).append(row)
    return found


def summary(cfg, rows):
    """Our rates beside those of the packages, at the middle of the sizes that were measured."""
    size, asked, count = (timing.middle(x) for x in (cfg.tokens, cfg.queries, cfg.documents))
    encode, exact = f"encode, T = {size}", f"{count:,} documents, {asked} at a time"
    codes, many = (f"{count:,} product codes, {n} at a time" for n in (asked, max(cfg.queries)))
    compared = [  # task, group, of what, peer, our method
        (f"encode documents of {size} tokens", encode, "documents", "fastembed", OURS),
        (f"encode documents of {size} tokens", encode, "documents", "muvfde", OURS),
        ("Chamfer of ragged documents", "Chamfer, ragged", "pairs", "torch, padded then einsum", OURS),
        ("Chamfer of ragged documents", "Chamfer, ragged", "pairs", "torch scatter_reduce", OURS),
        (f"search {exact}", exact, "queries", "faiss flat", OURS),
        (f"search {codes}", codes, "queries", "faiss PQ", OURS),
        (f"search {many}, decoded", many, "queries", "faiss PQ", f"{OURS}, decoded"),
        ("make product codes", "product codes", "documents", "faiss PQ", OURS),
    ]
    made = []
    for task, group, of, peer, ours in compared:
        of_group = [r for r in rows if (r["group"].removesuffix(", peers"), r["of"]) == (group, of)]
        rates = {r["method"]: r["per second"] for r in of_group}
        if peer in rates:
            made.append(timing.compared(f"{task}, {of}/s", peer, rates[ours], rates[peer], rate=True))
    return made


def interleaved(group, calls, rounds, per, **options):
    """Rows of one group; ``calls`` is {method: (function, how many things it handles)}, ours first."""
    times = timing.in_turns({name: call for name, (call, _) in calls.items()}, rounds, **options)
    each, work = ({n: times[n][key] / count for n, (_, count) in calls.items()} for key in ("median", "cpu"))
    ours = next(iter(calls))
    return [
        {
            "group": group,
            "method": name,
            "of": per,
            "per second": 1 / each[name],
            "times ours": each[name] / each[ours],
            "CPU times ours": work[name] / work[ours],
        }
        for name in calls
    ]


def unit(rng, *shape):
    """Random unit vectors, float32."""
    x = rng.standard_normal(shape, dtype=np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def encoding(cfg):
    """Documents with fill, and queries, at every number of tokens."""
    params = vectors.init_fde(
        jax.random.key(0),
        cfg.width,
        repetitions=cfg.repetitions,
        planes=cfg.planes,
        projected=cfg.projected,
    )
    columns = cfg.repetitions * (cfg.planes + cfg.projected)
    rng, rows = np.random.default_rng(0), []
    matrix = jnp.asarray(rng.standard_normal((cfg.width, columns), dtype=np.float32))
    product = jax.jit(lambda x, m: x.reshape(-1, x.shape[-1]) @ m)
    for size in cfg.tokens:
        count = max(1, cfg.batch // size)
        sets = unit(rng, count, size, cfg.width)
        x, mask = jnp.asarray(sets), jnp.ones((count, size), bool)
        for name, encode in (("documents", vectors.encode_documents), ("queries", vectors.encode_queries)):
            ours = {"jaxembed": (lambda e=encode, x=x, m=mask: e(params, x, m), count)}
            bare = {"matrix product": (lambda x=x: product(x, matrix), count)}
            peers = encoding_peers(cfg, name, sets[: cfg.peer_sets])
            for group, others in (("product", bare), ("peers", peers)):
                given = f"encode, T = {size}, {group}", ours | others, cfg.rounds, name
                rows += interleaved(*given, **SHORT)
    return rows


def encoding_peers(cfg, name, sets):
    """Packages that encode one set at a time."""
    calls = {}
    fastembed, muvfde = timing.optional("fastembed.postprocess"), timing.optional("muvfde")
    if fastembed:
        peer = fastembed.Muvera(
            dim=cfg.width, k_sim=cfg.planes, dim_proj=cfg.projected, r_reps=cfg.repetitions, random_seed=42
        )
        one = peer.process_document if name == "documents" else peer.process_query
        calls["fastembed"] = (lambda: [one(s) for s in sets], len(sets))
    if muvfde:
        settings = muvfde.fixed_dimensional_encoding_config()
        settings.set_num_repetitions(cfg.repetitions)
        settings.set_num_simhash_projections(cfg.planes)
        settings.set_projection_dimension(cfg.projected)
        settings.set_projection_type(muvfde.projection_type.AMS_SKETCH)
        if name == "documents":
            settings.set_encoding_type(muvfde.encoding_type.AVERAGE)
            settings.enable_fill_empty(True)
        encode = muvfde.generate_fixed_dimensional_encoding
        calls["muvfde"] = (lambda: [encode(s, settings) for s in sets], len(sets))
    return calls


def reranking(cfg):
    """Exact Chamfer of one query with documents of ragged lengths: padded to the longest, and as they lie."""
    rng, size = np.random.default_rng(1), 32
    lengths = np.clip(rng.lognormal(4.2, 0.5, cfg.candidates).astype(int), 8, 180)
    mask = np.arange(lengths.max()) < lengths[:, None]
    documents, query, kept = (
        unit(rng, *mask.shape, cfg.width),
        unit(rng, 1, size, cfg.width),
        np.ones((1, size)),
    )
    tokens, offsets = documents[mask], np.concatenate([[0], np.cumsum(lengths)])
    kept, places = kept.astype(bool), np.arange(cfg.candidates)[None]
    arrays = [jnp.asarray(a) for a in (query, documents, kept, mask)]
    flat = [jnp.asarray(a) for a in (query, kept, tokens, offsets.astype(np.int32))]
    exact = {"score": vectors.chamfer_flat, "tokens": tokens, "offsets": offsets, "flat": True}
    padded = {"jaxembed": lambda: vectors.chamfer(*arrays)}
    ragged = {
        "jaxembed": lambda: vectors.chamfer_flat(*flat),
        "jaxembed, search.rerank from the host": lambda: search.rerank(query, kept, places, **exact),
    }
    torch = timing.optional("torch")
    if torch:
        q, d, m, rows = (torch.from_numpy(a) for a in (query, documents, mask, tokens))
        owners = torch.from_numpy(np.repeat(np.arange(cfg.candidates), lengths))[:, None].expand(-1, size)

        def einsum(d=d):
            scores = torch.einsum("qtd,nsd->qnts", q, d).masked_fill(~m[None, :, None], -torch.inf)
            return scores.amax(-1).sum(-1)

        def scattered():
            best = torch.full((cfg.candidates, size), -torch.inf)
            return best.scatter_reduce(0, owners, rows @ q[0].T, "amax").sum(1)[None]

        def pad_first():
            parts = torch.split(rows, lengths.tolist())
            return einsum(torch.nn.utils.rnn.pad_sequence(parts, batch_first=True))

        padded["torch einsum"] = einsum
        ragged |= {"torch, padded then einsum": pad_first, "torch scatter_reduce": scattered}
        for call in (padded["jaxembed"], ragged["jaxembed"], pad_first, scattered):
            np.testing.assert_allclose(np.asarray(call()), einsum().numpy(), rtol=1e-4)
    found = []
    for group, calls in (("Chamfer, padded", padded), ("Chamfer, ragged", ragged)):
        counted = {name: (call, cfg.candidates) for name, call in calls.items()}
        found += interleaved(group, counted, cfg.rounds, "pairs", **SHORT)
    return found


def searching(cfg):
    """Exact search, and search over product codes that faiss gets from us, so that both find the same."""
    rows, faiss = [], timing.optional("faiss")
    for count in cfg.documents:
        rng = np.random.default_rng(2)
        documents = rng.standard_normal((count, cfg.length), dtype=np.float32)
        queries = {size: rng.standard_normal((size, cfg.length), dtype=np.float32) for size in cfg.queries}
        books = vectors.fit_product(jax.random.key(0), documents[:2048], iterations=1)
        codes, encoding = coding(books, documents[:4096], cfg, faiss)
        codes = np.concatenate([codes, encoded(books, documents[4096:])])
        index = None
        if faiss:
            index = faiss.IndexFlatIP(cfg.length)
            index.add(documents)
        placed = jnp.asarray(documents)
        del documents
        for size, asked in queries.items():
            q = jnp.asarray(asked)
            calls = {"jaxembed": (lambda q=q, d=placed: search.top_k(q, d, cfg.k), size)}
            if index is not None:
                calls["faiss flat"] = (lambda x=asked, i=index: i.search(x, cfg.k), size)
            rows += interleaved(f"{count:,} documents, {size} at a time", calls, cfg.rounds, "queries")
        del placed, index
        rows += encoding + code_search(books, codes, queries, cfg, faiss)
    return rows


def encoded(books, documents, size=4096):
    """Product codes of all documents, uint8 [N, M]."""
    parts = [documents[n : n + size] for n in range(0, len(documents), size)]
    parts = [np.asarray(vectors.encode_product(books, part), np.uint8) for part in parts]
    return np.concatenate([np.zeros((0, books["codebooks"].shape[0]), np.uint8), *parts])


def quantiser(faiss, books, cfg):
    """An empty faiss index with our codebooks."""
    parts, _, group = books["codebooks"].shape
    index = faiss.IndexPQ(parts * group, parts, 8, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.asarray(books["codebooks"], np.float32).ravel(), index.pq.centroids)
    index.is_trained = True
    return index


def coding(books, some, cfg, faiss):
    """(codes of some documents, rows of the time that making them takes)."""
    codes, calls = encoded(books, some), {"jaxembed": (lambda: encoded(books, some), len(some))}
    if faiss:
        index = quantiser(faiss, books, cfg)
        calls["faiss PQ"] = (lambda: index.sa_encode(some), len(some))
        same = float((index.sa_encode(some) == codes).mean())
        if same < 0.999:
            raise RuntimeError(f"only {same:.1%} of the product codes agree with faiss")
    return codes, interleaved("product codes", calls, min(3, cfg.rounds), "documents")


def code_search(books, codes, queries, cfg, faiss):
    """Search over codes: by tables of products, and by decoding chunks, which pays for many queries."""

    def by_decoding(asked, part):
        return inner(asked, vectors.decode_product(books, part))

    placed, rows, index = jnp.asarray(codes), [], None
    if faiss:
        index = quantiser(faiss, books, cfg)
        faiss.copy_array_to_vector(codes.ravel(), index.codes)
        index.ntotal = len(codes)
    for size, asked in queries.items():

        def ours(asked=asked):
            tables = vectors.product_tables(books, asked)
            return search.scan_top_k(vectors.product_scores, tables, placed, cfg.k)

        def decoded(asked=asked):
            return search.scan_top_k(by_decoding, asked, placed, cfg.k)

        calls = {"jaxembed": (ours, size), "jaxembed, decoded": (decoded, size)}
        if index is not None:
            calls["faiss PQ"] = (lambda x=asked: index.search(x, cfg.k), size)
            pairs = zip(np.asarray(ours()[1]), index.search(asked, cfg.k)[1], strict=True)
            alike = [len(set(a) & set(b)) for a, b in pairs]
            if np.mean(alike) < 0.97 * cfg.k:
                raise RuntimeError(f"of {cfg.k} found codes only {np.mean(alike)} agree with faiss")
        name = f"{len(codes):,} product codes, {size} at a time"
        rows += interleaved(name, calls, min(3, cfg.rounds), "queries")
    return rows


def building(cfg):
    """Documents per second of an index on disk with tokens and encodings, and its bytes."""
    sets = data.toy.token_sets(0, documents=cfg.built, queries=min(200, cfg.built), width=cfg.width)
    sets = np.split(sets["tokens"], sets["offsets"][1:-1])
    fde = vectors.init_fde(
        jax.random.key(0),
        cfg.width,
        repetitions=cfg.repetitions,
        planes=cfg.planes,
        projected=cfg.projected,
    )

    def encode(params, tokens, mask):
        return {"fde": vectors.encode_documents(params["fde"], tokens, mask).astype(jnp.float16)}

    seconds, size = [], 0
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            search.build_documents(folder, enumerate(sets), jax.jit(encode), params={"fde": fde})
            seconds.append(time.perf_counter() - start)
            size = sum(f.stat().st_size for f in pathlib.Path(folder).rglob("*") if f.is_file())
    row = {"group": f"index of {cfg.built:,} documents", "method": "jaxembed", "of": "documents"}
    return [row | {"per second": cfg.built / min(seconds), "bytes each": size / cfg.built}]


if __name__ == "__main__":
    results.main("benchmarks.multivector", Config, run)
