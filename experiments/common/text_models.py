"""Moved to ``experiments.shared.text_models``; ``tokens`` is ``Encoder.tokenize(texts, length=)``."""

from experiments.shared.text_models import (  # noqa: F401
    find_model,
    keys,
    load,
    mesh_for,
    save_trained,
    sides,
    similarity,
    take,
    told,
)
from jaxembed.ragged import pad


def tokens(encoder, texts, length):
    """Ids of texts at one length, special tokens among them: {"ids": int32 [N, length], "mask": bool}."""
    side = encoder.tokenizer.truncation["direction"]
    encoder.tokenizer.enable_truncation(length, direction=side)
    try:
        rows = [e.ids for e in encoder.tokenizer.encode_batch(list(texts))]
    finally:
        encoder.tokenizer.enable_truncation(encoder.max_length, direction=side)
    ids, mask = pad(rows, length)
    return {"ids": ids, "mask": mask}
