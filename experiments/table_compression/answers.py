"""Rows of cells, a recommendation for each need, and the answers to claims: all derived from the numbers."""

import numpy as np

from experiments.shared import results

LIKE = 0.002  # AUCs nearer than this are called equal
NEW_IDS = ("hash", "ROBE")  # take any id; the others have a number for each value that is known
SHOWN = 3  # names of methods that are as good as the best
NEEDS = {  # of a row, the row of the full table, and the times of the method's lookups over those of a gather
    "stored bytes alone": lambda row, full, times: True,
    "bytes in training too": lambda row, full, times: row["training bytes"] <= 1.1 * 3 * row["asked"],
    "lookup at most twice a gather": lambda row, full, times: np.median(times) <= 2,
    "ids not known beforehand": lambda row, full, times: row["method"] in NEW_IDS,
    "training at most twice as long": lambda row, full, times: row["training s"] <= 2 * full["training s"],
}


def row_of(cell, found):
    """A row of the table of AUCs; a method that does not fit has the reason in place of numbers."""
    row = {"table": cell["data"], "method": cell["method"], "budget": cell["budget"]}
    if "floor" in found:
        return row | {"bytes": None, "AUC": None, "± AUC": None, "floor": found["floor"]}
    row["bytes"], (row["AUC"], row["± AUC"]) = found["bytes"], results.spread(found["AUCs"])
    ours, gather = found["lookup µs"]
    row |= {"rate": found["rate"], "training s": found["training seconds"]}
    row |= {"training bytes": found["training bytes"], "lookup / gather": round(ours / gather, 2)}
    return row | {"asked": found["asked"], "AUCs": found["AUCs"], "validation": found["validation"]}


def seconds(found, processes):
    """Seconds of all cells, whichever command computed them; None where one does not say."""
    each = [numbers.get("CPU seconds") for numbers in found if "floor" not in numbers]
    return None if None in each else round(sum(each) / processes)


def fitting(rows, table=None, budget=None):
    """Rows of methods that fit their budget, of one table and one budget where these are given."""
    found = [row for row in rows if row["AUC"] is not None and row["budget"] is not None]
    return [r for r in found if table in (None, r["table"]) and budget in (None, r["budget"])]


def places(rows):
    """(table, budget) of all that fits, in order."""
    return list(dict.fromkeys((row["table"], row["budget"]) for row in fitting(rows)))


def full(rows, table):
    """The row of the full table, or None."""
    return next((r for r in rows if r["table"] == table and r["budget"] is None), None)


def recommended(rows):
    """For each need, table and budget the method of the best AUC among those that meet the need."""
    made, times = [], {}
    for row in fitting(rows):
        times.setdefault(row["method"], []).append(row["lookup / gather"])
    for table, budget in places(rows):
        whole = full(rows, table) or {"AUC": None, "training s": float("inf")}
        known = sorted(fitting(rows, table, budget), key=lambda row: -row["AUC"])
        for need, meets in NEEDS.items():
            some = [row for row in known if meets(row, whole, times[row["method"]])]
            if some:
                best = max(some, key=lambda row: np.mean(row["validation"]))
                near = [r["method"] for r in some if r is not best and r["AUC"] >= best["AUC"] - LIKE]
                row = {"table": table, "budget": budget, "need": need, "method": best["method"]}
                made.append(row | {"AUC": best["AUC"], "full AUC": whole["AUC"], "as good": near})
    return made


def advised(rows):
    """What is recommended as a row for each table and need: the method, its AUC, and what is as good."""
    made = {}
    for best in recommended(rows):
        row = made.setdefault((best["table"], best["need"]), {"table": best["table"], "need": best["need"]})
        near, more = best["as good"][:SHOWN], len(best["as good"]) - SHOWN
        names = near + ([f"{more} more"] if more > 0 else [])
        also = f" (also {', '.join(names)})" if names else ""
        row[told(best["budget"])] = f"{best['method']} {best['AUC']:.4f}{also}"
    return sorted(made.values(), key=lambda row: row["table"], reverse=True)


def ranked(rows, table):
    """Methods of a table, best first by the mean AUC over budgets; the least where one does not fit."""
    at = [{r["method"]: r["AUC"] for r in fitting(rows, *p)} for p in places(rows) if p[0] == table]
    names = dict.fromkeys(name for aucs in at for name in aucs)
    return sorted(names, key=lambda n: -np.mean([aucs.get(n, min(aucs.values())) for aucs in at]))


def at_budgets(rows, table):
    """AUCs of a table: a row for each method, best first; a budget that it does not fit has a dash."""
    budgets, whole = [budget for name, budget in places(rows) if name == table], full(rows, table)
    known = {(r["method"], r["budget"]): r for r in fitting(rows, table)}
    known |= {("full table", budget): whole for budget in budgets if whole}
    made = [{"method": n} for n in (*(["full table"] if whole else []), *ranked(rows, table))]
    for row in made:
        for budget in budgets:
            found = known.get((row["method"], budget))
            row[told(budget)] = found and f"{found['AUC']:.4f} ± {found['± AUC'] or 0:.4f}"
    return made


def told(budget):
    return f"{budget:g} of the bytes"


def winners(t):
    """How many methods are best somewhere."""
    best = [max(fitting(t["AUC"], *p), key=lambda r: r["AUC"]) for p in places(t.get("AUC", ()))]
    found = [row["method"] for row in best]
    return results.holds(len(set(found)) > 1, len(set(found))) if found else None


def sharing(t):
    """Whether hashed or merged rows are within a point of the best, at each table and budget."""
    near = []
    for place in places(t.get("AUC", ())):
        aucs = {row["method"]: row["AUC"] for row in fitting(t["AUC"], *place)}
        ours = [aucs[name] for name in ("hash", "Dedup") if name in aucs]
        near += [max(ours) >= max(aucs.values()) - 0.01] if ours else []
    return results.share(near) if near else None


def above(names, other, margin, least=0.0, most=1.0):
    """What answers whether methods are a margin above another at the same table and budget."""

    def ours(t):
        found = []
        for table, budget in places(t.get("AUC", ())):
            aucs = {row["method"]: row["AUC"] for row in fitting(t["AUC"], table, budget)}
            if least <= budget <= most and other in aucs:
                found += [aucs[name] > aucs[other] + margin for name in names if name in aucs]
        return results.share(found) if found else None

    return ours


def over_full(name, budget=None, margin=0.0):
    """What answers whether a method is above the full table plus a margin, seed by seed, on every table.

    Args:
        budget: share of the bytes; None takes the largest that the method has a row for.
        margin: negative where a loss is allowed.
    """

    def ours(t):
        rows = [r for r in fitting(t.get("AUC", ()), budget=budget) if r["method"] == name]
        best = {r["table"]: r for r in sorted(rows, key=lambda r: r["budget"]) if full(t["AUC"], r["table"])}
        gains = [np.subtract(r["AUCs"], full(t["AUC"], n)["AUCs"]) for n, r in best.items()]
        return results.paired(np.transpose(gains), margin=margin) if gains else None

    return ours
