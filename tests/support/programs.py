"""What compiled programs exchange between devices, read from their text."""

import re

import numpy as np

COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)


def collectives(text):
    """(operation, shape of its result) of each exchange between devices."""
    return sorted((kind, re.sub(r"\{[^}]*\}", "", shape)) for shape, kind, _ in COLLECTIVE.findall(text))


def elements(shape):
    sizes = [np.prod([int(n) for n in dims.split(",") if n]) for dims in re.findall(r"\[([\d,]*)\]", shape)]
    return int(sum(sizes))
