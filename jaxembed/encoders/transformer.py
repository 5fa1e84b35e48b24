"""A transformer over any token embedding: one scan over stacked blocks."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_temperature
from jaxembed.encoders.attention import Attention, attention_mask, tokenwise
from jaxembed.encoders.pooling import mean_pool
from jaxembed.encoders.positions import distance_buckets

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5)),  # faster on a CPU than jax.nn's erfc
    "gelu_tanh": nn.gelu,
    "silu": nn.silu,
    "relu": nn.relu,
}
BIASES = ("qkv", "out", "mlp", "norm")


class Transformer(NamedTuple):
    """A transformer as two functions.

    ``init(key) -> params`` and ``hidden(params, batch, key=None, *, layers=None, each=None,
    temperature=None, attention=None) -> {"tokens": [B, T, D], "mask": bool [B, T], "layers": [B, L+1, D]}``.
    """

    init: Callable
    hidden: Callable


class Block(nn.Module):
    """One transformer block [B, T, D] -> [B, T, D]: attention, then a network on each token.

    With ``order="pre"`` each branch is ``x + branch(norm(x))``, with "post" ``norm(x + branch(x))``.

    Args:
        heads: number of attention heads.
        mlp_width: width of the hidden layer of the network.
        dropout: rate on both residual branches; active when ``deterministic`` is False.
        dtype: dtype of the computation; parameters, norms and softmax stay float32.
        order: "pre" or "post".
        norm: "layer" or "rms".
        epsilon: of the norms.
        activation: "gelu", "gelu_tanh", "silu" or "relu".
        gated: True multiplies the activation, of ``mlp_gate``, with the linear map ``mlp_in``.
        biases: which linear maps and norms have a bias: any of "qkv", "out", "mlp", "norm".
        kv_heads, head_width, head_norm: as in :class:`Attention`.
    """

    heads: int
    mlp_width: int
    dropout: float = 0.0
    dtype: jnp.dtype | None = None
    order: str = "pre"
    norm: str = "layer"
    epsilon: float = 1e-6
    activation: str = "gelu_tanh"
    gated: bool = False
    biases: tuple[str, ...] = BIASES
    kv_heads: int | None = None
    head_width: int | None = None
    head_norm: float | None = None

    @nn.compact
    def __call__(
        self, x, mask=None, *, bias=None, frequencies=None, temperature=1.0, normed=None, deterministic=True
    ):
        _check_block(self)
        drop = nn.Dropout(self.dropout, deterministic=deterministic)

        def norm(x, name):
            return _norm(self, dtype=accumulator(x), name=name)(x)

        def attend(x):
            sizes = (self.heads, self.dtype, self.kv_heads, self.head_width)
            flags = ("qkv" in self.biases, "out" in self.biases, self.head_norm)
            layer = Attention(*sizes, *flags, name="attention")
            return layer(x, mask, bias=bias, frequencies=frequencies, temperature=temperature)

        def network(x):
            def dense(width, name):
                return nn.Dense(width, "mlp" in self.biases, dtype=self.dtype, name=name)

            def rows_of(x):
                y, act = dense(self.mlp_width, "mlp_in")(x), ACTIVATIONS[self.activation]
                y = act(dense(self.mlp_width, "mlp_gate")(x)) * y if self.gated else act(y)
                return dense(x.shape[-1], "mlp_out")(y)

            return tokenwise(rows_of, x)

        for branch, name in ((attend, "attention_norm"), (network, "mlp_norm")):
            if self.order == "post":
                x = norm(x + drop(branch(x)).astype(x.dtype), name).astype(x.dtype)
                continue
            y = norm(x, name)
            if normed is not None and branch is attend:
                y = jnp.where(normed, y, x)
            x = x + drop(branch(y)).astype(x.dtype)
        return x


def _norm(block, **options):
    if block.norm == "rms":
        return nn.RMSNorm(epsilon=block.epsilon, **options)
    return nn.LayerNorm(epsilon=block.epsilon, use_bias="norm" in block.biases, **options)


def _check_block(block):
    for field, known in (
        ("order", ("pre", "post")),
        ("norm", ("layer", "rms")),
        ("activation", tuple(ACTIVATIONS)),
    ):
        if getattr(block, field) not in known:
            raise ValueError(f"{field}={getattr(block, field)!r} is unknown; known: {', '.join(known)}")
    if set(block.biases) - set(BIASES):
        raise ValueError(f"biases={block.biases}: known are {', '.join(BIASES)}")


def transformer(
    init_embed,
    embed,
    *,
    width,
    layers,
    heads,
    mlp_width=None,
    positions=0,
    dropout=0.0,
    dtype=None,
    final_norm=True,
    causal=False,
    window=None,
    frequencies=None,
    distances=0,
    first_norm=True,
    checkpoint=None,
    unroll=1,
    **block,
):
    """Builds a transformer on top of a token embedding.

    Block n maps ``x_{n-1}`` to ``x_n``; ``x_0 = embed(params, batch) [+ positions]``. All blocks share one
    scan, and ``layers=n`` runs the first n of them alone, so that shallow inference skips the work. The
    final norm is applied to every exported layer, so shallow and deep vectors have one scale.

    ``hidden`` takes ``temperature``, which divides the attention scores: a positive float, or an array [],
    [L] or [L, H], traced or not. It takes ``attention``, a function ``(weights [B, H, T, T], mask [B, T]) ->
    [B, ...]`` that each block applies to its attention; the results are "attention" [B, L, ...] of what
    ``hidden`` returns. ``batch["prefix"]``, int [B], is how many first tokens everyone may read
    under ``causal``; an encoder that is not causal refuses it.

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
        init_embed: ``key -> params``, a dict without the keys "blocks", "norm", "position" and "distance".
        embed: ``(params, batch) -> (tokens [B, T, D], mask bool [B, T])``. Padding may hold anything.
        width: D, the width that ``embed`` gives and every block keeps.
        layers: number of blocks L; 0 is a normalised bag of embeddings.
        heads: attention heads; divides D.
        mlp_width: hidden width of each block, default 4 * D.
        positions: 0 for none, or the number of learned positions; longer inputs raise.
        dropout: rate, active when a key is given.
        dtype: dtype of the products (for example bfloat16); norms, softmax and residuals stay float32.
        final_norm: False leaves out the norm of exported layers, as after blocks of order "post".
        causal: True hides later tokens.
        window: optional largest distance of attention, an int, or L of them with None for no limit.
        frequencies: optional [d / 2] or [L, d / 2] of :func:`rotary_frequencies`.
        distances: 0 for none, or the number of buckets of a learned score per distance and head, shared by
            all blocks ("distance/embedding" [buckets, H]).
        first_norm: False lets the attention of the first block read its input as it is.
        checkpoint: optional policy of ``jax.checkpoint_policies`` that says what each block keeps for the
            backward pass; the rest is computed again. ``nothing_saveable`` needs the least memory.
        unroll: how many blocks are compiled one after the other; more compile time, less slicing.
        block: further fields of :class:`Block`: order, norm, epsilon, activation, gated, biases, kv_heads,
            head_width, head_norm.

    Returns:
        :class:`Transformer`; block parameters carry a leading [L] (``blocks/attention/query/kernel``).

    References:
        A. Vaswani et al., arXiv:1706.03762, with the norm before each branch (R. Xiong et al.,
        arXiv:2002.04745); temperature: Y. Zhou et al. (TempScale), arXiv:2410.24200.
    """

    made = Block(heads, mlp_width or 4 * width, dropout, dtype, **block)
    _check_block(made)
    windows, made_layers = _per_layer(window, layers), layers
    norm = _norm(made)

    def init(key):
        embed_key, block_key, position_key = jax.random.split(key, 3)
        params, x = init_embed(embed_key), jnp.zeros((1, 1, width))
        blocks = jax.vmap(lambda k: made.init(k, x)["params"])(jax.random.split(block_key, layers))
        params = {**params, "blocks": blocks}
        if final_norm:
            params["norm"] = norm.init(block_key, x)["params"]
        scale = jax.nn.initializers.normal(0.02)
        if positions:
            params["position"] = {"embedding": scale(position_key, (positions, width))}
        if distances:
            params["distance"] = {"embedding": scale(position_key, (distances, heads))}
        return params

    def start(params, batch):
        tokens, mask = embed(params, batch)
        if tokens.shape[:2] != mask.shape:
            raise ValueError(f"embed: tokens {tokens.shape} and mask {mask.shape} differ in [B, T]")
        if tokens.shape[-1] != width:
            raise ValueError(f"width={width}, but embed gives tokens of width {tokens.shape[-1]}")
        x = jnp.where(mask[..., None], tokens, 0)
        if not positions:
            return x, mask
        if x.shape[1] > positions:
            raise ValueError(
                f"positions={positions} is below the {x.shape[1]} tokens of the batch; cut the text"
            )
        return x + params["position"]["embedding"][: x.shape[1]], mask

    def options(length, temperature):
        """What differs from block to block, with a leading [L]."""
        each = {}
        if windows is not None:
            each["window"] = np.array([length if w is None else min(w, length) for w in windows], np.int32)
        if frequencies is not None:
            each["frequencies"] = np.broadcast_to(frequencies, (layers, np.shape(frequencies)[-1]))
        if temperature is not None:
            each["temperature"] = _temperatures(temperature, layers)
        if not first_norm:
            each["normed"] = np.arange(layers) > 0
        return each

    def hidden(params, batch, key=None, *, layers=None, each=None, temperature=None, attention=None):
        x, mask = start(params, batch)
        depth = jax.tree.leaves(params["blocks"])[0].shape[0]
        depth_of_run = depth if layers is None else layers
        if not 0 <= depth_of_run <= depth:
            raise ValueError(f"layers={layers}: the encoder has blocks 1..{depth}")
        each = each or mean_pool
        shared = {} if windows is not None else {"mask": attention_mask(mask, **_causal(batch))}
        if distances:
            buckets = distance_buckets(x.shape[1], buckets=distances)
            shared["bias"] = jnp.moveaxis(params["distance"]["embedding"][buckets], -1, 0)

        def export(x):
            return norm.apply({"params": params["norm"]}, x.astype(accumulator(x))) if final_norm else x

        def step(x, scanned):
            block_params, index, more = scanned
            if windows is not None:
                more = more | {"mask": attention_mask(mask, window=more["window"], **_causal(batch))}
                del more["window"]
            rngs = None if key is None else {"dropout": jax.random.fold_in(key, index)}
            given = shared | more
            given |= {"deterministic": key is None, "rngs": rngs}
            if attention is None:
                x, read = made.apply({"params": block_params}, x, **given), None
            else:
                x, stored = made.apply({"params": block_params}, x, mutable=["attention"], **given)
                read = attention(stored["attention"]["attention"]["weights"], mask)
            return x, (each(export(x), mask), read)

        if checkpoint is not None:
            step = jax.checkpoint(step, policy=checkpoint, prevent_cse=False)
        scanned = params["blocks"], jnp.arange(depth), options(x.shape[1], temperature)
        if depth_of_run < made_layers:
            scanned = jax.tree.map(lambda p: p[:depth_of_run], scanned)
        first = each(export(x), mask)
        x, (later, read) = jax.lax.scan(step, x, scanned, unroll=max(1, min(unroll, depth_of_run)))
        stacked = jnp.moveaxis(jnp.concatenate([first[None], later]), 0, 1)
        out = {"tokens": jnp.where(mask[..., None], export(x), 0), "mask": mask, "layers": stacked}
        return out if attention is None else out | {"attention": jnp.moveaxis(read, 0, 1)}

    def _causal(batch):
        if "prefix" in batch and not causal:
            raise ValueError("prefix: this encoder reads later tokens anyway; leave it out of the batch")
        return {"causal": causal, "prefix": batch.get("prefix")}

    return Transformer(init, hidden)


def _per_layer(window, layers):
    if window is None:
        return None
    windows = (window,) * layers if isinstance(window, int) else tuple(window)
    if len(windows) != layers:
        raise ValueError(
            f"window has {len(windows)} entries for layers={layers}; give one per block, or an int"
        )
    return windows


def _temperatures(temperature, layers):
    check_temperature(temperature)
    temperature = jnp.asarray(temperature)
    if temperature.ndim and temperature.shape[0] != layers:
        raise ValueError(f"temperature {temperature.shape}: give a float, [L] or [L, H] with L={layers}")
    return jnp.broadcast_to(temperature, (layers, *temperature.shape[1:]))


def pooled(hidden, pool=mean_pool, *, layers=None):
    """Turns ``hidden`` into ``encode``: one vector per text.

    >>> def hidden(params, batch, key=None, *, layers=None):
    ...     return {"tokens": params * batch["x"], "mask": batch["mask"]}
    >>> batch = {"x": jnp.ones((1, 2, 3)), "mask": jnp.array([[True, False]])}
    >>> print(pooled(hidden)(2.0, batch))
    [[2. 2. 2.]]

    Args:
        hidden: as in :class:`Transformer`.
        pool: ``(tokens [B, T, D], mask [B, T]) -> [B, D]``.
        layers: optional number of blocks to run.

    Returns:
        ``encode(params, batch, key=None) -> [B, D]``.
    """

    def encode(params, batch, key=None):
        out = hidden(params, batch, key, layers=layers)
        return pool(out["tokens"], out["mask"])

    return encode
