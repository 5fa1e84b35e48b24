"""vectors -> one loss per example, and functions that turn losses into losses."""

from jaxembed.losses.cached import cached
from jaxembed.losses.contrastive import in_batch_mask, info_nce, sigmoid_loss, softmax_loss, symmetric
from jaxembed.losses.distillation import compression_loss, compression_target, margin_mse, score_kl, token_kl, vector_distance, vector_kl
from jaxembed.losses.gated import arbitrary_pair_loss, gated_cosine
from jaxembed.losses.guided_triplets import guided_triplet_loss
from jaxembed.losses.hardest import compatible, hardest
from jaxembed.losses.label_sets import concept_loss, retrofit_loss, shared_label_mask
from jaxembed.losses.layer_grids import diagonal_grid, espresso_grid, full_grid, layer_weights, sampled_weights, two_dimensional_weights
from jaxembed.losses.layer_objectives import adaptive_layers, espresso, layer_objective, score_kl_to_last, starbucks, two_dimensional, vector_kl_to_last
from jaxembed.losses.likelihood import frozen_softmax, masked_autoencoder, masked_words_loss
from jaxembed.losses.masks import duplicate_mask, guided_mask, violator_mask
from jaxembed.losses.nested import matryoshka, over_layers
from jaxembed.losses.paragraphs import infer_documents, init_paragraphs, paragraph_hidden, pv_dbow_loss, pv_dm_loss
from jaxembed.losses.quantised import dot_nce, quantised
from jaxembed.losses.queues import init_queue, push_queue, queued
from jaxembed.losses.ranking import angle, angle_objective, angle_scores, cosent, cosine_loss, cosine_scores, ranking_loss
from jaxembed.losses.sampled import init_frequency, log_frequency, sampled_softmax, spread_out, update_frequency
from jaxembed.losses.senses import context_vectors, gumbel_softmax, induce_sense, init_sense_centres, init_senses, nearest_sense, own_classifiers, prune_senses, sense_logits, sense_loss, sense_priors
from jaxembed.losses.supervised import class_loss, label_pairs, one_vs_rest_loss, partner_pairs, sample_partners
from jaxembed.losses.triplets import batch_triplet_loss, cross_version_triplet_loss, mine_triplets, triplet_loss
from jaxembed.losses.word_windows import noise_weights, window_gradients, window_loss, window_pairs
from jaxembed.losses.words import glove_loss, hierarchical_softmax, huffman, init_glove, init_word_scores, negative_sampling, word_hinge, word_scores


__all__ = [
    "adaptive_layers",
    "angle",
    "angle_objective",
    "angle_scores",
    "arbitrary_pair_loss",
    "batch_triplet_loss",
    "cached",
    "class_loss",
    "compatible",
    "compression_loss",
    "compression_target",
    "concept_loss",
    "context_vectors",
    "cosent",
    "cosine_loss",
    "cosine_scores",
    "cross_version_triplet_loss",
    "diagonal_grid",
    "dot_nce",
    "duplicate_mask",
    "espresso",
    "espresso_grid",
    "frozen_softmax",
    "full_grid",
    "gated_cosine",
    "glove_loss",
    "guided_mask",
    "guided_triplet_loss",
    "gumbel_softmax",
    "hardest",
    "hierarchical_softmax",
    "huffman",
    "in_batch_mask",
    "induce_sense",
    "infer_documents",
    "info_nce",
    "init_frequency",
    "init_glove",
    "init_paragraphs",
    "init_queue",
    "init_sense_centres",
    "init_senses",
    "init_word_scores",
    "label_pairs",
    "layer_objective",
    "layer_weights",
    "log_frequency",
    "margin_mse",
    "masked_autoencoder",
    "masked_words_loss",
    "matryoshka",
    "mine_triplets",
    "nearest_sense",
    "negative_sampling",
    "noise_weights",
    "one_vs_rest_loss",
    "over_layers",
    "own_classifiers",
    "paragraph_hidden",
    "partner_pairs",
    "prune_senses",
    "push_queue",
    "pv_dbow_loss",
    "pv_dm_loss",
    "quantised",
    "queued",
    "ranking_loss",
    "retrofit_loss",
    "sample_partners",
    "sampled_softmax",
    "sampled_weights",
    "score_kl",
    "score_kl_to_last",
    "sense_logits",
    "sense_loss",
    "sense_priors",
    "shared_label_mask",
    "sigmoid_loss",
    "softmax_loss",
    "spread_out",
    "starbucks",
    "symmetric",
    "token_kl",
    "triplet_loss",
    "two_dimensional",
    "two_dimensional_weights",
    "update_frequency",
    "vector_distance",
    "vector_kl",
    "vector_kl_to_last",
    "violator_mask",
    "window_gradients",
    "window_loss",
    "window_pairs",
    "word_hinge",
    "word_scores",
]
