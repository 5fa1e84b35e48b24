"""The experiment on multi-vector search runs on generated tokens, without a text encoder."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import write_model

from experiments import multivector_search
from experiments.common import candidates, inputs, text_models, token_sets
from experiments.multivector_search import Config
from jaxembed import vectors
from jaxembed.arrays import masked_mean
from jaxembed.encoders.pretrained.tensors import read_safetensors, write_safetensors

SMALL = {"queries": 12, "generated": 100, "seeds": 1, "candidates": 100, "iterations": 1, "timed": 3}


@pytest.fixture(scope="module")
def sets():
    return token_sets.generate(0, 1, documents=260, queries=12, width=16)[0]


def test_generated_tokens_are_unit_vectors_with_the_stated_mean_cosine():
    for shift, wanted in ((0, 0.0), (1, 0.47), (2, 0.78)):
        sets, sources = token_sets.generate(3, shift, documents=300, queries=50)
        np.testing.assert_allclose(np.linalg.norm(sets.tokens, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(sets.queries, axis=2), 1, rtol=1e-5)
        assert set(np.diff(sets.offsets)) <= set(range(8, 25)) and len(set(sources)) == 50
        params = candidates.init(0, 64, 5, 16)
        assert token_sets.geometry(sets, params, 300)["mean cosine"] == pytest.approx(wanted, abs=0.02)
        assert (token_sets.exact(sets).argmax(axis=1) == sources).mean() > 0.5


def test_padding_restores_every_document(sets):
    lengths = sets.map(lambda tokens, mask: mask.sum(axis=1), size=64)
    np.testing.assert_array_equal(lengths, np.diff(sets.offsets))
    tokens, mask = sets.documents(3, 9)
    np.testing.assert_array_equal(tokens[mask], sets.tokens[sets.offsets[3] : sets.offsets[9]])
    assert not tokens[~mask].any()


def test_geometry_counts_cells_as_a_loop_does(sets):
    params = token_sets.center(sets, candidates.init(0, 16, 3, 4))
    found = token_sets.geometry(sets, params, 20)
    used, fullest = [], []
    tokens = [sets.tokens[a:b] for a, b in zip(sets.offsets[:20], sets.offsets[1:21], strict=True)]
    for planes in np.asarray(params["planes"]):
        ids = [((t - np.asarray(params["centre"])) @ planes > 0) @ [1, 2, 4] for t in tokens]
        used += [len(set(i)) for i in ids]
        fullest.append(np.bincount(np.concatenate(ids)).max() / sum(map(len, ids)))
    assert found["cells of a document"] == pytest.approx(np.mean(used))
    assert found["tokens in fullest cell"] == pytest.approx(np.mean(fullest))
    flat = np.concatenate(tokens)
    pairs = (flat @ flat.T)[~np.eye(len(flat), dtype=bool)]
    assert found["mean cosine"] == pytest.approx(pairs.mean(), abs=1e-4)


def test_ranks_and_candidates_needed():
    ids = np.array([[4, 2, 0], [1, 3, 2], [0, 1, 2], [5, 6, 7]])
    places = candidates.ranks(ids, np.array([2, 2, 0, 9]))
    np.testing.assert_array_equal(places, [2, 3, 1, np.inf])
    assert [candidates.needed(places, p) for p in (0.25, 0.5, 0.75, 0.8)] == [1, 2, 3, None]
    assert candidates.found_share(ids[:, :2], np.array([[4, 0], [1, 3], [2, 9], [8, 9]])) == 3 / 8


def test_encodings_without_fill_or_with_sums_are_those_of_the_library(sets):
    params = vectors.init_fde(jax.random.key(1), 16, repetitions=2, planes=2, projected=4)
    queries, documents = token_sets.encode(sets, params, aggregate="sum", fill_empty=False)
    tokens, mask = sets.documents(0, len(sets))
    wanted = vectors.encode_set(params, tokens, mask, aggregate="sum")
    np.testing.assert_allclose(documents, wanted, atol=1e-5)
    np.testing.assert_allclose(queries, vectors.encode_queries(params, sets.queries, sets.mask))


def test_no_pair_breaks_the_bound(sets):
    found = token_sets.bound(sets, documents=20)
    assert (found["pairs"], found["outside"]) == (160, 0)
    assert -1e-5 <= found["least gap"] <= found["largest gap"] < found["bound"] < 1
    assert token_sets.bound(sets, documents=20, planes=4)["largest gap"] > found["largest gap"]


@pytest.mark.experiment
def test_generated_part_prints_and_saves_every_row(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(multivector_search, "SHIFTS", (1, 2))
    multivector_search.main(Config(parts=("generated",), results=tmp_path, workdir=tmp_path, **SMALL))
    saved = json.loads(next(tmp_path.glob("multivector_search_generated*.json")).read_text())["generated"]
    printed = capsys.readouterr().out
    rows = {row["encoding"]: row for row in saved["table"]}
    assert all(name in printed for name in rows) and len(saved["criteria"]) == 5
    assert rows["(20,5,64) identity"]["s=1"] > rows["(20,5,16) sum, no fill"]["s=1"]
    assert all(row["outside"] == 0 for row in saved["tokens"])


@pytest.mark.experiment
def test_searches_of_a_collection_are_compared_and_drawn(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(multivector_search, "text", lambda cfg: sets)
    monkeypatch.setattr(multivector_search, "SIZES", {"(20,3,8)": (3, 8), "(20,5,16)": (3, 8)})
    monkeypatch.setattr(multivector_search, "FINAL", (64,))
    cfg = Config(parts=("text",), scored=(10, 100), results=tmp_path, workdir=tmp_path, **SMALL)
    multivector_search.main(cfg)
    saved = json.loads(next(tmp_path.glob("multivector_search_text*.json")).read_text())["text"]
    rows = {row["search"]: row for row in saved["searches"]}
    assert rows["(5,5,16)"]["numbers"] == 5 * 8 * 8 and rows["(20,5,16) PQ-256-8"]["bytes"] == 20 * 8
    assert rows["(20,5,64) to 64"]["numbers"] == 64
    for row in saved["searches"]:
        sizes, recalls = zip(*row["curve"], strict=True)
        assert recalls[0] == row["1-Recall@1"] and sizes[0] == 1 and list(recalls) == sorted(recalls)
    assert rows["(20,5,16)"]["10-Recall@100"] > rows["(5,5,16)"]["10-Recall@10"]
    times = {(row["search"], row["exactly scored"]): row for row in saved["times"]}
    assert times["(20,5,16)", 100]["10-Recall@10"] >= times["(20,5,16)", 10]["10-Recall@10"]
    assert 0 < saved["sets"][0]["kept by carving"] <= 1
    assert next(tmp_path.glob("multivector_search_text*.png")).stat().st_size > 10_000


@pytest.mark.experiment
def test_judged_searches_end_at_the_exact_score():
    sets, sources = token_sets.generate(0, 1, documents=100, queries=12, width=16)
    means = [masked_mean(sets.queries, sets.mask), jnp.asarray(sets.map(masked_mean))]
    rows = multivector_search.judged(sets, means, sources[:, None], np.ones((12, 1), np.float32))
    rows = {row["search"]: row for row in rows}
    assert rows["FDE, then Chamfer"] == rows["exact Chamfer"] | {"search": "FDE, then Chamfer"}
    assert rows["exact Chamfer"]["Recall@100"] == 1 and rows["exact Chamfer"]["nDCG@10"] > 0.5
    assert len(rows) == 6


@pytest.mark.experiment
def test_a_folder_of_judged_texts_is_searched_every_way(tmp_path, capsys):
    folder = tmp_path / "little"
    (folder / "qrels").mkdir(parents=True)
    texts = {f"d{i}": f"w{i} w{i + 1} w{i + 2} w{i}" for i in range(5, 25)}
    lines = [json.dumps({"_id": i, "title": "", "text": t}) for i, t in texts.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    asked = [json.dumps({"_id": f"q{i}", "text": f"w{i} w{i + 1}"}) for i in (6, 9, 12)]
    (folder / "queries.jsonl").write_text("\n".join(asked))
    grades = "".join(f"q{i}\td{i}\t1\n" for i in (6, 9, 12))
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + grades + "q6\tgone\t1\n")
    model = write_model(tmp_path / "toy")
    options = {"beir": folder, "model": model, "results": tmp_path, "workdir": tmp_path / "runs"}
    multivector_search.main(Config(**options))
    saved = json.loads(next(tmp_path.glob("multivector_search_little_toy*.json")).read_text())
    rows = {row["search"]: row for row in saved["judged"]}
    assert (
        len(rows) == 6 and saved["config"]["beir"] == "little" and "exact Chamfer" in capsys.readouterr().out
    )
    assert rows["exact Chamfer"]["Recall@100"] == pytest.approx(2.5 / 3)  # "gone" can't be found
    assert rows["FDE, then Chamfer"]["nDCG@10"] == pytest.approx(rows["exact Chamfer"]["nDCG@10"])
    other = write_model(tmp_path / "toy2")  # the same folder with other weights does not take these tokens
    weights = dict(read_safetensors(other / "model.safetensors"))
    write_safetensors(other / "model.safetensors", {n: 1 + np.asarray(x) for n, x in weights.items()})
    multivector_search.main(Config(**options | {"model": other}))
    assert len(list((tmp_path / "runs").iterdir())) == 2
    with open(folder / "qrels/test.tsv", "a") as file:
        file.write("q99\td5\t1\n")
    with pytest.raises(ValueError, match="query 'q99' is judged but not in queries.jsonl"):
        multivector_search.main(Config(**options))


def test_bad_flags_are_refused_in_one_line(tmp_path, monkeypatch):
    for flags, message in (
        ({"documents": 10}, "--documents 10: choose 256 to"),
        ({"scored": (5,)}, "--scored 5: choose 10 to"),
        ({"parts": ()}, "--parts: is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**flags)
    monkeypatch.setattr(inputs, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="--model: no encoder is installed; run `make data`"):
        text_models.find_model(None)
    assert text_models.find_model(pathlib.Path("own")) == pathlib.Path("own")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "title": "", "text": "lift"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "lift"}\n')
    cfg = dataclasses.replace(Config(), beir=tmp_path, split="dev", model=pathlib.Path("own"))
    with pytest.raises(ValueError, match="--split dev: the judgments are test"):
        multivector_search.main(cfg)
