"""Vectors to ranks to numbers: exact search, metrics of rankings and of clicks, and indexes on disk."""

from jaxembed.search.building import add_documents, build_documents, delete_documents
from jaxembed.search.clicks import (
    auc,
    auc_bins,
    auc_from_bins,
    calibration,
    expected_calibration_error,
    grouped_auc,
    log_loss,
    normalised_entropy,
)
from jaxembed.search.documents import Documents, open_documents
from jaxembed.search.evaluation import (
    evaluate_classification,
    evaluate_clustering,
    evaluate_pairs,
    evaluate_retrieval,
    evaluate_similarity,
    spearman,
)
from jaxembed.search.export import build_faiss, build_usearch, open_faiss, open_usearch
from jaxembed.search.index import Index, embed, load_index, save_index
from jaxembed.search.mteb_encoder import MTEBEncoder
from jaxembed.search.pipeline import rerank, retrieve, single_vector_candidates
from jaxembed.search.ranking import average_precision, gains, judged, mean, mrr, ndcg, recall
from jaxembed.search.scan import scan_top_k
from jaxembed.search.topk import reciprocal_rank_fusion, top_k

__all__ = [
    "Documents",
    "Index",
    "MTEBEncoder",
    "add_documents",
    "auc",
    "auc_bins",
    "auc_from_bins",
    "average_precision",
    "build_documents",
    "build_faiss",
    "build_usearch",
    "calibration",
    "delete_documents",
    "embed",
    "evaluate_classification",
    "evaluate_clustering",
    "evaluate_pairs",
    "evaluate_retrieval",
    "evaluate_similarity",
    "expected_calibration_error",
    "gains",
    "grouped_auc",
    "judged",
    "load_index",
    "log_loss",
    "mean",
    "mrr",
    "ndcg",
    "normalised_entropy",
    "open_documents",
    "open_faiss",
    "open_usearch",
    "recall",
    "reciprocal_rank_fusion",
    "rerank",
    "retrieve",
    "save_index",
    "scan_top_k",
    "single_vector_candidates",
    "spearman",
    "top_k",
]
