"""Losses that ask a vector to find its own among others."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, host, inner, on_device, unit
from jaxembed.checks import check_temperature

BLOCKS = ("qd", "qq", "dd", "dq")
HARDENED = ("all", "batch", "hard")


def softmax_loss(scores, *, positives=None, where=None, temperature=1.0, compete=True):
    """Softmax cross-entropy: asks each row of scores to put its probability on its positive columns.

    ``loss[i] = mean over p in positives[i] of -log softmax_j(scores[i, j] / temperature)[p]``, the softmax
    taken over the pairs that count. With one positive this is the cross-entropy. It is computed as
    ``log(1 + sum_{j != p} exp(s_j - s_p))``, which keeps its digits when it is tiny.

    >>> print(softmax_loss(jnp.array([[0.0, 0.0], [5.0, 5.0]])).round(3))
    [0.693 0.693]

    Args:
        scores: [B, M], higher is better.
        positives: int [B], the column that is positive for each row (default: row i has column i), or
            bool [B, M], several positives a row. A number outside 0..M-1, however large, means no
            positive. A row without positives has loss 0; a score of -inf (an empty document) counts
            neither as positive nor as negative.
        where: optional bool [B, M]. False drops a pair from the softmax; positives are always kept.
            Dropped scores may hold anything.
        temperature: positive number that divides the scores; may be traced.
        compete: False leaves the other positives out of the softmax of each positive, which then meets the
            negatives alone: ``loss[i] = mean over p of log(1 + sum_{j not positive} exp(s_j - s_p))``.

    Returns:
        [B], one loss per row, in at least float32.

    Raises:
        ValueError: where ``positives`` is left out and there are fewer columns than rows.

    References:
        A. van den Oord et al., arXiv:1807.03748; several positives as L_out of P. Khosla et al.,
        arXiv:2004.11362.
    """
    scores = jnp.asarray(scores)
    check_shape("scores", scores, (None, None))
    check_temperature(temperature)
    rows, columns = scores.shape
    positives, kept = _pairs(rows, columns, positives, where)
    finite = scores != -jnp.inf  # a document without tokens: never a negative, and no positive either
    positives, kept = positives & finite, kept & finite
    count = jnp.sum(positives, axis=1)
    scores = jnp.where(kept, scores, 0).astype(accumulator(scores)) / temperature
    if not compete:
        return _against_negatives(scores, positives, kept & ~positives, count)
    reference = jnp.sum(jnp.where(positives, scores, 0), axis=1) / jnp.maximum(count, 1)
    gaps = scores - reference[:, None]
    top = jnp.max(jnp.where(kept, gaps, 0), axis=1, initial=0.0)
    top = jax.lax.stop_gradient(top)[:, None]
    negatives = jnp.where(kept & ~positives, jnp.exp(jnp.where(kept, gaps - top, 0)), 0)
    own = jnp.where(positives, jnp.expm1(jnp.where(positives, gaps - top, 0)), 0)
    total = jnp.sum(negatives + own, axis=1) + (count - 1)
    return jnp.where(count > 0, top[:, 0] + jnp.log1p(jnp.where(count > 0, total, 0)), 0)


def _against_negatives(scores, positives, negatives, count):
    """The mean loss of the positives of a row, each against its negatives; 0 without either."""
    asked = positives & jnp.any(negatives, axis=1, keepdims=True)
    top = jax.lax.stop_gradient(jnp.max(jnp.where(negatives, scores, -jnp.inf), axis=1, keepdims=True))
    top = jnp.where(jnp.isfinite(top), top, 0)
    powers = jnp.where(negatives, jnp.exp(jnp.where(negatives, scores - top, 0)), 0)
    total = jnp.sum(powers, axis=1, keepdims=True)
    others = jnp.log(jnp.where(total > 0, total, 1)) + top
    each = jnp.where(asked, jax.nn.softplus(jnp.where(asked, others - scores, 0)), 0)
    return jnp.sum(each, axis=1) / jnp.maximum(count, 1)


def _pairs(rows, columns, positives, where):
    """Bool [B, M]: which pairs are positive, and which pairs count."""
    if positives is None:
        if columns < rows:
            raise ValueError(f"positives: needed, because {rows} rows have only {columns} columns")
        positives = jnp.arange(rows)
    positives = _held(positives, columns)
    if positives.dtype != bool:
        check_shape("positives", positives, (rows,))
        positives = positives[:, None] == jnp.arange(columns)
    check_shape("positives", positives, (rows, columns))
    if where is None:
        return positives, jnp.ones((rows, columns), bool)
    check_shape("where", where, (rows, columns))
    return positives, jnp.asarray(where, bool) | positives


def _held(positives, columns):
    """Positives as a JAX array; a number outside the columns, of whatever size, becomes -1."""
    device = isinstance(positives, jax.Array)
    positives, xp = (positives, jnp) if device else (host("positives", positives), np)
    if xp.issubdtype(positives.dtype, xp.integer):
        known = (positives >= 0) & (positives < columns)
        positives = xp.where(known, xp.where(known, positives, 0).astype(np.int32), -1)
    return jnp.asarray(positives)


def info_nce(
    queries,
    documents,
    *,
    positives=None,
    where=None,
    temperature=0.05,
    blocks=("qd",),
    hardness=0.0,
    hardened="all",
    in_batch=True,
):
    """InfoNCE: asks each query to pick its own document out of all documents.

    ``loss[i] = -log softmax_j(cos(queries[i], candidates[j]) / temperature)[i]``

    The candidates are the documents ("qd"). "qq" adds the other queries. "dd" and "dq" score the row's own
    document, against the documents of other rows and against all queries. All four together are the loss
    of GTE. :func:`symmetric` asks in both directions with a softmax for each.

    The arrays are the whole batch. Under jit on a mesh every device's queries meet the documents of all
    devices, and gradients flow back to them; a version for ``shard_map`` that gathers by hand is left out.

    >>> vectors = jnp.eye(3)
    >>> print(info_nce(vectors, vectors, temperature=1.0).round(3))
    [0.551 0.551 0.551]

    Args:
        queries: [B, D]; normalised inside.
        documents: [N, D], finite (fill padding with zeros), normalised inside. Without ``positives``, row i
            answers query i (N >= B) and every other row is a negative: hard negatives come after the first B
            rows. Where N is a multiple of B they come in the order of the queries: row j is one of query j
            mod B. "dd" asks for that order.
        positives: as in :func:`softmax_loss`, among the documents: int [B] or bool [B, N].
        where: optional bool [B, M]. False drops a pair from the softmax, which is how duplicates and
            suspected false negatives are hidden. Positives are never dropped.
        temperature: positive number that divides the cosines; may be traced.
        blocks: subset of ("qd", "qq", "dd", "dq"). The M columns come in that order: "qd" has N columns; it
            holds the positives and is required. "qq" has B: queries with queries, self pairs dropped. "dd"
            has N: the first B documents with all documents, without a row's own document and its hard
            negatives. "dq" has B: the first B documents with the queries, a row's own query among them, as in
            GTE.
        hardness: number a of hardness weighting: ``a * cos``, without gradient, is added to the logit
            ``cos / temperature`` of negative documents ("qd"), so that near ones count more. May be traced.
        hardened: which of them: "all", "batch" (those of other rows) or "hard" (a query's own hard
            negatives).
        in_batch: bool, or bool [B]. False leaves a query to its own documents, its positive and its hard
            negatives, and drops all that belong to other rows: a class comes more than once in a batch of
            labelled texts. One array serves a batch of several tasks. True counts the hard negatives of other
            rows too, of which NV-Embed takes the positives alone; ``where`` can leave them out.

    Returns:
        [B], one loss per query, in at least float32.

    Raises:
        ValueError: for an unknown block or ``hardened``, or shapes that do not fit. Also for ``in_batch``
            together with ``positives``, or with N that is not a multiple of B.

    References:
        A. van den Oord et al., arXiv:1807.03748; the blocks as in Z. Li et al. (GTE), arXiv:2308.03281,
        with hard negatives as MultipleNegativesRankingLoss of sentence-transformers has them. Hardness: Z.
        Lan et al., arXiv:2503.04812, "batch" with 9; EmbeddingGemma, arXiv:2509.20354, "hard" with 5. The
        switch: C. Lee et al. (NV-Embed), arXiv:2405.17428, on for retrieval and off for other tasks.
    """
    check_sides(queries, documents)
    rows, columns = len(queries), len(documents)
    scores, kept = blocks_of(directions(queries), directions(documents), blocks)
    if where is not None:
        check_shape("where", where, scores.shape)
        kept = kept & jnp.asarray(where, bool)
    if in_batch is not True:
        if positives is not None:
            raise ValueError(
                "in_batch: needs row i to answer query i; leave positives out, or say it by where"
            )
        kept = kept & in_batch_mask(in_batch, rows, columns, blocks)
    positives = None if positives is None else _held(positives, columns)
    if positives is not None and positives.dtype == bool:
        check_shape("positives", positives, (rows, columns))
        positives = jnp.pad(positives, ((0, 0), (0, scores.shape[1] - columns)))
    elif positives is None and columns < rows:
        raise ValueError(f"documents: {columns} rows for {rows} queries; give positives or a row per query")
    if isinstance(hardness, float) and not math.isfinite(hardness):
        raise ValueError(f"hardness: {hardness}; pass a finite number")
    check_temperature(temperature)
    scores = _hardened(scores, columns, positives, temperature * hardness, hardened)
    return softmax_loss(scores, positives=positives, where=kept, temperature=temperature)


def directions(vectors):
    """Unit vectors [N, D] in at least float32: narrower ones would be rounded before the product."""
    vectors = on_device("vectors", vectors)
    return unit(vectors.astype(accumulator(vectors)))


def check_sides(queries, documents, names=("queries", "documents")):
    """Refuses arrays that are not [B, D] and [N, D], by their names."""
    check_shape(names[0], queries, (None, None))
    check_shape(names[1], documents, (None, np.shape(queries)[1]))


def blocks_of(queries, documents, blocks):
    """Scores [B, M] of the blocks in order and bool [B, M] that is False for self pairs."""
    if "qd" not in blocks or not set(blocks) <= set(BLOCKS):
        raise ValueError(f'blocks={blocks!r}: a subset of {BLOCKS} with "qd" among them')
    rows = len(queries)
    columns = len(documents)
    for name in {"dd", "dq"} & set(blocks):
        if columns < rows:
            raise ValueError(
                f'documents: block "{name}" needs a document per query, got {columns} for {rows}'
            )
    own = documents[:rows]
    pairs = {
        "qd": (queries, documents),
        "qq": (queries, queries),
        "dd": (own, documents),
        "dq": (own, queries),
    }
    owner = jnp.arange(columns)
    owner = owner if columns % max(rows, 1) else owner % rows  # else the hard negatives are all queries'
    other_row = jnp.arange(rows)[:, None] != owner
    kept = {"qd": jnp.ones((rows, columns), bool), "qq": ~jnp.eye(rows, dtype=bool)}
    kept |= {"dd": other_row, "dq": jnp.ones((rows, rows), bool)}
    chosen = [name for name in BLOCKS if name in blocks]
    scores = jnp.concatenate([inner(*pairs[name]) for name in chosen], axis=1)
    return scores, jnp.concatenate([kept[name] for name in chosen], axis=1)


def in_batch_mask(in_batch, rows, columns, blocks=("qd",)):
    """In-batch switch: which candidates count where some queries keep to their own documents.

    >>> print(in_batch_mask(jnp.array([True, False]), 2, 4).astype(int))
    [[1 1 1 1]
     [0 1 0 1]]

    Args:
        in_batch: bool or bool [B]; False drops what belongs to other rows.
        rows: B.
        columns: N, a multiple of B; document j belongs to query j mod B.
        blocks: as in :func:`info_nce`.

    Returns:
        bool [B, M] for ``where=``.

    Raises:
        ValueError: for N that is not a multiple of B, or another shape.
    """
    if columns % max(rows, 1):
        raise ValueError(
            f"documents: {columns} rows for {rows} queries; in_batch needs as many hard negatives for each"
        )
    if np.shape(in_batch) not in ((), (rows,)):
        raise ValueError(
            f"in_batch: shape {np.shape(in_batch)}; pass one bool, or one for each of {rows} rows"
        )
    widths = {"qd": columns, "qq": rows, "dd": columns, "dq": rows}
    if not blocks or not set(blocks) <= set(BLOCKS):
        raise ValueError(f"blocks={blocks!r}: some of {BLOCKS}")
    owner = jnp.concatenate([jnp.arange(widths[name]) % max(rows, 1) for name in BLOCKS if name in blocks])
    own = jnp.arange(rows)[:, None] == owner
    return own | jnp.broadcast_to(jnp.asarray(in_batch, bool), (rows,))[:, None]


def _hardened(scores, columns, positives, weight, hardened):
    """Scores [B, M] with ``weight`` times themselves, without gradient, added to negative documents."""
    if hardened not in HARDENED:
        raise ValueError(f"hardened={hardened!r}; choose one of {', '.join(HARDENED)}")
    if isinstance(weight, int | float) and weight == 0:
        return scores
    rows, total = scores.shape
    row, column = jnp.arange(rows)[:, None], jnp.arange(total)
    own = row == column if positives is None else positives
    own = own[:, None] == column if own.ndim == 1 else own
    hard = (column >= rows) & (row == column % max(rows, 1)) & (columns % max(rows, 1) == 0)
    chosen = {"all": ~own, "batch": ~own & ~hard, "hard": hard & ~own}[hardened] & (column < columns)
    return scores + weight * jnp.where(chosen, jax.lax.stop_gradient(scores), 0)


def symmetric(loss):
    """Symmetric loss: the mean of a loss of queries over documents in both directions.

    ``both(q, d) = (loss(q, d) + loss(d[:B], q)) / 2``: each document also has to find its own query. Hard
    negatives, rows of d after the first B, are negatives of the queries and ask for no query themselves.

    >>> queries, documents = jnp.eye(3)[:2], jnp.eye(3)[1:]
    >>> print(info_nce(queries, documents, temperature=1.0).astype("float16"))
    [0.6934 1.313 ]
    >>> print(symmetric(info_nce)(queries, documents, temperature=1.0).astype("float16"))
    [1.003 1.003]

    Args:
        loss: ``loss(queries, documents, **options) -> [B]``, for example :func:`info_nce`.

    Returns:
        A loss of the same signature on arrays [B, D] and [N, D], N >= B. Its options ``where`` and
        ``positives`` are bool [B, N]; the second direction takes their first B columns, transposed.

    Raises:
        ValueError: when called with fewer documents than queries, or with ``where`` or ``positives`` that is
            not [B, N].

    References:
        A. Radford et al. (CLIP), arXiv:2103.00020; with hard negatives as "doc_to_query" of
        MultipleNegativesRankingLoss of sentence-transformers.
    """

    def both(queries, documents, **options):
        queries, documents = on_device("queries", queries), on_device("documents", documents)
        rows, columns = len(queries), len(documents)
        if columns < rows or documents.shape[1:] != queries.shape[1:]:
            raise ValueError(
                f"documents: {documents.shape} with queries {queries.shape}; both directions need row pairs"
            )
        turned = dict(options)
        for name in ("where", "positives"):
            if options.get(name) is not None:
                if np.shape(options[name]) != (rows, columns):
                    raise ValueError(f"{name}: {np.shape(options[name])}; both directions need bool [B, N]")
                turned[name] = jnp.asarray(options[name], bool)[:, :rows].T
        return (loss(queries, documents, **options) + loss(documents[:rows], queries, **turned)) / 2

    return both


def sigmoid_loss(queries, documents, *, positives=None, where=None, temperature=0.1, bias=-10.0):
    """SigLIP loss: asks of every pair by itself whether query and document belong together.

    ``loss[i] = -sum_j log sigmoid(z[i, j] * (cos(queries[i], documents[j]) / temperature + bias))`` with
    z = 1 for positives and -1 for all other pairs. No softmax couples the pairs. Temperature and bias are
    meant to be learned: keep ``log_temperature`` and ``bias`` among the parameters and pass
    ``temperature=jnp.exp(log_temperature)``.

    >>> print(sigmoid_loss(jnp.eye(2), jnp.eye(2), temperature=0.1, bias=-5.0).round(4))
    [0.0134 0.0134]

    Args:
        queries: [B, D], normalised inside.
        documents: [N, D], finite, normalised inside. Without ``positives``, row i answers query i.
        positives: int [B] or bool [B, N] as in :func:`softmax_loss`.
        where: optional bool [B, N]. False drops a pair; positives are always kept.
        temperature: positive number that divides the cosines; may be traced. The paper starts at 0.1.
        bias: number added to the scores; may be traced. -10 makes the many negatives cheap at the start.

    Returns:
        [B], the sum over the documents of each query, in at least float32. The mean over B is the loss
        of the paper.

    Raises:
        ValueError: where ``positives`` is left out and there are fewer documents than queries.

    References:
        X. Zhai et al. (SigLIP), arXiv:2303.15343; its multiplier t is 1 / temperature.
    """
    check_sides(queries, documents)
    check_temperature(temperature)
    positives, kept = _pairs(len(queries), len(documents), positives, where)
    scores = jnp.where(kept, inner(directions(queries), directions(documents)), 0)
    logits = scores / temperature + bias
    return jnp.sum(jnp.where(kept, jax.nn.softplus(jnp.where(positives, -logits, logits)), 0), axis=1)
