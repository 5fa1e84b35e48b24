"""Vectors to ranks: exact search, rescoring by sets of tokens, and indexes on disk."""

from jaxembed.search.code_columns import CodeColumns, code_columns
from jaxembed.search.document_index import (
    Documents,
    add_documents,
    build_documents,
    delete_documents,
    open_documents,
)
from jaxembed.search.embed import embed
from jaxembed.search.external import (
    build_faiss,
    build_faiss_binary,
    build_usearch,
    open_faiss,
    open_faiss_binary,
    open_usearch,
)
from jaxembed.search.funnel import funnel
from jaxembed.search.hamming import hamming_top_k, rerank_vectors, search_codes
from jaxembed.search.rerank import rerank, retrieve, single_vector_candidates
from jaxembed.search.topk import reciprocal_rank_fusion, scan_top_k, top_k
from jaxembed.search.vector_index import Index, load_index, save_index

__all__ = [
    "CodeColumns",
    "Documents",
    "Index",
    "add_documents",
    "build_documents",
    "build_faiss",
    "build_faiss_binary",
    "build_usearch",
    "code_columns",
    "delete_documents",
    "embed",
    "funnel",
    "hamming_top_k",
    "load_index",
    "open_documents",
    "open_faiss",
    "open_faiss_binary",
    "open_usearch",
    "reciprocal_rank_fusion",
    "rerank",
    "rerank_vectors",
    "retrieve",
    "save_index",
    "scan_top_k",
    "search_codes",
    "single_vector_candidates",
    "top_k",
]
