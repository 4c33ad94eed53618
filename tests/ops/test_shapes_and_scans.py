"""Joining, splitting, diagonals and scans: errors, and what PyTorch's samples do not try."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.autograd import gradcheck, gradgradcheck

ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: lucid.hstack([]), ValueError, "hstack: expected at least one tensor"),
    (
        lambda: lucid.vstack([lucid.ones(2), lucid.ones(3)]),
        ValueError,
        r"vstack: .*shapes must agree except along axis 0; .*\(1, 2\), tensor 1 has \(1, 3\)",
    ),
    (
        lambda: lucid.block_diag(lucid.ones(2), lucid.ones(1, 1, 1)),
        ValueError,
        r"block_diag: expected at most 2 axes, got shape \(1, 1, 1\) of tensor 1",
    ),
    (
        lambda: lucid.meshgrid(lucid.ones(2), lucid.ones(2, 2)),
        ValueError,
        r"meshgrid: expected at most 1 axes, got shape \(2, 2\)",
    ),
    (lambda: lucid.meshgrid(lucid.ones(2), indexing="yx"), ValueError, "indexing must be one of"),
    (
        lambda: lucid.meshgrid(lucid.ones(2), lucid.arange(2)),
        TypeError,
        "meshgrid: expected tensors of one dtype",
    ),
    (lambda: lucid.tensor_split(lucid.ones(3), 0), ValueError, "number of sections must be at"),
    (lambda: lucid.hsplit(lucid.ones(3, 4), 3), ValueError, "hsplit: axis 1 .*into 3 equal parts"),
    (lambda: lucid.vsplit(lucid.ones(4), 2), ValueError, r"vsplit: expected at least 2 axes"),
    (lambda: lucid.broadcast_shapes((2, 3), 2), ValueError, r"shapes \[\(2, 3\), \(2,\)\] do not"),
    (lambda: lucid.rot90(lucid.ones(2, 2), dims=(0,)), ValueError, "rot90: expected two axes"),
    (lambda: lucid.rot90(lucid.ones(2, 2), 0.5), TypeError, "rot90: k must be an integer, got 0.5"),
    (lambda: lucid.ones(3).unfold(0, 4, 1), ValueError, "unfold: windows of 4 are longer"),
    (lambda: lucid.ones(3).unfold(0, 2, 0), ValueError, "unfold: step must be at least 1, got 0"),
    (lambda: lucid.ones(3).as_strided((2,), (1, 1)), ValueError, "expected a stride an axis"),
    (lambda: lucid.ones(3).as_strided((2, 2), (2, 1)), ValueError, "reach element 3 of 3"),
    (lambda: lucid.ones(2).sum_to_size(3), ValueError, r"\(3,\) does not broadcast to \(2,\)"),
    (lambda: lucid.ones(2, 2, 2).H, ValueError, r"H: expected a matrix, got shape \(2, 2, 2\)"),
    (lambda: lucid.ones(2).mH, ValueError, "adjoint: expected at least 2 axes"),
    (
        lambda: lucid.diagonal(lucid.ones(2, 2), 0, 1, -1),
        ValueError,
        "diagonal: an axis is named twice",
    ),
    (lambda: lucid.diag(lucid.ones(1, 1, 1)), ValueError, "diag: expected at most 2 axes"),
    (lambda: lucid.fliplr([1.0, 2.0]), ValueError, r"fliplr: .*at least 2 axes, got shape \(2,\)"),
    (
        lambda: lucid.trace(lucid.ones(3)),
        ValueError,
        r"trace: expected at least 2 axes, got shape \(3,\)",
    ),
    (lambda: lucid.cumprod(lucid.ones(3), 1), IndexError, "cumprod: axis 1 is out of range"),
    (lambda: lucid.diff(lucid.ones(3), -1), ValueError, "diff: n must be at least 0, got -1"),
    (lambda: lucid.nanmean(lucid.arange(3)), TypeError, "nanmean: expected a floating-point dtype"),
    (lambda: lucid.cov(lucid.ones(2, 2, 2)), ValueError, "cov: expected at most 2 axes"),
    (
        lambda: lucid.cov(lucid.ones(2, 3), fweights=lucid.arange(2)),
        ValueError,
        r"cov: fweights must be 3 integers of at least 0.*got shape \(2,\) of int64",
    ),
    (lambda: lucid.cov([[1.0, 2.0]], fweights=[0, 0]), ValueError, "cov: the weights add up to 0"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[e[2] for e in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_a_change_of_the_diagonal_changes_the_matrix() -> None:
    x = lucid.zeros(2, 3)
    x.diagonal(1).fill_(7.0)
    assert x.tolist() == [[0, 7, 0], [0, 0, 7]]


def test_gradients_see_a_change_of_the_diagonal() -> None:
    w = lucid.ones(2, 2, requires_grad=True)
    x = w * 2
    x.diagonal().mul_(3)
    x.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[6, 2], [2, 6]]


@pytest.mark.parametrize("zeros", [[], [1], [0, 3]])
def test_derivatives_of_running_products_with_zeros(zeros: list[int]) -> None:
    array = np.array([1.5, -0.5, 2.0, 0.7, -1.2])
    array[zeros] = 0
    x = lucid.tensor(array, lucid.float64, requires_grad=True)
    assert gradcheck(lambda x: lucid.cumprod(x, 0), [x])
    assert gradgradcheck(lambda x: lucid.cumprod(x, 0), [x], atol=1e-4)


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[lucid.Tensor], lucid.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return self.function(x)


def mixed(x: lucid.Tensor) -> lucid.Tensor:
    """Operations that a compiled plan does not know."""
    y = lucid.hstack([lucid.cumprod(x, 1), lucid.diag_embed(x).diagonal(0, 1, 2).fliplr()])
    return y.diff(dim=1).cummax(1).values


def test_a_compiled_model_computes_the_same() -> None:
    model = Of(mixed).eval()
    plan = lucid.compile(model, (2, 5))
    x = lucid.tensor(np.random.default_rng(0).normal(size=(2, 5)))
    np.testing.assert_allclose(plan(x).data, model(x).data, rtol=1e-6)


def test_an_export_names_what_has_no_operator(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = Of(lambda x: lucid.cumprod(x, 1)).eval()
    with pytest.raises(ValueError, match="Cumprod is no operation that the exporter knows"):
        lucid.onnx.export(model, tmp_path / "model.onnx", (2, 5))
