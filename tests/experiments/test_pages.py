"""Pages that are made from papers.toml and results: of a small made-up repository, and of this one."""

import json
import tomllib

import pytest

from experiments import pages

PAPERS = """
[[paper]]
key = "one"
title = "One Paper"
source = "arXiv:1234.56789"
family = "words"
functions = ["losses.cosent"]
experiments = ["shapes"]

[[paper]]
key = "two"
title = "Another Paper"
source = "arXiv:2345.67890"
family = "words"
functions = []
experiments = ["family.first", "later"]

[[paper]]
key = "three"
title = "A Plan"
source = "arXiv:3456.78901"
family = "images"
functions = []
experiments = ["later"]

[[foundation]]
key = "old"
title = "An Old Paper"
source = "doi:10.1/2"
functions = ["losses.other"]
"""
STORY = '"""{}\n\nMore of the header.\n"""\n\nresults.main("x")\n'
README = (
    "# Name\n<!-- begin experiments -->\nold\n<!-- end experiments -->\nkept\n<!-- begin measured -->\n"
    "<!-- end measured -->\n<!-- begin papers -->\n<!-- end papers -->\n"
)


def saved(root, experiment, run, **more):
    """Writes the results of a run, and a picture of it."""
    name = {"default": experiment.partition(".")[2] or "default"}.get(run, run)
    folder = root / "experiments" / experiment.partition(".")[0] / "results"
    folder.mkdir(parents=True, exist_ok=True)
    found = {"schema": pages.SCHEMA, "experiment": experiment, "run": run, "seconds": 150, "seeds": 5}
    found |= {"command": f"python -m experiments.{experiment}", "commit": "abc", "config": {}, "details": {}}
    found |= {"machine": {"jax": "1.2", "cores": 4, "devices": "1 x cpu"}, "tables": {}, "claims": []} | more
    (folder / f"{name}.json").write_text(json.dumps(found))
    (folder / f"{name}.png").write_bytes(b"")


def claim(verdict, ours=0.5, spread=0.25, paper="1234.56789"):
    row = {"paper": paper, "sentence": "Round is better", "paper_value": 0.75}
    return row | {"ours": ours, "spread": spread, "verdict": verdict}


@pytest.fixture
def root(tmp_path):
    """A repository of two experiments in one folder each, and one benchmark."""
    (tmp_path / "papers.toml").write_text(PAPERS)
    (tmp_path / "README.md").write_text(README)
    losses = tmp_path / "jaxembed/losses"
    losses.mkdir(parents=True)
    (losses / "__init__.py").write_text("from jaxembed.losses.ranking import cosent\n")
    for place, question in (
        ("shapes/__main__.py", "Which shape?"),
        ("family/first.py", "Does it help?"),
        ("family/second.py", "Does it harm?"),
        ("benchmarks/speed.py", "How fast?"),
    ):
        path = tmp_path / "experiments" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STORY.format(question))
    (tmp_path / "experiments/shapes/README.md").write_text("# Which shape?\n\nOurs.\n\nold")
    rows = [{"arm": "a|b", "top-1": 0.5, "± top-1": 0.25, "seeds": [1, 2]}]
    saved(tmp_path, "shapes", "default", tables={"accuracy": rows}, claims=[claim("reproduced")])
    saved(tmp_path, "shapes", "wide", claims=[claim(None, spread=None)], seeds=1, seconds=None)
    summary = [
        {"task": f"t{i}", "peer": "p", "ours": 1, "theirs": 2, "ratio": r} for i, r in enumerate("cab")
    ]
    summary = [row | {"ratio": float("abc".index(row["ratio"]))} for row in summary]
    saved(tmp_path, "benchmarks.speed", "default", tables={"summary": summary})
    return tmp_path


def test_every_page_is_written(root):
    found = {path.relative_to(root).as_posix() for path in pages.pages(root)}
    folders = ("shapes", "family", "benchmarks")
    assert found == {
        *("README.md", "docs/papers.md", "docs/claims.md", "docs/benchmarks.md", "experiments/README.md"),
        *(f"experiments/{name}/README.md" for name in folders),
    }


def test_the_page_of_an_experiment_keeps_the_hand_and_shows_claims_tables_and_pictures(root):
    page = root / "experiments/shapes/README.md"
    page.write_text(f"# Which shape?\n\nOurs.\n\n{pages.MARK}\n\nold")
    text = pages.pages(root)[page]
    assert text.startswith(f"# Which shape?\n\nOurs.\n\n{pages.MARK}\n") and "old" not in text
    assert (
        "[One Paper](https://arxiv.org/abs/1234.56789): [`losses.cosent`](../../jaxembed/losses/ranking.py)."
        in text
    )
    assert "JAX 1.2, 4 cores, CPU, 5 seeds, 2 minutes. [numbers](results/default.json)." in text
    assert "| Round is better | 0.750 | 0.500 ± 0.250 | reproduced |" in text
    assert "| Round is better | 0.750 | 0.500 | too few seeds |" in text
    assert "**Accuracy**\n\n| arm | top-1 |\n|---|---:|\n| a\\|b | 0.500 ± 0.250 |" in text
    assert text.index("### Run: default") < text.index("default.png") < text.index("### Run: wide")
    assert text.count("wide.png") == 1 and text.count("default.png") == 1


