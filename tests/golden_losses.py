"""Writes tests/golden/losses.npz, the numbers of public packages that test_losses.py compares ours with.

Run ``python tests/golden_losses.py`` with the extra ``peers`` installed. The file keeps the inputs, the
values and gradients of the peers and, under "versions", which versions gave them.
"""

import types

import numpy as np
import torch
import torch.nn.functional as F
from golden import normal, write
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer import losses

B, K, D = 7, 2, 9  # the width is odd where AnglE is not asked


def record(saved, name, value, inputs):
    """Keeps a value and its gradients by name."""
    saved[name] = value
    gradients = torch.autograd.grad(value, list(inputs.values()))
    saved |= {f"{name}_gradient_{key}": g for key, g in zip(inputs, gradients, strict=True)}
    return saved


def tensors(**arrays):
    return {name: torch.tensor(a, requires_grad=True) for name, a in arrays.items()}


def graded(rng):
    """Losses on pairs with grades, some of them equal."""
    x = tensors(first=normal(rng, B, D + 1), second=normal(rng, B, D + 1))
    targets = torch.tensor([0.0, 1.0, 0.4, 0.4, 0.9, 0.1, 0.4])
    saved = {**x, "targets": targets}
    for name, peer in (
        ("cosent", losses.CoSENTLoss(None)),
        ("angle", losses.AnglELoss(None)),
        ("cosine", losses.CosineSimilarityLoss(None)),
    ):
        record(saved, name, peer.compute_loss_from_embeddings(list(x.values()), targets), x)
    return saved


def teachers(rng):
    """Margins and distributions of a teacher."""
    x = tensors(queries=normal(rng, B, D), documents=normal(rng, B, D), negatives=normal(rng, B, K, D))
    columns = [x["queries"], x["documents"], *x["negatives"].unbind(1)]
    scores = torch.tensor(normal(rng, B, 1 + K))
    saved = {**x, "teacher_scores": scores}
    record(saved, "margin_mse", losses.MarginMSELoss(None).compute_loss_from_embeddings(columns, scores), x)
    peer = losses.DistillKLDivLoss(None, temperature=2.0)
    record(saved, "score_kl", peer.compute_loss_from_embeddings(columns, scores.softmax(1)), x)
    saved["teacher_softmax"] = scores.softmax(1)
    student, teacher = torch.tensor(normal(rng, B, D), requires_grad=True), torch.tensor(normal(rng, B, D))
    value = F.kl_div(F.log_softmax(student / 0.3, -1), F.softmax(teacher / 0.3, -1), reduction="batchmean")
    saved |= {"student": student, "teacher": teacher}
    return record(saved, "feature_kl", value, {"student": student})


def guided(rng):
    """The guided loss with one hard negative a query, for both kinds of margin."""
    x = tensors(gist_queries=normal(rng, B, D), gist_documents=normal(rng, 2 * B, D))
    guide = normal(rng, 3 * B, 4) + 0.5
    saved = {**x, "guide": guide}

    class Columns:
        """Gives the prepared vectors of a column."""

        def __init__(self, values):
            self.values = values

        def __call__(self, features):
            return {"sentence_embedding": self.values[features["column"]]}

    student = torch.cat(list(x.values())).split(B)
    for name, kind, margin, blocks in GUIDED:
        peer = losses.GISTEmbedLoss.__new__(losses.GISTEmbedLoss)
        torch.nn.Module.__init__(peer)
        peer.model, peer.guide = Columns(student), Columns(torch.tensor(guide).split(B))
        peer.temperature, peer.margin_strategy, peer.margin = 0.05, kind, margin
        peer.contrast_anchors = peer.contrast_positives = blocks
        peer.gather_across_devices = peer.must_retokenize = False
        peer.similarity_fct = torch.nn.CosineSimilarity(dim=-1)
        peer.cross_entropy_loss = torch.nn.CrossEntropyLoss()
        record(saved, name, peer([{"column": i} for i in range(3)], None), x)
    return saved


GUIDED = [
    ("gist", "absolute", 0.0, True),
    ("gist_pairs", "absolute", 0.0, False),
    ("gist_absolute", "absolute", 0.1, True),
    ("gist_relative", "relative", 0.1, True),
]


