"""One case: what is measured, by which arms, and the rows that it gives."""

import gc
import types
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing

OURS, EAGER, COMPILED = "jaxembed", "torch", "torch.compile"
PARTS = ", its product", ", dense part"  # arms that do a part of a task, which have no share of its peak


class Case(NamedTuple):
    """One thing that is measured.

    Attributes:
        table: title of the table that gets the rows.
        task, size: what is done, and at which size.
        of, count: what one call handles, and how many of it.
        unit: in which products are done: "float32" at full precision, "tf32" as JAX does by default, or
            "bfloat16".
        flops, bytes: operations that a call must do; bytes that it must read and write.
        arms: makes {name: call}, ours first; those of torch begin with "torch".
        others: {arm: bytes} of arms that read and write something else.
        bound: largest relative difference of a peer's result from ours; None where they are not compared.
        note: what a reader must know.
        seconds: makes {name: seconds of a call}, in place of ``arms``.
    """

    table: str
    task: str
    size: str
    of: str
    count: int
    unit: str
    flops: float
    bytes: float
    arms: Callable | None
    bound: float | None = None
    note: str = ""
    seconds: Callable | None = None
    others: dict = {}


def difference(ours, theirs):
    """The relative difference of two arrays, or of the first of several: |ours - theirs| / |ours|.

    >>> print(difference(np.array([3.0, 4.0]), np.array([3.0, 4.5])))
    0.1
    """
    first, second = (x[0] if isinstance(x, tuple | list) else x for x in (ours, theirs))
    first, second = (np.asarray(x.float().cpu() if hasattr(x, "cpu") else x, float) for x in (first, second))
    return float(np.linalg.norm(first - second) / np.linalg.norm(first))


def rows_of(case, card, peer, cfg, compiled):
    """The rows of a case: one for each arm, an arm that fails with a note in place of numbers."""
    times, left_out, notes = {}, {}, {}
    try:
        times = _times(case, peer, cfg, card, compiled, left_out, notes) if case.arms else case.seconds()
    except Exception as error:  # a case that needs too much must not end the run
        left_out[OURS] = line_of(error)
    gc.collect()
    if peer:
        peer.forget()
    found, shown = [], {"task": case.task, "size": case.size}
    ours = next(iter(times.values()), None)  # None where the first arm failed
    for name, seconds in times.items():
        if seconds is None:
            continue
        moved, floor = case.others.get(name, case.bytes), card.floor(case, name)
        row = shown | {"arm": name, "per second": case.count / seconds, "of": case.of, "ms": 1e3 * seconds}
        row |= {"times ours": ours and seconds / ours, "GFLOP": case.flops / 1e9, "GB": moved / 1e9}
        row |= {"share of peak": floor / seconds} if floor and not name.endswith(PARTS) else {}
        note = "; ".join(filter(None, ("" if found else case.note, notes.get(name))))
        found.append(row | ({"note": note} if note else {}))
    return found + [shown | {"arm": name, "note": f"left out: {why}"} for name, why in left_out.items()]


def _times(case, peer, cfg, card, compiled, left_out, notes):
    """{arm: seconds, or None where it failed}; arms are called once, compared with ours, and take turns."""
    if peer:
        peer.torch.set_float32_matmul_precision("high" if case.unit == "tf32" else "highest")
    calls = case.arms()
    if not compiled and calls.pop(COMPILED, None) and cfg.compiled:
        left_out[COMPILED] = "the minutes are nearly over"
    waits = {n: peer.wait if n.startswith("torch") else timing.done for n in calls}
    names, mine, first, lost = list(calls), next(iter(calls)), None, {}
    for name, call in list(calls.items()):
        try:
            found = call()
            waits[name](found)
            if name == mine:
                first = found
            elif case.bound is not None and name.startswith("torch") and first is not None:
                apart = difference(first, found)
                if not apart <= case.bound:
                    notes[name] = f"differs by {apart:.1e} from our result, the bound is {case.bound:.0e}"
        except Exception as error:
            left_out[name] = line_of(error)
            del calls[name]
    found = first = None
    least = cfg.turn if card.gpu else 0.0
    times = timing.queued({n: (c, waits[n]) for n, c in calls.items()}, cfg.rounds, least, lost)
    left_out |= {name: line_of(error) for name, error in lost.items()}
    return {name: times.get(name) for name in names}


def late(make):
    """A call that is made when it is first called: what fails in making it is the failure of its arm."""
    made = []

    def call():
        if not made:
            made.append(make())
        return made[0]()

    return call


def line_of(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"


def find_torch(card):
    """What a case needs of torch on the same device, or None, with a line, where torch cannot use it."""
    torch = timing.optional("torch")
    if torch is None:
        return None
    gpu = card.gpu
    if gpu and not torch.cuda.is_available():
        print(f"torch {torch.__version__} is left out: it does not see {card.kind}", flush=True)
        return None
    torch.sparse.check_sparse_tensor_invariants.disable()

    def share(*arrays):
        """JAX arrays as tensors that read the same memory, where the device allows it."""
        found = []
        for x in arrays:
            try:
                found.append(torch.from_dlpack(x))
            except (BufferError, RuntimeError, TypeError, ValueError):
                found.append(torch.tensor(np.asarray(x), device="cuda" if gpu else "cpu"))
        return found

    def both(call):
        return {EAGER: call, COMPILED: late(lambda: torch.compile(call, dynamic=False))}

    def forget():
        torch.compiler.reset()
        if gpu:
            torch.cuda.empty_cache()

    def wait(_):
        if gpu:
            torch.cuda.synchronize()

    try:  # a build for other cards fails here, not in every case
        (x,) = share(jnp.ones((8, 8), jnp.bfloat16))
        wait(x @ x)
    except Exception as error:
        print(f"torch {torch.__version__} is left out: {line_of(error)}", flush=True)
        return None
    device = torch.device("cuda" if gpu else "cpu")
    return types.SimpleNamespace(torch=torch, device=device, share=share, both=both, forget=forget, wait=wait)
