"""Objectives over the layers and sizes of an encoder, one for each paper: (key, layers) -> scalar."""

import jax.numpy as jnp

from jaxembed.arrays import unit
from jaxembed.checks import check_whole
from jaxembed.losses.distillation import compression_loss, compression_targets, score_kl, vector_kl
from jaxembed.losses.layer_grids import (
    espresso_grid,
    full_grid,
    layer_weights,
    sampled_weights,
    two_dimensional_weights,
)
from jaxembed.losses.nested import over_layers


def vector_kl_to_last(*last):
    """KL to the last layer, over coordinates: pulls every vector to the profile of the last layer's vector.

    The last layer is cut to the size of the vectors and gets no gradient, see :func:`vector_kl`.

    >>> last = jnp.array([[1.0, 2.0, 3.0]])
    >>> print(vector_kl_to_last(last)(last[:, :2]), vector_kl_to_last(last)(jnp.zeros((1, 2))).round(4))
    [0.] [0.1109]

    Args:
        *last: arrays [B, D], the last layer's vectors.

    Returns:
        ``loss(*vectors) -> [B]``, the mean over arrays [B, size] in the order of ``last``. It is a scalar
        where the arrays have different numbers of rows, as with hard negatives.

    References:
        X. Li et al., 2D Matryoshka Sentence Embeddings, arXiv:2402.14776; the similarity code of S. Zhuang et
        al., Starbucks, arXiv:2410.13230.
    """

    def loss(*vectors):
        pairs = zip(vectors, last, strict=True)
        return _mean_over([vector_kl(v, teacher=t[:, : v.shape[1]]) for v, t in pairs])

    return loss


def score_kl_to_last(*last, temperature=0.05):
    """KL to the last layer, over scores: asks vectors to rank one another as the last layer's vectors do.

    Scores are cosines: of each query with all documents, or, for one array, of each vector with all others.
    The last layer counts at its full width and gets no gradient, see :func:`score_kl`.

    >>> last = jnp.eye(3)
    >>> print(score_kl_to_last(last)(2 * last), score_kl_to_last(last, last)(last, 2 * last))
    [0. 0. 0.] [0. 0. 0.]

    Args:
        *last: the last layer's vectors: queries [B, D] and documents [N, D], or one array [B, D].
        temperature: positive number that divides the scores of both; may be traced.

    Returns:
        ``loss(*vectors) -> [B]`` on arrays of the same rows and any width.

    Raises:
        ValueError: for more than two arrays.

    References:
        S. Zhuang et al., Starbucks, arXiv:2410.13230, the code for retrieval. It takes raw inner products at
        temperature 1, which collapse at some depths; cosines do not.
    """
    if not 1 <= len(last) <= 2:
        raise ValueError(f"last: {len(last)} arrays; pass queries and documents, or one array")

    def scores(queries, documents=None):
        queries = unit(queries)
        return queries @ (queries if documents is None else unit(documents)).T

    where = ~jnp.eye(len(last[0]), dtype=bool) if len(last) == 1 else None
    teacher = scores(*last)
    return lambda *vectors: score_kl(scores(*vectors), teacher=teacher, where=where, temperature=temperature)


