"""Words of several senses: a skip-gram that chooses a sense from the context, and what it induces."""

import functools

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, masked_mean, on_device, unit
from jaxembed.checks import check_temperature
from jaxembed.losses.paragraphs import _likelihood

METHODS = ("cosine", "classifier")
DRAWS = ("place", "word")


def init_senses(key, vocabulary, senses, width, *, shared=False, hidden=None):
    """Disambiguated skip-gram: draws the params of :func:`sense_loss`.

    >>> params = init_senses(jax.random.key(0), 100, 3, 50)
    >>> print(params["senses"].shape, params["classifier"]["kernel"].shape)
    (100, 3, 50) (100, 50, 3)

    Args:
        key: random key.
        vocabulary: V.
        senses: K of each word.
        width: D.
        shared: one classifier for all words, as in the first stage of training; :func:`own_classifiers`
            then gives each word its own.
        hidden: optional width H of a layer of ``relu`` before the classifier, which all words share.

    Returns:
        ``senses`` [V, K, D], drawn evenly within 0.5 / (D K) of 0; ``output`` with ``kernel`` [V, D] and
        ``bias`` [V], zeros; ``classifier`` with ``kernel`` [V, D, K] and ``bias`` [V, K], or [D, K] and
        [K], zeros. With a layer the kernels are H high, and ``classifier/hidden`` has ``kernel`` [D, H] of
        Glorot's uniform distribution and ``bias`` [H], zeros.
    """
    bound = 0.5 / (width * senses)
    rows = () if shared else (vocabulary,)
    classifier = {"kernel": jnp.zeros((*rows, hidden or width, senses)), "bias": jnp.zeros((*rows, senses))}
    if hidden:
        draw = jax.nn.initializers.glorot_uniform()(jax.random.fold_in(key, 1), (width, hidden))
        classifier["hidden"] = {"kernel": draw, "bias": jnp.zeros(hidden)}
    return {
        "senses": jax.random.uniform(key, (vocabulary, senses, width), minval=-bound, maxval=bound),
        "output": {"kernel": jnp.zeros((vocabulary, width)), "bias": jnp.zeros(vocabulary)},
        "classifier": classifier,
    }


def own_classifiers(params):
    """The hand-over to the second stage: every word gets a copy of the shared classifier.

    >>> params = own_classifiers(init_senses(jax.random.key(0), 9, 2, 4, shared=True))
    >>> print(params["classifier"]["kernel"].shape)
    (9, 4, 2)

    Args:
        params: of :func:`init_senses` with ``shared=True``, trained.

    Returns:
        Params with ``kernel`` [V, D, K] and ``bias`` [V, K]. A hidden layer stays shared.

    Raises:
        ValueError: where words have classifiers of their own already.
    """
    kernel, bias = params["classifier"]["kernel"], params["classifier"]["bias"]
    if kernel.ndim != 2:
        raise ValueError(f"params: the classifier has shape {kernel.shape}; pass one of shape [D, K]")
    rows = len(params["senses"])
    tiled = {"kernel": jnp.tile(kernel, (rows, 1, 1)), "bias": jnp.tile(bias, (rows, 1))}
    return {**params, "classifier": params["classifier"] | tiled}


