"""Do embeddings of longer texts crowd together, and does a temperature of the attention spread them?

    python -m experiments.length_collapse
    python -m experiments.length_collapse --texts folder --model folder  # your own .txt files and encoder
    python -m experiments.length_collapse --sts folder     # stsb-en-test.csv in it: short texts as a control

Paper: TempScale (arXiv:2410.24200). `make data` brings all-MiniLM-L6-v2, book excerpts and 20 Newsgroups.
About 4 minutes on 2 CPU cores.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.length_collapse import passages, tasks
from experiments.shared import flags, inputs, plots, results, text_models
from experiments.shared.results import Claim, Result
from jaxembed import data
from jaxembed.data.rows import decoded


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
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"passages": (4, 10**5), "samples": (1, 100), "inside": (1, 10**5), "documents": (0, 10**4)}
        flags.check(self, limits)
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
CONTINUED = "continuations of passages, ± half of the 95 % interval over the passages"
CLASSIFIED = (
    "newsgroup posts, with Wilson's 95 % interval; the starred temperature was chosen on validation posts"
)


def read(cfg, encoder):
    """Disjoint samples of passages of twice the greatest length: [samples][passages] of ``pieces``."""
    size = 2 * max(cfg.lengths)
    if cfg.texts is None:
        texts = data.book_excerpts()["texts"] + data.newsgroups("train")["texts"]
        found = passages.pieces(encoder, [t for t in texts if len(t) > 2 * size], size, 1)
    else:
        files = sorted(cfg.texts.glob("**/*.txt"))
        if not files:
            raise ValueError(f"--texts {cfg.texts}: no .txt file in this folder")
        texts = [decoded(f) for f in files]
        found = passages.pieces(encoder, texts, size)
    if len(found) < cfg.passages * cfg.samples:
        raise ValueError(
            f"--passages {cfg.passages}: {len(found)} passages of {size} tokens are not enough for "
            f"{cfg.samples} samples; lower --passages, --samples or --lengths"
        )
    order = np.random.default_rng(0).permutation(len(found))[: cfg.passages * cfg.samples]
    return [[found[i] for i in rows] for rows in np.split(order, cfg.samples)]


def by_length(rows):
    """One row for each temperature and length: means over the samples and their standard deviations."""
    table = []
    for t, n in dict.fromkeys((r["temperature"], r["tokens"]) for r in rows):
        mine = [r for r in rows if (r["temperature"], r["tokens"]) == (t, n)]
        row = {"temperature": t, "tokens": n}
        for key in ("cosine", "centred", "within"):
            row[key], row[f"± {key}"] = results.spread([r[key] for r in mine])
        rates = np.mean([r["rates"] for r in mine], axis=0)
        table.append(row | {f"rate {i + 1}": float(rate) for i, rate in enumerate(rates)})
    return table


def by_block(rows):
    """At temperature 1: mean cosine of passages and of tokens after each block, shortest to longest."""
    table, found = [], {}
    for key, name in (("layers", "cosine"), ("within layers", "within")):
        lengths, values = measured(rows, key)
        found |= {f"{name} {n}": values[:, i].mean(axis=0) for i, n in enumerate(lengths)}
    for block in range(len(rows[0]["layers"])):
        table.append({"block": block} | {name: float(x[block]) for name, x in found.items()})
    return table


def measured(rows, key, temperature=1.0):
    """A number, or list of numbers, of every sample at every length: (lengths [L], array [S, L, ...])."""
    mine = {(r["sample"], r["tokens"]): r[key] for r in rows if r["temperature"] == temperature}
    samples, lengths = (sorted({place[i] for place in mine}) for i in (0, 1))
    return lengths, np.array([[mine[k, n] for n in lengths] for k in samples])


def rise(key, blocks=slice(None)):
    """Differences [S, ...] of a number between neighbouring lengths from 32 tokens on."""

    def differences(rows):
        lengths, values = measured(rows, key)
        return np.diff(values[:, np.array(lengths) >= 32][..., blocks], axis=1)

    return differences


def spreads(temperature):
    """Differences [S, 2]: what a temperature takes off the longest texts, alone and above short ones."""

    def differences(rows):
        if temperature not in {r["temperature"] for r in rows}:
            return np.zeros(0)
        drops = measured(rows, "cosine")[1] - measured(rows, "cosine", temperature)[1]
        return np.stack([drops[:, -1], drops[:, -1] - drops[:, 1]], axis=1)

    return differences


def rates(axis):
    """Differences of the filter rate between neighbouring temperatures (axis 1), or lengths (axis 2)."""

    def differences(rows):
        used = sorted({r["temperature"] for r in rows}, reverse=True)
        values = np.stack([measured(rows, "rates", t)[1] for t in used], axis=1)
        return np.diff(values, axis=axis) * {1: 1, 2: -1}[axis]

    return differences


def asked(part, differences):
    """The answer to a claim about the rows of a part; None where its lengths or temperatures did not run."""

    def ours(t):
        found = differences(t[part])
        return results.paired(found) if found.size else None

    return ours


def claims(part, name):
    """What is claimed of an encoder at any temperature."""
    ends = "rises with length from 32 tokens on"
    sentences = {
        f"{name}: the mean cosine of texts {ends}.": rise("cosine"),
        f"{name}, blocks 1 to 4: the mean cosine of texts {ends}.": rise("layers", slice(1, 5)),
        f"{name}: the mean cosine of tokens within a text {ends}.": rise("within"),
        f"{name}: the filter rate of every block falls with length.": rates(2),
    }
    return [Claim(TEMPSCALE, text, asked(part, found)) for text, found in sentences.items()]


TEMPSCALE = "2410.24200"
LOWERS = "Temperature {} lowers the mean cosine of the longest texts, and more than that of short ones."
CLAIMS = (
    *claims("rows", "Trained"),
    *(Claim(TEMPSCALE, LOWERS.format(t), asked("rows", spreads(t))) for t in (0.9, 0.8)),
    Claim(
        TEMPSCALE,
        "Trained: the filter rate of every block rises as the temperature falls.",
        asked("rows", rates(1)),
    ),
    *claims("random rows", "Random weights"),
)


def draw(axes, rows):
    """Mean cosine against length, a line for each temperature; dashes after subtracting the mean."""
    for key, style, added in (("cosine", "o-", ""), ("centred", "s--", ", less the mean of all")):
        for i, t in enumerate(dict.fromkeys(r["temperature"] for r in rows)):
            sizes, values = measured(rows, key, t)
            label = f"temperature {t:g}{added}"
            axes.plot(sizes, values.mean(axis=0), style, color=f"C{i}", markersize=4, label=label)
    axes.set(xscale="log", xlabel="tokens of the same passages", ylabel="mean cosine of two passages")
    axes.set_xticks(sizes, [str(n) for n in sizes], minor=False)
    axes.set_title("Do long texts crowd together?")
    axes.grid(alpha=0.3)
    plots.legend(axes)


def figures(numbers):
    """The mean cosine of the trained encoder."""
    return {"": functools.partial(draw, rows=numbers["rows"])}


def similarity(cfg, encoder):
    """Spearman's correlation on the test pairs of STS-B, short texts, for each temperature."""
    score, rows = text_models.similarity(cfg.sts), []
    for t in cfg.temperatures:
        encode = functools.partial(encoder.encode_texts, temperature=jnp.float32(t))
        rows.append({"temperature": t, "Spearman": score(encode)})
    return rows


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.sets(*([] if cfg.texts else ["book_excerpts", "newsgroups"]))
    inputs.sts(cfg.sts, "test")


