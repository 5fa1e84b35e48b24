"""Folders of published encoders, whole and damaged."""

from jaxembed.encoders.pretrained.families import FAMILIES

DECODERS = ("llama", "mistral", "qwen2", "qwen3")


# Every family gives the numbers of transformers


CASES = [(name, True) for name in FAMILIES] + [(name, False) for name in DECODERS]


WINDOWS = {"mistral": {"sliding_window": 2}}
WINDOWS["qwen2"] = WINDOWS["mistral"] | {"use_sliding_window": True, "max_window_layers": 1}
WINDOWS["qwen2"] |= {"layer_types": None}


# Poolings, dense layers, layers


SEVERAL = (["max", "mean"], ["mean", "cls"], ["lasttoken", "mean"], ["mean", "mean"])
