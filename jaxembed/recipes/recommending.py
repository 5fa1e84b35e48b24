"""Logs of who took which item → two towers that recommend items, new ones too."""

import dataclasses
import functools

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxembed import data, encoders, files, losses, metrics, search, train
from jaxembed.checks import check_whole
from jaxembed.recipes import _tower_steps as steps_of
from jaxembed.recipes.click_models import read_params, write_params
from jaxembed.recipes.tower_models import TowerModel

SAMPLING = ("uniform", "log")
FREQUENCY = ("counts", "streaming", None)


def train_towers(
    interactions,
    items=None,
    users=None,
    *,
    splits=None,
    plan=None,
    masks="correlated",
    information=None,
    weight=0.3,
    drop=0.1,
    hide=0.0,
    sampling="uniform",
    frequency="counts",
    history=0,
    hidden=(64,),
    width=32,
    temperature=0.1,
    epochs=10,
    batch_size=512,
    rate=1e-3,
    row_rate=0.1,
    k=50,
    patience=None,
    seed=0,
    mesh=None,
    workdir=None,
    progress=True,
):
    """Trains two towers on a log, with a second loss that makes two views of each item alike.

    The main loss asks each query of the log to pick its item out of the batch, corrected for popularity. The
    second takes as many items drawn uniformly from the catalogue, and hides features of each in two ways:
    the view that shows one half has to find the view that shows the other. So items that the log hardly
    holds are trained too. The steps read and write only the rows of tables that a batch touches.

    The id of an item or user that no training event holds is hidden: its features alone speak for it.

    >>> log = {"user": ["ann", "bob", "ann", "eve"] * 20, "item": ["tea", "jam", "oat", "tea"] * 20}
    >>> found = data.interactions(log, data.Schema(None, categorical=("user", "item")))
    >>> model = train_towers(found, batch_size=16, epochs=20, rate=0.01, mesh=train.make_mesh(1))
    >>> print(model.recommend(["bob"], 1)[1], model.recommend(["bob"], 1, seen=True)[1])
    [['tea']] [['jam']]

    Args:
        interactions: ``data.interactions``. Its features describe the queries, beside those of users.
        items: ``data.catalogue`` of the items; None knows them by their ids alone.
        users: ``data.catalogue`` of the users, with the column of users as key; None likewise.
        splits: {"train", "validation": row numbers of the log}. None trains on all rows.
        plan: :class:`~jaxembed.tables.Plan` of the features of both sides. None gives features of at most
            128 values rows of their own; all others share a table with a row of 16 numbers for every value.
        masks: "correlated", "random" or "overlapping" (two draws of random halves); None hides nothing, which
            with ``drop=0`` spreads items out. With two features "correlated" is "random", with one None.
        information: [k, k] for "correlated"; None is ``data.mutual_information(kind="adjusted")`` of the
            catalogue.
        weight: of the second loss; 0 leaves it out.
        drop: share of the values of multi-valued features that each view drops.
        hide: share of the features of items that the main loss hides, each by itself.
        sampling: "uniform" draws items of the second loss from the catalogue; "log" draws them as the log has
            them, with which the paper compares.
        frequency: of the correction: "counts" of the training rows, "streaming" estimates, or None, as the
            paper has it. With a correction popular items come first, as a log has them; without one those
            that suit a query more than others, rare ones too.
        history: number of earlier items of the user that a query holds, by the rows of item ids.
        hidden: widths of the hidden layers of both towers.
        width: of their vectors.
        temperature: that divides the cosines of both losses.
        epochs: times that the training rows are read.
        batch_size: pairs of a step, and items of its second loss; at most the training rows and the items.
        rate: learning rate of Adam, for all but the shared table.
        row_rate: learning rate of Adagrad for the rows of the shared table.
        k: recall at k on the validation rows is measured after every epoch; the best epoch is kept.
        patience: stop after so many epochs without a better one; None trains all.
        seed: int of parameters, masks, and the order of the rows.
        mesh: from ``train.make_mesh``; default all devices along "data". Axis "model" splits the table.
        workdir: folder from which a stopped run resumes, or None.
        progress: show a bar when a person watches.

    Returns:
        :class:`TowerModel`.

    Raises:
        ValueError: for settings outside their limits, an item or user that its catalogue lacks, features of
            one name on both sides, or splits that do not fit.

    References:
        T. Yao et al., arXiv:2007.12865; X. Yi et al., doi:10.1145/3298689.3346996 (the correction);
        M. Volkovs et al., DropoutNet, NIPS 2017 (``hide``). The paper tunes weight and temperature.
    """
    _check(dict(epochs=epochs, batch_size=batch_size, width=width, k=k), dict(drop=drop, hide=hide), weight)
    _check_choices(masks=masks, sampling=sampling, frequency=frequency)
    model = TowerModel.untrained(interactions, items, users, splits, history=history)
    rates = {"temperature": temperature, "rates": (rate, row_rate)}
    step = _step(model, plan, masks, information, weight, drop, hide=hide, frequency=frequency, **rates)
    batches, per_epoch, mesh = _batches(model, step, sampling, batch_size, seed, mesh)
    slots = len(model.items["names"]) if frequency == "streaming" else 0
    meta = {"plan": dataclasses.asdict(step.plan), "seed": seed, "sampling": sampling, "history": history}
    fitted = _fitted(
        (model, step, per_epoch),
        dict(k=k, patience=patience, workdir=workdir),
        init=_init(step.plan, *model.sides(), tuple(hidden), width, slots),
        batches=batches,
        steps=epochs * per_epoch,
        key=seed,
        mesh=mesh,
        meta=meta,
        progress=progress,
    )
    return dataclasses.replace(model, plan=step.plan, **fitted)


