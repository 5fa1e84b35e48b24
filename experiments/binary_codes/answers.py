"""Answers to claims: rows of the tables, seed by seed."""

import itertools

import numpy as np

from experiments.binary_codes import heads, newsgroups
from experiments.shared import results


def runs_of(rows, number, **wanted):
    """The numbers of every seed of the row that is wanted."""
    (row,) = [r for r in rows if all(r[key] == value for key, value in wanted.items())]
    return np.array([run[number] for run in row["runs"]])


def above(name, number, one, other, **options):
    """The answer of a claim that one row is above another, by ``results.paired``; None in other runs."""

    def ours(t):
        if name not in t:
            return None
        found = runs_of(t[name], number, **one) - runs_of(t[name], number, **other)
        return results.paired(found, **options)

    return ours


def errors_apart(name, one, *others, allowed=False):
    """Is nDCG of a row above that of others by two standard errors, or ``allowed`` not below by them?

    Rows that name no bits are compared at every width.
    """

    def ours(t):
        if name not in t:
            return None
        widths, gaps = (newsgroups.SHORT, newsgroups.LONG), []
        for bits, other in itertools.product(widths, others):
            pair = [runs_of(t[name], "nDCG@10", **({"bits": bits} | row)) for row in (one, other)]
            if len(pair[0]) < 3:
                return None
            error = np.sqrt(sum(np.var(x, ddof=1) / len(x) for x in pair))
            gaps.append((pair[0].mean() - pair[1].mean(), 2 * error))
        gap, error = min(gaps, key=lambda g: g[0] - g[1])
        return results.holds(gap > (-error if allowed else error), gap, error)

    return ours


def rising(t):
    """Does recall rise with every further plane of the longest code?"""
    if "heads" not in t:
        return None
    found = [runs_of(t["heads"], "Recall@10", head=name) for name in (*heads.PREFIXES, heads.LONG)]
    return results.paired(np.stack([b - a for a, b in itertools.pairwise(found)], axis=1))
