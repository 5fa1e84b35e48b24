"""Training-free codes of equal bytes: several bits of every coordinate against one bit of more directions."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import search, vectors
from jaxembed.arrays import unit

WIDTH = 64
STEPS = (1.0, 0.996, 0.586, 0.335)  # of 1 to 4 bits, for normal coordinates of deviation 1
HASHES = (64, 128, 256)
NEIGHBOURS, ASKED = 10, 500


def planted(seed, count=4800, clusters=200):
    """Vectors around Gaussian centres, and queries that are noisy copies of some of them."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, WIDTH))
    rows = centres[rng.integers(0, clusters, count)] + rng.standard_normal((count, WIDTH))
    queries = rows[rng.permutation(count)[:ASKED]] + 0.3 * rng.standard_normal((ASKED, WIDTH))
    return unit(rows.astype(np.float32)), unit(queries.astype(np.float32))


def glosses(documents, queries, seed):
    """The strongest directions of a model's vectors, turned at random, which makes coordinates alike."""
    params = principal(documents)
    turn = jax.random.orthogonal(jax.random.key(seed), WIDTH)
    chosen = np.random.default_rng(seed).permutation(len(queries))[:ASKED]
    return tuple(unit(params(x) @ turn) for x in (documents, queries[chosen]))


def principal(x):
    mean = jnp.mean(x, axis=0)
    _, directions = jnp.linalg.eigh((x - mean).T @ (x - mean))
    return lambda y: (y - mean) @ directions[:, -WIDTH:]


def recalls(rows, queries, seed):
    """{(bits of a coordinate, coordinates): Recall@10 of the exact neighbours}."""
    exact = np.asarray(search.top_k(queries, rows, NEIGHBOURS)[1])
    deviation = jnp.std(rows)
    found = {}
    for loops, step in enumerate(STEPS):
        q, d = (vectors.uniform_levels(x, loops, step=step * deviation) for x in (queries, rows))
        found[loops + 1, WIDTH] = np.asarray(search.scan_top_k(vectors.level_scores, q, d, NEIGHBOURS)[1])
    for bits in HASHES[1:]:
        planes = vectors.random_hyperplanes(jax.random.key(seed), WIDTH, bits)
        q, d = (np.asarray(vectors.sign_codes(x @ planes)) for x in (queries, rows))
        found[1, bits] = np.asarray(search.hamming_top_k(q, d, NEIGHBOURS)[1])
    return {key: shared(exact, ids) for key, ids in found.items()}


def shared(exact, ids):
    return float(np.mean([len(set(a) & set(b)) for a, b in zip(exact, ids, strict=True)]) / exact.shape[1])


def draw(axes, rows):
    """Recall@10 against bits: solid for several bits of a coordinate, dashed for more coordinates."""
    for name, colour in (("planted clusters", "tab:blue"), ("definitions", "tab:orange")):
        mine = [row for row in rows if row["vectors"] == name]
        deep = [row for row in mine if row["code"].startswith(f"{WIDTH} x")]
        wide = [row for row in mine if row["code"].endswith("x 1")]
        for some, style, label in ((deep, "-", "64 coordinates"), (wide, "--", "one bit each")):
            x, y, e = ([row[key] or 0 for row in some] for key in ("bits", "Recall@10", "± Recall@10"))
            axes.errorbar(x, y, e, marker="o", ls=style, color=colour, label=f"{name}, {label}")
    axes.set(xlabel="bits", ylabel="Recall@10 of exact neighbours", title="without training")
