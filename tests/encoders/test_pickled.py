"""Arrays are read out of pickles and nothing that a pickle asks for is run."""

import collections
import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from jaxembed.encoders.pretrained.pickled import TORCH, read_pickled

RNG = np.random.default_rng(0)
ARRAYS = {
    "float32": RNG.normal(size=(2, 3)).astype(np.float32),
    "float64": RNG.normal(size=4),
    "int8": np.arange(-4, 4, dtype=np.int8).reshape(2, 2, 2),
    "uint16 big": np.arange(5, dtype=">u2"),
    "fortran": np.asfortranarray(RNG.normal(size=(3, 4)).astype(np.float16)),
    "one number": np.array(7.0),
    "none": np.zeros((0, 3), np.float32),
    "large": RNG.normal(size=(300, 10)),
}


def written(tmp_path, value, protocol=3):
    path = tmp_path / "file.pkl"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3])
def test_arrays_come_back(protocol, tmp_path):
    if protocol == 2:  # bytes are written by a call of codecs.encode there, which is not read
        with pytest.raises(ValueError, match="it names '_codecs encode'"):
            read_pickled(written(tmp_path, ARRAYS, protocol))
        return
    found = read_pickled(
        written(tmp_path, {"arrays": ARRAYS, "list": [ARRAYS["int8"], 3, None, True, 2**40]})
    )
    assert found["arrays"].keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found["arrays"][name].dtype == array.dtype
        np.testing.assert_array_equal(found["arrays"][name], array)
    assert found["list"][1:] == [3, None, True, 2**40]
    np.testing.assert_array_equal(found["list"][0], ARRAYS["int8"])


class Storage:
    """What PyTorch's pickles name as a persistent object."""

    def __init__(self, kind, key, count):
        self.id = ("storage", kind, key, "cpu", count, None)


class FloatStorage:
    pass


class LongStorage:
    pass


class System:
    pass


def _rebuild_tensor_v2(*arguments):
    raise AssertionError("called")


FloatStorage.__module__ = LongStorage.__module__ = "torch"
_rebuild_tensor_v2.__module__ = "torch._utils"


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments = storage, offset, shape, strides, False, collections.OrderedDict()

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


def torch_file(tensors, storages, monkeypatch):
    """Bytes as ``torch.save`` wrote them before version 1.6."""
    import sys
    import types

    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage, torch.LongStorage, utils._rebuild_tensor_v2 = (
        FloatStorage,
        LongStorage,
        _rebuild_tensor_v2,
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.id if isinstance(value, Storage) else None

    file = io.BytesIO()
    for value in (TORCH, 1001, {"little_endian": True, "type_sizes": {"int": 4}}):
        pickle.dump(value, file, 2)
    Pickler(file, 2).dump(tensors)
    pickle.dump(list(storages), file, 2)
    for content in storages.values():
        file.write(struct.pack("<q", len(content)) + content.tobytes())
    return file.getvalue()


NUMBERS = np.arange(12, dtype=np.float32)


def test_a_state_dict_of_torch_comes_back(tmp_path, monkeypatch):
    first, second = Storage(FloatStorage, "11", 12), Storage(LongStorage, "22", 1)
    tensors = collections.OrderedDict(
        a=Tensor(first, 0, (3, 4), (4, 1)),
        b=Tensor(first, 1, (2, 3), (1, 4)),  # a view, transposed
        c=Tensor(second, 0, (), ()),
    )
    tensors._metadata = {"version": 1}
    content = torch_file(tensors, {"11": NUMBERS, "22": np.array([9])}, monkeypatch)
    found = read_pickled(written(tmp_path, content))
    np.testing.assert_array_equal(found["a"], NUMBERS.reshape(3, 4))
    np.testing.assert_array_equal(found["b"], NUMBERS.reshape(3, 4).T[1:3])
    assert found["c"] == 9


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (1, (12,), (1,)),
        (0, (2**40,), (0,)),
        (-1, (2,), (1,)),
        (0, (4, 4), (4, 1)),
        (0, (2,), (12,)),
        (0, (2,), ()),
    ],
)
def test_a_tensor_stays_inside_of_its_storage(offset, shape, strides, tmp_path, monkeypatch):
    tensor = Tensor(Storage(FloatStorage, "11", 12), offset, shape, strides)
    content = torch_file({"a": tensor}, {"11": NUMBERS}, monkeypatch)
    with pytest.raises(ValueError, match="not a pickle of arrays alone .*storage"):
        read_pickled(written(tmp_path, content))


class Evil:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("function", [os.system, eval, exec, np.save], ids=lambda f: f.__name__)
def test_no_function_is_called(function, protocol, tmp_path):
    mark = tmp_path / "mark"
    content = pickle.dumps({"a": Evil(function, f"open({str(mark)!r}, 'w')")}, protocol)
    with pytest.raises(ValueError, match="not a pickle of arrays alone") as caught:
        read_pickled(written(tmp_path, content))
    assert not mark.exists()
    assert "\n" not in str(caught.value)


LAUGHS = ["ha"]
for _ in range(60):
    LAUGHS = [LAUGHS, LAUGHS]
CIRCLE = []
CIRCLE.append(CIRCLE)
REFUSED = {
    "objects": np.array([{"a": 1}], object),
    "texts": np.array(["a", "b"]),
    "records": np.zeros(2, [("a", "f4")]),
    "complex": np.zeros(2, complex),
    "a class": collections.Counter("aab"),
    "a float": 1.5,
    "doubling lists": LAUGHS,
    "a circle": CIRCLE,
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_arrays_is_refused(case, tmp_path):
    with pytest.raises(ValueError, match="not a pickle of arrays alone"):
        read_pickled(written(tmp_path, REFUSED[case]))


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = pickle.dumps({"a": ARRAYS["float32"], "b": [1, ARRAYS["int8"]]}, 3)
    for stop in range(len(whole)):
        with pytest.raises(ValueError):
            read_pickled(written(tmp_path, whole[:stop]))


def test_changed_bytes_give_arrays_or_an_error_of_one_line(tmp_path):
    whole = bytearray(pickle.dumps({"a": ARRAYS["float32"], "b": [1, ARRAYS["int8"]]}, 3))
    refused = 0
    for _ in range(1500):
        changed = bytearray(whole)
        for place in RNG.integers(len(whole), size=RNG.integers(1, 4)):
            changed[place] = RNG.integers(256)
        try:
            read_pickled(written(tmp_path, bytes(changed)))
        except ValueError as error:
            refused += "not a pickle of arrays alone" in str(error)
    assert refused > 300


@pytest.mark.parametrize("code", [code.name for code in pickletools.opcodes])
def test_a_lone_instruction_is_an_error(code, tmp_path):
    byte = next(c.code for c in pickletools.opcodes if c.name == code).encode("latin-1")
    with pytest.raises(ValueError):
        read_pickled(written(tmp_path, byte + b"\0" * 8 + b"\n\n."))


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_pickled(tmp_path / "none.pkl")