def run(cfg):
    """Passages at every length and temperature, with the weights as they are and random ones; then tasks."""
    encoder = text_models.load(cfg.model)
    flags.at_most(cfg, "lengths", encoder.max_length, f"the encoder reads {encoder.max_length} tokens")
    samples, given = read(cfg, encoder), (cfg.lengths, cfg.inside)
    flags.stage(f"reads {cfg.samples} samples at {len(cfg.lengths)} lengths and every temperature")
    rows, last = passages.measure(encoder, samples, cfg.temperatures, *given)
    flags.stage("the same with random weights")
    drawn = passages.random_weights(encoder.params, jax.random.key(0))
    at_random, _ = passages.measure(encoder, samples, (1.0,), *given, drawn)
    tables = {"trained encoder": by_length(rows), "trained encoder, by block": by_block(rows)}
    tables |= {"random weights": by_length(at_random), "random weights, by block": by_block(at_random)}
    flags.stage("continuations, classes and pairs")
    tables[CONTINUED] = tasks.continuations(cfg, encoder, samples, last)
    if cfg.documents and cfg.texts is None:
        tables[CLASSIFIED] = tasks.classify(cfg, encoder)
    if cfg.sts is not None:
        tables["STS-B"] = similarity(cfg, encoder)
    return Result(tables, {"seeds": cfg.samples, "rows": rows, "random rows": at_random})


if __name__ == "__main__":
    together = [("lengths", "halves"), ("temperatures", "tried")]
    results.main(
        "length_collapse", Config, run, CLAIMS, figures=figures, quick=QUICK, together=together, check=look
    )
