"""Which pooling, which negatives and in which order of training make one encoder good at several tasks?

    python -m experiments.pooling                                  # all four questions
    python -m experiments.pooling --parts stages                   # stages, labels, pools, toys
    python -m experiments.pooling --pairs file.tsv --model folder  # trains a pooling head on your own pairs
    python -m experiments.pooling --pairs file.tsv --paper         # with the sizes and rates of the paper

Paper: NV-Embed (arXiv:2405.17428). `make data` brings all-MiniLM-L6-v2, WordNet and 20 Newsgroups.
The encoder stays frozen; a pooling head learns on its token states.
"""

import dataclasses
import functools
import pathlib
import time
from typing import Literal

import numpy as np

from experiments.common import frozen, mechanisms, report, text_models
from jaxembed import data, encoders, search
from jaxembed.encoders.tensors import write_safetensors


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains pooling heads on frozen token states."""

    parts: tuple[Literal["stages", "labels", "pools", "toys"], ...] = ("stages", "labels", "pools", "toys")
    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    pairs: pathlib.Path | None = None  # your own pairs in place of the parts
    length: int = 32  # tokens of a text
    width: int | None = 128  # principal directions of the token states that are kept; None keeps all
    latents: int = 64
    heads: int = 4
    head_width: int | None = 32  # None: the width of the states
    factor: int = 2  # hidden width of the gated network over the width
    size: int = 64  # rows of a batch
    negatives: int = 1  # hard negatives of a row
    steps: tuple[int, int] = (75, 75)  # of the first and the second stage
    temperature: float = 0.05
    rate: float = 1e-3
    retrieval: int = 2500  # training pairs
    posts: int = 1500  # training posts
    tested: int = 500  # queries and, twice, posts
    seeds: int = 3
    toy_steps: int = 400
    paper: bool = False  # the paper's sizes, batch, negatives, steps and rate
    quick: bool = False
    workdir: pathlib.Path = pathlib.Path("runs/pooling")
    results: pathlib.Path = report.RESULTS

    def __post_init__(self):
        limits = {"length": (4, 512), "latents": (1, 10**4), "size": (4, 10**5), "negatives": (1, 100)}
        limits |= {"seeds": (1, 100), "retrieval": (100, 10**7), "posts": (100, 11_293), "tested": (20, 3700)}
        report.check(self, limits | {"toy_steps": (1, 10**6)}, multiples={"size": 2})


QUICK = {"parts": ("stages", "toys"), "steps": (20, 20), "retrieval": 300, "posts": 300, "tested": 100}
QUICK |= {"seeds": 1, "toy_steps": 100}
PAPER = {"width": None, "latents": 512, "heads": 8, "head_width": None, "factor": 4, "length": 512}
PAPER |= {"size": 128, "negatives": 7, "steps": (20_000, 18_000), "rate": 2e-5, "temperature": 0.02}


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
    x, y = (frozen.pooled(plain, None, sets["states"], places) for places in (asked, glosses))
    hard = data.hard_negatives(x, y, np.arange(len(x)), count=cfg.negatives)
    pairs = np.column_stack([asked, glosses, glosses[hard]])
    posts, groups = sets["posts"][0], sets["groups"][0]
    drawn = [data.example_pairs(groups, seed=(seed, i), negatives=cfg.negatives) for i in range(4)]
    examples = np.concatenate([np.column_stack([posts, posts[p], posts[n]]) for p, n in drawn])
    rng, own = np.random.default_rng(seed), np.unique(groups, return_inverse=True)[1]
    shift = rng.integers(1, len(sets["names"]), size=(len(own), cfg.negatives))
    others = (own[:, None] + shift) % len(sets["names"])
    return pairs, examples, np.column_stack([posts, sets["names"][own], sets["names"][others]])


def plain(params, tokens, mask):
    """The mean of the token states."""
    return encoders.mean_pool(tokens.astype(np.float32), mask)


def judge(sets, apply, params):
    """Retrieval on held-out examples of WordNet; nearest neighbours and clusters of held-out posts."""
    find = functools.partial(frozen.pooled, apply, params, sets["states"])
    documents = np.concatenate([find(p) for p in reversed(sets["glosses"])])
    known, posts = (find(p) for p in sets["posts"])
    row = {"MRR@10": frozen.reciprocal_rank(find(sets["asked"][1]), documents)}
    row["kNN"] = frozen.nearest_accuracy(known, sets["groups"][0], posts, sets["groups"][1])
    clusters = search.evaluate_clustering(lambda rows: posts[rows], np.arange(len(posts)), sets["groups"][1])
    return row | {"V-measure": clusters["v_measure"]}


def schedules(cfg, pairs, examples):
    """{name: stages} of the paper's ablation, all of the same number of steps."""
    (one, two), mixed = cfg.steps, [pairs, examples]
    return {
        "one stage, in-batch on": [(one + two, mixed, True)],
        "one stage, in-batch off": [(one + two, mixed, False)],
        "two stages": [(one, [pairs], True), (two, mixed, False)],
        "reversed": [(one, mixed, False), (two, [pairs], True)],
    }


