"""Calls of the public functions of the rooms on drawn arrays, and the shapes that they must give."""

import jax
import jax.numpy as jnp
import numpy as np
import property_words
from property_drawn import ANY

from jaxembed import losses, metrics, search, tables, vectors


def fde(c):
    return vectors.init_fde(c.key, 8, repetitions=2, planes=1, projected=4)


def product(c):
    return {"codebooks": np.ones((2, 4, 4), np.float32) * np.arange(4, dtype=np.float32)[:, None]}


def of_pairs(loss, c, **options):
    where = c.bools(c.B)
    return loss(c.x(c.B, c.D, where=where), c.x(c.B, c.D, where=where), where=where, **options)


def of_rows(loss, c, **options):
    vectors, where = c.rows()
    return loss(vectors, where=where, **options)


PLAN = tables.plan([tables.Feature("user", chunks=2)], rows=16, width=4, tables=2)
PARAGRAPHS = losses.init_paragraphs(jax.random.key(0), 5, 6, 8)

# {name: function of what is drawn to (result, its shape or shapes)}
LOSSES = {
    "angle": lambda c: (losses.angle(*c.pairs(), targets=c.share(c.B)), ()),
    "angle_objective": lambda c: (losses.angle_objective(*c.pairs(), targets=c.share(c.B)), ()),
    "angle_scores": lambda c: (losses.angle_scores(*c.pairs()), (c.B,)),
    "arbitrary_pair_loss": lambda c: (
        losses.arbitrary_pair_loss(
            c.q(),
            c.d(),
            jnp.abs(c.q()),
            labels=c.ints(2, c.B),
            partners=c.ints(2, c.B),
            key_labels=c.ints(2, c.N),
        ),
        (),
    ),
    "batch_triplet_loss": lambda c: (losses.batch_triplet_loss(c.q(), c.ints(2, c.B))[0], ()),
    "class_loss": lambda c: (losses.class_loss(c.x(c.N, 3), c.ints(3, c.N)), (c.N,)),
    "compression_loss": lambda c: (losses.compression_loss(c.q(), target=c.q()), (c.B,)),
    "compression_target": lambda c: (losses.compression_target(c.d(), 2), (c.N, 2)),
    "concept_loss": lambda c: (losses.concept_loss(c.x(c.B, 3), c.ints(2, c.B, 3)), (c.B,)),
    "cosent": lambda c: (losses.cosent(*c.pairs(), targets=c.share(c.B)), ()),
    "cosine_loss": lambda c: (of_pairs(losses.cosine_loss, c, targets=c.share(c.B)), (c.B,)),
    "cosine_scores": lambda c: (losses.cosine_scores(*c.pairs()), (c.B,)),
    "cross_version_triplet_loss": lambda c: (
        losses.cross_version_triplet_loss(*c.pairs(), c.ints(2, c.B))[0],
        (),
    ),
    "dot_nce": lambda c: (losses.dot_nce(c.q(), c.d(), where=c.bools(c.B, c.N)), (c.B,)),
    "duplicate_mask": lambda c: (losses.duplicate_mask(c.ints(3, c.B), c.ints(3, c.N)), (c.B, c.N)),
    "frozen_softmax": lambda c: (losses.frozen_softmax(c.q(), c.d(), positives=c.ints(c.N, c.B)), (c.B,)),
    "gated_cosine": lambda c: (losses.gated_cosine(c.q(), c.d(), jnp.abs(c.q())), (c.B, c.N)),
    "guided_mask": lambda c: (losses.guided_mask(c.q(), c.d()), (c.B, c.N)),
    "guided_triplet_loss": lambda c: (losses.guided_triplet_loss(c.q(), c.d(), c.q(), c.d()), (c.B,)),
    "in_batch_mask": lambda c: (losses.in_batch_mask(c.bools(c.B), c.B, 2 * c.B), (c.B, 2 * c.B)),
    "info_nce": lambda c: (losses.info_nce(c.q(), c.d(), where=c.bools(c.B, c.N)), (c.B,)),
    "label_pairs": lambda c: (losses.label_pairs(c.ints(2, c.B))["where"], (c.B, c.B)),
    "log_frequency": lambda c: (losses.log_frequency(losses.init_frequency(8), c.ints(90, c.N)), (c.N,)),
    "update_frequency": lambda c: (
        losses.update_frequency(losses.init_frequency(8), c.ints(90, c.N))["gap"],
        (1, 8),
    ),
    "margin_mse": lambda c: (
        losses.margin_mse(
            c.q(), c.q(), c.x(c.B, c.K, c.D), teacher=c.share(c.B, 1 + c.K), where=c.bools(c.B, c.K)
        ),
        (c.B,),
    ),
    "masked_words_loss": lambda c: (
        losses.masked_words_loss(
            lambda s: s, c.x(c.B, c.T, c.D), c.x(6, c.D), words=c.ints(6, c.B, c.T), where=c.bools(c.B, c.T)
        ),
        (c.B,),
    ),
    "mine_triplets": lambda c: (
        losses.mine_triplets(c.share(c.B, c.N), c.bools(c.B, c.N), where=c.bools(c.B, c.N))[0],
        (c.B, c.N),
    ),
    "paragraph_hidden": lambda c: (losses.paragraph_hidden(PARAGRAPHS, c.ints(5, c.B)), (c.B, 8)),
    "partner_pairs": lambda c: (losses.partner_pairs(c.ints(2, c.B), c.ints(2, c.B))["where"], (c.B, c.B)),
    "pv_dbow_loss": lambda c: (losses.pv_dbow_loss(PARAGRAPHS, c.ints(5, c.B), c.ints(6, c.B, c.T)), (c.B,)),
    "ranking_loss": lambda c: (losses.ranking_loss(c.x(c.N), targets=c.share(c.N), where=c.bools(c.N)), ()),
    "sampled_softmax": lambda c: (
        losses.sampled_softmax(
            c.q(), c.d(), ids=c.ints(9, c.N), log_q=-c.share(c.N), where=c.bools(c.B, c.N)
        ),
        (c.B,),
    ),
    "score_kl": lambda c: (
        losses.score_kl(c.x(c.B, c.N), teacher=c.x(c.B, c.N), where=c.bools(c.B, c.N)),
        (c.B,),
    ),
    "sequence_loss": lambda c: (
        losses.sequence_loss(c.x(c.B, c.T, 6), c.ints(6, c.B, c.T), c.bools(c.B, c.T)),
        (c.B,),
    ),
    "shared_label_mask": lambda c: (
        losses.shared_label_mask(c.ints(2, c.B, 3), c.ints(2, c.N, 3)),
        (c.B, c.N),
    ),
    "sigmoid_loss": lambda c: (losses.sigmoid_loss(c.q(), c.d(), where=c.bools(c.B, c.N)), (c.B,)),
    "softmax_loss": lambda c: (losses.softmax_loss(c.x(c.B, c.N), where=c.bools(c.B, c.N)), (c.B,)),
    "spread_out": lambda c: (losses.spread_out(c.q(), ids=c.ints(2, c.B), where=c.bools(c.B, c.B)), (c.B,)),
    "triplet_loss": lambda c: (losses.triplet_loss(*c.pairs(), c.q(), where=c.bools(c.B)), (c.B,)),
    "vector_distance": lambda c: (of_rows(losses.vector_distance, c, teacher=c.d()), (c.N,)),
    "vector_kl": lambda c: (losses.vector_kl(c.d(), teacher=c.d()), (c.N,)),
    "violator_mask": lambda c: (losses.violator_mask(c.q(), c.d()), (c.B, c.N)),
    "matryoshka": lambda c: (losses.matryoshka(losses.info_nce, (2, 8))(c.q(), c.d()), (c.B,)),
    "symmetric": lambda c: (losses.symmetric(losses.info_nce)(c.q(), c.d()), (c.B,)),
    "compatible": lambda c: (losses.compatible(losses.info_nce)(c.q(), c.d(), c.d()), (c.B,)),
    "hardest": lambda c: (losses.hardest(losses.info_nce, 2)(c.q(), c.d()), (c.B,)),
    "over_layers": lambda c: (
        losses.over_layers(losses.info_nce, [(1, 4), (2, 8)])(c.x(c.B, 3, c.D), c.x(c.N, 3, c.D)),
        (c.B,),
    ),
}


