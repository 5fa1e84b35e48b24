"""Plan and network of a click model → the functions that draw, score and train it."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import optax

from jaxembed import data, encoders, tables, train

NETWORKS = {
    "dcn": {"layers": 1, "hidden": (64,)},
    "deepfm": {"hidden": (64,)},
    "dlrm": {"bottom": (64,), "top": (64,)},
}  # the options of each network where none are given


def options(model, given):
    """The options of a network, with the defaults for those that are not given."""
    if not isinstance(model, str):
        if not (isinstance(model, tuple | list) and len(model) == 2 and all(map(callable, model))):
            raise ValueError(f"model={model!r}; choose one of {sorted(NETWORKS)}, or give (init, apply)")
        if given:
            raise ValueError("network: has no meaning with a model of your own; put the options there")
        return {}
    if model not in NETWORKS:
        raise ValueError(f"model={model!r}; choose one of {sorted(NETWORKS)}, or give (init, apply)")
    known = list(inspect.signature(getattr(encoders, f"init_{model}")).parameters)[1:]
    known = [name for name in known if name not in ("width", "fields", "dense")]  # the table says those
    unknown = sorted(set(given or {}) - set(known))
    if unknown:
        raise ValueError(f"network: {unknown} are not options of model={model!r}; choose among {known}")
    return NETWORKS[model] | (given or {})


def named(network):
    """The options of a network as JSON values: those that draw its first parameters are left out."""
    return {name: x for name, x in network.items() if not callable(x)}


def shape_of(plan, dense):
    """(widths of the vectors of all features, number of dense columns): what a network reads."""
    shared = {f.name: f.chunks * plan.span for f in plan.features}
    merged = {f.name: plan.span if f.vocabulary is None else 1 for f in plan.features}
    reads = shared if plan.merge == "concat" else merged
    return [reads[f.name] * plan.width for f in plan.features], dense


def network(model, options, widths, dense):
    """The network over the tables: (init(key) -> params, apply(params, {feature: [B, D]}, dense) -> [B]).

    Args:
        model: name, or the pair itself.
        options: dict of the named network.
        widths: of the vectors of all features.
        dense: number of dense columns.
    """
    if not isinstance(model, str):
        return tuple(model)
    if model == "dcn":

        def joined(params, found, numbers):
            return encoders.dcn(params, jnp.concatenate([*found.values()], axis=1), numbers)

        return functools.partial(encoders.init_dcn, width=sum(widths) + dense, **options), joined
    if len(set(widths)) > 1:
        raise ValueError(
            f"plan: model={model!r} needs vectors of one width, found {widths}; or take model='dcn'"
        )
    draw, score = getattr(encoders, f"init_{model}"), getattr(encoders, model)

    def stacked(params, found, numbers):
        return score(params, jnp.stack([*found.values()], axis=1), numbers if dense else None)

    return functools.partial(draw, fields=len(widths), width=widths[0], dense=dense, **options), stacked


def check_plan(plan, table):
    """Refuses a plan whose features are not those of a table, or take fewer ids than it has."""
    for f in plan.features:
        if f.name not in table["columns"]["ids"]:
            known = sorted(table["columns"]["ids"])
            raise ValueError(f"plan: feature {f.name!r} is not a column of the table, which has {known}")
        if f.combine == "none" and table["columns"]["ids"][f.name].ndim > 1:
            raise ValueError(f"plan: feature {f.name!r} has combine='none'; choose mean, sum or max")
        most = f.vocabulary if f.vocabulary is not None else f.size if plan.scheme != "hash" else None
        if most is None:
            continue
        if f.name not in table["vocabularies"]:
            raise ValueError(f"plan: feature {f.name!r} has hashed ids; give it scheme='hash', no vocabulary")
        if table["sizes"][f.name] > most:
            raise ValueError(
                f"plan: feature {f.name!r} takes {most} ids, the table has {table['sizes'][f.name]}; "
                "plan as many"
            )


def members(plan, count):
    """The plans of several members: each has hashes of its own."""
    return [dataclasses.replace(plan, seed=plan.seed + m) for m in range(count)]


def logits(plans, apply):
    """Makes ``(params with a leading axis [S], {"ids", "masks", "dense"}) -> [S, B]``."""

    def score(params, batch):
        found = [tables.codes(plan, batch["ids"]) for plan in plans]
        rows = jax.tree.map(lambda *parts: jnp.stack(parts), *found)
        one = functools.partial(_logits_of_one, plans[0], apply, masks=batch["masks"], dense=batch["dense"])
        return jax.vmap(one)(params, rows)

    return score


def _logits_of_one(plan, apply, params, rows, *, masks, dense):
    masks = {name: mask for name, mask in masks.items() if name in rows}
    return apply(params["network"], tables.lookup(plan, params, rows, masks=masks), dense)


@dataclasses.dataclass(frozen=True)
class Walk:
    """What ``train.fit`` needs of a click model.

    Args:
        init: ``key -> params``.
        logits: ``(params with a leading axis [S], batch) -> [S, B]``.
        update: ``optax rule -> (init, step)``.
        batch_maker: ``(columns, batch size) -> (row numbers -> batch)``.
        stacked: ``params -> params with a leading axis [S]``.
    """

    init: object
    logits: object
    update: object
    batch_maker: object
    stacked: object


def walk(plan, count, network, initialiser, row_rate):
    """Puts the functions of a click model together; ``row_rate`` trains the shared table row by row."""
    draw_network, apply = network
    plans = members(plan, count)
    score = logits(plans, apply)
    draw = functools.partial(_draw, plan, draw_network, initialiser or _uniform(plan))
    if row_rate is not None:
        return _row_walk(plan, apply, draw, score, row_rate)

    def loss_fn(params, batch, key):
        loss = optax.sigmoid_binary_cross_entropy(score(params, batch), batch["labels"][None])
        return jnp.mean(jnp.sum(loss, axis=0)), {}  # a sum over members, so that each has its own gradient

    return Walk(
        init=lambda key: jax.vmap(draw)(jax.random.split(key, count)),
        logits=score,
        update=functools.partial(train.gradient_update, loss_fn),
        batch_maker=lambda columns, size: functools.partial(data.take, columns),
        stacked=lambda params: params,
    )


def _draw(plan, draw_network, initialiser, key):
    below, above = jax.random.split(key)
    made = tables.init_tables(below, plan, initialiser=initialiser)
    return made | {"network": draw_network(above)}


def _uniform(plan):
    bound = 0.05 if plan.merge != "product" else (3 * 0.05**2) ** 0.25
    initialiser = jax.nn.initializers.uniform(2 * bound)
    return lambda key, shape: initialiser(key, shape) - bound


def _row_walk(plan, apply, draw, score, row_rate):
    paths = ["table/embedding", *(["table/importance"] if plan.merge == "weighted" else [])]
    rules = dict.fromkeys(paths if plan.shared else [], optax.adagrad(row_rate))

    def loss_fn(params, batch, key):
        one = _logits_of_one(plan, apply, params, batch["codes"], masks=batch["masks"], dense=batch["dense"])
        return jnp.mean(optax.sigmoid_binary_cross_entropy(one, batch["labels"])), {}

    def batch_maker(columns, size):
        counts = {f.name: columns["ids"][f.name][0].size * plan.reads(f) for f in plan.shared}
        most = min(max(plan.height, plan.importance_rows or 0), size * sum(counts.values())) + 1

        def make(rows):
            batch = data.take(columns, rows)
            found = tables.touched(plan, batch.pop("ids"), batch["masks"], most)
            return batch | found

        return make

    return Walk(
        init=draw,
        logits=score,
        update=lambda tx: tables.row_update(loss_fn, tx, rules),
        batch_maker=batch_maker,
        stacked=lambda params: jax.tree.map(lambda leaf: leaf[None], params),
    )
