"""Searches of judged texts: how good are the rankings, not only how near to the exact score?"""

import jax.numpy as jnp
import numpy as np

from experiments.multivector_search import searches, tokens
from experiments.shared import flags
from jaxembed import data, metrics, ragged, search, vectors


def compare(sets, singles, ids, grades):
    """nDCG@10 and Recall@100 of the searches on judged texts.

    ``singles`` are vectors of the queries and of the documents; ``ids`` and ``grades`` [B, J] the judgments.
    """
    whole = searches.init(0, sets["queries"].shape[2], *searches.SIZES[searches.WHOLE])
    most = min(100, tokens.count(sets))
    found = {"single vector": search.top_k(*singles, most)[1]}
    exact = {"score": vectors.chamfer, "tokens": sets["tokens"], "offsets": sets["offsets"]}
    for label, params in (("", whole), (" centred", tokens.centred(sets, whole))):
        places = search.top_k(*tokens.encode(sets, params), most)[1]
        found[f"FDE{label}"] = places
        found[f"FDE{label}, then Chamfer"] = search.rerank(sets["queries"], sets["mask"], places, **exact)[1]
    found["exact Chamfer"] = np.argsort(-tokens.exact(sets), axis=1, kind="stable")[:, :most]
    rows, where = [], metrics.has_relevant(grades)
    for name, places in found.items():
        gains = metrics.gains(places, ids, grades)
        row = {"nDCG@10": metrics.ndcg(gains, grades, k=10)}
        row["Recall@100"] = metrics.recall(gains, grades, k=100)
        rows.append({"search": name} | {n: float(metrics.masked_mean(x, where)) for n, x in row.items()})
    return rows


def measured(cfg, encoder):
    """The rows of ``compare`` for a folder in the layout of BEIR; texts are cut where the model cuts them."""
    texts = data.beir(cfg.beir)
    if cfg.split not in texts["judgments"]:
        raise ValueError(f"--split {cfg.split}: the judgments are {', '.join(texts['judgments'])}")
    known = {name: place for place, name in enumerate(texts["documents"])}
    pairs = texts["judgments"][cfg.split]
    for name in pairs.keys() - texts["queries"].keys():
        raise ValueError(f"--beir {cfg.beir}: query {name!r} is judged but not in queries.jsonl; mend it")
    # Not metrics.judgments: a document may have the id of a query here without being its text. A judgment of
    # a document that is missing stays as one that no search can find.
    ids = [[known.get(d, len(known) + n) for n, d in enumerate(found)] for found in pairs.values()]
    ids, grades = ragged.pad(ids, value=-1)[0], ragged.pad([[*found.values()] for found in pairs.values()])[0]
    sides = [texts["queries"][q] for q in pairs], list(texts["documents"].values())
    flags.stage(f"encodes {len(sides[1]):,} texts")
    singles = [jnp.asarray(encoder.encode_texts(side, progress=True)) for side in sides]
    most = {"length": encoder.max_length, "query_length": encoder.max_length}
    sets = tokens.of_texts(cfg.workdir, sides[1], sides[0], encoder=encoder, **most)
    return compare(sets, singles, ids, grades.astype(np.float32))
