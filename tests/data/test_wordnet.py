"""WordNet's files, read and fetched."""

import hashlib
import io
import pathlib
import sys
import tarfile

import pytest

from jaxembed import data
from jaxembed.data.sources.fetch_wordnet import FILES, fetch

LICENCE = "  1 This software and database is being provided to you  \n  2   \n"
LINES = {
    "two words": (
        "00003553 03 n 02 whole 0 living_thing 1 002 @ 00002684 n 0000 + 01464634 v 0204 | "
        'an "in-group" of parts; seen as one; "how big is that part?"; "a unit"--Paine; "it ends here  ',
        ["whole", "living thing"],
        'an "in-group" of parts; seen as one',
        ["how big is that part?", "a unit", "it ends here"],
    ),
    "no example": (
        "00001740 03 n 01 entity 0 000 | that which is perceived (living or nonliving)  ",
        ["entity"],
        "that which is perceived (living or nonliving)",
        [],
    ),
    "behind a colon": (
        "00001741 03 n 01 cow 0 000 | female of domestic cattle: \"`moo-cow' is a child's term\"  ",
        ["cow"],
        "female of domestic cattle",
        ["`moo-cow' is a child's term"],
    ),
    "many words": (
        f"00001742 03 n 11 {' '.join(f'w{i} 0' for i in range(17))} 000 | seventeen words, in base 16",
        [f"w{i}" for i in range(17)],
        "seventeen words, in base 16",
        [],
    ),
}


def write(folder, part, *lines):
    (folder / f"data.{part}").write_text(LICENCE + "".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("name", LINES)
def test_a_line_becomes_a_record(name, tmp_path):
    line, lemmas, gloss, examples = LINES[name]
    write(tmp_path, "noun", line)
    expected = {"id": f"{line[:8]}-n", "part": "noun", "lemmas": lemmas, "gloss": gloss, "examples": examples}
    expected |= {"file": 3, "parents": ["00002684-n"] if name == "two words" else []}
    assert data.wordnet(tmp_path, parts=["noun"]) == [expected]


def test_parts_come_in_the_order_asked_for(tmp_path):
    for part, letter in (("noun", "n"), ("verb", "v"), ("adj", "s"), ("adv", "r")):
        write(tmp_path, part, f"00000007 00 {letter} 01 able(p) 0 000 01 + 02 00 | gloss of {part}")
    assert [r["id"] for r in data.wordnet(tmp_path)] == [f"00000007-{x}" for x in "nvar"]
    found = data.wordnet(tmp_path, parts=("adv", "adj"))
    assert [r["gloss"] for r in found] == ["gloss of adv", "gloss of adj"]
    assert found[1]["lemmas"] == ["able"]


BAD = [
    "00001740 03 n 01 entity 0 000",
    "00001740 03 n 09 entity 0 000 | cut",
    "x 03 n 01 entity 0 000 | no id",
]


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named(line, tmp_path):
    write(tmp_path, "verb", LINES["no example"][0], line)
    with pytest.raises(ValueError, match=r"data\.verb, line 4: no sense of WordNet"):
        data.wordnet(tmp_path, parts=["verb"])


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    write(tmp_path, "noun", LINES["no example"][0])
    with pytest.raises(FileNotFoundError, match="make data"):
        data.wordnet(tmp_path)
    with pytest.raises(ValueError, match="parts: 'nouns' is none of noun, verb, adj, adv"):
        data.wordnet(tmp_path, parts=["nouns"])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    if not pathlib.Path("/usr/share/wordnet/data.noun").is_file():
        with pytest.raises(FileNotFoundError, match="fetch_wordnet"):
            data.wordnet()
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "wordnet").symlink_to(tmp_path)
    assert len(data.wordnet(parts=["noun"])) == 1


def archive(folder):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name in FILES:
            content = f"{name}\n".encode()
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    path = folder / "some.tgz"
    path.write_bytes(packed.getvalue())
    return path.as_uri(), hashlib.sha256(packed.getvalue()).hexdigest()


def test_fetching_checks_before_it_writes(tmp_path):
    address, known = archive(tmp_path)
    with pytest.raises(ValueError, match="checksum"):
        fetch(tmp_path / "to", address=address, sha256="0" * 64)
    with pytest.raises(OSError):
        fetch(tmp_path / "to", address=f"{address}.missing")
    assert not (tmp_path / "to").exists()
    fetch(tmp_path / "to", address=address, sha256=known)
    assert {p.name: p.read_text() for p in (tmp_path / "to").iterdir()} == {
        pathlib.PurePath(name).name: f"{name}\n" for name in FILES
    }


