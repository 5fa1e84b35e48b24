"""Published causal language models: a GGUF file in, scores of the next token out."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.encoders.language_models import token_logits
from jaxembed.encoders.pretrained.batches import check_extra, check_texts, text_batch
from jaxembed.encoders.pretrained.families import FAMILIES, describe
from jaxembed.encoders.pretrained.gguf import REMEDY, read_gguf
from jaxembed.encoders.pretrained.tensors import params_of
from jaxembed.encoders.pretrained.text_model import token_embedding
from jaxembed.encoders.transformer import transformer
from jaxembed.files import named, reading
from jaxembed.ragged import bucket

MODULES = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SETTINGS = {  # of config.json, by their names in the file
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "intermediate_size": "feed_forward_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
}
CONTROL = 3  # kind of a token that no text holds


@dataclasses.dataclass(frozen=True, eq=False)
class CausalModel:
    """Published causal language model: weights, and pure functions that read them.

    ``recipes.score_texts(model, texts)`` gives the nats per token of texts. After training,
    ``dataclasses.replace(model, params=params)`` is the new model.

    Attributes:
        params: nested dict of arrays, as of :func:`~jaxembed.encoders.language_model`.
        hidden: as in :class:`~jaxembed.encoders.transformer.Transformer`.
        logits: ``(params, batch, key=None) -> [B, T, V]``, the scores of the token after each place.
        tokenizer: of the package tokenizers.
        max_length: tokens at which a text is cut.
        begin: tokens put before each text, a list of ids, as the file asks.
    """

    params: dict
    hidden: Callable
    logits: Callable
    tokenizer: Any
    max_length: int
    begin: list

    def token_ids(self, texts, *, length=None):
        """Turns texts into lists of token ids, each after the begin and cut to a length.

        Args:
            texts: list of str.
            length: optional number of tokens, at most ``max_length``.

        Returns:
            Lists of int.

        Raises:
            ValueError: for one str, another type, half a character, or a length outside 2..max_length.
        """
        most = self.max_length if length is None else length
        if not 2 <= most <= self.max_length:
            raise ValueError(f"length={length}: choose 2 to {self.max_length}, what the model reads")
        found = self.tokenizer.encode_batch(check_texts(texts), add_special_tokens=False)
        return [(self.begin + e.ids)[:most] for e in found]

    def tokenize(self, texts, *, length=None):
        """Turns texts into one batch, cut to ``max_length`` and padded to a length bucket.

        Args:
            texts: list of str.
            length: optional T; every batch then has that many tokens.

        Returns:
            {"ids": int32 [B, T], "mask": bool [B, T]}.

        Raises:
            ValueError: as :meth:`token_ids`.
        """
        ids = self.token_ids(texts, length=length)
        longest = max((len(row) for row in ids), default=1)
        return text_batch(ids, len(ids), length or min(bucket(longest), self.max_length))


def load_causal(path, *, dtype=None, param_dtype=np.float32, checkpoint=None, unroll=1):
    """Pretrained language model: reads a GGUF file of the Llama architecture, quantised or not.

    The weights are widened to floats, and can be trained. The tokenizer is the one in the file: byte-level
    BPE, split as in GPT-2 or as in SmolLM, whose digits stand alone.

    ``model = load_causal("SmolLM2-135M-Instruct.Q4_1.gguf"); recipes.score_texts(model, ["a text"])``

    Args:
        path: of the file.
        dtype: of the products (for example bfloat16); norms, softmax and residuals stay float32.
        param_dtype: of the parameters.
        checkpoint: policy of ``jax.checkpoint_policies`` for gradients; None keeps everything.
        unroll: how many blocks are compiled one after the other.

    Returns:
        :class:`CausalModel`.

    Raises:
        ModuleNotFoundError: without the extra ``encoders``.
        FileNotFoundError: when the file is missing.
        ValueError: for another architecture or tokenizer, scaled positions, a kind of quantisation that is
            not read, or a damaged file.
    """
    check_extra()
    path = pathlib.Path(path)
    with named(path), reading(path, REMEDY, passing=(ValueError,)):
        settings, tensors = read_gguf(path)
        config, heads = _config(settings), _setting(settings, "llama.attention.head_count")
        _, embedding, blocks = describe(config)
        options = {"dtype": dtype, "checkpoint": checkpoint, "unroll": unroll}
        model = transformer(*token_embedding(embedding, blocks["width"]), **blocks, **options)
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        turned = {"attn_q": heads, "attn_k": config["num_key_value_heads"]}
        renamed = dict(_renamed(name, x, turned) for name, x in tensors.items())
        params, rest = params_of(FAMILIES["llama"], renamed, "", shapes, np.dtype(param_dtype))
        if "lm_head.weight" in rest:
            params["head"] = {"kernel": rest.pop("lm_head.weight").T.astype(param_dtype)}
        if rest:
            raise ValueError(f"tensor {min(rest)} is not part of a Llama model; take another file")
        tokenizer = _tokenizer(settings, embedding["vocabulary"])
        begins = bool(settings.get("tokenizer.ggml.add_bos_token", False))
        begin = [_setting(settings, "tokenizer.ggml.bos_token_id")] if begins else []
    length = config["max_position_embeddings"]

    def logits(params, batch, key=None):
        return token_logits(params, model.hidden(params, batch, key)["tokens"])

    params = jax.tree.map(jnp.asarray, params)
    return CausalModel(params, model.hidden, logits, tokenizer, length, begin)


def _setting(settings, name):
    if name not in settings:
        raise ValueError(f"the setting {name} is missing; {REMEDY}")
    return settings[name]


def _config(settings):
    """The settings of the file as those of config.json."""
    kind = settings.get("general.architecture")
    if kind != "llama":
        raise ValueError(f"the architecture is {kind!r}; give a model of the architecture 'llama'")
    scaling = settings.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ValueError(f"positions are scaled ({scaling}), which is not read; take another file")
    config = {name: _setting(settings, f"llama.{own}") for name, own in SETTINGS.items()}
    heads = config["num_attention_heads"]
    return config | {
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": len(_setting(settings, "tokenizer.ggml.tokens")),
        "num_key_value_heads": settings.get("llama.attention.head_count_kv", heads),
        "rope_theta": settings.get("llama.rope.freq_base", 10000.0),
    }


def _renamed(name, x, turned):
    """The name of a tensor in a folder of transformers, and its rows in the order that they have there.

    Rows of queries and keys are in pairs that turn together; here the halves of a head do.
    """
    module, _, end = name.rpartition(".")
    if not module.startswith("blk."):
        return f"{MODULES.get(module, module)}.{end}", x
    _, n, part = module.split(".", 2)
    if part in turned and x.ndim == 2 and len(x) % (2 * turned[part]) == 0:
        x = x.reshape(turned[part], -1, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
    return f"layers.{n}.{PARTS.get(part, part)}.{end}", x


def _tokenizer(settings, vocabulary):
    """The byte-level BPE of the file."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    kind, split = (settings.get(f"tokenizer.ggml.{name}", "") for name in ("model", "pre"))
    if kind != "gpt2" or split not in ("", "default", "gpt-2", "smollm"):
        raise ValueError(
            f"the tokenizer {kind!r} {split!r} is not read; known: 'gpt2' with 'gpt-2' or 'smollm'"
        )
    tokens = settings["tokenizer.ggml.tokens"]
    merges = [tuple(line.split(" ", 1)) for line in _setting(settings, "tokenizer.ggml.merges")]
    places = {token: n for n, token in enumerate(tokens)}
    if len(places) < vocabulary:
        raise ValueError(f"the {vocabulary} tokens are not all different; {REMEDY}")
    for pair in merges:
        if len(pair) < 2 or not {*pair, "".join(pair)} <= places.keys():
            raise ValueError(f"the merge {' '.join(pair)!r} is not made of tokens; {REMEDY}")
    tokenizer = Tokenizer(models.BPE(places, merges))
    steps = [pre_tokenizers.Digits(individual_digits=True)] if split == "smollm" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    kinds = settings.get("tokenizer.ggml.token_type", [])
    special = [token for token, kind in zip(tokens, kinds, strict=False) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer
