"""What the tables of a run say to each claim."""

import numpy as np

from experiments.shared import results

COLLAPSED = 0.05  # mean squared distance below which vectors have collapsed


def runs_of(rows, key, head):
    """{(heads): numbers of the seeds} of a table."""
    return {tuple(r[h] for h in head): np.array([x[key] for x in r["runs"]]) for r in rows}


def asked(part, answer):
    """The answer to a claim about a part; None where the run left it out."""
    return lambda t: answer(t) if part in t else None


def better(t):
    """Semi-hard above random by two points in four of five seeds."""
    found = runs_of(t["rules"][1:5], "VAL", ("rule",))
    gap = found["semi-hard",] - found["random",]
    if len(gap) < results.LEAST:
        return results.Answer(float(gap.mean()), None, None)
    return results.holds((gap >= 0.02).mean() >= 0.8, gap.mean(), gap.std(ddof=1))


def collapse(t):
    """The hardest rule collapses in some seed at the high rate, the semi-hard one in none."""
    found = runs_of(t["rules"][5:], "mean D", ("rule",))
    fallen = {rule: (x < COLLAPSED).mean() for (rule,), x in found.items()}
    return results.holds(fallen["hardest"] > 0 and not fallen["semi-hard"], fallen["hardest"])


def flat(t):
    """From 16 coordinates on the mean VAL differs by less than a standard error."""
    found = {size: x for (size,), x in runs_of(t["sizes"], "VAL", ("size",)).items() if size >= 16}
    if len(found) < 2 or len(found[min(found)]) < results.LEAST:
        return None
    gap = found[max(found)] - found[min(found)]
    sem = max(x.std(ddof=1) for x in found.values()) / len(gap) ** 0.5
    return results.holds(abs(gap.mean()) <= sem, gap.mean(), sem)


def ordered(t):
    """VAL of new with new above old with new above old with old."""
    found = runs_of(t["versions"], "VAL", ("versions",))
    new, mixed, old = (found[name,] for name in ("v2, v2", "v1, v2", "v1, v1"))
    return results.paired(np.stack([new - mixed, mixed - old], axis=1))


def byte_claim(t):
    """The largest change of accuracy by 8 bits over the seeds."""
    gaps = [abs(x["accuracy"] - x["accuracy of codes"]) for x in t["8 bits"][0]["runs"]]
    return results.holds(max(gaps) < 0.002, max(gaps))


def strangers(t):
    """VAL between versions that were trained alone is within two points of the false accept rate."""
    found = runs_of(t["versions"], "VAL", ("versions",))["v1, v2 trained alone",]
    return results.holds(abs(found.mean() - t["chance"]) <= 0.02, found.mean())


def compatible(t):
    """Old with new vectors, above old with those of a version that was trained alone."""
    found = runs_of(t["versions"], "VAL", ("versions",))
    return results.paired(found["v1, v2",] - found["v1, v2 trained alone",])


def above_pixels(t):
    """Semi-hard above the pixels themselves."""
    found = runs_of(t["rules"], "VAL", ("rule", "rate"))
    return results.paired(found["semi-hard", t["rules"][1]["rate"]] - found["pixels", None])
