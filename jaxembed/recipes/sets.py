"""Late interaction from the disk: token vectors into an index, queries into ranked documents."""

import functools
import itertools

import jax
import numpy as np

from jaxembed import search, vectors


def index_sets(
    folder,
    documents,
    params=None,
    *,
    meta=None,
    batch_size=64,
    shard_size=1024,
    dtype=np.float16,
    restart=False,
):
    """MUVERA index: writes token vectors and one encoding per document to disk, for :func:`search_sets`.

    ``search.build_documents`` with ``vectors.encode_documents`` as the column "fde". A killed build goes on
    when it is called again with the same arguments.

    >>> import tempfile
    >>> from jaxembed import data
    >>> sets = data.toy.token_sets(0, documents=30, queries=2, width=16)
    >>> documents = enumerate(np.split(sets["tokens"], sets["offsets"][1:-1]))
    >>> index = index_sets(tempfile.mkdtemp(), documents)
    >>> print(index.columns["fde"].shape)
    (30, 10240)

    Args:
        folder: made where it does not exist.
        documents: iterable of (id, unit token vectors [T, D]). Or a function from a number n to the iterable
            that begins with document n, as for ``search.build_documents``.
            ``zip(ids, np.split(tokens, offsets[1:-1]))`` makes one of what ``Encoder.encode_sets`` returns.
        params: arrays of ``vectors.init_fde``. None draws them with its defaults from ``jax.random.key(0)``,
            for the width of the first document.
        meta: optional JSON value that is kept with the index, for example the name of the model.
        batch_size, shard_size, restart: as for ``search.build_documents``.
        dtype: float dtype of tokens and encodings on disk.

    Returns:
        What ``search.open_documents(folder)`` returns; its ``params`` are those of the encodings.

    Raises:
        ValueError: as ``search.build_documents``; for tokens of another width than ``params``.
    """
    if params is None:
        documents, width = _first_width(documents)
        params = vectors.init_fde(jax.random.key(0), width)

    @jax.jit
    def encode(params, tokens, mask):
        return {"fde": vectors.encode_documents(params, tokens, mask).astype(dtype)}

    options = {"meta": meta, "batch_size": batch_size, "shard_size": shard_size}
    return search.build_documents(
        folder, documents, encode, params=params, dtype=dtype, restart=restart, **options
    )


def search_sets(index, queries, mask, k, *, candidates=100, score=None, flat=True):
    """MUVERA search: candidates by one inner product each, then their exact order by late interaction.

    Encodes each query (``vectors.encode_queries``) and takes the documents of largest inner product
    (``search.top_k``). Orders them by the exact Chamfer score of their tokens, which are read from the disk
    (``search.retrieve``).

    >>> import tempfile
    >>> from jaxembed import data
    >>> sets = data.toy.token_sets(0, documents=30, queries=2, width=16)
    >>> documents = zip([f"d{n}" for n in range(30)], np.split(sets["tokens"], sets["offsets"][1:-1]))
    >>> index = index_sets(tempfile.mkdtemp(), documents)
    >>> scores, ids = search_sets(index, sets["queries"], sets["mask"], 1)
    >>> print(ids.tolist(), sets["sources"])
    [['d2'], ['d7']] [2 7]

    Args:
        index: from :func:`index_sets`, or ``search.open_documents`` of an index with a column "fde" of
            ``vectors.encode_documents`` and the params that it was made with.
        queries: [B, T, D] token vectors, made by the same encoder as the documents.
        mask: bool [B, T]. False marks padding, whose content never matters.
        k: how many documents are returned, at most the smaller of N and ``candidates``.
        candidates: how many documents are scored exactly. More cost time and find more.
        score: optional exact score as for ``search.rerank``; None takes the Chamfer score.
        flat: which form of score that is, as for ``search.rerank``.

    Returns:
        ``scores`` float32 [B, k] in falling order, and the documents' ``ids`` [B, k].

    Raises:
        ValueError: for an index without such a column or params, a k out of range, or another width.

    References:
        L. Dhulipala et al., arXiv:2405.19504.
    """
    if "fde" not in index.columns or not {"planes", "projection"} <= set(index.params or {}):
        raise ValueError(
            f"index: columns {', '.join(index.columns) or 'none'} without encodings 'fde' and their params; "
            "build it with index_sets"
        )
    if score is None:
        score = vectors.chamfer_flat if flat else vectors.chamfer
    first = functools.partial(_by_encoding, index)
    exact = {"score": score, "tokens": index.tokens, "offsets": index.offsets, "ids": index.ids}
    return search.retrieve(first, queries, mask, k, **exact, candidates=candidates, flat=flat)


def _by_encoding(index, queries, mask, size):
    encoded = vectors.encode_queries(index.params, queries, mask)
    return search.top_k(encoded, index.columns["fde"], size)[1]


def _first_width(documents):
    """The documents as before, and the width of the first one's tokens."""
    if callable(documents):
        first = next(iter(documents(0)), None)
    else:
        documents = iter(() if documents is None else documents)
        first = next(documents, None)
        documents = itertools.chain([] if first is None else [first], documents)
    if first is None or np.ndim(first[1]) != 2:
        found = "none" if first is None else f"{first[0]!r} has tokens {np.shape(first[1])}"
        raise ValueError(f"documents: {found}; give pairs of an id and tokens [T, D], at least one")
    return documents, np.shape(first[1])[1]
