"""Vectors to ranks to numbers: exact search, metrics of rankings, and indexes on disk."""

from jaxembed.search.evaluation import (
    MTEBEncoder,
    evaluate_classification,
    evaluate_clustering,
    evaluate_pairs,
    evaluate_retrieval,
    evaluate_similarity,
    spearman,
)
from jaxembed.search.index import Index, embed, load_index, save_index
from jaxembed.search.ranking import average_precision, gains, judged, mean, mrr, ndcg, recall
from jaxembed.search.topk import reciprocal_rank_fusion, top_k

__all__ = [
    "Index",
    "MTEBEncoder",
    "average_precision",
    "embed",
    "evaluate_classification",
    "evaluate_clustering",
    "evaluate_pairs",
    "evaluate_retrieval",
    "evaluate_similarity",
    "gains",
    "judged",
    "load_index",
    "mean",
    "mrr",
    "ndcg",
    "recall",
    "reciprocal_rank_fusion",
    "save_index",
    "spearman",
    "top_k",
]
