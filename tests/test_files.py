"""Saving and loading: round trips, damage, and failures half-way."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lucid._files import (
    HeldElsewhereError,
    atomic_path,
    hold,
    load,
    read,
    read_json,
    read_metadata,
    save,
    sweep,
)
from lucid.autograd import Tensor
from lucid.optim import SGD, Adam, lr_scheduler

FORMATS = [".npz", ".safetensors"]
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"state{request.param}"


def assert_same(loaded: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    assert sorted(loaded) == sorted(arrays)
    for name, array in arrays.items():
        assert type(loaded[name]) is Tensor
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name].data, array, strict=True)
        assert loaded[name].data.flags.writeable


arrays_by_name = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
        lambda name: name not in ("__metadata__", "__structure__")
    ),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, min_side=0))
    ),
    max_size=4,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(arrays=arrays_by_name)
def test_round_trip(path: Path, arrays: dict[str, np.ndarray]) -> None:
    save(arrays, path)
    assert_same(load(path), arrays)


def test_layouts_and_names_that_are_easily_lost(path: Path) -> None:
    grid = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {
        "transposed": grid.transpose(2, 0, 1),
        "strided": grid[:, ::2, ::-1],
        "broadcast": np.broadcast_to(np.float32(2), (2, 3)),
        "fortran": np.asfortranarray(grid),
        "scalar": np.array(3.5),
        "empty": np.zeros((2, 0, 3), np.int64),
        "big_endian": np.arange(3, dtype=">i4"),
        "file": np.ones(2),
        "allow_pickle": np.ones(1),
        "a/b": np.ones(1),
        "ends.npy": np.zeros(1),
    }
    save(arrays, path)
    arrays["big_endian"] = arrays["big_endian"].astype("=i4")
    assert_same(load(path), arrays)


def test_tensors_are_saved_with_or_without_grad(path: Path) -> None:
    weight = Tensor([1.0, 2.0], requires_grad=True)
    save({"weight": weight, "count": Tensor(3)}, path)
    loaded = load(path)
    assert loaded["weight"].tolist() == [1, 2]
    assert not loaded["weight"].requires_grad
    assert loaded["count"].item() == 3


def test_a_flat_mapping_is_a_plain_file_for_other_tools(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    save({"x": array}, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        assert archive.files == ["x"]
        np.testing.assert_array_equal(archive["x"], array)
    numpy_io = pytest.importorskip("safetensors.numpy")
    save({"x": array}, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(numpy_io.load_file(tmp_path / "x.safetensors")["x"], array)


def test_reads_files_of_other_tools(tmp_path: Path) -> None:
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez_compressed(tmp_path / "c.npz", x=fortran, y=np.bool_(True))
    assert_same(load(tmp_path / "c.npz"), {"x": fortran, "y": np.array(True)})
    numpy_io = pytest.importorskip("safetensors.numpy")
    numpy_io.save_file({"x": np.arange(3)}, tmp_path / "c.safetensors", {"format": "np"})
    assert_same(load(tmp_path / "c.safetensors"), {"x": np.arange(3)})


def test_a_checkpoint_comes_back_as_it_was(path: Path) -> None:
    checkpoint = {
        "model": {"layer.weight": np.ones((2, 2), np.float32), "layer": {"weight": np.zeros(1)}},
        "epoch": 3,
        "name": "tschüß",
        "best": math.inf,
        "worst": -math.inf,
        "history": [{"loss": 0.1 + 0.2, "note": None}, (1, True, "x", [])],
        "state": {0: {"step": 5, "buffer": np.arange(3)}, 10: {}},
        "empty": {},
        "array": {"array": "no array"},
        "": {"": {}},
    }
    save(checkpoint, path)
    loaded = load(path)
    assert loaded["model"]["layer.weight"].shape == (2, 2)
    assert loaded["model"]["layer"]["weight"].tolist() == [0]
    assert loaded["state"][0].pop("buffer").tolist() == [0, 1, 2]
    del loaded["model"], checkpoint["model"], checkpoint["state"][0]["buffer"]  # type: ignore[attr-defined, index]
    assert loaded == checkpoint
    assert list(loaded["state"]) == [0, 10]
    assert type(loaded["history"][1]) is tuple


def test_training_goes_on_exactly_from_a_saved_optimizer_and_schedule(path: Path) -> None:
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((12, 5))

    def make() -> tuple[Tensor, Adam, lr_scheduler.SequentialLR]:
        weight = Tensor(np.ones(5), requires_grad=True)
        optimizer = Adam([{"params": [weight], "lr": 0.1}], amsgrad=True)
        warmup = lr_scheduler.LinearLR(optimizer, total_iters=3)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=9, eta_min=0.01)
        return weight, optimizer, lr_scheduler.SequentialLR(optimizer, [warmup, cosine], [3])

    def train(part: slice, weight: Tensor, optimizer: Adam, schedule: Any) -> None:
        for gradient in gradients[part]:
            weight.grad = Tensor(gradient)
            optimizer.step()
            schedule.step()

    whole = make()
    train(slice(0, 12), *whole)
    half = make()
    train(slice(0, 5), *half)
    save(
        {
            "weight": half[0],
            "optimizer": half[1].state_dict(),
            "schedule": half[2].state_dict(),
        },
        path,
    )
    rest = make()
    checkpoint = load(path)
    rest[0].data[...] = checkpoint["weight"].data
    rest[1].load_state_dict(checkpoint["optimizer"])
    rest[2].load_state_dict(checkpoint["schedule"])
    train(slice(5, 12), *rest)
    np.testing.assert_array_equal(rest[0].data, whole[0].data)
    assert rest[2].get_last_lr() == whole[2].get_last_lr()


def test_metadata_travel_with_the_arrays(path: Path) -> None:
    metadata = {"classes": "tschüß, \0", "": ""}
    for state in ({"x": np.arange(3)}, {"x": np.arange(3), "epoch": 3}):
        save(state, path, metadata)
        assert read_metadata(path) == metadata
        assert read(path).metadata == metadata
        assert load(path).keys() == state.keys()
    save({"x": np.arange(3)}, path)
    assert read_metadata(path) == {}


def test_other_tools_find_the_metadata(tmp_path: Path) -> None:
    save({"x": np.arange(3)}, tmp_path / "x.npz", {"about": "ä"})
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        assert json.loads(archive["__metadata__"].tobytes()) == {"about": "ä"}
    safe_open = pytest.importorskip("safetensors").safe_open
    save({"x": np.arange(3)}, tmp_path / "x.safetensors", {"about": "ä"})
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == {"about": "ä"}


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        (["a"], TypeError, "metadata: expected a mapping of names to texts, got list"),
        ({"a": 3}, TypeError, "metadata: expected texts by name, got 'a': 3"),
        ({3: "a"}, TypeError, "metadata: expected texts by name, got 3: 'a'"),
        ({"a": "\ud800"}, ValueError, "metadata: 'a' is no text that a file can hold"),
        ({"__structure__": "{}"}, ValueError, "metadata: the name '__structure__' is reserved"),
    ],
)
def test_metadata_are_texts(
    path: Path, metadata: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        save({"x": np.ones(1)}, path, metadata)


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ([np.ones(1)], TypeError, "expected a mapping of names to arrays, got list"),
        (np.ones(1), TypeError, "expected a mapping .* got ndarray"),
        ({3: np.ones(1)}, TypeError, "names must be strings, got 3"),
        ({"a": {1.5: np.ones(1)}}, TypeError, "keys in 'a' must be strings or integers, got 1.5"),
        ({"a": np.array([None])}, TypeError, "'a' has dtype object"),
        ({"a": np.array(["x"])}, TypeError, "'a' has dtype <U1"),
        ({"a": np.ones(1, complex)}, TypeError, "'a' has dtype complex128"),
        ({"a": {"b": [object()]}}, TypeError, "'a.b.0' is of type object"),
        ({"a": {1, 2}}, TypeError, "'a' is of type set"),
        ({"__metadata__": np.ones(1)}, ValueError, "'__metadata__' is reserved"),
        ({"a\0b": np.ones(1)}, ValueError, "cannot be a name in a file"),
        ({"\ud800": np.ones(1)}, ValueError, "cannot be a name in a file"),
        ({"__structure__": np.ones(1)}, ValueError, "'__structure__' is reserved"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_any_work(
    path: Path, state: Any, error: type[Exception], message: str
) -> None:
    path.write_bytes(b"old")
    with pytest.raises(error, match=message):
        save(state, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_bad_paths_are_refused(tmp_path: Path, path: Path) -> None:
    state = {"a": np.ones(1)}
    with pytest.raises(ValueError, match=r"ending in \.safetensors or \.npz, got .*state\.pt"):
        save(state, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"ending in \.safetensors or \.npz, got .*\.h5; PyTor"):
        load(tmp_path / "state.h5")
    with pytest.raises(FileNotFoundError, match=r"the folder .*missing does not exist"):
        save(state, tmp_path / "missing" / path.name)
    with pytest.raises(FileNotFoundError, match=f"there is no file .*{path.name}"):
        load(path)
    path.mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        save(state, path)
    with pytest.raises(ValueError, match="is a folder"):
        load(path)
    assert list(path.iterdir()) == []


def test_what_is_no_path_is_named(path: Path) -> None:
    state: Any = {"a": np.zeros((3, 2)), "b": np.array(0.5)}
    given = r"\{'a': ndarray of shape \(3, 2\), 'b': array\(0\.5\)\}"
    with pytest.raises(TypeError, match=rf"^save\(state, path\): expected a path, got {given}$"):
        save(path, state)
    with pytest.raises(TypeError, match=r"^load\(path\): expected a path, got None$"):
        load(None)  # type: ignore[arg-type]


def test_what_is_no_ordinary_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.npz").symlink_to(os.devnull)
    with pytest.raises(ValueError, match=r"x\.npz is no ordinary file"):
        load(tmp_path / "x.npz")


# -- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not an archive\n" * 40, b"\0" * 200, b"PK\x03\x04" * 9])
def test_wrong_content(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"load: .*{path.name} is not a .* or damaged: ."):
        load(path)


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.95, 0.999])
def test_truncated(path: Path, part: float) -> None:
    save({"a": np.arange(500.0), "b": np.ones(3)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ValueError, match=path.name):
        load(path)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_damaged_byte_gives_an_error_or_arrays(path: Path, data: st.DataObject) -> None:
    save({"a": np.arange(4.0), "meta": {"step": 3}}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(ValueError):  # and no other error, nor a crash
        assert isinstance(load(path), dict)


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x"), "dtype object"),
        (npy("{'descr': '<U2', 'fortran_order': False, 'shape': (0,)}"), "dtype <U2"),
        (npy("{'descr': '<c8', 'fortran_order': False, 'shape': (0,)}"), "dtype complex64"),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}", b"1234"),
            r"should have shape \(1000000000000,\) but holds 4 bytes",
        ),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}", b"1234"), "."),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"12345"), "5 bytes"),
        (npy("__import__('os').abort()"), "."),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}", b"", b"\x09\x00"), "."),
        (b"hello", "."),
    ],
)
def test_hostile_npz(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(ValueError, match=f"x.npz is not a .*{message}"):
        load(path)


def test_npz_with_pickles_other_files_or_twice_the_same_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickle.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"pickle\.npz .* dtype object"):
        load(tmp_path / "pickle.npz")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"holds 'readme\.txt', which is no array"):
        load(tmp_path / "other.npz")
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        header = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}")
        archive.writestr("a.npy", header)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", header)
    with pytest.raises(ValueError, match="'a' appears twice"):
        load(tmp_path / "twice.npz")
    np.savez(tmp_path / "structure.npz", __structure__=np.frombuffer(b'{"x": 1}', np.uint8))
    with pytest.raises(ValueError, match="unknown part 'x'"):
        load(tmp_path / "structure.npz")


def peak_of_failure(path: Path, message: str) -> int:
    """Return the most memory that a load that has to fail takes."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{path.name} is not a .*{message}"):
            load(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,)}"
