"""Published text encoders: a folder of a checkpoint in, vectors of texts out, and back into a folder."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import unit
from jaxembed.encoders.pretrained.batches import (
    check_extra,
    check_length,
    check_text,
    check_texts,
    cut_rows,
    open_tokenizer,
    sets_of_texts,
    special_ends,
    text_batch,
    vectors_of_texts,
)
from jaxembed.encoders.pretrained.families import REMEDY, describe
from jaxembed.encoders.pretrained.folders import (
    Folder,
    dense_params,
    max_length_of,
    modes_of,
    pooling_config,
    read_folder,
    save_folder,
)
from jaxembed.encoders.pretrained.hub import find_folder
from jaxembed.encoders.pretrained.tensors import params_of, read_tensors, todays_names
from jaxembed.encoders.pretrained.text_model import checked_width, encoder_functions, token_embedding
from jaxembed.encoders.transformer import transformer
from jaxembed.files import named, reading
from jaxembed.ragged import bucket

# What config.json holds that does not change a vector.
_NO_NUMBERS = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """Text encoder: weights, and pure functions that read them.

    The functions take ``params`` first, so that they train, jit and shard like any other. After training,
    ``dataclasses.replace(encoder, params=params)`` is the new encoder. Ids out of range raise when they come
    from the host, and read zeros under jit.

    A ``batch`` is what ``tokenize`` makes: {"ids": int [B, T], "mask": bool [B, T]}; a mask of 0 and 1 will
    do. It may also hold "pool_mask", bool [B, T], the tokens that the pooling reads. For a causal encoder it
    may hold "prefix", int [B]: how many first tokens every token may read.

    Attributes:
        params: nested dict of arrays.
        encode: ``(params, batch, key=None, *, layers=None, temperature=None, truncate_dim=None) -> [B, D]``.
            ``layers`` runs the first blocks alone, ``temperature`` divides the attention scores, and
            ``truncate_dim`` keeps the first coordinates. They are normalised again where the folder ends with
            Normalize.
        encode_layers: the same arguments ``-> [B, L+1, D]``. Row n is the vector of block n, row 0 that of
            the token embeddings.
        encode_tokens: the same without ``truncate_dim`` ``-> (tokens [B, T, D], mask [B, T])``.
        hidden: the states of the transformer, as in :func:`~jaxembed.encoders.transformer`.
        tokenizer: of the package tokenizers.
        max_length: tokens at which a text is cut.
        pooling: names of the poolings whose vectors are joined.
        width: D.
        folder: settings of the checkpoint's folder.
        heads: {name: NumPy array}, tensors of the checkpoint that the encoder does not use, such as a pooler.
            They are in torch's layout [out, in], under today's names. ``save`` writes them back.
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
    heads: dict = dataclasses.field(default_factory=dict)

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

    def first(self, blocks):
        """The encoder with its first blocks alone, which is trained and saved like any other.

        Args:
            blocks: int in 1..depth.

        Returns:
            :class:`Encoder`.

        Raises:
            ValueError: for a number outside 1..depth.
        """
        if not 1 <= blocks <= self.depth:
            raise ValueError(f"blocks={blocks}: the encoder has blocks 1..{self.depth}")
        params = self.params | {"blocks": jax.tree.map(lambda x: x[:blocks], self.params["blocks"])}
        named = {"num_hidden_layers", "n_layers"} & self.folder.config.keys()
        config = self.folder.config | dict.fromkeys(named, blocks)
        if config.get("layer_types"):
            config["layer_types"] = config["layer_types"][:blocks]
        folder = dataclasses.replace(self.folder, config=config)
        return dataclasses.replace(self, params=params, folder=folder)

    def tokenize(self, texts, *, prompt=None, prompt_name=None, length=None):
        """Turns texts into one batch, cut to ``max_length`` and padded to a length bucket.

        With ``length`` every batch has that many tokens, so a training step is compiled once.

        Args:
            texts: list of str.
            prompt: text put in front of each.
            prompt_name: name of such a text among ``prompts``; default: what the folder says.
            length: optional T, at most ``max_length``; longer texts are cut there, special tokens stay.

        Returns:
            {"ids": int32 [B, T], "mask": bool [B, T]}, and "pool_mask" where the pooling skips the prompt.

        Raises:
            ValueError: for bad texts, as ``encode_texts``, or a length without place for a word or above
                ``max_length``.
        """
        self._check_length(length)
        ids, skipped = self._ids(texts, prompt, prompt_name, length)
        longest = max((len(row) for row in ids), default=1)
        return text_batch(ids, len(ids), length or min(bucket(longest), self.max_length), skipped)

    def encode_texts(
        self,
        texts,
        *,
        batch_size=32,
        prompt=None,
        prompt_name=None,
        layers=None,
        temperature=None,
        truncate_dim=None,
        progress=False,
    ):
        """Computes one vector per text, on the host's side of the door.

        Texts are sorted by length and cut into batches of one size, the longest first. The last batch is
        filled up with empty rows, so that only one shape per length bucket is compiled. Fewer texts than
        ``batch_size`` make one batch of the next power of two. A text longer than ``max_length`` is cut. An
        empty text is encoded as the special tokens alone. Where the tokenizer adds none, its vector is that
        of a text without tokens: zeros under mean pooling.

        Args:
            texts: list of str.
            batch_size: rows of a batch.
            prompt: text put in front of each.
            prompt_name: name of such a text among ``prompts``; default: what the folder says.
            layers: optional number of blocks to run.
            temperature: optional float or array that divides the attention scores.
            truncate_dim: optional number of first coordinates that are kept; normalised again where the
                folder ends with Normalize.
            progress: True shows a bar on a terminal.

        Returns:
            float32 NumPy array [n, D], rows in the order of ``texts``.

        Raises:
            ValueError: when ``texts`` is one str, holds something else than str or a lone surrogate, the
                prompt is unknown, or ``truncate_dim`` is outside 1..width.
        """
        options = {"layers": layers, "temperature": temperature}
        if truncate_dim is not None:
            options["truncate_dim"] = checked_width(truncate_dim, self.width)
        run = functools.partial(self.encode, self.params, **options)
        tokenize = functools.partial(self._ids, prompt=prompt, prompt_name=prompt_name)
        width = truncate_dim or self.width
        return vectors_of_texts(run, tokenize, texts, batch_size, self.max_length, width, progress)

    def encode_sets(
        self, texts, *, length=None, batch_size=32, prompt=None, prompt_name=None, progress=False
    ):
        """Computes the unit token vectors of texts: one set per text, for late interaction.

        The vectors are the states of :attr:`encode_tokens`, each divided by its length. A set holds the
        tokens that the pooling reads, special ones among them. Batches are made as in :meth:`encode_texts`.
        ``dict(zip(names, np.split(tokens, offsets[1:-1])))`` are the sets by name.

        Args:
            texts: list of str.
            length: optional number of tokens at which texts are cut, at most ``max_length``; special tokens
                stay.
            batch_size: rows of a batch.
            prompt: text put in front of each.
            prompt_name: name of such a text among ``prompts``; default: what the folder says.
            progress: True shows a bar on a terminal.

        Returns:
            tokens: float32 NumPy array [S, D], D the width of the blocks, one text after the other.
            offsets: int64 [n + 1]. Text n has ``tokens[offsets[n] : offsets[n + 1]]``.

        Raises:
            ValueError: for bad texts, as :meth:`encode_texts`, or a bad length, as :meth:`tokenize`.
        """
        self._check_length(length)

        def run(batch):
            tokens, mask = self.encode_tokens(self.params, batch)
            return unit(tokens), batch.get("pool_mask", mask)

        tokenize = functools.partial(self._ids, prompt=prompt, prompt_name=prompt_name, length=length)
        width = len(self.params["table"]["embedding"].T)  # of the blocks; vectors may have another one
        most = min(length or self.max_length, self.max_length)
        return sets_of_texts(run, tokenize, texts, batch_size, most, width, progress)

    def save(self, folder):
        """Writes a folder that :func:`load` and sentence-transformers read; it is whole or absent.

        Args:
            folder: path that does not exist yet, or an empty folder.

        Raises:
            FileExistsError: when it holds something.
            BlockingIOError: when another process writes the folder; names it.
        """
        save_folder(self.folder, self.params, self.heads, self.pooling, pathlib.Path(folder))

    def digest(self):
        """Names the encoder by what its vectors depend on: weights, tokenizer, settings, dtype.

        Returns:
            40 hexadecimal digits of a SHA-256. Equal encoders have equal digests, saved and loaded again too.

        Raises:
            ValueError: when ``encode`` was replaced, because a digest cannot read a function.
        """
        if getattr(self.encode, "itself", None) is not self.encode:
            raise ValueError(
                "encode was replaced by a function that no digest describes; give it a name yourself"
            )
        folder = self.folder
        config = {k: v for k, v in folder.config.items() if k not in _NO_NUMBERS}
        steps = [(k, c.get("include_prompt", True) if k == "Pooling" else c) for k, _, c in folder.steps]
        cut = [self.pooling, self.max_length, folder.truncate_dim, folder.prompts, folder.default_prompt]
        told = [self.encode.settings, config, steps, cut, self.tokenizer.to_str()]
        found = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for path, x in jax.tree.leaves_with_path(self.params):
            x = np.asarray(x, order="C")
            found.update(f"{jax.tree_util.keystr(path)} {x.dtype} {x.shape}".encode())
            found.update(x.reshape(-1).view(np.uint8).data)
        return found.hexdigest()[:40]

    def _check_length(self, length):
        if length is None:
            return
        check_length(self.tokenizer, length, "length")
        if length > self.max_length:
            raise ValueError(f"length={length} is above max_length={self.max_length}; load with a larger one")

    def _ids(self, texts, prompt, prompt_name, length=None):
        """Token ids of each text with its prompt, and how many first tokens the pooling skips."""
        known = self.folder.prompts
        prompt_name = prompt_name or (self.folder.default_prompt if prompt is None else None)
        if prompt_name is not None and prompt_name not in known:
            raise ValueError(f"prompt_name={prompt_name!r} is unknown; known: {', '.join(known) or 'none'}")
        prompt = check_text(prompt or known.get(prompt_name) or "", "prompt")
        encoded = self.tokenizer.encode_batch([prompt + text for text in check_texts(texts)])
        side = (self.tokenizer.truncation or {}).get("direction", "right")
        ends, rows = special_ends(self.tokenizer), [e.ids for e in encoded]
        rows = rows if length is None else cut_rows(rows, length, ends, side)
        if not prompt or pooling_config(self.folder.steps).get("include_prompt", True):
            return rows, 0
        alone = self.tokenizer.encode(prompt)
        skipped = len(alone.ids) - bool(alone.ids and alone.special_tokens_mask[-1])
        if side == "left":  # the prompt is cut before the text
            pairs, own = zip(encoded, rows, strict=True), sum(ends)
            lost = [sum(len(o.ids) - own for o in e.overflowing) + len(e.ids) - len(r) for e, r in pairs]
            skipped = ends[0] + np.maximum(0, skipped - ends[0] - np.array(lost, int))
        return rows, skipped


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
    revision=None,
    token=None,
    cache=None,
    offline=False,
):
    """Pretrained encoder: reads what sentence-transformers and transformers save, without torch.

    Families: BERT, RoBERTa, XLM-RoBERTa, MPNet, DistilBERT, ModernBERT, and the decoders Llama, Mistral,
    Qwen2 and Qwen3. Pooling, dense layers and normalisation follow modules.json; a folder without it is
    pooled by the mean and not normalised. Files of 2018 and later are read, with the names and settings of
    their day; they are saved under today's.

    Texts are cut at ``max_seq_length`` of sentence_bert_config.json, else at ``model_max_length`` of
    tokenizer_config.json, never above the model's positions; what tokenizer.json says about lengths is not
    used. The side on which they are cut is ``truncation_side`` of tokenizer_config.json, else "direction" of
    tokenizer.json. The special tokens around a text are those of tokenizer.json alone, as in transformers 5.
    A true ``add_bos_token`` or ``add_eos_token`` of tokenizer_config.json that it contradicts gives a
    warning: "lasttoken" then pools the last token of the text itself.

    With ``truncate_dim`` in config_sentence_transformers.json, the first coordinates are kept, after any
    normalisation; they are not normalised again.

    ``encoder = load("all-MiniLM-L6-v2"); vectors = encoder.encode_texts(["a text", "another"])``

    Args:
        path: a folder, or the name of a repository on the Hugging Face hub, which needs the extra ``hub``. A
            name without owner is looked for under "sentence-transformers", then alone.
        dtype: of the products (for example bfloat16); norms, softmax and residuals stay float32.
        param_dtype: of the parameters, whatever the file holds.
        causal: False lets the tokens of a decoder read later ones, without a window; default: as config.json
            says. Under True, ``batch["prefix"]`` lets all tokens read the first ones.
        pooling: optional name, or several whose vectors are joined, instead of what the folder says: "cls",
            "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken".
        max_length: optional number of tokens at which texts are cut, special ones counted.
        dropout: rate, active when ``encode`` gets a key, at BERT's places: the embeddings, the attention
            weights and both branches of each block.
        checkpoint: policy of ``jax.checkpoint_policies`` for gradients. The default keeps the products with
            weights and computes the rest of a block again, which is faster too; None keeps everything.
        unroll: how many blocks are compiled one after the other.
        revision: optional branch, tag or commit on the hub.
        token: optional access token of the hub; default: the one that its package finds.
        cache: optional folder for what is fetched; default: that of its package.
        offline: True takes what was fetched before and asks no network.

    Returns:
        :class:`Encoder`.

    Raises:
        ModuleNotFoundError: without the extra ``encoders``.
        FileNotFoundError: when the folder or one of its files is missing, or the hub has no such name.
        ValueError: for an unknown architecture, pooling or module; for a checkpoint that is pickled, damaged
            or does not fit its config.json; for a path that leaves the folder. Also for a length above the
            positions or without place for a word.
    """
    check_extra()
    path = find_folder(path, revision=revision, token=token, cache=cache, offline=offline)
    settings = {"dtype": str(dtype and np.dtype(dtype))}
    options = dict.fromkeys(("dropout", "input_dropout", "attention_dropout"), dropout)
    options |= {"dtype": dtype, "checkpoint": checkpoint, "unroll": unroll}
    param_dtype = np.dtype(param_dtype)
    with named(path), reading(path, REMEDY, passing=(ValueError,)):
        folder = read_folder(path, causal, pooling)
        family, embedding, blocks = describe(folder.config)
        model = transformer(*token_embedding(embedding, blocks["width"]), **blocks, **options)
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        root = path / folder.root
        tensors, prefix = todays_names(family, read_tensors(root))
        params, heads = params_of(family, tensors, prefix, shapes, param_dtype)
        modes = modes_of(pooling_config(folder.steps))
        dense, width = dense_params(path, folder.steps, blocks["width"] * len(modes), param_dtype)
        params |= dense
        limit = folder.config["max_position_embeddings"] - embedding.get("offset", 0)
        length = max_length_of(folder, limit, max_length)
        functions = encoder_functions(model.hidden, folder, embedding["vocabulary"], settings)
        lowercase = {"do_lower_case": folder.settings.get("do_lower_case", False)}
        tokenizer = open_tokenizer(root / "tokenizer.json", length, folder.tokenizer | lowercase)
    kept = dataclasses.replace(folder, prefix=prefix, settings=folder.settings | {"max_seq_length": length})
    return Encoder(
        params=jax.tree.map(jnp.asarray, params),
        hidden=model.hidden,
        **dict(zip(("encode", "encode_tokens", "encode_layers"), functions, strict=True)),
        tokenizer=tokenizer,
        max_length=length,
        pooling=modes,
        width=min(width, folder.truncate_dim or width),
        folder=kept,
        heads=heads,
    )
