"""Functions that turn a loss on vectors into a loss on parts of them."""


def matryoshka(loss, sizes, weights=None):
    """Turns a loss on vectors into the weighted sum of that loss on their prefixes.

    ``nested(*vectors) = sum_i weights[i] * loss(*(v[..., :sizes[i]] for v in vectors))``

    Truncation comes first; a loss on cosines then normalises each prefix by itself.

    >>> import jax.numpy as jnp
    >>> from jaxembed.losses import info_nce
    >>> loss = matryoshka(info_nce, sizes=(2, 4))
    >>> vectors = jnp.eye(4)
    >>> print(loss(vectors, vectors, temperature=1.0).astype("float16"))
    [1.487 1.487 2.13  2.13 ]

    Args:
        loss: ``loss(*vectors, **options) -> [B]`` on arrays [..., D].
        sizes: prefix widths, each at most D.
        weights: one number per size (default 1 each); an array may be traced, so that a sampler
            key -> weights chooses sizes without recompiling.

    Returns:
        A loss of the same signature.

    Raises:
        ValueError: for no sizes, a size below 1, weights of another length, and, when called, for vectors
            narrower than the largest size.

    References:
        A. Kusupati et al., Matryoshka Representation Learning, arXiv:2205.13147.
    """
    sizes = tuple(sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes={sizes}: at least one, each at least 1")
    weights = (1.0,) * len(sizes) if weights is None else weights
    if len(weights) != len(sizes):
        raise ValueError(f"weights: {len(weights)} for {len(sizes)} sizes")

    def nested(*vectors, **options):
        narrow = min(v.shape[-1] for v in vectors)
        if narrow < max(sizes):
            raise ValueError(f"sizes: {max(sizes)} is above the width {narrow} of the vectors")
        return sum(
            weights[i] * loss(*(v[..., :size] for v in vectors), **options) for i, size in enumerate(sizes)
        )

    return nested
