"""The package mteb drives our encoders, and keeps scores of two apart."""

import functools
import sys
import types

import numpy as np
import pytest
from texts_and_encoders import encoder, texts_and_vectors

from jaxembed import metrics

# The package mteb


def test_the_adapter_encodes_lists_and_batches_and_knows_queries():
    texts, vectors = texts_and_vectors(5)
    plain = np.stack([vectors[t] for t in texts])
    flipped = encoder({t: -v for t, v in vectors.items()})
    model = metrics.MTEBEncoder(encoder(vectors), flipped, name="me/toy", revision="1")
    batches = [{"text": texts[:3], "title": ["x"] * 3}, {"text": texts[3:]}]
    for inputs in (texts, iter(batches)):
        np.testing.assert_array_equal(model.encode(inputs, task_metadata=None, hf_split="test"), plain)
    np.testing.assert_array_equal(model.encode(texts, prompt_type="query"), -plain)
    np.testing.assert_array_equal(model.encode(texts, prompt_type="document", batch_size=2), plain)
    assert model.encode(texts).dtype == np.float32
    a, b = plain[:2], plain[2:4]
    every = model.similarity(a, b)
    assert every.shape == (2, 2)
    np.testing.assert_allclose(model.similarity_pairwise(a, b), np.diag(every), rtol=1e-5)
    np.testing.assert_allclose(model.similarity(plain[0], plain[0]), [[1]], rtol=1e-6)


def test_the_batch_size_of_mteb_is_used():
    texts, vectors = texts_and_vectors(5)
    sizes = []

    def plain(texts):
        sizes.append(len(texts))
        return np.stack([vectors[t] for t in texts])

    def knowing(texts, *, batch_size=32):
        sizes.append(batch_size)
        return np.stack([vectors[t] for t in texts])

    expected = np.stack([vectors[t] for t in texts])
    for function, told in (
        (plain, [2, 2, 1]),
        (knowing, [2]),
        (functools.partial(knowing, batch_size=9), [2]),
    ):
        model = metrics.MTEBEncoder(function, name="me/toy", revision="1")
        np.testing.assert_array_equal(model.encode(texts, batch_size=2), expected)
        assert sizes == told
        sizes.clear()


class Digested:
    """What MTEBEncoder asks of an encoder of ours."""

    def __init__(self, weight, digest=None):
        self.weight, self.digest = weight, lambda: digest or f"digest of {weight}"

    def encode_texts(self, texts, *, batch_size=32, prompt=None):
        w = self.weight
        return np.array([[len(t) ** (1.0 - w), t.count("t") ** w, t.count("s") ** w] for t in texts])


def test_revisions_are_derived_from_weights_and_options():
    one, two = (Digested(w).encode_texts for w in (1, 2))
    prompted = functools.partial(one, prompt="query: ")
    pairs = [(one, None), (two, None), (prompted, None), (one, prompted), (one, two), (two, one)]
    models = [metrics.MTEBEncoder(*pair) for pair in pairs]
    assert len({m.revision for m in models}) == len(models)
    assert {m.name for m in models} == {"jaxembed/encoder"}
    again = metrics.MTEBEncoder(Digested(1).encode_texts, name="me/one")
    assert (again.name, again.revision) == ("me/one", models[0].revision)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "name: is missing"),
        ({"name": "me/toy"}, "revision: is missing"),
        ({"revision": "1"}, "name: is missing"),
        ({"name": "no_model_name/available", "revision": "1"}, "name: is missing"),
        ({"name": "me/toy", "revision": ""}, "revision: is missing"),
        ({"meta": types.SimpleNamespace(name="me/toy", revision=None)}, "revision: is missing"),
        ({"meta": types.SimpleNamespace(name="a/b", revision="1"), "name": "me/toy"}, "meta: has a name"),
        ({"encode_queries": Digested(1).encode_texts}, "name: is missing"),
    ],
)
def test_an_encoder_without_a_name_or_revision_is_refused(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        metrics.MTEBEncoder(lambda texts: np.ones((len(texts), 2)), **options)
    assert "\n" not in str(caught.value)


def two_encoders():
    """Encoders that score apart on any task."""
    return [metrics.MTEBEncoder(Digested(w).encode_texts) for w in (0, 1)]


def test_two_encoders_do_not_share_a_stored_score(monkeypatch):
    """With a stand-in that stores scores under the same keys as mteb."""

    def create_empty(overwrites=None):
        given = {"name": None, "revision": None} | (overwrites or {})
        empty = {"name": "no_model_name/available", "revision": "no_revision_available"}
        return types.SimpleNamespace(**{k: given[k] or empty[k] for k in given})

    module = types.ModuleType("mteb.models.model_meta")
    module.ModelMeta = types.SimpleNamespace(create_empty=create_empty)
    for name in ("mteb", "mteb.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    store = {}

    def evaluate(model, task):
        meta = model.mteb_model_meta
        key = meta.name.replace("/", "__"), meta.revision, task
        if key not in store:
            store[key] = float(model.encode(["tree"]).sum())
        return store[key]

    for _ in range(2):
        assert [evaluate(model, "STS") for model in two_encoders()] == [6.0, 2.0]
    assert len(store) == 2


TASKS = ("STS", "Retrieval", "PairClassification", "Classification", "MultilingualClusteringFast")


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")  # those of mteb and what it imports
@pytest.mark.parametrize("name", TASKS)
def test_mteb_drives_the_adapter(name):
    mteb = pytest.importorskip("mteb")
    mock = pytest.importorskip("mteb.mocks.mock_tasks")
    model = two_encoders()[0]
    results = mteb.evaluate(model, getattr(mock, f"Mock{name}Task")(), cache=None, show_progress_bar=False)
    assert 0 <= results.task_results[0].get_score() <= 1


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_mteb_keeps_the_scores_of_two_encoders_apart(tmp_path):
    mteb = pytest.importorskip("mteb")
    task = pytest.importorskip("mteb.mocks.mock_tasks").MockSTSTask
    scores = []
    for _ in range(2):
        cache = mteb.ResultCache(tmp_path)
        found = [mteb.evaluate(m, task(), cache=cache, show_progress_bar=False) for m in two_encoders()]
        scores.append([f.task_results[0].get_score() for f in found])
    alone = [mteb.evaluate(m, task(), cache=None, show_progress_bar=False) for m in two_encoders()]
    alone = [f.task_results[0].get_score() for f in alone]
    assert scores[0] == pytest.approx([1, -1])
    assert scores[1] == pytest.approx(scores[0])
    assert alone == pytest.approx(scores[0])
    assert len(list(tmp_path.rglob("MockSTSTask.json"))) == 2
