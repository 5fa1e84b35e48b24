"""The experiment on multi-vector search runs on generated tokens, without a text encoder."""

import dataclasses
import doctest
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import write_model

from experiments.multivector_search import __main__ as story
from experiments.multivector_search import funnels, judged, searches, tokens
from experiments.shared import flags, inputs, results, text_models
from jaxembed import data, ragged, vectors
from jaxembed.encoders.pretrained.tensors import read_safetensors, write_safetensors

SMALL = {"queries": 12, "generated": 100, "seeds": 1, "candidates": 100, "iterations": 1, "timed": 3}


@pytest.fixture(scope="module")
def sets():
    return data.toy.token_sets(0, documents=260, queries=12, width=16)


def kept(run):
    return json.loads(results.path_of("multivector_search", run).read_text())


def saved(cfg):
    """The JSON that a run writes, and its path."""
    path = results.finish(
        "multivector_search", "try", cfg, story.run(cfg), story.CLAIMS, story.figures, seconds=1
    )
    return json.loads(path.read_text()), path


def test_shape_counts_cells_as_a_loop_does(sets):
    params = tokens.centred(sets, searches.init(0, 16, 3, 4))
    found = tokens.shape(sets, params, 20)
    used, fullest, offsets = [], [], sets["offsets"]
    some = [sets["tokens"][a:b] for a, b in zip(offsets[:20], offsets[1:21], strict=True)]
    for planes in np.asarray(params["planes"]):
        ids = [((t - np.asarray(params["centre"])) @ planes > 0) @ [1, 2, 4] for t in some]
        used += [len(set(i)) for i in ids]
        fullest.append(np.bincount(np.concatenate(ids)).max() / sum(map(len, ids)))
    assert found["cells of a document"] == pytest.approx(np.mean(used))
    assert found["tokens in fullest cell"] == pytest.approx(np.mean(fullest))
    flat = np.concatenate(some)
    pairs = (flat @ flat.T)[~np.eye(len(flat), dtype=bool)]
    assert found["mean cosine"] == pytest.approx(pairs.mean(), abs=1e-4)


def test_ranks_and_candidates_needed():
    assert doctest.testmod(searches)[:2] == (0, 1)
    ids = np.array([[4, 2, 0], [1, 3, 2], [0, 1, 2], [5, 6, 7]])
    ranks = searches.ranks(ids, np.array([2, 2, 0, 9]))
    np.testing.assert_array_equal(ranks, [2, 3, 1, np.inf])
    assert [searches.needed(ranks, p) for p in (0.25, 0.5, 0.75, 0.8)] == [1, 2, 3, None]
    assert searches.found_share(ids[:, :2], np.array([[4, 0], [1, 3], [2, 9], [8, 9]])) == 3 / 8


def test_encodings_without_fill_or_with_sums_are_those_of_the_library(sets):
    params = vectors.init_fde(jax.random.key(1), 16, repetitions=2, planes=2, projected=4)
    queries, documents = tokens.encode(sets, params, aggregate="sum", fill_empty=False)
    padded, mask = ragged.set_batch(sets["tokens"], sets["offsets"], 0, 260)
    wanted = vectors.encode_set(params, padded, mask, aggregate="sum")
    np.testing.assert_allclose(documents, wanted, atol=1e-5)
    np.testing.assert_allclose(queries, vectors.encode_queries(params, sets["queries"], sets["mask"]))


def test_no_pair_breaks_the_bound(sets):
    found = tokens.bound(sets, documents=20)
    assert (found["pairs"], found["outside"]) == (160, 0)
    assert -1e-5 <= found["least gap"] <= found["largest gap"] < found["bound"] < 1
    assert tokens.bound(sets, documents=20, planes=4)["largest gap"] > found["largest gap"]


# Runs


