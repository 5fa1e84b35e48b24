"""A trained two-tower model: asked what to recommend, given new items, kept in a folder, opened again."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from jaxembed import data, files, ragged, search, tables
from jaxembed.recipes import _tower_steps as steps_of
from jaxembed.recipes.click_models import read_model, read_params, write_params

FORMAT = 1
KEYS = {"plan", "items", "users", "log", "history", "recalls", "dense"}
BLOCK = 1024  # users that are searched for at once
REMEDY = "save the model again"
SCHEMA = ("names", "vocabularies", "sizes", "scaling", "reading")  # what describes the columns of a catalogue


@dataclasses.dataclass(frozen=True)
class TowerModel:
    """Two-tower model: recommends items of a catalogue to users of a log, and takes new items.

    Made by :func:`train_towers` and :func:`load_towers`.

    Args:
        plan: :class:`~jaxembed.tables.Plan`.
        params: of ``encoders.init_towers``, NumPy arrays.
        items, users: catalogues; users is None where a log has none. Ids that no training event holds are 0.
        log: the log without its events, by which new queries are read.
        events: {"users": int32 [N] or None, "items": int32 [N]}, rows of the catalogues, and the columns of
            the queries; empty in a loaded model but for who took what.
        rows: {"train", "validation": row numbers}.
        history: number of earlier items in a query.
        counts: int [M], training events of each item.
        recalls: recall on the validation rows after every epoch; empty without such rows.
    """

    plan: tables.Plan | None
    params: dict
    items: dict
    users: dict | None
    log: dict
    events: dict
    rows: dict
    history: int
    counts: np.ndarray
    recalls: list

    @classmethod
    def untrained(cls, log, items, users, splits, *, history):
        """The model before training: catalogues, events and names that fit one another.

        Args:
            log, items, users, splits, history: of ``train_towers``.
        """
        reading, names = log["reading"], log["names"]
        items = steps_of.catalogue_of(items, names["item"], reading["item"])
        events = {"users": None, "items": data.catalogue_rows(names["item"], items)[log["items"]]}
        if reading["user"] is None:
            if users is not None or history:
                raise ValueError("users, history: the log has no column of users; leave both out")
        else:
            users = steps_of.catalogue_of(users, names["user"], reading["user"])
            events["users"] = data.catalogue_rows(names["user"], users)[log["users"]]
        rows = steps_of.split_rows(splits, len(log["items"]))
        counts = np.bincount(events["items"][rows["train"]], minlength=len(items["names"]))
        items = steps_of.known_only(items, counts > 0)
        if users is not None:
            users = steps_of.known_only(
                users, np.bincount(events["users"][rows["train"]], minlength=len(users["names"])) > 0
            )
        found = {name: log[name] for name in ("time", "ids", "masks", "dense")}
        described = {name: log[name] for name in SCHEMA if name != "names"}
        model = cls(None, {}, items, users, described, events | found, rows, history, counts, [])
        model._check_features()
        return model

    def _check_features(self):
        sides = [self.items["ids"], self.events["ids"], self.users["ids"] if self.users else {}]
        listed = [name for side in sides for name in side]
        twice = sorted({name for name in listed if listed.count(name) > 1})
        if twice:
            raise ValueError(
                f"features {twice} are in two of log, items and users; rename the columns of one"
            )
        if not (sides[1] or sides[2] or self.history or self.events["dense"].shape[1]):
            raise ValueError("interactions: no user and no feature describes a query; name one in the schema")
        if self.events["dense"].shape[1] and not sides[1]:
            raise ValueError(
                "interactions: numbers of queries need a feature beside them; name one in the schema"
            )

    def sizes(self):
        """{feature: number of ids} of both sides."""
        users = self.users["sizes"] if self.users else {}
        return self.items["sizes"] | self.log["sizes"] | users

    def sides(self):
        """Names of the features, and numbers, that each tower reads, as hashable pairs."""
        query = [*self.log["sizes"], *(self.users["ids"] if self.users else ())]
        query += [self.item_key] if self.history else []
        numbers = self.events["dense"].shape[1] + (self.users["dense"].shape[1] if self.users else 0)
        sides = ("query", tuple(query)), ("item", tuple(self.items["ids"]))
        return sides, (("query", numbers), ("item", self.items["dense"].shape[1]))

    @property
    def item_key(self):
        """Name of the feature that is the id of an item."""
        return self.items["reading"]["key"]

    @functools.cached_property
    def item_columns(self):
        """Columns of all items, as the item tower reads them."""
        return steps_of.columns_of(self.items)

    @functools.cached_property
    def item_vectors(self):
        """float32 [M, D] of all items."""
        return jnp.asarray(steps_of.encoded(self.plan, self.params, self.item_columns, "item"))

    @functools.cached_property
    def _histories(self):
        ids = self.items["ids"][self.item_key][self.events["items"]]
        known = data.histories(self.events["users"], ids, self.events["time"], length=self.history)
        return known[0], known[1] & (known[0] > 0)

    def queries(self, rows):
        """Columns of the queries of some rows of the log.

        Args:
            rows: row numbers int [n].
        """
        columns = None if self.users is None else steps_of.columns_of(self.users)
        history = self._histories if self.history else None
        key = self.item_key
        return steps_of.queries_of(self.events, rows, columns, self.events["users"], history, key)

    def query_vectors(self, rows):
        """Vectors of the queries of some rows of the log that the model was trained on.

        Args:
            rows: row numbers int [n], of test rows say. A history holds the events before the row.

        Returns:
            float32 [n, D].
        """
        if "ids" not in self.events:
            raise ValueError("rows: a loaded model has no log; ask it by users or context")
        return steps_of.encoded(self.plan, self.params, self.queries(np.asarray(rows)), "query")

    def recommend(self, users=None, k=10, *, context=None, seen=False):
        """Recommends to each user the items of largest score that they have not taken yet.

        Taken is what the training and validation rows hold; these are also the history of a query.

        Args:
            users: list of B names of the log or the catalogue of users; None where queries have no user.
            k: number of items, at most M.
            context: where the log has features of the query, a file or table with those of the B queries.
            seen: True also recommends what a user has taken.

        Returns:
            (scores float32 [B, k], names [B, k] an array of str). Where fewer than k items are left, the last
            names are "" and their scores -inf.

        Raises:
            ValueError: for an unknown user, a k that is too large, or a context that is missing or not asked
                for.
        """
        rows = self._user_rows(users)
        columns = self._asked(rows, context)
        queries = steps_of.encoded(self.plan, self.params, columns, "query")
        if seen or rows is None:
            scores, ids = search.top_k(queries, self.item_vectors, k)
        else:
            scores, ids = self._unseen(queries, rows, k)
        scores, ids = np.asarray(scores), np.asarray(ids)
        names = np.array([*self.items["names"], ""], object)
        return scores, names[np.where(scores == -np.inf, -1, ids)].astype(str)

    def _unseen(self, queries, rows, k):
        """``top_k`` without what users have taken, in blocks of users who have taken about as much."""
        starts, taken = self._taken
        counts = (starts[1:] - starts[:-1])[rows]
        order = np.argsort(counts, kind="stable")
        scores, ids = np.zeros((len(rows), k), np.float32), np.zeros((len(rows), k), np.int32)
        for start in range(0, len(order), BLOCK):
            block = order[start : start + BLOCK]
            filled = np.resize(block, min(BLOCK, ragged.bucket(len(order))))  # few shapes
            length = ragged.bucket(int(counts[block].max()))
            without = ragged.pad([taken[starts[r] : starts[r + 1]] for r in rows[filled]], length, value=-1)[
                0
            ]
            found = search.top_k(queries[filled], self.item_vectors, k, without=without)
            scores[block], ids[block] = (np.asarray(x)[: len(block)] for x in found)
        return scores, ids

    @property
    def _known(self):
        """Users, items and times of the events that training or validation saw, in the order of the log."""
        rows = np.sort(np.concatenate([self.rows["train"], self.rows["validation"]]))
        return [x if x is None else x[rows] for x in (self.events[n] for n in ("users", "items", "time"))]

    @functools.cached_property
    def _taken(self):
        """The items of each user: where they start int [U + 1], and all of them int32, user by user."""
        pairs = np.unique(np.stack(self._known[:2]), axis=1)
        starts = np.searchsorted(pairs[0], np.arange(len(self.users["names"]) + 1))
        return starts, pairs[1].astype(np.int32)

    def _user_rows(self, users):
        if (users is None) != (self.users is None):
            raise ValueError(
                "users: the log has none; give a context" if self.users is None else "users: give their names"
            )
        if users is None:
            return None
        if isinstance(users, str) or not len(users):
            raise ValueError(f"users: {users!r}; give a list of at least one name")
        return data.catalogue_rows([str(name) for name in users], self.users)

    def _asked(self, rows, context):
        """The columns of new queries."""
        schema = self._context_schema()
        if (schema is None) != (context is None):
            raise ValueError(
                "context: queries of this model have no features"
                if schema is None
                else f"context: give the columns {list(schema.columns)}"
            )
        if schema is None:
            found = {"ids": {}, "masks": {}, "dense": np.zeros((len(rows), 0), np.float32)}
        else:
            vocabularies, scaling = self.log["vocabularies"], self.log["scaling"]
            found = data.click_rows(context, schema, vocabularies, scaling=scaling)
            found = steps_of.columns_of(found)
        if rows is None:
            return found
        if len(found["dense"]) != len(rows):
            raise ValueError(f"context: {len(found['dense'])} rows for {len(rows)} users; give one for each")
        found = steps_of.joined(found, data.take(steps_of.columns_of(self.users), rows))
        if not self.history:
            return found
        ids, mask = self._latest(rows)
        history = {"ids": {self.item_key: ids}, "masks": {self.item_key: mask}}
        return steps_of.joined(found, history | {"dense": found["dense"][:, :0]})

    def _latest(self, rows):
        """The history of users after all their known events: item ids [B, L] and mask [B, L]."""
        users, items, time = self._known
        ids, (asked, places) = self.items["ids"][self.item_key][items], np.unique(rows, return_inverse=True)
        time = np.arange(len(users)) if time is None else time
        end, none = np.full(len(asked), np.inf), np.zeros(len(asked), ids.dtype)
        log = (np.concatenate(pair) for pair in ((users, asked), (ids, none), (time, end)))
        found, mask = (x[len(users) :][places] for x in data.histories(*log, length=self.history))
        return found, mask & (found > 0)

    def _context_schema(self):
        reading = self.log["reading"]
        schema, keys = reading["schema"], {reading["user"], reading["item"]}
        kept = tuple(name for name in schema.categorical if name not in keys)
        if not (kept or schema.multivalent):
            return None
        bare = {"label": None, "threshold": None, "positive": None, "dropped": (), "time": None}
        return dataclasses.replace(schema, categorical=kept, **bare)

    def with_items(self, source):
        """Adds items that came later: their features alone speak for them.

        Args:
            source: file or table with the columns of the catalogue of items.

        Returns:
            :class:`TowerModel` that recommends them too.

        Raises:
            ValueError: for an item that is there already or comes twice, or a missing column.
        """
        new = data.more_rows(self.items, source)
        items = dict(self.items)
        items["names"] = [*items["names"], *new["names"]]
        items["ids"] = {name: steps_of.below(x, new["ids"][name]) for name, x in items["ids"].items()}
        items["masks"] = {name: steps_of.below(x, new["masks"][name]) for name, x in items["masks"].items()}
        items["dense"] = np.concatenate([items["dense"], new["dense"]])
        counts = np.concatenate([self.counts, np.zeros(len(new["names"]), self.counts.dtype)])
        return dataclasses.replace(self, items=items, counts=counts)

    def save(self, folder):
        """Writes all that recommending needs: ``model.json`` and the file of arrays that it names.

        Args:
            folder: path, made if it is missing; a model in it is replaced in one step.

        Raises:
            BlockingIOError: when another process writes the folder; names it.
        """
        folder = files.local_path(folder, "folder")
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"params": self.params, "items": _arrays(self.items), "counts": self.counts}
        known = zip(("users", "items", "time"), self._known, strict=True)
        arrays["events"] = {name: x for name, x in known if x is not None}
        arrays |= {} if self.users is None else {"users": _arrays(self.users)}
        parts = {"items": self.items, "users": self.users, "log": self.log}
        saved = {name: part and {n: part[n] for n in SCHEMA if n in part} for name, part in parts.items()}
        for part in filter(None, saved.values()):
            part["reading"] = part["reading"] | {"schema": dataclasses.asdict(part["reading"]["schema"])}
        saved |= {"format": FORMAT, "plan": dataclasses.asdict(self.plan)}
        saved |= {"history": self.history, "recalls": self.recalls, "dense": self.events["dense"].shape[1]}
        write_params(folder, arrays, "model.json", saved)


def load_towers(folder):
    """Opens a two-tower model that was saved.

    >>> import tempfile
    >>> from jaxembed.recipes import train_towers
    >>> from jaxembed.train import make_mesh
    >>> log = {"user": ["ann", "bob"] * 8, "item": ["tea", "jam"] * 8}
    >>> found = data.interactions(log, data.Schema(None, categorical=("user", "item")))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train_towers(found, epochs=1, batch_size=8, mesh=make_mesh(1)).save(folder)
    ...     print(load_towers(folder).recommend(["ann", "bob"], 1)[1])
    [['jam']
     ['tea']]

    Args:
        folder: path given to :meth:`TowerModel.save`.

    Returns:
        :class:`TowerModel`.

    Raises:
        FileNotFoundError: without a saved model.
        ValueError: for damaged files.
    """
    folder = files.local_path(folder, "folder")
    path = folder / "model.json"
    saved = read_model(path, FORMAT, KEYS)
    kinds = {
        "plan": dict,
        "items": dict,
        "log": dict,
        "history": int,
        "recalls": list,
        "dense": int,
        "params": str,
    }
    kept = {name: files.field(saved, name, kind, str(path), REMEDY) for name, kind in kinds.items()}
    arrays = read_params(folder / files.inside(kept["params"], str(path)))
    try:
        plan = tables.plan(**kept["plan"])
        parts = {name: _opened(saved.get(name), arrays.get(name)) for name in ("items", "users", "log")}
        params = {"exact": {}} | arrays["params"]
        events = {"users": None, "time": None} | arrays["events"] | {"dense": np.zeros((0, kept["dense"]))}
        counts = arrays["counts"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}; {REMEDY}") from None
    rows = {"train": np.arange(len(events["items"])), "validation": np.zeros(0, int)}
    return TowerModel(plan, params, *parts.values(), events, rows, kept["history"], counts, kept["recalls"])


def _opened(part, arrays):
    """A catalogue, or the description of a log, from JSON and arrays."""
    if part is None:
        return None
    schema = {n: tuple(x) if isinstance(x, list) else x for n, x in part["reading"]["schema"].items()}
    part = part | {"reading": part["reading"] | {"schema": data.Schema(**schema)}}
    return part if arrays is None else part | {"masks": {}} | arrays


def _arrays(found):
    return {name: found[name] for name in ("ids", "masks", "dense")}
