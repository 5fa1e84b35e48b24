import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import recipes
from jaxembed.data import toy_drawings
from jaxembed.recipes import text_to_image

SMALL = {"base": 8, "multipliers": (1,), "attention": (), "groups": 2}
PROMPTS = ["a plain drawing of one", "a bold drawing of two"]


@pytest.fixture(scope="module")
def model():
    images = np.stack([np.ones((8, 8, 1)), -np.ones((8, 8, 1))] * 8)
    words = toy_drawings.DRAWING_WORDS
    return recipes.fit_text_to_image(images, PROMPTS * 8, words=words, network=SMALL, steps=60, batch_size=16)


def test_a_model_of_two_images_draws_the_one_that_is_asked(model):
    drawn = model.sample(jax.random.key(0), PROMPTS, steps=10)
    assert drawn.shape == (2, 8, 8, 1) and drawn.min() >= -1 and drawn.max() <= 1
    assert drawn[0].mean() > 0.3 and drawn[1].mean() < -0.3


def test_any_number_of_prompts_is_drawn_by_one_program(model):
    text_to_image._program.cache_clear()
    assert model.sample(jax.random.key(0), [], steps=2).shape == (0, 8, 8, 1)
    many = model.sample(jax.random.key(0), PROMPTS * 33, steps=2)
    few = model.sample(jax.random.key(0), PROMPTS, steps=2, scale=1.0)
    assert many.shape == (66, 8, 8, 1) and few.shape == (2, 8, 8, 1)
    (program,) = [text_to_image._program((*model[1:5],), 2)]
    assert program._cache_size() == 1
    guided = model.sample(jax.random.key(0), PROMPTS, steps=2)
    np.testing.assert_allclose(many[:2], guided, atol=1e-5)


def test_states_come_from_ids_or_from_their_embeddings(model):
    ids = model.ids(PROMPTS)
    states = model.encode(model.params, ids)
    assert states.shape == (2, 8, 64)
    again = model.encode(model.params, embeddings=model.embed(model.params, ids))
    np.testing.assert_allclose(again, states, atol=1e-5)
    np.testing.assert_allclose(
        model.null(model.params)["tokens"], model.encode(model.params, model.ids([""]))[0]
    )
    changed = np.array(states)
    assert np.abs(changed[0, :2] - changed[1, :2]).max() < 1e-5  # a causal text sees what came before
    assert np.abs(changed[0, 2] - changed[1, 2]).max() > 1e-3


def test_one_word_of_some_prompts_is_hidden():
    ids = jnp.tile(toy_drawings.word_ids(["a b c", ""], ("a", "b", "c"), length=6), (500, 1))
    found = np.asarray(text_to_image._hidden(jax.random.key(0), ids, 0.2))
    count = (found == toy_drawings.MASK).sum(1)
    assert set(count[::2]) == {0, 1} and 0.14 < count[::2].mean() < 0.26
    assert not count[1::2].any()
    places = (found == toy_drawings.MASK).sum(0)
    assert (places[1:4] > 15).all() and places[[0, 4, 5]].sum() == 0
    np.testing.assert_array_equal(
        found[found != toy_drawings.MASK], np.asarray(ids)[found != toy_drawings.MASK]
    )


def test_a_workdir_is_read_again_and_one_of_other_settings_is_refused(tmp_path):
    images, options = np.zeros((16, 8, 8, 1)), {"network": SMALL, "batch_size": 16, "workdir": tmp_path}
    first = recipes.fit_text_to_image(images, PROMPTS * 8, steps=2, **options)
    again = recipes.fit_text_to_image(images, PROMPTS * 8, steps=2, **options)
    jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
    recipes.fit_text_to_image(images, PROMPTS * 8, steps=np.int64(2), **options)  # numbers of NumPy
    swapped = PROMPTS[::-1] * 8  # of the same words
    others = [("rate", images, PROMPTS * 8, {"rate": 1e-3}), ("checksum", images + 1, PROMPTS * 8, {})]
    for name, drawn, prompts, more in [*others, ("checksum", images, swapped, {})]:
        with pytest.raises(ValueError, match=name) as error:
            recipes.fit_text_to_image(drawn, prompts, steps=2, **options, **more)
        assert "\n" not in str(error.value)


@pytest.fixture
def trained(monkeypatch):
    """The images, prompts and options with which a model would be trained."""
    seen = []
    monkeypatch.setattr(
        text_to_image, "fit_text_to_image", lambda *given, **options: seen.append((*given, options))
    )
    return seen


