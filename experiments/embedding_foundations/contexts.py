"""Rows on contextual encoders: mixed layers, masked and causal language models, pooling, probes; users."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.embedding_foundations import words
from experiments.shared import text_models
from jaxembed import arrays, data, encoders, losses, metrics, ragged, train, vectors

LENGTH, VOCABULARY, OTHER, HIDDEN = 32, 1000, 0, 1  # words of a text; known words; ids of the others
MASKED, CAUSAL, BOTH = "masked", "causal", "from both sides"  # language models
POOLINGS = {
    "mean": encoders.mean_pool, "cls": encoders.cls_pool, "max": encoders.max_pool,
    "last": encoders.last_pool, "weighted": encoders.weighted_mean_pool,
}  # fmt: skip


@functools.cache
def read(count, places=2):
    """Posts read by the installed encoder: "layers" [N, L + 1, D], means; pooled last states; some tokens."""
    encoder, source = text_models.load(), data.newsgroups("test")
    order = np.random.default_rng(0).permutation(len(source["texts"]))[:count]
    batch = encoder.tokenize([source["texts"][i] for i in order], prompt="", length=LENGTH)
    ids, mask, table = batch["ids"], batch["mask"], encoder.params["table"]["embedding"]
    inner = np.clip(mask.sum(axis=1) - 2, 1, None)[:, None]
    at = 1 + np.floor(np.random.default_rng(1).random((count, places)) * inner).astype(int)

    @jax.jit
    def run(ids, mask, at):
        found = encoder.hidden(encoder.params, {"ids": ids, "mask": mask})
        picked = jnp.take_along_axis(found["tokens"], at[..., None], axis=1)
        pooled = {name: pool(found["tokens"], mask) for name, pool in POOLINGS.items()}
        return pooled | {"layers": found["layers"], "tokens": picked}

    rows = [np.resize(np.arange(s, min(s + 100, count)), 100) for s in range(0, count, 100)]
    parts = [run(ids[row], mask[row], at[row]) for row in rows]
    kept = {n: np.concatenate([p[n] for p in parts])[:count] for n in parts[0]}
    pieces = np.take_along_axis(ids, at, axis=1)
    labels = np.unique(np.array(source["labels"])[order], return_inverse=True)[1]
    return kept | {"pieces": pieces, "table": np.asarray(table)[pieces], "labels": labels}


def halves(cfg, seed):
    """Two halves of the posts, in an order of the seed."""
    order = np.random.default_rng(seed).permutation(2 * cfg.documents)
    return order[: cfg.documents], order[cfg.documents :]


@jax.jit
def fit_mix(layers, labels):
    """A scalar mix of layers [N, L, D] and a linear classifier on it, by AdamW."""
    tx = optax.adamw(1e-2, weight_decay=1e-2)
    start = {"mix": jnp.zeros(layers.shape[1]), "kernel": jnp.zeros((layers.shape[2], 20))}
    start["bias"] = jnp.zeros(20)

    def loss(params):
        return losses.softmax_loss(told(params, layers), positives=labels).mean()

    def step(_, state):
        updates, memory = tx.update(jax.grad(loss)(state[0]), state[1], state[0])
        return optax.apply_updates(state[0], updates), memory

    return jax.lax.fori_loop(0, 200, step, (start, tx.init(start)))[0]


def told(params, layers):
    """Scores [N, C] of :func:`fit_mix`."""
    mixed = encoders.scalar_mix(jnp.swapaxes(layers, 0, 1), params["mix"])
    return mixed @ params["kernel"] + params["bias"]


def mixed_layers(cfg, seed):
    """Row 10: a learned mix of all layers as features of a post, beside the last layer alone."""
    posts, (known, asked) = read(2 * cfg.documents), halves(cfg, seed)
    x = posts["layers"] - posts["layers"][known].mean(axis=0)
    x, found = x / (x[known].std(axis=0) + 1e-6), {}
    for name, part in (("ours", x), ("beside", x[:, -1:])):
        params = fit_mix(part[known], posts["labels"][known])
        right = np.asarray(told(params, part[asked])).argmax(axis=1) == posts["labels"][asked]
        found[name] = float(right.mean())
    return found


def pooling(cfg, seed):
    """Row 13: neighbours of posts by the mean of the last states, beside the first token's."""
    posts, (known, asked) = read(2 * cfg.documents), halves(cfg, seed)
    found = {}
    for name in POOLINGS:
        x, labels = np.asarray(arrays.unit(posts[name])), posts["labels"]
        found[name] = metrics.nearest_accuracy(x[known], labels[known], x[asked], labels[asked])
    return found | {"ours": found["mean"], "beside": found["cls"]}


