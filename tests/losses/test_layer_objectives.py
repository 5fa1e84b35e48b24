"""2DMSE, ESE and Starbucks as finished objectives, and the pulls towards the last layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_losses
import pytest

from jaxembed import losses

L, D, SIZES = 4, 16, (4, 8, 16)
LIST = ((1, 4), (2, 8), (4, 16))
LABELS = np.array([0, 1, 0, 1, 2, 2])
cosines = functools.partial(losses.score_kl_to_last, temperature=0.1)


@pytest.fixture(scope="module")
def layers():
    return np.random.default_rng(0).normal(size=(2, 6, L + 1, D)).astype(np.float32)


def supervised(vectors):
    return losses.info_nce(vectors, vectors, temperature=0.1, **losses.label_pairs(LABELS))


def profile(vectors, last):
    return oracles_losses.kl(vectors, last[:, : vectors.shape[1]])


def ranks(vectors, last):
    x, y = (oracles.inner(v, v) for v in map(oracles.unit, (vectors, last)))
    return oracles_losses.kl(x, y, ~np.eye(len(x), dtype=bool), temperature=0.1)


def compressed(vectors, last, size=4):
    target = oracles_losses.compression_target(vectors, size)
    kl = oracles_losses.kl(vectors[:, :size], target)
    return ((vectors[:, :size] - target) ** 2).mean(axis=1) + kl


def drawn(key, weighting):
    """The shallow layer and the short size of a step, as the weights of 2DMSE tell them."""
    grid = losses.full_grid(range(1, L + 1), SIZES)
    weights = np.asarray(losses.two_dimensional_weights(key, grid, weighting=weighting))
    ((n, size),) = [pair for pair, w in zip(grid, weights, strict=True) if w and pair[0] < L and pair[1] < D]
    return n, size


@pytest.mark.parametrize("weighting", ["uniform", "linear", "log"])
def test_2dmse_is_its_formula(layers, weighting):
    objective, seen = losses.two_dimensional(losses.info_nce, L, SIZES, weighting=weighting), set()
    step = jax.jit(objective)
    for seed in range(6):
        key = jax.random.key(seed)
        n, size = drawn(key, weighting)
        w = losses.layer_weights(weighting, L)[n - 1]
        pairs, weights = [(L, D), (L, size), (n, D), (n, size)], [1, 1, w, w]
        rest = (profile, [(n, D), (L, D)], [1, 1])
        wanted = oracles_losses.layer_objective(oracles.info_nce, pairs, weights, *rest, *layers)
        np.testing.assert_allclose(step(key, *layers), wanted, rtol=1e-5)
        seen.add((n, size))
    assert len(seen) > 2


def test_2dmse_of_one_array_pulls_scores_or_nothing(layers):
    key = jax.random.key(3)
    n, size = drawn(key, "uniform")
    pairs, q = [(L, D), (L, size), (n, D), (n, size)], layers[:1]
    for pull, slow in ((cosines, ranks), (losses.vector_kl_to_last, profile), (None, None)):
        pulled = [(n, D), (L, D)] if pull else []
        rest = (slow, pulled, [1] * len(pulled))
        wanted = oracles_losses.layer_objective(supervised, pairs, [1] * 4, *rest, *q)
        found = losses.two_dimensional(supervised, L, SIZES, pull=pull)(key, *q)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_ese_is_its_formula(layers):
    weights = [1 / (1 + np.log(n)) / (L - 1) for n in range(1, L)] + [1, 1]
    grid, whole = [*((n, 4) for n in range(1, L + 1)), (L, D)], [(n, D) for n in range(1, L + 1)]
    for arrays, loss, slow in (
        (layers, losses.info_nce, oracles.info_nce),
        (layers[:1], supervised, supervised),
    ):
        wanted = oracles_losses.layer_objective(slow, grid, weights, compressed, whole, weights[:L], *arrays)
        found = losses.espresso(loss, L, D, 4)(None, *arrays)
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
        wanted = oracles_losses.layer_objective(slow, grid, weights, None, [], [], *arrays)
        found = losses.espresso(loss, L, D, 4, compress=False)(None, *arrays)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_starbucks_is_its_formula(layers):
    one = layers[:1]
    for pull, slow in ((cosines, ranks), (losses.vector_kl_to_last, profile), (None, None)):
        pulled = LIST[:-1] if pull else ()
        rest = (slow, pulled, [1] * len(pulled))
        wanted = oracles_losses.layer_objective(supervised, LIST, [1] * 3, *rest, *one)
        np.testing.assert_allclose(
            losses.starbucks(supervised, LIST, pull=pull)(None, *one), wanted, rtol=1e-5
        )
    queries, documents = (oracles.unit(x[:, -1]) for x in layers)
    teacher = oracles.inner(queries, documents)
    wanted = oracles_losses.layer_objective(oracles.info_nce, LIST, [1] * 3, None, [], [], *layers)
    for n, size in LIST[:-1]:
        x, y = (oracles.unit(v[:, n, :size]) for v in layers)
        wanted += oracles_losses.kl(oracles.inner(x, y), teacher, temperature=0.05).mean()
    np.testing.assert_allclose(losses.starbucks(losses.info_nce, LIST)(None, *layers), wanted, rtol=1e-5)


def adaptive(arrays, chosen, weighting="uniform", weights=(1, 1, 1), temperature=0.3, slow=oracles.info_nce):
    """The objective of adaptive layers with these layers drawn, written out."""
    last, prior, pull = weights
    total = last * np.mean(slow(*arrays[:, :, -1]))
    for n in chosen:
        w = losses.layer_weights(weighting, L)[n - 1]
        student, teacher = (np.concatenate(arrays[:, :, row]) for row in (n, -1))
        kl = np.mean(oracles_losses.kl(student, teacher, temperature=temperature))
        total += (prior * w * np.mean(slow(*arrays[:, :, n])) + pull * temperature * kl) / len(chosen)
    return total


@pytest.mark.parametrize("picks", [1, 2])
def test_adaptive_layers_are_their_formula(layers, picks):
    options = {"weighting": "log", "last_weight": 0.5, "prior_weight": 2.0, "pull_weight": 3.0}
    objective = jax.jit(losses.adaptive_layers(losses.info_nce, L, D, picks=picks, **options))
    seen = set()
    for seed in range(8):
        key = jax.random.key(seed)
        weights = losses.sampled_weights(key, L - 1, picks=picks)
        chosen = tuple(n for n in range(1, L) if weights[n - 1])
        wanted = adaptive(layers, chosen, "log", (0.5, 2, 3))
        np.testing.assert_allclose(objective(key, *layers), wanted, rtol=1e-5)
        seen.add(chosen)
    assert len(seen) > 1 and {len(c) for c in seen} == {picks}


def test_adaptive_layers_without_a_draw_and_with_sizes(layers):
    everything = losses.adaptive_layers(losses.info_nce, L, D, picks=None, temperature=1.0)
    wanted = adaptive(layers, range(1, L), temperature=1.0)
    np.testing.assert_allclose(everything(None, *layers), wanted, rtol=1e-5)
    drawn = losses.adaptive_layers(losses.info_nce, L, D)
    with pytest.raises(ValueError, match="key: None"):
        drawn(None, *layers)
    one = losses.adaptive_layers(losses.info_nce, 1, D, last_weight=2.0)
    np.testing.assert_allclose(
        one(None, *layers[:, :, :2]), 2 * losses.info_nce(*layers[:, :, 1]).mean(), rtol=1e-6
    )
    nested = losses.adaptive_layers(losses.matryoshka(losses.info_nce, SIZES), L, D, picks=None)

    def slow(*vectors):
        return sum(oracles.info_nce(*(v[:, :size] for v in vectors)) for size in SIZES)

    np.testing.assert_allclose(nested(None, *layers), adaptive(layers, range(1, L), slow=slow), rtol=1e-5)
    for bad in ({"picks": 0}, {"picks": L}):
        with pytest.raises(ValueError, match=r"picks: \d is outside 1..3, the layers before the last"):
            losses.adaptive_layers(losses.info_nce, L, D, **bad)


@pytest.mark.peers
def test_adaptive_layers_equal_the_sum_in_torch(layers):
    """As sentence-transformers has it: all layers, whose KL it adds up where ours is their mean."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def theirs(vectors):
        q, d = (functional.normalize(torch.from_numpy(x), dim=-1) for x in vectors)
        return functional.cross_entropy(20 * q @ d.T, torch.arange(len(q)))

    total, temperature = theirs(layers[:, :, -1]), 0.3
    teacher = torch.from_numpy(np.concatenate(layers[:, :, -1])).div(temperature).softmax(-1)
    for n in range(1, L):
        total = total + theirs(layers[:, :, n]) / (L - 1)
        student = torch.from_numpy(np.concatenate(layers[:, :, n])).div(temperature).log_softmax(-1)
        total = total + temperature * functional.kl_div(student, teacher, reduction="batchmean")
    objective = losses.adaptive_layers(losses.info_nce, L, D, picks=None, pull_weight=L - 1)
    np.testing.assert_allclose(objective(None, *layers), float(total), rtol=1e-5)


