"""Word models, negative sampling, hierarchical softmax and GloVe against loops and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxembed import data, losses, tables, train
from jaxembed.losses.word_vectors import KINDS

V, D, WINDOW = 12, 3, 2


def drawn(kind, seed=0):
    """Params of which no number is zero."""
    params = losses.init_word_scores(jax.random.key(seed), kind, V, D, window=WINDOW)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        tree, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    )


def asked(kind, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, (4, 1 if kind == "skip_gram" else 2 * WINDOW)), rng.integers(0, V, (4, 3))


def slow(params, context, target, kind, mask):
    """One score, from the formula of the card."""
    E = np.asarray(params["input"]["embedding"], np.float64)
    rows = [E[w] if m else np.zeros(D) for w, m in zip(context, mask, strict=True)]
    if kind == "cw":
        x = np.concatenate([*rows[:WINDOW], E[target], *rows[WINDOW:]])
        hidden = np.tanh(x @ np.asarray(params["hidden"]["kernel"], np.float64))
        return hidden @ np.asarray(params["hidden"]["score"])
    out = np.asarray(params["output"]["embedding"], np.float64)[target]
    if kind == "skip_gram":
        return rows[0] @ out
    if kind == "cbow":
        return sum(rows) / max(1, sum(mask)) @ out
    x = np.concatenate(rows)
    if kind == "order":
        return x @ out
    x = x @ np.asarray(params["hidden"]["kernel"], np.float64)
    return (np.tanh(x) if kind == "nnlm" else x) @ out


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_formula(kind):
    params, (contexts, targets) = drawn(kind), asked(kind)
    mask = np.random.default_rng(1).random(contexts.shape) < 0.7
    found = jax.jit(losses.word_scores, static_argnames="kind")(
        params, contexts, targets, kind=kind, mask=mask
    )
    for b in range(len(contexts)):
        for k in range(targets.shape[1]):
            wanted = slow(params, contexts[b], targets[b, k], kind, mask[b])
            np.testing.assert_allclose(found[b, k], wanted, rtol=1e-5, atol=1e-5)


def test_cbow_reads_the_rows_of_all_ngrams_of_its_words():
    """fastText's mean: over all rows of all words around, so that a word of many n-grams weighs more."""
    params, targets = drawn("cbow"), np.array([[3, 5]])
    ids, mask = data.fasttext_ids(["cat", "a"], 4, sizes=(2, 3), buckets=V - 4)
    contexts = np.concatenate([[[0], [1]], ids], axis=1).reshape(1, -1)
    real = np.pad(mask, ((0, 0), (1, 0)), constant_values=True).reshape(1, -1)
    rows = [0, *ids[0][mask[0]], 1, *ids[1][mask[1]]]
    wanted = np.mean([params["input"]["embedding"][r] for r in rows], axis=0)
    found = losses.word_scores(params, contexts, targets, kind="cbow", mask=real)
    np.testing.assert_allclose(found[0], params["output"]["embedding"][targets[0]] @ wanted, rtol=1e-5)


def test_lbl_with_averaging_kernel_is_cbow():
    params, (contexts, targets) = drawn("lbl"), asked("lbl")
    params["hidden"]["kernel"] = jnp.tile(jnp.eye(D), (2 * WINDOW, 1)) / (2 * WINDOW)
    found = [losses.word_scores(params, contexts, targets, kind=k) for k in ("lbl", "cbow")]
    np.testing.assert_allclose(*found, rtol=1e-5)
    order = {**params, "output": {"embedding": jnp.tile(params["output"]["embedding"], (1, 4)) / 4}}
    np.testing.assert_allclose(
        losses.word_scores(order, contexts, targets, kind="order"), found[1], rtol=1e-5
    )


def test_nnlm_tends_to_lbl_for_small_inputs():
    params, (contexts, targets) = drawn("lbl"), asked("lbl")
    params["hidden"]["kernel"] *= 1e-3
    one, two = (losses.word_scores(params, contexts, targets, kind=k) for k in ("lbl", "nnlm"))
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-7)


