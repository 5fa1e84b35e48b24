"""Batches from one neighbourhood: queries whose hard negatives meet are put side by side."""

import collections
import itertools

import numpy as np

_GLANCE = 8  # queries that are looked at one by one


def proximity_graph(ranked, *, query_window=(0, 200), document_window=(0, 200)):
    """Proximity graph: which documents are hard for a query, and for which queries a document is hard.

    Query q has an edge to ``ranked[q, a:b]`` with (a, b) = ``query_window``. Document d has an edge to every
    query q with d in ``ranked[q, a:b]``, where (a, b) = ``document_window``.

    >>> graph = proximity_graph([[5, 0], [5, 1]], query_window=(0, 1), document_window=(0, 2))
    >>> print(graph["documents"].tolist(), graph["queries"][graph["starts"][5] : graph["starts"][6]])
    [[5], [5]] [0 1]

    Args:
        ranked: int [Q, R], the documents that a search found for each query, best first, without those that
            answer it. A negative number is padding and comes last.
        query_window: ranks of the negatives of a query.
        document_window: ranks at which a document leads back to a query. BiDR's code has [200, 400) here
            although its forward ranks are [0, 200); the default takes the same ranks for both.

    Returns:
        Dict of NumPy arrays: "documents" int [Q, W]; "queries" int [E], for one document after the other;
        "starts" int [D + 1], document d has ``queries[starts[d] : starts[d + 1]]``.

    Raises:
        ValueError: for ranks outside those of ``ranked``.

    References:
        S. Xiao et al. (BiDR), arXiv:2201.05409.
    """
    ranked = np.asarray(ranked)
    if ranked.ndim != 2 or ranked.dtype.kind not in "iu":
        raise ValueError(f"ranked: {ranked.dtype} {ranked.shape}; pass integers [Q, R]")
    for name, (low, high) in (("query_window", query_window), ("document_window", document_window)):
        if not 0 <= low <= high <= ranked.shape[1]:
            raise ValueError(f"{name}: ({low}, {high}) is outside the {ranked.shape[1]} ranks of ranked")
    back = ranked[:, slice(*document_window)]
    documents, owners = back.reshape(-1), np.repeat(np.arange(len(ranked)), back.shape[1])
    owners, documents = owners[documents >= 0], documents[documents >= 0]
    order = np.argsort(documents, kind="stable")
    counts = np.bincount(documents, minlength=int(ranked.max(initial=-1)) + 1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return {"documents": ranked[:, slice(*query_window)], "queries": owners[order], "starts": starts}


def locality_batches(graph, positives, size, *, seed, order="depth", restarts=1, negatives=1, count=None):
    """Locality-centric batches: an epoch of batches, each a walk over queries that share hard negatives.

    A walk starts at a random query. Each query takes its document and ``negatives`` random documents of its
    window; the queries to which these documents lead join a queue, and the next query comes from it. So the
    negatives within a batch are hard for many of its queries. Every query comes at most once in an epoch.

    >>> graph = proximity_graph(np.array([[2, 3], [3, 0], [0, 1], [1, 2]]), query_window=(0, 2),
    ...                         document_window=(0, 2))
    >>> batch = locality_batches(graph, np.arange(4), 2, seed=0)
    >>> print(batch["queries"].shape, batch["documents"].shape, batch["restart"].tolist())
    (2, 2) (2, 2, 2) [[True, False], [True, True]]

    Args:
        graph: of :func:`proximity_graph` with Q queries.
        positives: int [Q], the document that answers each query; or a list of lists, of which one is drawn.
        size: B, the queries of a batch, at most Q; what does not fill a batch is left out.
        seed: int or tuple of ints, (seed, epoch) for example; the same one gives the same epoch.
        order: "depth" takes the query that joined last (the paper's random walk), "breadth" the one that
            joined first (snow sample).
        restarts: walks of a batch, of equal length up to rounding. A walk also starts anew where the queue is
            empty.
        negatives: h, documents beside the own one of each query, none of them in the batch before. Where the
            window has too few, random documents fill the row.
        count: number of documents; default one more than the greatest of the graph and of ``positives``.

    Returns:
        Dict of NumPy arrays, S = Q // B: "queries" int32 [S, B]; "documents" int32 [S, B, 1 + h], the own one
        first; "restart" bool [S, B], where a walk starts. A document may answer another query of the batch:
        hide it with ``losses.duplicate_mask``.

    Raises:
        ValueError: for an unknown order, sizes out of range, positives that do not fit, or fewer documents
            than a batch needs.

    References:
        S. Xiao et al. (BiDR), arXiv:2201.05409, locality-centric sampling.
    """
    rng, total = np.random.default_rng(seed), len(graph["documents"])
    own = _drawn(positives, total, rng)
    most = max([int(own.max()), int(graph["documents"].max(initial=-1)), len(graph["starts"]) - 2]) + 1
    count = most if count is None else count
    _check(order, total, size, restarts, negatives, count)
    steps, walk = total // size, -(-size // restarts)
    queries, restart = np.zeros((steps, size), np.int32), np.zeros((steps, size), bool)
    documents = np.zeros((steps, size, 1 + negatives), np.int32)
    free, fresh = bytearray(b"\1") * total, iter(rng.permutation(total).tolist())
    pick, follow = _picker(graph, count, negatives, rng), _follower(graph, free, order == "depth")
    for step in range(steps):
        queue, held = collections.deque(), set()
        rows, chosen, begins = [], [], []
        for i in range(size):
            query = follow(queue) if i % walk else -1
            begins.append(query < 0)
            if query < 0:
                query = next(q for q in fresh if free[q])
            free[query] = 0
            found = pick(query, int(own[query]), held)
            rows.append(query)
            chosen.append(found)
            queue.extend(found[1:])
        queries[step], documents[step], restart[step] = rows, chosen, begins
    return {"queries": queries, "documents": documents, "restart": restart}


def _follower(graph, free, deep):
    """``queue of documents -> the next free query that they lead to, or -1``.

    A document stays in the queue until all its queries are taken, as if each of them stood there.
    """
    starts, places = graph["starts"].tolist(), graph["queries"].astype(np.int64)
    view, known, end = memoryview(places), np.frombuffer(free, bool), len(starts) - 1

    def first_of(low, high):
        some = (
            range(high - 1, max(low, high - _GLANCE) - 1, -1)
            if deep
            else range(low, min(high, low + _GLANCE))
        )
        for place in some:  # most often one of these is free
            if free[view[place]]:
                return view[place]
        left = places[low:high]
        left = left[known[left]]
        return int(left[-1 if deep else 0]) if len(left) else -1

    def follow(queue):
        while queue:
            document = queue[-1 if deep else 0]
            query = first_of(starts[document], starts[document + 1]) if document < end else -1
            if query >= 0:
                return query
            queue.pop() if deep else queue.popleft()
        return -1

    return follow


def _picker(graph, count, negatives, rng):
    """``(query, own, held) -> [own, negatives]``; what it picks is added to ``held``."""
    window = graph["documents"].shape[1]
    draws = itertools.chain.from_iterable(iter(lambda: rng.random(8192).tolist(), None))

    def pick(query, own, held):
        held.add(own)
        found, row = [own], graph["documents"][query]
        for _ in range(negatives if window else 0):
            document = int(row[int(next(draws) * window)])
            if document < 0 or document in held:  # seldom: draw among those that are left
                left = [d for d in row.tolist() if d >= 0 and d not in held]
                if not left:
                    break
                document = left[int(next(draws) * len(left))]
            held.add(document)
            found.append(document)
        while len(found) <= negatives:
            document = int(next(draws) * count)
            if document not in held:
                held.add(document)
                found.append(document)
        return found

    return pick


def _drawn(positives, total, rng):
    """One document for each query, int [Q]."""
    if len(positives) != total:
        raise ValueError(
            f"positives: {len(positives)} for {total} queries; pass a document or a list for each"
        )
    if isinstance(positives, np.ndarray) and positives.ndim == 1:
        own = positives
    else:
        lists = [np.atleast_1d(np.asarray(given, np.int64)) for given in positives]
        empty = [i for i, given in enumerate(lists) if not len(given)]
        if empty:
            raise ValueError(f"positives[{empty[0]}]: is empty; leave out queries that nothing answers")
        own = np.array(
            [given[int(x * len(given))] for given, x in zip(lists, rng.random(total), strict=True)]
        )
    if own.dtype.kind not in "iu" or (own.size and own.min() < 0):
        raise ValueError("positives: hold something that is not a document's number; pass integers from 0 on")
    return own


def _check(order, total, size, restarts, negatives, count):
    if order not in ("depth", "breadth"):
        raise ValueError(f"order: {order!r}; choose depth or breadth")
    for name, value, low, high in (("size", size, 1, total), ("restarts", restarts, 1, size)):
        if not low <= value <= high:
            raise ValueError(f"{name}: {value} is outside {low}..{high}")
    if negatives < 0:
        raise ValueError(f"negatives: {negatives} is below 0; pass how many each query gets")
    if count < size * (1 + negatives):
        wanted = size * (1 + negatives)
        raise ValueError(f"size: {size} needs {wanted} documents, of {count}; take a smaller one")
