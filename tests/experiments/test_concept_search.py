"""Methods of concept search on a model that was not trained: where they agree, and what each may change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.concept_search import answers, costs, methods, searching
from jaxembed import diffusion
from jaxembed.data import toy_drawings
from jaxembed.recipes import text_to_image


@pytest.fixture(scope="module")
def known():
    options = text_to_image.NETWORK | {"channels": 1, "context": text_to_image.WIDTH}
    model = text_to_image._model(options, toy_drawings.DRAWING_WORDS, 8, (8, 8, 1))
    model = model._replace(params=jax.tree.map(np.asarray, text_to_image._init(model, jax.random.key(0))))
    frequencies = diffusion.draw_frequencies(jax.random.key(5), 32, (0.03, 2.0))
    return model, methods.methods(model, searching.PROMPT, frequencies, (0.03, 0.03, 0.003, 0.02))


def condition(known, arm, found=None, **given):
    model, found_by = known
    method = found_by[arm]
    ids = jnp.asarray(model.ids([searching.PROMPT, "a bold drawing of seven"]))
    found = method.start if found is None else found
    return method.states(found, model.params, ids, jnp.array([0, 900]), None, method.given | given)


def same(one, two):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one, two)


def test_at_their_start_a_token_tokens_by_layer_and_searched_states_are_one_condition(known):
    plain = condition(known, methods.TI)
    same(condition(known, methods.XTI), plain)
    for arm in (methods.REST, methods.BOUND):  # of the prompt by which they were started
        states = condition(known, arm)
        same(jax.tree.map(lambda x: x[0], states), jax.tree.map(lambda x: x[0], plain))
    np.testing.assert_array_equal(plain["tokens"], plain["values"])


def test_the_bypass_moves_values_at_the_slot_alone_and_is_off_at_weight_0(known):
    states = condition(known, methods.NETI)
    place = int(np.argmax(np.asarray(methods.slots(known[0], known[0].ids([searching.PROMPT])))[0]))
    differ = np.abs(states["tokens"] - states["values"]).max(axis=(0, 1, 3)) > 1e-6
    np.testing.assert_array_equal(np.flatnonzero(differ), [place])
    off = condition(known, methods.PLAIN)
    np.testing.assert_array_equal(off["tokens"], off["values"])
    np.testing.assert_allclose(off["tokens"], states["tokens"], atol=1e-6)
    assert np.abs(states["tokens"][0, 0] - states["tokens"][0, 1]).max() > 1e-4  # layers differ
    cut = condition(known, methods.NETI, keep=jnp.int32(2))
    assert np.abs(cut["tokens"] - states["tokens"]).max() > 1e-4


def test_states_before_the_slot_are_the_prompts_and_bounded_states_keep_their_norms(known):
    model, found_by = known
    plain = model.encode(model.params, model.ids([searching.PROMPT]))
    grown = 3 * found_by[methods.REST].start
    free, bound = (condition(known, arm, grown)["tokens"][0, 0] for arm in (methods.REST, methods.BOUND))
    place = int(np.argmax(np.asarray(methods.slots(model, model.ids([searching.PROMPT])))[0]))
    np.testing.assert_allclose(free[:place], plain[0, :place], atol=1e-5)
    lengths = np.linalg.norm(found_by[methods.REST].start, axis=1)
    np.testing.assert_allclose(np.linalg.norm(free[place:], axis=1), 3 * lengths[place:], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(bound[place:], axis=1), lengths[place:], rtol=1e-4)
    one = condition(known, methods.ONE, grown)["tokens"][0, 0]
    moved = np.abs(one - plain[0]).max(axis=1) > 1e-4
    np.testing.assert_array_equal(np.flatnonzero(moved), [place])


def test_a_step_in_the_outputs_costs_less_than_one_through_the_text_encoder(known):
    model, found_by = known
    ids, batch = jnp.asarray(model.ids([searching.PROMPT])), np.zeros((2, 8, 8, 1), np.float32)
    inverted, states = (
        searching.step_flops(model, found_by[arm], ids, batch) for arm in (methods.TI, methods.REST)
    )
    assert states < inverted


def test_a_search_of_states_encodes_its_prompt_once_and_finds_the_same_condition(known):
    model, found_by = known
    for arm, method in found_by.items():
        given = searching.given_of(model, method)
        assert given.keys() - method.given.keys() == ({"plain"} if method.kind == "rows" else set()), arm
    given = searching.given_of(model, found_by[methods.REST])
    ids = jnp.asarray(model.ids([searching.PROMPT] * 2))
    states = found_by[methods.REST].states
    one, two = (
        states(2 * found_by[methods.REST].start, model.params, ids, None, None, g)
        for g in (given, found_by[methods.REST].given)
    )
    same(one, two)


def test_costs_of_random_parameters_are_those_of_the_methods(known):
    model, found_by = known
    batch, ids = np.zeros((8, 8, 8, 1), np.float32), jnp.asarray(model.ids([searching.PROMPT]))
    steps = costs.slopes(*costs.SIZES[0], batch)
    shares = {name: f.lower(*given).cost_analysis()["flops"] for name, (f, given) in steps.items()}
    flops = [searching.step_flops(model, found_by[arm], ids, batch) for arm in (methods.REST, methods.TI)]
    assert abs(shares[costs.STATES] / shares[costs.EACH] - flops[0] / flops[1]) < 0.02
    assert shares[costs.STATES] < shares[costs.ONCE] < shares[costs.EACH]


def test_the_first_snapshot_at_the_final_loss_of_textual_inversion_counts():
    rows = [{"arm": methods.TI, "seed": s, "held-out": 0.3} for s in range(3)]
    curves = {methods.REST: [[0.4, 0.3, 0.2, 0.5], [0.2] * 4, [0.31] * 4]}
    np.testing.assert_array_equal(answers.reached({"rows": rows, "curves": curves}), [0.5, 0.25, 1.0])
    beside = [
        {"textual inversion encodes": name, "operations": x}
        for name, x in ((costs.EACH, 0.8), (costs.ONCE, 0.9), (costs.EACH, 0.3), (costs.ONCE, 0.7))
    ]
    told = [answers.at_most(size, "operations")({costs.BESIDE: beside}) for size in (0, 1)]
    assert [(x.value, x.verdict) for x in told] == [(0.8, "not reproduced"), (0.3, "reproduced")]
