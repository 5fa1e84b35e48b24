"""The experiment on texts for a target: models that count, arms, and a corpus of one's own."""

import numpy as np
import pytest
from gguf_files import write_gguf

from experiments.language_selection import arms, machine_text, own_corpus, published
from experiments.language_selection.__main__ import CLAIMS, Config, run
from experiments.shared import flags, results
from experiments.shared.results import Result
from jaxembed import data, encoders, files

TEXT = b"the cat sat on the mat and the dog ran to the cat on the mat again "
CODE = b"def f(x):\n    return [x for x in range(10) if x % 2 == 0]\n\n"


def pieces(text, count, length=32, seed=0):
    """Pieces of a text that is repeated, each from another place."""
    content = np.resize(np.frombuffer(text, np.uint8), 4096)
    starts = np.random.default_rng(seed).integers(0, 4096 - length, count)
    return np.stack([content[s : s + length] for s in starts])


def test_selection_finds_what_was_hidden():
    pool = np.concatenate([pieces(TEXT, 60), pieces(CODE, 20)])
    target = pieces(CODE, 10, seed=2)
    every = np.concatenate([pool, target])
    strings = data.byte_strings(every)
    places = data.string_places(strings, every)
    prior = data.count_strings(strings, places, np.arange(0, 80, 5))
    tuned = arms.both(prior, data.count_strings(strings, places, np.arange(80, 90)), 4.0)
    before, after = (data.byte_losses(m, places, np.arange(80)) for m in (prior, tuned))
    kept = arms.kept_rows({arms.COLOR: before - after}, 4, 0, (arms.COLOR,))
    assert (kept[arms.COLOR] >= 60).all()
    assert len(kept[arms.RANDOM]) == 20


def test_parts_of_python_share_no_file():
    cfg = flags.changed(Config(), pieces=400, hidden=40, examples=20, test=30, length=128)
    found = machine_text.world(cfg)
    rows = found["rows"]
    assert not set(rows["pool"]) & set(rows["target"])
    drawn = machine_text.draw(cfg, found, 0)
    assert drawn["python"].sum() == 40
    assert len(drawn["pool"]) == 400
    assert (found["kind"][drawn["target"]] == machine_text.PYTHON).all()
    assert len(np.unique(found["pieces"], axis=0)) > 0.99 * len(found["pieces"])


def test_a_published_prior_is_validated_and_selects(tmp_path, monkeypatch):
    model = encoders.load_causal(write_gguf(tmp_path / "model.gguf"))
    monkeypatch.setattr(published, "loaded", lambda: model)
    monkeypatch.setattr(published, "RATES", (1e-3, 0.03))
    given = {"prior": "smollm2", "taus": (4,), "length": 32, "seeds": 2, "epochs": 1}
    cfg = flags.changed(Config(**given), pieces=40, hidden=8, examples=8, test=16)
    rows = run(flags.changed(cfg, validate=True)).tables["rates"]
    grid = [(rate, n) for rate in published.RATES for n in range(1, published.EPOCHS + 1)]
    assert [(row["rate"], row["epochs"]) for row in rows] == [(0, 0), *grid]
    assert rows[-1]["nats per token"] < rows[1]["nats per token"] < rows[0]["nats per token"]
    assert results.answered(CLAIMS, Result({"rates": rows})) == []
    *_, last = run(cfg)
    kept = {row["arm"]: row for row in last.tables["arms"]}
    assert kept.keys() == {arms.RANDOM, arms.COLOR, arms.CONDITIONAL, arms.COUNTED}
    assert all(len(row["runs"]) == 2 for row in kept.values())


def corpus(folder):
    """A pool of texts with some code in it, and a target of code."""
    (folder / "pool" / "inner").mkdir(parents=True)
    (folder / "target").mkdir()
    for n in range(6):
        (folder / "pool" / f"text{n}.txt").write_bytes(pieces(TEXT, 20, seed=n).tobytes())
    (folder / "pool" / "inner" / "code.py").write_bytes(pieces(CODE, 20, seed=9).tobytes() + b"ab")
    (folder / "pool" / "picture.png").write_bytes(b"\x89PNG\0\0\0")
    (folder / "pool" / ".hidden").write_bytes(TEXT)
    (folder / "target" / "more.py").write_bytes(pieces(CODE, 10, seed=3).tobytes())
    given = {"pool": folder / "pool", "target": folder / "target", "workdir": folder / "out", "length": 32}
    return flags.changed(Config(), **given, prior_share=0.5)


def kept_of(cfg):
    lines = (cfg.workdir / "kept.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["file", "first byte", "bytes", "score"]
    return [line.split("\t") for line in lines[1:]]


def test_a_corpus_of_ones_own(tmp_path):
    cfg = flags.changed(corpus(tmp_path), keep=0.1)
    own_corpus.write_kept(cfg)
    kept = kept_of(cfg)
    assert len(kept) == 14  # of 141
    assert {row[0] for row in kept} == {"inner/code.py"}
    assert all(int(row[1]) % 32 == 0 and int(row[2]) in (2, 32) for row in kept)


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    cfg = corpus(tmp_path)
    monkeypatch.setattr(own_corpus, "SHARD", 50)
    own_corpus.write_kept(flags.changed(cfg, workdir=tmp_path / "whole"))
    write, written = files.write_array, []

    def stop(path, x):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, x)

    monkeypatch.setattr(files, "write_array", stop)
    with pytest.raises(KeyboardInterrupt):
        own_corpus.write_kept(cfg)
    assert not (cfg.workdir / "kept.tsv").exists()
    monkeypatch.setattr(files, "write_array", lambda path, x: (written.append(path), write(path, x)))
    own_corpus.write_kept(cfg)
    assert len({*written}) == len(written) == 3  # shards that were there are not scored again
    whole = flags.changed(cfg, workdir=tmp_path / "whole")
    assert kept_of(cfg) == kept_of(whole)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"keep": 1e-6}, "--keep 1e-06: of 141 pieces none is left"),
        ({"pool": "empty"}, "--pool .*empty: holds no text file"),
        ({"target": "empty"}, "--target .*empty: holds no text file"),
    ],
)
def test_a_corpus_that_does_not_fit_is_one_line(change, match, tmp_path):
    cfg = corpus(tmp_path)
    (tmp_path / "empty").mkdir()
    change = {k: tmp_path / v if isinstance(v, str) else v for k, v in change.items()}
    with pytest.raises(ValueError, match=match):
        own_corpus.write_kept(flags.changed(cfg, **change))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"pool": "a"}, "--pool, --target: give both"),
        ({"pool": "a", "target": "b", "prior": "smollm2"}, "--prior: has no meaning with --pool"),
        ({"pool": "a", "target": "b", "validate": True}, "--validate: has no meaning with --pool"),
        ({"prior": "smollm2", "examples": 3}, "--examples 3: SmolLM2 reads 4 a step; give more"),
        ({"hidden": 20000}, "--hidden 20000: choose fewer"),
        ({"keep": 0.0}, "--keep 0.0: choose"),
        ({"keep": 1.5}, "--keep 1.5: choose"),
    ],
)
def test_flags_that_do_not_fit_are_refused(given, match):
    with pytest.raises(ValueError, match=match):
        Config(**given)
