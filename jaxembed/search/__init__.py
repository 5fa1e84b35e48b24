"""Vectors to ranks: exact search, rescoring by sets of tokens, and indexes on disk."""

from jaxembed.search.document_index import (
    Documents,
    add_documents,
    build_documents,
    delete_documents,
    open_documents,
)
from jaxembed.search.embed import embed
from jaxembed.search.external import build_faiss, build_usearch, open_faiss, open_usearch
from jaxembed.search.funnel import funnel
from jaxembed.search.rerank import rerank, retrieve, single_vector_candidates
from jaxembed.search.topk import reciprocal_rank_fusion, scan_top_k, top_k
from jaxembed.search.vector_index import Index, load_index, save_index

__all__ = [
    "Documents",
    "Index",
    "add_documents",
    "build_documents",
    "build_faiss",
    "build_usearch",
    "delete_documents",
    "embed",
    "funnel",
    "load_index",
    "open_documents",
    "open_faiss",
    "open_usearch",
    "reciprocal_rank_fusion",
    "rerank",
    "retrieve",
    "save_index",
    "scan_top_k",
    "single_vector_candidates",
    "top_k",
]
