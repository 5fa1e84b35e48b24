"""ranks, scores and vectors -> numbers: metrics of rankings, of clicks, of whole tasks, and of shapes."""

from jaxembed.metrics.bias import analogy_pairs, direct_bias, indirect_bias, pair_bias, weat
from jaxembed.metrics.binary import auc, auc_bins, auc_from_bins, calibration, expected_calibration_error, grouped_auc, log_loss, normalised_entropy
from jaxembed.metrics.calibrate import fit_platt, init_score_adapter, relevance_logits, score_map, score_parameters, vector_logits
from jaxembed.metrics.classifiers import cross_validate, fit_logistic, macro_f1, stratified_folds
from jaxembed.metrics.clusters import adjusted_rand, purity, topic_coherence
from jaxembed.metrics.cutoff import filter_metrics, pr_auc, threshold_at_recall
from jaxembed.metrics.detection import box_average_precision, box_iou, iou, nms, proposal_recall
from jaxembed.metrics.generation import fit_judge, frechet_distance
from jaxembed.metrics.geometry import covariance_spectrum, effective_rank, filter_rate, gate_statistics, high_frequency, isotropy, linear_cka, mean_cosine, rsa
from jaxembed.metrics.interpretability import completeness, concept_auc, explanation_precision, pattern_purity
from jaxembed.metrics.intervals import paired_interval, share_interval
from jaxembed.metrics.lists import list_overlap, precision
from jaxembed.metrics.mteb_encoder import MTEBEncoder
from jaxembed.metrics.probes import linear_probe, nearest_accuracy, neighbour_recall, partner_ranks, r_precision
from jaxembed.metrics.ranking import average_precision, gains, has_relevant, judgments, masked_mean, mrr, ndcg, recall, sliced_means
from jaxembed.metrics.readability import intrusion, probe_selectivity
from jaxembed.metrics.tasks import evaluate_classification, evaluate_clustering, evaluate_pairs, evaluate_retrieval, evaluate_similarity, pearson, spearman
from jaxembed.metrics.ties import tied_gains
from jaxembed.metrics.verification import agglomerative_scores, all_pairs, kfold_verification, val_at_far
from jaxembed.metrics.word_benchmarks import gain_ratio, sense_similarity, word_analogies, word_similarity


__all__ = [
    "MTEBEncoder",
    "adjusted_rand",
    "agglomerative_scores",
    "all_pairs",
    "analogy_pairs",
    "auc",
    "auc_bins",
    "auc_from_bins",
    "average_precision",
    "box_average_precision",
    "box_iou",
    "calibration",
    "completeness",
    "concept_auc",
    "covariance_spectrum",
    "cross_validate",
    "direct_bias",
    "effective_rank",
    "evaluate_classification",
    "evaluate_clustering",
    "evaluate_pairs",
    "evaluate_retrieval",
    "evaluate_similarity",
    "expected_calibration_error",
    "explanation_precision",
    "filter_metrics",
    "filter_rate",
    "fit_judge",
    "fit_logistic",
    "fit_platt",
    "frechet_distance",
    "gain_ratio",
    "gains",
    "gate_statistics",
    "grouped_auc",
    "has_relevant",
    "high_frequency",
    "indirect_bias",
    "init_score_adapter",
    "intrusion",
    "iou",
    "isotropy",
    "judgments",
    "kfold_verification",
    "linear_cka",
    "linear_probe",
    "list_overlap",
    "log_loss",
    "macro_f1",
    "masked_mean",
    "mean_cosine",
    "mrr",
    "ndcg",
    "nearest_accuracy",
    "neighbour_recall",
    "nms",
    "normalised_entropy",
    "pair_bias",
    "paired_interval",
    "partner_ranks",
    "pattern_purity",
    "pearson",
    "pr_auc",
    "precision",
    "probe_selectivity",
    "proposal_recall",
    "purity",
    "r_precision",
    "recall",
    "relevance_logits",
    "rsa",
    "score_map",
    "score_parameters",
    "sense_similarity",
    "share_interval",
    "sliced_means",
    "spearman",
    "stratified_folds",
    "threshold_at_recall",
    "tied_gains",
    "topic_coherence",
    "val_at_far",
    "vector_logits",
    "weat",
    "word_analogies",
    "word_similarity",
]
