"""Every kept picture is drawn again from its numbers."""

import pathlib
import shutil

from experiments import pictures

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"


def test_every_kept_picture_is_drawn_again_from_its_numbers(tmp_path):
    kept = {path.relative_to(EXPERIMENTS) for path in EXPERIMENTS.glob("*/results/*.png")}
    shutil.copytree(EXPERIMENTS, tmp_path / "experiments", ignore=shutil.ignore_patterns("*.png", "*.pyc"))
    made = pictures.drawn(tmp_path)
    assert {path.relative_to(tmp_path / "experiments") for path in made} == kept
    assert all(path.stat().st_size > 15_000 for path in made)
