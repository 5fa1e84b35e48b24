"""batches -> vectors: attention, transformers and pooling."""

from jaxembed.encoders import pretrained
from jaxembed.encoders.attention import Attention, attention_mask, dot_product_attention
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
    "cls_pool",
    "distance_buckets",
    "dot_product_attention",
    "init_attention_pool",
    "init_latent_attention",
    "last_pool",
    "latent_attention_pool",
    "max_pool",
    "mean_pool",
    "multi_vector",
    "pooled",
    "pretrained",
    "rotary_frequencies",
    "rotate",
    "transformer",
    "weighted_bag",
    "weighted_mean_pool",
]
