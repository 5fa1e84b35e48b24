"""The texts, training rows and measurements of the experiment on pooling."""

import functools

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.common import frozen, report, text_models
from jaxembed import data, encoders, metrics
from jaxembed.encoders.pretrained.tensors import read_safetensors, write_safetensors


def made(cfg, states, kind):
    """The head of one kind for these states."""
    return frozen.head(kind, states.tokens.shape[2], cfg.latents, cfg.heads, cfg.head_width, cfg.factor)


def read(cfg, encoder):
    """States of all texts, places of both sets in them, and tables of training rows.

    Retrieval: examples of WordNet ask for the gloss of their sense. Classes: posts of 20 Newsgroups in seven
    groups by the first part of their name, in place of Banking77, which no package carries.
    """
    senses = [s for s in data.wordnet() if s["examples"] and len(s["gloss"]) > 10]
    rng = np.random.default_rng(0)
    unique = list({s["gloss"]: s for s in senses}.values())
    some = [unique[i] for i in rng.permutation(len(unique))[: cfg.retrieval + cfg.tested]]
    texts, labels = [s["examples"][0] for s in some] + [s["gloss"] for s in some], []
    for split, count in (("train", cfg.posts), ("test", 2 * cfg.tested)):
        posts = data.newsgroups(split)
        rows = rng.permutation(len(posts["texts"]))[:count]
        texts += [posts["texts"][i] for i in rows]
        labels += [posts["labels"][i] for i in rows]
    groups = np.array([name.split(".")[0] for name in labels])
    names = [
        ", ".join(sorted({n.replace(".", " ") for n in labels if n.split(".")[0] == g}))
        for g in sorted(set(groups))
    ]
    report.stage(f"reads the token states of {len(texts):,} texts")
    states = frozen.read_states(encoder, texts + names, cfg.length, cfg.width)
    ends = np.cumsum([0, len(some), len(some), cfg.posts, 2 * cfg.tested, len(names)])
    asked, glosses, train, test, named = (np.arange(a, b) for a, b in zip(ends, ends[1:], strict=False))
    return {
        "states": states,
        "asked": np.split(asked, [cfg.retrieval]),
        "glosses": np.split(glosses, [cfg.retrieval]),
        "posts": (train, test),
        "groups": np.split(groups, [cfg.posts]),
        "names": named,
    }


def tables(cfg, sets, seed):
    """Training rows int [n, 2 + h] of one seed: pairs, posts with posts, posts with names of groups."""
    asked, glosses = sets["asked"][0], sets["glosses"][0]
    x, y = (frozen.pooled(frozen.plain, None, sets["states"], places) for places in (asked, glosses))
    hard = data.hard_negatives(x, y, np.arange(len(x)), count=cfg.negatives)
    pairs = np.column_stack([asked, glosses, glosses[hard]])
    posts, groups = sets["posts"][0], sets["groups"][0]
    drawn = [data.example_pairs(groups, seed=(seed, i), negatives=cfg.negatives) for i in range(4)]
    examples = np.concatenate([np.column_stack([posts, posts[p], posts[n]]) for p, n in drawn])
    rng, own = np.random.default_rng(seed), np.unique(groups, return_inverse=True)[1]
    shift = rng.integers(1, len(sets["names"]), size=(len(own), cfg.negatives))
    others = (own[:, None] + shift) % len(sets["names"])
    return pairs, examples, np.column_stack([posts, sets["names"][own], sets["names"][others]])


def judge(sets, apply, params):
    """Retrieval on held-out examples of WordNet; nearest neighbours and clusters of held-out posts."""
    find = functools.partial(frozen.pooled, apply, params, sets["states"])
    documents = np.concatenate([find(p) for p in reversed(sets["glosses"])])
    known, posts = (find(p) for p in sets["posts"])
    row = {"MRR@10": frozen.reciprocal_rank(find(sets["asked"][1]), documents)}
    row["kNN"] = frozen.nearest_accuracy(known, sets["groups"][0], posts, sets["groups"][1])
    clusters = metrics.evaluate_clustering(lambda rows: posts[rows], np.arange(len(posts)), sets["groups"][1])
    return row | {"V-measure": clusters["v_measure"]}


