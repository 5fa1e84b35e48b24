"""Files of clicks: layouts, parquet, limits, damage, and what is no table."""

import gzip
import io
import re
import zipfile

import numpy as np
import pytest
from click_files import GOOD, PLAIN, SCHEMA, equal, make_records, text_of, write

from jaxembed.data import table_files
from jaxembed.data.click_tables import Schema, ctr_table


def compressed(name, content):
    if name.endswith(".gz"):
        return gzip.compress(content)
    if name.endswith(".zip"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inside.csv", content)
        return buffer.getvalue()
    return content


# Layouts


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.zip", "t.tsv", "no_suffix"])
@pytest.mark.parametrize("block", [300, 1 << 24])
def test_a_layout_changes_nothing(tmp_path, name, block):
    records = make_records(200)
    expected = ctr_table(write(tmp_path / "whole.csv", text_of(records)), SCHEMA)
    separator = "\t" if name == "t.tsv" else ","
    schema = Schema(**{**vars(SCHEMA), "separator": separator})
    order = ["when", "tags", "city", "age", "price", "clicked", "noise", "shop"]
    content = text_of(records, order, separator)
    equal(ctr_table(write(tmp_path / name, compressed(name, content)), schema, block=block, seed=0), expected)
    bare = Schema(**{**vars(schema), "names": tuple(order)})
    content = text_of(records, order, separator, header=False)
    equal(ctr_table(write(tmp_path / name, compressed(name, content)), bare, block=block), expected)


def test_parquet_and_chunks_equal_text(tmp_path):
    import pyarrow
    from pyarrow import parquet

    records = make_records(200)
    columns = {name: [r[name] for r in records] for name in records[0]}
    expected = ctr_table(write(tmp_path / "t.csv", text_of(records)), SCHEMA)
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet", row_group_size=37)
    equal(ctr_table(tmp_path / "t.parquet", SCHEMA), expected)
    chunks = [{n: np.array(c[i : i + 70]) for n, c in columns.items()} for i in range(0, 200, 70)]
    equal(ctr_table(chunks, SCHEMA), expected)
    columns["when"] = pyarrow.array(columns["when"], pyarrow.timestamp("ns"))
    columns["city"] = pyarrow.array([c or None for c in columns["city"]]).dictionary_encode()
    columns["clicked"] = pyarrow.array(columns["clicked"]).cast(pyarrow.bool_())
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    typed = ctr_table(tmp_path / "t.parquet", SCHEMA)
    equal(typed | {"time": 0}, expected | {"time": 0})


@pytest.mark.parametrize("limit", [1, 40, 41, 99, 200, 1000])
@pytest.mark.parametrize("kind", ["csv", "parquet", "chunks"])
def test_a_limit_reads_the_first_rows(tmp_path, limit, kind):
    import pyarrow
    from pyarrow import parquet

    records = make_records(200)
    columns = {name: [r[name] for r in records] for name in records[0]}
    expected = ctr_table(write(tmp_path / "t.csv", text_of(records[:limit])), SCHEMA, fractions=(1, 0, 0))
    whole = write(tmp_path / "t.csv", text_of(records))
    if kind == "parquet":
        whole = tmp_path / "t.parquet"
        parquet.write_table(pyarrow.table(columns), whole)
    if kind == "chunks":
        whole = ({n: c[i : i + 40] for n, c in columns.items()} for i in range(0, 200, 40))
    equal(ctr_table(whole, SCHEMA, fractions=(1, 0, 0), limit=limit, block=400), expected)


@pytest.mark.parametrize("mark", ["", "Z", "+02:00"])
def test_times_order_the_rows(tmp_path, mark):
    stamps = ["2013-03-01T10:00:00", "2012-12-31 23:00:00", "2013-01-01T00:00:00", "2013-02-01T00:00:01"]
    content = "y,c,t\n" + "".join(f"{i % 2},v{i},{stamp}{mark}\n" for i, stamp in enumerate(stamps))
    schema = Schema(label="y", categorical=("c",), time="t")
    path = write(tmp_path / "t.csv", content.encode())
    table = ctr_table(path, schema, split="time", fractions=(0.5, 0.25, 0.25))
    found = {name: rows.tolist() for name, rows in table["splits"].items()}
    assert found == {"train": [1, 2], "validation": [3], "test": [0]}
    assert np.diff(table["time"][[1, 2, 3]]).tolist() == [3600e6, (31 * 86400 + 1) * 1e6]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.zip", "t.parquet"])
@pytest.mark.parametrize("harm", ["cut", "tail", "junk", "flip"])
def test_a_damaged_file_is_refused(tmp_path, name, harm):
    import pyarrow
    from pyarrow import parquet

    records = make_records(2000)
    if name == "t.parquet":
        columns = {n: [r[n] for r in records] for n in records[0]}
        parquet.write_table(pyarrow.table(columns), tmp_path / name, write_page_checksum=False)
        content = (tmp_path / name).read_bytes()
    else:
        content = compressed(name, text_of(records))
    assert len(ctr_table(write(tmp_path / name, content), SCHEMA, block=4096)["columns"]["labels"]) == 2000
    middle = len(content) // 2
    flipped = content[:-6] + bytes([content[-6] ^ 255]) + content[-5:]
    harmed = {"cut": content[:middle], "tail": content[:-3], "junk": b"junk" * 50, "flip": flipped}[harm]
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))) as error:
        ctr_table(write(tmp_path / name, harmed), SCHEMA, block=4096)
    assert "\n" not in str(error.value)


def test_what_is_no_table():
    with pytest.raises(FileNotFoundError, match="nowhere.csv: no such file; check the path"):
        ctr_table("nowhere.csv", SCHEMA)
    with pytest.raises(ValueError, match="columns differ in length"):
        ctr_table([{"y": [0, 1], "c": ["a"], "d": [1.0, 2.0]}], Schema(**PLAIN))
    with pytest.raises(ValueError, match="the table holds no rows"):
        ctr_table([], Schema(**PLAIN))
    with pytest.raises(ValueError, match="column 'd' is missing"):
        ctr_table([{"y": [0], "c": ["a"]}], Schema(**PLAIN))
    with pytest.raises(ValueError, match="column 'd' is not a column of numbers"):
        ctr_table([{"y": [0], "c": ["a"], "d": ["x"]}], Schema(**PLAIN))


def test_an_archive_of_two_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", GOOD)
        archive.writestr("b.csv", GOOD)
    with pytest.raises(ValueError, match="the archive holds 2 files, not one"):
        ctr_table(tmp_path / "t.zip", Schema(**PLAIN))


@pytest.mark.parametrize("place", ["header", "cell"])
def test_a_latin_1_table_says_so(place, tmp_path):
    text = "user,käse\nu1,1\n" if place == "header" else "user,y\nu1,1\nkäse,0\n"
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.csv: is not UTF-8 but perhaps latin-1; ") as caught:
        list(table_files.blocks(tmp_path / "a.csv", ["user"]))
    assert "\n" not in str(caught.value)
