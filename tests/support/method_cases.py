"""Every method of compressed tables, small, and the setting by which it meets a budget."""

import functools

import numpy as np

from jaxembed import tables

WIDTH = 8
SIZES = {"a": 40, "b": 21}
N = sum(SIZES.values())
ENTRIES = N * WIDTH


def counts_of(sizes):
    rng = np.random.default_rng(1)
    if isinstance(sizes, dict):
        return {name: rng.integers(0, 50, size) for name, size in sizes.items()}
    return rng.integers(0, 50, sizes)


def total(sizes):
    return sum(sizes.values()) if isinstance(sizes, dict) else sizes


def keeping(make):
    """A pruning method that keeps every entry, so that nothing changes when it is deployed."""
    return lambda sizes: make(sizes, WIDTH, keep=total(sizes) * WIDTH)


def autosrh(sizes, width, *, keep):
    return tables.autosrh(sizes, width, keep=keep, counts=counts_of(sizes), groups=3)


def mgqe(sizes, width, **options):
    return tables.mgqe(sizes, width, counts=counts_of(sizes), **options)


def narrow(sizes, inner):
    if isinstance(sizes, dict):
        return tables.narrow_tables(sizes, WIDTH, inner=dict.fromkeys(sizes, inner))
    return tables.narrow_table(sizes, WIDTH, inner=inner)


def masked(sizes):
    """OptEmbed's last stage: two of three rows stay, of each feature the first numbers."""
    widths = [6, 3] if isinstance(sizes, dict) else [5]
    return tables.masked_table(sizes, WIDTH, kept=np.arange(total(sizes)) % 3 != 2, widths=widths)


METHODS = {  # {name: sizes -> Method}; deployed vectors of all of these are the trained ones
    "full": lambda s: tables.full_table(s, WIDTH),
    "hash": lambda s: tables.hash_table(s, WIDTH, rows=13),
    "hash per feature": lambda s: tables.hash_table(s, WIDTH, rows=13, multiplexed=False),
    "compositional": lambda s: tables.quotient_remainder(s, WIDTH, rows=20),
    "compositional per feature": lambda s: tables.quotient_remainder(s, WIDTH, rows=30, multiplexed=False),
    "compositional sum": lambda s: tables.quotient_remainder(s, WIDTH, rows=20, merge="sum"),
    "robe": lambda s: tables.robe(s, WIDTH, slots=90),
    "robe blocks": lambda s: tables.robe(s, WIDTH, slots=90, block=2, multiplexed=False),
    "tensor train": lambda s: tables.tensor_train(s, WIDTH, rank=3),
    "dhe": lambda s: tables.dhe(s, WIDTH, hidden=6, hashes=16, layers=2),
    "dhe normal": lambda s: tables.dhe(s, WIDTH, hidden=6, hashes=16, layers=1, encoding="normal"),
    "adapt_emb": lambda s: tables.adapt_emb(s, WIDTH, counts=counts_of(s), rows=7, top=0.2),
    "dedup": lambda s: tables.dedup(s, WIDTH, block=4, keep=-(-total(s) // 4)),
    "mgqe": lambda s: mgqe(s, WIDTH, parts=4, centres=12, rare=4, top=0.3),
    "dpq": lambda s: tables.dpq(s, WIDTH, parts=2, centres=5),
    "dpq softmax": lambda s: tables.dpq(s, WIDTH, parts=2, centres=5, mode="sx"),
    "int8": lambda s: tables.integer_table(s, WIDTH),
    "int16": lambda s: tables.integer_table(s, WIDTH, bits=16, step=0.001),
    "alpt": lambda s: tables.alpt(s, WIDTH),
    "narrow": lambda s: narrow(s, 3),
    "narrow in part": lambda s: narrow(s, 2.4),
    "mixed dimensions": lambda s: tables.mixed_dimensions(s, WIDTH, alpha=0.5),
    "autodim": lambda s: tables.autodim(s, WIDTH, widths=(2, 8)),
    "deeplight": keeping(tables.deeplight),
    "pep": keeping(tables.pep),
    "pep by value": keeping(functools.partial(tables.pep, threshold="value")),
    "autosrh": keeping(autosrh),
    "masked": masked,
}
INTEGERS = ("int8", "int16", "alpt")  # integer_update trains these
BUDGETS = {  # {name: (setting -> Method, options of within)} of methods with a setting that meets any budget
    "hash": (lambda rows: tables.hash_table(SIZES, WIDTH, rows=rows), {}),
    "compositional": (lambda rows: tables.quotient_remainder(SIZES, WIDTH, rows=rows), {}),
    "robe": (lambda slots: tables.robe(SIZES, WIDTH, slots=slots), {}),
    "adapt_emb": (
        lambda rows: tables.adapt_emb(SIZES, WIDTH, counts=counts_of(SIZES), rows=rows, top=0.1),
        {},
    ),
    "dedup": (lambda keep: tables.dedup(SIZES, WIDTH, block=1, keep=keep), {}),
    "mgqe": (lambda k: mgqe(SIZES, WIDTH, parts=2, centres=k, rare=16), {"high": 256}),
    "dpq": (lambda k: tables.dpq(SIZES, WIDTH, parts=2, centres=k), {"high": 256}),
    "deeplight": (lambda keep: tables.deeplight(SIZES, WIDTH, keep=keep), {}),
    "pep": (lambda keep: tables.pep(SIZES, WIDTH, keep=keep), {}),
    "autosrh": (lambda keep: autosrh(SIZES, WIDTH, keep=keep), {}),
    "mixed dimensions": (
        lambda alpha: tables.mixed_dimensions(SIZES, WIDTH, alpha=alpha),
        {"low": 0.0, "high": 1.0},
    ),
    "narrow": (
        lambda scale: tables.narrow_tables(SIZES, WIDTH, inner={"a": scale, "b": 2 * scale}),
        {"low": 0.5, "high": 8.0},
    ),
}


def example(sizes=None):
    """Ids of every shape that a batch has."""
    rng = np.random.default_rng(0)
    sizes = SIZES if sizes is None else sizes
    if isinstance(sizes, dict):
        return {"a": rng.integers(0, sizes["a"], 6), "b": rng.integers(0, sizes["b"], (6, 2))}
    return rng.integers(0, sizes, (6, 2))
