"""Safetensors files in and out, and names of tensors to paths of parameters."""

import json
import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jaxembed.encoders.pretrained.families import REMEDY
from jaxembed.files import field, inside, read_json, reading, typed, written

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "C64": np.complex64,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
SCALES = ("_scale", "_scale_inv")  # what quantised tensors are multiplied with


def read_tensors(folder):
    """Maps the tensors of a folder into memory, from one safetensors file or from its shards.

    Args:
        folder: pathlib path.

    Returns:
        {name: NumPy array}; nothing is read before it is used.

    Raises:
        FileNotFoundError: when a safetensors file or a shard is missing.
        ValueError: when the folder holds pickles only, or a file is damaged or cut short.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.exists():
        return read_safetensors(whole)
    if index.exists():
        shards = field(read_json(index, REMEDY), "weight_map", dict, index, REMEDY).values()
        shards = {inside(typed(shard, str, index, REMEDY), index) for shard in shards}
        return {name: x for shard in sorted(shards) for name, x in read_safetensors(folder / shard).items()}
    pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt"))
    if pickles:
        raise ValueError(
            f"{folder}: holds pickles only ({pickles[0]}), which can run code; save it with safetensors"
        )
    raise FileNotFoundError(f"{whole}: missing; {REMEDY}")


def read_safetensors(path):
    """Maps one safetensors file into memory.

    The bytes of the tensors must follow one another from the first to the last byte after the header, as the
    format asks. This reader is our own because the NumPy form of the package ``safetensors`` (0.8) does not
    read the dtypes of 8 bits.

    Args:
        path: pathlib path.

    Returns:
        {name: NumPy array}.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for a damaged header, a dtype that is not among ``DTYPES``, or tensors that overlap or
            leave a gap.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing; {REMEDY}")
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"{path}: damaged or cut short; {REMEDY}")
        with reading(path, REMEDY, fault="its header is damaged ({})"):
            header = json.loads(file.read(length), object_pairs_hook=_once)
    typed(header, dict, path, REMEDY).pop("__metadata__", None)
    for name, entry in header.items():
        _check_entry(entry, f"{path}: {name}")
    needed = max((entry["data_offsets"][1] for entry in header.values()), default=0) + 8 + length
    if needed != size:
        raise ValueError(f"{path}: {size} bytes, expected {needed}; {REMEDY}")
    _check_order(header, path)
    data = np.memmap(path, np.uint8, "r", 8 + length) if needed > 8 + length else np.zeros(0, np.uint8)
    return {name: _view(data, entry, name, path) for name, entry in header.items()}


