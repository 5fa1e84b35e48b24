"""Do embeddings of longer texts crowd together, and does a temperature of the attention spread them?

    python -m experiments.length_collapse
    python -m experiments.length_collapse --texts folder --model folder  # your own .txt files and encoder
    python -m experiments.length_collapse --sts folder     # stsb-en-test.csv in it: short texts as a control

Paper: TempScale (arXiv:2410.24200). `make data` brings all-MiniLM-L6-v2, book excerpts and 20 Newsgroups.
Nothing is trained but a logistic regression. 3 minutes on 2 CPU cores; 5 samples of 24 passages, over which
differences have 95 % t-intervals.

Not reproduced for MiniLM as it is: mean cosine .102 .121 .137 .109 .093 .117 at 8 to 256 tokens, and tokens
within texts fall from .41 to .23. It holds inside, in blocks 1 to 4 (block 1: .63 at 16 tokens, .88 at
256), and with random weights (.914 to .992). Temperature .9 lowers the mean cosine at 256 tokens, .117 to
.110, and by more than at 16 tokens (intervals from .002 on); .8 is not shown to (.114). Without the mean of
all lengths, temperatures 1 .95 .9 .8 .7 give .018 .013 .009 .002 -.001 at 256. The filter rate rises as the
temperature falls in every block in the mean, though not beyond its interval at every length; with length it
falls for random weights (.06 to .03) but rises for the trained encoder (to 3 and more), whose heads read
few tokens.

Downstream nothing is shown. A passage finds its continuation among 120 with MRR@10 .886 (.842 to .930) at
1, .880 at .9 (on the same passages -.016 to .005) and .869 at .8 (-.035 to .000). Of 168 newsgroup posts
.548 (.472 to .621), .560 (.484 to .632) and .571 (.496 to .644) are classified rightly, the intervals being
ten times as wide as the differences; 120 validation posts, .525 .517 .525, each .18 wide, choose 1.
"""

