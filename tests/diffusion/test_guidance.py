import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import diffusion

RNG = np.random.default_rng(0)
X, CONDITION = (RNG.normal(size=(3, 2)).astype(np.float32) for _ in range(2))
T = np.array([0, 5, 9])
NULL = np.array([0.5, -0.5], np.float32)


def denoise(params, x, t, condition, key=None):
    return jnp.tanh(x * condition["text"]) + condition["bias"] + t[:, None]


GIVEN = {"text": CONDITION, "bias": CONDITION[:, :1]}
NULLS = {"text": NULL, "bias": NULL[:1]}
C = denoise(None, X, T, GIVEN)
U = denoise(None, X, T, jax.tree.map(lambda n: np.tile(n, (3, 1)), NULLS))


def predicted(scale, null=NULLS, **options):
    return diffusion.guided(denoise, scale, null, **options)({"null": NULLS}, X, T, GIVEN)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 7.5])
def test_both_conventions_are_their_formulas(scale):
    np.testing.assert_allclose(predicted(scale), U + scale * (C - U), rtol=1e-5, atol=1e-5)
    weighted = predicted(scale, convention="weight")
    np.testing.assert_allclose(weighted, (1 + scale) * C - scale * U, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weighted, predicted(1 + scale), rtol=1e-6)


def test_scale_1_and_weight_0_are_no_guidance():
    np.testing.assert_array_equal(predicted(1.0), C)
    np.testing.assert_array_equal(predicted(0.0, convention="weight"), C)


def test_a_scale_may_be_traced_or_differ_by_row_and_a_null_may_be_learned():
    scales = jnp.array([0.0, 1.0, 3.0])
    each = np.stack([predicted(float(s))[i] for i, s in enumerate(scales)])
    np.testing.assert_allclose(jax.jit(predicted)(scales), each, rtol=1e-5, atol=1e-6)
    learned = predicted(3.0, lambda params: params["null"])
    np.testing.assert_array_equal(learned, predicted(3.0))


def test_guidance_of_the_noise_of_x0_and_of_v_is_one_guidance():
    table = diffusion.schedule("cosine", 10)
    t = np.array([1, 5, 8])

    def other(target):
        def converted(params, x, t, condition, key=None):
            return diffusion.convert(table, x, t, denoise(params, x, t, condition), "noise", target)

        return diffusion.guided(converted, 4.0, NULLS)(None, X, t, GIVEN)

    for target in ("x0", "v"):
        back = diffusion.convert(table, X, t, other(target), target, "noise")
        np.testing.assert_allclose(back, other("noise"), rtol=1e-4, atol=1e-4)


def test_the_network_runs_once_on_twice_the_rows():
    shapes = []

    def counted(params, x, t, condition, key=None):
        shapes.append((x.shape, t.shape, condition.shape))
        return x

    diffusion.guided(counted, 2.0, NULL)(None, X, T, CONDITION)
    assert shapes == [((6, 2), (6,), (6, 2))]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: predicted(2.0, None), "null: guidance needs a null condition; pass the one of the training"),
        (lambda: predicted(2.0, convention="g"), "convention='g'; choose one of scale, weight"),
        (
            lambda: predicted(2.0, NULLS | {"text": NULL[:1]}),
            r"null: shape \(1,\) for conditions \(3, 2\); pass \(2,\)",
        ),
        (lambda: predicted(2.0, NULL), "null: another tree than the condition"),
        (lambda: predicted(np.ones(2)), r"scale: shape \(2,\); pass \[3\]"),
        (
            lambda: diffusion.guided(denoise, 2.0, NULLS)(None, X, T),
            "condition: None; a null condition",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
