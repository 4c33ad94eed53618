"""In-place changes of results and views: gradients against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid

torch = pytest.importorskip("torch")


def _index_put(lib: Any, x: Any, y: Any) -> Any:
    z = x * 2
    z[1] = y[0] * 3
    z[:, 1] *= y[:, 0]
    return z


def _views(lib: Any, x: Any, y: Any) -> Any:
    z = x * 1
    row = z[0]
    row.mul_(y[1])
    row.add_(1)
    return z * y


def _chain_of_views(lib: Any, x: Any, y: Any) -> Any:
    z = x + y
    z.reshape(-1)[2:5].view(3, 1).mul_(4)
    z.permute(1, 0)[0].add_(y[:, 2])
    return z**2


def _split(lib: Any, x: Any, y: Any) -> Any:
    z = x * y
    z[:, :2].mul_(2)
    z[:, 2:].copy_(y[:, :2])
    return z.exp()


def _base_after_view(lib: Any, x: Any, y: Any) -> Any:
    z = x.clone()
    z.unsqueeze(0)[0, 1].sub_(y[0])
    z *= y
    z[z > 0] = 0.5
    return z


def _overwrite(lib: Any, x: Any, y: Any) -> Any:
    z = x * y
    z[0].zero_()
    z[1].fill_(2.0)
    z[2, 1:].clamp_(-0.3, 0.4)
    return z * x


def _stage_wise(lib: Any, x: Any, y: Any) -> Any:
    total = lib.zeros(3, 4)
    for i in range(3):
        total += x * (i + 1)
        total[i] = total[i] + y[i] * 3
    return total


@pytest.mark.parametrize(
    "fn", [_index_put, _views, _chain_of_views, _split, _base_after_view, _overwrite, _stage_wise]
)
def test_like_torch(fn: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 4)).astype(np.float32) for _ in range(2)]
    ours = [lucid.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    a, b = fn(lucid, *ours), fn(torch, *theirs)
    np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-5, atol=1e-6)
    weights = rng.standard_normal((3, 4)).astype(np.float32)
    (a * weights).sum().backward()
    (b * torch.tensor(weights)).sum().backward()
    for t, u in zip(ours, theirs):
        expected = np.zeros(u.shape) if u.grad is None else u.grad.numpy()
        got = np.zeros(t.shape) if t.grad is None else t.grad.data
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
