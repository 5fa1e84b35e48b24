"""Adapters of low rank as files: the folders that the package PEFT writes and reads."""

import json
import pathlib
import re

import jax
import numpy as np

from jaxembed.encoders.pretrained.families import REMEDY
from jaxembed.encoders.pretrained.folders import write_folder
from jaxembed.encoders.pretrained.tensors import read_safetensors
from jaxembed.files import field, read_json, reading, typed

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
PARTS = {"lora_A.weight": "down", "lora_B.weight": "up", "lora_magnitude_vector": "magnitude"}


def write_adapters(folder, encoder, adapters, scale=1.0):
    """Writes adapters of low rank in the layout of PEFT: adapter_config.json and a safetensors file.

    ``adapters = weights.init_low_rank(key, encoder.params, "^blocks/.*kernel$", 8)``
    ``write_adapters("adapters", encoder, adapters, scale=2.0)``

    PEFT reads them beside the model that they belong to: ``PeftModel.from_pretrained(model, "adapters")``. A
    checkpoint that keeps several kernels in one tensor (ModernBERT) gets one adapter for all of them, with
    their ranks added and zeros between them.

    Args:
        folder: path that does not exist yet, or an empty folder.
        encoder: of ``encoders.pretrained.load``.
        adapters: of ``weights.init_low_rank`` for kernels of its blocks, all of one rank.
        scale: that ``weights.low_rank`` takes. It is written as lora_alpha, scale times the rank.

    Raises:
        FileExistsError: when the folder holds something.
        BlockingIOError: when another process writes the folder; names it.
        ValueError: for adapters of something else than kernels of the blocks, or of several ranks.
    """
    tensors, ranks = {}, {}
    for name, parts in _by_tensor(encoder.folder.family, jax.device_get(adapters)).items():
        given = [parts[i] for i in sorted(parts)]
        ranks[name] = sum(len(x["up"]) for x in given)
        tensors |= {f"{PREFIX}{name}.{key}": x for key, x in _joined(given).items()}
    least = min(len(x["up"][0]) for x in _leaves(adapters))
    special = {name: r for name, r in ranks.items() if r != least}
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": None,
        "r": least,
        "lora_alpha": _number(scale * least),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
        "rank_pattern": special,
        "alpha_pattern": {name: _number(scale * r) for name, r in special.items()},
        "target_modules": sorted(ranks),
        "use_dora": any("magnitude" in x for x in _leaves(adapters)),
        "use_rslora": False,
    }
    files = {CONFIG: json.dumps(config, indent=1).encode()}
    write_folder(pathlib.Path(folder), files, {TENSORS: tensors})


def read_adapters(folder, encoder):
    """Reads adapters of low rank that PEFT or :func:`write_adapters` wrote.

    ``adapters, scale = read_adapters("adapters", encoder)``
    ``params = weights.low_rank(encoder.params, adapters, scale)``, or ``recipes.with_adapters``

    Kernels that some blocks leave out get zeros there, and ranks that differ between blocks are filled with
    zeros to the largest.

    Args:
        folder: path with adapter_config.json and adapter_model.safetensors. Names of tensors may have the
            prefix of a model with a head ("bert.", "model.").
        encoder: of ``encoders.pretrained.load``, of the model that the adapters belong to.

    Returns:
        (adapters as of ``weights.init_low_rank``, scale), float32.

    Raises:
        FileNotFoundError: when one of the files is missing.
        ValueError: for another kind of adapter than LoRA or DoRA on linear maps, biases or whole modules
            beside it, tensors of another model, or a damaged file.
    """
    folder = pathlib.Path(folder)
    with reading(folder, REMEDY, passing=(ValueError,)):
        config = _checked(read_json(folder / CONFIG, REMEDY))
        found = _grouped(read_safetensors(folder / TENSORS), folder / TENSORS)
        scales = {name: _scale(config, name, x) for name, x in found.items()}
        scale = min(scales.values())
        places, base = _places(encoder.folder.family, encoder.depth), encoder.folder.family.base
        rows = {}
        for name, tensors in found.items():
            short = name.removeprefix(PREFIX)
            short = short if short in places else short.removeprefix(base)
            for module, n, part, parts in places.get(short, ()):
                one = _part(tensors, part, parts, scales[name] / scale)
                rows.setdefault(module, {})[n] = one
            if short not in places:
                raise ValueError(f"{folder / TENSORS}: {name} is not a linear map of this encoder's blocks")
        adapters = {}
        for module, blocks in rows.items():
            *above, last = module.split("/")
            place = adapters
            for key in above:
                place = place.setdefault(key, {})
            place[last] = {"kernel": _stacked(blocks, _kernel(encoder.params, module), module)}
    return adapters, scale


def _number(x):
    """A number as JSON has it: whole where it is."""
    return int(x) if float(x).is_integer() else float(x)


def _leaves(adapters):
    """The {"down", "up"} of each kernel."""
    if "down" in adapters:
        return [adapters]
    return [x for value in adapters.values() for x in _leaves(value)]


def _names(family, module, n):
    """The name of a kernel's tensor, and which of how many parts of it the kernel is."""
    entry = family.names[module]
    name, part, parts = (entry, 0, 1) if isinstance(entry, str) else entry
    return name.format(n=n), part, parts


