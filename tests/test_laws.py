"""Laws across the rooms: any table, encoder, loss and nesting compose under any mesh; imports form a star."""

import ast
import functools
import importlib
import itertools
import pathlib
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxembed
from jaxembed import encoders, losses, tables, train, vectors

# Everything composes, sharded or not

B, T, D, WORDS = 8, 3, 8, 24
TABLES = {
    "one table": tables.plan([tables.Feature("word")], rows=16, width=D),
    "two tables": tables.plan([tables.Feature("word", chunks=2)], rows=16, width=D // 2, tables=2),
}
FDE = vectors.init_fde(jax.random.key(5), D, repetitions=3, planes=1, projected=4)


def words_of(plan, params, ids):
    """Vectors [..., D] of word ids of any shape."""
    codes = tables.codes(plan, {"word": ids.reshape(-1)})
    return tables.lookup(plan, params, codes)["word"].reshape(*ids.shape, D)


def bag(plan):
    def encode(params, batch):
        words = words_of(plan, params, jnp.arange(WORDS))
        return {"sum": encoders.weighted_bag(words, batch["ids"], batch["mask"].astype(jnp.float32))}

    return lambda key: tables.init_tables(key, plan), encode


def transformer(plan):
    encoder = encoders.transformer(
        lambda key: tables.init_tables(key, plan),
        lambda params, batch: (words_of(plan, params, batch["ids"]), batch["mask"]),
        width=D,
        layers=2,
        heads=2,
        mlp_width=8,
        positions=T,
    )

    def encode(params, batch):
        out = encoder.hidden(params, batch)
        tokens = out["tokens"], out["mask"]
        return {"mean": encoders.mean_pool(*tokens), "tokens": encoders.multi_vector(*tokens)}

    return encoder.init, encode


def rcnn(plan):
    network = encoders.text_network(
        lambda key: tables.init_tables(key, plan),
        lambda params, batch: (words_of(plan, params, batch["ids"]), batch["mask"]),
        kind="rcnn",
        inputs=D,
        context=4,
        width=D,
        cell="gru",
    )
    return network.init, lambda params, batch: {"text": network.encode(params, batch)}


ENCODERS = {"bag": bag, "transformer": transformer, "rcnn": rcnn}


def dot_loss(queries, documents):
    return losses.softmax_loss(jnp.einsum("bd,nd->bn", queries, documents, precision="highest"))


def nested(loss):
    return losses.matryoshka(loss, (2, D), (0.5, 1.0))


def fde_loss(query_mask, document_mask):
    def loss(queries, documents):
        q = vectors.encode_queries(FDE, queries, query_mask)
        d = vectors.encode_documents(FDE, documents, document_mask)
        return dot_loss(q, d / len(FDE["planes"]))

    return loss


def chamfer_loss(query_mask, document_mask):
    return lambda queries, documents: losses.softmax_loss(
        vectors.chamfer(queries, documents, query_mask, document_mask)
    )


ON_VECTORS = {"info_nce": losses.info_nce, "dot": dot_loss}
ON_VECTORS |= {f"nested {name}": nested(loss) for name, loss in ON_VECTORS.items()}
ON_VECTORS["distance"] = lambda queries, documents: (
    losses.vector_distance(queries, teacher=documents) + losses.vector_distance(documents, teacher=queries)
)


def losses_of(vectors_of, mask):
    """{name: [B]}: every loss that applies to (queries, documents) of every pooling, mask [B, 2, T]."""
    found = {}
    for pooling, pair in vectors_of.items():
        if pooling == "tokens":
            masks = mask[:, 0], mask[:, 1]
            chamfer = chamfer_loss(*masks)
            each = {"fde": fde_loss(*masks), "chamfer": chamfer, "nested chamfer": nested(chamfer)}
        else:
            each = ON_VECTORS
        found |= {f"{name} of {pooling}": loss(*pair) for name, loss in each.items()}
    return found


NAMES = {
    "bag": [f"{name} of sum" for name in ON_VECTORS],
    "rcnn": [f"{name} of text" for name in ("info_nce", "nested dot")],
    "transformer": [f"{name} of mean" for name in ON_VECTORS]
    + [f"{name} of tokens" for name in ("fde", "chamfer", "nested chamfer")],
}
CASES = [(t, e, name) for t, e in itertools.product(TABLES, ENCODERS) for name in NAMES[e]]
RULES = (
    (r"table/", P("model", None)),
    (r"(mlp_in|query|key|value)/kernel", P(None, None, "model")),
    (r"(mlp_out|out)/kernel", P(None, "model", None)),
)


def make_batch():
    """Ids and mask [B, 2, T]: row i holds query i and the document that answers it."""
    rng = np.random.default_rng(0)
    mask = np.arange(T) < rng.integers(1, T + 1, (B, 2, 1))
    return {"ids": rng.integers(0, WORDS, (B, 2, T)).astype(np.int32), "mask": mask}


def encode_both(encode, params, batch):
    """{pooling: (queries, documents)}, [B, D] or [B, T, D] each."""
    out = encode(params, jax.tree.map(lambda x: x.reshape(2 * B, T), batch))
    split = {pooling: x.reshape(B, 2, *x.shape[1:]) for pooling, x in out.items()}
    return {pooling: (x[:, 0], x[:, 1]) for pooling, x in split.items()}


@functools.cache
def compiled(table, encoder):
    """Params, and the jitted (params, batch, weights) -> (losses [n], gradient of weights @ losses)."""
    init, encode = ENCODERS[encoder](TABLES[table])

    def weighted(params, batch, weights):
        each = losses_of(encode_both(encode, params, batch), batch["mask"])
        stacked = jnp.stack([jnp.mean(each[name]) for name in NAMES[encoder]])
        return jnp.where(weights > 0, stacked, 0).sum(), stacked

    def run(params, batch, weights):
        gradients, stacked = jax.grad(weighted, has_aux=True)(params, batch, weights)
        return stacked, gradients

    quick = {"xla_backend_optimization_level": 0}  # compiling is most of the time here
    return jax.jit(init)(jax.random.key(0)), jax.jit(run, compiler_options=quick)


@functools.cache
def results(table, encoder, mesh):
    """NumPy losses and gradients by name; without a mesh on one device."""
    params, run = compiled(table, encoder)
    batch = make_batch()
    if mesh is not None:
        mesh = train.make_mesh(*mesh)
        params = jax.device_put(params, train.path_shardings(params, mesh, RULES))
        batch = jax.device_put(batch, NamedSharding(mesh, P("data")))
    found = {}
    for name, chosen in zip(NAMES[encoder], np.eye(len(NAMES[encoder]), dtype=np.float32), strict=True):
        values, gradients = jax.tree.map(np.asarray, run(params, batch, chosen))
        found[name] = values[chosen == 1][0], gradients
    return found


@pytest.mark.parametrize("mesh", [(1, 8), (2, 4), (8, 1)], ids=str)
@pytest.mark.parametrize(("table", "encoder", "name"), CASES)
def test_a_sharded_step_is_the_unsharded_step(table, encoder, name, mesh):
    value, gradients = results(table, encoder, mesh)[name]
    expected, expected_gradients = results(table, encoder, None)[name]
    np.testing.assert_allclose(value, expected, atol=1e-5)
    chex.assert_trees_all_close(gradients, expected_gradients, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("table", "encoder", "name"), CASES)
def test_every_composition_trains_the_table(table, encoder, name):
    value, gradients = results(table, encoder, None)[name]
    chex.assert_tree_all_finite((value, gradients))
    rows = np.abs(gradients["table"]["embedding"]).max(axis=1)
    assert value > 0
    assert (rows > 1e-6).mean() > 0.4
    if encoder == "transformer":
        assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradients["blocks"]["mlp_in"]))


