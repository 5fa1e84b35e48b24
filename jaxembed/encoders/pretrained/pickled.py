"""Arrays in pickle files, read without running what a pickle may ask for.

Published convolutional nets come as pickles: of NumPy arrays, or PyTorch's state dicts in the layout before
1.6. Python's own reader calls whatever such a file names. This one takes the file apart with ``pickletools``,
which runs nothing, and follows the few instructions that put arrays into dicts and lists. Any other
instruction, and any name that is not listed here, is refused.
"""

import functools
import io
import math
import pickletools

import numpy as np

from jaxembed import files

REMEDY = "do not use this file"
ARRAY_NAMES = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
NAMES = ARRAY_NAMES | {
    "numpy ndarray",
    "numpy dtype",
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
}
STORAGES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8", "torch DoubleStorage": "<f8"}
STORAGES |= {"torch HalfStorage": "<f2", "torch IntStorage": "<i4"}
KINDS = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
TORCH = 0x1950A86A20F9469CFC6C  # with which a file of PyTorch's old layout begins
DEEPEST = 20  # dicts in one another
MARK = object()


class _Named:
    """What a file makes from a name: a dtype, an array or a tensor whose content comes later."""

    def __init__(self, name, arguments):
        self.name, self.arguments, self.state = name, arguments, None


def read_pickled(path):
    """Reads the arrays of a pickle file: NumPy's, or a state dict of PyTorch before 1.6.

    Args:
        path: pathlib path.

    Returns:
        Nested dicts and lists with NumPy arrays, as the file has them.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: for an instruction or a name that is not read, a dtype other than floats and integers, or
            a damaged file; one line with its name.
    """
    with files.reading(path, REMEDY, fault="not a pickle of arrays alone ({})"), open(path, "rb") as opened:
        file = io.BytesIO(opened.read())  # from which no more can be asked for than there is
        first = _run(file)
        if first != TORCH:
            return _values(first, {})
        _run(file), _run(file)  # protocol and system
        tensors = _run(file)
        return _values(tensors, _storages(file, _run(file), _kinds(tensors)))


def _run(file):
    """Follows the instructions of one pickle; returns what it makes, names unresolved."""
    stack, memo = [], {}
    for code, value, _ in pickletools.genops(file):
        name = code.name
        if name == "STOP":
            (made,) = stack
            return made
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[value] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name == "MARK":
            stack.append(MARK)
        elif name != "PROTO":
            _step(name, value, stack)
    raise ValueError("no end")


def _step(name, value, stack):
    """One instruction that is not about the memo."""
    if name in VALUES:
        stack.append(value)
    elif name in CONSTANTS:
        stack.append(CONSTANTS[name])
    elif name in TUPLES:
        count = TUPLES[name]
        items = tuple(stack[len(stack) - count :])
        if len(items) < count or MARK in items:
            raise ValueError("a tuple without its items")
        stack[len(stack) - count :] = [items]
    elif name in ("EMPTY_DICT", "EMPTY_LIST"):
        stack.append({} if name == "EMPTY_DICT" else [])
    elif name == "GLOBAL":
        if value not in NAMES | STORAGES.keys():
            raise ValueError(f"it names {value!r}")
        stack.append(_Named(value, None))
    elif name == "BINPERSID":
        stack.append(_Named("storage", _tuple(stack.pop(), 6)))
    elif name in ("TUPLE", "APPENDS", "SETITEMS"):
        _many(name, stack)
    elif name == "APPEND":
        item = stack.pop()
        _list(stack[-1]).append(item)
    elif name == "SETITEM":
        item = stack.pop()
        key = stack.pop()
        _dict(stack[-1])[key] = item
    elif name in ("REDUCE", "BUILD"):
        _made(name, stack)
    else:
        raise ValueError(f"instruction {name}")


def _many(name, stack):
    """Takes what stands after the last mark."""
    places = [place for place, item in enumerate(stack) if item is MARK]
    place = places[-1]
    items = stack[place + 1 :]
    del stack[place:]
    if name == "TUPLE":
        stack.append(tuple(items))
    elif name == "APPENDS":
        _list(stack[-1]).extend(items)
    else:
        _dict(stack[-1]).update(zip(items[::2], items[1::2], strict=True))


