"""What a device can do at best: peaks of known cards; on others what a product and a copy reach."""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmarks.on_device.cases import Case

# TFLOP/s of dense products in float32, in float32 as TensorFloat-32 (the default of JAX on these cards) and
# in bfloat16, and GB/s of memory: NVIDIA's datasheets of the cards, whose rates with sparsity are halved. A
# T4 has no units for the latter two.
PEAKS = {
    "NVIDIA H200": (66.9, 494.7, 989.4, 4800),
    "NVIDIA H100 80GB HBM3": (66.9, 494.7, 989.4, 3350),
    "NVIDIA H100 PCIe": (51.2, 378, 756, 2000),
    "NVIDIA A100-SXM4-80GB": (19.5, 156, 312, 2039),
    "NVIDIA A100-SXM4-40GB": (19.5, 156, 312, 1555),
    "NVIDIA A100 80GB PCIe": (19.5, 156, 312, 1935),
    "NVIDIA A100-PCIE-40GB": (19.5, 156, 312, 1555),
    "NVIDIA L40S": (91.6, 183, 362, 864),
    "NVIDIA L4": (30.3, 60, 121, 300),
    "Tesla T4": (8.1, 8.1, 8.1, 320),
}
UNITS = "float32", "tf32", "bfloat16"
DATASHEET = "datasheet"


class Card(NamedTuple):
    """A device: its name, peaks {unit: operations per second, "memory": bytes per second}, and room.

    ``source`` says where the peaks are from, and ``room`` how many bytes a case may take.
    """

    kind: str
    peaks: dict
    source: str
    room: float

    @property
    def gpu(self):
        return self.kind != "cpu"

    def floor(self, case, arm=""):
        """The least seconds of an arm: its operations or its bytes at their peak; None without a peak."""
        if not {case.unit, "memory"} <= self.peaks.keys():
            return None
        moved = case.others.get(arm, case.bytes)
        return max(case.flops / self.peaks[case.unit], moved / self.peaks["memory"])

    def fitting(self, wanted, bytes_of, what):
        """The wanted size, halved until there is room for it, and a note that says so."""
        size = wanted
        while bytes_of(size) > self.room and size > 1:
            size //= 2
        if size == wanted:
            return size, ""
        need, room = bytes_of(wanted) / 1e9, self.room / 1e9
        return size, f"not {wanted:,} {what}: they take {need:.3g} GB, there is room for {room:.3g}"


def find(memory=None):
    """The device of this process; ``memory`` in GB is what may be used, None what is free."""
    device = jax.devices()[0]
    known, kind = PEAKS.get(device.device_kind), device.device_kind
    room = _free(device) if memory is None else 1e9 * memory
    if known is None:
        return Card(kind, {}, "a product and a copy that were measured here", room)
    *rates, bandwidth = known
    peaks = {unit: 1e12 * rate for unit, rate in zip(UNITS, rates, strict=True)}
    return Card(kind, peaks | {"memory": 1e9 * bandwidth}, DATASHEET, room)


def _free(device):
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return 0.9 * stats["bytes_limit"]
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        return 512 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration):
        return 4e9


def ceilings(cfg, card, peer):
    """Cases: one large product in every unit, and a copy."""
    n, count = cfg.product, cfg.copied

    def drawn(dtype):
        return [jax.random.normal(jax.random.key(i), (n, n), dtype) for i in range(2)]

    def product(unit):
        dtype = jnp.bfloat16 if unit == "bfloat16" else jnp.float32
        precision, (x, y) = "highest" if unit == "float32" else "default", drawn(dtype)
        ours = jax.jit(lambda x, y: jnp.matmul(x, y, precision=precision))
        theirs = peer.share(x, y) if peer else ()
        return {"jaxembed": lambda: ours(x, y)} | ({"torch": lambda: theirs[0] @ theirs[1]} if peer else {})

    def copy():
        x, ours = jnp.ones(count, jnp.float32), jax.jit(lambda x: x + 1)
        theirs = peer.share(x) if peer else ()
        return {"jaxembed": lambda: ours(x)} | ({"torch": lambda: theirs[0] + 1} if peer else {})

    for unit in UNITS:
        size = {"bfloat16": 2}.get(unit, 4) * 3 * n * n
        where = "product", f"{n:,} x {n:,}, {unit}", "products", 1, unit
        yield Case("ceilings", *where, 2 * n**3, size, lambda unit=unit: product(unit))
    yield Case("ceilings", "copy", f"{count:,} numbers", "copies", 1, "float32", count, 8 * count, copy)


def measured(card, rows):
    """The card with peaks that rows of :func:`ceilings` reached, where it has none of its own."""
    if card.peaks:
        return card
    best = {}
    for row in (r for r in rows if r.get("ms")):
        name = row["size"].rpartition(", ")[2] if row["task"] == "product" else "memory"
        rate = row["GB"] * 1e9 if name == "memory" else row["GFLOP"] * 1e9
        best[name] = max(best.get(name, 0), rate / (row["ms"] / 1e3))
    return card._replace(peaks=best)