def test_negative_sampling_and_hinge_by_hand():
    scores = jnp.array([[2.0, -1.0, 3.0], [0.5, 0.0, 1.0]])
    soft = lambda x: np.log1p(np.exp(x))  # noqa: E731
    wanted = [soft(-2.0) + soft(-1.0) + soft(3.0), soft(-0.5) + soft(0.0) + soft(1.0)]
    np.testing.assert_allclose(losses.negative_sampling(scores), wanted, rtol=1e-6)
    where = np.array([[True, True, False], [True, False, True]])
    wanted = [soft(-2.0) + soft(-1.0), soft(-0.5) + soft(1.0)]
    np.testing.assert_allclose(losses.negative_sampling(scores, where), wanted, rtol=1e-6)
    np.testing.assert_allclose(losses.word_hinge(scores), [2.0, 0.5 + 1.5])
    np.testing.assert_allclose(losses.word_hinge(scores, where), [0.0, 1.5])


def test_best_scores_are_shifted_pointwise_mutual_information():
    rng, k = np.random.default_rng(0), 5
    counts = rng.integers(1, 20, (8, 8)).astype(np.float64)
    noise = counts.sum(0) / counts.sum()

    def loss(params):
        scores = params["E"] @ params["V"].T
        true, false = jax.nn.softplus(-scores), jax.nn.softplus(scores)
        return jnp.sum(counts * true + counts.sum(1, keepdims=True) * k * noise * false) / counts.sum()

    params = {"E": jnp.asarray(rng.normal(size=(8, 8))), "V": jnp.asarray(rng.normal(size=(8, 8)))}
    tx = optax.adam(optax.cosine_decay_schedule(0.03, 8000))

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), None, length=8000)
    pmi = np.log(counts * counts.sum() / np.outer(counts.sum(1), counts.sum(0)))
    np.testing.assert_allclose(params["E"] @ params["V"].T, pmi - np.log(k), atol=5e-3)


@pytest.mark.parametrize(
    "counts", [[5, 2, 1], [1, 1], list(range(1, 40)), [1] * 9, [2**i for i in range(12)]]
)
def test_huffman_codes_are_the_shortest(counts):
    codes, points, mask = losses.huffman(counts)
    lengths = mask.sum(1)
    ways = ["".join(map(str, c[m])) for c, m in zip(codes, mask, strict=True)]
    assert len(set(ways)) == len(counts) and sum(2.0**-n for n in lengths) == 1
    assert not any(a != b and b.startswith(a) for a in ways for b in ways)
    share = np.array(counts) / np.sum(counts)
    entropy = -np.sum(share * np.log2(share))
    assert entropy - 1e-9 <= share @ lengths <= entropy + 1
    heap, total = sorted(counts), 0  # the cost of an optimal tree
    while len(heap) > 1:
        total += heap[0] + heap[1]
        heap = sorted([*heap[2:], heap[0] + heap[1]])
    assert lengths @ np.array(counts) == total
    assert all(points[w][0] == len(counts) - 2 for w in range(len(counts)))


def test_hierarchical_softmax_sums_to_one_and_is_the_product_of_turns():
    counts = np.random.default_rng(0).integers(1, 50, V)
    codes, points, mask = losses.huffman(counts)
    hidden = jax.random.normal(jax.random.key(0), (D,))
    nodes = jax.random.normal(jax.random.key(1), (V - 1, D))
    found = losses.hierarchical_softmax(jnp.tile(hidden, (V, 1)), nodes, codes, points, mask)
    np.testing.assert_allclose(np.exp(-found).sum(), 1, rtol=1e-5)
    for w in range(V):
        turns = [
            (1 - 2 * c) * (nodes[p] @ hidden)
            for c, p in zip(codes[w][mask[w]], points[w][mask[w]], strict=True)
        ]
        np.testing.assert_allclose(np.exp(-found[w]), np.prod(jax.nn.sigmoid(jnp.array(turns))), rtol=1e-4)


