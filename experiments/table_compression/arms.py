"""The methods of the comparison: how each is made for a budget, and what its training needs beside Adam."""

import functools

from experiments.table_compression import training
from experiments.table_compression.training import WIDTH
from jaxembed import tables


def makers(task, budget):
    """{method: () -> tables.Method} at a budget in bytes; each raises ValueError where it does not fit."""
    sizes, counts = task.sizes, task.counts
    draw = {"initialiser": training.uniform}

    def solved(make, **options):
        return functools.partial(tables.within, make, budget, **options)

    return {
        "hash": solved(lambda n: tables.hash_table(sizes, WIDTH, rows=n, **draw)),
        "CompoEmb": solved(lambda n: tables.quotient_remainder(sizes, WIDTH, rows=n)),
        "ROBE": solved(lambda n: tables.robe(sizes, WIDTH, numbers=n, **draw)),
    }
