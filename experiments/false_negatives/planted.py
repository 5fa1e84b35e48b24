"""Batches of WordNet's senses in which false negatives are planted, a small encoder for them, and guides."""

import functools

import jax
import numpy as np

from experiments.shared import flags, text_models
from jaxembed import data, encoders, losses, metrics
from jaxembed.arrays import masked_mean

BLOCKS = ("qd", "qq", "dd")


def wordnet(cfg):
    """Two pairs for each of many senses, as (queries, documents), and one pair for each held-out sense.

    The first pair of a sense is (its first word and definition, first example), the second the same without
    30 % of the words beside the second example.
    """
    senses = [s for s in data.wordnet() if len(s["examples"]) > 1 and len(s["gloss"].split()) > 2]
    most = cfg.senses + 2 * cfg.test
    if len(senses) < most:
        raise ValueError(f"--senses {cfg.senses}: with --test {cfg.test}, at most {len(senses)} senses fit")
    rng = np.random.default_rng(0)
    chosen = [senses[i] for i in rng.permutation(len(senses))[:most]]
    trained, rest = chosen[: cfg.senses], chosen[cfg.senses :]
    held = rest[: cfg.test] if cfg.validate else rest[cfg.test :]
    pairs = [(article(s), s["examples"][0]) for s in held]
    queries = [text for s in trained for text in (article(s), shorten(article(s), rng))]
    documents = [text for s in trained for text in s["examples"][:2]]
    return (queries, documents), tuple(map(list, zip(*pairs, strict=True)))


def article(sense):
    """A sense as a dictionary prints it."""
    return f"{sense['lemmas'][0]}: {sense['gloss']}"


def shorten(text, rng, share=0.3):
    """Drops a share of the words of a text, at least one of them and never all."""
    words = text.split()
    dropped = min(max(1, round(share * len(words))), len(words) - 1)
    kept = np.sort(rng.permutation(len(words))[dropped:])
    return " ".join(words[i] for i in kept)


def planted(rows, repeats):
    """Numbers of pairs for a batch: one of every sense, then the other one of the first ``repeats``."""
    first = 2 * rows + np.arange(len(rows)) % 2
    return np.concatenate([first, first[:repeats] ^ 1])


def student(encoder, width, known):
    """The small encoder: the mean of word vectors plus a network of it, as (init, encode).

    The word vectors start as random projections of the model's.
    """
    words = encoder.params["table"]["embedding"][known]

    def init(key):
        turn, below = jax.random.split(key)
        table = words @ jax.random.normal(turn, (words.shape[1], width)) * width**-0.5
        return {"table": {"embedding": table}, "mlp": encoders.init_mlp(below, (width, 2 * width, width))}

    def encode(params, batch):
        mean = masked_mean(params["table"]["embedding"][batch["ids"]], batch["mask"])
        return mean + encoders.mlp(params["mlp"], mean)

    return init, encode


def prepare(cfg):
    """Everything that arms share: tokens, guides, the small encoder, how it is scored."""
    encoder = text_models.load(cfg.model)
    guide = text_models.load(cfg.guide, "guide") if cfg.guide else encoder
    flags.at_most(cfg, "length", encoder.max_length, f"the encoder reads {encoder.max_length} tokens")
    flags.stage("reads senses, and the guide reads them")
    (queries, documents), held = wordnet(cfg)
    read = functools.partial(encoder.tokenize, prompt="", length=cfg.length)
    sides = {"query": read(queries), "document": read(documents)}
    known = np.unique(np.concatenate([x["ids"][x["mask"]] for x in [*sides.values(), *map(read, held)]]))
    place = np.full(len(encoder.params["table"]["embedding"]), -1, np.int32)
    place[known] = np.arange(len(known))

    def small(batch):  # words that no text here holds are left out
        ids = place[batch["ids"]]
        return {"ids": np.maximum(ids, 0), "mask": batch["mask"] & (ids >= 0)}

    real = {"query": guide.encode_texts(queries), "document": guide.encode_texts(documents)}
    rng = np.random.default_rng(1)
    noise = {side: rng.normal(size=x.shape).astype(np.float32) for side, x in real.items()}
    init, encode = student(encoder, cfg.width, known)
    score = text_models.similarity(cfg.sts) if cfg.sts else None
    run, asked = jax.jit(encode), [small(read(side)) for side in held]

    def evaluate(params):
        found = metrics.partner_ranks(*(run(params, side) for side in asked))
        numbers = {"top-1": float(np.mean(found == 1)), "MRR": float(np.mean(1 / found))}
        if score:
            numbers["STS-B"] = score(lambda texts: np.asarray(run(params, small(read(texts)))))
        return numbers

    flags.stage("trains the encoders, arm by arm")
    sides = {side: small(x) for side, x in sides.items()}
    return {"sides": sides, "guides": (real, noise), "init": init, "encode": encode, "evaluate": evaluate}


def batches_of(cfg, task, rate, seed, noise=False):
    """Batches with planted false negatives; the guide's vectors travel with the texts."""
    repeats = round(rate * cfg.batch_size)

    def make(rows):
        pairs = planted(rows, repeats)
        batch = {side: text_models.take(x, pairs) for side, x in task["sides"].items()}
        guide = text_models.take(task["guides"][noise], pairs)
        return batch | {"guide": guide, "sense": (pairs // 2).astype(np.int32)}

    return data.batches(np.arange(cfg.senses), cfg.batch_size - repeats, make=make, seed=seed)


_hide = jax.jit(losses.guided_mask, static_argnames=("kind", "blocks"))


def mask_quality(cfg, task, rate, margin, noise=False, count=50):
    """Precision and recall of what a guide hides against what shares a sense, over all blocks."""
    hidden = true = both = 0
    source = batches_of(cfg, task, rate, 0, noise)
    for step in range(count):
        batch = source[step]
        seen = batch["guide"]
        guided = np.asarray(_hide(seen["query"], seen["document"], margin=margin, blocks=BLOCKS))
        own = np.tile(np.eye(cfg.batch_size, dtype=bool), (1, len(BLOCKS)))
        same = np.tile(batch["sense"][:, None] == batch["sense"], (1, len(BLOCKS))) & ~own
        drop = ~guided & ~own
        hidden, true, both = hidden + drop.sum(), true + same.sum(), both + (drop & same).sum()
    total = count * len(BLOCKS) * cfg.batch_size * (cfg.batch_size - 1)
    precision, recall = (float(both / x) if x else None for x in (hidden, true))
    return {"precision": precision, "recall": recall, "hidden": float(hidden / total)}
