"""Candidates that a text encoder finds, with labels: of WordNet's examples, or of a judged corpus."""

import numpy as np

from experiments.shared import flags, text_models
from jaxembed import data, metrics, search


def wordnet(cfg):
    """Examples ask for the definitions of their senses: {relevance: columns} of the same queries.

    The first half of the examples of a fixed order serves ``--validate``, by which settings are chosen.
    "sense": the definition of the example's own sense is relevant. "kin": so is that of a sense which has a
    parent (hypernym) in common with it.
    """
    encoder = text_models.load(cfg.model)
    senses = [s for s in data.wordnet() if len(s["gloss"].split()) > 2]
    order = np.random.default_rng(0).permutation(len(senses))
    asked = [senses[i] for i in order if senses[i]["examples"]]
    half = len(asked) // 2
    asked = asked[:half] if cfg.validate else asked[half:]
    if len(asked) < cfg.asked:
        raise ValueError(f"--asked {cfg.asked}: only {len(asked)} senses are there to ask; choose fewer")
    asked = asked[: cfg.asked]
    others = [senses[i] for i in order if not senses[i]["examples"]][: cfg.others]
    known = asked + others
    flags.stage(f"embeds {len(asked)} examples and {len(known)} definitions")
    queries = encoder.encode_texts([s["examples"][0] for s in asked])
    documents = encoder.encode_texts([s["gloss"] for s in known])
    scores, rows = map(np.asarray, search.top_k(queries, documents, cfg.candidates))
    own = rows == np.arange(len(asked))[:, None]
    parents = [set(s["parents"]) for s in known]
    kin = [[not parents[q].isdisjoint(parents[r]) for r in found] for q, found in enumerate(rows)]
    columns = {"queries": queries, "scores": scores}
    return {"sense": columns | {"labels": own}, "kin": columns | {"labels": own | np.array(kin)}}


def judged(cfg):
    """Candidates of the judged queries of a BEIR folder, as {"judged": columns}."""
    encoder, source = text_models.load(cfg.model), data.beir(cfg.beir)
    names, judged_ids, judged_gains = metrics.judgments(source)
    texts = list(source["documents"].values())
    flags.stage(f"embeds {len(names)} queries and {len(texts)} documents")
    prompt = "query" if "query" in encoder.prompts else None
    queries = encoder.encode_texts([source["queries"][n] for n in names], prompt_name=prompt)
    documents = encoder.encode_texts(texts)
    scores, rows = map(np.asarray, search.top_k(queries, documents, min(cfg.candidates, len(texts))))
    labels = np.asarray(metrics.gains(rows, judged_ids, judged_gains)) > 0
    return {"judged": {"queries": queries, "scores": scores, "labels": labels}}


def splits(cfg, count):
    """For each seed (rows to fit on, rows to test on); of a judged corpus the folds of one shuffle.

    With one seed the first of four folds is tested.
    """
    if cfg.beir is not None:
        order = np.random.default_rng(0).permutation(count)
        folds = np.array_split(order, cfg.seeds if cfg.seeds > 1 else 4)[: cfg.seeds]
        return [(np.setdiff1d(order, fold), fold) for fold in folds]
    orders = [np.random.default_rng(seed).permutation(count) for seed in range(cfg.seeds)]
    return [(order[count // 4 :], order[: count // 4]) for order in orders]
