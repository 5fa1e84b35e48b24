"""Families of published text models: how their config.json reads and what their tensors are called."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from jaxembed.encoders.positions import rotary_frequencies
from jaxembed.files import field

REMEDY = "copy the whole folder again"
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclasses.dataclass(frozen=True)
class Family:
    """One line of models that share a config.json and tensor names.

    ``read(config) -> (embedding, blocks)``: the description of the token embedding (vocabulary, positions,
    offset, types, epsilon, bias) and the options of :func:`~jaxembed.encoders.transformer`. ``names`` maps
    paths of modules to names of tensors, where {n} is the number of the block. A triple (name, i, k) is part
    i of k that one tensor holds along its output axis. ``base`` is the prefix of these names in a file that
    holds heads too. ``absent`` lists modules that block 0 does not have.
    """

    read: Callable
    names: dict
    base: str
    absent: tuple[str, ...] = ()


def _bert(config, offset=0, types=True, **more):
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError("config.json: position_embedding_type must be 'absolute'")
    epsilon = config.get("layer_norm_eps", 1e-12)  # which the oldest files do not name
    embedding = {
        "vocabulary": config["vocab_size"],
        "positions": config["max_position_embeddings"],
        "offset": offset,
        "types": config["type_vocab_size"] if types else 0,
        "epsilon": epsilon,
    }
    blocks = {
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "mlp_width": config["intermediate_size"],
        "activation": _activation(config["hidden_act"]),
        "epsilon": epsilon,
        "order": "post",
        "final_norm": False,
    }
    return embedding, blocks | more


def _roberta(config):
    return _bert(config, offset=config.get("pad_token_id", 1) + 1)


def _mpnet(config):  # its padding id and number of buckets are fixed
    return _bert(config, offset=2, types=False, distances=32)


def _distilbert(config):
    names = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
    names |= {"intermediate_size": "hidden_dim", "hidden_act": "activation"}
    renamed = {name: config[own] for name, own in names.items() if own in config or name not in config}
    return _bert({**config, **renamed, "layer_norm_eps": 1e-12}, types=False)


def _modernbert(config):
    layers, every = config["num_hidden_layers"], config.get("global_attn_every_n_layers", 3)
    types = config.get("layer_types") or [
        "sliding_attention" if n % every else "full_attention" for n in range(layers)
    ]
    scaling = config.get("rope_parameters") or {
        "full_attention": {"rope_theta": config.get("global_rope_theta", 160000.0)},
        "sliding_attention": {"rope_theta": config.get("local_rope_theta") or 10000.0},
    }
    size, bias = config["hidden_size"] // config["num_attention_heads"], config.get("norm_bias", False)
    turns = {name: rotary_frequencies(size, **_rotary(scaling[name])) for name in set(types)}
    attention, biases = config.get("attention_bias", False), ("mlp",) * config.get("mlp_bias", False)
    embedding = {"vocabulary": config["vocab_size"], "epsilon": config["norm_eps"], "bias": bias}
    blocks = {
        "width": config["hidden_size"],
        "layers": layers,
        "heads": config["num_attention_heads"],
        "mlp_width": config["intermediate_size"],
        "activation": _activation(config["hidden_activation"]),
        "gated": True,
        "epsilon": config["norm_eps"],
        "biases": biases + ("qkv", "out") * attention + ("norm",) * bias,
        "window": tuple(config["local_attention"] // 2 if t == "sliding_attention" else None for t in types),
        "frequencies": np.stack([turns[name] for name in types]),
        "first_norm": False,
    }
    return embedding, blocks


def _decoder(config, qkv=False, out=False, head_norm=False):
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaling = {"rope_theta": config.get("rope_theta", 10000.0), **scaling}
    causal = config.get("is_causal", True)
    blocks = {
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_width": size,
        "head_norm": config["rms_norm_eps"] if head_norm else None,
        "mlp_width": config["intermediate_size"],
        "activation": _activation(config["hidden_act"]),
        "gated": True,
        "norm": "rms",
        "epsilon": config["rms_norm_eps"],
        "biases": ("qkv",) * qkv + ("out",) * out + ("mlp",) * config.get("mlp_bias", False),
        "frequencies": rotary_frequencies(size, **_rotary(scaling)),
        "causal": causal,
        "window": _decoder_windows(config, causal),
    }
    return {"vocabulary": config["vocab_size"]}, blocks


def _decoder_windows(config, causal):
    width, types = config.get("sliding_window"), config.get("layer_types")
    if not width or not config.get("use_sliding_window", config["model_type"] == "mistral"):
        return None
    if types is None:
        after = 0 if config["model_type"] == "mistral" else config["max_window_layers"]
        types = ["sliding_attention" if n >= after else "" for n in range(config["num_hidden_layers"])]
    reach = width - 1 if causal else width  # both ways, transformers counts the token at this distance too
    return tuple(reach if name == "sliding_attention" else None for name in types)


def _llama(config):
    bias = config.get("attention_bias", False)
    return _decoder(config, qkv=bias, out=bias)


def _rotary(given):
    if given.get("partial_rotary_factor", 1) != 1:
        raise ValueError("config.json: partial_rotary_factor other than 1 is not supported")
    return {"theta": given["rope_theta"], "scaling": given}


def _activation(name):
    if name not in list(ACTIVATIONS):
        raise ValueError(f"config.json: activation {name!r} is unknown; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _names(embedding, block, parts):
    return embedding | {f"blocks/{ours}": f"{block}.{theirs}" for ours, theirs in parts.items()}


_EMBEDDING = {
    "table": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
}
_MLP = {"mlp_in": "intermediate.dense", "mlp_out": "output.dense", "mlp_norm": "output.LayerNorm"}
_BERT = _names(
    _EMBEDDING | {"type": "embeddings.token_type_embeddings"},
    "encoder.layer.{n}",
    {
        "attention/query": "attention.self.query",
        "attention/key": "attention.self.key",
        "attention/value": "attention.self.value",
        "attention/out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
    }
    | _MLP,
)
_MPNET = _names(
    _EMBEDDING | {"distance": "encoder.relative_attention_bias"},
    "encoder.layer.{n}",
    {
        "attention/query": "attention.attn.q",
        "attention/key": "attention.attn.k",
        "attention/value": "attention.attn.v",
        "attention/out": "attention.attn.o",
        "attention_norm": "attention.LayerNorm",
    }
    | _MLP,
)
_DISTILBERT = _names(
    _EMBEDDING,
    "transformer.layer.{n}",
    {
        "attention/query": "attention.q_lin",
        "attention/key": "attention.k_lin",
        "attention/value": "attention.v_lin",
        "attention/out": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "mlp_in": "ffn.lin1",
        "mlp_out": "ffn.lin2",
        "mlp_norm": "output_layer_norm",
    },
)
_MODERNBERT = {
    "table": "embeddings.tok_embeddings",
    "embedding_norm": "embeddings.norm",
    "norm": "final_norm",
    "blocks/attention/query": ("layers.{n}.attn.Wqkv", 0, 3),
    "blocks/attention/key": ("layers.{n}.attn.Wqkv", 1, 3),
    "blocks/attention/value": ("layers.{n}.attn.Wqkv", 2, 3),
    "blocks/attention/out": "layers.{n}.attn.Wo",
    "blocks/attention_norm": "layers.{n}.attn_norm",
    "blocks/mlp_gate": ("layers.{n}.mlp.Wi", 0, 2),
    "blocks/mlp_in": ("layers.{n}.mlp.Wi", 1, 2),
    "blocks/mlp_out": "layers.{n}.mlp.Wo",
    "blocks/mlp_norm": "layers.{n}.mlp_norm",
}
_DECODER = _names(
    {"table": "embed_tokens", "norm": "norm"},
    "layers.{n}",
    {
        "attention/query": "self_attn.q_proj",
        "attention/key": "self_attn.k_proj",
        "attention/value": "self_attn.v_proj",
        "attention/out": "self_attn.o_proj",
        "attention/query_norm": "self_attn.q_norm",
        "attention/key_norm": "self_attn.k_norm",
        "attention_norm": "input_layernorm",
        "mlp_gate": "mlp.gate_proj",
        "mlp_in": "mlp.up_proj",
        "mlp_out": "mlp.down_proj",
        "mlp_norm": "post_attention_layernorm",
    },
)

FAMILIES = {
    "bert": Family(_bert, _BERT, "bert."),
    "roberta": Family(_roberta, _BERT, "roberta."),
    "xlm-roberta": Family(_roberta, _BERT, "roberta."),
    "mpnet": Family(_mpnet, _MPNET, "mpnet."),
    "distilbert": Family(_distilbert, _DISTILBERT, "distilbert."),
    "modernbert": Family(_modernbert, _MODERNBERT, "model.", absent=("blocks/attention_norm",)),
    "llama": Family(_llama, _DECODER, "model."),
    "mistral": Family(_decoder, _DECODER, "model."),
    "qwen2": Family(lambda config: _decoder(config, qkv=True), _DECODER, "model."),
    "qwen3": Family(
        lambda config: _decoder(
            config,
            qkv=config.get("attention_bias", False),
            out=config.get("attention_bias", False),
            head_norm=True,
        ),
        _DECODER,
        "model.",
    ),
}
_CLASSES = {  # of transformers, by which the oldest config.json name their family
    "Bert": "bert",
    "Roberta": "roberta",
    "XLMRoberta": "xlm-roberta",
    "MPNet": "mpnet",
    "DistilBert": "distilbert",
}


def with_family(config):
    """Returns a config.json whose family is named; the oldest ones name a class of transformers alone.

    >>> print(with_family({"architectures": ["BertForMaskedLM"]})["model_type"])
    bert

    Args:
        config: dict.
    """
    if config.get("model_type") is not None:
        return config
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    kind = _CLASSES.get(re.split("Model|For", first)[0])
    return config if kind is None else config | {"model_type": kind}


def with_causal(config, causal):
    """Returns a config.json whose decoder hides later tokens or not; other families stay as they are.

    Args:
        config: dict.
        causal: True, or False, which takes windows away too.
    """
    if "causal" not in describe(config)[2]:
        return config
    changed = {"is_causal": causal}
    if not causal:
        full = ["full_attention"] * config["num_hidden_layers"]
        changed |= {"sliding_window": None, "use_sliding_window": False, "layer_types": full}
        changed = {k: v for k, v in changed.items() if k in config or k in ("is_causal", "sliding_window")}
    return config | changed


_WIDTHS = (
    "hidden_size",
    "intermediate_size",
    "dim",
    "hidden_dim",
    "head_dim",
    "num_hidden_layers",
    "n_layers",
)
_WIDTHS += ("num_attention_heads", "n_heads", "num_key_value_heads")
_ROWS = ("vocab_size", "max_position_embeddings", "local_attention", "type_vocab_size")
_MOST = dict.fromkeys(_WIDTHS, 2**20) | dict.fromkeys(_ROWS, 2**31 - 1)  # counts above are not meant
_MAY_BE_NULL = ("head_dim", "num_key_value_heads")


def _check(config):
    """Refuses numbers of a config.json that cannot be meant."""
    field(config, "max_position_embeddings", int, "config.json", REMEDY)
    for key in _MOST.keys() & config.keys():
        if config[key] is None and key in _MAY_BE_NULL:
            continue
        value, least = field(config, key, int, "config.json", REMEDY), int(key != "type_vocab_size")
        if not least <= value <= _MOST[key]:
            side = f"below {least}" if value < least else f"above {_MOST[key]}"
            raise ValueError(f"config.json: {key} is {str(value)[:20]}, {side}; {REMEDY}")
    for key in {"layer_norm_eps", "norm_eps", "rms_norm_eps"} & config.keys():
        if not 0 <= field(config, key, float, "config.json", REMEDY) <= 1:
            raise ValueError(f"config.json: {key} is {str(config[key])[:20]}, outside 0 to 1; {REMEDY}")


def describe(config):
    """Reads a config.json: its family, and the descriptions of the token embedding and the blocks.

    Args:
        config: dict.

    Returns:
        (:class:`Family`, dict, dict), the latter two as ``Family.read`` gives them.

    Raises:
        ValueError: for an unknown model_type, or a key that is missing.
    """
    config = with_family(config)
    kind = config.get("model_type")
    if kind is None:
        raise ValueError(f"config.json: model_type is missing; write one there: {', '.join(FAMILIES)}")
    if kind not in list(FAMILIES):
        raise ValueError(f"config.json: model_type {kind!r} is unknown; known: {', '.join(FAMILIES)}")
    if config.get("quantization_config") is not None:
        raise ValueError("config.json: quantization_config is not supported; load the weights before it")
    _check(config)
    try:
        with np.errstate(all="ignore"):
            embedding, blocks = FAMILIES[kind].read(config)
    except KeyError as error:
        raise ValueError(f"config.json: {error} is missing; a {kind} needs it") from None
    except (TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise ValueError(f"config.json: a value of the wrong kind ({error}); {REMEDY}") from None
    if not np.isfinite(blocks.get("frequencies", 0)).all():
        raise ValueError(f"config.json: the rotations of positions are not finite; {REMEDY}")
    return FAMILIES[kind], embedding, blocks
