"""Tables of clicks → a model that predicts clicks."""

import dataclasses
import functools

import jax
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from jaxembed import data, files, metrics, tables, train
from jaxembed.checks import check_whole
from jaxembed.recipes import _click_networks as networks
from jaxembed.recipes.click_models import ClickModel, read_params, scored, write_params

TINY = 128  # features with at most so many values have rows of their own in the plan that is made here
GOING = "last epoch with a member in training"  # the number that stops growing when the run may end
READ = ("vocabularies", "scaling", "reading")  # parts of a table that say how further rows are read
PARTS = ("columns", "splits", "sizes", *READ)


def fit_clicks(
    table,
    plan=None,
    *,
    model="dcn",
    network=None,
    epochs=10,
    batch_size=512,
    rate=1e-3,
    decay=0.0,
    row_rate=None,
    patience=None,
    members=1,
    initialiser=None,
    seed=0,
    mesh=None,
    workdir=None,
    progress=True,
):
    """Trains a model of clicks: one table of embeddings for all features, and a network that reads them.

    The loss is the binary cross-entropy. After every epoch the AUC of the validation rows is measured. The
    parameters after the best epoch are kept, or the last ones where validation rows lack a class.

    >>> rows = {"city": ["rome", "oslo", "bonn", "rome"] * 50, "price": [3.0, 1.0, 2.0, 4.0] * 50}
    >>> schema = data.Schema("bought", categorical=("city",), dense=("price",))
    >>> table = data.ctr_table(rows | {"bought": [1, 0, 0, 1] * 50}, schema, scaling="standardise")
    >>> model = fit_clicks(table, epochs=20, batch_size=32, rate=0.01, mesh=train.make_mesh(1))
    >>> print(model.predict({"city": ["rome", "oslo"], "price": [3.5, 1.0]}).round())
    [1. 0.]

    Args:
        table: what ``data.ctr_table`` returns.
        plan: :class:`~jaxembed.tables.Plan` whose features are columns of the table. None lets features of at
            most 128 values have rows of their own. All others share a table of half the bytes that one row of
            16 numbers for every value would take.
        model: "dcn", "deepfm" or "dlrm", or ``(init(key) -> params, apply(params, {feature: [B, D]}, dense
            [B, n]) -> logits [B])``.
        network: options of ``encoders.init_dcn``, ``init_deepfm`` or ``init_dlrm``; the defaults here are one
            hidden layer of 64 and one cross layer.
        epochs: times that the training rows are read.
        batch_size: rows of a step, at most the training rows; cut to what the devices divide.
        rate: learning rate of Adam.
        decay: weight of the L2 penalty on the parameters that Adam trains.
        row_rate: learning rate of Adagrad for the rows of the shared table that a batch touches. Only these
            are then read and written (``tables.row_update``), as suits big tables. None trains the whole
            table by Adam.
        patience: epochs without a better validation AUC after which a member's training ends; what it gains
            later does not count, and the run ends with the last member. None trains all epochs.
        members: number of models trained side by side on the same batches, each with hashes and first
            parameters of its own; 1 with ``row_rate``.
        initialiser: ``(key, shape) -> array`` of the embeddings; the default is uniform within 0.05, for
            merge="product" wider, so that a product has the variance of a plain row.
        seed: int of parameters and of the order of the rows.
        mesh: from ``train.make_mesh``; default all devices along "data". Axis "model" splits the table.
        workdir: folder from which a stopped run resumes, or None.
        progress: show a bar when a person watches.

    Returns:
        :class:`ClickModel`.

    Raises:
        ValueError: for a table without its parts, a plan that does not fit it, or training rows of one class.
            Also for settings outside their limits, or several processes.

    References:
        B. Coleman et al., Unified Embedding, arXiv:2305.12102; R. Wang et al., DCN V2, arXiv:2008.13535.
    """
    _check_table(table)
    waiting = {} if patience is None else {"patience": patience}
    counts = {"epochs": epochs, "batch_size": batch_size, "members": members} | waiting
    _check_settings(counts, rate, row_rate, decay)
    plan = default_plan(table) if plan is None else plan
    networks.check_plan(plan, table)
    network = networks.options(model, network)
    shape, rows = networks.shape_of(plan, table["columns"]["dense"].shape[1]), table["splits"]["train"]
    walk = networks.walk(plan, members, networks.network(model, network, *shape), initialiser, row_rate)
    mesh, size, per_epoch = _sized(mesh, batch_size, len(rows))
    evaluate, kept, waits = _watch(walk, table, per_epoch, workdir, patience)
    settings = {"batch_size": size, "rate": rate, "row_rate": row_rate, "decay": decay, "members": members}
    settings |= {"model": model if isinstance(model, str) else "given", "seed": seed} | waiting
    state = train.fit(
        init=walk.init,
        update=walk.update(optax.chain(optax.add_decayed_weights(decay), optax.adam(rate))),
        batches=data.batches(rows, size, make=walk.batch_maker(table["columns"], size), seed=seed),
        steps=epochs * per_epoch,
        key=seed,
        mesh=mesh,
        rules=[(r"^table/", P("model", None) if row_rate else P(None, "model", None))],
        workdir=workdir,
        meta=_described(plan, table, settings | {"network": networks.named(network)}),
        evaluate=evaluate,
        evaluate_every=per_epoch,
        save_every=per_epoch,
        progress=progress,
        **waits,
    )
    found = _best(kept, walk.stacked(state.params), epochs, members, patience) | {n: table[n] for n in READ}
    return ClickModel(plan, model=model, network=network, **found)