def layer_objective(loss, grid, weights=None, *, pull=None, pulled=(), pulled_weights=None):
    """Layer objective: trains pairs (layer, size) of an encoder, and pulls pairs towards its last layer.

    ``objective(key, *layers) = mean(over_layers(loss, grid, w)(*layers))
    + mean(over_layers(pull(*last), pulled, v)(*layers))``

    Here ``last`` are the vectors of the last layer at full width. ``w`` are the weights of this step, ``v``
    those of the pull. :func:`two_dimensional`, :func:`espresso` and :func:`starbucks` are calls of it.

    >>> from jaxembed.losses import info_nce
    >>> layers = jnp.stack([jnp.eye(4)] * 3, axis=1)
    >>> plain = layer_objective(info_nce, [(2, 4)])
    >>> both = layer_objective(info_nce, [(1, 2), (2, 4)], pull=vector_kl_to_last, pulled=[(1, 2)])
    >>> for objective in (plain, both):
    ...     print(f"{objective(None, layers, layers, temperature=1.0):.3f}")
    0.744
    1.809

    Args:
        loss: ``loss(*vectors, **options) -> [B]``, or a scalar, on arrays [B, D].
        grid: pairs (n, size), as in :func:`over_layers`.
        weights: optional, one number per pair, or a function key -> one number per pair that draws them.
        pull: ``pull(*last) -> loss``, such as :func:`vector_kl_to_last`.
        pulled: the pairs that are pulled.
        pulled_weights: as ``weights``, for these pairs.

    Returns:
        ``objective(key, *layers, **options) -> scalar`` on arrays [B, L+1, D], row 0 the embeddings.
        ``options`` go to ``loss``. The key may be None where no weights are drawn.

    Raises:
        ValueError: for pulled pairs without a pull, and as :func:`over_layers`; later, for a missing key.
    """
    if pulled and pull is None:
        raise ValueError("pull: needed for the pulled pairs; pass losses.vector_kl_to_last for example")
    over_layers(loss, grid, None if callable(weights) else weights)  # refuses a wrong list at once

    def objective(key, *layers, **options):
        layers = [jnp.asarray(x) for x in layers]
        total = jnp.mean(over_layers(loss, grid, _weights(weights, key))(*layers, **options))
        if not pulled:
            return total
        toward = pull(*(x[:, -1] for x in layers))
        return total + jnp.mean(over_layers(toward, pulled, _weights(pulled_weights, key))(*layers))

    return objective


def two_dimensional(loss, layers, sizes, *, weighting="uniform", pull=vector_kl_to_last):
    """2DMSE: trains one shallow layer and one short size a step, with the last layer and the full size.

    With layer n and size d drawn, L the last layer and D the full size,

    ``loss(v[L, D]) + loss(v[L, d]) + w[n] * (loss(v[n, D]) + loss(v[n, d])) + pull(v[n, D])``

    >>> import jax
    >>> from jaxembed.losses import info_nce
    >>> objective = two_dimensional(info_nce, 2, (4, 8))
    >>> layers = jax.random.normal(jax.random.key(0), (6, 3, 8))
    >>> print(objective(jax.random.key(1), layers, layers).shape)
    ()

    Args:
        loss: ``loss(*vectors, **options) -> [B]``, or a scalar, on arrays [B, D].
        layers: the number L of blocks.
        sizes: prefix widths; the largest is the full size.
        weighting: of the shallow layers, as in :func:`layer_weights`.
        pull: of the drawn layer, as in :func:`layer_objective`; None leaves it out. The KL divergence is that
            of the paper.

    Returns:
        ``objective(key, *layers, **options) -> scalar`` on arrays [B, L+1, D].

    Raises:
        ValueError: for no layers or no sizes, and as :func:`layer_objective`.

    References:
        X. Li et al., 2D Matryoshka Sentence Embeddings, arXiv:2402.14776v1. Its code lets the teacher move;
        here it does not. The paper's weights of the terms are all 1 and so is its temperature;
        :func:`adaptive_layers` takes others. A ``pull`` that ignores ``last`` and holds the vectors of a
        frozen encoder is its teacher from outside, with :func:`token_kl` for the tokens.
    """
    sizes = tuple(sizes)
    if layers < 1 or not sizes:
        raise ValueError(f"layers: {layers}, sizes: {sizes}: at least one of each")
    grid = full_grid(range(1, layers + 1), sizes)
    whole = full_grid(range(1, layers + 1), (max(sizes),))  # the same key draws the same layer

    def drawn(key):
        return two_dimensional_weights(key, grid, weighting=weighting)

    def drawn_layer(key):
        return two_dimensional_weights(key, whole)

    pulled = {} if pull is None else {"pull": pull, "pulled": whole, "pulled_weights": drawn_layer}
    return layer_objective(loss, grid, drawn, **pulled)


