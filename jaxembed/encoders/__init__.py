"""batches -> vectors or logits: attention, transformers, pooling and interactions of fields."""

from jaxembed.encoders import pretrained
from jaxembed.encoders.aspects import encode_aspect, encode_aspects, init_aspects
from jaxembed.encoders.attention import Attention, attention_mask, attention_weights, dot_product_attention
from jaxembed.encoders.field_models import dcn, deepfm, dlrm, fm, init_dcn, init_deepfm, init_dlrm
from jaxembed.encoders.heads import (
    concept_vectors,
    init_concepts,
    init_word_head,
    lift,
    prefix_dense,
    with_first,
)
from jaxembed.encoders.interactions import cross_network, dot_interaction, fm_second_order, init_cross
from jaxembed.encoders.mlp import init_mlp, mlp
from jaxembed.encoders.pooling import (
    attention_pool,
    cls_pool,
    init_attention_pool,
    init_latent_attention,
    last_pool,
    latent_attention_pool,
    max_pool,
    mean_pool,
    multi_vector,
    weighted_mean_pool,
)
from jaxembed.encoders.positions import distance_buckets, rotary_frequencies, rotate
from jaxembed.encoders.pretrained import Encoder
from jaxembed.encoders.transformer import Block, Transformer, pooled, transformer
from jaxembed.encoders.words import weighted_bag

__all__ = [
    "Attention",
    "Block",
    "Encoder",
    "Transformer",
    "attention_mask",
    "attention_pool",
    "attention_weights",
    "cls_pool",
    "concept_vectors",
    "cross_network",
    "dcn",
    "deepfm",
    "distance_buckets",
    "dlrm",
    "dot_interaction",
    "dot_product_attention",
    "encode_aspect",
    "encode_aspects",
    "fm",
    "fm_second_order",
    "init_aspects",
    "init_attention_pool",
    "init_concepts",
    "init_cross",
    "init_dcn",
    "init_deepfm",
    "init_dlrm",
    "init_latent_attention",
    "init_mlp",
    "init_word_head",
    "last_pool",
    "latent_attention_pool",
    "lift",
    "max_pool",
    "mean_pool",
    "mlp",
    "multi_vector",
    "pooled",
    "prefix_dense",
    "pretrained",
    "rotary_frequencies",
    "rotate",
    "transformer",
    "weighted_bag",
    "weighted_mean_pool",
    "with_first",
]
