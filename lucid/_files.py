"""Saving and loading arrays by name, so that nothing is ever half-written and nothing runs code.

A flat mapping of names to arrays becomes a plain file of its format, which other tools read. What
else is in a mapping (nested mappings, lists, numbers, strings) is kept as JSON beside the arrays,
and so are texts about them, their metadata.

Every file that lucid writes goes through :func:`atomic_path`. Nothing of a file that it reads is
unpacked, and no memory is taken, before the header was checked against the file's size.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap

Array = np.ndarray
PathLike = str | os.PathLike[str]

SUFFIXES = (".safetensors", ".npz")

# Where the JSON is kept: an entry of an .npz file, a key of a .safetensors file's metadata.
_STRUCTURE = "__structure__"
_METADATA = "__metadata__"

# The dtypes of a .safetensors file as NumPy reads them; bfloat16 is widened to float32 afterwards.
_SAFETENSORS_DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
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
_SAFETENSORS_NAMES = {dtype: name for name, dtype in _SAFETENSORS_DTYPES.items() if name != "BF16"}

_LONGEST_HEADER = 100_000_000  # the limit of the format for a .safetensors header
_LONGEST_NPY_HEADER = 10_000  # NumPy's own limit
_DEFLATE_RATIO = 1032  # bytes that one packed byte can stand for, at most (zlib's documentation)
_LARGEST_JSON_FILE = 32_000_000
_CHUNK = 1 << 20


class Contents(NamedTuple):
    """All that is in a file: what :func:`load` returns, and the texts beside it."""

    state: dict[str, Any]
    metadata: dict[str, str]


def save(
    state: Mapping[str, Any], path: PathLike, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and arrays by name, such as ``model.state_dict()``.

    The file appears whole or not at all: it is written under another name in the same folder and
    then moved into place. An existing file stays as it is until then.

    Args:
        state: from names to tensors or arrays, of any shape and any real, integer or boolean
            dtype. A checkpoint such as ``{"model": model.state_dict(), "optimizer":
            optimizer.state_dict(), "epoch": 3}`` is possible too: nested mappings (their keys
            strings or integers), lists, tuples, numbers, strings and None come back as they were.
            Unlike ``torch.save``, other objects are not possible, since nothing is pickled.
        path: ends in ``.npz`` or ``.safetensors``.
        metadata: texts about the arrays, by name. Other tools find them as the metadata of a
            ``.safetensors`` file, or as JSON in the entry ``__metadata__`` of an ``.npz`` file.

    Raises:
        TypeError: if ``state`` is no mapping with strings as keys, or holds something else; if
            ``metadata`` are no strings.
        ValueError: if the suffix is another one, or the path is a folder.
        FileNotFoundError: if the folder does not exist.
    """
    suffix = _suffix(path, "save")
    _check_target(Path(path), "save")
    arrays, structure = _flatten(state)
    texts = _check_metadata(metadata or {})
    write = _write_npz if suffix == ".npz" else _write_safetensors
    with atomic_path(path) as temporary:
        write(temporary, arrays, structure, texts)


def load(path: PathLike) -> dict[str, Any]:
    """Read what :func:`save` wrote, or any ``.npz`` or ``.safetensors`` file of arrays.

    Args:
        path: ends in ``.npz`` or ``.safetensors``.

    Returns:
        From names to tensors, each with the dtype in the file; bfloat16 becomes float32. Nested
        if it was when it was saved.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, holds something else than numbers, or has another suffix.
            Pickled objects are never read.
    """
    return read(path).state


def read(path: PathLike) -> Contents:
    """Read a file as :func:`load` does, with the metadata that :func:`save` was given."""
    with _opened(path, "load") as file:
        structure, arrays = file.structure(), file.arrays()
        if structure is None:
            state = {name: wrap(array) for name, array in arrays.items()}
        else:
            state = _unflatten(arrays, structure)
        return Contents(state, file.metadata())


def read_metadata(path: PathLike) -> dict[str, str]:
    """Return the metadata of a file, without reading its arrays; raises as :func:`load` does."""
    with _opened(path, "read_metadata") as file:
        return file.metadata()


@contextlib.contextmanager
def _opened(path: PathLike, who: str) -> Iterator[_NpzFile | _SafetensorsFile]:
    """Open a file and check its header; whatever damage leads to becomes one kind of error."""
    suffix = _suffix(path, who)
    path = Path(path)
    _check_source(path, who)
    with path.open("rb") as file:
        try:
            yield _NpzFile(file) if suffix == ".npz" else _SafetensorsFile(file)
        except Exception as error:  # what damage leads to depends on where it is
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"{who}: {path} is not a {suffix} file of numeric arrays, or damaged: {reason}"
            ) from error


# -- JSON -------------------------------------------------------------------------------------