import dataclasses
import functools
import itertools
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import inputs, lengths, paired, report, text_models
from jaxembed import data, search


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures embeddings of the same passages at several lengths and temperatures."""

    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    texts: pathlib.Path | None = None  # folder of .txt files in place of the book excerpts and newsgroups
    sts: pathlib.Path | None = None  # folder of STS-B
    lengths: tuple[int, ...] = (8, 16, 32, 64, 128, 256)  # tokens of a prefix, special ones among them
    temperatures: tuple[float, ...] = (1.0, 0.95, 0.9, 0.8, 0.7)  # 1 is the encoder as it is
    passages: int = 24  # of one sample
    samples: int = 5  # disjoint
    tried: tuple[float, ...] = (1.0, 0.9, 0.8)  # temperatures of continuations and classes
    inside: int = 2  # passages of a sample whose attention is read
    halves: tuple[int, ...] = (32, 256)  # lengths at which a passage has to find its continuation
    documents: int = 160  # newsgroup posts of each range of lengths that are classified; 0 for none
    quick: bool = False  # fewer passages, lengths and temperatures, no classes
    results: pathlib.Path = report.RESULTS

    def __post_init__(self):
        limits = {"passages": (4, 10**5), "samples": (1, 100), "inside": (1, 10**5), "documents": (0, 10**4)}
        report.check(self, limits)
        if 1.0 not in self.temperatures or min(self.temperatures) <= 0:
            raise ValueError("--temperatures: all above 0, and 1 among them")
        if len(self.lengths) < 2 or min(self.lengths) < 4 or list(self.lengths) != sorted(self.lengths):
            raise ValueError("--lengths: two or more, rising, from 4 tokens")
        if not set(self.tried) <= set(self.temperatures):
            raise ValueError("--tried: some of --temperatures")
        if not set(self.halves) <= set(self.lengths):
            raise ValueError("--halves: some of --lengths")


QUICK = {"passages": 12, "inside": 1, "temperatures": (1.0, 0.8), "tried": (1.0, 0.8)}
QUICK |= {"lengths": (8, 16, 64, 256), "halves": (64,), "documents": 0}
RANGES = (64, 128, 256)  # tokens; a post belongs to the first that holds it, longer ones are cut
SHARES = (0.4, 0.25)  # of the classified posts: training, validation; the rest are tested


def read(cfg, encoder):
    """Disjoint samples of passages of twice the greatest length: [samples][passages] of ``pieces``."""
    if cfg.texts is None:
        texts = data.book_excerpts()["texts"] + data.newsgroups("train")["texts"]
        found = lengths.pieces(
            encoder, [t for t in texts if len(t) > 4 * max(cfg.lengths)], 2 * max(cfg.lengths), 1
        )
    else:
        files = sorted(cfg.texts.glob("**/*.txt"))
        if not files:
            raise ValueError(f"--texts {cfg.texts}: no .txt file in this folder")
        texts = [f.read_text(encoding="utf-8", errors="replace") for f in files]
        found = lengths.pieces(encoder, texts, 2 * max(cfg.lengths))
    if len(found) < cfg.passages * cfg.samples:
        raise ValueError(
            f"--passages {cfg.passages}: {len(found)} passages of {2 * max(cfg.lengths)} tokens are not "
            f"enough for {cfg.samples} samples; lower --passages, --samples or --lengths"
        )
    order = np.random.default_rng(0).permutation(len(found))[: cfg.passages * cfg.samples]
    return [[found[i] for i in rows] for rows in np.split(order, cfg.samples)]


def claims(cfg, rows, name):
    """What would count as reproduced, over the samples; of rows at temperature 1 alone, what concerns that.

    A list of ``paired.claim``, whose seeds are the samples.
    """
    long, told = [n for n in cfg.lengths if n >= 32], []
    used = sorted({r["temperature"] for r in rows}, reverse=True)
    low, high = sorted(cfg.lengths)[1], max(cfg.lengths)

    def found(key, at=cfg.lengths, t=1.0):  # [samples, lengths, ...]
        where = [[{"sample": k, "tokens": n, "temperature": t} for n in at] for k in range(cfg.samples)]
        return np.array([[lengths.mean_of(rows, key, **one) for one in sample] for sample in where])

    def claim(sentence, differences):
        if differences.size:  # of lengths that are measured
            told.append(paired.claim(f"{name}{sentence}", differences))

    ends = "rises with length from 32 tokens"
    claim(f": mean cosine {ends}", np.diff(found("cosine", long), axis=1))
    claim(f", blocks 1 to 4: mean cosine {ends}", np.diff(found("layers", long), axis=1)[..., 1:5])
    claim(f": cosine of tokens within texts {ends}", np.diff(found("within", long), axis=1))
    for t in sorted({0.9, 0.8} & set(used), reverse=True):
        drops = found("cosine", (low, high)) - found("cosine", (low, high), t)
        sentence = f": {t} lowers the mean cosine at {high} tokens, and more than at {low}"
        claim(sentence, np.stack([drops[:, 1], drops[:, 1] - drops[:, 0]], axis=1))
    rates = np.stack([found("rates", t=t) for t in used], axis=1)  # [samples, temperatures, lengths, blocks]
    claim(": filter rate falls with length, all blocks", -np.diff(rates, axis=2))
    if len(used) > 1:
        claim(": filter rate rises as the temperature falls, all blocks", np.diff(rates, axis=1))
    return told


def continuations(cfg, encoder, samples, last):
    """How often a prefix finds the text that follows it among those of all passages: MRR@10.

    With t-intervals over the passages, and its gain over the first temperature on the same passages.
    """
    flat, ranks, rows = [p for sample in samples for p in sample], {}, []
    special = encoder.tokenizer.num_special_tokens_to_add(False)
    own = np.arange(len(flat))[:, None]
    for t, n in itertools.product(cfg.tried, cfg.halves):
        rest = [text[places[n - special] :] for text, places in flat]
        found = lengths.embed(encoder, rest, n, t, cfg.passages)[:, -1]
        ids = search.top_k(last[t, n], found, min(10, len(flat)))[1]
        gains = search.gains(ids, own, np.ones_like(own))
        ranks[t, n] = np.asarray(search.mrr(gains, np.ones_like(own), k=10))
        row = {"temperature": t, "tokens": n, "passages": len(flat)}
        for key, x in (("MRR@10", ranks[t, n]), ("gain", ranks[t, n] - ranks[cfg.tried[0], n])):
            row |= dict(zip((key, f"{key} low", f"{key} high"), map(float, paired.interval(x)), strict=True))
        rows.append(row)
    return rows


def classify(cfg, encoder):
    """Accuracy on newsgroup posts, also by ranges of lengths; validation posts choose the temperature.

    Each with the number n of posts and Wilson's interval.
    """
    posts = {split: data.newsgroups(split) for split in ("train", "test")}
    cuts = [round(s * cfg.documents) for s in SHARES]
    chosen = {"train": [], "validation": [], "test": []}
    for split, parts in (("train", ("train", "validation")), ("test", ("test",))):
        texts, labels = posts[split]["texts"], np.array(posts[split]["labels"])
        rng = np.random.default_rng(1)
        some = rng.permutation(len(texts))[: 12 * cfg.documents]
        sizes = np.array([len(e.ids) for e in encoder.tokenizer.encode_batch([texts[i] for i in some])])
        for low, high in itertools.pairwise((0, *RANGES)):
            rows = some[(sizes > low) & (sizes <= high)]
            ends = {"train": (0, cuts[0]), "validation": (cuts[0], sum(cuts))}
            ends["test"] = (0, cfg.documents - sum(cuts))
            for part in parts:
                taken = rows[slice(*ends[part])]
                chosen[part].append((high, [texts[i] for i in taken], labels[taken]))
    table = []
    for t in cfg.tried:
        found = {
            part: [lengths.embed(encoder, texts, n, t, cfg.passages)[:, -1] for n, texts, _ in groups]
            for part, groups in chosen.items()
        }
        known = {p: np.concatenate([labels for _, _, labels in groups]) for p, groups in chosen.items()}
        joined = np.concatenate(found["train"])

        def accuracy(x, labels, joined=joined, known=known):
            made = search.evaluate_classification(lambda rows: rows, joined, known["train"], x, labels)
            return made["accuracy"]

        scored = {part: (np.concatenate(found[part]), known[part]) for part in ("validation", "test")}
        for (n, _, labels), x in zip(chosen["test"], found["test"], strict=True):
            scored[f"up to {n}"] = x, labels
        for posts, (x, labels) in scored.items():
            count, value = len(labels), accuracy(x, labels)
            _, low, high = paired.share(round(value * count), count)
            row = {"temperature": t, "posts": posts, "n": count, "accuracy": value}
            table.append(row | {"low": low, "high": high})
    held = [r for r in table if r["posts"] == "validation"]
    best = max(held, key=lambda r: r["accuracy"])["temperature"]  # the first of equals, nearest to 1
    return [row | {"chosen": "*" if row["temperature"] == best else ""} for row in table]


def similarity(cfg, encoder):
    """Spearman's correlation on the test pairs of STS-B, short texts, for each temperature."""
    pairs = data.sentence_pairs(cfg.sts / "stsb-en-test.csv")
    given, rows = (pairs["first"], pairs["second"], pairs["scores"]), []
    for t in cfg.temperatures:
        encode = functools.partial(encoder.encode_texts, temperature=jnp.float32(t))
        rows.append({"temperature": t, "Spearman": search.evaluate_similarity(encode, *given)["spearman"]})
    return rows


