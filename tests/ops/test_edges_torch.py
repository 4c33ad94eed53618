"""Ties, zeros, infinities, NaN and empty tensors: values and gradients as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lucid

torch = pytest.importorskip("torch")

INF, NAN = float("inf"), float("nan")


def functional(lib: Any) -> Any:
    return lib.nn.functional


# name -> (function of the library and the input, input values)
EDGES: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "abs_at_0": (lambda lib, x: x.abs(), [-1.0, 0.0, 2.0]),
    "sign_at_0": (lambda lib, x: lib.sign(x), [-1.0, 0.0, 2.0]),
    "sqrt_at_0": (lambda lib, x: x.sqrt(), [0.0, 4.0, -1.0]),
    "log_at_0": (lambda lib, x: x.log(), [0.0, 1.0, -1.0, INF]),
    "div_by_0": (lambda lib, x: 1 / x, [0.0, 2.0, -0.0]),
    "rsqrt_at_0": (lambda lib, x: x.rsqrt(), [0.0, 4.0]),
    "reciprocal_at_0": (lambda lib, x: x.reciprocal(), [0.0, 4.0]),
    "exp_overflow": (lambda lib, x: x.exp(), [1000.0, -1000.0, NAN]),
    "sigmoid_far": (lambda lib, x: x.sigmoid(), [1000.0, -1000.0, 0.0, 20.0, -20.0]),
    "tanh_far": (lambda lib, x: x.tanh(), [1000.0, -1000.0]),
    "erf_far": (lambda lib, x: x.erf(), [INF, -INF, 5.0, 3.99, -4.01, 1e-8, 0.0, NAN]),
    "abs_at_nan": (lambda lib, x: x.abs() + 0 * lib.ones(3), [NAN, INF, -INF]),
    "sign_at_nan": (lambda lib, x: lib.sign(x) * 1, [NAN, INF, -INF]),
    "sigmoid_small": (lambda lib, x: x.sigmoid() * 1e9, [-20.0, -25.0, -30.0]),
    "relu_edges": (lambda lib, x: functional(lib).relu(x), [NAN, INF, 0.0]),
    "relu_minus_inf": (lambda lib, x: functional(lib).relu(x), [-INF, -0.0, 1.0]),
    "relu6_edges": (lambda lib, x: functional(lib).relu6(x), [NAN, 6.0, INF]),
    "hardtanh_edges": (lambda lib, x: functional(lib).hardtanh(x), [NAN, 1.0, -1.0]),
    "hardsigmoid_edges": (lambda lib, x: functional(lib).hardsigmoid(x), [NAN, 3.0, -3.0]),
    "hardsigmoid_inf": (lambda lib, x: functional(lib).hardsigmoid(x), [INF, -INF, 2.99]),
    "hardswish_edges": (lambda lib, x: functional(lib).hardswish(x), [NAN, INF, -INF]),
    "leaky_relu_edges": (lambda lib, x: functional(lib).leaky_relu(x), [NAN, INF, -INF]),
    "leaky_relu_at_0": (lambda lib, x: functional(lib).leaky_relu(x), [0.0, -0.0]),
    "prelu_edges": (
        lambda lib, x: functional(lib).prelu(x, lib.tensor([0.25])),
        [NAN, INF, -INF],
    ),
    "prelu_at_0": (lambda lib, x: functional(lib).prelu(x, lib.tensor([0.25])), [0.0, -0.0]),
    "prelu_weight": (
        lambda lib, x: functional(lib).prelu(lib.tensor([[INF, 2.0], [-3.0, NAN]]), x),
        [0.25, 0.5],
    ),
    "elu_edges": (lambda lib, x: functional(lib).elu(x), [NAN, INF, -INF]),
    "elu_at_0": (lambda lib, x: functional(lib).elu(x, 2.0), [0.0, -0.0, -1e-6]),
    "selu_edges": (lambda lib, x: functional(lib).selu(x), [NAN, INF, -INF]),
    "celu_edges": (lambda lib, x: functional(lib).celu(x, 0.5), [NAN, INF, -INF]),
    "silu_edges": (lambda lib, x: functional(lib).silu(x), [NAN, INF, -INF]),
    "softplus_edges": (lambda lib, x: functional(lib).softplus(x), [NAN, INF, -INF]),
    "logsigmoid_edges": (lambda lib, x: functional(lib).logsigmoid(x), [NAN, INF, -INF]),
    "masked_infinite_gradient": (lambda lib, x: functional(lib).relu(x).sqrt(), [-1.0, 0.0, 4.0]),
    "masked_infinite_gradient_6": (
        lambda lib, x: (6 - functional(lib).relu6(x)).log(),
        [-1.0, 7.0, 4.0],
    ),
    "pow_0_at_0": (lambda lib, x: x**0, [0.0, 2.0]),
    "pow_1_at_0": (lambda lib, x: x**1, [0.0, 2.0]),
    "pow_2_at_0": (lambda lib, x: x**2, [0.0, -2.0]),
    "pow_half_at_0": (lambda lib, x: x**0.5, [0.0, 4.0]),
    "pow_tensor_at_0": (lambda lib, x: x ** lib.tensor([0.0, 1, 2, 0.5, 3]), [0.0] * 5),
    "exponent_at_0": (lambda lib, x: lib.tensor([0.0, 0, 2, 0.5]) ** x, [0.0, 2.0, 0.0, -1.0]),
    "number_to_the_x": (lambda lib, x: 2**x, [0.0, 2.0, -1.0]),
    "clamp_at_bounds": (lambda lib, x: x.clamp(-1, 1), [-1.0, 1.0, 0.0, 2.0, NAN]),
    "clamp_crossed": (lambda lib, x: x.clamp(1, -1), [-2.0, 0.0, 2.0]),
    "clamp_crossed_bounds": (
        lambda lib, x: lib.clamp(lib.tensor([-2.0, 0, 2, 0.5]), x, x * 0.3),
        [1.0, -1.0, 1.0, 3.0],
    ),
    "clamp_bounds_meet": (lambda lib, x: lib.clamp(lib.tensor([0.0, 5.0]), x, x), [1.0, 2.0]),
    "clamp_at_inf": (lambda lib, x: x.clamp(-INF, INF), [INF, -INF, NAN]),
    "clamp_to_nan": (lambda lib, x: x.clamp(NAN, 1.0), [0.0, 1.0, INF]),
    "clamp_below_nan": (lambda lib, x: x.clamp(max=NAN), [0.0, 1.0, NAN]),
    "clamp_nan_bound": (
        lambda lib, x: lib.clamp(lib.tensor([0.0, 5.0, NAN]), x, lib.tensor([1.0, 2.0, 3.0])),
        [NAN, NAN, 1.0],
    ),
    "maximum_ties": (lambda lib, x: lib.maximum(x, lib.tensor([1.0, 2, 3])), [1.0, 5.0, 0.0]),
    "minimum_ties": (lambda lib, x: lib.minimum(x, lib.tensor([1.0, 2, NAN])), [1.0, 5.0, 0.0]),
    "maximum_nan": (lambda lib, x: lib.maximum(x, lib.tensor([1.0, 2])), [NAN, 5.0]),
    "max_ties": (lambda lib, x: x.max(), [3.0, 1.0, 3.0, 3.0]),
    "min_ties": (lambda lib, x: x.min(), [1.0, 1.0, 3.0]),
    "amax_ties": (lambda lib, x: x.amax(1), [[3.0, 3.0, 1.0], [2.0, 5.0, 5.0]]),
    "max_dim_ties": (lambda lib, x: x.max(1).values, [[3.0, 3.0, 1.0], [2.0, 5.0, 5.0]]),
    "min_dim_ties": (lambda lib, x: x.min(0).values, [[3.0, 3.0, 1.0], [3.0, 2.0, 1.0]]),
    "max_nan": (lambda lib, x: x.max(), [1.0, NAN, 3.0]),
    "max_dim_nan": (lambda lib, x: x.max(0).values, [1.0, NAN, 3.0]),
    "prod_of_one": (lambda lib, x: x.prod(), 0.0),
    "prod_of_one_along_an_axis": (lambda lib, x: x.prod(0), 0.0),
    "prod_of_one_inf": (lambda lib, x: x.prod(), INF),
    "prod_of_one_nan": (lambda lib, x: x.prod(), NAN),
    "prod_no_zero": (lambda lib, x: x.prod(), [2.0, 3.0, 4.0]),
    "prod_one_zero": (lambda lib, x: x.prod(), [2.0, 0.0, 4.0]),
    "prod_two_zeros": (lambda lib, x: x.prod(), [0.0, 0.0, 4.0]),
    "prod_dim_zeros": (
        lambda lib, x: x.prod(1),
        [[1.0, 0.0, 3.0], [0.0, 0.0, 2.0], [2.0, 3.0, 4.0]],
    ),
    "prod_keepdim_zeros": (lambda lib, x: x.prod(0, keepdim=True), [[1.0, 0.0], [0.0, 2.0]]),
    "std_constant": (lambda lib, x: x.std(), [2.0, 2.0, 2.0]),
    "std_constant_row": (lambda lib, x: x.std(1), [[2.0, 2.0], [1.0, 2.0]]),
    "norm_zero": (lambda lib, x: x.norm(), [0.0, 0.0]),
    "norm_zero_row": (lambda lib, x: x.norm(dim=1), [[0.0, 0.0], [3.0, 4.0]]),
    "norm_3_with_zero": (lambda lib, x: x.norm(3), [0.0, 2.0, -1.0]),
    "norm_half": (lambda lib, x: x.norm(1.5), [0.0, 2.0, -1.0]),
    "norm_inf_ties": (lambda lib, x: x.norm(INF), [2.0, -2.0, 1.0]),
    "norm_0": (lambda lib, x: x.norm(0) + x.sum(), [0.0, 2.0, -1.0]),
    "logsumexp_large": (lambda lib, x: x.logsumexp(0), [1000.0, 1000.0, -1000.0]),
    "logsumexp_minus_inf": (lambda lib, x: x.logsumexp(0), [-INF, 1.0]),
    "softmax_minus_inf": (lambda lib, x: x.softmax(0), [-INF, 1.0, 2.0]),
    "softmax_large": (lambda lib, x: x.softmax(0), [1000.0, 1001.0]),
    "log_softmax_large": (lambda lib, x: x.log_softmax(0), [1000.0, -1000.0]),
    "where_nan_branch": (
        lambda lib, x: lib.where(x > 0, x.log(), lib.tensor(0.0)),
        [1.0, 2.0, 3.0],
    ),
    "round_half": (lambda lib, x: x.round() * x, [0.5, 1.5, 2.5, -0.5, -1.5]),
    "remainder_signs": (lambda lib, x: x % 3, [-4.0, 4.0, -3.0, 0.0]),
    "sum_of_nothing": (lambda lib, x: x.sum(), []),
    "mean_of_nothing": (lambda lib, x: x.mean(), []),
    "prod_of_nothing": (lambda lib, x: x.prod(), []),
    "softmax_of_nothing": (lambda lib, x: x.softmax(0), []),
    "logsumexp_of_nothing": (lambda lib, x: x.logsumexp(0), []),
    "cumsum_of_nothing": (lambda lib, x: x.cumsum(0), []),
    "repeated_rows": (lambda lib, x: x[lib.tensor([0, 0, 0])], [[1.0, 2.0], [3.0, 4.0]]),
}


@pytest.mark.parametrize(("fn", "values"), EDGES.values(), ids=EDGES)
def test_like_torch(fn: Callable[[Any, Any], Any], values: Any) -> None:
    x = lucid.tensor(np.array(values, np.float32), requires_grad=True)
    y = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    ours, theirs = fn(lucid, x), fn(torch, y)
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    weights = np.arange(1, 1 + ours.numel(), dtype=np.float32).reshape(ours.shape)
    ours.backward(weights)
    theirs.backward(torch.tensor(weights))
    np.testing.assert_allclose(x.grad.data, y.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom is <= 0:UserWarning")
@pytest.mark.parametrize("values", [[], [1.0]])
@pytest.mark.parametrize("name", ["var", "std"])
def test_too_few_values_for_a_variance(name: str, values: list[float]) -> None:
    x, y = lucid.tensor(np.array(values, np.float32)), torch.tensor(values)
    assert np.isnan(getattr(x, name)().item())
    assert np.isnan(getattr(y, name)().item())


POSITIONS: dict[str, Callable[[Any], Any]] = {
    "argmax": lambda x: x.argmax(),
    "argmin_dim": lambda x: x.argmin(1),
    "argmax_keepdim": lambda x: x.argmax(0, keepdim=True),
    "max_dim": lambda x: x.max(1).indices,
    "min_dim": lambda x: x.min(1)[1],
    "sort": lambda x: x.sort(stable=True, dim=1)[1],
    "sort_down": lambda x: x.sort(stable=True, dim=1, descending=True)[1],
    "argsort": lambda x: x.argsort(0),
}


@pytest.mark.parametrize("fn", POSITIONS.values(), ids=POSITIONS)
def test_positions(fn: Callable[[Any], Any]) -> None:
    values = np.array([[1, 5, 5, 2], [3, 3, 0, 0]], np.float32)
    ours, theirs = fn(lucid.tensor(values)), fn(torch.tensor(values))
    assert ours.dtype == np.int64
    np.testing.assert_array_equal(ours.data, theirs.numpy())


# PyTorch's any() and all() of uint8 give uint8, a relic; lucid's give booleans.
DTYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize(
    "fn",
    [
        lambda lib, x: x.sum(),
        lambda lib, x: x.prod(),
        lambda lib, x: x.cumsum(0),
        lambda lib, x: x + 1,
        lambda lib, x: x * 1.5,
        lambda lib, x: x / 2,
        lambda lib, x: x == 1,
        lambda lib, x: x.exp(),
        lambda lib, x: lib.sqrt(x),
        lambda lib, x: (x != 0).any(),
        lambda lib, x: x.bool().all(),
        lambda lib, x: x.argmax() if x.dtype not in (torch.bool, np.bool_) else x.any(),
        lambda lib, x: x.float(),
        lambda lib, x: x.long(),
        lambda lib, x: x.int(),
        lambda lib, x: x.double(),
        lambda lib, x: x.half(),
        lambda lib, x: x.bool(),
        lambda lib, x: lib.zeros_like(x),
        lambda lib, x: lib.ones_like(x),
        lambda lib, x: x.softmax(0) if x.is_float else x * 2,
        lambda lib, x: x > 0.5,
        lambda lib, x: ~(x > 0),
        lambda lib, x: x.tril() if x.ndim == 2 else x.flip(0),
    ],
)
def test_dtypes(fn: Callable[[Any, Any], Any], name: str) -> None:
    values = np.array([0, 1, 2, 1]).astype(name)

    class Theirs(torch.Tensor):
        is_float = name.startswith("float")

    class Ours(lucid.Tensor):
        is_float = name.startswith("float")

    ours = fn(lucid, Ours(values, values.dtype))
    theirs = fn(torch, torch.from_numpy(values).as_subclass(Theirs))
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(ours.data, theirs.numpy(), rtol=2e-3 if ours.dtype == "f2" else 1e-6)


@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("b", DTYPES)
def test_mixed_dtypes(a: str, b: str) -> None:
    x, y = np.ones(2, a), np.ones(2, b)
    ours = lucid.from_numpy(x) + lucid.from_numpy(y)
    theirs = torch.from_numpy(x) + torch.from_numpy(y)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")


def test_integer_division() -> None:
    a, b = np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])
    x, y, u, v = lucid.tensor(a), lucid.tensor(b), torch.tensor(a), torch.tensor(b)
    for ours, theirs in [(x / y, u / v), (x // y, u // v), (x % y, u % v), (7 // y, 7 // v)]:
        assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(ours.data, theirs.numpy())


def test_gradient_of_a_tensor_exponent_and_base_together() -> None:
    base, exponent = np.array([0.5, 2.0, 3.0], np.float32), np.array([2.0, -1.0, 0.0], np.float32)
    x, n = lucid.tensor(base, requires_grad=True), lucid.tensor(exponent, requires_grad=True)
    u, m = torch.tensor(base, requires_grad=True), torch.tensor(exponent, requires_grad=True)
    (x**n).sum().backward()
    (u**m).sum().backward()
    np.testing.assert_allclose(x.grad.data, u.grad.numpy(), rtol=1e-5)
    np.testing.assert_allclose(n.grad.data, m.grad.numpy(), rtol=1e-5)
