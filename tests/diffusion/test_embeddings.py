import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import diffusion

KEY, TABLE = jax.random.key(0), diffusion.schedule()
PARAMS = diffusion.init_embedding_tokens(KEY, {"patch": 3, "region": 2}, 4)
Z = {"patch": np.array([[3.0, 0, 4], [0, 0, 0]]), "region": np.array([[0.0, 2], [1, 1]])}


def test_tokens_are_dense_layers_of_unit_vectors():
    params = jax.tree.map(lambda x: x + 0.5, PARAMS)
    found = np.asarray(diffusion.embedding_tokens(params, Z))
    for n, name in enumerate(("patch", "region")):
        layer = params[name]["layer_0"]
        for row, z in zip(found[:, n], Z[name], strict=True):
            length = np.linalg.norm(z)
            expected = (z / length if length else z) @ layer["kernel"] + layer["bias"]
            np.testing.assert_allclose(row, expected, rtol=1e-5)
    raw = diffusion.embedding_tokens(params, Z, normalise=False)
    assert np.abs(raw[0] - found[0]).max() > 0.1


def test_zeros_are_the_bias_and_have_a_finite_gradient():
    params = {"z": PARAMS["patch"]}
    token = diffusion.embedding_tokens(params, np.zeros((2, 3)))
    np.testing.assert_array_equal(token[:, 0], np.tile(params["z"]["layer_0"]["bias"], (2, 1)))
    slope = jax.grad(lambda z: jnp.sum(diffusion.embedding_tokens(params, z)))(jnp.zeros((2, 3)))
    assert np.isfinite(slope).all()


def test_a_fresh_prior_says_zeros_and_learns_where_its_condition_points():
    params = diffusion.init_embedding_prior(KEY, (2, 3), 2, width=16, layers=1)
    x, condition = jax.random.normal(KEY, (4, 2, 3)), jnp.eye(2)[jnp.array([0, 1, 0, 1])]
    np.testing.assert_array_equal(diffusion.embedding_prior(params, x, jnp.zeros(4), condition), 0 * x)
    loss = diffusion.denoising_loss(TABLE, diffusion.embedding_prior, prediction="x0", drop=0)
    target = jnp.stack([jnp.ones((2, 3)), -jnp.ones((2, 3))] * 16)
    batch = {"images": target, "condition": jnp.tile(jnp.eye(2), (16, 1))}

    @jax.jit
    def trained(params):
        def step(params, key):
            slope = jax.grad(lambda p: loss(p, batch, key).mean())(params)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, slope), None

        return jax.lax.scan(step, params, jax.random.split(KEY, 200))[0]

    options = {"prediction": "x0", "spacing": "trailing", "steps": 10, "condition": condition}
    drawn = diffusion.sample(diffusion.embedding_prior, trained(params), TABLE, KEY, (4, 2, 3), **options)
    np.testing.assert_allclose(drawn, np.tile(target[:2], (2, 1, 1)), atol=0.3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diffusion.embedding_tokens(PARAMS, {"patch": Z["patch"]}), r"z: names \['patch'\]; pass"),
        (
            lambda: diffusion.embedding_tokens(PARAMS, Z | {"region": Z["patch"]}),
            r"region: shape \(2, 3\); pass \[any, 2\]",
        ),
        (
            lambda: diffusion.embedding_prior(
                diffusion.init_embedding_prior(KEY, (4,), width=8), np.ones((1, 5)), np.zeros(1)
            ),
            "layer_0: takes width 4, but its input has shape",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
