"""How much one feature of a table tells about another."""

import numpy as np

KINDS = ("plain", "normalised", "adjusted")


def mutual_information(ids, masks=None, *, weights=None, kind="plain", shuffles=3, seed=0):
    """Mutual information of features: how much a value of one tells about the value of another, in nats.

    ``I(V, W) = sum P(v, w) log(P(v, w) / (P(v) P(w)))`` over the rows of a table. Of a bag of n values each
    counts 1/n; a row without values has the value "nothing". On the diagonal is the entropy.

    An estimate from few rows per value is too high. The id of an item, of which each row has its own, has
    the entropy of the other feature in common with it, so it seems correlated with everything. "normalised"
    divides by ``sqrt(H(V) H(W))``, 0 for a constant feature. "adjusted" takes off what is found when the
    rows of W are shuffled, and is at least 0: of an id it is 0, an id tells nothing that shuffled ids do not.

    >>> ids = {"id": np.arange(4), "leaf": np.array([1, 1, 2, 2]), "brand": np.array([7, 7, 8, 8])}
    >>> print(mutual_information(ids).round(2))  # in the order brand, id, leaf
    [[0.69 0.69 0.69]
     [0.69 1.39 0.69]
     [0.69 0.69 0.69]]

    Args:
        ids: {feature: int [N] or [N, n]}, such as ``catalogue["ids"]``.
        masks: optional {feature: bool [N] or [N, n]}, True = real value.
        weights: optional [N], at least 0, how often a row counts. None counts every item once. LibRecommender
            counts interactions, which weighs by popularity.
        kind: "plain", as in the paper; "normalised" or "adjusted".
        shuffles: number of shuffles that "adjusted" averages.
        seed: int of the shuffles.

    Returns:
        float64 [k, k], symmetric, features in the sorted order of their names.

    Raises:
        ValueError: for another kind, no features, columns of different lengths, or weights that are negative
            or all 0.

    References:
        T. Yao et al., arXiv:2007.12865, section on correlated feature masking.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; choose one of {KINDS}")
    masks, columns = masks or {}, {}
    if not ids:
        raise ValueError("ids: no features; give at least one")
    counts = {name: len(x) for name, x in ids.items()}
    if len(set(counts.values())) > 1 or not min(counts.values()):
        raise ValueError(f"ids: columns of {counts} rows; give all the same number, at least 1")
    for name in sorted(ids):
        columns[name] = _shares(ids[name], masks.get(name), name)
    weights = _weights(weights, len(next(iter(ids.values()))))
    listed, found = list(columns.values()), np.zeros((len(columns), len(columns)))
    entropies = np.array([_entropy(weights @ x) for x in listed])
    rng = np.random.default_rng(seed)
    for i, x in enumerate(listed):
        for j, y in enumerate(listed[: i + 1]):
            value = entropies[i] if i == j else _information(x, y, weights)
            if kind == "adjusted":
                orders = [rng.permutation(len(weights)) for _ in range(shuffles)]
                value = max(0.0, value - np.mean([_information(x, y[o], weights) for o in orders]))
            found[i, j] = found[j, i] = value
    if kind == "normalised":
        scale = np.sqrt(np.outer(entropies, entropies))
        found = np.where(scale > 0, found / np.where(scale > 0, scale, 1), 0)
    return found


def _weights(weights, count):
    if weights is None:
        return np.full(count, 1 / count)
    weights = np.asarray(weights, np.float64)
    if weights.shape != (count,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(f"weights: {weights.shape}; give one number for each of {count} rows, some above 0")
    return weights / weights.sum()


def _shares(ids, mask, name):
    """Sparse [N, values]: of each row the share that each of its values has."""
    from scipy import sparse

    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2):
        raise ValueError(f"ids: {name!r} is {ids.dtype} {ids.shape}; give integers [N] or [N, n]")
    mask = np.ones(ids.shape, bool) if mask is None else np.asarray(mask, bool)
    if mask.shape != ids.shape:
        raise ValueError(f"masks: {name!r} has shape {mask.shape}, its ids {ids.shape}; give one for each")
    ids, mask = (x[:, None] if x.ndim == 1 else x for x in (ids, mask))
    values, numbers = np.unique(ids, return_inverse=True)
    numbers = numbers.reshape(ids.shape)
    lengths = mask.sum(axis=1)
    rows = [np.repeat(np.arange(len(ids)), lengths), np.flatnonzero(lengths == 0)]
    places = [numbers[mask], np.full(len(rows[1]), len(values))]
    share = [1 / np.repeat(lengths, lengths), np.ones(len(rows[1]))]
    entries = np.concatenate(share), tuple(map(np.concatenate, (rows, places)))
    return sparse.csr_array(entries, shape=(len(ids), len(values) + 1))


def _information(x, y, weights):
    """Mutual information of two features, given as shares, over weighted rows."""
    joint = (x.T.multiply(weights).tocsr() @ y).tocoo()
    kept = joint.data > 0
    p, rows, columns = joint.data[kept], joint.row[kept], joint.col[kept]
    apart = (weights @ x)[rows] * (weights @ y)[columns]
    return _some(np.sum(p * np.log(p / apart)))


def _entropy(shares):
    shares = shares[shares > 0]
    return _some(-np.sum(shares * np.log(shares)))


def _some(value):
    """A number of nats; what rounding leaves of 0 is 0, so that a constant feature has no entropy."""
    return float(value) if value > 1e-9 else 0.0
