"""Folders of published checkpoints: which files there are, what the settings say, and writing them again."""

import dataclasses
import json
import os
import pathlib
import re
import shutil

import jax
import numpy as np

from jaxembed.encoders.architectures import Family, describe, with_causal
from jaxembed.encoders.tensors import REMEDY, read_tensors, tensors_of, write_safetensors
from jaxembed.files import beside, read_json, sync_folder, written

SMALL = (".json", ".txt", ".model", ".md", ".jinja")  # what a folder holds beside its tensors
OLD_NAMES = {  # of poolings, in files of earlier versions
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
DENSE_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")


@dataclasses.dataclass(frozen=True)
class Folder:
    """What a checkpoint folder holds beside tensors: settings, steps after the transformer, small files."""

    family: Family
    config: dict
    root: str  # where the transformer lies inside the folder, "" for the folder itself
    settings: dict  # sentence_bert_config.json
    steps: tuple  # (kind, path, config) of Pooling, Dense and Normalize
    prompts: dict
    default_prompt: str | None
    files: dict


def find_folder(path):
    """Returns a folder as pathlib path; a name on the hub is fetched.

    Args:
        path: str or path.
    """
    folder = pathlib.Path(path)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        raise FileNotFoundError(f"{path}: no such folder")
    try:
        import huggingface_hub
    except ImportError:
        raise FileNotFoundError(
            f"{path}: no such folder; to fetch it from the hub, pip install 'jaxembed[hub]'"
        ) from None
    patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
    return pathlib.Path(huggingface_hub.snapshot_download(str(path), allow_patterns=patterns))


def read_files(folder):
    """Reads every small file of a folder: settings, tokenizer and vocabulary.

    Args:
        folder: pathlib path.

    Returns:
        {path inside the folder: bytes}.
    """
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in SMALL):
        name = path.relative_to(folder).as_posix()
        if not name.startswith(".") and not name.endswith(".safetensors.index.json"):
            found[name] = path.read_bytes()
    return found


def read_folder(path, causal, pooling):
    """Reads the settings of a checkpoint folder.

    Args:
        path: pathlib path.
        causal: replaces what config.json says, unless None.
        pooling: replaces what 1_Pooling says, unless None.

    Returns:
        :class:`Folder`.
    """
    files = read_files(path)

    def read(name, default=None):
        if name not in files and default is not None:
            return default
        return read_json(path / name, REMEDY)

    root, steps = "", [("Pooling", "1_Pooling", {"pooling_mode": "mean"})]
    if "modules.json" in files:
        modules = [(m["type"].rsplit(".", 1)[-1], m["path"]) for m in read("modules.json")]
        root, steps = _steps(modules, read)
    if pooling is not None:
        modes = [pooling] if isinstance(pooling, str) else list(pooling)
        steps = [(k, p, {"pooling_mode": modes} if k == "Pooling" else c) for k, p, c in steps]
    modes = modes_of(pooling_config(steps))
    if "cls" in modes and not pooling_config(steps).get("include_prompt", True):
        raise ValueError("1_Pooling/config.json: include_prompt false does not go with the pooling 'cls'")
    inside = f"{root}/" if root else ""
    config = read(f"{inside}config.json")
    if causal is not None:
        config = with_causal(config, causal)
    names = [n for n in files if re.fullmatch(re.escape(inside) + r"sentence_\w+_config\.json", n)]
    more = read("config_sentence_transformers.json", {"prompts": {}})
    return Folder(
        family=describe(config)[0],
        config=config,
        root=root,
        settings=read(names[0]) if names else {},
        steps=tuple(steps),
        prompts={k: v for k, v in more.get("prompts", {}).items() if v is not None},
        default_prompt=more.get("default_prompt_name"),
        files=files,
    )


def _steps(modules, read):
    """The transformer's place and what follows it; refuses modules that we do not know."""
    if not modules or modules[0][0] != "Transformer" or [k for k, _ in modules].count("Pooling") != 1:
        raise ValueError("modules.json: needs a Transformer first and one Pooling")
    steps = []
    for kind, place in modules[1:]:
        if kind not in ("Pooling", "Dense", "Normalize"):
            raise ValueError(f"modules.json: module {kind} is unknown; known: Pooling, Dense, Normalize")
        config = {} if kind == "Normalize" else read(f"{place}/config.json")
        if kind == "Dense" and (
            config["activation_function"].rsplit(".", 1)[-1] not in DENSE_ACTIVATIONS
            or config.get("use_residual")
            or config.get("module_input_name", "sentence_embedding") != "sentence_embedding"
        ):
            raise ValueError(f"{place}/config.json: only a plain layer on the pooled vector is supported")
        steps.append((kind, place, config))
    return modules[0][1], steps


