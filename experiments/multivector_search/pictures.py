"""The picture of the searches of one collection."""

from experiments.shared import plots


def draw(axes, rows, times):
    """Draws recall against size, recall against candidates, and recall against time, side by side."""
    figure = axes.figure
    axes.remove()
    figure.set_size_inches(18, 5)
    left, middle, right = figure.subplots(1, 3)
    colors = {row["search"]: f"C{n}" for n, row in enumerate(rows)}
    for (n, row), marker in zip(enumerate(rows), "osD^v<>PX*hdp8os", strict=False):
        style = {"label": row["search"], "color": colors[row["search"]], "ls": "-" if n < 10 else "--"}
        if row["numbers"] is not None:
            left.plot(row["numbers"], row["10-Recall@100"], marker, **style | {"ls": ""})
        if not row["search"].startswith(("(5,", "(10,")):
            middle.plot(*zip(*row["curve"], strict=True), **style)
    for name in dict.fromkeys(row["search"] for row in times):
        some = [row for row in times if row["search"] == name]
        line = [[row[key] for row in some] for key in ("ms/query", "10-Recall@10")]
        style = {"color": colors[name.removesuffix(", carved")], "ls": "--" if "carved" in name else "-"}
        right.plot(*line, marker="o", label=name, **style)
    left.set(xscale="log", xlabel="numbers that are compared", ylabel="10-Recall@100", title="Size")
    middle.set(xscale="log", xlabel="candidates", ylabel="1-Recall@candidates", title="Candidates")
    right.set(xscale="log", xlabel="ms per query, exact scores included", ylabel="10-Recall@10", title="Time")
    for panel in (left, middle, right):
        panel.grid(alpha=0.3)
        plots.legend(panel, fontsize=7, loc="best")
    left.get_legend().set_title("FDE (repetitions, planes, projected)", {"size": 7})
