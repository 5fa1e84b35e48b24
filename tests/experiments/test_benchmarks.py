"""Benchmarks run where none of their peers is installed, and what is kept of them is what commands write."""

import doctest
import importlib
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import write_model

from experiments.benchmarks import (
    adapters,
    codes,
    compression,
    device,
    diffusion,
    diffusion_arms,
    image_arms,
    images,
    locality,
    multivector,
    selection,
    table_arms,
    tables,
    text,
    timing,
    towers,
    words,
)
from experiments.shared import flags, results
from jaxembed import encoders

RESULTS = pathlib.Path(tables.__file__).parent / "results"


def found(module, cfg):
    """The tables that a run saves."""
    name = module.__name__.removeprefix("experiments.")
    figures = getattr(module, "figures", None)
    path = results.finish(name, flags.run_name(cfg), cfg, module.run(cfg), (), figures, 1)
    assert path.stem.startswith(f"{name.rpartition('.')[2]}_")
    return json.loads(path.read_text())["tables"]


@pytest.mark.experiment
def test_the_benchmark_of_tables_runs_without_its_peers(tmp_path, monkeypatch):
    monkeypatch.setattr(table_arms, "TORCH", False)
    monkeypatch.setitem(sys.modules, "torch", None)
    small = {"heights": (300, 600), "batch_size": 8, "fields": 3, "values": 100, "size": 64, "rounds": 1}
    small |= {"model_rows": 300, "cross_layers": 1, "hidden": (8,), "results": tmp_path}
    tabled = found(tables, tables.Config(**small))
    times = {(r["arm"], r["rows"]): r for r in tabled["training steps"] if "ms" in r}
    assert times["jaxembed Adagrad", 600]["times ours"] == 1
    assert times["optax Adagrad, dense", 600]["extra MB"] > 0
    assert times["jaxembed Adagrad, list made first", 300]["ms"] > 0
    assert {r["note"] for r in tabled["training steps"] if r["arm"] == "torch SparseAdam"} == {
        "not loaded: import of torch halted; None in sys.modules"
    }
    assert {r["arm"] for r in tabled["lookups and the list of rows"]} == {
        "lookup jaxembed",
        "host: distinct rows",
    }
    assert {r["arm"] for r in tabled["DCN-V2"]} == {
        f"DCN-V2 jaxembed{part}" for part in ("", ", dense part", ", table part", ", products alone")
    }
    assert [r["peer"] for r in tabled["summary"]] == ["optax Adagrad, dense"] * 2
    assert next(tmp_path.glob("tables_*.png")).stat().st_size > 10_000


class Glosses:
    """A model whose vectors are noise."""

    def encode_texts(self, texts):
        return np.random.default_rng(0).standard_normal((len(texts), 16)).astype(np.float32)


