"""Heads on top of an encoder: layers that read prefixes, and the transform before scores of words."""

import math

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, unit


def prefix_dense(params, x):
    """Prefix dense layer: applies a dense layer to the first coordinates of its input.

    ``y = x @ kernel[:d] + bias`` with d the width of x: what the layer gives for x filled up with zeros.

    >>> params = {"kernel": jnp.ones((4, 2)), "bias": jnp.array([0.0, 10.0])}
    >>> print(prefix_dense(params, jnp.ones((1, 3))))
    [[ 3. 13.]]

    Args:
        params: ``kernel`` [D, E] and ``bias`` [E].
        x: [..., d] with d at most D.

    Returns:
        [..., E] in at least float32.

    Raises:
        ValueError: for an input wider than the layer.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(params["kernel"])
    if x.shape[-1] > len(kernel):
        raise ValueError(f"x: width {x.shape[-1]} is above the {len(kernel)} rows of the kernel")
    kernel = kernel[: x.shape[-1]]
    wide = accumulator(x, kernel)
    return jnp.einsum("...d,de->...e", x, kernel, preferred_element_type=wide) + params["bias"]


def init_word_head(key, width, rows):
    """Masked language model head: draws the parameters that turn states into scores of words.

    >>> params = init_word_head(jax.random.key(0), 8, 100)
    >>> print(params["dense"]["kernel"].shape, params["bias"].shape)
    (8, 8) (100,)

    Args:
        key: a JAX random key.
        width: the width D of the states and of the word vectors.
        rows: the number V of words.

    Returns:
        ``dense`` (``kernel`` [D, D], ``bias`` [D]), ``norm`` (``scale`` and ``bias`` [D]) and ``bias`` [V].
    """
    kernel = jax.random.normal(key, (width, width)) / math.sqrt(width)
    return {
        "dense": {"kernel": kernel, "bias": jnp.zeros(width)},
        "norm": {"scale": jnp.ones(width), "bias": jnp.zeros(width)},
        "bias": jnp.zeros(rows),
    }


def lift(params, states):
    """Masked language model head: lifts states of any size to the full width by a dense layer on the prefix.

    GELU and a layer norm follow.

    ``lift(x) = norm(gelu(prefix_dense(x)))``, the transform of BERT's word head.

    >>> print(lift(init_word_head(jax.random.key(0), 8, 100), jnp.ones((2, 3))).shape)
    (2, 8)

    Args:
        params: of :func:`init_word_head`.
        states: [..., d] with d at most D.

    Returns:
        [..., D] in at least float32.
    """
    y = jax.nn.gelu(prefix_dense(params["dense"], states), approximate=False)
    y = y - jnp.mean(y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y**2, axis=-1, keepdims=True) + 1e-12)
    return y * params["norm"]["scale"] + params["norm"]["bias"]


def with_first(tokens, vector):
    """First token: puts a vector at place 0 of a sequence.

    >>> print(with_first(jnp.zeros((1, 2, 2)), jnp.ones((1, 2))))
    [[[1. 1.]
      [0. 0.]]]

    Args:
        tokens: [B, T, D].
        vector: [B, D].

    Returns:
        [B, T, D] in the dtype of ``tokens``.
    """
    tokens = jnp.asarray(tokens)
    return tokens.at[:, 0].set(jnp.asarray(vector).astype(tokens.dtype))


def one_block(params, number=0):
    """Copies the parameters of one block out of the stack of a transformer.

    A decoder of one :class:`Block` starts so in Starbucks' pre-training (SMAE): as the first block of the
    published encoder, which it does not share afterwards.

    >>> params = {"blocks": {"mlp_in": {"bias": jnp.array([[1.0, 2.0], [3.0, 4.0]])}}}
    >>> print(one_block(params, 1)["mlp_in"]["bias"])
    [3. 4.]

    Args:
        params: of :func:`transformer`; those under "blocks" carry a leading [L].
        number: which block, from 0.

    Returns:
        Dict of arrays without that axis, as ``Block.apply({"params": ...}, x)`` takes them.

    Raises:
        ValueError: for a block that is not there.

    References:
        S. Zhuang et al., Starbucks, arXiv:2410.13230.
    """
    blocks = params.get("blocks")
    if not jax.tree.leaves(blocks):
        raise ValueError(f"params: hold {sorted(params)}, and no blocks; pass those of a transformer")
    count = len(jax.tree.leaves(blocks)[0])
    if not 0 <= number < count:
        raise ValueError(f"number={number} is outside 0..{count - 1}, the blocks that are there")
    return jax.tree.map(lambda x: jnp.array(x[number]), blocks)


def init_concepts(key, width, concepts, *, directions=None, shares=None, scale=10.0):
    """Concept head: draws the layer that turns a vector into one logit for each named concept.

    >>> params = init_concepts(jax.random.key(0), 4, 3, shares=jnp.array([0.5, 0.1, 0.9]))
    >>> print(params["kernel"].shape, params["bias"].round(2))
    (4, 3) [ 0.  -2.2  2.2]

    Args:
        key: a JAX random key.
        width: the width H of the vectors.
        concepts: the number K of concepts.
        directions: optional [K, H], vectors of the concepts' names or texts from the same encoder, at which
            the columns of the kernel start: the head then knows concepts before it is trained.
        shares: optional [K], how often items list each concept; the bias is its log-odds. Without it all
            sigmoids start at 0.5 and all pairs look alike.
        scale: length of the columns that start at ``directions``.

    Returns:
        ``kernel`` [H, K] and ``bias`` [K]; row c of the transposed kernel is the vector of concept c.

    Raises:
        ValueError: for no concepts, or arrays of another shape.
    """
    if concepts < 1:
        raise ValueError("concepts: the list is empty; name at least one concept")
    if directions is None:
        kernel = jax.random.normal(key, (width, concepts)) * scale / math.sqrt(width)
    else:
        check_shape("directions", directions, (concepts, width))
        kernel = scale * unit(jnp.asarray(directions, jnp.float32)).T
    if shares is None:
        return {"kernel": kernel, "bias": jnp.zeros(concepts)}
    check_shape("shares", shares, (concepts,))
    shares = jnp.clip(jnp.asarray(shares, jnp.float32), 1e-6, 1 - 1e-6)
    return {"kernel": kernel, "bias": jnp.log(shares) - jnp.log1p(-shares)}


def concept_vectors(logits, *, kind="sigmoid", k=None):
    """Explicit vectors: how strongly each named concept is there, from the logits of a concept head.

    ``sigmoid(l)``, ``softplus(l)`` or l itself ("linear"). With ``k`` all but the k largest entries of a
    vector become 0; equal ones go to the lowest number.

    >>> print(concept_vectors(jnp.array([[0.0, 9.0, -9.0]]), k=1).round(2))
    [[0. 1. 0.]]

    Args:
        logits: [..., K], ``prefix_dense(params, vectors)`` with the params of :func:`init_concepts`.
        kind: "sigmoid", "softplus" or "linear". The first two are not negative, so that contributions add.
        k: optional number of entries that stay.

    Returns:
        [..., K] in at least float32.

    Raises:
        ValueError: for an unknown kind, no concepts, or k outside 1..K.

    References:
        D. Bogdanova and M. Yazdani (SESA), arXiv:1708.03246, map to explicit dimensions that are named. The
        kinds are a design of our own, because the paper's activation is not public. Its recurrent encoder is
        not here: the head reads the vectors of any encoder.
    """
    logits = jnp.asarray(logits)
    if not logits.shape[-1]:
        raise ValueError("logits: no concepts; name at least one in init_concepts")
    x = logits.astype(accumulator(logits))
    kinds = {"sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus, "linear": lambda x: x}
    if kind not in kinds:
        raise ValueError(f"kind: {kind!r}; choose one of {', '.join(kinds)}")
    values = kinds[kind](x)
    if k is None:
        return values
    if not 1 <= k <= x.shape[-1]:
        raise ValueError(f"k: {k} is outside 1..{x.shape[-1]}, the number of concepts")
    kept = jax.lax.top_k(x, k)[1]
    return jnp.where(jnp.any(jax.nn.one_hot(kept, x.shape[-1], dtype=bool), axis=-2), values, 0)