@pytest.mark.experiment
def test_generated_part_prints_and_saves_every_row(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(story, "SHIFTS", (1, 2))
    found, _ = saved(story.Config(parts=("generated",), results=tmp_path, workdir=tmp_path, **SMALL))
    printed = capsys.readouterr().out
    rows = {row["encoding"]: row for row in found["tables"]["generated tokens"]}
    assert all(name in printed for name in rows)
    asked = [claim["sentence"] for claim in found["claims"]]
    assert len(asked) == 5 and all(sentence.startswith("generated") for sentence in asked)
    assert rows["(20,5,64) identity"]["s=1"] > rows["(20,5,16) sum, no fill"]["s=1"]
    assert all(row["outside"] == 0 for row in found["tables"]["shape of generated tokens"])


@pytest.mark.experiment
def test_a_funnel_reads_less_and_its_exact_scores_are_those_of_its_candidates(sets):
    params, scores = searches.init(0, 16, 3, 4), tokens.exact(sets)
    plain, first, *funnel = funnels.measure(sets, params, scores)
    assert plain["encodings, MB"] == pytest.approx(260 * 20 * 8 * 4 * 4 / 1e6)
    assert first["encodings, MB"] == pytest.approx(plain["encodings, MB"] / 4)
    for row in funnel:
        assert first["encodings, MB"] / 3 < row["encodings, MB"] < plain["encodings, MB"]
        assert row["10-Recall@10, exact scores"] == row["10-Recall@100"]  # the exact score loses none of them
    documents = np.asarray(tokens.encode(sets, params)[1])
    asked = np.asarray(vectors.encode_queries(params, sets["queries"], sets["mask"]))
    ten = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    places = np.argsort(-(asked @ documents.T), axis=1, kind="stable")[:, :100]
    assert plain["10-Recall@100"] == pytest.approx(searches.found_share(places, ten), abs=1e-6)


@pytest.mark.experiment
def test_fewer_tokens_keep_more_of_the_best_where_the_query_chose_them(sets, monkeypatch):
    monkeypatch.setattr(funnels, "KEPT", (0.5, 1.0))
    scores = tokens.exact(sets)
    rows = {row["tokens by"]: row for row in funnels.pruned(sets, scores)}
    for rule in funnels.RULES:
        assert rows[f"{rule}, 100%"] == {"tokens by": f"{rule}, 100%", "kept": 1, "10-Recall@10": 1}
        assert 0.5 < rows[f"{rule}, 50%"]["kept"] < 0.65
    found = {rule: rows[f"{rule}, 50%"]["10-Recall@10"] for rule in funnels.RULES}
    assert found["query"] > max(found["document"], found["chance"]) + 0.1
    query, mask = sets["queries"][0], sets["mask"][0]
    n = int(np.argmax(scores[0]))
    own = np.asarray(sets["tokens"][slice(*sets["offsets"][n : n + 2])])
    near = (own @ query[mask].T).sum(axis=1)
    given = query[None], own[None], mask[None], np.ones((1, len(own)), bool)
    stay = np.asarray(funnels.chosen("query", 0.5, funnels.FLAT, *given))[0]
    assert set(np.flatnonzero(stay)) == set(np.argsort(-near)[: stay.sum()])


@pytest.mark.experiment
def test_searches_of_a_collection_are_compared_and_drawn(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(story, "text", lambda cfg: sets)
    monkeypatch.setattr(story, "SIZES", {"(20,3,8)": (3, 8), "(20,5,16)": (3, 8)})
    monkeypatch.setattr(story, "FINAL", (64,))
    found, path = saved(
        story.Config(parts=("text",), scored=(10, 100), results=tmp_path, workdir=tmp_path, **SMALL)
    )
    tables = found["tables"]
    rows = {row["search"]: row for row in tables["searches"]}
    assert rows["(5,5,16)"]["numbers"] == 5 * 8 * 8 and rows["(20,5,16) PQ-256-8"]["bytes"] == 20 * 8
    assert rows["(20,5,64) to 64"]["numbers"] == 64
    for row in rows.values():
        sizes, recalls = zip(*row["curve"], strict=True)
        assert recalls[0] == row["1-Recall@1"] and sizes[0] == 1 and list(recalls) == sorted(recalls)
    assert rows["(20,5,16)"]["10-Recall@100"] > rows["(5,5,16)"]["10-Recall@10"]
    times = {(row["search"], row["exactly scored"]): row for row in tables["times"]}
    assert times["(20,5,16)", 100]["10-Recall@10"] >= times["(20,5,16)", 10]["10-Recall@10"]
    assert 0 < tables["texts"][0]["kept by carving"] <= 1
    assert len(found["claims"]) == 3
    assert path.with_suffix(".png").stat().st_size > 10_000


@pytest.mark.experiment
def test_judged_searches_end_at_the_exact_score():
    sets = data.toy.token_sets(0, documents=100, queries=12, width=16)
    means = [jnp.asarray(sets["queries"]).mean(axis=1), searches.means_of(sets)]
    rows = judged.compare(sets, means, sets["sources"][:, None], np.ones((12, 1), np.float32))
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
    assert flags.run_name(story.Config(**options)) == "little_toy"
    found, _ = saved(story.Config(**options))
    rows = {row["search"]: row for row in found["tables"]["judged texts"]}
    assert len(rows) == 6 and "exact Chamfer" in capsys.readouterr().out
    assert (found["config"]["beir"], found["seeds"], len(found["claims"])) == ("little", 1, 1)
    assert rows["exact Chamfer"]["Recall@100"] == pytest.approx(2.5 / 3)  # "gone" can't be found
    assert rows["FDE, then Chamfer"]["nDCG@10"] == pytest.approx(rows["exact Chamfer"]["nDCG@10"])
    other = write_model(tmp_path / "toy2")  # the same folder with other weights does not take these tokens
    weights = dict(read_safetensors(other / "model.safetensors"))
    write_safetensors(other / "model.safetensors", {n: 1 + np.asarray(x) for n, x in weights.items()})
    story.run(story.Config(**options | {"model": other}))
    assert len(list((tmp_path / "runs").iterdir())) == 2
    with open(folder / "qrels/test.tsv", "a") as file:
        file.write("q99\td5\t1\n")
    with pytest.raises(ValueError, match="query 'q99' is judged but not in queries.jsonl"):
        story.run(story.Config(**options))


@pytest.mark.experiment
def test_tokens_of_texts_are_kept_on_disk_and_made_once(tmp_path, monkeypatch):
    encoder = text_models.load(write_model(tmp_path / "toy"))
    texts, calls = [f"w{5 + n % 20} w{5 + n % 7}" for n in range(9)], []

    def recording(params, batch):
        calls.append(batch)
        return encoder.encode_tokens(params, batch)

    monkeypatch.setattr(tokens, "BLOCK", 2)
    given = {"encoder": dataclasses.replace(encoder, encode_tokens=recording), "length": 3}
    sets = tokens.of_texts(tmp_path / "runs", texts, ["w5", "w6 w7 w8"], **given)
    assert len(calls) == 6
    tokens.of_texts(tmp_path / "runs", texts, ["w5"], **given)
    assert len(calls) == 6 + 3  # the query, and the first and the last document, to compare their ids
    flat, offsets = encoder.encode_sets(texts, length=3)
    np.testing.assert_array_equal(sets["offsets"], offsets)
    np.testing.assert_allclose(sets["tokens"][:], flat, atol=2e-3)  # float16
    assert sets["queries"].shape == (2, 5, 16) and sets["mask"].sum(axis=1).tolist() == [3, 5]


# Settings


def test_bad_flags_are_refused_in_one_line(tmp_path, monkeypatch):
    for given, message in (
        ({"documents": 10}, "--documents 10: choose 256 to"),
        ({"scored": (5,)}, "--scored 5: choose 10 to"),
        ({"parts": ()}, "--parts: is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            story.Config(**given)
    with pytest.raises(FileNotFoundError, match="^--model: no model: no such folder"):
        story.look(story.Config(model=pathlib.Path("no model")))
    story.look(story.Config(model=pathlib.Path("no model"), parts=("generated",)))
    monkeypatch.setattr(inputs, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="--model: no encoder is installed; run `make data`"):
        text_models.find_model(None)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "title": "", "text": "lift"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "lift"}\n')
    cfg = story.Config(beir=tmp_path, split="dev")
    with pytest.raises(ValueError, match="--split dev: the judgments are test"):
        judged.measured(cfg, None)


def test_runs_that_are_not_the_kept_ones_have_names_of_their_own():
    runs = {path.stem for path in results.path_of("multivector_search", "x").parent.glob("*.json")}
    cranfield = pathlib.Path("cranfield")
    assert flags.run_name(story.Config()) in runs and flags.run_name(story.Config(beir=cranfield)) in runs
    for given in ({"documents": 300}, {"quick": True}, {"beir": cranfield, "split": "dev"}):
        assert flags.run_name(story.Config(**given)) not in runs


# What is kept


def test_claims_of_kept_runs_are_those_of_their_numbers():
    counts = {"default": (8, 6), "cranfield": (1, 1)}  # claims, and those that are reproduced
    for run, (asked, held) in counts.items():
        found = kept(run)
        rows = results.answered(story.CLAIMS, results.Result(found["tables"], found["details"]))
        assert rows == found["claims"] and len(rows) == asked
        assert sum(row["verdict"] == results.REPRODUCED for row in rows) == held


def test_the_kept_picture_is_drawn_from_its_numbers(tmp_path):
    path = tmp_path / "default.json"
    path.write_text(results.path_of("multivector_search", "default").read_text())
    (picture,) = results.draw(path, story.figures)
    assert picture.stat().st_size > 20_000
    path.write_text(json.dumps(kept("cranfield")))
    assert not results.draw(path, story.figures)