def compare(cfg, sets):
    """Rows {arm, seed, metrics} of the parts on real texts; every arm of a seed sees the same rows."""
    states, rows = sets["states"], [{"arm": "mean, untrained", "seed": None} | judge(sets, plain, None)]
    options = {"size": cfg.size, "temperature": cfg.temperature, "rate": cfg.rate}
    for seed in range(cfg.seeds):
        pairs, examples, named = tables(cfg, sets, seed)
        plans = schedules(cfg, pairs, examples)
        arms = {name: ("latent", plan) for name, plan in plans.items() if "stages" in cfg.parts}
        arms |= {"two stages": ("latent", plans["two stages"])}
        if "labels" in cfg.parts:
            label = [plans["two stages"][0], (cfg.steps[1], [pairs, named], False)]
            arms["two stages, labels"] = "latent", label
        if "pools" in cfg.parts:
            arms |= {f"two stages, {kind}": (kind, plans["two stages"]) for kind in frozen.POOLS}
        for name, (kind, plan) in arms.items():
            one = made(cfg, states, kind)
            params = frozen.fit(one, states, plan, seed, **options)
            rows.append({"arm": name, "seed": seed} | judge(sets, one[1], params))
            print(report.table(rows[-1:]), flush=True)
    return rows


def toys(cfg):
    """Rows {arm, seed, accuracy} of the needle among noise and of the question about both ends."""
    arms = {f"needle: {kind}": (mechanisms.needle_model(kind), mechanisms.needles) for kind in
            ("mean", "mean, then block", "latent")}  # fmt: skip
    for name, model in {"bidirectional, mean": (False, "mean"), "causal, mean": (True, "mean"),
                        "causal, last": (True, "last")}.items():  # fmt: skip
        arms[f"both ends: {name}"] = mechanisms.ends_model(*model), mechanisms.both_ends
    return [
        {
            "arm": name,
            "seed": seed,
            "accuracy": mechanisms.learn(*model, draw, seed=seed, steps=cfg.toy_steps),
        }
        for name, (model, draw) in arms.items()
        for seed in range(cfg.seeds)
    ]


def summary(rows):
    """One row for each arm: means over the seeds and, in brackets in its name, what varies."""
    table = []
    for name in dict.fromkeys(r["arm"] for r in rows):
        row, mine = {"arm": name}, [r for r in rows if r["arm"] == name]
        for key in [k for k in mine[0] if k not in ("arm", "seed")]:
            values = [r[key] for r in mine]
            row |= {
                key: float(np.mean(values)),
                f"± {key}": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            }
        table.append(row)
    return table


def criteria(rows, toy):
    """What counts as reproduced: {sentence: bool}; only of arms that ran."""
    told = {}

    def claim(sentence, better, worse, key, margin, rows=rows):
        one, two = ({r["seed"]: r[key] for r in rows if r["arm"] == arm} for arm in (better, worse))
        if one and two:
            gaps = [one[seed] - two[seed] for seed in one]
            told[f"{sentence} ({', '.join(f'{g:+.3f}' for g in gaps)})"] = min(gaps) > margin

    two = "two stages"
    claim(
        "kNN: in-batch off is .02 above on, every seed",
        "one stage, in-batch off",
        "one stage, in-batch on",
        "kNN",
        0.02,
    )
    for arm in ("one stage, in-batch on", "one stage, in-batch off", "reversed"):
        claim(f"MRR@10: two stages above {arm}, every seed", two, arm, "MRR@10", 0)
    claim("kNN: two stages above reversed, every seed", two, "reversed", "kNN", 0)
    claim("V-measure: examples are .02 above labels, every seed", two, f"{two}, labels", "V-measure", 0.02)
    claim("MRR@10: latent above the same block behind the mean", two, f"{two}, mean", "MRR@10", 0)
    claim(
        "needle: block, then mean .1 above the linear map",
        "needle: latent",
        "needle: mean",
        "accuracy",
        0.1,
        toy,
    )
    claim(
        "needle: block, then mean .1 above mean, then block",
        "needle: latent",
        "needle: mean, then block",
        "accuracy",
        0.1,
        toy,
    )
    claim(
        "both ends: bidirectional above causal under the mean",
        "both ends: bidirectional, mean",
        "both ends: causal, mean",
        "accuracy",
        0,
        toy,
    )
    return told