def read_json(path: PathLike) -> Any:
    """Read a JSON file that somebody else may have written.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for the caller to name the file, if it is no JSON in UTF-8, larger than 32 MB,
            nested too deep, or says something twice.
    """
    path = Path(path)
    _check_source(path, "read_json")
    size = path.stat().st_size
    if size > _LARGEST_JSON_FILE:
        raise ValueError(f"it has {size:,} bytes, expected at most {_LARGEST_JSON_FILE:,}")
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says; an object with the same key twice is an error, not a choice.

    Raises:
        ValueError: if it is no JSON in UTF-8, or nested too deep.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice")
    return result


# -- writing ----------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Give a temporary path in the same folder, and move it to ``path`` when the block ends well.

    When the block raises, the temporary file is removed and ``path`` is as it was. A symbolic
    link stays one: what it points at is replaced. A file that exists keeps its permissions. The
    suffix is kept, for writers that go by it.

    What is no ordinary file (a device, a pipe, ``/dev/stdout``) is not replaced: when the block
    ends well, the content is written into it.

    Args:
        path: the file to write.

    Raises:
        ValueError: if ``path`` is a folder.
        FileNotFoundError: if its folder does not exist.
        OSError: naming ``path``, if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    replaced = is_replaced(path)
    if replaced:
        _check_target(target, "atomic_path")
    folder = target.parent if replaced else Path(tempfile.gettempdir())
    temporary = folder / f".lucid-{os.urandom(8).hex()}{target.suffix}"
    try:
        # Windows does not move a file that is held open.
        with hold(temporary) if os.name == "posix" else contextlib.nullcontext():
            yield temporary
            if replaced:
                _sync(temporary)
                if target.exists():
                    shutil.copymode(target, temporary)
                os.replace(temporary, target)
            else:
                _write_into(path, temporary)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary), temporary):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    if replaced:
        _sync_folder(target.parent)


def is_replaced(path: PathLike) -> bool:
    """Return whether :func:`atomic_path` replaces the file, as it does not replace a device."""
    target = Path(os.path.realpath(path))
    return _descriptor(path) is None and (
        target.is_file() or not target.exists() or target.is_dir()
    )


def _descriptor(path: PathLike) -> int | None:
    """Return the descriptor of this process that a name such as ``/dev/stdout`` stands for.

    It may be an ordinary file by now, which nevertheless is not to be replaced or written from
    its start: other output goes to it too.
    """
    name = os.path.abspath(path)
    while os.path.lexists(name):
        folder = os.path.realpath(os.path.dirname(name))
        base = os.path.basename(name)
        if folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") and base.isdigit():
            return int(base)
        if not os.path.islink(name) or not os.path.exists(name):  # the latter: links in a circle
            break
        name = os.path.join(folder, os.readlink(name))
    return None


def _write_into(path: PathLike, source: Path) -> None:
    print(end="", flush=True)  # what was printed before comes before
    descriptor = _descriptor(path)
    with (
        source.open("rb") as content,
        open(path, "wb") if descriptor is None else open(descriptor, "wb", closefd=False) as file,
    ):
        shutil.copyfileobj(content, file)


# Not every file system can sync: that is no failure to write.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())  # or a crash could leave the new name with no content
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise


