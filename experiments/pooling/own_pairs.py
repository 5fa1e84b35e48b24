"""Pooling heads on pairs of a user: trained on nine tenths of a file, judged on the last, saved, loaded."""

import os

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.pooling import pools
from experiments.pooling.states import pooled, read_states
from experiments.shared import flags, text_models
from jaxembed import data, encoders, files, metrics


def train(cfg, encoder):
    """Trains every head on nine tenths of the pairs; each text of the last tenth has to find its own."""
    pairs = data.sentence_pairs(cfg.pairs)
    if "scores" in pairs:
        raise ValueError(f"--pairs {cfg.pairs}: holds scores; give pairs that belong together, or negatives")
    count = len(pairs["first"])
    if count < 20:
        raise ValueError(f"--pairs {cfg.pairs}: {count} pairs; at least 20 are needed, a tenth is held out")
    texts = pairs["first"] + pairs["second"] + pairs.get("negatives", [])
    flags.stage(f"reads the token states of {len(texts):,} texts")
    states, kernel = read_states(encoder, texts, cfg.length, cfg.width)
    text_models.print_reading(states["mask"], count, sum(cfg.steps) * min(cfg.size, count))
    order = np.random.default_rng(0).permutation(count)
    test, kept = np.split(order, [-(-count // 10)])
    if "negatives" in pairs:
        hard = 2 * count + kept[:, None]
    else:
        x, y = (pools.untrained(states, rows) for rows in (kept, count + kept))
        hard = count + kept[data.hard_negatives(x, y, np.arange(len(kept)), count=cfg.negatives)]
    table = np.column_stack([kept, count + kept, hard])
    documents, rows = count + np.concatenate([test, kept]), []
    for kind in ("latent", *pools.POOLS):
        flags.stage(f"trains {sum(cfg.steps)} steps: {kind}")
        for seed in range(cfg.seeds):
            init, apply = pools.head(cfg, kind, states)
            plan, size = [(sum(cfg.steps), [table], True)], min(cfg.size, len(kept) // 2 * 2)
            params = pools.fit(cfg, (init, apply), states, plan, seed, size)
            row = {"arm": kind, "seed": seed}
            for name, given in (("untrained MRR@10", init(jax.random.key(seed))), ("MRR@10", params)):
                x, y = (pooled(apply, given, states, rows) for rows in (test, documents))
                ranks = metrics.partner_ranks(x, y)
                row[name] = float(np.mean((ranks <= 10) / ranks))
            rows.append(row)
            if kind == "latent" and seed == 0:
                save_head(cfg.workdir / "pooling.npz", params, kernel, cfg.heads)
    return rows


def save_head(path, params, kernel, heads):
    """Writes a head and the map of token states that comes before it as a file of NumPy arrays.

    Args:
        path: ends with .npz.
        params: of ``encoders.latent_attention_pool``.
        kernel: [D, W], the map.
        heads: of the head's attention.
    """
    arrays = flatten_dict({"pool": params, "reduce": {"kernel": kernel}, "heads": np.int32(heads)}, sep="/")
    path.parent.mkdir(parents=True, exist_ok=True)
    new = files.beside(path, ".new")
    with files.written(new) as file:
        np.savez(file, **arrays)
    os.replace(new, path)
    print(f"wrote {path}", flush=True)


def load_head(path):
    """Reads what :func:`save_head` wrote, as a function (token states [B, T, D], mask [B, T]) -> [B, W].

    With ``tokens, mask = encoder.encode_tokens(encoder.params, encoder.tokenize(texts))`` and
    ``load_head(path)(tokens, mask)`` texts become vectors that compare by the cosine. The head was trained
    on texts that were cut at --length tokens.
    """
    with np.load(path, allow_pickle=False) as found:
        saved = unflatten_dict(dict(found), sep="/")
    heads = int(saved["heads"])

    @jax.jit
    def apply(tokens, mask):
        narrow = tokens @ saved["reduce"]["kernel"]
        return encoders.latent_attention_pool(saved["pool"], narrow, mask, heads=heads)

    return apply
