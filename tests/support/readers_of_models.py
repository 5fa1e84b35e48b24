"""Readers of encoders, models, runs and indexes, with a small good input of each."""

import collections
import dataclasses
import functools
import io
import json
import pathlib
import pickle
import struct
import sys
import tempfile
import types
from typing import NamedTuple

import numpy as np
from reader import Reader, files_of

from jaxembed import data, encoders, recipes, search, train
from jaxembed.recipes import _tower_steps
from jaxembed.recipes.clicks import default_plan

VECTORS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)

# Encoders


class _Storage(NamedTuple):
    id: tuple


def _torch_file(tensors):
    """Bytes as ``torch.save`` wrote state dicts before version 1.6, made without torch."""

    class FloatStorage:
        pass

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("called")

    FloatStorage.__module__, _rebuild_tensor_v2.__module__ = "torch", "torch._utils"
    FloatStorage.__qualname__ = "FloatStorage"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    fake = {"torch": types.ModuleType("torch"), "torch._utils": types.ModuleType("torch._utils")}
    fake["torch"].FloatStorage, fake["torch._utils"]._rebuild_tensor_v2 = FloatStorage, _rebuild_tensor_v2

    class Tensor:
        def __init__(self, key, array):
            strides = tuple(s // array.itemsize for s in array.strides)
            storage = _Storage(("storage", FloatStorage, key, "cpu", array.size, None))
            self.arguments = (storage, 0, array.shape, strides, False, collections.OrderedDict())

        def __reduce__(self):
            return _rebuild_tensor_v2, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.id if isinstance(value, _Storage) else None

    file, old = io.BytesIO(), {name: sys.modules.get(name) for name in fake}
    sys.modules.update(fake)
    try:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(value, file, 2)
        named = {name: Tensor(str(i), x) for i, (name, x) in enumerate(tensors.items())}
        Pickler(file, 2).dump(named)
        pickle.dump([str(i) for i in range(len(tensors))], file, 2)
    finally:
        for name, module in old.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    for x in tensors.values():
        file.write(struct.pack("<q", x.size) + x.astype("<f4").tobytes())
    return file.getvalue()


def _squeezenet(folder):
    parts = ("squeeze1x1", "expand1x1", "expand3x3")
    names = ["conv1", "conv10", *(f"fire{i}/{part}" for i in range(2, 10) for part in parts)]
    weights = {n: [np.ones((1, 1, 2, 2), np.float32), np.zeros(2, np.float32)] for n in names}
    (folder / "net.pkl").write_bytes(pickle.dumps(weights, 3))


def _mobilenet(folder):
    from jaxembed.encoders.pretrained.image_models import MOBILENET, _blocks

    layers = {"features.0.0": "features.0.1", "features.18.0": "features.18.1"}
    for i, (expansion, *_) in enumerate(_blocks(MOBILENET), start=1):
        for n in (0, 3) if expansion == 1 else (0, 3, 6):
            layers[f"features.{i}.conv.{n}"] = f"features.{i}.conv.{n + 1}"
    _inverted(folder, layers)


def _efficientnet(folder):
    from jaxembed.encoders.pretrained.image_models import LITE0, _blocks

    layers = {"_conv_stem": "_bn0", "_conv_head": "_bn1"}
    for i, (expansion, *_) in enumerate(_blocks(LITE0)):
        for n, part in enumerate(("expand", "depthwise", "project")):
            if part != "expand" or expansion != 1:
                layers[f"_blocks.{i}._{part}_conv"] = f"_blocks.{i}._bn{n}"
    classifier = {"_fc.weight": np.ones((3, 2), np.float32), "_fc.bias": np.ones(3, np.float32)}
    _inverted(folder, layers, classifier)


def _inverted(folder, layers, more=None):
    """A file of convolutions and the norms behind them."""
    tensors = dict(more or {})
    for name, norm in layers.items():
        tensors[f"{name}.weight"] = np.ones((2, 1, 1, 1), np.float32)
        for end in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{end}"] = np.ones(2, np.float32)
    (folder / "net.pt").write_bytes(_torch_file(tensors))


def _model(*names, **options):
    def write(folder):
        import models

        for name in names:
            models.write_model(folder / "model" if len(names) == 1 else folder / name, name, **options)

    return write


def _sharded(folder):
    import models

    from jaxembed.encoders.pretrained import tensors

    path = models.write_model(folder / "model")
    found = {k: np.array(v) for k, v in tensors.read_tensors(path).items()}
    (path / "model.safetensors").unlink()
    parts = {"model-1.safetensors": sorted(found)[::2], "model-2.safetensors": sorted(found)[1::2]}
    for part, chosen in parts.items():
        tensors.write_safetensors(path / part, {n: found[n] for n in chosen})
    index = {"weight_map": {n: part for part, chosen in parts.items() for n in chosen}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def _dense(folder):
    import models

    models.write_dense(folder / "model")


def _encoder(folder):
    """Weights and token ids of an encoder; nothing is compiled."""
    found = encoders.pretrained.load(folder / "model")
    leaves = found.tokenize(["w5 w6 w7", "", "w11 " * 60])
    return {"params": found.params, "ids": [leaves["ids"]], "length": found.max_length}


@functools.cache
def _adapted_encoder():
    with tempfile.TemporaryDirectory() as folder:
        _model("bert")(pathlib.Path(folder))
        return encoders.pretrained.load(f"{folder}/model")


def _adapters(folder):
    encoder = _adapted_encoder()
    kernel = encoder.params["blocks"]["attention"]["query"]["kernel"]
    one = {"down": kernel[..., :2], "up": kernel[:, :2], "magnitude": kernel[:, 0]}
    adapters = {"blocks": {"attention": {"query": {"kernel": one}}}}
    encoders.write_adapters(folder / "adapters", encoder, adapters)


def _net(name, file):
    def read(folder):
        return getattr(encoders, name)(folder / file).params

    return read


def _gguf(folder):
    import gguf_files

    kinds = {"blk.0.ffn_up.weight": gguf_files.Q4_1, "blk.0.ffn_down.weight": gguf_files.Q8_0}
    gguf_files.write_gguf(folder / "model.gguf", kinds=kinds)


def _causal(folder):
    """Weights and token ids of a language model; nothing is compiled."""
    found = encoders.load_causal(folder / "model.gguf")
    return {"params": found.params, "ids": found.token_ids(["ab a12", ""]), "length": found.max_length}


ENCODERS = {
    "language model": Reader(_gguf, _causal, needs="flax", free=True),
    "encoder bert": Reader(_model("bert"), _encoder, needs="flax", free=True),
    "encoder llama": Reader(_model("llama"), _encoder, needs="flax", free=True),
    "encoder modernbert": Reader(_model("modernbert"), _encoder, needs="flax", free=True),
    "encoder sharded": Reader(_sharded, _encoder, needs="flax", free=True),
    "encoder dense": Reader(_dense, _encoder, needs="flax", free=True),
    "adapters": Reader(
        _adapters,
        lambda folder: encoders.read_adapters(folder / "adapters", _adapted_encoder()),
        needs="flax",
        free=True,
    ),
    "squeezenet": Reader(_squeezenet, _net("squeezenet", "net.pkl")),
    "mobilenet_v2": Reader(_mobilenet, _net("mobilenet_v2", "net.pt")),
    "efficientnet_lite0": Reader(_efficientnet, _net("efficientnet_lite0", "net.pt")),
}


# Runs and models

ROWS = "".join(json.dumps({"step": i, "kind": "train", "loss": 1.0}) + "\n" for i in range(5))


def _resumed(folder):
    """The rows, and those of a run that goes on after the step 3."""
    rows = train.read_metrics(folder)
    train.log.MetricLog(folder, 3).close()
    again = train.read_metrics(folder)
    assert again == [row for row in rows if row["step"] <= 3]
    (folder / "metrics.damaged").unlink(missing_ok=True)
    return [{"step": row["step"], "kind": row["kind"]} for row in rows]


def _clicks(folder):
    """A model of clicks before training."""
    table = data.ctr_table({"city": ["rome", "oslo"] * 20, "y": [1, 0] * 20}, data.Schema("y", ("city",)))
    found = {name: table[name] for name in ("vocabularies", "scaling", "reading")}
    found |= {"epochs": [1], "history": [[0.5]], "model": "dcn", "network": {}}
    params = {"exact": {"city": {"embedding": VECTORS[None, :3]}}, "network": {"bias": np.zeros((1, 2))}}
    recipes.ClickModel(default_plan(table), params, **found).save(folder)


def _towers(folder):
    """A two-tower model before training."""
    log = {"user": ["ann", "bob"] * 8, "item": ["tea", "jam"] * 8}
    found = data.interactions(log, data.Schema(None, categorical=("user", "item")))
    model = recipes.TowerModel.untrained(found, None, None, None, history=0)
    params = {"exact": {"item": {"embedding": VECTORS[:3]}}, "deep": {"kernel": VECTORS}}
    plan = _tower_steps.default_plan(model.sizes())
    dataclasses.replace(model, plan=plan, params=params).save(folder)


def _loaded_clicks(folder):
    found = recipes.load_clicks(folder)
    return {"params": found.params, "vocabularies": found.vocabularies, "history": found.history}


def _loaded_towers(folder):
    found = recipes.load_towers(folder)
    return {"params": found.params, "items": found.items["names"], "counts": found.counts}


def _words(folder):
    """A model of words with n-grams before training."""
    rows = np.concatenate([VECTORS, VECTORS])
    words, more = [f"w{i}" for i in range(20)], {"sizes": (3, 4), "buckets": 20, "settings": {"epochs": 1}}
    recipes.Words(words, VECTORS, np.arange(20), rows, VECTORS, **more).save(folder)


def _loaded_words(folder):
    found = recipes.load_words(folder)
    return {"words": found.words, "vectors": found.vectors, "unseen": found.vector("unseen")}


def _swept(folder):
    return train.sweep([{"n": n} for n in range(3)], lambda cell: [0.5, {"n": cell["n"]}], folder)


def _run(folder):
    import small_run

    small_run.run(steps=2, workdir=folder / "run")


def _restored(folder):
    return {k: np.asarray(v) for x in train.restore_params(folder / "run").values() for k, v in x.items()}


RUNS = {
    "restore_params": Reader(_run, _restored, needs="orbax", whole=True),
    "read_metrics": Reader(files_of({"metrics.jsonl": ROWS}), _resumed),
    "load_clicks": Reader(_clicks, _loaded_clicks, needs="flax", free=True),
    "load_towers": Reader(_towers, _loaded_towers, needs="flax", free=True),
    "load_words": Reader(_words, _loaded_words, free=True),
    "sweep": Reader(_swept, _swept, whole=True),
}


# Indexes


def _index(folder):
    names = [f"n{i}" for i in range(20)]
    search.save_index(folder / "index", VECTORS, names, metadata=[{"n": i} for i in range(20)], meta={"a": 1})


def _loaded_index(folder):
    found = search.load_index(folder / "index", verify=True)
    return {
        "x": np.array(found.vectors),
        "ids": list(found.ids),
        "rows": list(found.metadata),
        "meta": found.meta,
    }


def _documents(folder):
    documents = [(f"d{i}", VECTORS[: i + 1]) for i in range(5)]
    search.build_documents(
        folder / "index",
        documents,
        lambda params, tokens, mask: np.where(mask[..., None], tokens, 0).sum(axis=1),
        params={"scale": np.float32(2)},
        meta={"a": 1},
        shard_size=2,
    )


def _opened_documents(folder):
    found = search.open_documents(folder / "index", verify=True)
    held = {"ids": list(found.ids), "offsets": np.array(found.offsets), "tokens": np.array(found.tokens[:])}
    return held | {"sum": np.array(found.columns["vectors"][:]), "params": found.params, "meta": found.meta}


def _embedded(folder, verify=True):
    def encode(batch):
        return np.asarray(batch, np.float32)

    return np.array(search.embed(encode, VECTORS, path=folder / "a.npy", batch_size=8, verify=verify))


def _searched(open_):
    def read(folder):
        scores, ids = open_(folder / "a.index")(VECTORS[:3], 2)
        return {"scores": np.asarray(scores), "ids": np.asarray(ids)}

    return read


INDEXES = {
    "load_index": Reader(_index, _loaded_index, whole=True),
    "open_documents": Reader(_documents, _opened_documents, whole=True),
    "embed": Reader(lambda f: _embedded(f, False), _embedded, whole=True),
    "open_faiss": Reader(
        lambda f: search.build_faiss(VECTORS, f / "a.index", "Flat"),
        _searched(search.open_faiss),
        needs="faiss",
        whole=True,
    ),
    "open_faiss_binary": Reader(
        lambda f: search.build_faiss_binary(VECTORS.view(np.uint8), f / "a.index"),
        lambda f: search.open_faiss_binary(f / "a.index")(VECTORS[:3].view(np.uint8), 2),
        needs="faiss",
        whole=True,
    ),
    "open_usearch": Reader(
        lambda f: search.build_usearch(VECTORS, f / "a.index"),
        _searched(search.open_usearch),
        needs="usearch",
        whole=True,
    ),
}


def _prepared(folder):
    from tiny_pairs import TinyPairs

    TinyPairs(data_dir=str(folder), file_format="array_record").download_and_prepare()


def _records(folder):
    import tiny_pairs  # noqa: F401 - the data set is found where its class was imported

    found = [dict(record) for record in data.tfds("tiny_pairs", "train", data_dir=folder)]
    return sorted(found, key=lambda record: record["label"])


PREPARED = {
    "tfds": Reader(_prepared, _records, needs="tensorflow_datasets", free=True),
}
