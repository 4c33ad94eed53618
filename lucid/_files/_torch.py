"""PyTorch's files, read without PyTorch: the archive of ``torch.save``, and its older format.

Both hold a pickle, which :mod:`lucid._files._pickle` reads, and the elements of the storages:

- the archive is a zip file of a folder with ``data.pkl``, a record ``data/0``, ``data/1``, … for
  each storage, and ``byteorder``; nothing in it is packed;
- the older format is a row of pickles (a magic number, a version, facts about the system, the
  data, the keys of the storages), and the storages: each the number of elements, and the elements.

A storage is read once, and the tensors of it share its memory as they do in PyTorch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import IO, Any, NamedTuple

import numpy as np

from lucid._check import is_integer, short
from lucid._files._pickle import (
    Budget,
    Builder,
    Interpreter,
    Place,
    Unknown,
    UnreadableError,
    check_keys,
    refuse,
)
from lucid._files._zip import read_directory
from lucid.autograd._tensor import wrap

SUFFIXES = (".pth", ".pt", ".bin", ".tar")

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_CHUNK = 1 << 20
_TENSOR, _RECORD = 500, 300  # bytes that a tensor takes beside its elements, and a storage
_MOST_AXES = 32  # NumPy's limit before version 2

# The kinds of eight bits: of the fraction, and what is taken from the exponent.
_FLOAT8 = {
    "float8_e4m3fn": (3, 7),
    "float8_e5m2": (2, 15),
    "float8_e4m3fnuz": (3, 8),
    "float8_e5m2fnuz": (2, 16),
}
# PyTorch's dtypes as NumPy reads them. What is narrower than float32 is widened to it.
_DTYPES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "u2",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint64": "u8",
    "uint32": "u4",
    "uint16": "u2",
    "uint8": "u1",
    "bool": "u1",
    **dict.fromkeys(_FLOAT8, "u1"),
}
_WIDENED = dict.fromkeys(("float16", "bfloat16", *_FLOAT8), "float32")
# Dtypes that there are no arrays of here; known, so that the message names the entry.
_OTHER_DTYPES = (
    *("complex32", "complex64", "complex128", "qint8", "quint8", "qint32", "quint4x2", "quint2x4"),
    *("float8_e8m0fnu", "float4_e2m1fn_x2", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
)
# The classes of storages, and the dtype of each; since 2.0 an untyped one has it from its tensor.
_STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.QInt8Storage": "qint8",
    "torch.QUInt8Storage": "quint8",
    "torch.QInt32Storage": "qint32",
    "torch.QUInt4x2Storage": "quint4x2",
    "torch.QUInt2x4Storage": "quint2x4",
    "torch.storage.UntypedStorage": "untyped",
}


_CLASSES = {"torch.Tensor", "torch.nn.parameter.Parameter"}
# What is said of tensors that are none of elements with strides.
_OTHER_TENSORS = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor (x.to_dense() has an array)",
    "torch._utils._rebuild_qtensor": "a quantised tensor (x.dequantize() has an array)",
    "torch._utils._rebuild_nested_tensor": "a nested tensor (x.to_padded_tensor(0) has an array)",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor of the device meta, without values",
}


class _Named(NamedTuple):
    """A dtype, the class of a storage, or one of a tensor."""

    kind: str
    name: str


class _NumpyDtype:
    """The dtype of one of NumPy's numbers, as checkpoints hold them among PyTorch's."""

    def __init__(self, name: str, *_: Any) -> None:
        if name not in ("f2", "f4", "f8", "b1", *(f"{k}{n}" for k in "iu" for n in (1, 2, 4, 8))):
            raise UnreadableError(f"a number or an array of NumPy has the dtype {short(name)}")
        self.dtype = np.dtype(name).newbyteorder("<")

    def set_state(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise ValueError("a dtype of NumPy is not as it is on a little-endian machine")


class _Storage:
    """Elements in one piece of memory, which is there as soon as a tensor is of it."""

    __slots__ = ("array", "count", "dtype", "size")

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype = dtype  # "untyped" until a tensor tells
        self.count = count  # of elements as the file has them; an untyped one's are bytes
        self.size = count * np.dtype(_DTYPES.get(dtype, "u1")).itemsize  # in the file, in bytes
        self.array: np.ndarray | None = None


class _View(NamedTuple):
    """A tensor to be: its part of a storage."""

    storage: _Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


# -- what names stand for -----------------------------------------------------------------------


def _tensor(
    storage: Any,
    start: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> _View:
    sizes = (start, *shape, *strides)
    if type(storage) is not _Storage or not all(is_integer(size, 0) for size in sizes):
        raise ValueError(f"a tensor of {short(shape)} has strides {short(strides)} from {start}")
    if len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise ValueError(f"a tensor has {len(shape)} axes, and {len(strides)} strides")
    if metadata:
        raise UnreadableError("a tensor is to be conjugated or negated; resolve_neg() does that")
    return _View(storage, start, tuple(shape), tuple(strides), storage.dtype)


def _tensor_of_dtype(*arguments: Any) -> _View:
    *first, dtype = arguments[:7]
    if type(dtype) is not _Named or dtype.kind != "dtype":
        raise ValueError(f"a {type(dtype).__name__} is the dtype of a tensor")
    return _tensor(*first, *arguments[7:])._replace(dtype=dtype.name)


def _parameter(data: Any, *_: Any) -> _View:
    if type(data) is not _View:
        raise ValueError(f"a {type(data).__name__} is the data of a parameter")
    return data


def _with_attributes(build: Any, kind: Any, arguments: Any, state: Any) -> _View:
    if build not in _TENSORS.values() or type(kind) is not _Named or kind.kind != "tensor":
        raise ValueError("a tensor of another class")
    view: _View = build.call(*arguments)
    return view


def _dict(items: Any = ()) -> dict[Any, Any]:
    keys = check_keys(list(items) if type(items) is dict else [key for key, _ in items])
    return dict(zip(keys, items.values() if type(items) is dict else [item for _, item in items]))


def _encode(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise ValueError("a text that is encoded otherwise than bytes are")
    return text.encode("latin1")


def _bytearray(content: Any = b"", *encoding: Any) -> bytearray:
    if type(content) is not bytes:
        raise ValueError(f"a bytearray of a {type(content).__name__}")
    return bytearray(content)


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise ValueError("a complex number of other parts than two floats")
    return complex(real, imaginary)


def _size(sizes: Any = ()) -> tuple[int, ...]:
    if type(sizes) is not tuple or not all(is_integer(size) for size in sizes):
        raise ValueError("a torch.Size of something else than integers")
    return sizes


def _device(kind: Any, index: Any = None) -> str:
    return _word(kind) if index is None else f"{_word(kind)}:{int(index)}"


def _word(text: Any) -> str:
    if type(text) is not str:
        raise ValueError(f"a {type(text).__name__} is the name of a device or a layout")
    return text


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    if type(dtype) is not _NumpyDtype or type(data) is not bytes:
        raise UnreadableError("a number of NumPy has another form than PyTorch's checkpoints have")
    (number,) = np.frombuffer(data, dtype.dtype)
    return number.item()


_TENSORS = {
    "torch._utils._rebuild_tensor": Builder(_tensor),
    "torch._utils._rebuild_tensor_v2": Builder(_tensor),
    "torch._utils._rebuild_tensor_v3": Builder(_tensor_of_dtype),
    "torch._utils._rebuild_parameter": Builder(_parameter),
    "torch._utils._rebuild_parameter_with_state": Builder(_parameter),
}
_KNOWN = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": Builder(_with_attributes),
    "torch.Size": Builder(_size),
    "torch.device": Builder(_device),
    "torch.serialization._get_layout": Builder(_word),
    "collections.OrderedDict": Builder(_dict),
    "collections.Counter": Builder(_dict),
    "builtins.bytes": Builder(lambda: b""),
    "builtins.set": Builder(lambda items=(): set(check_keys(list(items)))),
    "builtins.frozenset": Builder(lambda items=(): frozenset(check_keys(list(items)))),
    "builtins.bytearray": Builder(_bytearray),
    "builtins.complex": Builder(_complex),
    "_codecs.encode": Builder(_encode),
    "numpy.dtype": Builder(_NumpyDtype),
    "numpy.core.multiarray.scalar": Builder(_numpy_scalar),
    "numpy._core.multiarray.scalar": Builder(_numpy_scalar),
    **{name: _Named("storage", dtype) for name, dtype in _STORAGES.items()},
    **{name: _Named("tensor", name) for name in _CLASSES},
    **{f"torch.{name}": _Named("dtype", name) for name in (*_DTYPES, *_OTHER_DTYPES)},
}


# -- a file -------------------------------------------------------------------------------------


class _Content:
    """What is in a file, while its pickle is read."""

    def __init__(self, size: int) -> None:
        # The rest is for what passes through, and for what lists leave behind when they grow.
        self.budget = Budget(3 * size + (40 << 20))
        self.storages: dict[str, _Storage] = {}
        self._most = 16 * size + (64 << 20)  # bytes of all tensors: whoever copies them needs that

    def load(self, file: IO[bytes], end: int, size_of: Callable[[str, int], int]) -> Any:
        """Return the data, whose storages are still to be read.

        Args:
            file: at the start of the pickle.
            end: where that part of the file ends.
            size_of: returns the size of a storage in bytes, by its key and the size it should have.
        """

        def storage(
            kind: Any,
            cls: Any = None,
            key: Any = None,
            location: Any = None,
            count: Any = None,
            view: Any = None,
            *_: Any,
        ) -> Any:
            if kind == "module":  # a class with its source, which the older format has
                return cls
            if kind != "storage" or type(cls) is not _Named or cls.kind != "storage":
                raise ValueError(f"a persistent id of {short(kind)}, expected one of a storage")
            if type(key) is not str or not is_integer(count, 0):
                raise ValueError(f"a storage has the key {short(key)} and {short(count)} elements")
            if view is not None:
                raise UnreadableError("it holds a view of a storage, as only PyTorch 0.3 had them")
            new = _Storage(cls.name, count)
            self.budget.spend(_RECORD)
            found = self.storages.setdefault(key, new)
            known = cls.name in (*_DTYPES, "untyped")  # the others are refused by their place
            if found is new and (there := size_of(key, new.size)) != new.size and known:
                raise ValueError(f"storage {key!r} has {there} bytes, expected {new.size}")
            if (found.dtype, found.count) != (new.dtype, count):
                raise ValueError(f"storage {key!r} is said to be two different ones")
            return found

        return Interpreter(file, end, _KNOWN, storage, self.budget).load(self._replace)

    def _replace(self, value: Any, place: Place) -> Any:
        if type(value) is _Storage:  # as a tensor of one axis
            value = _View(value, 0, (value.count,), (1,), value.dtype)
        if type(value) is _View:
            return self._tensor(value, place)
        if type(value) is _Named and value.kind == "dtype":
            is_array = value.name in _DTYPES and value.name not in ("bfloat16", *_FLOAT8)
            return np.dtype(value.name) if is_array else f"torch.{value.name}"
        if type(value) is _NumpyDtype:
            return value.dtype
        if type(value) is Unknown and value.name in _OTHER_TENSORS:
            raise UnreadableError(f"{place} is {_OTHER_TENSORS[value.name]}")
        refuse(value, place)

    def _tensor(self, view: _View, place: Place) -> Any:
        storage, start, shape, strides, dtype = view
        if dtype == "untyped":
            dtype = "uint8"
        if dtype not in _DTYPES:
            raise UnreadableError(f"{place} has the dtype {dtype}, which lucid has no tensors of")
        stored, wanted = np.dtype(_DTYPES[dtype]), np.dtype(_WIDENED.get(dtype, dtype))
        if storage.array is None:
            if storage.dtype == "untyped":
                storage.dtype = dtype
            count = storage.size // stored.itemsize
            self.budget.spend(count * wanted.itemsize)
            storage.array = np.empty(count, wanted)
        elements = storage.array
        if dtype != storage.dtype:  # another view of an untyped storage
            if not {dtype, storage.dtype}.isdisjoint(_WIDENED):
                raise UnreadableError(
                    f"{place} is the memory of a {storage.dtype} tensor as {dtype}; save a clone()"
                )
            count = storage.size // stored.itemsize
            elements = elements.view(np.uint8)[: count * stored.itemsize].view(wanted)
        self.budget.spend(_TENSOR)
        count = math.prod(shape)
        last = start + sum((size - 1) * stride for size, stride in zip(shape, strides))
        if count and last >= len(elements):
            raise ValueError(
                f"{place} of shape {short(shape)} and strides {short(strides)} from {start} goes "
                f"beyond its storage of {len(elements)} elements"
            )
        if count > len(elements):  # expanded
            self.budget.spend(count * wanted.itemsize)
        self._most -= count * wanted.itemsize
        if self._most < 0:
            raise ValueError("its tensors together are far larger than the file")
        if count == 0:
            return wrap(np.empty(shape, wanted))
        steps = [
            wanted.itemsize * (stride if size > 1 else 1) for size, stride in zip(shape, strides)
        ]
        return wrap(np.ndarray(shape, wanted, elements, start * wanted.itemsize, steps))


class TorchFile:
    """A file of ``torch.save``."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def metadata(self) -> dict[str, str]:
        """Return nothing: it has none."""
        return {}

    def data(self) -> Any:
        """Return what was saved: tensors, in dictionaries or other plain data.

        Raises:
            UnreadableError: if it holds what is no data.
            ValueError: if it is no such file, or damaged.
        """
        return _read(self._file)