MANY = 2**24  # bytes, which a few kilobytes unpack to


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(FLOATS % "1", bytes(MANY)), f"holds {MANY} bytes"),
        (
            npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(MANY)),
            "dtype object",
        ),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", MANY) + bytes(MANY), f"header of {MANY} bytes"),
        (bytes(MANY), "magic string"),
    ],
)
def test_nothing_is_unpacked_beyond_what_a_header_says(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sound.npy", npy(FLOATS % (MANY // 4), bytes(MANY)))
        archive.writestr("a.npy", content)
    assert peak_of_failure(tmp_path / "x.npz", message) < MANY // 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_size": 10**15}, "'b.npy' cannot have 1000000000000000 bytes in"),
        ({"compress_size": 10**15}, "'b.npy' does not lie within the file"),
        ({"header_offset": 10**15}, "'b.npy' does not lie within the file"),
        ({"header_offset": 0}, "does not lie within the file, or in another part"),
        ({"compress_type": zipfile.ZIP_LZMA}, "'b.npy' is packed in a way that NumPy does not use"),
    ],
)
def test_an_archive_whose_list_of_contents_lies(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.npy", "b.npy"):
            archive.writestr(name, npy(FLOATS % 100, bytes(400)))
        for key, value in change.items():
            setattr(archive.filelist[1], key, value)
    assert peak_of_failure(tmp_path / "x.npz", message) < MANY


def test_a_content_that_does_not_match_its_checksum(tmp_path: Path) -> None:
    save({"a": np.arange(100.0)}, tmp_path / "x.npz")
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[content.index(np.float64(50).tobytes()) + 1] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        load(tmp_path / "x.npz")


def test_an_entry_that_does_not_begin_where_it_says(tmp_path: Path) -> None:
    save({"a": np.arange(100.0), "b": np.arange(9.0)}, tmp_path / "x.npz")
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[26:28] = (200).to_bytes(2, "little")  # the length of the first name
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"x\.npz is not a \.npz file of numeric arrays, or damaged"
    ):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("save_as", [np.savez, np.savez_compressed])
