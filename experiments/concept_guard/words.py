"""Detection on a published text encoder: which words of a prompt name an animal."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shared import flags, text_models
from jaxembed import data, diffusion, vectors

ANIMALS, ARTEFACTS = 5, 6  # lexicographer's files of WordNet
TEMPLATES = (
    "a photo of {} on {}",
    "a drawing of {} beside {}",
    "we saw {} under {}",
    "{} stands behind {}",
    "a picture of {} near {}",
)
LENGTH = 10  # tokens: the longest prompt, special ones among them
ALPHAS = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1)
PHRASES, CENTRED = "span of the phrases", "the same less the mean of artefacts"


def nouns(encoder):
    """(animals, artefacts) of WordNet that are one token each."""
    senses, counts, known = (
        data.wordnet(parts=("noun",)),
        data.wordnet_counts(),
        encoder.tokenizer.get_vocab(),
    )
    lists = [data.topic_words(senses, counts, file) for file in (ANIMALS, ARTEFACTS)]
    return [[w for w in words if w in known and len(w) > 2] for words in lists]


def article(noun):
    """A noun with its article: "an owl"."""
    return f"a{'n' * (noun[0] in 'aeiou')} {noun}"


def prompts(encoder, rng, animals, artefacts, count):
    """Ids, mask, words and, True at the animal, truth: [count, T] of prompts that name one animal each."""
    texts, named = [], []
    for i in range(count):
        pair = [article(rng.choice(animals)), article(rng.choice(artefacts))]
        named.append(pair[0].split()[1])
        texts.append(TEMPLATES[i % len(TEMPLATES)].format(*(pair if i // len(TEMPLATES) % 2 else pair[::-1])))
    batch = encoder.tokenize(texts, length=LENGTH)
    ids = np.array([encoder.tokenizer.token_to_id(word) for word in named])
    special = np.isin(batch["ids"], [encoder.tokenizer.token_to_id(t) for t in ("[CLS]", "[SEP]", "[PAD]")])
    return batch["ids"], batch["mask"], batch["mask"] & ~special, batch["ids"] == ids[:, None]


def removed(encoder, ids, mask, size=20):
    """Vectors [N, T, D] of prompts without one token each, prompts by parts of ``size``."""
    hidden = encoder.tokenizer.token_to_id("[MASK]")

    @jax.jit
    def run(params, ids, mask):
        encode = functools.partial(encoder.encode, params)
        return jax.vmap(lambda i, m: diffusion.leave_one_out(encode, i, m, hidden))(ids, mask)

    parts = [slice(i, i + size) for i in range(0, len(ids), size)]
    return np.concatenate([np.asarray(run(encoder.params, ids[part], mask[part])) for part in parts])


@jax.jit
def triggers(removed, concept, words, alpha):
    """bool [N, T] of prompts."""
    return jax.vmap(lambda r, w: diffusion.trigger_tokens(r, concept, w, alpha=alpha))(removed, words)


def scores(found, truth):
    """(precision, recall) of flagged words."""
    hits = np.sum(found & truth)
    return float(hits / max(np.sum(found), 1)), float(hits / np.sum(truth))


def one_seed(cfg, encoder, lists, seed):
    """Rows of one draw of animals: precision and recall for each basis and alpha, on validation and test."""
    rng = np.random.default_rng(seed)
    animals = [str(w) for w in rng.permutation(lists[0])]
    known, tried = animals[: cfg.phrases], animals[cfg.phrases :]
    half = len(tried) // 3
    parts = {"validation": (tried[:half], cfg.prompts // 4), "test": (tried[half:], cfg.prompts)}
    phrases = encoder.encode_texts([article(w) for w in known])
    others = encoder.encode_texts([article(w) for w in rng.choice(lists[1], 50, replace=False)])
    bases = {PHRASES: phrases, CENTRED: phrases - others.mean(axis=0)}
    bases = {name: vectors.row_space(jnp.asarray(x), tolerance=1e-4)[0] for name, x in bases.items()}
    rows = []
    for part, (mine, count) in parts.items():
        ids, mask, words, truth = prompts(encoder, rng, mine, lists[1], count)
        without = removed(encoder, ids, mask)
        for basis, concept in bases.items():
            for alpha in ALPHAS:
                found = np.asarray(triggers(without, concept, words, np.float32(alpha)))
                precision, recall = scores(found, truth)
                row = {"seed": seed, "part": part, "basis": basis, "alpha": alpha}
                rows.append(row | {"precision": precision, "recall": recall})
    return rows


def detected(cfg):
    """Rows of all seeds, and those of the alpha that each seed's validation prompts choose by F1."""
    encoder = text_models.load(cfg.model)
    lists = nouns(encoder)
    flags.at_most(cfg, "phrases", len(lists[0]) // 2, f"WordNet has {len(lists[0])} animals of one token")
    rows = []
    for seed in range(cfg.seeds):
        flags.stage(f"words, seed {seed}: {cfg.prompts} prompts, each without one of its words in turn")
        rows += one_seed(cfg, encoder, lists, seed)
    return rows, [
        row for s in range(cfg.seeds) for basis in (PHRASES, CENTRED) for row in chosen(rows, s, basis)
    ]


def chosen(rows, seed, basis):
    """Test rows of a seed and basis: at the paper's alpha, and at that with the best F1 on validation."""
    mine = [r for r in rows if r["seed"] == seed and r["basis"] == basis]
    best = max((r for r in mine if r["part"] == "validation"), key=f1)
    picked = {"0.01, the paper's": 0.01, "chosen on validation": best["alpha"]}
    return [
        {**r, "rule": rule, "F1": f1(r)}
        for rule, alpha in picked.items()
        for r in mine
        if r["part"] == "test" and r["alpha"] == alpha
    ]


def f1(row):
    """The harmonic mean of precision and recall."""
    return 2 * row["precision"] * row["recall"] / max(row["precision"] + row["recall"], 1e-12)
