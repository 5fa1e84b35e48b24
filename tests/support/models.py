"""Small text encoders as folders on disk, and the numbers that public packages gave for them."""

import functools
import json
import pathlib

import ml_dtypes
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from jaxembed.encoders.pretrained import tensors

GOLDEN = pathlib.Path(__file__).parent / "golden" / "text"


TEXTS = ["w5 w6 w7", "w8", "W9 w10 unknown", "", "w11 " * 60, "w12 w13"]


@functools.cache
def golden(name):
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def write_model(
    folder, name="bert", *, tensors_too=True, dtype=np.float16, modules=("Pooling", "Normalize"), **more
):
    """A folder as sentence-transformers saves it, with a tokenizer whose words are w5 .. w29."""
    file = golden(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(json.loads(str(file["config"])) | more.pop("config", {})))
    if tensors_too:
        weights = {k: v.astype(dtype) for k, v in file.items() if k.startswith("tensor.")}
        weights = {k.removeprefix("tensor."): v for k, v in weights.items()}
        tensors.write_safetensors(folder / "model.safetensors", weights)
    words = {"[PAD]": 0, "[OTHER]": 1, "[CLS]": 2, "[SEP]": 3, "[UNK]": 4} | {
        f"w{i}": i for i in range(5, 30)
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if more.pop("special", True):
        template = [("[CLS]", 2), ("[SEP]", 3)]
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=template)
        tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    tokenizer.enable_truncation(7)
    tokenizer.enable_padding(length=7)
    tokenizer.save(str(folder / "tokenizer.json"))
    kinds = ["Transformer", *modules]
    places = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds) if i)]
    listed = [
        {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"}
        for i, (k, p) in enumerate(zip(kinds, places, strict=True))
    ]
    pooling = {"pooling_mode_mean_tokens": True, "word_embedding_dimension": 16}
    files = {"modules.json": listed, "1_Pooling/config.json": pooling} | more
    for path, value in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(value))
    return folder


def write_dense(folder, width=16, modules=("Pooling", "Dense", "Normalize"), **more):
    """The same with a dense layer to 3 coordinates."""
    config = {"in_features": width, "out_features": 3, "bias": True}
    config |= {"activation_function": "torch.nn.modules.activation.Tanh"}
    path = write_model(folder, modules=modules, **{"2_Dense/config.json": config} | more)
    rng = np.random.default_rng(0)
    linear = {"linear.weight": rng.normal(size=(3, width)), "linear.bias": rng.normal(size=3)}
    linear = {k: v.astype(np.float32) for k, v in linear.items()}
    tensors.write_safetensors(path / "2_Dense" / "model.safetensors", linear)
    return path


def modules(**changed):
    def damage(path):
        listed = json.loads((path / "modules.json").read_text())
        listed[1] = {k: v for k, v in (listed[1] | changed).items() if v is not None}
        (path / "modules.json").write_text(json.dumps(listed))

    return damage


FAST = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": 20}


LONG = "w5 w6 w7 w8 w9 w10"


def rewrite(path, change, **more):
    """Renames the tensors of a folder and adds others."""
    found = {change(k): np.array(v) for k, v in tensors.read_tensors(path).items()}
    tensors.write_safetensors(path / "model.safetensors", found | more)
    return path


def tokenizer_file(**changed):
    def change(path):
        content = json.loads((path / "tokenizer.json").read_text())
        for key, value in changed.items():
            content[key] = content[key] | value if isinstance(value, dict) else value
        (path / "tokenizer.json").write_text(json.dumps(content))

    return change


SIDES = {
    "config": ({"truncation_side": "left"}, {}, [8, 9, 10]),
    "tokenizer": ({}, {"truncation": {"direction": "Left"}}, [8, 9, 10]),
    "config first": ({"truncation_side": "right"}, {"truncation": {"direction": "Left"}}, [5, 6, 7]),
    "neither": ({}, {"truncation": None}, [5, 6, 7]),
}


def heads():
    rng = np.random.default_rng(0)
    return {
        "bert.embeddings.position_ids": np.arange(48)[None],
        "bert.pooler.dense.weight": rng.normal(size=(16, 16)).astype(np.float32),
        "bert.pooler.dense.bias": rng.normal(size=16).astype(np.float16),
        "cls.predictions.bias": rng.normal(size=30).astype(ml_dtypes.bfloat16),
        "cls.predictions.transform.LayerNorm.gamma": rng.normal(size=16),
    }
