"""How fast does a U-Net train and draw compared with torch, and how near is it to XLA's products alone?

    python -m experiments.benchmarks.diffusion                # compares with torch where it is installed
    python -m experiments.benchmarks.diffusion --rounds 2 --batch-size 4

3 minutes on 2 CPU cores. The network is ADM's U-Net on 32 x 32 x 3, the same parameters on both sides; a run
stops where the losses differ. A step is the denoising loss, its gradient and SGD. Drawing is DDIM. "products"
are the convolutions and matrix products of the same program, as XLA runs them: the floor.
Arms take turns in one process.

"guidance" compares one doubled batch with two calls of the network. "canvas" draws large images by windows
that overlap: milliseconds of a window and a step should not depend on how many there are.
"""

import dataclasses
import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import diffusion_arms, timing
from experiments.shared import flags, results
from jaxembed import diffusion, encoders

TORCH = importlib.util.find_spec("torch") is not None
GROUPS, HEADS, SIDE = 8, 4, 32
TABLE = diffusion.schedule("linear", 1000)
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Config:
    """Times the training of a U-Net, and drawing with it."""

    base: int = 32  # channels of the first level, divisible by 8
    batch_size: int = 16
    sampling_steps: int = 10
    canvases: tuple[int, ...] = (48, 64, 96)  # sides of large images
    rounds: int = 5
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        limits = {"base": (8, 1024), "batch_size": (1, 1024), "sampling_steps": (1, 1000)}
        flags.check(self, limits | {"canvases": (32, 4096), "rounds": (1, 1000)}, {"base": 8})


@functools.lru_cache(maxsize=1)
def network(base):
    """The U-Net and its parameters, none of them zeros."""
    net = encoders.unet(base, (1, 2, 2), channels=3, attention=(4,), heads=HEADS, groups=GROUPS)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, KEY)
    return net, jax.tree.map(
        lambda x: jnp.asarray(
            0.5 * rng.normal(size=x.shape) / np.sqrt(max(1, np.prod(x.shape[:-1]))), jnp.float32
        ),
        shapes,
    )


def batch_of(count):
    """(noisy images, steps, targets)."""
    rng = np.random.default_rng(1)
    x, target = rng.normal(size=(2, count, SIDE, SIDE, 3)).astype(np.float32)
    return x, rng.integers(1000, size=count).astype(np.int32), target


def training(cfg):
    net, params = network(cfg.base)
    x, t, target = (jnp.asarray(v) for v in batch_of(cfg.batch_size))

    def loss(params, x, t, target):
        return jnp.mean((net.denoise(params, x, t) - target) ** 2)

    def step(params, x, t, target):
        value, slope = jax.value_and_grad(loss)(params, x, t, target)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, slope), value

    run, held = jax.jit(step), [params]

    def once():
        held[0], value = run(held[0], x, t, target)
        return value

    calls = {"jaxembed": once, "products": diffusion_arms.products(step, params, x, t, target)}
    if TORCH:
        calls["torch"] = torch_step(cfg, net, params, (x, t, target))
        pairs = [[float(calls[name]()) for _ in range(2)] for name in ("jaxembed", "torch")]
        if not np.allclose(*pairs, rtol=2e-3):
            raise RuntimeError(f"the losses differ: {pairs}")
    return lines("step", timing.in_turns(calls, cfg.rounds, warm=1), cfg.batch_size)


def torch_step(cfg, net, params, batch):
    """A function that takes one step in torch, from our weights, and returns its loss."""
    import torch

    model = diffusion_arms.TorchUNet(net, params, GROUPS, HEADS)
    x, t, target = (torch.tensor(np.array(v)) for v in batch)
    x, target = (v.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) for v in (x, target))
    rule = torch.optim.SGD(model.leaves(), lr=0.01)

    def once():
        rule.zero_grad()
        value = ((model(x, t) - target) ** 2).mean()
        value.backward()
        rule.step()
        return float(value.detach())

    return once


