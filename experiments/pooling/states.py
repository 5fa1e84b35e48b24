"""The token states of texts, read once from a frozen encoder; heads are trained on them, and judged by them.

States are {"tokens": float16 [N, T, W], "mask": bool [N, T], "keys": int32 [N]}, a row for each of N texts;
equal texts have equal keys. Everywhere else a text is a row number.
"""

import functools

import jax
import numpy as np

from experiments.shared import text_models
from jaxembed import arrays, data


def read_states(encoder, texts, length, width=None, rows=64):
    """Runs a text encoder once over all texts and keeps the states of their tokens.

    Of the D numbers of a state the W principal directions are kept. They are measured around 0 on up to
    1,024 texts, so that cosines change as little as they can.

    Args:
        encoder: of ``encoders.pretrained``.
        texts: N texts.
        length: tokens of a text, at most as many as the encoder reads.
        width: W; None keeps all D.
        rows: texts that are encoded at once.

    Returns:
        (states, kernel [D, W], the map that made them narrow).
    """
    batch = encoder.tokenize(texts, prompt="", length=min(length, encoder.max_length))

    def run(chosen):
        full = np.resize(chosen, rows)  # repeats texts to fill the last batch
        tokens, mask = encoder.encode_tokens(encoder.params, text_models.take(batch, full))
        return np.asarray(tokens)[: len(chosen)], np.asarray(mask)[: len(chosen)]

    parts = np.split(np.arange(len(texts)), range(rows, len(texts), rows))
    sample = np.random.default_rng(0).permutation(len(texts))[:1024]
    found = [run(part) for part in np.split(sample, range(rows, len(sample), rows))]
    flat = np.concatenate([tokens[mask] for tokens, mask in found]).astype(np.float64)
    if width is not None and width > flat.shape[1]:
        raise ValueError(f"--width {width}: token states have {flat.shape[1]} numbers; choose at most that")
    kernel = np.linalg.eigh(flat.T @ flat)[1][:, ::-1][:, :width].astype(np.float32)
    tokens = np.empty((*batch["ids"].shape, kernel.shape[1]), np.float16)
    for part in parts:
        tokens[part] = run(part)[0] @ kernel
    return {"tokens": tokens, "mask": batch["mask"], "keys": data.hashed(texts).astype(np.int32)}, kernel


def pooled(apply, params, states, rows, size=500):
    """Unit vectors [n, W] of n texts by a pooling.

    Args:
        apply: ``(params, tokens [B, T, W], mask [B, T]) -> [B, W]``.
        params: of the pooling.
        states: of all texts.
        rows: int [n], which texts.
        size: texts that are pooled at once.
    """
    run, found = _jitted(apply), []
    for start in range(0, len(rows), size):
        part = np.asarray(rows[start : start + size])
        batch = text_models.take(states, np.resize(part, size))  # repeats texts to fill the last batch
        found.append(np.asarray(arrays.unit(run(params, batch["tokens"], batch["mask"])))[: len(part)])
    return np.concatenate(found)


@functools.lru_cache
def _jitted(apply):
    return jax.jit(apply)
