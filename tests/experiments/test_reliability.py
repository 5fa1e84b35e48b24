"""The campaign of faults, in short; and that it would count what must not happen."""

import itertools

import numpy as np
import pytest

from experiments.reliability import __main__ as story
from experiments.reliability import indexes, training
from experiments.reliability.outcomes import LOST, NAMELESS, RIGHT, SILENT, TOLD, row, tried
from jaxembed import files
from jaxembed.train import checkpoint

FEW = story.Config(tries=8, processes=1, mutations=1, steps=0)
# These start several processes, or ask for the bits of one device, where tests have eight; see tests/train.
ELSEWHERE = {
    "one of two processes is killed",
    "two processes get signals, one later",
    "two runs use one folder",
    "a run is killed",
}


def test_a_short_campaign_loses_nothing_and_nothing_is_silent(tmp_path):
    found = {}
    for name, ends in story.campaigns(FEW, tmp_path):
        if name not in ELSEWHERE:
            found[name] = row(name, ends)
    assert len(found) == 7
    for name, ends in found.items():
        assert ends["tries"] > 0 and not any(ends[end] for end in (SILENT, NAMELESS, LOST)), (name, ends)
    told = story.told({story.TRIES: [*found.values()], story.READERS: []})
    assert story.kept(told.details) == story.holds(True, 0)


@pytest.mark.parametrize(
    ("raised", "end"),
    [
        (ValueError("/a/b: damaged; copy it again"), TOLD),
        (ValueError("damaged; copy it again"), NAMELESS),
        (ValueError("/a/b: damaged"), NAMELESS),
        (OSError("/a/b: damaged;\ncopy it again"), NAMELESS),
        (KeyError("/a/b: damaged; copy it again"), NAMELESS),
        (None, SILENT),
    ],
)
def test_only_one_line_with_a_file_and_a_remedy_counts_as_told(raised, end):
    def call():
        if raised is not None:
            raise raised

    assert tried(call, lambda found: False) == end
    assert raised is not None or tried(call, lambda found: True) == RIGHT


def test_the_campaign_sees_what_checksums_would_have_noticed(tmp_path, monkeypatch):
    """Without the comparison of checksums damage is silent, and the campaign says so."""
    monkeypatch.setattr(files, "check_digest", lambda *_: None)
    monkeypatch.setattr(checkpoint, "difference", lambda *_: None)
    rng = np.random.default_rng(1)
    ends = itertools.chain(training.flips(tmp_path, 12, rng), indexes.flips(tmp_path, 40, rng, "vectors"))
    assert SILENT in set(ends)
