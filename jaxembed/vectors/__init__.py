"""Vectors to vectors or codes: functions on arrays that know no model, trainer, mesh or config."""

from jaxembed.vectors.late_interaction import ball_carve, chamfer, implicit_fde_score
from jaxembed.vectors.multivector import (
    center_fde,
    encode_documents,
    encode_queries,
    encode_set,
    encoding_length,
    estimate_chamfer,
    init_fde,
    truncate_fde,
)
from jaxembed.vectors.product import (
    decode_product,
    encode_product,
    fit_product,
    product_errors,
    product_scores,
    product_tables,
)

__all__ = [
    "ball_carve",
    "center_fde",
    "chamfer",
    "decode_product",
    "encode_documents",
    "encode_product",
    "encode_queries",
    "encode_set",
    "encoding_length",
    "estimate_chamfer",
    "fit_product",
    "implicit_fde_score",
    "init_fde",
    "product_errors",
    "product_scores",
    "product_tables",
    "truncate_fde",
]
