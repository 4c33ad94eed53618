"""Linear algebra: what it refuses, and gradients that PyTorch's samples do not reach."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid import linalg
from lucid.autograd import gradcheck

SINGULAR = lucid.tensor([[1.0, 2.0], [2.0, 4.0]])


def double(*shape: int) -> lucid.Tensor:
    values = np.random.default_rng(0).standard_normal(shape)
    return lucid.tensor(values, dtype=np.float64, requires_grad=True)


def test_errors_tell_what_was_given() -> None:
    with pytest.raises(ValueError, match=r"det: expected square matrices, got shape \(2, 3\)"):
        lucid.det(lucid.ones(2, 3))
    with pytest.raises(TypeError, match=r"expected float32 or float64, got int64; convert with"):
        linalg.qr(lucid.ones(2, 2, dtype=np.int64))
    with pytest.raises(linalg.LinAlgError, match="inv: Singular matrix; look for NaN"):
        linalg.inv(SINGULAR)
    with pytest.raises(ValueError, match=r"solve: shapes \(2, 2\) and \(3, 1\) do not fit"):
        linalg.solve(SINGULAR, lucid.ones(3, 1))
    with pytest.raises(ValueError, match="matrix_norm: expected 'fro', 'nuc', 1, 2 or infinity"):
        linalg.matrix_norm(SINGULAR, 3)
    with pytest.raises(RuntimeError, match="mode 'complete' of matrices higher than wide has no"):
        linalg.qr(double(3, 2), "complete").Q.sum().backward()


def test_the_determinant_has_a_gradient_at_a_singular_matrix() -> None:
    x = SINGULAR.double().requires_grad_()
    lucid.det(x).backward()
    assert np.allclose(x.grad.data, [[4, -2], [-2, 1]])  # the cofactors


def test_gradients_of_wide_and_high_matrices() -> None:
    for shape in ((2, 3), (3, 2)):
        x = double(*shape)
        assert gradcheck(lambda x: tuple(linalg.qr(x)), [x])
        assert gradcheck(lambda x: linalg.svd(x, full_matrices=False).S, [x])
        assert gradcheck(linalg.pinv, [x])


def test_a_compiled_plan_takes_it_as_a_step() -> None:
    class Whitening(lucid.nn.Module):
        def forward(self, x: lucid.Tensor) -> lucid.Tensor:
            return linalg.solve(x @ x.mT + lucid.eye(3), x)

    x = lucid.randn(3, 4)
    net = Whitening().eval()
    assert lucid.allclose(lucid.compile(net, (3, 4))(x), net(x), atol=1e-6)
