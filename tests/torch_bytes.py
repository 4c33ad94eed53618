"""PyTorch's files by hand: pickles opcode by opcode, and the archive and the older format of them.

What :func:`torch.save` never writes can be written so, and files be made where there is no PyTorch.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any


class Code(bytes):
    """Opcodes that leave one value on the stack."""


def code(value: Any) -> Code:
    """Return the opcodes that make a value: Python's, or as they are."""
    if isinstance(value, Code):
        return value
    if isinstance(value, dict):
        items = b"".join(code(key) + code(item) for key, item in value.items())
        return Code(b"}(" + items + b"u")
    if isinstance(value, (list, tuple)):
        items = b"".join(map(code, value))
        return Code(b"](" + items + b"e" if isinstance(value, list) else b"(" + items + b"t")
    if isinstance(value, str):
        text = value.encode()
        return Code(b"X" + struct.pack("<I", len(text)) + text)
    return Code(pickle.dumps(value, 2)[2:-1])


def name(full: str) -> Code:
    """Return the opcode that names something: ``"os.system"``."""
    module, _, last = full.rpartition(".")
    return Code(f"c{module}\n{last}\n".encode())


def call(full: str, *arguments: Any) -> Code:
    """Return the opcodes that call something."""
    return Code(name(full) + code(arguments) + b"R")


def storage(key: Any = "0", kind: str = "torch.FloatStorage", count: Any = 6, *view: Any) -> Code:
    """Return the opcodes of a storage."""
    return Code(code(("storage", name(kind), key, "cpu", count, *view)) + b"Q")


def tensor(
    of: Code | None = None,
    start: Any = 0,
    shape: Any = (2, 3),
    strides: Any = (3, 1),
    hooks: Any = None,
) -> Code:
    """Return the opcodes of a tensor, of six elements unless told otherwise."""
    hooks = call("collections.OrderedDict") if hooks is None else hooks
    parts = (storage() if of is None else of, start, shape, strides, False, hooks)
    return call("torch._utils._rebuild_tensor_v2", *parts)


SIX = struct.pack("<6f", *range(6))


def archive(
    value: Any,
    storages: Mapping[str, bytes] | None = None,
    folder: str = "archive/",
    packed: int = zipfile.ZIP_STORED,
    **records: bytes,
) -> bytes:
    """Return an archive of a value and the bytes of its storages."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as target:
        target.writestr(f"{folder}data.pkl", b"\x80\2" + code(value) + b".")
        for key, content in ({"0": SIX} if storages is None else storages).items():
            target.writestr(f"{folder}data/{key}", content)
        for record, content in records.items():
            target.writestr(f"{folder}{record}", content)
    return file.getvalue()


def older(
    value: Any,
    storages: Mapping[str, bytes] | None = None,
    itemsize: int = 4,
    keys: Any = None,
) -> bytes:
    """Return a file of the older format; its storages have elements of one size.

    Its list of their keys may be another one.
    """
    storages = {"0": SIX} if storages is None else storages
    system = {"protocol_version": 1001, "little_endian": True}
    start = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system))
    listed = code(list(storages) if keys is None else keys)
    file = start + b"\x80\2" + code(value) + b".\x80\2" + listed + b"."
    for content in storages.values():
        file += struct.pack("<q", len(content) // itemsize) + content
    return file
