"""What texts at several temperatures are worth: continuations that are found, posts that are classified."""

import itertools

import numpy as np

from experiments.length_collapse.passages import embed
from jaxembed import data, metrics

RANGES = (64, 128, 256)  # tokens; a post belongs to the first that holds it, longer ones are cut
SHARES = (0.4, 0.25)  # of the classified posts: training, validation; the rest are tested


def continuations(cfg, encoder, samples, last):
    """How often a prefix finds the text that follows it among those of all passages: MRR@10.

    Beside it the gain over the first temperature on the same passages, both with half of the 95 % t-interval
    over the passages.
    """
    flat, found, rows = [p for sample in samples for p in sample], {}, []
    special = encoder.tokenizer.num_special_tokens_to_add(False)
    for t, n in itertools.product(cfg.tried, cfg.halves):
        rest = [text[places[n - special] :] for text, places in flat]
        ranks = metrics.partner_ranks(last[t, n], embed(encoder, rest, n, t, cfg.passages)[:, -1])
        found[t, n] = (ranks <= 10) / ranks
        row = {"temperature": t, "tokens": n, "passages": len(flat)}
        for key, x in (("MRR@10", found[t, n]), ("gain", found[t, n] - found[cfg.tried[0], n])):
            mean, low, _ = map(float, metrics.paired_interval(x))
            row |= {key: mean, f"± {key}": mean - low}
        rows.append(row)
    return rows


def posts_of(cfg, encoder):
    """Newsgroup posts {"train", "validation", "test"}: for each range of lengths (length, texts, labels)."""
    cuts = [round(s * cfg.documents) for s in SHARES]
    chosen = {"train": [], "validation": [], "test": []}
    for split, parts in (("train", ("train", "validation")), ("test", ("test",))):
        posts = data.newsgroups(split)
        texts, labels = posts["texts"], np.array(posts["labels"])
        some = np.random.default_rng(1).permutation(len(texts))[: 12 * cfg.documents]
        sizes = np.array([len(e.ids) for e in encoder.tokenizer.encode_batch([texts[i] for i in some])])
        ends = {"train": (0, cuts[0]), "validation": (cuts[0], sum(cuts))}
        ends["test"] = (0, cfg.documents - sum(cuts))
        for low, high in itertools.pairwise((0, *RANGES)):
            rows = some[(sizes > low) & (sizes <= high)]
            for part in parts:
                taken = rows[slice(*ends[part])]
                chosen[part].append((high, [texts[i] for i in taken], labels[taken]))
    return chosen


def classify(cfg, encoder):
    """Accuracy on newsgroup posts, also by ranges of lengths; validation posts choose the temperature.

    Each row has the number n of posts and the ends of Wilson's 95 % interval.
    """
    chosen, table = posts_of(cfg, encoder), []
    known = {p: np.concatenate([labels for _, _, labels in groups]) for p, groups in chosen.items()}
    for t in cfg.tried:
        found = {
            part: [embed(encoder, texts, n, t, cfg.passages)[:, -1] for n, texts, _ in groups]
            for part, groups in chosen.items()
        }
        joined = {part: np.concatenate(x) for part, x in found.items()}
        scored = {part: (joined[part], known[part]) for part in ("validation", "test")}
        for (n, _, labels), x in zip(chosen["test"], found["test"], strict=True):
            scored[f"up to {n}"] = x, labels
        for posts, (x, labels) in scored.items():
            made = metrics.evaluate_classification(
                lambda rows: rows, joined["train"], known["train"], x, labels
            )
            count, value = len(labels), made["accuracy"]
            _, low, high = map(float, metrics.share_interval(round(value * count), count))
            row = {"temperature": t, "posts": posts, "n": count, "accuracy": value}
            table.append(row | {"low": low, "high": high})
    held = [row for row in table if row["posts"] == "validation"]
    best = max(held, key=lambda row: row["accuracy"])["temperature"]  # the first of equals, nearest to 1
    return [row | {"chosen": "*" if row["temperature"] == best else ""} for row in table]
