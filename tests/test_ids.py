"""Ids and labels of 64 bits: the exact result, or an error at the door; lists in place of arrays."""

import unittest.mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import data, encoders, losses, metrics, search, vectors
from jaxembed.arrays import host, narrow_ids, on_device

FAR = 2**32 + 7  # 7 in 32 bits
ONE = np.ones((1, 1))


def refused(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("ids", "judged", "expected"),
    [
        ([[FAR]], [[7]], 0),
        ([[2**31 + 5]], [[2**31 + 5]], 1),
        ([[2**31 + 5]], [[5 - 2**31]], 0),
        ([[2**63 + 1]], [[2**63 + 2]], 0),
        ([[2**63 + 1]], [[2**63 + 1]], 1),
        ([[-(2**40)]], [[-(2**40)]], 0),  # padding, as every negative id
    ],
)
@pytest.mark.parametrize("form", [np.array, list])
def test_gains_compare_ids_exactly(ids, judged, expected, form):
    assert metrics.gains(form(ids), form(judged), ONE).tolist() == [[expected]]


def test_gains_compare_ids_of_host_and_device():
    assert metrics.gains(np.array([[FAR]]), jnp.array([[7]]), ONE).tolist() == [[0]]
    assert metrics.gains(jnp.array([[7]]), np.array([[FAR, 7]]), np.array([[2, 3]])).tolist() == [[3]]
    far = jnp.array([[2**32 - 1]], jnp.uint32)
    assert metrics.gains(far, jnp.array([[-1]]), ONE).tolist() == [[0]]
    assert metrics.gains(far, np.array([[2**32 - 1]]), ONE).tolist() == [[1]]
    refused(lambda: jax.jit(metrics.gains)(far, far, ONE), "ids: uint32 under jit; pass int32")


def test_gains_equal_those_of_small_ids():
    rng = np.random.default_rng(0)
    ids, judged = rng.integers(-1, 9, (20, 6)), np.stack([rng.permutation(9)[:4] for _ in range(20)])
    grades = rng.integers(-1, 4, (20, 4))
    wide = [np.where(x < 0, x, x * 2**32 + 7) for x in (ids, judged)]
    np.testing.assert_array_equal(metrics.gains(*wide, grades), metrics.gains(ids, judged, grades))


def test_grades_of_any_size_count():
    assert metrics.gains([[1]], [[1]], np.array([[2**32]])).tolist() == [[2.0**32]]
    assert metrics.recall([[1.0]], np.array([[2**32, 1]]), k=1).tolist() == [0.5]


def test_fusion_keeps_ids_apart():
    rankings = [np.array([[FAR, 7, -1]]), np.array([[7, -5, 2**62]])]
    scores, ids = search.reciprocal_rank_fusion(rankings, 4)
    assert ids.tolist() == [[7, FAR, 2**62, -1]]
    np.testing.assert_allclose(scores, [[1 / 62 + 1 / 61, 1 / 61, 1 / 63, 0]], rtol=1e-6)
    small = search.reciprocal_rank_fusion([np.array([[1, 0, -1]]), np.array([[0, -5, 2]])], 4)
    np.testing.assert_array_equal(scores, small[0])
    refused(
        lambda: search.reciprocal_rank_fusion([np.array([[2**63]])], 1),
        "rankings: id 9223372036854775808 needs",
    )


@pytest.mark.parametrize("shift", [2**32, 2**63])
@pytest.mark.parametrize("form", [np.asarray, jnp.asarray])
def test_groups_are_told_apart(shift, form):
    """Two groups of one positive and one negative each; as one group the value is .25."""
    groups = [7, 7, 7 + shift, 7 + shift]
    found = metrics.grouped_auc([0, 1, 1, 0], form(np.float32([0.1, 0.9, 0.2, 0.3])), groups)
    assert found == 0.5


