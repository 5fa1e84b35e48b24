"""Cases of token sets and of search: encodings, Chamfer, exact search, product codes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.on_device.cases import OURS, Case
from jaxembed import search, vectors
from jaxembed.arrays import unit

PRODUCT = f"{OURS}, its product"


@functools.partial(jax.jit, static_argnums=(1, 2))
def drawn(seed, shape, length=1):
    """Random vectors of float32 made on the device; with ``length`` 1 unit vectors."""
    x = jax.random.normal(jax.random.key(seed), shape)
    return unit(x) if length else x


def encodings(cfg, card, peer):
    """Fixed dimensional encodings of documents, beside the one product that they contain."""
    sizes = {n: getattr(cfg, n) for n in ("repetitions", "planes", "projected")}
    columns = cfg.repetitions * (cfg.planes + cfg.projected)
    out = cfg.repetitions * 2**cfg.planes * cfg.projected

    def arms(count, size):
        params, x = (
            vectors.init_fde(jax.random.key(0), cfg.width, **sizes),
            drawn(0, (count, size, cfg.width)),
        )
        mask, matrix = jnp.ones((count, size), bool), drawn(1, (cfg.width, columns), 0)
        product = jax.jit(lambda x, m: jnp.matmul(x.reshape(-1, cfg.width), m, precision="highest"))
        calls = {OURS: lambda: vectors.encode_documents(params, x, mask), PRODUCT: lambda: product(x, matrix)}
        if peer:
            theirs, other = peer.share(x, matrix)
            calls["torch, its product"] = lambda: theirs.reshape(-1, cfg.width) @ other
        return calls

    for size in cfg.set_tokens:
        wanted = max(1, cfg.set_batch // size)
        each = 4 * (size * (cfg.width + 3 * columns) + 3 * out)
        count, note = card.fitting(wanted, lambda n, each=each: n * each, "documents")
        flops, moved = 2 * count * size * cfg.width * columns, 4 * count * (size * cfg.width + out)
        made = functools.partial(arms, count, size)
        where = "encode token sets", f"{size} tokens", "documents", count, "float32"
        yield Case("token sets", *where, flops, moved, made, None, note)


def chamfers(cfg, card, peer):
    """One query against documents of ragged lengths: padded to the longest, and as they lie."""
    rng, asked = np.random.default_rng(1), 32
    lengths = np.clip(rng.lognormal(4.2, 0.5, cfg.candidates).astype(int), 8, 180)
    longest = int(lengths.max())
    count, note = card.fitting(
        cfg.candidates, lambda n: 8 * n * longest * (cfg.width + 2 * asked), "documents"
    )
    lengths = lengths[:count]
    total = int(lengths.sum())

    def query():
        return drawn(2, (1, asked, cfg.width)), jnp.ones((1, asked), bool)

    def padded():
        (q, seen), d = query(), drawn(3, (count, longest, cfg.width))
        mask = jnp.asarray(np.arange(longest) < lengths[:, None])
        calls = {OURS: lambda: vectors.chamfer(q, d, seen, mask)}
        if peer is None:
            return calls
        torch, (x, y, kept) = peer.torch, peer.share(q, d, mask)

        def einsum():
            scores = torch.einsum("qtd,nsd->qnts", x, y).masked_fill(~kept[None, :, None], -torch.inf)
            return scores.amax(-1).sum(-1)

        return calls | peer.both(einsum)

    def ragged():
        (q, seen), tokens = query(), drawn(4, (total, cfg.width))
        offsets = jnp.asarray(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        calls = {OURS: lambda: vectors.chamfer_flat(q, seen, tokens, offsets)}
        if peer is None:
            return calls
        torch, (x, y) = peer.torch, peer.share(q, tokens)
        owners = torch.tensor(np.repeat(np.arange(count), lengths), device=peer.device)
        owners = owners[:, None].expand(-1, asked)

        def scattered():
            best = torch.full((count, asked), -torch.inf, device=peer.device)
            return best.scatter_reduce(0, owners, y @ x[0].T, "amax").sum(1)[None]

        return calls | peer.both(scattered)

    for task, size, arms in (("padded", count * longest, padded), ("ragged", total, ragged)):
        flops, moved = 2 * size * asked * cfg.width, 4 * size * cfg.width
        where = f"Chamfer, {task}", f"{count:,} documents", "pairs", count, "float32"
        yield Case("Chamfer", *where, flops, moved, arms, 1e-4, note)


def searches(cfg, card, peer):
    """Exact search for some numbers of queries at a time."""
    for wanted, width in zip(cfg.documents, cfg.widths, strict=True):
        queries, k = cfg.queries, min(cfg.k, wanted)

        def needed(n, width=width, queries=queries):
            return 4 * n * (width + 3 * max(queries))

        count, note = card.fitting(wanted, needed, "documents")
        documents = functools.cache(lambda count=count, width=width: drawn(5, (count, width), 0))

        def arms(asked, documents=documents, width=width, k=k):
            d, q = documents(), drawn(6, (asked, width), 0)
            calls = {OURS: lambda: search.top_k(q, d, k)}
            if peer is None:
                return calls
            x, y = peer.share(q, d)
            return calls | peer.both(lambda: peer.torch.topk(x @ y.T, k))

        for asked in queries:
            flops, moved = 2 * asked * count * width, 4 * count * width
            where = f"search {count:,} x {width:,}", f"{asked} at a time", "queries", asked, "float32"
            yield Case("exact search", *where, flops, moved, functools.partial(arms, asked), 1e-4, note)


def code_searches(cfg, card, peer):
    """Search of product codes by tables of products."""
    parts, k = cfg.code_bytes, min(cfg.k, cfg.codes)
    count, note = card.fitting(cfg.codes, lambda n: 25 * n * parts, "codes")

    def arms(asked):
        keys = jax.random.split(jax.random.key(7))
        codes = jax.random.randint(keys[0], (count, parts), 0, 256, jnp.uint8)
        tables = jax.random.normal(keys[1], (asked, parts, 256))
        calls = {OURS: lambda: search.scan_top_k(vectors.product_scores, tables, codes, k)}
        if peer is None:
            return calls
        torch, (x, y) = peer.torch, peer.share(tables, codes)
        begins = 256 * torch.arange(parts, device=peer.device)

        def gathered():
            places = y.long() + begins
            return torch.stack([torch.topk(one[places].sum(1), k)[0] for one in x.flatten(1)])

        return calls | peer.both(gathered)

    for asked in cfg.scans:
        flops, moved = asked * count * parts, count * parts
        where = f"search {count:,} codes of {parts} bytes", f"{asked} at a time", "queries", asked, "float32"
        yield Case("product codes", *where, flops, moved, functools.partial(arms, asked), 1e-4, note)
