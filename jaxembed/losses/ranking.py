"""Losses on pairs of texts that carry a grade: put the pairs in order, or hit the grade."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, on_device, unit
from jaxembed.checks import check_temperature
from jaxembed.losses.contrastive import info_nce


def cosine_scores(first, second):
    """Cosine similarity: that of each row with its partner.

    ``scores[i] = <first[i], second[i]> / (|first[i]| |second[i]|)``, 0 for a zero vector.

    >>> print(cosine_scores(jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 0.0]])))
    [0.6]

    Args:
        first: [B, D].
        second: [B, D].

    Returns:
        [B], in at least float32.
    """
    first, second = _partners(first, second)
    return jnp.sum(unit(first) * unit(second), axis=1)


def angle_scores(first, second):
    """AnglE score: how similar two rows are as complex vectors.

    The halves of a row are the real and imaginary part of D/2 complex numbers: with first = [a, b] and
    second = [c, d], ``score = |a.c + b.d + b.c - a.d| / (|first| |second|)``. Equal and opposite rows both
    score 1.

    >>> first, second = jnp.array([[1.0, 0.0], [1.0, 1.0]]), jnp.array([[1.0, 0.0], [1.0, 0.0]])
    >>> print(angle_scores(first, second).round(3))
    [1.    1.414]

    Args:
        first: [B, D].
        second: [B, D].

    Returns:
        [B], in at least float32, 0 for a zero vector. An odd width is filled with one zero.

    References:
        X. Li and J. Li, AnglE, arXiv:2309.12871. The formula is the one that its code computes.
    """
    first, second = _partners(first, second)
    odd = ((0, 0), (0, first.shape[1] % 2))
    (a, b), (c, d) = (jnp.split(jnp.pad(unit(x), odd), 2, axis=1) for x in (first, second))
    return jnp.abs(jnp.sum(a * c + b * d + b * c - a * d, axis=1))


def ranking_loss(scores, *, targets, where=None, temperature=0.05):
    """Pairwise ranking loss: asks that a pair with a higher grade gets a higher score.

    All pairs of the batch are compared at once.

    ``loss = log(1 + sum exp((scores[i] - scores[j]) / temperature))`` over all i, j with
    ``targets[i] < targets[j]``.
    Only the order of the targets matters. The value grows with the number of pairs, so batches of
    different sizes do not compare.

    >>> print(ranking_loss(jnp.array([0.5, 0.5]), targets=jnp.array([0, 1])).round(4))
    0.6931

    Args:
        scores: [B], higher is better, one score per pair of texts.
        targets: [B], the grades; equal grades are not compared.
        where: optional bool [B]. False leaves a row out; it may hold anything.
        temperature: positive number that divides the scores; may be traced.

    Returns:
        A scalar in at least float32; exactly 0 where no two grades differ.

    References:
        J. Su, CoSENT; X. Huang et al., IEEE/ACM TASLP 2024, doi:10.1109/TASLP.2024.3402087.
    """
    scores, targets = jnp.asarray(scores), on_device("targets", targets)
    check_shape("scores", scores, (None,))
    check_temperature(temperature)
    where = _rows(scores, targets, where)
    scores = jnp.where(where, scores, 0).astype(accumulator(scores)) / temperature
    compared = (targets[:, None] < targets) & where[:, None] & where
    gaps = scores[:, None] - scores
    top = jax.lax.stop_gradient(jnp.max(jnp.where(compared, gaps, 0), initial=0.0))
    powers = jnp.where(compared, jnp.exp(jnp.where(compared, gaps - top, 0)), 0)
    return top + jnp.log1p(jnp.sum(powers) + jnp.expm1(-top))


def cosent(first, second, *, targets, where=None, temperature=0.05):
    """CoSENT loss: puts the cosines of graded pairs in the order of their grades.

    ``loss = ranking_loss(cosine_scores(first, second))``; see :func:`ranking_loss`.

    >>> first, second = jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 0.0]])
    >>> print(cosent(first, second, targets=jnp.array([0.2, 0.9]), temperature=1.0).round(4))
    1.3133

    Args:
        first: [B, D].
        second: [B, D], row i is the partner of row i.
        targets: [B], the grades.
        where: optional bool [B]. False leaves a pair out; it may hold anything.
        temperature: positive number that divides the cosines; may be traced.

    Returns:
        A scalar in at least float32.

    References:
        As for :func:`ranking_loss`.
    """
    first, second = _kept(first, second, where)
    return ranking_loss(cosine_scores(first, second), targets=targets, where=where, temperature=temperature)


def angle(first, second, *, targets, where=None, temperature=0.05):
    """AnglE loss: puts the angle scores of graded pairs in the order of their grades.

    ``loss = ranking_loss(angle_scores(first, second))``. AnglE's full objective is
    :func:`angle_objective`. The halves of a row are its real and imaginary parts, so a prefix has
    other halves than the whole. :func:`matryoshka` cuts prefixes first, as it should.

    >>> first, second = jnp.eye(2), jnp.array([[0.0, 1.0], [0.0, 1.0]])
    >>> print(angle(first, second, targets=jnp.array([0.2, 0.9]), temperature=1.0).round(4))
    0.6931

    Args:
        first: [B, D].
        second: [B, D], row i is the partner of row i.
        targets: [B], the grades.
        where: optional bool [B]. False leaves a pair out; it may hold anything.
        temperature: positive number that divides the scores; may be traced.

    Returns:
        A scalar in at least float32.

    References:
        X. Li and J. Li, AnglE, arXiv:2309.12871.
    """
    first, second = _kept(first, second, where)
    return ranking_loss(angle_scores(first, second), targets=targets, where=where, temperature=temperature)


def angle_objective(
    first,
    second,
    *,
    targets,
    negatives=None,
    where=None,
    weights=(1.0, 1.0, 0.02),
    temperatures=(0.05, 0.05, 0.05),
    positive=1.0,
):
    """AnglE objective: the weighted sum of CoSENT, InfoNCE within the batch, and the AnglE loss.

    ``w[0] * cosent + w[1] * mean(info_nce) + w[2] * angle``. Pairs with a grade of at least ``positive`` ask
    for their partner among all other texts of the batch, in both directions; the others have none to ask for.

    >>> first, second = jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 0.0]])
    >>> targets = jnp.array([1.0, 0.0])
    >>> print(angle_objective(first, second, targets=targets, weights=(1.0, 0.0, 0.0)).round(3))
    0.0

    Args:
        first: [B, D].
        second: [B, D], row i is the partner of row i.
        targets: [B], the grades.
        negatives: optional [B, D], a hard negative for each pair; then all grades count as positive, the
            negatives as pairs of grade 0, and InfoNCE is the mean of that without and with them.
        where: optional bool [B]. False leaves a pair, and its negative, out; they may hold anything.
        weights: of the three terms. The third is 0.02 in today's code of AnglE and was 1 with temperature 1.
        temperatures: of the three terms.
        positive: lowest grade of a positive pair.

    Returns:
        A scalar in at least float32.

    Raises:
        ValueError: for other shapes.

    References:
        X. Li and J. Li, AnglE, arXiv:2309.12871, with the weights of its code. How InfoNCE reads graded pairs
        is a reading of that code.
    """
    for name, given in (("weights", weights), ("temperatures", temperatures)):
        if len(given) != 3:
            raise ValueError(f"{name}: {len(given)}; pass three, of CoSENT, InfoNCE and AnglE")
    first, second = _partners(*_kept(first, second, where))
    targets, kept = on_device("targets", targets), _rows(first[:, 0], on_device("targets", targets), where)
    if negatives is None:
        within = _within(first, second, targets >= positive, kept, temperatures[1])
    else:
        _, negatives = _partners(*_kept(first, negatives, where))
        both = jnp.tile(kept, (len(kept), 2))
        given = {"temperature": temperatures[1]}
        plain = info_nce(first, second, where=both[:, : len(kept)], **given)
        hard = info_nce(first, jnp.concatenate([second, negatives]), where=both, **given)
        within = _mean((plain + hard) / 2, kept)
        targets = jnp.repeat(jnp.array([1.0, 0.0]), len(kept))
        first, second = jnp.concatenate([first, first]), jnp.concatenate([second, negatives])
        kept = jnp.tile(kept, 2)
    given = {"targets": targets, "where": kept}
    ranked = cosent(first, second, temperature=temperatures[0], **given)
    return (
        weights[0] * ranked
        + weights[1] * within
        + weights[2] * angle(first, second, temperature=temperatures[2], **given)
    )


def _within(first, second, positive, kept, temperature):
    """Mean InfoNCE over all texts of a batch; those of positive pairs ask for their partner."""
    rows, texts = len(first), jnp.concatenate([first, second])
    partner = (jnp.arange(2 * rows) + rows) % (2 * rows)
    asked = jnp.where(jnp.tile(positive & kept, 2), partner, -1)
    where = ~jnp.eye(2 * rows, dtype=bool) & jnp.tile(kept, 2)
    return _mean(
        info_nce(texts, texts, positives=asked, where=where, temperature=temperature), jnp.tile(kept, 2)
    )


def _mean(values, kept):
    return jnp.sum(jnp.where(kept, values, 0)) / jnp.maximum(jnp.sum(kept), 1)


def cosine_loss(first, second, *, targets, where=None):
    """Cosine regression: pulls the cosine of each pair to its grade.

    ``loss[i] = (cos(first[i], second[i]) - targets[i])**2``

    >>> print(cosine_loss(jnp.eye(2), jnp.eye(2), targets=jnp.array([1.0, 0.5])))
    [0.   0.25]

    Args:
        first: [B, D].
        second: [B, D], row i is the partner of row i.
        targets: [B], cosines in -1..1.
        where: optional bool [B]. False leaves a pair out; it may hold anything.

    Returns:
        [B], in at least float32; 0 for a pair that is left out.

    References:
        N. Reimers and I. Gurevych, Sentence-BERT, arXiv:1908.10084.
    """
    first, second = _kept(first, second, where)
    scores, targets = cosine_scores(first, second), on_device("targets", targets)
    where = _rows(scores, targets, where)
    return jnp.where(where, scores - jnp.where(where, targets, 0), 0) ** 2


def _partners(first, second):
    first, second = jnp.asarray(first), jnp.asarray(second)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"second: {second.shape} with first {first.shape}; pass [B, D] and its partners")
    wide = accumulator(first, second)
    return first.astype(wide), second.astype(wide)


def _kept(first, second, where):
    """Writes zeros into the rows that do not count, so that their content sends no gradient."""
    if where is None:
        return first, second
    check_shape("where", where, (len(first),))
    where, first, second = jnp.asarray(where, bool)[:, None], jnp.asarray(first), jnp.asarray(second)
    return jnp.where(where, first, 0), jnp.where(where, second, 0)


def _rows(scores, targets, where):
    if targets.shape != scores.shape:
        raise ValueError(f"targets: {targets.shape} for {len(scores)} scores; pass one grade per pair")
    if where is None:
        return jnp.ones(scores.shape, bool)
    check_shape("where", where, scores.shape)
    return jnp.asarray(where, bool)
