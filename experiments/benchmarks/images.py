"""How fast does a convolutional net train compared with torch, and what holds it up: files, mining, boxes?

    python -m experiments.benchmarks.images                # compares with torch where it is installed
    python -m experiments.benchmarks.images --rounds 2 --pictures 64

4 minutes on 2 CPU cores. The net has three stages of convolutions with batch norm and ReLU, a mean over
places and a dense layer; pictures are 32 x 32. A step is forward, backward and SGD on the softmax loss over
10 classes, with the same weights on both sides; a run stops where the losses differ. "convolutions" are those
of the net alone, forward and backward, as XLA runs them: the floor of a step. Arms take turns in one process.

"decoding" brings JPEG files of 256 x 256 to the size of the net. "from files" is ``train.fit`` with pictures
that are decoded for each batch while the step before it runs; "from memory" has them as an array. "in front"
is what it would take if each step waited for its files: the sum of memory and decoding alone. On a CPU the
decoding takes processor time from the step. "augmentation" is that of ``encoders.augment``, inside the step.

"mining" picks the negatives of a batch of 1,800 pictures, 40 of each identity, from vectors of 128 numbers.
It is compared with the training step of the same net on as many pictures. "regions" cuts boxes out of maps
of 50 x 50 x 256 and suppresses those that overlap, beside torchvision where it is installed.

Paper: FaceNet, arXiv:1503.03832.
"""

import dataclasses
import functools
import importlib.util
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import image_arms, timing
from experiments.benchmarks.image_arms import lines
from experiments.shared import flags, results
from jaxembed import data, encoders, losses, train
from jaxembed.encoders.conv_layers import convolve

PEER = "torch"
TORCH = importlib.util.find_spec("torch") is not None
CLASSES = 10
CHANGES = {"shift": 2, "flip": True, "brightness": 0.2, "contrast": 0.2}


@dataclasses.dataclass(frozen=True)
class Config:
    """Times the training of a convolutional net, and the decoding of its pictures."""

    stages: tuple[int, ...] = (32, 64, 128)
    batch_size: int = 128
    size: int = 32  # side of the pictures
    pictures: int = 256  # files that are decoded
    steps: int = 20  # of a run from files
    mined: int = 1800  # pictures of a batch whose triplets are mined; 0 leaves it out
    boxes: int = 1000  # over maps
    rounds: int = 5
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        limits = {"batch_size": (2, 4096), "size": (8, 512), "pictures": (16, 10**5), "steps": (2, 10**4)}
        limits |= {"mined": (0, 10**4), "boxes": (2, 10**5)}
        flags.check(self, limits | {"rounds": (1, 1000), "stages": (1, 4096)})


def net_of(cfg):
    return encoders.convnet(cfg.stages, norm="batch", width=CLASSES)


def make_batch(cfg, count):
    rng = np.random.default_rng(0)
    images = rng.random((count, cfg.size, cfg.size, 3)).astype(np.float32)
    return {"images": images, "labels": rng.integers(CLASSES, size=count).astype(np.int32)}


@functools.lru_cache
def update_of(cfg, changes=()):
    """The update of a training step; ``changes`` are options of ``augment``."""
    net = net_of(cfg)

    def loss_fn(params, batch, key, state):
        images = encoders.augment(key, batch["images"], **dict(changes))
        logits, state = net.encode(params, images, state=state, train=True)
        return jnp.mean(losses.softmax_loss(logits, positives=batch["labels"])), ({}, state)

    return train.gradient_update(loss_fn, optax.sgd(0.01))


# Training


def stepper(cfg, batch, changes=()):
    """A function that takes one step and returns its loss."""
    (params, extra), update = net_of(cfg).init(jax.random.key(0)), update_of(cfg, changes)
    state = train.TrainState(jnp.int32(0), params, update[0](params), extra)
    compiled = jax.jit(update[1], donate_argnums=0).lower(state, batch, jax.random.key(0)).compile()
    held = [state]

    def once():
        held[0], metrics = compiled(held[0], batch, jax.random.key(0))
        return jax.block_until_ready(metrics["loss"])

    return once


def convolutions(cfg, batch):
    """A function that does the convolutions of a step, forward and backward, and nothing else."""
    params, _ = net_of(cfg).init(jax.random.key(0))
    kernels = [params["stages"][f"stage_{i}"]["kernel"] for i in range(len(cfg.stages))]

    @jax.jit
    def run(kernels, images):
        def total(kernels):
            x = images
            for i, kernel in enumerate(kernels):
                x = convolve(kernel, x, stride=2 if i else 1)
            return jnp.sum(x)

        return jax.grad(total)(kernels)

    images = jnp.asarray(batch["images"])
    return lambda: run(kernels, images)


