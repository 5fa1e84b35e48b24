"""The quickstart runs for a few steps on a small corpus, answers, and refuses bad input in one line."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import optax
import pytest
from models import write_model

from experiments.quickstart import __main__ as quickstart
from experiments.quickstart import answers, function_words, searches, word_encoder
from experiments.shared import flags, inputs, results
from jaxembed import data, encoders, files, train

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ["--steps", "2", "--batch-size", "16", "--token-batch", "8", "--rows", "512", "--sizes", "8", "16"]
SMALL += [
    "--token-width",
    "8",
    "--length",
    "16",
    "--tokens",
    "8",
    "--query-tokens",
    "8",
    "--test-queries",
    "20",
]
SMALL += ["--alone"]


def run(*given, cwd, devices=1):
    command = [sys.executable, "-m", "experiments.quickstart", *map(str, given)]
    environment = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    environment["JAX_NUM_CPU_DEVICES"] = str(devices)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)


def write_tree(folder):
    folder.mkdir()
    for module in range(4):
        functions = []
        for i, verb in enumerate(("pad", "sort", "trim")):
            for j, noun in enumerate(("row", "word", "image")):
                sentence = f"{verb.title()} the {noun} number {module} of a list."
                rest = f"Returns the {noun} after that."
                body = f"return x + {100 * module + 10 * i + j}"
                functions.append(f'def {verb}_{noun}(x):\n    """{sentence}\n\n    {rest}"""\n    {body}\n')
        (folder / f"module_{module}.py").write_text("\n\n".join(functions))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run on eight devices, the table split over two: its folder and what it printed."""
    cwd = tmp_path_factory.mktemp("quickstart")
    corpus = write_tree(cwd / "tree")
    folders = ["--corpus", corpus, "--workdir", "runs", "--results", "results"]
    done = run(*SMALL, *folders, "--model-devices", 2, cwd=cwd, devices=8)
    assert done.returncode == 0, done.stderr[-2000:]
    return cwd, done.stdout


@pytest.mark.experiment
def test_quickstart_prints_every_row_and_saves_numbers_and_picture(finished):
    cwd, printed = finished
    (path,) = (cwd / "results").glob("*.json")  # of no default run
    assert path.name.startswith("corpus-tree_alone_steps-2_")
    saved = json.loads(path.read_text())
    rows = saved["tables"]["searches"]
    methods = [row["method"] for row in rows]
    assert {"BM25", "untrained 16", "prefix 8", "prefix 16", "Chamfer, 0 blocks", "FDE (20, 5, 16)"} <= set(
        methods
    )
    assert all(method in printed for method in methods)
    assert all(0 <= row["Recall@10 tree"] <= 1 for row in rows)
    assert max(row["Recall@10 tree"] for row in rows) > 0
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert "FDE (20, 5, 16), then Chamfer" in methods
    stages = [line.split("] ")[1] for line in printed.splitlines() if line.startswith("[")]
    assert stages == ["reads functions", "trains 2 steps on 36 functions", "compares the ways to search"]
    assert saved["details"]["functions"] == 36
    assert all(claim["verdict"] is None for claim in saved["claims"])


@pytest.mark.experiment
def test_the_run_ends_with_answers_and_the_command_to_ask(finished):
    last = finished[1].split("wrote ")[-1].split("\n", 1)[1]
    for question in answers.QUESTIONS:
        below = last.partition(f"{question}?\n")[2].partition("\n\n")[0]
        assert below.count("tree.module_") == 3 and below.count(".py:") == 3
    command = '-m experiments.quickstart --query "your question" --workdir runs'
    assert last.rstrip().splitlines()[-1].endswith(command)


@pytest.mark.parametrize("devices", [(1, 8), (2, 4), (8, 1)], ids=str)
def test_no_device_of_the_quickstart_gathers_the_split_table(devices, tmp_path, optimized, as_users):
    """Reads the program that users run: a step of the quickstart, compiled with all optimizations."""
    cfg = quickstart.Config(
        batch_size=16, token_batch=8, rows=4096, sizes=(8, 32), token_width=8, length=16, tokens=8
    )
    records = data.docstrings((), folders=[write_tree(tmp_path / "tree")], cache=False)
    init, words, tokens = word_encoder.build(cfg)
    update = train.gradient_update(word_encoder.make_loss(cfg, words, tokens), optax.adam(1e-2))
    batch = function_words.make_batches(function_words.read_text(records), records, 16, 16, 0)[0]
    mesh = train.make_mesh(*devices)
    program = train.compile_step(init, update, batch, mesh=mesh, rules=word_encoder.RULES).as_text()
    assert "all-reduce" in program
    assert ("f32[4096,16]" in program) == (devices[1] == 1)
    assert f"f32[{4096 // devices[1]},16]" in program


