"""Files of arrays, configurations and descriptions that are damaged, or made to do harm."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from benchmarks import _memory
from lucid import models
from lucid.models import configs
from tests import torch_bytes
from tests.hostile.runs import command, finished_run
from tests.hostile.values import corrupt, hostile, spoil
from tests.hostile.verdict import attempt, check


def trial(rng: random.Random, folder: Path, backend: str) -> None:
    """Try one file."""
    kinds = [damaged, damaged, npy_header, bomb, safetensors_header, configuration, run]
    rng.choice([*kinds, *[pytorch] * len(kinds)])(rng, folder)


def load(path: Path) -> None:
    """Load a file: what comes is no larger than what the file can hold."""
    state, _ = attempt(lambda: lucid.load(path), path.name)
    if state is not None:
        size = sum(value.data.nbytes for value in _tensors(state))
        check(size <= 1100 * path.stat().st_size + 4096, f"{size} bytes came of a small file")


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    return [value] if isinstance(value, lucid.Tensor) else []


def _arrays(rng: random.Random) -> dict[str, np.ndarray]:
    dtypes = [np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_]
    shapes = [(), (0,), (3,), (2, 3), (4, 1, 3, 3)]
    return {
        f"layer.{i}.weight": np.ones(rng.choice(shapes), rng.choice(dtypes))
        for i in range(rng.randrange(4))
    }


def damaged(rng: random.Random, folder: Path) -> None:
    """A good file with wrong bytes."""
    path = folder / f"weights.{rng.choice(['npz', 'safetensors'])}"
    state: Any = _arrays(rng)
    if rng.random() < 0.3:
        state = {"model": state, "epoch": 3, "names": ["a", "b"], "none": None}
    lucid.save(state, path)
    path.write_bytes(spoil(path.read_bytes(), rng))
    load(path)


def npy_header(rng: random.Random, folder: Path) -> None:
    """An array whose header says what it likes."""
    header: Any = {"descr": "<f4", "fortran_order": False, "shape": (2, 3)}
    descr = rng.choice(["<f4", ">f4", "|b1", "<f8", "<f16", "<c8", "|O", "|V8", "<U3", "f4", "x"])
    shape = rng.choice(
        ["(2, 3)", "(6,)", "(-1,)", "(10**9,)", "(2**63, 2)", "()", "6", "(True, 6)"]
    )
    shape = rng.choice([shape, "(1,)*100", "(0, 2**62)", "(" * 300])
    text = f"{{'descr': {descr!r}, 'fortran_order': {rng.choice(['True', 'False', '0'])}, "
    text += f"'shape': {shape}, }}"
    if rng.random() < 0.3:
        text = repr(corrupt(header, rng))
    body = rng.choice([np.ones(6, np.float32).tobytes(), bytes(range(24)), b""])
    length = rng.choice([len(text), len(text), 0, 65535])
    data = b"\x93NUMPY" + rng.choice([b"\1\0", b"\2\0", b"\3\0", b"\x09\0"])
    data += struct.pack("<H" if data[6] == 1 else "<I", length)
    data += text.encode("utf-8", "surrogatepass") + body
    path = folder / "header.npz"
    with zipfile.ZipFile(path, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as file:
        file.writestr(rng.choice(["a.npy", "a", "../a.npy", "a\\b.npy", "/a.npy"]), data)
        if rng.random() < 0.1:
            file.writestr("b.npy", data)
    load(path)


def bomb(rng: random.Random, folder: Path) -> None:
    """A small file that unpacks to a large one, of which the header asks for little."""
    good = io.BytesIO()
    np.save(good, np.ones(3, np.float32))
    path = folder / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("a.npy", "w") as member,
    ):
        member.write(good.getvalue()[: rng.choice([10, 60, 128, 140])])
        for _ in range(rng.choice([64, 256])):
            member.write(bytes(1 << 20))
    load(path)


def safetensors_header(rng: random.Random, folder: Path) -> None:
    """A .safetensors file whose header says what it likes."""
    header: Any = {
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BOOL", "shape": [4], "data_offsets": [24, 28]},
        "__metadata__": {"note": "x"},
    }
    for _ in range(rng.choice([1, 1, 3])):
        header = corrupt(header, rng)
    dtypes = ["F8_E4M3", "BF16", "F16", "I64", "U8", "BOOL", "F32", "C64"]
    text = json.dumps(header, default=str).replace("F32", rng.choice(dtypes)).encode()
    length = rng.choice([len(text)] * 4 + [0, 2**63, 2**64 - 1, 10**8])
    path = folder / "header.safetensors"
    path.write_bytes(struct.pack("<Q", length) + text + bytes(range(28)))
    load(path)


def pytorch(rng: random.Random, folder: Path) -> None:
    """A file of PyTorch's with wrong bytes: in its pickle, or anywhere."""
    value = torch_bytes.code(_checkpoint(rng))
    where = rng.random()
    if where < 0.3:
        value = torch_bytes.Code(spoil(value, rng))
    elif where < 0.6:
        value = torch_bytes.Code(_opcodes(rng, value))
    data = rng.choice([torch_bytes.archive, torch_bytes.older])(value)
    if where > 0.55:
        data = spoil(data, rng)
    path = folder / f"weights.{rng.choice(['pth', 'pt', 'bin', 'pth.tar'])}"
    path.write_bytes(data)
    _memory.reset_peak()
    before = _memory.resident()
    attempt(lambda: lucid.load(path), path.name)
    most = 4 * len(data) + (64 << 20)
    check(_memory.peak() - before < most, f"more than {most} bytes for a file of {len(data)}")
    check([entry.name for entry in folder.iterdir()] == [path.name], "it ran something")


