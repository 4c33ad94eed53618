"""Wrong arguments: who, what was expected, what was given."""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lucid
from lucid.nn import functional as F  # noqa: N812
from lucid.nn import init

ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # arithmetic
    (
        lambda: lucid.ones(2, 3) + lucid.ones(4),
        ValueError,
        r"add: shapes \(2, 3\) and \(4,\) do not",
    ),
    (lambda: lucid.ones(2) / "x", TypeError, "unsupported operand"),
    (lambda: lucid.mul(lucid.ones(2), "x"), TypeError, "mul: expected real numbers.*got str"),
    (lambda: lucid.ones(2) - None, TypeError, "unsupported operand"),
    (lambda: lucid.add(lucid.ones(2), [1, "a"]), TypeError, "add: expected real numbers"),
    (lambda: lucid.tensor([True]) - lucid.tensor([True]), TypeError, "sub: booleans"),
    (lambda: -lucid.tensor([True]), TypeError, "neg: a boolean tensor"),
    (lambda: lucid.tensor([1]) // 0, ZeroDivisionError, "floor_divide: an integer is divided"),
    (lambda: lucid.tensor([1]) % lucid.tensor([0]), ZeroDivisionError, "remainder"),
    (lambda: lucid.tensor([2]) ** -1, ValueError, "pow: integers to negative"),
    (lambda: lucid.tensor([2], lucid.uint8) + 300, ValueError, "add: 300 is out of the range"),
    (lambda: lucid.tensor([1]).fmod(0), ZeroDivisionError, "fmod: an integer is divided by zero"),
    (lambda: lucid.div(1.0, 2.0, rounding_mode="up"), ValueError, "div: rounding_mode must be one"),
    (
        lambda: lucid.add(lucid.tensor([1]), 2, alpha=0.5),
        TypeError,
        "add: alpha must be of the kind",
    ),
    (lambda: lucid.ones(2) << 1, TypeError, "bitwise_left_shift: expected integers"),
    (lambda: lucid.gcd(lucid.tensor([True]), True), TypeError, "gcd: expected integers, got bool"),
    (
        lambda: lucid.heaviside(lucid.ones(2), lucid.tensor([1])),
        TypeError,
        "heaviside: expected two tensors of one dtype, got float32 and int64",
    ),
    *(
        (lambda n=n: lucid.polygamma(n, lucid.ones(2)), error, "polygamma: the order must")
        for n, error in [
            (-1, ValueError),
            (2**63, ValueError),
            (10**400, ValueError),
            (1.5, TypeError),
        ]
    ),
    (lambda: lucid.tensor([1]).sqrt_(), TypeError, "the result has dtype float32, which cannot"),
    (lambda: lucid.ones(2).atan2_(lucid.ones(3, 2)), ValueError, r"the result has shape \(3, 2\)"),
    (lambda: ~lucid.ones(2), TypeError, "bitwise_not: expected integers or booleans, got float32"),
    (lambda: lucid.ones(2) & lucid.ones(2), TypeError, "bitwise_and: expected integers"),
    (lambda: lucid.ones(2).clamp(), ValueError, "clamp: expected min, max or both"),
    (
        lambda: lucid.where(lucid.ones(2), 1.0, 2.0),
        TypeError,
        "where: the condition must be boolean",
    ),
    (lambda: lucid.where(lucid.ones(2) > 0, 1.0), ValueError, "both choices or neither"),
    (
        lambda: lucid.where(lucid.ones(2) > 0, lucid.ones(3), 1.0),
        ValueError,
        r"where: the condition's shape \(2,\) does not broadcast",
    ),
    (lambda: lucid.isclose(1.0, lucid.ones(2), rtol=-1e-5), ValueError, "isclose: rtol and atol"),
    (lambda: lucid.allclose(1.0, lucid.ones(2), atol=-1), ValueError, "must not be negative"),
    (lambda: lucid.ones(2).astype("text"), TypeError, "astype: expected a dtype"),
    # settings of a wrong kind
    (lambda: F.elu(lucid.ones(2), None), TypeError, "elu: alpha must be a number, got None"),
    (lambda: F.celu(lucid.ones(2), "x"), TypeError, "celu: alpha must be a number, got 'x'"),
    (lambda: F.leaky_relu(lucid.ones(2), []), TypeError, "leaky_relu: negative_slope must be a"),
    (lambda: F.hardtanh(lucid.ones(2), None), TypeError, "hardtanh: min_val must be a number"),
    (lambda: F.softplus(lucid.ones(2), "x"), TypeError, "softplus: beta must be a number"),
    (lambda: F.dropout(lucid.ones(2), "x"), TypeError, "dropout: p must be a number, got 'x'"),
    (
        lambda: F.huber_loss(lucid.ones(2), lucid.ones(2), delta=None),
        TypeError,
        "huber_loss: delta must be a number, got None",
    ),
    (lambda: F.linear(lucid.ones(2), None), TypeError, "linear: expected real numbers"),
    (lambda: F.max_pool2d(lucid.ones(1, 1, 4, 4), 2, 10**30), ValueError, "stride is larger than"),
    (lambda: lucid.linspace("0", 1, 3), TypeError, "linspace: start must be a number"),
    (lambda: lucid.zeros(10**30), ValueError, "zeros: 1000000000.* is no size"),
    (lambda: lucid.zeros(lucid.tensor([1, 2])), TypeError, "zeros: expected integers or one tuple"),
    (lambda: lucid.ones(2).to(complex), TypeError, "to: dtype must be a float, integer"),
    (lambda: lucid.ones(2).astype(None), TypeError, "astype"),
    # shape
    (lambda: lucid.ones(2, 3).reshape(4, 2), ValueError, r"reshape: 6 elements of shape \(2, 3\)"),
    (lambda: lucid.ones(2, 3).reshape(-1, 4), ValueError, r"into shape \(-1, 4\)"),
    (lambda: lucid.ones(2, 3).reshape(-1, -1), ValueError, "reshape"),
    (lambda: lucid.ones(0, 3).reshape(-1, 0), ValueError, "reshape"),
    (lambda: lucid.ones(6).reshape(2.0, 3), TypeError, "reshape: expected integers.*got 2.0"),
    (lambda: lucid.ones(6).reshape(-2, 3), ValueError, "at least -1"),
    (lambda: lucid.ones(2, 3).permute(0), ValueError, "permute: expected 2 axes"),
    (lambda: lucid.ones(2, 3).permute(0, 0), ValueError, "named twice"),
    (
        lambda: lucid.ones(2, 3).transpose(0, 2),
        IndexError,
        "transpose: axis 2 is out of range for 2",
    ),
    (lambda: lucid.ones(2, 3).squeeze(5), IndexError, "squeeze: axis 5"),
    (lambda: lucid.ones(2, 3).unsqueeze(4), IndexError, "unsqueeze: axis 4"),
    (lambda: lucid.ones(2).sum(1.5), TypeError, "sum: an axis must be an integer, got 1.5"),
    (lambda: lucid.ones(2, 3, 4).t(), ValueError, "t: expected at most 2 axes"),
    (lambda: lucid.ones(2).mT, ValueError, "mT: expected at least 2 axes"),
    (lambda: lucid.ones(2, 3).expand(4, 3), ValueError, r"expand: shape \(2, 3\) does not expand"),
    (lambda: lucid.ones(2, 3).expand(3), ValueError, "expand"),
    (lambda: lucid.ones(3).expand(-1, 3), ValueError, "expand"),
    (lambda: lucid.ones(3).repeat(), ValueError, "repeat: expected at least 1 sizes"),
    (lambda: lucid.ones(3).movedim((0,), (0, 1)), (ValueError, IndexError), "movedim"),
    (lambda: lucid.ones(2, 3).flatten(1, 0), ValueError, "flatten: start_dim 1 lies behind"),
    (lambda: lucid.ones(2, 3).unflatten(1, (2, 2)), ValueError, "unflatten: axis 1 has 3 elements"),
    (lambda: lucid.ones(2, 3).roll((1, 2), 0), ValueError, "roll: expected one shift an axis"),
    (lambda: lucid.ones(2, 3).roll((1, 2)), ValueError, "roll: expected one shift without dims"),
    (lambda: lucid.cat([]), ValueError, "cat: expected at least one tensor"),
    (lambda: lucid.cat(lucid.ones(2)), TypeError, "cat: expected a list or tuple of tensors"),
    (
        lambda: lucid.cat([lucid.ones(2, 3), lucid.ones(2, 4)]),
        ValueError,
        r"cat: shapes must agree except along axis 0; tensor 0 has shape \(2, 3\), tensor 1 has",
    ),
    (lambda: lucid.stack([lucid.ones(2), lucid.ones(3)]), ValueError, "stack: shapes must agree"),
    (lambda: lucid.ones(5).split([2, 2]), ValueError, "add up to 4, but axis 0.* has 5"),
    (lambda: lucid.ones(5).split(0), ValueError, "split: expected a positive size, got 0"),
    (lambda: lucid.ones(5).chunk(0), ValueError, "chunk: expected a positive number"),
    (lambda: lucid.pad(lucid.ones(2), (1,)), ValueError, "pad: expected up to 1 pairs"),
    (lambda: lucid.pad(lucid.ones(2), (1, 1, 1, 1)), ValueError, "pad: expected up to 1 pairs"),
    (lambda: lucid.pad(lucid.ones(2), (1, 1), "mirror"), ValueError, "got 'mirror'"),
    (lambda: lucid.pad(lucid.ones(2), (2, 0), "reflect"), ValueError, "cannot add 2 and 0"),
    (lambda: lucid.pad(lucid.ones(2), (3, 0), "circular"), ValueError, "cannot add 3"),
    (lambda: lucid.pad(lucid.ones(0), (1, 0), "replicate"), ValueError, "cannot add 1"),
    (lambda: lucid.pad(lucid.ones(2), (-3, 0)), ValueError, "cut off more"),
    (lambda: lucid.pad(lucid.ones(2), (1, 0), "reflect", 1.0), ValueError, "takes no value"),
    # indexing
    (
        lambda: lucid.ones(2, 3)[2],
        IndexError,
        r"indexing a tensor of shape \(2, 3\): index 2 is out",
    ),
    (lambda: lucid.ones(2, 3)[0, 0, 0], IndexError, "too many indices"),
    (lambda: lucid.ones(2)[1.0], IndexError, "an index must be an integer, a slice.*got float"),
    (lambda: lucid.ones(2)["a"], IndexError, "got str"),
    (
        lambda: lucid.ones(2)[lucid.ones(2)],
        IndexError,
        "integers or booleans, got an array of float32",
    ),
    (
        lambda: lucid.ones(2)[np.array([True, False, True])],
        IndexError,
        "boolean index did not match",
    ),
    (lambda: lucid.ones(2)[[0, 5]], IndexError, "index 5 is out of bounds"),
    (
        lambda: lucid.ones(2, 3).__setitem__(0, lucid.ones(2)),
        ValueError,
        r"setitem: a value of shape \(2,\) does not fit into x\[index\] of shape \(3,\)",
    ),
    (
        lambda: lucid.tensor([1], lucid.uint8).__setitem__(0, 300),
        ValueError,
        "setitem: 300 is out of the range of uint8",
    ),
    (
        lambda: lucid.ones(2).gather(0, lucid.tensor([2])),
        IndexError,
        "gather: index 2 is out of range",
    ),
    (
        lambda: lucid.ones(2).gather(0, lucid.ones(1)),
        TypeError,
        "gather: the index must be made of",
    ),
    (lambda: lucid.ones(2, 2).gather(0, [0]), ValueError, "gather: an index of shape"),
    (lambda: lucid.ones(2).index_select(0, [[0]]), ValueError, "expected an index with 1 axis"),
    (lambda: lucid.ones(2).index_select(0, [7]), IndexError, "index 7"),
    (lambda: lucid.ones(2, 2).take_along_dim([0], 0), ValueError, "expected indices with 2 axes"),
    (
        lambda: lucid.ones(4).scatter(0, [0, 1], lucid.ones(1)),
        ValueError,
        "does not cover an index",
    ),
    (
        lambda: lucid.ones(4).scatter(0, [0], lucid.ones(1, dtype=lucid.float64)),
        TypeError,
        "scatter: src must have the tensor's dtype float32, got float64",
    ),
    (lambda: lucid.ones(4).tril(), ValueError, "tril: expected at least 2 axes"),
    (lambda: lucid.ones(2).take([2]), IndexError, "take: index 2 is out of range for an axis of"),
    (lambda: lucid.ones(2).masked_select([1, 0]), TypeError, "the mask must be boolean, got int64"),
    (lambda: lucid.ones(2, 3).narrow(1, 2, 2), IndexError, "narrow: 2 slices from 2 on are not"),
    (lambda: lucid.ones(2).repeat_interleave([1, 2, 3]), ValueError, "one for each of 2 slices"),
    (lambda: lucid.ones(2).scatter(0, [0]), TypeError, "scatter: expected either src or value"),
    (
        lambda: lucid.ones(2).scatter(0, [0], 2.0, reduce="max"),
        ValueError,
        r"scatter: reduce must be one of \('add', 'multiply'\), got 'max'",
    ),
    (
        lambda: lucid.ones(2, 3).index_add(1, [0, 2], lucid.ones(2, 3)),
        ValueError,
        r"index_add: expected a source of shape \(2, 2\).* got \(2, 3\)",
    ),
    (
        lambda: lucid.ones(2, 3).index_put(([0],), lucid.ones(2)),
        ValueError,
        r"index_put: values of shape \(2,\) do not fit into shape \(1, 3\)",
    ),
    (
        lambda: lucid.ones(2).masked_scatter([True, True], lucid.ones(1)),
        ValueError,
        "masked_scatter: expected 2 values as source, got 1",
    ),
    # searching and counting
    (lambda: lucid.ones(3).kthvalue(4), ValueError, "kthvalue: k must be from 1 to 3, got 4"),
    (lambda: lucid.ones(2, 0).mode(), IndexError, "mode: no elements to choose from along axis 1"),
    (lambda: lucid.ones(0).median(), ValueError, "median: no elements to choose from"),
    (lambda: lucid.ones(3).quantile(1.5), ValueError, "quantile: q must be a number from 0 to 1"),
    (lambda: lucid.tensor([1]).quantile(0.5), TypeError, "quantile: expected float32 or float64"),
    (
        lambda: lucid.searchsorted(lucid.ones(2, 3), lucid.ones(3, 2)),
        ValueError,
        r"searchsorted: values of shape \(3, 2\) do not fit rows of \(2, 3\)",
    ),
    (lambda: lucid.bucketize(1.0, lucid.ones(2, 2)), ValueError, "boundaries must be a vector"),
    (lambda: lucid.ones(2, 0).unique(dim=0), ValueError, r"unique: slices of shape \(0,\) along"),
    (lambda: lucid.bincount([-1]), ValueError, "bincount: expected a vector without negative"),
    (lambda: lucid.ones(3).histc(4, 2, 1), ValueError, "histc: expected a finite range in order"),
    # reductions
    (lambda: lucid.ones(2).sum(1), IndexError, "sum: axis 1 is out of range for 1 axes"),
    (lambda: lucid.ones(2, 2).sum((0, 0)), ValueError, "sum: an axis is named twice"),
    (lambda: lucid.ones(0).max(), ValueError, "max: no elements to choose from"),
    (lambda: lucid.ones(2, 0).amin(1), ValueError, "amin: no elements"),
    (lambda: lucid.ones(2, 0).max(1), ValueError, "max: no elements"),
    (lambda: lucid.ones(2, 0).argmax(1), ValueError, "argmax: no elements"),
    (
        lambda: lucid.ones(3).topk(4),
        ValueError,
        r"topk: k must be from 0 to 3 for shape \(3,\), got 4",
    ),
    (lambda: lucid.ones(3).norm("nuc"), ValueError, "norm: expected a number or 'fro'"),
    (lambda: lucid.ones(3).softmax(1), IndexError, "softmax.*axis 1"),
    # matrices
    (
        lambda: lucid.ones(2, 3) @ lucid.ones(2, 3),
        ValueError,
        r"matmul: shapes \(2, 3\) and \(2, 3\) do not fit: axis -1 of the first has 3 elements, "
        "axis -2 of the second has 2",
    ),
    (lambda: lucid.ones(3) @ lucid.ones(2), ValueError, "axis 0 of the second has 2"),
    (
        lambda: lucid.ones(3) @ 2.0,
        ValueError,
        "matmul: expected at least 1 axis.*use \\* for numbers",
    ),
    (lambda: lucid.ones(2, 1, 2) @ lucid.ones(3, 2, 1), ValueError, "in front.*do not broadcast"),
    (lambda: lucid.mm(lucid.ones(3), lucid.ones(3, 2)), ValueError, "mm: expected two matrices"),
    (
        lambda: lucid.bmm(lucid.ones(1, 2, 3), lucid.ones(2, 3, 2)),
        ValueError,
        "bmm: expected two equal",
    ),
    (lambda: lucid.dot(lucid.ones(3), lucid.ones(1, 3)), ValueError, "dot: expected two vectors"),
    (
        lambda: lucid.outer(lucid.ones(3), lucid.ones(1, 3)),
        ValueError,
        "outer: expected two vectors",
    ),
    (lambda: lucid.einsum("ij,jk->ik", lucid.ones(2, 3)), ValueError, "names 2 operands, got 1"),
    (
        lambda: lucid.einsum("ij->i", lucid.ones(2)),
        ValueError,
        "names 2 axes, but operand 0 has shape",
    ),
    (lambda: lucid.einsum("i->i", lucid.ones(2, 2)), ValueError, "names 1 axes"),
    (lambda: lucid.einsum("i->j", lucid.ones(2)), ValueError, "axis 'j' of the result"),
    (lambda: lucid.einsum("i->ii", lucid.ones(2)), ValueError, "must stand there once"),
    (
        lambda: lucid.einsum("i,i", lucid.ones(2), lucid.ones(3)),
        ValueError,
        "axis 'i'.*size 2.*but 3",
    ),
    (lambda: lucid.einsum("i?->i", lucid.ones(2)), ValueError, "einsum: expected letters"),
    (lambda: lucid.einsum(lucid.ones(2), "i"), TypeError, "einsum: expected an equation first"),
    (lambda: lucid.einsum("i"), ValueError, "expected operands"),
    # creation
    (lambda: lucid.tensor("abc"), TypeError, "tensor: expected real numbers"),
    (lambda: lucid.tensor([[1, 2], [3]]), TypeError, "rectangular shape"),
    (lambda: lucid.tensor([1 + 2j]), TypeError, "complex"),
    (lambda: lucid.tensor([1], "complex64"), TypeError, "dtype must be"),
    (lambda: lucid.zeros(2, -1), ValueError, "zeros: expected sizes of at least 0"),
    (lambda: lucid.zeros("a"), TypeError, "zeros: expected integers"),
    (lambda: lucid.ones(2, dtype="nonsense"), TypeError, "ones: expected a dtype"),
    (lambda: lucid.rand(2, dtype=lucid.int64), TypeError, "rand: expected a floating-point dtype"),
    (lambda: lucid.randint(5, 5, (2,)), ValueError, "randint: expected low < high, got 5 and 5"),
    (lambda: lucid.randint(0, 5), TypeError, "randint: expected a size"),
    (lambda: lucid.arange(0, 5, 0), ValueError, "arange: a step of 0"),
    (lambda: lucid.arange(5, 0), ValueError, "does not lead from 5 to 0"),
    (lambda: lucid.arange("a"), TypeError, "arange: expected numbers"),
    (lambda: lucid.full((2,), lucid.ones(2)), ValueError, "full: expected one number"),
    (
        lambda: lucid.from_numpy([1.0]),
        TypeError,
        "from_numpy: expected an array of real numbers, got list",
    ),
    (lambda: lucid.zeros(2, dtype=lucid.int64, requires_grad=True), TypeError, "floating-point"),
    # the tensor itself
    (lambda: lucid.ones(2).item(), ValueError, r"item\(\): expected a tensor of one element"),
    (lambda: bool(lucid.ones(2)), ValueError, "truth of a tensor"),
    (lambda: len(lucid.ones(())), TypeError, "zero axes"),
    (lambda: list(lucid.ones(())), TypeError, "zero axes"),
    (lambda: [1, 2][lucid.ones(())], TypeError, "only an integer tensor"),
    (lambda: lucid.ones(2).size(1), IndexError, "size: axis 1"),
]