def binary(name):
    def case(c):
        weights = {"where": c.bools(c.N), "weights": c.share(c.N)}
        return getattr(metrics, name)(c.ints(2, c.N), c.share(c.N), **weights), ()

    return case


BINARY = ("auc", "log_loss", "calibration", "expected_calibration_error", "normalised_entropy")
METRICS = {name: binary(name) for name in BINARY} | {
    "auc_bins": lambda c: (
        metrics.auc_bins(c.ints(2, c.N), c.share(c.N), bins=8, where=c.bools(c.N)),
        (2, 8),
    ),
    "auc_from_bins": lambda c: (metrics.auc_from_bins(c.ints(9, 2, 8))[0], ()),
    "average_precision": lambda c: (metrics.average_precision(c.share(c.B, c.N), c.share(c.B, c.K)), (c.B,)),
    "box_iou": lambda c: (metrics.box_iou(boxes(c, c.B), boxes(c, c.N)), (c.B, c.N)),
    "explanation_precision": lambda c: (
        metrics.explanation_precision(c.ints(4, c.B, 2), c.ints(2, c.B, 4)),
        (),
    ),
    "box_average_precision": lambda c: (metrics.box_average_precision(detected(c), truths(c)), ANY),
    "filter_metrics": lambda c: (
        metrics.filter_metrics(c.ints(2, c.B, c.N), c.share(c.B, c.N), 0.5, where=c.bools(c.B, c.N)),
        ANY,
    ),
    "kfold_verification": lambda c: (
        metrics.kfold_verification(c.share(c.N), c.bools(c.N), folds=2, far=0.5),
        ANY,
    ),
    "agglomerative_scores": lambda c: (
        metrics.agglomerative_scores(c.d(), c.ints(2, c.N), clusters=2),
        ANY,
    ),
    "completeness": lambda c: (metrics.completeness(c.share(c.B, 3), c.share(c.B)), ()),
    "concept_auc": lambda c: (metrics.concept_auc(c.x(c.N, 3), c.ints(2, c.N, 3)), ()),
    "covariance_spectrum": lambda c: (counted(metrics.covariance_spectrum, c), (c.D,)),
    "effective_rank": lambda c: (counted(metrics.effective_rank, c), ()),
    "filter_rate": lambda c: (metrics.filter_rate(c.x(c.B, c.T, c.T), c.bools(c.B, c.T)), (c.B,)),
    "gains": lambda c: (
        metrics.gains(c.ints(9, c.B, c.N), distinct(c, c.B, c.K), c.share(c.B, c.K)),
        (c.B, c.N),
    ),
    "gate_statistics": lambda c: (metrics.gate_statistics(c.share(c.B, 3)), ANY),
    "grouped_auc": lambda c: (
        metrics.grouped_auc(c.ints(2, c.N), c.share(c.N), c.ints(2, c.N), where=c.bools(c.N)),
        (),
    ),
    "has_relevant": lambda c: (metrics.has_relevant(c.share(c.B, c.K)), (c.B,)),
    "high_frequency": lambda c: (metrics.high_frequency(*c.tokens()), (c.B, c.T, c.D)),
    "iou": lambda c: (metrics.iou(c.bools(c.B, 3, 3), c.bools(c.B, 3, 3)), (c.B,)),
    "isotropy": lambda c: (counted(metrics.isotropy, c), ANY),
    "list_overlap": lambda c: (
        metrics.list_overlap(distinct(c, c.B, c.N), distinct(c, c.B, c.N), k=2),
        (c.B,),
    ),
    "masked_mean": lambda c: (metrics.masked_mean(c.x(c.B), c.bools(c.B)), ()),
    "mean_cosine": lambda c: (metrics.mean_cosine(*c.tokens()), (c.B,)),
    "mrr": lambda c: (metrics.mrr(c.share(c.B, c.N), c.share(c.B, c.K)), (c.B,)),
    "ndcg": lambda c: (metrics.ndcg(c.share(c.B, c.N), c.share(c.B, c.K)), (c.B,)),
    "nearest_accuracy": lambda c: (
        metrics.nearest_accuracy(c.d(), c.ints(2, c.N), c.q(), c.ints(2, c.B), k=2),
        (),
    ),
    "neighbour_recall": lambda c: (metrics.neighbour_recall(c.d(), c.ints(2, c.N)), ()),
    "nms": lambda c: (metrics.nms(boxes(c, c.N), c.share(c.N), most=2, where=c.bools(c.N))[0], (2,)),
    "all_pairs": lambda c: (metrics.all_pairs(c.d(), c.ints(2, c.N))[0], (c.N * (c.N - 1) // 2,)),
    "paired_interval": lambda c: (metrics.paired_interval(c.x(5, c.B))[0], (c.B,)),
    "partner_ranks": lambda c: (metrics.partner_ranks(c.q(), c.d()), (c.B,)),
    "pr_auc": lambda c: (metrics.pr_auc(c.ints(2, c.N), c.share(c.N), where=c.bools(c.N)), ()),
    "precision": lambda c: (metrics.precision(c.share(c.B, c.N)), (c.B,)),
    "r_precision": lambda c: (metrics.r_precision(c.d(), c.ints(2, c.N)), ()),
    "recall": lambda c: (metrics.recall(c.share(c.B, c.N), c.share(c.B, c.K)), (c.B,)),
    "score_map": lambda c: (metrics.score_map(c.share(c.B, c.N), c.x(c.B, 3), kind="power"), (c.B, c.N)),
    "share_interval": lambda c: (metrics.share_interval(c.ints(4, c.B), np.full(c.B, 5))[0], (c.B,)),
    "sliced_means": lambda c: (
        metrics.sliced_means(c.share(c.B), c.ints(9, c.B), [2, 5], where=c.bools(c.B))[0],
        (3,),
    ),
    "spearman": lambda c: (metrics.spearman(c.share(c.N), c.share(c.N)), ()),
    "threshold_at_recall": lambda c: (metrics.threshold_at_recall(c.ints(2, c.N), c.share(c.N)), ()),
    "tied_gains": lambda c: (metrics.tied_gains(c.share(c.B, c.N), c.share(c.B, c.N)), (c.B, c.N)),
    "val_at_far": lambda c: (metrics.val_at_far(c.share(c.N), c.bools(c.N))[0], ()),
    "fit_platt": lambda c: (metrics.fit_platt(c.ints(2, c.N), c.share(c.N)), (1, 2)),
}


def boxes(c, count):
    low = c.share(count, 2)
    return np.concatenate([low, low + c.share(count, 2)], axis=-1)


def truths(c):
    return {"images": c.ints(2, c.N), "classes": c.ints(2, c.N), "boxes": boxes(c, c.N)}


def detected(c):
    return truths(c) | {"scores": c.share(c.N)}


def distinct(c, rows, count):
    return np.array([c.rng.permutation(12)[:count] for _ in range(rows)], np.int32).reshape(rows, count)


def counted(function, c):
    vectors, where = c.rows()
    return function(vectors, where=where)


VECTORS = {
    "ball_carve": lambda c: (vectors.ball_carve(*c.tokens())[0], (c.B, c.T, c.D)),
    "binary_bottleneck": lambda c: (vectors.binary_bottleneck(c.q()), (c.B, c.D)),
    "bits_to_levels": lambda c: (vectors.bits_to_levels(c.ints(256, c.N, 2, 1).astype(np.uint8)), (c.N, 8)),
    "byte_products": lambda c: (vectors.byte_products(levels(c, c.B), levels(c, c.N)), (c.B, c.N)),
    "chamfer": lambda c: (vectors.chamfer(*c.sets()), (c.B, c.N)),
    "chamfer_flat": lambda c: (
        vectors.chamfer_flat(*c.tokens(), c.x(6, c.D), np.array([0, 2, 2, 6])),
        (c.B, 3),
    ),
    "combine_aspects": lambda c: (vectors.combine_aspects(c.x(c.B, 2, c.D)), (c.B, 2 * c.D)),
    "decode_product": lambda c: (vectors.decode_product(product(c), c.ints(4, c.B, 2)), (c.B, 8)),
    "encode_product": lambda c: (vectors.encode_product(product(c), c.q()), (c.B, 2)),
    "encode_documents": lambda c: (vectors.encode_documents(fde(c), *c.tokens()), (c.B, 16)),
    "encode_queries": lambda c: (vectors.encode_queries(fde(c), *c.tokens()), (c.B, 16)),
    "encode_set": lambda c: (vectors.encode_set(fde(c), *c.tokens()), (c.B, 16)),
    "centre_fde": lambda c: (vectors.centre_fde(fde(c), *c.tokens())["centre"], (8,)),
    "entry_means": lambda c: (vectors.entry_means(c.d(), c.ints(3, c.N), 3), (3, c.D)),
    "esa_vectors": lambda c: (vectors.esa_vectors(c.q(), c.d()), (c.B, c.N)),
    "estimate_chamfer": lambda c: (vectors.estimate_chamfer(fde(c), c.x(c.B, 16), c.x(c.N, 16)), (c.B, c.N)),
    "explain": lambda c: (vectors.explain(*c.pairs(), top=2)[1], (c.B, 2)),
    "explicit_similarity": lambda c: (vectors.explicit_similarity(c.q(), c.d()), (c.B, c.N)),
    "fit_centre": lambda c: (counted(vectors.fit_centre, c)["mean"], (c.D,)),
    "fit_removal": lambda c: (counted(vectors.fit_removal, c)["mean"], (c.D,)),
    "fit_whiten": lambda c: (counted(vectors.fit_whiten, c)["kernel"], (c.D, c.D)),
    "fit_scalar": lambda c: (vectors.fit_scalar(c.d())["step"], ()),
    "encode_scalar": lambda c: (vectors.encode_scalar(vectors.fit_scalar(np.eye(8)), c.q()), (c.B, c.D)),
    "decode_scalar": lambda c: (
        vectors.decode_scalar(vectors.fit_scalar(np.eye(8)), levels(c, c.B)),
        (c.B, 8),
    ),
    "scalar_scores": lambda c: (vectors.scalar_scores(c.q(), levels(c, c.N)), (c.B, c.N)),
    "hamming": lambda c: (vectors.hamming(packed(c, c.B), packed(c, c.N)), (c.B, c.N)),
    "implicit_fde_score": lambda c: (vectors.implicit_fde_score(fde(c)["planes"], *c.sets()), (c.B, c.N)),
    "level_scores": lambda c: (vectors.level_scores(levels(c, c.B), levels(c, c.N)), (c.B, c.N)),
    "level_tables": lambda c: (vectors.level_tables(c.q(), 1), (c.B, c.D, 4)),
    "pack_bits": lambda c: (vectors.pack_bits(c.bools(c.B, 16)), (c.B, 2)),
    "unpack_bits": lambda c: (vectors.unpack_bits(packed(c, c.B)), (c.B, 16)),
    "product_errors": lambda c: (vectors.product_errors(product(c), c.q()), (c.B,)),
    "product_scores": lambda c: (vectors.product_scores(c.x(c.B, 2, 4), c.ints(4, c.N, 2)), (c.B, c.N)),
    "product_tables": lambda c: (vectors.product_tables(product(c), c.q()), (c.B, 2, 4)),
    "quantise_product": lambda c: (vectors.quantise_product(product(c), c.q()), (c.B, 8)),
    "soft_product": lambda c: (vectors.soft_product(product(c), c.q()), (c.B, 2, 4)),
    "plane_scores": lambda c: (
        vectors.plane_scores(levels(c, c.B), c.ints(256, c.N, 2, 1).astype(np.uint8)),
        (c.B, c.N),
    ),
    "scalar_distance_bound": lambda c: (
        vectors.scalar_distance_bound(vectors.fit_scalar(np.eye(8)), c.share(c.B), 8),
        (c.B,),
    ),
    "sign_codes": lambda c: (vectors.sign_codes(c.q()), (c.B, 1)),
    "sparse_similarity": lambda c: (
        vectors.sparse_similarity(c.q(), c.ints(8, c.N, 2), c.x(c.N, 2)),
        (c.B, c.N),
    ),
    "standardise": lambda c: (
        vectors.standardise({"mean": np.zeros(8, np.float32), "kernel": np.eye(8, dtype=np.float32)}, c.q()),
        (c.B, 8),
    ),
    "straight_through_sign": lambda c: (vectors.straight_through_sign(c.q()), (c.B, c.D)),
    "top_concepts": lambda c: (vectors.top_concepts(c.q(), 2)[1], (c.B, 2)),
    "uniform_levels": lambda c: (vectors.uniform_levels(c.q(), 1, step=0.5), (c.B, c.D)),
    "code_levels": lambda c: (vectors.code_levels(np.where(c.q() > 0, 1.5, -1.5), 1), (c.B, c.D)),
    "levels_to_bits": lambda c: (
        vectors.levels_to_bits(2 * c.ints(2, c.B, 8).astype(np.int8) - 1, 0),
        (c.B, 1, 1),
    ),
    "retrofit": lambda c: (vectors.retrofit(vectors.init_retrofit(c.key, 8, hidden=()), c.q()), (c.B, 8)),
}


def levels(c, count):
    return c.ints(127, count, 8).astype(np.int8)


def packed(c, count):
    return c.ints(256, count, 2).astype(np.uint8)


TABLES = {
    "codes": lambda c: (tables.codes(PLAN, {"user": c.ints(2**31 - 1, c.B)})["user"], (c.B, 2)),
    "lookup": lambda c: (
        tables.lookup(PLAN, tables.init_tables(c.key, PLAN), tables.codes(PLAN, {"user": c.ints(90, c.B)}))[
            "user"
        ],
        (c.B, 8),
    ),
    "rows_of": lambda c: (tables.rows_of(c.x(6, 4), c.rng.integers(-9, 9, (c.B, 2))), (c.B, 2, 4)),
    "collision_stats": lambda c: (tables.collision_stats(c.ints(6, c.N), c.ints(2, c.N)), ANY),
    "touched": lambda c: (tables.touched(PLAN, {"user": c.ints(90, c.B)}, {}, 8), ANY),
    "stochastic_round": lambda c: (tables.stochastic_round(c.key, c.q(), jnp.bfloat16), (c.B, c.D)),
    "reader_angles": lambda c: (tables.reader_angles(c.x(c.T, c.D)), (c.T, c.T)),
    "reader_overlap": lambda c: (tables.reader_overlap(c.q(), c.d()), ()),
}
SEARCH = {
    "top_k": lambda c: (search.top_k(c.q(), c.d(), 2)[0], (c.B, 2)),
    "scan_top_k": lambda c: (search.scan_top_k(lambda q, d: q @ d.T, c.q(), c.d(), 2)[0], (c.B, 2)),
    "funnel": lambda c: (search.funnel(c.q(), c.d(), 1, sizes=[4, 8], shortlists=[2])[0], (c.B, 1)),
    "hamming_top_k": lambda c: (search.hamming_top_k(packed(c, c.B), packed(c, c.N), 2)[0], (c.B, 2)),
    "code_columns": lambda c: (
        search.hamming_top_k(packed(c, c.B), search.code_columns(packed(c, c.N)), 2)[1],
        (c.B, 2),
    ),
    "reciprocal_rank_fusion": lambda c: (
        search.reciprocal_rank_fusion([distinct(c, c.B, c.N), distinct(c, c.B, c.K)], 3)[0],
        (c.B, 3),
    ),
    "rerank_vectors": lambda c: (search.rerank_vectors(c.q(), c.ints(c.N, c.B, 2), c.d())[0], (c.B, 2)),
    "rerank": lambda c: (
        search.rerank(
            *c.tokens(),
            np.tile(np.arange(2), (c.B, 1)),
            score=vectors.chamfer,
            tokens=c.x(6, c.D),
            offsets=np.array([0, 2, 6]),
        )[0],
        (c.B, 2),
    ),
    "single_vector_candidates": lambda c: (
        search.single_vector_candidates(c.x(6, c.D), np.array([0, 2, 6]), *c.tokens(), 2),
        (c.B, 2),
    ),
}
LOSSES |= property_words.LOSSES
METRICS |= property_words.METRICS
VECTORS |= property_words.VECTORS
ROOMS = {"losses": LOSSES, "metrics": METRICS, "vectors": VECTORS, "tables": TABLES, "search": SEARCH}


# Sizes that are read by the methods and helpers of a case, for the axes that can be empty.
READS = {"q": "B", "d": "N", "pairs": "B", "sets": "BNT", "tokens": "BT", "rows": "N", "counted": "N"}
READS |= {"of_pairs": "B", "of_rows": "N", "truths": "N", "detected": "N"} | {name: name for name in "BNTK"}
READS |= {"paired": "N", "asked": "N"}


def axes_of(room, name):
    """The sizes that a case reads."""
    code = ROOMS[room][name].__code__
    return sorted(set("".join(READS.get(word, "") for word in code.co_names)))
