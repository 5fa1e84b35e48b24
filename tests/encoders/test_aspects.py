"""Encoders by aspect: both ends of one function, one trunk run once, bad aspects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders

A, B, D = 3, 4, 5
X = np.random.default_rng(0).normal(size=(B, D)).astype(np.float32)


def init(key):
    trunk, head = jax.random.split(key)
    return {"trunk": jax.random.normal(trunk, (D, 6)), "head": {"kernel": jax.random.normal(head, (6, 2))}}


def encode(params, x):
    return jnp.tanh(x @ params["trunk"]) @ params["head"]["kernel"]


@pytest.mark.parametrize("own", [None, ("head",), ("trunk", "head")], ids=str)
def test_each_aspect_is_the_encoder_with_its_own_parts(own):
    params = encoders.init_aspects(init, jax.random.key(0), A, own=own)
    found = encoders.encode_aspects(encode, params, X)
    assert found.shape == (B, A, 2)
    for a in range(A):
        drawn = init(jax.random.fold_in(jax.random.key(0), a))
        if own == ("head",):
            drawn["trunk"] = init(jax.random.fold_in(jax.random.key(0), 0))["trunk"]
        np.testing.assert_allclose(found[:, a], encode(drawn, X), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(encoders.encode_aspect(encode, params, X, a), found[:, a], rtol=1e-5)
    aspect = jnp.array([2, 0, 1, 2])
    picked = encoders.encode_aspect(encode, params, X, aspect)
    np.testing.assert_allclose(picked, found[np.arange(B), aspect], rtol=1e-6)
    run = jax.jit(lambda a: encoders.encode_aspect(encode, params, X, a))
    np.testing.assert_allclose(run(aspect), picked, rtol=1e-5)
    np.testing.assert_allclose(run(1), found[:, 1], rtol=1e-5)


def test_one_encoder_for_all_has_one_vector():
    params = encoders.init_aspects(init, jax.random.key(0), A, own=())
    found = encoders.encode_aspects(encode, params, X)
    np.testing.assert_array_equal(found, encode(params["shared"], X)[:, None])
    np.testing.assert_array_equal(encoders.encode_aspect(encode, params, X, 0), found[:, 0])


def test_the_trunk_runs_once():
    params = encoders.init_aspects(init, jax.random.key(0), A, own=("head",))
    text = str(jax.make_jaxpr(lambda p: encoders.encode_aspects(encode, p, X))(params))
    assert text.count("tanh") == 1 and f"f32[{B},6] = tanh" in text


def test_only_the_asked_head_and_the_trunk_learn():
    params = encoders.init_aspects(init, jax.random.key(0), A, own=("head",))
    slope = jax.grad(lambda p: jnp.sum(encoders.encode_aspect(encode, p, X, 1)))(params)
    moved = np.abs(slope["own"]["head"]["kernel"]).max(axis=(1, 2)) > 0
    assert moved.tolist() == [False, True, False] and np.abs(slope["shared"]["trunk"]).max() > 0


def test_bad_arguments_get_one_line():
    params = encoders.init_aspects(init, jax.random.key(0), A)
    for aspect in (3, -1, np.array([0, 3, 0, 0])):
        with pytest.raises(ValueError, match=r"aspect: (3|-1) is outside 0..2; documents have 3 aspects"):
            encoders.encode_aspect(encode, params, X, aspect)
    assert np.isnan(jax.jit(lambda a: encoders.encode_aspect(encode, params, X, a))(3)).all()
    with pytest.raises(ValueError, match=r"own: 'mlp' is not among \['head', 'trunk'\]"):
        encoders.init_aspects(init, jax.random.key(0), A, own=("mlp",))
    with pytest.raises(ValueError, match="count: 0 aspects"):
        encoders.init_aspects(init, jax.random.key(0), 0)


def test_the_asked_aspect_may_be_a_constant_under_jit():
    params = encoders.init_aspects(init, jax.random.key(0), A)
    for aspect in (1, jnp.int32(1), jnp.full(len(X), 1)):
        found = jax.jit(lambda aspect=aspect: encoders.encode_aspect(encode, params, X, aspect))()
        np.testing.assert_allclose(found, encoders.encode_aspect(encode, params, X, 1), rtol=1e-5, atol=1e-6)
