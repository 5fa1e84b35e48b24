"""A transformer over any token embedding: one scan over stacked blocks."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator
from jaxembed.encoders.attention import (
    Attention,
    attention_mask,
    temperatures_of_blocks,
    tokenwise,
    windows_of_blocks,
)
from jaxembed.encoders.pooling import mean_pool
from jaxembed.encoders.positions import distance_buckets
from jaxembed.extras import brings
from jaxembed.tables import rows_of as table_rows

with brings("encoders"):
    import flax.linen as nn

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
        attention_dropout: rate on the attention weights.
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
    attention_dropout: float = 0.0

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
            layer = Attention(*sizes, *flags, self.attention_dropout, name="attention")
            options = {"bias": bias, "frequencies": frequencies, "temperature": temperature}
            return layer(x, mask, **options, deterministic=deterministic)

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
    input_dropout=0.0,
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
    """Transformer: builds one on top of a token embedding.

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
        dropout: rate on both branches of each block, active when a key is given.
        input_dropout: rate on what the first block reads, embeddings and positions. BERT has one rate there,
            on the branches and, ``attention_dropout``, on the attention weights.
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
            head_width, head_norm, attention_dropout.

    Returns:
        :class:`Transformer`; block parameters carry a leading [L] (``blocks/attention/query/kernel``).

    References:
        A. Vaswani et al., arXiv:1706.03762, with the norm before each branch (R. Xiong et al.,
        arXiv:2002.04745); temperature: Y. Zhou et al. (TempScale), arXiv:2410.24200.
    """

    made = Block(heads, mlp_width or 4 * width, dropout, dtype, **block)
    _check_block(made)
    windows = windows_of_blocks(window, layers)
    lengths, norms = (width, layers, positions, distances), (final_norm, first_norm)
    stack = _Stack(made, *lengths, windows, frequencies, causal, *norms, checkpoint, unroll, input_dropout)

    def init(key):
        return stack.init(init_embed, key)

    def hidden(params, batch, key=None, *, layers=None, each=None, temperature=None, attention=None):
        states, pool = stack.start(params, *embed(params, batch)), each or mean_pool
        return stack.run(params, batch, *states, key, layers, pool, temperature, attention)

    return Transformer(init, hidden)


class _Stack(NamedTuple):
    """What is fixed when a transformer is built, and the parts of its pass that depend on it."""

    block: Block
    width: int
    layers: int
    positions: int
    distances: int
    windows: tuple | None
    frequencies: object
    causal: bool
    final_norm: bool
    first_norm: bool
    checkpoint: object
    unroll: int
    input_dropout: float

    def init(self, init_embed, key):
        embed_key, block_key, position_key = jax.random.split(key, 3)
        params, x = init_embed(embed_key), jnp.zeros((1, 1, self.width))
        keys = jax.random.split(block_key, self.layers)
        params = {**params, "blocks": jax.vmap(lambda k: self.block.init(k, x)["params"])(keys)}
        if self.final_norm:
            params["norm"] = _norm(self.block).init(block_key, x)["params"]
        scale = jax.nn.initializers.normal(0.02)
        if self.positions:
            params["position"] = {"embedding": scale(position_key, (self.positions, self.width))}
        if self.distances:
            params["distance"] = {"embedding": scale(position_key, (self.distances, self.block.heads))}
        return params

    def start(self, params, tokens, mask):
        """The input of the first block, and the mask."""
        if tokens.shape[:2] != mask.shape:
            raise ValueError(f"embed: tokens {tokens.shape} and mask {mask.shape} differ in [B, T]")
        if tokens.shape[-1] != self.width:
            raise ValueError(f"width={self.width}, but embed gives tokens of width {tokens.shape[-1]}")
        x, length = jnp.where(mask[..., None], tokens, 0), tokens.shape[1]
        if not self.positions:
            return x, mask
        if length > self.positions:
            raise ValueError(
                f"positions={self.positions} is below the {length} tokens of the batch; cut the text"
            )
        return x + params["position"]["embedding"][:length], mask

    def run(self, params, batch, x, mask, key, layers, pool, temperature, attention):
        """The pass through the blocks: what ``hidden`` of :class:`Transformer` returns."""
        depth, prefix = self.depth(params, layers), self.prefix(batch)
        shared = self.shared(params, mask, prefix)
        if key is not None and self.input_dropout:
            drop = nn.Dropout(self.input_dropout, deterministic=False)
            x = drop.apply({}, x, rngs={"dropout": jax.random.fold_in(key, self.layers)})

        def step(x, scanned):
            block_params, index, own = scanned
            given = shared | self.own(own, mask, prefix) | _dropout(key, index)
            x, weights = _apply(self.block, block_params, x, given, attention is not None)
            read = None if attention is None else attention(weights, mask)
            return x, (pool(self.export(params, x), mask), read)

        if self.checkpoint is not None:
            step = jax.checkpoint(step, policy=self.checkpoint, prevent_cse=False)
        first = pool(self.export(params, x), mask)
        scanned = self.scanned(params, x.shape[1], temperature, depth)
        x, (later, read) = jax.lax.scan(step, x, scanned, unroll=max(1, min(self.unroll, depth)))
        stacked = jnp.moveaxis(jnp.concatenate([first[None], later]), 0, 1)
        tokens = jnp.where(mask[..., None], self.export(params, x), 0)
        out = {"tokens": tokens, "mask": mask, "layers": stacked}
        return out if attention is None else out | {"attention": jnp.moveaxis(read, 0, 1)}

    def depth(self, params, layers):
        """How many blocks a pass runs."""
        made = jax.tree.leaves(params["blocks"])[0].shape[0]
        if layers is not None and not 0 <= layers <= made:
            raise ValueError(f"layers={layers}: the encoder has blocks 1..{made}")
        return made if layers is None else layers

    def prefix(self, batch):
        """The options of the attention mask that a batch decides."""
        if "prefix" in batch and not self.causal:
            raise ValueError("prefix: this encoder reads later tokens anyway; leave it out of the batch")
        return {"causal": self.causal, "prefix": batch.get("prefix")}

    def shared(self, params, mask, prefix):
        """The arguments that all blocks share."""
        shared = {} if self.windows is not None else {"mask": attention_mask(mask, **prefix)}
        if self.distances:
            buckets = distance_buckets(mask.shape[1], buckets=self.distances)
            shared["bias"] = jnp.moveaxis(table_rows(params["distance"]["embedding"], buckets), -1, 0)
        return shared

    def scanned(self, params, length, temperature, depth):
        """Parameters, numbers and options of the blocks that run, with a leading [depth]."""
        each = {}
        if self.windows is not None:
            limits = [length if w is None else min(w, length) for w in self.windows]
            each["window"] = np.array(limits, np.int32)
        if self.frequencies is not None:
            shape = (self.layers, np.shape(self.frequencies)[-1])
            each["frequencies"] = np.broadcast_to(self.frequencies, shape)
        if temperature is not None:
            each["temperature"] = temperatures_of_blocks(temperature, self.layers)
        if not self.first_norm:
            each["normed"] = np.arange(self.layers) > 0
        made = jax.tree.leaves(params["blocks"])[0].shape[0]
        scanned = params["blocks"], jnp.arange(made), each
        return jax.tree.map(lambda p: p[:depth], scanned) if depth < self.layers else scanned

    def own(self, options, mask, prefix):
        """The arguments of one block, its window turned into a mask."""
        if self.windows is None:
            return options
        rest = {name: value for name, value in options.items() if name != "window"}
        return rest | {"mask": attention_mask(mask, window=options["window"], **prefix)}

    def export(self, params, x):
        """The states after a block as they are shown, with the final norm where there is one."""
        if not self.final_norm:
            return x
        return _norm(self.block).apply({"params": params["norm"]}, x.astype(accumulator(x)))


def _dropout(key, index):
    rngs = None if key is None else {"dropout": jax.random.fold_in(key, index)}
    return {"deterministic": key is None, "rngs": rngs}


def _apply(block, params, x, given, stores):
    """One block, and its attention weights [B, H, T, T] where they are stored."""
    if not stores:
        return block.apply({"params": params}, x, **given), None
    x, stored = block.apply({"params": params}, x, mutable=["attention"], **given)
    return x, stored["attention"]["attention"]["weights"]
