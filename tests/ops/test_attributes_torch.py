"""What a tensor says of itself, where it may go, and tensors of its dtype: as PyTorch has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import lucid  # noqa: E402
from lucid import nn  # noqa: E402

ARRAYS = {
    "floats": np.zeros((3, 4, 2), np.float32),
    "bytes": np.ones((5,), np.uint8),
    "integer": np.array(7, np.int64),
    "bools": np.zeros((2, 0), bool),
    "transposed": np.zeros((3, 4), np.float64).T,
    "no memory": np.zeros((0, 3), np.int32),
}
NAMES = (
    "dim ndimension nelement numel element_size is_contiguous stride storage_offset "
    "get_device is_floating_point is_complex is_signed data_ptr ndim itemsize nbytes "
    "is_cpu is_cuda is_leaf requires_grad retains_grad"
)


def value(tensor: Any, name: str) -> Any:
    """Return an attribute, or what a method returns."""
    found = getattr(tensor, name)
    return found() if callable(found) else found


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("name", str.split(NAMES))
def test_as_pytorch_says(kind: str, name: str) -> None:
    theirs = torch.from_numpy(ARRAYS[kind])
    got, expected = value(lucid.from_numpy(ARRAYS[kind]), name), value(theirs, name)
    assert type(got) is type(expected)
    assert got == expected


def test_one_axis_of_stride() -> None:
    x = lucid.zeros(3, 4)
    assert x[1:, 2:].storage_offset() == torch.zeros(3, 4)[1:, 2:].storage_offset() == 6
    assert (x.stride(0), x.stride(-1)) == (4, 1)
    with pytest.raises(IndexError, match="stride: axis 2 is out of range for 2 axes"):
        x.stride(2)


def test_sizes_and_truth() -> None:
    x = lucid.zeros(2, 3)
    assert x.is_same_size(lucid.ones(2, 3))
    assert not x.is_same_size(lucid.ones(3, 2))
    assert lucid.tensor([2]).is_nonzero()
    assert not lucid.is_nonzero(lucid.tensor(0.0))


def test_device() -> None:
    device = lucid.device("cuda" if lucid.cuda.is_available() else "cpu")
    assert (device.type, device.index, str(device)) == ("cpu", None, "cpu")
    assert repr(device) == repr(torch.device("cpu"))
    assert repr(lucid.device("cpu", 0)) == repr(torch.device("cpu", 0))
    assert lucid.device("cpu:0") == lucid.device("cpu", 0) != device
    assert lucid.device(device) == device
    assert len({device, lucid.zeros(1).device}) == 1
    for other in ("cuda", "mps:0", "cpu:x"):
        with pytest.raises(ValueError, match="expected 'cpu', the one device that lucid has"):
            lucid.device(other)
    assert not lucid.accelerator.is_available()
    assert lucid.accelerator.current_accelerator() is None


CONVERSIONS: dict[str, Any] = {
    "dtype": lambda x, lib: x.to(lib.float64),
    "device": lambda x, lib: x.to(lib.device("cpu")),
    "device by name": lambda x, lib: x.to(device="cpu"),
    "device and dtype": lambda x, lib: x.to("cpu", lib.int64),
    "dtype by name": lambda x, lib: x.to("cpu", dtype=lib.float16, non_blocking=True),
    "of another": lambda x, lib: x.to(lib.zeros(1, dtype=lib.int32)),
    "same": lambda x, lib: x.to(lib.float32),
    "copy": lambda x, lib: x.to(lib.float32, copy=True),
    "copy by place": lambda x, lib: x.to("cpu", lib.float32, False, True),
    "channels last": lambda x, lib: x.reshape(2, 1, 2, 1).to(memory_format=lib.channels_last),
    "in order": lambda x, lib: x.clone(memory_format=lib.contiguous_format),
    "cpu": lambda x, lib: x.cpu(),
    "byte": lambda x, lib: x.byte(),
    "char": lambda x, lib: x.char(),
    "short": lambda x, lib: x.short(),
    "new_zeros": lambda x, lib: x.new_zeros(2, 3),
    "new_ones": lambda x, lib: x.new_ones((2, 3), dtype=lib.int32, device="cpu"),
    "new_empty": lambda x, lib: x.new_empty(0, 3),
    "new_full": lambda x, lib: x.new_full((2,), 3),
    "new_tensor": lambda x, lib: x.new_tensor([1, 2]),
    "zeros": lambda x, lib: lib.zeros(2, device=x.device, pin_memory=False),
    "layer": lambda x, lib: lib.nn.Linear(4, 2, device="cpu", dtype=None)(x) * 0,
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions(name: str) -> None:
    array = np.array([1.0, 2.0, 3.0, 100.0], np.float32)
    ours, theirs = lucid.from_numpy(array), torch.from_numpy(array)
    got, expected = CONVERSIONS[name](ours, lucid), CONVERSIONS[name](theirs, torch)
    assert (got is ours) == (expected is theirs)
    assert str(got.dtype) == str(expected.dtype).removeprefix("torch.")
    np.testing.assert_array_equal(got.detach().numpy(), expected.detach().numpy())


def test_wrong_conversions() -> None:
    x = lucid.zeros(2)
    for call in (lambda: x.to("cuda"), lambda: x.to(device="cuda:1"), lambda: nn.ReLU().to("mps")):
        with pytest.raises(ValueError, match="expected 'cpu', the one device that lucid has"):
            call()
    with pytest.raises(ValueError, match=r"ones: lucid computes on the CPU, got device='cuda'"):
        lucid.ones(2, device="cuda")
    with pytest.raises(TypeError, match="to: expected a device such as 'cpu', got 3"):
        x.to(device=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'pin_memory'"):
        lucid.ones(2, pin_memory=True)


def test_modules_go_to_the_cpu() -> None:
    net = nn.Linear(2, 2)
    assert net.to("cpu") is net.to(lucid.device("cpu")) is net.cpu() is net
    assert net.to("cpu", lucid.float64).weight.dtype == np.float64
    assert net.to(lucid.zeros(1)).to(device="cpu", dtype=None).weight.dtype == np.float32


def test_detach_and_retain_in_place() -> None:
    x = lucid.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    y.retain_grad()
    y.retain_grad()
    assert y.retains_grad
    (y * y).sum().backward()
    assert y.grad.tolist() == [6.0, 12.0]
    z = x * 2
    assert z.detach_() is z
    assert z.is_leaf
    assert not z.requires_grad
    with pytest.raises(RuntimeError, match="on a view"):
        x[:1].detach_()
