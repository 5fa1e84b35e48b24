"""A trained model of clicks: asked about new rows, kept in a folder, opened again."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np

from jaxembed import data, files, tables
from jaxembed.recipes import _click_networks as networks

FORMAT = 1
KEYS = {"plan", "network", "vocabularies", "scaling", "schema", "epochs", "history", "hashed", "model"}
KEYS |= {"longest", "transform"}
PIECE = 8192  # rows that are scored at once
REMEDY = "save the model again"


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
        return scored(functools.partial(self._score, self.params), columns, rows)

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
            BlockingIOError: when another process writes the folder; names it.
        """
        if not isinstance(self.model, str):
            raise ValueError(
                f"model: is a pair of functions; save() takes one of {sorted(networks.NETWORKS)}"
            )
        folder = files.local_path(folder, "folder")
        folder.mkdir(parents=True, exist_ok=True)
        reading, schema = self.reading, dataclasses.asdict(self.reading["schema"])
        names = ("model", "vocabularies", "scaling", "epochs", "history")
        saved = {"format": FORMAT, "plan": dataclasses.asdict(self.plan)}
        saved |= {n: getattr(self, n) for n in names} | {"schema": schema}
        saved |= {"hashed": reading["hashed"], "longest": reading["longest"]}
        saved["transform"] = sorted(reading["transform"])
        saved["network"] = networks.named(self.network)
        write_params(folder, self.params, "model.json", saved)


def load_clicks(folder, *, transform=None):
    """Opens a click model that was saved.

    >>> import tempfile
    >>> from jaxembed.recipes import fit_clicks
    >>> from jaxembed.train import make_mesh
    >>> table = data.ctr_table({"city": ["rome", "oslo"] * 20, "y": [1, 0] * 20}, data.Schema("y", ("city",)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fit_clicks(table, epochs=1, mesh=make_mesh(1)).save(folder)
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
    saved = read_model(path, FORMAT, KEYS)
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
    params = read_params(folder / files.inside(kept.pop("params"), str(path)))
    if any(len(leaf) != len(kept["epochs"]) for leaf in jax.tree.leaves(params)):
        raise ValueError(f"{path}: epochs: {len(kept['epochs'])} members, not those of params; {REMEDY}")
    reading = {"schema": schema, "hashed": tuple(kept.pop("hashed")), "longest": saved.get("longest")}
    return ClickModel(plan, params, reading=reading | {"transform": transform}, **kept)


def scored(score, columns, rows):
    """Scores [S, n] of some rows, in pieces of one size; rows are repeated to fill the last.

    Args:
        score: ``{"ids", "masks", "dense"} -> [S, b]``.
        columns: a dict that holds these columns, [N, ...].
        rows: row numbers int [n].
    """
    columns = {name: columns[name] for name in ("ids", "masks", "dense")}
    filled = rows if len(rows) else [0]
    pieces = np.resize(filled, (-(-len(filled) // PIECE), min(len(filled), PIECE)))
    found = [np.asarray(score(data.take(columns, piece))) for piece in pieces]
    return np.concatenate(found, axis=1)[:, : len(rows)]


def write_params(folder, params, name, saved):
    """Writes parameters, then a JSON file that names them; in the end older parameters are removed.

    Args:
        folder: path.
        params: nested dict of arrays.
        name: of the JSON file.
        saved: dict of its other values.
    """
    with files.held(folder, "a save"):
        new = folder / ".params.new"
        with files.written(new) as file:
            np.savez(
                file, **{"/".join(k.key for k in path): x for path, x in jax.tree.leaves_with_path(params)}
            )
        kept = folder / f"params-{files.digest(new)[:16]}.npz"
        files.replace(new, kept)
        files.write_json(folder / name, saved | {"params": kept.name}, sealed=True)
        for old in set(folder.glob("params-*.npz")) - {kept}:
            old.unlink()


def read_model(path, version, keys):
    """The values of a JSON file that :func:`write_params` wrote, after its checksum and keys were compared.

    Args:
        path: of the file.
        version: of its format.
        keys: of the values that it may have beside the format and the name of the parameters.
    """
    saved = files.read_json(path, REMEDY, sealed=True)
    if files.field(saved, "format", int, str(path), REMEDY) != version:
        raise ValueError(f"{path}: format {saved['format']}, expected {version}; {REMEDY}")
    for key in sorted(saved.keys() - {"format", "params", *keys}):
        raise ValueError(f"{path}: {key!r} is unknown; {REMEDY}")
    return saved


def read_params(path):
    """The nested dict of arrays that :func:`write_params` wrote.

    Args:
        path: of the file.
    """
    path, params = pathlib.Path(path), {"exact": {}}
    with files.reading(path, REMEDY), np.errstate(all="ignore"):
        if f"params-{files.digest(path)[:16]}.npz" != path.name:
            raise ValueError(f"{path}: damaged or cut short; {REMEDY}")
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored.items())
        for name, array in arrays.items():
            *parents, last = name.split("/")
            level = params
            for parent in parents:
                level = level.setdefault(parent, {})
            level[last] = array
    return params