def _fitted(walk, watching, **options):
    """{"params": those after the best epoch, or the last one, "recalls": those of all epochs}."""
    (model, step, per_epoch), k, workdir = walk, watching["k"], watching["workdir"]
    evaluate, kept = _watch(model, step.plan, k, per_epoch, workdir)
    if evaluate:
        options |= {"best": f"recall@{k}", "patience": watching["patience"]}
    options["meta"] |= {n: x for n, x in step._asdict().items() if n not in ("plan", "information", "rates")}
    state = train.fit(
        update=steps_of.update(step),
        rules=[(r"^table/", P("model", None))],
        evaluate=evaluate,
        evaluate_every=per_epoch,
        save_every=per_epoch,
        workdir=workdir,
        **options,
    )
    params = kept["params"] if kept["recall"] else jax.tree.map(np.asarray, state.params)
    return {"params": params, "recalls": list(kept["recall"].values())}


@functools.lru_cache(maxsize=64)
def _init(plan, sides, dense, hidden, width, slots):
    """``key -> params``, with ``slots`` ``(params, frequencies)``; the same object for equal arguments."""

    def init(key):
        params = encoders.init_towers(key, plan, dict(sides), dense=dict(dense), hidden=hidden, width=width)
        return (params, losses.init_frequency(slots)) if slots else params

    return init


def _check_choices(**values):
    known = {"masks": (*steps_of.MASKS, None), "sampling": SAMPLING, "frequency": FREQUENCY}
    for name, value in values.items():
        if value not in known[name]:
            raise ValueError(f"{name}={value!r}; choose one of {known[name]}")


def _check(counts, shares, weight):
    check_whole(1, **counts)
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value}; give a share within 0..1")
    if not weight >= 0:
        raise ValueError(f"weight={weight}; give a number of at least 0")
    if jax.process_count() > 1:
        raise ValueError(f"{jax.process_count()} processes found; train_towers runs in one, with all devices")


def _step(model, plan, masks, information, weight, drop, **settings):
    """The step of a model: what has no meaning for its items is left out, so that equal steps are one."""
    masks = _masks(masks, weight, len(model.items["ids"]))
    return steps_of.Step(
        plan=plan or steps_of.default_plan(model.sizes()),
        masks=masks,
        information=_information(masks, information, model.items),
        weight=float(weight),
        drop=drop if weight and model.items["masks"] else 0.0,
        **settings,
    )


