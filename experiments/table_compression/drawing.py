"""The picture of one table of clicks: what is lost in AUC, by method, at each number of bytes."""

import numpy as np

from experiments.shared import plots
from experiments.table_compression import answers, arms

KINDS = {"shared rows or codes": arms.SHARED, "a vector for each value": arms.OWN}


def draw(axes, numbers, name):
    """A panel for each kind of method: AUC over bytes, the best of each budget marked."""
    rows = answers.fitting(numbers["AUC"], name)
    whole = answers.full(numbers["AUC"], name)
    best = {r["budget"]: max(answers.fitting(rows, name, r["budget"]), key=lambda x: x["AUC"]) for r in rows}
    for panel, (kind, names) in zip(axes.ravel(), KINDS.items(), strict=True):
        known = [n for n in names if any(r["method"] == n for r in rows)]
        for i, method in enumerate(known):
            some = sorted((r for r in rows if r["method"] == method), key=lambda r: r["bytes"])
            x, y = ([r[key] for r in some] for key in ("bytes", "AUC"))
            spread = [r["± AUC"] or 0 for r in some]
            style = {"marker": "osD^v"[i // 5 % 5], "color": f"C{i % 10}", "ls": "--" if i > 4 else "-"}
            panel.errorbar(np.array(x) / 1000, y, yerr=spread, label=method, ms=4, lw=1.2, **style)
        if whole is not None:
            panel.axhline(whole["AUC"], color="0.4", ls=":", lw=1.5)
            panel.text(
                0.02,
                whole["AUC"],
                f"full table, {whole['bytes'] / 1000:,.0f} kB",
                color="0.3",
                fontsize=8,
                va="bottom",
                transform=panel.get_yaxis_transform(),
            )
        for row in best.values():
            if row["method"] in names:
                panel.annotate(
                    "best",
                    (row["bytes"] / 1000, row["AUC"]),
                    (0, 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    weight="bold",
                )
        low = np.quantile([r["AUC"] for r in rows], 0.03)
        panel.set(xscale="log", title=kind, xlabel="kB that are stored", ylabel="test AUC")
        panel.set_ylim(low - 0.01, max(r["AUC"] for r in [*rows, *([whole] if whole else [])]) + 0.015)
        panel.grid(alpha=0.3)
        plots.legend(panel, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)
