"""Contrastive losses: loops from the formulas, closed forms, guides, and what is refused."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import oracles_losses
import pytest
from loss_families import BLOCKS, ROWS, TARGETS, B, D, N, columns, rows, vectors

from jaxembed import losses
from jaxembed.arrays import inner, unit


def test_numpy_float64_vectors_are_taken_as_float32():
    q, d = vectors()
    expected = losses.info_nce(q, d)
    np.testing.assert_allclose(
        losses.info_nce(q.astype(np.float64), d.astype(np.float64)), expected, atol=1e-6
    )
    np.testing.assert_allclose(losses.softmax_loss(np.eye(3)), losses.softmax_loss(jnp.eye(3)), atol=1e-6)


# Oracles


POSITIVES = {
    "none": None,
    "numbers": np.array([4, 0, 7, 7, 1]),
    "bool": np.random.default_rng(3).random((B, N)) < 0.3,
    "one row empty": np.eye(B, N, dtype=bool) & (np.arange(B) != 2)[:, None],
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", POSITIVES)
def test_softmax_loss_equals_the_oracle(kind, masked):
    rng = np.random.default_rng(0)
    scores = (3 * rng.normal(size=(B, N))).astype(np.float32)
    where = rng.random((B, N)) < 0.6 if masked else None
    options = {"positives": POSITIVES[kind], "where": where, "temperature": 0.7}
    value = losses.softmax_loss(scores, **options)
    np.testing.assert_allclose(value, oracles.softmax_loss(scores, **options), rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda s: jnp.sum(losses.softmax_loss(s, **options)))(jnp.asarray(scores))
    np.testing.assert_allclose(np.asarray(gradient).sum(axis=1), 0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", POSITIVES)
@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_info_nce_equals_the_oracle(blocks, kind, masked):
    q, d = vectors()
    where = np.random.default_rng(2).random((B, columns(blocks))) < 0.6 if masked else None
    options = {"positives": POSITIVES[kind], "where": where, "blocks": blocks, "temperature": 0.2}
    expected = oracles.info_nce(q, d, **options)
    np.testing.assert_allclose(losses.info_nce(q, d, **options), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hardened", ["all", "batch", "hard"])
def test_hardness_adds_the_cosine_to_the_logits_of_negatives(hardened):
    """A loop over the formula: the own document never, the own hard negatives by the mode."""
    rng = np.random.default_rng(3)
    q, d = rng.normal(size=(4, 6)), rng.normal(size=(12, 6))  # two hard negatives for each query
    expected = []
    for i, query in enumerate(q):
        logits = []
        for j, document in enumerate(d):
            cosine = query @ document / np.linalg.norm(query) / np.linalg.norm(document)
            own_hard = j >= 4 and j % 4 == i
            counts = {"all": j != i, "batch": j % 4 != i, "hard": own_hard}[hardened]
            logits.append(cosine / 0.2 + 3 * cosine * counts)
        expected.append(np.log(np.exp(logits).sum()) - logits[i])
    given = {"temperature": 0.2, "hardness": 3.0, "hardened": hardened}
    np.testing.assert_allclose(losses.info_nce(q, d, **given), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="hardened='near'"):
        losses.info_nce(q, d, hardened="near")


def test_hardness_sends_no_gradient_of_its_own_and_leaves_chosen_positives_alone():
    q, d = vectors()
    bonus = 9 * np.asarray(inner(unit(q), unit(d))) * ~np.eye(B, N, dtype=bool)

    def fixed(q):
        return jnp.sum(losses.softmax_loss(inner(unit(q), unit(d)) / 0.05 + bonus))

    slope = jax.grad(lambda q: jnp.sum(losses.info_nce(q, d, hardness=9.0)))(jnp.asarray(q))
    np.testing.assert_allclose(slope, jax.grad(fixed)(jnp.asarray(q)), rtol=1e-4, atol=1e-5)
    every = np.ones((B, N), bool)  # all are positives, so nothing is left to harden
    values = [losses.info_nce(q, d, positives=every, hardness=h) for h in (0.0, 9.0)]
    np.testing.assert_array_equal(*values)


@pytest.mark.peers
@pytest.mark.parametrize("directions", [("qd",), ("qd", "qq", "dd", "dq")], ids="+".join)
@pytest.mark.parametrize("mode", [("all", "all"), ("batch", "in_batch"), ("hard", "hard")])
def test_hardness_equals_sentence_transformers(mode, directions):
    package = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    torch = pytest.importorskip("torch")
    names = {"qd": "query_to_doc", "qq": "query_to_query", "dq": "doc_to_query", "dd": "doc_to_doc"}
    loss = package.MultipleNegativesRankingLoss(
        None,
        hardness_mode=f"{mode[1]}_negatives",
        hardness_strength=5.0,
        directions=tuple(names[d] for d in directions),
    )
    q, p, n = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    expected = loss.compute_loss_from_embeddings([torch.tensor(x) for x in (q, p, n)], None)
    options = {"hardness": 5.0, "hardened": mode[0], "blocks": directions}
    value = losses.info_nce(q, np.concatenate([p, n]), **options)
    np.testing.assert_allclose(jnp.mean(value), float(expected), rtol=1e-5)


# Closed forms


@pytest.mark.parametrize(("rows", "scale"), [(2, 1.0), (3, 20.0), (6, 5.0)])
def test_orthonormal_vectors(rows, scale):
    eye = jnp.eye(6)[:rows]
    value = losses.info_nce(eye, eye, temperature=1 / scale)
    np.testing.assert_allclose(value, math.log1p((rows - 1) * math.exp(-scale)), rtol=1e-5)


def test_a_tiny_loss_keeps_its_digits_in_float32():
    eye = jnp.eye(2)
    np.testing.assert_allclose(losses.info_nce(eye, eye, temperature=0.05), 2.0612e-9, rtol=1e-3)
    gradient = jax.grad(lambda s: losses.softmax_loss(s)[0])(20 * eye)
    np.testing.assert_allclose(gradient[0, 1], 2.0612e-9, rtol=1e-3)


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_equal_vectors(blocks):
    same = jnp.ones((4, 3))
    candidates = sum({"qd": 4, "qq": 3, "dd": 3, "dq": 4}[block] for block in blocks)
    np.testing.assert_allclose(losses.info_nce(same, same, blocks=blocks), math.log(candidates), rtol=1e-6)


def test_gradient_of_the_scores_is_softmax_minus_one_hot():
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32))
    gradient = jax.grad(lambda s: jnp.sum(losses.softmax_loss(s)))(scores)
    np.testing.assert_allclose(gradient, jax.nn.softmax(scores) - np.eye(4, 7), atol=1e-6)


def test_a_high_temperature_gives_the_log_of_the_number_of_candidates():
    q, d = vectors()

    def total(q):
        value = losses.info_nce(q, d, temperature=1e7)
        return jnp.sum(value), value

    gradient, value = jax.grad(total, has_aux=True)(jnp.asarray(q))
    np.testing.assert_allclose(value, math.log(N), rtol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_both_directions_are_the_sum_of_two_calls():
    q, d = vectors()
    both = losses.info_nce(q, d[:B]) + losses.info_nce(d[:B], q)
    turned = losses.info_nce(d[:B], q) + losses.info_nce(q, d[:B])
    np.testing.assert_allclose(both, turned, rtol=1e-6)
    cosines = oracles.inner(oracles.unit(q), oracles.unit(d[:B])) / 0.05
    expected = oracles.softmax_loss(cosines) + oracles.softmax_loss(cosines.T)
    np.testing.assert_allclose(both, expected, rtol=1e-5)


def test_temperature_may_be_traced_and_learned():
    q, d = vectors()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(temperature):
        return jax.value_and_grad(lambda t: jnp.mean(losses.info_nce(q, d, temperature=t)))(temperature)

    chex.clear_trace_counter()
    values = [run(jnp.float32(t))[0] for t in (0.1, 1.0)]
    expected = [oracles.info_nce(q, d, temperature=t).mean() for t in (0.1, 1.0)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    slope = (
        oracles.info_nce(q, d, temperature=0.5001).mean() - oracles.info_nce(q, d, temperature=0.4999).mean()
    ) / 2e-4
    np.testing.assert_allclose(run(jnp.float32(0.5))[1], slope, rtol=1e-3)


def test_two_views_of_every_row_are_the_ntxent_of_optax():
    q, _ = vectors()
    views = np.concatenate([q, vectors(1)[0]])
    labels = np.tile(np.arange(B), 2)
    expected = optax.losses.ntxent(jnp.asarray(views), jnp.asarray(labels), temperature=0.1)
    cosines = jnp.asarray(oracles.inner(oracles.unit(views), oracles.unit(views)), jnp.float32)
    partner = (np.arange(2 * B) + B) % (2 * B)
    value = losses.softmax_loss(cosines, positives=partner, where=~np.eye(2 * B, dtype=bool), temperature=0.1)
    np.testing.assert_allclose(jnp.mean(value), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": ("qq",)}, "a subset of"),
        ({"blocks": ("qd", "xx")}, "a subset of"),
        ({"documents": np.ones((3, D), np.float32)}, "documents: 3 rows for 5 queries"),
        (
            {"documents": np.ones((3, D), np.float32), "blocks": ("qd", "dd")},
            '"dd" needs a document per query',
        ),
        (
            {"documents": np.ones((N, D + 1), np.float32)},
            r"documents: shape \(8, 7\); pass \[any, 6\]",
        ),
        ({"where": np.ones((B, N + 1), bool)}, r"where: shape \(5, 9\); pass \[5, 8\]"),
        ({"where": np.ones((B, N), bool), "blocks": ("qd", "qq")}, r"where: .* pass \[5, 13\]"),
        ({"positives": np.ones((B, N + 1), bool)}, r"positives: shape \(5, 9\); pass"),
        ({"positives": np.arange(B + 1)}, r"positives: shape \(6,\); pass \[5\]"),
        ({"queries": np.ones(D, np.float32)}, r"queries: shape \(6,\); pass \[any, any\]"),
    ],
)
def test_wrong_arguments_of_info_nce_raise(change, message):
    q, d = vectors()
    arguments = {"queries": q, "documents": d} | change
    with pytest.raises(ValueError, match=message):
        losses.info_nce(**arguments)


def test_fewer_columns_than_rows_need_positives():
    with pytest.raises(ValueError, match="positives: needed, because 3 rows have only 2 columns"):
        losses.softmax_loss(jnp.zeros((3, 2)))
    value = losses.softmax_loss(jnp.zeros((3, 2)), positives=jnp.array([0, 1, 1]))
    np.testing.assert_allclose(value, math.log(2), rtol=1e-6)


def test_an_empty_document_is_no_candidate_and_sends_no_nan():
    scores = jnp.array([[1.0, -jnp.inf], [0.0, -jnp.inf]])
    np.testing.assert_array_equal(losses.softmax_loss(scores), [0, 0])
    slope = jax.grad(lambda t: losses.softmax_loss(scores, temperature=t).sum())(0.5)
    assert np.isfinite(slope)


@pytest.mark.parametrize("positives", [None, np.array([4, 0, 7, 7, 1]), POSITIVES["bool"]], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_sigmoid_loss_equals_the_oracle(masked, positives):
    q, d = vectors()
    where = np.random.default_rng(2).random((B, N)) < 0.6 if masked else None
    options = {"positives": positives, "where": where, "temperature": 0.2, "bias": -3.0}
    value = losses.sigmoid_loss(q, d, **options)
    np.testing.assert_allclose(value, oracles_losses.sigmoid_loss(q, d, **options), rtol=1e-4)


@pytest.mark.parametrize("bias", [-10.0, 0.0])
def test_orthogonal_pairs_have_the_closed_form_of_the_sigmoid_loss(bias):
    q, d = jnp.eye(8)[:4], jnp.eye(8)[4:]
    expected = math.log1p(math.exp(-bias)) + 3 * math.log1p(math.exp(bias))
    np.testing.assert_allclose(losses.sigmoid_loss(q, d, bias=bias), expected, rtol=1e-6)


def test_scale_and_bias_of_the_sigmoid_loss_are_learned():
    q, d = vectors()

    def total(params):
        value = losses.sigmoid_loss(q, d, temperature=jnp.exp(params["log"]), bias=params["bias"])
        return jnp.mean(value)

    params = {"log": jnp.log(0.1), "bias": jnp.float32(-10.0)}
    slope = jax.jit(jax.grad(total))(params)
    for name in params:
        up, down = ({**params, name: params[name] + step} for step in (1e-2, -1e-2))
        np.testing.assert_allclose(slope[name], (total(up) - total(down)) / 2e-2, rtol=1e-2)


def test_symmetric_transposes_its_masks():
    q, d = vectors()
    d = d[:B]
    where = np.random.default_rng(0).random((B, B)) < 0.5
    value = losses.symmetric(losses.info_nce)(q, d, where=where, positives=np.eye(B, dtype=bool))
    expected = (oracles.info_nce(q, d, where=where) + oracles.info_nce(d, q, where=where.T)) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(losses.symmetric(losses.info_nce)(d, q, where=where.T), expected, rtol=1e-5)


def test_symmetric_takes_hard_negatives_and_masks():
    """Documents after the first B are negatives of the queries and have none to find themselves."""
    q, d = vectors()
    rng = np.random.default_rng(0)
    where, positives = rng.random((B, N)) < 0.5, np.eye(B, N, dtype=bool)
    value = losses.symmetric(losses.info_nce)(q, d, where=where, positives=positives)
    turned = oracles.info_nce(d[:B], q, where=where[:, :B].T)
    np.testing.assert_allclose(value, (oracles.info_nce(q, d, where=where) + turned) / 2, rtol=1e-5)
    layers = jnp.stack([d, d], axis=1)  # and vectors of more axes, as of over_layers
    both = losses.symmetric(losses.over_layers(losses.info_nce, [(1, D)]))
    expected = losses.symmetric(losses.info_nce)(q, d)
    np.testing.assert_allclose(both(jnp.stack([q, q], axis=1), layers), expected, rtol=1e-5)


def test_all_four_blocks_are_the_loss_of_gte():
    rng = np.random.default_rng(1)
    q, d = rng.normal(size=(16, 24)), rng.normal(size=(16, 24))
    value = losses.info_nce(q, d, blocks=("qd", "qq", "dd", "dq"))
    np.testing.assert_allclose(value.mean(), 9.298, atol=5e-4)
    np.testing.assert_allclose(losses.info_nce(q, d, blocks=("qd", "qq", "dd")).mean(), 8.923, atol=5e-4)


TEMPERED = {
    "softmax_loss": lambda x, y, t: losses.softmax_loss(x @ y.T, temperature=t),
    "info_nce": lambda x, y, t: losses.info_nce(x, y, temperature=t),
    "sigmoid_loss": lambda x, y, t: losses.sigmoid_loss(x, y, temperature=t),
    "ranking_loss": lambda x, y, t: losses.ranking_loss(x[:, 0], targets=TARGETS, temperature=t),
    "cosent": lambda x, y, t: losses.cosent(x, y, targets=TARGETS, temperature=t),
    "angle": lambda x, y, t: losses.angle(x, y, targets=TARGETS, temperature=t),
    "score_kl": lambda x, y, t: losses.score_kl(x, teacher=y, temperature=t),
    "vector_kl": lambda x, y, t: losses.vector_kl(x, teacher=y, temperature=t),
    "frozen_softmax": lambda x, y, t: losses.frozen_softmax(
        x, y, positives=np.zeros(ROWS, int), temperature=t
    ),
}


@pytest.mark.parametrize("name", TEMPERED)
def test_temperatures_are_above_zero(name):
    x, y = map(jnp.asarray, rows())
    for wrong in (0, 0.0, -1, math.nan, np.float32(0), np.zeros(1)):
        with pytest.raises(ValueError, match=r"temperature: \S+ is not above 0; pass a positive number$"):
            TEMPERED[name](x, y, wrong)
    np.testing.assert_allclose(
        jax.jit(functools.partial(TEMPERED[name], x, y))(0.5), TEMPERED[name](x, y, 0.5), rtol=1e-5, atol=1e-6
    )


# The in-batch switch


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_without_in_batch_negatives_each_row_is_a_batch_of_its_own(blocks):
    rng = np.random.default_rng(0)
    q, d = rng.normal(size=(4, D)).astype(np.float32), rng.normal(size=(12, D)).astype(np.float32)
    off = losses.info_nce(q, d, blocks=blocks, in_batch=False)
    alone = [losses.info_nce(q[i : i + 1], d[i::4], blocks=blocks)[0] for i in range(4)]
    np.testing.assert_allclose(off, alone, rtol=1e-5)
    switch = np.array([True, False, True, False])
    on = losses.info_nce(q, d, blocks=blocks)
    mixed = jax.jit(lambda s: losses.info_nce(q, d, blocks=blocks, in_batch=s))(switch)
    np.testing.assert_allclose(mixed, np.where(switch, on, off), rtol=1e-5)
    mask = losses.in_batch_mask(switch, 4, 12, blocks)
    np.testing.assert_allclose(losses.info_nce(q, d, blocks=blocks, where=mask), mixed, rtol=1e-5)


def test_without_in_batch_negatives_and_hard_ones_there_is_no_loss():
    q, d = np.eye(3, dtype=np.float32), np.ones((3, 3), np.float32)
    value, slope = jax.value_and_grad(lambda x: jnp.sum(losses.info_nce(x, d, in_batch=False)))(q)
    assert value == 0 and not np.asarray(slope).any()


def test_a_switch_that_does_not_fit_is_refused():
    q, d = vectors()
    for given, message in (
        ({"in_batch": False}, "documents: 8 rows for 5 queries; in_batch needs"),
        ({"in_batch": np.ones(3, bool), "documents": d[:5]}, r"in_batch: shape \(3,\)"),
        ({"in_batch": False, "positives": np.arange(5)}, "in_batch: needs row i to answer query i"),
    ):
        with pytest.raises(ValueError, match=message):
            losses.info_nce(q, **{"documents": d} | given)
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="hardness: .* pass a finite number"):
            losses.info_nce(q, d, hardness=number)
    with pytest.raises(ValueError, match=r"blocks=\('zz',\): some of"):
        losses.in_batch_mask(True, 2, 4, ("zz",))
