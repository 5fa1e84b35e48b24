"""Parameters and vectors of fewer than 32 bits: sums, moments and averages are held in float32."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P
from small_run import RULES, TX, Batches, as_numpy, init, loss_fn, run

from jaxembed import losses, metrics, train
from jaxembed.train import TrainState

HALF = jnp.bfloat16


def steps_of(update, params, batch, count):
    """The state after some steps, compiled as one loop."""
    state = TrainState(jnp.int32(0), params, update[0](params))

    @jax.jit
    def run(state):
        return jax.lax.fori_loop(0, count, lambda _, s: update[1](s, batch, jax.random.key(0))[0], state)

    return run(state)


def test_an_average_of_bfloat16_parameters_moves():
    """1,000 steps at .999 from 1 to 2: 2 - .999 ** 1000."""

    def jump(state, batch, key):
        return TrainState(state.step, {"w": jnp.full(2, 2, HALF)}, state.opt_state), {}

    update = train.ema((lambda params: None, jump), 0.999)
    average = steps_of(update, {"w": jnp.ones(2, HALF)}, None, 1000).opt_state["ema"]["w"]
    assert average.dtype == jnp.float32
    np.testing.assert_allclose(average, 2 - 0.999**1000, rtol=1e-5)
    np.testing.assert_allclose(average, 1.632, atol=5e-4)


def test_accumulated_gradients_of_bfloat16_parameters_are_not_lost():
    """1,024 parts, each of gradient 1, and a step of rate 1: -1."""
    update = train.gradient_update(
        lambda p, batch, key: (jnp.mean(p["w"] * batch["x"]).astype(jnp.float32), {}), optax.sgd(1.0), 1024
    )
    state = steps_of(update, {"w": jnp.zeros((), HALF)}, {"x": jnp.ones(1024, HALF)}, 1)
    assert state.params["w"].dtype == HALF
    assert float(state.params["w"]) == -1


def test_moments_of_bfloat16_parameters_are_those_of_float32():
    """The second moment at .999 stands still in bfloat16 as soon as a step changes it by less than 1/256."""
    quadratic = lambda p, batch, key: (jnp.sum(p["w"].astype(jnp.float32) * batch["x"]), {})  # noqa: E731
    update = train.gradient_update(quadratic, optax.adam(0.0))
    state = steps_of(update, {"w": jnp.ones(2, HALF)}, {"x": jnp.ones(2)}, 1000)
    moments = state.opt_state[0]
    assert moments.nu["w"].dtype == moments.mu["w"].dtype == jnp.float32
    np.testing.assert_allclose(moments.nu["w"], 1 - 0.999**1000, rtol=1e-4)
    assert state.params["w"].dtype == HALF


def test_chunks_of_a_lean_encoder_add_their_gradients_in_float32():
    encode = losses.cached(lambda params, batch, key=None: params["w"] * batch["x"], 1024)
    batch = {"x": jnp.full((1024, 1), 1 / 1024, HALF)}

    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: jnp.sum(encode(p, batch), dtype=jnp.float32))(params)

    found = gradient({"w": jnp.ones(1, HALF)})["w"]
    assert found.dtype == HALF
    assert float(found[0]) == 1


@pytest.mark.parametrize("loss", [losses.info_nce, losses.sigmoid_loss])
def test_unit_vectors_are_not_rounded_before_the_product(loss):
    rng = np.random.default_rng(0)
    vectors = [jnp.asarray(rng.normal(size=(16, 64)), HALF) for _ in range(2)]
    wide = [v.astype(jnp.float32) for v in vectors]
    np.testing.assert_allclose(loss(*vectors), loss(*wide), rtol=1e-6)
    found, expected = (jax.grad(lambda v: jnp.sum(loss(*v)))(x) for x in (vectors, wide))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == HALF
        chex.assert_trees_all_equal(a, b.astype(HALF))  # rounded once


def test_a_guide_of_bfloat16_vectors_is_compared_in_float32():
    rng = np.random.default_rng(0)
    vectors = [jnp.asarray(rng.normal(size=(32, 8)), HALF) for _ in range(2)]
    wide = [v.astype(jnp.float32) for v in vectors]
    np.testing.assert_array_equal(losses.guided_mask(*vectors), losses.guided_mask(*wide))


def test_margins_of_a_bfloat16_teacher_are_taken_in_float32():
    rng = np.random.default_rng(0)
    teacher = jnp.asarray(100 + rng.normal(size=(4, 3)), HALF)
    x = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((4, 5), (4, 5), (4, 2, 5))]
    found = losses.margin_mse(*x, teacher=teacher)
    np.testing.assert_allclose(found, losses.margin_mse(*x, teacher=teacher.astype(jnp.float32)), rtol=1e-6)


def test_sizes_add_their_gradients_in_float32():
    sizes, x = tuple(range(1, 65)), jnp.ones((2, 64), HALF)
    nested = losses.matryoshka(lambda v: jnp.sum(v[..., :1], axis=1) / 256 + 1.0, sizes)
    found = jax.grad(lambda v: jnp.sum(nested(v)))(x)
    expected = jax.grad(lambda v: jnp.sum(nested(v)))(x.astype(jnp.float32))
    np.testing.assert_array_equal(found, expected.astype(HALF))


@pytest.mark.parametrize("dtype", [np.float16, HALF])
def test_a_mean_of_narrow_values_is_float32(dtype):
    values = jnp.full(70001, 1, dtype)
    found = metrics.masked_mean(values, np.ones(70001, bool))
    assert found.dtype == np.float32 and found == 1


def test_logged_means_of_bfloat16_losses(tmp_path):
    """300 losses of 1 and a sum that stops at 256 in bfloat16."""
    train.fit(
        init=lambda key: {"w": jnp.ones(1, HALF)},
        loss_fn=lambda p, batch, key: (jnp.sum(p["w"] * batch["x"]), {}),
        tx=optax.sgd(0.0),
        batches=[{"x": np.ones(1, np.float32).astype(HALF)}] * 300,
        steps=300,
        log_every=300,
        mesh=train.make_mesh(1),
        workdir=tmp_path,
        progress=False,
    )
    assert train.read_metrics(tmp_path)[-1]["loss"] == 1


# A run that is resumed in another dtype


def resumed(tmp_path, first, second, **options):
    def start(dtype):
        return lambda key: {"w": jnp.full(4, 1.0009766, dtype)}

    def fit(steps, dtype, tx=optax.adam(0.0)):  # noqa: B008
        return train.fit(
            init=start(dtype),
            loss_fn=lambda p, batch, key: (jnp.sum(p["w"].astype(jnp.float32) * batch["x"]), {}),
            tx=tx,
            batches=[{"x": np.ones(4, np.float32)}] * 3,
            steps=steps,
            mesh=train.make_mesh(1),
            workdir=tmp_path,
            progress=False,
        )

    fit(1, first)
    return fit(2, second, **options)


@pytest.mark.parametrize(("first", "second"), [(jnp.float32, HALF), (HALF, jnp.float32), (HALF, jnp.float16)])
def test_another_dtype_of_the_parameters_is_refused_by_name(tmp_path, first, second):
    names = f"holds parameter w as {jnp.dtype(first)}, here it is {jnp.dtype(second)}; keep"
    with pytest.raises(ValueError, match=names) as caught:
        resumed(tmp_path, first, second)
    assert "\n" not in str(caught.value)


def test_another_dtype_of_the_optimizer_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"holds opt_state/0/mu/w as float32, here it is bfloat16; keep"):
        resumed(tmp_path, jnp.float32, jnp.float32, tx=optax.adam(0.0, mu_dtype=HALF))


def test_the_same_dtype_resumes(tmp_path):
    state = resumed(tmp_path, jnp.float32, jnp.float32)
    np.testing.assert_array_equal(state.params["w"], np.float32(1.0009766))


def test_accumulated_gradient_equals_the_whole():
    def quiet(params, batch, key):
        del key
        return loss_fn(params, batch, jax.random.key(0))[0] * 0 + jnp.mean(
            (params["table"]["embedding"][batch["ids"]] @ params["head"]["kernel"] - batch["targets"]) ** 2
        ), {}

    whole = run(loss_fn=quiet)
    parts = run(update=train.gradient_update(quiet, TX, accumulate=2))
    chex.assert_trees_all_close(as_numpy(parts.params), as_numpy(whole.params), atol=1e-5)
    with pytest.raises(ValueError, match="accumulate=3 does not divide ids"):
        run(update=train.gradient_update(quiet, TX, accumulate=3))


def test_accumulation_hands_shared_leaves_over_whole():
    """Ids that point into distinct rows of the batch, as a row-sparse step or shared words have them."""

    class Pointing(Batches):
        def __getitem__(self, t):
            batch = super().__getitem__(t)
            rows, batch["ids"] = np.unique(batch["ids"], return_inverse=True)
            batch["ids"] = batch["ids"].astype(np.int32)
            return batch | {"rows": {"table": np.resize(rows, 16).astype(np.int32)}}

    def pointing(params, batch, key):
        small = params["table"]["embedding"][batch["rows"]["table"]]
        return jnp.mean((small[batch["ids"]] @ params["head"]["kernel"] - batch["targets"]) ** 2), {}

    whole = run(loss_fn=pointing, batches=Pointing())
    parts = run(update=train.gradient_update(pointing, TX, accumulate=4), batches=Pointing())
    chex.assert_trees_all_close(as_numpy(parts.params), as_numpy(whole.params), atol=1e-5)

    def worded(params, batch, key):
        return pointing(params, {**batch, "rows": batch["words"]}, key)

    class Worded(Pointing):
        def __getitem__(self, t):
            batch = super().__getitem__(t)
            return {**{n: x for n, x in batch.items() if n != "rows"}, "words": batch["rows"]}

    update = train.gradient_update(worded, TX, accumulate=4, shared=r"^words/")
    own = run(update=update, batches=Worded())
    chex.assert_trees_all_close(as_numpy(own.params), as_numpy(parts.params), atol=1e-6)


def test_ema_follows_its_formula(tmp_path):
    update = train.ema(train.gradient_update(loss_fn, TX), 0.5)
    mesh = train.make_mesh(1)
    init_key = jax.random.split(jax.random.key(0))[0]
    expected = as_numpy(jax.jit(init)(init_key))
    for steps in (1, 2, 3):
        expected = jax.tree.map(
            lambda e, p: 0.5 * e + 0.5 * np.asarray(p), expected, run(steps=steps, mesh=mesh).params
        )
    state = run(update=update, steps=3, mesh=train.make_mesh(2, 4), rules=RULES, workdir=tmp_path)
    chex.assert_trees_all_close(as_numpy(state.opt_state["ema"]), expected, atol=2e-6)
    assert state.opt_state["ema"]["table"]["embedding"].sharding.spec == P("model", None)
    with pytest.raises(ValueError, match="decay=1"):
        train.ema(update, 1)


def test_a_loss_may_read_the_average_as_a_momentum_encoder():
    """Pulled to its own average, kept at 0.5: each step halves the way, with a schedule too."""

    def pull(params, batch, key):
        gap = params["w"] - batch["momentum"]["w"] - batch["x"]
        return jnp.sum(gap**2) / 2, {"average": jnp.sum(batch["momentum"]["w"])}

    batch = {"x": jnp.ones(1)}
    for decay in (0.5, lambda step: jnp.where(step < 9, 0.5, 0.9)):
        update = train.ema(train.gradient_update(pull, optax.sgd(1.0)), decay, into="momentum")
        state = steps_of(update, {"w": jnp.zeros(1)}, batch, 2)
        # Rate 1 puts w at average + 1: w = 1, average 0.5; then w = 1.5, average 1.
        np.testing.assert_allclose(state.params["w"], [1.5])
        np.testing.assert_allclose(state.opt_state["ema"]["w"], [1.0])
    with pytest.raises(ValueError, match="into='momentum': the batch holds that already; choose another"):
        steps_of(update, {"w": jnp.zeros(1)}, batch | {"momentum": jnp.ones(1)}, 1)


def test_a_schedule_of_decays_is_read_at_every_step():
    update = train.ema(train.gradient_update(loss_fn, TX), lambda step: jnp.where(step < 1, 0.0, 1.0))
    first, third = (run(update=update, steps=steps) for steps in (1, 3))
    chex.assert_trees_all_close(as_numpy(third.opt_state["ema"]), as_numpy(first.params), atol=1e-6)


def test_frozen_parameters_stay_and_others_move():
    state = run(tx=train.frozen(TX, r"^table/"))
    first = as_numpy(jax.jit(init)(jax.random.split(jax.random.key(0))[0]))
    np.testing.assert_array_equal(state.params["table"]["embedding"], first["table"]["embedding"])
    assert np.abs(state.params["head"]["kernel"] - first["head"]["kernel"]).max() > 1e-3
    with pytest.raises(ValueError, match="matches no parameter"):
        run(tx=train.frozen(TX, "nothing"))


def test_rules_by_path_are_their_own_optimizers():
    mixed = run(tx=train.by_path([(r"^table/", optax.sgd(0.1))], TX), steps=1)
    for tx, part in ((optax.sgd(0.1), "table"), (TX, "head")):
        chex.assert_trees_all_close(mixed.params[part], run(tx=tx, steps=1).params[part], atol=1e-6)


def test_steps_whose_gradient_is_not_finite_can_be_skipped():
    """A batch of NaN leaves no trace: the run ends where one without it ends."""

    def loss_fn(params, batch, key):
        return jnp.sum((params["w"] - batch["x"]) ** 2), {}

    def ended(values):
        update = train.gradient_update(loss_fn, optax.apply_if_finite(optax.adam(0.1), 3))
        state = TrainState(jnp.int32(0), {"w": jnp.zeros(2)}, update[0]({"w": jnp.zeros(2)}))
        for x in values:
            state = update[1](state, {"x": jnp.full(2, x)}, jax.random.key(0))[0]
        return state

    skipped, plain = ended([1.0, np.nan, 2.0, np.inf, 3.0]), ended([1.0, 2.0, 3.0])
    chex.assert_trees_all_equal(skipped.params, plain.params)
    assert int(skipped.opt_state.total_notfinite) == 2
    assert np.isnan(ended([1.0, *[np.nan] * 4]).params["w"]).all()  # more than three in a row are no accident
