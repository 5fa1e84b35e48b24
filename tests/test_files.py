"""Files that are whole or absent, and the lock on a folder."""

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from flips import silent
from refusals import refused

from jaxembed import _locks, files

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


def taken(path, words):
    with pytest.raises(BlockingIOError) as refusal, files.held(path, "x"):
        pass
    assert str(refusal.value) == f"{path}: is being written by {words}; wait until that ends, or choose " + (
        "another place"
    )


def test_second_writer_is_told_who_holds_the_folder_until_that_is_killed(tmp_path, holder):
    owner = f"an addition of process {holder.pid} on {socket.gethostname()}"
    taken(tmp_path, owner)
    note = (tmp_path / ".lock").read_bytes()
    for text in (b"", b"\xff", b"[]", b'{"process": "x"}', b"[" * 4000):
        (tmp_path / ".lock").write_bytes(text)
        taken(tmp_path, "another process")
    (tmp_path / ".lock").write_bytes(note)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock").read_bytes() == note  # the dead owner is still named there
    with files.held(tmp_path, "a deletion"):
        taken(tmp_path, owner.replace("n addition", " deletion").replace(str(holder.pid), str(os.getpid())))
    assert not (tmp_path / ".lock").read_bytes()


FORKED = """
import os, sys, time
from jaxembed import files
with files.held(sys.argv[1], "a build"):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    os._exit(0)  # as a kill would end it, inside the block
"""


def test_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path):
    command = [sys.executable, "-c", FORKED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        try:
            assert parent.wait() == 0
            with files.held(tmp_path, "a deletion"):
                os.kill(child, 0)  # lives
                assert b"a deletion" in (tmp_path / ".lock").read_bytes()
        finally:
            os.kill(child, signal.SIGKILL)


def test_lock_is_given_back_by_an_error_and_files_have_their_own(tmp_path):
    with pytest.raises(KeyError), files.held(tmp_path, "a build"):
        raise KeyError
    a, b = tmp_path / "a.npy", tmp_path / "b.npy"
    with files.held(tmp_path, "a build"), files.held(a, "x"), files.held(b, "x"):
        taken(a, f"x of process {os.getpid()} on {socket.gethostname()}")


def test_without_locks_the_block_runs(tmp_path, monkeypatch):
    def lockless(*args):
        raise OSError(_locks.errno.ENOSYS, "no locks")

    ran = []
    monkeypatch.setattr(_locks.fcntl, "flock", lockless)
    with files.held(tmp_path, "x"), files.held(tmp_path, "y"):
        ran.append("ENOSYS")
    monkeypatch.setattr(_locks, "fcntl", None)
    with files.held(tmp_path, "x"), files.held(tmp_path, "y"):
        ran.append("Windows")
    monkeypatch.undo()

    def readonly(*args):
        raise OSError(_locks.errno.EROFS, "read-only")

    monkeypatch.setattr(_locks.os, "open", readonly)
    with files.held(tmp_path, "x"), files.held(tmp_path, "y"):
        ran.append("read-only")
    assert ran == ["ENOSYS", "Windows", "read-only"]


def test_links_of_a_stranger_are_not_written_through(tmp_path):
    mine, folder = tmp_path / "mine", tmp_path / "folder"
    folder.mkdir()
    mine.write_text("kept")
    for name in (".lock", "x.json.new"):
        (folder / name).symlink_to(mine)
    files.write_json(folder / "x.json", {"a": 1})
    with pytest.raises(OSError, match=r"\.lock"), files.held(folder, "x"):
        pass
    assert mine.read_text() == "kept" and files.read_json(folder / "x.json", "") == {"a": 1}


def test_lock_that_another_user_made_holds(tmp_path, monkeypatch):
    real = os.open
    monkeypatch.setattr(_locks.os, "open", lambda path, flags, mode: real(path, only_to_read(flags), mode))

    def only_to_read(flags):
        if flags & os.O_RDWR:
            raise PermissionError(_locks.errno.EACCES, "made by another")
        return flags

    (tmp_path / ".lock").touch()
    with files.held(tmp_path, "x"):
        taken(tmp_path, "another process")
        assert (tmp_path / ".lock").read_bytes() == b""  # it is another's file


# --- files ---


@pytest.mark.parametrize("text", ["né", "x" * 70_000, None, [1.5, {"a": []}]])
def test_sealed_json_comes_back_and_any_change_is_noticed(tmp_path, text):
    path = tmp_path / "x.json"
    files.write_json(path, {"value": text, "checksums": '"checksum": ""'}, sealed=True)
    assert files.read_json(path, "again", sealed=True) == {"value": text, "checksums": '"checksum": ""'}
    assert "checksum" in files.read_json(path, "again")
    quiet = silent(path, lambda: files.read_json(path, "again", sealed=True), count=200)
    whole = path.read_bytes()
    for _, byte, bit in quiet:  # in the key itself: then the reader finds a key that it does not know
        changed = bytearray(whole)
        changed[byte] ^= 1 << bit
        assert b'"checksum": "' not in bytes(changed)[-90:]
    path.write_bytes(whole.replace(b"\n", b"\r\n"))
    refused("the checksum differs; again", lambda: files.read_json(path, "again", sealed=True))
    path.write_bytes(b"[" * 100_000)
    refused("damaged or cut short", lambda: files.read_json(path, "again", sealed=True))


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "|u1", "|b1", "<i8", "<U7", "<c8"])
@pytest.mark.parametrize("shape", [(5,), (3, 2), (2, 1, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_numpy_wrote_them(tmp_path, dtype, shape, order):
    array = np.asarray(np.arange(np.prod(shape)).reshape(shape).astype(dtype), order=order)
    np.save(tmp_path / "x.npy", array)
    found = files.open_array(tmp_path / "x.npy", shape, dtype, "again")
    assert isinstance(found, np.memmap) and not found.flags.writeable
    np.testing.assert_array_equal(found, array)
    refused("expected <f8", lambda: files.open_array(tmp_path / "x.npy", shape, "<f8", "again"))


def test_headers_that_numpy_would_follow_out_of_the_file_are_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(3, np.float32))
    whole = path.read_bytes()
    for head in (
        b"\x93NUMPY\3\0\xff\xff\xff\xff",  # a header of 4 GB
        whole[:8] + b"\xff\xff",
        whole[:50].replace(b"<f4", b"|O8"),
        whole[:50].replace(b"<f4", b"<a4"),  # of which NumPy warns
        whole[:50].replace(b"<f4", b"(f4"),
        b"",
    ):
        path.write_bytes(head + whole[len(head) :] if head else b"")
        refused("damaged or cut short|expected <f4", lambda: files.open_array(path, (3,), "<f4", "again"))
    path.write_bytes(whole.replace(b"(3,), ", b"(10**9,), "))
    refused("damaged or cut short", lambda: files.open_array(path, (10**9,), "<f4", "again"))
    path.write_bytes(whole.replace(b"(3,), }      ", b"(999999999,)"))
    refused("damaged or cut short", lambda: files.open_array(path, (999999999,), "<f4", "again"))


def test_a_file_that_could_not_be_opened_is_left_alone(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"), files.written(tmp_path / "none" / "x"):
        pass
    (tmp_path / "x").write_text("kept")
    with pytest.raises(KeyError), files.cleared(tmp_path / "y"):
        (tmp_path / "y").mkdir()
        (tmp_path / "y" / "z").write_text("")
        raise KeyError
    with pytest.raises(KeyError), files.written(tmp_path / "z"):
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
