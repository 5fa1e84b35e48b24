"""GGUF files: the settings and tensors of a published language model, quantised or not."""

import math

import ml_dtypes
import numpy as np

from jaxembed.files import reading

REMEDY = "fetch the file again"
NUMBERS = dict(zip(range(8), ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?"), strict=True))
NUMBERS |= {10: "<u8", 11: "<i8", 12: "<f8"}
STRING, LIST = 8, 9


def read_gguf(path):
    """Reads a GGUF file, version 2 or 3: its settings, and its tensors as floats.

    Tensors are F32, F16, BF16, or blocks of 32 weights in Q4_0, Q4_1 or Q8_0. A block of Q4_1 is
    ``weight = scale q + offset`` with q in 0..15, one scale and offset of 16 bits for each block.

    Args:
        path: pathlib path.

    Returns:
        (settings, tensors): ``{key: int, float, bool, str or list}`` and ``{name: NumPy array}`` in float32,
        with the axes in NumPy's order.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for another format, an unknown kind of tensor, weights that are not finite, or a damaged
            or shorter file.
    """
    with reading(path, REMEDY):
        data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
        cursor = _Cursor(data)
        if cursor.bytes(4) != b"GGUF":
            raise ValueError(f"{path}: is not a GGUF file; give one that ends in .gguf")
        if (version := cursor.number(4)) not in (2, 3):
            raise ValueError(f"{path}: GGUF version {version}; versions 2 and 3 are read")
        tensors, keys = (cursor.count(1) for _ in range(2))
        settings = _once((cursor.string(), cursor.value(cursor.number(4))) for _ in range(keys))
        heads = _once((cursor.string(), cursor.head()) for _ in range(tensors))
        grain = settings.get("general.alignment", 32)
        start = -(-cursor.at // grain) * grain
        return settings, {name: _tensor(data[start:], name, *head) for name, head in heads.items()}


class _Cursor:
    """A place in the header; nothing is read beyond the end of the file."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def bytes(self, count):
        if count > len(self.data) - self.at:
            raise ValueError("it ends inside its header")
        self.at += count
        return self.data[self.at - count : self.at].tobytes()

    def number(self, kind):
        if kind not in NUMBERS:
            raise ValueError(f"kind {kind} of a value is unknown")
        return np.frombuffer(self.bytes(np.dtype(NUMBERS[kind]).itemsize), NUMBERS[kind])[0].item()

    def count(self, size):
        """A length, of which each item takes at least ``size`` bytes."""
        found = self.number(10)
        if found * size > len(self.data) - self.at:
            raise ValueError("it ends inside its header")
        return found

    def string(self):
        return self.bytes(self.count(1)).decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind != LIST:
            return self.number(kind)
        inner = self.number(4)
        if inner == STRING:
            return [self.string() for _ in range(self.count(8))]
        if inner not in NUMBERS:
            raise ValueError(f"kind {inner} of a list is unknown")
        size = np.dtype(NUMBERS[inner]).itemsize
        return np.frombuffer(self.bytes(self.count(size) * size), NUMBERS[inner]).tolist()

    def head(self):
        """(shape, kind, offset) of a tensor."""
        axes = self.number(4)
        if axes > 4:
            raise ValueError(f"a tensor has {axes} axes")
        shape = tuple(self.number(10) for _ in range(axes))[::-1]
        return shape, self.number(4), self.number(10)


def _once(pairs):
    found = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} occurs twice")
        found[name] = value
    return found


def _floats(kind):
    return lambda blocks: blocks.view(kind).astype(np.float32)


def _halves(blocks, place):
    return blocks[:, place : place + 2].copy().view("<f2").astype(np.float32)


def _nibbles(blocks):
    return np.concatenate([blocks & 15, blocks >> 4], axis=1).astype(np.float32)


def _q4_0(blocks):
    return (_nibbles(blocks[:, 2:]) - 8) * _halves(blocks, 0)


def _q4_1(blocks):
    return _nibbles(blocks[:, 4:]) * _halves(blocks, 0) + _halves(blocks, 2)


def _q8_0(blocks):
    return blocks[:, 2:].view(np.int8).astype(np.float32) * _halves(blocks, 0)


# {number of the kind: (weights of a block, its bytes, bytes [N, bytes] -> floats [N, weights])}
KINDS = {0: (1, 4, _floats("<f4")), 1: (1, 2, _floats("<f2")), 30: (1, 2, _floats(ml_dtypes.bfloat16))}
KINDS |= {2: (32, 18, _q4_0), 3: (32, 20, _q4_1), 8: (32, 34, _q8_0)}


def _tensor(data, name, shape, kind, offset):
    if kind not in KINDS:
        raise ValueError(
            f"{name} is quantised in a way that is not read (kind {kind}); take Q4_1, Q8_0 or F16"
        )
    weights, size, decode = KINDS[kind]
    if shape and shape[-1] % weights:
        raise ValueError(f"{name} has rows of {shape[-1]} weights, which blocks of {weights} do not fill")
    count = math.prod(shape) // weights
    if offset + count * size > len(data):
        raise ValueError(f"it ends inside {name}")
    blocks = np.ascontiguousarray(data[offset : offset + count * size]).reshape(count, size)
    with np.errstate(invalid="ignore"):  # a scale of a block that is not finite
        found = decode(blocks).reshape(shape)
    if not np.isfinite(found).all():
        raise ValueError(f"{name} holds NaN or infinite weights")
    return found
