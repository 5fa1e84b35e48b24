"""Score maps and the networks that choose them: formulas, limits, order, gradients, Platt scaling."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused
from sklearn.calibration import _SigmoidCalibration

from jaxembed import metrics

RNG = np.random.default_rng(0)
B, K, D = 4, 7, 5
SCORES = RNG.uniform(-1, 1, (B, K)).astype(np.float32)
SCORES[0, 0] = 0
QUERIES = RNG.normal(size=(B, D)).astype(np.float32)
THETA = RNG.normal(size=(B, 3)).astype(np.float32)
SIZES = {"temperature": 1, "offset": 1, "linear": 2, "square_root": 2, "quadratic": 2, "power": 3}
SLOPED = [k for k in SIZES if k != "offset"]


def softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0)


def oracle(x, theta, kind, positive=True, centre=0.0, scale=1.0):
    """One logit of one score, from the table of the docstring."""

    def bent(x, power):
        return math.copysign(abs(x) ** power, x)

    if kind == "offset":
        return (x - centre) / scale + theta[0]
    a = softplus(theta[0]) if positive else theta[0]
    if kind == "temperature":
        return a * x / scale
    power = {"linear": 1, "square_root": 0.5, "quadratic": 2}.get(kind)
    power = 2 / (1 + math.exp(-theta[2])) if power is None else power
    return a * (bent(x, power) - bent(centre, power)) / scale + theta[1]


@pytest.mark.parametrize("form", [{}, {"positive": False}, {"centre": 0.3, "scale": 0.1}], ids=str)
@pytest.mark.parametrize("kind", SIZES)
def test_a_map_equals_its_formula(kind, form):
    options = {"positive_slope" if name == "positive" else name: x for name, x in form.items()}
    found = metrics.score_map(SCORES, THETA[:, : SIZES[kind]], kind=kind, **options)
    wanted = [
        [oracle(float(x), [float(t) for t in row], kind, **form) for x in line]
        for line, row in zip(SCORES, THETA, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)
    again = jax.jit(functools.partial(metrics.score_map, kind=kind, **options))(
        SCORES, THETA[:, : SIZES[kind]]
    )
    np.testing.assert_allclose(again, found, rtol=1e-5, atol=1e-5)


def test_the_raw_map_is_the_score():
    np.testing.assert_array_equal(metrics.score_map(SCORES, kind="raw"), SCORES)
    wide = metrics.score_map(SCORES.astype(jnp.bfloat16), kind="raw")
    assert wide.dtype == np.float32


@pytest.mark.parametrize(("c", "kind"), [(0.0, "linear"), (-math.log(3), "square_root"), (40.0, "quadratic")])
def test_powers_of_one_half_one_and_two_are_their_own_maps(c, kind):
    theta = np.concatenate([THETA[:, :2], np.full((B, 1), c, np.float32)], axis=1)
    found = metrics.score_map(SCORES, theta, kind="power")
    np.testing.assert_allclose(found, metrics.score_map(SCORES, THETA[:, :2], kind=kind), atol=2e-6)


@pytest.mark.parametrize("kind", ["linear", "square_root", "quadratic", "power"])
def test_a_map_is_odd_around_b(kind):
    theta = THETA[:, : SIZES[kind]]
    b = theta[:, 1:2]
    there, back = (metrics.score_map(x, theta, kind=kind) - b for x in (SCORES, -SCORES))
    np.testing.assert_allclose(there, -back, atol=1e-6)


@pytest.mark.parametrize("kind", SLOPED)
def test_a_positive_slope_keeps_every_order_and_a_negative_one_turns_it(kind):
    theta = THETA[:, : SIZES[kind]]
    order = np.argsort(SCORES, axis=1)
    for positive, slope in ((True, -2.0), (False, 2.0)):
        given = theta.copy()
        given[:, 0] = slope
        found = metrics.score_map(SCORES, given, kind=kind, positive_slope=positive)
        np.testing.assert_array_equal(np.argsort(found, axis=1), order)
    theta = np.concatenate([np.full((B, 1), -2.0, np.float32), theta[:, 1:]], axis=1)
    found = metrics.score_map(SCORES, theta, kind=kind, positive_slope=False)
    np.testing.assert_array_equal(np.argsort(found, axis=1), order[:, ::-1])


@pytest.mark.parametrize("kind", SIZES)
def test_gradients_are_finite_at_zero_and_equal_small_differences(kind):
    theta = jnp.asarray(THETA[:1, : SIZES[kind]])

    def total(x, theta):
        return jnp.sum(metrics.score_map(x, theta, kind=kind))

    zero = jax.grad(total, (0, 1))(jnp.zeros((1, 3)), theta)
    assert all(np.isfinite(g).all() for g in zero)
    with jax.enable_x64(True):
        x, theta = jnp.asarray(SCORES[:1, 1:], jnp.float64), jnp.asarray(theta, jnp.float64)
        for place in range(theta.shape[1]):
            step = jnp.zeros_like(theta).at[0, place].set(1e-6)
            slope = (total(x, theta + step) - total(x, theta - step)) / 2e-6
            np.testing.assert_allclose(jax.grad(total, 1)(x, theta)[0, place], slope, rtol=1e-6)


def test_the_gradient_of_the_power_map_is_the_closed_form():
    x, a, c = 0.3, 1.5, 0.4
    k = 2 / (1 + math.exp(-c))
    theta = jnp.array([[a, 0.2, c]])
    found = jax.grad(lambda t: metrics.score_map(jnp.array([[x]]), t, positive_slope=False)[0, 0])(theta)
    by_k = a * x**k * math.log(x) * k * (1 - k / 2)  # dk/dc = 2 s (1 - s)
    np.testing.assert_allclose(found[0], [x**k, 1.0, by_k], rtol=1e-5)


# Networks


def test_the_network_equals_a_loop():
    params = metrics.init_score_adapter(jax.random.key(1), D, kind="power", hidden=(6, 4))
    params = jax.tree.map(lambda x: x + 0.1 * RNG.normal(size=x.shape), params)
    x = QUERIES.astype(float)
    for name in ("layer_0", "layer_1"):
        layer = jax.tree.map(np.asarray, params[name])
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        x = x * layer["norm"]["scale"] + layer["norm"]["bias"]
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    wanted = x @ np.asarray(params["layer_2"]["kernel"]) + np.asarray(params["layer_2"]["bias"])
    found = metrics.score_parameters(params, QUERIES)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    logits = metrics.relevance_logits(params, QUERIES, SCORES)
    np.testing.assert_array_equal(logits, metrics.score_map(SCORES, found))


def test_a_layer_norm_hides_length_and_mean_and_can_be_left_out():
    for norm in (True, False):
        params = metrics.init_score_adapter(jax.random.key(1), D, kind="linear", hidden=(8,), norm=norm)
        params["layer_1"]["kernel"] = jnp.ones((8, 2))
        first, second = (metrics.score_parameters(params, x) for x in (QUERIES, 3 * QUERIES + 1))
        assert np.allclose(first, second, rtol=1e-3) == norm


def test_dropout_is_off_without_a_key_and_keeps_the_mean():
    params = metrics.init_score_adapter(jax.random.key(1), D, kind="offset", hidden=(64,))
    params["layer_1"]["kernel"] = jnp.ones((64, 1))
    plain = metrics.score_parameters(params, QUERIES, dropout=0.5)
    np.testing.assert_array_equal(plain, metrics.score_parameters(params, QUERIES))
    dropped = jax.vmap(lambda k: metrics.score_parameters(params, QUERIES, dropout=0.5, key=k))
    many = dropped(jax.random.split(jax.random.key(0), 2000))
    assert np.std(many, axis=0).min() > 0.1
    np.testing.assert_allclose(many.mean(axis=0), plain, rtol=0.05)


@pytest.mark.parametrize("kind", SIZES)
def test_a_fresh_adapter_is_one_map_for_all_queries(kind):
    params = metrics.init_score_adapter(jax.random.key(0), D, kind=kind, hidden=(6,))
    found = metrics.score_parameters(params, QUERIES)
    assert found.shape == (B, SIZES[kind]) and np.all(np.asarray(found) == 0)
    labels = RNG.uniform(-1, 1, SCORES.shape) < SCORES
    pooled = metrics.relevance_logits(params, QUERIES, SCORES, kind=kind)
    assert metrics.pr_auc(labels, pooled) == pytest.approx(
        metrics.pr_auc(labels, SCORES)
    )  # nothing is reordered


def test_raw_needs_no_network_and_a_vector_reorders():
    assert metrics.init_score_adapter(jax.random.key(0), D, kind="raw") == {}
    np.testing.assert_array_equal(metrics.relevance_logits({}, QUERIES, SCORES, kind="raw"), SCORES)
    params = metrics.init_score_adapter(jax.random.key(0), D, kind="vector", hidden=(6,))
    params["layer_1"]["kernel"] = jnp.asarray(RNG.normal(size=(6, D)), jnp.float32)
    documents = RNG.normal(size=(B, K, D)).astype(np.float32)
    adapted = np.asarray(metrics.score_parameters(params, QUERIES))
    wanted = [[float(adapted[b] @ documents[b, k]) for k in range(K)] for b in range(B)]
    np.testing.assert_allclose(
        metrics.vector_logits(params, QUERIES, documents), wanted, rtol=1e-4, atol=1e-5
    )


def test_gradients_reach_the_adapter_alone():
    params = metrics.init_score_adapter(jax.random.key(0), D, kind="power", hidden=(6,))
    labels = (SCORES > 0).astype(np.float32)

    def loss(params):
        return jnp.mean(
            optax.sigmoid_binary_cross_entropy(metrics.relevance_logits(params, QUERIES, SCORES), labels)
        )

    gradients = jax.grad(loss)(params)
    assert np.abs(gradients["layer_1"]["bias"]).min() > 0
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_generated_labels_are_learned_to_their_entropy():
    """Bernoulli labels of logits a(q) x + b(q) with linear a and b: the trained logits are the true ones."""
    rng = np.random.default_rng(3)
    queries = rng.normal(size=(3000, 3)).astype(np.float32)
    scores = rng.normal(size=(3000, 20)).astype(np.float32)
    true = (2 + 0.5 * queries[:, :1]) * scores + queries[:, 1:2] - 0.5
    labels = (rng.random(true.shape) < 1 / (1 + np.exp(-true))).astype(np.float32)
    params = metrics.init_score_adapter(jax.random.key(0), 3, kind="linear", hidden=())
    tx = optax.adam(0.03)

    def loss(params):
        logits = metrics.relevance_logits(params, queries, scores, kind="linear", positive_slope=False)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels)), logits

    @jax.jit
    def step(_, carry):
        params, state = carry
        updates, state = tx.update(jax.grad(loss, has_aux=True)(params)[0], state)
        return optax.apply_updates(params, updates), state

    params, _ = jax.lax.fori_loop(0, 400, step, (params, tx.init(params)))
    value, logits = loss(params)
    entropy = np.mean(np.logaddexp(0, true) - true / (1 + np.exp(-true)))
    assert abs(float(value) - entropy) < 0.006
    assert np.abs(logits - true).mean() < 0.06


# Platt scaling


@pytest.mark.parametrize("seed", [0, 1])
def test_platt_scaling_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random(200) < 0.3
    scores = rng.normal(size=200) * 0.2 + 0.3 * labels
    theirs = _SigmoidCalibration().fit(scores, labels)
    found = metrics.fit_platt(labels, scores)
    np.testing.assert_allclose(found, [[-theirs.a_, -theirs.b_]], rtol=2e-4)
    where = rng.random(200) < 0.5
    part = metrics.fit_platt(labels, np.where(where, scores, np.nan), where=where)
    np.testing.assert_allclose(part, metrics.fit_platt(labels[where], scores[where]), rtol=1e-6)


def test_a_temperature_has_no_slope_left_and_classes_told_apart_stay_finite():
    rng = np.random.default_rng(2)
    labels, scores = rng.random(300) < 0.5, rng.normal(size=300)
    scores = scores + labels
    ((a,),) = metrics.fit_platt(labels, scores, kind="temperature")
    targets = np.where(labels, (labels.sum() + 1) / (labels.sum() + 2), 1 / ((~labels).sum() + 2))
    assert abs(np.mean(scores * (1 / (1 + np.exp(-a * scores)) - targets))) < 1e-8
    assert np.isfinite(metrics.fit_platt([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.score_map(SCORES, THETA, kind="cubic"),
            "kind: 'cubic' is unknown; choose one of raw",
        ),
        (lambda: metrics.score_map(SCORES, THETA, kind="linear"), r"parameters: \(4, 3\) .* takes \[B, 2\]"),
        (lambda: metrics.score_map(SCORES, THETA[:3]), r"parameters: \(3, 3\) for 4 queries"),
        (lambda: metrics.score_map(SCORES[0], THETA), r"scores: shape \(7,\)"),
        (lambda: metrics.init_score_adapter(jax.random.key(0), 3, kind="cubic"), "kind: 'cubic' is unknown"),
        (lambda: metrics.fit_platt([0, 0], [0.1, 0.2]), "labels: only negatives; pass pairs of both classes"),
        (lambda: metrics.fit_platt([1, 1], [0.1, 0.2]), "labels: only positives"),
        (
            lambda: metrics.fit_platt([0, 1], [0.1, np.nan]),
            "scores: hold NaN; leave such pairs out by where=",
        ),
        (lambda: metrics.fit_platt([0, 1], [0.1, -np.inf]), "scores: hold an infinity; leave such pairs out"),
        (lambda: metrics.score_map(SCORES), r"parameters: None; 'power' takes \[B, 3\], or choose raw"),
        (lambda: metrics.fit_platt([0, 2], [0.1, 0.2]), "labels: a value outside {0, 1}"),
        (lambda: metrics.fit_platt([0, 1], [0.1]), r"scores: \(1,\) with labels \(2,\)"),
        (lambda: metrics.fit_platt([0, 1], [0.1, 1], kind="power"), "kind: 'power'; choose linear or temp"),
    ],
)
def test_bad_arguments_get_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_queries_of_another_width_are_refused():
    params = metrics.init_score_adapter(jax.random.key(0), D, hidden=())
    with pytest.raises(ValueError, match=r"queries: shape \(4, 4\); pass \[any, 5\]"):
        metrics.score_parameters(params, QUERIES[:, :4])


def test_nan_is_refused_and_under_jit_stays_nan():
    scores, one = jnp.array([[0.5, jnp.nan]]), jnp.ones((1, 2))
    refused("scores: NaN has no", lambda: metrics.score_map(scores, one, kind="linear"))
    refused("parameters: NaN has no", lambda: metrics.score_map(one, one * jnp.nan, kind="linear"))
    params = metrics.init_score_adapter(jax.random.key(0), 2, kind="linear", hidden=())
    refused("scores: NaN has no", lambda: metrics.relevance_logits(params, one, scores, kind="linear"))
    params = metrics.init_score_adapter(jax.random.key(0), 2, kind="vector", hidden=())
    refused("queries: NaN has no", lambda: metrics.vector_logits(params, one * jnp.nan, one[None]))
    refused("documents: NaN has no", lambda: metrics.vector_logits(params, one, one[None] * jnp.nan))
    assert np.isnan(jax.jit(metrics.vector_logits)(params, one * jnp.nan, one[None])).all()
    found = jax.jit(lambda x: metrics.score_map(x, one, kind="linear"))(scores)
    np.testing.assert_array_equal(np.isnan(found), [[False, True]])