def _made(name, stack):
    """Calls of the names that are known, and the content of what they made."""
    argument = stack.pop()
    made = stack.pop()
    if name == "BUILD":
        if isinstance(made, _Named) and made.arguments is not None:
            made.state = argument
        else:
            _dict(made)  # the metadata of a state dict
    elif not isinstance(made, _Named) or made.arguments is not None or not isinstance(argument, tuple):
        raise ValueError("a call of something that has no name")
    elif made.name == "collections OrderedDict":
        if argument:
            raise ValueError("a dict with arguments")
        made = {}
    else:
        made = _Named(made.name, argument)
    stack.append(made)


def _list(value):
    if not isinstance(value, list):
        raise ValueError("items without a list")
    return value


def _dict(value):
    if not isinstance(value, dict):
        raise ValueError("items without a dict")
    return value


def _tuple(value, size):
    if not isinstance(value, tuple) or len(value) != size:
        raise ValueError("arguments are missing")
    return value


def _values(made, storages, known=None, depth=0):
    """Nested dicts and lists, with arrays for the names in them; what occurs twice is made once."""
    known = {} if known is None else known
    if depth > DEEPEST:
        raise ValueError("dicts without an end")
    if id(made) not in known:
        inner = functools.partial(_values, storages=storages, known=known, depth=depth + 1)
        if isinstance(made, dict):
            value = {key: inner(value) for key, value in made.items()}
        elif isinstance(made, list | tuple):
            value = [inner(value) for value in made]
        else:
            value = _leaf(made, storages)
        known[id(made)] = value
    return known[id(made)]


def _leaf(made, storages):
    if not isinstance(made, _Named):
        return made
    if made.name in ARRAY_NAMES and made.state is not None:
        return _array(*_tuple(made.state, 5))
    if made.name == "torch._utils _rebuild_tensor_v2":
        return _tensor(*_tuple(made.arguments, 6)[:4], storages)
    raise ValueError(f"{made.name} without content")


def _array(version, shape, dtype, fortran, content):
    kind, order = _tuple(dtype.arguments, 3)[0], dtype.state[1]
    if dtype.name != "numpy dtype" or kind not in KINDS or order not in "<>|=":
        raise ValueError(f"an array of {kind!r}")
    array = np.frombuffer(content, np.dtype(f"{order}{kind}"))
    return array.reshape(shape, order="F" if fortran else "C").copy()


def _kinds(tensors):
    """{key: (dtype, numbers)} of the storages that the tensors of a state dict name."""
    found = {}
    for tensor in _dict(tensors).values():
        if not isinstance(tensor, _Named) or not tensor.arguments:
            raise ValueError("a state dict holds something else than tensors")
        word, kind, key, _, count, view = _tuple(tensor.arguments[0].arguments, 6)
        if word != "storage" or view is not None:
            raise ValueError("a storage that is a view of another")
        found[key] = (STORAGES[kind.name], count)
    return found


def _storages(file, keys, kinds):
    """{key: array} of the numbers that follow the pickles, 8 bytes of length before each."""
    found = {}
    for key in keys:
        dtype, count = kinds[key]
        length = int.from_bytes(file.read(8), "little")
        if length != count:
            raise ValueError(f"{length} numbers in a storage of {count}")
        content = file.read(length * np.dtype(dtype).itemsize)
        found[key] = np.frombuffer(content, dtype, length)
    return found


def _tensor(storage, offset, shape, strides, storages):
    numbers = storages[storage.arguments[2]]
    if len(shape) != len(strides) or min((offset, *shape, *strides), default=0) < 0:
        raise ValueError("a tensor outside of its storage")
    if math.prod(shape) > len(numbers):
        raise ValueError("a tensor that is larger than its storage")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= len(numbers):
        raise ValueError("a tensor outside of its storage")
    bytes_ = [step * numbers.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, bytes_).copy()