def gumbel_softmax(key, logits, *, temperature=1.0, hard=False):
    """Gumbel-softmax: draws weights of K choices that come near to one of them, and have a gradient.

    ``softmax((logits + g) / temperature)`` with Gumbel noise g. The largest weight falls on choice k with the
    chance ``softmax(logits)[k]`` at every temperature; towards 0 the weights become one-hot.

    >>> print(gumbel_softmax(jax.random.key(0), jnp.array([0.0, 50.0]), temperature=0.1))
    [0. 1.]

    Args:
        key: random key.
        logits: [..., K].
        temperature: positive number; may be traced, such as the value of an optax schedule.
        hard: whether the weights are exactly one-hot, with the gradient of the soft ones.

    Returns:
        [..., K] that sum to 1, in at least float32.

    Raises:
        ValueError: for a temperature that is not above 0.

    References:
        E. Jang et al., arXiv:1611.01144; C. Maddison et al., arXiv:1611.00712.
    """
    check_temperature(temperature)
    logits = on_device("logits", logits)
    logits = logits.astype(accumulator(logits))
    soft = jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape, logits.dtype)) / temperature)
    if not hard:
        return soft
    one = jax.nn.one_hot(jnp.argmax(soft, axis=-1), logits.shape[-1], dtype=soft.dtype)
    return one + soft - jax.lax.stop_gradient(soft)


def context_vectors(params, contexts, mask=None):
    """Context vectors: the mean of the output rows of the words around a place, without a gradient.

    >>> params = {"output": {"kernel": jnp.array([[0.0], [1.0], [3.0]])}}
    >>> print(context_vectors(params, jnp.array([[1, 2]])))
    [[2.]]

    Args:
        params: of :func:`init_senses`.
        contexts: int [B, C].
        mask: optional bool [B, C]. False marks padding, which may hold any number.

    Returns:
        [B, D]; zeros for a place without words around it.

    Raises:
        ValueError: for a mask of another shape.
    """
    contexts, mask = _masked(contexts, mask)
    return masked_mean(jax.lax.stop_gradient(params["output"]["kernel"][contexts]), mask)


def _masked(contexts, mask):
    contexts = on_device("contexts", contexts)
    check_shape("contexts", contexts, (None, None))
    mask = jnp.ones(contexts.shape, bool) if mask is None else jnp.asarray(mask, bool)
    check_shape("mask", mask, contexts.shape)
    return jnp.where(mask, contexts, 0), mask


def sense_logits(params, words, contexts, *, mask=None):
    """Sense classifier: how well each sense of a word suits the words around it.

    ``x A[v] + g[v]`` with x of :func:`context_vectors`; a shared classifier has one A and g for all words. A
    hidden layer W, c reads ``relu(x W + c)`` in place of x.

    >>> params = init_senses(jax.random.key(0), 9, 2, 4)
    >>> print(sense_logits(params, jnp.array([3]), jnp.array([[1, 2]])))
    [[0. 0.]]

    Args:
        params: of :func:`init_senses`.
        words: int [B].
        contexts: int [B, C].
        mask: optional bool [B, C]. False marks padding.

    Returns:
        [B, K].

    Raises:
        ValueError: for shapes that do not fit.
    """
    words = on_device("words", words)
    check_shape("words", words, (len(contexts),))
    x = context_vectors(params, contexts, mask)
    kernel, bias = params["classifier"]["kernel"], params["classifier"]["bias"]
    if "hidden" in params["classifier"]:
        layer = params["classifier"]["hidden"]
        x = jax.nn.relu(jnp.matmul(x, layer["kernel"], precision="highest") + layer["bias"])
    if kernel.ndim == 2:
        return jnp.matmul(x, kernel, precision="highest") + bias
    return jnp.einsum("bd,bdk->bk", x, kernel[words], precision="highest") + bias[words]


