"""What a linear classifier reads from frozen vectors: logistic regression, folds, macro-F1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed.arrays import accumulator, check_shape, exact_product, spectrum


def macro_f1(labels, told):
    """Macro-F1: the mean over the classes of the harmonic mean of precision and recall.

    ``F1[c] = 2 hits[c] / (true[c] + told[c])``. Classes are those of either list; small ones count as much as
    large ones.

    >>> print(round(macro_f1(["a", "a", "b"], ["a", "b", "b"]), 3))
    0.667

    Args:
        labels: [N], the true classes.
        told: [N], what a classifier says.

    Returns:
        float.

    Raises:
        ValueError: for no labels, or lists of different lengths.
    """
    labels, told = np.asarray(labels), np.asarray(told)
    check_shape("told", told, labels.shape)
    if not labels.size:
        raise ValueError("labels: none; pass at least one")
    names = np.unique(np.concatenate([labels, told]))
    hits = [np.sum((labels == n) & (told == n)) for n in names]
    given = [np.sum(labels == n) + np.sum(told == n) for n in names]
    return float(np.mean(2 * np.array(hits) / np.array(given)))


def stratified_folds(labels, *, folds=5, seed=0):
    """Stratified folds: parts of a set with nearly equal shares of every class.

    >>> print(np.sort(stratified_folds(["a", "a", "b", "b"], folds=2)[:2]))
    [0 1]

    Args:
        labels: [N].
        folds: number of parts.
        seed: of the order within a class.

    Returns:
        int NumPy array [N], the fold of each row. Sizes of folds, and of one class in them, differ by at most
        one.

    Raises:
        ValueError: for fewer than two folds, or more than rows.
    """
    labels = np.asarray(labels)
    if not 2 <= folds <= len(labels):
        raise ValueError(f"folds: {folds} is outside 2..{len(labels)}, the number of rows")
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    found = np.zeros(len(labels), int)
    found[order] = np.arange(len(labels)) % folds
    return found


def fit_logistic(vectors, labels, classes, *, where=None, c=1.0, steps=200, tolerance=1e-5):
    """Multinomial logistic regression: the linear classifier of vectors with the least penalised loss.

    Minimises ``sum_i -log softmax(x[i] W + b)[label i] + |W|**2 / (2 c)`` by L-BFGS in coordinates that the
    second moments of the vectors make round, which changes the path and not the end.

    >>> params = fit_logistic(jnp.array([[-1.0], [1.0]]), jnp.array([0, 1]), 2)
    >>> print(np.asarray(params["kernel"]).round(3), np.asarray(params["bias"]).round(3) + 0)
    [[-0.521  0.521]] [0. 0.]

    Args:
        vectors: [N, D].
        labels: int [N] of 0..C-1.
        classes: C.
        where: optional bool [N]. False leaves a row out; it may hold anything.
        c: inverse strength of the penalty; the bias has none.
        steps: most steps of the solver.
        tolerance: it stops when no entry of the gradient of the mean loss is larger.

    Returns:
        {"kernel": [D, C], "bias": [C]}; ``argmax(x kernel + bias)`` is the class.

    Raises:
        ValueError: for fewer than two classes, no vectors, labels that do not fit, or vectors that are not
            finite.
    """
    vectors = jnp.asarray(vectors)
    check_shape("vectors", vectors, (None, None))
    if classes < 2 or not vectors.size:
        raise ValueError(f"vectors: shape {vectors.shape} with {classes} classes; pass some of two classes")
    labels = jnp.asarray(labels)
    check_shape("labels", labels, (len(vectors),))
    where = jnp.ones(len(vectors), bool) if where is None else jnp.asarray(where)
    check_shape("where", where, (len(vectors),))
    x = jnp.where(where[:, None], vectors, 0).astype(accumulator(vectors))
    if not isinstance(x, jax.core.Tracer):
        _check_rows(x, labels, where, classes)
    return _fit_logistic(x, labels, where, c, tolerance, classes=classes, steps=steps)


def _check_rows(x, labels, where, classes):
    bad = np.flatnonzero(~np.isfinite(np.asarray(x)).all(axis=1))
    if len(bad):
        raise ValueError(f"vectors: row {bad[0]} is not finite; leave it out by where=")
    labels = np.asarray(labels)[np.asarray(where)]
    if not len(labels) or not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels: pass numbers of 0..{classes - 1}, of at least one row that counts")


@functools.partial(jax.jit, static_argnames=("classes", "steps"))
def _fit_logistic(x, labels, where, c, tolerance, *, classes, steps):
    count = jnp.maximum(jnp.sum(where), 1).astype(x.dtype)
    mean = jnp.sum(x, axis=0) / count
    x = jnp.where(where[:, None], x - mean, 0)
    eye = jnp.eye(x.shape[1], dtype=x.dtype)
    moments = exact_product(x.T, x) / (2 * count) + eye / (c * count)
    scale = jnp.linalg.inv(jnp.linalg.cholesky(moments)).T  # W = scale V, and V is what moves
    x = exact_product(x, scale)

    def loss(params):
        rows = optax.losses.softmax_cross_entropy_with_integer_labels(
            exact_product(x, params["kernel"]) + params["bias"], labels
        )
        penalty = jnp.sum(exact_product(scale, params["kernel"]) ** 2) / (2 * c)
        return (jnp.sum(jnp.where(where, rows, 0)) + penalty) / count

    tx = optax.lbfgs()
    evaluate = optax.value_and_grad_from_state(loss)

    def step(state):
        params, opt, number, _ = state
        value, gradient = evaluate(params, state=opt)
        updates, opt = tx.update(gradient, opt, params, value=value, grad=gradient, value_fn=loss)
        largest = jnp.max(jnp.array([jnp.max(jnp.abs(g)) for g in jax.tree.leaves(gradient)]))
        return optax.apply_updates(params, updates), opt, number + 1, largest

    start = {"kernel": jnp.zeros((x.shape[1], classes), x.dtype), "bias": jnp.zeros(classes, x.dtype)}
    params, *_ = jax.lax.while_loop(
        lambda state: (state[2] < steps) & (state[3] > tolerance),
        step,
        (start, tx.init(start), 0, jnp.asarray(jnp.inf, x.dtype)),
    )
    kernel = exact_product(scale, params["kernel"])
    return {"kernel": kernel, "bias": params["bias"] - exact_product(mean[None], kernel)[0]}


def cross_validate(vectors, labels, *, folds=5, seed=0, size=None, standardise=False, **options):
    """Cross-validated probe: how well a logistic regression on vectors tells classes of unseen rows.

    Everything that is measured, the singular vectors too, is measured on the training folds alone.

    >>> vectors = np.repeat([[-1.0, 0.0], [1.0, 0.0]], 10, axis=0)
    >>> print(cross_validate(vectors, ["a"] * 10 + ["b"] * 10, folds=2))
    {'accuracy': [1.0, 1.0], 'f1': [1.0, 1.0]}

    Args:
        vectors: [N, D].
        labels: [N], of at least two classes.
        folds: number of parts, of which each is the test set once.
        seed: of the parts.
        size: optional width to which a truncated singular value decomposition, without centring, brings the
            vectors first.
        standardise: whether each coordinate gets mean 0 and deviation 1 then.
        options: ``c``, ``steps`` and ``tolerance`` of :func:`fit_logistic`.

    Returns:
        {"accuracy": list of a float for each fold, "f1": list, :func:`macro_f1`}.

    Raises:
        ValueError: for one class, a size outside 1..D, vectors that are not finite, or folds that do not fit.
    """
    vectors = np.asarray(vectors)
    check_shape("vectors", vectors, (None, None))
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    check_shape("labels", numbers, (len(vectors),))
    if len(names) < 2:
        raise ValueError(f"labels: {len(names)} class; pass at least two")
    if size is not None and not 1 <= size <= vectors.shape[1]:
        raise ValueError(f"size: {size} is outside 1..{vectors.shape[1]}, the width of the vectors")
    found = {"accuracy": [], "f1": []}
    parts = stratified_folds(numbers, folds=folds, seed=seed)
    for fold in range(folds):
        known = parts != fold
        x = _prepared(jnp.asarray(vectors), jnp.asarray(known), size, standardise)
        params = fit_logistic(x, numbers, len(names), where=known, **options)
        told = np.argmax(np.asarray(x)[~known] @ np.asarray(params["kernel"]) + params["bias"], axis=1)
        found["accuracy"].append(float(np.mean(told == numbers[~known])))
        found["f1"].append(macro_f1(numbers[~known], told))
    return found


@functools.partial(jax.jit, static_argnames=("size", "standardise"))
def _prepared(vectors, known, size, standardise):
    x = vectors.astype(accumulator(vectors))
    if size is not None:
        x = exact_product(x, spectrum(x, known)[1][:, :size])
    if standardise:
        count = jnp.sum(known).astype(x.dtype)
        mean = jnp.sum(jnp.where(known[:, None], x, 0), axis=0) / count
        deviation = jnp.sqrt(jnp.sum(jnp.where(known[:, None], (x - mean) ** 2, 0), axis=0) / count)
        x = (x - mean) / jnp.where(deviation > 0, deviation, 1)
    return x