def test_half_of_each_batch_are_first_sentences(tmp_path):
    records = data.docstrings((), folders=[write_tree(tmp_path / "tree")], cache=False)
    batch = function_words.make_batches(function_words.read_text(records), records, 8, 16, 0)[0]
    keys = {name: data.hashed([r[name] for r in records]).astype(np.int32) for name in ("query", "id")}
    assert np.isin(batch["keys"][:4], keys["query"]).all()
    assert np.isin(batch["keys"][4:], keys["id"]).all()


def test_flags_that_contradict_one_another_are_refused_by_name():
    for given, message in (
        ({"token_batch": 600}, "--token-batch 600: choose 0 to 512"),
        ({"batch_size": 300}, "--batch-size 300: choose a multiple of 256"),
        ({"tokens": 97}, "--tokens 97: choose 1 to 96"),
        ({"sizes": (8, 16)}, "^--sizes 8 16: with it, --token-width 64: choose 4 to 16"),
        ({"token_batch": 200}, "^--token-batch 200: with it, --batch-size 512: choose a multiple of 400"),
        ({"batch_size": 100}, "^--batch-size 100: with it, --token-batch 128: choose 0 to 100"),
        ({"length": 8}, "^--length 8: with it, --tokens 32: choose 1 to 8"),
        ({"sizes": (128, 64)}, "--sizes"),
        ({"corpus": ROOT, "holdout": "numpy"}, "--holdout: has no meaning with --corpus"),
        ({"alone": True}, "--alone: has no meaning without --corpus"),
        ({"encoder": ROOT, "profile": 3}, "--profile: has no meaning with --encoder"),
    ):
        with pytest.raises(ValueError, match=message):
            quickstart.Config(**given)
    with pytest.raises(ValueError, match=r"^--holdout: \['nowhere'\] are not scanned"):
        function_words.read(quickstart.Config(holdout="nowhere"))


def test_a_missing_encoder_is_noticed_before_functions_are_read(monkeypatch):
    monkeypatch.setattr(function_words, "read", lambda cfg: pytest.fail("began to read"))
    with pytest.raises(FileNotFoundError, match="^--encoder: no model: no such folder"):
        quickstart.run(quickstart.Config(encoder=pathlib.Path("no model")))


def test_two_runs_with_different_settings_have_different_names(monkeypatch, tmp_path):
    def name(**given):
        return flags.run_name(quickstart.Config(**given))

    many = {"steps": 2, "batch_size": 16, "token_batch": 8, "rows": 512, "token_width": 8, "length": 33}
    many |= {"tokens": 7, "query_tokens": 5, "test_queries": 20, "layers": 2, "sizes": (8, 16)}
    names = [
        name(),
        name(steps=2),
        name(steps=3),
        name(learning_rate=1e-3),
        name(**many),
        name(**many, seed=1),
    ]
    names += [name(corpus=pathlib.Path("a")), name(corpus=pathlib.Path("a"), alone=True), name(layers=2)]
    assert len(set(names)) == len(names) and all(len(n) < 130 for n in names)
    assert names[:4] == ["default", "steps-2", "steps-3", "learning_rate-0.001"]
    assert name(results=pathlib.Path("r"), workdir=pathlib.Path("w"), query="x") == "default"
    monkeypatch.setattr(inputs, "installed_model", lambda: tmp_path / "model")
    assert [name(encoder=tmp_path / n) for n in ("model", "bge")] == ["encoder", "encoder_bge"]


def test_kept_runs_have_the_claims_of_their_numbers():
    kept = sorted((pathlib.Path(quickstart.__file__).parent / "results").glob("*.json"))
    assert [path.stem for path in kept] == ["default", "encoder"]
    for path in kept:
        saved = json.loads(path.read_text())
        again = results.answered(quickstart.CLAIMS, results.Result(saved["tables"], saved["details"]))
        assert again == saved["claims"] and path.with_suffix(".png").exists()


