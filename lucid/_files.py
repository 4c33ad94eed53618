"""Saving and loading arrays by name, so that nothing is ever half-written and nothing runs code.

A flat mapping of names to arrays becomes a plain file of its format, which other tools read. What
else is in a mapping (nested mappings, lists, numbers, strings) is kept as JSON beside the arrays.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from lucid._extras import extra
from lucid.autograd import Tensor

Array = np.ndarray
PathLike = str | os.PathLike[str]

SUFFIXES = (".safetensors", ".npz")

# Where the JSON is kept: an entry of an .npz file, a key of a .safetensors file's metadata.
_STRUCTURE = "__structure__"

# The dtypes of a .safetensors file as NumPy reads them; bfloat16 is widened to float32 afterwards.
_SAFETENSORS_DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "BF16": "<u2",
    "F32": "<f4",
    "F64": "<f8",
}


def save(state: Mapping[str, Any], path: PathLike) -> None:
    """Write tensors and arrays by name, such as ``model.state_dict()``.

    The file appears whole or not at all: it is written under another name in the same folder and
    then moved into place. An existing file stays as it is until then.

    Args:
        state: from names to tensors or arrays, of any shape and any real, integer or boolean
            dtype. A checkpoint such as ``{"model": model.state_dict(), "optimizer":
            optimizer.state_dict(), "epoch": 3}`` is possible too: nested mappings (their keys
            strings or integers), lists, tuples, numbers, strings and None come back as they were.
            Unlike ``torch.save``, other objects are not possible, since nothing is pickled.
        path: ends in ``.npz``, or in ``.safetensors``, which needs the extra ``hub``.

    Raises:
        TypeError: if ``state`` is no mapping with strings as keys, or holds something else.
        ValueError: if the suffix is another one, or the path is a folder.
        FileNotFoundError: if the folder does not exist.
        ImportError: if the suffix is ``.safetensors`` and that package is not installed.
    """
    suffix = _suffix(path, "save")
    _check_target(Path(path), "save")
    arrays, structure = _flatten(state)
    if suffix == ".npz":
        with atomic_path(path) as temporary:
            _write_npz(temporary, arrays, structure)
    else:
        safetensors = _safetensors()
        metadata = None if structure is None else {_STRUCTURE: structure}
        with atomic_path(path) as temporary:
            safetensors.save_file(arrays, temporary, metadata)


def load(path: PathLike) -> dict[str, Any]:
    """Read what :func:`save` wrote, or any ``.npz`` or ``.safetensors`` file of arrays.

    Args:
        path: ends in ``.npz``, or in ``.safetensors``, which needs the extra ``hub``.

    Returns:
        From names to tensors, each with the dtype in the file; bfloat16 becomes float32. Nested
        if it was when it was saved.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, holds something else than numbers, or has another suffix.
            Pickled objects are never read.
        ImportError: if the suffix is ``.safetensors`` and that package is not installed.
    """
    suffix = _suffix(path, "load")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"load: {path} is a folder, not a file")
    if not path.is_file():
        raise FileNotFoundError(f"load: there is no file {path}")
    if suffix == ".safetensors":
        _safetensors()
    with path.open("rb") as file:
        try:
            arrays, structure = (_read_npz if suffix == ".npz" else _read_safetensors)(file)
            if structure is not None:
                return _unflatten(arrays, structure)
        except Exception as error:  # what damage leads to depends on where it is
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"load: {path} is not a {suffix} file of numeric arrays, or damaged: {reason}"
            ) from error
    return {name: Tensor._wrap(array) for name, array in arrays.items()}


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Give a temporary path in the same folder, and move it to ``path`` when the block ends well.

    When the block raises, the temporary file is removed and ``path`` is as it was. A symbolic
    link stays one: what it points at is replaced. The suffix is kept, for writers that go by it.

    Args:
        path: the file to write.

    Raises:
        ValueError: if ``path`` is a folder.
        FileNotFoundError: if its folder does not exist.
    """
    target = Path(os.path.realpath(path))
    _check_target(target, "atomic_path")
    temporary = target.with_name(f".lucid-{os.urandom(8).hex()}{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # or a crash could leave the new name with no content
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _suffix(path: PathLike, who: str) -> str:
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{who}: expected a name ending in {' or '.join(SUFFIXES)}, got {path}")
    return suffix


def _check_target(path: Path, who: str) -> None:
    if path.is_dir():
        raise ValueError(f"{who}: {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{who}: the folder {path.parent} does not exist; make it first")


def _safetensors() -> Any:
    return extra("safetensors.numpy", "hub", ".safetensors files, unlike .npz, need safetensors")


# -- nested mappings to and from arrays by name -----------------------------------------------


def _flatten(state: Any) -> tuple[dict[str, Array], str | None]:
    """Return the arrays by name, and as JSON how they are nested; None if they are not."""
    if not isinstance(state, Mapping):
        raise TypeError(
            f"save: expected a mapping of names to arrays, got {type(state).__name__}; "
            'name a single array: {"x": array}'
        )
    for key in state:
        if not isinstance(key, str):
            raise TypeError(f"save: names must be strings, got {key!r}")
        if key in (_STRUCTURE, "__metadata__"):
            raise ValueError(f"save: the name {key!r} is reserved")
    arrays: dict[str, Array] = {}
    structure = _encode(state, "", arrays)
    if all(part == {"array": key} for key, part in structure["dict"]):
        return arrays, None
    return arrays, json.dumps(structure, allow_nan=False)


def _encode(value: Any, name: str, arrays: dict[str, Array]) -> Any:
    """Return ``value`` as JSON, with what is no JSON as an object of a single, telling key."""
    if isinstance(value, (Tensor, Array, np.generic)):
        array = np.asarray(value.data if isinstance(value, Tensor) else value)
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise TypeError(
                f"save: {name!r} has dtype {array.dtype}; expected real numbers of at most "
                "64 bits, integers or booleans"
            )
        if "\0" in name or not _is_unicode(name):
            raise ValueError(f"save: {name!r} cannot be a name in a file")
        while name in arrays:  # {"a.b": x, "a": {"b": y}}
            name += "_"
        arrays[name] = np.asarray(array, array.dtype.newbyteorder("="), order="C")
        return {"array": name}
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise TypeError(f"save: keys in {name!r} must be strings or integers, got {key!r}")
        prefix = name + "." if name else ""
        return {
            "dict": [[key, _encode(item, f"{prefix}{key}", arrays)] for key, item in value.items()]
        }
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{name}.{index}", arrays) for index, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    raise TypeError(
        f"save: {name!r} is of type {type(value).__name__}; expected tensors or arrays, and in "
        "checkpoints mappings, lists, tuples, numbers, strings or None"
    )


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _unflatten(arrays: dict[str, Array], structure: str) -> dict[str, Any]:
    state = _decode(json.loads(structure), arrays)
    if not isinstance(state, dict):
        raise ValueError("its structure is no mapping")
    return state


