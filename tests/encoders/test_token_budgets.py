"""Token budgets: what is compressed, mixed and kept is what the formulas say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import encoders, vectors

RNG = np.random.default_rng(0)


def kept_by_loop(scores, p, temperature=1.0):
    """The smallest prefix whose share exceeds p, and one token at least, written as a loop."""
    shares = np.exp((scores - scores.max()) / temperature)
    shares, total, kept = shares / shares.sum(), 0.0, np.zeros(len(scores), bool)
    for i in np.argsort(-scores, kind="stable"):
        kept[i] = True
        total += shares[i]
        if total > p:
            break
    return kept


@pytest.mark.parametrize("p", [0.0, 0.3, 0.77, 0.95])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_top_p_keeps_what_a_loop_keeps(p, temperature):
    scores = RNG.normal(size=(4, 33)).astype(np.float32)
    found = np.asarray(jax.jit(encoders.top_p_mask)(scores, p, temperature=temperature))
    for row, ours in zip(scores, found, strict=True):
        np.testing.assert_array_equal(ours, kept_by_loop(row, p, temperature))
    np.testing.assert_array_equal(encoders.top_p_mask(scores + 3, p, temperature=temperature), found)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"p": 1.5}, "p=1.5: outside 0..1"), ({"p": -0.1}, "p=-0.1"), ({"temperature": 0}, "temperature=0: is")],
)
def test_shares_and_temperatures_out_of_range_get_one_line(options, match):
    with pytest.raises(ValueError, match=match):
        encoders.top_p_mask(np.zeros(4), **{"p": 0.5, **options})


def test_top_p_in_its_limits():
    scores = RNG.normal(size=50)
    counts = [int(encoders.top_p_mask(scores, p).sum()) for p in (0.0, 0.2, 0.5, 0.9, 1.0)]
    assert counts[0] == 1 and counts[-1] == 50 and counts == sorted(counts)
    nested = [np.asarray(encoders.top_p_mask(scores, p)) for p in (0.2, 0.5)]
    assert not (nested[0] & ~nested[1]).any()
    assert int(encoders.top_p_mask(np.zeros(10), 0.55).sum()) == 6  # floor(p N) + 1
    assert np.flatnonzero(encoders.top_p_mask(np.array([0.0, 9, 0]), 0.5)).tolist() == [1]
    where = np.array([[True, True, False], [False, False, False]])
    found = encoders.top_p_mask(np.array([[1.0, 2, 9], [1, 2, 3]]), 1.0, where=where)
    np.testing.assert_array_equal(found, where)


def test_a_flat_softmax_keeps_most_tokens():
    """The paper's setting at temperature 1: 864 tokens, p = 0.95."""
    for deviation, count in ((0.5, 754), (2.0, 291)):
        scores = deviation * np.random.default_rng(1).normal(size=(40, 864))
        assert encoders.top_p_mask(scores, 0.95).sum(axis=1).mean() == pytest.approx(count, rel=0.1)


def test_token_scores_are_sums_of_cosines():
    tokens, query = RNG.normal(size=(2, 5, 3)), RNG.normal(size=(2, 4, 3))
    mask = np.array([[True, True, False, True], [False] * 4])
    tokens[0, 2], query[0, 0] = 0, 0
    for reduce in ("sum", "mean"):
        wanted = np.zeros((2, 5))
        for b, i, t in np.ndindex(2, 5, 4):
            lengths = np.linalg.norm(tokens[b, i]) * np.linalg.norm(query[b, t])
            if mask[b, t] and lengths:
                wanted[b, i] += tokens[b, i] @ query[b, t] / lengths
        wanted = wanted if reduce == "sum" else wanted / np.maximum(mask.sum(axis=1), 1)[:, None]
        found = encoders.token_scores(tokens, query, mask, reduce=reduce)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    other = np.where(mask[..., None], query, 99)
    np.testing.assert_allclose(
        encoders.token_scores(3 * tokens, other, mask, reduce="mean"), found, atol=1e-5
    )


def test_choice_lets_no_gradient_through_and_dropped_tokens_get_none():
    tokens, query = jnp.asarray(RNG.normal(size=(1, 6, 3))), jnp.asarray(RNG.normal(size=(1, 2, 3)))

    def total(tokens, query):
        mask = encoders.top_p_mask(encoders.token_scores(tokens, query), 0.4, temperature=0.3)
        return jnp.sum(encoders.compact(tokens, mask, 4)[0] ** 2)

    mask = encoders.top_p_mask(encoders.token_scores(tokens, query), 0.4, temperature=0.3)
    by_tokens, by_query = jax.grad(total, (0, 1))(tokens, query)
    np.testing.assert_array_equal(np.asarray(by_tokens).any(axis=2), mask)
    assert not np.asarray(by_query).any()


def test_document_tokens_are_pruned_for_late_interaction():
    """The same choice drops tokens of documents: of one query token none that the Chamfer score reads."""
    documents, query = RNG.normal(size=(5, 12, 4)), RNG.normal(size=(1, 3, 4))
    documents, query = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (documents, query))

    def pruned(query, p):
        asked = np.broadcast_to(query, (5, *query.shape[1:]))
        kept = encoders.top_p_mask(encoders.token_scores(documents, asked), p, temperature=0.1)
        scores = vectors.chamfer(query, documents, np.ones(query.shape[:2], bool), kept)
        return np.asarray(scores)[0], float(kept.mean())

    for asked in (query, query[:, :1]):
        whole, share = pruned(asked, 1.0)
        exact = np.einsum("td,nsd->nts", asked[0], documents).max(axis=2).sum(axis=1)
        np.testing.assert_allclose(whole, exact, atol=1e-5)
        assert share == 1
    few, share = pruned(query[:, :1], 0.3)
    np.testing.assert_allclose(few, exact, atol=1e-5)
    assert share < 0.5 and (pruned(query, 0.3)[0] <= pruned(query, 1.0)[0] + 1e-5).all()