def main(cfg):
    began, name = time.perf_counter(), report.named("length_collapse", cfg)
    cfg = report.preset(cfg, together=[("lengths", "halves"), ("temperatures", "tried")], quick=QUICK)
    encoder = text_models.load(cfg.model)
    report.at_most(cfg, "lengths", encoder.max_length, f"the encoder reads {encoder.max_length} tokens")
    inputs.sets(*([] if cfg.texts else ["book_excerpts", "newsgroups"]))
    inputs.sts(cfg.sts, "test")
    samples, given = read(cfg, encoder), (cfg.lengths, cfg.inside)
    report.stage(f"reads {cfg.samples} samples at {len(cfg.lengths)} lengths and every temperature")
    rows, last = lengths.measure(encoder, samples, cfg.temperatures, *given)
    report.stage("the same with random weights")
    drawn = lengths.random_weights(encoder.params, jax.random.key(0))
    at_random, _ = lengths.measure(encoder, samples, (1.0,), *given, drawn)
    claimed = claims(cfg, rows, "encoder") + claims(cfg, at_random, "random weights")
    found = {
        "encoder": lengths.summary(rows, cfg.temperatures, cfg.lengths),
        "blocks": lengths.by_layer(rows, cfg.lengths),
    }
    found |= {
        "random weights": lengths.summary(at_random, (1.0,), cfg.lengths),
        "random blocks": lengths.by_layer(at_random, cfg.lengths),
    }
    report.stage("continuations, classes and pairs")
    found["continuations"] = continuations(cfg, encoder, samples, last)
    if cfg.documents and cfg.texts is None:
        found["newsgroups"] = classify(cfg, encoder)
    if cfg.sts is not None:
        found["STS-B"] = similarity(cfg, encoder)
    for title, table in found.items():
        print(title, report.table(table), sep="\n", flush=True)
    told = paired.told(claimed)
    for sentence, holds in told["criteria"].items():
        print(f"{'holds' if holds else 'not reproduced'}: {sentence}")
    numbers = found | told | {"rows": rows, "random rows": at_random}
    numbers["seconds"] = round(time.perf_counter() - began)
    numbers["config"] = report.settings(cfg)
    report.save(name, numbers, lengths.picture(numbers), cfg.results)


if __name__ == "__main__":
    report.run(main, Config)
