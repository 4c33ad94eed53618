"""Tensors beside NumPy's and PyTorch's arrays: shared memory, and NumPy's functions of them."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from numpy.testing import overrides

import lucid
from lucid.autograd import gradcheck
from lucid.ops._numpy import _WITHOUT_GRADIENT, FUNCTIONS, UFUNCS

DTYPES = ["float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8"]

LAYOUTS = {
    "contiguous": lambda a: a,
    "transposed": lambda a: a.T,
    "strided": lambda a: a[:, ::2],
    "reversed": lambda a: a[::-1],
    "empty": lambda a: a[:0],
    "number": lambda a: a[0, 0, ...],
}


def _array(dtype: str = "float32") -> np.ndarray:
    return np.arange(12).reshape(3, 4).astype(dtype)


# -- DLPack ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_is_shared_with_numpy_both_ways(dtype: str, layout: str) -> None:
    array = LAYOUTS[layout](_array(dtype))
    taken = lucid.from_dlpack(array)
    given = taken.numpy() if layout == "reversed" else np.from_dlpack(taken)
    for other in (taken.data, given):
        np.testing.assert_array_equal(other, array)
        assert other.dtype == array.dtype
        assert other.shape == array.shape
        if array.size:
            assert other.strides == array.strides
            assert np.shares_memory(other, array)
    if array.size:
        taken.fill_(1)
        assert (array == 1).all()
        given[...] = 0
        assert not taken.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "reversed"])
def test_memory_is_shared_with_pytorch_both_ways(dtype: str, layout: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = LAYOUTS[layout](torch.from_numpy(_array(dtype)))
    ours = lucid.from_dlpack(theirs)
    back = torch.from_dlpack(ours)
    assert ours.tolist() == theirs.tolist() == back.tolist()
    assert str(ours.dtype) == dtype
    assert ours.shape == tuple(theirs.shape) == tuple(back.shape)
    if theirs.numel():
        assert theirs.data_ptr() == back.data_ptr() == ours.data.__array_interface__["data"][0]
        ours.fill_(1)
        assert bool((theirs == 1).all())
        back.zero_()
        assert not ours.any()


def test_a_model_sees_what_pytorch_writes() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(2, 3)
    layer = lucid.nn.Linear(3, 2, bias=False)
    layer.weight.data = lucid.from_dlpack(weight).data
    weight[1] = 2
    assert layer(lucid.ones(1, 3)).tolist() == [[3, 6]]
    layer(lucid.ones(1, 3)).sum().backward()
    with lucid.no_grad():
        layer.weight.sub_(layer.weight.grad)
    assert weight.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_tensors_that_require_grad_are_not_handed_on() -> None:
    torch = pytest.importorskip("torch")
    x = lucid.ones(2, requires_grad=True)
    for taker in (np.from_dlpack, torch.from_dlpack, lucid.from_dlpack):
        for tensor in (x, x * 2):
            with pytest.raises(BufferError, match=r"requires grad .* call \.detach\(\) first"):
                taker(tensor)
        assert taker(x.detach()).tolist() == [1, 1]
    for taker in (lucid.from_dlpack, lucid.tensor):
        with pytest.raises(BufferError, match="require gradient"):  # PyTorch's own words
            taker(torch.ones(2, requires_grad=True))


def test_read_only_memory_stays_read_only() -> None:
    array = _array()
    array.flags.writeable = False
    x = lucid.from_dlpack(array)
    assert x.tolist() == array.tolist()
    with pytest.raises(RuntimeError, match="read-only"):
        x.add_(1)
    assert not np.from_dlpack(x).flags.writeable
    assert lucid.from_dlpack(array, copy=True).add_(1).tolist() == (array + 1).tolist()
    expanded = lucid.ones(1, 3).expand(2, 3)
    assert not np.from_dlpack(expanded).flags.writeable


def test_memory_that_is_read_backwards_is_not_handed_on() -> None:
    """PyTorch ends the process at a negative stride, by an error that no code can catch."""
    torch = pytest.importorskip("torch")
    x = lucid.from_numpy(_array()[::-1])
    for taker in (np.from_dlpack, torch.from_dlpack, torch.as_tensor):
        with pytest.raises((BufferError, ValueError), match=r"backwards.*clone\(\)|negative"):
            taker(x)
    assert torch.from_dlpack(x.clone()).tolist() == np.from_dlpack(x.flip(0).flip(0)).tolist()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u2"])
def test_numbers_of_either_byte_order(dtype: str, order: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(order + dtype)
    for x in (lucid.tensor(array), lucid.tensor([[0, 1, 2], [3, 4, 5]], dtype=order + dtype)):
        assert x.dtype.isnative
        assert x.tolist() == array.tolist()
        assert np.from_dlpack(x).tolist() == array.tolist()
    assert lucid.ones(2).astype(order + dtype).dtype.isnative
    if array.dtype.isnative:
        assert np.shares_memory(lucid.from_numpy(array).data, array)
    else:
        with pytest.raises(TypeError, match=r"^from_numpy: expected .* byte order, got >.*astype"):
            lucid.from_numpy(array)


class _Producer:
    """What another library hands out."""

    def __init__(self, array: Any, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, stream: Any = None) -> Any:  # as before DLPack 1.0
        return self.array.__dlpack__()


def test_what_is_older_than_dlpack_1_is_read_only() -> None:
    array = _array()
    x = lucid.from_dlpack(_Producer(array))
    assert np.shares_memory(x.data, array)
    with pytest.raises(RuntimeError, match="read-only"):
        x.zero_()
    assert lucid.from_dlpack(_Producer(array), copy=True).zero_().sum().item() == 0
    assert lucid.tensor(_Producer(array)).add_(1).tolist() == (array + 1).tolist()


def test_errors_of_from_dlpack() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"from_dlpack: expected an array or tensor .* got list"):
        lucid.from_dlpack([1.0])
    for make, who in ((lucid.from_dlpack, "from_dlpack"), (lucid.tensor, "tensor")):
        device = rf"{who}: expected memory of the CPU, got _Producer on device 1 of .* kind 2; copy"
        with pytest.raises(ValueError, match=device):
            make(_Producer(_array(), (2, 1)))
        with pytest.raises(TypeError, match=rf"{who}: NumPy has no dtype for .*bfloat16; convert"):
            make(torch.ones(2, dtype=torch.bfloat16))
        with pytest.raises(TypeError, match=f"{who}: expected .*real numbers.* complex64"):
            make(torch.ones(2, dtype=torch.complex64))


def test_arguments_of_dlpack() -> None:
    x = lucid.ones(3)
    assert x.__dlpack_device__() == (1, 0)
    with pytest.raises(RuntimeError, match="stream"):
        x.__dlpack__(stream=1)
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        assert "versioned" in repr(x.__dlpack__(max_version=(1, 0)))
        assert "versioned" not in repr(x.__dlpack__(max_version=(0, 8)))
        with pytest.raises((BufferError, ValueError), match="device"):
            x.__dlpack__(dl_device=(2, 0))
        copied = np.from_dlpack(x, copy=True)
        copied[0] = 7
        assert x.tolist() == [1, 1, 1]


def test_what_is_shared_counts_as_the_same_memory() -> None:
    weight = lucid.ones(3, requires_grad=True)
    x = lucid.ones(3)
    loss = (weight * x).sum()
    lucid.from_dlpack(x).add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
    loss = (weight * x).sum()
    lucid.from_dlpack(x, copy=True).add_(1)
    loss.backward()
    assert weight.grad.tolist() == [2, 2, 2]


def test_array_protocol() -> None:
    x = lucid.tensor([1.5, 2.5])
    assert np.asarray(x) is x.data
    assert not np.shares_memory(np.array(x), x.data)
    assert np.asarray(x, np.int64).tolist() == [1, 2]
    assert x.__array__(copy=True) is not x.data
    with pytest.raises(ValueError, match=r"a conversion from float32 to .*float64.* needs a copy"):
        x.__array__(np.float64, copy=False)
    with pytest.raises(RuntimeError, match=r"requires grad: call \.detach\(\)"):
        np.asarray(x.requires_grad_())
    assert lucid.tensor([np.float32(1), lucid.tensor(2.0)]).tolist() == [1, 2]


# -- NumPy's functions ----------------------------------------------------------------------------

POSITIVE = np.random.default_rng(0).uniform(0.2, 0.8, (2, 3))
OTHER = np.random.default_rng(1).uniform(0.2, 0.8, (2, 3))
INTEGERS = {np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert}
STEPS = {np.ceil, np.floor, np.rint, np.sign, np.floor_divide}  # with the gradient 0


def _ufunc_arguments(ufunc: np.ufunc) -> list[np.ndarray]:
    if ufunc is np.matmul:
        return [POSITIVE, OTHER.T]
    arrays = [POSITIVE + (ufunc is np.arccosh), OTHER][: ufunc.nin]
    return [(10 * a).astype(np.int64) for a in arrays] if ufunc in INTEGERS else arrays


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda ufunc: ufunc.__name__)
def test_universal_functions(ufunc: np.ufunc) -> None:
    arrays = _ufunc_arguments(ufunc)
    expected = ufunc(*arrays)
    for place in range(len(arrays)):  # the other one is an array
        mixed = [lucid.from_numpy(a) if i == place else a for i, a in enumerate(arrays)]
        result = ufunc(*mixed)
        assert type(result) is lucid.Tensor
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result.data, expected, rtol=1e-12)
        if expected.dtype.kind == "f" and ufunc not in STEPS:
            x = lucid.from_numpy(arrays[place]).requires_grad_()
            parts = [x if i == place else a for i, a in enumerate(arrays)]
            assert ufunc(*parts).requires_grad
            assert gradcheck(lambda t, p=place: ufunc(*[*arrays[:p], t, *arrays[p + 1 :]]), x)


CALLS: dict[str, Any] = {
    "all": lambda x: np.all(x > 0, axis=1),
    "allclose": lambda x: np.allclose(x, x),
    "any": lambda x: np.any(x > 0.5, 0, keepdims=True),
    "amax": lambda x: np.amax(x, axis=1),
    "amin": lambda x: np.amin(x, 0, keepdims=True),
    "argmax": lambda x: np.argmax(x, axis=1),
    "argmin": lambda x: np.argmin(x),
    "argsort": lambda x: np.argsort(x, axis=0),
    "around": lambda x: np.around(x),
    "broadcast_to": lambda x: np.broadcast_to(x, (4, 2, 3)),
    "clip": lambda x: np.clip(x, 0.3, 0.6),
    "clip_none": lambda x: np.clip(x, None, 0.6),
    "concat_none": lambda x: np.concatenate([x, OTHER], axis=None),
    "concatenate": lambda x: np.concatenate([x, OTHER, x], axis=1),
    "copy": lambda x: np.copy(x),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "cumsum_all": lambda x: np.cumsum(x),
    "dot": lambda x: np.dot(OTHER.T, x),
    "dot_number": lambda x: np.dot(x, 2.0),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, OTHER),
    "expand_dims": lambda x: np.expand_dims(x, 1),
    "flip": lambda x: np.flip(x),
    "flip_axis": lambda x: np.flip(x, axis=1),
    "full_like": lambda x: np.full_like(x, 2.0),
    "isclose": lambda x: np.isclose(x, OTHER, atol=0.2),
    "max": lambda x: np.max(x, axis=1),
    "mean": lambda x: np.mean(x, axis=(0, 1)),
    "min": lambda x: np.min(x, axis=-1),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "norm": lambda x: np.linalg.norm(x),
    "norm_axis": lambda x: np.linalg.norm(x, axis=1, keepdims=True),
    "norm_of_order": lambda x: np.linalg.norm(x, 3, 1),
    "ones_like": lambda x: np.ones_like(x),
    "outer": lambda x: np.outer(x, OTHER[0]),
    "prod": lambda x: np.prod(x, axis=1),
    "ravel": lambda x: np.ravel(x),
    "reshape": lambda x: np.reshape(x, (3, -1)),
    "roll": lambda x: np.roll(x, 1),
    "roll_axis": lambda x: np.roll(x, 1, axis=1),
    "round": lambda x: np.round(x),
    "sort": lambda x: np.sort(x),
    "squeeze": lambda x: np.squeeze(x),
    "stack": lambda x: np.stack([x, OTHER], axis=-1),
    "std": lambda x: np.std(x, axis=1),
    "std_ddof": lambda x: np.std(x, ddof=1),
    "sum": lambda x: np.sum(x, axis=0, keepdims=True),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "tile": lambda x: np.tile(x, (2, 1)),
    "transpose": lambda x: np.transpose(x),
    "transpose_axes": lambda x: np.transpose(x, (1, 0)),
    "tril": lambda x: np.tril(x),
    "triu": lambda x: np.triu(x, k=1),
    "var": lambda x: np.var(x),
    "where": lambda x: np.where(OTHER > 0.5, x, 0.0),
    "zeros_like": lambda x: np.zeros_like(x),
}


def test_every_function_is_tried() -> None:
    names = {f.__name__ for f in FUNCTIONS} - {"empty_like"}
    assert names <= {*CALLS}


@pytest.mark.parametrize("name", CALLS)
def test_functions(name: str) -> None:
    expected = CALLS[name](POSITIVE)
    result = CALLS[name](lucid.from_numpy(POSITIVE))
    if name == "allclose":
        assert result is True
        return
    assert type(result) is lucid.Tensor
    assert result.dtype == np.asarray(expected).dtype
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result.data, expected, rtol=1e-12)
    x = lucid.from_numpy(POSITIVE.copy()).requires_grad_()
    constant = {"around", "full_like", "ones_like", "round", "zeros_like"}
    if result.dtype.kind == "f" and name not in constant:
        assert CALLS[name](x).requires_grad
        assert gradcheck(CALLS[name], x)


# Tensors are sizes, bounds or numbers one by one here, of which arrays are made.
MADE_OF_NOTHING = {"arange", "empty", "eye", "fromiter", "full", "identity", "ones", "tri", "zeros"}


def test_no_function_of_numpy_loses_a_gradient() -> None:
    """Each is tried in the ways it may be called: a tensor with its gradient, or an error."""
    x = lucid.tensor(np.eye(3) + 0.1, dtype=np.float64, requires_grad=True)
    ways: list[Any] = [(x,), (x, x), ([x, x],), (x, 1), (x, x, x), ("ij->ji", x), (x, 1, 0)]
    ways += [(x[0],), (x[0], x[0]), (x[0], x[0], x[0])]
    tried = refused = 0
    for function in overrides.get_overridable_numpy_array_functions():
        if function in _WITHOUT_GRADIENT or function.__name__ in MADE_OF_NOTHING:
            continue
        for arguments in ways:
            try:
                result = function(*arguments)
            except RuntimeError as error:
                refused += "loses the gradient" in str(error)
                continue
            except Exception:  # no such way to call it
                continue
            for value in result if isinstance(result, (tuple, list)) else [result]:
                tried += 1
                made_of_it = "_like" not in function.__name__
                if getattr(getattr(value, "dtype", None), "kind", "") == "f" and made_of_it:
                    assert isinstance(value, lucid.Tensor), function
                    assert value.requires_grad or function in (np.round, np.around), function
                assert getattr(getattr(value, "dtype", None), "kind", "") != "O", function
    assert tried > 100
    assert refused > 300


def test_no_universal_function_of_numpy_loses_a_gradient() -> None:
    x = lucid.tensor([0.25, 0.5], requires_grad=True)
    tried = 0
    for ufunc in overrides.get_overridable_numpy_ufuncs():
        for others in ([np.ones(2, np.float32)] * (ufunc.nin - 1), [2] * (ufunc.nin - 1)):
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                results = ufunc(x, *others)
                for result in results if isinstance(results, tuple) else (results,):
                    tried += 1
                    kept = result.requires_grad or ufunc in STEPS
                    assert result.dtype.kind in "bi" or kept, ufunc
    assert tried > 30


@pytest.mark.parametrize(
    "ufunc", [np.float_power, np.nextafter, np.heaviside], ids=lambda u: u.__name__
)
def test_universal_functions_that_lucid_does_not_have(ufunc: np.ufunc) -> None:
    x = lucid.tensor([0.25, 0.5])
    result = ufunc(x, np.ones(2, np.float32))
    assert type(result) is lucid.Tensor
    assert result.tolist() == ufunc(x.data, np.ones(2, np.float32)).tolist()
    with pytest.raises(
        RuntimeError, match=rf"^numpy\.{ufunc.__name__} would .* loses the gradient"
    ):
        ufunc(x.requires_grad_(), 1)


def test_what_numpy_computes_of_tensors() -> None:
    x = lucid.tensor([[3.0, 1.0], [2.0, 4.0]])
    assert type(np.percentile(x, 50)) is np.float32
    assert np.linalg.inv(x).tolist() == np.linalg.inv(x.data).tolist()
    assert type(np.vstack([x, x])) is np.ndarray
    assert np.round(x / 3, 2).tolist() == np.round(x.data / 3, 2).tolist()
    assert np.sum(x, where=x.data > 1).item() == 9
    assert [part.tolist() for part in np.nonzero(x > 2)] == [[0, 1], [0, 1]]
    assert [part.tolist() for part in np.modf(x / 2)] == [[[0.5, 0.5], [0, 0]], [[1, 0], [1, 2]]]
    assert np.add.reduce(x).tolist() == [5, 5]
    assert np.multiply.outer(x[0], x[0]).tolist() == [[9, 3], [3, 1]]
    assert np.shape(x.requires_grad_()) == (2, 2)
    assert np.array_equal(x, x.detach())
    with pytest.raises(RuntimeError, match=r"^numpy\.vstack would be .* call \.detach\(\) first"):
        np.vstack([x, x])
    with pytest.raises(RuntimeError, match=r"^numpy\.linalg\.inv would be computed by NumPy"):
        np.linalg.inv(x)


@pytest.mark.parametrize("scalar", [2, 2.0, np.float32(2), np.float64(2), np.int64(2)], ids=str)
def test_operators_with_arrays_and_numbers_on_the_left(scalar: Any) -> None:
    x = lucid.tensor([1.0, 4.0], requires_grad=True)
    array = np.array([2.0, 2.0], np.float32)
    for left in (array, scalar):
        results = [(left + x, 1), (left - x, -1), (left * x, 2)]
        for result, slope in [*results, (array @ x, 2)]:
            assert type(result) is lucid.Tensor
            (gradient,) = lucid.autograd.grad(result.sum(), [x])
            assert gradient.tolist() == [slope, slope]
        assert (left / x).tolist() == [2, 0.5]
        assert (left**x).tolist() == [2, 16]
        assert (left < x).tolist() == [False, True]
        assert type(left == x) is lucid.Tensor


def test_writing_into_arrays_and_tensors() -> None:
    x = lucid.tensor([1.0, 2.0])
    array = np.ones(2, np.float32)
    array += x
    assert type(array) is np.ndarray
    assert array.tolist() == [2, 3]
    with pytest.raises(RuntimeError, match=r"^numpy\.add would be .* loses the gradient"):
        array += lucid.ones(2, requires_grad=True)
    assert np.exp(np.zeros(2, np.float32), out=x) is x
    assert x.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="read-only"):
        np.add(1, 1, out=lucid.ones(1).expand(2))


WRITING: dict[str, Any] = {
    "out": lambda x: np.exp(np.zeros(2, np.float32), out=x),
    "out_of_a_function": lambda x: np.sum(np.ones((3, 2), np.float32), axis=0, out=x),
    "at": lambda x: np.add.at(x, [0, 0], 1),
    "copyto": lambda x: np.copyto(x, 3),
    "put": lambda x: np.put(x, [0], 3),
}


@pytest.mark.parametrize("name", WRITING)
def test_a_saved_value_that_numpy_overwrites_is_noticed(name: str) -> None:
    weight = lucid.ones(2, requires_grad=True)
    x = lucid.tensor([5.0, 5.0])
    loss = (weight * x).sum()
    WRITING[name](x)
    assert x[0].item() != 5
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
    with pytest.raises(RuntimeError, match="loses the gradient"):
        WRITING[name](lucid.ones(2, requires_grad=True))


def test_a_compiled_model_may_use_functions_of_numpy() -> None:
    class Net(lucid.nn.Module):
        def forward(self, x: lucid.Tensor) -> lucid.Tensor:
            return np.concatenate([np.exp(x), np.arctan2(x, 1)], axis=1)  # type: ignore[return-value]

    x = lucid.randn(2, 3)
    compiled = lucid.compile(Net(), (2, 3))
    np.testing.assert_allclose(compiled(x).data, Net()(x).data, rtol=1e-6)
