"""Methods that keep few entries of a table: DeepLight, PEP, AutoSrh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed.checks import check_whole
from jaxembed.tables.compact import joined_counts, read_sparse, sparse_rows
from jaxembed.tables.factorized import TABLE, own_rows, read_rows
from jaxembed.tables.methods import at_once, counted_bytes, plain_settings, row_method, values_of
from jaxembed.tables.updates import _leaf, _replaced

THRESHOLDS = ("entry", "value")


def deeplight(sizes, width, *, keep, initialiser=None):
    """DeepLight: a full table [N, D] of which only the entries of the largest magnitude are kept.

    Training holds the full table and sets more and more entries to 0 (:func:`pruned_update`). ``deploy``
    stores the ``keep`` largest as sparse rows.

    >>> from jaxembed.tables import storage_bytes, training_bytes
    >>> m = deeplight(100, 16, keep=200)
    >>> print(training_bytes(m), storage_bytes(m))
    6400 1200

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        keep: number of entries that are kept, at most N * D.
        initialiser: as in :func:`~jaxembed.tables.full_table`.

    Returns:
        :class:`~jaxembed.tables.Method`. Deployed vectors are the trained ones where at most ``keep`` entries
        were left. It reads rows, but pruning compares all entries: the step costs O(N D) now and then.

    Raises:
        ValueError: for sizes below 1, or a number of entries out of range.

    References:
        W. Deng et al., arXiv:2002.06987.
    """
    values = values_of(sizes)
    _check_keep(keep, values, width)
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)
    return row_method(
        plain_settings("deeplight", sizes, width) | {"keep": int(keep)},
        values,
        lambda key: {"table": {"embedding": draw(key, (values.total, width))}},
        own_rows,
        lambda params, codes, key: _read(
            params, codes, width, lambda p: read_rows(p["embedding"], codes[TABLE])
        ),
        deploy=lambda params: _sparse(params, keep, lambda p: p["table"]["embedding"]),
    )


def _check_keep(keep, values, width):
    check_whole(1, width=width, keep=keep)
    if keep > values.total * width:
        raise ValueError(f"keep={keep}: the table has {values.total * width} entries; keep as many or fewer")


def _sparse(params, keep, table):
    return params if "sparse" in params else {"sparse": sparse_rows(table(params), keep)}


def _read(params, codes, width, dense):
    """Vectors of a table, or of the sparse rows that are left of it."""
    if "sparse" in params:
        return at_once(lambda rows: read_sparse(params["sparse"], rows[:, 0], width), codes[TABLE])
    return dense(params["table"])


def pruned_update(update, path, *, keep, every=10, base=0.99, over=100):
    """Gradual pruning: an update after which, now and then, the smallest entries of a table become 0.

    After step t, a multiple of ``every``, the share ``s (1 - base**(t / over))`` of the entries of smallest
    magnitude is set to 0, where s leaves ``keep`` entries in the end; their number is rounded to the nearest.
    Entries may grow again in between, and the state of the optimiser stays.

    >>> from jaxembed.train import TrainState
    >>> still = lambda params: (), lambda state, batch, key: (state, {})
    >>> init, step = pruned_update(still, "table/embedding", keep=2, every=1, base=0.0)
    >>> params = {"table": {"embedding": jnp.array([[1.0, -3.0, 2.0]])}}
    >>> print(step(TrainState(jnp.int32(0), params, (), None), None, None)[0].params["table"]["embedding"])
    [[ 0. -3.  2.]]

    Args:
        update: ``(init, step)`` of ``train.gradient_update`` or :func:`~jaxembed.tables.row_update`.
        path: of the table, such as "table/embedding".
        keep: entries left in the end.
        every: steps from one pruning to the next.
        base: number in [0, 1), how fast the share rises.
        over: steps in which the rest is multiplied by ``base``.

    Returns:
        ``(init, step)`` with the optimiser state of ``update``.

    Raises:
        ValueError: for numbers out of range; when called, for more entries than the table has.

    References:
        W. Deng et al. (DeepLight), arXiv:2002.06987.
    """
    check_whole(1, keep=keep, every=every, over=over)
    if not 0 <= base < 1:
        raise ValueError(f"base={base}: is outside 0..1; give a number from 0 to below 1")
    init, inner = update

    def step(state, batch, key):
        done, metrics = inner(state, batch, key)
        table = _leaf(done.params, path)
        if keep > table.size:
            raise ValueError(f"keep={keep}: the table has {table.size} entries; keep as many or fewer")
        t = state.step + 1
        share = (1 - keep / table.size) * (1 - base ** (t / over))
        left = table.size - jnp.round(share * table.size).astype(jnp.int32)
        pruned = jax.lax.cond(t % every == 0, lambda x: keep_largest(x, left), lambda x: x, table)
        return dataclasses.replace(done, params=_replaced(done.params, {path: pruned})), metrics

    return init, step


def keep_largest(x, keep):
    """Magnitude pruning: sets all entries to 0 but those of the largest magnitude; equal ones stay together.

    >>> print(keep_largest(jnp.array([1.0, -3.0, 2.0, 2.0]), 2))
    [ 0. -3.  2.  2.]

    Args:
        x: float [...].
        keep: how many entries at least are kept, 1 to their number; may be traced.

    Returns:
        [...].
    """
    bits = jax.lax.bitcast_convert_type(jnp.abs(x.astype(jnp.float32)), jnp.int32)  # ordered as the numbers

    def halve(i, found):
        tried = found | (jnp.int32(1) << (30 - i))
        return jnp.where(jnp.sum(bits >= tried) >= keep, tried, found)

    threshold = jax.lax.fori_loop(0, 31, halve, jnp.int32(0))
    return jnp.where(bits >= threshold, x, 0)


def pep(sizes, width, *, keep, threshold="entry", start=-15.0, initialiser=None):
    """PEP: entries shrink towards 0 by learned thresholds, and those below their threshold are 0.

    ``e = sign(w) relu(|w| - sigmoid(t))``, with a threshold t for each entry or each value.

    >>> m = pep(100, 16, keep=200)
    >>> params = m.init(jax.random.key(0))
    >>> print(params["threshold"]["embedding"].shape, pep_left(params))
    (100, 16) 1600

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        keep: number of entries that ``deploy`` stores. Train until :func:`pep_left` is at most that.
        threshold: "entry", t [N, D], or "value", t [N, 1].
        start: first value of t. Below about -80 its gradient is 0 in float32.
        initialiser: as in :func:`~jaxembed.tables.full_table`.

    Returns:
        :class:`~jaxembed.tables.Method`; it trains with :func:`~jaxembed.tables.row_update`, thresholds too.
        Deployed vectors are the trained ones where at most ``keep`` entries are left;
        :func:`~jaxembed.tables.fine_tuned` then trains those.

    Raises:
        ValueError: for another threshold, a start that is not finite, sizes below 1, or a number of entries
            out of range.

    References:
        S. Liu et al., arXiv:2101.07577.
    """
    if threshold not in THRESHOLDS:
        raise ValueError(f"threshold={threshold!r}; choose one of {THRESHOLDS}")
    if not np.isfinite(start):
        raise ValueError(f"start={start}; give a finite number")
    values = values_of(sizes)
    _check_keep(keep, values, width)
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)

    def init(key):
        shape = (values.total, width if threshold == "entry" else 1)
        table = {"embedding": draw(key, (values.total, width))}
        return {"table": table, "threshold": {"embedding": jnp.full(shape, start)}}

    def codes(numbers, index):
        return own_rows(numbers) | {"threshold/embedding": own_rows(numbers)[TABLE]}

    def read(params, codes, key):
        def dense(table):
            rows = read_rows(table["embedding"], codes[TABLE])
            least = read_rows(params["threshold"]["embedding"], codes["threshold/embedding"])
            return {n: _shrunk(x, least[n]) for n, x in rows.items()}

        return _read(params, codes, width, dense)

    def whole(params):
        return _shrunk(params["table"]["embedding"], params["threshold"]["embedding"])

    settings = plain_settings("pep", sizes, width) | {"keep": int(keep), "threshold": threshold}
    return row_method(settings, values, init, codes, read, deploy=lambda p: _sparse(p, keep, whole))


def _shrunk(w, t):
    return jnp.sign(w) * jax.nn.relu(jnp.abs(w) - jax.nn.sigmoid(t))


def pep_left(params):
    """PEP: counts the entries above their thresholds.

    Args:
        params: of :func:`pep` in training, with the table [N, D] and the thresholds [N, D] or [N, 1].

    Returns:
        int.
    """
    table, threshold = params["table"]["embedding"], params["threshold"]["embedding"]
    return int(jnp.sum(jnp.abs(table) > jax.nn.sigmoid(threshold)))


def autosrh(sizes, width, *, keep, counts, groups=6, initialiser=None):
    """AutoSrh: values are grouped by frequency, and each group learns how much it needs each coordinate.

    ``e = alpha[g(x)] * E[x]`` with g(x) the group of a value. ``deploy`` stores the ``keep`` entries of alpha
    E that are largest in magnitude. Train alpha on other rows than E (``train.bilevel_update``), by
    :func:`autosrh_rule`.

    >>> m = autosrh(4, 2, keep=4, counts=np.array([9, 1, 8, 1]), groups=2)
    >>> print(m.init(jax.random.key(0))["gates"]["alpha"].shape)
    (2, 2)
    >>> print(m.codes(np.arange(4))["group"]["values"].ravel())
    [0 1 0 1]

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        keep: number of entries that are kept, at most N * D.
        counts: numbers [size], or {feature: numbers [size]}: how often each value occurs in training.
        groups: how many groups, of about as many values each; values of equal counts are in one group.
        initialiser: as in :func:`~jaxembed.tables.full_table`.

    Returns:
        :class:`~jaxembed.tables.Method`; E trains with :func:`~jaxembed.tables.row_update`, which has one
        stream of batches: alpha then sees the same rows as E. Deployed vectors are the trained ones only
        where ``keep`` is all of them; :func:`~jaxembed.tables.fine_tuned` trains what is left.

    Raises:
        ValueError: for counts that do not fit, or numbers out of range.

    References:
        S. Kong et al., AutoSrh, IEEE TKDE 2023; its forerunner is W. Cheng et al., arXiv:2006.04466.
    """
    values = values_of(sizes)
    _check_keep(keep, values, width)
    check_whole(1, groups=groups)
    if groups > 256:
        raise ValueError(f"groups={groups}; give at most 256")
    group = frequency_groups(joined_counts(values.named(counts), values.sizes), groups)
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)

    def init(key):
        table = {"embedding": draw(key, (values.total, width))}
        return {"table": table, "gates": {"alpha": jnp.ones((groups, width))}}

    def codes(numbers, index):
        on_host = {n: isinstance(x, np.ndarray) for n, x in numbers.items()}
        found = {n: (group if on_host[n] else jnp.asarray(group))[x] for n, x in numbers.items()}
        return own_rows(numbers) | {"group": {n: g[..., None].astype(np.int32) for n, g in found.items()}}

    def read(params, codes, key):
        def dense(table):
            rows = read_rows(table["embedding"], codes[TABLE])
            return {n: x * params["gates"]["alpha"][codes["group"][n][..., 0]] for n, x in rows.items()}

        return _read(params, codes, width, dense)

    def whole(params):
        return params["table"]["embedding"] * params["gates"]["alpha"][group]

    settings = plain_settings("autosrh", sizes, width) | {"keep": int(keep), "groups": int(groups)}
    method = row_method(settings, values, init, codes, read, deploy=lambda p: _sparse(p, keep, whole))
    held = counted_bytes(group)
    return method._replace(bytes=lambda params: counted_bytes(params) + (0 if "sparse" in params else held))


def frequency_groups(counts, groups):
    """Frequency groups: cuts values into groups of about equal size, the most frequent first.

    >>> print(frequency_groups(np.array([5, 1, 9, 1]), 2))
    [0 1 0 1]

    Args:
        counts: numbers [N].
        groups: how many, 1 to 256.

    Returns:
        uint8 [N], NumPy; values of equal counts have equal groups, that of the first of them.
    """
    counts = np.asarray(counts)
    ahead = len(counts) - np.searchsorted(np.sort(counts), counts, side="right")  # how many occur more often
    return (ahead * groups // len(counts)).astype(np.uint8)


def autosrh_rule(rate=1e-3, *, penalty=1e-5):
    """AutoSrh, rule of alpha: signed steps of one mean length, an L1 penalty, and clipping to [0, 1].

    ``alpha <- clip(alpha - rate (g / mean |g| + penalty sign(alpha)), 0, 1)``.

    >>> rule = autosrh_rule(0.1, penalty=0.0)
    >>> alpha = jnp.array([1.0, 0.5])
    >>> print(optax.apply_updates(alpha, rule.update(jnp.array([-2.0, 2.0]), rule.init(alpha), alpha)[0]))
    [1.  0.4]

    Args:
        rate: learning rate.
        penalty: weight of the L1 norm.

    Returns:
        An optax transformation.

    References:
        S. Kong et al., AutoSrh, IEEE TKDE 2023, with the settings of the code behind arXiv:2311.15578.
    """

    def update(gradient, state, params):
        def moved(g, alpha):
            mean = jnp.mean(jnp.abs(g))
            g = g / jnp.where(mean > 0, mean, 1)
            return jnp.clip(alpha - rate * (g + penalty * jnp.sign(alpha)), 0, 1) - alpha

        return jax.tree.map(moved, gradient, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