def _described(plan, table, settings):
    """What a checkpoint is compared with: the plan, the sizes of the vocabularies and the settings."""
    return {"plan": dataclasses.asdict(plan), "sizes": table["sizes"]} | settings


def _best(kept, last, epochs, members, patience):
    """The parameters after the best epochs, or the last ones where no epoch was measured."""
    history = list(kept["history"].values())
    if not history:
        return {"params": jax.tree.map(np.asarray, last), "epochs": [epochs] * members, "history": []}
    best = (np.argmax(within_patience(history, patience)[0], axis=0) + 1).tolist()
    return {"params": kept["params"], "epochs": best, "history": history}


def default_plan(table):
    """The plan of :func:`fit_clicks` where none is given: one hashed table, and exact rows of tiny features.

    Args:
        table: what ``data.ctr_table`` returns.

    Returns:
        :class:`~jaxembed.tables.Plan` of vectors of width 16.
    """
    sizes, known = table["sizes"], table["vocabularies"]
    exact = {name: size if size <= TINY and name in known else None for name, size in sizes.items()}
    features = [tables.Feature(n, chunks=2, vocabulary=exact[n], size=sizes[n]) for n in sizes]
    rows = sum(size for name, size in sizes.items() if exact[name] is None)
    return tables.plan(features, rows=max(1, -(-rows // 2)), width=8, tables=2)


def _check_table(table):
    missing = [name for name in PARTS if not isinstance(table, dict) or name not in table]
    if missing:
        raise ValueError(f"table: has no {missing}; give what data.ctr_table returns")
    labels = table["columns"]["labels"][table["splits"]["train"]]
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"table: all {len(labels)} training labels are {labels[0]:g}; give rows of both classes"
        )
    if jax.process_count() > 1:
        raise ValueError(f"{jax.process_count()} processes found; fit_clicks runs in one, with all devices")


def _check_settings(counts, rate, row_rate, decay):
    check_whole(1, **counts)
    for name, value in (("rate", rate), ("row_rate", row_rate)):
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}; give a number above 0")
    if not decay >= 0:
        raise ValueError(f"decay={decay}; give a number of at least 0")
    if row_rate is not None and counts["members"] > 1:
        raise ValueError(f"members={counts['members']}: row_rate trains one model; leave one of them out")


def _sized(mesh, batch_size, rows):
    """The mesh, a batch size that its devices divide and steps of an epoch; few rows go to one device."""
    given, mesh = mesh is not None, train.make_mesh() if mesh is None else mesh
    devices, size = mesh.shape["data"], min(batch_size, rows)
    if size >= devices:
        size -= size % devices
        return mesh, size, rows // size
    if given:
        raise ValueError(
            f"mesh: {devices} devices for batches of {size} rows; give make_mesh(1) or more rows"
        )
    return train.make_mesh(1), size, rows // size


def within_patience(history, patience):
    """Early stopping of members that are trained side by side: what each would have seen alone.

    >>> print(*within_patience([[0.5], [0.4], [0.9]], 1))
    [[ 0.5]
     [ 0.4]
     [-inf]] [False]

    Args:
        history: [epochs, S], validation AUCs up to now.
        patience: epochs without a better one that end a member's training, or None.

    Returns:
        ``history`` as float64 with -inf where a member had ended, and bool [S]: who goes on.
    """
    seen = np.array(history, np.float64)
    going = np.ones(seen.shape[1], bool)
    if patience is None:
        return seen, going
    for s, column in enumerate(seen.T):
        best = 0
        for epoch, auc in enumerate(column):
            best = epoch if auc > column[best] else best
            if epoch - best >= patience:
                column[epoch + 1 :], going[s] = -np.inf, False
                break
    return seen, going


def _watch(walk, table, steps, workdir, patience):
    """What measures the validation rows after an epoch, and what it keeps: {"history", "params"}.

    With a workdir the best parameters are there too, so that a resumed run knows those of earlier epochs.
    """
    columns, rows = table["columns"], table["splits"]["validation"]
    labels, kept = columns["labels"][rows], {"history": {}}
    if len(np.unique(labels)) < 2:
        return None, kept, {}
    folder = None if workdir is None else files.local_path(workdir, "workdir") / "best"
    if folder is not None and (folder / "best.json").exists():
        found = files.read_json(folder / "best.json", "remove the workdir")
        kept["history"] = {int(epoch): aucs for epoch, aucs in found["history"].items()}
        kept["params"] = read_params(folder / found["params"])
    score = jax.jit(lambda params, batch: walk.logits(walk.stacked(params), batch))

    def evaluate(state):
        found = scored(functools.partial(score, state.params), columns, rows)
        aucs, epoch = [float(metrics.auc(labels, s)) for s in found], int(state.step) // steps
        kept["history"] = {e: a for e, a in kept["history"].items() if e < epoch} | {epoch: aucs}
        seen, going = within_patience([*kept["history"].values()], patience)
        kept["params"] = better(kept.get("params"), walk.stacked(state.params), seen)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            rest = {"history": kept["history"]}
            write_params(folder, kept["params"], "best.json", rest)
        more = {} if patience is None else {GOING: float(epoch * going.any())}
        return {"validation AUC": float(np.mean(aucs))} | more

    return evaluate, kept, {} if patience is None else {"best": GOING, "patience": 1}


def _chosen(kept, last, epochs):
    """Parameters, epochs and history of the best epochs that were kept, else those after the last one."""
    history = list(kept["history"].values())
    if history:
        return kept["params"], (np.argmax(history, axis=0) + 1).tolist(), history
    return jax.tree.map(np.asarray, last()), epochs, history


def better(kept, params, history):
    """Of each member the parameters after its best epoch so far.

    Args:
        kept: parameters kept so far, with a leading axis [S], or None.
        params: parameters after the last epoch.
        history: [epochs, S], validation AUCs up to now.

    Returns:
        A tree like ``params`` of NumPy arrays.
    """
    params = jax.tree.map(np.asarray, params)
    if kept is None:
        return params
    last = np.argmax(history, axis=0) == len(history) - 1
    return jax.tree.map(
        lambda old, new: np.where(last.reshape(-1, *[1] * (new.ndim - 1)), new, old), kept, params
    )
