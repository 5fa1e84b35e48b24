"""One fixed vector per set of token vectors, whose inner products estimate the Chamfer score."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import inner
from jaxembed.vectors._fde_cells import encode_cells, projected_width
from jaxembed.vectors.chamfer import check_set, zero_padding

_MAX_PLANES = 24


def init_fde(key, width, *, repetitions=20, planes=5, projected=16, projection="rademacher", final=None):
    """MUVERA: draws the random planes and projections that queries and documents must share.

    Repetition r draws from ``fold_in(key, r)``, with one subkey each for planes, projection and final
    sketch, so fewer repetitions are a prefix of more. The length of an encoding is
    ``repetitions * 2**planes * projected``, or ``final``.

    >>> params = init_fde(jax.random.key(0), 64, repetitions=20, planes=3, projected=8)
    >>> print(params["planes"].shape, params["projection"].shape)
    (20, 64, 3) (20, 64, 8)

    Args:
        key: a JAX random key.
        width: the width D of the token vectors.
        repetitions: the number R of independent partitions.
        planes: the number k of planes; they cut the space into 2**k cells. 0 keeps one cell.
        projected: the width p to which tokens are projected inside a cell; ignored by "identity".
        projection: "rademacher" (every entry +-1/sqrt(p)), "count_sketch" (one +-1 in each row) or
            "identity" (p = D).
        final: optional length to which a count-sketch reduces the whole encoding.

    Returns:
        A dict of arrays: ``planes`` [R, D, k] and ``projection`` [R, D, p], which includes its scale. A
        count-sketch is a dict: ``index`` int32 and ``sign``, both [R, D], and ``zeros`` [p], the empty one.
        With ``final`` also ``final``: ``index`` int32 and ``sign``, both [R, 2**k * p], say where each
        coordinate goes, and ``zeros`` [final] is the empty sketch.

    Raises:
        ValueError: for a size out of range or an unknown projection.

    References:
        L. Dhulipala et al., arXiv:2405.19504. The paper's final projection is a dense +-1 matrix; the
        count-sketch used here has the same mean and variance. Cells by k-means, which the paper tries without
        gain, are left out, and so is its graph of DiskANN: encodings are searched by ``search.top_k`` or by
        an index of another package (``search.build_faiss``).
    """
    for name, size in (("width", width), ("repetitions", repetitions), ("projected", projected)):
        if not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"{name}: {size} is not a positive integer; pass one")
    if final is not None and (not isinstance(final, int | np.integer) or final < 1):
        raise ValueError(f"final: {final} is not a positive integer; pass one, or None to keep the encoding")
    _check_planes(planes)
    if projection not in _PROJECTIONS:
        raise ValueError(f"projection: {projection!r} is unknown; choose one of {', '.join(_PROJECTIONS)}")
    if projection == "identity":
        projected = width

    params = _draw(key, width, repetitions, planes, projected, projection, final)
    if projection == "count_sketch":
        params["projection"]["zeros"] = jnp.zeros(projected, jnp.float32)
    if final is not None:
        params["final"]["zeros"] = jnp.zeros(final, jnp.float32)
    return params


def encode_queries(params, tokens, mask):
    """Fixed dimensional encoding of queries: per cell, the sum of its tokens.

    ``encode_set(params, tokens, mask, aggregate="sum", fill_empty=False)``. The inner product with a
    document's encoding, divided by the number of repetitions, estimates ``chamfer``. Encodings are
    compared by the raw inner product: scaling them to length 1 breaks the estimate.

    >>> params = init_fde(jax.random.key(0), 2, repetitions=1, planes=0, projection="identity")
    >>> tokens = jnp.array([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    >>> print(encode_queries(params, tokens, jnp.array([[True, True, False]])))
    [[1. 1.]]

    Args:
        params: the arrays of ``init_fde``, the same for queries and documents.
        tokens: [B, T, D]; the estimate is meant for unit vectors, nothing is normalised here.
        mask: bool [B, T]. False marks padding, whose content never matters.

    Returns:
        [B, R * 2**k * p] (or [B, final]) in at least float32, laid out [repetition][cell][coordinate].
        An empty set gives zeros.

    Raises:
        ValueError: when the width of the tokens is not the width of the params.

    References:
        L. Dhulipala et al., arXiv:2405.19504.
    """
    return encode_set(params, tokens, mask, aggregate="sum", fill_empty=False)


def encode_documents(params, tokens, mask, *, fill_empty=True):
    """Fixed dimensional encoding of documents: per cell, the mean of its tokens.

    ``encode_set(params, tokens, mask, aggregate="mean", fill_empty=fill_empty)``. A cell without a
    token takes the one token whose cell is nearest.

    >>> params = init_fde(jax.random.key(0), 2, repetitions=1, planes=0, projection="identity")
    >>> tokens = jnp.array([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    >>> print(encode_documents(params, tokens, jnp.array([[True, True, False]])))
    [[0.5 0.5]]

    Args:
        params: the arrays of ``init_fde``, the same for queries and documents.
        tokens: [B, T, D]; the estimate is meant for unit vectors, nothing is normalised here.
        mask: bool [B, T]. False marks padding, whose content never matters.
        fill_empty: False leaves cells without a token at zero.

    Returns:
        [B, R * 2**k * p] (or [B, final]) in at least float32, laid out [repetition][cell][coordinate].
        An empty set gives zeros.

    Raises:
        ValueError: when the width of the tokens is not the width of the params.

    References:
        L. Dhulipala et al., arXiv:2405.19504.
    """
    return encode_set(params, tokens, mask, aggregate="mean", fill_empty=fill_empty)


def encode_set(params, tokens, mask, *, aggregate="sum", fill_empty=False):
    """Fixed dimensional encoding: hashes tokens into cells and writes one projected vector per cell.

    In repetition r, bit j of a token's cell is ``<planes[r, :, j], token> > 0``, with plane 0 as the
    lowest bit. A cell holds the sum or the mean of its tokens times ``projection[r]``. With
    ``fill_empty`` a cell without a token holds one token, the first among those whose cell differs in
    the fewest bits. The bits are computed in float32 and are constant for the gradient. Where the
    params hold a ``centre`` it is subtracted from the token for the bits, and only there.

    >>> params = {"planes": jnp.array([[[1.0], [0.0]]]), "projection": jnp.eye(2)[None]}
    >>> tokens = jnp.array([[[1.0, 0.0], [3.0, 2.0]]])
    >>> print(encode_set(params, tokens, jnp.ones((1, 2), bool), aggregate="mean"))
    [[0. 0. 2. 1.]]
    >>> print(encode_set(params, tokens, jnp.ones((1, 2), bool), aggregate="mean", fill_empty=True))
    [[1. 0. 2. 1.]]

    Args:
        params: dict of ``planes`` [R, D, k], ``projection`` [R, D, p] and optionally ``final`` and
            ``centre`` [D], from ``init_fde`` or from elsewhere.
        tokens: [B, T, D], any float dtype.
        mask: bool [B, T]. False marks padding, whose content never matters, not even NaN.
        aggregate: "sum" (queries) or "mean" (documents).
        fill_empty: whether cells without a token are filled. Filling a query would count its tokens
            several times.

    Returns:
        [B, R * 2**k * p] (or [B, final]) in at least float32, laid out [repetition][cell][coordinate].
        An empty set gives zeros. Sets are encoded in chunks that hold 2**23 floats (2**21 on a CPU)
        beside the result, or those of one set: R * (T * (k + p) + 2**k * p). With ``final`` only a
        chunk is stored whole.

    Raises:
        ValueError: for an unknown aggregate, params that do not fit together or to the tokens, or more
            than 24 planes.

    Notes:
        Planes and projections of other packages can be put into ``params``. Google's C++ code (muvfde)
        orders cells by a Gray code: its cell n is ours whose bits, plane 0 first and highest, spell
        ``n ^ (n >> 1)``. Its sketch and that of fastembed lack the factor 1/sqrt(p), which belongs in
        ``projection``. Where tokens are equally near to an empty cell fastembed takes another one than
        the first; all other cells agree.

    References:
        L. Dhulipala et al., arXiv:2405.19504. The paper leaves ties of the fill open.
    """
    if aggregate not in ("sum", "mean"):
        raise ValueError(f"aggregate: {aggregate!r} is unknown; choose sum or mean")
    tokens, mask = check_set("tokens", tokens, mask)
    _check_params(params, tokens)
    if not tokens.shape[1]:  # a set of no tokens is a set of one masked token
        tokens, mask = jnp.pad(tokens, ((0, 0), (0, 1), (0, 0))), jnp.pad(mask, ((0, 0), (0, 1)))
    return encode_cells(params, tokens, mask, aggregate=aggregate, fill_empty=fill_empty)


def estimate_chamfer(params, queries, documents):
    """Chamfer estimate: that of sets, from their encodings.

    ``estimate_chamfer(...)[b, n] = <queries[b], documents[n]> / R``. Each of the R repetitions adds one
    estimate, so their mean is on the scale of ``chamfer``. It can be compared with a threshold or mixed with
    other scores. For ranking alone the division changes nothing.

    >>> params = init_fde(jax.random.key(0), 2, repetitions=9, planes=2, projection="identity")
    >>> tokens, mask = jnp.array([[[0.6, 0.8]]]), jnp.ones((1, 1), bool)
    >>> query, document = encode_queries(params, tokens, mask), encode_documents(params, tokens, mask)
    >>> print(estimate_chamfer(params, query, document).round(4))
    [[1.]]

    Args:
        params: the arrays of ``init_fde`` that made the encodings.
        queries: [B, F], from ``encode_queries``.
        documents: [N, F], from ``encode_documents``.

    Returns:
        [B, N] in at least float32. With the identity projection and filled cells it is at most
        ``chamfer``; random projections and the final sketch keep its mean.

    Raises:
        ValueError: when the lengths are not that of an encoding by ``params``.

    References:
        L. Dhulipala et al., arXiv:2405.19504.
    """
    length = encoding_length(params)
    for name, x in (("queries", queries), ("documents", documents)):
        if x.shape[1:] != (length,):
            raise ValueError(
                f"{name}: shape {x.shape}, but these params encode to [B, {length}]; use one params"
            )
    return inner(queries, documents) / params["planes"].shape[0]


def encoding_length(params):
    """Encoding length: counts the floats of one encoding, ``R * 2**k * p`` or ``final``.

    >>> print(encoding_length(init_fde(jax.random.key(0), 8, repetitions=20, planes=5, projected=16)))
    10240

    Args:
        params: the arrays of ``init_fde``, with ``planes`` [R, D, k].

    Returns:
        int.
    """
    if "final" in params:
        return params["final"]["zeros"].shape[0]
    repetitions, _, planes = params["planes"].shape
    return repetitions * 2**planes * projected_width(params)


def truncate_fde(params, *, repetitions=None, width=None):
    """Truncated encoding: keeps the first repetitions, or the params for the first coordinates of tokens.

    Fewer repetitions give the prefix of every encoding. With ``small = truncate_fde(params, repetitions=r)``,
    the encoding by ``small`` is the first ``encoding_length(small)`` floats of that by ``params``. So one
    stored encoding serves several sizes. A smaller width encodes tokens that are cut to their first
    coordinates, as matryoshka tokens are, as if the rest were zero. An identity projection keeps its columns:
    those of the missing coordinates are zero in the encoding.

    >>> params = init_fde(jax.random.key(0), 8, repetitions=20, planes=5, projected=16)
    >>> print([encoding_length(truncate_fde(params, repetitions=r)) for r in (5, 10, 20)])
    [2560, 5120, 10240]

    Args:
        params: the arrays of ``init_fde``.
        repetitions: how many repetitions are kept, or None for all.
        width: how many coordinates of the tokens are kept, or None for all.

    Returns:
        A dict of arrays as from ``init_fde``. An encoding with ``final`` sums over the repetitions: its
        params can be cut, but its encodings have no such prefix.

    Raises:
        ValueError: when a size is below 1 or above that of the params.
    """
    for name, size, most in (
        ("repetitions", repetitions, params["planes"].shape[0]),
        ("width", width, params["planes"].shape[1]),
    ):
        if size is not None and not 1 <= size <= most:
            raise ValueError(f"{name}: {size} is outside 1..{most}; the params hold no more")
    small = {"planes": params["planes"][:repetitions, :width]}
    small["projection"] = jax.tree.map(
        lambda x: x[:repetitions, :width] if x.ndim > 1 else x, params["projection"]
    )
    if "centre" in params:
        small["centre"] = params["centre"][:width]
    if "final" in params:
        small["final"] = {name: params["final"][name][:repetitions] for name in ("index", "sign")}
        small["final"]["zeros"] = params["final"]["zeros"]
    return small


def centre_fde(params, tokens, mask):
    """Centred planes: moves them through the mean of some tokens, so that they cut tokens that point one way.

    ``centre = mean of the tokens``; bit j of a token's cell becomes ``<planes[r, :, j], token - centre>
    > 0``. Only the cells change: sums and means are those of the tokens as they are. Token vectors of a
    trained encoder often share a large common direction, which leaves most cells of planes through the
    origin empty.

    >>> params = init_fde(jax.random.key(0), 2, repetitions=1, planes=1)
    >>> centred = centre_fde(params, jnp.array([[[1.0, 0.0], [3.0, 2.0]]]), jnp.ones((1, 2), bool))
    >>> print(centred["centre"])
    [2. 1.]

    Args:
        params: the arrays of ``init_fde``.
        tokens: [N, T, D], a sample of documents.
        mask: bool [N, T]. False marks padding, whose content never matters.

    Returns:
        The params with ``centre`` float32 [D], for queries and for documents.

    Raises:
        ValueError: when the width of the tokens is not the width of the params.

    References:
        Not part of arXiv:2405.19504.
    """
    tokens, mask = check_set("tokens", tokens, mask)
    _check_params(params, tokens)
    tokens = zero_padding(tokens, mask)
    count = jnp.maximum(jnp.sum(mask), 1).astype(tokens.dtype)
    return params | {"centre": (jnp.sum(tokens, axis=(0, 1)) / count).astype(jnp.float32)}


@functools.partial(jax.jit, static_argnums=range(1, 7))
def _draw(key, width, repetitions, planes, projected, projection, final):
    def one(r):
        hash_key, inner_key, final_key = jax.random.split(jax.random.fold_in(key, r), 3)
        params = {
            "planes": jax.random.normal(hash_key, (width, planes), jnp.float32),
            "projection": _PROJECTIONS[projection](inner_key, width, projected),
        }
        if final is not None:
            params["final"] = _sketch(final_key, 2**planes * projected, final)
        return params

    return jax.lax.map(one, jnp.arange(repetitions))


def _rademacher(key, width, projected):
    return jax.random.rademacher(key, (width, projected), jnp.float32) / jnp.sqrt(jnp.float32(projected))


def _count_sketch(key, width, projected):
    return _sketch(key, width, projected)


def _identity(key, width, projected):
    return jnp.eye(width, projected, dtype=jnp.float32)


_PROJECTIONS = {"rademacher": _rademacher, "count_sketch": _count_sketch, "identity": _identity}


def _sketch(key, width, projected):
    index_key, sign_key = jax.random.split(key)
    return {
        "index": jax.random.randint(index_key, (width,), 0, projected, jnp.int32),
        "sign": jax.random.rademacher(sign_key, (width,), jnp.float32),
    }


def _check_params(params, tokens):
    """Refuses params that do not belong together or to the tokens; they may come from elsewhere."""
    planes, projection = np.shape(params["planes"]), _projection_shape(params["projection"])
    if len(planes) != 3 or len(projection) != 3 or planes[:2] != projection[:2]:
        raise ValueError(
            f"params: planes {planes}, projection {projection}; pass [R, D, k] and [R, D, p] of one R and D"
        )
    _check_planes(planes[2])
    width = tokens.shape[2]
    if planes[1] != width:
        raise ValueError(
            f"tokens: width {width}, but params['planes'] takes {planes[1]}; "
            "draw the params with init_fde(key, width) for the width of the tokens"
        )
    if "centre" in params and np.shape(params["centre"]) != (width,):
        raise ValueError(f"params: centre {np.shape(params['centre'])}; pass [{width}], as centre_fde does")
    if "final" in params:
        wanted = planes[0], 2 ** planes[2] * projection[2]
        shapes = {name: np.shape(params["final"].get(name)) for name in ("index", "sign", "zeros")}
        if not shapes["index"] == shapes["sign"] == wanted or len(shapes["zeros"]) != 1:
            raise ValueError(f"params: final {shapes}; pass index and sign {wanted} and zeros [final]")


def _projection_shape(projection):
    """(R, D, p) of a dense projection or a count-sketch; of what fits neither, what it has."""
    if not isinstance(projection, dict):
        return np.shape(projection)
    index, sign, zeros = (np.shape(projection.get(name)) for name in ("index", "sign", "zeros"))
    return (*index, *zeros) if index == sign else index


def _check_planes(planes):
    if not isinstance(planes, int | np.integer) or not 0 <= planes <= _MAX_PLANES:
        raise ValueError(
            f"planes: {planes} is not an integer of 0..{_MAX_PLANES}; an encoding has 2**planes cells"
        )
