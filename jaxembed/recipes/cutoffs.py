"""Where a list of results should end: a cut-off that is fitted to judged queries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, metrics, train
from jaxembed.arrays import check_shape, host
from jaxembed.metrics.calibrate import SIZES


def fit_cutoff(
    queries,
    scores,
    labels,
    *,
    where=None,
    kind="power",
    hidden=(64,),
    norm=False,
    recall=0.95,
    share=0.25,
    epochs=60,
    batch_size=128,
    rate=1e-2,
    dropout=0.0,
    seed=0,
    mesh=None,
):
    """Relevance cut-off: learns, from judged candidates, from which score on a result is relevant.

    A small network reads the query and chooses the map from its scores to logits of relevance (the cosine
    adapter of ``metrics.relevance_logits``). It starts at the one best map for all queries, which is Platt
    scaling, and is trained by the binary cross-entropy of all pairs. One
    threshold for all queries is then chosen on queries that were held out: the highest that keeps a share
    ``recall`` of their relevant candidates. :func:`search` takes the result as ``cutoff=``.

    >>> drawn = data.toy.relevance_scores(0, queries=400)
    >>> judged = drawn["queries"], drawn["scores"], drawn["labels"]
    >>> cutoff = fit_cutoff(*judged, kind="linear", hidden=(16,), rate=0.03)
    >>> kept = cutoff_logits(cutoff, *judged[:2]) >= cutoff["threshold"]
    >>> print(0.9 < kept[judged[2]].mean() < 1, kept.mean() < 0.8)
    True True

    Args:
        queries: [B, D], the vectors that were searched with, B judged queries.
        scores: [B, K], cosines of the candidates that the search gave; candidates of another origin have
            another share of relevant ones, which shifts the logits.
        labels: [B, K], 1 where the candidate is relevant.
        where: optional bool [B, K]; False is padding.
        kind: as in ``metrics.score_map``, "raw" excepted.
        hidden: widths of the hidden layers; None keeps one map for all queries: Platt scaling ("linear"),
            temperature scaling ("temperature").
        norm: True puts a layer norm before each hidden layer, as the paper does; see
            ``metrics.init_score_adapter``.
        recall: share of the relevant candidates that the threshold keeps.
        share: of the queries that are held out to choose it.
        epochs: passes over the other queries.
        batch_size: queries per step, cut to the number there is.
        rate: of Adam.
        dropout: share of hidden activations that are dropped in training; with few queries 0.5 helps.
        seed: of the split, the start and the order.
        mesh: of ``train.make_mesh``; default one device.

    Returns:
        Dict: "kind", "params" (of ``metrics.init_score_adapter``), "centre" and "scale" (of
        ``metrics.score_map``, the mean and deviation of the scores), "threshold" (a logit) and "recall".

    Raises:
        ValueError: for NaN vectors or scores, labels of one class, shapes that do not fit, too few queries to
            hold any out, or a recall outside 0..1. Also where higher scores are less relevant.

    References:
        N. Rossi et al., arXiv:2408.04887. The paper takes the hidden layers (3072, 3072), dropout 0.5 and two
        epochs of 500,000 queries.
    """
    if kind not in SIZES or kind == "raw":
        raise ValueError(f"kind: {kind!r}; choose one of {', '.join(k for k in SIZES if k != 'raw')}")
    queries, scores, labels, where = _checked(queries, scores, labels, where)
    held, trained = _split(len(queries), share, seed)
    metrics.threshold_at_recall(labels[held], scores[held], recall=recall, where=where[held])  # or raises
    known = scores[trained][where[trained]]
    centre, scale = float(known.mean()), float(known.std()) or 1.0
    form = {"centre": centre, "scale": scale}
    bias = _start(labels[trained], scores[trained], where[trained], kind, form)
    if hidden is None:
        params = {"layer_0": {"kernel": jnp.zeros((queries.shape[1], len(bias))), "bias": bias}}
    else:
        columns = {"queries": queries, "scores": scores, "labels": labels, "where": where}
        columns = {name: x[trained] for name, x in columns.items()}
        network = {"kind": kind, "hidden": tuple(hidden), "norm": norm}
        update = _update(kind, dropout, rate)
        params = _trained(
            columns, bias, network, update, epochs, min(batch_size, len(trained)), seed, mesh, form
        )
    cutoff = {"kind": kind, "params": params, "recall": recall} | form
    logits = cutoff_logits(cutoff, queries[held], scores[held])
    threshold = metrics.threshold_at_recall(labels[held], logits, recall=recall, where=where[held])
    return cutoff | {"threshold": threshold}


def cutoff_logits(cutoff, queries, scores):
    """Relevance cut-off: the logits that are compared with the threshold, of any queries and scores.

    >>> params = metrics.init_score_adapter(jax.random.key(0), 2, kind="linear", hidden=())
    >>> cutoff = {"kind": "linear", "params": params, "centre": 0.0, "scale": 1.0}
    >>> print(cutoff_logits(cutoff, np.eye(2), np.ones((2, 1))).round(3))
    [[0.693]
     [0.693]]

    Args:
        cutoff: of :func:`fit_cutoff`.
        queries: [B, D].
        scores: [B, K].

    Returns:
        float32 NumPy array [B, K]. The sigmoid of a logit is the probability that a result is relevant.
    """
    form = {"centre": cutoff["centre"], "scale": cutoff["scale"]}
    given = cutoff["params"], jnp.asarray(queries), jnp.asarray(scores)
    return np.asarray(_logits(*given, kind=cutoff["kind"], **form))


_logits = jax.jit(metrics.relevance_logits, static_argnames="kind")


def _trained(columns, bias, network, update, epochs, size, seed, mesh, form):
    """The parameters of an adapter that starts at one map for all queries."""
    count, width = columns["queries"].shape
    columns |= {"form": np.tile(np.float32([[form["centre"], form["scale"]]]), (count, 1))}

    def init(key):
        params = metrics.init_score_adapter(key, width, **network)
        last = f"layer_{len(network['hidden'])}"
        return params | {last: params[last] | {"bias": bias}}

    return train.fit(
        init=init,
        update=update,
        batches=data.batches(columns, size, seed=seed),
        steps=epochs * max(1, count // size),
        key=seed,
        mesh=mesh or train.make_mesh(1),
        progress=False,
    ).params


@functools.lru_cache(maxsize=16)
def _update(kind, dropout, rate):
    """The training step; the same object for the same arguments, so that a second fit compiles nothing."""

    def loss_fn(params, batch, key):
        centre, scale = batch["form"][0]
        options = {"kind": kind, "dropout": dropout, "key": key, "centre": centre, "scale": scale}
        logits = metrics.relevance_logits(params, batch["queries"], batch["scores"], **options)
        each = optax.sigmoid_binary_cross_entropy(logits, batch["labels"])
        return jnp.sum(jnp.where(batch["where"], each, 0)) / jnp.maximum(jnp.sum(batch["where"]), 1), {}

    return train.gradient_update(loss_fn, optax.adam(rate))


def _start(labels, scores, where, kind, form):
    """The parameters [n] of the best map for all queries, by Platt scaling; a = softplus(first of them)."""
    if kind == "offset":
        share = labels[where].mean()
        return jnp.asarray([np.log(share / (1 - share))], jnp.float32)
    plain = jnp.asarray([[1.0, 0.0, 0.0][: SIZES[kind]]])
    bent = metrics.score_map(scores, plain, kind=kind, positive_slope=False, **form)
    theta = metrics.fit_platt(
        labels, bent, kind="temperature" if kind == "temperature" else "linear", where=where
    )
    slope, *offset = theta[0]
    if slope <= 0:
        raise ValueError("scores: higher ones are less relevant; turn their sign, or check the labels")
    power = [0.0] if kind == "power" else []
    return jnp.asarray([slope + np.log(-np.expm1(-slope)), *offset, *power], jnp.float32)


def _split(count, share, seed):
    """Numbers of the queries that are held out, and of the others."""
    if not 0 < share < 1:
        raise ValueError(f"share: {share} is outside 0..1; pass the share of the queries to hold out")
    held = round(share * count)
    if not 0 < held < count:
        raise ValueError(f"queries: {count} are too few for a share of {share}; pass more judged queries")
    return np.split(np.random.default_rng(seed).permutation(count), [held])


def _checked(queries, scores, labels, where):
    queries, scores, labels = host("queries", queries), host("scores", scores), host("labels", labels)
    check_shape("queries", queries, (None, None))
    check_shape("scores", scores, (len(queries), None))
    check_shape("labels", labels, scores.shape)
    where = np.ones(scores.shape, bool) if where is None else np.asarray(where, bool)
    check_shape("where", where, scores.shape)
    if not np.isfinite(queries).all():
        row = int(np.argmin(np.isfinite(queries).all(axis=1)))
        raise ValueError(f"queries: row {row} is not finite; drop it before fitting")
    if not np.isfinite(scores[where]).all():
        raise ValueError("scores: hold NaN or an infinity; leave such pairs out by where=")
    scores = np.where(where, scores, 0).astype(np.float32)
    return queries.astype(np.float32), scores, np.where(where, labels, 0).astype(np.float32), where
