"""Methods whose values share rows as the data say: rare values together, similar blocks once."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.checks import check_whole
from jaxembed.tables.compact import most_frequent, rank, rank_bits
from jaxembed.tables.factorized import TABLE, own_rows, read_rows
from jaxembed.tables.lookup import rows_of
from jaxembed.tables.methods import at_once, plain_settings, row_method, values_of


def adapt_emb(sizes, width, *, counts, rows, top=0.1, initialiser=None):
    """AdaptEmb: frequent values have rows of their own, rare values share the others.

    A value of rank k among the F frequent ones reads row k. A value of rank k among the rare ones reads row
    ``F + k mod rows``. Ranks follow the numbers of the values.

    >>> counts = np.array([9, 1, 1, 8, 1, 1])
    >>> m = adapt_emb(6, 4, counts=counts, rows=2, top=1 / 3)
    >>> print(m.codes(np.arange(6))["table/embedding"]["values"].ravel())
    [0 2 3 1 2 3]

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        counts: numbers [size], or {feature: numbers [size]}: how often each value occurs in training.
        rows: rows that the rare values share.
        top: share of the values with rows of their own; of equal counts the lowest values have them.
        initialiser: as in :func:`~jaxembed.tables.full_table`.

    Returns:
        :class:`~jaxembed.tables.Method`; it trains with :func:`~jaxembed.tables.row_update`. A bitmap says
        which values are frequent, ``N / 4`` bytes with its ranks; a value never seen is rare.

    Raises:
        ValueError: for counts that do not fit, and numbers out of range.

    References:
        AdaptEmb as in arXiv:2311.15578, whose map takes an integer for each value.
    """
    values = values_of(sizes)
    check_whole(1, width=width, rows=rows)
    member = most_frequent(values.named(counts), values.sizes, top)
    held, frequent = jax.tree.map(np.asarray, jax.jit(rank_bits)(member)), int(member.sum())
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)

    def row_of(index, numbers):
        inside, before = rank(index, numbers)
        xp = jnp if isinstance(before, jax.Array) else np
        found = xp.where(inside, before, frequent + (numbers - before) % rows)
        return xp.where(numbers < 0, -1, found).astype(np.int32)

    return row_method(
        plain_settings("adapt_emb", sizes, width) | {"rows": int(rows), "top": top},
        values,
        lambda key: {"table": {"embedding": draw(key, (frequent + rows, width))}},
        lambda numbers, index: {TABLE: {n: row_of(index, x)[..., None] for n, x in numbers.items()}},
        lambda params, codes, key: read_rows(params["table"]["embedding"], codes[TABLE]),
        held=held,
    )


def dedup(sizes, width, *, keep, block=8, initialiser=None):
    """Dedup: blocks of rows that are nearly equal are stored once, after a full table has been trained.

    Training holds the full table. ``deploy`` cuts it into blocks of neighbouring rows and keeps ``keep`` of
    them: first that of the smallest norm, then again and again the block that is farthest from all kept
    ones. Every other block is replaced by the nearest kept one. The value then reads
    ``blocks[map[x div block], x mod block]``.

    >>> m = dedup(6, 2, keep=2, block=2)
    >>> table = jnp.array([[1.0, 0], [0, 1], [5, 5], [6, 6], [1, 0.1], [0, 1]])
    >>> params = m.deploy({"table": {"embedding": table}})
    >>> print(params["map"], m.vectors(params, np.array([4, 3])))
    [0 1 0] [[1. 0.]
     [6. 6.]]

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        keep: number of blocks that are stored.
        block: rows of a block.
        initialiser: as in :func:`~jaxembed.tables.full_table`.

    Returns:
        :class:`~jaxembed.tables.Method`. The full table trains with :func:`~jaxembed.tables.row_update`.
        Vectors change when it is deployed, unless all blocks are kept; :func:`~jaxembed.tables.fine_tuned`
        then trains the blocks that are left.

    Raises:
        ValueError: for sizes below 1 or more blocks than there are.

    References:
        L. Zhou et al., arXiv:2201.10442 (deduplication of models), as in arXiv:2311.15578. There locality
        sensitive hashing proposes pairs, and blocks merge whose entries agree within 0.01 in 7 of 10 places;
        here all blocks are compared by squared distance, so that any budget is met.
    """
    values = values_of(sizes)
    check_whole(1, width=width, block=block, keep=keep)
    count = -(-values.total // block)
    if keep > count:
        raise ValueError(f"keep={keep}: the table has {count} blocks of {block} rows; keep as many or fewer")
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)

    def deploy(params):
        if "map" in params:
            return params
        table = params["table"]["embedding"]
        blocks = jnp.pad(table, ((0, -len(table) % block), (0, 0))).reshape(count, -1)
        kept, chosen = farthest(blocks, keep)
        kind = jnp.uint8 if keep <= 2**8 else jnp.uint16 if keep <= 2**16 else jnp.int32
        return {"table": {"embedding": blocks[kept].reshape(-1, width)}, "map": chosen.astype(kind)}

    def read(params, codes, key):
        if "map" not in params:
            return read_rows(params["table"]["embedding"], codes[TABLE])

        def gather(rows):
            place = params["map"][jnp.where(rows < 0, 0, rows // block)].astype(jnp.int32)
            return rows_of(
                params["table"]["embedding"], jnp.where(rows < 0, -1, place * block + rows % block)
            )

        return at_once(lambda rows: gather(rows[:, 0]), codes[TABLE])

    return row_method(
        plain_settings("dedup", sizes, width) | {"keep": int(keep), "block": int(block)},
        values,
        lambda key: {"table": {"embedding": draw(key, (values.total, width))}},
        own_rows,
        read,
        deploy=deploy,
    )


def farthest(rows, keep):
    """Farthest-first choice: rows that leave no other row far from all of them.

    Starts at the row of the smallest norm; each next one is farthest from those chosen before, the lowest of
    equally far ones.

    >>> print(farthest(jnp.array([[0.0], [5.0], [0.1], [4.0]]), 2))
    (Array([0, 1], dtype=int32), Array([0, 1, 0, 1], dtype=int32))

    Args:
        rows: [N, D].
        keep: how many rows, 1 to N.

    Returns:
        (int32 [keep], the chosen rows; int32 [N], which of them is nearest to each row).

    References:
        T. Gonzalez, Clustering to minimize the maximum intercluster distance, 1985.
    """

    def choose(i, found):
        kept, nearest, distances = found
        row = jnp.where(i == 0, jnp.argmin(jnp.sum(rows**2, axis=1)), jnp.argmax(distances)).astype(jnp.int32)
        new = jnp.sum((rows - rows[row]) ** 2, axis=1)
        nearer = (new < distances).at[row].set(True)
        distances = jnp.where(nearer, new, distances).at[row].set(-1.0)  # chosen: never again, and its own
        return kept.at[i].set(row), jnp.where(nearer, i, nearest), distances

    start = jnp.zeros(keep, jnp.int32), jnp.zeros(len(rows), jnp.int32), jnp.full(len(rows), jnp.inf)
    kept, nearest, _ = jax.lax.fori_loop(0, keep, choose, start)
    return kept, nearest
