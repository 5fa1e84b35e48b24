"""batches -> vectors or logits: attention, transformers, pooling and interactions of fields."""

from jaxembed.encoders.attention import Attention, dot_product_attention
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
    "cross_network",
    "dcn",
    "deepfm",
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
    "init_mlp",
    "last_pool",
    "mean_pool",
    "mlp",
    "multi_vector",
    "pooled",
    "transformer",
    "weighted_bag",
]
