"""Every notebook equals its .py pair, holds no outputs and runs to its last assert."""

import pathlib

import pytest

COLAB = pathlib.Path(__file__).parents[1] / "colab"
NOTEBOOKS = sorted(COLAB.glob("*.ipynb"))


def test_every_script_has_its_notebook():
    assert NOTEBOOKS
    assert {p.stem for p in NOTEBOOKS} == {p.stem for p in COLAB.glob("*.py")}


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_equals_its_script_and_has_no_outputs(path):
    import jupytext

    notebook, script = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in script.cells
    ]
    assert not any(c.get("outputs") for c in notebook.cells)


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::ResourceWarning")
def test_notebook_runs_to_its_last_assert(path):
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    assert "assert" in notebook.cells[-1].source
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(path.parent))
    assert notebook.cells[-1].execution_count