def probed(cfg, seed):
    """Row 23: how selectively a token's state tells the group of its post, beside its row of the table."""
    posts, (known, asked) = read(2 * cfg.documents), halves(cfg, seed)
    labels = np.repeat(posts["labels"][:, None], posts["pieces"].shape[1], axis=1)
    found = {}
    for name, x in (("ours", posts["tokens"]), ("beside", posts["table"])):
        x = (x - x[known].mean(axis=(0, 1))) / (x[known].std(axis=(0, 1)) + 1e-6)
        sides = [x[rows].reshape(-1, x.shape[2]) for rows in (known, asked)]
        given = {n: posts["pieces"][rows].ravel() for n, rows in (("items", known), ("asked_items", asked))}
        truth = [labels[rows].ravel() for rows in (known, asked)]
        options = {"c": 0.01, "steps": 50, "seed": seed}
        told = metrics.probe_selectivity(sides[0], truth[0], sides[1], truth[1], **given, **options)
        found[name] = told["selectivity"]
    return found


def intruders(cfg, seed, frequent=1000, count=100):
    """Row 23: how far intruders stand from top words of sparse codes, beside those of dense coordinates."""
    x = np.asarray(arrays.unit(words.trained(seed, cfg.texts).vectors[:frequent]))
    dictionary = vectors.fit_dictionary(jax.random.key(seed), x, count, steps=40)
    codes = np.asarray(vectors.sparse_codes(x, dictionary))
    codes = codes[:, (codes > 0).sum(axis=0) >= 5]
    sides = {"ours": codes, "beside": x}
    return {n: float(np.nanmean(metrics.intrusion(side, x, seed=seed))) for n, side in sides.items()}


@functools.cache
def sentences():
    """Ids [N, T] of the first words of posts, for training and held out, log frequencies [V], the words."""
    sides = [[text.split() for text in data.newsgroups(split)["texts"]] for split in ("train", "test")]
    known = data.corpus(sides[0])["words"][:VOCABULARY]
    index = {word: i for i, word in enumerate(known, start=2)}
    rows = [[[index.get(w, OTHER) for w in text[:LENGTH]] for text in side] for side in sides]
    ids, held = (ragged.pad(side, LENGTH)[0] for side in (rows[0], rows[1][:1000]))
    counts = np.bincount(ids[ids > HIDDEN], minlength=len(index) + 2)
    return ids, held, np.log(np.maximum(counts, 1e-9) / counts.sum()).astype(np.float32), known


def batch_of(rng, ids, kind):
    """A batch for a language model: what is read, what is asked, and where."""
    real = ids > HIDDEN
    if kind == CAUSAL:
        return {"ids": ids[:, :-1], "mask": ids[:, :-1] >= 0, "words": ids[:, 1:], "where": real[:, 1:]}
    if kind == BOTH:
        return {"ids": ids, "mask": ids >= 0, "words": ids, "where": real}
    groups = np.where(real, np.arange(ids.shape[1]), -1)
    (where,) = data.word_masks(rng, groups, real, rates=(0.15,))
    hidden = data.hide(rng, ids, where, token=HIDDEN, vocabulary=VOCABULARY + 2)
    return {"ids": hidden, "mask": ids >= 0, "words": ids, "where": where}


