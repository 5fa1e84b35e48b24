"""Published text encoders: a folder of a checkpoint in, vectors of texts out, and back into a folder."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_temperature, unit
from jaxembed.encoders import pooling
from jaxembed.encoders.architectures import describe
from jaxembed.encoders.checkpoint_folders import (
    Folder,
    dense_params,
    find_folder,
    max_length_of,
    modes_of,
    pooling_config,
    read_folder,
    save_folder,
)
from jaxembed.encoders.tensors import params_of, read_tensors
from jaxembed.encoders.texts import check_texts, length_bucket, open_tokenizer, pad, vectors_of_texts
from jaxembed.encoders.transformer import transformer

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


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """A text encoder with its weights.

    The functions are pure and take ``params`` first, so that they train, jit and shard like any other:
    ``encode(params, batch, key=None, *, layers=None, temperature=None) -> [B, D]``; with the same arguments
    ``encode_tokens -> (tokens [B, T, D], mask [B, T])`` and ``encode_layers -> [B, L+1, D]`` (row n = the
    vector of block n, row 0 = of the token embeddings); and ``hidden``, as in
    :func:`~jaxembed.encoders.transformer`. ``batch`` is {"ids": int [B, T], "mask": bool [B, T]}, as
    ``tokenize`` makes it, with an optional "pool_mask", bool [B, T], of the tokens that the pooling reads,
    and, for a causal encoder, an optional "prefix", int [B], of how many first tokens every token may read.
    Masks of 0 and 1 will do.
    Ids out of range raise when they come from the host and read zeros under jit. After training,
    ``dataclasses.replace(encoder, params=params)``.
    """

    params: dict
    hidden: Callable
    encode: Callable
    encode_tokens: Callable
    encode_layers: Callable
    tokenizer: Any
    max_length: int
    pooling: tuple[str, ...]
    width: int
    folder: Folder

    def __repr__(self):
        return (
            f"Encoder({self.folder.config['model_type']}, layers={self.depth}, width={self.width}, "
            f"pooling={self.pooling}, max_length={self.max_length})"
        )

    @property
    def depth(self):
        """The number of blocks."""
        return len(jax.tree.leaves(self.params["blocks"])[0])

    @property
    def prompts(self):
        """{name: text put in front}, as the folder has them."""
        return self.folder.prompts

    def tokenize(self, texts, *, prompt=None, prompt_name=None):
        """Turns texts into one batch, cut to ``max_length`` and padded to a length bucket.

        Args:
            texts: list of str.
            prompt: text put in front of each.
            prompt_name: name of such a text among ``prompts``; default: what the folder says.

        Returns:
            {"ids": int32 [B, T], "mask": bool [B, T]}, and "pool_mask" where the pooling skips the prompt.
        """
        ids, skipped = self._ids(texts, prompt, prompt_name)
        longest = max((len(row) for row in ids), default=1)
        return pad(ids, len(ids), min(length_bucket(longest), self.max_length), skipped)

    def encode_texts(
        self,
        texts,
        *,
        batch_size=32,
        prompt=None,
        prompt_name=None,
        layers=None,
        temperature=None,
        progress=False,
    ):
        """Computes one vector per text, on the host's side of the door.

        Texts are sorted by length and cut into batches of one size, the longest first; the last batch is
        filled up with empty rows, so that there are as many compiled shapes as length buckets. Fewer texts
        than ``batch_size`` make one batch of the next power of two. A text longer than ``max_length`` is
        cut. An empty text is encoded as the special tokens alone; where the tokenizer adds none, its vector
        is that of a text without tokens: zeros under mean pooling.

        Args:
            texts: list of str.
            batch_size: rows of a batch.
            prompt: text put in front of each.
            prompt_name: name of such a text among ``prompts``; default: what the folder says.
            layers: optional number of blocks to run.
            temperature: optional float or array that divides the attention scores.
            progress: True shows a bar on a terminal.

        Returns:
            float32 NumPy array [n, D], rows in the order of ``texts``.

        Raises:
            ValueError: when ``texts`` is one str, holds something else than str, or the prompt is unknown.
        """
        run = functools.partial(self.encode, self.params, layers=layers, temperature=temperature)
        tokenize = functools.partial(self._ids, prompt=prompt, prompt_name=prompt_name)
        return vectors_of_texts(run, tokenize, texts, batch_size, self.max_length, self.width, progress)

    def save(self, folder):
        """Writes a folder that :func:`load` and the package sentence-transformers read.

        Args:
            folder: path that does not exist yet, or an empty folder.

        Raises:
            FileExistsError: when it holds something.
        """
        save_folder(self.folder, self.params, self.pooling, pathlib.Path(folder))

    def _ids(self, texts, prompt, prompt_name):
        """Token ids of each text with its prompt, and how many first tokens the pooling skips."""
        known = self.folder.prompts
        prompt_name = prompt_name or (self.folder.default_prompt if prompt is None else None)
        if prompt_name is not None and prompt_name not in known:
            raise ValueError(f"prompt_name={prompt_name!r} is unknown; known: {', '.join(known) or 'none'}")
        prompt = prompt or known.get(prompt_name) or ""
        encoded = self.tokenizer.encode_batch([prompt + text for text in check_texts(texts)])
        skipped = 0
        if prompt and not pooling_config(self.folder.steps).get("include_prompt", True):
            alone = self.tokenizer.encode(prompt)
            skipped = len(alone.ids) - bool(alone.ids and alone.special_tokens_mask[-1])
        return [e.ids for e in encoded], skipped


def load(
    path,
    *,
    dtype=None,
    param_dtype=np.float32,
    causal=None,
    pooling=None,
    max_length=None,
    dropout=0.0,
    checkpoint=jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    unroll=1,
):
    """Reads a text encoder as sentence-transformers and transformers save it, without torch.

    Families: BERT, RoBERTa, XLM-RoBERTa, MPNet, DistilBERT, ModernBERT, and the decoders Llama, Mistral,
    Qwen2 and Qwen3. Pooling, dense layers and normalisation follow modules.json; a folder without it is
    pooled by the mean and not normalised. Texts are cut at ``max_seq_length`` of sentence_bert_config.json,
    else at ``model_max_length`` of tokenizer_config.json, never above the model's positions; what
    tokenizer.json says about lengths is not used. With ``truncate_dim`` in
    config_sentence_transformers.json, the first coordinates are kept, after any normalisation; they are not
    normalised again.

    ``encoder = load("all-MiniLM-L6-v2"); vectors = encoder.encode_texts(["a text", "another"])``

    Args:
        path: a folder, or the name of a repository on the Hugging Face hub, which needs the extra ``hub``.
        dtype: of the products (for example bfloat16); norms, softmax and residuals stay float32.
        param_dtype: of the parameters, whatever the file holds.
        causal: False lets the tokens of a decoder read later ones, without a window; default: as config.json
            says. Under True, ``batch["prefix"]`` lets all tokens read the first ones.
        pooling: optional name, or several whose vectors are joined, instead of what the folder says: "cls",
            "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken".
        max_length: optional number of tokens at which texts are cut, special ones counted.
        dropout: rate in the blocks, active when ``encode`` gets a key.
        checkpoint: policy of ``jax.checkpoint_policies`` for gradients. The default keeps the products with
            weights and computes the rest of a block again, which is faster too; None keeps everything.
        unroll: how many blocks are compiled one after the other.

    Returns:
        :class:`Encoder`.

    Raises:
        FileNotFoundError: when the folder or one of its files is missing, or the hub has no such name.
        ValueError: for an unknown architecture, pooling or module, a checkpoint that is pickled, damaged or
            does not fit its config.json, a path that leaves the folder, or a length above the model's
            positions or without place for a word.
    """
    path = find_folder(path)
    folder = read_folder(path, causal, pooling)
    family, embedding, blocks = describe(folder.config)
    options = {"dtype": dtype, "dropout": dropout, "checkpoint": checkpoint, "unroll": unroll}
    model = transformer(*_embedding(embedding, blocks["width"]), **blocks, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    root = path / folder.root
    params = params_of(family, read_tensors(root), shapes, np.dtype(param_dtype))
    modes = modes_of(pooling_config(folder.steps))
    dense, width = dense_params(path, folder.steps, blocks["width"] * len(modes), np.dtype(param_dtype))
    params |= dense
    limit = folder.config["max_position_embeddings"] - embedding.get("offset", 0)
    length = max_length_of(folder, limit, max_length)
    head = functools.partial(_head, folder)
    encode, encode_tokens, encode_layers = _functions(model.hidden, head, embedding["vocabulary"])
    return Encoder(
        params=jax.tree.map(jnp.asarray, params),
        hidden=model.hidden,
        encode=encode,
        encode_tokens=encode_tokens,
        encode_layers=encode_layers,
        tokenizer=open_tokenizer(
            root / "tokenizer.json", length, folder.settings.get("do_lower_case", False)
        ),
        max_length=length,
        pooling=modes,
        width=min(width, folder.truncate_dim or width),
        folder=dataclasses.replace(folder, settings=folder.settings | {"max_seq_length": length}),
    )


def _embedding(form, width):
    """init_embed and embed of a description by :func:`architectures.describe`."""
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
        rows = jnp.where(ids < 0, form["vocabulary"], ids)  # .at counts from the end below zero
        x = params["table"]["embedding"].at[rows].get(mode="fill", fill_value=0)
        if form.get("positions"):
            start, free = form["offset"], form["positions"] - form["offset"]
            if ids.shape[1] > free:
                raise ValueError(f"ids: {ids.shape[1]} tokens, the model has {free} positions; cut the texts")
            x = x + params["position"]["embedding"][start : start + ids.shape[1]]
        if form.get("types"):
            x = x + params["type"]["embedding"][0]
        if "epsilon" in form:
            x = norm.apply({"params": params["embedding_norm"]}, x.astype(accumulator(x)))
        return x.astype(accumulator(x)), mask

    return init_embed, embed


def _with_bool_masks(batch):
    for name in ("ids", "mask"):
        if name not in batch:
            raise ValueError(f"batch: {name!r} is missing; make the batch with tokenize")
    return {**batch, **{k: batch[k].astype(bool) for k in ("mask", "pool_mask") if k in batch}}


def _functions(hidden, head, vocabulary):
    """encode, encode_tokens and encode_layers, compiled; ids that come from the host are checked."""

    def checked(function):
        compiled = jax.jit(function, static_argnames="layers")

        @functools.wraps(function)
        def run(params, batch, key=None, *, layers=None, temperature=None):
            batch = _with_bool_masks(batch)
            ids = batch["ids"]
            if isinstance(ids, np.ndarray):
                real = ids[np.asarray(batch["mask"])]
                wrong = real[(real < 0) | (real >= vocabulary)]
                if wrong.size:
                    raise ValueError(f"ids: {wrong[0]} is outside 0..{vocabulary - 1}")
            check_temperature(temperature)
            return compiled(params, batch, key, layers=layers, temperature=temperature)

        return run

    def nothing(states, mask):
        return states[:, 0, :0]

    @checked
    def encode(params, batch, key=None, *, layers=None, temperature=None):
        out = hidden(params, batch, key, layers=layers, each=nothing, temperature=temperature)
        return head(params, out["tokens"], batch.get("pool_mask", out["mask"]))

    @checked
    def encode_tokens(params, batch, key=None, *, layers=None, temperature=None):
        out = hidden(params, batch, key, layers=layers, each=nothing, temperature=temperature)
        return out["tokens"], out["mask"]

    @checked
    def encode_layers(params, batch, key=None, *, layers=None, temperature=None):
        def each(states, mask):
            return head(params, states, batch.get("pool_mask", mask))

        return hidden(params, batch, key, layers=layers, each=each, temperature=temperature)["layers"]

    return encode, encode_tokens, encode_layers


def _head(folder, params, tokens, mask):
    """Pooling, dense layers and normalisation, as modules.json lists them, and then the cut."""
    modes = modes_of(pooling_config(folder.steps))
    x = jnp.concatenate([POOLINGS[m](tokens, mask) for m in modes], axis=-1)
    for kind, path, config in folder.steps:
        if kind == "Normalize":
            x = unit(x)
        elif kind == "Dense":
            x = x @ params[path]["kernel"] + params[path].get("bias", 0)
            x = DENSE_ACTIVATIONS[config["activation_function"].rsplit(".", 1)[-1]](x)
    return x[..., : folder.truncate_dim]
