"""Every operation's values and gradients against PyTorch, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from tests.ops.cases import CASES, Case

torch = pytest.importorskip("torch")


def _outputs(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.filterwarnings("ignore:The use of `x.T` on tensors:UserWarning")
def test_like_torch(case: Case) -> None:
    arrays = [array.astype(np.float32) for array in case.arrays(seed=1)]
    ours = [lucid.tensor(array, requires_grad=True) for array in arrays]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    got, expected = _outputs(case.fn(lucid, *ours)), _outputs(case.fn(torch, *theirs))
    assert len(got) == len(expected)
    rng = np.random.default_rng(2)
    total, total_torch = 0, 0
    for a, b in zip(got, expected):
        assert a.shape == tuple(b.shape)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-6)
        weights = rng.standard_normal(a.shape).astype(np.float32)
        total = (a * weights).sum() + total
        total_torch = (b * torch.tensor(weights)).sum() + total_torch
    total.backward()
    total_torch.backward()
    for a, b in zip(ours, theirs):
        theirs_grad = np.zeros(b.shape) if b.grad is None else b.grad.numpy()
        ours_grad = np.zeros(a.shape) if a.grad is None else a.grad.numpy()
        np.testing.assert_allclose(ours_grad, theirs_grad, rtol=1e-4, atol=1e-5)