def sense_loss(
    params,
    words,
    contexts,
    *,
    mask=None,
    key=None,
    temperature=1.0,
    entropy_weight=0.0,
    choice=None,
    samples=None,
    draws="place",
):
    """Disambiguated skip-gram: the senses of a word, mixed by the context, predict the words of the context.

    ``loss = mean over u of -log softmax(W h + b)[u] + entropy_weight * entropy(softmax(logits))`` with ``h =
    sum_k p[k] S[v, k]`` and p the weights of the senses: ``softmax(logits / temperature)`` without a key,
    draws of :func:`gumbel_softmax` with it. The weight multiplies a loss: below 0 it rewards an even use
    of the senses.

    The published schedule: one epoch with a shared classifier, no key, temperature 1 and weight -0.1;
    :func:`own_classifiers`; three epochs with a key, the temperature falling from 1 to 0.5 during the first
    (``optax.linear_schedule``), and weight 0.

    >>> params = init_senses(jax.random.key(0), 9, 2, 4)
    >>> print(sense_loss(params, jnp.array([3]), jnp.array([[1, 2]])).astype("float16"))  # log 9
    [2.197]

    Args:
        params: of :func:`init_senses`.
        words: int [B], the words in the middle.
        contexts: int [B, C], the words around them: what is predicted, and what the sense is chosen from.
        mask: optional bool [B, C]. False marks padding, which may hold any number.
        key: random key of the draws.
        temperature: positive number; may be traced, and so be learned: ``jnp.exp`` of one of the params.
        entropy_weight: number; may be traced.
        choice: optional [B, K], or [B, C, K], weights in place of the classifier's: one-hot rows of
            :func:`nearest_sense` make this MSSG; with K = 1 it is skip-gram.
        samples: optional (ids int [S], log_q [V]), as in :func:`pv_dbow_loss`: a softmax over the word and
            S drawn words.
        draws: "place", where the words around one place share a draw, or "word", where each of them has its
            own as in the paper. Both have the same mean; the second costs C times as much.

    Returns:
        [B]; the first part is 0 for a row without context.

    Raises:
        ValueError: for shapes that do not fit, a temperature that is not above 0 or other draws.

    References:
        K. Grzegorczyk and M. Kurdziel, EMNLP 2018, aclanthology.org/D18-1174.
    """
    check_temperature(temperature)
    if draws not in DRAWS:
        raise ValueError(f"draws={draws!r}; choose one of {', '.join(DRAWS)}")
    words = on_device("words", words)
    check_shape("words", words, (len(contexts),))
    contexts, mask = _masked(contexts, mask)
    entropy = 0.0
    if choice is None:
        logits = sense_logits(params, words, contexts, mask=mask)
        entropy = jnp.sum(jax.scipy.special.entr(jax.nn.softmax(logits)), axis=1)
        choice = jax.nn.softmax(logits / temperature)
        if key is not None and draws == "word":
            logits = jnp.broadcast_to(logits[:, None], (*mask.shape, logits.shape[1]))
        if key is not None:
            choice = gumbel_softmax(key, logits, temperature=temperature)
    check_shape("choice", choice, (len(words), *choice.shape[1:-1], params["senses"].shape[1]))
    hidden = jnp.einsum("b...k,bkd->b...d", choice, params["senses"][words], precision="highest")
    likely = _likely(params["output"], hidden, contexts, mask, samples)
    return likely + entropy_weight * entropy


def _likely(output, hidden, contexts, mask, samples):
    """-log p of the context's words [B], told by one vector for each place, or for each of its words."""
    weights = mask.astype(hidden.dtype)
    if hidden.ndim == 2:
        return _likelihood(output, hidden, contexts, weights, samples)
    rows = hidden.reshape(-1, hidden.shape[-1]), contexts.reshape(-1, 1), weights.reshape(-1, 1)
    each = _likelihood(output, *rows, samples).reshape(mask.shape)
    return masked_mean(each[..., None], mask)[:, 0]


def sense_priors(params, batches):
    """Sense priors: how much each word's contexts use each of its senses.

    The normalised sum of ``softmax(logits)`` over all places of a word.

    >>> params = init_senses(jax.random.key(0), 3, 2, 4)
    >>> print(sense_priors(params, [{"words": jnp.array([1]), "contexts": jnp.array([[0, 2]])}])[1])
    [0.5 0.5]

    Args:
        params: of :func:`init_senses`, trained.
        batches: iterable of dicts: ``words`` int [B], ``contexts`` int [B, C] and optional ``mask`` bool
            [B, C].

    Returns:
        [V, K], rows that sum to 1; even for a word that never comes.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        K. Grzegorczyk and M. Kurdziel, EMNLP 2018, aclanthology.org/D18-1174.
    """
    total = jnp.zeros(params["senses"].shape[:2])
    for batch in batches:
        total = _added_priors(total, params, batch)
    count = jnp.sum(total, axis=1, keepdims=True)
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1), 1 / total.shape[1])


