"""A table of words with its lists, the arms of debiasing, and what is measured of each."""

import numpy as np

from experiments.shared import results
from experiments.word_bias import words as lists
from jaxembed import arrays, data, metrics, vectors

BEFORE, HARD, SOFT, SUMS = "before", "hard", "soft", "soft, sums as written"
LINEAR, KERNEL = "linear", "kernel"
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
        table = data.glove() if cfg.vectors is None else data.read_word_vectors(cfg.vectors)
        table = {"words": table["words"][: cfg.rows], "vectors": table["vectors"][: cfg.rows]}
        equal = lists.EQUAL
        seed = [*lists.SPECIFIC, *(word for pair in equal for word in pair)]
        found = {"pairs": lists.PAIRS, "equal": equal, "seed": seed, "specific": None}
        found["jobs"] = dict.fromkeys(lists.JOBS)
    rows = {word: i for i, word in enumerate(table["words"])}
    if not {"she", "he"} <= set(rows) or not len(known({"rows": rows}, found["pairs"])[0]):
        raise ValueError(f"--vectors {cfg.vectors}: lack she, he or all pairs of words; give English vectors")
    unit = np.asarray(arrays.unit(table["vectors"]))
    return found | {"words": table["words"], "rows": rows, "vectors": unit}


def known(table, pairs):
    """Rows [n, 2] of the pairs whose words the table has, and the pairs that it lacks."""
    rows = [[table["rows"].get(word, -1) for word in pair] for pair in pairs]
    missing = [" ".join(pair) for pair, row in zip(pairs, rows, strict=True) if min(row) < 0]
    return np.array([row for row in rows if min(row) >= 0]).reshape(-1, 2), missing


def specific(table):
    """bool [V]: words that rightly have a gender, listed or learned from the seed by a linear classifier."""
    if table["specific"] is not None:
        return np.isin(table["words"], table["specific"])
    return learned(table)


def learned(table, frequent=50_000):
    """bool [V]: the seed, and what a linear classifier of the frequent words and the seed takes for such.

    A word in capitals is of the seed where its small letters are, and are among the frequent words.
    """
    from sklearn.svm import LinearSVC

    words, common = np.array(table["words"]), set(table["words"][:frequent])
    small = np.array([w.lower() if w.lower() in common else w for w in table["words"]])
    seed = np.isin(words, table["seed"]) | np.isin(small, table["seed"])
    known = seed | (np.arange(len(words)) < frequent)
    return seed | LinearSVC(C=1.0).fit(table["vectors"][known], seed[known]).predict(table["vectors"])


def lists_of(table):
    """A row beside the authors' list: how many words are listed, learned from the seed, and both."""
    if table["specific"] is None:
        return []
    listed, found = specific(table), learned(table)
    both, seed = int((listed & found).sum()), np.isin(table["words"], table["seed"])
    row = {"seed": int(seed.sum()), "listed": int(listed.sum()), "learned": int(found.sum()), "both": both}
    return [row | {"of the learned": both / found.sum(), "of the listed": both / listed.sum()}]


def indirect(table, basis):
    """A row for each known word of the paper's examples: the share of a likeness that gender makes."""
    rows = []
    for first, words in lists.INDIRECT.items():
        words = [w for w in words if w in table["rows"] and first in table["rows"]]
        some = table["vectors"][[table["rows"][w] for w in words]]
        if words:
            shown = np.broadcast_to(table["vectors"][table["rows"][first]], some.shape)
            shares = np.asarray(metrics.indirect_bias(shown, some, basis))
            cosines = np.sum(shown * some, axis=1)
            rows += [
                {"word": first, "beside": w, "cosine": float(c), "indirect bias": float(x)}
                for w, c, x in zip(words, cosines, shares, strict=True)
            ]
    return rows


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


def measured(cfg, table, arm, x, asked):
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


def limit(cfg, made, neutral, lean):
    """Rows of how well classifiers tell the most female from the most male neutral words, in each arm.

    Each learns from a fifth of the words and is asked the rest. "chance up to" ends the interval that 95 of
    100 guesses fall into.
    """
    from sklearn.svm import SVC, LinearSVC

    order = np.flatnonzero(neutral)[np.argsort(lean[neutral], kind="stable")]
    ends = np.concatenate([order[: cfg.extreme], order[-cfg.extreme :]])
    labels = np.repeat([0, 1], cfg.extreme)
    splits = [np.random.default_rng(seed).permutation(len(ends)) for seed in range(cfg.seeds)]
    splits = [np.split(rows, [len(rows) // 5]) for rows in splits]
    chance, found = 0.5 + 1.96 * 0.5 / len(splits[0][1]) ** 0.5, []
    for arm, x in made.items():
        for name, make in ((LINEAR, LinearSVC), (KERNEL, SVC)):
            runs = []
            for learned, asked in splits:
                told = make().fit(x[ends[learned]], labels[learned]).predict(x[ends[asked]])
                runs.append(float(np.mean(told == labels[asked])))
            row = {"arm": arm, "classifier": name, "chance up to": chance, "runs": runs}
            row["accuracy"], row["± accuracy"] = results.spread(runs)
            found.append(row)
    return found


def generated(table, x, most=40):
    """Pairs that are to one another as she is to he, the strongest first."""
    direction = x[table["rows"]["she"]] - x[table["rows"]["he"]]
    firsts, seconds, scores = metrics.analogy_pairs(x, direction, most=most)
    words = table["words"]
    return [[words[a], words[b], float(s)] for a, b, s in zip(firsts, seconds, scores, strict=True)]


def kept_share(before, after):
    """The share of generated pairs that are still generated after debiasing."""
    pairs = {tuple(row[:2]) for row in before}
    return len(pairs & {tuple(row[:2]) for row in after}) / max(1, len(pairs))
