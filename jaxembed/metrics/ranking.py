"""Numbers that say how good a ranking is, from graded judgments.

All metrics take the gains of a ranking (see ``gains``) and the gains of all judged documents. A query without
a relevant judgment says nothing about a ranking. Its value is 0 and does not belong in the average:
``masked_mean(values, has_relevant(judged_gains))`` leaves it out.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, host, narrow_ids


def judgments(source, split="test"):
    """Relevance judgments as arrays: the documents judged for each query, and their grades.

    Row i belongs to query ``queries[i]``. A document is named by its place in ``source["documents"]``.

    >>> source = {
    ...     "documents": {"d1": "a dog", "d2": "a cat"},
    ...     "queries": {"q": "cat"},
    ...     "judgments": {"test": {"q": {"d2": 2, "lost": 1}}},
    ... }
    >>> print(judgments(source))
    (['q'], array([[1, 2]]), array([[2., 1.]], dtype=float32))

    Args:
        source: dict as ``data.beir(folder)`` gives it: ``documents`` {id: text}, ``queries`` {id: text} and
            ``judgments`` {split: {query id: {document id: grade}}}.
        split: which judgments.

    Returns:
        queries: list of the B judged queries that have a text.
        judged_ids: int [B, J], padded with -1. A judged document without a text gets a number of N or more:
            no search finds it, and recall counts it. A judgment of the query itself is left out, as in BEIR.
        judged_gains: float32 [B, J], padded with 0.

    Raises:
        ValueError: for a split without judgments, one in which no query with a text has a relevant document,
            and grades that are NaN or infinite.
    """
    given = {q: found for q, found in source["judgments"].get(split, {}).items() if found}
    if not given:
        raise ValueError(f"split={split!r}: no judged queries; the source has {sorted(source['judgments'])}")
    queries = [q for q in given if q in source["queries"]]
    _check_relevant(given, queries, split)
    places = {name: i for i, name in enumerate(source["documents"])}
    others = [{d: gain for d, gain in given[q].items() if d != q} for q in queries]
    return queries, *_table(others, places)


def gains(ids, judged_ids, judged_gains):
    """Gains: looks up the judged grade of every document in a ranking.

    ``gains[b, r] = judged_gains[b, j]`` where ``judged_ids[b, j] == ids[b, r]``, and 0 for documents
    without a judgment, for negative gains, and where an id comes for the second time.

    >>> ids = jnp.array([[4, 9, 4, 2]])
    >>> print(gains(ids, jnp.array([[2, 4, -1]]), jnp.array([[1, 3, 0]])))
    [[3. 0. 0. 1.]]

    Args:
        ids: int [B, K], best document first; a negative id is padding. Ids of 64 bits are compared
            exactly (under jit they are those that JAX holds).
        judged_ids: int [B, J], distinct within a row; a negative id is padding.
        judged_gains: [B, J], the grade of each judged document.

    Returns:
        float32 [B, K]. The cost grows with (J + K) log J, not with J * K.

    Raises:
        ValueError: for shapes that do not fit, or ids that are not integers.
    """
    (ids, judged_ids), _ = narrow_ids(ids=ids, judged_ids=judged_ids)
    check_shape("ids", ids, (None, None))
    check_shape("judged_ids", judged_ids, (len(ids), None))
    grades = _positive(judged_gains)
    check_shape("judged_gains", grades, judged_ids.shape)
    return _gains(ids, judged_ids, grades)


@jax.jit
def _gains(ids, judged_ids, grades):
    known = jnp.pad(judged_ids, ((0, 0), (0, 1)), constant_values=-1)
    grades = jnp.pad(grades, ((0, 0), (0, 1)))
    order = jnp.argsort(known, axis=1)
    known, grades = (jnp.take_along_axis(x, order, axis=1) for x in (known, grades))
    place = jax.vmap(jnp.searchsorted)(known, ids)
    place = jnp.minimum(place, known.shape[1] - 1)
    found = (jnp.take_along_axis(known, place, axis=1) == ids) & (ids >= 0)
    found = jnp.where(found, jnp.take_along_axis(grades, place, axis=1), 0)
    order = jnp.argsort(ids, axis=1, stable=True)
    ordered = jnp.take_along_axis(ids, order, axis=1)
    again = jnp.pad(ordered[:, 1:] == ordered[:, :-1], ((0, 0), (1, 0)))[:, : ids.shape[1]]
    again = jnp.take_along_axis(again, jnp.argsort(order, axis=1), axis=1)
    return jnp.where(again, 0, found)


def has_relevant(judged_gains):
    """Queries that count: says which have at least one relevant document.

    ``has_relevant[b] = any(judged_gains[b] > 0)``.

    >>> print(has_relevant(jnp.array([[0, 2], [0, -1]])))
    [ True False]

    Args:
        judged_gains: [B, J]; padding is zero or negative.

    Returns:
        bool [B].
    """
    return jnp.any(_positive(judged_gains) > 0, axis=1)


def masked_mean(values, where):
    """Masked mean: averages a metric over the queries that count.

    ``masked_mean = sum_b where[b] values[b] / max(1, sum_b where[b])``.

    >>> print(masked_mean(jnp.array([1.0, 0.0, 0.5]), jnp.array([True, False, True])))
    0.75

    Args:
        values: [B], one value per query.
        where: bool [B]; False leaves a query out, whatever its value.

    Returns:
        A float32 scalar, 0 when no query counts.
    """
    values, where = jnp.asarray(values), jnp.asarray(where)
    total = jnp.sum(jnp.where(where, values, 0), dtype=accumulator(values))
    return total / jnp.maximum(jnp.sum(where), 1).astype(jnp.float32)


def sliced_means(values, counts, edges, *, where=None):
    """Popularity slices: averages a metric apart for queries whose item is rare, known or popular.

    Slice s holds the queries with ``edges[s - 1] < counts <= edges[s]``, the first those up to ``edges[0]``,
    one more at the end those above all edges. An edge of 0 makes a slice of items that training never saw.

    >>> means, sizes = sliced_means(jnp.array([0.0, 1.0, 1.0, 0.5]), jnp.array([0, 2, 9, 70]), (0, 10))
    >>> print(means, sizes)
    [0.  1.  0.5] [1 2 1]

    Args:
        values: [B], one value per query.
        counts: [B], how often training saw the item that each query asks for.
        edges: rising numbers, S of them.
        where: optional bool [B]; False leaves a query out, whatever its value.

    Returns:
        means float32 [S + 1], 0 for an empty slice, and sizes int32 [S + 1].

    Raises:
        ValueError: for edges that do not rise, or shapes that do not fit.
    """
    values, counts, edges = jnp.asarray(values), jnp.asarray(counts), np.asarray(edges)
    check_shape("values", values, (None,))
    check_shape("counts", counts, values.shape)
    if edges.ndim != 1 or not edges.size or np.isnan(edges).any() or (np.diff(edges) <= 0).any():
        raise ValueError(f"edges: {edges.tolist()}; give at least one number, each above the one before")
    kept = jnp.ones(values.shape, bool) if where is None else jnp.asarray(where, bool)
    check_shape("where", kept, values.shape)
    own = jnp.searchsorted(jnp.asarray(edges), counts)
    inside = kept & (own[None] == jnp.arange(len(edges) + 1)[:, None])
    total = jnp.sum(jnp.where(inside, values, 0), axis=1, dtype=accumulator(values))
    sizes = jnp.sum(inside, axis=1)
    return total / jnp.maximum(sizes, 1).astype(total.dtype), sizes


def ndcg(gains, judged_gains, *, k=10):
    """nDCG: the discounted gain of the first k places, divided by the best that any ranking could have.

    ``ndcg = dcg(gains) / dcg(judged_gains in falling order)``, where
    ``dcg(g) = sum_{r=1..k} g[r] / log2(r + 1)``. The gain is linear, as in trec_eval, and the ideal
    comes from the judgments, not from the ranking.

    >>> print(ndcg(jnp.array([[0.0, 0.0, 1.0]]), jnp.array([[1.0, 0.0]])))
    [0.5]

    Args:
        gains: [B, K], the gain at each place, as ``gains(ids, judged_ids, judged_gains)`` gives it.
        judged_gains: [B, J], the grades of all judged documents; padding is zero or negative.
        k: how many places count; None counts all. A ranking shorter than k misses the rest.

    Returns:
        float32 [B] within 0..1; 0 where ``has_relevant(judged_gains)`` is False.

    References:
        K. Jarvelin and J. Kekalainen, ACM TOIS 20(4), 2002, doi:10.1145/582415.582418.
    """
    found, wanted = _read(gains, judged_gains)
    ideal = -jnp.sort(-wanted, axis=1)
    places = max(found.shape[1], ideal.shape[1])  # sums of one length round in one way
    padded = (jnp.pad(x, ((0, 0), (0, places - x.shape[1]))) for x in (found, ideal))
    return jnp.minimum(_ratio(*(_discounted(x[:, :k]) for x in padded)), 1)


def recall(gains, judged_gains, *, k=10):
    """Recall: the share of the relevant documents that is in the first k places.

    ``recall = |{r <= k: gains[r] > 0}| / |{j: judged_gains[j] > 0}|``.

    >>> print(recall(jnp.array([[0.0, 2.0, 1.0]]), jnp.array([[1.0, 2.0]]), k=2))
    [0.5]

    Args:
        gains: [B, K], the gain at each place, as ``gains(ids, judged_ids, judged_gains)`` gives it.
        judged_gains: [B, J], the grades of all judged documents; padding is zero or negative.
        k: how many places count; None counts all.

    Returns:
        float32 [B] within 0..1; 0 where ``has_relevant(judged_gains)`` is False.
    """
    hits, wanted = (_ones(x) for x in _read(gains, judged_gains))
    return _ratio(jnp.sum(hits[:, :k], axis=1), jnp.sum(wanted, axis=1))


def mrr(gains, judged_gains, *, k=10):
    """Mean reciprocal rank: one divided by the place of the first relevant document.

    ``mrr = max_{r <= k} [gains[r] > 0] / r``; averaged over queries it is the mean reciprocal rank.

    >>> print(mrr(jnp.array([[0.0, 2.0, 1.0]]), jnp.array([[1.0, 2.0]])))
    [0.5]

    Args:
        gains: [B, K], the gain at each place, as ``gains(ids, judged_ids, judged_gains)`` gives it.
        judged_gains: [B, J], the grades of all judged documents; padding is zero or negative.
        k: how many places count; None counts all.

    Returns:
        float32 [B] within 0..1; 0 where nothing relevant is there or ``has_relevant(judged_gains)`` is
        False.
    """
    found, wanted = _read(gains, judged_gains)
    hits = _ones(found)[:, :k]
    best = jnp.max(hits / _ranks(hits), axis=1, initial=0)
    return jnp.where(has_relevant(wanted), best, 0)


def average_precision(gains, judged_gains, *, k=10):
    """Average precision: averages the precision at the place of every relevant document.

    ``average_precision = sum_{r <= k} [gains[r] > 0] precision(r) / |{j: judged_gains[j] > 0}|``, where
    ``precision(r)`` is the part of the first r places that is relevant. Relevant documents that do not
    are in the first k places add 0, as in trec_eval.

    >>> print(average_precision(jnp.array([[1.0, 0.0, 1.0]]), jnp.array([[1.0, 1.0]])).round(4))
    [0.8333]

    Args:
        gains: [B, K], the gain at each place, as ``gains(ids, judged_ids, judged_gains)`` gives it.
        judged_gains: [B, J], the grades of all judged documents; padding is zero or negative.
        k: how many places count; None counts all.

    Returns:
        float32 [B] within 0..1; 0 where ``has_relevant(judged_gains)`` is False.
    """
    hits, wanted = (_ones(x) for x in _read(gains, judged_gains))
    hits = hits[:, :k]
    precision = jnp.cumsum(hits, axis=1) / _ranks(hits)
    return _ratio(jnp.sum(hits * precision, axis=1), jnp.sum(wanted, axis=1))


def _read(gains, judged_gains):
    """Both in float32, zero where they are negative or NaN."""
    gains, judged_gains = _positive(gains), _positive(judged_gains)
    check_shape("gains", gains, (None, None))
    check_shape("judged_gains", judged_gains, (None, None))
    return gains, judged_gains


def _positive(grades):
    """Returns grades in float32, zero where they are negative or NaN."""
    if not isinstance(grades, jax.Array):
        grades = host("gains", grades)
        grades = grades.astype(np.float32) if grades.dtype.kind in "iu" else grades  # whatever their size
    grades = jnp.asarray(grades).astype(jnp.float32)
    return jnp.where(grades > 0, grades, 0)


def _ones(grades):
    return (grades > 0).astype(jnp.float32)


def _ranks(x):
    return jnp.arange(1, x.shape[1] + 1, dtype=jnp.float32)[None]


def _discounted(grades):
    return jnp.sum(grades / jnp.log2(_ranks(grades) + 1), axis=1)


def _ratio(part, whole):
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)


def _check_relevant(judgments, names, split):
    """Refuses judgments from which no number comes: none of a query with a text, or none above 0."""
    if not names:
        count, first = len(judgments), next(iter(judgments))
        raise ValueError(
            f"split={split!r}: none of {count} judged queries has a text ({first!r}); check their ids"
        )
    gains_of = (gain for q in names for d, gain in judgments[q].items() if d != q)
    if not any(not gain <= 0 for gain in gains_of):  # NaN is named later
        raise ValueError(
            f"split={split!r}: no judgment of {len(names)} queries is above 0, so nothing can be found; "
            "check the gains"
        )


def _table(judgments, places):
    """Judged ids int [B, J], padded with -1, and gains [B, J]; missing documents get numbers of their own."""
    width = max(1, *(len(documents) for documents in judgments))
    ids, grades = np.full((len(judgments), width), -1), np.zeros((len(judgments), width), np.float32)
    numbers = dict(places)
    for row, documents in enumerate(judgments):
        for column, (name, gain) in enumerate(documents.items()):
            ids[row, column] = numbers.setdefault(name, len(numbers))
            grades[row, column] = gain
    if not np.isfinite(grades).all():
        raise ValueError("judgments: hold NaN or infinite gains; look for a missing grade")
    return ids, grades
