"""The text part of the family nesting: pairs, training over layers, choices by dev pairs."""

import pytest
from models import write_model
from stories import ran

from experiments.nesting import grid_results, matryoshka, starbucks, texts
from jaxembed import data, encoders


def write_pairs(path, graded):
    """48 pairs of texts in the words of the toy model; partners share two of three words."""
    words = [f"w{i}" for i in range(5, 29)]
    lines = [(f"{w} {words[n]} {words[n - 1]}", f"{words[n]} {words[n - 1]}") for n, w in enumerate(words)]
    lines += [(f"{w} {words[n - 2]}", f"{words[n - 2]} w29 {w}") for n, w in enumerate(words)]
    path.write_text("\n".join("\t".join([*p, str(i % 5)] if graded else p) for i, p in enumerate(lines)))
    return path


def test_pairs_are_split_once_and_small_files_are_refused(tmp_path):
    path = write_pairs(tmp_path / "pairs.tsv", graded=True)
    parts = texts.read_pairs(matryoshka.Config(pairs=path))
    assert [len(parts[n]["first"]) for n in ("train", "dev", "test")] == [40, 4, 4]
    assert len({x for p in parts.values() for x in p["first"]}) == 48
    assert len(parts["dev"]["scores"]) == 4
    (tmp_path / "few.tsv").write_text("a\tb\n")
    with pytest.raises(ValueError, match="--pairs .*few.tsv: 1 pairs; at least 40"):
        texts.read_pairs(matryoshka.Config(pairs=tmp_path / "few.tsv"))


def test_docstrings_are_pairs_of_which_each_text_comes_once(monkeypatch):
    records = [
        {"query": f"q{i % 90}", "docstring": f"a b c d e{i % 80}", "split": split}
        for split in ("train", "validation", "test")
        for i in range(100)
    ] + [{"query": "short", "docstring": "too short", "split": "train"}]
    monkeypatch.setattr(data, "docstrings", lambda progress: records)
    parts = texts.read_pairs(matryoshka.Config(quick=True))
    assert [len(parts[n]["first"]) for n in ("train", "dev", "test")] == [80, 60, 60]
    assert all(len(set(column)) == len(column) for part in parts.values() for column in part.values())


@pytest.mark.experiment
@pytest.mark.parametrize(
    ("story", "graded"), [(matryoshka, False), (starbucks, True)], ids=["matryoshka", "starbucks"]
)
def test_own_pairs_train_and_the_encoder_is_saved(story, graded, tmp_path, capsys):
    name = story.__name__.rpartition(".")[2]
    path, model = write_pairs(tmp_path / "pairs.tsv", graded), write_model(tmp_path / "toy")
    toy = encoders.pretrained.load(model)
    given = {"pairs": path, "model": model, "seeds": 1, "steps": 3, "batch_size": 8, "length": 7}
    given |= {"sizes": (4, toy.width), "workdir": tmp_path, "rates": (1e-2, 1e-3)}
    given |= {"layers": (1, toy.depth)} if story is starbucks else {}
    saved = ran(story, tmp_path, grid_results.figures, **given)
    details = saved["details"]["text"]
    assert set(details["grids"]) == {"untrained", "2DMSE", "SRL" if story is starbucks else "last layer"}
    assert all(len(grid) == len(details["cells"]) for grid in details["grids"].values())
    assert set(details["rates"].values()) <= {1e-2, 1e-3}
    assert all(set(dev) == {"0.01", "0.001"} for dev in details["dev"].values())
    assert saved["claims"] and {row["verdict"] for row in saved["claims"]} == {None}
    assert saved["experiment"] == f"nesting.{name}" and saved["run"].startswith("own_pairs")
    assert next(tmp_path.glob(f"{name}_own*.png")).stat().st_size > 5_000
    (folder,) = tmp_path.glob("encoder-*")
    before, after = (encoders.pretrained.load(f).encode_texts(["w5 w6 w7"]) for f in (model, folder))
    assert str(folder) in capsys.readouterr().out and (before * after).sum() < 1 - 1e-6


def test_the_best_rate_is_chosen_and_one_that_diverges_is_not(capsys):
    def fit(arm, rate, seed):
        if rate > 1:
            raise FloatingPointError("gradient")
        return rate

    fitted = {rate: texts.unless_diverging(fit, None, rate, 0) for rate in (2.0, 1e-3, 1e-2)}
    assert fitted == {2.0: None, 1e-3: 1e-3, 1e-2: 1e-2}
    assert capsys.readouterr().out == "at rate 2.0 training diverges\n"
    assert texts.choose(fitted, lambda encoder: -encoder) == (1e-3, {1e-3: -1e-3, 1e-2: -1e-2})
    assert texts.choose({2.0: None, 1e-3: 1e-3}, lambda encoder: 0 / 0) == (1e-3, {})
    with pytest.raises(ValueError, match="--rates 2.0: training diverges; choose smaller"):
        texts.choose({2.0: None}, None)
