"""Reads with every reader under an audit hook; prints what a file could have run as a line of JSON each.

``--control`` does these things itself, so that a test sees that the hook sees them.
"""

import contextlib
import json
import os
import pathlib
import pickle
import socket
import subprocess
import sys
import tempfile
import warnings

import readers

WATCHED = {
    "pickle.find_class",
    "exec",  # "compile" alone parses, as the header of an npy file is, and runs nothing
    "marshal.loads",
    "code.__new__",
    "ctypes.dlopen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
    "subprocess.Popen",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "urllib.Request",
    "webbrowser.open",
}
FOUND = []
ARMED = [False]


def hook(event, arguments):
    if ARMED[0] and event in WATCHED:
        FOUND.append((event, repr(arguments)[:200]))


@contextlib.contextmanager
def armed():
    FOUND.clear()
    ARMED[0] = True
    try:
        yield
    finally:
        ARMED[0] = False


def control():
    """Does each of the things that no reader may do."""
    with armed():
        pickle.loads(pickle.dumps(os.getcwd))
        exec("1 + 1")
        os.system("true")
        subprocess.run(["true"], check=True)
        with contextlib.suppress(OSError), socket.socket() as made:
            made.settimeout(0.01)
            made.connect(("127.0.0.1", 9))


def main():
    warnings.simplefilter("ignore")
    sys.addaudithook(hook)
    if sys.argv[1:] == ["--control"]:
        control()
        print(json.dumps({"events": [event for event, _ in FOUND]}))
        return
    with tempfile.TemporaryDirectory() as place:
        for n, (name, reader) in enumerate(readers.runnable().items()):
            if reader.slow:
                continue
            with readers.written(name, pathlib.Path(place, str(n))) as folder:
                reader.read(folder)  # imports what it needs, which compiles and runs modules
                with armed():
                    reader.read(folder)
            print(json.dumps({"name": name, "events": FOUND}), flush=True)


if __name__ == "__main__":
    main()