def test_sub_model_sampling_trains_the_last_layer_and_one_other_at_every_size(layers):
    one, seen = layers[:1], set()
    objective = jax.jit(losses.starbucks(supervised, LIST, pull=losses.vector_kl_to_last, sampled=True))
    options = [(n, size) for n, _ in LIST for size in (4, 8, 16)]
    for seed in range(8):
        key = jax.random.key(seed)
        n = 1 + int(np.argmax(losses.sampled_weights(key, 3, always=(2,))[:2]))
        pairs = [(layer, size) for layer, size in options if layer in (n, 4)]
        rest = (profile, pairs[:-1], [1] * 5)
        wanted = oracles_losses.layer_objective(supervised, pairs, [1] * 6, *rest, *one)
        np.testing.assert_allclose(objective(key, *one), wanted, rtol=1e-5)
        seen.add(n)
    assert seen == {1, 2}
    bare = losses.starbucks(supervised, LIST, pull=None, sampled=True)
    assert bare(jax.random.key(0), *one) < objective(jax.random.key(0), *one)


def test_objectives_are_two_sums_over_layers_bit_for_bit(layers):
    """The compositions that the experiments were measured with."""
    q, d = layers
    loss, key = losses.info_nce, jax.random.key(1)
    grid = losses.full_grid(range(1, L + 1), SIZES)
    whole = losses.full_grid(range(1, L + 1), (D,))

    def pull(*vectors):
        pairs = zip(vectors, (q[:, -1], d[:, -1]), strict=True)
        return sum(losses.vector_kl(v, teacher=t[:, : v.shape[1]]) for v, t in pairs) / len(vectors)

    def composed(grid, weights, pulled, pulled_weights):
        total = jnp.mean(losses.over_layers(loss, grid, weights)(q, d))
        return total + jnp.mean(losses.over_layers(pull, pulled, pulled_weights)(q, d))

    draw = losses.two_dimensional_weights
    wanted = composed(grid, draw(key, grid), whole, draw(key, whole))
    assert losses.two_dimensional(loss, L, SIZES)(key, q, d) == wanted
    found = losses.starbucks(loss, LIST, pull=losses.vector_kl_to_last)(key, q, d)
    assert found == composed(LIST, None, LIST[:-1], None)
    options = {"pull": losses.vector_kl_to_last, "pulled": whole[:-1], "pulled_weights": (1 / 3,) * 3}
    found = losses.layer_objective(loss, grid, **options)(key, q, d)
    assert found == composed(grid, None, whole[:-1], (1 / 3,) * 3)


