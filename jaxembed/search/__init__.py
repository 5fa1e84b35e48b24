"""Vectors to ranks to numbers: exact search, metrics of rankings and of clicks, and indexes on disk."""

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
from jaxembed.search.index import Index, embed, load_index, save_index
from jaxembed.search.ranking import average_precision, gains, judged, mean, mrr, ndcg, recall
from jaxembed.search.topk import reciprocal_rank_fusion, top_k

__all__ = [
    "Index",
    "auc",
    "auc_bins",
    "auc_from_bins",
    "average_precision",
    "calibration",
    "embed",
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
    "recall",
    "reciprocal_rank_fusion",
    "save_index",
    "top_k",
]
