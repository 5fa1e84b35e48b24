"""vectors -> vectors or compact codes: functions on arrays that know no model, trainer, mesh or config."""

from jaxembed.vectors.chamfer import ball_carve, chamfer, chamfer_flat, implicit_fde_score
from jaxembed.vectors.fde import (
    centre_fde,
    encode_documents,
    encode_queries,
    encode_set,
    encoding_length,
    estimate_chamfer,
    init_fde,
    truncate_fde,
)
from jaxembed.vectors.normalise import entry_means, fit_centre, fit_removal, fit_whiten, standardise
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
    "centre_fde",
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
    "fit_centre",
    "fit_product",
    "fit_removal",
    "fit_whiten",
    "implicit_fde_score",
    "init_fde",
    "product_errors",
    "product_scores",
    "product_tables",
    "standardise",
    "truncate_fde",
]