def test_an_archive_behind_something_else(tmp_path: Path, save_as: Any) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.arange(4, dtype=np.int8)}
    save_as(tmp_path / "x.npz", **arrays)
    (tmp_path / "x.npz").write_bytes(b"PK\3\4 first " + (tmp_path / "x.npz").read_bytes())
    assert_same(load(tmp_path / "x.npz"), arrays)


@pytest.mark.parametrize(
    "descr", ["'<f16'", "'<c16'", "'<M8[s]'", "'|V8'", "[('x', '<f4')]", "('<f4', (2,))"]
)
def test_elements_that_are_no_plain_numbers(tmp_path: Path, descr: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr(
            "a.npy", npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': (0,)}}")
        )
    with pytest.raises(ValueError, match=r"x\.npz is not a .*"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">f2", ">f4", ">i8", ">u2"])
def test_other_byte_orders_are_converted(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype, order=order)
    np.savez(tmp_path / "x.npz", a=array)
    assert_same(load(tmp_path / "x.npz"), {"a": array.astype(array.dtype.newbyteorder("="))})


def test_booleans_are_0_or_1(tmp_path: Path) -> None:
    header = "{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", npy(header, b"\0\1\2"))
    content = safetensors_file({"a": entry("BOOL", [3], 0, 3)}, b"\0\1\xff")
    (tmp_path / "x.safetensors").write_bytes(content)
    for suffix in FORMATS:
        with pytest.raises(ValueError, match="'a' holds booleans that are neither 0 nor 1"):
            load(tmp_path / f"x{suffix}")