def peer_step(cfg, batch):
    """A function that takes one step in torch, from our weights, and returns its loss."""
    import torch

    params, _ = net_of(cfg).init(jax.random.key(0))
    layers, inputs = [], 3
    for i, channels in enumerate(cfg.stages):
        conv = torch.nn.Conv2d(inputs, channels, 3, 2 if i else 1, padding=1, bias=False)
        kernel = np.asarray(params["stages"][f"stage_{i}"]["kernel"]).transpose(3, 2, 0, 1)
        conv.weight = torch.nn.Parameter(torch.tensor(kernel.copy()))
        layers += [conv, torch.nn.BatchNorm2d(channels), torch.nn.ReLU()]
        inputs = channels
    dense = torch.nn.Linear(inputs, CLASSES)
    dense.weight = torch.nn.Parameter(torch.tensor(np.array(params["dense"]["kernel"]).T.copy()))
    dense.bias = torch.nn.Parameter(torch.zeros(CLASSES))
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), dense]
    model = torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)
    rule = torch.optim.SGD(model.parameters(), lr=0.01)
    images = torch.tensor(batch["images"].transpose(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)
    labels = torch.tensor(batch["labels"].astype(np.int64))

    def once():
        rule.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        rule.step()
        return float(loss.detach())

    return once


def training(cfg):
    batch = jax.device_put(make_batch(cfg, cfg.batch_size))
    host = jax.tree.map(np.asarray, batch)
    calls = {
        "jaxembed": stepper(cfg, batch),
        "convolutions": convolutions(cfg, batch),
        "with augmentation": stepper(cfg, batch, tuple(CHANGES.items())),
    }
    if TORCH:
        calls[PEER] = peer_step(cfg, host)
        ours, theirs = ([float(calls[name]()) for _ in range(3)] for name in ("jaxembed", PEER))
        if not np.allclose(ours, theirs, rtol=1e-3):
            raise RuntimeError(f"the losses differ: {ours} and {theirs}")
    times = timing.in_turns(calls, cfg.rounds, block=2, warm=1)
    return lines("training step", times, cfg.batch_size)


# Files


def write_files(cfg, folder):
    """JPEG files of 256 x 256: smooth pictures with some noise, which compress like photographs."""
    from PIL import Image

    rng, places = np.random.default_rng(0), []
    for i in range(cfg.pictures):
        coarse = rng.integers(256, size=(8, 8, 3)).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        places.append(pathlib.Path(folder, f"{i}.jpg"))
        Image.fromarray(noisy).save(places[-1], quality=90)
    return places


def decoding(cfg, places):
    calls = {
        "all threads": lambda: data.read_images(places, cfg.size)[0],
        "one thread": lambda: data.read_images(places, cfg.size, workers=1)[0],
        "Pillow in a loop": lambda: [plain(place, cfg.size) for place in places],
    }
    return lines("decoding", timing.in_turns(calls, max(1, cfg.rounds // 2)), len(places))


def plain(place, size):
    from PIL import Image

    with Image.open(place) as picture:
        return np.asarray(picture.convert("RGB").resize((size, size)))


def run_seconds(cfg, batches):
    """Seconds of a step of ``train.fit``, compiling left out."""
    fit = functools.partial(train.fit, init=net_of(cfg).init, update=update_of(cfg), progress=False)
    mesh = train.make_mesh(1)
    fit(batches=batches, steps=2, mesh=mesh)
    start = time.perf_counter()
    jax.block_until_ready(fit(batches=batches, steps=cfg.steps, mesh=mesh).params)
    return (time.perf_counter() - start) / cfg.steps


def from_files(cfg, places):
    """Seconds of a step with pictures from memory, from files beside it, and of decoding alone."""
    labels = make_batch(cfg, cfg.batch_size)["labels"]
    stored = data.read_images(places, cfg.size)[0]

    def take(rows, read):
        return {"images": read(rows).astype(np.float32) / 255, "labels": labels[: len(rows)]}

    def batches(read):
        make = functools.partial(take, read=read)
        return data.batches(np.arange(len(places)), cfg.batch_size, make=make)

    decoded = batches(lambda rows: data.read_images([places[row] for row in rows], cfg.size)[0])
    start = time.perf_counter()
    for step in range(cfg.steps):
        decoded[step]
    alone = (time.perf_counter() - start) / cfg.steps
    memory = run_seconds(cfg, batches(lambda rows: stored[rows]))
    seconds = {
        "from memory": memory,
        "from files, beside the step": run_seconds(cfg, decoded),
        "decoding alone": alone,
        "from files, in front (sum)": memory + alone,
    }
    return [
        {"what": "training run", "arm": arm, "ms": 1e3 * s, "per second": cfg.batch_size / s}
        | {"times ours": s / memory, "least times ours": None}
        for arm, s in seconds.items()
    ]


def by_title(rows):
    """Rows as tables of their own: {title: rows}."""
    titles = {"training step": "training", "training run": "from files"}
    found = {}
    for row in rows:
        title = "regions" if "boxes" in row["what"] else titles.get(row["what"], row["what"])
        found.setdefault(title, []).append(row)
    return found


def summary(cfg, rows):
    """Our pieces per second beside those of another package."""
    rates = {(row["what"], row["arm"]): row["per second"] for row in rows if "per second" in row}
    return [
        timing.compared(f"images, {what}, per second", peer, rates[what, "jaxembed"], rate, rate=True)
        for (what, peer), rate in rates.items()
        if peer in (PEER, image_arms.PEER)
    ]


def run(cfg):
    if not TORCH:
        print("torch is not installed; pip install 'jaxembed[peers]' to compare", flush=True)
    flags.stage("times training")
    rows = training(cfg)
    with tempfile.TemporaryDirectory() as folder:
        flags.stage("times files")
        places = write_files(cfg, folder)
        rows += decoding(cfg, places) + from_files(cfg, places)
    if cfg.mined:
        flags.stage("times mining")
        step = stepper(cfg, jax.device_put(make_batch(cfg, cfg.mined)))
        identities = max(2, cfg.mined // 40)
        rows += image_arms.mining(step, cfg.mined, identities, 128, max(1, cfg.rounds // 2))
    flags.stage("times boxes")
    rows += image_arms.regions(cfg.boxes, cfg.rounds)
    return results.Result({"summary": summary(cfg, rows)} | by_title(rows))


if __name__ == "__main__":
    results.main("benchmarks.images", Config, run)