def adaptive_layers(
    loss,
    layers,
    width,
    *,
    picks=1,
    weighting="uniform",
    last_weight=1.0,
    prior_weight=1.0,
    pull_weight=1.0,
    temperature=0.3,
):
    """Adaptive layers: trains the last layer in full, and in each step some layers before it.

    With the layers n drawn, L the last one and v[n] the vectors of layer n,

    ``last_weight * loss(v[L]) + mean_n (prior_weight * w[n] * loss(v[n])
    + pull_weight * temperature * KL(softmax(v[L] / temperature) || softmax(v[n] / temperature)))``

    With the loss ``matryoshka(loss, sizes)`` layers and sizes are trained together.

    >>> import jax
    >>> from jaxembed.losses import info_nce
    >>> objective = adaptive_layers(info_nce, 2, 8)
    >>> layers = jax.random.normal(jax.random.key(0), (6, 3, 8))
    >>> print(objective(jax.random.key(1), layers, layers).shape)
    ()

    Args:
        loss: ``loss(*vectors, **options) -> [B]``, or a scalar, on arrays [B, D].
        layers: the number L of blocks.
        width: D.
        picks: how many layers before the last a step trains; None trains all of them.
        weighting: w, as in :func:`layer_weights`.
        last_weight, prior_weight, pull_weight: numbers.
        temperature: positive number of the KL divergence over coordinates, see :func:`vector_kl`.

    Returns:
        ``objective(key, *layers, **options) -> scalar`` on arrays [B, L+1, D]. The key may be None where
        nothing is drawn.

    Raises:
        ValueError: for no layers, or more picks than there are layers before the last.

    References:
        X. Li et al., arXiv:2402.14776, as the class AdaptiveLayerLoss of sentence-transformers 5.7 and later
        has it. That class adds the KL of several drawn layers up, where it is their mean here. It also draws
        the embeddings below the first block, which do not count here.
    """
    check_whole(layers=layers, width=width)
    if layers < 1:
        raise ValueError(f"layers: {layers}; pass at least 1")
    before, grid = full_grid(range(1, layers), (width,)), full_grid(range(1, layers + 1), (width,))
    picks = len(before) if picks is None or not before else picks
    if before and not 1 <= picks <= len(before):
        raise ValueError(f"picks: {picks} is outside 1..{len(before)}, the layers before the last")
    scale = [prior_weight * w for w in layer_weights(weighting, layers)[:-1]]

    def pull(*last):
        teacher = jnp.concatenate(last)
        options = {"teacher": teacher, "temperature": temperature}
        return lambda *vectors: pull_weight * temperature * vector_kl(jnp.concatenate(vectors), **options)

    def shares(key):
        return sampled_weights(key, len(before), picks=picks) / picks

    def weights(share):
        return jnp.append(jnp.array(scale) * share, last_weight)

    if picks == len(before):  # nothing is drawn
        pulls = [1 / max(1, picks)] * picks
        pulled = {"pull": pull, "pulled": before, "pulled_weights": pulls}
        return layer_objective(loss, grid, weights(jnp.array(pulls)), **(pulled if before else {}))
    pulled = {"pull": pull, "pulled": before, "pulled_weights": shares}
    return layer_objective(loss, grid, lambda key: weights(shares(key)), **pulled)