def _masks(masks, weight, features):
    """The masks that so many features allow."""
    if not weight or features < 2:
        return None
    return "random" if masks == "correlated" and features < 3 else masks


def _information(masks, given, items):
    """Bytes of the mutual information of the features of items, or None."""
    if masks != "correlated":
        return None
    count = len(items["ids"])
    if given is None:
        given = data.mutual_information(items["ids"], items["masks"], kind="adjusted")
    given = np.ascontiguousarray(given, np.float64)
    if given.shape != (count, count):
        raise ValueError(f"information: shape {given.shape}; the items have {count} features, give [k, k]")
    return given.tobytes()


def _batches(model, step, sampling, batch_size, seed, mesh):
    """(batches, steps of an epoch, mesh): pairs of the log beside items of the catalogue."""
    rows, count = model.rows["train"], len(model.items["names"])
    given, mesh = mesh is not None, train.make_mesh() if mesh is None else mesh
    size = min(batch_size, len(rows), count if step.weight and sampling == "uniform" else batch_size)
    if size < mesh.shape["data"]:
        if given:
            raise ValueError(
                f"mesh: {mesh.shape['data']} devices for batches of {size}; give make_mesh(1) or more rows"
            )
        mesh = train.make_mesh(1)
    size -= size % mesh.shape["data"]
    log_q = np.log(np.maximum(model.counts, 1) / len(rows)).astype(np.float32)
    weights = model.counts if sampling == "log" else None
    make = functools.partial(_parts, model, step, log_q, weights, size, seed)
    most = steps_of.most_rows(step.plan, make(0, rows[:size]))

    def batch(t, rows):
        return steps_of.batch_of(step.plan, make(t, rows), most)

    order = data.batches(rows, size, make=lambda chosen: chosen, seed=seed)
    return order.map_with_index(batch), len(rows) // size, mesh


def _parts(model, step, log_q, weights, size, seed, t, rows):
    """The columns of the parts of the batch of step t."""
    chosen = model.events["items"][rows]
    item = data.take(model.item_columns, chosen) | {"id": chosen}
    item |= {"log_q": log_q[chosen]} if step.frequency == "counts" else {}
    parts = {"query": model.queries(rows), "item": item}
    if step.weight:
        drawn = data.uniform_rows(len(model.items["names"]), size, seed=(seed, int(t)), weights=weights)
        parts["views"] = data.take(model.item_columns, drawn) | {"id": drawn.astype(np.int32)}
    return parts


def _watch(model, plan, k, per_epoch, workdir):
    """What measures the validation rows after an epoch, and what it keeps: {"recall", "params"}.

    With a workdir the best parameters are there too, so that a resumed run knows those of earlier epochs.
    """
    rows, kept = model.rows["validation"], {"recall": {}}
    if not len(rows):
        return None, kept
    folder = None if workdir is None else files.local_path(workdir, "workdir") / "best"
    if folder is not None and (folder / "best.json").exists():
        found = files.read_json(folder / "best.json", "remove the workdir")
        kept["recall"] = {int(epoch): value for epoch, value in found["recall"].items()}
        kept["params"] = read_params(folder / found["params"])
    wanted, queries = model.events["items"][rows], model.queries(rows)
    most, ones = min(k, len(model.items["names"])), np.ones((len(rows), 1), np.float32)

    def evaluate(state):
        known = steps_of.encoded(plan, state.params, model.item_columns, "item")
        asked = steps_of.encoded(plan, state.params, queries, "query")
        _, ids = search.top_k(asked, jax.numpy.asarray(known), most)
        value = float(metrics.recall(metrics.gains(ids, wanted[:, None], ones), ones, k=most).mean())
        epoch, before = int(state.step) // per_epoch, kept["recall"]
        kept["recall"] = {e: r for e, r in before.items() if e < epoch} | {epoch: value}
        if value > max((r for e, r in before.items() if e < epoch), default=-1.0):
            kept["params"] = jax.tree.map(np.asarray, state.params)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                write_params(folder, kept["params"], "best.json", {"recall": kept["recall"]})
        return {f"recall@{k}": value}

    return evaluate, kept
