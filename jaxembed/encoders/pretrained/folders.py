"""Folders of published checkpoints: which files there are, what the settings say, and writing them again."""

import dataclasses
import json
import os
import re
import shutil

import jax

from jaxembed.encoders.pretrained.families import Family, describe, with_causal, with_family
from jaxembed.encoders.pretrained.hub import SMALL
from jaxembed.encoders.pretrained.tensors import REMEDY, dense_of, read_tensors, tensors_of, write_safetensors
from jaxembed.files import beside, cleared, field, held, inside, read_json, sync_folder, typed, written

OLD_NAMES = {  # of poolings, in files of earlier versions
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
OLD_TRANSFORMERS = ("BERT", "RoBERTa", "DistilBERT", "XLMRoBERTa")  # one class per family, in 2019
DENSE_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")


@dataclasses.dataclass(frozen=True)
class Folder:
    """A checkpoint folder without its tensors: settings, steps after the transformer, small files."""

    family: Family
    config: dict
    root: str  # where the transformer is inside the folder, "" for the folder itself
    settings: dict  # sentence_bert_config.json
    max_length: int | None  # tokens at which texts are cut
    steps: tuple  # (kind, path, config) of Pooling, Dense and Normalize
    prompts: dict
    default_prompt: str | None
    truncate_dim: int | None  # first coordinates of a vector that are kept
    tokenizer: dict  # tokenizer_config.json
    files: dict
    prefix: str = ""  # before the names of the encoder's own tensors


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
        kind = list if name == "modules.json" else dict
        return typed(read_json(path / name, REMEDY), kind, path / name, REMEDY)

    root, steps = "", [("Pooling", "1_Pooling", {"pooling_mode": "mean"})]
    if "modules.json" in files:
        root, steps = _steps(read("modules.json"), read)
    if pooling is not None:
        modes = [pooling] if isinstance(pooling, str) else list(pooling)
        steps = [(k, p, {"pooling_mode": modes} if k == "Pooling" else c) for k, p, c in steps]
    modes = modes_of(pooling_config(steps))
    if "cls" in modes and not pooling_config(steps).get("include_prompt", True):
        raise ValueError("1_Pooling/config.json: include_prompt false does not go with the pooling 'cls'")
    begin = f"{root}/" if root else ""
    config = with_family(read(f"{begin}config.json"))
    if causal is not None:
        config = with_causal(config, causal)
    names = [n for n in files if re.fullmatch(re.escape(begin) + r"sentence_[\w-]+_config\.json", n)]
    settings, own = read(names[0]) if names else {}, read(f"{begin}tokenizer_config.json", {})
    length = _optional(settings, "max_seq_length", int, "".join(names[:1]))
    return Folder(
        family=describe(config)[0],
        config=config,
        root=root,
        settings=settings,
        max_length=length or _longest(own),
        steps=tuple(steps),
        tokenizer=own,
        files=files,
        **_prompts_and_cut(read("config_sentence_transformers.json", {"prompts": {}})),
    )


def _optional(record, key, kind, name):
    return None if record.get(key) is None else field(record, key, kind, name, REMEDY)


def _longest(tokenizer_config, name="tokenizer_config.json"):
    longest = _optional(tokenizer_config, "model_max_length", float, name)
    if longest is not None and not longest >= 1:
        raise ValueError(f"{name}: model_max_length is {longest}, below 1; {REMEDY}")
    return longest


def _prompts_and_cut(config, name="config_sentence_transformers.json"):
    """The fields of a :class:`Folder` that this file gives."""
    prompts, cut = (
        _optional(config, "prompts", dict, name) or {},
        _optional(config, "truncate_dim", int, name),
    )
    if cut is not None and cut < 1:
        raise ValueError(f"{name}: truncate_dim {cut} is below 1; {REMEDY}")
    return {
        "prompts": {k: typed(v, str, f"{name}: {k}", REMEDY) for k, v in prompts.items() if v is not None},
        "default_prompt": _optional(config, "default_prompt_name", str, name),
        "truncate_dim": cut,
    }


def _steps(modules, read):
    """The transformer's place and what follows it; refuses modules that we do not know."""
    types, places = ([field(m, k, str, "modules.json", REMEDY) for m in modules] for k in ("type", "path"))
    kinds = [name.rsplit(".", 1)[-1] for name in types]
    if kinds[:1] and kinds[0] in OLD_TRANSFORMERS:
        kinds[0] = "Transformer"
    if kinds[:1] != ["Transformer"] or kinds.count("Pooling") != 1:
        raise ValueError(
            "modules.json: needs a Transformer first and one Pooling; copy the whole folder again"
        )
    steps = []
    for kind, place in list(zip(kinds, places, strict=True))[1:]:
        if kind not in ("Pooling", "Dense", "Normalize"):
            raise ValueError(f"modules.json: module {kind} is unknown; known: Pooling, Dense, Normalize")
        if kind == "Normalize":
            steps.append((kind, place, {}))
            continue
        name = f"{inside(place, 'modules.json')}/config.json"
        config = read(name)
        if kind == "Dense" and (
            field(config, "activation_function", str, name, REMEDY).rsplit(".", 1)[-1]
            not in DENSE_ACTIVATIONS
            or field(config, "out_features", int, name, REMEDY) < 1
            or config.get("use_residual")
            or config.get("module_input_name", "sentence_embedding") != "sentence_embedding"
        ):
            raise ValueError(f"{name}: only a plain layer on the pooled vector is supported")
        steps.append((kind, place, config))
    return places[0] and inside(places[0], "modules.json"), steps


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
    modes = (given,) if isinstance(given, str) else tuple(typed(given, list, "pooling_mode", REMEDY))
    for mode in modes or [""]:
        if mode not in list(OLD_NAMES):
            raise ValueError(f"pooling {mode!r} is unknown; known: {', '.join(OLD_NAMES)}")
    return modes


def dense_params(path, steps, width, dtype):
    """Reads the parameters of the dense steps.

    Args:
        path: pathlib path of the folder.
        steps: as in :class:`Folder`.
        width: D of the pooled vectors.
        dtype: of the parameters.

    Returns:
        ({place: {"kernel": [D, d], "bias": [d]}}, width of the last step).
    """
    found = {}
    for kind, place, config in steps:
        if kind == "Dense":
            shape = (width, config["out_features"])
            try:
                found[place] = dense_of(read_tensors(path / place), shape, config.get("bias", True), dtype)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            width = config["out_features"]
    return found, width


def max_length_of(folder, limit, given):
    """Returns at how many tokens a text is cut.

    Args:
        folder: :class:`Folder`.
        limit: positions of the model.
        given: what the caller asks for, or None.
    """
    if given is not None and given > limit:
        raise ValueError(f"max_length={given}: the model has {limit} positions")
    return int(min((folder.max_length or limit) if given is None else given, limit))


def save_folder(source, params, heads, pooling, folder):
    """Writes a folder that sentence-transformers reads.

    Args:
        source: :class:`Folder` that the parameters came from.
        params: nested dict of arrays.
        heads: {name: array} of further tensors, written as they are.
        pooling: names of poolings.
        folder: pathlib path that does not exist yet, or is empty.

    Raises:
        ValueError: when a head has the name of a tensor of the encoder.
    """
    params = jax.device_get(params)
    dense = {place for kind, place, _ in source.steps if kind == "Dense"}
    begin = f"{source.root}/" if source.root else ""
    config = {k: v for k, v in source.config.items() if k != "torch_dtype"}
    dtype = str(params["table"]["embedding"].dtype)
    modules = [("Transformer", source.root), *((kind, place) for kind, place, _ in source.steps)]
    described = {
        f"{begin}config.json": config | {"dtype": dtype},
        f"{begin}sentence_bert_config.json": source.settings,
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
    own = tensors_of(source.family, trunk, source.prefix)
    if own.keys() & heads.keys():
        raise ValueError(f"heads: {min(own.keys() & heads.keys())} is a tensor of the encoder; leave it out")
    tensors = {f"{begin}model.safetensors": own | heads}
    for place in dense:
        named = {"linear.weight": params[place]["kernel"].T}
        named |= {"linear.bias": params[place]["bias"]} if "bias" in params[place] else {}
        tensors[f"{place}/model.safetensors"] = named
    write_folder(folder, files, tensors)


def write_folder(folder, files, tensors):
    """Writes a folder that is whole or absent.

    Args:
        folder: pathlib path that does not exist yet, or is empty.
        files: {path inside the folder: bytes}.
        tensors: {path of a safetensors file inside the folder: {name: array}}.

    Raises:
        FileExistsError: when the folder holds something.
        BlockingIOError: when another process writes the folder; names it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder, "a save", beside=True):
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder}: is not empty; give a new folder")
        _write_new(beside(folder, ".new"), folder, files, tensors)


def _write_new(new, folder, files, tensors):
    """Writes a folder under another name, and renames it."""
    shutil.rmtree(new, ignore_errors=True)
    with cleared(new):
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
