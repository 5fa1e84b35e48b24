"""Merged text encoders: what is fitted, what is written, and who is refused."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import FAST, TEXTS, write_model

from jaxembed import encoders, recipes, weights

load = encoders.pretrained.load
PAIRS = {"first": [f"w{n % 9 + 5}" for n in range(24)], "second": [f"w{n % 9 + 6} w3" for n in range(24)]}
GRADED = {"first": ["w5"] * 16, "second": ["w6"] * 16, "scores": np.arange(16, dtype=np.float32)}
SMALL = {"steps": 4, "batch_size": 8, "length": 4}


def moved(encoder, seed, scale=0.05):
    """An encoder that was "trained": noise on every parameter."""
    leaves, form = jax.tree.flatten(encoder.params)
    rng = np.random.default_rng(seed)
    leaves = [x + scale * jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in leaves]
    return dataclasses.replace(encoder, params=jax.tree.unflatten(form, leaves))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A start and two models of it, as folders on disk."""
    place = tmp_path_factory.mktemp("models")
    base = load(write_model(place / "base", dtype=np.float32, **{"tokenizer_config.json": FAST}))
    for seed, name in enumerate(("a", "b")):
        moved(base, seed, 0.02 * (2 - seed)).save(place / name)
    return {name: place / name for name in ("base", "a", "b")}


def params(path):
    return load(path).params


def test_without_a_probe_models_are_averaged(folders):
    models = [folders["a"], folders["b"]]
    mean = jax.tree.map(lambda x, y: (x + y) / 2, *map(params, models))
    for start in (None, folders["base"]):
        merged, found = recipes.merge_encoders(models, start=start)
        chex.assert_trees_all_close(merged.params, mean, atol=1e-6)
        assert found["coefficients"] == 0.5
    chosen, _ = recipes.merge_encoders(models, start=folders["base"], coefficients=[0.0, 1.0])
    chex.assert_trees_all_close(chosen.params, params(folders["b"]), atol=1e-6)


@pytest.mark.parametrize("started", [True, False])
def test_a_probe_fits_and_the_folder_holds_the_result(folders, tmp_path, started):
    options = {"start": folders["base"]} if started else {}
    models = [folders["a"], folders["b"]]
    merged, found = recipes.merge_encoders(
        models, probe=PAIRS, folder=tmp_path / "merged", **options, **SMALL
    )
    again = load(tmp_path / "merged")
    np.testing.assert_array_equal(again.encode_texts(TEXTS), merged.encode_texts(TEXTS))
    assert again.digest() == merged.digest()
    origin = folders["base"] if started else folders["a"]
    vectors = [weights.task_vector(params(models[t]), params(origin)) for t in found["order"]]
    rule = "slerp" if started else "linear"
    expected = weights.merge(params(origin), vectors, found["coefficients"], rule=rule)
    chex.assert_trees_all_close(merged.params, expected, atol=1e-6)
    assert found["order"] == ([1, 0] if started else [1])  # b moved less than a, or a is the origin


def test_tasks_of_a_probe_take_turns_whatever_their_size(folders, monkeypatch):
    seen = []

    def watched(loss_fn, start, vectors, batches, **options):
        seen.extend(bool("targets" in b) for b in batches)
        losses = [float(loss_fn(start, b, jax.random.key(0))[0]) for b in batches]
        assert np.isfinite(losses).all() and losses[0] != losses[1]
        return jnp.array([0.5, 0.5]), []

    monkeypatch.setattr(weights, "fit_coefficients", watched)
    models = [folders["a"], folders["b"]]
    probe = {"near": PAIRS, "graded": GRADED, "negatives": [("w5", "w6", "w9")] * 8}
    options = {"start": folders["base"], "rule": "linear", **SMALL}
    recipes.merge_encoders(models, probe=probe, **options)
    assert seen == [False, True, False] * 3


def test_layers_of_encoders_may_have_coefficients_of_their_own(folders):
    models = [load(folders["a"]), folders["b"]]
    options = {"rule": "linear", "granularity": "layer", "start": folders["base"], **SMALL}
    merged, found = recipes.merge_encoders(models, probe=PAIRS, **options)
    assert len(found["coefficients"]) == len(weights.group_names(merged.params))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_reads_the_merged_folder(folders, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    models, place = [folders["a"], folders["b"]], tmp_path / "merged"
    merged, _ = recipes.merge_encoders(models, start=folders["base"], probe=PAIRS, folder=place, **SMALL)
    model = peer.SentenceTransformer(str(place), device="cpu", local_files_only=True)
    np.testing.assert_allclose(merged.encode_texts(TEXTS), model.encode(TEXTS), atol=1e-4)
    apart = peer.SentenceTransformer(str(folders["a"]), device="cpu", local_files_only=True).encode(TEXTS)
    assert np.abs(apart - merged.encode_texts(TEXTS)).max() > 1e-3


def test_models_that_differ_are_named(folders, tmp_path):
    small = load(folders["a"]).first(1)
    small.save(tmp_path / "small")
    with pytest.raises(
        ValueError, match=r"models\[1\] .*small: 'blocks.*has shape .* in models\[0\] .*a \(.*; merge"
    ):
        recipes.merge_encoders([folders["a"], tmp_path / "small"])
    with pytest.raises(ValueError, match=r"^start: .* in models\[0\] "):
        recipes.merge_encoders([folders["a"], folders["b"]], start=small)
    other = load(folders["b"], pooling="cls")
    with pytest.raises(ValueError, match=r"models\[1\]: another pooling than models\[0\] .*a; merge"):
        recipes.merge_encoders([folders["a"], other])
    words = load(folders["b"])
    words.tokenizer.add_tokens(["w77"])
    with pytest.raises(ValueError, match=r"models\[1\]: other tokens than models\[0\] .*a; merge"):
        recipes.merge_encoders([folders["a"], words])


def test_arguments_that_contradict_are_refused(folders, tmp_path):
    models = [folders["a"], folders["b"]]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for options, error, match in [
        ({"folder": tmp_path / "full"}, FileExistsError, "folder: .*full holds something; choose a new one"),
        ({"rule": "slerp"}, ValueError, "start: slerp turns between task vectors; name the model"),
        ({"probe": PAIRS, "coefficients": 0.5}, ValueError, "coefficients: a probe fits them; leave one"),
        ({"probe": [("a", "b")]}, ValueError, "probe: a task of 1 pair; give at least two"),
    ]:
        with pytest.raises(error, match=match) as caught:
            recipes.merge_encoders(models, **options)
        assert "\n" not in str(caught.value)
    for models in (folders["a"], [folders["a"]]):
        with pytest.raises(ValueError, match="models: pass a list of at least two"):
            recipes.merge_encoders(models)
    copies = [folders["base"], folders["b"]]
    with pytest.raises(ValueError, match=r"vectors\[0\]: is zero, its model is the start"):
        recipes.merge_encoders(copies, start=folders["base"], probe=PAIRS, **SMALL)