def pooling_config(steps):
    """Returns the settings of the step that pools.

    Args:
        steps: as in :class:`Folder`.
    """
    return next(config for kind, _, config in steps if kind == "Pooling")


def modes_of(config):
    """Names the poolings that a 1_Pooling/config.json asks for, in its older or newer form.

    Args:
        config: dict.
    """
    given = config.get("pooling_mode")
    if given is None:
        given = [m for m in OLD_NAMES if config.get(f"pooling_mode_{OLD_NAMES[m]}", False)] or ["mean"]
    modes = (given,) if isinstance(given, str) else tuple(given)
    for mode in modes:
        if mode not in OLD_NAMES:
            raise ValueError(f"pooling {mode!r} is unknown; known: {', '.join(OLD_NAMES)}")
    return modes


def dense_params(path, steps, dtype):
    """Reads the parameters of the dense steps: {place: {"kernel": [D, d], "bias": [d]}}."""
    found = {}
    for kind, place, config in steps:
        if kind == "Dense":
            tensors = read_tensors(path / place)
            found[place] = {"kernel": np.asarray(tensors["linear.weight"]).T.astype(dtype)}
            if config.get("bias", True):
                found[place]["bias"] = np.asarray(tensors["linear.bias"]).astype(dtype)
    return found


def width_of(folder, width):
    """Returns the width of vectors, given [D] of the pooled ones."""
    return next((c["out_features"] for k, _, c in reversed(folder.steps) if k == "Dense"), width)


def max_length_of(folder, limit, given):
    """Returns at how many tokens a text is cut.

    Args:
        folder: :class:`Folder`.
        limit: positions of the model.
        given: what the caller asks for, or None.
    """
    if given is not None and not 1 <= given <= limit:
        raise ValueError(f"max_length={given}: the model has {limit} positions")
    name = f"{folder.root}/tokenizer_config.json".lstrip("/")
    from_tokenizer = json.loads(folder.files.get(name, b"{}")).get("model_max_length") or limit
    return int(min(given or folder.settings.get("max_seq_length") or from_tokenizer, limit))


def save_folder(source, params, pooling, folder):
    """Writes a folder that sentence-transformers reads.

    Args:
        source: :class:`Folder` that the parameters came from.
        params: nested dict of arrays.
        pooling: names of poolings.
        folder: pathlib path that does not exist yet, or is empty.
    """
    params = jax.device_get(params)
    dense = {place for kind, place, _ in source.steps if kind == "Dense"}
    inside = f"{source.root}/" if source.root else ""
    config = {k: v for k, v in source.config.items() if k != "torch_dtype"}
    dtype = str(params["table"]["embedding"].dtype)
    modules = [("Transformer", source.root), *((kind, place) for kind, place, _ in source.steps)]
    described = {
        f"{inside}config.json": config | {"dtype": dtype},
        f"{inside}sentence_bert_config.json": source.settings,
        "modules.json": [
            {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, place) in enumerate(modules)
        ],
    }
    for kind, place, settings in source.steps:
        if kind == "Pooling":
            width = source.config.get("hidden_size") or source.config["dim"]
            settings = {k: v for k, v in settings.items() if not k.startswith("pooling_mode")}
            settings |= {"word_embedding_dimension": width}
            if list(pooling) == [m for m in OLD_NAMES if m in pooling]:  # what every version reads
                settings |= {f"pooling_mode_{OLD_NAMES[m]}": m in pooling for m in OLD_NAMES}
            else:
                settings |= {"pooling_mode": list(pooling)}
        if kind != "Normalize":
            described[f"{place}/config.json"] = settings
    files = source.files | {name: json.dumps(v, indent=1).encode() for name, v in described.items()}
    trunk = {k: v for k, v in params.items() if k not in dense}
    tensors = {f"{inside}model.safetensors": tensors_of(source.family, trunk)}
    for place in dense:
        named = {"linear.weight": params[place]["kernel"].T}
        named |= {"linear.bias": params[place]["bias"]} if "bias" in params[place] else {}
        tensors[f"{place}/model.safetensors"] = named
    _write_folder(folder, files, tensors)


def _write_folder(folder, files, tensors):
    """Writes a folder that is whole or absent.

    Args:
        folder: pathlib path that does not exist yet, or is empty.
        files: {path inside the folder: bytes}.
        tensors: {path of a safetensors file inside the folder: {name: array}}.

    Raises:
        FileExistsError: when the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: is not empty; give a new folder")
    new = beside(folder, ".new")
    shutil.rmtree(new, ignore_errors=True)
    for name, content in files.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        with written(new / name) as file:
            file.write(content)
    for name, arrays in tensors.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(new / name, arrays)
    if folder.exists():
        folder.rmdir()
    os.replace(new, folder)
    sync_folder(folder.parent)
