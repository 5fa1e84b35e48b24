"""Tables of clicks → a model that predicts clicks, kept in a folder and asked about new rows."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from jaxembed import data, files, metrics, tables, train
from jaxembed.recipes import _click_networks as networks

FORMAT = 1
PIECE = 8192  # rows that are scored at once
TINY = 128  # features with at most so many values have rows of their own in the plan that is made here
REMEDY = "save the model again"
PARTS = ("columns", "splits", "sizes", "vocabularies", "scaling", "reading")


@dataclasses.dataclass(frozen=True)
class ClickModel:
    """Click model: tables and a network that together give each row its probability of a click.

    Made by :func:`fit_clicks` and :func:`load_clicks`.

    Args:
        plan: :class:`~jaxembed.tables.Plan` of the first member; member m has the plan's seed + m.
        params: {"table", "exact", "network"} of all members; every leaf has a leading axis [S].
        model: name of the network, or ``(init, apply)``.
        network: options of a named network.
        vocabularies, scaling, reading: those of the training table, by which new rows are read.
        epochs: of each member, the number of epochs after which its parameters were taken.
        history: [epochs, S], AUC on the validation rows after every epoch; empty without such rows.
    """

    plan: tables.Plan
    params: dict
    model: object
    network: dict
    vocabularies: dict
    scaling: dict
    reading: dict
    epochs: list
    history: list

    def predict(self, source, *, schema=None, limit=None):
        """Predicts the probability of a click: the mean over the members.

        A value that the training rows did not have counts as one that they had too seldom.

        Args:
            source: a file or a table in memory, as for ``data.ctr_table``; labels are not needed.
            schema: ``data.Schema`` in place of the training table's, for a file of another form.
            limit: optional number of rows after which reading stops.

        Returns:
            float32 [N], in the order of the rows.

        Raises:
            FileNotFoundError: without the file.
            ValueError: for a missing column and whatever ``data.click_rows`` refuses.
        """
        reading = self.reading | ({} if schema is None else {"schema": schema})
        columns = data.click_rows(
            source, vocabularies=self.vocabularies, scaling=self.scaling, limit=limit, **reading
        )
        return np.asarray(jax.nn.sigmoid(self.scores(columns)).mean(axis=0))

    def scores(self, columns, rows=None):
        """Scores rows that are numbers already: the logits of every member.

        Args:
            columns: {"ids", "masks", "dense"}, of ``data.ctr_table(...)["columns"]`` or ``data.click_rows``.
            rows: optional row numbers int [n]; default all.

        Returns:
            float32 [S, n].
        """
        rows = np.arange(len(columns["dense"])) if rows is None else np.asarray(rows)
        return _scored(functools.partial(self._score, self.params), columns, rows)

    @functools.cached_property
    def _score(self):
        shape = networks.shape_of(self.plan, len(self.reading["schema"].dense))
        _, apply = networks.network(self.model, self.network, *shape)
        return jax.jit(networks.logits(networks.members(self.plan, len(self.epochs)), apply))

    def save(self, folder):
        """Writes all that predicting needs: ``model.json`` and the file of parameters that it names.

        Args:
            folder: path, made if it is missing; a model in it is replaced in one step.

        Raises:
            ValueError: for a network that was given as functions, which a file cannot hold.
        """
        if not isinstance(self.model, str):
            raise ValueError(
                f"model: is a pair of functions; save() takes one of {sorted(networks.NETWORKS)}"
            )
        folder = files.local_path(folder, "folder")
        folder.mkdir(parents=True, exist_ok=True)
        name = _write_params(folder, self.params)
        reading, schema = self.reading, dataclasses.asdict(self.reading["schema"])
        names = ("model", "network", "vocabularies", "scaling", "epochs", "history")
        saved = {"format": FORMAT, "params": name, "plan": dataclasses.asdict(self.plan)}
        saved |= {n: getattr(self, n) for n in names} | {"schema": schema}
        saved |= {"hashed": reading["hashed"], "longest": reading["longest"]}
        saved["transform"] = sorted(reading["transform"])
        files.write_json(folder / "model.json", saved)
        for old in folder.glob("params-*.npz"):
            if old.name != name:
                old.unlink()


def load_clicks(folder, *, transform=None):
    """Opens a click model that was saved.

    >>> import tempfile
    >>> table = data.ctr_table({"city": ["rome", "oslo"] * 20, "y": [1, 0] * 20}, data.Schema("y", ("city",)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit_clicks(table, epochs=1, mesh=train.make_mesh(1)).save(folder)
    ...     print(load_clicks(folder).predict({"city": ["rome", "oslo", "bonn"]}).shape)
    (3,)

    Args:
        folder: path given to :meth:`ClickModel.save`.
        transform: {dense column: function}, as the training table was read with, if it was: functions are not
            saved.

    Returns:
        :class:`ClickModel`.

    Raises:
        FileNotFoundError: without a saved model.
        ValueError: for damaged files, or another ``transform`` than the columns that had one.
    """
    folder = files.local_path(folder, "folder")
    path = folder / "model.json"
    saved = files.read_json(path, REMEDY)
    if files.field(saved, "format", int, str(path), REMEDY) != FORMAT:
        raise ValueError(f"{path}: format {saved['format']}, expected {FORMAT}; {REMEDY}")
    wanted = files.field(saved, "transform", list, str(path), REMEDY)
    transform = transform or {}
    if sorted(transform) != wanted:
        raise ValueError(
            f"transform: has {sorted(transform)}; give a function for each of {wanted}, as in training"
        )
    kinds = {"plan": dict, "network": dict, "vocabularies": dict, "scaling": dict, "schema": dict}
    kinds |= {"epochs": list, "history": list, "hashed": list, "model": str, "params": str}
    kept = {name: files.field(saved, name, kind, str(path), REMEDY) for name, kind in kinds.items()}
    try:
        plan = tables.plan(**kept.pop("plan"))
        schema = {n: tuple(x) if isinstance(x, list) else x for n, x in kept.pop("schema").items()}
        schema = data.Schema(**schema)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}; {REMEDY}") from None
    reading = {"schema": schema, "hashed": tuple(kept.pop("hashed")), "longest": saved.get("longest")}
    params = _read_params(folder / files.inside(kept.pop("params"), str(path)))
    return ClickModel(plan, params, reading=reading | {"transform": transform}, **kept)


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
    members=1,
    initialiser=None,
    seed=0,
    mesh=None,
    workdir=None,
    progress=True,
):
    """Trains a model of clicks: one table of embeddings for all features, and a network that reads them.

    The loss is the binary cross-entropy. After every epoch the AUC of the validation rows is measured. The
    parameters after the best epoch are kept. Without validation rows of both classes the last ones are.

    >>> rows = {"city": ["rome", "oslo", "bonn", "rome"] * 50, "price": [3.0, 1.0, 2.0, 4.0] * 50}
    >>> schema = data.Schema("bought", categorical=("city",), dense=("price",))
    >>> table = data.ctr_table(rows | {"bought": [1, 0, 0, 1] * 50}, schema, scaling="standardise")
    >>> model = fit_clicks(table, epochs=20, batch_size=32, rate=0.01, mesh=train.make_mesh(1))
    >>> print(model.predict({"city": ["rome", "oslo"], "price": [3.5, 1.0]}).round())
    [1. 0.]

    Args:
        table: what ``data.ctr_table`` returns.
        plan: :class:`~jaxembed.tables.Plan` whose features are columns of the table. None lets features of at
            most 128 values have rows of their own; all others share a table half as large as one row of 16
            numbers for every value would make it.
        model: "dcn", "deepfm" or "dlrm", or ``(init(key) -> params, apply(params, {feature: [B, D]}, dense
            [B, n]) -> logits [B])``.
        network: options of ``encoders.init_dcn``, ``init_deepfm`` or ``init_dlrm``; the defaults here are one
            hidden layer of 64 and one cross layer.
        epochs: times that the training rows are read.
        batch_size: rows of a step, at most the training rows; cut to what the devices divide.
        rate: learning rate of Adam.
        decay: weight of the L2 penalty on the parameters that Adam trains.
        row_rate: learning rate of Adagrad for the rows of the shared table that a batch touches, which alone
            are then read and written (``tables.row_update``), as suits big tables. None trains the whole
            table by Adam.
        members: number of models trained side by side on the same batches, each with hashes and first
            parameters of its own; 1 with ``row_rate``.
        initialiser: ``(key, shape) -> array`` of the embeddings; the default is uniform within 0.05, for
            merge="product" wider, so that a product has the variance of a plain row.
        seed: int of parameters and of the order of the rows.
        mesh: from ``train.make_mesh``; default all devices along "data". "model" splits the shared table.
        workdir: folder from which a stopped run resumes, or None.
        progress: show a bar when a person watches.

    Returns:
        :class:`ClickModel`.

    Raises:
        ValueError: for a table without its parts, a plan that does not fit it, training rows of one class,
            settings outside their limits, or several processes.

    References:
        B. Coleman et al., Unified Embedding, arXiv:2305.12102; R. Wang et al., DCN V2, arXiv:2008.13535.
    """
    _check_table(table)
    limits = {"epochs": epochs, "batch_size": batch_size, "members": members}
    _check_settings(limits, {"rate": rate, "row_rate": row_rate}, decay)
    plan = default_plan(table) if plan is None else plan
    networks.check_plan(plan, table)
    network = networks.options(model, network)
    shape = networks.shape_of(plan, table["columns"]["dense"].shape[1])
    walk = networks.walk(plan, members, networks.network(model, network, *shape), initialiser, row_rate)
    mesh, size = _sized(mesh, batch_size, len(table["splits"]["train"]))
    batches = data.batches(
        table["splits"]["train"], size, make=walk.batch_maker(table["columns"], size), seed=seed
    )
    steps = len(table["splits"]["train"]) // size
    evaluate, kept = _watch(walk, table, steps, workdir)
    settings = {"batch_size": size, "rate": rate, "row_rate": row_rate, "decay": decay, "members": members}
    settings |= {"model": model if isinstance(model, str) else "given", "network": network, "seed": seed}
    state = train.fit(
        init=walk.init,
        update=walk.update(optax.chain(optax.add_decayed_weights(decay), optax.adam(rate))),
        batches=batches,
        steps=epochs * steps,
        key=seed,
        mesh=mesh,
        rules=[(r"^table/", P("model", None) if row_rate else P(None, "model", None))],
        workdir=workdir,
        meta={"plan": dataclasses.asdict(plan), "sizes": table["sizes"]} | settings,
        evaluate=evaluate,
        evaluate_every=steps,
        save_every=steps,
        progress=progress,
    )
    found = {"epochs": [epochs] * members, "history": list(kept["history"].values())}
    if found["history"]:
        params, found["epochs"] = kept["params"], (np.argmax(found["history"], axis=0) + 1).tolist()
    else:
        params = jax.tree.map(np.asarray, walk.stacked(state.params))
    reading = {name: table[name] for name in ("vocabularies", "scaling", "reading")}
    return ClickModel(plan, params, model, network, **reading, **found)


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


def _check_settings(counts, rates, decay):
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name}={value!r}; give an int of at least 1")
    for name, value in rates.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}; give a number above 0")
    if not decay >= 0:
        raise ValueError(f"decay={decay}; give a number of at least 0")
    if rates["row_rate"] is not None and counts["members"] > 1:
        raise ValueError(f"members={counts['members']}: row_rate trains one model; leave one of them out")


def _sized(mesh, batch_size, rows):
    """The mesh and a batch size that its devices divide; too few rows go to one device."""
    given, mesh = mesh is not None, train.make_mesh() if mesh is None else mesh
    devices, size = mesh.shape["data"], min(batch_size, rows)
    if size >= devices:
        return mesh, size - size % devices
    if given:
        raise ValueError(
            f"mesh: {devices} devices for batches of {size} rows; give make_mesh(1) or more rows"
        )
    return train.make_mesh(1), size


def _watch(walk, table, steps, workdir):
    """What measures the validation rows after an epoch, and what it keeps: {"history", "params"}.

    With a workdir the best parameters are there too, so that a resumed run knows those of earlier epochs.
    """
    columns, rows = table["columns"], table["splits"]["validation"]
    labels, kept = columns["labels"][rows], {"history": {}}
    if len(np.unique(labels)) < 2:
        return None, kept
    folder = None if workdir is None else files.local_path(workdir, "workdir") / "best"
    if folder is not None and (folder / "best.json").exists():
        found = files.read_json(folder / "best.json", "remove the workdir")
        kept["history"] = {int(epoch): aucs for epoch, aucs in found["history"].items()}
        kept["params"] = _read_params(folder / found["params"])
    score = jax.jit(lambda params, batch: walk.logits(walk.stacked(params), batch))

    def evaluate(state):
        found = _scored(functools.partial(score, state.params), columns, rows)
        aucs, epoch = [float(metrics.auc(labels, s)) for s in found], int(state.step) // steps
        kept["history"] = {e: a for e, a in kept["history"].items() if e < epoch} | {epoch: aucs}
        kept["params"] = better(kept.get("params"), walk.stacked(state.params), [*kept["history"].values()])
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            name = _write_params(folder, kept["params"])
            files.write_json(folder / "best.json", {"params": name, "history": kept["history"]})
            for old in set(folder.glob("params-*.npz")) - {folder / name}:
                old.unlink()
        return {"validation AUC": float(np.mean(aucs))}

    return evaluate, kept


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


def _scored(score, columns, rows):
    """Scores [S, n] of some rows, in pieces of one size; rows are repeated to fill the last."""
    columns = {name: columns[name] for name in ("ids", "masks", "dense")}
    if not len(rows):
        return np.zeros((1, 0), np.float32)
    pieces = np.resize(rows, (-(-len(rows) // PIECE), min(len(rows), PIECE)))
    found = [np.asarray(score(data.take(columns, piece))) for piece in pieces]
    return np.concatenate(found, axis=1)[:, : len(rows)]


def _write_params(folder, params):
    """Writes parameters under a name that holds their digest; returns the name."""
    new = folder / ".params.new"
    with files.written(new) as file:
        np.savez(file, **{"/".join(k.key for k in path): x for path, x in jax.tree.leaves_with_path(params)})
    name = f"params-{files.digest(new)[:16]}.npz"
    new.replace(folder / name)
    return name


def _read_params(path):
    """The nested dict of arrays that :func:`_write_params` wrote."""
    path, params = pathlib.Path(path), {"exact": {}}
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing; {REMEDY}")
    if f"params-{files.digest(path)[:16]}.npz" != path.name:
        raise ValueError(f"{path}: damaged or cut short; {REMEDY}")
    with np.load(path) as stored:
        for name, array in stored.items():
            *parents, last = name.split("/")
            level = params
            for parent in parents:
                level = level.setdefault(parent, {})
            level[last] = array
    return params
