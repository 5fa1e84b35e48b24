"""Timing side by side: what every benchmark measures with."""

import concurrent.futures
import contextlib
import ctypes
import importlib
import itertools
import math
import pathlib
import statistics
import time

import jax
import numpy as np


def optional(name):
    """A package to compare with, or None, with a line that says so, where it does not load."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        print(f"{name} is left out: {str(error)[:80]}; pip install 'jaxembed[peers]'", flush=True)
        return None


def in_turns(calls, rounds, block=1, warm=0):
    """Times functions in turn, again and again, so that a busy machine slows all of them equally.

    Args:
        calls: {name: function without arguments}; JAX arrays that it returns are waited for. Each is called
            once beforehand, which compiles it.
        rounds: turns of every function.
        block: calls in each turn.
        warm: calls before those of each turn that are not counted: threads of another package may still spin.

    Returns:
        {name: {"median", "least", "cpu"}}: seconds of one call, and the median of its processor time, which
        other work on the machine disturbs less.
    """
    wall, busy = {name: [] for name in calls}, {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(warm):
                jax.block_until_ready(call())
            for _ in range(block):
                start = time.perf_counter(), time.process_time()
                jax.block_until_ready(call())
                wall[name].append(time.perf_counter() - start[0])
                busy[name].append(time.process_time() - start[1])
    return {
        name: {"median": statistics.median(s), "least": min(s), "cpu": statistics.median(busy[name])}
        for name, s in wall.items()
    }


def in_pairs(base, calls, inputs, rounds):
    """Times functions beside one base, call by call: what slows a pair of calls slows both of it.

    Neither call of a pair sees the input of the one before, so that what one call leaves in the caches does
    not serve the next. Which of the two comes first changes from pair to pair.

    Args:
        base: ``input -> arrays`` that everything is compared with.
        calls: {name: ``input -> arrays``}. Each is called twice beforehand.
        inputs: several inputs, which are taken in turn.
        rounds: pairs of every function.

    Returns:
        {name: {"median": seconds of one call, "ratio": median of its time over that of its base, "low",
        "high": quartiles of those ratios, "cpu": median ratio of the processor times}}.
    """
    found, waiting = {name: [] for name in calls}, itertools.cycle(inputs)

    def once(call):
        x = next(waiting)
        start = time.perf_counter(), time.process_time()
        jax.block_until_ready(call(x))
        return time.perf_counter() - start[0], time.process_time() - start[1]

    for call in (base, *calls.values()):
        once(call), once(call)
    for i in range(rounds):
        for name, call in calls.items():
            pair = [once(c) for c in ((base, call) if i % 2 else (call, base))]
            found[name].append(pair if i % 2 else pair[::-1])
    return {name: _compared(np.asarray(pairs)) for name, pairs in found.items()}


def _compared(pairs):
    """What :func:`in_pairs` says of pairs [rounds, base and call, wall and processor seconds]."""
    ratios = pairs[:, 1] / np.maximum(pairs[:, 0], 1e-9)
    low, middle, high = np.quantile(ratios[:, 0], (0.25, 0.5, 0.75))
    cpu = np.median(ratios[:, 1])
    found = {"median": np.median(pairs[:, 1, 0]), "ratio": middle, "low": low, "high": high, "cpu": cpu}
    return {key: float(value) for key, value in found.items()}


def equations(jaxpr, kinds, times=1):
    """Pairs (equation, how often it runs) of a traced function: those of some primitives, loops unrolled."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in kinds:
            yield eqn, times
        inside = times * eqn.params.get("length", 1) if eqn.primitive.name == "scan" else times
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner, kinds, inside)


def reads(function, *arguments):
    """What a function gathers: places that it reads, and their bytes.

    >>> import jax.numpy as jnp
    >>> print(reads(lambda table, rows: table[rows], jnp.zeros((100, 16)), jnp.array([7, 8])))
    (2, 128)

    Args:
        function: ``arguments -> arrays`` that can be traced.
        arguments: arrays, or trees of arrays.

    Returns:
        (places, bytes); neighbours that one slice reads are one place. Gathers of columns do not count.
    """
    places = size = 0
    for eqn, times in equations(jax.make_jaxpr(function)(*arguments).jaxpr, ("gather",)):
        operand, slices = eqn.invars[0].aval, eqn.params["slice_sizes"]
        if slices[0] == operand.shape[0] > 1:
            continue
        out = eqn.outvars[0].aval
        places += times * (out.size // math.prod(slices))
        size += times * out.size * out.dtype.itemsize
    return places, size


def done(found):
    """Waits for what a call returned: JAX arrays, and threads that prepare the next call."""
    for leaf in jax.tree.leaves(jax.block_until_ready(found)):
        if isinstance(leaf, concurrent.futures.Future):
            leaf.result()


def queued(calls, rounds, least=0.0, lost=None):
    """Times functions in turn where calls follow one another and the last of a turn is waited for.

    An accelerator works through a queue, so waiting for each call would add the way there and back to it.

    Args:
        calls: {name: (call, wait)}: ``wait(what a call returned)`` returns when that call is done. Each is
            called twice beforehand: the first call compiles, the second says how many a turn takes.
        rounds: turns of every function.
        least: seconds that a turn takes at least; with 0 it is one call.
        lost: optional dict that gets {name: error} of calls that raise; the others go on.

    Returns:
        {name: median seconds of one call}.
    """
    counts, seconds = {}, {name: [] for name in calls}

    def turn(name, count):
        call, wait = calls[name]
        start = time.perf_counter()
        for _ in range(count):
            found = call()
        wait(found)
        return (time.perf_counter() - start) / count

    @contextlib.contextmanager
    def apart(name):
        try:
            yield
        except Exception as error:
            if lost is None:
                raise
            lost[name] = error
            del seconds[name]

    for name in calls:
        with apart(name):
            turn(name, 1)
            counts[name] = max(1, min(1000, round(least / turn(name, 1))))
    for _ in range(rounds):
        for name in list(seconds):
            with apart(name):
                seconds[name].append(turn(name, counts[name]))
    return {name: statistics.median(s) for name, s in seconds.items()}


def middle(sizes):
    """The middle one of some sizes, at which a summary compares.

    >>> print(middle((512, 32, 128)), middle((1, 16)))
    128 16
    """
    return sorted(sizes)[len(sizes) // 2]


def compared(task, peer, ours, theirs, *, rate):
    """A row of a summary: our number and that of a peer.

    >>> print(compared("lookup, M ids/s", "torch", 50.0, 100.0, rate=True)["ratio"])
    0.5

    Args:
        task: what was measured, with the unit.
        peer: name of the other package.
        ours, theirs: numbers above 0.
        rate: True where more is faster (texts per second), False where less is (milliseconds).

    Returns:
        Dict; "ratio" is how many times as fast as the peer we are, above 1 where we are faster.
    """
    ratio = ours / theirs if rate else theirs / ours
    return {"task": task, "peer": peer, "ours": ours, "theirs": theirs, "ratio": ratio}


def peak_growth(run):
    """Bytes by which resident memory at its peak exceeds what it was before; None where Linux is not."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier call freed is not hidden growth
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
        jax.block_until_ready(run())
        return max(0, _resident("VmHWM") - before)
    except (OSError, AttributeError):
        jax.block_until_ready(run())
        return None


def program_bytes(compiled):
    """Bytes that a compiled program needs beside its arguments and what it writes back into them."""
    memory = compiled.memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes


def _resident(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))
