"""Files that are whole or absent: the lock on a folder."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from jaxembed import files

HOLDER = """
import sys, time
from jaxembed import files
with files.held(sys.argv[1], "an addition"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock on tmp_path."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def refused(path, words):
    with pytest.raises(BlockingIOError) as refusal, files.held(path, "x"):
        pass
    assert str(refusal.value) == f"{path}: is being written by {words}; wait until that ends, or choose " + (
        "another place"
    )


def test_second_writer_is_told_who_holds_the_folder_until_that_is_killed(tmp_path, holder):
    owner = f"an addition of process {holder.pid} on {socket.gethostname()}"
    refused(tmp_path, owner)
    note = (tmp_path / ".lock").read_bytes()
    for text in (b"", b"\xff", b"[]", b'{"process": "x"}', b"[" * 4000):
        (tmp_path / ".lock").write_bytes(text)
        refused(tmp_path, "another process")
    (tmp_path / ".lock").write_bytes(note)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock").read_bytes() == note  # the dead owner is still named there
    with files.held(tmp_path, "a deletion"):
        refused(tmp_path, owner.replace("n addition", " deletion").replace(str(holder.pid), str(os.getpid())))
    assert not (tmp_path / ".lock").read_bytes()


def test_forked_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    start = multiprocessing.get_context("fork").Process
    child = start(target=time.sleep, args=(60,))
    with files.held(tmp_path, "a build"):
        child.start()
    try:
        with files.held(tmp_path, "a deletion"):
            pass
    finally:
        child.kill()
        child.join()


def test_lock_is_given_back_by_an_error_and_files_have_their_own(tmp_path):
    with pytest.raises(KeyError), files.held(tmp_path, "a build"):
        raise KeyError
    a, b = tmp_path / "a.npy", tmp_path / "b.npy"
    with files.held(tmp_path, "a build"), files.held(a, "x"), files.held(b, "x"):
        refused(a, f"x of process {os.getpid()} on {socket.gethostname()}")


def test_without_locks_the_block_runs(tmp_path, monkeypatch):
    def lockless(*args):
        raise OSError(files.errno.ENOSYS, "no locks")

    monkeypatch.setattr(files.fcntl, "flock", lockless)
    with files.held(tmp_path, "x"), files.held(tmp_path, "y"):
        pass
    monkeypatch.setattr(files, "fcntl", None)
    with files.held(tmp_path, "x"), files.held(tmp_path, "y"):
        pass
