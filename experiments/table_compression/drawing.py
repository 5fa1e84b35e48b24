"""The picture of one table of clicks: the AUC of every method at every budget, beside the full table."""

from experiments.shared import plots
from experiments.table_compression import answers, arms


def draw(axes, numbers, name):
    """A line for each method, best first, and a dot on it for each budget; right is better."""
    rows, whole = answers.fitting(numbers["AUC"], name), answers.full(numbers["AUC"], name)
    budgets, names = sorted({row["budget"] for row in rows}, reverse=True), answers.ranked(rows, name)
    if whole is not None:
        axes.axvline(whole["AUC"], color="0.4", ls="--", label=f"full table, {whole['bytes'] / 1000:,.0f} kB")
    for i, budget in enumerate(budgets):
        some = [row for row in rows if row["budget"] == budget]
        x, y = [row["AUC"] for row in some], [names.index(row["method"]) for row in some]
        axes.errorbar(x, y, xerr=[row["± AUC"] or 0 for row in some], fmt="none", ecolor=f"C{i}", alpha=0.6)
        faces = ["white" if row["method"] in arms.SHARED else f"C{i}" for row in some]
        axes.scatter(x, y, c=faces, edgecolors=f"C{i}", s=34, zorder=3)
        asked = f"{answers.told(budget)}, {some[0]['asked'] / 1000:,.1f} kB"
        axes.plot([], [], "o", color=f"C{i}", label=asked)
    axes.plot([], [], "o", color="0.4", mfc="white", label="empty: values share rows, elements or codes")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    what = "test AUC, mean and deviation over the seeds (right is better)"
    axes.set(xlabel=what, title=f"{name}: fewer bytes, method by method")
    axes.grid(alpha=0.3)
    plots.legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