def test_index_keeps_ids(tmp_path):
    for ids in ([2**63 + 1, 7], [7, 2**63 + 1, 2**63 + 2], [-(2**63), 7], ["a", "b"], np.array([1, 2**62])):
        search.save_index(tmp_path, np.ones((len(ids), 2)), ids)
        assert search.load_index(tmp_path).ids.tolist() == list(ids)
    for ids, match in (
        ([-1, 2**63], "ids: no type of 64 bits holds both -1 and 9223372036854775808"),
        ([0, 2**64], "ids: no type of 64 bits"),
        ([0.5, 2], "ids: float64"),
        (["a", 2], "ids: 2 is among strings"),
        (["a", "a\0"], r"ids: 'a\\x00' ends in NUL"),
        ([[1], [2]], r"ids: int64 of shape \(2, 1\)"),
    ):
        refused(lambda ids=ids: search.save_index(tmp_path, np.ones((2, 2)), ids), match)


def doors():
    """Every public door where an integer meets JAX, given one that JAX would wrap."""
    q, labels, scores = np.eye(2, dtype=np.float32), np.array([0, 2**32, 1]), jnp.array([0.1, 0.2, 0.3])
    head = encoders.init_word_head(jax.random.key(0), 2, 3)
    where = np.ones((1, 2), bool)
    states = np.ones((1, 2, 2), np.float32)
    return {
        "auc": (lambda: metrics.auc(labels, scores), "labels: 4294967296"),
        "auc of scores": (lambda: metrics.auc(scores > 0.1, labels), "scores: 4294967296"),
        "auc_bins": (lambda: metrics.auc_bins(labels, scores), "labels: 4294967296"),
        "log_loss": (lambda: metrics.log_loss(labels, scores), "labels: 4294967296"),
        "normalised_entropy": (lambda: metrics.normalised_entropy(labels, scores), "labels: 4294967296"),
        "calibration": (lambda: metrics.calibration(labels, scores), "labels: 4294967296"),
        "weights": (lambda: metrics.calibration([0, 1, 1], scores, weights=labels), "weights: 4294967296"),
        "ece": (lambda: metrics.expected_calibration_error(labels, scores), "labels: 4294967296"),
        "documents": (lambda: search.top_k(q, np.array([[FAR, 1]]), 1), "rows: 4294967303"),
        "queries": (lambda: search.top_k(np.array([[FAR, 1]]), q, 1), "queries: 4294967303"),
        "codes": (
            lambda: search.scan_top_k(lambda q, r: q @ r.T, q, np.array([[FAR, 1]]), 1),
            "rows: 4294967303",
        ),
        "keys": (lambda: losses.duplicate_mask(np.array([FAR]), jnp.array([7])), "keys: 4294967303"),
        "other": (lambda: losses.duplicate_mask(jnp.array([7]), np.array([FAR])), "other: 4294967303"),
        "targets": (lambda: losses.cosent(q, q, targets=np.array([0, 2**32])), "targets: 4294967296"),
        "entries": (lambda: vectors.entry_means(q, np.array([2**32, 1]), 2), "entries: 4294967296"),
        "words": (
            lambda: losses.masked_words_loss(head, states, q, words=np.array([[FAR, 0]]), where=where),
            "words: 4294967303",
        ),
    }


@pytest.mark.parametrize("name", doors())
def test_an_integer_that_would_wrap_is_refused_by_name(name):
    call, match = doors()[name]
    refused(call, match)


def test_numbers_of_columns_are_compared_exactly():
    """A row whose positive is no column has loss 0."""
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])
    far = losses.softmax_loss(scores, positives=np.array([2**32, 1]))
    assert far[0] == 0 and far[1] > 1
    far, near = (losses.sigmoid_loss(scores, scores, positives=[p, 1], bias=0.0)[0] for p in (2**32, 0))
    assert far > near + 5
    beyond = losses.info_nce(scores, scores, positives=jnp.array([3, 1]), blocks=("qd", "qq"))
    assert beyond[0] == 0  # not the other query


