"""Vectors to vectors or codes: functions on arrays that know no model, trainer, mesh or config."""

from jaxembed.vectors.multivector import chamfer, encode_documents, encode_queries, encode_set, init_fde
from jaxembed.vectors.normalize import (
    entry_means,
    fit_centre,
    fit_removal,
    fit_whiten,
    isotropy,
    progressive,
    standardize,
)

__all__ = [
    "chamfer",
    "encode_documents",
    "encode_queries",
    "encode_set",
    "entry_means",
    "fit_centre",
    "fit_removal",
    "fit_whiten",
    "init_fde",
    "isotropy",
    "progressive",
    "standardize",
]