def test_the_plain_loss_is_the_smallest_objective(layers):
    plain = jnp.mean(losses.info_nce(*layers[:, :, -1], temperature=0.3))
    for made in (
        losses.layer_objective(losses.info_nce, [(L, D)]),
        losses.starbucks(losses.info_nce, [(L, D)]),
    ):
        assert made(None, *layers, temperature=0.3) == plain
    one = layers[:, :, [0, L]]  # one block: nothing to draw but the size, and nothing to pull
    found = losses.two_dimensional(losses.info_nce, 1, (D,))(jax.random.key(0), *one, temperature=0.3)
    np.testing.assert_allclose(found, plain, rtol=1e-6)


def test_hard_negatives_may_follow_the_documents(layers):
    q, d = layers
    longer = np.concatenate([d, d[::-1] + 1])
    for made in (
        losses.two_dimensional(losses.info_nce, L, SIZES),
        losses.starbucks(losses.info_nce, LIST, pull=losses.vector_kl_to_last),
        losses.starbucks(losses.info_nce, LIST),
        losses.espresso(losses.info_nce, L, D, 4),
    ):
        value = made(jax.random.key(0), q, longer)
        assert value.shape == () and np.isfinite(value)
    pull = losses.vector_kl_to_last(q[:, -1], longer[:, -1])(q[:, 1], longer[:, 1])
    parts = [profile(x[:, 1], x[:, -1]).mean() for x in (q, longer)]
    np.testing.assert_allclose(pull, np.mean(parts), rtol=1e-5)