def test_keys_of_64_bits_on_the_host():
    assert losses.duplicate_mask([FAR, 7, FAR]).tolist() == losses.duplicate_mask([8, 7, 8]).tolist()


def test_more_rows_than_int32_are_refused():
    rows = np.broadcast_to(np.float32(1), (2**31, 2))
    refused(
        lambda: search.top_k(np.ones((1, 2)), rows, 1), "rows: 2147483648 are more than int32 numbers; search"
    )


def test_helpers():
    assert host("ids", [[2**63 + 1, 7]]).dtype == np.uint64
    assert host("x", [0.5, 2]).dtype == np.float64
    assert on_device("ids", [jnp.int32(3), jnp.int32(4)]).tolist() == [3, 4]
    refused(lambda: host("ids", [[1], [2, 3]]), "ids: rows of different lengths")
    with jax.enable_x64(True):
        (ids,), known = narrow_ids(ids=np.array([2**40]))
        assert ids.tolist() == [2**40] and known is None
        found = search.reciprocal_rank_fusion([np.array([[2**40, 7]])], 2)[1]
        assert np.asarray(found).tolist() == [[2**40, 7]]


# Lists in place of arrays


X, Y, TABLE = [[1.0, 2.0], [0.5, -1.0]], [[0.5, 1.0], [2.0, 1.0], [0.0, 3.0]], [[1.0, 0.0], [0.0, 1.0]]
LISTS = {
    "top_k": (lambda f: search.top_k(f(X), f(Y), 2)),
    "scan_top_k": (lambda f: search.scan_top_k(lambda q, r: q @ r.T, jnp.asarray(X), f(Y), 2)),
    "gains": (lambda f: metrics.gains(f([[1, 2]]), f([[2, 3]]), f([[1, 1]]))),
    "fusion": (lambda f: search.reciprocal_rank_fusion([f([[1, 2]]), f([[2, 3]])], 2)),
    "ndcg": (lambda f: metrics.ndcg(f([[0.0, 1.0]]), f([[1.0]]))),
    "recall": (lambda f: metrics.recall(f([[0.0, 1.0]]), f([[1.0]]))),
    "mrr": (lambda f: metrics.mrr(f([[0.0, 1.0]]), f([[1.0]]))),
    "average_precision": (lambda f: metrics.average_precision(f([[0.0, 1.0]]), f([[1.0]]))),
    "mean": (lambda f: metrics.masked_mean(f([0.0, 1.0]), f([True, False]))),
    "softmax_loss": (lambda f: losses.softmax_loss(f(X), positives=f([1, 0]), where=f([[True, False]] * 2))),
    "info_nce": (lambda f: losses.info_nce(f(X), f(Y), where=f([[True] * 3] * 2), positives=f([2, 0]))),
    "symmetric": (
        lambda f: losses.symmetric(losses.info_nce)(f(X), f(Y), where=f([[True, False, True]] * 2))
    ),
    "sigmoid_loss": (lambda f: losses.sigmoid_loss(f(X), f(Y))),
    "guided_mask": (lambda f: losses.guided_mask(f(X), f(Y))),
    "duplicate_mask": (lambda f: losses.duplicate_mask(f([1, 2]), f([1, 1, 2]))),
    "matryoshka": (lambda f: losses.matryoshka(losses.info_nce, (1, 2))(f(X), f(Y))),
    "over_layers": (lambda f: losses.over_layers(losses.info_nce, [(1, 2)])(f([X, X]), f([X, X]))),
    "label_pairs": (lambda f: losses.label_pairs(f([1, 2, 1]))["positives"]),
    "partner_pairs": (lambda f: losses.partner_pairs(f([1, 2]), f([2, 2]), f([1, 1]))["where"]),
    "triplet_loss": (lambda f: losses.triplet_loss(f(X), f(X), f(TABLE), where=f([True, False]))),
    "mine_triplets": (
        lambda f: losses.mine_triplets(f(X), f([[True, False]] * 2), where=f([[True] * 2] * 2))
    ),
    "batch_triplet_loss": (
        lambda f: losses.batch_triplet_loss(f(X), f([1, 1]), negatives=f(Y), fixed=f([True, False]))[0]
    ),
    "cross_version": (lambda f: losses.cross_version_triplet_loss(f(X), f(TABLE), f([1, 2]))[0]),
    "gated_cosine": (lambda f: losses.gated_cosine(f(X), f(Y), f(X))),
    "arbitrary_pairs": (
        lambda f: losses.arbitrary_pair_loss(
            f(X), f(Y), f(X), labels=f([0, 1]), partners=f([1, 0]), key_labels=f([0, 1, 2])
        )
    ),
    "all_pairs": (lambda f: metrics.all_pairs(f(X), f([0, 1]))),
    "val_at_far": (lambda f: metrics.val_at_far(f([0.1, 0.2]), f([True, False]), far=1)[0]),
    "neighbour_recall": (lambda f: metrics.neighbour_recall(f(X), f([1, 1]))),
    "effective_rank": (lambda f: metrics.effective_rank(f(Y), where=f([True, True, False]))),
    "scalar": (lambda f: vectors.encode_scalar(vectors.fit_scalar(f(X)), f(Y))),
    "two_dimensional": (
        lambda f: losses.two_dimensional(losses.info_nce, 1, (1, 2))(jax.random.key(0), f([X, X]), f([X, X]))
    ),
    "espresso": (lambda f: losses.espresso(losses.info_nce, 1, 2, 1)(None, f([X, X]), f([X, X]))),
    "starbucks": (lambda f: losses.starbucks(losses.info_nce, [(1, 1), (1, 2)])(None, f([X, X]), f([X, X]))),
    "cosent": (lambda f: losses.cosent(f(X), f(TABLE), targets=f([0, 1]), where=f([True, True]))),
    "cosine_loss": (lambda f: losses.cosine_loss(f(X), f(TABLE), targets=f([0, 1]), where=f([True, False]))),
    "score_kl": (lambda f: losses.score_kl(f(X), teacher=f(TABLE), where=f([[True, False]] * 2))),
    "vector_kl": (lambda f: losses.vector_kl(f(X), teacher=f(TABLE))),
    "margin_mse": (
        lambda f: losses.margin_mse(
            f(X), f(TABLE), f([Y, Y]), teacher=f([[1.0] * 4] * 2), where=f([[True] * 3] * 2)
        )
    ),
    "vector_distance": (lambda f: losses.vector_distance(f(X), teacher=f(TABLE), where=f([True, False]))),
    "class_loss": (lambda f: losses.class_loss(f(X), f([1, 0]), classes=f([True, True]))),
    "cosine_logits": (lambda f: encoders.cosine_logits(f(X), f(Y), background=f([1.0, 2.0]))),
    "ensemble": (lambda f: encoders.geometric_ensemble(f(TABLE), f(TABLE), f([True, False]))),
    "expansion": (lambda f: encoders.systematic_expansion(f(X), f(TABLE))),
    "modulate": (lambda f: encoders.modulate(f([[X]]), f([[1.0, 2.0]]), f([[0.0, 1.0]]))),
    "roi_align": (
        lambda f: encoders.roi_align(f([[X, X]]), f([[[0.0, 0.0, 2.0, 2.0]]]), 1, where=f([[True]]))
    ),
    "iou": (lambda f: metrics.iou(f([[True, False]]), f([[True, True]]))),
    "box_iou": (lambda f: metrics.box_iou(f([[0, 0, 2, 2]]), f([[0, 1, 2, 2]]))),
    "nms": (lambda f: metrics.nms(f([[0, 0, 2, 2.0]]), f([0.5]), classes=f([1]), where=f([True]))),
    "compression": (lambda f: losses.compression_loss(f(X), target=losses.compression_target(f(X), 2))),
    "frozen_softmax": (
        lambda f: losses.frozen_softmax(f(X), f(Y), positives=f([2, 0]), bias=f([0.0, 1.0, 2.0]))
    ),
    "with_first": (lambda f: encoders.with_first(f([X, X]), f(X))),
    "auc": (lambda f: metrics.auc(f([0, 1]), f([0.1, 0.2]))),
    "grouped_auc": (lambda f: metrics.grouped_auc(f([0, 1]), f([0.1, 0.2]), f([1, 1]))),
    "hard_negatives": (lambda f: data.hard_negatives(f(X), f(Y), f([0, 1]), count=1)),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_read_as_arrays(name):
    jax.tree.map(np.testing.assert_array_equal, LISTS[name](lambda x: x), LISTS[name](np.array))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: search.top_k([[1.0, 2.0], [1.0]], Y, 1), "queries: rows of different lengths"),
        (lambda: search.top_k(X, [[1.0, 2.0], [1.0]], 1), "documents: rows of different lengths"),
        (lambda: search.top_k([1.0, 2.0], Y, 1), r"queries, documents: shapes \(2,\)"),
        (
            lambda: search.scan_top_k(lambda q, r: q @ r.T, X, Y, 1),
            "queries: hold numbers in lists; pass arrays",
        ),
        (
            lambda: search.reciprocal_rank_fusion(np.ones((2, 3), int), 1),
            r"rankings\[0\]: shape \(3,\); pass",
        ),
        (lambda: search.reciprocal_rank_fusion([[[0.5, 1]]], 1), r"rankings\[0\]: float64; pass integers"),
        (lambda: metrics.gains([1, 2], [[1]], [[1]]), r"ids: shape \(2,\)"),
        (lambda: metrics.gains([[1, 2]], [[1]], [[1, 2]]), r"judged_gains: shape \(1, 2\)"),
        (lambda: metrics.gains([["a"]], [[1]], [[1]]), "ids: <U1; pass integers"),
        (lambda: metrics.ndcg([1.0, 2.0], [[1.0]]), r"gains: shape \(2,\)"),
        (lambda: metrics.mrr([[1.0, 2.0]], [1.0]), r"judged_gains: shape \(1,\)"),
    ],
)
def test_wrong_lists_get_one_line(call, match):
    refused(call, match)


