"""Who counts as a negative: the arms of the story, and the loss of each."""

import numpy as np
import optax

from experiments.false_negatives.planted import BLOCKS
from experiments.shared import flags
from jaxembed import losses, train

PLAIN, BARE, TRUTH, RANDOM = "InfoNCE", "all blocks", "all blocks, true senses", "all blocks, random guide"
GUIDED, WIDER = "all blocks, guided", "all blocks, guided, margin 0.05"
HARD, TRIPLETS = "all blocks, guided, violators alone", "all blocks, guided, with triplets"
GUIDES = {PLAIN: None, BARE: None, GUIDED: 0.0, WIDER: 0.05, RANDOM: 0.0, TRUTH: "truth"}
MODES = {BARE: None, GUIDED: 0.0, HARD: "violators", TRIPLETS: "triplets"}
FEW, USUAL, MANY, BLUNT = (f"InfoNCE, {n}" for n in ("16 pairs", "64 pairs", "256 pairs", "temperature 1"))
BATCHES = {FEW: {"batch_size": 16}, USUAL: {}, MANY: {"batch_size": 256}, BLUNT: {"temperature": 1.0}}
ARMS = {"guides": GUIDES, "modes": MODES, "batches": dict.fromkeys(BATCHES)}
LINES = {BARE: "--", PLAIN: "--", RANDOM: ":"}  # of the picture; others are whole


def make_loss(encode, arm, temperature):
    """The loss of an arm: the same blocks everywhere, other pairs left out, or a term beside it."""
    blocks, rule = ("qd",) if arm.startswith(PLAIN) else BLOCKS, (GUIDES | MODES).get(arm)

    def loss_fn(params, batch, key):
        query, document = (encode(params, batch[side]) for side in ("query", "document"))
        seen = batch["guide"]["query"], batch["guide"]["document"]
        where, loss = None, 0
        if rule == "truth":
            where = losses.duplicate_mask(batch["sense"], blocks=blocks)
        elif rule is not None:
            margin = rule if isinstance(rule, float) else 0.0
            where = losses.guided_mask(*seen, margin=margin, blocks=blocks)
        if rule == "violators":
            where &= losses.violator_mask(query, document, blocks=blocks)
        if rule == "triplets":
            loss = losses.guided_triplet_loss(query, document, *seen)
        loss += losses.info_nce(query, document, where=where, temperature=temperature, blocks=blocks)
        return loss.mean(), {}

    return loss_fn


def settings(cfg, arm):
    """The settings of an arm: batches of another size see as many pairs, at a rate in proportion."""
    size = BATCHES.get(arm, {}).get("batch_size", cfg.batch_size)
    rate = (cfg.learning_rate or 3e-4) * size / cfg.batch_size
    changes = BATCHES.get(arm, {}) | {"steps": max(1, cfg.steps * cfg.batch_size // size)}
    return flags.changed(cfg, learning_rate=rate, **changes)


def updates(cfg, encode):
    """{arm: its training step} of what a run compares."""
    made = {}
    for arm in ARMS[cfg.compare]:
        own = settings(cfg, arm)
        loss_fn = make_loss(encode, arm, own.temperature)
        made[arm] = train.gradient_update(loss_fn, optax.adam(own.learning_rate))
    return made


def gain(rows, arm, over=BARE):
    """Top-1 of an arm above that of another: [seeds, rates], rates in order."""
    tops = {(row["arm"], row["rate"]): np.array([run["top-1"] for run in row["runs"]]) for row in rows}
    return np.stack([tops[arm, rate] - tops[over, rate] for rate in sorted({r for _, r in tops})], axis=1)


def gains(rows):
    """What hiding gains over the same blocks, and the share of the true senses' gain that a guide gets."""
    found, arms = [], {row["arm"] for row in rows}
    compared = [arm for arm in (GUIDED, WIDER, RANDOM, TRUTH, HARD, TRIPLETS) if arm in arms]
    for i, rate in enumerate(sorted({row["rate"] for row in rows})):
        by_arm = {arm: gain(rows, arm)[:, i] for arm in compared}
        row = {"rate": rate} | {
            f"gain, {arm.split(', ', 1)[1]}": float(g.mean()) for arm, g in by_arm.items()
        }
        if TRUTH in arms:
            best = by_arm[TRUTH].mean()
            share = float(by_arm[GUIDED].mean() / best) if rate and best > 0 else None
            row["share of true senses"] = share
        found.append(row | {"seeds won": int((by_arm[GUIDED] > 0).sum())})
    return found
