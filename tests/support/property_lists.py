"""What the properties of public functions leave out, and why; functions of ids."""

import numpy as np

from jaxembed import losses, metrics, search

# NaN is the documented value of these where a class, or every example, is missing.
MAY_BE_NAN = {
    "auc",
    "auc_from_bins",
    "calibration",
    "completeness",
    "expected_calibration_error",
    "grouped_auc",
}
MAY_BE_NAN |= {
    "gain_ratio",
    "intrusion",
    "log_loss",
    "normalised_entropy",
    "pearson",
    "rsa",
    "spearman",
    "word_similarity",
}
# Products and squares of these are not normalised: beyond float32 they are infinities of both signs.
PRODUCTS = {
    "compression_target",
    "dot_nce",
    "frozen_softmax",
    "margin_mse",
    "masked_words_loss",
    "triplet_loss",
}
PRODUCTS |= {
    "covariance_spectrum",
    "chamfer",
    "chamfer_flat",
    "esa_vectors",
    "estimate_chamfer",
    "fit_whiten",
}
PRODUCTS |= {"fit_dictionary", "implicit_fde_score", "soft_product", "sparse_similarity"}
PRODUCTS |= {"tree_window_gradients"}
# Examples of one class, or one value, are refused.
MAY_REFUSE = {"filter_metrics", "fit_platt", "kfold_verification", "pr_auc", "spearman"}
MAY_REFUSE |= {"soft_debias", "threshold_at_recall", "val_at_far"}
MASKED = {
    "cosine_loss",
    "vector_distance",
    "covariance_spectrum",
    "effective_rank",
    "isotropy",
    "mean_cosine",
}
MASKED |= {"high_frequency", "ball_carve", "chamfer", "chamfer_flat", "encode_documents", "encode_queries"}
MASKED |= {
    "encode_set",
    "centre_fde",
    "fit_centre",
    "fit_removal",
    "fit_whiten",
    "implicit_fde_score",
    "rerank",
}
MASKED |= {"canonical", "procrustes", "single_vector_candidates"}

HIGHER = "takes or returns functions; what it makes is drawn above"
GRIDS = "takes Python numbers"
FILES = "reads or writes files"
DRAWS = "draws parameters of given sizes"
RUNS = "runs an encoder, a training or a solver; tested in its room"
BY_HAND = "takes inputs that are made by hand, in tests of its module"
ELSEWHERE = {
    "losses": dict.fromkeys(
        ["adaptive_layers", "cached", "espresso", "layer_objective", "quantised", "queued"]
        + ["starbucks", "two_dimensional"],
        HIGHER,
    )
    | dict.fromkeys(["score_kl_to_last", "vector_kl_to_last", "masked_autoencoder", "retrofit_loss"], HIGHER)
    | dict.fromkeys(["diagonal_grid", "espresso_grid", "full_grid", "layer_weights"], GRIDS)
    | dict.fromkeys(
        [
            "init_frequency",
            "init_paragraphs",
            "init_queue",
            "init_sense_centres",
            "init_senses",
            "sample_partners",
            "sampled_weights",
        ],
        DRAWS,
    )
    | dict.fromkeys(["own_classifiers", "sense_penalty"], "has tests by hand")
    | {"two_dimensional_weights": DRAWS, "infer_documents": RUNS, "pv_dm_loss": RUNS}
    | {
        "push_queue": "has tests by hand",
        "token_kl": "has tests by hand",
        "one_vs_rest_loss": "has tests by hand",
    },
    "metrics": dict.fromkeys(["evaluate_classification", "evaluate_clustering", "evaluate_pairs"], RUNS)
    | dict.fromkeys(["MTEBEncoder", "evaluate_retrieval", "evaluate_similarity", "judgments"], RUNS)
    | dict.fromkeys(["pattern_purity", "proposal_recall", "topic_coherence"], BY_HAND)
    | dict.fromkeys(["init_score_adapter", "relevance_logits", "score_parameters", "vector_logits"], DRAWS),
    "vectors": dict.fromkeys(["SoftDebias"], "what soft_debias returns")
    | dict.fromkeys(["init_fde", "init_recurrent", "init_retrofit", "random_hyperplanes"], DRAWS)
    | {"encoding_length": GRIDS, "truncate_fde": GRIDS, "fit_product": RUNS, "recurrent_codes": RUNS},
    "tables": dict.fromkeys(["Feature", "Plan", "plan", "by_table", "bytes_of"], GRIDS)
    | dict.fromkeys(["row_update", "rowwise_adagrad", "sharded_rows"], HIGHER)
    | {"init_tables": DRAWS, "distinct": "is what touched calls"},
    "search": dict.fromkeys(["add_documents", "build_documents", "delete_documents", "open_documents"], FILES)
    | dict.fromkeys(
        ["CodeColumns", "Documents", "Index", "embed", "load_index", "save_index", "search_codes"], FILES
    )
    | dict.fromkeys(["build_faiss", "build_faiss_binary", "build_usearch"], FILES)
    | dict.fromkeys(["open_faiss", "open_faiss_binary", "open_usearch"], FILES)
    | {"retrieve": HIGHER},
}


