"""Writes the numbers of public packages that test_golden.py compares ours with.

Run ``python tests/support/golden.py`` with the extra ``peers`` and muvfde installed; it overwrites
tests/support/golden/*.npz. Every file keeps its inputs, the outputs of the peer and, under "versions", which
versions gave them.
"""

import importlib.metadata
import pathlib

import fastembed.postprocess
import numpy as np
import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

FOLDER = pathlib.Path(__file__).parent / "golden"


def write(name, packages, **arrays):
    """Saves one file; float64 outputs of float32 computations are stored as float32."""
    versions = [f"{p}=={importlib.metadata.version(p)}" for p in packages]
    arrays = {
        k: v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for k, v in arrays.items()
    }
    np.savez_compressed(FOLDER / f"{name}.npz", versions=np.array(versions), **arrays)


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def muvera():
    """Vectors of sets of tokens; where two cells are equally near, the peer fills from the lower cell."""
    rng = np.random.default_rng(0)
    tokens = normal(rng, 4, 9, 8)
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    lengths = np.array([9, 5, 2, 1])
    for planes, projected in ((3, 4), (2, 8)):
        peer = fastembed.postprocess.Muvera(dim=8, k_sim=planes, dim_proj=projected, r_reps=5, random_seed=7)
        matrices = np.stack([p.simhash_vectors for p in peer.simhash_projections])
        if projected == 8:  # then the peer projects nothing
            projection = np.broadcast_to(np.eye(8), (5, 8, 8))
        else:
            projection = peer.dim_reduction_projections / np.sqrt(projected)
        sets = [t[:n] for t, n in zip(tokens, lengths, strict=True)]
        write(
            f"muvera_{planes}_planes",
            ["fastembed"],
            tokens=tokens,
            lengths=lengths,
            planes=matrices.astype(np.float32),
            projection=projection.astype(np.float32),
            queries=np.stack([peer.process_query(s) for s in sets]).astype(np.float32),
            documents=np.stack([peer.process_document(s) for s in sets]).astype(np.float32),
            settled=np.stack([settled(s, matrices) for s in sets]),
        )


def google():
    """The official C++ code as a wheel: its planes are found by bisection, its sketch from single tokens.

    Cells stand there in the order of a Gray code, and the sketch has no scale.
    """
    import muvfde

    width, repetitions, planes, projected = 6, 3, 3, 4
    basis = np.eye(width, dtype=np.float32)

    def encode(tokens, projection=0, document=False, fill=False):
        c = muvfde.fixed_dimensional_encoding_config()
        c.set_num_repetitions(repetitions)
        c.set_num_simhash_projections(planes)
        c.set_seed(5)
        if projection:
            c.set_projection_dimension(projection)
            c.set_projection_type(muvfde.projection_type.AMS_SKETCH)
        if document:
            c.set_encoding_type(muvfde.encoding_type.AVERAGE)
            c.enable_fill_empty(fill)
        out = muvfde.generate_fixed_dimensional_encoding(np.atleast_2d(tokens).astype(np.float32), c)
        return out.reshape(repetitions, 2**planes, projection or width)

    def sides(token):
        """Bool [R, k]: on which side of each plane the token lies."""
        rank = np.argmax(np.abs(encode(token)).sum(2) > 0, axis=1)
        code = rank ^ (rank >> 1)
        return (code[:, None] >> np.arange(planes)[::-1]) & 1 > 0

    first = sides(basis[0])
    matrices = np.zeros((repetitions, width, planes))
    matrices[:, 0] = np.where(first, 1, -1)
    for i in range(1, width):
        for r in range(repetitions):
            for j in range(planes):
                # The plane contains cos(a) e_0 + sin(a) e_i for one a in (-pi/2, pi/2).
                low, high = -np.pi / 2, np.pi / 2
                positive = sides(np.sin(low) * basis[i])[r, j]
                for _ in range(30):
                    middle = (low + high) / 2
                    same = sides(np.cos(middle) * basis[0] + np.sin(middle) * basis[i])[r, j] == positive
                    low, high = (middle, high) if same else (low, middle)
                matrices[r, i, j] = -matrices[r, 0, j] / np.tan(low)
    sketch = np.stack([encode(b, projected).sum(1) for b in basis], axis=1)
    tokens = normal(np.random.default_rng(4), 4, 7, width)
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    lengths = np.array([7, 4, 2, 1])
    sets = [t[:n] for t, n in zip(tokens, lengths, strict=True)]
    write(
        "muvera_google",
        ["muvfde"],
        tokens=tokens,
        lengths=lengths,
        planes=matrices.astype(np.float32),
        projection=sketch.astype(np.float32),
        queries=np.stack([encode(s, projected) for s in sets]),
        unfilled=np.stack([encode(s, projected, document=True) for s in sets]),
        documents=np.stack([encode(s, projected, document=True, fill=True) for s in sets]),
    )


