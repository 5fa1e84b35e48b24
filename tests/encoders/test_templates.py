"""Prompts, templates with a mask token and poolers of checkpoints: tokens by hand, saving, and errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import write_model
from tokenizers import Tokenizer

from jaxembed import encoders, recipes
from jaxembed.encoders.pretrained.templates import MASKED

TEMPLATE = "w20 {} w21 [MASK] w22"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The small BERT, whose tokenizer knows [MASK] in the place of w29."""
    folder = write_model(tmp_path_factory.mktemp("models") / "bert")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"w29"', '"[MASK]"'))
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens(["[MASK]"])
    tokenizer.save(str(path))
    return encoders.pretrained.load(folder, max_length=12)


def state_of_mask(encoder, ids):
    """The state of the mask token of one row of ids, by a pass of its own, as a unit vector."""
    batch = {"ids": np.array([ids], np.int32), "mask": np.ones((1, len(ids)), bool)}
    tokens, _ = encoder.encode_tokens(encoder.params, batch)
    x = np.asarray(tokens)[0, ids.index(29)]
    return x / np.linalg.norm(x)


def test_the_vector_of_a_text_is_the_state_of_the_mask_token(encoder):
    batch = encoders.prompt_batch(encoder, ["w5", "w6 w7"], template=TEMPLATE, length=10)
    rows = [[2, 20, 5, 21, 29, 22, 3], [2, 20, 6, 7, 21, 29, 22, 3]]
    for row, ids, mask, pool in zip(rows, batch["ids"], batch["mask"], batch["pool_mask"], strict=True):
        assert ids[mask].tolist() == row
        assert np.flatnonzero(pool).tolist() == [row.index(29)]
    found = encoder.encode(encoder.params, batch)
    expected = np.stack([state_of_mask(encoder, row) for row in rows])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    vectors = encoders.encode_prompted(encoder, ["w5", "w6 w7"], template=TEMPLATE, batch_size=1)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_long_text_is_cut_and_the_template_stays(encoder):
    texts = [" ".join(f"w{n % 9 + 5}" for n in range(count)) for count in (1, 3, 4, 30)]
    batch = encoders.prompt_batch(encoder, texts, template=TEMPLATE, length=9)
    assert batch["ids"].shape == (4, 9)
    for ids, mask in zip(batch["ids"], batch["mask"], strict=True):
        assert ids[mask].tolist()[-4:] == [21, 29, 22, 3]
    assert batch["ids"][3].tolist() == [2, 20, 5, 6, 7, 21, 29, 22, 3]
    np.testing.assert_array_equal(batch["ids"][1], batch["ids"][2])


def test_a_mask_token_in_the_text_is_not_the_one_that_is_read(encoder):
    for template, place in ((TEMPLATE, 5), ("[MASK] w20 {}", 1)):
        batch = encoders.prompt_batch(encoder, ["w5 [MASK]"], template=template, length=10)
        assert np.flatnonzero(batch["pool_mask"][0]).tolist() == [place]
        assert (batch["ids"][0] == 29).sum() == 2


def test_templates_that_cannot_be_filled_are_refused(encoder):
    for options, message in (
        ({"template": "w20 [MASK]"}, "needs one {} for the text and one"),
        ({"template": "{} w20"}, "needs one {} for the text and one"),
        ({"template": TEMPLATE, "mask_token": "<mask>"}, "mask_token='<mask>': the tokenizer has no such"),
        ({"template": TEMPLATE, "length": 6}, "length=6: leaves no place for a text in the template; give 7"),
        ({"template": TEMPLATE, "length": 40}, "length=40 is above max_length=12"),
    ):
        with pytest.raises(ValueError, match=message.replace("{}", r"\{\}")):
            encoders.prompt_batch(encoder, ["w5"], **options)
    first = dataclasses.replace(encoder, pooling=("cls",))
    with pytest.raises(ValueError, match="its pooling is"):
        encoders.encode_prompted(first, ["w5"], template=TEMPLATE)
    assert MASKED.format("a") == 'This sentence : "a" means [MASK] .'