def spelled(table, filters=16, sizes=(1, 2, 3, 4)):
    """(init, embed) of words by a convolution over their letters; words that are not known have none."""
    letters = ragged.pad([[], [], *(list(word.encode())[:12] for word in sentences()[3])])[0]

    def init(key):
        one, two, three = jax.random.split(key, 3)
        windows = encoders.init_text_cnn(two, filters, sizes=sizes, filters=filters)
        return {"letters": 0.3 * jax.random.normal(one, (256, filters)), "windows": windows} | table(three)

    def embed(params, batch):
        read = encoders.text_cnn(params["windows"], params["letters"][letters], letters > 0)
        return read[batch["ids"]], batch["mask"]

    return init, embed


@functools.cache
def model(kind, width=64):
    """(init, loss, update) of a small language model over words: a transformer, or an LSTM for each side."""
    log_q = sentences()[2]

    def table(key):
        return {"table": {"embedding": 0.1 * jax.random.normal(key, (VOCABULARY + 2, width))}}

    net = encoders.bidirectional_model(*spelled(table), inputs=width) if kind == BOTH else None
    net = net or encoders.transformer(
        table, lambda params, batch: (params["table"]["embedding"][batch["ids"]], batch["mask"]),
        width=width, layers=2, heads=4, positions=LENGTH, causal=kind == CAUSAL,
    )  # fmt: skip

    def init(key):
        return net.init(key) | {"bias": jnp.asarray(log_q)}

    def loss_fn(params, batch, key=None):
        found = net.hidden(params, batch)
        if kind == BOTH:
            found = batch = encoders.both_sides(found, batch["words"], batch["where"])
        given = {"words": batch["words"], "where": batch["where"], "bias": params["bias"]}
        rows = found["tokens"], params["table"]["embedding"]
        nats = losses.masked_words_loss(lambda x: x, *rows, average="words", **given)
        plain = jnp.where(batch["where"], -jnp.asarray(log_q)[batch["words"]], 0)
        return nats.mean(), {"frequency": jnp.sum(plain) / jnp.sum(batch["where"])}

    return init, jax.jit(loss_fn), train.gradient_update(loss_fn, optax.adam(3e-3))


def language(cfg, seed, kind=MASKED):
    """Rows 10 to 12: nats of a word that is hidden or beside the state, beside those of its frequency."""
    ids, held, _, _ = sentences()
    (init, loss, update), rng = model(kind), np.random.default_rng(seed)
    batches = [batch_of(rng, ids[rng.integers(0, len(ids), 32)], kind) for _ in range(cfg.steps)]
    given = {"batches": batches, "steps": cfg.steps, "key": seed, "progress": False}
    state = train.fit(init=init, update=update, **given)
    ours, beside = loss(state.params, batch_of(rng, held, kind))
    return {"ours": float(ours), "beside": float(beside["frequency"])}


causal, both = (functools.partial(language, kind=kind) for kind in (CAUSAL, BOTH))


def personal(cfg, seed, strength=0.4, part=1):  # strength chosen with part 0
    """Row 19: how often the next word, not one of chance, is nearer to a word plus its group's direction."""
    *sides, _, known = sentences()
    made = words.trained(seed, cfg.texts)
    index = {word: i for i, word in enumerate(made.words)}
    x = np.stack([made.vectors[index[w]] if w in index else 0 * made.vectors[0] for w in known])
    x, counts = np.asarray(arrays.unit(x - x.mean(axis=0))), np.zeros((20, len(known)))
    groups = [np.unique(data.newsgroups(s)["labels"], return_inverse=True)[1] for s in ("train", "test")]
    post, place = np.nonzero(sides[0] > HIDDEN)
    np.add.at(counts, (groups[0][post], sides[0][post, place] - 2), 1)
    shares = np.stack([row / row.sum() for row in (*counts, counts.sum(axis=0))])
    own = np.asarray(arrays.unit((shares[:-1] - shares[-1]) @ x))
    ids, groups = sides[part], groups[part]
    post, place = np.nonzero((ids[:, :-1] > HIDDEN) & (ids[:, 1:] > HIDDEN))
    word, near = (ids[post, place + shift] - 2 for shift in (0, 1))
    chance, found = np.random.default_rng(seed).permutation(near), {}
    for name, added in (("ours", strength * own[groups[post]]), ("beside", 0)):
        found[name] = float(np.mean(np.sum((x[word] + added) * (x[near] - x[chance]), axis=1) > 0))
    return found