def settled(tokens, planes):
    """Bool [R, cells]: the cell holds tokens, or exactly one occupied cell is nearest to it."""
    cells = 2 ** planes.shape[2]
    out = np.zeros((len(planes), cells), bool)
    for r, matrix in enumerate(planes):
        occupied = sorted(
            {int(sum(2**j for j in range(len(bits)) if bits[j])) for bits in tokens @ matrix > 0}
        )
        for cell in range(cells):
            distances = sorted((cell ^ other).bit_count() for other in occupied)
            out[r, cell] = len(distances) == 1 or distances[0] < distances[1]
    return out


def ranking():
    """Losses on cosines with temperature 1/20, their mean over the queries, and gradients."""
    rng = np.random.default_rng(1)
    queries, documents, hard = normal(rng, 6, 16), normal(rng, 6, 16), normal(rng, 2, 6, 16)
    saved = {"queries": queries, "documents": documents, "hard": hard}

    def loss(q, d, *more, **options):
        peer = MultipleNegativesRankingLoss(None, **options)
        return peer.compute_loss_from_embeddings([q, d, *more], None)

    def record(name, value, *inputs):
        saved[name] = value
        for part, gradient in zip(("queries", "documents"), torch.autograd.grad(value, inputs), strict=True):
            saved[f"{name}_gradient_{part}"] = gradient

    q, d, h = (torch.tensor(v, requires_grad=i < 2) for i, v in enumerate((queries, documents, hard)))
    record("pairs", loss(q, d), q, d)
    record("hard_negatives", loss(q, d, *h), q, d)
    directions = ("query_to_doc", "query_to_query", "doc_to_doc")
    record("blocks", loss(q, d, directions=directions), q, d)
    both = ("query_to_doc", "doc_to_query")
    record("both_directions", loss(q, d, directions=both, partition_mode="per_direction"), q, d)
    sizes = (4, 8, 16)
    record("matryoshka", sum(loss(F.normalize(q[:, :m]), F.normalize(d[:, :m])) for m in sizes), q, d)
    saved["sizes"] = np.array(sizes)
    scores = torch.tensor(normal(rng, 5, 7), requires_grad=True)
    labels = torch.tensor([3, 0, 6, 6, 2])
    each = F.cross_entropy(scores / 0.5, labels, reduction="none")
    saved |= {"scores": scores, "labels": labels, "cross_entropy": each}
    saved["cross_entropy_gradient"] = torch.autograd.grad(each.sum(), scores)[0]
    write("ranking", ["sentence-transformers", "torch"], **saved)


def bags():
    """Embedding bags over ids with padding at the end."""
    rng = np.random.default_rng(2)
    table, ids, lengths = normal(rng, 12, 5), rng.integers(0, 12, (4, 6)), np.array([6, 3, 1, 0])
    weights = rng.random((4, 6)).astype(np.float32)
    flat = np.concatenate([row[:n] for row, n in zip(ids, lengths, strict=True)])
    share = np.concatenate([row[:n] for row, n in zip(weights, lengths, strict=True)])
    offsets = torch.tensor(np.concatenate([[0], np.cumsum(lengths)[:-1]]))
    saved = {"table": table, "ids": ids, "lengths": lengths, "weights": weights}
    for mode in ("mean", "sum", "max"):
        bag = torch.nn.EmbeddingBag.from_pretrained(torch.tensor(table), mode=mode)
        saved[mode] = bag(torch.tensor(flat), offsets)
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.tensor(table), mode="sum")
    saved["weighted_sum"] = bag(torch.tensor(flat), offsets, torch.tensor(share))
    write("bags", ["torch"], **saved)


