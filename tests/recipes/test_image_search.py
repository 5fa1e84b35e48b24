"""Folders of pictures are embedded and searched; encoders are trained on classes of pictures."""

import jax
import numpy as np
import pytest

from jaxembed import data, encoders, recipes

Image = pytest.importorskip("PIL.Image")
DIGITS = data.digits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits 0 to 3, 12 files of each, one of them damaged and one empty."""
    root = tmp_path_factory.mktemp("pictures")
    for label in range(4):
        (root / str(label)).mkdir()
        for n, row in enumerate(np.flatnonzero(DIGITS["labels"] == label)[:12]):
            picture = np.asarray(DIGITS["images"][row, ..., 0] * 255, np.uint8)
            Image.fromarray(picture).resize((16, 16)).save(root / str(label) / f"{n:02d}.png")
    whole = (root / "1" / "03.png").read_bytes()
    (root / "1" / "03.png").write_bytes(whole[:60])
    (root / "2" / "05.png").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def encoder():
    net = encoders.convnet([8, 8], inputs=1)
    return encoders.ImageEncoder(net.init(jax.random.key(0)), net.maps, net.encode, None, 16, 1)


def test_every_file_has_its_vector(folder, encoder):
    index = recipes.embed_images(encoder, folder, batch_size=7, progress=False)
    assert index["vectors"].shape == (48, 8)
    assert index["names"] == ["0", "1", "2", "3"]
    assert np.bincount(index["labels"]).tolist() == [12] * 4
    for row, path in enumerate(index["paths"]):
        if path in index["skipped"]:
            assert not index["vectors"][row].any()
        else:
            picture = data.read_image(path, 16, channels=1)[None]
            expected = encoder.encode(encoder.params, picture)[0]
            np.testing.assert_allclose(index["vectors"][row], expected, atol=1e-5)
    assert {f"{path.parent.name}/{path.name}" for path in index["skipped"]} == {"1/03.png", "2/05.png"}
    assert any("0 bytes" in message for message in index["skipped"].values())


def test_bad_files_are_refused_by_choice(folder, encoder):
    with pytest.raises(ValueError, match="03.png: damaged or cut short"):
        recipes.embed_images(encoder, folder, bad="refuse", progress=False)


def test_a_file_of_vectors_is_used_again_and_belongs_to_its_pictures(folder, encoder, tmp_path):
    path = tmp_path / "vectors.npy"
    index = recipes.embed_images(encoder, folder, path=path, batch_size=5, progress=False)
    plain = recipes.embed_images(encoder, folder, progress=False)
    np.testing.assert_allclose(index["vectors"], plain["vectors"], atol=1e-6)
    assert index["skipped"] == plain["skipped"]
    written = path.stat().st_mtime_ns
    again = recipes.embed_images(encoder, folder, path=path, progress=False)
    assert path.stat().st_mtime_ns == written and isinstance(again["vectors"], np.memmap)
    assert again["skipped"] == plain["skipped"]
    with pytest.raises(ValueError, match="rows is 48 there and 12 here"):
        recipes.embed_images(encoder, folder / "0", path=path, progress=False)
    other = encoder._replace(params=jax.tree.map(lambda x: x + 1, encoder.params))
    with pytest.raises(ValueError, match="encoder"):
        recipes.embed_images(other, folder, path=path, progress=False)


def test_a_picture_finds_itself_first(folder, encoder):
    index = recipes.embed_images(encoder, folder, progress=False)
    rows = [0, 17, 40]
    queries = [index["paths"][0], index["paths"][17].read_bytes(), data.read_image(index["paths"][40])]
    found = recipes.search_images(encoder, index, queries, k=3)
    for row, hits in zip(rows, found, strict=True):
        assert hits[0]["row"] == row and hits[0]["path"] == index["paths"][row]
        assert hits[0]["score"] == pytest.approx(1, abs=1e-5)
        assert hits[0]["score"] >= hits[1]["score"] >= hits[2]["score"]
    (everything,) = recipes.search_images(encoder, index, queries[:1], k=46)
    assert not {hit["path"] for hit in everything} & index["skipped"].keys()


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        ("a.png", 1, "queries: not a list"),
        ([], 1, "queries: not a list"),
        ([b""], 1, "0 bytes"),
        ([b"x"], 47, "k: 47 is outside 1..46"),
    ],
)
def test_bad_questions_get_one_line(queries, k, message, folder, encoder):
    index = recipes.embed_images(encoder, folder, progress=False)
    with pytest.raises(ValueError, match=message) as caught:
        recipes.search_images(encoder, index, queries, k=k)
    assert "\n" not in str(caught.value)


def halves():
    """Digits that train and digits that are found again."""
    train = {"images": DIGITS["images"][:1000], "labels": DIGITS["labels"][:1000]}
    return train, {"images": DIGITS["images"][1000:], "labels": DIGITS["labels"][1000:]}


def neighbours_agree(encoder, images):
    vectors = np.asarray(jax.jit(encoder.encode)(encoder.params, images["images"]))
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = vectors @ vectors.T - 2 * np.eye(len(vectors))
    return (images["labels"][scores.argmax(1)] == images["labels"]).mean()


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_training_brings_classes_together(norm, tmp_path):
    first, second = halves()
    net = encoders.convnet([16, 32], norm=norm, width=16, inputs=1)
    options = {"identities": 6, "each": 4, "changes": {"shift": 1}, "rate": 5e-3}
    start = recipes.fine_tune_images(net, first, steps=1, **options)
    trained = recipes.fine_tune_images(net, first, steps=60, **options)
    assert trained.size == 8 and trained.channels == 1 and trained.logits is None
    before, after = (neighbours_agree(e, second) for e in (start, trained))
    assert after > before + 0.08 and after > 0.75
    again = recipes.fine_tune_images(trained, first, steps=3, rate=1e-4, identities=6)
    assert abs(neighbours_agree(again, second) - after) < 0.05


def test_a_stopped_run_goes_on(tmp_path):
    first, _ = halves()
    net = encoders.convnet([4], inputs=1)
    whole = recipes.fine_tune_images(net, first, steps=6)
    recipes.fine_tune_images(net, first, steps=6, workdir=tmp_path)
    rows = []
    resumed = recipes.fine_tune_images(
        net, first, steps=6, workdir=tmp_path, evaluate=lambda e: rows.append(e.size) or {}
    )
    jax.tree.map(np.testing.assert_array_equal, whole.params, resumed.params)


def test_a_folder_is_decoded_while_it_trains(folder):
    net = encoders.convnet([8, 16], width=8, inputs=1)
    encoder = recipes.fine_tune_images(net, folder, size=16, steps=5, identities=3, each=4)
    assert encoder.size == 16
    index = recipes.embed_images(encoder, folder, progress=False)
    assert index["vectors"].shape == (48, 8)
    with pytest.raises(ValueError, match="03.png|05.png"):
        recipes.fine_tune_images(net, folder, size=16, steps=30, identities=4, each=4, bad="refuse")


def test_an_own_loss_gets_vectors_and_labels():
    first, _ = halves()
    seen = []

    def loss(vectors, labels):
        seen.append((vectors.shape, labels.shape))
        return (vectors**2).sum(-1)

    recipes.fine_tune_images(encoders.convnet([4], width=5, inputs=1), first, loss=loss, steps=2, each=3)
    assert seen[0] == ((24, 5), (24,))


def test_what_cannot_be_trained_is_refused(folder):
    net = encoders.convnet([4], inputs=1)
    with pytest.raises(ValueError, match="size: None for a folder"):
        recipes.fine_tune_images(net, folder)
    with pytest.raises(ValueError, match="0 of 10 labels have 500 records"):
        recipes.fine_tune_images(net, DIGITS, each=500)


def test_an_index_knows_the_size_of_its_pictures(folder, encoder):
    index = recipes.embed_images(encoder, folder, size=8, progress=False)
    path = index["paths"][4]
    (own,), (other,) = (recipes.search_images(encoder, index, [path], k=1, size=n) for n in (None, 8))
    assert own == other and own[0]["score"] == pytest.approx(1, abs=1e-6)


def test_one_picture_in_place_of_a_list_is_refused(folder, encoder):
    index = recipes.embed_images(encoder, folder, progress=False)
    picture = data.read_image(index["paths"][0], 16)
    with pytest.raises(ValueError, match="queries: not a list"):
        recipes.search_images(encoder, index, picture, k=1)
    with pytest.raises(ValueError, match="queries: holds a Image; pass paths"):
        recipes.search_images(encoder, index, [Image.fromarray(picture)], k=1)
    assert len(recipes.search_images(encoder, index, np.stack([picture] * 2), k=1)) == 2


def test_vectors_that_are_not_finite_are_refused(folder, encoder):
    index = recipes.embed_images(encoder, folder, progress=False)
    index["vectors"] = index["vectors"].copy()
    index["vectors"][3, 0] = np.nan
    with pytest.raises(ValueError, match="index: the vector of .*03.png is not finite"):
        recipes.search_images(encoder, index, index["paths"][:1], k=1)


def test_a_skipped_file_is_zero_where_black_pictures_have_no_vector(folder, encoder):
    def encode(params, images):
        x = images.astype(np.float32).sum(axis=(1, 2))
        return x / x

    with np.errstate(all="raise"):
        index = recipes.embed_images(encoder._replace(encode=encode), folder, progress=False)
    assert len(index["skipped"]) == 2 and np.isfinite(index["vectors"]).all()


def test_a_link_that_leads_nowhere_is_skipped(encoder, tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    Image.new("L", (8, 8), 9).save(root / "a.png")
    (root / "b.png").symlink_to("nothing.png")
    index = recipes.embed_images(encoder, root, path=tmp_path / "v.npy", progress=False)
    assert index["vectors"].shape[0] == 2 and [path.name for path in index["skipped"]] == ["b.png"]


def test_a_net_without_weights_is_refused(folder):
    with pytest.raises(ValueError, match="encoder: has no weights"):
        recipes.embed_images(encoders.convnet([8]), folder)


def test_changes_may_be_lists(folder):
    net, options = encoders.convnet([8], inputs=1), {"size": 8, "identities": 4, "each": 2}
    changes = {"crop": [0.5, 1.0]}
    trained = recipes.fine_tune_images(net, folder, steps=1, changes=changes, **options)
    assert trained.size == 8