def espresso(loss, layers, width, size=128, *, compress=True):
    """ESE: trains the full vector of the last layer, and a short vector of every layer that compresses it.

    ``loss(v[L, D]) + sum_n w[n] * (loss(v[n, k]) + compression(v[n]))`` with the weights of
    :func:`espresso_grid`: 1 for the last layer L, ``1 / (1 + ln n) / (L - 1)`` for the others. The
    compression pulls the first k numbers to the principal components of the layer's vectors.

    >>> import jax
    >>> from jaxembed.losses import info_nce
    >>> objective = espresso(info_nce, 2, 8, size=4)
    >>> layers = jax.random.normal(jax.random.key(0), (6, 3, 8))
    >>> print(objective(None, layers, layers).shape)
    ()

    Args:
        loss: ``loss(*vectors, **options) -> [B]``, or a scalar, on arrays [B, D].
        layers: the number L of blocks.
        width: the full width D.
        size: the short size k, below D.
        compress: False leaves the compression out. Its squares outweigh the loss where vectors are long.

    Returns:
        ``objective(key, *layers, **options) -> scalar`` on arrays [B, L+1, D]. Nothing is drawn: the key may
        be None.

    References:
        X. Li et al., ESE: Espresso Sentence Embeddings, arXiv:2402.14776v2.
    """
    grid, weights = espresso_grid(layers, width, size)

    plain = layer_objective(loss, grid, weights)

    def objective(key, *arrays, **options):
        total = plain(key, *arrays, **options)
        if not compress:
            return total
        each = [jnp.moveaxis(jnp.asarray(x)[:, 1:], 1, 0) for x in arrays]  # [L, B, D]
        targets = compression_targets(each, size)
        for n in range(layers):
            pairs = zip(each, targets, strict=True)
            parts = [compression_loss(x[n, :, :size], target=target[n]) for x, target in pairs]
            total = total + weights[n] * jnp.mean(_mean_over(parts))
        return total

    return objective


def starbucks(loss, grid, *, pull=score_kl_to_last, sampled=False):
    """Starbucks (SRL): trains a short list of layers and sizes that grow together, all in every step.

    ``sum over the list of loss(v[n, size]) + sum over all but its last pair of pull(v[n, size])``

    >>> import jax
    >>> from jaxembed.losses import diagonal_grid, info_nce
    >>> objective = starbucks(info_nce, diagonal_grid((1, 2), (4, 8)))
    >>> layers = jax.random.normal(jax.random.key(0), (6, 3, 8))
    >>> print(objective(None, layers, layers).shape)
    ()

    Args:
        loss: ``loss(*vectors, **options) -> [B]``, or a scalar, on arrays [B, D].
        grid: pairs (n, size) in rising order, as :func:`diagonal_grid` makes them.
        pull: towards the last layer, as in :func:`layer_objective`; None leaves it out. The authors' code for
            retrieval compares scores (the default), that for similarity vectors
            (:func:`vector_kl_to_last`).
        sampled: True is the paper's sub-model sampling, which it compares with: each step trains the last
            layer and one other layer of the list, both at every size of the list.

    Returns:
        ``objective(key, *layers, **options) -> scalar`` on arrays [B, L+1, D]. The key may be None where
        nothing is drawn.

    References:
        S. Zhuang et al., Starbucks, arXiv:2410.13230. In sub-model sampling the pull goes to all pairs that
        are trained but the full one; the code behind the paper leaves its weights unused there.
    """
    grid = tuple(grid)
    if not grid:
        raise ValueError("grid=(): at least one pair (layer, size), each number at least 1")
    if sampled:
        return _sampled_list(loss, grid, pull)
    return layer_objective(loss, grid, **({} if pull is None else {"pull": pull, "pulled": grid[:-1]}))


def _sampled_list(loss, grid, pull):
    """The last layer of a list and one other, drawn, at every size of the list."""
    layers, sizes = (sorted(set(numbers)) for numbers in zip(*grid, strict=True))
    every, others = full_grid(layers, sizes), len(layers) - 1

    def drawn(key):
        trained = sampled_weights(key, len(layers), picks=min(1, others), always=(others,))
        return jnp.repeat(trained, len(sizes))

    pulled = {"pull": pull, "pulled": every[:-1], "pulled_weights": lambda key: drawn(key)[:-1]}
    return layer_objective(loss, every, drawn, **({} if pull is None or len(every) < 2 else pulled))


def _weights(weights, key):
    if not callable(weights):
        return weights
    if key is None:
        raise ValueError("key: None, but layers and sizes are drawn; pass a random key for each step")
    return weights(key)


def _mean_over(parts):
    """The mean over arrays [B]; a scalar where their lengths differ."""
    if len({part.shape for part in parts}) > 1:
        parts = [jnp.mean(part) for part in parts]
    return sum(parts) / len(parts)
