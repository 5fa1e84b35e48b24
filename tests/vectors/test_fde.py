"""Laws of the fixed encodings of token sets and of the Chamfer score."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles_search as oracles
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from token_sets import MASK, RNG, TOKENS, draw, estimates, identity, random_mask, unit_tokens

from jaxembed import vectors
from jaxembed.vectors import _fde_cells as cells

MODES = [("sum", False), ("sum", True), ("mean", False), ("mean", True)]


def encode(params, tokens, mask, mode):
    return vectors.encode_set(params, tokens, mask, aggregate=mode[0], fill_empty=mode[1])


def dense(projection):
    """A projection as matrices [R, D, p] in float64; a count-sketch has one +-1 in each row."""
    if not isinstance(projection, dict):
        return np.asarray(projection, np.float64)
    matrix = np.zeros((*projection["index"].shape, len(projection["zeros"])))
    for place in np.ndindex(projection["index"].shape):
        matrix[place][projection["index"][place]] = projection["sign"][place]
    return matrix


def expected(params, tokens, mask, mode):
    planes, projection = np.asarray(params["planes"], np.float64), dense(params["projection"])
    sets = [t[m].astype(np.float64) for t, m in zip(tokens, mask, strict=True)]
    return np.stack([oracles.fde(planes, projection, s, mean=mode[0] == "mean", fill=mode[1]) for s in sets])


CASES = [
    ("rademacher", 0, ("mean", True)),
    ("count_sketch", 3, ("mean", True)),
    ("identity", 4, ("mean", False)),
    *(("rademacher", 3, mode) for mode in MODES),
]


@pytest.mark.parametrize(("projection", "planes", "mode"), CASES)
def test_encoding_equals_the_loops(projection, planes, mode):
    params = draw(projection, planes)
    found = encode(params, TOKENS, MASK, mode)
    chex.assert_shape(found, (5, 4 * 2**planes * (12 if projection == "identity" else 4)))
    np.testing.assert_allclose(found, expected(params, TOKENS, MASK, mode), atol=1e-5)
    assert not np.any(found[-1])


def test_public_encoders_are_two_modes():
    params = draw()
    query, document = (f(params, TOKENS, MASK) for f in (vectors.encode_queries, vectors.encode_documents))
    np.testing.assert_array_equal(query, encode(params, TOKENS, MASK, ("sum", False)))
    np.testing.assert_array_equal(document, encode(params, TOKENS, MASK, ("mean", True)))
    unfilled = vectors.encode_documents(params, TOKENS, MASK, fill_empty=False)
    np.testing.assert_array_equal(unfilled, encode(params, TOKENS, MASK, ("mean", False)))


def test_numbers_of_another_implementation():
    """Matrices and expected numbers of the golden test of fastembed 0.8 (qdrant)."""
    rng = np.random.default_rng(42)
    planes = np.stack([rng.normal(size=(128, 5)) for _ in range(20)])
    projection = rng.choice([-1, 1], size=(20, 128, 16)) / np.sqrt(16)
    params = {"planes": planes.astype(np.float32), "projection": projection.astype(np.float32)}
    tokens = np.random.default_rng(42).random((10, 128)).astype(np.float32)[None]
    document = vectors.encode_documents(params, tokens, np.ones((1, 10), bool))[0]
    query = vectors.encode_queries(params, tokens, np.ones((1, 10), bool))[0]
    np.testing.assert_allclose(document[:3], [-2.61810007e-04, 1.89005750, -2.32070747], atol=2e-6)
    np.testing.assert_allclose(query[query != 0][:3], [-0.85783903, 1.1077204, -0.09522747], atol=2e-6)


def test_ties_of_the_fill_go_to_the_first_token():
    params = {"planes": jnp.eye(2)[None], "projection": jnp.eye(2)[None]}
    tokens = jnp.array([[[1.0, -1.0], [-1.0, 2.0], [3.0, -3.0]]])  # cells 1, 2, 1: cells 0 and 3 are empty
    found = vectors.encode_documents(params, tokens, jnp.ones((1, 3), bool))
    np.testing.assert_array_equal(found, [[1, -1, 2, -2, -1, 2, 1, -1]])
    found = vectors.encode_documents(params, tokens, jnp.array([[False, True, True]]))
    np.testing.assert_array_equal(found, [[-1, 2, 3, -3, -1, 2, -1, 2]])


def test_a_product_of_zero_is_bit_zero():
    params = {"planes": jnp.ones((1, 2, 1)), "projection": jnp.eye(2)[None]}
    found = vectors.encode_queries(params, jnp.array([[[1.0, -1.0]]]), jnp.ones((1, 1), bool))
    np.testing.assert_array_equal(found, [[1, -1, 0, 0]])


@pytest.mark.parametrize("planes", [0, 4])
def test_estimate_against_chamfer(planes):
    params = draw("identity", planes)
    queries, documents = unit_tokens(6, 5, 12), unit_tokens(9, 8, 12)
    query_mask, document_mask = np.ones((6, 5), bool), RNG.random((9, 8)) < 0.7
    document_mask[:, 0] = True
    exact = vectors.chamfer(queries, documents, query_mask, document_mask)
    query = vectors.encode_queries(params, queries, query_mask)
    document = vectors.encode_documents(params, documents, document_mask)
    estimate = query @ document.T / 4
    assert np.all(estimate <= exact + 1e-5)
    first = np.arange(8) == 0  # a document of one token is estimated exactly
    alone = vectors.encode_documents(params, documents, np.broadcast_to(first, (9, 8)))
    exact = vectors.chamfer(queries, documents[:, :1], query_mask, np.ones((9, 1), bool))
    np.testing.assert_allclose(query @ alone.T / 4, exact, atol=5e-6)
    if planes == 0:
        mean = np.stack([d[m].mean(0) for d, m in zip(documents, document_mask, strict=True)])
        np.testing.assert_allclose(estimate, queries.sum(1) @ mean.T, atol=5e-6)


def test_laws_of_sets():
    params, mode = draw(), ("mean", True)
    full = np.ones((5, 7), bool)
    document, query = encode(params, TOKENS, full, mode), vectors.encode_queries(params, TOKENS, full)
    split = sum(vectors.encode_queries(params, TOKENS[:, s], full[:, s]) for s in (slice(3), slice(3, 7)))
    np.testing.assert_allclose(split, query, atol=1e-6)
    twice = encode(params, np.concatenate([TOKENS, TOKENS], 1), np.ones((5, 14), bool), mode)
    np.testing.assert_allclose(twice, document, atol=1e-6)
    np.testing.assert_allclose(encode(params, 3 * TOKENS, full, mode), 3 * document, atol=1e-5)
    np.testing.assert_allclose(vectors.encode_queries(params, TOKENS[:, ::-1], full), query, atol=1e-6)
    unfilled = encode(params, TOKENS, full, ("mean", False))
    np.testing.assert_allclose(encode(params, TOKENS[:, ::-1], full, ("mean", False)), unfilled, atol=1e-6)
    assert np.all(np.sum(np.asarray(query) != 0, axis=1) <= 7 * 4 * 4)
    assert np.all(np.any(np.asarray(document).reshape(5, 4 * 8, 4) != 0, axis=2))
    np.testing.assert_allclose(encode(params, TOKENS[::-1], full, mode), document[::-1], atol=1e-6)


def test_collisions_follow_the_angle():
    planes = vectors.init_fde(jax.random.key(3), 8, repetitions=3000, planes=3, projected=1)["planes"]
    x, y = unit_tokens(2, 8)
    bits = np.einsum("sd,rdk->srk", np.stack([x, y]), planes) > 0
    angle = np.arccos(x @ y) / np.pi
    assert abs(np.mean(np.all(bits[0] == bits[1], axis=1)) - (1 - angle) ** 3) < 0.03
    assert abs(np.mean(np.sum(bits[0] != bits[1], axis=1)) - 3 * angle) < 0.06


@pytest.mark.parametrize("projection", ["rademacher", "count_sketch"])
def test_projections_keep_inner_products_on_average(projection):
    x, y = RNG.standard_normal((2, 12))
    params = vectors.init_fde(
        jax.random.key(5), 12, repetitions=6000, planes=0, projected=4, projection=projection
    )
    matrix = dense(params["projection"])
    products = np.einsum("rp,rp->r", np.einsum("d,rdp->rp", x, matrix), np.einsum("d,rdp->rp", y, matrix))
    variance = ((x @ x) * (y @ y) + (x @ y) ** 2 - 2 * np.sum(x**2 * y**2)) / 4
    assert abs(products.mean() - x @ y) < 4 * np.sqrt(variance / 6000)
    assert abs(products.var() / variance - 1) < 0.15


@pytest.mark.parametrize("projection", ["rademacher", "count_sketch"])
def test_fewer_repetitions_are_a_prefix(projection):
    many, few = draw(projection, final=10), draw(projection, final=10, repetitions=2)
    np.testing.assert_array_equal(many["planes"][:2], few["planes"])
    np.testing.assert_array_equal(dense(many["projection"])[:2], dense(few["projection"]))
    for name in ("index", "sign"):
        np.testing.assert_array_equal(many["final"][name][:2], few["final"][name])
    assert not np.array_equal(many["planes"][0], many["planes"][1])
    assert not np.array_equal(*dense(many["projection"])[:2])


def test_a_count_sketch_is_stored_as_signs_and_places_and_multiplies_no_matrix():
    params = draw("count_sketch", repetitions=3)
    assert {name: x.shape for name, x in params["projection"].items()} == {
        "index": (3, 12),
        "sign": (3, 12),
        "zeros": (4,),
    }
    program = jax.jit(vectors.encode_documents).lower(params, TOKENS, MASK).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) == 1 and "12x9xf32" in products[0]  # the planes alone: 3 repetitions of 3
    small = vectors.truncate_fde(params, repetitions=2, width=5)
    assert small["projection"]["index"].shape == (2, 5)
    cut = np.where(np.arange(12) < 5, TOKENS, 0)
    np.testing.assert_allclose(
        vectors.encode_documents(small, TOKENS[..., :5], MASK),
        vectors.encode_documents(params, cut, MASK)[:, : vectors.encoding_length(small)],
        atol=1e-5,
    )


def test_encoding_of_fewer_repetitions_is_a_prefix():
    long = vectors.encode_documents(draw(), TOKENS, MASK)
    short = vectors.encode_documents({name: x[:2] for name, x in draw().items()}, TOKENS, MASK)
    np.testing.assert_allclose(long[:, : short.shape[1]], short, atol=1e-6)
    assert set(draw()) == {"planes", "projection"}
    for name in ("planes", "projection"):
        np.testing.assert_array_equal(draw()[name], draw(final=10)[name])


def test_final_sketch_is_a_signed_sum():
    params = draw(final=10)
    whole = np.asarray(encode({k: params[k] for k in ("planes", "projection")}, TOKENS, MASK, ("mean", True)))
    index, sign = (np.asarray(params["final"][name]).reshape(-1) for name in ("index", "sign"))
    sketch = np.zeros((5, 10))
    for column, (i, s) in enumerate(zip(index, sign, strict=True)):
        sketch[:, i] += s * whole[:, column]
    assert set(np.unique(sign)) == {-1, 1}
    np.testing.assert_allclose(encode(params, TOKENS, MASK, ("mean", True)), sketch, atol=1e-5)


@pytest.mark.parametrize(("mode", "final"), [(MODES[0], None), (MODES[3], None), (MODES[3], 10)])
def test_padding_never_leaks(mode, final):
    params = draw(final=final)
    dirty = np.where(MASK[..., None], TOKENS, np.nan).astype(np.float32)
    weights = jnp.asarray(RNG.standard_normal(encode(params, TOKENS, MASK, mode).shape[1]), jnp.float32)

    @jax.jit
    def value_and_gradient(tokens, mask):
        return jax.value_and_grad(lambda t: jnp.sum(encode(params, t, mask, mode) @ weights))(tokens)

    clean = value_and_gradient(np.where(MASK[..., None], TOKENS, 0), MASK)
    chex.assert_trees_all_close(value_and_gradient(dirty, MASK), clean, rtol=0, atol=0)
    chex.assert_tree_all_finite(clean)
    assert not np.any(clean[1][~MASK])
    wider = np.concatenate([dirty, np.full_like(dirty, np.inf)], axis=1)
    found = encode(params, wider, np.concatenate([MASK, np.zeros_like(MASK)], axis=1), mode)
    np.testing.assert_allclose(found, encode(params, TOKENS, MASK, mode), atol=1e-6)


def test_jit_equals_eager_and_gradient_is_linear_in_a_cell():
    params, mode = draw(), ("mean", True)
    eager = encode(params, TOKENS, MASK, mode)
    np.testing.assert_allclose(
        jax.jit(encode, static_argnums=3)(params, TOKENS, MASK, mode), eager, atol=1e-6
    )
    # Inside its cell the encoding is linear, so the directional derivative along the tokens is itself.
    _, along = jax.jvp(
        lambda t: encode(params, t, MASK, mode), (jnp.asarray(TOKENS),), (jnp.asarray(TOKENS),)
    )
    np.testing.assert_allclose(along, eager, atol=1e-6)


def test_low_precision_tokens_are_hashed_in_float32():
    tokens = jnp.asarray(TOKENS, jnp.bfloat16)
    found = vectors.encode_documents(draw(), tokens, MASK)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, expected(draw(), np.asarray(tokens, np.float32), MASK, ("mean", True)), atol=1e-5
    )


def test_sharded_encoding_stays_on_its_device():
    mesh = jax.make_mesh((8, 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    tokens, mask = unit_tokens(16, 6, 12), random_mask(16, 6)
    placed = [jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))) for x in (tokens, mask)]
    for params in (draw(), draw(final=10)):
        compiled = jax.jit(vectors.encode_documents).lower(params, *placed).compile()
        text = compiled.as_text()
        assert not any(
            word in text for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute")
        )
        plain = vectors.encode_documents(params, tokens, mask)
        np.testing.assert_allclose(compiled(params, *placed), plain, atol=1e-6)


def test_the_estimate_never_exceeds_chamfer():
    exact = np.asarray(vectors.chamfer(TOKENS, TOKENS, MASK, MASK))[:-1, :-1]
    gaps = []
    for planes in (0, 3, 6):
        gap = exact - estimates(identity(planes))[:-1, :-1]
        assert gap.min() > -1e-5
        gaps.append(gap.mean())
    assert gaps[0] > gaps[1] > gaps[2] > 0


def test_the_estimate_of_a_single_token_is_exact():
    mask = np.arange(7) == np.array([[0], [3], [6], [1], [2]])
    exact = vectors.chamfer(TOKENS, TOKENS, MASK, mask)
    np.testing.assert_allclose(estimates(identity(), mask=mask), exact, atol=1e-5)
    pooled = np.einsum("btd,nsd->bn", TOKENS * MASK[..., None], TOKENS * mask[..., None])
    np.testing.assert_allclose(estimates(identity(0), mask=mask), pooled, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"final": 4096}, {"projection": "count_sketch"}], ids=str)
def test_the_estimate_is_unbiased(options):
    options = {"projection": "rademacher"} | options
    params = draw(options.pop("projection"), planes=1, repetitions=3000, **options)
    exact = params | {"projection": np.broadcast_to(np.eye(12, dtype=np.float32), (3000, 12, 12))}
    exact.pop("final", None)
    bias = (estimates(params) - estimates(exact))[:-1, :-1]
    assert np.abs(bias).max() < 0.5  # the spread of one draw, over sqrt(3000)
    assert np.abs(bias).mean() < 0.2


def test_many_planes_estimate_within_the_bound():
    """One repetition of 1,000 planes: never above Chamfer, and below by at most 2 pi t per token."""
    planes = jax.random.normal(jax.random.key(4), (1, 12, 1000))
    exact = np.asarray(vectors.chamfer(TOKENS, TOKENS, MASK, MASK))[:-1, :-1]
    found = np.asarray(vectors.implicit_fde_score(planes, TOKENS, TOKENS, MASK, MASK))[:-1, :-1]
    t = np.sqrt(np.log(2 * 7 * 7 / 0.01) / (2 * 1000))
    gap = (exact - found) / MASK.sum(1)[:-1, None]
    assert gap.min() > -1e-5 and gap.max() < max(2 * np.pi * t, (np.pi * t) ** 2 / 2)


@pytest.mark.parametrize("final", [None, 10])
def test_first_repetitions_are_a_smaller_encoding(final):
    params = draw(final=final) if final else draw()
    small = vectors.truncate_fde(params, repetitions=2)
    chex.assert_trees_all_equal(small, draw(repetitions=2, final=final) if final else draw(repetitions=2))
    found = vectors.encode_documents(small, TOKENS, MASK)
    assert found.shape == (5, vectors.encoding_length(small))
    if not final:
        whole = vectors.encode_documents(params, TOKENS, MASK)
        np.testing.assert_allclose(whole[:, : found.shape[1]], found, atol=1e-6)


def test_truncated_tokens_are_tokens_with_zeros():
    params = vectors.centre_fde(draw(), TOKENS, MASK)
    cut = np.where(np.arange(12) < 5, TOKENS, 0)
    params = params | {"centre": jnp.where(jnp.arange(12) < 5, params["centre"], 0)}
    found = vectors.encode_documents(vectors.truncate_fde(params, width=5), TOKENS[..., :5], MASK)
    np.testing.assert_allclose(found, vectors.encode_documents(params, cut, MASK), atol=1e-6)


def test_centring_moves_the_cells_and_nothing_else():
    shifted = TOKENS + np.float32(2) * np.eye(12, dtype=np.float32)[0]
    params = vectors.centre_fde(draw(), np.where(MASK[..., None], shifted, np.nan), MASK)
    np.testing.assert_allclose(params["centre"], shifted[MASK].mean(0), atol=1e-5)
    found = encode(params, shifted, MASK, ("mean", True)).reshape(5, 4, 8, 4)
    moved = encode(draw(), shifted - params["centre"], MASK, ("mean", True)).reshape(found.shape)
    offset = np.einsum("d,rdp->rp", params["centre"], draw()["projection"])
    np.testing.assert_allclose(found[:-1], moved[:-1] + offset[:, None], atol=1e-4)
    zero = draw() | {"centre": jnp.zeros(12)}
    np.testing.assert_array_equal(
        encode(zero, TOKENS, MASK, ("mean", True)), encode(draw(), TOKENS, MASK, ("mean", True))
    )


@pytest.mark.parametrize("final", [None, 10])
def test_chunks_do_not_show(monkeypatch, final):
    params, weights = draw(final=final), RNG.standard_normal(128 if final is None else 10)

    def both(p, tokens):
        found = vectors.encode_documents(p, tokens, MASK)
        return jnp.sum(found * weights[None]), found

    gradient = jax.grad(both, argnums=(0, 1), has_aux=True, allow_int=True)
    whole = gradient(params, TOKENS)
    monkeypatch.setattr(cells, "_CHUNK_ELEMENTS_CPU", 700)
    cells.encode_cells.clear_cache()
    cut = gradient(params, TOKENS)
    cells.encode_cells.clear_cache()
    for x, y in ((whole[1], cut[1]), (whole[0][1], cut[0][1])):
        np.testing.assert_allclose(x, y, atol=1e-5)
    np.testing.assert_allclose(whole[0][0]["projection"], cut[0][0]["projection"], atol=1e-5)


def test_the_gradient_is_the_numerical_one():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), draw())
        tokens = jnp.asarray(TOKENS[:3, :4], jnp.float64)
        weights = jnp.asarray(RNG.standard_normal(128))

        def total(tokens):
            return jnp.sum(vectors.encode_documents(params, tokens, MASK[:3, :4]) @ weights)

        direction = jnp.asarray(RNG.standard_normal(tokens.shape))
        numeric = (total(tokens + 1e-6 * direction) - total(tokens - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(jnp.vdot(jax.grad(total)(tokens), direction), numeric, rtol=1e-5)


def test_encoding_lowers_to_products_and_scatters():
    text = jax.jit(vectors.encode_documents).lower(draw(), TOKENS, MASK).as_text()
    assert text.count("stablehlo.dot_general") == 1 and "stablehlo.scatter" in text
    assert "callback" not in text and "custom_call" not in text


def mixed(**others):
    return vectors.encode_queries(draw() | others, TOKENS, MASK)


def test_empty_shapes():
    none = np.zeros((0, 7, 12), np.float32), np.zeros((0, 7), bool)
    assert vectors.chamfer(TOKENS, none[0], MASK, none[1]).shape == (5, 0)
    assert vectors.chamfer(none[0], TOKENS, none[1], MASK).shape == (0, 5)
    assert np.all(vectors.chamfer(TOKENS, TOKENS[:, :0], MASK, MASK[:, :0])[:-1] == -np.inf)
    assert not np.any(vectors.encode_documents(draw(), TOKENS[:, :0], MASK[:, :0]))
    assert vectors.encode_documents(draw(), *none).shape == (0, vectors.encoding_length(draw()))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: draw(planes=25), "planes"),
        (lambda: draw(planes=-1), "planes"),
        (lambda: draw("dense"), "projection"),
        (lambda: draw(repetitions=0), "repetitions"),
        (lambda: draw(final=0), "final"),
        (lambda: draw(final=2.5), "final"),
        (lambda: vectors.encode_queries(draw(), TOKENS[..., :11], MASK), "tokens"),
        (lambda: vectors.encode_queries(draw(), TOKENS, MASK[:, :6]), "tokens"),
        (lambda: vectors.encode_set(draw(), TOKENS, MASK, aggregate="max"), "aggregate"),
        (lambda: vectors.encode_queries(draw(), TOKENS[0], MASK[0]), "tokens"),
        (lambda: draw(planes=2.0), "planes"),
        (lambda: mixed(projection=draw(repetitions=2)["projection"]), "params"),
        (lambda: mixed(planes=np.zeros((12, 3))), "params"),
        (lambda: mixed(projection={"index": np.zeros((4, 12), int), "sign": np.zeros((4, 12))}), "params"),
        (lambda: mixed(centre=np.zeros(3)), "params"),
        (lambda: mixed(final={"index": np.zeros((4, 3)), "sign": np.zeros((4, 3))}), "params"),
        (lambda: vectors.chamfer(TOKENS, TOKENS[..., :11], MASK, MASK), "documents"),
        (lambda: vectors.chamfer(TOKENS, TOKENS, MASK[:1], MASK), "queries"),
        (lambda: vectors.ball_carve(TOKENS, MASK[:1]), "queries"),
        (lambda: vectors.centre_fde(draw(), TOKENS[..., :3], MASK), "tokens"),
        (lambda: vectors.truncate_fde(draw(), repetitions=5), "repetitions"),
        (lambda: vectors.truncate_fde(draw(), width=0), "width"),
        (lambda: vectors.estimate_chamfer(draw(), np.zeros((2, 128)), np.zeros((2, 127))), "documents"),
        (lambda: vectors.implicit_fde_score(np.zeros((1, 3, 2)), TOKENS, TOKENS, MASK, MASK), "planes"),
    ],
)
def test_errors_name_the_argument(call, name):
    with pytest.raises(ValueError, match=f"^{name}: .*; ") as error:
        call()
    assert "\n" not in str(error.value)
