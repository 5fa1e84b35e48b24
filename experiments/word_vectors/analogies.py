"""Analogies: how many are answered by vectors trained here and by published ones, and a picture of some."""

import numpy as np

from jaxembed import arrays, data, metrics

PUBLISHED, MOST = "GloVe, 6 billion words", 30_000
SHOWN = "capital-common-countries"  # the section that is drawn
RULES = {"3CosAdd": "add", "3CosMul": "multiply"}


def published():
    """The commonest words of GloVe and their vectors, or None with a line that says so."""
    try:
        table = data.glove()
    except (FileNotFoundError, ImportError) as error:
        print(f"{PUBLISHED}, is left out: {str(error)[:80]}", flush=True)
        return None
    return table["words"][:MOST], table["vectors"][:MOST]


def rows_of(words):
    """{word in small letters: its row}, the first of equal ones."""
    return {word.lower(): row for row, word in reversed(list(enumerate(words)))}


def answered(arms):
    """Rows of both kinds of questions, from {arm: (words, vectors)}; "missing" have an unknown word."""
    source, rows = data.word_questions(), []
    for arm, (words, vectors) in arms.items():
        known = rows_of(words)
        for kind in ("semantic", "syntactic"):
            pairs = zip(source["questions"], source["sections"], strict=True)
            every = [q for q, section in pairs if section.startswith("gram") == (kind == "syntactic")]
            asked = [q for q in every if all(word.lower() in known for word in q)]
            row = {"arm": arm, "kind": kind, "questions": len(asked), "missing": len(every) - len(asked)}
            for name, rule in RULES.items() if asked else ():
                row[name] = metrics.word_analogies(vectors, known, asked, rule=rule, fold=True)["accuracy"]
            rows.append(row)
    return rows


def places(words, vectors):
    """The two strongest directions of the words of a section: {"pairs", "places" [n, 2, 2]}."""
    source, known = data.word_questions(), rows_of(words)
    pairs = dict.fromkeys(q[:2] for q, s in zip(*source.values(), strict=True) if s == SHOWN)
    pairs = [pair for pair in pairs if all(word.lower() in known for word in pair)]
    x = np.asarray(arrays.unit(np.stack([vectors[[known[w.lower()] for w in pair]] for pair in pairs])))
    x = x - x.mean(axis=(0, 1))
    axes = np.linalg.svd(x.reshape(-1, x.shape[2]), full_matrices=False)[2][:2]
    return {"pairs": pairs, "places": (x @ axes.T).round(4).tolist()}


def draw(shown):
    """A picture of pairs: a line leads from the first word of each to the second."""

    def drawn(axes):
        axes.figure.set_size_inches(8, 6)
        for pair, line in zip(shown["pairs"], np.array(shown["places"]), strict=True):
            axes.plot(*line.T, color="gray", lw=0.8)
            for name, place, colour in zip(pair, line, ("C0", "C1"), strict=True):
                axes.scatter(*place, s=10, color=colour)
                axes.annotate(name, place, fontsize=7)
        axes.set(title=f"capitals and their countries, {PUBLISHED}")
        axes.set(xlabel="first direction", ylabel="second direction")

    return drawn