def entries(rng):
    """Every pair by itself with a sigmoid, and cross-entropy against a fixed table."""
    x = tensors(sigmoid_queries=normal(rng, B, D), sigmoid_documents=normal(rng, B, D))
    logits = 10 * F.normalize(x["sigmoid_queries"]) @ F.normalize(x["sigmoid_documents"]).T - 2.5
    each = F.binary_cross_entropy_with_logits(logits, torch.eye(B), reduction="none")
    saved = record(dict(x), "sigmoid", each.sum(1).mean(), x)
    vectors, table = torch.tensor(normal(rng, B, D), requires_grad=True), torch.tensor(normal(rng, 20, D))
    bias, labels = torch.tensor(normal(rng, 20)), torch.tensor([3, 0, 19, 3, 7, 7, 1])
    saved |= {"vectors": vectors, "table": table, "bias": bias, "labels": labels}
    value = F.cross_entropy(vectors @ table.T + bias, labels)
    return record(saved, "frozen_softmax", value, {"vectors": vectors})


DIRECTIONS = {
    "qd": "query_to_doc",
    "qq": "query_to_query",
    "dd": "doc_to_doc",
    "dq": "doc_to_query",
}
BLOCKS = [("qd", "dq"), ("qd", "dd"), ("qd", "qq", "dd", "dq")]


def directions(rng):
    """Queries and documents, with two hard negatives a query, that are candidates of one another."""
    x = tensors(block_queries=normal(rng, B, D), block_documents=normal(rng, 3 * B, D))
    saved = dict(x)
    queries, *documents = x["block_queries"], *x["block_documents"].split(B)
    for blocks in BLOCKS:
        chosen = tuple(DIRECTIONS[name] for name in blocks)
        for name, columns in (("pairs", documents[:1]), ("hard", documents)):
            peer = losses.MultipleNegativesRankingLoss(None, directions=chosen)
            value = peer.compute_loss_from_embeddings([queries, *columns], None)
            record(saved, f"blocks_{'_'.join(blocks)}_{name}", value, x)
    chosen = ("query_to_doc", "doc_to_query")
    peer = losses.MultipleNegativesRankingLoss(None, directions=chosen, partition_mode="per_direction")
    return record(saved, "symmetric", peer.compute_loss_from_embeddings([queries, *documents], None), x)


class Blocks(Transformer):
    """A transformer whose layers are given with the input."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.model = types.SimpleNamespace(config=types.SimpleNamespace(output_hidden_states=False))

    def forward(self, features):
        layers = list(features["layers"].unsqueeze(2).unbind(1))
        features |= {"all_layer_embeddings": layers, "token_embeddings": layers[-1]}
        return features


class Model(SentenceTransformer):
    """A model of one token: pooling leaves the vector as it is."""

    def __init__(self):
        torch.nn.Sequential.__init__(self, Blocks())

    def get_embedding_dimension(self):
        return D

    def forward(self, features):
        out = self[0].forward(features)
        return {"sentence_embedding": out["token_embeddings"][:, 0]}


def nested(rng):
    """Prefixes, and layers with prefixes, all of them in every step."""
    x = tensors(query_layers=normal(rng, B, 4, D), document_layers=normal(rng, B, 4, D))
    features = [{"layers": value} for value in x.values()]
    model = Model()
    ranking = losses.MultipleNegativesRankingLoss(model)
    weights = [1.0, 0.5, 2.0]
    options = {"matryoshka_dims": [D, 4, 2], "matryoshka_weights": weights}
    saved = {**x, "sizes": np.array(options["matryoshka_dims"]), "weights": np.array(weights)}
    record(saved, "matryoshka", losses.MatryoshkaLoss(model, ranking, **options)(features, None), x)
    for weighting in ("uniform", "log", "linear"):
        peer = losses.Matryoshka2dLoss(
            model, ranking, **options, n_layers_per_step=-1, n_dims_per_step=-1, layer_weighting=weighting
        )
        record(saved, f"matryoshka_2d_{weighting}", peer([dict(f) for f in features], None), x)
    return saved


if __name__ == "__main__":
    rng = np.random.default_rng(7)
    saved = graded(rng) | teachers(rng) | guided(rng) | entries(rng) | nested(rng)
    saved |= directions(np.random.default_rng(8))
    write("losses", ["sentence-transformers", "torch"], **saved)
