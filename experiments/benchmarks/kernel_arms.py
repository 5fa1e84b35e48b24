"""Arms of the benchmark of kernels: mining of channels beside patches, and training steps of pruned nets."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import timing
from jaxembed import encoders, losses, train, vectors, weights

CLASSES, CHANNELS, PATCHES, PATCH = 8, 24, 64, 16
MINED = {"size": 2, "min_support": 0.01, "min_precision": 0.1}
SHARES = (1.0, 0.75, 0.5, 0.25)


def lines(what, times, count, ours):
    """Rows of a comparison; "times ours" is to the arm of that name."""
    return [
        {"what": what, "arm": arm, "ms": 1e3 * t["median"], "least ms": 1e3 * t["least"]}
        | {"pictures per second": count / t["median"], "times ours": t["median"] / times[ours]["median"]}
        for arm, t in times.items()
    ]


def mining(count, rounds):
    """Patterns of the channels of whole pictures, and rules of the channels of 64 patches of each."""
    net = encoders.convnet([16, CHANNELS, CHANNELS], norm=None, inputs=1)
    params, rng = net.init(jax.random.key(0)), np.random.default_rng(0)
    images = jnp.asarray(rng.random((count, 48, 48, 1)), jnp.float32)
    labels, every = np.arange(count) % CLASSES, np.tile(np.arange(CHANNELS), (CLASSES, 1))
    corners = jnp.asarray(rng.integers(48 - PATCH + 1, size=(count, PATCHES, 2)))
    last = jax.jit(lambda images: net.maps(params, images)[-1])

    @jax.jit
    def patch_peaks(images, corners):
        def cut(image, corner):
            return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (PATCH, PATCH, 1))

        patches = jax.vmap(lambda image, places: jax.vmap(lambda p: cut(image, p))(places))(images, corners)
        return vectors.channel_peaks(net.maps(params, patches.reshape(-1, PATCH, PATCH, 1))[-1])

    def channels():
        maps = last(images)
        limits = vectors.channel_thresholds(vectors.channel_peaks(maps), labels, quantile=0.7)
        return vectors.mine_patterns(maps, labels, limits, every, **MINED)

    def patches():
        parts = [patch_peaks(images[i : i + 50], corners[i : i + 50]) for i in range(0, count, 50)]
        active = vectors.top_active(jnp.concatenate(parts), 5)
        return vectors.association_rules(active, np.repeat(labels, PATCHES), every, **MINED)

    times = timing.in_turns({"channels": channels, "patch miner": patches}, rounds)
    return lines("mining", times, count, "channels")


def pruned_steps(batch_size, rounds):
    """Training steps of a net with a share of the filters of every layer, beside its multiply-accumulates."""
    net = encoders.convnet([32, 64, 128], norm="batch", width=10)
    tree, rng = net.init(jax.random.key(0)), np.random.default_rng(0)
    images = rng.random((batch_size, 32, 32, 3)).astype(np.float32)
    batch = {"images": images, "labels": rng.integers(10, size=batch_size).astype(np.int32)}
    graph = encoders.channel_graph(tree)
    picture = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)

    def loss_fn(params, batch, key, state):
        logits, state = net.encode(params, batch["images"], state=state, train=True)
        return losses.softmax_loss(logits, positives=batch["labels"]).mean(), ({}, state)

    update, calls, macs = train.gradient_update(loss_fn, optax.sgd(0.01)), {}, {}
    for share in SHARES:
        sizes = weights.channel_sizes(tree, graph)
        keep = {name: np.arange(int(size * share)) for name, size in sizes.items() if name != "images"}
        params, extra = weights.prune(tree, graph, keep)
        name = f"{share:g} of the filters"
        macs[name] = weights.count_macs(lambda p, s, x: net.encode(p, x, state=s), params, extra, picture)
        calls[name] = _stepper(update, params, extra, jax.device_put(batch))
    whole = f"{SHARES[0]:g} of the filters"
    rows = lines("pruned step", timing.in_turns(calls, rounds, block=2, warm=1), batch_size, whole)
    return [
        row | {"MACs": macs[row["arm"]], "MACs, of whole": macs[row["arm"]] / macs[whole]} for row in rows
    ]


def _stepper(update, params, extra, batch):
    state = train.TrainState(jnp.int32(0), params, update[0](params), extra)
    compiled = jax.jit(update[1]).lower(state, batch, jax.random.key(0)).compile()
    held = [state]

    def once():
        held[0], metrics = compiled(held[0], batch, jax.random.key(0))
        return metrics["loss"]

    return once
