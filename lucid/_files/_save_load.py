"""Saving and loading: the format by the suffix, and what its module makes of a file."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from lucid._files import _safetensors, _torch
from lucid._files._atomic import atomic_path
from lucid._files._common import PathLike, as_path, check_source, check_target
from lucid._files._nested import check_metadata, flatten, unflatten
from lucid._files._npz import NpzFile, write_npz
from lucid._files._pickle import UnreadableError
from lucid._files._safetensors import SafetensorsFile, write_safetensors
from lucid._files._torch import TorchFile
from lucid.autograd._device import device
from lucid.autograd._tensor import wrap

SUFFIXES = (".safetensors", ".npz")  # of what is written
READABLE = (*SUFFIXES, *_torch.SUFFIXES)
_READERS: dict[str, Any] = {".npz": NpzFile, ".safetensors": SafetensorsFile}  # else PyTorch's


class Contents(NamedTuple):
    """All that is in a file: what :func:`load` returns, and the texts beside it."""

    state: Any
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
    path = as_path(path, "save(state, path)")
    suffix = _suffix(path, "save")
    check_target(path, "save")
    arrays, structure = flatten(state)
    texts = check_metadata(metadata or {})
    write = write_npz if suffix == ".npz" else write_safetensors
    with atomic_path(path) as temporary:
        write(temporary, arrays, structure, texts)


def load(path: PathLike, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """Read what :func:`save` wrote, any ``.npz`` or ``.safetensors`` file of arrays, or PyTorch's.

    Files of ``torch.save``, of any version since 0.2, are read without PyTorch, as
    ``torch.load(path, weights_only=True)`` does. Nothing in them is executed: they may hold
    tensors, dictionaries, lists, tuples, sets, numbers, texts, bytes and None.

    Args:
        path: ends in ``.npz`` or ``.safetensors``, or, as PyTorch's files do, in ``.pth``, ``.pt``,
            ``.bin`` or ``.pth.tar``. The content tells which of them it is.
        map_location: None or the CPU, where all is read to.
        weights_only: without effect: no code is run either way.

    Returns:
        From names to tensors, each with the dtype in the file; bfloat16 becomes float32, and in
        PyTorch's files float16 too. Nested if it was when it was saved. PyTorch's may hold another
        value than a dictionary. Their tensors share memory as they did, but need no gradient; a
        ``torch.Size`` becomes a tuple, a dtype NumPy's, a device its name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, holds something else than numbers, or has another suffix; if
            PyTorch's holds what only code can make, or a dtype that lucid does not have.
    """
    if map_location is not None:
        device(map_location)
    return read(path).state


def read(path: PathLike) -> Contents:
    """Read a file as :func:`load` does, with the metadata that :func:`save` was given."""
    with _opened(path, "load") as file:
        if isinstance(file, TorchFile):
            return Contents(file.data(), file.metadata())
        structure, arrays = file.structure(), file.arrays()
        if structure is None:
            state: Any = {name: wrap(array) for name, array in arrays.items()}
        else:
            state = unflatten(arrays, structure)
        return Contents(state, file.metadata())


def read_metadata(path: PathLike) -> dict[str, str]:
    """Return the metadata of a file, without reading its arrays; raises as :func:`load` does."""
    with _opened(path, "read_metadata") as file:
        return file.metadata()


@contextlib.contextmanager
def _opened(path: PathLike, who: str) -> Iterator[NpzFile | SafetensorsFile | TorchFile]:
    """Open a file and check its header; whatever damage leads to becomes one kind of error."""
    path = as_path(path, f"{who}(path)")
    if path.suffix not in READABLE:
        raise ValueError(f"{who}: expected a name {endings(path)}")
    check_source(path, who)
    with path.open("rb") as file:
        form = _form(file, path.suffix)
        try:
            yield _READERS.get(form, TorchFile)(file)
        except UnreadableError as error:
            raise ValueError(f"{who}: {path}: {error}") from error
        except Exception as error:  # what damage leads to depends on where it is
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"{who}: {path} is not a {form} file of numeric arrays, or damaged: {reason}"
            ) from error


def endings(path: PathLike) -> str:
    """Return in words what a name that :func:`load` does not read should have ended in."""
    return (
        f"ending in {' or '.join(SUFFIXES)}, got {path}; PyTorch's files end in "
        f"{', '.join(_torch.SUFFIXES[:-1])} or .pth{_torch.SUFFIXES[-1]}"
    )


def _form(file: IO[bytes], suffix: str) -> str:
    """Return what form the content has, or the suffix says where that is open."""
    start = file.read(64)
    file.seek(0)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _safetensors.LONGEST_HEADER:
        return ".safetensors"
    if start.startswith(b"PK\3\4") and b".npy" in start:
        return ".npz"
    if suffix in SUFFIXES and (b"data.pkl" in start or re.match(rb"\x80[\1-\5]", start)):
        return "PyTorch"
    return suffix if suffix in SUFFIXES else "PyTorch"


def _suffix(path: Path, who: str) -> str:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{who}: expected a name ending in {' or '.join(SUFFIXES)}, got {path}")
    return path.suffix
