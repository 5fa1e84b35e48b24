"""How fast is the library on an accelerator, beside what the card can do and beside torch on the same card?

    python -m experiments.benchmarks.device                       # one GPU, about 5 minutes
    python -m experiments.benchmarks.device --only encode tables --results path/to/folder
    python -m experiments.benchmarks.device --quick               # toy sizes, also on a CPU

In a checkout it runs as it is, on a machine without network too. It needs jax, flax, optax, orbax-checkpoint,
numpy, safetensors and tokenizers. Torch is compared where it is installed, as it is and through
``torch.compile``. Weights of text encoders are drawn. Without an accelerator only --quick runs.

Laws come first: compiled functions against NumPy, and bfloat16 within a bound. Then every row is printed
when it is done, and the file of results is written anew. What is left when the minutes are over is named. A
size for which there is no memory is halved, and its row says so.

Arms of a task take turns, but for ``fit``, which is one run. The calls of a turn follow one another and the
last is waited for. "share of peak" is the least time that the card needs for the operations or the bytes of
a call, divided by the measured time. Peaks are those of the datasheet; of a card without one, those of a
product and a copy that are measured first. Operations are those that the task needs, padding included, not
those that a program repeats. Text encoders and DCN-V2 multiply float32 as JAX does by default, which is
TensorFloat-32 on recent cards; torch does the same. All other products of float32 are at full precision on
both sides.
"""

import dataclasses
import functools
import gc
import itertools
import os
import pathlib
import time
from typing import Literal

from experiments import layout
from experiments.benchmarks import timing
from experiments.benchmarks.on_device import cards, cases, laws, sets, steps, texts
from experiments.benchmarks.on_device.held import CLAIMS, SPARSE
from experiments.shared import flags, results