def _sync_folder(folder: Path) -> None:
    """Make a new name last; the file is in place already, so nothing here is an error."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _suffix(path: PathLike, who: str) -> str:
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{who}: expected a name ending in {' or '.join(SUFFIXES)}, got {path}")
    return suffix


def _check_source(path: Path, who: str) -> None:
    if path.is_dir():
        raise ValueError(f"{who}: {path} is a folder, not a file")
    if not path.exists():
        raise FileNotFoundError(f"{who}: there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{who}: {path} is no ordinary file")


def _check_target(path: Path, who: str) -> None:
    if path.is_dir():
        raise ValueError(f"{who}: {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{who}: the folder {path.parent} does not exist; make it first")


# -- files that a running process holds --------------------------------------------------------
# A lock of the operating system ends with its process, however that ends. So a file of ours that
# nobody holds is a dead one's.

_OURS = re.compile(r"\.lucid-(?:[0-9a-f]{16}(?:\..*)?|.+\.lock)", re.DOTALL)


class HeldElsewhereError(RuntimeError):
    """Another process holds the file."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Make a file and hold it while the block runs; afterwards it is gone.

    Raises:
        HeldElsewhereError: if another process holds it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _lock(descriptor)
        except OSError:  # a file system without locks
            locked = True
        if locked and _is_at(descriptor, path):
            break
        os.close(descriptor)
        if not locked:
            raise HeldElsewhereError(f"another process holds {path}")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it was moved, or (on Windows) is open
            path.unlink()
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what processes that are no more have left in a folder, where locks tell."""
    if os.name != "posix":  # temporary files are not held there
        return
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR)
                try:
                    if _lock(descriptor) and _is_at(descriptor, path):
                        path.unlink()
                finally:
                    os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a file for this process, and return whether no other one has.

    Raises:
        OSError: if the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


# -- nested mappings and metadata to arrays and texts by name, and back ------------------------


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
        if key in (_STRUCTURE, _METADATA):
            raise ValueError(f"save: the name {key!r} is reserved")
    arrays: dict[str, Array] = {}
    structure = _encode(state, "", arrays)
    if all(part == {"array": key} for key, part in structure["dict"]):
        return arrays, None
    return arrays, json.dumps(structure, allow_nan=False)


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, Mapping):
        raise TypeError(
            f"save: metadata: expected a mapping of names to texts, got {type(metadata).__name__}"
        )
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"save: metadata: expected texts by name, got {name!r}: {text!r}")
        if not _is_unicode(name) or not _is_unicode(text):
            raise ValueError(f"save: metadata: {name!r} is no text that a file can hold")
        if name == _STRUCTURE:
            raise ValueError(f"save: metadata: the name {name!r} is reserved")
    return dict(metadata)


def _encode(value: Any, name: str, arrays: dict[str, Array]) -> Any:
    """Return ``value`` as JSON, with what is no JSON as an object of a single, telling key."""
    if isinstance(value, (Tensor, Array, np.generic)):
        array = np.asarray(value.data if isinstance(value, Tensor) else value)
        if not _is_numeric(array.dtype):
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


def _is_numeric(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiub" and dtype.itemsize <= 8


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _unflatten(arrays: dict[str, Array], structure: str) -> dict[str, Any]:
    state = _decode(parse_json(structure), arrays)
    if not isinstance(state, dict):
        raise ValueError("its structure is no mapping")
    return state


def _decode(value: Any, arrays: dict[str, Array]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return wrap(arrays[content])
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


def _write_npz(
    path: Path, arrays: dict[str, Array], structure: str | None, metadata: dict[str, str]
) -> None:
    texts = {_STRUCTURE: structure, _METADATA: json.dumps(metadata) if metadata else None}
    arrays = {
        **arrays,
        **{
            name: np.frombuffer(text.encode(), np.uint8)
            for name, text in texts.items()
            if text is not None
        },
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


class _NpyHeader(NamedTuple):
    entry: zipfile.ZipInfo
    start: int  # of the elements, in bytes
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


class _NpzFile:
    """An archive whose headers, all of them, agree with its size; nothing else is unpacked yet."""

    def __init__(self, file: IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(file)
        self._headers: dict[str, _NpyHeader] = {}
        _check_entries(self._archive.infolist(), os.fstat(file.fileno()).st_size)
        for entry in self._archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename:
                raise ValueError(f"it holds {name!r}, which is no array")
            if name in self._headers:
                raise ValueError(f"the name {name!r} appears twice")
            self._headers[name] = self._read_header(entry, name)

    def arrays(self) -> dict[str, Array]:
        names = [name for name in self._headers if name not in (_STRUCTURE, _METADATA)]
        return {name: self._read_array(name) for name in names}

    def structure(self) -> str | None:
        return self._text(_STRUCTURE)

    def metadata(self) -> dict[str, str]:
        text = self._text(_METADATA)
        return {} if text is None else _read_metadata(parse_json(text))

    def _text(self, name: str) -> str | None:
        return self._read_array(name).tobytes().decode() if name in self._headers else None

    def _read_header(self, entry: zipfile.ZipInfo, name: str) -> _NpyHeader:
        with self._archive.open(entry) as file:
            start = file.read(12)
            version = np.lib.format.read_magic(io.BytesIO(start))
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"{name!r} has the unknown .npy version {version}")
            width = 2 if version == (1, 0) else 4
            length = int.from_bytes(start[8 : 8 + width], "little")
            if length > _LONGEST_NPY_HEADER:
                raise ValueError(f"{name!r} has a header of {length} bytes")
            end = 8 + width + length
            rest = io.BytesIO(start[8:] + file.read(end - len(start)))
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(rest)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(rest)
        if not _is_numeric(dtype):
            raise ValueError(
                f"{name!r} holds elements of dtype {dtype}, expected real numbers of at most 64 "
                "bits, integers or booleans"
            )
        size = entry.file_size - end
        if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{name!r} should have shape {shape} but holds {size} bytes")
        return _NpyHeader(entry, end, shape, fortran, dtype)

    def _read_array(self, name: str) -> Array:
        header = self._headers[name]
        array = np.empty(header.shape, header.dtype, order="F" if header.fortran else "C")
        with self._archive.open(header.entry) as file:
            file.read(header.start)
            _fill(array.T if header.fortran else array, file, name)
        return _native(array, name)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Raise if the archive's list of contents promises more than a file of ``size`` can hold."""
    end = size
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        packed, unpacked = entry.compress_size, entry.file_size
        if entry.header_offset + packed > end:
            raise ValueError(f"{entry.filename!r} does not lie within the file, or in another part")
        end = entry.header_offset
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{entry.filename!r} is packed in a way that NumPy does not use")
        most = packed if entry.compress_type == zipfile.ZIP_STORED else _DEFLATE_RATIO * packed
        if unpacked > most:
            raise ValueError(f"{entry.filename!r} cannot have {unpacked} bytes in {packed}")


