"""What sharing gains, seed by seed: the answers to the claims."""

import numpy as np

from experiments.shared import results


def gains(t, names=None):
    """What sharing adds to the test AUC of each seed, [S, scheme and budget]."""
    known = {(row["tables"], row["budget"]): np.array(row["AUCs"]) for row in t["test AUC"]}
    pairs = [(n.removeprefix("unified, "), b) for n, b in known if n.startswith("unified, ")]
    pairs = [(n, b) for n, b in pairs if names is None or n in names]
    if not pairs:
        return None
    return np.stack([known[f"unified, {n}", b] - known[f"per feature, {n}", b] for n, b in pairs], axis=1)


def everywhere(t):
    """Whether sharing gains in each scheme and budget."""
    answers = [results.paired(column) for column in gains(t).T]
    if any(answer.verdict is None for answer in answers):
        return results.Answer(float(gains(t).mean()), None, None)
    return results.share([answer.verdict == results.REPRODUCED for answer in answers])


def second_chunk(t):
    """What two shared chunks gain over one chunk per feature."""
    known = {(row["tables"], row["budget"]): np.array(row["AUCs"]) for row in t["test AUC"]}
    budgets = [b for n, b in known if n == "unified, 2 chunks" and ("per feature, 1 chunk", b) in known]
    found = [known["unified, 2 chunks", b] - known["per feature, 1 chunk", b] for b in budgets]
    return results.paired(np.stack(found, axis=1)) if found else None


def of_schemes(*names, **options):
    """What answers whether sharing gains, or gains little, in some schemes at every budget."""

    def answer(t):
        found = gains(t, names)
        return None if found is None else results.paired(found, **options)

    return answer


def turning(t):
    """Whether the readers turn away from one another as the rows shrink, and by how many degrees."""
    angles = [row["mean angle"] for row in (*t.get("reader angles", ()), *t.get("readers", ()))]
    return results.holds(np.all(np.diff(angles) > 0), angles[-1] - angles[0]) if angles else None


def growing(t):
    """Whether rows grow in every seed as they get fewer, and how many times as long their squares are."""
    squares = np.array([row["squares"] for row in t.get("readers", ())])
    if not len(squares):
        return None
    return results.holds(np.all(np.diff(squares, axis=0) > 0), float((squares[-1] / squares[0]).mean()))
