"""Debian packages: fetched with a checksum, unpacked as plain files, whole or not at all."""

import hashlib
import io
import tarfile

import pytest

from jaxembed.data.sources.fetch_pictures import SETS, fetch

FILES = {
    "./usr/share/set/a/one.png": b"1",
    "./usr/share/set/a/readme.txt": b"text",
    "./usr/share/set/b/two.svg": b"<svg><dc:title>A &amp; B </dc:title><dc:title>who</dc:title></svg>",
    "./usr/share/set/b/three.svg": b"<svg></svg>",
    "./usr/share/other/four.png": b"4",
    "./usr/share/set/../../../../escape.png": b"5",
}


def package(files, links=()):
    """Bytes of a Debian package."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    out = b"!<arch>\n"
    parts = (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", packed.getvalue()))
    for name, content in parts:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{0:<8}{len(content):<10}`\n".encode() + content
        out += b"\n" * (len(content) % 2)
    return out


def offered(tmp_path, content, sha256=None, kept=r".+\.(?:png|svg)"):
    """Arguments of ``fetch`` for one package that lies in a folder."""
    (tmp_path / "pool").mkdir(exist_ok=True)
    (tmp_path / "pool" / "set.deb").write_bytes(content)
    sha256 = sha256 or hashlib.sha256(content).hexdigest()
    places = [(tmp_path / "nowhere").as_uri() + "/", (tmp_path / "pool").as_uri() + "/"]
    return {"sets": {"set": [("set.deb", sha256, "usr/share/set", kept)]}, "places": places}


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_is_read_is_unpacked_and_nothing_else(tmp_path):
    links = [("./usr/share/set/a/link.png", "/etc/passwd")]
    folder = fetch("set", tmp_path / "share", **offered(tmp_path, package(FILES, links)))
    assert folder == tmp_path / "share" / "set"
    assert written(tmp_path / "share") == ["set/a/one.png", "set/titles.tsv"]
    assert (folder / "titles.tsv").read_text() == "b/three\t\nb/two\tA & B\n"
    assert not list(tmp_path.rglob("escape.png"))


def test_a_set_that_is_there_is_not_fetched_again(tmp_path):
    options = offered(tmp_path, package(FILES))
    fetch("set", tmp_path / "share", **options)
    assert fetch("set", tmp_path / "share", sets=options["sets"], places=[]).is_dir()


@pytest.mark.parametrize(
    ("content", "sha256", "message"),
    [
        (package(FILES), "0" * 64, "checksum differs"),
        (b"<html>not found</html>", None, "not a Debian package"),
        (b"!<arch>\n", None, "holds no data"),
    ],
)
def test_nothing_is_written_when_the_archive_is_another(content, sha256, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fetch("set", tmp_path / "share", **offered(tmp_path, content, sha256))
    assert not (tmp_path / "share").exists() or not list((tmp_path / "share").iterdir())


def test_no_place_and_no_such_set(tmp_path):
    options = offered(tmp_path, package(FILES))
    with pytest.raises(OSError):
        fetch("set", tmp_path / "share", sets=options["sets"], places=options["places"][:1])
    with pytest.raises(ValueError, match="'cats' is none of noto-emoji, fashion-mnist, openclipart, stamps"):
        fetch("cats", tmp_path)
    assert all(len(sha256) == 64 for packages in SETS.values() for _, sha256, _, _ in packages)