Part = Literal["encode", "train", "tables", "search", "sets", "chamfer", "codes", "clicks", "fit"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Times the library on one accelerator."""

    only: tuple[Part, ...] = ()  # parts that are measured; none names all
    minutes: float = 5.0  # after which no case begins
    memory: float | None = None  # GB that a case may take; None is what is free
    compiled: bool = True  # also torch.compile
    models: tuple[str, ...] = ("MiniLM", "BERT-base")  # sizes of text encoders; the first is trained
    tokens: tuple[int, ...] = (16, 64, 256)  # of a text that is encoded
    batch: int = 65_536  # tokens of a call that encodes
    train_pairs: int = 4096  # of a training step
    length: int = 32  # tokens of a text in training
    chunks: int = 8  # of a step with cached gradients
    looped: int = 256  # pairs of a step inside fit
    steps: int = 100  # of fit
    repetitions: int = 20
    planes: int = 5
    projected: int = 16
    width: int = 128  # of token vectors
    set_tokens: tuple[int, ...] = (32, 128, 512)
    set_batch: int = 262_144  # tokens of a call that encodes sets
    candidates: int = 16_384  # documents that Chamfer compares
    documents: tuple[int, ...] = (1_000_000, 100_000)  # of exact search
    widths: tuple[int, ...] = (256, 10_240)  # of their vectors
    queries: tuple[int, ...] = (1, 16, 256)  # at a time
    k: int = 100
    codes: int = 1_000_000
    code_bytes: int = 32  # of a product code
    scans: tuple[int, ...] = (1, 16)  # queries of a search of codes
    heights: tuple[int, ...] = (100_000, 1_000_000, 10_000_000, 100_000_000)  # rows of a table
    lookups: int = 16_384  # samples of a table step
    fields: int = 26
    row_width: int = 16
    values: int = 100_000  # distinct values in the stream
    samples: int = 8192  # of a step of DCN-V2
    model_rows: int = 1_000_000
    hidden: tuple[int, ...] = (512, 512)
    product: int = 8192  # side of the matrices that show what products reach
    copied: int = 2**28  # numbers that show what a copy reaches
    rounds: int = 7
    turn: float = 0.03  # seconds of a turn on an accelerator
    quick: bool = False  # toy sizes
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        counts = {f.name for f in dataclasses.fields(self) if isinstance(f.default, int | tuple)}
        limits = dict.fromkeys(counts - {"only", "models", "compiled", "quick"}, (1, 10**9))
        limits |= {"minutes": (0.05, 1000), "memory": (0, 10**6), "turn": (0, 60), "rounds": (1, 1000)}
        limits |= {"tokens": (1, 512), "length": (1, 512), "chunks": (2, 10**6), "steps": (20, 10**6)}
        flags.check(self, limits)
        if len(self.documents) != len(self.widths):
            raise ValueError("--documents, --widths: give as many widths as numbers of documents")
        for name in self.models:
            if name not in texts.FORMS:
                raise ValueError(f"--models {name}: choose of {', '.join(texts.FORMS)}")


QUICK = {"compiled": False, "models": ("toy",), "tokens": (4, 8), "batch": 64, "train_pairs": 8, "length": 4}
QUICK |= {"chunks": 2, "looped": 4, "steps": 30, "repetitions": 2, "planes": 2, "projected": 4, "width": 8}
QUICK |= {"set_tokens": (4, 8), "set_batch": 64, "candidates": 20, "documents": (300,), "widths": (16,)}
QUICK |= {"queries": (1, 4), "k": 5, "codes": 500, "code_bytes": 4, "scans": (1, 2), "heights": (300, 600)}
QUICK |= {"lookups": 16, "fields": 3, "values": 100, "samples": 16, "model_rows": 300, "hidden": (8,)}
QUICK |= {"product": 64, "copied": 2**12, "rounds": 2}


def parts_of(cfg):
    """(name, maker of cases) of every part, what matters most first."""
    first, rest = cfg.models[:1], cfg.models[1:]
    found = [
        ("encode", functools.partial(texts.encoding, names=first)),
        ("train", functools.partial(texts.training, names=first)),
        ("tables", steps.table_steps),
        ("search", sets.searches),
        ("sets", sets.encodings),
        ("chamfer", sets.chamfers),
        ("codes", sets.code_searches),
        ("clicks", steps.click_models),
        ("fit", functools.partial(texts.looping, names=first)),
        ("encode", functools.partial(texts.encoding, names=rest)),
    ]
    return [part for part in found if not cfg.only or part[0] in cfg.only]


def run(cfg):
    began = time.perf_counter()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory too
    card = cards.find(cfg.memory)
    if not card.gpu and not cfg.quick:
        raise ValueError("no accelerator is here; --quick measures toy sizes on a CPU")
    peer = cases.find_torch(card)
    gc.freeze()  # what was imported is not looked through after every case; Ctrl-C is lost while it is
    print(f"{card.kind}; peaks: {card.source}; room for {card.room / 1e9:.1f} GB", flush=True)
    found, details = {}, {"device": card.kind, "peaks from": card.source, "left out": []}
    details |= {"torch": peer and peer.torch.__version__}

    def left():
        return 60 * cfg.minutes - (time.perf_counter() - began)

    def result():
        tables = {"summary": summary(cfg, list(itertools.chain(*found.values())))} | found
        return results.Result({k: list(v) for k, v in tables.items() if v}, details, cfg)

    def cases_of(name, made):
        try:
            yield from made
        except Exception as error:  # a part whose cases cannot be made must not end the run
            details["left out"].append(f"{name}: {cases.line_of(error)}")
            print(f"left out: {details['left out'][-1]}", flush=True)

    def measured(name, made):
        for case in cases_of(name, made):
            if left() < 0.05 * 60 * cfg.minutes:
                details["left out"].append(f"{case.task}, {case.size}")
                print(f"left out, the minutes are over: {details['left out'][-1]}", flush=True)
                continue
            rows = cases.rows_of(case, card, peer, cfg, cfg.compiled and left() > 0.2 * 60 * cfg.minutes)
            found.setdefault(case.table, []).extend(rows)
            print(f"[{time.perf_counter() - began:.0f} s] {layout.table(rows)}\n", flush=True)
            yield result()

    found["laws"] = laws.check(laws.of_encoder(functools.partial(texts.load, cfg.models[0]), texts.LOW))
    yield result()
    yield from measured("ceilings", cards.ceilings(cfg, card, peer))
    card = cards.measured(card, found.get("ceilings", ()))
    for name, part in parts_of(cfg):
        yield from measured(name, part(cfg, card, peer))
    details["peaks"] = card.peaks
    gc.unfreeze()
    yield result()


def summary(cfg, rows):
    """Our rates beside those of torch, of each task at the middle of its sizes."""
    sizes, rates, mine, made = {}, {}, {}, []
    for row in rows:
        if "per second" in row:
            sizes.setdefault(row["task"], {})[row["size"]] = row["of"]
            rates[row["task"], row["size"], row["arm"]] = row["per second"]
            if row["times ours"]:  # else the first arm, with which others compare, has failed
                mine.setdefault((row["task"], row["size"]), row["per second"])
    for task, known in sizes.items():
        size = list(known)[len(known) // 2]
        arms = [arm for t, s, arm in rates if (t, s) == (task, size)]
        ours, what = mine.get((task, size)), f"{task}, {size}, {known[size]}/s"
        for arm in (a for a in arms if ours and a in (cases.EAGER, cases.COMPILED, SPARSE)):
            made.append(timing.compared(what, arm, ours, rates[task, size, arm], rate=True))
    return made


if __name__ == "__main__":
    results.main("benchmarks.device", Config, run, CLAIMS, quick=QUICK)
