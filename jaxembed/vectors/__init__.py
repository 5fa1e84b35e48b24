"""Vectors to vectors or codes: functions on arrays that know no model, trainer, mesh or config."""

from jaxembed.vectors.multivector import chamfer, encode_documents, encode_queries, encode_set, init_fde

__all__ = ["chamfer", "encode_documents", "encode_queries", "encode_set", "init_fde"]
