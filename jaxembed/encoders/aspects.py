"""One vector of a document for each aspect: a trunk with heads, separate encoders, or anything between."""

import jax
import jax.numpy as jnp
import numpy as np


def init_aspects(init, key, count, *, own=None):
    """Aspect encoders: draws the parameters of an encoder in which some parts differ by aspect.

    >>> def init(key):
    ...     return {"trunk": jnp.ones((4, 3)), "head": jax.random.normal(key, (3, 2))}
    >>> params = init_aspects(init, jax.random.key(0), 3, own=("head",))
    >>> print(sorted(params["shared"]), params["own"]["head"].shape)
    ['trunk'] (3, 3, 2)

    Args:
        init: ``key -> params`` of the encoder of one aspect, a dict.
        key: random key; aspect a draws from ``fold_in(key, a)``, the shared parts are those of aspect 0.
        count: the number A of aspects.
        own: names at the top of the dict that each aspect has for itself. () is one encoder for all; the name
            of the head alone is one trunk with A heads; None takes all names: A separate encoders.

    Returns:
        {"shared": the other entries, "own": the named ones, each array with a leading [A]}.

    Raises:
        ValueError: for fewer than one aspect, or a name that the params lack.
    """
    if count < 1:
        raise ValueError(f"count: {count} aspects; pass at least one")
    first = init(jax.random.fold_in(key, 0))
    own = tuple(first) if own is None else tuple(own)
    if set(own) - set(first):
        raise ValueError(f"own: {sorted(set(own) - set(first))[0]!r} is not among {sorted(first)}")
    drawn = jax.vmap(lambda a: init(jax.random.fold_in(key, a)))(jnp.arange(count))
    shared = {name: x for name, x in first.items() if name not in own}
    return {"shared": shared, "own": {name: drawn[name] for name in own}}


def encode_aspects(encode, params, batch):
    """Aspect encoders: the vectors of documents in all aspects.

    What depends on shared parameters alone is computed once.

    >>> params = {"shared": {}, "own": {"head": jnp.stack([jnp.eye(2), 2 * jnp.eye(2)])}}
    >>> print(encode_aspects(lambda p, x: x @ p["head"], params, jnp.ones((1, 2))))
    [[[1. 1.]
      [2. 2.]]]

    Args:
        encode: ``(params, batch) -> [B, D]``, the encoder whose ``init`` drew the parameters.
        params: of :func:`init_aspects`.
        batch: of B documents, as ``encode`` takes it.

    Returns:
        [B, A, D]. With own=() there is one aspect.
    """
    shared, own = params["shared"], params["own"]
    if not jax.tree.leaves(own):
        return encode(shared, batch)[:, None]
    return jax.vmap(lambda part: encode(shared | part, batch), out_axes=1)(own)


def encode_aspect(encode, params, batch, aspect):
    """Aspect encoder: the vectors of documents in one aspect, the same for all or one for each.

    >>> params = {"shared": {}, "own": {"head": jnp.stack([jnp.eye(2), 2 * jnp.eye(2)])}}
    >>> print(encode_aspect(lambda p, x: x @ p["head"], params, jnp.ones((2, 2)), jnp.array([1, 0])))
    [[2. 2.]
     [1. 1.]]

    Args:
        encode: as for :func:`encode_aspects`.
        params: of :func:`init_aspects`.
        batch: of B documents.
        aspect: int, which runs the encoder once; or int [B], which runs the own parts for all aspects and
            takes one. Under jit a number outside 0..A-1 gives NaN.

    Returns:
        [B, D].

    Raises:
        ValueError: for an aspect that there is not.

    References:
        M. Ostendorff et al., arXiv:2203.14541, with A separate encoders. Its classifier of pairs is left out:
        it reads two texts at once, so it has no vectors that could be searched.
    """
    leaves = jax.tree.leaves(params["own"])
    count = len(leaves[0]) if leaves else 1
    if not isinstance(aspect, jax.core.Tracer):
        wrong = [int(a) for a in np.ravel(aspect) if not 0 <= a < count]
        if wrong:
            raise ValueError(f"aspect: {wrong[0]} is outside 0..{count - 1}; documents have {count} aspects")
    if jnp.ndim(aspect) == 0:
        held = {"shared": params["shared"], "own": jax.tree.map(lambda x: x[aspect][None], params["own"])}
        found = encode_aspects(encode, held, batch)[:, 0]
        return jnp.where((aspect >= 0) & (aspect < count), found, jnp.nan)
    found = encode_aspects(encode, params, batch)
    return jnp.take_along_axis(found, jnp.asarray(aspect)[:, None, None], axis=1, mode="fill")[:, 0]