PRODUCTS |= {"glove_loss", "hierarchical_softmax", "window_gradients", "window_loss", "word_scores"}
ELSEWHERE["metrics"] |= dict.fromkeys(["cross_validate", "fit_logistic", "stratified_folds"], RUNS)
ELSEWHERE["metrics"] |= {"macro_f1": BY_HAND, "probe_selectivity": RUNS}
ELSEWHERE["metrics"] |= {"macro_f1": BY_HAND, "fit_judge": RUNS, "linear_probe": RUNS}
ELSEWHERE["metrics"] |= {
    "frechet_distance": BY_HAND,
    "crop_frechet": BY_HAND,
    "pareto_front": BY_HAND,
    "linear_cka": BY_HAND,
}
ELSEWHERE["vectors"] |= {"slerp": BY_HAND}
ELSEWHERE["tables"] |= dict.fromkeys(["assigned", "exchanged_rows", "placement"], HIGHER)
ELSEWHERE["tables"] |= dict.fromkeys(
    ["exchange_overflow", "gradient_parts", "projection_variance", "row_norms"], BY_HAND
)
ELSEWHERE["losses"] |= {"huffman": BY_HAND, "init_glove": DRAWS, "init_word_scores": DRAWS}
METHODS = "a method of compressed tables, under the laws of test_methods_laws, or a part of one"
PATTERNS = "patterns of images; inputs are made by hand in test_visual_patterns and test_association"
ELSEWHERE["tables"] |= dict.fromkeys(
    [
        "Method",
        "adapt_emb",
        "alpt",
        "autodim",
        "autodim_widths",
        "autosrh",
        "autosrh_rule",
        "check_params",
        "compact_rows",
        "dedup",
        "deeplight",
        "dhe",
        "dpq",
        "evolve",
        "fields_of_rows",
        "fine_tuned",
        "full_table",
        "hash_table",
        "integer_table",
        "integer_update",
        "keep_largest",
        "kept_numbers",
        "kept_rows",
        "long_tail_slope",
        "masked_table",
        "mgqe",
        "mixed_dimensions",
        "narrow_table",
        "narrow_tables",
        "pep",
        "pep_left",
        "per_feature",
        "plan_method",
        "prefix_mask",
        "pruned_update",
        "quotient_remainder",
        "ragged_bytes",
        "ragged_lookup",
        "robe",
        "round_learned",
        "round_to_step",
        "row_margins",
        "row_mask",
        "sample_widths",
        "search_masks",
        "storage_bytes",
        "supernet",
        "surrogate_step",
        "tensor_train",
        "threshold_penalty",
        "touched_rows",
        "training_bytes",
        "within",
    ],
    METHODS,
)
ELSEWHERE["vectors"] |= dict.fromkeys(
    [
        "Patterns",
        "Rules",
        "association_rules",
        "candidate_channels",
        "channel_boxes",
        "channel_peaks",
        "channel_thresholds",
        "dilate",
        "mine_patterns",
        "pack_places",
        "pattern_boxes",
        "pattern_features",
        "pattern_response",
        "top_active",
    ],
    PATTERNS,
)


def judged(c, ids):
    known = np.unique(ids)[:2]
    return metrics.gains(ids[None], known[None], np.arange(1.0, len(known) + 1)[None])


BY_IDS = {
    "duplicate_mask": lambda c, ids: losses.duplicate_mask(ids),
    "label_pairs": lambda c, ids: losses.label_pairs(ids)["where"],
    "batch_triplet_loss": lambda c, ids: losses.batch_triplet_loss(c.x(6, 8), ids)[0],
    "spread_out": lambda c, ids: losses.spread_out(c.x(6, 8), ids=ids),
    "sampled_softmax": lambda c, ids: losses.sampled_softmax(c.x(6, 8), c.x(6, 8), ids=ids),
    "grouped_auc": lambda c, ids: metrics.grouped_auc(np.arange(6) % 2, c.share(6), ids),
    "gains": judged,
    "list_overlap": lambda c, ids: metrics.list_overlap(ids[None, :1], ids[None, 3:4], k=1),
    "neighbour_recall": lambda c, ids: metrics.neighbour_recall(c.x(6, 8), ids),
    "r_precision": lambda c, ids: metrics.r_precision(c.x(6, 8), ids),
    "nearest_accuracy": lambda c, ids: metrics.nearest_accuracy(c.x(6, 8), ids, c.x(6, 8), ids, k=2),
    "all_pairs": lambda c, ids: metrics.all_pairs(c.x(6, 8), ids)[1],
    "reciprocal_rank_fusion": lambda c, ids: search.reciprocal_rank_fusion([ids[None], ids[None, ::-1]], 3)[
        0
    ],
}
# Ids that are compared on the device have 32 bits, and ids that are returned have a sign.
REFUSES_LARGE_IDS = {"sampled_softmax", "reciprocal_rank_fusion"}