def _checkpoint(rng: random.Random) -> Any:
    """Return a checkpoint, some of whose parts may be none that a file has."""
    count = rng.choice([6, 7, 0, 2**31, 2**62])
    kind = rng.choice(["Float", "Half", "BFloat16", "Long", "Bool", "ComplexFloat"])
    of = torch_bytes.storage(rng.choice(["0", "1"]), f"torch.{kind}Storage", count)
    shape = rng.choice([(2, 3), (6,), (), (0, 3), (10**12,), (2**62, 2**62), (-1,), (1,) * 99])
    strides = rng.choice([(3, 1), (1,), (), (0,), (0, 0), (2**63, 1), (-3, 1)])
    bad = torch_bytes.tensor(of, rng.choice([0, 5, -1]), shape, strides)
    good = [
        torch_bytes.tensor(),
        torch_bytes.tensor(shape=(), strides=(), start=5),
        torch_bytes.tensor(shape=(4, 3), strides=(0, 2)),
        torch_bytes.call("torch._utils._rebuild_parameter", torch_bytes.tensor(), True, {}),
    ]
    state: Any = {f"layer.{index}.weight": rng.choice(good) for index in range(3)}
    touch = torch_bytes.call(rng.choice(["os.system", "posix.system"]), "touch canary")
    others = [3, 1.5, None, "é", b"x", [1, (2,)], torch_bytes.call("builtins.set", [1, 2])]
    if rng.random() < 0.3:
        others = [touch, bad, {"x": bad}]
    return {"state_dict": state, rng.choice(["epoch", "args"]): rng.choice(others)}


def _opcodes(rng: random.Random, data: bytes) -> bytes:
    """Return a pickle with opcodes put in where there were others."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 3])):
        at = rng.randrange(len(changed) + 1)
        code = rng.choice(b"().0122NKJMGXUTBCq]}aesutlRQbcihjr\x80\x81\x82\x85\x86\x87\x88\x8a\x8b")
        changed[at : at + rng.choice([0, 1, 1])] = bytes([code]) * rng.choice([1, 1, 2, 1000])
    return bytes(changed)


def _number(rng: random.Random) -> Any:
    value = hostile(rng)
    return value if not hasattr(value, "dtype") else value.tolist()


def configuration(rng: random.Random, folder: Path) -> None:
    """A model's configuration with one wrong value."""
    config = corrupt(rng.choice([configs.conv_small, configs.hybrid_medium])(), rng, _number)
    attempt(lambda: models.MobileNet_V4(config, num_classes=rng.choice([10, 10, 10, 0, 3])))


def run(rng: random.Random, folder: Path) -> None:
    """A finished run, one of whose files is damaged: commands end with one line."""
    weights = finished_run(folder)
    path = rng.choice([path for path in folder.iterdir() if path.is_file()])
    if path.suffix == ".json" and rng.random() < 0.8:
        document = corrupt(json.loads(path.read_text(encoding="utf-8")), rng, _number)
        path.write_text(json.dumps(document, default=str), encoding="utf-8")
    elif rng.random() < 0.8:
        path.write_bytes(spoil(path.read_bytes(), rng))
    else:
        path.unlink()
    picture = folder / "white.png"
    _white(picture)
    action = rng.choice([
        ["eval", str(weights)],
        ["train", "--resume", str(weights)],
        ["predict", str(picture), "--weights", str(weights)],
        ["convert", str(weights), str(folder / "out.npz"), "--to", "timm"],
    ])  # fmt: skip
    command(action)


def _white(path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8), 255).save(path)
