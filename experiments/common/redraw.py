"""Draws the pictures of kept results anew, each from its JSON file; nothing is run.

python -m experiments.common.redraw
"""

from experiments import ctr_tables, false_negatives
from experiments.benchmarks import tables
from experiments.common import candidates, dictionaries, plots, report

PICTURES = {
    "quickstart": plots.of_rows,
    "ctr_tables": ctr_tables.picture,
    "matryoshka": plots.heat_maps,
    "starbucks": plots.heat_maps,
    "false_negatives": false_negatives.picture,
    "definitions": dictionaries.picture,
    "multivector_search": candidates.picture,
    "benchmark_tables": tables.picture,
}  # the experiment: (numbers) -> what draws them


def redraw(folder, into=None):
    """Draws every picture of a folder of results for which there is a way.

    Args:
        folder: of JSON files and pictures.
        into: folder of the pictures; None replaces the old ones.

    Returns:
        List of the paths written.
    """
    made = []
    for path in sorted(folder.glob("*.png")):
        names = [name for name in PICTURES if f"{path.stem}_".startswith(f"{name}_")]
        made += [plots.redraw(path.with_suffix(".json"), PICTURES[name], into) for name in names]
    return made


if __name__ == "__main__":
    print(*redraw(report.RESULTS), sep="\n")
