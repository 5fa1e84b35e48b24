"""batches -> vectors or logits: transformers, convolutional nets, pooling, interactions of fields."""

from jaxembed.encoders import pretrained
from jaxembed.encoders.attention import Attention, attention_mask, attention_weights, dot_product_attention
from jaxembed.encoders.augment import augment
from jaxembed.encoders.conv_blocks import ConvBlock, chain, conv, inception, layer, residual
from jaxembed.encoders.conv_layers import (
    batch_norm,
    convolve,
    group_norm,
    l2_pool,
    max_windows,
    response_norm,
)
from jaxembed.encoders.convolution import ConvNet, convnet, nn2
from jaxembed.encoders.field_models import dcn, deepfm, dlrm, fm, init_dcn, init_deepfm, init_dlrm
from jaxembed.encoders.heads import init_word_head, lift, prefix_dense, with_first
from jaxembed.encoders.interactions import cross_network, dot_interaction, fm_second_order, init_cross
from jaxembed.encoders.mlp import init_mlp, mlp
from jaxembed.encoders.pair_gates import gumbel_gate, init_pair_gate, pair_gate, stochastic_gate
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
from jaxembed.encoders.pretrained.image_models import (
    ImageEncoder,
    efficientnet_lite0,
    mobilenet_v2,
    squeezenet,
)
from jaxembed.encoders.transformer import Block, Transformer, pooled, transformer
from jaxembed.encoders.words import weighted_bag

__all__ = [
    "Attention",
    "Block",
    "ConvBlock",
    "ConvNet",
    "Encoder",
    "ImageEncoder",
    "Transformer",
    "attention_mask",
    "attention_pool",
    "attention_weights",
    "augment",
    "batch_norm",
    "chain",
    "cls_pool",
    "conv",
    "convnet",
    "convolve",
    "cross_network",
    "dcn",
    "deepfm",
    "distance_buckets",
    "dlrm",
    "dot_interaction",
    "dot_product_attention",
    "efficientnet_lite0",
    "fm",
    "fm_second_order",
    "group_norm",
    "gumbel_gate",
    "inception",
    "init_attention_pool",
    "init_cross",
    "init_dcn",
    "init_deepfm",
    "init_dlrm",
    "init_latent_attention",
    "init_mlp",
    "init_pair_gate",
    "init_word_head",
    "l2_pool",
    "last_pool",
    "latent_attention_pool",
    "layer",
    "lift",
    "max_pool",
    "max_windows",
    "mean_pool",
    "mlp",
    "mobilenet_v2",
    "multi_vector",
    "nn2",
    "pair_gate",
    "pooled",
    "prefix_dense",
    "pretrained",
    "residual",
    "response_norm",
    "rotary_frequencies",
    "rotate",
    "squeezenet",
    "stochastic_gate",
    "transformer",
    "weighted_bag",
    "weighted_mean_pool",
    "with_first",
]
