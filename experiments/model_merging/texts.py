"""Two tasks of texts: graded similarity (STS-B), and which word a definition of WordNet belongs to."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.model_merging.arms import PROPORTIONAL, UNIFORM
from experiments.shared import inputs, text_models
from jaxembed import data, losses, metrics, train, weights

TASKS = ("STS-B", "definitions")
PROBE, SMALL = 64, 8  # pairs of a probe, and of a batch for Fisher's diagonals
TEST, GRADED = 500, 400  # senses that are searched, pairs of STS-B that are scored


def definitions(count):
    """(gloss, word) of so many senses whose first words differ, in a fixed order."""
    senses = [s for s in data.wordnet(parts=("noun",)) if len(s["gloss"].split()) > 3]
    chosen = {s["lemmas"][0].lower(): s["gloss"] for s in senses}
    if len(chosen) < count:
        raise ValueError(f"--senses: with probe and test, WordNet has {len(chosen)}; choose fewer")
    words = sorted(chosen)
    rows = np.random.default_rng(0).permutation(len(words))[:count]
    return [chosen[words[i]] for i in rows], [words[i] for i in rows]


def prepare(cfg):
    """The encoder, the pairs of both tasks, and how a model is scored."""
    encoder = text_models.load(cfg.model)
    graded = data.sentence_pairs(cfg.sts / inputs.STS["train"])
    glosses, words = definitions(cfg.senses + PROBE + 2 * TEST)
    held = slice(-TEST, None) if cfg.validate else slice(-2 * TEST, -TEST)
    test = data.sentence_pairs(cfg.sts / inputs.STS["dev" if cfg.validate else "test"])
    some = np.random.default_rng(0).permutation(len(test["first"]))[:GRADED]
    test = {name: [column[i] for i in some] for name, column in test.items()}
    count = cfg.senses + PROBE
    pairs = [graded, {"first": glosses[:count], "second": words[:count]}]

    def evaluate(params):
        encode = dataclasses.replace(encoder, params=params).encode_texts
        close = metrics.evaluate_similarity(encode, test["first"], test["second"], test["scores"])
        ranks = metrics.partner_ranks(encode(glosses[held]), encode(words[held]))
        return {"mean": [close["spearman"], float(np.mean(ranks == 1))]}

    def init(key):
        return jax.tree.map(jnp.copy, encoder.params)

    # One init and one loss for all that is trained: each new one would be compiled, with the encoder inside.
    task = {"encoder": encoder, "pairs": pairs, "evaluate": evaluate}
    return task | {"init": init, "loss": loss_of(encoder.encode)}


def loss_of(encode):
    """CoSENT where a batch is graded, InfoNCE where it is not; one program for both."""

    def loss_fn(params, batch, key=None):
        first, second = (encode(params, batch[side]) for side in ("first", "second"))
        graded = losses.cosent(first, second, targets=batch["targets"]).mean()
        return jnp.where(batch["graded"], graded, losses.info_nce(first, second).mean()), {}

    return loss_fn


def batch_of(cfg, task, number, rows):
    """Some pairs of one task as a batch."""
    pairs, read = task["pairs"][number], task["encoder"].tokenize
    found = {n: read([pairs[n][i] for i in rows], length=cfg.length) for n in ("first", "second")}
    targets = pairs["scores"][rows] if "scores" in pairs else np.zeros(len(rows), np.float32)
    return found | {"targets": targets, "graded": np.array("scores" in pairs)}


class Batches:
    """Batches of one task each, drawn by shares; the last PROBE pairs of a task belong to its probe."""

    def __init__(self, cfg, task, shares, seed, probe=PROBE):
        self.cfg, self.task, self.seed = cfg, task, seed
        self.shares = np.asarray(shares, float) / np.sum(shares)
        self.counts = [len(pairs["first"]) - probe for pairs in task["pairs"]]

    def __getitem__(self, t):
        rng = np.random.default_rng((self.seed, t))
        number = rng.choice(len(self.shares), p=self.shares)
        rows = rng.choice(self.counts[number], self.cfg.batch_size, replace=False)
        return batch_of(self.cfg, self.task, number, rows)


@functools.cache
def optimizer(rate, steps):
    return optax.adamw(optax.warmup_cosine_decay_schedule(0, rate, max(1, steps // 10), steps))


def models(cfg, task, seed):
    """What :func:`compared` takes after ``evaluate``: start, models, loss, probe and Fisher diagonals."""
    start, loss_fn = task["encoder"].params, task["loss"]
    counts = [len(pairs["first"]) for pairs in task["pairs"]]

    def trained(shares, steps, probe):
        return train.fit(
            init=task["init"],
            loss_fn=loss_fn,
            tx=optimizer(cfg.learning_rate, steps),
            batches=Batches(cfg, task, shares, 10 * seed + int(shares[0] > shares[1]), probe),
            steps=steps,
            mesh=train.make_mesh(1),
        ).params

    alone = [trained(shares, cfg.steps, PROBE) for shares in np.eye(2)]
    joint = {PROPORTIONAL: trained(counts, 2 * cfg.steps, 0), UNIFORM: trained((1, 1), 2 * cfg.steps, 0)}
    held = [np.arange(count - PROBE, count) for count in counts]
    cut = [np.split(rows, range(cfg.batch_size, PROBE, cfg.batch_size)) for rows in held]
    probe = [batch_of(cfg, task, n, rows) for pair in zip(*cut, strict=True) for n, rows in enumerate(pair)]
    small = [
        [batch_of(cfg, task, n, np.arange(i, i + SMALL)) for i in range(0, 4 * SMALL, SMALL)] for n in (0, 1)
    ]
    fishers = [weights.fisher_diagonal(loss_fn, m, b) for m, b in zip(alone, small, strict=True)]
    return start, alone, joint, loss_fn, probe, fishers
