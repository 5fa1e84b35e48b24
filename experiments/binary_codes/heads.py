"""WordNet's definitions and examples as frozen vectors, heads that code them, and how partners are found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared import flags, text_models
from jaxembed import data, losses, train, vectors
from jaxembed.arrays import inner, unit

FLOAT, HASH, TWO, LONG = "floats, 256", "hash, 256 x 1", "recurrent, 128 x 2", "recurrent, 64 x 4"
HEADS = {HASH: (256, 0), TWO: (128, 1), LONG: (64, 3), FLOAT: (256, 0)}  # coordinates, loops
PREFIXES = tuple(f"first {n} of 4 bits, 64 coordinates" for n in (1, 2, 3))
UNTRAINED = "random hyperplanes, 256"
OLD, NEW, BARE = "old head", "new head, compatible", "new head, trained alone"
CUT = 192  # of the coordinates of the encoder, which the old head reads
SIDES = (lambda sense: sense["gloss"], lambda sense: sense["examples"][0])


def bits_of(name):
    """Bits of a code by the name of its row; floats have 32 each.

    >>> print(bits_of(TWO), bits_of(PREFIXES[1]), bits_of(FLOAT))
    256 128 8192
    """
    if name in PREFIXES:
        return 64 * (PREFIXES.index(name) + 1)
    return 8192 if name == FLOAT else 256


def read(cfg):
    """Unit vectors {"train", "test"} -> (definitions, examples) of senses, each sense on one side only."""
    senses = [s for s in data.wordnet() if s["examples"] and len(s["gloss"].split()) > 2]
    sizes = cfg.pairs_trained, cfg.pairs_validated, cfg.pairs_tested
    if len(senses) < sum(sizes):
        raise ValueError(f"--pairs-trained {cfg.pairs_trained}: only {len(senses)} senses have examples")
    order = np.random.default_rng(0).permutation(len(senses))
    trained, validated, tested, _ = np.split(order, np.cumsum(sizes))
    parts = {"train": trained, "test": validated if cfg.validate else tested}
    encoder = text_models.load(cfg.model)
    flags.stage(f"reads {2 * sum(map(len, parts.values())):,} texts")
    texts = {name: [side(senses[i]) for side in SIDES for i in rows] for name, rows in parts.items()}
    found = {name: np.asarray(unit(encoder.encode_texts(some))) for name, some in texts.items()}
    return {name: tuple(np.split(x, 2)) for name, x in found.items()}


def fit(cfg, pairs, size, loops, seed, *, floats=False, old=None):
    """A head (params, statistics) trained on pairs of vectors, with ``old`` codes beside them or without."""
    binarise = identity if floats else vectors.straight_through_sign
    loss = functools.partial(losses.hardest(losses.info_nce, cfg.negatives), temperature=cfg.temperature)
    both_ways = losses.symmetric(loss)
    beside = losses.compatible(both_ways)

    def loss_fn(params, batch, key, statistics):
        given = jnp.concatenate([batch["query"], batch["document"]])
        codes, statistics = vectors.recurrent_codes(params, statistics, given, train=True, binarise=binarise)
        codes = jnp.split(codes, 2)
        found = both_ways(*codes) if old is None else beside(*codes, batch["old"])
        return found.mean(), ({}, statistics)

    columns = {"query": pairs[0], "document": pairs[1]} | ({} if old is None else {"old": np.asarray(old)})
    steps = max(1, cfg.epochs * len(pairs[0]) // cfg.batch_size)
    shape = {"loops": loops, "hidden": cfg.hidden, "blocks": 1}
    state = train.fit(
        init=lambda key: vectors.init_recurrent(key, pairs[0].shape[1], size, **shape),
        loss_fn=loss_fn,
        tx=optax.adamw(optax.cosine_decay_schedule(cfg.head_rate, steps), weight_decay=1e-3),
        batches=data.batches(columns, cfg.batch_size, seed=seed),
        steps=steps,
        key=seed,
        mesh=train.make_mesh(1),
        progress=False,
    )
    return state.params, state.extra


def identity(x):
    return x


@functools.partial(jax.jit, static_argnames="floats")
def codes_of(head, x, floats=False):
    """Codes of vectors, by the running statistics."""
    binarise = identity if floats else vectors.straight_through_sign
    return vectors.recurrent_codes(*head, x, binarise=binarise)[0]


@functools.partial(jax.jit, static_argnames="k")
def recall(queries, documents, k):
    """Recall@k of partners by cosine, expected over the orders of documents of equal score.

    Scores are rounded to five digits: cosines that are equal may differ in the last ones.
    """
    scores = jnp.round(inner(unit(queries), unit(documents)), 5)
    own = jnp.diagonal(scores)[:, None]
    above, equal = jnp.sum(scores > own, axis=1), jnp.sum(scores == own, axis=1)
    return jnp.mean(jnp.clip((k - above) / equal, 0, 1))


def scores(queries, documents):
    return {f"Recall@{k}": float(recall(queries, documents, k)) for k in (1, 10)}


def untrained(sides, seed):
    """Signs of random projections, which need no training."""
    planes = vectors.random_hyperplanes(jax.random.key(seed), sides[0].shape[1], 256)
    return {UNTRAINED: scores(*(jnp.where(x @ planes >= 0, 1.0, -1.0) for x in sides))}


def prefixes(head, sides):
    """The first planes of the longest code, as they are read from packed bits."""
    loops = HEADS[LONG][1]
    planes = [vectors.levels_to_bits(vectors.code_levels(codes_of(head, x), loops), loops) for x in sides]
    short = {name: [vectors.bits_to_levels(p[:, : i + 1]) for p in planes] for i, name in enumerate(PREFIXES)}
    return {name: scores(*(x.astype(jnp.float32) for x in pair)) for name, pair in short.items()}


def cross(cfg, pairs, bare, seed):
    """Queries of every head against the index that the old head made, and the new head's own index.

    The old head reads the first coordinates of the encoder, the new ones read all.
    """
    trained, tested = pairs
    size, loops = HEADS[TWO]
    old = fit(cfg, tuple(x[:, :CUT] for x in trained), size, loops, seed)
    new = fit(cfg, trained, size, loops, seed, old=codes_of(old, trained[1][:, :CUT]))
    queries = {OLD: codes_of(old, tested[0][:, :CUT])}
    fresh = {NEW: new, BARE: bare}
    queries |= {name: codes_of(head, tested[0]) for name, head in fresh.items()}
    index = codes_of(old, tested[1][:, :CUT])
    found = {(name, OLD): scores(x, index) for name, x in queries.items()}
    return found | {(n, n): scores(queries[n], codes_of(head, tested[1])) for n, head in fresh.items()}


def draw(axes, rows):
    """Recall@10 of every head against its bits."""
    by_name = {row["head"]: row for row in rows}
    line = [by_name[name] for name in (*PREFIXES, LONG)]
    x, y, e = ([row[key] or 0 for row in line] for key in ("bits", "Recall@10", "± Recall@10"))
    axes.errorbar(x, y, e, marker="o", label="recurrent, 64 coordinates, by bits")
    for name, marker in ((TWO, "s"), (HASH, "^"), (UNTRAINED, "x")):
        row = by_name[name]
        axes.errorbar(
            row["bits"], row["Recall@10"], row["± Recall@10"] or 0, marker=marker, ls="", label=name
        )
    axes.axhline(by_name[FLOAT]["Recall@10"], ls="--", color="grey", label=FLOAT)
    axes.set(xlabel="bits", ylabel="Recall@10 of partners", title="heads, trained on pairs")
