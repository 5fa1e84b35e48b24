"""Signals that several processes receive at different moments."""

import atexit
import os
import signal

import jax
import pytest

from jaxembed import train
from jaxembed.train.step import STOP
from jaxembed.train.stopping import Agreement, signals


@pytest.fixture
def handled():
    """Signals that reach the handler in place before, which is put back."""
    found, before = [], signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: found.append(number))
    yield found
    signal.signal(signal.SIGTERM, before)


def send():
    os.kill(os.getpid(), signal.SIGTERM)


def stopped(monkeypatch, number):
    """An agreement of two processes whose step says that one of them received a signal."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    return lambda received: Agreement(received, train.make_mesh(1)).signal({STOP: number})


def test_a_signal_that_comes_after_the_others_told_of_it_is_let_pass_once(handled, monkeypatch):
    with signals() as received:
        assert stopped(monkeypatch, 15)(received) == 15
        assert stopped(monkeypatch, 0)(received) == 0  # told once, it is not forgotten
    send()
    assert handled == []
    send()
    assert handled == [15]


def test_at_the_end_of_the_interpreter_an_expected_signal_is_ignored(handled, monkeypatch):
    registered = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    with signals() as received:
        stopped(monkeypatch, 15)(received)
    ((call, *given),) = registered
    call(*given)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    with signals():
        pass
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    call(*given)  # the one that was expected came before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and len(registered) == 1


def test_a_signal_received_in_time_leaves_the_handler_that_was_there(handled, monkeypatch):
    for before in (True, False):  # the others told of it, and after that
        with signals() as received:
            if before:
                send()
            assert stopped(monkeypatch, 15)(received) == 15
            if not before:
                send()
        assert received == [15]
        send()
    assert handled == [15, 15]


def test_without_a_signal_the_handler_that_was_there_is_back(handled, monkeypatch):
    with signals() as received:
        assert stopped(monkeypatch, 0)(received) == 0
    send()
    assert handled == [15] and received == []