def _read(file: IO[bytes]) -> Any:
    size = os.fstat(file.fileno()).st_size
    start = file.read(512)
    content = _Content(size)
    if start.startswith(b"PK"):
        return _read_archive(file, size, content)
    if start[257:262] == b"ustar":
        raise UnreadableError(
            "it is a tar archive, as PyTorch wrote before version 0.2; torch.load reads it, and "
            "torch.save makes a new one"
        )
    file.seek(0)
    return _read_older(file, size, content)


def _read_older(file: IO[bytes], size: int, content: _Content) -> Any:
    def refuse_id(*_: Any) -> None:
        raise ValueError("a persistent id outside of the data")

    def load() -> Any:
        return Interpreter(file, size, {}, refuse_id, content.budget).load()

    if load() != _MAGIC:
        raise ValueError("it does not begin as a file of PyTorch's does")
    if (version := load()) != _VERSION:
        raise ValueError(f"its version is {short(version)}, expected {_VERSION}")
    load()  # facts about the system; the numbers are little-endian in any case
    left = size

    def size_of(key: str, expected: int) -> int:
        nonlocal left
        left -= min(left, expected)
        return expected if left else 0

    data = content.load(file, size, size_of)
    keys = load()
    if type(keys) is not list or sorted(map(str, keys)) != sorted(content.storages):
        raise ValueError("its list of storages is not that of its tensors")
    for key in keys:
        storage = content.storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.count:
            raise ValueError(f"storage {key!r} has {count} elements, expected {storage.count}")
        _fill(storage, file, "<", key)
    if file.read(1):
        raise ValueError("there is something behind its storages")
    return data


