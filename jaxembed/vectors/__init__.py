"""Vectors to vectors or codes: functions on arrays that know no model, trainer, mesh or config."""

from jaxembed.vectors.multivector import chamfer, encode_documents, encode_queries, encode_set, init_fde
from jaxembed.vectors.product import (
    decode_product,
    encode_product,
    fit_product,
    product_errors,
    product_scores,
    product_tables,
)

__all__ = [
    "chamfer",
    "decode_product",
    "encode_documents",
    "encode_product",
    "encode_queries",
    "encode_set",
    "fit_product",
    "init_fde",
    "product_errors",
    "product_scores",
    "product_tables",
]
