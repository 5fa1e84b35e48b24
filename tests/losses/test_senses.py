"""Words of several senses: oracles in NumPy, limits, symmetries, what has no gradient, and planted senses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxembed import losses, metrics

RNG = np.random.default_rng(0)
V, K, D, B, C = 9, 3, 4, 5, 6
WORDS, CONTEXTS = RNG.integers(0, V, B), RNG.integers(0, V, (B, C))
MASK = RNG.random((B, C)) < 0.8
MASK[:, 0] = True


def drawn(shared=False, seed=0):
    """Params whose every number is drawn."""
    params = losses.init_senses(jax.random.key(seed), V, K, D, shared=shared)
    leaves, tree = jax.tree.flatten(params)
    return jax.tree.unflatten(tree, [RNG.normal(size=x.shape).astype(np.float32) for x in leaves])


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def loss_by_hand(params, temperature, entropy_weight):
    s, w, b = params["senses"], params["output"]["kernel"], params["output"]["bias"]
    found = []
    for word, context, mask in zip(WORDS, CONTEXTS, MASK, strict=True):
        own = context[mask]
        x = w[own].mean(axis=0)
        kernel, bias = params["classifier"]["kernel"], params["classifier"]["bias"]
        logits = x @ (kernel if kernel.ndim == 2 else kernel[word]) + (bias if bias.ndim == 1 else bias[word])
        h = softmax(logits / temperature) @ s[word]
        p = softmax(logits)
        likely = np.log(softmax(w @ h + b))
        found.append(-likely[own].mean() - entropy_weight * np.sum(p * np.log(p)))
    return np.array(found)


@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_equals_a_loop_over_places(shared):
    params = drawn(shared)
    run = jax.jit(lambda p: losses.sense_loss(p, WORDS, np.where(MASK, CONTEXTS, 99), mask=MASK, **GIVEN))
    np.testing.assert_allclose(run(params), loss_by_hand(params, 0.7, -0.1), rtol=1e-4)


@pytest.mark.parametrize("draws", ["place", "word"])
def test_draws_of_places_and_of_words_equal_a_loop_with_the_same_noise(draws):
    params, key = drawn(), jax.random.key(3)
    noise = np.asarray(jax.random.gumbel(key, (B, K) if draws == "place" else (B, C, K)))
    s, w, b = params["senses"], params["output"]["kernel"], params["output"]["bias"]
    logits = np.asarray(losses.sense_logits(params, WORDS, CONTEXTS, mask=MASK))
    wanted = []
    for i, word in enumerate(WORDS):
        own = []
        for place in np.flatnonzero(MASK[i]):
            weights = softmax((logits[i] + (noise[i] if draws == "place" else noise[i, place])) / 0.7)
            own.append(-np.log(softmax(w @ (weights @ s[word]) + b))[CONTEXTS[i, place]])
        wanted.append(np.mean(own))
    given = {"mask": MASK, "key": key, "temperature": 0.7, "draws": draws}
    found = jax.jit(lambda p: losses.sense_loss(p, WORDS, np.where(MASK, CONTEXTS, 99), **given))(params)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    empty = losses.sense_loss(params, WORDS, CONTEXTS, **given | {"mask": 0 * MASK})
    np.testing.assert_array_equal(empty, np.zeros(B))
    everything = np.arange(V), np.full(V, -np.log(V))
    sampled = losses.sense_loss(params, WORDS, CONTEXTS, **given, samples=everything)
    np.testing.assert_allclose(sampled, wanted, rtol=1e-4)


def test_draws_of_words_have_the_mean_of_draws_of_places():
    params, keys = jax.tree.map(jnp.asarray, drawn()), jax.random.split(jax.random.key(0), 4000)
    given = {"mask": MASK, "temperature": 0.5}
    runs = {
        draws: jax.lax.map(
            lambda key, d=draws: losses.sense_loss(params, WORDS, CONTEXTS, key=key, draws=d, **given), keys
        )
        for draws in ("place", "word")
    }
    means, spread = {n: x.mean(axis=0) for n, x in runs.items()}, runs["place"].std(axis=0)
    assert np.all(np.abs(means["word"] - means["place"]) < 6 * spread / len(keys) ** 0.5 + 1e-5)


GIVEN = {"temperature": 0.7, "entropy_weight": -0.1}


def test_one_sense_is_skip_gram_whatever_the_classifier():
    params = losses.init_senses(jax.random.key(0), V, 1, D)
    params["senses"] = jnp.asarray(RNG.normal(size=(V, 1, D)), jnp.float32)
    params["output"]["kernel"] = jnp.asarray(RNG.normal(size=(V, D)), jnp.float32)
    scores = params["senses"][WORDS, 0] @ params["output"]["kernel"].T
    plain = jax.nn.logsumexp(scores, axis=1)[:, None] - jnp.take_along_axis(scores, CONTEXTS, axis=1)
    for key in (None, jax.random.key(1)):
        found = losses.sense_loss(params, WORDS, CONTEXTS, key=key, temperature=0.2, entropy_weight=5.0)
        np.testing.assert_allclose(found, plain.mean(axis=1), rtol=1e-4)


def test_no_gradient_reaches_the_output_through_the_choice():
    params = drawn()

    def loss(output, other):
        both = {**params, "output": output}
        frozen = losses.sense_logits({**params, "output": other}, WORDS, CONTEXTS)
        choice = jax.nn.softmax(frozen)
        return losses.sense_loss(both, WORDS, CONTEXTS, choice=choice).sum()

    whole = jax.grad(lambda o: losses.sense_loss({**params, "output": o}, WORDS, CONTEXTS).sum())(
        params["output"]
    )
    apart = jax.grad(loss)(params["output"], params["output"])
    np.testing.assert_allclose(whole["kernel"], apart["kernel"], atol=1e-5)


def test_senses_in_another_order_change_nothing_and_the_entropy_is_bounded():
    params, order = drawn(), [2, 0, 1]
    kernel, bias = params["classifier"]["kernel"], params["classifier"]["bias"]
    turned = {"kernel": kernel[..., order], "bias": bias[:, order]}
    turned = {**params, "senses": params["senses"][:, order], "classifier": turned}
    one, two = (losses.sense_loss(p, WORDS, CONTEXTS, entropy_weight=1.0) for p in (params, turned))
    np.testing.assert_allclose(one, two, rtol=1e-5)
    entropy = one - losses.sense_loss(params, WORDS, CONTEXTS)
    assert (entropy >= 0).all() and (entropy <= np.log(K) + 1e-6).all()


def test_the_hand_over_keeps_every_logit():
    params = drawn(shared=True)
    own = losses.own_classifiers(params)
    one, two = (losses.sense_logits(p, WORDS, CONTEXTS, mask=MASK) for p in (params, own))
    np.testing.assert_allclose(one, two, rtol=1e-5)
    refused("params: the classifier has shape", lambda: losses.own_classifiers(own))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_draws_fall_on_a_choice_with_its_chance_at_every_temperature(temperature):
    logits = jnp.array([0.0, 1.0, -1.0])
    found = losses.gumbel_softmax(jax.random.key(0), jnp.tile(logits, (20_000, 1)), temperature=temperature)
    shares = np.bincount(np.argmax(found, axis=1), minlength=3) / 20_000
    np.testing.assert_allclose(shares, jax.nn.softmax(logits), atol=0.012)
    np.testing.assert_allclose(found.sum(axis=1), np.ones(20_000), rtol=1e-4)


def test_draws_are_one_hot_when_cold_even_when_hot_and_hard_ones_have_the_soft_gradient():
    logits, key = jnp.array(RNG.normal(size=(50, 3))), jax.random.key(3)
    cold = losses.gumbel_softmax(key, logits, temperature=1e-3)
    assert np.mean(cold.max(axis=1) > 0.999) > 0.95
    np.testing.assert_allclose(
        losses.gumbel_softmax(key, logits, temperature=1e5), np.full((50, 3), 1 / 3), atol=1e-3
    )
    hard = losses.gumbel_softmax(key, logits, hard=True)
    np.testing.assert_allclose(hard, jax.nn.one_hot(hard.argmax(axis=1), 3), atol=1e-6)
    weights = jnp.arange(3.0)
    slopes = [
        jax.grad(lambda x, h=h: jnp.sum(losses.gumbel_softmax(key, x, hard=h) * weights))(logits)
        for h in (True, False)
    ]
    np.testing.assert_allclose(*slopes, atol=1e-6)


def test_the_whole_vocabulary_as_a_sample_is_the_whole_softmax():
    params = drawn()
    noise = jnp.full(V, -jnp.log(V))
    found = losses.sense_loss(params, WORDS, CONTEXTS, samples=(jnp.arange(V), noise))
    np.testing.assert_allclose(found, losses.sense_loss(params, WORDS, CONTEXTS), rtol=1e-4)


def test_nearest_senses_equal_a_loop_and_means_take_in_the_context():
    params = drawn()
    centres = {"sums": jnp.asarray(RNG.normal(size=(V, K, D)), jnp.float32), "counts": jnp.ones((V, K))}
    choice, after = jax.jit(losses.nearest_sense)(params, centres, WORDS, CONTEXTS, mask=MASK)
    sums, counts = np.array(centres["sums"]), np.ones((V, K))
    for word, context, mask, told in zip(WORDS, CONTEXTS, MASK, choice, strict=True):
        x = params["output"]["kernel"][context[mask]].mean(axis=0)
        centre = np.asarray(centres["sums"])[word]
        best = np.argmax(centre @ x / np.linalg.norm(centre, axis=1))
        assert told[best] == 1 and told.sum() == 1
        sums[word, best] += x
        counts[word, best] += 1
    np.testing.assert_allclose(after["sums"], sums, atol=1e-5)
    np.testing.assert_array_equal(after["counts"], counts)


@pytest.mark.parametrize("shared", [True, False])
def test_a_hidden_layer_of_the_classifier_is_the_formula(shared):
    params = losses.init_senses(jax.random.key(0), V, K, D, shared=shared, hidden=6)
    assert params["classifier"]["kernel"].shape == ((6, K) if shared else (V, 6, K))
    leaves, tree = jax.tree.flatten(params)
    params = jax.tree.unflatten(tree, [RNG.normal(size=x.shape).astype(np.float32) for x in leaves])
    found = jax.jit(losses.sense_logits)(params, WORDS, CONTEXTS, mask=MASK)
    own, layer = params["classifier"], params["classifier"]["hidden"]
    for word, context, mask, row in zip(WORDS, CONTEXTS, MASK, found, strict=True):
        x = params["output"]["kernel"][context[mask]].mean(axis=0)
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
        kernel, bias = (own["kernel"], own["bias"]) if shared else (own["kernel"][word], own["bias"][word])
        np.testing.assert_allclose(row, x @ kernel + bias, rtol=1e-4, atol=1e-5)
    if shared:
        each = losses.own_classifiers(params)
        np.testing.assert_allclose(losses.sense_logits(each, WORDS, CONTEXTS, mask=MASK), found, rtol=1e-5)


def test_the_temperature_can_be_learned():
    params = drawn()

    def loss(log_temperature):
        return losses.sense_loss(
            params, WORDS, CONTEXTS, mask=MASK, temperature=jnp.exp(log_temperature)
        ).sum()

    slope, step = jax.grad(loss)(0.3), 1e-2
    np.testing.assert_allclose(slope, (loss(0.3 + step) - loss(0.3 - step)) / (2 * step), rtol=2e-2)


@pytest.mark.parametrize("huber", [False, True])
def test_penalties_of_the_classifiers_equal_a_loop(huber):
    params = drawn()
    given = {"l1": 0.3, "l2": 0.7, "parallel": 0.2, "huber": huber}
    found = jax.jit(lambda p: losses.sense_penalty(p, WORDS, **given))(params)
    every = losses.sense_penalty(params, **given)
    for word, value in zip(WORDS, found, strict=True):
        a = params["classifier"]["kernel"][word].astype(np.float64)
        wanted = 0.3 * np.abs(a).sum() + 0.35 * (a**2).sum()
        for j in range(K):
            for k in range(K):
                x = abs(a[:, j] @ a[:, k])
                wanted += 0.2 / K * (j != k) * ((x - 0.5 if x > 1 else x**2 / 2) if huber else x**2)
        np.testing.assert_allclose(value, wanted, rtol=1e-5)
        np.testing.assert_allclose(every[word], wanted, rtol=1e-5)
    shared = drawn(shared=True)
    one = losses.sense_penalty({"classifier": {"kernel": shared["classifier"]["kernel"][None]}}, **given)
    np.testing.assert_allclose(losses.sense_penalty(shared, WORDS, **given), one[0], rtol=1e-6)
    apart = {"classifier": {"kernel": jnp.eye(D)[:, :K]}}
    assert losses.sense_penalty(apart, parallel=5.0, huber=huber) == 0
    assert losses.sense_penalty(params).shape == (V,) and not losses.sense_penalty(params).any()


def test_priors_average_the_choice_and_pruning_keeps_the_strongest():
    params = drawn()
    batches = [{"words": WORDS, "contexts": CONTEXTS, "mask": MASK}, {"words": WORDS, "contexts": CONTEXTS}]
    priors = np.asarray(losses.sense_priors(params, batches))
    np.testing.assert_allclose(priors.sum(axis=1), np.ones(V), rtol=1e-5)
    p = [jax.nn.softmax(losses.sense_logits(params, WORDS, CONTEXTS, mask=m)) for m in (MASK, None)]
    own = WORDS[0] == WORDS
    expected = np.concatenate([x[own] for x in p]).mean(axis=0)
    np.testing.assert_allclose(priors[WORDS[0]], expected, atol=1e-5)
    unseen = np.setdiff1d(np.arange(V), WORDS)
    np.testing.assert_allclose(priors[unseen], np.full((len(unseen), K), 1 / K))
    kept = losses.prune_senses(jnp.array([[0.98, 0.01, 0.01], [0.3, 0.3, 0.4]]), least=0.5)
    np.testing.assert_array_equal(kept, [[True, False, False], [False, False, True]])


def test_induced_senses_equal_a_loop_and_never_a_pruned_one():
    params = drawn()
    kept = RNG.random((V, K)) < 0.7
    kept[:, 0] = True
    found = losses.induce_sense(params, WORDS, CONTEXTS, mask=MASK, kept=kept)
    for word, context, mask, told in zip(WORDS, CONTEXTS, MASK, found, strict=True):
        around = np.mean([params["senses"][c][kept[c]].mean(axis=0) for c in context[mask]], axis=0)
        own = params["senses"][word]
        scores = own @ around / np.linalg.norm(own, axis=1)
        assert told == np.argmax(np.where(kept[word], scores, -np.inf))
    logits = losses.sense_logits(params, WORDS, CONTEXTS)
    told = losses.induce_sense(params, WORDS, CONTEXTS, method="classifier")
    np.testing.assert_array_equal(told, np.argmax(logits, axis=1))
    assert (
        np.asarray(losses.induce_sense(params, WORDS, CONTEXTS, kept=kept, method="classifier")) < K
    ).all()


def test_two_planted_senses_of_a_word_are_found():
    """Word 0 stands among words 1 to 4 or among 5 to 8."""
    rng = np.random.default_rng(1)
    side = rng.integers(0, 2, 600)
    contexts = (1 + 4 * side[:, None] + rng.integers(0, 4, (600, 4))).astype(np.int32)
    words = np.zeros(600, np.int32)
    other = contexts[:, 0].copy()
    params, tx = losses.init_senses(jax.random.key(0), V, 2, 8, shared=True), optax.adam(0.05)

    @jax.jit
    def step(params, state, key, temperature, weight):
        def loss(p):
            both = [(words, contexts), (other, contexts)]
            given = {"entropy_weight": weight, "temperature": temperature, "key": key}
            return sum(losses.sense_loss(p, w, c, **given).mean() for w, c in both)

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for stage in (1, 2):
        params = params if stage == 1 else losses.own_classifiers(params)
        state = tx.init(params)
        for t in range(150):
            key = jax.random.fold_in(jax.random.key(stage), t)
            params, state = step(params, state, key, 1.0 if stage == 1 else 0.7, -0.1 if stage == 1 else 0.0)
    told = losses.induce_sense(params, words, contexts)
    assert metrics.adjusted_rand(side, np.asarray(told)) > 0.9


def test_bad_input_gets_one_line():
    params = drawn()
    refused("words: shape", lambda: losses.sense_loss(params, WORDS[:2], CONTEXTS))
    refused("mask: shape", lambda: losses.sense_loss(params, WORDS, CONTEXTS, mask=MASK[:, :2]))
    refused(
        "temperature: 0 is not above 0", lambda: losses.sense_loss(params, WORDS, CONTEXTS, temperature=0)
    )
    refused("temperature: -1", lambda: losses.gumbel_softmax(jax.random.key(0), jnp.ones(2), temperature=-1))
    choice = jnp.ones((B, 2))
    refused("choice: shape", lambda: losses.sense_loss(params, WORDS, CONTEXTS, choice=choice))
    refused("draws='all'", lambda: losses.sense_loss(params, WORDS, CONTEXTS, draws="all"))
    refused("method='best'", lambda: losses.induce_sense(params, WORDS, CONTEXTS, method="best"))
    refused("kept: shape", lambda: losses.induce_sense(params, WORDS, CONTEXTS, kept=jnp.ones((2, 2), bool)))
    refused("priors: shape", lambda: losses.prune_senses(jnp.ones(3)))
