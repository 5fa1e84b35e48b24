"""Vectors to vectors or codes: functions on arrays that know no model, trainer, mesh or config."""

from jaxembed.vectors.late_interaction import ball_carve, chamfer, chamfer_flat, implicit_fde_score
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
from jaxembed.vectors.normalize import (
    entry_means,
    fit_centre,
    fit_removal,
    fit_whiten,
    isotropy,
    progressive,
    standardize,
)
from jaxembed.vectors.product import (
    decode_product,
    encode_product,
    fit_product,
    product_errors,
    product_scores,
    product_tables,
)
from jaxembed.vectors.smoothing import filter_rate, high_frequency, mean_cosine

__all__ = [
    "ball_carve",
    "center_fde",
    "chamfer",
    "chamfer_flat",
    "decode_product",
    "encode_documents",
    "encode_product",
    "encode_queries",
    "encode_set",
    "encoding_length",
    "entry_means",
    "estimate_chamfer",
    "filter_rate",
    "fit_centre",
    "fit_product",
    "fit_removal",
    "fit_whiten",
    "high_frequency",
    "implicit_fde_score",
    "init_fde",
    "isotropy",
    "mean_cosine",
    "product_errors",
    "product_scores",
    "product_tables",
    "progressive",
    "standardize",
    "truncate_fde",
]
