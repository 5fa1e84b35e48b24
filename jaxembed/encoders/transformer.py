"""A transformer over any token embedding: one scan over stacked blocks."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator
from jaxembed.encoders.attention import Attention
from jaxembed.encoders.pooling import mean_pool


class Encoder(NamedTuple):
    """An encoder as two functions.

    ``init(key) -> params`` and ``hidden(params, batch, key=None, *, layers=None, each=None) -> {"tokens":
    [B, T, D], "mask": bool [B, T], "layers": [B, L+1, D]}``.
    """

    init: Callable
    hidden: Callable


class Block(nn.Module):
    """One pre-norm transformer block [B, T, D] -> [B, T, D]: attention, then a GELU network.

    Args:
        heads: number of attention heads.
        mlp_width: width of the hidden layer of the network.
        dropout: rate on both residual branches; active when ``deterministic`` is False.
        dtype: dtype of the computation; parameters, norms and softmax stay float32.
    """

    heads: int
    mlp_width: int
    dropout: float = 0.0
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic=True):
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        y = nn.LayerNorm(dtype=accumulator(x), name="attention_norm")(x)
        x = x + drop(Attention(self.heads, self.dtype, name="attention")(y, mask)).astype(x.dtype)
        y = nn.LayerNorm(dtype=accumulator(x), name="mlp_norm")(x)
        y = nn.gelu(nn.Dense(self.mlp_width, dtype=self.dtype, name="mlp_in")(y))
        y = nn.Dense(x.shape[-1], dtype=self.dtype, name="mlp_out")(y)
        return x + drop(y).astype(x.dtype)


def transformer(
    init_embed, embed, *, width, layers, heads, mlp_width=None, positions=0, dropout=0.0, dtype=None
):
    """Builds a transformer on top of a token embedding.

    Block n maps ``x_{n-1}`` to ``x_n``; ``x_0 = embed(params, batch) [+ positions]``. All blocks share one
    scan, and ``layers=n`` runs the first n of them alone, so that shallow inference skips the work. The
    final LayerNorm is applied to every exported layer, so shallow and deep vectors have one scale.

    >>> def init_embed(key):
    ...     return {"table": {"embedding": jax.random.normal(key, (10, 8))}}
    >>> def embed(params, batch):
    ...     return params["table"]["embedding"][batch["ids"]], batch["mask"]
    >>> encoder = transformer(init_embed, embed, width=8, layers=2, heads=2)
    >>> params = encoder.init(jax.random.key(0))
    >>> batch = {"ids": jnp.array([[1, 2, 0]]), "mask": jnp.array([[True, True, False]])}
    >>> out = encoder.hidden(params, batch)
    >>> kernel = params["blocks"]["attention"]["query"]["kernel"]
    >>> print(out["tokens"].shape, out["layers"].shape, kernel.shape)
    (1, 3, 8) (1, 3, 8) (2, 8, 8)

    Args:
        init_embed: ``key -> params``, a dict without the keys "blocks", "norm" and "position".
        embed: ``(params, batch) -> (tokens [B, T, D], mask bool [B, T])``. Padding may hold anything.
        width: D, the width that ``embed`` gives and every block keeps.
        layers: number of blocks L; 0 is a normalised bag of embeddings.
        heads: attention heads; divides D.
        mlp_width: hidden width of each block, default 4 * D.
        positions: 0 for none, or the number of learned positions; longer inputs raise.
        dropout: rate, active when a key is given.
        dtype: dtype of the products (for example bfloat16); norms, softmax and residuals stay float32.

    Returns:
        :class:`Encoder`; block parameters carry a leading [L] (``blocks/attention/query/kernel``).

    References:
        A. Vaswani et al., arXiv:1706.03762, with the norm before each branch (R. Xiong et al.,
        arXiv:2002.04745).
    """

    norm = nn.LayerNorm()
    block = Block(heads, mlp_width or 4 * width, dropout, dtype)

    def init(key):
        embed_key, block_key, position_key = jax.random.split(key, 3)
        params = init_embed(embed_key)
        x = jnp.zeros((1, 1, width))
        made = jax.vmap(lambda k: block.init(k, x)["params"])(jax.random.split(block_key, layers))
        params = {**params, "blocks": made, "norm": norm.init(block_key, x)["params"]}
        if positions:
            scale = jax.nn.initializers.normal(0.02)
            params["position"] = {"embedding": scale(position_key, (positions, width))}
        return params

    def hidden(params, batch, key=None, *, layers=None, each=None):
        tokens, mask = embed(params, batch)
        if tokens.shape[:2] != mask.shape:
            raise ValueError(f"embed: tokens {tokens.shape} and mask {mask.shape} differ in [B, T]")
        if tokens.shape[-1] != width:
            raise ValueError(f"width={width}, but embed gives tokens of width {tokens.shape[-1]}")
        x = jnp.where(mask[..., None], tokens, 0)
        if positions:
            if x.shape[1] > positions:
                raise ValueError(
                    f"positions={positions} is below the {x.shape[1]} tokens of the batch; cut the text"
                )
            x = x + params["position"]["embedding"][: x.shape[1]]
        blocks, each = params["blocks"], each or mean_pool
        depth = jax.tree.leaves(blocks)[0].shape[0]
        if layers is not None:
            if not 0 <= layers <= depth:
                raise ValueError(f"layers={layers}: the encoder has blocks 1..{depth}")
            blocks, depth = jax.tree.map(lambda p: p[:layers], blocks), layers

        def export(x):
            return norm.apply({"params": params["norm"]}, x.astype(accumulator(x)))

        def step(x, scanned):
            block_params, index = scanned
            rngs = None if key is None else {"dropout": jax.random.fold_in(key, index)}
            x = block.apply({"params": block_params}, x, mask, deterministic=key is None, rngs=rngs)
            return x, each(export(x), mask)

        first = each(export(x), mask)
        x, later = jax.lax.scan(step, x, (blocks, jnp.arange(depth)))
        stacked = jnp.moveaxis(jnp.concatenate([first[None], later]), 0, 1)
        return {"tokens": jnp.where(mask[..., None], export(x), 0), "mask": mask, "layers": stacked}

    return Encoder(init, hidden)


def pooled(hidden, pool=mean_pool, *, layers=None):
    """Turns ``hidden`` into ``encode``: one vector per text.

    >>> def hidden(params, batch, key=None, *, layers=None):
    ...     return {"tokens": params * batch["x"], "mask": batch["mask"]}
    >>> batch = {"x": jnp.ones((1, 2, 3)), "mask": jnp.array([[True, False]])}
    >>> print(pooled(hidden)(2.0, batch))
    [[2. 2. 2.]]

    Args:
        hidden: as in :class:`Encoder`.
        pool: ``(tokens [B, T, D], mask [B, T]) -> [B, D]``.
        layers: optional number of blocks to run.

    Returns:
        ``encode(params, batch, key=None) -> [B, D]``.
    """

    def encode(params, batch, key=None):
        out = hidden(params, batch, key, layers=layers)
        return pool(out["tokens"], out["mask"])

    return encode