def test_glove_loss_and_gradient_by_hand():
    params = losses.init_glove(jax.random.key(0), 5, 4)
    params = jax.tree.map(lambda x: 30 * x, params)
    rows, columns, counts = np.array([0, 3, 2]), np.array([4, 3, 1]), np.array([7.0, 200.0, 0.0])
    found = losses.glove_loss(params, rows, columns, counts)
    one, two = (jax.tree.map(np.asarray, params[n]) for n in ("input", "output"))

    def apart(b):
        i, j = rows[b], columns[b]
        return one["embedding"][i] @ two["embedding"][j] + one["bias"][i] + two["bias"][j] - np.log(counts[b])

    np.testing.assert_allclose(found[0], 0.5 * 0.07**0.75 * apart(0)[0] ** 2, rtol=1e-4)
    np.testing.assert_allclose(found[1], 0.5 * apart(1)[0] ** 2, rtol=1e-4)
    assert found[2] == 0
    slope = jax.grad(lambda p: losses.glove_loss(p, rows[:1], columns[:1], counts[:1])[0])(params)
    wanted = 0.07**0.75 * apart(0) * two["embedding"][4]
    np.testing.assert_allclose(slope["input"]["embedding"][0], wanted, rtol=1e-4)
    assert np.isfinite(
        jax.grad(lambda p: losses.glove_loss(p, rows, columns, counts).sum())(params)["input"]["bias"]
    ).all()


def batch_of(kind, size):
    """A batch whose codes point into the distinct rows of each table."""
    contexts, targets = asked(kind, seed=3)
    contexts, targets = np.tile(contexts, (2, 1)), np.tile(targets, (2, 1))
    reads = {"input/embedding": {"c": contexts}, "output/embedding": {"t": targets}}
    if kind == "cw":
        reads = {"input/embedding": {"c": contexts, "t": targets}}
    batch = {"rows": {}}
    for path, codes in reads.items():
        codes = {n: c[..., None] for n, c in codes.items()}
        batch["rows"][path], local = tables.distinct(codes, None, V, size)
        batch |= {n: c[..., 0] for n, c in local.items()}
    return batch, {"c": contexts, "t": targets}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("devices", [(1, 1), (2, 4)])
def test_row_updates_are_dense_updates_also_of_tables_split_in_rows(kind, devices):
    def loss_fn(params, batch, key):
        return jnp.mean(
            losses.negative_sampling(losses.word_scores(params, batch["c"], batch["t"], kind=kind))
        ), {}

    params = drawn(kind)
    batch, plain = batch_of(kind, 13)
    rule = optax.adagrad(0.1)
    update = tables.row_update(loss_fn, rule, dict.fromkeys(batch["rows"], rule))
    mesh = train.make_mesh(*devices)
    found = train.fit(
        init=lambda key: params, update=update, batches=[batch] * 3, steps=3, mesh=mesh, progress=False,
        rules=[(r"embedding", P("model", None))],
    ).params  # fmt: skip
    wanted = train.fit(
        init=lambda key: params, loss_fn=loss_fn, tx=rule, batches=[plain] * 3, steps=3,
        mesh=train.make_mesh(1), progress=False,
    ).params  # fmt: skip
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: losses.init_word_scores(jax.random.key(0), "bow", V, D), "kind='bow': choose one of"),
        (lambda: losses.word_scores(drawn("cbow"), [[0]], [[1]], kind="bow"), "kind='bow'"),
        (lambda: losses.word_scores(drawn("lbl"), [[0, 1]], [[1]], kind="lbl"), "make 6 numbers; the"),
        (lambda: losses.word_scores(drawn("order"), [[0, 1]], [[1]], kind="order"), "make 6 numbers"),
        (lambda: losses.word_scores(drawn("cbow"), [0, 1], [[1]], kind="cbow"), "contexts: shape"),
        (lambda: losses.huffman([3]), "a tree needs at least 2"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
