"""The benchmark on an accelerator: its parts on a CPU, and the whole in a bare environment at toy sizes."""

import dataclasses
import doctest
import gc
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import bare

from experiments.benchmarks import device, table_arms, timing
from experiments.benchmarks.on_device import cards, cases, held, laws, peers, texts
from experiments.shared import flags

ROOT = pathlib.Path(__file__).parents[2]
BARE = "jax", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers"


@pytest.fixture
def alone(monkeypatch):
    """No torch, so that every arm is ours."""
    monkeypatch.setattr(cases, "find_torch", lambda card: None)


def small(**given):
    return flags.preset(device.Config(quick=True, **given), quick=device.QUICK)


CARD = cards.Card("cpu", {"float32": 4.0, "tf32": 8.0, "bfloat16": 16.0, "memory": 2.0}, "here", 100.0)


def case(arms, **more):
    given = {"table": "t", "task": "task", "size": "8", "of": "things", "count": 6, "unit": "float32"}
    return cases.Case(**given | {"flops": 8.0, "bytes": 2.0, "arms": arms} | more)


# A run


@pytest.mark.experiment
def test_every_row_is_told_and_kept_when_it_is_known(alone, capsys):
    running = device.run(small(only=("search", "tables")))
    seen = [next(running)]
    assert gc.get_freeze_count() > 0  # a collection after each case would take its time from the minutes
    seen += running
    assert gc.get_freeze_count() == 0
    last = seen[-1]
    assert list(last.tables) == ["laws", "ceilings", "embedding tables", "exact search"]
    counts = [sum(map(len, found.tables.values())) for found in seen]
    assert counts == sorted(counts) and len(set(counts)) >= 8
    assert {row["result"] for row in last.tables["laws"]} == {"kept"}
    rows = [row for title, rows in last.tables.items() if title != "laws" for row in rows]
    assert all(row["ms"] > 0 and row["GB"] > 0 and row["per second"] > 0 for row in rows)
    assert all(row["share of peak"] > 0 for row in rows if row["task"] not in ("product", "copy"))
    arms = {row["arm"] for row in last.tables["embedding tables"]}
    assert arms == {held.ADAGRAD, f"{held.ADAGRAD}, list made beside", "jaxembed, row-wise Adagrad"}
    assert last.details["device"] == "cpu" and last.details["left out"] == []
    assert last.details["peaks"].keys() == {*cards.UNITS, "memory"}
    printed = capsys.readouterr().out
    assert printed.count("law kept") == len(last.tables["laws"]) and "300 rows" in printed
    assert all(claim.ours({**last.details, **last.tables}) is None for claim in device.CLAIMS)


