"""Saving and loading: the format by the suffix, and what its module makes of a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lucid._files._atomic import atomic_path
from lucid._files._common import PathLike, check_source, check_target
from lucid._files._nested import check_metadata, flatten, unflatten
from lucid._files._npz import NpzFile, write_npz
from lucid._files._safetensors import SafetensorsFile, write_safetensors
from lucid.autograd._tensor import wrap

SUFFIXES = (".safetensors", ".npz")


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
    check_target(Path(path), "save")
    arrays, structure = flatten(state)
    texts = check_metadata(metadata or {})
    write = write_npz if suffix == ".npz" else write_safetensors
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
            state = unflatten(arrays, structure)
        return Contents(state, file.metadata())


def read_metadata(path: PathLike) -> dict[str, str]:
    """Return the metadata of a file, without reading its arrays; raises as :func:`load` does."""
    with _opened(path, "read_metadata") as file:
        return file.metadata()


@contextlib.contextmanager
def _opened(path: PathLike, who: str) -> Iterator[NpzFile | SafetensorsFile]:
    """Open a file and check its header; whatever damage leads to becomes one kind of error."""
    suffix = _suffix(path, who)
    path = Path(path)
    check_source(path, who)
    with path.open("rb") as file:
        try:
            yield NpzFile(file) if suffix == ".npz" else SafetensorsFile(file)
        except Exception as error:  # what damage leads to depends on where it is
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"{who}: {path} is not a {suffix} file of numeric arrays, or damaged: {reason}"
            ) from error


def _suffix(path: PathLike, who: str) -> str:
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"{who}: expected a name ending in {' or '.join(SUFFIXES)}, got {path}")
    return suffix
