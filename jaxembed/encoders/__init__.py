"""batches -> vectors: attention, transformers and pooling."""

from jaxembed.encoders.attention import Attention, dot_product_attention
from jaxembed.encoders.pooling import (
    attention_pool,
    cls_pool,
    init_attention_pool,
    last_pool,
    mean_pool,
    multi_vector,
)
from jaxembed.encoders.transformer import Block, Encoder, pooled, transformer
from jaxembed.encoders.words import weighted_bag

__all__ = [
    "Attention",
    "Block",
    "Encoder",
    "attention_pool",
    "cls_pool",
    "dot_product_attention",
    "init_attention_pool",
    "last_pool",
    "mean_pool",
    "multi_vector",
    "pooled",
    "transformer",
    "weighted_bag",
]