def test_what_is_left_when_the_minutes_are_over_is_named(alone, monkeypatch):
    clock = itertools.count(0, 10)  # every look at the clock takes ten seconds
    monkeypatch.setattr(device.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(laws, "check", lambda *more: [{"law": "x"}])
    monkeypatch.setattr(cases, "rows_of", lambda case, *more: [{"task": case.task, "size": case.size}])
    monkeypatch.setattr(cards, "measured", lambda card, rows: card)
    *_, last = device.run(small(minutes=2.0, only=("codes", "tables", "search")))
    assert len(last.tables["ceilings"]) == 4
    assert last.details["left out"][-1] == "search 500 codes of 4 bytes, 2 at a time"
    assert len(last.details["left out"]) > 2


def test_without_an_accelerator_only_toy_sizes_run(alone):
    """The numbers of a CPU must not stand where those of the command without flags are looked for."""
    with pytest.raises(ValueError, match="^no accelerator is here; --quick measures toy sizes"):
        next(device.run(device.Config()))


def test_a_part_that_cannot_begin_is_named_and_the_others_go_on(alone, monkeypatch, capsys):
    def broken(cfg, card, peer):
        raise RuntimeError("no room")
        yield

    def whole(cfg, card, peer):
        yield case(lambda: {"jaxembed": lambda: jnp.ones(2)})

    monkeypatch.setattr(device, "parts_of", lambda cfg: [("tables", broken), ("codes", whole)])
    monkeypatch.setattr(cards, "ceilings", broken)
    monkeypatch.setattr(laws, "check", lambda *more: [])
    *_, last = device.run(small())
    told = [f"{name}: RuntimeError: no room" for name in ("ceilings", "tables")]
    assert last.details["left out"] == told and f"left out: {told[1]}" in capsys.readouterr().out
    (row,) = last.tables["t"]
    assert row["ms"] > 0 and "share of peak" not in row  # no peak is known where no ceiling was measured


def test_nothing_is_measured_where_there_are_no_minutes(alone, monkeypatch):
    clock = itertools.count(0, 200)
    monkeypatch.setattr(device.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(laws, "check", lambda *more: [{"law": "x"}])
    *_, last = device.run(small(minutes=1.0, only=("codes",)))
    assert list(last.tables) == ["laws"] and len(last.details["left out"]) == 6


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="^--models BERT: choose of MiniLM, BERT-base, toy"):
        device.Config(models=("BERT",))
    with pytest.raises(ValueError, match="^--documents, --widths: give as many widths"):
        device.Config(documents=(1, 2), widths=(3,))
    with pytest.raises(ValueError, match="^--chunks 1: choose 2 to"):
        device.Config(chunks=1)
    with pytest.raises(ValueError, match="^--tokens 600: choose 1 to 512"):
        device.Config(tokens=(16, 600))
    with pytest.raises(ValueError, match="^--heights 0: choose 1 to"):
        device.Config(heights=(0,))
    with pytest.raises(ValueError, match="^--steps 10: choose 20 to"):
        device.Config(steps=10)
    with pytest.raises(ValueError, match="^--queries: is empty"):
        device.Config(queries=())


def test_nothing_touches_a_device_before_the_run():
    """Memory that JAX took at import would be missing to torch; here any look for a device fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "no such platform"}
    code = "import jax; {}; print('done')"
    for does, told in (("import experiments.benchmarks.device", "done\n"), ("jax.devices()", "")):
        command = [sys.executable, "-c", code.format(does)]
        assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == told


@pytest.mark.slow
@pytest.mark.experiment
def test_the_whole_runs_in_a_bare_environment(tmp_path):
    python, _ = bare(tmp_path / "bare", BARE)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_NUM", "XLA_"))}
    environment |= {"PYTHONPATH": str(ROOT)}
    code = "import importlib.util as u; print([x for x in {} if u.find_spec(x)])"
    absent = ["grain", "tensorflow_datasets", "tyro", "pyarrow", "matplotlib", "chex", "sklearn", "torch"]
    shown = subprocess.run(
        [python, "-c", code.format(absent)], env=environment, capture_output=True, text=True
    )
    assert shown.stdout.strip() == "[]"
    command = [python, "-m", "experiments.benchmarks.device", "--quick", "--results", tmp_path / "out"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    saved = json.loads((tmp_path / "out/device_cpu_quick.json").read_text())
    assert saved["run"] == "cpu_quick" and saved["details"]["torch"] is None
    titles = ["laws", "ceilings", "encoding", "training", "embedding tables", "exact search", "token sets"]
    assert list(saved["tables"]) == [*titles, "Chamfer", "product codes", "DCN-V2", "fit"]
    rows = [row for title, rows in saved["tables"].items() if title != "laws" for row in rows]
    assert not [row for row in rows if "ms" not in row], "arms that failed"
    assert {row["result"] for row in saved["tables"]["laws"]} == {"kept"}


# Cards


def test_peaks_are_positive_and_lower_precision_is_never_slower():
    for single, tensor, low, memory in cards.PEAKS.values():
        assert 0 < single <= tensor <= low and memory > 0
    assert cards.PEAKS["NVIDIA H200"][:3] == cards.PEAKS["NVIDIA H100 80GB HBM3"][:3]


def test_a_floor_is_the_larger_of_operations_and_bytes():
    assert CARD.floor(case(None)) == 2.0
    assert CARD.floor(case(None, bytes=20.0)) == 10.0
    assert CARD.floor(case(None, unit="bfloat16", flops=64.0)) == 4.0
    other = case(None, bytes=20.0, others={"row-wise": 12.0})
    assert (CARD.floor(other, "row-wise"), CARD.floor(other, "jaxembed")) == (6.0, 10.0)
    assert CARD._replace(peaks={"memory": 2.0}).floor(case(None)) is None


def test_a_size_is_halved_until_there_is_room_and_the_note_says_so():
    assert CARD.fitting(50, lambda n: 2 * n, "rows") == (50, "")
    size, note = CARD._replace(room=3e9).fitting(1000, lambda n: 1e7 * n, "rows")
    assert size == 250 and note == "not 1,000 rows: they take 10 GB, there is room for 3"
    assert CARD.fitting(4, lambda n: 1e9, "rows")[0] == 1
    assert cards.find(2.0).room == 2e9 and cards.find().room > 0


def test_peaks_of_another_device_are_what_it_reached():
    rows = [
        {"task": "product", "size": "8 x 8, float32", "ms": 2.0, "GFLOP": 4.0},
        {"task": "product", "size": "8 x 8, float32", "ms": 1.0, "GFLOP": 4.0},
        {"task": "copy", "size": "8 numbers", "ms": 4.0, "GB": 2.0},
        {"task": "copy", "size": "8 numbers", "note": "left out"},
    ]
    found = cards.measured(CARD._replace(peaks={}), rows).peaks
    assert found == {"float32": pytest.approx(4e12), "memory": pytest.approx(5e11)}
    assert cards.measured(CARD, rows) is CARD


# Cases


def test_rows_hold_rates_shares_and_ratios():
    times = {"jaxembed, a way": 4.0, "torch": 8.0, "jaxembed, its product": 2.0}
    rows = cases.rows_of(case(None, seconds=lambda: times, note="small"), CARD, None, None, True)
    assert [row["per second"] for row in rows] == [1.5, 0.75, 3.0]
    assert [row.get("share of peak") for row in rows] == [0.5, 0.25, None]
    assert [row["times ours"] for row in rows] == [1, 2, 0.5] and rows[0]["ms"] == 4000
    assert [row.get("note") for row in rows] == ["small", None, None]


def test_an_arm_that_fails_is_named_and_the_others_go_on():
    def fails():
        raise RuntimeError("out of\n memory")

    cfg = device.Config(rounds=1)
    arms = {"jaxembed": lambda: jnp.ones(2), "jaxembed, other": fails}
    good, bad = cases.rows_of(case(lambda: arms), CARD, None, cfg, True)
    assert good["ms"] > 0 and "note" not in good
    assert bad == {
        "task": "task",
        "size": "8",
        "arm": "jaxembed, other",
        "note": "left out: RuntimeError: out of memory",
    }
    (row,) = cases.rows_of(case(fails), CARD, None, cfg, True)
    assert row["arm"] == "jaxembed" and row["note"] == bad["note"]


def test_an_arm_that_fails_in_its_turn_loses_neither_the_others_nor_what_was_told():
    calls = []

    def later():
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("queue is full")
        return np.ones(2)

    def fails():
        raise RuntimeError("out of memory")

    arms = {"jaxembed": lambda: jnp.ones(2), "torch": later, "jaxembed, other": fails}
    rows = cases.rows_of(case(lambda: arms), CARD, Peer(), device.Config(rounds=3), True)
    assert rows[0]["ms"] > 0 and len(rows) == 3
    notes = {row["arm"]: row["note"] for row in rows[1:]}
    told = {"jaxembed, other": "out of memory", "torch": "queue is full"}
    assert notes == {arm: f"left out: RuntimeError: {why}" for arm, why in told.items()}
    with pytest.raises(RuntimeError, match="out of memory"):
        timing.queued({"a": (fails, timing.done)}, 2)


def test_nothing_is_compared_with_a_part_of_ours_where_ours_failed():
    def fails():
        raise RuntimeError("out of memory")

    arms = {"jaxembed": fails, "jaxembed, its product": lambda: jnp.ones(2), "torch": lambda: np.zeros(3)}
    rows = cases.rows_of(case(lambda: arms, bound=0.1), CARD, Peer(), device.Config(rounds=1), True)
    assert [row.get("times ours") for row in rows] == [None] * 3
    assert [row["arm"] for row in rows] == ["jaxembed, its product", "torch", "jaxembed"]
    assert "note" not in rows[1] and device.summary(None, rows) == []


def test_bytes_of_an_arm_that_moves_less_are_its_own():
    times = {"jaxembed": 20.0, "jaxembed, row-wise": 20.0}
    made = case(None, seconds=lambda: times, bytes=20.0, others={"jaxembed, row-wise": 12.0})
    rows = cases.rows_of(made, CARD, None, None, True)
    assert [(row["GB"], row["share of peak"]) for row in rows] == [(2e-8, 0.5), (1.2e-8, 0.3)]


@pytest.mark.peers
def test_torch_that_does_not_see_the_card_is_left_out(monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cases.find_torch(CARD._replace(kind="NVIDIA H200")) is None
    assert "is left out: it does not see NVIDIA H200" in capsys.readouterr().out
    assert cases.find_torch(CARD) is not None
    monkeypatch.setattr(torch, "from_dlpack", lambda x: 1 / 0)
    assert cases.find_torch(CARD) is None
    assert "is left out: ZeroDivisionError" in capsys.readouterr().out


class Peer:
    """What stands in for torch: arms of its name are waited for by another function."""

    class torch:
        set_float32_matmul_precision = staticmethod(lambda precision: None)

    waited = 0

    def wait(self, found):
        self.waited += 1

    def forget(self):
        self.forgot = True


def test_a_peer_that_finds_something_else_is_told_and_compilation_can_be_left_out():
    peer, cfg = Peer(), device.Config(rounds=2)
    arms = {"jaxembed": lambda: (jnp.array([3.0, 4.0]), 1), "torch": lambda: np.array([3.0, 4.5])}
    arms["torch.compile"] = lambda: np.array([3.0, 4.0])
    rows = cases.rows_of(case(lambda: arms, bound=0.05, note="small"), CARD, peer, cfg, True)
    told = "differs by 1.0e-01 from our result, the bound is 5e-02"
    assert [row.get("note") for row in rows] == ["small", told, None]
    assert peer.waited == 2 * (1 + 2 + 2) and peer.forgot
    *rows, last = cases.rows_of(case(lambda: dict(arms)), CARD, peer, cfg, False)
    assert [row["arm"] for row in rows] == ["jaxembed", "torch"]
    assert last["arm"] == "torch.compile" and last["note"] == "left out: the minutes are nearly over"
    assert doctest.testmod(cases)[:2] == (0, 1)


def test_calls_of_a_turn_follow_one_another_and_the_last_is_waited_for(monkeypatch):
    told, now = [], [0.0]

    def call():
        now[0] += 1.0
        told.append("call")
        return len(told)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    wait = lambda found: told.append(found)  # noqa: E731
    assert timing.queued({"a": (call, wait)}, 2, least=3.0) == {"a": 1.0}
    assert told == ["call", 1, "call", 3, *["call"] * 3, 7, *["call"] * 3, 11]


def test_a_turn_ends_when_the_thread_for_the_next_step_has_ended():
    def prepare():
        time.sleep(0.05)
        return 1

    once = table_arms.beside(prepare, lambda found: jnp.ones(found))
    times = timing.queued({"a": (once, timing.done)}, 3)
    assert times["a"] > 0.04  # a step that is quicker than what the host does waits for it


# Laws and claims


def test_a_law_that_is_broken_is_told(monkeypatch, capsys):
    assert {row["result"] for row in laws.check()} == {"kept"}
    monkeypatch.setattr(laws.search, "top_k", lambda q, d, k: [x[:, ::-1] for x in jax.lax.top_k(q @ d.T, k)])
    monkeypatch.setattr(laws.vectors, "chamfer", lambda *given: jnp.full((2, 16), jnp.nan))
    broken = {row["law"] for row in laws.check() if row["result"] == "BROKEN"}
    assert broken == {"top_k, scores", "top_k, ids", "chamfer", "chamfer of bfloat16 tokens"}
    assert "law BROKEN: chamfer differs by nan" in capsys.readouterr().out
    monkeypatch.setattr(laws.search, "top_k", lambda q, d: None)
    told = [row["result"] for row in laws.check() if row["law"] == "of_search"]
    assert len(told) == 1 and told[0].startswith("BROKEN: TypeError: ")


def test_claims_are_asked_on_known_cards_alone():
    def row(arm, ms, task="task", size="1 at a time", **more):
        return {"arm": arm, "ms": ms, "task": task, "size": size} | more

    low, high = "encode, x in bfloat16", "encode, x in float32"
    numbers = {
        "encoding": [row("jaxembed", 2, low), row("torch.compile", 3, low), row("jaxembed", 9, high)],
        "training": [row("jaxembed", 10), row("torch", 12), row("torch.compile", 8)],
        "token sets": [row("jaxembed", 3), row("jaxembed, its product", 2)],
        "exact search": [
            row("jaxembed", 1, **{"share of peak": 0.5}),
            row("jaxembed", 1, size="16 at a time"),
        ],
        "embedding tables": [
            *(row(held.ADAGRAD, 1.0, size="a"), row(held.SPARSE, 4.0, size="a")),
            *(row(held.ADAGRAD, 1.2, size="b"), {"arm": held.SPARSE, "note": "left out", "task": "task"}),
        ],
    }
    found = [c.ours(numbers | {"peaks from": cards.DATASHEET}) for c in device.CLAIMS]
    values = [1.5, 0.8, 2 / 3, 0.5, 1 / 1.2, 4.0]
    assert [x.value for x in found] == pytest.approx(values)
    assert [x.verdict for x in found] == [
        *("reproduced", "not reproduced", "reproduced", "not reproduced", "reproduced", "reproduced")
    ]
    assert all(c.ours(numbers | {"peaks from": "here"}) is None for c in device.CLAIMS)
    assert all(c.ours({"peaks from": cards.DATASHEET}) is None for c in device.CLAIMS)


def test_a_summary_compares_with_torch_at_the_middle_size():
    rows = [
        {"task": "encode", "size": size, "of": "texts", "arm": arm, "per second": rate, "times ours": 1.0}
        for size, rate in (("1", 1.0), ("2", 8.0), ("3", 9.0))
        for arm, rate in (("jaxembed", rate), ("torch", 4.0), ("torch, dense part", 5.0))
    ]
    (row,) = device.summary(None, [*rows, {"law": "x"}])
    assert (row["task"], row["peer"], row["ratio"]) == ("encode, 2, texts/s", "torch", 2.0)


# The encoder and its peer


def test_operations_are_those_of_the_products():
    one = 2 * (4 * 32 * 32 + 2 * 32 * 64) + 4 * 8 * 32  # a token in a block of the toy, of 8 tokens
    assert texts.operations("toy", 3, 8) == 3 * 8 * 2 * one
    encoder = texts.load("toy")
    assert (encoder.depth, encoder.width) == (2, 32)
    np.testing.assert_array_equal(
        encoder.params["blocks"]["attention"]["query"]["kernel"][1],
        texts.draw("toy")["encoder.layer.1.attention.self.query.weight"].T,
    )


@pytest.mark.peers
def test_the_peer_encodes_what_we_encode():
    torch = pytest.importorskip("torch")
    batch = texts.batch_of("toy", 6, 8)
    encoder, model = texts.load("toy"), peers.bert(torch, texts.draw("toy"), texts.FORMS["toy"], "cpu", False)
    with torch.no_grad():
        theirs = model(torch.tensor(batch["ids"]).long(), torch.tensor(batch["mask"]))
    assert cases.difference(encoder.encode(encoder.params, batch), theirs) < 1e-5


@pytest.mark.slow
@pytest.mark.peers
def test_cached_gradients_of_the_peer_are_those_of_the_whole_batch():
    torch = pytest.importorskip("torch")
    batch = {n: torch.tensor(x) for n, x in texts.batch_of("toy", 8, 6).items()}
    moved = []
    for chunks in (1, 4):
        model = peers.bert(torch, texts.draw("toy"), texts.FORMS["toy"], "cpu", False)
        step = peers.trainer(torch, model, batch["ids"].long(), batch["mask"], (32, 16), chunks)
        step()
        moved.append(model.blocks[0].up.weight.grad.numpy().copy())
    assert np.abs(moved[0]).max() > 0 and cases.difference(*moved) < 0.02  # autocast rounds to bfloat16


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.experiment
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_every_case_has_its_arms_in_torch():
    pytest.importorskip("torch")
    cfg = small(only=("encode", "tables", "search", "chamfer", "codes", "clicks"))
    *_, last = device.run(cfg)
    rows = [row for title, rows in last.tables.items() if title != "laws" for row in rows]
    assert not [row for row in rows if "note" in row]
    for title in ("encoding", "exact search", "Chamfer", "product codes", "DCN-V2"):
        assert {"jaxembed", "torch"} <= {row["arm"] for row in last.tables[title]}, title
    assert held.SPARSE in {row["arm"] for row in last.tables["embedding tables"]}
    assert len(last.tables["summary"]) >= 8


def test_every_setting_that_is_changed_is_in_the_name_of_its_run():
    plain = device.Config()
    for field in dataclasses.fields(plain):
        if field.name in ("results", "models", "documents", "widths"):
            continue
        value = getattr(plain, field.name)
        other = {bool: not value, tuple: ("tables",) if field.name == "only" else (7,)}.get(type(value), 29)
        assert flags.run_name(dataclasses.replace(plain, **{field.name: other})) != "default", field.name
