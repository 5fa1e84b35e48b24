"""Logs and catalogues as columns → batches of both towers and of two views of items → one training step."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, tables

PATH = "table/embedding"
PIECE = 8192  # rows that are encoded at once
MASKS = ("correlated", "random", "overlapping")
TINY = 128  # features with at most so many values have rows of their own in the plan that is made here


class Step(NamedTuple):
    """What a compiled step depends on; equal ones share the program.

    Args:
        plan: of the tables.
        masks: "correlated", "random", "overlapping" or None.
        information: bytes of float64 [k, k] for correlated masks, or None.
        weight: alpha, of the loss of two views; 0 leaves it out.
        temperature: of both losses.
        drop: share of the values of bags that each view drops.
        hide: share of the features of items that the main loss hides, each by itself.
        frequency: "counts", "streaming" or None.
        rates: learning rates of the other parameters and of the rows.
    """

    plan: tables.Plan
    masks: str | None
    information: bytes | None
    weight: float
    temperature: float
    drop: float
    hide: float
    frequency: str | None
    rates: tuple


@functools.lru_cache(maxsize=64)
def update(step):
    """The row-sparse update of a step, the same object for equal steps."""
    rules = {PATH: optax.adagrad(step.rates[1])} if step.plan.shared else {}
    return tables.row_update(functools.partial(loss_fn, step), optax.adam(step.rates[0]), rules)


def loss_fn(step, params, batch, key, extra=None):
    """Main loss of pairs, plus the weighted loss of two views of other items; both are metrics too.

    Args:
        step: :class:`Step`.
        params: of ``encoders.init_towers``.
        batch: of :func:`batch_of`.
        key: random key.
        extra: state of ``losses.init_frequency``, with frequency="streaming".
    """
    hide_key, view_key = jax.random.split(key)
    encode = functools.partial(encoders.encode_tower, params, plan=step.plan)
    count, features = len(batch["item"]["id"]), len(params["item"]["default"])
    hidden = jax.random.bernoulli(hide_key, step.hide, (count, features)) if step.hide else None
    queries = encode(batch["query"], side="query")
    items = encode(batch["item"], side="item", hidden=hidden)
    ids, log_q = batch["item"]["id"], batch["item"].get("log_q")
    if step.frequency == "streaming":
        extra = losses.update_frequency(extra, ids)
        log_q = losses.log_frequency(extra, ids)
    main = losses.sampled_softmax(queries, items, ids=ids, log_q=log_q, temperature=step.temperature)
    loss, found = jnp.mean(main), {"main": jnp.mean(main)}
    if step.weight:
        found["views"] = jnp.mean(view_loss(step, encode, batch["views"], view_key, features))
        loss = loss + step.weight * found["views"]
    return (loss, found) if extra is None else (loss, (found, extra))


def view_loss(step, encode, batch, key, features):
    """The loss [S] of two views of the same items; without masks and dropout that of spreading out."""
    mask_key, *keys = jax.random.split(key, 3)
    if step.masks is None and not step.drop:
        return losses.spread_out(encode(batch, side="item"), ids=batch["id"], temperature=step.temperature)
    hidden = hidden_of(step, mask_key, features)
    views = [
        encode(dropped(batch, view, step.drop), side="item", hidden=mask)
        for view, mask in zip(keys, hidden, strict=True)
    ]
    where = losses.duplicate_mask(batch["id"])
    return losses.info_nce(*views, where=where, temperature=step.temperature)


def hidden_of(step, key, features):
    """What each of the two views hides: bool [k] or None."""
    if step.masks is None:
        return None, None
    if step.masks == "correlated":
        information = np.frombuffer(step.information).reshape(features, features)
        hidden = encoders.correlated_mask(key, information.astype(np.float32))
        return hidden, ~hidden
    first, second = jax.random.split(key)
    hidden = encoders.random_mask(first, features)
    return hidden, ~hidden if step.masks == "random" else encoders.random_mask(second, features)


def dropped(batch, key, share):
    """The batch without a share of the values of its bags."""
    if not share:
        return batch
    masks = {
        name: encoders.drop_values(jax.random.fold_in(key, i), mask, share) if mask.ndim > 1 else mask
        for i, (name, mask) in enumerate(sorted(batch["masks"].items()))
    }
    return batch | {"masks": masks}


# Columns: {"ids", "masks", "dense"} of N rows, every single value with a mask that is False for id 0


def columns_of(found, drop=()):
    """The columns of a catalogue, or the features of queries in a log.

    Args:
        found: a dict with "ids", "masks" and "dense".
        drop: names of features that are left out.
    """
    ids = {name: x for name, x in found["ids"].items() if name not in drop}
    masks = {name: found["masks"].get(name, x > 0) for name, x in ids.items()}
    return {"ids": ids, "masks": masks, "dense": found["dense"]}


def queries_of(log, rows, users, user_rows, history, item_key):
    """The columns of the queries of some rows of a log.

    Args:
        log: ``data.records.Interactions``.
        rows: int [n].
        users: columns of the catalogue of users, or None.
        user_rows: int [N], its row for each row of the log.
        history: (item ids [N, L], mask [N, L]) or None.
        item_key: name of the feature that a history reads.
    """
    found = data.take(columns_of(log), rows)
    if users is not None:
        found = joined(found, data.take(users, user_rows[rows]))
    if history is not None:
        ids, mask = (x[rows] for x in history)
        found = joined(found, {"ids": {item_key: ids}, "masks": {item_key: mask}, "dense": ids[:, :0]})
    return found


def joined(first, second):
    """Columns of the same rows, side by side."""
    both = {what: first[what] | second[what] for what in ("ids", "masks")}
    return both | {"dense": np.concatenate([first["dense"], second["dense"]], axis=1, dtype=np.float32)}


def batch_of(plan, parts, size):
    """Columns of the parts of a batch → codes into one list of the rows that all of them touch.

    Args:
        plan: of the tables.
        parts: {"query", "item" and maybe "views": columns}; further keys of a part travel along.
        size: length of the list.
    """
    local, flat, masks = {}, {}, {}
    for part, columns in parts.items():
        local[part] = tables.codes(plan, columns["ids"], only=columns["ids"])
        shared = [name for name in local[part] if plan[name].vocabulary is None]
        flat |= {f"{part}/{name}": local[part][name] for name in shared}
        masks |= {f"{part}/{name}": columns["masks"][name] for name in shared}
    batch = {}
    if flat:
        rows, flat = tables.distinct(flat, masks, plan.height, size)
        batch["rows"] = {PATH: rows}
    for part, columns in parts.items():
        found = {name: flat.get(f"{part}/{name}", x) for name, x in local[part].items()}
        batch[part] = {name: x for name, x in columns.items() if name != "ids"} | {"codes": found}
    return batch


def most_rows(plan, parts):
    """The most rows that the parts of a batch can touch, plus the slot of padding."""
    reads = sum(
        x.size * plan.reads(plan[name])
        for columns in parts.values()
        for name, x in columns["ids"].items()
        if plan[name].vocabulary is None
    )
    return min(reads, plan.height) + 1


# Plans and encoding


def default_plan(sizes):
    """The plan where none is given: exact rows of tiny features; all others share a row for every value.

    Args:
        sizes: {feature: number of ids}.
    """
    exact = {name: size if size <= TINY else None for name, size in sizes.items()}
    features = [tables.Feature(n, chunks=2, vocabulary=exact[n], size=sizes[n]) for n in sizes]
    rows = sum(size for name, size in sizes.items() if exact[name] is None)
    return tables.plan(features, rows=max(1, rows), width=8, tables=2)


@functools.lru_cache(maxsize=64)
def encoder(plan, side):
    """The compiled ``(params, columns) -> [B, D]`` of one side."""

    def encode(params, columns):
        codes = tables.codes(plan, columns["ids"], only=columns["ids"])
        return encoders.encode_tower(params, columns | {"codes": codes}, plan=plan, side=side)

    return jax.jit(encode)


def encoded(plan, params, columns, side):
    """The vectors float32 [N, D] of all rows of some columns, in pieces of one size."""
    count = len(columns["dense"])
    pieces = np.resize(np.arange(count), (-(-count // PIECE), min(count, PIECE)))
    found = [np.asarray(encoder(plan, side)(params, data.take(columns, piece))) for piece in pieces]
    return np.concatenate(found)[:count]


# Catalogues and rows of a log, checked


def catalogue_of(given, names, key):
    """The catalogue given, or one of the names alone; its key has to be that of the log."""
    if given is None:
        return data.catalogue({key: names}, data.Schema(None, categorical=(key,)), key=key)
    if given["reading"]["key"] != key:
        raise ValueError(
            f"catalogue: its key is {given['reading']['key']!r}, the log has {key!r}; name them alike"
        )
    return given


def known_only(found, kept):
    """A catalogue in which the ids of rows that do not count are 0."""
    key = found["reading"]["key"]
    return found | {"ids": found["ids"] | {key: np.where(kept, found["ids"][key], 0)}}


def split_rows(splits, count):
    """{"train", "validation": row numbers} of a log of so many events; all train where no split is given."""
    splits = {"train": np.arange(count)} if splits is None else splits
    rows = {name: np.asarray(splits.get(name, ()), np.int64) for name in ("train", "validation")}
    if not len(rows["train"]) or any(((x < 0) | (x >= count)).any() for x in rows.values()):
        sizes = {name: len(x) for name, x in rows.items()}
        raise ValueError(f"splits: {sizes} rows of {count} events; give row numbers, some to train on")
    return rows


def below(old, new):
    """Rows below one another, the narrower ones padded with 0."""
    if old.ndim == 1:
        return np.concatenate([old, new])
    width = max(old.shape[1], new.shape[1])
    return np.concatenate([np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in (old, new)])