def _once(pairs):
    """A JSON object whose names differ."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _check_order(header, path):
    """Refuses tensors that share bytes and bytes that belong to none."""
    end = 0
    for start, stop, name in sorted((*entry["data_offsets"], name) for name, entry in header.items()):
        if start != end:
            fault = "overlaps another tensor" if start < end else "leaves a gap before it"
            raise ValueError(f"{path}: {name} begins at byte {start}, expected {end}: it {fault}; {REMEDY}")
        end = stop


def _check_entry(entry, name):
    field(entry, "dtype", str, name, REMEDY)
    shape, offsets = (field(entry, key, list, name, REMEDY) for key in ("shape", "data_offsets"))
    if len(offsets) != 2 or not all(isinstance(n, int) and n >= 0 for n in shape + offsets):
        raise ValueError(f"{name}: its header is damaged; {REMEDY}")


def _view(data, entry, name, path):
    start, stop = entry["data_offsets"]
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"{path}: {name} has dtype {entry['dtype']}; known: {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[entry["dtype"]])
    if stop - start != math.prod(entry["shape"]) * dtype.itemsize:
        raise ValueError(f"{path}: {name} has {stop - start} bytes for {entry['shape']}; {REMEDY}")
    return data[start:stop].view(dtype).reshape(entry["shape"])


def write_safetensors(path, tensors):
    """Writes arrays as one safetensors file.

    Args:
        path: pathlib path.
        tensors: {name: array}.

    Raises:
        ValueError: for a dtype that is not among ``DTYPES``.
    """
    kinds = {np.dtype(v): k for k, v in DTYPES.items()}
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    arrays = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    for name, x in arrays.items():
        if x.dtype not in kinds:
            raise ValueError(f"tensor {name} has dtype {x.dtype}, which the format does not name; cast it")
        entry = {"dtype": kinds[x.dtype], "shape": x.shape, "data_offsets": [offset, offset + x.nbytes]}
        header[name], offset = entry, offset + x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with written(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for x in arrays.values():
            file.write(x.reshape(-1).view(np.uint8).data)


def todays_names(family, tensors):
    """Gives the tensors of a checkpoint the names that files of today have.

    The oldest files call the scale and the offset of a norm gamma and beta; others put the name of a wrapper
    before every name.

    >>> from jaxembed.encoders.pretrained.families import FAMILIES
    >>> old = {"module.embed_tokens.weight": 0, "module.norm.gamma": 1}
    >>> print(todays_names(FAMILIES["llama"], old))
    ({'embed_tokens.weight': 0, 'norm.weight': 1}, '')

    Args:
        family: :class:`~jaxembed.encoders.pretrained.families.Family`.
        tensors: {name: array}.

    Returns:
        ({name: array}, the prefix of the encoder's own tensors: "" or ``family.base``).

    Raises:
        ValueError: when the token embedding is missing, or two names are the same today.
    """
    table = family.names["table"] + ".weight"
    found = [name for name in tensors if name == table or name.endswith("." + table)]
    if not found:
        raise ValueError(f"the checkpoint has no tensor {table}; {REMEDY}")
    prefix = min(found, key=len)[: -len(table)]
    base = family.base if f".{prefix}".endswith(f".{family.base}") else ""
    wrapper = prefix[: len(prefix) - len(base)]
    renamed = {}
    for name, x in tensors.items():
        new = _without_gamma(name.removeprefix(wrapper))
        new = name if new in tensors else new
        if new in renamed:
            raise ValueError(f"tensor {new} occurs under two names; {REMEDY}")
        renamed[new] = x
    return renamed, base


def _without_gamma(name):
    """Today's name of a norm's scale or offset; other names stay."""
    for old, new in (("gamma", "weight"), ("beta", "bias")):
        if name.lower().endswith(f"norm.{old}"):
            return name.removesuffix(old) + new
    return name


def params_of(family, tensors, prefix, shapes, dtype):
    """Builds parameters of given shapes from the tensors of a checkpoint.

    Args:
        family: :class:`~jaxembed.encoders.pretrained.families.Family`.
        tensors: {name: array}, under the names of :func:`todays_names`.
        prefix: the prefix of the encoder's own tensors.
        shapes: nested dict of shapes; those under "blocks" have a leading [L].
        dtype: of the parameters.

    Returns:
        (nested dict of NumPy arrays, {name: array} of the tensors that it does not use).

    Raises:
        ValueError: when a tensor is missing, has another shape or is quantised, with its name.
    """
    used = set()

    def read(path, shape, n=None):
        module, leaf = path.rsplit("/", 1)
        if n == 0 and module in family.absent:
            return np.ones(shape, dtype)
        name, part, parts = _tensor(family, module, leaf, n)
        x = _tensor_named(prefix + name, tensors)
        used.add(prefix + name)
        if x.ndim and x.shape[0] % parts == 0:
            x = np.split(x, parts)[part]
        x = x.T if leaf == "kernel" else x
        return _shaped(x, shape, prefix + name).astype(dtype)

    def leaf(path, spec):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        if not path.startswith("blocks/"):
            return read(path, spec.shape)
        return np.stack([read(path, spec.shape[1:], n) for n in range(spec.shape[0])])

    params = jax.tree.map_with_path(leaf, shapes)
    return params, {name: x for name, x in tensors.items() if name not in used}


def dense_of(tensors, shape, bias, dtype):
    """Builds the parameters of a dense layer that follows the pooling.

    Args:
        tensors: {name: array}.
        shape: (D, d).
        bias: whether it has one.
        dtype: of the parameters.

    Returns:
        {"kernel": [D, d], "bias": [d]}, or the kernel alone.

    Raises:
        ValueError: when a tensor is missing or has another shape, with its name.
    """
    wanted = {"kernel": ("linear.weight", shape)} | ({"bias": ("linear.bias", shape[1:])} if bias else {})
    return {
        key: _shaped(_tensor_named(name, tensors).T, size, name).astype(dtype)
        for key, (name, size) in wanted.items()
    }


def _tensor_named(name, tensors):
    if name not in tensors:
        raise ValueError(f"the checkpoint has no tensor {name}; {REMEDY}")
    x = np.asarray(tensors[name])
    scale = next((name + end for end in SCALES if name + end in tensors), None)
    if scale or not jnp.issubdtype(x.dtype, jnp.floating):
        reason = f"has a scale, {scale}" if scale else f"holds {x.dtype}, not floats"
        raise ValueError(f"tensor {name} {reason}; load the weights as they were before quantisation")
    return x


def _shaped(x, shape, name):
    if x.shape != shape:
        raise ValueError(f"tensor {name} is {x.shape}, config.json asks for {shape}; {REMEDY}")
    return x


def tensors_of(family, params, prefix=""):
    """Gives parameters the names and shapes that the family's checkpoints have.

    Args:
        family: :class:`~jaxembed.encoders.pretrained.families.Family`.
        params: nested dict of arrays.
        prefix: the prefix of each name.

    Returns:
        {name: NumPy array}.
    """
    parts = {}
    for path, x in jax.tree.leaves_with_path(params):
        module, leaf = jax.tree_util.keystr(path, simple=True, separator="/").rsplit("/", 1)
        x, blocks = np.asarray(x), module.startswith("blocks/")
        for n in range(len(x)) if blocks else [None]:
            if n == 0 and module in family.absent:
                continue
            name, part, _ = _tensor(family, module, leaf, n)
            one = x if n is None else x[n]
            parts.setdefault(name, {})[part] = one.T if leaf == "kernel" else one
    return {prefix + name: np.concatenate([p[i] for i in sorted(p)]) for name, p in parts.items()}


def _tensor(family, module, leaf, n):
    entry = family.names[module]
    name, part, parts = (entry, 0, 1) if isinstance(entry, str) else entry
    return f"{name.format(n=n)}.{'bias' if leaf == 'bias' else 'weight'}", part, parts
