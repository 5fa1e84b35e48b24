"""Learned embeddings in JAX.

One idea: every paper on learned embeddings is a short composition of a few general pure functions.
The rooms, in the order in which a piece of data walks through them::

    data      records -> batches            tables    ids -> vectors
    encoders  batches -> vectors            losses    vectors -> one loss per example
    train     losses -> checkpoints         vectors   vectors -> vectors or compact codes
    search    vectors -> ranks              metrics   ranks, scores, vectors -> numbers
    weights   parameters -> parameters      diffusion vectors <-> images
    recipes   whole walks in one call

``from jaxembed import losses`` imports that room alone.
"""

__version__ = "0.1.0"