@pytest.mark.experiment
def test_the_benchmark_of_codes_runs_without_its_peer(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(codes.text_models, "load", lambda folder: Glosses())
    monkeypatch.setattr(codes.data, "wordnet", lambda: [{"gloss": "a thing"}] * 600)
    small = {"rows": 1000, "bits": 64, "width": 16, "product_rows": 1000, "texts": 300, "queries": (1, 3)}
    tabled = found(codes, codes.Config(**small, k=4, rounds=1, results=tmp_path))
    groups = {row["group"] for row in tabled["binary codes"] + tabled["int8 codes"]}
    assert groups == {f"1,000 x {kind}, {n} at a time" for kind in ("64 bits", "16 int8") for n in (1, 3)}
    assert all(row["floor ms"] > 0 and row["times ours"] > 0 for row in tabled["binary codes"])
    assert {row["method"] for row in tabled["product codes"]} == {"jaxembed"}
    found_by = {row["code"]: row["recall@4"] for row in tabled["choices"]}
    assert found_by["float32"] == 1 and found_by["int8"] > 0.9
    assert found_by["4 bits"] > found_by["2 bits"] > found_by["signs"]
    assert [row["bytes"] for row in tabled["choices"]] == [66, 64, 16, 8, 4, 2, 2]
    assert tabled["summary"] == []


@pytest.mark.slow
@pytest.mark.experiment
def test_the_benchmark_of_towers_runs_without_its_peer(tmp_path, monkeypatch):
    monkeypatch.setattr(table_arms, "TORCH", False)
    small = {"rows": 300, "batch_size": 8, "values": 60, "bag": 2, "hidden": 8, "width": 4, "chunk": 4}
    small |= {"users": 30, "items": 200, "taken": 5, "k": 3, "rounds": 1, "block": 1, "results": tmp_path}
    tabled = found(towers, towers.Config(**small))
    arms = ["jaxembed", "jaxembed, table part", "jaxembed, dense part"]
    assert [row["arm"] for row in tabled["training step"]] == arms
    asked = {row["arm"]: row for row in tabled["recommending"]}
    assert list(asked) == ["recommend", "search of 3 places", "search of 8 places"]
    assert asked["recommend"]["users"] == 30 and all(row["users/s"] > 0 for row in asked.values())
    assert {row["peer"] for row in tabled["summary"]} == {"our search of 3 places", "our search of 8 places"}


@pytest.mark.slow
@pytest.mark.experiment
def test_the_benchmark_of_diffusion_runs_without_its_peer(tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion, "TORCH", False)
    small = {"base": 8, "batch_size": 1, "sampling_steps": 1, "canvases": (32, 48), "rounds": 1}
    tabled = found(diffusion, diffusion.Config(**small, results=tmp_path))
    assert [row["arm"] for row in tabled["step"]] == ["jaxembed", "products"]
    assert [row["windows"] for row in tabled["canvas"]] == [1, 4]
    assert tabled["programs"][0]["count"] == 1
    assert {row["peer"] for row in tabled["summary"]} == {"XLA's products alone", "two calls"}


def test_the_products_of_a_function_are_its_convolutions_and_matrix_products():
    def function(x, kernel):
        y = jax.lax.conv(x, kernel, (1, 1), "SAME")
        return jax.jit(lambda y: jnp.tanh(y).reshape(4, -1) @ y.reshape(-1, 4))(y)

    x, kernel = jnp.ones((1, 2, 4, 4)), jnp.ones((2, 2, 3, 3))
    run = diffusion_arms.products(function, x, kernel)
    assert [y.shape for y in run()] == [(1, 2, 4, 4), (4, 4)]


@pytest.mark.peers
def test_the_network_of_torch_is_ours():
    torch = pytest.importorskip("torch")
    net, params = diffusion.network(8)
    x, t, _ = diffusion.batch_of(1)
    model = diffusion_arms.TorchUNet(net, params, diffusion.GROUPS, diffusion.HEADS)
    with torch.no_grad():
        theirs = model(torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(t)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(jax.jit(net.denoise)(params, x, t), theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.experiment
def test_the_benchmark_of_compressed_tables_reads_and_trains_every_method(tmp_path):
    small = {"values": 2000, "batch_size": 16, "fields": 2, "rounds": 1, "results": tmp_path}
    tabled = found(compression, compression.Config(**small))
    rows = {row["method"]: row for row in tabled["lookups"]}
    assert rows["full table"]["times gather"] == 1 and rows["hash"]["MB"] == pytest.approx(0.032, rel=0.01)
    assert all(row["times gather"] > 0 and row["MB"] <= 0.128 for row in rows.values())
    memory = {row["method"]: row for row in tabled["memory in training"]}
    assert list(memory) == list(rows)
    assert memory["INT8"]["parameters MB"] < memory["full table"]["parameters MB"] / 3.9
    assert memory["tensor train"]["step"] == "all parameters" and memory["hash"]["step"] == "listed rows"


@pytest.mark.experiment
def test_the_benchmark_of_token_sets_runs_without_its_peers(tmp_path, monkeypatch):
    for name in ("fastembed", "fastembed.postprocess", "muvfde", "torch", "faiss"):
        monkeypatch.setitem(sys.modules, name, None)
    small = {"tokens": (4,), "batch": 16, "width": 8, "projected": 4, "planes": 2, "repetitions": 2}
    small |= {"candidates": 12, "documents": (300,), "queries": (1, 3), "length": 16, "k": 5, "built": 20}
    tabled = found(multivector, multivector.Config(**small, rounds=1, results=tmp_path))
    assert not tabled.pop("summary")
    assert all(row["per second"] > 0 for rows in tabled.values() for row in rows)
    methods = {(title, row["group"], row["method"]) for title, rows in tabled.items() for row in rows}
    assert ("encoding", "encode, T = 4, product", "matrix product") in methods
    assert ("product codes", "300 product codes, 3 at a time", "jaxembed") in methods
    assert ("exact search", "300 documents, 1 at a time", "jaxembed") in methods
    assert {m for _, g, m in methods if g == "Chamfer, ragged"} == {
        "jaxembed",
        "jaxembed, search.rerank from the host",
    }
    (built,) = tabled["index on disk"]
    assert built["group"] == "index of 20 documents" and built["bytes each"] > 0


@pytest.mark.experiment
def test_the_benchmark_of_images_runs_without_its_peers(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "TORCH", False)
    monkeypatch.setattr(image_arms, "VISION", False)
    small = {"stages": (4, 8), "batch_size": 8, "size": 16, "pictures": 16, "steps": 2, "mined": 80}
    tabled = found(images, images.Config(**small, boxes=30, rounds=1, results=tmp_path))
    assert not tabled["summary"]
    assert all(row["ms"] > 0 for rows in tabled.values() for row in rows)
    assert [row["arm"] for row in tabled["training"]] == ["jaxembed", "convolutions", "with augmentation"]
    runs = {row["arm"]: row["ms"] for row in tabled["from files"]}
    total = runs["from memory"] + runs["decoding alone"]
    assert runs["from files, in front (sum)"] == pytest.approx(total)
    assert [row["arm"] for row in tabled["mining"]][1:] == [
        f"mining, {rule}" for rule in ("semi_hard", "hardest", "margin_violating", "all")
    ]
    assert {row["what"] for row in tabled["regions"]} == {"roi_align, 30 boxes of 7 x 7", "nms, 30 boxes"}


@pytest.mark.parametrize("family", ["distilbert", "qwen2", "modernbert"])
def test_products_of_any_family_are_timed(tmp_path, family):
    encoder = encoders.pretrained.load(write_model(tmp_path / "toy", family))
    assert all(np.isfinite(x) for x in text.products(encoder, [(2, 4), (1, 8)])())


@pytest.mark.experiment
def test_the_benchmark_of_text_runs_without_its_peer(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "TORCH", False)
    words = [f"w{i}" for i in range(5, 29)]
    records = [
        dict.fromkeys(("name", "signature", "docstring", "code", "query"), f"{w} {words[i - 1]}")
        for i, w in enumerate(words)
    ]
    monkeypatch.setattr(text.data, "docstrings", lambda: records)
    model = write_model(tmp_path / "toy")
    small = {"texts": 5, "batch_size": 4, "pairs": 2, "length": 6, "sizes": (2, 4), "rounds": 1}
    small |= {"memory_batch": 8, "cached_batch": 4, "results": tmp_path, "model": model, "sts": tmp_path}
    lines = [f"w{i} w{i + 1},w{i + i % 3} w7,{i % 3}" for i in range(5, 15)]
    (tmp_path / "stsb-en-test.csv").write_text("\n".join(lines) + "\n")
    tabled = found(text, text.Config(**small))
    arms = {(row["what"], row["arm"]) for rows in tabled.values() for row in rows if "arm" in row}
    assert {("encode long", "products"), ("train layers x sizes", "jaxembed")} <= arms
    assert ("memory, 8 pairs", "cached") in arms and not tabled["summary"]
    (graded,) = tabled["similarity"]
    assert -1 <= graded["Spearman"] <= 1
    with pytest.raises(ValueError, match="--sizes 4000: the encoder has width"):
        text.look(text.Config(**small | {"sizes": (4000,)}))


@pytest.mark.slow
@pytest.mark.experiment
def test_the_benchmark_of_adapters_runs_without_its_peers(tmp_path, monkeypatch):
    for name in ("TORCH", "PEFT"):
        monkeypatch.setattr(adapters, name, False)
    texts = {side: [f"w{n} w{n + 1}" for n in range(5, 9)] for side in ("short", "long")}
    monkeypatch.setattr(adapters, "read_texts", lambda count: texts)
    small = {"pairs": 2, "length": 6, "rank": 2, "rounds": 1, "tower_batches": (64, 128), "chunk": 32}
    model = write_model(tmp_path / "toy")
    tabled = found(adapters, adapters.Config(**small, model=model, results=tmp_path))
    rows = {row["arm"]: row for row in tabled["steps"]}
    assert list(rows) == ["full", "LoRA", "DoRA"]
    assert rows["LoRA"]["trained"] < rows["DoRA"]["trained"] < rows["full"]["trained"]
    assert [row["peer"] for row in tabled["summary"]] == ["our full step"] * 2
    less, more = (row["cached, temporary MB"] for row in tabled["towers"])
    assert more < 1.5 * less
    with pytest.raises(ValueError, match="--tower-batches: --chunk 48 has to divide each"):
        adapters.Config(tower_batches=(64,), chunk=48)


@pytest.mark.experiment
def test_the_benchmark_of_selection_compares_rates_and_times(tmp_path):
    small = {"pairs": 1000, "width": 8, "scores": 1000, "rounds": 1, "results": tmp_path}
    tabled = found(selection, selection.Config(**small))
    rows = {row["arm"]: row for row in tabled["selection"]}
    assert {selection.FLOOR, selection.COPY, selection.PARTITION, "pair_scores", "select"} < set(rows)
    rate = rows["pair_scores"]
    assert rate["GB/s"] == pytest.approx(8e-9 * 1000 * 8 / (1e-3 * rate["least ms"]))
    for row in tabled["summary"]:
        assert row["ratio"] == pytest.approx(
            row["theirs"] / row["ours"] if row["task"].endswith("ms") else row["ours"] / row["theirs"]
        )
    assert len(tabled["summary"]) == 6


def test_bad_settings_are_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="^--values 9: every value needs a row in each of --heights"):
        tables.look(tables.Config(heights=(8,), values=9))
    with pytest.raises(ValueError, match="--sts .*: holds no stsb-en-test.csv"):
        text.look(text.Config(sts=tmp_path))
    with pytest.raises(FileNotFoundError, match="^--model: no model: no such folder"):
        text.look(text.Config(model=pathlib.Path("no model")))
    with pytest.raises(ValueError, match="^--rounds 0: choose 1 to"):
        text.Config(rounds=0)


# Summaries and what is kept


def test_a_summary_says_how_many_times_as_fast_we_are():
    assert doctest.testmod(timing)[:2] == (0, 2)
    assert timing.compared("x, ms", "peer", 2.0, 6.0, rate=False)["ratio"] == 3
    assert timing.compared("x, texts/s", "peer", 2.0, 6.0, rate=True)["ratio"] == pytest.approx(1 / 3)


def test_a_summary_takes_the_middle_size_and_leaves_missing_peers_out():
    def rows(size, rate):
        made = {"group": f"encode, T = {size}, peers", "of": "documents"}
        return [
            made | {"method": "jaxembed", "per second": rate},
            made | {"method": "muvfde", "per second": 10.0},
        ]

    given = [*rows(1, 5.0), *rows(2, 20.0), *rows(4, 80.0)]
    (row,) = multivector.summary(multivector.Config(tokens=(4, 1, 2)), given)
    assert row == {
        "task": "encode documents of 2 tokens, documents/s",
        "peer": "muvfde",
        "ours": 20.0,
        "theirs": 10.0,
        "ratio": 2.0,
    }
    assert not multivector.summary(multivector.Config(tokens=(1,)), rows(16, 5.0))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_kept_results_have_the_name_of_their_settings_and_the_summary_of_their_rows(path):
    saved = json.loads(path.read_text())
    module = importlib.import_module(f"experiments.{saved['experiment']}")
    given = {n: tuple(x) if isinstance(x, list) else x for n, x in saved["config"].items()}
    cfg = module.Config(**given)
    assert results.on_device(flags.run_name(cfg), saved["details"]) == saved["run"]
    assert results.path_of(saved["experiment"], saved["run"]) == path
    rows = [row for title, rows in saved["tables"].items() if title != "summary" for row in rows]
    if module is compression:  # compares its own lookups, and has no peer
        assert len(saved["tables"]["lookups"]) >= 10
        return
    if module is words and cfg.validate:  # chooses a setting, without a peer
        assert len(saved["tables"]["groups"]) >= 5
        return
    summary = module.summary(rows) if module is text else module.summary(cfg, rows)
    assert summary == saved["tables"]["summary"] and len(summary) >= 3
    assert all(set(row) == {"task", "peer", "ours", "theirs", "ratio"} for row in summary)
    if module not in (codes, device, diffusion, words):  # whose tables are of several kinds
        assert {"summary"} | module.by_title(rows).keys() == saved["tables"].keys()


def test_the_kept_summaries_also_say_where_we_are_slower():
    saved = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    ratios = [row["ratio"] for s in saved for row in s["tables"].get("summary", [])]
    assert min(ratios) < 1 < max(ratios)


def test_the_kept_picture_is_drawn_from_its_numbers(tmp_path):
    path = tmp_path / "tables.json"
    path.write_text((RESULTS / "tables.json").read_text())
    (picture,) = results.draw(path, tables.figures)
    assert picture.stat().st_size > 20_000


def test_locality_batches_are_timed_in_pairs_a_second():
    found = locality.rows(400, window=20, clusters=4, sizes=(16,), rounds=1)
    assert [(r["arm"], r["asked"]) for r in found] == [("depth", 100_000), ("breadth", 100_000)]
    assert all(r["pairs/s"] > 0 and r["pairs per CPU second"] > 0 for r in found)