def test_compaction_keeps_order_and_cuts():
    tokens, mask = RNG.normal(size=(3, 7, 2)), RNG.random((3, 7)) < 0.6
    mask[2] = False
    found, kept = encoders.compact(tokens, mask, 4)
    for b in range(3):
        own = tokens[b][mask[b]][:4]
        np.testing.assert_allclose(found[b, : len(own)], own, rtol=1e-6)
        assert kept[b].tolist() == [True] * len(own) + [False] * (4 - len(own))
        assert not np.asarray(found)[b, len(own) :].any()


def resampled(params, tokens, heads):
    """The formula of one picture, head by head, with places of equal grids."""

    def norm(name, x):
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
        return x * params[name]["scale"] + params[name]["bias"]

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"]

    width = tokens.shape[1]
    places = encoders.grid_positions(2, 2, width)
    q = dense("query_map", norm("query_norm", params["query"]["embedding"]) + places)
    k = dense("key_map", norm("token_norm", tokens) + places)
    v = dense("value_map", norm("token_norm", tokens))
    out = []
    for part in np.split(np.arange(width), heads):
        scores = q[:, part] @ k[:, part].T / len(part) ** 0.5
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        out.append(shares / shares.sum(axis=1, keepdims=True) @ v[:, part])
    return norm("out_norm", np.concatenate(out, axis=1))


def test_resampler_is_the_attention_of_its_queries():
    params = encoders.init_resampler(jax.random.key(0), 2, 8)
    params = jax.tree.map(lambda x: np.asarray(x) + 0.1 * RNG.normal(size=x.shape).astype("f4"), params)
    tokens = RNG.normal(size=(2, 4, 8)).astype(np.float32)
    found = encoders.resample(params, tokens, heads=2)
    np.testing.assert_allclose(found, [resampled(params, x, 2) for x in tokens], atol=1e-4)
    constant = np.broadcast_to(tokens[:, :1], (2, 12, 8))
    whole = np.asarray(encoders.resample(params, constant, heads=2, grid=(3, 4)))
    np.testing.assert_allclose(whole, np.broadcast_to(whole[:, :1], whole.shape), atol=1e-4)


def test_mixture_starts_as_the_mean_and_keeps_the_best():
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    experts = [lambda x: x[..., :2], lambda x: 2 * x[..., 2:], lambda x: x[..., 1:3] ** 2]
    params = encoders.init_mixture(4, 3)
    mean = np.mean([f(x) for f in experts], axis=0)
    np.testing.assert_allclose(encoders.gated_mixture(params, x, experts), mean, rtol=1e-5, atol=1e-6)
    kernel = RNG.normal(size=(4, 3)).astype(np.float32)
    params = {"gate": {"kernel": kernel}}
    for keep in (None, 1, 2, 3):
        wanted = np.zeros((2, 3, 2))
        for b, t in np.ndindex(2, 3):
            gates = np.exp(x[b, t] @ kernel) / np.exp(x[b, t] @ kernel).sum()
            gates[np.argsort(-gates)[keep or 3 :]] = 0
            gates = gates / (gates.sum() + 1e-6)
            wanted[b, t] = sum(g * f(x)[b, t] for g, f in zip(gates, experts, strict=True))
        np.testing.assert_allclose(encoders.gated_mixture(params, x, experts, keep=keep), wanted, atol=1e-4)
    alike = encoders.gated_mixture(params, x, [experts[0]] * 3, key=jax.random.key(0))
    np.testing.assert_allclose(alike, x[..., :2], atol=1e-5)
    noisy = [encoders.gated_mixture(params, x, experts, key=jax.random.key(k)) for k in (0, 1)]
    assert np.abs(np.asarray(noisy[0] - noisy[1])).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: encoders.grid_positions(2, 2, 6), "width=6: 4 does not divide it"),
        (
            lambda: encoders.resample(encoders.init_resampler(jax.random.key(0), 2, 8), np.ones((1, 5, 8))),
            "grid=2 x 2 for 5 tokens",
        ),
        (
            lambda: encoders.gated_mixture(encoders.init_mixture(2, 2), np.ones((1, 1, 2)), []),
            "experts: 0 for",
        ),
        (
            lambda: encoders.gated_mixture(encoders.init_mixture(2, 1), np.ones((1, 1, 2)), [abs], keep=2),
            r"keep=2: outside 1..1",
        ),
        (lambda: encoders.token_scores(np.ones((1, 2, 3)), np.ones((1, 2, 4))), "query"),
        (lambda: encoders.token_scores(np.ones((1, 2, 3)), np.ones((1, 2, 3)), reduce="max"), "reduce='max'"),
        (lambda: encoders.compact(np.ones((1, 2, 3)), np.ones((1, 2)), 3), "most=3: outside 1..2"),
    ],
)
def test_bad_arguments_get_one_line(call, match):
    with pytest.raises(ValueError, match=match):
        call()
