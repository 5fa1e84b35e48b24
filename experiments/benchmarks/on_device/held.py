"""What the library is held to on a card whose peaks are known, as claims of our own."""

import functools

from experiments.benchmarks.on_device.cards import DATASHEET
from experiments.benchmarks.on_device.cases import COMPILED, EAGER, OURS
from experiments.shared.results import Claim, holds

ADAGRAD, SPARSE = f"{OURS}, Adagrad", "torch, sparse Adagrad"


def ratios(numbers, table, peers, ours=OURS, task=""):
    """How many times as fast as the fastest of some peers we are, for each task and size of a table."""
    found = {}
    for row in numbers.get(table, ()):
        if "ms" in row and task in row["task"]:
            found.setdefault((row["task"], row["size"]), {})[row["arm"]] = row["ms"]
    pairs = [(t.get(ours), [t[p] for p in peers if p in t]) for t in found.values()]
    return [min(theirs) / mine for mine, theirs in pairs if mine and theirs]


def asked(sentence, least, values):
    """A claim that the least of some values is at least a number; not asked where no peak is known."""

    def answer(numbers):
        found = values(numbers) if numbers.get("peaks from") == DATASHEET else []
        return holds(min(found) >= least, min(found)) if found else None

    return Claim("", sentence, answer)


def shares(numbers):
    rows = [r for r in numbers.get("exact search", ()) if r["arm"] == OURS and "ms" in r]
    return [r["share of peak"] for r in rows if r["size"].startswith("1 at")]


def flatness(numbers):
    """The quickest table step of all heights divided by the slowest."""
    rows = numbers.get("embedding tables", ())
    times = [r["ms"] for r in rows if r["arm"] == ADAGRAD and "ms" in r]
    return [min(times) / max(times)] if len(times) > 1 else []


def over_product(numbers):
    return ratios(numbers, "token sets", [f"{OURS}, its product"])


encoding = functools.partial(ratios, table="encoding", peers=[COMPILED], task="bfloat16")
training = functools.partial(ratios, table="training", peers=[EAGER, COMPILED])
steps = functools.partial(ratios, table="embedding tables", peers=[SPARSE], ours=ADAGRAD)

CLAIMS = (
    asked("on a GPU, encoding in bfloat16 is at least as fast as torch.compile", 1.0, encoding),
    asked("on a GPU, a training step is at least 0.9 times as fast as torch", 0.9, training),
    asked("on a GPU, encoding token sets takes at most 1.5 times its product", 1 / 1.5, over_product),
    asked("on a GPU, one query's exact search reads at 0.6 of the memory's peak or faster", 0.6, shares),
    asked("on a GPU, the time of a table step varies by at most 1.3 between heights", 1 / 1.3, flatness),
    asked("on a GPU, a table step is at least 3 times as fast as torch's sparse Adagrad", 3.0, steps),
)