def test_loading_takes_little_more_memory_than_the_content(path: Path) -> None:
    save({"a": np.zeros(MANY // 4, np.float32)}, path)
    tracemalloc.start()
    loaded = load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert loaded["a"].data.nbytes == MANY
    assert peak < 1.25 * MANY


def safetensors_file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors_file({}, length=2**63),
        safetensors_file({}, length=10**8 + 1),
        safetensors_file({}, length=5),
        safetensors_file(b"not json"),
        safetensors_file(b"[1, 2]"),
        safetensors_file(b'{"a": ' * 5000),
        safetensors_file({"a": entry("F32", [1], 0, 8)}, bytes(8)),  # size and shape differ
        safetensors_file({"a": entry("F32", [2], 0, 8)}, bytes(4)),  # beyond the end
        safetensors_file({"a": entry("F32", [1], 4, 0)}, bytes(8)),  # backwards
        safetensors_file({"a": entry("F32", [-1], 0, 4)}, bytes(4)),
        safetensors_file({"a": entry("F32", [2**40, 2**40], 0, 4)}, bytes(4)),
        safetensors_file({"a": entry("F32", [1], 4, 8)}, bytes(8)),  # a gap
        safetensors_file({"a": entry("F32", [1], 0, 4)}, bytes(8)),  # too much data
        safetensors_file(
            {"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12)
        ),  # overlapping
        safetensors_file({"a": entry("F31", [1], 0, 4)}, bytes(4)),
        safetensors_file({"a": 3}),
        safetensors_file(b'{"a": 3, "a": 3}'),
        safetensors_file(b'{"\xff": 3}'),
        safetensors_file({"__metadata__": {"a": 3}}),
        safetensors_file({"a": entry("F32", [True], 0, 4)}, bytes(4)),
        safetensors_file({"a": entry("F32", [1.0], 0, 4)}, bytes(4)),  # type: ignore[list-item]
        safetensors_file({"a": {**entry("F32", [1], 0, 4), "data_offsets": [0, 4, 8]}}, bytes(4)),
        safetensors_file({"a": {**entry("F32", [1], 0, 4), "dtype": ["F32"]}}, bytes(4)),
        safetensors_file({"a": {**entry("F32", [1], 0, 4), "more": 1}}, bytes(4)),
    ],
)
def test_hostile_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"load: .*x\.safetensors is not a .*: ."):
        load(path)


def test_bfloat16_is_widened_to_float32(tmp_path: Path) -> None:
    # 1.0, -2.5, 3.140625 (nearest to pi), infinity: the upper halves of their float32 bits.
    data = struct.pack("<4H", 0x3F80, 0xC020, 0x4049, 0x7F80)
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_file({"a": entry("BF16", [2, 2], 0, 8)}, data))
    loaded = load(path)["a"]
    assert loaded.dtype == np.float32
    assert loaded.tolist() == [[1.0, -2.5], [3.140625, math.inf]]


