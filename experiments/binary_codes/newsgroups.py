"""20 Newsgroups as bags of words, paragraph vectors of them through bits, and the baselines of equal bits."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, losses, metrics, train, vectors
from jaxembed.arrays import unit

INFERENCE = 0.3  # learning rate of unseen documents
STOP = 100  # the most frequent words, which tell no group
SHORT, LONG = 32, 128  # bits
REAL, BINARY, PLANES = "PV-DBOW", "Binary PV-DBOW", "random hyperplanes"
MEDIANS, CODER = "medians", "autoencoder"
FIRST, LAST = slice(10), slice(10, None)  # groups
HOME, CHANCE = f"{BINARY} of the same groups", "chance"


def read(cfg, learnt=slice(None), searched=slice(None)):
    """(training bags, test bags, test labels); with ``validate`` the last posts for training are the test.

    Groups, in the order of their names, may be cut to those that train and those that are searched.
    """
    known, asked = data.newsgroups("train"), data.newsgroups("test")
    rng = np.random.default_rng(0)
    order = rng.permutation(len(known["texts"]))
    if cfg.validate:
        asked, order = taken(known, order[: cfg.posts_tested]), order[cfg.posts_tested :]
    else:
        asked = taken(asked, rng.permutation(len(asked["texts"])))
    trained = of_groups(taken(known, order), learnt, cfg.posts)["texts"]
    asked = of_groups(asked, searched, cfg.posts_tested)
    counts = collections.Counter(word for text in trained for word in text.split())
    number = {word: i for i, (word, _) in enumerate(counts.most_common(cfg.vocabulary + STOP)[STOP:])}
    names = sorted(set(asked["labels"]))
    labels = np.array([names.index(label) for label in asked["labels"]])
    return bags(trained, number, cfg.words), bags(asked["texts"], number, cfg.words), labels


def taken(posts, rows):
    return {name: [x[i] for i in rows] for name, x in posts.items()}


def of_groups(posts, groups, count):
    """The first posts of some groups."""
    names = sorted(set(posts["labels"]))[groups]
    return taken(posts, [i for i, label in enumerate(posts["labels"]) if label in names][:count])


def bags(texts, number, length):
    """Distinct words int [N, T] of each text, the most frequent first, and how often each stands there."""
    words, weights = np.zeros((len(texts), length), np.int32), np.zeros((len(texts), length), np.float32)
    for i, text in enumerate(texts):
        found = collections.Counter(number[w] for w in text.split() if w in number).most_common(length)
        if found:
            words[i, : len(found)], weights[i, : len(found)] = np.array(found).T
    return {"words": words, "weights": weights}


def fit(cfg, bag, bits, seed, *, mode="round", coded=False):
    """Params of PV-DBOW, or with ``coded`` of an autoencoder, whose documents are a map of their words."""
    count = len(bag["words"])
    rule = functools.partial(optax.adagrad, initial_accumulator_value=0.0, eps=1e-10)
    tx = train.by_path([(r"^documents", rule(cfg.document_rate))], rule(cfg.word_rate))

    def init(key):
        params = losses.init_paragraphs(key, count, cfg.vocabulary, bits)
        if coded:
            params["documents"] = params["documents"][:0]
            params["encoder"] = {"kernel": jnp.zeros((cfg.vocabulary, bits)), "bias": jnp.zeros(bits)}
            draw = jax.random.normal(jax.random.fold_in(key, 1), (cfg.vocabulary, bits))
            params["encoder"]["kernel"] = draw * cfg.vocabulary**-0.5
        return params

    def loss_fn(params, batch, key):
        numbers = batch["number"]
        if coded:
            params = params | {"documents": encoded(params["encoder"], batch)}
            numbers = jnp.arange(len(batch["words"]))
        return losses.pv_dbow_loss(params, numbers, **words_of(batch), bottleneck=bottleneck(mode)).mean(), {}

    columns = {"number": np.arange(count, dtype=np.int32)} | bag
    batches = data.batches(columns, min(cfg.posts_at_once, count), seed=seed)
    steps = max(1, cfg.paragraph_epochs * count // cfg.posts_at_once)
    given = {"batches": batches, "steps": steps, "key": seed, "mesh": train.make_mesh(1), "progress": False}
    return train.fit(init=init, loss_fn=loss_fn, tx=tx, **given).params


@functools.cache
def bottleneck(mode):
    return None if mode is None else functools.partial(vectors.binary_bottleneck, mode=mode)


def words_of(bag):
    return {"words": bag["words"], "weights": bag["weights"]}


def encoded(encoder, bag):
    """The activations of an autoencoder: a linear map of unit bags of log counts."""
    values = jnp.log1p(bag["weights"])
    values = values / jnp.maximum(jnp.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    return jnp.einsum("bt,btm->bm", values, encoder["kernel"][bag["words"]]) + encoder["bias"]


@functools.partial(jax.jit, static_argnames=("mode", "steps"))
def inferred(params, bag, mode, steps, rate):
    """Activations of unseen documents, with everything but their rows as it was trained."""

    def loss(params, numbers):
        return losses.pv_dbow_loss(params, numbers, **words_of(bag), bottleneck=bottleneck(mode))

    return losses.infer_documents(loss, params, len(bag["words"]), steps=steps, rate=rate)


def compare(cfg, trained, tested, labels, width, seed, home=None):
    """{(arm, bits): measures}: floats by cosine, and the codes of every arm by Hamming distance.

    ``home``, what :func:`read` returns of the groups that are searched, adds codes trained there, and chance.
    """

    def asked(params, bag, mode="round"):
        return inferred(params, bag, mode, cfg.steps, INFERENCE)

    real = fit(cfg, trained, width, seed, mode=None)
    coder = fit(cfg, trained, width, seed, coded=True)
    floats = asked(real, tested, None)
    planes = vectors.random_hyperplanes(jax.random.key(seed), width, width)
    some = {name: x[: len(labels)] for name, x in trained.items()}
    middle = np.median(asked(real, some, None), axis=0)
    codes = {
        BINARY: vectors.pack_bits(asked(fit(cfg, trained, width, seed), tested)),
        PLANES: vectors.sign_codes(floats @ planes),
        MEDIANS: vectors.pack_bits(floats > middle),
        CODER: vectors.pack_bits(encoded(coder["encoder"], tested)),
    }
    if home is not None:
        codes[HOME] = vectors.pack_bits(asked(fit(cfg, home[0], width, seed), home[1]))
        codes[CHANCE] = codes[BINARY] * 0
    found = {
        (arm, width): ranked(cfg, -np.asarray(vectors.hamming(x[: cfg.queries], x)), labels)
        for arm, x in codes.items()
    }
    rows = unit(floats)
    return {(REAL, width): ranked(cfg, np.asarray(rows[: cfg.queries] @ rows.T), labels)} | found


def ranked(cfg, scores, labels):
    """nDCG@10, expected over the orders of ties, and MAP with ties in random order; no query finds itself."""
    asked = np.arange(len(scores))
    others = ~np.eye(len(scores), len(labels), dtype=bool)
    scores = scores[others].reshape(len(scores), -1).astype(np.float64)
    same = (labels[asked][:, None] == labels)[others].reshape(scores.shape).astype(np.float32)
    gains = metrics.tied_gains(scores, same).astype(np.float32)
    drawn = metrics.tied_gains(scores, same, key=0).astype(np.float32)
    ndcg = metrics.masked_mean(metrics.ndcg(gains, same, k=10), metrics.has_relevant(same))
    average = metrics.average_precision(drawn, same, k=drawn.shape[1])
    return {"nDCG@10": float(ndcg), "MAP": float(metrics.masked_mean(average, metrics.has_relevant(same)))}


def draw(axes, rows):
    """nDCG@10 of every arm at both widths."""
    order = (REAL, BINARY, CODER, MEDIANS, PLANES, HOME, CHANCE)
    arms = sorted({row["arm"] for row in rows}, key=order.index)
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm]
        x, y, e = ([row[key] or 0 for row in mine] for key in ("bits", "nDCG@10", "± nDCG@10"))
        axes.errorbar(x, y, e, marker="o", ls="--" if arm == REAL else "-", label=arm)
    axes.set(xlabel="bits, or floats (dashed)", ylabel="nDCG@10 of the same newsgroup")
    axes.set_title("trained on groups 1 to 10, searched in 11 to 20" if HOME in arms else "20 Newsgroups")
