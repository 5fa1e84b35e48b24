"""Our functions give the numbers of public packages; golden.py wrote the files and names the versions."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed import encoders, losses, tables, train, vectors
from jaxembed.vectors import encode_documents, encode_queries

FOLDER = pathlib.Path(__file__).parent / "support" / "golden"
FILES = sorted(p.stem for p in FOLDER.glob("*.npz"))


def golden(name):
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def test_the_files_are_small_and_name_their_versions():
    assert "muvera_2_planes" in FILES
    assert sum(p.stat().st_size for p in FOLDER.glob("*.npz")) < 200_000
    for name in FILES:
        assert all("==" in version for version in golden(name)["versions"])


@pytest.mark.parametrize("name", ["muvera_2_planes", "muvera_3_planes"])
def test_fixed_vectors_of_sets_equal_fastembed(name):
    file = golden(name)
    params = {k: jnp.asarray(file[k]) for k in ("planes", "projection")}
    mask = np.arange(file["tokens"].shape[1]) < file["lengths"][:, None]
    np.testing.assert_allclose(encode_queries(params, file["tokens"], mask), file["queries"], atol=1e-5)
    shape = (*file["settled"].shape, -1)
    ours = np.asarray(encode_documents(params, file["tokens"], mask)).reshape(shape)
    theirs = file["documents"].reshape(shape)
    assert file["settled"].mean() > 0.5
    np.testing.assert_allclose(ours[file["settled"]], theirs[file["settled"]], atol=1e-5)


def test_fixed_vectors_of_sets_equal_the_official_code():
    """Cell c of ours stands there at the rank of c in a Gray code whose top bit is plane 0."""
    file = golden("muvera_google")
    params = {k: jnp.asarray(file[k]) for k in ("planes", "projection")}
    mask = np.arange(file["tokens"].shape[1]) < file["lengths"][:, None]
    _, repetitions, cells, _ = file["documents"].shape
    rank = np.arange(cells)
    code = rank ^ (rank >> 1)
    bits = cells.bit_length() - 1
    order = sum(((code >> j) & 1) << (bits - 1 - j) for j in range(bits))
    for name, encode in (
        ("queries", encode_queries),
        ("unfilled", functools.partial(encode_documents, fill_empty=False)),
        ("documents", encode_documents),
    ):
        ours = np.asarray(encode(params, file["tokens"], mask)).reshape(file[name].shape)
        np.testing.assert_allclose(ours[:, :, order], file[name], atol=1e-5)


RANKING = {
    "pairs": lambda q, d, f: losses.info_nce(q, d),
    "hard_negatives": lambda q, d, f: losses.info_nce(q, jnp.concatenate([d, *f["hard"]])),
    "blocks": lambda q, d, f: losses.info_nce(q, d, blocks=("qd", "qq", "dd")),
    "both_directions": lambda q, d, f: (losses.info_nce(q, d) + losses.info_nce(d, q)) / 2,
    "matryoshka": lambda q, d, f: losses.matryoshka(losses.info_nce, tuple(f["sizes"].tolist()))(q, d),
}


@pytest.mark.parametrize("name", RANKING)
def test_losses_and_gradients_equal_sentence_transformers(name):
    file = golden("ranking")
    total = jax.jit(jax.value_and_grad(lambda q, d: jnp.mean(RANKING[name](q, d, file)), argnums=(0, 1)))
    value, gradients = total(file["queries"], file["documents"])
    np.testing.assert_allclose(value, file[name], rtol=1e-5)
    for part, gradient in zip(("queries", "documents"), gradients, strict=True):
        np.testing.assert_allclose(gradient, file[f"{name}_gradient_{part}"], rtol=1e-3, atol=1e-5)


def test_cross_entropy_equals_torch():
    file = golden("ranking")

    def total(scores):
        value = losses.softmax_loss(scores, positives=file["labels"], temperature=0.5)
        return jnp.sum(value), value

    gradient, value = jax.grad(total, has_aux=True)(file["scores"])
    np.testing.assert_allclose(value, file["cross_entropy"], rtol=1e-5)
    np.testing.assert_allclose(gradient, file["cross_entropy_gradient"], atol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "sum", "max", "weighted_sum"])
def test_bags_equal_torch(kind):
    file = golden("bags")
    p = tables.plan(
        [tables.Feature("ids", vocabulary=12, combine=kind.removeprefix("weighted_"))], rows=1, width=5
    )
    params = {"exact": {"ids": {"embedding": jnp.asarray(file["table"])}}}
    masks = {"ids": np.arange(6) < file["lengths"][:, None]}
    weights = {"ids": file["weights"]} if kind == "weighted_sum" else None
    vectors = tables.lookup(p, params, tables.codes(p, {"ids": file["ids"]}), masks, weights)
    np.testing.assert_allclose(vectors["ids"], file[kind], atol=1e-6)


def test_adam_on_rows_equals_torch_sparse_adam():
    file = golden("sparse_adam")

    def loss_fn(params, batch, key):
        vectors = tables.rows_of(params["table"]["embedding"], batch["codes"])
        return jnp.sum(vectors * batch["cotangents"]), {}

    batches = []
    for ids, cotangents in zip(file["ids"], file["cotangents"], strict=True):
        rows, local = tables.distinct({"a": ids[:, None]}, None, 12, 9)
        batches.append(
            {"codes": local["a"][:, 0], "cotangents": cotangents, "rows": {"table/embedding": rows}}
        )
    adam = optax.adam(0.05, b1=0.9, b2=0.99, eps=1e-8)
    fit = {
        "init": lambda key: {"table": {"embedding": jnp.asarray(file["table"])}},
        "update": tables.row_update(loss_fn, optax.identity(), {"table/embedding": adam}),
        "mesh": train.make_mesh(1),
        "progress": False,
    }
    after = []
    train.fit(
        batches=batches,
        steps=len(batches),
        evaluate=lambda state: after.append(np.asarray(state.params["table"]["embedding"])) or {"x": 0.0},
        evaluate_every=1,
        **fit,
    )
    np.testing.assert_allclose(after, file["after"], atol=1e-6)
    unread = np.setdiff1d(np.arange(12), file["ids"])
    assert unread.size
    np.testing.assert_array_equal(after[-1][unread], file["table"][unread])


def test_a_weighted_bag_of_words_equals_torch():
    file = golden("bags")
    weights = np.where(np.arange(6) < file["lengths"][:, None], file["weights"], 0)
    out = encoders.weighted_bag(file["table"], file["ids"].astype(np.int32), weights)
    np.testing.assert_allclose(out, file["weighted_sum"], atol=1e-6)


def test_attention_equals_torch():
    file = golden("blocks")
    q, k, v = (np.swapaxes(file[name], 1, 2) for name in "qkv")
    out = encoders.dot_product_attention(q, k, v, file["mask"])
    np.testing.assert_allclose(np.swapaxes(out, 1, 2), file["attention"], atol=1e-5)


def test_a_block_equals_a_torch_layer():
    file = golden("blocks")

    def dense(weight, bias):
        return {"kernel": weight.T, "bias": bias}

    def norm(name):
        return {"scale": file[f"layer.{name}.weight"], "bias": file[f"layer.{name}.bias"]}

    parts = zip(
        np.split(file["layer.self_attn.in_proj_weight"], 3),
        np.split(file["layer.self_attn.in_proj_bias"], 3),
        strict=True,
    )
    attention = {name: dense(*part) for name, part in zip(("query", "key", "value"), parts, strict=True)}
    attention["out"] = dense(file["layer.self_attn.out_proj.weight"], file["layer.self_attn.out_proj.bias"])
    params = {
        "attention_norm": norm("norm1"),
        "attention": attention,
        "mlp_norm": norm("norm2"),
        "mlp_in": dense(file["layer.linear1.weight"], file["layer.linear1.bias"]),
        "mlp_out": dense(file["layer.linear2.weight"], file["layer.linear2.bias"]),
    }
    out = encoders.Block(2, 12).apply({"params": params}, jnp.asarray(file["x"]), file["mask"])
    np.testing.assert_allclose(np.asarray(out)[file["mask"]], file["out"][file["mask"]], atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "rotated"])
def test_product_codes_tables_and_scores_equal_faiss(name):
    file = golden("product")
    params = {"codebooks": file[f"{name}_codebooks"]}
    if name == "rotated":
        params["rotation"] = file["rotation"]
    x, codes = file["x"][:50], file[f"{name}_codes"]
    np.testing.assert_array_equal(vectors.encode_product(params, x), codes)
    decoded = vectors.decode_product(params, codes)
    theirs = file[f"{name}_decoded"] @ (file["rotation"].T if name == "rotated" else np.eye(12))
    np.testing.assert_allclose(decoded, theirs, atol=1e-4)
    tables = vectors.product_tables(params, file["queries"])
    np.testing.assert_allclose(tables, file[f"{name}_tables"], atol=1e-4)
    scores = vectors.product_scores(tables, codes)
    np.testing.assert_allclose(scores, file[f"{name}_scores"], atol=1e-4)


@pytest.mark.parametrize(("name", "rotations"), [("plain", 0), ("rotated", 20)])
def test_a_fitted_product_quantiser_errs_no_more_than_that_of_faiss(name, rotations):
    file = golden("product")
    params = vectors.fit_product(
        jax.random.key(0),
        file["x"],
        group=12 // len(file[f"{name}_codebooks"]),
        centres=16,
        iterations=25,
        rotations=rotations,
    )
    assert vectors.product_errors(params, file["x"]).mean() < 1.05 * file[f"{name}_error"]
