"""What experiments with a text encoder share: which one, its input, what is said of a user's pairs."""

import time

import jax
import numpy as np

from experiments.shared import inputs
from jaxembed import data, encoders, metrics, train


def find_model(folder=None):
    """Returns the folder of the text encoder: the one given, or that of the installed package."""
    found = inputs.installed_model() if folder is None else folder
    if found is None:
        raise ValueError("--model: no encoder is installed; run `make data`, or name the folder of a model")
    return found


def load(folder=None, name="model", **options):
    """Opens a text encoder, or the installed one; an error names the flag of the field ``name``."""
    try:
        return encoders.pretrained.load(find_model(folder), **options)
    except (ValueError, OSError) as error:
        if folder is None:
            raise
        kind = ValueError if isinstance(error, ValueError) else FileNotFoundError
        raise kind(f"--{name}: {error}") from error


def print_reading(mask, count, seen):
    """Prints what training reads of a user's pairs, by the mask [..., T] of all texts: cuts and repeats."""
    share, length = np.asarray(mask).all(axis=-1).mean(), mask.shape[-1]
    print(f"{share:.0%} of the texts reach --length {length} tokens and may be cut there", flush=True)
    print(f"training takes {seen:,} pairs, {seen / count:.1f} times the {count:,} of the file", flush=True)


def save_trained(encoder, workdir, what):
    """Writes an encoder to a new folder under ``workdir`` and prints what it is."""
    folder = workdir / f"encoder-{time.time_ns() // 10**6}"
    encoder.save(folder)
    print(f"wrote {folder}: {what}", flush=True)
    return folder


def similarity(folder):
    """A function ``encode_texts -> Spearman correlation`` on the test pairs of STS-B in a folder."""
    pairs = data.sentence_pairs(folder / inputs.STS["test"])

    def score(encode_texts):
        found = metrics.evaluate_similarity(encode_texts, pairs["first"], pairs["second"], pairs["scores"])
        return found["spearman"]

    return score


def mesh_for(size):
    """None, all devices, where they divide a batch of ``size`` rows evenly; else a mesh of one device."""
    return train.make_mesh(1) if size % jax.device_count() else None


def take(batch, rows):
    """Rows of every array of a batch."""
    return {name: np.asarray(x)[rows] for name, x in batch.items()}