def blocks():
    """Attention, and one pre-norm layer with the tanh form of GELU, both with padding."""
    rng = np.random.default_rng(3)
    torch.manual_seed(3)
    layer = torch.nn.TransformerEncoderLayer(
        d_model=8,
        nhead=2,
        dim_feedforward=12,
        dropout=0.0,
        activation=lambda x: F.gelu(x, approximate="tanh"),
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    x, mask = normal(rng, 3, 5, 8), np.arange(5) < np.array([[5], [3], [1]])
    out = layer(torch.tensor(x), src_key_padding_mask=torch.tensor(~mask))
    saved = {f"layer.{k}": v for k, v in layer.state_dict().items()}
    q, k, v = normal(rng, 3, 3, 2, 5, 4)  # heads stand before tokens there
    seen = torch.tensor(mask)[:, None, None]
    attention = F.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), attn_mask=seen)
    write("blocks", ["torch"], x=x, mask=mask, out=out, q=q, k=k, v=v, attention=attention, **saved)


def sparse_adam():
    """Tables after each step of the lazy Adam, on lookups with repeated rows and rows never read."""
    rng = np.random.default_rng(4)
    start, ids, cotangents = normal(rng, 12, 3), rng.integers(0, 9, (5, 8)), normal(rng, 5, 8, 3)
    table = torch.nn.Embedding.from_pretrained(torch.tensor(start), freeze=False, sparse=True)
    rule = torch.optim.SparseAdam(table.parameters(), lr=0.05, betas=(0.9, 0.99), eps=1e-8)
    after = []
    for step in range(len(ids)):
        rule.zero_grad()
        (table(torch.tensor(ids[step])) * torch.tensor(cotangents[step])).sum().backward()
        rule.step()
        after.append(table.weight.detach().numpy().copy())
    write("sparse_adam", ["torch"], table=start, ids=ids, cotangents=cotangents, after=np.stack(after))


def product():
    """Product quantisers of 16 centres per part: one plain, one behind a rotation that the peer learned."""
    import faiss

    rng = np.random.default_rng(4)
    x = normal(rng, 400, 12) @ normal(rng, 12, 12)
    queries = normal(rng, 3, 12)
    saved = {"x": x, "queries": queries}
    for name, parts, bits in (("plain", 3, 4), ("rotated", 4, 4)):
        peer = faiss.IndexPQ(12, parts, bits, faiss.METRIC_INNER_PRODUCT)
        rows, asked = x, queries
        if name == "rotated":
            rotation = faiss.OPQMatrix(12, parts)
            rotation.train(x)
            saved["rotation"] = faiss.vector_to_array(rotation.A).reshape(12, 12).T
            rows, asked = rotation.apply(x), rotation.apply(queries)
        peer.train(rows)
        peer.add(rows[:50])
        centres = faiss.vector_to_array(peer.pq.centroids).reshape(parts, 2**bits, -1)
        codes = peer.pq.compute_codes(rows[:50])
        codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(50, -1)[:, :parts]
        scores, ids = peer.search(asked, 50)
        by_row = np.take_along_axis(scores, np.argsort(ids, axis=1), axis=1)
        tables = np.zeros((3, parts, 2**bits), np.float32)
        peer.pq.compute_inner_prod_tables(3, faiss.swig_ptr(asked), faiss.swig_ptr(tables))
        saved |= {f"{name}_codebooks": centres, f"{name}_codes": codes, f"{name}_scores": by_row}
        saved |= {f"{name}_decoded": peer.reconstruct_n(0, 50), f"{name}_tables": tables}
        errors = ((rows - peer.pq.decode(peer.pq.compute_codes(rows))) ** 2).sum()
        saved[f"{name}_error"] = np.float32(errors / len(rows))
    write("product", ["faiss-cpu"], **saved)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    muvera()
    google()
    ranking()
    bags()
    blocks()
    sparse_adam()
    product()