def test_stories_that_share_a_folder_share_a_page(root):
    found = pages.pages(root)
    text = found[root / "experiments/family/README.md"]
    assert "## first\n\nDoes it help?\n" in text and "## second\n\nDoes it harm?\n" in text
    assert "[first](family/README.md#first)" in found[root / "experiments/README.md"]


def test_every_row_of_a_benchmark_names_its_device(root):
    rows = [{"task": "one", "peer": "p", "ours": 4, "theirs": 2, "ratio": 2.0}]
    machine = {"jax": "1.2", "cores": 4, "devices": "1 x NVIDIA L4"}
    more = {"tables": {"summary": rows}, "machine": machine, "details": {"device": "NVIDIA L4"}}
    for run in ("nvidia-l4", "nvidia-l4_quick"):
        saved(root, "benchmarks.speed", run, **more)
    found = pages.pages(root)
    assert "| NVIDIA L4 | one | p | 4 | 2 | 2 |" in found[root / "docs/benchmarks.md"]
    assert "| CPU | t0 | p | 1 | 2 | 2 |" in found[root / "docs/benchmarks.md"]
    readme = found[root / "README.md"]
    assert readme.count("| speed | 1 | 2 (one; p) | 2 (one; p) | 2 (one; p) | NVIDIA L4 |") == 1
    assert "2 (t0; p) | CPU |" in readme


def test_the_index_tells_minutes_and_verdicts(root):
    text = pages.pages(root)[root / "experiments/README.md"]
    paper = "[one](https://arxiv.org/abs/1234.56789)"
    verdicts = "1 reproduced, 1 with too few seeds"
    assert f"| Which shape? | [shapes](shapes/README.md) | {paper} | 2 | {verdicts} |" in text
    assert "How fast?" not in text  # benchmarks have a page of their own


def test_papers_lead_to_functions_and_experiments(root):
    text = pages.pages(root)[root / "docs/papers.md"]
    assert "[`losses.cosent`](../jaxembed/losses/ranking.py)" in text
    assert "[shapes](../experiments/shapes/README.md)" in text
    assert "[first](../experiments/family/README.md#first), `later`" in text
    assert "| A Plan, [arXiv:3456.78901](https://arxiv.org/abs/3456.78901) | planned | `later` |" in text
    assert "[doi:10.1/2](https://doi.org/10.1/2) | `losses.other` |" in text


def test_claims_are_grouped_by_paper(root):
    saved(root, "shapes", "strange", claims=[claim("partly", paper=""), claim("not reproduced")])
    text = pages.pages(root)[root / "docs/claims.md"]
    assert text.index("## One Paper") < text.index("not reproduced |") < text.index("## Questions of our own")
    where = "[shapes](../experiments/shapes/README.md): `python -m experiments.shapes`"
    assert f"| Round is better | 0.750 | 0.500 ± 0.250 | partly | {where} |" in text


def test_the_readme_is_filled_between_its_marks(root):
    text = pages.pages(root)[root / "README.md"]
    assert "old" not in text and "kept" in text
    where = "[shapes](experiments/shapes/README.md), [first](experiments/family/README.md#first)"
    assert f"| words | {where} | 1 of 2 |" in text
    assert "Planned: images." in text
    assert "3 papers, 1 of them shown" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| speed")]
    shown = [cell.split(" (")[0].strip() for cell in line.split("|")[3:6]]
    assert shown == ["0.000", "1", "2"]  # the worst, the middle, the best


def test_guides_show_what_runs_found_or_how_to_run_them(root):
    guide = root / "docs/tables.md"
    guide.parent.mkdir(exist_ok=True)
    guide.write_text("# Tables\n<!-- begin methods -->\nold\n<!-- end methods -->\nkept\n")
    assert "`python -m experiments.table_compression` measures" in pages.pages(root)[guide]
    rows = [{"table": "toy", "need": "few bytes", "0.5 of the bytes": "ROBE 0.7500"}]
    more = {"tables": {"recommended": rows}, "details": {"seconds": 1200}, "seconds": 1200}
    more["machine"] = {"jax": "1.2", "cores": 4, "devices": "1 x cpu", "cpu_seconds": 5}
    saved(root, "table_compression", "default", **more)
    text = pages.pages(root)[guide]
    assert "| toy | few bytes | ROBE 0.7500 |" in text and "20 minutes" in text
    assert "old" not in text and text.startswith("# Tables\n") and text.endswith("kept\n")


def test_long_tables_end_with_a_word_about_the_rest():
    text = pages.markdown([{"n": i} for i in range(pages.MOST + 2)])
    assert text.endswith("\n\n2 more rows are in the JSON file.")
    assert len(text.splitlines()) == pages.MOST + 4


def test_a_file_of_another_schema_is_refused(root):
    saved(root, "shapes", "odd", schema=0)
    with pytest.raises(ValueError, match="odd.json: has not the schema"):
        pages.pages(root)


def test_the_committed_pages_are_what_the_generator_writes():
    """`make pages` twice gives no difference."""
    for path, text in pages.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run make pages"


def test_every_function_and_experiment_of_the_papers_exists():
    listed = tomllib.loads((pages.ROOT / "papers.toml").read_text(encoding="utf-8"))
    known = pages.sources()
    for paper in listed["paper"] + listed["foundation"]:
        assert set(paper["functions"]) <= set(known), (
            f"{paper['key']}: {set(paper['functions']) - set(known)}"
        )
        if paper.get("experiments") and paper["functions"]:
            assert set(paper["experiments"]) & set(pages.stories()), paper["key"]  # others are planned
