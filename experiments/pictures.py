"""Draws the pictures of saved runs anew, each from its JSON file; nothing is run.

python -m experiments.pictures
"""

import argparse
import importlib

from experiments import pages
from experiments.shared import results


def drawn(root=pages.ROOT):
    """Draws every picture of the saved runs below a root; returns the paths written."""
    told, written = pages.stories(root), []
    for name, found in pages.runs(root).items():
        parts = told[name].relative_to(root).with_suffix("").parts
        figures = getattr(importlib.import_module(".".join(parts)), "figures", None)
        for run in found.values():
            written += results.draw(run["path"], figures)
    return written


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m experiments.pictures", description=__doc__.partition("\n")[0]
    ).parse_args()
    print(*drawn(), sep="\n")