def _decode(value: Any, arrays: dict[str, Array]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return Tensor._wrap(arrays[content])
    if kind == "dict":
        return {key: _decode(item, arrays) for key, item in content}
    if kind == "list":
        return [_decode(item, arrays) for item in content]
    if kind == "tuple":
        return tuple(_decode(item, arrays) for item in content)
    if kind == "float":
        return float(content)
    raise ValueError(f"its structure has an unknown part {kind!r}")


# -- .npz: a zip archive of .npy files --------------------------------------------------------
# By hand, since np.savez takes names as keyword arguments, and fails at one called "file".


def _write_npz(path: Path, arrays: dict[str, Array], structure: str | None) -> None:
    if structure is not None:
        arrays = {**arrays, _STRUCTURE: np.frombuffer(structure.encode(), np.uint8)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _read_npz(file: IO[bytes]) -> tuple[dict[str, Array], str | None]:
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename:
                raise ValueError(f"it holds {name!r}, which is no array")
            if name in arrays:
                raise ValueError(f"the name {name!r} appears twice")
            with archive.open(entry) as part:
                arrays[name] = _read_npy(part, name)
    structure = arrays.pop(_STRUCTURE, None)
    return arrays, None if structure is None else structure.tobytes().decode()


def _read_npy(file: IO[bytes], name: str) -> Array:
    """Read one array; the header is checked before memory is taken for what it claims."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"{name!r} has the unknown .npy version {version}")
    if dtype.kind not in "fiub":
        raise ValueError(f"{name!r} holds elements of dtype {dtype}, expected numbers")
    data = bytearray(file.read())
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name!r} should have shape {shape} but holds {len(data)} bytes")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


# -- .safetensors -----------------------------------------------------------------------------


def _read_safetensors(file: IO[bytes]) -> tuple[dict[str, Array], str | None]:
    data = file.read()
    arrays = {}
    # It checks the header: lengths, overlaps, gaps, sizes against shapes.
    for name, part in _safetensors().deserialize(data):
        kind = part["dtype"]
        if kind not in _SAFETENSORS_DTYPES:
            raise ValueError(f"{name!r} has the dtype {kind}, which NumPy does not have")
        dtype = np.dtype(_SAFETENSORS_DTYPES[kind])
        array = np.frombuffer(bytearray(part["data"]), dtype).reshape(part["shape"])
        if kind == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return arrays, header.get("__metadata__", {}).get(_STRUCTURE)