def test_a_dtype_that_numpy_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_file({"a": entry("F8_E4M3", [4], 0, 4)}, bytes(4)))
    with pytest.raises(ValueError, match="'a' has the dtype F8_E4M3"):
        load(path)


# -- failures half-way ------------------------------------------------------------------------


class DiskFullError(OSError):
    pass


def fail(*args: Any, **kwargs: Any) -> Any:
    raise DiskFullError("no space left on device")


@pytest.mark.parametrize("where", ["os.replace", "os.fsync", "shutil.copymode", "writer"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    save({"a": np.ones(3)}, path)
    old = path.read_bytes()
    if where == "writer":
        monkeypatch.setattr(f"lucid._files._save_load.write_{path.suffix[1:]}", fail)
    else:
        monkeypatch.setattr(where, fail)
    with pytest.raises(DiskFullError):
        save({"a": np.zeros(3)}, path)
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


def test_a_failure_after_half_of_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(temporary: Path, *args: Any) -> None:
        Path(temporary).write_bytes(b"half")
        fail()

    monkeypatch.setattr(f"lucid._files._save_load.write_{path.suffix[1:]}", half)
    with pytest.raises(DiskFullError):
        save({"a": np.zeros(3)}, path)
    assert os.listdir(path.parent) == []


def test_an_interrupt_removes_the_temporary_file(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_path(tmp_path / "x.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_atomic_path_replaces_at_the_end_and_keeps_suffix_mode_and_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    with atomic_path(link) as temporary:
        assert temporary.parent == real.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert real.read_text() == "old"
    assert real.read_text() == "new"
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.txt", "real.txt"]


def test_a_new_file_has_the_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    save({"a": np.ones(1)}, tmp_path / "a.npz")
    assert (tmp_path / "a.npz").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="has no umask")
def test_the_umask_and_the_mode_of_an_existing_file_are_kept(path: Path) -> None:
    before = os.umask(0o027)
    try:
        save({"a": np.ones(1)}, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        save({"a": np.ones(2)}, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(before)


# -- what is no ordinary file -----------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="has no such files")


@posix
def test_a_device_stays_one(path: Path) -> None:
    path.symlink_to(os.devnull)
    save({"a": np.ones(1)}, path)
    assert path.is_symlink()
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert os.listdir(path.parent) == [path.name]


@posix
def test_a_pipe_takes_the_content(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)
    content: list[bytes] = []
    reader = threading.Thread(target=lambda: content.append(path.read_bytes()))
    reader.start()
    save({"a": np.arange(5)}, path)
    reader.join()
    assert stat.S_ISFIFO(path.stat().st_mode)
    copy = tmp_path / f"copy{path.suffix}"
    copy.write_bytes(content[0])
    assert load(copy)["a"].tolist() == [0, 1, 2, 3, 4]


@posix
@pytest.mark.parametrize("form", ["file", "pipe"])
def test_standard_output_stays_what_it_is(tmp_path: Path, form: str) -> None:
    code = (
        "from lucid._files import atomic_path\n"
        "print('before')\n"
        "with atomic_path('/dev/stdout') as path:\n"
        "    path.write_text('content\\n')\n"
        "print('after')\n"
    )
    command = [sys.executable, "-c", code]
    if form == "pipe":
        output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    else:
        with (tmp_path / "out").open("w") as file:
            subprocess.run(command, stdout=file, check=True)
        output = (tmp_path / "out").read_text()
    assert output == "before\ncontent\nafter\n"


@posix
def test_a_full_device_is_named(path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"No space left on device: '.*{path.name}'$"):
        save({"a": np.ones(1)}, path)


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.npz").symlink_to(tmp_path / "b.npz")
    (tmp_path / "b.npz").symlink_to(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(tmp_path / "a.npz")


# -- full disks, file systems that cannot sync ------------------------------------------------


def test_a_full_disk_is_one_error_that_names_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save({"a": np.ones(3)}, path)
    old = path.read_bytes()

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '.*{path.name}'$"):
        save({"a": np.zeros(3)}, path)
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_sync_is_no_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def cannot(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", cannot)
    save({"a": np.arange(3)}, path)
    assert load(path)["a"].tolist() == [0, 1, 2]


@posix
def test_a_folder_that_cannot_be_synced_is_no_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    save({"a": np.arange(3)}, path)
    assert load(path)["a"].tolist() == [0, 1, 2]


# -- files that a process holds ---------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from lucid._files import atomic_path, hold
with hold(Path("{folder}/.lucid-run.lock")), atomic_path("{folder}/x.txt") as path:
    path.write_text("half")
    print("holds", flush=True)
    time.sleep(600)
"""


@posix
def test_what_a_killed_process_held_is_swept_and_what_a_living_one_holds_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / ".lucid-notes").touch()
    (tmp_path / ".lucid-0123456789abcdef.npz").touch()  # nobody holds it
    lock = tmp_path / ".lucid-run.lock"
    command = [sys.executable, "-c", HOLD.format(folder=tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            sweep(tmp_path)
            assert len(list(tmp_path.iterdir())) == 3
            with pytest.raises(HeldElsewhereError), hold(lock):
                pass
            assert lock.exists()
        finally:
            process.kill()
    with hold(lock):
        sweep(tmp_path)
        assert sorted(os.listdir(tmp_path)) == [".lucid-notes", lock.name]
    assert os.listdir(tmp_path) == [".lucid-notes"]


def test_one_at_a_time_holds_a_file(tmp_path: Path) -> None:
    lock = tmp_path / ".lucid-run.lock"
    inside: list[int] = []
    refused: list[int] = []

    def contend(number: int) -> None:
        for _ in range(200):
            try:
                with hold(lock):
                    inside.append(number)
                    assert len(inside) == 1
                    sweep(tmp_path)
                    inside.remove(number)
            except HeldElsewhereError:
                refused.append(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(contend, range(4)))
    assert os.listdir(tmp_path) == []


# -- JSON -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"{broken", "Expecting property name"),
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        (b"[" * 100_000, "nested too deep"),
        (b"1" * 5000, "Exceeds the limit"),
        (b" " * 32_000_001, "has 32,000,001 bytes, expected at most 32,000,000"),
    ],
)
def test_json_of_strangers(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


def test_json_with_the_mark_of_other_editors(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ä": [1]}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"ä": [1]}


def test_the_state_of_an_optimizer_before_its_first_step_can_be_saved(path: Path) -> None:
    optimizer = SGD([Tensor(np.ones(2), requires_grad=True)], lr=0.1)
    save(optimizer.state_dict(), path)
    assert load(path) == optimizer.state_dict()


def test_what_is_loaded_goes_to_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save({"a": np.arange(3.0)}, path)
    for place in (None, "cpu", Tensor([1.0]).device):
        found = load(path, map_location=place, weights_only=True)
        np.testing.assert_array_equal(found["a"].numpy(), np.arange(3.0))
    with pytest.raises(ValueError, match=r"device: expected 'cpu'.*, got 'cuda:0'"):
        load(path, "cuda:0")