def test_prompts_travel_into_the_folder_and_to_the_search(encoder, tmp_path):
    told = encoders.with_prompts(encoder, {"query": "w20 w21 "}, pooled=False)
    batch = told.tokenize(["w5"], prompt_name="query")
    assert batch["ids"][0, :5].tolist() == [2, 20, 21, 5, 3]
    assert np.flatnonzero(batch["pool_mask"][0]).tolist() == [3, 4]
    assert "pool_mask" not in told.tokenize(["w5"])
    told.save(tmp_path / "saved")
    again = encoders.pretrained.load(tmp_path / "saved")
    assert again.prompts == {"query": "w20 w21 "}
    query = again.encode_texts(["w5"], prompt_name="query")
    np.testing.assert_array_equal(query, told.encode_texts(["w5"], prompt_name="query"))
    hits = recipes.search(again, ["w5", "w6 w7"], ["w5"], k=2)[0]
    cosines = again.encode_texts(["w5", "w6 w7"]) @ query[0]
    np.testing.assert_allclose([h["score"] for h in hits], np.sort(cosines)[::-1], atol=1e-5)
    default = encoders.with_prompts(encoder, {"q": "w20 "}, default="q")
    np.testing.assert_array_equal(default.encode_texts(["w5"]), encoder.encode_texts(["w20 w5"]))


def test_prompts_that_do_not_fit_are_refused(encoder):
    for given, message in (
        (({"a": 3},), r"prompts\['a'\] is int"),
        (({"a": "b"}, "c"), "default='c' is not among the prompts a"),
    ):
        with pytest.raises(ValueError, match=message):
            encoders.with_prompts(encoder, given[0], default=(given[1:] or (None,))[0])
    with pytest.raises(ValueError, match="pooled=False"):
        encoders.with_prompts(dataclasses.replace(encoder, pooling=("cls",)), {}, pooled=False)
    with pytest.raises(ValueError, match="task is NoneType"):
        encoders.instruction(None)


def test_the_pooler_is_the_layer_of_the_checkpoint():
    """The layer and its order are those of transformers: ``tanh(weight @ state + bias)``."""
    kernel, bias = np.arange(6.0).reshape(2, 3)[:, :2] / 9, np.array([0.1, -0.2])
    x = np.array([[0.3, -0.7]])
    heads = {"bert.pooler.dense.weight": kernel, "bert.pooler.dense.bias": bias, "other": kernel}
    named = type("Named", (), {"heads": heads})
    params, activation = encoders.pretrained_pooler(named)
    found = encoders.mlp(params, jnp.asarray(x, jnp.float32), activation=activation, final=True)
    np.testing.assert_allclose(found, np.tanh(x @ kernel.T + bias), rtol=1e-5)
    named.heads = heads | {"lm_head.dense.weight": kernel.T, "lm_head.dense.bias": -bias}
    params, activation = encoders.pretrained_pooler(named)
    found = encoders.mlp(params, jnp.asarray(x, jnp.float32), activation=activation, final=True)
    np.testing.assert_allclose(found, jax.nn.gelu(x @ kernel - bias, approximate=False), rtol=1e-5)
    named.heads = {"other": kernel}
    with pytest.raises(ValueError, match="encoder: its checkpoint holds no lm_head.dense or pooler.dense"):
        encoders.pretrained_pooler(named)


def test_a_pooler_is_read_from_a_folder(encoder, tmp_path):
    rng = np.random.default_rng(0)
    heads = {"pooler.dense.weight": rng.normal(size=(16, 16)), "pooler.dense.bias": rng.normal(size=16)}
    heads = {name: x.astype(np.float32) for name, x in heads.items()}
    dataclasses.replace(encoder, heads=heads).save(tmp_path / "saved")
    (layer,) = encoders.pretrained_pooler(encoders.pretrained.load(tmp_path / "saved"))[0].values()
    np.testing.assert_array_equal(layer["kernel"], heads["pooler.dense.weight"].T)
    np.testing.assert_array_equal(layer["bias"], heads["pooler.dense.bias"])
