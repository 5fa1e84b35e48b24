"""The functions of a published text encoder: token embedding, blocks, pooling and what follows, compiled."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, unit
from jaxembed.checks import check_temperature
from jaxembed.encoders import pooling
from jaxembed.encoders.pretrained.folders import modes_of, pooling_config
from jaxembed.extras import brings
from jaxembed.tables import rows_of

with brings("encoders"):
    import flax.linen as nn

POOLINGS = {
    "cls": pooling.cls_pool,
    "max": pooling.max_pool,
    "mean": pooling.mean_pool,
    "mean_sqrt_len_tokens": lambda x, m: (
        pooling.mean_pool(x, m) * jnp.sqrt(m.sum(1, keepdims=True)).astype(x.dtype)
    ),
    "weightedmean": pooling.weighted_mean_pool,
    "lasttoken": pooling.last_pool,
}
DENSE_ACTIVATIONS = {
    "Identity": lambda x: x,
    "Tanh": jnp.tanh,
    "ReLU": nn.relu,
    "GELU": functools.partial(nn.gelu, approximate=False),
    "SiLU": nn.silu,
    "Sigmoid": nn.sigmoid,
}


def token_embedding(form, width):
    """Builds the embedding of tokens, positions and types.

    Args:
        form: dict, as :func:`~jaxembed.encoders.pretrained.families.describe` gives it.
        width: D.

    Returns:
        init_embed and embed, as :func:`~jaxembed.encoders.transformer` takes them.
    """
    norm = nn.LayerNorm(epsilon=form.get("epsilon", 0), use_bias=form.get("bias", True))
    tables = {"table": form["vocabulary"], "position": form.get("positions"), "type": form.get("types")}

    def init_embed(key):
        params = {k: {"embedding": jnp.zeros((rows, width))} for k, rows in tables.items() if rows}
        if "epsilon" in form:
            params["embedding_norm"] = norm.init(key, jnp.zeros((1, width)))["params"]
        return params

    def embed(params, batch):
        batch = _with_bool_masks(batch)
        ids, mask = batch["ids"], batch["mask"]
        ids = jnp.where(mask, ids, 0)
        x = rows_of(params["table"]["embedding"], jnp.maximum(ids, -1))
        x = x.astype(accumulator(x))
        if form.get("positions"):
            start, free = form["offset"], form["positions"] - form["offset"]
            if ids.shape[1] > free:
                raise ValueError(f"ids: {ids.shape[1]} tokens, the model has {free} positions; cut the texts")
            x = x + params["position"]["embedding"][start : start + ids.shape[1]].astype(x.dtype)
        if form.get("types"):
            x = x + params["type"]["embedding"][0].astype(x.dtype)
        if "epsilon" in form:
            x = norm.apply({"params": params["embedding_norm"]}, x)
        return x, mask

    return init_embed, embed


def _with_bool_masks(batch):
    for name in ("ids", "mask"):
        if name not in batch:
            raise ValueError(f"batch: {name!r} is missing; make the batch with tokenize")
    return {**batch, **{k: batch[k].astype(bool) for k in ("mask", "pool_mask") if k in batch}}


def encoder_functions(hidden, folder, vocabulary, settings):
    """Compiles the functions of an encoder; ids that come from the host are checked.

    Args:
        hidden: as in :class:`~jaxembed.encoders.transformer.Transformer`.
        folder: :class:`~jaxembed.encoders.pretrained.folders.Folder`.
        vocabulary: number of token ids.
        settings: dict that each function carries as ``settings``; ``itself`` tells it from a wrapped one.

    Returns:
        encode, encode_tokens and encode_layers, as :class:`~jaxembed.encoders.Encoder` describes them.
    """
    head = functools.partial(_head, folder)

    def checked(function):
        known = inspect.signature(function).parameters
        static = [name for name in ("layers", "truncate_dim") if name in known]
        compiled = jax.jit(function, static_argnames=static)

        @functools.wraps(function)
        def run(params, batch, key=None, *, layers=None, temperature=None, **cut):
            batch = _with_bool_masks(batch)
            ids = batch["ids"]
            if isinstance(ids, np.ndarray):
                real = ids[np.asarray(batch["mask"])]
                wrong = real[(real < 0) | (real >= vocabulary)]
                if wrong.size:
                    raise ValueError(f"ids: {wrong[0]} is outside 0..{vocabulary - 1}")
            check_temperature(temperature)
            return compiled(params, batch, key, layers=layers, temperature=temperature, **cut)

        run.settings, run.itself = settings, run
        return run

    def nothing(states, mask):
        return states[:, 0, :0]

    @checked
    def encode(params, batch, key=None, *, layers=None, temperature=None, truncate_dim=None):
        out = hidden(params, batch, key, layers=layers, each=nothing, temperature=temperature)
        return head(params, out["tokens"], batch.get("pool_mask", out["mask"]), truncate_dim)

    @checked
    def encode_tokens(params, batch, key=None, *, layers=None, temperature=None):
        out = hidden(params, batch, key, layers=layers, each=nothing, temperature=temperature)
        return out["tokens"], out["mask"]

    @checked
    def encode_layers(params, batch, key=None, *, layers=None, temperature=None, truncate_dim=None):
        def each(states, mask):
            return head(params, states, batch.get("pool_mask", mask), truncate_dim)

        return hidden(params, batch, key, layers=layers, each=each, temperature=temperature)["layers"]

    return encode, encode_tokens, encode_layers


def _head(folder, params, tokens, mask, truncate_dim):
    """Pooling, dense layers and normalisation, as modules.json lists them, and then the cut."""
    modes = modes_of(pooling_config(folder.steps))
    x = jnp.concatenate([POOLINGS[m](tokens, mask) for m in modes], axis=-1)
    for kind, path, config in folder.steps:
        if kind == "Normalize":
            x = unit(x)
        elif kind == "Dense":
            x = x @ params[path]["kernel"] + params[path].get("bias", 0)
            x = DENSE_ACTIVATIONS[config["activation_function"].rsplit(".", 1)[-1]](x)
    x = x[..., : folder.truncate_dim]
    if truncate_dim is None:
        return x
    x = x[..., : checked_width(truncate_dim, x.shape[-1])]
    return unit(x) if folder.steps[-1][0] == "Normalize" else x


def checked_width(truncate_dim, width):
    """Returns a number of coordinates that are kept; refuses one that the vectors do not have.

    Args:
        truncate_dim: int.
        width: D.
    """
    if not isinstance(truncate_dim, int | np.integer) or not 1 <= truncate_dim <= width:
        raise ValueError(f"truncate_dim={truncate_dim!r} is not an integer in 1..{width}, the vectors' width")
    return int(truncate_dim)
