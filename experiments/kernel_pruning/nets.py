"""Unbalanced pictures, the net that learns them, scores of its filters, and what is left after pruning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, train, weights

STAGES, CLASSES = (16, 32, 32), 10
NET = encoders.convnet(STAGES, norm="batch", width=CLASSES, inputs=1)
SETS = {"digits": (96, 20, 60), "fashion": (200, 50, 200)}  # of the largest class; to validate; to test


def counts(most, balanced):
    """Training pictures of each class, from the largest down: each has 0.7 of the one before."""
    found = np.maximum(4, np.floor(most * 2 ** (-np.arange(CLASSES) / 2))).astype(int)
    return np.full(CLASSES, found.sum() // CLASSES) if balanced else found


@functools.cache
def read(name):
    """{"images": float [N, h, w, 1], "labels": int [N]} of a set, for training and for testing."""
    if name == "digits":
        found = data.digits()
        return (found, found)
    return data.fashion_mnist("train"), data.fashion_mnist("test")


def task(name, balanced, seed, validate):
    """Training pictures and balanced pictures that are asked for; which class is rare depends on the seed."""
    most, held, asked = SETS[name]
    rng, parts = np.random.default_rng(seed), {"known": [], "asked": []}
    known, tested = read(name)
    for label, count in zip(rng.permutation(CLASSES), counts(most, balanced), strict=True):
        rows = rng.permutation(np.flatnonzero(known["labels"] == label))
        others = rows if name == "digits" else np.flatnonzero(tested["labels"] == label)
        shown = rows[:held] if validate else others[-asked:]
        parts["asked"].append((known if validate else tested, shown))
        parts["known"].append((known, rows[held : held + count]))
    return {part: _joined(chosen) for part, chosen in parts.items()}


def _joined(chosen):
    images = np.concatenate([source["images"][rows] for source, rows in chosen])
    labels = np.concatenate([source["labels"][rows] for source, rows in chosen])
    images = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
    return {"images": images, "labels": labels}


def loss_fn(params, batch, key, state):
    """The softmax loss of a batch; no class has a weight of its own."""
    logits, state = NET.encode(params, batch["images"], state=state, train=True)
    return losses.softmax_loss(logits, positives=batch["labels"]).mean(), ({}, state)


@functools.cache
def update(rate, steps):
    """SGD with momentum and decay; with steps its rate falls to 0 as a cosine."""
    rate = optax.cosine_decay_schedule(rate, steps) if steps else rate
    return train.gradient_update(loss_fn, optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, 0.9)))


def fit(init, known, batch_size, steps, seed, rate, falling):
    """(params, state) after some steps."""
    state = train.fit(
        init=init,
        update=update(rate, steps if falling else 0),
        batches=data.batches(known, min(batch_size, len(known["labels"])), seed=seed),
        steps=steps,
        key=seed,
        mesh=train.make_mesh(1),
    )
    return state.params, state.extra


def tune(tree, *given):
    """Fine-tuning of a tree, which may have fewer channels than the net began with."""
    return fit(lambda key: jax.tree.map(jnp.copy, tree), *given, falling=False)


@jax.jit
def _logits(tree, images):
    return NET.encode(tree[0], images, state=tree[1])


def measured(tree, asked):
    """Balanced accuracy and macro F1."""
    found = np.asarray(_logits(tree, asked["images"])).argmax(axis=1)
    table = np.zeros((CLASSES, CLASSES))
    np.add.at(table, (asked["labels"], found), 1)
    right, given, taken = np.diagonal(table), table.sum(axis=1), table.sum(axis=0)
    return {"accuracy": float(np.mean(right / given)), "F1": float(np.mean(2 * right / (given + taken)))}


@jax.jit
def scores(tree, images):
    """{method: {path: scores}} of all filters on one batch, with running statistics of the norms."""
    taps = weights.convolution_taps(
        lambda params, images: NET.encode(params, images, state=tree[1]), tree[0], images
    )
    maps = NET.maps(tree[0], images, state=tree[1])
    found = {"L1": {}, "HRank": {}, "spread out/in": {}, "spread in/out": {}}
    for (path, tap), after in zip(taps.items(), maps, strict=True):
        path = f"0/{path}"
        found["L1"][path] = weights.filter_l1(tap["kernel"])
        found["HRank"][path] = weights.feature_rank(after)
        found["spread out/in"][path] = weights.activation_spread(**tap)
        found["spread in/out"][path] = weights.activation_spread(**tap, ratio="in_over_out", epsilon=1e-6)
    return found


def random_scores(tree, seed):
    """Scores that know nothing."""
    keys = jax.random.split(jax.random.key(seed), len(STAGES))
    return {
        f"0/stages/stage_{i}/kernel": jax.random.uniform(key, (size,))
        for i, (key, size) in enumerate(zip(keys, STAGES, strict=True))
    }


def released(method, found, side):
    """Scores as the released code has them when it multiplies: L1 sums over places, spread lies in 0..1."""
    sides = [-(-side // 2**i) for i in range(len(STAGES))]
    if method == "L1":
        return {path: x * s * s for (path, x), s in zip(found.items(), sides, strict=True)}
    return found if method == "HRank" else {path: weights.min_max(x) for path, x in found.items()}


def pruned(tree, found, share, multiplied=None):
    """The tree with a share of the filters of every layer; ``multiplied`` are scores of the artefact."""
    keep = {path: weights.select_filters(x, max(1, int(len(x) * share))) for path, x in found.items()}
    more = {} if multiplied is None else {"scores": multiplied, "rescale": "released"}
    return weights.prune(tree, encoders.channel_graph(tree), keep, **more)


def cost(tree, side):
    """Multiply-accumulates of one picture, and parameters."""
    picture = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
    macs = weights.count_macs(lambda tree, x: NET.encode(tree[0], x, state=tree[1]), tree, picture)
    return {"MACs": macs, "parameters": weights.count_parameters(tree[0])}


def stability(tree, known, batch_size, batches):
    """{method: share of filters among the best quarter of any batch}, the mean over the layers."""
    rng, found = np.random.default_rng(0), []
    for _ in range(batches):
        rows = rng.choice(len(known["labels"]), batch_size, replace=False)
        found.append(jax.tree.map(np.asarray, scores(tree, known["images"][rows])))
    out = {}
    for method in found[0]:
        layers = []
        for path, values in found[0][method].items():
            chosen = [weights.select_filters(f[method][path], len(values) // 4) for f in found]
            layers.append(weights.selection_stability(chosen, len(values)))
        out[method] = float(np.mean(layers))
    return out