def _read_archive(file: IO[bytes], size: int, content: _Content) -> Any:
    records = read_directory(file, size, content.budget)
    if "constants.pkl" in records:
        raise UnreadableError(
            "it is a TorchScript archive, which holds code; save the tensors alone, in PyTorch: "
            "torch.save(torch.jit.load(path).state_dict(), path)"
        )
    if "data.pkl" not in records:
        raise ValueError("it is a zip archive without data.pkl")

    def record(name: str) -> int:
        start, length, plain = records[name]
        if not plain:
            raise UnreadableError(
                f"{short(name)} in it is packed or encrypted, and PyTorch does neither; `zip -0` "
                "makes an archive of the same files that is not"
            )
        file.seek(start)
        return length

    order = file.read(min(record("byteorder"), 10)) if "byteorder" in records else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"its byte order is {order!r}, expected little or big")

    def size_of(key: str, _: int) -> int:
        return records[f"data/{key}"].length if f"data/{key}" in records else -1

    length = record("data.pkl")
    data = content.load(file, file.tell() + length, size_of)
    for key, storage in content.storages.items():
        record(f"data/{key}")
        _fill(storage, file, "<" if order == b"little" else ">", key)
    return data


def _fill(storage: _Storage, file: IO[bytes], order: str, key: str) -> None:
    """Read the elements of a storage, in the form that they are to have."""
    if storage.array is None:
        file.seek(storage.size, os.SEEK_CUR)
        return
    stored = np.dtype(order + _DTYPES[storage.dtype])
    array = storage.array
    target = array.view(np.uint32) if storage.dtype == "bfloat16" else array
    for start in range(0, len(array), _CHUNK // stored.itemsize):
        part = target[start : start + _CHUNK // stored.itemsize]
        data = file.read(len(part) * stored.itemsize)
        if len(data) < len(part) * stored.itemsize:
            raise ValueError(f"storage {key!r} ends too early")
        elements = np.frombuffer(data, stored)
        if storage.dtype == "bool" and elements.max(initial=0) > 1:
            raise ValueError(f"storage {key!r} holds booleans that are neither 0 nor 1")
        part[...] = _float8(storage.dtype)[elements] if storage.dtype in _FLOAT8 else elements
        if storage.dtype == "bfloat16":  # the upper half of a float32
            part <<= 16


def _float8(dtype: str) -> np.ndarray:
    """Return the float32 that each byte stands for (Micikevicius et al. 2022, "FP8 Formats").

    ``fn`` has no infinity, and ``uz`` a NaN in the place of the negative zero.
    """
    bits, bias = _FLOAT8[dtype]
    bytes_ = np.arange(128)
    exponent, fraction = bytes_ >> bits, (bytes_ & (1 << bits) - 1) / (1 << bits)
    values = np.where(exponent > 0, 1 + fraction, 2 * fraction) * 2.0 ** (exponent - bias)
    if dtype == "float8_e4m3fn":
        values[127] = np.nan
    elif dtype == "float8_e5m2":
        values[124:] = np.inf, np.nan, np.nan, np.nan
    both = np.concatenate([values, -values]).astype(np.float32)
    if dtype.endswith("uz"):
        both[128] = np.nan
    return both
