"""ranks, scores and vectors -> numbers: metrics of rankings, of clicks, of whole tasks, and of shapes."""

from jaxembed.metrics.binary import (
    auc,
    auc_bins,
    auc_from_bins,
    calibration,
    expected_calibration_error,
    grouped_auc,
    log_loss,
    normalised_entropy,
)
from jaxembed.metrics.detection import box_average_precision, box_iou, iou, nms
from jaxembed.metrics.geometry import (
    covariance_spectrum,
    effective_rank,
    filter_rate,
    gate_statistics,
    high_frequency,
    isotropy,
    mean_cosine,
)
from jaxembed.metrics.intervals import paired_interval, share_interval
from jaxembed.metrics.mteb_encoder import MTEBEncoder
from jaxembed.metrics.probes import nearest_accuracy, neighbour_recall, partner_ranks, r_precision
from jaxembed.metrics.ranking import (
    average_precision,
    gains,
    has_relevant,
    judgments,
    masked_mean,
    mrr,
    ndcg,
    recall,
    sliced_means,
)
from jaxembed.metrics.tasks import (
    evaluate_classification,
    evaluate_clustering,
    evaluate_pairs,
    evaluate_retrieval,
    evaluate_similarity,
    spearman,
)
from jaxembed.metrics.ties import tied_gains
from jaxembed.metrics.verification import agglomerative_scores, all_pairs, kfold_verification, val_at_far

__all__ = [
    "MTEBEncoder",
    "agglomerative_scores",
    "all_pairs",
    "auc",
    "auc_bins",
    "auc_from_bins",
    "average_precision",
    "box_average_precision",
    "box_iou",
    "calibration",
    "covariance_spectrum",
    "effective_rank",
    "evaluate_classification",
    "evaluate_clustering",
    "evaluate_pairs",
    "evaluate_retrieval",
    "evaluate_similarity",
    "expected_calibration_error",
    "filter_rate",
    "gains",
    "gate_statistics",
    "grouped_auc",
    "has_relevant",
    "high_frequency",
    "iou",
    "isotropy",
    "judgments",
    "kfold_verification",
    "log_loss",
    "masked_mean",
    "mean_cosine",
    "mrr",
    "ndcg",
    "nearest_accuracy",
    "neighbour_recall",
    "nms",
    "normalised_entropy",
    "paired_interval",
    "partner_ranks",
    "r_precision",
    "recall",
    "share_interval",
    "sliced_means",
    "spearman",
    "tied_gains",
    "val_at_far",
]