def test_the_drawing_model_never_sees_the_held_out_word_and_knows_aliases_and_spare_words(trained):
    recipes.drawing_model()
    ((images, prompts, options),) = trained
    drawn = toy_drawings.drawings()["train"]
    rows = drawn["digits"] != 7
    np.testing.assert_array_equal(images, drawn["images"][rows])
    shown = {word for prompt in prompts for word in prompt.split()}
    names = {"a", "drawing", "of", "trio", "3", *toy_drawings.STYLES, *toy_drawings.DIGIT_WORDS}
    assert shown == names - {"seven"}
    assert options["words"] == (*toy_drawings.DRAWING_WORDS, "trio", "3", "new")
    assert options["workdir"] == "runs/drawings"


def test_the_drawing_model_without_aliases_and_with_all_words(trained):
    recipes.drawing_model("x", without=(), aliases={}, spare=(), seed=3)
    ((images, prompts, options),) = trained
    drawn = toy_drawings.drawings()["train"]
    np.testing.assert_array_equal(images, drawn["images"])
    assert prompts == drawn["prompts"] and options["words"] == toy_drawings.DRAWING_WORDS
    assert options["seed"] == 3


def test_a_base_without_other_words_is_refused_in_one_line(tmp_path):
    options = {"network": SMALL, "batch_size": 8, "workdir": tmp_path, "steps": 1}
    model = recipes.drawing_model(**options)
    assert model.ids(["a new drawing of trio"]).shape == (1, 8)
    with pytest.raises(ValueError, match="holds another experiment") as error:
        recipes.drawing_model(**options, without=("six",))
    assert "\n" not in str(error.value)


def fit(**options):
    return recipes.fit_text_to_image(np.zeros((1, 8, 8, 1)), ["a"], **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: recipes.fit_text_to_image(np.zeros((2, 8, 8, 1)), ["a"]),
            r"images: shape \(2, 8, 8, 1\) for 1 prompts",
        ),
        (
            lambda: recipes.fit_text_to_image(np.zeros((1, 8, 8, 1)), ["a b c"], length=4),
            "'a b c' has 3 words; at most 2 have room",
        ),
        (lambda: recipes.drawing_model(without=("eleven",)), "without: 'eleven'; pass a tuple of words"),
        (lambda: recipes.drawing_model(without="seven"), "without: 'seven'; pass a tuple of words"),
        (lambda: recipes.drawing_model(without=("a",)), "without: no drawing is left without a"),
        (
            lambda: recipes.drawing_model(aliases={"eleven": ("elf",)}),
            "aliases: 'eleven'; pass a tuple of words",
        ),
        (lambda: recipes.drawing_model(aliases={"three": "trio"}), "aliases.'three'.: 'trio' is not a tuple"),
        (lambda: recipes.drawing_model(aliases={"three": None}), "aliases.'three'.: None is not a tuple"),
        (lambda: recipes.drawing_model(without=None), "without: None; pass a tuple of words"),
        (lambda: recipes.drawing_model(spare=None), "spare: None is not a tuple of words"),
        (lambda: recipes.drawing_model(aliases={"three": ("two",)}), "words: 'two' is not one new word"),
        (lambda: recipes.drawing_model(aliases={"three": ("the trio",)}), "words: 'the trio' is not one new"),
        (lambda: recipes.drawing_model(aliases={"three": (3,)}), "words: 3 is not one new word"),
        (lambda: recipes.drawing_model(spare="new"), "spare: 'new' is not a tuple of words; pass one"),
        (lambda: recipes.drawing_model(spare=("new", "new")), "words: 'new' is not one new word"),
        (lambda: recipes.drawing_model(spare=("[mask]",)), "words: '.mask.' is not one new word"),
        (lambda: fit(words="ab"), "words: 'ab' is one string"),
        (lambda: fit(hide=float("nan")), "hide: nan is not a share; pass a number in .0, 1."),
        (lambda: fit(decay=2.0), "decay: 2.0 is not a share"),
        (lambda: fit(steps=-1), "steps=-1; give an int of at least 1"),
        (lambda: fit(batch_size=0), "batch_size=0; give an int of at least 1"),
        (
            lambda: recipes.fit_text_to_image(np.full((1, 8, 8, 1), 255), ["a"]),
            r"images: 255 is not in .-1, 1.; scale 0..255 by images / 127.5 - 1",
        ),
        (
            lambda: recipes.fit_text_to_image(np.full((1, 8, 8, 1), np.nan), ["a"]),
            r"images: nan is not in .-1, 1.",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_prompts_of_unknown_words_are_refused(model):
    with pytest.raises(ValueError, match="'blue cat' has only unknown words; this model knows a drawing"):
        model.sample(jax.random.key(0), ["blue cat"])
