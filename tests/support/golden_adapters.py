"""Writes the adapters of PEFT and the states that torch gives with them, for test_adapters.py.

Run ``python tests/support/golden_adapters.py`` with the extra ``peers`` and the package peft; it overwrites
tests/support/golden/adapters. Every file keeps adapter_config.json as text, the tensors in float16, which
hold their values exactly, the last hidden states of a tiny model of golden/text, and the versions.
"""

import importlib.metadata
import pathlib
import tempfile

import numpy as np
import peft
import torch
from models import golden, write_model
from safetensors.numpy import load_file
from transformers import AutoModel

FOLDER = pathlib.Path(__file__).parent / "golden" / "adapters"
CASES = {
    "bert": {"target_modules": ["query", "value"]},
    "llama": {"target_modules": "all-linear", "use_dora": True},
    "modernbert": {"target_modules": ["Wqkv", "Wo"], "use_dora": True, "rank_pattern": {"Wqkv": 3}},
    "mistral": {"target_modules": r"layers\.1\.mlp\.up_proj", "use_rslora": True},
}


def adapted(name, options, folder):
    """The model with random adapters as float16 holds them, written to a folder."""
    model = AutoModel.from_pretrained(
        write_model(folder / "model", name), attn_implementation="eager"
    ).float()
    settings = peft.LoraConfig(r=2, lora_alpha=3, task_type="FEATURE_EXTRACTION", **options)
    model = peft.get_peft_model(model, settings).eval()
    torch.manual_seed(0)
    for path, x in model.named_parameters():
        if "lora_" in path:
            noise = torch.randn_like(x) * 0.1
            x.data = (x.data * (1 + noise) if "magnitude" in path else noise).half().float()
    model.save_pretrained(folder / "adapters")
    return model


def main():
    for name, options in CASES.items():
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            folder = pathlib.Path(folder)
            model = adapted(name, options, folder)
            file = golden(name)
            mask = torch.tensor(file["mask"]).long()
            states = model(input_ids=torch.tensor(file["ids"]).long(), attention_mask=mask)[0]
            made = {
                f"tensor.{k}": v for k, v in load_file(folder / "adapters/adapter_model.safetensors").items()
            }
            versions = [f"{p}=={importlib.metadata.version(p)}" for p in ("peft", "torch", "transformers")]
            np.savez_compressed(
                FOLDER / f"{name}.npz",
                config=(folder / "adapters/adapter_config.json").read_text(),
                states=states.numpy(),
                versions=np.array(versions),
                **{k: v.astype(np.float16) for k, v in made.items()},
            )


if __name__ == "__main__":
    main()