def own_pairs(cfg, encoder):
    """Trains heads on nine tenths of the pairs of a file; every text of the last tenth has to find its own."""
    pairs = data.sentence_pairs(cfg.pairs)
    if "scores" in pairs:
        raise ValueError(f"--pairs {cfg.pairs}: holds scores; give pairs that belong together, or negatives")
    count = len(pairs["first"])
    if count < 20:
        raise ValueError(f"--pairs {cfg.pairs}: {count} pairs; at least 20 are needed, a tenth is held out")
    texts = pairs["first"] + pairs["second"] + pairs.get("negatives", [])
    states = frozen.read_states(encoder, texts, min(cfg.length, encoder.max_length), cfg.width)
    order = np.random.default_rng(0).permutation(count)
    test, train = np.split(order, [-(-count // 10)])
    if "negatives" in pairs:
        hard = 2 * count + train[:, None]
    else:
        x, y = (frozen.pooled(plain, None, states, places) for places in (train, count + train))
        hard = count + train[data.hard_negatives(x, y, np.arange(len(train)), count=cfg.negatives)]
    table = np.column_stack([train, count + train, hard])
    size = min(cfg.size, len(train) // 2 * 2)
    options = {"size": size, "temperature": cfg.temperature, "rate": cfg.rate}
    documents, rows = count + np.concatenate([test, train]), []
    for kind in ("latent", *frozen.POOLS):
        for seed in range(cfg.seeds):
            one = made(cfg, states, kind)
            start = one[0](frozen.jax.random.key(seed))
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
    """Writes the head and the map of token states that stands before it."""
    paths = frozen.jax.tree.flatten_with_path({"reduce": {"kernel": states.kernel}, **params})[0]
    tensors = {"/".join(k.key for k in path): np.asarray(x) for path, x in paths}
    cfg.workdir.mkdir(parents=True, exist_ok=True)
    write_safetensors(cfg.workdir / "pooling.safetensors", tensors)
    print(f"wrote {cfg.workdir / 'pooling.safetensors'}", flush=True)


def draw(axes, rows):
    """Retrieval against classification, a mark for each seed of an arm."""
    for i, name in enumerate(dict.fromkeys(r["arm"] for r in rows)):
        mine = [r for r in rows if r["arm"] == name]
        marks = {"marker": "osD^v<>P*X"[i % 10], "label": name, "linestyle": "none"}
        axes.plot([r["kNN"] for r in mine], [r["MRR@10"] for r in mine], **marks)
    axes.set(xlabel="kNN accuracy on posts", ylabel="MRR@10 on WordNet", title="Retrieval against classes")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))


def main(cfg):
    began, numbers, picture = time.perf_counter(), {}, None
    cfg = dataclasses.replace(cfg, **(QUICK if cfg.quick else {}) | (PAPER if cfg.paper else {}))
    if cfg.pairs is not None or set(cfg.parts) != {"toys"}:
        encoder = encoders.pretrained.load(text_models.find_model(cfg.model))
    if cfg.pairs is not None:
        numbers["own pairs"] = rows = own_pairs(cfg, encoder)
        print(report.table(summary(rows)), flush=True)
    else:
        toy = toys(cfg) if "toys" in cfg.parts else []
        rows = compare(cfg, read(cfg, encoder)) if set(cfg.parts) != {"toys"} else []
        for part in filter(None, (rows, toy)):
            print(report.table(summary(part)), flush=True)
        numbers = {
            "table": summary(rows),
            "toys": summary(toy),
            "criteria": criteria(rows, toy),
            "rows": rows + toy,
        }
        for sentence, holds in numbers["criteria"].items():
            print(f"{'holds' if holds else 'not reproduced'}: {sentence}")
        picture = functools.partial(draw, rows=rows) if rows else None
    numbers["seconds"] = round(time.perf_counter() - began)
    numbers["config"] = {k: v for k, v in vars(cfg).items() if not isinstance(v, pathlib.Path)}
    report.save("pooling_own" if cfg.pairs else "pooling", numbers, picture, cfg.results)


if __name__ == "__main__":
    report.run(main, Config)
