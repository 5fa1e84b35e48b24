"""Rankings with ties: short codes give many documents one distance, and no order among them is right."""

import numpy as np

from jaxembed.arrays import check_shape, host


def tied_gains(scores, gains, *, key=None):
    """Gains in ranked order where scores tie: every document of a tie gets the mean gain of its tie.

    That is the expectation over all orders of the tied documents. :func:`ndcg` of it is the expected nDCG, as
    scikit-learn's ``ndcg_score`` has it, and the mean of its first k gains is the expected precision. What is
    not linear in the gains, as the average precision, needs one order: a key draws it at random.

    >>> scores, gains = np.array([[3, 5, 3, 1]]), np.array([[1.0, 0, 0, 1]])
    >>> print(tied_gains(scores, gains))
    [[0.  0.5 0.5 1. ]]

    Args:
        scores: [B, N], higher is better; minus a distance.
        gains: [B, N], of the same documents.
        key: optional integer that seeds a random order within ties; None averages.

    Returns:
        float64 NumPy array [B, N], best document first.

    Raises:
        ValueError: for shapes that differ, or scores that hold NaN.

    References:
        F. McSherry and M. Najork, Computing information retrieval performance measures efficiently in the
        presence of tied scores, ECIR 2008.
    """
    scores, gains = host("scores", scores), host("gains", gains).astype(np.float64)
    check_shape("scores", scores, (None, None))
    check_shape("gains", gains, scores.shape)
    if np.isnan(scores).any():
        raise ValueError("scores: hold NaN, which has no rank; mend or leave out those rows")
    if key is not None:
        noise = np.random.default_rng(key).random(scores.shape)
        order = np.lexsort((noise, -scores), axis=1)
        return np.take_along_axis(gains, order, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores, gains = (np.take_along_axis(x, order, axis=1) for x in (scores, gains))
    new = np.ones(scores.shape, bool)
    new[:, 1:] = scores[:, 1:] != scores[:, :-1]
    ties = np.cumsum(new) - 1  # numbered through all rows: a row begins a new one
    means = np.bincount(ties, gains.ravel()) / np.bincount(ties)
    return means[ties].reshape(gains.shape)
