"""What is done to the bytes of files; each takes (rng, bytes) and returns bytes."""

import gzip
import io
import json
import re
import zipfile

NUMBERS = [
    "-1",
    "0",
    "1e999",
    "-1e308",
    "NaN",
    str(10**12),
    str(2**63),
    "9" * 400,
    "9" * 5000,
    "0.5",
    "-2147483649",
]
VALUES = [
    -1,
    0,
    10**12,
    2**31,
    2**63,
    10**300,
    -(10**12),
    1e308,
    float("nan"),
    float("inf"),
    True,
    None,
    "text",
    "",
    [],
    {},
]
VALUES += [[[]], {"a": 1}, 0.5, "1", "../x"]


def flip(rng, content):
    changed = bytearray(content or b"\0")
    for place in rng.integers(8 * len(changed), size=rng.integers(1, 9)):
        changed[place // 8] ^= 1 << (place % 8)
    return bytes(changed)


def truncate(rng, content):
    return content[: rng.integers(len(content) + 1)]


def splice(rng, content):
    """A piece is doubled, dropped, or replaced by zeros, ones or noise."""
    start = int(rng.integers(len(content) + 1))
    stop = min(len(content), start + int(rng.integers(1, 200)))
    piece, size = content[start:stop], stop - start
    other = [2 * piece, b"", bytes(size), b"\xff" * size, rng.bytes(size or 3)][rng.integers(5)]
    return content[:start] + other + content[stop:]


def recode(rng, content):
    """The text in another encoding, with a letter that ASCII has not."""
    text = content.decode("utf-8", "replace")
    place = int(rng.integers(len(text) + 1))
    text = text[:place] + "é" + text[place:]
    kind = ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "utf-7", "mac-roman"][rng.integers(7)]
    return text.encode(kind, "replace")


def deepen(rng, content):
    """A value of JSON that is nested without an end."""
    deep = [b"[" * 100_000, b'{"a":' * 50_000, b"[" * 900 + b"]" * 900][rng.integers(3)]
    places = [m.span() for m in re.finditer(rb'(?<=[:,\[ ])("[^"\n]*"|-?\d+)(?=[,\]}\n ])', content)]
    if not places:
        return deep
    start, stop = places[rng.integers(len(places))]
    return content[:start] + deep + content[stop:]


def number(rng, content):
    """A number in a text becomes a huge, a negative or none."""
    places = [m.span() for m in re.finditer(rb"-?\d+(\.\d+)?", content)]
    if not places:
        return flip(rng, content)
    start, stop = places[rng.integers(len(places))]
    return content[:start] + NUMBERS[rng.integers(len(NUMBERS))].encode() + content[stop:]


def word(rng, content):
    """Four or eight bytes of a binary file become the largest, a large or a negative number."""
    size = int(rng.choice([4, 8]))
    made = [2**31 - 1, 2**31 - 2, 2 ** (8 * size - 1) - 1, 2 ** (8 * size) - 1, 10**9, 0][rng.integers(6)]
    place = int(rng.integers(max(1, min(len(content), 400) - size + 1)))
    order = ["little", "big"][rng.integers(2)]
    return content[:place] + made.to_bytes(size, order) + content[place + size :]


def value(rng, content):
    """A value of JSON becomes one of another kind or size."""
    try:
        found = json.loads(content)
    except ValueError:
        return number(rng, content)
    places = list(_places(found))
    if not places:
        return number(rng, content)
    holder, key = places[rng.integers(len(places))]
    if rng.random() < 0.15:
        del holder[key]
    else:
        holder[key] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(found).encode()


def _places(found):
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, inner in items:
        yield found, key
        yield from _places(inner)


MUTATIONS = [flip, flip, truncate, splice, splice, recode, deepen, number, number, word, word, value, value]


def packed(rng, content, change):
    """Damage below a packing: the content of a gz, the file of a zip, the header of safetensors."""
    if content[:2] == b"\x1f\x8b":
        return gzip.compress(change(rng, gzip.decompress(content)), 1, mtime=0)
    if content[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(content)) as old:
            members = {name: old.read(name) for name in old.namelist()}
        chosen = sorted(members)[rng.integers(len(members))]
        members[chosen] = change(rng, members[chosen])
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as new:
            for name, inner in members.items():
                new.writestr(zipfile.ZipInfo(name), inner)
        return file.getvalue()
    length = int.from_bytes(content[:8], "little")
    if 8 + length <= len(content) and content[8:9] == b"{":
        header = change(rng, content[8 : 8 + length])
        return len(header).to_bytes(8, "little") + header + content[8 + length :]
    return change(rng, content)


def signed(folder, path):
    """Gives a model that was changed on purpose the digest and the checksum that fit it."""
    from jaxembed import files

    model = folder / ("words.json" if (folder / "words.json").exists() else "model.json")
    if not path.exists() or not model.exists() or path.suffix not in (".npz", ".json"):
        return
    try:
        saved = json.loads(model.read_bytes())
        saved.pop("checksum", None)
        if path.suffix == ".npz":
            saved["params"] = f"params-{files.digest(path)[:16]}.npz"
            path.rename(folder / saved["params"])
        files.write_json(model, saved, sealed=True)
    except (ValueError, AttributeError, RecursionError):  # no longer an object of JSON
        return


def damage(rng, folder):
    """Changes one file of a folder; returns its path and what was done."""
    paths = sorted(
        p for p in folder.rglob("*") if p.is_file() and p.suffix != ".py" or p.parent.name == "code"
    )
    path = paths[rng.integers(len(paths))]
    content = path.read_bytes()
    path.unlink()  # what is mapped stays as it is
    if rng.random() < 0.02:
        return path, "missing"
    change = MUTATIONS[rng.integers(len(MUTATIONS))]
    below = rng.random() < 0.5
    path.write_bytes(packed(rng, content, change) if below else change(rng, content))
    if below:
        signed(folder, path)
    return path, f"{change.__name__}{' inside' * below}"
