"""A dictionary cut into entries with definitions to train on, held-out definitions, and examples."""

import numpy as np

from jaxembed import data, metrics, vectors
from jaxembed.arrays import inner, unit


def dictionary(cfg, seed):
    """({entry: [definition]}, [(example, definition)]), the latter of senses that no entry belongs to."""
    rng, found = np.random.default_rng(seed), {}
    if cfg.pairs is not None:
        pairs = data.sentence_pairs(cfg.pairs)
        for entry, definition in zip(pairs["first"], pairs["second"], strict=True):
            found.setdefault(entry, []).append(definition)
        return found, []
    senses = data.wordnet()
    for sense in senses:
        for lemma in dict.fromkeys(sense["lemmas"]):
            found.setdefault(lemma, []).append(sense["gloss"])
    lemmas = sorted(found)
    chosen = [lemmas[i] for i in rng.permutation(len(lemmas))[: cfg.words]]
    free = [s for s in senses if s["examples"] and not set(chosen) & set(s["lemmas"])]
    free = [free[i] for i in np.random.default_rng(0).permutation(len(free))[: 2 * cfg.test]]
    free = free[: cfg.test] if cfg.validate else free[cfg.test :]
    return {lemma: found[lemma] for lemma in chosen}, [(s["examples"][0], s["gloss"]) for s in free]


def split(cfg, entries, seed):
    """Pairs (entry's number, definition) to train on, and one held-out definition of every other entry.

    Entries with one definition keep it. Half of the held-out ones serve to choose settings.
    """
    rng, trained, held = np.random.default_rng(seed), [], []
    for n, definitions in enumerate(entries.values()):
        definitions = list(dict.fromkeys(definitions))
        if len(definitions) > 1:
            held.append((n, definitions.pop(int(rng.integers(len(definitions))))))
        trained += [(n, text) for text in definitions]
    half = len(held) // 2
    return trained, held[:half] if cfg.validate else held[half:]


def evaluate(encoder, trained, held, examples, count, score):
    """How well an encoder finds entries by held-out definitions and definitions by examples, and STS-B."""
    encode, numbers = encoder.encode_texts, {}
    table = vectors.entry_means(encode([t for _, t in trained]), np.array([n for n, _ in trained]), count)
    own = np.array([n for n, _ in held])
    if len(held):
        cosines = np.asarray(inner(unit(encode([t for _, t in held])), unit(table)))
        place = (~(cosines < cosines[np.arange(len(own)), own][:, None])).sum(axis=1)
        numbers["entry MRR"] = float(np.mean(1 / place))
    if examples:
        place = metrics.partner_ranks(*(encode(list(side)) for side in zip(*examples, strict=True)))
        numbers["example MRR"] = float(np.mean(1 / place))
    return numbers | ({"STS-B": score(encode)} if score else {})
