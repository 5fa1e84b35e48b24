"""Scores → logits of relevance that one threshold can cut: score maps, and networks that choose them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, host, on_device
from jaxembed.checks import refuse_nan
from jaxembed.layers import affine, layer_norm

SIZES = {"raw": 0, "temperature": 1, "offset": 1, "linear": 2, "square_root": 2, "quadratic": 2, "power": 3}


def score_map(scores, parameters=None, *, kind="power", positive_slope=True, centre=0.0, scale=1.0):
    """Monotone score map: turns scores into logits of relevance, by a few parameters of each query.

    | kind | logit of a score x | parameters |
    |---|---|---|
    | "raw" | x | none |
    | "temperature" | a x | a |
    | "offset" | x + b | b |
    | "linear" | a x + b | a, b |
    | "square_root" | a sign(x) abs(x)**0.5 + b | a, b |
    | "quadratic" | a sign(x) x**2 + b | a, b |
    | "power" | a sign(x) abs(x)**(2 sigmoid(c)) + b | a, b, c |

    With a above 0 the order of the scores of a query stays as it is. ``sigmoid(logit)`` is the probability
    that a document is relevant.

    >>> scores = jnp.array([[0.25, -0.25]])
    >>> print(score_map(scores, jnp.array([[2.0, 1.0]]), kind="square_root", positive_slope=False))
    [[2. 0.]]

    Args:
        scores: [B, K], cosines for example.
        parameters: [B, n] or [1, n] in the order of the table, one row for each query or one for all; None
            with "raw".
        kind: of the table.
        positive_slope: True replaces a by softplus(a), so that no order is reversed; False takes a as it is.
        centre, scale: typical score and spread of scores. With m the map above without a and b, the logit is
            ``a (m(x) - m(centre)) / scale + b``: the same family of maps, but a and b near 1 and 0 where
            training starts. "temperature" has no centre, "raw" neither; "offset" is the map with a = 1.

    Returns:
        [B, K] in at least float32. At a score of 0 the gradient with respect to it is 0 for "square_root" and
        "power", whose slope there has no bound.

    Raises:
        ValueError: for an unknown kind, parameters of another shape, or NaN; under jit NaN stays NaN.

    References:
        N. Rossi et al., arXiv:2408.04887. Its rival Choppy, which learns where to cut from all
        scores of a list, is left out. The official code takes plain powers, which are NaN or not monotone
        below 0, and leaves a free. "offset" is that code's, "temperature" is C. Guo's, arXiv:1706.04599.
    """
    scores = jnp.asarray(scores)
    check_shape("scores", scores, (None, None))
    refuse_nan("scores", scores)
    size = _size(kind)
    x = scores.astype(accumulator(scores))
    if not size:
        return x
    if parameters is None:
        raise ValueError(f"parameters: None; {kind!r} takes [B, {size}], or choose raw")
    parameters = jnp.asarray(parameters)
    if parameters.ndim != 2 or parameters.shape[1] != size or parameters.shape[0] not in (1, len(x)):
        raise ValueError(f"parameters: {parameters.shape} for {len(x)} queries; {kind!r} takes [B, {size}]")
    refuse_nan("parameters", parameters)
    first, *rest = (p[:, None].astype(x.dtype) for p in parameters.T)
    if kind == "offset":
        return (x - centre) / scale + first
    slope = jax.nn.softplus(first) if positive_slope else first
    if kind == "temperature":
        return slope * x / scale
    power = {"square_root": 0.5, "quadratic": 2.0}.get(kind)
    power = 2 * jax.nn.sigmoid(rest[1]) if kind == "power" else power
    bend = (lambda y: y) if kind == "linear" else (lambda y: _signed_power(y, power))
    return slope * (bend(x) - bend(jnp.asarray(centre, x.dtype))) / scale + rest[0]


def _signed_power(x, power):
    """sign(x) abs(x)**power, with finite gradients at 0."""
    inside = jnp.where(x == 0, 1, jnp.abs(x))
    return jnp.where(x == 0, 0, jnp.sign(x) * jnp.exp(power * jnp.log(inside)))


def _size(kind):
    if kind not in SIZES:
        raise ValueError(f"kind: {kind!r} is unknown; choose one of {', '.join(SIZES)}")
    return SIZES[kind]


def init_score_adapter(key, width, *, kind="power", hidden=(3072, 3072), norm=True):
    """Cosine adapter: draws the network that reads a query and gives the parameters of its score map.

    For each hidden layer: layer norm, dense, ReLU, dropout; then a dense layer. The last layer starts at
    zero, so that all queries have the same map at first (the paper's code starts at random).

    >>> params = init_score_adapter(jax.random.key(0), 8, kind="linear", hidden=(16,))
    >>> print(params["layer_0"]["kernel"].shape, params["layer_1"]["kernel"].shape)
    (8, 16) (16, 2)

    Args:
        key: random key; layer i draws from ``fold_in(key, i)``.
        width: D, of the queries.
        kind: as in :func:`score_map`, or "vector": D parameters for :func:`vector_logits`.
        hidden: widths of the hidden layers. () is one linear layer.
        norm: False leaves the layer norms out. The first one hides the length of a query and the mean of its
            coordinates, of which the map may depend when D is small.

    Returns:
        {"layer_0": {"kernel", "bias", "norm": {"scale", "bias"}}, ...}; the last layer has no norm. {} for
        "raw".

    Raises:
        ValueError: for an unknown kind.

    References:
        N. Rossi et al., arXiv:2408.04887, where the hidden widths are 3072 for D = 768.
    """
    size = width if kind == "vector" else _size(kind)
    if not size:
        return {}
    params, sizes = {}, (width, *hidden)
    for i, (n, m) in enumerate(zip(sizes, sizes[1:], strict=False)):
        draw = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # as torch draws them
        kernel = draw(jax.random.fold_in(key, i), (n, m))
        params[f"layer_{i}"] = {"kernel": kernel, "bias": jnp.zeros(m)}
        if norm:
            params[f"layer_{i}"]["norm"] = {"scale": jnp.ones(n), "bias": jnp.zeros(n)}
    last = {"kernel": jnp.zeros((sizes[-1], size)), "bias": jnp.zeros(size)}
    return params | {f"layer_{len(hidden)}": last}


def score_parameters(params, queries, *, dropout=0.0, key=None):
    """Cosine adapter: the parameters of the score map of each query.

    >>> params = init_score_adapter(jax.random.key(0), 8, kind="linear", hidden=(16,))
    >>> print(score_parameters(params, jnp.ones((3, 8))).shape)
    (3, 2)

    Args:
        params: of :func:`init_score_adapter`, D in and n out.
        queries: [B, D].
        dropout: share of the hidden activations that become 0; the paper has 0.5.
        key: random key; None means no dropout, as when searching.

    Returns:
        [B, n] in at least float32; None where params is {}.

    Raises:
        ValueError: for queries of another width.
    """
    if not params:
        return None
    queries = on_device("queries", queries)
    check_shape("queries", queries, (None, len(params["layer_0"]["kernel"])))
    x = queries.astype(accumulator(queries))
    for i in range(len(params) - 1):
        layer = params[f"layer_{i}"]
        x = layer_norm(layer["norm"], x) if "norm" in layer else x
        x = jax.nn.relu(affine(layer, x))
        if key is not None and dropout:
            kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - dropout, x.shape)
            x = jnp.where(kept, x / (1 - dropout), 0)
    return affine(params[f"layer_{len(params) - 1}"], x)


def relevance_logits(params, queries, scores, *, kind="power", dropout=0.0, key=None, **options):
    """Cosine adapter: turns the scores of each query into logits that are comparable between queries.

    ``score_map(scores, score_parameters(params, queries))``. One threshold on these logits cuts the list of
    every query; the order within a list stays.

    >>> params = init_score_adapter(jax.random.key(0), 2, kind="linear", hidden=())
    >>> print(relevance_logits(params, jnp.eye(2), jnp.array([[1.0], [0.5]]), kind="linear").round(3))
    [[0.693]
     [0.347]]

    Args:
        params: of :func:`init_score_adapter` with the same kind.
        queries: [B, D].
        scores: [B, K]; any score will do, the cosine, an estimate or that of quantised vectors.
        kind: as in :func:`score_map`.
        dropout, key: as in :func:`score_parameters`.
        **options: ``positive_slope``, ``centre`` and ``scale`` of :func:`score_map`.

    Returns:
        [B, K] in at least float32. Train them by ``optax.sigmoid_binary_cross_entropy``, the gradient of
        which reaches ``params`` alone when queries and scores are data.

    Raises:
        ValueError: for shapes that do not fit, or NaN; under jit NaN stays NaN.

    References:
        N. Rossi et al., arXiv:2408.04887.
    """
    found = score_parameters(params, queries, dropout=dropout, key=key)
    return score_map(scores, found, kind=kind, **options)


def vector_logits(params, queries, documents, *, dropout=0.0, key=None):
    """Adapted query: logits of relevance that change the order, the kind "vector" of the paper's code.

    ``logits[b, k] = <score_parameters(params, queries)[b], documents[b, k]>``.

    >>> params = init_score_adapter(jax.random.key(0), 2, kind="vector", hidden=())
    >>> params["layer_0"]["bias"] = jnp.array([1.0, 2.0])
    >>> print(vector_logits(params, jnp.ones((1, 2)), jnp.array([[[3.0, 4.0]]])))
    [[11.]]

    Args:
        params: of :func:`init_score_adapter` with kind="vector".
        queries: [B, D].
        documents: [B, K, D], the candidates of each query.
        dropout, key: as in :func:`score_parameters`.

    Returns:
        [B, K] in at least float32.

    Raises:
        ValueError: for shapes that do not fit, or NaN; under jit NaN stays NaN.
    """
    queries, documents = jnp.asarray(queries), jnp.asarray(documents)
    refuse_nan("queries", queries)
    adapted = score_parameters(params, queries, dropout=dropout, key=key)
    check_shape("documents", documents, (len(adapted), None, adapted.shape[1]))
    refuse_nan("documents", documents)
    return jnp.einsum("bd,bkd->bk", adapted, documents, precision="highest")


def fit_platt(labels, scores, *, kind="linear", where=None, steps=100):
    """Platt scaling: fits the one score map for all queries, a x + b, by logistic regression.

    Minimises the cross-entropy of ``sigmoid(a x + b)`` with Newton's steps. Targets are Platt's: ``(P + 1) /
    (P + 2)`` for the P positives and ``1 / (N + 2)`` for the N negatives, so that a and b stay finite where
    scores tell the classes apart. It is the constant case of the cosine adapter; kind "temperature" has no b.

    >>> found = fit_platt([0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    >>> print(found.round(2))
    [[ 5.36 -1.87]]

    Args:
        labels: [...], 0 or 1.
        scores: of the same shape.
        kind: "linear" or "temperature".
        where: optional bool of the same shape; False leaves a pair out.
        steps: most Newton steps.

    Returns:
        float64 [1, n], ``parameters`` of :func:`score_map` with ``positive_slope=False``.

    Raises:
        ValueError: for labels of one class, scores that are not finite, shapes that differ, or another kind.

    References:
        J. Platt, Advances in Large Margin Classifiers, 1999; C. Guo et al., arXiv:1706.04599, who choose the
        temperature with targets 0 and 1.
    """
    if kind not in ("linear", "temperature"):
        raise ValueError(f"kind: {kind!r}; choose linear or temperature")
    labels, scores = pooled(labels, scores, where)
    if np.isinf(scores).any():
        raise ValueError("scores: hold an infinity; leave such pairs out by where=")
    positive = int(labels.sum())
    negative = len(labels) - positive
    targets = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    spread = np.abs(scores).max() or 1.0
    columns = np.stack([scores / spread, np.ones(len(scores))][: SIZES[kind]])
    theta = np.zeros(len(columns))
    value = _cross_entropy(theta @ columns, targets)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-(theta @ columns)))
        slope = columns @ (p - targets)
        bend = (columns * (p * (1 - p))) @ columns.T + 1e-12 * np.eye(len(theta))
        move, size = np.linalg.solve(bend, slope), 1.0
        while size > 1e-10 and _cross_entropy((theta - size * move) @ columns, targets) > value:
            size /= 2
        theta = theta - size * move
        value = _cross_entropy(theta @ columns, targets)
        if np.abs(slope).max() < 1e-9 * len(labels):
            break
    return (theta / np.array([spread, 1.0])[: len(theta)])[None]


def _cross_entropy(logits, targets):
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def pooled(labels, scores, where=None):
    """Pairs of all queries as two flat arrays, bool and float64; refuses NaN and labels of one class.

    >>> print(pooled([[0, 1]], [[0.5, 0.25]])[1])
    [0.5  0.25]

    Args:
        labels: [...], 0 or 1.
        scores: of the same shape.
        where: optional bool of the same shape; False leaves a pair out, whatever it holds.
    """
    labels, scores = host("labels", labels), host("scores", scores)
    where = np.ones(labels.shape, bool) if where is None else np.asarray(where, bool)
    if scores.shape != labels.shape or where.shape != labels.shape:
        raise ValueError(
            f"scores: {scores.shape} with labels {labels.shape} and where {where.shape}; need one shape"
        )
    labels, scores = labels[where], scores[where].astype(np.float64)
    if np.isnan(scores).any():
        raise ValueError("scores: hold NaN; leave such pairs out by where=, or look for broken vectors")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels: a value outside {0, 1}; map labels to 0 and 1")
    positive = labels == 1
    if not 0 < positive.sum() < len(positive):
        only = "no pairs" if not len(positive) else "only positives" if positive[0] else "only negatives"
        raise ValueError(f"labels: {only}; pass pairs of both classes")
    return positive, scores