def drawing(cfg):
    """Images per second of DDIM: ours, torch's loop, and the products of as many forward passes."""
    net, params = network(cfg.base)
    shape = (cfg.batch_size, SIDE, SIDE, 3)
    options = {"prediction": "v", "spacing": "trailing", "steps": cfg.sampling_steps, "clip": 1.0}
    run = jax.jit(
        lambda params, start: diffusion.sample(
            net.denoise, params, TABLE, None, shape, start=start, **options
        )
    )
    start = jax.random.normal(KEY, shape)
    one = diffusion_arms.products(net.denoise, params, start, jnp.zeros(shape[0]))
    calls = {
        "jaxembed": lambda: run(params, start),
        "products": lambda: [one() for _ in range(cfg.sampling_steps)][-1],
    }
    if TORCH:
        calls["torch"] = torch_drawing(cfg, net, params, start)
        ours, theirs = (np.asarray(calls[name]()) for name in ("jaxembed", "torch"))
        if not np.allclose(ours, theirs, atol=1e-2):
            raise RuntimeError(f"the images differ by {np.abs(ours - theirs).max()}")
    return lines("drawing", timing.in_turns(calls, max(1, cfg.rounds // 2)), cfg.batch_size)


def torch_drawing(cfg, net, params, start):
    import torch

    model = diffusion_arms.TorchUNet(net, params, GROUPS, HEADS)
    visited = diffusion.timesteps(1000, cfg.sampling_steps, "trailing")
    signal, noise = (
        np.append(np.asarray(TABLE[name]), end) for name, end in (("signal", 1.0), ("noise", 0.0))
    )

    def once():
        x = torch.tensor(np.array(start)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            for t, p in zip(visited, np.append(visited[1:], -1), strict=True):
                v = model(x, torch.full((len(x),), int(t)))
                x0 = (float(signal[t]) * x - float(noise[t]) * v).clip(-1, 1)
                e = (x - float(signal[t]) * x0) / float(noise[t])
                x = float(signal[p]) * x0 + float(noise[p]) * e
        return x.permute(0, 2, 3, 1).numpy()

    return once


def guidance(cfg):
    """Milliseconds of one guided prediction: a doubled batch, and two calls of the network."""
    net = encoders.unet(
        cfg.base, (1, 2, 2), channels=3, attention=(4,), heads=HEADS, groups=GROUPS, classes=11
    )
    params = net.init(KEY)
    x, t, _ = (jnp.asarray(v) for v in batch_of(cfg.batch_size))
    own, null = ({"class": jnp.full(len(x), n)} for n in (3, 10))
    doubled = jax.jit(diffusion.guided(net.denoise, 2.0, {"class": jnp.int32(10)}))
    alone = jax.jit(net.denoise)
    calls = {
        "one doubled batch": lambda: doubled(params, x, t, own),
        "two calls": lambda: 2 * alone(params, x, t, own) - alone(params, x, t, null),
    }
    return lines("guidance", timing.in_turns(calls, cfg.rounds), cfg.batch_size)


def canvas(cfg):
    """Milliseconds of a window and a step for canvases of several sides."""
    net, params = network(cfg.base)
    calls, counts = {}, {}
    for side in cfg.canvases:
        options = {"window": SIDE, "stride": SIDE // 2, "prediction": "v", "spacing": "trailing", "steps": 2}
        run = jax.jit(
            functools.partial(
                diffusion.sample_canvas,
                net.denoise,
                schedule=TABLE,
                key=KEY,
                shape=(side, side, 3),
                **options,
            )
        )
        calls[f"{side} x {side}"] = functools.partial(run, params)
        counts[f"{side} x {side}"] = len(diffusion.window_origins((side, side), SIDE, SIDE // 2))
    times = timing.in_turns(calls, max(1, cfg.rounds // 2))
    return [
        {"what": "canvas", "arm": name, "windows": counts[name], "ms": 1e3 * t["median"] / 2 / counts[name]}
        for name, t in times.items()
    ]


def lines(what, times, count):
    """Rows of the report: medians, images per second, and how many times as long as ours a call takes."""
    ours = next(iter(times.values()))["median"]
    return [
        {
            "what": what,
            "arm": name,
            "ms": 1e3 * t["median"],
            "images/s": count / t["median"],
            "times ours": t["median"] / ours,
        }
        for name, t in times.items()
    ]


def compiled(cfg):
    """How many programs drawing other numbers of images compiled, in blocks of one size."""
    net, params = network(cfg.base)

    @jax.jit
    def block(params, key):
        return diffusion.sample(
            net.denoise, params, TABLE, key, (4, SIDE, SIDE, 3), prediction="v", spacing="trailing", steps=1
        )

    for count in (4, 8, 20):
        for n in range(0, count, 4):
            block(params, jax.random.fold_in(KEY, n))
    return [{"what": "programs", "arm": "4, 8 and 20 images", "count": block._cache_size()}]


def summary(cfg, rows):
    """Ours beside torch and beside the products alone."""
    found, names = [], {"step": "U-Net step, images/s", "drawing": "DDIM, images/s"}
    for what, title in names.items():
        rates = {row["arm"]: row["images/s"] for row in rows if row["what"] == what}
        for peer, name in (("torch", "torch"), ("products", "XLA's products alone")):
            if peer in rates:
                found.append(timing.compared(title, name, rates["jaxembed"], rates[peer], rate=True))
    both = {row["arm"]: row["ms"] for row in rows if row["what"] == "guidance"}
    found.append(
        timing.compared(
            "guided prediction, ms", "two calls", both["one doubled batch"], both["two calls"], rate=False
        )
    )
    return found


def run(cfg):
    if not TORCH:
        print("torch is not installed; pip install 'jaxembed[peers]' to compare with it", flush=True)
    rows = []
    for part in (training, drawing, guidance, canvas, compiled):
        flags.stage(part.__name__)
        rows += part(cfg)
    tables = {}
    for row in rows:
        tables.setdefault(row["what"], []).append(row)
    return results.Result({"summary": summary(cfg, rows)} | tables)


if __name__ == "__main__":
    results.main("benchmarks.diffusion", Config, run)