def test_the_last_layer_is_not_pulled(layers):
    q = layers[0]
    for pull in (losses.vector_kl_to_last, losses.score_kl_to_last):

        def total(x, pull=pull):
            made = losses.layer_objective(supervised, [(L, D)], (0.0,), pull=pull, pulled=[(1, 4), (2, D)])
            return made(None, x)

        gradient = jax.grad(total)(q)
        assert not gradient[:, L].any() and gradient[:, 1, :4].all() and not gradient[:, 1, 4:].any()
        assert not gradient[:, 0].any() and gradient[:, 2].all()


def test_score_kl_is_zero_for_copies_and_ignores_the_length(layers):
    q, d = layers[:, :, -1]
    np.testing.assert_allclose(losses.score_kl_to_last(q)(3 * q), 0, atol=1e-5)
    np.testing.assert_allclose(losses.score_kl_to_last(q, d)(2 * q, 0.5 * d), 0, atol=1e-5)
    assert (losses.score_kl_to_last(q)(layers[0, :, 1]) > 0).all()


def test_labels_make_pairs():
    for labels in (LABELS, LABELS.tolist(), jnp.asarray(LABELS), np.array(list("abacdd")), 2**40 + LABELS):
        pairs = losses.label_pairs(labels)
        np.testing.assert_array_equal(pairs["positives"], oracles_losses.label_pairs(np.asarray(labels)))
        np.testing.assert_array_equal(pairs["where"], ~np.eye(6, dtype=bool))
    alone = losses.label_pairs([7, 2**40, 2**40 + 2**32])
    assert not alone["positives"].any()
    assert not losses.info_nce(jnp.eye(3), jnp.eye(3), **alone).any()
    with pytest.raises(ValueError, match="labels: shape"):
        losses.label_pairs([[1, 2]])


def test_wrong_objectives_raise_one_line(layers):
    for make, message in (
        (lambda: losses.layer_objective(losses.info_nce, [(1, 4)], pulled=[(1, 4)]), "pull: needed"),
        (lambda: losses.score_kl_to_last(*layers[:, :, -1], layers[0, :, -1]), "last: 3 arrays"),
        (lambda: losses.two_dimensional(losses.info_nce, 0, SIZES), "layers: 0"),
        (lambda: losses.espresso(losses.info_nce, L, D, D), "size=16"),
        (lambda: losses.starbucks(losses.info_nce, []), "grid="),
        (lambda: losses.starbucks(losses.info_nce, [(9, 4)])(None, *layers), "beyond the 4 layers"),
        (lambda: losses.two_dimensional(losses.info_nce, L, SIZES)(None, *layers), "key: "),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_espresso_calls_lapack_once_however_many_layers_arrays_and_seeds():
    """On a CPU with few threads, decompositions that run at the same time wait for one another for ever."""
    objective = losses.espresso(losses.info_nce, 3, 8, 4)

    def run(first, second):
        return jax.vmap(lambda x, y: objective(None, x, y))(first, second)

    shape = jax.ShapeDtypeStruct((2, 6, 4, 8), jnp.float32)
    program = jax.jit(jax.grad(lambda x, y: jnp.sum(run(x, y)))).lower(shape, shape).as_text()
    assert program.count("custom_call @lapack_sgesdd") == 1


@pytest.mark.parametrize("sampled", [False, True])
def test_an_empty_list_of_layers_is_refused(sampled):
    with pytest.raises(ValueError, match=r"grid=\(\): at least one pair"):
        losses.starbucks(losses.info_nce, (), sampled=sampled)


def test_adaptive_layers_asks_for_whole_numbers():
    for given, message in (((2.5, 8), "layers: 2.5 is not"), ((2, 8.0), "width: 8.0 is not an integer")):
        with pytest.raises(ValueError, match=message):
            losses.adaptive_layers(losses.info_nce, *given)