def test_the_real_files():
    try:
        records = data.wordnet()
    except FileNotFoundError:
        pytest.skip("make data")
    assert len(records) in (117_659, 117_791)  # versions 3.0 and 3.1
    assert len({r["id"] for r in records}) == len(records)
    assert all(r["gloss"] and r["lemmas"] for r in records)
    assert 0.25 < sum(bool(r["examples"]) for r in records) / len(records) < 0.3
    (dog,) = (r for r in records if "domestic dog" in r["lemmas"])
    assert dog["lemmas"] == ["dog", "domestic dog", "Canis familiaris"]
    assert dog["gloss"].startswith("a member of the genus Canis")
    assert dog["examples"] == ["the dog barked all night"]


# How often senses were met


def test_counts_are_added_up_over_the_words_of_a_sense(tmp_path):
    lines = ["dog%1:05:00:: 02086723 1 42", "hound%1:05:00:: 02086723 2 3", "run%2:38:00:: 01930264 1 7"]
    lines += ["able%5:00:00:capable:00 00001740 1 2", "quickly%4:02:00:: 00085811 1 0"]
    (tmp_path / "index.sense").write_text("\n".join(lines) + "\n")
    expected = {"02086723-n": 45, "01930264-v": 7, "00001740-a": 2}
    assert data.wordnet_counts(tmp_path) == expected


def test_missing_and_broken_counts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no index.sense in .*fetch_wordnet"):
        data.wordnet_counts(tmp_path)
    (tmp_path / "index.sense").write_text("dog%1:05:00:: 02086723 1 42\nnothing\n")
    with pytest.raises(ValueError, match="index.sense, line 2: no entry of senses"):
        data.wordnet_counts(tmp_path)


def test_instances_have_parents_and_other_pointers_are_none(tmp_path):
    pointers = "@i 00000001 n 0000 @ 00000002 n 0000 #p 00000003 n 0000 ~ 00000004 n 0000"
    line = f"00000009 15 n 01 rome 0 004 {pointers} | a city"
    write(tmp_path, "noun", line)
    (found,) = data.wordnet(tmp_path, parts=["noun"])
    assert found["parents"] == ["00000001-n", "00000002-n"] and found["file"] == 15


def test_words_of_a_topic_are_met_there_nearly_always_and_the_commonest_is_first():
    files = {"a": (5, ["cat", "big cat"]), "b": (5, ["cat", "Rex", "dog"]), "c": (18, ["cat", "dog"])}
    senses = [{"id": name, "file": file, "lemmas": lemmas} for name, (file, lemmas) in files.items()]
    counts = {"a": 5, "b": 40, "c": 5}
    assert data.topic_words(senses, counts, 5) == ["cat"]  # 45 of 50, and "dog" 40 of 45
    assert data.topic_words(senses, counts, 5, share=0.8) == ["cat", "dog"]
    assert data.topic_words(senses, {}, 5) == [] and data.topic_words(senses, counts, 6) == []


def test_questions_of_synonyms_offer_one_synonym_and_words_as_frequent():
    groups = [[f"w{i}", f"w{i + 100}", "two words"] for i in range(0, 100, 2)]
    senses, words = [{"lemmas": group} for group in groups], [f"w{i}" for i in range(200)]
    found = data.synonym_choices(senses, words, others=4, near=10, seed=1)
    assert found["questions"] == [w for w in words if int(w[1:]) % 2 == 0]
    for asked, choices, answer in zip(*found.values(), strict=True):
        right = choices[answer]
        assert abs(int(right[1:]) - int(asked[1:])) == 100 and len(set(choices)) == 5 and asked not in choices
        assert all(abs(int(w[1:]) - int(right[1:])) <= 10 for w in choices)
    assert len(set(found["answers"].tolist())) == 5  # the answer may stand anywhere
    some = data.synonym_choices(senses, words, count=20)["questions"]
    assert len(some) == 20 and some == sorted(some, key=words.index)
    with pytest.raises(ValueError, match="^words: give no question"):
        data.synonym_choices(senses, ["w0", "w100", "w2"])
    with pytest.raises(ValueError, match="^words: 1 are repeated; leave them out"):
        data.synonym_choices(senses, [*words, "w0"])
    for name in ("count", "others", "near"):
        with pytest.raises(ValueError, match=f"^{name}=0; give an int of at least 1"):
            data.synonym_choices(senses, words, **{name: 0})
