"""Tables of clicks → models of clicks on compressed tables, several side by side."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import encoders, metrics, tables, train


def fit_click_methods(
    table,
    method,
    *,
    seeds,
    rates,
    epochs=4,
    batch_size=1024,
    update=None,
    start=None,
    after=None,
    **network,
):
    """Trains DCNs on the vectors of a compressed table, a member for each seed and rate, in one program.

    The vectors of all features are concatenated in the order of their names. The loss is the binary
    cross-entropy and the method's penalty. All rows are on the device (``train.fit_members``).

    >>> import numpy as np
    >>> from jaxembed import data
    >>> table = data.toy.planted_clicks(0, rows=600, values=20)
    >>> method = tables.hash_table(table["sizes"], 4, rows=40)
    >>> params = fit_click_methods(table, method, seeds=[0, 1], rates=[0.01, 0.01], epochs=1, batch_size=64)
    >>> ids = {name: x[:5] for name, x in table["columns"]["ids"].items()}
    >>> print(click_logits(method, jax.tree.map(lambda x: x[0], params), ids).shape)
    (5,)

    Args:
        table: what ``data.ctr_table`` returns, with one value per feature and row. Dense columns are not
            read.
        method: ``tables.Method`` of the table's features.
        seeds: int [M], of first parameters, order of rows and noise.
        rates: [M], learning rates.
        epochs: times that the training rows are read; the last, smaller batch of each is left out.
        batch_size: rows of a step, at most the training rows.
        update: ``(loss_fn, rate) -> (init, step)``; default Adam (``train.gradient_update``). The params are
            {"table", "network"}. A batch is {"ids", "labels"}; it also holds two such, "train" and
            "validation", for ``train.bilevel_update``.
        start: optional params [M, ...] in place of first draws, deployed ones too: integers stay
            (``tables.fine_tuned``).
        after: as in ``train.fit_members``.
        network: options of ``encoders.init_dcn``; default one cross layer and one hidden layer of 64.

    Returns:
        {"table", "network"} with a leading axis [M].

    Raises:
        ValueError: for features with several values per row, or fewer training rows than a batch.
    """
    columns = _columns(table, ("train", "validation"))
    rows = len(columns["train"]["labels"])
    if not 1 <= batch_size <= rows:
        raise ValueError(f"batch_size={batch_size}: give 1 to {rows}, the number of training rows")
    shapes = jax.eval_shape(method.init, jax.random.key(0)), columns["train"]["ids"]
    widths = jax.eval_shape(functools.partial(_vectors, method), *shapes)
    options = {"layers": 1, "hidden": (64,)} | network
    draw = functools.partial(encoders.init_dcn, width=widths.shape[1], **options)

    init, rule, tuned = _walk(method, draw, update or _adam)
    params = train.fit_members(
        init=init,
        update=rule,
        batches=functools.partial(_batches, columns, batch_size),
        steps=rows // batch_size,
        epochs=epochs,
        keys=jax.vmap(jax.random.key)(jnp.asarray(seeds)),
        given=(jnp.asarray(rates), *(() if start is None else (start,))),
        after=after,
    ).params
    if start is None:
        return params
    whole = jax.vmap(lambda floats, given: tuned(given).deploy(floats))(params["table"], start)
    return params | {"table": whole}


def _walk(method, draw, update):
    """What ``train.fit_members`` needs: ``init``, ``update``, and the method of a member that has a start."""

    def tuned(given):
        return method if given is None else tables.fine_tuned(method, given["table"])

    def init(key, rate, given=None):
        below, above = jax.random.split(key)
        network = draw(above) if given is None else given["network"]
        return {"table": tuned(given).init(below), "network": network}

    def rule(rate, given=None):
        def loss_fn(params, batch, key):
            found = click_logits(tuned(given), params, batch["ids"], key)
            loss = jnp.mean(optax.sigmoid_binary_cross_entropy(found, batch["labels"]))
            return loss + tuned(given).penalty(params["table"]), {}

        return update(loss_fn, rate)

    return init, rule, tuned


def _adam(loss_fn, rate):
    return train.gradient_update(loss_fn, optax.adam(rate))


def _columns(table, parts):
    """{part: {"ids": {feature: [n]}, "labels": [n]}} on the device."""
    ids, labels = table["columns"]["ids"], table["columns"]["labels"]
    many = sorted(name for name, x in ids.items() if x.ndim > 1)
    if many:
        raise ValueError(f"table: features {many} have several values per row; give one value each")
    return {
        part: {
            "ids": {n: jnp.asarray(x[table["splits"][part]]) for n, x in ids.items()},
            "labels": jnp.asarray(labels[table["splits"][part]]),
        }
        for part in parts
    }


def _batches(columns, size, key):
    """``place -> batch`` of an epoch whose order a key draws."""
    order = jax.random.permutation(key, len(columns["train"]["labels"]))
    others = len(columns["validation"]["labels"])

    def batch(place):
        rows = jax.lax.dynamic_slice(order, (place * size,), (size,))
        other = jax.random.randint(jax.random.fold_in(key, place), (size,), 0, others)
        found = jax.tree.map(lambda x: x[rows], columns["train"])
        return found | {"train": found, "validation": jax.tree.map(lambda x: x[other], columns["validation"])}

    return batch


def click_logits(method, params, ids, key=None):
    """Logits of rows whose vectors come from a compressed table; see :func:`fit_click_methods`.

    Args:
        method: ``tables.Method``.
        params: {"table": params of the method, in training or deployed, "network"} of one member.
        ids: {feature: int [B]}.
        key: random key of the method's noise in training.

    Returns:
        [B].
    """
    return encoders.dcn(params["network"], _vectors(method, params["table"], ids, key))


def _vectors(method, params, ids, key=None):
    found = method.vectors(params, ids, key)
    return jnp.concatenate([found[name] for name in sorted(found)], axis=-1)


def supernet_update(loss_fn, rate, *, threshold_rate=0.1, decay=3e-4):
    """Update of OptEmbed's supernet: Adam with L2 inside, and plain SGD for the thresholds.

    Args:
        loss_fn: ``(params, batch, key) -> (scalar, {})``.
        rate: of Adam; may be traced.
        threshold_rate: of SGD.
        decay: of the L2 term; rows that matter little shrink below their threshold.

    Returns:
        ``(init, step)`` for :func:`fit_click_methods`.

    References:
        F. Lyu et al., OptEmbed, arXiv:2208.04482, whose rates for thresholds are far smaller, for longer
        trainings.
    """
    rest = optax.chain(optax.add_decayed_weights(decay), optax.adam(rate))
    return train.gradient_update(loss_fn, train.by_path([("threshold", optax.sgd(threshold_rate))], rest))


def masked_auc(table, network, *, most=4096):
    """Score of OptEmbed's search: ``masked table [N, D] -> AUC`` of validation rows, with a frozen network.

    Args:
        table: as in :func:`fit_click_methods`.
        network: params of the network of one member.
        most: validation rows that are scored, the first.

    Returns:
        A function for ``tables.search_masks``, traceable.
    """
    columns, sizes = _columns(table, ("validation",))["validation"], table["sizes"]
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    ids = columns["ids"]
    rows = jnp.stack([ids[n][:most].astype(jnp.int32) + starts[n] for n in sorted(ids)], axis=1)
    labels = columns["labels"][:most]
    return lambda masked: metrics.auc(labels, encoders.dcn(network, masked[rows].reshape(len(rows), -1)))
