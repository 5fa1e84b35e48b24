"""Families of losses by name, their inputs, and jitted values with gradients."""

import itertools

import jax.numpy as jnp
import numpy as np

from jaxembed import losses

BLOCKS = [("qd", *rest) for n in range(4) for rest in itertools.combinations(("qq", "dd", "dq"), n)]
B, N, D = 5, 8, 6


def scores_loss(queries, documents, **options):
    """softmax_loss behind the signature of a loss on vectors."""
    return losses.softmax_loss(queries @ documents.T, **{"temperature": 0.5} | options)


def columns(blocks, queries=B, documents=N):
    return sum({"qd": documents, "dd": documents}.get(block, queries) for block in blocks or ("qd",))


def vectors(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, D)).astype(np.float32), rng.normal(size=(N, D)).astype(np.float32)


# Losses on rows that belong together: graded pairs, teachers, tables

TARGETS = np.array([0.0, 1.0, 0.4, 0.4, 0.9, 0.1], np.float32)
ROWS = len(TARGETS)


def rows(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(ROWS, D)).astype(np.float32), rng.normal(size=(ROWS, D)).astype(np.float32)


# Numbers of sentence-transformers and torch

GISTS = {  # as tests/support/golden_losses.py
    "gist": {"blocks": ("qd", "qq", "dd")},
    "gist_pairs": {},
    "gist_absolute": {"blocks": ("qd", "qq", "dd"), "margin": 0.1},
    "gist_relative": {"blocks": ("qd", "qq", "dd"), "margin": 0.1, "kind": "relative"},
}


def gist(options):
    def loss(q, d, f):
        mask = losses.guided_mask(f["guide"][: len(q)], f["guide"][len(q) :], **options)
        if "blocks" in options:  # there the hard negatives are compared with the queries alone
            hard = len(d) - len(q)
            mask = mask.at[:, mask.shape[1] - hard :].set(False)
        return losses.info_nce(q, d, where=mask, blocks=options.get("blocks", ("qd",)))

    return loss, ("gist_queries", "gist_documents")


def cosent_of(name):
    return lambda x, y, f: getattr(losses, name)(x, y, targets=f["targets"])


def scores_of(q, d, n):
    return jnp.einsum("bd,bkd->bk", q, jnp.concatenate([d[:, None], n], axis=1), precision="highest")


def two_dimensional(weighting):
    """The library's layers count the embeddings as a layer; its KL is summed over layers, times 0.3."""

    def loss(q, d, f):
        q, d = (jnp.pad(x, ((0, 0), (1, 0), (0, 0))) for x in (q, d))
        count = q.shape[1] - 1
        sizes = tuple(f["sizes"].tolist())
        shallow = [w / (count - 1) for w in losses.layer_weights(weighting, count)[:-1]]
        weights = np.outer([*shallow, 1.0], f["weights"]).ravel()
        task = losses.over_layers(losses.info_nce, losses.full_grid(range(1, count + 1), sizes), weights)
        grid = losses.full_grid(range(1, count), sizes[:1])
        align = [
            losses.over_layers(lambda v, x=x: losses.vector_kl(v, teacher=x[:, -1], temperature=0.3), grid)(x)
            for x in (q, d)
        ]
        return task(q, d) + 0.3 * (align[0] + align[1]) / 2

    return loss, ("query_layers", "document_layers")


def last_layer(q, d, f):
    sizes = tuple(f["sizes"].tolist())
    return losses.matryoshka(losses.info_nce, sizes, f["weights"])(q[:, -1], d[:, -1])


PUBLIC = {name: gist(options) for name, options in GISTS.items()}
PUBLIC |= {name: (cosent_of(name), ("first", "second")) for name in ("cosent", "angle")}
PUBLIC |= {
    "cosine": (cosent_of("cosine_loss"), ("first", "second")),
    "margin_mse": (
        lambda q, d, n, f: losses.margin_mse(q, d, n, teacher=f["teacher_scores"]),
        ("queries", "documents", "negatives"),
    ),
    "score_kl": (  # times temperature**2 there
        lambda q, d, n, f: (
            4 * losses.score_kl(scores_of(q, d, n), teacher=f["teacher_softmax"], temperature=2)
        ),
        ("queries", "documents", "negatives"),
    ),
    "feature_kl": (lambda x, f: losses.vector_kl(x, teacher=f["teacher"], temperature=0.3), ("student",)),
    "sigmoid": (
        lambda q, d, f: losses.sigmoid_loss(q, d, temperature=0.1, bias=-2.5),
        ("sigmoid_queries", "sigmoid_documents"),
    ),
    "frozen_softmax": (
        lambda x, f: losses.frozen_softmax(x, f["table"], positives=f["labels"], bias=f["bias"]),
        ("vectors",),
    ),
    "matryoshka": (last_layer, ("query_layers", "document_layers")),
}
PUBLIC["symmetric"] = (
    lambda q, d, f: losses.symmetric(losses.info_nce)(q, d),
    ("block_queries", "block_documents"),
)
for blocks in (("qd", "dq"), ("qd", "dd"), ("qd", "qq", "dd", "dq")):  # as tests/support/golden_losses.py
    for case, rows_each in (("pairs", 1), ("hard", 3)):
        PUBLIC[f"blocks_{'_'.join(blocks)}_{case}"] = (
            lambda q, d, f, b=blocks, n=rows_each: losses.info_nce(q, d[: n * len(q)], blocks=b),
            ("block_queries", "block_documents"),
        )
PUBLIC |= {f"matryoshka_2d_{w}": two_dimensional(w) for w in ("uniform", "log", "linear")}
