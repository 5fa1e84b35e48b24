"""A process that lost another one ends with a line; the store of ``jax.distributed`` is a dict here."""

import json
import threading

import pytest

from jaxembed.train.peers import Peers


class Store(dict):
    def key_value_set(self, key, value, allow_overwrite):
        assert allow_overwrite
        self[key] = value

    def key_value_dir_get(self, place):
        return [(k, v) for k, v in self.items() if k.startswith(f"{place}/")]


class Quick(Peers):
    EVERY, SILENT, BROKEN, GRACE = 0.01, 0.6, 0.2, 0.2


def pair(folder=None):
    """A process with another one, of which the test says what it says; and the line that ended it."""
    store, lines, ended = Store(), [], threading.Event()

    def end(line):
        lines.append(line)
        ended.set()

    own = Quick(store, 0, folder, end=end)

    def says(*what):
        store[f"{own._place}/1"] = json.dumps(what)

    return own, store, says, lines, ended


def own_word(own, store):
    return json.loads(store[f"{own._place}/0"])[:2]


def test_a_silent_process_ends_the_others_with_one_line():
    own, store, says, lines, ended = pair("runs/a")
    says("lives", "", 1)
    with own:
        assert ended.wait(10)
    (line,) = lines
    assert line.startswith("process 1 gave no sign for ") and "\n" not in line
    assert line.endswith("so process 0 ends; run again to resume from runs/a")


def test_a_process_that_failed_is_named_with_its_error_and_one_that_lost_it_is_believed():
    own, store, says, lines, ended = pair()
    says("failed", "ValueError: no rows", 3)
    with own:
        assert ended.wait(10)
        assert own_word(own, store) == ["lost", "process 1 failed (ValueError: no rows)"]
    own, store, says, more, ended = pair()
    says("lost", "process 7 gave no sign for 60 seconds", 9)
    with own:
        assert ended.wait(10)
    assert lines == ["process 1 failed (ValueError: no rows), so process 0 ends; run again"]
    assert more == ["process 7 gave no sign for 60 seconds, so process 0 ends; run again"]


def test_processes_that_live_or_ended_end_nobody():
    own, store, says, lines, ended = pair()
    with own:
        for n in range(100):
            says("lives", "", n)
            assert not ended.wait(0.01)
        says("ended", "", 100)
        assert not ended.wait(1.0)
    assert own_word(own, store)[0] == "ended" and not lines


def test_an_error_of_the_device_waits_for_a_sign_of_the_others():
    own, store, says, lines, ended = pair()
    stop = threading.Event()

    def alive():
        n = 0
        while not stop.wait(0.01):
            n += 1
            says("lives", "", n)

    other = threading.Thread(target=alive)
    other.start()
    with pytest.raises(RuntimeError, match="out of memory"), own:
        try:
            raise RuntimeError("out of memory\nbuffers")
        except RuntimeError as error:
            own.settle(type(error), error, None)
            raise
    stop.set()
    other.join()
    assert own_word(own, store) == ["failed", "RuntimeError: out of memory"] and not lines

    own, store, says, lines, ended = pair()
    says("lives", "", 1)
    with own:
        own.settle(ValueError, ValueError("steps=0: pass more"), None)
        assert not ended.is_set()  # no error of the device
        own.settle(ValueError, ValueError("UNKNOWN: Gloo AllGather failed"), None)
        assert ended.is_set()  # before it returns, and before the silence that counts otherwise
    assert float(lines[0].split()[6]) < 1


def test_a_run_of_one_process_has_no_thread():
    before = threading.active_count()
    with Peers(None, 0) as own:
        own.settle(RuntimeError, RuntimeError(), None)
        assert threading.active_count() == before