def test_the_picture_has_a_line_for_each_arm_of_prefixes():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    folder = pathlib.Path(quickstart.__file__).parent / "results"
    for name, lines in (("default", ["matryoshka prefixes"]), ("encoder", ["as published", "trained"])):
        figure, axes = pyplot.subplots()
        quickstart.figures(results.numbers_of(json.loads((folder / f"{name}.json").read_text())))[""](axes)
        labels = [t.get_text() for t in axes.get_legend().get_texts()]
        assert [label.removesuffix(", prefixes") for label in labels[: len(lines)]] == lines
        assert ("FDE (20, 5, 16), then Chamfer" in labels) == (name == "default")
        pyplot.close(figure)


@pytest.mark.experiment
def test_quickstart_answers_from_the_saved_index(finished):
    cwd, _ = finished
    answer = run("--workdir", "runs", "--query", "sort the word of a list", cwd=cwd)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.count("module_") >= 10
    assert "tree" in answer.stdout
    unknown = run("--workdir", "runs", "--query", "zzqx vvkj", cwd=cwd)
    assert unknown.returncode == 0  # unknown words still have n-grams
    empty = run("--workdir", "runs", "--query", "!?", cwd=cwd)
    assert empty.returncode != 0
    assert "holds no word" in empty.stderr
    assert "Traceback" not in empty.stderr


@pytest.mark.experiment
def test_quickstart_refuses_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    cases = [
        (["--query", "x", "--workdir", "nowhere"], "holds no index"),
        (["--corpus", "missing"], "--corpus missing: is not a folder"),
        (["--corpus", "empty"], "--corpus empty: packages and folders hold no documented function"),
    ]
    for given, message in cases:
        done = run(*SMALL, *given, cwd=tmp_path)
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_measure_counts_what_a_search_finds():
    judged = {"all": (slice(0, 2), np.array([[1, -1], [9, 8]]))}
    row = searches.measure("fixed", lambda b: [[3, 1, 2]] * (b.stop - b.start), 2, judged, size=4)
    assert (row["bytes"], row["MRR@10 all"], row["Recall@10 all"]) == (4, 0.25, 0.5)


@pytest.mark.experiment
def test_the_quickstart_starts_from_a_published_encoder_and_answers(tmp_path, capsys):
    corpus, model = write_tree(tmp_path / "tree"), write_model(tmp_path / "toy")
    small = {"steps": 2, "batch_size": 8, "token_batch": 0, "sizes": (4, 8), "token_width": 4, "length": 16}
    small |= {"tokens": 4, "test_queries": 10, "workdir": tmp_path / "runs", "results": tmp_path}
    cfg = quickstart.Config(encoder=model, corpus=corpus, alone=True, **small)
    found = quickstart.run(cfg)
    path = results.finish(
        "quickstart", flags.run_name(cfg), cfg, found, quickstart.CLAIMS, quickstart.figures, 1
    )
    assert path.name.startswith("encoder_toy_")
    saved = json.loads(path.read_text())
    rows = saved["tables"]["searches"]
    width = encoders.pretrained.load(model).width
    assert [r["method"] for r in rows] == [
        "BM25",
        *(f"{name}, prefix {n}" for name in ("as published", "trained") for n in sorted({4, 8, width})),
        "trained, fused with BM25",
    ]
    assert all(0 <= r[c] <= 1 for r in rows for c in r if c.startswith("Recall"))
    (folder,) = (tmp_path / "runs").glob("*/encoder")
    before, after = (encoders.pretrained.load(f).encode_texts(["w5 w6"]) for f in (model, folder))
    assert (before != after).any()
    capsys.readouterr()
    quickstart.run(quickstart.Config(query="w5", workdir=tmp_path / "runs"))
    assert capsys.readouterr().out.count("tree") >= 1


def test_table_aligns_numbers():
    text = results.table([{"method": "a", "x": 0.5, "n": 1234}, {"method": "long", "x": None, "n": 5}])
    assert text.splitlines() == ["method      x      n", "a       0.500  1,234", "long        -      5"]


def test_what_json_has_not_is_saved_as_null(tmp_path):
    found = results.finite({"rows": [{"auc": float("nan")}, (1, float("inf"))]})
    assert found == {"rows": [{"auc": None}, [1, None]]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "other.json", {"x": float("nan")})