@pytest.mark.parametrize("address", ["gs://bucket/index", "gs:/bucket/index"])
def test_indexes_lie_on_the_local_disk(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(lambda: search.save_index(address, np.ones((1, 2)), [1]), "folder='gs:.*is not on the local disk")
    refused(lambda: search.load_index(address), "folder='gs:.*is not on the local disk")
    refused(lambda: search.open_documents(address), "folder='gs:.*is not on the local disk")
    refused(lambda: search.embed(np.array, [1], path=address), "path='gs:.*is not on the local disk")
    monkeypatch.setattr(search.external, "_library", lambda name, package: unittest.mock.MagicMock())
    for build in (search.build_faiss, search.build_usearch):
        refused(
            lambda build=build: build(np.ones((3, 2), np.float32), address),
            "path='gs:.*is not on the local disk",
        )
    for open_ in (search.open_faiss, search.open_usearch):
        refused(lambda open_=open_: open_(address), "path='gs:.*is not on the local disk")
    assert not list(tmp_path.iterdir())


def test_ndcg_stays_within_one():
    """Equal gains, padded to 40 columns: sums of one length round alike, and 1 is the most."""
    for count in range(1, 41):
        for grade in (1, 3, 7):
            gains = np.where(np.arange(40) < count, grade, 0)[None]
            assert metrics.ndcg(gains, gains[:, :count], k=None) == 1
            assert metrics.ndcg(gains[:, :count], gains, k=None) == 1
    rng = np.random.default_rng(0)
    gains = rng.random((500, 40)) < 0.9
    close = 1 + 1e-6 * rng.random((500, 40)) * gains
    assert np.max(metrics.ndcg(close, np.sort(close, axis=1)[:, ::-1], k=None)) <= 1
