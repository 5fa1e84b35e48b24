"""Penalties on the classifiers that choose among the senses of a word."""

import jax.numpy as jnp
import optax

from jaxembed.arrays import accumulator, on_device


def sense_penalty(params, words=None, *, l1=0.0, l2=0.0, parallel=0.0, huber=False):
    """Penalties on sense classifiers: weights that are large, and senses that are chosen by like contexts.

    ``l1 sum |A| + l2 / 2 sum A**2 + parallel / K sum over j != k of (A'A)[j, k]**2`` with A [D, K] the
    classifier of a word, or of all words. Senses whose columns are orthogonal pay nothing of the last term.
    Add it to :func:`sense_loss`; the published runs have none of the three.

    >>> kernel = jnp.array([[[1.0, 1.0], [0.0, 2.0]]])
    >>> params = {"classifier": {"kernel": kernel}}
    >>> print(sense_penalty(params, jnp.array([0]), l1=1.0), sense_penalty(params, parallel=1.0))
    [4.] [1.]

    Args:
        params: of :func:`init_senses`.
        words: optional int [B], the words of a batch; all V words when None. A shared classifier has no words
            of its own and leaves them out.
        l1, l2, parallel: weights of the three terms; may be traced.
        huber: the last term takes Huber's loss of the products: half their square up to 1, a line beyond.

    Returns:
        [B] or [V]; a number for a shared classifier.

    References:
        K. Grzegorczyk and M. Kurdziel, EMNLP 2018, aclanthology.org/D18-1174, whose released code has them
        as options and adds them up over a batch.
    """
    kernel = params["classifier"]["kernel"]
    if words is not None and kernel.ndim == 3:
        kernel = kernel[on_device("words", words)]
    wide = kernel.astype(accumulator(kernel))
    senses = wide.shape[-1]
    products = jnp.einsum("...dj,...dk->...jk", wide, wide, precision="highest")
    apart = jnp.where(jnp.eye(senses, dtype=bool), 0, products)
    each = optax.losses.huber_loss(apart) if huber else apart**2
    sizes = l1 * jnp.abs(wide) + 0.5 * l2 * wide**2
    return jnp.sum(sizes, axis=(-2, -1)) + parallel / senses * jnp.sum(each, axis=(-2, -1))
