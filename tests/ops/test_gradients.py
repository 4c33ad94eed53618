"""Every operation's first and second derivatives against finite differences, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid.autograd import gradcheck, gradgradcheck
from tests.ops.cases import CASES, Case


def _tensors(case: Case) -> list[lucid.Tensor]:
    return [lucid.tensor(array, lucid.float64, requires_grad=True) for array in case.arrays()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient(case: Case) -> None:
    assert gradcheck(lambda *x: case.fn(lucid, *x), _tensors(case))


SMALL = [case for case in CASES if sum(int(np.prod(s)) for s in case.shapes) <= 40]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_second_derivative(case: Case) -> None:
    assert gradgradcheck(lambda *x: case.fn(lucid, *x), _tensors(case), atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_read_only_and_strided_inputs(case: Case) -> None:
    """The layout of the memory makes no difference, and inputs are never written to."""
    plain, strided = [], []
    for array in case.arrays():
        plain.append(lucid.from_numpy(array).requires_grad_())
        wide = np.empty((*array.shape, 2))
        wide[..., 0] = array
        other = np.asfortranarray(wide)[..., 0]
        other.flags.writeable = False
        strided.append(lucid.from_numpy(other).requires_grad_())
    for tensors in (plain, strided):
        _total(case.fn(lucid, *tensors)).backward()
    for a, b in zip(plain, strided):
        np.testing.assert_array_equal(a.data, b.data)
        if a.grad is None:
            assert b.grad is None
        else:
            np.testing.assert_allclose(a.grad.data, b.grad.data, rtol=1e-12, atol=1e-12)


def _total(outputs: object) -> lucid.Tensor:
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum((part * part).sum() for part in parts)  # type: ignore[return-value]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_are_tensors_of_the_inputs_dtype(case: Case) -> None:
    for dtype in (lucid.float32, lucid.float64):
        outputs = case.fn(lucid, *[lucid.tensor(array, dtype) for array in case.arrays()])
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            assert type(output) is lucid.Tensor
            assert type(output.data) is np.ndarray
            assert output.dtype == dtype
