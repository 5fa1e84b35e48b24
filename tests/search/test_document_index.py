"""An index of token sets on disk: round trips, shapes, readers, and files that describe themselves."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from document_cases import (
    DOCUMENTS,
    LENGTHS,
    MASK,
    QUERIES,
    TOKENS,
    build,
    encode,
    expected,
    plain_sum,
    refused,
    same,
)

from jaxembed import search, vectors

RNG = np.random.default_rng(31)


# --- building and opening ---


@pytest.mark.parametrize("sizes", [(4, 6), (1, 1), (50, 100), (6, 4)])
def test_round_trip_in_any_batches_and_shards(tmp_path, sizes):
    folder = tmp_path / "deep" / "index"
    built = build(folder, batch_size=sizes[0], shard_size=sizes[1], meta={"model": (1,)})
    for index in (built, search.open_documents(folder, verify=True)):
        same(index, DOCUMENTS)
        total, count = expected(DOCUMENTS)
        np.testing.assert_allclose(index.columns["sum"][:], total, atol=1e-4)
        np.testing.assert_array_equal(index.columns["count"][:], count)
        assert index.meta == {"model": [1]} and index.params["scale"] == 2
        np.testing.assert_array_equal(index.params["deep"]["shift"], np.arange(4))
    manifest = json.loads((folder / "index.json").read_text())
    assert len(manifest["shards"]) == -(-len(DOCUMENTS) // sizes[1]) and not manifest["pending"]


def test_rows_index_as_arrays_do(tmp_path):
    index = build(tmp_path)
    for rows in (index.tokens, index.columns["sum"], index.columns["count"]):
        whole = np.asarray(rows)
        assert rows.shape == whole.shape and rows.dtype == whole.dtype and len(rows) == len(whole)
        for places in (slice(3, 9), slice(5, 5), slice(9, 3), slice(None, None, 3), slice(-4, None), 7, -1):
            np.testing.assert_array_equal(rows[places], whole[places])
        for places in ([], [20, 0, 0, -1], [[1, 6], [5, 12]]):
            places = np.array(places, int)
            np.testing.assert_array_equal(rows[places], whole[places])
        kept = np.arange(len(rows)) % 3 == 1
        np.testing.assert_array_equal(rows[kept], whole[kept])
        for outside in (
            len(rows),
            -len(rows) - 1,
            kept[1:],
            (2, 3),
            [0.5],
            (np.array([0, 1]), slice(2)),
            (slice(None), slice(1, 3)),
        ):
            with pytest.raises(IndexError, match="^places"):
                rows[outside]


def test_the_first_numbers_of_rows_stay_on_the_disk(tmp_path):
    fde = vectors.init_fde(jax.random.key(0), 4, repetitions=6, planes=2, projection="identity")
    index = build(tmp_path, encode=vectors.encode_documents, params=fde)
    small = vectors.truncate_fde(index.params, repetitions=2)
    length = vectors.encoding_length(small)
    rows = index.columns["vectors"][:, :length]
    assert rows.shape == (len(DOCUMENTS), length) and not isinstance(rows, np.ndarray)
    whole = np.asarray(index.columns["vectors"])[:, :length]
    np.testing.assert_array_equal(rows[:], whole)
    np.testing.assert_array_equal(rows[[3, 1]], whole[[3, 1]])
    queries = vectors.encode_queries(small, QUERIES, MASK)
    wanted = search.top_k(queries, jnp.asarray(whole), 4)
    for chunk in (5, None):
        scores, places = search.top_k(queries, rows, 4, chunk=chunk)
        np.testing.assert_array_equal(places, wanted[1])
        np.testing.assert_allclose(scores, wanted[0], rtol=1e-6)


def test_the_encoder_sees_stored_tokens_in_few_shapes(tmp_path):
    shapes, seen = set(), []

    def watch(params, tokens, mask):
        shapes.add(tokens.shape)
        assert tokens.dtype == np.float32 and not tokens[~mask].any()
        seen.extend(row[kept] for row, kept in zip(tokens, mask, strict=True) if kept.any())
        return plain_sum(params, tokens, mask)

    documents = [(i, RNG.standard_normal((n, 4))) for i, n in enumerate(LENGTHS)]
    index = build(tmp_path, documents, watch, None)
    assert shapes <= {(4, t, 4) for t in (8, 12, 16, 24, 32)}
    stored = np.concatenate([t.astype(np.float16).astype(np.float32) for _, t in documents])
    assert {row.tobytes() for row in np.concatenate(seen)} == {row.tobytes() for row in stored}
    wanted = [t.astype(np.float16).astype(np.float32).sum(0) for _, t in documents]
    np.testing.assert_allclose(index.columns["vectors"][:], wanted, atol=1e-4)
    assert index.ids.dtype.kind == "i" and index.params is None


def test_memory_holds_one_shard(tmp_path):
    """The iterator is never more than one shard ahead of what is on the disk."""
    given = 0

    def stream():
        nonlocal given
        for pair in DOCUMENTS:
            on_disk = sum(
                s["documents"] for s in json.loads((tmp_path / "index.json").read_text())["pending"]
            )
            assert given - on_disk < 6
            given += 1
            yield pair

    same(build(tmp_path, stream()), DOCUMENTS)


def test_a_finished_build_is_returned_without_its_documents(tmp_path):
    build(tmp_path, meta="a")
    same(build(tmp_path, None, None, meta="a"), DOCUMENTS)
    refused('^dtype: dtype is "<f2" there', lambda: build(tmp_path, meta="a", dtype=np.float32))
    refused("^restart: .* finished", lambda: build(tmp_path, meta="a", restart=True))
    refused("^batch_size", lambda: build(tmp_path, meta="a", batch_size=0))


def test_other_documents_on_a_finished_folder_are_named(tmp_path):
    build(tmp_path)
    never = lambda *_: pytest.fail("encoded")  # noqa: E731
    started = []

    def source(documents):
        def documents_from(first):
            started.append(first)
            return iter(documents[first:])

        return documents_from

    for same_ones in (DOCUMENTS, tuple(DOCUMENTS), iter(DOCUMENTS), source(DOCUMENTS), None):
        same(build(tmp_path, same_ones, never), DOCUMENTS)
    assert started == [0, len(DOCUMENTS) - 1]
    last = len(DOCUMENTS) - 1
    new = ("new", np.zeros((1, 4)))
    others = {
        "number 0 is 'd1', but the finished index has 'd0'; delete": DOCUMENTS[1:],
        f"fewer documents: the finished index holds {last + 1}, {last} were given": DOCUMENTS[:-1],
        f"more documents: the finished index holds {last + 1}, and 'new' comes": [*DOCUMENTS, new],
        f"number {last} is 'new', but": [*DOCUMENTS[:-1], new],
        f"fewer documents: the finished index holds {last + 1}, 0 were given": [],
    }
    for message, documents in others.items():
        for given in (documents, iter(documents), source(documents)):
            refused("^documents: " + message, lambda given=given: build(tmp_path, given, never))
    swapped = [DOCUMENTS[0], new, *DOCUMENTS[2:]]
    refused("^documents: number 1 is 'new'", lambda: build(tmp_path, swapped, never))
    refused("^documents: an item is not a pair", lambda: build(tmp_path, ["doc"], never))
    refused("^documents: None; pass", lambda: build(tmp_path / "none", None))
    search.delete_documents(tmp_path, ["d1"])
    refused("^documents: number 1 is 'd1', but the finished index has 'd2'", lambda: build(tmp_path))


def test_other_tokens_under_the_same_ids_are_named(tmp_path):
    build(tmp_path / "whole")
    attempt = iter([0, 1])

    def stopped(params, tokens, mask):
        if next(attempt, None) is None:
            raise KeyboardInterrupt
        return encode(params, tokens, mask)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "part", encode=stopped, shard_size=4)
    for place, changed, message in (
        (0, TOKENS[0] + 1, "number 0, 'd0', has other tokens than in the"),
        (0, TOKENS[0][:2], "number 0, 'd0', has 2 tokens, but 3 in the"),
        (2, TOKENS[2][:, :3], r"tokens of 'd2' are \(1, 3\)"),
    ):
        given = [*DOCUMENTS[:place], (f"d{place}", changed), *DOCUMENTS[place + 1 :]]
        for folder in ("whole", "part"):
            refused("^documents: " + message, lambda f=folder, given=given: build(tmp_path / f, given))
        if place == 0:
            source = lambda n, given=given: iter(given[n:])  # noqa: E731
            refused("^documents: " + message, lambda source=source: build(tmp_path / "whole", source))
    double = [(name, tokens.astype(np.float64)) for name, tokens in DOCUMENTS]
    same(build(tmp_path / "whole", double), DOCUMENTS)
    same(build(tmp_path / "part", double), DOCUMENTS)
    last = [*DOCUMENTS[:-1], (DOCUMENTS[-1][0], TOKENS[-1] - 1)]
    refused("has other tokens", lambda: build(tmp_path / "whole", lambda n: iter(last[n:])))


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "README.txt").write_text("mine")
    refused("holds 'README.txt'", lambda: build(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".DS_Store").write_text("")
    build(tmp_path / "other")
    (tmp_path / "other" / ".DS_Store").unlink()
    shutil.rmtree(tmp_path / "other")
    assert (tmp_path / "README.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_the_folder_describes_itself(tmp_path):
    build(tmp_path)
    text = (tmp_path / "README.txt").read_text()
    manifest = json.loads((tmp_path / "index.json").read_text())
    assert all(f"{name}" in text for name in manifest)
    for path in tmp_path.rglob("*.npy"):
        assert path.name in text or path.name.startswith("column.")
