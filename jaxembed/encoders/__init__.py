"""batches -> vectors or logits: attention, transformers, pooling and interactions of fields."""

from jaxembed.encoders import pretrained
from jaxembed.encoders.attention import Attention, attention_mask, attention_weights, dot_product_attention
from jaxembed.encoders.clicks import dcn, deepfm, dlrm, fm, init_dcn, init_deepfm, init_dlrm
from jaxembed.encoders.interactions import (
    cross_network,
    dot_interaction,
    fm_second_order,
    init_cross,
    init_mlp,
    mlp,
)
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
    "cross_network",
    "dcn",
    "deepfm",
    "distance_buckets",
    "dlrm",
    "dot_interaction",
    "dot_product_attention",
    "fm",
    "fm_second_order",
    "init_attention_pool",
    "init_cross",
    "init_dcn",
    "init_deepfm",
    "init_dlrm",
    "init_latent_attention",
    "init_mlp",
    "last_pool",
    "latent_attention_pool",
    "max_pool",
    "mean_pool",
    "mlp",
    "multi_vector",
    "pooled",
    "pretrained",
    "rotary_frequencies",
    "rotate",
    "transformer",
    "weighted_bag",
    "weighted_mean_pool",
]
