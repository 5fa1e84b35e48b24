"""Settings of word training: the kinds, what each is trained by, what is usual for it, and the checks."""

from jaxembed.checks import check_whole

WINDOWED = ("skip_gram", "cbow")
CONTEXTS = ("order", "lbl", "nnlm", "cw")
COUNTED = ("glove", "ppmi")
PARAGRAPHS = ("pv_dbow", "pv_dm")
SUPERVISED = "supervised"
KINDS = (*WINDOWED, *CONTEXTS, *COUNTED, *PARAGRAPHS, SUPERVISED)
OBJECTIVES = {
    "negative_sampling": KINDS[:-1], "hierarchical": ("skip_gram", SUPERVISED),
    "hinge": ("cw",), "softmax": (SUPERVISED,),
}  # fmt: skip
USUAL = {
    "skip_gram": {"rate": 0.025, "epochs": 5}, "cbow": {"rate": 0.05, "epochs": 5},
    "glove": {"rate": 0.05, "epochs": 25, "window": 15}, "ppmi": {"rate": 0.0, "epochs": 1},
    "pv_dbow": {"rate": 0.05, "epochs": 10}, "pv_dm": {"rate": 0.05, "epochs": 10},
    SUPERVISED: {"rate": 0.1, "epochs": 5, "objective": "softmax", "min_count": 1},
}  # fmt: skip

COUNTS = "width", "window", "epochs", "negatives", "min_count", "word_ngrams"


def _check_ngrams(ngrams):
    if ngrams is None:
        return
    if isinstance(ngrams, str | int) or len(ngrams) != 2:
        raise ValueError(f"ngrams={ngrams!r}: give (shortest, longest), such as (3, 6)")
    check_whole(0, **{"ngrams[0]": ngrams[0], "ngrams[1]": ngrams[1]})


def settings_of(plain, usual, ngrams, sharing, labels):
    """All settings of a training, checked; one of ``usual`` that is None is what is usual for the kind."""
    kind, wide = plain["kind"], plain["word_ngrams"]
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: choose one of {KINDS}")
    chosen = {"window": 5, "rate": 0.05, "epochs": 5, "objective": "negative_sampling", "min_count": 5}
    chosen |= USUAL.get(kind, {}) | {name: value for name, value in usual.items() if value is not None}
    if kind not in OBJECTIVES.get(chosen["objective"], ()):
        raise ValueError(
            f"objective={chosen['objective']!r}: kind={kind!r} is not trained by it; leave it out"
        )
    windowed = kind in WINDOWED and chosen["objective"] == "negative_sampling"
    if ngrams is not None and not windowed and kind != SUPERVISED:
        raise ValueError(f"ngrams={ngrams}: take kind='skip_gram' or 'cbow', and negative sampling")
    counts = {name: (plain | chosen)[name] for name in COUNTS}
    if len(sharing) != 3:
        raise ValueError(f"sharing={sharing}: give three numbers, such as (16, 2, 16)")
    check_whole(1, **counts, **{f"sharing[{i}]": x for i, x in enumerate(sharing)})
    check_whole(0, seed=plain["seed"], buckets=plain["buckets"])
    _check_ngrams(ngrams)
    for name in ("rate", "sample", "power"):
        if not 0 <= (plain | chosen)[name] < float("inf"):
            raise ValueError(f"{name}={(plain | chosen)[name]}: give a number of at least 0")
    if (labels is None) == (kind == SUPERVISED):
        raise ValueError(f"labels: kind={kind!r} takes {'one for each text' if labels is None else 'none'}")
    if wide > 1 and kind != SUPERVISED:
        raise ValueError(f"word_ngrams={wide}: take kind='supervised'; leave them out")
    return plain | {"ngrams": ngrams and list(ngrams), "sharing": [int(x) for x in sharing]} | chosen
