"""batches -> vectors or logits: transformers, convolutional nets, pooling, interactions of fields."""

from jaxembed.encoders import pretrained
from jaxembed.encoders.aspects import encode_aspect, encode_aspects, init_aspects
from jaxembed.encoders.attention import Attention, attention_mask, attention_weights, dot_product_attention
from jaxembed.encoders.augment import augment
from jaxembed.encoders.channel_graph import channel_graph
from jaxembed.encoders.conv_blocks import ConvBlock, chain, conv, inception, layer, residual
from jaxembed.encoders.conv_layers import batch_norm, convolve, group_norm, l2_pool, max_windows, response_norm
from jaxembed.encoders.convolution import ConvNet, convnet, nn2
from jaxembed.encoders.feature_masks import correlated_mask, drop_values, random_mask
from jaxembed.encoders.field_models import dcn, deepfm, dlrm, fm, init_dcn, init_deepfm, init_dlrm
from jaxembed.encoders.gates import film, gate, init_gate, modulate, squeeze, squeeze_excitation
from jaxembed.encoders.heads import concept_vectors, init_concepts, init_word_head, lift, one_block, prefix_dense, with_first
from jaxembed.encoders.image_text import ImageText, dual_encoder, init_scale, learned_temperature, shared_encoder
from jaxembed.encoders.interactions import cross_network, dot_interaction, fm_second_order, init_cross
from jaxembed.encoders.language_models import LanguageModel, language_model, token_logits
from jaxembed.encoders.map_heads import adaptive_pool, attention_head, init_attention_head
from jaxembed.encoders.mlp import init_mlp, mlp
from jaxembed.encoders.multimodal import Multimodal, check_placeholders, multimodal, place_patches
from jaxembed.encoders.open_vocabulary import cosine_logits, geometric_ensemble, prompt_ensemble, systematic_expansion
from jaxembed.encoders.pair_gates import gumbel_gate, init_pair_gate, pair_gate, stochastic_gate
from jaxembed.encoders.pooling import attention_pool, cls_pool, init_attention_pool, init_latent_attention, last_pool, latent_attention_pool, max_pool, mean_pool, multi_vector, pooled, scalar_mix, weighted_mean_pool
from jaxembed.encoders.positions import distance_buckets, rotary_frequencies, rotate
from jaxembed.encoders.pretrained import Encoder
from jaxembed.encoders.pretrained.adapters import read_adapters, write_adapters
from jaxembed.encoders.pretrained.causal import CausalModel, load_causal
from jaxembed.encoders.pretrained.image_models import ImageEncoder, efficientnet_lite0, mobilenet_v2, squeezenet
from jaxembed.encoders.pretrained.prompts import encode_prompted, instruction, pretrained_pooler, prompt_batch, with_prompts
from jaxembed.encoders.pyramids import condition_maps, init_conditioned, init_mask_head, init_merge, instance_norm, mask_head, merge_pyramid
from jaxembed.encoders.recurrent import end_pool, init_rcnn, init_rnn, rcnn, rnn, scan_cell
from jaxembed.encoders.regions import roi_align
from jaxembed.encoders.text_networks import TextNetwork, init_text_cnn, text_cnn, text_network
from jaxembed.encoders.token_budgets import compact, gated_mixture, grid_positions, init_mixture, init_resampler, resample, token_scores, top_p_mask
from jaxembed.encoders.topics import fit_idf, fit_lsa, init_lda, lda, lda_bound, lsa, tfidf, topic_bound, update_lda
from jaxembed.encoders.towers import encode_tower, init_tower, init_towers, tower
from jaxembed.encoders.transformer import Block, Transformer, transformer
from jaxembed.encoders.unet import UNet, timestep_embedding, unet
from jaxembed.encoders.words import weighted_bag


__all__ = [
    "Attention",
    "Block",
    "CausalModel",
    "ConvBlock",
    "ConvNet",
    "Encoder",
    "ImageEncoder",
    "ImageText",
    "LanguageModel",
    "Multimodal",
    "TextNetwork",
    "Transformer",
    "UNet",
    "adaptive_pool",
    "attention_head",
    "attention_mask",
    "attention_pool",
    "attention_weights",
    "augment",
    "batch_norm",
    "chain",
    "channel_graph",
    "check_placeholders",
    "cls_pool",
    "compact",
    "concept_vectors",
    "condition_maps",
    "conv",
    "convnet",
    "convolve",
    "correlated_mask",
    "cosine_logits",
    "cross_network",
    "dcn",
    "deepfm",
    "distance_buckets",
    "dlrm",
    "dot_interaction",
    "dot_product_attention",
    "drop_values",
    "dual_encoder",
    "efficientnet_lite0",
    "encode_aspect",
    "encode_aspects",
    "encode_prompted",
    "encode_tower",
    "end_pool",
    "film",
    "fit_idf",
    "fit_lsa",
    "fm",
    "fm_second_order",
    "gate",
    "gated_mixture",
    "geometric_ensemble",
    "grid_positions",
    "group_norm",
    "gumbel_gate",
    "inception",
    "init_aspects",
    "init_attention_head",
    "init_attention_pool",
    "init_concepts",
    "init_conditioned",
    "init_cross",
    "init_dcn",
    "init_deepfm",
    "init_dlrm",
    "init_gate",
    "init_latent_attention",
    "init_lda",
    "init_mask_head",
    "init_merge",
    "init_mixture",
    "init_mlp",
    "init_pair_gate",
    "init_rcnn",
    "init_resampler",
    "init_rnn",
    "init_scale",
    "init_text_cnn",
    "init_tower",
    "init_towers",
    "init_word_head",
    "instance_norm",
    "instruction",
    "l2_pool",
    "language_model",
    "last_pool",
    "latent_attention_pool",
    "layer",
    "lda",
    "lda_bound",
    "learned_temperature",
    "lift",
    "load_causal",
    "lsa",
    "mask_head",
    "max_pool",
    "max_windows",
    "mean_pool",
    "merge_pyramid",
    "mlp",
    "mobilenet_v2",
    "modulate",
    "multi_vector",
    "multimodal",
    "nn2",
    "one_block",
    "pair_gate",
    "place_patches",
    "pooled",
    "prefix_dense",
    "pretrained",
    "pretrained_pooler",
    "prompt_batch",
    "prompt_ensemble",
    "random_mask",
    "rcnn",
    "read_adapters",
    "resample",
    "residual",
    "response_norm",
    "rnn",
    "roi_align",
    "rotary_frequencies",
    "rotate",
    "scalar_mix",
    "scan_cell",
    "shared_encoder",
    "squeeze",
    "squeeze_excitation",
    "squeezenet",
    "stochastic_gate",
    "systematic_expansion",
    "text_cnn",
    "text_network",
    "tfidf",
    "timestep_embedding",
    "token_logits",
    "token_scores",
    "top_p_mask",
    "topic_bound",
    "tower",
    "transformer",
    "unet",
    "update_lda",
    "weighted_bag",
    "weighted_mean_pool",
    "with_first",
    "with_prompts",
    "write_adapters",
]