# -- .safetensors -----------------------------------------------------------------------------
# The format: https://github.com/huggingface/safetensors#format. The length of the header in 8
# bytes, the header as JSON, and the elements in C order, without gaps. By hand, since that is all
# of it: the package reads a file twice over into memory (434 ms for 51 MB, 95 here), has no
# bfloat16 for NumPy, and makes files that only their owner can read.


def _write_safetensors(
    path: Path, arrays: dict[str, Array], structure: str | None, metadata: dict[str, str]
) -> None:
    if structure is not None:
        metadata = {**metadata, _STRUCTURE: structure}
    header: dict[str, Any] = {_METADATA: metadata} if metadata else {}
    # Elements lie at multiples of their size if the larger ones come first.
    ordered = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    end = 0
    for name in ordered:
        array = arrays[name]
        start, end = end, end + array.nbytes
        kind = _SAFETENSORS_NAMES[array.dtype.newbyteorder("<").str]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(
            f"save: {len(text):,} bytes of names, structure and metadata; the format allows "
            f"{_LONGEST_HEADER:,} (.npz more)"
        )
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            array = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
            file.write(array.reshape(-1).view(np.uint8).data)


class _SafetensorsFile:
    """A file whose header agrees with its size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise ValueError(f"it has {size} bytes, and its header should have {length}")
        header = parse_json(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
        self._metadata = _read_metadata(header.pop(_METADATA, {}))
        self._structure = self._metadata.pop(_STRUCTURE, None)
        self._start = 8 + length
        self._parts: dict[str, tuple[str, list[int], int]] = {}
        parts = []
        for name, part in header.items():
            kind, shape, start, end = _read_part(name, part)
            self._parts[name] = (kind, shape, start)
            parts.append((start, end, name))
        position = 0
        for start, end, name in sorted(parts):
            if start != position:
                raise ValueError(f"{name!r} starts at {start}, expected {position}")
            position = end
        if self._start + position != size:
            raise ValueError(f"its arrays have {position} bytes, and it {size - self._start}")

    def arrays(self) -> dict[str, Array]:
        return {name: self._read_array(name) for name in self._parts}

    def structure(self) -> str | None:
        return self._structure

    def metadata(self) -> dict[str, str]:
        return self._metadata

    def _read_array(self, name: str) -> Array:
        kind, shape, start = self._parts[name]
        array = np.empty(shape, _SAFETENSORS_DTYPES[kind])
        self._file.seek(self._start + start)
        _fill(array, self._file, name)
        array = _native(array, name)
        if kind == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array


def _read_part(name: str, part: Any) -> tuple[str, list[int], int, int]:
    """Return dtype, shape, start and end from an entry of the header, which agree."""
    if not isinstance(part, dict) or part.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r}: expected dtype, shape and data_offsets, got {part!r:.80}")
    kind, shape, offsets = part["dtype"], part["shape"], part["data_offsets"]
    if not isinstance(kind, str) or kind not in _SAFETENSORS_DTYPES:
        raise ValueError(f"{name!r} has the dtype {kind}, which NumPy does not have")
    if not _are_sizes(shape):
        raise ValueError(f"{name!r}: expected sizes as shape, got {shape!r:.80}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r}: expected a start and an end, got {offsets!r:.80}")
    start, end = offsets
    if end - start != math.prod(shape) * np.dtype(_SAFETENSORS_DTYPES[kind]).itemsize:
        raise ValueError(f"{name!r} should have shape {shape} but holds {end - start} bytes")
    return kind, shape, start, end


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


# -- what both forms share --------------------------------------------------------------------


def _read_metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("its metadata are no texts by name")
    return value


def _fill(array: Array, file: IO[bytes], name: str) -> None:
    """Read the elements of a C-contiguous array, without a second copy of them all."""
    content = array.reshape(-1).view(np.uint8).data
    position = 0
    while position < len(content):
        part = file.read(min(_CHUNK, len(content) - position))
        if not part:
            raise ValueError(f"{name!r} ends after {position} of {len(content)} bytes")
        content[position : position + len(part)] = part
        position += len(part)


def _native(array: Array, name: str) -> Array:
    """Return an array as read in this machine's byte order, once its elements are sound."""
    if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise ValueError(f"{name!r} holds booleans that are neither 0 nor 1")
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return array
