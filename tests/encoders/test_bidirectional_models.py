"""Bidirectional language models: no side sees what it tells; one layer is the recurrent network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders

E, LETTERS = 4, 6
RNG = np.random.default_rng(0)
IDS = jnp.asarray(RNG.integers(0, 9, (3, 5)))
MASK = jnp.arange(5) < jnp.array([[5], [3], [0]])


def embed(params, batch):
    return params["table"]["embedding"][batch["ids"]], batch["mask"]


def model(**options):
    def init_embed(key):
        return {"table": {"embedding": jax.random.normal(key, (9, E))}}

    made = encoders.bidirectional_model(init_embed, embed, inputs=E, **options)
    return made, made.init(jax.random.key(1))


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
def test_one_layer_is_the_recurrent_network_of_both_sides(kind):
    made, params = model(layers=1, kind=kind)
    cells = {"layer_0": {side: own["layer_0"] for side, own in params["network"].items()}}
    tokens = params["table"]["embedding"][IDS]
    found = jax.jit(made.hidden)(params, {"ids": IDS, "mask": MASK})
    np.testing.assert_allclose(found["tokens"], encoders.rnn(cells, tokens, MASK, kind=kind), atol=1e-6)
    twice = jnp.where(MASK[..., None], jnp.concatenate([tokens, tokens], axis=-1), 0)
    np.testing.assert_array_equal(found["states"][0], twice)
    np.testing.assert_array_equal(found["states"][-1], found["tokens"])


def test_later_layers_add_what_they_read():
    made, params = model(layers=3)
    found = made.hidden(params, {"ids": IDS, "mask": MASK})["states"]
    for i in (1, 2):
        for side, rows in (("forward", slice(0, E)), ("backward", slice(E, None))):
            x = found[i][..., rows]
            cell = params["network"][side][f"layer_{i}"]
            y = encoders.scan_cell(cell, x, MASK, reverse=side == "backward") + x
            np.testing.assert_allclose(found[i + 1][..., rows], jnp.where(MASK[..., None], y, 0), atol=1e-6)


def test_no_side_sees_what_it_tells_in_any_layer():
    made, params = model(layers=3)
    whole = jnp.ones((1, 5), bool)

    def states(tokens):
        given = {"tokens": tokens, "mask": whole}
        free = encoders.bidirectional_model(
            lambda key: {}, lambda p, b: (b["tokens"], b["mask"]), inputs=E, layers=3
        )
        return free.hidden(params, given)["tokens"][0]

    reach = jax.jacobian(states)(params["table"]["embedding"][IDS[:1]])[:, :, 0]  # [T, 2 E, T, E]
    seen = np.abs(reach).sum(axis=-1) > 0
    before = np.tri(5, dtype=bool)[:, None]
    np.testing.assert_array_equal(seen[:, :E], np.broadcast_to(before, (5, E, 5)))
    np.testing.assert_array_equal(seen[:, E:], np.broadcast_to(before.T.reshape(5, 1, 5), (5, E, 5)))


def test_every_word_is_asked_of_both_neighbours_that_are_there():
    made, params = model(layers=1)
    found = made.hidden(params, {"ids": IDS, "mask": MASK})
    asked = encoders.both_sides(found, IDS, MASK & (IDS != 3))
    pairs = []
    for b in range(3):
        for t in range(5):
            for side, place in ((slice(0, E), t - 1), (slice(E, None), t + 1)):
                if MASK[b, t] and IDS[b, t] != 3 and 0 <= place < 5 and MASK[b, place]:
                    pairs.append(
                        (int(IDS[b, t]), np.asarray(found["tokens"][b, place, side]).round(5).tolist())
                    )
    where = np.asarray(asked["where"])
    rows = zip(np.asarray(asked["words"])[where], np.asarray(asked["tokens"])[where], strict=True)
    assert sorted((int(w), x.round(5).tolist()) for w, x in rows) == sorted(pairs)


def test_words_of_letters_need_no_table_and_every_parameter_learns():
    letters = jnp.asarray(RNG.integers(0, LETTERS, (9, 7)))

    def init_embed(key):
        one, two = jax.random.split(key)
        table = {"embedding": jax.random.normal(one, (LETTERS, 3))}
        return {"letters": table, "words": encoders.init_text_cnn(two, 3, sizes=(1, 3), filters=2)}

    def spelled(params, batch):
        read = encoders.text_cnn(params["words"], params["letters"]["embedding"][letters], letters > 0)
        return read[batch["ids"]], batch["mask"]

    made = encoders.bidirectional_model(init_embed, spelled, inputs=E)
    params = made.init(jax.random.key(0))

    def loss(params):
        return jnp.sum(made.hidden(params, {"ids": IDS, "mask": MASK})["tokens"] ** 2)

    slopes = jax.grad(loss)(params)
    assert all(np.isfinite(x).all() and np.abs(x).sum() > 0 for x in jax.tree.leaves(slopes))


def test_bad_input_is_one_clear_line():
    short = {"tokens": jnp.ones((1, 3, 4)), "mask": jnp.ones((1, 3), bool)}
    for call, said in (
        (lambda: model(layers=0), "layers: 0 is below 1; pass a larger number"),
        (lambda: model(kind="elman"), "kind: 'elman'; pass one of"),
        (lambda: encoders.both_sides(short, IDS, MASK), "words: shape"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
