"""Tuning of a published language model: one step by hand, what stays as it is, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gguf_files import write_gguf
from refusals import refused

from jaxembed import encoders, recipes, weights

TEXTS = ["ab a12 ab", "a12 ab b", "b ab ab 12", "a ab a 2"]
KERNELS = "attention/(query|value)/kernel"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return encoders.load_causal(write_gguf(tmp_path_factory.mktemp("gguf") / "model.gguf"))


def test_one_batch_of_all_texts_is_a_step_of_adam_on_the_adapters(model):
    found = recipes.tune_texts(model, TEXTS, rank=2, rate=0.1, batch_size=4, seed=5)
    key, _ = jax.random.split(jax.random.key(5))
    adapters, batch = weights.init_low_rank(key, model.params, KERNELS, 2), model.tokenize(TEXTS)

    def loss(adapters):
        params = weights.low_rank(model.params, adapters)
        return jnp.mean(recipes.text_losses(model.hidden)(params, batch))

    tx = optax.adam(0.1)
    step, _ = tx.update(jax.grad(loss)(adapters), tx.init(adapters))
    expected = weights.low_rank(model.params, optax.apply_updates(adapters, step))
    chex.assert_trees_all_close(found.params, expected, atol=1e-5)


def test_epochs_teach_the_texts_and_leave_the_model_alone(model):
    before, seen = jax.tree.map(np.asarray, model.params), []

    def look(tuned):
        seen.append(float(recipes.score_texts(tuned, TEXTS).mean()))
        return {"nats": seen[-1]}

    given = {"rank": 4, "rate": 0.03, "epochs": 5, "batch_size": 3}  # a text is left out in each epoch
    found = recipes.tune_texts(model, TEXTS, **given, evaluate=look)
    assert len(seen) == 5
    assert seen[-1] == recipes.score_texts(found, TEXTS).mean()
    assert seen[-1] < recipes.score_texts(model, TEXTS).mean() - 0.5
    chex.assert_trees_all_equal(jax.tree.map(np.asarray, model.params), before)
    changed = jax.tree.map(lambda x, y: bool((np.asarray(x) != y).any()), found.params, before)
    paths = {"/".join(e.key for e in path) for path, x in jax.tree.leaves_with_path(changed) if x}
    assert paths == {f"blocks/attention/{name}/kernel" for name in ("query", "value")}
    again = recipes.tune_texts(model, TEXTS, **given)
    chex.assert_trees_all_equal(again.params, found.params)


def test_texts_are_cut_where_the_length_says(model):
    long = [text + " 1 2 a b a b" for text in TEXTS]
    given = {"rank": 2, "batch_size": 4, "length": 4}
    chex.assert_trees_all_equal(
        recipes.tune_texts(model, long, **given).params, recipes.tune_texts(model, TEXTS, **given).params
    )


@pytest.mark.parametrize(
    ("match", "given"),
    [
        (r"texts\[1\]: has 1 tokens, and nothing to predict", {"texts": ["ab a", "x"]}),
        ("batch_size: 8 of 2 texts; pass 1 to their number", {"texts": ["ab a", "a b"]}),
        ("batch_size: 0 of 4 texts", {"batch_size": 0}),
        ("batch_size: 8 of 0 texts", {"texts": []}),
        ("epochs=0; give an int of at least 1", {"epochs": 0, "batch_size": 2}),
        ("epochs=1.5; give an int", {"epochs": 1.5, "batch_size": 2}),
        ("rate: -1 is not a learning rate", {"rate": -1, "batch_size": 2}),
        ("rate: nan is not a learning rate", {"rate": float("nan"), "batch_size": 2}),
        ("pattern='nothing' matches no parameter", {"kernels": "nothing", "batch_size": 2}),
    ],
)
def test_bad_input_is_one_clear_line(match, given, model):
    refused(match, lambda: recipes.tune_texts(**{"model": model, "texts": TEXTS} | given))