def own_pairs(cfg, encoder):
    """Trains heads on nine tenths of the pairs of a file; each text of the last tenth has to find its own."""
    pairs = data.sentence_pairs(cfg.pairs)
    if "scores" in pairs:
        raise ValueError(f"--pairs {cfg.pairs}: holds scores; give pairs that belong together, or negatives")
    count = len(pairs["first"])
    if count < 20:
        raise ValueError(f"--pairs {cfg.pairs}: {count} pairs; at least 20 are needed, a tenth is held out")
    texts = pairs["first"] + pairs["second"] + pairs.get("negatives", [])
    report.stage(f"reads the token states of {len(texts):,} texts")
    states = frozen.read_states(encoder, texts, min(cfg.length, encoder.max_length), cfg.width)
    text_models.told(states.mask, count, sum(cfg.steps) * min(cfg.size, count))
    order = np.random.default_rng(0).permutation(count)
    test, train = np.split(order, [-(-count // 10)])
    if "negatives" in pairs:
        hard = 2 * count + train[:, None]
    else:
        x, y = (frozen.pooled(frozen.plain, None, states, places) for places in (train, count + train))
        hard = count + train[data.hard_negatives(x, y, np.arange(len(train)), count=cfg.negatives)]
    table = np.column_stack([train, count + train, hard])
    size = min(cfg.size, len(train) // 2 * 2)
    options = {"size": size, "temperature": cfg.temperature, "rate": cfg.rate}
    documents, rows = count + np.concatenate([test, train]), []
    for kind in ("latent", *frozen.POOLS):
        report.stage(f"trains {sum(cfg.steps)} steps: {kind}")
        for seed in range(cfg.seeds):
            one = made(cfg, states, kind)
            start = one[0](jax.random.key(seed))
            params = frozen.fit(one, states, [(sum(cfg.steps), [table], True)], seed, **options)
            row = {"arm": kind, "seed": seed}
            for name, given in (("untrained MRR@10", start), ("MRR@10", params)):
                x, y = (frozen.pooled(one[1], given, states, places) for places in (test, documents))
                row[name] = frozen.reciprocal_rank(x, y)
            rows.append(row)
            if kind == "latent" and seed == 0:
                save(cfg, params, states)
    return rows


def save(cfg, params, states):
    """Writes the head and the map of token states that stands before it, for :func:`load_head`."""
    more = {"reduce": {"kernel": states.kernel}, "run": {"heads": np.int32(cfg.heads)}}
    tensors = {path: np.asarray(x) for path, x in flatten_dict(more | params, sep="/").items()}
    cfg.workdir.mkdir(parents=True, exist_ok=True)
    write_safetensors(cfg.workdir / "pooling.safetensors", tensors)
    print(f"wrote {cfg.workdir / 'pooling.safetensors'}", flush=True)


def load_head(path):
    """The head that --pairs wrote, as a function (token states [B, T, D], mask [B, T]) -> [B, W].

    With ``tokens, mask = encoder.encode_tokens(encoder.params, encoder.tokenize(texts))`` and
    ``load_head(path)(tokens, mask)`` texts become vectors that compare by the cosine. The head was trained
    on texts that were cut at --length tokens.

    Args:
        path: of pooling.safetensors.
    """
    params = unflatten_dict(read_safetensors(path), sep="/")
    kernel, heads = params.pop("reduce")["kernel"], int(params.pop("run")["heads"])

    @jax.jit
    def apply(tokens, mask):
        return encoders.latent_attention_pool(params, tokens @ kernel, mask, heads=heads)

    return apply
