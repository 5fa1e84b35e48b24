"""Arms of the benchmark of images that are not the net: mining of triplets, boxes over maps."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing
from jaxembed import encoders, losses, metrics
from jaxembed.arrays import inner, unit

VISION = importlib.util.find_spec("torchvision") is not None
PEER = "torchvision"


def lines(what, times, count):
    """Rows of the report: medians, pieces per second, and how many times as long as ours a call takes."""
    ours = next(iter(times.values()))
    return [
        {
            "what": what,
            "arm": name,
            "ms": 1e3 * t["median"],
            "per second": count / t["median"],
            "times ours": t["median"] / ours["median"],
            "least times ours": t["least"] / ours["least"],
        }
        for name, t in times.items()
    ]


def mining(step, batch, identities, width, rounds):
    """A training step of a batch, and what mining its triplets takes: of each rule, distances included."""
    rng = np.random.default_rng(0)
    labels = jnp.asarray(np.repeat(np.arange(identities), -(-batch // identities))[:batch])
    centres = rng.normal(size=(identities, width))[np.asarray(labels)]
    vectors = unit(jnp.asarray(centres + rng.normal(size=centres.shape), jnp.float32))
    pairs = losses.label_pairs(labels)

    def mined(vectors, pairs, rule):
        distances = 2 - 2 * inner(vectors, vectors)
        key = jax.random.key(0)
        return losses.mine_triplets(distances, pairs["positives"], rule=rule, where=pairs["where"], key=key)

    calls = {f"training step of {batch:,} pictures": step}
    for rule in ("semi_hard", "hardest", "margin_violating", "all"):
        call = jax.jit(functools.partial(mined, rule=rule))
        calls[f"mining, {rule}"] = functools.partial(call, vectors, pairs)
    times = timing.in_turns(calls, rounds)
    whole = times[next(iter(times))]
    return [
        {
            "what": "mining",
            "arm": name,
            "ms": 1e3 * t["median"],
            "share of a step": t["median"] / whole["median"],
        }
        for name, t in times.items()
    ]


def make_boxes(count, side):
    """Boxes [N, 4] inside a picture, and scores [N]."""
    rng = np.random.default_rng(0)
    corners = rng.random((count, 2)) * side * 0.8
    sizes = side * (0.02 + 0.18 * rng.random((count, 2)))
    return np.concatenate([corners, corners + sizes], 1).astype(np.float32), rng.random(count).astype("f4")


def regions(boxes, rounds, side=800, channels=256, cells=7):
    """RoIAlign of some boxes over maps at a stride of 16, and non-maximum suppression of them."""
    places, scores = make_boxes(boxes, side)
    shape = (1, side // 16, side // 16, channels)
    maps = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    align = jax.jit(functools.partial(encoders.roi_align, size=cells, scale=1 / 16))
    keep = jax.jit(functools.partial(metrics.nms, limit=0.5))
    given = jnp.asarray(maps), jnp.asarray(places[None])
    aligned = {"jaxembed": functools.partial(align, *given)}
    kept = {"jaxembed": functools.partial(keep, given[1][0], jnp.asarray(scores))}
    if VISION:
        import torch
        from torchvision import ops

        there, rows = torch.tensor(maps.transpose(0, 3, 1, 2).copy()), torch.tensor(places)
        theirs, ranks = [rows], torch.tensor(scores)
        options = {"spatial_scale": 1 / 16, "sampling_ratio": 2, "aligned": True}
        aligned[PEER] = lambda: ops.roi_align(there, theirs, cells, **options).numpy()
        kept[PEER] = lambda: ops.nms(rows, ranks, 0.5).numpy()
        same(aligned, kept)
    return [
        *lines(f"roi_align, {boxes:,} boxes of {cells} x {cells}", timing.in_turns(aligned, rounds), boxes),
        *lines(f"nms, {boxes:,} boxes", timing.in_turns(kept, rounds), boxes),
    ]


def same(aligned, kept):
    """Refuses to time two functions whose results differ."""
    ours, theirs = (np.asarray(aligned[name]()) for name in ("jaxembed", PEER))
    if not np.allclose(ours[0].transpose(0, 3, 1, 2), theirs, atol=1e-3):
        raise RuntimeError("the regions of roi_align differ")
    index, valid = (np.asarray(x) for x in kept["jaxembed"]())
    if index[valid].tolist() != kept[PEER]().tolist():
        raise RuntimeError("the boxes that nms keeps differ")
