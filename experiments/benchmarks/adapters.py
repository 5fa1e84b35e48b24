"""How fast is a training step of adapters of low rank, beside a full step and beside torch with PEFT?

    python -m experiments.benchmarks.adapters      # compares with torch and PEFT where they are installed

3 minutes on 2 CPU cores and 3 GB. all-MiniLM-L6-v2 in float32, InfoNCE within the batch, AdamW, no dropout,
the same texts of 64 tokens on both sides. Adapters of rank 8 stand beside all kernels of the blocks. Arms
take turns in one process. "trained" counts the numbers that are trained, "state MB" is what AdamW remembers
of them, "temporary MB" what the compiled step needs beside its arguments. "towers" reads the memory of a step
of two towers off the compiled program: encoded in chunks of one size, it should not grow with the batch.

Papers: LoRA (arXiv:2106.09685), DoRA (arXiv:2402.09353), GradCache (arXiv:2101.06983).
"""

import dataclasses
import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import timing
from experiments.benchmarks.text import make_batch, read_texts
from experiments.shared import flags, results, text_models
from jaxembed import data, encoders, losses, train, weights

KERNELS = "^blocks/.*kernel$"
TORCH = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("transformers") is not None
PEFT = TORCH and importlib.util.find_spec("peft") is not None
MODULES = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Times training steps of a text encoder, and reads the memory of towers."""

    model: pathlib.Path | None = None  # folder of a text encoder; None takes that of `make data`
    pairs: int = 16  # of a step; 32 take 5 GB in sum
    length: int = 64  # tokens of a text
    rank: int = 8
    texts: int = 64
    rounds: int = 7
    tower_batches: tuple[int, ...] = (64, 256, 1024)  # pairs whose memory is read
    chunk: int = 64  # pairs of a chunk
    results: pathlib.Path | None = None  # folder of the numbers; default: results beside this file

    def __post_init__(self):
        limits = {"pairs": (2, 4096), "length": (4, 512), "rank": (1, 384), "texts": (2, 10**5)}
        limits |= {"rounds": (1, 1000), "tower_batches": (64, 10**6), "chunk": (1, 4096)}
        flags.check(self, limits)
        if any(size % self.chunk for size in self.tower_batches):
            raise ValueError(f"--tower-batches: --chunk {self.chunk} has to divide each; choose multiples")


def loss_of(encode):
    def loss_fn(params, batch, key):
        vectors = encode(params, batch)
        half = len(vectors) // 2
        return jnp.mean(losses.info_nce(vectors[:half], vectors[half:])), {}

    return loss_fn


def arms(cfg, encoder):
    """{name: (what is trained, loss of it, what stays)}."""
    whole = jax.tree.map(jnp.array, encoder.params)
    found = {"full": (whole, loss_of(encoder.encode), None)}
    for name, magnitudes in (("LoRA", False), ("DoRA", True)):
        made = weights.init_low_rank(jax.random.key(0), whole, KERNELS, cfg.rank, magnitudes=magnitudes)

        def loss_fn(adapters, batch, key, frozen):
            loss, metrics = loss_of(encoder.encode)(weights.low_rank(frozen, adapters, 2.0), batch, key)
            return loss, (metrics, frozen)

        found[name] = (made, loss_fn, whole)
    return found


def our_step(trained, loss_fn, frozen, batch):
    """(function of one step, temporary bytes, bytes of the optimiser's state)."""
    init, update = train.gradient_update(loss_fn, optax.adamw(2e-5))
    trained, frozen = (jax.tree.map(jnp.copy, x) for x in (trained, frozen))
    held = [train.TrainState(jnp.int32(0), trained, init(trained), frozen)]
    size = sum(x.nbytes for x in jax.tree.leaves(held[0].opt_state))
    step = jax.jit(update, donate_argnums=0).lower(held[0], batch, jax.random.key(0)).compile()

    def once():
        held[0], metrics = step(held[0], batch, jax.random.key(0))
        return metrics

    return once, timing.program_bytes(step), size


def peer_step(cfg, folder, batch, name):
    """One step in torch: all parameters, or PEFT's adapters."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    if name != "full":
        import peft

        options = {"r": cfg.rank, "lora_alpha": 2 * cfg.rank, "target_modules": MODULES}
        model = peft.get_peft_model(model, peft.LoraConfig(**options, use_dora=name == "DoRA"))
    model.eval()
    rule = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-5)
    ids, mask = (torch.tensor(np.array(batch[key])).long() for key in ("ids", "mask"))

    def once():
        rule.zero_grad()
        states = model(input_ids=ids, attention_mask=mask)[0]
        vectors = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors = torch.nn.functional.normalize(vectors, dim=1)
        scores = vectors[: cfg.pairs] @ vectors[cfg.pairs :].T / 0.05
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(cfg.pairs))
        loss.backward()
        rule.step()
        return float(loss.detach())

    return once


def steps(cfg, encoder, folder):
    """Rows of every arm in both packages, timed in turns."""
    batch = jax.device_put(make_batch(cfg, encoder, read_texts(cfg.texts), cfg.pairs))
    calls, rows = {}, {}
    for name, (trained, loss_fn, frozen) in arms(cfg, encoder).items():
        calls["jaxembed", name], temporary, state = our_step(trained, loss_fn, frozen, batch)
        numbers = {"trained": sum(x.size for x in jax.tree.leaves(trained)), "state MB": state / 1e6}
        rows["jaxembed", name] = numbers | {"temporary MB": temporary / 1e6}
        if TORCH if name == "full" else PEFT:
            calls["torch", name] = peer_step(cfg, folder, batch, name)
    times = timing.in_turns(calls, cfg.rounds)
    found = []
    for (package, name), t in times.items():
        whole = times[package, "full"]
        row = {"arm": name, "package": package, "ms": 1e3 * t["median"], "least ms": 1e3 * t["least"]}
        row |= {"times full": t["median"] / whole["median"], "CPU ms": 1e3 * t["cpu"]}
        found.append(row | rows.get((package, name), {}))
    return found


def towers(cfg):
    """Temporary memory of a step of two towers, whole and in chunks of one size."""
    model = encoders.multimodal(1000, 192, patches=16, length=24, width=128, layers=4, heads=4)
    cut = functools.partial(data.image_patches, size=8)
    both = encoders.shared_encoder(model, cut)
    params, rows = jax.eval_shape(both.init, jax.random.key(0)), []
    for size in cfg.tower_batches:
        images = jax.ShapeDtypeStruct((size, 32, 32, 3), np.float32)
        ids = jax.ShapeDtypeStruct((size, 16), np.int32)
        row = {"pairs": size}
        for name, chunks in (("whole", 0), ("cached", size // cfg.chunk)):
            encode = [both.encode_images, both.encode_texts]
            encode = [losses.cached(f, chunks) for f in encode] if chunks else encode

            def loss(params, images, ids, encode=encode):
                texts = {"ids": ids, "mask": ids > 0}
                return jnp.mean(losses.info_nce(encode[0](params, images), encode[1](params, texts)))

            step = jax.jit(jax.grad(loss)).lower(params, images, ids).compile()
            row[f"{name}, temporary MB"] = step.memory_analysis().temp_size_in_bytes / 1e6
        rows.append(row | {"pictures MB": size * 32 * 32 * 3 * 4 / 1e6})
    return rows


def by_title(rows):
    """Rows as tables of their own: {title: rows}."""
    return {"steps": [r for r in rows if "package" in r], "towers": [r for r in rows if "pairs" in r]}


def summary(cfg, rows):
    """Our steps beside those of torch, and our adapters beside our full step."""
    ms = {(row["package"], row["arm"]): row["ms"] for row in by_title(rows)["steps"]}
    peers = {"full": "torch", "LoRA": "torch + PEFT", "DoRA": "torch + PEFT"}
    found = [
        timing.compared(f"training step, {arm}, ms", peers[arm], ms["jaxembed", arm], theirs, rate=False)
        for (package, arm), theirs in ms.items()
        if package == "torch"
    ]
    full = ms["jaxembed", "full"]
    return found + [
        timing.compared(f"training step, {arm}, ms", "our full step", ms["jaxembed", arm], full, rate=False)
        for arm in ("LoRA", "DoRA")
    ]


def run(cfg):
    folder, encoder = text_models.find_model(cfg.model), text_models.load(cfg.model)
    if not PEFT:
        print("torch, transformers or peft is not installed; those arms are left out", flush=True)
    flags.stage("times steps")
    rows = steps(cfg, encoder, folder)
    flags.stage("reads the memory of towers")
    rows += towers(cfg)
    return results.Result({"summary": summary(cfg, rows)} | by_title(rows))


if __name__ == "__main__":
    results.main("benchmarks.adapters", Config, run)
