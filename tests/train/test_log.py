"""Lines of metrics.jsonl: damaged ones cost no others, and a run goes on beside them."""

import json

import pytest

from jaxembed import train

GOOD = [{"step": i, "kind": "train", "loss": float(i)} for i in range(1, 6)]
LINES = [json.dumps(row).encode() for row in GOOD]
DAMAGE = {
    "not UTF-8": b'{"step": 2, "kind": "tr\xffin", "loss": 2.0}',
    "cut": b'{"step": 2, "ki',
    "nested": b"[" * 100_000,
    "a list": b"[1, 2]",
    "no step": b'{"kind": "train"}',
    "a text as step": b'{"step": "2", "kind": "train"}',
    "nothing": b"\0\0\0",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_line_loses_no_other(name, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([LINES[0], DAMAGE[name], *LINES[2:], b""]))
    assert train.read_metrics(tmp_path) == [GOOD[0], *GOOD[2:]]


@pytest.mark.parametrize("name", DAMAGE)
def test_a_run_goes_on_and_keeps_the_damaged_line_aside(name, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([LINES[0], DAMAGE[name], *LINES[2:], b""]))
    for again in (1, 2):
        log = train.log.MetricLog(tmp_path, 4)
        assert log.rows == [GOOD[0], *GOOD[2:4]]
        log.add(5, "train", {"loss": 0.5})
        log.close()
        assert train.read_metrics(tmp_path) == [GOOD[0], *GOOD[2:4], GOOD[4] | {"loss": 0.5}]
        assert (tmp_path / "metrics.damaged").read_bytes() == DAMAGE[name] + b"\n", again


def test_a_whole_file_has_nothing_aside(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*LINES, b""]))
    train.log.MetricLog(tmp_path, 5).close()
    assert train.read_metrics(tmp_path) == GOOD
    assert not (tmp_path / "metrics.damaged").exists()