@pytest.mark.parametrize(
    ("encoder", "name"), [("bag", "info_nce of sum"), ("transformer", "chamfer of tokens")]
)
def test_nesting_is_the_sum_of_its_parts(encoder, name):
    params, _ = compiled("one table", encoder)
    _, encode = ENCODERS[encoder](TABLES["one table"])
    batch = make_batch()
    whole = encode_both(jax.jit(encode), params, batch)
    prefix = jax.tree.map(lambda v: v[..., :2], whole)
    pooling = name.split()[-1]
    loss = losses.info_nce if pooling == "sum" else chamfer_loss(batch["mask"][:, 0], batch["mask"][:, 1])
    parts = [loss(*pair[pooling]) for pair in (whole, prefix)]
    value, _ = results("one table", encoder, None)[f"nested {name}"]
    np.testing.assert_allclose(value, np.mean(parts[0] + 0.5 * parts[1]), rtol=1e-4)


# Imports form a star, and everything public is described

ROOT = pathlib.Path(jaxembed.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
ALL = {p.name for p in ROOT.iterdir() if p.is_dir()}
ROOMS = {"data": {"tables"}, "encoders": {"tables"}, "metrics": {"search"}}
ROOMS |= {"diffusion": {"encoders", "vectors"}, "recipes": set(ALL)}
ONLY = {"flax": "encoders", "grain": "data", "tensorflow_datasets": "data", "orbax": "train"}
ONLY |= {"sklearn": "metrics", "mteb": "metrics", "pyarrow": "data", "tokenizers": "encoders"}
ONLY |= {"PIL": "data"}
OPEN = {"_locks", "_reading", "arrays", "checks", "counts", "extras", "files", "hashing"}  # to all rooms
OPEN |= {"layers", "ragged", "shrinkage"}
LIGHT = {"tables", "losses", "vectors", "search", "weights"}
LIGHT_LIBRARIES = {"jax", "optax", "numpy", "jaxembed"}


def room_of(path):
    inside = path.relative_to(ROOT).parts
    return inside[0] if len(inside) > 1 else inside[0].removesuffix(".py")


def imports_of(path):
    """Dotted names that a module imports, at its top or inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: write the import from jaxembed in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def short(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_room_imports_only_what_the_star_allows(path):
    room, names = room_of(path), imports_of(path)
    allowed = {room} | OPEN | ROOMS.get(room, set())
    used = {name.split(".")[1] for name in names if name.startswith("jaxembed.")}
    assert used <= allowed
    libraries = {name.split(".")[0] for name in names}
    for library, home in ONLY.items():
        assert library not in libraries or room == home
    if room in LIGHT or room in OPEN | {"__init__"}:
        bar = {"tqdm"} if room == "extras" else set()
        assert libraries - sys.stdlib_module_names <= LIGHT_LIBRARIES | bar
    assert not libraries & {"torch", "tensorflow", "pickle", "experiments"}


def public(tree):
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_everything_public_is_described(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    room = path.parent / "__init__.py"
    exported = {name.split(".")[-1] for name in imports_of(room)} if path != room else set()
    exported |= {node.name for node in public(tree)} if path.parent == ROOT else set()
    for node in public(tree):
        text = ast.get_docstring(node) or ""
        assert text, f"{node.name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            described = not arguments or "[" in text or "Args:" in text or node.name not in exported
            assert described, f"{node.name}: neither shapes nor arguments"


INSIDE = (ROOT / "encoders" / "pretrained",)  # packages whose names the room above lists


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.name == "__init__.py" and p.parent not in (ROOT, *INSIDE)], ids=short
)
def test_a_room_exports_every_name_that_it_lists(path):
    room = importlib.import_module(".".join(("jaxembed", *path.parent.relative_to(ROOT).parts)))
    assert room.__all__ == sorted(room.__all__)
    assert all(hasattr(room, name) for name in room.__all__)
    assert not any(name.startswith("_") for name in room.__all__)