def _by_tensor(family, adapters, path=""):
    """{name of a tensor: {part: {"down", "up", "magnitude"} of one block}}."""
    found = {}
    if "down" not in adapters:
        for key, value in adapters.items():
            for name, parts in _by_tensor(family, value, f"{path}/{key}".strip("/")).items():
                found.setdefault(name, {}).update(parts)
        return found
    module = path.removesuffix("/kernel")
    if module not in family.names or not path.startswith("blocks/") or not path.endswith("/kernel"):
        raise ValueError(f"adapters: {path!r} is not a kernel of the blocks; leave it out of the pattern")
    for n in range(len(adapters["up"])):
        if n == 0 and module in family.absent:
            continue
        name, part, _ = _names(family, module, n)
        found.setdefault(name, {})[part] = {k: np.asarray(x[n]) for k, x in adapters.items()}
    return found


def _joined(given):
    """PEFT's tensors of one linear map whose outputs are parts with an adapter each."""
    ranks = np.cumsum([0, *(len(x["up"]) for x in given)])
    outs = np.cumsum([0, *(x["up"].shape[1] for x in given)])
    up = np.zeros((outs[-1], ranks[-1]), given[0]["up"].dtype)
    for i, x in enumerate(given):
        up[outs[i] : outs[i + 1], ranks[i] : ranks[i + 1]] = x["up"].T
    made = {"lora_A.weight": np.concatenate([x["down"].T for x in given]), "lora_B.weight": up}
    if "magnitude" in given[0]:
        made["lora_magnitude_vector"] = np.concatenate([x["magnitude"] for x in given])
    return made


def _checked(config):
    """The settings, after what would change the numbers is refused."""
    kind = field(config, "peft_type", str, CONFIG, REMEDY)
    if kind != "LORA":
        raise ValueError(f"{CONFIG}: peft_type is {kind!r}; LORA alone is read")
    if config.get("bias", "none") != "none" or config.get("modules_to_save"):
        raise ValueError(f"{CONFIG}: bias or modules_to_save; adapters of kernels alone are read")
    if config.get("fan_in_fan_out"):
        raise ValueError(f"{CONFIG}: fan_in_fan_out is not supported; save adapters of nn.Linear")
    for name in ("rank_pattern", "alpha_pattern"):
        typed(config.get(name) or {}, dict, f"{CONFIG}: {name}", REMEDY)
    return config


def _grouped(tensors, path):
    """{name of a linear map: {"down", "up", "magnitude"} as PEFT has them}."""
    found = {}
    for name, x in tensors.items():
        whole = name.removesuffix(".weight") if name.endswith("lora_magnitude_vector.weight") else name
        end = next((end for end in PARTS if whole.endswith(f".{end}")), None)
        if end is None:
            raise ValueError(f"{path}: {name} is not of LoRA or DoRA on a linear map; it is not read")
        found.setdefault(whole.removesuffix(f".{end}"), {})[PARTS[end]] = np.asarray(x, np.float32)
    for name, x in found.items():
        if not {"down", "up"} <= x.keys() or x["down"].ndim != 2 or x["up"].ndim != 2:
            raise ValueError(f"{path}: {name} lacks its lora_A or lora_B of two axes; {REMEDY}")
        if len(x["down"]) != x["up"].shape[1] or x.get("magnitude", x["up"][:, 0]).shape != x["up"].shape[:1]:
            raise ValueError(f"{path}: {name} has tensors that do not fit one another; {REMEDY}")
    if not found:
        raise ValueError(f"{path}: holds no adapter; {REMEDY}")
    return found


def _scale(config, name, tensors):
    """alpha / rank of one linear map, as PEFT finds it."""
    alpha = field(config, "lora_alpha", float, CONFIG, REMEDY)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({re.escape(pattern)})$", name):
            alpha = typed(value, float, f"{CONFIG}: alpha_pattern", REMEDY)
    rank = len(tensors["down"])
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    if not 0 < scale < np.inf:
        raise ValueError(f"{CONFIG}: lora_alpha is {alpha}, not above 0; {REMEDY}")
    return scale


def _places(family, depth):
    """{name of a linear map: [(module, number of the block, part, parts)]}."""
    found = {}
    for module in family.names:
        if module.startswith("blocks/") and not module.endswith("norm"):
            for n in range(depth):
                name, part, parts = _names(family, module, n)
                found.setdefault(name, []).append((module, n, part, parts))
    return found


def _part(tensors, part, parts, ratio):
    """The adapter of one part of a linear map, in our layout."""
    made = {"down": tensors["down"].T, "up": np.split(tensors["up"], parts)[part].T * np.float32(ratio)}
    if "magnitude" in tensors:
        made["magnitude"] = np.split(tensors["magnitude"], parts)[part]
    return made


def _kernel(params, module):
    for key in module.split("/"):
        params = params[key]
    return np.asarray(params["kernel"])


def _stacked(blocks, kernel, module):
    """The adapters of all blocks of a kernel [L, inputs, outputs] as one."""
    depth, inputs, outputs = kernel.shape
    rank = max(len(x["up"]) for x in blocks.values())
    if any((len(x["down"]), x["up"].shape[1]) != (inputs, outputs) for x in blocks.values()):
        raise ValueError(f"{TENSORS}: {module!r} is of another shape in this encoder; pass its own model")
    made = {
        "down": np.zeros((depth, inputs, rank), np.float32),
        "up": np.zeros((depth, rank, outputs), np.float32),
    }
    if any("magnitude" in x for x in blocks.values()):
        made["magnitude"] = np.sqrt(np.sum(kernel.astype(np.float32) ** 2, axis=1))
    for n, x in blocks.items():
        made["down"][n, :, : len(x["up"])] = x["down"]
        made["up"][n, : len(x["up"])] = x["up"]
        if "magnitude" in x:
            made["magnitude"][n] = x["magnitude"]
    return made