@pytest.mark.parametrize("number", range(len(ERRORS)), ids=lambda n: f"{n}-{ERRORS[n][2][:30]}")
def test_error(number: int) -> None:
    call, error, message = ERRORS[number]
    with pytest.raises(error, match=message):
        call()


# Arguments that only Python or NumPy object to.
RAW: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: lucid.ones(2).expand_as(0.5), TypeError, r"expand_as: .*\(2,\), dtype=float32\), 0.5"),
    (lambda: lucid.ones(2).type_as(0.5), TypeError, "type_as: .*got type_as"),
    (lambda: lucid.broadcast_to(lucid.ones(2), 2), TypeError, "broadcast_to: .*got broadcast_to"),
    (lambda: lucid.amin(lucid.ones(2, 2), 0, keepdim=2**63), ValueError, "amin: .*keepdim=922"),
    (lambda: lucid.ones(2).half(1), TypeError, r"half\(\) takes 1"),  # type: ignore[call-arg]
    (lambda: F.pad(lucid.ones(2), 0.5), TypeError, "pad: .*got pad"),  # type: ignore[arg-type]
    (lambda: F.group_norm(lucid.ones(2, 4), "x"), TypeError, "group_norm: .*got group_norm"),
    (lambda: F.cosine_similarity([1.0], [1.0], dim="x"), TypeError, "cosine_similarity: .*axis"),
    (lambda: init.xavier_normal_(1), TypeError, r"xavier_normal_: .*got xavier_normal_\(1\)"),
]


@pytest.mark.parametrize("number", range(len(RAW)), ids=lambda n: f"{n}-{RAW[n][2][:20]}")
def test_errors_of_python_and_numpy_are_named(number: int) -> None:
    call, error, message = RAW[number]
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_what_a_callers_own_function_raises_remains() -> None:
    class Own:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        lucid.add(lucid.ones(2), Own())


def test_a_lack_of_memory_remains() -> None:
    with pytest.raises(MemoryError):
        lucid.ones(2**50)


def test_a_warning_remains() -> None:
    class Loud:
        def __index__(self) -> int:
            warnings.warn("loud", UserWarning, stacklevel=1)
            return 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            lucid.ones(Loud())  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [F.relu, F.mse_loss, F.normalize, lucid.sum, init.ones_])
def test_public_functions_are_what_they_were(function: Any) -> None:
    assert pickle.loads(pickle.dumps(function)) is function
    assert "args" not in inspect.signature(function).parameters
    assert function.__doc__
    assert F.relu is lucid.relu is lucid.Tensor.relu


def test_dropout_without_axes() -> None:
    x = lucid.tensor(2.0, requires_grad=True)
    F.dropout(x, 0.5).backward()
    assert x.grad is not None
    assert x.grad.item() in (0, 2)