@jax.jit
def _added_priors(total, params, batch):
    logits = sense_logits(params, batch["words"], batch["contexts"], mask=batch.get("mask"))
    return total.at[batch["words"]].add(jax.nn.softmax(logits))


def prune_senses(priors, *, least=0.05):
    """Sense pruning: drops the senses that few contexts use.

    >>> print(prune_senses(jnp.array([[0.96, 0.04], [0.5, 0.5]])))
    [[ True False]
     [ True  True]]

    Args:
        priors: [V, K] of :func:`sense_priors`.
        least: prior below which a sense goes. The strongest sense of a word always stays.

    Returns:
        bool [V, K], True for the senses that stay.

    References:
        K. Grzegorczyk and M. Kurdziel, EMNLP 2018, aclanthology.org/D18-1174.
    """
    priors = on_device("priors", priors)
    check_shape("priors", priors, (None, None))
    strongest = jnp.arange(priors.shape[1]) == jnp.argmax(priors, axis=1)[:, None]
    return (priors >= least) | strongest


@functools.partial(jax.jit, static_argnames="method")
def _scores(params, words, contexts, mask, kept, method):
    if method == "classifier":
        return sense_logits(params, words, contexts, mask=mask)
    rows = jnp.where(kept[contexts][..., None], params["senses"][contexts], 0)
    number = jnp.maximum(jnp.sum(kept[contexts], axis=2), 1)[..., None]
    around = masked_mean(jnp.sum(rows, axis=2) / number, mask)
    return jnp.einsum("bkd,bd->bk", unit(params["senses"][words]), unit(around), precision="highest")


def induce_sense(params, words, contexts, *, mask=None, kept=None, method="cosine"):
    """Word sense induction: which sense a word has in a context, as one number for each place.

    - "cosine": the sense vector nearest to the mean over the context of each word's mean sense vector;
    - "classifier": the largest of :func:`sense_logits`.

    >>> params = init_senses(jax.random.key(0), 9, 2, 4)
    >>> params["senses"] = params["senses"].at[:, 1].multiply(-1.0)
    >>> print(induce_sense(params, jnp.array([3, 3]), jnp.array([[1, 2], [4, 5]])).shape)
    (2,)

    Args:
        params: of :func:`init_senses`, trained.
        words: int [B].
        contexts: int [B, C], as long as a context is: at test time often a whole sentence.
        mask: optional bool [B, C]. False marks padding.
        kept: optional bool [V, K] of :func:`prune_senses`; a pruned sense is never chosen.
        method: "cosine" or "classifier".

    Returns:
        int32 [B] in 0..K-1. ``metrics.adjusted_rand`` compares those of one word with known senses.

    Raises:
        ValueError: for shapes that do not fit or an unknown method.

    References:
        K. Grzegorczyk and M. Kurdziel, EMNLP 2018, aclanthology.org/D18-1174, whose released code takes
        "cosine".
    """
    if method not in METHODS:
        raise ValueError(f'method={method!r}; choose "cosine" or "classifier"')
    words = on_device("words", words)
    check_shape("words", words, (len(contexts),))
    contexts, mask = _masked(contexts, mask)
    shape = params["senses"].shape[:2]
    kept = jnp.ones(shape, bool) if kept is None else jnp.asarray(kept, bool)
    check_shape("kept", kept, shape)
    scores = _scores(params, words, contexts, mask, kept, method)
    return jnp.argmax(jnp.where(kept[words], scores, -jnp.inf), axis=1).astype(jnp.int32)
