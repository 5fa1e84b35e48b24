"""Steps of word training: many small ones in a call for windows, one for rows of a batch for other models."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, losses, tables
from jaxembed.arrays import NONFINITE, first_nonfinite
from jaxembed.ragged import segment_places

LIMIT = 6.0  # of a score, beyond which a pair is left alone
PIECE = 128  # rows of n-grams that are read at once
ROUND = 1 << 17  # to whose multiples lists of n-grams are padded


class Windows:
    """Batches of :class:`~jaxembed.data.WindowBatches` with the learning rates of their steps.

    With n-grams the rows of which each word is the mean are listed too, one word after the other: those of
    the places of a step, or with ``around`` those of all words that it reads. ``tree`` are arrays that every
    batch carries, the ways to all words.
    """

    def __init__(self, windows, epochs, rate, least, pieces=None, tree=None, around=False):
        self.reach = windows.window if around else 0
        self.windows, self.steps, self.epoch = windows, epochs * windows.epoch, windows.epoch
        self.rate, self.least, self.pieces, self.tree = rate, least, pieces, tree or {}

    def __getitem__(self, t):
        batch = self.windows[t] | self.tree
        ends = [self.rate + (self.least - self.rate) * x / self.steps for x in (t, t + 1)]
        batch["rates"] = np.array(ends, np.float32)
        return batch if self.pieces is None else batch | self._listed(batch)

    def _listed(self, batch):
        rows, starts = self.pieces
        step = self.windows.group * self.windows.groups
        span, first = step + 2 * self.reach, self.windows.window - self.reach
        each = np.arange(batch["steps"])[:, None] * step + np.arange(first, first + span)
        words = batch["words"][each.reshape(-1)]
        counts = np.diff(starts)[words]
        ends = np.cumsum(counts)
        size = -(-int(ends[-1] if len(ends) else 0) // ROUND) * ROUND + PIECE
        found = {"pieces": np.zeros(size, np.int32), "places": np.full(size, span, np.int32)}
        total = int(ends[-1]) if len(ends) else 0
        found["pieces"][:total] = rows[segment_places(starts[words], counts)]
        found["places"][:total] = np.repeat(np.arange(len(words), dtype=np.int32) % span, counts)
        bounds = np.zeros(self.windows.size // step + 3, np.int32)
        bounds[1 : batch["steps"] + 1] = ends[span - 1 :: span]
        sizes = np.ones(len(batch["radius"]) // step * span, np.float32)
        sizes[: len(counts)] = counts
        return found | {"bounds": bounds, "sizes": sizes}


def window_update(kind, group, groups, window, negatives, subwords=False):
    """``(init, step)`` for ``train.fit``: negative sampling of a stretch of text, step after step, by SGD.

    Every small step reads the rows of ``groups`` groups of ``group`` places, and adds what they sum to:
    the arithmetic of ``tables.row_update`` with ``optax.sgd``.
    """
    return _window_update(kind, group, groups, window, negatives, subwords)


@functools.lru_cache(maxsize=32)
def _window_update(kind, group, groups, window, negatives, subwords):
    places = group * groups
    gradients = jax.vmap(functools.partial(losses.window_gradients, kind=kind, limit=LIMIT))
    near = jax.vmap(functools.partial(losses.window_pairs, window=window))
    weigh = jax.vmap(functools.partial(losses.noise_weights, negatives=negatives, kind=kind))

    stretches, joined = _overlapping(group, groups, window)
    span = places + 2 * window if kind == "cbow" else places  # words whose input rows a step reads

    def small(at, read, write, params, batch):
        cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=at * places)
        words, lines = (cut(batch[n], slice_size=places + 2 * window) for n in ("words", "lines"))
        radius = cut(batch["radius"], slice_size=places).reshape(groups, group)
        noise = jax.lax.dynamic_slice_in_dim(batch["noise"], at * groups, groups)
        around, middle = stretches(words), words[window : window + places]
        pairs = near(stretches(lines), radius)
        weights = weigh(around, noise, pairs)
        rate = batch["rates"][0] + (batch["rates"][1] - batch["rates"][0]) * at / batch["steps"]
        whole, own = (words, middle) if kind == "cbow" else (middle, words)
        inputs, outputs = read(params, at, whole), _rows(params["output"]["embedding"], own)
        drawn = _rows(params["output"]["embedding"], noise)
        grouped = (lambda x: x.reshape(groups, group, -1)), (lambda g: g.reshape(places, -1))
        wide = stretches, joined
        (cut_in, back_in), (cut_out, back_out) = (wide, grouped) if kind == "cbow" else (grouped, wide)
        more = {}
        if subwords and kind == "cbow":
            more["sizes"] = stretches(jax.lax.dynamic_slice_in_dim(batch["sizes"], at * span, span))
        one, two, three = gradients(cut_in(inputs), cut_out(outputs), drawn, pairs, weights, **more)
        outs = jnp.concatenate([own, noise.reshape(-1)])
        slope = jnp.concatenate([back_out(two), three.reshape(len(outs) - len(own), -1)])
        output = _added(params["output"]["embedding"], outs, -rate * slope)
        inputs = write(params, at, whole, -rate * back_in(one))
        return {"input": {"embedding": inputs}, "output": {"embedding": output}}

    def step(state, batch, key):
        read, write = listed_means(batch, span) if subwords else _plain()

        def body(at, params):
            return small(at, read, write, params, batch)

        params = jax.lax.fori_loop(0, batch["steps"], body, state.params)
        norm = jnp.sqrt(jnp.mean(jnp.square(params["input"]["embedding"])))
        metrics = {"root mean square": norm, NONFINITE: first_nonfinite(params)}
        return dataclasses.replace(state, params=params), metrics

    return lambda params: (), step


def _overlapping(group, groups, window):
    """(stretches, joined): parts of a step that overlap, and their sum, which is its transpose."""

    def stretches(x):
        """[places + 2 window, ...] -> [groups, group + 2 window, ...]."""
        return jnp.stack([x[g * group : (g + 1) * group + 2 * window] for g in range(groups)])

    def joined(x):
        wide = [(0, 0)] * (x.ndim - 2)
        ends = [(g * group, (groups - 1 - g) * group) for g in range(groups)]
        return sum(jnp.pad(x[g], [ends[g], *wide]) for g in range(groups))

    return stretches, joined


@functools.lru_cache(maxsize=32)
def tree_update(group, groups, window):
    """``(init, step)`` for ``train.fit``: hierarchical softmax of a stretch of text, by SGD."""
    places = group * groups
    gradients = jax.vmap(functools.partial(losses.tree_window_gradients, limit=LIMIT))
    near = jax.vmap(functools.partial(losses.window_pairs, window=window))
    stretches, joined = _overlapping(group, groups, window)

    def small(at, params, batch):
        cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=at * places)
        words, lines = (cut(batch[n], slice_size=places + 2 * window) for n in ("words", "lines"))
        pairs = near(stretches(lines), cut(batch["radius"], slice_size=places).reshape(groups, group))
        middle = words[window : window + places]
        points, codes, inside = (_rows(batch[n], words) for n in ("points", "codes", "inside"))
        inputs, table = _rows(params["input"]["embedding"], middle), params["nodes"]["embedding"]
        given = inputs.reshape(groups, group, -1), stretches(_rows(table, points)), pairs
        one, two = gradients(*given, stretches(codes), stretches(inside))
        rate = batch["rates"][0] + (batch["rates"][1] - batch["rates"][0]) * at / batch["steps"]
        inputs = _added(params["input"]["embedding"], middle, -rate * one.reshape(places, -1))
        change = -rate * joined(two).reshape(-1, table.shape[1])
        nodes = _added(table, points.reshape(-1), change)
        return {"input": {"embedding": inputs}, "nodes": {"embedding": nodes}}

    def step(state, batch, key):
        params = jax.lax.fori_loop(0, batch["steps"], lambda at, p: small(at, p, batch), state.params)
        norm = jnp.sqrt(jnp.mean(jnp.square(params["input"]["embedding"])))
        metrics = {"root mean square": norm, NONFINITE: first_nonfinite(params)}
        return dataclasses.replace(state, params=params), metrics

    return lambda params: (), step


def _rows(table, ids):
    return table.at[ids].get(mode="promise_in_bounds")


def _added(table, ids, change):
    return table.at[ids].add(change, mode="promise_in_bounds")


def _plain():
    """Reads and writes of a table in which a word has one row."""

    def read(params, at, ids):
        return _rows(params["input"]["embedding"], ids)

    def write(params, at, ids, change):
        return _added(params["input"]["embedding"], ids, change)

    return read, write


def listed_means(batch, places):
    """Reads and writes of a table in which a word is the mean of its own row and those of its n-grams."""

    def cut(at, part):
        start = batch["bounds"][at] + part * PIECE
        rows, where = (jax.lax.dynamic_slice_in_dim(batch[n], start, PIECE) for n in ("pieces", "places"))
        inside = start + jnp.arange(PIECE) < batch["bounds"][at + 1]
        return rows, jnp.where(inside, where, places)

    def parts(at):
        return (batch["bounds"][at + 1] - batch["bounds"][at] + PIECE - 1) // PIECE

    def read(params, at, ids):
        table = params["input"]["embedding"]

        def body(part, total):
            rows, where = cut(at, part)
            return total.at[where].add(_rows(table, rows), mode="promise_in_bounds")

        total = jax.lax.fori_loop(0, parts(at), body, jnp.zeros((places + 1, table.shape[1]), table.dtype))
        return (
            total[:places] * (1 / jax.lax.dynamic_slice_in_dim(batch["sizes"], at * places, places))[:, None]
        )

    def write(params, at, ids, change):
        padded = jnp.concatenate([change, jnp.zeros_like(change[:1])])

        def body(part, table):
            rows, where = cut(at, part)
            return _added(table, rows, _rows(padded, where))

        return jax.lax.fori_loop(0, parts(at), body, params["input"]["embedding"])

    return read, write


class Contexts:
    """Batches of single places: contexts, the word of the place with its own noise words, distinct rows.

    ``documents`` is the number of input rows before those of the texts, for models that have such rows.
    """

    def __init__(self, corpus, kind, window, negatives, size, heights, documents=None, **options):
        self.kind, self.width, self.heights = kind, window, heights
        self.negatives, self.documents = negatives, documents
        if documents is not None:
            ends = [np.count_nonzero(ids == data.corpora.END) for ids in stretches(corpus["ids"], size)]
            self.before = np.cumsum([0, *ends])
        shared = max(1, negatives) * 2 * window
        self.windows = data.WindowBatches(
            corpus, size=size, window=window, group=2 * window, groups=1, shared=shared, **options
        )
        self.epoch = self.windows.epoch
        self.places = -(-size // (2 * window)) * 2 * window

    def __getitem__(self, t):
        batch = self.windows[t]
        span = 2 * self.width + 1
        words, lines = (np.lib.stride_tricks.sliding_window_view(batch[n], span) for n in ("words", "lines"))
        middle = words[:, self.width]
        sides = np.delete(np.arange(span), self.width)
        apart = np.abs(sides - self.width)
        mask = (lines[:, sides] == lines[:, [self.width]]) & (lines[:, [self.width]] >= 0)
        contexts = words[:, sides]
        if self.kind in ("cbow", "pv_dm"):
            mask &= apart <= batch["radius"][:, None]
        if self.documents is not None:
            line = lines[:, [self.width]]
            own = self.documents + self.before[t % self.epoch] + line
            contexts, mask = (
                (own, line >= 0)
                if self.kind == "pv_dbow"
                else (np.concatenate([contexts, own], axis=1), np.concatenate([mask, line >= 0], axis=1))
            )
        noise = batch["noise"].reshape(-1, self.negatives)
        targets = np.concatenate([middle[:, None], noise], axis=1)
        where = np.concatenate([np.ones((len(noise), 1), bool), noise != middle[:, None]], axis=1)
        where &= (lines[:, [self.width]] >= 0) & mask.any(axis=1, keepdims=True)
        reads = {"input/embedding": {"contexts": contexts}, "output/embedding": {"targets": targets}}
        if self.kind == "cw":
            reads = {"input/embedding": {"contexts": contexts, "targets": targets}}
        return listed(reads, {"contexts": mask, "targets": where}, self.heights) | {
            "mask": mask,
            "where": where,
        }


def stretches(ids, size):
    """The parts of a corpus that its batches read, one after the other."""
    return (np.asarray(ids[start : start + size]) for start in range(0, len(ids), size))


def listed(reads, masks, heights):
    """A batch for ``tables.row_update``: local codes of all that is read, and the rows they point to."""
    batch = {"rows": {}}
    for path, codes in reads.items():
        rows = heights[path]
        size = 1 + min(rows, sum(c.size for c in codes.values()))
        batch["rows"][path], local = tables.distinct(
            {n: c[..., None] for n, c in codes.items()}, masks, rows, size
        )
        batch |= {n: c[..., 0] for n, c in local.items()}
    return batch


@functools.lru_cache(maxsize=32)
def context_update(kind, rule, hinge=False):
    """``(init, step)`` for ``train.fit`` of models of ``losses.word_scores`` and paragraph vectors."""
    kind = {"pv_dbow": "skip_gram", "pv_dm": "cbow"}.get(kind, kind)
    reduce = losses.word_hinge if hinge else losses.negative_sampling

    def loss_fn(params, batch, key):
        scores = losses.word_scores(
            params, batch["contexts"], batch["targets"], kind=kind, mask=batch["mask"]
        )
        return jnp.sum(reduce(scores, batch["where"])), {}

    paths = ("input/embedding",) if kind == "cw" else ("input/embedding", "output/embedding")
    return tables.row_update(loss_fn, rule, dict.fromkeys(paths, rule))


class Cells:
    """Batches of the cells of a matrix of counts, each epoch in an order of its own."""

    def __init__(self, rows, columns, counts, height, size, seed):
        self.cells, self.height = (rows, columns, counts), height
        self.size, self.seed = min(size, len(rows)), seed
        self.epoch = -(-len(rows) // self.size)

    @functools.lru_cache(maxsize=2)  # noqa: B019 (an order lives as long as its batches)
    def _order(self, epoch):
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.cells[0]))

    def __getitem__(self, t):
        epoch, place = divmod(int(t), self.epoch)
        chosen = self._order(epoch)[place * self.size : (place + 1) * self.size]
        rows, columns, counts = (np.pad(x[chosen], (0, self.size - len(chosen))) for x in self.cells)
        batch, lists = {"counts": counts.astype(np.float32)}, {}
        for side, ids in (("input", rows), ("output", columns)):
            path = f"{side}/embedding"
            found = listed({path: {side: ids}}, None, {path: self.height})
            batch[side] = found[side]
            lists |= {f"{side}/{name}": found["rows"][path] for name in ("embedding", "bias")}
        return batch | {"rows": lists}


def _glove_rule(rate, largest=100.0):
    """Adagrad whose sums hold the rate: ``x -= d / sqrt(G)``, then ``G += d**2``, d = rate g, G from 1 on."""

    def update(slopes, sums, params=None):
        steps = jax.tree.map(lambda g: rate * jnp.clip(g, -largest, largest), slopes)
        moved = jax.tree.map(lambda d, total: -d / jnp.sqrt(total), steps, sums)
        return moved, jax.tree.map(lambda d, total: total + d**2, steps, sums)

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.ones_like, params), update)


@functools.lru_cache(maxsize=8)
def glove_update(rate, limit, power):
    """``(init, step)`` for ``train.fit`` of GloVe, by the Adagrad of its program."""
    rule = _glove_rule(rate)

    def loss_fn(params, batch, key):
        found = losses.glove_loss(
            params, batch["input"], batch["output"], batch["counts"], limit=limit, power=power
        )
        return jnp.sum(found), {}

    paths = [f"{side}/{name}" for side in ("input", "output") for name in ("embedding", "bias")]
    return tables.row_update(loss_fn, rule, dict.fromkeys(paths, rule))
