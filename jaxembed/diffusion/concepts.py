"""Concepts: inputs of a frozen model that are searched by gradient, and where they go among token states."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed.arrays import accumulator, check_shape, on_device

POOLS = ("max", "mean")


def search_embeddings(loss_fn, start, frozen, batches, *, tx, key, project=None, keep=1):
    """ConES: searches the input of a frozen model that has the least loss, by gradient descent.

    Step t follows the gradient of ``mean(loss_fn(found, frozen, batches[t], fold_in(key, t)))`` by ``found``
    alone. What ``found`` is makes the method. Rows of a text encoder's output are ConES; the vector of one
    new word, its input, is textual inversion. A vector for each layer that reads the text is extended
    textual inversion, and the parameters of :func:`map_tokens` are NeTI. Tokens before a prompt are prompt
    tuning.

    >>> loss_fn = lambda found, frozen, batch, key: (frozen @ found - batch) ** 2
    >>> batches = jnp.tile(jnp.array([4.0, 6.0]), (200, 1))
    >>> found, history = search_embeddings(
    ...     loss_fn, jnp.zeros(2), jnp.array([[2.0, 0.0], [0.0, 1.0]]), batches, tx=optax.adam(0.5), key=0
    ... )
    >>> print(found.astype("float16"), history["loss"].shape)
    [2. 6.] (200,)

    One scan runs all steps, so it jits and maps like any function: many concepts or seeds at once by
    ``jax.vmap``. Under ``jax.jit`` pass ``frozen`` as an argument; a closure is compiled into the program.

    Args:
        loss_fn: ``(found, frozen, batch, key) -> scalar or [B]``.
        start: tree of float arrays, where the search begins.
        frozen: tree of arrays that stay: the model, and what else the loss reads.
        batches: tree of arrays [S, ...], row t for step t.
        tx: optax transformation of ``found``.
        key: int seed or random key.
        project: optional ``found -> found`` after each step, :func:`match_norms` for instance.
        keep: how many snapshots the history has, evenly spaced; it divides S.

    Returns:
        ``found``, a tree like ``start``, and ``history``: {"loss": [S], "found": the tree with a leading
        [keep]}. The last snapshot is ``found``.

    Raises:
        ValueError: for batches without a step, leaves of different lengths, or a ``keep`` that does not
            divide S.

    References:
        arXiv:2305.18993, whose code is not public: the start, rate and projection are choices.
        R. Gal et al. (textual inversion), arXiv:2208.01618; A. Voynov et al. (extended), arXiv:2303.09522.
    """
    lengths = {np.shape(x)[0] if np.ndim(x) else None for x in jax.tree.leaves(batches)}
    steps = min(lengths, key=str) if len(lengths) == 1 else None
    if not steps:
        raise ValueError(
            f"batches: leading lengths {sorted(map(str, lengths))}; pass arrays [S, ...], S steps"
        )
    if keep < 1 or steps % keep:
        raise ValueError(f"keep: {keep} does not divide {steps} steps; pass a number that does")
    key = jax.random.key(key) if isinstance(key, int | np.integer) else key
    start = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x, jnp.float32)), start)

    def step(carry, at):
        found, state = carry
        number, batch = at
        inner = jax.random.fold_in(key, number)
        loss, slope = jax.value_and_grad(lambda f: jnp.mean(loss_fn(f, frozen, batch, inner)))(found)
        moves, state = tx.update(slope, state, found)
        found = optax.apply_updates(found, moves)
        return (found if project is None else project(found), state), loss

    def several(carry, ats):
        carry, losses = jax.lax.scan(step, carry, ats)
        return carry, (losses, carry[0])

    ats = (jnp.arange(steps), jax.tree.map(jnp.asarray, batches))
    ats = jax.tree.map(lambda x: x.reshape(keep, steps // keep, *x.shape[1:]), ats)
    (found, _), (losses, kept) = jax.lax.scan(several, (start, tx.init(start)), ats)
    return found, {"loss": losses.reshape(-1), "found": kept}


def insert_rows(states, rows, slots):
    """Concept context: token states of a template with the rows of a concept at its slots.

    ``out[slots[j]] = rows[j]``, other rows as they are. At a text encoder's input the rest of the text then
    depends on the concept; at its output it was computed without it.

    >>> print(insert_rows(jnp.zeros((3, 2)), jnp.ones((1, 2)), jnp.array([1])))
    [[0. 0.]
     [1. 1.]
     [0. 0.]]

    Args:
        states: [..., T, D].
        rows: [n, D], or [..., n, D] with rows of their own for each text.
        slots: int [n], or [..., n]: different places in 0..T-1.

    Returns:
        [..., T, D] in the dtype that holds both.

    Raises:
        ValueError: for shapes that do not fit, or a slot outside 0..T-1. A traced one drops its row.
    """
    states, rows, slots = on_device("states", states), on_device("rows", rows), on_device("slots", slots)
    if states.ndim < 2 or rows.ndim < 2 or rows.shape[-1] != states.shape[-1] or not slots.ndim:
        raise ValueError(
            f"rows: {rows.shape} and slots {slots.shape} for states {states.shape}; pass [n, D] and [n]"
        )
    leading, count, total = states.shape[:-2], rows.shape[-2], states.shape[-2]
    known = None if isinstance(slots, jax.core.Tracer) else np.asarray(slots)
    if known is not None and np.any((known < 0) | (known >= total)):
        raise ValueError(f"slots: outside 0..{total - 1}, the places of the {total} tokens; pass slots there")
    rows = jnp.broadcast_to(rows, (*leading, count, rows.shape[-1]))
    slots = jnp.broadcast_to(slots, (*leading, count))
    hits = slots[..., None] == jnp.arange(total)  # [..., n, T]
    wide = jnp.result_type(states, rows)
    placed = jnp.einsum("...nt,...nd->...td", hits.astype(wide), rows.astype(wide), precision="highest")
    return jnp.where(jnp.any(hits, axis=-2)[..., None], placed, states.astype(wide))


def draw_rows(key, outputs, count):
    """Start from moments: rows drawn from the normal distribution that a text encoder's outputs have.

    The mean and covariance are those of ``outputs``: ``mean + sum_i z[i] (outputs[i] - mean) / sqrt(N - 1)``.

    >>> outputs = jnp.array([[1.0, 0.0], [1.0, 2.0], [1.0, 4.0]])
    >>> print(draw_rows(jax.random.key(0), outputs, 4)[:, 0])
    [1. 1. 1. 1.]

    Args:
        key: random key.
        outputs: [N, D], states of many words, N at least 2.
        count: number of rows.

    Returns:
        [count, D] in at least float32.

    Raises:
        ValueError: for another shape, or fewer than two outputs.
    """
    outputs = on_device("outputs", outputs)
    check_shape("outputs", outputs, (None, None))
    if len(outputs) < 2:
        raise ValueError(f"outputs: {len(outputs)} row; a covariance needs at least 2, so pass more")
    outputs = outputs.astype(accumulator(outputs))
    mean = jnp.mean(outputs, axis=0)
    weights = jax.random.normal(key, (count, len(outputs)), outputs.dtype) * (len(outputs) - 1) ** -0.5
    return mean + jnp.matmul(weights, outputs - mean, precision="highest")


def match_norms(x, reference, *, longest=False):
    """Norm matching: gives each row the length of a reference row.

    ``x |reference| / |x|``. Found embeddings grow without it, which guidance does not stand.

    >>> print(match_norms(jnp.array([[3.0, 4.0], [0.3, 0.4]]), jnp.array([[1.0, 0.0]]), longest=True))
    [[0.6 0.8]
     [0.3 0.4]]

    Args:
        x: [..., D].
        reference: [..., D] that broadcasts against it; only its lengths count.
        longest: True shortens what is longer and leaves the rest.

    Returns:
        [..., D] in at least float32. A row of zeros stays.

    Raises:
        ValueError: for a reference of another width.
    """
    x, reference = on_device("x", x), on_device("reference", reference)
    check_shape("reference", reference, (*[None] * (reference.ndim - 1), x.shape[-1]))
    wide = accumulator(x, reference)
    x = x.astype(wide)
    squares = jnp.sum(x**2, axis=-1, keepdims=True)
    length = jnp.sqrt(jnp.where(squares > 0, squares, 1))
    wanted = jnp.sqrt(jnp.sum(reference.astype(wide) ** 2, axis=-1, keepdims=True))
    factor = wanted / length
    return x * (jnp.minimum(factor, 1) if longest else factor)


def alignment_logits(regions, concepts, *, where=None, pool="max", temperature=1.0):
    """Alignment logits: how well each region of an image fits the token rows of each concept.

    ``logits[r, k] = pool over n of <regions[r], concepts[k, n]> / temperature``. Detectors and classifiers
    that read text score by them; searching ``concepts`` adapts one without its text encoder.

    >>> concepts = jnp.array([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [9.0, 9.0]]])
    >>> where = jnp.array([[True, True], [True, False]])
    >>> print(alignment_logits(jnp.array([[1.0, 3.0]]), concepts, where=where))
    [[6. 4.]]

    Args:
        regions: [R, D]; unit rows, with unit rows of the concepts, give cosines.
        concepts: [K, n, D].
        where: optional bool [K, n]. False leaves a row out: padding, where concepts have fewer words.
        pool: "max" or "mean".
        temperature: positive float that divides; may be traced.

    Returns:
        [R, K] in at least float32. A concept without any row gets -inf.

    Raises:
        ValueError: for shapes that do not fit, or an unknown pool.

    References:
        L. H. Li et al. (GLIP), arXiv:2112.03857, whose logits are by token; pooled here by concept.
    """
    if pool not in POOLS:
        raise ValueError(f"pool={pool!r}; choose one of {', '.join(POOLS)}")
    regions, concepts = on_device("regions", regions), on_device("concepts", concepts)
    check_shape("regions", regions, (None, None))
    check_shape("concepts", concepts, (None, None, regions.shape[1]))
    where = jnp.ones(concepts.shape[:2], bool) if where is None else jnp.asarray(where, bool)
    check_shape("where", where, concepts.shape[:2])
    wide = accumulator(regions, concepts)
    rows = jnp.where(where[..., None], concepts, 0).astype(wide)
    scores = jnp.einsum("rd,knd->rkn", regions.astype(wide), rows, precision="highest") / temperature
    if pool == "max":
        return jnp.max(jnp.where(where, scores, -jnp.inf), axis=-1, initial=-jnp.inf)
    count = jnp.sum(where, axis=-1)
    return jnp.where(count > 0, jnp.sum(scores, axis=-1) / jnp.maximum(count, 1), -jnp.inf)
