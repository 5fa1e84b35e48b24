"""Two writers of one folder, a reader beside a writer: nothing that was reported is lost."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from document_cases import DOCUMENTS, build, encode, refused, same

from jaxembed import files, search

ROOT = pathlib.Path(search.__file__).parents[2]

# A process that writes, says so in the middle of it, and goes on when it is told.
WRITER = """
    import pathlib, sys
    import numpy as np
    from jaxembed import search
    kind, path = sys.argv[1:]

    def pause():
        print("writing", flush=True)
        sys.stdin.readline()

    def encode(params, tokens, mask):
        pause()
        return tokens.sum(axis=1)

    class Slow(dict):
        def items(self):
            pause()
            return super().items()

    class Lines(list):
        def __iter__(self):
            pause()
            return super().__iter__()

    one = [("slow", np.ones((2, 4)))]
    if kind == "build":
        search.build_documents(path, one, encode)
    if kind == "add":
        search.add_documents(path, one, encode)
    if kind == "save":
        search.save_index(path, np.ones((3, 2)), ["a", "b", "c"], Lines([1, 2, 3]))
    if kind == "embed":
        search.embed(lambda batch: pause() or np.ones((4, 2)), range(4), path=path, batch_size=4)
"""


@contextlib.contextmanager
def writing(kind, path):
    """Runs the block while another process is in the middle of writing; gives what is said of it."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), kind, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes) as process:
        try:
            assert process.stdout.readline() == "writing\n"
            yield f" of process {process.pid} on {socket.gethostname()}; wait until that ends"
            process.stdin.write("on\n")
            process.stdin.close()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def plain(params, tokens, mask):
    return tokens.sum(axis=1)


def blocked(match, call):
    refused("is being written by " + match, call, BlockingIOError)


def test_no_addition_and_no_deletion_beside_another_is_lost(tmp_path):
    first = [("first", np.ones((1, 4))), ("second", np.ones((1, 4)))]
    search.build_documents(tmp_path, first, plain)
    more = [("more", np.ones((3, 4)))]
    with writing("add", tmp_path) as owner:
        blocked("an addition" + owner, lambda: search.add_documents(tmp_path, more, plain))
        blocked("an addition" + owner, lambda: search.delete_documents(tmp_path, "first"))
        assert search.open_documents(tmp_path, verify=True).ids.tolist() == ["first", "second"]
        same(search.build_documents(tmp_path, first, plain), first)  # reads a finished index
    search.add_documents(tmp_path, more, plain)
    index = search.delete_documents(tmp_path, "first")
    assert index.ids.tolist() == ["second", "slow", "more"]


def test_one_build_one_save_and_one_embedding_at_a_time(tmp_path):
    with writing("build", tmp_path / "index") as owner:
        one = [("slow", np.ones((2, 4)))]
        blocked("a build" + owner, lambda: search.build_documents(tmp_path / "index", one, plain))
    assert search.open_documents(tmp_path / "index", verify=True).ids.tolist() == ["slow"]

    with writing("save", tmp_path / "plain") as owner:
        blocked("a save" + owner, lambda: search.save_index(tmp_path / "plain", np.eye(2), [1, 2]))
    assert search.load_index(tmp_path / "plain", verify=True).ids.tolist() == ["a", "b", "c"]

    path = tmp_path / "vectors.npy"
    with writing("embed", path) as owner:
        blocked("an embedding" + owner, lambda: search.embed(np.zeros, range(4), path=path))
        search.embed(lambda batch: np.zeros((4, 1)), range(4), path=tmp_path / "other.npy", batch_size=4)
    assert search.embed(None, range(4), path=path, verify=True).tolist() == [[1, 1]] * 4


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize("form", ["faiss", "faiss_binary", "usearch"])
def test_one_export_at_a_time(tmp_path, form):
    pytest.importorskip(form.split("_")[0])
    rows = np.eye(8, dtype=np.uint8 if form == "faiss_binary" else np.float32)
    with files.held(tmp_path / "x", "a build"):
        blocked("a build of process", lambda: getattr(search, f"build_{form}")(rows, tmp_path / "x"))
    assert not (tmp_path / "x").exists()


# --- readers ---


def test_a_reader_beside_a_deletion_opens_before_or_after(tmp_path, monkeypatch):
    build(tmp_path, shard_size=4)
    real, gone = files.check_size, iter(["d1", "d7", "d13"])

    def check_size(path, *args):
        """Lets a deletion happen while the index is opened."""
        monkeypatch.setattr(files, "check_size", real)
        if name := next(gone, None):
            search.delete_documents(tmp_path, name)
            monkeypatch.setattr(files, "check_size", check_size)
        return real(path, *args)

    monkeypatch.setattr(files, "check_size", check_size)
    index = search.open_documents(tmp_path)
    same(index, [pair for pair in DOCUMENTS if pair[0] not in ("d1", "d7", "d13")])
    shard = next(tmp_path.glob("shard-*"))
    (shard / "offsets.npy").unlink()  # missing, and nobody wrote
    refused("offsets.npy: missing; restore", lambda: search.open_documents(tmp_path), FileNotFoundError)


def test_a_reader_whose_index_is_gone_is_told_to_open_it_again(tmp_path):
    again = "was changed since it was opened; open it again$"
    build(tmp_path / "index", shard_size=4)
    index = search.open_documents(tmp_path / "index")
    search.delete_documents(tmp_path / "index", "d1")
    refused(again, lambda: index.tokens[:], FileNotFoundError)
    index = search.open_documents(tmp_path / "index")
    (tmp_path / "index").rename(tmp_path / "elsewhere")
    refused(again, lambda: index.columns["sum"][:], FileNotFoundError)
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "index.json").write_text("{")
    refused(again, lambda: index.columns["sum"][:], FileNotFoundError)
    same(search.open_documents(tmp_path / "elsewhere"), DOCUMENTS[:1] + DOCUMENTS[2:])


def test_a_reader_of_a_plain_index_keeps_what_it_opened(tmp_path, monkeypatch):
    def save(value):
        search.save_index(tmp_path, np.full((3, 2), value), [1, 2, 3], [value] * 3)

    save(1)
    old = search.load_index(tmp_path)
    real = files.open_array

    def open_array(*args):
        monkeypatch.setattr(files, "open_array", real)
        save(2)
        return real(*args)

    monkeypatch.setattr(files, "open_array", open_array)
    new = search.load_index(tmp_path, verify=True)
    for index, value in ((old, 1), (new, 2)):
        assert list(index.metadata) == [value] * 3 and (index.vectors == value).all()


def test_a_reader_that_never_finds_an_index_at_rest_is_told_so(tmp_path, monkeypatch):
    build(tmp_path, shard_size=4)
    real = files.check_size
    names = iter(f"d{n}" for n in range(22))

    def check_size(path, *args):
        monkeypatch.setattr(files, "check_size", real)
        search.delete_documents(tmp_path, next(names))
        monkeypatch.setattr(files, "check_size", check_size)
        raise FileNotFoundError("gone")

    monkeypatch.setattr(files, "check_size", check_size)
    refused("was changed since it was opened; open it", lambda: search.open_documents(tmp_path), OSError)
    monkeypatch.undo()
    assert len(search.add_documents(tmp_path, [("x", np.ones((1, 4)))], encode).ids) > 1
